//! The lineage of all commits of a table: attested, or derived from what the log says.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectStore;
use object_store::path::Path;

use super::derive::{CommitActions, RESTORE};
use super::record::Lineage;
use crate::baseline::{AttestationName, AttestedCommit, attestation_bytes, attestation_names, open_attestation, small_attestation_bytes};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyId, VerifyingKey};
use crate::table::{commit_versions, read_commit};

/// Requests in flight while lineage is read.
const CONCURRENCY: usize = 16;
/// Commits whose attestations are opened by one thread at a time, and the bytes of attestations with which there are fewer.
const BATCH_COMMITS: usize = 64;
const BATCH_BYTES: usize = 4 << 20;
/// More attestations of one version than this are not read ahead, nor those that have more bytes: anyone may have put them there, and only those of
/// the commit that is there are read, one after the other, once its digest is known.
const AHEAD_LIMIT: usize = 8;
const AHEAD_BYTES: u64 = 256 << 10;

/// Where to look, and whom to believe.
#[derive(Debug, Clone, Copy)]
pub struct LineageSource<'a> {
    /// The table's store.
    pub store: &'a dyn ObjectStore,
    /// The table's place in the store.
    pub root: &'a Path,
    /// The table's canonical URL.
    pub location: &'a str,
    /// Other URLs that attestations may know it by.
    pub aliases: &'a [String],
    /// The writers whose attestations count.
    pub writers: &'a [VerifyingKey],
}

impl LineageSource<'_> {
    fn is_of(&self, location: &str) -> bool {
        let same = |own: &str| own.trim_end_matches('/') == location.trim_end_matches('/');
        same(self.location) || self.aliases.iter().any(|alias| same(alias))
    }

    fn key(&self, id: KeyId) -> Option<VerifyingKey> {
        self.writers.iter().find(|key| key.id() == id).copied()
    }
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
    /// The baseline that proves what the commit says: every file that it restored holds what the baseline sealed, by its digest, and never held
    /// anything else, by the versions that the store retains. Absent where that is not so; what reads a log alone never sets it.
    pub restores_baseline: Option<u64>,
    /// The lineage.
    pub lineage: Lineage,
}

impl CommitLineage {
    /// Whether nothing but the commit's own label says that the files which it adds were there before.
    pub fn claims_restore(&self) -> bool {
        let lineage = &self.lineage;
        lineage.derived && lineage.operation == RESTORE && !lineage.outputs.is_empty() && self.restores_baseline.is_none()
    }
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
        if name.version <= newest && source.key(name.key).is_some() {
            names.entry(name.version).or_default().push(name);
        }
    }
    let mut versions: Vec<u64> = commits.iter().chain(names.keys()).copied().collect();
    versions.sort_unstable();
    versions.dedup();
    let mut opened = opened(source, names, versions);
    let (mut expected, mut above) = (None, newest.saturating_add(1));
    let (mut forgotten, mut unreadable) = (Vec::new(), Vec::new());
    while let Some(ahead) = opened.try_next().await? {
        let version = ahead.version;
        if version.saturating_add(1) != above {
            expected = None;
            forgotten.push((version.saturating_add(1), above.saturating_sub(1)));
        }
        above = version;
        let found = one(source, ahead, expected, commits.binary_search(&version).is_ok()).await?;
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

/// The attestations of one version: those that were read ahead, and the names of those that were not.
struct Ahead<T> {
    version: u64,
    read: Vec<T>,
    late: Vec<AttestationName>,
}

/// What is stored: key, name and bytes.
type Stored = (VerifyingKey, AttestationName, Bytes);

/// The attestations of `versions`, newest first: fetched ahead, and opened by many on all processors.
///
/// Verifying and parsing take longer than reading. So that handing them over does not, some are opened at a time.
fn opened<'a>(
    source: LineageSource<'a>,
    mut names: BTreeMap<u64, Vec<AttestationName>>,
    versions: Vec<u64>,
) -> BoxStream<'a, Result<Ahead<Candidate>>> {
    let names = versions.into_iter().rev().map(move |version| (version, names.remove(&version).unwrap_or_default()));
    let fetches = stream::iter(names).map(move |(version, names)| fetched(source, version, names));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    batches(fetches.buffered(CONCURRENCY).boxed())
        .map(|batch| async move {
            let batch = batch?;
            on_a_thread(move || batch.into_iter().map(open_version).collect::<Vec<_>>()).await
        })
        .buffered(threads.saturating_add(1))
        .map_ok(|opened| stream::iter(opened.into_iter().map(Ok)))
        .try_flatten()
        .boxed()
}

async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::new(ErrorKind::Internal, "verifying attestations was cut short").caused_by(e))
}

async fn fetched(source: LineageSource<'_>, version: u64, names: Vec<AttestationName>) -> Result<Ahead<Stored>> {
    let mut ahead = Ahead { version, read: Vec::new(), late: Vec::new() };
    if names.len() > AHEAD_LIMIT {
        return Ok(Ahead { late: names, ..ahead });
    }
    for name in names {
        let Some(key) = source.key(name.key) else { continue };
        match small_attestation_bytes(source.store, source.root, &name, AHEAD_BYTES).await? {
            Some(Ok(bytes)) => ahead.read.push((key, name, bytes)),
            Some(Err(_)) => ahead.late.push(name),
            None => {}
        }
    }
    Ok(ahead)
}

/// Gathers what is fetched until there is enough to be opened together.
fn batches<'a>(fetched: BoxStream<'a, Result<Ahead<Stored>>>) -> impl Stream<Item = Result<Vec<Ahead<Stored>>>> + Send + 'a {
    stream::unfold(Some(fetched), |fetched| async move {
        let mut fetched = fetched?;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        loop {
            match fetched.next().await {
                Some(Ok(one)) => {
                    bytes += one.read.iter().map(|(.., bytes)| bytes.len()).sum::<usize>();
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

fn open_version(ahead: Ahead<Stored>) -> Ahead<Candidate> {
    Ahead { version: ahead.version, read: ahead.read.into_iter().filter_map(candidate).collect(), late: ahead.late }
}

fn candidate((key, name, bytes): Stored) -> Option<Candidate> {
    let found = open_attestation(&key, &bytes, &name).transpose()?;
    Some(Candidate { name, opened: found.map(|found| (found.commit, Lineage::from_provenance(&found.provenance))) })
}

/// What was not read ahead.
async fn read_late(source: LineageSource<'_>, name: AttestationName) -> Result<Option<Candidate>> {
    let Some(key) = source.key(name.key) else { return Ok(None) };
    match attestation_bytes(source.store, source.root, &name).await? {
        Some(bytes) => on_a_thread(move || candidate((key, name, bytes))).await,
        None => Ok(None),
    }
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

impl Found {
    /// Whether `candidate` says what is to be known of the commit. One that is not understood must not hide the others.
    fn take(&mut self, source: LineageSource<'_>, candidate: Candidate) -> bool {
        match candidate.opened {
            Ok((commit, _)) if !source.is_of(&commit.location) => false,
            Ok((commit, Ok(lineage))) => {
                let (version, attested_by, table_id) = (commit.version, Some(candidate.name.key), Some(commit.table_id));
                let known = CommitLineage { version, commit: commit.commit, attested_by, table_id, restores_baseline: None, lineage };
                *self = Self { commit: Some(known), previous: commit.previous, unreadable: None };
                true
            }
            Ok((_, Err(error))) | Err(error) => {
                self.unreadable = Some(error.to_string());
                false
            }
        }
    }
}

/// The lineage of one version, by the attestations that were opened, or are still to be read: the first that is good.
async fn one(source: LineageSource<'_>, ahead: Ahead<Candidate>, expected: Option<Digest>, is_there: bool) -> Result<Found> {
    let (version, mut bytes) = (ahead.version, None);
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
    for candidate in ahead.read.into_iter().filter(|candidate| candidate.name.commit == digest) {
        if found.take(source, candidate) {
            return Ok(found);
        }
    }
    for name in ahead.late.into_iter().filter(|name| name.commit == digest) {
        if let Some(candidate) = read_late(source, name).await?
            && found.take(source, candidate)
        {
            return Ok(found);
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
    found.commit = Some(CommitLineage { version, commit, attested_by: None, table_id: actions.table_id, restores_baseline: None, lineage });
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

#[cfg(test)]
mod tests;
