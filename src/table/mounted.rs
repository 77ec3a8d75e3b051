//! A table's store in which other tables are seen, read-only, at the places that [`super::foreign`] gives their files.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyOptions, Extensions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, RenameOptions, Result as StoreResult,
};

use super::ForeignRoots;
use super::path::MOUNTS;
use super::unreached::Unreached;
use crate::ask::ask_with;
use crate::error::{Error, ErrorKind, Result};

/// The URLs of the tables that are asked for, in a signed statement's order: part of the question whose answer is [`OpenedRoots`].
#[derive(Debug, Clone)]
pub(crate) struct WantedRoots(pub(crate) Arc<[String]>);

/// The tables that were asked for, in their order: a store, and the table's place in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenedRoots(pub(crate) Vec<(Arc<dyn ObjectStore>, Path)>);

/// `store` with the tables of `roots` in it, for the table at `root`. Without roots it is `store` itself.
///
/// Which tables a store can reach is for those to say who opened it: the question is answered by whichever decorator knows other tables.
///
/// # Errors
/// [`ErrorKind::Unsupported`] when `store` reaches no other tables; those of opening one of them.
pub(crate) async fn mounted(store: &Arc<dyn ObjectStore>, root: &Path, roots: &ForeignRoots) -> Result<Arc<dyn ObjectStore>> {
    if roots.is_empty() {
        return Ok(store.clone());
    }
    let mut extensions = Extensions::new();
    extensions.insert(WantedRoots(roots.0.iter().map(|one| one.url.clone()).collect()));
    let opened = ask_with::<OpenedRoots>(store.as_ref(), &root.clone().join(MOUNTS), None, extensions).await;
    let unreached = || {
        let what = "the table names files of another table, and this store reaches no other: open the table by its name or URL";
        let error = Error::new(ErrorKind::Unsupported, what);
        roots.0.iter().fold(error, |error, one| error.with("other table", &one.url))
    };
    let OpenedRoots(opened) = opened.ok_or_else(unreached)??;
    if opened.len() != roots.0.len() {
        return Err(unreached());
    }
    let mounts = roots.0.iter().zip(opened).map(|(one, (store, root_there))| Mount { at: one.mount(root), store, root: root_there });
    Ok(Arc::new(MountedStore { inner: store.clone(), mounts: mounts.collect() }))
}

/// As [`mounted`], where that failed with `error`: of the tables of `roots` nothing is known, and every answer is that error.
pub(crate) fn mounted_unreached(store: &Arc<dyn ObjectStore>, root: &Path, roots: &ForeignRoots, error: &Error) -> Arc<dyn ObjectStore> {
    let unreached: Arc<dyn ObjectStore> = Arc::new(Unreached::because(error));
    let mounts = roots.0.iter().map(|one| Mount { at: one.mount(root), store: unreached.clone(), root: Path::default() });
    Arc::new(MountedStore { inner: store.clone(), mounts: mounts.collect() })
}

/// Where another table is seen.
#[derive(Debug, Clone)]
struct Mount {
    at: Path,
    store: Arc<dyn ObjectStore>,
    root: Path,
}

impl Mount {
    /// The object in the other store that is seen as `path`.
    fn there(&self, path: &Path) -> Option<Path> {
        Some(self.root.parts().chain(path.prefix_match(&self.at)?).collect())
    }

    /// As what an object of the other store is seen.
    fn here(&self, path: &Path) -> Path {
        match path.prefix_match(&self.root) {
            Some(below) => self.at.parts().chain(below).collect(),
            None => path.clone(),
        }
    }

    fn seen(&self, meta: ObjectMeta) -> ObjectMeta {
        ObjectMeta { location: self.here(&meta.location), ..meta }
    }
}

#[derive(Debug, Clone)]
struct MountedStore {
    inner: Arc<dyn ObjectStore>,
    mounts: Vec<Mount>,
}

impl MountedStore {
    /// The other table that `path` belongs to, and the object there.
    fn elsewhere(&self, path: &Path) -> Option<(&Mount, Path)> {
        self.mounts.iter().find_map(|mount| Some((mount, mount.there(path)?)))
    }

    fn check_own(&self, path: &Path) -> StoreResult<()> {
        match self.elsewhere(path) {
            None => Ok(()),
            Some(_) => {
                let what = "the file belongs to the table that this one is a clone of, and is only read";
                Err(Error::new(ErrorKind::Permission, what).with("path", path).into_object_store(path))
            }
        }
    }
}

impl fmt::Display for MountedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for MountedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        self.check_own(location)?;
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> StoreResult<Box<dyn MultipartUpload>> {
        self.check_own(location)?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        let Some((mount, there)) = self.elsewhere(location) else { return self.inner.get_opts(location, options).await };
        let found = mount.store.get_opts(&there, options).await?;
        Ok(GetResult { meta: mount.seen(found.meta.clone()), ..found })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        match self.elsewhere(location) {
            Some((mount, there)) => mount.store.get_ranges(&there, ranges).await,
            None => self.inner.get_ranges(location, ranges).await,
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        let this = self.clone();
        let own = locations.map(move |location| location.and_then(|location| this.check_own(&location).map(|()| location)));
        self.inner.delete_stream(own.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let Some((mount, there)) = prefix.and_then(|prefix| self.elsewhere(prefix)) else { return self.inner.list(prefix) };
        let mount = mount.clone();
        let found = mount.store.list((!there.as_ref().is_empty()).then_some(&there));
        found.map_ok(move |meta| mount.seen(meta)).boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        if prefix.and_then(|prefix| self.elsewhere(prefix)).is_none() {
            return self.inner.list_with_offset(prefix, offset);
        }
        let offset = offset.clone();
        self.list(prefix).try_filter(move |meta| std::future::ready(meta.location > offset)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        let Some((mount, there)) = prefix.and_then(|prefix| self.elsewhere(prefix)) else {
            return self.inner.list_with_delimiter(prefix).await;
        };
        let found = mount.store.list_with_delimiter((!there.as_ref().is_empty()).then_some(&there)).await?;
        Ok(ListResult {
            common_prefixes: found.common_prefixes.iter().map(|folder| mount.here(folder)).collect(),
            objects: found.objects.into_iter().map(|meta| mount.seen(meta)).collect(),
        })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.check_own(from)?;
        self.check_own(to)?;
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> StoreResult<()> {
        self.check_own(from)?;
        self.check_own(to)?;
        self.inner.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt as _;
    use object_store::memory::InMemory;

    use super::*;
    use crate::ask::Question;
    use crate::table::foreign::tests::root;

    /// Knows one other table, whatever is asked for.
    #[derive(Debug)]
    struct Knows(InMemory, Arc<dyn ObjectStore>);

    impl fmt::Display for Knows {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("knows")
        }
    }

    #[async_trait]
    impl ObjectStore for Knows {
        async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
            self.0.put_opts(location, payload, options).await
        }

        async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> StoreResult<Box<dyn MultipartUpload>> {
            self.0.put_multipart_opts(location, options).await
        }

        async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
            if let Some(question) = options.extensions.get::<Question<OpenedRoots>>() {
                question.answer(Ok(OpenedRoots(vec![(self.1.clone(), Path::from("there"))])));
            }
            self.0.get_opts(location, options).await
        }

        fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
            self.0.delete_stream(locations)
        }

        fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
            self.0.list(prefix)
        }

        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
            self.0.list_with_delimiter(prefix).await
        }

        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
            self.0.copy_opts(from, to, options).await
        }
    }

    #[tokio::test]
    async fn another_table_is_seen_and_only_read() {
        let other: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        other.put(&Path::from("there/p=1/x"), "other".into()).await.unwrap();
        other.put(&Path::from("secret"), "secret".into()).await.unwrap();
        let store: Arc<dyn ObjectStore> = Arc::new(Knows(InMemory::new(), other.clone()));
        let (table, roots) = (Path::from("t"), ForeignRoots(vec![root("file:///src")]));
        let seen = mounted(&store, &table, &roots).await.unwrap();
        let place = roots.location(&table, "file:///src/p=1/x").unwrap();

        let found = seen.get(&place).await.unwrap();
        assert_eq!(found.meta.location, place);
        assert_eq!(found.bytes().await.unwrap(), "other");
        assert_eq!(seen.get_ranges(&place, std::slice::from_ref(&(1..3))).await.unwrap(), ["th"]);
        let folder = roots.0[0].mount(&table);
        let listed: Vec<Path> = seen.list(Some(&folder)).map_ok(|meta| meta.location).try_collect().await.unwrap();
        assert_eq!(listed, std::slice::from_ref(&place));
        assert!(seen.list_with_offset(Some(&folder), &place).next().await.is_none());
        assert_eq!(seen.list_with_delimiter(Some(&folder)).await.unwrap().common_prefixes.len(), 1);
        let of_table: Vec<ObjectMeta> = seen.list(Some(&table)).try_collect().await.unwrap();
        assert!(of_table.is_empty(), "listings of the table are its own");

        assert!(seen.put(&place, "x".into()).await.is_err());
        assert!(seen.delete(&place).await.is_err());
        assert!(seen.copy(&Path::from("t/a"), &place).await.is_err());
        assert_eq!(other.get(&Path::from("there/p=1/x")).await.unwrap().bytes().await.unwrap(), "other");
        seen.put(&Path::from("t/own"), "own".into()).await.unwrap();
        assert_eq!(store.get(&Path::from("t/own")).await.unwrap().bytes().await.unwrap(), "own");
    }

    #[tokio::test]
    async fn a_store_that_reaches_no_other_table_says_so() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let error = mounted(&store, &Path::from("t"), &ForeignRoots(vec![root("s3://b/src")])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("s3://b/src"), "{error}");
        assert!(Arc::ptr_eq(&mounted(&store, &Path::from("t"), &ForeignRoots::default()).await.unwrap(), &store));
    }
}
