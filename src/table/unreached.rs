//! What stands for another table that could not be opened, so that all else can still be judged.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result as StoreResult,
};

use crate::error::{Error, ErrorKind};

/// A store of which nothing is known: each answer is why it could not be opened, and never that something is not there.
#[derive(Debug, Clone)]
pub(super) struct Unreached(Arc<str>);

impl Unreached {
    pub(super) fn because(error: &Error) -> Self {
        Self(error.to_string().into())
    }

    fn error(&self, path: &Path) -> object_store::Error {
        Error::new(ErrorKind::Unavailable, self.0.as_ref()).into_object_store(path)
    }
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table that could not be opened")
    }
}

#[async_trait]
impl ObjectStore for Unreached {
    async fn put_opts(&self, location: &Path, _: PutPayload, _: PutOptions) -> StoreResult<PutResult> {
        Err(self.error(location))
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> StoreResult<Box<dyn MultipartUpload>> {
        Err(self.error(location))
    }

    async fn get_opts(&self, location: &Path, _: GetOptions) -> StoreResult<GetResult> {
        Err(self.error(location))
    }

    fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        let this = self.clone();
        locations.map(move |location| location.and_then(|location| Err(this.error(&location)))).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let error = self.error(&prefix.cloned().unwrap_or_default());
        stream::once(async move { Err(error) }).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        Err(self.error(&prefix.cloned().unwrap_or_default()))
    }

    async fn copy_opts(&self, from: &Path, _: &Path, _: CopyOptions) -> StoreResult<()> {
        Err(self.error(from))
    }
}
