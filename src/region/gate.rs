//! A store that may not be used yet: whether it is the lake's region is not known, because it has not answered.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result,
};

use crate::error::{Error, ErrorKind};

/// Says, once, whether a store may be used; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<OnceLock<std::result::Result<(), String>>>);

impl Gate {
    /// `inner`, every request to which fails at once until the gate is opened.
    pub fn before(&self, inner: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        Arc::new(GatedStore { gate: self.clone(), inner })
    }

    /// Opens the gate, or says why it stays closed. Only the first word counts.
    pub fn decide(&self, verdict: std::result::Result<(), String>) {
        let _ = self.0.set(verdict);
    }

    fn check(&self) -> Result<()> {
        let reason = match self.0.get() {
            Some(Ok(())) => return Ok(()),
            Some(Err(reason)) => reason.as_str(),
            None => "it has not answered since the lake was opened",
        };
        Err(Error::new(ErrorKind::Unavailable, format!("the region is down: {reason}")).into_object_store(&Path::default()))
    }
}

#[derive(Debug)]
struct GatedStore {
    gate: Gate,
    inner: Arc<dyn ObjectStore>,
}

impl std::fmt::Display for GatedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for GatedStore {
    async fn put_opts(&self, key: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.gate.check()?;
        self.inner.put_opts(key, payload, options).await
    }

    async fn put_multipart_opts(&self, key: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.gate.check()?;
        self.inner.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        self.gate.check()?;
        self.inner.get_opts(key, options).await
    }

    async fn get_ranges(&self, key: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.gate.check()?;
        self.inner.get_ranges(key, ranges).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.gate.check() {
            Ok(()) => self.inner.delete_stream(keys),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.gate.check() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.gate.check() {
            Ok(()) => self.inner.list_with_offset(prefix, offset),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.gate.check()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.gate.check()?;
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.gate.check()?;
        self.inner.rename_opts(from, to, options).await
    }
}
