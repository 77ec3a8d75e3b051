//! What operations cost: requests, and round trips measured in virtual time with a fixed latency per request. The tables of
//! `docs/costs.md` are these measurements: a change of either is a change of both.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use futures::future::BoxFuture;
use lakeseal::clock::SystemClock;
use lakeseal::lake::testing::{FaultyRegion, memory_lake};
use lakeseal::store::{ErasureStore, Profile};
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, Result};
use tokio::time::Instant;

const LATENCY_MS: u64 = 100;
/// One segment.
const LARGE: usize = 3 * 1024 * 1024;
const LAKES: [(u8, u8); 3] = [(2, 1), (2, 2), (3, 2)];

type Run = fn(ErasureStore) -> BoxFuture<'static, Result<()>>;

struct Row {
    name: &'static str,
    /// Whether the store remembers what it wrote.
    warm: bool,
    run: Run,
}

fn small() -> Path {
    Path::from("t/small")
}

fn large() -> Path {
    Path::from("t/large")
}

fn row(name: &'static str, warm: bool, run: Run) -> Row {
    Row { name, warm, run }
}

async fn read(store: &ErasureStore, path: &Path) -> Result<()> {
    store.get(path).await?.bytes().await.map(drop)
}

fn rows() -> Vec<Row> {
    vec![
        row("put, small, new", false, |store| {
            Box::pin(async move {
                let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                store.put_opts(&Path::from("t/new"), "x".into(), options).await.map(drop)
            })
        }),
        row("put, one segment, new", false, |store| {
            Box::pin(async move { store.put(&Path::from("t/new"), vec![7; LARGE].into()).await.map(drop) })
        }),
        row("multipart, one segment, new", false, |store| {
            Box::pin(async move {
                let mut upload = store.put_multipart(&Path::from("t/new")).await?;
                upload.put_part(vec![7; LARGE].into()).await?;
                upload.complete().await.map(drop)
            })
        }),
        row("overwrite, small, known", true, |store| Box::pin(async move { store.put(&small(), "y".into()).await.map(drop) })),
        row("overwrite, small, cold", false, |store| Box::pin(async move { store.put(&small(), "y".into()).await.map(drop) })),
        row("get, small, cold", false, |store| Box::pin(async move { read(&store, &small()).await })),
        row("get, small, known", true, |store| Box::pin(async move { read(&store, &small()).await })),
        row("get, one segment, cold", false, |store| Box::pin(async move { read(&store, &large()).await })),
        row("get, one segment, known", true, |store| Box::pin(async move { read(&store, &large()).await })),
        row("get, 64 KiB of a segment, cold", false, |store| Box::pin(async move { store.get_range(&large(), 0..65536).await.map(drop) })),
        row("get by version, one segment", true, |store| {
            Box::pin(async move {
                let version = store.head(&large()).await?.version;
                let options = GetOptions { version, ..GetOptions::default() };
                store.get_opts(&large(), options).await?.bytes().await.map(drop)
            })
        }),
        row("head, cold", false, |store| Box::pin(async move { store.head(&large()).await.map(drop) })),
        row("list of two", false, |store| Box::pin(async move { store.list(None).try_collect::<Vec<_>>().await.map(drop) })),
        row("delete, known", true, |store| Box::pin(async move { store.delete(&small()).await })),
        row("copy, small", false, |store| Box::pin(async move { store.copy(&small(), &Path::from("t/copy")).await })),
        row("copy, one segment", false, |store| Box::pin(async move { store.copy(&large(), &Path::from("t/copy")).await })),
    ]
}

fn lake(k: u8, m: u8) -> (ErasureStore, Vec<FaultyRegion>) {
    let (regions, writer, faults) = memory_lake(k, m, k + m).unwrap();
    (ErasureStore::new(regions, Profile::new(k, m), Some(Arc::new(writer)), Arc::new(SystemClock)).unwrap(), faults)
}

/// Round trips until the answer, and all requests until nothing goes on any more.
async fn measure(k: u8, m: u8, down: bool, row: &Row) -> String {
    let (store, faults) = lake(k, m);
    store.put(&small(), "x".into()).await.unwrap();
    store.put(&large(), vec![1; LARGE].into()).await.unwrap();
    store.quiesce().await;
    if !row.warm {
        store.forget();
    }
    faults[0].set_down(down);
    for fault in &faults {
        fault.slow_ms(LATENCY_MS);
        fault.reset_counts();
    }
    let begun = Instant::now();
    let outcome = (row.run)(store.clone()).await;
    let took = begun.elapsed();
    outcome.unwrap_or_else(|error| panic!("{}, {k}+{m}, down {down}: {error}", row.name));
    store.quiesce().await;
    let count = |of: fn(&FaultyRegion) -> u64| faults.iter().map(of).sum::<u64>();
    let kinds = [
        (count(|f| f.counts().lists), "L"),
        (count(|f| f.counts().gets), "G"),
        (count(|f| f.counts().puts), "P"),
        (count(|f| f.counts().creates), "C"),
        (count(|f| f.counts().deletes), "D"),
    ];
    let requests: Vec<String> = kinds.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{count}{kind}")).collect();
    // Timers have a resolution of a millisecond.
    let (ms, slack) = (u64::try_from(took.as_millis()).unwrap(), 20);
    let trips = (ms + slack) / LATENCY_MS;
    assert!((ms + slack) % LATENCY_MS <= 2 * slack, "{}, {k}+{m}, down {down}: something else than requests took time: {took:?}", row.name);
    format!("{trips}: {}", requests.join(" "))
}

#[tokio::test(start_paused = true)]
async fn requests_and_round_trips_are_those_of_the_document() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/costs.md")).unwrap();
    let mut wrong = String::new();
    for down in [false, true] {
        for row in rows() {
            let mut line = format!("| {} |", row.name);
            for (k, m) in LAKES {
                let _ = write!(line, " {} |", measure(k, m, down, &row).await);
            }
            let table = document.split("\n## ").find(|part| part.starts_with(if down { "One region down" } else { "All regions well" }));
            if !table.is_some_and(|table| table.contains(&line)) {
                wrong += &format!("{} {line}\n", if down { "down:" } else { "well:" });
            }
        }
    }
    assert!(wrong.is_empty(), "docs/costs.md does not say what was measured:\n{wrong}");
}

#[tokio::test(start_paused = true)]
async fn a_commit_takes_one_round_trip_and_without_a_fast_quorum_three() {
    let latency = Duration::from_millis(50);
    for (k, m) in LAKES {
        for down in [false, true] {
            let (store, faults) = lake(k, m);
            faults[0].set_down(down);
            faults.iter().for_each(|fault| fault.slow_ms(50));
            for mode in [PutMode::Create, PutMode::Overwrite] {
                let begun = Instant::now();
                let options = PutOptions { mode: mode.clone(), ..PutOptions::default() };
                store.put_opts(&Path::from("t/_delta_log/0.json"), "commit".into(), options).await.unwrap();
                // Of three regions all have to vote alike for a fast decision.
                let limit = if down && k + m == 3 { latency * 3 } else { latency };
                assert!(begun.elapsed() <= limit + Duration::from_millis(5), "{k}+{m}, down {down}, {mode:?}: {:?}", begun.elapsed());
                store.quiesce().await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_create_that_is_too_late_is_told_so_in_three_round_trips_at_most() {
    for (k, m) in LAKES {
        let (store, faults) = lake(k, m);
        for body in ["x", "y"] {
            store.put(&small(), body.into()).await.unwrap();
        }
        store.quiesce().await;
        store.forget();
        faults.iter().for_each(|fault| fault.slow_ms(LATENCY_MS));
        let begun = Instant::now();
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let refused = store.put_opts(&small(), "z".into(), options).await;
        assert!(matches!(refused, Err(object_store::Error::AlreadyExists { .. })), "{refused:?}");
        // The version that is the newest has to be read in a third one when it is not the first.
        assert!(begun.elapsed() <= Duration::from_millis(3 * LATENCY_MS + 20), "{k}+{m}: {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_of_a_gibibyte_like_object_touches_one_region_and_its_own_bytes() {
    let (regions, writer, faults) = memory_lake(3, 2, 5).unwrap();
    let profile = Profile { segment_bytes: 1024 * 1024 * 3, ..Profile::new(3, 2) };
    let store = ErasureStore::new(Arc::clone(&regions), profile, Some(Arc::new(writer)), Arc::new(SystemClock)).unwrap();
    store.put(&large(), vec![5; 30 * 1024 * 1024].into()).await.unwrap();
    store.quiesce().await;
    let bytes = || store.read_statistics().bytes;
    for (start, length) in [(0, 1u64 << 20), (3 << 20, 1 << 20), (10 << 20, 100), ((3 << 20) + 5, 1 << 19)] {
        faults.iter().for_each(FaultyRegion::reset_counts);
        let before = bytes();
        store.get_range(&large(), start..start + length).await.unwrap();
        let touched = faults.iter().filter(|fault| fault.counts().gets > 0).count();
        assert_eq!(touched, 1, "{start}, {length}");
        // Whole blocks, one more at either end.
        assert!(bytes() - before <= length + 2 * 65536, "{start}, {length}: {}", bytes() - before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_region_is_hedged_once_and_gone_around_then_without_more_bytes() {
    let (store, faults) = lake(3, 2);
    store.put(&large(), vec![5; LARGE].into()).await.unwrap();
    store.quiesce().await;
    faults[1].slow_ms(9_000);
    let begun = Instant::now();
    read(&store, &large()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let hedged = store.read_statistics();
    assert_eq!((hedged.hedges, hedged.decodes), (1, 1));
    for _ in 0..5 {
        let version = store.head(&large()).await.unwrap().version;
        let begun = Instant::now();
        let options = GetOptions { version, ..GetOptions::default() };
        store.get_opts(&large(), options).await.unwrap().bytes().await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        // Names were waited for as well, and the cool-down would be over: the test is of reads that follow at once.
        if begun.elapsed() > Duration::ZERO {
            break;
        }
    }
    let after = store.read_statistics();
    assert_eq!(after.hedges, 1);
    assert!(after.avoided > 0 && after.hedged_bytes == hedged.hedged_bytes, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn hedged_bytes_stay_within_their_share() {
    let (regions, writer, faults) = memory_lake(3, 2, 5).unwrap();
    let profile = Profile { hedge_percent: 10, segment_bytes: 192 * 1024, inline_bytes: 0, ..Profile::new(3, 2) };
    let store = ErasureStore::new(regions, profile, Some(Arc::new(writer)), Arc::new(SystemClock)).unwrap();
    store.put(&large(), vec![5; LARGE].into()).await.unwrap();
    store.quiesce().await;
    for round in 0..40u64 {
        // Another region is slow every time, so that going around the last one does not help.
        faults.iter().for_each(|fault| fault.slow_ms(0));
        faults[usize::try_from(round % 3).unwrap()].slow_ms(2_000);
        tokio::time::advance(Duration::from_secs(120)).await;
        read(&store, &large()).await.unwrap();
    }
    let found = store.read_statistics();
    let burst = 4 * 192 * 1024;
    assert!(found.hedges > 0 && found.hedged_bytes <= found.bytes / 10 + burst, "{found:?}");
}

#[tokio::test]
async fn a_dear_regions_data_is_decoded_from_cheap_ones() {
    use lakeseal::region::{Quorums, Region, RegionOptions, RegionSet};
    let stores = super::memory(5);
    let writer = Arc::new(lakeseal::key::PrivateKey::generate().unwrap());
    let region = |index: u8| {
        let name = format!("r{index}").parse().unwrap();
        let region = Region::new(name, index, Arc::clone(&stores[usize::from(index)]), RegionOptions::default());
        Arc::new(if index < 2 { region.costing(90_000) } else { region })
    };
    let set = RegionSet::new(
        lakeseal::id::LakeId::random().unwrap(),
        (0..5).map(region).collect(),
        Quorums::new(5, 0).unwrap(),
        vec![writer.public()],
        0,
    );
    let set = Arc::new(set.unwrap());
    let bytes = super::damage::sample(LARGE);
    let store = ErasureStore::new(Arc::clone(&set), Profile::new(3, 2), Some(Arc::clone(&writer)), Arc::new(SystemClock)).unwrap();
    store.put(&large(), bytes.clone().into()).await.unwrap();
    assert_eq!(store.get(&large()).await.unwrap().bytes().await.unwrap(), bytes);
    let delivered = |index: usize| set.regions()[index].statistics(lakeseal::region::Operation::GetRanges).bytes_out;
    assert_eq!((delivered(0), delivered(1)), (0, 0), "the dear regions' data shards are computed from the cheap regions' parity");
    assert!(delivered(2) > 0 && delivered(3) > 0 && delivered(4) > 0);
    // Ordered by cost, the cheap regions get the data, and nothing is decoded.
    let profile = Profile { placement: lakeseal::erasure::Placement::Ordered, ..Profile::new(3, 2) };
    let ordered = ErasureStore::new(Arc::clone(&set), profile, Some(writer), Arc::new(SystemClock)).unwrap();
    ordered.put(&Path::from("t/home"), bytes.clone().into()).await.unwrap();
    assert_eq!(ordered.get(&Path::from("t/home")).await.unwrap().bytes().await.unwrap(), bytes);
    assert_eq!(ordered.read_statistics().decodes, 0);
    assert_eq!((delivered(0), delivered(1)), (0, 0));
}
