//! A state as one commit: what a reader needs to see exactly this state, and nothing of how it came about.

use serde_json::{Map, Value, json};

use super::{LiveFile, TableKind, TableSnapshot};
use crate::error::{Error, ErrorKind, Result};

/// The only commit of a log that says this state: protocol, metadata, and an `add` for each live file. Takes memory for all of it.
///
/// Streaming writers' transactions and domains are left out: they steer writers, and such a log is for readers.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for a folder of Parquet, which has no log.
pub fn written_as_commit(snapshot: &TableSnapshot, timestamp_ms: i64) -> Result<Vec<u8>> {
    if snapshot.kind != TableKind::Delta {
        return Err(Error::new(ErrorKind::InvalidInput, "a folder of Parquet has no log"));
    }
    let mut out = Vec::new();
    // A table that keeps its commits' times in the log wants one first.
    let info = json!({"timestamp": timestamp_ms, "inCommitTimestamp": timestamp_ms, "operation": "SEALED STATE"});
    line(&mut out, "commitInfo", info);
    line(&mut out, "protocol", snapshot.protocol.clone());
    line(&mut out, "metaData", with_required_members(&snapshot.metadata));
    for file in snapshot.files.values() {
        line(&mut out, "add", add_action(file));
    }
    Ok(out)
}

/// Checkpoints leave empty members out that a commit must have.
fn with_required_members(metadata: &Value) -> Value {
    let mut metadata = metadata.clone();
    let required =
        [("format", json!({"provider": "parquet", "options": {}})), ("partitionColumns", json!([])), ("configuration", json!({}))];
    if let Value::Object(members) = &mut metadata {
        for (name, empty) in required {
            let member = members.entry(name).or_insert(Value::Null);
            if member.is_null() {
                *member = empty;
            }
        }
        if let Some(format) = members.get_mut("format").and_then(Value::as_object_mut) {
            let options = format.entry("options").or_insert(Value::Null);
            if options.is_null() {
                *options = json!({});
            }
        }
    }
    metadata
}

/// The `add` action's body that says what `file` says.
pub fn add_action(file: &LiveFile) -> Value {
    let mut add: Map<String, Value> = file.other.clone().into_iter().collect();
    add.insert("path".to_owned(), json!(file.raw_path));
    add.insert("partitionValues".to_owned(), json!(file.partition_values));
    add.insert("size".to_owned(), json!(file.size));
    add.insert("modificationTime".to_owned(), json!(file.modification_time_ms));
    add.insert("dataChange".to_owned(), json!(true));
    if let Some(stats) = &file.stats {
        let text = stats.as_str().map_or_else(|| stats.to_string(), str::to_owned);
        add.insert("stats".to_owned(), Value::String(text));
    }
    if let Some(vector) = &file.deletion_vector {
        add.insert("deletionVector".to_owned(), vector.clone());
    }
    Value::Object(add)
}

fn line(out: &mut Vec<u8>, name: &str, body: Value) {
    let action = Value::Object(Map::from_iter([(name.to_owned(), body)]));
    out.extend_from_slice(action.to_string().as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt as _;
    use object_store::memory::InMemory;
    use object_store::path::Path;

    use super::*;

    #[tokio::test]
    async fn a_state_is_read_back_from_the_commit_that_says_it() {
        let store = InMemory::new();
        let schema = r#"{\"type\":\"struct\",\"fields\":[{\"name\":\"a\",\"type\":\"long\",\"nullable\":true,\"metadata\":{}}]}"#;
        let log = [
            r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors"]}}"#
                .to_owned(),
            format!(
                r#"{{"metaData":{{"id":"t","format":{{"provider":"parquet","options":{{}}}},"schemaString":"{schema}","partitionColumns":["p"],"configuration":{{"x":"y"}}}}}}"#
            ),
            r#"{"add":{"path":"p=a%20b/f.parquet","partitionValues":{"p":"a b"},"size":10,"modificationTime":7,"dataChange":true,"stats":"{\"numRecords\":3,\"minValues\":{\"a\":0.10}}","baseRowId":4,"tags":{"k":"v"}}}"#
                .to_owned(),
            r#"{"add":{"path":"g.parquet","partitionValues":{"p":null},"size":11,"modificationTime":8,"dataChange":true,"deletionVector":{"storageType":"i","pathOrInlineDv":"abc","sizeInBytes":3,"cardinality":1}}}"#
                .to_owned(),
        ]
        .join("\n");
        let root = Path::from("t");
        store.put(&Path::from("t/_delta_log/00000000000000000000.json"), log.into()).await.unwrap();
        let before = crate::table::load(&store, &root, None).await.unwrap();
        let other = InMemory::new();
        let path = Path::from("t/_delta_log/00000000000000000000.json");
        other.put(&path, written_as_commit(&before, 5).unwrap().into()).await.unwrap();
        let after = crate::table::load(&other, &root, None).await.unwrap();
        assert_eq!(after.files, before.files);
        assert_eq!((after.protocol, after.metadata, after.schema), (before.protocol, before.metadata, before.schema));
        assert_eq!(after.files.values().next().unwrap().stats, before.files.values().next().unwrap().stats);
    }
}
