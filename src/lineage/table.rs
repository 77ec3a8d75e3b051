//! The lineage of all commits of a table: attested, or derived from what the log says.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectStore;
use object_store::path::Path;

use super::derive::CommitActions;
use super::record::Lineage;
use crate::baseline::{AttestationName, AttestedCommit, attestation_bytes, attestation_names, open_attestation};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyId, VerifyingKey};
use crate::table::{commit_versions, read_commit};

/// Requests in flight while lineage is read.
const CONCURRENCY: usize = 16;
/// Commits whose attestations are opened by one thread at a time, and the bytes of attestations with which there are fewer.
const BATCH_COMMITS: usize = 64;
const BATCH_BYTES: usize = 4 << 20;

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
    /// What is not known.
    pub gaps: Gaps,
}

/// What is not known of a table's lineage.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gaps {
    /// Versions of which neither commit nor attestation is there any more: the first and the last of each run.
    pub forgotten: Vec<(u64, u64)>,
    /// Versions with an attestation that cannot be read, and why. Their lineage is derived from their commits and counts as incomplete; where the
    /// commit is gone too, they are among the forgotten.
    pub unreadable: Vec<(u64, String)>,
}

/// Reads the lineage of every commit of a table, newest first, and hands each to `sink` as it comes: memory is the sink's.
///
/// The newest commit is read, and its attestation; each attested commit names the digest of the one before, so that attested commits
/// below need not be read themselves. Commits that nobody attested are read and their lineage is derived.
/// Cost: two LISTs and one GET per commit, 16 at a time.
///
/// # Errors
/// Those of the store, [`ErrorKind::NotFound`] when there is no Delta table, [`ErrorKind::Corrupt`] for a commit that cannot be read.
pub async fn read_commit_lineage(source: LineageSource<'_>, mut sink: impl FnMut(CommitLineage)) -> Result<Gaps> {
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
    let mut opened = opened(source, &names, versions);
    let (mut expected, mut above) = (None, newest.saturating_add(1));
    let (mut forgotten, mut unreadable) = (Vec::new(), Vec::new());
    while let Some((version, candidates)) = opened.try_next().await? {
        if version.saturating_add(1) != above {
            expected = None;
            forgotten.push((version.saturating_add(1), above.saturating_sub(1)));
        }
        above = version;
        let found = one(source, version, candidates, expected, commits.binary_search(&version).is_ok()).await?;
        expected = found.previous;
        unreadable.extend(found.unreadable.map(|why| (version, why)));
        match found.commit {
            Some(found) => sink(found),
            None => forgotten.push((version, version)),
        }
    }
    if above > 0 {
        forgotten.push((0, above.saturating_sub(1)));
    }
    forgotten.reverse();
    unreadable.reverse();
    Ok(Gaps { forgotten: joined(forgotten), unreadable })
}

/// An attestation whose signature is good, and which may be that of the commit; or why it cannot be read.
struct Candidate {
    name: AttestationName,
    opened: Result<(AttestedCommit, Result<Lineage>)>,
}

/// What is stored of one version's attestations: key, name and bytes.
type Fetched = (u64, Vec<(VerifyingKey, AttestationName, Bytes)>);

/// The attestations of `versions`, newest first: fetched ahead, and opened by many on all processors.
///
/// Verifying and parsing take longer than reading. So that handing them over does not, some are opened at a time.
fn opened<'a>(
    source: LineageSource<'a>,
    names: &'a BTreeMap<u64, Vec<AttestationName>>,
    versions: Vec<u64>,
) -> BoxStream<'a, Result<(u64, Vec<Candidate>)>> {
    let keys: Vec<(KeyId, VerifyingKey)> = source.writers.iter().map(|key| (key.id(), *key)).collect();
    let fetches = stream::iter(versions.into_iter().rev()).map(move |version| {
        let named: Vec<(VerifyingKey, AttestationName)> = names
            .get(&version)
            .into_iter()
            .flatten()
            .filter_map(|name| Some((keys.iter().find(|(id, _)| *id == name.key)?.1, *name)))
            .collect();
        async move {
            let mut found = Vec::with_capacity(named.len());
            for (key, name) in named {
                if let Some(bytes) = attestation_bytes(source.store, source.root, &name).await? {
                    found.push((key, name, bytes));
                }
            }
            Ok::<Fetched, Error>((version, found))
        }
    });
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    batches(fetches.buffered(CONCURRENCY).boxed())
        .map(|batch| async move {
            let batch = batch?;
            let opened = tokio::task::spawn_blocking(move || open_all(batch)).await;
            opened.map_err(|e| Error::new(ErrorKind::Internal, "verifying attestations was cut short").caused_by(e))?
        })
        .buffered(threads.saturating_add(1))
        .map_ok(|opened| stream::iter(opened.into_iter().map(Ok)))
        .try_flatten()
        .boxed()
}

/// Gathers what is fetched until there is enough to be opened together.
fn batches<'a>(fetched: BoxStream<'a, Result<Fetched>>) -> impl Stream<Item = Result<Vec<Fetched>>> + Send + 'a {
    stream::unfold(Some(fetched), |fetched| async move {
        let mut fetched = fetched?;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        loop {
            match fetched.next().await {
                Some(Ok(one)) => {
                    bytes += one.1.iter().map(|(.., bytes)| bytes.len()).sum::<usize>();
                    batch.push(one);
                    if batch.len() >= BATCH_COMMITS || bytes >= BATCH_BYTES {
                        return Some((Ok(batch), Some(fetched)));
                    }
                }
                Some(Err(error)) => return Some((Err(error), None)),
                None => return (!batch.is_empty()).then_some((Ok(batch), None)),
            }
        }
    })
}

fn open_all(batch: Vec<Fetched>) -> Result<Vec<(u64, Vec<Candidate>)>> {
    let open = |(key, name, bytes): (VerifyingKey, AttestationName, Bytes)| {
        let found = open_attestation(&key, &bytes, &name).transpose()?;
        Some(Candidate { name, opened: found.map(|found| (found.commit, Lineage::from_provenance(&found.provenance))) })
    };
    let open_version = |(version, found): Fetched| (version, found.into_iter().filter_map(open).collect());
    Ok(batch.into_iter().map(open_version).collect())
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

/// What is known of one version.
#[derive(Default)]
struct Found {
    commit: Option<CommitLineage>,
    /// The digest that its attestation gives the commit before.
    previous: Option<Digest>,
    /// Why its attestation cannot be read.
    unreadable: Option<String>,
}

/// The lineage of one version.
async fn one(
    source: LineageSource<'_>,
    version: u64,
    candidates: Vec<Candidate>,
    expected: Option<Digest>,
    is_there: bool,
) -> Result<Found> {
    let mut bytes = None;
    let digest = match expected {
        Some(expected) => expected,
        None if !is_there => return Ok(Found::default()),
        None => {
            let read = read_commit(source.store, source.root, version).await?;
            let digest = Digest::of(&read);
            bytes = Some(read);
            digest
        }
    };
    let mut found = Found::default();
    for candidate in candidates.into_iter().filter(|candidate| candidate.name.commit == digest) {
        match candidate.opened {
            Ok((commit, _)) if commit.location != source.location => {}
            Ok((commit, Ok(lineage))) => {
                let (attested_by, table_id) = (Some(candidate.name.key), Some(commit.table_id));
                let known = CommitLineage { version, commit: digest, attested_by, table_id, lineage };
                return Ok(Found { commit: Some(known), previous: commit.previous, unreadable: None });
            }
            // One that is not understood must not hide the others.
            Ok((_, Err(error))) | Err(error) => found.unreadable = Some(error.to_string()),
        }
    }
    if !is_there {
        return Ok(found);
    }
    let bytes = match bytes {
        Some(bytes) => bytes,
        None => read_commit(source.store, source.root, version).await?,
    };
    let actions = CommitActions::parse(&bytes).map_err(|e| e.with("commit", version))?;
    let mut lineage = actions.lineage(source.location, version);
    lineage.inputs_complete &= found.unreadable.is_none();
    let commit = Digest::of(&bytes);
    found.commit = Some(CommitLineage { version, commit, attested_by: None, table_id: actions.table_id, lineage });
    Ok(found)
}

/// As [`read_commit_lineage`], all at once.
///
/// # Errors
/// As [`read_commit_lineage`].
pub async fn read_table_lineage(source: LineageSource<'_>) -> Result<TableLineage> {
    let mut commits = Vec::new();
    let gaps = read_commit_lineage(source, |commit| commits.push(commit)).await?;
    commits.reverse();
    Ok(TableLineage { commits, gaps })
}
