//! What is being done, handed from whoever does it to the store that attests the commit.
//!
//! Engines make the commit's bytes, anew for each attempt, and know nothing of lineage. So the operation travels with the put of the commit, as an
//! extension of its options: a [`OperationStore`] around the location's own store adds it, the attesting store below takes it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions,
};

use super::Location;
use crate::error::Result;
use crate::lineage::Lineage;
use crate::table::parse_commit_path;

/// Says what a commit's files are made from, when the commit is about to be made.
#[async_trait]
pub trait Records: Send + Sync + fmt::Debug {
    /// The lineage, all but its outputs, its time and the engine's versions. What cannot be found out is left open.
    async fn lineage(&self) -> Lineage;
}

/// An operation that is going on.
#[derive(Debug, Clone)]
pub struct Operation(pub Arc<dyn Records>);

#[async_trait]
impl Records for Lineage {
    async fn lineage(&self) -> Lineage {
        self.clone()
    }
}

/// Versions of what writes: `lakeseal`, `deltalake`, `datafusion`, `arrow`.
pub(crate) fn engine_versions() -> BTreeMap<String, String> {
    [
        ("lakeseal", env!("CARGO_PKG_VERSION")),
        ("deltalake", deltalake::crate_version()),
        ("datafusion", datafusion::DATAFUSION_VERSION),
        ("arrow", arrow::ARROW_VERSION),
    ]
    .map(|(name, version)| (name.to_owned(), version.to_owned()))
    .into()
}

/// The name of the user, as the environment has it. A claim.
pub(crate) fn user_name() -> Option<String> {
    ["LAKESEAL_USER", "USER", "LOGNAME", "USERNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()))
}

impl Location {
    /// The same place, for one operation: the commits made through it carry `operation` to the store that attests them.
    ///
    /// # Errors
    /// As [`Location::through`].
    pub fn doing(&self, operation: Operation) -> Result<Self> {
        self.through(Arc::new(OperationStore { inner: self.store().clone(), operation }))
    }
}

/// A store for one operation.
#[derive(Debug, Clone)]
struct OperationStore {
    inner: Arc<dyn ObjectStore>,
    operation: Operation,
}

impl fmt::Display for OperationStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperationStore({})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for OperationStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut options: PutOptions) -> object_store::Result<PutResult> {
        if parse_commit_path(location).is_some() {
            options.extensions.insert(self.operation.clone());
        }
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, object_store::Result<Path>>) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> object_store::Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
