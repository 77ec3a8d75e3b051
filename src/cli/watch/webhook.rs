//! Telling somebody else: one POST with a JSON body.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;
use url::Url;

use super::told::{Untold, without_report};
use crate::cli::urls;
use crate::error::{Error, ErrorKind, Result};

/// How long, and how often, an answer is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Until the head of the answer is there, connecting included.
    pub(super) timeout: Duration,
    pub(super) attempts: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), attempts: 3 }
    }
}

/// Where to tell.
#[derive(Debug)]
pub(super) struct Webhook {
    client: reqwest::Client,
    url: Url,
    attempts: u32,
}

/// Why a report was not taken.
#[derive(Debug)]
pub(super) enum NotTaken {
    /// The other side will not have this one.
    Refused(Error),
    /// It could not be reached, failed, or has no time: it will not take another one either.
    Failed(Error),
}

impl NotTaken {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Refused(error) | Self::Failed(error) => error,
        }
    }
}

/// How one body was answered.
enum Answer {
    Taken,
    /// It is too long.
    TooLong(String),
    /// The other side will not have it.
    Refused(String),
    /// The other side could not be reached, failed, or has no time.
    Failed(String),
}

impl Answer {
    fn of(status: StatusCode) -> Self {
        match status {
            status if status.is_success() => Self::Taken,
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLong(format!("it was refused with status {status}")),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                Self::Failed(format!("the other side answered with status {status}"))
            }
            status if status.is_client_error() => Self::Refused(format!("it was refused with status {status}")),
            status => Self::Failed(format!("the other side answered with status {status}")),
        }
    }
}

impl Webhook {
    /// # Errors
    /// [`ErrorKind::Config`] when `url` is no http or https URL. What may be a secret in it is not part of the error.
    pub(super) fn new(url: &str) -> Result<Self> {
        Self::patient(url, Patience::default())
    }

    pub(super) fn patient(url: &str, patience: Patience) -> Result<Self> {
        let wrong = || Error::new(ErrorKind::Config, "a webhook is an http or https URL").with("webhook", urls::host_only(url));
        let url = Url::parse(url).map_err(|e| wrong().caused_by(e))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong());
        }
        let client = reqwest::Client::builder().timeout(patience.timeout).redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|e| Error::new(ErrorKind::Internal, "no HTTP client could be made").caused_by(e))?;
        Ok(Self { client, url, attempts: patience.attempts })
    }

    /// Sends what is to be told. What is too long, or was refused in an earlier round already, is sent once more without its report: that
    /// something is wrong must be heard, whatever its names look like to whoever stands before the other side.
    ///
    /// # Errors
    /// Why it was not taken: [`ErrorKind::Unavailable`]. The URL, which may hold a secret, is not part of it.
    pub(super) async fn post(&self, untold: &mut Untold) -> Result<(), NotTaken> {
        let before = std::mem::take(&mut untold.refused);
        let answer = match self.send(&untold.body).await {
            Answer::TooLong(_) => self.send(&without_report(&untold.body)).await,
            Answer::Refused(_) if before => self.send(&without_report(&untold.body)).await,
            answer => answer,
        };
        let error = |why: String| Error::new(ErrorKind::Unavailable, why).with("host", self.url.host_str().unwrap_or_default());
        match answer {
            Answer::Taken => Ok(()),
            Answer::TooLong(why) | Answer::Refused(why) => {
                untold.refused = true;
                Err(NotTaken::Refused(error(why)))
            }
            Answer::Failed(why) => {
                untold.refused = before;
                Err(NotTaken::Failed(error(why)))
            }
        }
    }

    /// Sends a body, again when the other side could not be reached or failed.
    async fn send(&self, body: &Value) -> Answer {
        let mut last = String::new();
        for attempt in 0..self.attempts {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_secs(1 << attempt)).await;
            }
            let sent = self.client.post(self.url.clone()).header("content-type", "application/json").body(body.to_string()).send().await;
            match sent.map(|answer| Answer::of(answer.status())) {
                Ok(Answer::Failed(why)) => last = why,
                Ok(answer) => return answer,
                Err(error) => last = error.without_url().to_string(),
            }
        }
        Answer::Failed(last)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers as many requests as there are statuses, and gives back their bodies.
    async fn server(statuses: &'static [&'static str]) -> (Webhook, tokio::task::JoinHandle<Vec<Value>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let webhook = Webhook::new(&format!("http://{}/hook", listener.local_addr().unwrap())).unwrap();
        let bodies = tokio::spawn(async move {
            let mut bodies = Vec::new();
            for status in statuses {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut text = String::new();
                let body = loop {
                    let mut buffer = [0; 4096];
                    let read = stream.read(&mut buffer).await.unwrap();
                    text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                    if body.len() >= length.unwrap_or(0) {
                        break serde_json::from_str(body).unwrap();
                    }
                };
                bodies.push(body);
                stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
            }
            bodies
        });
        (webhook, bodies)
    }

    fn untold() -> Untold {
        Untold { body: json!({"outcome": "mismatch", "report": {"findings": ["x"]}}), refused: false }
    }

    #[tokio::test]
    async fn what_is_too_long_is_told_without_its_report_at_once() {
        let (webhook, bodies) = server(&["413 Payload Too Large", "204 No Content"]).await;
        let mut untold = untold();
        webhook.post(&mut untold).await.unwrap();
        assert_eq!(bodies.await.unwrap(), [untold.body.clone(), json!({"outcome": "mismatch"})]);
    }

    #[tokio::test]
    async fn what_is_refused_is_told_again_as_it_is_and_then_without_its_report() {
        let (webhook, bodies) = server(&["403 Forbidden", "403 Forbidden", "204 No Content"]).await;
        let mut untold = untold();
        let error = webhook.post(&mut untold).await.unwrap_err().into_error();
        assert!(error.to_string().contains("403") && !error.to_string().contains("hook"), "{error}");
        webhook.post(&mut untold).await.unwrap();
        assert_eq!(bodies.await.unwrap(), [untold.body.clone(), untold.body.clone(), json!({"outcome": "mismatch"})]);
    }

    #[test]
    fn a_url_that_is_none_keeps_its_secret() {
        for url in
            ["htps://host.example/SECRET", "https://user:SECRET@host.example:x/", "host.example/SECRET", "ftp://host.example/?t=SECRET"]
        {
            let error = Webhook::new(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains("host.example") && !error.to_string().contains("SECRET"), "{error}");
        }
    }
}
