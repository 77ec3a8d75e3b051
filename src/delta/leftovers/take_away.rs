//! Deleting what is left over. The log is looked at again meanwhile: what it has come to name stays.

use futures::{StreamExt as _, stream};
use object_store::ObjectStoreExt as _;
use object_store::path::Path;

use super::candidates::check_protocol;
use super::{AT_ONCE, Leftovers, Location, Names, read_one};
use crate::error::{Error, ErrorKind, Result};
use crate::table::commit_versions;

/// Deletions after which the log is looked at again.
const BEFORE_ANOTHER_LOOK: usize = 1_000;

/// What became of files that were to be taken away.
#[derive(Debug, Default)]
pub struct TakenAway {
    /// How many are gone.
    pub files: u64,
    /// Those that could not be deleted, and why.
    pub left: Vec<(Path, Error)>,
    /// How many stay since a commit that was made meanwhile names them.
    pub named: u64,
    /// Why it was broken off, if it was: what was not deleted by then is there still.
    pub stopped: Option<Error>,
}

/// Refuses tables of which nothing is taken away.
///
/// # Errors
/// [`ErrorKind::Unsupported`] outside of a lake, where nothing brings a file back.
pub(crate) fn check_may_take_away(location: &Location) -> Result<()> {
    if location.is_in_lake() {
        return Ok(());
    }
    let what = "files are taken away of tables in a lake only, where a delete is undone while the retention lasts. Here it would be for good, and a \
                listing does not tell what other engines' writers, catalogs, links and clocks have to do with a file: use the VACUUM of the engine that \
                writes the table";
    Err(Error::new(ErrorKind::Unsupported, what).with("table", location.name()))
}

impl Leftovers {
    /// Deletes the files, but those that the log has come to name. In a lake their versions stay while the retention lasts.
    ///
    /// Cost: one DELETE a file, 8 at a time; a LIST of the log, and a GET of each newer commit, before the first and after each 1,000.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] outside of a lake, where nothing brings a file back.
    pub async fn take_away(&self, location: &Location) -> Result<TakenAway> {
        check_may_take_away(location)?;
        let mut taken = TakenAway::default();
        if let Err(error) = self.take_batches(location, &mut taken).await {
            taken.stopped = Some(error.with("table", location.name()));
        }
        Ok(taken)
    }

    async fn take_batches(&self, location: &Location, taken: &mut TakenAway) -> Result<()> {
        let (mut names, mut version) = (Names::default(), self.version);
        for files in self.files.chunks(BEFORE_ANOTHER_LOOK) {
            version = look_again(location, version, &mut names).await?;
            let paths: Vec<Path> = files.iter().map(|file| file.path.clone()).filter(|path| !names.has(path)).collect();
            let count = paths.len();
            taken.named += (files.len() - count) as u64;
            let failed = delete(location, paths).await;
            taken.files += (count - failed.len()) as u64;
            taken.left.extend(failed);
        }
        // Last: while it lies there, files that are left are no folder of Parquet.
        if let Some(begun) = self.begun.clone().filter(|_| taken.left.is_empty()) {
            look_again(location, version, &mut names).await?;
            taken.left.extend(delete(location, vec![begun]).await);
        }
        Ok(())
    }
}

/// Adds what commits after `version` name; the newest version.
async fn look_again(location: &Location, version: Option<u64>, names: &mut Names) -> Result<Option<u64>> {
    let (store, root) = (location.store().as_ref(), location.root());
    let versions = commit_versions(store, root).await?;
    let Some(known) = version else {
        return match versions.is_empty() {
            true => Ok(None),
            false => Err(Error::new(ErrorKind::Precondition, "the table was made meanwhile: look again what is left over")),
        };
    };
    let Some(newest) = versions.last().copied().filter(|newest| *newest >= known) else {
        return Err(Error::new(ErrorKind::Precondition, "the log became shorter meanwhile: audit the table").with("version", known));
    };
    for version in known.saturating_add(1)..=newest {
        let commit = read_one(store, root, version).await?;
        if let Some(protocol) = &commit.contents.protocol {
            check_protocol(protocol)?;
        }
        names.add_commit(&commit);
    }
    Ok(Some(newest))
}

async fn delete(location: &Location, paths: Vec<Path>) -> Vec<(Path, Error)> {
    let store = location.store();
    let deletions = stream::iter(paths).map(|path| async move {
        let outcome = store.delete(&path).await;
        (path, outcome)
    });
    deletions.buffered(AT_ONCE).filter_map(|(path, outcome)| std::future::ready(failed(path, outcome))).collect().await
}

fn failed(path: Path, outcome: object_store::Result<()>) -> Option<(Path, Error)> {
    match outcome {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => None,
        Err(error) => Some((path, error.into())),
    }
}
