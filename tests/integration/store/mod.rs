//! The erasure-coded store, over memory and directories, with regions down and shards damaged.

mod budgets;
mod codec;
mod collect;
mod collect_races;
pub mod conformance;
mod costs;
#[cfg(unix)]
mod crash;
mod damage;
#[cfg(unix)]
mod directories;
#[cfg(unix)]
mod directories_mounts;
#[cfg(unix)]
mod directories_sync;
mod faults;
mod late;
mod liars;
mod multipart;
mod purge;
mod scale;
mod scrub;
mod versions;

use std::sync::Arc;

use lakeseal::clock::SystemClock;
use lakeseal::lake::testing::{FaultyRegion, lake_over};
use lakeseal::region::directory::DirectoryStore;
use lakeseal::store::{ErasureStore, Profile};
use object_store::ObjectStore;
use object_store::memory::InMemory;

/// (k, m) for n = 1, 3, 4, 5 regions.
pub const PROFILES: [(u8, u8); 4] = [(1, 0), (2, 1), (2, 2), (3, 2)];

pub fn memory(n: u8) -> Vec<Arc<dyn ObjectStore>> {
    (0..n).map(|_| Arc::new(InMemory::new()) as Arc<dyn ObjectStore>).collect()
}

/// Regions in directories, which last as long as the guard.
pub fn directories(n: u8) -> (tempfile::TempDir, Vec<Arc<dyn ObjectStore>>) {
    let root = tempfile::tempdir().unwrap();
    let region = |i: u8| {
        let store = DirectoryStore::new(root.path().join(format!("r{i}")), false);
        store.make_root().unwrap();
        Arc::new(store) as Arc<dyn ObjectStore>
    };
    let stores = (0..n).map(region).collect();
    (root, stores)
}

pub fn store_over(profile: Profile, stores: Vec<Arc<dyn ObjectStore>>) -> (ErasureStore, Vec<FaultyRegion>) {
    let (regions, writer, faults) = lake_over(profile.data, profile.parity, 0, stores).unwrap();
    (ErasureStore::new(regions, profile, Some(Arc::new(writer)), Arc::new(SystemClock)).unwrap(), faults)
}

/// Bytes that look random, and differ for each number.
pub fn content(number: usize, size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(number as u64 + 1);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
