//! Reading shards of one segment: verified blocks from the data shards, and what they lack decoded from others.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

use super::Inner;
use super::hedge::Hedging;
use super::hints::RepairReason;
use super::resolve::Version;
use super::segment::{compute, shard_key};
use crate::digest::{BLOCK_BYTES, BlockList, Digest};
use crate::erasure::{Codec, SegmentShape};
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{Content, Sharded};
use crate::region::Region;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Ranges of one shard, by shard.
pub(super) type Wanted = BTreeMap<usize, Vec<Range<u64>>>;

/// Verified bytes of one shard: sorted pieces that do not touch.
#[derive(Debug, Clone, Default)]
pub(super) struct Held(Vec<(Range<u64>, Bytes)>);

impl Held {
    /// Adds verified pieces; pieces that meet become one, so that a range across them is found.
    fn add(&mut self, pieces: Held) {
        let mut all = std::mem::take(&mut self.0);
        all.extend(pieces.0);
        all.sort_by_key(|(range, _)| range.start);
        for (range, bytes) in all {
            match self.0.last_mut() {
                Some((last, held)) if range.start <= last.end => {
                    // Both were verified against one digest: where they overlap they are equal.
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

    fn bytes(&self) -> u64 {
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

/// One segment of a version, as a reader sees it.
#[derive(Clone)]
pub(super) struct Segment {
    inner: Arc<Inner>,
    version: Arc<Version>,
    index: u64,
    shape: SegmentShape,
}

type Fetch = BoxFuture<'static, (usize, Result<Held>)>;

/// A request that is under way.
struct Asked {
    ranges: Vec<Range<u64>>,
    since: Instant,
    /// From when on others are asked in its place; `None` once nobody is.
    late_at: Option<Instant>,
    /// Whether it is not counted on any more.
    late: bool,
}

/// What a read of a segment knows so far.
struct Reading {
    segment: Segment,
    wanted: Wanted,
    requests: FuturesUnordered<Fetch>,
    held: BTreeMap<usize, Held>,
    failed: BTreeMap<usize, Error>,
    asked: BTreeMap<usize, Asked>,
    /// Shards that the plan goes around; they are asked when all others do not suffice.
    avoided: BTreeSet<usize>,
    /// Once something is to be decoded: the columns that are needed of k shards.
    columns: Option<Range<u64>>,
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

impl Segment {
    pub(super) fn new(inner: &Arc<Inner>, version: &Arc<Version>, index: u64) -> Result<Self> {
        let Content::Shards(sharded) = &version.manifest.content else {
            return Err(Error::new(ErrorKind::Internal, "an inline object has no segments"));
        };
        let shape = Inner::shape(sharded, index);
        Ok(Self { inner: Arc::clone(inner), version: Arc::clone(version), index, shape })
    }

    fn sharded(&self) -> Option<&Sharded> {
        match &self.version.manifest.content {
            Content::Shards(sharded) => Some(sharded),
            Content::Inline(_) | Content::Tombstone => None,
        }
    }

    fn root_and_region(&self, shard: usize) -> Result<(Digest, u8)> {
        self.sharded()
            .and_then(|sharded| sharded.shard(self.index, shard))
            .ok_or_else(|| Error::new(ErrorKind::Corrupt, "a manifest lacks a shard").with("shard", shard))
    }

    pub(super) fn shape(&self) -> SegmentShape {
        self.shape
    }

    pub(super) fn hedging(&self) -> &Hedging {
        &self.inner.hedging
    }

    pub(super) fn region(&self, shard: usize) -> Option<&Arc<Region>> {
        let (_, region) = self.root_and_region(shard).ok()?;
        self.inner.regions.region(region)
    }

    /// Reads the wanted ranges of data shards. Every byte that it returns was verified, or decoded from verified bytes.
    pub(super) async fn read(self, wanted: Wanted) -> Result<BTreeMap<usize, Held>> {
        let plan = self.plan(&wanted);
        let mut reading = Reading {
            segment: self,
            wanted,
            requests: FuturesUnordered::new(),
            held: BTreeMap::new(),
            failed: BTreeMap::new(),
            asked: BTreeMap::new(),
            avoided: plan.avoided,
            columns: None,
        };
        for (shard, ranges) in plan.asked {
            reading.ask(shard, ranges);
        }
        loop {
            let answer = match reading.late_at() {
                Some(at) => timeout_at(at, reading.requests.next()).await,
                None => Ok(reading.requests.next().await),
            };
            match answer {
                Ok(Some((shard, outcome))) => reading.take(shard, outcome),
                Ok(None) => {}
                Err(_) => reading.mark_late(),
            }
            if let Some(held) = reading.advance().await? {
                return Ok(held);
            }
        }
    }

    /// Fetches and verifies whole blocks of one shard: the block list and the ranges in one request.
    async fn fetch(self, shard: usize, ranges: Vec<Range<u64>>) -> Result<Held> {
        let (root, region) = self.root_and_region(shard)?;
        let region = self
            .inner
            .regions
            .region(region)
            .ok_or_else(|| Error::new(ErrorKind::Corrupt, "a manifest names a region that is not in the lake"))?;
        let manifest = &self.version.manifest;
        let slot = self.sharded().map_or(0, |sharded| sharded.shard_slot);
        let key = shard_key(&manifest.write_id, slot, self.index, shard)?;
        let len = self.shape.shard_len(shard);
        let header = len.div_ceil(BLOCK) * Digest::LEN as u64;
        let known = match header {
            // A shard of one block is its own list.
            32 => Some(Arc::new(BlockList::from_bytes(&root.0, len, root)?)),
            _ => self.inner.lists.lock().get(&root).map(Arc::clone),
        };
        let mut request: Vec<Range<u64>> = ranges.iter().map(|range| range.start + header..range.end + header).collect();
        if known.is_none() {
            request.insert(0, 0..header);
        }
        let mut parts = region.get_ranges(&key, &request).await?.into_iter();
        let stored_list = if known.is_none() { parts.next() } else { None };
        let parts: Vec<Bytes> = parts.collect();
        let (list, held) = compute(move || verify(known, stored_list, len, root, ranges, parts)).await?;
        if list.count() > 1 {
            self.inner.lists.lock().put(root, list);
        }
        Ok(held)
    }
}

fn verify(
    known: Option<Arc<BlockList>>,
    stored: Option<Bytes>,
    len: u64,
    root: Digest,
    ranges: Vec<Range<u64>>,
    parts: Vec<Bytes>,
) -> Result<(Arc<BlockList>, Held)> {
    let list = match known {
        Some(list) => list,
        None => Arc::new(BlockList::from_bytes(&stored.unwrap_or_default(), len, root)?),
    };
    if parts.len() != ranges.len() {
        return Err(Error::new(ErrorKind::Corrupt, "a region answered with another number of ranges"));
    }
    let pieces: Vec<(Range<u64>, Bytes)> = ranges.into_iter().zip(parts).collect();
    for (range, bytes) in &pieces {
        let first = usize::try_from(range.start / BLOCK).unwrap_or(usize::MAX);
        let whole = range.end - range.start == bytes.len() as u64;
        if let Some(bad) = if whole { list.first_bad_block(first, bytes) } else { Some(first) } {
            return Err(Error::new(ErrorKind::Corrupt, "a block of a shard contradicts its digest").with("block", bad));
        }
    }
    Ok((list, Held(pieces)))
}

impl Reading {
    fn ask(&mut self, shard: usize, ranges: Vec<Range<u64>>) {
        let ranges = whole_blocks(&ranges, self.segment.shape.shard_len(shard));
        let bytes = ranges.iter().map(|range| range.end - range.start).sum();
        let limit = self.segment.inner.profile.hedge;
        let since = Instant::now();
        let late_at = since + self.segment.region(shard).map_or(limit, |region| region.late_after(bytes, limit));
        self.asked.insert(shard, Asked { ranges: ranges.clone(), since, late_at: Some(late_at), late: false });
        let segment = self.segment.clone();
        self.requests.push(Box::pin(async move { (shard, segment.fetch(shard, ranges).await) }));
    }

    fn take(&mut self, shard: usize, outcome: Result<Held>) {
        self.asked.remove(&shard);
        match outcome {
            // A shard may be asked twice, for its own ranges and for the columns of others.
            Ok(held) => {
                self.segment.hedging().read(held.bytes());
                self.held.entry(shard).or_default().add(held);
            }
            Err(error) => {
                self.note(shard, RepairReason::of(error.kind()));
                self.failed.insert(shard, error);
            }
        }
    }

    /// When the next request is late.
    fn late_at(&self) -> Option<Instant> {
        self.asked.values().filter_map(|asked| asked.late_at).min()
    }

    /// Gives up counting on the requests that are late, as far as the budget lets others be asked in their place.
    fn mark_late(&mut self) {
        let now = Instant::now();
        let late: Vec<usize> =
            self.asked.iter().filter(|(_, asked)| asked.late_at.is_some_and(|at| at <= now)).map(|(shard, _)| *shard).collect();
        for shard in late {
            let extra = self.bytes_without(shard);
            let may = self.segment.hedging().spend(extra);
            let Some(asked) = self.asked.get_mut(&shard) else { continue };
            asked.late_at = None;
            asked.late = may;
            let (waited, bytes) = (now - asked.since, asked.ranges.iter().map(|range| range.end - range.start).sum());
            if may {
                self.segment.hedging().hedged()
            } else {
                self.segment.hedging().refused()
            }
            if let Some(region) = self.segment.region(shard) {
                region.note_late(waited, bytes);
            }
        }
    }

    /// Bytes that are to be asked for, once `late` is not counted on.
    fn bytes_without(&self, late: usize) -> u64 {
        let lost = self.missing().into_iter().filter(|shard| *shard == late || self.is_lost(*shard));
        let Some(columns) = self.span(lost) else { return 0 };
        let shape = self.segment.shape;
        let counted = (0..shape.shards()).filter(|shard| *shard != late && (self.covers(*shard, &columns) || self.comes(*shard, &columns)));
        let lacking = shape.data.saturating_sub(counted.count());
        u64::try_from(lacking).unwrap_or(u64::MAX).saturating_mul(columns.end - columns.start)
    }

    fn note(&self, shard: usize, why: RepairReason) {
        let segment = &self.segment;
        let region = segment.root_and_region(shard).ok().map(|(_, region)| region);
        segment.inner.note(&segment.version.manifest.path, segment.version.manifest.write_id, segment.index, shard, region, why);
    }

    fn has(&self, shard: usize, ranges: &[Range<u64>]) -> bool {
        self.held.get(&shard).is_some_and(|held| ranges.iter().all(|range| held.get(range).is_some()))
    }

    /// The wanted shards whose bytes are not all there.
    fn missing(&self) -> Vec<usize> {
        self.wanted.iter().filter(|(shard, ranges)| !self.has(**shard, ranges)).map(|(shard, _)| *shard).collect()
    }

    /// Whether a missing shard is not counted on: what nobody is asked for does not come by waiting.
    fn is_lost(&self, shard: usize) -> bool {
        self.failed.contains_key(&shard) || self.asked.get(&shard).is_none_or(|asked| asked.late)
    }

    /// Takes the next step. The held bytes, when they are all there is to read.
    async fn advance(&mut self) -> Result<Option<BTreeMap<usize, Held>>> {
        let missing = self.missing();
        if missing.is_empty() {
            return Ok(Some(std::mem::take(&mut self.held)));
        }
        let lost: Vec<usize> = missing.iter().copied().filter(|shard| self.is_lost(*shard)).collect();
        let Some(columns) = (if lost.is_empty() { None } else { self.span(lost.iter().copied()) }) else { return Ok(None) };
        // Once the columns grow, all that was held for less is asked again.
        self.columns = Some(columns.clone());
        let shape = self.segment.shape;
        let covering: Vec<(usize, Bytes)> =
            (0..shape.shards()).filter_map(|shard| Some((shard, self.part(shard, &columns)?))).take(shape.data).collect();
        if covering.len() >= shape.data {
            return self.decode(&columns, covering, &missing, &lost).await;
        }
        self.ask_others(&columns, covering.len())?;
        Ok(None)
    }

    /// The columns to decode for `lost`, those that were decided on before included.
    fn span(&self, lost: impl Iterator<Item = usize>) -> Option<Range<u64>> {
        let shape = self.segment.shape;
        let ranges = lost.filter_map(|shard| Some((shard, self.wanted.get(&shard)?)));
        let wide = ranges.flat_map(|(shard, ranges)| whole_blocks(ranges, shape.shard_len(shard))).chain(self.columns.clone());
        wide.reduce(|all, range| all.start.min(range.start)..all.end.max(range.end))
    }

    /// The bytes of a shard in `columns`, if they are held, or known: shards without bytes there are padding, and nobody has to be asked.
    fn part(&self, shard: usize, columns: &Range<u64>) -> Option<Bytes> {
        let shape = self.segment.shape;
        let part = clip(columns, shape.shard_len(shard));
        if shard < shape.data && part.is_empty() { Some(Bytes::new()) } else { self.held.get(&shard)?.get(&part) }
    }

    fn covers(&self, shard: usize, columns: &Range<u64>) -> bool {
        self.part(shard, columns).is_some()
    }

    /// Whether a request is under way, and counted on, that brings all of `columns`.
    fn comes(&self, shard: usize, columns: &Range<u64>) -> bool {
        let part = clip(columns, self.segment.shape.shard_len(shard));
        let within = |asked: &Asked| asked.ranges.iter().any(|range| range.start <= part.start && part.end <= range.end);
        self.asked.get(&shard).is_some_and(|asked| !asked.late && within(asked))
    }

    /// Asks as many further shards as decoding still lacks, the cheapest first, and those that the plan goes around last.
    fn ask_others(&mut self, columns: &Range<u64>, covered: usize) -> Result<()> {
        let shape = self.segment.shape;
        let mut candidates: Vec<usize> = (0..shape.shards())
            .filter(|shard| !self.failed.contains_key(shard) && !self.asked.contains_key(shard) && !self.covers(*shard, columns))
            .collect();
        candidates.sort_by_key(|shard| (self.avoided.contains(shard), self.segment.rank(*shard), *shard));
        if candidates.is_empty() && self.asked.is_empty() {
            return Err(self.exhausted(covered));
        }
        let coming = (0..shape.shards()).filter(|shard| !self.covers(*shard, columns) && self.comes(*shard, columns)).count();
        for shard in candidates.into_iter().take((shape.data - covered).saturating_sub(coming)) {
            self.ask(shard, vec![columns.clone()]);
        }
        Ok(())
    }

    async fn decode(
        &mut self,
        columns: &Range<u64>,
        covering: Vec<(usize, Bytes)>,
        missing: &[usize],
        lost: &[usize],
    ) -> Result<Option<BTreeMap<usize, Held>>> {
        let shape = self.segment.shape;
        let id = self.segment.sharded().map(|sharded| sharded.codec);
        let codec = match id {
            Some(id) if id != self.segment.inner.codec.id() => Codec::new(id)?,
            _ => self.segment.inner.codec.clone(),
        };
        let roots: Vec<Digest> = lost.iter().map(|shard| Ok(self.segment.root_and_region(*shard)?.0)).collect::<Result<_>>()?;
        let (wanted, range) = (lost.to_vec(), columns.clone());
        let decoded = compute(move || {
            let decoded = codec.decode(shape, range.clone(), &covering, &wanted)?;
            for ((shard, bytes), root) in wanted.iter().zip(&decoded).zip(&roots) {
                let whole = range.start == 0 && bytes.len() as u64 == shape.shard_len(*shard);
                if whole && Digest::of(bytes) != *root {
                    return Err(
                        Error::new(ErrorKind::Corrupt, "verified shards decode to something else than was written").with("shard", *shard)
                    );
                }
            }
            Ok(decoded)
        })
        .await?;
        self.segment.hedging().decoded();
        for (shard, bytes) in lost.iter().zip(decoded) {
            if self.asked.get(shard).is_some_and(|asked| asked.late) {
                self.note(*shard, RepairReason::Slow);
            }
            self.held.insert(*shard, Held(vec![(clip(columns, shape.shard_len(*shard)), bytes)]));
        }
        // The others of the missing shards are still under way.
        let done = missing.iter().all(|shard| lost.contains(shard));
        Ok(done.then(|| std::mem::take(&mut self.held)))
    }

    fn exhausted(&mut self, covered: usize) -> Error {
        let manifest = &self.segment.version.manifest;
        let damaged = self.failed.values().all(|error| matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound));
        let (kind, message) = if damaged {
            (ErrorKind::Corrupt, "too few intact shards are left to read the object")
        } else {
            (ErrorKind::Unavailable, "too few shards can be reached to read the object")
        };
        let error = Error::new(kind, message)
            .with("path", &manifest.path)
            .with("segment", self.segment.index)
            .with("needed", self.segment.shape.data)
            .with("intact", covered);
        std::mem::take(&mut self.failed).into_iter().fold(error, |error, (shard, why)| {
            let region =
                self.segment.root_and_region(shard).ok().and_then(|(_, region)| self.segment.inner.regions.region(region).map(Arc::clone));
            let name = region.map(|region| region.name().to_string()).unwrap_or_default();
            error.with("region", format!("{name}, shard {shard}: {why}"))
        })
    }
}

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
