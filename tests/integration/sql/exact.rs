//! A table that nobody touched gives exactly what any other reader gives, whatever the plan.

use std::sync::Arc;

use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::SessionContext;

use super::*;

/// Each has one answer only, rows in order.
const QUERIES: [&str; 14] = [
    "SELECT * FROM flights ORDER BY id",
    "SELECT delay, id FROM flights ORDER BY id",
    "SELECT id FROM flights WHERE id BETWEEN 995 AND 1005 ORDER BY id",
    "SELECT id, carrier FROM flights WHERE delay = 59 AND carrier = 'UA' ORDER BY id",
    "SELECT COUNT(*) FROM (SELECT * FROM flights LIMIT 1234)",
    "SELECT id, delay FROM flights ORDER BY delay DESC, id LIMIT 7",
    "SELECT id FROM flights ORDER BY id DESC LIMIT 3",
    "SELECT id FROM flights WHERE delay > 30 ORDER BY id LIMIT 5 OFFSET 1500",
    "SELECT carrier, COUNT(*), AVG(delay), MIN(id), MAX(id) FROM flights GROUP BY carrier ORDER BY carrier",
    "SELECT COUNT(*), MIN(id), MAX(delay) FROM flights",
    "SELECT COUNT(DISTINCT delay) FROM flights WHERE id >= 3990",
    "SELECT COUNT(*) FROM flights a JOIN flights b ON a.id = b.id + 1",
    "SELECT a.carrier, SUM(b.delay) FROM flights a JOIN flights b ON a.id = b.id GROUP BY a.carrier ORDER BY 1",
    "SELECT id FROM flights WHERE delay = (SELECT MAX(delay) FROM flights) AND id IN (SELECT id + 60 FROM flights WHERE id < 100) ORDER BY id",
];

#[tokio::test(flavor = "multi_thread")]
async fn queries_over_an_untouched_table_are_exact() {
    let fixture = Fixture::sealed().await;
    let session = fixture.session(ReadMode::Latest).await;
    let one_table = fixture.session(ReadMode::Sealed).await;
    one_table.register("flights", &fixture.location).await.unwrap();
    for query in QUERIES {
        let wanted = shown(&fixture.stock_batches(query).await);
        assert!(wanted.lines().count() > 4, "{query} finds nothing, so that it shows nothing");
        assert_eq!(shown(&session.run(query).await.unwrap()), wanted, "{query}");
        assert_eq!(shown(&one_table.run(query).await.unwrap()), wanted, "{query}, with a provider that stays");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_queries_and_dropped_plans_do_not_disturb_each_other() {
    let fixture = Fixture::sealed().await;
    // In a session of DataFusion's own, into which the provider was put: all queries share one registry of stores.
    let opened = fixture.session(ReadMode::Sealed).await.register("flights", &fixture.location).await.unwrap();
    let context = SessionContext::new();
    context.register_table("flights", opened).unwrap();
    let plan = |query: &'static str| {
        let context = context.clone();
        async move { context.sql(query).await.unwrap().create_physical_plan().await.unwrap() }
    };
    let (first, second) = (plan("SELECT SUM(id) FROM flights").await, plan("SELECT SUM(delay) FROM flights").await);
    let answer = |plan: Arc<dyn ExecutionPlan>| collect(plan, context.task_ctx());
    drop(first);
    assert!(shown(&answer(second).await.unwrap()).contains("117"), "dropping a plan must not take the store from another");

    let queries = (0..8).flat_map(|_| {
        ["SELECT SUM(id) FROM flights", "SELECT COUNT(*) FROM flights a JOIN flights b ON a.id = b.id WHERE a.delay >= 0"].map(|query| {
            let context = context.clone();
            tokio::spawn(async move { context.sql(query).await.unwrap().collect().await.map(|batches| shown(&batches)) })
        })
    });
    for (i, query) in queries.collect::<Vec<_>>().into_iter().enumerate() {
        let wanted = if i % 2 == 0 { "7998000" } else { "4000" };
        let found = query.await.unwrap().unwrap();
        assert!(found.contains(wanted), "{found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_outlives_its_table() {
    let fixture = Fixture::sealed().await;
    let context = SessionContext::new();
    let opened = fixture.session(ReadMode::Sealed).await.register("flights", &fixture.location).await.unwrap();
    context.register_table("flights", opened).unwrap();
    let plan = context.sql("SELECT SUM(id) FROM flights").await.unwrap().create_physical_plan().await.unwrap();
    context.deregister_table("flights").unwrap();
    assert!(shown(&collect(plan, context.task_ctx()).await.unwrap()).contains("7998000"));
}
