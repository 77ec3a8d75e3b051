//! Where pins come from and go: a file of the user's own, or an object that is only read.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt as _;
use object_store::ObjectStoreExt as _;

use super::urls;
use crate::baseline::{BaselineSummary, LogPin, PINS_LIMIT_BYTES, PinNames, Pins, Raised};
use crate::error::{Error, ErrorKind, Result};
use crate::lake::write_whole;

const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Pins, and where they were read from.
#[derive(Debug)]
pub(super) struct PinFile {
    /// What is pinned.
    pub(super) pins: Pins,
    /// The file that takes what was seen; absent for pins that are only read.
    file: Option<PathBuf>,
    /// Whether the file could not be written when something was pinned.
    unwritten: bool,
}

impl PinFile {
    /// Reads a file, or with `scheme://…` an object over HTTP(S) or of any store. A file that does not exist has no pins yet; an object
    /// must be there, since whoever can take it away must not thereby make the pins vanish.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it is no file of pins, or of an unknown format; those of reading it.
    pub(super) async fn read(from: &str) -> Result<Self> {
        if !from.contains("://") {
            return Self::from_file(Path::new(from));
        }
        let text = if from.starts_with("http://") || from.starts_with("https://") { fetch(from).await? } else { get(from).await? };
        Ok(Self::only_read(Pins::parse(&text).map_err(|e| e.with("url", urls::without_secrets(from)))?))
    }

    /// As [`Self::read`], where it was asked for.
    pub(super) async fn read_if_any(from: Option<&str>) -> Result<Option<Self>> {
        match from {
            Some(from) => Self::read(from).await.map(Some),
            None => Ok(None),
        }
    }

    /// Pins that no file takes: what was seen is known until the process ends.
    pub(super) fn only_read(pins: Pins) -> Self {
        Self { pins, file: None, unwritten: false }
    }

    /// Reads the file again, for whoever goes on for long: others pin in it as well, and by hand a table is taken out of it. Without a file, or
    /// when it is gone, what is known stays.
    ///
    /// # Errors
    /// Those of [`Self::read`]; what is known stays.
    pub(super) fn read_again(&mut self) -> Result<()> {
        let Some(file) = self.file.as_deref().filter(|file| file.exists()) else { return Ok(()) };
        let mut read = Self::from_file(file)?;
        if self.unwritten {
            read.pins.merge(&self.pins);
            read.unwritten = true;
        }
        *self = read;
        Ok(())
    }

    fn from_file(file: &Path) -> Result<Self> {
        let failed = failed("could not read a file of pins", file);
        let mut text = Vec::new();
        match fs::File::open(file) {
            Ok(open) => {
                open.take(PINS_LIMIT_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { pins: Pins::default(), file: Some(file.to_owned()), unwritten: false });
            }
            Err(e) => return Err(failed(e)),
        }
        let pins = Pins::parse(&text).map_err(|e| e.with("file", file.display()))?;
        Ok(Self { pins, file: Some(file.to_owned()), unwritten: false })
    }

    /// Whether what is seen is kept.
    pub(super) fn is_kept(&self) -> bool {
        self.file.is_some()
    }

    /// Pins a baseline and the state of its log, unless they are pinned already; the file is replaced as a whole.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the file cannot be written; it is then as it was.
    pub(super) fn raise(&mut self, names: &PinNames, baseline: &BaselineSummary, log: Option<&LogPin>) -> Result<Raised> {
        let raised = self.pins.raise(names, baseline);
        let log = log.is_some_and(|log| self.pins.raise_log(names, log));
        self.write(log || matches!(raised, Raised::First | Raised::From(_)))?;
        Ok(raised)
    }

    /// Pins the state of a log.
    ///
    /// # Errors
    /// As [`Self::raise`].
    pub(super) fn raise_log(&mut self, names: &PinNames, log: &LogPin) -> Result<bool> {
        let news = self.pins.raise_log(names, log);
        self.write(news)?;
        Ok(news)
    }

    /// Writes what is news, or could not be written before.
    fn write(&mut self, news: bool) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        self.unwritten |= news;
        if self.unwritten {
            write_whole(file, self.pins.to_text()?.as_bytes(), true).map_err(failed("could not write a file of pins", file))?;
            self.unwritten = false;
        }
        Ok(())
    }
}

fn failed(message: &'static str, file: &Path) -> impl Fn(std::io::Error) -> Error {
    let file = file.display().to_string();
    move |e| Error::new(ErrorKind::Io, message).with("file", &file).caused_by(e)
}

fn too_large(url: &str) -> Error {
    Error::new(ErrorKind::Config, format!("not a file of pins: it is larger than {PINS_LIMIT_BYTES} bytes"))
        .with("url", urls::without_secrets(url))
}

async fn fetch(url: &str) -> Result<Vec<u8>> {
    let shown = urls::without_secrets(url);
    let failed =
        |e: reqwest::Error| Error::new(ErrorKind::Unavailable, "could not fetch pins").with("url", &shown).caused_by(e.without_url());
    let client = reqwest::Client::builder().timeout(FETCH_TIMEOUT).build().map_err(failed)?;
    let response = client.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
    let mut chunks = response.bytes_stream();
    let mut text = Vec::new();
    while let Some(chunk) = chunks.next().await {
        text.extend_from_slice(&chunk.map_err(failed)?);
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > PINS_LIMIT_BYTES {
            return Err(too_large(url));
        }
    }
    Ok(text)
}

async fn get(url: &str) -> Result<Vec<u8>> {
    let shown = urls::without_secrets(url);
    let no_object = || Error::new(ErrorKind::InvalidInput, "pins have the URL of an object").with("url", &shown);
    let (folder, name) = url.rsplit_once('/').filter(|(folder, name)| !name.is_empty() && folder.contains("://")).ok_or_else(no_object)?;
    let store = crate::region::open(folder, &crate::region::OpenOptions::default())?;
    let path = object_store::path::Path::parse(name).map_err(|e| no_object().caused_by(e))?;
    let got = store.get(&path).await.map_err(|e| Error::from(e).with("url", &shown))?;
    if got.meta.size > PINS_LIMIT_BYTES {
        return Err(too_large(url));
    }
    Ok(got.bytes().await.map_err(|e| Error::from(e).with("url", &shown))?.to_vec())
}
