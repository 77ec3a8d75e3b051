use std::sync::Arc;

use object_store::ObjectStoreExt as _;
use object_store::path::Path;

use super::*;
use crate::ask::unchanged_since;
use crate::clock::SystemClock;
use crate::digest::Digest;
use crate::erasure::Profile;
use crate::id::WriteId;
use crate::lake::testing::memory_lake;
use crate::store::ErasureStore;
use crate::store::decide::{Attempt, Draft};

fn store() -> ErasureStore {
    let (regions, writer, _) = memory_lake(3, 2, 5).unwrap();
    let profile = Profile { segment_bytes: 768 * 1024, inline_bytes: 1000, ..Profile::new(3, 2) };
    ErasureStore::new(regions, profile, Some(Arc::new(writer)), Arc::new(SystemClock)).unwrap()
}

fn one(range: Range<u64>) -> Vec<Range<u64>> {
    std::iter::once(range).collect()
}

fn content(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(b"unchanged").finalize_xof().fill(&mut bytes);
    bytes
}

async fn put(store: &ErasureStore, bytes: &[u8]) -> String {
    store.put(&Path::from("f"), bytes.to_vec().into()).await.unwrap().version.unwrap()
}

async fn since(store: &ErasureStore, version: &str) -> Unchanged {
    store.forget();
    unchanged_since(store, &Path::from("f"), version).await.unwrap().unwrap()
}

/// Every edit is outside of what is called the same, and no more than its column of blocks is.
#[tokio::test]
async fn an_edit_leaves_all_but_its_columns_unchanged() {
    let (size, segment, slice) = (3_000_000_usize, 768 * 1024, 256 * 1024);
    let store = store();
    let sealed = content(size);
    let version = put(&store, &sealed).await;
    for at in [0, 1, 65_535, 65_536, slice - 1, slice, segment - 1, segment, 1_500_000, size - 70_000, size - 1] {
        let mut edited = sealed.clone();
        edited[at] ^= 0x40;
        let newest = put(&store, &edited).await;
        let found = since(&store, &version).await;
        assert_eq!((found.version.as_str(), found.size), (newest.as_str(), size as u64));
        let at = at as u64;
        assert!(!found.covers(&(at..at + 1)), "{at}: {found:?}");
        for range in &found.ranges {
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            assert!(sealed[range.clone()] == edited[range], "{at}");
        }
        let same: u64 = found.ranges.iter().map(|range| range.end - range.start).sum();
        assert!(size as u64 - same <= 3 * BLOCK, "{at}: {} bytes are not known to be the same", size as u64 - same);
    }
    put(&store, &sealed).await;
    assert_eq!(since(&store, &version).await.ranges, one(0..size as u64));
}

#[tokio::test]
async fn other_sizes_inline_objects_and_other_codes_are_compared_as_far_as_they_can_be() {
    let store = store();
    let sealed = content(2_000_000);
    let version = put(&store, &sealed).await;
    put(&store, &sealed[..1_000_000]).await;
    // The first segment is cut alike; the second one is shorter.
    assert_eq!(since(&store, &version).await.ranges, one(0..768 * 1024));
    put(&store, &sealed[..500]).await;
    assert_eq!(since(&store, &version).await.ranges, Vec::new());
    let small = put(&store, &sealed[..600]).await;
    put(&store, &sealed[..600]).await;
    assert_eq!(since(&store, &small).await.ranges, one(0..600));
    put(&store, &sealed[1..601]).await;
    assert_eq!(since(&store, &small).await.ranges, Vec::new());
    let path = Path::from("f");
    assert!(unchanged_since(&store, &path, "77.0").await.is_err(), "there is no such version");
    // Other stores do not answer.
    let plain = object_store::memory::InMemory::new();
    plain.put(&path, sealed.into()).await.unwrap();
    assert_eq!(unchanged_since(&plain, &path, "1").await.unwrap(), None);
}

/// Who can sign manifests names the sealed data shards, and parity that decodes to something else: readers that lack a region would get that.
#[tokio::test]
async fn the_sealed_data_shards_beside_other_parity_are_not_unchanged() {
    let store = store();
    let path = Path::from("f");
    let version = put(&store, &content(2_000_000)).await;
    let inner = &store.inner;
    let before = inner.live(&path).await.unwrap();
    let Content::Shards(sharded) = &before.manifest.content else { panic!("it is not inlined") };
    for forged in [3, 4] {
        let mut content = sharded.clone();
        content.roots[forged] = Digest([7; 32]);
        let draft =
            Draft { content: Content::Shards(content), digest: before.manifest.digest, attributes: before.manifest.attributes.clone() };
        let newest = inner.live(&path).await.unwrap();
        let put = inner.propose(&path, Some(&newest), WriteId::random().unwrap(), draft).await.unwrap();
        assert!(matches!(put, Attempt::Won(_)));
        let found = since(&store, &version).await;
        assert_eq!(found.ranges, one(768 * 1024..2_000_000), "nothing is said of the first segment");
    }
}
