//! What verification costs the 22 queries of TPC-H: stock deltalake and DataFusion over a plain table in a directory, beside Lakeseal over
//! the same sealed table, over an erasure-coded lake of five directories (3+2), and over that lake with a region down.
//!
//! ```text
//! tpchgen-cli parquet -s 1 --output-dir DIR         # PyPI: tpchgen-cli
//! cargo bench --bench tpch -- --data DIR [--runs N]
//! ```
//!
//! Every run opens tables and session anew; only planning and running the query are counted. The four take turns, answers are compared, and
//! medians are shown. Profiles other than `bench` and `release` do not optimise DataFusion, which makes the ratios look better than they are.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{SessionConfig, SessionContext};
use deltalake::open_table;
use lakeseal::baseline::{SealOptions, Sealer, Trust, TrustLevel};
use lakeseal::clock::SystemClock;
use lakeseal::delta::{self, Import, LakeStore, Location};
use lakeseal::key::PrivateKey;
use lakeseal::lake::testing::{FaultyRegion, lake_over};
use lakeseal::region::directory::DirectoryStore;
use lakeseal::sql::{SealedSession, SessionOptions, TableOptions};
use lakeseal::store::{ErasureStore, Profile};
use lakeseal::{Error, ErrorKind, Result};
use object_store::ObjectStore;
use url::Url;

const TABLES: [&str; 8] = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"];
const QUERIES: &str = include_str!("queries.sql");
const RUNS: usize = 5;

struct Setup {
    /// Holds the plain tables and the regions until the end.
    _home: tempfile::TempDir,
    plain: PathBuf,
    trust: Trust,
    lake: LakeStore,
    faults: Vec<FaultyRegion>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().skip_while(|argument| *argument != name).nth(1);
    let Some(data) = option("--data") else {
        println!("skipped: name the directory that tpchgen-cli wrote with --data DIR");
        return Ok(());
    };
    let runs = option("--runs").and_then(|runs| runs.parse().ok()).unwrap_or(RUNS).max(1);
    let setup = set_up(FilePath::new(data)).await?;
    println!("\n{:>5} {:>12} {:>16} {:>18} {:>18}", "query", "stock, ms", "sealed, plain", "erasure lake", "one region down");
    let mut sums = [0.0; 4];
    for (number, query) in queries() {
        let times = measure(&setup, runs, number, query).await?;
        sums.iter_mut().zip(times).for_each(|(sum, time)| *sum += time);
        report(&number.to_string(), times);
    }
    report("all", sums);
    Ok(())
}

fn queries() -> impl Iterator<Item = (usize, &'static str)> {
    QUERIES.split(';').filter(|query| query.contains("select")).enumerate().map(|(index, query)| (index + 1, query))
}

/// Medians of a query's four ways, in milliseconds.
async fn measure(setup: &Setup, runs: usize, number: usize, query: &str) -> Result<[f64; 4]> {
    let mut times: [Vec<f64>; 4] = Default::default();
    // One run of each is not counted.
    for run in 0..=runs {
        let (expected, stock) = run_stock(setup, query).await?;
        let mut took = [stock, 0.0, 0.0, 0.0];
        for (way, took) in took.iter_mut().enumerate().skip(1) {
            if let Some(fault) = setup.faults.first() {
                fault.set_down(way == 3);
            }
            let (found, time) = run_sealed(setup, query, way > 1).await?;
            if text(&expected)? != text(&found)? {
                return Err(failed(format!("query {number}, way {way}: different answers:\n{}\n{}", text(&expected)?, text(&found)?)));
            }
            *took = time;
        }
        if run > 0 {
            times.iter_mut().zip(took).for_each(|(times, took)| times.push(took));
        }
    }
    Ok(times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or_default()
    }))
}

fn report(name: &str, [stock, plain, lake, down]: [f64; 4]) {
    let cell = |time: f64| format!("{time:.1} ({:.2})", time / stock);
    println!("{name:>5} {stock:>12.1} {:>16} {:>18} {:>18}", cell(plain), cell(lake), cell(down));
}

async fn set_up(data: &FilePath) -> Result<Setup> {
    let home = tempfile::tempdir().map_err(failed)?;
    let mut stores: Vec<Arc<dyn ObjectStore>> = Vec::new();
    for region in 0..5 {
        // Made for the benchmark and thrown away: not synced.
        let store = DirectoryStore::new(home.path().join(format!("r{region}")), false);
        store.make_root()?;
        stores.push(Arc::new(store));
    }
    let (regions, writer, faults) = lake_over(3, 2, 0, stores)?;
    let store = Arc::new(ErasureStore::new(regions, Profile::new(3, 2), Some(Arc::new(writer)), Arc::new(SystemClock))?);
    let lake = LakeStore { name: "tpch".to_owned(), store: store.clone() };
    let plain = home.path().join("plain");
    let mut keys = Vec::new();
    for table in TABLES {
        std::fs::create_dir_all(plain.join(table)).map_err(failed)?;
        for location in [Location::in_lake(&lake, table)?, plain_table(&plain, table)?] {
            delta::import(&location, Import { sources: sources(data, table)?, ..Import::default() }).await?;
            let (root, url) = (location.root().clone(), location.url().as_str());
            let key = PrivateKey::generate()?;
            keys.push(key.public());
            Sealer::new(location.store().clone(), root, url, key, Arc::new(SystemClock), SealOptions::default())?.seal(&()).await?;
        }
    }
    store.quiesce().await;
    let trust = Trust::new(keys, TrustLevel::SelfMade)?;
    Ok(Setup { _home: home, plain, trust, lake, faults })
}

/// `<table>.parquet`, or all Parquet files of the folder `<table>`.
fn sources(data: &FilePath, table: &str) -> Result<Vec<PathBuf>> {
    let single = data.join(format!("{table}.parquet"));
    if single.exists() {
        return Ok(vec![single]);
    }
    let folder = std::fs::read_dir(data.join(table)).map_err(failed)?;
    let mut files: Vec<PathBuf> = folder.flatten().map(|entry| entry.path()).collect();
    files.sort();
    Ok(files)
}

fn plain_table(plain: &FilePath, table: &str) -> Result<Location> {
    Location::parse(&plain.join(table).display().to_string(), None)
}

async fn run_stock(setup: &Setup, query: &str) -> Result<(Vec<RecordBatch>, f64)> {
    let session = SessionContext::new_with_config(config());
    for name in TABLES {
        let url = Url::from_directory_path(setup.plain.join(name)).map_err(|()| failed("a table's path is no URL"))?;
        let table = open_table(url).await.map_err(failed)?;
        session.register_table(name, table.table_provider().await.map_err(failed)?).map_err(failed)?;
    }
    let begun = Instant::now();
    let rows = session.sql(query).await.map_err(failed)?.collect().await.map_err(failed)?;
    Ok((rows, begun.elapsed().as_secs_f64() * 1e3))
}

/// The session settings that Lakeseal's sessions have too.
fn config() -> SessionConfig {
    deltalake::delta_datafusion::DeltaSessionConfig::default().into()
}

async fn run_sealed(setup: &Setup, query: &str, in_lake: bool) -> Result<(Vec<RecordBatch>, f64)> {
    let tables = TableOptions { require_sealed: true, ..TableOptions::default() };
    let session = SealedSession::new(SessionOptions { lake: None, trust: Some(setup.trust.clone()), tables }).await?;
    for name in TABLES {
        let location = if in_lake { Location::in_lake(&setup.lake, name)? } else { plain_table(&setup.plain, name)? };
        session.register(name, &location).await?;
    }
    let begun = Instant::now();
    let rows = session.run(query).await?;
    Ok((rows, begun.elapsed().as_secs_f64() * 1e3))
}

fn text(rows: &[RecordBatch]) -> Result<String> {
    Ok(pretty_format_batches(rows).map_err(failed)?.to_string())
}

fn failed(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Internal, "the benchmark failed").caused_by(cause)
}
