//! The sealed state of a table, wherever what evidence does not hold of it is to be found.

use object_store::path::Path;
use object_store::{GetOptions, ObjectStore};

use crate::baseline::{ProvenState, SealedTable};
use crate::error::{Error, Result};
use crate::store::readable_versions;
use crate::table::{self, TableSnapshot, commit_path, read_commit};

/// The largest commit that is looked into, in bytes.
const COMMIT_LIMIT_BYTES: u64 = 256 << 20;

/// The state that `sealed` seals, whatever the log says now: files come from evidence; the protocol and the metadata, of which it has digests,
/// from what was `found`, from the log at the sealed version, from its commits, or from retained versions of these.
///
/// Cost: nothing when `found` has them; else the log, and the retained versions of its commits.
///
/// # Errors
/// [`crate::ErrorKind::Mismatch`] when they are nowhere to be found; the store's, when they may be where it could not be asked.
pub async fn sealed_state(
    store: &dyn ObjectStore,
    root: &Path,
    sealed: &SealedTable,
    found: Option<&TableSnapshot>,
) -> Result<TableSnapshot> {
    let mut state = ProvenState::new(sealed);
    if let Some(found) = found {
        state.offer_snapshot(found);
    }
    let unasked = search(store, root, sealed, &mut state).await?;
    match unasked.filter(|_| !state.is_complete()) {
        Some(error) => Err(error),
        None => state.snapshot(),
    }
}

/// Offers `state` what may hold what it lacks; gives back the first failure after which asking again may help.
async fn search(store: &dyn ObjectStore, root: &Path, sealed: &SealedTable, state: &mut ProvenState<'_>) -> Result<Option<Error>> {
    let mut unasked: Option<Error> = None;
    let mut note = |error: Error| {
        if error.is_retryable() {
            unasked.get_or_insert(error);
        }
    };
    if state.is_complete() {
        return Ok(None);
    }
    match table::load(store, root, sealed.baseline.version).await {
        Ok(at) => state.offer_snapshot(&at),
        Err(error) => note(error),
    }
    for version in sealed.commits.keys().rev() {
        if state.is_complete() {
            return Ok(None);
        }
        match read_commit(store, root, *version).await {
            Ok(bytes) => state.offer_commit(&bytes),
            Err(error) => note(error),
        }
    }
    for (version, commit) in sealed.commits.iter().rev().filter(|(_, commit)| commit.size <= COMMIT_LIMIT_BYTES) {
        if state.is_complete() {
            return Ok(None);
        }
        let path = commit_path(root, *version);
        for retained in readable_versions(store, &path, commit.size).await?.unwrap_or_default() {
            let options = GetOptions { version: Some(retained), ..GetOptions::default() };
            let read = async { store.get_opts(&path, options).await?.bytes().await };
            match read.await {
                Ok(bytes) => state.offer_commit(&bytes),
                Err(error) => note(error.into()),
            }
        }
    }
    Ok(unasked)
}
