//! A store that counts what passes through it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// What passed.
#[derive(Debug, Default)]
pub struct Counts {
    gets: AtomicU64,
    heads: AtomicU64,
    puts: AtomicU64,
    lists: AtomicU64,
    listed: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
}

impl Counts {
    /// What passed since this was last asked, in words.
    pub fn take(&self) -> String {
        let of = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        format!(
            "{} gets ({} bytes), {} heads, {} puts ({} bytes), {} lists ({} names)",
            of(&self.gets),
            of(&self.read),
            of(&self.heads),
            of(&self.puts),
            of(&self.written),
            of(&self.lists),
            of(&self.listed)
        )
    }
}

/// Counts for `inner`.
#[derive(Debug, Clone)]
pub struct Counting {
    pub inner: Arc<dyn ObjectStore>,
    pub counts: Arc<Counts>,
}

impl Counting {
    fn count(&self, of: impl Fn(&Counts) -> &AtomicU64, n: u64) {
        of(&self.counts).fetch_add(n, Ordering::Relaxed);
    }

    fn counted(&self, listing: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count(|c| &c.lists, 1);
        let counts = self.counts.clone();
        let count = move |_: &ObjectMeta| {
            counts.listed.fetch_add(1, Ordering::Relaxed);
        };
        listing.inspect_ok(count).boxed()
    }
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counting({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Counting {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.count(|c| &c.puts, 1);
        self.count(|c| &c.written, payload.content_length() as u64);
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.count(|c| &c.puts, 1);
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        self.count(|c: &Counts| if head { &c.heads } else { &c.gets }, 1);
        let found = self.inner.get_opts(location, options).await?;
        let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
        let counts = self.counts.clone();
        let count = move |bytes: &Bytes| {
            counts.read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        };
        let stream = found.into_stream().inspect_ok(count);
        Ok(GetResult { payload: GetResultPayload::Stream(stream.boxed()), meta, range, attributes })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.count(|c| &c.gets, ranges.len() as u64);
        let found = self.inner.get_ranges(location, ranges).await?;
        self.count(|c| &c.read, found.iter().map(|bytes| bytes.len() as u64).sum());
        Ok(found)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.counted(self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.counted(self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.count(|c| &c.lists, 1);
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
