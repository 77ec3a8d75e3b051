//! Bytes of shards that a reader holds, in whole blocks.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::digest::{BLOCK_BYTES, BlockList};

pub(super) const BLOCK: u64 = BLOCK_BYTES as u64;

/// Ranges of one shard, by shard.
pub(super) type Wanted = BTreeMap<usize, Vec<Range<u64>>>;

/// Bytes of one shard: sorted pieces that do not touch, each of whole blocks.
#[derive(Debug, Clone, Default)]
pub(super) struct Held(pub(super) Vec<(Range<u64>, Bytes)>);

impl Held {
    /// Adds pieces; pieces that meet become one, so that a range across them is found.
    pub(super) fn add(&mut self, pieces: Held) {
        let mut all = std::mem::take(&mut self.0);
        all.extend(pieces.0);
        all.sort_by_key(|(range, _)| range.start);
        for (range, bytes) in all {
            match self.0.last_mut() {
                Some((last, held)) if range.start <= last.end => {
                    // Verified against one digest, they are equal where they overlap.
                    let overlap = usize::try_from(last.end - range.start).unwrap_or(usize::MAX);
                    if let Some(rest) = bytes.get(overlap..).filter(|rest| !rest.is_empty()) {
                        *held = [held.as_ref(), rest].concat().into();
                        last.end = range.end;
                    }
                }
                _ => self.0.push((range, bytes)),
            }
        }
    }

    /// The first block, by its number in the shard, that contradicts `list`.
    pub(super) fn first_bad_block(&self, list: &BlockList) -> Option<usize> {
        self.0.iter().find_map(|(range, bytes)| {
            let first = usize::try_from(range.start / BLOCK).unwrap_or(usize::MAX);
            let whole = range.end - range.start == bytes.len() as u64;
            if whole { list.first_bad_block(first, bytes) } else { Some(first) }
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|(range, _)| range.end - range.start).sum()
    }

    /// The bytes of `range`, if they are held in one piece.
    pub(super) fn get(&self, range: &Range<u64>) -> Option<Bytes> {
        if range.is_empty() {
            return Some(Bytes::new());
        }
        let (held, bytes) = self.0.iter().find(|(held, _)| held.start <= range.start && range.end <= held.end)?;
        let (start, end) = (usize::try_from(range.start - held.start).ok()?, usize::try_from(range.end - held.start).ok()?);
        Some(bytes.slice(start..end))
    }
}

/// Ranges widened to whole blocks of a string of `len` bytes, sorted and joined.
pub(super) fn whole_blocks(ranges: &[Range<u64>], len: u64) -> Vec<Range<u64>> {
    let mut wide: Vec<Range<u64>> = ranges
        .iter()
        .filter(|range| range.start < range.end.min(len))
        .map(|range| range.start / BLOCK * BLOCK..range.end.div_ceil(BLOCK).saturating_mul(BLOCK).min(len))
        .collect();
    wide.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(wide.len());
    for range in wide {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

pub(super) fn clip(columns: &Range<u64>, len: u64) -> Range<u64> {
    columns.start.min(len)..columns.end.min(len)
}

/// Shards that came and were not verified yet: their block lists, which were.
pub(super) type Unverified = BTreeMap<usize, Arc<BlockList>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_that_meet_or_overlap_are_held_as_one() {
        let all = Bytes::from_static(b"0123456789");
        let piece = |range: Range<usize>| (range.start as u64..range.end as u64, all.slice(range));
        let mut held = Held::default();
        held.add(Held(vec![piece(6..8)]));
        held.add(Held(vec![piece(0..3)]));
        assert_eq!(held.get(&(2..7)), None);
        held.add(Held(vec![piece(2..6), piece(1..2)]));
        assert_eq!(held.get(&(0..8)).unwrap(), "01234567");
        assert_eq!(held.get(&(1..9)), None);
        assert_eq!(held.0.len(), 1);
    }
}
