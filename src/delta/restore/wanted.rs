//! Which files shall be live: the sealed ones, changed by those later commits that stay.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Planner;
use crate::baseline::SealedFile;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{self, FileKey, LiveFile, TableKind, TableSnapshot};

/// A file that shall be live.
#[derive(Debug, Clone)]
pub(super) struct WantedFile<'a> {
    pub(super) live: LiveFile,
    /// What is sealed of it; absent for a file of a later commit.
    pub(super) sealed: Option<&'a SealedFile>,
}

/// The state that a restore comes to.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) files: BTreeMap<FileKey, WantedFile<'a>>,
    pub(super) protocol: Value,
    pub(super) metadata: Value,
    pub(super) kept: Vec<u64>,
    pub(super) dropped: Vec<u64>,
}

/// Replays the later commits that stay over the sealed state.
///
/// Cost: the log in memory once for each commit that stays, and once more; the sealed files that such commits removed are read.
pub(super) async fn wanted<'a>(planner: &Planner<'a>, state: &TableSnapshot, found: Option<&TableSnapshot>) -> Result<Wanted<'a>> {
    let files = planner.sealed.files.iter().map(|(key, file)| {
        // The log's own words, which the state has from evidence.
        (key.clone(), WantedFile { live: LiveFile::clone(&file.live), sealed: Some(file) })
    });
    let mut wanted = Wanted {
        files: files.collect(),
        protocol: state.protocol.clone(),
        metadata: state.metadata.clone(),
        kept: Vec::new(),
        dropped: Vec::new(),
    };
    let sealed_version = state.version;
    let Some(found) = found.filter(|found| found.kind == TableKind::Delta && found.version > sealed_version) else {
        return match planner.options.keep.iter().next() {
            Some(version) => Err(no_such_commit(*version)),
            None => Ok(wanted),
        };
    };
    let later = sealed_version + 1..=found.version;
    if let Some(version) = planner.options.keep.iter().find(|version| !later.contains(version)) {
        return Err(no_such_commit(*version));
    }
    let mut before: Option<TableSnapshot> = None;
    for version in later {
        if !planner.options.keep.contains(&version) && !planner.options.attested.contains(&version) {
            wanted.dropped.push(version);
            before = None;
            continue;
        }
        let earlier = match before.take() {
            Some(earlier) => earlier,
            None => at(planner, version - 1).await?,
        };
        let now = at(planner, version).await?;
        wanted.keep(planner, version, &earlier, &now).await?;
        before = Some(now);
    }
    Ok(wanted)
}

async fn at(planner: &Planner<'_>, version: u64) -> Result<TableSnapshot> {
    table::load(planner.log, planner.location.root(), Some(version)).await
}

fn no_such_commit(version: u64) -> Error {
    Error::new(ErrorKind::InvalidInput, "there is no such commit after the baseline, so it cannot be kept").with("commit", version)
}

impl Wanted<'_> {
    /// Applies what a commit did between two versions.
    async fn keep(&mut self, planner: &Planner<'_>, version: u64, before: &TableSnapshot, now: &TableSnapshot) -> Result<()> {
        let removed: Vec<&FileKey> = before.files.keys().filter(|key| !now.files.contains_key(*key)).collect();
        if let Some(missing) = removed.iter().find(|key| !self.files.contains_key(**key)) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a commit that is to be kept removes a file of a commit that is not: what it wrote may have been made from it; keep both or neither",
            )
            .with("commit", version)
            .with("file", &missing.path));
        }
        if !planner.options.keep.contains(&version) {
            let differing: BTreeSet<String> = planner.differing(removed.iter().copied()).await?;
            if let Some(file) = differing.first() {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "an attested commit was made from a file whose bytes are not the sealed ones now: what it wrote may carry the change; look at it, and keep it by its number to vouch for it",
                )
                .with("commit", version)
                .with("file", file));
            }
        }
        for key in removed {
            self.files.remove(key);
        }
        for (key, live) in now.files.iter().filter(|(key, live)| before.files.get(*key).is_none_or(|old| old != *live)) {
            // A commit that only describes a sealed file anew does not change what was sealed of it.
            if self.files.get(key).is_some_and(|file| file.sealed.is_some()) {
                continue;
            }
            self.files.insert(key.clone(), WantedFile { live: LiveFile::clone(live), sealed: None });
        }
        if now.metadata != before.metadata {
            self.metadata = now.metadata.clone();
        }
        if now.protocol != before.protocol {
            self.protocol = now.protocol.clone();
        }
        self.kept.push(version);
        Ok(())
    }
}
