//! A store whose faults are switched from outside.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use parking_lot::Mutex;

use crate::error::{Error, ErrorKind};

type Predicate = Box<dyn Fn(&Path) -> bool + Send + Sync>;

/// How many requests reached a region, failed ones too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OperationCounts {
    /// Create-if-absent puts.
    pub creates: u64,
    /// Other puts.
    pub puts: u64,
    /// Gets and range gets.
    pub gets: u64,
    /// Lists.
    pub lists: u64,
    /// Deletes.
    pub deletes: u64,
}

#[derive(Default)]
struct State {
    down: AtomicBool,
    fail_after_apply: AtomicU64,
    fail_before_apply: AtomicU64,
    slow_ms: AtomicU64,
    racy_create: AtomicBool,
    corrupt: Mutex<Option<Predicate>>,
    unreadable: Mutex<Option<Predicate>>,
    hold: Mutex<Option<Predicate>>,
    held: AtomicU64,
    released: tokio::sync::Notify,
    creates_only: AtomicBool,
    kept: Mutex<Option<Predicate>>,
    version: Mutex<Option<String>>,
    lengthen: Mutex<Option<Predicate>>,
    pieces_beyond: AtomicU64,
    counts: Mutex<OperationCounts>,
}

/// The switches of one region's faults; clones share them.
#[derive(Clone, Default)]
pub struct FaultyRegion(Arc<State>);

impl fmt::Debug for FaultyRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyRegion").field("down", &self.0.down).field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl FaultyRegion {
    /// While down, every request fails and changes nothing.
    pub fn set_down(&self, down: bool) {
        self.0.down.store(down, Ordering::SeqCst);
    }

    /// The next `writes` writes (creates, puts, deletes) take effect and then report an error.
    pub fn fail_after_apply(&self, writes: u64) {
        self.0.fail_after_apply.store(writes, Ordering::SeqCst);
    }

    /// The next `writes` writes report an error and change nothing.
    pub fn fail_before_apply(&self, writes: u64) {
        self.0.fail_before_apply.store(writes, Ordering::SeqCst);
    }

    /// Every request waits this long first, in milliseconds of tokio's clock; 0 ends it.
    pub fn slow_ms(&self, ms: u64) {
        self.0.slow_ms.store(ms, Ordering::SeqCst);
    }

    /// Reads of keys for which `matches` holds return bytes with one bit flipped in the middle; sizes stay right.
    pub fn corrupt(&self, matches: impl Fn(&Path) -> bool + Send + Sync + 'static) {
        *self.0.corrupt.lock() = Some(Box::new(matches));
    }

    /// Reads of keys for which `matches` holds fail, as if the region did not answer; it is asked once a read.
    pub fn fail_reads(&self, matches: impl Fn(&Path) -> bool + Send + Sync + 'static) {
        *self.0.unreadable.lock() = Some(Box::new(matches));
    }

    /// Reads are answered, and honest again.
    pub fn heal(&self) {
        *self.0.corrupt.lock() = None;
        *self.0.unreadable.lock() = None;
    }

    /// Creates look first and overwrite then, as a store does that is no region.
    pub fn create_is_not_atomic(&self, racy: bool) {
        self.0.racy_create.store(racy, Ordering::SeqCst);
    }

    /// Puts of keys for which `matches` holds wait until [`FaultyRegion::release`]: a writer that is paused, or messages that are late.
    pub fn hold(&self, matches: impl Fn(&Path) -> bool + Send + Sync + 'static) {
        *self.0.hold.lock() = Some(Box::new(matches));
    }

    /// What was held goes on.
    pub fn release(&self) {
        *self.0.hold.lock() = None;
        self.0.released.notify_waiters();
    }

    /// How many puts were held so far.
    pub fn held(&self) -> u64 {
        self.0.held.load(Ordering::SeqCst)
    }

    /// While on, the region's credentials are a writer's: what would overwrite or delete is refused as not permitted.
    pub fn creates_only(&self, on: bool) {
        self.0.creates_only.store(on, Ordering::SeqCst);
    }

    /// Deletes of keys for which `matches` holds are refused until [`FaultyRegion::keep_nothing`].
    pub fn keep(&self, matches: impl Fn(&Path) -> bool + Send + Sync + 'static) {
        *self.0.kept.lock() = Some(Box::new(matches));
    }

    /// Every key can be deleted again.
    pub fn keep_nothing(&self) {
        *self.0.kept.lock() = None;
    }

    /// Whole reads of keys for which `matches` holds go on behind the object's end, for 64 MiB in pieces of 64 KiB.
    pub fn lengthen(&self, matches: impl Fn(&Path) -> bool + Send + Sync + 'static) {
        *self.0.lengthen.lock() = Some(Box::new(matches));
    }

    /// How many pieces behind an object's end were taken so far.
    pub fn pieces_beyond(&self) -> u64 {
        self.0.pieces_beyond.load(Ordering::SeqCst)
    }

    /// From now on every object is said to have this version, whatever is written: `null` is what S3 says where versioning is suspended.
    pub fn name_versions(&self, version: &str) {
        *self.0.version.lock() = Some(version.to_owned());
    }

    /// How many requests came so far.
    pub fn counts(&self) -> OperationCounts {
        *self.0.counts.lock()
    }

    /// Counts from zero again.
    pub fn reset_counts(&self) {
        *self.0.counts.lock() = OperationCounts::default();
    }

    async fn wait_while_held(&self, key: &Path) {
        let mut is_first = true;
        loop {
            let released = self.0.released.notified();
            let mut released = std::pin::pin!(released);
            // Before looking, so that no release is missed.
            released.as_mut().enable();
            if !self.0.hold.lock().as_ref().is_some_and(|matches| matches(key)) {
                return;
            }
            self.0.held.fetch_add(u64::from(is_first), Ordering::SeqCst);
            is_first = false;
            released.await;
        }
    }

    fn permit(&self, key: &Path, creates: bool) -> Result<()> {
        if creates || !self.0.creates_only.load(Ordering::SeqCst) {
            return Ok(());
        }
        let denied = Error::new(ErrorKind::Permission, "these credentials may only create");
        Err(denied.into_object_store(key))
    }

    fn permit_deletion(&self, key: &Path) -> Result<()> {
        let is_kept = self.0.kept.lock().as_ref().is_some_and(|matches| matches(key));
        if is_kept { Err(fault("the region does not delete this key")) } else { Ok(()) }
    }

    async fn admit(&self, count: impl FnOnce(&mut OperationCounts)) -> Result<()> {
        count(&mut self.0.counts.lock());
        let ms = self.0.slow_ms.load(Ordering::SeqCst);
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        if self.0.down.load(Ordering::SeqCst) { Err(fault("the region was switched off")) } else { Ok(()) }
    }

    async fn admit_read(&self, key: &Path) -> Result<()> {
        self.admit(|c| c.gets += 1).await?;
        let fails = self.0.unreadable.lock().as_ref().is_some_and(|matches| matches(key));
        if fails { Err(fault("the read was not answered")) } else { Ok(()) }
    }

    async fn write<T>(&self, count: impl FnOnce(&mut OperationCounts), apply: impl Future<Output = Result<T>>) -> Result<T> {
        self.admit(count).await?;
        if take_one(&self.0.fail_before_apply) {
            return Err(fault("the write failed before it took effect"));
        }
        let applied = apply.await;
        if take_one(&self.0.fail_after_apply) {
            return Err(fault("the write failed after it took effect"));
        }
        applied
    }

    fn lengthened(&self, result: GetResult) -> GetResult {
        let (meta, range, attributes) = (result.meta.clone(), result.range.clone(), result.attributes.clone());
        let state = self.0.clone();
        let beyond = stream::iter(0..1024).map(move |_| {
            state.pieces_beyond.fetch_add(1, Ordering::SeqCst);
            Ok(Bytes::from_static(&[b' '; 64 << 10]))
        });
        GetResult { payload: GetResultPayload::Stream(result.into_stream().chain(beyond).boxed()), meta, range, attributes }
    }

    fn is_corrupt(&self, key: &Path) -> bool {
        self.0.corrupt.lock().as_ref().is_some_and(|matches| matches(key))
    }
}

fn fault(what: &str) -> object_store::Error {
    Error::new(ErrorKind::Unavailable, what).into_object_store(&Path::default())
}

fn take_one(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

fn flip(bytes: &Bytes) -> Bytes {
    let mut bytes = BytesMut::from(bytes.as_ref());
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    bytes.freeze()
}

/// Wraps a store with the faults of a [`FaultyRegion`].
#[derive(Debug)]
pub struct FaultStore {
    inner: Arc<dyn ObjectStore>,
    region: FaultyRegion,
}

impl FaultStore {
    /// `inner`, with the faults that `region` switches.
    pub fn new(inner: Arc<dyn ObjectStore>, region: FaultyRegion) -> Self {
        Self { inner, region }
    }

    fn listing(&self, inner: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let region = self.region.clone();
        let gate = async move { region.admit(|c| c.lists += 1).await.map(|()| inner) };
        stream::once(gate).try_flatten().boxed()
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faults over {}", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, key: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let create = matches!(options.mode, PutMode::Create);
        self.region.wait_while_held(key).await;
        self.region.permit(key, create || self.inner.head(key).await.is_err())?;
        let count = |c: &mut OperationCounts| if create { c.creates += 1 } else { c.puts += 1 };
        if create && self.region.0.racy_create.load(Ordering::SeqCst) && self.inner.head(key).await.is_err() {
            tokio::time::sleep(Duration::from_millis(2)).await;
            return self.region.write(count, self.inner.put(key, payload)).await;
        }
        self.region.write(count, self.inner.put_opts(key, payload, options)).await
    }

    async fn put_multipart_opts(&self, key: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.region.write(|c| c.puts += 1, self.inner.put_multipart_opts(key, options)).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        self.region.admit_read(key).await?;
        let is_whole = !options.head && options.range.is_none();
        let mut result = self.inner.get_opts(key, options).await?;
        if is_whole && self.region.0.lengthen.lock().as_ref().is_some_and(|matches| matches(key)) {
            return Ok(self.region.lengthened(result));
        }
        if let Some(version) = self.region.0.version.lock().clone() {
            result.meta.version = Some(version);
        }
        if !self.region.is_corrupt(key) {
            return Ok(result);
        }
        let (meta, range, attributes) = (result.meta.clone(), result.range.clone(), result.attributes.clone());
        let bytes = flip(&result.bytes().await?);
        let payload = GetResultPayload::Stream(stream::iter([Ok(bytes)]).boxed());
        Ok(GetResult { payload, meta, range, attributes })
    }

    async fn get_ranges(&self, key: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.region.admit_read(key).await?;
        let parts = self.inner.get_ranges(key, ranges).await?;
        Ok(if self.region.is_corrupt(key) { parts.iter().map(flip).collect() } else { parts })
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (region, inner) = (self.region.clone(), Arc::clone(&self.inner));
        keys.and_then(move |key| {
            let (region, inner) = (region.clone(), Arc::clone(&inner));
            async move {
                region.permit(&key, false)?;
                region.permit_deletion(&key)?;
                region.write(|c| c.deletes += 1, inner.delete(&key)).await.map(|()| key)
            }
        })
        .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        // As SeaweedFS does, whose offsets have to lie below the prefix.
        let is_below = prefix.is_none_or(|prefix| offset.as_ref().starts_with(&format!("{prefix}/")));
        if !is_below {
            return self.listing(stream::empty().boxed());
        }
        self.listing(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.region.admit(|c| c.lists += 1).await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.region.write(|c| c.puts += 1, self.inner.copy_opts(from, to, options)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.region.write(|c| c.puts += 1, self.inner.rename_opts(from, to, options)).await
    }
}
