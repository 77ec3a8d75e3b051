//! What engines make of a file by rules that are not those by which it was sealed: constants, columns that come later, words for null.

use arrow::array::ArrayRef;
use deltalake::kernel::{DataType as DeltaType, PrimitiveType, StructField};
use lakeseal::baseline::{AuditOptions, Auditor, Outcome, SealOutcome, Verdict};
use parquet::data_type::{Int96, Int96Type};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::*;

fn first(batches: &[RecordBatch]) -> i64 {
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

async fn seal(location: &Location, key: &PrivateKey) -> Result<SealOutcome, Error> {
    let (store, root) = (location.store().clone(), location.root().clone());
    let sealer = Sealer::new(store, root, location.url().as_str(), key.clone(), Arc::new(SystemClock), SealOptions::default()).unwrap();
    sealer.seal(&()).await
}

/// A folder of Parquet of these files, and a session in which it is `t`.
async fn folder(files: &[(&str, Vec<u8>)], sealed: bool) -> (LakeStore, SealedSession) {
    let lake = LakeStore { name: "folders".to_owned(), store: Arc::new(InMemory::new()) };
    for (name, bytes) in files {
        lake.store.put(&Path::parse(format!("t/{name}")).unwrap(), bytes.clone().into()).await.unwrap();
    }
    let (location, key) = (Location::in_lake(&lake, "t").unwrap(), PrivateKey::generate().unwrap());
    if sealed {
        seal(&location, &key).await.unwrap();
    }
    let trust = Trust::new([key.public()], TrustLevel::Given).unwrap();
    let options = SessionOptions { lake: Some(lake.clone()), trust: Some(trust), ..SessionOptions::default() };
    let session = SealedSession::new(options).await.unwrap();
    session.register("t", &location).await.unwrap();
    (lake, session)
}

fn one_and_nothing_that_is_a_number() -> RecordBatch {
    let x: ArrayRef = Arc::new(Float64Array::from(vec![5.0, f64::NAN, f64::NAN]));
    RecordBatch::try_from_iter_with_nullable([("x", x, true)]).unwrap()
}

/// A file whose least and greatest number are one is no column of it: statistics leave NaN out.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_no_number_are_not_given_the_only_number_that_is() {
    let lake = LakeStore { name: "test".to_owned(), store: Arc::new(InMemory::new()) };
    let (location, key) = (Location::in_lake(&lake, "flights").unwrap(), PrivateKey::generate().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("x.parquet");
    let bytes = parquet_bytes(&[one_and_nothing_that_is_a_number()]);
    std::fs::write(&source, &bytes).unwrap();
    delta::import(&location, Import { sources: vec![source], ..Import::default() }).await.unwrap();
    seal(&location, &key).await.unwrap();
    let fixture = Fixture { lake, location, key, _directory: directory };
    let query = "SELECT COUNT(*) FROM flights WHERE x > 0 AND isnan(x)";
    assert_eq!(fixture.stock(query).await, 0, "stock readers see fives");
    assert_eq!(fixture.number(query).await.unwrap(), 2);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM flights WHERE x = 5").await.unwrap(), 1);

    let (_, session) = folder(&[("a.parquet", bytes)], true).await;
    for query in ["SELECT COUNT(*) FROM t WHERE isnan(x)", "SELECT COUNT(*) FROM t WHERE x > 0 AND isnan(x)"] {
        assert_eq!(first(&session.run(query).await.unwrap()), 2, "{query}");
    }
}

/// Comparisons order all floats, NaN above every number, or, with its sign set, below; statistics speak of numbers alone.
#[tokio::test(flavor = "multi_thread")]
async fn no_bound_hides_a_row_that_is_no_number() {
    let (above, below) = (f64::from_bits(0x7ff8_0000_0000_0000), f64::from_bits(0xfff8_0000_0000_0000));
    let rows = |from: i64, x: &[f64]| {
        let ids = Int64Array::from_iter_values((from..).take(x.len()));
        RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::new(ids) as ArrayRef, true),
            ("x", Arc::new(Float64Array::from(x.to_vec())), true),
        ])
        .unwrap()
    };
    let values = [1.0, above, below, 7.0, above, above, 2.0, 3.0];
    let files: Vec<Vec<u8>> = (0..).step_by(2).zip(values.chunks(2)).map(|(from, x)| parquet_bytes(&[rows(from, x)])).collect();
    let unpruned = datafusion::prelude::SessionContext::new();
    unpruned.register_batch("t", rows(0, &values)).unwrap();

    let names = ["a.parquet", "b.parquet", "c.parquet", "d.parquet"];
    let named: Vec<(&str, Vec<u8>)> = names.into_iter().zip(files.iter().cloned()).collect();
    let mut sessions = vec![folder(&named, true).await.1, folder(&named, false).await.1];
    let lake = LakeStore { name: "test".to_owned(), store: Arc::new(InMemory::new()) };
    let (location, key) = (Location::in_lake(&lake, "flights").unwrap(), PrivateKey::generate().unwrap());
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in &named {
        let source = directory.path().join(name);
        std::fs::write(&source, bytes).unwrap();
        delta::import(&location, Import { sources: vec![source], ..Import::default() }).await.unwrap();
    }
    let fixture = Fixture { lake, location, key, _directory: directory };
    fixture.seal().await;
    for mode in [ReadMode::Latest, ReadMode::Sealed] {
        let session = fixture.session(mode).await;
        session.register("t", &fixture.location).await.unwrap();
        sessions.push(session);
    }
    let conditions =
        ["x > 5", "x < 0", "x <> 1", "NOT (x <= 5)", "x > 5 AND id < 4", "id = 0 OR x >= 3", "isnan(x)", "x = 7", "x BETWEEN 2 AND 3"];
    let mut queries: Vec<String> = conditions.iter().map(|condition| format!("SELECT COUNT(*) FROM t WHERE {condition}")).collect();
    queries.push("SELECT COUNT(*) FROM (SELECT x FROM t ORDER BY x DESC LIMIT 3) WHERE isnan(x)".to_owned());
    queries.push("SELECT COUNT(*) FROM (SELECT x FROM t ORDER BY x LIMIT 1) WHERE isnan(x)".to_owned());
    queries.push("SELECT COUNT(*) FROM t JOIN (VALUES (7.0), (2.0)) AS v(y) ON t.x = v.y".to_owned());
    for query in &queries {
        let right = first(&unpruned.sql(query).await.unwrap().collect().await.unwrap());
        for (at, session) in sessions.iter().enumerate() {
            assert_eq!(first(&session.run(query).await.unwrap()), right, "{query}, session {at}");
        }
    }
    assert_eq!(fixture.stock("SELECT COUNT(*) FROM flights WHERE x > 5 AND id < 2").await, 0, "stock readers believe the bounds");

    // Neither are such rows left when they are to go, nor do they go with those that are.
    let session = fixture.session(ReadMode::Latest).await;
    session.run("DELETE FROM flights WHERE x > 5").await.unwrap();
    let left = fixture.number("SELECT SUM(id * 10 + 1) FROM flights").await.unwrap();
    assert_eq!(left, [0, 2, 6, 7].iter().map(|id| id * 10 + 1).sum::<i64>(), "1, the NaN below, 2 and 3 are left");
    session.run("UPDATE flights SET id = 100 WHERE x < 0").await.unwrap();
    assert_eq!(fixture.number("SELECT SUM(id) FROM flights").await.unwrap(), 113);
}

async fn add_column(fixture: &Fixture, name: &str) {
    let field = StructField::new(name, DeltaType::Primitive(PrimitiveType::String), true);
    delta::open(&fixture.location, None).await.unwrap().add_columns().with_fields([field]).await.unwrap();
}

/// Whoever writes before the seal may state something of a column that the table has not, and wait until it has.
#[tokio::test(flavor = "multi_thread")]
async fn statistics_of_a_column_that_comes_later_are_not_believed() {
    let fixture = Fixture::unsealed().await;
    let plant = |log: String| {
        let stated = "{\\\"consent\\\":\\\"yes\\\",";
        let log = log.replace("\\\"minValues\\\":{", &format!("\\\"minValues\\\":{stated}"));
        let log = log.replace("\\\"maxValues\\\":{", &format!("\\\"maxValues\\\":{stated}"));
        log.replace("\\\"nullCount\\\":{", "\\\"nullCount\\\":{\\\"consent\\\":0,")
    };
    fixture.edit_log(plant).await;
    fixture.seal().await;
    add_column(&fixture, "consent").await;
    let said = "SELECT COUNT(*) FROM flights WHERE consent = 'yes'";
    assert_eq!(fixture.stock(said).await, 4000, "stock readers believe that all agreed");
    assert_eq!(fixture.number(said).await.unwrap(), 0);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM flights WHERE consent IS NULL").await.unwrap(), 4000);
    let error = seal(&fixture.location, &fixture.key).await.unwrap_err();
    assert!(error.to_string().contains("consent"), "{error}");
}

/// A file may store a column that is no part of the table's rows, until the table has a column of that name.
#[tokio::test(flavor = "multi_thread")]
async fn values_that_a_later_column_uncovers_are_not_sealed_in_silence() {
    let fixture = Fixture::unsealed().await;
    let rows = batch(0..4000);
    let label: ArrayRef = Arc::new(StringArray::from_iter_values((0..4000).map(|_| "benign")));
    let columns = ["id", "delay", "carrier"].into_iter().zip(rows.columns().iter().cloned());
    let wider =
        RecordBatch::try_from_iter_with_nullable(columns.chain([("label", label)]).map(|(name, array)| (name, array, true))).unwrap();
    fixture.rewrite(&parquet_bytes(&[wider])).await;
    fixture.seal().await;
    add_column(&fixture, "label").await;
    assert_eq!(fixture.stock("SELECT COUNT(*) FROM flights WHERE label = 'benign'").await, 4000, "it is read now");
    let error = seal(&fixture.location, &fixture.key).await.unwrap_err();
    names(&error, &["stores the column label"]);
    // An honest column is sealed.
    let fixture = Fixture::sealed().await;
    add_column(&fixture, "label").await;
    assert_eq!(seal(&fixture.location, &fixture.key).await.unwrap().files_reused, 1);
}

/// Hive has a word for the null partition, and so has whoever reads it.
#[tokio::test(flavor = "multi_thread")]
async fn a_null_partition_of_a_folder_is_null() {
    let part = |ids: Range<i64>| parquet_bytes(&[batch(ids)]);
    let files = [("k=__HIVE_DEFAULT_PARTITION__/a.parquet", part(0..80)), ("k=1/b.parquet", part(80..100))];
    for sealed in [false, true] {
        let (_, session) = folder(&files, sealed).await;
        for (query, expected) in [
            ("SELECT COUNT(*) FROM t WHERE k IS NULL", 80),
            ("SELECT COUNT(*) FROM t WHERE k IS NOT NULL", 20),
            ("SELECT COUNT(*) FROM t WHERE k = '1'", 20),
            ("SELECT COUNT(*) FROM t WHERE k <> '1'", 0),
            ("SELECT COUNT(*) FROM t WHERE k = '__HIVE_DEFAULT_PARTITION__'", 0),
            ("SELECT COUNT(k) FROM t", 20),
            ("SELECT COUNT(*) FROM t", 100),
            ("SELECT COUNT(*) FROM t WHERE k IS NULL AND id >= 10 AND carrier = 'AA'", 35),
            ("SELECT COUNT(*) FROM (SELECT id FROM t WHERE k IS NULL LIMIT 7)", 7),
            ("SELECT MAX(id) FROM t WHERE k IS NULL", 79),
        ] {
            assert_eq!(first(&session.run(query).await.unwrap()), expected, "{query}, sealed: {sealed}");
        }
    }
}

/// INT96 reaches beyond what 64 bits of nanoseconds hold.
#[tokio::test(flavor = "multi_thread")]
async fn instants_beyond_the_nanoseconds_of_64_bits_do_not_wrap_round() {
    let schema = Arc::new(parse_message_type("message m { required int96 at; }").unwrap());
    let mut bytes = Vec::new();
    let mut file = SerializedFileWriter::new(&mut bytes, schema, Arc::new(WriterProperties::builder().build())).unwrap();
    let mut group = file.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    // The last day of the year 9999, as Julian days count.
    let mut last = Int96::new();
    last.set_data(0, 0, 5_373_484);
    column.typed::<Int96Type>().write_batch(&[last], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    file.close().unwrap();
    let (_, session) = folder(&[("a.parquet", bytes)], true).await;
    let year = session.run("SELECT CAST(date_part('year', at) AS BIGINT) FROM t").await.unwrap();
    assert_eq!(first(&year), 9999);
}

/// Seals that nobody trusts are not no seals.
#[tokio::test(flavor = "multi_thread")]
async fn seals_by_a_stranger_do_not_make_a_table_one_that_was_never_sealed() {
    let fixture = Fixture::sealed().await;
    let seals: Vec<_> = fixture.lake.store.list(Some(&Path::from("flights/_seal"))).try_collect().await.unwrap();
    for seal in seals {
        fixture.lake.store.delete(&seal.location).await.unwrap();
    }
    seal(&fixture.location, &PrivateKey::generate().unwrap()).await.unwrap();
    let error = fixture.number("SELECT COUNT(*) FROM flights").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthentic, "{error}");
    let session = fixture.session(ReadMode::Latest).await;
    session.run("SET lakeseal.verify = 'off'").await.unwrap();
    assert_eq!(first(&session.run("SELECT COUNT(*) FROM flights").await.unwrap()), 4000, "as was asked for");
}

/// Data files of a table that is being made are no folder of Parquet.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_making_was_broken_off_is_not_there() {
    let fixture = Fixture::unsealed().await;
    let log = Path::from("flights/_delta_log/00000000000000000000.json");
    let begun = Path::from("flights/_delta_log/.lakeseal-begun");
    assert!(fixture.lake.store.head(&begun).await.is_err(), "a table that was made says nothing of its making");
    fixture.lake.store.delete(&log).await.unwrap();
    fixture.lake.store.put(&begun, "{}".into()).await.unwrap();
    let error = fixture.number("SELECT COUNT(*) FROM flights").await.unwrap_err();
    assert!(error.to_string().contains("broken off") || error.to_string().contains("not found"), "{error}");
    assert_eq!(seal(&fixture.location, &fixture.key).await.unwrap_err().kind(), ErrorKind::NotFound);
    let source = fixture._directory.path().join("flights.parquet");
    let made = delta::import(&fixture.location, Import { sources: vec![source], ..Import::default() }).await.unwrap();
    assert!(made.created && made.rows == 4000);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM flights").await.unwrap(), 4000, "and none of what was left behind");
}

/// A quick audit reads no data, and still sees what is not there.
#[tokio::test(flavor = "multi_thread")]
async fn a_quick_audit_sees_files_that_are_gone_or_of_another_length() {
    for (gone, verdict) in [(true, Verdict::Missing), (false, Verdict::Modified)] {
        let fixture = Fixture::sealed().await;
        let path = fixture.data_file().await;
        match gone {
            true => fixture.lake.store.delete(&path).await.unwrap(),
            false => drop(fixture.lake.store.put(&path, fixture.get(&path).await.slice(..100).into()).await.unwrap()),
        }
        let trust = Trust::new([fixture.key.public()], TrustLevel::Given).unwrap();
        let options = AuditOptions { quick: true, ..AuditOptions::default() };
        let (store, root) = (fixture.location.store().clone(), fixture.location.root().clone());
        let auditor = Auditor::new(store, root, fixture.location.url().as_str(), trust, Arc::new(SystemClock), options);
        let report = auditor.audit(&()).await.unwrap();
        assert_eq!(report.outcome(), Outcome::Mismatch);
        assert!(report.findings.iter().any(|finding| finding.verdict == verdict), "{:?}", report.findings);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_a_lake_is_not_dropped_in_words_only() {
    let fixture = Fixture::sealed().await;
    let session = fixture.session(ReadMode::Latest).await;
    assert_eq!(session.run("DROP TABLE flights").await.unwrap_err().kind(), ErrorKind::Unsupported);
    session.register("Capital", &fixture.location).await.unwrap();
    assert_eq!(first(&session.run("SELECT COUNT(*) FROM \"Capital\"").await.unwrap()), 4000);
}

/// A session that stays open: what it gave a name follows the table, verified, as its lake's tables do.
#[tokio::test(flavor = "multi_thread")]
async fn a_named_table_is_read_as_it_is_now() {
    let fixture = Fixture::sealed().await;
    let (session, other) = (fixture.session(ReadMode::Latest).await, fixture.session(ReadMode::Latest).await);
    session.register("t", &fixture.location).await.unwrap();
    let count = "SELECT COUNT(*) FROM t";
    assert_eq!(first(&session.run(count).await.unwrap()), 4000);
    // Of its own, and of others.
    session.run("INSERT INTO t VALUES (4000, 1.0, 'AA')").await.unwrap();
    assert_eq!(first(&session.run(count).await.unwrap()), 4001);
    other.run("INSERT INTO flights VALUES (4001, 1.0, 'AA')").await.unwrap();
    assert_eq!(first(&session.run(count).await.unwrap()), 4002);
    assert!(session.notes().iter().any(|note| note.contains("not covered by baseline 1")), "{:?}", session.notes());
    // The newest baseline, where exactly what was sealed is read.
    session.run("SET lakeseal.read = 'sealed'").await.unwrap();
    assert_eq!(first(&session.run(count).await.unwrap()), 4000);
    fixture.seal().await;
    assert_eq!(first(&session.run(count).await.unwrap()), 4002);
    // What is newer is verified as what was there before.
    session.run("SET lakeseal.read = 'latest'").await.unwrap();
    assert_eq!(first(&session.run(count).await.unwrap()), 4002);
    let commit = Path::from("flights/_delta_log/00000000000000000002.json");
    let good = fixture.get(&commit).await;
    let forged = String::from_utf8(good.to_vec()).unwrap().replace("\\\"numRecords\\\":1", "\\\"numRecords\\\":7");
    fixture.lake.store.put(&commit, forged.into()).await.unwrap();
    other.run("INSERT INTO flights VALUES (4002, 1.0, 'AA')").await.unwrap_err();
    let newer = Path::from("flights/_delta_log/00000000000000000003.json");
    let nothing = "{\"commitInfo\":{\"timestamp\":1800000000000,\"operation\":\"WRITE\",\"operationParameters\":{}}}\n";
    fixture.lake.store.put(&newer, nothing.into()).await.unwrap();
    assert_eq!(session.run(count).await.unwrap_err().kind(), ErrorKind::Mismatch);
    // What was mended is read again.
    fixture.lake.store.delete(&newer).await.unwrap();
    fixture.lake.store.put(&commit, good.into()).await.unwrap();
    assert_eq!(first(&session.run(count).await.unwrap()), 4002);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_of_a_baseline_where_there_is_none() {
    for (sealed, what) in [(false, "no baseline says which"), (true, "a sealed file is missing")] {
        let fixture = if sealed { Fixture::sealed().await } else { Fixture::unsealed().await };
        fixture.lake.store.delete(&fixture.data_file().await).await.unwrap();
        names(&fixture.number("SELECT SUM(id) FROM flights").await.unwrap_err(), &[what]);
    }
}

/// Notes are about what was asked about.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_no_query_names_is_not_spoken_of() {
    let (one, other) = (Fixture::unsealed().await, Fixture::sealed().await);
    let session = other.session(ReadMode::Latest).await;
    session.offer("one", &one.location).await.unwrap();
    session.offer("other", &other.location).await.unwrap();
    assert_eq!(session.peek("one").await.unwrap().fields().len(), 3);
    session.run("SELECT COUNT(*) FROM other").await.unwrap();
    assert_eq!(session.notes(), Vec::<String>::new());
    session.run("SELECT COUNT(*) FROM one").await.unwrap();
    assert!(session.notes().iter().any(|note| note.contains("verification: none")), "{:?}", session.notes());
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_were_made_since_are_listed_when_somebody_asks() {
    let fixture = Fixture::sealed().await;
    let session = fixture.session(ReadMode::Latest).await;
    let names = || session.context().catalog("lakeseal").unwrap().schema("lake").unwrap().table_names();
    fixture.session(ReadMode::Latest).await.run("CREATE TABLE made AS SELECT id FROM flights").await.unwrap();
    assert_eq!(names(), ["flights"]);
    session.list_tables().await.unwrap();
    assert_eq!(names(), ["flights", "made"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_folder_is_listed_anew() {
    for sealed in [false, true] {
        let (lake, session) = folder(&[("a.parquet", parquet_bytes(&[batch(0..10)]))], sealed).await;
        assert_eq!(first(&session.run("SELECT COUNT(*) FROM t").await.unwrap()), 10);
        lake.store.put(&Path::from("t/b.parquet"), parquet_bytes(&[batch(10..15)]).into()).await.unwrap();
        assert_eq!(first(&session.run("SELECT COUNT(*) FROM t").await.unwrap()), 15, "sealed: {sealed}");
    }
}
