//! What a verified read found wrong, kept for the query that it happened in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::baseline::SealedRowGroup;
use crate::error::{Error, ErrorKind};

/// Row group and column (physical name), each as far as it could be placed.
pub(super) type Place = (Option<u32>, Option<String>);

/// What comparing a whole file with its evidence came to.
#[derive(Debug, Default)]
pub(super) struct Located {
    /// Where it differs; empty where that could not be placed below the file.
    pub(super) places: Vec<Place>,
    /// The first difference in words.
    pub(super) detail: Option<String>,
    /// Whether it has another size than the sealed file.
    pub(super) other_size: bool,
}

impl Located {
    /// The places to be told of blocks that differ and that lie `near` these: those that comparing found, unless the blocks lie in none of them, for
    /// the file may have changed again since.
    pub(super) fn of_blocks(&self, near: Vec<Place>) -> Vec<Place> {
        let here = |place: &Place| {
            self.places.iter().any(|(group, column)| *group == place.0 && (column.is_none() || place.1.is_none() || *column == place.1))
        };
        if near.is_empty() || near.iter().any(here) { self.places.clone() } else { near }
    }
}

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
        for (one, many, values) in [("row group", "row groups", self.row_groups()), ("column", "columns", self.columns())] {
            if !values.is_empty() {
                error = error.with(if values.len() == 1 { one } else { many }, values.join(", "));
            }
        }
        error
    }

    /// The row groups of its places, ascending, each once.
    pub fn row_groups(&self) -> Vec<String> {
        let mut groups: Vec<u32> = self.places.iter().filter_map(|(group, _)| *group).collect();
        groups.sort_unstable();
        groups.dedup();
        groups.iter().map(ToString::to_string).collect()
    }

    /// The columns of its places, in order, each once.
    pub fn columns(&self) -> Vec<String> {
        let mut columns: Vec<String> = self.places.iter().filter_map(|(_, column)| column.clone()).collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    pub(super) fn add_places(&mut self, places: &[(Option<u32>, Option<String>)]) {
        for place in places {
            if !self.places.contains(place) {
                self.places.push(place.clone());
            }
        }
    }
}

/// The places of a file that the bytes `bad` (a range in it) belong to, by the sealed byte ranges of its row groups and column chunks.
pub(super) fn places_of(groups: &[SealedRowGroup], bad: &std::ops::Range<u64>) -> Vec<Place> {
    let overlaps = |range: &std::ops::Range<u64>| range.start < bad.end && bad.start < range.end;
    groups
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
pub struct Recorder(Arc<Recorded>);

#[derive(Debug, Default)]
struct Recorded {
    refused: Mutex<Vec<Damage>>,
    healed: AtomicU64,
    delivered: AtomicU64,
}

impl Recorder {
    /// Everything found so far that reads were refused for.
    pub fn damages(&self) -> Vec<Damage> {
        self.0.refused.lock().clone()
    }

    /// The first thing found, as an error.
    pub fn first_error(&self) -> Option<Error> {
        self.0.refused.lock().first().map(Damage::to_error)
    }

    /// How many blocks of 64 KiB were served from elsewhere.
    pub fn healed_blocks(&self) -> u64 {
        self.0.healed.load(Ordering::Relaxed)
    }

    /// How many blocks of 64 KiB were delivered although they differ.
    pub fn delivered_blocks(&self) -> u64 {
        self.0.delivered.load(Ordering::Relaxed)
    }

    pub(super) fn record(&self, damage: &Damage) {
        let mut damages = self.0.refused.lock();
        if !damages.contains(damage) {
            damages.push(damage.clone());
        }
    }

    pub(super) fn count_healed(&self, blocks: u64) {
        self.0.healed.fetch_add(blocks, Ordering::Relaxed);
    }

    pub(super) fn count_delivered(&self, blocks: u64) {
        self.0.delivered.fetch_add(blocks, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_placed_as_exactly_as_comparing_can() {
        let place = |group: u32, column: &str| (Some(group), Some(column.to_owned()));
        let located = Located { places: vec![place(2, "b")], detail: None, other_size: false };
        assert_eq!(located.of_blocks(vec![place(1, "c"), place(2, "a"), place(2, "b")]), [place(2, "b")]);
        assert_eq!(located.of_blocks(Vec::new()), [place(2, "b")], "blocks of the footer");
        assert_eq!(located.of_blocks(vec![place(3, "b")]), [place(3, "b")], "what changed since");
        let group = Located { places: vec![(Some(2), None)], detail: None, other_size: false };
        assert_eq!(group.of_blocks(vec![place(2, "a"), place(3, "a")]), [(Some(2), None)]);
        assert_eq!(Located::default().of_blocks(vec![place(3, "b")]), [place(3, "b")]);
    }
}
