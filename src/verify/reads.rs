//! Which files and row groups of a table were read through its store: what lineage records as a query's inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Weak};

use object_store::path::Path;
use parking_lot::Mutex;

use super::objects::{Content, Object};
use crate::baseline::{SealedFile, SealedRowGroup};
use crate::digest::Digest;

/// So many separate ranges of a file are told apart; with more, it counts as read whole.
const RANGES_LIMIT: usize = 4096;

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadFile {
    /// Its place in the store.
    pub location: Path,
    /// Its path in the table.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest, when it is sealed.
    pub digest: Option<Digest>,
    /// What of it was read.
    pub extent: Extent,
}

/// What of a file was read. Footers, indexes and bloom filters are not counted: they hold no rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// These row groups, by the sealed evidence. Of none: its footer alone was read.
    RowGroups(BTreeSet<u32>),
    /// These bytes of a file whose row groups the evidence does not tell.
    Bytes(Vec<Range<u64>>),
    /// Any of it: it is shown without some of its row groups, and those that are left have other numbers.
    Unknown,
}

/// What one statement reads of a table, from [`VerifiedStore::begin_read_log`](super::VerifiedStore::begin_read_log) on, for as long as this is kept.
#[derive(Debug, Default)]
pub struct ReadLog {
    files: Mutex<BTreeMap<Path, Noted>>,
    asked: Mutex<Asked>,
}

/// What the scans of a table ask for.
#[derive(Debug, Default)]
struct Asked {
    /// One asks for nothing that only data files have.
    by_log: bool,
    /// One has no filter on a column of data files.
    unfiltered: bool,
    /// Columns of data files that filters are on.
    filters: BTreeSet<String>,
}

impl ReadLog {
    /// Whether a scan may have been answered out of the log, which speaks of every file.
    pub fn may_be_answered_by_log(&self) -> bool {
        self.asked.lock().by_log
    }

    /// Whether a file whose footer alone was read gave nothing: it `has` all columns that the filters are on, so that its row groups were
    /// pruned by them. Of another the footer may have given all that was asked for: how many rows there are, that a column is not there.
    pub fn is_pruned(&self, has: impl Fn(&str) -> bool) -> bool {
        let asked = self.asked.lock();
        !asked.unfiltered && !asked.filters.is_empty() && asked.filters.iter().all(|column| has(column))
    }
}

/// The logs of the statements that go on.
#[derive(Debug, Default)]
pub(super) struct ReadLogs(Mutex<Vec<Weak<ReadLog>>>);

/// The bytes of a file that were read.
#[derive(Debug, Clone)]
pub(super) struct Noted {
    pub(super) file: ReadFile,
    pub(super) sealed: Option<Arc<SealedFile>>,
    pub(super) ranges: Vec<Range<u64>>,
}

impl Noted {
    /// The file, with what was read of it told by its row groups, where these are known; `None` where that is nothing.
    pub(super) fn read_file(&self, groups: Option<&[SealedRowGroup]>, log: &ReadLog) -> Option<ReadFile> {
        let Self { file, ranges, .. } = self;
        let extent = match groups {
            _ if file.extent == Extent::Unknown => Extent::Unknown,
            Some(groups) => {
                let is_read =
                    |group: &&SealedRowGroup| ranges.iter().any(|read| group.bytes.start < read.end && read.start < group.bytes.end);
                let read: BTreeSet<u32> = groups.iter().filter(is_read).map(|group| group.ordinal).collect();
                let has = |name: &str| {
                    let columns = groups.first().map(|group| group.columns.as_slice()).unwrap_or_default();
                    columns.iter().any(|column| is_of(&column.name, name))
                };
                match read.is_empty() {
                    true if log.is_pruned(has) => return None,
                    true => Extent::Unknown,
                    false => Extent::RowGroups(read),
                }
            }
            None => Extent::Bytes(ranges.clone()),
        };
        Some(ReadFile { extent, ..file.clone() })
    }
}

/// Whether a leaf of a Parquet schema is, or is part of, the column `name`.
pub fn is_of(leaf: &str, name: &str) -> bool {
    leaf.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl ReadLogs {
    pub(super) fn begin(&self) -> Arc<ReadLog> {
        let log = Arc::new(ReadLog::default());
        let mut logs = self.0.lock();
        logs.retain(|log| log.strong_count() > 0);
        logs.push(Arc::downgrade(&log));
        log
    }

    fn all(&self) -> Vec<Arc<ReadLog>> {
        self.0.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Notes that a scan asks for `columns`, where `filters` are on those columns; `partitions` are the table's partition columns.
    pub(super) fn note_scan(&self, columns: &BTreeSet<String>, filters: &BTreeSet<String>, partitions: &[String]) {
        let in_log = |column: &&String| partitions.contains(column);
        for log in self.all() {
            let mut asked = log.asked.lock();
            asked.by_log |= columns.iter().chain(filters).all(|column| in_log(&column));
            asked.unfiltered |= filters.iter().all(|column| in_log(&column));
            asked.filters.extend(filters.iter().filter(|column| !in_log(column)).cloned());
        }
    }

    /// Notes that `ranges` of `object` were asked for. A range that ends with the file is that of a footer.
    pub(super) fn note(&self, object: &Object, ranges: &[Range<u64>]) {
        if matches!(object.content, Content::Pinned(_) | Content::Own(_)) {
            return;
        }
        for log in self.all() {
            log.note(object, ranges);
        }
    }
}

impl ReadLog {
    pub(super) fn noted(&self) -> Vec<Noted> {
        self.files.lock().values().cloned().collect()
    }

    fn note(&self, object: &Object, ranges: &[Range<u64>]) {
        let mut files = self.files.lock();
        let noted = files.entry(object.path.clone()).or_insert_with(|| Noted {
            file: ReadFile {
                location: object.path.clone(),
                path: object.shown().to_owned(),
                size: object.size,
                digest: object.digest(),
                extent: if matches!(object.content, Content::Trimmed(_)) { Extent::Unknown } else { Extent::Bytes(Vec::new()) },
            },
            sealed: match &object.content {
                Content::Sealed(sealed) => Some(Arc::clone(sealed)),
                _ => None,
            },
            ranges: Vec::new(),
        });
        for range in ranges.iter().filter(|range| range.start < range.end && range.end < object.size) {
            add(&mut noted.ranges, range, object.size);
        }
    }
}

fn add(read: &mut Vec<Range<u64>>, range: &Range<u64>, size: u64) {
    if read.len() >= RANGES_LIMIT {
        read.clear();
        read.push(0..size);
    }
    match read.last_mut() {
        Some(last) if last.start <= range.start && range.start <= last.end => last.end = last.end.max(range.end),
        _ => read.push(range.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_file_is_left_out_only_where_every_scan_filters_by_what_it_has() {
        let logs = ReadLogs::default();
        let has = |name: &str| name == "id";
        let first = logs.begin();
        assert!(!first.is_pruned(has), "nobody said what was asked");
        logs.note_scan(&set(&["id", "x"]), &set(&["id", "day"]), &["day".to_owned()]);
        assert!(first.is_pruned(has) && !first.may_be_answered_by_log());
        logs.note_scan(&set(&["x"]), &set(&["added_later"]), &[]);
        assert!(!first.is_pruned(has), "the file has no such column: its footer may say that all of its rows fit");
        drop(first);

        let log = logs.begin();
        logs.note_scan(&set(&["id"]), &set(&["id"]), &[]);
        logs.note_scan(&set(&["x"]), &set(&["day"]), &["day".to_owned()]);
        assert!(!log.is_pruned(has), "one scan is not filtered");
        for (columns, filters, by_log) in
            [(&["day"][..], &["day"][..], true), (&[], &[], true), (&[], &["id"], false), (&["id"], &[], false)]
        {
            let log = logs.begin();
            logs.note_scan(&set(columns), &set(filters), &["day".to_owned()]);
            assert_eq!(log.may_be_answered_by_log(), by_log, "{columns:?} {filters:?}");
        }
        assert!(is_of("id", "id") && is_of("a.b", "a") && !is_of("ab", "a") && !is_of("a", "a.b"));
        drop(log);
        assert_eq!(logs.all().len(), 0, "logs end with their statements");
    }
}
