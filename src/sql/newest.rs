//! Whether a table that a session holds open is still the newest, for the price of a look.

use futures::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectStore;
use object_store::path::Path;

use super::settings::ReadMode;
use super::table::VerifiedTable;
use crate::baseline::SEAL_FOLDER;
use crate::delta::Location;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::table::{commit_path, parse_commit_path};

/// What decides which baselines count: signatures, and whose they must be. Statements, and purges, are named by their signatures.
const DECISIVE: [&str; 2] = ["signatures", "trust"];

const LOG: &str = "_delta_log";

/// A table from elsewhere that a session gave a name.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) location: Location,
    /// What there was of it before it was opened; absent where that could not be listed.
    seen: Option<Seen>,
}

/// What was listed of a table, each list as a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    /// What decides which baselines count.
    seals: Digest,
    /// The files, with sizes and times, of a folder, which has no log to say that they are others.
    files: Option<Digest>,
}

impl Named {
    /// Looks at a table that is going to be opened. Cost: three LISTs; of a folder, one of all its files besides.
    pub(super) async fn about_to_open(location: &Location) -> Self {
        Self { location: location.clone(), seen: seen(location).await.ok() }
    }

    /// Whether nothing was sealed, committed or, in a folder, put since `table` was opened. What cannot be said is no, as is a table that differs,
    /// which may have been mended.
    ///
    /// Cost: two LISTs; for the newest state, one from the newest commit on, or one of a folder's files.
    pub(super) async fn is_newest(&self, table: &VerifiedTable) -> bool {
        let Some(seen) = self.seen.as_ref().filter(|_| table.is_as_sealed()) else { return false };
        let (seals, state) = futures::join!(seals(&self.location), is_newest_state(table, seen));
        seals.is_ok_and(|seals| seals == seen.seals) && state.unwrap_or(false)
    }
}

async fn seen(location: &Location) -> Result<Seen> {
    let log = location.root().clone().join(LOG);
    let first = async { location.store().list(Some(&log)).try_next().await.map_err(Error::from) };
    let (seals, first) = futures::try_join!(seals(location), first)?;
    let files = if first.is_none() { Some(files(location).await?) } else { None };
    Ok(Seen { seals, files })
}

/// The names of all that decides which baselines count.
async fn seals(location: &Location) -> Result<Digest> {
    let folder = location.root().clone().join(SEAL_FOLDER);
    let listed = DECISIVE.map(|name| names(location.store().as_ref(), folder.clone().join(name)));
    Ok(digest_of(futures::future::try_join_all(listed).await?.iter().flatten().map(Path::as_ref)))
}

async fn names(store: &dyn ObjectStore, folder: Path) -> Result<Vec<Path>> {
    let mut names: Vec<Path> = store.list(Some(&folder)).map_ok(|meta| meta.location).try_collect().await?;
    names.sort_unstable();
    Ok(names)
}

/// What a folder lists, but for its seals.
async fn files(location: &Location) -> Result<Digest> {
    let (root, seals) = (location.root(), location.root().clone().join(SEAL_FOLDER));
    let mut listed = location.store().list((!root.as_ref().is_empty()).then_some(root));
    let mut found = Vec::new();
    while let Some(meta) = listed.try_next().await? {
        if meta.location.prefix_match(&seals).is_none() {
            found.push(format!("{} {} {}", meta.location, meta.size, meta.last_modified.timestamp_millis()));
        }
    }
    found.sort_unstable();
    Ok(digest_of(found.iter().map(String::as_str)))
}

fn digest_of<'a>(lines: impl Iterator<Item = &'a str>) -> Digest {
    let mut text = String::new();
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    Digest::of(text.as_bytes())
}

/// Whether the log still has the version that is shown, and none after it; of a folder, whether it lists what it listed.
async fn is_newest_state(table: &VerifiedTable, seen: &Seen) -> Result<bool> {
    if table.settings().read == ReadMode::Sealed {
        return Ok(true);
    }
    let Some(version) = table.origin().version else {
        let Some(before) = seen.files else { return Ok(false) };
        return Ok(files(table.location()).await? == before);
    };
    let (store, root) = (table.location().store(), table.location().root());
    let log = root.clone().join(LOG);
    let mut objects = match version.checked_sub(1) {
        Some(before) => store.list_with_offset(Some(&log), &commit_path(root, before)),
        None => store.list(Some(&log)),
    };
    let mut there = false;
    while let Some(object) = objects.next().await {
        match parse_commit_path(&object.map_err(Error::from)?.location) {
            Some((_, found)) if found > version => return Ok(false),
            Some((_, found)) => there |= found == version,
            None => {}
        }
    }
    Ok(there)
}
