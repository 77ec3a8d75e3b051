//! A table's seals as they were first written, whatever was done to them since.
//!
//! Every object below `_seal/` is written once by honest sealers, under a name that has a digest in it. What is read here proves itself as
//! seals always do: statements by signatures, evidence and block lists by digests.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions,
};

use super::read_only;
use crate::error::{Error, ErrorKind};
use crate::store::{VersionState, retained_names, retained_versions};

/// The objects below one folder in their first versions, deleted ones included; anything else as it is. Read-only.
#[derive(Debug, Clone)]
pub struct FirstSeals {
    store: Arc<dyn ObjectStore>,
    folder: Path,
}

impl FirstSeals {
    /// The view of `folder` of a store that retains versions.
    pub fn new(store: Arc<dyn ObjectStore>, folder: Path) -> Self {
        Self { store, folder }
    }

    fn is_seal(&self, path: &Path) -> bool {
        path.prefix_matches(&self.folder)
    }

    /// The first version of a seal that is still readable, with its size.
    async fn first(&self, path: &Path) -> object_store::Result<String> {
        let failed = |e: Error| e.into_object_store(path);
        let versions = retained_versions(self.store.as_ref(), path).await.map_err(failed)?.unwrap_or_default();
        let first = versions.into_iter().rev().find(|version| version.state == VersionState::Readable).and_then(|version| version.version);
        first.ok_or_else(|| failed(Error::new(ErrorKind::NotFound, "no version of this object is retained").with("path", path)))
    }
}

impl fmt::Display for FirstSeals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FirstSeals({} of {})", self.folder, self.store)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for FirstSeals {
    async fn put_opts(&self, location: &Path, _: PutPayload, _: PutOptions) -> object_store::Result<PutResult> {
        read_only(location)
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        read_only(location)
    }

    async fn get_opts(&self, location: &Path, mut options: GetOptions) -> object_store::Result<GetResult> {
        if self.is_seal(location) && options.version.is_none() {
            options.version = Some(self.first(location).await?);
        }
        self.store.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        if !self.is_seal(location) {
            return self.store.get_ranges(location, ranges).await;
        }
        let version = self.first(location).await?;
        let mut found = Vec::with_capacity(ranges.len());
        for range in ranges {
            let options = GetOptions { version: Some(version.clone()), range: Some(range.clone().into()), ..GetOptions::default() };
            found.push(self.store.get_opts(location, options).await?.bytes().await?);
        }
        Ok(found)
    }

    fn delete_stream(&self, locations: BoxStream<'static, object_store::Result<Path>>) -> BoxStream<'static, object_store::Result<Path>> {
        locations.map(|location| location.and_then(|location| read_only(&location))).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let Some(prefix) = prefix.filter(|prefix| self.is_seal(prefix)).cloned() else { return self.store.list(prefix) };
        let view = self.clone();
        let names = async move {
            let names = retained_names(view.store.as_ref(), &prefix).await.map_err(|e| e.into_object_store(&prefix))?;
            let metas = stream::iter(names.unwrap_or_default()).then(move |path| {
                let view = view.clone();
                async move {
                    match view.get_opts(&path, GetOptions { head: true, ..GetOptions::default() }).await {
                        Ok(result) => Ok(Some(result.meta)),
                        Err(object_store::Error::NotFound { .. }) => Ok(None),
                        Err(error) => Err(error),
                    }
                }
            });
            Ok::<_, object_store::Error>(metas.try_filter_map(|meta| std::future::ready(Ok(meta))))
        };
        stream::once(names).try_flatten().boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let offset = offset.clone();
        self.list(prefix).try_filter(move |meta| std::future::ready(meta.location > offset)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        if prefix.is_some_and(|prefix| self.is_seal(prefix)) {
            return Err(Error::new(ErrorKind::Unsupported, "retained seals are listed whole").into_object_store(&self.folder));
        }
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &Path, to: &Path, _: CopyOptions) -> object_store::Result<()> {
        read_only(to)
    }

    async fn rename_opts(&self, _: &Path, to: &Path, _: RenameOptions) -> object_store::Result<()> {
        read_only(to)
    }
}
