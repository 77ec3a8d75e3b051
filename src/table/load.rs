//! From a location to a [`TableSnapshot`].

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectStore;
use object_store::path::Path;
use serde_json::Value;

use super::action::raw_key_of_add;
use super::checkpoint::{self, CheckpointDisagreement, Replayed};
use super::log::{COMMIT_LIMIT_BYTES, CheckpointName, LogListing, read_object};
use super::memory::LogMemory;
use super::replay::{CommitScope, Replay};
use super::{Commit, TableKind, TableSchema, TableSnapshot, folder};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};

/// Requests in flight while a log is read.
const CONCURRENCY: usize = 16;

/// Reads the state of the table at `root`, at `version` or the newest.
///
/// A Delta log is replayed by ourselves. Where all commits from 0 on are there, they alone say the state; else the newest
/// whole checkpoint and the commits after it do. `.crc`, `_last_checkpoint` and compacted commits are never read.
/// A folder without `_delta_log` is a table of all its `*.parquet` objects.
///
/// Cost: one LIST of the log, one GET per commit and part of a checkpoint (16 at a time); for a folder, one LIST.
///
/// # Errors
/// [`ErrorKind::NotFound`] when nothing is there or `version` does not exist, [`ErrorKind::InvalidInput`] when what is there is
/// no table, [`ErrorKind::Corrupt`] when the log is damaged or has a gap (it names commit and line).
pub async fn load(store: &dyn ObjectStore, root: &Path, version: Option<u64>) -> Result<TableSnapshot> {
    load_again(store, root, version, None).await
}

/// As [`load`]; commits that `memory` has from before, and that the store lists unchanged, are not read again.
///
/// # Errors
/// Those of [`load`].
pub(crate) async fn load_again(
    store: &dyn ObjectStore,
    root: &Path,
    version: Option<u64>,
    memory: Option<&LogMemory>,
) -> Result<TableSnapshot> {
    let listing = LogListing::read(store, root).await?;
    load_listed(store, root, &listing, version, memory).await
}

/// As [`load_again`], by a listing that was read before.
pub(super) async fn load_listed(
    store: &dyn ObjectStore,
    root: &Path,
    listing: &LogListing,
    version: Option<u64>,
    memory: Option<&LogMemory>,
) -> Result<TableSnapshot> {
    match listing.newest() {
        None => load_folder(store, root, listing, version).await,
        Some(newest) => {
            let wanted = version.unwrap_or(newest);
            if wanted > newest {
                return Err(Error::new(ErrorKind::NotFound, "the table has no such version")
                    .with("version", wanted)
                    .with("newest", newest));
            }
            load_delta(store, root, listing, wanted, memory, None).await.map_err(|e| e.with("table", root))
        }
    }
}

async fn load_folder(store: &dyn ObjectStore, root: &Path, listing: &LogListing, version: Option<u64>) -> Result<TableSnapshot> {
    if listing.begun {
        let what = "a table is being made here, or the making of one was broken off: nothing of it is visible before its first commit";
        return Err(Error::new(ErrorKind::NotFound, what).with("location", root));
    }
    folder::load(store, root, version).await
}

/// The version that is wanted, where the log has all commits from 0 up to it.
pub(super) fn starts_at_commit_0(listing: &LogListing, version: Option<u64>) -> Option<u64> {
    let newest = listing.newest()?;
    let wanted = version.unwrap_or(newest);
    (wanted <= newest && listing.has_commits(0, wanted)).then_some(wanted)
}

/// As [`load`] of the newest version, with [`super::check_checkpoints`] up to it: both by one listing and one replay of the commits.
///
/// # Errors
/// Those of [`load`]; within, those of [`super::check_checkpoints`].
pub(super) async fn load_checked(
    store: &dyn ObjectStore,
    root: &Path,
    listing: &LogListing,
) -> Result<(TableSnapshot, Result<Vec<CheckpointDisagreement>>)> {
    let Some(newest) = listing.newest() else { return Ok((load_folder(store, root, listing, None).await?, Ok(Vec::new()))) };
    let (checked, replayed) = match checkpoint::check_listed(store, root, listing, newest, None).await {
        Ok((found, replayed)) => (Ok(found), replayed),
        Err(error) => (Err(error), None),
    };
    let snapshot = load_delta(store, root, listing, newest, None, replayed).await;
    Ok((snapshot.map_err(|e| e.with("table", root))?, checked))
}

async fn load_delta(
    store: &dyn ObjectStore,
    root: &Path,
    listing: &LogListing,
    version: u64,
    memory: Option<&LogMemory>,
    replayed: Option<Replayed>,
) -> Result<TableSnapshot> {
    let start = starting_point(listing, version)?;
    // What a checkpoint says is never remembered.
    let memory = memory.filter(|_| start.is_none());
    let (mut log, mut replay, mut unread) = (LogReader::default(), Replay::new(root.clone()), 0);
    let replayed = replayed.filter(|(at, ..)| start.is_none() && *at <= version);
    if let Some((at, known, read)) = replayed.or_else(|| memory.and_then(|memory| memory.resume(listing, version))) {
        (log, replay, unread) = (read, known, at.saturating_add(1));
    }
    if let Some(checkpoint) = start {
        checkpoint::replay(store, root, checkpoint, &mut replay, &mut log.objects).await?;
    }
    let first = start.map_or(0, |checkpoint| checkpoint.version.saturating_add(1));
    let mut origins = BTreeMap::new();
    let mut commits = read_commits(store, listing, unread..=version);
    while let Some((number, location, bytes)) = commits.try_next().await? {
        let mut scope = CommitScope::of(Some(number));
        if number >= first {
            apply_commit(&mut replay, &bytes, &mut scope).map_err(|e| e.with("commit", number))?;
        } else {
            note_older_commit(&mut replay, &bytes, &mut scope, &mut origins);
        }
        log.note(number, location, &bytes, scope);
    }
    if let Some(memory) = memory {
        memory.keep(listing, version, &replay, &log);
    }
    replay.note_origins(&origins);
    snapshot(replay, log, version, start.map(|checkpoint| checkpoint.version))
}

/// The checkpoint to begin with; `None` when the commits alone suffice. Of several of one version it is the first by name, which every
/// reader of ours takes: [`checkpoint::check_listed`] holds the others against it.
pub(super) fn starting_point(listing: &LogListing, version: u64) -> Result<Option<&CheckpointName>> {
    if listing.has_commits(0, version) {
        return Ok(None);
    }
    let usable = |at: &u64| listing.has_commits(at.saturating_add(1), version);
    let found = listing.checkpoints.range(..=version).rev().find(|(at, _)| usable(at)).and_then(|(_, all)| all.first());
    found.map(Some).ok_or_else(|| {
        let after = listing.checkpoints.range(..=version).next_back().map_or(0, |(at, _)| at.saturating_add(1));
        let gap = listing.first_gap(after, version).unwrap_or(after);
        Error::new(ErrorKind::Corrupt, "the log has a gap: a commit is missing and no whole checkpoint replaces it")
            .with("version", version)
            .with("missing commit", gap)
    })
}

type CommitBytes = (u64, Path, Bytes);

pub(super) fn read_commits<'a>(
    store: &'a dyn ObjectStore,
    listing: &'a LogListing,
    versions: RangeInclusive<u64>,
) -> impl futures::Stream<Item = Result<CommitBytes>> + Unpin + 'a {
    // A map panics at a range that ends before it begins: nothing is left to be read then.
    let listed = if versions.is_empty() { None } else { Some(listing.commits.range(versions)) };
    let commits = listed.into_iter().flatten().map(|(number, location)| (*number, location.clone()));
    let reads = stream::iter(commits).map(move |(number, location)| async move {
        let bytes = read_object(store, &location, COMMIT_LIMIT_BYTES).await.map_err(|e| e.with("commit", number))?;
        Ok((number, location, bytes))
    });
    Box::pin(reads.buffered(CONCURRENCY))
}

/// Applies all lines of a commit.
pub(super) fn apply_commit(replay: &mut Replay, bytes: &[u8], scope: &mut CommitScope) -> Result<()> {
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let line_number = index + 1;
        let value = super::json::parse(line).map_err(|e| {
            Error::new(ErrorKind::Corrupt, "a line of the log is torn or is not JSON").with("line", line_number).caused_by(e)
        })?;
        replay.apply(value, scope).map_err(|e| e.with("line", line_number))?;
    }
    Ok(())
}

/// Commits before the checkpoint say nothing about the state: only what they are is noted, which files they added, and change-data files.
fn note_older_commit(replay: &mut Replay, bytes: &[u8], scope: &mut CommitScope, origins: &mut BTreeMap<(String, Option<String>), u64>) {
    let version = scope.version.unwrap_or_default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(value) = super::json::parse(line) else { continue };
        if let Some(key) = raw_key_of_add(&value) {
            origins.insert(key, version);
        } else if value.get("commitInfo").is_some() || value.get("cdc").is_some() {
            let _ = replay.apply(value, scope);
        }
    }
}

/// The commits that were read.
#[derive(Debug, Default, Clone)]
pub(super) struct LogReader {
    commits: Vec<Commit>,
    objects: BTreeMap<Path, (Digest, u64)>,
}

impl LogReader {
    pub(super) fn note(&mut self, version: u64, location: Path, bytes: &[u8], scope: CommitScope) {
        self.note_hashed(version, location, Digest::of(bytes), bytes, scope);
    }

    /// As [`Self::note`], of bytes whose digest is known.
    pub(super) fn note_hashed(&mut self, version: u64, location: Path, digest: Digest, bytes: &[u8], scope: CommitScope) {
        let size = bytes.len() as u64;
        self.objects.insert(location, (digest, size));
        self.commits.push(Commit { version, digest, size, operation: scope.operation, timestamp_ms: scope.timestamp_ms });
    }
}

pub(super) fn snapshot(replay: Replay, log: LogReader, version: u64, checkpoint: Option<u64>) -> Result<TableSnapshot> {
    let (files, duplicates) = replay.files();
    let missing = |what: &str| Error::new(ErrorKind::Corrupt, format!("the log states no {what}"));
    let metadata = replay.metadata.ok_or_else(|| missing("metaData"))?;
    let text = |name: &'static str| metadata.get(name).and_then(Value::as_str).ok_or_else(|| missing(name));
    let schema = TableSchema::from_metadata(&metadata)?;
    Ok(TableSnapshot {
        kind: TableKind::Delta,
        table_id: text("id")?.to_owned(),
        version,
        protocol: replay.protocol.ok_or_else(|| missing("protocol"))?,
        metadata,
        domains: replay.domains,
        transactions: replay.transactions,
        changes: replay.changes,
        typed: replay.typed.into_iter().filter(|(key, _)| files.contains_key(key)).collect(),
        files,
        duplicates,
        tombstones: replay.tombstones,
        commits: log.commits,
        checkpoint,
        log_objects: log.objects,
        schema,
    })
}
