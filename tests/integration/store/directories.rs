//! Regions in directories that are emptied, replaced, unmounted, full, read-only or fold names: clear errors, nothing invented.

use std::os::unix::fs::symlink;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use lakeseal::clock::SystemClock;
use lakeseal::lake::{self, InitPlan, ProfileConfig, RegionConfig};
use lakeseal::region::directory::DirectoryStore;
use lakeseal::region::{check, layout};
use lakeseal::{Error, ErrorKind};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::content;
use super::crash::lake::{CrashLake, Shape};

pub const THREE_AND_TWO: Shape = Shape { data: 3, parity: 2, spare: 0, fsync: false, retention_seconds: 1000 };

pub fn create() -> PutOptions {
    PutOptions { mode: PutMode::Create, ..PutOptions::default() }
}

pub fn kind(error: object_store::Error) -> ErrorKind {
    Error::from(error).kind()
}

fn empty(directory: &FsPath) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
    }
}

fn copy_tree(from: &FsPath, to: &FsPath) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() { copy_tree(&path, &to.join(name)) } else { std::fs::copy(&path, to.join(name)).map(|_| ()).unwrap() }
    }
}

fn unavailable(outcome: Result<()>, what: &str) {
    match outcome {
        Ok(()) => panic!("{what}: was answered"),
        Err(error) => {
            assert!(!matches!(error, object_store::Error::NotFound { .. }), "{what}: {error}");
            assert_eq!(kind(error), ErrorKind::Unavailable, "{what}");
        }
    }
}

/// Every kind of request answers *unavailable*, and leaves the directory as it is.
pub async fn is_unavailable(region: &DirectoryStore, there: &Path, case: &str) {
    let before = files(region.root());
    let absent = Path::from("i/none!/ffffffffffffffff.0000000000");
    unavailable(region.get(&absent).await.map(|_| ()), &format!("{case}: get of an absent key"));
    if !region.root().join(there.as_ref()).exists() {
        unavailable(region.get(there).await.map(|_| ()), &format!("{case}: get"));
    }
    unavailable(region.put_opts(&absent, "vote".into(), create()).await.map(|_| ()), &format!("{case}: create"));
    unavailable(region.put(&absent, "shard".into()).await.map(|_| ()), &format!("{case}: put"));
    unavailable(region.put_multipart(&absent).await.map(|_| ()), &format!("{case}: multipart"));
    unavailable(region.delete(&absent).await.map(|_| ()), &format!("{case}: delete"));
    unavailable(region.list(None).try_collect::<Vec<_>>().await.map(|_| ()), &format!("{case}: list"));
    unavailable(region.list(Some(&Path::from("i/none!"))).try_collect::<Vec<_>>().await.map(|_| ()), &format!("{case}: list of a folder"));
    unavailable(region.list_with_delimiter(None).await.map(|_| ()), &format!("{case}: list of a level"));
    assert_eq!(files(region.root()), before, "{case}: something was written");
}

pub fn files(directory: &FsPath) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(listing) = std::fs::read_dir(directory) else { return found };
    for entry in listing {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

/// A directory with an `id`, opened as a region is: by reading it.
pub async fn region(directory: &FsPath) -> (DirectoryStore, Path) {
    let store = DirectoryStore::new(directory, false);
    store.put_opts(&layout::id_key(), "region of a lake".into(), create()).await.unwrap();
    let key = layout::entry_key(&"t/a".into(), 0, 0).unwrap();
    store.put_opts(&key, "vote".into(), create()).await.unwrap();
    let opened = DirectoryStore::new(directory, false);
    opened.get(&layout::id_key()).await.unwrap();
    (opened, key)
}

#[tokio::test]
async fn a_directory_that_is_emptied_replaced_or_removed_while_it_is_open_is_unavailable() {
    type Change = fn(&FsPath);
    let changes: [(&str, Change); 6] = [
        ("emptied", empty),
        ("without its id", |root| std::fs::remove_file(root.join("id")).unwrap()),
        ("removed", |root| std::fs::remove_dir_all(root).unwrap()),
        ("made anew", |root| {
            std::fs::remove_dir_all(root).unwrap();
            std::fs::create_dir(root).unwrap();
        }),
        ("another incarnation", |root| {
            empty(root);
            std::fs::write(root.join("id"), "region of another lake").unwrap();
        }),
        ("a file", |root| {
            std::fs::remove_dir_all(root).unwrap();
            std::fs::write(root, "x").unwrap();
        }),
    ];
    for (name, change) in changes {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("r");
        std::fs::create_dir(&root).unwrap();
        let (store, key) = region(&root).await;
        let kept = parent.path().join("kept");
        copy_tree(&root, &kept);
        change(&root);
        is_unavailable(&store, &key, name).await;
        // Once it is what it was, it is itself again: an unmounted disk that is mounted again.
        if root.is_dir() {
            std::fs::remove_dir_all(&root).unwrap()
        } else {
            let _ = std::fs::remove_file(&root);
        }
        std::fs::rename(&kept, &root).unwrap();
        assert_eq!(store.get(&key).await.unwrap().bytes().await.unwrap(), "vote", "{name}");
        assert_eq!(kind(store.get(&Path::from("i/none")).await.unwrap_err()), ErrorKind::NotFound, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_whose_regions_are_emptied_while_it_is_open_neither_loses_a_name_nor_gives_it_twice() {
    for emptied in [vec![0], vec![3, 4], vec![0, 1, 2]] {
        let directory = tempfile::tempdir().unwrap();
        let lake = CrashLake::made(directory.path(), THREE_AND_TWO).await;
        let store = lake.open().await;
        let (path, bytes) = (Path::from("t/a"), content(1, 200_000));
        store.put(&path, bytes.clone().into()).await.unwrap();
        store.put(&"t/small".into(), "small".into()).await.unwrap();
        store.quiesce().await;
        emptied.iter().for_each(|index| empty(&lake.region(*index)));
        store.forget();
        let (read, again) = (store.get(&path).await, store.put_opts(&"t/small".into(), "second".into(), create()).await);
        if emptied.len() <= 2 {
            assert!(read.unwrap().bytes().await.unwrap() == bytes, "{emptied:?}");
            assert!(matches!(again, Err(object_store::Error::AlreadyExists { .. })), "{emptied:?}: {again:?}");
            store.put(&"t/new".into(), content(2, 100_000).into()).await.unwrap();
        } else {
            // Empty acceptors would be a quorum of regions that never heard of the object.
            assert_eq!(kind(read.unwrap_err()), ErrorKind::Unavailable, "{emptied:?}");
            assert!(again.is_err_and(|error| !matches!(error, object_store::Error::AlreadyExists { .. })), "{emptied:?}");
        }
        store.quiesce().await;
        for index in emptied {
            assert_eq!(files(&lake.region(index)), Vec::<PathBuf>::new(), "an emptied region was written to");
        }
    }
}

#[tokio::test]
async fn what_stopped_writers_left_is_never_listed_and_is_removed_after_a_day() {
    let directory = tempfile::tempdir().unwrap();
    let staging = directory.path().join("#tmp-staging");
    std::fs::create_dir(&staging).unwrap();
    let day = std::time::Duration::from_secs(24 * 60 * 60);
    for (name, age) in [("old", day * 2), ("young", day / 2)] {
        let file = std::fs::File::create(staging.join(name)).unwrap();
        file.set_modified(file.metadata().unwrap().modified().unwrap() - age).unwrap();
    }
    let store = DirectoryStore::new(directory.path(), false);
    assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap(), []);
    assert!(staging.join("old").exists(), "readers delete nothing");
    store.put(&Path::from("i/a"), "x".into()).await.unwrap();
    assert!(!staging.join("old").exists() && staging.join("young").exists());
    assert_eq!(std::fs::read_dir(&staging).unwrap().count(), 1);
}

#[tokio::test]
async fn a_region_may_be_a_link_to_a_directory_but_not_a_file_or_a_link_to_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let (real, link) = (parent.path().join("real"), parent.path().join("link"));
    std::fs::create_dir(&real).unwrap();
    symlink(&real, &link).unwrap();
    let store = DirectoryStore::new(&link, true);
    store.make_root().unwrap();
    store.put(&Path::from("i/a"), "x".into()).await.unwrap();
    assert_eq!(std::fs::read(real.join("i/a")).unwrap(), b"x");
    std::fs::remove_dir_all(&real).unwrap();
    assert_eq!(kind(store.get(&Path::from("i/a")).await.unwrap_err()), ErrorKind::Unavailable);
    assert_eq!(kind(store.put(&Path::from("i/a"), "x".into()).await.unwrap_err()), ErrorKind::Unavailable);
    assert!(store.make_root().is_err() && !real.exists(), "a link to nothing is no place for a region");
    let file = parent.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let store = DirectoryStore::new(&file, true);
    assert!(store.make_root().is_err());
    assert_eq!(kind(store.put(&Path::from("i/a"), "x".into()).await.unwrap_err()), ErrorKind::Unavailable);
    assert_eq!(std::fs::read(&file).unwrap(), b"x");
}

#[tokio::test]
async fn one_directory_is_not_taken_for_two_regions() {
    let parent = tempfile::tempdir().unwrap();
    std::fs::create_dir(parent.path().join("r0")).unwrap();
    symlink(parent.path().join("r0"), parent.path().join("r1")).unwrap();
    let region = |i| RegionConfig { fsync: false, ..RegionConfig::new(format!("r{i}").parse().unwrap(), format!("r{i}")) };
    let plan = InitPlan {
        config_path: parent.path().join("lakeseal.toml"),
        name: "twice".to_owned(),
        regions: (0..3).map(region).collect(),
        profile: ProfileConfig::new(2, 1),
        lakes_keys: parent.path().join("keys"),
        clock: Arc::new(SystemClock),
    };
    let error = lake::init(plan).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    assert!(!parent.path().join("lakeseal.toml").exists());
}

/// A store that takes names for one when they differ by case only, as some file systems do.
#[derive(Debug)]
struct Folding(InMemory);

impl Folding {
    fn fold(key: &Path) -> Path {
        Path::parse(key.as_ref().to_lowercase()).unwrap()
    }
}

impl std::fmt::Display for Folding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a folding store")
    }
}

#[async_trait]
impl ObjectStore for Folding {
    async fn put_opts(&self, key: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.0.put_opts(&Self::fold(key), payload, options).await
    }

    async fn put_multipart_opts(&self, key: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(&Self::fold(key), options).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(&Self::fold(key), options).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(keys.map_ok(|key| Self::fold(&key)).boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix.map(Self::fold).as_ref())
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix.map(Self::fold).as_ref()).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(&Self::fold(from), &Self::fold(to), options).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_folds_names_is_refused_by_the_region_check() {
    let store: Arc<dyn ObjectStore> = Arc::new(Folding(InMemory::new()));
    let report = check(&store).await;
    let distinct = report.results.iter().find(|result| result.name == "distinct names").unwrap();
    assert!(!report.passed() && !distinct.passed, "{report:?}");
}
