//! The real `lakeseal` command, run as a user runs it, with a home and a lake of its own.

mod bad_input;
pub mod care;
mod demo;
mod help;
mod lineage;
mod log;
mod plain_tables;
mod purge;
mod report;
mod row;
mod shell;
mod trust;
mod watch;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// The sample data of the repository.
pub fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sample-data").join(name)
}

/// A directory with a home for keys in it; commands run there.
pub struct Place {
    pub dir: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Run {
    /// Fails unless the command ended with `code` and without a panic.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert!(!self.err.contains("panicked"), "a panic:\n{}", self.err);
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Fails unless standard error is an error message with all of `parts`.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Self {
        assert!(self.err.contains("error: "), "no error message:\n{}", self.err);
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is not in\n{}", self.err);
        }
        self
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e} in {:?}", self.out))
    }
}

impl Place {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command, ready to run here.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lakeseal"));
        command.args(args).current_dir(self.dir.path()).env("LAKESEAL_HOME", self.path("home")).env("NO_COLOR", "1");
        let keys = ["LAKESEAL_WRITER_KEY", "LAKESEAL_SEALER_KEY", "LAKESEAL_COLLECTOR_KEY"];
        for unwanted in ["LAKESEAL_CONFIG", "LAKESEAL_LOG", "LAKESEAL_WEBHOOK"].into_iter().chain(keys) {
            command.env_remove(unwanted);
        }
        command
    }

    pub fn run(&self, args: &[&str]) -> Run {
        self.command(args).output().unwrap().into()
    }

    /// Makes the lake of five directories, 3 + 2, and a sealer's key.
    #[track_caller]
    pub fn init(&self) {
        let regions: Vec<String> = ["a", "b", "c", "d", "e"].iter().map(|r| format!("--region={r}=./r/{r}")).collect();
        let mut args = vec!["init", "--data", "3", "--parity", "2", "--no-fsync"];
        args.extend(regions.iter().map(String::as_str));
        self.run(&args).expect(0);
        self.run(&["keys", "new", "--role", "sealer"]).expect(0);
    }

    /// Imports a file into a table of the lake.
    #[track_caller]
    pub fn import(&self, file: &Path, table: &str) {
        self.run(&["import", file.to_str().unwrap(), "--table", table]).expect(0);
    }

    /// Writes a small CSV with `rows` rows beginning with `first`.
    pub fn csv(&self, name: &str, first: i64, rows: i64) -> PathBuf {
        let path = self.path(name);
        let lines: String = (first..first + rows).map(|i| format!("{i},name {i},{}.5\n", i % 7)).collect();
        std::fs::write(&path, format!("id,name,score\n{lines}")).unwrap();
        path
    }
}

/// Holds an exported file against the schema of others; skips loudly where Python or its packages cannot be had.
#[track_caller]
pub fn valid(kind: &str, file: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemas/validate.py");
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("schemas");
    // One at a time makes the environment.
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let run = match Command::new("python3").arg(&script).arg(&venv).args([kind.as_ref(), file.as_os_str()]).output() {
        Ok(output) => Run::from(output),
        Err(error) => return eprintln!("\n!!! SKIPPED: nothing validated {}: python3 cannot be run: {error}\n", file.display()),
    };
    match run.code {
        0 => println!("{kind}: {}", run.out.trim()),
        77 => eprintln!("\n!!! SKIPPED: nothing validated {}: {}\n", file.display(), run.err.trim()),
        code => panic!("{kind} is not valid ({code}): {}\n{}", run.err, std::fs::read_to_string(file).unwrap()),
    }
}

/// Every file below `directory`.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}
