//! Writers with credentials that cannot delete: a lake works fully for them, and its past is out of their reach.

use futures::TryStreamExt as _;
use lakeseal::lake::ProfileConfig;
use lakeseal::region::check_writer;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, WriteMultipart};

use super::{Server, Servers, TIMEOUT_MS, bytes_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_works_for_writers_who_cannot_delete() {
    let Some(servers) = Servers::for_test("a_lake_works_for_writers_who_cannot_delete").await else { return };
    let lake =
        servers.lake_with("writer", ProfileConfig { segment_bytes: 1 << 20, ..ProfileConfig::new(3, 2) }, "-writer", TIMEOUT_MS).await;
    // The credentials refuse it, wherever there are credentials.
    for server in servers.regions.iter().filter(|server| server.kind != "directory") {
        let store = server.open(&format!("{}-writer", server.name), &lake.folder);
        let key = Path::from("id");
        let refused = store.delete(&key).await.unwrap_err();
        println!("{}: a delete is refused: {}", server.name, refused.to_string().lines().next().unwrap_or_default());
        store.get(&key).await.unwrap();
        // Whether what is there can be written over differs: SeaweedFS has no condition for it, Azure's `create` permission does not reach.
        let copy = Path::from("check-overwrite");
        store.put_opts(&copy, "1".into(), PutMode::Create.into()).await.unwrap();
        let overwritten = store.put(&copy, "2".into()).await;
        println!("{}: overwriting is {}", server.name, if overwritten.is_ok() { "possible" } else { "refused" });
        assert!(server.kind != "azurite" || overwritten.is_err());
    }
    let store = lake.open().await;
    let (small, large) = (Path::from("small"), Path::from("dir/large"));
    store.put_opts(&small, "one".into(), PutMode::Create.into()).await.unwrap();
    let lost = store.put_opts(&small, "two".into(), PutMode::Create.into()).await.unwrap_err();
    assert!(matches!(lost, object_store::Error::AlreadyExists { .. }), "{lost}");
    let sharded = store.put_opts(&small, bytes_of(1, 100_000).into(), PutMode::Create.into()).await.unwrap_err();
    assert!(matches!(sharded, object_store::Error::AlreadyExists { .. }), "its shards cannot be taken back, and that is all: {sharded}");
    store.put(&small, "three".into()).await.unwrap();
    let content = bytes_of(2, 5_000_000);
    let mut upload = WriteMultipart::new(store.put_multipart(&large).await.unwrap());
    upload.write(&content);
    upload.finish().await.unwrap();
    let mut dropped = store.put_multipart(&Path::from("dropped")).await.unwrap();
    dropped.put_part(PutPayload::from_bytes(bytes_of(3, 6_000_000))).await.unwrap();
    dropped.abort().await.unwrap();
    store.copy(&large, &Path::from("copy")).await.unwrap();
    let version = store.head(&large).await.unwrap().version;
    store.delete(&large).await.unwrap();
    store.quiesce().await;

    let cold = lake.open().await;
    assert!(matches!(cold.get(&large).await.unwrap_err(), object_store::Error::NotFound { .. }));
    assert_eq!(cold.get(&small).await.unwrap().bytes().await.unwrap(), "three");
    assert_eq!(cold.get(&Path::from("copy")).await.unwrap().bytes().await.unwrap(), content);
    let listed: Vec<Path> = cold.list(None).map_ok(|meta| meta.location).try_collect().await.unwrap();
    assert_eq!(listed, [Path::from("copy"), small]);
    // What a writer deleted is still there.
    let options = GetOptions { version, ..GetOptions::default() };
    assert_eq!(cold.get_opts(&large, options).await.unwrap().bytes().await.unwrap(), content);
}

/// The failed tests of `region check --as writer`.
async fn failed_as_writer(server: &Server, credentials: &str) -> Vec<&'static str> {
    let report = check_writer(&server.open(credentials, "checked-as-writer")).await;
    for result in &report.results {
        let word = if result.passed { "passed" } else { "FAILED" };
        println!("{credentials}: {}: {word}: {}", result.name, result.detail.lines().next().unwrap_or_default());
    }
    report.results.iter().filter(|result| !result.passed).map(|result| result.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_cannot_delete_pass_as_a_writers_and_full_ones_do_not() {
    let Some(servers) = Servers::for_test("credentials_that_cannot_delete_pass_as_a_writers_and_full_ones_do_not").await else { return };
    for server in &servers.regions {
        assert_eq!(failed_as_writer(server, &server.name).await, ["may not overwrite", "may not delete"], "{}", server.name);
        let expected: &[&str] = match server.kind.as_str() {
            "azurite" => &[],
            // Its policies know no condition that would keep what is there from being written over.
            "seaweedfs" => &["may not overwrite"],
            _ => continue,
        };
        assert_eq!(failed_as_writer(server, &format!("{}-writer", server.name)).await, expected, "{}", server.name);
    }
}
