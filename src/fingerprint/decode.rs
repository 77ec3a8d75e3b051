//! Rows of chosen row groups and columns, decoded from a [`Source`], and their canonical encoding.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use bytes::{Buf as _, Bytes};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::footer::{Footer, ROW_GROUP_LIMIT_BYTES, check_types, spawn_decoder};
use super::rows::{MemberValues, RowPlan};
use super::source::Source;
use crate::error::{Error, ErrorKind, Result};
use crate::table::TableSchema;

const BATCH_ROWS: usize = 8192;
/// Rows of a row group without any column, which only the footer counts, that are told apart.
const COUNTED_LIMIT_ROWS: u64 = 1 << 28;
const MEMBER_TAG: &str = "lakeseal 2026 compared value v1";

/// A Parquet file whose rows can be read group by group.
pub struct FileRows {
    source: Arc<dyn Source>,
    footer: Footer,
    plan: Arc<RowPlan>,
    first_rows: Vec<u64>,
    hash_key: [u8; 32],
}

impl FileRows {
    /// Reads the footer of `source` and matches the file's columns with the table's. Cost: two small ranges.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when it is no Parquet; [`ErrorKind::Unsupported`] for encrypted files and unknown types.
    pub async fn open(
        source: Arc<dyn Source>,
        schema: &TableSchema,
        partition_values: &BTreeMap<String, Option<String>>,
        row_key: [u8; 32],
    ) -> Result<Self> {
        let footer = Footer::from_source(&*source).await?;
        check_types(&footer.metadata)?;
        let plan = Arc::new(RowPlan::new(footer.metadata.schema(), schema, partition_values, row_key)?);
        let mut first_rows = Vec::with_capacity(footer.groups.len());
        let mut next = 0_u64;
        for group in &footer.groups {
            first_rows.push(next);
            next = next.saturating_add(group.rows);
        }
        Ok(Self { source, footer, plan, first_rows, hash_key: blake3::derive_key(MEMBER_TAG, &row_key) })
    }

    /// Number of row groups.
    pub fn row_groups(&self) -> usize {
        self.footer.groups.len()
    }

    /// Rows of a row group; 0 when there is no such group.
    pub fn rows(&self, group: usize) -> u64 {
        self.footer.groups.get(group).map_or(0, |group| group.rows)
    }

    /// Position in the file of a row group's first row.
    pub fn first_row(&self, group: usize) -> u64 {
        self.first_rows.get(group).copied().unwrap_or_default()
    }

    /// The physical names of the members of a row, in the order of their bytes.
    pub fn members(&self) -> Vec<String> {
        self.plan.members().map(|(name, _)| name.to_owned()).collect()
    }

    /// The physical name of the top-level column that a leaf belongs to, by the leaf's position in the file; `None` when there is no such
    /// leaf. Paths of leaves do not tell: names of columns may have dots themselves.
    pub fn root_of(&self, leaf: usize) -> Option<&str> {
        let metadata = &self.footer.metadata;
        if leaf >= metadata.parquet_schema().num_columns() {
            return None;
        }
        metadata.schema().fields().get(metadata.parquet_schema().get_column_root_idx(leaf)).map(|field| field.name().as_str())
    }

    /// Decodes a row group: the top-level columns named, by physical name, or all. A name that the file does not have is left out; the
    /// rows are there all the same, and where it has none of the names its smallest column tells how many.
    ///
    /// Memory: the chosen column chunks as stored, and their rows.
    ///
    /// # Errors
    /// What reading fails with; [`ErrorKind::Corrupt`] when the bytes do not decode or hold another number of rows than stated.
    pub async fn read(&self, group: usize, columns: Option<&[String]>) -> Result<Vec<EncodedRows>> {
        let layout = self.footer.groups.get(group);
        let layout = layout.ok_or_else(|| corrupt("there is no such row group").with("row group", group))?;
        let schema = self.footer.metadata.parquet_schema();
        let roots = self.footer.metadata.schema().fields();
        let wanted: Vec<usize> = (0..roots.len())
            .filter(|at| columns.is_none_or(|names| roots.get(*at).is_some_and(|field| names.contains(field.name()))))
            .collect();
        let size = |root: usize| {
            let chunks = layout.chunks.iter().enumerate().filter(|(leaf, _)| schema.get_column_root_idx(*leaf) == root);
            chunks.map(|(_, range)| range.end - range.start).sum::<u64>()
        };
        let decoded =
            if wanted.is_empty() { (0..roots.len()).min_by_key(|root| size(*root)).into_iter().collect() } else { wanted.clone() };
        let is_decoded = |leaf: usize| decoded.contains(&schema.get_column_root_idx(leaf));
        let ranges: Vec<_> =
            layout.chunks.iter().enumerate().filter(|(leaf, _)| is_decoded(*leaf)).map(|(_, range)| range.clone()).collect();
        let total: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        if total > ROW_GROUP_LIMIT_BYTES {
            return Err(Error::new(ErrorKind::Unsupported, "a row group is too large to be decoded")
                .with("bytes", total)
                .with("limit", ROW_GROUP_LIMIT_BYTES));
        }
        let bytes = self.source.ranges(&ranges).await?;
        let pieces = ranges.iter().map(|range| range.start).zip(bytes).collect();
        let held = HeldPieces { pieces: Arc::new(pieces), file_size: self.footer.size };
        let (metadata, plan, rows, key) = (self.footer.metadata.clone(), self.plan.clone(), layout.rows, self.hash_key);
        spawn_decoder(move || {
            let failed = |e: ParquetError| corrupt("a row group does not decode").caused_by(e);
            let mut found = 0_u64;
            let mut out = Vec::new();
            if rows > 0 && decoded.is_empty() {
                for (batch, first) in counted(rows)? {
                    let members = plan.encode(&batch, &wanted)?;
                    out.push(EncodedRows { batch, first, members, key });
                }
            } else if rows > 0 {
                let mask = ProjectionMask::roots(metadata.parquet_schema(), decoded.iter().copied());
                let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(held, metadata.clone());
                let reader =
                    builder.with_row_groups(vec![group]).with_projection(mask).with_batch_size(BATCH_ROWS).build().map_err(failed)?;
                for batch in reader {
                    let batch = batch.map_err(|e| corrupt("a row group does not decode").caused_by(e))?;
                    let first = found;
                    found += batch.num_rows() as u64;
                    let batch = if wanted.is_empty() { bare(batch.num_rows())? } else { batch };
                    let members = plan.encode(&batch, &wanted)?;
                    out.push(EncodedRows { batch, first, members, key });
                }
                if found != rows {
                    return Err(corrupt("a row group holds another number of rows than it states")
                        .with("stated", rows)
                        .with("found", found));
                }
            }
            Ok(out)
        })
        .await
        .map_err(|e| e.with("row group", group))
    }
}

/// Rows without a column.
fn bare(rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let made = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options);
    made.map_err(|e| Error::new(ErrorKind::Internal, "rows without columns could not be made").caused_by(e))
}

/// The rows of a row group that has no column, in the steps in which others are decoded, with the position of each step's first.
fn counted(rows: u64) -> Result<Vec<(RecordBatch, u64)>> {
    if rows > COUNTED_LIMIT_ROWS {
        return Err(Error::new(ErrorKind::Unsupported, "a row group without columns states too many rows to be compared")
            .with("rows", rows)
            .with("limit", COUNTED_LIMIT_ROWS));
    }
    let firsts = (0..rows).step_by(BATCH_ROWS);
    firsts.map(|first| Ok((bare(usize::try_from(rows - first).unwrap_or(BATCH_ROWS).min(BATCH_ROWS))?, first))).collect()
}

/// Some rows of a row group, with the canonical encoding of each value.
#[derive(Debug)]
pub struct EncodedRows {
    /// The rows, as the file has them: columns by physical name, without partition columns.
    pub batch: RecordBatch,
    /// Position in the row group of the first of them.
    pub first: u64,
    members: Vec<MemberValues>,
    key: [u8; 32],
}

impl EncodedRows {
    /// The canonical encoding of a member's value; empty for null.
    pub fn value(&self, member: usize, row: usize) -> &[u8] {
        self.members.get(member).map_or(&[], |values| values.value(row))
    }

    /// A keyed hash of a member's value. `name` is the member's: the same value under another name has another hash.
    pub fn value_hash(&self, member: usize, name: &str, row: usize) -> u128 {
        let value = self.value(member, row);
        if value.is_empty() {
            // Null: a column that is absent and one that is null are the same row.
            return 0;
        }
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(value);
        let mut out = [0; 16];
        hasher.finalize_xof().fill(&mut out);
        u128::from_le_bytes(out)
    }
}

/// Chosen column chunks, each at its place in the file.
#[derive(Clone)]
struct HeldPieces {
    pieces: Arc<BTreeMap<u64, Bytes>>,
    file_size: u64,
}

impl HeldPieces {
    fn from(&self, position: u64) -> Result<Bytes, ParquetError> {
        let outside = || ParquetError::EOF("a page lies outside of its column chunk".to_owned());
        let (start, bytes) = self.pieces.range(..=position).next_back().ok_or_else(outside)?;
        let offset = usize::try_from(position - start).ok().filter(|offset| *offset <= bytes.len());
        offset.map(|offset| bytes.slice(offset..)).ok_or_else(outside)
    }
}

impl Length for HeldPieces {
    fn len(&self) -> u64 {
        self.file_size
    }
}

impl ChunkReader for HeldPieces {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        self.from(start).map(|bytes| bytes.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.from(start)?;
        if length > bytes.len() {
            return Err(ParquetError::EOF("a page reaches beyond its column chunk".to_owned()));
        }
        Ok(bytes.slice(..length))
    }
}

fn corrupt(message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_columns_come_in_the_steps_of_others_and_not_without_end() {
        let steps: Vec<(usize, u64)> = counted(20_000).unwrap().iter().map(|(batch, first)| (batch.num_rows(), *first)).collect();
        assert_eq!(steps, [(8192, 0), (8192, 8192), (3616, 16_384)]);
        assert_eq!(counted(COUNTED_LIMIT_ROWS + 1).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
