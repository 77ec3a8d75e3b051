//! Evidence: Parquet files that say what was sealed. `docs/format/evidence.md` is their document.
//!
//! Each seal writes a delta; now and then a full one, so that a reader needs a bounded number of them.

mod columns;
mod extras;
mod read;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;

use super::sealed::{RowGroups, SealedCommit, SealedFile, SealedObject, SealedRowGroup, SealedTable};
use super::statement::{BaselineSummary, EvidenceKind, EvidenceRef, Statement};
use crate::digest::MultisetHash;
use crate::error::{Error, ErrorKind, Result};
use crate::table::FileKey;

pub use extras::{Expectation, Profiles};
pub(super) use extras::{encode_expectations, encode_profiles, read_expectations, read_profiles};

/// A block list of at most this many bytes stands in the evidence itself: that of a file of up to 4 MiB.
pub(super) const INLINE_BLOCKS_LIMIT_BYTES: usize = 2048;
/// So many row groups, of a bit more than 4 KiB each, stand in one piece of evidence; where a seal has more than eight times as many, an eighth
/// of them: a reader holds a piece or two at a time, and reads few.
const GROUPS_A_PIECE: usize = 8192;
const PIECES_OF_GROUPS: usize = 8;
/// Every so many baselines the evidence is written whole.
pub(super) const FULL_EVERY: u64 = 16;
/// Version of the evidence's format, in its key-value metadata.
pub(super) const FORMAT: &str = "1";
/// Key-value metadata: version of the format.
pub(super) const META_FORMAT: &str = "lakeseal.evidence.format";
/// Key-value metadata: what the file holds.
pub(super) const META_KIND: &str = "lakeseal.evidence.kind";
/// Key-value metadata: the table's key for row hashes, in hexadecimal.
pub(super) const META_ROW_KEY: &str = "lakeseal.evidence.row_key";

/// What one seal adds to the evidence.
#[derive(Debug, Default)]
pub(super) struct Delta<'a> {
    /// Files that are live now.
    pub(super) added: Vec<&'a SealedFile>,
    /// Files that are no longer live.
    pub(super) removed: Vec<&'a FileKey>,
    /// Files that the log remembers as removed.
    pub(super) tombstones: Vec<(&'a FileKey, Option<i64>)>,
    /// Commits.
    pub(super) commits: Vec<(u64, &'a SealedCommit)>,
    /// Change-data files.
    pub(super) changes: Vec<&'a SealedObject>,
}

impl Delta<'_> {
    /// The Parquet files of this delta; an empty one is not written.
    pub(super) fn encode(&self, row_key: &[u8; 32]) -> Result<Vec<(EvidenceKind, Vec<u8>)>> {
        let mut out = Vec::new();
        if !(self.added.is_empty() && self.removed.is_empty() && self.tombstones.is_empty()) {
            out.push((EvidenceKind::Files, write::encode(EvidenceKind::Files, &write::files(self)?, row_key)?));
        }
        for files in self.groups_in_pieces(GROUPS_A_PIECE)? {
            out.push((EvidenceKind::RowGroups, write::encode(EvidenceKind::RowGroups, &write::row_groups(files)?, row_key)?));
        }
        if !self.commits.is_empty() {
            out.push((EvidenceKind::Commits, write::encode(EvidenceKind::Commits, &write::commits(&self.commits)?, row_key)?));
        }
        if !self.changes.is_empty() {
            out.push((EvidenceKind::Changes, write::encode(EvidenceKind::Changes, &write::changes(&self.changes)?, row_key)?));
        }
        Ok(out)
    }

    /// The added files, in runs whose row groups make a piece each. A file's row groups stay together.
    fn groups_in_pieces(&self, least: usize) -> Result<Vec<&[&SealedFile]>> {
        let counts = self.added.iter().map(|file| Ok(file.row_groups.get()?.len())).collect::<Result<Vec<_>>>()?;
        let limit = least.max(counts.iter().sum::<usize>().div_ceil(PIECES_OF_GROUPS));
        let (mut pieces, mut begin, mut groups) = (Vec::new(), 0, 0);
        for (at, count) in counts.iter().enumerate() {
            if groups > 0 && groups + count > limit {
                pieces.extend(self.added.get(begin..at));
                (begin, groups) = (at, 0);
            }
            groups += count;
        }
        if groups > 0 {
            pieces.extend(self.added.get(begin..));
        }
        Ok(pieces)
    }
}

/// Row groups by file, as evidence alone tells them: those of the file's last sealing, live or not.
pub(crate) type RowGroupsByFile = BTreeMap<FileKey, Vec<SealedRowGroup>>;

/// Adds the row groups of one piece of evidence, in the order in which the statement names them.
pub(super) fn add_row_groups(all: &mut RowGroupsByFile, bytes: Bytes) -> Result<()> {
    for batch in read::Evidence::open(bytes, EvidenceKind::RowGroups)? {
        for (key, group) in read::row_groups(&batch?)? {
            let groups = all.entry(key.clone()).or_default();
            if group.ordinal == 0 {
                groups.clear();
            }
            if usize::try_from(group.ordinal).ok() != Some(groups.len()) {
                return Err(out_of_order(&key));
            }
            groups.push(group);
        }
    }
    Ok(())
}

fn out_of_order(key: &FileKey) -> Error {
    corrupt("has row groups out of order").with("file", &key.path)
}

/// What is kept of the row groups that evidence tells of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Detail {
    /// Nothing: they are not read.
    #[default]
    Nothing,
    /// What the roots of a state are made of: their digests, and one sum over all of them.
    Roots,
    /// All.
    Whole,
}

/// The state that evidence comes to, piece by piece.
#[derive(Debug, Default)]
pub(super) struct State {
    detail: Detail,
    files: BTreeMap<FileKey, Arc<SealedFile>>,
    commits: BTreeMap<u64, SealedCommit>,
    removed: BTreeMap<FileKey, Option<i64>>,
    changes: BTreeMap<String, SealedObject>,
    row_key: Option<[u8; 32]>,
}

impl State {
    /// Nothing yet.
    pub(super) fn new(detail: Detail) -> Self {
        Self { detail, ..Self::default() }
    }

    /// Applies one piece of evidence, in the order in which the statement names them.
    pub(super) fn apply(&mut self, reference: &EvidenceRef, bytes: Bytes, root: &Path) -> Result<()> {
        let evidence = read::Evidence::open(bytes, reference.kind)?;
        self.check_key(&evidence)?;
        for batch in evidence {
            let batch = batch?;
            match reference.kind {
                EvidenceKind::Files => read::files(&batch, root)?.into_iter().for_each(|change| self.change(change, reference.number)),
                EvidenceKind::RowGroups => {
                    for (key, group) in read::row_groups(&batch)? {
                        self.add_row_group(&key, group)?;
                    }
                }
                EvidenceKind::Commits => self.commits.extend(read::commits(&batch)?),
                // Not a part of the state.
                EvidenceKind::Profiles | EvidenceKind::Expectations => {}
                EvidenceKind::Changes => self.changes.extend(read::changes(&batch)?.into_iter().map(|file| (file.path.clone(), file))),
            }
        }
        Ok(())
    }

    /// Applies one piece about row groups, after all about files: adds their sums to `sum`, which is absent from where one has none, and keeps their
    /// digests. Those of files that are no longer live, or were sealed again later, are passed over.
    pub(super) fn apply_roots(&mut self, reference: &EvidenceRef, bytes: Bytes, sum: &mut Option<MultisetHash>) -> Result<()> {
        let evidence = read::Evidence::of_roots(bytes)?;
        self.check_key(&evidence)?;
        for batch in evidence {
            for group in read::rooted_groups(&batch?) {
                let group = group?;
                let Some(file) = self.files.get_mut(&group.key) else { continue };
                let Some(digests) = Arc::make_mut(file).row_groups.collected_from(reference.number) else { continue };
                if usize::try_from(group.ordinal).ok() != Some(digests.len()) {
                    return Err(out_of_order(&group.key));
                }
                digests.push(group.digest);
                match (sum.as_mut(), group.sum) {
                    (Some(sum), Some(stored)) => sum.add(&MultisetHash::from_bytes(stored)?),
                    (_, None) => *sum = None,
                    (None, Some(_)) => {}
                }
            }
        }
        Ok(())
    }

    fn check_key(&mut self, evidence: &read::Evidence) -> Result<()> {
        if *self.row_key.get_or_insert(evidence.row_key) == evidence.row_key {
            return Ok(());
        }
        Err(corrupt("has another key for row hashes than the evidence before it"))
    }

    fn change(&mut self, change: read::Change, number: u64) {
        match change {
            read::Change::Add(mut file) => {
                self.removed.remove(&file.live.key);
                match self.detail {
                    Detail::Nothing => {}
                    Detail::Roots => Arc::make_mut(&mut file).row_groups = RowGroups::digests_by(number),
                    Detail::Whole => Arc::make_mut(&mut file).row_groups = RowGroups::known(Vec::new()),
                }
                self.files.insert(file.live.key.clone(), file);
            }
            read::Change::Remove(key) => {
                self.files.remove(&key);
                self.removed.entry(key).or_default();
            }
            read::Change::Tombstone(key, at) => {
                self.files.remove(&key);
                self.removed.insert(key, at);
            }
        }
    }

    fn add_row_group(&mut self, key: &FileKey, group: SealedRowGroup) -> Result<()> {
        let file =
            self.files.get_mut(key).ok_or_else(|| corrupt("speaks of a row group of a file that is not sealed").with("file", &key.path))?;
        if usize::try_from(group.ordinal).ok() != file.row_groups.as_read().map(<[_]>::len) {
            return Err(out_of_order(key));
        }
        Arc::make_mut(file).row_groups.push(group);
        Ok(())
    }

    /// The sealed table; nothing of it is held against the statement yet.
    pub(super) fn finish(self, statement: Statement, baseline: BaselineSummary) -> Result<SealedTable> {
        let row_key = self.row_key.ok_or_else(|| corrupt("is absent: a baseline names none"))?;
        let Self { files, commits, removed, changes, .. } = self;
        Ok(SealedTable { statement, baseline, files, commits, removed, changes, row_key })
    }
}

fn corrupt(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("evidence {what}"))
}

#[cfg(test)]
mod tests;
