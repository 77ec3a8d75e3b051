//! Getting bytes: whole objects and ranges as streams, many ranges at once, heads.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload};

use super::Inner;
use super::held::{Held, Wanted};
use super::read::Segment;
use super::resolve::Version;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::Content;

/// Segments that a stream reads ahead of its consumer, the one that is wanted included.
const READ_AHEAD: usize = 2;
/// Segments that one `get_ranges` reads at a time.
const RANGES_AHEAD: usize = 4;

pub(super) async fn get(inner: &Arc<Inner>, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
    let version = match &options.version {
        Some(version) => inner.at(path, version).await,
        None => inner.live(path).await,
    };
    let version = version.map_err(|e| e.into_object_store(path))?;
    let meta = version.meta(path);
    options.check_preconditions(&meta)?;
    let range = match &options.range {
        Some(range) => resolve_range(range, meta.size).map_err(|e| e.into_object_store(path))?,
        None => 0..meta.size,
    };
    let attributes = version.manifest.attributes.clone();
    let body = if options.head { stream::empty().boxed() } else { body(inner, &version, range.clone(), path) };
    Ok(GetResult { payload: GetResultPayload::Stream(body), meta, range, attributes })
}

fn resolve_range(range: &GetRange, size: u64) -> Result<Range<u64>> {
    range
        .as_range(size)
        .map_err(|e| Error::new(ErrorKind::InvalidInput, "the range does not lie in the object").with("size", size).caused_by(e))
}

fn body(inner: &Arc<Inner>, version: &Arc<Version>, range: Range<u64>, path: &Path) -> BoxStream<'static, object_store::Result<Bytes>> {
    let path = path.clone();
    stream_range(inner, version, range).map_err(move |e| e.into_object_store(&path)).boxed()
}

/// The bytes of `range` in order; each piece was verified before it is given out.
pub(super) fn stream_range(inner: &Arc<Inner>, version: &Arc<Version>, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
    let geometry = match &version.manifest.content {
        Content::Tombstone => return stream::empty().boxed(),
        Content::Inline(bytes) => {
            let piece = slice(bytes, &range);
            return stream::once(std::future::ready(piece)).boxed();
        }
        Content::Shards(sharded) => sharded.geometry(),
    };
    let size = version.manifest.size();
    let segments = range.start / geometry.segment_bytes..geometry.segments(range.end);
    let (inner, version) = (Arc::clone(inner), Arc::clone(version));
    stream::iter(segments)
        .map(move |index| {
            let held = geometry.segment_range(size, index);
            let part = range.start.max(held.start) - held.start..range.end.min(held.end).saturating_sub(held.start);
            read_part(Arc::clone(&inner), Arc::clone(&version), index, part)
        })
        .buffered(READ_AHEAD)
        .map_ok(|pieces| stream::iter(pieces.into_iter().map(Ok)))
        .try_flatten()
        .boxed()
}

fn slice(bytes: &Bytes, range: &Range<u64>) -> Result<Bytes> {
    match (usize::try_from(range.start), usize::try_from(range.end)) {
        (Ok(start), Ok(end)) if start <= end && end <= bytes.len() => Ok(bytes.slice(start..end)),
        _ => Err(Error::new(ErrorKind::InvalidInput, "the range does not lie in the object").with("size", bytes.len())),
    }
}

/// The bytes of `part` of one segment: a piece per data shard, in order.
async fn read_part(inner: Arc<Inner>, version: Arc<Version>, index: u64, part: Range<u64>) -> Result<Vec<Bytes>> {
    let geometry = geometry(&version)?;
    let held = geometry.segment_range(version.manifest.size(), index);
    let touched: Vec<(usize, Range<u64>)> = geometry.segment(held.end - held.start).touched(part).collect();
    let wanted: Wanted = touched.iter().map(|(shard, range)| (*shard, vec![range.clone()])).collect();
    let found = match Segment::new(&inner, &version, index)?.read(wanted).await {
        Ok(found) => found,
        Err(error) => return Err(inner.explained(&version, error).await),
    };
    touched.iter().map(|(shard, range)| held_bytes(&found, *shard, range)).collect()
}

fn geometry(version: &Version) -> Result<crate::erasure::Geometry> {
    match &version.manifest.content {
        Content::Shards(sharded) => Ok(sharded.geometry()),
        Content::Inline(_) | Content::Tombstone => Err(Error::new(ErrorKind::Internal, "an inline object has no segments")),
    }
}

fn held_bytes(found: &BTreeMap<usize, Held>, shard: usize, range: &Range<u64>) -> Result<Bytes> {
    let bytes = found.get(&shard).and_then(|held| held.get(range));
    bytes.ok_or_else(|| Error::new(ErrorKind::Internal, "a read lacks bytes that it should have").with("shard", shard))
}

/// Many ranges for one resolution of the name, and one request per shard that they touch.
pub(super) async fn get_ranges(inner: &Arc<Inner>, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
    ranges_of(inner, inner.live(path).await?, ranges, VerifiedBy::Store).await
}

/// As [`get_ranges`], of the version that the client names: one that is remembered costs no request. **Nothing says that the bytes are right.**
pub(super) async fn unverified_ranges_at(inner: &Arc<Inner>, path: &Path, version: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
    ranges_of(inner, inner.at(path, version).await?, ranges, VerifiedBy::Caller).await
}

/// Who holds bytes against digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VerifiedBy {
    /// The store, by the manifest.
    Store,
    /// Whoever reads, by digests of their own: to do it here as well would be to hash twice.
    Caller,
}

async fn read_segment(segment: Segment, wanted: Wanted, verified_by: VerifiedBy) -> Result<BTreeMap<usize, Held>> {
    if verified_by == VerifiedBy::Caller
        && let Some(held) = segment.read_as_stored(&wanted).await
    {
        return Ok(held);
    }
    segment.read(wanted).await
}

async fn ranges_of(inner: &Arc<Inner>, version: Arc<Version>, ranges: &[Range<u64>], verified_by: VerifiedBy) -> Result<Vec<Bytes>> {
    let size = version.manifest.size();
    let ranges: Vec<Range<u64>> =
        ranges.iter().map(|range| resolve_range(&GetRange::Bounded(range.clone()), size)).collect::<Result<_>>()?;
    if let Content::Inline(bytes) = &version.manifest.content {
        return ranges.iter().map(|range| slice(bytes, range)).collect();
    }
    let geometry = geometry(&version)?;
    let mut segments: BTreeMap<u64, Wanted> = BTreeMap::new();
    let pieces: Vec<Vec<(u64, usize, Range<u64>)>> = ranges.iter().map(|range| split(&geometry, size, range)).collect();
    for (index, shard, range) in pieces.iter().flatten() {
        segments.entry(*index).or_default().entry(*shard).or_default().push(range.clone());
    }
    let found: Result<BTreeMap<u64, BTreeMap<usize, Held>>> = stream::iter(segments)
        .map(|(index, wanted)| {
            let segment = Segment::new(inner, &version, index);
            async move { Ok::<_, Error>((index, read_segment(segment?, wanted, verified_by).await?)) }
        })
        .buffer_unordered(RANGES_AHEAD)
        .try_collect()
        .await;
    let found = match found {
        Ok(found) => found,
        Err(error) => return Err(inner.explained(&version, error).await),
    };
    pieces.iter().map(|pieces| join(&found, pieces)).collect()
}

fn split(geometry: &crate::erasure::Geometry, size: u64, range: &Range<u64>) -> Vec<(u64, usize, Range<u64>)> {
    let segments = range.start / geometry.segment_bytes..geometry.segments(range.end);
    segments
        .flat_map(|index| {
            let held = geometry.segment_range(size, index);
            let part = range.start.max(held.start) - held.start..range.end.min(held.end).saturating_sub(held.start);
            let touched = geometry.segment(held.end - held.start).touched(part);
            touched.map(move |(shard, range)| (index, shard, range))
        })
        .collect()
}

fn join(found: &BTreeMap<u64, BTreeMap<usize, Held>>, pieces: &[(u64, usize, Range<u64>)]) -> Result<Bytes> {
    let none = BTreeMap::new();
    let parts: Vec<Bytes> =
        pieces.iter().map(|(index, shard, range)| held_bytes(found.get(index).unwrap_or(&none), *shard, range)).collect::<Result<_>>()?;
    match parts.as_slice() {
        [only] => Ok(only.clone()),
        many => {
            let mut all = BytesMut::with_capacity(many.iter().map(Bytes::len).sum());
            many.iter().for_each(|part| all.extend_from_slice(part));
            Ok(all.freeze())
        }
    }
}
