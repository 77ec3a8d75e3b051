//! Changes that were broken off and that the same command cannot go on with: another one does.

use super::*;
use crate::id::ProposerId;

fn open_ballot() -> EntryBody {
    EntryBody::Promise(Ballot { round: 1, proposer: ProposerId([7; 8]) })
}

#[tokio::test(start_paused = true)]
async fn a_new_location_that_is_lost_before_it_was_told_everything_is_replaced_by_another() {
    for file_is_new in [false, true] {
        let mut fixture = Fixture::new(2, 1, 3, |_| fresh()).await;
        fixture.fill().await;
        let open = Path::from("t/open");
        fixture.leave(&open, 0, &open_ballot()).await;
        let lost = fixture.plan(1, fresh());
        fixture.stop_at_wait(&lost).await;
        if file_is_new {
            fixture.config = LakeConfig::load(&fixture.file()).unwrap();
            assert_eq!(fixture.config.regions[1].url, lost.with.url);
        }
        let outcome = fixture.replace(&fixture.plan(1, fresh())).await.unwrap();
        assert_eq!(outcome.number, 3);
        assert!(outcome.sweep.shards > 0 && outcome.sweep.lost == 0, "{outcome:?}");
        fixture.config = outcome.config;
        for down in 0..3 {
            fixture.check(&fixture.without(&[down])).await;
            let store = store_of(&fixture.lake(&fixture.without(&[down])).await).await;
            let gone = store.get(&open).await.unwrap_err();
            assert!(matches!(gone, object_store::Error::NotFound { .. }), "{gone}");
        }
        // The one that was to have the place has none.
        let error = fixture.replace(&lost).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_region_that_is_lost_while_it_is_added_is_replaced() {
    let mut fixture = Fixture::new(2, 1, 3, |_| fresh()).await;
    fixture.fill().await;
    let open = Path::from("t/open");
    fixture.leave(&open, 0, &open_ballot()).await;
    let (config, keys, plan) = (fixture.config.clone(), fixture.keys.clone(), fixture.add_plan("new", fresh()));
    let stopped = async move { add(&config, &plan, &keys, Arc::new(SystemClock), &StopAtWait).await.map(|_| ()) };
    assert!(tokio::spawn(stopped).await.is_err(), "it was stopped");
    fixture.config = LakeConfig::load(&fixture.file()).unwrap();
    // What was written meanwhile has its votes, and a shard, in the region that is lost.
    let store = store_of(&fixture.lake(&fixture.config).await).await;
    for i in 0..6 {
        let (path, value) = (Path::from(format!("between/{i}")), bytes(i, 9_000));
        store.put(&path, value.clone().into()).await.unwrap();
        fixture.objects.insert(path, value);
    }
    store.quiesce().await;
    let outcome = fixture.replace(&fixture.plan(3, fresh())).await.unwrap();
    assert_eq!((outcome.number, outcome.sweep.lost), (3, 0));
    fixture.config = outcome.config;
    let lake = fixture.lake(&fixture.config).await;
    assert!(lake.down.is_empty() && lake.record.regions.iter().all(|place| place.state == RegionState::Voting), "{:?}", lake.down);
    for down in 0..4 {
        fixture.check(&fixture.without(&[down])).await;
        let store = store_of(&fixture.lake(&fixture.without(&[down])).await).await;
        let gone = store.get(&open).await.unwrap_err();
        assert!(matches!(gone, object_store::Error::NotFound { .. }), "{gone}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_decided_and_published_by_nobody_is_published_by_the_next_change() {
    let mut fixture = Fixture::new(2, 1, 3, |_| fresh()).await;
    fixture.fill().await;
    let fault = FaultyRegion::default();
    let lost = fixture.plan(1, faulty(&fault));
    // It is decided, the new region is to be given it first, and does not take it: there it stops, and the location is gone.
    fault.hold(|key| key.as_ref().starts_with("c/"));
    let begun = tokio::time::timeout(Duration::from_secs(1), fixture.replace(&lost)).await;
    assert!(begun.is_err() && fault.held() == 1, "{begun:?}");
    fault.set_down(true);
    assert_eq!(fixture.lake(&fixture.config).await.record.number, 0, "nobody holds it");
    let other = fixture.plan(2, fresh());
    let error = fixture.replace(&other).await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("r1"), "{error}");
    // Now everybody knows of it, and it can be ended.
    assert_eq!(fixture.lake(&fixture.config).await.record.number, 1);
    fixture.config = fixture.replace(&fixture.plan(1, fresh())).await.unwrap().config;
    let outcome = fixture.replace(&ReplacePlan { with: other.with, ..fixture.plan(2, fresh()) }).await.unwrap();
    assert_eq!(outcome.number, 5);
    fixture.config = outcome.config;
    for down in 0..3 {
        fixture.check(&fixture.without(&[down])).await;
    }
}

#[tokio::test(start_paused = true)]
async fn reading_what_cannot_be_resolved_now_does_not_fill_the_logs() {
    let mut fixture = Fixture::new(2, 1, 3, |_| fresh()).await;
    let before =
        Fixture { dir: tempfile::tempdir().unwrap(), config: fixture.config.clone(), keys: fixture.keys.clone(), objects: BTreeMap::new() };
    fixture.config = fixture.replace(&fixture.plan(2, fresh())).await.unwrap().config;
    // A request of before arrives when all is done: the new region has no say, and one of the two others is down.
    let path = Path::from("t/late");
    before.leave(&path, 0, &open_ballot()).await;
    let config = fixture.without(&[1]);
    let lake = fixture.lake(&config).await;
    let store = store_of(&lake).await;
    for _ in 0..5 {
        let error = store.get(&path).await.unwrap_err();
        assert!(!matches!(error, object_store::Error::NotFound { .. }), "{error}");
        store.quiesce().await;
    }
    let entries = async |index: u8| {
        let keys: Vec<_> =
            lake.region_set.region(index).unwrap().list(&layout::register_folder(&path).unwrap(), None).try_collect().await.unwrap();
        keys.len()
    };
    assert_eq!((entries(0).await, entries(2).await), (1, 0));
    // With both, it is what it is.
    let store = store_of(&fixture.lake(&fixture.config).await).await;
    let gone = store.get(&path).await.unwrap_err();
    assert!(matches!(gone, object_store::Error::NotFound { .. }), "{gone}");
}
