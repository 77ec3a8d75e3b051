//! A table over a plain directory or over an erasure lake in directories, sealed once and copied as often as need be.

use std::fs::{self, File};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use lakeseal::baseline::{AuditOptions, AuditReport, Auditor, SealOptions, SealOutcome, Sealer, Trust, TrustLevel};
use lakeseal::clock::{SharedClock, SystemClock};
use lakeseal::delta::{self, LakeStore, Location};
use lakeseal::key::PrivateKey;
use lakeseal::lake::{self, InitPlan, LakeConfig, ProfileConfig, RegionConfig};
use lakeseal::sql::{ReadMode, SealedSession, SessionOptions, TableOptions};
use lakeseal::store::ErasureStore;
use lakeseal::{Error, Result};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tempfile::TempDir;
use url::Url;

/// Where a table lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// In a directory, as any lake that was never coded.
    Plain,
    /// Coded over five directories as regions.
    Erasure,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Plain, Self::Erasure];

    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Erasure => "erasure",
        }
    }
}

/// A table called `t` in a directory of its own.
pub struct Arena {
    pub kind: Kind,
    pub store: Arc<dyn ObjectStore>,
    pub erasure: Option<ErasureStore>,
    pub location: Location,
    pub key: PrivateKey,
    pub clock: SharedClock,
    pub directory: PathBuf,
    _guard: TempDir,
}

impl Arena {
    /// An empty lake.
    pub async fn new(kind: Kind) -> Self {
        let guard = tempfile::tempdir().unwrap();
        if kind == Kind::Erasure {
            let region = |i: u8| RegionConfig { fsync: false, ..RegionConfig::new(format!("r{i}").parse().unwrap(), format!("r{i}")) };
            let plan = InitPlan {
                config_path: guard.path().join("lakeseal.toml"),
                name: "corpus".to_owned(),
                regions: (0..5).map(region).collect(),
                profile: ProfileConfig { retention_seconds: 100_000, ..ProfileConfig::new(3, 2) },
                lakes_keys: guard.path().join("keys"),
                clock: Arc::new(SystemClock),
            };
            lake::init(plan).await.unwrap();
        }
        Self::open(kind, guard).await
    }

    async fn open(kind: Kind, guard: TempDir) -> Self {
        let directory = guard.path().to_owned();
        let (store, erasure): (Arc<dyn ObjectStore>, _) = match kind {
            Kind::Plain => (Arc::new(LocalFileSystem::new_with_prefix(&directory).unwrap()), None),
            Kind::Erasure => {
                let store = open_lake(&directory).await;
                (Arc::new(store.clone()), Some(store))
            }
        };
        let location = match kind {
            Kind::Plain => Location::in_store(store.clone(), Path::from("t"), Url::parse("s3://corpus/t").unwrap(), "t"),
            Kind::Erasure => Location::in_lake(&LakeStore { name: "corpus".to_owned(), store: store.clone() }, "t"),
        };
        let key = PrivateKey::from_seed(&[7; 32]);
        Self { kind, store, erasure, location: location.unwrap(), key, clock: Arc::new(SystemClock), directory, _guard: guard }
    }

    /// The same bytes in another place: every file copied with its time.
    pub async fn copy(&self) -> Self {
        let guard = tempfile::tempdir().unwrap();
        copy_tree(&self.directory, guard.path());
        Self::open(self.kind, guard).await
    }

    /// Puts all files of `folder` into the table.
    pub async fn upload(&self, folder: &FilePath) {
        if self.kind == Kind::Plain {
            return copy_tree(folder, &self.directory.join("t"));
        }
        for path in files(folder) {
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            self.put(&name, fs::read(&path).unwrap()).await;
        }
    }

    /// The URL by which stock deltalake finds the table.
    pub fn engine_url(&self) -> Url {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if self.kind == Kind::Plain {
            let folder = self.directory.join("t");
            fs::create_dir_all(&folder).unwrap();
            return Url::from_directory_path(folder).unwrap();
        }
        let lake = format!("stock{}", NEXT.fetch_add(1, Ordering::Relaxed));
        delta::register_lake_scheme(&lake, self.store.clone()).unwrap();
        Url::parse(&format!("lakeseal://{lake}/t/")).unwrap()
    }

    /// The path in the store of an object of the table; `../` leads out of it.
    pub fn path(&self, name: &str) -> Path {
        match name.strip_prefix("../") {
            Some(outside) => Path::parse(outside).unwrap(),
            None => Path::parse(format!("t/{name}")).unwrap(),
        }
    }

    pub async fn put(&self, name: &str, bytes: Vec<u8>) {
        self.store.put(&self.path(name), bytes.into()).await.unwrap();
    }

    pub async fn get(&self, name: &str) -> Option<Vec<u8>> {
        match self.store.get(&self.path(name)).await {
            Ok(found) => Some(found.bytes().await.unwrap().to_vec()),
            Err(object_store::Error::NotFound { .. }) => None,
            Err(error) => panic!("{name}: {error}"),
        }
    }

    /// Replaces an object as a thief would who leaves no trace: in a directory its time stays, unless it is told.
    pub async fn replace(&self, name: &str, bytes: Option<Vec<u8>>, time_ms: Option<u64>) {
        let file = self.directory.join("t").join(name);
        let before = (self.kind == Kind::Plain).then(|| fs::metadata(&file).and_then(|meta| meta.modified()).ok()).flatten();
        match bytes {
            Some(bytes) => self.put(name, bytes).await,
            None => self.store.delete(&self.path(name)).await.unwrap(),
        }
        let told = time_ms.map(|ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms));
        if let (Kind::Plain, Some(time), true) = (self.kind, told.or(before), file.exists()) {
            File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        }
    }

    pub async fn try_seal(&self, options: SealOptions) -> Result<SealOutcome> {
        let (store, root, url) = (self.store.clone(), self.location.root().clone(), self.location.url().as_str());
        Sealer::new(store, root, url, self.key.clone(), self.clock.clone(), options)?.seal(&()).await
    }

    pub async fn seal(&self) -> SealOutcome {
        self.try_seal(SealOptions::default()).await.unwrap()
    }

    pub fn trust(&self) -> Trust {
        Trust::new([self.key.public()], TrustLevel::Given).unwrap()
    }

    pub async fn audit_with(&self, options: AuditOptions) -> Result<AuditReport> {
        let (store, root, url) = (self.store.clone(), self.location.root().clone(), self.location.url().as_str());
        Auditor::new(store, root, url, self.trust(), self.clock.clone(), options).audit(&()).await
    }

    pub async fn audit(&self) -> AuditReport {
        self.audit_with(AuditOptions::default()).await.unwrap()
    }

    /// A session in which the table is called `t`.
    pub async fn session(&self, mode: ReadMode) -> Result<SealedSession> {
        self.session_with(mode, false).await
    }

    pub async fn session_with(&self, mode: ReadMode, require_sealed: bool) -> Result<SealedSession> {
        let tables = TableOptions { mode, require_sealed, clock: self.clock.clone(), ..TableOptions::default() };
        let session = SealedSession::new(SessionOptions { lake: None, trust: Some(self.trust()), tables }).await?;
        session.register("t", &self.location).await?;
        Ok(session)
    }

    /// Puts every object that an attack changed back, from the versions that the lake retains.
    ///
    /// Which version is the sealed one is told by its bytes alone. `None` where nothing is retained.
    pub async fn put_back(&self, name: &str, honest: Option<&[u8]>) -> Option<()> {
        let erasure = self.erasure.as_ref()?;
        let path = self.path(name);
        let Some(honest) = honest else { return erasure.delete(&path).await.ok() };
        for version in erasure.versions(&path).await.ok()? {
            let Some(id) = version.version.filter(|_| version.size == honest.len() as u64) else { continue };
            let options = object_store::GetOptions { version: Some(id.clone()), ..Default::default() };
            let Ok(found) = erasure.get_opts(&path, options).await else { continue };
            if found.bytes().await.ok()?.as_ref() == honest {
                return erasure.restore(&path, &id).await.ok().map(|_| ());
            }
        }
        None
    }
}

async fn open_lake(directory: &FilePath) -> ErasureStore {
    let config = LakeConfig::load(&directory.join("lakeseal.toml")).unwrap();
    let writer = PrivateKey::from_file(&directory.join("keys").join(config.id.to_string()).join("writer.pem")).unwrap();
    let lake = lake::open(&config, lake::OpenOptions { writer: Some(writer), clock: Arc::new(SystemClock) }).await.unwrap();
    ErasureStore::new(Arc::clone(&lake.region_set), lake.profile().unwrap(), lake.writer.clone(), Arc::clone(&lake.clock)).unwrap()
}

/// All files below `folder`.
pub fn files(folder: &FilePath) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
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

/// Copies a directory, with the files' times.
pub fn copy_tree(from: &FilePath, to: &FilePath) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        let target = to.join(name);
        if path.is_dir() {
            copy_tree(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
            let time = fs::metadata(&path).unwrap().modified().unwrap();
            File::options().write(true).open(&target).unwrap().set_modified(time).unwrap();
        }
    }
}

/// An error in one line, with all that it is about.
pub fn line(error: &Error) -> String {
    error.to_string().replace('\n', " ")
}
