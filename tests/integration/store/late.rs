//! Shards that were not durable when their write was acknowledged are made whole without a read that meets them.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use lakeseal::store::{Profile, RepairReason, ScrubOptions};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::{content, memory, store_over};

const SEGMENTS: usize = 4;
const SIZE: usize = SEGMENTS * 256 * 1024;

fn impatient() -> Profile {
    Profile { segment_bytes: 256 * 1024, inline_bytes: 1000, grace: Duration::from_millis(20), ..Profile::new(3, 2) }
}

async fn shards(region: &Arc<dyn ObjectStore>) -> usize {
    region.list(Some(&Path::from("d"))).try_collect::<Vec<_>>().await.unwrap().len()
}

async fn until_whole(region: &Arc<dyn ObjectStore>, expected: usize) {
    for _ in 0..2000 {
        if shards(region).await == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{} of {expected} shards are there", shards(region).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_slow_region_did_not_take_in_time_is_repaired_in_the_background() {
    // As one put, as an upload, and as a copy, which are decided otherwise.
    for way in ["put", "upload", "copy"] {
        let stores = memory(5);
        let (store, faults) = store_over(impatient(), stores.clone());
        let store = store.with_read_repair();
        let (path, bytes) = (Path::from("t/a"), content(1, SIZE));
        let mut expected = SEGMENTS;
        if way == "copy" {
            store.put(&Path::from("t/source"), bytes.clone().into()).await.unwrap();
            expected += SEGMENTS;
        }
        faults[4].hold(|key| key.as_ref().starts_with("d/"));
        match way {
            "put" => drop(store.put(&path, bytes.into()).await.unwrap()),
            "copy" => store.copy(&Path::from("t/source"), &path).await.unwrap(),
            _ => {
                let mut upload = store.put_multipart(&path).await.unwrap();
                upload.put_part(bytes.into()).await.unwrap();
                upload.complete().await.unwrap();
            }
        }
        assert_eq!(shards(&stores[4]).await, expected - SEGMENTS, "{way}: the region was to be late");
        faults[4].release();
        until_whole(&stores[4], expected).await;
        store.quiesce().await;
        let options = ScrubOptions { verify: true, settle: Duration::ZERO, ..ScrubOptions::default() };
        let census = store.scrub(&options, &()).await.unwrap();
        assert!(census.is_clean() && census.damaged_versions == 0, "{way}: {census:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn late_shards_are_hints_once_the_write_is_decided_and_not_before() {
    let (store, faults) = store_over(impatient(), memory(5));
    let path = Path::from("t/a");
    faults[4].hold(|key| key.as_ref().starts_with("d/"));
    faults[..4].iter().for_each(|fault| fault.hold(|key| key.as_ref().starts_with("i/")));
    let (writer, target) = (store.clone(), path.clone());
    let put = tokio::spawn(async move { writer.put(&target, content(1, SIZE).into()).await });
    while faults[..4].iter().any(|fault| fault.held() == 0) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(store.take_repair_hints(), [], "nothing is decided");
    faults[..4].iter().for_each(lakeseal::lake::testing::FaultyRegion::release);
    put.await.unwrap().unwrap();
    let hints = store.take_repair_hints();
    let noted: Vec<_> = hints.iter().map(|hint| (hint.segment, hint.shard, hint.region.to_string(), hint.why)).collect();
    let late = |segment| (segment, 4, "r4".to_owned(), RepairReason::Unwritten);
    assert_eq!(noted, (0..SEGMENTS as u64).map(late).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_stays_while_its_region_does_not_take_the_shard() {
    let stores = memory(5);
    let (store, faults) = store_over(impatient(), stores.clone());
    faults[4].fail_before_apply(1);
    store.put(&Path::from("t/a"), content(1, 200_000).into()).await.unwrap();
    store.quiesce().await;
    for _ in 0..2 {
        faults[4].fail_before_apply(1);
        let report = store.repair_hinted(usize::MAX).await.unwrap();
        assert_eq!((report.hints, report.deferred, report.repaired, report.failed), (1, 1, 0, 0), "{report:?}");
    }
    let report = store.repair_hinted(usize::MAX).await.unwrap();
    assert_eq!((report.hints, report.deferred, report.repaired), (1, 0, 1), "{report:?}");
    assert_eq!(shards(&stores[4]).await, 1);
}
