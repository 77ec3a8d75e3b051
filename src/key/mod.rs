//! Keys: files, identities, strict verification. Private keys are held nowhere else, and never enter a lake.
//!
//! The store's own formats know Ed25519 only ([`PublicKey`], [`PrivateKey`]). What people and other programs verify (baselines, trust roots,
//! attestations, checkpoints) may be signed under any [`Scheme`]: [`Signer`] makes such signatures, [`VerifyingKey`] checks them.
//!
//! Files are PEM: PKCS#8 for private keys (mode 0600), SubjectPublicKeyInfo for public ones, so that OpenSSL reads both.

#[cfg(feature = "tables")]
pub mod dsse;
mod ed25519;
mod file;
#[cfg(feature = "tables")]
mod p256;
#[cfg(feature = "tables")]
mod signer;

use std::fmt;

#[cfg(feature = "tables")]
pub use self::p256::{P256PrivateKey, P256PublicKey};
pub use ed25519::{PrivateKey, PublicKey, SIGNATURE_BYTES, Signature};
pub use file::public_path;
#[cfg(feature = "tables")]
pub use signer::{Scheme, SecretKey, Signer, VerifyingKey};

use crate::digest::Digest;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "tables", derive(clap::ValueEnum))]
pub enum Role {
    /// Signs the lake's configuration, and trust roots: who holds which of the other roles.
    Root,
    /// Signs baselines.
    Sealer,
    /// Signs object manifests, register entries, and attestations of commits.
    Writer,
    /// Signs the stubs that collected versions leave behind.
    Collector,
    /// Signs what says that something is the newest: inventories, checkpoints of logs.
    Timestamp,
}

impl Role {
    /// The name that JSON, files and messages use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Sealer => "sealer",
            Self::Writer => "writer",
            Self::Collector => "collector",
            Self::Timestamp => "timestamp",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key's identity: the BLAKE3 digest of its public bytes ([`VerifyingKey::to_bytes`]), in 64 hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub Digest);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}
