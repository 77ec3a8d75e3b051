//! Who made the commits after the baseline: holds them against their writers' attestations.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::attestation::{
    AttestationName, AttestedCommit, attestation_bytes, attestation_names, open_on_a_thread, small_attestation_bytes,
};
use super::compare::{Place, is_sealed_location};
use super::sealed::SealedTable;
use super::trust::Trust;
use super::verdict::{Finding, Verdict};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::key::{KeyId, Role, VerifyingKey};
use crate::table::{Commit, TableKind, TableSnapshot};

/// Attestations read at a time, of up to so many bytes; larger ones are read one after the other: whoever may write to the table decides how large
/// they are, and how many.
const CONCURRENCY: usize = 16;
const SMALL_BYTES: u64 = 256 << 10;
/// How much of a key's identity people are shown.
const SHORT_KEY: usize = 16;

/// The keys whose attestations count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Writers {
    keys: Vec<VerifyingKey>,
    required: bool,
    /// They are those of a trust root, and change with it.
    of_root: bool,
}

impl Writers {
    /// Attestations by `keys` are recognised; a commit without one is `unsealed`, as any other.
    pub fn known<K: Into<VerifyingKey>>(keys: impl IntoIterator<Item = K>) -> Self {
        Self { keys: keys.into_iter().map(Into::into).collect(), required: false, of_root: false }
    }

    /// `keys` is the whole list of writers: a commit after the baseline that none of them attested is a mismatch.
    pub fn listed<K: Into<VerifyingKey>>(keys: impl IntoIterator<Item = K>) -> Self {
        Self { keys: keys.into_iter().map(Into::into).collect(), required: true, of_root: false }
    }

    /// The same, as long as no newer trust root lists others ([`Self::at`]).
    #[must_use]
    pub fn until_newer_root(mut self) -> Self {
        self.of_root = true;
        self
    }

    /// The writers under the newest trust root: those that it lists, where these came of an older one.
    #[must_use]
    pub fn at(&self, newest: &Trust) -> Self {
        match newest.keys(Role::Writer) {
            _ if !self.of_root => self.clone(),
            [] => Self { required: false, ..self.clone() },
            listed => Self::listed(listed.to_vec()).until_newer_root(),
        }
    }

    /// The keys.
    pub fn keys(&self) -> &[VerifyingKey] {
        &self.keys
    }

    /// Whether every commit after a baseline must be attested.
    pub fn is_required(&self) -> bool {
        self.required
    }

    fn is_idle(&self) -> bool {
        self.keys.is_empty() && !self.required
    }
}

/// The commits after a baseline that a writer attested, with the writer's key.
pub(super) type AttestedBy = BTreeMap<u64, KeyId>;

/// What a finding about an attested commit says at its end.
pub(super) fn attested_suffix(attested: &AttestedBy, version: u64) -> String {
    attested.get(&version).map_or_else(String::new, |key| format!("; attested by writer {}", short(key)))
}

fn short(key: &KeyId) -> String {
    key.to_string().chars().take(SHORT_KEY).collect()
}

/// Holds every commit after the baseline against its attestation, from the newest down.
///
/// Findings of attested commits get to say by whom; where writers are listed, what nobody attested becomes `unattested`; a commit other than the
/// one that its successor's writer saw is `forged`. Commits that log cleanup took away are told by the chain of their attestations.
/// Cost: one LIST, one GET per later commit, 16 at a time; a second GET for an attestation of more than 256 KiB, one at a time. Memory: 16 small
/// attestations or a large one, of 64 MiB at most.
pub(super) async fn compare_attestations(
    place: &Place<'_>,
    snapshot: &TableSnapshot,
    sealed: &SealedTable,
    findings: &mut Vec<Finding>,
) -> Result<AttestedBy> {
    let sealed_version = sealed.statement.state.version;
    if snapshot.kind != TableKind::Delta || snapshot.version <= sealed_version || place.writers.is_idle() {
        return Ok(AttestedBy::new());
    }
    let mut walk = Walk { place, snapshot, sealed, expected: None, attested: AttestedBy::new(), found: Vec::new() };
    let commits: BTreeMap<u64, &Commit> =
        snapshot.commits.iter().filter(|commit| commit.version > sealed_version).map(|commit| (commit.version, commit)).collect();
    let names = read_all(place, sealed_version, &commits).await?;
    // Only versions that something speaks of: a forged number must not make the walk long.
    let mut versions: Vec<u64> = commits.keys().chain(names.keys()).copied().filter(|version| *version <= snapshot.version).collect();
    versions.sort_unstable();
    versions.dedup();
    let mut above = snapshot.version.saturating_add(1);
    for version in versions.into_iter().rev() {
        walk.gap(version.saturating_add(1), above);
        let candidates = names.get(&version).map(Vec::as_slice).unwrap_or_default();
        walk.judge(version, commits.get(&version).copied(), candidates);
        above = version;
    }
    walk.gap(sealed_version.saturating_add(1), above);
    walk.base(sealed_version, above);
    for finding in findings.iter_mut().filter(|finding| finding.file.is_none()) {
        if let (Verdict::Unsealed | Verdict::Rewritten, Some(version)) = (finding.verdict, finding.commit) {
            finding.detail.push_str(&attested_suffix(&walk.attested, version));
        }
    }
    // One finding for one commit: `unattested` says all that `unsealed` says.
    let unattested: Vec<Option<u64>> = walk.found.iter().filter(|f| f.verdict == Verdict::Unattested).map(|f| f.commit).collect();
    findings.retain(|f| !(f.verdict == Verdict::Unsealed && f.file.is_none() && unattested.contains(&f.commit)));
    findings.append(&mut walk.found);
    Ok(walk.attested)
}

/// An attestation that a known key signed, under its name.
type Signed = (AttestationName, AttestedCommit);

/// Reads what may attest the commits after `sealed_version`, some at a time. Attempts at versions that have another commit are left alone.
async fn read_all(place: &Place<'_>, sealed_version: u64, commits: &BTreeMap<u64, &Commit>) -> Result<BTreeMap<u64, Vec<Signed>>> {
    let names = attestation_names(place.store, place.root, Some(sealed_version)).await?;
    let key_of = |name: &AttestationName| place.writers.keys().iter().find(|key| key.id() == name.key).copied();
    let wanted = names.into_iter().filter(|name| commits.get(&name.version).is_none_or(|commit| commit.digest == name.commit));
    let wanted = wanted.filter_map(|name| Some((key_of(&name)?, name)));
    let reads = stream::iter(wanted).map(|(key, name)| async move {
        Ok::<_, Error>(match small_attestation_bytes(place.store, place.root, &name, SMALL_BYTES).await? {
            Some(Ok(bytes)) => Read::Small(opened(place, key, name, bytes).await?),
            Some(Err(_)) => Read::Large(key, name),
            None => Read::Small(None),
        })
    });
    let mut reads = reads.buffered(CONCURRENCY);
    let (mut found, mut large): (BTreeMap<u64, Vec<Signed>>, Vec<_>) = Default::default();
    while let Some(read) = reads.try_next().await? {
        match read {
            Read::Small(signed) => add(&mut found, signed),
            Read::Large(key, name) => large.push((key, name)),
        }
    }
    for (key, name) in large {
        if let Some(bytes) = attestation_bytes(place.store, place.root, &name).await? {
            add(&mut found, opened(place, key, name, bytes).await?);
        }
    }
    // As their names are sorted, whichever were read last.
    found.values_mut().for_each(|signed| signed.sort_unstable_by_key(|(name, _)| *name));
    Ok(found)
}

fn add(found: &mut BTreeMap<u64, Vec<Signed>>, signed: Option<Signed>) {
    if let Some(signed) = signed {
        found.entry(signed.0.version).or_default().push(signed);
    }
}

/// What became of reading an attestation.
enum Read {
    Small(Option<Signed>),
    /// It is to be read alone.
    Large(VerifyingKey, AttestationName),
}

async fn opened(place: &Place<'_>, key: VerifyingKey, name: AttestationName, bytes: Bytes) -> Result<Option<Signed>> {
    let read = open_on_a_thread(key, bytes, name).await.map_err(|e| e.with("attestation", name.path(place.root)))?;
    Ok(read.map(|attestation| (name, attestation.commit)))
}

struct Walk<'a> {
    place: &'a Place<'a>,
    snapshot: &'a TableSnapshot,
    sealed: &'a SealedTable,
    /// The digest that the attestation of the commit above says that this one has.
    expected: Option<Digest>,
    attested: AttestedBy,
    found: Vec<Finding>,
}

impl Walk<'_> {
    fn judge(&mut self, version: u64, commit: Option<&Commit>, candidates: &[Signed]) {
        let expected = self.expected.take();
        if let (Some(commit), Some(expected)) = (commit, expected)
            && commit.digest != expected
        {
            let detail = format!(
                "the commit is not the one that version {} was attested to follow: {expected} then, {} now",
                version.saturating_add(1),
                commit.digest
            );
            self.found.push(Finding::new(Verdict::Forged, detail).commit(version));
        }
        let Some(digest) = commit.map(|commit| commit.digest).or(expected) else {
            // An attempt at a version whose commit is gone, and that nothing above vouches for.
            self.unattested(version, "the log no longer has the commit, and no attested commit follows it");
            return;
        };
        let operation = commit.and_then(|commit| commit.operation.as_deref()).unwrap_or("an operation that is not stated");
        let mut why = "no writer that you trust attested this commit".to_owned();
        for (name, attested) in candidates.iter().filter(|(name, _)| name.commit == digest) {
            match self.misplaced(attested) {
                None => {
                    self.expected = attested.previous;
                    self.attested.insert(version, name.key);
                    return;
                }
                Some(other) => why = other,
            }
        }
        self.unattested(version, &format!("{operation}: {why}"));
    }

    /// Why an attestation of exactly this commit does not count here: made for another table, or for a copy of this one.
    fn misplaced(&self, of: &AttestedCommit) -> Option<String> {
        if of.table_id != self.snapshot.table_id {
            return Some(format!("its attestation is of another table: id '{}'", of.table_id));
        }
        (!is_sealed_location(self.sealed, &of.location)).then(|| {
            format!("its attestation is of the table at {}, which is neither the sealed location nor a signed alias of it", of.location)
        })
    }

    fn unattested(&mut self, version: u64, detail: &str) {
        if self.place.writers.is_required() {
            self.found.push(Finding::new(Verdict::Unattested, detail).commit(version));
        }
    }

    /// Versions `from..to` of which there is neither commit nor attestation.
    fn gap(&mut self, from: u64, to: u64) {
        if from < to {
            self.expected = None;
            let detail = match to.saturating_sub(from) {
                1 => "the log no longer has the commit, and no writer that you trust attested it".to_owned(),
                n => format!("the log no longer has the {n} commits from here on, and no writer that you trust attested them"),
            };
            self.unattested(from, &detail);
        }
    }

    /// The first commit after the baseline must follow the sealed one.
    fn base(&mut self, sealed_version: u64, first: u64) {
        let sealed = self.sealed.commits.get(&sealed_version).map(|commit| commit.digest);
        if let (Some(expected), Some(sealed), true) = (self.expected, sealed, first == sealed_version.saturating_add(1))
            && expected != sealed
        {
            let detail = format!("the commit was attested to follow {expected}, but version {sealed_version} was sealed as {sealed}");
            self.found.push(Finding::new(Verdict::Forged, detail).commit(first));
        }
    }
}
