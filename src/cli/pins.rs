//! Pins: the newest baseline of each table that a user has seen, in a file of the user's own.
//!
//! ```text
//! { "format": 1, "pins": { "<the table's URL>": { "baseline": 7, "digest": "<BLAKE3 of its statement>" } } }
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::baseline::BaselineSummary;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::lake::write_whole;

const FORMAT: u64 = 1;
/// Room for several thousand tables.
const FILE_LIMIT_BYTES: u64 = 1024 * 1024;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u64,
    pins: BTreeMap<String, Pin>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pin {
    baseline: u64,
    digest: String,
}

/// A file of pins.
#[derive(Debug)]
pub(super) struct Pins {
    file: PathBuf,
    pins: BTreeMap<String, (u64, Digest)>,
}

/// What [`Pins::raise`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Raised {
    /// The table had no pin yet.
    First,
    /// The table's pin was of an older baseline.
    From(u64),
    /// The pin is of this baseline already.
    Not,
    /// The pin is of this later baseline, and stays.
    Above(u64),
}

impl Pins {
    /// Reads `file`; one that does not exist has no pins.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it cannot be read; [`ErrorKind::Config`] when it is no file of pins, or of an unknown format.
    pub(super) fn read(file: &Path) -> Result<Self> {
        let mut text = String::new();
        match fs::File::open(file) {
            Ok(open) => {
                open.take(FILE_LIMIT_BYTES + 1).read_to_string(&mut text).map_err(failed("could not read a file of pins", file))?;
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self { file: file.to_owned(), pins: BTreeMap::new() }),
            Err(e) => return Err(failed("could not read a file of pins", file)(e)),
        }
        let unusable = |why: String| {
            let message = "not a file of pins; give the file that an earlier audit or seal wrote, or a name that does not exist yet";
            Error::new(ErrorKind::Config, message).with("file", file.display()).with("reason", why)
        };
        if text.len() as u64 > FILE_LIMIT_BYTES {
            return Err(unusable(format!("it is larger than {FILE_LIMIT_BYTES} bytes")));
        }
        let document: Document = serde_json::from_str(&text).map_err(|e| unusable(e.to_string()))?;
        if document.format != FORMAT {
            return Err(unusable(format!("its format is {}, and this version knows {FORMAT}", document.format)));
        }
        let pin = |(table, pin): (String, Pin)| {
            let digest = pin.digest.parse().map_err(|_| unusable(format!("the digest of {table} is not 64 hexadecimal digits")))?;
            Ok((table, (pin.baseline, digest)))
        };
        Ok(Self { file: file.to_owned(), pins: document.pins.into_iter().map(pin).collect::<Result<_>>()? })
    }

    /// The pin of the table at `url`.
    pub(super) fn get(&self, url: &str) -> Option<(u64, Digest)> {
        self.pins.get(url).copied()
    }

    /// Pins `baseline` for the table at `url`, unless the pin is as new already; the file is replaced as a whole.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the file cannot be written; it is then as it was.
    pub(super) fn raise(&mut self, url: &str, baseline: &BaselineSummary) -> Result<Raised> {
        let before = self.get(url);
        match before {
            Some((number, _)) if number > baseline.number => return Ok(Raised::Above(number)),
            Some((number, _)) if number == baseline.number => return Ok(Raised::Not),
            _ => {}
        }
        self.pins.insert(url.to_owned(), (baseline.number, baseline.digest));
        self.write()?;
        Ok(before.map_or(Raised::First, |(number, _)| Raised::From(number)))
    }

    fn write(&self) -> Result<()> {
        let pin = |(table, (baseline, digest)): (&String, &(u64, Digest))| {
            (table.clone(), Pin { baseline: *baseline, digest: digest.to_string() })
        };
        let document = Document { format: FORMAT, pins: self.pins.iter().map(pin).collect() };
        let text = serde_json::to_string_pretty(&document)
            .map_err(|e| Error::new(ErrorKind::Internal, "pins cannot be written as JSON").caused_by(e))?;
        write_whole(&self.file, format!("{text}\n").as_bytes(), true).map_err(failed("could not write a file of pins", &self.file))
    }
}

fn failed(message: &'static str, file: &Path) -> impl Fn(std::io::Error) -> Error {
    let file = file.display().to_string();
    move |e| Error::new(ErrorKind::Io, message).with("file", &file).caused_by(e)
}
