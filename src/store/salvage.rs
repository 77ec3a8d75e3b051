//! Decoding block by block, where fewer than k shards of a segment are whole.
//!
//! A shard is damaged in places. A code works on every byte of the shards by itself, so that a block can be decoded as long as k of those
//! that lie over one another are right: one bad block in each of more than m shards is no loss, unless they meet.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures::future::join_all;

use super::held::{BLOCK, Held, Wanted, clip, whole_blocks};
use super::pace::Pace;
use super::read::{Segment, Stored};
use super::segment::compute;
use crate::digest::{BlockList, Digest};
use crate::erasure::{Codec, SegmentShape};
use crate::error::{Error, ErrorKind, Result};
use crate::format::trailer::TRAILER_LIMIT_BYTES;

/// What was decoded.
pub(super) struct Salvaged {
    /// The wanted ranges, in whole blocks.
    pub(super) held: BTreeMap<usize, Held>,
    /// How many further blocks may be lost in the worst of the columns that were looked at.
    pub(super) margin: i64,
}

/// The bytes of one stored shard, its block list, and which of its blocks are right.
struct Judged {
    shard: usize,
    data: Bytes,
    list: BlockList,
    right: Vec<bool>,
}

impl Segment {
    /// The wanted ranges of data shards, from every block that verifies by itself. For when reading shard by shard has failed.
    ///
    /// Cost: every stored shard of the segment is read whole, one request each. Memory: these, and the wanted bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when fewer than k blocks of a column are right, [`ErrorKind::Unavailable`] when those of regions that failed
    /// could make up for it.
    pub(super) async fn salvage(&self, wanted: &Wanted, pace: Option<&Pace>) -> Result<Salvaged> {
        let (shape, codec) = (self.shape(), self.codec()?);
        let stored: Vec<usize> = (0..shape.shards()).filter(|shard| shape.shard_len(*shard) > 0).collect();
        let answers = join_all(stored.into_iter().map(|shard| self.stored_shard(shard, pace))).await;
        let is_silent = |error: &Error| !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt);
        let failed = answers.iter().filter(|answer| answer.as_ref().is_err_and(is_silent)).count();
        let found: Vec<(usize, Digest, u64, Bytes)> = answers.into_iter().flatten().collect();
        let wanted = wanted.clone();
        let roots = wanted.keys().map(|shard| Ok((*shard, self.root_and_region(*shard)?.0))).collect::<Result<BTreeMap<_, _>>>()?;
        compute(move || {
            let judged: Vec<Judged> = found.into_iter().filter_map(|(shard, root, len, bytes)| judge(shard, root, len, &bytes)).collect();
            decode(&codec, shape, &judged, &wanted, &roots, failed)
        })
        .await
    }

    /// Every stored byte of the data shards, as what is wanted.
    pub(super) fn all_data(&self) -> Wanted {
        let shape = self.shape();
        let len = |shard: usize| Some(shape.shard_len(shard)).filter(|len| *len > 0);
        (0..shape.data).filter_map(|shard| len(shard).map(|len| (shard, std::iter::once(0..len).collect()))).collect()
    }

    /// What a region holds of a shard, from its block list on and however long, within what a shard may take.
    async fn stored_shard(&self, shard: usize, pace: Option<&Pace>) -> Result<(usize, Digest, u64, Bytes)> {
        let Stored { root, region, key, len, header } = self.stored(shard)?;
        let limit = header.saturating_add(len).saturating_add(TRAILER_LIMIT_BYTES as u64);
        if let Some(pace) = pace {
            pace.take(header.saturating_add(len)).await;
        }
        let found = region.get(&key, limit).await?;
        let found = found.ok_or_else(|| Error::new(ErrorKind::NotFound, "the region does not have the shard").with("shard", shard))?;
        Ok((shard, root, len, found))
    }
}

/// Which blocks are right; `None` where nothing says so, because the block list is damaged as well.
fn judge(shard: usize, root: Digest, len: u64, stored: &Bytes) -> Option<Judged> {
    let to_usize = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let header = to_usize(len.div_ceil(BLOCK).checked_mul(Digest::LEN as u64)?);
    let data = stored.slice(header.min(stored.len())..header.saturating_add(to_usize(len)).min(stored.len()));
    let list = BlockList::from_bytes(stored.get(..header)?, len, root).ok();
    // The list may be what is damaged, and the bytes well.
    let list = list.or_else(|| Some(BlockList::of(&data)).filter(|own| own.root() == root && own.len() == len))?;
    let is_right = |block: usize| {
        let Range { start, end } = list.range(block);
        data.get(to_usize(start)..to_usize(end)).is_some_and(|bytes| list.verify_block(block, bytes))
    };
    let right = (0..list.count()).map(is_right).collect();
    Some(Judged { shard, data, list, right })
}

/// Decodes the wanted ranges, blocks of which the same shards are right at one time.
fn decode(
    codec: &Codec,
    shape: SegmentShape,
    judged: &[Judged],
    wanted: &Wanted,
    roots: &BTreeMap<usize, Digest>,
    failed: usize,
) -> Result<Salvaged> {
    let mut margin = i64::MAX;
    let mut held = BTreeMap::new();
    for (shard, ranges) in wanted {
        let mut pieces = Vec::new();
        for range in whole_blocks(ranges, shape.shard_len(*shard)) {
            let mut bytes = BytesMut::with_capacity(usize::try_from(range.end - range.start).unwrap_or_default());
            let mut at = range.start;
            while at < range.end {
                let right = right_at(shape, judged, at);
                if right.len() < shape.data {
                    return Err(too_few(shape, at, right.len(), failed));
                }
                margin = margin.min(i64::try_from(right.len() - shape.data).unwrap_or(i64::MAX));
                let mut end = at + BLOCK;
                while end < range.end && right_at(shape, judged, end) == right {
                    end += BLOCK;
                }
                let columns = at..end.min(range.end);
                bytes.extend_from_slice(&decode_columns(codec, shape, judged, &right, columns.clone(), *shard)?);
                at = columns.end;
            }
            let bytes = bytes.freeze();
            check_decoded(shape, judged, *shard, roots.get(shard), &range, &bytes)?;
            pieces.push((range, bytes));
        }
        held.insert(*shard, Held(pieces));
    }
    Ok(Salvaged { held, margin })
}

/// Holds what was decoded against whatever is known of the shard: its block list, or the digest of the whole. Blocks that are right in shards that do
/// not belong together decode to something else.
fn check_decoded(
    shape: SegmentShape,
    judged: &[Judged],
    shard: usize,
    root: Option<&Digest>,
    range: &Range<u64>,
    bytes: &Bytes,
) -> Result<()> {
    let first = usize::try_from(range.start / BLOCK).unwrap_or(usize::MAX);
    let is_whole = *range == (0..shape.shard_len(shard));
    let is_wrong = match judged.iter().find(|judged| judged.shard == shard) {
        Some(judged) => judged.list.first_bad_block(first, bytes).is_some(),
        None => is_whole && root.is_some_and(|root| Digest::of(bytes) != *root),
    };
    match is_wrong {
        false => Ok(()),
        true => {
            let what = "verified blocks decode to something else than was written";
            Err(Error::new(ErrorKind::Corrupt, what).with("shard", shard))
        }
    }
}

/// The shards whose block at this place of the shard is right, or padding, which everybody knows.
fn right_at(shape: SegmentShape, judged: &[Judged], at: u64) -> Vec<usize> {
    let block = usize::try_from(at / BLOCK).unwrap_or(usize::MAX);
    let is_padding = |shard: usize| shard < shape.data && shape.shard_len(shard) <= at;
    let is_right = |shard: usize| judged.iter().any(|judged| judged.shard == shard && judged.right.get(block) == Some(&true));
    (0..shape.shards()).filter(|shard| is_padding(*shard) || is_right(*shard)).collect()
}

fn decode_columns(
    codec: &Codec,
    shape: SegmentShape,
    judged: &[Judged],
    right: &[usize],
    columns: Range<u64>,
    wanted: usize,
) -> Result<Bytes> {
    let part = |judged: &Judged| {
        let Range { start, end } = clip(&columns, shape.shard_len(judged.shard));
        let part = judged.data.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)?;
        Some((judged.shard, judged.data.slice_ref(part)))
    };
    // Padding among the shards that are right is known to the codec.
    let given: Vec<(usize, Bytes)> = judged.iter().filter(|judged| right.contains(&judged.shard)).filter_map(part).collect();
    let decoded = codec.decode(shape, columns.clone(), &given, &[wanted])?;
    decoded.into_iter().next().ok_or_else(|| Error::new(ErrorKind::Internal, "nothing was decoded").with("shard", wanted))
}

fn too_few(shape: SegmentShape, at: u64, right: usize, failed: usize) -> Error {
    let (kind, what) = if right + failed < shape.data {
        (ErrorKind::Corrupt, "too few blocks are intact to decode a column")
    } else {
        (ErrorKind::Unavailable, "too few blocks can be reached to decode a column")
    };
    Error::new(kind, what).with("block", at / BLOCK).with("needed", shape.data).with("intact", right)
}
