//! What later commits did to rows, counted exactly: in findings, and in SQL.

use arrow::array::AsArray as _;
use arrow::datatypes::UInt64Type;
use datafusion::prelude::SessionContext;
use deltalake::DeltaTable;
use deltalake::protocol::SaveMode;
use lakeseal::baseline::{AuditReport, Verdict};
use lakeseal::sql::ReadMode;

use super::super::support::arena::{Arena, Kind};
use super::life::rows;

async fn table(arena: &Arena) -> DeltaTable {
    let mut table = DeltaTable::try_from_url(arena.engine_url()).await.unwrap();
    let _new = table.load().await;
    table
}

/// Three appends of 100 rows, partitioned by `label`, sealed.
async fn sealed() -> Arena {
    let arena = Arena::new(Kind::Plain).await;
    for first in [0, 100, 200] {
        table(&arena).await.write([rows(first, 100)]).with_save_mode(SaveMode::Append).with_partition_columns(["label"]).await.unwrap();
    }
    arena.seal().await;
    arena
}

fn counts(report: &AuditReport) -> Vec<(Option<u64>, Option<u64>, Option<u64>)> {
    report.findings.iter().map(|finding| (finding.commit, finding.rows_removed, finding.rows_added)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_later_commits_removed_and_added_are_counted_exactly() {
    let arena = sealed().await;
    table(&arena).await.delete().with_predicate("id < 50").await.unwrap();
    table(&arena).await.update().with_predicate("id = 150").with_update("value", "0.0").await.unwrap();
    let source = SessionContext::new().read_batch(rows(250, 100)).unwrap();
    let merge = table(&arena).await.merge(source, "target.id = source.id").with_source_alias("source").with_target_alias("target");
    let merge = merge.when_matched_update(|update| update.update("value", "-1.0")).unwrap();
    let columns = ["id", "label", "value"];
    let merge = merge
        .when_not_matched_insert(|insert| columns.iter().fold(insert, |insert, name| insert.set(*name, format!("source.{name}"))))
        .unwrap();
    merge.await.unwrap();
    table(&arena).await.write([rows(900, 10)]).with_save_mode(SaveMode::Append).await.unwrap();
    table(&arena).await.optimize().await.unwrap();
    table(&arena).await.delete().with_predicate("label = 'l1'").await.unwrap();
    let report = arena.audit().await;
    // 3 DELETE of 50; 4 UPDATE of 1; 5 MERGE: 50 changed, 50 new; 6 append; 7 OPTIMIZE; 8 DELETE of the odd ids that are left.
    let odd = 25 + 50 + 50 + 25 + 5;
    let wanted = [(3, 50, 0), (4, 1, 1), (5, 50, 100), (6, 0, 10), (8, odd, 0), (7, 0, 0)];
    assert_eq!(counts(&report), wanted.map(|(commit, removed, added)| (Some(commit), Some(removed), Some(added))), "{report:#?}");
    assert!(report.findings.iter().all(|f| f.verdict == if f.commit == Some(7) { Verdict::Rewritten } else { Verdict::Unsealed }));
    assert!(report.findings[0].detail.contains("removed 50 rows and added 0"), "{}", report.findings[0].detail);

    let session = arena.session(ReadMode::Latest).await.unwrap();
    let query =
        format!("SELECT SUM(rows_removed), SUM(rows_added) FROM audit('{}') WHERE commit IS NOT NULL", arena.directory.join("t").display());
    // By its path, the table has another name than the sealed one; what later commits did is the same.
    let found = session.run(&query).await.unwrap();
    let sum = |column: usize| found[0].column(column).as_primitive::<UInt64Type>().value(0);
    assert_eq!((sum(0), sum(1)), (50 + 1 + 50 + odd, 1 + 100 + 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_gone_are_not_guessed() {
    let arena = sealed().await;
    table(&arena).await.update().with_predicate("id = 150").with_update("value", "0.0").await.unwrap();
    let vacuum = table(&arena).await.vacuum().with_retention_period(chrono::Duration::zero()).with_enforce_retention_duration(false);
    vacuum.await.unwrap();
    let report = arena.audit().await;
    let update = report.findings.iter().find(|finding| finding.commit == Some(3)).unwrap();
    assert_eq!((update.rows_removed, update.rows_added), (None, None));
    assert!(update.detail.contains("cannot be counted"), "{}", update.detail);
}
