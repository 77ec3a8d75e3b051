//! A log that was read and not yet replayed: where it turns out to be one whose state is known, only what came after is.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::ObjectStore;
use object_store::path::Path;
use serde_json::Value;

use super::checkpoint::CheckpointDisagreement;
use super::load::{LogReader, apply_commit, load_checked, load_listed, read_commits, snapshot, starts_at_commit_0};
use super::log::LogListing;
use super::replay::{CommitScope, Replay};
use super::{FileKey, LiveFile, TableKind, TableSnapshot};
use crate::digest::Digest;
use crate::error::Result;

/// Of a log with more bytes than this, the state is kept and not the bytes.
const HELD_LIMIT_BYTES: usize = 256 << 20;

/// What lies at a location, read once.
#[derive(Debug)]
pub(crate) enum LoadedLog {
    /// All commits from 0 on.
    Commits(ReadCommits),
    /// What else there is: a log that begins with a checkpoint, or is too long to be held, or a folder of Parquet.
    Snapshot(Box<TableSnapshot>),
}

/// Commits from 0 on, none missing.
#[derive(Debug)]
pub(crate) struct ReadCommits {
    root: Path,
    commits: Vec<ReadCommit>,
}

#[derive(Debug)]
struct ReadCommit {
    location: Path,
    bytes: Bytes,
    digest: Digest,
    /// Its lines that speak of no file; absent where one of them could not be read, or a file is described in a second way.
    others: Option<Vec<Value>>,
}

impl ReadCommit {
    fn of(location: Path, bytes: Bytes) -> Self {
        Self { digest: Digest::of(&bytes), others: others(&bytes), location, bytes }
    }
}

/// The lines that speak of no file, where these are all that a known state leaves to be read.
fn others(bytes: &[u8]) -> Option<Vec<Value>> {
    let mut found = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace)) {
        let plain = line.starts_with(br#"{"add":{"#) || line.starts_with(br#"{"remove":{"#);
        let value = if plain { None } else { Some(super::json::parse(line).ok()?) };
        // Writers may spell actions that are not there as null.
        let is_there = |value: &Value, name: &str| value.get(name).is_some_and(|action| !action.is_null());
        match value.filter(|value| !is_there(value, "add") && !is_there(value, "remove")) {
            Some(other) => found.push(other),
            // Statistics or partition values in typed form: readers may prune by what is no part of the state.
            None if memchr::memmem::find(line, b"_parsed").is_some() => return None,
            None => {}
        }
    }
    Some(found)
}

/// Reads what the newest version, or `version`, of the table at `root` is told by.
///
/// Cost: that of [`super::load`]; memory for the log as well.
///
/// # Errors
/// Those of [`super::load`]; what commits say is not looked at.
pub(crate) async fn read(store: &dyn ObjectStore, root: &Path, version: Option<u64>) -> Result<LoadedLog> {
    let listing = LogListing::read(store, root).await?;
    read_listed(store, root, &listing, version).await
}

async fn read_listed(store: &dyn ObjectStore, root: &Path, listing: &LogListing, version: Option<u64>) -> Result<LoadedLog> {
    let commits = match starts_at_commit_0(listing, version) {
        Some(version) => held(store, root, listing, version).await?,
        None => None,
    };
    match commits {
        Some(commits) => Ok(LoadedLog::Commits(ReadCommits { root: root.clone(), commits })),
        None => Ok(LoadedLog::Snapshot(Box::new(load_listed(store, root, listing, version, None).await?))),
    }
}

/// The newest state of a table as its log tells it, and which checkpoints contradict the commits.
pub(crate) struct CheckedLog {
    /// The log, replayed or still to be.
    pub(crate) log: LoadedLog,
    /// What contradicts it.
    pub(crate) checkpoints: Result<Vec<CheckpointDisagreement>>,
}

/// Reads what the newest version of the table at `root` is told by, and holds checkpoints against commits. Without checkpoints, and if `unreplayed`,
/// the commits are left to be replayed by whoever knows more of them.
///
/// Cost: one LIST of the log, each of its commits and checkpoints once; memory for the commits where they are not replayed.
///
/// # Errors
/// Those of [`super::load`]; within, those of [`super::check_checkpoints`].
pub(crate) async fn read_checked(store: &dyn ObjectStore, root: &Path, unreplayed: bool) -> Result<CheckedLog> {
    let listing = LogListing::read(store, root).await?;
    if unreplayed && listing.checkpoints.is_empty() {
        return Ok(CheckedLog { log: read_listed(store, root, &listing, None).await?, checkpoints: Ok(Vec::new()) });
    }
    let (snapshot, checkpoints) = load_checked(store, root, &listing).await?;
    Ok(CheckedLog { log: LoadedLog::Snapshot(Box::new(snapshot)), checkpoints })
}

/// The commits up to `version`; nothing where they are too many to be held.
async fn held(store: &dyn ObjectStore, root: &Path, listing: &LogListing, version: u64) -> Result<Option<Vec<ReadCommit>>> {
    let (mut commits, mut held) = (Vec::new(), 0_usize);
    let mut reads = read_commits(store, listing, 0..=version);
    while let Some((_, location, bytes)) = reads.try_next().await.map_err(|e| e.with("table", root))? {
        held = held.saturating_add(bytes.len());
        if held > HELD_LIMIT_BYTES {
            return Ok(None);
        }
        commits.push(ReadCommit::of(location, bytes));
    }
    Ok(Some(commits))
}

impl LoadedLog {
    /// The newest Delta version; absent for a folder of Parquet.
    pub(crate) fn version(&self) -> Option<u64> {
        match self {
            Self::Commits(commits) => Some(commits.version()),
            Self::Snapshot(snapshot) => (snapshot.kind == TableKind::Delta).then_some(snapshot.version),
        }
    }

    /// The state, replayed.
    ///
    /// # Errors
    /// Those of [`super::load`].
    pub(crate) fn snapshot(self) -> Result<TableSnapshot> {
        match self {
            Self::Commits(commits) => commits.replayed(),
            Self::Snapshot(snapshot) => Ok(*snapshot),
        }
    }
}

impl ReadCommits {
    /// The newest version.
    pub(crate) fn version(&self) -> u64 {
        u64::try_from(self.commits.len()).unwrap_or(u64::MAX).saturating_sub(1)
    }

    /// The digests of the commits, from 0 on.
    pub(crate) fn digests(&self) -> impl Iterator<Item = Digest> + '_ {
        self.commits.iter().map(|commit| commit.digest)
    }

    /// The commits as they were read.
    pub(crate) fn objects(&self) -> impl Iterator<Item = (&Path, &Bytes)> {
        self.commits.iter().map(|commit| (&commit.location, &commit.bytes))
    }

    fn replayed(self) -> Result<TableSnapshot> {
        let replay = Replay::new(self.root.clone());
        self.go_on(replay, 0)
    }

    /// The state, where that of the first `count` commits is known: their files, and what they removed. Of these commits only what speaks of no file is
    /// replayed. Of files from them it is not told which commit added them.
    ///
    /// # Errors
    /// Those of [`super::load`].
    pub(crate) fn snapshot_after(
        self,
        count: u64,
        files: impl Iterator<Item = Arc<LiveFile>>,
        tombstones: BTreeMap<FileKey, Option<i64>>,
    ) -> Result<TableSnapshot> {
        if (0..count).zip(&self.commits).any(|(_, commit)| commit.others.is_none()) {
            return self.replayed();
        }
        let replay = Replay::with_files(self.root.clone(), files, tombstones);
        self.go_on(replay, count)
    }

    /// Replays the commits; of the first `known` ones only what speaks of no file.
    fn go_on(self, mut replay: Replay, known: u64) -> Result<TableSnapshot> {
        let newest = self.version();
        let (mut log, root) = (LogReader::default(), self.root);
        for (version, commit) in (0..).zip(self.commits) {
            let mut scope = CommitScope::of(Some(version));
            let applied = match commit.others.filter(|_| version < known) {
                Some(others) => others.into_iter().try_for_each(|line| replay.apply(line, &mut scope)),
                None => apply_commit(&mut replay, &commit.bytes, &mut scope),
            };
            applied.map_err(|e| e.with("commit", version).with("table", &root))?;
            log.note_hashed(version, commit.location, commit.digest, &commit.bytes, scope);
        }
        snapshot(replay, log, newest, None).map_err(|e| e.with("table", &root))
    }
}
