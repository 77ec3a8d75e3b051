//! Files that other tables of the lake name as theirs, as shallow clones do.

use futures::TryStreamExt as _;
use object_store::path::Path;

use super::super::{Location, tables};
use super::{Names, commits};
use crate::baseline::{Repository, Trust};
use crate::error::{ErrorKind, Result};
use crate::table::{self, CanonicalPath, FileKey, canonical_path};

/// The names of the files, wherever those lie, that the logs of the other tables of the lake name by whole URLs, and of those that seals of such tables have
/// where they let them name files of this one. Which table a URL leads to is not asked: there are several spellings of one, and of names there is one.
///
/// Cost: what reading the other tables' logs takes, one GET more for each of their commits.
///
/// # Errors
/// Those of reading them: what a table that cannot be read names is not known.
pub(super) async fn names(location: &Location, trust: Option<&Trust>) -> Result<Names> {
    let mut names = Names::default();
    for other in tables(location.store().as_ref()).await? {
        let other = Path::parse(&other).map_err(object_store::Error::from)?;
        if other != *location.root() {
            add(&mut names, location, &other, trust).await.map_err(|e| e.with("other table", &other))?;
        }
    }
    Ok(names)
}

async fn add(names: &mut Names, location: &Location, other: &Path, trust: Option<&Trust>) -> Result<()> {
    let store = location.store();
    let snapshot = match table::load(store.as_ref(), other, None).await {
        Ok(snapshot) => snapshot,
        // It was taken away meanwhile, or never made.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let is_foreign = |key: &&FileKey| matches!(canonical_path(&key.path), CanonicalPath::Foreign(_));
    names.add_keys(snapshot.files.iter().filter(|(_, file)| file.location.is_none()).map(|(key, _)| key));
    names.add_keys(snapshot.tombstones.keys().filter(is_foreign));
    let mut reads = std::pin::pin!(commits(store.as_ref(), other, &snapshot));
    while let Some(commit) = reads.try_next().await? {
        let adds = commit.contents.adds.iter().filter(|file| file.location.is_none()).map(|file| &file.key);
        names.add_keys(adds.chain(commit.contents.removes.iter().filter(is_foreign)));
    }
    let Some(trust) = trust else { return Ok(()) };
    let repository = Repository::new(store.clone(), other.clone());
    let Some(newest) = repository.newest_statement(trust).await? else { return Ok(()) };
    let own = location.url().as_str().trim_end_matches('/');
    if newest.statement.foreign_roots.0.iter().any(|root| root.url.trim_end_matches('/') == own) {
        let sealed = repository.sealed_table(newest).await?;
        names.add_keys(sealed.files.keys().chain(sealed.removed.keys()));
    }
    Ok(())
}
