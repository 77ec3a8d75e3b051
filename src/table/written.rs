//! A state as one commit: what a reader needs to see exactly this state, and nothing of how it came about.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::{ColumnType, LiveFile, PrimitiveType, TableColumn, TableKind, TableSchema, TableSnapshot};
use crate::error::{Error, ErrorKind, Result};

/// Decimals with more digits may not come to the same number again once they were a number in memory.
pub const EXACT_DIGITS: u8 = 15;

/// Whether bounds of the table's columns may have been rounded by those who wrote them: a log that states such bounds may hide rows.
pub fn may_be_rounded(schema: &TableSchema) -> bool {
    let mut found = Vec::new();
    rounded_columns(&schema.columns, &mut Vec::new(), &mut found);
    !found.is_empty()
}

/// The only commit of a log that says this state: protocol, metadata, and an `add` for each live file. Takes memory for all of it.
///
/// Streaming writers' transactions and domains are left out: they steer writers, and such a log is for readers. So are bounds that may have been
/// rounded, which might hide rows.
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
    let mut rounded = Vec::new();
    rounded_columns(&snapshot.schema.columns, &mut Vec::new(), &mut rounded);
    for file in snapshot.files.values() {
        line(&mut out, "add", add_action(&without_bounds(file, &rounded)));
    }
    Ok(out)
}

/// The columns whose bounds may have been rounded, each by the names on the way to it.
fn rounded_columns<'a>(columns: &'a [TableColumn], above: &mut Vec<&'a str>, found: &mut Vec<Vec<&'a str>>) {
    for column in columns {
        above.push(&column.physical_name);
        match &column.data_type {
            ColumnType::Primitive(PrimitiveType::Decimal(digits, _)) if *digits > EXACT_DIGITS => found.push(above.clone()),
            ColumnType::Struct(members) => rounded_columns(members, above, found),
            _ => {}
        }
        above.pop();
    }
}

/// `file` without the bounds of these columns.
fn without_bounds<'a>(file: &'a LiveFile, columns: &[Vec<&str>]) -> Cow<'a, LiveFile> {
    let left = file.stats.as_ref().filter(|_| !columns.is_empty()).and_then(|stats| stats.without(&["minValues", "maxValues"], columns));
    left.map_or(Cow::Borrowed(file), |left| Cow::Owned(LiveFile { stats: Some(left), ..file.clone() }))
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

    #[test]
    fn bounds_that_may_have_been_rounded_are_left_out() {
        let column =
            |name: &str, data_type| TableColumn { name: name.into(), physical_name: name.into(), id: None, data_type, nullable: true };
        let decimal = |digits| ColumnType::Primitive(PrimitiveType::Decimal(digits, 2));
        let columns = [
            column("narrow", decimal(15)),
            column("wide", decimal(16)),
            column("s", ColumnType::Struct(vec![column("wide", decimal(38)), column("n", decimal(3))])),
        ];
        let mut rounded = Vec::new();
        rounded_columns(&columns, &mut Vec::new(), &mut rounded);
        assert_eq!(rounded, [vec!["wide"], vec!["s", "wide"]]);
        let bounds = json!({"narrow": 1.25, "wide": 1.25, "s": {"wide": 2, "n": 3}, "other": 4});
        let stats = json!({"numRecords": 2, "minValues": bounds, "maxValues": {"wide": 9, "s": 7}, "nullCount": {"wide": 1}});
        let file = LiveFile {
            key: crate::table::FileKey { path: "f".into(), deletion_vector: None },
            raw_path: "f".into(),
            location: None,
            size: 1,
            partition_values: Default::default(),
            stats: Some(stats.clone().into()),
            deletion_vector: None,
            other: Default::default(),
            modification_time_ms: 0,
            added_in: None,
        };
        let left = without_bounds(&file, &rounded).into_owned().stats.unwrap();
        let bounds = json!({"narrow": 1.25, "s": {"n": 3}, "other": 4});
        assert_eq!(*left, json!({"numRecords": 2, "minValues": bounds, "maxValues": {"s": 7}, "nullCount": {"wide": 1}}));
        assert!(matches!(without_bounds(&file, &[]), Cow::Borrowed(_)));
    }

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
