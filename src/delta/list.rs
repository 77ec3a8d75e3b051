//! Which tables a lake has.

use futures::StreamExt;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::error::Result;
use crate::table::BEGUN;

/// How deep folders are searched for tables.
pub(super) const MAX_DEPTH: usize = 4;

/// The Delta tables in `store`, by path, sorted. A folder is a table when it has a `_delta_log`; tables do not nest.
///
/// Costs one short listing per folder above the tables and one per table; the tables' own files are not listed.
///
/// # Errors
/// Whatever the store's listings fail with.
pub async fn tables(store: &dyn ObjectStore) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut level: Vec<Path> = store.list_with_delimiter(None).await?.common_prefixes;
    for _ in 0..MAX_DEPTH {
        let mut below = Vec::new();
        for folder in level {
            if !may_be_table(&folder) {
                continue;
            }
            match has_log(store, &folder).await? {
                true => found.push(folder.to_string()),
                false => below.extend(store.list_with_delimiter(Some(&folder)).await?.common_prefixes),
            }
        }
        level = below;
    }
    found.sort();
    Ok(found)
}

/// Whether a log has more than the word that a table is being made.
pub(super) async fn has_log(store: &dyn ObjectStore, folder: &Path) -> Result<bool> {
    let mut objects = store.list(Some(&folder.clone().join("_delta_log")));
    while let Some(object) = objects.next().await {
        if object?.location.filename() != Some(BEGUN) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn may_be_table(folder: &Path) -> bool {
    folder.filename().is_some_and(|name| !name.starts_with(['_', '.']) && !name.contains('='))
}
