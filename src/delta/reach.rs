//! Which other tables a table's store reaches: those that its location could have been, too.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result as StoreResult,
};

use super::location::{LakeStore, Location};
use crate::ask::Question;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{self, ForeignRoot, OpenedRoots, TableKind, WantedRoots};

/// A store that opens other tables for those who ask with URLs of a signed statement ([`crate::table`]). All else goes through.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    inner: Arc<dyn ObjectStore>,
    lake: Option<LakeStore>,
}

impl Reach {
    /// `inner`, with the tables of `lake`, and those in directories and at URLs.
    pub(super) fn over(inner: Arc<dyn ObjectStore>, lake: Option<&LakeStore>) -> Arc<dyn ObjectStore> {
        Arc::new(Self { inner, lake: lake.cloned() })
    }

    fn open(&self, wanted: &WantedRoots) -> Result<OpenedRoots> {
        let open = |url: &String| match Location::parse(url, self.lake.as_ref()) {
            Ok(found) => Ok((found.store().clone(), found.root().clone())),
            // A directory that is gone has none of its files any more.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok((Arc::new(InMemory::new()) as Arc<dyn ObjectStore>, Path::default())),
            Err(error) => Err(error.with("other table", url)),
        };
        wanted.0.iter().map(open).collect::<Result<_>>().map(OpenedRoots)
    }
}

/// What `--foreign-root` names: a table, or `<how the log's paths begin>=<a table>`.
///
/// Cost: that table's log is read, for its id.
///
/// # Errors
/// Those of opening it; [`ErrorKind::InvalidInput`] when it is no Delta table.
pub async fn foreign_root(argument: &str, lake: Option<&LakeStore>) -> Result<ForeignRoot> {
    let (prefix, table) = named(argument);
    let location = Location::parse(table, lake)?;
    let failed = |e: Error| e.with("foreign root", argument);
    let snapshot = table::load(location.store().as_ref(), location.root(), None).await.map_err(failed)?;
    if snapshot.kind != TableKind::Delta {
        return Err(failed(Error::new(ErrorKind::InvalidInput, "a foreign root is a Delta table, and there is a folder of Parquet")));
    }
    let url = location.url().as_str().trim_end_matches('/').to_owned();
    let spelled = if table.contains("://") { table } else { url.as_str() };
    let prefix = prefix.unwrap_or(spelled).trim_end_matches('/').to_owned();
    Ok(ForeignRoot { prefix, url, table_id: snapshot.table_id })
}

/// The prefix and the table; URLs may have a `=` in them, so that it is the one between two of them which parts these.
fn named(argument: &str) -> (Option<&str>, &str) {
    let is_url = |text: &str| text.split_once(":/").is_some_and(|(scheme, _)| !scheme.is_empty() && !scheme.contains('/'));
    let parts = argument.match_indices('=').filter_map(|(at, _)| Some((argument.get(..at)?, argument.get(at + 1..)?)));
    let mut parts = parts.filter(|(prefix, table)| is_url(prefix) && (is_url(table) || table.starts_with(['/', '.', '~'])));
    match parts.next() {
        Some((prefix, table)) => (Some(prefix), table),
        None => (None, argument),
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Reach {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        let asked = (options.extensions.get::<WantedRoots>(), options.extensions.get::<Question<OpenedRoots>>());
        if let (Some(wanted), Some(question)) = asked {
            question.answer(self.open(wanted));
            return Err(object_store::Error::NotFound { path: location.to_string(), source: "it was only asked for other tables".into() });
        }
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> StoreResult<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_root_may_say_how_the_log_spells_it() {
        for (argument, wanted) in [
            ("flights", (None, "flights")),
            ("./p=1/flights", (None, "./p=1/flights")),
            ("s3://b/p=1/flights", (None, "s3://b/p=1/flights")),
            ("file:/data/flights=/mnt/flights", (Some("file:/data/flights"), "/mnt/flights")),
            ("s3a://b/p=1/flights=s3://b/p=1/flights", (Some("s3a://b/p=1/flights"), "s3://b/p=1/flights")),
        ] {
            assert_eq!(named(argument), wanted, "{argument}");
        }
    }

    #[tokio::test]
    async fn a_foreign_root_is_a_delta_table_and_is_stated_with_its_id() {
        let lake = LakeStore { name: "l".to_owned(), store: Arc::new(InMemory::new()) };
        let commit = r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}
{"metaData":{"id":"the id","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":[]}","partitionColumns":[],"configuration":{}}}"#;
        use object_store::ObjectStoreExt as _;
        lake.store.put(&Path::from("src/_delta_log/00000000000000000000.json"), commit.into()).await.unwrap();
        lake.store.put(&Path::from("folder/x.parquet"), "x".into()).await.unwrap();
        let url = "lakeseal://l/src".to_owned();
        let root = foreign_root("src", Some(&lake)).await.unwrap();
        assert_eq!(root, ForeignRoot { prefix: url.clone(), url: url.clone(), table_id: "the id".to_owned() });
        let spelled = foreign_root("lakeseal://old/src=lakeseal://l/src/", Some(&lake)).await.unwrap();
        assert_eq!((spelled.prefix.as_str(), spelled.url), ("lakeseal://old/src", url));
        assert_eq!(foreign_root("folder", Some(&lake)).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(foreign_root("gone", Some(&lake)).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}
