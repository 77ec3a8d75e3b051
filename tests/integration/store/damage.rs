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
