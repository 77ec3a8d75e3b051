//! The commits after a baseline, action by action.

use std::collections::BTreeMap;

use object_store::ObjectStore;
use object_store::path::Path;
use serde_json::Value;

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{FileKey, LiveFile, TableKind, TableSnapshot, canonical_path, parse_json, read_commit};

/// A commit after the baseline.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LaterCommit {
    pub(super) version: u64,
    pub(super) operation: Option<String>,
    pub(super) adds: Vec<LaterFile>,
    pub(super) removes: Vec<FileKey>,
    /// Every add and remove says that no data changed.
    pub(super) claims_same_data: bool,
    /// The `metaData` action, when there is one: it may change the schema.
    pub(super) metadata: Option<Value>,
    /// The `protocol` action, when there is one.
    pub(super) protocol: Option<Value>,
    /// The version that it says it restores.
    pub(super) restores: Option<RestoredVersion>,
}

/// What a RESTORE says of the state that it brings back. A claim: the state itself decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RestoredVersion {
    /// The state at this version.
    Version(u64),
    /// The state at this time, in milliseconds since 1970-01-01T00:00:00Z.
    Time(i64),
}

/// A file that a later commit adds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LaterFile {
    pub(super) key: FileKey,
    pub(super) location: Option<Path>,
    pub(super) size: Option<u64>,
    pub(super) partition_values: BTreeMap<String, Option<String>>,
    pub(super) deletion_vector: Option<Value>,
}

impl LaterFile {
    /// The file as readers see it.
    pub(super) fn live(&self) -> LiveFile {
        LiveFile {
            key: self.key.clone(),
            raw_path: self.key.path.clone(),
            location: self.location.clone(),
            size: self.size.unwrap_or_default(),
            partition_values: self.partition_values.clone(),
            stats: None,
            deletion_vector: self.deletion_vector.clone(),
            other: BTreeMap::new(),
            modification_time_ms: 0,
            added_in: None,
        }
    }
}

/// The files that a later commit put in each other's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Files that it removed.
    pub removes: Vec<FileKey>,
    /// Files that it added.
    pub adds: Vec<FileKey>,
}

/// What each commit after `sealed_version` exchanged, in their order; `None` when one of them is no longer there, or for a folder.
///
/// Cost: one GET per commit.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when a commit does not parse; [`ErrorKind::Unavailable`] when it changed while it was read.
pub async fn exchanges(
    store: &dyn ObjectStore,
    root: &Path,
    snapshot: &TableSnapshot,
    sealed_version: u64,
) -> Result<Option<Vec<Exchange>>> {
    if snapshot.kind == TableKind::Parquet {
        return Ok(None);
    }
    let later = read(store, root, snapshot, sealed_version).await?;
    let exchange = |commit: LaterCommit| Exchange { removes: commit.removes, adds: commit.adds.into_iter().map(|add| add.key).collect() };
    Ok(later.map(|commits| commits.into_iter().map(exchange).collect()))
}

/// Reads the commits after `sealed_version`; `None` when one of them is no longer there.
///
/// Cost: one GET per commit.
pub(super) async fn read(
    store: &dyn ObjectStore,
    root: &Path,
    snapshot: &TableSnapshot,
    sealed_version: u64,
) -> Result<Option<Vec<LaterCommit>>> {
    let mut later = Vec::new();
    let mut expected = sealed_version.saturating_add(1);
    for commit in snapshot.commits.iter().filter(|commit| commit.version > sealed_version) {
        if commit.version != expected {
            return Ok(None);
        }
        expected = expected.saturating_add(1);
        let bytes = read_commit(store, root, commit.version).await?;
        if Digest::of(&bytes) != commit.digest {
            return Err(
                Error::new(ErrorKind::Unavailable, "a commit changed while the table was read; try again").with("commit", commit.version)
            );
        }
        later.push(parse(commit.version, commit.operation.clone(), &bytes, root).map_err(|e| e.with("commit", commit.version))?);
    }
    Ok((expected > snapshot.version).then_some(later))
}

fn parse(version: u64, operation: Option<String>, bytes: &[u8], root: &Path) -> Result<LaterCommit> {
    let mut commit = LaterCommit {
        version,
        operation,
        adds: Vec::new(),
        removes: Vec::new(),
        claims_same_data: true,
        metadata: None,
        protocol: None,
        restores: None,
    };
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace)) {
        let action =
            parse_json(line).map_err(|e| Error::new(ErrorKind::Corrupt, "a line of the log is torn or is not JSON").caused_by(e))?;
        let malformed = || Error::new(ErrorKind::Corrupt, "an action of the log names no file");
        if let Some(info) = action.get("commitInfo").filter(|info| info.get("operation").and_then(Value::as_str) == Some("RESTORE")) {
            commit.restores = info.get("operationParameters").and_then(restored_version);
        }
        let there = |name: &str| action.get(name).filter(|body| !body.is_null()).cloned();
        commit.metadata = there("metaData").or(commit.metadata);
        commit.protocol = there("protocol").or(commit.protocol);
        for (name, is_add) in [("add", true), ("remove", false)] {
            let Some(action) = action.get(name).filter(|action| !action.is_null()) else { continue };
            commit.claims_same_data &= action.get("dataChange").and_then(Value::as_bool) == Some(false);
            let file = file(action, root).ok_or_else(malformed)?;
            if is_add {
                commit.adds.push(file);
            } else {
                commit.removes.push(file.key);
            }
        }
    }
    Ok(commit)
}

/// Engines write the parameters as numbers or as text.
fn restored_version(parameters: &Value) -> Option<RestoredVersion> {
    let integer = |name: &str| {
        let value = parameters.get(name)?;
        value.as_i64().or_else(|| value.as_str()?.parse().ok())
    };
    let version = integer("version").and_then(|version| u64::try_from(version).ok()).map(RestoredVersion::Version);
    version.or_else(|| integer("datetime").map(RestoredVersion::Time))
}

fn file(action: &Value, root: &Path) -> Option<LaterFile> {
    let canonical = canonical_path(action.get("path")?.as_str()?);
    let vector = action.get("deletionVector").filter(|vector| !vector.is_null());
    let values = action.get("partitionValues").and_then(Value::as_object);
    Some(LaterFile {
        location: canonical.location(root),
        key: FileKey { path: canonical.as_str().to_owned(), deletion_vector: vector.and_then(vector_id) },
        size: action.get("size").and_then(Value::as_u64),
        partition_values: values.into_iter().flatten().map(|(name, value)| (name.clone(), value.as_str().map(str::to_owned))).collect(),
        deletion_vector: vector.cloned(),
    })
}

/// The unique id of a deletion vector, as the Delta protocol defines it.
fn vector_id(vector: &Value) -> Option<String> {
    let id = format!("{}{}", vector.get("storageType")?.as_str()?, vector.get("pathOrInlineDv")?.as_str()?);
    Some(match vector.get("offset").and_then(Value::as_u64) {
        Some(offset) => format!("{id}@{offset}"),
        None => id,
    })
}
