//! Regions that fail, are slow or come back wrong, met through the whole store.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};

use super::damage::{damage, sample};
use super::{PROFILES, memory, store_over};
use lakeseal::region::layout;
use lakeseal::store::{ErasureStore, Profile, RepairReason};
use lakeseal::{Error, ErrorKind};

fn create() -> PutOptions {
    PutOptions { mode: PutMode::Create, ..PutOptions::default() }
}

async fn read(store: &ErasureStore, path: &Path) -> object_store::Result<Vec<u8>> {
    Ok(store.get(path).await?.bytes().await?.to_vec())
}

fn usize_range(range: &Range<u64>) -> Range<usize> {
    usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_errs_after_it_applied_a_write_makes_no_second_version_and_no_conflict() {
    for (k, m) in PROFILES.into_iter().filter(|(_, m)| *m > 0) {
        for bad in 0..usize::from(k + m) {
            for size in [100, 300_000] {
                let (store, faults) = store_over(Profile::new(k, m), memory(k + m));
                faults[bad].fail_after_apply(u64::MAX);
                let (created, put) = (Path::from("t/_delta_log/00000000000000000000.json"), Path::from("t/part"));
                let (first, second) = (sample(size), sample(size + 1));

                let result = store.put_opts(&created, first.clone().into(), create()).await.unwrap();
                assert!(result.version.unwrap().starts_with("0."), "{k}+{m} bad={bad}");
                let again = store.put_opts(&created, second.clone().into(), create()).await.unwrap_err();
                assert!(matches!(again, object_store::Error::AlreadyExists { .. }), "{again}");

                for (number, bytes) in [&first, &second].into_iter().enumerate() {
                    let result = store.put(&put, bytes.clone().into()).await.unwrap();
                    assert!(result.version.unwrap().starts_with(&format!("{number}.")), "{k}+{m} bad={bad}");
                }
                store.quiesce().await;
                store.forget();
                assert_eq!(read(&store, &created).await.unwrap(), first);
                assert_eq!(read(&store, &put).await.unwrap(), second);
                assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 2);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_writer_never_hears_of_a_conflict_whatever_fails_once() {
    for (k, m) in PROFILES {
        for after in 1..=3 {
            let (store, faults) = store_over(Profile::new(k, m), memory(k + m));
            faults.iter().for_each(|fault| fault.fail_after_apply(after));
            let path = Path::from("commit");
            let outcome = store.put_opts(&path, "mine".into(), create()).await;
            assert!(!matches!(outcome, Err(object_store::Error::AlreadyExists { .. })), "{k}+{m}: {outcome:?}");
            faults.iter().for_each(|fault| fault.fail_after_apply(0));
            store.quiesce().await;
            store.forget();
            match read(&store, &path).await {
                Ok(bytes) => assert_eq!(bytes, b"mine"),
                Err(error) => assert!(outcome.is_err() && matches!(error, object_store::Error::NotFound { .. }), "{outcome:?} {error}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_a_region_to_spare_a_failing_one_costs_new_objects_no_margin() {
    for failing in 0..4 {
        let (store, faults) = store_over(Profile::new(2, 1), memory(4));
        faults[failing].set_down(true);
        store.put(&Path::from("first"), sample(100_000).into()).await.unwrap();
        store.quiesce().await;
        // Which regions a version gets goes by its random id: so many that every place comes.
        let paths: Vec<Path> = (0..24).map(|i| Path::from(format!("t/{i}"))).collect();
        for path in &paths {
            store.put(path, sample(100_000).into()).await.unwrap();
        }
        store.quiesce().await;
        faults[failing].set_down(false);
        for other in (0..4).filter(|other| *other != failing) {
            store.forget();
            faults[other].set_down(true);
            for path in &paths {
                assert_eq!(read(&store, path).await.unwrap(), sample(100_000), "{failing} failed, {other} is lost");
            }
            store.quiesce().await;
            faults[other].set_down(false);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_too_many_regions_down_reads_say_which_and_never_not_found() {
    for (k, m) in PROFILES {
        let n = k + m;
        for first in 0..n {
            let (store, faults) = store_over(Profile::new(k, m), memory(n));
            let path = Path::from("t/a");
            store.put(&path, sample(100_000).into()).await.unwrap();
            store.quiesce().await;
            store.forget();
            let down: Vec<usize> = (0..m + 1).map(|i| usize::from((first + i) % n)).collect();
            down.iter().for_each(|i| faults[*i].set_down(true));
            let error = read(&store, &path).await.unwrap_err();
            let found = Error::find(&error).unwrap_or_else(|| panic!("{k}+{m}: {error:?}"));
            assert_eq!(found.kind(), ErrorKind::Unavailable, "{k}+{m} {down:?}: {error}");
            let text = error.to_string();
            assert!(down.iter().any(|i| text.contains(&format!("r{i}"))), "{k}+{m} {down:?}: {text}");
            // Once they are back, so is the object.
            faults.iter().for_each(|fault| fault.set_down(false));
            assert_eq!(read(&store, &path).await.unwrap(), sample(100_000));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_shards_of_two_objects_are_healed_or_refused() {
    for (k, m) in PROFILES {
        let n = k + m;
        for swapped in 1..=n {
            let stores = memory(n);
            let (store, _) = store_over(Profile::new(k, m), stores.clone());
            let (a, b) = (sample(400_000), sample(800_000)[400_000..].to_vec());
            assert_ne!(a, b);
            store.put(&Path::from("a"), a.clone().into()).await.unwrap();
            store.put(&Path::from("b"), b.clone().into()).await.unwrap();
            for region in &stores[..usize::from(swapped)] {
                let shards: Vec<_> = region.list(Some(&Path::from("d"))).try_collect().await.unwrap();
                let [one, other] = shards.as_slice() else { panic!("two shards were expected, not {}", shards.len()) };
                let bytes = region.get(&one.location).await.unwrap().bytes().await.unwrap();
                let swap = region.get(&other.location).await.unwrap().bytes().await.unwrap();
                region.put(&one.location, swap.into()).await.unwrap();
                region.put(&other.location, bytes.into()).await.unwrap();
            }
            for (path, bytes) in [("a", &a), ("b", &b)] {
                store.forget();
                let found = read(&store, &Path::from(path)).await;
                if swapped <= m {
                    assert_eq!(&found.unwrap(), bytes, "{k}+{m} {swapped}");
                } else {
                    let error = found.expect_err("too many shards were swapped");
                    assert_eq!(Error::find(&error).unwrap().kind(), ErrorKind::Corrupt, "{k}+{m} {swapped}: {error}");
                }
            }
        }
    }
}

/// A small generator, so that a failure can be repeated.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_ranges_are_those_of_a_plain_copy_with_m_regions_damaged() {
    for (seed, (k, m)) in (1u64..).zip(PROFILES.into_iter().cycle().take(16)) {
        let mut random = Random(seed);
        let n = k + m;
        let stores = memory(n);
        let profile = Profile { segment_bytes: 64 * (1 + random.below(12_000)), inline_bytes: 0, ..Profile::new(k, m) };
        let (store, _) = store_over(profile, stores.clone());
        let size = 1 + random.below(2_500_000);
        let (path, bytes) = (Path::from("t/a"), sample(usize::try_from(size).unwrap()));
        store.put(&path, bytes.clone().into()).await.unwrap();
        let first = random.below(u64::from(n));
        for i in 0..u64::from(m) {
            let region = usize::try_from((first + i) % u64::from(n)).unwrap();
            damage(&stores[region], usize::try_from(random.below(5)).unwrap()).await;
        }
        for _ in 0..40 {
            let ranges: Vec<Range<u64>> = (0..1 + random.below(6))
                .map(|_| {
                    let start = random.below(size);
                    let longest = if random.below(2) == 0 { 300 } else { size };
                    start..(start + 1 + random.below(longest)).min(size)
                })
                .collect();
            if random.below(3) == 0 {
                store.forget();
            }
            let parts = store.get_ranges(&path, &ranges).await.unwrap();
            for (range, part) in ranges.iter().zip(&parts) {
                assert!(part == &bytes[usize_range(range)], "seed {seed}, {k}+{m}, {size} bytes, {range:?} of {ranges:?}");
            }
            assert!(store.get_range(&path, ranges[0].clone()).await.unwrap() == parts[0], "seed {seed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_regions_are_read_around() {
    for (k, m) in PROFILES.into_iter().filter(|(_, m)| *m > 0) {
        let profile = Profile { hedge: Duration::from_millis(40), segment_bytes: 512 * 1024, ..Profile::new(k, m) };
        let (store, faults) = store_over(profile, memory(k + m));
        let (path, bytes) = (Path::from("t/a"), sample(1_500_001));
        store.put(&path, bytes.clone().into()).await.unwrap();
        store.quiesce().await;
        store.forget();
        // Region 0 holds the first data shard; more slow ones would hold up what is newest, which no hedge can help.
        faults[0].slow_ms(8_000);
        let begun = Instant::now();
        assert_eq!(read(&store, &path).await.unwrap(), bytes, "{k}+{m}");
        assert_eq!(store.get_range(&path, 3..100_000).await.unwrap(), bytes[3..100_000]);
        assert!(begun.elapsed() < Duration::from_secs(7), "{k}+{m}: {:?}", begun.elapsed());
        assert!(store.take_repair_hints().iter().any(|hint| hint.why == RepairReason::Slow && hint.shard == 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_overwrite_is_one_create_a_region() {
    for (k, m) in PROFILES {
        let (store, faults) = store_over(Profile::new(k, m), memory(k + m));
        let path = Path::from("a");
        store.put(&path, "one".into()).await.unwrap();
        store.quiesce().await;
        faults.iter().for_each(lakeseal::lake::testing::FaultyRegion::reset_counts);
        store.put(&path, "two".into()).await.unwrap();
        store.quiesce().await;
        for fault in &faults {
            let counts = fault.counts();
            // One vote, and the marker after the acknowledgement.
            assert_eq!((counts.creates, counts.puts, counts.gets, counts.lists), (2, 0, 0, 0), "{k}+{m}");
        }
        assert_eq!(read(&store, &path).await.unwrap(), b"two");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rival_overwrites_decide_one_slot_each_and_upload_again_for_the_slot_they_get() {
    let stores = memory(5);
    let (store, _) = store_over(Profile::new(3, 2), stores.clone());
    let (store, path) = (Arc::new(store), Path::from("t/part"));
    let rivals: Vec<_> = (0..8)
        .map(|byte| {
            let (store, path, bytes) = (Arc::clone(&store), path.clone(), vec![byte; 200_000]);
            tokio::spawn(async move { (bytes.clone(), store.put(&path, bytes.into()).await.unwrap()) })
        })
        .collect();
    let mut shards = BTreeSet::new();
    let mut written = Vec::new();
    for rival in rivals {
        written.push(rival.await.unwrap());
    }
    store.quiesce().await;
    for region in &stores {
        let keys: Vec<_> = region.list(Some(&layout::shards_prefix())).try_collect().await.unwrap();
        shards.extend(
            keys.iter().filter_map(|meta| layout::parse_shard_key(&meta.location)).map(|name| (name.write_id.to_string(), name.slot)),
        );
    }
    let mut slots = BTreeSet::new();
    for (bytes, put) in written {
        let (tag, version) = (put.e_tag.unwrap(), put.version.unwrap());
        let slot: u64 = version.split('.').next().unwrap().parse().unwrap();
        assert!(slots.insert(slot), "slot {slot} was decided twice");
        assert!(shards.contains(&(tag, slot)), "the version of slot {slot} has no shards of its own");
        let options = GetOptions { version: Some(version), ..GetOptions::default() };
        assert_eq!(store.get_opts(&path, options).await.unwrap().bytes().await.unwrap(), bytes);
    }
    // No write is seen twice (never a, x, a), and none is lost.
    assert_eq!(slots, (0..8).collect());
}
