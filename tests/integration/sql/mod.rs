//! Queries over sealed tables: what is sealed is answered, what was changed is an error that names the place.
//!
//! Each attack edits stored bytes of a real table, shows what a stock reader answers, and then what a sealed session says.

mod attacks;
mod blast_radius;
mod clones;
mod derivation;
mod dml;
mod drift;
mod evaluation;
mod exact;
mod functions;
mod inventions;
mod later;
mod lineage;
mod modes;
mod poison_diff;
mod proportional;
mod purge;
mod readers;
mod restore;
mod roots;
mod store;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use bytes::Bytes;
use futures::TryStreamExt;
use lakeseal::baseline::{SealOptions, Sealer, Trust, TrustLevel};
use lakeseal::clock::SystemClock;
use lakeseal::delta::{self, Import, LakeStore, Location};
use lakeseal::key::PrivateKey;
use lakeseal::sql::{ReadMode, SealedSession, SessionOptions, TableOptions};
use lakeseal::{Error, ErrorKind};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;

const ROWS_PER_GROUP: usize = 1000;

struct Fixture {
    lake: LakeStore,
    location: Location,
    key: PrivateKey,
    _directory: tempfile::TempDir,
}

fn batch(ids: Range<i64>) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("delay", DataType::Float64, true),
        Field::new("carrier", DataType::Utf8, true),
    ]));
    let delay = ids.clone().map(|i| (i % 60) as f64);
    let carrier = ids.clone().map(|i| if i % 2 == 0 { "AA" } else { "UA" });
    RecordBatch::try_new(
        schema,
        vec![
            Arc::new(Int64Array::from_iter_values(ids.clone())),
            Arc::new(Float64Array::from_iter_values(delay)),
            Arc::new(StringArray::from_iter_values(carrier)),
        ],
    )
    .unwrap()
}

/// Results as text, which is equal when schema names, values and their order are.
fn shown(batches: &[RecordBatch]) -> String {
    arrow::util::pretty::pretty_format_batches(batches).unwrap().to_string()
}

/// As Parquet, plain and uncompressed, in row groups of [`ROWS_PER_GROUP`].
fn parquet_bytes(batches: &[RecordBatch]) -> Vec<u8> {
    let properties = WriterProperties::builder().set_dictionary_enabled(false).set_max_row_group_row_count(Some(ROWS_PER_GROUP)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batches[0].schema(), Some(properties)).unwrap();
    batches.iter().for_each(|batch| writer.write(batch).unwrap());
    writer.into_inner().unwrap()
}

impl Fixture {
    /// A table of 4000 rows in a file of four row groups, put there as any writer would, and sealed.
    async fn sealed() -> Self {
        Self::sealed_in(Arc::new(InMemory::new())).await
    }

    async fn sealed_in(store: Arc<dyn ObjectStore>) -> Self {
        let fixture = Self::unsealed_in(store).await;
        fixture.seal().await;
        fixture
    }

    async fn unsealed() -> Self {
        Self::unsealed_in(Arc::new(InMemory::new())).await
    }

    async fn unsealed_in(store: Arc<dyn ObjectStore>) -> Self {
        let lake = LakeStore { name: "test".to_owned(), store };
        let location = Location::in_lake(&lake, "flights").unwrap();
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("flights.parquet");
        std::fs::write(&source, parquet_bytes(&[batch(0..4000)])).unwrap();
        delta::import(&location, Import { sources: vec![source], ..Import::default() }).await.unwrap();
        let fixture = Self { lake, location, key: PrivateKey::generate().unwrap(), _directory: directory };
        // One file with several row groups, of which the attacks choose one.
        fixture.rewrite(&parquet_bytes(&[batch(0..4000)])).await;
        fixture
    }

    async fn seal(&self) {
        let (store, root) = (self.location.store().clone(), self.location.root().clone());
        let url = self.location.url().as_str();
        let sealer = Sealer::new(store, root, url, self.key.clone(), Arc::new(SystemClock), SealOptions::default()).unwrap();
        sealer.seal(&()).await.unwrap();
    }

    async fn session(&self, mode: ReadMode) -> SealedSession {
        let trust = Trust::new([self.key.public()], TrustLevel::Given).unwrap();
        let tables = TableOptions { mode, ..TableOptions::default() };
        SealedSession::new(SessionOptions { lake: Some(self.lake.clone()), trust: Some(trust), tables }).await.unwrap()
    }

    async fn number(&self, query: &str) -> Result<i64, Error> {
        let batches = self.session(ReadMode::Latest).await.run(query).await?;
        Ok(batches[0].column(0).as_primitive::<Int64Type>().value(0))
    }

    /// What a reader answers that trusts what it reads.
    async fn stock(&self, query: &str) -> i64 {
        self.stock_batches(query).await[0].column(0).as_primitive::<Int64Type>().value(0)
    }

    async fn stock_batches(&self, query: &str) -> Vec<RecordBatch> {
        let context = delta::session([&self.location]).unwrap();
        let table = delta::open(&self.location, None).await.unwrap();
        context.register_table("flights", table.table_provider().await.unwrap()).unwrap();
        context.sql(query).await.unwrap().collect().await.unwrap()
    }

    async fn data_file(&self) -> Path {
        self.data_file_over(0).await
    }

    /// The first data file of more than so many bytes.
    async fn data_file_over(&self, bytes: u64) -> Path {
        let all: Vec<_> = self.lake.store.list(Some(self.location.root())).try_collect().await.unwrap();
        let data = |path: &Path| !path.as_ref().contains("/_") && path.as_ref().ends_with(".parquet");
        all.into_iter().find(|meta| meta.size > bytes && data(&meta.location)).unwrap().location
    }

    async fn get(&self, path: &Path) -> Bytes {
        self.lake.store.get(path).await.unwrap().bytes().await.unwrap()
    }

    async fn edit_log(&self, edit: impl FnOnce(String) -> String) {
        let path = Path::from("flights/_delta_log/00000000000000000000.json");
        let text = String::from_utf8(self.get(&path).await.to_vec()).unwrap();
        let edited = edit(text.clone());
        assert_ne!(text, edited, "the attack must change something");
        self.lake.store.put(&path, edited.into()).await.unwrap();
    }

    /// Replaces the data file and makes the log agree with its size, as an attacker with write access would.
    async fn rewrite(&self, bytes: &[u8]) {
        let path = self.data_file().await;
        let old = self.get(&path).await.len();
        self.lake.store.put(&path, bytes.to_vec().into()).await.unwrap();
        self.edit_log(|log| log.replace(&format!("\"size\":{old}"), &format!("\"size\":{}", bytes.len()))).await;
    }
}

fn names(error: &Error, words: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{text}");
    for word in words {
        assert!(text.contains(word), "\"{word}\" is missing in: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_table_answers_as_any_other() {
    let fixture = Fixture::sealed().await;
    assert_eq!(fixture.number("SELECT COUNT(*) FROM flights").await.unwrap(), 4000);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM flights WHERE id >= 1500 AND carrier = 'AA'").await.unwrap(), 1250);
    assert_eq!(
        fixture.number("SELECT CAST(SUM(delay) AS BIGINT) FROM flights").await.unwrap(),
        fixture.stock("SELECT CAST(SUM(delay) AS BIGINT) FROM flights").await
    );
    let session = fixture.session(ReadMode::Latest).await;
    session.run("SELECT * FROM flights").await.unwrap();
    assert_eq!(session.notes(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_value_in_a_page_is_never_released() {
    let fixture = Fixture::sealed().await;
    let path = fixture.data_file().await;
    let mut bytes = fixture.get(&path).await.to_vec();
    // A delay in the third row group, in place: size, footer and log stay as they are.
    let metadata = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes.clone())).unwrap().metadata().clone();
    let (start, length) = metadata.row_group(2).column(1).byte_range();
    let at = usize::try_from(start + length).unwrap() - 8 * 10 + 6;
    bytes[at] ^= 0x01;
    let before = fixture.stock("SELECT CAST(SUM(delay) * 1000 AS BIGINT) FROM flights").await;
    fixture.lake.store.put(&path, bytes.into()).await.unwrap();
    assert_ne!(fixture.stock("SELECT CAST(SUM(delay) * 1000 AS BIGINT) FROM flights").await, before, "stock readers notice nothing");

    let error = fixture.number("SELECT CAST(SUM(delay) AS BIGINT) FROM flights").await.unwrap_err();
    names(&error, &["flights", path.filename().unwrap(), "row group: 2", "column: delay"]);
    // What the change cannot have touched is still counted from what was sealed.
    assert_eq!(fixture.number("SELECT COUNT(*) FROM flights").await.unwrap(), 4000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_file_with_a_consistent_log_is_placed() {
    let fixture = Fixture::sealed().await;
    let changed = {
        let all = batch(0..4000);
        let mut delay: Vec<f64> = all.column(1).as_primitive::<arrow::datatypes::Float64Type>().values().to_vec();
        delay[1234] = 59.0;
        let columns = vec![all.column(0).clone(), Arc::new(Float64Array::from(delay)) as Arc<dyn Array>, all.column(2).clone()];
        RecordBatch::try_new(all.schema(), columns).unwrap()
    };
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(ROWS_PER_GROUP)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), changed.schema(), Some(properties)).unwrap();
    writer.write(&changed).unwrap();
    fixture.rewrite(&writer.into_inner().unwrap()).await;
    assert_eq!(fixture.stock("SELECT COUNT(*) FROM flights WHERE delay = 59").await, 67, "stock readers notice nothing");
    let error = fixture.number("SELECT COUNT(*) FROM flights WHERE delay = 59").await.unwrap_err();
    names(&error, &["flights", "row group: 1", "column: delay"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_numbers_of_rows_and_ranges_fool_nobody() {
    let fixture = Fixture::sealed().await;
    fixture.edit_log(|log| log.replace("\\\"numRecords\\\":4000", "\\\"numRecords\\\":10")).await;
    assert_eq!(fixture.stock("SELECT COUNT(*) FROM flights").await, 10, "stock readers believe the log");
    names(&fixture.number("SELECT COUNT(*) FROM flights").await.unwrap_err(), &["flights", "forged"]);

    let fixture = Fixture::sealed().await;
    fixture.edit_log(|log| log.replace("\\\"id\\\":3999", "\\\"id\\\":1000")).await;
    assert_eq!(fixture.stock("SELECT COUNT(*) FROM flights WHERE id = 3000").await, 0, "stock readers skip the file");
    names(&fixture.number("SELECT COUNT(*) FROM flights WHERE id = 3000").await.unwrap_err(), &["forged"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_beside_the_log_mislead_nobody() {
    let fixture = Fixture::sealed().await;
    for name in ["_last_checkpoint", "00000000000000000000.crc"] {
        let path = Path::from(format!("flights/_delta_log/{name}"));
        fixture.lake.store.put(&path, r#"{"version":7,"size":1}"#.into()).await.unwrap();
    }
    assert_eq!(fixture.number("SELECT COUNT(*) FROM flights WHERE id >= 0").await.unwrap(), 4000);
}

#[tokio::test(flavor = "multi_thread")]
async fn later_commits_are_noted_and_left_out_on_request() {
    let fixture = Fixture::sealed().await;
    let session = fixture.session(ReadMode::Latest).await;
    let inserted = session.run("INSERT INTO flights VALUES (4000, 1.0, 'AA'), (4001, 2.0, 'UA')").await.unwrap();
    assert_eq!(inserted.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
    let count = |batches: Vec<RecordBatch>| batches[0].column(0).as_primitive::<Int64Type>().value(0);
    assert_eq!(count(session.run("SELECT COUNT(*) FROM flights").await.unwrap()), 4002);
    assert!(session.notes().iter().any(|note| note.contains("not covered by baseline 1")), "{:?}", session.notes());
    let sealed = fixture.session(ReadMode::Sealed).await;
    assert_eq!(count(sealed.run("SELECT COUNT(*) FROM flights").await.unwrap()), 4000);
    assert_eq!(sealed.notes(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_was_never_sealed_is_read_and_noted_or_refused() {
    let fixture = Fixture::unsealed().await;
    let session = fixture.session(ReadMode::Latest).await;
    session.run("SELECT COUNT(*) FROM flights").await.unwrap();
    assert!(session.notes().iter().any(|note| note.contains("verification: none")), "{:?}", session.notes());
    let tables = TableOptions { require_sealed: true, ..TableOptions::default() };
    let trust = Trust::new([fixture.key.public()], TrustLevel::Given).unwrap();
    let strict = SealedSession::new(SessionOptions { lake: Some(fixture.lake.clone()), trust: Some(trust), tables }).await.unwrap();
    assert!(strict.run("SELECT COUNT(*) FROM flights").await.unwrap_err().to_string().contains("never sealed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_join_and_filter_as_tables_do() {
    let fixture = Fixture::sealed().await;
    assert_eq!(fixture.number("SELECT COUNT(*) FROM audit('flights') WHERE verdict <> 'intact'").await.unwrap(), 0);
    assert_eq!(
        fixture
            .number("SELECT CAST(COUNT(*) AS BIGINT) FROM row_groups('flights') g JOIN baselines('flights') b ON g.baseline = b.number")
            .await
            .unwrap(),
        12
    );
    fixture.edit_log(|log| log.replace("\\\"numRecords\\\":4000", "\\\"numRecords\\\":10")).await;
    assert!(fixture.number("SELECT COUNT(*) FROM audit('flights') WHERE verdict = 'forged'").await.unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn local_files_are_out_of_reach() {
    let fixture = Fixture::sealed().await;
    let session = fixture.session(ReadMode::Latest).await;
    let file = fixture._directory.path().join("flights.parquet");
    let create = format!("CREATE EXTERNAL TABLE stolen STORED AS PARQUET LOCATION '{}'", file.display());
    assert!(session.run(&create).await.is_err());
    assert!(session.run("COPY (SELECT 1) TO '/tmp/lakeseal-must-not-exist.parquet'").await.is_err());
}
