//! Collection and purges.

use super::*;
use crate::erasure::Departure;
use crate::format::manifest::ObjectManifest;
use crate::id::WriteId;
use crate::lake::testing::FaultStore;
use crate::region::{Quorums, RegionOptions};

impl Lab {
    /// The same lake, which the region at `index` is leaving.
    fn leaving(&self, index: u8) -> ErasureStore {
        let regions = self.regions.regions().iter().zip(&self.raw).map(|(region, raw)| {
            let store = FaultStore::new(Arc::clone(raw), FaultyRegion::default());
            Arc::new(Region::new(region.name().clone(), region.index(), Arc::new(store), RegionOptions::default()))
        });
        let (lake, writers) = (*self.regions.lake(), self.regions.writers().to_vec());
        let set = RegionSet::new(lake, regions.collect(), Quorums::leaving(5, 0).unwrap(), writers, 0).unwrap();
        let heirs = (0..5).filter(|heir| *heir != index).collect();
        let set = set
            .with_collectors(self.regions.collectors().to_vec())
            .with_retention(0)
            .with_leaving(Some(Departure { region: index, heirs }));
        ErasureStore::new(Arc::new(set), profile(), Some(Arc::clone(&self.key)), Arc::new(SystemClock)).unwrap()
    }

    /// A name of which the region at `index` holds a shard.
    async fn placed_in(&self, index: usize) -> Path {
        for i in 0..200 {
            let path = format!("t/{i}");
            let before = self.keys(index, "d").await.len();
            self.put(&path, content(1, 90_000)).await;
            if self.keys(index, "d").await.len() > before {
                return Path::from(path);
            }
            self.store.purge(&Path::from(path), &self.key).await.unwrap();
        }
        panic!("no object has a shard there");
    }
}

fn is_complete(report: &CollectReport) -> bool {
    report.kept + report.postponed + report.problems_total == 0
}

#[tokio::test(start_paused = true)]
async fn copies_that_heirs_were_given_go_with_the_version_when_a_region_leaves() {
    for is_purge in [true, false] {
        let lab = Lab::new(0);
        let path = lab.placed_in(1).await;
        let shards = lab.shards().await;
        let leaving = lab.leaving(1);
        let handed = leaving.take_over(&path, 0, &Losses::default()).await.unwrap();
        let HandedOver::Told { shards: copies, .. } = handed else { panic!("{handed:?}") };
        assert_eq!(lab.shards().await, shards + usize::try_from(copies).unwrap());
        if is_purge {
            let report = leaving.purge(&path, &lab.key).await.unwrap();
            assert!(is_complete(&report), "{report:?}");
        } else {
            leaving.put(&path, content(2, 10).into()).await.unwrap();
            leaving.quiesce().await;
            let options = CollectOptions { orphans: false, ..CollectOptions::default() };
            let report = leaving.collect(&options, &lab.key, &|_| {}).await.unwrap();
            assert_eq!((report.collected, report.problems_total), (1, 0), "{report:?}");
        }
        assert_eq!(lab.shards().await, 0, "purge {is_purge}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_is_kept_while_a_region_that_told_the_time_is_not_heard() {
    let lab = Lab::new(0);
    for name in ["a", "b"] {
        lab.put(name, content(1, 10)).await;
        lab.put(name, content(2, 10)).await;
    }
    let options = CollectOptions { orphans: false, ..CollectOptions::default() };
    let fail = |report: &CollectReport| lab.faults[4].set_down(report.names > 0);
    let report = lab.store.collect(&options, &lab.key, &fail).await.unwrap();
    assert_eq!((report.collected, report.kept, report.problems_total), (1, 1, 0), "{report:?}");
    // A region that is down all the time holds nobody up.
    let report = lab.store.collect(&options, &lab.key, &|_| {}).await.unwrap();
    assert_eq!((report.collected, report.kept), (1, 0), "{report:?}");
    // Nor does one that is slow.
    lab.faults[4].set_down(false);
    lab.put("c", content(1, 10)).await;
    lab.put("c", content(2, 10)).await;
    lab.faults[4].slow_ms(4_000);
    let report = lab.store.collect(&options, &lab.key, &|_| {}).await.unwrap();
    assert_eq!((report.collected, report.kept), (1, 0), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_purge_is_complete_when_its_deletion_was_republished() {
    let lab = Lab::new(0);
    let path = Path::from("t/a");
    lab.put("t/a", content(1, 90_000)).await;
    lab.store.delete(&path).await.unwrap();
    lab.store.quiesce().await;
    let registers = Registers::new(Arc::clone(&lab.regions), Some(Arc::clone(&lab.key)));
    let newest = registers.newest(&path).await.unwrap().unwrap();
    let again = ObjectManifest { slot: 2, predecessor: Some(newest.digest), ..ObjectManifest::decode(&newest.value).unwrap() };
    registers.propose(&path, 2, again.encode().unwrap().into()).await.unwrap();
    registers.quiesce().await;
    lab.store.forget();
    for _ in 0..2 {
        let report = lab.store.purge(&path, &lab.key).await.unwrap();
        assert!(is_complete(&report) && report.collected + report.collected_before == 1, "{report:?}");
        assert_eq!(lab.shards().await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_stopped_runs_left_is_found_by_as_many_requests_a_version_however_many_there_are() {
    let mut costs = Vec::new();
    for versions in [4, 8, 12] {
        let lab = Lab::new(0);
        for i in 0..versions {
            lab.put("t/a", content(i, 90_000)).await;
        }
        lab.faults.iter().for_each(|fault| fault.keep(|key| key.as_ref().starts_with("d/")));
        assert!(lab.collect().await.problems_total > 0);
        lab.faults.iter().for_each(|fault| {
            fault.keep_nothing();
            fault.reset_counts();
        });
        let report = lab.collect().await;
        assert_eq!((report.collected_before, report.problems_total), (versions as u64 - 1, 0), "{report:?}");
        costs.push(lab.faults.iter().map(|fault| fault.counts().gets).sum::<u64>());
        assert_eq!(lab.read("t/a").await, content(versions - 1, 90_000));
    }
    let (fewer, more) = (costs[1] - costs[0], costs[2] - costs[1]);
    assert!(4 * more < 5 * fewer, "{costs:?}");
}

#[tokio::test(start_paused = true)]
async fn a_write_of_which_a_region_lists_more_shards_than_any_has_is_reported_and_left_alone() {
    let lab = Lab::new(0);
    lab.put("t/a", content(1, 90_000)).await;
    let before = lab.shards().await;
    for segment in 0..60 {
        let key = layout::shard_key(&WriteId([3; 16]), 0, segment, 0);
        lab.raw[2].put(&key, "noise".into()).await.unwrap();
    }
    let report = lab.collect().await;
    assert_eq!((report.orphans_found, report.orphans_unexplained, report.shards_deleted), (1, 1, 0), "{report:?}");
    assert!(report.problems_total == 1 && report.problems[0].what.contains("more shards"), "{report:?}");
    assert_eq!(lab.shards().await, before + 60);
}
