//! The object store over five real regions: what clients may rely on.

use std::collections::BTreeSet;
use std::path::Path as FsPath;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use lakeseal::lake::ProfileConfig;
use lakeseal::store::ErasureStore;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, UpdateVersion, WriteMultipart};

use super::{SECOND_PROCESS, Servers, bytes_of, ci, expect_passed, open, second_process};
use crate::store::conformance;

#[tokio::test(flavor = "multi_thread")]
async fn the_conformance_suite_passes_over_servers() {
    let Some(servers) = Servers::for_test("the_conformance_suite_passes_over_servers").await else { return };
    let lake = servers.lake("conformance", ProfileConfig::new(3, 2)).await;
    let start = Instant::now();
    conformance::run(&lake.open().await).await;
    println!("conformance over servers: {} ms", start.elapsed().as_millis());
}

#[tokio::test(flavor = "multi_thread")]
async fn large_objects_and_ranges_are_read_as_they_were_written() {
    let Some(servers) = Servers::for_test("large_objects_and_ranges_are_read_as_they_were_written").await else { return };
    let lake = servers.lake("large", ProfileConfig { segment_bytes: 1 << 20, ..ProfileConfig::new(3, 2) }).await;
    let store = lake.open().await;
    let content = bytes_of(1, 11 * (1 << 20) + 12_345);
    let (whole, parts) = (Path::from("large/put"), Path::from("large/multipart"));
    store.put(&whole, content.clone().into()).await.unwrap();
    let mut upload = WriteMultipart::new(store.put_multipart(&parts).await.unwrap());
    content.chunks(700_001).for_each(|chunk| upload.write(chunk));
    upload.finish().await.unwrap();
    // Another process has nothing remembered.
    let cold = lake.open().await;
    for path in [&whole, &parts] {
        assert_eq!(cold.get(path).await.unwrap().bytes().await.unwrap(), content, "{path}");
        let size = content.len() as u64;
        let ranges = [0..1, 65_535..65_537, 1_048_575..1_048_577, 349_500..2_500_000, size - 1..size, 5..5 + 64 * 1024];
        let found = cold.get_ranges(path, &ranges).await.unwrap();
        for (range, found) in ranges.iter().zip(&found) {
            let (start, end) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
            assert_eq!(found, &content.slice(start..end), "{path} {range:?}");
            assert_eq!(cold.get_range(path, range.clone()).await.unwrap(), found, "{path} {range:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_are_conditional_and_older_versions_stay() {
    let Some(servers) = Servers::for_test("updates_are_conditional_and_older_versions_stay").await else { return };
    let lake = servers.lake("update", ProfileConfig::new(3, 2)).await;
    let (store, rival) = (lake.open().await, lake.open().await);
    let path = Path::from("counter");
    let first = store.put(&path, bytes_of(0, 40_000).into()).await.unwrap();
    let update = |seen: &object_store::PutResult| PutMode::Update(UpdateVersion::from(seen.clone())).into();
    let second = rival.put_opts(&path, bytes_of(1, 40_000).into(), update(&first)).await.unwrap();
    let stale = store.put_opts(&path, bytes_of(2, 40_000).into(), update(&first)).await.unwrap_err();
    assert!(matches!(stale, object_store::Error::Precondition { .. }), "{stale}");
    store.put_opts(&path, bytes_of(3, 40_000).into(), update(&second)).await.unwrap();
    for (version, seed) in [(first.version, 0), (second.version, 1), (None, 3)] {
        let options = GetOptions { version, ..GetOptions::default() };
        assert_eq!(rival.get_opts(&path, options).await.unwrap().bytes().await.unwrap(), bytes_of(seed, 40_000));
    }
    rival.delete(&path).await.unwrap();
    assert!(matches!(store.get(&path).await.unwrap_err(), object_store::Error::NotFound { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_many_pages_is_whole_and_sorted() {
    let Some(servers) = Servers::for_test("a_listing_of_many_pages_is_whole_and_sorted").await else { return };
    let count: u32 = if ci() { 700 } else { 3000 };
    let lake = servers.lake("list", ProfileConfig::new(3, 2)).await;
    let store = lake.open().await;
    let name = |i: u32| Path::from(format!("many/{:02}/part {i:05}.x", i % 7));
    let start = Instant::now();
    let puts = stream::iter(0..count).map(|i| {
        let store = &store;
        async move { store.put(&name(i), format!("object {i}").into()).await }
    });
    puts.buffer_unordered(32).try_collect::<Vec<_>>().await.unwrap();
    store.quiesce().await;
    println!("{count} puts of small objects, 32 at once: {} ms", start.elapsed().as_millis());

    let expected: BTreeSet<Path> = (0..count).map(name).collect();
    let cold = lake.open().await;
    let start = Instant::now();
    let listed: Vec<Path> = cold.list(None).map_ok(|meta| meta.location).try_collect().await.unwrap();
    println!("a list of {count} names: {} ms", start.elapsed().as_millis());
    assert!(listed.iter().eq(&expected), "{} names are listed", listed.len());
    let middle = name(count / 2);
    let rest: Vec<Path> = cold.list_with_offset(None, &middle).map_ok(|meta| meta.location).try_collect().await.unwrap();
    assert!(rest.iter().eq(expected.iter().filter(|path| **path > middle)));
    let folders = cold.list_with_delimiter(Some(&Path::from("many"))).await.unwrap();
    assert_eq!((folders.common_prefixes.len(), folders.objects.len()), (7, 0));
}

/// Tasks of each of the two processes below.
const RACERS: u64 = 8;

/// All tasks of this process create `race/<round>`; says what each was told.
async fn race(store: &ErasureStore, round: u64, first: u64) -> Vec<(u64, &'static str)> {
    let racers = (first..first + RACERS).map(|racer| {
        let store = store.clone();
        tokio::spawn(async move {
            let payload = PutPayload::from_bytes(bytes_of(racer, 300));
            let told = match store.put_opts(&Path::from(format!("race/{round}")), payload, PutMode::Create.into()).await {
                Ok(_) => "won",
                Err(object_store::Error::AlreadyExists { .. }) => "lost",
                Err(error) => {
                    println!("racer {racer} in round {round}: {error}");
                    "unknown"
                }
            };
            (racer, told)
        })
    });
    let mut told = Vec::new();
    for racer in racers.collect::<Vec<_>>() {
        told.push(racer.await.unwrap());
    }
    told
}

async fn wait_for_file(path: &FsPath) {
    while !path.exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_of_one_name_by_two_processes_have_one_winner() {
    let rounds = if ci() { 1 } else { 4 };
    if let Some(config) = std::env::var_os(SECOND_PROCESS) {
        let config = FsPath::new(&config);
        let (_, store) = open(config).await;
        for round in 0..rounds {
            std::fs::write(config.with_extension(format!("ready{round}")), "").unwrap();
            wait_for_file(&config.with_extension(format!("go{round}"))).await;
            let told = race(&store, round, RACERS).await;
            let told: String = told.into_iter().map(|(racer, told)| format!("{racer} {told}\n")).collect();
            std::fs::write(config.with_extension("telling"), told).unwrap();
            std::fs::rename(config.with_extension("telling"), config.with_extension(format!("told{round}"))).unwrap();
        }
        return store.quiesce().await;
    }
    let Some(servers) = Servers::for_test("creates_of_one_name_by_two_processes_have_one_winner").await else { return };
    let lake = servers.lake("race", ProfileConfig::new(3, 2)).await;
    let (config, store) = (lake.config(), lake.open().await);
    let mut second = second_process(module_path!(), "creates_of_one_name_by_two_processes_have_one_winner", &config);
    let second = tokio::spawn(async move { second.output().await.unwrap() });
    for round in 0..rounds {
        wait_for_file(&config.with_extension(format!("ready{round}"))).await;
        std::fs::write(config.with_extension(format!("go{round}")), "").unwrap();
        let start = Instant::now();
        let own = race(&store, round, 0).await;
        let told = config.with_extension(format!("told{round}"));
        wait_for_file(&told).await;
        let text = std::fs::read_to_string(&told).unwrap();
        let others = text.lines().map(|line| line.split_once(' ').unwrap()).map(|(racer, told)| (racer.parse().unwrap(), told));
        let all: Vec<(u64, &str)> = own.into_iter().chain(others).collect();
        assert_eq!(all.len() as u64, 2 * RACERS);
        let named = |word: &str| all.iter().filter(|(_, told)| *told == word).map(|(racer, _)| *racer).collect::<Vec<_>>();
        let (won, unknown) = (named("won"), named("unknown"));
        println!(
            "round {round}: {} won, {} lost, {} do not know, in {} ms",
            won.len(),
            named("lost").len(),
            unknown.len(),
            start.elapsed().as_millis()
        );
        assert!(won.len() <= 1, "{all:?}");
        let found = lake.open().await.get(&Path::from(format!("race/{round}"))).await.unwrap().bytes().await.unwrap();
        let holder = (0..2 * RACERS).find(|racer| bytes_of(*racer, 300) == found).unwrap();
        assert!(won.contains(&holder) || (won.is_empty() && unknown.contains(&holder)), "{holder} is stored, but {all:?}");
    }
    expect_passed(&second.await.unwrap());
    store.quiesce().await;
}
