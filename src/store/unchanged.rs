//! Which bytes of an object are still those of an older version, told from the digests of shards alone.
//!
//! Readers verify what they deliver by the roots in a manifest: data shards by their own, and what is decoded by those of the shards that it
//! is decoded from. So where *all* shards of both versions have the same bytes in a column of blocks, parity included, whatever is read there
//! is the same. To compare the data shards alone would not do: who can sign manifests can put parity beside them that decodes to other bytes.
//! For the same reason the digest of the whole object, which a manifest merely states, is not looked at.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;

use super::Inner;
use super::held::BLOCK;
use super::read::Segment;
use super::resolve::Version;
use crate::ask::Unchanged;
use crate::error::{Error, Result};
use crate::format::manifest::Content;

/// Segments that are compared at a time.
const SEGMENTS_AHEAD: usize = 4;

impl Inner {
    /// Compares the newest version of `path` with the one that `version` names.
    pub(super) async fn unchanged_since(self: &Arc<Self>, path: &Path, version: &str) -> Result<Unchanged> {
        let (newest, older) = futures::try_join!(self.live(path), self.at(path, version))?;
        let size = newest.manifest.size();
        let ranges = match (&newest.manifest.content, &older.manifest.content) {
            (Content::Inline(new), Content::Inline(old)) if new == old => std::iter::once(0..size).collect(),
            (Content::Shards(new), Content::Shards(old)) if new.codec == old.codec && new.segment_bytes == old.segment_bytes => {
                self.same_segments(&newest, &older, size).await?
            }
            _ => Vec::new(),
        };
        let version = newest.meta(path).version.unwrap_or_default();
        Ok(Unchanged { version, size, ranges: joined(ranges) })
    }

    async fn same_segments(self: &Arc<Self>, newest: &Arc<Version>, older: &Arc<Version>, size: u64) -> Result<Vec<Range<u64>>> {
        let (Content::Shards(new), Content::Shards(old)) = (&newest.manifest.content, &older.manifest.content) else {
            return Ok(Vec::new());
        };
        let geometry = new.geometry();
        // A last segment that is longer in one of the two is cut otherwise.
        let comparable = (0..geometry.segments(size).min(geometry.segments(old.size)))
            .filter(|index| geometry.segment_range(size, *index) == geometry.segment_range(old.size, *index));
        let found: Vec<Vec<Range<u64>>> = stream::iter(comparable)
            .map(|index| {
                let range = geometry.segment_range(size, index);
                let pair = Segment::new(self, newest, index).and_then(|new| Ok((new, Segment::new(self, older, index)?)));
                async move {
                    let (new, old) = pair?;
                    Ok::<_, Error>(same_ranges(&new, &old).await?.into_iter().map(|r| range.start + r.start..range.start + r.end).collect())
                }
            })
            .buffered(SEGMENTS_AHEAD)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }
}

/// The ranges of a segment that are the same in two versions. What a list that cannot be had would say is not assumed.
async fn same_ranges(new: &Segment, old: &Segment) -> Result<Vec<Range<u64>>> {
    let shape = new.shape();
    let mut differing = Vec::new();
    for shard in 0..shape.shards() {
        if new.root_and_region(shard)?.0 != old.root_and_region(shard)?.0 {
            differing.push(shard);
        }
    }
    if differing.is_empty() {
        return Ok(std::iter::once(0..shape.len).collect());
    }
    let lists = differing.into_iter().map(|shard| async move { futures::try_join!(new.block_list(shard), old.block_list(shard)) });
    let Ok(lists) = futures::future::try_join_all(lists).await else { return Ok(Vec::new()) };
    let changed: BTreeSet<usize> = lists.iter().flat_map(|(new, old)| new.differing(old)).collect();
    let columns = usize::try_from(shape.slice.div_ceil(BLOCK)).unwrap_or(usize::MAX);
    let mut ranges = Vec::new();
    for shard in 0..shape.data {
        let held = shape.data_range(shard);
        for column in (0..columns).filter(|column| !changed.contains(column)) {
            let start = held.start.saturating_add(column as u64 * BLOCK).min(held.end);
            let end = start.saturating_add(BLOCK).min(held.end);
            if start < end {
                ranges.push(start..end);
            }
        }
    }
    Ok(ranges)
}

/// Sorted ranges, those that meet made one.
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests;
