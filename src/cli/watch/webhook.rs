//! Telling somebody else: one POST with a JSON body.

use std::time::Duration;

use serde_json::Value;
use url::Url;

use crate::error::{Error, ErrorKind, Result};

const TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 3;

/// Where to tell.
#[derive(Debug)]
pub(super) struct Webhook {
    client: reqwest::Client,
    url: Url,
}

impl Webhook {
    /// # Errors
    /// [`ErrorKind::Config`] when `url` is no http or https URL.
    pub(super) fn new(url: &str) -> Result<Self> {
        let wrong = || Error::new(ErrorKind::Config, "a webhook is an http or https URL").with("webhook", url);
        let url = Url::parse(url).map_err(|e| wrong().caused_by(e))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong());
        }
        let client = reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|e| Error::new(ErrorKind::Internal, "no HTTP client could be made").caused_by(e))?;
        Ok(Self { client, url })
    }

    /// Sends `body`, again when the other side could not be reached or failed.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when it was not taken. The URL, which may hold a secret, is not part of it.
    pub(super) async fn post(&self, body: &Value) -> Result<()> {
        let mut last = String::new();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_secs(1 << attempt)).await;
            }
            let sent = self.client.post(self.url.clone()).header("content-type", "application/json").body(body.to_string()).send().await;
            match sent {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) if answer.status().is_client_error() => {
                    last = format!("it was refused with status {}", answer.status());
                    break;
                }
                Ok(answer) => last = format!("the other side answered with status {}", answer.status()),
                Err(error) => last = error.without_url().to_string(),
            }
        }
        Err(Error::new(ErrorKind::Unavailable, last).with("host", self.url.host_str().unwrap_or_default()))
    }
}
