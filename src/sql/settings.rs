//! What a session may be told of verification: `SET lakeseal.verify = 'heal'`, `SET lakeseal.read = 'sealed'`, and `SHOW` of both.

use std::any::Any;
use std::fmt;
use std::str::FromStr;

use datafusion::common::config_err;
use datafusion::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::error::Result as DataFusionResult;

use super::external;
use crate::error::{Error, ErrorKind, Result};

/// What is done where a table is not what was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerifyMode {
    /// The query fails, naming file, row group and column.
    #[default]
    Enforce,
    /// The sealed bytes are served instead, by their exact digests, from retained versions; where there are none the query fails.
    Heal,
    /// Row groups that differ are skipped, and reported. An attacker chooses which rows vanish: never for gates.
    Quarantine,
    /// Bytes that differ are delivered, and reported with row group and column, for which the file is read whole once. A file of another size than
    /// the sealed one, as one that was encoded anew, is refused.
    Warn,
    /// Nothing is verified.
    Off,
}

impl VerifyMode {
    /// All modes.
    pub const ALL: [Self; 5] = [Self::Enforce, Self::Heal, Self::Quarantine, Self::Warn, Self::Off];

    /// The name in settings and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Heal => "heal",
            Self::Quarantine => "quarantine",
            Self::Warn => "warn",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for VerifyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for VerifyMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|mode| mode.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "not a mode of verification: it is enforce, heal, quarantine, warn or off")
                .with("mode", text)
        })
    }
}

/// Which version of a sealed table is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadMode {
    /// The newest: commits, or files of a folder, that came after the baseline are read unverified, and noted. Statistics of their files steer
    /// no plan: the files' own footers do. Where a commit says that it only rewrote sealed files, these are read as long as they are there.
    #[default]
    Latest,
    /// Exactly what the baseline sealed.
    Sealed,
}

impl ReadMode {
    /// The name in settings and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::Sealed => "sealed",
        }
    }
}

impl fmt::Display for ReadMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ReadMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Latest, Self::Sealed]
            .into_iter()
            .find(|mode| mode.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| Error::new(ErrorKind::InvalidInput, "not a version to read: it is latest or sealed").with("read", text))
    }
}

/// The settings of a session, as a DataFusion configuration extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// `lakeseal.verify`.
    pub verify: VerifyMode,
    /// `lakeseal.read`.
    pub read: ReadMode,
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "verify = {}, read = {}", self.verify, self.read)
    }
}

impl Settings {
    /// The settings of a configuration, when it has any.
    pub(super) fn of(options: &ConfigOptions) -> Option<Self> {
        options.extensions.get::<Self>().copied()
    }
}

impl ConfigExtension for Settings {
    const PREFIX: &'static str = "lakeseal";
}

impl ExtensionOptions for Settings {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(*self)
    }

    fn set(&mut self, key: &str, value: &str) -> DataFusionResult<()> {
        match key {
            "verify" => self.verify = value.parse().map_err(external)?,
            "read" => self.read = value.parse().map_err(external)?,
            _ => return config_err!("there is no setting lakeseal.{key}: there are lakeseal.verify and lakeseal.read"),
        }
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let entry = |key: &str, value: &str, description| ConfigEntry {
            key: format!("{}.{key}", Self::PREFIX),
            value: Some(value.to_owned()),
            description,
        };
        vec![
            entry(
                "verify",
                self.verify.name(),
                "What is done where a table is not what was sealed: enforce (fail), heal (serve the sealed bytes), quarantine (skip row groups), warn, off",
            ),
            entry("read", self.read.name(), "Which version of a sealed table is read: latest, or exactly the sealed one"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_set_by_name_and_refuse_what_they_do_not_know() {
        let mut options = ConfigOptions::new();
        options.extensions.insert(Settings::default());
        options.set("lakeseal.verify", "HEAL").unwrap();
        options.set("lakeseal.read", "sealed").unwrap();
        assert_eq!(Settings::of(&options), Some(Settings { verify: VerifyMode::Heal, read: ReadMode::Sealed }));
        for (key, value, words) in [
            ("lakeseal.verify", "hael", "quarantine"),
            ("lakeseal.read", "newest", "latest or sealed"),
            ("lakeseal.heal", "on", "lakeseal.verify"),
        ] {
            let error = options.set(key, value).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let shown: Vec<_> = options.entries().into_iter().filter(|e| e.key.starts_with("lakeseal.")).map(|e| (e.key, e.value)).collect();
        assert!(shown.contains(&("lakeseal.verify".to_owned(), Some("heal".to_owned()))), "{shown:?}");
    }

    #[test]
    fn every_mode_has_a_name_of_its_own() {
        for mode in VerifyMode::ALL {
            assert_eq!(mode.name().parse::<VerifyMode>().unwrap(), mode);
        }
    }
}
