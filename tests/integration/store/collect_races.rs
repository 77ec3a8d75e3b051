//! Writers that were paused meet the collector: a write is visible and whole, or it gets an error and nothing is visible.

use std::sync::Arc;
use std::time::Duration;

use lakeseal::clock::SystemClock;
use lakeseal::lake::testing::{FaultStore, FaultyRegion};
use lakeseal::region::{Region, RegionOptions, RegionSet, layout};
use lakeseal::store::{CollectOptions, ErasureStore};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, UpdateVersion};

use super::collect::{Lab, small_segments};
use super::content;

/// A second process of the same lake, whose requests can be held back alone.
fn other_process(lab: &Lab) -> (ErasureStore, Vec<FaultyRegion>) {
    let faults: Vec<FaultyRegion> = lab.raw.iter().map(|_| FaultyRegion::default()).collect();
    let options = RegionOptions { timeout: Duration::from_secs(600) };
    let regions = lab.regions.regions().iter().zip(&lab.raw).zip(&faults).map(|((region, store), fault)| {
        let store = Arc::new(FaultStore::new(Arc::clone(store), fault.clone()));
        Arc::new(Region::new(region.name().clone(), region.index(), store, options))
    });
    let writers = lab.regions.writers().to_vec();
    let set = RegionSet::new(*lab.regions.lake(), regions.collect(), lab.regions.quorums(), writers, 0).unwrap();
    let set = Arc::new(set.with_collectors(lab.regions.collectors().to_vec()));
    (ErasureStore::new(set, small_segments(), Some(Arc::clone(&lab.writer)), Arc::new(SystemClock)).unwrap(), faults)
}

/// Waits until the other process stands before its votes in all regions.
async fn paused(faults: &[FaultyRegion]) {
    while faults.iter().any(|fault| fault.held() == 0) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn hold(faults: &[FaultyRegion], folder: &'static str) {
    faults.iter().for_each(|fault| fault.hold(move |key| key.as_ref().starts_with(folder)));
}

fn release(faults: &[FaultyRegion]) {
    faults.iter().for_each(FaultyRegion::release);
}

/// Whatever the collector did, it leaves nothing behind, and finds nothing more.
async fn settles(lab: &Lab, path: &Path, expected: Option<Vec<u8>>) {
    assert!(lab.read(path).await == expected, "{path} is not what it should be");
    lab.collect().await;
    lab.collect().await;
    let idle = lab.collect().await;
    assert!(idle.is_idle() && idle.problems_total == 0, "{idle:?}");
    assert!(lab.read(path).await == expected, "{path} changed by collecting");
    let sharded = expected.is_some_and(|bytes| bytes.len() > 1000);
    assert_eq!(lab.keys("d").await.is_empty(), !sharded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_was_paused_before_its_vote_uploads_again_after_a_collector_closed_its_slot() {
    // A path that `Path::from` would escape again is another object's.
    for (before, path) in [(None, "t/a"), (Some(300_000), "t/a"), (Some(10), "t/a"), (None, "t/p=a%20b"), (Some(300_000), "t/p=a%20b/~x")] {
        for mode in [PutMode::Overwrite, PutMode::Create] {
            let lab = Lab::new(0);
            let path = Path::parse(path).unwrap();
            let old = before.map(|size| content(1, size));
            let mut tag = None;
            if let Some(bytes) = &old {
                tag = lab.store.put(&path, bytes.clone().into()).await.unwrap().e_tag;
            }
            let is_create = mode == PutMode::Create;
            if is_create && old.is_some() {
                continue;
            }
            let (other, faults) = other_process(&lab);
            hold(&faults, "i/");
            let (target, options) = (path.clone(), PutOptions { mode, ..PutOptions::default() });
            let put = tokio::spawn(async move { other.put_opts(&target, content(2, 250_000).into(), options).await });
            paused(&faults).await;
            let report = lab.collect().await;
            assert_eq!((report.orphans_found, report.orphans_collected), (1, 1), "{report:?}");
            assert_eq!(lab.read(&path).await, old, "nobody sees a change");
            if let Some(tag) = &tag {
                assert_eq!(lab.store.head(&path).await.unwrap().e_tag.as_ref(), Some(tag));
                let versions = lab.store.versions(&path).await.unwrap();
                assert!(versions[0].republished && !versions[1].republished && versions[1].superseded_ms.is_none());
            }
            release(&faults);
            put.await.unwrap().unwrap();
            settles(&lab, &path, Some(content(2, 250_000))).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_by_tag_or_version_goes_through_after_its_object_was_republished() {
    let lab = Lab::new(0);
    let path = Path::from("a");
    let first = lab.store.put(&path, content(1, 300_000).into()).await.unwrap();
    let (other, faults) = other_process(&lab);
    hold(&faults, "i/");
    let target = path.clone();
    let put = tokio::spawn(async move { other.put(&target, content(2, 250_000).into()).await });
    paused(&faults).await;
    lab.collect().await;
    put.abort();
    release(&faults);
    // The version's text names the slot in which it was made, and is readable still.
    let old = object_store::GetOptions { version: first.version.clone(), ..Default::default() };
    assert_eq!(lab.store.get_opts(&path, old).await.unwrap().bytes().await.unwrap(), content(1, 300_000));
    let update = PutMode::Update(UpdateVersion { e_tag: None, version: first.version.clone() });
    lab.store.put_opts(&path, content(3, 300_000).into(), PutOptions { mode: update.clone(), ..PutOptions::default() }).await.unwrap();
    let again = lab.store.put_opts(&path, content(4, 10).into(), PutOptions { mode: update, ..PutOptions::default() }).await;
    assert!(matches!(again, Err(object_store::Error::Precondition { .. })), "{again:?}");
    settles(&lab, &path, Some(content(3, 300_000))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_update_whose_votes_come_late_meets_a_collected_slot() {
    for is_down in [false, true] {
        for size in [10, 250_000] {
            let lab = Lab::new(0);
            let path = Path::from("a");
            let first = lab.store.put(&path, content(1, 300_000).into()).await.unwrap();
            let (other, faults) = other_process(&lab);
            hold(&faults, "i/");
            let update = PutMode::Update(UpdateVersion { e_tag: first.e_tag.clone(), version: first.version.clone() });
            let (target, options) = (path.clone(), PutOptions { mode: update, ..PutOptions::default() });
            let put = tokio::spawn(async move { other.put_opts(&target, content(2, size).into(), options).await });
            paused(&faults).await;
            // One region hears of nothing, and will take the late vote.
            lab.faults[4].set_down(is_down);
            for number in 3..6 {
                lab.store.put(&path, content(number, 300_000).into()).await.unwrap();
            }
            let report = lab.collect().await;
            assert!(report.collected == 3, "{report:?}");
            lab.faults[4].set_down(false);
            release(&faults);
            let outcome = put.await.unwrap();
            assert!(matches!(outcome, Err(object_store::Error::Precondition { .. })), "{outcome:?}");
            lab.store.quiesce().await;
            settles(&lab, &path, Some(content(5, 300_000))).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_was_given_up_before_or_after_it_was_bound_fails_and_nothing_is_visible() {
    // Before its binding is decided ("s/" holds its register), and between that and its vote.
    for (folder, before) in [("s/", false), ("s/", true), ("i/", false), ("i/", true)] {
        let lab = Lab::new(0);
        let path = Path::from("t/a");
        let old = before.then(|| content(1, 300_000));
        if let Some(bytes) = &old {
            lab.store.put(&path, bytes.clone().into()).await.unwrap();
        }
        let (other, faults) = other_process(&lab);
        hold(&faults, folder);
        let target = path.clone();
        let upload = tokio::spawn(async move {
            let mut upload = other.put_multipart(&target).await.unwrap();
            upload.put_part(content(2, 600_000).into()).await.unwrap();
            let outcome = upload.complete().await;
            other.quiesce().await;
            outcome
        });
        paused(&faults).await;
        let report = lab.collect().await;
        assert_eq!(report.orphans_collected, 1, "{report:?}");
        assert_eq!(lab.read(&path).await, old);
        release(&faults);
        let error = upload.await.unwrap().unwrap_err();
        assert!(error.to_string().contains("gave this upload up"), "{error}");
        settles(&lab, &path, old).await;
    }
}

/// The steps of streamed writes that regions hold bindings of.
async fn bound_steps(lab: &Lab) -> Vec<u64> {
    let mut steps: Vec<u64> = lab.keys("s").await.iter().map(|(_, key)| layout::parse_register_key(key).unwrap().slot).collect();
    steps.sort_unstable();
    steps.dedup();
    steps
}

#[tokio::test(flavor = "multi_thread")]
async fn the_binding_of_a_copy_that_lost_goes_and_what_gives_it_up_stays() {
    let lab = Lab::new(0);
    let (from, to) = (Path::from("t/from"), Path::from("t/to"));
    lab.store.put(&from, content(1, 300_000).into()).await.unwrap();
    let (other, faults) = other_process(&lab);
    hold(&faults, "i/");
    let (source, target) = (from.clone(), to.clone());
    let copy = tokio::spawn(async move {
        let outcome = other.copy_if_not_exists(&source, &target).await;
        other.quiesce().await;
        outcome
    });
    paused(&faults).await;
    lab.store.put(&to, content(2, 300_000).into()).await.unwrap();
    // As long as its shards are there the copy is under way, for all that anybody knows, and its slot is lost.
    let young = CollectOptions { orphan_grace_seconds: 3600, ..CollectOptions::default() };
    assert_eq!(lab.try_collect(&young).await.unwrap().bindings_deleted, 0);
    assert_eq!(bound_steps(&lab).await, [0]);
    release(&faults);
    let outcome = copy.await.unwrap();
    assert!(matches!(outcome, Err(object_store::Error::AlreadyExists { .. })), "{outcome:?}");
    assert_eq!(lab.keys("d").await.len(), 5 * (2 + 2), "the copy discards its own shards");
    assert_eq!(lab.try_collect(&young).await.unwrap().bindings_deleted, 0, "it is younger than the grace age");
    let dry = CollectOptions { dry_run: true, orphan_grace_seconds: 0, ..CollectOptions::default() };
    assert_eq!(lab.try_collect(&dry).await.unwrap().bindings_deleted, 1);
    assert_eq!(bound_steps(&lab).await, [0]);
    assert_eq!(lab.collect().await.bindings_deleted, 1);
    assert_eq!(bound_steps(&lab).await, [1], "of the write is left that it was given up");
    settles(&lab, &to, Some(content(2, 300_000))).await;
    assert_eq!(bound_steps(&lab).await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bindings_go_whose_version_was_collected_before_and_those_that_a_region_kept() {
    let lab = Lab::new(0);
    let (path, day) = (Path::from("t/a"), 24 * 60 * 60);
    for number in [1, 2] {
        let mut upload = lab.store.put_multipart(&path).await.unwrap();
        upload.put_part(content(number, 600_000).into()).await.unwrap();
        upload.complete().await.unwrap();
    }
    // The first version is collected; its binding is too young.
    let young = CollectOptions { orphan_grace_seconds: day, ..CollectOptions::default() };
    let report = lab.try_collect(&young).await.unwrap();
    assert_eq!((report.collected, report.bindings_deleted), (1, 0), "{report:?}");
    // A region is down while bindings go: of the version that is retained; whether the other has shards is not known.
    lab.faults[4].set_down(true);
    assert_eq!(lab.collect().await.bindings_deleted, 1);
    lab.faults[4].set_down(false);
    let kept: Vec<usize> = lab.keys("s").await.into_iter().map(|(region, _)| region).collect();
    assert_eq!(kept, [0, 1, 2, 3, 4, 4]);
    assert_eq!(lab.collect().await.bindings_deleted, 2);
    assert_eq!(bound_steps(&lab).await, [1], "the write that was collected is given up");
    settles(&lab, &path, Some(content(2, 600_000))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_and_copies_that_are_done_are_no_orphans_and_their_bindings_go() {
    for (a, b) in [("a", "b"), ("t/p=a%20b/x", "t/~{b}")] {
        uploads_and_copies_that_are_done(&Path::parse(a).unwrap(), &Path::parse(b).unwrap()).await;
    }
}

async fn uploads_and_copies_that_are_done(a: &Path, b: &Path) {
    let lab = Lab::new(0);
    let mut upload = lab.store.put_multipart(a).await.unwrap();
    upload.put_part(content(1, 600_000).into()).await.unwrap();
    upload.complete().await.unwrap();
    lab.store.copy(a, b).await.unwrap();
    lab.store.quiesce().await;
    assert_eq!(lab.keys("s").await.len(), 10);
    let report = lab.collect().await;
    assert_eq!((report.orphans_found, report.shards_deleted, report.bindings_deleted), (0, 0, 2), "{report:?}");
    assert!(lab.keys("s").await.is_empty());
    // Without markers nobody knows beforehand which writes are named.
    for (index, key) in lab.keys("i").await {
        if key.filename().is_some_and(|name| name.contains(".d")) {
            lab.raw[index].delete(&key).await.unwrap();
        }
    }
    assert!(lab.collect().await.shards_deleted == 0);
    for path in [a, b] {
        assert_eq!(lab.read(path).await.unwrap(), content(1, 600_000));
    }
    assert!(lab.collect().await.is_idle());
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_whose_markers_are_gone_are_owned_by_the_object_that_their_trailers_name() {
    let lab = Lab::new(0);
    for path in ["t/p=a%20b/x", "t/~[x]", "t/a%"] {
        let path = Path::parse(path).unwrap();
        lab.store.put(&path, content(1, 300_000).into()).await.unwrap();
        lab.store.quiesce().await;
        for (index, key) in lab.keys("i").await {
            if key.filename().is_some_and(|name| name.contains(".d")) {
                lab.raw[index].delete(&key).await.unwrap();
            }
        }
        let report = lab.collect().await;
        assert_eq!((report.shards_deleted, report.problems_total), (0, 0), "{report:?}");
        assert!(lab.read(&path).await.unwrap() == content(1, 300_000), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_need_no_right_to_delete_or_overwrite() {
    let lab = Lab::new(0);
    let path = Path::from("a");
    let (other, faults) = other_process(&lab);
    faults.iter().for_each(|fault| fault.creates_only(true));
    hold(&faults, "i/");
    let target = path.clone();
    let put = tokio::spawn(async move {
        let put = other.put(&target, content(2, 250_000).into()).await;
        other.quiesce().await;
        put
    });
    paused(&faults).await;
    lab.store.put(&path, content(1, 300_000).into()).await.unwrap();
    release(&faults);
    // It loses its slot, may not delete what it uploaded for it, and goes on.
    put.await.unwrap().unwrap();
    assert_eq!(lab.keys("d").await.len(), 5 * (2 + 1 + 1));
    settles(&lab, &path, Some(content(2, 250_000))).await;
    assert_eq!(lab.keys("d").await.len(), 5);
}
