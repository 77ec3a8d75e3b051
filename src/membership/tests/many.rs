//! A name with more versions than a name may have.

use super::*;
use crate::format::manifest::ObjectManifest;
use crate::register::{Proposed, SLOT_LIMIT};
use crate::store::{CollectOptions, ScrubOptions};

const NAME: &str = "m/many";

impl Fixture {
    /// A lake with a name that was written as often as it may be, and another one.
    async fn full() -> (Self, u64) {
        let profile = ProfileConfig { retention_seconds: 0, ..ProfileConfig::new(2, 1) };
        let fixture = Self::with_profile(profile, 3, |_| fresh()).await;
        let store = store_of(&fixture.lake(&fixture.config).await).await;
        let (path, mut written) = (Path::from(NAME), 0);
        let refused = loop {
            match store.put(&path, bytes(usize::try_from(written).unwrap(), 20).into()).await {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
        };
        assert!(written < SLOT_LIMIT as u64 && written > SLOT_LIMIT as u64 / 2, "{written}");
        assert!(refused.to_string().contains("write to another name"), "{refused}");
        // Not for others than those who know it already, nor for what is sharded, streamed or copied there.
        let store = store_of(&fixture.lake(&fixture.config).await).await;
        store.put(&Path::from("m/other"), bytes(1, 20).into()).await.unwrap();
        store.put(&Path::from("m/other"), bytes(2, 20).into()).await.unwrap();
        let mut upload = store.put_multipart(&path).await.unwrap();
        upload.put_part(bytes(3, 40_000).into()).await.unwrap();
        let errors = [
            store.put(&path, bytes(1, 20).into()).await.map(|_| ()).unwrap_err(),
            store.put(&path, bytes(1, 40_000).into()).await.map(|_| ()).unwrap_err(),
            store.copy(&Path::from("m/other"), &path).await.unwrap_err(),
            upload.complete().await.map(|_| ()).unwrap_err(),
        ];
        for error in errors {
            assert!(Error::from(error).kind() == ErrorKind::Unsupported);
        }
        store.quiesce().await;
        assert!(store.get(&path).await.is_ok());
        (fixture, written)
    }

    /// As somebody writes who knows of no limit.
    async fn overfill(&self, from: u64, to: u64) {
        let lake = self.lake(&self.config).await;
        let registers = Registers::new(Arc::clone(&lake.region_set), lake.writer.clone());
        let path = Path::from(NAME);
        let newest = registers.newest(&path).await.unwrap().unwrap();
        let manifest = ObjectManifest::decode(&newest.value).unwrap();
        for slot in from..to {
            let value = ObjectManifest { slot, ..manifest.clone() }.encode().unwrap();
            assert_eq!(registers.propose(&path, slot, value.into()).await.unwrap(), Proposed::Won);
        }
        registers.quiesce().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_takes_so_many_versions_and_can_be_deleted_then() {
    let (fixture, written) = Fixture::full().await;
    let store = store_of(&fixture.lake(&fixture.config).await).await;
    store.delete(&Path::from(NAME)).await.unwrap();
    assert_eq!(store.versions(&Path::from(NAME)).await.unwrap().len() as u64, written + 1);
    let error = store.put_opts(&Path::from(NAME), bytes(1, 20).into(), PutMode::Create.into()).await.unwrap_err();
    assert_eq!(Error::from(error).kind(), ErrorKind::Unsupported);
}

#[tokio::test(start_paused = true)]
async fn a_name_with_too_many_versions_is_a_problem_of_its_own_and_is_handed_over_in_whole() {
    let (mut fixture, written) = Fixture::full().await;
    let total = 2 * SLOT_LIMIT as u64 + 7;
    fixture.overfill(written, total).await;
    let lake = fixture.lake(&fixture.config).await;
    let store = store_of(&lake).await;
    let collector =
        PrivateKey::from_file(&fixture.dir.path().join("lakes").join(fixture.config.id.to_string()).join("collector.pem")).unwrap();
    let collected = store.collect(&CollectOptions::default(), &collector, &|_| {}).await.unwrap();
    assert_eq!((collected.names, collected.collected, collected.problems_total), (2, 1, 1), "{collected:?}");
    assert!(collected.problems[0].path == NAME && collected.problems[0].what.contains("more versions than"), "{collected:?}");
    let scrubbed = store.scrub(&ScrubOptions { settle: Duration::ZERO, ..ScrubOptions::default() }, &()).await.unwrap();
    let told: Vec<_> = scrubbed.findings.iter().filter(|finding| finding.detail.contains("more versions than")).collect();
    assert!(told.len() == 1 && told[0].path == NAME && scrubbed.interrupted.is_none(), "{:?}", scrubbed.findings);
    let error = store.versions(&Path::from(NAME)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    // Whoever comes anew is told all of it.
    let outcome = fixture.replace(&fixture.plan(1, fresh())).await.unwrap();
    assert!(outcome.sweep.names >= 2 && outcome.sweep.told >= total, "{outcome:?}");
    fixture.config = outcome.config;
    let lake = fixture.lake(&fixture.config).await;
    let registers = Registers::new(Arc::clone(&lake.region_set), None);
    for slot in 0..total {
        let decided = registers.at(&Path::from(NAME), slot).await.unwrap().unwrap();
        assert!(registers.inspect(&Path::from(NAME), slot, &decided.digest, 1, 1).await.unwrap().learned, "{slot}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_region_that_lists_too_many_versions_of_a_name_is_out_for_that_name_alone() {
    let fixture = Fixture::new(2, 1, 3, |_| fresh()).await;
    let lake = fixture.lake(&fixture.config).await;
    let store = store_of(&lake).await;
    let paths = ["m/a", "m/b"].map(Path::from);
    for path in &paths {
        store.put(path, bytes(1, 20).into()).await.unwrap();
    }
    store.quiesce().await;
    for slot in 1..SLOT_LIMIT as u64 + 9 {
        lake.region_set.regions()[2].create(&layout::entry_key(&paths[0], slot, 0).unwrap(), "made up".into()).await.unwrap();
    }
    let registers = Registers::new(Arc::clone(&lake.region_set), None);
    let walked: Vec<_> = registers.walk(None, None).try_collect().await.unwrap();
    assert_eq!(walked.len(), 2);
    for (register, unreachable) in walked.iter().zip([vec![2], vec![]]) {
        assert_eq!((register.slots.len(), register.cut_at, &register.unreachable), (1, None, &unreachable));
        assert_eq!(register.slots[0].regions.len(), 3 - unreachable.len());
    }
}
