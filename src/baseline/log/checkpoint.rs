//! Checkpoints: the size and root of a log, signed (C2SP `tlog-checkpoint`).
//!
//! ```text
//! lakeseal.log/<32 hexadecimal digits>
//! <number of entries, decimal>
//! <base64 of the root>
//! ```
//! <https://c2sp.org/tlog-checkpoint>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::note;
use super::tree::Hash;
use crate::error::Result;
use crate::key::{KeyId, Signer, VerifyingKey};

/// A checkpoint's note is never larger, in bytes.
pub(super) const CHECKPOINT_LIMIT_BYTES: u64 = 16 * 1024;

/// What a log is said to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root of the tree over them (RFC 6962).
    pub root: Hash,
}

impl Checkpoint {
    fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    /// The signed note.
    pub(super) async fn sign(&self, signer: &dyn Signer) -> Result<String> {
        note::sign(&self.origin, &self.to_text(), signer).await
    }

    /// Reads a note. `None` unless one of `keys` signed it, as a checkpoint.
    pub fn open(note: &[u8], keys: &[VerifyingKey]) -> Option<(Self, Vec<KeyId>)> {
        if u64::try_from(note.len()).ok()? > CHECKPOINT_LIMIT_BYTES {
            return None;
        }
        let note = note::open(note, keys)?;
        let mut lines = note.text.split_terminator('\n');
        let checkpoint = Self {
            origin: lines.next()?.to_owned(),
            size: lines.next()?.parse().ok()?,
            root: STANDARD.decode(lines.next()?).ok()?.try_into().ok()?,
        };
        let fits = checkpoint.to_text() == note.text && checkpoint.origin == note.name;
        fits.then_some((checkpoint, note.signers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PrivateKey;

    #[tokio::test]
    async fn a_checkpoint_reads_back_and_nothing_else_is_one() {
        let key = PrivateKey::from_seed(&[1; 32]);
        let keys = [Signer::public(&key)];
        let checkpoint = Checkpoint { origin: "lakeseal.log/x".into(), size: 12, root: [5; 32] };
        let note = checkpoint.sign(&key).await.unwrap();
        assert!(note.starts_with("lakeseal.log/x\n12\nBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU=\n\n\u{2014} lakeseal.log/x "), "{note}");
        assert_eq!(Checkpoint::open(note.as_bytes(), &keys).unwrap().0, checkpoint);
        assert_eq!(Checkpoint::open(note.as_bytes(), &[]), None);
        for at in 0..note.len() {
            let mut changed = note.clone().into_bytes();
            changed[at] ^= 1;
            assert_eq!(Checkpoint::open(&changed, &keys), None, "byte {at}");
        }
        let text = checkpoint.to_text();
        for (from, to) in [("\n12\n", "\n012\n"), ("\n12\n", "\n+12\n"), ("=\n", "=\nmore\n"), ("log/x", "log/y"), ("BQUF", "BQU")] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            let note = note::sign("lakeseal.log/x", &changed, &key).await.unwrap();
            assert_eq!(Checkpoint::open(note.as_bytes(), &keys), None, "{to:?}");
        }
    }
}
