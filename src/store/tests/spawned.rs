//! What takes long can be handed to another task: its futures are `Send`, references of their own included. That this compiles is the test.

use super::*;

fn assert_send<T: Send>(future: T) -> T {
    future
}

#[tokio::test]
async fn what_takes_long_can_be_spawned() {
    let lab = Lab::new(0);
    lab.put("t/a", content(1, 90_000)).await;
    let path = Path::from("t/a");
    let (store, key, at) = (lab.store.clone(), Arc::clone(&lab.key), path.clone());
    let scrubbing = assert_send(async move { store.scrub(&ScrubOptions::default(), &()).await });
    assert!(tokio::spawn(scrubbing).await.unwrap().unwrap().is_clean());
    let store = lab.store.clone();
    tokio::spawn(assert_send(async move { store.survey(&()).await })).await.unwrap().unwrap();
    let store = lab.store.clone();
    tokio::spawn(assert_send(async move { store.repair_hinted(1).await })).await.unwrap().unwrap();
    let store = lab.store.clone();
    let versions = assert_send(async move { store.versions(&at).await });
    assert_eq!(tokio::spawn(versions).await.unwrap().unwrap().len(), 1);
    let (store, collector) = (lab.store.clone(), Arc::clone(&key));
    let collecting = assert_send(async move { store.collect(&CollectOptions::default(), &collector, &|_| {}).await });
    tokio::spawn(collecting).await.unwrap().unwrap();
    let store = lab.store.clone();
    let purging = assert_send(async move { store.purge(&path, &key).await });
    assert_eq!(tokio::spawn(purging).await.unwrap().unwrap().collected, 1);
    assert_eq!(lab.shards().await, 0);
}
