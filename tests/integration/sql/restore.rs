//! Surgical restore: after it, readers that verify nothing read the truth again.

use deltalake::protocol::checkpoints::create_checkpoint;
use lakeseal::baseline::{AuditOptions, Auditor, Outcome, Repository, SealedTable, Verdict};
use lakeseal::clock::SharedClock;
use lakeseal::delta::{RestoreOptions, RestorePlan, plan_restore};
use serde_json::{Value, json};

use super::modes::{erasure_lake, truth};
use super::*;

const COUNT: &str = "SELECT COUNT(*) FROM flights";
const SUM: &str = "SELECT CAST(SUM(delay) AS BIGINT) FROM flights";

fn clock() -> SharedClock {
    Arc::new(SystemClock)
}

impl Fixture {
    fn trust(&self) -> Trust {
        Trust::new([self.key.public()], TrustLevel::Given).unwrap()
    }

    async fn newest(&self) -> SealedTable {
        let repository = Repository::new(self.lake.store.clone(), self.location.root().clone());
        repository.newest_baseline(&self.trust()).await.unwrap().unwrap()
    }

    async fn plan(&self, sealed: &SealedTable, keep: &[u64], attested: &[u64]) -> Result<RestorePlan, Error> {
        let options = RestoreOptions {
            attested: attested.iter().copied().collect(),
            keep: keep.iter().copied().collect(),
            erased: Default::default(),
            clock: clock(),
        };
        plan_restore(&self.location, sealed, &options, &()).await
    }

    async fn restore(&self, keep: &[u64]) -> RestorePlan {
        let plan = self.plan(&self.newest().await, keep, &[]).await.unwrap();
        assert_eq!(plan.lost, [], "{plan:?}");
        plan.apply(&self.location, &clock(), false, &()).await.unwrap();
        plan
    }

    async fn audit(&self) -> lakeseal::baseline::AuditReport {
        let (store, root) = (self.lake.store.clone(), self.location.root().clone());
        let auditor = Auditor::new(store, root, self.location.url().as_str(), self.trust(), clock(), AuditOptions::default());
        auditor.audit(&()).await.unwrap()
    }

    /// Restored, the table is intact with an unsealed commit, can be sealed without accepting anything, and is intact then.
    async fn is_whole(&self, rows: i64, sum: i64) {
        assert_eq!((self.stock(COUNT).await, self.stock(SUM).await), (rows, sum), "stock readers read the truth");
        assert_eq!(self.stock("SELECT COUNT(*) FROM flights WHERE id = 3000").await, 1);
        let report = self.audit().await;
        assert!(matches!(report.outcome(), Outcome::Intact | Outcome::IntactWithUnsealed), "{:?}", report.findings);
        assert_eq!((self.number(COUNT).await.unwrap(), self.number(SUM).await.unwrap()), (rows, sum));
        assert!(self.plan(&self.newest().await, &[], &[]).await.unwrap().lost.is_empty());
        self.seal().await;
        assert_eq!(self.audit().await.outcome(), Outcome::Intact, "{:?}", self.audit().await.findings);
        assert!(self.plan(&self.newest().await, &[], &[]).await.unwrap().is_empty());
    }

    async fn commit(&self, version: u64, actions: &[Value]) {
        let lines: Vec<String> = actions.iter().map(Value::to_string).collect();
        let path = Path::from(format!("flights/_delta_log/{version:020}.json"));
        self.lake.store.put(&path, (lines.join("\n") + "\n").into()).await.unwrap();
    }

    async fn add_action(&self) -> Value {
        let log = String::from_utf8(self.get(&Path::from("flights/_delta_log/00000000000000000000.json")).await.to_vec()).unwrap();
        serde_json::from_str(log.lines().find(|line| line.starts_with("{\"add\"")).unwrap()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_bytes_are_replaced_in_one_commit_by_the_sealed_ones() {
    let fixture = Fixture::sealed_in(erasure_lake()).await;
    let path = fixture.flip().await;
    assert_ne!(fixture.stock("SELECT CAST(SUM(delay) * 1000 AS BIGINT) FROM flights").await, truth() * 1000);
    let plan = fixture.plan(&fixture.newest().await, &[], &[]).await.unwrap();
    assert_eq!((plan.replaced.len(), plan.removed.len(), plan.put_back.len(), plan.newest_version), (1, 1, 1, Some(0)), "{plan:?}");
    assert_eq!(plan.removed[0].location.as_ref(), Some(&path));
    let before = fixture.lake.store.list(None).try_collect::<Vec<_>>().await.unwrap().len();
    assert_eq!(before, fixture.lake.store.list(None).try_collect::<Vec<_>>().await.unwrap().len(), "a plan writes nothing");
    let done = plan.apply(&fixture.location, &clock(), false, &()).await.unwrap();
    assert_eq!(done.version, Some(1));
    assert_eq!(fixture.stock("SELECT CAST(SUM(delay) * 1000 AS BIGINT) FROM flights").await, truth() * 1000);
    // Older versions are whole as well: their file was put back in place.
    let old = delta::open(&fixture.location, Some(0)).await.unwrap();
    let context = delta::session([&fixture.location]).unwrap();
    context.register_table("old", old.table_provider().await.unwrap()).unwrap();
    let sum = context.sql("SELECT CAST(SUM(delay) * 1000 AS BIGINT) FROM old").await.unwrap().collect().await.unwrap();
    assert_eq!(sum[0].column(0).as_primitive::<Int64Type>().value(0), truth() * 1000);
    fixture.is_whole(4000, truth()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn later_commits_are_undone_or_kept_by_choice() {
    for kept in [false, true] {
        let fixture = Fixture::sealed_in(erasure_lake()).await;
        let session = fixture.session(ReadMode::Latest).await;
        session.run("INSERT INTO flights VALUES (4000, 7.0, 'AA')").await.unwrap();
        // The attacker removes the sealed file and adds one of his own, in an ordinary commit, and changes bytes in place.
        let path = fixture.flip().await;
        let add = fixture.add_action().await;
        let raw = add["add"]["path"].as_str().unwrap();
        let poison = parquet_bytes(&[batch(0..10)]);
        fixture.lake.store.put(&Path::from("flights/poison.parquet"), poison.clone().into()).await.unwrap();
        let remove = json!({"remove": {"path": raw, "deletionTimestamp": 1, "dataChange": true, "partitionValues": {}}});
        let own = json!({"add": {"path": "poison.parquet", "partitionValues": {}, "size": poison.len(), "modificationTime": 1, "dataChange": true}});
        fixture.commit(2, &[remove, own]).await;
        assert_eq!(fixture.stock(COUNT).await, 11);
        let plan = fixture.restore(if kept { &[1] } else { &[] }).await;
        let (expected_kept, expected_dropped): (&[u64], &[u64]) = if kept { (&[1], &[2]) } else { (&[], &[1, 2]) };
        assert_eq!((plan.kept.as_slice(), plan.dropped.as_slice()), (expected_kept, expected_dropped));
        assert!(plan.replaced.iter().any(|file| path.as_ref().ends_with(&file.file)));
        fixture.is_whole(if kept { 4001 } else { 4000 }, if kept { truth() + 7 } else { truth() }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_builds_on_what_is_undone_cannot_be_kept_in_silence() {
    let fixture = Fixture::sealed_in(erasure_lake()).await;
    let session = fixture.session(ReadMode::Latest).await;
    session.run("INSERT INTO flights VALUES (4000, 7.0, 'AA')").await.unwrap();
    let sealed = fixture.newest().await;
    // An honest deletion, made from the sealed file and from the later one.
    let context = delta::session([&fixture.location]).unwrap();
    let table = delta::open(&fixture.location, None).await.unwrap();
    let delete = datafusion::prelude::col("id").lt_eq(datafusion::prelude::lit(0_i64));
    let (table, _) = table.delete().with_predicate(delete).with_session_state(Arc::new(context.state())).await.unwrap();
    assert_eq!(table.version(), Some(2));
    let plan = fixture.plan(&sealed, &[2], &[]).await;
    assert!(plan.is_ok(), "it touches sealed files only: {plan:?}");
    let plan = fixture.plan(&sealed, &[], &[2]).await.unwrap();
    assert_eq!((plan.kept, plan.dropped), (vec![2], vec![1]));
    // The file that it was made from differs now: an attestation does not say that it did not then.
    fixture.flip().await;
    let error = fixture.plan(&sealed, &[], &[2]).await.unwrap_err();
    assert!(error.to_string().contains("attested commit"), "{error}");
    assert!(fixture.plan(&sealed, &[2], &[]).await.is_ok(), "a person may vouch for it");
    let error = fixture.plan(&sealed, &[9], &[]).await.unwrap_err();
    assert!(error.to_string().contains("no such commit"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_log_is_put_back_and_its_hints_go() {
    let fixture = Fixture::sealed_in(erasure_lake()).await;
    fixture
        .edit_log(|log| log.replace("\\\"numRecords\\\":4000", "\\\"numRecords\\\":10").replace("\\\"id\\\":3999", "\\\"id\\\":1000"))
        .await;
    assert_eq!(fixture.stock(COUNT).await, 10);
    for name in ["_last_checkpoint", "00000000000000000000.crc"] {
        fixture.lake.store.put(&Path::from(format!("flights/_delta_log/{name}")), r#"{"version":7,"size":1}"#.into()).await.unwrap();
    }
    let plan = fixture.restore(&[]).await;
    assert_eq!((plan.put_back.len(), plan.hints.len()), (1, 2), "{plan:?}");
    fixture.is_whole(4000, truth()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_commit_that_describes_sealed_files_anew_or_twice_is_undone() {
    for alias in [false, true] {
        let fixture = Fixture::sealed_in(erasure_lake()).await;
        let mut add = fixture.add_action().await;
        if alias {
            let path = add["add"]["path"].as_str().unwrap().to_owned();
            add["add"]["path"] = Value::String(format!("%{:02x}{}", path.as_bytes()[0], &path[1..]));
        } else {
            let stats = add["add"]["stats"].as_str().unwrap().replace("\"id\":3999", "\"id\":1000").replace("4000", "10");
            add["add"]["stats"] = Value::String(stats);
        }
        fixture.commit(1, &[add]).await;
        assert_ne!(fixture.stock(COUNT).await, 4000);
        fixture.restore(&[]).await;
        fixture.is_whole(4000, truth()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_every_object_was_deleted_comes_back() {
    let fixture = Fixture::sealed_in(erasure_lake()).await;
    let sealed = fixture.newest().await;
    for meta in fixture.lake.store.list(Some(fixture.location.root())).try_collect::<Vec<_>>().await.unwrap() {
        if !meta.location.as_ref().contains("/_seal/") {
            fixture.lake.store.delete(&meta.location).await.unwrap();
        }
    }
    let plan = fixture.plan(&sealed, &[], &[]).await.unwrap();
    plan.apply(&fixture.location, &clock(), false, &()).await.unwrap();
    fixture.is_whole(4000, truth()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_lake_restores_its_log_and_says_what_is_lost() {
    // A commit that only the log shows is undone anywhere.
    let fixture = Fixture::sealed().await;
    let mut add = fixture.add_action().await;
    add["add"]["stats"] = Value::String(add["add"]["stats"].as_str().unwrap().replace("4000", "10"));
    fixture.commit(1, &[add]).await;
    assert_eq!(fixture.stock(COUNT).await, 10);
    fixture.restore(&[]).await;
    fixture.is_whole(4000, truth()).await;

    // Bytes that are nowhere cannot be brought back; nothing is written unless that is accepted.
    let fixture = Fixture::sealed().await;
    fixture.flip().await;
    let plan = fixture.plan(&fixture.newest().await, &[], &[]).await.unwrap();
    assert_eq!(plan.lost.len(), 1);
    let objects = fixture.lake.store.list(None).try_collect::<Vec<_>>().await.unwrap().len();
    let error = plan.apply(&fixture.location, &clock(), false, &()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(fixture.lake.store.list(None).try_collect::<Vec<_>>().await.unwrap().len(), objects);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_comes_between_stops_a_restore() {
    let fixture = Fixture::sealed_in(erasure_lake()).await;
    fixture.flip().await;
    let plan = fixture.plan(&fixture.newest().await, &[], &[]).await.unwrap();
    let txn = json!({"txn": {"appId": "a", "version": 1}});
    fixture.commit(1, &[txn]).await;
    let error = plan.apply(&fixture.location, &clock(), false, &()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Precondition, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_restored_past_the_term_of_a_baseline() {
    let fixture = Fixture::sealed_in(erasure_lake()).await;
    fixture.flip().await;
    let options = RestoreOptions {
        attested: Default::default(),
        keep: Default::default(),
        erased: Default::default(),
        clock: Arc::new(lakeseal::clock::ManualClock::new(i64::MAX)),
    };
    let error = plan_restore(&fixture.location, &fixture.newest().await, &options, &()).await.unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
    let erased =
        RestoreOptions { erased: [fixture.newest().await.files.values().next().unwrap().digest].into(), clock: clock(), ..options };
    let plan = plan_restore(&fixture.location, &fixture.newest().await, &erased, &()).await.unwrap();
    assert!(plan.lost[0].1.contains("erased on record"), "{plan:?}");
}

/// What a commit that stays did is taken from the commit: a checkpoint after it, in a log that was cleaned up, may say anything.
#[tokio::test(flavor = "multi_thread")]
async fn what_stays_of_later_commits_is_what_they_say() {
    let fixture = Fixture::unsealed().await;
    let log = |name: &str| Path::from(format!("flights/_delta_log/{name}"));
    let open = async || delta::open(&fixture.location, None).await.unwrap();
    open().await.write([batch(4000..4100)]).await.unwrap();
    create_checkpoint(&open().await, None).await.unwrap();
    let (first, beginning) = (log("00000000000000000000.json"), log("00000000000000000001.checkpoint.parquet"));
    let metadata = String::from_utf8(fixture.get(&first).await.to_vec()).unwrap();
    let metadata = metadata.lines().find(|line| line.contains("\"metaData\"")).unwrap().replace("carrier", "airline");
    fixture.lake.store.delete(&first).await.unwrap();
    fixture.seal().await;
    open().await.write([batch(4100..4200)]).await.unwrap();
    let (commit, checkpoint) = (log("00000000000000000002.json"), log("00000000000000000002.checkpoint.parquet"));
    create_checkpoint(&open().await, None).await.unwrap();
    assert_eq!(fixture.audit().await.outcome(), Outcome::IntactWithUnsealed, "{:#?}", fixture.audit().await);
    assert_eq!(fixture.number(COUNT).await.unwrap(), 4200);

    // A checkpoint of another commit 2, which renames a column and states other statistics.
    let text = String::from_utf8(fixture.get(&commit).await.to_vec()).unwrap();
    assert!(text.contains("\\\"id\\\":4199"), "{text}");
    // The hint would lead the kernel to what is no longer there.
    for gone in [&checkpoint, &log("_last_checkpoint")] {
        fixture.lake.store.delete(gone).await.unwrap();
    }
    fixture
        .lake
        .store
        .put(&commit, format!("{}\n{metadata}\n", text.trim_end().replace("\\\"id\\\":4199", "\\\"id\\\":4190")).into())
        .await
        .unwrap();
    create_checkpoint(&open().await, None).await.unwrap();
    fixture.lake.store.put(&commit, text.into()).await.unwrap();
    let report = fixture.audit().await;
    for parts in [["checkpoint of version 2", "schema"], ["commit 2", "maxValues"]] {
        let named = |f: &lakeseal::baseline::Finding| f.verdict == Verdict::Forged && parts.iter().all(|part| f.to_string().contains(part));
        assert!(report.findings.iter().any(named), "{parts:?}: {report:#?}");
    }
    assert_eq!(fixture.number(COUNT).await.unwrap_err().kind(), ErrorKind::Mismatch);

    let plan = fixture.restore(&[2]).await;
    assert_eq!((plan.kept.as_slice(), plan.described.len(), plan.replaced.len()), (&[2][..], 1, 0), "{plan:?}");
    assert_eq!(plan.head.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["metaData"]);
    assert_eq!(fixture.stock("SELECT COUNT(carrier) FROM flights WHERE id = 4195").await, 1);
    assert_eq!(fixture.number("SELECT COUNT(carrier) FROM flights").await.unwrap(), 4200);
    assert!(fixture.lake.store.head(&beginning).await.is_ok());
}

/// A writer states any time it likes. What a restore does must not last, or stop others, because of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_from_the_end_of_time_does_not_set_the_time_of_a_restore() {
    for in_commit in [false, true] {
        let fixture = Fixture::unsealed().await;
        if in_commit {
            fixture
                .edit_log(|log| log.replace("\"configuration\":{", "\"configuration\":{\"delta.enableInCommitTimestamps\":\"true\""))
                .await;
        }
        fixture.seal().await;
        let own = fixture.add_action().await;
        let info = json!({"commitInfo": {"timestamp": i64::MAX, "inCommitTimestamp": i64::MAX, "operation": "DELETE"}});
        let remove = json!({"remove": {"path": own["add"]["path"], "deletionTimestamp": 1, "dataChange": true, "partitionValues": {}}});
        // A clock that is a little ahead is followed, as before.
        let now = clock().now_ms();
        let soon = json!({"commitInfo": {"timestamp": now + 3_600_000, "inCommitTimestamp": now + 3_600_000, "operation": "DELETE"}});
        fixture.commit(1, &[soon]).await;
        fixture.commit(2, &[info, remove]).await;
        let plan = fixture.restore(&[]).await;
        let told = plan.notes.iter().any(|note| note.contains("commit 2 states a time that is far in the future"));
        assert_eq!(told, in_commit, "{:?}", plan.notes);
        let text = String::from_utf8(fixture.get(&Path::from("flights/_delta_log/00000000000000000003.json")).await.to_vec()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let stated = |name: &str, member: &str| lines.iter().find_map(|line| line.pointer(&format!("/{name}/{member}"))?.as_i64());
        for member in ["timestamp", "inCommitTimestamp"] {
            assert_eq!(stated("commitInfo", member), Some(now + 3_600_001), "{text}");
        }
        let modified = stated("add", "modificationTime").unwrap();
        assert!((now..now + 3_600_000).contains(&modified), "{text}");
        // The property was slipped in without the protocol's feature: engines may refuse it.
        assert!(in_commit || fixture.stock(COUNT).await == 4000);
    }
    // What is removed expires by when it was removed.
    let fixture = Fixture::sealed().await;
    let mut add = fixture.add_action().await;
    add["add"]["path"] = json!("other.parquet");
    let info = json!({"commitInfo": {"timestamp": i64::MAX, "operation": "WRITE"}});
    fixture.commit(1, &[info, add]).await;
    fixture.restore(&[]).await;
    let text = String::from_utf8(fixture.get(&Path::from("flights/_delta_log/00000000000000000002.json")).await.to_vec()).unwrap();
    let removes = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?.pointer("/remove/deletionTimestamp")?.as_i64());
    let times: Vec<i64> = removes.collect();
    assert!(times.len() == 1 && times[0] <= clock().now_ms(), "{text}");
}
