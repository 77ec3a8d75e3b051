//! Export: the Parquet files of a table's version, out of the store into a directory.

use std::path::{Path as FilePath, PathBuf};

use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::io::AsyncWriteExt;

use super::Location;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{LiveFile, TableKind, TableSnapshot};

/// What an export wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exported {
    /// The version of the table.
    pub version: u64,
    /// Files written.
    pub files: u64,
    /// Bytes written.
    pub bytes: u64,
}

/// Copies the live files of `snapshot` from `location` into `directory`, in the folders that they have in the table.
///
/// Bytes are as trustworthy as the location's store makes them: a lake's own store checks every block, a
/// [`VerifiedStore`](crate::verify::VerifiedStore) holds them against the baseline. Each file's size must be what the log states.
/// A file appears under its name only when it is complete. `progress` is called with the bytes written so far.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for a directory that has something in it, [`ErrorKind::Unsupported`] for tables whose files are not
/// the table's rows as they stand (deletion vectors, column mapping, files elsewhere), [`ErrorKind::Corrupt`] for a size that is not
/// the log's.
pub async fn export(
    location: &Location,
    snapshot: &TableSnapshot,
    directory: &FilePath,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Exported> {
    check_exportable(snapshot)?;
    prepare(directory)?;
    let mut done = Exported { version: snapshot.version, files: 0, bytes: 0 };
    for file in snapshot.files.values() {
        let Some(from) = &file.location else {
            return Err(unsupported("a file of it lies outside of the table").with("file", &file.raw_path));
        };
        let to = target(directory, file)?;
        done.bytes += copy(location.store().as_ref(), from, file, &to, done.bytes, progress).await?;
        done.files += 1;
    }
    Ok(done)
}

fn unsupported(why: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("the table's files cannot be exported as they stand: {why}; use `sql` instead"))
}

fn check_exportable(snapshot: &TableSnapshot) -> Result<()> {
    if let Some(file) = snapshot.files.values().find(|file| file.deletion_vector.is_some()) {
        return Err(unsupported("rows are deleted by deletion vectors").with("file", &file.raw_path));
    }
    let mapping = snapshot.metadata.pointer("/configuration/delta.columnMapping.mode").and_then(|mode| mode.as_str()).unwrap_or("none");
    if snapshot.kind == TableKind::Delta && mapping != "none" {
        return Err(unsupported("its columns have other names in the files (column mapping)"));
    }
    Ok(())
}

fn prepare(directory: &FilePath) -> Result<()> {
    let named = |e: std::io::Error| Error::from(e).with("directory", directory.display());
    match std::fs::read_dir(directory) {
        Ok(mut entries) => {
            match entries.next() {
                None => Ok(()),
                Some(_) => Err(Error::new(ErrorKind::InvalidInput, "the directory is not empty: name a new one")
                    .with("directory", directory.display())),
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => std::fs::create_dir_all(directory).map_err(named),
        Err(e) => Err(named(e)),
    }
}

/// Where the file goes. The path comes from the log, which is not trusted to stay inside of the directory.
fn target(directory: &FilePath, file: &LiveFile) -> Result<PathBuf> {
    let mut target = directory.to_owned();
    for part in file.key.path.split('/') {
        if part.is_empty() || part == "." || part == ".." || part.contains(['\\', '\0']) {
            return Err(Error::new(ErrorKind::Corrupt, "the log names a file by an impossible path").with("file", &file.raw_path));
        }
        target.push(part);
    }
    Ok(target)
}

async fn copy(
    store: &dyn ObjectStore,
    from: &Path,
    file: &LiveFile,
    to: &FilePath,
    before: u64,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<u64> {
    let named = |e: Error| e.with("file", &file.key.path);
    let failed = |e: std::io::Error| Error::from(e).with("file", to.display());
    if let Some(folder) = to.parent() {
        tokio::fs::create_dir_all(folder).await.map_err(failed)?;
    }
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let mut out = tokio::fs::File::create(&partial).await.map_err(failed)?;
    let mut bytes = store.get(from).await.map_err(|e| named(e.into()))?.into_stream();
    let mut written = 0;
    while let Some(next) = bytes.next().await {
        let next = next.map_err(|e| named(e.into()))?;
        out.write_all(&next).await.map_err(failed)?;
        written += next.len() as u64;
        progress(before + written);
    }
    if written != file.size {
        return Err(named(Error::new(ErrorKind::Corrupt, "a file has not the size that the log states"))
            .with("stated", file.size)
            .with("found", written));
    }
    out.sync_all().await.map_err(failed)?;
    tokio::fs::rename(&partial, to).await.map_err(failed)?;
    Ok(written)
}
