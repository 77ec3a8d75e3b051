//! Data files that no version of a table names: what writes leave behind that were killed before their commit.
//!
//! What is kept is told by names of files alone, whatever folder a log or a baseline puts them in: writers give every file a name of its own, and a
//! spelling that is not understood keeps too much, never too little.

use std::collections::{BTreeMap, HashSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt as _};
use percent_encoding::percent_decode_str;

use super::attest::is_data;
use super::{Location, begun};
use crate::baseline::SealedTable;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{self, CommitContents, FileKey, TableKind, TableSnapshot, read_commit};

/// Most data files that are looked at.
const FILES_LIMIT: usize = 10_000_000;
/// Commits that are read, and files that are taken away, at one time.
const AT_ONCE: usize = 8;

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

    fn has(&self, path: &Path) -> bool {
        path.filename().is_some_and(|name| self.0.contains(name))
    }
}

/// Finds the data files at `location` that no commit of its log names, that no table of `sealed` seals, and that were written before `before_ms`.
///
/// Cost: one LIST of the table, a replay of its log, one GET more for each commit. Memory: the names of the log and of the listed files.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for a folder of Parquet, all files of which are the table's; [`ErrorKind::Mismatch`] when the log is shorter than what was
/// sealed: what it does not name may be what was taken out of it; those of [`table::load`].
pub async fn leftovers(location: &Location, sealed: &[SealedTable], before_ms: i64) -> Result<Leftovers> {
    find(location, sealed, before_ms).await.map_err(|e| e.with("table", location.name()))
}

async fn find(location: &Location, sealed: &[SealedTable], before_ms: i64) -> Result<Leftovers> {
    // Files first, then the log: whatever is committed meanwhile is named by the log that is read.
    let listed = Listed::read(location).await?;
    let (store, root) = (location.store().as_ref(), location.root());
    let named = match table::load(store, root, None).await {
        Ok(snapshot) if snapshot.kind == TableKind::Parquet => {
            let what = "it is a folder of Parquet files: all of them are the table's, and none is left over";
            return Err(Error::new(ErrorKind::InvalidInput, what));
        }
        Ok(snapshot) => {
            let newest = sealed.iter().map(|table| table.statement.state.version).max();
            if let Some(newest) = newest.filter(|newest| *newest > snapshot.version) {
                let what =
                    "the log ends before what was sealed: what it does not name may be what was taken out of it. Audit the table first";
                return Err(Error::new(ErrorKind::Mismatch, what).with("version", snapshot.version).with("sealed", newest));
            }
            named(location, &snapshot).await?
        }
        // Nothing was ever committed.
        Err(error) if error.kind() == ErrorKind::NotFound && listed.begun.is_some() && sealed.is_empty() => Names::default(),
        Err(error) => return Err(error),
    };
    let mut in_seals = Names::default();
    for table in sealed {
        in_seals.add_keys(table.files.keys().chain(table.removed.keys()));
        table.changes.keys().for_each(|path| in_seals.add(path));
    }
    Ok(listed.sort_out(&named, &in_seals, before_ms))
}

/// What is named by the log: by its newest state, and by each commit that is still there.
async fn named(location: &Location, snapshot: &TableSnapshot) -> Result<Names> {
    let (store, root) = (location.store().as_ref(), location.root());
    let mut names = Names::default();
    names.add_keys(snapshot.files.keys().chain(snapshot.tombstones.keys()));
    snapshot.files.values().for_each(|file| names.add(&file.raw_path));
    snapshot.changes.keys().for_each(|path| names.add(path));
    let versions: Vec<u64> = snapshot.commits.iter().map(|commit| commit.version).collect();
    let reads = stream::iter(versions).map(|version| async move {
        let bytes = read_commit(store, root, version).await?;
        CommitContents::parse(root, version, &bytes).map_err(|e| e.with("commit", version))
    });
    let mut reads = std::pin::pin!(reads.buffered(AT_ONCE));
    while let Some(actions) = reads.try_next().await? {
        names.add_keys(actions.adds.iter().map(|file| &file.key).chain(&actions.removes));
        actions.adds.iter().for_each(|file| names.add(&file.raw_path));
    }
    Ok(names)
}

/// What lies in a table's folder.
#[derive(Debug, Default)]
struct Listed {
    files: Vec<ObjectMeta>,
    /// Folders of other tables in it: what lies there is theirs.
    others: Vec<Path>,
    begun: Option<ObjectMeta>,
}

impl Listed {
    async fn read(location: &Location) -> Result<Self> {
        let root = location.root();
        let begun = begun(location);
        let mut listed = Self::default();
        let mut objects = location.store().list((!root.as_ref().is_empty()).then_some(root));
        while let Some(meta) = objects.try_next().await? {
            if meta.location == begun {
                listed.begun = Some(meta);
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
        let mut out = Leftovers::default();
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

/// The folder of another table below `root` that `path` is a part of the log of.
fn other_table(path: &Path, root: &Path) -> Option<Path> {
    let below: Vec<_> = path.prefix_match(root)?.collect();
    let at = below.iter().position(|part| part.as_ref() == "_delta_log").filter(|at| *at > 0)?;
    Some(below.into_iter().take(at).fold(root.clone(), |folder, part| folder.join(part)))
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

    /// Deletes the files; gives those that could not be, and why. In a lake their versions stay while the retention lasts.
    ///
    /// Cost: one DELETE a file, 8 at a time.
    pub async fn take_away(&self, location: &Location) -> Vec<(Path, Error)> {
        let store = location.store();
        let paths: Vec<Path> = self.files.iter().map(|file| file.path.clone()).collect();
        let deletions = stream::iter(paths).map(|path| async move {
            let outcome = store.delete(&path).await;
            (path, outcome)
        });
        let mut left: Vec<(Path, Error)> =
            deletions.buffered(AT_ONCE).filter_map(|(path, outcome)| std::future::ready(failed(path, outcome))).collect().await;
        // Last: while it lies there, files that are left are no folder of Parquet.
        if let Some(begun) = self.begun.clone().filter(|_| left.is_empty()) {
            let outcome = store.delete(&begun).await;
            left.extend(failed(begun, outcome));
        }
        left
    }
}

fn failed(path: Path, outcome: object_store::Result<()>) -> Option<(Path, Error)> {
    match outcome {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => None,
        Err(error) => Some((path, error.into())),
    }
}

#[cfg(test)]
mod tests;
