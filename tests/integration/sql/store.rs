//! The verified store itself: which objects exist, and which bytes it releases.

use futures::StreamExt;
use lakeseal::verify::VerifiedStore;

use super::*;

const BLOCK: u64 = 65_536;

async fn opened(fixture: &Fixture) -> VerifiedStore {
    let session = fixture.session(ReadMode::Latest).await;
    session.register("opened", &fixture.location).await.unwrap().store().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_range_is_exactly_what_was_sealed() {
    let fixture = Fixture::sealed().await;
    let (path, store) = (fixture.data_file().await, opened(&fixture).await);
    let bytes = fixture.get(&path).await;
    let size = bytes.len() as u64;
    assert!(size > BLOCK && size < 2 * BLOCK, "the file has a whole block and a part of one");
    let slice = |range: &Range<u64>| bytes.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap());
    let edges = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, size - 1, size];
    let ranges: Vec<Range<u64>> =
        edges.iter().flat_map(|from| edges.iter().map(move |to| *from..*to)).filter(|r| r.start <= r.end).collect();
    for _ in 0..2 {
        let found = store.get_ranges(&path, &ranges).await.unwrap();
        assert!(ranges.iter().zip(&found).all(|(range, found)| *found == slice(range)));
    }
    for range in ranges.iter().filter(|range| range.start < range.end) {
        assert_eq!(store.get_range(&path, range.clone()).await.unwrap(), slice(range), "{range:?}");
    }
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), bytes);
    assert_eq!(store.head(&path).await.unwrap().size, size);
    assert!(store.get_ranges(&path, std::slice::from_ref(&(0..size + 1))).await.is_err());
    assert_eq!(store.recorder().damages(), Vec::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_belongs_to_the_table_exists() {
    let fixture = Fixture::sealed().await;
    let path = fixture.data_file().await;
    for stranger in ["flights/_delta_log/00000000000000000000.checkpoint.parquet", "flights/x.parquet", "secret"] {
        fixture.lake.store.put(&Path::from(stranger), "x".into()).await.unwrap();
    }
    let store = opened(&fixture).await;
    let listed: Vec<String> = store.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
    assert_eq!(listed, ["flights/_delta_log/00000000000000000000.json", path.as_ref()]);
    for hidden in ["flights/x.parquet", "secret", "flights/_seal", "flights/_delta_log/_last_checkpoint"] {
        assert!(matches!(store.get(&Path::from(hidden)).await, Err(object_store::Error::NotFound { .. })), "{hidden}");
    }
    assert!(store.put(&path, "x".into()).await.is_err() && store.delete(&path).await.is_err());
    assert!(fixture.get(&path).await.len() > 1, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_block_is_withheld_and_the_others_are_not() {
    let fixture = Fixture::sealed().await;
    let path = fixture.data_file().await;
    let good = fixture.get(&path).await;
    let mut bytes = good.to_vec();
    bytes[usize::try_from(BLOCK).unwrap() + 100] ^= 1;
    fixture.lake.store.put(&path, bytes.into()).await.unwrap();
    let store = opened(&fixture).await;
    assert_eq!(store.get_range(&path, 10..BLOCK).await.unwrap(), good.slice(10..usize::try_from(BLOCK).unwrap()));
    assert_eq!(store.recorder().damages(), Vec::new());
    let error = store.get_range(&path, BLOCK - 1..BLOCK + 1).await.unwrap_err();
    names(Error::find(&error).unwrap(), &["table: flights", path.filename().unwrap(), "row group: 2", "column:"]);
    assert_eq!(store.recorder().damages().len(), 1);
    let pieces: Vec<_> = store.get(&path).await.unwrap().into_stream().collect().await;
    assert_eq!(pieces.len(), 2, "the first block, then the error");
    assert!(pieces[0].as_ref().is_ok_and(|first| *first == good.slice(..usize::try_from(BLOCK).unwrap())) && pieces[1].is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_or_missing_file_is_a_difference() {
    for gone in [false, true] {
        let fixture = Fixture::sealed().await;
        let path = fixture.data_file().await;
        let store = opened(&fixture).await;
        let bytes = fixture.get(&path).await;
        match gone {
            true => fixture.lake.store.delete(&path).await.unwrap(),
            false => drop(fixture.lake.store.put(&path, bytes.slice(..bytes.len() - 1).into()).await.unwrap()),
        }
        let error = store.get_range(&path, bytes.len() as u64 - 8..bytes.len() as u64).await.unwrap_err();
        names(Error::find(&error).unwrap(), &["table: flights", path.filename().unwrap()]);
        names(&fixture.number("SELECT SUM(id) FROM flights").await.unwrap_err(), &["table: flights", path.filename().unwrap()]);
    }
}
