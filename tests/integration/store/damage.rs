//! Real edits of stored shards: up to m are healed, more are an error, wrong bytes are never returned.

use std::sync::Arc;

use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};

use super::{PROFILES, memory, store_over};
use lakeseal::store::Profile;

pub async fn damage(store: &Arc<dyn ObjectStore>, how: usize) {
    let shards: Vec<_> = store.list(Some(&Path::from("d"))).try_collect().await.unwrap();
    for (i, meta) in shards.iter().enumerate() {
        let mut bytes = store.get(&meta.location).await.unwrap().bytes().await.unwrap().to_vec();
        let middle = bytes.len() / 2;
        match how % 5 {
            0 => bytes[middle] ^= 1,
            1 => bytes.truncate(middle),
            2 => bytes.insert(0, 7),
            3 => {
                // Another segment's shard in its place.
                let other = &shards[(i + 1) % shards.len()].location;
                bytes = store.get(other).await.unwrap().bytes().await.unwrap().to_vec();
                bytes[0] ^= 1;
            }
            _ => {
                store.delete(&meta.location).await.unwrap();
                continue;
            }
        }
        store.put(&meta.location, bytes.into()).await.unwrap();
    }
}

pub fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * i / 7 + i) % 251).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_shards_are_healed_up_to_m_and_refused_beyond() {
    for (k, m) in PROFILES {
        let n = k + m;
        let profile = Profile { segment_bytes: 512 * 1024, inline_bytes: 0, ..Profile::new(k, m) };
        for subset in 0u32..1 << n {
            for how in 0..5 {
                let stores = memory(n);
                let (store, _) = store_over(profile.clone(), stores.clone());
                let (path, bytes) = (Path::from("t/a.bin"), sample(1_200_003));
                store.put(&path, bytes.clone().into()).await.unwrap();
                for (i, region) in stores.iter().enumerate() {
                    if subset & (1 << i) != 0 {
                        damage(region, how + i).await;
                    }
                }
                let whole = async { store.get(&path).await?.bytes().await };
                let ranges = [0..1, 100_000..300_000, 524_287..524_290, 1_200_000..1_200_003];
                if subset.count_ones() <= u32::from(m) {
                    assert_eq!(whole.await.unwrap(), bytes, "{k}+{m} {subset:b} {how}");
                    store.forget();
                    let parts = store.get_ranges(&path, &ranges).await.unwrap();
                    for (range, part) in ranges.iter().zip(parts) {
                        let (start, end) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
                        assert_eq!(part, bytes[start..end], "{k}+{m} {subset:b} {how}");
                    }
                    // An extended or swapped parity shard is not looked at by a healthy read.
                    if subset & ((1 << k) - 1) != 0 {
                        assert!(store.repair_hints_total() > 0, "{k}+{m} {subset:b} {how}");
                    }
                } else if let Ok(found) = whole.await {
                    assert_eq!(found, bytes, "wrong bytes: {k}+{m} {subset:b} {how}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_small_object_costs_one_request_a_region() {
    let (regions, writer, _) = lakeseal::lake::testing::memory_lake(3, 2, 5).unwrap();
    let clock = Arc::new(lakeseal::clock::SystemClock);
    let store = lakeseal::store::ErasureStore::new(Arc::clone(&regions), Profile::new(3, 2), Some(Arc::new(writer)), clock).unwrap();
    store.put(&Path::from("a"), "hello".into()).await.unwrap();
    store.quiesce().await;
    for region in regions.regions() {
        let counts = region.requests();
        // One vote, and the marker after the acknowledgement.
        assert_eq!((counts.creates, counts.puts, counts.gets, counts.lists), (2, 0, 0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_racing_creates_have_one_winner() {
    let (store, _) = store_over(Profile::new(3, 2), memory(5));
    let tasks = (0..16u8).map(|i| {
        let store = store.clone();
        tokio::spawn(async move {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            store.put_opts(&Path::from("race"), vec![i].into(), options).await.map(|_| i)
        })
    });
    let outcomes: Vec<_> = futures::future::join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    let won: Vec<u8> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok().copied()).collect();
    assert_eq!(won.len(), 1);
    assert!(outcomes.iter().all(|o| !matches!(o, Err(e) if !matches!(e, object_store::Error::AlreadyExists { .. }))));
    assert_eq!(store.get(&Path::from("race")).await.unwrap().bytes().await.unwrap(), won);
}

/// Parity is not hashed when it comes: what is decoded from it shows whether it was right, and then which of it was not.
#[tokio::test(flavor = "multi_thread")]
async fn bad_parity_that_is_decoded_from_is_told_and_gone_around() {
    use lakeseal::store::RepairReason;
    for whole in [true, false] {
        let (regions, writer, faults) = lakeseal::lake::testing::memory_lake(3, 3, 6).unwrap();
        let clock = Arc::new(lakeseal::clock::SystemClock);
        let profile = Profile { segment_bytes: 1024 * 1024, ..Profile::new(3, 3) };
        let store = lakeseal::store::ErasureStore::new(regions, profile, Some(Arc::new(writer)), clock).unwrap();
        let (path, bytes) = (Path::from("t/a.bin"), sample(2_500_000));
        store.put(&path, bytes.clone().into()).await.unwrap();
        store.quiesce().await;
        faults[1].set_down(true);
        faults[3].corrupt(|key| key.as_ref().starts_with("d/"));
        if whole {
            assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), bytes);
        } else {
            // A part of the shard that is lost: nothing says what it should hash to.
            assert_eq!(store.get_range(&path, 500_000..600_000).await.unwrap(), bytes[500_000..600_000]);
        }
        let hints = store.take_repair_hints();
        let corrupt: Vec<usize> = hints.iter().filter(|hint| hint.why == RepairReason::Damaged).map(|hint| hint.shard).collect();
        assert!(!corrupt.is_empty() && corrupt.iter().all(|shard| *shard == 3), "whole {whole}: {hints:?}");
        // One more is too many for neither; two more are.
        faults[4].corrupt(|key| key.as_ref().starts_with("d/"));
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), bytes);
        faults[5].corrupt(|key| key.as_ref().starts_with("d/"));
        let refused = async { store.get(&path).await?.bytes().await };
        assert!(refused.await.is_err());
    }
}
