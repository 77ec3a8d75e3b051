//! Listing in the order of the keys' bytes, directory by directory.

use std::cmp::Ordering;
use std::fs;
use std::io::ErrorKind as IoKind;
use std::sync::Arc;

use object_store::path::Path;
use object_store::{ListResult, ObjectMeta};

use super::files::{Files, READING, is_temporary, object_meta};
use crate::error::Result;

/// Objects that are looked up in one go.
const BATCH: usize = 1024;

struct Entry {
    key: Path,
    is_directory: bool,
}

impl Entry {
    /// A directory `x` sorts as `x/`, since that is how the keys in it begin.
    fn order(&self, other: &Self) -> Ordering {
        self.text().cmp(other.text())
    }

    fn text(&self) -> impl Iterator<Item = u8> {
        self.key.as_ref().bytes().chain(self.is_directory.then_some(b'/'))
    }

    /// Whether everything here comes at or before `offset`.
    fn is_before(&self, offset: &Path) -> bool {
        if !self.is_directory {
            return self.key <= *offset;
        }
        let below_this = offset.as_ref().strip_prefix(self.key.as_ref()).is_some_and(|rest| rest.starts_with('/'));
        !below_this && self.text().lt(offset.as_ref().bytes())
    }
}

/// A walk in progress: the entries yet to be visited, the next one last.
pub(super) struct Walk {
    files: Arc<Files>,
    offset: Option<Path>,
    pending: Vec<Entry>,
    rooted: bool,
}

impl Walk {
    pub(super) fn new(files: Arc<Files>, prefix: Option<&Path>, offset: Option<&Path>) -> Self {
        let start = Entry { key: prefix.cloned().unwrap_or_default(), is_directory: true };
        Self { files, offset: offset.cloned(), pending: vec![start], rooted: false }
    }

    /// The next objects in order; empty at the end.
    pub(super) fn batch(&mut self) -> Result<Vec<ObjectMeta>> {
        if !self.rooted {
            // A missing root must not look like an empty region.
            self.files.check_root()?;
            self.rooted = true;
        }
        let mut found = Vec::new();
        while found.len() < BATCH {
            let Some(entry) = self.pending.pop() else { break };
            if entry.is_directory {
                self.descend(&entry.key)?;
            } else if let Some(meta) = stat(&self.files, entry.key)? {
                found.push(meta);
            }
        }
        if self.pending.is_empty() {
            // Nor may one that was emptied meanwhile.
            self.files.check_root()?;
        }
        Ok(found)
    }

    fn descend(&mut self, directory: &Path) -> Result<()> {
        let mut entries = read_directory(&self.files, directory)?;
        if let Some(offset) = &self.offset {
            entries.retain(|entry| !entry.is_before(offset));
        }
        entries.sort_unstable_by(|a, b| b.order(a));
        self.pending.append(&mut entries);
        Ok(())
    }
}

/// One level: its objects, and those of its directories that hold any.
pub(super) fn list_directory(files: &Files, prefix: &Path) -> Result<ListResult> {
    files.check_root()?;
    let mut entries = read_directory(files, prefix)?;
    entries.sort_unstable_by(Entry::order);
    let mut result = ListResult { common_prefixes: Vec::new(), objects: Vec::new() };
    for entry in entries {
        if !entry.is_directory {
            result.objects.extend(stat(files, entry.key)?);
        } else if holds_objects(files, &entry.key)? {
            result.common_prefixes.push(entry.key);
        }
    }
    files.check_root()?;
    Ok(result)
}

fn holds_objects(files: &Files, directory: &Path) -> Result<bool> {
    let mut pending = vec![directory.clone()];
    while let Some(directory) = pending.pop() {
        for entry in read_directory(files, &directory)? {
            if !entry.is_directory {
                return Ok(true);
            }
            pending.push(entry.key);
        }
    }
    Ok(false)
}

/// `None` when it was deleted meanwhile.
fn stat(files: &Files, key: Path) -> Result<Option<ObjectMeta>> {
    match fs::symlink_metadata(files.directory(&key)) {
        Ok(meta) => Ok(Some(object_meta(key, &meta))),
        Err(error) if error.kind() == IoKind::NotFound => files.check_root().map(|()| None),
        Err(error) => Err(files.explain(error, READING, &key)),
    }
}

/// Files and directories whose names can be parts of keys. A directory that is not there has none.
fn read_directory(files: &Files, directory: &Path) -> Result<Vec<Entry>> {
    let listing = match fs::read_dir(files.directory(directory)) {
        Ok(listing) => listing,
        Err(error) if matches!(error.kind(), IoKind::NotFound | IoKind::NotADirectory) => {
            return files.check_root().map(|()| Vec::new());
        }
        Err(error) => return Err(files.explain(error, READING, directory)),
    };
    let mut entries = Vec::new();
    for item in listing {
        let read = item.and_then(|item| item.file_type().map(|kind| (item.file_name(), kind)));
        let (name, kind) = match read {
            Ok(read) => read,
            Err(error) if error.kind() == IoKind::NotFound => continue,
            Err(error) => return Err(files.explain(error, READING, directory)),
        };
        let Some(name) = name.to_str().filter(|name| !is_temporary(name)) else { continue };
        if !kind.is_dir() && !kind.is_file() {
            continue;
        }
        let text = if directory.as_ref().is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
        if let Ok(key) = Path::parse(text) {
            entries.push(Entry { key, is_directory: kind.is_dir() });
        }
    }
    Ok(entries)
}
