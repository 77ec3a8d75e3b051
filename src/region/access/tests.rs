use object_store::memory::InMemory;

use super::*;
use crate::lake::testing::{FaultStore, FaultyRegion};
use crate::region::layout;

fn memory() -> (Arc<InMemory>, Region) {
    let store = Arc::new(InMemory::new());
    let region = Region::new("a".parse().unwrap(), 0, Arc::clone(&store) as _, RegionOptions::default());
    (store, region)
}

#[tokio::test]
async fn create_says_who_was_first() {
    let (_, region) = memory();
    let key = Path::from("k");
    assert_eq!(region.create(&key, "one".into()).await.unwrap(), Created::Made);
    assert_eq!(region.create(&key, "two".into()).await.unwrap(), Created::Exists);
    assert_eq!(region.get(&key, 3).await.unwrap().unwrap(), "one");
    assert_eq!(region.get(&key, 2).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(region.get(&Path::from("other"), 3).await.unwrap(), None);
    assert_eq!(region.requests(), RequestCounts { creates: 2, gets: 3, failures: 1, ..RequestCounts::default() });
}

#[tokio::test]
async fn ranges_have_their_exact_length() {
    let (_, region) = memory();
    let key = Path::from("k");
    region.put(&key, "0123456789".into()).await.unwrap();
    assert_eq!(region.get_ranges(&key, &[0..2, 8..10]).await.unwrap(), ["01", "89"]);
    let error = region.get_ranges(&key, std::slice::from_ref(&(8..12))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert_eq!(region.get_ranges(&Path::from("x"), std::slice::from_ref(&(0..1))).await.unwrap_err().kind(), ErrorKind::NotFound);
    region.delete(&key).await.unwrap();
    region.delete(&key).await.unwrap();
    assert_eq!(region.get(&key, 10).await.unwrap(), None);
}

#[tokio::test]
async fn a_list_is_one_register_and_begins_after_the_offset() {
    let (_, region) = memory();
    let paths: Vec<_> = ["a", "a b", "a!", "a/b", "b"].map(|p| Path::parse(p).unwrap()).into();
    for path in &paths {
        region.create(&layout::entry_key(path, 0, 0).unwrap(), "".into()).await.unwrap();
        region.create(&layout::entry_key(path, 1, 0).unwrap(), "".into()).await.unwrap();
    }
    let one: Vec<_> = region.list(&layout::register_folder(&paths[0]).unwrap(), None).try_collect().await.unwrap();
    let slots: Vec<_> = one.iter().map(|meta| layout::parse_register_key(&meta.location).unwrap().slot).collect();
    assert_eq!(slots, [1, 0]);
    let after = layout::register_after(None, &paths[1]);
    let rest: Vec<_> = region.list(&layout::register_prefix(None), Some(&after)).try_collect().await.unwrap();
    let found: Vec<_> = rest.iter().map(|meta| layout::parse_register_key(&meta.location).unwrap().path.to_string()).collect();
    assert_eq!(found, ["a!", "a!", "a/b", "a/b", "b", "b"]);
}

#[tokio::test]
async fn an_offset_outside_of_the_prefix_begins_before_or_behind_all_of_it() {
    let (store, _) = memory();
    let strict = FaultStore::new(Arc::clone(&store) as _, FaultyRegion::default());
    let region = Region::new("a".parse().unwrap(), 0, Arc::new(strict), RegionOptions::default());
    for key in ["p/a", "p/b", "p-/c", "q"] {
        store.put(&Path::from(key), "".into()).await.unwrap();
    }
    for (after, expected) in [("o", 2), ("p", 2), ("p-/z", 2), ("p/", 2), ("p/a", 1), ("p/b", 0), ("p0", 0), ("q", 0)] {
        let after = Path::parse(after).unwrap_or_default();
        let found: Vec<_> = region.list(&Path::from("p"), Some(&after)).try_collect().await.unwrap();
        assert_eq!(found.len(), expected, "{after}");
    }
    let found: Vec<_> = region.list(&Path::default(), Some(&Path::from("p-/c"))).try_collect().await.unwrap();
    assert_eq!(found.len(), 3);
}

#[tokio::test]
async fn an_unsorted_list_is_an_error() {
    let (store, _) = memory();
    store.put(&Path::from("p/a"), "".into()).await.unwrap();
    store.put(&Path::from("p/b"), "".into()).await.unwrap();
    let mut metas: Vec<_> = store.list(None).try_collect().await.unwrap();
    metas.reverse();
    let walk = Walk {
        inner: stream::iter(metas.into_iter().map(Ok)).boxed(),
        prefix: Path::from("p"),
        last: None,
        timeout: Duration::from_secs(1),
        region: "a".parse().unwrap(),
        metrics: Arc::default(),
    };
    let listed: Vec<_> = stream::try_unfold(walk, Walk::next).collect().await;
    assert!(listed[0].is_ok());
    assert_eq!(listed[1].as_ref().unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_down_region_answers_nothing() {
    let region = Region::down("a".parse().unwrap(), 0, "wiped");
    let key = Path::from("k");
    assert_eq!(region.get(&key, 1).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(region.create(&key, "".into()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let listed: Vec<_> = region.list(&key, None).collect().await;
    let error = listed[0].as_ref().unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("wiped"), "{error}");
    assert!(region.delete(&key).await.is_err());
}

#[test]
fn a_missing_bucket_is_no_missing_key() {
    let missing = |text: &str| object_store::Error::NotFound { path: "k".to_owned(), source: text.to_owned().into() };
    assert!(container_is_missing(&missing("404: <Code>NoSuchBucket</Code>")));
    assert!(!container_is_missing(&missing("404: <Code>NoSuchKey</Code>")));
}

#[tokio::test]
async fn a_silent_region_times_out() {
    let pending = futures::future::pending::<object_store::Result<()>>();
    let error = timed(Duration::from_millis(5), pending).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn shards_that_are_created_or_read_whole_hold_up_no_entry() {
    let fault = FaultyRegion::default();
    let store = FaultStore::new(Arc::new(InMemory::new()), fault.clone());
    let region = Arc::new(Region::new("a".parse().unwrap(), 0, Arc::new(store), RegionOptions::default()).limited_to(2));
    let shard = |number| layout::shard_key(&crate::id::WriteId([7; 16]), 0, 0, number);
    fault.hold(|key| key.as_ref().starts_with("d/"));
    let writes: Vec<_> = (0..4)
        .map(|number| {
            let region = Arc::clone(&region);
            tokio::spawn(async move { region.create(&shard(number), "shard".into()).await })
        })
        .collect();
    while fault.held() < 2 {
        tokio::task::yield_now().await;
    }
    let entry = layout::entry_key(&Path::from("t/a"), 0, 0).unwrap();
    let vote = tokio::time::timeout(Duration::from_secs(1), region.create(&entry, "vote".into())).await;
    assert_eq!(vote.expect("a vote waits for shards").unwrap(), Created::Made);
    assert_eq!(fault.held(), 2, "and so many shards at a time as it is limited to");
    fault.release();
    for write in writes {
        assert_eq!(write.await.unwrap().unwrap(), Created::Made);
    }
}
