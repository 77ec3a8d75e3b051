//! Checkpoints after a baseline, in logs whose first commits were cleaned up.

use std::collections::BTreeMap;

use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use serde_json::{Value, json};

use super::table::{add, honest, parquet, remove};
use super::{World, assert_found};
use crate::baseline::{AuditReport, Outcome, SealOptions, Verdict};
use crate::error::ErrorKind;

impl World {
    /// A checkpoint of `version` that says what the commits do, as `edit` changes it; the commits up to `gone` are deleted.
    async fn cleaned(&self, version: u64, gone: u64, edit: impl Fn(&mut Vec<Value>)) {
        let (mut heads, mut files) = (BTreeMap::new(), BTreeMap::new());
        for commit in 0..=version {
            for line in String::from_utf8(self.get(&self.log(commit)).await).unwrap().lines() {
                let action: Value = serde_json::from_str(line).unwrap();
                let (name, body) = action.as_object().unwrap().iter().next().unwrap();
                match name.as_str() {
                    "add" => drop(files.insert(body["path"].to_string(), action.clone())),
                    "remove" => drop(files.remove(&body["path"].to_string())),
                    "commitInfo" => {}
                    name => drop(heads.insert(format!("{name} {} {}", body["appId"], body["domain"]), action.clone())),
                }
            }
        }
        let mut rows: Vec<Value> = heads.into_values().chain(files.into_values()).collect();
        edit(&mut rows);
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        let name = format!("{version:020}.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.json");
        self.put(&self.root.clone().join("_delta_log").join(name), lines.join("\n")).await;
        for version in 0..=gone {
            self.store.delete(&self.log(version)).await.unwrap();
        }
    }

    /// Sealed at version 3; a commit 4 of one more file, and a commit 5 that changes all else and a file.
    async fn moved_on() -> Self {
        let world = Self::sealed().await;
        world.append(4).await;
        let bytes = parquet(5000, honest);
        let mut file = add("f5.parquet", 5000, bytes.len());
        file["add"]["tags"] = json!({"k": "v"});
        file["add"]["partitionValues"] = json!({"none": ""});
        world.put(&world.file("f5.parquet"), bytes).await;
        let log = String::from_utf8(world.get(&world.log(0)).await).unwrap();
        let mut metadata: Value = serde_json::from_str(log.lines().find(|line| line.contains("metaData")).unwrap()).unwrap();
        metadata["metaData"]["configuration"] = json!({"delta.appendOnly": "false"});
        let protocol = json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 4}});
        let txn = json!({"txn": {"appId": "stream", "version": 7}});
        let domain = json!({"domainMetadata": {"domain": "d", "configuration": "x", "removed": false}});
        world.commit(5, "MERGE", &[remove("f1.parquet"), file, metadata, protocol, txn, domain]).await;
        world
    }
}

/// The rows of one kind of action, or that speak of a file.
fn rows<'a>(rows: &'a mut [Value], of: &str) -> Vec<&'a mut Value> {
    rows.iter_mut().filter(|row| row.get(of).is_some() || row["add"]["path"] == of).collect()
}

async fn after(edit: impl Fn(&mut Vec<Value>)) -> AuditReport {
    let world = World::moved_on().await;
    world.cleaned(5, 3, edit).await;
    world.audit().await
}

#[tokio::test]
async fn a_checkpoint_that_says_what_baseline_and_commits_say_is_honest() {
    let report = after(|_| {}).await;
    assert_eq!(report.outcome(), Outcome::IntactWithUnsealed, "{report:#?}");
    assert!(report.findings.iter().all(|found| found.verdict == Verdict::Unsealed), "{report:#?}");
    // Absences are spelled in another way, statistics come as a struct, or not at all.
    let report = after(|all| {
        let file = &mut rows(all, "f4.parquet")[0]["add"];
        let stats: Value = serde_json::from_str(file["stats"].as_str().unwrap()).unwrap();
        (file["stats"], file["stats_parsed"], file["tags"]) = (json!(null), stats, json!({}));
        rows(all, "f5.parquet")[0]["add"]["partitionValues"] = json!({"none": null});
        rows(all, "f5.parquet")[0]["add"]["stats"] = json!(null);
        rows(all, "metaData")[0]["metaData"]["description"] = json!(null);
    })
    .await;
    assert_eq!(report.outcome(), Outcome::IntactWithUnsealed, "{report:#?}");
    // The commits of before the baseline need not be all gone, nor any of those after it be there for a checkpoint of now.
    let world = World::moved_on().await;
    world.cleaned(4, 2, |_| {}).await;
    assert_eq!(world.audit().await.outcome(), Outcome::IntactWithUnsealed);
}

#[tokio::test]
async fn a_checkpoint_that_contradicts_a_later_commit_is_forged() {
    type Edit = fn(&mut Vec<Value>);
    let cases: [(Edit, &[&str]); 9] = [
        (|all| rows(all, "metaData")[0]["metaData"]["configuration"] = json!({}), &["commit 5", "properties", "checkpoint of version 5"]),
        (
            |all| {
                let text = rows(all, "metaData")[0]["metaData"]["schemaString"].as_str().unwrap().replace("price", "cost");
                rows(all, "metaData")[0]["metaData"]["schemaString"] = json!(text);
            },
            &["commit 5", "schema"],
        ),
        (|all| rows(all, "protocol")[0]["protocol"]["minWriterVersion"] = json!(2), &["commit 5", "protocol"]),
        (|all| rows(all, "txn")[0]["txn"]["version"] = json!(9), &["commit 5", "transactions", "stream"]),
        (|all| all.retain(|row| row.get("txn").is_none()), &["commit 5", "transactions", "stream"]),
        (|all| rows(all, "domainMetadata")[0]["domainMetadata"]["configuration"] = json!("y"), &["commit 5", "domain"]),
        (|all| rows(all, "f4.parquet")[0]["add"]["partitionValues"] = json!({"label": "1"}), &["f4.parquet", "commit 4", "column label"]),
        (
            |all| {
                let text = rows(all, "f4.parquet")[0]["add"]["stats"].as_str().unwrap().replace("4199", "4100");
                rows(all, "f4.parquet")[0]["add"]["stats"] = json!(text);
            },
            &["f4.parquet", "commit 4", "maxValues"],
        ),
        (|all| rows(all, "f5.parquet")[0]["add"]["tags"] = json!({"k": "w"}), &["f5.parquet", "commit 5", "tags"]),
    ];
    for (edit, parts) in cases {
        assert_found(&after(edit).await, Verdict::Forged, parts);
    }
    // Nobody seals it unseen.
    let world = World::moved_on().await;
    world.cleaned(5, 3, cases[0].0).await;
    let refused = world.seal_with(SealOptions { force: true, ..SealOptions::default() }).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Mismatch, "{refused}");
}

#[tokio::test]
async fn what_no_later_commit_changes_is_what_was_sealed() {
    type Edit = fn(&mut Vec<Value>);
    let cases: [(Edit, &str); 4] = [
        (|all| rows(all, "metaData")[0]["metaData"]["name"] = json!("other"), "properties"),
        (|all| rows(all, "protocol")[0]["protocol"]["minWriterVersion"] = json!(4), "protocol"),
        (|all| all.push(json!({"txn": {"appId": "stream", "version": 7}})), "transactions"),
        (|all| all.push(json!({"domainMetadata": {"domain": "d", "configuration": "x", "removed": false}})), "domain"),
    ];
    for (edit, part) in cases {
        let world = World::sealed().await;
        world.append(4).await;
        world.cleaned(4, 3, edit).await;
        assert_found(&world.audit().await, Verdict::Forged, &["commit 4", part, "baseline 1 sealed"]);
    }
    let world = World::sealed().await;
    world.append(4).await;
    world.cleaned(4, 3, |_| {}).await;
    assert_eq!(world.audit().await.outcome(), Outcome::IntactWithUnsealed);
}

#[tokio::test]
async fn a_version_that_says_two_things_is_neither_audited_as_sound_nor_sealed() {
    let world = World::sealed().await;
    let log = String::from_utf8(world.get(&world.log(0)).await).unwrap();
    let metadata: Value = serde_json::from_str(log.lines().find(|line| line.contains("metaData")).unwrap()).unwrap();
    let mut other = metadata.clone();
    other["metaData"]["configuration"] = json!({"delta.appendOnly": "true"});
    world.commit(4, "SET TBLPROPERTIES", &[other.clone(), metadata.clone()]).await;
    assert_found(&world.audit().await, Verdict::Forged, &["twice", "commit: 4", "metaData"]);
    let refused = world.seal_with(SealOptions { force: true, ..SealOptions::default() }).await.unwrap_err();
    assert!(refused.to_string().contains("twice"), "{refused}");

    // In the checkpoint that stands for the sealed commits, too.
    let world = World::sealed().await;
    world.cleaned(3, 3, |all| all.insert(0, other.clone())).await;
    let name: Path = world.root.clone().join("_delta_log");
    assert_found(&world.audit().await, Verdict::Forged, &["twice", "metaData", name.as_ref()]);
}

#[tokio::test]
async fn a_checkpoint_vouches_for_no_restore_that_commits_contradict() {
    let world = World::sealed().await;
    let log = String::from_utf8(world.get(&world.log(2)).await).unwrap();
    let back: Value = serde_json::from_str(log.lines().find(|line| line.contains("\"add\"")).unwrap()).unwrap();
    world.commit(4, "DELETE", &[remove("f2.parquet")]).await;
    world.append(5).await;
    world.cleaned(5, 3, |all| all.push(back.clone())).await;
    let info = json!({"commitInfo": {"operation": "RESTORE", "operationParameters": {"version": 5}}});
    world.put(&world.log(6), format!("{info}\n{back}\n")).await;
    let report = world.audit().await;
    assert_found(&report, Verdict::Undetermined, &["commit 6", "restores a version that the log no longer knows"]);

    // Where the checkpoint says what the commits do, a RESTORE to its version is one.
    let world = World::sealed().await;
    world.append(4).await;
    world.cleaned(4, 3, |_| {}).await;
    world.commit(5, "DELETE", &[remove("f2.parquet")]).await;
    let info = json!({"commitInfo": {"operation": "RESTORE", "operationParameters": {"version": 4}}});
    world.put(&world.log(6), format!("{info}\n{back}\n")).await;
    let report = world.audit().await;
    assert_eq!(report.outcome(), Outcome::IntactWithUnsealed, "{report:#?}");
    assert_found(&report, Verdict::Unsealed, &["commit 6", "exactly the files of that version"]);
}
