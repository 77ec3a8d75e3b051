//! What commands work with: the user's home, the lake that the configuration describes, tables, keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::args::Global;
use super::home::Home;
use crate::baseline::{Repository, SignedRoot, Trust, TrustLevel, Writers};
use crate::clock::{SharedClock, SystemClock};
use crate::delta::{AttestingStore, LakeStore, Location};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{PrivateKey, Role, SecretKey, Signer as _, VerifyingKey};
use crate::lake::{self, Lake, LakeConfig, OpenOptions};
use crate::store::ErasureStore;

/// The name of a lake's configuration.
pub const CONFIG_FILE: &str = "lakeseal.toml";

/// Resolved global arguments, and what was opened with them.
#[derive(Debug)]
pub struct Context {
    /// The user's keys.
    pub home: Home,
    /// Where time comes from.
    pub clock: SharedClock,
    config: Option<PathBuf>,
    writer_key: Option<PathBuf>,
    opened: Mutex<Vec<Arc<ErasureStore>>>,
}

/// An open lake.
#[derive(Debug)]
pub struct OpenLake {
    /// Regions, configuration, what is down.
    pub lake: Lake,
    /// Its store.
    pub store: Arc<ErasureStore>,
    /// Name and store, for table names to be looked up in.
    pub named: LakeStore,
}

impl Context {
    /// Resolves the global arguments; touches nothing but directories' names.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the user has no home directory.
    pub fn new(global: Global) -> Result<Self> {
        Ok(Self {
            home: Home::resolve(global.home)?,
            clock: Arc::new(SystemClock),
            config: global.config,
            writer_key: global.writer_key,
            opened: Mutex::default(),
        })
    }

    /// Where a new configuration goes.
    pub fn new_config_path(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| PathBuf::from(CONFIG_FILE))
    }

    /// The configuration's file: as named, else the nearest one in this or a parent directory.
    fn config_path(&self) -> Result<Option<PathBuf>> {
        if let Some(named) = &self.config {
            return Ok(Some(named.clone()));
        }
        let here = std::env::current_dir().map_err(|e| Error::new(ErrorKind::Io, "the current directory is gone").caused_by(e))?;
        Ok(here.ancestors().map(|directory| directory.join(CONFIG_FILE)).find(|path| path.is_file()))
    }

    /// The configuration's file, which is there.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when there is none.
    pub fn existing_config_path(&self) -> Result<PathBuf> {
        let missing =
            || Error::new(ErrorKind::Config, format!("there is no {CONFIG_FILE} here or in a parent directory; name one with --config"));
        self.config_path()?.ok_or_else(missing)
    }

    /// Reads the lake's configuration.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when there is none, or it is malformed.
    pub fn config(&self) -> Result<LakeConfig> {
        let path = self.config_path()?.ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                format!(
                    "there is no {CONFIG_FILE} here or in a parent directory; make a lake with `lakeseal init`, or name one with --config"
                ),
            )
        })?;
        LakeConfig::load(&path)
    }

    /// Opens the lake.
    ///
    /// # Errors
    /// As [`Self::config`], and whatever opening it fails with: too few regions, a profile that is not the lake's.
    pub async fn lake(&self) -> Result<OpenLake> {
        let config = self.config()?;
        let writer = self.writer(&config)?;
        let lake = lake::open(&config, OpenOptions { writer, clock: self.clock.clone() }).await?;
        let store = Arc::new(ErasureStore::new(lake.region_set.clone(), lake.profile()?, lake.writer.clone(), self.clock.clone())?);
        self.opened.lock().push(store.clone());
        let mut named = LakeStore { name: config.name.clone(), store: store.clone() };
        if let Some(key) = &lake.writer {
            named = AttestingStore::around_lake(&named, key.clone(), self.clock.clone())?;
        }
        crate::delta::register_lake_scheme(&config.name, named.store.clone())?;
        Ok(OpenLake { lake, store, named })
    }

    /// The writer's private key, if there is one.
    ///
    /// # Errors
    /// What reading its file fails with.
    pub fn writer(&self, config: &LakeConfig) -> Result<Option<PrivateKey>> {
        match self.writer_key.as_ref().or(config.writer_key.as_ref()) {
            Some(file) => PrivateKey::from_file(&config.directory.join(file)).map(Some),
            None => {
                let file = self.home.lake_keys(config.id).join("writer.pem");
                // Reading needs no key: somebody else's lake is opened without one.
                if file.exists() { PrivateKey::from_file(&file).map(Some) } else { Ok(None) }
            }
        }
    }

    /// Opens the lake when `argument` is the name of a table in one, and finds the table.
    ///
    /// # Errors
    /// What opening the lake or naming the table fails with.
    pub async fn table(&self, argument: &str) -> Result<(Option<OpenLake>, Location)> {
        let lake = if self.is_in_lake(argument)? { Some(self.lake().await?) } else { None };
        let mut location = Location::parse(argument, lake.as_ref().map(|lake| &lake.named))?;
        // The commits of a lake's tables are attested by the lake's store, those of others by the user's own key, if there is one.
        if let (None, Some(key)) = (&lake, self.own_writer()?) {
            location = AttestingStore::around_table(&location, Arc::new(key), self.clock.clone())?;
        }
        let id = lake.as_ref().map(|lake| lake.lake.record.lake);
        Ok((lake, location.of_lake(id)))
    }

    /// The key with which the user attests commits to tables outside of lakes, if there is one: the one that was named, else HOME/keys/writer.pem.
    fn own_writer(&self) -> Result<Option<SecretKey>> {
        let own = self.home.key(Role::Writer);
        match &self.writer_key {
            Some(file) => SecretKey::from_file(file).map(Some),
            None if own.exists() => SecretKey::from_file(&own).map(Some),
            None => Ok(None),
        }
    }

    /// Whether `argument` has to be looked up in the lake. A path or a URL of another scheme works without one.
    pub fn is_in_lake(&self, argument: &str) -> Result<bool> {
        if let Some((scheme, _)) = argument.split_once("://") {
            return Ok(scheme == crate::delta::SCHEME);
        }
        let is_path = matches!(argument, "." | ".." | "~") || ["./", "../", "/", "~/"].iter().any(|start| argument.starts_with(start));
        Ok(!is_path && self.config_path()?.is_some())
    }

    /// Whether there is a configuration of a lake.
    pub fn has_config(&self) -> Result<bool> {
        Ok(self.config_path()?.is_some())
    }

    /// As [`Self::trust`], for commands that work without anybody to trust.
    pub fn trust_if_any(&self, files: &[PathBuf]) -> Result<Option<Trust>> {
        if files.is_empty() && !self.home.trusted_sealers().exists() && !self.home.trust_root().exists() {
            return Ok(None);
        }
        self.trust(files).map(Some)
    }

    /// Whom to trust: the named files, else the trust root that the user holds, else the user's own list.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when there is neither; what reading the files fails with.
    pub fn trust(&self, files: &[PathBuf]) -> Result<Trust> {
        if !files.is_empty() {
            return Trust::from_files(files, TrustLevel::Given);
        }
        let root = self.home.trust_root();
        if root.exists() {
            return SignedRoot::open_file(&root).map(Trust::from_root);
        }
        let own = self.home.trusted_sealers();
        if !own.exists() {
            let what =
                "nobody is trusted yet: make a sealer's key with `lakeseal keys new --role sealer`, or name public keys with --trust FILE";
            return Err(Error::new(ErrorKind::Config, what).with("file", own.display()));
        }
        Trust::from_files(&[own], TrustLevel::SelfMade)
    }

    /// As [`Self::trust`], moved on to the newest trust root that is published beside the table. Where that cannot be told, the one that is held
    /// stays: audits and seals look themselves, and say why.
    ///
    /// # Errors
    /// Those of [`Self::trust`].
    pub async fn trust_at(&self, files: &[PathBuf], location: &Location) -> Result<Trust> {
        let trust = self.trust(files)?;
        let repository = location.repository();
        Ok(repository.newest_trust(&trust).await.unwrap_or(trust))
    }

    /// Whose attestations count: every commit must have one by a key of the named files, else by a writer of the trust root; where neither lists
    /// any, the keys of the lake's writers are recognised, and not demanded.
    ///
    /// # Errors
    /// What reading the files fails with.
    pub fn writers(&self, files: &[PathBuf], trust: Option<&Trust>, lake: Option<&OpenLake>) -> Result<Writers> {
        let mut keys = Vec::new();
        for file in files {
            keys.extend(VerifyingKey::all_from_file(file)?);
        }
        if !files.is_empty() {
            return Ok(Writers::listed(keys));
        }
        let of_root = trust.map(|trust| trust.keys(Role::Writer)).unwrap_or_default();
        if !of_root.is_empty() {
            return Ok(Writers::listed(of_root.to_vec()).until_newer_root());
        }
        let known = match lake {
            Some(lake) => Writers::known(lake.lake.region_set.writers().to_vec()),
            None => Writers::known(self.own_writer()?.map(|key| key.public())),
        };
        Ok(if trust.is_some_and(|trust| trust.root().is_some()) { known.until_newer_root() } else { known })
    }

    /// Moves the trust root that the user holds on to the newest that is published beside a table, so that nobody can lead back to older ones.
    /// Roots that command lines name stay as they are.
    ///
    /// # Errors
    /// Those of [`Repository::newest_trust`], and of writing the file.
    pub async fn keep_newest_root(&self, repository: &Repository) -> Result<()> {
        let held = self.home.trust_root();
        if !held.exists() {
            return Ok(());
        }
        let root = SignedRoot::open_file(&held)?;
        match repository.newest_trust(&Trust::from_root(root.clone())).await?.root() {
            Some(newest) if newest.root().version > root.root().version => self.home.keep_trust_root(newest),
            _ => Ok(()),
        }
    }

    /// The sealer's private key.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when there is none; what reading the file fails with.
    pub fn sealer(&self, file: Option<&Path>) -> Result<SecretKey> {
        match file {
            Some(file) => SecretKey::from_file(file),
            None => {
                let own = self.home.key(Role::Sealer);
                if !own.exists() {
                    let what = "there is no sealer's key yet: make one with `lakeseal keys new --role sealer`, or name one with --key FILE";
                    return Err(Error::new(ErrorKind::Config, what).with("file", own.display()));
                }
                SecretKey::from_file(&own)
            }
        }
    }

    /// Lets go of the lakes that were opened. Whoever only reads, and opens a lake again and again, leaves nothing there that is worth waiting
    /// for; who still uses one keeps it.
    pub fn let_go(&self) {
        self.opened.lock().clear();
    }

    /// Lets what was acknowledged finish its background work, so that the next reader finds it without a detour.
    pub async fn finish(&self) {
        let opened = std::mem::take(&mut *self.opened.lock());
        for store in opened {
            store.quiesce().await;
        }
    }
}
