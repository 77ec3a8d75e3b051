//! Comparison of what the commits after a baseline did: RESTOREs, claims that no data changed, changes of properties and schema.

use std::collections::{BTreeMap, BTreeSet};

use super::canonical;
use super::compare::{Place, SealedHead, load_at, normal_live};
use super::compare_restated::{compare_live, head_changes};
use super::compare_spellings::Spellings;
use super::compare_told::is_told;
use super::later::{LaterCommit, RestoredVersion};
use super::sealed::SealedTable;
use super::verdict::{Finding, RESTORED, Verdict};
use crate::error::Result;
use crate::table::{Commit, FileKey, TableSnapshot};

/// A file, or a commit as a whole, of which more is known than the state alone tells: its path and the commit.
pub(super) type Explained = (Option<String>, Option<u64>);

/// How many versions a time may mean: engines take the time of a commit from its object, which is made a little later than the time that the
/// commit states.
const VERSIONS_OF_A_TIME: usize = 4;

/// The states that later RESTOREs may mean by what they say, by the commit that says so; `None` where the log no longer tells one, or a checkpoint
/// tells one that is not what the commits come to.
///
/// Cost: the log is read once more for each RESTORE to a version, and [`VERSIONS_OF_A_TIME`] times at most for one to a time.
pub(super) async fn restored_states(
    place: &Place<'_>,
    snapshot: &TableSnapshot,
    sealed: &SealedTable,
    later: &[LaterCommit],
) -> Result<BTreeMap<u64, Vec<Option<TableSnapshot>>>> {
    let mut states = BTreeMap::new();
    for commit in later {
        let versions: Vec<u64> = match commit.restores {
            Some(RestoredVersion::Version(version)) => (version < commit.version).then_some(version).into_iter().collect(),
            Some(RestoredVersion::Time(time)) => {
                let until = |known: &&Commit| known.version < commit.version && known.timestamp_ms.is_some_and(|at| at <= time);
                let newest = snapshot.commits.iter().filter(until).map(|known| known.version).max();
                newest.into_iter().flat_map(|newest| (0..=newest).rev()).take(VERSIONS_OF_A_TIME).collect()
            }
            None => continue,
        };
        let mut of_commit = Vec::new();
        for version in versions {
            of_commit.push(load_at(place, version).await?.ok().filter(|state| is_told(state, sealed, later)));
        }
        if !of_commit.is_empty() {
            states.insert(commit.version, of_commit);
        }
    }
    Ok(states)
}

/// Replays later commits over the sealed files: the result must be what is live.
///
/// Also gives what a RESTORE explains: the findings made here say more of it.
pub(super) fn compare_later(
    snapshot: &TableSnapshot,
    sealed: &SealedTable,
    later: &[LaterCommit],
    restored: &BTreeMap<u64, Vec<Option<TableSnapshot>>>,
) -> (Vec<Finding>, BTreeSet<Explained>) {
    let mut found = Vec::new();
    let mut explained = BTreeSet::new();
    let mut live: BTreeMap<&FileKey, Option<u64>> = sealed.files.keys().map(|key| (key, None)).collect();
    let mut removed: BTreeSet<&FileKey> = sealed.removed.keys().collect();
    let mut spellings = Spellings::sealed(sealed);
    for commit in later {
        found.extend(spellings.compare_commit(commit));
        found.extend(compare_claim(commit, sealed, &live));
        for key in &commit.actions.removes {
            live.remove(key);
            removed.insert(key);
        }
        let mut back = Vec::new();
        for file in &commit.actions.adds {
            if removed.remove(&file.key) && !commit.actions.removes.contains(&file.key) {
                back.push(&file.key);
            }
            if file.location.is_none() {
                found.push(
                    Finding::new(
                        Verdict::Foreign,
                        "the commit adds a file outside of the table, and below no root that the baseline signs",
                    )
                    .file(&file.key.path)
                    .commit(commit.version),
                );
            }
            live.insert(&file.key, Some(commit.version));
        }
        if back.is_empty() {
            continue;
        }
        let states = restored.get(&commit.version);
        if states.is_some() {
            explained.extend(back.iter().map(|key| (Some(key.path.clone()), Some(commit.version))));
        }
        let judged = compare_restore(snapshot, commit.version, &back, &live, states.map(Vec::as_slice));
        if judged.iter().any(|finding| finding.verdict == Verdict::Unsealed) {
            explained.insert((None, Some(commit.version)));
        }
        found.extend(judged);
    }
    for key in live.keys().filter(|key| !snapshot.files.contains_key(**key)) {
        found.push(
            Finding::new(
                Verdict::Forged,
                "the file should be live by the baseline and the later commits, but the checkpoint leaves it out",
            )
            .file(&key.path),
        );
    }
    for key in snapshot.files.keys().filter(|key| !live.contains_key(*key)) {
        found.push(
            Finding::new(Verdict::Forged, "the file is live only by a checkpoint: neither the baseline nor a later commit adds it")
                .file(&key.path),
        );
    }
    (found, explained)
}

/// A commit that claims that no data changed may neither add rows alone nor take rows away alone.
fn compare_claim(commit: &LaterCommit, sealed: &SealedTable, live: &BTreeMap<&FileKey, Option<u64>>) -> Option<Finding> {
    if !commit.actions.claims_same_data {
        return None;
    }
    let is_live = |path: &str| {
        let from = FileKey { path: path.to_owned(), deletion_vector: None };
        live.range::<&FileKey, _>(&from..).next().is_some_and(|(key, _)| key.path == path)
    };
    // To add a live file once more says something else of it: its rows stay.
    let adds_rows = commit.actions.adds.iter().any(|file| !is_live(&file.key.path));
    let has_rows =
        |key: &FileKey| sealed.files.get(key).is_some_and(|file| file.rows > file.deleted.as_ref().map_or(0, |deleted| deleted.rows));
    let what = if commit.actions.removes.is_empty() && adds_rows {
        "adds files and removes none"
    } else if commit.actions.adds.is_empty() && commit.actions.removes.iter().any(has_rows) {
        "removes files and adds none"
    } else {
        return None;
    };
    Some(Finding::new(Verdict::Modified, format!("the commit claims that no data changed, but {what}")).commit(commit.version))
}

/// What later commits change besides files: properties (retention among them), columns and what they are read from, the protocol.
pub(super) fn compare_later_heads(at_sealed: Option<&SealedHead>, later: &[LaterCommit]) -> Vec<Finding> {
    let Some(at_sealed) = at_sealed else { return Vec::new() };
    let (mut metadata, mut protocol) = (&at_sealed.metadata, &at_sealed.protocol);
    let mut found = Vec::new();
    for commit in later {
        let mut changes = Vec::new();
        if let Some(new) = &commit.actions.metadata {
            changes.extend(head_changes(metadata, new));
            metadata = new;
        }
        if let Some(new) = &commit.actions.protocol {
            if canonical::normal_protocol(protocol) != canonical::normal_protocol(new) {
                let (before, after) = (canonical::normal_protocol(protocol), canonical::normal_protocol(new));
                changes.push(format!("protocol: {} became {}", canonical::text(&before), canonical::text(&after)));
            }
            protocol = new;
        }
        if !changes.is_empty() {
            found.push(Finding::new(Verdict::Unsealed, changes.join("; ")).commit(commit.version));
        }
    }
    found
}

/// Judges a commit that makes removed files live `back` again. Only a RESTORE may, and only to exactly one of the `states` that it may mean: the same
/// live files, described in the same words. A RESTORE that brings back a chosen few is none.
fn compare_restore(
    snapshot: &TableSnapshot,
    version: u64,
    back: &[&FileKey],
    live: &BTreeMap<&FileKey, Option<u64>>,
    states: Option<&[Option<TableSnapshot>]>,
) -> Vec<Finding> {
    let resurrected = |detail: &str| -> Vec<Finding> {
        back.iter().map(|key| Finding::new(Verdict::Resurrected, detail).file(&key.path).commit(version)).collect()
    };
    let Some(states) = states else {
        return resurrected("the commit makes a file live again that had been removed: deleted rows are back");
    };
    let Some(state) = states.iter().flatten().find(|state| live.keys().copied().eq(state.files.keys())) else {
        if states.iter().any(Option::is_none) {
            let detail = format!(
                "the commit says that it restores a version that the log no longer knows; whether the {} removed files that are back belong to it cannot be told",
                back.len()
            );
            return vec![Finding::new(Verdict::Undetermined, detail).commit(version)];
        }
        return resurrected(
            "the commit says that it restores an older version, but the files that it leaves live are not those of that version: deleted rows are back",
        );
    };
    let detail = format!(
        "{RESTORED} {}: exactly the files of that version; {} that had been removed are live again, deleted rows are back",
        state.version,
        back.len()
    );
    let mut found = vec![Finding::new(Verdict::Unsealed, detail).commit(version)];
    for key in back {
        if let (Some(then), Some(now)) = (state.files.get(*key), snapshot.files.get(*key)) {
            found.extend(compare_live(snapshot.kind, &snapshot.schema, &normal_live(snapshot.kind, then), now));
        }
    }
    found
}
