//! Sealed files by a listing: whether they are there, and as long as they were.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::TryStreamExt as _;
use object_store::ObjectStore;
use object_store::path::Path;

use super::repository::Repository;
use super::sealed::{SealedFile, SealedTable};
use super::verdict::{Finding, Verdict};
use crate::error::{Error, Result};
use crate::table::deletion_vector::{Descriptor, descriptor};
use crate::table::{TableSnapshot, mount_of};

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

/// The sealed live files, and deletion vectors, of a Delta table that its store no longer lists with their size; `sizes` are those below its root.
/// Of another table that cannot be listed one finding says so, and nothing is said of its files; the last of such errors is given beside the findings.
///
/// Cost: one LIST of each other table that it has files of; memory: the paths below these.
pub(super) async fn compare_presence(
    repository: &Repository,
    sizes: Sizes,
    snapshot: &TableSnapshot,
    sealed: &SealedTable,
) -> (Vec<Finding>, Option<Error>) {
    let live: Vec<&Arc<SealedFile>> = sealed.files.values().filter(|file| snapshot.files.contains_key(&file.live.key)).collect();
    let (mut listed, mut found, mut failed) = (Listed { sizes, unlisted: BTreeSet::new() }, Vec::new(), None);
    for folder in folders_elsewhere(repository, &live) {
        let objects = repository.store().list(Some(&folder)).map_ok(|meta| (meta.location, meta.size));
        match objects.try_collect::<Vec<_>>().await.map_err(Error::from) {
            Ok(objects) => listed.sizes.extend(objects),
            Err(error) => {
                let table = repository.roots().0.iter().find(|table| table.mount(repository.root()) == folder);
                let url = table.map_or("a place that no root names", |table| table.url.as_str());
                let detail = format!("the files of the table at {url}, which this one is a clone of, cannot be listed: {error}");
                found.push(Finding::new(Verdict::Undetermined, detail));
                listed.unlisted.insert(folder);
                failed = Some(error);
            }
        }
    }
    found.extend(live.into_iter().filter_map(|file| finding(repository, file, sealed, &listed)));
    (found, failed)
}

/// What was listed, and the folders that stand for other tables and could not be.
struct Listed {
    sizes: Sizes,
    unlisted: BTreeSet<Path>,
}

impl Listed {
    fn is_unknown(&self, root: &Path, location: &Path) -> bool {
        !self.unlisted.is_empty() && mount_of(root, location).is_some_and(|folder| self.unlisted.contains(&folder))
    }
}

/// The folders that stand for other tables of which there are files.
fn folders_elsewhere(repository: &Repository, files: &[&Arc<SealedFile>]) -> BTreeSet<Path> {
    if repository.roots().is_empty() {
        return BTreeSet::new();
    }
    let places = files.iter().flat_map(|file| file.live.location.clone().into_iter().chain(vector_file(repository, file)));
    places.filter_map(|location| mount_of(repository.root(), &location)).collect()
}

/// The file of a deletion vector, where one is in a file.
fn vector_file(repository: &Repository, file: &SealedFile) -> Option<Path> {
    let vector = file.live.deletion_vector.as_ref()?;
    match descriptor(repository.root(), repository.roots(), vector) {
        Ok(Descriptor::File { location, .. }) => location,
        _ => None,
    }
}

fn finding(repository: &Repository, file: &Arc<SealedFile>, sealed: &SealedTable, listed: &Listed) -> Option<Finding> {
    let location = file.live.location.as_ref();
    let found = location.and_then(|location| listed.sizes.get(location));
    let of = |verdict, detail: String| Some(Finding::new(verdict, detail).file(&file.live.key.path));
    match found {
        _ if location.is_some_and(|location| listed.is_unknown(repository.root(), location)) => {}
        Some(size) if *size == file.live.size => {}
        Some(size) => return of(Verdict::Modified, format!("sealed {} bytes, found {size}", file.live.size)),
        None => return of(Verdict::Missing, sealed.gone(file)),
    }
    match vector_file(repository, file) {
        Some(location) if listed.is_unknown(repository.root(), &location) => None,
        Some(location) if !listed.sizes.contains_key(&location) => {
            of(Verdict::Modified, "the file of its deletion vector is gone".to_owned())
        }
        _ => None,
    }
}
