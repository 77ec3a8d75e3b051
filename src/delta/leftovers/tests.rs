use std::sync::Arc;

use object_store::ObjectStore;
use object_store::memory::InMemory;

use super::super::{Import, ImportMode, LakeStore, import};
use super::*;
use crate::baseline::{SealOptions, Sealer, Trust, TrustLevel};
use crate::clock::SystemClock;
use crate::key::PrivateKey;
use crate::table::{BEGUN, commit_path};

const FUTURE_MS: i64 = i64::MAX;

struct World {
    location: Location,
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let lake = LakeStore { name: "test".to_owned(), store: Arc::new(InMemory::new()) };
        Self { location: Location::in_lake(&lake, "t").unwrap(), directory: tempfile::tempdir().unwrap() }
    }

    async fn import(&self, mode: ImportMode) {
        let file = self.directory.path().join("a.csv");
        std::fs::write(&file, "n\n1\n2\n").unwrap();
        import(&self.location, Import { sources: vec![file], mode, ..Import::default() }).await.unwrap();
    }

    async fn put(&self, path: &str) -> Path {
        let path = Path::parse(path).unwrap();
        self.location.store().put(&path, "left".into()).await.unwrap();
        path
    }

    async fn files(&self) -> Vec<Path> {
        let all: Vec<ObjectMeta> = self.location.store().list(None).try_collect().await.unwrap();
        all.into_iter().map(|meta| meta.location).filter(is_data).collect()
    }

    fn signer() -> PrivateKey {
        PrivateKey::from_seed(&[1; 32])
    }

    async fn seal(&self) {
        let (store, root, url) = (self.location.store().clone(), self.location.root().clone(), self.location.url().as_str());
        let sealer = Sealer::new(store, root, url, Self::signer(), Arc::new(SystemClock), SealOptions::default()).unwrap();
        sealer.seal(&()).await.unwrap();
    }

    async fn sealed(&self) -> Vec<SealedTable> {
        let trust = Trust::new([Self::signer().public()], TrustLevel::Given).unwrap();
        vec![self.location.repository().newest_baseline(&trust).await.unwrap().unwrap()]
    }
}

#[tokio::test]
async fn only_what_no_commit_ever_named_is_left_over() {
    let world = World::new();
    world.import(ImportMode::Append).await;
    // What this removes is named by the log still.
    world.import(ImportMode::Overwrite).await;
    let kept = world.files().await;
    assert_eq!(kept.len(), 2);
    let left = [world.put("t/part-0-left.parquet").await, world.put("t/day=1/part-1-left.parquet").await];
    for other in ["t/_seal/evidence/x.parquet", "t/_delta_log/00000000000000000001.checkpoint.parquet.tmp", "t/read.me", "u/part.parquet"] {
        world.put(other).await;
    }
    world.put("t/nested/_delta_log/00000000000000000000.json").await;
    world.put("t/nested/theirs.parquet").await;
    let mut found = leftovers(&world.location, &[], FUTURE_MS).await.unwrap();
    let paths = |found: &Leftovers| found.files.iter().map(|file| file.path.clone()).collect::<Vec<_>>();
    assert_eq!(paths(&found), [left[1].clone(), left[0].clone()]);
    assert_eq!((found.bytes(), found.young, found.sealed, found.begun.clone()), (8, 0, 0, None));
    assert!(found.take_away(&world.location).await.is_empty());
    let after = world.files().await;
    assert!(left.iter().all(|path| !after.contains(path)) && kept.iter().all(|path| after.contains(path)), "{after:?}");
    found = leftovers(&world.location, &[], FUTURE_MS).await.unwrap();
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn what_is_younger_than_the_limit_stays() {
    let world = World::new();
    world.import(ImportMode::Append).await;
    let left = world.put("t/left.parquet").await;
    let written = world.location.store().head(&left).await.unwrap().last_modified.timestamp_millis();
    for (before, young) in [(written, 1), (written + 1, 0)] {
        let found = leftovers(&world.location, &[], before).await.unwrap();
        assert_eq!((found.young, found.files.len() as u64), (young, 1 - young), "{found:?}");
    }
}

#[tokio::test]
async fn what_was_never_made_is_left_over_altogether() {
    let world = World::new();
    let begun = world.put(&format!("t/_delta_log/{BEGUN}")).await;
    world.put("t/left.parquet").await;
    let found = leftovers(&world.location, &[], FUTURE_MS).await.unwrap();
    assert_eq!((found.files.len(), found.begun.clone()), (1, Some(begun.clone())));
    let none_old = leftovers(&world.location, &[], i64::MIN).await.unwrap();
    assert_eq!((none_old.young, none_old.is_empty()), (1, true));
    assert!(found.take_away(&world.location).await.is_empty());
    assert!(world.files().await.is_empty() && world.location.store().head(&begun).await.is_err());
}

#[tokio::test]
async fn a_folder_of_parquet_has_no_leftovers_and_what_is_not_there_is_not_found() {
    let world = World::new();
    assert_eq!(leftovers(&world.location, &[], FUTURE_MS).await.unwrap_err().kind(), ErrorKind::NotFound);
    world.put("t/a.parquet").await;
    assert_eq!(leftovers(&world.location, &[], FUTURE_MS).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// An attacker who takes files out of the log does not have them taken away by the table's owner.
#[tokio::test]
async fn sealed_files_stay_whatever_the_log_says() {
    let world = World::new();
    world.import(ImportMode::Append).await;
    world.import(ImportMode::Append).await;
    let files = world.files().await;
    world.seal().await;
    let sealed = world.sealed().await;
    let (store, root) = (world.location.store(), world.location.root());
    let last = commit_path(root, 1);
    let text = store.get(&last).await.unwrap().bytes().await.unwrap();
    store.delete(&last).await.unwrap();
    let refused = leftovers(&world.location, &sealed, FUTURE_MS).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Mismatch, "{refused}");
    // A commit that names another file in the place of the sealed one.
    let name = files.iter().map(|file| file.filename().unwrap()).find(|name| String::from_utf8_lossy(&text).contains(*name)).unwrap();
    let other = String::from_utf8_lossy(&text).replace(name, "part-other.parquet");
    store.put(&last, other.into()).await.unwrap();
    let found = leftovers(&world.location, &sealed, FUTURE_MS).await.unwrap();
    assert_eq!((found.files.len(), found.sealed), (0, 1), "{found:?}");
    assert_eq!(leftovers(&world.location, &[], FUTURE_MS).await.unwrap().files.len(), 1, "without the baseline nothing would keep it");
}
