//! Every attack on tables that is known, over a plain lake and an erasure lake: what a stock reader does, and what Lakeseal does.
//!
//! `cargo test --test integration attacks:: -- --nocapture` prints the table. The edits are made by `tests/attacks/`, in Python, which
//! shares no code with what is tested; without PyPI the corpus is skipped, loudly.

mod corpus;
mod elsewhere;
mod outcome;
mod special;

use std::collections::BTreeMap;

use futures::{StreamExt as _, stream};

use super::support::{aligned, python};
use corpus::{Entry, Judged};

const HEADER: [&str; 9] = ["#", "attack", "lake", "stock reader", "sealed query", "audit", "owed", "place named", "restored"];
const WIDEST: usize = 60;

/// Attacks at a time.
const CONCURRENCY: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn corpus() {
    let out = tempfile::tempdir().unwrap();
    if !python::run("attacks::corpus", "attacks/run.py", &[out.path()]).await {
        return;
    }
    let entries: Vec<Entry> = serde_json::from_slice(&std::fs::read(out.path().join("attacks.json")).unwrap()).unwrap();
    let only = std::env::var("LAKESEAL_TEST_ATTACK").ok();
    let wanted = |entry: &&Entry| only.as_ref().is_none_or(|only| entry.number == *only || entry.title.contains(only.as_str()));
    let entries: Vec<&Entry> = entries.iter().filter(wanted).collect();
    let bases = corpus::bases(out.path(), &entries).await;
    let runs = bases.keys().flat_map(|(kind, base)| entries.iter().filter(|entry| entry.base == *base).map(|entry| (*kind, *entry)));
    let bases = &bases;
    let root = out.path();
    let judged = stream::iter(runs.collect::<Vec<_>>())
        .map(|(kind, entry)| async move { corpus::run(root, &bases[&(kind, entry.base.clone())], entry).await })
        .buffer_unordered(CONCURRENCY);
    let mut judged: Vec<Judged> = judged.collect().await;
    if only.is_none() {
        judged.extend(special::all(root).await);
        judged.extend(elsewhere::all());
    }
    judged.sort_by_key(Judged::order);
    let rows: Vec<Vec<String>> = judged.iter().map(Judged::row).collect();
    println!();
    aligned::print(&HEADER, &rows, WIDEST);
    summary(&judged);
    let failures: Vec<String> =
        judged.iter().flat_map(|judged| judged.failures.iter().map(|why| format!("{}: {why}", judged.name()))).collect();
    assert!(failures.is_empty(), "{} failure(s):\n{}", failures.len(), failures.join("\n"));
}

/// How many of what, and what is owed to nobody's surprise.
fn summary(judged: &[Judged]) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    judged.iter().for_each(|judged| *counts.entry(judged.owed.as_str()).or_default() += 1);
    let counts: Vec<String> = counts.iter().map(|(owed, count)| format!("{count} {owed}")).collect();
    println!("\n{} runs: {}", judged.len(), counts.join(", "));
}
