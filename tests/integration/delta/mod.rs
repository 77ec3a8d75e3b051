//! The life of a Delta table in a lake of five regions, through deltalake's own operations.

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::prelude::{SessionContext, col, lit};
use deltalake::DeltaTable;
use deltalake::protocol::SaveMode;
use deltalake::protocol::checkpoints::create_checkpoint;
use lakeseal::clock::SystemClock;
use lakeseal::delta::{LakeStore, register_lake_scheme};
use lakeseal::erasure::Profile;
use lakeseal::lake::testing::{FaultyRegion, memory_lake};
use lakeseal::store::ErasureStore;
use url::Url;

fn lake(name: &str) -> (LakeStore, Vec<FaultyRegion>) {
    let (regions, writer, faults) = memory_lake(3, 2, 5).unwrap();
    let store = ErasureStore::new(regions, Profile::new(3, 2), Some(Arc::new(writer)), Arc::new(SystemClock)).unwrap();
    let lake = LakeStore { name: name.to_owned(), store: Arc::new(store) };
    register_lake_scheme(name, lake.store.clone()).unwrap();
    (lake, faults)
}

fn rows(ids: std::ops::Range<i64>, part: &str) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("part", DataType::Utf8, true)]));
    let parts = StringArray::from(vec![part; ids.clone().count()]);
    RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from_iter_values(ids)), Arc::new(parts)]).unwrap()
}

async fn open(url: &Url) -> DeltaTable {
    deltalake::open_table(url.clone()).await.unwrap()
}

async fn number(table: &DeltaTable, query: &str) -> i64 {
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
    assert_eq!((deleted.num_deleted_rows, count(&url).await), (10, 190));
    table.update().with_predicate(col("id").eq(lit(50_i64))).with_update("id", lit(1000_i64)).await.unwrap();
    assert_eq!(number(&open(&url).await, "SELECT MAX(id) FROM t").await, 1000);

    let context = SessionContext::new();
    let source = context.read_batch(rows(150..250, "b c=1/2")).unwrap();
    let merge = open(&url).await.merge(source, col("target.id").eq(col("source.id"))).with_source_alias("source").with_target_alias("target");
    merge.when_not_matched_insert(|insert| insert.set("id", col("source.id")).set("part", col("source.part"))).unwrap().await.unwrap();
    assert_eq!(count(&url).await, 240);

    open(&url).await.optimize().await.unwrap();
    open(&url).await.optimize().with_type(deltalake::operations::optimize::OptimizeType::ZOrder(vec!["id".into()])).await.unwrap();
    assert_eq!(count(&url).await, 240);
    create_checkpoint(&open(&url).await, None).await.unwrap();
    open(&url).await.vacuum().with_retention_period(deltalake_zero()).with_enforce_retention_duration(false).await.unwrap();
    // Two regions may be gone, and everything is still there.
    faults[1].set_down(true);
    faults[4].set_down(true);
    assert_eq!(count(&url).await, 240);
    open(&url).await.write(vec![rows(0..5, "z")]).with_save_mode(SaveMode::Overwrite).await.unwrap();
    assert_eq!(count(&url).await, 5);
}

fn deltalake_zero() -> chrono::Duration {
    chrono::Duration::zero()
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
