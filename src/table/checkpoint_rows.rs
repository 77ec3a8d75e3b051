//! The rows of a checkpoint's objects as JSON actions, and whether a Parquet footer tells the truth about them.

use std::fmt;
use std::io::{Error as IoError, Write};
use std::sync::Arc;

use arrow::array::{Array as _, RecordBatch, StructArray};
use arrow::buffer::NullBuffer;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use serde_json::Value;

use super::floats::NamedFloats;
use crate::error::{Error, ErrorKind, Result};

/// Rows that are decoded at a time: few, for a text of the dictionary may stand in each of them.
const BATCH_ROWS: usize = 128;
/// So many rows any checkpoint may have; beyond them each takes a byte of it at least, for a row names a path.
const ROWS_ALLOWED: u64 = 1 << 16;
/// So many bytes any checkpoint may come to when it is decoded.
const DECODED_ALLOWED_BYTES: u64 = 16 << 20;
/// Beyond them, each stored byte may come to so many: wide tables repeat themselves, and Parquet stores that once.
const DECODED_PER_BYTE: u64 = 2048;
/// The members by which readers tell whether a row group has an action that they look for.
const WITNESSES: [(&str, &str); 9] = [
    ("add", "path"),
    ("remove", "path"),
    ("cdc", "path"),
    ("sidecar", "path"),
    ("metaData", "id"),
    ("protocol", "minReaderVersion"),
    ("txn", "appId"),
    ("domainMetadata", "domain"),
    ("checkpointMetadata", "version"),
];

pub(super) type Apply<'a> = &'a mut dyn FnMut(Value) -> Result<()>;

/// Applies the rows of a checkpoint in JSON.
pub(super) fn json_lines(bytes: &[u8], apply: Apply<'_>) -> Result<()> {
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace)) {
        let action =
            super::json::parse(line).map_err(|e| Error::new(ErrorKind::Corrupt, "a line of a checkpoint is not JSON").caused_by(e))?;
        apply(action)?;
    }
    Ok(())
}

/// Decodes a part or sidecar, applies its rows, and holds its footer against them. Memory: what `apply` keeps, a batch of rows, and the pages
/// that they stand in. The decoder believes the header of a page about its size, which is below 2 GiB.
pub(super) fn parquet_actions(bytes: Bytes, apply: Apply<'_>) -> Result<()> {
    let mut left = Allowance::of(bytes.len() as u64);
    // Types come from Parquet's own schema: the decoder of the arrow schema beside it panics on damage.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata = ArrowReaderMetadata::load(&bytes, options).map_err(damaged)?;
    left.check_footer(metadata.metadata())?;
    for (index, group) in metadata.metadata().row_groups().iter().enumerate() {
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), metadata.clone());
        let reader = builder.with_row_groups(vec![index]).with_batch_size(BATCH_ROWS).build().map_err(damaged)?;
        let mut found = FoundRows::default();
        for batch in reader {
            let batch = batch.map_err(undecoded)?;
            found.note(&batch);
            left.take(&batch, apply)?;
        }
        found.check(group).map_err(|e| e.with("row group", index))?;
    }
    Ok(())
}

fn damaged(error: parquet::errors::ParquetError) -> Error {
    Error::new(ErrorKind::Corrupt, "a checkpoint is not readable Parquet").caused_by(error)
}

fn undecoded(error: arrow::error::ArrowError) -> Error {
    Error::new(ErrorKind::Corrupt, "a checkpoint does not decode").caused_by(error)
}

/// What the rows of a row group are, as far as readers believe the footer about it: they pass over row groups that have no action which they look for.
#[derive(Default)]
struct FoundRows {
    rows: u64,
    /// Rows without each of [`WITNESSES`].
    nulls: [u64; WITNESSES.len()],
}

impl FoundRows {
    fn note(&mut self, batch: &RecordBatch) {
        self.rows = self.rows.saturating_add(batch.num_rows() as u64);
        for ((action, member), nulls) in WITNESSES.iter().zip(&mut self.nulls) {
            let action = batch.column_by_name(action).and_then(|column| column.as_any().downcast_ref::<StructArray>());
            let Some((action, member)) = action.and_then(|action| Some((action, action.column_by_name(member)?))) else { continue };
            let absent = NullBuffer::union(action.nulls(), member.nulls()).map_or(0, |nulls| nulls.null_count());
            *nulls = nulls.saturating_add(absent as u64);
        }
    }

    fn check(&self, group: &RowGroupMetaData) -> Result<()> {
        let lie = |what: &str, stated: &dyn fmt::Display, found: u64| {
            let message = format!("the footer of a checkpoint states {what} than there are: readers that go by it leave actions out");
            Error::new(ErrorKind::Corrupt, message).with("stated", stated).with("found", found)
        };
        if u64::try_from(group.num_rows()).ok() != Some(self.rows) {
            return Err(lie("another number of rows", &group.num_rows(), self.rows));
        }
        for ((action, member), nulls) in WITNESSES.iter().zip(self.nulls) {
            let is_it = |column: &&ColumnChunkMetaData| matches!(column.column_path().parts(), [one, other] if one.as_str() == *action && other.as_str() == *member);
            let stated = group.columns().iter().find(is_it).and_then(|column| column.statistics()?.null_count_opt());
            if let Some(stated) = stated.filter(|stated| *stated != nulls) {
                return Err(lie("another number of nulls", &stated, nulls).with("column", format!("{action}.{member}")));
            }
        }
        Ok(())
    }
}

/// What is left of what a checkpoint of so many bytes may come to. A page of few bytes may stand for any number of rows.
struct Allowance {
    stored_bytes: u64,
    rows: u64,
    decoded_bytes: u64,
}

impl Allowance {
    fn of(stored_bytes: u64) -> Self {
        let decoded_bytes = stored_bytes.saturating_mul(DECODED_PER_BYTE).max(DECODED_ALLOWED_BYTES);
        Self { stored_bytes, rows: stored_bytes.max(ROWS_ALLOWED), decoded_bytes }
    }

    /// Refuses what the footer itself says is too much, before any page is decoded.
    fn check_footer(&self, metadata: &ParquetMetaData) -> Result<()> {
        fn sum(stated: impl Iterator<Item = i64>) -> u64 {
            stated.fold(0, |sum: u64, value| sum.saturating_add(u64::try_from(value).unwrap_or(u64::MAX)))
        }
        if sum(metadata.row_groups().iter().map(|group| group.num_rows())) > self.rows {
            return Err(self.too_many_rows());
        }
        let chunks = metadata.row_groups().iter().flat_map(|group| group.columns());
        if sum(chunks.map(|chunk| chunk.uncompressed_size())) > self.decoded_bytes {
            return Err(self.too_many_bytes());
        }
        Ok(())
    }

    /// Applies the rows of a batch.
    fn take(&mut self, batch: &RecordBatch, apply: Apply<'_>) -> Result<()> {
        self.rows = self.rows.checked_sub(batch.num_rows() as u64).ok_or_else(|| self.too_many_rows())?;
        // Nulls are written out, because a null within `partitionValues` is a value.
        let text = Limited { bytes: Vec::new(), limit_bytes: self.decoded_bytes, exceeded: false };
        let builder = WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(NamedFloats));
        let mut writer = builder.build::<_, LineDelimited>(text);
        let written = writer.write(batch).and_then(|()| writer.finish());
        let text = writer.into_inner();
        if text.exceeded {
            return Err(self.too_many_bytes());
        }
        written.map_err(undecoded)?;
        self.decoded_bytes = self.decoded_bytes.saturating_sub(text.bytes.len() as u64);
        json_lines(&text.bytes, apply)
    }

    fn too_many_rows(&self) -> Error {
        Error::new(ErrorKind::Corrupt, "a checkpoint has more rows than its bytes can tell of").with("bytes", self.stored_bytes)
    }

    fn too_many_bytes(&self) -> Error {
        Error::new(ErrorKind::Corrupt, "a checkpoint comes to more than its bytes can tell of when it is decoded")
            .with("bytes", self.stored_bytes)
    }
}

/// Bytes in memory, up to a limit.
struct Limited {
    bytes: Vec<u8>,
    limit_bytes: u64,
    exceeded: bool,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len().saturating_add(bytes.len()) as u64 > self.limit_bytes {
            self.exceeded = true;
            return Err(IoError::other("too much"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
