//! What a blast radius must not leave out, and what it must say that it does not know.

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use deltalake::operations::write::SchemaMode;
use deltalake::protocol::SaveMode;
use futures::TryStreamExt;
use lakeseal::baseline::{
    Attestation, AttestationName, AttestedCommit, SealOptions, Sealer, Trust, TrustLevel, Writers, attestation_envelope,
};
use lakeseal::clock::{SharedClock, SystemClock};
use lakeseal::delta::{self, LakeStore, Location, RestoreOptions, plan_restore};
use lakeseal::sql::{SealedSession, SessionOptions, TableOptions};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::json;

use super::lineage::{World, sealer, writer};
use super::modes::erasure_lake;

fn trust() -> Trust {
    Trust::new([sealer().public()], TrustLevel::Given).unwrap()
}

impl World {
    /// The one file that a commit of `raw` wrote.
    async fn file_of(&self, version: u64) -> String {
        self.text(&format!("SELECT DISTINCT output_file FROM lineage('raw') WHERE version = {version}")).await
    }

    async fn reached(&self, file: &str) -> String {
        self.text(&format!("SELECT DISTINCT \"table\" FROM blast_radius('raw', '{file}') ORDER BY 1")).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_that_the_log_answers_beside_a_scan_depends_on_every_file() {
    let world = World::new().await;
    world.import("raw", "b.parquet", 10_000..10_010).await;
    world.run("CREATE TABLE shares AS SELECT x / (SELECT count(*) FROM raw) AS share FROM raw WHERE id = 5").await;
    world.run("CREATE TABLE alone AS SELECT x FROM raw WHERE id = 5").await;
    assert_eq!(world.reached(&world.file_of(0).await).await, "alone|shares");
    assert_eq!(world.reached(&world.file_of(1).await).await, "shares");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_footer_says_that_it_has_no_such_column_gave_its_rows() {
    let world = World::new().await;
    let columns = Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("extra", DataType::Int64, true)]);
    let of = || Arc::new(Int64Array::from_iter_values(10_000..10_010));
    let batch = RecordBatch::try_new(Arc::new(columns), vec![of(), of()]).unwrap();
    let table = delta::open(&world.location("raw"), None).await.unwrap();
    table.write(vec![batch]).with_schema_mode(SchemaMode::Merge).await.unwrap();
    world.run("CREATE TABLE extras AS SELECT extra FROM raw").await;
    assert_eq!(world.count("SELECT count(*) FROM extras").await, 4010);
    world.run("CREATE TABLE without AS SELECT count(*) AS n FROM raw WHERE extra IS NULL").await;
    for version in [0, 1] {
        let reached = world.reached(&world.file_of(version).await).await;
        assert!(reached.starts_with("extras"), "version {version}: {reached}");
    }
    assert_eq!(world.reached(&world.file_of(0).await).await, "extras|without");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_not_charged_with_what_another_read() {
    let world = World::new().await;
    world.import("raw", "b.parquet", 10_000..10_010).await;
    let session = world.session().await;
    session.register("r", &world.location("raw")).await.unwrap();
    for (table, id) in [("one", 5), ("two", 10_005)] {
        session.run(&format!("CREATE TABLE {table} AS SELECT x FROM r WHERE id = {id}")).await.unwrap();
    }
    assert_eq!(world.reached(&world.file_of(0).await).await, "one");
    assert_eq!(world.reached(&world.file_of(1).await).await, "two");
}

async fn noted(session: &SealedSession, query: &str, parts: &[&str]) -> usize {
    let rows = session.run(query).await.unwrap().iter().map(RecordBatch::num_rows).sum();
    let notes = session.notes();
    for part in parts {
        assert!(notes.iter().any(|note| note.contains(part)), "{part} is not in {notes:?}");
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_gone_breaks_the_chain_aloud() {
    let world = World::new().await;
    world.run("CREATE TABLE clean AS SELECT * FROM raw WHERE id < 10").await;
    world.run("CREATE TABLE features AS SELECT part, count(*) AS n FROM clean GROUP BY part").await;
    assert_eq!(noted(&world.session().await, "SELECT * FROM blast_radius('raw')", &[]).await, 2);
    let all: Vec<_> = world.lake.store.list(Some(&Path::from("clean"))).try_collect().await.unwrap();
    for object in all {
        world.lake.store.delete(&object.location).await.unwrap();
    }
    let parts = ["lakeseal://lineage/clean", "nothing is known of its own", "is not followed"];
    assert_eq!(noted(&world.session().await, "SELECT * FROM blast_radius('raw')", &parts).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_attestation_that_is_not_understood_hides_no_other() {
    let world = World::new().await;
    world.run("CREATE TABLE clean AS SELECT id, x FROM raw WHERE id < 10").await;
    for from in [10, 20] {
        world.run(&format!("INSERT INTO clean SELECT id, x FROM raw WHERE id >= {from} AND id < {from} + 5")).await;
    }
    let (location, commits) = world.session().await.lineage("clean").await.unwrap();
    let log = Path::from("clean/_delta_log/00000000000000000001.json");
    let bytes = world.lake.store.get(&log).await.unwrap().bytes().await.unwrap();
    let table_id = commits[1].table_id.clone().unwrap();
    let commit = AttestedCommit::of(table_id, location.url().to_string(), 1, &bytes, Some(commits[0].commit));
    let name = AttestationName { version: 1, commit: commit.commit, key: writer().public().id() };
    let attestation = Attestation { commit, provenance: json!({"buildDefinition": {"buildType": "urn:something:else"}}) };
    let envelope = attestation_envelope(&writer(), attestation.statement(&[])).await.unwrap();
    world.lake.store.put(&name.path(location.root()), envelope.into()).await.unwrap();

    let known = "SELECT version, attested_by IS NOT NULL AS attested, inputs_complete FROM lineage('clean')";
    let told = format!("SELECT DISTINCT version || ' ' || attested || ' ' || inputs_complete FROM ({known}) ORDER BY 1");
    assert_eq!(world.text(&told).await, "0 true true|1 false false|2 true true");
    let parts = ["clean: the attestation of version 1 cannot be read"];
    assert!(noted(&world.session().await, "SELECT * FROM lineage('clean')", &parts).await > 0);
    // Of another table than the one that is asked about, one line says that there is something.
    let session = world.session().await;
    assert!(noted(&session, "SELECT * FROM blast_radius('raw')", &["not all of the lineage of clean is known"]).await > 0);
    assert!(session.notes().iter().all(|note| !note.contains("cannot be read")), "{:?}", session.notes());
    assert_eq!(world.text("SELECT DISTINCT via_version FROM blast_radius('raw') ORDER BY 1").await, "0|2");
}

/// `raw` is sealed, then overwritten with poison, from which `fooled` is made.
async fn poisoned() -> (World, String, String) {
    poisoned_in(Arc::new(InMemory::new())).await
}

/// As [`poisoned`], in this store.
async fn poisoned_in(store: Arc<dyn ObjectStore>) -> (World, String, String) {
    let world = World::over(store).await;
    world.seal("raw").await;
    let truth = world.file_of(0).await;
    let columns = Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("part", DataType::Utf8, true),
        Field::new("x", DataType::Float64, true),
    ]);
    let batch = RecordBatch::try_new(
        Arc::new(columns),
        vec![
            Arc::new(Int64Array::from_iter_values(0..10)),
            Arc::new(StringArray::from_iter_values((0..10).map(|_| "poison"))),
            Arc::new(Float64Array::from_iter_values((0..10).map(f64::from))),
        ],
    );
    let table = delta::open(&world.location("raw"), None).await.unwrap();
    table.write(vec![batch.unwrap()]).with_save_mode(SaveMode::Overwrite).await.unwrap();
    let poison = world.file_of(1).await;
    world.run("CREATE TABLE fooled AS SELECT id FROM raw").await;
    assert_eq!(world.reached(&poison).await, "fooled");
    (world, truth, poison)
}

/// What is asked after either restore.
async fn is_healed(world: &World, truth: &str, poison: &str, restored: &str, derived: bool) {
    assert_eq!(world.count("SELECT count(*) FROM raw").await, 4000);
    let row = "operation || ' ' || derived || ' ' || inputs_complete || ' ' || input_file || ' ' || input_version";
    let told = world.text(&format!("SELECT DISTINCT {row} FROM lineage('raw') WHERE version = 2")).await;
    assert_eq!(told, format!("RESTORE {derived} true {truth} 0"));
    let above = format!("SELECT file || ' ' || version FROM upstream('raw', '{restored}') WHERE depth = 1 AND operation = 'RESTORE'");
    assert_eq!(world.text(&above).await, format!("{truth} 0"));
    // A count that the log answers is made from every file that was live: the poison was not, any more.
    world.run("CREATE TABLE counted AS SELECT count(*) AS n FROM raw").await;
    assert_eq!(world.reached(poison).await, "fooled");
    // The overwrite says that it came of what it removed: nobody recorded better.
    assert_eq!(world.reached(restored).await, if restored == truth { "counted|fooled|raw" } else { "counted" });
    assert_eq!(world.reached(truth).await, "counted|fooled|raw");
    let notes = ["origin nobody recorded"];
    assert_eq!(noted(&world.session().await, &format!("SELECT * FROM blast_radius('raw', '{poison}')"), &notes).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restore_brings_back_does_not_come_of_the_poison_that_it_undoes() {
    let (world, truth, poison) = poisoned().await;
    let (location, clock): (_, SharedClock) = (world.location("raw"), Arc::new(SystemClock));
    let sealed = location.repository().newest_baseline(&trust()).await.unwrap().unwrap();
    let options = RestoreOptions { attested: [].into(), keep: [].into(), erased: [].into(), clock: clock.clone() };
    let plan = plan_restore(&location, &sealed, &options, &()).await.unwrap();
    assert_eq!(plan.apply(&location, &clock, false, &()).await.unwrap().version, Some(2));
    let commit = &world.session().await.lineage("raw").await.unwrap().1[2];
    let input = &commit.lineage.inputs[0];
    assert_eq!((input.baseline, input.digest), (Some(1), Some(sealed.commits[&0].digest)));
    assert_eq!(input.files.as_ref().unwrap()[0].digest, Some(sealed.file_at(&truth).unwrap().digest));
    assert_eq!(commit.lineage.removed, Some(vec![poison.clone()]));
    assert_eq!(commit.lineage.transformation.parameters["undoneCommits"], "[1]");
    let restored = world.file_of(2).await;
    assert!(restored.starts_with("part-restored-"), "{restored}");
    is_healed(&world, &truth, &poison, &restored, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_engine_restores_does_not_come_of_the_poison_either() {
    let (world, truth, poison) = poisoned().await;
    let table = delta::open(&world.location("raw"), None).await.unwrap();
    table.restore().with_version_to_restore(0).await.unwrap();
    assert_eq!(world.file_of(2).await, truth);
    is_healed(&world, &truth, &poison, &truth, true).await;
}

/// Restores `raw` as somebody does who attests nothing; the path that the truth has then.
async fn restore_unattested(world: &World) -> String {
    let (location, clock): (_, SharedClock) = (Location::in_lake(&world.plain, "raw").unwrap(), Arc::new(SystemClock));
    let sealed = location.repository().newest_baseline(&trust()).await.unwrap().unwrap();
    let options = RestoreOptions { attested: [].into(), keep: [].into(), erased: [].into(), clock: clock.clone() };
    let plan = plan_restore(&location, &sealed, &options, &()).await.unwrap();
    assert_eq!(plan.apply(&location, &clock, false, &()).await.unwrap().version, Some(2));
    assert_eq!(world.session().await.lineage("raw").await.unwrap().1[2].attested_by, None);
    world.file_of(2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_nobody_attested_is_known_by_the_digests_that_a_baseline_seals() {
    let (world, truth, poison) = poisoned_in(erasure_lake()).await;
    let restored = restore_unattested(&world).await;
    assert!(restored.starts_with("part-restored-"), "{restored}");
    is_healed(&world, &truth, &poison, &restored, true).await;
    let commit = &world.session().await.lineage("raw").await.unwrap().1[2];
    let input = &commit.lineage.inputs[0];
    assert_eq!((commit.restores_baseline, input.baseline), (Some(1), Some(1)));
    assert_eq!(commit.lineage.outputs[0].digest, input.files.as_ref().unwrap()[0].digest);
    // A later baseline says what the file held, even where the file is gone.
    world.seal("raw").await;
    world.plain.store.delete(&Path::from(format!("raw/{restored}"))).await.unwrap();
    assert_eq!(world.reached(&poison).await, "fooled");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_versions_are_retained_such_a_restore_may_have_read_the_poison_too() {
    let (world, truth, poison) = poisoned().await;
    let restored = restore_unattested(&world).await;
    let commit = &world.session().await.lineage("raw").await.unwrap().1[2];
    assert_eq!((commit.restores_baseline, commit.lineage.outputs[0].digest), (None, None));
    // What its bytes are now is told besides.
    let files = |baseline: Option<u64>| {
        let inputs = commit.lineage.inputs.iter().filter(move |input| input.baseline == baseline);
        inputs.flat_map(|input| input.files.iter().flatten()).map(|file| file.path.clone()).collect::<Vec<_>>()
    };
    assert_eq!(files(Some(1)), std::slice::from_ref(&truth));
    assert_eq!(world.reached(&poison).await, "fooled|raw");
    let above = format!("SELECT DISTINCT file FROM upstream('raw', '{restored}') WHERE depth = 1 AND file = '{truth}'");
    assert_eq!(world.text(&above).await, truth);
    // A baseline that seals them later knows no more of what they were before.
    world.seal("raw").await;
    assert_eq!(world.reached(&poison).await, "fooled|raw");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_exchanged_after_it_was_read_proves_nothing() {
    let (world, truth, poison) = poisoned_in(erasure_lake()).await;
    let path = |file: &str| Path::from(format!("raw/{file}"));
    let bytes = async |file: &str| world.plain.store.get(&path(file)).await.unwrap().bytes().await.unwrap();
    let (honest, false_bytes) = (bytes(&truth).await, bytes(&poison).await);
    let restore = async |version: u64, file: &str| {
        let size = honest.len();
        let mut commit = String::new();
        for action in [
            json!({"commitInfo": {"operation": "RESTORE", "operationParameters": {"baseline": "1", "sealedVersion": "0"}}}),
            json!({"add": {"path": file, "size": size, "partitionValues": {}, "modificationTime": 0, "dataChange": true}}),
        ] {
            commit += &format!(
                "{action}
"
            );
        }
        let log = Path::from(format!("raw/_delta_log/{version:020}.json"));
        world.plain.store.put(&log, commit.into()).await.unwrap();
    };
    let proves = async || world.session().await.lineage("raw").await.unwrap().1[2].restores_baseline;
    world.plain.store.put(&path("copy.parquet"), honest.clone().into()).await.unwrap();
    restore(2, "copy.parquet").await;
    assert_eq!(proves().await, Some(1));
    assert_eq!(world.reached(&poison).await, "fooled");
    // A path that held the poison when it was read; then the one that the baseline seals.
    world.plain.store.put(&path("late.parquet"), false_bytes.clone().into()).await.unwrap();
    restore(2, "late.parquet").await;
    world.plain.store.put(&path("late.parquet"), honest.clone().into()).await.unwrap();
    assert_eq!(proves().await, None);
    assert_eq!(world.reached(&poison).await, "fooled|raw");
    restore(2, &truth).await;
    assert_eq!(proves().await, Some(1));
    world.plain.store.put(&path(&truth), false_bytes.into()).await.unwrap();
    world.plain.store.put(&path(&truth), honest.clone().into()).await.unwrap();
    assert_eq!(proves().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_says_it_restored_and_does_not_stays_in_the_blast_radius() {
    let (world, truth, poison) = poisoned_in(erasure_lake()).await;
    let path = |file: &str| Path::from(format!("raw/{file}"));
    let bytes = world.plain.store.get(&path(&poison)).await.unwrap().bytes().await.unwrap();
    let size = bytes.len();
    world.plain.store.put(&path("copy.parquet"), bytes.into()).await.unwrap();
    let mut commit = String::new();
    for action in [
        json!({"commitInfo": {"operation": "RESTORE", "operationParameters": {"baseline": "1", "sealedVersion": "0"}}}),
        json!({"add": {"path": "copy.parquet", "size": size, "partitionValues": {}, "modificationTime": 0, "dataChange": true}}),
    ] {
        commit += &format!("{action}\n");
    }
    let log = Path::from("raw/_delta_log/00000000000000000002.json");
    world.plain.store.put(&log, commit.into()).await.unwrap();
    assert_eq!(world.reached(&poison).await, "fooled|raw");
    assert_eq!(world.session().await.lineage("raw").await.unwrap().1[2].restores_baseline, None);
    // Bytes that were changed after a true restore prove nothing either: of the same size, the last one another.
    world.plain.store.delete(&log).await.unwrap();
    let restored = restore_unattested(&world).await;
    let mut bytes = world.plain.store.get(&path(&truth)).await.unwrap().bytes().await.unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    world.plain.store.put(&path(&restored), bytes.into()).await.unwrap();
    assert_eq!(world.reached(&poison).await, "fooled|raw");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_moved_keeps_the_lineage_of_its_signed_aliases() {
    let world = World::new().await;
    world.run("CREATE TABLE clean AS SELECT id, x FROM raw WHERE id < 10").await;
    let moved = LakeStore { name: "moved".to_owned(), store: world.lake.store.clone() };
    let session = async || {
        let tables = TableOptions { writers: Writers::known(vec![writer().public()]), ..TableOptions::default() };
        SealedSession::new(SessionOptions { lake: Some(moved.clone()), trust: Some(trust()), tables }).await.unwrap()
    };
    let attested = async |table: &str| {
        let commits = session().await.lineage(table).await.unwrap().1;
        commits.iter().all(|commit| commit.attested_by.is_some())
    };
    let rows =
        async || session().await.run("SELECT * FROM blast_radius('raw')").await.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>();
    for table in ["raw", "clean"] {
        assert!(!attested(table).await, "{table}");
    }
    for (table, aliases) in [("raw", vec!["lakeseal://lineage/raw/"]), ("clean", vec!["lakeseal://lineage/clean"])] {
        let location = Location::in_lake(&moved, table).unwrap();
        let options = SealOptions { aliases: aliases.into_iter().map(str::to_owned).collect(), ..SealOptions::default() };
        let (store, root) = (location.store().clone(), location.root().clone());
        let sealer = Sealer::new(store, root, location.url().as_str(), sealer(), Arc::new(SystemClock), options).unwrap();
        sealer.seal(&()).await.unwrap();
        assert!(attested(table).await, "{table}");
    }
    assert_eq!(rows().await, 1);
}
