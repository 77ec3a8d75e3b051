//! What the register of a streamed write decides: the slot that it goes for next, or that it is given up. Layout: `docs/format/shard.md`.
//!
//! Shards of a streamed upload are written before anybody knows their slot. Before its writer votes in a slot of an object, it has just that
//! slot decided here; a collector has *given up* decided instead, and then knows that the write is never voted for again.

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::PATH_LIMIT_BYTES;
use crate::format::wire::{Reader, Writer};
use crate::id::{LakeId, WriteId};

/// The first bytes of every binding.
pub const BINDING_MAGIC: [u8; 8] = *b"LKSLBND1";
/// The version of the format.
pub const BINDING_VERSION: u16 = 1;

const BIND: u8 = 0;
const ABORT: u8 = 1;

/// One decision about a streamed write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// The writer may vote for this write in this slot of this object.
    Bind {
        /// The object's logical path.
        path: String,
        /// The slot.
        slot: u64,
    },
    /// The write is never voted for in any slot that was not decided here before.
    Abort,
}

impl Binding {
    /// The value that position `step` of the register of `write_id` decides.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a path over its limit.
    pub fn encode(&self, lake: LakeId, write_id: WriteId, step: u64) -> Result<Bytes> {
        let (kind, slot, path) = match self {
            Self::Bind { path, slot } => (BIND, *slot, path.as_str()),
            Self::Abort => (ABORT, 0, ""),
        };
        if path.len() > PATH_LIMIT_BYTES {
            return Err(Error::new(ErrorKind::InvalidInput, "the path of an object has at most 1024 bytes").with("path", path));
        }
        let mut out = Writer::new();
        out.raw(&BINDING_MAGIC).u16(BINDING_VERSION).u8(kind).raw(&lake.0).raw(&write_id.0).u64(step);
        out.u64(slot).bytes(path.as_bytes())?;
        Ok(out.finish().into())
    }

    /// Reads what was decided at position `step` of the register of `write_id`.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for anything malformed or of another write, [`ErrorKind::Unsupported`] for a later version.
    pub fn decode(bytes: &[u8], lake: LakeId, write_id: WriteId, step: u64) -> Result<Self> {
        let corrupt = |message: &str| Error::new(ErrorKind::Corrupt, message).with("write id", write_id);
        let mut reader = Reader::new(bytes);
        if reader.fixed::<8>()? != BINDING_MAGIC {
            return Err(corrupt("not the binding of a streamed write"));
        }
        let version = reader.u16()?;
        if version != BINDING_VERSION {
            return Err(Error::new(ErrorKind::Unsupported, "a binding of an unknown version").with("version", version));
        }
        let kind = reader.u8()?;
        let place = (LakeId(reader.fixed()?), WriteId(reader.fixed()?), reader.u64()?);
        let slot = reader.u64()?;
        let path = std::str::from_utf8(reader.bytes(PATH_LIMIT_BYTES)?).map_err(|e| corrupt("a path is not UTF-8").caused_by(e))?;
        reader.done()?;
        if place != (lake, write_id, step) {
            return Err(corrupt("a binding belongs to another write"));
        }
        match kind {
            BIND if !path.is_empty() => Ok(Self::Bind { path: path.to_owned(), slot }),
            ABORT if path.is_empty() && slot == 0 => Ok(Self::Abort),
            _ => Err(corrupt("a binding of an unknown kind").with("kind", kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_are_read_back_and_belong_to_one_step_of_one_write() {
        let (lake, write) = (LakeId([1; 16]), WriteId([2; 16]));
        for binding in [Binding::Abort, Binding::Bind { path: "t/a".to_owned(), slot: 9 }] {
            let bytes = binding.encode(lake, write, 4).unwrap();
            assert_eq!(Binding::decode(&bytes, lake, write, 4).unwrap(), binding);
            assert!(Binding::decode(&bytes, lake, write, 5).is_err());
            assert!(Binding::decode(&bytes, lake, WriteId([3; 16]), 4).is_err());
            assert!(Binding::decode(&bytes, LakeId([3; 16]), write, 4).is_err());
            for cut in 0..bytes.len() {
                assert!(Binding::decode(&bytes[..cut], lake, write, 4).is_err());
            }
        }
        let long = Binding::Bind { path: "x".repeat(PATH_LIMIT_BYTES + 1), slot: 0 };
        assert!(long.encode(lake, write, 0).is_err());
    }
}
