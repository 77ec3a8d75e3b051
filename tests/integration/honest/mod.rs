//! Honest histories of tables, sealed and audited after each step: nothing is accused, and every query answers what a stock reader does.
//!
//! `cargo test --test integration honest:: -- --nocapture` prints the list. Some steps are taken by other programs (`tests/honest/step.py`:
//! PyArrow, Polars, DuckDB, deltalake for Python, commits by hand); without PyPI those are skipped, loudly. Tables of other projects are read
//! from `../shared/fixtures/delta-rs/tables`, or where `LAKESEAL_TEST_TABLES` says; without them that part is skipped, loudly.

mod counts;
mod fixtures;
mod life;
mod operations;
mod others;

use super::support::aligned;
use life::Life;

/// Prints what became of some histories, and fails if one of them was accused.
fn report(lives: &[Life]) {
    let rows: Vec<Vec<String>> = lives.iter().map(Life::row).collect();
    println!();
    aligned::print(&["history", "lake", "steps", "seals", "audits", "queries", "verdicts after the steps"], &rows, 90);
    let queries: usize = lives.iter().map(|life| life.queries).sum();
    println!("\n{} histories, {queries} queries", lives.len());
    let failures: Vec<String> = lives.iter().flat_map(|life| life.failures.iter().map(|why| format!("{}: {why}", life.name))).collect();
    assert!(failures.is_empty(), "{} failure(s):\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_by_deltalake() {
    report(&operations::all().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_by_others() {
    report(&others::all().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_other_projects() {
    report(&fixtures::all().await);
}
