//! Change-data files: what pipelines read that follow a table's changes. They are sealed whole, and an audit reads them again.
//!
//! VACUUM takes them away after a while, so that an absent one is no finding: its readers fail.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectStore;
use object_store::path::Path;

use super::compare_data::digest_object;
use super::sealed::{SealedObject, SealedTable};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{CanonicalPath, ChangeFile, TableSnapshot};

const CONCURRENCY: usize = 8;

/// The change-data files of a table that are to be sealed: known ones are taken over, new ones are read once.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a file outside of the table, [`ErrorKind::Mismatch`] for one that has not the size that its commit states;
/// what the store fails with.
pub(super) async fn to_be_sealed(
    store: &dyn ObjectStore,
    snapshot: &TableSnapshot,
    known: Option<&SealedTable>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<BTreeMap<String, SealedObject>> {
    let found: Vec<Option<SealedObject>> = stream::iter(&snapshot.changes)
        .map(|(path, file)| async move {
            match known.and_then(|known| known.changes.get(path)) {
                Some(sealed) => Ok(Some(sealed.clone())),
                None => observe(store, path, file, progress).await,
            }
        })
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().map(|file| (file.path.clone(), file)).collect())
}

async fn observe(store: &dyn ObjectStore, path: &str, file: &ChangeFile, progress: &(dyn Fn(u64) + Sync)) -> Result<Option<SealedObject>> {
    let failed = |error: Error| error.with("change-data file", path).with("commit", file.version);
    let Some(location) = &file.location else {
        return Err(failed(Error::new(
            ErrorKind::Unsupported,
            "a change-data file lies outside of the table; such a table cannot be sealed",
        )));
    };
    match digest_object(store, location, progress).await {
        Ok((_, size)) if file.size.is_some_and(|stated| stated != size) => {
            let error =
                Error::new(ErrorKind::Mismatch, "a change-data file has another size than its commit states, so the table is not sealed");
            Err(failed(error.with("found", size)))
        }
        Ok((digest, size)) => Ok(Some(SealedObject { path: path.to_owned(), size, digest })),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(e)),
    }
}

/// What became of a sealed change-data file.
pub(super) enum ChangeState {
    /// As sealed, or vacuumed.
    Same,
    /// It has other bytes.
    Differs(Digest, u64),
    /// It could not be read.
    Unknown(Error),
}

/// Reads every sealed change-data file again whose commit is still there. Cost: one GET each.
pub(super) async fn states<'a>(
    store: &dyn ObjectStore,
    root: &Path,
    snapshot: &TableSnapshot,
    sealed: &'a SealedTable,
    progress: &(dyn Fn(u64) + Sync),
) -> Vec<(&'a SealedObject, ChangeState)> {
    let named = sealed.changes.values().filter(|file| snapshot.changes.contains_key(&file.path));
    let reads = stream::iter(named).map(|file| async move {
        let Some(location) = CanonicalPath::Inside(file.path.clone()).location(root) else { return (file, ChangeState::Same) };
        let state = match digest_object(store, &location, progress).await {
            Ok((digest, _)) if digest == file.digest => ChangeState::Same,
            Ok((digest, size)) => ChangeState::Differs(digest, size),
            Err(e) if e.kind() == ErrorKind::NotFound => ChangeState::Same,
            Err(e) => ChangeState::Unknown(e),
        };
        (file, state)
    });
    reads.buffered(CONCURRENCY).collect().await
}
