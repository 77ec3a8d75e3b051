//! The sealed state, proven by evidence alone: whatever has become of the log since, this is what was signed.

use std::collections::BTreeMap;

use object_store::path::Path;
use serde_json::Value;

use super::sealed::SealedTable;
use super::{canonical, state};
use crate::error::{Error, ErrorKind, Result};
use crate::table::{LoadedLog, TableKind, TableSchema, TableSnapshot, partition_columns_of};

/// The state that a log comes to, with the files of other tables that the baseline lets it name.
///
/// # Errors
/// Those of a log that cannot be replayed.
pub(crate) fn snapshot_of(log: LoadedLog, root: &Path, sealed: &SealedTable) -> Result<TableSnapshot> {
    let mut snapshot = state_of(log, sealed)?;
    sealed.statement.foreign_roots.place(root, &mut snapshot);
    Ok(snapshot)
}

/// The state that a log comes to. Where its first commits are the very ones that were sealed, all from 0 on, the files as of then come from evidence: the
/// same bytes came to that when they were sealed, and are not parsed again.
pub(super) fn state_of(log: LoadedLog, sealed: &SealedTable) -> Result<TableSnapshot> {
    let LoadedLog::Commits(commits) = log else { return log.snapshot() };
    let stated = &sealed.statement.state;
    let sealed_digests = (0..=stated.version).map(|version| sealed.commits.get(&version).map(|commit| commit.digest));
    let is_sealed = stated.kind == TableKind::Delta
        && commits.version() >= stated.version
        && commits.digests().zip(sealed_digests).all(|(found, sealed)| sealed == Some(found));
    if !is_sealed {
        return LoadedLog::Commits(commits).snapshot();
    }
    let files = sealed.files.values().map(|file| file.live.clone());
    commits.snapshot_after(stated.version.saturating_add(1), files, sealed.removed.clone())
}

/// Collects what evidence does not hold of a sealed state: the table's `protocol` and `metaData`, of which the statement has digests.
///
/// It is offered whatever may hold them, trusted or not, and takes what has the sealed digests.
#[derive(Debug)]
pub struct ProvenState<'a> {
    sealed: &'a SealedTable,
    protocol: Option<Value>,
    metadata: Option<Value>,
}

impl<'a> ProvenState<'a> {
    /// Nothing is found yet. A folder of Parquet needs nothing.
    pub fn new(sealed: &'a SealedTable) -> Self {
        Self { sealed, protocol: None, metadata: None }
    }

    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.sealed.statement.state.kind == TableKind::Parquet || (self.protocol.is_some() && self.metadata.is_some())
    }

    /// Takes what a snapshot has of it.
    pub fn offer_snapshot(&mut self, snapshot: &TableSnapshot) {
        self.offer(&snapshot.protocol, &snapshot.metadata);
    }

    /// Takes what the text of a commit has of it; lines that are no JSON are passed over.
    pub fn offer_commit(&mut self, bytes: &[u8]) {
        for line in bytes.split(|byte| *byte == b'\n') {
            let Ok(action) = serde_json::from_slice::<Value>(line) else { continue };
            self.offer(action.get("protocol").unwrap_or(&Value::Null), action.get("metaData").unwrap_or(&Value::Null));
        }
    }

    fn offer(&mut self, protocol: &Value, metadata: &Value) {
        let stated = &self.sealed.statement.state;
        if self.protocol.is_none() && canonical::digest(&canonical::normal_protocol(protocol)) == stated.protocol {
            self.protocol = Some(protocol.clone());
        }
        if self.metadata.is_none() && canonical::digest(&canonical::normal(metadata)) == stated.metadata {
            self.metadata = Some(metadata.clone());
        }
    }

    /// The sealed state: its files with statistics, partition values and deletion vectors come from evidence.
    ///
    /// It has no commits and no log objects: [`crate::table::written_as_commit`] makes a log of it.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] when `protocol` or `metaData` was not found: what is there is not what was sealed.
    pub fn snapshot(self) -> Result<TableSnapshot> {
        let stated = &self.sealed.statement.state;
        let files: BTreeMap<_, _> = self.sealed.files.iter().map(|(key, file)| (key.clone(), file.live.clone())).collect();
        let missing = |what: &str| {
            let what = format!(
                "the table's {what} is not the sealed one, and the sealed one is nowhere to be found with its digest: neither in the log nor \
                 in retained versions of its commits"
            );
            Error::new(ErrorKind::Mismatch, what).with("baseline", self.sealed.baseline.number)
        };
        let (protocol, metadata, schema) = match stated.kind {
            TableKind::Parquet => {
                let partition_columns = partition_columns_of(&files);
                (Value::Null, Value::Null, TableSchema { partition_columns, ..TableSchema::default() })
            }
            TableKind::Delta => {
                let protocol = self.protocol.ok_or_else(|| missing("protocol"))?;
                let metadata = self.metadata.ok_or_else(|| missing("schema"))?;
                let schema = TableSchema::from_metadata(&metadata)?;
                (protocol, metadata, schema)
            }
        };
        let snapshot = TableSnapshot {
            kind: stated.kind,
            table_id: stated.table_id.clone(),
            version: stated.version,
            protocol,
            metadata,
            domains: BTreeMap::new(),
            transactions: BTreeMap::new(),
            files,
            changes: BTreeMap::new(),
            typed: BTreeMap::new(),
            duplicates: Vec::new(),
            tombstones: self.sealed.removed.clone(),
            commits: Vec::new(),
            checkpoint: None,
            log_objects: BTreeMap::new(),
            schema,
        };
        // What was taken has the sealed digests; this says so of the schema, which is a digest of its own.
        if stated.kind == TableKind::Delta && state::head_digests(&snapshot).schema != stated.schema {
            return Err(Error::new(ErrorKind::Corrupt, "the sealed metadata has another schema than the sealed one"));
        }
        Ok(snapshot)
    }
}
