//! The user's own directory: private keys, and the public keys that the user trusts.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use etcetera::{AppStrategy as _, AppStrategyArgs};

use crate::baseline::SignedRoot;
use crate::error::{Error, ErrorKind, Result};
use crate::id::LakeId;
use crate::key::{Role, Scheme, SecretKey, Signer as _, VerifyingKey};
use crate::lake::write_whole;

/// The user's directory. Nothing in it is ever copied into a lake.
#[derive(Debug, Clone)]
pub struct Home(PathBuf);

impl Home {
    /// `explicit`, else `lakeseal` in the user's configuration directory.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the user has no home directory.
    pub fn resolve(explicit: Option<PathBuf>) -> Result<Self> {
        if let Some(directory) = explicit {
            return Ok(Self(directory));
        }
        let names = AppStrategyArgs { top_level_domain: "org".to_owned(), author: "lakeseal".to_owned(), app_name: "lakeseal".to_owned() };
        let strategy = etcetera::choose_app_strategy(names).map_err(|e| {
            Error::new(ErrorKind::Config, "there is no home directory to keep keys in; name one with --home or LAKESEAL_HOME").caused_by(e)
        })?;
        Ok(Self(strategy.config_dir()))
    }

    /// The directory itself.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// Where the private key of `role` is kept unless a command line says otherwise.
    pub fn key(&self, role: Role) -> PathBuf {
        self.0.join("keys").join(format!("{role}.pem"))
    }

    /// Where the keys of the lakes that this user made are kept, each under its lake's identity.
    pub fn all_lakes_keys(&self) -> PathBuf {
        self.0.join("lakes")
    }

    /// Where the keys of one of them are kept.
    pub fn lake_keys(&self, lake: LakeId) -> PathBuf {
        self.all_lakes_keys().join(lake.to_string())
    }

    /// The file of sealers' public keys that this user trusts.
    pub fn trusted_sealers(&self) -> PathBuf {
        self.0.join("trusted-sealers.pem")
    }

    /// The trust root that this user trusts, in the place of the list of sealers.
    pub fn trust_root(&self) -> PathBuf {
        self.0.join("trust-root.json")
    }

    /// Trusts `root` from now on.
    ///
    /// # Errors
    /// Those of writing the file.
    pub fn keep_trust_root(&self, root: &SignedRoot) -> Result<()> {
        Self::make_private(&self.0)?;
        let path = self.trust_root();
        write_whole(&path, &root.to_bytes(), true).map_err(|e| Error::from(e).with("file", path.display()))
    }

    /// Makes `directory` readable by its owner only.
    pub fn make_private(directory: &Path) -> Result<()> {
        let failed = |e: std::io::Error| {
            Error::new(ErrorKind::Io, "could not make a directory for keys").with("directory", directory.display()).caused_by(e)
        };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(directory).map_err(failed)
    }

    /// Adds `key` to the trusted sealers; a key that is there already is not added again.
    pub fn trust(&self, key: &VerifyingKey, comment: &str) -> Result<()> {
        let path = self.trusted_sealers();
        if path.exists() && VerifyingKey::all_from_file(&path)?.contains(key) {
            return Ok(());
        }
        Self::make_private(&self.0)?;
        let failed =
            |e: std::io::Error| Error::new(ErrorKind::Io, "could not add to the trusted sealers").with("file", path.display()).caused_by(e);
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        let entry = format!("# {comment}\n{}", key.to_pem()?);
        file.write_all(entry.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
    }

    /// Makes a key of `role` at `out`, or at its place in this directory, and trusts it when it is a sealer's.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a collector's key of another scheme than the store's; those of writing the files.
    pub fn new_key(&self, role: Role, scheme: Scheme, out: Option<PathBuf>) -> Result<(PathBuf, VerifyingKey)> {
        if role == Role::Collector && scheme != Scheme::Ed25519 {
            return Err(Error::new(ErrorKind::Unsupported, "the store's own formats, which collectors sign, know Ed25519 only"));
        }
        let path = match out {
            Some(path) => path,
            None => {
                let path = self.key(role);
                if let Some(parent) = path.parent() {
                    Self::make_private(parent)?;
                }
                path
            }
        };
        let key = SecretKey::generate(scheme)?;
        key.save_new(&path)?;
        if role == Role::Sealer {
            self.trust(&key.public(), &format!("made by this user: {}", path.display()))?;
        }
        Ok((path, key.public()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PrivateKey;

    #[test]
    fn a_new_sealer_is_trusted_once_and_a_writer_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(dir.path().join("home"))).unwrap();
        let (path, sealer) = home.new_key(Role::Sealer, Scheme::Ed25519, None).unwrap();
        assert_eq!(path, home.key(Role::Sealer));
        home.trust(&sealer, "again").unwrap();
        home.new_key(Role::Writer, Scheme::Ed25519, None).unwrap();
        let (_, second) = home.new_key(Role::Sealer, Scheme::P256, Some(dir.path().join("k"))).unwrap();
        assert_eq!(VerifyingKey::all_from_file(&home.trusted_sealers()).unwrap(), [sealer, second]);
        assert!(dir.path().join("k.pub").exists());
    }

    #[test]
    fn a_key_is_not_made_over_another() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(dir.path().to_owned())).unwrap();
        let (path, key) = home.new_key(Role::Sealer, Scheme::Ed25519, None).unwrap();
        assert_eq!(home.new_key(Role::Sealer, Scheme::Ed25519, None).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(VerifyingKey::from(PrivateKey::from_file(&path).unwrap().public()), key);
    }

    #[test]
    #[cfg(unix)]
    fn others_cannot_read_the_directory_of_keys() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(dir.path().join("home"))).unwrap();
        let (path, _) = home.new_key(Role::Root, Scheme::Ed25519, None).unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
    }
}
