//! Comparison of what later commits removed and added, row for row: proves compactions, and shows false ones.

use std::collections::BTreeMap;

use super::compare::LogComparison;
use super::compare_attested::attested_suffix;
use super::later::{LaterCommit, LaterFile};
use super::observe::Observer;
use super::sealed::SealedTable;
use super::state::live_sum;
use super::verdict::{Finding, Verdict};
use crate::digest::MultisetHash;
use crate::error::ErrorKind;
use crate::table::{FileKey, LiveFile, TableSnapshot};

enum FileSum {
    Known(Box<MultisetHash>),
    /// It could not be had, for this reason.
    Unproven(String),
}

/// Holds the rows that each later commit removed against those that it added, where it claims that no data changed.
///
/// Equal sums turn the commit's `unsealed` into `rewritten`; unequal ones are `modified`. A commit that claims nothing stays
/// `unsealed`. Cost: the files that such commits added are read once.
pub(super) async fn compare_rewrites(
    observer: &Observer<'_>,
    snapshot: &TableSnapshot,
    sealed: &SealedTable,
    comparison: &mut LogComparison,
    progress: &(dyn Fn(u64) + Sync),
) {
    let Some(later) = comparison.later.take() else { return };
    let mut sums: BTreeMap<FileKey, FileSum> = BTreeMap::new();
    let mut schema_changed = false;
    for commit in &later {
        schema_changed |= commit.changes_metadata;
        let rewrites = commit.claims_same_data && !commit.removes.is_empty() && !commit.adds.is_empty();
        if rewrites {
            for file in &commit.adds {
                let sum = later_sum(observer, snapshot, file, progress).await;
                sums.insert(file.key.clone(), sum);
            }
            let mut finding = judge(commit, sealed, &sums, schema_changed);
            if matches!(finding.verdict, Verdict::Unsealed | Verdict::Rewritten) {
                finding.detail.push_str(&attested_suffix(&comparison.attested, commit.version));
            }
            comparison
                .findings
                .retain(|old| !(old.verdict == Verdict::Unsealed && old.commit == Some(commit.version) && old.file.is_none()));
            comparison.findings.push(finding);
        } else if commit.claims_same_data && !commit.removes.is_empty() {
            comparison.findings.push(
                Finding::new(Verdict::Modified, "the commit claims that no data changed, but removes files and adds none")
                    .commit(commit.version),
            );
        }
    }
    comparison.later = Some(later);
}

async fn later_sum(observer: &Observer<'_>, snapshot: &TableSnapshot, file: &LaterFile, progress: &(dyn Fn(u64) + Sync)) -> FileSum {
    let unproven = |why: &str| FileSum::Unproven(format!("{}: {why}", file.key.path));
    let live = match snapshot.files.get(&file.key) {
        Some(live) => live.clone(),
        None if file.has_deletion_vector => return unproven("its deletion vector is no longer in the log"),
        None => LiveFile {
            key: file.key.clone(),
            raw_path: file.key.path.clone(),
            location: file.location.clone(),
            size: file.size.unwrap_or_default(),
            partition_values: file.partition_values.clone(),
            stats: None,
            deletion_vector: None,
            other: BTreeMap::new(),
            modification_time_ms: 0,
            added_in: None,
        },
    };
    match observer.observe(&live, progress).await {
        Ok(observed) => live_sum(&observed.file).map_or_else(|| unproven("its rows were not hashed"), |sum| FileSum::Known(Box::new(sum))),
        Err(e) if e.kind() == ErrorKind::NotFound => unproven("it has been vacuumed since"),
        Err(e) => FileSum::Unproven(format!("{}: {e}", file.key.path)),
    }
}

fn judge(commit: &LaterCommit, sealed: &SealedTable, sums: &BTreeMap<FileKey, FileSum>, schema_changed: bool) -> Finding {
    let operation = commit.operation.as_deref().unwrap_or("a rewrite");
    let unproven = |why: &str| {
        Finding::new(Verdict::Unsealed, format!("{operation}: claims that no data changed; unproven: {why}")).commit(commit.version)
    };
    let mut removed = MultisetHash::new();
    for key in &commit.removes {
        let sum = match (sums.get(key), sealed.files.get(key).map(live_sum)) {
            (Some(FileSum::Known(sum)), _) => (**sum).clone(),
            (Some(FileSum::Unproven(why)), _) => return unproven(why),
            (None, Some(Some(sum))) => sum,
            (None, Some(None)) => return unproven(&format!("the rows of {} were not sealed", key.path)),
            (None, None) => return unproven(&format!("the rows of {} are not known", key.path)),
        };
        removed.add(&sum);
    }
    let mut added = MultisetHash::new();
    for file in &commit.adds {
        match sums.get(&file.key) {
            Some(FileSum::Known(sum)) => added.add(sum),
            Some(FileSum::Unproven(why)) => return unproven(why),
            None => return unproven("a file was not read"),
        }
    }
    if removed == added {
        let (from, to) = (commit.removes.len(), commit.adds.len());
        return Finding::new(Verdict::Rewritten, format!("{operation}: {from} files were written anew as {to}; their rows are the same"))
            .commit(commit.version);
    }
    if schema_changed {
        return unproven("the schema changed, so that rows cannot be compared");
    }
    Finding::new(
        Verdict::Modified,
        format!("{operation}: claims that no data changed, but the rows that it added are not those that it removed"),
    )
    .commit(commit.version)
}
