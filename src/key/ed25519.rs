//! Ed25519 keys: the scheme of the store's formats, and the default of everything else.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{Signature as DalekSignature, Signer as _};

use super::KeyId;
use super::file::{PemBlocks, not_private, read_key_file, save_pair};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::id::random_bytes;

/// Length of a signature, in bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// A detached Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; SIGNATURE_BYTES]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", hex::encode(self.0))
    }
}

/// A public Ed25519 key: a point of prime order in its one spelling. As text: `ed25519:` and 64 hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(ed25519_dalek::VerifyingKey);

impl PublicKey {
    /// Reads 32 public bytes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when they are no point of the curve, one with a part of small order, or not its canonical spelling:
    /// a threshold counts keys by their bytes, so one key must not have two.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes)
            .map_err(|e| Error::new(ErrorKind::InvalidInput, "not an Ed25519 public key").caused_by(e))?;
        Self::checked(key)
    }

    fn checked(key: ed25519_dalek::VerifyingKey) -> Result<Self> {
        let refused = |what: &str| Err(Error::new(ErrorKind::InvalidInput, format!("{what} proves nothing; it is refused")));
        if key.is_weak() {
            return refused("an Ed25519 key of small order");
        }
        let point = key.to_edwards();
        if !point.is_torsion_free() {
            return refused("an Ed25519 key with a part of small order");
        }
        if point.compress().as_bytes() != key.as_bytes() {
            return refused("an Ed25519 key that is not in canonical form");
        }
        Ok(Self(key))
    }

    /// The 32 public bytes.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The key's identity.
    pub fn id(&self) -> KeyId {
        KeyId(Digest::of(self.0.as_bytes()))
    }

    /// Whether `signature` was made over `message` by this key (strict verification, RFC 8032 with small orders refused).
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        self.0.verify_strict(message, &DalekSignature::from_bytes(&signature.0)).is_ok()
    }

    /// The key as PEM.
    pub fn to_pem(&self) -> Result<String> {
        self.0
            .to_public_key_pem(LineEnding::LF)
            .map_err(|e| Error::new(ErrorKind::Internal, "a public key could not be written as PEM").caused_by(e.to_string()))
    }

    /// Reads every public key in `text`; anything between PEM blocks is a comment.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when there is none, or one is damaged.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>> {
        PemBlocks::of(text)
            .map(|pem| {
                let key = ed25519_dalek::VerifyingKey::from_public_key_pem(&pem?)
                    .map_err(|e| Error::new(ErrorKind::InvalidInput, "not an Ed25519 public key in PEM").caused_by(e.to_string()))?;
                Self::checked(key)
            })
            .collect()
    }

    /// Reads a file of public keys in PEM.
    pub fn all_from_file(path: &Path) -> Result<Vec<Self>> {
        Self::all_from_pem(&read_key_file(path)?).map_err(|e| e.with("file", path.display()))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519:{}", hex::encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0; 32];
        let digits = text.strip_prefix("ed25519:").unwrap_or_default();
        hex::decode_to_slice(digits, &mut bytes).map_err(|e| {
            Error::new(ErrorKind::InvalidInput, "a public key reads `ed25519:` and 64 hexadecimal characters")
                .with("text", text)
                .caused_by(e)
        })?;
        Self::from_bytes(&bytes)
    }
}

/// A private Ed25519 key. Its bytes are wiped from memory when it is dropped, and its debug form shows only its identity.
#[derive(Clone)]
pub struct PrivateKey(ed25519_dalek::SigningKey);

impl PrivateKey {
    /// A fresh key from the operating system's generator.
    pub fn generate() -> Result<Self> {
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(&random_bytes()?)))
    }

    /// A key from 32 secret bytes; for tests and vectors.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs `message`. The caller puts a domain tag into it, so that no signature serves for another purpose.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).to_bytes())
    }

    /// Reads a private key in PEM.
    pub fn from_pem(text: &str) -> Result<Self> {
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(text.trim()).map_err(|e| {
            Error::new(ErrorKind::InvalidInput, format!("not an Ed25519 private key in PEM{}", not_private(text))).caused_by(e.to_string())
        })?;
        Ok(Self(key))
    }

    /// Reads a private key's file.
    pub fn from_file(path: &Path) -> Result<Self> {
        Self::from_pem(&read_key_file(path)?).map_err(|e| e.with("file", path.display()))
    }

    /// Writes the key to `path` (new, mode 0600) and its public half to `path`.pub. Existing files are never overwritten.
    pub fn save_new(&self, path: &Path) -> Result<()> {
        let pem = self
            .0
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|e| Error::new(ErrorKind::Internal, "a private key could not be written as PEM").caused_by(e.to_string()))?;
        save_pair(path, pem.as_bytes(), &self.public().to_pem()?)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {})", self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::super::public_path;
    use super::*;

    #[test]
    fn a_saved_key_reads_back_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sealer.pem");
        let key = PrivateKey::generate().unwrap();
        key.save_new(&path).unwrap();
        assert_eq!(PrivateKey::from_file(&path).unwrap().public(), key.public());
        assert_eq!(PublicKey::all_from_file(&public_path(&path)).unwrap(), [key.public()]);
        assert_eq!(key.save_new(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_signature_binds_key_and_message() {
        let key = PrivateKey::from_seed(&[7; 32]);
        let signature = key.sign(b"message");
        assert!(key.public().verifies(b"message", &signature));
        assert!(!key.public().verifies(b"massage", &signature));
        assert!(!PrivateKey::from_seed(&[8; 32]).public().verifies(b"message", &signature));
    }

    #[test]
    fn keys_of_small_order_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert!(PublicKey::from_bytes(&identity).is_err());
    }

    #[test]
    fn keys_with_a_part_of_small_order_and_second_spellings_are_refused() {
        // A good key plus the point (0, -1) of order two: a second key of the same secret.
        let key = PrivateKey::from_seed(&[7; 32]).public();
        let mut minus_one = [0xff; 32];
        (minus_one[0], minus_one[31]) = (0xec, 0x7f);
        let order_two = ed25519_dalek::VerifyingKey::from_bytes(&minus_one).unwrap();
        let mixed = (key.0.to_edwards() + order_two.to_edwards()).compress();
        let refused = PublicKey::from_bytes(mixed.as_bytes()).unwrap_err();
        assert!(refused.message().contains("a part of small order"), "{refused}");
        // y = 3 + p is y = 3 spelled otherwise, and both are points of the curve.
        let mut three = [0; 32];
        three[0] = 3;
        let mut other = [0xff; 32];
        (other[0], other[31]) = (0xf0, 0x7f);
        let [three, other] = [three, other].map(|bytes| ed25519_dalek::VerifyingKey::from_bytes(&bytes).unwrap());
        assert_eq!(three.to_edwards(), other.to_edwards());
        assert!(PublicKey::from_bytes(other.as_bytes()).is_err());
    }

    #[test]
    fn swapped_files_are_explained() {
        let key = PrivateKey::from_seed(&[7; 32]);
        let public = key.public().to_pem().unwrap();
        assert!(PrivateKey::from_pem(&public).unwrap_err().message().contains("public key"));
        assert!(PublicKey::all_from_pem("nothing").is_err());
        let two = format!("# first\n{public}second\n{}", PrivateKey::from_seed(&[8; 32]).public().to_pem().unwrap());
        assert_eq!(PublicKey::all_from_pem(&two).unwrap().len(), 2);
    }

    #[test]
    fn the_text_form_reads_back() {
        let key = PrivateKey::from_seed(&[7; 32]).public();
        assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
        assert!("ed25519:00".parse::<PublicKey>().is_err());
    }
}
