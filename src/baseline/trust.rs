//! Whose signatures count.

use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyId, PublicKey};

/// How the trusted keys came to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustLevel {
    /// The user made the keys and trusts them alone.
    SelfMade,
    /// The keys were given, from a file or by a program.
    Given,
}

impl TrustLevel {
    /// The name that JSON and messages use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SelfMade => "self",
            Self::Given => "given",
        }
    }
}

/// The public keys whose baselines count: distinct keys, compared by their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    keys: Vec<PublicKey>,
    level: TrustLevel,
}

impl Trust {
    /// Trusts `keys`; one given twice counts once.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when there are none: an audit that trusts nobody can say nothing.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>, level: TrustLevel) -> Result<Self> {
        let mut distinct: Vec<PublicKey> = Vec::new();
        for key in keys {
            if !distinct.contains(&key) {
                distinct.push(key);
            }
        }
        if distinct.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "no trusted key; make one with `lakeseal keys new`, or name a file of public keys with --trust",
            ));
        }
        Ok(Self { keys: distinct, level })
    }

    /// Trusts every public key in `files` (PEM).
    pub fn from_files(files: &[PathBuf], level: TrustLevel) -> Result<Self> {
        let mut keys = Vec::new();
        for file in files {
            keys.extend(PublicKey::all_from_file(file)?);
        }
        Self::new(keys, level)
    }

    /// The keys.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// How they came to be trusted.
    pub fn level(&self) -> TrustLevel {
        self.level
    }

    /// Adds `key`, unless it is there.
    #[must_use]
    pub fn and(mut self, key: PublicKey) -> Self {
        if !self.keys.contains(&key) {
            self.keys.push(key);
        }
        self
    }

    /// The trusted key of this identity.
    pub fn key(&self, id: &KeyId) -> Option<&PublicKey> {
        self.keys.iter().find(|key| key.id() == *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PrivateKey;

    #[test]
    fn a_key_given_twice_counts_once_and_none_is_refused() {
        let key = PrivateKey::from_seed(&[1; 32]).public();
        assert_eq!(Trust::new([key, key], TrustLevel::Given).unwrap().keys().len(), 1);
        assert_eq!(Trust::new([], TrustLevel::Given).unwrap_err().kind(), ErrorKind::Config);
    }
}
