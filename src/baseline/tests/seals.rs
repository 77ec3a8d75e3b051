use futures::TryStreamExt as _;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::super::audit;
use super::table::{add, honest, parquet, remove};
use super::*;
use crate::error::ErrorKind;
use crate::lake::testing::{FaultStore, FaultyRegion};

async fn delete_under(world: &World, folder: &str) -> usize {
    let prefix = Path::from(format!("t/_seal/{folder}"));
    let names: Vec<_> = world.store.list(Some(&prefix)).map_ok(|meta| meta.location).try_collect().await.unwrap();
    for name in &names {
        world.store.delete(name).await.unwrap();
    }
    names.len()
}

#[tokio::test]
async fn a_sealed_table_is_intact_and_the_first_seal_says_so() {
    let world = World::new();
    world.create(3).await;
    assert_eq!(world.audit().await.outcome(), Outcome::Undetermined, "never sealed");
    let outcome = world.seal().await.unwrap();
    assert!(outcome.first);
    assert_eq!((outcome.files_added, outcome.baseline.number, outcome.baseline.version, outcome.baseline.rows), (3, 1, Some(3), 600));
    let report = world.audit().await;
    assert_intact(&report);
    assert_eq!(report.summary[&Verdict::Intact], 3);
    assert_eq!(world.quick().await.summary[&Verdict::Intact], 3);
}

#[tokio::test]
async fn an_append_is_unsealed_and_sealing_it_reads_only_its_file() {
    let world = World::sealed().await;
    world.append(4).await;
    let report = world.audit().await;
    assert_eq!(report.outcome(), Outcome::IntactWithUnsealed, "{report:#?}");
    assert_eq!(report.findings.len(), 1);
    assert_found(&report, Verdict::Unsealed, &["commit 4", "WRITE"]);
    let outcome = world.seal().await.unwrap();
    assert_eq!((outcome.files_added, outcome.files_reused, outcome.first), (1, 3, false));
    let size = world.store.head(&world.file("f4.parquet")).await.unwrap().size;
    assert!(outcome.bytes_read <= 2 * size, "{} of {size}", outcome.bytes_read);
    assert_intact(&world.audit().await);
    let again = world.seal().await.unwrap();
    assert!(again.unchanged);
    assert_eq!(again.baseline.digest, outcome.baseline.digest);
    let forced = world.seal_with(SealOptions { force: true, ..SealOptions::default() }).await.unwrap();
    assert_eq!(forced.baseline.number, 3);
    assert_intact(&world.audit().await);
}

#[tokio::test]
async fn a_long_chain_reads_back_across_the_full_evidence() {
    let world = World::new();
    world.create(1).await;
    world.seal().await.unwrap();
    for version in 2..=20 {
        world.append(version).await;
        if version == 10 {
            world.commit(10, "DELETE", &[remove("f2.parquet")]).await;
            world.store.delete(&world.file("f10.parquet")).await.unwrap();
        }
        assert_eq!(world.seal().await.unwrap().baseline.number, version);
    }
    let report = world.audit().await;
    assert_intact(&report);
    assert_eq!(report.summary[&Verdict::Intact], 18);
    let newest = world.repository().newest_statement(&world.trust()).await.unwrap().unwrap();
    assert!(newest.statement.evidence.iter().all(|e| e.number >= 16), "full evidence begins anew");
    assert!(world.repository().baselines(&world.trust()).await.unwrap().len() == 20);
}

#[tokio::test]
async fn lies_in_the_statistics_are_refused() {
    for (from, to) in [
        ("\\\"numRecords\\\":200", "\\\"numRecords\\\":100"),
        ("\\\"maxValues\\\":{\\\"id\\\":3199", "\\\"maxValues\\\":{\\\"id\\\":3100"),
        ("\\\"nullCount\\\":{\\\"id\\\":0", "\\\"nullCount\\\":{\\\"id\\\":9"),
    ] {
        let world = World::new();
        world.create(3).await;
        world.edit(&world.log(3), from, to).await;
        let error = world.seal().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
        assert!(error.to_string().contains("f3.parquet"), "{error}");
        assert!(world.repository().names().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn stripped_and_squatted_seals_are_never_intact() {
    let world = World::sealed().await;
    let stranger = PrivateKey::from_seed(&[9; 32]);
    let report = world.audit_with(Trust::new([stranger.public()], TrustLevel::Given).unwrap(), AuditOptions::default()).await;
    assert_eq!(report.outcome(), Outcome::Mismatch);
    assert!(report.baseline.is_none());
    assert_found(&report, Verdict::Untrusted, &["none has a valid signature"]);

    // Junk with a higher number is passed over.
    let repository = world.repository();
    let junk = BaselineName { number: 99, digest: crate::digest::Digest::of(b"junk") };
    world.put(&repository.baseline_path(&junk), "junk").await;
    let report = world.audit().await;
    assert_intact(&report);
    assert_eq!(report.notes.len(), 1);
    world.append(4).await;
    assert_eq!(world.seal().await.unwrap().baseline.number, 2);

    assert_eq!(delete_under(&world, "signatures").await, 2);
    assert_found(&world.audit().await, Verdict::Untrusted, &[]);
    assert_eq!(world.seal().await.unwrap_err().kind(), ErrorKind::Unauthentic);
    let outcome = world.seal_with(SealOptions { accept_changes: true, ..SealOptions::default() }).await.unwrap();
    assert!(outcome.first);
    // Nobody trusted signed what is there, and the log remembers that somebody did.
    assert_eq!(outcome.findings.iter().map(|f| f.verdict).collect::<Vec<_>>(), [Verdict::RolledBack, Verdict::Untrusted]);
}

#[tokio::test]
async fn a_broken_chain_or_evidence_is_never_intact() {
    let world = World::sealed().await;
    let first = world.repository().newest_statement(&world.trust()).await.unwrap().unwrap();
    world.append(4).await;
    world.seal().await.unwrap();
    let name = BaselineName { number: 1, digest: first.summary.digest };
    let path = world.repository().baseline_path(&name);
    let statement = world.get(&path).await;
    world.store.delete(&path).await.unwrap();
    assert_found(&world.audit().await, Verdict::Forged, &["baseline 1", "gone"]);
    world.append(5).await;
    assert_eq!(world.seal().await.unwrap_err().kind(), ErrorKind::Mismatch);
    world.put(&path, statement).await;

    for reference in &first.statement.evidence {
        let path = world.repository().evidence_path(reference.digest);
        let honest = world.get(&path).await;
        let mut damaged = honest.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        world.put(&path, damaged).await;
        let report = world.audit().await;
        assert_eq!(report.outcome(), Outcome::Undetermined, "{report:#?}");
        assert!(world.seal().await.is_err());
        world.store.delete(&path).await.unwrap();
        assert_eq!(world.audit().await.outcome(), Outcome::Undetermined);
        world.put(&path, honest).await;
    }
    assert_eq!(world.audit().await.outcome(), Outcome::IntactWithUnsealed);
}

#[tokio::test]
async fn a_baseline_serves_neither_another_table_nor_place_nor_time() {
    let world = World::sealed().await;
    let elsewhere = Auditor::new(
        world.store.clone(),
        world.root.clone(),
        "memory:///copy",
        world.trust(),
        world.clock.clone(),
        AuditOptions::default(),
    );
    assert_found(&elsewhere.audit(&()).await.unwrap(), Verdict::Untrusted, &["memory:///copy"]);
    world.clock.advance(EXPIRES_AFTER_MS);
    assert_found(&world.audit().await, Verdict::Expired, &[]);
    assert_eq!(world.seal().await.unwrap().baseline.number, 2);
    assert_intact(&world.audit().await);
    let aliased = SealOptions { aliases: vec!["memory:///copy".into()], ..SealOptions::default() };
    world.seal_with(aliased).await.unwrap();
    assert_intact(&elsewhere.audit(&()).await.unwrap());

    let other = World::sealed().await;
    for version in 0..=3 {
        other.edit(&other.log(version), "the-table", "another").await;
        if version == 0 {
            break;
        }
    }
    assert_found(&other.audit().await, Verdict::Untrusted, &["another"]);
}

#[tokio::test]
async fn a_pin_shows_a_rolled_back_seal() {
    let world = World::sealed().await;
    world.append(4).await;
    let newest = world.seal().await.unwrap().baseline;
    let options = AuditOptions { pin: Some((newest.number, newest.digest)), ..AuditOptions::default() };
    assert_intact(&world.audit_with(world.trust(), options.clone()).await);
    let name = BaselineName { number: newest.number, digest: newest.digest };
    world.repository().withdraw(&name, world.key.public().id()).await.unwrap();
    assert_found(&world.audit_with(world.trust(), options).await, Verdict::RolledBack, &["pinned"]);
}

#[tokio::test]
async fn two_sealers_at_once_leave_one_history() {
    let world = World::sealed().await;
    world.append(4).await;
    let (a, b) = tokio::join!(world.seal(), world.seal());
    let (a, b) = (a.unwrap(), b.unwrap());
    assert!(a.baseline.digest == b.baseline.digest || a.baseline.number != b.baseline.number);
    assert_intact(&world.audit().await);
}

#[tokio::test]
async fn foreign_files_are_not_sealed() {
    let world = World::new();
    world.create(1).await;
    world.commit(2, "WRITE", &[add("file:///etc/x.parquet", 0, 10)]).await;
    let error = world.seal().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("file:///etc/x.parquet"), "{error}");
}

#[tokio::test]
async fn a_folder_of_parquet_is_sealed_alike() {
    let world = World::new();
    world.put(&Path::from("t/label=0/a.parquet"), parquet(0, honest)).await;
    world.put(&Path::from("t/label=1/b.parquet"), parquet(500, honest)).await;
    world.seal().await.unwrap();
    let report = world.audit().await;
    assert_intact(&report);
    assert_eq!(report.version, None);
    world.put(&Path::from("t/label=1/c.parquet"), parquet(900, honest)).await;
    let report = world.audit().await;
    assert_eq!(report.outcome(), Outcome::IntactWithUnsealed);
    assert_found(&report, Verdict::Unsealed, &["label=1/c.parquet"]);
    // Moved to another label: its rows say something else now.
    let bytes = world.get(&Path::from("t/label=0/a.parquet")).await;
    world.store.delete(&Path::from("t/label=0/a.parquet")).await.unwrap();
    world.put(&Path::from("t/label=1/a.parquet"), bytes).await;
    let report = world.audit().await;
    assert_found(&report, Verdict::Missing, &["label=0/a.parquet"]);
    assert_found(&report, Verdict::Foreign, &["label=1/a.parquet", "moved or copied"]);
    assert_eq!(world.seal().await.unwrap_err().kind(), ErrorKind::Mismatch);
}

/// In a bucket of S3 whose versioning is suspended every object has the version `null`, before and after it was overwritten.
#[tokio::test]
async fn a_version_that_every_object_has_says_nothing_of_the_bytes() {
    for (version, seen) in [("null", true), ("", true), ("one that stays what it is, which no honest store says", false)] {
        let world = World::new();
        world.create(2).await;
        let named = FaultyRegion::default();
        named.name_versions(version);
        let store: Arc<dyn ObjectStore> = Arc::new(FaultStore::new(world.store.clone(), named));
        let (root, key, clock) = (world.root.clone(), world.key.clone(), world.clock.clone());
        let sealer = Sealer::new(store.clone(), root.clone(), LOCATION, key, clock.clone(), SealOptions::default()).unwrap();
        sealer.seal(&()).await.unwrap();
        let sealed = world.repository().newest_baseline(&world.trust()).await.unwrap().unwrap();
        let recorded = sealed.file_at("f1.parquet").unwrap().version.clone();
        assert_eq!(recorded, Some(version.to_owned()).filter(|_| !seen));
        // Evidence that names it all the same, as it was once written.
        let file = SealedFile { version: Some(version.to_owned()), ..SealedFile::clone(sealed.file_at("f1.parquet").unwrap()) };
        let repository = Repository::new(store.clone(), root.clone());
        let schema = crate::table::TableSchema::default();
        let observer = audit::observer(&repository, &schema, sealed.row_key, true);
        assert_eq!(observer.is_sealed_version(&file).await, !seen);

        let mut bytes = world.get(&world.file("f1.parquet")).await;
        bytes[20] ^= 1;
        world.put(&world.file("f1.parquet"), bytes).await;
        let options = AuditOptions { incremental: true, ..AuditOptions::default() };
        let auditor = Auditor::new(store, root, LOCATION, world.trust(), clock, options);
        let outcome = auditor.audit(&()).await.unwrap().outcome();
        assert_eq!(outcome, if seen { Outcome::Mismatch } else { Outcome::Intact }, "{version:?}");
    }
}
