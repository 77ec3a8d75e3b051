//! From a live file to what evidence says of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use roaring::RoaringTreemap;

use super::sealed::{RowGroups, SealedColumn, SealedDeletions, SealedFile, SealedObject, SealedRowGroup};
use crate::digest::{BlockList, Digest};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::{FileContext, FileFingerprint, ROW_ENCODING, RowGroupFingerprint, StatisticsLie, check_statistics, fingerprint};
use crate::profile::ColumnProfile;
use crate::table::deletion_vector::{self, Descriptor};
use crate::table::read_object;
use crate::table::{ForeignRoots, LiveFile, TableSchema};

const DELETIONS_TAG: &str = "lakeseal 2026 deleted rows v1";

/// What all files of a table share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Observer<'a> {
    pub(super) store: &'a dyn ObjectStore,
    pub(super) root: &'a Path,
    /// Other tables whose files the log may name.
    pub(super) roots: &'a ForeignRoots,
    pub(super) schema: &'a TableSchema,
    pub(super) row_key: [u8; 32],
    pub(super) rows: bool,
    /// Whether columns are profiled, where rows are decoded.
    pub(super) profiles: bool,
}

/// A file as it was observed.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) file: SealedFile,
    pub(super) blocks: BlockList,
    /// Profiles of the columns of each row group, in their order.
    pub(super) profiles: Vec<GroupProfiles>,
    pub(super) lies: Vec<StatisticsLie>,
}

impl Observer<'_> {
    /// Reads a live file once, and its deletion vector. `progress` is told of bytes as they are read.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a file outside of the table, [`ErrorKind::Corrupt`] when it is not Parquet, or the store's.
    pub(super) async fn observe(&self, live: &LiveFile, progress: &(dyn Fn(u64) + Sync)) -> Result<Observed> {
        let location = live.location.as_ref().ok_or_else(|| foreign(live))?;
        let deletions = self.deletions(live).await.map_err(|e| e.with("file", &live.key.path))?;
        let context = FileContext {
            schema: self.schema,
            partition_values: &live.partition_values,
            row_key: self.row_key,
            rows: self.rows,
            profiles: self.rows && self.profiles,
            deletion_vector: deletions.as_ref().map(|(_, positions)| positions),
        };
        let found =
            fingerprint(self.store, location, Some(live.size), &context, progress).await.map_err(|e| e.with("file", &live.key.path))?;
        let lies = check_statistics(live, &found, self.schema);
        let blocks = found.blocks.clone();
        let mut found = found;
        let profiles = found.row_groups.iter_mut().map(group_profiles).collect();
        Ok(Observed { file: self.sealed(live, found, deletions.map(|(deletions, _)| deletions)), blocks, profiles, lies })
    }

    fn sealed(&self, live: &LiveFile, found: FileFingerprint, deletions: Option<SealedDeletions>) -> SealedFile {
        let deleted = deletions.map(|deletions| SealedDeletions {
            sum: found.deleted.as_ref().map(|deleted| deleted.sum.to_bytes().to_vec().into()),
            ..deletions
        });
        SealedFile {
            live: Arc::new(LiveFile { added_in: None, ..live.clone() }),
            version: found.version,
            digest: found.digest,
            sha256: found.sha256,
            footer: found.footer,
            rows: found.rows,
            rows_encoding: self.rows.then_some(ROW_ENCODING),
            deleted,
            inline_blocks: None,
            row_groups: RowGroups::known(found.row_groups.into_iter().map(|group| row_group(group, self.rows)).collect()),
        }
    }

    async fn deletions(&self, live: &LiveFile) -> Result<Option<(SealedDeletions, RoaringTreemap)>> {
        let Some(vector) = &live.deletion_vector else { return Ok(None) };
        let file = match deletion_vector::descriptor(self.root, self.roots, vector)? {
            Descriptor::Inline { .. } => None,
            Descriptor::File { location: None, .. } => return Err(foreign(live)),
            Descriptor::File { location: Some(location), .. } => {
                let bytes = read_object(self.store, &location, deletion_vector::LIMIT_BYTES).await?;
                let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                Some(SealedObject { path: relative(self.root, &location), size, digest: Digest::of(&bytes) })
            }
        };
        let positions = deletion_vector::read(self.store, self.root, self.roots, vector).await?;
        let deletions = SealedDeletions { rows: positions.len(), digest: deleted_rows_digest(&positions), sum: None, file };
        Ok(Some((deletions, positions)))
    }
}

/// The profiles of the columns of one row group, by leaf path.
pub type GroupProfiles = BTreeMap<String, ColumnProfile>;

fn group_profiles(group: &mut RowGroupFingerprint) -> GroupProfiles {
    group.columns.iter_mut().filter_map(|column| Some((column.name.clone(), *column.profile.take()?))).collect()
}

/// The digest of a deletion vector's positions, as evidence has it.
pub(crate) fn deleted_rows_digest(positions: &RoaringTreemap) -> Digest {
    let listed: Vec<u8> = positions.iter().flat_map(u64::to_le_bytes).collect();
    Digest::tagged(DELETIONS_TAG, &listed)
}

fn relative(root: &Path, location: &Path) -> String {
    let below = location.as_ref().strip_prefix(root.as_ref()).unwrap_or(location.as_ref());
    below.trim_start_matches('/').to_owned()
}

fn foreign(live: &LiveFile) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "a live file, or its deletion vector, lies outside of the table and below no foreign root (--foreign-root): such a table cannot be sealed",
    )
    .with("file", &live.raw_path)
}

fn row_group(group: RowGroupFingerprint, rows: bool) -> SealedRowGroup {
    let columns = group.columns.into_iter().map(|column| SealedColumn {
        name: column.name,
        bytes: column.bytes,
        digest: column.digest,
        values: column.values,
        nulls: column.nulls,
        min: column.min,
        max: column.max,
    });
    SealedRowGroup {
        ordinal: group.ordinal,
        rows: group.rows,
        bytes: group.bytes,
        digest: group.digest,
        sum: rows.then(|| group.sum.to_bytes().to_vec().into()),
        columns: columns.collect(),
    }
}
