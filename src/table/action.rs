//! What a single action says, and which actions a version of a table has once at most.

use std::collections::{BTreeMap, BTreeSet};

use object_store::path::Path;
use serde_json::{Map, Value};

use super::{FileKey, LiveFile, Stats, canonical_path};
use crate::error::{Error, ErrorKind, Result};

/// Members of `add` that have a field of their own in [`LiveFile`], repeat one, or speak only of the commit.
const KNOWN_ADD_MEMBERS: [&str; 9] = [
    "path",
    "partitionValues",
    "partitionValues_parsed",
    "size",
    "modificationTime",
    "dataChange",
    "stats",
    "stats_parsed",
    "deletionVector",
];

/// A file as readers that do not canonicalise tell it from others.
pub(super) type RawKey = (String, Option<String>);

/// What a commit, or a checkpoint, has named so far of that which it names once at most. Of two, some readers take the first and others the last.
#[derive(Debug, Default)]
pub(super) struct Once(BTreeSet<(&'static str, String)>);

impl Once {
    /// Notes an action.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for a second `metaData` or `protocol`, or a second `txn` or `domainMetadata` of one application or domain.
    pub(super) fn note(&mut self, name: &str, body: &Map<String, Value>) -> Result<()> {
        let (name, of) = match name {
            "metaData" => ("metaData", String::new()),
            "protocol" => ("protocol", String::new()),
            "txn" => ("txn", text(body, "appId")?),
            "domainMetadata" => ("domainMetadata", text(body, "domain")?),
            _ => return Ok(()),
        };
        if self.0.insert((name, of.clone())) {
            return Ok(());
        }
        let error = corrupt("one version of the table states this twice, and readers differ in which they believe");
        Err(if of.is_empty() { error } else { error.with("of", of) })
    }
}

/// The key under which `add` is told from others by readers that do not canonicalise.
pub(super) fn raw_key_of_add(line: &Value) -> Option<RawKey> {
    let body = line.get("add")?.as_object()?;
    let id = deletion_vector(body).ok()?.map(|(id, _)| id);
    Some((body.get("path")?.as_str()?.to_owned(), id))
}

/// The file that a `remove` names.
pub(super) fn removed_file(body: &Map<String, Value>) -> Result<FileKey> {
    let path = text(body, "path")?;
    let deletion_vector = deletion_vector(body)?.map(|(id, _)| id);
    Ok(FileKey { path: canonical_path(&path).as_str().to_owned(), deletion_vector })
}

/// The file that an `add` describes.
pub(super) fn live_file(root: &Path, mut body: Map<String, Value>, added_in: Option<u64>) -> Result<LiveFile> {
    let raw_path = text(&body, "path")?;
    let size = integer(&body, "size")?;
    let size = u64::try_from(size).map_err(|_| corrupt("a file has a negative size").with("file", &raw_path).with("size", size))?;
    let (id, descriptor) = deletion_vector(&body)?.unzip();
    let canonical = canonical_path(&raw_path);
    let stats = body.remove("stats").filter(|v| !v.is_null()).or_else(|| body.remove("stats_parsed").filter(|v| !v.is_null()));
    let partition_values = partition_values(&body).map_err(|e| e.with("file", &raw_path))?;
    let modification_time_ms = body.get("modificationTime").and_then(Value::as_i64).unwrap_or_default();
    let other = without_nulls(body).into_iter().filter(|(name, value)| !KNOWN_ADD_MEMBERS.contains(&name.as_str()) && !is_empty(value));
    Ok(LiveFile {
        key: FileKey { path: canonical.as_str().to_owned(), deletion_vector: id },
        location: canonical.location(root),
        raw_path,
        size,
        partition_values,
        stats: stats.map(stated_stats),
        deletion_vector: descriptor,
        other: other.collect(),
        modification_time_ms,
        added_in,
    })
}

fn partition_values(body: &Map<String, Value>) -> Result<BTreeMap<String, Option<String>>> {
    let Some(values) = body.get("partitionValues").and_then(Value::as_object) else { return Ok(BTreeMap::new()) };
    values
        .iter()
        .map(|(name, value)| match value {
            Value::Null => Ok((name.clone(), None)),
            Value::String(text) => Ok((name.clone(), Some(text.clone()))),
            other => Err(corrupt("a partition value is not text").with("column", name).with("value", other)),
        })
        .collect()
}

/// Statistics come as JSON text in commits, and as a struct in some checkpoints.
fn stated_stats(stats: Value) -> Stats {
    Stats::from(if stats.is_string() { stats } else { nulls_stripped(stats) })
}

pub(super) fn nulls_stripped(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, nulls_stripped(v))).collect()),
        other => other,
    }
}

/// The deletion vector's unique id and its descriptor, as the Delta protocol defines them.
pub(super) fn deletion_vector(body: &Map<String, Value>) -> Result<Option<(String, Value)>> {
    let descriptor = match body.get("deletionVector") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(descriptor)) => without_nulls(descriptor.clone()),
        Some(_) => return Err(corrupt("a deletion vector's descriptor is not an object")),
    };
    let id = format!("{}{}", text(&descriptor, "storageType")?, text(&descriptor, "pathOrInlineDv")?);
    let id = match descriptor.get("offset") {
        Some(offset) => format!("{id}@{}", offset.as_i64().ok_or_else(|| corrupt("a deletion vector's offset is not an integer"))?),
        None => id,
    };
    Ok(Some((id, Value::Object(descriptor))))
}

pub(super) fn text(body: &Map<String, Value>, name: &'static str) -> Result<String> {
    body.get(name).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| corrupt("an action lacks a text").with("member", name))
}

pub(super) fn integer(body: &Map<String, Value>, name: &'static str) -> Result<i64> {
    body.get(name).and_then(Value::as_i64).ok_or_else(|| corrupt("an action lacks an integer").with("member", name))
}

pub(super) fn without_nulls(body: Map<String, Value>) -> Map<String, Value> {
    body.into_iter().filter(|(_, value)| !value.is_null()).collect()
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty)
}

pub(super) fn corrupt(message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}
