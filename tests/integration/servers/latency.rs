//! What one operation costs at real servers: times and requests, alone and contended. Nothing is asserted of times.

use std::time::Instant;

use lakeseal::lake::ProfileConfig;
use lakeseal::region::RequestCounts;
use lakeseal::store::ErasureStore;
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions};

use super::{Servers, bytes_of, ci, open};

/// Requests of all regions, by kind.
fn requests(lake: &lakeseal::lake::Lake) -> RequestCounts {
    let regions = lake.region_set.regions().iter().map(|region| region.requests());
    regions.fold(RequestCounts::default(), |sum, more| RequestCounts {
        creates: sum.creates + more.creates,
        puts: sum.puts + more.puts,
        gets: sum.gets + more.gets,
        lists: sum.lists + more.lists,
        deletes: sum.deletes + more.deletes,
        failures: sum.failures + more.failures,
    })
}

struct Meter<'a> {
    lake: &'a lakeseal::lake::Lake,
    store: &'a ErasureStore,
    rounds: u32,
}

impl Meter<'_> {
    /// Median and slowest time of an operation; its requests, and those that follow its answer.
    async fn measure<T>(&self, what: &str, mut operation: impl AsyncFnMut(u32) -> object_store::Result<T>) {
        self.store.quiesce().await;
        let (before, mut times, mut answered) = (requests(self.lake), Vec::new(), 0);
        for round in 0..self.rounds {
            let (start, sent) = (Instant::now(), total(&requests(self.lake)));
            operation(round).await.unwrap();
            times.push(start.elapsed().as_micros());
            answered += total(&requests(self.lake)) - sent;
            self.store.quiesce().await;
        }
        let after = requests(self.lake);
        times.sort_unstable();
        let per = |after: u64, before: u64| format!("{:.1}", (after - before) as f64 / f64::from(self.rounds));
        println!(
            "| {what} | {:.1} | {:.1} | {:.1} | {} | {} | {} | {} |",
            times[times.len() / 2] as f64 / 1000.0,
            times[times.len() - 1] as f64 / 1000.0,
            answered as f64 / f64::from(self.rounds),
            per(after.creates, before.creates),
            per(after.puts, before.puts),
            per(after.gets, before.gets),
            per(after.lists, before.lists),
        );
    }
}

fn total(counts: &RequestCounts) -> u64 {
    counts.creates + counts.puts + counts.gets + counts.lists + counts.deletes
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_are_timed_and_their_requests_counted() {
    let Some(servers) = Servers::for_test("operations_are_timed_and_their_requests_counted").await else { return };
    let test = servers.lake("latency", ProfileConfig::new(3, 2)).await;
    let (lake, store) = open(&test.config()).await;
    let meter = Meter { lake: &lake, store: &store, rounds: if ci() { 5 } else { 30 } };
    println!("| operation | median ms | slowest ms | requests until the answer | creates | puts | gets | lists |");
    println!("|---|---|---|---|---|---|---|---|");
    let (small, large) = (bytes_of(1, 1000), bytes_of(2, 3 << 20));
    let path = |kind: &str, i: u32| Path::from(format!("{kind}/{i}"));
    let create = || PutOptions::from(PutMode::Create);
    meter.measure("create, 1 kB", async |i| store.put_opts(&path("s", i), small.clone().into(), create()).await).await;
    meter.measure("create, 3 MiB", async |i| store.put_opts(&path("l", i), large.clone().into(), create()).await).await;
    meter.measure("overwrite, 1 kB, known", async |i| store.put(&path("s", i), small.clone().into()).await).await;
    let cold = async |i: u32, kind: &str| {
        store.forget();
        store.get(&path(kind, i)).await?.bytes().await
    };
    meter.measure("get, 1 kB, cold", async |i| cold(i, "s").await).await;
    meter.measure("get, 3 MiB, cold", async |i| cold(i, "l").await).await;
    meter.measure("get, 3 MiB, known", async |i| store.get(&path("l", i)).await?.bytes().await).await;
    meter.measure("64 KiB of 3 MiB, known", async |i| store.get_range(&path("l", i), 1_000_000..1_065_536).await).await;
    meter.measure("head, known", async |i| store.head(&path("s", i)).await).await;
    meter
        .measure("overwrite, 1 kB, cold", async |i| {
            store.forget();
            store.put(&path("s", i), small.clone().into()).await
        })
        .await;
    meter.measure("delete", async |i| store.delete(&path("s", i)).await).await;
    let victim = servers.kill("weed0");
    meter.measure("create, 1 kB, one region killed", async |i| store.put_opts(&path("k", i), small.clone().into(), create()).await).await;
    meter.measure("overwrite, 1 kB, one region killed", async |i| store.put(&path("k", i), small.clone().into()).await).await;
    meter.measure("get, 3 MiB, cold, one region killed", async |i| cold(i, "l").await).await;
    drop(victim);
    contended(&store).await;
}

/// Tasks that commit to one log, as Delta writers do: each creates the next name once it knows that the last one was taken.
async fn contended(store: &ErasureStore) {
    for writers in [1_u32, 2, 4, 8] {
        let commits: u32 = if ci() { 2 } else { 5 };
        let start = Instant::now();
        let tasks = (0..writers).map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let (mut next, mut tried) = (0_u32, 0_u32);
                for i in 0..commits {
                    loop {
                        tried += 1;
                        let path = Path::from(format!("contended/{writers}/{next:020}"));
                        let commit = bytes_of(u64::from(writer * 1000 + i), 1000);
                        next += 1;
                        match store.put_opts(&path, commit.into(), PutMode::Create.into()).await {
                            Ok(_) => break,
                            Err(object_store::Error::AlreadyExists { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
                tried
            })
        });
        let mut tried = 0;
        for task in tasks.collect::<Vec<_>>() {
            tried += task.await.unwrap();
        }
        store.quiesce().await;
        let (all, elapsed) = (writers * commits, start.elapsed().as_secs_f64());
        println!("{writers} writers: {all} commits in {tried} tries, {elapsed:.1} s, {:.2} commits/s", f64::from(all) / elapsed);
    }
}
