//! Stores that deliver something else than they did.

use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;

use super::*;
use crate::error::ErrorKind;
use crate::lake::testing::{FaultStore, FaultyRegion};
use crate::table;

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
