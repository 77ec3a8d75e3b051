//! A sealed file that is still live: which of its column chunks differ, and in which rows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStoreExt as _};

use super::change::{Change, Row, Sink};
use super::deletions::Deletions;
use super::differ::{Differ, whole};
use super::pair::{self, Pairing};
use super::pool::{Complete, PAIRED_LIMIT_ROWS, Part};
use super::side::{Piece, Side};
use crate::ask::{named_version, unchanged_since};
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

/// A sealed byte range with its digest, and the row group and leaf that it is, by position; neither for what comes after the last column
/// chunk.
type Hashed = (Range<u64>, Digest, Option<(usize, usize)>);

/// Row groups and the leaves of theirs that differ, by position in the file.
pub(super) type Differing = BTreeMap<usize, BTreeSet<usize>>;

/// Row groups and the physical names of their top-level columns that differ.
type Columns = BTreeMap<usize, BTreeSet<String>>;

/// What a row group comes to whose rows stand where they were sealed.
#[derive(Default)]
struct Compared {
    changes: Vec<Change>,
    /// Sealed rows that are deleted now.
    gone: Vec<Row>,
    /// Rows that were deleted when the file was sealed, and are not now.
    back: Vec<Row>,
}

impl Comparison<'_> {
    /// Gives the rows that differ to `sink`; false when it wants no more.
    pub(super) async fn run(&self, deletions: &Deletions, sink: &mut dyn Sink) -> Result<bool> {
        let (differing, tail_intact) = match self.chunks().await {
            Ok(found) => found,
            Err(error) => {
                let detail = format!("the file could not be read: {error}");
                return sink.take(Change::undetermined(whole(&self.live.key, None), Vec::new(), detail)).await;
            }
        };
        let relabelled = !self.differ.same_partition_values(self.file, self.live);
        if differing.is_empty() && tail_intact && !relabelled {
            return self.deleted_rows(deletions, sink).await;
        }
        let sealed = self.differ.sealed_side(self.file).await;
        let found = self.differ.found_side(self.live, self.size).await;
        let (sealed, found) = match (sealed, found) {
            (Ok(sealed), Ok(found)) => (sealed, found),
            (Err(error), found) => {
                // A footer that is as it was sealed names columns as well as the sealed one.
                let columns = self.columns(&differing, found.as_ref().ok().filter(|_| tail_intact))?;
                return self.undetermined(&columns, &format!("the sealed values cannot be shown: {error}"), sink).await;
            }
            (Ok(sealed), Err(error)) => {
                let columns = self.columns(&differing, Some(&sealed))?;
                return self.undetermined(&columns, &format!("what is there cannot be decoded: {error}"), sink).await;
            }
        };
        let aligned = sealed.groups() == found.groups() && sealed.groups().all(|group| sealed.rows.rows(group) == found.rows.rows(group));
        if !aligned {
            return self.differ.pool(vec![Part::whole(sealed)], vec![Part::whole(found)], Complete::BOTH, sink).await;
        }
        let columns = if tail_intact && !relabelled { self.columns(&differing, Some(&sealed))? } else { Self::everything(&sealed, &found) };
        self.groups(sealed, found, columns, sink).await
    }

    /// As [`Self::run`] where all bytes of the file are as they were sealed: what is left is which of its rows are deleted.
    pub(super) async fn deleted_rows(&self, deletions: &Deletions, sink: &mut dyn Sink) -> Result<bool> {
        let why = match deletions {
            Deletions::AsSealed => return Ok(true),
            Deletions::Unknown(error) => format!("which of its rows are deleted cannot be told: {error}"),
            Deletions::Others(now) => {
                let sides = (self.differ.sealed_side(self.file).await, self.differ.found_side(self.live, self.size).await);
                match sides {
                    (Ok(sealed), Ok(found)) => return self.groups(sealed, found, Columns::new(), sink).await,
                    (Err(error), _) | (_, Err(error)) => {
                        let then = self.file.deleted.as_ref().map_or(0, |deleted| deleted.rows);
                        format!("{now} rows are deleted, and not the {then} that were; which ones differ cannot be told: {error}")
                    }
                }
            }
        };
        self.undetermined(&Columns::new(), &why, sink).await
    }

    /// Hashes what of the file the store does not know to be as it was sealed, or all of it in one pass. Says which sealed column chunks have
    /// other bytes, and whether what comes after them, the footer included, is as sealed. Of a file of another size nothing is said but that.
    pub(super) async fn chunks(&self) -> Result<(Differing, bool)> {
        let mut differing = Differing::new();
        let Some(location) = self.file.live.location.as_ref().filter(|_| self.size == self.file.live.size) else {
            return Ok((differing, false));
        };
        let mut ranges: Vec<Hashed> = Vec::new();
        for (at, group) in self.file.row_groups.get()?.iter().enumerate() {
            let chunks = group.columns.iter().enumerate();
            ranges.extend(chunks.map(|(leaf, column)| (column.bytes.clone(), column.digest, Some((at, leaf)))));
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
                    differing.entry(*group).or_default().insert(*leaf);
                }
                None => tail_intact = false,
            }
        }
        Ok((differing, tail_intact))
    }

    /// The digests of the ranges that the store does not know to be as they were sealed; `None` for the others. Nothing when it cannot
    /// tell, or when most of the file would be read anyway.
    async fn suspects(&self, location: &Path, ranges: &[Hashed]) -> Result<Option<Vec<Option<Digest>>>> {
        let store = &**self.differ.repository.store();
        let Some(version) = named_version(self.file.version.as_deref()) else { return Ok(None) };
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
    async fn all_digests(&self, location: &Path, ranges: &[Hashed]) -> Result<Vec<Option<Digest>>> {
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
        let digest = |((_, _, place), hasher): (&Hashed, &blake3::Hasher)| match place {
            None if !is_whole => Some(Digest([0; Digest::LEN])),
            _ => Some(Digest(*hasher.finalize().as_bytes())),
        };
        Ok(ranges.iter().zip(&hashers).map(digest).collect())
    }

    /// The top-level columns of leaves: by the sealed footer, where a side with it is given.
    fn columns(&self, differing: &Differing, sealed: Option<&Side>) -> Result<Columns> {
        let groups = self.file.row_groups.get()?;
        let name = |group: usize, leaf: usize| {
            let root = sealed.and_then(|side| side.rows.root_of(leaf)).map(str::to_owned);
            let path = || groups.get(group).and_then(|group| group.columns.get(leaf)).map(|column| self.likely_root(&column.name));
            root.or_else(path)
        };
        let named = |(group, leaves): (&usize, &BTreeSet<usize>)| (*group, leaves.iter().filter_map(|leaf| name(*group, *leaf)).collect());
        Ok(differing.iter().map(named).collect())
    }

    /// The top-level column of a leaf by its dotted path, where no footer is at hand. Names of columns may have dots themselves: what the table
    /// does not know stays the whole path.
    fn likely_root(&self, leaf: &str) -> String {
        let columns = &self.differ.snapshot.schema.columns;
        let of = |name: &str| leaf == name || leaf.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        let known = columns.iter().map(|column| column.physical_name.as_str()).filter(|name| of(name)).max_by_key(|name| name.len());
        known.unwrap_or(leaf).to_owned()
    }

    /// Every column of every row group, those that were not sealed as well: where offsets moved, digests of chunks say nothing.
    fn everything(sealed: &Side, found: &Side) -> Columns {
        let names: BTreeSet<String> = sealed.rows.members().into_iter().chain(found.rows.members()).collect();
        sealed.groups().map(|group| (group, names.clone())).collect()
    }

    async fn undetermined(&self, differing: &Columns, why: &str, sink: &mut dyn Sink) -> Result<bool> {
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

    /// Compares two sides with the same row groups: the columns that differ, and every row that only one of them deletes.
    async fn groups(&self, sealed: Side, found: Side, mut differing: Columns, sink: &mut dyn Sink) -> Result<bool> {
        let otherwise = sealed.deleted_otherwise(&found);
        for group in &otherwise {
            differing.entry(*group).or_default();
        }
        // Rows that moved may have moved into, and out of, a row group that cannot be compared.
        let (mut shifted, mut complete) = (Vec::new(), Complete::BOTH);
        let (mut gone, mut back) = (Vec::new(), Vec::new());
        for (group, columns) in &differing {
            // A row that is there again, or no longer, is shown with all of its values.
            let wanted = if otherwise.contains(group) { None } else { self.wanted(&sealed, columns) };
            let (before, after) = (sealed.read(*group, wanted.as_deref()).await, found.read(*group, wanted.as_deref()).await);
            let going = match (before, after) {
                (Ok(before), Ok(after)) => match self.rows(&sealed, &before, &found, &after)? {
                    Some(mut compared) => {
                        gone.append(&mut compared.gone);
                        back.append(&mut compared.back);
                        let full = gone.len().max(back.len()) > PAIRED_LIMIT_ROWS;
                        give(compared.changes, sink).await? && (!full || self.lone(&mut gone, &mut back, sink).await?)
                    }
                    None => {
                        shifted.push(*group);
                        true
                    }
                },
                (Ok(_), Err(error)) => {
                    complete = Complete::NEITHER;
                    let one = BTreeMap::from([(*group, columns.clone())]);
                    self.undetermined(&one, &format!("what is there cannot be decoded: {error}"), sink).await?
                }
                (Err(error), _) => {
                    complete = Complete::NEITHER;
                    let one = BTreeMap::from([(*group, columns.clone())]);
                    self.undetermined(&one, &format!("the sealed values cannot be shown: {error}"), sink).await?
                }
            };
            if !going {
                return Ok(false);
            }
        }
        if !self.lone(&mut gone, &mut back, sink).await? {
            return Ok(false);
        }
        if shifted.is_empty() {
            return Ok(true);
        }
        let parts = |side: Side| vec![Part { side, groups: shifted.clone() }];
        self.differ.pool(parts(sealed), parts(found), complete, sink).await
    }

    /// Gives out rows that only one side has. They stand where they stood, so that likeness makes no two of them one: a key does.
    async fn lone(&self, gone: &mut Vec<Row>, back: &mut Vec<Row>, sink: &mut dyn Sink) -> Result<bool> {
        let (gone, back, key) = (std::mem::take(gone), std::mem::take(back), &self.differ.options.key);
        let pairing = if key.is_empty() { Pairing::none(gone, back) } else { pair::pair(gone, back, key) };
        let changes = pairing.pairs.into_iter().filter_map(|(sealed, found)| Change::changed(sealed, found));
        let changes = changes.chain(pairing.removed.into_iter().map(Change::removed));
        give(changes.chain(pairing.added.into_iter().map(Change::added)).collect(), sink).await
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
    fn rows(&self, sealed: &Side, before: &[Piece], found: &Side, after: &[Piece]) -> Result<Option<Compared>> {
        let counts = |pieces: &[Piece]| pieces.iter().map(|piece| piece.rows.batch.num_rows()).collect::<Vec<_>>();
        if counts(before) != counts(after) {
            return Ok(None);
        }
        let columns = sealed.rows.members().len().max(1);
        let (mut rows, mut cells, mut changed_rows) = (0_usize, 0_usize, 0_usize);
        let mut compared = Compared::default();
        for (piece, other) in before.iter().zip(after) {
            let mut differing = Vec::new();
            let gone: Vec<usize> = sealed.live(piece).filter(|row| !found.is_live(other, *row)).collect();
            let back: Vec<usize> = found.live(other).filter(|row| !sealed.is_live(piece, *row)).collect();
            for row in sealed.live(piece).filter(|row| found.is_live(other, *row)) {
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
            compared.changes.extend(pairs.filter_map(|(sealed, found)| Change::changed(sealed, found)));
            compared.gone.append(&mut sealed.rows_of(piece, &gone)?);
            compared.back.append(&mut found.rows_of(other, &back)?);
        }
        Ok(Some(compared))
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
