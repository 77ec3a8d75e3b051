//! Scrub, repair and collection beside regions that lie, fail half-way, or leave.

mod collecting;
mod salvaging;
mod scrubbing;
mod spawned;

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::*;
use crate::clock::SystemClock;
use crate::format::entry::{EntryBody, EntryPlace};
use crate::lake::testing::{FaultyRegion, lake_over};
use crate::region::layout;

struct Lab {
    raw: Vec<Arc<dyn ObjectStore>>,
    regions: Arc<RegionSet>,
    key: Arc<PrivateKey>,
    faults: Vec<FaultyRegion>,
    store: ErasureStore,
}

fn profile() -> Profile {
    Profile { segment_bytes: 64 * 1024, inline_bytes: 1000, ..Profile::new(2, 2) }
}

fn content(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * 31 + seed * 17 + i / 251) % 256).unwrap()).collect()
}

impl Lab {
    /// Five regions.
    fn new(liars: u8) -> Self {
        let raw: Vec<Arc<dyn ObjectStore>> = (0..5).map(|_| Arc::new(InMemory::new()) as Arc<dyn ObjectStore>).collect();
        let (regions, key, faults) = lake_over(2, 2, liars, raw.clone()).unwrap();
        let key = Arc::new(key);
        let store = ErasureStore::new(Arc::clone(&regions), profile(), Some(Arc::clone(&key)), Arc::new(SystemClock)).unwrap();
        Self { raw, regions, key, faults, store }
    }

    async fn put(&self, path: &str, bytes: Vec<u8>) {
        self.store.put(&Path::from(path), bytes.into()).await.unwrap();
        self.store.quiesce().await;
    }

    async fn read(&self, path: &str) -> Vec<u8> {
        self.store.forget();
        self.store.get(&Path::from(path)).await.unwrap().bytes().await.unwrap().to_vec()
    }

    async fn collect(&self) -> CollectReport {
        let options = CollectOptions { orphan_grace_seconds: 0, ..CollectOptions::default() };
        let report = self.store.collect(&options, &self.key, &|_| {}).await.unwrap();
        self.store.quiesce().await;
        report
    }

    async fn repair(&self, progress: &dyn ScrubProgress) -> ScrubReport {
        self.store.forget();
        let options = ScrubOptions { repair: true, verify: true, settle: Duration::ZERO, ..ScrubOptions::default() };
        let report = self.store.scrub(&options, progress).await.unwrap();
        self.store.quiesce().await;
        report
    }

    /// The keys of one region below a physical folder.
    async fn keys(&self, region: usize, folder: &str) -> Vec<Path> {
        let listed = self.raw[region].list(Some(&Path::from(folder))).map_ok(|meta| meta.location);
        let mut keys: Vec<Path> = listed.try_collect().await.unwrap();
        keys.sort();
        keys
    }

    async fn shards(&self) -> usize {
        let mut shards = 0;
        for region in 0..self.raw.len() {
            shards += self.keys(region, "d").await.len();
        }
        shards
    }
}
