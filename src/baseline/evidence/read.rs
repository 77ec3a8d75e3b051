//! From Parquet to sealed files. The bytes' digest is verified before they come here.

use std::sync::Arc;

use arrow::array::{Array, AsArray as _, BinaryArray, Int64Array, RecordBatch, StringArray, StructArray, UInt16Array, UInt64Array};
use bytes::Bytes;
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use serde_json::Value;

use super::super::sealed::{RowGroups, SealedColumn, SealedCommit, SealedDeletions, SealedFile, SealedObject, SealedRowGroup};
use super::super::statement::EvidenceKind;
use super::columns::{Column, Columns};
use super::{FORMAT, META_FORMAT, META_KIND, META_ROW_KEY, corrupt};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{CanonicalPath, FileKey, LiveFile, Stats};

/// The columns of row groups that a state's roots are made of.
const ROOTED_COLUMNS: [&str; 5] = ["path", "deletion_vector_id", "ordinal", "digest", "sum"];

/// A piece of evidence, decoded batch by batch.
pub(super) struct Evidence {
    pub(super) row_key: [u8; 32],
    reader: ParquetRecordBatchReader,
}

/// A row of the evidence of row groups, without what says where and what it is.
pub(super) struct RootedGroup<'a> {
    pub(super) key: FileKey,
    pub(super) ordinal: u32,
    pub(super) digest: Digest,
    pub(super) sum: Option<&'a [u8]>,
}

/// A row of the evidence of files.
pub(super) enum Change {
    Add(Arc<SealedFile>),
    Remove(FileKey),
    Tombstone(FileKey, Option<i64>),
}

impl Evidence {
    pub(super) fn open(bytes: Bytes, kind: EvidenceKind) -> Result<Self> {
        caught(|| Self::decode(bytes, kind, None))
    }

    /// A piece about row groups, of which only what roots are made of is decoded.
    pub(super) fn of_roots(bytes: Bytes) -> Result<Self> {
        caught(|| Self::decode(bytes, EvidenceKind::RowGroups, Some(&ROOTED_COLUMNS)))
    }

    fn decode(bytes: Bytes, kind: EvidenceKind, columns: Option<&[&str]>) -> Result<Self> {
        // Types come from Parquet's own schema: the decoder of the arrow schema beside it panics on damage.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, options).map_err(|e| undecoded(e.into()))?;
        let metadata = builder.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
        let meta = |key: &str| metadata.iter().find(|kv| kv.key == key).and_then(|kv| kv.value.as_deref()).unwrap_or_default();
        if meta(META_FORMAT) != FORMAT {
            return Err(Error::new(ErrorKind::Unsupported, "evidence of a format that this version does not know")
                .with("format", meta(META_FORMAT)));
        }
        if meta(META_KIND) != kind.name() {
            return Err(corrupt("holds something else than its baseline says").with("kind", meta(META_KIND)));
        }
        let mut row_key = [0; 32];
        hex::decode_to_slice(meta(META_ROW_KEY), &mut row_key).map_err(|e| corrupt("has no key for row hashes").caused_by(e))?;
        let mask =
            columns.map_or_else(ProjectionMask::all, |names| ProjectionMask::columns(builder.parquet_schema(), names.iter().copied()));
        let reader = builder.with_projection(mask).build().map_err(|e| undecoded(e.into()))?;
        Ok(Self { row_key, reader })
    }
}

impl Iterator for Evidence {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        caught(|| self.reader.next().transpose().map_err(|e| undecoded(e.into()))).transpose()
    }
}

fn undecoded(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    corrupt("is not Parquet").caused_by(error)
}

/// The Parquet decoder panics on some damage. What a seal names has its digest checked before; others may hand in anything.
fn caught<T>(decode: impl FnOnce() -> Result<T>) -> Result<T> {
    let decoded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode));
    decoded.unwrap_or_else(|_| Err(corrupt("is not Parquet that can be decoded")))
}

pub(super) fn required<T>(columns: &impl Columns, name: &str, value: Result<Option<T>>) -> Result<T> {
    value?.ok_or_else(|| columns.missing(name))
}

pub(super) fn key(columns: &impl Columns, row: usize) -> Result<FileKey> {
    let path = required(columns, "path", columns.text("path", row))?.to_owned();
    let deletion_vector = columns.text("deletion_vector_id", row)?.map(str::to_owned);
    Ok(FileKey { path, deletion_vector })
}

pub(super) fn files(batch: &RecordBatch, root: &Path) -> Result<Vec<Change>> {
    let columns = FileColumns::of(batch)?;
    (0..batch.num_rows())
        .map(|row| match columns.op.at(row) {
            Some("add") => Ok(Change::Add(Arc::new(columns.file(row, root)?))),
            Some("remove") => Ok(Change::Remove(columns.key(row)?)),
            Some("tombstone") => Ok(Change::Tombstone(columns.key(row)?, columns.time_ms.at(row))),
            _ => Err(corrupt("has an unknown operation")),
        })
        .collect()
}

/// The columns of the evidence of files.
struct FileColumns<'a> {
    op: Column<'a, StringArray>,
    path: Column<'a, StringArray>,
    deletion_vector_id: Column<'a, StringArray>,
    raw_path: Column<'a, StringArray>,
    partition_values: Column<'a, StringArray>,
    stats: Column<'a, StringArray>,
    deletion_vector: Column<'a, StringArray>,
    other: Column<'a, StringArray>,
    /// Evidence of earlier versions has no such column.
    version: Option<Column<'a, StringArray>>,
    deleted_file: Column<'a, StringArray>,
    size: Column<'a, UInt64Array>,
    time_ms: Column<'a, Int64Array>,
    rows: Column<'a, UInt64Array>,
    rows_encoding: Column<'a, UInt16Array>,
    deleted_rows: Column<'a, UInt64Array>,
    digest: Column<'a, BinaryArray>,
    sha256: Column<'a, BinaryArray>,
    footer: Column<'a, BinaryArray>,
    deleted_digest: Column<'a, BinaryArray>,
    deleted_sum: Column<'a, BinaryArray>,
    blocks: Column<'a, BinaryArray>,
}

impl<'a> FileColumns<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self> {
        Ok(Self {
            op: batch.texts("op")?,
            path: batch.texts("path")?,
            deletion_vector_id: batch.texts("deletion_vector_id")?,
            raw_path: batch.texts("raw_path")?,
            partition_values: batch.texts("partition_values")?,
            stats: batch.texts("stats")?,
            deletion_vector: batch.texts("deletion_vector")?,
            other: batch.texts("other")?,
            version: Columns::column(batch, "version").map(|_| batch.texts("version")).transpose()?,
            deleted_file: batch.texts("deleted_file")?,
            size: batch.numbers("size")?,
            time_ms: batch.numbers("time_ms")?,
            rows: batch.numbers("rows")?,
            rows_encoding: batch.numbers("rows_encoding")?,
            deleted_rows: batch.numbers("deleted_rows")?,
            digest: batch.binaries("digest")?,
            sha256: batch.binaries("sha256")?,
            footer: batch.binaries("footer")?,
            deleted_digest: batch.binaries("deleted_digest")?,
            deleted_sum: batch.binaries("deleted_sum")?,
            blocks: batch.binaries("blocks")?,
        })
    }

    fn key(&self, row: usize) -> Result<FileKey> {
        let path = self.path.required(self.path.at(row))?.to_owned();
        Ok(FileKey { path, deletion_vector: self.deletion_vector_id.at(row).map(str::to_owned) })
    }

    fn file(&self, row: usize, root: &Path) -> Result<SealedFile> {
        let key = self.key(row)?;
        // Sealed files lie inside of the table, but for those below the roots that the statement names: these are placed when it is at hand.
        let location = CanonicalPath::Inside(key.path.clone()).location(root);
        let live = LiveFile {
            location,
            key,
            raw_path: self.raw_path.required(self.raw_path.at(row))?.to_owned(),
            size: self.size.required(self.size.at(row))?,
            partition_values: self.partition_values.map(row)?,
            stats: self.stats(row)?,
            deletion_vector: self.deletion_vector.json(row)?,
            other: self.other.map(row)?,
            modification_time_ms: self.time_ms.required(self.time_ms.at(row))?,
            added_in: None,
        };
        let digest = |column: &Column<'_, BinaryArray>| column.required(column.digest(row)?);
        Ok(SealedFile {
            live: Arc::new(live),
            version: self.version.as_ref().and_then(|version| version.at(row)).map(str::to_owned),
            digest: digest(&self.digest)?,
            sha256: digest(&self.sha256)?.0,
            footer: digest(&self.footer)?,
            rows: self.rows.required(self.rows.at(row))?,
            rows_encoding: self.rows_encoding.at(row),
            deleted: self.deletions(row)?,
            inline_blocks: self.blocks.at(row).map(Bytes::copy_from_slice),
            row_groups: RowGroups::unread(),
        })
    }

    /// Statistics are nearly always an object, which is parsed when somebody looks into it.
    fn stats(&self, row: usize) -> Result<Option<Stats>> {
        match self.stats.at(row) {
            Some(text) if text.starts_with('{') => Ok(Some(Stats::of_text(text))),
            _ => Ok(self.stats.json(row)?.map(Stats::from)),
        }
    }

    fn deletions(&self, row: usize) -> Result<Option<SealedDeletions>> {
        let Some(rows) = self.deleted_rows.at(row) else { return Ok(None) };
        let file = match self.deleted_file.json(row)? {
            None => None,
            Some(value) => Some(self.deleted_file.required(deletion_file(&value))?),
        };
        let digest = self.deleted_digest.required(self.deleted_digest.digest(row)?)?;
        Ok(Some(SealedDeletions { rows, digest, sum: self.deleted_sum.sum(row)?, file }))
    }
}

fn deletion_file(value: &Value) -> Option<SealedObject> {
    Some(SealedObject {
        path: value.get("path")?.as_str()?.to_owned(),
        size: value.get("size")?.as_u64()?,
        digest: value.get("digest")?.as_str()?.parse().ok()?,
    })
}

pub(super) fn row_groups(batch: &RecordBatch) -> Result<Vec<(FileKey, SealedRowGroup)>> {
    let lists = Columns::column(batch, "columns").and_then(|a| a.as_list_opt::<i32>()).ok_or_else(|| batch.missing("columns"))?;
    (0..batch.num_rows())
        .map(|row| {
            let list = lists.value(row);
            let group = SealedRowGroup {
                ordinal: required(batch, "ordinal", batch.u32("ordinal", row))?,
                rows: required(batch, "rows", batch.u64("rows", row))?,
                bytes: range(batch, row)?,
                digest: required(batch, "digest", batch.digest("digest", row))?,
                sum: batch.sum("sum", row)?,
                columns: sealed_columns(list.as_struct_opt().ok_or_else(|| batch.missing("columns"))?)?,
            };
            Ok((key(batch, row)?, group))
        })
        .collect()
}

/// What roots are made of, of the row groups in a batch.
pub(super) fn rooted_groups(batch: &RecordBatch) -> impl Iterator<Item = Result<RootedGroup<'_>>> {
    (0..batch.num_rows()).map(|row| {
        Ok(RootedGroup {
            key: key(batch, row)?,
            ordinal: required(batch, "ordinal", batch.u32("ordinal", row))?,
            digest: required(batch, "digest", batch.digest("digest", row))?,
            sum: batch.binary("sum", row)?,
        })
    })
}

fn range(columns: &impl Columns, row: usize) -> Result<std::ops::Range<u64>> {
    let start = required(columns, "start", columns.u64("start", row))?;
    let end = required(columns, "end", columns.u64("end", row))?;
    if start > end { Err(columns.missing("end")) } else { Ok(start..end) }
}

fn sealed_columns(columns: &StructArray) -> Result<Vec<SealedColumn>> {
    (0..columns.len())
        .map(|row| {
            Ok(SealedColumn {
                name: required(columns, "name", columns.text("name", row))?.to_owned(),
                bytes: range(columns, row)?,
                digest: required(columns, "digest", columns.digest("digest", row))?,
                values: required(columns, "values", columns.digest("values", row))?,
                nulls: columns.u64("nulls", row)?,
                min: columns.json("min", row)?,
                max: columns.json("max", row)?,
            })
        })
        .collect()
}

pub(super) fn commits(batch: &RecordBatch) -> Result<Vec<(u64, SealedCommit)>> {
    (0..batch.num_rows())
        .map(|row| {
            let commit = SealedCommit {
                digest: required(batch, "digest", batch.digest("digest", row))?,
                size: required(batch, "size", batch.u64("size", row))?,
                operation: batch.text("operation", row)?.map(str::to_owned),
            };
            Ok((required(batch, "version", batch.u64("version", row))?, commit))
        })
        .collect()
}

pub(super) fn changes(batch: &RecordBatch) -> Result<Vec<SealedObject>> {
    (0..batch.num_rows())
        .map(|row| {
            Ok(SealedObject {
                path: required(batch, "path", batch.text("path", row))?.to_owned(),
                size: required(batch, "size", batch.u64("size", row))?,
                digest: required(batch, "digest", batch.digest("digest", row))?,
            })
        })
        .collect()
}
