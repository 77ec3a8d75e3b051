//! The life of a Delta table in a lake of five regions, through deltalake's own operations.

mod attest;

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::prelude::{SessionContext, col, lit};
use deltalake::DeltaTable;
use deltalake::protocol::SaveMode;
use deltalake::protocol::checkpoints::create_checkpoint;
use futures::future::try_join_all;
use lakeseal::clock::SystemClock;
use lakeseal::delta::{LakeStore, register_lake_scheme};
use lakeseal::erasure::Profile;
use lakeseal::lake::testing::{FaultyRegion, memory_lake};
use lakeseal::lake::{self, InitPlan, LakeConfig, OpenOptions, ProfileConfig, RegionConfig};
use lakeseal::store::ErasureStore;
use url::Url;

fn lake(name: &str) -> (LakeStore, Vec<FaultyRegion>) {
    let (regions, writer, faults) = memory_lake(3, 2, 5).unwrap();
    let store = ErasureStore::new(regions, Profile::new(3, 2), Some(Arc::new(writer)), Arc::new(SystemClock)).unwrap();
    let lake = LakeStore { name: name.to_owned(), store: Arc::new(store) };
    register_lake_scheme(name, lake.store.clone()).unwrap();
    (lake, faults)
}

pub fn rows(ids: std::ops::Range<i64>, part: &str) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("part", DataType::Utf8, true)]));
    let parts = StringArray::from(vec![part; ids.clone().count()]);
    RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(ids)), Arc::new(parts)]).unwrap()
}

pub async fn open(url: &Url) -> DeltaTable {
    deltalake::open_table(url.clone()).await.unwrap()
}

pub async fn number(table: &DeltaTable, query: &str) -> i64 {
    let context = SessionContext::new();
    context.register_table("t", table.table_provider().await.unwrap()).unwrap();
    let batches = context.sql(query).await.unwrap().collect().await.unwrap();
    batches[0].column(0).as_primitive::<Int64Type>().value(0)
}

async fn count(url: &Url) -> i64 {
    number(&open(url).await, "SELECT COUNT(*) FROM t WHERE id >= 0").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_lives_through_all_operations() {
    let (_lake, faults) = lake("life");
    let url = Url::parse("lakeseal://life/people").unwrap();
    let new = deltalake::DeltaTableBuilder::from_url(url.clone()).unwrap().build().unwrap();
    new.write(vec![rows(0..100, "a")]).with_partition_columns(["part"]).await.unwrap();
    open(&url).await.write(vec![rows(100..200, "b c=1/2")]).await.unwrap();
    assert_eq!(count(&url).await, 200);
    assert_eq!(number(&open(&url).await, "SELECT COUNT(*) FROM t WHERE part = 'b c=1/2'").await, 100);

    let (table, deleted) = open(&url).await.delete().with_predicate(col("id").lt(lit(10_i64))).await.unwrap();
    assert_eq!((deleted.num_deleted_rows, count(&url).await), (Some(10), 190));
    table.update().with_predicate(col("id").eq(lit(50_i64))).with_update("id", lit(1000_i64)).await.unwrap();
    assert_eq!(number(&open(&url).await, "SELECT MAX(id) FROM t").await, 1000);

    let context = SessionContext::new();
    let source = context.read_batch(rows(150..250, "b c=1/2")).unwrap();
    let merge =
        open(&url).await.merge(source, col("target.id").eq(col("source.id"))).with_source_alias("source").with_target_alias("target");
    merge.when_not_matched_insert(|insert| insert.set("id", col("source.id")).set("part", col("source.part"))).unwrap().await.unwrap();
    assert_eq!(count(&url).await, 240);

    open(&url).await.optimize().await.unwrap();
    open(&url).await.optimize().with_type(deltalake::operations::optimize::OptimizeType::ZOrder(vec!["id".into()])).await.unwrap();
    assert_eq!(count(&url).await, 240);
    create_checkpoint(&open(&url).await, None).await.unwrap();
    // Time travel: through the checkpoint's predecessors, while their files are still there.
    for (version, rows) in [(0, 100), (1, 200), (2, 190), (4, 240)] {
        let mut old = open(&url).await;
        old.load_version(version).await.unwrap();
        assert_eq!(number(&old, "SELECT COUNT(*) FROM t WHERE id >= 0").await, rows, "version {version}");
    }
    let vacuum = open(&url).await.vacuum().with_retention_period(chrono::Duration::zero()).with_enforce_retention_duration(false);
    let (_, vacuumed) = vacuum.await.unwrap();
    assert!(!vacuumed.files_deleted.is_empty());
    // Two regions may be gone, and everything is still there.
    faults[1].set_down(true);
    faults[4].set_down(true);
    assert_eq!(count(&url).await, 240);
    open(&url).await.write(vec![rows(0..5, "z")]).with_save_mode(SaveMode::Overwrite).await.unwrap();
    assert_eq!(count(&url).await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_appends_are_neither_lost_nor_doubled() {
    const TASKS: i64 = 4;
    const APPENDS: i64 = 6;
    let (_lake, faults) = lake("race");
    let url = Url::parse("lakeseal://race/t").unwrap();
    deltalake::DeltaTableBuilder::from_url(url.clone()).unwrap().build().unwrap().write(vec![rows(0..1, "start")]).await.unwrap();
    let writers = (0..TASKS).map(|task| {
        let (url, fault) = (url.clone(), faults[0].clone());
        tokio::spawn(async move {
            for i in 0..APPENDS {
                // A region that stores a write and then fails to say so: the commit must count once.
                fault.fail_after_apply(1);
                let id = 1 + task * APPENDS + i;
                open(&url).await.write(vec![rows(id..id + 1, "x")]).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let table = open(&url).await;
    assert_eq!(table.version(), Some(u64::try_from(TASKS * APPENDS).unwrap()));
    assert_eq!(number(&table, "SELECT COUNT(*) FROM t WHERE id >= 0").await, 1 + TASKS * APPENDS);
    assert_eq!(number(&table, "SELECT COUNT(DISTINCT id) FROM t").await, 1 + TASKS * APPENDS);
}

/// Tells the second process of the test below, which is this binary again, where the lake is.
const SECOND_PROCESS: &str = "LAKESEAL_TEST_SECOND_PROCESS";

/// Opens the lake as a process of its own does: from its configuration.
async fn open_from(config: &std::path::Path) -> Arc<ErasureStore> {
    let config = LakeConfig::load(config).unwrap();
    let key = config.directory.join("keys").join(config.id.to_string()).join("writer.pem");
    let writer = lakeseal::key::PrivateKey::from_file(&key).unwrap();
    let lake = lake::open(&config, OpenOptions { writer: Some(writer), clock: Arc::new(SystemClock) }).await.unwrap();
    assert!(lake.down.is_empty(), "{:?}", lake.down);
    let store = ErasureStore::new(lake.region_set.clone(), lake.profile().unwrap(), lake.writer.clone(), lake.clock.clone()).unwrap();
    Arc::new(store)
}

/// Three tasks with ten appends of one row each, whose ids begin at `first`.
async fn append_concurrently(url: &Url, first: i64) {
    let tasks = (0..3).map(|task| {
        let url = url.clone();
        tokio::spawn(async move {
            for i in 0..10 {
                let id = first + task * 10 + i;
                open(&url).await.write(vec![rows(id..id + 1, "x")]).await.unwrap();
            }
        })
    });
    try_join_all(tasks).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_append_at_once() {
    let url = Url::parse("lakeseal://shared/t").unwrap();
    if let Some(config) = std::env::var_os(SECOND_PROCESS) {
        register_lake_scheme("shared", open_from(config.as_ref()).await).unwrap();
        return append_concurrently(&url, 31).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let config_path = directory.path().join("lakeseal.toml");
    let regions = (0..5).map(|i| RegionConfig { fsync: false, ..RegionConfig::new(format!("r{i}").parse().unwrap(), format!("./r{i}")) });
    let plan = InitPlan {
        config_path: config_path.clone(),
        name: "shared".to_owned(),
        regions: regions.collect(),
        profile: ProfileConfig::new(3, 2),
        lakes_keys: directory.path().join("keys"),
        clock: Arc::new(SystemClock),
    };
    lake::init(plan).await.unwrap();
    let store = open_from(&config_path).await;
    register_lake_scheme("shared", store.clone()).unwrap();
    deltalake::DeltaTableBuilder::from_url(url.clone()).unwrap().build().unwrap().write(vec![rows(0..1, "start")]).await.unwrap();

    let name = concat!(module_path!(), "::two_processes_append_at_once").split_once("::").unwrap().1;
    let mut second = tokio::process::Command::new(std::env::current_exe().unwrap());
    second.args(["--exact", name, "--nocapture"]).env(SECOND_PROCESS, &config_path).kill_on_drop(true);
    let (second, ()) = tokio::join!(second.output(), append_concurrently(&url, 1));
    let second = second.unwrap();
    let said = String::from_utf8_lossy(&second.stdout).into_owned() + &String::from_utf8_lossy(&second.stderr);
    assert!(second.status.success() && said.contains("1 passed"), "{said}");

    let table = open(&url).await;
    assert_eq!(table.version(), Some(60));
    assert_eq!(number(&table, "SELECT COUNT(*) FROM t WHERE id >= 0").await, 61, "no row is doubled");
    assert_eq!(number(&table, "SELECT COUNT(DISTINCT id) FROM t").await, 61, "no row is lost");
    assert_eq!(number(&table, "SELECT MAX(id) FROM t").await, 60);
    store.quiesce().await;
}
