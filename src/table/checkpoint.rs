//! Checkpoints: classic, multipart and V2 with sidecars, turned into the JSON actions that commits hold.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt as _;
use object_store::ObjectStore;
use object_store::path::Path;
use serde_json::Value;

use super::checkpoint_rows::{json_lines, parquet_actions};
use super::load::{LogReader, apply_commit, read_commits, starting_point};
use super::log::{CHECKPOINT_LIMIT_BYTES, CheckpointName, LOG_FOLDER, LogListing, read_object};
use super::memory::LogMemory;
use super::replay::{CommitScope, Replay};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};

/// Folder of sidecars within the log.
const SIDECAR_FOLDER: &str = "_sidecars";
/// A checkpoint that names more sidecars than this is refused.
const SIDECARS_LIMIT: usize = 100_000;
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
    if checkpoint.in_parts && !rows.sidecars.is_empty() {
        let what = "a checkpoint in parts names sidecars, which only one of a single object may: readers pass them over";
        return Err(Error::new(ErrorKind::Corrupt, what).with("checkpoint", checkpoint.parts.first().cloned().unwrap_or_default()));
    }
    rows.in_sidecar = true;
    for name in std::mem::take(&mut rows.sidecars) {
        let location = sidecar_location(root, &name).map_err(|e| e.with("checkpoint", checkpoint.version))?;
        rows = rows.with_object(store, &location, false, objects).await.map_err(|e| e.with("sidecar", &location))?;
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
    in_sidecar: bool,
}

impl Rows {
    fn apply(&mut self, action: Value) -> Result<()> {
        let of_file = |name: &str| matches!(name, "add" | "remove");
        if self.in_sidecar && action.as_object().is_some_and(|row| row.iter().any(|(name, body)| !body.is_null() && !of_file(name))) {
            return Err(Error::new(ErrorKind::Corrupt, "a sidecar speaks of more than files, which readers do not look for there"));
        }
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
/// Cost: one LIST; where a checkpoint says the state, reads all of that version.
///
/// # Errors
/// [`ErrorKind::Mismatch`] when they tell different states, so that engines would differ about the table; [`ErrorKind::Corrupt`] when one tells
/// different states to different readers; those of [`super::load`].
pub(crate) async fn judged_checkpoint(store: &dyn ObjectStore, root: &Path) -> Result<BTreeSet<Path>> {
    let listing = LogListing::read(store, root).await?;
    let (Some(newest), commit) = (listing.newest(), listing.commits.keys().next_back()) else { return Ok(BTreeSet::new()) };
    // Whatever a checkpoint says that is newer than the commits: where they are all there, they say the state.
    if commit.is_some_and(|commit| listing.has_commits(0, *commit)) {
        return Ok(BTreeSet::new());
    }
    let Some(used) = starting_point(&listing, newest)? else { return Ok(BTreeSet::new()) };
    // With others of its version it is read to be compared with them.
    if listing.checkpoints.get(&used.version).is_none_or(|all| all.len() < 2) {
        replayed(store, root, used).await?;
    }
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

/// Whether writers of checkpoints may leave old transactions of streaming writers out.
pub(crate) fn transactions_expire(metadata: &Value) -> bool {
    metadata.get("configuration").and_then(|configuration| configuration.get(TRANSACTIONS_EXPIRE)).is_some_and(|value| !value.is_null())
}

/// How another checkpoint of the same version differs from the one that is used. No commits say which of them is right.
fn twin_differences(used: &Replay, other: &Replay) -> Vec<String> {
    let mut found = state_differences(used, other);
    // Either may have been written when more had expired.
    let expire = used.metadata.as_ref().is_some_and(transactions_expire);
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
