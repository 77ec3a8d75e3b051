//! The commits after a baseline, action by action.

use std::collections::BTreeMap;

use object_store::ObjectStore;
use object_store::path::Path;
use serde_json::Value;

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{CommitContents, FileKey, LiveFile, TableKind, TableSnapshot, read_commit};

/// A commit after the baseline.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LaterCommit {
    pub(super) version: u64,
    pub(super) operation: Option<String>,
    pub(super) actions: CommitContents,
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

/// A file that a later commit adds, without what the commit alone says of it.
pub(super) fn unstated(file: &LiveFile) -> LiveFile {
    LiveFile {
        raw_path: file.key.path.clone(),
        stats: None,
        other: BTreeMap::new(),
        modification_time_ms: 0,
        added_in: None,
        ..file.clone()
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
    let exchange = |LaterCommit { actions, .. }: LaterCommit| Exchange {
        removes: actions.removes,
        adds: actions.adds.into_iter().map(|add| add.key).collect(),
    };
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
    let actions = CommitContents::parse(root, version, bytes)?;
    let restore = actions.info.as_ref().filter(|info| info.get("operation").and_then(Value::as_str) == Some("RESTORE"));
    let restores = restore.and_then(|info| info.get("operationParameters")).and_then(restored_version);
    Ok(LaterCommit { version, operation, actions, restores })
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
