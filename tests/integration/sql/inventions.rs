//! Attacks by somebody who has read the source: plans that outlive a setting, stores that answer twice, names that mean two things.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use deltalake::protocol::checkpoints::create_checkpoint;
use futures::stream::BoxStream;
use lakeseal::baseline::{AuditOptions, AuditReport, Auditor, Outcome, Verdict};
use lakeseal::sql::{VerifiedTable, VerifyMode};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    RenameOptions,
};

use super::*;

const COUNT: &str = "SELECT COUNT(*) FROM flights";
const SUM: &str = "SELECT CAST(SUM(delay) AS BIGINT) FROM flights";

fn truth() -> i64 {
    (0..4000).map(|i| i % 60).sum()
}

fn first(batches: &[RecordBatch]) -> i64 {
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

/// A view, or a prepared statement, that was made while verification was off must not answer once it is on.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_planned_without_verification_does_not_outlive_it() {
    let fixture = Fixture::sealed().await;
    fixture.edit_log(|log| log.replace("\\\"numRecords\\\":4000", "\\\"numRecords\\\":10")).await;
    let session = fixture.session(ReadMode::Latest).await;
    session.run("SET lakeseal.verify = 'off'").await.unwrap();
    session.run("CREATE VIEW seen AS SELECT * FROM flights").await.unwrap();
    session.run("PREPARE counted AS SELECT COUNT(*) FROM flights").await.unwrap();
    assert_eq!(first(&session.run("SELECT COUNT(*) FROM seen").await.unwrap()), 10, "as was asked for");
    session.run("SET lakeseal.verify = 'enforce'").await.unwrap();
    for query in ["SELECT COUNT(*) FROM seen", "SELECT COUNT(*) FROM (SELECT * FROM seen WHERE id >= 0)", "EXECUTE counted", COUNT] {
        match session.run(query).await {
            Err(error) => assert!(matches!(error.kind(), ErrorKind::Mismatch | ErrorKind::Precondition), "{query}: {error}"),
            Ok(answer) => panic!("{query} answered {}", shown(&answer)),
        }
    }
    // Made anew, a view of an honest table answers, and so does a statement.
    let fixture = Fixture::sealed().await;
    let session = fixture.session(ReadMode::Latest).await;
    session.run("CREATE VIEW seen AS SELECT * FROM flights").await.unwrap();
    session.run("PREPARE counted AS SELECT COUNT(*) FROM flights").await.unwrap();
    assert_eq!(first(&session.run("SELECT COUNT(*) FROM seen").await.unwrap()), 4000);
    assert_eq!(first(&session.run("EXECUTE counted").await.unwrap()), 4000);
    session.run("SET lakeseal.read = 'sealed'").await.unwrap();
    let error = session.run("SELECT COUNT(*) FROM seen").await.unwrap_err();
    assert!(error.to_string().contains("make it anew"), "{error}");
}

/// deltalake's own provider of the sealed table, in every corner of SQL.
#[tokio::test(flavor = "multi_thread")]
async fn no_corner_of_sql_reads_past_verification() {
    let fixture = Fixture::sealed().await;
    let session = fixture.session(ReadMode::Latest).await;
    let table = delta::open(&fixture.location, None).await.unwrap();
    let context = session.context();
    context.runtime_env().register_object_store(fixture.location.engine_url(), fixture.lake.store.clone());
    context.runtime_env().register_object_store(table.log_store().object_store_url().as_ref(), fixture.lake.store.clone());
    let past = table.table_provider().await.unwrap();
    assert_eq!(past.schema().fields().len(), 3);
    context.register_table("past", past).unwrap();
    for query in [
        "SELECT (SELECT SUM(delay) FROM past)",
        "SELECT COUNT(*) FROM flights WHERE id IN (SELECT id FROM past WHERE delay > 3)",
        "SELECT COUNT(*) FROM flights WHERE EXISTS (SELECT 1 FROM past WHERE past.id = flights.id)",
        "WITH p AS (SELECT * FROM past) SELECT SUM(delay) FROM p",
        "WITH RECURSIVE r AS (SELECT MIN(id) AS id FROM past UNION ALL SELECT id + 1 FROM r WHERE id < 3) SELECT COUNT(*) FROM r",
        "SELECT id FROM flights UNION ALL SELECT id FROM past",
        "SELECT id FROM flights INTERSECT SELECT id FROM past",
        "SELECT SUM(delay) OVER (ORDER BY id) FROM past LIMIT 1",
        "EXPLAIN ANALYZE SELECT SUM(delay) FROM past",
        "INSERT INTO flights SELECT * FROM past WHERE id < 3",
        "CREATE TABLE copied AS SELECT * FROM past",
        "CREATE VIEW peek AS SELECT * FROM past; SELECT SUM(delay) FROM peek",
        "SELECT COUNT(*) FROM flights, LATERAL (SELECT delay FROM past WHERE past.id = flights.id)",
        "SELECT MAX(delay) FROM past",
        "SELECT * FROM past ORDER BY delay DESC LIMIT 1",
    ] {
        let mut result = Ok(Vec::new());
        for part in query.split("; ") {
            result = session.run(part).await;
        }
        match result {
            Err(error) => assert!(!error.to_string().contains("panicked"), "{query}: {error}"),
            Ok(answer) => panic!("{query} answered {}", shown(&answer)),
        }
    }
    assert_eq!(fixture.number(COUNT).await.unwrap(), 4000, "nothing was inserted");
}

/// Serves an object honestly for some reads, and changed from then on.
#[derive(Debug)]
struct TwoFaced {
    honest: Arc<dyn ObjectStore>,
    changed: InMemory,
    path: Path,
    honest_reads: AtomicUsize,
}

impl std::fmt::Display for TwoFaced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TwoFaced")
    }
}

impl TwoFaced {
    fn face(&self, path: &Path) -> &dyn ObjectStore {
        let spent = || self.honest_reads.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err();
        if *path == self.path && spent() { &self.changed } else { &*self.honest }
    }
}

#[async_trait]
impl ObjectStore for TwoFaced {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        self.honest.put_opts(path, payload, options).await
    }
    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.honest.put_multipart_opts(path, options).await
    }
    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        if options.head { self.honest.get_opts(path, options).await } else { self.face(path).get_opts(path, options).await }
    }
    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        self.face(path).get_ranges(path, ranges).await
    }
    fn delete_stream(&self, paths: BoxStream<'static, object_store::Result<Path>>) -> BoxStream<'static, object_store::Result<Path>> {
        self.honest.delete_stream(paths)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.honest.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.honest.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.honest.copy_opts(from, to, options).await
    }
    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> object_store::Result<()> {
        self.honest.rename_opts(from, to, options).await
    }
}

/// Every object of the table in turn is read honestly once, twice, …, and is another from then on: answers are exact or errors.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_answers_differently_on_a_later_read_gets_no_wrong_row_through() {
    let fixture = Fixture::sealed().await;
    // A later commit, too: its file is covered by nothing, so only the rows before it are asked for.
    fixture.session(ReadMode::Latest).await.run("INSERT INTO flights VALUES (4000, 7.0, 'AA')").await.unwrap();
    let objects: Vec<ObjectMeta> = fixture.lake.store.list(None).try_collect().await.unwrap();
    let sealed_log = "flights/_delta_log/00000000000000000000.json";
    let objects: Vec<&ObjectMeta> =
        objects.iter().filter(|o| o.location.as_ref() == sealed_log || !o.location.as_ref().contains("_log/")).collect();
    assert!(objects.len() > 5, "{objects:?}");
    let mut errors = 0;
    for object in objects {
        let honest = fixture.get(&object.location).await;
        for honest_reads in 0..4 {
            let mut bytes = honest.to_vec();
            // Values of the data, numbers in the log, whatever stands in seals.
            let at = if object.location.as_ref().ends_with(".json") { bytes.len() / 2 } else { bytes.len() / 3 };
            bytes[at] ^= 1;
            let changed = InMemory::new();
            changed.put(&object.location, bytes.into()).await.unwrap();
            let (path, inner) = (object.location.clone(), fixture.lake.store.clone());
            let store = Arc::new(TwoFaced { honest: inner, changed, path, honest_reads: AtomicUsize::new(honest_reads) });
            let lake = LakeStore { name: "test".to_owned(), store };
            let trust = Trust::new([fixture.key.public()], TrustLevel::Given).unwrap();
            let tables = TableOptions { require_sealed: true, ..TableOptions::default() };
            let session = SealedSession::new(SessionOptions { lake: Some(lake), trust: Some(trust), tables }).await.unwrap();
            for _ in 0..2 {
                let query = "SELECT CAST(SUM(delay) AS BIGINT), COUNT(*), MAX(id) FROM flights WHERE id < 4000";
                match session.run(query).await {
                    Ok(answer) => {
                        let column = |i: usize| answer[0].column(i).as_primitive::<Int64Type>().value(0);
                        assert_eq!((column(0), column(1), column(2)), (truth(), 4000, 3999), "{} after {honest_reads}", object.location);
                    }
                    Err(_) => errors += 1,
                }
            }
        }
    }
    assert!(errors > 0, "no change was ever noticed");
}

/// Spellings that engines, file systems and we might understand differently.
#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_path_doubles_a_row() {
    for spelled in [
        |name: &str| format!("%25{:02x}{}", name.as_bytes()[0], &name[1..]),
        |name: &str| format!("%{:02X}{}", name.as_bytes()[0], &name[1..]),
        |name: &str| format!("{name}#x"),
        |name: &str| format!("{name}%23x"),
        |name: &str| format!("{name};v=1"),
        |name: &str| name.replace("part-", "part\u{2d}\u{200b}"),
        |name: &str| name.replace("part-", "PART-"),
        |name: &str| format!("./{name}"),
        |name: &str| format!("x/..//{name}"),
        |name: &str| format!("%2e%2e/flights/{name}"),
        |name: &str| format!("../flights/{name}"),
        |name: &str| format!("\u{feff}{name}"),
        |name: &str| format!("{name}\\"),
        |name: &str| format!("file:{name}"),
        |name: &str| format!("//{name}"),
        |name: &str| format!("{name}/"),
        |name: &str| format!("{name}%00"),
    ] {
        let fixture = Fixture::sealed().await;
        let text = String::from_utf8(fixture.get(&Path::from(LOG)).await.to_vec()).unwrap();
        let add = text.lines().find(|line| line.starts_with("{\"add\"")).unwrap();
        let name = fixture.data_file().await.filename().unwrap().to_owned();
        let spelling = serde_json::to_string(&spelled(&name)).unwrap();
        let alias = add.replace(&format!("\"{name}\""), &spelling);
        assert_ne!(alias, add);
        fixture.lake.store.put(&Path::from("flights/_delta_log/00000000000000000001.json"), format!("{alias}\n").into()).await.unwrap();
        for query in [COUNT, "SELECT COUNT(*) FROM flights WHERE id >= 0", "SELECT COUNT(DISTINCT id) FROM flights"] {
            match fixture.number(query).await {
                Ok(count) => assert_eq!(count, 4000, "{spelling}: {query}"),
                Err(error) => assert!(!error.to_string().contains("panicked"), "{spelling}: {error}"),
            }
        }
    }
}

const LOG: &str = "flights/_delta_log/00000000000000000000.json";

/// Extremes and oddities of JSON and of names in a log: an error, or exact rows; never a panic, and never a wrong number.
#[tokio::test(flavor = "multi_thread")]
async fn odd_logs_are_read_exactly_or_refused() {
    let next = "00000000000000000001.json";
    let add = |size: &str| {
        format!(r#"{{"add":{{"path":"x.parquet","partitionValues":{{}},"size":{size},"modificationTime":0,"dataChange":true}}}}"#)
    };
    let odd: Vec<(&str, String)> = vec![
        (next, add("-1")),
        (next, add("9223372036854775808")),
        (next, add("18446744073709551615")),
        (next, add("1e3")),
        (next, add("1.5")),
        (next, add("null")),
        (next, "\u{feff}{\"commitInfo\":{}}\n".to_owned()),
        (next, "{\"commitInfo\":{\"timestamp\":9223372036854775807}}\r\n\r\n".to_owned()),
        (next, "{\"commitInfo\":{\"timestamp\":-9223372036854775808}}\n".to_owned()),
        (next, "{\"txn\":{\"appId\":\"a\",\"version\":9223372036854775807}}\n".to_owned()),
        (next, "{\"txn\":{\"appId\":\"a\",\"version\":18446744073709551615}}\n".to_owned()),
        (next, format!("{}\n", "[".repeat(100_000))),
        (next, "{\"add\":{\"path\":\"a\",\"path\":\"b\"}}\n".to_owned()),
        (next, "{\"remove\":{\"path\":\"a\"},\"add\":{\"path\":\"a\"}}\n".to_owned()),
        (next, String::new()),
        ("18446744073709551615.json", "{\"commitInfo\":{}}\n".to_owned()),
        ("99999999999999999999.json", "{\"commitInfo\":{}}\n".to_owned()),
        ("09223372036854775807.checkpoint.parquet", "PAR1".to_owned()),
        ("18446744073709551615.checkpoint.0000000001.0000000001.parquet", "PAR1".to_owned()),
        ("00000000000000000001.JSON", add("1")),
        ("\u{0660}0000000000000000001.json", add("1")),
    ];
    for (name, text) in odd {
        let fixture = Fixture::sealed().await;
        fixture.lake.store.put(&Path::from(format!("flights/_delta_log/{name}")), text.clone().into()).await.unwrap();
        let shown: String = text.chars().take(60).collect();
        for query in [COUNT, SUM, "SELECT COUNT(*) FROM flights WHERE id >= 0"] {
            let wanted = if query == SUM { truth() } else { 4000 };
            match fixture.number(query).await {
                Ok(found) => assert_eq!(found, wanted, "{name} {shown}: {query}"),
                Err(error) => assert!(!error.to_string().contains("panicked"), "{name} {shown}: {error}"),
            }
        }
        let sealed = fixture.session(ReadMode::Sealed).await.run(SUM).await;
        assert_eq!(first(&sealed.unwrap_or_else(|e| panic!("{name} {shown}: the sealed version: {e}"))), truth());
    }
}

/// A later commit that names columns which differ in case, or in normal form, reads no column for another.
#[tokio::test(flavor = "multi_thread")]
async fn columns_that_differ_in_case_are_not_read_for_each_other() {
    let fixture = Fixture::sealed().await;
    let text = String::from_utf8(fixture.get(&Path::from(LOG)).await.to_vec()).unwrap();
    let metadata = text.lines().find(|line| line.starts_with("{\"metaData\"")).unwrap();
    for (from, to) in
        [("\\\"name\\\":\\\"delay\\\"", "\\\"name\\\":\\\"DELAY\\\""), ("\\\"name\\\":\\\"id\\\"", "\\\"name\\\":\\\"de\\u0301lay\\\"")]
    {
        let changed = metadata.replace(from, to);
        assert_ne!(changed, metadata);
        fixture.lake.store.put(&Path::from("flights/_delta_log/00000000000000000001.json"), format!("{changed}\n").into()).await.unwrap();
        if let Ok(sum) = fixture.number("SELECT CAST(SUM(delay) AS BIGINT) FROM flights").await {
            assert_eq!(sum, truth(), "{to}");
        }
        if let Ok(found) = fixture.session(ReadMode::Latest).await.run("SELECT COUNT(\"DELAY\") FROM flights").await {
            assert!([0, 4000].contains(&first(&found)), "{to}");
        }
        let sealed = fixture.session(ReadMode::Sealed).await.run(SUM).await.unwrap();
        assert_eq!(first(&sealed), truth());
    }
}

/// Two lakes, one name, one path, one size: a session that is given both tables reads each from its own store.
#[tokio::test(flavor = "multi_thread")]
async fn tables_of_one_name_in_two_lakes_are_not_mixed() {
    let (one, other) = (Fixture::sealed().await, Fixture::unsealed().await);
    let path = other.data_file().await;
    let moved = parquet_bytes(&[batch(60_000..64_000)]);
    assert_eq!(moved.len(), other.get(&path).await.len(), "the same size, other rows");
    other.lake.store.put(&path, moved.into()).await.unwrap();
    let session = one.session(ReadMode::Latest).await;
    session.register("a", &one.location).await.unwrap();
    session.register("b", &other.location).await.unwrap();
    session.register("flights/", &one.location).await.unwrap();
    let rows = session.run("SELECT (SELECT MAX(id) FROM a), (SELECT MAX(id) FROM b), (SELECT MAX(id) FROM \"flights/\")").await.unwrap();
    let column = |i: usize| rows[0].column(i).as_primitive::<Int64Type>().value(0);
    assert_eq!((column(0), column(1), column(2)), (3999, 63_999, 3999));
    // A second name for a table takes nothing from the first.
    session.register("b", &one.location).await.unwrap();
    assert_eq!(first(&session.run("SELECT MAX(id) FROM b").await.unwrap()), 3999);
    assert_eq!(first(&session.run("SELECT MAX(id) FROM a").await.unwrap()), 3999);
}

/// A directory as its file system lists it, without the sorting that regions do.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_lists_in_any_order_is_opened_sealed_and_queried() {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(object_store::local::LocalFileSystem::new_with_prefix(directory.path()).unwrap());
    let url = url::Url::parse("s3://elsewhere/flights").unwrap();
    let location = Location::in_store(store.clone(), Path::from("flights"), url, "flights").unwrap();
    let source = directory.path().join("flights.csv");
    std::fs::write(&source, "id,delay\n1,2.5\n").unwrap();
    for _ in 0..14 {
        delta::import(&location, Import { sources: vec![source.clone()], ..Import::default() }).await.unwrap();
    }
    for version in [None, Some(3), Some(13)] {
        assert_eq!(delta::open(&location, version).await.unwrap().version(), version.or(Some(13)));
    }
    let key = PrivateKey::generate().unwrap();
    let sealer =
        Sealer::new(store, Path::from("flights"), "s3://elsewhere/flights", key.clone(), Arc::new(SystemClock), SealOptions::default());
    sealer.unwrap().seal(&()).await.unwrap();
    let trust = Some(Trust::new([key.public()], TrustLevel::Given).unwrap());
    let tables = TableOptions { require_sealed: true, verify: VerifyMode::Enforce, ..TableOptions::default() };
    let session = SealedSession::new(SessionOptions { lake: None, trust, tables }).await.unwrap();
    session.register("flights", &location).await.unwrap();
    assert_eq!(first(&session.run(COUNT).await.unwrap()), 14);
}

async fn import(fixture: &Fixture, ids: Range<i64>) -> Result<(), Error> {
    let source = fixture._directory.path().join("more.parquet");
    std::fs::write(&source, parquet_bytes(&[batch(ids)])).unwrap();
    delta::import(&fixture.location, Import { sources: vec![source], ..Import::default() }).await.map(drop)
}

/// A sealed table with a constraint, the first commits of which are gone: two checkpoints of one version, which say the same, stand for them.
/// Also gives the bytes of an older checkpoint, which knows nothing of the constraint.
async fn told_by_checkpoints() -> (Fixture, Bytes) {
    let log = |name: &str| Path::from(format!("flights/_delta_log/{name}"));
    let fixture = Fixture::unsealed().await;
    let table = delta::open(&fixture.location, None).await.unwrap();
    create_checkpoint(&table, None).await.unwrap();
    let older = fixture.get(&log("00000000000000000000.checkpoint.parquet")).await;
    let table = table.add_constraint().with_constraint("sane", "delay < 1000").await.unwrap();
    create_checkpoint(&table, None).await.unwrap();
    let honest = fixture.get(&log("00000000000000000001.checkpoint.parquet")).await;
    let twin = log("00000000000000000001.checkpoint.0000000001.0000000001.parquet");
    fixture.lake.store.put(&twin, honest.into()).await.unwrap();
    import(&fixture, 4000..4010).await.unwrap();
    for gone in ["00000000000000000000.json", "00000000000000000001.json", "00000000000000000000.checkpoint.parquet"] {
        fixture.lake.store.delete(&log(gone)).await.unwrap();
    }
    fixture.seal().await;
    (fixture, older)
}

async fn audited(fixture: &Fixture) -> AuditReport {
    let trust = Trust::new([fixture.key.public()], TrustLevel::Given).unwrap();
    let (store, root) = (fixture.location.store().clone(), fixture.location.root().clone());
    let url = fixture.location.url().as_str();
    let auditor = Auditor::new(store, root, url, trust, Arc::new(SystemClock), AuditOptions::default());
    auditor.audit(&()).await.unwrap()
}

/// Of several checkpoints of one version, we read the first by name and the Delta kernel the last: whoever adds one speaks to writers alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_checkpoint_of_one_version_is_neither_believed_nor_overlooked() {
    let (fixture, older) = told_by_checkpoints().await;
    assert_eq!(audited(&fixture).await.outcome(), Outcome::Intact, "checkpoints that say the same are honest");
    let forged = Path::from("flights/_delta_log/00000000000000000001.checkpoint.ffffffff-ffff-4fff-bfff-ffffffffffff.parquet");
    fixture.lake.store.put(&forged, older.into()).await.unwrap();

    let report = audited(&fixture).await;
    let named =
        |f: &lakeseal::baseline::Finding| f.verdict == Verdict::Forged && f.file.as_deref().is_some_and(|name| name.contains("ffffffff"));
    assert!(report.findings.iter().any(named), "{report:#?}");
    // What we read is the honest one.
    assert_eq!(fixture.number(COUNT).await.unwrap(), 4010);
    for bad in ["INSERT INTO flights VALUES (9999, 5000.0, 'AA')", "INSERT INTO flights VALUES (9999, 5.0, 'AA')"] {
        let error = fixture.session(ReadMode::Latest).await.run(bad).await.unwrap_err();
        names(&error, &["two checkpoints of one version"]);
    }
    names(&import(&fixture, 4010..4020).await.unwrap_err(), &["ffffffff"]);

    // Without it the table is written to as before, and its constraint is kept.
    fixture.lake.store.delete(&forged).await.unwrap();
    let error = fixture.session(ReadMode::Latest).await.run("INSERT INTO flights VALUES (9999, 5000.0, 'AA')").await.unwrap_err();
    assert!(!error.to_string().contains("two checkpoints"), "{error}");
    fixture.session(ReadMode::Latest).await.run("INSERT INTO flights VALUES (9999, 5.0, 'AA')").await.unwrap();
    assert_eq!(fixture.number(COUNT).await.unwrap(), 4011);
}

/// Engines read checkpoints by rules of their own: where one tells the state of a sealed table, they are shown what was compared, and not the checkpoint.
#[tokio::test(flavor = "multi_thread")]
async fn engines_are_shown_no_stored_checkpoint_of_a_sealed_table() {
    let (fixture, _) = told_by_checkpoints().await;
    let trust = Trust::new([fixture.key.public()], TrustLevel::Given).unwrap();
    for mode in [ReadMode::Latest, ReadMode::Sealed] {
        let options = TableOptions { mode, ..TableOptions::default() };
        let opened = VerifiedTable::open(&fixture.location, Some(&trust), &options).await.unwrap();
        opened.check().unwrap();
        let log = Path::from("flights/_delta_log");
        let shown: Vec<_> = opened.store().list(Some(&log)).try_collect().await.unwrap();
        assert_eq!(shown.len(), 1, "a log of our own: {shown:?}");
        assert!(!shown[0].location.as_ref().contains("checkpoint"), "{shown:?}");
        assert_eq!(first(&fixture.session(mode).await.run(COUNT).await.unwrap()), 4010);
    }
    // Who changes rows goes on from it, at the version that is stored, and its constraint is kept.
    let error = fixture.session(ReadMode::Latest).await.run("UPDATE flights SET delay = 5000.0 WHERE id = 7").await.unwrap_err();
    assert!(error.to_string().contains("failed validation"), "{error}");
    fixture.session(ReadMode::Latest).await.run("DELETE FROM flights WHERE id < 10").await.unwrap();
    assert_eq!(fixture.number(COUNT).await.unwrap(), 4000);
    assert_eq!(fixture.stock(COUNT).await, 4000);
    assert_eq!(delta::open(&fixture.location, None).await.unwrap().version(), Some(3));
}
