//! A store for writers that shows no part of a log which nothing vouches for.
//!
//! Engines take schema, protocol, constraints and column mapping from checksum files, hints and compacted commits where they find them. A
//! writer that believed a forged one would accept rows that the table's constraints forbid. Commits say it all, and where they are all
//! there, no checkpoint is needed either. Where they are not, one checkpoint is: the one that audits and queries judge the table by, unless it is
//! one that readers differ in.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result,
};

use parking_lot::Mutex;

use super::Location;
use crate::table::judged_checkpoint;

const LOG_FOLDER: &str = "_delta_log";

/// Any store, less the files of one table's log that nothing vouches for. Writes go through.
#[derive(Debug, Clone)]
pub struct TrustedLog {
    inner: Arc<dyn ObjectStore>,
    log: Path,
    /// The objects of the one checkpoint that is shown; none where the commits are all there.
    judged: Arc<BTreeSet<Path>>,
    /// Checkpoints that were written through this: whoever wrote one asks how large it became.
    written: Arc<Mutex<BTreeSet<Path>>>,
}

/// Hints, checksums and compacted commits: engines can do without, and nothing vouches for them.
pub(super) fn is_hint(name: &str) -> bool {
    name == "_last_checkpoint" || name.ends_with(".crc") || name.ends_with(".compacted.json")
}

impl TrustedLog {
    /// The table at `location` as its writers should see it.
    ///
    /// Cost: one LIST of the log, to see whether its commits are all there. Where they are not, the checkpoints that tell the state are read.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) when those tell different states: other engines would not go on from the one
    /// that is written to. [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) when one of them tells different states to different readers, or the
    /// log has a gap. Those of the store.
    pub async fn of(location: &Location) -> crate::error::Result<Location> {
        let log = location.root().clone().join(LOG_FOLDER);
        let judged = judged_checkpoint(location.store().as_ref(), location.root()).await.map_err(|e| e.with("table", location.name()))?;
        location.through(Arc::new(Self { inner: location.store().clone(), log, judged: Arc::new(judged), written: Arc::default() }))
    }

    fn is_hidden(&self, path: &Path) -> bool {
        let Some(mut rest) = path.prefix_match(&self.log) else { return false };
        let Some(name) = rest.next().map(|part| part.as_ref().to_owned()) else { return false };
        // Sidecars are found by the checkpoint that names them alone.
        is_hint(&name) || name == "_sidecars" && self.judged.is_empty() || name.contains(".checkpoint.") && !self.judged.contains(path)
    }

    fn note_written(&self, path: &Path) {
        if self.is_hidden(path) && !path.filename().is_some_and(is_hint) {
            self.written.lock().insert(path.clone());
        }
    }

    fn check(&self, path: &Path) -> Result<()> {
        if !self.is_hidden(path) || self.written.lock().contains(path) {
            return Ok(());
        }
        Err(object_store::Error::NotFound { path: path.to_string(), source: "nothing vouches for this part of the log".into() })
    }
}

impl fmt::Display for TrustedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustedLog({})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for TrustedLog {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let put = self.inner.put_opts(location, payload, options).await?;
        self.note_written(location);
        Ok(put)
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.note_written(location);
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.check(location)?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.check(location)?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        self.inner.list(prefix).try_filter(move |meta| std::future::ready(!this.is_hidden(&meta.location))).boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        self.inner.list_with_offset(prefix, offset).try_filter(move |meta| std::future::ready(!this.is_hidden(&meta.location))).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let mut found = self.inner.list_with_delimiter(prefix).await?;
        found.objects.retain(|meta| !self.is_hidden(&meta.location));
        found.common_prefixes.retain(|folder| !self.is_hidden(folder));
        Ok(found)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.check(from)?;
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.check(from)?;
        self.inner.rename_opts(from, to, options).await
    }
}
