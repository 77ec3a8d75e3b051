//! Pins: what a user has seen of tables and logs, so that nobody can show less later.
//!
//! ```text
//! {
//!   "format": 2,
//!   "pins": { "<table>": { "baseline": 7, "digest": "<BLAKE3 of its statement>" } },
//!   "logs": { "<log>": { "origin": "lakeseal.log/…", "size": 12, "root": "<hexadecimal>" } }
//! }
//! ```
//!
//! A table of a lake, and the lake's log, are named by the lake's identity: two lakes may have one name. Everything else is named by URL.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::log::LogPin;
use super::statement::BaselineSummary;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::id::LakeId;

const FORMAT: u64 = 2;
/// The first format had tables by URL and no logs.
const FORMAT_WITHOUT_LOGS: u64 = 1;
/// A file of pins is never larger, in bytes: room for several thousand tables.
pub const PINS_LIMIT_BYTES: u64 = 1024 * 1024;

/// Baselines and logs that are known from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pins {
    tables: BTreeMap<String, (u64, Digest)>,
    logs: BTreeMap<String, LogPin>,
}

/// The names that a table, and the log that it is in, have among pins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinNames {
    /// The table's.
    pub table: String,
    /// Its log's.
    pub log: String,
    /// The name that the table had in the first format.
    former: String,
}

impl PinNames {
    /// Of the table at `url`, which is the path `path` of the lake, if it is in one whose identity is known.
    pub fn new(url: &str, lake: Option<(LakeId, &str)>) -> Self {
        let (table, log) = match lake {
            Some((lake, path)) => (format!("lake:{lake}/{path}"), format!("lake:{lake}")),
            None => (url.to_owned(), url.to_owned()),
        };
        Self { table, log, former: url.to_owned() }
    }
}

/// What raising a table's pin did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raised {
    /// The table had no pin yet.
    First,
    /// The table's pin was of an older baseline.
    From(u64),
    /// The pin is of this baseline already.
    Not,
    /// The pin is of this later baseline, and stays.
    Above(u64),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u64,
    pins: BTreeMap<String, TablePin>,
    #[serde(default)]
    logs: BTreeMap<String, StoredLogPin>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TablePin {
    baseline: u64,
    digest: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredLogPin {
    origin: String,
    size: u64,
    root: String,
}

impl Pins {
    /// Reads a document.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when it is no file of pins, or of an unknown format.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let unusable = |why: String| {
            let message = "not a file of pins; give the file that an earlier audit or seal wrote, or a name that does not exist yet";
            Error::new(ErrorKind::Config, message).with("reason", why)
        };
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > PINS_LIMIT_BYTES {
            return Err(unusable(format!("it is larger than {PINS_LIMIT_BYTES} bytes")));
        }
        let document: Document = serde_json::from_slice(text).map_err(|e| unusable(e.to_string()))?;
        if document.format != FORMAT && (document.format != FORMAT_WITHOUT_LOGS || !document.logs.is_empty()) {
            return Err(unusable(format!("its format is {}, and this version knows {FORMAT_WITHOUT_LOGS} and {FORMAT}", document.format)));
        }
        let digest =
            |text: &str, of: &str| text.parse::<Digest>().map_err(|_| unusable(format!("the digest of {of} is not 64 hexadecimal digits")));
        let tables = document.pins.into_iter().map(|(table, pin)| {
            let digest = digest(&pin.digest, &table)?;
            Ok((table, (pin.baseline, digest)))
        });
        let logs = document.logs.into_iter().map(|(log, pin)| {
            let root = digest(&pin.root, &log)?.0;
            Ok((log, LogPin { origin: pin.origin, size: pin.size, root }))
        });
        Ok(Self { tables: tables.collect::<Result<_>>()?, logs: logs.collect::<Result<_>>()? })
    }

    /// The document.
    ///
    /// # Errors
    /// None that occur.
    pub fn to_text(&self) -> Result<String> {
        let table = |(table, (baseline, digest)): (&String, &(u64, Digest))| {
            (table.clone(), TablePin { baseline: *baseline, digest: digest.to_string() })
        };
        let log = |(log, pin): (&String, &LogPin)| {
            (log.clone(), StoredLogPin { origin: pin.origin.clone(), size: pin.size, root: hex::encode(pin.root) })
        };
        let document =
            Document { format: FORMAT, pins: self.tables.iter().map(table).collect(), logs: self.logs.iter().map(log).collect() };
        let text = serde_json::to_string_pretty(&document)
            .map_err(|e| Error::new(ErrorKind::Internal, "pins cannot be written as JSON").caused_by(e))?;
        Ok(text + "\n")
    }

    /// The pin of a table.
    pub fn table(&self, names: &PinNames) -> Option<(u64, Digest)> {
        self.tables.get(&names.table).or_else(|| self.tables.get(&names.former)).copied()
    }

    /// The pin of the log that a table is in.
    pub fn log(&self, names: &PinNames) -> Option<&LogPin> {
        self.logs.get(&names.log)
    }

    /// Pins `baseline` for a table, unless the pin is as new already.
    pub fn raise(&mut self, names: &PinNames, baseline: &BaselineSummary) -> Raised {
        let before = self.table(names);
        match before {
            Some((number, _)) if number > baseline.number => return Raised::Above(number),
            Some((number, _)) if number == baseline.number => return Raised::Not,
            _ => {}
        }
        self.tables.remove(&names.former);
        self.tables.insert(names.table.clone(), (baseline.number, baseline.digest));
        before.map_or(Raised::First, |(number, _)| Raised::From(number))
    }

    /// Takes over what `other` pins of a later baseline, or of a longer log.
    pub fn merge(&mut self, other: &Self) {
        for (table, pin) in &other.tables {
            if self.tables.get(table).is_none_or(|own| own.0 < pin.0) {
                self.tables.insert(table.clone(), *pin);
            }
        }
        for (log, pin) in &other.logs {
            if self.logs.get(log).is_none_or(|own| own.origin == pin.origin && own.size < pin.size) {
                self.logs.insert(log.clone(), pin.clone());
            }
        }
    }

    /// Pins the state of a log that was seen to extend the one that is pinned. Says whether that is news.
    pub fn raise_log(&mut self, names: &PinNames, log: &LogPin) -> bool {
        let news = self.log(names).is_none_or(|pinned| pinned.origin == log.origin && pinned.size < log.size);
        if news {
            self.logs.insert(names.log.clone(), log.clone());
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(number: u64) -> BaselineSummary {
        super::super::statement::tests::sample(number).summary(Digest([1; 32]), crate::baseline::Standing::default())
    }

    fn log(size: u64) -> LogPin {
        LogPin { origin: "lakeseal.log/x".into(), size, root: [2; 32] }
    }

    #[test]
    fn pins_read_back_and_only_rise() {
        let names = PinNames::new("memory:///t", None);
        let mut pins = Pins::default();
        assert_eq!(pins.raise(&names, &baseline(2)), Raised::First);
        assert!(pins.raise_log(&names, &log(5)));
        assert_eq!(pins.raise(&names, &baseline(2)), Raised::Not);
        assert_eq!(pins.raise(&names, &baseline(1)), Raised::Above(2));
        assert_eq!(pins.raise(&names, &baseline(4)), Raised::From(2));
        assert!(!pins.raise_log(&names, &log(4)) && !pins.raise_log(&names, &log(5)));
        assert!(!pins.raise_log(&names, &LogPin { origin: "lakeseal.log/y".into(), ..log(9) }), "another log never takes its place");
        assert!(pins.raise_log(&names, &log(6)));
        assert_eq!(Pins::parse(pins.to_text().unwrap().as_bytes()).unwrap(), pins);
    }

    #[test]
    fn of_two_pins_the_later_one_counts() {
        let (a, b) = (PinNames::new("memory:///a", None), PinNames::new("memory:///b", None));
        let (mut one, mut other) = (Pins::default(), Pins::default());
        one.raise(&a, &baseline(5));
        one.raise_log(&a, &log(5));
        other.raise(&a, &baseline(4));
        other.raise(&b, &baseline(7));
        other.raise_log(&a, &log(9));
        other.raise_log(&b, &log(1));
        one.merge(&other);
        assert_eq!((one.table(&a).unwrap().0, one.table(&b).unwrap().0), (5, 7));
        assert_eq!((one.log(&a).unwrap().size, one.log(&b).unwrap().size), (9, 1));
    }

    #[test]
    fn lakes_of_one_name_have_pins_of_their_own() {
        let of = |id: u8| PinNames::new("lakeseal://lake/t", Some((LakeId([id; 16]), "t")));
        let mut pins = Pins::default();
        pins.raise(&of(1), &baseline(7));
        assert_eq!(pins.table(&of(2)), None);
        assert_eq!(pins.table(&of(1)).unwrap().0, 7);
    }

    #[test]
    fn a_pin_of_the_first_format_counts_until_it_is_raised() {
        let text =
            format!("{{\"format\": 1, \"pins\": {{\"lakeseal://lake/t\": {{\"baseline\": 3, \"digest\": \"{}\"}}}}}}", Digest([1; 32]));
        let mut pins = Pins::parse(text.as_bytes()).unwrap();
        let names = PinNames::new("lakeseal://lake/t", Some((LakeId([1; 16]), "t")));
        assert_eq!(pins.table(&names).unwrap().0, 3);
        assert_eq!(pins.raise(&names, &baseline(4)), Raised::From(3));
        let written = pins.to_text().unwrap();
        assert!(written.contains("\"lake:01") && !written.contains("lakeseal://lake/t"), "{written}");
    }

    #[test]
    fn what_is_no_file_of_pins_is_refused() {
        for text in [
            "",
            "[]",
            "{\"format\":3,\"pins\":{}}",
            "{\"format\":2}",
            "{\"format\":1,\"pins\":{},\"logs\":{\"x\":{\"origin\":\"\",\"size\":1,\"root\":\"\"}}}",
        ] {
            assert_eq!(Pins::parse(text.as_bytes()).unwrap_err().kind(), ErrorKind::Config, "{text}");
        }
        assert!(Pins::parse(&vec![b' '; usize::try_from(PINS_LIMIT_BYTES).unwrap() + 1]).unwrap_err().to_string().contains("larger"));
    }
}
