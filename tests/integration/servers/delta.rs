//! Several processes append to one Delta table over real servers, one of them killed and another corrupted meanwhile: no commit is lost
//! or doubled.

use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use lakeseal::delta::register_lake_scheme;
use lakeseal::lake::ProfileConfig;
use url::Url;

use super::damage::damage;
use super::{SECOND_PROCESS, Servers, ci, expect_passed, open, second_process};
use crate::delta::{number, open as open_table, rows};

/// Processes beside the test's own.
const OTHERS: i64 = 2;
const TASKS: i64 = 2;
const PROCESS: &str = "LAKESEAL_TEST_PROCESS_NUMBER";

fn appends() -> i64 {
    if ci() { 3 } else { 8 }
}

/// Appends of one row each, noted when they are acknowledged.
async fn append(url: &Url, directory: &FsPath, process: i64) {
    let tasks = (0..TASKS).map(|task| {
        let (url, directory) = (url.clone(), directory.to_owned());
        tokio::spawn(async move {
            for i in 0..appends() {
                let id = 1 + (process * TASKS + task) * appends() + i;
                let start = Instant::now();
                open_table(&url).await.write(vec![rows(id..id + 1, "x")]).await.unwrap();
                std::fs::write(directory.join(format!("appended-{id}")), start.elapsed().as_millis().to_string()).unwrap();
            }
        })
    });
    try_join_all(tasks).await.unwrap();
}

/// How long the appends took that were acknowledged so far, in milliseconds, ascending.
fn appended_ms(directory: &FsPath) -> Vec<u64> {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let appended = files.filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with("appended-"));
    // A file that is being written is empty.
    let mut times: Vec<u64> = appended.filter_map(|file| std::fs::read_to_string(file).unwrap().parse().ok()).collect();
    times.sort_unstable();
    times
}

async fn until_appended(directory: &FsPath, appends: i64) {
    while i64::try_from(appended_ms(directory).len()).unwrap() < appends {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_of_three_processes_are_neither_lost_nor_doubled_while_servers_fail() {
    let url = Url::parse("lakeseal://servers/t").unwrap();
    if let Some(config) = std::env::var_os(SECOND_PROCESS) {
        let config = FsPath::new(&config);
        let store = Arc::new(open(config).await.1);
        register_lake_scheme("servers", store.clone()).unwrap();
        append(&url, config.parent().unwrap(), std::env::var(PROCESS).unwrap().parse().unwrap()).await;
        return store.quiesce().await;
    }
    let test = "appends_of_three_processes_are_neither_lost_nor_doubled_while_servers_fail";
    let Some(servers) = Servers::for_test(test).await else { return };
    // Data files are sharded, commits lie in the manifests. Three processes and five servers on few cores are slow, not down.
    let lake = servers.lake_with("delta", ProfileConfig { inline_bytes: 256, ..ProfileConfig::new(3, 2) }, "", 30_000).await;
    let (config, store) = (lake.config(), Arc::new(lake.open().await));
    let directory = config.parent().unwrap().to_owned();
    register_lake_scheme("servers", store.clone()).unwrap();
    deltalake::DeltaTableBuilder::from_url(url.clone()).unwrap().build().unwrap().write(vec![rows(0..1, "start")]).await.unwrap();

    let start = Instant::now();
    let others = (1..=OTHERS).map(|process| {
        let mut other = second_process(module_path!(), test, &config);
        other.env(PROCESS, process.to_string());
        tokio::spawn(async move { other.output().await.unwrap() })
    });
    let others: Vec<_> = others.collect();
    let own = {
        let (url, directory) = (url.clone(), directory.clone());
        tokio::spawn(async move { append(&url, &directory, 0).await })
    };
    let all = (1 + OTHERS) * TASKS * appends();
    until_appended(&directory, all / 6).await;
    let down = servers.kill("weed0");
    println!("weed0 is killed after {} appends", appended_ms(&directory).len());
    until_appended(&directory, all / 3).await;
    let liar = &servers.regions[3];
    let done = damage(liar, &lake).await;
    println!("{} is corrupted after {} appends: {done:?}", liar.name, appended_ms(&directory).len());
    assert!(done.edited > 0 && done.refused + done.changed > 0, "nothing was damaged");
    until_appended(&directory, all * 2 / 3).await;
    drop(down);
    println!("weed0 serves again after {} appends", appended_ms(&directory).len());
    own.await.unwrap();
    for other in others {
        expect_passed(&other.await.unwrap());
    }
    let (seconds, times) = (start.elapsed().as_secs_f64(), appended_ms(&directory));
    println!("{all} appends in {seconds:.1} s, median {} ms, slowest {} ms", times[times.len() / 2], times[times.len() - 1]);

    store.forget();
    let table = open_table(&url).await;
    assert_eq!(table.version(), Some(u64::try_from(all).unwrap()));
    assert_eq!(number(&table, "SELECT COUNT(*) FROM t WHERE id >= 0").await, 1 + all, "no row is doubled");
    assert_eq!(number(&table, "SELECT COUNT(DISTINCT id) FROM t").await, 1 + all, "no row is lost");
    assert_eq!(number(&table, "SELECT MAX(id) FROM t").await, all);
    store.quiesce().await;
}
