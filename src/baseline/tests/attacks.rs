use object_store::ObjectStoreExt as _;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use serde_json::json;

use super::super::proven::snapshot_of;
use super::super::sealed::RowGroups;
use super::super::statement::EvidenceKind;
use super::super::{compare, evidence};
use super::table::{add, honest, parquet, parquet_with, remove};
use super::*;
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::table::{LiveFile, TableKind};

#[tokio::test]
async fn a_changed_byte_in_a_page_is_placed() {
    let world = World::sealed().await;
    let sealed = world.repository().newest_baseline(&world.trust()).await.unwrap().unwrap();
    let group = &sealed.file_at("f2.parquet").unwrap().row_groups.get().unwrap()[1];
    let column = group.columns.iter().find(|c| c.name == "price").unwrap();
    let path = world.file("f2.parquet");
    let mut bytes = world.get(&path).await;
    // A value in the middle, so that the statistics stay true.
    bytes[usize::try_from(column.bytes.end).unwrap() - 404] ^= 1;
    world.put(&path, bytes).await;
    let report = world.audit().await;
    assert_eq!(report.findings.len(), 1, "{report:#?}");
    assert_found(&report, Verdict::Modified, &["f2.parquet row group 1 column price"]);
    assert_eq!(report.summary[&Verdict::Intact], 2);
    assert_intact(&world.quick().await);
    // To seal again does not read it, so nothing is laundered; to accept does, and shows it.
    assert!(world.seal().await.unwrap().unchanged);
    let accepted = world.seal_with(SealOptions { accept_changes: true, ..SealOptions::default() }).await.unwrap();
    assert_eq!((accepted.findings.len(), accepted.files_added), (1, 1));
    assert_intact(&world.audit().await);
}

#[tokio::test]
async fn a_valid_file_written_anew_is_placed_by_its_values() {
    let world = World::sealed().await;
    // Compressed, so that every chunk has other bytes; three prices of the second row group differ.
    let poison = |i: i64| if (2150..2153).contains(&i) { -1.0 } else { honest(i) };
    let bytes = parquet_with(2000, poison, WriterProperties::builder().set_compression(Compression::SNAPPY));
    world.put(&world.file("f2.parquet"), bytes).await;
    let report = world.audit().await;
    assert_eq!(report.findings.len(), 1, "{report:#?}");
    assert_found(&report, Verdict::Modified, &["f2.parquet row group 1 column price", "min"]);
    // Every value as it was: still not the sealed file.
    let bytes = parquet_with(2000, honest, WriterProperties::builder().set_compression(Compression::SNAPPY));
    world.put(&world.file("f2.parquet"), bytes).await;
    assert_found(&world.audit().await, Verdict::Modified, &["f2.parquet", "encoded anew"]);
    // Other row groups.
    world.put(&world.file("f2.parquet"), parquet(7000, honest)).await;
    assert_found(&world.audit().await, Verdict::Modified, &["f2.parquet row group 0 column id"]);
}

#[tokio::test]
async fn a_changed_footer_alone_is_forged() {
    let world = World::sealed().await;
    let none = WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None);
    let without = parquet_with(2000, honest, none);
    world.put(&world.file("f2.parquet"), without).await;
    let report = world.audit().await;
    assert_eq!(report.outcome(), Outcome::Mismatch);
    assert!(report.findings.iter().all(|f| f.file.as_deref() == Some("f2.parquet")), "{report:#?}");
    // Other bytes after the last column chunk, same length.
    let mut bytes = parquet(2000, honest);
    let at = bytes.windows(10).rposition(|w| w == b"parquet-rs").unwrap();
    bytes[at] ^= 1;
    world.put(&world.file("f2.parquet"), bytes).await;
    assert_found(&world.audit().await, Verdict::Forged, &["f2.parquet", "footer"]);
}

#[tokio::test]
async fn damaged_files_are_told_apart() {
    let world = World::sealed().await;
    let path = world.file("f1.parquet");
    let honest = world.get(&path).await;
    world.put(&path, honest[..honest.len() - 100].to_vec()).await;
    assert_found(&world.audit().await, Verdict::Modified, &["f1.parquet", "no longer be decoded"]);
    assert_eq!(world.seal_with(SealOptions { force: true, ..SealOptions::default() }).await.unwrap_err().kind(), ErrorKind::Mismatch);
    world.put(&path, "not parquet at all").await;
    assert_found(&world.audit().await, Verdict::Modified, &["f1.parquet", "no longer be decoded"]);
    world.store.delete(&path).await.unwrap();
    assert_found(&world.audit().await, Verdict::Missing, &["f1.parquet"]);
}

#[tokio::test]
async fn a_changed_commit_is_forged_and_names_what_differs() {
    for (from, to, parts) in [
        ("\\\"numRecords\\\":200", "\\\"numRecords\\\":100", ["f2.parquet", "numRecords"]),
        ("\\\"maxValues\\\":{\\\"id\\\":2199", "\\\"maxValues\\\":{\\\"id\\\":2100", ["f2.parquet column id", "maxValues"]),
        ("\"partitionValues\":{}", "\"partitionValues\":{\"label\":\"1\"}", ["f2.parquet column label", "partition value"]),
    ] {
        let world = World::sealed().await;
        world.edit(&world.log(2), from, to).await;
        for report in [world.audit().await, world.quick().await] {
            assert_found(&report, Verdict::Forged, &["commit 2", "changed after it was sealed"]);
            assert_found(&report, Verdict::Forged, &parts);
        }
        assert_eq!(world.seal_with(SealOptions { force: true, ..SealOptions::default() }).await.unwrap_err().kind(), ErrorKind::Mismatch);
    }
}

#[tokio::test]
async fn a_deleted_newest_commit_is_a_roll_back() {
    let world = World::sealed().await;
    world.store.delete(&world.log(3)).await.unwrap();
    assert_found(&world.audit().await, Verdict::RolledBack, &["commit 3", "version is 2"]);
    assert_eq!(world.seal().await.unwrap_err().kind(), ErrorKind::Mismatch);
}

#[tokio::test]
async fn a_log_that_is_gone_or_torn_is_never_intact() {
    let world = World::sealed().await;
    world.store.delete(&world.log(1)).await.unwrap();
    assert_eq!(world.audit().await.outcome(), Outcome::Mismatch);
    for version in [0, 2, 3] {
        world.store.delete(&world.log(version)).await.unwrap();
    }
    assert_eq!(world.audit().await.outcome(), Outcome::Mismatch);
}

#[tokio::test]
async fn later_commits_that_reach_back_are_told_apart() {
    let world = World::new();
    world.create(3).await;
    world.commit(4, "DELETE", &[remove("f1.parquet")]).await;
    world.seal().await.unwrap();
    // An honest delete.
    world.commit(5, "DELETE", &[remove("f2.parquet")]).await;
    assert_eq!(world.audit().await.outcome(), Outcome::IntactWithUnsealed);
    // The file that was removed before the seal comes back; a sealed one gets other statistics; one outside is added.
    let size = world.get(&world.file("f1.parquet")).await.len();
    world.commit(6, "WRITE", &[add("f1.parquet", 1000, size)]).await;
    assert_found(&world.audit().await, Verdict::Resurrected, &["commit 6", "f1.parquet"]);
    world.commit(7, "WRITE", &[add("f3.parquet", 2000, size)]).await;
    assert_found(&world.audit().await, Verdict::Forged, &["f3.parquet column id", "minValues"]);
    world.commit(8, "WRITE", &[add("../elsewhere.parquet", 2000, size)]).await;
    assert_found(&world.audit().await, Verdict::Foreign, &["../elsewhere.parquet"]);
    // An alias of a live file doubles its rows.
    world.commit(8, "WRITE", &[add("%663.parquet", 3000, size)]).await;
    assert_found(&world.audit().await, Verdict::Forged, &["f3.parquet", "twice"]);
}

#[tokio::test]
async fn a_restore_to_exactly_an_older_version_is_no_attack_and_any_other_is() {
    let info = |parameters: serde_json::Value| json!({"commitInfo": {"timestamp": NOW_MS, "operation": "RESTORE", "operationParameters": parameters}});
    let deleted = || async {
        let world = World::new();
        world.create(3).await;
        world.commit(4, "DELETE", &[remove("f1.parquet")]).await;
        world.commit(5, "DELETE", &[remove("f2.parquet")]).await;
        world.seal().await.unwrap();
        let size = world.get(&world.file("f1.parquet")).await.len();
        (world, size)
    };
    // All commits state one time, and a time may mean a few of them: only one has these files.
    for parameters in [json!({"version": 3}), json!({"version": "3", "datetime": null}), json!({"datetime": NOW_MS})] {
        let (world, size) = deleted().await;
        let actions = [info(parameters), add("f1.parquet", 1000, size), add("f2.parquet", 2000, size)];
        world.commit(6, "RESTORE", &actions).await;
        for report in [world.audit().await, world.quick().await] {
            assert_eq!(report.outcome(), Outcome::IntactWithUnsealed, "{report:#?}");
            assert_found(&report, Verdict::Unsealed, &["commit 6", "RESTORE to version 3", "2 that had been removed"]);
        }
        // It may be sealed, and what was removed is live then.
        world.seal().await.unwrap();
        assert_intact(&world.audit().await);
    }
    // One file of the two; a version that left more behind; none that the log has; another operation.
    for (parameters, operation, files) in [
        (json!({"version": 3}), "RESTORE", &["f1.parquet"][..]),
        (json!({"version": 4}), "RESTORE", &["f1.parquet", "f2.parquet"]),
        (json!({"version": 6}), "RESTORE", &["f1.parquet", "f2.parquet"]),
        (json!({}), "RESTORE", &["f1.parquet", "f2.parquet"]),
        (json!({"datetime": NOW_MS - 1}), "RESTORE", &["f1.parquet", "f2.parquet"]),
        (json!({"datetime": NOW_MS}), "RESTORE", &["f1.parquet"]),
        (json!({"version": 3}), "WRITE", &["f1.parquet", "f2.parquet"]),
    ] {
        let (world, size) = deleted().await;
        let mut stated = info(parameters);
        stated["commitInfo"]["operation"] = json!(operation);
        let first = |name: &str| if name == "f1.parquet" { 1000 } else { 2000 };
        let actions: Vec<_> = std::iter::once(stated).chain(files.iter().map(|name| add(name, first(name), size))).collect();
        world.commit(6, operation, &actions).await;
        assert_found(&world.audit().await, Verdict::Resurrected, &["commit 6", "f1.parquet"]);
    }
    // The version's files, with statistics that hide rows.
    let (world, size) = deleted().await;
    world.commit(6, "RESTORE", &[info(json!({"version": 3})), add("f1.parquet", 1001, size), add("f2.parquet", 2000, size)]).await;
    assert_found(&world.audit().await, Verdict::Forged, &["f1.parquet column id", "minValues"]);
}

#[tokio::test]
async fn a_compaction_is_proven_and_a_false_one_is_modified() {
    let same_data = |mut action: serde_json::Value| {
        let name = if action.get("add").is_some() { "add" } else { "remove" };
        action[name]["dataChange"] = json!(false);
        action
    };
    for (price, verdict) in [(honest as fn(i64) -> f64, Verdict::Rewritten), (|i| honest(i) + 1.0, Verdict::Modified)] {
        let world = World::sealed().await;
        let bytes = parquet_with(2000, price, WriterProperties::builder().set_compression(Compression::SNAPPY));
        let mut action = same_data(add("compacted.parquet", 2000, bytes.len()));
        action["add"]["stats"] = json!("{\"numRecords\":200}");
        world.put(&world.file("compacted.parquet"), bytes).await;
        world.commit(4, "OPTIMIZE", &[same_data(remove("f2.parquet")), action]).await;
        let report = world.audit().await;
        assert_eq!(report.findings.len(), 1, "{report:#?}");
        assert_found(&report, verdict, &["commit 4", "OPTIMIZE"]);
        // What was compacted away may be vacuumed.
        world.store.delete(&world.file("f2.parquet")).await.unwrap();
        assert_found(&world.audit().await, verdict, &["commit 4"]);
    }
}

#[tokio::test]
async fn a_signer_whose_evidence_does_not_come_to_the_roots_is_found_by_every_audit() {
    for what in ["digest", "sum"] {
        let world = World::sealed().await;
        let repository = world.repository();
        let sealed = repository.newest_baseline(&world.trust()).await.unwrap().unwrap();
        let mut files: Vec<SealedFile> = sealed.files.values().map(|file| SealedFile::clone(file)).collect();
        let mut groups = files[1].row_groups.get().unwrap().to_vec();
        match what {
            "digest" => groups[1].digest = Digest([1; 32]),
            _ => groups[0].sum = groups[1].sum.clone(),
        }
        files[1].row_groups = RowGroups::known(groups);
        let delta = evidence::Delta { added: files.iter().collect(), ..Default::default() };
        let (_, bytes) = delta.encode(&sealed.row_key).unwrap().into_iter().find(|(kind, _)| *kind == EvidenceKind::RowGroups).unwrap();
        let (digest, size) = repository.keep_evidence(bytes).await.unwrap();
        // The statement of a thief of the key: baseline 2 with another piece.
        let mut statement = sealed.statement.clone();
        statement.number = 2;
        statement.previous = Some(sealed.baseline.digest);
        for piece in statement.evidence.iter_mut().filter(|piece| piece.kind == EvidenceKind::RowGroups) {
            (piece.digest, piece.size) = (digest, size);
        }
        let name = repository.keep_statement(&statement).await.unwrap();
        repository.sign(&name, &statement, &world.key).await.unwrap();
        for report in [world.audit().await, world.quick().await] {
            assert_found(&report, Verdict::Undetermined, &["does not come to the", if what == "sum" { "rows" } else { "live files" }]);
        }
    }
}

/// What evidence and a log come to is what the log alone comes to, whether the log was sealed to its end or goes on, and whoever changed it.
#[tokio::test]
async fn a_state_that_evidence_begins_is_the_replayed_one() {
    let world = World::sealed().await;
    let sealed = world.repository().newest_baseline(&world.trust()).await.unwrap().unwrap();
    let check = async |what: &str| {
        let log = crate::table::read_log(&*world.store, &world.root, None).await.unwrap();
        let mut found = snapshot_of(log, &world.root, &sealed).unwrap();
        let mut replayed = crate::table::load(&*world.store, &world.root, None).await.unwrap();
        assert_eq!(compare_state(&found, &sealed), compare_state(&replayed, &sealed), "{what}");
        for file in found.files.values_mut().chain(replayed.files.values_mut()) {
            *file = Arc::new(LiveFile { added_in: None, ..compare::normal_live(TableKind::Delta, file) });
        }
        assert_eq!(found, replayed, "{what}");
    };
    check("sealed to its end").await;
    world.append(4).await;
    world.commit(5, "DELETE", &[remove("f2.parquet")]).await;
    check("going on").await;
    world.edit(&world.log(2), "\\\"numRecords\\\":200", "\\\"numRecords\\\":100").await;
    check("changed").await;
}
