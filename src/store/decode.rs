//! Decoding what is lost of a segment. What is decoded is verified before it is given out.
//!
//! Parity is verified last. Where whole shards are decoded, their own digests say whether all was right, and no byte is hashed that is
//! not asked for; only when they do not is it found out which parity was wrong. Parts of shards have no digest that is known without the
//! lost shard's block list: there, the parity is verified first.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::held::{Held, clip};
use super::hints::RepairReason;
use super::read::{Reading, bad_block};
use super::segment::compute;
use crate::digest::{BlockList, Digest};
use crate::erasure::{Codec, SegmentShape};
use crate::error::{Error, ErrorKind, Result};

/// What decoding came to.
enum Decoded {
    /// The lost shards' bytes, as they were written.
    Right(Vec<Bytes>),
    /// These shards are bad, each with a block of it.
    Bad(Vec<(usize, usize)>),
}

/// All that decoding takes.
struct Work {
    codec: Codec,
    shape: SegmentShape,
    columns: Range<u64>,
    covering: Vec<(usize, Bytes)>,
    lost: Vec<(usize, Digest)>,
    unverified: Vec<(usize, Arc<BlockList>, Held)>,
}

impl Reading {
    /// Decodes the columns of the `lost` shards from k that cover them. False if some of these turned out to be bad: they have failed then.
    pub(super) async fn decode(&mut self, columns: &Range<u64>, covering: Vec<(usize, Bytes)>, lost: &[usize]) -> Result<bool> {
        let shape = self.segment.shape();
        let unverified =
            covering.iter().filter_map(|(shard, _)| Some((*shard, self.unverified.get(shard)?.clone(), self.held.get(shard)?.clone())));
        let work = Work {
            codec: self.segment.codec()?,
            shape,
            columns: columns.clone(),
            unverified: unverified.collect(),
            covering,
            lost: lost.iter().map(|shard| Ok((*shard, self.segment.root_and_region(*shard)?.0))).collect::<Result<_>>()?,
        };
        let decoded = match compute(move || work.run()).await? {
            Decoded::Right(decoded) => decoded,
            Decoded::Bad(bad) => {
                bad.into_iter().for_each(|(shard, block)| self.fail(shard, bad_block(block)));
                return Ok(false);
            }
        };
        self.segment.hedging().decoded();
        for (shard, bytes) in lost.iter().zip(decoded) {
            if self.is_late(*shard) {
                self.note(*shard, RepairReason::Slow);
            }
            self.held.insert(*shard, Held(vec![(clip(columns, shape.shard_len(*shard)), bytes)]));
        }
        Ok(true)
    }
}

impl Work {
    fn run(&self) -> Result<Decoded> {
        let is_whole = |(shard, _): &(usize, Digest)| self.columns.start == 0 && self.columns.end >= self.shape.shard_len(*shard);
        if !self.lost.iter().all(is_whole) {
            let bad = self.bad();
            if !bad.is_empty() {
                return Ok(Decoded::Bad(bad));
            }
        }
        let wanted: Vec<usize> = self.lost.iter().map(|(shard, _)| *shard).collect();
        let mut hashers: Vec<_> = self.lost.iter().map(|lost| is_whole(lost).then(blake3::Hasher::new)).collect();
        let decoded = self.codec.decode_seen(self.shape, self.columns.clone(), &self.covering, &wanted, |place, bytes| {
            if let Some(Some(hasher)) = hashers.get_mut(place) {
                hasher.update(bytes);
            }
        })?;
        for ((shard, root), hasher) in self.lost.iter().zip(hashers) {
            if hasher.is_none_or(|hasher| hasher.finalize().as_bytes() == &root.0) {
                continue;
            }
            let bad = self.bad();
            if bad.is_empty() {
                let what = "verified shards decode to something else than was written";
                return Err(Error::new(ErrorKind::Corrupt, what).with("shard", shard));
            }
            return Ok(Decoded::Bad(bad));
        }
        Ok(Decoded::Right(decoded))
    }

    /// The bad ones of the shards that were not verified yet.
    fn bad(&self) -> Vec<(usize, usize)> {
        let bad = |(shard, list, held): &(usize, Arc<BlockList>, Held)| Some((*shard, held.first_bad_block(list)?));
        self.unverified.iter().filter_map(bad).collect()
    }
}
