//! Scrub and repair over real edits of stored bytes: each kind told apart, repaired, and proven by what lies in the regions afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, WriteMultipart};

use super::damage::sample;
use super::{memory, store_over};
use lakeseal::clock::SystemClock;
use lakeseal::format::entry::{Ballot, EntryBody, EntryPlace};
use lakeseal::id::{ProposerId, WriteId};
use lakeseal::lake::testing::{FaultyRegion, lake_over};
use lakeseal::region::layout;
use lakeseal::store::{Defect, ErasureStore, Fault, Outcome, Piece, Profile, ScrubOptions, ScrubProgress, ScrubReport};

type Stores = Vec<Arc<dyn ObjectStore>>;

fn profile() -> Profile {
    Profile { segment_bytes: 256 * 1024, inline_bytes: 1024, ..Profile::new(3, 2) }
}

/// Everything is looked at, however young.
fn options() -> ScrubOptions {
    ScrubOptions { verify: true, settle: Duration::ZERO, ..ScrubOptions::default() }
}

fn repairing() -> ScrubOptions {
    ScrubOptions { repair: true, ..options() }
}

async fn snapshot(store: &Arc<dyn ObjectStore>) -> BTreeMap<Path, Bytes> {
    let mut all = BTreeMap::new();
    for meta in store.list(None).try_collect::<Vec<_>>().await.unwrap() {
        let bytes = store.get(&meta.location).await.unwrap().bytes().await.unwrap();
        all.insert(meta.location, bytes);
    }
    all
}

async fn snapshots(stores: &Stores) -> Vec<BTreeMap<Path, Bytes>> {
    futures::future::join_all(stores.iter().map(snapshot)).await
}

/// What clients can read: all objects, by version where there are several.
fn objects() -> Vec<(Path, Vec<u8>)> {
    let object = |name: &str, len| (Path::from(name), sample(len));
    vec![
        object("t/large.parquet", 700_001),
        object("t/one-segment.parquet", 100_000),
        object("t/tiny-shards.parquet", 1_100),
        object("t/_delta_log/00.json", 300),
        object("t/empty", 0),
    ]
}

/// Objects of all kinds, an overwritten one, a deleted one and a streamed one.
async fn fill(store: &ErasureStore) {
    store.put(&Path::from("t/large.parquet"), sample(50_000).into()).await.unwrap();
    for (path, bytes) in objects() {
        store.put(&path, bytes.into()).await.unwrap();
    }
    store.put(&Path::from("t/deleted"), sample(9000).into()).await.unwrap();
    store.delete(&Path::from("t/deleted")).await.unwrap();
    let mut streamed = WriteMultipart::new(store.put_multipart(&Path::from("t/streamed")).await.unwrap());
    streamed.write(&sample(400_000));
    streamed.finish().await.unwrap();
    store.quiesce().await;
}

async fn assert_readable(store: &ErasureStore) {
    store.forget();
    for (path, bytes) in objects() {
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), bytes, "{path}");
    }
    assert_eq!(store.get(&Path::from("t/streamed")).await.unwrap().bytes().await.unwrap(), sample(400_000));
}

async fn scrub(store: &ErasureStore, options: &ScrubOptions) -> ScrubReport {
    store.scrub(options, &()).await.unwrap()
}

async fn shards(store: &Arc<dyn ObjectStore>) -> Vec<Path> {
    let mut keys: Vec<_> = store.list(Some(&Path::from("d"))).map_ok(|meta| meta.location).try_collect().await.unwrap();
    keys.sort();
    keys
}

/// Damages every shard of one region in one way, and says what a reader of it must find.
async fn harm(store: &Arc<dyn ObjectStore>, how: usize) -> Vec<Fault> {
    let keys = shards(store).await;
    for (i, key) in keys.iter().enumerate() {
        let mut bytes = store.get(key).await.unwrap().bytes().await.unwrap().to_vec();
        let middle = bytes.len() / 2;
        match how {
            0 => bytes[middle] ^= 1,
            1 => bytes.truncate(middle),
            2 => bytes.insert(0, 7),
            3 => {
                store.delete(key).await.unwrap();
                continue;
            }
            // Whole and authentic, and another write's or segment's.
            4 => bytes = store.get(&keys[(i + 1) % keys.len()]).await.unwrap().bytes().await.unwrap().to_vec(),
            // The trailer alone.
            _ => *bytes.last_mut().unwrap() ^= 1,
        }
        store.put(key, bytes.into()).await.unwrap();
    }
    match how {
        3 => vec![Fault::Absent],
        // The first was put in its place before it was copied over.
        4 => vec![Fault::Foreign],
        _ => vec![Fault::Corrupt],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_lake_has_no_findings_and_full_margins() {
    let stores = memory(5);
    let (store, _) = store_over(profile(), stores.clone());
    fill(&store).await;
    let before = snapshots(&stores).await;
    let report = scrub(&store, &repairing()).await;
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!((report.names, report.versions, report.tombstones, report.findings_total), (7, 9, 1, 0));
    assert_eq!(report.margins, BTreeMap::from([(2, 9)]));
    let expected: u64 = report.regions.iter().map(|r| r.tally.shards_expected).sum();
    assert_eq!(report.regions.iter().map(|r| r.tally.shards_verified).sum::<u64>(), expected);
    assert_eq!(expected, before.iter().flatten().filter(|(key, _)| key.as_ref().starts_with("d/")).count() as u64);
    assert_eq!(snapshots(&stores).await, before, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_damage_is_told_apart_and_repaired_to_the_same_bytes() {
    for how in 0..6 {
        for pair in [[0, 1], [1, 4], [3, 4]] {
            let stores = memory(5);
            let (store, _) = store_over(profile(), stores.clone());
            fill(&store).await;
            let before = snapshots(&stores).await;
            for region in pair {
                let faults = harm(&stores[region], how).await;
                let found = scrub(&store, &options()).await;
                let name = format!("r{region}");
                let here: Vec<&Defect> = found.findings.iter().filter(|finding| finding.region == name).collect();
                let shards = before[region].keys().filter(|key| key.as_ref().starts_with("d/")).count();
                assert_eq!(here.len(), shards, "how {how}");
                assert!(here.iter().all(|f| faults.contains(&f.fault) && f.outcome == Outcome::Found), "how {how}: {here:#?}");
                assert!(!found.is_clean());
            }
            assert_eq!(scrub(&store, &options()).await.worst_margin(), Some(0), "how {how}");
            let repaired = scrub(&store, &repairing()).await;
            assert!(repaired.is_clean(), "how {how} {pair:?}: {repaired:#?}");
            assert!(repaired.findings.iter().all(|finding| finding.outcome == Outcome::Repaired));
            assert_eq!(repaired.worst_margin(), Some(2));
            assert_eq!(snapshots(&stores).await, before, "how {how} {pair:?}");
            let again = scrub(&store, &repairing()).await;
            assert_eq!((again.findings_total, again.damaged_versions), (0, 0), "how {how}");
            assert_readable(&store).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn up_to_m_regions_wiped_of_their_shards_are_filled_again_by_lists_alone() {
    for wiped in [vec![2], vec![0, 4], vec![3, 1]] {
        let stores = memory(5);
        let (store, _) = store_over(profile(), stores.clone());
        fill(&store).await;
        let before = snapshots(&stores).await;
        for region in &wiped {
            harm(&stores[*region], 3).await;
        }
        let report = scrub(&store, &ScrubOptions { verify: false, ..repairing() }).await;
        assert!(report.is_clean(), "{report:#?}");
        assert_eq!(report.worst_margin(), Some(2));
        assert_eq!(snapshots(&stores).await, before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_is_said_to_be_lost_and_the_rest_is_repaired() {
    let stores = memory(5);
    let (store, _) = store_over(profile(), stores.clone());
    let (gone, kept) = (Path::from("gone"), Path::from("kept"));
    store.put(&gone, sample(60_000).into()).await.unwrap();
    let of_gone: Vec<Vec<Path>> = futures::future::join_all(stores.iter().map(shards)).await;
    store.put(&kept, sample(70_000).into()).await.unwrap();
    store.quiesce().await;
    for region in 0..3 {
        stores[region].delete(&of_gone[region][0]).await.unwrap();
    }
    harm(&stores[4], 0).await;
    let report = scrub(&store, &repairing()).await;
    assert_eq!((report.damaged_versions, report.lost_versions, report.repaired_versions, report.unrepaired_versions), (2, 1, 1, 0));
    assert!(!report.is_clean());
    let lost: Vec<_> = report.findings.iter().filter(|f| matches!(f.outcome, Outcome::Lost(_))).collect();
    assert!(!lost.is_empty() && lost.iter().all(|finding| finding.path == "gone"), "{lost:#?}");
    assert_eq!(report.margins_after.keys().copied().collect::<Vec<_>>(), [-2, 2]);
    assert_eq!(store.get(&kept).await.unwrap().bytes().await.unwrap(), sample(70_000));
    assert!(store.get(&gone).await.unwrap().bytes().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_register_folder_lost_in_one_region_is_taught_back_and_carries_reads_again() {
    let stores = memory(5);
    let (store, faults) = store_over(profile(), stores.clone());
    fill(&store).await;
    for meta in stores[2].list(Some(&Path::from("i"))).try_collect::<Vec<_>>().await.unwrap() {
        stores[2].delete(&meta.location).await.unwrap();
    }
    let found = scrub(&store, &options()).await;
    assert_eq!(found.findings_total, 18, "an entry and a marker for each version: {found:#?}");
    assert!(found.findings.iter().all(|f| f.region == "r2" && f.fault == Fault::Absent));
    assert_eq!(found.worst_margin(), Some(1));
    let repaired = scrub(&store, &repairing()).await;
    assert!(repaired.is_clean(), "{repaired:#?}");
    assert_eq!((repaired.regions[2].tally.entries_repaired, repaired.regions[2].tally.markers_repaired), (9, 9));
    assert_eq!(scrub(&store, &options()).await.findings_total, 0);
    // Two others are gone: the one that was taught is needed for a quorum.
    faults[0].set_down(true);
    faults[1].set_down(true);
    assert_readable(&store).await;
}

/// Of votes that were never repeated as learned, too few are left for a quorum to show what they decided; a marker still does.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_entries_no_longer_show_it_is_damaged_and_not_a_slot_in_which_nothing_is_decided() {
    for (n, profile, harmed) in [(3, Profile { inline_bytes: 1024, ..Profile::new(2, 1) }, vec![0]), (5, profile(), vec![0, 2])] {
        let stores = memory(n);
        let (store, _) = store_over(profile, stores.clone());
        fill(&store).await;
        for region in &harmed {
            for meta in stores[*region].list(None).try_collect::<Vec<_>>().await.unwrap() {
                if ["d/", "i/"].iter().any(|folder| meta.location.as_ref().starts_with(folder)) {
                    stores[*region].delete(&meta.location).await.unwrap();
                }
            }
        }
        let found = scrub(&store, &options()).await;
        assert_eq!((found.open_slots, found.worst_margin()), (0, Some(0)), "{n}: {found:#?}");
        assert!(!found.is_clean());
        let repaired = scrub(&store, &repairing()).await;
        assert!(repaired.is_clean() && repaired.repaired_versions > 0, "{n}: {repaired:#?}");
        let after = scrub(&store, &options()).await;
        assert_eq!((after.findings_total, after.open_slots), (0, 0), "{n}: {after:#?}");
        assert_readable(&store).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_cannot_be_read_is_reported_and_never_written_over() {
    let stores = memory(5);
    let (store, _) = store_over(profile(), stores.clone());
    fill(&store).await;
    let key = layout::entry_key(&Path::from("t/_delta_log/00.json"), 0, 0).unwrap();
    let mut bytes = stores[3].get(&key).await.unwrap().bytes().await.unwrap().to_vec();
    bytes[60] ^= 1;
    stores[3].put(&key, bytes.into()).await.unwrap();
    let before = snapshots(&stores).await;
    let report = scrub(&store, &repairing()).await;
    assert_eq!((report.damaged_versions, report.unrepaired_versions, report.findings_total), (1, 1, 1));
    assert_eq!((report.findings[0].fault, report.findings[0].piece), (Fault::Unreadable, Some(Piece::Entry)));
    assert!(matches!(report.findings[0].outcome, Outcome::NotRepaired(_)));
    assert_eq!(snapshots(&stores).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_is_down_is_neither_judged_nor_written_and_the_rest_is_repaired() {
    let stores = memory(5);
    let (store, faults) = store_over(profile(), stores.clone());
    fill(&store).await;
    let before = snapshots(&stores).await;
    harm(&stores[0], 0).await;
    harm(&stores[4], 3).await;
    faults[4].set_down(true);
    faults[4].reset_counts();
    let report = scrub(&store, &repairing()).await;
    assert!(report.is_clean(), "{report:#?}");
    assert!(report.findings.iter().all(|finding| finding.region == "r0"));
    let down = &report.regions[4];
    assert!(down.unreachable.is_some());
    assert_eq!((down.tally.shards_absent, down.tally.entries_absent), (0, 0));
    assert_eq!(down.tally.shards_unreachable, down.tally.shards_expected);
    assert_eq!((faults[4].counts().puts, faults[4].counts().creates), (0, 0));
    assert_eq!(report.worst_margin(), Some(1));
    faults[4].set_down(false);
    let report = scrub(&store, &repairing()).await;
    assert!(report.is_clean() && report.regions[4].tally.shards_repaired > 0, "{report:#?}");
    assert_eq!(snapshots(&stores).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_shards_because_a_region_is_down_is_not_lost() {
    let stores = memory(5);
    let (store, faults) = store_over(profile(), stores.clone());
    store.put(&Path::from("a"), sample(60_000).into()).await.unwrap();
    store.quiesce().await;
    let before = snapshots(&stores).await;
    harm(&stores[0], 0).await;
    harm(&stores[1], 1).await;
    faults[2].set_down(true);
    let report = scrub(&store, &repairing()).await;
    assert_eq!((report.lost_versions, report.unrepaired_versions), (0, 1), "{report:#?}");
    faults[2].set_down(false);
    assert!(scrub(&store, &repairing()).await.is_clean());
    assert_eq!(snapshots(&stores).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_that_is_dropped_anywhere_leaves_everything_readable_and_is_finished_by_the_next() {
    let stores = memory(5);
    let (store, _) = store_over(profile(), stores.clone());
    fill(&store).await;
    let before = snapshots(&stores).await;
    let mut dropped = 0;
    for polls in [1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233] {
        harm(&stores[1], polls % 4).await;
        harm(&stores[3], (polls + 1) % 4).await;
        {
            let options = repairing();
            let mut scrub = std::pin::pin!(store.scrub(&options, &()));
            let mut ended = false;
            for _ in 0..polls {
                if futures::poll!(&mut scrub).is_ready() {
                    ended = true;
                    break;
                }
                tokio::task::yield_now().await;
            }
            dropped += usize::from(!ended);
        }
        assert_readable(&store).await;
        let report = scrub(&store, &repairing()).await;
        assert!(report.is_clean(), "{polls}: {report:#?}");
        assert_eq!(snapshots(&stores).await, before, "{polls}");
    }
    assert!(dropped > 4, "{dropped}");
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_fail_are_not_counted_as_repaired() {
    for after in [false, true] {
        for failing in [1, 2, 3, 7] {
            let stores = memory(5);
            let (store, faults) = store_over(profile(), stores.clone());
            fill(&store).await;
            let before = snapshots(&stores).await;
            harm(&stores[1], 0).await;
            if after {
                faults[1].fail_after_apply(failing)
            } else {
                faults[1].fail_before_apply(failing)
            }
            let report = scrub(&store, &repairing()).await;
            assert!(!report.is_clean());
            let failed = report.findings.iter().filter(|f| matches!(f.outcome, Outcome::NotRepaired(_))).count() as u64;
            assert_eq!(failed, failing);
            assert!(scrub(&store, &repairing()).await.is_clean());
            assert_eq!(snapshots(&stores).await, before);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worst_margin_comes_first_and_what_does_not_fit_is_repaired_in_further_rounds() {
    let stores = memory(5);
    let (store, _) = store_over(profile(), stores.clone());
    for i in 0..6 {
        store.put(&Path::from(format!("t/{i}")), sample(5000 + i).into()).await.unwrap();
    }
    store.quiesce().await;
    let before = snapshots(&stores).await;
    harm(&stores[0], 3).await;
    // One of them lacks two.
    let key = shards(&stores[1]).await.remove(3);
    stores[1].delete(&key).await.unwrap();
    let report = scrub(&store, &ScrubOptions { repairs_limit: 2, concurrency: 1, ..repairing() }).await;
    assert!(report.is_clean() && report.rounds == 3, "{report:#?}");
    assert_eq!(report.findings[0].path, report.findings[1].path, "the version that lacks two shards is the first");
    assert_eq!((report.findings_total, report.repaired_versions), (7, 6));
    assert_eq!((report.margins.clone(), report.margins_after.clone()), (BTreeMap::from([(0, 1), (1, 5)]), BTreeMap::from([(2, 6)])));
    assert_eq!(snapshots(&stores).await, before);
}

/// Switches regions off at the first repair.
struct DownAtRepair(Vec<FaultyRegion>);

impl ScrubProgress for DownAtRepair {
    fn repaired(&self, _: &Path, _: u64, _: u64) {
        self.0.iter().for_each(|region| region.set_down(true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_walk_that_fails_takes_nothing_of_what_the_first_found() {
    let stores = memory(5);
    let (store, faults) = store_over(profile(), stores.clone());
    for i in 0..3 {
        store.put(&Path::from(format!("t/{i}")), sample(5000 + i).into()).await.unwrap();
    }
    store.quiesce().await;
    harm(&stores[0], 3).await;
    let options = ScrubOptions { repairs_limit: 1, concurrency: 1, ..repairing() };
    let report = store.scrub(&options, &DownAtRepair(faults[2..].to_vec())).await.unwrap();
    assert!(report.interrupted.is_some() && !report.is_clean(), "{report:#?}");
    assert_eq!((report.names, report.damaged_versions, report.repaired_versions, report.left_versions), (3, 3, 1, 2), "{report:#?}");
    assert_eq!(report.findings_total, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_goes_on_where_the_last_one_ended_and_keeps_to_its_folder() {
    let (store, _) = store_over(profile(), memory(5));
    for i in 0..25 {
        store.put(&Path::from(format!("t/{i:02}")), "x".into()).await.unwrap();
    }
    store.put(&Path::from("u/0"), "x".into()).await.unwrap();
    store.quiesce().await;
    let (mut names, mut parts, mut resume_after) = (0, 0, None);
    loop {
        let options =
            ScrubOptions { names_limit: Some(10), prefix: Some(Path::from("t")), resume_after: resume_after.clone(), ..options() };
        let report = scrub(&store, &options).await;
        assert!(report.is_clean());
        (names, parts) = (names + report.names, parts + 1);
        let Some(next) = report.resume_after else { break };
        resume_after = Some(Path::parse(next).unwrap());
    }
    assert_eq!((names, parts), (25, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_at_work_make_no_false_findings() {
    let (store, _) = store_over(profile(), memory(5));
    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicUsize::new(0));
    let writers = (0..3_usize).map(|number| {
        let (store, stop, written) = (store.clone(), Arc::clone(&stop), Arc::clone(&written));
        tokio::spawn(async move {
            let mut round = 0;
            while !stop.load(Ordering::SeqCst) {
                let path = Path::from(format!("w{number}/{}", round % 7));
                store.put(&path, sample(900 + round % 5 * 3000).into()).await.unwrap();
                if round % 11 == 10 {
                    store.delete(&path).await.unwrap();
                }
                round += 1;
                written.fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let (mut versions, mut scrubs) = (0, 0);
    while scrubs < 6 || written.load(Ordering::SeqCst) < 60 {
        scrubs += 1;
        let report = scrub(&store, &ScrubOptions { settle: Duration::from_secs(3600), ..repairing() }).await;
        assert_eq!((report.findings_total, report.unknown_versions, report.lost_versions), (0, 0, 0), "{report:#?}");
        versions = report.versions;
    }
    stop.store(true, Ordering::SeqCst);
    futures::future::join_all(writers).await.into_iter().for_each(|ended| ended.unwrap());
    assert!(versions > 0, "the scrubs saw what was written meanwhile");
    store.quiesce().await;
    assert!(scrub(&store, &repairing()).await.is_clean());
    assert_eq!(scrub(&store, &options()).await.findings_total, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_reads_its_fraction_and_the_same_seed_reads_the_same() {
    let (store, _) = store_over(profile(), memory(5));
    fill(&store).await;
    let read = |verify, sample, seed| {
        let (store, options) = (store.clone(), ScrubOptions { verify, sample, seed, ..options() });
        async move { scrub(&store, &options).await.bytes_read }
    };
    let all = read(true, None, 0).await;
    assert_eq!((read(false, None, 0).await, read(true, Some(0.0), 0).await, read(true, Some(1.0), 0).await), (0, 0, all));
    let mut some = Vec::new();
    for seed in 0..12 {
        some.push(read(true, Some(0.3), seed).await);
        assert_eq!(some.last(), Some(&read(true, Some(0.3), seed).await));
    }
    assert!(some.iter().any(|bytes| *bytes != some[0]) && some.iter().all(|bytes| (1..all).contains(bytes)), "{some:?} of {all}");
    let error = store.scrub(&ScrubOptions { sample: Some(1.5), ..options() }, &()).await.unwrap_err();
    assert_eq!(error.kind(), lakeseal::ErrorKind::InvalidInput);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_reads_meet_is_repaired_on_request() {
    let stores = memory(5);
    let (store, faults) = store_over(profile(), stores.clone());
    fill(&store).await;
    let before = snapshots(&stores).await;
    harm(&stores[0], 0).await;
    harm(&stores[1], 3).await;
    assert_readable(&store).await;
    let report = store.repair_hinted(usize::MAX).await.unwrap();
    assert!(report.hints > 0 && report.repaired > 0 && report.failed == 0, "{report:?}");
    // Old versions were not read, and nothing else was touched.
    let left = scrub(&store, &options()).await;
    let newest = left.findings.iter().filter(|f| !(f.path == "t/deleted" || f.path == "t/large.parquet" && f.slot == 0));
    assert_eq!(newest.count(), 0, "{left:#?}");
    assert_eq!(store.repair_hinted(usize::MAX).await.unwrap().hints, 0);
    assert!(scrub(&store, &repairing()).await.is_clean());
    assert_eq!(snapshots(&stores).await, before);
    // What cannot be written is a hint as well, which waits until its region is back.
    faults[2].set_down(true);
    store.put(&Path::from("t/later"), sample(90_000).into()).await.unwrap();
    // Markers come after the acknowledgement; what is still on its way is not to be repaired.
    store.quiesce().await;
    let report = store.repair_hinted(usize::MAX).await.unwrap();
    assert!(report.deferred > 0 && report.repaired == 0 && report.failed == 0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_reads_meet_is_repaired_in_the_background_when_that_is_on() {
    let stores = memory(5);
    let (store, _) = store_over(profile(), stores.clone());
    let store = store.with_read_repair();
    store.put(&Path::from("a"), sample(90_000).into()).await.unwrap();
    store.quiesce().await;
    let before = snapshots(&stores).await;
    harm(&stores[0], 1).await;
    assert_eq!(store.get(&Path::from("a")).await.unwrap().bytes().await.unwrap(), sample(90_000));
    for _ in 0..6000 {
        if snapshots(&stores).await == before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("nothing was repaired");
}

#[tokio::test]
async fn a_slot_that_a_stopped_writer_left_without_a_vote_does_not_grow_with_every_repair() {
    for promised in 1..=5 {
        let stores = memory(5);
        let (regions, writer, _) = lake_over(3, 2, 0, stores.clone()).unwrap();
        let writer = Arc::new(writer);
        let store = ErasureStore::new(Arc::clone(&regions), profile(), Some(Arc::clone(&writer)), Arc::new(SystemClock)).unwrap();
        // An object's slot, and one of the lake's own registers.
        let paths = [Path::from("t/stopped"), layout::streamed_write(&WriteId([7; 16]))];
        for path in &paths {
            for (index, region) in (0..).zip(&stores).take(promised) {
                let place = EntryPlace { lake: *regions.lake(), configuration: 0, region: index, path: path.as_ref(), slot: 0, seq: 0 };
                let body = EntryBody::Promise(Ballot { round: 1, proposer: ProposerId([7; 8]) });
                region.put(&layout::entry_key(path, 0, 0).unwrap(), body.seal(&place, &writer).unwrap().into()).await.unwrap();
            }
        }
        let mut counts = Vec::new();
        for _ in 0..4 {
            let report = store.scrub(&repairing(), &()).await.unwrap();
            assert_eq!((report.open_slots, report.findings_total), (2, 0), "{report:?}");
            store.quiesce().await;
            counts.push(snapshots(&stores).await.iter().map(BTreeMap::len).collect::<Vec<_>>());
        }
        assert!(counts.windows(2).all(|pair| pair[0] == pair[1]), "{counts:?}");
        // Writers are not hindered.
        store.put(&paths[0], sample(50_000).into()).await.unwrap();
        assert_eq!(store.get(&paths[0]).await.unwrap().bytes().await.unwrap(), sample(50_000));
    }
}
