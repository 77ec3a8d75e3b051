//! Lakes over real servers. `tests/servers/run.py` starts them and says where they are; without it these tests are skipped, loudly.

mod check;
#[cfg(feature = "tables")]
mod command;
mod damage;
#[cfg(feature = "tables")]
mod delta;
mod faults;
mod latency;
mod load;
mod store;
mod writer;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use lakeseal::clock::SystemClock;
use lakeseal::id::{RegionName, WriteId};
use lakeseal::key::PrivateKey;
use lakeseal::lake::{self, InitPlan, Lake, LakeConfig, OpenOptions, ProfileConfig, RegionConfig};
use lakeseal::region;
use lakeseal::store::ErasureStore;
use object_store::ObjectStore;
use serde::Deserialize;
use tokio::sync::{Mutex, MutexGuard};

/// Time limit of a request to a region, in these tests.
const TIMEOUT_MS: u64 = 5000;
/// Tells a test that it is the second process of another: the lake's configuration.
const SECOND_PROCESS: &str = "LAKESEAL_TEST_SECOND_PROCESS";

/// A server, and where it keeps its files.
#[derive(Debug, Clone, Deserialize)]
struct Server {
    name: String,
    kind: String,
    url: String,
    data: PathBuf,
}

impl Server {
    /// Its store, from below `folder`, with the credentials of `name`.
    fn open(&self, name: &str, folder: &str) -> Arc<dyn ObjectStore> {
        let name: RegionName = name.parse().unwrap();
        let options = region::OpenOptions { name: Some(&name), ..region::OpenOptions::default() };
        let url = format!("{}/{folder}", self.url);
        if self.kind == "directory" {
            std::fs::create_dir_all(&url).unwrap();
        }
        region::open(&url, &options).unwrap()
    }
}

/// The servers that are running. One test has them at a time: some kill them.
struct Servers {
    regions: Vec<Server>,
    fixtures: Vec<Server>,
    control: String,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::const_new(());

/// Whether only what can be afforded at every change is run.
fn ci() -> bool {
    std::env::var_os("LAKESEAL_TEST_CI").is_some()
}

impl Servers {
    /// The servers, or nothing, said loudly.
    async fn for_test(test: &str) -> Option<Self> {
        let Ok(regions) = std::env::var("LAKESEAL_TEST_REGIONS") else {
            eprintln!("SKIPPED servers::{test}: no servers; start them with tests/servers/run.py");
            return None;
        };
        let fixtures = std::env::var("LAKESEAL_TEST_FIXTURES").unwrap();
        Some(Self {
            regions: serde_json::from_str(&regions).unwrap(),
            fixtures: serde_json::from_str(&fixtures).unwrap(),
            control: std::env::var("LAKESEAL_TEST_CONTROL").unwrap(),
            _alone: ALONE.lock().await,
        })
    }

    fn region(&self, name: &str) -> &Server {
        self.regions.iter().find(|server| server.name == name).unwrap()
    }

    /// Has the supervisor kill, stop, continue or start a server; returns when it is done.
    fn order(&self, verb: &str, name: &str) {
        let mut stream = TcpStream::connect(&self.control).unwrap();
        writeln!(stream, "{verb} {name}").unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        assert_eq!(answer.trim(), "ok");
    }

    /// Kills a server, until the guard is dropped.
    fn kill(&self, name: &str) -> Fault<'_> {
        self.order("kill", name);
        Fault { servers: self, name: name.to_owned() }
    }

    /// Makes a server hang, until the guard is dropped.
    fn stop(&self, name: &str) -> Fault<'_> {
        self.order("stop", name);
        Fault { servers: self, name: name.to_owned() }
    }

    /// A new lake over the five regions.
    async fn lake(&self, test: &str, profile: ProfileConfig) -> TestLake {
        self.lake_with(test, profile, "", TIMEOUT_MS).await
    }

    /// As [`Self::lake`]; regions are called as their servers and `suffix`, which selects the credentials that they are used with.
    async fn lake_with(&self, test: &str, profile: ProfileConfig, suffix: &str, timeout_ms: u64) -> TestLake {
        let directory = tempfile::tempdir().unwrap();
        let folder = format!("{test}-{}", WriteId::random().unwrap());
        let region = |server: &Server| RegionConfig {
            timeout_ms,
            ..RegionConfig::new(format!("{}{suffix}", server.name).parse().unwrap(), format!("{}/{folder}", server.url))
        };
        let plan = InitPlan {
            config_path: directory.path().join("lakeseal.toml"),
            name: "servers".to_owned(),
            regions: self.regions.iter().map(region).collect(),
            profile,
            lakes_keys: directory.path().join("keys"),
            clock: Arc::new(SystemClock),
        };
        lake::init(plan).await.unwrap();
        TestLake { directory, folder }
    }
}

/// A server that is down or hangs; it serves again when this is dropped.
struct Fault<'a> {
    servers: &'a Servers,
    name: String,
}

impl Drop for Fault<'_> {
    fn drop(&mut self) {
        self.servers.order("start", &self.name);
    }
}

/// A lake with its configuration and keys.
struct TestLake {
    directory: tempfile::TempDir,
    /// The lake's folder in each server's bucket, container or directory.
    folder: String,
}

impl TestLake {
    fn config(&self) -> PathBuf {
        self.directory.path().join("lakeseal.toml")
    }

    async fn open(&self) -> ErasureStore {
        open(&self.config()).await.1
    }
}

/// Opens a lake as a process of its own does: from its configuration.
async fn open(config: &Path) -> (Lake, ErasureStore) {
    let config = LakeConfig::load(config).unwrap();
    let key = config.directory.join("keys").join(config.id.to_string()).join("writer.pem");
    let writer = PrivateKey::from_file(&key).unwrap();
    let lake = lake::open(&config, OpenOptions { writer: Some(writer), clock: Arc::new(SystemClock) }).await.unwrap();
    let store = ErasureStore::new(lake.region_set.clone(), lake.profile().unwrap(), lake.writer.clone(), lake.clock.clone()).unwrap();
    (lake, store)
}

/// This test (`module_path` and name) as a second process over the same lake.
fn second_process(module_path: &str, test: &str, config: &Path) -> tokio::process::Command {
    let name = format!("{}::{test}", module_path.split_once("::").unwrap().1);
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &name, "--nocapture"]).env(SECOND_PROCESS, config).kill_on_drop(true);
    command
}

fn expect_passed(output: &Output) {
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

/// Bytes that only `seed` makes.
fn bytes_of(seed: u64, length: usize) -> bytes::Bytes {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}
