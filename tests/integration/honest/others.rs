//! What other programs do to tables, and what deltalake cannot write.

use std::path::Path;
use std::process::Command;

use lakeseal::baseline::Verdict;

use super::super::support::arena::Kind;
use super::super::support::python;
use super::life::Life;

/// Name of the history, what it is called in the list, its own queries, and the steps that prove themselves by their rows.
struct Other {
    history: &'static str,
    title: &'static str,
    queries: &'static [&'static str],
    rewrites: &'static [usize],
}

const COUNT: &[&str] = &["SELECT COUNT(*) FROM t", "SELECT id FROM t ORDER BY id"];
const ALL: &[&str] = &[];

const OTHERS: [Other; 11] = [
    Other { history: "vectors", title: "DELETE with deletion vectors", queries: ALL, rewrites: &[] },
    Other { history: "widening", title: "type widening", queries: COUNT, rewrites: &[] },
    Other { history: "mapping", title: "column mapping, RENAME and DROP COLUMN", queries: COUNT, rewrites: &[] },
    Other { history: "nothing", title: "empty commits, empty files, txn, statistics said again", queries: ALL, rewrites: &[] },
    Other { history: "compact_vectors", title: "REORG of deletion vectors", queries: ALL, rewrites: &[1] },
    Other { history: "encodings", title: "conversion between encodings and compressions", queries: ALL, rewrites: &[1, 2, 3, 4, 5, 6] },
    Other { history: "pyarrow_folder", title: "folder of Parquet by PyArrow", queries: ALL, rewrites: &[] },
    Other { history: "duckdb_folder", title: "folder of Parquet by DuckDB", queries: ALL, rewrites: &[] },
    Other { history: "duckdb_file", title: "Delta table with files by DuckDB", queries: ALL, rewrites: &[] },
    Other { history: "pyarrow_table", title: "deltalake for Python", queries: ALL, rewrites: &[3] },
    Other { history: "polars_table", title: "Polars", queries: ALL, rewrites: &[] },
];

pub async fn all() -> Vec<Life> {
    let out = tempfile::tempdir().unwrap();
    // Installs what the steps need, or says that it cannot.
    if !python::run("honest::histories_by_others", "attacks/run.py", &[out.path()]).await {
        return Vec::new();
    }
    let mut lives = Vec::new();
    for other in &OTHERS {
        lives.push(live(other).await);
    }
    lives
}

async fn live(other: &Other) -> Life {
    let mut life = Life::new(other.title, Kind::Plain).await;
    if !other.queries.is_empty() {
        life = life.asking(other.queries);
    }
    let folder = life.arena.directory.join("t");
    for step in 0.. {
        if !taken(&folder, other.history, step).await {
            assert!(step > 0, "{} has no steps", other.history);
            break;
        }
        let wanted: &[Verdict] = if other.rewrites.contains(&step) { &[Verdict::Rewritten] } else { &[] };
        life.step_with(&format!("step {step}"), wanted).await;
    }
    life
}

/// Takes a step, if there is one.
async fn taken(folder: &Path, history: &str, step: usize) -> bool {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/honest/step.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(folder).arg(history).arg(step.to_string());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{history} {step}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim() != "done"
}
