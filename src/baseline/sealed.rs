//! A sealed table: what a trusted baseline and its evidence say of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use serde_json::Value;

use super::statement::{BaselineSummary, Statement};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{FileKey, ForeignRoots, LiveFile};

/// A table as a baseline seals it: the statement, and the state that its evidence proves.
#[derive(Debug, Clone)]
pub struct SealedTable {
    /// The signed statement.
    pub statement: Statement,
    /// The statement in short, with its digest and signers.
    pub baseline: BaselineSummary,
    /// The live files at the sealed version.
    pub files: BTreeMap<FileKey, Arc<SealedFile>>,
    /// The commits that were there when the table was sealed, by Delta version.
    pub commits: BTreeMap<u64, SealedCommit>,
    /// Files known to have been removed before the baseline, with the deletion time in milliseconds.
    pub removed: BTreeMap<FileKey, Option<i64>>,
    /// Change-data files that were there when the table was sealed, by path.
    pub changes: BTreeMap<String, SealedObject>,
    /// The table's key for row hashes.
    pub row_key: [u8; 32],
}

impl SealedTable {
    /// Gives the files of other tables, below `roots`, their places in the store of the table at `root`.
    pub(super) fn place(&mut self, root: &Path, roots: &ForeignRoots) {
        if roots.is_empty() {
            return;
        }
        for (key, file) in &mut self.files {
            if let Some(location) = roots.location(root, &key.path) {
                Arc::make_mut(&mut Arc::make_mut(file).live).location = Some(location);
            }
        }
    }

    /// What is said of a sealed file that is not there: whose it was.
    pub(super) fn gone(&self, file: &SealedFile) -> String {
        match self.statement.foreign_roots.root_of(&file.live.key.path) {
            None => "the sealed file is gone".to_owned(),
            Some(root) => format!("the sealed file is gone from the table that it belongs to, at {} (id {})", root.url, root.table_id),
        }
    }

    /// The sealed file at a canonical path, whichever deletion vector it has.
    pub fn file_at(&self, path: &str) -> Option<&Arc<SealedFile>> {
        let from = FileKey { path: path.to_owned(), deletion_vector: None };
        self.files.range(from..).next().filter(|(key, _)| key.path == path).map(|(_, file)| file)
    }
}

/// A commit as sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedCommit {
    /// Plain BLAKE3 of the commit file.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// `commitInfo.operation`, where it was stated.
    pub operation: Option<String>,
}

/// A live file as sealed.
#[derive(Debug, Clone, PartialEq)]
pub struct SealedFile {
    /// What the log said of it. `added_in` is not sealed and absent; in a folder of Parquet `modification_time_ms` is 0.
    pub live: Arc<LiveFile>,
    /// The version that the store gave the object when it was sealed, where the store has versions.
    pub version: Option<String>,
    /// Plain BLAKE3 of the file.
    pub digest: Digest,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
    /// Digest of the bytes after the last column chunk: indexes, bloom filters, footer.
    pub footer: Digest,
    /// Rows in the file, deleted ones included.
    pub rows: u64,
    /// The row encoding of the sums; absent when rows were not hashed.
    pub rows_encoding: Option<u16>,
    /// The deletion vector, when there is one.
    pub deleted: Option<SealedDeletions>,
    /// The block list, when it is small; else it lies in `_seal/blocks/<digest>`.
    pub inline_blocks: Option<Bytes>,
    /// The row groups, in order.
    pub row_groups: RowGroups,
}

/// The row groups of a sealed file, where their evidence was read: nine tenths of all evidence, of which a query that finds everything as it
/// was sealed needs nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct RowGroups(Kept);

/// What was kept of the row groups that evidence tells of.
#[derive(Debug, Clone, PartialEq)]
enum Kept {
    Nothing,
    /// Their digests, as the evidence of that baseline has them.
    Digests(u64, Vec<Digest>),
    Whole(Vec<SealedRowGroup>),
}

impl RowGroups {
    /// Row groups that are known, in order.
    pub const fn known(groups: Vec<SealedRowGroup>) -> Self {
        Self(Kept::Whole(groups))
    }

    pub(super) const fn unread() -> Self {
        Self(Kept::Nothing)
    }

    /// None yet, and of those that the evidence of baseline `number` tells of only the digests are kept.
    pub(super) const fn digests_by(number: u64) -> Self {
        Self(Kept::Digests(number, Vec::new()))
    }

    /// The row groups.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] where their evidence was not read, which happens to no table that this crate hands out.
    pub fn get(&self) -> Result<&[SealedRowGroup]> {
        let unread = || Error::new(ErrorKind::Internal, "the evidence of row groups was not read");
        self.as_read().ok_or_else(unread)
    }

    /// The row groups, where they were read.
    pub fn as_read(&self) -> Option<&[SealedRowGroup]> {
        match &self.0 {
            Kept::Whole(groups) => Some(groups),
            Kept::Nothing | Kept::Digests(..) => None,
        }
    }

    /// The digests of the row groups.
    ///
    /// # Errors
    /// Those of [`Self::get`].
    pub(super) fn digests(&self) -> Result<Vec<Digest>> {
        match &self.0 {
            Kept::Digests(_, digests) => Ok(digests.clone()),
            Kept::Nothing | Kept::Whole(_) => Ok(self.get()?.iter().map(|group| group.digest).collect()),
        }
    }

    /// The digests that are being collected out of the evidence of baseline `number`, where they are.
    pub(super) const fn collected_from(&mut self, number: u64) -> Option<&mut Vec<Digest>> {
        match &mut self.0 {
            Kept::Digests(by, digests) if *by == number => Some(digests),
            _ => None,
        }
    }

    pub(super) fn push(&mut self, group: SealedRowGroup) {
        match &mut self.0 {
            Kept::Whole(groups) => groups.push(group),
            Kept::Nothing | Kept::Digests(..) => *self = Self::known(vec![group]),
        }
    }
}

/// A deletion vector as sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedDeletions {
    /// Number of deleted rows.
    pub rows: u64,
    /// Digest of the deleted row indexes.
    pub digest: Digest,
    /// State of the multiset sum of the deleted rows (4096 bytes), when rows were hashed.
    pub sum: Option<Bytes>,
    /// The object of the table that holds the vector; absent for one that stands in the log.
    pub file: Option<SealedObject>,
}

/// An object that is sealed whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedObject {
    /// Its path, relative to the table.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Plain BLAKE3 of it.
    pub digest: Digest,
}

/// A row group as sealed.
#[derive(Debug, Clone, PartialEq)]
pub struct SealedRowGroup {
    /// Its position in the file, from 0.
    pub ordinal: u32,
    /// Its rows.
    pub rows: u64,
    /// Its bytes in the file.
    pub bytes: Range<u64>,
    /// Root over its column chunks and row count.
    pub digest: Digest,
    /// State of the multiset sum of its rows (4096 bytes), when rows were hashed.
    pub sum: Option<Bytes>,
    /// Its columns.
    pub columns: Vec<SealedColumn>,
}

/// A column chunk as sealed.
#[derive(Debug, Clone, PartialEq)]
pub struct SealedColumn {
    /// Parquet leaf path, dotted; physical names.
    pub name: String,
    /// Its bytes in the file.
    pub bytes: Range<u64>,
    /// Digest of those bytes.
    pub digest: Digest,
    /// Digest of its values in row order, whatever their encoding and compression.
    pub values: Digest,
    /// Number of nulls, where known.
    pub nulls: Option<u64>,
    /// Least value, where it has an order.
    pub min: Option<Value>,
    /// Greatest value, where it has an order.
    pub max: Option<Value>,
}
