//! Reads that release a byte only after the block it stands in was verified.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};

use super::damage::{Damage, Located, Place, places_of};
use super::incident::{Action, Incident};
use super::objects::{Content, Object, TrimmedObject};
use super::{OnDifference, Shared};
use crate::ask::named_version;
use crate::baseline::compare_file;
use crate::digest::{BLOCK_BYTES, BlockHasher, BlockList};
use crate::error::{Error, ErrorKind, Result};
use crate::store::unverified_ranges;

pub(super) const BLOCK: u64 = BLOCK_BYTES as u64;

/// Why a mode that delivers what differs refuses a file.
const OTHER_SIZE: &str =
    "only files of the sealed size are delivered as they are: with SET lakeseal.verify = 'off' the table is read as it is";

impl Shared {
    /// The object's block list: from evidence, or made while reading the object once when only its digest is pinned.
    pub(super) async fn blocks(&self, object: &Object) -> Result<Arc<BlockList>> {
        let made = object.blocks.get_or_try_init(|| async {
            if let Some(known) = object.known_blocks() {
                return Ok(Arc::new(known?));
            }
            let Content::Sealed(file) = &object.content else { return self.hash_whole(object).await.map(Arc::new) };
            match self.repository.blocks(file).await {
                Ok(list) => Ok(Arc::new(list)),
                // The list is no secret and no authority: it can be made anew from bytes that have the sealed digest.
                Err(error) if self.view.on_difference == OnDifference::Heal && !error.is_retryable() => {
                    self.hash_whole(object).await.map(Arc::new)
                }
                Err(error) => Err(error),
            }
        });
        made.await.cloned()
    }

    async fn hash_whole(&self, object: &Object) -> Result<BlockList> {
        let mut hasher = BlockHasher::new();
        let trouble = match self.store.get(&object.path).await {
            Ok(result) => {
                let mut stream = result.into_stream();
                let mut read = 0_u64;
                while let Some(bytes) = stream.try_next().await? {
                    hasher.update(&bytes);
                    read = read.saturating_add(bytes.len() as u64);
                    // What is longer is another object, however long.
                    if read > object.size {
                        break;
                    }
                }
                Trouble::Bytes(0..object.size)
            }
            Err(error) => self.trouble(object, error).await?,
        };
        let list = hasher.finish();
        if list.len() == object.size && Some(list.root()) == object.digest() {
            return Ok(list);
        }
        if let (OnDifference::Heal, Some(digest)) = (self.view.on_difference, object.digest())
            && let Some(list) = self.healed_blocks(object, digest).await?
        {
            return Ok(list);
        }
        Err(self.refuse(object, &trouble).await)
    }

    /// Some ranges of an object, each verified.
    pub(super) async fn read_ranges(&self, object: &Object, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        check_ranges(object, ranges)?;
        match &object.content {
            Content::Later => match self.store.get_ranges(&object.path, ranges).await {
                Err(object_store::Error::NotFound { .. }) => Err(self.refuse(object, &Trouble::Missing).await),
                found => Ok(found?),
            },
            Content::Own(bytes) => Ok(ranges.iter().map(|range| slice(bytes, range)).collect()),
            Content::Trimmed(file) => self.read_trimmed(file, ranges).await,
            Content::Pinned(_) | Content::Vector(_) | Content::Sealed(_) => self.read_verified(object, ranges).await,
        }
    }

    /// What stands before the stored footer comes from the found file, as it was examined; the footer is ours.
    async fn read_trimmed(&self, file: &TrimmedObject, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let cut = file.trimmed.cut;
        let stored: Vec<Range<u64>> = ranges.iter().map(|range| range.start.min(cut)..range.end.min(cut)).collect();
        let found = self.read_verified(&file.base, &stored).await?;
        let footer = |range: &Range<u64>| slice(&file.trimmed.footer, &(range.start.max(cut) - cut..range.end.max(cut) - cut));
        let joined = found.into_iter().zip(ranges).map(|(stored, range)| match (stored.is_empty(), footer(range)) {
            (true, own) => own,
            (false, own) if own.is_empty() => stored,
            (false, own) => [stored, own].concat().into(),
        });
        Ok(joined.collect())
    }

    /// Fetches the union of the blocks that the ranges touch and that are not at hand.
    async fn read_verified(&self, object: &Object, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let blocks = self.blocks(object).await?;
        let mut pieces = BTreeMap::new();
        let mut wanted: Vec<Range<u64>> = Vec::new();
        for index in touched(ranges) {
            match self.cache.lock().get(&(object.path.clone(), index)) {
                Some(bytes) => drop(pieces.insert(index * BLOCK, bytes.clone())),
                None => match wanted.last_mut() {
                    Some(run) if run.end == index => run.end += 1,
                    _ => wanted.push(index..index + 1),
                },
            }
        }
        let spans: Vec<Range<u64>> = wanted.iter().map(|run| run.start * BLOCK..(run.end * BLOCK).min(object.size)).collect();
        let mut open = Vec::new();
        for (span, bytes) in spans.iter().zip(self.unverified(object, &spans).await) {
            match bytes.filter(|bytes| difference(object, &blocks, span, bytes).is_none()) {
                Some(bytes) => drop(pieces.insert(span.start, bytes)),
                None => open.push(span.clone()),
            }
        }
        if !open.is_empty() {
            let fetched: Vec<Result<Bytes, Trouble>> = match self.store.get_ranges(&object.path, &open).await {
                Ok(fetched) => fetched.into_iter().map(Ok).collect(),
                Err(error) => {
                    let trouble = self.trouble(object, error).await?;
                    open.iter().map(|_| Err(trouble.clone())).collect()
                }
            };
            for (span, fetched) in open.iter().zip(fetched) {
                pieces.insert(span.start, self.settled(object, &blocks, span, fetched).await?);
            }
        }
        self.keep_edges(object, ranges, &pieces);
        ranges.iter().map(|range| assemble(&pieces, range)).collect()
    }

    /// The bytes of some spans of the version that the query's first read found, where that is not to be asked again: as the regions of a lake
    /// have them. They are used where they are the sealed ones; all others are read anew, with whatever their store does about regions that lie.
    ///
    /// A lake that retains versions is asked once a query which is the newest, and not at every read: what is written meanwhile is met by the
    /// next query, and sealed bytes are the same in any.
    async fn unverified(&self, object: &Object, spans: &[Range<u64>]) -> Vec<Option<Bytes>> {
        let nothing = vec![None; spans.len()];
        if spans.is_empty() {
            return nothing;
        }
        let Some(version) = self.version_in_query(object).await else { return nothing };
        match unverified_ranges(self.store.as_ref(), &object.path, &version, spans).await {
            Some(Ok(found)) if found.len() == spans.len() => found.into_iter().map(Some).collect(),
            Some(_) => nothing,
            None => {
                self.retains.store(false, Ordering::Relaxed);
                nothing
            }
        }
    }

    async fn version_in_query(&self, object: &Object) -> Option<String> {
        let query = self.query.load(Ordering::Relaxed);
        let pins = query > 0 && self.retains.load(Ordering::Relaxed) && matches!(object.content, Content::Sealed(_));
        if !pins {
            return None;
        }
        let seen = object.seen.lock().clone();
        if let Some((_, version)) = seen.filter(|(at, _)| *at == query) {
            return Some(version);
        }
        let meta = self.store.head(&object.path).await.ok()?;
        match named_version(meta.version.as_deref()).map(str::to_owned) {
            Some(version) => {
                *object.seen.lock() = Some((query, version.clone()));
                Some(version)
            }
            None => {
                self.retains.store(false, Ordering::Relaxed);
                None
            }
        }
    }

    /// The bytes of whole blocks to be released for what was fetched: the same when they are the sealed ones, else as the view says.
    async fn settled(&self, object: &Object, blocks: &BlockList, span: &Range<u64>, fetched: Result<Bytes, Trouble>) -> Result<Bytes> {
        let (found, trouble) = match fetched {
            Ok(bytes) => match difference(object, blocks, span, &bytes) {
                None => return Ok(bytes),
                Some(bad) => (Some(bytes), Trouble::Bytes(bad)),
            },
            Err(trouble) => (None, trouble),
        };
        match (self.view.on_difference, &object.content, found) {
            (OnDifference::Heal, ..) => match self.healed(object, blocks, span).await? {
                Some(bytes) => Ok(bytes),
                None => {
                    let why = self.why_not_healed(object).await;
                    Err(self.refuse(object, &trouble).await.with("heal", why))
                }
            },
            (OnDifference::Deliver, Content::Sealed(file), Some(bytes)) => {
                let located = self.located(object).await;
                if located.other_size || bytes.len() as u64 != span.end - span.start {
                    return Err(self.refuse(object, &Trouble::Size).await);
                }
                let bad = bad_blocks(blocks, span, &bytes);
                let groups = self.evidence.row_groups(&self.repository, file).await.unwrap_or_default();
                let near = bad.iter().flat_map(|bad| places_of(groups, bad)).collect();
                let places = located.of_blocks(near);
                let damage = self.damage(object, places, "the bytes are not the sealed ones, and were delivered as they are");
                self.recorder.count_delivered(bad.len() as u64);
                self.view.reports.add(Incident { action: Action::Delivered, damage, source: None });
                Ok(bytes)
            }
            _ => Err(self.refuse(object, &trouble).await),
        }
    }

    /// Blocks of which only a part was asked for are likely to be asked for again: the next column chunk begins in them.
    fn keep_edges(&self, object: &Object, ranges: &[Range<u64>], pieces: &BTreeMap<u64, Bytes>) {
        let mut cache = self.cache.lock();
        for range in ranges.iter().filter(|range| range.start < range.end) {
            for index in [range.start / BLOCK, (range.end - 1) / BLOCK] {
                let block = index * BLOCK..((index + 1) * BLOCK).min(object.size);
                if block.start >= range.start && block.end <= range.end {
                    continue;
                }
                if let Ok(bytes) = assemble(pieces, &block) {
                    // A copy, so that a small block does not keep a large fetch alive.
                    cache.put((object.path.clone(), index), Bytes::copy_from_slice(&bytes));
                }
            }
        }
    }

    /// Whether something else than refusing may be done about a difference.
    pub(super) fn settles(&self) -> bool {
        self.view.on_difference != OnDifference::Refuse
    }

    /// What it means that the store could not deliver an object: gone, or of another size, is a difference; unreachable is an error.
    pub(super) async fn trouble(&self, object: &Object, error: object_store::Error) -> Result<Trouble> {
        if matches!(object.content, Content::Later) {
            return if matches!(error, object_store::Error::NotFound { .. }) { Ok(Trouble::Missing) } else { Err(error.into()) };
        }
        match self.store.head(&object.path).await {
            Ok(meta) if meta.size != object.size => Ok(Trouble::Size),
            Err(object_store::Error::NotFound { .. }) => Ok(Trouble::Missing),
            _ => Err(error.into()),
        }
    }

    pub(super) async fn unreadable(&self, object: &Object, error: object_store::Error) -> Error {
        match self.trouble(object, error).await {
            Ok(trouble) => self.refuse(object, &trouble).await,
            Err(error) => error,
        }
    }

    async fn refuse(&self, object: &Object, trouble: &Trouble) -> Error {
        match trouble {
            Trouble::Missing if matches!(object.content, Content::Later) => {
                let what = match self.evidence.is_of_baseline() {
                    true => "a commit after the baseline names a file that is not there: it was taken away since, or never was",
                    false => "the table names a file that is not there: it was taken away, or never was (no baseline says which)",
                };
                self.report(object, Vec::new(), what)
            }
            Trouble::Missing if matches!(object.content, Content::Vector(_)) => {
                self.report(object, Vec::new(), "the file of a sealed deletion vector is missing: nothing else says which rows are deleted")
            }
            Trouble::Missing => self.report(object, Vec::new(), "a sealed file is missing"),
            Trouble::Size => self.differs(object, None).await,
            Trouble::Bytes(bad) => self.differs(object, Some(bad.clone())).await,
        }
    }

    /// Where an object differs from its evidence.
    ///
    /// The first reader that meets a damaged file pays for reading it whole, so that row group and column can be named by their
    /// values even when the file was written anew with other offsets.
    async fn located<'a>(&self, object: &'a Object) -> &'a Located {
        let locate = || async {
            let Content::Sealed(file) = &object.content else { return Located::default() };
            let Some(file) = self.evidence.whole(&self.repository, file).await else { return Located::default() };
            let found = compare_file(&self.repository, &self.schema, self.row_key, &file).await;
            let mut places: Vec<Place> = found.iter().map(|finding| (finding.row_group, finding.column.clone())).collect();
            places.retain(|place| place.0.is_some());
            let other_size = self.store.head(&object.path).await.is_ok_and(|meta| meta.size != object.size);
            Located { places, detail: found.into_iter().next().map(|finding| finding.detail), other_size }
        };
        object.located.get_or_init(locate).await
    }

    /// The error for bytes that are not the sealed ones, placed as exactly as can be found out.
    pub(super) async fn differs(&self, object: &Object, bad: Option<Range<u64>>) -> Error {
        let damage = object
            .damage
            .get_or_init(|| async {
                let located = self.located(object).await;
                let mut places = located.places.clone();
                let mut detail = "the bytes of a file are not the sealed ones".to_owned();
                if let Some(first) = &located.detail {
                    detail = format!("a file differs from what was sealed: {first}");
                }
                if located.other_size && self.view.on_difference == OnDifference::Deliver {
                    detail = format!("{detail}; {OTHER_SIZE}");
                }
                if let (true, Content::Sealed(file), Some(bad)) = (places.is_empty(), &object.content, &bad) {
                    places = places_of(self.evidence.row_groups(&self.repository, file).await.unwrap_or_default(), bad);
                }
                match object.content {
                    Content::Pinned(_) => detail = "an object changed after it was read and compared".to_owned(),
                    Content::Vector(_) => {
                        detail = "the file of a deletion vector is not the one that was sealed: other rows would be deleted".to_owned();
                    }
                    _ => {}
                }
                self.damage(object, places, &detail)
            })
            .await;
        self.refused(damage);
        damage.to_error()
    }

    fn report(&self, object: &Object, places: Vec<(Option<u32>, Option<String>)>, detail: &str) -> Error {
        let damage = self.damage(object, places, detail);
        self.refused(&damage);
        damage.to_error()
    }

    fn refused(&self, damage: &Damage) {
        self.recorder.record(damage);
        self.view.reports.add(Incident { action: Action::Refused, damage: damage.clone(), source: None });
    }

    pub(super) fn damage(&self, object: &Object, places: Vec<(Option<u32>, Option<String>)>, detail: &str) -> Damage {
        Damage { table: self.name.clone(), file: object.shown().to_owned(), places, detail: detail.to_owned() }
    }
}

/// What is wrong with an object.
#[derive(Debug, Clone)]
pub(super) enum Trouble {
    /// These bytes of it are not the sealed ones.
    Bytes(Range<u64>),
    /// It is gone.
    Missing,
    /// It has another size.
    Size,
}

/// The range of the first block that differs, or of all when there are too few bytes.
pub(super) fn difference(object: &Object, blocks: &BlockList, span: &Range<u64>, bytes: &Bytes) -> Option<Range<u64>> {
    if bytes.len() as u64 != span.end - span.start {
        return Some(span.clone());
    }
    if bytes.is_empty() && object.size == 0 {
        return None;
    }
    let first = usize::try_from(span.start / BLOCK).unwrap_or(usize::MAX);
    blocks.first_bad_block(first, bytes).map(|bad| blocks.range(bad))
}

/// The ranges of all blocks that differ.
fn bad_blocks(blocks: &BlockList, span: &Range<u64>, bytes: &Bytes) -> Vec<Range<u64>> {
    let first = usize::try_from(span.start / BLOCK).unwrap_or(usize::MAX);
    let indexed = bytes.chunks(BLOCK_BYTES).enumerate().map(|(i, block)| (first.saturating_add(i), block));
    indexed.filter(|(index, block)| !blocks.verify_block(*index, block)).map(|(index, _)| blocks.range(index)).collect()
}

/// A range that was checked before.
fn slice(bytes: &Bytes, range: &Range<u64>) -> Bytes {
    let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(at(range.start)..at(range.end))
}

pub(super) fn check_ranges(object: &Object, ranges: &[Range<u64>]) -> Result<()> {
    match ranges.iter().find(|range| range.start > range.end || range.end > object.size) {
        None => Ok(()),
        Some(range) => Err(Error::new(ErrorKind::InvalidInput, "the range lies beyond the object's end")
            .with("file", object.shown())
            .with("range", format!("{}..{}", range.start, range.end))
            .with("size", object.size)),
    }
}

/// The indexes of all blocks that the ranges touch, ascending, each once.
fn touched(ranges: &[Range<u64>]) -> impl Iterator<Item = u64> {
    let mut spans: Vec<Range<u64>> =
        ranges.iter().filter(|range| range.start < range.end).map(|range| range.start / BLOCK..range.end.div_ceil(BLOCK)).collect();
    spans.sort_unstable_by_key(|span| span.start);
    let mut next = 0;
    spans.into_iter().flat_map(move |span| {
        let fresh = span.start.max(next)..span.end;
        next = next.max(span.end);
        fresh
    })
}

/// The bytes of `range` out of verified pieces by offset; without a copy when one piece holds them all.
fn assemble(pieces: &BTreeMap<u64, Bytes>, range: &Range<u64>) -> Result<Bytes> {
    let mut out = BytesMut::new();
    let mut at = range.start;
    while at < range.end {
        let piece = pieces.range(..=at).next_back().filter(|(start, bytes)| at < *start + bytes.len() as u64);
        let Some((start, bytes)) = piece else {
            return Err(Error::new(ErrorKind::Internal, "a verified block is not at hand").with("offset", at));
        };
        let to = range.end.min(start + bytes.len() as u64);
        let offset = |position: u64| usize::try_from(position - start).unwrap_or(usize::MAX);
        let part = bytes.slice(offset(at)..offset(to));
        if at == range.start && to == range.end {
            return Ok(part);
        }
        out.extend_from_slice(&part);
        at = to;
    }
    Ok(out.freeze())
}
