//! `object_store`'s own integration suite, with every tolerated subset of regions down.

use std::sync::Arc;

use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, integration as suite};

use super::{PROFILES, directories, memory, store_over};
use lakeseal::store::{ErasureStore, Profile};

pub async fn run(store: &ErasureStore) {
    suite::put_get_delete_list(store).await;
    suite::get_opts(store).await;
    suite::list_uses_directories_correctly(store).await;
    suite::list_with_delimiter(store).await;
    suite::rename_and_copy(store).await;
    suite::copy_if_not_exists(store).await;
    suite::copy_rename_nonexistent_object(store).await;
    suite::stream_get(store).await;
    suite::put_opts(store, true).await;
    suite::put_get_attributes(store).await;
    suite::list_with_offset_exclusivity(store).await;
    suite::multipart_race_condition(store, true).await;
    suite::multipart_out_of_order(store).await;
    let missing = suite::get_nonexistent_object(store, None).await.unwrap_err();
    assert!(matches!(missing, object_store::Error::NotFound { .. }), "{missing}");
    store.quiesce().await;
}

/// Runs the suite for every profile with every tolerated subset of regions down, over what `stores` makes.
async fn every_tolerated_subset<G>(over: &str, stores: impl Fn(u8) -> (G, Vec<Arc<dyn ObjectStore>>)) {
    for (k, m) in PROFILES {
        let n = k + m;
        let budget = u32::from(m.min(n - (n / 2 + 1)));
        for subset in (0u32..1 << n).filter(|subset| subset.count_ones() <= budget) {
            let (guard, stores) = stores(n);
            let (store, faults) = store_over(Profile::new(k, m), stores);
            for (i, fault) in faults.iter().enumerate() {
                fault.set_down(subset & (1 << i) != 0);
            }
            run(&store).await;
            println!("{k}+{m} n={n} over {over}, down={subset:0width$b}: passed", width = usize::from(n));
            drop(guard);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_passes_over_memory_with_every_tolerated_subset_of_regions_down() {
    every_tolerated_subset("memory", |n| ((), memory(n))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_passes_over_directories_with_every_tolerated_subset_of_regions_down() {
    every_tolerated_subset("directories", directories).await;
}

#[tokio::test]
async fn objects_are_listed_after_a_name_of_the_lakes_own() {
    let (store, _) = store_over(Profile::new(3, 2), memory(5));
    store.put(&Path::from("t/1"), "x".into()).await.unwrap();
    for offset in [".lakeseal", ".lakeseal/writes/x"] {
        let listed: Vec<_> = store.list_with_offset(None, &Path::from(offset)).try_collect().await.unwrap();
        assert_eq!(listed.iter().map(|meta| meta.location.as_ref()).collect::<Vec<_>>(), ["t/1"], "{offset}");
    }
}
