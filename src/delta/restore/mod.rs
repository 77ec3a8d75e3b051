//! Surgical restore: one commit that makes a poisoned table say the truth again, to every engine.
//!
//! ```text
//! plan    baseline -> wanted files (sealed ones, and those of later commits that are kept) x what is live -> what must change
//! apply   sealed bytes to new paths -> stored log and files put back -> one commit
//! ```
//!
//! Files whose bytes differ are copied to *new* paths from where their sealed bytes are retained, so that no cache that knows the old
//! path serves the old bytes, and so that all changes show at once, with the commit. Objects of the log have one name only: they are put back in
//! place. What cannot be brought back is said before anything is written. Lineage of the commit is that its files come of the sealed ones.

mod apply;
mod commit;
mod lineage;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use serde_json::Value;

use self::wanted::{Wanted, WantedFile};
use super::Location;
use super::trusted_log::is_hint;
use crate::baseline::{self, Progress, SealedTable};
use crate::clock::SharedClock;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::format::logical::stored_below;
use crate::id::random_bytes;
use crate::lineage::Lineage;
use crate::table::{self, CanonicalPath, FileKey, LiveFile, TableKind, TableSnapshot, canonical_path, commit_path};
use crate::verify::{CopyAt, find_exact, sealed_state};

pub use apply::Restored;

/// What is restored, and what of later commits stays.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Later commits that stay because their writers attested them. They must not be made from files that differ now.
    pub attested: BTreeSet<u64>,
    /// Later commits that stay because a person vouches for them.
    pub keep: BTreeSet<u64>,
    /// Digests of data that was erased on record: it is not brought back.
    pub erased: BTreeSet<Digest>,
    /// What time it is.
    pub clock: SharedClock,
}

/// An object that is put back at its own path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutBack {
    /// Its path in the store.
    pub path: Path,
    /// Its size in bytes.
    pub size: u64,
    /// Plain BLAKE3 of it.
    pub digest: Digest,
    /// Where its sealed bytes are.
    pub from: CopyAt,
}

/// A file that is live again, at a new path.
#[derive(Debug, Clone, PartialEq)]
pub struct Replacement {
    /// Its path in the table.
    pub file: String,
    /// Why it must be.
    pub why: String,
    /// Its `add` at the new path.
    pub live: LiveFile,
    /// Where its bytes are.
    pub from: CopyAt,
    /// Plain BLAKE3 of it; absent for a file that no baseline covers.
    pub digest: Option<Digest>,
}

/// What a restore will do.
#[derive(Debug, Clone, Default)]
pub struct RestorePlan {
    /// The baseline that is restored.
    pub baseline: u64,
    /// The version that it seals; 0 for a folder of Parquet.
    pub sealed_version: u64,
    /// The version that the commit is made on, once the log is put back; absent for a folder, and when there is no log to be read.
    pub newest_version: Option<u64>,
    /// Later commits that stay.
    pub kept: Vec<u64>,
    /// Later commits that are undone.
    pub dropped: Vec<u64>,
    /// Objects that are put back in place.
    pub put_back: Vec<PutBack>,
    /// Files that become live at new paths.
    pub replaced: Vec<Replacement>,
    /// Live files of which the log says something else than was sealed: they are described anew.
    pub described: Vec<LiveFile>,
    /// Files that are no longer live: path, spelling and deletion vector.
    pub removed: Vec<LiveFile>,
    /// Checkpoints, hints and checksums of the log that would mislead other engines, or may: they are deleted.
    pub hints: Vec<Path>,
    /// The sealed `protocol` and `metaData`, where the newest are others.
    pub head: Vec<(&'static str, Value)>,
    /// What cannot be brought back, and why.
    pub lost: Vec<(String, String)>,
    /// For people.
    pub notes: Vec<String>,
    /// What the commit's files come of.
    pub lineage: Lineage,
}

impl RestorePlan {
    /// Whether the table needs no commit.
    pub fn needs_no_commit(&self) -> bool {
        self.replaced.is_empty() && self.described.is_empty() && self.removed.is_empty() && self.head.is_empty()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.needs_no_commit() && self.put_back.is_empty() && self.hints.is_empty()
    }
}

const CLONE: &str = "a table that was sealed with files of another table is not restored, for these are not its own to be put back: restore the \
                     table that they belong to, or read what was sealed (SET lakeseal.read = 'sealed', SET lakeseal.verify = 'heal')";

/// Plans the restore of the table at `location` to what `sealed` is. Changes nothing.
///
/// Cost: the log, which is held in memory, and every sealed file that is wanted, once; of files that differ, their retained versions until one has
/// the sealed digest.
///
/// # Errors
/// [`ErrorKind::Mismatch`] when the baseline has expired, or seals another place; [`ErrorKind::InvalidInput`] when a commit that is to stay
/// builds on one that is undone, or on a file that differs; [`ErrorKind::Unsupported`] when a sealed file is another table's.
pub async fn plan(location: &Location, sealed: &SealedTable, options: &RestoreOptions, progress: &dyn Progress) -> Result<RestorePlan> {
    let mut plan =
        RestorePlan { baseline: sealed.baseline.number, sealed_version: sealed.statement.state.version, ..RestorePlan::default() };
    check_baseline(location, sealed, options)?;
    baseline::refuse_clone(sealed, location.root(), CLONE).map_err(|e| e.with("table", location.name()))?;
    let log = log_after(location, sealed, options, &mut plan).await?;
    let planner = Planner { location, sealed, options, log: &log };
    let found = match sealed.statement.state.kind {
        TableKind::Delta => table::load(&log, location.root(), None).await,
        TableKind::Parquet => table::load(location.store().as_ref(), location.root(), None).await,
    };
    let found = match found {
        Ok(found) => Some(found),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt | ErrorKind::InvalidInput) => {
            if sealed.statement.state.kind == TableKind::Delta {
                plan.lost
                    .push(("_delta_log".to_owned(), format!("the log cannot be read, nor put back as far as it would have to be: {e}")));
            }
            None
        }
        Err(e) => return Err(e),
    };
    let state = sealed_state(location.store().as_ref(), location.root(), sealed, found.as_ref()).await?;
    let wanted = wanted::wanted(&planner, &state, found.as_ref()).await?;
    plan.newest_version = found.as_ref().filter(|found| found.kind == TableKind::Delta).map(|found| found.version);
    plan.kept = wanted.kept.clone();
    plan.dropped = wanted.dropped.clone();
    planner.compare(&wanted, found.as_ref(), &mut plan, progress).await?;
    planner.compare_head(&wanted, found.as_ref(), &mut plan);
    planner.hints(found.as_ref(), &mut plan).await?;
    plan.lineage = lineage::lineage(location, sealed, &wanted, &plan);
    note_late_time(found.as_ref(), options.clock.now_ms(), &mut plan);
    Ok(plan)
}

/// Says where the restoring commit will state an earlier time than one before it, though the table's versions are told by such times.
fn note_late_time(found: Option<&TableSnapshot>, now_ms: i64, plan: &mut RestorePlan) {
    let Some(found) = found.filter(|_| !plan.needs_no_commit()) else { return };
    let configured = |table: &Value| table.pointer("/configuration/delta.enableInCommitTimestamps").and_then(Value::as_str) == Some("true");
    let head = plan.head.iter().find(|(name, _)| *name == "metaData").map_or(&found.metadata, |(_, metadata)| metadata);
    let late = found.commits.iter().find(|commit| commit.timestamp_ms.is_some_and(|time| !commit::is_believable(time, now_ms)));
    if let (Some(commit), true) = (late, configured(head)) {
        plan.notes.push(format!(
            "commit {} states a time that is far in the future; the restoring commit states the time that it is, so that the table can be written on: \
             reading the table as of a time (in-commit timestamps) is not reliable across commit {}",
            commit.version, commit.version
        ));
    }
}

fn check_baseline(location: &Location, sealed: &SealedTable, options: &RestoreOptions) -> Result<()> {
    let refuse = |what: String| Err(Error::new(ErrorKind::Mismatch, what).with("table", location.name()));
    let statement = &sealed.statement;
    if statement.expires_ms.is_some_and(|expires| expires <= options.clock.now_ms()) {
        return refuse(format!("baseline {} has expired: what it sealed is not brought back", statement.number));
    }
    if !baseline::is_sealed_location(sealed, location.url().as_str()) {
        return refuse(format!("baseline {} seals the table at {}, not this one", statement.number, statement.location));
    }
    Ok(())
}

/// The log as it will be once its sealed commits are put back, in memory; plans that they are.
///
/// What is live has to be told by that log: a forged commit that is put back changes it.
async fn log_after(location: &Location, sealed: &SealedTable, options: &RestoreOptions, plan: &mut RestorePlan) -> Result<InMemory> {
    let log = InMemory::new();
    if sealed.statement.state.kind == TableKind::Parquet {
        return Ok(log);
    }
    let store = location.store().as_ref();
    let mut objects: BTreeMap<Path, CopyAt> = BTreeMap::new();
    for path in commit::log_objects(location).await?.into_iter().filter(|path| !is_hint(path.filename().unwrap_or_default())) {
        objects.insert(path.clone(), CopyAt { path, version: None });
    }
    let nowhere = Planner { location, sealed, options, log: &log };
    // A baseline says nothing of commits that came after it.
    for (version, commit) in sealed.commits.range(..=sealed.statement.state.version) {
        let path = commit_path(location.root(), *version);
        match nowhere.stored(&path, commit.size, commit.digest).await? {
            Stored::Intact => {}
            Stored::Elsewhere(from) => {
                objects.insert(path.clone(), from.clone());
                plan.put_back.push(PutBack { path, size: commit.size, digest: commit.digest, from });
            }
            Stored::Lost(_) => {
                plan.notes
                    .push(format!("commit {version} is not what was sealed, and its sealed bytes are nowhere: the history stays changed"));
            }
        }
    }
    for (path, from) in objects {
        let bytes = store.get_opts(&from.path, from.options(None)).await?.bytes().await?;
        log.put(&path, bytes.into()).await?;
    }
    Ok(log)
}

/// What a plan is made from.
struct Planner<'a> {
    location: &'a Location,
    sealed: &'a SealedTable,
    options: &'a RestoreOptions,
    /// The log as it will be.
    log: &'a InMemory,
}

/// What became of a sealed file's bytes at their own path.
enum Stored {
    Intact,
    Elsewhere(CopyAt),
    Lost(&'static str),
}

impl Planner<'_> {
    /// Where the bytes of `size` and `digest` are that belong to `path`.
    async fn stored(&self, path: &Path, size: u64, digest: Digest) -> Result<Stored> {
        let store = self.location.store().as_ref();
        let others = || {
            let same = self.sealed.files.values().filter(|other| other.digest == digest);
            same.filter_map(|other| other.live.location.clone()).filter(|other| other != path).collect()
        };
        Ok(match find_exact(store, path, others, size, digest).await? {
            Some(copy) if copy.version.is_none() && copy.path == *path => Stored::Intact,
            Some(_) if self.options.erased.contains(&digest) => Stored::Lost("it was erased on record"),
            Some(copy) => Stored::Elsewhere(copy),
            None => Stored::Lost("no retained version and no other live object has the sealed bytes"),
        })
    }

    /// What must change for exactly the wanted files to be live, with the wanted bytes.
    async fn compare(
        &self,
        wanted: &Wanted<'_>,
        found: Option<&TableSnapshot>,
        plan: &mut RestorePlan,
        progress: &dyn Progress,
    ) -> Result<()> {
        let none = BTreeMap::new();
        let live = found.map_or(&none, |found| &found.files);
        let doubled: BTreeSet<&FileKey> = found.iter().flat_map(|found| &found.duplicates).collect();
        let bytes = wanted.files.values().filter_map(|file| file.sealed.map(|sealed| sealed.live.size)).sum();
        progress.begin("reading sealed files", wanted.files.len() as u64, bytes);
        for (key, file) in &wanted.files {
            self.compare_file(key, file, live.get(key).map(AsRef::as_ref).filter(|_| !doubled.contains(key)), plan).await?;
            progress.bytes(file.live.size);
            progress.file(&key.path);
        }
        progress.end();
        if self.sealed.statement.state.kind == TableKind::Parquet {
            return Ok(());
        }
        let replaced: BTreeSet<&String> = plan.replaced.iter().map(|replacement| &replacement.file).collect();
        let gone = |(key, _): &(&FileKey, &Arc<LiveFile>)| {
            !wanted.files.contains_key(*key) || replaced.contains(&key.path) || doubled.contains(*key)
        };
        plan.removed = live.iter().filter(gone).map(|(_, file)| LiveFile::clone(file)).collect();
        if !doubled.is_empty() {
            let spelled = commit::spellings(self.log, &doubled).await?;
            let known: BTreeSet<String> = plan.removed.iter().map(|file| file.raw_path.clone()).collect();
            plan.removed.extend(spelled.into_iter().filter(|file| !known.contains(&file.raw_path)));
        }
        Ok(())
    }

    async fn compare_file(&self, key: &FileKey, file: &WantedFile<'_>, live: Option<&LiveFile>, plan: &mut RestorePlan) -> Result<()> {
        let Some(location) = &file.live.location else { return Ok(()) };
        let Some(sealed) = file.sealed else {
            // A file of a later commit that stays: its bytes are as they are.
            match live {
                None => {
                    let from = CopyAt { path: location.clone(), version: None };
                    plan.replaced.push(replacement(self.location, &file.live, "a later commit removed it", from, None)?);
                }
                Some(live) if !baseline::says_the_same(&file.live, live) => plan.described.push(file.live.clone()),
                Some(_) => {}
            }
            return Ok(());
        };
        if let Some(vector) = sealed.deleted.as_ref().and_then(|deleted| deleted.file.as_ref()) {
            let path = stored_below(self.location.root(), &vector.path)?;
            match self.stored(&path, vector.size, vector.digest).await? {
                Stored::Intact => {}
                Stored::Elsewhere(from) => plan.put_back.push(PutBack { path, size: vector.size, digest: vector.digest, from }),
                Stored::Lost(why) => plan.lost.push((vector.path.clone(), why.to_owned())),
            }
        }
        let stored = self.stored(location, sealed.live.size, sealed.digest).await?;
        let folder = self.sealed.statement.state.kind == TableKind::Parquet;
        let why = match (&stored, live) {
            (Stored::Lost(why), _) => {
                plan.lost.push((key.path.clone(), (*why).to_owned()));
                return Ok(());
            }
            (Stored::Intact, Some(live)) => {
                if !baseline::describes_the_same(self.sealed, sealed, live) {
                    plan.described.push(file.live.clone());
                }
                return Ok(());
            }
            (Stored::Intact, None) if folder => return Ok(()),
            (Stored::Intact, None) => "it is no longer live",
            (Stored::Elsewhere(_), _) => "its bytes are not the sealed ones, or are gone",
        };
        let from = match stored {
            Stored::Elsewhere(from) => {
                // In place as well: older versions of the table, and audits of its baselines, read it there.
                plan.put_back.push(PutBack { path: location.clone(), size: sealed.live.size, digest: sealed.digest, from: from.clone() });
                from
            }
            _ => CopyAt { path: location.clone(), version: None },
        };
        if !folder {
            plan.replaced.push(replacement(self.location, &file.live, why, from, Some(sealed.digest))?);
        }
        Ok(())
    }

    fn compare_head(&self, wanted: &Wanted<'_>, found: Option<&TableSnapshot>, plan: &mut RestorePlan) {
        if self.sealed.statement.state.kind == TableKind::Parquet {
            return;
        }
        let differs = |value: fn(&TableSnapshot) -> &Value, wanted: &Value| found.is_some_and(|found| value(found) != wanted);
        if differs(|found| &found.protocol, &wanted.protocol) {
            plan.head.push(("protocol", wanted.protocol.clone()));
        }
        if differs(|found| &found.metadata, &wanted.metadata) {
            plan.head.push(("metaData", wanted.metadata.clone()));
        }
    }

    /// Objects of the log that may tell other engines something else than its commits do, when there is anything to restore.
    async fn hints(&self, found: Option<&TableSnapshot>, plan: &mut RestorePlan) -> Result<()> {
        if self.sealed.statement.state.kind == TableKind::Parquet {
            return Ok(());
        }
        let mut forged: Vec<Path> = Vec::new();
        if let Some(found) = found {
            let disagreements = table::check_checkpoints(self.log, self.location.root(), found.version).await?;
            forged.extend(disagreements.into_iter().map(|disagreement| disagreement.checkpoint));
            forged.sort();
            forged.dedup();
        }
        if plan.is_empty() && forged.is_empty() {
            return Ok(());
        }
        plan.hints =
            commit::log_objects(self.location).await?.into_iter().filter(|path| is_hint(path.filename().unwrap_or_default())).collect();
        plan.hints.extend(forged);
        Ok(())
    }

    /// Sealed files that differ now, by path: what was made from them may carry the change.
    async fn differing(&self, keys: impl Iterator<Item = &FileKey>) -> Result<BTreeSet<String>> {
        let mut differing = BTreeSet::new();
        for file in keys.filter_map(|key| self.sealed.files.get(key)) {
            let Some(location) = &file.live.location else { continue };
            // A file that VACUUM took away says nothing.
            let there = self.location.store().head(location).await.is_ok();
            if there && !matches!(self.stored(location, file.live.size, file.digest).await?, Stored::Intact) {
                differing.insert(file.live.key.path.clone());
            }
        }
        Ok(differing)
    }
}

/// `live` under a new name in the same folder.
fn replacement(location: &Location, live: &LiveFile, why: &str, from: CopyAt, digest: Option<Digest>) -> Result<Replacement> {
    let folder = live.raw_path.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
    let raw_path = format!("{folder}part-restored-{}.parquet", hex::encode(random_bytes::<16>()?));
    let canonical = canonical_path(&raw_path);
    let key = FileKey { path: canonical.as_str().to_owned(), deletion_vector: live.key.deletion_vector.clone() };
    let (CanonicalPath::Inside(_), Some(place)) = (&canonical, canonical.location(location.root())) else {
        return Err(Error::new(ErrorKind::Internal, "a restored file would lie outside of its table").with("file", raw_path));
    };
    let new = LiveFile { key, raw_path, location: Some(place), added_in: None, ..live.clone() };
    Ok(Replacement { file: live.key.path.clone(), why: why.to_owned(), live: new, from, digest })
}
