//! Later commits that say they only moved rows: what stood before them is sealed, and can be read in their place.
//!
//! A compaction that alters rows looks like any other until somebody reads both sides. Where its sealed files are still there, nobody has to:
//! if it says the truth, they hold the same rows.

use std::collections::{BTreeMap, BTreeSet};

use super::compare::LogComparison;
use super::later::LaterCommit;
use super::sealed::SealedTable;
use crate::table::FileKey;

/// What is read in place of unsealed files that claim to hold the rows of sealed ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewrites {
    /// The commits that are passed over, oldest first.
    pub commits: Vec<u64>,
    /// Files that they added and that are live.
    pub added: BTreeSet<FileKey>,
    /// Sealed files that they removed, with the commit that did.
    pub kept: BTreeMap<FileKey, u64>,
}

impl LogComparison {
    /// The rewrites after the baseline whose sealed files can stand for what they added, all but those that are `refused`.
    ///
    /// A commit is one when it says of each of its files that no data changed, and all that it removes is sealed or comes of such a commit.
    /// It is none when a later commit builds upon what it added or brings back what it removed.
    pub fn rewrites(&self, sealed: &SealedTable, refused: &BTreeSet<u64>) -> Rewrites {
        let later = self.later.as_deref().unwrap_or_default();
        let mut refused = refused.clone();
        loop {
            match Replay::of(later, sealed, &refused) {
                Ok(found) => return found,
                Err(version) => refused.insert(version),
            };
        }
    }
}

/// The log as it goes on without the commits that are passed over.
struct Replay<'a> {
    sealed: &'a SealedTable,
    /// Sealed files that are live so far.
    live: BTreeSet<&'a FileKey>,
    found: Rewrites,
    /// Paths that commits which are passed over named, with the commit.
    touched: BTreeMap<&'a str, u64>,
}

impl<'a> Replay<'a> {
    /// Fails with a commit that cannot be passed over after all.
    fn of(later: &'a [LaterCommit], sealed: &'a SealedTable, refused: &BTreeSet<u64>) -> Result<Rewrites, u64> {
        let live = sealed.files.keys().collect();
        let mut replay = Self { sealed, live, found: Rewrites::default(), touched: BTreeMap::new() };
        for commit in later {
            if !refused.contains(&commit.version) && replay.is_rewrite(commit) {
                replay.pass_over(commit);
            } else {
                replay.apply(commit)?;
            }
        }
        Ok(replay.found)
    }

    fn is_rewrite(&self, commit: &LaterCommit) -> bool {
        let moved = commit.actions.claims_same_data && !commit.actions.removes.is_empty() && !commit.actions.adds.is_empty();
        let removes = |key: &FileKey| self.live.contains(key) || self.found.added.contains(key);
        let is_new = |key: &FileKey| self.sealed.file_at(&key.path).is_none() && !self.touched.contains_key(key.path.as_str());
        let adds = commit.actions.adds.iter().all(|add| add.location.is_some() && add.deletion_vector.is_none() && is_new(&add.key));
        moved
            && commit.actions.metadata.is_none()
            && commit.actions.protocol.is_none()
            && commit.actions.removes.iter().all(removes)
            && adds
    }

    fn pass_over(&mut self, commit: &'a LaterCommit) {
        for key in &commit.actions.removes {
            if self.live.remove(key) {
                self.found.kept.insert(key.clone(), commit.version);
            } else {
                self.found.added.remove(key);
            }
            self.touched.insert(&key.path, commit.version);
        }
        for add in &commit.actions.adds {
            self.found.added.insert(add.key.clone());
            self.touched.insert(&add.key.path, commit.version);
        }
        self.found.commits.push(commit.version);
    }

    fn apply(&mut self, commit: &'a LaterCommit) -> Result<(), u64> {
        let named = commit.actions.removes.iter().chain(commit.actions.adds.iter().map(|add| &add.key));
        for key in named {
            if let Some(version) = self.touched.get(key.path.as_str()) {
                return Err(*version);
            }
            self.live.remove(key);
        }
        Ok(())
    }
}
