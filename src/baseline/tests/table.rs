//! Delta tables and folders of Parquet made by hand.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{WriterProperties, WriterVersion};
use serde_json::{Value, json};

use super::{NOW_MS, World};

pub(super) const ROWS: i64 = 200;

/// A file of two row groups of 100 rows: `id`, `name`, `price`. `price` gives the price of a row.
pub(super) fn parquet(first: i64, price: impl Fn(i64) -> f64) -> Vec<u8> {
    parquet_with(first, price, WriterProperties::builder())
}

pub(super) fn parquet_with(
    first: i64,
    price: impl Fn(i64) -> f64,
    properties: parquet::file::properties::WriterPropertiesBuilder,
) -> Vec<u8> {
    let ids: Vec<i64> = (first..first + ROWS).collect();
    let id: ArrayRef = Arc::new(Int64Array::from(ids.clone()));
    let name: ArrayRef = Arc::new(StringArray::from_iter(ids.iter().map(|i| (i % 7 != 0).then(|| format!("name {i}")))));
    let price: ArrayRef = Arc::new(Float64Array::from_iter_values(ids.iter().map(|i| price(*i))));
    let batch = RecordBatch::try_from_iter_with_nullable([("id", id, true), ("name", name, true), ("price", price, true)]).unwrap();
    let properties = properties
        .set_max_row_group_row_count(Some(100))
        .set_dictionary_enabled(false)
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

pub(super) fn honest(i: i64) -> f64 {
    0.5 + f64::from(i32::try_from(i).unwrap())
}

pub(super) fn add(path: &str, first: i64, size: usize) -> Value {
    let stats = json!({
        "numRecords": ROWS,
        "minValues": {"id": first, "price": honest(first)},
        "maxValues": {"id": first + ROWS - 1, "price": honest(first + ROWS - 1)},
        "nullCount": {"id": 0, "price": 0},
    });
    json!({"add": {
        "path": path, "partitionValues": {}, "size": size, "modificationTime": NOW_MS, "dataChange": true, "stats": stats.to_string(),
    }})
}

pub(super) fn remove(path: &str) -> Value {
    json!({"remove": {"path": path, "deletionTimestamp": NOW_MS, "dataChange": true, "extendedFileMetadata": true, "partitionValues": {}, "size": 1}})
}

fn field(name: &str, kind: &str) -> Value {
    json!({"name": name, "type": kind, "nullable": true, "metadata": {}})
}

impl World {
    pub(super) fn file(&self, name: &str) -> Path {
        self.root.clone().join(name)
    }

    pub(super) fn log(&self, version: u64) -> Path {
        self.root.clone().join("_delta_log").join(format!("{version:020}.json"))
    }

    pub(super) async fn put(&self, path: &Path, bytes: impl Into<PutPayload>) {
        self.store.put(path, bytes.into()).await.unwrap();
    }

    pub(super) async fn get(&self, path: &Path) -> Vec<u8> {
        self.store.get(path).await.unwrap().bytes().await.unwrap().to_vec()
    }

    /// Stores a commit: an operation and its actions.
    pub(super) async fn commit(&self, version: u64, operation: &str, actions: &[Value]) {
        let info = json!({"commitInfo": {"timestamp": NOW_MS, "operation": operation}});
        let lines: Vec<String> = std::iter::once(&info).chain(actions).map(Value::to_string).collect();
        self.put(&self.log(version), lines.join("\n") + "\n").await;
    }

    /// Commit 0 with protocol and metadata, then one commit per file.
    pub(super) async fn create(&self, files: u64) {
        let schema = json!({"type": "struct", "fields": [field("id", "long"), field("name", "string"), field("price", "double")]});
        let metadata = json!({"metaData": {
            "id": "the-table", "format": {"provider": "parquet", "options": {}}, "schemaString": schema.to_string(),
            "partitionColumns": [], "configuration": {}, "createdTime": NOW_MS,
        }});
        self.commit(0, "CREATE TABLE", &[json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}), metadata]).await;
        for version in 1..=files {
            self.append(version).await;
        }
    }

    /// Appends `f<version>.parquet` as commit `version`.
    pub(super) async fn append(&self, version: u64) {
        let first = i64::try_from(version).unwrap() * 1000;
        let bytes = parquet(first, honest);
        let name = format!("f{version}.parquet");
        let action = add(&name, first, bytes.len());
        self.put(&self.file(&name), bytes).await;
        self.commit(version, "WRITE", &[action]).await;
    }

    /// Replaces text in a stored object, which must contain it.
    pub(super) async fn edit(&self, path: &Path, from: &str, to: &str) {
        let text = String::from_utf8(self.get(path).await).unwrap();
        assert!(text.contains(from), "{text}");
        self.put(path, text.replace(from, to)).await;
    }
}
