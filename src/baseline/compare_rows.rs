//! Comparison of what later commits removed and added, row for row: proves compactions, shows false ones, and counts what others did.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::compare::LogComparison;
use super::compare_attested::attested_suffix;
use super::count_rows::{Counted, Counter};
use super::later::{LaterCommit, unstated};
use super::observe::Observer;
use super::sealed::SealedTable;
use super::state::live_sum;
use super::verdict::{Finding, Verdict};
use crate::digest::MultisetHash;
use crate::error::ErrorKind;
use crate::table::{FileKey, LiveFile};

enum FileSum {
    Known(Box<MultisetHash>),
    /// It could not be had, for this reason.
    Unproven(String),
}

/// Holds the rows that each later commit removed against those that it added, where it claims that no data changed; counts them else.
///
/// Equal sums turn the commit's `unsealed` into `rewritten`; unequal ones are `modified`. A commit that claims nothing stays
/// `unsealed`, with the exact numbers of rows that it removed and added, where what it removed is still there. Cost: the files that later
/// commits added and removed are read once, but for those that only came or only went: of these, the footers.
pub(super) async fn compare_rewrites(
    observer: &Observer<'_>,
    sealed: &SealedTable,
    comparison: &mut LogComparison,
    progress: &(dyn Fn(u64) + Sync),
) {
    if comparison.later.as_ref().is_none_or(Vec::is_empty) {
        return;
    }
    let Some(later) = comparison.later.take() else { return };
    let mut sums: BTreeMap<FileKey, FileSum> = BTreeMap::new();
    let mut live: BTreeMap<FileKey, Arc<LiveFile>> =
        sealed.files.values().map(|file| (file.live.key.clone(), Arc::clone(&file.live))).collect();
    let mut schema_changed = false;
    for commit in &later {
        schema_changed |= commit.actions.metadata.is_some() || commit.actions.protocol.is_some();
        // To add a live file once more says something else of it: its rows are the same.
        let is_live = |key: &FileKey| live.contains_key(key) && !commit.actions.removes.contains(key);
        let added: Vec<LiveFile> = commit.actions.adds.iter().filter(|file| !is_live(&file.key)).map(unstated).collect();
        let removed: Vec<LiveFile> =
            commit.actions.removes.iter().filter_map(|key| live.get(key)).map(|file| LiveFile::clone(file)).collect();
        if commit.actions.claims_same_data && !commit.actions.removes.is_empty() && !added.is_empty() {
            let later = removed.iter().filter(|file| !sealed.files.contains_key(&file.key));
            for file in added.iter().chain(later) {
                if !sums.contains_key(&file.key) {
                    sums.insert(file.key.clone(), later_sum(observer, file, progress).await);
                }
            }
            let mut finding = judge(commit, &added, sealed, &sums, schema_changed);
            if matches!(finding.verdict, Verdict::Unsealed | Verdict::Rewritten) {
                finding.detail.push_str(&attested_suffix(&comparison.attested, commit.version));
            }
            comparison.findings.retain(|old| !is_plain(old, commit));
            comparison.findings.push(finding);
        } else if removed.len() == commit.actions.removes.len() {
            let counted = Counter { observer, sealed, progress }.count(&removed, &added).await;
            comparison.findings.iter_mut().filter(|finding| is_plain(finding, commit)).for_each(|finding| note(finding, &counted));
        }
        commit.actions.removes.iter().for_each(|key| drop(live.remove(key)));
        live.extend(commit.actions.adds.iter().map(|file| (file.key.clone(), Arc::new(unstated(file)))));
    }
    comparison.later = Some(later);
}

/// The finding that says no more of a commit than that it came after the baseline.
fn is_plain(finding: &Finding, commit: &LaterCommit) -> bool {
    finding.verdict == Verdict::Unsealed && finding.commit == Some(commit.version) && finding.file.is_none() && finding.is_commit_itself()
}

fn note(finding: &mut Finding, counted: &Counted) {
    match counted {
        Counted::Exactly { removed, added } => {
            finding.detail.push_str(&format!("; it removed {removed} rows and added {added}"));
            (finding.rows_removed, finding.rows_added) = (Some(*removed), Some(*added));
        }
        Counted::Unknown(why) => finding.detail.push_str(&format!("; its rows cannot be counted: {why}")),
    }
}

async fn later_sum(observer: &Observer<'_>, file: &LiveFile, progress: &(dyn Fn(u64) + Sync)) -> FileSum {
    let unproven = |why: &str| FileSum::Unproven(format!("{}: {why}", file.key.path));
    match observer.observe(file, progress).await {
        Ok(observed) => live_sum(&observed.file).map_or_else(|| unproven("its rows were not hashed"), |sum| FileSum::Known(Box::new(sum))),
        Err(e) if e.kind() == ErrorKind::NotFound => unproven("it has been vacuumed since"),
        Err(e) => FileSum::Unproven(format!("{}: {e}", file.key.path)),
    }
}

fn judge(
    commit: &LaterCommit,
    adds: &[LiveFile],
    sealed: &SealedTable,
    sums: &BTreeMap<FileKey, FileSum>,
    schema_changed: bool,
) -> Finding {
    let operation = commit.operation.as_deref().unwrap_or("a rewrite");
    let unproven = |why: &str| {
        Finding::new(Verdict::Unsealed, format!("{operation}: claims that no data changed; unproven: {why}")).commit(commit.version)
    };
    let mut removed = MultisetHash::new();
    for key in &commit.actions.removes {
        let sum = match (sums.get(key), sealed.files.get(key).map(|file| live_sum(file))) {
            (Some(FileSum::Known(sum)), _) => (**sum).clone(),
            (Some(FileSum::Unproven(why)), _) => return unproven(why),
            (None, Some(Some(sum))) => sum,
            (None, Some(None)) => return unproven(&format!("the rows of {} were not sealed", key.path)),
            (None, None) => return unproven(&format!("the rows of {} are not known", key.path)),
        };
        removed.add(&sum);
    }
    let mut added = MultisetHash::new();
    for file in adds {
        match sums.get(&file.key) {
            Some(FileSum::Known(sum)) => added.add(sum),
            Some(FileSum::Unproven(why)) => return unproven(why),
            None => return unproven("a file was not read"),
        }
    }
    if removed == added {
        let (from, to) = (commit.actions.removes.len(), adds.len());
        return Finding::new(Verdict::Rewritten, format!("{operation}: {from} files were written anew as {to}; their rows are the same"))
            .commit(commit.version)
            .rows(0, 0);
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
