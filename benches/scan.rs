//! What verification costs a query: the same sealed table, read by stock deltalake and DataFusion, and through Lakeseal.
//!
//! ```text
//! cargo bench --bench scan [-- --runs <n>]
//! ```
//!
//! The table is 1.2 million flights (four files, 10.8 MB) in an erasure-coded lake of five regions in memory, so that neither network
//! nor disk hides the difference. Both sides read through the same store. Every run begins cold: table and session are opened anew,
//! since an open `VerifiedTable` remembers 16 MiB of verified blocks. `open` reads the log (and baseline and evidence); `query` plans
//! and runs. Runs of the two sides alternate, answers are compared, and medians are shown.
//!
//! Profiles other than `bench` and `release` do not optimise DataFusion, which makes the ratio look better than it is.

use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;
use deltalake::open_table;
use lakeseal::baseline::{SealOptions, Sealer, Trust, TrustLevel};
use lakeseal::clock::SystemClock;
use lakeseal::delta::{self, Import, LakeStore, Location, register_lake_scheme};
use lakeseal::key::PrivateKey;
use lakeseal::lake::testing::memory_lake;
use lakeseal::sql::{SealedSession, SessionOptions, TableOptions};
use lakeseal::store::{ErasureStore, Profile};
use lakeseal::{Error, ErrorKind, Result};

const IMPORTS: usize = 4;
const RUNS: usize = 15;
const QUERIES: [(&str, &str); 4] = [
    ("COUNT(*)", "SELECT COUNT(*) FROM flights"),
    ("one column", "SELECT SUM(distance), MIN(distance), MAX(distance) FROM flights"),
    ("all columns", "SELECT COUNT(date), MAX(date), SUM(delay), SUM(distance), MAX(origin), MIN(destination) FROM flights"),
    ("filtered", "SELECT COUNT(*), MAX(delay) FROM flights WHERE origin = 'SFO' AND delay > 60"),
];

/// How long it took to open table and session, and to plan and run the query.
#[derive(Clone, Copy)]
struct Run {
    open: Duration,
    query: Duration,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--runs").skip(1);
    let runs = arguments.next().and_then(|runs| runs.parse().ok()).unwrap_or(RUNS).max(1);
    let (lake, trust) = make_table().await?;
    println!("\n{:12} {:>34} {:>34} {:>15}", "", "stock: open + query, ms", "lakeseal: open + query, ms", "ratio of query");
    for (name, query) in QUERIES {
        let (mut stock, mut sealed) = (Vec::new(), Vec::new());
        // One run of each is not counted.
        for run in 0..=runs {
            let (expected, stock_run) = run_stock(query).await?;
            let (found, sealed_run) = run_sealed(&lake, &trust, query).await?;
            if text(&expected)? != text(&found)? {
                return Err(failed(format!("different answers:\n{}\n{}", text(&expected)?, text(&found)?)));
            }
            if run > 0 {
                stock.push(stock_run);
                sealed.push(sealed_run);
            }
        }
        report(name, &stock, &sealed);
    }
    Ok(())
}

async fn make_table() -> Result<(LakeStore, Trust)> {
    let (regions, writer, _) = memory_lake(3, 2, 5)?;
    let store = Arc::new(ErasureStore::new(regions, Profile::new(3, 2), Some(Arc::new(writer)), Arc::new(SystemClock))?);
    let lake = LakeStore { name: "bench".to_owned(), store: store.clone() };
    register_lake_scheme(&lake.name, store.clone())?;
    let table = Location::in_lake(&lake, "flights")?;
    let source = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("sample-data").join("flights.parquet");
    for _ in 0..IMPORTS {
        delta::import(&table, Import { sources: vec![source.clone()], ..Import::default() }).await?;
    }
    let key = PrivateKey::generate()?;
    let trust = Trust::new([key.public()], TrustLevel::SelfMade)?;
    let (root, url) = (table.root().clone(), table.url().as_str());
    let start = Instant::now();
    let baseline = Sealer::new(table.store().clone(), root, url, key, Arc::new(SystemClock), SealOptions::default())?.seal(&()).await?;
    let sealed = baseline.baseline;
    println!("sealed {} files, {} rows, {} bytes in {:.1?}, rows hashed", sealed.files, sealed.rows, sealed.bytes, start.elapsed());
    store.quiesce().await;
    Ok((lake, trust))
}

async fn run_stock(query: &str) -> Result<(Vec<RecordBatch>, Run)> {
    let start = Instant::now();
    let url = url::Url::parse("lakeseal://bench/flights").map_err(failed)?;
    let table = open_table(url).await.map_err(failed)?;
    let session = SessionContext::new_with_config(delta_config());
    session.register_table("flights", table.table_provider().await.map_err(failed)?).map_err(failed)?;
    let open = start.elapsed();
    let rows = session.sql(query).await.map_err(failed)?.collect().await.map_err(failed)?;
    Ok((rows, Run { open, query: start.elapsed().saturating_sub(open) }))
}

/// The session settings that Lakeseal's sessions have too.
fn delta_config() -> datafusion::prelude::SessionConfig {
    deltalake::delta_datafusion::DeltaSessionConfig::default().into()
}

async fn run_sealed(lake: &LakeStore, trust: &Trust, query: &str) -> Result<(Vec<RecordBatch>, Run)> {
    let start = Instant::now();
    let tables = TableOptions { require_sealed: true, ..TableOptions::default() };
    let session = SealedSession::new(SessionOptions { lake: None, trust: Some(trust.clone()), tables }).await?;
    session.register("flights", &Location::in_lake(lake, "flights")?).await?;
    let open = start.elapsed();
    let rows = session.run(query).await?;
    Ok((rows, Run { open, query: start.elapsed().saturating_sub(open) }))
}

fn report(name: &str, stock: &[Run], sealed: &[Run]) {
    let median = |runs: &[Run], of: fn(&Run) -> Duration| {
        let mut times: Vec<Duration> = runs.iter().map(of).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    let shown = |runs: &[Run]| format!("{:.1} + {:.1}", median(runs, |run| run.open), median(runs, |run| run.query));
    let ratio = median(sealed, |run| run.query) / median(stock, |run| run.query);
    println!("{name:12} {:>34} {:>34} {ratio:>15.2}", shown(stock), shown(sealed));
}

fn text(rows: &[RecordBatch]) -> Result<String> {
    Ok(pretty_format_batches(rows).map_err(failed)?.to_string())
}

fn failed(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Internal, "the benchmark failed").caused_by(cause)
}
