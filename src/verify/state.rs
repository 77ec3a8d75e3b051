//! The sealed state of a table, wherever what evidence does not hold of it is to be found.

use object_store::path::Path;
use object_store::{GetOptions, ObjectStore};

use crate::baseline::{ProvenState, SealedTable};
use crate::error::Result;
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
/// [`crate::ErrorKind::Unavailable`] when they are nowhere to be found.
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
    search(store, root, sealed, &mut state).await?;
    state.snapshot()
}

async fn search(store: &dyn ObjectStore, root: &Path, sealed: &SealedTable, state: &mut ProvenState<'_>) -> Result<()> {
    if state.is_complete() {
        return Ok(());
    }
    if let Ok(at) = table::load(store, root, sealed.baseline.version).await {
        state.offer_snapshot(&at);
    }
    for version in sealed.commits.keys().rev() {
        if state.is_complete() {
            return Ok(());
        }
        if let Ok(bytes) = read_commit(store, root, *version).await {
            state.offer_commit(&bytes);
        }
    }
    for (version, commit) in sealed.commits.iter().rev().filter(|(_, commit)| commit.size <= COMMIT_LIMIT_BYTES) {
        if state.is_complete() {
            return Ok(());
        }
        let path = commit_path(root, *version);
        for retained in readable_versions(store, &path, commit.size).await?.unwrap_or_default() {
            let options = GetOptions { version: Some(retained), ..GetOptions::default() };
            let Ok(found) = store.get_opts(&path, options).await else { continue };
            if let Ok(bytes) = found.bytes().await {
                state.offer_commit(&bytes);
            }
        }
    }
    Ok(())
}
