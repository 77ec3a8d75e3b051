//! Lineage: captured by what writes, asked in SQL, and held against what the recorded statement gives when it runs again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use lakeseal::baseline::{
    Attestation, AttestationName, AttestedCommit, SealOptions, Sealer, Trust, TrustLevel, Writers, attestation_envelope,
};
use lakeseal::clock::SystemClock;
use lakeseal::delta::{self, AttestingStore, Import, LakeStore, Location, Operation};
use lakeseal::digest::Digest;
use lakeseal::key::PrivateKey;
use lakeseal::lineage::{Input, InputFile, InputKind, Lineage, Output, Transformation, events};
use lakeseal::sql::{SealedSession, SessionOptions, TableOptions};
use lakeseal::{ErrorKind, Result};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use serde_json::Value;

pub(super) fn writer() -> PrivateKey {
    PrivateKey::from_seed(&[2; 32])
}

pub(super) fn sealer() -> PrivateKey {
    PrivateKey::from_seed(&[1; 32])
}

pub(super) struct World {
    pub(super) lake: LakeStore,
    /// The same, through which nothing is attested.
    pub(super) plain: LakeStore,
    directory: tempfile::TempDir,
}

impl World {
    /// A lake whose commits are attested, with the table `raw`: 4000 rows in four row groups of one file.
    pub(super) async fn new() -> Self {
        Self::over(Arc::new(InMemory::new())).await
    }

    /// As [`Self::new`], over this store.
    pub(super) async fn over(store: Arc<dyn ObjectStore>) -> Self {
        let plain = LakeStore { name: "lineage".to_owned(), store };
        let lake = AttestingStore::around_lake(&plain, Arc::new(writer()), Arc::new(SystemClock)).unwrap();
        let world = Self { lake, plain, directory: tempfile::tempdir().unwrap() };
        world.import("raw", "raw.parquet", 0..4000).await;
        world
    }

    pub(super) fn location(&self, table: &str) -> Location {
        Location::in_lake(&self.lake, table).unwrap()
    }

    pub(super) async fn import(&self, table: &str, file: &str, ids: std::ops::Range<i64>) {
        let source = self.directory.path().join(file);
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("part", DataType::Utf8, true),
            Field::new("x", DataType::Float64, true),
        ]));
        let columns: Vec<Arc<dyn Array>> = vec![
            Arc::new(Int64Array::from_iter_values(ids.clone())),
            Arc::new(StringArray::from_iter_values(ids.clone().map(|i| format!("p{}", i % 7)))),
            Arc::new(Float64Array::from_iter_values(ids.map(|i| 1.0 / (i as f64 + 3.0)))),
        ];
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        let mut out = ArrowWriter::try_new(std::fs::File::create(&source).unwrap(), schema, None).unwrap();
        out.write(&batch).unwrap();
        out.close().unwrap();
        delta::import(&self.location(table), Import { sources: vec![source], ..Import::default() }).await.unwrap();
    }

    pub(super) async fn session(&self) -> SealedSession {
        let tables = TableOptions { writers: Writers::known(vec![writer().public()]), ..TableOptions::default() };
        let trust = Some(Trust::new([sealer().public()], TrustLevel::Given).unwrap());
        SealedSession::new(SessionOptions { lake: Some(self.lake.clone()), trust, tables }).await.unwrap()
    }

    pub(super) async fn run(&self, query: &str) -> Vec<RecordBatch> {
        self.session().await.run(query).await.unwrap_or_else(|e| panic!("{query}: {e}"))
    }

    pub(super) async fn count(&self, query: &str) -> i64 {
        self.run(query).await[0].column(0).as_primitive::<Int64Type>().value(0)
    }

    /// The first column of the first row, as text.
    pub(super) async fn text(&self, query: &str) -> String {
        let batches = self.run(query).await;
        let rows: Vec<String> = batches
            .iter()
            .flat_map(|batch| {
                (0..batch.num_rows()).map(move |row| arrow::util::display::array_value_to_string(batch.column(0), row).unwrap())
            })
            .collect();
        rows.join("|")
    }

    /// The row groups of a file that hold an `id` of at least `least`: which rows a writer puts into which group is its own affair.
    async fn row_groups_with(&self, path: &str, least: i64) -> Vec<u32> {
        let bytes = self.lake.store.get(&Path::from(path)).await.unwrap().bytes().await.unwrap();
        let metadata = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().metadata().clone();
        let greatest = |group: &parquet::file::metadata::RowGroupMetaData| match group.column(0).statistics().unwrap() {
            parquet::file::statistics::Statistics::Int64(of) => *of.max_opt().unwrap(),
            other => panic!("{other:?}"),
        };
        (0..).zip(metadata.row_groups()).filter(|(_, group)| greatest(group) >= least).map(|(ordinal, _)| ordinal).collect()
    }

    pub(super) async fn seal(&self, table: &str) {
        let location = self.location(table);
        let (store, root) = (location.store().clone(), location.root().clone());
        let sealer = Sealer::new(store, root, location.url().as_str(), sealer(), Arc::new(SystemClock), SealOptions::default()).unwrap();
        sealer.seal(&()).await.unwrap();
    }

    pub(super) async fn verdict(&self, table: &str, version: u64) -> (String, String) {
        let query = |column: &str| format!("SELECT {column} FROM verify_derivation('{table}', {version})");
        let detail = "coalesce(first_difference, '') || ' ' || detail || ' plan ' || plan";
        (self.text(&query("verdict")).await, self.text(&query(detail)).await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_names_the_digest_of_its_source_and_its_row_groups() {
    let world = World::new().await;
    let source = Digest::of(&std::fs::read(world.directory.path().join("raw.parquet")).unwrap());
    let row =
        "operation || ' ' || input_kind || ' ' || input_table || ' ' || input_digest || ' ' || output_row_group || ' ' || output_rows";
    assert_eq!(world.text(&format!("SELECT {row} FROM lineage('raw')")).await, format!("IMPORT source raw.parquet {source} 0 4000"));
    let written = world.text("SELECT output_digest FROM lineage('raw')").await;
    let file = world.text("SELECT output_file FROM lineage('raw')").await;
    let bytes = world.lake.store.get(&Path::from(format!("raw/{file}"))).await.unwrap().bytes().await.unwrap();
    assert_eq!(written, Digest::of(&bytes).to_string());
    assert_eq!(world.text("SELECT attested_by FROM lineage('raw')").await, writer().public().id().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_s_inputs_are_what_it_really_read() {
    let world = World::new().await;
    // Three files of which a filter leaves one, and in it the row group that statistics leave.
    for (name, first) in [("a", 10_000), ("b", 200_000)] {
        world.import("raw", &format!("{name}.parquet"), first..first + 140_000).await;
    }
    let mut read = Vec::new();
    for sealed in [false, true] {
        if sealed {
            world.seal("raw").await;
        }
        let name = if sealed { "late" } else { "early" };
        world.run(&format!("CREATE TABLE {name} AS SELECT id, x FROM raw WHERE id >= 335000")).await;
        assert_eq!(world.count(&format!("SELECT count(*) FROM {name}")).await, 5000);
        let of = |column: &str| format!("SELECT {column} FROM lineage('{name}')");
        assert_eq!(world.text(&of("operation || ' ' || input_table || ' ' || input_version")).await, "CREATE TABLE AS raw 2");
        let file = world.text(&format!("SELECT DISTINCT input_file FROM lineage('{name}')")).await;
        read = world.row_groups_with(&format!("raw/{file}"), 335_000).await;
        let expected: Vec<String> = read.iter().map(u32::to_string).collect();
        assert_eq!(world.text(&of("input_row_groups")).await, expected.join(","), "sealed: {sealed}");
        assert_eq!(world.text(&of("input_digest IS NOT NULL")).await, sealed.to_string());
    }
    // A count that the log answers depends on every file.
    world.run("CREATE TABLE counted AS SELECT count(*) AS n FROM raw").await;
    assert_eq!(world.text("SELECT input_file IS NULL FROM lineage('counted')").await, "true");
    let file = world.text("SELECT DISTINCT input_file FROM lineage('late')").await;
    for row_group in 0..2 {
        let expected = if read.contains(&row_group) { "counted|early|late" } else { "counted" };
        let query = format!("SELECT DISTINCT \"table\" FROM blast_radius('raw', '{file}', {row_group}) ORDER BY 1");
        assert_eq!(world.text(&query).await, expected, "row group {row_group}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn four_tables_are_followed_up_and_down_and_functions_are_tables() {
    let world = World::new().await;
    world.run("CREATE TABLE clean AS SELECT * FROM raw WHERE id % 2 = 0").await;
    world.run("CREATE TABLE features AS SELECT part, sum(x) AS total, count(*) AS n FROM clean GROUP BY part").await;
    world.run("CREATE TABLE training AS SELECT c.id, f.total FROM clean c JOIN features f ON c.part = f.part").await;
    world.run("INSERT INTO training SELECT id, x FROM raw WHERE id < 5").await;
    assert_eq!(
        world.text("SELECT \"table\" || depth FROM blast_radius('raw') ORDER BY depth, 1").await,
        "clean1|training1|features2|training2"
    );
    assert_eq!(world.text("SELECT DISTINCT \"table\" FROM upstream('training') ORDER BY 1").await, "clean|features|raw|raw.parquet");
    // Joins, filters, aggregates.
    let joined = "SELECT count(DISTINCT b.file) FROM blast_radius('raw') b JOIN lineage('training') l ON l.output_file = b.file WHERE l.operation = 'INSERT'";
    assert_eq!(world.count(joined).await, 1);
    let grouped = "SELECT \"table\" || max(depth) FROM blast_radius('raw') GROUP BY \"table\" HAVING count(*) = 2";
    assert_eq!(world.text(grouped).await, "training2");
    // Commits of stock engines are attested too, with what their actions say.
    let table = delta::open(&world.location("training"), None).await.unwrap();
    let context = delta::session([&world.location("training")]).unwrap();
    table.optimize().with_session_state(Arc::new(context.state())).await.unwrap();
    let optimised =
        "SELECT operation || ' ' || derived || ' ' || count(*) FROM lineage('training') WHERE version = 2 GROUP BY operation, derived";
    assert_eq!(world.text(optimised).await, "OPTIMIZE true 2");
    assert_eq!(world.text("SELECT \"table\" || depth FROM blast_radius('raw') WHERE operation = 'OPTIMIZE'").await, "training2");
    for bad in ["lineage('none')", "upstream('none')", "blast_radius('raw', 'none.parquet')", "verify_derivation('raw', 99)"] {
        let error = world.session().await.run(&format!("SELECT * FROM {bad}")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{bad}: {error}");
    }
    for bad in ["lineage()", "lineage('a', 'b')", "blast_radius('raw', NULL, 1)", "verify_derivation('raw', 'x')"] {
        let error = world.session().await.run(&format!("SELECT * FROM {bad}")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}: {error}");
        assert!(error.to_string().contains("takes"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_wrote_what_they_say_are_reproduced() {
    let world = World::new().await;
    world.seal("raw").await;
    world.run("CREATE TABLE clean AS SELECT id, upper(part) AS part, x FROM raw WHERE id % 3 = 0").await;
    world.run("INSERT INTO clean SELECT id + 10000, part, x * 2 FROM raw WHERE id < 100").await;
    world.run("INSERT INTO clean SELECT id, part, NULL FROM clean WHERE id = 0").await;
    world.run("CREATE TABLE features AS SELECT part, sum(x) AS total, avg(x) AS mean FROM clean GROUP BY part").await;
    // Inputs go on; what was recorded is their old version.
    world.import("raw", "more.parquet", 90_000..90_010).await;
    for (table, versions) in [("clean", 3), ("features", 1)] {
        for version in 0..versions {
            let (verdict, detail) = world.verdict(table, version).await;
            assert_eq!(verdict, "reproduced", "{table} {version}: {detail}");
            assert!(detail.contains("plan same"), "{detail}");
        }
    }
    assert_eq!(world.count("SELECT sum(CAST(rows AS BIGINT)) FROM verify_derivation('clean') WHERE verdict = 'reproduced'").await, 1435);
    let (verdict, detail) = world.verdict("raw", 0).await;
    assert_eq!(verdict, "undetermined");
    assert!(detail.contains("no recorded query"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_again_is_said_and_why() {
    let world = World::new().await;
    world.run("CREATE TABLE noisy AS SELECT id, random() AS r, now() AS t FROM raw").await;
    let (verdict, detail) = world.verdict("noisy", 0).await;
    assert_eq!(verdict, "undetermined");
    assert!(detail.contains("now, random"), "{detail}");
    assert_eq!(world.text("SELECT DISTINCT volatile FROM lineage('noisy')").await, "now, random");

    let session = world.session().await;
    let twice = create_udf(
        "twice",
        vec![DataType::Int64],
        DataType::Int64,
        Volatility::Immutable,
        Arc::new(|arguments: &[ColumnarValue]| Ok(arguments[0].clone())),
    );
    session.context().register_udf(twice);
    session.run("CREATE TABLE doubled AS SELECT twice(id) AS id FROM raw").await.unwrap();
    let here = session.run("SELECT verdict FROM verify_derivation('doubled')").await.unwrap();
    assert_eq!(here[0].column(0).as_string::<i32>().value(0), "reproduced", "the session that has the function");
    let (verdict, detail) = world.verdict("doubled", 0).await;
    assert_eq!(verdict, "undetermined");
    assert!(detail.contains("twice"), "{detail}");

    world.run("CREATE TABLE copy AS SELECT * FROM raw").await;
    world.import("raw", "again.parquet", 0..10).await;
    let log = Path::from("raw/_delta_log/00000000000000000000.json");
    let bytes = world.lake.store.get(&log).await.unwrap().bytes().await.unwrap();
    world.lake.store.delete(&log).await.unwrap();
    let (verdict, detail) = world.verdict("copy", 0).await;
    assert_eq!(verdict, "undetermined");
    assert!(detail.contains("can no longer be read at the version"), "{detail}");
    // The commit is back, with another byte: not what was read.
    let changed = String::from_utf8(bytes.to_vec()).unwrap().replace("\"operation\":\"WRITE\"", "\"operation\":\"WRITF\"");
    assert_ne!(changed.as_bytes(), &bytes[..]);
    world.lake.store.put(&log, changed.into()).await.unwrap();
    let (verdict, detail) = world.verdict("copy", 0).await;
    assert_eq!(verdict, "undetermined");
    assert!(detail.contains("history was replaced"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_changes_rows_as_well_is_shown_by_what_is_left() {
    let world = World::new().await;
    world.run("CREATE TABLE clean AS SELECT id, x FROM raw WHERE id < 10").await;
    world.run("DELETE FROM clean WHERE id = 3 OR x > 0.3").await;
    let (verdict, detail) = world.verdict("clean", 1).await;
    assert_eq!(verdict, "reproduced", "{detail}");
    // An insider with a valid key says that one row goes, and changes another in passing.
    let (_, commits) = world.session().await.lineage("clean").await.unwrap();
    let mut claim = commits.iter().find(|commit| commit.version == 1).unwrap().lineage.clone();
    claim.transformation.sql = Some("DELETE FROM clean WHERE id = 4".to_owned());
    let ids = || (1..10_i64).filter(|id| *id != 3 && *id != 4);
    let honest = |id: i64| 1.0 / (id as f64 + 3.0);
    for (poisoned, version) in [(false, 2), (true, 3)] {
        for input in &mut claim.inputs {
            (input.version, input.digest, input.files) = (Some(version - 1), None, None);
        }
        let location = world.location("clean").doing(Operation(Arc::new(claim.clone()))).unwrap();
        let rows = RecordBatch::try_new(
            Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("x", DataType::Float64, true)])),
            vec![
                Arc::new(Int64Array::from_iter_values(ids())),
                Arc::new(Float64Array::from_iter_values(ids().map(|id| if id == 7 && poisoned { 99.5 } else { honest(id) }))),
            ],
        )
        .unwrap();
        let table = delta::open(&location, None).await.unwrap();
        table.write(vec![rows]).with_save_mode(deltalake::protocol::SaveMode::Overwrite).await.unwrap();
        let (verdict, detail) = world.verdict("clean", version).await;
        if !poisoned {
            assert_eq!(verdict, "reproduced", "{detail}");
            assert!(detail.contains("no digest of clean's version 1 is recorded"), "{detail}");
            continue;
        }
        assert_eq!(verdict, "differs", "{detail}");
        for part in ["id: 7", "x: 99.5", "the commit left", "does not give", "not among what the commit left"] {
            assert!(detail.contains(part), "{part} is not in {detail}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lineage_that_lies_is_shown_by_the_rows() {
    let world = World::new().await;
    world.run("CREATE TABLE clean AS SELECT id, x FROM raw WHERE id < 10").await;
    // An insider with a valid key: the recorded statement is an honest one, the rows are not its rows.
    let session = world.session().await;
    let (_, commits) = session.lineage("clean").await.unwrap();
    let mut claim = commits[0].lineage.clone();
    claim.operation = "INSERT".to_owned();
    claim.transformation.sql = Some("INSERT INTO clean SELECT id, x FROM raw WHERE id < 10".to_owned());
    let source = world.directory.path().join("poison.csv");
    let honest = |id: i64| 1.0 / (id as f64 + 3.0);
    let lines: Vec<String> = (0..10).map(|id| format!("{id},{}", if id == 7 { 99.5 } else { honest(id) })).collect();
    std::fs::write(&source, format!("id,x\n{}\n", lines.join("\n"))).unwrap();
    let location = world.location("clean").doing(Operation(Arc::new(claim.clone()))).unwrap();
    // An import carries lineage of its own: this one is written as a thief would, below it.
    let poison = RecordBatch::try_new(
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("x", DataType::Float64, true)])),
        vec![
            Arc::new(Int64Array::from_iter_values(0..10)),
            Arc::new(Float64Array::from_iter_values((0..10).map(|id| if id == 7 { 99.5 } else { honest(id) }))),
        ],
    )
    .unwrap();
    delta::open(&location, None).await.unwrap().write(vec![poison]).await.unwrap();
    let (verdict, detail) = world.verdict("clean", 1).await;
    assert_eq!(verdict, "differs", "{detail}");
    for part in ["id: 7", "x: 99.5", "does not give", "x: 0.1", "not among what the commit added"] {
        assert!(detail.contains(part), "{part} is not in {detail}");
    }
    assert_eq!(world.verdict("clean", 0).await.0, "reproduced");

    // Bytes changed after the fact: not the file that was written.
    let file = world.text("SELECT DISTINCT output_file FROM lineage('clean') WHERE version = 0").await;
    let path = Path::from(format!("clean/{file}"));
    let mut bytes = world.lake.store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    world.lake.store.put(&path, bytes.into()).await.unwrap();
    let (verdict, detail) = world.verdict("clean", 0).await;
    assert_eq!(verdict, "differs");
    assert!(detail.contains("is not the file that was written"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_in_another_order_are_inexact_and_by_how_much() {
    let world = World::new().await;
    world.run("CREATE TABLE sums AS SELECT part, sum(x) AS total FROM raw GROUP BY part").await;
    let (_, commits) = world.session().await.lineage("sums").await.unwrap();
    let mut rows = Vec::new();
    for batch in world.run("SELECT part, total FROM sums ORDER BY part").await {
        for row in 0..batch.num_rows() {
            let part = arrow::util::display::array_value_to_string(batch.column(0), row).unwrap();
            rows.push((part, batch.column(1).as_primitive::<Float64Type>().value(row)));
        }
    }
    // The same sums, off in the last digits, as a machine that adds in another order gives them.
    let schema = Arc::new(Schema::new(vec![Field::new("part", DataType::Utf8, true), Field::new("total", DataType::Float64, true)]));
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|(part, _)| part.clone()))),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|(_, total)| total * (1.0 + 4.0 * f64::EPSILON)))),
    ];
    let mut claim = commits[0].lineage.clone();
    claim.operation = "INSERT".to_owned();
    claim.transformation.sql = Some("INSERT INTO sums SELECT part, sum(x) AS total FROM raw GROUP BY part".to_owned());
    let location = world.location("sums").doing(Operation(Arc::new(claim))).unwrap();
    delta::open(&location, None).await.unwrap().write(vec![RecordBatch::try_new(schema, columns).unwrap()]).await.unwrap();
    let (verdict, detail) = world.verdict("sums", 1).await;
    assert_eq!(verdict, "inexact", "{detail}");
    let deviation = world.run("SELECT deviation FROM verify_derivation('sums', 1)").await;
    let deviation = deviation[0].column(0).as_primitive::<Float64Type>().value(0);
    assert!(deviation > 0.0 && deviation < 1e-14, "{deviation}");
    assert_eq!(world.verdict("sums", 0).await.0, "reproduced");
}

/// The rules of OpenLineage's schema that the events could break: required members, their formats, and the base of facets.
fn check_event(event: &Value) {
    let uri = |value: &Value| url::Url::parse(value.as_str().unwrap()).map(drop).unwrap();
    assert!(["START", "COMPLETE", "ABORT", "FAIL", "OTHER", "RUNNING"].contains(&event["eventType"].as_str().unwrap()));
    chrono::DateTime::parse_from_rfc3339(event["eventTime"].as_str().unwrap()).unwrap();
    uri(&event["producer"]);
    uri(&event["schemaURL"]);
    let run = event["run"]["runId"].as_str().unwrap();
    assert_eq!(run.len(), 36, "a UUID");
    let facets = |owner: &Value| {
        for (name, facet) in owner["facets"].as_object().into_iter().flatten() {
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{name}");
            uri(&facet["_producer"]);
            uri(&facet["_schemaURL"]);
        }
    };
    for owner in [&event["run"], &event["job"]] {
        facets(owner);
    }
    let named = |value: &Value| {
        assert!(!value["namespace"].as_str().unwrap().is_empty());
        assert!(!value["name"].as_str().unwrap().is_empty());
    };
    named(&event["job"]);
    for dataset in event["inputs"].as_array().unwrap().iter().chain(event["outputs"].as_array().unwrap()) {
        named(dataset);
        facets(dataset);
        if let Some(version) = dataset["facets"].get("version") {
            version["datasetVersion"].as_str().unwrap();
        }
    }
    if let Some(sql) = event["job"]["facets"].get("sql") {
        sql["query"].as_str().unwrap();
    }
    if let Some(engine) = event["run"]["facets"].get("processing_engine") {
        engine["version"].as_str().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openlineage_events_keep_the_schema_s_rules() {
    let world = World::new().await;
    world.run("CREATE TABLE clean AS SELECT * FROM raw WHERE id % 2 = 0").await;
    let session = world.session().await;
    for table in ["raw", "clean"] {
        let (location, commits) = session.lineage(table).await.unwrap();
        let all: Vec<Value> = events(location.url().as_str(), &commits, 0).collect();
        assert_eq!(all.len(), 1);
        all.iter().for_each(check_event);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_exists_or_cannot_be_is_not_made() {
    let world = World::new().await;
    let session = world.session().await;
    let fails = async |query: &str| session.run(query).await.unwrap_err();
    assert_eq!(fails("CREATE TABLE raw AS SELECT 1 AS a").await.kind(), ErrorKind::AlreadyExists);
    session.run("CREATE TABLE IF NOT EXISTS raw AS SELECT 1 AS a").await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM raw").await, 4000);
    assert_eq!(fails("CREATE OR REPLACE TABLE raw AS SELECT 1 AS a").await.kind(), ErrorKind::Unsupported);
    let twice = fails("CREATE TABLE t AS SELECT r.id, q.id FROM raw r JOIN raw q ON r.id = q.id").await;
    assert_eq!(twice.kind(), ErrorKind::InvalidInput, "{twice}");
    session.run("CREATE TABLE typed AS SELECT CAST(1 AS INT UNSIGNED) AS u, 'a' AS t, arrow_cast(1, 'Float16') AS h").await.unwrap();
    assert_eq!(world.text("SELECT arrow_typeof(u) || ' ' || arrow_typeof(h) FROM typed").await, "Int64 Float32");
}

/// Attested commits of `tables` tables, each of which reads the one before; written as the attesting store writes them.
async fn generated(store: &InMemory, tables: u64, commits: u64) -> Result<()> {
    let key = writer();
    for table in 0..tables {
        let root = Path::from(format!("t{table}"));
        let location = format!("lakeseal://lineage/t{table}");
        let mut previous = None;
        for version in 0..commits {
            let file = format!("part-{version:08}.parquet");
            let metadata = if version == 0 { "{\"metaData\":{\"id\":\"x\"}}\n" } else { "" };
            let bytes = format!("{metadata}{{\"add\":{{\"path\":\"{file}\",\"size\":1,\"dataChange\":true}}}}\n").into_bytes();
            let files = vec![InputFile { path: file.clone(), digest: None, row_groups: Some(vec![0]) }];
            let input = table.checked_sub(1).map(|before| Input {
                kind: InputKind::Table,
                uri: format!("lakeseal://lineage/t{before}"),
                name: Some(format!("t{before}")),
                table_id: None,
                version: Some(version),
                digest: None,
                baseline: None,
                files: Some(files),
            });
            let lineage = Lineage {
                operation: "INSERT".to_owned(),
                inputs: input.into_iter().collect(),
                inputs_complete: true,
                transformation: Transformation { engine: BTreeMap::new(), ..Transformation::default() },
                outputs: vec![Output { path: file, size: 1, digest: None, row_groups: Some(vec![1]) }],
                ..Lineage::default()
            };
            let commit = AttestedCommit::of("x".to_owned(), location.clone(), version, &bytes, previous);
            previous = Some(commit.commit);
            let name = AttestationName { version, commit: commit.commit, key: key.public().id() };
            let attestation = Attestation { commit, provenance: lineage.to_provenance("urn:x") };
            store.put(&name.path(&root), attestation_envelope(&key, attestation.statement(&[])).await.unwrap().into()).await?;
            store.put(&root.clone().join("_delta_log").join(format!("{version:020}.json")), bytes.into()).await?;
        }
    }
    Ok(())
}

async fn walk_generated(tables: u64, commits: u64) {
    let store = Arc::new(InMemory::new());
    generated(&store, tables, commits).await.unwrap();
    let lake = LakeStore { name: "lineage".to_owned(), store: store as Arc<dyn ObjectStore> };
    let writers = Writers::known(vec![writer().public()]);
    let tables_options = TableOptions { writers, ..TableOptions::default() };
    let session = SealedSession::new(SessionOptions { lake: Some(lake), trust: None, tables: tables_options }).await.unwrap();
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096 / 1_000_000
    };
    let (begun, before) = (Instant::now(), resident());
    let batches = session.run("SELECT count(*) FROM blast_radius('t0', 'part-00000007.parquet', 0)").await.unwrap();
    println!(
        "blast radius of one row group over {} commits of {tables} tables: {:.2} s, {} MB more resident",
        tables * commits,
        begun.elapsed().as_secs_f64(),
        resident().saturating_sub(before)
    );
    assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), i64::try_from(tables - 1).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blast_radius_crosses_thousands_of_commits() {
    walk_generated(4, 500).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: 100,000 commits"]
async fn a_blast_radius_crosses_a_hundred_thousand_commits() {
    walk_generated(10, 10_000).await;
}
