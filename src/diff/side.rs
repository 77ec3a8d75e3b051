//! One side of a comparison: the rows of a file, sealed or found, without those that its deletion vector deletes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use async_trait::async_trait;
use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;
use roaring::RoaringTreemap;

use super::change::{Place, Row};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{EncodedRows, FileRows, Source};

const ROW_TAG: &str = "lakeseal 2026 compared row v1";

/// A file of the table as it is now.
pub(super) struct FoundBytes {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) location: Path,
    pub(super) size: u64,
}

#[async_trait]
impl Source for FoundBytes {
    fn size(&self) -> u64 {
        self.size
    }

    async fn ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let bytes = self.store.get_ranges(&self.location, ranges).await?;
        let exact = bytes.iter().zip(ranges).all(|(bytes, range)| bytes.len() as u64 == range.end - range.start);
        if bytes.len() == ranges.len() && exact {
            return Ok(bytes);
        }
        Err(Error::new(ErrorKind::Corrupt, "the store returned another length than was asked for").with("file", &self.location))
    }
}

/// The rows of a file.
pub(super) struct Side {
    pub(super) rows: FileRows,
    pub(super) path: Arc<str>,
    pub(super) commit: Option<u64>,
    pub(super) deleted: Option<RoaringTreemap>,
    pub(super) constants: Arc<BTreeMap<String, Option<String>>>,
    names: Vec<Arc<str>>,
}

/// Some decoded rows of a row group, and which of them are live.
pub(super) struct Piece {
    pub(super) rows: EncodedRows,
    pub(super) group: usize,
}

impl Side {
    pub(super) fn new(
        rows: FileRows,
        path: &str,
        commit: Option<u64>,
        deleted: Option<RoaringTreemap>,
        constants: &BTreeMap<String, Option<String>>,
    ) -> Self {
        let names = rows.members().into_iter().map(Arc::from).collect();
        Self { rows, path: path.into(), commit, deleted, constants: Arc::new(constants.clone()), names }
    }

    pub(super) fn groups(&self) -> Range<usize> {
        0..self.rows.row_groups()
    }

    pub(super) async fn read(&self, group: usize, columns: Option<&[String]>) -> Result<Vec<Piece>> {
        let pieces = self.rows.read(group, columns).await.map_err(|e| e.with("file", &self.path))?;
        Ok(pieces.into_iter().map(|rows| Piece { rows, group }).collect())
    }

    /// The positions in the piece of the rows that are not deleted.
    pub(super) fn live<'a>(&'a self, piece: &'a Piece) -> impl Iterator<Item = usize> + 'a {
        (0..piece.rows.batch.num_rows()).filter(move |row| self.is_live(piece, *row))
    }

    /// Whether the row at a position in the piece is not deleted.
    pub(super) fn is_live(&self, piece: &Piece, row: usize) -> bool {
        let first = self.rows.first_row(piece.group).saturating_add(piece.rows.first);
        !self.deleted.as_ref().is_some_and(|rows| rows.contains(first.saturating_add(row as u64)))
    }

    /// The row groups in which other rows are deleted than on another side with the same row groups.
    pub(super) fn deleted_otherwise(&self, other: &Self) -> BTreeSet<usize> {
        let none = RoaringTreemap::new();
        let differing = self.deleted.as_ref().unwrap_or(&none) ^ other.deleted.as_ref().unwrap_or(&none);
        let before = |position: u64| position.checked_sub(1).map_or(0, |last| differing.rank(last));
        let differs = |group: &usize| {
            let first = self.rows.first_row(*group);
            before(first) < before(first.saturating_add(self.rows.rows(*group)))
        };
        self.groups().filter(differs).collect()
    }

    /// The members of a row that are not null, with hashes of their values.
    pub(super) fn members(&self, piece: &Piece, row: usize) -> Vec<(Arc<str>, u128)> {
        let hashes = self.names.iter().enumerate().map(|(at, name)| (name, piece.rows.value_hash(at, name, row)));
        hashes.filter(|(_, hash)| *hash != 0).map(|(name, hash)| (name.clone(), hash)).collect()
    }

    /// The members of which two rows have different values, by name; rows are compared by their canonical encoding.
    pub(super) fn differing(&self, piece: &Piece, other: &Self, other_piece: &Piece, row: usize) -> BTreeSet<Arc<str>> {
        let mut found = BTreeSet::new();
        for (at, name) in self.names.iter().enumerate() {
            let value = piece.rows.value(at, row);
            let same = match other.names.iter().position(|other| other == name) {
                Some(position) => other_piece.rows.value(position, row) == value,
                None => value.is_empty(),
            };
            if !same {
                found.insert(name.clone());
            }
        }
        for (at, name) in other.names.iter().enumerate().filter(|(_, name)| !self.names.contains(name)) {
            if !other_piece.rows.value(at, row).is_empty() {
                found.insert(name.clone());
            }
        }
        found
    }

    pub(super) fn place(&self, group: usize, row: Option<u64>) -> Place {
        Place { file: self.path.clone(), row_group: u32::try_from(group).ok(), row, commit: self.commit }
    }

    /// Rows of a piece, on their own: what they cost does not depend on their neighbours.
    pub(super) fn rows_of(&self, piece: &Piece, rows: &[usize]) -> Result<Vec<Row>> {
        let batch = Arc::new(taken(&piece.rows.batch, rows)?);
        let row = |(index, row): (usize, &usize)| Row {
            place: self.place(piece.group, Some(piece.rows.first.saturating_add(*row as u64))),
            batch: batch.clone(),
            index,
            constants: self.constants.clone(),
            members: self.members(piece, *row).into(),
        };
        Ok(rows.iter().enumerate().map(row).collect())
    }
}

fn taken(batch: &RecordBatch, rows: &[usize]) -> Result<RecordBatch> {
    let failed = |e: arrow::error::ArrowError| Error::new(ErrorKind::Internal, "rows could not be picked out of a batch").caused_by(e);
    let indices: UInt32Array = rows.iter().map(|row| u32::try_from(*row).ok()).collect();
    let columns = batch.columns().iter().map(|column| take(column, &indices, None)).collect::<Result<_, _>>().map_err(failed)?;
    // A file may have none of the columns that are compared: its rows are rows all the same.
    let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options).map_err(failed)
}

/// The identity of a row: equal for rows with equal members, whatever file and order of columns they come from.
pub(super) fn row_id(members: &[(Arc<str>, u128)]) -> u128 {
    let mut hasher = blake3::Hasher::new_derive_key(ROW_TAG);
    for (_, hash) in members {
        hasher.update(&hash.to_le_bytes());
    }
    let mut out = [0; 16];
    hasher.finalize_xof().fill(&mut out);
    u128::from_le_bytes(out)
}
