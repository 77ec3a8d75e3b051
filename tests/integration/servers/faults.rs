//! Servers killed, hung and corrupted on disk while two processes write: what was acknowledged stays, and reads go on.

use std::path::Path as FsPath;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use lakeseal::lake::ProfileConfig;
use lakeseal::store::{ErasureStore, ScrubOptions, ScrubReport};
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutPayload};

use super::damage::damage;
use super::load::{self, TASKS};
use super::{SECOND_PROCESS, Servers, TIMEOUT_MS, bytes_of, ci, expect_passed, open, second_process};

fn writes() -> u64 {
    if ci() { 24 } else { 60 }
}

fn profile() -> ProfileConfig {
    ProfileConfig { segment_bytes: 1 << 20, ..ProfileConfig::new(3, 2) }
}

/// Reads what was acknowledged, over and over, until told to stop; any error or wrong byte fails the test.
async fn read_on(store: ErasureStore, journals: std::path::PathBuf, stop: Arc<AtomicBool>, reads: Arc<AtomicUsize>) {
    while !stop.load(Ordering::Relaxed) {
        let (names, _) = load::journalled(&journals);
        let (objects, _) = load::verify(&store, &names, &journals).await;
        reads.fetch_add(objects, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One process's half of the load when this is the second process.
async fn second() -> bool {
    let Some(config) = std::env::var_os(SECOND_PROCESS) else { return false };
    let config = FsPath::new(&config);
    let (_, store) = open(config).await;
    load::write(&store, config.parent().unwrap(), TASKS, writes()).await;
    true
}

/// By when a server has saved what the lake's founding wrote.
const SAVED: Duration = Duration::from_secs(8);

/// The load of two processes, `victim` killed in the middle and started again over its data, `liar` corrupted on disk meanwhile.
async fn killed_and_corrupted(servers: &Servers, test: &str, victim: &str, liar: &str) {
    let lake = servers.lake("faults", profile()).await;
    // Azurite saves what it lists every five seconds. Killed before, it has lost the lake's id and counts as wiped: another case.
    tokio::time::sleep(SAVED).await;
    let (config, store) = (lake.config(), lake.open().await);
    let journals = config.parent().unwrap().to_owned();
    let all = usize::try_from(2 * TASKS * writes()).unwrap();
    let (stop, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut child = second_process(module_path!(), test, &config);
    let child = tokio::spawn(async move { child.output().await.unwrap() });
    let own = {
        let (store, journals) = (store.clone(), journals.clone());
        tokio::spawn(async move { load::write(&store, &journals, 0, writes()).await })
    };
    let reader = tokio::spawn(read_on(lake.open().await, journals.clone(), stop.clone(), reads.clone()));

    load::until_written(&journals, all / 6).await;
    let down = servers.kill(victim);
    println!("{victim} is killed after {} acknowledged writes", load::acknowledgements(&journals));
    load::until_written(&journals, all / 4).await;
    let done = damage(servers.region(liar), &lake).await;
    println!("{liar} is corrupted after {} acknowledged writes: {done:?}", load::acknowledgements(&journals));
    assert!(done.edited > 0 && done.refused + done.changed > 0, "nothing was damaged");
    let read_before = reads.load(Ordering::Relaxed);
    load::until_written(&journals, all * 3 / 4).await;
    drop(down);
    println!("{victim} serves again after {} acknowledged writes", load::acknowledgements(&journals));

    own.await.unwrap();
    expect_passed(&child.await.unwrap());
    stop.store(true, Ordering::Relaxed);
    reader.await.unwrap();
    let reads = reads.load(Ordering::Relaxed);
    assert!(reads > read_before, "nobody read while {victim} was down and {liar} corrupted");
    let (names, failed) = load::journalled(&journals);
    let cold = lake.open().await;
    let (objects, bytes) = load::verify(&cold, &names, &journals).await;
    load::verify_list(&cold, &names).await;
    let times = load::times_ms(&journals);
    println!(
        "{} writes acknowledged (median {} ms, slowest {} ms), {} failed, {reads} reads meanwhile; {objects} objects of {bytes} bytes are intact",
        times.len(),
        times[times.len() / 2],
        times[times.len() - 1],
        failed.len()
    );
    assert_eq!(failed, Vec::<String>::new(), "writing goes on within the budgets");
    let report = scrub(&cold).await;
    assert!(report.damaged_versions > 0 && report.repaired_versions > 0, "{report:?}");
    load::verify(&lake.open().await, &names, &journals).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_a_killed_s3_server_and_a_corrupted_azurite() {
    let test = "acknowledged_writes_survive_a_killed_s3_server_and_a_corrupted_azurite";
    if second().await {
        return;
    }
    let Some(servers) = Servers::for_test(test).await else { return };
    let liar = if servers.regions[3].kind == "azurite" { "azure" } else { "dir1" };
    killed_and_corrupted(&servers, test, "weed0", liar).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_a_killed_azurite_and_a_corrupted_s3_server() {
    let test = "acknowledged_writes_survive_a_killed_azurite_and_a_corrupted_s3_server";
    if second().await {
        return;
    }
    let Some(servers) = Servers::for_test(test).await else { return };
    if ci() || servers.regions[3].kind != "azurite" {
        eprintln!("SKIPPED {test}: run without --ci, with npm");
        return;
    }
    killed_and_corrupted(&servers, test, "azure", "weed1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_a_killed_s3_server_and_a_corrupted_directory() {
    let test = "acknowledged_writes_survive_a_killed_s3_server_and_a_corrupted_directory";
    if second().await {
        return;
    }
    let Some(servers) = Servers::for_test(test).await else { return };
    if ci() {
        eprintln!("SKIPPED {test}: run without --ci");
        return;
    }
    killed_and_corrupted(&servers, test, "weed2", "dir").await;
}

/// The time of one operation, which may wait for a hung region for so many requests' time limits.
async fn within<T>(what: &str, limits: u64, operation: impl Future<Output = object_store::Result<T>>) -> T {
    let start = Instant::now();
    let most = Duration::from_millis(limits * TIMEOUT_MS);
    let outcome = tokio::time::timeout(most, operation).await;
    println!("{what}: {} ms", start.elapsed().as_millis());
    outcome.unwrap_or_else(|_| panic!("{what} took more than {} ms", most.as_millis())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_delays_requests_by_no_more_than_their_limits() {
    let Some(servers) = Servers::for_test("a_server_that_hangs_delays_requests_by_no_more_than_their_limits").await else { return };
    let lake = servers.lake("hang", profile()).await;
    let store = lake.open().await;
    let object = |name: &str, seed| (Path::from(name), bytes_of(seed, 2_500_000));
    let (before, content) = object("before", 1);
    store.put(&before, content.clone().into()).await.unwrap();
    store.quiesce().await;

    let hung = servers.stop("weed1");
    let (during, other) = object("during", 2);
    within("put of a large object", 3, store.put(&during, other.clone().into())).await;
    within("put of a small object", 2, store.put(&Path::from("small"), PutPayload::from("x"))).await;
    within("overwrite of a small object", 3, store.put(&Path::from("small"), PutPayload::from("y"))).await;
    for (path, content) in [(&before, &content), (&during, &other)] {
        let read = async { store.get(path).await?.bytes().await };
        assert_eq!(within("get, warm", 3, read).await, content);
    }
    let start = Instant::now();
    let cold = lake.open().await;
    println!("opening the lake: {} ms", start.elapsed().as_millis());
    for (path, content) in [(&before, &content), (&during, &other)] {
        let read = async { cold.get(path).await?.bytes().await };
        assert_eq!(within("get, cold", 3, read).await, content);
    }
    let listed: Vec<_> = within("list", 3, cold.list(None).map_ok(|meta| meta.location).try_collect()).await;
    assert_eq!(listed, [before.clone(), during.clone(), Path::from("small")]);
    servers.order("continue", "weed1");
    drop(hung);
    store.quiesce().await;

    // What waited in its queue it may have taken after all; of the rest, a scrub gives it what it lacks. Then it serves as one of the three
    // that are left.
    let report = scrub(&store).await;
    assert!(report.versions == 4 && report.margins_after.keys().eq([&2]), "{report:?}");
    let others = [servers.kill("weed0"), servers.kill(&servers.regions[3].name)];
    let (_, again) = open(&lake.config()).await;
    for (path, content) in [(&before, &content), (&during, &other)] {
        assert_eq!(again.get(path).await.unwrap().bytes().await.unwrap(), content, "{path}");
    }
    assert_eq!(again.get(&Path::from("small")).await.unwrap().bytes().await.unwrap(), "y");
    drop(others);
}

/// Reads everything and repairs what is wrong.
async fn scrub(store: &ErasureStore) -> ScrubReport {
    let options = ScrubOptions { repair: true, verify: true, settle: Duration::ZERO, ..ScrubOptions::default() };
    let start = Instant::now();
    let report = store.scrub(&options, &()).await.unwrap();
    println!(
        "scrub of {} versions, {} bytes read, in {} ms: {} damaged, {} repaired, {} not; margins {:?}, then {:?}",
        report.versions,
        report.bytes_read,
        start.elapsed().as_millis(),
        report.damaged_versions,
        report.repaired_versions,
        report.unrepaired_versions,
        report.margins,
        report.margins_after
    );
    assert_eq!((report.lost_versions, &report.interrupted), (0, &None), "{report:?}");
    report
}
