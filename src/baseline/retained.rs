//! The reader of sealed bytes: an object as it was sealed, from wherever the store still has it.
//!
//! Bytes are looked for at the live path, as the version that the store gave them when they were sealed, and as a retained version
//! with their digest. Wherever they come from, every block is verified against the evidence before it is given out: nothing else
//! than the sealed bytes is ever returned, and never an older version that merely verifies by itself.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};
use parking_lot::Mutex;

use super::repository::Repository;
use super::sealed::{SealedFile, SealedTable};
use crate::ask::named_version;
use crate::digest::{BLOCK_BYTES, BlockList};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::Source;

const BLOCK: u64 = BLOCK_BYTES as u64;
/// Verified bytes that are kept at hand for each file.
const CACHE_BYTES: usize = 4 << 20;

/// Where sealed bytes were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// At the file's path, as it is now.
    Live,
    /// In an older version of the object, by the text with which the store was asked for it.
    Retained(String),
}

/// The sealed bytes of one file. [`Source::ranges`] returns them or fails: with [`ErrorKind::NotFound`] when no place has them any
/// more, with [`ErrorKind::Unavailable`] when that could not be found out.
///
/// Cost: a request per place that is tried and run of blocks; a read is widened to whole blocks of 64 KiB.
pub struct SealedBytes {
    store: Arc<dyn ObjectStore>,
    location: Path,
    shown: String,
    blocks: BlockList,
    size: u64,
    origins: Vec<Origin>,
    /// Which origin delivered last: it is asked first.
    last: AtomicUsize,
    /// Verified runs that were read last, up to [`CACHE_BYTES`]: footers and small row groups lie in the same blocks.
    held: Mutex<Vec<(Range<u64>, Bytes)>>,
}

impl Repository {
    /// The sealed bytes of `file`, which `sealed` names. Reads the block list; the bytes themselves are read when they are asked for.
    ///
    /// `now_ms` is the time, in milliseconds since 1970-01-01T00:00:00Z: bytes are not given out beyond their baseline's term.
    ///
    /// # Errors
    /// [`ErrorKind::Permission`] when the baseline has expired; [`ErrorKind::NotFound`] or [`ErrorKind::Corrupt`] when the block list
    /// is gone or damaged.
    pub async fn sealed_bytes(&self, sealed: &SealedTable, file: &SealedFile, now_ms: i64) -> Result<SealedBytes> {
        let shown = file.live.key.path.clone();
        if let Some(expires) = sealed.baseline.expires_ms.filter(|expires| *expires <= now_ms) {
            return Err(Error::new(ErrorKind::Permission, "the baseline has expired, so that its bytes are not given out any more")
                .with("baseline", sealed.baseline.number)
                .with("expired_ms", expires)
                .with("file", shown));
        }
        let location = file.live.location.clone();
        let location = location.ok_or_else(|| Error::new(ErrorKind::Corrupt, "a sealed file has no place in the table"))?;
        let recorded = named_version(file.version.as_deref()).map(|version| Origin::Retained(version.to_owned()));
        let by_digest = Origin::Retained(format!("blake3:{}", file.digest));
        let origins = recorded.into_iter().chain([Origin::Live, by_digest]).collect();
        let blocks = self.blocks(file).await?;
        let store = self.store().clone();
        Ok(SealedBytes { store, location, shown, blocks, size: file.live.size, origins, last: AtomicUsize::new(0), held: Mutex::default() })
    }
}

impl SealedBytes {
    /// Where the bytes that were read last came from; before anything was read, where they are looked for first.
    pub fn origin(&self) -> &Origin {
        self.origins.get(self.last.load(Ordering::Relaxed)).unwrap_or(&Origin::Live)
    }

    /// The runs of whole blocks that the ranges touch.
    fn spans(&self, ranges: &[Range<u64>]) -> Vec<Range<u64>> {
        let mut spans: Vec<Range<u64>> = ranges
            .iter()
            .filter(|range| range.start < range.end)
            .map(|range| range.start / BLOCK * BLOCK..range.end.next_multiple_of(BLOCK).min(self.size))
            .collect();
        spans.sort_unstable_by_key(|span| span.start);
        let mut merged: Vec<Range<u64>> = Vec::with_capacity(spans.len());
        for span in spans {
            match merged.last_mut() {
                Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
                _ => merged.push(span),
            }
        }
        merged
    }

    /// One run of blocks from one place; `None` when the place does not have the sealed bytes.
    async fn span_from(&self, origin: &Origin, span: &Range<u64>) -> Result<Option<Bytes>> {
        let version = match origin {
            Origin::Live => None,
            Origin::Retained(version) => Some(version.clone()),
        };
        let options = GetOptions { range: Some(GetRange::Bounded(span.clone())), version, ..GetOptions::default() };
        let read = async {
            let mut stream = self.store.get_opts(&self.location, options).await?.into_stream();
            let mut bytes = BytesMut::new();
            while let Some(piece) = stream.try_next().await? {
                if bytes.len() as u64 + piece.len() as u64 > span.end - span.start {
                    return Ok(Bytes::new());
                }
                bytes.extend_from_slice(&piece);
            }
            Ok::<_, object_store::Error>(bytes.freeze())
        };
        let bytes = match read.await {
            Ok(bytes) => bytes,
            Err(error) => {
                // A store without versions refuses to be asked for one; that is no reason to try again.
                let ours = Error::find(&error).is_some();
                let error = Error::from(error);
                let absent = !error.is_retryable() || (*origin != Origin::Live && !ours);
                return if absent { Ok(None) } else { Err(error.with("file", &self.shown)) };
            }
        };
        let first = usize::try_from(span.start / BLOCK).unwrap_or(usize::MAX);
        let whole = bytes.len() as u64 == span.end - span.start && self.blocks.first_bad_block(first, &bytes).is_none();
        Ok(whole.then_some(bytes))
    }

    async fn span(&self, span: &Range<u64>) -> Result<Bytes> {
        let known = self.held.lock().iter().find_map(|(held, bytes)| within(held, bytes, span));
        if let Some(bytes) = known {
            return Ok(bytes);
        }
        let bytes = self.read_span(span).await?;
        let mut held = self.held.lock();
        held.push((span.clone(), bytes.clone()));
        while held.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > CACHE_BYTES {
            held.remove(0);
        }
        Ok(bytes)
    }

    async fn read_span(&self, span: &Range<u64>) -> Result<Bytes> {
        let first = self.last.load(Ordering::Relaxed);
        let order = std::iter::once(first).chain((0..self.origins.len()).filter(|at| *at != first));
        let mut failed = None;
        for at in order {
            let Some(origin) = self.origins.get(at) else { continue };
            match self.span_from(origin, span).await {
                Ok(Some(bytes)) => {
                    self.last.store(at, Ordering::Relaxed);
                    return Ok(bytes);
                }
                Ok(None) => {}
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| {
            Error::new(ErrorKind::NotFound, "the sealed bytes are gone: neither the file nor a retained version of it has them")
                .with("file", &self.shown)
        }))
    }
}

/// The part of `bytes`, which are those of `span`, that is `range`; `None` when it reaches beyond them.
fn within(span: &Range<u64>, bytes: &Bytes, range: &Range<u64>) -> Option<Bytes> {
    if range.start < span.start || range.end > span.end {
        return None;
    }
    let at = |position: u64| usize::try_from(position - span.start).ok();
    Some(bytes.slice(at(range.start)?..at(range.end)?))
}

#[async_trait]
impl Source for SealedBytes {
    fn size(&self) -> u64 {
        self.size
    }

    async fn ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if let Some(range) = ranges.iter().find(|range| range.start > range.end || range.end > self.size) {
            return Err(Error::new(ErrorKind::InvalidInput, "the range lies beyond the sealed file's end")
                .with("range", format!("{}..{}", range.start, range.end))
                .with("size", self.size));
        }
        let mut held: Vec<(Range<u64>, Bytes)> = Vec::new();
        for span in self.spans(ranges) {
            let bytes = self.span(&span).await?;
            held.push((span, bytes));
        }
        let slice = |range: &Range<u64>| {
            if range.is_empty() {
                return Some(Bytes::new());
            }
            held.iter().find_map(|(span, bytes)| within(span, bytes, range))
        };
        let missing = || Error::new(ErrorKind::Internal, "a verified block is not at hand");
        ranges.iter().map(|range| slice(range).ok_or_else(missing)).collect()
    }
}

impl std::fmt::Debug for SealedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedBytes").field("location", &self.location).field("origin", self.origin()).finish_non_exhaustive()
    }
}
