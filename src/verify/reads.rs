//! Which files and row groups of a table were read through its store: what lineage records as a query's inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

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
    /// These row groups, by the sealed evidence.
    RowGroups(BTreeSet<u32>),
    /// These bytes of a file whose row groups the evidence does not tell.
    Bytes(Vec<Range<u64>>),
}

/// Notes reads, once it is begun.
#[derive(Debug, Default)]
pub(super) struct ReadLog(Mutex<Option<BTreeMap<Path, Noted>>>);

/// The bytes of a file that were read.
#[derive(Debug, Clone)]
pub(super) struct Noted {
    pub(super) file: ReadFile,
    pub(super) sealed: Option<Arc<SealedFile>>,
    pub(super) ranges: Vec<Range<u64>>,
}

impl Noted {
    /// The file, with what was read of it told by its row groups, where these are known.
    pub(super) fn read_file(&self, groups: Option<&[SealedRowGroup]>) -> ReadFile {
        let Self { file, ranges, .. } = self;
        let extent = match groups {
            Some(groups) => {
                let is_read =
                    |group: &&SealedRowGroup| ranges.iter().any(|read| group.bytes.start < read.end && read.start < group.bytes.end);
                Extent::RowGroups(groups.iter().filter(is_read).map(|group| group.ordinal).collect())
            }
            None => Extent::Bytes(ranges.clone()),
        };
        ReadFile { extent, ..file.clone() }
    }
}

impl ReadLog {
    pub(super) fn begin(&self) {
        self.0.lock().get_or_insert_default();
    }

    pub(super) fn noted(&self) -> Vec<Noted> {
        self.0.lock().iter().flat_map(|files| files.values().cloned()).collect()
    }

    /// Notes that `ranges` of `object` were asked for. A range that ends with the file is that of a footer.
    pub(super) fn note(&self, object: &Object, ranges: &[Range<u64>]) {
        if matches!(object.content, Content::Pinned(_) | Content::Own(_)) {
            return;
        }
        let mut log = self.0.lock();
        let Some(files) = log.as_mut() else { return };
        let noted = files.entry(object.path.clone()).or_insert_with(|| Noted {
            file: ReadFile {
                location: object.path.clone(),
                path: object.shown().to_owned(),
                size: object.size,
                digest: object.digest(),
                extent: Extent::Bytes(Vec::new()),
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
