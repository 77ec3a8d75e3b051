//! Checkpoints: classic, multipart and V2 with sidecars, turned into the JSON actions that commits hold.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error as IoError, Write};
use std::sync::Arc;

use arrow::json::writer::{LineDelimited, WriterBuilder};
use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::ParquetMetaData;
use serde_json::Value;

use super::floats::NamedFloats;
use super::load::{LogReader, apply_commit, read_commits, starting_point};
use super::log::{CHECKPOINT_LIMIT_BYTES, CheckpointName, LOG_FOLDER, LogListing, read_object};
use super::memory::LogMemory;
use super::replay::{CommitScope, Replay};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};

/// Folder of sidecars within the log.
const SIDECAR_FOLDER: &str = "_sidecars";
/// Rows that are decoded at a time: few, for a text of the dictionary may stand in each of them.
const BATCH_ROWS: usize = 128;
/// A checkpoint that names more sidecars than this is refused.
const SIDECARS_LIMIT: usize = 100_000;
/// So many rows any checkpoint may have; beyond them each takes a byte of it at least, for a row names a path.
const ROWS_ALLOWED: u64 = 1 << 16;
/// So many bytes any checkpoint may come to when it is decoded.
const DECODED_ALLOWED_BYTES: u64 = 16 << 20;
/// Beyond them, each stored byte may come to so many: wide tables repeat themselves, and Parquet stores that once.
const DECODED_PER_BYTE: u64 = 2048;
/// The table's property that lets writers forget transactions.
const TRANSACTIONS_EXPIRE: &str = "delta.setTransactionRetentionDuration";

/// What the commits up to a version come to.
pub(super) type Replayed = (u64, Replay, LogReader);

type LogObjects = BTreeMap<Path, (Digest, u64)>;

/// Replays all parts and sidecars of `checkpoint` into `replay` and notes what was read. After an error `replay` is empty.
pub(super) async fn replay(
    store: &dyn ObjectStore,
    root: &Path,
    checkpoint: &CheckpointName,
    replay: &mut Replay,
    objects: &mut LogObjects,
) -> Result<()> {
    // It goes to the threads that decode, and comes back.
    let mut rows = Rows { replay: std::mem::take(replay), ..Rows::default() };
    for part in &checkpoint.parts {
        rows = rows.with_object(store, part, checkpoint.json, objects).await.map_err(|e| e.with("checkpoint", part))?;
    }
    for name in std::mem::take(&mut rows.sidecars) {
        let location = sidecar_location(root, &name).map_err(|e| e.with("checkpoint", checkpoint.version))?;
        rows = rows.with_object(store, &location, false, objects).await.map_err(|e| e.with("sidecar", &location))?;
        if !rows.sidecars.is_empty() {
            return Err(Error::new(ErrorKind::Corrupt, "a sidecar names sidecars").with("sidecar", &location));
        }
    }
    *replay = rows.replay;
    Ok(())
}

/// What the rows of a checkpoint come to, applied one after the other.
#[derive(Default)]
struct Rows {
    replay: Replay,
    scope: CommitScope,
    /// The sidecars that were named.
    sidecars: Vec<String>,
}

impl Rows {
    fn apply(&mut self, action: Value) -> Result<()> {
        if let Some(sidecar) = action.get("sidecar").filter(|value| !value.is_null()) {
            let path = sidecar.get("path").and_then(Value::as_str);
            self.sidecars.push(path.ok_or_else(|| Error::new(ErrorKind::Corrupt, "a sidecar has no path"))?.to_owned());
            if self.sidecars.len() > SIDECARS_LIMIT {
                return Err(Error::new(ErrorKind::Corrupt, "a checkpoint names too many sidecars").with("limit", SIDECARS_LIMIT));
            }
        }
        self.replay.apply(action, &mut self.scope)
    }

    /// Reads an object, notes it, and applies all of its rows.
    async fn with_object(mut self, store: &dyn ObjectStore, location: &Path, json: bool, objects: &mut LogObjects) -> Result<Self> {
        let bytes = read_object(store, location, CHECKPOINT_LIMIT_BYTES).await?;
        objects.insert(location.clone(), (Digest::of(&bytes), bytes.len() as u64));
        if json {
            json_lines(&bytes, &mut |action| self.apply(action))?;
            return Ok(self);
        }
        // A decoder that panics on hostile bytes must not take the caller with it.
        let decoded = tokio::task::spawn_blocking(move || -> Result<Self> {
            parquet_actions(bytes, &mut |action| self.apply(action))?;
            Ok(self)
        });
        decoded.await.unwrap_or_else(|e| Err(Error::new(ErrorKind::Corrupt, "the Parquet decoder failed on a checkpoint").caused_by(e)))
    }
}

/// A sidecar is a plain name in `_delta_log/_sidecars`; a URL there would make readers fetch it from anywhere.
fn sidecar_location(root: &Path, name: &str) -> Result<Path> {
    if name.is_empty() || name.contains(['/', '\\', ':', '?', '#', '%']) || name.starts_with('.') {
        return Err(Error::new(ErrorKind::Corrupt, "a checkpoint names a sidecar outside of its folder").with("sidecar", name));
    }
    Ok(root.clone().join(LOG_FOLDER).join(SIDECAR_FOLDER).join(name))
}

type Apply<'a> = &'a mut dyn FnMut(Value) -> Result<()>;

fn json_lines(bytes: &[u8], apply: Apply<'_>) -> Result<()> {
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace)) {
        let action =
            super::json::parse(line).map_err(|e| Error::new(ErrorKind::Corrupt, "a line of a checkpoint is not JSON").caused_by(e))?;
        apply(action)?;
    }
    Ok(())
}

/// Decodes a part or sidecar and applies its rows. Memory: what `apply` keeps, a batch of rows, and the pages that they stand in. The
/// decoder believes the header of a page about its size, which is below 2 GiB.
fn parquet_actions(bytes: Bytes, apply: Apply<'_>) -> Result<()> {
    let damaged = |e: parquet::errors::ParquetError| Error::new(ErrorKind::Corrupt, "a checkpoint is not readable Parquet").caused_by(e);
    let undecoded = |e: arrow::error::ArrowError| Error::new(ErrorKind::Corrupt, "a checkpoint does not decode").caused_by(e);
    let mut left = Allowance::of(bytes.len() as u64);
    // Types come from Parquet's own schema: the decoder of the arrow schema beside it panics on damage.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, options).map_err(damaged)?;
    left.check_footer(builder.metadata())?;
    let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(damaged)?;
    for batch in reader {
        let batch = batch.map_err(undecoded)?;
        left.rows = left.rows.checked_sub(batch.num_rows() as u64).ok_or_else(|| left.too_many_rows())?;
        // Nulls are written out, because a null within `partitionValues` is a value.
        let text = Limited { bytes: Vec::new(), limit_bytes: left.decoded_bytes, exceeded: false };
        let builder = WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(NamedFloats));
        let mut writer = builder.build::<_, LineDelimited>(text);
        let written = writer.write(&batch).and_then(|()| writer.finish());
        let text = writer.into_inner();
        if text.exceeded {
            return Err(left.too_many_bytes());
        }
        written.map_err(undecoded)?;
        left.decoded_bytes = left.decoded_bytes.saturating_sub(text.bytes.len() as u64);
        json_lines(&text.bytes, apply)?;
    }
    Ok(())
}

/// What is left of what a checkpoint of so many bytes may come to. A page of few bytes may stand for any number of rows.
struct Allowance {
    stored_bytes: u64,
    rows: u64,
    decoded_bytes: u64,
}

impl Allowance {
    fn of(stored_bytes: u64) -> Self {
        let decoded_bytes = stored_bytes.saturating_mul(DECODED_PER_BYTE).max(DECODED_ALLOWED_BYTES);
        Self { stored_bytes, rows: stored_bytes.max(ROWS_ALLOWED), decoded_bytes }
    }

    /// Refuses what the footer itself says is too much, before any page is decoded.
    fn check_footer(&self, metadata: &ParquetMetaData) -> Result<()> {
        fn sum(stated: impl Iterator<Item = i64>) -> u64 {
            stated.fold(0, |sum: u64, value| sum.saturating_add(u64::try_from(value).unwrap_or(u64::MAX)))
        }
        if sum(metadata.row_groups().iter().map(|group| group.num_rows())) > self.rows {
            return Err(self.too_many_rows());
        }
        let chunks = metadata.row_groups().iter().flat_map(|group| group.columns());
        if sum(chunks.map(|chunk| chunk.uncompressed_size())) > self.decoded_bytes {
            return Err(self.too_many_bytes());
        }
        Ok(())
    }

    fn too_many_rows(&self) -> Error {
        Error::new(ErrorKind::Corrupt, "a checkpoint has more rows than its bytes can tell of").with("bytes", self.stored_bytes)
    }

    fn too_many_bytes(&self) -> Error {
        Error::new(ErrorKind::Corrupt, "a checkpoint comes to more than its bytes can tell of when it is decoded")
            .with("bytes", self.stored_bytes)
    }
}

/// Bytes in memory, up to a limit.
struct Limited {
    bytes: Vec<u8>,
    limit_bytes: u64,
    exceeded: bool,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len().saturating_add(bytes.len()) as u64 > self.limit_bytes {
            self.exceeded = true;
            return Err(IoError::other("too much"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A checkpoint that tells another state than the commits do, or than the checkpoint of its version that is used in their place.
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
/// When the commits from 0 on are not all there the newest checkpoint *is* the state, and nothing can be said of older ones. Where there
/// are several of its version, engines differ in which they take: all of them are compared with the one that is used.
/// Cost: reads all commits and all checkpoints, once; without all commits, the checkpoints of one version, if there are several.
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
        return Ok((check_twins(store, root, listing, last).await?, None));
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
                Err(e) if is_unreadable(&e) => disagree(e.to_string()),
                Err(e) => return Err(e),
            }
        }
    }
    drop(commits);
    Ok((found, Some((last, state, log))))
}

/// Whether a checkpoint cannot be read because of what it is, and not because its store failed.
fn is_unreadable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound | ErrorKind::Unsupported)
}

/// Compares the checkpoints of `version` with the one of them that is used.
async fn check_twins(store: &dyn ObjectStore, root: &Path, listing: &LogListing, version: u64) -> Result<Vec<CheckpointDisagreement>> {
    let mut found = Vec::new();
    let all = listing.checkpoints.get(&version).map(Vec::as_slice).unwrap_or_default();
    let Some((used, others)) = all.split_first().filter(|(_, others)| !others.is_empty()) else { return Ok(found) };
    let state = replayed(store, root, used).await?;
    for other in others {
        let details = match replayed(store, root, other).await {
            Ok(told) => twin_differences(&state, &told),
            Err(e) if is_unreadable(&e) => vec![e.to_string()],
            Err(e) => return Err(e),
        };
        let checkpoint = other.parts.first().cloned().unwrap_or_default();
        found.extend(details.into_iter().map(|detail| CheckpointDisagreement { version, checkpoint: checkpoint.clone(), detail }));
    }
    Ok(found)
}

async fn replayed(store: &dyn ObjectStore, root: &Path, checkpoint: &CheckpointName) -> Result<Replay> {
    let mut state = Replay::new(root.clone());
    replay(store, root, checkpoint, &mut state, &mut LogObjects::new()).await?;
    Ok(state)
}

/// The objects of the checkpoint that says the newest state of the table at `root`; none where its commits do, or there is no log.
///
/// Cost: one LIST; where the log has several checkpoints of that version, reads all of them.
///
/// # Errors
/// [`ErrorKind::Mismatch`] when they tell different states, so that engines would differ about the table; those of [`super::load`].
pub(crate) async fn judged_checkpoint(store: &dyn ObjectStore, root: &Path) -> Result<BTreeSet<Path>> {
    let listing = LogListing::read(store, root).await?;
    let (Some(newest), commit) = (listing.newest(), listing.commits.keys().next_back()) else { return Ok(BTreeSet::new()) };
    // Whatever a checkpoint says that is newer than the commits: where they are all there, they say the state.
    if commit.is_some_and(|commit| listing.has_commits(0, *commit)) {
        return Ok(BTreeSet::new());
    }
    let Some(used) = starting_point(&listing, newest)? else { return Ok(BTreeSet::new()) };
    if let Some(wrong) = check_twins(store, root, &listing, used.version).await?.into_iter().next() {
        return Err(Error::new(ErrorKind::Mismatch, "the log has two checkpoints of one version that tell different states")
            .with("checkpoint", wrong.checkpoint)
            .with("version", wrong.version)
            .with("difference", wrong.detail));
    }
    Ok(used.parts.iter().cloned().collect())
}

fn differences(commits: &Replay, checkpoint: &Replay) -> Vec<String> {
    let mut found = state_differences(commits, checkpoint);
    // A writer may leave expired transactions and domains out, but may not state others.
    let forged = |(app, version): (&String, &i64)| commits.transactions.get(app) != Some(version);
    found.extend(checkpoint.transactions.iter().filter(|t| forged(*t)).map(|(app, _)| format!("its transaction {app} differs")));
    found
}

/// How another checkpoint of the same version differs from the one that is used. No commits say which of them is right.
fn twin_differences(used: &Replay, other: &Replay) -> Vec<String> {
    let mut found = state_differences(used, other);
    // Either may have been written when more had expired.
    let configuration = used.metadata.as_ref().and_then(|metadata| metadata.get("configuration"));
    let expire = configuration.and_then(|configuration| configuration.get(TRANSACTIONS_EXPIRE)).is_some_and(|value| !value.is_null());
    let apps: BTreeSet<&String> = used.transactions.keys().chain(other.transactions.keys()).collect();
    found.extend(apps.into_iter().filter_map(|app| match (used.transactions.get(app), other.transactions.get(app)) {
        (Some(one), Some(two)) if one == two => None,
        (None, _) | (_, None) if expire => None,
        _ => Some(format!("its transaction {app} differs")),
    }));
    let said = |replay: &Replay, domain: &String| replay.domains.get(domain).map(|domain| domain.get("configuration").cloned());
    let domains: BTreeSet<&String> = used.domains.keys().chain(other.domains.keys()).collect();
    let differing = domains.into_iter().filter(|domain| said(used, domain) != said(other, domain));
    found.extend(differing.map(|domain| format!("its domain {domain} differs")));
    found
}

/// Differences of metadata, protocol and files.
fn state_differences(commits: &Replay, checkpoint: &Replay) -> Vec<String> {
    let mut found = Vec::new();
    if !same_json(commits.metadata.as_ref(), checkpoint.metadata.as_ref()) {
        found.push("its metaData differs".to_owned());
    }
    if !same_json(commits.protocol.as_ref(), checkpoint.protocol.as_ref()) {
        found.push("its protocol differs".to_owned());
    }
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
