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
use crate::error::{Error, ErrorKind, Result};
use crate::table::FileKey;

pub use extras::{Expectation, Profiles};
pub(super) use extras::{encode_expectations, encode_profiles, read_expectations, read_profiles};

/// A block list of at most this many bytes stands in the evidence itself: that of a file of up to 4 MiB.
pub(super) const INLINE_BLOCKS_LIMIT_BYTES: usize = 2048;
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
        if self.added.iter().any(|file| file.row_groups.as_read().is_none_or(|groups| !groups.is_empty())) {
            out.push((EvidenceKind::RowGroups, write::encode(EvidenceKind::RowGroups, &write::row_groups(&self.added)?, row_key)?));
        }
        if !self.commits.is_empty() {
            out.push((EvidenceKind::Commits, write::encode(EvidenceKind::Commits, &write::commits(&self.commits)?, row_key)?));
        }
        if !self.changes.is_empty() {
            out.push((EvidenceKind::Changes, write::encode(EvidenceKind::Changes, &write::changes(&self.changes)?, row_key)?));
        }
        Ok(out)
    }
}

/// Row groups by file, as evidence alone tells them: those of the file's last sealing, live or not.
pub(crate) type RowGroupsByFile = BTreeMap<FileKey, Vec<SealedRowGroup>>;

/// Adds the row groups of one piece of evidence, in the order in which the statement names them.
pub(super) fn add_row_groups(all: &mut RowGroupsByFile, bytes: Bytes) -> Result<()> {
    for batch in read::Evidence::open(bytes, EvidenceKind::RowGroups)?.batches {
        for (key, group) in read::row_groups(&batch)? {
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

/// The state that evidence comes to, piece by piece.
#[derive(Debug, Default)]
pub(super) struct State {
    with_row_groups: bool,
    files: BTreeMap<FileKey, Arc<SealedFile>>,
    commits: BTreeMap<u64, SealedCommit>,
    removed: BTreeMap<FileKey, Option<i64>>,
    changes: BTreeMap<String, SealedObject>,
    row_key: Option<[u8; 32]>,
}

impl State {
    /// Nothing yet. Without row groups, those of every file are unread.
    pub(super) fn new(with_row_groups: bool) -> Self {
        Self { with_row_groups, ..Self::default() }
    }

    /// Applies one piece of evidence, in the order in which the statement names them.
    pub(super) fn apply(&mut self, reference: &EvidenceRef, bytes: Bytes, root: &Path) -> Result<()> {
        let evidence = read::Evidence::open(bytes, reference.kind)?;
        if *self.row_key.get_or_insert(evidence.row_key) != evidence.row_key {
            return Err(corrupt("has another key for row hashes than the evidence before it"));
        }
        for batch in evidence.batches {
            match reference.kind {
                EvidenceKind::Files => read::files(&batch, root)?.into_iter().for_each(|change| self.change(change)),
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

    fn change(&mut self, change: read::Change) {
        match change {
            read::Change::Add(mut file) => {
                self.removed.remove(&file.live.key);
                if self.with_row_groups {
                    Arc::make_mut(&mut file).row_groups = RowGroups::known(Vec::new());
                }
                self.files.insert(file.live.key.clone(), file);
            }
            read::Change::Remove(key) => {
                self.files.remove(&key);
                self.removed.entry(key).or_default();
            }
            read::Change::Tombstone(key, at) => {
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
