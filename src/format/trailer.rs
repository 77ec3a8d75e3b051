//! The signed trailer behind every stored shard: which upload it belongs to. Layout: `docs/format/shard.md`.
//!
//! A shard's key has a write id and no path. Readers do not look at the trailer, for the manifest tells them all; a collector that
//! finds shards which no manifest names learns from it which register to win before it may delete them.

use bytes::Bytes;

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::PATH_LIMIT_BYTES;
use crate::format::wire::{Reader, Writer};
use crate::id::{LakeId, WriteId};
use crate::key::{PrivateKey, PublicKey, SIGNATURE_BYTES, Signature};

/// The first bytes of every trailer.
pub const TRAILER_MAGIC: [u8; 8] = *b"LKSLTRL1";
/// The version of the trailer format.
pub const TRAILER_VERSION: u16 = 1;
/// The longest trailer, in bytes, with its length behind it: what a reader asks for at most.
pub const TRAILER_LIMIT_BYTES: usize = stored_len(PATH_LIMIT_BYTES);

const TRAILER_TAG: &str = "lakeseal 2026 shard trailer v1";
const LENGTH_BYTES: usize = 4;

/// Bytes that a trailer takes behind a shard of an object whose path has `path_bytes` bytes.
pub const fn stored_len(path_bytes: usize) -> usize {
    // magic, version, lake, configuration, write id, slot, key, path with its length; signature; length.
    8 + 2 + 16 + 8 + 16 + 8 + 32 + 4 + path_bytes + SIGNATURE_BYTES + LENGTH_BYTES
}

/// To which upload a shard belongs; the same for all of its shards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Trailer {
    /// The lake.
    pub lake: LakeId,
    /// The number of the configuration under which it was written.
    pub configuration: u64,
    /// The attempt that wrote it.
    pub write_id: WriteId,
    /// The slot that it was written for, or [`super::manifest::STREAMED_SLOT`].
    pub slot: u64,
    /// The object's logical path.
    pub path: String,
}

impl Trailer {
    /// What is stored behind each shard. Cost: one signature, whatever the number of shards.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a path over its limit.
    pub fn seal(&self, writer: &PrivateKey) -> Result<Bytes> {
        if self.path.len() > PATH_LIMIT_BYTES {
            return Err(Error::new(ErrorKind::InvalidInput, "the path of an object has at most 1024 bytes").with("path", &self.path));
        }
        let mut out = Writer::new();
        out.raw(&TRAILER_MAGIC).u16(TRAILER_VERSION).raw(&self.lake.0).u64(self.configuration);
        out.raw(&self.write_id.0).u64(self.slot).raw(&writer.public().to_bytes()).bytes(self.path.as_bytes())?;
        let signature = writer.sign(&Digest::tagged(TRAILER_TAG, out.as_slice()).0);
        out.raw(&signature.0);
        let len = u32::try_from(out.len()).map_err(|e| Error::new(ErrorKind::Internal, "a trailer is too long").caused_by(e))?;
        out.u32(len);
        Ok(out.finish().into())
    }

    /// Reads the trailer at the end of `tail`, the last bytes of a stored shard, and checks that one of `writers` signed it.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when there is none, [`ErrorKind::Unsupported`] for a later version, [`ErrorKind::Unauthentic`] when none of
    /// the keys signed it.
    pub fn open(tail: &[u8], writers: &[PublicKey]) -> Result<Self> {
        let missing = || Error::new(ErrorKind::Corrupt, "a stored shard does not end with a trailer");
        let (rest, len) = tail.split_last_chunk::<LENGTH_BYTES>().ok_or_else(missing)?;
        let len = usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX);
        if len > TRAILER_LIMIT_BYTES {
            return Err(missing());
        }
        let start = rest.len().checked_sub(len).ok_or_else(missing)?;
        let (signed, signature) = rest.get(start..).and_then(|all| all.split_last_chunk::<SIGNATURE_BYTES>()).ok_or_else(missing)?;
        let mut reader = Reader::new(signed);
        if reader.fixed::<8>()? != TRAILER_MAGIC {
            return Err(missing());
        }
        let version = reader.u16()?;
        if version != TRAILER_VERSION {
            return Err(Error::new(ErrorKind::Unsupported, "a shard's trailer of an unknown version").with("version", version));
        }
        let (lake, configuration) = (LakeId(reader.fixed()?), reader.u64()?);
        let (write_id, slot) = (WriteId(reader.fixed()?), reader.u64()?);
        let key = reader.fixed::<32>()?;
        let path = reader.bytes(PATH_LIMIT_BYTES)?;
        reader.done()?;
        let message = Digest::tagged(TRAILER_TAG, signed).0;
        let signer = writers.iter().find(|writer| writer.to_bytes() == key);
        if !signer.is_some_and(|writer| writer.verifies(&message, &Signature(*signature))) {
            return Err(Error::new(ErrorKind::Unauthentic, "a shard's trailer was not signed by a writer of this lake"));
        }
        let path = std::str::from_utf8(path).map_err(|e| Error::new(ErrorKind::Corrupt, "a path is not UTF-8").caused_by(e))?.to_owned();
        Ok(Self { lake, configuration, write_id, slot, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailer(path: &str) -> Trailer {
        Trailer { lake: LakeId([1; 16]), configuration: 3, write_id: WriteId([2; 16]), slot: 7, path: path.to_owned() }
    }

    #[test]
    fn a_trailer_is_read_from_the_end_whatever_stands_before_it() {
        let key = PrivateKey::from_seed(&[5; 32]);
        for path in ["a", &"x".repeat(PATH_LIMIT_BYTES)] {
            let sealed = trailer(path).seal(&key).unwrap();
            assert_eq!(sealed.len(), stored_len(path.len()));
            for before in [0, 1, 5000] {
                let stored = [vec![0xA5; before], sealed.to_vec()].concat();
                assert_eq!(Trailer::open(&stored, &[key.public()]).unwrap(), trailer(path));
            }
        }
        assert!(trailer(&"x".repeat(PATH_LIMIT_BYTES + 1)).seal(&key).is_err());
    }

    #[test]
    fn no_changed_byte_no_cut_and_no_other_key_is_authentic() {
        let (key, other) = (PrivateKey::from_seed(&[5; 32]), PrivateKey::from_seed(&[6; 32]));
        let sealed = trailer("t/a").seal(&key).unwrap();
        for at in 0..sealed.len() {
            let mut bytes = sealed.to_vec();
            bytes[at] ^= 1;
            assert!(Trailer::open(&bytes, &[key.public()]).is_err(), "byte {at}");
            assert!(Trailer::open(&sealed[..at], &[key.public()]).is_err(), "cut at {at}");
        }
        assert_eq!(Trailer::open(&sealed, &[other.public()]).unwrap_err().kind(), ErrorKind::Unauthentic);
        let huge = [vec![0; 64], u32::MAX.to_le_bytes().to_vec()].concat();
        assert_eq!(Trailer::open(&huge, &[key.public()]).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
