//! What sealing, opening and auditing cost on tables with many files and many commits, beside deltalake and BLAKE3.
//!
//! ```text
//! cargo bench --bench tables -- open 10000        opening a sealed table, beside deltalake's own
//! cargo bench --bench tables -- audit 100000      `audit --quick`, beside deltalake's load: time and memory
//! cargo bench --bench tables -- seal FILE…        fingerprinting Parquet files, beside BLAKE3 of their bytes
//! cargo bench --bench tables -- append 1000       a seal after one more file: requests and bytes
//! cargo bench --bench tables -- write             what attesting costs a writer
//! cargo bench --bench tables -- commits 3600 60   commits, attested and not, and a seal after every 60: the first hundred beside the last
//! ```
//!
//! Tables of many files are real ones: every file is a Parquet file of its own with ten rows, added by commits of a thousand. `open` and
//! `audit` measure every run in a process of its own, which begins with nothing in memory but the machine's page cache.

mod child;
mod commits;
mod counting;
mod many;
mod seal;

use std::path::{Path, PathBuf};

use lakeseal::{Error, ErrorKind, Result};

const ROUNDS: usize = 5;

#[tokio::main]
async fn main() -> Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = asked.iter().map(String::as_str).collect();
    let number = |at: usize, default: usize| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(default);
    match words.first().copied() {
        Some("child") => child::run(&words).await,
        Some("open") => opening(number(1, 10_000)).await,
        Some("audit") => auditing(number(1, 100_000)).await,
        Some("seal") => seal::run(&words.iter().skip(1).map(PathBuf::from).collect::<Vec<_>>()).await,
        Some("append") => commits::append(number(1, 1000)).await,
        Some("write") => commits::write().await,
        Some("commits") => commits::run(number(1, 3600), number(2, 60)).await,
        _ => {
            println!("skipped: say what to measure: open, audit, seal FILE…, append, write, commits");
            Ok(())
        }
    }
}

async fn opening(files: usize) -> Result<()> {
    let home = tempfile::tempdir().map_err(failed)?;
    for checkpointed in [false, true] {
        let table = many::make(&home.path().join(format!("t{checkpointed}")), files, checkpointed).await?;
        println!("\nopening a table of {files} files, {}", log_of(checkpointed));
        child::compare(&table, "stock-open", &["sealed-open"], ROUNDS)?;
    }
    Ok(())
}

async fn auditing(files: usize) -> Result<()> {
    let home = tempfile::tempdir().map_err(failed)?;
    for checkpointed in [false, true] {
        let table = many::make(&home.path().join(format!("t{checkpointed}")), files, checkpointed).await?;
        println!("\n`audit --quick` of a table of {files} files, {}", log_of(checkpointed));
        child::compare(&table, "stock-open", &["audit"], ROUNDS.min(3))?;
        std::fs::remove_dir_all(&table).map_err(failed)?;
    }
    Ok(())
}

fn log_of(checkpointed: bool) -> &'static str {
    if checkpointed { "with a checkpoint of all commits but the last" } else { "without a checkpoint" }
}

fn table_of(path: &Path) -> Result<lakeseal::delta::Location> {
    lakeseal::delta::Location::parse(&path.display().to_string(), None)
}

fn failed(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Internal, "the benchmark failed").caused_by(cause)
}
