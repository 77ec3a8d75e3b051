//! Checkpoints that tell one state to us and another to other readers.

use std::sync::Arc;

use arrow::json::ReaderBuilder;
use arrow::json::reader::infer_json_schema;
use bytes::Bytes;
use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::{ParquetMetaDataReader, ParquetMetaDataWriter, RowGroupMetaData};
use parquet::file::properties::WriterProperties;
use parquet::file::statistics::{Statistics, ValueStatistics};

use super::*;
use crate::error::{Error, ErrorKind};

const PROTOCOL: &str = r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#;
const SCHEMA: &str = r#"{\"type\":\"struct\",\"fields\":[]}"#;
const CLASSIC: &str = "00000000000000000000.checkpoint.parquet";
const PART: &str = "00000000000000000000.checkpoint.0000000001.0000000001.parquet";
const JSON: &str = "00000000000000000000.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json";

fn metadata(id: &str) -> String {
    format!(r#"{{"metaData":{{"id":"{id}","schemaString":"{SCHEMA}"}}}}"#)
}

fn add(path: &str) -> String {
    format!(r#"{{"add":{{"path":"{path}","size":10,"modificationTime":1,"dataChange":true}}}}"#)
}

/// The rows as Parquet, two in a row group.
fn parquet(rows: &[String]) -> Vec<u8> {
    let text = rows.join("\n");
    let (schema, _) = infer_json_schema(text.as_bytes(), None).unwrap();
    let schema = Arc::new(schema);
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(2)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).unwrap();
    for batch in ReaderBuilder::new(schema).build(text.as_bytes()).unwrap() {
        writer.write(&batch.unwrap()).unwrap();
    }
    writer.into_inner().unwrap()
}

/// The same file with another footer.
fn with_footer(bytes: &[u8], edit: impl Fn(usize, RowGroupMetaData) -> RowGroupMetaData) -> Vec<u8> {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&Bytes::copy_from_slice(bytes)).unwrap();
    let mut builder = metadata.into_builder();
    let groups = builder.take_row_groups().into_iter().enumerate().map(|(index, group)| edit(index, group)).collect();
    let metadata = builder.set_row_groups(groups).build();
    let length = u32::from_le_bytes(bytes[bytes.len() - 8..bytes.len() - 4].try_into().unwrap());
    let mut out = bytes[..bytes.len() - 8 - length as usize].to_vec();
    // The writer counts from where it begins, which concerns indexes alone: there are none.
    let mut footer = Vec::new();
    ParquetMetaDataWriter::new(&mut footer, &metadata).finish().unwrap();
    out.extend(footer);
    out
}

/// States so many nulls of a column in one row group.
fn with_nulls(bytes: &[u8], group: usize, column: &str, nulls: Option<u64>) -> Vec<u8> {
    with_footer(bytes, |index, found| {
        let columns = found.columns().iter().map(|chunk| {
            if index != group || chunk.column_path().string() != column {
                return chunk.clone();
            }
            let stated = Statistics::ByteArray(ValueStatistics::new(None, None, None, nulls, false));
            chunk.clone().into_builder().set_statistics(stated).build().unwrap()
        });
        let columns = columns.collect();
        found.into_builder().set_column_metadata(columns).build().unwrap()
    })
}

async fn state_of(name: &str, bytes: impl Into<object_store::PutPayload>) -> Result<TableSnapshot, Error> {
    let store = InMemory::new();
    store.put(&Path::from(format!("t/_delta_log/{name}")), bytes.into()).await.unwrap();
    let (state, judged) = (load(&store, &Path::from("t"), None).await, judged_checkpoint(&store, &Path::from("t")).await);
    assert_eq!(state.as_ref().err().map(Error::kind), judged.err().map(|e| e.kind()), "writers are shown no other than readers");
    state
}

fn refused(result: Result<TableSnapshot, Error>, parts: &[&str]) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(parts.iter().all(|part| error.to_string().contains(part)), "{parts:?}: {error}");
}

#[tokio::test]
async fn a_checkpoint_says_once_what_a_version_has_once() {
    let rows = [PROTOCOL.to_owned(), metadata("t"), add("a.parquet")];
    assert_eq!(state_of(JSON, rows.join("\n")).await.unwrap().files.len(), 1);
    let last = [metadata("other"), PROTOCOL.to_owned(), metadata("t"), add("a.parquet")];
    refused(state_of(JSON, last.join("\n")).await, &["twice", "metaData", JSON]);
    refused(state_of(CLASSIC, parquet(&last)).await, &["twice", "metaData", CLASSIC]);
    let two = [PROTOCOL.to_owned(), metadata("t"), PROTOCOL.replace('2', "7")];
    refused(state_of(CLASSIC, parquet(&two)).await, &["twice", "protocol", CLASSIC]);
}

#[tokio::test]
async fn a_footer_that_lies_about_actions_is_refused() {
    let honest = parquet(&[PROTOCOL.to_owned(), metadata("t"), add("a.parquet"), add("b.parquet"), add("c.parquet")]);
    assert_eq!(state_of(CLASSIC, honest.clone()).await.unwrap().files.len(), 3);
    let same = with_footer(&honest, |_, group| group);
    assert_eq!(state_of(CLASSIC, same).await.unwrap().files.len(), 3);
    // All rows of the second row group are said to add nothing.
    for (group, column, nulls) in [(1, "add.path", 2), (2, "add.path", 1), (0, "metaData.id", 2)] {
        let forged = with_nulls(&honest, group, column, Some(nulls));
        refused(state_of(CLASSIC, forged).await, &["footer", "nulls", column, CLASSIC]);
    }
    // Nothing is said, or it is said of a member that no reader goes by.
    for unsaid in [with_nulls(&honest, 1, "add.path", None), with_nulls(&honest, 0, "metaData.schemaString", Some(0))] {
        assert_eq!(state_of(CLASSIC, unsaid).await.unwrap().files.len(), 3);
    }
    let fewer = with_footer(&honest, |index, group| match index {
        1 => group.into_builder().set_num_rows(1).build().unwrap(),
        _ => group,
    });
    refused(state_of(CLASSIC, fewer).await, &["checkpoint"]);
}

#[tokio::test]
async fn an_audit_finds_a_footer_that_lies_beside_commits_that_do_not() {
    let store = InMemory::new();
    let rows = [PROTOCOL.to_owned(), metadata("t"), add("a.parquet"), add("b.parquet")];
    store.put(&Path::from("t/_delta_log/00000000000000000000.json"), rows.join("\n").into()).await.unwrap();
    let place = Path::from(format!("t/_delta_log/{CLASSIC}"));
    let honest = parquet(&rows);
    store.put(&place, honest.clone().into()).await.unwrap();
    assert_eq!(check_checkpoints(&store, &Path::from("t"), 0).await.unwrap(), []);
    store.put(&place, with_nulls(&honest, 1, "add.path", Some(2)).into()).await.unwrap();
    let found = check_checkpoints(&store, &Path::from("t"), 0).await.unwrap();
    assert!(found.len() == 1 && found[0].checkpoint == place && found[0].detail.contains("add.path"), "{found:?}");
}

#[tokio::test]
async fn sidecars_belong_to_checkpoints_of_one_object_and_speak_of_files_alone() {
    let named = r#"{"sidecar":{"path":"s.parquet","sizeInBytes":1,"modificationTime":1}}"#.to_owned();
    let head = [PROTOCOL.to_owned(), metadata("t"), named];
    let with_sidecar = async |name: &str, sidecar: &[String]| {
        let store = InMemory::new();
        store.put(&Path::from("t/_delta_log/_sidecars/s.parquet"), parquet(sidecar).into()).await.unwrap();
        store.put(&Path::from(format!("t/_delta_log/{name}")), parquet(&head).into()).await.unwrap();
        load(&store, &Path::from("t"), None).await
    };
    let files = [add("a.parquet"), add("b.parquet")];
    assert_eq!(with_sidecar(CLASSIC, &files).await.unwrap().files.len(), 2);
    refused(with_sidecar(PART, &files).await, &["sidecars", PART]);
    for more in [metadata("other"), r#"{"txn":{"appId":"a","version":1}}"#.to_owned(), head[2].clone()] {
        refused(with_sidecar(CLASSIC, &[files[0].clone(), more]).await, &["more than files", "s.parquet"]);
    }
    // Without sidecars, one part is as good as a whole.
    let rows = [PROTOCOL.to_owned(), metadata("t"), add("a.parquet")];
    assert_eq!(state_of(PART, parquet(&rows)).await.unwrap().files.len(), 1);
}
