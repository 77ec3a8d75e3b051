//! A region in a directory of a file system.
//!
//! Differs from `object_store`'s `LocalFileSystem` where a region must: what is acknowledged is on the disk (file and
//! directories are synced), the root is never made anew (an empty region would be an acceptor that forgot its votes), lists come in
//! the order of the keys' bytes, and an offset skips whole directories. Limits: no attributes, no `PutMode::Update`, symbolic links
//! are not listed, empty directories are kept, `a` and `a/b` cannot both be keys (physical keys never are), and an object
//! is visible to readers an instant before its directory is synced.

mod files;
mod root;
mod upload;
mod walk;

use std::fmt;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, RenameTargetMode, Result,
};

use files::{Files, Placing};

use crate::error::{Error, ErrorKind};

/// How much of a file is read at a time, in bytes.
const CHUNK_BYTES: u64 = 1024 * 1024;
/// Deletes of one stream that run at once.
const DELETES_AT_ONCE: usize = 8;

/// An `ObjectStore` over a directory that must exist.
#[derive(Debug, Clone)]
pub struct DirectoryStore {
    files: Arc<Files>,
}

impl DirectoryStore {
    /// A store whose keys are paths below `root`. Nothing is touched yet; while `root` is missing every request fails.
    ///
    /// Without `fsync` a crash of the machine may lose what was acknowledged: for tests, and for what can be made again.
    pub fn new(root: impl Into<PathBuf>, fsync: bool) -> Self {
        Self::of(root.into(), fsync, true)
    }

    /// As [`Self::new`], of a directory that is no region: a table's, for messages.
    pub fn of_table(root: impl Into<PathBuf>) -> Self {
        Self::of(root.into(), true, false)
    }

    fn of(root: PathBuf, fsync: bool, of_region: bool) -> Self {
        let root = std::path::absolute(&root).unwrap_or(root);
        Self { files: Arc::new(Files::new(root, fsync, of_region)) }
    }

    /// The root directory.
    pub fn root(&self) -> &std::path::Path {
        self.files.root()
    }

    /// Makes the root directory if there is none: only when a lake is initialised.
    ///
    /// # Errors
    /// [`ErrorKind::Permission`] or [`ErrorKind::Io`] when the operating system refuses.
    pub fn make_root(&self) -> crate::Result<()> {
        self.files.make_root()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        key: &Path,
        work: impl FnOnce(&Files, &Path) -> crate::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (files, owned) = (Arc::clone(&self.files), key.clone());
        blocking(key, move || work(&files, &owned)).await
    }

    fn walk(&self, prefix: Option<&Path>, offset: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let walk = walk::Walk::new(Arc::clone(&self.files), prefix, offset);
        let key = prefix.cloned().unwrap_or_default();
        stream::try_unfold((walk, key), |(mut walk, key)| async move {
            let (walk, batch) = blocking(&key, move || walk.batch().map(|batch| (walk, batch))).await?;
            Ok::<_, object_store::Error>((!batch.is_empty()).then(|| (stream::iter(batch.into_iter().map(Ok)), (walk, key))))
        })
        .try_flatten()
        .boxed()
    }
}

async fn blocking<T: Send + 'static>(key: &Path, work: impl FnOnce() -> crate::Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| error.into_object_store(key)),
        Err(join) => Err(Error::new(ErrorKind::Internal, "a file operation was broken off").caused_by(join).into_object_store(key)),
    }
}

fn refuse_attributes(attributes: &Attributes) -> Result<()> {
    if attributes.is_empty() { Ok(()) } else { Err(not_implemented("attributes")) }
}

fn not_implemented(operation: &str) -> object_store::Error {
    object_store::Error::NotImplemented { operation: operation.to_owned(), implementer: "DirectoryStore".to_owned() }
}

fn put_result(meta: ObjectMeta) -> PutResult {
    PutResult { e_tag: meta.e_tag, version: None }
}

impl fmt::Display for DirectoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "directory {}", self.root().display())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for DirectoryStore {
    async fn put_opts(&self, key: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        refuse_attributes(&options.attributes)?;
        let placing = match options.mode {
            PutMode::Overwrite => Placing::Overwrite,
            PutMode::Create => Placing::Create,
            PutMode::Update(_) => {
                return Err(not_implemented("put_opts with PutMode::Update"));
            }
        };
        self.blocking(key, move |files, key| files.write(key, &payload, placing)).await.map(put_result)
    }

    async fn put_multipart_opts(&self, key: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        refuse_attributes(&options.attributes)?;
        let files = Arc::clone(&self.files);
        let owned = key.clone();
        let upload = blocking(key, move || upload::Upload::begin(files, owned)).await?;
        Ok(Box::new(upload))
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        let (file, meta) = self.blocking(key, Files::open).await?;
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => resolve(range, meta.size, key)?,
            None => 0..meta.size,
        };
        let payload = if options.head { stream::empty().boxed() } else { chunks(file, range.clone(), key.clone()) };
        Ok(GetResult { payload: GetResultPayload::Stream(payload), meta, range, attributes: Attributes::default() })
    }

    async fn get_ranges(&self, key: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let ranges = ranges.to_vec();
        let read = move |files: &Files, key: &Path| {
            let (mut file, meta) = files.open(key)?;
            let read = |range: Range<u64>| {
                let range = resolve(&GetRange::Bounded(range), meta.size, key)?;
                read_range(&mut file, range, key)
            };
            ranges.into_iter().map(read).collect::<Result<Vec<_>>>().map_err(Error::from)
        };
        self.blocking(key, read).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let files = Arc::clone(&self.files);
        keys.map(move |key| {
            let files = Arc::clone(&files);
            async move {
                let key = key?;
                let owned = key.clone();
                blocking(&key, move || files.remove(&owned)).await.map(|()| key)
            }
        })
        .buffered(DELETES_AT_ONCE)
        .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.walk(prefix, None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.walk(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let key = prefix.cloned().unwrap_or_default();
        self.blocking(&key, walk::list_directory).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let placing = match options.mode {
            CopyMode::Overwrite => Placing::Overwrite,
            CopyMode::Create => Placing::Create,
        };
        let target = to.clone();
        let copied = self.blocking(from, move |files, from| files.copy(from, &target, placing)).await;
        copied.map_err(|error| name_target(error, to))
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let placing = match options.target_mode {
            RenameTargetMode::Overwrite => Placing::Overwrite,
            RenameTargetMode::Create => Placing::Create,
        };
        let target = to.clone();
        let renamed = self.blocking(from, move |files, from| files.rename(from, &target, placing)).await;
        renamed.map_err(|error| name_target(error, to))
    }
}

/// An existing target is what *already exists* speaks of, not the source.
fn name_target(error: object_store::Error, to: &Path) -> object_store::Error {
    match error {
        object_store::Error::AlreadyExists { source, .. } => object_store::Error::AlreadyExists { path: to.to_string(), source },
        other => other,
    }
}

fn resolve(range: &GetRange, size: u64, key: &Path) -> Result<Range<u64>> {
    let refuse = |what: String| Err(Error::new(ErrorKind::InvalidInput, what).into_object_store(key));
    match range {
        GetRange::Bounded(range) if range.start >= range.end => refuse(format!("the range {range:?} is empty")),
        GetRange::Bounded(range) if range.start >= size => refuse(format!("the range {range:?} begins behind the {size} bytes")),
        GetRange::Offset(start) if *start >= size => refuse(format!("the offset {start} lies behind the {size} bytes")),
        GetRange::Bounded(range) => Ok(range.start..range.end.min(size)),
        GetRange::Offset(start) => Ok(*start..size),
        GetRange::Suffix(length) => Ok(size.saturating_sub(*length)..size),
    }
}

/// Reads exactly `range`, which lies within the file.
fn read_range(file: &mut std::fs::File, range: Range<u64>, key: &Path) -> Result<Bytes> {
    let refuse = |error: std::io::Error| files::refused(error, "reading").with("key", key).into_object_store(key);
    file.seek(SeekFrom::Start(range.start)).map_err(refuse)?;
    let length = range.end - range.start;
    // The range lies within the file's own size, so memory for it may be taken at once: growing would copy what was read.
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.take(length).read_to_end(&mut bytes).map_err(refuse)?;
    if u64::try_from(bytes.len()) != Ok(length) {
        return Err(Error::new(ErrorKind::Corrupt, "a file became shorter while it was read").with("key", key).into_object_store(key));
    }
    Ok(bytes.into())
}

fn chunks(file: std::fs::File, range: Range<u64>, key: Path) -> BoxStream<'static, Result<Bytes>> {
    stream::try_unfold((file, range, key), |(mut file, range, key)| async move {
        if range.start >= range.end {
            return Ok(None);
        }
        let end = range.end.min(range.start + CHUNK_BYTES);
        let owned = key.clone();
        let part = range.start..end;
        let read = move || read_range(&mut file, part, &owned).map(|bytes| (file, bytes)).map_err(Error::from);
        let (file, bytes) = blocking(&key, read).await?;
        Ok(Some((bytes, (file, end..range.end, key))))
    })
    .boxed()
}

#[cfg(test)]
mod tests;
