//! DELETE and UPDATE of sealed tables: the right rows, attested with lineage, and never from rows that were poisoned.

use arrow::util::display::array_value_to_string;
use lakeseal::baseline::{AuditOptions, Auditor, Outcome, Writers};
use lakeseal::delta::AttestingStore;

use super::poison_diff::{erasure_lake, sealed_in, text_rows};
use super::*;

fn writer() -> PrivateKey {
    PrivateKey::from_seed(&[7; 32])
}

/// A sealed table whose later commits are attested.
async fn attested() -> Fixture {
    let fixture = sealed_in(erasure_lake().0).await;
    let lake = AttestingStore::around_lake(&fixture.lake, Arc::new(writer()), Arc::new(SystemClock)).unwrap();
    Fixture { location: Location::in_lake(&lake, "flights").unwrap(), lake, ..fixture }
}

impl Fixture {
    /// The rows of a query of somebody who knows the writer.
    async fn known(&self, query: &str) -> Vec<String> {
        let trust = Trust::new([self.key.public()], TrustLevel::Given).unwrap();
        let tables = TableOptions { writers: Writers::known(vec![writer().public()]), ..TableOptions::default() };
        let options = SessionOptions { lake: Some(self.lake.clone()), trust: Some(trust), tables };
        text_rows(&SealedSession::new(options).await.unwrap().run(query).await.unwrap())
    }

    async fn changed(&self, statement: &str) -> u64 {
        let batches = self.session(ReadMode::Latest).await.run(statement).await.unwrap_or_else(|e| panic!("{statement}: {e}"));
        array_value_to_string(batches[0].column(0), 0).unwrap().parse().unwrap()
    }

    async fn fails(&self, statement: &str) -> Error {
        let error = self.session(ReadMode::Latest).await.run(statement).await.err().unwrap_or_else(|| panic!("{statement} was done"));
        let path = self.location.root().clone().join("_delta_log");
        let commits: Vec<_> = self.lake.store.list(Some(&path)).try_collect().await.unwrap();
        assert_eq!(commits.iter().filter(|meta| meta.location.as_ref().ends_with(".json")).count(), 1, "{statement} committed");
        error
    }

    async fn audit_of_writers(&self) -> lakeseal::baseline::AuditReport {
        let trust = Trust::new([self.key.public()], TrustLevel::Given).unwrap();
        let options = AuditOptions { writers: Writers::listed(vec![writer().public()]), ..AuditOptions::default() };
        let (store, root) = (self.location.store().clone(), self.location.root().clone());
        let auditor = Auditor::new(store, root, self.location.url().as_str(), trust, Arc::new(SystemClock), options);
        auditor.audit(&()).await.unwrap()
    }
}

const ALL: &str = "SELECT count(*), count(DISTINCT id), sum(id), sum(delay), sum(CASE WHEN carrier = 'AA' THEN 1 ELSE 0 END) FROM flights";

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_and_change_as_the_condition_says_and_no_others() {
    let fixture = attested().await;
    assert_eq!(fixture.changed("DELETE FROM flights WHERE id >= 100 AND id < 150 AND carrier = 'AA'").await, 25);
    assert_eq!(fixture.changed("UPDATE flights SET delay = delay + 1000, carrier = 'ZZ' WHERE id IN (0, 2, 3999)").await, 3);
    assert_eq!(fixture.changed("UPDATE flights AS f SET delay = NULL WHERE f.id = 7").await, 1);
    assert_eq!(fixture.changed("DELETE FROM flights WHERE delay > 5000").await, 0);
    // Neither true nor false: the row stays.
    assert_eq!(fixture.changed("DELETE FROM flights WHERE delay IS NOT NULL AND delay < -1").await, 0);
    assert_eq!(fixture.changed("DELETE FROM flights WHERE delay < 0 AND id = 7").await, 0);
    let deleted: Vec<i64> = (100..150).filter(|i| i % 2 == 0).collect();
    let kept = (0..4000_i64).filter(|i| !deleted.contains(i));
    let delays: i64 = kept.clone().filter(|i| *i != 7).map(|i| i % 60).sum::<i64>() + 3000;
    let expected = format!("3975|3975|{}|{delays}.0|{}", kept.clone().sum::<i64>(), 2000 - 25 - 2);
    assert_eq!(fixture.rows(ALL).await, [expected]);
    let zz = "SELECT id, delay FROM flights WHERE carrier = 'ZZ' ORDER BY id";
    assert_eq!(fixture.rows(zz).await, ["0|1000.0", "2|1002.0", "3999|1039.0"]);
    // Stock readers see the same table, and an audit knows who did it.
    assert_eq!(fixture.stock("SELECT count(*) FROM flights").await, 3975);
    let report = fixture.audit_of_writers().await;
    assert_eq!(report.outcome(), Outcome::IntactWithUnsealed, "{report:#?}");
    let lineage = "SELECT DISTINCT version, operation, derived, input_table, input_version, sql FROM lineage('flights') WHERE version > 0 \
                   ORDER BY version";
    let told = fixture.known(lineage).await;
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].starts_with("1|DELETE|false|flights|0|DELETE FROM flights"), "{told:?}");
    assert!(told[1].starts_with("2|UPDATE|false|flights|1|UPDATE flights SET"), "{told:?}");
    let verdicts = "SELECT version, verdict, rows, derived_rows FROM verify_derivation('flights') WHERE version > 0 ORDER BY version";
    assert_eq!(fixture.known(verdicts).await, ["1|reproduced|3975|3975", "2|reproduced|3975|3975", "3|reproduced|3975|3975"]);
    let diff = "SELECT kind, count(DISTINCT \"key\") FROM poison_diff('flights', 'id') GROUP BY kind ORDER BY kind";
    assert_eq!(fixture.rows(diff).await, ["changed|4", "removed|25"]);
    // All of it.
    fixture.changed("UPDATE flights SET delay = 1").await;
    assert_eq!(fixture.rows("SELECT count(*), sum(delay) FROM flights").await, ["3975|3975.0"]);
    fixture.changed("DELETE FROM flights").await;
    assert_eq!(fixture.rows("SELECT count(*) FROM flights").await, ["0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_wholly_changes_nothing() {
    let fixture = attested().await;
    for statement in [
        "DELETE FROM flights WHERE id IN (SELECT id FROM flights WHERE delay > 58)",
        "DELETE FROM flights WHERE id = (SELECT max(id) FROM flights)",
        "DELETE FROM flights WHERE EXISTS (SELECT 1 FROM flights f WHERE f.delay > 58)",
        "DELETE FROM flights WHERE delay < 5 LIMIT 3",
        "UPDATE flights SET delay = (SELECT max(delay) FROM flights)",
        "UPDATE flights SET delay = 0 WHERE id IN (SELECT id FROM flights)",
        "UPDATE flights SET delay = f.delay FROM flights f WHERE flights.id = f.id",
        "DELETE FROM flights WHERE delay < random()",
        "UPDATE flights SET delay = random()",
        "DELETE FROM flights WHERE now() > '2020-01-01'",
        "TRUNCATE TABLE flights",
        "MERGE INTO flights USING flights AS s ON flights.id = s.id WHEN MATCHED THEN DELETE",
    ] {
        let error = fixture.fails(statement).await;
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{statement}: {error}");
    }
    for statement in ["DELETE FROM flights WHERE nothing = 1", "UPDATE flights SET nothing = 1", "DELETE FROM nowhere"] {
        fixture.fails(statement).await;
    }
    // A plan is not the deed.
    let plan = fixture.session(ReadMode::Latest).await.sql("DELETE FROM flights WHERE id < 1000").await.unwrap();
    drop(plan);
    let plan = fixture.rows("EXPLAIN DELETE FROM flights WHERE id < 1000").await.join("\n");
    assert!(plan.contains("LakeRewrite(table=flights, delete)"), "{plan}");
    assert_eq!(fixture.rows("SELECT count(*) FROM flights").await, ["4000"]);
    // Other modes of reading are refused where rows would be written anew that are not the sealed ones.
    for (setting, says) in [("verify = 'warn'", "enforce"), ("verify = 'quarantine'", "enforce"), ("read = 'sealed'", "latest")] {
        let session = fixture.session(ReadMode::Latest).await;
        session.run(&format!("SET lakeseal.{setting}")).await.unwrap();
        let error = session.run("DELETE FROM flights WHERE id = 1").await.unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains(says), "{setting}: {error}");
    }
}

/// A poisoned row beside those that are meant would be copied into a new file, under an honest writer's name.
#[tokio::test(flavor = "multi_thread")]
async fn poison_is_never_written_anew() {
    let fixture = attested().await;
    let path = fixture.data_file().await;
    let mut edited = fixture.get(&path).await.to_vec();
    let metadata = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(edited.clone())).unwrap().metadata().clone();
    let (start, length) = metadata.row_group(2).column(1).byte_range();
    let at = usize::try_from(start + length).unwrap() - 8 * 10;
    edited[at..at + 8].copy_from_slice(&77.25_f64.to_le_bytes());
    fixture.lake.store.put(&path, edited.into()).await.unwrap();
    for statement in ["DELETE FROM flights WHERE id = 5", "UPDATE flights SET delay = 0 WHERE id = 5"] {
        names(&fixture.fails(statement).await, &["flights", "parquet"]);
    }
    // The sealed rows can be had: then these are what is written.
    let session = fixture.session(ReadMode::Latest).await;
    session.run("SET lakeseal.verify = 'heal'").await.unwrap();
    session.run("DELETE FROM flights WHERE id = 5").await.unwrap();
    assert_eq!(text_rows(&session.run("SELECT count(*), max(delay) FROM flights").await.unwrap()), ["3999|59.0"]);
    assert_eq!(fixture.stock("SELECT count(*) FROM flights WHERE delay = 77.25").await, 0);
}

/// A log that does not say what was sealed is not written to either.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_log_is_refused() {
    let fixture = attested().await;
    fixture
        .edit_log(|log| {
            log.replace("\"numRecords\":4000", "\"numRecords\":4001").replace("\\\"numRecords\\\":4000", "\\\"numRecords\\\":4001")
        })
        .await;
    names(&fixture.fails("DELETE FROM flights WHERE id = 5").await, &["flights"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn constraints_types_and_partitions_are_kept() {
    let fixture = attested().await;
    let session = fixture.session(ReadMode::Latest).await;
    session
        .run(
            "CREATE TABLE typed AS SELECT id, CAST(id AS INT) AS i, CAST(delay AS FLOAT) AS f, carrier AS t, id % 2 = 0 AS b, \
             CAST('2026-01-01' AS DATE) AS d FROM flights WHERE id < 10",
        )
        .await
        .unwrap();
    let location = Location::in_lake(&fixture.lake, "typed").unwrap();
    let table = delta::open(&location, None).await.unwrap();
    table.add_constraint().with_constraint("small", "i < 100").await.unwrap();
    let run = async |statement: &str| fixture.session(ReadMode::Latest).await.run(statement).await;
    let error = run("UPDATE typed SET i = 500 WHERE id = 1").await.unwrap_err();
    assert!(error.to_string().contains("failed validation"), "{error}");
    run("UPDATE typed SET i = 50, f = i, t = 'x' || t, b = NOT b, d = CAST('2026-02-03' AS DATE) WHERE i = 1 AND t = 'UA'").await.unwrap();
    run("DELETE FROM typed WHERE f > 8 OR d < CAST('2025-01-01' AS DATE) OR t LIKE 'Q%'").await.unwrap();
    let rows = text_rows(&run("SELECT * FROM typed ORDER BY id LIMIT 3").await.unwrap());
    assert_eq!(rows, ["0|0|0.0|AA|true|2026-01-01", "1|50|1.0|xUA|true|2026-02-03", "2|2|2.0|AA|true|2026-01-01"]);
    assert_eq!(text_rows(&run("SELECT count(*) FROM typed").await.unwrap()), ["9"]);
}

async fn data_files(fixture: &Fixture) -> usize {
    let all: Vec<_> = fixture.lake.store.list(Some(fixture.location.root())).try_collect().await.unwrap();
    all.iter().filter(|meta| !meta.location.as_ref().contains("/_") && meta.location.as_ref().ends_with(".parquet")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_statistics_of_later_files_hide_no_rows_from_a_delete() {
    let fixture = Fixture::sealed().await;
    fixture.append(4000..4100).await;
    fixture.append(4100..4200).await;
    fixture.edit_commit(1, &[("\\\"id\\\":4099", "\\\"id\\\":4010"), ("\\\"id\\\":4000", "\\\"id\\\":0")]).await;
    // Stock deltalake passes the file over.
    assert_eq!(fixture.stock("SELECT COUNT(*) FROM flights WHERE id = 4050").await, 0);
    assert_eq!(fixture.changed("DELETE FROM flights WHERE id = 4050").await, 1);
    assert_eq!(fixture.number("SELECT COUNT(*) FROM flights WHERE id = 4050").await.unwrap(), 0);
    assert_eq!(fixture.changed("UPDATE flights SET delay = 7000 WHERE id IN (10, 4060, 4150)").await, 3);
    assert_eq!(fixture.changed("DELETE FROM flights WHERE id >= 4190").await, 10);
    let expected = format!("{}|{}", 4200 - 11, 3);
    let all = "SELECT count(*), sum(CASE WHEN delay = 7000 THEN 1 ELSE 0 END) FROM flights";
    assert_eq!(fixture.rows(all).await, std::slice::from_ref(&expected));
    // The log goes on from what it was: everybody reads the same, and the versions follow one another.
    assert_eq!(text_rows(&fixture.stock_batches(all).await), [expected]);
    assert_eq!(delta::open(&fixture.location, None).await.unwrap().version(), Some(5));
    fixture.seal().await;
    assert_eq!(fixture.rows(all).await, [format!("{}|{}", 4200 - 11, 3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_compaction_that_is_passed_over_are_not_rewritten() {
    let fixture = Fixture::unsealed().await;
    fixture.append(4000..4600).await;
    fixture.seal().await;
    delta::open(&fixture.location, None).await.unwrap().optimize().await.unwrap();
    let before = data_files(&fixture).await;
    for statement in ["DELETE FROM flights WHERE id = 5", "UPDATE flights SET delay = 1 WHERE id = 5"] {
        let error = fixture.session(ReadMode::Latest).await.run(statement).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Precondition, "{error}");
        assert!(error.to_string().contains("seal it") && error.to_string().contains("commits: 2"), "{error}");
    }
    assert_eq!((data_files(&fixture).await, delta::open(&fixture.location, None).await.unwrap().version()), (before, Some(2)));
    // Sealed, it is proven to be the same rows.
    fixture.seal().await;
    assert_eq!(fixture.changed("DELETE FROM flights WHERE id = 5").await, 1);
    assert_eq!(fixture.rows("SELECT count(*) FROM flights").await, ["4599"]);
}
