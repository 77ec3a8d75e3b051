use std::sync::Arc;

use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;

use super::super::{Import, ImportMode, LakeStore, import};
use super::*;
use crate::baseline::{SealOptions, Sealer, Trust, TrustLevel};
use crate::clock::SystemClock;
use crate::key::PrivateKey;
use crate::table::{BEGUN, commit_path};

const FUTURE_MS: i64 = i64::MAX;
/// A file as the engine names what it writes.
const ENGINES: &str = "part-00000-0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f9-c000.zstd.parquet";

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

    async fn found(&self, sealed: &[SealedTable], before_ms: i64) -> Result<Leftovers> {
        leftovers(&self.location, sealed, None, before_ms).await
    }

    async fn commit(&self, table: &str, version: u64, lines: &str) {
        self.location.store().put(&commit_path(&Path::from(table), version), lines.to_owned().into()).await.unwrap();
    }

    async fn take_away(&self, found: &Leftovers) -> TakenAway {
        let taken = found.take_away(&self.location).await.unwrap();
        assert!(taken.left.is_empty(), "{taken:?}");
        taken
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
    for other in [
        "t/nested/theirs.parquet",
        "t/folder/_seal/baselines/0.json",
        "t/folder/sealed.parquet",
        "t/_index/a.parquet",
        "t/.staging/a.parquet",
        "t/_a.parquet",
    ] {
        world.put(other).await;
    }
    let mut found = world.found(&[], FUTURE_MS).await.unwrap();
    let paths = |found: &Leftovers| found.files.iter().map(|file| file.path.clone()).collect::<Vec<_>>();
    assert_eq!(paths(&found), [left[1].clone(), left[0].clone()]);
    assert_eq!((found.bytes(), found.young, found.sealed, found.begun.clone()), (8, 0, 0, None));
    assert!(world.take_away(&found).await.stopped.is_none());
    let after = world.files().await;
    assert!(left.iter().all(|path| !after.contains(path)) && kept.iter().all(|path| after.contains(path)), "{after:?}");
    found = world.found(&[], FUTURE_MS).await.unwrap();
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn what_is_younger_than_the_limit_stays() {
    let world = World::new();
    world.import(ImportMode::Append).await;
    let left = world.put("t/left.parquet").await;
    let written = world.location.store().head(&left).await.unwrap().last_modified.timestamp_millis();
    for (before, young) in [(written, 1), (written + 1, 0)] {
        let found = world.found(&[], before).await.unwrap();
        assert_eq!((found.young, found.files.len() as u64), (young, 1 - young), "{found:?}");
    }
}

#[tokio::test]
async fn what_was_never_made_is_left_over_altogether() {
    let world = World::new();
    let begun = world.put(&format!("t/_delta_log/{BEGUN}")).await;
    world.put(&format!("t/{ENGINES}")).await;
    let found = world.found(&[], FUTURE_MS).await.unwrap();
    assert_eq!((found.files.len(), found.begun.clone()), (1, Some(begun.clone())));
    let none_old = world.found(&[], i64::MIN).await.unwrap();
    assert_eq!((none_old.young, none_old.is_empty()), (1, true));
    assert!(world.take_away(&found).await.stopped.is_none());
    assert!(world.files().await.is_empty() && world.location.store().head(&begun).await.is_err());
}

#[tokio::test]
async fn a_folder_of_parquet_has_no_leftovers_and_what_is_not_there_is_not_found() {
    let world = World::new();
    assert_eq!(world.found(&[], FUTURE_MS).await.unwrap_err().kind(), ErrorKind::NotFound);
    world.put("t/a.parquet").await;
    assert_eq!(world.found(&[], FUTURE_MS).await.unwrap_err().kind(), ErrorKind::InvalidInput);
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
    let refused = world.found(&sealed, FUTURE_MS).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Mismatch, "{refused}");
    // A commit that names another file in the place of the sealed one.
    let name = files.iter().map(|file| file.filename().unwrap()).find(|name| String::from_utf8_lossy(&text).contains(*name)).unwrap();
    let other = String::from_utf8_lossy(&text).replace(name, "part-other.parquet");
    store.put(&last, other.into()).await.unwrap();
    let found = world.found(&sealed, FUTURE_MS).await.unwrap();
    assert_eq!((found.files.len(), found.sealed), (0, 1), "{found:?}");
    assert_eq!(world.found(&[], FUTURE_MS).await.unwrap().files.len(), 1, "without the baseline nothing would keep it");
}

#[tokio::test]
async fn where_no_table_was_made_only_what_the_engine_wrote_is_left_over() {
    let world = World::new();
    let begun = world.put(&format!("t/_delta_log/{BEGUN}")).await;
    let (theirs, left) = (world.put("t/theirs.parquet").await, world.put(&format!("t/{ENGINES}")).await);
    let found = world.found(&[], FUTURE_MS).await.unwrap();
    assert_eq!((found.files.len(), &found.files[0].path, found.begun.clone()), (1, &left, None), "they are no folder of Parquet");
    world.take_away(&found).await;
    assert_eq!(world.files().await, [theirs]);
    assert!(world.location.store().head(&begun).await.is_ok());
    // Of a log that has anything else it is not known what it is the log of.
    world.put("t/_delta_log/00000000000000000000.json.tmp").await;
    assert_eq!(world.found(&[], FUTURE_MS).await.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_table_that_is_made_meanwhile_keeps_what_is_there() {
    let world = World::new();
    world.put(&format!("t/_delta_log/{BEGUN}")).await;
    world.put(&format!("t/{ENGINES}")).await;
    let found = world.found(&[], FUTURE_MS).await.unwrap();
    world.import(ImportMode::Append).await;
    let before = world.files().await;
    assert!(world.take_away(&found).await.stopped.is_some());
    assert_eq!(world.files().await, before);
}

#[tokio::test]
async fn what_a_commit_names_that_was_made_meanwhile_stays() {
    let world = World::new();
    world.import(ImportMode::Append).await;
    let (first, second) = (world.put("t/first.parquet").await, world.put("t/second.parquet").await);
    let changes = world.put("t/_change_data/third.parquet").await;
    let found = world.found(&[], FUTURE_MS).await.unwrap();
    assert_eq!(found.files.len(), 3);
    let add = r#"{"add":{"path":"first.parquet","partitionValues":{},"size":4,"modificationTime":0,"dataChange":true}}"#;
    let cdc = r#"{"cdc":{"path":"_change_data/third.parquet","partitionValues":{},"size":4,"dataChange":false}}"#;
    world.commit("t", 1, &format!("{add}\n{cdc}\n")).await;
    let taken = world.take_away(&found).await;
    assert_eq!((taken.files, taken.named), (1, 2), "{taken:?}");
    let after = world.files().await;
    assert!(after.contains(&first) && after.contains(&changes) && !after.contains(&second), "{after:?}");
    // A commit after which the log alone does not tell any more.
    let left = world.put("t/left.parquet").await;
    let found = world.found(&[], FUTURE_MS).await.unwrap();
    assert_eq!(found.files.len(), 1, "{found:?}");
    let protocol = r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["catalogManaged"],"writerFeatures":["catalogManaged"]}}"#;
    world.commit("t", 2, protocol).await;
    let taken = world.take_away(&found).await;
    assert!(taken.stopped.as_ref().is_some_and(|why| why.to_string().contains("catalogManaged")) && taken.files == 0, "{taken:?}");
    assert!(world.files().await.contains(&left));
    assert_eq!(world.found(&[], FUTURE_MS).await.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn while_commits_are_staged_nothing_is_left_over() {
    for staged in ["_staged_commits/00000000000000000001.0f1e2d3c.json", ".tmp/00000000000000000001.json"] {
        let world = World::new();
        world.import(ImportMode::Append).await;
        let staged = world.put(&format!("t/_delta_log/{staged}")).await;
        let refused = world.found(&[], FUTURE_MS).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
        assert!(refused.to_string().contains(staged.as_ref()), "{refused}");
    }
}

#[tokio::test]
async fn outside_of_a_lake_nothing_is_taken_away() {
    let world = World::new();
    world.import(ImportMode::Append).await;
    let left = world.put("t/left.parquet").await;
    let url = url::Url::parse("memory:///t").unwrap();
    let outside = Location::in_store(world.location.store().clone(), Path::from("t"), url, "./t").unwrap();
    let found = leftovers(&outside, &[], None, FUTURE_MS).await.unwrap();
    assert_eq!(found.files.len(), 1);
    assert_eq!(found.take_away(&outside).await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert!(world.files().await.contains(&left));
}

/// A shallow clone's log names files of its source, in whatever spelling.
#[tokio::test]
async fn what_another_table_of_the_lake_names_stays() {
    let world = World::new();
    world.import(ImportMode::Append).await;
    let (cloned, dropped, left) =
        (world.put("t/cloned.parquet").await, world.put("t/dropped.parquet").await, world.put("t/left.parquet").await);
    let made = r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}
{"metaData":{"id":"clone","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":[]}","partitionColumns":[],"configuration":{}}}"#;
    let file = |action: &str, path: &str| {
        format!(r#"{{"{action}":{{"path":"{path}","partitionValues":{{}},"size":4,"modificationTime":0,"dataChange":true}}}}"#)
    };
    let both = [file("add", "lakeseal://test/t/cloned.parquet"), file("add", "s3a://elsewhere/t/dropped.parquet")].join("\n");
    // What it names of its own is another matter.
    world.commit("clone", 0, &format!("{made}\n{both}\n{}", file("add", "left.parquet"))).await;
    world.commit("clone", 1, &file("remove", "s3a://elsewhere/t/dropped.parquet")).await;
    let found = world.found(&[], FUTURE_MS).await.unwrap();
    assert_eq!(found.files.iter().map(|file| &file.path).collect::<Vec<_>>(), [&left]);
    world.take_away(&found).await;
    let after = world.files().await;
    assert!(after.contains(&cloned) && after.contains(&dropped) && !after.contains(&left), "{after:?}");
    // What a table names that cannot be read is not known.
    world.put("t/another.parquet").await;
    world.commit("clone", 2, "{\"add\":{").await;
    let refused = world.found(&[], FUTURE_MS).await.unwrap_err();
    assert!(refused.to_string().contains("clone"), "{refused}");
}

#[tokio::test]
async fn the_youngest_of_all_that_is_there_is_told() {
    let world = World::new();
    world.import(ImportMode::Append).await;
    let newest = world.location.store().head(&commit_path(world.location.root(), 0)).await.unwrap().last_modified.timestamp_millis();
    let found = world.found(&[], FUTURE_MS).await.unwrap();
    assert!(found.is_empty() && found.youngest_ms.is_some_and(|youngest| youngest >= newest), "{found:?}");
}
