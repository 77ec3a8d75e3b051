//! Scrub and repair.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::format::entry::Ballot;
use crate::id::ProposerId;

#[tokio::test(start_paused = true)]
async fn slots_that_a_region_makes_up_are_not_made_real_by_a_repair() {
    for liars in [0, 1] {
        let lab = Lab::new(liars);
        lab.put("t/small", content(1, 10)).await;
        lab.put("t/small", content(2, 10)).await;
        lab.put("t/large", content(3, 90_000)).await;
        for (name, slot) in ["t/small", "t/none"].iter().flat_map(|name| (5..155).map(move |slot| (*name, slot))) {
            let key = layout::entry_key(&Path::from(name), slot, 0).unwrap();
            lab.raw[4].put(&key, "noise".into()).await.unwrap();
        }
        let mut before = Vec::new();
        for region in 0..5 {
            before.push(lab.keys(region, "i").await);
        }
        for _ in 0..2 {
            let report = lab.repair(&()).await;
            assert_eq!((report.open_slots, report.unknown_versions, report.unrepaired_versions), (300, 0, 0), "{report:?}");
        }
        for (region, before) in before.into_iter().enumerate() {
            assert_eq!(lab.keys(region, "i").await, before, "region {region}, {liars} liars");
        }
        assert_eq!(lab.read("t/small").await, content(2, 10));
        let names: Vec<_> = lab.store.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
        assert_eq!(names, ["t/large", "t/small"]);
        lab.put("t/small", content(4, 10)).await;
        lab.put("t/none", content(5, 10)).await;
        let collected = lab.collect().await;
        assert_eq!((collected.collected, collected.postponed, collected.problems_total), (2, 0, 0), "{collected:?}");
        assert_eq!((lab.read("t/small").await, lab.read("t/none").await), (content(4, 10), content(5, 10)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_in_which_a_writer_stopped_is_closed_by_a_repair_beside_one_that_is_made_up() {
    let lab = Lab::new(0);
    lab.put("t/a", content(1, 10)).await;
    let path = Path::from("t/a");
    let promise = EntryBody::Promise(Ballot { round: 1, proposer: ProposerId([9; 8]) });
    let place = EntryPlace { lake: *lab.regions.lake(), configuration: 0, region: 3, path: "t/a", slot: 1, seq: 0 };
    let begun = layout::entry_key(&path, 1, 0).unwrap();
    lab.raw[3].put(&begun, promise.seal(&place, &lab.key).unwrap().into()).await.unwrap();
    let made_up = layout::entry_key(&path, 2, 0).unwrap();
    lab.raw[4].put(&made_up, "noise".into()).await.unwrap();
    lab.repair(&()).await;
    let mut holding = [0, 0];
    for region in 0..5 {
        let keys = lab.keys(region, "i").await;
        holding[0] += usize::from(keys.contains(&begun));
        holding[1] += usize::from(keys.contains(&made_up));
    }
    assert!(holding[0] >= 3 && holding[1] == 1, "{holding:?}");
    assert_eq!(lab.read("t/a").await, content(1, 10));
}

/// Something happens to a region when all was looked at, and nothing repaired yet.
struct Then<F: Fn() + Send + Sync>(F);

impl<F: Fn() + Send + Sync> ScrubProgress for Then<F> {
    fn planned(&self, _: &Path, _: u64, _: u64, _: u64) {
        (self.0)();
    }
}

impl Lab {
    /// A region that holds a shard, and has lost it.
    async fn with_lost_shard(&self) -> usize {
        self.put("t/a", content(1, 90_000)).await;
        for region in 0..5 {
            if let Some(key) = self.keys(region, "d").await.first() {
                self.raw[region].delete(key).await.unwrap();
                return region;
            }
        }
        panic!("no region holds a shard");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_damaged_in_a_region_that_fails_before_it_is_repaired_is_not_called_repaired() {
    let lab = Lab::new(0);
    let region = lab.with_lost_shard().await;
    let report = lab.repair(&Then(|| lab.faults[region].set_down(true))).await;
    assert_eq!((report.damaged_versions, report.repaired_versions, report.unrepaired_versions), (1, 0, 1), "{report:#?}");
    assert!(!report.is_clean() && report.regions[region].unreachable.is_some());
    assert!(report.findings.iter().any(|finding| matches!(&finding.outcome, Outcome::NotRepaired(why) if why.contains("not heard"))));
    lab.faults[region].set_down(false);
    let report = lab.repair(&()).await;
    assert!(report.is_clean() && report.repaired_versions == 1, "{report:#?}");
    assert!(lab.repair(&()).await.findings.is_empty());
}

#[tokio::test(start_paused = true)]
async fn another_region_that_fails_meanwhile_does_not_make_a_repair_unsure() {
    let lab = Lab::new(0);
    let region = lab.with_lost_shard().await;
    let other = (region + 1) % 5;
    let report = lab.repair(&Then(|| lab.faults[other].set_down(true))).await;
    assert_eq!((report.repaired_versions, report.unrepaired_versions), (1, 0), "{report:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_region_that_has_become_slow_is_waited_for_and_repaired() {
    let lab = Lab::new(0);
    let region = lab.with_lost_shard().await;
    let entry = layout::entry_key(&Path::from("t/a"), 0, 0).unwrap();
    lab.raw[region].delete(&entry).await.unwrap();
    let report = lab.repair(&Then(|| lab.faults[region].slow_ms(4_000))).await;
    assert!(report.is_clean() && report.repaired_versions == 1, "{report:#?}");
    lab.faults[region].slow_ms(0);
    assert!(lab.repair(&()).await.findings.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_region_is_told_what_is_decided_when_it_has_its_shards() {
    let lab = Lab::new(0);
    lab.put("t/a", content(1, 90_000)).await;
    let mut region = 0;
    while lab.keys(region, "d").await.is_empty() {
        region += 1;
    }
    for key in lab.keys(region, "d").await {
        lab.raw[region].put(&key, "rotten".into()).await.unwrap();
    }
    let entry = layout::entry_key(&Path::from("t/a"), 0, 0).unwrap();
    lab.raw[region].delete(&entry).await.unwrap();
    // It takes entries, and nothing over what is there.
    lab.faults[region].creates_only(true);
    let report = lab.repair(&()).await;
    assert_eq!((report.repaired_versions, report.unrepaired_versions), (0, 1), "{report:#?}");
    assert!(!lab.keys(region, "i").await.contains(&entry), "a sweep would pass over its shards");
    lab.faults[region].creates_only(false);
    let report = lab.repair(&()).await;
    assert!(report.is_clean() && report.repaired_versions == 1, "{report:#?}");
    assert!(lab.keys(region, "i").await.contains(&entry));
}

/// Writes another name when the first version was repaired.
struct Writes<'a> {
    lab: &'a Lab,
    is_done: AtomicBool,
}

impl ScrubProgress for Writes<'_> {
    fn repaired(&self, _: &Path, _: u64, _: u64) {
        if !self.is_done.swap(true, Ordering::SeqCst) {
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(self.lab.put("a", content(1, 10))));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_goes_on_where_its_first_walk_ended_whatever_was_written_meanwhile() {
    let lab = Lab::new(0);
    for name in ["b", "c", "d", "e"] {
        lab.put(name, content(1, 90_000)).await;
    }
    // Each name has a shard in one of two regions at least, and can do without two.
    for region in [0, 1] {
        for key in lab.keys(region, "d").await {
            lab.raw[region].delete(&key).await.unwrap();
        }
    }
    let options = ScrubOptions {
        repair: true,
        settle: Duration::ZERO,
        names_limit: Some(3),
        repairs_limit: 1,
        concurrency: 1,
        ..ScrubOptions::default()
    };
    lab.store.forget();
    let report = lab.store.scrub(&options, &Writes { lab: &lab, is_done: AtomicBool::new(false) }).await.unwrap();
    assert_eq!((report.rounds, report.names, report.damaged_versions, report.repaired_versions), (3, 3, 3, 3), "{report:#?}");
    assert_eq!(report.resume_after.as_deref(), Some("d"));
}

/// What a writer has just sent to some regions may be on its way to others.
#[tokio::test]
async fn what_lacks_of_a_young_version_is_damage_neither_in_the_findings_nor_in_the_margin() {
    let lab = Lab::new(0);
    lab.put("t/a", content(1, 10)).await;
    for key in lab.keys(4, "i").await {
        lab.raw[4].delete(&key).await.unwrap();
    }
    lab.store.forget();
    let young = lab.store.scrub(&ScrubOptions { verify: true, ..ScrubOptions::default() }, &()).await.unwrap();
    assert!(young.is_clean() && young.findings.is_empty(), "{young:?}");
    assert_eq!((young.young_pieces(), young.worst_margin()), (2, Some(2)), "an entry and a marker: {young:?}");
    let settled = ScrubOptions { verify: true, settle: Duration::ZERO, ..ScrubOptions::default() };
    let settled = lab.store.scrub(&settled, &()).await.unwrap();
    assert_eq!((settled.damaged_versions, settled.findings.len(), settled.young_pieces()), (1, 2, 0), "{settled:?}");
    assert_eq!(settled.worst_margin(), Some(1));
}
