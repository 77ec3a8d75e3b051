//! Reading shards of one segment: verified blocks from the data shards, and what they lack decoded from others.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use object_store::path::Path;
use tokio::time::{Instant, timeout, timeout_at};

use super::Inner;
use super::hedge::Hedging;
use super::held::{BLOCK, Held, Unverified, Wanted, clip, whole_blocks};
use super::hints::RepairReason;
use super::resolve::Version;
use super::segment::{compute, shard_key};
use crate::digest::{BlockList, Digest};
use crate::erasure::{Codec, SegmentShape};
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{Content, Sharded};
use crate::region::Region;

/// One segment of a version, as a reader sees it.
#[derive(Clone)]
pub(super) struct Segment {
    inner: Arc<Inner>,
    version: Arc<Version>,
    index: u64,
    shape: SegmentShape,
}

/// What a region delivered of a shard.
struct Fetched {
    held: Held,
    /// By which it is to be verified before it is used, if it was not.
    unverified: Option<Arc<BlockList>>,
}

/// Where a shard lies and what it is.
pub(super) struct Stored {
    pub(super) root: Digest,
    pub(super) region: Arc<Region>,
    pub(super) key: Path,
    pub(super) len: u64,
    /// Bytes of the block list before it.
    pub(super) header: u64,
}

type Fetch = BoxFuture<'static, (usize, Result<Fetched>)>;

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
pub(super) struct Reading {
    pub(super) segment: Segment,
    wanted: Wanted,
    requests: FuturesUnordered<Fetch>,
    pub(super) held: BTreeMap<usize, Held>,
    /// Parity shards among those that are held: they are never given out, and verified by what is decoded from them.
    pub(super) unverified: Unverified,
    failed: BTreeMap<usize, Error>,
    /// Whether nobody is left to be asked, and too little is held.
    exhausted: bool,
    asked: BTreeMap<usize, Asked>,
    /// Shards that the plan goes around; they are asked when all others do not suffice.
    avoided: BTreeSet<usize>,
    /// Once something is to be decoded: the columns that are needed of k shards.
    columns: Option<Range<u64>>,
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

    pub(super) fn root_and_region(&self, shard: usize) -> Result<(Digest, u8)> {
        self.sharded()
            .and_then(|sharded| sharded.shard(self.index, shard))
            .ok_or_else(|| Error::new(ErrorKind::Corrupt, "a manifest lacks a shard").with("shard", shard))
    }

    pub(super) fn shape(&self) -> SegmentShape {
        self.shape
    }

    /// The codec that the object was written with.
    pub(super) fn codec(&self) -> Result<Codec> {
        self.sharded().map_or_else(|| Ok(self.inner.codec.clone()), |sharded| self.inner.codec_of(sharded.codec))
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
            unverified: Unverified::new(),
            failed: BTreeMap::new(),
            exhausted: false,
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
            match reading.advance().await {
                Ok(None) => {}
                Ok(Some(held)) => return Ok(held),
                Err(error) => return reading.salvage_or(error).await,
            }
        }
    }

    /// The wanted ranges as the regions have them, **unverified**; `None` where a region fails, is late, or is better gone around.
    pub(super) async fn read_as_stored(&self, wanted: &Wanted) -> Option<BTreeMap<usize, Held>> {
        if !self.plan(wanted).avoided.is_empty() {
            return None;
        }
        let shards = wanted.iter().map(|(shard, ranges)| self.shard_as_stored(*shard, ranges));
        join_all(shards).await.into_iter().collect()
    }

    async fn shard_as_stored(&self, shard: usize, ranges: &[Range<u64>]) -> Option<(usize, Held)> {
        let Stored { region, key, header, .. } = self.stored(shard).ok()?;
        let request: Vec<Range<u64>> = ranges.iter().map(|range| range.start + header..range.end + header).collect();
        let bytes = ranges.iter().map(|range| range.end - range.start).sum();
        let limit = region.late_after(bytes, self.inner.profile.hedge);
        let Ok(found) = timeout(limit, region.get_ranges(&key, &request)).await else {
            region.note_late(limit, bytes);
            return None;
        };
        let found = found.ok()?;
        let fits =
            found.len() == ranges.len() && found.iter().zip(ranges).all(|(found, range)| found.len() as u64 == range.end - range.start);
        self.hedging().read(bytes);
        fits.then(|| (shard, Held(ranges.iter().cloned().zip(found).collect())))
    }

    pub(super) fn stored(&self, shard: usize) -> Result<Stored> {
        let (root, region) = self.root_and_region(shard)?;
        let region = self
            .inner
            .regions
            .region(region)
            .ok_or_else(|| Error::new(ErrorKind::Corrupt, "a manifest names a region that is not in the lake"))?;
        let slot = self.sharded().map_or(0, |sharded| sharded.shard_slot);
        let key = shard_key(&self.version.manifest.write_id, slot, self.index, shard)?;
        let len = self.shape.shard_len(shard);
        Ok(Stored { root, region: Arc::clone(region), key, len, header: len.div_ceil(BLOCK) * Digest::LEN as u64 })
    }

    fn known_list(&self, root: Digest, len: u64, header: u64) -> Result<Option<Arc<BlockList>>> {
        match header {
            // A shard of one block is its own list.
            32 => Ok(Some(Arc::new(BlockList::from_bytes(&root.0, len, root)?))),
            _ => Ok(self.inner.lists.lock().get(&root).map(Arc::clone)),
        }
    }

    /// The block list of one shard, which belongs to the root in the manifest. Cost: one GET, if it is not remembered.
    pub(super) async fn block_list(&self, shard: usize) -> Result<Arc<BlockList>> {
        let Stored { root, region, key, len, header } = self.stored(shard)?;
        if let Some(known) = self.known_list(root, len, header)? {
            return Ok(known);
        }
        let stored = region.get_ranges(&key, std::slice::from_ref(&(0..header))).await?.pop().unwrap_or_default();
        let list = Arc::new(BlockList::from_bytes(&stored, len, root)?);
        self.inner.lists.lock().put(root, Arc::clone(&list));
        Ok(list)
    }

    /// Fetches whole blocks of one shard, the block list and the ranges in one request. Data shards are verified; of parity, the list.
    async fn fetch(self, shard: usize, ranges: Vec<Range<u64>>) -> Result<Fetched> {
        let Stored { root, region, key, len, header } = self.stored(shard)?;
        let known = self.known_list(root, len, header)?;
        let mut request: Vec<Range<u64>> = ranges.iter().map(|range| range.start + header..range.end + header).collect();
        if known.is_none() {
            request.insert(0, 0..header);
        }
        let mut parts = region.get_ranges(&key, &request).await?.into_iter();
        let stored_list = if known.is_none() { parts.next() } else { None };
        let parts: Vec<Bytes> = parts.collect();
        if parts.len() != ranges.len() {
            return Err(Error::new(ErrorKind::Corrupt, "a region answered with another number of ranges"));
        }
        let held = Held(ranges.into_iter().zip(parts).collect());
        let is_data = shard < self.shape.data;
        let (list, held) = compute(move || {
            let list = match known {
                Some(list) => list,
                None => Arc::new(BlockList::from_bytes(&stored_list.unwrap_or_default(), len, root)?),
            };
            match if is_data { held.first_bad_block(&list) } else { None } {
                Some(bad) => Err(bad_block(bad)),
                None => Ok((list, held)),
            }
        })
        .await?;
        if list.count() > 1 {
            self.inner.lists.lock().put(root, Arc::clone(&list));
        }
        Ok(Fetched { held, unverified: (!is_data).then_some(list) })
    }
}

pub(super) fn bad_block(block: usize) -> Error {
    Error::new(ErrorKind::Corrupt, "a block of a shard contradicts its digest").with("block", block)
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

    fn take(&mut self, shard: usize, outcome: Result<Fetched>) {
        self.asked.remove(&shard);
        match outcome {
            // A shard may be asked twice, for its own ranges and for the columns of others.
            Ok(Fetched { held, unverified }) => {
                self.segment.hedging().read(held.bytes());
                self.held.entry(shard).or_default().add(held);
                self.unverified.extend(unverified.map(|list| (shard, list)));
            }
            Err(error) => self.fail(shard, error),
        }
    }

    /// What is wanted, decoded block by block, if reading failed with `error` because too few shards are whole. Whole ones that do not belong
    /// together are another matter.
    async fn salvage_or(self, error: Error) -> Result<BTreeMap<usize, Held>> {
        if !self.exhausted || !self.failed.values().any(|error| error.kind() == ErrorKind::Corrupt) {
            return Err(error);
        }
        self.segment.salvage(&self.wanted, None).await.map(|salvaged| salvaged.held).map_err(|_| error)
    }

    /// Nothing that came of this shard is used.
    pub(super) fn fail(&mut self, shard: usize, error: Error) {
        self.note(shard, RepairReason::of(error.kind()));
        self.held.remove(&shard);
        self.unverified.remove(&shard);
        self.failed.insert(shard, error);
    }

    /// Whether a region was given up on that may still answer.
    pub(super) fn is_late(&self, shard: usize) -> bool {
        self.asked.get(&shard).is_some_and(|asked| asked.late)
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

    pub(super) fn note(&self, shard: usize, why: RepairReason) {
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

    /// Takes the next steps. The held bytes, when they are all there is to read.
    async fn advance(&mut self) -> Result<Option<BTreeMap<usize, Held>>> {
        loop {
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
            if covering.len() < shape.data {
                self.ask_others(&columns, covering.len())?;
                return Ok(None);
            }
            if self.decode(&columns, covering, &lost).await? {
                // The others of the missing shards are still under way.
                let done = missing.iter().all(|shard| lost.contains(shard));
                return Ok(done.then(|| std::mem::take(&mut self.held)));
            }
        }
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

    fn exhausted(&mut self, covered: usize) -> Error {
        self.exhausted = true;
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
        self.failed.iter().fold(error, |error, (&shard, why)| {
            let region =
                self.segment.root_and_region(shard).ok().and_then(|(_, region)| self.segment.inner.regions.region(region).map(Arc::clone));
            let name = region.map(|region| region.name().to_string()).unwrap_or_default();
            error.with("region", format!("{name}, shard {shard}: {why}"))
        })
    }
}
