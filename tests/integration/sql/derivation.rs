//! `verify_derivation` against a thief who has a writer's key: commits that give the recorded rows and do something besides, and records that
//! name other inputs than they say.

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use deltalake::protocol::SaveMode;
use lakeseal::delta::{self, Operation};
use lakeseal::lineage::{CommitLineage, Lineage};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions};
use serde_json::{Value, json};

use super::lineage::World;

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
