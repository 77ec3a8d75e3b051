//! What a table is, read from stored bytes by ourselves: a Delta log replayed action by action, or a folder of Parquet.
//!
//! Nothing here is trusted: a [`TableSnapshot`] says what is *there*. `baseline` compares it with what was sealed.

mod action;
mod checkpoint;
mod checkpoint_rows;
mod commit;
pub mod deletion_vector;
mod floats;
mod folder;
mod foreign;
mod json;
mod load;
mod log;
mod memory;
mod mounted;
mod path;
mod read_log;
mod replay;
mod schema;
mod stats;
#[cfg(test)]
pub(crate) mod testing;
mod unreached;
mod written;

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::path::Path;
use serde_json::Value;

use crate::digest::Digest;

/// What kind of table lies at a location.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// A Delta table: there is a `_delta_log`.
    Delta,
    /// A folder of Parquet files, possibly in `key=value` folders.
    Parquet,
}

/// Names one live file of a table: a path may be live once per deletion vector at most.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileKey {
    /// Canonical path: relative to the table, percent-decoded, no `.` or `..`. A foreign file has its whole URL.
    pub path: String,
    /// Unique id of the deletion vector, as Delta defines it; absent when there is none.
    pub deletion_vector: Option<String>,
}

/// One live file, as the log (or the folder) describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveFile {
    /// Its name.
    pub key: FileKey,
    /// The path as the log spells it.
    pub raw_path: String,
    /// Where it lies in the table's store; absent for a path outside of the table, but for files of tables that a signed statement names
    /// ([`ForeignRoots`]).
    pub location: Option<Path>,
    /// Size in bytes that the log states.
    pub size: u64,
    /// Partition values by *physical* column name, as the log's text; `None` is null.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// The statistics, as stated.
    pub stats: Option<Stats>,
    /// The deletion vector's descriptor, as stated.
    pub deletion_vector: Option<Value>,
    /// Every other member of the `add` action that steers a reader (baseRowId, defaultRowCommitVersion, clusteringProvider, tags).
    pub other: BTreeMap<String, Value>,
    /// `modificationTime`, in milliseconds.
    pub modification_time_ms: i64,
    /// The commit that added it, when the commit is still there.
    pub added_in: Option<u64>,
}

/// A change-data file, which readers of changes read instead of the table's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeFile {
    /// Where it lies; absent for a path outside of the table.
    pub location: Option<Path>,
    /// Size in bytes that the log states.
    pub size: Option<u64>,
    /// The commit that names it.
    pub version: u64,
}

/// What a checkpoint says of a file in typed form, beside the text that [`LiveFile`] has: readers prune by it.
#[derive(Debug, Clone, PartialEq)]
pub struct TypedAdd {
    /// `stats_parsed`, where `stats` is there as well.
    pub stats: Option<Value>,
    /// `partitionValues_parsed`.
    pub partition_values: Option<Value>,
}

/// One commit of the log that is still there.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// Its Delta version.
    pub version: u64,
    /// Plain BLAKE3 of the commit file's exact bytes.
    pub digest: Digest,
    /// Size of the commit file in bytes.
    pub size: u64,
    /// `commitInfo.operation`, where it is stated.
    pub operation: Option<String>,
    /// The commit's time in milliseconds: inCommitTimestamp, else commitInfo.timestamp; absent when it has neither.
    pub timestamp_ms: Option<i64>,
}

/// The state of a table at one version.
#[derive(Debug, Clone, PartialEq)]
pub struct TableSnapshot {
    /// Delta or Parquet.
    pub kind: TableKind,
    /// Delta's `metaData.id`; for a folder, empty.
    pub table_id: String,
    /// Delta version; 0 for a folder.
    pub version: u64,
    /// The `protocol` action.
    pub protocol: Value,
    /// The `metaData` action.
    pub metadata: Value,
    /// `domainMetadata` by domain, removed ones left out.
    pub domains: BTreeMap<String, Value>,
    /// `txn` actions: last version by appId.
    pub transactions: BTreeMap<String, i64>,
    /// Live files.
    pub files: BTreeMap<FileKey, Arc<LiveFile>>,
    /// Change-data files of the commits that are still there, by canonical path.
    pub changes: BTreeMap<String, ChangeFile>,
    /// What a checkpoint says of live files a second time.
    pub typed: BTreeMap<FileKey, TypedAdd>,
    /// Files that are live twice under one path with different deletion vectors, or twice under aliases of one path, or that one
    /// commit names twice, or that were removed under another spelling: readers disagree about them, so they are always wrong.
    pub duplicates: Vec<FileKey>,
    /// Removed files that the log still remembers, with their deletion time in milliseconds.
    pub tombstones: BTreeMap<FileKey, Option<i64>>,
    /// The commits that are still there, oldest first.
    pub commits: Vec<Commit>,
    /// Version of the checkpoint that the replay began with; absent when it began with commit 0.
    pub checkpoint: Option<u64>,
    /// Each object of the log that was read, with digest and size: a reader that sees exactly these sees this state.
    pub log_objects: BTreeMap<Path, (Digest, u64)>,
    /// Columns of the table.
    pub schema: TableSchema,
}

pub use checkpoint::{CheckpointDisagreement, check_checkpoints};
pub(crate) use checkpoint::{check_checkpoints_again, judged_checkpoint, transactions_expire};
pub(crate) use commit::CommitContents;
pub(crate) use folder::{NULL_PARTITION, misplaced, partition_columns_of};
pub use foreign::{ForeignRoot, ForeignRoots};
pub(crate) use foreign::{foreign_file, is_foreign, is_mounted, mount_of, spelled_within};
pub(crate) use json::parse as parse_json;
pub use load::load;
pub(crate) use load::load_again;
pub(crate) use log::{BEGUN, commit_path, commit_versions, parse_commit_path, read_commit, read_object, read_object_up_to};
pub use memory::LogMemory;
pub(crate) use mounted::{OpenedRoots, WantedRoots, mounted, mounted_unreached};
pub use path::{CanonicalPath, canonical_path};
pub(crate) use read_log::{CheckedLog, LoadedLog, ReadCommits, read as read_log, read_checked};
pub use schema::{ColumnType, PrimitiveType, TableColumn, TableSchema, added_columns};
pub use stats::Stats;
pub use written::{EXACT_DIGITS, add_action, may_be_rounded, written_as_commit};

#[cfg(test)]
mod checkpoint_tests;
#[cfg(test)]
mod tests;
