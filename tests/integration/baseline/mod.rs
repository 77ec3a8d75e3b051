//! Tables written by deltalake: whatever it does to them is recognised as what it is, without a false alarm.

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};
use deltalake::DeltaTable;
use deltalake::protocol::SaveMode;
use lakeseal::baseline::{AuditOptions, AuditReport, Auditor, Outcome, SealOptions, SealOutcome, Sealer, Trust, TrustLevel, Verdict};
use lakeseal::clock::SystemClock;
use lakeseal::key::PrivateKey;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use tempfile::TempDir;
use url::Url;

struct Lake {
    _folder: TempDir,
    url: Url,
    store: Arc<LocalFileSystem>,
    key: PrivateKey,
}

fn rows(first: i64, count: i64) -> RecordBatch {
    let ids: Vec<i64> = (first..first + count).collect();
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(ids.clone())) as _),
        ("label", Arc::new(StringArray::from_iter_values(ids.iter().map(|i| format!("l{}", i % 2)))) as _),
        ("value", Arc::new(Float64Array::from_iter_values(ids.iter().map(|i| *i as f64 / 3.0))) as _),
    ])
    .unwrap()
}

impl Lake {
    /// A table of three appends, partitioned by `label`, sealed.
    async fn sealed() -> (Self, DeltaTable) {
        let folder = tempfile::tempdir().unwrap();
        let url = Url::from_directory_path(folder.path()).unwrap();
        let store = Arc::new(LocalFileSystem::new_with_prefix(folder.path()).unwrap());
        let lake = Self { _folder: folder, url, store, key: PrivateKey::from_seed(&[3; 32]) };
        let mut table = DeltaTable::try_from_url(lake.url.clone()).await.unwrap();
        for first in [0, 100, 200] {
            table = table.write([rows(first, 100)]).with_save_mode(SaveMode::Append).with_partition_columns(["label"]).await.unwrap();
        }
        let outcome = lake.seal().await;
        assert!(outcome.first);
        assert_eq!(outcome.baseline.rows, 300);
        assert_eq!(lake.audit().await.outcome(), Outcome::Intact);
        (lake, table)
    }

    async fn seal(&self) -> SealOutcome {
        self.try_seal().await.unwrap()
    }

    async fn try_seal(&self) -> lakeseal::Result<SealOutcome> {
        let options = SealOptions::default();
        Sealer::new(self.store.clone(), Path::default(), self.url.as_str(), self.key.clone(), Arc::new(SystemClock), options)?
            .seal(&())
            .await
    }

    async fn audit(&self) -> AuditReport {
        let trust = Trust::new([self.key.public()], TrustLevel::SelfMade).unwrap();
        let options = AuditOptions::default();
        let auditor = Auditor::new(self.store.clone(), Path::default(), self.url.as_str(), trust, Arc::new(SystemClock), options);
        auditor.audit(&()).await.unwrap()
    }

    /// After an operation: nothing but later commits of these verdicts, and once sealed again all is intact.
    async fn expect(&self, verdicts: &[Verdict]) {
        let report = self.audit().await;
        let found: Vec<Verdict> = report.findings.iter().map(|f| f.verdict).collect();
        assert_eq!(found, verdicts, "{report:#?}");
        assert_eq!(report.outcome(), Outcome::IntactWithUnsealed);
        self.seal().await;
        let report = self.audit().await;
        assert_eq!(report.outcome(), Outcome::Intact, "{report:#?}");
    }
}

#[tokio::test]
async fn appends_and_schema_evolution_are_unsealed() {
    let (lake, table) = Lake::sealed().await;
    table.write([rows(300, 10)]).with_save_mode(SaveMode::Append).await.unwrap();
    lake.expect(&[Verdict::Unsealed]).await;
}

/// deltalake's parser takes the last of two members and numbers that stand in quotation marks; a stricter one has nothing to hold against the data.
#[tokio::test]
async fn statistics_that_parsers_read_differently_are_not_sealed() {
    let (lake, table) = Lake::sealed().await;
    table.write([rows(300, 10)]).with_save_mode(SaveMode::Append).await.unwrap();
    let commit = lake.url.to_file_path().unwrap().join("_delta_log/00000000000000000003.json");
    let honest = std::fs::read_to_string(&commit).unwrap();
    let adds = honest.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap().get("add").cloned());
    let adds: Vec<_> = adds.collect();
    let (file, stats) = (adds[0]["path"].as_str().unwrap(), adds[0]["stats"].as_str().unwrap());
    let minimum: serde_json::Value = serde_json::from_str::<serde_json::Value>(stats).unwrap()["minValues"]["id"].clone();
    let quoted = stats.replace(&format!("\"id\":{minimum}"), "\"id\":\"309\"");
    let twice = stats.replace("{\"numRecords\":5", "{\"numRecords\":5,\"numRecords\":900");
    for (forged, what) in [(twice, "statistics"), (quoted, "minValues")] {
        assert_ne!(forged, stats);
        let escape = |text: &str| serde_json::to_string(text).unwrap();
        let edited = honest.replacen(&escape(stats), &escape(&forged), 1);
        assert_ne!(edited, honest);
        std::fs::write(&commit, edited).unwrap();
        let error = lake.try_seal().await.unwrap_err();
        assert_eq!(error.kind(), lakeseal::ErrorKind::Mismatch, "{error}");
        let text = error.to_string();
        let file = file.replace("%20", " ");
        assert!(text.contains(&file) && text.contains(what), "{text}");
    }
    std::fs::write(&commit, honest).unwrap();
    lake.seal().await;
    assert_eq!(lake.audit().await.outcome(), Outcome::Intact);
}

#[tokio::test]
async fn deletes_and_updates_are_unsealed() {
    let (lake, table) = Lake::sealed().await;
    let (table, _) = table.delete().with_predicate("id < 50").await.unwrap();
    lake.expect(&[Verdict::Unsealed]).await;
    table.update().with_predicate("id = 150").with_update("value", "0.0").await.unwrap();
    lake.expect(&[Verdict::Unsealed]).await;
}

#[tokio::test]
async fn a_restore_is_unsealed_also_of_what_was_removed_before_the_seal() {
    let (lake, table) = Lake::sealed().await;
    let (table, _) = table.delete().with_predicate("id < 50").await.unwrap();
    lake.seal().await;
    // Back to before the deletion, which is sealed; then to before the last append, whose files were sealed, by time.
    let (table, _) = table.restore().with_version_to_restore(2).await.unwrap();
    lake.expect(&[Verdict::Unsealed]).await;
    let (table, _) = table.restore().with_version_to_restore(1).await.unwrap();
    lake.expect(&[Verdict::Unsealed]).await;
    let (mut table, _) = table.restore().with_version_to_restore(3).await.unwrap();
    let report = lake.audit().await;
    assert!(report.findings[0].detail.contains("RESTORE to version 3"), "{report:#?}");
    lake.expect(&[Verdict::Unsealed]).await;
    table.load().await.unwrap();
    let times = chrono::DateTime::from_timestamp_millis(lake_time(&lake, 1).await).unwrap();
    table.restore().with_datetime_to_restore(times).await.unwrap();
    lake.expect(&[Verdict::Unsealed]).await;
}

/// When the commit of `version` says that it was made.
async fn lake_time(lake: &Lake, version: u64) -> i64 {
    let snapshot = lakeseal::table::load(&*lake.store, &Path::default(), None).await.unwrap();
    snapshot.commits.iter().find(|commit| commit.version == version).unwrap().timestamp_ms.unwrap()
}

#[tokio::test]
async fn optimize_is_proven_to_leave_the_rows_alone() {
    let (lake, table) = Lake::sealed().await;
    let (table, metrics) = table.optimize().await.unwrap();
    assert!(metrics.num_files_removed > 0);
    lake.expect(&[Verdict::Rewritten]).await;
    // The files that were compacted away are vacuumed: the sealed state does not need them.
    let retention = chrono::Duration::zero();
    table.vacuum().with_retention_period(retention).with_enforce_retention_duration(false).await.unwrap();
    let report = lake.audit().await;
    assert!(report.findings.iter().all(|f| f.verdict == Verdict::Unsealed), "{report:#?}");
}

#[tokio::test]
async fn a_checkpoint_changes_nothing() {
    let (lake, mut table) = Lake::sealed().await;
    deltalake::checkpoints::create_checkpoint(&table, None).await.unwrap();
    assert_eq!(lake.audit().await.outcome(), Outcome::Intact);
    table.load().await.unwrap();
    table.write([rows(300, 10)]).with_save_mode(SaveMode::Append).await.unwrap();
    lake.expect(&[Verdict::Unsealed]).await;
    // Without the commits before the checkpoint, as log cleanup leaves it.
    let log = lake.url.to_file_path().unwrap().join("_delta_log");
    for version in 0..2 {
        std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    let report = lake.audit().await;
    assert_eq!(report.outcome(), Outcome::Intact, "{report:#?}");
}
