//! One measurement in a process of its own: its time, and the most memory that it ever had.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use deltalake::open_table;
use lakeseal::Result;
use lakeseal::baseline::{AuditOptions, Auditor, Outcome};
use lakeseal::clock::SystemClock;
use lakeseal::sql::{TableOptions, VerifiedTable};
use url::Url;

use super::many::trust;
use super::{failed, table_of};

/// What a child measured: milliseconds, and KiB.
type Figures = (f64, f64);

/// Runs `stock` and the others in turns and prints least and median of each, and their ratios.
pub fn compare(table: &Path, stock: &str, others: &[&str], rounds: usize) -> Result<()> {
    let whats: Vec<&str> = std::iter::once(stock).chain(others.iter().copied()).collect();
    let mut figures: Vec<Vec<Figures>> = whats.iter().map(|_| Vec::new()).collect();
    // The first round warms the page cache and is not counted.
    for round in 0..=rounds {
        for (what, figures) in whats.iter().zip(&mut figures) {
            let found = spawn(table, what)?;
            if round > 0 {
                figures.push(found);
            }
        }
    }
    let shown: Vec<_> = figures.iter().map(|all| (sorted(all, |f| f.0), sorted(all, |f| f.1))).collect();
    println!("{:<14} {:>22} {:>9} {:>16} {:>9}", "", "ms, least / median", "ratio", "peak memory, MiB", "ratio");
    let Some((stock_ms, stock_kib)) = shown.first() else { return Ok(()) };
    for (what, (ms, kib)) in whats.iter().zip(&shown) {
        println!(
            "{what:<14} {:>22} {:>9.2} {:>16.0} {:>9.2}",
            format!("{:.1} / {:.1}", ms.0, ms.1),
            ms.1 / stock_ms.1,
            kib.1 / 1024.0,
            kib.1 / stock_kib.1
        );
    }
    Ok(())
}

fn sorted(all: &[Figures], of: impl Fn(&Figures) -> f64) -> (f64, f64) {
    let mut all: Vec<f64> = all.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    (all.first().copied().unwrap_or_default(), all.get(all.len() / 2).copied().unwrap_or_default())
}

fn spawn(table: &Path, what: &str) -> Result<Figures> {
    let output = Command::new(std::env::current_exe().map_err(failed)?).args(["child", what]).arg(table).output().map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [ms, kib] if output.status.success() => Ok((ms, kib)),
        _ => Err(failed(format!("{what}: {text} {}", String::from_utf8_lossy(&output.stderr)))),
    }
}

/// What a child does: `child WHAT TABLE`.
pub async fn run(words: &[&str]) -> Result<()> {
    let [_, what, table] = words[..] else { return Err(failed("a child needs to be told what to do")) };
    let begun = Instant::now();
    match what {
        "stock-open" => {
            let url = Url::from_directory_path(table).map_err(|()| failed("a table's path is no URL"))?;
            let table = open_table(url).await.map_err(failed)?;
            let provider = table.table_provider().await.map_err(failed)?;
            drop(provider);
        }
        "sealed-open" => {
            let options = TableOptions { require_sealed: true, ..TableOptions::default() };
            let table = VerifiedTable::open(&table_of(Path::new(table))?, Some(&trust()?), &options).await?;
            table.check()?;
        }
        "audit" => {
            let location = table_of(Path::new(table))?;
            let (store, root, url) = (location.store().clone(), location.root().clone(), location.url().as_str());
            let options = AuditOptions { quick: true, ..AuditOptions::default() };
            let report = Auditor::new(store, root, url, trust()?, Arc::new(SystemClock), options).audit(&()).await?;
            if report.outcome() != Outcome::Intact {
                return Err(failed(format!("{report:?}")));
            }
        }
        other => return Err(failed(format!("no such measurement: {other}"))),
    }
    println!("{} {}", begun.elapsed().as_secs_f64() * 1e3, peak_kib());
    Ok(())
}

/// The most memory that this process ever had, in KiB; zero where Linux does not say.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse().ok()).unwrap_or_default()
}
