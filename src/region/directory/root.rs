//! Whether the root still is the region's: there, a directory, and with the `id` that was read from it.
//!
//! A directory can be emptied, replaced or unmounted while it is in use. What is then not there was not *never there*: taken for that, the
//! region would be an acceptor that forgot its votes. So every *not found*, every list and every write looks at `id`.

use std::fs::{self, File};
use std::io::{ErrorKind as IoKind, Read as _};
use std::path::{Path as FsPath, PathBuf};

use object_store::path::Path;
use parking_lot::RwLock;

use super::files::refused;
use crate::error::{Error, ErrorKind, Result};
use crate::region::layout;

/// Longest `id` that is remembered, in bytes.
const ID_LIMIT_BYTES: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    /// Whether it is a region's, as far as messages go.
    of_region: bool,
    /// What `id` held when it was first read, or last written, through this store. Until then nothing is known to be the region's.
    id: RwLock<Option<Vec<u8>>>,
}

impl Root {
    pub(super) fn new(path: PathBuf, of_region: bool) -> Self {
        Self { path, of_region, id: RwLock::new(None) }
    }

    pub(super) fn path(&self) -> &FsPath {
        &self.path
    }

    /// Fails unless the root is a directory, and the region's if that is known. Cost: one `stat`, and the reading of `id`.
    pub(super) fn check(&self) -> Result<()> {
        let what = match fs::metadata(&self.path) {
            Ok(meta) if meta.is_dir() => return self.check_id(),
            Ok(_) if !self.of_region => "the directory was replaced by something else",
            Ok(_) => "the region's directory is not a directory",
            Err(error) if error.kind() == IoKind::NotFound && !self.of_region => {
                "the directory is missing: it was removed, or its disk is not mounted"
            }
            Err(error) if error.kind() == IoKind::NotFound => {
                "the region's directory is missing (it is never made anew: an empty one would have forgotten its votes)"
            }
            Err(error) => return Err(refused(error, "looking at the directory").with("directory", self.path.display())),
        };
        Err(self.unavailable(what))
    }

    fn check_id(&self) -> Result<()> {
        let known = self.id.read();
        let Some(known) = known.as_ref() else { return Ok(()) };
        match self.read_id() {
            Ok(found) if found == *known => Ok(()),
            Ok(_) => Err(self.unavailable("the directory became another region's, or another incarnation, while it was in use")),
            Err(error) if matches!(error.kind(), IoKind::NotFound | IoKind::IsADirectory) => {
                Err(self.unavailable("the region's `id` is gone: the directory was emptied or replaced, or its disk is not mounted"))
            }
            Err(error) => Err(refused(error, "reading the region's `id`").with("directory", self.path.display())),
        }
    }

    fn unavailable(&self, what: &str) -> Error {
        Error::new(ErrorKind::Unavailable, what).with("directory", self.path.display())
    }

    fn read_id(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path.join(layout::id_key().as_ref()))?.take(ID_LIMIT_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Remembers `id` when it is read for the first time; refuses a file system that takes `ID` for it.
    pub(super) fn learn(&self, key: &Path, opened: &fs::Metadata) -> Result<()> {
        if *key != layout::id_key() || self.id.read().is_some() {
            return Ok(());
        }
        let folded = self.path.join(key.as_ref().to_ascii_uppercase());
        if fs::symlink_metadata(folded).is_ok_and(|other| same_file(&other, opened)) {
            return Err(folding("case").with("directory", self.path.display()));
        }
        let id = self.read_id().map_err(|e| refused(e, "reading the region's `id`").with("directory", self.path.display()))?;
        self.id.write().get_or_insert(id);
        Ok(())
    }

    /// Whoever writes or deletes `id` through this store says what it is.
    pub(super) fn changed(&self, key: &Path) {
        if *key == layout::id_key() {
            *self.id.write() = self.read_id().ok();
        }
    }
}

#[cfg(unix)]
fn same_file(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn same_file(_: &fs::Metadata, _: &fs::Metadata) -> bool {
    true
}

fn folding(what: &str) -> Error {
    let message = format!("the file system takes names that differ by {what} for one; a region needs one that keeps all names apart");
    Error::new(ErrorKind::Unsupported, message)
}

/// Names that must be two files, and what their difference is called.
const TWINS: [(&str, &str, &str); 2] = [("probe-a", "probe-A", "case"), ("probe-\u{e9}", "probe-e\u{301}", "Unicode normalization")];

/// Fails when two names that differ are one file. `make` makes a file that must not exist; `exists` looks for one.
pub(super) fn check_names(make: impl Fn(&str) -> std::io::Result<()>, exists: impl Fn(&str) -> std::io::Result<bool>) -> Result<()> {
    let failed = |e| refused(e, "testing the names that the file system takes");
    for (name, twin, difference) in TWINS {
        make(name).map_err(failed)?;
        if exists(twin).map_err(failed)? {
            return Err(folding(difference));
        }
    }
    Ok(())
}
