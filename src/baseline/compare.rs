//! Comparison of what a log says with what was sealed. No data is read.
//!
//! With `compare_data` and `compare_rows`, the only place where verdicts are made.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use serde_json::Value;

use super::canonical;
use super::compare_attested::{AttestedBy, Writers, compare_attestations};
use super::compare_later::{compare_later, compare_later_heads, restored_states};
use super::compare_restated::{compare_live, compare_other_vectors, compare_typed};
use super::compare_spellings::compare_spellings;
use super::compare_told::compare_told;
use super::later::{self, LaterCommit};
use super::sealed::{SealedFile, SealedTable};
use super::state;
use super::statement::{BaselineSummary, Statement};
use super::verdict::{AFTER_BASELINE, Finding, Verdict};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyId;
use crate::table::{
    self, CheckpointDisagreement, FileKey, LiveFile, LogMemory, Stats, TableKind, TableSchema, TableSnapshot, added_columns,
};

/// Where and when a table is compared.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The table's store.
    pub store: &'a dyn ObjectStore,
    /// The table's place in the store.
    pub root: &'a Path,
    /// The table's canonical URL.
    pub location: &'a str,
    /// The time, in milliseconds since 1970-01-01T00:00:00Z.
    pub now_ms: i64,
    /// Whose attestations count.
    pub writers: &'a Writers,
    /// What is known of the log from before.
    pub memory: Option<&'a LogMemory>,
}

/// A live file in the form in which it is sealed and compared: absences are spelled one way.
pub(super) fn normal_live(kind: TableKind, live: &LiveFile) -> LiveFile {
    let non_empty = |value: &Value| Some(canonical::normal(value)).filter(|value| !value.is_null());
    LiveFile {
        partition_values: live.partition_values.iter().map(|(k, v)| (k.clone(), v.clone().filter(|v| !v.is_empty()))).collect(),
        stats: live.stats.as_deref().and_then(non_empty).map(Stats::from),
        deletion_vector: live.deletion_vector.as_ref().and_then(non_empty),
        other: live.other.iter().map(|(k, v)| (k.clone(), canonical::normal(v))).filter(|(_, v)| !canonical::is_empty(v)).collect(),
        // The time of a folder's object is the store's affair: copying the folder changes it.
        modification_time_ms: if kind == TableKind::Delta { live.modification_time_ms } else { 0 },
        ..live.clone()
    }
}

/// Whether `found` in that form is `sealed`, which nearly every file is. In the very log that was sealed, statistics are what they were.
pub(super) fn is_as_sealed(kind: TableKind, sealed: &LiveFile, found: &LiveFile, same_log: bool) -> bool {
    let others = || found.other.iter().filter(|(_, value)| !canonical::is_left_out(value));
    sealed.size == found.size
        && (kind != TableKind::Delta || sealed.modification_time_ms == found.modification_time_ms)
        && partition_values(sealed).eq(partition_values(found))
        && canonical::is_normal_option(sealed.deletion_vector.as_ref(), found.deletion_vector.as_ref())
        && (same_log || canonical::is_normal_option(sealed.stats.as_deref(), found.stats.as_deref()))
        && others().count() == sealed.other.len()
        && others().all(|(name, value)| sealed.other.get(name).is_some_and(|sealed| canonical::is_normal_of(sealed, value)))
}

/// Partition values in that form.
fn partition_values(file: &LiveFile) -> impl Iterator<Item = (&String, Option<&String>)> {
    file.partition_values.iter().map(|(name, value)| (name, value.as_ref().filter(|value| !value.is_empty())))
}

/// What is wrong with the baseline itself, at this place and time.
pub fn compare_statement(sealed: &SealedTable, snapshot: &TableSnapshot, place: &Place<'_>) -> Vec<Finding> {
    let statement = &sealed.statement;
    let mut found = Vec::new();
    if statement.state.kind != snapshot.kind || statement.state.table_id != snapshot.table_id {
        found.push(Finding::new(
            Verdict::Untrusted,
            format!(
                "baseline {} is of another table: it seals id '{}', and the table here has id '{}'",
                statement.number, statement.state.table_id, snapshot.table_id
            ),
        ));
    }
    if !is_sealed_location(sealed, place.location) {
        found.push(Finding::new(
            Verdict::Untrusted,
            format!(
                "baseline {} seals the table at {}, not at {}: this is a copy, or an address that the baseline does not list as an alias",
                statement.number, statement.location, place.location
            ),
        ));
    }
    found.extend(compare_term(&sealed.baseline, place.now_ms));
    found.extend(compare_root(statement, &sealed.baseline, place.now_ms));
    found
}

/// What is wrong with the trust root under which a baseline counts: it expired, or the baseline was made under a newer one.
fn compare_root(statement: &Statement, baseline: &BaselineSummary, now_ms: i64) -> Vec<Finding> {
    let Some((version, expires_ms)) = baseline.trust_root else { return Vec::new() };
    let mut found: Vec<Finding> = compare_trust_root(version, expires_ms, now_ms).into_iter().collect();
    if statement.trust_root > version {
        let detail = format!(
            "baseline {} was sealed under version {} of the trust root, and only version {version} is known: get the newer one",
            statement.number, statement.trust_root
        );
        found.push(Finding::new(Verdict::Undetermined, detail));
    }
    found
}

/// Whether the trust root under which a baseline counts lets anything be said of it now.
///
/// # Errors
/// [`ErrorKind::Mismatch`] when the trust root has expired; [`ErrorKind::Config`] when the baseline was made under a newer one than is known.
pub fn check_root(statement: &Statement, baseline: &BaselineSummary, now_ms: i64) -> Result<()> {
    match compare_root(statement, baseline, now_ms).into_iter().next() {
        None => Ok(()),
        Some(finding) => {
            let kind = if finding.verdict.is_mismatch() { ErrorKind::Mismatch } else { ErrorKind::Config };
            Err(Error::new(kind, finding.detail).with("baseline", baseline.number))
        }
    }
}

/// What is wrong with a baseline whose term is over.
pub fn compare_term(baseline: &BaselineSummary, now_ms: i64) -> Option<Finding> {
    let at = baseline.expires_ms.filter(|expires| *expires <= now_ms)?;
    let detail = format!("baseline {} expired at {at} (milliseconds since 1970); seal the table again", baseline.number);
    Some(Finding::new(Verdict::Expired, detail))
}

/// What is wrong with the trust root itself, at this time.
pub(super) fn compare_trust_root(version: u64, expires_ms: Option<i64>, now_ms: i64) -> Option<Finding> {
    let expired = expires_ms.filter(|expires| *expires <= now_ms)?;
    let detail = format!(
        "version {version} of the trust root expired at {expired} (milliseconds since 1970): get the newer one, or have its root keys sign one"
    );
    Some(Finding::new(Verdict::Expired, detail))
}

/// What is wrong with the newest trusted baseline's number, if there is one, beside one that is known from elsewhere.
pub(super) fn compare_pin(newest: Option<u64>, pin: Option<(u64, Digest)>) -> Option<Finding> {
    let (pinned, _) = pin.filter(|(pinned, _)| newest.is_none_or(|newest| newest < *pinned))?;
    let detail = match newest {
        Some(newest) => format!("baseline {pinned} is pinned, but the newest is {newest}: later ones were taken away"),
        None => format!("baseline {pinned} is pinned, but no baseline that you trust is there: the seals were taken away"),
    };
    Some(Finding::new(Verdict::RolledBack, detail))
}

/// Whether `location` is where the baseline seals the table, or one of its aliases.
pub fn is_sealed_location(sealed: &SealedTable, location: &str) -> bool {
    sealed.statement.is_of(location)
}

/// Compares a table's state with the sealed one: what its log says of files, commits, schema. Pure; no data is read.
///
/// `snapshot` may be of the sealed version or of a later one. Of a later one, changes that a commit after the baseline accounts
/// for are `unsealed`, one finding for each such commit; what no commit accounts for is worse.
pub fn compare_state(snapshot: &TableSnapshot, sealed: &SealedTable) -> Vec<Finding> {
    let stated = &sealed.statement.state;
    let mut found = compare_commits(snapshot, sealed);
    if snapshot.version < stated.version {
        found.push(
            Finding::new(
                Verdict::RolledBack,
                format!("the newest version is {}, but version {} is sealed: later commits are gone", snapshot.version, stated.version),
            )
            .commit(stated.version),
        );
        return found;
    }
    if snapshot.version == stated.version {
        found.extend(compare_head(snapshot, sealed));
    }
    found.extend(snapshot.duplicates.iter().map(|key| {
        Finding::new(Verdict::Forged, "the file is named twice, under aliases or with several deletion vectors: its rows would be doubled")
            .file(&key.path)
    }));
    found.extend(compare_files(snapshot, sealed));
    found.extend(compare_spellings(snapshot, sealed));
    found.extend(compare_other_vectors(snapshot, sealed));
    found.extend(compare_typed(snapshot));
    found.extend(compare_forgotten(snapshot, sealed));
    found
}

/// What a log that was cleaned up no longer tells: how the sealed state became the newer one.
///
/// Nothing is forged by that, and nothing is proven: while all that was sealed is still there, the rest is merely not sealed; else it cannot
/// be told an honest DELETE, whose commit was cleaned up, from a forged checkpoint.
pub(super) fn compare_forgotten(snapshot: &TableSnapshot, sealed: &SealedTable) -> Option<Finding> {
    let sealed_version = sealed.statement.state.version;
    let later = snapshot.version.checked_sub(sealed_version).filter(|later| *later > 0 && snapshot.kind == TableKind::Delta)?;
    let told = snapshot.commits.iter().filter(|commit| commit.version > sealed_version).count();
    if u64::try_from(told).ok() == Some(later) {
        return None;
    }
    let gone = sealed.files.keys().filter(|key| !snapshot.files.contains_key(*key)).count();
    let new = snapshot.files.keys().filter(|key| !sealed.files.contains_key(*key)).count();
    let head = differing_head(snapshot, sealed);
    let verdict = if gone > 0 || !head.is_empty() { Verdict::Undetermined } else { Verdict::Unsealed };
    let mut detail = format!(
        "the log no longer tells what commits {} to {} did: {gone} sealed files are no longer live, {new} files are new",
        sealed_version.saturating_add(1),
        snapshot.version
    );
    if !head.is_empty() {
        detail.push_str(&format!(", and the table's {} changed", head.join(", ")));
    }
    Some(Finding::new(verdict, detail).commit(snapshot.version))
}

fn compare_commits(snapshot: &TableSnapshot, sealed: &SealedTable) -> Vec<Finding> {
    let sealed_version = sealed.statement.state.version;
    let mut found = Vec::new();
    for commit in &snapshot.commits {
        let finding = if commit.version > sealed_version {
            let operation = commit.operation.as_deref().unwrap_or("an operation that it does not state");
            Some(Finding::new(Verdict::Unsealed, format!("{operation}: {AFTER_BASELINE} {}", sealed.baseline.number)))
        } else {
            match sealed.commits.get(&commit.version) {
                Some(known) if known.digest == commit.digest => None,
                Some(known) => Some(Finding::new(
                    Verdict::Forged,
                    format!(
                        "the commit was changed after it was sealed: sealed {} ({} bytes), found {} ({} bytes)",
                        known.digest, known.size, commit.digest, commit.size
                    ),
                )),
                None => Some(Finding::new(Verdict::Forged, "the commit was not there when its version was sealed")),
            }
        };
        found.extend(finding.map(|finding| finding.commit(commit.version)));
    }
    found
}

fn compare_head(snapshot: &TableSnapshot, sealed: &SealedTable) -> Vec<Finding> {
    let version = sealed.statement.state.version;
    let differs = |what: &str| {
        Finding::new(Verdict::Forged, format!("the table's {what} differ from what was sealed at this version")).commit(version)
    };
    differing_head(snapshot, sealed).into_iter().map(differs).collect()
}

/// The parts of what a log says besides files that are not the sealed ones.
fn differing_head(snapshot: &TableSnapshot, sealed: &SealedTable) -> Vec<&'static str> {
    let stated = &sealed.statement.state;
    let head = state::head_digests(snapshot);
    let parts = [
        ("protocol", head.protocol == stated.protocol),
        ("schema", head.schema == stated.schema),
        ("metadata (properties, partitioning, name)", head.metadata == stated.metadata),
        ("transactions of streaming writers", head.transactions == stated.transactions),
        ("domain metadata", head.domains == stated.domains),
    ];
    parts.iter().filter(|(_, same)| !same).map(|(what, _)| *what).collect()
}

fn compare_files(snapshot: &TableSnapshot, sealed: &SealedTable) -> Vec<Finding> {
    let sealed_version = sealed.statement.state.version;
    let later = snapshot.version > sealed_version;
    let same_log = is_sealed_log(snapshot, sealed);
    // Beyond a checkpoint after the baseline, the log may no longer say which commit did what.
    let forgotten = snapshot.checkpoint.is_some_and(|checkpoint| checkpoint > sealed_version);
    let mut found = Vec::new();
    for (key, file) in &sealed.files {
        match snapshot.files.get(key) {
            Some(live) if Arc::ptr_eq(live, &file.live) => {}
            Some(live) if same_log && is_as_sealed(snapshot.kind, &file.live, live, true) => {}
            Some(live) => found.extend(compare_live(snapshot.kind, &snapshot.schema, &file.live, live)),
            None if later && (forgotten || snapshot.tombstones.contains_key(key)) => {}
            None => found.push(gone(snapshot, key)),
        }
    }
    for (key, live) in snapshot.files.iter().filter(|(key, _)| !sealed.files.contains_key(*key)) {
        let finding = if live.location.is_none() {
            let what = "the log adds a file outside of the table, and below no root that the baseline signs";
            Some(Finding::new(Verdict::Foreign, format!("{what}: {}", live.raw_path)))
        } else if sealed.removed.contains_key(key) {
            Some(Finding::new(Verdict::Resurrected, "the file had been removed before the table was sealed, and is live again"))
        } else if snapshot.kind == TableKind::Parquet {
            Some(Finding::new(Verdict::Unsealed, "the file is not covered by any baseline"))
        } else if later && (forgotten || live.added_in.is_some_and(|version| version > sealed_version)) {
            None
        } else {
            Some(Finding::new(Verdict::Forged, "the file is live, but neither the baseline nor a later commit adds it"))
        };
        let place = |finding: Finding| match live.added_in {
            Some(version) => finding.file(&key.path).commit(version),
            None => finding.file(&key.path),
        };
        found.extend(finding.map(place));
    }
    found
}

/// Whether a snapshot comes of the very commits that were sealed, all from 0 on and no other: it is the same state, told by the same bytes.
pub fn is_sealed_log(snapshot: &TableSnapshot, sealed: &SealedTable) -> bool {
    let sealed_version = sealed.statement.state.version;
    snapshot.kind == TableKind::Delta
        && snapshot.version == sealed_version
        && snapshot.checkpoint.is_none()
        && snapshot.commits.len() == sealed.commits.len()
        && snapshot.commits.iter().zip(0..=sealed_version).all(|(commit, version)| {
            commit.version == version && sealed.commits.get(&version).is_some_and(|known| known.digest == commit.digest)
        })
        && snapshot.commits.last().is_some_and(|last| last.version == sealed_version)
}

/// The columns that a Delta table did not have when it was sealed, by physical names: all of them, where its log no longer says what it had and it
/// had others. Nobody held what the sealed files state and store of them against anything.
pub fn columns_since(at_sealed: Option<&SealedHead>, snapshot: &TableSnapshot, sealed: &SealedTable) -> Vec<Vec<String>> {
    let had = match at_sealed {
        Some(head) => head.schema.columns.as_slice(),
        None if state::head_digests(snapshot).schema == sealed.statement.state.schema => return Vec::new(),
        None => &[],
    };
    added_columns(had, &snapshot.schema.columns)
}

fn gone(snapshot: &TableSnapshot, key: &FileKey) -> Finding {
    let detail = match snapshot.kind {
        TableKind::Delta => "the sealed file is no longer live, and no commit after the baseline removes it",
        TableKind::Parquet => "the sealed file is gone",
    };
    Finding::new(Verdict::Missing, detail).file(&key.path)
}

/// Whether the log says of a live file what was sealed of it.
pub fn describes_the_same(sealed: &SealedTable, file: &SealedFile, live: &LiveFile) -> bool {
    compare_live(sealed.statement.state.kind, &TableSchema::default(), &file.live, live).is_empty()
}

/// Whether a log that is found says of a live file what a commit says of it.
pub(crate) fn says_the_same(commit: &LiveFile, found: &LiveFile) -> bool {
    compare_live(TableKind::Delta, &TableSchema::default(), &normal_live(TableKind::Delta, commit), found).is_empty()
}

/// Whether the log states the sealed statistics of a file, to the last digit. [`describes_the_same`] passes other spellings of a bound, too.
pub fn states_the_same(file: &SealedFile, live: &LiveFile) -> bool {
    canonical::is_normal_option(file.live.stats.as_deref(), live.stats.as_deref())
}

/// What a log says besides files, at the version that was sealed.
#[derive(Debug, Clone)]
pub struct SealedHead {
    /// The `protocol` action.
    pub protocol: Value,
    /// The `metaData` action.
    pub metadata: Value,
    /// Columns of the table.
    pub schema: TableSchema,
}

impl SealedHead {
    fn of(snapshot: &TableSnapshot) -> Self {
        Self { protocol: snapshot.protocol.clone(), metadata: snapshot.metadata.clone(), schema: snapshot.schema.clone() }
    }
}

/// The whole comparison of a table's log with a baseline.
#[derive(Debug)]
pub struct LogComparison {
    /// What differs.
    pub findings: Vec<Finding>,
    /// What the log says besides files at the sealed version, when it still knows it.
    pub at_sealed: Option<SealedHead>,
    pub(super) later: Option<Vec<LaterCommit>>,
    /// The commits after the baseline that a writer attested, by Delta version, with the writer's key.
    pub attested: BTreeMap<u64, KeyId>,
}

/// Compares a table's log with a baseline: the statement, the state at the sealed version, and what later commits did.
///
/// Cost: for a table that has moved on, the log is read once more at the sealed version, and each later commit again with its attestation.
/// No data.
///
/// # Errors
/// Those of the store, and of a log that cannot be read.
pub async fn compare_log(place: &Place<'_>, snapshot: &TableSnapshot, sealed: &SealedTable) -> Result<LogComparison> {
    let stated = &sealed.statement.state;
    let mut findings = compare_statement(sealed, snapshot, place);
    findings.extend(compare_state(snapshot, sealed));
    let mut comparison = LogComparison { findings, at_sealed: None, later: Some(Vec::new()), attested: AttestedBy::new() };
    if snapshot.version == stated.version {
        comparison.at_sealed = Some(SealedHead::of(snapshot));
    } else if snapshot.kind == TableKind::Delta && snapshot.version > stated.version {
        comparison.at_sealed = at_sealed(place, snapshot, sealed, &mut comparison.findings).await?;
        comparison.later = later::read(place.store, place.root, snapshot, stated.version).await?;
        for commit in comparison.later.iter_mut().flatten() {
            sealed.statement.foreign_roots.place_added(place.root, &mut commit.actions.adds);
        }
        if let Some(later) = &comparison.later {
            comparison.findings.extend(compare_later_heads(comparison.at_sealed.as_ref(), later));
            comparison.findings.extend(compare_told(snapshot, sealed, later));
            let restored = restored_states(place, snapshot, sealed, later).await?;
            let (found, explained) = compare_later(snapshot, sealed, later, &restored);
            // The state alone cannot tell a file that came back by a RESTORE from one that was slipped in.
            let is_explained = |found: &Finding| {
                matches!(found.verdict, Verdict::Resurrected | Verdict::Unsealed) && explained.contains(&(found.file.clone(), found.commit))
            };
            comparison.findings.retain(|finding| !is_explained(finding));
            comparison.findings.extend(found);
        }
        comparison.attested = compare_attestations(place, snapshot, sealed, &mut comparison.findings).await?;
    }
    comparison.findings.sort();
    comparison.findings.dedup();
    Ok(comparison)
}

async fn at_sealed(
    place: &Place<'_>,
    snapshot: &TableSnapshot,
    sealed: &SealedTable,
    findings: &mut Vec<Finding>,
) -> Result<Option<SealedHead>> {
    let version = sealed.statement.state.version;
    match load_at(place, version).await? {
        Ok(mut at) => {
            sealed.statement.foreign_roots.place(place.root, &mut at);
            findings.extend(compare_state(&at, sealed));
            Ok(Some(SealedHead::of(&at)))
        }
        // The log was cleaned up behind a later checkpoint, as retention has it.
        Err(_) if snapshot.checkpoint.is_some_and(|at| at > version) => Ok(None),
        // Or is being cleaned up just now.
        Err(_) if is_cleaned_up(place, version).await? => Ok(None),
        Err(e) => {
            findings.push(Finding::new(Verdict::Forged, format!("the sealed version can no longer be read: {e}")).commit(version));
            Ok(None)
        }
    }
}

/// Whether the log begins with a checkpoint after `version`. Cost: the log is read once more.
async fn is_cleaned_up(place: &Place<'_>, version: u64) -> Result<bool> {
    match table::load_again(place.store, place.root, None, place.memory).await {
        Ok(newest) => Ok(newest.checkpoint.is_some_and(|at| at > version)),
        Err(e) if e.is_retryable() => Err(e),
        Err(_) => Ok(false),
    }
}

/// The table at `version`; the inner error where the log does not tell it, which asking again does not change.
pub(super) async fn load_at(place: &Place<'_>, version: u64) -> Result<Result<TableSnapshot>> {
    match table::load_again(place.store, place.root, Some(version), place.memory).await {
        Err(e) if !matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => Err(e),
        told => Ok(told),
    }
}

/// Holds checkpoints against the commits, or against each other. Cost: reads all commits and checkpoints once.
pub(super) async fn compare_checkpoints(place: &Place<'_>, version: u64) -> Result<Vec<Finding>> {
    let disagreements = table::check_checkpoints_again(place.store, place.root, version, place.memory).await?;
    Ok(checkpoint_findings(disagreements))
}

/// What is wrong with a chain of baselines, by number.
pub fn chain_findings(wrong: BTreeMap<u64, String>) -> impl Iterator<Item = Finding> {
    wrong.into_values().map(|detail| Finding::new(Verdict::Forged, detail))
}

/// What is wrong with checkpoints that contradict the commits, or another checkpoint of their version.
pub(super) fn checkpoint_findings(disagreements: Vec<CheckpointDisagreement>) -> Vec<Finding> {
    disagreements
        .into_iter()
        .map(|d| {
            let name = d.checkpoint.filename().unwrap_or_default();
            Finding::new(Verdict::Forged, format!("a checkpoint contradicts the rest of the log: {}", d.detail))
                .file(format!("_delta_log/{name}"))
                .commit(d.version)
        })
        .collect()
}
