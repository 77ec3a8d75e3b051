//! The names in a `_delta_log`, and bounded reads of what they name.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::memory::{Stamp, stamp};
use crate::error::{Error, ErrorKind, Result};

/// Folder of the log within a table.
pub(super) const LOG_FOLDER: &str = "_delta_log";
/// Largest commit that is read, in bytes.
pub(super) const COMMIT_LIMIT_BYTES: u64 = 256 << 20;
/// Largest part of a checkpoint that is read, in bytes.
pub(super) const CHECKPOINT_LIMIT_BYTES: u64 = 1 << 30;
/// More names than this in one log are refused.
const NAMES_LIMIT: usize = 4_000_000;
const VERSION_DIGITS: usize = 20;

/// One checkpoint, all of whose own parts are there (its sidecars may not be).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CheckpointName {
    pub(super) version: u64,
    pub(super) parts: Vec<Path>,
    pub(super) json: bool,
    /// Whether it is named as one of several parts, which never have sidecars.
    pub(super) in_parts: bool,
}

/// What lies in the log of a table until its first commit does: its data files are no folder of Parquet that anybody meant to be read.
pub(crate) const BEGUN: &str = ".lakeseal-begun";

/// What lies in a log, by version. Hints, checksums and compacted commits are left out: they are never trusted.
#[derive(Debug, Default)]
pub(super) struct LogListing {
    pub(super) commits: BTreeMap<u64, Path>,
    pub(super) checkpoints: BTreeMap<u64, Vec<CheckpointName>>,
    stamps: BTreeMap<Path, Stamp>,
    /// Whether a table is being made here, or its making was broken off.
    pub(super) begun: bool,
}

impl LogListing {
    /// Lists the log of the table at `root`. Listings in any order will do. Cost: one LIST.
    pub(super) async fn read(store: &dyn ObjectStore, root: &Path) -> Result<Self> {
        let folder = root.clone().join(LOG_FOLDER);
        let mut listing = Self::default();
        let mut parts: BTreeMap<(u64, u64), BTreeMap<u64, Path>> = BTreeMap::new();
        let mut names = store.list(Some(&folder));
        let mut count = 0_usize;
        while let Some(meta) = names.try_next().await? {
            count += 1;
            if count > NAMES_LIMIT {
                return Err(Error::new(ErrorKind::Unsupported, "the log has too many objects").with("limit", NAMES_LIMIT));
            }
            let is_child = meta.location.prefix_match(&folder).is_some_and(|rest| rest.count() == 1);
            listing.begun |= is_child && meta.location.filename() == Some(BEGUN);
            if is_child && let Some(name) = meta.location.filename().and_then(LogName::parse) {
                listing.stamps.insert(meta.location.clone(), stamp(&meta));
                listing.add(name, meta.location.clone(), &mut parts);
            }
        }
        for ((version, of), found) in parts {
            if found.keys().copied().eq(1..=of) {
                let parts = found.into_values().collect();
                listing.checkpoints.entry(version).or_default().push(CheckpointName { version, parts, json: false, in_parts: true });
            }
        }
        listing.checkpoints.values_mut().for_each(|all| all.sort_by(|a, b| a.parts.cmp(&b.parts)));
        Ok(listing)
    }

    fn add(&mut self, name: LogName, location: Path, parts: &mut BTreeMap<(u64, u64), BTreeMap<u64, Path>>) {
        match name {
            LogName::Commit(version) => {
                self.commits.insert(version, location);
            }
            LogName::Checkpoint { version, json } => {
                self.checkpoints.entry(version).or_default().push(CheckpointName { version, parts: vec![location], json, in_parts: false });
            }
            LogName::Part { version, part, of } => {
                parts.entry((version, of)).or_default().insert(part, location);
            }
        }
    }

    /// By what a listed object is known to be unchanged.
    pub(super) fn stamp(&self, location: &Path) -> &Stamp {
        self.stamps.get(location).unwrap_or(&None)
    }

    /// The newest version that the log speaks of; absent when there is no log.
    pub(super) fn newest(&self) -> Option<u64> {
        self.commits.keys().next_back().copied().max(self.checkpoints.keys().next_back().copied())
    }

    /// Whether all commits from `from` to `to` are there.
    pub(super) fn has_commits(&self, from: u64, to: u64) -> bool {
        self.first_gap(from, to).is_none()
    }

    /// The first commit that is missing between `from` and `to`, both included.
    pub(super) fn first_gap(&self, from: u64, to: u64) -> Option<u64> {
        if from > to {
            return None;
        }
        let mut expected = from;
        for version in self.commits.range(from..=to).map(|(version, _)| *version) {
            if version != expected {
                return Some(expected);
            }
            expected = expected.saturating_add(1);
        }
        (expected <= to).then_some(expected)
    }
}

enum LogName {
    Commit(u64),
    Checkpoint { version: u64, json: bool },
    Part { version: u64, part: u64, of: u64 },
}

impl LogName {
    fn parse(name: &str) -> Option<Self> {
        let (digits, rest) = name.split_once('.')?;
        let version = digits_of(digits, VERSION_DIGITS)?;
        let pieces: Vec<&str> = rest.split('.').collect();
        match pieces.as_slice() {
            ["json"] => Some(Self::Commit(version)),
            ["checkpoint", "parquet"] => Some(Self::Checkpoint { version, json: false }),
            ["checkpoint", id, end @ ("json" | "parquet")] if uuid::Uuid::try_parse(id).is_ok() => {
                Some(Self::Checkpoint { version, json: *end == "json" })
            }
            ["checkpoint", part, of, "parquet"] => {
                let (part, of) = (digits_of(part, 10)?, digits_of(of, 10)?);
                (1..=of).contains(&part).then_some(Self::Part { version, part, of })
            }
            _ => None,
        }
    }
}

fn digits_of(text: &str, count: usize) -> Option<u64> {
    (text.len() == count && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// The versions whose commits are there, ascending. Cost: one LIST of the log.
pub(crate) async fn commit_versions(store: &dyn ObjectStore, root: &Path) -> Result<Vec<u64>> {
    Ok(LogListing::read(store, root).await?.commits.into_keys().collect())
}

/// Where the commit of a version lies.
pub(crate) fn commit_path(root: &Path, version: u64) -> Path {
    root.clone().join(LOG_FOLDER).join(format!("{version:0width$}.json", width = VERSION_DIGITS))
}

/// The exact bytes of a commit.
pub(crate) async fn read_commit(store: &dyn ObjectStore, root: &Path, version: u64) -> Result<Bytes> {
    read_object(store, &commit_path(root, version), COMMIT_LIMIT_BYTES).await.map_err(|e| e.with("commit", version))
}

/// The table's root and the version, when `location` is where a commit lies.
pub(crate) fn parse_commit_path(location: &Path) -> Option<(Path, u64)> {
    let parts: Vec<_> = location.parts().collect();
    let [root @ .., folder, name] = parts.as_slice() else { return None };
    match LogName::parse(name.as_ref()) {
        Some(LogName::Commit(version)) if folder.as_ref() == LOG_FOLDER => Some((root.iter().cloned().collect(), version)),
        _ => None,
    }
}

/// Reads a whole object of at most `limit_bytes`.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when it is larger, or its length is not the one that the store stated.
pub(crate) async fn read_object(store: &dyn ObjectStore, location: &Path, limit_bytes: u64) -> Result<Bytes> {
    let read = read_object_up_to(store, location, limit_bytes).await?;
    read.map_err(|size| {
        Error::new(ErrorKind::Corrupt, "an object is larger than anything honest of its kind")
            .with("object", location)
            .with("bytes", size)
            .with("limit", limit_bytes)
    })
}

/// Reads a whole object, or says how many bytes it has when these are more than `limit_bytes`: none of them are fetched then.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when its length is not the one that the store stated.
pub(crate) async fn read_object_up_to(
    store: &dyn ObjectStore,
    location: &Path,
    limit_bytes: u64,
) -> Result<std::result::Result<Bytes, u64>> {
    let result = store.get(location).await?;
    let size = result.meta.size;
    if size > limit_bytes {
        return Ok(Err(size));
    }
    let bytes = result.bytes().await?;
    if u64::try_from(bytes.len()).ok() != Some(size) {
        return Err(Error::new(ErrorKind::Corrupt, "an object has another length than its store states")
            .with("object", location)
            .with("stated", size)
            .with("found", bytes.len()));
    }
    Ok(Ok(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    async fn listing(names: &[&str]) -> LogListing {
        let store = InMemory::new();
        for name in names {
            store.put(&Path::from(format!("t/_delta_log/{name}")), "x".into()).await.unwrap();
        }
        LogListing::read(&store, &Path::from("t")).await.unwrap()
    }

    #[tokio::test]
    async fn only_commits_and_checkpoints_are_seen() {
        let log = listing(&[
            "00000000000000000000.json",
            "00000000000000000001.crc",
            "_last_checkpoint",
            "00000000000000000000.00000000000000000003.compacted.json",
            "0000000000000000002.json",
            "00000000000000000003.json.tmp",
            "_sidecars/00000000000000000009.json",
            "00000000000000000004.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json",
        ])
        .await;
        assert_eq!(log.commits.keys().copied().collect::<Vec<_>>(), [0]);
        assert_eq!(log.checkpoints.keys().copied().collect::<Vec<_>>(), [4]);
    }

    #[tokio::test]
    async fn a_checkpoint_without_all_parts_does_not_exist() {
        let part = |part: u32| format!("00000000000000000007.checkpoint.{part:010}.0000000003.parquet");
        let (one, two, three) = (part(1), part(2), part(3));
        assert!(listing(&[&one, &three]).await.checkpoints.is_empty());
        assert_eq!(listing(&[&three, &one, &two]).await.checkpoints[&7][0].parts.len(), 3);
        assert!(listing(&[&part(4), &part(0)]).await.checkpoints.is_empty());
    }

    #[tokio::test]
    async fn a_gap_is_named() {
        let name = |v: u32| format!("{v:020}.json");
        let log = listing(&[&name(0), &name(1), &name(3)]).await;
        assert_eq!(log.first_gap(0, 3), Some(2));
        assert_eq!(log.first_gap(0, 1), None);
        assert_eq!(log.first_gap(0, 5), Some(2));
        assert_eq!(log.first_gap(3, 4), Some(4));
        assert_eq!(log.newest(), Some(3));
    }
}
