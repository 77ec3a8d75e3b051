//! Commits after a baseline, with and without their writers' attestations.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use object_store::ObjectStoreExt as _;
use serde_json::{Value, json};

use super::table::{add, honest, parquet};
use super::{LOCATION, World, assert_found};
use crate::baseline::{
    Attestation, AttestationName, AttestedCommit, AuditOptions, AuditReport, Auditor, Outcome, SealOptions, Verdict, Writers,
    attestation_envelope,
};
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::key::PrivateKey;
use crate::table::testing::Counting;

fn writer() -> PrivateKey {
    PrivateKey::from_seed(&[40; 32])
}

fn stranger() -> PrivateKey {
    PrivateKey::from_seed(&[41; 32])
}

impl World {
    async fn attest_as(&self, version: u64, key: &PrivateKey, change: impl FnOnce(&mut AttestedCommit)) {
        self.attest_with(version, key, change, json!({"buildDefinition": {}, "runDetails": {}})).await;
    }

    async fn attest_with(&self, version: u64, key: &PrivateKey, change: impl FnOnce(&mut AttestedCommit), provenance: Value) {
        let bytes = self.get(&self.log(version)).await;
        let previous = Some(Digest::of(&self.get(&self.log(version - 1)).await));
        let mut commit = AttestedCommit::of("the-table".to_owned(), LOCATION.to_owned(), version, &bytes, previous);
        let name = AttestationName { version, commit: commit.commit, key: key.public().id() };
        change(&mut commit);
        let attestation = Attestation { commit, provenance };
        self.store.put(&name.path(&self.root), attestation_envelope(key, attestation.statement(&[])).await.unwrap().into()).await.unwrap();
    }

    async fn attest(&self, version: u64) {
        self.attest_as(version, &writer(), |_| {}).await;
    }

    async fn audit_listed(&self) -> AuditReport {
        let writers = Writers::listed(vec![writer().public()]);
        self.audit_with(self.trust(), AuditOptions { writers, ..AuditOptions::default() }).await
    }
}

#[tokio::test]
async fn an_attested_commit_is_said_to_be_and_by_whom() {
    let world = World::sealed().await;
    world.append(4).await;
    world.append(5).await;
    world.attest(4).await;
    world.attest(5).await;
    let by = format!("attested by writer {}", &writer().public().id().to_string()[..16]);
    for writers in [Writers::listed(vec![writer().public()]), Writers::known(vec![writer().public()])] {
        let report = world.audit_with(world.trust(), AuditOptions { writers, ..AuditOptions::default() }).await;
        assert_eq!(report.outcome(), Outcome::IntactWithUnsealed, "{report:#?}");
        assert_found(&report, Verdict::Unsealed, &["commit 4", &by]);
        assert_found(&report, Verdict::Unsealed, &["commit 5", &by]);
    }
}

#[tokio::test]
async fn an_unattested_commit_is_a_mismatch_where_writers_are_listed_and_only_there() {
    let world = World::sealed().await;
    world.append(4).await;
    world.append(5).await;
    world.attest(4).await;
    world.attest_as(5, &stranger(), |_| {}).await;
    let report = world.audit_listed().await;
    assert_eq!(report.outcome(), Outcome::Mismatch);
    assert_found(&report, Verdict::Unattested, &["commit 5", "WRITE", "no writer that you trust"]);
    assert_eq!(report.findings.len(), 2, "{report:#?}");
    let known = AuditOptions { writers: Writers::known(vec![writer().public()]), ..AuditOptions::default() };
    assert_eq!(world.audit_with(world.trust(), known).await.outcome(), Outcome::IntactWithUnsealed);
    assert_eq!(world.audit().await.outcome(), Outcome::IntactWithUnsealed);
    // Nobody seals it unseen either.
    let writers = Writers::listed(vec![writer().public()]);
    let refused = world.seal_with(SealOptions { writers: writers.clone(), ..SealOptions::default() }).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Mismatch, "{refused}");
    assert!(refused.to_string().contains("unattested"), "{refused}");
    let shown = world.seal_with(SealOptions { writers, accept_changes: true, ..SealOptions::default() }).await.unwrap();
    assert!(shown.findings.iter().any(|f| f.verdict == Verdict::Unattested), "{shown:#?}");
}

#[tokio::test]
async fn attempts_that_came_to_nothing_accuse_nobody() {
    let world = World::sealed().await;
    world.append(4).await;
    // Killed between attestation and create, then again: two orphans of version 5; and a loser of version 4.
    for (version, seed) in [(5, 1), (5, 2), (4, 3)] {
        let commit = AttestedCommit::of("the-table".to_owned(), LOCATION.to_owned(), version, &[seed], None);
        let name = AttestationName { version, commit: commit.commit, key: writer().public().id() };
        let attestation = Attestation { commit, provenance: json!({}) };
        world
            .store
            .put(&name.path(&world.root), attestation_envelope(&writer(), attestation.statement(&[])).await.unwrap().into())
            .await
            .unwrap();
    }
    world.attest(4).await;
    let report = world.audit_listed().await;
    assert_eq!(report.outcome(), Outcome::IntactWithUnsealed, "{report:#?}");
    assert_eq!(report.findings.len(), 1);
}

#[tokio::test]
async fn an_attestation_serves_for_its_own_table_place_and_version_only() {
    type Change = fn(&mut AttestedCommit);
    let cases: [(Change, &str); 3] = [
        (|commit| commit.table_id = "another".to_owned(), "of another table"),
        (|commit| commit.location = "memory:///copy".to_owned(), "memory:///copy"),
        (|commit| commit.version = 9, "no writer that you trust"),
    ];
    for (change, why) in cases {
        let world = World::sealed().await;
        world.append(4).await;
        world.attest_as(4, &writer(), change).await;
        assert_found(&world.audit_listed().await, Verdict::Unattested, &["commit 4", why]);
    }
}

#[tokio::test]
async fn a_commit_put_under_an_attested_one_is_seen() {
    let world = World::sealed().await;
    world.append(4).await;
    world.append(5).await;
    world.attest(4).await;
    world.attest(5).await;
    let bytes = parquet(9000, honest);
    let action = add("evil.parquet", 9000, bytes.len());
    world.put(&world.file("evil.parquet"), bytes).await;
    world.commit(4, "WRITE", &[action]).await;
    let report = world.audit_listed().await;
    assert_found(&report, Verdict::Forged, &["commit 4", "attested to follow"]);
    assert_found(&report, Verdict::Unattested, &["commit 4"]);
    // Even where no writers are listed, a known writer's word contradicts it.
    let known = AuditOptions { writers: Writers::known(vec![writer().public()]), ..AuditOptions::default() };
    assert_found(&world.audit_with(world.trust(), known).await, Verdict::Forged, &["commit 4"]);
}

#[tokio::test]
async fn a_commit_of_another_history_does_not_follow_the_sealed_one() {
    let world = World::sealed().await;
    world.append(4).await;
    world.attest_as(4, &writer(), |commit| commit.previous = Some(Digest([5; 32]))).await;
    assert_found(&world.audit_listed().await, Verdict::Forged, &["commit 4", "was sealed as"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_attestations_count_and_are_held_one_at_a_time() {
    const LONG_BYTES: usize = 2_000_000;
    let world = World::sealed().await;
    for version in 4..14 {
        world.append(version).await;
        // Every other one is short, so that both kinds stand in one chain.
        let plan = if version % 2 == 0 { "x".repeat(LONG_BYTES) } else { String::new() };
        world.attest_with(version, &writer(), |_| {}, json!({"buildDefinition": {"plan": plan}, "runDetails": {}})).await;
    }
    // Beyond what is read at all: nobody's.
    let name = AttestationName { version: 13, commit: Digest::of(&world.get(&world.log(13)).await), key: stranger().public().id() };
    world.put(&name.path(&world.root), vec![b'{'; 30_000_000]).await;
    let store = Arc::new(Counting::around(world.store.clone()));
    let options = AuditOptions { writers: Writers::listed(vec![writer().public()]), quick: true, ..AuditOptions::default() };
    let auditor = Auditor::new(store.clone(), world.root.clone(), LOCATION, world.trust(), world.clock.clone(), options);
    let report = auditor.audit(&()).await.unwrap();
    assert_eq!(report.outcome(), Outcome::IntactWithUnsealed, "{report:#?}");
    let by = format!("attested by writer {}", &writer().public().id().to_string()[..16]);
    (4..14).for_each(|version| assert_found(&report, Verdict::Unsealed, &[&format!("commit {version}"), &by]));
    // An envelope is half as long again as what it says.
    let most = store.most.load(Ordering::SeqCst);
    assert!((LONG_BYTES..LONG_BYTES * 2).contains(&most), "{most} bytes were held at a time");
}
