//! The content part of a manifest: inline bytes, or the code, place and root of every shard.

use bytes::Bytes;

use crate::digest::Digest;
use crate::erasure::{CodecId, Geometry, MAX_INLINE_BYTES, MAX_SEGMENT_BYTES, SLICE_BYTES};
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::corrupt;
use crate::format::wire::{Reader, Writer};

/// Most segments of one object.
pub const MAX_SEGMENTS: u64 = 128 * 1024;

/// The slot in the shard names of an object that was streamed: its slot was not known when its first shard was written.
///
/// Whoever collects orphans must not judge such shards by one slot alone: until the writer has completed or given up, its write id may
/// be decided in *any* slot of the path.
pub const STREAMED_SLOT: u64 = u64::MAX;

const TOMBSTONE: u8 = 0;
const INLINE: u8 = 1;
const SHARDS: u8 = 2;

/// The bytes of a version, or where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The object was deleted.
    Tombstone,
    /// The bytes themselves.
    Inline(Bytes),
    /// Segments cut into shards.
    Shards(Sharded),
}

/// How and where an object's shards are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sharded {
    /// The object's size in bytes, at least 1.
    pub size: u64,
    /// The code.
    pub codec: CodecId,
    /// Bytes of every segment but the last.
    pub segment_bytes: u64,
    /// The slot in the shards' names: the manifest's own, or [`STREAMED_SLOT`].
    pub shard_slot: u64,
    /// Region index of each of the k + m shards; the same for all segments, and no region twice.
    pub placement: Vec<u8>,
    /// Plain BLAKE3 of every shard's bytes, segment by segment, k + m each.
    pub roots: Vec<Digest>,
}

impl Sharded {
    /// How the object is cut.
    pub fn geometry(&self) -> Geometry {
        Geometry { data: self.codec.data, parity: self.codec.parity, segment_bytes: self.segment_bytes }
    }

    /// The root of a shard, and the region that holds it.
    pub fn shard(&self, segment: u64, shard: usize) -> Option<(Digest, u8)> {
        let at = usize::try_from(segment).ok()?.checked_mul(self.codec.shards())?.checked_add(shard)?;
        Some((*self.roots.get(at)?, *self.placement.get(shard)?))
    }
}

impl Content {
    pub(super) fn encode(&self, out: &mut Writer) -> Result<()> {
        match self {
            Self::Tombstone => out.u8(TOMBSTONE),
            Self::Inline(bytes) => out.u8(INLINE).bytes(bytes)?,
            Self::Shards(sharded) => {
                let segments = u32::try_from(sharded.geometry().segments(sharded.size)).unwrap_or(u32::MAX);
                if u64::from(segments) > MAX_SEGMENTS {
                    return Err(Error::new(ErrorKind::InvalidInput, "an object has at most 131072 segments: raise segment_bytes")
                        .with("bytes", sharded.size)
                        .with("segment_bytes", sharded.segment_bytes));
                }
                out.u8(SHARDS).raw(&sharded.codec.to_bytes()).u64(sharded.segment_bytes).u64(sharded.shard_slot);
                out.raw(&sharded.placement).u32(segments);
                sharded.roots.iter().fold(out, |out, root| out.raw(&root.0))
            }
        };
        Ok(())
    }

    pub(super) fn decode(reader: &mut Reader<'_>, all: &Bytes, size: u64) -> Result<Self> {
        match reader.u8()? {
            TOMBSTONE => Ok(Self::Tombstone),
            INLINE => {
                let len = reader.bytes(usize::try_from(MAX_INLINE_BYTES).unwrap_or(usize::MAX))?.len();
                Ok(Self::Inline(all.slice(reader.position() - len..reader.position())))
            }
            SHARDS => Ok(Self::Shards(decode_shards(reader, size)?)),
            other => Err(corrupt("a manifest's content is of an unknown kind").with("kind", other)),
        }
    }
}

fn decode_shards(reader: &mut Reader<'_>, size: u64) -> Result<Sharded> {
    let codec = CodecId::from_bytes(reader.fixed()?)?;
    let (segment_bytes, shard_slot) = (reader.u64()?, reader.u64()?);
    if segment_bytes == 0 || segment_bytes > MAX_SEGMENT_BYTES || !segment_bytes.is_multiple_of(SLICE_BYTES as u64) {
        return Err(corrupt("a manifest's segments have an impossible size").with("segment_bytes", segment_bytes));
    }
    let placement = reader.raw(codec.shards())?.to_vec();
    if placement.iter().enumerate().any(|(i, region)| placement.iter().skip(i + 1).any(|other| other == region)) {
        return Err(corrupt("a manifest places two shards in one region"));
    }
    let segments = u64::from(reader.u32()?);
    let mut sharded = Sharded { size, codec, segment_bytes, shard_slot, placement, roots: Vec::new() };
    if size == 0 || segments > MAX_SEGMENTS || segments != sharded.geometry().segments(size) {
        return Err(corrupt("a manifest's number of segments contradicts its size").with("segments", segments).with("size", size));
    }
    let bytes = usize::try_from(segments).ok().and_then(|count| count.checked_mul(codec.shards())?.checked_mul(Digest::LEN));
    let roots = reader.raw(bytes.ok_or_else(|| corrupt("a manifest has too many shards"))?)?;
    sharded.roots = roots.as_chunks::<{ Digest::LEN }>().0.iter().map(|root| Digest(*root)).collect();
    Ok(sharded)
}
