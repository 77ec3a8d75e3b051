//! A lake in five (or fewer) directories that two processes can open, and the journal outside of it.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use lakeseal::clock::SystemClock;
use lakeseal::key::PrivateKey;
use lakeseal::lake::{self, InitPlan, Lake, LakeConfig, ProfileConfig, RegionConfig};
use lakeseal::store::ErasureStore;

const PREFIX: &str = "LAKESEAL_CRASH_";

/// A variable for the processes of these tests.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(format!("{PREFIX}{name}")).ok()
}

/// This test binary once more, running one ignored test only.
pub fn again(test: &str, variables: &[(&str, Option<&str>)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    for (name, value) in variables {
        match value {
            Some(value) => command.env(format!("{PREFIX}{name}"), value),
            None => command.env_remove(format!("{PREFIX}{name}")),
        };
    }
    command
}

/// How a lake is coded; a region for each shard, and some to spare.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub data: u8,
    pub parity: u8,
    pub spare: u8,
    pub fsync: bool,
    pub retention_seconds: u64,
}

pub struct CrashLake {
    directory: PathBuf,
}

impl CrashLake {
    pub fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    pub async fn made(directory: &Path, shape: Shape) -> Self {
        let this = Self::at(directory.to_owned());
        let region = |i| RegionConfig { fsync: shape.fsync, ..RegionConfig::new(format!("r{i}").parse().unwrap(), format!("r{i}")) };
        let plan = InitPlan {
            config_path: this.config_path(),
            name: "crash".to_owned(),
            regions: (0..shape.data + shape.parity + shape.spare).map(region).collect(),
            // Small segments, so that an object of 200 kB has several.
            profile: ProfileConfig {
                segment_bytes: 96 * 1024,
                retention_seconds: shape.retention_seconds,
                ..ProfileConfig::new(shape.data, shape.parity)
            },
            lakes_keys: directory.join("keys"),
            clock: Arc::new(SystemClock),
        };
        lake::init(plan).await.unwrap();
        this
    }

    pub fn config_path(&self) -> PathBuf {
        self.directory.join("lakeseal.toml")
    }

    pub fn config(&self) -> LakeConfig {
        LakeConfig::load(&self.config_path()).unwrap()
    }

    /// Where the private key of a role lies.
    pub fn key(&self, role: &str) -> PathBuf {
        self.directory.join("keys").join(self.config().id.to_string()).join(format!("{role}.pem"))
    }

    pub fn region(&self, index: usize) -> PathBuf {
        self.directory.join(format!("r{index}"))
    }

    /// Opens the lake as a new process does.
    pub async fn open_lake(&self) -> Lake {
        let config = self.config();
        let writer = PrivateKey::from_file(&self.key("writer")).unwrap();
        let options = lake::OpenOptions { writer: Some(writer), clock: Arc::new(SystemClock) };
        lake::open(&config, options).await.unwrap()
    }

    pub async fn open(&self) -> ErasureStore {
        store(&self.open_lake().await)
    }

    pub fn journal(&self) -> Journal {
        self.journal_of("")
    }

    pub fn journal_of(&self, writer: &str) -> Journal {
        let path = self.directory.join(format!("journal{writer}"));
        Journal(OpenOptions::new().append(true).create(true).open(path).unwrap())
    }

    pub fn read_journal(&self) -> String {
        self.read_journal_of("")
    }

    /// What a writer noted; its last line may be cut.
    pub fn read_journal_of(&self, writer: &str) -> String {
        let text = std::fs::read_to_string(self.directory.join(format!("journal{writer}"))).unwrap_or_default();
        text.rfind('\n').map(|end| text[..=end].to_owned()).unwrap_or_default()
    }
}

pub fn store(lake: &Lake) -> ErasureStore {
    ErasureStore::new(Arc::clone(&lake.region_set), lake.profile().unwrap(), lake.writer.clone(), Arc::clone(&lake.clock)).unwrap()
}

/// What a writer was told, written down at once: a killed process loses nothing that the system took.
pub struct Journal(File);

impl Journal {
    pub fn note(&mut self, line: &str) {
        self.0.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}
