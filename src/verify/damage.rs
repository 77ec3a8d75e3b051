//! What a verified read found wrong, kept for the query that it happened in.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::baseline::SealedFile;
use crate::error::{Error, ErrorKind};

/// A difference between delivered and sealed bytes, with its place as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The table, as the caller named it.
    pub table: String,
    /// The file, by its canonical path in the table.
    pub file: String,
    /// Row group and column (physical name), each as far as it could be placed.
    pub places: Vec<(Option<u32>, Option<String>)>,
    /// What is wrong.
    pub detail: String,
}

impl Damage {
    /// The damage as an error of kind [`ErrorKind::Mismatch`] that names every place.
    pub fn to_error(&self) -> Error {
        let mut error = Error::new(ErrorKind::Mismatch, self.detail.clone()).with("table", &self.table).with("file", &self.file);
        let mut groups: Vec<u32> = self.places.iter().filter_map(|(group, _)| *group).collect();
        groups.sort_unstable();
        groups.dedup();
        if !groups.is_empty() {
            error = error.with(if groups.len() == 1 { "row group" } else { "row groups" }, Listed(&groups));
        }
        let mut columns: Vec<&String> = self.places.iter().filter_map(|(_, column)| column.as_ref()).collect();
        columns.sort_unstable();
        columns.dedup();
        if !columns.is_empty() {
            error = error.with(if columns.len() == 1 { "column" } else { "columns" }, Listed(&columns));
        }
        error
    }
}

struct Listed<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Listed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// The places of a file that the bytes `bad` (a range in it) belong to, by the sealed byte ranges of its column chunks.
pub(super) fn places_of(file: &SealedFile, bad: &std::ops::Range<u64>) -> Vec<(Option<u32>, Option<String>)> {
    let overlaps = |range: &std::ops::Range<u64>| range.start < bad.end && bad.start < range.end;
    file.row_groups
        .iter()
        .filter(|group| overlaps(&group.bytes))
        .flat_map(|group| {
            let columns: Vec<_> = group.columns.iter().filter(|column| overlaps(&column.bytes)).collect();
            if columns.is_empty() {
                vec![(Some(group.ordinal), None)]
            } else {
                columns.into_iter().map(|column| (Some(group.ordinal), Some(column.name.clone()))).collect()
            }
        })
        .collect()
}

/// Keeps what verified reads found. Engines turn errors into text on some of their paths; here the finding itself survives.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Arc<Mutex<Vec<Damage>>>);

impl Recorder {
    /// Everything found so far.
    pub fn damages(&self) -> Vec<Damage> {
        self.0.lock().clone()
    }

    /// The first thing found, as an error.
    pub fn first_error(&self) -> Option<Error> {
        self.0.lock().first().map(Damage::to_error)
    }

    pub(super) fn record(&self, damage: &Damage) {
        let mut damages = self.0.lock();
        if !damages.contains(damage) {
            damages.push(damage.clone());
        }
    }
}
