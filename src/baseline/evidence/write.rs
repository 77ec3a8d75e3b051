//! From sealed files to Parquet.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int64Builder, ListArray, RecordBatch, StringBuilder, StructArray, UInt16Builder, UInt32Builder, UInt64Builder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use serde_json::{Value, json};

use super::super::canonical;
use super::super::sealed::{SealedCommit, SealedFile, SealedObject, SealedRowGroup};
use super::super::statement::EvidenceKind;
use super::{Delta, FORMAT, META_FORMAT, META_KIND, META_ROW_KEY};
use crate::error::{Error, ErrorKind, Result};
use crate::table::FileKey;

fn failed(e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Internal, "evidence could not be written").caused_by(e)
}

/// The Parquet bytes of `batch`.
pub(super) fn encode(kind: EvidenceKind, batch: &RecordBatch, row_key: &[u8; 32]) -> Result<Vec<u8>> {
    let meta = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_key_value_metadata(Some(vec![
            meta(META_FORMAT, FORMAT.to_owned()),
            meta(META_KIND, kind.name().to_owned()),
            meta(META_ROW_KEY, hex::encode(row_key)),
        ]))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).map_err(failed)?;
    writer.write(batch).map_err(failed)?;
    writer.into_inner().map_err(failed)
}

pub(super) fn batch(columns: Vec<(&str, bool, ArrayRef)>) -> Result<RecordBatch> {
    let fields: Vec<Field> =
        columns.iter().map(|(name, nullable, array)| Field::new(*name, array.data_type().clone(), *nullable)).collect();
    let arrays = columns.into_iter().map(|(_, _, array)| array).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(failed)
}

#[derive(Default)]
struct FileColumns {
    op: StringBuilder,
    path: StringBuilder,
    deletion_vector_id: StringBuilder,
    raw_path: StringBuilder,
    size: UInt64Builder,
    partition_values: StringBuilder,
    stats: StringBuilder,
    deletion_vector: StringBuilder,
    other: StringBuilder,
    time_ms: Int64Builder,
    digest: BinaryBuilder,
    sha256: BinaryBuilder,
    footer: BinaryBuilder,
    rows: UInt64Builder,
    rows_encoding: UInt16Builder,
    deleted_rows: UInt64Builder,
    deleted_digest: BinaryBuilder,
    deleted_sum: BinaryBuilder,
    deleted_file: StringBuilder,
    blocks: BinaryBuilder,
    version: StringBuilder,
}

impl FileColumns {
    fn key(&mut self, op: &str, key: &FileKey) {
        self.op.append_value(op);
        self.path.append_value(&key.path);
        self.deletion_vector_id.append_option(key.deletion_vector.as_deref());
    }

    fn add(&mut self, file: &SealedFile) {
        let live = &file.live;
        self.key("add", &live.key);
        self.raw_path.append_value(&live.raw_path);
        self.size.append_value(live.size);
        self.partition_values.append_value(canonical::text(&json!(live.partition_values)));
        self.stats.append_option(live.stats.as_deref().map(canonical::text));
        self.deletion_vector.append_option(live.deletion_vector.as_ref().map(canonical::text));
        self.other.append_value(canonical::text(&json!(live.other)));
        self.time_ms.append_value(live.modification_time_ms);
        self.digest.append_value(file.digest.0);
        self.sha256.append_value(file.sha256);
        self.footer.append_value(file.footer.0);
        self.rows.append_value(file.rows);
        self.rows_encoding.append_option(file.rows_encoding);
        let deleted = file.deleted.as_ref();
        self.deleted_rows.append_option(deleted.map(|d| d.rows));
        self.deleted_digest.append_option(deleted.map(|d| d.digest.0));
        self.deleted_sum.append_option(deleted.and_then(|d| d.sum.as_ref()));
        self.deleted_file.append_option(
            deleted
                .and_then(|d| d.file.as_ref())
                .map(|f| canonical::text(&json!({"digest": f.digest.to_string(), "path": f.path, "size": f.size}))),
        );
        self.blocks.append_option(file.inline_blocks.as_ref());
        self.version.append_option(file.version.as_deref());
    }

    fn gone(&mut self, op: &str, key: &FileKey, time_ms: Option<i64>) {
        self.key(op, key);
        for text in [&mut self.raw_path, &mut self.partition_values, &mut self.stats, &mut self.deletion_vector, &mut self.other] {
            text.append_null();
        }
        self.deleted_file.append_null();
        self.version.append_null();
        self.size.append_null();
        self.time_ms.append_option(time_ms);
        for bytes in
            [&mut self.digest, &mut self.sha256, &mut self.footer, &mut self.deleted_digest, &mut self.deleted_sum, &mut self.blocks]
        {
            bytes.append_null();
        }
        self.rows.append_null();
        self.rows_encoding.append_null();
        self.deleted_rows.append_null();
    }

    fn finish(mut self) -> Result<RecordBatch> {
        batch(vec![
            ("op", false, Arc::new(self.op.finish())),
            ("path", false, Arc::new(self.path.finish())),
            ("deletion_vector_id", true, Arc::new(self.deletion_vector_id.finish())),
            ("raw_path", true, Arc::new(self.raw_path.finish())),
            ("size", true, Arc::new(self.size.finish())),
            ("partition_values", true, Arc::new(self.partition_values.finish())),
            ("stats", true, Arc::new(self.stats.finish())),
            ("deletion_vector", true, Arc::new(self.deletion_vector.finish())),
            ("other", true, Arc::new(self.other.finish())),
            ("time_ms", true, Arc::new(self.time_ms.finish())),
            ("digest", true, Arc::new(self.digest.finish())),
            ("sha256", true, Arc::new(self.sha256.finish())),
            ("footer", true, Arc::new(self.footer.finish())),
            ("rows", true, Arc::new(self.rows.finish())),
            ("rows_encoding", true, Arc::new(self.rows_encoding.finish())),
            ("deleted_rows", true, Arc::new(self.deleted_rows.finish())),
            ("deleted_digest", true, Arc::new(self.deleted_digest.finish())),
            ("deleted_sum", true, Arc::new(self.deleted_sum.finish())),
            ("deleted_file", true, Arc::new(self.deleted_file.finish())),
            ("blocks", true, Arc::new(self.blocks.finish())),
            ("version", true, Arc::new(self.version.finish())),
        ])
    }
}

/// Removed files first, so that a file which is removed and added again by one delta ends as live.
pub(super) fn files(delta: &Delta<'_>) -> Result<RecordBatch> {
    let mut columns = FileColumns::default();
    delta.removed.iter().for_each(|key| columns.gone("remove", key, None));
    delta.tombstones.iter().for_each(|(key, at)| columns.gone("tombstone", key, *at));
    delta.added.iter().for_each(|file| columns.add(file));
    columns.finish()
}

pub(super) fn row_groups(added: &[&SealedFile]) -> Result<RecordBatch> {
    let (mut path, mut vector) = (StringBuilder::new(), StringBuilder::new());
    let mut ordinal = UInt32Builder::new();
    let (mut rows, mut start, mut end) = (UInt64Builder::new(), UInt64Builder::new(), UInt64Builder::new());
    let (mut digest, mut sum) = (BinaryBuilder::new(), BinaryBuilder::new());
    let mut groups: Vec<&SealedRowGroup> = Vec::new();
    for file in added {
        for group in file.row_groups.get()? {
            path.append_value(&file.live.key.path);
            vector.append_option(file.live.key.deletion_vector.as_deref());
            ordinal.append_value(group.ordinal);
            rows.append_value(group.rows);
            start.append_value(group.bytes.start);
            end.append_value(group.bytes.end);
            digest.append_value(group.digest.0);
            sum.append_option(group.sum.as_ref());
            groups.push(group);
        }
    }
    batch(vec![
        ("path", false, Arc::new(path.finish())),
        ("deletion_vector_id", true, Arc::new(vector.finish())),
        ("ordinal", false, Arc::new(ordinal.finish())),
        ("rows", false, Arc::new(rows.finish())),
        ("start", false, Arc::new(start.finish())),
        ("end", false, Arc::new(end.finish())),
        ("digest", false, Arc::new(digest.finish())),
        ("sum", true, Arc::new(sum.finish())),
        ("columns", false, Arc::new(column_lists(&groups)?)),
    ])
}

fn column_lists(groups: &[&SealedRowGroup]) -> Result<ListArray> {
    let mut name = StringBuilder::new();
    let (mut start, mut end, mut nulls) = (UInt64Builder::new(), UInt64Builder::new(), UInt64Builder::new());
    let (mut digest, mut values) = (BinaryBuilder::new(), BinaryBuilder::new());
    let (mut min, mut max) = (StringBuilder::new(), StringBuilder::new());
    let value = |value: &Option<Value>| value.as_ref().map(canonical::text);
    for column in groups.iter().flat_map(|group| &group.columns) {
        name.append_value(&column.name);
        start.append_value(column.bytes.start);
        end.append_value(column.bytes.end);
        digest.append_value(column.digest.0);
        values.append_value(column.values.0);
        nulls.append_option(column.nulls);
        min.append_option(value(&column.min));
        max.append_option(value(&column.max));
    }
    let columns: Vec<(&str, bool, ArrayRef)> = vec![
        ("name", false, Arc::new(name.finish())),
        ("start", false, Arc::new(start.finish())),
        ("end", false, Arc::new(end.finish())),
        ("digest", false, Arc::new(digest.finish())),
        ("values", false, Arc::new(values.finish())),
        ("nulls", true, Arc::new(nulls.finish())),
        ("min", true, Arc::new(min.finish())),
        ("max", true, Arc::new(max.finish())),
    ];
    let fields: Fields = columns.iter().map(|(name, nullable, array)| Field::new(*name, array.data_type().clone(), *nullable)).collect();
    let arrays: Vec<ArrayRef> = columns.into_iter().map(|(_, _, array)| array).collect();
    let item = Field::new("item", DataType::Struct(fields.clone()), false);
    let structs = StructArray::try_new(fields, arrays, None).map_err(failed)?;
    let offsets = OffsetBuffer::from_lengths(groups.iter().map(|group| group.columns.len()));
    ListArray::try_new(Arc::new(item), offsets, Arc::new(structs), None).map_err(failed)
}

pub(super) fn commits(commits: &[(u64, &SealedCommit)]) -> Result<RecordBatch> {
    let (mut version, mut size) = (UInt64Builder::new(), UInt64Builder::new());
    let (mut digest, mut operation) = (BinaryBuilder::new(), StringBuilder::new());
    for (number, commit) in commits {
        version.append_value(*number);
        digest.append_value(commit.digest.0);
        size.append_value(commit.size);
        operation.append_option(commit.operation.as_deref());
    }
    batch(vec![
        ("version", false, Arc::new(version.finish())),
        ("digest", false, Arc::new(digest.finish())),
        ("size", false, Arc::new(size.finish())),
        ("operation", true, Arc::new(operation.finish())),
    ])
}

pub(super) fn changes(files: &[&SealedObject]) -> Result<RecordBatch> {
    let (mut path, mut size, mut digest) = (StringBuilder::new(), UInt64Builder::new(), BinaryBuilder::new());
    for file in files {
        path.append_value(&file.path);
        size.append_value(file.size);
        digest.append_value(file.digest.0);
    }
    batch(vec![
        ("path", false, Arc::new(path.finish())),
        ("size", false, Arc::new(size.finish())),
        ("digest", false, Arc::new(digest.finish())),
    ])
}
