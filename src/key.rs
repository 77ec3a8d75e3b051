//! Ed25519 keys: files, identities, strict verification. Private keys are held nowhere else, and never enter a lake.
//!
//! Files are PEM: PKCS#8 for private keys (mode 0600), SubjectPublicKeyInfo for public ones, so that OpenSSL reads both.

use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::str::FromStr;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{Signature as DalekSignature, Signer as _};

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::id::random_bytes;

/// Length of a signature, in bytes.
pub const SIGNATURE_BYTES: usize = 64;
const KEY_FILE_LIMIT_BYTES: u64 = 64 * 1024;
const PUBLIC_BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const PUBLIC_END: &str = "-----END PUBLIC KEY-----";

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "tables", derive(clap::ValueEnum))]
pub enum Role {
    /// Signs the lake's configuration.
    Root,
    /// Signs baselines.
    Sealer,
    /// Signs object manifests and register entries.
    Writer,
    /// Signs the stubs that collected versions leave behind.
    Collector,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::Sealer => "sealer",
            Self::Writer => "writer",
            Self::Collector => "collector",
        })
    }
}

/// A detached Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; SIGNATURE_BYTES]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", hex::encode(self.0))
    }
}

/// A key's identity: the BLAKE3 digest of its 32 public bytes, in 64 hexadecimal characters.
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

/// A public Ed25519 key that is not of small order. As text: `ed25519:` and 64 hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(ed25519_dalek::VerifyingKey);

impl PublicKey {
    /// Reads 32 public bytes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when they are no point of the curve or one of small order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes)
            .map_err(|e| Error::new(ErrorKind::InvalidInput, "not an Ed25519 public key").caused_by(e))?;
        Self::checked(key)
    }

    fn checked(key: ed25519_dalek::VerifyingKey) -> Result<Self> {
        if key.is_weak() {
            return Err(Error::new(ErrorKind::InvalidInput, "an Ed25519 key of small order proves nothing; it is refused"));
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
        let mut keys = Vec::new();
        let mut rest = text;
        while let Some((_, from)) = rest.split_once(PUBLIC_BEGIN) {
            let (body, after) =
                from.split_once(PUBLIC_END).ok_or_else(|| Error::new(ErrorKind::InvalidInput, "a PEM public key has no end line"))?;
            let pem = format!("{PUBLIC_BEGIN}{body}{PUBLIC_END}\n");
            let key = ed25519_dalek::VerifyingKey::from_public_key_pem(&pem)
                .map_err(|e| Error::new(ErrorKind::InvalidInput, "not an Ed25519 public key in PEM").caused_by(e.to_string()))?;
            keys.push(Self::checked(key)?);
            rest = after;
        }
        if keys.is_empty() {
            let hint = if text.contains("PRIVATE KEY") { "; this is a private key: name its .pub file" } else { "" };
            return Err(Error::new(ErrorKind::InvalidInput, format!("no public key in PEM was found{hint}")));
        }
        Ok(keys)
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
            let hint = if text.contains("PUBLIC KEY") { "; this is a public key: name the file without .pub" } else { "" };
            Error::new(ErrorKind::InvalidInput, format!("not an Ed25519 private key in PEM{hint}")).caused_by(e.to_string())
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
        let public = public_path(path);
        if public.exists() {
            return Err(Error::new(ErrorKind::AlreadyExists, "a public key's file of this name already exists; name another")
                .with("file", public.display()));
        }
        write_new(path, pem.as_bytes(), 0o600)?;
        write_new(&public, self.public().to_pem()?.as_bytes(), 0o644)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {})", self.public())
    }
}

/// Where the public half of the private key at `path` is kept: the same name with `.pub` after it.
pub fn public_path(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

fn read_key_file(path: &Path) -> Result<String> {
    let failed = |e: std::io::Error| Error::from(e).with("file", path.display());
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > KEY_FILE_LIMIT_BYTES {
        return Err(Error::new(ErrorKind::InvalidInput, "too large for a file of keys").with("file", path.display()).with("bytes", size));
    }
    std::fs::read_to_string(path).map_err(failed)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::new(ErrorKind::AlreadyExists, "a key's file of this name already exists; name another").with("file", path.display())
        }
        _ => Error::from(e).with("file", path.display()),
    };
    let mut file = options.open(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
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
