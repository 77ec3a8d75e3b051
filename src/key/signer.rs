//! Signing and verifying under any scheme.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::file::{PemBlocks, not_private, read_key_file};
use super::p256::{P256PrivateKey, P256PublicKey};
use super::{KeyId, PrivateKey, PublicKey, SIGNATURE_BYTES, Signature};
use crate::error::{Error, ErrorKind, Result};

/// A signature scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Scheme {
    /// Ed25519 (RFC 8032), verified strictly. Signatures are 64 bytes.
    Ed25519,
    /// ECDSA over NIST P-256 with SHA-256. Signatures are ASN.1 DER in low-S form, at most 72 bytes.
    P256,
}

impl Scheme {
    /// The name that files, JSON and messages use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::P256 => "p256",
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Makes signatures with one private key, wherever that is kept: in a file, or in a device or service that does not give it away.
///
/// Callers put a purpose into `message` (DSSE's payload type, a domain tag), so that no signature serves for another.
#[async_trait::async_trait]
pub trait Signer: fmt::Debug + Send + Sync {
    /// The public half.
    fn public(&self) -> VerifyingKey;

    /// Signs `message` in the encoding of the public half's [`Scheme`].
    ///
    /// # Errors
    /// Those of the device or service; a key from a file signs without any.
    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>>;
}

/// A public key of any scheme, whose equality is that of its bytes.
///
/// As text: the scheme's name, `:`, and the public bytes in lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum VerifyingKey {
    /// Ed25519.
    Ed25519(PublicKey),
    /// ECDSA over P-256.
    P256(P256PublicKey),
}

impl VerifyingKey {
    /// The scheme.
    pub const fn scheme(&self) -> Scheme {
        match self {
            Self::Ed25519(_) => Scheme::Ed25519,
            Self::P256(_) => Scheme::P256,
        }
    }

    /// The public bytes, in the only spelling that they have: 32 for Ed25519, the uncompressed point in 65 for P-256.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => key.to_bytes().to_vec(),
            Self::P256(key) => key.to_bytes(),
        }
    }

    /// The key's identity.
    pub fn id(&self) -> KeyId {
        match self {
            Self::Ed25519(key) => key.id(),
            Self::P256(key) => key.id(),
        }
    }

    /// Whether `signature` was made over `message` by this key. Of every signature only one encoding counts.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => <[u8; SIGNATURE_BYTES]>::try_from(signature).is_ok_and(|bytes| key.verifies(message, &Signature(bytes))),
            Self::P256(key) => key.verifies(message, signature),
        }
    }

    /// The key as PEM (SubjectPublicKeyInfo).
    pub fn to_pem(&self) -> Result<String> {
        match self {
            Self::Ed25519(key) => key.to_pem(),
            Self::P256(key) => key.to_pem(),
        }
    }

    /// Reads every public key in `text`, of whichever scheme; anything between PEM blocks is a comment.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when there is none, or one is damaged, refused, or of another scheme.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>> {
        PemBlocks::of(text).map(|pem| Self::from_pem(&pem?)).collect()
    }

    fn from_pem(pem: &str) -> Result<Self> {
        match P256PublicKey::from_pem(pem) {
            Ok(key) => Ok(Self::P256(key)),
            Err(not_p256) => match PublicKey::all_from_pem(pem) {
                Ok(keys) => {
                    let one = keys.first().copied().map(Self::Ed25519);
                    one.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "no public key in PEM was found"))
                }
                // Refused as an Ed25519 key for a reason of its own: that is the reason to tell.
                Err(e) if e.message().contains("refused") => Err(e),
                Err(_) => Err(Error::new(ErrorKind::InvalidInput, "neither an Ed25519 nor a P-256 public key in PEM").caused_by(not_p256)),
            },
        }
    }

    /// Reads a file of public keys in PEM.
    ///
    /// # Errors
    /// Those of [`Self::all_from_pem`] and of reading the file.
    pub fn all_from_file(path: &Path) -> Result<Vec<Self>> {
        Self::all_from_pem(&read_key_file(path)?).map_err(|e| e.with("file", path.display()))
    }
}

impl Hash for VerifyingKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.to_bytes().hash(state);
    }
}

impl From<PublicKey> for VerifyingKey {
    fn from(key: PublicKey) -> Self {
        Self::Ed25519(key)
    }
}

impl From<P256PublicKey> for VerifyingKey {
    fn from(key: P256PublicKey) -> Self {
        Self::P256(key)
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ed25519(key) => key.fmt(f),
            Self::P256(key) => key.fmt(f),
        }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({self})")
    }
}

impl FromStr for VerifyingKey {
    type Err = Error;

    /// Reads the one spelling that [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self> {
        let key = match text.split_once(':').map(|(scheme, _)| scheme) {
            Some("ed25519") => Self::Ed25519(text.parse()?),
            Some("p256") => Self::P256(text.parse()?),
            _ => {
                return Err(Error::new(ErrorKind::InvalidInput, "a public key reads `ed25519:` or `p256:` and hexadecimal digits")
                    .with("text", text));
            }
        };
        if key.to_string() == text {
            Ok(key)
        } else {
            Err(Error::new(ErrorKind::InvalidInput, "a public key is written in lower-case hexadecimal digits").with("text", text))
        }
    }
}

/// A private key of any scheme, from a file.
#[derive(Debug, Clone)]
pub enum SecretKey {
    /// Ed25519.
    Ed25519(PrivateKey),
    /// ECDSA over P-256.
    P256(P256PrivateKey),
}

impl SecretKey {
    /// A fresh key.
    pub fn generate(scheme: Scheme) -> Result<Self> {
        Ok(match scheme {
            Scheme::Ed25519 => Self::Ed25519(PrivateKey::generate()?),
            Scheme::P256 => Self::P256(P256PrivateKey::generate()?),
        })
    }

    /// Reads a private key's file (PEM, PKCS#8) of whichever scheme.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when it is none; those of reading the file.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = read_key_file(path)?;
        if let Ok(key) = PrivateKey::from_pem(&text) {
            return Ok(Self::Ed25519(key));
        }
        P256PrivateKey::from_pem(&text).map(Self::P256).map_err(|e| {
            let what = format!("neither an Ed25519 nor a P-256 private key in PEM{}", not_private(&text));
            Error::new(ErrorKind::InvalidInput, what).with("file", path.display()).caused_by(e)
        })
    }

    /// As [`PrivateKey::save_new`].
    pub fn save_new(&self, path: &Path) -> Result<()> {
        match self {
            Self::Ed25519(key) => key.save_new(path),
            Self::P256(key) => key.save_new(path),
        }
    }
}

#[async_trait::async_trait]
impl Signer for PrivateKey {
    fn public(&self) -> VerifyingKey {
        VerifyingKey::Ed25519(Self::public(self))
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        Ok(Self::sign(self, message).0.to_vec())
    }
}

#[async_trait::async_trait]
impl Signer for P256PrivateKey {
    fn public(&self) -> VerifyingKey {
        VerifyingKey::P256(Self::public(self))
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        Self::sign(self, message)
    }
}

#[async_trait::async_trait]
impl Signer for SecretKey {
    fn public(&self) -> VerifyingKey {
        match self {
            Self::Ed25519(key) => Signer::public(key),
            Self::P256(key) => Signer::public(key),
        }
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        match self {
            Self::Ed25519(key) => Signer::sign(key, message).await,
            Self::P256(key) => Signer::sign(key, message).await,
        }
    }
}

#[async_trait::async_trait]
impl Signer for Arc<dyn Signer> {
    fn public(&self) -> VerifyingKey {
        self.as_ref().public()
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        self.as_ref().sign(message).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signer_of_each_scheme_is_read_back_and_verified_by_its_own_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut pem = String::new();
        let mut keys = Vec::new();
        for (name, scheme) in [("a", Scheme::Ed25519), ("b", Scheme::P256), ("c", Scheme::P256)] {
            let path = dir.path().join(name);
            SecretKey::generate(scheme).unwrap().save_new(&path).unwrap();
            let key = SecretKey::from_file(&path).unwrap();
            assert_eq!(key.public().scheme(), scheme);
            pem.push_str(&format!("# {name}\n{}", key.public().to_pem().unwrap()));
            keys.push(key);
        }
        let publics = VerifyingKey::all_from_pem(&pem).unwrap();
        for (i, key) in keys.iter().enumerate() {
            let signature = key.sign(b"message").await.unwrap();
            let by: Vec<bool> = publics.iter().map(|public| public.verifies(b"message", &signature)).collect();
            assert_eq!(by, [0, 1, 2].map(|j| i == j));
            assert_eq!(publics[i].to_string().parse::<VerifyingKey>().unwrap(), publics[i]);
            assert!(publics[i].to_string().to_uppercase().parse::<VerifyingKey>().is_err());
        }
    }

    #[test]
    fn what_is_no_key_of_a_known_scheme_is_explained() {
        // secp256k1: another curve.
        let other = "-----BEGIN PUBLIC KEY-----\nMFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEeb5mfvncu6xVoGKVzocLBwKb/NstzijZWfKBWxb4F5hIOtp3JqPEZV2k+/wOEQio/Re0SKaFVBmcR9CP+xDUuA==\n-----END PUBLIC KEY-----\n";
        assert!(VerifyingKey::all_from_pem(other).unwrap_err().message().contains("neither"));
        assert!(VerifyingKey::all_from_pem("-----BEGIN PRIVATE KEY-----").unwrap_err().message().contains(".pub"));
        assert!("rsa:00".parse::<VerifyingKey>().is_err());
    }
}
