//! Checkpoints: classic, multipart and V2 with sidecars, turned into the JSON actions that commits hold.

use std::collections::BTreeMap;

use arrow::json::writer::{LineDelimited, WriterBuilder};
use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use serde_json::Value;

use super::load::{LogReader, apply_commit, read_commits};
use super::log::{CHECKPOINT_LIMIT_BYTES, CheckpointName, LOG_FOLDER, LogListing, read_object};
use super::memory::LogMemory;
use super::replay::{CommitScope, Replay};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};

/// Folder of sidecars within the log.
const SIDECAR_FOLDER: &str = "_sidecars";
const BATCH_ROWS: usize = 1024;
/// A checkpoint that names more sidecars than this is refused.
const SIDECARS_LIMIT: usize = 100_000;

/// What the commits up to a version come to.
pub(super) type Replayed = (u64, Replay, LogReader);

type LogObjects = BTreeMap<Path, (Digest, u64)>;

/// Replays all parts and sidecars of `checkpoint` into `replay` and notes what was read.
pub(super) async fn replay(
    store: &dyn ObjectStore,
    root: &Path,
    checkpoint: &CheckpointName,
    replay: &mut Replay,
    objects: &mut LogObjects,
) -> Result<()> {
    let mut scope = CommitScope::of(None);
    let mut sidecars = Vec::new();
    for part in &checkpoint.parts {
        let actions = read_actions(store, part, checkpoint.json, objects).await?;
        apply(actions, replay, &mut scope, &mut sidecars).map_err(|e| e.with("checkpoint", part))?;
    }
    for name in sidecars {
        let location = sidecar_location(root, &name).map_err(|e| e.with("checkpoint", checkpoint.version))?;
        let actions = read_actions(store, &location, false, objects).await?;
        let mut further = Vec::new();
        apply(actions, replay, &mut scope, &mut further).map_err(|e| e.with("sidecar", &location))?;
        if !further.is_empty() {
            return Err(Error::new(ErrorKind::Corrupt, "a sidecar names sidecars").with("sidecar", &location));
        }
    }
    Ok(())
}

fn apply(actions: Vec<Value>, replay: &mut Replay, scope: &mut CommitScope, sidecars: &mut Vec<String>) -> Result<()> {
    for action in actions {
        if let Some(sidecar) = action.get("sidecar").filter(|value| !value.is_null()) {
            let path = sidecar.get("path").and_then(Value::as_str);
            sidecars.push(path.ok_or_else(|| Error::new(ErrorKind::Corrupt, "a sidecar has no path"))?.to_owned());
            if sidecars.len() > SIDECARS_LIMIT {
                return Err(Error::new(ErrorKind::Corrupt, "a checkpoint names too many sidecars").with("limit", SIDECARS_LIMIT));
            }
        }
        replay.apply(action, scope)?;
    }
    Ok(())
}

/// A sidecar is a plain name in `_delta_log/_sidecars`; a URL there would make readers fetch it from anywhere.
fn sidecar_location(root: &Path, name: &str) -> Result<Path> {
    if name.is_empty() || name.contains(['/', '\\', ':', '?', '#', '%']) || name.starts_with('.') {
        return Err(Error::new(ErrorKind::Corrupt, "a checkpoint names a sidecar outside of its folder").with("sidecar", name));
    }
    Ok(root.clone().join(LOG_FOLDER).join(SIDECAR_FOLDER).join(name))
}

async fn read_actions(store: &dyn ObjectStore, location: &Path, json: bool, objects: &mut LogObjects) -> Result<Vec<Value>> {
    let bytes = read_object(store, location, CHECKPOINT_LIMIT_BYTES).await?;
    objects.insert(location.clone(), (Digest::of(&bytes), bytes.len() as u64));
    let failed = |e: Error| e.with("object", location);
    if json {
        return json_lines(&bytes).map_err(failed);
    }
    // A decoder that panics on hostile bytes must not take the caller with it.
    tokio::task::spawn_blocking(move || parquet_actions(bytes))
        .await
        .unwrap_or_else(|e| Err(Error::new(ErrorKind::Corrupt, "the Parquet decoder failed on a checkpoint").caused_by(e)))
        .map_err(failed)
}

fn json_lines(bytes: &[u8]) -> Result<Vec<Value>> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace));
    lines
        .map(|line| super::json::parse(line).map_err(|e| Error::new(ErrorKind::Corrupt, "a line of a checkpoint is not JSON").caused_by(e)))
        .collect()
}

fn parquet_actions(bytes: Bytes) -> Result<Vec<Value>> {
    let damaged = |e: parquet::errors::ParquetError| Error::new(ErrorKind::Corrupt, "a checkpoint is not readable Parquet").caused_by(e);
    let undecoded = |e: arrow::error::ArrowError| Error::new(ErrorKind::Corrupt, "a checkpoint does not decode").caused_by(e);
    // Types come from Parquet's own schema: the decoder of the arrow schema beside it panics on damage.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, options).map_err(damaged)?;
    let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(damaged)?;
    let mut actions = Vec::new();
    for batch in reader {
        let batch = batch.map_err(undecoded)?;
        // Nulls are written out, because a null within `partitionValues` is a value.
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
        writer.write(&batch).and_then(|()| writer.finish()).map_err(undecoded)?;
        actions.extend(json_lines(&writer.into_inner())?);
    }
    Ok(actions)
}

/// A checkpoint that tells another state than the commits do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointDisagreement {
    /// Delta version of the checkpoint.
    pub version: u64,
    /// The checkpoint's first object.
    pub checkpoint: Path,
    /// What differs, for people.
    pub detail: String,
}

/// Compares every checkpoint up to `version` with the state that the commits give.
///
/// Nothing can be said, and an empty list is returned, when the commits from 0 on are not all there: then the checkpoint *is*
/// the state. Cost: reads all commits and all checkpoints, once.
///
/// # Errors
/// Those of [`super::load`] for the commits; a checkpoint that cannot be read is a disagreement, unless its store failed.
pub async fn check_checkpoints(store: &dyn ObjectStore, root: &Path, version: u64) -> Result<Vec<CheckpointDisagreement>> {
    check_checkpoints_again(store, root, version, None).await
}

/// As [`check_checkpoints`]; what `memory` has from before, and the store lists unchanged, is not read again.
///
/// # Errors
/// Those of [`check_checkpoints`].
pub(crate) async fn check_checkpoints_again(
    store: &dyn ObjectStore,
    root: &Path,
    version: u64,
    memory: Option<&LogMemory>,
) -> Result<Vec<CheckpointDisagreement>> {
    let listing = LogListing::read(store, root).await?;
    check_listed(store, root, &listing, version, memory).await.map(|(found, _)| found)
}

/// As [`check_checkpoints_again`], of the log as it was listed; what its commits come to up to the last checkpoint is handed on.
pub(super) async fn check_listed(
    store: &dyn ObjectStore,
    root: &Path,
    listing: &LogListing,
    version: u64,
    memory: Option<&LogMemory>,
) -> Result<(Vec<CheckpointDisagreement>, Option<Replayed>)> {
    let mut found = Vec::new();
    let Some(last) = listing.checkpoints.range(..=version).next_back().map(|(last, _)| *last) else { return Ok((found, None)) };
    if !listing.has_commits(0, last) {
        return Ok((found, None));
    }
    if let Some(memory) = memory {
        memory.forget_changed(listing);
    }
    let is_new = |checkpoint: &CheckpointName| memory.is_none_or(|memory| !memory.agreed(listing, checkpoint));
    let new = listing.checkpoints.range(..=version).find(|(_, all)| all.iter().any(is_new)).map(|(at, _)| *at);
    let Some(first) = new else { return Ok((found, None)) };
    let resumed = first.checked_sub(1).and_then(|before| memory?.resume(listing, before));
    let (mut state, mut log, unread) = match resumed {
        Some((at, state, log)) => (state, log, at.saturating_add(1)),
        None => (Replay::new(root.clone()), LogReader::default(), 0),
    };
    let mut commits = read_commits(store, listing, unread..=last);
    while let Some((number, location, bytes)) = commits.try_next().await? {
        let mut scope = CommitScope::of(Some(number));
        apply_commit(&mut state, &bytes, &mut scope).map_err(|e| e.with("commit", number))?;
        log.note(number, location, &bytes, scope);
        for checkpoint in listing.checkpoints.get(&number).into_iter().flatten().filter(|checkpoint| is_new(checkpoint)) {
            let location = checkpoint.parts.first().cloned().unwrap_or_default();
            let mut disagree = |detail| found.push(CheckpointDisagreement { version: number, checkpoint: location.clone(), detail });
            let (mut other, mut read) = (Replay::new(root.clone()), LogObjects::new());
            match replay(store, root, checkpoint, &mut other, &mut read).await {
                Ok(()) => {
                    let differences = differences(&state, &other);
                    // Sidecars are not listed, so that nobody says whether they are unchanged.
                    if let (Some(memory), true) = (memory, differences.is_empty() && read.len() == checkpoint.parts.len()) {
                        memory.agree(listing, checkpoint);
                    }
                    differences.into_iter().for_each(&mut disagree);
                }
                Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Unsupported) => disagree(e.to_string()),
                Err(e) => return Err(e),
            }
        }
    }
    drop(commits);
    Ok((found, Some((last, state, log))))
}

fn differences(commits: &Replay, checkpoint: &Replay) -> Vec<String> {
    let mut found = Vec::new();
    if !same_json(commits.metadata.as_ref(), checkpoint.metadata.as_ref()) {
        found.push("its metaData differs".to_owned());
    }
    if !same_json(commits.protocol.as_ref(), checkpoint.protocol.as_ref()) {
        found.push("its protocol differs".to_owned());
    }
    // A writer may leave expired transactions and domains out, but may not state others.
    let forged = |(app, version): (&String, &i64)| commits.transactions.get(app) != Some(version);
    found.extend(checkpoint.transactions.iter().filter(|t| forged(*t)).map(|(app, _)| format!("its transaction {app} differs")));
    let (expected, _) = commits.files();
    let (stated, wrong) = checkpoint.files();
    found.extend(wrong.iter().map(|key| format!("it names the file {} in two ways", key.path)));
    found.extend(expected.keys().filter(|key| !stated.contains_key(*key)).map(|key| format!("it lacks the live file {}", key.path)));
    for (key, file) in &stated {
        let Some(honest) = expected.get(key) else {
            found.push(format!("it adds the file {}", key.path));
            continue;
        };
        if honest.size != file.size
            || !same_partition_values(&honest.partition_values, &file.partition_values)
            || honest.deletion_vector != file.deletion_vector
        {
            found.push(format!("it describes the file {} differently", key.path));
        } else if let (Some(honest), Some(stats)) = (&honest.stats, &file.stats)
            && honest.get("numRecords").and_then(Value::as_f64) != stats.get("numRecords").and_then(Value::as_f64)
        {
            found.push(format!("it states another number of rows for the file {}", key.path));
        }
    }
    found
}

/// Null and the empty text are one partition value.
fn same_partition_values(a: &BTreeMap<String, Option<String>>, b: &BTreeMap<String, Option<String>>) -> bool {
    let value = |map: &BTreeMap<String, Option<String>>, name: &String| map.get(name).cloned().flatten().filter(|v| !v.is_empty());
    a.keys().chain(b.keys()).all(|name| value(a, name) == value(b, name))
}

/// Equal but for members that are null or empty on one side.
fn same_json(a: Option<&Value>, b: Option<&Value>) -> bool {
    fn canonical(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let members = map.iter().map(|(key, value)| (key.clone(), canonical(value)));
                Value::Object(members.filter(|(_, value)| !empty(value)).collect())
            }
            Value::Array(items) if items.iter().all(Value::is_string) => {
                let mut items = items.clone();
                items.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
                Value::Array(items)
            }
            other => other.clone(),
        }
    }
    fn empty(value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Object(map) => map.is_empty(),
            Value::Array(items) => items.is_empty(),
            _ => false,
        }
    }
    a.map(canonical) == b.map(canonical)
}
