//! `verify_derivation` against a thief who has a writer's key: commits that give the recorded rows and do something besides, and records that
//! name other inputs than they say.

use std::sync::Arc;

use arrow::array::{Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::array_value_to_string;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use deltalake::protocol::SaveMode;
use lakeseal::baseline::{Attestation, AttestationName, AttestedCommit, attestation_envelope};
use lakeseal::delta::{self, Import, Operation};
use lakeseal::digest::Digest;
use lakeseal::lineage::{CommitLineage, Lineage, Output};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use super::lineage::{World, writer};

fn honest(id: i64) -> f64 {
    1.0 / (id as f64 + 3.0)
}

fn rows(ids: impl Iterator<Item = i64> + Clone) -> RecordBatch {
    RecordBatch::try_new(
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("x", DataType::Float64, true)])),
        vec![Arc::new(Int64Array::from_iter_values(ids.clone())), Arc::new(Float64Array::from_iter_values(ids.map(honest)))],
    )
    .unwrap()
}

fn log_path(table: &str, version: u64) -> Path {
    Path::from(format!("{table}/_delta_log/{version:020}.json"))
}

impl World {
    async fn commit(&self, table: &str, version: u64) -> CommitLineage {
        let (_, commits) = self.session().await.lineage(table).await.unwrap();
        commits.into_iter().find(|commit| commit.version == version).unwrap()
    }

    async fn logged(&self, table: &str, version: u64) -> Vec<Value> {
        let bytes = self.lake.store.get(&log_path(table, version)).await.unwrap().bytes().await.unwrap();
        let text = std::str::from_utf8(&bytes).unwrap();
        text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Puts another commit in the place of the newest, attested with `claim`, as whoever has the writer's key can.
    async fn recommit(&self, table: &str, version: u64, claim: Lineage, actions: &[Value]) {
        self.lake.store.delete(&log_path(table, version)).await.unwrap();
        let location = self.location(table).doing(Operation(Arc::new(claim))).unwrap();
        let text: String = actions.iter().map(|action| format!("{action}\n")).collect();
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        location.store().put_opts(&log_path(table, version), text.into(), create).await.unwrap();
    }

    /// Writes rows over all that a table has, under a claim.
    async fn overwrite(&self, table: &str, claim: Lineage, batch: RecordBatch) {
        let location = self.location(table).doing(Operation(Arc::new(claim))).unwrap();
        delta::open(&location, None).await.unwrap().write(vec![batch]).with_save_mode(SaveMode::Overwrite).await.unwrap();
    }

    /// `clean` with ten rows, and five that were inserted later.
    async fn with_clean() -> Self {
        let world = Self::new().await;
        world.run("CREATE TABLE clean AS SELECT id, x FROM raw WHERE id < 10").await;
        world.run("INSERT INTO clean SELECT id + 10000 AS id, x FROM raw WHERE id < 5").await;
        world
    }

    async fn expect(&self, table: &str, version: u64, verdict: &str, parts: &[&str]) {
        let (found, detail) = self.verdict(table, version).await;
        assert_eq!(found, verdict, "{detail}");
        for part in parts {
            assert!(detail.contains(part), "{part} is not in {detail}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_that_removes_other_rows_or_changes_the_table_differs() {
    let world = World::with_clean().await;
    world.expect("clean", 1, "reproduced", &["raw = lakeseal://lineage/raw@0"]).await;
    let claim = world.commit("clean", 1).await.lineage;
    let added = world.logged("clean", 1).await;
    let first = world.logged("clean", 0).await;
    let file = first.iter().find_map(|action| action.get("add")).unwrap();
    let remove =
        json!({"remove": {"path": file["path"], "size": file["size"], "deletionTimestamp": 1, "dataChange": true, "partitionValues": {}}});
    world.recommit("clean", 1, claim.clone(), &[added.clone(), vec![remove]].concat()).await;
    world.expect("clean", 1, "differs", &["removes", file["path"].as_str().unwrap(), "leaves as it is"]).await;

    let mut anew = file.clone();
    anew["stats"] = json!("{\"numRecords\":10}");
    world.recommit("clean", 1, claim.clone(), &[added.clone(), vec![json!({"add": anew})]].concat()).await;
    world.expect("clean", 1, "differs", &["adds anew", file["path"].as_str().unwrap()]).await;

    let mut metadata = first.iter().find(|action| action.get("metaData").is_some()).unwrap().clone();
    metadata["metaData"]["configuration"] = json!({"delta.appendOnly": "true"});
    world.recommit("clean", 1, claim.clone(), &[added.clone(), vec![metadata]].concat()).await;
    world.expect("clean", 1, "differs", &["changes the table's metadata"]).await;

    world.recommit("clean", 1, claim, &added).await;
    world.expect("clean", 1, "reproduced", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_that_leaves_rows_differs() {
    let world = World::with_clean().await;
    let mut claim = world.commit("clean", 1).await.lineage;
    let added = world.logged("clean", 1).await;
    let file = world.text("SELECT DISTINCT output_file FROM lineage('clean') WHERE version = 0").await;
    let overwrite = "INSERT OVERWRITE clean SELECT id + 10000 AS id, x FROM raw WHERE id < 5";
    claim.transformation.sql = Some(overwrite.to_owned());
    world.recommit("clean", 1, claim.clone(), &added).await;
    world.expect("clean", 1, "differs", &["leaves", &file, "OVERWRITE replaces"]).await;
    // Nobody says that it was made.
    claim.transformation.sql = Some("CREATE TABLE clean AS SELECT id + 10000 AS id, x FROM raw WHERE id < 5".to_owned());
    world.recommit("clean", 1, claim.clone(), &added).await;
    world.expect("clean", 1, "differs", &["was there before"]).await;

    world.run(overwrite).await;
    assert_eq!(world.count("SELECT count(*) FROM clean").await, 5);
    world.expect("clean", 2, "reproduced", &["5 row(s)"]).await;
    // An honest one that began before others appended leaves their rows: it is not accused, nor proven.
    let claim = world.commit("clean", 2).await.lineage;
    let location = world.location("clean").doing(Operation(Arc::new(claim))).unwrap();
    let begun = delta::open(&location, None).await.unwrap();
    world.run("INSERT INTO clean SELECT id + 20000 AS id, x FROM raw WHERE id < 2").await;
    let batch = world.run("SELECT id + 10000 AS id, x FROM raw WHERE id < 5").await;
    begun.write(batch).with_save_mode(SaveMode::Overwrite).await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM clean").await, 7);
    world.expect("clean", 4, "undetermined", &["began before they were added is not known"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_that_is_called_a_deletion_is_not_reproduced() {
    let world = World::with_clean().await;
    // Made for an honest claim: what was read is version 0, with its true digest.
    world.run("DELETE FROM clean WHERE id = 9").await;
    world.expect("clean", 2, "reproduced", &["clean = lakeseal://lineage/clean@1"]).await;
    let mut claim = world.commit("clean", 2).await.lineage;
    claim.transformation.sql = Some("DELETE FROM clean WHERE id = 4".to_owned());
    let digest = world.commit("clean", 0).await.commit;
    for input in &mut claim.inputs {
        (input.version, input.digest, input.files) = (Some(0), Some(digest), None);
    }
    world.overwrite("clean", claim.clone(), rows((0..10).filter(|id| *id != 4))).await;
    world.expect("clean", 3, "undetermined", &["lost files before the commit"]).await;

    // Where all files of version 0 were still there, the others are what it took away.
    let world = World::with_clean().await;
    let first = world.commit("clean", 0).await;
    for input in &mut claim.inputs {
        (input.digest, input.table_id) = (Some(first.commit), first.table_id.clone());
    }
    world.overwrite("clean", claim, rows((0..10).filter(|id| *id != 4))).await;
    world.expect("clean", 2, "differs", &["removes", "is not of version 0"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_of_another_table_s_rows_differs() {
    let world = World::with_clean().await;
    world.run("CREATE TABLE other AS SELECT id, x FROM raw WHERE id < 3").await;
    world.run("DELETE FROM clean WHERE id = 9").await;
    let mut claim = world.commit("clean", 2).await.lineage;
    let other = world.commit("other", 0).await;
    claim.transformation.sql = Some("DELETE FROM clean WHERE id = 1".to_owned());
    for input in &mut claim.inputs {
        input.uri = world.location("other").url().to_string();
        (input.version, input.digest, input.files) = (Some(0), Some(other.commit), None);
        input.table_id = other.table_id.clone();
    }
    world.overwrite("clean", claim.clone(), rows([0, 2].into_iter())).await;
    world.expect("clean", 3, "differs", &["lakeseal://lineage/other, which is not this table", "clean = lakeseal://lineage/other@0"]).await;
    // Nor is a commit made of itself.
    claim.operation = "INSERT".to_owned();
    claim.transformation.sql = Some("INSERT OVERWRITE clean SELECT id, x FROM clean".to_owned());
    for input in &mut claim.inputs {
        input.uri = world.location("clean").url().to_string();
        (input.version, input.digest, input.table_id) = (Some(4), None, None);
    }
    world.overwrite("clean", claim, rows([7, 8].into_iter())).await;
    world.expect("clean", 4, "undetermined", &["not there before it"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_follows_an_append_it_did_not_see_is_reproduced() {
    let world = World::with_clean().await;
    for (version, statement) in [(2, "DELETE FROM clean WHERE id = 3"), (4, "UPDATE clean SET x = 0.5 WHERE id = 6")] {
        let session = world.session().await;
        let begun = session.sql(statement).await.unwrap();
        world.run(&format!("INSERT INTO clean SELECT id + {version}00000 AS id, x FROM raw WHERE id < 4")).await;
        begun.collect().await.unwrap();
        world.expect("clean", version, "reproduced", &["4 row(s)"]).await;
        world.expect("clean", version + 1, "reproduced", &[&format!("clean = lakeseal://lineage/clean@{}", version - 1)]).await;
    }
    assert_eq!(world.count("SELECT count(*) FROM clean").await, 22);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_statement_calls_and_reads_is_looked_at_and_not_believed() {
    let world = World::with_clean().await;
    let honest = world.commit("clean", 1).await.lineage;
    let added = world.logged("clean", 1).await;
    for (sql, part) in [
        ("INSERT INTO clean SELECT id, random() AS x FROM raw WHERE id < 5", "random"),
        ("INSERT INTO clean SELECT CAST(depth AS BIGINT) AS id, 0.5 AS x FROM upstream('clean')", "no content was recorded"),
    ] {
        let mut claim = honest.clone();
        claim.transformation.sql = Some(sql.to_owned());
        claim.transformation.volatile = Vec::new();
        world.recommit("clean", 1, claim, &added).await;
        world.expect("clean", 1, "undetermined", &[part]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_replaced_in_the_log_differs() {
    let world = World::with_clean().await;
    world.run("INSERT INTO clean SELECT id + 20000 AS id, x FROM raw WHERE id < 2").await;
    world.expect("clean", 1, "reproduced", &[]).await;
    let path = log_path("clean", 1);
    let text = String::from_utf8(world.lake.store.get(&path).await.unwrap().bytes().await.unwrap().to_vec()).unwrap();
    let changed = text.replace("\"operation\":\"WRITE\"", "\"operation\":\"WRITF\"");
    assert_ne!(changed, text);
    world.lake.store.put(&path, changed.into()).await.unwrap();
    // The attestation above names the commit that it followed: of that one lineage speaks, and the log has another.
    assert_eq!(world.text("SELECT DISTINCT attested_by IS NOT NULL FROM lineage('clean') WHERE version = 1").await, "true");
    world.expect("clean", 1, "differs", &["commit 1 of the log is not the one that was attested"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_commit_does_besides_its_rows_is_held() {
    let world = World::with_clean().await;
    let claim = world.commit("clean", 1).await.lineage;
    let added = world.logged("clean", 1).await;
    let besides = async |action: Value| {
        world.recommit("clean", 1, claim.clone(), &[added.clone(), vec![action]].concat()).await;
    };
    // The same file under another spelling: stock readers have its rows twice.
    let mut twice = added.iter().find(|action| action.get("add").is_some()).unwrap().clone();
    let path = twice["add"]["path"].as_str().unwrap().to_owned();
    twice["add"]["path"] = json!(path.replacen('-', "%2D", 1));
    assert_ne!(twice["add"]["path"], json!(path));
    besides(twice).await;
    world.expect("clean", 1, "differs", &["names", &path, "twice"]).await;

    besides(json!({"cdc": {"path": "_change_data/a.parquet", "partitionValues": {}, "size": 1, "dataChange": false}})).await;
    world.expect("clean", 1, "differs", &["gives readers of changes _change_data/a.parquet"]).await;

    let domain = |name: &str| json!({"domainMetadata": {"domain": name, "configuration": "{}", "removed": false}});
    besides(domain("lake.rules")).await;
    world.expect("clean", 1, "differs", &["domain metadata lake.rules"]).await;

    // What honest writers say with any rows: how far row ids are given out, and how far an application is. The latter is told.
    besides(domain("delta.rowTracking")).await;
    world.expect("clean", 1, "reproduced", &[]).await;
    besides(json!({"txn": {"appId": "stream", "version": 7, "lastUpdated": 1}})).await;
    world.expect("clean", 1, "reproduced", &["how far an application is", "stream"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_attested_are_those_that_are_added() {
    let world = World::with_clean().await;
    let (first, second) = (world.commit("clean", 0).await, world.commit("clean", 1).await);
    let location = world.location("clean");
    let bytes = world.lake.store.get(&log_path("clean", 1)).await.unwrap().bytes().await.unwrap();
    let (table_id, url) = (second.table_id.clone().unwrap(), location.url().to_string());
    let commit = AttestedCommit::of(table_id, url, 1, &bytes, Some(first.commit));
    let name = AttestationName { version: 1, commit: second.commit, key: writer().public().id() };
    let attest = async |edit: &dyn Fn(&mut Lineage)| {
        let mut lineage = second.lineage.clone();
        edit(&mut lineage);
        let attestation = Attestation { commit: commit.clone(), provenance: lineage.to_provenance("urn:x") };
        let envelope = attestation_envelope(&writer(), attestation.statement(&[])).await.unwrap();
        world.lake.store.put(&name.path(location.root()), envelope.into()).await.unwrap();
    };
    attest(&|_| ()).await;
    world.expect("clean", 1, "reproduced", &[]).await;
    // Whoever follows the rows by what is attested would end here.
    attest(&|lineage| lineage.outputs.clear()).await;
    world.expect("clean", 1, "differs", &["the commit adds", "not attested as written by it"]).await;
    attest(&|lineage| lineage.outputs.push(Output { path: "none.parquet".to_owned(), size: 1, digest: None, row_groups: None })).await;
    world.expect("clean", 1, "differs", &["none.parquet is attested as written", "does not add it"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_in_the_partition_that_the_log_states() {
    let world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("parts.parquet");
    let parted = |ids: std::ops::Range<i64>| {
        let part = StringArray::from_iter_values(ids.clone().map(|id| format!("p{}", id % 7)));
        let columns: [(&str, Arc<dyn Array>); 3] = [
            ("id", Arc::new(Int64Array::from_iter_values(ids.clone()))),
            ("part", Arc::new(part)),
            ("x", Arc::new(Float64Array::from_iter_values(ids.map(honest)))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut out = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        out.write(&batch).unwrap();
        out.into_inner().unwrap()
    };
    std::fs::write(&source, parted(10..20)).unwrap();
    let import = Import { sources: vec![source], partition_by: vec!["part".to_owned()], ..Import::default() };
    delta::import(&world.location("parts"), import).await.unwrap();
    world.run("INSERT INTO parts (id, part, x) SELECT id, part, x FROM raw WHERE id < 3").await;
    world.expect("parts", 1, "reproduced", &["3 row(s)"]).await;
    let claim = world.commit("parts", 1).await.lineage;
    let others: Vec<Value> = world.logged("parts", 1).await.into_iter().filter(|action| action.get("add").is_none()).collect();
    // The same rows in files that have the partition column inside, under partitions that the log states.
    for (stated, verdict) in [(["p0", "p1", "p2"], "reproduced"), (["p1", "p0", "p2"], "differs"), (["", "p1", "p2"], "differs")] {
        let mut actions = others.clone();
        for (id, part) in (0..).zip(stated) {
            let (path, bytes) = (format!("{verdict}{part}/{id}.parquet"), parted(id..id + 1));
            actions.push(json!({"add": {
                "path": path, "partitionValues": {"part": part}, "size": bytes.len(), "modificationTime": 1, "dataChange": true
            }}));
            world.lake.store.put(&Path::from(format!("parts/{path}")), bytes.into()).await.unwrap();
        }
        world.recommit("parts", 1, claim.clone(), &actions).await;
        world.expect("parts", 1, verdict, &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_of_megabytes_runs_again_and_is_shown_in_part() {
    let world = World::with_clean().await;
    let long = "x".repeat(3 << 20);
    world.run(&format!("INSERT INTO clean SELECT id, x FROM raw WHERE id < 5 /* {long} */")).await;
    world.expect("clean", 2, "reproduced", &["5 row(s)"]).await;
    for function in ["lineage('clean')", "verify_derivation('clean', 2)"] {
        let shown = format!("SELECT DISTINCT octet_length(sql) < 70000 AND sql LIKE '%more bytes)' FROM {function} WHERE version = 2");
        assert_eq!(world.text(&shown).await, "true", "{function}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_of_other_code_proves_nothing() {
    let world = World::new().await;
    let session = async |code: Option<&str>| {
        let session = world.session().await;
        let run: Arc<dyn Fn(&[ColumnarValue]) -> _ + Send + Sync> = Arc::new(|arguments: &[ColumnarValue]| Ok(arguments[0].clone()));
        session.context().register_udf(create_udf("unaltered", vec![DataType::Int64], DataType::Int64, Volatility::Immutable, run));
        if let Some(code) = code {
            session.declare_function("unaltered", Digest::of(code.as_bytes()));
        }
        session
    };
    for (table, code) in [("declared", Some("one")), ("silent", None)] {
        session(code).await.run(&format!("CREATE TABLE {table} AS SELECT unaltered(id) AS id FROM raw")).await.unwrap();
    }
    for (table, code, verdict, part) in [
        ("declared", Some("one"), "reproduced", "over raw"),
        ("declared", Some("two"), "undetermined", "the function is not the code that ran then"),
        ("declared", None, "reproduced", "it is not declared"),
        ("silent", Some("one"), "reproduced", "which code 'unaltered' was is not recorded"),
    ] {
        let query = format!("SELECT verdict || ' ' || detail FROM verify_derivation('{table}')");
        let rows = session(code).await.run(&query).await.unwrap();
        let found = array_value_to_string(rows[0].column(0), 0).unwrap();
        assert!(found.starts_with(verdict) && found.contains(part), "{table} {code:?}: {found}");
        assert_eq!(found.contains("unaltered"), part != "over raw", "{found}");
    }
}
