//! Memory regions whose faults a test switches, and a lake of them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use parking_lot::Mutex;

use crate::digest::Digest;
use crate::format::entry::{EntryBody, EntryPlace};
use crate::id::LakeId;
use crate::key::PrivateKey;
use crate::region::{Quorums, Region, RegionOptions, RegionSet, layout};
use crate::register::{Registers, Slot};

pub const LAKE: LakeId = LakeId([5; 16]);

/// What one region does wrong.
#[derive(Debug, Default)]
pub struct Faults {
    pub down: AtomicBool,
    /// Creates are applied, then an error is answered.
    pub create_fails_after: AtomicBool,
    /// Lists leave out keys that contain this.
    pub hidden: Mutex<Option<String>>,
    /// Keys that lists show and that are not there.
    pub invented: Mutex<Vec<Path>>,
    /// Lists begin with keys without end, none of which is a register's.
    pub endless: AtomicBool,
    /// Each key of a list takes this long.
    pub trickle_ms: AtomicU64,
    /// Every request waits this long first.
    pub delay_ms: AtomicU64,
    /// Not 0: requests wait at random, and some are lost before or after they take effect.
    pub random: AtomicU64,
}

impl Faults {
    fn next(&self) -> u64 {
        let mut x = self.random.load(Ordering::Relaxed);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.store(x, Ordering::Relaxed);
        x >> 11
    }

    async fn before(&self) -> Result<()> {
        let delay = self.delay_ms.load(Ordering::Relaxed);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        if self.random.load(Ordering::Relaxed) != 0 {
            tokio::time::sleep(Duration::from_millis(self.next() % 8)).await;
            if self.next().is_multiple_of(16) {
                return Err(failed());
            }
        }
        if self.down.load(Ordering::Relaxed) { Err(failed()) } else { Ok(()) }
    }

    async fn after(&self) -> Result<()> {
        if self.random.load(Ordering::Relaxed) != 0 {
            tokio::time::sleep(Duration::from_millis(self.next() % 8)).await;
            if self.next().is_multiple_of(16) {
                return Err(failed());
            }
        }
        Ok(())
    }
}

fn failed() -> object_store::Error {
    object_store::Error::Generic { store: "faulty", source: "switched off".into() }
}

fn listed(location: Path) -> ObjectMeta {
    ObjectMeta { location, last_modified: chrono::DateTime::UNIX_EPOCH, size: 1, e_tag: None, version: None }
}

#[derive(Debug, Clone, Default)]
pub struct Faulty {
    pub inner: Arc<InMemory>,
    pub faults: Arc<Faults>,
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, key: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.faults.before().await?;
        let result = self.inner.put_opts(key, payload, options).await;
        self.faults.after().await?;
        if self.faults.create_fails_after.load(Ordering::Relaxed) {
            return Err(failed());
        }
        result
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(failed())
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        self.faults.before().await?;
        let result = self.inner.get_opts(key, options).await;
        self.faults.after().await?;
        result
    }

    async fn get_ranges(&self, _: &Path, _: &[Range<u64>]) -> Result<Vec<Bytes>> {
        Err(failed())
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        futures::stream::iter([Err(failed())]).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let listing = async move {
            this.faults.before().await?;
            let hidden = this.faults.hidden.lock().clone();
            let mut names: Vec<_> = this.inner.list(prefix.as_ref()).try_collect().await?;
            names.retain(|meta| hidden.as_ref().is_none_or(|hidden| !meta.location.as_ref().contains(hidden)));
            let invented = this.faults.invented.lock().clone();
            let below = |key: &Path| prefix.as_ref().is_none_or(|prefix| key.prefix_matches(prefix));
            names.extend(invented.into_iter().filter(below).map(listed));
            names.sort_by(|a, b| a.location.cmp(&b.location));
            this.faults.after().await?;
            let junk = if this.faults.endless.load(Ordering::Relaxed) { u64::MAX } else { 0 };
            let folder = prefix.unwrap_or_default();
            let junk = (0..junk).map(move |number| listed(folder.clone().join(format!("!{number:020}"))));
            let trickle_ms = this.faults.trickle_ms.load(Ordering::Relaxed);
            let keys = futures::stream::iter(junk.chain(names).zip(1..)).then(move |(meta, number)| async move {
                if trickle_ms > 0 || number % 1000 == 0 {
                    tokio::time::sleep(Duration::from_millis(trickle_ms.max(1))).await;
                }
                Ok(meta)
            });
            Ok::<_, object_store::Error>(keys)
        };
        futures::stream::once(listing).try_flatten().boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let offset = offset.clone();
        self.list(prefix).try_filter(move |meta| std::future::ready(meta.location > offset)).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(failed())
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(failed())
    }

    async fn rename_opts(&self, _: &Path, _: &Path, _: RenameOptions) -> Result<()> {
        Err(failed())
    }
}

/// Memory regions with a writer, and handles to their faults.
pub struct Lake {
    pub key: Arc<PrivateKey>,
    pub regions: Arc<RegionSet>,
    pub stores: Vec<Faulty>,
}

pub fn lake(n: u8, liars: u8) -> Lake {
    let key = Arc::new(PrivateKey::from_seed(&[7; 32]));
    let stores: Vec<Faulty> = (0..n).map(|_| Faulty::default()).collect();
    let regions = stores
        .iter()
        .zip(0..)
        .map(|(store, index)| {
            let name = format!("r{index}").parse().unwrap();
            Arc::new(Region::new(name, index, Arc::new(store.clone()), RegionOptions::default()))
        })
        .collect();
    let regions =
        RegionSet::new(LAKE, regions, Quorums::new(n, liars).unwrap(), vec![key.public()], 0).unwrap().with_collectors(vec![key.public()]);
    Lake { key, regions: Arc::new(regions), stores }
}

impl Lake {
    pub fn writer(&self) -> Registers {
        Registers::new(Arc::clone(&self.regions), Some(Arc::clone(&self.key)))
    }

    pub fn reader(&self) -> Registers {
        Registers::new(Arc::clone(&self.regions), None)
    }

    pub fn set_down(&self, region: usize, down: bool) {
        self.stores[region].faults.down.store(down, Ordering::Relaxed);
    }

    /// Puts an entry straight into a region, as a proposer would that stops after it.
    pub async fn plant(&self, region: usize, path: &Path, slot: Slot, seq: u32, body: &EntryBody) {
        let place = EntryPlace { lake: LAKE, configuration: 0, region: u8::try_from(region).unwrap(), path: path.as_ref(), slot, seq };
        let bytes = body.seal(&place, &self.key).unwrap();
        self.overwrite(region, &layout::entry_key(path, slot, seq).unwrap(), bytes.into()).await;
    }

    pub async fn overwrite(&self, region: usize, key: &Path, bytes: Bytes) {
        self.stores[region].inner.put(key, bytes.into()).await.unwrap();
    }

    pub async fn stored(&self, region: usize, key: &Path) -> Bytes {
        self.stores[region].inner.get(key).await.unwrap().bytes().await.unwrap()
    }

    pub async fn keys(&self, region: usize) -> Vec<String> {
        let mut keys: Vec<String> = self.stores[region].inner.list(None).map_ok(|m| m.location.to_string()).try_collect().await.unwrap();
        keys.sort();
        keys
    }
}

pub fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}
