//! Put of 256 MiB over regions in directories, beside plain files of the same number and sizes under the same policy of syncing.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use lakeseal::clock::SystemClock;
use lakeseal::erasure::Profile;
use lakeseal::lake::testing::lake_over;
use lakeseal::region::directory::DirectoryStore;
use lakeseal::store::ErasureStore;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

use crate::timing::{Times, head, line};
use crate::{MIB, Outcome, get, sample};

const OBJECT: usize = 256 * MIB;
const ROUNDS: usize = 5;
/// Segments that the store writes at a time.
const SEGMENTS_AT_ONCE: usize = 3;

/// Writes the shards' number of bytes as plain files, as many at a time as the store does, each region's into a directory.
async fn plain(root: &std::path::Path, object: &Bytes, profile: &Profile, fsync: bool) -> Outcome<()> {
    let geometry = profile.geometry();
    let size = object.len() as u64;
    for region in 0..profile.shards() {
        std::fs::create_dir_all(root.join(region.to_string()))?;
    }
    let turns = Arc::new(tokio::sync::Semaphore::new(SEGMENTS_AT_ONCE * profile.shards()));
    let mut tasks = Vec::new();
    for index in 0..geometry.segments(size) {
        let range = geometry.segment_range(size, index);
        let shape = geometry.segment(range.end - range.start);
        for shard in 0..shape.shards() {
            let from = usize::try_from(range.start + shape.data_range(shard % shape.data).start)?;
            let bytes = object.slice(from..from + usize::try_from(shape.shard_len(shard))?.min(object.len() - from));
            let folder = root.join(shard.to_string());
            let turn = Arc::clone(&turns).acquire_owned().await?;
            tasks.push(tokio::task::spawn_blocking(move || {
                let _turn = turn;
                let mut file = File::create_new(folder.join(index.to_string()))?;
                file.write_all(&bytes)?;
                if fsync {
                    file.sync_all()?;
                    File::open(folder)?.sync_all()?;
                }
                std::io::Result::Ok(())
            }));
        }
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

pub async fn run(data: u8, parity: u8, fsync: bool) -> Outcome<()> {
    let profile = Profile::new(data, parity);
    let object = sample(OBJECT);
    let path = Path::from("t/object");
    let (mut files, mut put, mut healthy) = (Times::default(), Times::default(), Times::default());
    for round in 0..=ROUNDS {
        // The one that goes first finds the disk's queue shorter.
        for turn in 0..2 {
            let home = tempfile::tempdir()?;
            if (round + turn) % 2 == 0 {
                files.add(plain(home.path(), &object, &profile, fsync)).await?;
                continue;
            }
            let mut stores: Vec<Arc<dyn ObjectStore>> = Vec::new();
            for region in 0..profile.shards() {
                let store = DirectoryStore::new(home.path().join(region.to_string()), fsync);
                store.make_root()?;
                stores.push(Arc::new(store));
            }
            let (regions, writer, _) = lake_over(data, parity, 0, stores)?;
            let store = ErasureStore::new(regions, profile.clone(), Some(Arc::new(writer)), Arc::new(SystemClock))?;
            put.add(store.put(&path, object.clone().into())).await?;
            healthy.add(get(&store, &path, OBJECT)).await?;
        }
        if round == 0 {
            [&mut files, &mut put, &mut healthy].into_iter().for_each(Times::clear);
        }
    }
    head(&format!("256 MiB, {data}+{parity}, directories, {}", if fsync { "fsync" } else { "no fsync" }));
    line("plain files of as many bytes", &files, &files);
    line("put: plain files / put", &put, &files);
    line("get: plain files / get", &healthy, &files);
    Ok(())
}
