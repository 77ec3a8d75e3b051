//! A folder of Parquet as a table: all its `*.parquet` objects, with partition values from `key=value` folders.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::{FileKey, LiveFile, TableKind, TableSchema, TableSnapshot};
use crate::error::{Error, ErrorKind, Result};

/// Hive's name of the null partition.
pub(crate) const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";
const FILES_LIMIT: usize = 10_000_000;

pub(super) async fn load(store: &dyn ObjectStore, root: &Path, version: Option<u64>) -> Result<TableSnapshot> {
    let mut files = BTreeMap::new();
    let mut anything = false;
    let prefix = (!root.as_ref().is_empty()).then_some(root);
    let mut objects = store.list(prefix);
    while let Some(meta) = objects.try_next().await? {
        anything = true;
        if let Some(file) = live_file(root, &meta) {
            files.insert(file.key.clone(), Arc::new(file));
        }
        if files.len() > FILES_LIMIT {
            return Err(Error::new(ErrorKind::Unsupported, "the folder has too many files").with("limit", FILES_LIMIT));
        }
    }
    if files.is_empty() {
        return Err(none_there(root, anything));
    }
    if let Some(version) = version.filter(|version| *version != 0) {
        return Err(Error::new(ErrorKind::NotFound, "a folder of Parquet files has no versions but 0").with("version", version));
    }
    let partition_columns = partition_columns_of(&files);
    Ok(TableSnapshot {
        kind: TableKind::Parquet,
        table_id: String::new(),
        version: 0,
        protocol: Value::Null,
        metadata: Value::Null,
        domains: BTreeMap::new(),
        transactions: BTreeMap::new(),
        files,
        changes: BTreeMap::new(),
        typed: BTreeMap::new(),
        duplicates: Vec::new(),
        tombstones: BTreeMap::new(),
        commits: Vec::new(),
        checkpoint: None,
        log_objects: BTreeMap::new(),
        schema: TableSchema { partition_columns, ..TableSchema::default() },
    })
}

fn none_there(root: &Path, anything: bool) -> Error {
    if anything {
        Error::new(
            ErrorKind::InvalidInput,
            "neither a Delta table nor a folder of Parquet: there is no commit or checkpoint in _delta_log, and no *.parquet",
        )
        .with("location", root)
    } else {
        Error::new(ErrorKind::NotFound, "there is no table here; check the name, or the path and the credentials of its store")
            .with("location", root)
    }
}

fn live_file(root: &Path, meta: &ObjectMeta) -> Option<LiveFile> {
    let segments: Vec<String> = meta.location.prefix_match(root)?.map(|part| part.as_ref().to_owned()).collect();
    let (name, folders) = segments.split_last()?;
    let hidden = segments.iter().any(|segment| segment.starts_with(['_', '.']) && !segment.contains('='));
    if hidden || !name.ends_with(".parquet") {
        return None;
    }
    let path = segments.join("/");
    Some(LiveFile {
        key: FileKey { path: path.clone(), deletion_vector: None },
        raw_path: path,
        location: Some(meta.location.clone()),
        size: meta.size,
        partition_values: folders.iter().filter_map(|folder| partition_value(folder)).collect(),
        stats: None,
        deletion_vector: None,
        other: BTreeMap::new(),
        modification_time_ms: meta.last_modified.timestamp_millis(),
        added_in: None,
    })
}

fn partition_value(folder: &str) -> Option<(String, Option<String>)> {
    let (name, value) = folder.split_once('=')?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().map_or_else(|_| text.to_owned(), String::from);
    Some((decoded(name), (value != NULL_PARTITION).then(|| decoded(value))))
}

/// The first of a folder's files that does not lie in folders of exactly these partition columns: engines pass such files over without a word.
pub(crate) fn misplaced<'a>(files: impl IntoIterator<Item = &'a LiveFile>, partition_columns: &[String]) -> Option<&'a str> {
    let lies_in = |file: &LiveFile| {
        let mut folders = file.key.path.split('/').map(|part| part.split_once('=').map(|(name, _)| name));
        partition_columns.iter().all(|column| folders.next().flatten() == Some(column))
    };
    files.into_iter().find(|file| !lies_in(file)).map(|file| file.key.path.as_str())
}

/// The partition columns of a folder of Parquet, in the order of its folders.
pub(crate) fn partition_columns_of(files: &BTreeMap<FileKey, Arc<LiveFile>>) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for file in files.values() {
        for folder in file.key.path.split('/') {
            if let Some((name, _)) = partition_value(folder)
                && file.partition_values.contains_key(&name)
                && !columns.contains(&name)
            {
                columns.push(name);
            }
        }
    }
    columns
}
