//! What sealed files say of columns that the table did not have when they were sealed.

use std::collections::BTreeSet;

use super::sealed::{SealedFile, SealedTable};
use super::verdict::{Finding, Verdict};
use crate::table::{FileKey, Stats, TableSnapshot};

/// The sealed files whose statistics state something of the columns `added`, which is to be held against them now, and a finding for each file that
/// stores such a column: its values are no part of the rows that were sealed, and readers see them now.
pub(super) fn unheld_files(snapshot: &TableSnapshot, sealed: &SealedTable, added: &[Vec<String>]) -> (BTreeSet<FileKey>, Vec<Finding>) {
    let (mut unheld, mut findings) = (BTreeSet::new(), Vec::new());
    if added.is_empty() {
        return (unheld, findings);
    }
    let names: Vec<String> = added.iter().map(|path| path.join(".")).collect();
    for (key, file) in sealed.files.iter().filter(|(key, _)| snapshot.files.contains_key(*key)) {
        let stored = stored_column(file, &names);
        let states = file.live.stats.as_ref().is_some_and(|stats| stats.without(&Stats::OF_COLUMNS, added).is_some());
        if states || stored.is_some() {
            unheld.insert(key.clone());
        }
        if let Some(column) = stored {
            let detail = format!(
                "the sealed file stores the column {column}, which the table did not have when it was sealed: its values were no part of the \
                 sealed rows, and are read now"
            );
            findings.push(Finding::new(Verdict::Forged, detail).file(&key.path).column(column));
        }
    }
    (unheld, findings)
}

/// The first of the columns that a sealed file stores.
fn stored_column<'a>(file: &SealedFile, names: &'a [String]) -> Option<&'a String> {
    let leaves = || file.row_groups.as_read().into_iter().flatten().flat_map(|group| &group.columns);
    let is_of = |leaf: &str, name: &str| leaf.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    names.iter().find(|name| leaves().any(|leaf| is_of(&leaf.name, name)))
}
