//! `poison_diff`: every changed row is named with its sealed and its found values, and nothing else is read or said.

use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Int64Builder, ListBuilder, StructArray};
use arrow::util::display::array_value_to_string;
use async_trait::async_trait;
use futures::stream::BoxStream;
use lakeseal::clock::{Clock, ManualClock, SharedClock};
use lakeseal::lake::testing::memory_lake;
use lakeseal::store::{ErasureStore, Profile};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions,
};
use serde_json::{Value, json};

use super::*;

/// Counts the bytes of data files that are asked for.
#[derive(Debug)]
struct Counting {
    inner: Arc<dyn ObjectStore>,
    bytes: Arc<AtomicU64>,
}

impl std::fmt::Display for Counting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "counting {}", self.inner)
    }
}

impl Counting {
    fn count(&self, path: &Path, bytes: u64) {
        if !path.as_ref().contains("/_") {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

#[async_trait]
impl ObjectStore for Counting {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        self.inner.put_opts(path, payload, options).await
    }
    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }
    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let head = options.head;
        let result = self.inner.get_opts(path, options).await?;
        if !head {
            self.count(path, result.range.end - result.range.start);
        }
        Ok(result)
    }
    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        self.count(path, ranges.iter().map(|range| range.end - range.start).sum());
        self.inner.get_ranges(path, ranges).await
    }
    fn delete_stream(&self, paths: BoxStream<'static, object_store::Result<Path>>) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(paths)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> object_store::Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

/// A lake of three regions, whose objects keep their versions, and a count of the bytes read of data files.
pub(super) fn erasure_lake() -> (LakeStore, Arc<AtomicU64>) {
    let (regions, writer, _) = memory_lake(2, 1, 3).unwrap();
    let profile = Profile::new(2, 1);
    let store = ErasureStore::new(regions, profile, Some(Arc::new(writer)), Arc::new(SystemClock)).unwrap();
    let bytes = Arc::new(AtomicU64::new(0));
    (LakeStore { name: "test".to_owned(), store: Arc::new(Counting { inner: Arc::new(store), bytes: bytes.clone() }) }, bytes)
}

/// A table of 4000 rows in a file of four row groups, sealed.
pub(super) async fn sealed_in(lake: LakeStore) -> Fixture {
    let fixture = unsealed_in(lake).await;
    fixture.seal().await;
    fixture
}

async fn unsealed_in(lake: LakeStore) -> Fixture {
    let location = Location::in_lake(&lake, "flights").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("flights.parquet");
    std::fs::write(&source, parquet_bytes(&[batch(0..4000)])).unwrap();
    delta::import(&location, Import { sources: vec![source], ..Import::default() }).await.unwrap();
    let fixture = Fixture { lake, location, key: PrivateKey::generate().unwrap(), _directory: directory };
    fixture.rewrite(&parquet_bytes(&[batch(0..4000)])).await;
    fixture
}

impl Fixture {
    /// The rows of a query as text, cells by `|`; null is empty.
    pub(super) async fn rows(&self, query: &str) -> Vec<String> {
        text_rows(&self.session(ReadMode::Latest).await.run(query).await.unwrap())
    }
}

pub(super) fn text_rows(batches: &[RecordBatch]) -> Vec<String> {
    let row = |batch: &RecordBatch, at: usize| {
        batch.columns().iter().map(|column| array_value_to_string(column, at).unwrap()).collect::<Vec<_>>().join("|")
    };
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |at| row(batch, at))).collect()
}

/// The same rows with some delays replaced.
pub(super) fn with_delays(all: &RecordBatch, changes: &[(usize, f64)]) -> RecordBatch {
    let mut delay: Vec<f64> = all.column(1).as_primitive::<arrow::datatypes::Float64Type>().values().to_vec();
    changes.iter().for_each(|(row, value)| delay[*row] = *value);
    let columns = vec![all.column(0).clone(), Arc::new(Float64Array::from(delay)) as Arc<dyn Array>, all.column(2).clone()];
    RecordBatch::try_new(all.schema(), columns).unwrap()
}

const CHANGED: &str =
    "SELECT kind, row_group, row, \"column\", sealed, found, baseline FROM poison_diff('flights') ORDER BY row_group, row";

#[tokio::test(flavor = "multi_thread")]
async fn overwritten_values_are_shown_beside_the_sealed_ones() {
    let (lake, bytes) = erasure_lake();
    let fixture = sealed_in(lake).await;
    bytes.store(0, Ordering::Relaxed);
    assert_eq!(fixture.rows(CHANGED).await, [""; 0]);
    assert_eq!(bytes.load(Ordering::Relaxed), 0, "an unchanged version is not read");
    // In place: one value of a plain page, then two by a whole new file with another encoding.
    let path = fixture.data_file().await;
    let mut edited = fixture.get(&path).await.to_vec();
    let metadata = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(edited.clone())).unwrap().metadata().clone();
    let (start, length) = metadata.row_group(2).column(1).byte_range();
    let at = usize::try_from(start + length).unwrap() - 8 * 10;
    edited[at..at + 8].copy_from_slice(&77.25_f64.to_le_bytes());
    fixture.lake.store.put(&path, edited.into()).await.unwrap();
    assert_eq!(fixture.rows(CHANGED).await, ["changed|2|990|delay|50.0|77.25|1"]);
    let located = "SELECT file = sealed_file, sealed_row_group, sealed_row, key FROM poison_diff('flights', 'id')";
    assert_eq!(fixture.rows(located).await, ["true|2|990|{\"id\":\"2990\"}"]);

    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(ROWS_PER_GROUP)).build();
    let changed = with_delays(&batch(0..4000), &[(1234, 59.0), (3999, -1.0)]);
    let mut writer = ArrowWriter::try_new(Vec::new(), changed.schema(), Some(properties)).unwrap();
    writer.write(&changed).unwrap();
    fixture.lake.store.put(&path, writer.into_inner().unwrap().into()).await.unwrap();
    assert_eq!(fixture.rows(CHANGED).await, ["changed|1|234|delay|34.0|59.0|1", "changed|3|999|delay|39.0|-1.0|1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_moved_are_not_changed_rows() {
    let (lake, _) = erasure_lake();
    let fixture = sealed_in(lake).await;
    // The first row is taken out, one is put in at the end, and one value is changed: every position holds another row.
    let all = with_delays(&batch(0..4001), &[(2500, 500.0)]).slice(1, 4000);
    fixture.lake.store.put(&fixture.data_file().await, parquet_bytes(&[all]).into()).await.unwrap();
    let query = "SELECT kind, \"column\", sealed, found FROM poison_diff('flights') ORDER BY kind";
    let expected = [
        "added|||{\"id\":\"4000\",\"delay\":\"40.0\",\"carrier\":\"AA\"}",
        "changed|delay|40.0|500.0",
        "removed||{\"id\":\"0\",\"delay\":\"0.0\",\"carrier\":\"AA\"}|",
    ];
    assert_eq!(fixture.rows(query).await, expected);
    assert_eq!(fixture.rows(&query.replace("'flights'", "'flights', 'id'")).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_sealed_bytes_the_place_is_named_and_no_value_is_invented() {
    let fixture = Fixture::sealed().await;
    let changed = with_delays(&batch(0..4000), &[(1234, 59.0)]);
    fixture.lake.store.put(&fixture.data_file().await, parquet_bytes(&[changed]).into()).await.unwrap();
    let found = fixture.rows("SELECT kind, row_group, \"column\", sealed, found, detail FROM poison_diff('flights')").await;
    assert!(!found.is_empty() && found.iter().all(|row| row.starts_with("undetermined|") && row.contains("||")), "{found:?}");
    assert!(found.iter().any(|row| row.contains("the sealed bytes are gone")), "{found:?}");
    fixture.lake.store.delete(&fixture.data_file().await).await.unwrap();
    let found = fixture.rows("SELECT kind, detail FROM poison_diff('flights')").await;
    assert!(matches!(&found[..], [row] if row.starts_with("undetermined|") && row.contains("gone")), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_compared_row_by_row_while_their_files_are_in_history() {
    let fixture = Fixture::sealed().await;
    let session = Arc::new(delta::session([&fixture.location]).unwrap().state());
    let open = async || delta::open(&fixture.location, None).await.unwrap();
    let update = open().await.update().with_session_state(session.clone()).with_predicate("id = 77 OR id = 3100");
    update.with_update("delay", "delay * 10").await.unwrap();
    open().await.delete().with_session_state(session.clone()).with_predicate("id = 5").await.unwrap();
    let optimized = open().await.optimize().with_session_state(session);
    optimized.await.unwrap();
    fixture.session(ReadMode::Latest).await.run("INSERT INTO flights VALUES (9000, 1.5, 'ZZ')").await.unwrap();
    let query = "SELECT kind, \"column\", sealed, found, commit IS NOT NULL FROM poison_diff('flights') ORDER BY kind, sealed";
    let expected = [
        "added|||{\"id\":\"9000\",\"delay\":\"1.5\",\"carrier\":\"ZZ\"}|true",
        "changed|delay|17.0|170.0|true",
        "changed|delay|40.0|400.0|true",
        "removed||{\"id\":\"5\",\"delay\":\"5.0\",\"carrier\":\"UA\"}||false",
    ];
    assert_eq!(fixture.rows(query).await, expected);
    assert_eq!(fixture.rows(&query.replace("'flights'", "'flights', NULL, NULL, 'id'")).await, expected);
    // At the sealed version nothing has changed; after the first commit the two updated rows have.
    assert_eq!(fixture.rows("SELECT kind FROM poison_diff('flights', 1, 0)").await, [""; 0]);
    let keys = "SELECT key, sealed, found FROM poison_diff('flights', 1, 1, 'id') ORDER BY sealed";
    assert_eq!(fixture.rows(keys).await, ["{\"id\":\"77\"}|17.0|170.0", "{\"id\":\"3100\"}|40.0|400.0"]);
    // In joins and aggregates it is a table as any other.
    let joined = "SELECT count(*) FROM poison_diff('flights', 'id') d JOIN flights f ON d.key = concat('{\"id\":\"', f.id, '\"}') WHERE d.kind = 'changed'";
    assert_eq!(fixture.number(joined).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_row_group_among_a_thousand_costs_its_own_bytes() {
    let (lake, bytes) = erasure_lake();
    let location = Location::in_lake(&lake, "flights").unwrap();
    let (files, rows) = (200_i64, 1000_i64);
    let file = |at: i64, change: &[(usize, f64)]| {
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(200)).set_dictionary_enabled(false).build();
        let batch = with_delays(&batch(at * rows..(at + 1) * rows), change);
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    };
    let path = |at: i64| Path::from(format!("flights/part-{at:03}.parquet"));
    for at in 0..files {
        lake.store.put(&path(at), file(at, &[]).into()).await.unwrap();
    }
    let fixture = Fixture { lake, location, key: PrivateKey::generate().unwrap(), _directory: tempfile::tempdir().unwrap() };
    fixture.seal().await;
    let whole = file(77, &[(450, 999.0)]);
    fixture.lake.store.put(&path(77), whole.clone().into()).await.unwrap();
    let groups = fixture.rows("SELECT count(DISTINCT concat(file, row_group)) FROM row_groups('flights')").await;
    assert_eq!(groups, ["1000"]);
    bytes.store(0, Ordering::Relaxed);
    let found = fixture.rows("SELECT file, row_group, row, \"column\", sealed, found FROM poison_diff('flights')").await;
    assert_eq!(found, ["part-077.parquet|2|50|delay|50.0|999.0"]);
    let (read, limit) = (bytes.load(Ordering::Relaxed), 4 * whole.len() as u64);
    println!("one of 1000 row groups changed: {read} bytes of data read, of {} in the table", 200 * whole.len());
    assert!(read > 0 && read < limit, "{read} bytes were read, the changed file has {}", whole.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_partition_values_are_changed_values() {
    let lake = LakeStore { name: "test".to_owned(), store: Arc::new(InMemory::new()) };
    let location = Location::in_lake(&lake, "flights").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("flights.parquet");
    std::fs::write(&source, parquet_bytes(&[batch(0..100)])).unwrap();
    let import = Import { sources: vec![source], partition_by: vec!["carrier".to_owned()], ..Import::default() };
    delta::import(&location, import).await.unwrap();
    let fixture = Fixture { lake, location, key: PrivateKey::generate().unwrap(), _directory: directory };
    fixture.seal().await;
    fixture.edit_log(|log| log.replace(r#""partitionValues":{"carrier":"AA"}"#, r#""partitionValues":{"carrier":"UA"}"#)).await;
    let query = "SELECT kind, \"column\", sealed, found, count(*) FROM poison_diff('flights') GROUP BY 1, 2, 3, 4";
    assert_eq!(fixture.rows(query).await, ["changed|carrier|AA|UA|50"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_compared_is_refused_with_the_reason() {
    let (lake, _) = erasure_lake();
    let fixture = sealed_in(lake).await;
    let error = async |query: &str| fixture.session(ReadMode::Latest).await.run(query).await.unwrap_err().to_string();
    assert!(error("SELECT * FROM poison_diff(flights)").await.contains("poison_diff('flights', 3)"));
    assert!(error("SELECT * FROM poison_diff('flights', 1, 2, 3)").await.contains("poison_diff('flights', 3)"));
    assert!(error("SELECT * FROM poison_diff('flights', 'nothing')").await.contains("no such column"));
    assert!(error("SELECT * FROM poison_diff('flights', 7)").await.contains("no such baseline"));
    assert!(error("SELECT * FROM poison_diff('flights', 1, 9)").await.contains("no such version"));
    assert!(error("SELECT * FROM poison_diff('other')").await.contains("other"));

    // Sealed bytes are not given out beyond their baseline's term.
    let changed = with_delays(&batch(0..4000), &[(1234, 59.0)]);
    fixture.lake.store.put(&fixture.data_file().await, parquet_bytes(&[changed]).into()).await.unwrap();
    let trust = Trust::new([fixture.key.public()], TrustLevel::Given).unwrap();
    let clock: SharedClock = Arc::new(ManualClock::new(SystemClock.now_ms() + 400 * 86_400_000));
    let tables = TableOptions { clock, ..TableOptions::default() };
    let session = SealedSession::new(SessionOptions { lake: Some(fixture.lake.clone()), trust: Some(trust), tables }).await.unwrap();
    let found = text_rows(&session.run("SELECT kind, sealed, detail FROM poison_diff('flights')").await.unwrap());
    assert!(matches!(&found[..], [row] if row.starts_with("undetermined||") && row.contains("expired")), "{found:?}");
}

const NESTED: &str = "flights/nested.parquet";

/// Twenty rows in two row groups: a struct, a flat column whose name looks like a member of it, and a list.
fn nested(extra: bool) -> Vec<u8> {
    let ids = || Int64Array::from_iter_values(0..20);
    let doubled = Int64Array::from_iter_values((0..20).map(|i| i * 2));
    let fields = vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Int64, true)];
    let structs = StructArray::new(fields.into(), vec![Arc::new(ids()), Arc::new(doubled)], None);
    let mut lists = ListBuilder::new(Int64Builder::new());
    (0..20).for_each(|i| lists.append_value([Some(i)]));
    let mut columns: Vec<(&str, Arc<dyn Array>)> =
        vec![("id", Arc::new(ids())), ("s", Arc::new(structs)), ("s.c", Arc::new(ids())), ("tags", Arc::new(lists.finish()))];
    if extra {
        columns.push(("x", Arc::new(ids())));
    }
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let properties = WriterProperties::builder().set_dictionary_enabled(false).set_max_row_group_row_count(Some(10)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// A sealed folder with the file [`NESTED`].
async fn nested_folder(lake: LakeStore) -> Fixture {
    let location = Location::in_lake(&lake, "flights").unwrap();
    lake.store.put(&Path::from(NESTED), nested(false).into()).await.unwrap();
    let fixture = Fixture { lake, location, key: PrivateKey::generate().unwrap(), _directory: tempfile::tempdir().unwrap() };
    fixture.seal().await;
    fixture
}

/// The file with the last value of a leaf of the second row group overwritten in place.
fn overwritten(mut file: Vec<u8>, leaf: usize) -> Vec<u8> {
    let metadata = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file.clone())).unwrap().metadata().clone();
    let (start, length) = metadata.row_group(1).column(leaf).byte_range();
    let end = usize::try_from(start + length).unwrap();
    file[end - 8..end].copy_from_slice(&777_i64.to_le_bytes());
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_values_of_a_folder_are_shown_and_names_with_dots_are_told_apart() {
    let (lake, _) = erasure_lake();
    let fixture = nested_folder(lake).await;
    assert_eq!(fixture.rows(CHANGED).await, [""; 0]);
    for (leaf, expected) in
        [(1, "s|{a: 19, b: 38}|{a: 777, b: 38}"), (2, "s|{a: 19, b: 38}|{a: 19, b: 777}"), (3, "s.c|19|777"), (4, "tags|[19]|[777]")]
    {
        fixture.lake.store.put(&Path::from(NESTED), overwritten(nested(false), leaf).into()).await.unwrap();
        assert_eq!(fixture.rows(CHANGED).await, [format!("changed|1|9|{expected}|1")], "leaf {leaf}");
    }
    let drifted = "SELECT \"column\", sealed_rows, found_rows FROM drift('flights') WHERE scope = 'changed'";
    assert_eq!(fixture.rows(drifted).await, ["tags|1|1"]);
    // A column that was not sealed at all.
    fixture.lake.store.put(&Path::from(NESTED), nested(true).into()).await.unwrap();
    let query = "SELECT kind, \"column\", count(*), count(sealed) FROM poison_diff('flights') GROUP BY 1, 2";
    assert_eq!(fixture.rows(query).await, ["changed|x|20|0"]);

    // Without the sealed bytes, the column is named all the same.
    let fixture = nested_folder(LakeStore { name: "test".to_owned(), store: Arc::new(InMemory::new()) }).await;
    fixture.lake.store.put(&Path::from(NESTED), overwritten(nested(false), 1).into()).await.unwrap();
    assert_eq!(fixture.rows(CHANGED).await, ["undetermined|1||s|||1"]);
}

const VECTOR: &str = "flights/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin";

/// A file with one deletion vector, at offset 1, and the size of its bitmap.
fn vector_file(positions: impl Iterator<Item = u64>) -> (Vec<u8>, usize) {
    let mut bitmap = 1_681_511_377_u32.to_le_bytes().to_vec();
    positions.collect::<roaring::RoaringTreemap>().serialize_into(&mut bitmap).unwrap();
    let size = u32::try_from(bitmap.len()).unwrap();
    let crc = crc32fast::hash(&bitmap).to_be_bytes();
    ([&[1][..], &size.to_be_bytes(), &bitmap, &crc].concat(), bitmap.len())
}

/// A sealed table of 4000 rows of which a stored deletion vector deletes the first ten.
async fn with_vector(lake: LakeStore) -> Fixture {
    let fixture = unsealed_in(lake).await;
    let (file, size) = vector_file(0..10);
    fixture.lake.store.put(&Path::from(VECTOR), file.into()).await.unwrap();
    let id = z85::encode(uuid::Uuid::parse_str("d2c639aa-8816-431a-aaf6-d3fe2512ff61").unwrap().as_bytes());
    let vector = json!({"storageType": "u", "pathOrInlineDv": id, "offset": 1, "sizeInBytes": size, "cardinality": 10});
    let features = json!(["deletionVectors"]);
    let edited = |line: &str| {
        let mut action: Value = serde_json::from_str(line).unwrap();
        if let Some(add) = action.get_mut("add") {
            add["deletionVector"] = vector.clone();
        }
        if let Some(protocol) = action.get_mut("protocol") {
            *protocol = json!({"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features});
        }
        format!("{action}\n")
    };
    fixture.edit_log(|log| log.lines().map(edited).collect()).await;
    fixture.seal().await;
    fixture
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_an_edited_deletion_vector_brings_back_or_takes_are_shown() {
    let (lake, bytes) = erasure_lake();
    let fixture = with_vector(lake).await;
    bytes.store(0, Ordering::Relaxed);
    assert_eq!(fixture.rows(CHANGED).await, [""; 0]);
    let (sealed, _) = vector_file(0..10);
    assert_eq!(bytes.load(Ordering::Relaxed), sealed.len() as u64, "the vector is read once, the unchanged file is not");
    // Five rows are back and five others are gone: the number that the log states still holds, and the checksum is right.
    let (edited, _) = vector_file((5..10).chain(1500..1505));
    assert_eq!(edited.len(), sealed.len());
    fixture.lake.store.put(&Path::from(VECTOR), edited.into()).await.unwrap();
    let query = "SELECT kind, row_group, row, sealed, found FROM poison_diff('flights') ORDER BY 1, 2, 3";
    let values =
        |id: i64| format!("{{\"id\":\"{id}\",\"delay\":\"{}.0\",\"carrier\":\"{}\"}}", id % 60, if id % 2 == 0 { "AA" } else { "UA" });
    let back = (0..5).map(|id| format!("added|0|{id}||{}", values(id)));
    let expected: Vec<String> = back.chain((1500..1505).map(|id| format!("removed|1|{}|{}|", id - 1000, values(id)))).collect();
    assert_eq!(fixture.rows(query).await, expected);
    assert_eq!(fixture.rows(&query.replace("'flights'", "'flights', 'id'")).await, expected);
    // A key that says that a row which is gone is one which is back makes them one changed row.
    assert_eq!(fixture.rows("SELECT DISTINCT kind FROM poison_diff('flights', 'carrier')").await, ["changed"]);
    let scopes = "SELECT DISTINCT scope, found_rows FROM drift('flights') WHERE scope NOT IN ('table', 'row_group') ORDER BY 1";
    assert_eq!(fixture.rows(scopes).await, ["added|5", "removed|5"]);

    // Beside it, a value of a row that is in neither, in one of these row groups and in another.
    let path = fixture.data_file().await;
    let mut file = fixture.get(&path).await.to_vec();
    let metadata = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file.clone())).unwrap().metadata().clone();
    for group in [1, 2] {
        let (start, length) = metadata.row_group(group).column(1).byte_range();
        let at = usize::try_from(start + length).unwrap() - 8 * 10;
        file[at..at + 8].copy_from_slice(&77.25_f64.to_le_bytes());
    }
    fixture.lake.store.put(&path, file.into()).await.unwrap();
    assert_eq!(
        fixture.rows(&CHANGED.replace(" ORDER", " WHERE kind = 'changed' ORDER")).await,
        ["changed|1|990|delay|10.0|77.25|1", "changed|2|990|delay|50.0|77.25|1"]
    );
    let kinds = "SELECT kind, count(*) FROM poison_diff('flights') GROUP BY 1 ORDER BY 1";
    assert_eq!(fixture.rows(kinds).await, ["added|5", "changed|2", "removed|5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_deletion_vector_whose_sealed_bytes_are_gone_is_not_passed_over() {
    let plain = || LakeStore { name: "test".to_owned(), store: Arc::new(InMemory::new()) };
    let query = "SELECT kind, detail FROM poison_diff('flights')";
    let fixture = with_vector(plain()).await;
    assert_eq!(fixture.rows(query).await, [""; 0]);
    let (mut edited, _) = vector_file(100..110);
    for (file, why) in [(Some(edited.clone()), "the sealed deletion vector is gone"), (None, "cannot be told")] {
        let refused = match file {
            Some(file) => {
                fixture.lake.store.put(&Path::from(VECTOR), file.into()).await.unwrap();
                "the file of a deletion vector is not the one that was sealed"
            }
            None => {
                fixture.lake.store.delete(&Path::from(VECTOR)).await.unwrap();
                "the file of a sealed deletion vector is missing"
            }
        };
        names(&fixture.number("SELECT SUM(id) FROM flights").await.unwrap_err(), &[refused]);
        let found = fixture.rows(query).await;
        assert!(matches!(&found[..], [row] if row.starts_with("undetermined|") && row.contains(why)), "{found:?}");
    }
    // One that does not decode, in a lake that retains the sealed one.
    let (lake, _) = erasure_lake();
    let fixture = with_vector(lake).await;
    *edited.last_mut().unwrap() ^= 1;
    fixture.lake.store.put(&Path::from(VECTOR), edited.into()).await.unwrap();
    let found = fixture.rows(query).await;
    assert!(matches!(&found[..], [row] if row.starts_with("undetermined|") && row.contains("checksum")), "{found:?}");
}

/// Destroys the header of the first page of a column chunk.
fn without_page(mut file: Vec<u8>, group: usize, column: usize) -> Vec<u8> {
    let metadata = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file.clone())).unwrap().metadata().clone();
    let start = usize::try_from(metadata.row_group(group).column(column).byte_range().0).unwrap();
    file[start..start + 8].fill(0xff);
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_not_removed_because_what_is_there_cannot_be_read() {
    let (lake, _) = erasure_lake();
    let fixture = sealed_in(lake).await;
    let old = fixture.data_file().await;
    let session = Arc::new(delta::session([&fixture.location]).unwrap().state());
    let table = delta::open(&fixture.location, None).await.unwrap();
    table.delete().with_session_state(session).with_predicate("id = 5").await.unwrap();
    let all: Vec<_> = fixture.lake.store.list(Some(fixture.location.root())).try_collect().await.unwrap();
    let data = |path: &Path| !path.as_ref().contains("/_") && path.as_ref().ends_with(".parquet") && *path != old;
    let new = all.into_iter().find(|meta| data(&meta.location)).unwrap().location;
    assert_eq!(fixture.rows("SELECT kind, count(*) FROM poison_diff('flights') GROUP BY 1").await, ["removed|1"]);

    // Nothing of the new file can be read.
    let mut broken = fixture.get(&new).await.to_vec();
    let end = broken.len();
    broken[end - 12..].fill(0);
    fixture.lake.store.put(&new, broken.into()).await.unwrap();
    let name = |path: &Path| path.filename().unwrap().to_owned();
    let mut expected = [format!("undetermined|{}|", name(&old)), format!("undetermined|{}|", name(&new))];
    expected.sort();
    assert_eq!(fixture.rows("SELECT kind, file, sealed FROM poison_diff('flights') ORDER BY file").await, expected);
    assert_eq!(fixture.rows("SELECT 1 FROM drift('flights') WHERE scope = 'removed'").await, [""; 0]);

    // A row group of it cannot: what it may hold is not gone. One other row has another value.
    let content = [batch(0..5), with_delays(&batch(6..4000), &[(3494, 500.0)])];
    fixture.lake.store.put(&new, without_page(parquet_bytes(&content), 2, 0).into()).await.unwrap();
    let kinds = "SELECT kind, count(*) FROM poison_diff('flights') GROUP BY 1 ORDER BY 1";
    // The row group, its thousand rows, row 5, and row 3500, which may be there beside the one that is like it.
    assert_eq!(fixture.rows(kinds).await, ["added|1", "undetermined|1003"]);
    assert_eq!(fixture.rows(&kinds.replace("'flights'", "'flights', 'id'")).await, ["changed|1", "undetermined|1002"]);
    let sealed = "SELECT count(*) FROM poison_diff('flights') WHERE sealed LIKE '%\"id\":\"5\"%' AND detail LIKE 'not all of the rows%'";
    assert_eq!(fixture.number(sealed).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_may_have_moved_into_an_unreadable_row_group_are_neither_removed_nor_added() {
    let (lake, _) = erasure_lake();
    let fixture = sealed_in(lake).await;
    let moved = without_page(parquet_bytes(&[batch(0..4001).slice(1, 4000)]), 2, 0);
    fixture.lake.store.put(&fixture.data_file().await, moved.into()).await.unwrap();
    // The three columns of the row group, and the first and the last row of what can be read before it and behind it.
    let kinds = "SELECT kind, count(*), count(sealed), count(found) FROM poison_diff('flights') GROUP BY 1";
    let all = fixture.rows("SELECT * FROM poison_diff('flights')").await.join("\n");
    assert_eq!(fixture.rows(kinds).await, ["undetermined|7|2|2"], "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_look_at_the_table_that_a_query_of_the_name_reads() {
    let mut honest = Fixture::unsealed().await;
    let (lake, _) = erasure_lake();
    let damaged = sealed_in(lake).await;
    honest.key = damaged.key.clone();
    honest.seal().await;
    let path = damaged.data_file().await;
    let changed = with_delays(&batch(0..4000), &[(1234, 59.0)]);
    damaged.lake.store.put(&path, parquet_bytes(&[changed]).into()).await.unwrap();

    let session = honest.session(ReadMode::Latest).await;
    let rows = async |query: &str| text_rows(&session.run(query).await.unwrap());
    let bad = "SELECT DISTINCT file FROM audit('flights') WHERE verdict <> 'intact'";
    let files = "SELECT DISTINCT file FROM row_groups('flights')";
    let digest = "SELECT digest FROM baselines('flights')";
    let diff = "SELECT kind, row_group, row, \"column\", sealed, found, baseline FROM poison_diff('flights')";
    let drift = "SELECT \"column\" FROM drift('flights') WHERE scope = 'changed'";
    let of_the_lake = (rows(files).await, rows(digest).await);
    assert_eq!((rows(bad).await, rows(diff).await, rows(drift).await), (vec![], vec![], vec![]));

    // The lake has a table of this name, and so has the session.
    session.register("flights", &damaged.location).await.unwrap();
    let name = path.filename().unwrap().to_owned();
    assert_eq!((rows(bad).await, rows(files).await), (vec![name.clone()], vec![name]));
    assert_eq!(rows(digest).await, damaged.rows(digest).await);
    assert_eq!(rows(diff).await, ["changed|1|234|delay|34.0|59.0|1"]);
    assert_eq!(rows(drift).await, ["delay"]);

    // Once the session has it no more, both mean the lake's.
    session.run("DROP TABLE flights").await.unwrap();
    assert_eq!(rows("SELECT COUNT(*) FROM flights").await, ["4000"]);
    assert_eq!((rows(files).await, rows(digest).await), of_the_lake);
    assert_eq!((rows(bad).await, rows(diff).await), (vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_none_of_the_table_s_columns_is_a_file_of_nulls() {
    let (lake, _) = erasure_lake();
    let fixture = sealed_in(lake).await;
    let other = RecordBatch::try_from_iter([("x", Arc::new(Int64Array::from_iter_values(0..4000)) as Arc<dyn Array>)]).unwrap();
    fixture.lake.store.put(&fixture.data_file().await, parquet_bytes(&[other]).into()).await.unwrap();
    let query = "SELECT kind, count(DISTINCT concat(row_group, '-', row)), count(*), count(sealed), count(found) FROM poison_diff('flights') GROUP BY kind";
    assert_eq!(fixture.rows(query).await, ["changed|4000|12000|12000|0"]);
    let keyed = "SELECT kind, count(*) FROM poison_diff('flights', 'id') GROUP BY kind ORDER BY kind";
    assert_eq!(fixture.rows(keyed).await, ["added|4000", "removed|4000"]);
    let drift = "SELECT \"column\", null_shift, alert FROM drift('flights') WHERE scope = 'table' ORDER BY 1";
    assert_eq!(fixture.rows(drift).await, ["carrier|1.0|true", "delay|1.0|true", "id|1.0|true"]);
    let places = "SELECT scope, count(*), count(*) FILTER (WHERE alert) FROM drift('flights') WHERE scope IN ('changed', 'row_group') GROUP BY 1 ORDER BY 1";
    assert_eq!(fixture.rows(places).await, ["changed|3|3", "row_group|12|12"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_later_files_have_is_no_drift_of_older_ones() {
    let lake = LakeStore { name: "test".to_owned(), store: Arc::new(InMemory::new()) };
    let location = Location::in_lake(&lake, "flights").unwrap();
    let extra: Arc<dyn Array> = Arc::new(Int64Array::from_iter_values(0..1000));
    let older = batch(0..1000);
    let schema = older.schema();
    let columns = schema.fields().iter().map(|field| field.name().clone()).zip(older.columns().iter().cloned());
    let later = RecordBatch::try_from_iter(columns.chain([("extra".to_owned(), extra)])).unwrap();
    for (name, rows) in [("a", &older), ("b", &later)] {
        lake.store.put(&Path::from(format!("flights/{name}.parquet")), parquet_bytes(std::slice::from_ref(rows)).into()).await.unwrap();
    }
    let fixture = Fixture { lake, location, key: PrivateKey::generate().unwrap(), _directory: tempfile::tempdir().unwrap() };
    fixture.seal().await;
    let changed = with_delays(&older, &[(7, 8.0)]);
    fixture.lake.store.put(&Path::from("flights/a.parquet"), parquet_bytes(&[changed]).into()).await.unwrap();
    let query = "SELECT scope, \"column\", sealed_nulls, found_nulls FROM drift('flights') WHERE \"column\" = 'extra' OR (alert AND scope = 'table')";
    assert_eq!(fixture.rows(query).await, ["table|extra|1000|1000"]);
}

impl Fixture {
    /// Commits other metadata, as version 1.
    async fn declare(&self, edit: impl FnOnce(&mut Value, &mut Value)) {
        let log = |version: u64| Path::from(format!("flights/_delta_log/{version:020}.json"));
        let text = String::from_utf8(self.get(&log(0)).await.to_vec()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut action = lines.into_iter().find(|action| action.get("metaData").is_some()).unwrap();
        let metadata = &mut action["metaData"];
        let mut schema: Value = serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
        edit(metadata, &mut schema);
        metadata["schemaString"] = json!(schema.to_string());
        self.lake.store.put(&log(1), format!("{action}\n").into()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_mean_others_than_they_did_are_told_and_those_that_came_besides_are_not() {
    let (lake, _) = erasure_lake();
    let fixture = sealed_in(lake).await;
    let query = "SELECT kind, file, row_group, detail FROM poison_diff('flights')";
    fixture
        .declare(|metadata, schema| {
            metadata["configuration"] = json!({"delta.appendOnly": "true"});
            let more = json!({"name": "more", "type": "string", "nullable": true, "metadata": {}});
            schema["fields"].as_array_mut().unwrap().push(more);
        })
        .await;
    assert_eq!(fixture.rows(query).await, [""; 0]);

    let told = async |parts: &[&str]| {
        let rows = fixture.rows(query).await;
        let [row] = &rows[..] else { panic!("{rows:?}") };
        assert!(row.starts_with("undetermined|_delta_log||the table's schema changed since it was sealed: "), "{row}");
        assert!(row.ends_with("; rows are compared by physical columns"), "{row}");
        parts.iter().for_each(|part| assert!(row.contains(part), "{part}: {row}"));
    };
    fixture
        .declare(|metadata, schema| {
            metadata["configuration"] = json!({"delta.columnMapping.mode": "name"});
            for (at, physical) in [(0, "delay"), (1, "id"), (2, "carrier")] {
                schema["fields"][at]["metadata"]["delta.columnMapping.physicalName"] = json!(physical);
            }
        })
        .await;
    told(&["column id is what was delay", "column delay is what was id", "column mapping was none, and is name"]).await;
    fixture.declare(|_, schema| drop(schema["fields"].as_array_mut().unwrap().remove(1))).await;
    told(&["column delay is gone"]).await;
    fixture.declare(|_, schema| schema["fields"][1]["type"] = json!("string")).await;
    told(&["column delay has another type"]).await;
    fixture.declare(|metadata, _| metadata["partitionColumns"] = json!(["carrier"])).await;
    told(&["partitioned by (), and is by (carrier)"]).await;
}
