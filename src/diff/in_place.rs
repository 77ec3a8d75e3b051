//! A sealed file that is still live: which of its column chunks differ, and in which rows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStoreExt as _};

use super::change::{Change, Sink};
use super::differ::{Differ, whole};
use super::pool::Part;
use super::side::{Piece, Side};
use crate::ask::unchanged_since;
use crate::baseline::SealedFile;
use crate::digest::Digest;
use crate::error::Result;
use crate::table::LiveFile;

/// One file on both sides.
pub(super) struct Comparison<'a> {
    pub(super) differ: &'a Differ<'a>,
    pub(super) file: &'a SealedFile,
    pub(super) live: &'a LiveFile,
    /// Its size as it is now.
    pub(super) size: u64,
}

/// A sealed byte range with its digest, and the row group and leaf that it is; neither for what comes after the last column chunk.
type Hashed<'a> = (Range<u64>, Digest, Option<(usize, &'a str)>);

/// Row groups and the physical names of their top-level columns that differ.
pub(super) type Differing = BTreeMap<usize, BTreeSet<String>>;

impl Comparison<'_> {
    /// Gives the rows that differ to `sink`; false when it wants no more.
    pub(super) async fn run(&self, sink: &mut dyn Sink) -> Result<bool> {
        let (differing, tail_intact) = match self.chunks().await {
            Ok(found) => found,
            Err(error) => {
                let detail = format!("the file could not be read: {error}");
                return sink.take(Change::undetermined(whole(&self.live.key, None), Vec::new(), detail)).await;
            }
        };
        let relabelled = !self.differ.same_partition_values(self.file, self.live);
        if differing.is_empty() && tail_intact && !relabelled {
            return Ok(true);
        }
        let sealed = self.differ.sealed_side(self.file).await;
        let found = self.differ.found_side(self.live, self.size).await;
        let (sealed, found) = match (sealed, found) {
            (Ok(sealed), Ok(found)) => (sealed, found),
            (Err(error), _) => return self.undetermined(&differing, &format!("the sealed values cannot be shown: {error}"), sink).await,
            (_, Err(error)) => return self.undetermined(&differing, &format!("what is there cannot be decoded: {error}"), sink).await,
        };
        let aligned = sealed.groups() == found.groups() && sealed.groups().all(|group| sealed.rows.rows(group) == found.rows.rows(group));
        if !aligned {
            return self.differ.pool(vec![Part::whole(sealed)], vec![Part::whole(found)], true, sink).await;
        }
        let differing = if tail_intact && !relabelled { differing } else { self.everything(&sealed) };
        self.groups(sealed, found, &differing, sink).await
    }

    /// Hashes what of the file the store does not know to be as it was sealed, or all of it in one pass. Says which sealed column chunks have
    /// other bytes, and whether what comes after them, the footer included, is as sealed. Of a file of another size nothing is said but that.
    pub(super) async fn chunks(&self) -> Result<(Differing, bool)> {
        let mut differing = Differing::new();
        let Some(location) = self.file.live.location.as_ref().filter(|_| self.size == self.file.live.size) else {
            return Ok((differing, false));
        };
        let mut ranges: Vec<Hashed<'_>> = Vec::new();
        for (at, group) in self.file.row_groups.get()?.iter().enumerate() {
            ranges.extend(group.columns.iter().map(|column| (column.bytes.clone(), column.digest, Some((at, column.name.as_str())))));
        }
        let last = ranges.iter().map(|(range, ..)| range.end).max().unwrap_or_default();
        ranges.push((last..self.size, self.file.footer, None));
        let digests = match self.suspects(location, &ranges).await? {
            Some(digests) => digests,
            None => self.all_digests(location, &ranges).await?,
        };
        let mut tail_intact = true;
        for ((_, sealed, place), found) in ranges.iter().zip(digests) {
            if found.is_none_or(|found| found == *sealed) {
                continue;
            }
            match place {
                Some((group, leaf)) => {
                    let root = leaf.split('.').next().unwrap_or(leaf);
                    differing.entry(*group).or_default().insert(self.root_name(leaf, root));
                }
                None => tail_intact = false,
            }
        }
        Ok((differing, tail_intact))
    }

    /// The digests of the ranges that the store does not know to be as they were sealed; `None` for the others. Nothing when it cannot
    /// tell, or when most of the file would be read anyway.
    async fn suspects(&self, location: &Path, ranges: &[Hashed<'_>]) -> Result<Option<Vec<Option<Digest>>>> {
        let store = &**self.differ.repository.store();
        let Some(version) = &self.file.version else { return Ok(None) };
        // Why it could not tell is found out by whoever reads.
        let Ok(Some(unchanged)) = unchanged_since(store, location, version).await else { return Ok(None) };
        let suspect = |range: &Range<u64>| !unchanged.covers(range);
        let bytes: u64 = ranges.iter().filter(|(range, ..)| suspect(range)).map(|(range, ..)| range.end - range.start).sum();
        if unchanged.size != self.size || bytes > self.size / 2 {
            return Ok(None);
        }
        let mut digests = Vec::with_capacity(ranges.len());
        for (range, ..) in ranges {
            if !suspect(range) {
                digests.push(None);
                continue;
            }
            let (part, version) = (Some(GetRange::Bounded(range.clone())), Some(unchanged.version.clone()));
            let mut stream = store.get_opts(location, GetOptions { range: part, version, ..GetOptions::default() }).await?.into_stream();
            let mut hasher = blake3::Hasher::new();
            while let Some(bytes) = stream.try_next().await? {
                hasher.update(&bytes);
            }
            digests.push(Some(Digest(*hasher.finalize().as_bytes())));
        }
        Ok(Some(digests))
    }

    /// The digests of all ranges, in one pass over the file.
    async fn all_digests(&self, location: &Path, ranges: &[Hashed<'_>]) -> Result<Vec<Option<Digest>>> {
        let mut hashers: Vec<_> = ranges.iter().map(|_| blake3::Hasher::new()).collect();
        let mut stream = self.differ.repository.store().get(location).await?.into_stream();
        let mut position = 0_u64;
        let mut order: Vec<usize> = (0..ranges.len()).collect();
        order.sort_by_key(|at| ranges.get(*at).map_or(0, |(range, ..)| range.start));
        let mut first = 0;
        while let Some(bytes) = stream.try_next().await? {
            let end = position + bytes.len() as u64;
            for at in order.iter().skip(first) {
                let (Some((range, ..)), Some(hasher)) = (ranges.get(*at), hashers.get_mut(*at)) else { continue };
                if range.start >= end {
                    break;
                }
                let within = |at: u64| usize::try_from(at.clamp(position, end) - position).unwrap_or(usize::MAX);
                hasher.update(bytes.get(within(range.start)..within(range.end)).unwrap_or_default());
            }
            let done = |at: &usize| ranges.get(*at).is_some_and(|(range, ..)| range.end <= end);
            first += order.iter().skip(first).take_while(|at| done(at)).count();
            position = end;
        }
        // A file that is longer or shorter than it said has no footer where it was sealed.
        let is_whole = position == self.size;
        let digest = |((_, _, place), hasher): (&Hashed<'_>, &blake3::Hasher)| match place {
            None if !is_whole => Some(Digest([0; Digest::LEN])),
            _ => Some(Digest(*hasher.finalize().as_bytes())),
        };
        Ok(ranges.iter().zip(&hashers).map(digest).collect())
    }

    /// The top-level column of a leaf; names of columns may have dots themselves.
    fn root_name(&self, leaf: &str, first: &str) -> String {
        let columns = &self.differ.snapshot.schema.columns;
        let of = |name: &str| leaf == name || leaf.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        let known = columns.iter().map(|column| column.physical_name.as_str()).filter(|name| of(name)).max_by_key(|name| name.len());
        if columns.is_empty() { leaf.to_owned() } else { known.unwrap_or(first).to_owned() }
    }

    /// Every column of every row group: where offsets moved, digests of chunks say nothing.
    fn everything(&self, sealed: &Side) -> Differing {
        let names: BTreeSet<String> = sealed.rows.members().into_iter().collect();
        sealed.groups().map(|group| (group, names.clone())).collect()
    }

    async fn undetermined(&self, differing: &Differing, why: &str, sink: &mut dyn Sink) -> Result<bool> {
        if differing.is_empty() {
            return sink.take(Change::undetermined(whole(&self.live.key, None), Vec::new(), why.to_owned())).await;
        }
        for (group, columns) in differing {
            let mut place = whole(&self.live.key, None);
            place.row_group = u32::try_from(*group).ok();
            let names: Vec<String> = columns.iter().cloned().collect();
            if !sink.take(Change::undetermined(place, names, why.to_owned())).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn groups(&self, sealed: Side, found: Side, differing: &Differing, sink: &mut dyn Sink) -> Result<bool> {
        let mut shifted = Vec::new();
        for (group, columns) in differing {
            let wanted = self.wanted(&sealed, columns);
            let read = async {
                Ok::<_, crate::error::Error>((sealed.read(*group, wanted.as_deref()).await?, found.read(*group, wanted.as_deref()).await))
            };
            let going = match read.await {
                Ok((before, Ok(after))) => match self.rows(&sealed, &before, &found, &after)? {
                    Some(changes) => give(changes, sink).await?,
                    None => {
                        shifted.push(*group);
                        true
                    }
                },
                Ok((_, Err(error))) => {
                    let one = BTreeMap::from([(*group, columns.clone())]);
                    self.undetermined(&one, &format!("what is there cannot be decoded: {error}"), sink).await?
                }
                Err(error) => {
                    let one = BTreeMap::from([(*group, columns.clone())]);
                    self.undetermined(&one, &format!("the sealed values cannot be shown: {error}"), sink).await?
                }
            };
            if !going {
                return Ok(false);
            }
        }
        if shifted.is_empty() {
            return Ok(true);
        }
        let parts = |side: Side| vec![Part { side, groups: shifted.clone() }];
        self.differ.pool(parts(sealed), parts(found), true, sink).await
    }

    /// The columns to decode; `None` is all.
    fn wanted(&self, sealed: &Side, columns: &BTreeSet<String>) -> Option<Vec<String>> {
        if self.differ.options.whole_rows {
            return None;
        }
        let mut wanted: Vec<String> = columns.iter().chain(&self.differ.options.key).cloned().collect();
        let in_file = |name: &String| !sealed.constants.contains_key(name);
        if !wanted.iter().any(in_file) {
            // Partition columns are in no file: some column must be read for there to be rows.
            wanted.extend(sealed.rows.members().into_iter().find(|name| in_file(name)));
        }
        Some(wanted)
    }

    /// The rows that differ, position by position; `None` when so much differs that rows must have moved.
    fn rows(&self, sealed: &Side, before: &[Piece], found: &Side, after: &[Piece]) -> Result<Option<Vec<Change>>> {
        let columns = sealed.rows.members().len().max(1);
        let (mut rows, mut cells, mut changed_rows) = (0_usize, 0_usize, 0_usize);
        let mut changes = Vec::new();
        for (piece, other) in before.iter().zip(after) {
            let mut differing = Vec::new();
            for row in sealed.live(piece) {
                rows += 1;
                let names = sealed.differing(piece, found, other, row);
                if !names.is_empty() {
                    changed_rows += 1;
                    cells += names.len();
                    differing.push(row);
                }
            }
            if cells * 2 > rows.max(64) * columns && changed_rows * 2 > rows {
                return Ok(None);
            }
            let pairs = sealed.rows_of(piece, &differing)?.into_iter().zip(found.rows_of(other, &differing)?);
            changes.extend(pairs.filter_map(|(sealed, found)| Change::changed(sealed, found)));
        }
        Ok(Some(changes))
    }
}

pub(super) async fn give(changes: Vec<Change>, sink: &mut dyn Sink) -> Result<bool> {
    for change in changes {
        if !sink.take(change).await? {
            return Ok(false);
        }
    }
    Ok(true)
}
