//! What commits after the baseline may not steer: statistics that nobody has held against the data, and rewrites that nobody has proven.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use serde_json::{Value, json};

use crate::baseline::{self, LogComparison, Rewrites, SealedTable};
use crate::delta::Location;
use crate::error::Result;
use crate::fingerprint::row_count;
use crate::table::{FileKey, LiveFile, Stats, TableKind, TableSnapshot, may_be_rounded};

/// Sealed files of rewrites that are looked for. Where there are more of them, what the rewrites added is read, as unsealed as it is.
const LOOKED_FOR: usize = 4096;
const CONCURRENCY: usize = 32;

/// What is believed of a state.
pub(super) struct Believed {
    pub(super) snapshot: TableSnapshot,
    /// The commits that are passed over.
    pub(super) passed_over: Vec<u64>,
}

/// The snapshot without what must not steer a plan; `None` when there is nothing of that in it. Engines are to be shown what is left, not the log.
///
/// Files that no baseline covers lose their statistics: engines count and prune by the files' own footers instead, which come with the rows
/// that they are about. Sealed files get the sealed ones, and the sealed partition values, wherever the log spells them in another way, or a
/// second time, but for columns that the table did not have when it was sealed: nobody held these against the data. Files that a commit put in the place of sealed ones, saying that no row changed, give way to the sealed ones while
/// these are still there, which is noted.
///
/// Cost: a HEAD for each sealed file that was rewritten, [`LOOKED_FOR`] at most.
pub(super) async fn distrust(
    location: &Location,
    sealed: &SealedTable,
    comparison: &LogComparison,
    snapshot: &TableSnapshot,
    notes: &mut Vec<String>,
) -> Result<Option<Believed>> {
    if snapshot.kind != TableKind::Delta {
        return Ok(None);
    }
    let rewrites = rewrites(location, sealed, comparison, snapshot).await?;
    // In the very log that was sealed, statistics are what they were.
    let same_log = baseline::is_sealed_log(snapshot, sealed);
    // What a comparison passes as another spelling of a bound may still be too narrow by a rounding.
    let states_the_same = |key: &FileKey, live: &LiveFile| {
        sealed.files.get(key).is_some_and(|file| baseline::states_the_same(file, live)) && !snapshot.typed.contains_key(key)
    };
    let added = baseline::columns_since(comparison.at_sealed.as_ref(), snapshot, sealed);
    let in_doubt = snapshot.files.iter().filter(|(key, live)| {
        let spelled_otherwise = || sealed.files.get(*key).is_some_and(|file| file.live.partition_values != live.partition_values);
        !same_log && (live.stats.is_some() && !(added.is_empty() && states_the_same(key, live)) || spelled_otherwise())
    });
    let distrusted: Vec<FileKey> = in_doubt.map(|(key, _)| key.clone()).collect();
    // Bounds that honest writers rounded hide rows, too; a log of our own states none of them.
    if rewrites.commits.is_empty() && distrusted.is_empty() && !may_be_rounded(&snapshot.schema) {
        return Ok(None);
    }
    let mut snapshot = snapshot.clone();
    for key in distrusted {
        if let Some(live) = snapshot.files.get_mut(&key) {
            let (live, sealed) = (Arc::make_mut(live), sealed.files.get(&key).map(|file| &file.live));
            let stats = sealed.and_then(|sealed| sealed.stats.as_ref());
            live.stats = stats.map(|stats| stats.without(&Stats::OF_COLUMNS, &added).unwrap_or_else(|| stats.clone()));
            if let Some(sealed) = sealed {
                live.partition_values.clone_from(&sealed.partition_values);
            }
        }
    }
    for key in &rewrites.added {
        snapshot.files.remove(key);
    }
    let kept = rewrites.kept.keys().filter_map(|key| Some((key.clone(), sealed.files.get(key)?.live.clone())));
    snapshot.files.extend(kept);
    if let (Some(first), Some(last)) = (rewrites.commits.first(), rewrites.commits.last()) {
        let which = if first == last { format!("commit {first} says") } else { format!("commits {first} to {last} say") };
        notes.push(format!(
            "{}: {which} that {} sealed file(s) were rewritten without changing a row: these are read until a baseline covers the new ones",
            location.name(),
            rewrites.kept.len()
        ));
    }
    if is_mapped(&snapshot) {
        state_counts(location, sealed, &mut snapshot).await;
    }
    Ok(Some(Believed { snapshot, passed_over: rewrites.commits.to_vec() }))
}

/// Whether columns are stored under other names than they have. deltalake cannot count the rows of such a file where nothing states them.
fn is_mapped(snapshot: &TableSnapshot) -> bool {
    let mode = snapshot.metadata.pointer("/configuration/delta.columnMapping.mode").and_then(Value::as_str);
    mode.is_some_and(|mode| mode != "none")
}

/// States the rows of files without statistics from their own footers. A footer that cannot be read states nothing: the scan meets it again.
///
/// Cost: two small GETs for each such file.
async fn state_counts(location: &Location, sealed: &SealedTable, snapshot: &mut TableSnapshot) {
    let unstated = snapshot.files.iter().filter(|(key, live)| live.stats.is_none() && !sealed.files.contains_key(*key));
    let wanted: Vec<(FileKey, Path, u64)> =
        unstated.filter_map(|(key, live)| Some((key.clone(), live.location.clone()?, live.size))).collect();
    let store = location.store();
    let reads = stream::iter(wanted).map(|(key, path, size)| async move { (key, row_count(store.as_ref(), &path, size).await) });
    let counts: Vec<_> = reads.buffer_unordered(CONCURRENCY).collect().await;
    for (key, rows) in counts {
        if let (Ok(rows), Some(live)) = (rows, snapshot.files.get_mut(&key)) {
            Arc::make_mut(live).stats = Some(json!({"numRecords": rows}).into());
        }
    }
}

/// The rewrites whose sealed files are all still there.
async fn rewrites(location: &Location, sealed: &SealedTable, comparison: &LogComparison, snapshot: &TableSnapshot) -> Result<Rewrites> {
    let mut refused = BTreeSet::new();
    loop {
        let found = comparison.rewrites(sealed, &refused);
        let consistent = found.added.iter().all(|key| snapshot.files.contains_key(key));
        if found.kept.is_empty() || found.kept.len() > LOOKED_FOR || !consistent {
            return Ok(Rewrites::default());
        }
        let gone = gone(location, sealed, &found).await?;
        if gone.is_empty() {
            return Ok(found);
        }
        refused.extend(gone);
    }
}

/// The commits some of whose sealed files were vacuumed, or are of another size.
async fn gone(location: &Location, sealed: &SealedTable, rewrites: &Rewrites) -> Result<BTreeSet<u64>> {
    let wanted: Vec<(Path, u64, u64)> = rewrites
        .kept
        .iter()
        .filter_map(|(key, commit)| sealed.files.get(key).map(|file| (file, *commit)))
        .filter_map(|(file, commit)| Some((file.live.location.clone()?, file.live.size, commit)))
        .collect();
    let store = location.store();
    let looks = stream::iter(wanted).map(|(path, size, commit)| async move {
        match object_store::ObjectStoreExt::head(store.as_ref(), &path).await {
            Ok(meta) => Ok::<_, crate::Error>((meta.size != size).then_some(commit)),
            Err(object_store::Error::NotFound { .. }) => Ok(Some(commit)),
            Err(error) => Err(error.into()),
        }
    });
    let found: Vec<Option<u64>> = looks.buffer_unordered(CONCURRENCY).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}
