//! The file operations below a root that must exist.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind as IoKind, Write as _};
use std::path::{Path as FsPath, PathBuf};

use object_store::path::Path;
use object_store::{ObjectMeta, PutPayload};
use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::id::random_bytes;

/// Begins the names of files that are not yet objects; no physical key has a `#`.
const TEMPORARY: &str = "#tmp-";

/// Whether a finished file may take the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placing {
    Create,
    Overwrite,
}

#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    fsync: bool,
    /// Directories whose own entry is known to be on the disk; nothing here removes directories.
    durable: Mutex<HashSet<PathBuf>>,
}

/// A file that becomes an object when it is placed, and vanishes when it is dropped before.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) file: File,
    path: PathBuf,
    target: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove.
        let _gone = fs::remove_file(&self.path);
    }
}

impl Files {
    pub(super) fn new(root: PathBuf, fsync: bool) -> Self {
        Self { root, fsync, durable: Mutex::default() }
    }

    pub(super) fn root(&self) -> &FsPath {
        &self.root
    }

    pub(super) fn make_root(&self) -> Result<()> {
        fs::create_dir_all(&self.root).map_err(|e| refused(e, "making the region's directory").with("directory", self.root.display()))?;
        match self.root.parent() {
            Some(parent) => self.sync_directory(parent),
            None => Ok(()),
        }
    }

    /// Fails unless the root is a directory.
    pub(super) fn check_root(&self) -> Result<()> {
        let what = match fs::metadata(&self.root) {
            Ok(meta) if meta.is_dir() => return Ok(()),
            Ok(_) => "the region's directory is not a directory",
            Err(error) if error.kind() == IoKind::NotFound => {
                "the region's directory is missing (it is never made anew: an empty one would have forgotten its votes)"
            }
            Err(error) => return Err(refused(error, "looking at the region's directory").with("directory", self.root.display())),
        };
        Err(Error::new(ErrorKind::Unavailable, what).with("directory", self.root.display()))
    }

    pub(super) fn locate(&self, key: &Path) -> Result<PathBuf> {
        if key.as_ref().is_empty() || key.as_ref().split('/').any(is_temporary) {
            return Err(Error::new(ErrorKind::InvalidInput, "not a key of an object in a directory").with("key", key));
        }
        Ok(self.directory(key))
    }

    /// The directory of a prefix. `Path` admits neither `..` nor absolute segments.
    pub(super) fn directory(&self, prefix: &Path) -> PathBuf {
        let mut path = self.root.clone();
        path.extend(prefix.as_ref().split('/').filter(|segment| !segment.is_empty()));
        path
    }

    /// What a failed operation on `key` means: *not found* only while the root is there.
    pub(super) fn explain(&self, error: std::io::Error, doing: &str, key: &Path) -> Error {
        if matches!(error.kind(), IoKind::NotFound | IoKind::NotADirectory | IoKind::IsADirectory) {
            if let Err(missing) = self.check_root() {
                return missing;
            }
            if doing == READING || doing == REMOVING {
                return Error::new(ErrorKind::NotFound, "no such object").with("key", key).caused_by(error);
            }
        }
        if error.kind() == IoKind::AlreadyExists {
            return Error::new(ErrorKind::AlreadyExists, "the object exists").with("key", key);
        }
        refused(error, doing).with("key", key).with("directory", self.root.display())
    }

    pub(super) fn open(&self, key: &Path) -> Result<(File, ObjectMeta)> {
        let path = self.locate(key)?;
        let opened = File::open(path).and_then(|file| file.metadata().map(|meta| (file, meta)));
        let (file, meta) = opened.map_err(|e| self.explain(e, READING, key))?;
        if meta.is_dir() {
            return Err(self.explain(IoKind::IsADirectory.into(), READING, key));
        }
        Ok((file, object_meta(key.clone(), &meta)))
    }

    pub(super) fn write(&self, key: &Path, payload: &PutPayload, placing: Placing) -> Result<ObjectMeta> {
        let mut temporary = self.stage(key)?;
        for chunk in payload {
            temporary.file.write_all(chunk).map_err(|e| self.explain(e, WRITING, key))?;
        }
        self.place(&temporary, key, placing)
    }

    /// A new file in the directory that `key` will have; makes that directory, but never the root.
    pub(super) fn stage(&self, key: &Path) -> Result<Temporary> {
        let target = self.locate(key)?;
        self.check_root()?;
        self.make_parents(key)?;
        let directory = target.parent().unwrap_or(&self.root);
        let path = directory.join(format!("{TEMPORARY}{}", hex::encode(random_bytes::<8>()?)));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).map_err(|e| self.explain(e, WRITING, key))?;
        Ok(Temporary { file, path, target })
    }

    /// Makes a staged file the object `key`, durably.
    pub(super) fn place(&self, staged: &Temporary, key: &Path, placing: Placing) -> Result<ObjectMeta> {
        if self.fsync {
            staged.file.sync_all().map_err(|e| self.explain(e, WRITING, key))?;
        }
        let meta = staged.file.metadata().map_err(|e| self.explain(e, WRITING, key))?;
        // A link fails when the name is taken, and does so atomically; a rename replaces.
        let placed = match placing {
            Placing::Create => fs::hard_link(&staged.path, &staged.target),
            Placing::Overwrite => fs::rename(&staged.path, &staged.target),
        };
        placed.map_err(|e| self.explain(e, WRITING, key))?;
        if placing == Placing::Create {
            let _gone = fs::remove_file(&staged.path);
        }
        self.sync_parent(&staged.target)?;
        Ok(object_meta(key.clone(), &meta))
    }

    pub(super) fn remove(&self, key: &Path) -> Result<()> {
        let path = self.locate(key)?;
        fs::remove_file(&path).map_err(|e| self.explain(e, REMOVING, key))?;
        self.sync_parent(&path)
    }

    pub(super) fn copy(&self, from: &Path, to: &Path, placing: Placing) -> Result<()> {
        let (mut source, _) = self.open(from)?;
        let mut temporary = self.stage(to)?;
        std::io::copy(&mut source, &mut temporary.file).map_err(|e| self.explain(e, WRITING, to))?;
        self.place(&temporary, to, placing).map(|_| ())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path, placing: Placing) -> Result<()> {
        let (source, target) = (self.locate(from)?, self.locate(to)?);
        self.open(from)?;
        self.make_parents(to)?;
        let moved = match placing {
            Placing::Create => fs::hard_link(&source, &target),
            Placing::Overwrite => fs::rename(&source, &target),
        };
        moved.map_err(|e| self.explain(e, WRITING, to))?;
        self.sync_parent(&target)?;
        if placing == Placing::Create {
            return self.remove(from);
        }
        self.sync_parent(&source)
    }

    fn make_parents(&self, key: &Path) -> Result<()> {
        let mut segments: Vec<_> = key.as_ref().split('/').collect();
        segments.pop();
        let mut directory = self.root.clone();
        for segment in segments {
            let parent = directory.clone();
            directory.push(segment);
            if self.durable.lock().contains(&directory) && directory.is_dir() {
                continue;
            }
            match fs::create_dir(&directory) {
                Err(error) if error.kind() == IoKind::AlreadyExists && directory.is_dir() => {}
                Err(error) if error.kind() == IoKind::AlreadyExists => {
                    let what = "a part of the key is an object already, so it cannot be a directory";
                    return Err(Error::new(ErrorKind::InvalidInput, what).with("key", key));
                }
                made => made.map_err(|e| self.explain(e, WRITING, key))?,
            }
            // Also when another made it: it may not have come to syncing it yet.
            self.sync_directory(&parent)?;
            self.durable.lock().insert(directory.clone());
        }
        Ok(())
    }

    fn sync_parent(&self, path: &FsPath) -> Result<()> {
        self.sync_directory(path.parent().unwrap_or(&self.root))
    }

    fn sync_directory(&self, directory: &FsPath) -> Result<()> {
        if !self.fsync {
            return Ok(());
        }
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(|e| refused(e, "syncing").with("directory", directory.display()))
    }
}

pub(super) const READING: &str = "reading";
pub(super) const WRITING: &str = "writing";
const REMOVING: &str = "deleting";

/// The operating system's refusal, with what helps.
pub(super) fn refused(error: std::io::Error, doing: &str) -> Error {
    let (kind, what) = match error.kind() {
        IoKind::StorageFull | IoKind::QuotaExceeded => (ErrorKind::Io, "the disk is full; free some space and try again"),
        IoKind::PermissionDenied => (ErrorKind::Permission, "the operating system denies access; check owner and mode of the directory"),
        IoKind::ReadOnlyFilesystem => (ErrorKind::Io, "the file system is mounted read-only"),
        IoKind::InvalidFilename => (ErrorKind::InvalidInput, "the file system does not take this name"),
        _ => (ErrorKind::Io, "the operating system reported an error"),
    };
    Error::new(kind, format!("{doing}: {what}")).caused_by(error)
}

pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

pub(super) fn object_meta(location: Path, meta: &fs::Metadata) -> ObjectMeta {
    let modified = meta.modified().unwrap_or(std::time::SystemTime::UNIX_EPOCH);
    let since = modified.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    let e_tag = Some(format!("{:x}-{:x}-{:x}", inode(meta), since.as_micros(), meta.len()));
    ObjectMeta { location, last_modified: modified.into(), size: meta.len(), e_tag, version: None }
}

#[cfg(unix)]
fn inode(meta: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(meta)
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> u64 {
    0
}
