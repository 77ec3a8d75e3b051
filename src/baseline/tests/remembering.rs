//! One sealer that seals again and again.

use object_store::ObjectStoreExt as _;

use super::table::remove;
use super::*;
use crate::error::ErrorKind;
use crate::lake::testing::{FaultStore, FaultyRegion};

fn sealer(world: &World, requests: &FaultyRegion) -> Sealer {
    let store = Arc::new(FaultStore::new(world.store.clone(), requests.clone()));
    Sealer::new(store, world.root.clone(), LOCATION, world.key.clone(), world.clock.clone(), SealOptions::default()).unwrap()
}

async fn seal(world: &World, sealer: &Sealer) -> Result<SealOutcome> {
    world.clock.advance(1000);
    sealer.seal(&()).await
}

#[tokio::test]
async fn a_seal_costs_the_commit_and_not_the_log() {
    let world = World::new();
    world.create(1).await;
    let requests = FaultyRegion::default();
    let sealer = sealer(&world, &requests);
    seal(&world, &sealer).await.unwrap();
    let mut gets = Vec::new();
    for version in 2..=40 {
        match version {
            10 => world.commit(10, "DELETE", &[remove("f2.parquet")]).await,
            _ => world.append(version).await,
        }
        requests.reset_counts();
        let sealed = seal(&world, &sealer).await.unwrap();
        gets.push(requests.counts().gets);
        assert_eq!(sealed.baseline.version, Some(version));
        // What is remembered is what the evidence says to whoever reads it.
        let read = world.repository().newest_baseline(&world.trust()).await.unwrap().unwrap();
        let known =
            sealer.sealed_before(&TrustedBaseline { statement: read.statement.clone(), summary: read.baseline.clone() }).await.unwrap();
        assert_eq!(known.files, read.files);
        assert_eq!((known.commits, known.removed, known.changes), (read.commits, read.removed, read.changes));
    }
    // Evidence is written whole with baselines 16 and 32, which are those of versions 16 and 32: after both, as many pieces are looked for.
    let (early, late) = (&gets[15..23], &gets[31..39]);
    assert_eq!(early, late, "{gets:?}");
    assert_intact(&world.audit().await);
}

#[tokio::test]
async fn what_changes_meanwhile_is_seen() {
    for what in ["commit", "file", "evidence"] {
        let world = World::new();
        world.create(2).await;
        let sealer = sealer(&world, &FaultyRegion::default());
        let sealed = seal(&world, &sealer).await.unwrap();
        world.append(3).await;
        seal(&world, &sealer).await.unwrap();
        world.append(4).await;
        match what {
            "commit" => world.edit(&world.log(1), "\\\"numRecords\\\":200", "\\\"numRecords\\\":201").await,
            "file" => world.store.delete(&world.file("f1.parquet")).await.unwrap(),
            _ => {
                let statement =
                    world.repository().numbered_statement(&world.trust(), sealed.baseline.number).await.unwrap().unwrap().statement;
                world.store.delete(&world.repository().evidence_path(statement.evidence[0].digest)).await.unwrap();
            }
        }
        let error = seal(&world, &sealer).await.unwrap_err();
        let expected = if what == "evidence" { ErrorKind::NotFound } else { ErrorKind::Mismatch };
        assert_eq!(error.kind(), expected, "{what}: {error}");
    }
}

#[tokio::test]
async fn a_rival_of_an_old_baseline_is_a_fork_also_when_it_is_signed_later() {
    for seen_unsigned in [false, true] {
        let world = World::new();
        world.create(1).await;
        let sealer = sealer(&world, &FaultyRegion::default());
        let first = seal(&world, &sealer).await.unwrap();
        let repository = world.repository();
        let statement = repository.numbered_statement(&world.trust(), first.baseline.number).await.unwrap().unwrap().statement;
        let rival = Statement { created_ms: 1, ..statement };
        if seen_unsigned {
            repository.keep_statement(&rival).await.unwrap();
        }
        world.append(2).await;
        seal(&world, &sealer).await.unwrap();
        let name = repository.keep_statement(&rival).await.unwrap();
        repository.sign(&name, &rival, &world.key).await.unwrap();
        world.append(3).await;
        let error = seal(&world, &sealer).await.unwrap_err();
        assert!(error.to_string().contains("forks"), "{error}");
    }
}
