//! Streaming uploads: how much is taken before the regions took it, and that nothing shows before `complete`.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{Attribute, Attributes, ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, WriteMultipart};

use super::collect::Lab;
use super::damage::sample;
use super::{content, memory, store_over};
use lakeseal::ErrorKind;
use lakeseal::lake::testing::FaultyRegion;
use lakeseal::store::Profile;

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn parts_wait_for_the_regions_so_that_memory_is_bounded() {
    let (store, faults) = store_over(Profile::new(3, 2), memory(5));
    let (path, bytes) = (Path::from("t/large"), Bytes::from(sample(64 * MIB)));
    let parts: Vec<Bytes> = (0..bytes.len()).step_by(5 * MIB).map(|at| bytes.slice(at..bytes.len().min(at + 5 * MIB))).collect();
    let mut upload = store.put_multipart(&path).await.unwrap();
    faults.iter().for_each(|fault| fault.slow_ms(4_000));
    let mut taken = 0;
    let mut waiting = None;
    for part in &parts {
        let mut request = upload.put_part(part.clone().into());
        if tokio::time::timeout(Duration::from_millis(700), &mut request).await.is_err() {
            waiting = Some(request);
            break;
        }
        taken += part.len();
    }
    // Three segments of 8 MiB are under way and a fourth is being filled; what is beyond waits at the client.
    assert!(waiting.is_some() && taken <= 35 * MIB, "{taken} bytes were taken while no region had answered");
    assert!(store.get(&path).await.is_err_and(|e| matches!(e, object_store::Error::NotFound { .. })));
    faults.iter().for_each(|fault| fault.slow_ms(0));
    waiting.unwrap().await.unwrap();
    for part in parts.iter().skip(taken / (5 * MIB) + 1) {
        upload.put_part(part.clone().into()).await.unwrap();
    }
    upload.complete().await.unwrap();
    assert!(store.get(&path).await.unwrap().bytes().await.unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_upload_leaves_nothing() {
    let stores = memory(5);
    let (store, _) = store_over(Profile { segment_bytes: MIB as u64, ..Profile::new(3, 2) }, stores.clone());
    let path = Path::from("t/large");
    let mut upload = store.put_multipart(&path).await.unwrap();
    for _ in 0..3 {
        upload.put_part(sample(2 * MIB).into()).await.unwrap();
    }
    upload.abort().await.unwrap();
    store.quiesce().await;
    assert!(store.get(&path).await.is_err_and(|e| matches!(e, object_store::Error::NotFound { .. })));
    assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap(), []);
    for region in &stores {
        let left: Vec<_> = region.list(None).try_collect().await.unwrap();
        assert!(left.is_empty(), "orphans are left: {left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_cannot_be_completed_says_why_though_it_is_aborted_behind_that() {
    let (store, faults) = store_over(Profile { inline_bytes: 1000, ..Profile::new(3, 2) }, memory(5));
    let path = Path::from("a");
    let mut upload = WriteMultipart::new(store.put_multipart(&path).await.unwrap());
    upload.write(&content(1, 300_000));
    faults.iter().take(3).for_each(|fault| fault.set_down(true));
    let error = upload.finish().await.unwrap_err();
    assert_eq!(lakeseal::Error::find(&error).unwrap().kind(), ErrorKind::Unavailable, "{error}");
    faults.iter().for_each(|fault| fault.set_down(false));
    let mut upload = store.put_multipart(&path).await.unwrap();
    upload.put_part(content(1, 300_000).into()).await.unwrap();
    upload.complete().await.unwrap();
    upload.abort().await.unwrap();
    store.quiesce().await;
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), content(1, 300_000), "what is done stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_before_a_vote_leaves_no_shards() {
    let lab = Lab::new(0);
    let path = Path::from("a");
    let attributes: Attributes = (0..257).map(|i| (Attribute::Metadata(format!("k{i}").into()), "v")).collect();
    let options = PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
    let error = lab.store.put_opts(&path, content(1, 300_000).into(), options).await.unwrap_err();
    assert_eq!(lakeseal::Error::find(&error).unwrap().kind(), ErrorKind::InvalidInput, "{error}");
    lab.store.quiesce().await;
    assert!(lab.keys("d").await.is_empty());
    let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
    let error = lab.store.put_multipart_opts(&path, options).await.unwrap_err();
    assert_eq!(lakeseal::Error::find(&error).unwrap().kind(), ErrorKind::InvalidInput, "{error}");

    // The regions change while the shards are on their way.
    lab.faults.iter().for_each(|fault| fault.hold(|key| key.as_ref().starts_with("d/")));
    let (put, ()) = tokio::join!(lab.store.put(&path, content(1, 300_000).into()), async {
        while lab.faults.iter().all(|fault| fault.held() == 0) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        lab.regions.note_change();
        lab.faults.iter().for_each(FaultyRegion::release);
    });
    assert_eq!(lakeseal::Error::find(&put.unwrap_err()).unwrap().kind(), ErrorKind::Unavailable);
    lab.store.quiesce().await;
    assert!(lab.keys("d").await.is_empty());
}
