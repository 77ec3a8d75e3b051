//! A purge says that it is done only when no shard of any version is left, wherever it was stopped and whatever a region refused before.

use std::sync::atomic::Ordering;

use lakeseal::format::entry::{EntryBody, EntryPlace};
use lakeseal::format::manifest::ObjectManifest;
use lakeseal::region::layout;
use lakeseal::register::Registers;
use lakeseal::store::CollectReport;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;

use super::collect::{Lab, clocked_lab};
use super::content;

const YEAR: u64 = 365 * 24 * 60 * 60;

/// As the command judges it.
fn is_complete(report: &CollectReport) -> bool {
    report.kept + report.postponed + report.problems_total == 0
}

async fn purge(lab: &Lab, path: &Path) -> lakeseal::Result<CollectReport> {
    lab.store.quiesce().await;
    lab.store.forget();
    let report = lab.store.purge(path, &lab.collector).await;
    lab.store.quiesce().await;
    report
}

fn is_marker(key: &Path) -> bool {
    key.filename().is_some_and(|name| name.contains(".d"))
}

async fn delete_markers(lab: &Lab) {
    for (index, key) in lab.keys("i").await {
        if is_marker(&key) {
            lab.raw[index].delete(&key).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_is_stopped_after_any_change_is_finished_by_the_next() {
    // Also where no writer came to tell the markers.
    for marked in [true, false] {
        let mut stopped = 0;
        for changes in 0.. {
            let (lab, clocks) = clocked_lab(YEAR);
            let path = Path::from("t/a");
            lab.store.put(&path, content(1, 200_000).into()).await.unwrap();
            lab.store.put(&path, content(2, 300_000).into()).await.unwrap();
            lab.store.put(&path, content(3, 10).into()).await.unwrap();
            lab.store.quiesce().await;
            if !marked {
                delete_markers(&lab).await;
            }
            clocks.changes_left.store(changes, Ordering::SeqCst);
            let first = purge(&lab, &path).await;
            let is_through = clocks.changes_left.swap(i64::MAX, Ordering::SeqCst) >= 0;
            stopped += i32::from(!is_through);
            assert!(
                is_through || !first.as_ref().is_ok_and(|first| is_complete(first) && !first.is_idle()),
                "after {changes} changes: {first:?}"
            );
            let second = purge(&lab, &path).await.unwrap();
            assert!(is_complete(&second), "after {changes} changes: {second:?}");
            assert_eq!(lab.keys("d").await, [], "after {changes} changes: {second:?}");
            // Below the tombstone, three stubs.
            let listed = lab.keys("i").await;
            let below = listed.iter().filter(|(_, key)| layout::parse_register_key(key).unwrap().slot < 3);
            assert_eq!(below.count(), 5 * 3, "after {changes} changes");
            assert_eq!(lab.read(&path).await, None);
            let third = purge(&lab, &path).await.unwrap();
            assert!(is_complete(&third) && third.is_idle() && third.collected_before == 3, "after {changes} changes: {third:?}");
            if is_through {
                break;
            }
        }
        // A tombstone, three stubs, and fifteen shards in five regions.
        assert!(stopped > 5 * (1 + 3 + 3), "only {stopped} runs were stopped");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_does_not_delete_its_shards_is_reported_until_it_has() {
    let lab = Lab::new(YEAR);
    let path = Path::from("t/a");
    lab.store.put(&path, content(1, 300_000).into()).await.unwrap();
    lab.faults[2].keep(|key| key.as_ref().starts_with("d/"));
    for _ in 0..2 {
        let report = purge(&lab, &path).await.unwrap();
        assert_eq!(report.problems_total, 2, "{report:?}");
        assert!(report.problems[0].what.contains("does not delete"), "{report:?}");
        let left = lab.keys("d").await;
        assert!(left.len() == 2 && left.iter().all(|(region, _)| *region == 2), "{left:?}");
    }
    lab.faults[2].keep_nothing();
    let report = purge(&lab, &path).await.unwrap();
    assert!(is_complete(&report) && report.shards_deleted == 2, "{report:?}");
    assert_eq!(lab.keys("d").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_anew_during_a_purge_is_not_called_purged() {
    let lab = Lab::new(YEAR);
    let path = Path::from("t/a");
    lab.store.put(&path, content(1, 200_000).into()).await.unwrap();
    lab.store.quiesce().await;
    // Only stubs are put over the first entry of slot 0.
    let stub = layout::entry_key(&path, 0, 0).unwrap();
    lab.faults.iter().for_each(|fault| {
        fault.hold({
            let stub = stub.clone();
            move |key| *key == stub
        })
    });
    let meanwhile = async {
        while lab.faults.iter().any(|fault| fault.held() == 0) {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        lab.store.put(&path, content(1, 200_000).into()).await.unwrap();
        lab.faults.iter().for_each(lakeseal::lake::testing::FaultyRegion::release);
    };
    let (report, ()) = tokio::join!(lab.store.purge(&path, &lab.collector), meanwhile);
    let report = report.unwrap();
    assert!(!is_complete(&report) && report.problems[0].what.contains("written anew"), "{report:?}");
    assert_eq!(lab.read(&path).await.unwrap(), content(1, 200_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_does_not_say_whose_it_is_stays_and_is_reported_until_somebody_sees_to_it() {
    let lab = Lab::new(YEAR);
    let path = Path::from("t/a");
    lab.store.put(&path, content(1, 200_000).into()).await.unwrap();
    let (region, key) = lab.keys("d").await[3].clone();
    let mut stored = lab.raw[region].get(&key).await.unwrap().bytes().await.unwrap().to_vec();
    *stored.last_mut().unwrap() ^= 1;
    lab.raw[region].put(&key, stored.into()).await.unwrap();
    for _ in 0..2 {
        let report = purge(&lab, &path).await.unwrap();
        assert_eq!(report.problems_total, 1, "{report:?}");
        assert!(report.problems[0].what.contains(key.as_ref()) && report.problems[0].what.contains("yourself"), "{report:?}");
        assert_eq!(lab.keys("d").await, [(region, key.clone())]);
    }
    lab.raw[region].delete(&key).await.unwrap();
    assert!(is_complete(&purge(&lab, &path).await.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stub_beside_which_nothing_names_a_write_is_left_to_a_collector() {
    let lab = Lab::new(0);
    let path = Path::from("t/a");
    lab.store.put(&path, content(1, 200_000).into()).await.unwrap();
    lab.faults[2].keep(|key| key.as_ref().starts_with("d/"));
    assert!(!is_complete(&purge(&lab, &path).await.unwrap()));
    lab.faults[2].keep_nothing();
    delete_markers(&lab).await;
    lab.raw[0].put(&layout::entry_key(&path, 0, 1).unwrap(), "further".into()).await.unwrap();
    for _ in 0..2 {
        let report = purge(&lab, &path).await.unwrap();
        assert!(!is_complete(&report) && report.problems[0].what.contains("lakeseal collect"), "{report:?}");
    }
    assert_eq!(lab.keys("d").await.len(), 1);
    assert_eq!(lab.collect().await.orphans_collected, 1);
    assert_eq!(lab.keys("d").await, []);
    let report = purge(&lab, &path).await.unwrap();
    assert!(is_complete(&report), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_run_left_of_a_version_that_was_republished_is_kept_for_the_newer_one() {
    let lab = Lab::new(0);
    let path = Path::from("t/a");
    lab.store.put(&path, content(1, 200_000).into()).await.unwrap();
    lab.store.quiesce().await;
    let registers = Registers::new(lab.regions.clone(), Some(lab.writer.clone()));
    let first = registers.newest(&path).await.unwrap().unwrap();
    let again = ObjectManifest { slot: 1, predecessor: Some(first.digest), ..ObjectManifest::decode(&first.value).unwrap() };
    registers.propose(&path, 1, again.encode().unwrap().into()).await.unwrap();
    for index in 0..5u8 {
        let place = EntryPlace { lake: *lab.regions.lake(), configuration: 0, region: index, path: path.as_ref(), slot: 0, seq: 0 };
        let stub = EntryBody::Stub(first.digest).seal(&place, &lab.collector).unwrap();
        lab.raw[usize::from(index)].put(&layout::entry_key(&path, 0, 0).unwrap(), stub.into()).await.unwrap();
    }
    let report = lab.collect().await;
    assert_eq!((report.collected_before, report.shards_deleted, report.problems_total), (1, 0, 0), "{report:?}");
    assert!(lab.collect().await.is_idle());
    assert_eq!(lab.read(&path).await.unwrap(), content(1, 200_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_region_kept_that_was_down_is_destroyed_by_the_same_purge_again() {
    let lab = Lab::new(YEAR);
    let path = Path::from("t/a");
    lab.store.put(&path, content(1, 200_000).into()).await.unwrap();
    lab.store.quiesce().await;
    lab.faults[2].set_down(true);
    let first = purge(&lab, &path).await.unwrap();
    assert!(!is_complete(&first), "{first:?}");
    lab.faults[2].set_down(false);
    let second = purge(&lab, &path).await.unwrap();
    assert!(is_complete(&second) && second.collected == 1, "{second:?}");
    assert_eq!(lab.keys("d").await, []);
}

/// A region that is restored from a copy, or a repair that had read the shard before.
#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_comes_back_after_a_purge_is_a_collectors() {
    let lab = Lab::new(0);
    let path = Path::from("t/a");
    lab.store.put(&path, content(1, 200_000).into()).await.unwrap();
    lab.store.quiesce().await;
    let (region, key) = lab.keys("d").await[0].clone();
    let shard = lab.raw[region].get(&key).await.unwrap().bytes().await.unwrap();
    assert!(is_complete(&purge(&lab, &path).await.unwrap()));
    lab.raw[region].put(&key, shard.into()).await.unwrap();
    let again = purge(&lab, &path).await.unwrap();
    assert!(is_complete(&again) && again.is_idle(), "{again:?}");
    assert_eq!(lab.keys("d").await, [(region, key)]);
    assert_eq!(lab.collect().await.orphans_collected, 1);
    assert_eq!(lab.keys("d").await, []);
}
