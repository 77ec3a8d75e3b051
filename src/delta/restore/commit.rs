//! The restoring commit as text, and what of a log is no commit.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt as _;
use object_store::ObjectStore as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use serde_json::{Map, Value, json};

use super::RestorePlan;
use crate::delta::Location;
use crate::error::Result;
use crate::table::{FileKey, LiveFile, add_action, canonical_path, read_object};

/// A commit that states a time further ahead than this, in milliseconds, is not followed: clocks do not go so wrong.
const AHEAD_LIMIT_MS: i64 = 24 * 60 * 60 * 1000;
const COMMIT_LIMIT_BYTES: u64 = 256 << 20;

/// Whether the time that a commit states is one that the next commit should follow. Any writer states what it likes.
pub(super) fn is_believable(stated_ms: i64, now_ms: i64) -> bool {
    stated_ms <= now_ms.saturating_add(AHEAD_LIMIT_MS)
}

/// The lines of the commit that carries out `plan`, which states `timestamp_ms`. What it does to files is done at `now_ms`: they expire by that.
pub(super) fn text(plan: &RestorePlan, timestamp_ms: i64, now_ms: i64) -> Vec<u8> {
    let info = json!({
        "timestamp": timestamp_ms,
        "inCommitTimestamp": timestamp_ms,
        "operation": "RESTORE",
        "operationParameters": {
            "baseline": plan.baseline.to_string(),
            "sealedVersion": plan.sealed_version.to_string(),
            "keptCommits": json!(plan.kept).to_string(),
            "undoneCommits": json!(plan.dropped).to_string(),
        },
        "engineInfo": concat!("lakeseal/", env!("CARGO_PKG_VERSION")),
    });
    let mut out = Vec::new();
    line(&mut out, "commitInfo", info);
    for (name, body) in &plan.head {
        line(&mut out, name, body.clone());
    }
    for file in &plan.removed {
        line(&mut out, "remove", remove_action(file, now_ms));
    }
    for file in &plan.described {
        line(&mut out, "add", add_action(file));
    }
    for replacement in &plan.replaced {
        line(&mut out, "add", add_action(&LiveFile { modification_time_ms: now_ms, ..replacement.live.clone() }));
    }
    out
}

fn remove_action(file: &LiveFile, now_ms: i64) -> Value {
    let mut remove = json!({
        "path": file.raw_path,
        "deletionTimestamp": now_ms,
        "dataChange": true,
        "extendedFileMetadata": true,
        "partitionValues": file.partition_values,
        "size": file.size,
    });
    if let (Value::Object(members), Some(vector)) = (&mut remove, &file.deletion_vector) {
        members.insert("deletionVector".to_owned(), vector.clone());
    }
    remove
}

fn line(out: &mut Vec<u8>, name: &str, body: Value) {
    let action = Value::Object(Map::from_iter([(name.to_owned(), body)]));
    out.extend_from_slice(action.to_string().as_bytes());
    out.push(b'\n');
}

/// Every spelling under which the commits add the files of `keys`: engines that do not canonicalise tell them apart.
pub(super) async fn spellings(log: &InMemory, keys: &BTreeSet<&FileKey>) -> Result<Vec<LiveFile>> {
    let mut found: Vec<LiveFile> = Vec::new();
    let commits: Vec<Path> = log.list(None).map_ok(|meta| meta.location).try_collect().await?;
    for path in commits.iter().filter(|path| path.extension() == Some("json")) {
        let bytes = read_object(log, path, COMMIT_LIMIT_BYTES).await?;
        let adds = bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok()?.get("add").cloned());
        for file in adds.filter_map(|add| spelled(&add, keys)) {
            if !found.iter().any(|known| known.raw_path == file.raw_path && known.deletion_vector == file.deletion_vector) {
                found.push(file);
            }
        }
    }
    Ok(found)
}

/// The file of an `add`, as far as a `remove` has to name it, when it is one of `keys`.
fn spelled(add: &Value, keys: &BTreeSet<&FileKey>) -> Option<LiveFile> {
    let raw_path = add.get("path")?.as_str()?;
    let canonical = canonical_path(raw_path);
    let key = keys.iter().find(|key| key.path == canonical.as_str())?;
    let values = add.get("partitionValues").and_then(Value::as_object);
    Some(LiveFile {
        key: (*key).clone(),
        raw_path: raw_path.to_owned(),
        location: None,
        size: add.get("size").and_then(Value::as_u64).unwrap_or_default(),
        partition_values: values.into_iter().flatten().map(|(name, value)| (name.clone(), value.as_str().map(str::to_owned))).collect(),
        stats: None,
        deletion_vector: add.get("deletionVector").filter(|vector| !vector.is_null()).cloned(),
        other: BTreeMap::new(),
        modification_time_ms: 0,
        added_in: None,
    })
}

/// The names in the stored log.
pub(super) async fn log_objects(location: &Location) -> Result<Vec<Path>> {
    let folder = location.root().clone().join("_delta_log");
    Ok(location.store().list(Some(&folder)).map_ok(|meta| meta.location).try_collect().await?)
}
