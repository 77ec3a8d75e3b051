//! The file operations below a root that must exist.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind as IoKind, Write as _};
use std::path::{Path as FsPath, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use object_store::path::Path;
use object_store::{ObjectMeta, PutPayload};
use parking_lot::Mutex;

use super::root::{Root, check_names};
use crate::clock::{Clock as _, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::id::random_bytes;

/// Begins the names of what is no object; no physical key has a `#`.
const TEMPORARY: &str = "#tmp-";
/// The folder in the root where files lie until they are objects.
const STAGING: &str = "#tmp-staging";
/// Age after which a staged file is what a stopped process left, in milliseconds.
const STALE_MS: i64 = 24 * 60 * 60 * 1000;
/// Directories that are remembered as durable; more cost their syncing again.
const DURABLE_LIMIT: usize = 65_536;

/// Whether a finished file may take the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placing {
    Create,
    Overwrite,
}

#[derive(Debug)]
pub(super) struct Files {
    root: Root,
    fsync: bool,
    /// Whether what stopped processes left was removed since this store was opened.
    swept: AtomicBool,
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
    pub(super) fn new(root: PathBuf, fsync: bool, of_region: bool) -> Self {
        Self { root: Root::new(root, of_region), fsync, swept: AtomicBool::new(false), durable: Mutex::default() }
    }

    pub(super) fn root(&self) -> &FsPath {
        self.root.path()
    }

    /// Makes the root durably, and refuses a file system that does not keep names apart.
    pub(super) fn make_root(&self) -> Result<()> {
        let root = self.root();
        let missing: Vec<&FsPath> = root.ancestors().take_while(|directory| !directory.exists()).collect();
        fs::create_dir_all(root).map_err(|e| refused(e, "making the region's directory").with("directory", root.display()))?;
        missing.into_iter().filter_map(FsPath::parent).chain(root.parent()).try_for_each(|parent| self.sync_directory(parent))?;
        self.check_root()?;
        self.check_names().map_err(|e| e.with("directory", root.display()))
    }

    fn check_names(&self) -> Result<()> {
        let probes = self.root().join(format!("{TEMPORARY}{}", hex::encode(random_bytes::<8>()?)));
        fs::create_dir(&probes).map_err(|e| refused(e, "writing into the region's directory"))?;
        let make = |name: &str| File::create_new(probes.join(name)).map(|_| ());
        let checked = check_names(make, |name| probes.join(name).try_exists());
        let removed = fs::remove_dir_all(&probes).map_err(|e| refused(e, "deleting"));
        checked.and(removed)
    }

    /// Fails unless the root is there, and the region's.
    pub(super) fn check_root(&self) -> Result<()> {
        self.root.check()
    }

    pub(super) fn locate(&self, key: &Path) -> Result<PathBuf> {
        if key.as_ref().is_empty() || key.as_ref().split('/').any(is_temporary) {
            return Err(Error::new(ErrorKind::InvalidInput, "not a key of an object in a directory").with("key", key));
        }
        Ok(self.directory(key))
    }

    /// The directory of a prefix. `Path` admits neither `..` nor absolute segments.
    pub(super) fn directory(&self, prefix: &Path) -> PathBuf {
        let mut path = self.root().to_owned();
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
        refused(error, doing).with("key", key).with("directory", self.root().display())
    }

    pub(super) fn open(&self, key: &Path) -> Result<(File, ObjectMeta)> {
        let path = self.locate(key)?;
        let opened = File::open(path).and_then(|file| file.metadata().map(|meta| (file, meta)));
        let (file, meta) = opened.map_err(|e| self.explain(e, READING, key))?;
        if meta.is_dir() {
            return Err(self.explain(IoKind::IsADirectory.into(), READING, key));
        }
        self.root.learn(key, &meta)?;
        Ok((file, object_meta(key.clone(), &meta)))
    }

    pub(super) fn write(&self, key: &Path, payload: &PutPayload, placing: Placing) -> Result<ObjectMeta> {
        let mut temporary = self.stage(key)?;
        failpoint!("directory.staged");
        for chunk in payload {
            temporary.file.write_all(chunk).map_err(|e| self.explain(e, WRITING, key))?;
        }
        failpoint!("directory.written");
        self.place(&temporary, key, placing)
    }

    /// A new file that can become `key`; makes the directory that `key` will have, but never the root.
    pub(super) fn stage(&self, key: &Path) -> Result<Temporary> {
        let target = self.locate(key)?;
        self.check_root()?;
        self.make_parents(key)?;
        let staging = self.root().join(STAGING);
        if !self.swept.swap(true, Ordering::Relaxed) {
            sweep(&staging);
        }
        let path = staging.join(hex::encode(random_bytes::<8>()?));
        let file = match create_new(&path) {
            Err(error) if error.kind() == IoKind::NotFound => make_directory(&staging).and_then(|()| create_new(&path)),
            made => made,
        };
        Ok(Temporary { file: file.map_err(|e| self.explain(e, WRITING, key))?, path, target })
    }

    /// Makes a staged file the object `key`, durably: first its bytes, then its name.
    pub(super) fn place(&self, staged: &Temporary, key: &Path, placing: Placing) -> Result<ObjectMeta> {
        if self.fsync {
            staged.file.sync_all().map_err(|e| self.explain(e, WRITING, key))?;
        }
        failpoint!("directory.synced");
        let meta = staged.file.metadata().map_err(|e| self.explain(e, WRITING, key))?;
        // A link fails when the name is taken, and does so atomically; a rename replaces.
        let placed = match placing {
            Placing::Create => fs::hard_link(&staged.path, &staged.target),
            Placing::Overwrite => fs::rename(&staged.path, &staged.target),
        };
        placed.map_err(|e| self.explain(e, WRITING, key))?;
        failpoint!("directory.placed");
        if placing == Placing::Create {
            let _gone = fs::remove_file(&staged.path);
            failpoint!("directory.unstaged");
        }
        self.sync_parent(&staged.target)?;
        self.root.changed(key);
        // What was written into a directory that is the region's no longer was not written to the region.
        self.check_root()?;
        failpoint!("directory.durable");
        Ok(object_meta(key.clone(), &meta))
    }

    pub(super) fn remove(&self, key: &Path) -> Result<()> {
        let path = self.locate(key)?;
        failpoint!("directory.before-removal");
        fs::remove_file(&path).map_err(|e| self.explain(e, REMOVING, key))?;
        failpoint!("directory.removed");
        self.root.changed(key);
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
        self.check_root()?;
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
        let mut directory = self.root().to_owned();
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
            failpoint!("directory.made-parent");
            // Also when another made it: it may not have come to syncing it yet.
            self.sync_directory(&parent)?;
            let mut durable = self.durable.lock();
            if durable.len() >= DURABLE_LIMIT {
                durable.clear();
            }
            durable.insert(directory.clone());
        }
        Ok(())
    }

    fn sync_parent(&self, path: &FsPath) -> Result<()> {
        self.sync_directory(path.parent().unwrap_or(self.root()))
    }

    fn sync_directory(&self, directory: &FsPath) -> Result<()> {
        if !self.fsync {
            return Ok(());
        }
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(|e| refused(e, "syncing").with("directory", directory.display()))
    }
}

fn create_new(path: &FsPath) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

/// Makes one directory below one that must be there.
fn make_directory(path: &FsPath) -> std::io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == IoKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Removes what stopped processes left, best effort. Whoever still writes to such a file fails when it is to be placed, and says so.
fn sweep(staging: &FsPath) {
    let Ok(listing) = fs::read_dir(staging) else { return };
    let now = SystemClock.now_ms();
    for entry in listing.flatten() {
        let modified = entry.metadata().and_then(|meta| meta.modified());
        let since = modified.ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let modified_ms = since.and_then(|since| i64::try_from(since.as_millis()).ok());
        if modified_ms.is_some_and(|modified_ms| now.saturating_sub(modified_ms) > STALE_MS) {
            let _kept = fs::remove_file(entry.path());
        }
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

/// What a file is as an object.
///
/// Its stamp is when it got its name, for ages are told by stamps. The time of its bytes may be long before that: a process can be suspended between
/// writing a vote and placing it. The time of the last change of its status cannot: linking and renaming set it, by the kernel's clock, in the very change that
/// makes the name, so it is as durable as the name without a sync of its own. What else sets it (another owner or mode, a copy of the region)
/// makes the object younger, which only delays. The tag goes by the bytes' time alone, and stays.
pub(super) fn object_meta(location: Path, meta: &fs::Metadata) -> ObjectMeta {
    let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let e_tag = Some(format!("{:x}-{:x}-{:x}", inode(meta), since.as_micros(), meta.len()));
    let stamp = changed(meta).map_or(modified, |changed| changed.max(modified));
    ObjectMeta { location, last_modified: stamp.into(), size: meta.len(), e_tag, version: None }
}

/// When a file's status last changed.
#[cfg(unix)]
fn changed(meta: &fs::Metadata) -> Option<SystemTime> {
    use std::os::unix::fs::MetadataExt as _;
    let nanos = u32::try_from(meta.ctime_nsec()).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(u64::try_from(meta.ctime()).ok()?, nanos))
}

/// Not known: the time of the bytes has to do.
#[cfg(not(unix))]
fn changed(_: &fs::Metadata) -> Option<SystemTime> {
    None
}

#[cfg(unix)]
fn inode(meta: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(meta)
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> u64 {
    0
}
