//! Data files that no version of a table names: what writes leave behind that were killed before their commit.
//!
//! What is kept is told by names of files alone, whatever folder a log or a baseline puts them in: writers give every file a name of its own, and a
//! spelling that is not understood keeps too much, never too little.

mod candidates;
mod clones;
mod take_away;

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use percent_encoding::percent_decode_str;

use self::candidates::{check_protocol, is_in_sight, is_named_by_engine, partition_columns};
pub use self::take_away::TakenAway;
pub(crate) use self::take_away::check_may_take_away;
use super::attest::is_data;
use super::{Location, begun};
use crate::baseline::{SEAL_FOLDER, SealedTable, Trust};
use crate::error::{Error, ErrorKind, Result};
use crate::table::{self, CommitContents, FileKey, TableKind, TableSnapshot, parse_json, read_commit};

/// Most data files that are looked at.
const FILES_LIMIT: usize = 10_000_000;
/// Commits that are read, and files that are taken away, at one time.
const AT_ONCE: usize = 8;
const LOG_FOLDER: &str = "_delta_log";
/// Folders of a log in which commits lie that it does not show yet.
const STAGED: [&str; 3] = ["_staged_commits", "_commits", ".tmp"];

/// A data file that no version names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Where it lies in the table's store.
    pub path: Path,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, in milliseconds since 1970-01-01T00:00:00Z, as the store says.
    pub modified_ms: i64,
}

/// What was found of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Files that no version names and that are older than the limit, by path.
    pub files: Vec<Leftover>,
    /// Files that no version names and that are younger.
    pub young: u64,
    /// Files that no commit of the log names, but a baseline: they are kept.
    pub sealed: u64,
    /// What says that a table is being made here, where that was broken off and nothing else is left of it.
    pub begun: Option<Path>,
    /// When the youngest object of the table's data and log was written, named or not, in milliseconds since 1970-01-01T00:00:00Z.
    pub youngest_ms: Option<i64>,
    /// The version whose log was looked at; absent where there is none.
    version: Option<u64>,
}

/// Names of files, in every spelling that a reader may make of them.
#[derive(Debug, Default)]
struct Names(HashSet<String>);

impl Names {
    fn add(&mut self, path: &str) {
        let last = path.rsplit('/').next().unwrap_or(path);
        if let Ok(decoded) = percent_decode_str(last).decode_utf8() {
            // An encoded separator is one to whoever decodes.
            self.0.insert(decoded.rsplit('/').next().unwrap_or(&decoded).to_owned());
        }
        self.0.insert(last.to_owned());
    }

    fn add_keys<'a>(&mut self, keys: impl IntoIterator<Item = &'a FileKey>) {
        keys.into_iter().for_each(|key| self.add(&key.path));
    }

    fn add_commit(&mut self, commit: &NamedCommit) {
        self.add_keys(commit.contents.adds.iter().map(|file| &file.key).chain(&commit.contents.removes));
        commit.contents.adds.iter().for_each(|file| self.add(&file.raw_path));
        commit.changes.iter().for_each(|path| self.add(path));
    }

    fn has(&self, path: &Path) -> bool {
        path.filename().is_some_and(|name| self.0.contains(name))
    }
}

/// Finds the data files at `location` that no commit of its log names, that no table of `sealed` seals, and that were written before `before_ms`. In a lake,
/// neither does another table of it; `trust` says whose seals of those count.
///
/// Cost: one LIST of the table, a replay of its log, one GET more for each commit; in a lake, where anything is found, the same for each other table's log.
/// Memory: the names of the logs and of the listed files.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for a folder of Parquet, all files of which are the table's; [`ErrorKind::Mismatch`] when the log is shorter than what was
/// sealed: what it does not name may be what was taken out of it; [`ErrorKind::Unsupported`] for a table with a feature that is not known to leave all names
/// in the log, or with staged commits; those of [`table::load`].
pub async fn leftovers(location: &Location, sealed: &[SealedTable], trust: Option<&Trust>, before_ms: i64) -> Result<Leftovers> {
    find(location, sealed, trust, before_ms).await.map_err(|e| e.with("table", location.name()))
}

async fn find(location: &Location, sealed: &[SealedTable], trust: Option<&Trust>, before_ms: i64) -> Result<Leftovers> {
    // Files first, then the log: whatever is committed meanwhile is named by the log that is read.
    let mut listed = Listed::read(location).await?;
    if let Some(staged) = &listed.staged {
        let what =
            "commits are staged beside the log, which may name files that it does not: use the VACUUM of the engine that writes the table";
        return Err(Error::new(ErrorKind::Unsupported, what).with("staged", staged));
    }
    let (store, root) = (location.store().as_ref(), location.root());
    let (named, version) = match table::load(store, root, None).await {
        Ok(snapshot) if snapshot.kind == TableKind::Parquet => {
            let what = "it is a folder of Parquet files: all of them are the table's, and none is left over";
            return Err(Error::new(ErrorKind::InvalidInput, what));
        }
        Ok(snapshot) => {
            check_protocol(&snapshot.protocol)?;
            let newest = sealed.iter().map(|table| table.statement.state.version).max();
            if let Some(newest) = newest.filter(|newest| *newest > snapshot.version) {
                let what =
                    "the log ends before what was sealed: what it does not name may be what was taken out of it. Audit the table first";
                return Err(Error::new(ErrorKind::Mismatch, what).with("version", snapshot.version).with("sealed", newest));
            }
            let columns = partition_columns(&snapshot.metadata);
            listed.files.retain(|meta| is_in_sight(&meta.location, root, &columns));
            (named(location, &snapshot).await?, Some(snapshot.version))
        }
        // Nothing was ever committed.
        Err(error) if error.kind() == ErrorKind::NotFound && listed.begun.is_some() && sealed.is_empty() => {
            if let Some(other) = &listed.in_log {
                let what = "the log has no commit, and more than the word that a table is being made: what is left over cannot be told";
                return Err(Error::new(ErrorKind::Unsupported, what).with("found", other));
            }
            // Only what the making of it wrote: anything else somebody put there, and it would be a folder of Parquet without that word.
            let count = listed.files.len();
            listed.files.retain(|meta| is_in_sight(&meta.location, root, &[]) && is_named_by_engine(&meta.location));
            listed.begun = listed.begun.filter(|_| listed.files.len() == count);
            (Names::default(), None)
        }
        Err(error) => return Err(error),
    };
    let mut in_seals = Names::default();
    for table in sealed {
        in_seals.add_keys(table.files.keys().chain(table.removed.keys()));
        table.changes.keys().for_each(|path| in_seals.add(path));
    }
    let mut found = listed.sort_out(&named, &in_seals, before_ms);
    if location.is_in_lake() && !found.files.is_empty() {
        let theirs = clones::names(location, trust).await?;
        let count = found.files.len();
        found.files.retain(|file| !theirs.has(&file.path));
        found.begun = found.begun.filter(|_| found.files.len() == count);
    }
    found.version = version;
    Ok(found)
}

/// What is named by the log: by its newest state, and by each commit that is still there.
async fn named(location: &Location, snapshot: &TableSnapshot) -> Result<Names> {
    let mut names = Names::default();
    names.add_keys(snapshot.files.keys().chain(snapshot.tombstones.keys()));
    snapshot.files.values().for_each(|file| names.add(&file.raw_path));
    snapshot.changes.keys().for_each(|path| names.add(path));
    let mut reads = std::pin::pin!(commits(location.store().as_ref(), location.root(), snapshot));
    while let Some(commit) = reads.try_next().await? {
        names.add_commit(&commit);
    }
    Ok(names)
}

/// A commit, and the change-data files that it names.
struct NamedCommit {
    contents: CommitContents,
    changes: Vec<String>,
}

impl NamedCommit {
    fn parse(root: &Path, version: u64, bytes: &Bytes) -> Result<Self> {
        let contents = CommitContents::parse(root, version, bytes).map_err(|e| e.with("commit", version))?;
        let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| parse_json(line).ok());
        let changes = lines.filter_map(|line| Some(line.get("cdc")?.get("path")?.as_str()?.to_owned())).collect();
        Ok(Self { contents, changes })
    }
}

async fn read_one(store: &dyn ObjectStore, root: &Path, version: u64) -> Result<NamedCommit> {
    NamedCommit::parse(root, version, &read_commit(store, root, version).await?)
}

/// The commits that the log of the table at `root` still has.
fn commits(store: &dyn ObjectStore, root: &Path, snapshot: &TableSnapshot) -> impl Stream<Item = Result<NamedCommit>> {
    let versions: Vec<u64> = snapshot.commits.iter().map(|commit| commit.version).collect();
    stream::iter(versions).map(move |version| read_one(store, root, version)).buffered(AT_ONCE)
}

/// What lies in a table's folder.
#[derive(Debug, Default)]
struct Listed {
    files: Vec<ObjectMeta>,
    /// Folders of other tables in it: what lies there is theirs.
    others: Vec<Path>,
    begun: Option<ObjectMeta>,
    /// An object of the log that is not what says that a table is being made.
    in_log: Option<Path>,
    /// A commit that the log does not show yet.
    staged: Option<Path>,
    youngest_ms: Option<i64>,
}

impl Listed {
    async fn read(location: &Location) -> Result<Self> {
        let root = location.root();
        let begun = begun(location);
        let mut listed = Self::default();
        let mut objects = location.store().list((!root.as_ref().is_empty()).then_some(root));
        while let Some(meta) = objects.try_next().await? {
            let below_log = below_log(&meta.location, root);
            if below_log.is_some() || is_data(&meta.location) {
                listed.youngest_ms = listed.youngest_ms.max(Some(meta.last_modified.timestamp_millis()));
            }
            if meta.location == begun {
                listed.begun = Some(meta);
            } else if let Some(name) = below_log {
                if STAGED.contains(&name.as_str()) {
                    listed.staged.get_or_insert_with(|| meta.location.clone());
                }
                listed.in_log.get_or_insert(meta.location);
            } else if let Some(other) = other_table(&meta.location, root) {
                if listed.others.last() != Some(&other) {
                    listed.others.push(other);
                }
            } else if is_data(&meta.location) {
                listed.files.push(meta);
            }
            if listed.files.len() > FILES_LIMIT {
                return Err(Error::new(ErrorKind::Unsupported, "the table has too many files").with("limit", FILES_LIMIT));
            }
        }
        Ok(listed)
    }

    fn sort_out(self, named: &Names, sealed: &Names, before_ms: i64) -> Leftovers {
        let mut found: BTreeMap<Path, Leftover> = BTreeMap::new();
        let mut out = Leftovers { youngest_ms: self.youngest_ms, ..Leftovers::default() };
        let is_young = |meta: &ObjectMeta| meta.last_modified.timestamp_millis() >= before_ms;
        for meta in self.files {
            if named.has(&meta.location) || self.others.iter().any(|other| meta.location.prefix_matches(other)) {
                continue;
            }
            if sealed.has(&meta.location) {
                out.sealed += 1;
            } else if is_young(&meta) {
                out.young += 1;
            } else {
                let modified_ms = meta.last_modified.timestamp_millis();
                found.insert(meta.location.clone(), Leftover { path: meta.location, size: meta.size, modified_ms });
            }
        }
        // While there is anything young, somebody may be at work.
        out.begun = self.begun.filter(|begun| !is_young(begun) && out.young == 0).map(|begun| begun.location);
        out.files = found.into_values().collect();
        out
    }
}

/// The folder of another table, or of one that is sealed as it is, below `root` that `path` is a part of the log or the seals of.
fn other_table(path: &Path, root: &Path) -> Option<Path> {
    let below: Vec<_> = path.prefix_match(root)?.collect();
    let at = below.iter().position(|part| [LOG_FOLDER, SEAL_FOLDER].contains(&part.as_ref())).filter(|at| *at > 0)?;
    Some(below.into_iter().take(at).fold(root.clone(), |folder, part| folder.join(part)))
}

/// The first part of `path` within the log of the table at `root`.
fn below_log(path: &Path, root: &Path) -> Option<String> {
    let mut below = path.prefix_match(root)?;
    below.next().filter(|part| part.as_ref() == LOG_FOLDER)?;
    below.next().map(|part| part.as_ref().to_owned())
}

impl Leftovers {
    /// Whether nothing is to be taken away.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.begun.is_none()
    }

    /// The files' sizes, in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

#[cfg(test)]
mod tests;
