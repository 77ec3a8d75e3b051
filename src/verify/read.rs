//! Reads that release a byte only after the block it stands in was verified.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};

use super::Shared;
use super::damage::{Damage, places_of};
use super::objects::{Content, Object};
use crate::baseline::compare_file;
use crate::digest::{BLOCK_BYTES, BlockHasher, BlockList};
use crate::error::{Error, ErrorKind, Result};

const BLOCK: u64 = BLOCK_BYTES as u64;

impl Shared {
    /// The object's block list: from evidence, or made while reading the object once when only its digest is pinned.
    pub(super) async fn blocks(&self, object: &Object) -> Result<Arc<BlockList>> {
        let made = object.blocks.get_or_try_init(|| async {
            if let Some(known) = object.known_blocks() {
                return Ok(Arc::new(known?));
            }
            match &object.content {
                Content::Sealed(file) => Ok(Arc::new(self.repository.blocks(file).await?)),
                _ => self.hash_whole(object).await.map(Arc::new),
            }
        });
        made.await.cloned()
    }

    async fn hash_whole(&self, object: &Object) -> Result<BlockList> {
        let mut stream = self.store.get(&object.path).await?.into_stream();
        let mut hasher = BlockHasher::new();
        while let Some(bytes) = stream.try_next().await? {
            hasher.update(&bytes);
        }
        let list = hasher.finish();
        if list.len() == object.size && Some(list.root()) == object.digest() {
            return Ok(list);
        }
        Err(self.differs(object, None).await)
    }

    /// Some ranges of an object, each verified: fetches the union of the blocks that they touch and that are not at hand.
    pub(super) async fn read_ranges(&self, object: &Object, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        check_ranges(object, ranges)?;
        if matches!(object.content, Content::Later) {
            return Ok(self.store.get_ranges(&object.path, ranges).await?);
        }
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
        if !spans.is_empty() {
            let fetched = match self.store.get_ranges(&object.path, &spans).await {
                Ok(fetched) => fetched,
                Err(error) => return Err(self.unreadable(object, error).await),
            };
            for (span, bytes) in spans.iter().zip(fetched) {
                self.verify_span(object, &blocks, span, &bytes).await?;
                pieces.insert(span.start, bytes);
            }
        }
        self.keep_edges(object, ranges, &pieces);
        ranges.iter().map(|range| assemble(&pieces, range)).collect()
    }

    async fn verify_span(&self, object: &Object, blocks: &BlockList, span: &Range<u64>, bytes: &Bytes) -> Result<()> {
        if bytes.len() as u64 != span.end - span.start {
            return Err(self.differs(object, Some(span.clone())).await);
        }
        let first = usize::try_from(span.start / BLOCK).unwrap_or(usize::MAX);
        if bytes.is_empty() && object.size == 0 {
            return Ok(());
        }
        match blocks.first_bad_block(first, bytes) {
            None => Ok(()),
            Some(bad) => Err(self.differs(object, Some(blocks.range(bad))).await),
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

    /// A range of an object as a stream of verified blocks. Holds one block at a time.
    pub(super) async fn read_stream(self: &Arc<Self>, object_path: &Path, range: Range<u64>) -> Result<BoxStream<'static, Result<Bytes>>> {
        let shared = self.clone();
        let path = object_path.clone();
        let object = shared.object(&path)?;
        check_ranges(object, std::slice::from_ref(&range))?;
        if range.start == range.end && object.size > 0 {
            return Ok(futures::stream::empty().boxed());
        }
        let aligned = (range.start / BLOCK) * BLOCK..range.end.next_multiple_of(BLOCK).min(object.size);
        let blocks = match object.content {
            Content::Later => None,
            _ => Some(shared.blocks(object).await?),
        };
        let options = GetOptions { range: (object.size > 0).then(|| GetRange::Bounded(aligned.clone())), ..GetOptions::default() };
        let inner = match shared.store.get_opts(&path, options).await {
            Ok(result) => result.into_stream(),
            Err(error) => return Err(shared.unreadable(object, error).await),
        };
        let state = Reading {
            shared: self.clone(),
            path,
            blocks,
            inner,
            buffer: BytesMut::new(),
            at: aligned.start,
            end: aligned.end,
            ended: false,
        };
        let stream = futures::stream::try_unfold(state, move |mut state| {
            let range = range.clone();
            async move {
                let start = state.at;
                let Some(bytes) = state.next_block().await? else { return Ok(None) };
                let end = start + bytes.len() as u64;
                let from = usize::try_from(range.start.saturating_sub(start)).unwrap_or(usize::MAX).min(bytes.len());
                let to = bytes.len() - usize::try_from(end.saturating_sub(range.end)).unwrap_or(usize::MAX).min(bytes.len());
                Ok(Some((bytes.slice(from..to.max(from)), state)))
            }
        });
        Ok(stream.boxed())
    }

    /// The store could not deliver a sealed object: gone, or shorter than it was, is a difference; unreachable is not.
    async fn unreadable(&self, object: &Object, error: object_store::Error) -> Error {
        if matches!(object.content, Content::Later) {
            return error.into();
        }
        match self.store.head(&object.path).await {
            Ok(meta) if meta.size != object.size => self.differs(object, None).await,
            Err(object_store::Error::NotFound { .. }) => self.report(object, Vec::new(), "a sealed file is missing"),
            _ => error.into(),
        }
    }

    /// The error for bytes that are not the sealed ones, placed as exactly as can be found out.
    ///
    /// The first reader that meets a damaged file pays for reading it whole, so that row group and column can be named by their
    /// values even when the file was written anew with other offsets.
    pub(super) async fn differs(&self, object: &Object, bad: Option<Range<u64>>) -> Error {
        let damage = object
            .damage
            .get_or_init(|| async {
                let found = match &object.content {
                    Content::Sealed(file) => compare_file(&self.repository, &self.schema, self.row_key, file).await,
                    _ => Vec::new(),
                };
                let mut places: Vec<_> = found.iter().map(|finding| (finding.row_group, finding.column.clone())).collect();
                places.retain(|place| place.0.is_some());
                let mut detail = "the bytes of a file are not the sealed ones".to_owned();
                if let Some(first) = found.first() {
                    detail = format!("a file differs from what was sealed: {}", first.detail);
                }
                if let (true, Content::Sealed(file), Some(bad)) = (places.is_empty(), &object.content, &bad) {
                    places = places_of(file.as_ref(), bad);
                }
                if matches!(object.content, Content::Pinned(_)) {
                    detail = "an object of the log changed while it was being read".to_owned();
                }
                self.damage(object, places, &detail)
            })
            .await;
        self.recorder.record(damage);
        damage.to_error()
    }

    fn report(&self, object: &Object, places: Vec<(Option<u32>, Option<String>)>, detail: &str) -> Error {
        let damage = self.damage(object, places, detail);
        self.recorder.record(&damage);
        damage.to_error()
    }

    fn damage(&self, object: &Object, places: Vec<(Option<u32>, Option<String>)>, detail: &str) -> Damage {
        Damage { table: self.name.clone(), file: object.shown.clone(), places, detail: detail.to_owned() }
    }
}

/// A stream in progress.
struct Reading {
    shared: Arc<Shared>,
    path: Path,
    blocks: Option<Arc<BlockList>>,
    inner: BoxStream<'static, object_store::Result<Bytes>>,
    buffer: BytesMut,
    at: u64,
    end: u64,
    ended: bool,
}

impl Reading {
    /// The next whole block, verified; `None` at the end of the range.
    async fn next_block(&mut self) -> Result<Option<Bytes>> {
        let object = self.shared.object(&self.path)?;
        if self.at >= self.end && (self.at > 0 || self.ended) {
            return Ok(None);
        }
        self.ended = true;
        let wanted = usize::try_from((self.end - self.at).min(BLOCK)).unwrap_or(BLOCK_BYTES);
        while self.buffer.len() < wanted {
            match self.inner.next().await {
                Some(Ok(bytes)) => self.buffer.extend_from_slice(&bytes),
                Some(Err(error)) => return Err(self.shared.unreadable(object, error).await),
                None => return Err(self.shared.differs(object, Some(self.at..self.end)).await),
            }
        }
        let block = self.buffer.split_to(wanted).freeze();
        if let Some(blocks) = &self.blocks {
            let span = self.at..self.at + wanted as u64;
            self.shared.verify_span(object, blocks, &span, &block).await?;
        }
        self.at += wanted as u64;
        Ok(Some(block))
    }
}

fn check_ranges(object: &Object, ranges: &[Range<u64>]) -> Result<()> {
    match ranges.iter().find(|range| range.start > range.end || range.end > object.size) {
        None => Ok(()),
        Some(range) => Err(Error::new(ErrorKind::InvalidInput, "the range lies beyond the object's end")
            .with("file", &object.shown)
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
