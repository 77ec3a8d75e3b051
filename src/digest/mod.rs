//! Digests: BLAKE3 with domain tags, block lists, Merkle roots and the multiset hash.

mod blocks;
pub mod merkle;
pub mod multiset;

use std::fmt;
use std::str::FromStr;

pub use blocks::{BLOCK_BYTES, BlockHasher, BlockJoiner, BlockList, block_value};
pub use merkle::{InclusionProof, MerkleTree};
pub use multiset::{MultisetHash, MultisetHasher};

use crate::error::{Error, ErrorKind, Result};

/// A BLAKE3 digest of 32 bytes. Untagged, it is what `b3sum` prints.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// Plain BLAKE3 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// BLAKE3 in key-derivation mode: digests under different tags never coincide.
    ///
    /// Tags read `lakeseal 2026 <what> v<version>`.
    pub fn tagged(tag: &str, bytes: &[u8]) -> Self {
        Self(blake3::derive_key(tag, bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|e| Error::new(ErrorKind::Corrupt, "not a digest of 32 bytes in hexadecimal").with("text", text).caused_by(e))?;
        Ok(Self(bytes))
    }
}
