//! The computing part of writing a segment: its bytes are read once, and coded and hashed while they are near.

use bytes::Bytes;
use object_store::PutPayload;

use crate::digest::{BLOCK_BYTES, BlockHasher, Digest, block_value};
use crate::erasure::{Codec, STRIPE_BYTES, SegmentShape};
use crate::error::{Error, ErrorKind, Result};

/// What is stored of one shard.
pub(super) struct Shard {
    pub(super) root: Digest,
    /// Bytes of the shard itself.
    pub(super) len: usize,
    /// What is stored: the block list, the shard, the trailer.
    pub(super) payload: PutPayload,
}

/// A segment, ready to be sent.
pub(super) struct Coded {
    pub(super) shards: Vec<Shard>,
    /// The values of the *object's* blocks that the segment holds, if they were asked for.
    pub(super) blocks: Vec<[u8; 32]>,
}

/// How a segment's bytes go into the digest of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ObjectBlocks {
    /// They are hashed elsewhere.
    No,
    /// The segment is all that the object has, and not more than a block.
    Only,
    /// The segment begins with this block of the object.
    From(u64),
}

/// Codes and hashes a segment, a stripe of all shards at a time.
pub(super) fn code(codec: &Codec, shape: SegmentShape, segment: &Bytes, trailer: &Bytes, object: ObjectBlocks) -> Result<Coded> {
    let width = size(shape.shard_len(shape.data))?;
    // One digest a block, as the list of the shard will have.
    let room = width.div_ceil(BLOCK_BYTES).max(1).saturating_mul(Digest::LEN);
    let stored = room.saturating_add(width).saturating_add(trailer.len());
    let data: Vec<Bytes> = (0..shape.data).map(|shard| data_shard(shape, segment, shard)).collect::<Result<_>>()?;
    let mut parity: Vec<Vec<u8>> = (0..shape.parity).map(|_| codec.buffers().take(stored)).collect();
    let mut of_data: Vec<BlockHasher> = data.iter().map(|_| BlockHasher::new()).collect();
    let mut of_parity: Vec<BlockHasher> = parity.iter().map(|_| BlockHasher::new()).collect();
    let mut blocks = Blocks::new(segment, object);
    for start in (0..width).step_by(STRIPE_BYTES) {
        let end = width.min(start + STRIPE_BYTES);
        // The hashes bring the data near: they read ahead better than the code does.
        for (shard, (bytes, hasher)) in data.iter().zip(&mut of_data).enumerate() {
            hasher.update(bytes.get(start.min(bytes.len())..end.min(bytes.len())).unwrap_or_default());
            let held = shape.data_range(shard);
            blocks.hash(size(held.start)? + start, size(held.end)?.min(size(held.start)? + end));
        }
        let mut stripe: Vec<&mut [u8]> = parity.iter_mut().filter_map(|parity| parity.get_mut(room + start..room + end)).collect();
        codec.encode_columns(shape, segment, start, &mut stripe)?;
        of_parity.iter_mut().zip(&stripe).for_each(|(hasher, bytes)| hasher.update(bytes));
    }
    let blocks = blocks.values;
    let data = data.into_iter().zip(of_data).map(|(bytes, hasher)| {
        let list = hasher.finish();
        Shard { root: list.root(), len: bytes.len(), payload: PutPayload::from_iter([list.to_bytes().into(), bytes, trailer.clone()]) }
    });
    let mut shards: Vec<Shard> = data.collect();
    for (mut stored, hasher) in parity.into_iter().zip(of_parity) {
        let list = hasher.finish();
        let (front, rest) = stored.split_at_mut(room);
        front.copy_from_slice(&list.to_bytes());
        rest.split_at_mut(width).1.copy_from_slice(trailer);
        shards.push(Shard { root: list.root(), len: width, payload: codec.buffers().lend(stored).into() });
    }
    Ok(Coded { shards, blocks })
}

/// The blocks of the object that a segment holds.
struct Blocks<'a> {
    segment: &'a [u8],
    object: ObjectBlocks,
    values: Vec<[u8; 32]>,
}

impl<'a> Blocks<'a> {
    fn new(segment: &'a [u8], object: ObjectBlocks) -> Self {
        let count = if object == ObjectBlocks::No { 0 } else { segment.len().div_ceil(BLOCK_BYTES) };
        Self { segment, object, values: vec![[0; 32]; count] }
    }

    /// Hashes the blocks that begin in `start..end` of the segment.
    fn hash(&mut self, start: usize, end: usize) {
        for at in start.div_ceil(BLOCK_BYTES)..end.div_ceil(BLOCK_BYTES) {
            let from = at.saturating_mul(BLOCK_BYTES);
            let bytes = self.segment.get(from..self.segment.len().min(from + BLOCK_BYTES)).unwrap_or_default();
            let Some(value) = self.values.get_mut(at) else { continue };
            *value = match self.object {
                ObjectBlocks::No => continue,
                ObjectBlocks::Only => Digest::of(bytes).0,
                ObjectBlocks::From(first) => block_value(first.saturating_add(at as u64), bytes),
            };
        }
    }
}

fn data_shard(shape: SegmentShape, segment: &Bytes, shard: usize) -> Result<Bytes> {
    let range = shape.data_range(shard);
    let (start, end) = (size(range.start)?, size(range.end)?);
    if end > segment.len() {
        return Err(Error::new(ErrorKind::Internal, "a segment does not have the shape of its codec"));
    }
    Ok(segment.slice(start..end))
}

fn size(bytes: u64) -> Result<usize> {
    usize::try_from(bytes).map_err(|e| Error::new(ErrorKind::Internal, "a segment does not fit into memory").caused_by(e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{BlockJoiner, BlockList};
    use crate::erasure::{CodecId, EngineKind, Geometry};

    fn sample(len: usize) -> Bytes {
        (0..len).map(|i| u8::try_from((i * i / 7 + i) % 251).unwrap()).collect()
    }

    /// Around every size at which a stripe, a block or a slice ends.
    fn sizes(k: usize) -> Vec<usize> {
        let ends = [1, 64, 128, BLOCK_BYTES, 2 * BLOCK_BYTES, 64 * k, k * BLOCK_BYTES, 2 * k * BLOCK_BYTES, 5 * BLOCK_BYTES + 4096];
        ends.into_iter().flat_map(|end| [end - 1, end, end + 1]).filter(|len| *len > 0).collect()
    }

    #[test]
    fn one_pass_gives_what_separate_passes_give() {
        for (k, m) in [(1, 0), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3)] {
            let codec = Codec::new(CodecId::new(k, m)).unwrap();
            let reference = Codec::on(CodecId::new(k, m), EngineKind::Portable).unwrap();
            let trailer = Bytes::from_static(b"whose they are");
            for len in sizes(k.into()) {
                let segment = sample(len);
                let shape = Geometry { data: k, parity: m, segment_bytes: len as u64 }.segment(len as u64);
                let object = if len <= BLOCK_BYTES { ObjectBlocks::Only } else { ObjectBlocks::From(0) };
                let coded = code(&codec, shape, &segment, &trailer, object).unwrap();
                let data = (0..shape.data).map(|shard| data_shard(shape, &segment, shard).unwrap().to_vec());
                let shards: Vec<Vec<u8>> = data.chain(reference.encode(shape, &segment).unwrap()).collect();
                assert_eq!(coded.shards.len(), shards.len());
                for (found, shard) in coded.shards.into_iter().zip(shards) {
                    let list = BlockList::of(&shard);
                    assert_eq!((found.root, found.len), (list.root(), shard.len()), "{k}+{m}, {len} bytes");
                    let stored = [list.to_bytes(), shard, trailer.to_vec()].concat();
                    assert_eq!(Bytes::from(found.payload), stored, "{k}+{m}, {len} bytes");
                }
                let mut joiner = BlockJoiner::default();
                coded.blocks.into_iter().for_each(|value| joiner.push(value));
                assert_eq!(joiner.finish(), Digest::of(&segment), "{k}+{m}, {len} bytes");
            }
        }
    }

    #[test]
    fn segments_behind_the_first_hash_their_blocks_of_the_object() {
        let codec = Codec::new(CodecId::new(3, 2)).unwrap();
        let geometry = Geometry { data: 3, parity: 2, segment_bytes: 3 * BLOCK_BYTES as u64 };
        let object = sample(10 * BLOCK_BYTES + 17);
        let mut joiner = BlockJoiner::default();
        for (index, segment) in object.chunks(3 * BLOCK_BYTES).enumerate() {
            let segment = Bytes::copy_from_slice(segment);
            let shape = geometry.segment(segment.len() as u64);
            let coded = code(&codec, shape, &segment, &Bytes::new(), ObjectBlocks::From(3 * index as u64)).unwrap();
            coded.blocks.into_iter().for_each(|value| joiner.push(value));
        }
        assert_eq!(joiner.finish(), Digest::of(&object));
    }
}
