//! Whole logs and folders in memory, and damage to them.

use object_store::ObjectStore;
use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;

use super::*;
use crate::error::ErrorKind;

const META: &str = concat!(
    r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}"#,
    "\n",
    r#"{"metaData":{"id":"t-1","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":[{\"name\":\"a\",\"type\":\"long\",\"nullable\":true,\"metadata\":{}}]}","partitionColumns":[],"configuration":{}}}"#,
    "\n"
);

fn add(path: &str) -> String {
    format!("{{\"add\":{{\"path\":\"{path}\",\"partitionValues\":{{}},\"size\":10,\"modificationTime\":1,\"dataChange\":true}}}}\n")
}

fn remove(path: &str) -> String {
    format!("{{\"remove\":{{\"path\":\"{path}\",\"deletionTimestamp\":5,\"dataChange\":true}}}}\n")
}

async fn put(store: &InMemory, version: u64, text: impl Into<String>) {
    let path = Path::from(format!("t/_delta_log/{version:020}.json"));
    store.put(&path, text.into().into()).await.unwrap();
}

async fn snapshot(store: &dyn ObjectStore) -> crate::Result<TableSnapshot> {
    load(store, &Path::from("t"), None).await
}

fn names(snapshot: &TableSnapshot) -> Vec<&str> {
    snapshot.files.keys().map(|key| key.path.as_str()).collect()
}

#[tokio::test]
async fn commits_are_replayed_in_order_and_versions_can_be_chosen() {
    let store = InMemory::new();
    put(&store, 0, format!("{META}{}", add("a.parquet"))).await;
    put(&store, 1, format!("{{\"commitInfo\":{{\"operation\":\"WRITE\",\"timestamp\":7}}}}\n{}{}", remove("a.parquet"), add("b.parquet")))
        .await;
    let newest = snapshot(&store).await.unwrap();
    assert_eq!((newest.version, names(&newest), newest.duplicates.len()), (1, vec!["b.parquet"], 0));
    assert_eq!(newest.commits[1].operation.as_deref(), Some("WRITE"));
    assert_eq!(newest.commits[1].timestamp_ms, Some(7));
    assert_eq!(newest.tombstones.values().copied().collect::<Vec<_>>(), [Some(5)]);
    assert_eq!(newest.log_objects.len(), 2);
    assert_eq!(names(&load(&store, &Path::from("t"), Some(0)).await.unwrap()), ["a.parquet"]);
    assert_eq!(load(&store, &Path::from("t"), Some(2)).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_torn_line_is_named() {
    let store = InMemory::new();
    put(&store, 0, META).await;
    put(&store, 1, format!("{}{}", add("a.parquet"), &add("b.parquet")[..30])).await;
    let error = snapshot(&store).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("line: 2") && error.to_string().contains("commit: 1"), "{error}");
}

#[tokio::test]
async fn a_gap_without_checkpoint_is_refused() {
    let store = InMemory::new();
    put(&store, 0, META).await;
    put(&store, 2, add("a.parquet")).await;
    let error = snapshot(&store).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("missing commit: 1"), "{error}");
}

#[tokio::test]
async fn aliases_and_second_deletion_vectors_are_duplicates() {
    let store = InMemory::new();
    put(&store, 0, format!("{META}{}", add("part-0.parquet"))).await;
    put(&store, 1, add("%70art-0.parquet")).await;
    assert_eq!(snapshot(&store).await.unwrap().duplicates.len(), 1);

    let store = InMemory::new();
    put(&store, 0, format!("{META}{}", add("part-0.parquet"))).await;
    let with_vector = r#"{"add":{"path":"part-0.parquet","partitionValues":{},"size":10,"modificationTime":1,"dataChange":true,"deletionVector":{"storageType":"i","pathOrInlineDv":"abc","sizeInBytes":3,"cardinality":1}}}"#;
    put(&store, 1, with_vector).await;
    let found = snapshot(&store).await.unwrap();
    assert_eq!((found.files.len(), found.duplicates.len()), (2, 2));
    put(&store, 2, remove("part-0.parquet")).await;
    let found = snapshot(&store).await.unwrap();
    assert_eq!((found.files.len(), found.duplicates.len()), (1, 0));
}

#[tokio::test]
async fn a_file_removed_under_another_spelling_is_pointed_out() {
    let store = InMemory::new();
    put(&store, 0, format!("{META}{}", add("part-0.parquet"))).await;
    put(&store, 1, remove("./part-0.parquet")).await;
    let found = snapshot(&store).await.unwrap();
    assert!(found.files.is_empty());
    assert_eq!(found.duplicates.len(), 1);
}

#[tokio::test]
async fn a_folder_of_parquet_is_a_table_and_nothing_else_is() {
    let store = InMemory::new();
    assert_eq!(snapshot(&store).await.unwrap_err().kind(), ErrorKind::NotFound);
    store.put(&Path::from("t/readme.txt"), "x".into()).await.unwrap();
    assert_eq!(snapshot(&store).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    for name in
        ["t/label=a%20b/x.parquet", "t/label=__HIVE_DEFAULT_PARTITION__/y.parquet", "t/_seal/z.parquet", "t/.tmp/z.parquet", "t/_z.parquet"]
    {
        store.put(&Path::parse(name).unwrap(), "x".into()).await.unwrap();
    }
    let found = snapshot(&store).await.unwrap();
    assert_eq!((found.kind, found.files.len()), (TableKind::Parquet, 2));
    assert_eq!(found.schema.partition_columns, ["label"]);
    let values: Vec<_> = found.files.values().map(|file| file.partition_values["label"].clone()).collect();
    assert_eq!(values, [None, Some("a b".to_owned())]);
}

#[tokio::test]
async fn a_checkpoint_that_loses_a_file_is_found_out() {
    let store = InMemory::new();
    put(&store, 0, format!("{META}{}{}", add("a.parquet"), add("b.parquet"))).await;
    let name = "t/_delta_log/00000000000000000000.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json";
    let honest = format!("{{\"checkpointMetadata\":{{\"version\":0}}}}\n{META}{}{}", add("a.parquet"), add("b.parquet"));
    store.put(&Path::from(name), honest.into()).await.unwrap();
    let root = Path::from("t");
    assert_eq!(check_checkpoints(&store, &root, 0).await.unwrap(), []);
    store.put(&Path::from(name), format!("{META}{}", add("a.parquet")).into()).await.unwrap();
    let found = check_checkpoints(&store, &root, 0).await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(found[0].detail.contains("b.parquet"));
    assert_eq!(snapshot(&store).await.unwrap().files.len(), 2, "the commits alone say the state");
}

/// What a log comes to when the state of its first `count` commits is taken from `known`.
async fn resumed(store: &InMemory, known: &TableSnapshot) -> TableSnapshot {
    let LoadedLog::Commits(commits) = read_log(store, &Path::from("t"), None).await.unwrap() else { panic!("not all commits are there") };
    let files = known.files.values().map(|file| Arc::new(LiveFile { added_in: None, ..LiveFile::clone(file) }));
    commits.snapshot_after(known.version + 1, files, known.tombstones.clone()).unwrap()
}

#[tokio::test]
async fn a_known_beginning_comes_to_the_same_state() {
    let store = InMemory::new();
    let txn = |version: u64| format!("{{\"txn\":{{\"appId\":\"w\",\"version\":{version}}}}}\n");
    let domain = "{\"domainMetadata\":{\"domain\":\"d\",\"configuration\":\"x\",\"removed\":false}}\n";
    let info = |version: u64| format!("{{\"commitInfo\":{{\"operation\":\"WRITE\",\"timestamp\":{version}}}}}\n");
    let spaced = add("spaced.parquet").replace("{\"add\":{", "{ \"add\": {");
    let nulls = META.replace("{\"metaData\":", "{\"add\":null,\"remove\":null,\"metaData\":");
    let commits = [
        format!("{}{nulls}{}{}{spaced}", info(0), add("a.parquet"), add("b%20c.parquet")),
        format!("{}{}{}{domain}", info(1), remove("a.parquet"), txn(1)),
        format!("{}{}{}", info(2), add("d.parquet"), txn(2)),
        // What comes after removes, adds again, and names files under aliases and with vectors.
        format!("{}{}{}", info(3), remove("d.parquet"), add("a.parquet")),
        format!("{}{}{}", info(4), add("./b%20c.parquet"), remove("./spaced.parquet")),
    ];
    for (version, text) in (0..).zip(&commits) {
        put(&store, version, text.clone()).await;
    }
    for known in 0..4 {
        let root = Path::from("t");
        let known = load(&store, &root, Some(known)).await.unwrap();
        let mut expected = snapshot(&store).await.unwrap();
        for file in expected.files.values_mut() {
            let file = Arc::make_mut(file);
            file.added_in = file.added_in.filter(|version| *version > known.version);
        }
        assert_eq!(resumed(&store, &known).await, expected, "known up to {}", known.version);
    }
    assert_eq!(snapshot(&store).await.unwrap().duplicates.len(), 2, "two spellings alive, and one that was removed by another");
    // Replayed from what was read, too.
    let read = read_log(&store, &Path::from("t"), Some(2)).await.unwrap();
    assert_eq!(read.version(), Some(2));
    assert_eq!(read.snapshot().unwrap(), load(&store, &Path::from("t"), Some(2)).await.unwrap());
}

#[tokio::test]
async fn typed_statistics_and_damage_are_replayed_from_the_beginning() {
    let store = InMemory::new();
    let typed = add("a.parquet").replace("\"size\"", "\"stats\":\"{}\",\"stats_parsed\":{\"numRecords\":1},\"size\"");
    put(&store, 0, format!("{META}{typed}")).await;
    let known = snapshot(&store).await.unwrap();
    assert_eq!(resumed(&store, &known).await.typed.len(), 1, "what readers may prune by is told");
    put(&store, 1, "{\"txn\":").await;
    let LoadedLog::Commits(commits) = read_log(&store, &Path::from("t"), None).await.unwrap() else { panic!("two commits are there") };
    let error = commits.snapshot_after(2, known.files.values().cloned(), known.tombstones.clone()).unwrap_err();
    assert!(error.to_string().contains("commit: 1") && error.to_string().contains("line: 1"), "{error}");
    // What does not begin with commit 0 is read as ever.
    store.delete(&Path::from("t/_delta_log/00000000000000000000.json")).await.unwrap();
    assert_eq!(read_log(&store, &Path::from("t"), None).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(read_log(&store, &Path::from("t"), Some(7)).await.unwrap_err().kind(), ErrorKind::NotFound);
}

const FIRST: &str = "t/_delta_log/00000000000000000003.checkpoint.0a0a0a0a-7026-4e79-81be-64bd76c43a11.json";
const SECOND: &str = "t/_delta_log/00000000000000000003.checkpoint.f0f0f0f0-7026-4e79-81be-64bd76c43a11.json";

/// What two checkpoints of one version, in a log without the commits before, are found to say.
async fn twins(first: &str, second: &str) -> Vec<String> {
    let store = InMemory::new();
    store.put(&Path::from(FIRST), first.to_owned().into()).await.unwrap();
    store.put(&Path::from(SECOND), second.to_owned().into()).await.unwrap();
    put(&store, 4, add("c.parquet")).await;
    let root = Path::from("t");
    let found = check_checkpoints(&store, &root, 4).await.unwrap();
    assert!(found.iter().all(|f| f.version == 3 && f.checkpoint == Path::from(SECOND)), "{found:?}");
    let judged = judged_checkpoint(&store, &root).await;
    match judged {
        Ok(judged) => assert!(found.is_empty() && judged.into_iter().eq([Path::from(FIRST)]), "{found:?}"),
        Err(error) => assert!(!found.is_empty() && error.kind() == ErrorKind::Mismatch, "{error}"),
    }
    found.into_iter().map(|f| f.detail).collect()
}

#[tokio::test]
async fn checkpoints_of_one_version_must_say_the_same_where_no_commits_do() {
    let honest = format!("{META}{}{}", add("a.parquet"), add("b.parquet"));
    let reordered = format!("{}{META}{}{}", add("b.parquet"), remove("z.parquet"), add("a.parquet"));
    assert_eq!(twins(&honest, &reordered).await, [""; 0]);
    assert_eq!(twins(&honest, &format!("{META}{}", add("a.parquet"))).await, ["it lacks the live file b.parquet"]);
    assert_eq!(twins(&honest, &format!("{honest}{}", add("d.parquet"))).await, ["it adds the file d.parquet"]);
    let other = honest.replace("\"configuration\":{}", "\"configuration\":{\"delta.appendOnly\":\"true\"}");
    assert_eq!(twins(&honest, &other).await, ["its metaData differs"]);
    assert_eq!(twins(&other, &honest).await, ["its metaData differs"]);
    assert_eq!(twins(&honest, "{\"add\":").await.len(), 1);

    let with = |text: &str, version: u32| format!("{text}{{\"txn\":{{\"appId\":\"stream\",\"version\":{version}}}}}\n");
    for (one, two) in [(with(&honest, 7), honest.clone()), (honest.clone(), with(&honest, 7)), (with(&honest, 7), with(&honest, 8))] {
        assert_eq!(twins(&one, &two).await, ["its transaction stream differs"]);
    }
    // Where transactions expire, one may have been written later than the other.
    let expire = honest.replace("\"configuration\":{}", "\"configuration\":{\"delta.setTransactionRetentionDuration\":\"interval 1 day\"}");
    assert_eq!(twins(&with(&expire, 7), &expire).await, [""; 0]);
    assert_eq!(twins(&with(&expire, 7), &with(&expire, 8)).await, ["its transaction stream differs"]);
    let domain =
        |value: &str| format!("{honest}{{\"domainMetadata\":{{\"domain\":\"d\",\"configuration\":\"{value}\",\"removed\":false}}}}\n");
    assert_eq!(twins(&domain("1"), &domain("1")).await, [""; 0]);
    assert_eq!(twins(&domain("1"), &domain("2")).await, ["its domain d differs"]);
}

#[tokio::test]
async fn no_checkpoint_speaks_for_a_log_with_all_of_its_commits() {
    let store = InMemory::new();
    let root = Path::from("t");
    assert!(judged_checkpoint(&store, &root).await.unwrap().is_empty());
    put(&store, 0, META).await;
    store.put(&Path::from(FIRST), META.into()).await.unwrap();
    assert!(judged_checkpoint(&store, &root).await.unwrap().is_empty(), "also where the checkpoint is newer than all of them");
}

/// A checkpoint in Parquet of so many rows, each with this path in `add`, and no more.
fn parquet_checkpoint(path: Option<&str>, rows: usize) -> Vec<u8> {
    use arrow::array::{Array as _, ArrayRef, RecordBatch, StringArray, StructArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use parquet::arrow::ArrowWriter;
    use parquet::basic::{Compression, ZstdLevel};
    use parquet::file::properties::WriterProperties;
    let member = Field::new("path", DataType::Utf8, true);
    let paths: ArrayRef = Arc::new(StringArray::from(vec![path; rows]));
    let present = path.is_none().then(|| arrow::buffer::NullBuffer::new_null(rows));
    let add = StructArray::new(vec![member].into(), vec![paths], present);
    let schema = Arc::new(Schema::new(vec![Field::new("add", add.data_type().clone(), true)]));
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(parquet::file::properties::EnabledStatistics::None)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).unwrap();
    writer.write(&RecordBatch::try_new(schema, vec![Arc::new(add)]).unwrap()).unwrap();
    writer.into_inner().unwrap()
}

#[tokio::test]
async fn a_checkpoint_of_few_bytes_cannot_come_to_many() {
    let root = Path::from("t");
    let long = "x".repeat(256 << 10);
    for (what, bytes) in [("rows", parquet_checkpoint(None, 2_000_000)), ("comes to more", parquet_checkpoint(Some(&long), 200))] {
        assert!(bytes.len() < 16 << 10, "{what}: {}", bytes.len());
        let store = InMemory::new();
        put(&store, 0, META).await;
        store.put(&Path::from("t/_delta_log/00000000000000000000.checkpoint.parquet"), bytes.into()).await.unwrap();
        let found = check_checkpoints(&store, &root, 0).await.unwrap();
        assert_eq!(found.len(), 1, "{what}");
        assert!(found[0].detail.contains(what), "{what}: {}", found[0].detail);
    }
    // Rows that say nothing are no damage while they are few.
    let store = InMemory::new();
    put(&store, 0, META).await;
    store.put(&Path::from("t/_delta_log/00000000000000000000.checkpoint.parquet"), parquet_checkpoint(None, 10_000).into()).await.unwrap();
    let found = check_checkpoints(&store, &root, 0).await.unwrap();
    assert!(found.iter().all(|f| f.detail.contains("differs")), "{found:?}");
}

#[tokio::test]
async fn what_readers_would_disagree_about_in_one_commit_is_refused() {
    let (protocol, metadata) = META.trim_end().split_once('\n').unwrap();
    let txn = |version: u32| format!("{{\"txn\":{{\"appId\":\"stream\",\"version\":{version}}}}}\n");
    let domain = |value: u32| format!("{{\"domainMetadata\":{{\"domain\":\"d\",\"configuration\":\"{value}\",\"removed\":false}}}}\n");
    let other = metadata.replace("t-1", "t-2");
    let cases = [
        ("metaData", format!("{other}\n{metadata}\n")),
        ("protocol", format!("{protocol}\n{protocol}\n")),
        ("txn", format!("{}{}", txn(1), txn(2))),
        ("domainMetadata", format!("{}{}", domain(1), domain(2))),
    ];
    for (action, text) in cases {
        let store = InMemory::new();
        put(&store, 0, format!("{META}{}{}", txn(0), domain(0))).await;
        put(&store, 1, format!("{other}\n{protocol}\n{}{}", txn(1), domain(1))).await;
        assert_eq!(snapshot(&store).await.unwrap().table_id, "t-2", "one of each in one commit is what there may be");
        let known = snapshot(&store).await.unwrap();
        put(&store, 2, text).await;
        let error = snapshot(&store).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{action}");
        for part in ["twice", "commit: 2", "line: 2", action] {
            assert!(error.to_string().contains(part), "{action}: {error}");
        }
        let LoadedLog::Commits(commits) = read_log(&store, &Path::from("t"), None).await.unwrap() else { panic!("all are there") };
        let files = known.files.values().cloned();
        assert_eq!(commits.snapshot_after(3, files, known.tombstones.clone()).unwrap_err().kind(), ErrorKind::Corrupt, "{action}");
    }
}
