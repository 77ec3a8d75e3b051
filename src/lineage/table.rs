//! The lineage of all commits of a table: attested, or derived from what the log says.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectStore;
use object_store::path::Path;

use super::derive::CommitActions;
use super::record::Lineage;
use crate::baseline::{Attestation, AttestationName, attestation_names, read_attestation};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyId, VerifyingKey};
use crate::table::{commit_versions, read_commit};

/// Requests in flight while lineage is read.
const CONCURRENCY: usize = 16;

/// Where to look, and whom to believe.
#[derive(Debug, Clone, Copy)]
pub struct LineageSource<'a> {
    /// The table's store.
    pub store: &'a dyn ObjectStore,
    /// The table's place in the store.
    pub root: &'a Path,
    /// The table's canonical URL.
    pub location: &'a str,
    /// The writers whose attestations count.
    pub writers: &'a [VerifyingKey],
}

/// The lineage of one commit, and who vouches for it.
#[derive(Debug, Clone, PartialEq)]
pub struct CommitLineage {
    /// The commit's Delta version.
    pub version: u64,
    /// The commit's digest.
    pub commit: Digest,
    /// The writer that attested it; absent for lineage that was derived from the log.
    pub attested_by: Option<KeyId>,
    /// Delta's id of the table, as attested.
    pub table_id: Option<String>,
    /// The lineage.
    pub lineage: Lineage,
}

/// The lineage of a table's commits.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TableLineage {
    /// By version, ascending.
    pub commits: Vec<CommitLineage>,
    /// Versions of which neither commit nor attestation is there any more: the first and the last of each run.
    pub forgotten: Vec<(u64, u64)>,
}

/// Reads the lineage of every commit of a table, newest first, and hands each to `sink` as it comes: memory is the sink's.
///
/// The newest commit is read, and its attestation; each attested commit names the digest of the one before, so that attested commits
/// below need not be read themselves. Commits that nobody attested are read and their lineage is derived.
/// Cost: two LISTs and one GET per commit, 16 at a time.
///
/// # Errors
/// Those of the store, [`ErrorKind::NotFound`] when there is no Delta table, [`ErrorKind::Corrupt`] for a commit that cannot be read.
pub async fn read_commit_lineage(source: LineageSource<'_>, mut sink: impl FnMut(CommitLineage)) -> Result<Vec<(u64, u64)>> {
    let commits = commit_versions(source.store, source.root).await?;
    let Some(newest) = commits.last().copied() else {
        return Err(Error::new(ErrorKind::NotFound, "there is no Delta table: lineage is that of commits").with("table", source.location));
    };
    let mut names: BTreeMap<u64, Vec<AttestationName>> = BTreeMap::new();
    for name in attestation_names(source.store, source.root, None).await? {
        if source.writers.iter().any(|key| key.id() == name.key) {
            names.entry(name.version).or_default().push(name);
        }
    }
    let mut versions: Vec<u64> = commits.iter().chain(names.keys()).copied().filter(|version| *version <= newest).collect();
    versions.sort_unstable();
    versions.dedup();
    // Attestations are fetched ahead; which of several is the commit's own is told on arrival.
    let names = &names;
    let fetches = stream::iter(versions.iter().rev().copied()).map(move |version| async move {
        let mut found = Vec::new();
        for name in names.get(&version).into_iter().flatten() {
            if let Some(attestation) = read_attestation(source.store, source.root, name, source.writers).await? {
                found.push((name.key, attestation));
            }
        }
        Ok::<_, Error>((version, found))
    });
    let mut fetched = fetches.buffered(CONCURRENCY);
    let (mut expected, mut above) = (None, newest.saturating_add(1));
    let mut forgotten = Vec::new();
    while let Some((version, candidates)) = fetched.try_next().await? {
        if version.saturating_add(1) != above {
            expected = None;
            forgotten.push((version.saturating_add(1), above.saturating_sub(1)));
        }
        above = version;
        match one(source, version, candidates, expected, commits.binary_search(&version).is_ok()).await? {
            Some((found, previous)) => {
                expected = previous;
                sink(found);
            }
            None => {
                expected = None;
                forgotten.push((version, version));
            }
        }
    }
    if above > 0 {
        forgotten.push((0, above.saturating_sub(1)));
    }
    forgotten.reverse();
    Ok(joined(forgotten))
}

fn joined(runs: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (from, to) in runs {
        match joined.last_mut() {
            Some(last) if last.1.saturating_add(1) == from => last.1 = to,
            _ => joined.push((from, to)),
        }
    }
    joined
}

type Found = Option<(CommitLineage, Option<Digest>)>;

/// The lineage of one version, and the digest that its attestation gives the commit before.
async fn one(
    source: LineageSource<'_>,
    version: u64,
    candidates: Vec<(KeyId, Attestation)>,
    expected: Option<Digest>,
    is_there: bool,
) -> Result<Found> {
    let fits = |digest: Digest, candidates: Vec<(KeyId, Attestation)>| {
        candidates.into_iter().find(|(_, found)| found.commit.commit == digest && found.commit.location == source.location)
    };
    let mut bytes = None;
    let digest = match expected {
        Some(expected) => expected,
        None if !is_there => return Ok(None),
        None => {
            let read = read_commit(source.store, source.root, version).await?;
            let digest = Digest::of(&read);
            bytes = Some(read);
            digest
        }
    };
    if let Some((key, found)) = fits(digest, candidates) {
        let lineage = Lineage::from_provenance(&found.provenance).map_err(|e| e.with("commit", version))?;
        let table_id = Some(found.commit.table_id);
        return Ok(Some((CommitLineage { version, commit: digest, attested_by: Some(key), table_id, lineage }, found.commit.previous)));
    }
    if !is_there {
        return Ok(None);
    }
    let bytes = match bytes {
        Some(bytes) => bytes,
        None => read_commit(source.store, source.root, version).await?,
    };
    let actions = CommitActions::parse(&bytes).map_err(|e| e.with("commit", version))?;
    let lineage = actions.lineage(source.location, version);
    Ok(Some((CommitLineage { version, commit: Digest::of(&bytes), attested_by: None, table_id: actions.table_id, lineage }, None)))
}

/// As [`read_commit_lineage`], all at once.
///
/// # Errors
/// As [`read_commit_lineage`].
pub async fn read_table_lineage(source: LineageSource<'_>) -> Result<TableLineage> {
    let mut commits = Vec::new();
    let forgotten = read_commit_lineage(source, |commit| commits.push(commit)).await?;
    commits.reverse();
    Ok(TableLineage { commits, forgotten })
}
