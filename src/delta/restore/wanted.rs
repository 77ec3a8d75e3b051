//! Which files shall be live: the sealed ones, changed by those later commits that stay.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Planner;
use crate::baseline::SealedFile;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{self, CommitContents, FileKey, LiveFile, TableKind, TableSnapshot};

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

/// Replays the later commits that stay over the sealed state. What they say is taken from themselves: a checkpoint that came after them may say
/// anything.
///
/// Cost: each later commit, in memory, once; the sealed files that those which stay removed are read.
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
    // The files that all later commits leave live, while each of them could be read.
    let mut live: Option<BTreeSet<FileKey>> = Some(planner.sealed.files.keys().cloned().collect());
    for version in later {
        let stays = planner.options.keep.contains(&version) || planner.options.attested.contains(&version);
        let commit = match commit_at(planner, version).await {
            Ok(commit) => Some(commit),
            Err(error) if stays || !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => return Err(error),
            Err(_) => None,
        };
        match &commit {
            Some(commit) if stays => wanted.keep(planner, version, commit, live.as_ref()).await?,
            _ => wanted.dropped.push(version),
        }
        live = live.zip(commit).map(|(mut live, commit)| {
            for key in &commit.removes {
                live.remove(key);
            }
            live.extend(commit.adds.into_iter().map(|file| file.key));
            live
        });
    }
    Ok(wanted)
}

async fn commit_at(planner: &Planner<'_>, version: u64) -> Result<CommitContents> {
    let root = planner.location.root();
    let bytes = table::read_commit(planner.log, root, version).await?;
    CommitContents::parse(root, version, &bytes).map_err(|e| e.with("commit", version))
}

fn no_such_commit(version: u64) -> Error {
    Error::new(ErrorKind::InvalidInput, "there is no such commit after the baseline, so it cannot be kept").with("commit", version)
}

impl Wanted<'_> {
    /// Applies what a commit did to the files that were `live` before it, if these are known.
    async fn keep(&mut self, planner: &Planner<'_>, version: u64, commit: &CommitContents, live: Option<&BTreeSet<FileKey>>) -> Result<()> {
        let added: BTreeSet<&FileKey> = commit.adds.iter().map(|file| &file.key).collect();
        let was_live = |key: &FileKey| live.is_none_or(|live| live.contains(key));
        let removed: Vec<&FileKey> = commit.removes.iter().filter(|key| was_live(key) && !added.contains(key)).collect();
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
        for file in &commit.adds {
            // A commit that only describes a sealed file anew does not change what was sealed of it.
            if self.files.get(&file.key).is_some_and(|file| file.sealed.is_some()) {
                continue;
            }
            self.files.insert(file.key.clone(), WantedFile { live: file.clone(), sealed: None });
        }
        if let Some(metadata) = &commit.metadata {
            self.metadata = metadata.clone();
        }
        if let Some(protocol) = &commit.protocol {
            self.protocol = protocol.clone();
        }
        self.kept.push(version);
        Ok(())
    }
}
