//! Attacks on log, statistics, footers and folders. Each first shows the wrong answer that a stock reader gives.

use object_store::PutPayload;
use serde_json::Value;

use super::*;

const LOG: &str = "flights/_delta_log/00000000000000000000.json";

/// Two partitions of 500 rows each, put there by deltalake.
async fn partitioned() -> Fixture {
    let lake = LakeStore { name: "test".to_owned(), store: Arc::new(InMemory::new()) };
    let location = Location::in_lake(&lake, "flights").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("flights.parquet");
    std::fs::write(&source, parquet_bytes(&[batch(0..1000)])).unwrap();
    let import = Import { sources: vec![source], partition_by: vec!["carrier".to_owned()], ..Import::default() };
    delta::import(&location, import).await.unwrap();
    let fixture = Fixture { lake, location, key: PrivateKey::generate().unwrap(), _directory: directory };
    fixture.seal().await;
    fixture
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_partition_values_fool_nobody() {
    let fixture = partitioned().await;
    let query = "SELECT COUNT(*) FROM flights WHERE carrier = 'AA'";
    assert_eq!((fixture.stock(query).await, fixture.number(query).await.unwrap()), (500, 500));
    fixture.edit_log(|log| log.replace(r#""partitionValues":{"carrier":"AA"}"#, r#""partitionValues":{"carrier":"UA"}"#)).await;
    assert_eq!(fixture.stock(query).await, 0, "stock readers believe the log");
    assert_eq!(fixture.stock("SELECT COUNT(*) FROM flights").await, 1000);
    names(&fixture.number(query).await.unwrap_err(), &["table: flights", "file: carrier=AA/", "forged"]);
    names(&fixture.number("SELECT COUNT(*) FROM flights").await.unwrap_err(), &["table: flights", "file: carrier=AA/"]);
    let distinct = fixture.session(ReadMode::Latest).await.run("SELECT DISTINCT carrier FROM flights").await;
    names(&distinct.unwrap_err(), &["file: carrier=AA/"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_statistics_name_the_file() {
    for (what, forged, query, wrong) in [
        ("\\\"numRecords\\\":4000", "\\\"numRecords\\\":10", "SELECT COUNT(*) FROM flights", 10),
        ("\\\"id\\\":3999", "\\\"id\\\":1000", "SELECT COUNT(*) FROM flights WHERE id = 3000", 0),
        ("\\\"delay\\\":59.0", "\\\"delay\\\":3.0", "SELECT COUNT(*) FROM flights WHERE delay > 50", 0),
    ] {
        let fixture = Fixture::sealed().await;
        fixture.edit_log(|log| log.replace(what, forged)).await;
        assert_eq!(fixture.stock(query).await, wrong, "stock readers believe the log");
        let file = fixture.data_file().await;
        names(&fixture.number(query).await.unwrap_err(), &["table: flights", file.filename().unwrap(), "forged"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_footer_statistics_fool_nobody() {
    let fixture = Fixture::sealed().await;
    let path = fixture.data_file().await;
    let mut bytes = fixture.get(&path).await.to_vec();
    let metadata = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes.clone())).unwrap().metadata().clone();
    let (start, length) = metadata.row_group(3).column(2).byte_range();
    let pages_end = usize::try_from(start + length).unwrap();
    // The largest id of the last row group, in statistics and page index alike, becomes smaller.
    let (old, new) = (3999_i64.to_le_bytes(), 3001_i64.to_le_bytes());
    let places: Vec<usize> = (pages_end..bytes.len() - 8).filter(|at| bytes[*at..at + 8] == old).collect();
    assert!(places.len() >= 2, "the attack must change something");
    places.iter().for_each(|at| bytes[*at..at + 8].copy_from_slice(&new));
    fixture.lake.store.put(&path, bytes.into()).await.unwrap();

    let query = "SELECT COUNT(*) FROM flights WHERE id = 3500";
    assert_eq!(fixture.stock(query).await, 0, "stock readers skip the row group");
    names(&fixture.number(query).await.unwrap_err(), &["table: flights", path.filename().unwrap(), "footer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_under_two_spellings_is_not_counted_twice() {
    let fixture = Fixture::sealed().await;
    let alias = |log: String| {
        let add = log.lines().find(|line| line.starts_with("{\"add\"")).unwrap().to_owned();
        let mut action: Value = serde_json::from_str(&add).unwrap();
        let path = action["add"]["path"].as_str().unwrap().to_owned();
        let first = path.as_bytes()[0];
        action["add"]["path"] = Value::String(format!("%{first:02x}{}", &path[1..]));
        format!("{}\n{action}\n", log.trim_end())
    };
    fixture.edit_log(alias).await;
    assert_eq!(fixture.stock("SELECT COUNT(*) FROM flights WHERE id >= 0").await, 8000, "stock readers read the file twice");
    let error = fixture.number("SELECT COUNT(*) FROM flights WHERE id >= 0").await.unwrap_err();
    names(&error, &["table: flights"]);

    // The same in a commit of its own, which no baseline covers.
    let fixture = Fixture::sealed().await;
    let first = String::from_utf8(fixture.get(&Path::from(LOG)).await.to_vec()).unwrap();
    let add = alias(first).lines().last().unwrap().to_owned();
    let later = Path::from("flights/_delta_log/00000000000000000001.json");
    fixture.lake.store.put(&later, PutPayload::from(format!("{add}\n"))).await.unwrap();
    assert_eq!(fixture.stock("SELECT COUNT(*) FROM flights WHERE id >= 0").await, 8000);
    names(&fixture.number("SELECT COUNT(*) FROM flights WHERE id >= 0").await.unwrap_err(), &["table: flights", "file: part-", "doubled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_commit_cannot_forge_the_statistics_of_a_sealed_file() {
    let fixture = Fixture::sealed().await;
    let first = String::from_utf8(fixture.get(&Path::from(LOG)).await.to_vec()).unwrap();
    let add = first.lines().find(|line| line.starts_with("{\"add\"")).unwrap();
    let forged = add.replace("\\\"id\\\":3999", "\\\"id\\\":1000").replace("\\\"numRecords\\\":4000", "\\\"numRecords\\\":10");
    assert_ne!(add, forged);
    let later = Path::from("flights/_delta_log/00000000000000000001.json");
    fixture.lake.store.put(&later, PutPayload::from(format!("{forged}\n"))).await.unwrap();
    for (query, wrong) in [("SELECT COUNT(*) FROM flights WHERE id = 3000", 0), ("SELECT COUNT(*) FROM flights", 10)] {
        assert_eq!(fixture.stock(query).await, wrong, "stock readers believe the log");
        let file = fixture.data_file().await;
        names(&fixture.number(query).await.unwrap_err(), &["table: flights", file.filename().unwrap()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_well_formed_checksum_file_cannot_drop_a_column() {
    let fixture = Fixture::sealed().await;
    let log = String::from_utf8(fixture.get(&Path::from(LOG)).await.to_vec()).unwrap();
    let actions: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |name: &str| actions.iter().find_map(|action| action.get(name)).unwrap().clone();
    let mut metadata = find("metaData");
    let mut schema: Value = serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
    schema["fields"].as_array_mut().unwrap().retain(|field| field["name"] != "carrier");
    metadata["schemaString"] = Value::String(schema.to_string());
    let checksum = serde_json::json!({
        "tableSizeBytes": find("add")["size"], "numFiles": 1, "numMetadata": 1, "numProtocol": 1,
        "metadata": metadata, "protocol": find("protocol"),
    });
    let path = Path::from("flights/_delta_log/00000000000000000000.crc");
    fixture.lake.store.put(&path, checksum.to_string().into()).await.unwrap();
    assert_eq!(fixture.stock_batches("SELECT * FROM flights LIMIT 1").await[0].num_columns(), 2, "stock readers lose the column");
    let found = fixture.session(ReadMode::Latest).await.run("SELECT * FROM flights LIMIT 1").await.unwrap();
    assert_eq!(found[0].num_columns(), 3);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM flights WHERE carrier = 'AA'").await.unwrap(), 2000);
}

/// A folder of two files of two row groups each, without a log.
async fn folder() -> Fixture {
    let lake = LakeStore { name: "test".to_owned(), store: Arc::new(InMemory::new()) };
    let location = Location::in_lake(&lake, "flights").unwrap();
    let fixture = Fixture { lake, location, key: PrivateKey::generate().unwrap(), _directory: tempfile::tempdir().unwrap() };
    for (name, ids) in [("a.parquet", 0..2000), ("b.parquet", 2000..4000)] {
        fixture.lake.store.put(&Path::from(format!("flights/{name}")), parquet_bytes(&[batch(ids)]).into()).await.unwrap();
    }
    fixture.seal().await;
    fixture
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_parquet_is_verified_like_a_table() {
    let fixture = folder().await;
    assert_eq!(fixture.number("SELECT COUNT(*) FROM flights").await.unwrap(), 4000);
    assert_eq!(fixture.number("SELECT SUM(id) FROM flights WHERE carrier = 'UA'").await.unwrap(), 4_000_000);

    // In place, a valid value for another.
    let path = Path::from("flights/b.parquet");
    let mut bytes = fixture.get(&path).await.to_vec();
    let metadata = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes.clone())).unwrap().metadata().clone();
    let (start, length) = metadata.row_group(1).column(1).byte_range();
    bytes[usize::try_from(start + length).unwrap() - 10] ^= 0x01;
    fixture.lake.store.put(&path, bytes.into()).await.unwrap();
    let error = fixture.number("SELECT CAST(SUM(delay) AS BIGINT) FROM flights").await.unwrap_err();
    names(&error, &["table: flights", "file: b.parquet", "row group: 1", "column: delay"]);

    // Written anew, valid in itself, of another size.
    let fixture = folder().await;
    fixture.lake.store.put(&path, parquet_bytes(&[batch(2000..3999)]).into()).await.unwrap();
    let error = fixture.number("SELECT COUNT(*) FROM flights").await.unwrap_err();
    names(&error, &["table: flights", "file: b.parquet", "row group: 1"]);

    // Gone.
    let fixture = folder().await;
    fixture.lake.store.delete(&path).await.unwrap();
    names(&fixture.number("SELECT COUNT(*) FROM flights").await.unwrap_err(), &["table: flights", "file: b.parquet"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_put_into_a_sealed_folder_is_noted_or_left_out() {
    let fixture = folder().await;
    fixture.lake.store.put(&Path::from("flights/c.parquet"), parquet_bytes(&[batch(0..10)]).into()).await.unwrap();
    let count = |batches: Vec<RecordBatch>| batches[0].column(0).as_primitive::<Int64Type>().value(0);
    let sealed = fixture.session(ReadMode::Sealed).await;
    assert_eq!(count(sealed.run("SELECT COUNT(*) FROM flights").await.unwrap()), 4000);
    let latest = fixture.session(ReadMode::Latest).await;
    assert_eq!(count(latest.run("SELECT COUNT(*) FROM flights").await.unwrap()), 4010);
    assert!(latest.notes().iter().any(|note| note.contains("not covered")), "{:?}", latest.notes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_group_encoded_anew_is_placed_in_a_scan() {
    // The log is left alone and the file has its old size: only the data says that something happened.
    let fixture = Fixture::sealed().await;
    let path = fixture.data_file().await;
    let size = fixture.get(&path).await.len();
    let all = batch(0..4000);
    let mut ids: Vec<i64> = all.column(0).as_primitive::<Int64Type>().values().to_vec();
    ids[2500] = 2501;
    let columns = vec![Arc::new(Int64Array::from(ids)) as Arc<dyn Array>, all.column(1).clone(), all.column(2).clone()];
    let changed = parquet_bytes(&[RecordBatch::try_new(all.schema(), columns).unwrap()]);
    assert_eq!(changed.len(), size, "the attack keeps the size");
    fixture.lake.store.put(&path, changed.into()).await.unwrap();
    let query = "SELECT COUNT(*) FROM flights WHERE id = 2501";
    assert_eq!(fixture.stock(query).await, 2, "stock readers notice nothing");
    names(&fixture.number(query).await.unwrap_err(), &["table: flights", path.filename().unwrap(), "row group: 2", "column: id"]);
    names(&fixture.number("SELECT MAX(id) FROM flights").await.unwrap_err(), &["row group: 2", "column: id"]);
}

/// A folder of Parquet of these files, sealed.
async fn sealed_folder(files: &[(&str, Range<i64>)]) -> Fixture {
    let lake = LakeStore { name: "test".to_owned(), store: Arc::new(InMemory::new()) };
    let location = Location::in_lake(&lake, "flights").unwrap();
    let fixture = Fixture { lake, location, key: PrivateKey::generate().unwrap(), _directory: tempfile::tempdir().unwrap() };
    for (name, ids) in files {
        fixture.lake.store.put(&Path::from(format!("flights/{name}")), parquet_bytes(&[batch(ids.clone())]).into()).await.unwrap();
    }
    fixture.seal().await;
    fixture
}

async fn counted(fixture: &Fixture, mode: ReadMode) -> Result<i64, Error> {
    let batches = fixture.session(mode).await.run("SELECT COUNT(*), SUM(id) FROM flights").await?;
    Ok(batches[0].column(0).as_primitive::<Int64Type>().value(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_a_dropped_file_does_not_make_sealed_files_vanish() {
    let partitioned = [("label=0/a.parquet", 0..2000), ("label=1/b.parquet", 2000..4000)];
    let plain = [("a.parquet", 0..2000), ("b.parquet", 2000..4000)];
    for (files, dropped) in [(&partitioned, "label=1/x=2/new.parquet"), (&plain, "aaa=1/new.parquet")] {
        for bytes in [parquet_bytes(&[batch(9000..9010)]), Vec::new()] {
            let fixture = sealed_folder(files).await;
            // An empty file is no Parquet, and is left out.
            let new = if bytes.is_empty() { 0 } else { 10 };
            fixture.lake.store.put(&Path::from(format!("flights/{dropped}")), bytes.into()).await.unwrap();
            assert_eq!(counted(&fixture, ReadMode::Sealed).await.unwrap(), 4000, "{dropped}");
            assert_eq!(counted(&fixture, ReadMode::Latest).await.unwrap(), 4000 + new, "{dropped}");
        }
    }
    // One that engines would leave out without a word is left out with one: whoever may drop files must not keep others from reading.
    let fixture = sealed_folder(&partitioned).await;
    fixture.lake.store.put(&Path::from("flights/elsewhere/new.parquet"), parquet_bytes(&[batch(9000..9010)]).into()).await.unwrap();
    assert_eq!(counted(&fixture, ReadMode::Sealed).await.unwrap(), 4000);
    let latest = fixture.session(ReadMode::Latest).await;
    let batches = latest.run("SELECT COUNT(*) FROM flights").await.unwrap();
    assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), 4000);
    assert!(latest.notes().iter().any(|note| note.contains("elsewhere/new.parquet is left out")), "{:?}", latest.notes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_file_that_does_not_fit_keeps_nobody_from_reading_a_folder() {
    let other_type = RecordBatch::try_from_iter([("id", Arc::new(StringArray::from(vec!["x"])) as Arc<dyn Array>)]).unwrap();
    let truncated = parquet_bytes(&[batch(0..10)]);
    let truncated = truncated[..truncated.len() - 3].to_vec();
    let mut false_footer = parquet_bytes(&[batch(0..10)]);
    let length = false_footer.len() - 8;
    false_footer[length..length + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    for (dropped, why) in [
        (b"x".to_vec(), "not Parquet"),
        (b"not Parquet at all, but longer than a footer".to_vec(), "not Parquet"),
        (Vec::new(), "not Parquet"),
        (truncated, "not Parquet"),
        (false_footer, "not Parquet"),
        (parquet_bytes(&[other_type]), "its column id"),
    ] {
        let fixture = sealed_folder(&[("a.parquet", 0..2000), ("b.parquet", 2000..4000)]).await;
        fixture.lake.store.put(&Path::from("flights/0.parquet"), dropped.into()).await.unwrap();
        fixture.lake.store.put(&Path::from("flights/new.parquet"), parquet_bytes(&[batch(9000..9010)]).into()).await.unwrap();
        assert_eq!(counted(&fixture, ReadMode::Sealed).await.unwrap(), 4000, "{why}");
        assert_eq!(counted(&fixture, ReadMode::Latest).await.unwrap(), 4010, "{why}: the other file is read");
        let latest = fixture.session(ReadMode::Latest).await;
        latest.run("SELECT MIN(delay) FROM flights WHERE carrier = 'AA'").await.unwrap();
        let noted = |note: &&String| note.contains("0.parquet is left out") && note.contains(why);
        assert_eq!(latest.notes().iter().filter(noted).count(), 1, "{why}: {:?}", latest.notes());
        // A sealed file that is damaged is still a difference, and not left out.
        fixture.lake.store.put(&Path::from("flights/a.parquet"), "junk".into()).await.unwrap();
        assert!(counted(&fixture, ReadMode::Latest).await.is_err(), "{why}");
    }
    // Columns that nobody sealed are not shown, and that is said.
    let fixture = sealed_folder(&[("a.parquet", 0..2000), ("b.parquet", 2000..4000)]).await;
    let (more, note) = (batch(9000..9010), Arc::new(StringArray::from(vec!["x"; 10])) as Arc<dyn Array>);
    let mut columns: Vec<_> = more.schema().fields().iter().map(|field| field.name().clone()).zip(more.columns().to_vec()).collect();
    columns.push(("note".to_owned(), note));
    let more = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap();
    fixture.lake.store.put(&Path::from("flights/new.parquet"), parquet_bytes(&[more]).into()).await.unwrap();
    let latest = fixture.session(ReadMode::Latest).await;
    let batches = latest.run("SELECT * FROM flights WHERE id >= 9000").await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 10);
    assert_eq!(batches[0].num_columns(), 3);
    assert!(
        latest.notes().iter().any(|note| note.contains("columns that no sealed file has") && note.contains("note")),
        "{:?}",
        latest.notes()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn all_files_of_a_folder_are_queried_or_none() {
    let fixture = sealed_folder(&[("a.parquet", 0..1000), ("2024/b.parquet", 1000..3000), ("2024/deep/c.parquet", 3000..4000)]).await;
    for mode in [ReadMode::Latest, ReadMode::Sealed] {
        assert_eq!(counted(&fixture, mode).await.unwrap(), 4000);
    }
    // A file beside partitions has no value for them: DataFusion would leave it out without a word.
    let mixed = sealed_folder(&[("a.parquet", 0..1000), ("label=1/b.parquet", 1000..3000)]).await;
    for mode in [ReadMode::Latest, ReadMode::Sealed] {
        let error = counted(&mixed, mode).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("file: a.parquet"), "{error}");
    }
}
