//! A region that is to be given shards is lost while another leaves.

use super::*;
use crate::store::ScrubOptions;

impl Fixture {
    /// Six regions, the last of which is to be given what `r0` holds of every sixth object. And the faults of all.
    async fn of_six() -> (Self, Vec<FaultyRegion>) {
        let (mut fixture, faults) = Self::with_faults(ProfileConfig::new(3, 2), 6).await;
        let store = store_of(&fixture.lake(&fixture.config).await).await;
        for i in 0..64 {
            let (path, value) = (Path::from(format!("many/{i}")), bytes(i, 9_000));
            store.put(&path, value.clone().into()).await.unwrap();
            fixture.objects.insert(path, value);
        }
        store.quiesce().await;
        (fixture, faults)
    }

    async fn scrub(&self, repair: bool) {
        let store = store_of(&self.lake(&self.config).await).await;
        store.scrub(&ScrubOptions { verify: true, repair, settle: Duration::ZERO, ..ScrubOptions::default() }, &()).await.unwrap();
        store.quiesce().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_retirement_ends_without_a_region_that_is_gone_and_what_it_lacks_is_made_when_it_is_replaced() {
    for lost_before in [true, false] {
        let (mut fixture, faults) = Fixture::of_six().await;
        let plan = fixture.retire_plan(0);
        let gone = RetirePlan { gone: vec!["r5".parse().unwrap()], ..plan.clone() };
        if !lost_before {
            let (config, keys, plan) = (fixture.config.clone(), fixture.keys.clone(), plan.clone());
            let stopped = async move { retire(&config, &plan, &keys, Arc::new(SystemClock), &StopAtWait).await.map(|_| ()) };
            assert!(tokio::spawn(stopped).await.is_err(), "it was stopped");
        }
        faults[5].set_down(true);
        let error = fixture.retire(&plan).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(error.to_string().contains("bring r5 back"), lost_before, "{error}");
        assert_eq!(fixture.lake(&fixture.config).await.record.number, u64::from(!lost_before));
        let outcome = fixture.retire(&gone).await.unwrap();
        assert_eq!((outcome.number, outcome.sweep.lost), (2, 0));
        fixture.config = outcome.config;
        // The one that left is not needed, nor is the one that is gone.
        faults[0].set_down(true);
        fixture.check(&fixture.config).await;
        let outcome = fixture.replace(&fixture.plan(4, fresh())).await.unwrap();
        assert!(outcome.sweep.shards > 0 && outcome.sweep.lost == 0, "{outcome:?}");
        fixture.config = outcome.config;
        fixture.is_whole().await;
        for down in 0..5 {
            fixture.check(&fixture.without(&[down, (down + 1) % 5])).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_only_the_leaving_region_can_give_is_not_left_out() {
    let (mut fixture, faults) = Fixture::of_six().await;
    let lake = fixture.lake(&fixture.config).await;
    // Of the five shards of what the last region has none of, two lack: with that of the region that leaves three are left, as many as it takes.
    let shards = async |index: u8| -> Vec<Path> {
        let region = lake.region_set.region(index).unwrap();
        region.list(&layout::shards_prefix(), None).map_ok(|meta| meta.location).try_collect().await.unwrap()
    };
    let write = |key: &Path| layout::parse_shard_key(key).unwrap().write_id;
    let others: Vec<_> = shards(5).await.iter().map(write).collect();
    for index in [1, 2] {
        for key in shards(index).await.iter().filter(|key| !others.contains(&write(key))) {
            lake.region_set.region(index).unwrap().delete(key).await.unwrap();
        }
    }
    faults[5].set_down(true);
    let gone = RetirePlan { gone: vec!["r5".parse().unwrap()], ..fixture.retire_plan(0) };
    let error = fixture.retire(&gone).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("scrub --repair"), "{error}");
    assert_eq!(fixture.lake(&fixture.config).await.record.leaving(), Some(0));
    fixture.scrub(true).await;
    let outcome = fixture.retire(&gone).await.unwrap();
    assert_eq!((outcome.number, outcome.sweep.lost), (2, 0));
    fixture.config = outcome.config;
    faults[0].set_down(true);
    fixture.check_objects().await;
}

#[tokio::test(start_paused = true)]
async fn only_other_regions_of_the_lake_can_be_gone() {
    let (fixture, _faults) = Fixture::of_six().await;
    for name in ["r0", "r9"] {
        let plan = RetirePlan { gone: vec![name.parse().unwrap()], ..fixture.retire_plan(0) };
        let error = fixture.retire(&plan).await.unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("gone"), "{error}");
    }
    assert_eq!(fixture.lake(&fixture.config).await.record.number, 0);
    // One that answers is given what it is to have all the same.
    let mut fixture = fixture;
    let plan = RetirePlan { gone: vec!["r5".parse().unwrap()], ..fixture.retire_plan(0) };
    fixture.config = fixture.retire(&plan).await.unwrap().config;
    fixture.is_whole().await;
}
