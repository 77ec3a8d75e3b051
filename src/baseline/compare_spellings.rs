//! Second spellings of another table's files. One of the table's own has one key, however a log spells it; the key of another table's file is the text
//! itself, so that its place alone tells that a sealed file came, or came back, under another name.

use std::collections::{BTreeMap, BTreeSet};

use object_store::path::Path;

use super::later::LaterCommit;
use super::sealed::SealedTable;
use super::verdict::{Finding, Verdict};
use crate::table::{ForeignRoots, TableSnapshot};

const SECOND: &str = "a file of another table that was named before, live or removed, is named in a second spelling";

/// How files below the signed roots were spelled until now, by the place that each has.
#[derive(Debug)]
pub(super) struct Spellings<'a> {
    roots: &'a ForeignRoots,
    known: BTreeMap<Path, BTreeSet<&'a str>>,
}

impl<'a> Spellings<'a> {
    /// Those that were sealed, of files that were live and of those that were removed. Nothing for nearly every table.
    pub(super) fn sealed(sealed: &'a SealedTable) -> Self {
        let mut spellings = Self { roots: &sealed.statement.foreign_roots, known: BTreeMap::new() };
        if !spellings.roots.is_empty() {
            for key in sealed.files.keys().chain(sealed.removed.keys()) {
                if let Some(place) = spellings.place(&key.path) {
                    spellings.known.entry(place).or_default().insert(&key.path);
                }
            }
        }
        spellings
    }

    fn place(&self, path: &str) -> Option<Path> {
        self.roots.location(&Path::default(), path)
    }

    /// Whether the file is known by other spellings than this.
    fn is_second(&self, path: &str) -> bool {
        let known = self.place(path).and_then(|place| self.known.get(&place));
        known.is_some_and(|known| !known.contains(path))
    }

    /// The files that a later commit names otherwise than the baseline and the commits before it did.
    pub(super) fn compare_commit(&mut self, commit: &'a LaterCommit) -> Vec<Finding> {
        if self.roots.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for path in commit.actions.removes.iter().chain(commit.actions.adds.iter().map(|add| &add.key)).map(|key| key.path.as_str()) {
            if self.is_second(path) {
                found.push(Finding::new(Verdict::Forged, SECOND).file(path).commit(commit.version));
            } else if let Some(place) = self.place(path) {
                self.known.entry(place).or_default().insert(path);
            }
        }
        found
    }
}

/// The live files that the baseline knows by other spellings.
pub(super) fn compare_spellings(snapshot: &TableSnapshot, sealed: &SealedTable) -> Vec<Finding> {
    let spellings = Spellings::sealed(sealed);
    if spellings.known.is_empty() {
        return Vec::new();
    }
    let second = snapshot.files.values().filter(|live| spellings.is_second(&live.key.path));
    let finding = |finding: Finding, version: Option<u64>| match version {
        Some(version) => finding.commit(version),
        None => finding,
    };
    second.map(|live| finding(Finding::new(Verdict::Forged, SECOND).file(&live.key.path), live.added_in)).collect()
}
