//! Whose signatures count, and how many.
//!
//! Either a flat set of public keys, any one of which may seal ([`Trust::new`]), or a signed trust root that names keys, roles, thresholds,
//! terms and revocations ([`Trust::from_root`]).

mod root;
mod signed;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

pub use root::{LastGood, Revocation, RoleKeys, TRUST_ROOT_LIMIT_BYTES, TrustRoot};
pub(super) use signed::ENVELOPE_LIMIT_BYTES;
pub use signed::{SignedRoot, TRUST_ROOT_TYPE};

use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyId, Role, VerifyingKey};

/// How the trusted keys came to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustLevel {
    /// The user made the keys and trusts them alone.
    SelfMade,
    /// The keys were given, from a file or by a program.
    Given,
    /// A trust root names them.
    Root,
}

impl TrustLevel {
    /// The name that JSON and messages use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SelfMade => "self",
            Self::Given => "given",
            Self::Root => "root",
        }
    }
}

/// The public keys whose signatures count: distinct keys, compared by their bytes, each in its roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    level: TrustLevel,
    keys: Keys,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Keys {
    Flat(Vec<VerifyingKey>),
    Root(Arc<SignedRoot>),
}

impl Trust {
    /// Trusts each of `keys` alone; one given twice counts once.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when there are none: an audit that trusts nobody can say nothing.
    pub fn new<K: Into<VerifyingKey>>(keys: impl IntoIterator<Item = K>, level: TrustLevel) -> Result<Self> {
        let mut distinct: Vec<VerifyingKey> = Vec::new();
        for key in keys {
            let key = key.into();
            if !distinct.contains(&key) {
                distinct.push(key);
            }
        }
        if distinct.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "no trusted key; make one with `lakeseal keys new`, or name a file of public keys or a trust root with --trust",
            ));
        }
        Ok(Self { level, keys: Keys::Flat(distinct) })
    }

    /// Trusts whom `root` names, each in the role and under the threshold that it says.
    pub fn from_root(root: SignedRoot) -> Self {
        Self { level: TrustLevel::Root, keys: Keys::Root(Arc::new(root)) }
    }

    /// Trusts a trust root, if that is what the one file of `files` is, else every public key in `files` (PEM).
    ///
    /// # Errors
    /// Those of reading the files; [`ErrorKind::Config`] when a trust root is not the only file.
    pub fn from_files(files: &[PathBuf], level: TrustLevel) -> Result<Self> {
        if let [file] = files
            && let Some(root) = SignedRoot::from_file_if_any(file)?
        {
            return Ok(Self::from_root(root));
        }
        let mut keys = Vec::new();
        for file in files {
            if SignedRoot::from_file_if_any(file)?.is_some() {
                let what = "a trust root says alone who is trusted: name it without other files, or name public keys only";
                return Err(Error::new(ErrorKind::Config, what).with("file", file.display()));
            }
            keys.extend(keys_of(file)?);
        }
        Self::new(keys, level)
    }

    /// The keys of `role`. Those of a flat set seal and say what is newest; it lists neither writers nor roots.
    pub fn keys(&self, role: Role) -> &[VerifyingKey] {
        match (&self.keys, role) {
            (Keys::Flat(keys), Role::Sealer | Role::Timestamp) => keys,
            (Keys::Flat(_), _) => &[],
            (Keys::Root(signed), role) => signed.root().keys(role),
        }
    }

    /// How many distinct keys of `role` must have signed: at least 1.
    pub fn threshold(&self, role: Role) -> usize {
        match &self.keys {
            Keys::Flat(_) => 1,
            Keys::Root(signed) => signed.root().threshold(role),
        }
    }

    /// How they came to be trusted.
    pub fn level(&self) -> TrustLevel {
        self.level
    }

    /// The trust root, unless trust is a flat set of keys.
    pub fn root(&self) -> Option<&SignedRoot> {
        match &self.keys {
            Keys::Flat(_) => None,
            Keys::Root(signed) => Some(signed),
        }
    }

    /// The keys that were revoked, each with what it may still be believed for.
    pub fn revoked(&self) -> &[Revocation] {
        self.root().map_or(&[], |signed| &signed.root().revoked)
    }

    /// Adds `key` to a flat set, unless it is there. A trust root stays as it was signed.
    #[must_use]
    pub fn and(mut self, key: impl Into<VerifyingKey>) -> Self {
        let key = key.into();
        if let Keys::Flat(keys) = &mut self.keys
            && !keys.contains(&key)
        {
            keys.push(key);
        }
        self
    }

    /// The key of this identity, if `role` has it.
    pub fn key(&self, role: Role, id: &KeyId) -> Option<&VerifyingKey> {
        self.keys(role).iter().find(|key| key.id() == *id)
    }
}

fn keys_of(file: &Path) -> Result<Vec<VerifyingKey>> {
    VerifyingKey::all_from_file(file)
}

#[cfg(test)]
mod tests;
