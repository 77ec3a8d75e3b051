//! Tables that Spark, Databricks and old versions of deltalake wrote: whatever deltalake can read is sealed and is not accused.

use std::path::{Path, PathBuf};

use super::super::support::arena::{Kind, line};
use super::super::support::stock::Stock;
use super::life::Life;

/// Tables that deltalake opens and nobody may seal: of six, data files are not there; two state ranges that their data contradict.
const BROKEN: [&str; 8] = [
    "checkpoints",
    "checkpoints_vacuumed",
    "latest_not_checkpointed",
    "spark-variant-stable-feature-checkpoint",
    "table-with-domain-metadata",
    "with_checkpoint_no_last_checkpoint",
    "delta-0.8.0",
    "issue_1374",
];

/// Where the tables lie, if they are there.
fn tables() -> Option<Vec<PathBuf>> {
    let folder = match std::env::var_os("LAKESEAL_TEST_TABLES") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/delta-rs/tables"),
    };
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("\n!!! SKIPPED honest::tables_of_other_projects: there is no {}; set LAKESEAL_TEST_TABLES\n", folder.display());
        return None;
    };
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).flat_map(|path| tables_in(&path)).collect();
    found.sort();
    Some(found)
}

/// The folder itself when it has a log, else the tables below it.
fn tables_in(folder: &Path) -> Vec<PathBuf> {
    if folder.join("_delta_log").is_dir() {
        return vec![folder.to_owned()];
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let folders = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    folders.flat_map(|path| tables_in(&path)).collect()
}

pub async fn all() -> Vec<Life> {
    let mut lives = Vec::new();
    let mut refused = Vec::new();
    for path in tables().unwrap_or_default() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut life = Life::new(&name, Kind::Plain).await.asking(&["SELECT COUNT(*) FROM t", "SELECT * FROM t"]);
        life.arena.upload(&path).await;
        let stock = Stock::open(&life.arena).await.probe("sql", "SELECT COUNT(*) FROM t").await;
        let sealed = life.arena.try_seal(Default::default()).await;
        match sealed {
            Err(error) if stock.failed => refused.push(format!("{name}: by both; {}", line(&error))),
            Err(error) if BROKEN.contains(&name.as_str()) => refused.push(format!("{name}: {}", line(&error))),
            _ => {
                life.step("as it is").await;
                lives.push(life);
            }
        }
    }
    for line in refused {
        println!("refused: {line}");
    }
    lives
}
