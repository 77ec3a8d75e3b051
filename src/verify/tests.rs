//! Stores that deliver something else than they did.

use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;

use super::*;
use crate::baseline::{RowGroups, SealOptions, SealedFile, Sealer, Trust, TrustLevel};
use crate::clock::SystemClock;
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::key::PrivateKey;
use crate::lake::testing::{FaultStore, FaultyRegion};
use crate::table::{self, FileKey, ForeignRoot, ForeignRoots, LiveFile};

const LOG: &str = r#"{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}
{"metaData":{"id":"5fba94ed-9794-4965-ba6e-6ee3c0d22af9","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":[]}","partitionColumns":[],"configuration":{},"createdTime":1}}
"#;

#[tokio::test]
async fn what_was_replaced_by_something_longer_is_not_read_to_its_end() {
    let (store, root) = (Arc::new(InMemory::new()), Path::from("t"));
    let commit = Path::from("t/_delta_log/00000000000000000000.json");
    // Of more than one block, so that the digest alone does not tell them.
    let log = format!("{LOG}{{\"commitInfo\":{{\"note\":\"{}\"}}}}\n", "x".repeat(100_000));
    store.put(&commit, log.clone().into()).await.unwrap();
    let region = FaultyRegion::default();
    let faulty: Arc<dyn ObjectStore> = Arc::new(FaultStore::new(store, region.clone()));
    let snapshot = table::load(&*faulty, &root, None).await.unwrap();
    let open = async || VerifiedStore::new(faulty.clone(), root.clone(), "t", &snapshot, None).await.unwrap();
    let read = async |verified: VerifiedStore| verified.get(&commit).await?.bytes().await;
    assert_eq!(read(open().await).await.unwrap(), log);
    region.lengthen(|path| path.as_ref().ends_with(".json"));
    let error = Error::from(read(open().await).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Mismatch, "{error}");
    assert_eq!(region.pieces_beyond(), 1, "of 1024, the first tells that it is too long");
}

#[tokio::test]
async fn a_sealed_file_of_another_table_is_verified_in_every_spelling() {
    let (store, root, key) = (Arc::new(InMemory::new()), Path::from("t"), PrivateKey::from_seed(&[1; 32]));
    store.put(&Path::from("t/_delta_log/00000000000000000000.json"), LOG.into()).await.unwrap();
    let options = SealOptions::default();
    let sealer = Sealer::new(store.clone(), root.clone(), "memory:///t", key.clone(), Arc::new(SystemClock), options).unwrap();
    sealer.seal(&()).await.unwrap();
    let trust = Trust::new([key.public()], TrustLevel::SelfMade).unwrap();
    let mut sealed = Repository::new(store.clone(), root.clone()).newest_baseline(&trust).await.unwrap().unwrap();
    let source = ForeignRoot { prefix: "file:///src".into(), url: "file:///src".into(), table_id: "source".into() };
    let roots = ForeignRoots(vec![source]);
    sealed.statement.foreign_roots = roots.clone();
    let live = |path: &str| LiveFile {
        key: FileKey { path: path.to_owned(), deletion_vector: None },
        raw_path: path.to_owned(),
        location: roots.location(&root, path),
        size: 4,
        partition_values: Default::default(),
        stats: None,
        deletion_vector: None,
        other: Default::default(),
        modification_time_ms: 0,
        added_in: None,
    };
    let (first, second) = (live("file:///src/a.parquet"), live("file:/src/./a.parquet"));
    let place = first.location.clone().unwrap();
    assert_eq!(second.location.as_ref(), Some(&place));
    let file = SealedFile {
        live: Arc::new(first),
        version: None,
        digest: Digest::of(b"true"),
        sha256: [0; 32],
        footer: Digest([0; 32]),
        rows: 1,
        rows_encoding: None,
        deleted: None,
        inline_blocks: None,
        row_groups: RowGroups::known(Vec::new()),
    };
    sealed.files.insert(file.live.key.clone(), Arc::new(file));
    // The commits, or a checkpoint, put the other spelling in its place.
    let mut snapshot = table::load(&*store, &root, None).await.unwrap();
    snapshot.files.insert(second.key.clone(), Arc::new(second));
    for (bytes, is_sealed) in [("true", true), ("lies", false)] {
        store.put(&place, bytes.into()).await.unwrap();
        let verified = VerifiedStore::new(store.clone(), root.clone(), "t", &snapshot, Some(&sealed)).await.unwrap();
        let read = async { verified.get(&place).await?.bytes().await };
        assert_eq!(read.await.is_ok(), is_sealed, "{bytes}");
    }
}
