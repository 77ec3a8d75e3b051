//! A trust root with its signatures: who may make one, and who may replace it.

use std::io::Read as _;
use std::path::Path;

use super::root::{TRUST_ROOT_LIMIT_BYTES, TrustRoot};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::key::dsse::Envelope;
use crate::key::{Role, Signer, VerifyingKey};

/// The DSSE payload type of a trust root.
pub const TRUST_ROOT_TYPE: &str = "application/vnd.lakeseal.trust-root.v1+json";
/// Base64 and signatures around a document of the greatest size.
pub(in crate::baseline) const ENVELOPE_LIMIT_BYTES: u64 = 2 * TRUST_ROOT_LIMIT_BYTES;

/// A trust root in its envelope. Only [`Self::open`] and [`Self::open_successor`] say that it holds; a draft may be short of signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRoot {
    root: TrustRoot,
    digest: Digest,
    envelope: Envelope,
}

impl SignedRoot {
    /// A root that nobody has signed yet.
    ///
    /// # Errors
    /// Those of [`TrustRoot::check`].
    pub fn draft(root: TrustRoot) -> Result<Self> {
        root.check()?;
        let payload = root.to_bytes();
        Ok(Self { root, digest: Digest::of(&payload), envelope: Envelope::new(TRUST_ROOT_TYPE, payload) })
    }

    /// Reads a draft: whatever signatures it has, none is demanded.
    ///
    /// # Errors
    /// Those of [`Envelope::parse`] and [`TrustRoot::parse`].
    pub fn parse_draft(bytes: &[u8]) -> Result<Self> {
        let envelope = envelope(bytes)?;
        let root = TrustRoot::parse(&envelope.payload)?;
        Ok(Self { root, digest: Digest::of(&envelope.payload), envelope })
    }

    /// Reads the root from which a user's trust begins. That it is the right one, only the user can know; that it is whole, is signed by the
    /// threshold of its own root keys.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthentic`] when it is not; those of [`Self::parse_draft`].
    pub fn open(bytes: &[u8]) -> Result<Self> {
        let signed = Self::parse_draft(bytes)?;
        signed.check_own()?;
        Ok(signed)
    }

    /// Reads the next version after `self`: its exact bytes must be signed by the threshold of root keys of `self` before anything in them is
    /// looked at, and then by the threshold of its own.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthentic`] when it is not; [`ErrorKind::Corrupt`] when it is signed but no successor of `self`, or malformed;
    /// [`ErrorKind::InvalidInput`] when it is the successor, and contradicts itself.
    pub fn open_successor(&self, bytes: &[u8]) -> Result<Self> {
        let envelope = envelope(bytes)?;
        enough(&envelope, &self.root, "the version before it")?;
        let root = TrustRoot::read(&envelope.payload)?;
        if Some(root.version) != self.root.version.checked_add(1) || root.previous != Some(self.digest) {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!("version {} of the trust root does not follow version {}", root.version, self.root.version),
            ));
        }
        root.check()?;
        let signed = Self { root, digest: Digest::of(&envelope.payload), envelope };
        signed.check_own()?;
        Ok(signed)
    }

    /// Whether the threshold of its own root keys signed it.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthentic`] when not, with the count.
    pub fn check_own(&self) -> Result<()> {
        enough(&self.envelope, &self.root, "it")
    }

    /// Reads `file` if it holds a trust root rather than keys in PEM.
    ///
    /// # Errors
    /// Those of [`Self::open`], and of reading the file.
    pub fn from_file_if_any(file: &Path) -> Result<Option<Self>> {
        let bytes = read(file)?;
        let is_json = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        if is_json { Self::open(&bytes).map(Some).map_err(|e| e.with("file", file.display())) } else { Ok(None) }
    }

    /// Reads the file of a root from which trust begins.
    ///
    /// # Errors
    /// Those of [`Self::open`], and of reading the file.
    pub fn open_file(file: &Path) -> Result<Self> {
        Self::open(&read(file)?).map_err(|e| e.with("file", file.display()))
    }

    /// Reads a draft's file.
    ///
    /// # Errors
    /// Those of [`Self::parse_draft`], and of reading the file.
    pub fn draft_from_file(file: &Path) -> Result<Self> {
        Self::parse_draft(&read(file)?).map_err(|e| e.with("file", file.display()))
    }

    /// Adds a signature.
    ///
    /// # Errors
    /// Those of the signer.
    pub async fn sign(&mut self, signer: &dyn Signer) -> Result<()> {
        self.envelope.sign(signer).await
    }

    /// The document.
    pub fn root(&self) -> &TrustRoot {
        &self.root
    }

    /// Plain BLAKE3 of the document's bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Those of `keys` that signed it.
    pub fn signers(&self, keys: &[VerifyingKey]) -> Vec<VerifyingKey> {
        self.envelope.signers(keys)
    }

    /// The bytes of its file: the envelope as JSON, one line.
    pub fn to_bytes(&self) -> Vec<u8> {
        format!("{}\n", self.envelope.to_json()).into_bytes()
    }

    /// Whether it has expired at `now_ms`, in milliseconds since 1970-01-01T00:00:00Z.
    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.root.expires_ms.is_some_and(|expires| expires <= now_ms)
    }
}

fn envelope(bytes: &[u8]) -> Result<Envelope> {
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > ENVELOPE_LIMIT_BYTES {
        return Err(Error::new(ErrorKind::Corrupt, "too large for a trust root").with("bytes", bytes.len()));
    }
    Envelope::parse(bytes, TRUST_ROOT_TYPE)
}

fn enough(envelope: &Envelope, by: &TrustRoot, whose: &str) -> Result<()> {
    let found = envelope.signers(by.keys(Role::Root)).len();
    let needed = by.threshold(Role::Root);
    if found >= needed {
        return Ok(());
    }
    let broken = envelope.signatures.len().saturating_sub(found);
    let why = match broken {
        0 => "more must sign it: `lakeseal trust sign`".to_owned(),
        _ => format!("{broken} other signature(s) do not verify: it was changed after they were made, or other keys made them"),
    };
    let what = format!("the trust root has {found} of the {needed} signatures by root keys that {whose} names; {why}");
    Err(Error::new(ErrorKind::Unauthentic, what))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| Error::from(e).with("file", file.display());
    let mut bytes = Vec::new();
    std::fs::File::open(file).map_err(failed)?.take(ENVELOPE_LIMIT_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > ENVELOPE_LIMIT_BYTES {
        return Err(Error::new(ErrorKind::InvalidInput, "too large for a file of public keys or a trust root").with("file", file.display()));
    }
    Ok(bytes)
}
