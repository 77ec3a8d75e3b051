//! Older versions stay readable, and bring back whatever a writer overwrote or deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use lakeseal::clock::SystemClock;
use lakeseal::lake::testing::lake_over;
use lakeseal::store::{ErasureStore, Profile, VersionState};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt as _};

use super::{content, memory, store_over};

fn small_segments() -> Profile {
    Profile { segment_bytes: 256 * 1024, inline_bytes: 1000, ..Profile::new(3, 2) }
}

fn of(version: &str) -> GetOptions {
    GetOptions { version: Some(version.to_owned()), ..GetOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_overwritten_and_deleted_objects_are_listed_and_read_also_by_another_process() {
    let profile = small_segments();
    let (regions, writer, _) = lake_over(3, 2, 0, memory(5)).unwrap();
    let writer = Arc::new(writer);
    let open = || ErasureStore::new(Arc::clone(&regions), profile.clone(), Some(Arc::clone(&writer)), Arc::new(SystemClock)).unwrap();
    let store = open();
    let path = Path::from("t/a");
    let bodies = [content(1, 700_000), content(2, 300), content(3, 400_000)];
    let mut texts = Vec::new();
    for body in &bodies {
        texts.push(store.put(&path, body.clone().into()).await.unwrap().version.unwrap());
    }
    store.delete(&path).await.unwrap();
    store.quiesce().await;
    assert!(store.get(&path).await.is_err());
    for store in [store, open()] {
        let versions = store.versions(&path).await.unwrap();
        let states: Vec<_> = versions.iter().map(|version| (version.slot, version.state, version.size)).collect();
        let readable = VersionState::Readable;
        assert_eq!(states, [(3, VersionState::Tombstone, 0), (2, readable, 400_000), (1, readable, 300), (0, readable, 700_000)]);
        assert_eq!(versions.iter().skip(1).rev().map(|version| version.version.clone().unwrap()).collect::<Vec<_>>(), texts);
        assert!(versions.is_sorted_by_key(|version| std::cmp::Reverse(version.modified_ms)));
        assert!(versions[0].superseded_ms.is_none() && versions[1..].iter().all(|version| version.superseded_ms.is_some()));
        for (text, body) in texts.iter().zip(&bodies) {
            let head = store.get_opts(&path, GetOptions { head: true, ..of(text) }).await.unwrap();
            assert_eq!((head.meta.size, head.meta.version.as_deref()), (body.len() as u64, Some(text.as_str())));
            assert!(store.get_opts(&path, of(text)).await.unwrap().bytes().await.unwrap() == *body);
            let range = GetOptions { range: Some(GetRange::Bounded(77..299)), ..of(text) };
            assert_eq!(store.get_opts(&path, range).await.unwrap().bytes().await.unwrap(), body[77..299]);
        }
        let tombstone = versions[0].version.clone().unwrap();
        assert!(matches!(store.get_opts(&path, of(&tombstone)).await, Err(object_store::Error::NotFound { .. })));
        assert_eq!(store.restore(&path, &tombstone).await.unwrap_err().kind(), lakeseal::ErrorKind::InvalidInput);
        assert_eq!(store.versions(&Path::from("t/none")).await.unwrap_err().kind(), lakeseal::ErrorKind::NotFound);
    }
    let store = open();
    store.undelete(&path).await.unwrap();
    assert!(store.get(&path).await.unwrap().bytes().await.unwrap() == bodies[2]);
    assert_eq!(store.undelete(&path).await.unwrap_err().kind(), lakeseal::ErrorKind::AlreadyExists);
    let restored = store.restore(&path, &texts[0]).await.unwrap();
    assert!(!texts.contains(restored.version.as_ref().unwrap()), "a restored version is a new one");
    assert!(store.get(&path).await.unwrap().bytes().await.unwrap() == bodies[0]);
    assert!(store.versions(&path).await.unwrap().iter().all(|version| !version.republished));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_who_overwrites_and_deletes_everything_destroys_nothing() {
    let (store, faults) = store_over(small_segments(), memory(5));
    // Also when regions let the writer only create.
    faults.iter().for_each(|fault| fault.creates_only(true));
    let mut all: BTreeMap<Path, (Bytes, String)> = BTreeMap::new();
    for number in 0..40 {
        let path = Path::from(format!("t/{}/{number:03}", number % 3));
        let body = Bytes::from(content(number, [0, 200, 5_000, 400_000][number % 4] + number));
        let version = store.put(&path, body.clone().into()).await.unwrap().version.unwrap();
        all.insert(path, (body, version));
    }
    for path in all.keys().step_by(2) {
        store.put(path, Bytes::from_static(b"ransom").into()).await.unwrap();
    }
    let listed = store.list(None).map_ok(|meta| meta.location).boxed();
    let deleted: Vec<Path> = store.delete_stream(listed).try_collect().await.unwrap();
    assert_eq!(deleted.len(), all.len());
    assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap(), []);
    store.forget();
    for (path, (body, version)) in &all {
        assert!(store.get_opts(path, of(version)).await.unwrap().bytes().await.unwrap() == *body);
        store.restore(path, version).await.unwrap();
    }
    let listed: Vec<_> = store.list(None).map_ok(|meta| meta.location).try_collect().await.unwrap();
    assert!(listed.iter().eq(all.keys()));
    for (path, (body, _)) in &all {
        assert!(store.get(path).await.unwrap().bytes().await.unwrap() == *body, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_asked_for_through_any_stack_of_stores() {
    use lakeseal::store::{readable_versions, retained_names, retained_versions};
    let (regions, writer, _) = lake_over(3, 2, 0, memory(5)).unwrap();
    let store = ErasureStore::new(regions, small_segments(), Some(Arc::new(writer)), Arc::new(SystemClock)).unwrap();
    let (path, other) = (Path::from("t/a"), Path::from("t/b"));
    for body in [content(1, 500), content(2, 500), content(3, 400)] {
        store.put(&path, body.into()).await.unwrap();
    }
    store.put(&other, content(4, 10).into()).await.unwrap();
    store.delete(&path).await.unwrap();
    let stacked = object_store::throttle::ThrottledStore::new(store, object_store::throttle::ThrottleConfig::default());
    assert_eq!(retained_versions(&stacked, &path).await.unwrap().unwrap().len(), 4);
    let same_size = readable_versions(&stacked, &path, 500).await.unwrap().unwrap();
    assert_eq!(same_size.len(), 2);
    let newest = stacked.get_opts(&path, of(&same_size[0])).await.unwrap().bytes().await.unwrap();
    assert!(newest == content(2, 500));
    assert_eq!(retained_names(&stacked, &Path::from("t")).await.unwrap().unwrap(), [path.clone(), other]);
    assert_eq!(retained_versions(&stacked, &Path::from("t/none")).await.unwrap().unwrap(), []);
    // A store that keeps no versions gives no answer, rather than an empty one.
    let plain = object_store::memory::InMemory::new();
    plain.put(&path, "x".into()).await.unwrap();
    assert!(retained_versions(&plain, &path).await.unwrap().is_none());
    assert!(retained_names(&plain, &path).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_while_its_object_is_renamed_is_not_deleted() {
    for size in [10, 300_000] {
        let (store, faults) = store_over(Profile { inline_bytes: 1000, ..Profile::new(3, 2) }, memory(5));
        let (from, to) = (Path::from("t/from"), Path::from("t/to"));
        store.put(&from, content(1, size).into()).await.unwrap();
        faults.iter().for_each(|fault| fault.hold(|key| key.as_ref().starts_with("i/t-/to!/")));
        let (renamer, source, target) = (store.clone(), from.clone(), to.clone());
        let rename = tokio::spawn(async move { renamer.rename(&source, &target).await });
        while faults.iter().any(|fault| fault.held() == 0) {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        store.put(&from, content(2, size).into()).await.unwrap();
        faults.iter().for_each(lakeseal::lake::testing::FaultyRegion::release);
        let error = rename.await.unwrap().unwrap_err();
        assert!(matches!(error, object_store::Error::Precondition { .. }), "{error}");
        assert!(error.to_string().contains("the copy of what it was before stays"), "{error}");
        assert_eq!(store.get(&from).await.unwrap().bytes().await.unwrap(), content(2, size), "what was acknowledged is there");
        assert_eq!(store.get(&to).await.unwrap().bytes().await.unwrap(), content(1, size));
        // Nobody in between: the rename goes through, also over what stands there.
        store.rename(&from, &to).await.unwrap();
        assert!(matches!(store.head(&from).await, Err(object_store::Error::NotFound { .. })));
        assert_eq!(store.get(&to).await.unwrap().bytes().await.unwrap(), content(2, size));
    }
}
