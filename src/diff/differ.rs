//! The diff of a table: which files are looked at, and by which way.

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use object_store::ObjectStoreExt as _;

use super::change::{Change, Place, Sink};
use super::components::components;
use super::deletions::Deletions;
use super::in_place::Comparison;
use super::pool::{Complete, Part};
use super::side::{FoundBytes, Side};
use crate::ask::named_version;
use crate::baseline::{Repository, SealedFile, SealedTable, changed_columns, exchanges};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::FileRows;
use crate::table::{FileKey, LiveFile, TableKind, TableSnapshot};

/// HEAD requests in flight while it is found out which files are still the sealed versions.
const CONCURRENCY: usize = 16;

/// How rows are compared.
#[derive(Debug, Clone)]
pub struct DiffOptions {
    /// Columns that name a row, by physical name; without any, rows are paired by their likeness.
    pub key: Vec<String>,
    /// Whether changed rows are delivered with all of their columns; else with the differing ones and the key.
    pub whole_rows: bool,
    /// Most rows of files that were written anew which are held in memory at a time, 32 bytes each; where there are more, the diff
    /// says so instead.
    pub pool_limit_rows: u64,
    /// The time, in milliseconds since 1970-01-01T00:00:00Z: sealed bytes are not read beyond their baseline's term.
    pub now_ms: i64,
}

/// What a diff cost, and how far it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiffSummary {
    /// Files of the sealed table that are the very versions that were sealed: nothing of them was read but their deletion vectors.
    pub unchanged_files: u64,
    /// Sealed files whose bytes were read to find out whether they differ, or because other rows of theirs are deleted.
    pub read_files: u64,
    /// Sealed files that are no longer live, and live ones that were not sealed.
    pub exchanged_files: u64,
    /// Whether the sink wanted no more.
    pub stopped: bool,
}

/// Compares the rows of a table with the sealed ones.
#[derive(Debug)]
pub struct Differ<'a> {
    pub(super) repository: &'a Repository,
    pub(super) snapshot: &'a TableSnapshot,
    pub(super) sealed: &'a SealedTable,
    pub(super) options: DiffOptions,
}

impl<'a> Differ<'a> {
    /// Between `sealed` and `snapshot`, which is of the same table at any version.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when a column of the key is not one of the table's.
    pub fn new(repository: &'a Repository, snapshot: &'a TableSnapshot, sealed: &'a SealedTable, options: DiffOptions) -> Result<Self> {
        let schema = &snapshot.schema;
        if let Some(unknown) = options.key.iter().find(|name| !schema.columns.is_empty() && schema.physical_column(name).is_none()) {
            return Err(Error::new(ErrorKind::InvalidInput, "the table has no such column to name its rows by").with("column", unknown));
        }
        Ok(Self { repository, snapshot, sealed, options })
    }

    /// Finds every row that differs and gives it to `sink`.
    ///
    /// A schema of which columns mean others than when it was sealed is one change of kind [`Undetermined`](super::ChangeKind::Undetermined), of `_delta_log`.
    ///
    /// Cost: in a store with versions, a HEAD per sealed file, and the bytes of those that changed; in another, every sealed file is read
    /// once to be hashed. Column chunks are decoded only where they differ. In any store each deletion vector that stands in a file is read,
    /// and row groups in which it deletes other rows than were sealed are decoded whole. Files that commits exchanged are read whole, once or
    /// twice, on both sides. Memory: two row groups, and the rows that differ, up to [`DiffOptions::pool_limit_rows`].
    ///
    /// # Errors
    /// What the sink fails with, and a store that cannot even list commits. Whatever else cannot be found out is a change of kind
    /// [`Undetermined`](super::ChangeKind::Undetermined).
    pub async fn run(&self, sink: &mut dyn Sink) -> Result<DiffSummary> {
        let mut summary = DiffSummary::default();
        if !self.schema(sink).await? {
            return Ok(DiffSummary { stopped: true, ..summary });
        }
        let kept: Vec<(&SealedFile, &LiveFile)> =
            self.sealed.files.iter().filter_map(|(key, file)| Some((&**file, &**self.snapshot.files.get(key)?))).collect();
        let looked_at: Vec<_> = stream::iter(kept)
            .map(|(file, live)| async move { (file, live, self.state(file, live).await, self.deletions(file, live).await) })
            .buffered(CONCURRENCY)
            .collect()
            .await;
        for (file, live, state, deletions) in looked_at {
            let going = match state {
                FileState::Unchanged => {
                    if matches!(deletions, Deletions::AsSealed) {
                        summary.unchanged_files += 1;
                        continue;
                    }
                    summary.read_files += 1;
                    Comparison { differ: self, file, live, size: file.live.size }.deleted_rows(&deletions, sink).await?
                }
                FileState::Gone => self.compare_pool(&[file], &[], sink).await?,
                FileState::Present(size) => {
                    summary.read_files += 1;
                    Comparison { differ: self, file, live, size }.run(&deletions, sink).await?
                }
                FileState::Unknown(error) => {
                    sink.take(Change::undetermined(
                        whole(&file.live.key, None),
                        Vec::new(),
                        format!("the file could not be looked at: {error}"),
                    ))
                    .await?
                }
            };
            if !going {
                return Ok(DiffSummary { stopped: true, ..summary });
            }
        }
        let removed: Vec<FileKey> = self.sealed.files.keys().filter(|key| !self.snapshot.files.contains_key(*key)).cloned().collect();
        let added: Vec<FileKey> = self.snapshot.files.keys().filter(|key| !self.sealed.files.contains_key(*key)).cloned().collect();
        summary.exchanged_files = (removed.len() + added.len()) as u64;
        if summary.exchanged_files == 0 {
            return Ok(summary);
        }
        let (store, root) = (&**self.repository.store(), self.repository.root());
        let exchanges = exchanges(store, root, self.snapshot, self.sealed.statement.state.version).await?;
        for component in components(&removed, &added, exchanges.as_deref()) {
            let sealed: Vec<&SealedFile> = component.removed.iter().filter_map(|key| self.sealed.files.get(key)).map(Arc::as_ref).collect();
            let found: Vec<&LiveFile> = component.added.iter().filter_map(|key| self.snapshot.files.get(key)).map(Arc::as_ref).collect();
            if !self.compare_pool(&sealed, &found, sink).await? {
                return Ok(DiffSummary { stopped: true, ..summary });
            }
        }
        Ok(summary)
    }

    /// Says that columns are read as others than they were sealed: both sides are decoded as the table is now, and files that nobody touched
    /// are not decoded, so that no row of theirs differs.
    async fn schema(&self, sink: &mut dyn Sink) -> Result<bool> {
        let (store, root) = (&**self.repository.store(), self.repository.root());
        let Some(how) = changed_columns(store, root, self.snapshot, self.sealed).await? else { return Ok(true) };
        let detail = format!("the table's schema changed since it was sealed: {how}; rows are compared by physical columns");
        let place = Place { file: "_delta_log".into(), row_group: None, row: None, commit: None };
        sink.take(Change::undetermined(place, Vec::new(), detail)).await
    }

    /// Whether a sealed file is still the version that was sealed. Cost: one HEAD.
    pub(super) async fn state(&self, file: &SealedFile, live: &LiveFile) -> FileState {
        let Some(location) = &file.live.location else {
            return FileState::Unknown(Error::new(ErrorKind::Corrupt, "a sealed file has no place in the table"));
        };
        match self.repository.store().head(location).await {
            Ok(meta) => {
                let sealed_version = named_version(file.version.as_deref());
                let same_version = sealed_version.is_some() && meta.version.as_deref() == sealed_version && meta.size == file.live.size;
                let same = same_version && self.same_partition_values(file, live);
                if same { FileState::Unchanged } else { FileState::Present(meta.size) }
            }
            Err(object_store::Error::NotFound { .. }) => FileState::Gone,
            Err(error) => FileState::Unknown(error.into()),
        }
    }

    /// The empty text and null are one value in a Delta log.
    pub(super) fn same_partition_values(&self, file: &SealedFile, live: &LiveFile) -> bool {
        let normal = |live: &LiveFile| -> Vec<(String, String)> {
            live.partition_values.iter().filter_map(|(k, v)| Some((k.clone(), v.clone().filter(|v| !v.is_empty())?))).collect()
        };
        normal(&file.live) == normal(live)
    }

    /// The sealed rows of a file.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when the sealed bytes or the sealed deletion vector are gone, [`ErrorKind::Permission`] when the baseline has expired, or the store's.
    pub(super) async fn sealed_side(&self, file: &SealedFile) -> Result<Side> {
        let bytes = self.repository.sealed_bytes(self.sealed, file, self.options.now_ms).await?;
        let (schema, constants) = (&self.snapshot.schema, &file.live.partition_values);
        let rows = FileRows::open(Arc::new(bytes), schema, constants, self.sealed.row_key).await?;
        let deleted = self.sealed_positions(file).await?;
        Ok(Side::new(rows, &file.live.key.path, None, deleted, constants))
    }

    /// The rows of a file as it is now.
    pub(super) async fn found_side(&self, live: &LiveFile, size: u64) -> Result<Side> {
        let foreign = || Error::new(ErrorKind::Unsupported, "the file lies outside of the table").with("file", &live.raw_path);
        let location = live.location.clone().ok_or_else(foreign)?;
        let bytes = FoundBytes { store: self.repository.store().clone(), location, size };
        let rows = FileRows::open(Arc::new(bytes), &self.snapshot.schema, &live.partition_values, self.sealed.row_key).await?;
        let deleted = match &live.deletion_vector {
            Some(vector) => Some(self.positions(vector).await?),
            None => None,
        };
        let commit = live.added_in.filter(|_| !self.sealed.files.contains_key(&live.key) && self.snapshot.kind == TableKind::Delta);
        Ok(Side::new(rows, &live.key.path, commit, deleted, &live.partition_values))
    }

    /// Compares files as multisets of rows.
    async fn compare_pool(&self, sealed: &[&SealedFile], found: &[&LiveFile], sink: &mut dyn Sink) -> Result<bool> {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let mut complete = Complete::BOTH;
        for file in sealed {
            match self.sealed_side(file).await {
                Ok(side) => before.push(Part::whole(side)),
                Err(error) => {
                    complete.sealed = false;
                    let detail = format!("the sealed rows cannot be shown: {error}");
                    if !sink.take(Change::undetermined(whole(&file.live.key, None), Vec::new(), detail)).await? {
                        return Ok(false);
                    }
                }
            }
        }
        for live in found {
            let side = match &live.location {
                Some(location) => match self.repository.store().head(location).await {
                    Ok(meta) => self.found_side(live, meta.size).await,
                    Err(error) => Err(error.into()),
                },
                None => self.found_side(live, live.size).await,
            };
            match side {
                Ok(side) => after.push(Part::whole(side)),
                Err(error) => {
                    complete.found = false;
                    let detail = format!("the file's rows cannot be read: {error}");
                    if !sink.take(Change::undetermined(whole(&live.key, live.added_in), Vec::new(), detail)).await? {
                        return Ok(false);
                    }
                }
            }
        }
        self.pool(before, after, complete, sink).await
    }
}

/// What a HEAD says of a sealed file.
pub(super) enum FileState {
    Unchanged,
    Gone,
    Present(u64),
    Unknown(Error),
}

pub(super) fn whole(key: &FileKey, commit: Option<u64>) -> Place {
    Place { file: key.path.as_str().into(), row_group: None, row: None, commit }
}
