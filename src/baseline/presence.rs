//! Sealed files by a listing: whether they are there, and as long as they were.

use std::collections::HashMap;
use std::sync::Arc;

use futures::TryStreamExt as _;
use object_store::ObjectStore;
use object_store::path::Path;

use super::sealed::{SealedFile, SealedTable};
use super::verdict::{Finding, Verdict};
use crate::error::Result;
use crate::table::TableSnapshot;
use crate::table::deletion_vector::{Descriptor, descriptor};

/// Sizes in bytes of what a store lists.
pub(super) type Sizes = HashMap<Path, u64>;

/// All objects below `root`. Cost: one LIST of the table; memory: the paths below it.
///
/// # Errors
/// Those of the store.
pub(super) async fn sizes(store: &dyn ObjectStore, root: &Path) -> Result<Sizes> {
    let prefix = (!root.as_ref().is_empty()).then_some(root);
    Ok(store.list(prefix).map_ok(|meta| (meta.location, meta.size)).try_collect().await?)
}

/// The sealed live files, and deletion vectors, of a Delta table that its store no longer lists with their size.
pub(super) fn compare_presence(root: &Path, sizes: &Sizes, snapshot: &TableSnapshot, sealed: &SealedTable) -> Vec<Finding> {
    let live = sealed.files.values().filter(|file| snapshot.files.contains_key(&file.live.key));
    live.filter_map(|file| finding(root, file, sizes)).collect()
}

fn finding(root: &Path, file: &Arc<SealedFile>, sizes: &Sizes) -> Option<Finding> {
    let found = file.live.location.as_ref().and_then(|location| sizes.get(location));
    let of = |verdict, detail: String| Some(Finding::new(verdict, detail).file(&file.live.key.path));
    match found {
        Some(size) if *size == file.live.size => {}
        Some(size) => return of(Verdict::Modified, format!("sealed {} bytes, found {size}", file.live.size)),
        None => return of(Verdict::Missing, "the sealed file is gone".to_owned()),
    }
    let descriptor = file.live.deletion_vector.as_ref().and_then(|vector| descriptor(root, vector).ok());
    match descriptor {
        Some(Descriptor::File { location: Some(location), .. }) if !sizes.contains_key(&location) => {
            of(Verdict::Modified, "the file of its deletion vector is gone".to_owned())
        }
        _ => None,
    }
}
