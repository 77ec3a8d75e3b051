//! The one pass over a file: hash in file order, and decode the very bytes that were hashed.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt as _};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use roaring::RoaringTreemap;
use sha2::Digest as _;

use super::footer::{Footer, GroupLayout, MAGIC_BYTES, ROW_GROUP_LIMIT_BYTES, check_types, ranged, spawn_decoder};
use super::footer_statistics::footer_lies;
use super::pages;
use super::rows::{GroupHasher, GroupRows, LeafValues, RowPlan};
use super::scalar::Scalar;
use super::{ColumnFingerprint, DeletedRows, FileContext, FileFingerprint, RowGroupFingerprint, field_ids};
use crate::ask::named_version;
use crate::digest::{BlockHasher, Digest, MultisetHash};
use crate::error::{Error, ErrorKind, Result};

/// Bytes of one request.
const REQUEST_BYTES: u64 = 64 << 20;
const BATCH_ROWS: usize = 8192;
const ROW_GROUP_TAG: &str = "lakeseal 2026 row group v1";

/// Reads the Parquet object at `location` once, and fingerprints it.
///
/// `progress` is called with the number of bytes that have just been read. Memory: the largest row group (as stored) and a
/// batch of its rows; without rows, 64 MiB. Cost: one HEAD, two small GETs for the footer, one GET per 64 MiB of a row group.
///
/// # Errors
/// [`ErrorKind::NotFound`] when there is no such object; [`ErrorKind::Corrupt`] when it is no Parquet, contradicts itself, has
/// another size than `expected_size` or does not decode; [`ErrorKind::Unsupported`] for encrypted files, unknown types, and ids of columns that
/// contradict their names.
pub async fn fingerprint(
    store: &dyn ObjectStore,
    location: &Path,
    expected_size: Option<u64>,
    context: &FileContext<'_>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<FileFingerprint> {
    fingerprint_inner(store, location, expected_size, context, progress).await.map_err(|e| e.with("file", location))
}

async fn fingerprint_inner(
    store: &dyn ObjectStore,
    location: &Path,
    expected_size: Option<u64>,
    context: &FileContext<'_>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<FileFingerprint> {
    let meta = sized(store, location, expected_size).await?;
    let footer = Footer::read(store, location, meta.size).await?;
    let decoding = if context.rows { Some(Arc::new(Decoding::new(&footer, context)?)) } else { None };
    let mut pass = Pass::new(store, location, progress);
    let mut groups: Vec<Option<(RowGroupFingerprint, Option<GroupRows>)>> = footer.groups.iter().map(|_| None).collect();
    for at in footer.order()? {
        let (Some(group), Some(slot)) = (footer.groups.get(at), groups.get_mut(at)) else { continue };
        let found = pass.row_group(&footer, at, group, decoding.as_ref()).await.map_err(|e| e.with("row group", at))?;
        *slot = Some(found);
    }
    let (tail_digest, totals) = pass.finish(&footer).await?;
    let groups: Vec<_> = groups.into_iter().flatten().collect();
    let deleted = context.deletion_vector.filter(|_| context.rows).map(|_| deleted_rows(&groups));
    let footer_lies = footer_lies(footer.metadata.metadata(), &groups);
    Ok(FileFingerprint {
        size: footer.size,
        version: named_version(meta.version.as_deref()).map(str::to_owned),
        digest: totals.0.root(),
        sha256: totals.1,
        blocks: totals.0,
        footer: tail_digest,
        rows: groups.iter().map(|(group, _)| group.rows).sum(),
        row_groups: groups.into_iter().map(|(group, _)| group).collect(),
        deleted,
        footer_lies,
    })
}

/// What the store says of the object, which must have `expected_size` bytes.
async fn sized(store: &dyn ObjectStore, location: &Path, expected_size: Option<u64>) -> Result<ObjectMeta> {
    let meta = store.head(location).await?;
    match expected_size.filter(|expected| *expected != meta.size) {
        None => Ok(meta),
        Some(expected) => Err(corrupt("the file has another size than stated").with("stated", expected).with("found", meta.size)),
    }
}

/// A keyed digest of each live row of the Parquet object at `location`, in no particular order; deleted rows are left out.
///
/// Cost: that of [`fingerprint`], without sums; memory: the largest row group and 16 bytes a row.
///
/// # Errors
/// Those of [`fingerprint`]; [`ErrorKind::Unsupported`] for more than `limit` rows, before any is decoded.
pub async fn row_digests(
    store: &dyn ObjectStore,
    location: &Path,
    context: &FileContext<'_>,
    limit: u64,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Vec<u128>> {
    let read = async {
        let footer = Footer::read(store, location, sized(store, location, None).await?.size).await?;
        let rows = footer.groups.iter().fold(0_u64, |sum, group| sum.saturating_add(group.rows));
        if rows > limit {
            return Err(Error::new(ErrorKind::Unsupported, "the file has too many rows to be told apart")
                .with("rows", rows)
                .with("limit", limit));
        }
        let decoding = Arc::new(Decoding { only_digests: true, ..Decoding::new(&footer, context)? });
        let mut pass = Pass::new(store, location, progress);
        let mut digests = Vec::new();
        for at in footer.order()? {
            let Some(group) = footer.groups.get(at) else { continue };
            let (_, rows) = pass.row_group(&footer, at, group, Some(&decoding)).await.map_err(|e| e.with("row group", at))?;
            digests.extend(rows.into_iter().flat_map(|rows| rows.digests));
        }
        Ok(digests)
    };
    read.await.map_err(|e| e.with("file", location))
}

/// The rows of the Parquet object at `location`, deleted ones included, as its footer states. Cost: one HEAD and two small GETs.
///
/// # Errors
/// Those of [`fingerprint`] that the footer has; [`ErrorKind::Corrupt`] when the object has not `expected_size` bytes.
pub async fn row_count(store: &dyn ObjectStore, location: &Path, expected_size: u64) -> Result<u64> {
    let read = async { Footer::read(store, location, sized(store, location, Some(expected_size)).await?.size).await };
    let footer = read.await.map_err(|e| e.with("file", location))?;
    Ok(footer.groups.iter().fold(0, |sum, group| sum.saturating_add(group.rows)))
}

fn deleted_rows(groups: &[(RowGroupFingerprint, Option<GroupRows>)]) -> DeletedRows {
    let mut deleted = DeletedRows { rows: 0, sum: MultisetHash::new() };
    for rows in groups.iter().filter_map(|(_, rows)| rows.as_ref()) {
        deleted.rows += rows.deleted_rows;
        deleted.sum.add(&rows.deleted);
    }
    deleted
}

/// What decoding needs, shared with the threads that decode.
struct Decoding {
    metadata: ArrowReaderMetadata,
    plan: RowPlan,
    deletion_vector: Option<RoaringTreemap>,
    profiles: bool,
    /// Position in the file of each row group's first row.
    first_rows: Vec<u64>,
    /// Rows are only told apart.
    only_digests: bool,
}

impl Decoding {
    fn new(footer: &Footer, context: &FileContext<'_>) -> Result<Self> {
        check_types(&footer.metadata)?;
        field_ids::check(footer.metadata.parquet_schema().root_schema(), context.schema)?;
        let plan = RowPlan::new(footer.metadata.schema(), context.schema, context.partition_values, context.row_key)?;
        let mut next = 0_u64;
        let first_rows = footer.groups.iter().map(|group| {
            let first = next;
            next = next.saturating_add(group.rows);
            first
        });
        let first_rows = first_rows.collect();
        let (deletion_vector, profiles) = (context.deletion_vector.cloned(), context.profiles);
        Ok(Self { metadata: footer.metadata.clone(), plan, deletion_vector, profiles, first_rows, only_digests: false })
    }

    fn decode(&self, at: usize, stated_rows: u64, held: HeldBytes) -> Result<GroupRows> {
        let failed = |e: ParquetError| corrupt("a row group does not decode").caused_by(e);
        let first_row = self.first_rows.get(at).copied().unwrap_or_default();
        let mut hasher = GroupHasher::new(&self.plan, first_row, self.deletion_vector.as_ref());
        if self.profiles {
            hasher.profile()?;
        }
        if self.only_digests {
            hasher = hasher.telling_rows_apart();
        }
        if stated_rows > 0 {
            let shared = Arc::new(held.clone());
            for chunk in self.metadata.metadata().row_groups().get(at).into_iter().flat_map(|group| group.columns()) {
                pages::check(shared.clone(), chunk, stated_rows)?;
            }
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(held, self.metadata.clone());
            let reader = builder.with_row_groups(vec![at]).with_batch_size(BATCH_ROWS).build().map_err(failed)?;
            for batch in reader {
                hasher.add(&batch.map_err(|e| corrupt("a row group does not decode").caused_by(e))?)?;
            }
        }
        let rows = hasher.finish();
        if rows.rows != stated_rows {
            return Err(corrupt("a row group holds another number of rows than it states")
                .with("stated", stated_rows)
                .with("found", rows.rows));
        }
        Ok(rows)
    }
}

/// Hashes the file in order, from where it stopped.
struct Pass<'a> {
    store: &'a dyn ObjectStore,
    location: &'a Path,
    progress: &'a (dyn Fn(u64) + Sync),
    position: u64,
    blocks: BlockHasher,
    sha256: sha2::Sha256,
}

impl<'a> Pass<'a> {
    fn new(store: &'a dyn ObjectStore, location: &'a Path, progress: &'a (dyn Fn(u64) + Sync)) -> Self {
        Self { store, location, progress, position: 0, blocks: BlockHasher::new(), sha256: sha2::Sha256::new() }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.blocks.update(bytes);
        self.sha256.update(bytes);
        self.position += bytes.len() as u64;
        (self.progress)(bytes.len() as u64);
    }

    /// Reads and hashes up to `end`, request by request, and shows each piece.
    async fn read_to(&mut self, end: u64, mut show: impl FnMut(u64, &Bytes)) -> Result<()> {
        while self.position < end {
            let stop = end.min(self.position.saturating_add(REQUEST_BYTES));
            let start = self.position;
            let bytes = ranged(self.store, self.location, start..stop).await?;
            self.take(&bytes);
            show(start, &bytes);
        }
        Ok(())
    }

    async fn row_group(
        &mut self,
        footer: &Footer,
        at: usize,
        group: &GroupLayout,
        decoding: Option<&Arc<Decoding>>,
    ) -> Result<(RowGroupFingerprint, Option<GroupRows>)> {
        let length = group.bytes.end - group.bytes.start;
        if decoding.is_some() && length > ROW_GROUP_LIMIT_BYTES {
            return Err(Error::new(ErrorKind::Unsupported, "a row group is too large to be decoded")
                .with("bytes", length)
                .with("limit", ROW_GROUP_LIMIT_BYTES));
        }
        let mut chunks: Vec<_> = group.chunks.iter().map(|range| (range.clone(), blake3::Hasher::new())).collect();
        let mut held = BytesMut::new();
        if !group.bytes.is_empty() {
            self.read_to(group.bytes.start, |_, _| {}).await?;
            self.read_to(group.bytes.end, |start, bytes| {
                chunks.iter_mut().for_each(|(range, hasher)| update_part(hasher, range, start, bytes));
                if decoding.is_some() {
                    held.extend_from_slice(bytes);
                }
            })
            .await?;
        }
        let held = HeldBytes { start: group.bytes.start, bytes: held.freeze(), file_size: footer.size };
        let mut rows = match decoding {
            Some(decoding) => {
                let (decoding, stated) = (decoding.clone(), group.rows);
                Some(spawn_decoder(move || decoding.decode(at, stated, held)).await?)
            }
            None => None,
        };
        let paths = footer.metadata.metadata().file_metadata().schema_descr().columns().iter().map(|column| column.path().parts());
        let leaves = rows.iter().flat_map(|rows| rows.leaves.iter().map(Some)).chain(std::iter::repeat(None));
        let columns = paths.zip(chunks).zip(leaves).map(|((path, (range, hasher)), leaf)| column(path, range, &hasher, leaf));
        let mut columns: Vec<_> = columns.collect();
        if let Some(rows) = &mut rows {
            let profiles = rows.leaves.iter_mut().map(|leaf| leaf.profile.take());
            columns.iter_mut().zip(profiles).for_each(|(column, profile)| column.profile = profile);
        }
        let fingerprint = RowGroupFingerprint {
            ordinal: u32::try_from(at).map_err(|_| corrupt("there are too many row groups"))?,
            rows: group.rows,
            bytes: group.bytes.clone(),
            digest: row_group_digest(group.rows, &columns),
            sum: rows.as_ref().map(|rows| rows.sum.clone()).unwrap_or_default(),
            columns,
        };
        Ok((fingerprint, rows))
    }

    /// Hashes the rest of the file, ending with the footer as it was read at the start.
    async fn finish(mut self, footer: &Footer) -> Result<(Digest, (crate::digest::BlockList, [u8; 32]))> {
        if self.position < MAGIC_BYTES {
            self.read_to(MAGIC_BYTES, |_, _| {}).await?;
        }
        let mut tail = blake3::Hasher::new();
        self.read_to(footer.start, |_, bytes| {
            tail.update(bytes);
        })
        .await?;
        self.take(&footer.bytes);
        tail.update(&footer.bytes);
        let sha256: [u8; 32] = self.sha256.finalize().into();
        Ok((Digest(*tail.finalize().as_bytes()), (self.blocks.finish(), sha256)))
    }
}

/// Feeds `hasher` with the part of `bytes` (which begin at `start` of the file) that lies in `range`.
fn update_part(hasher: &mut blake3::Hasher, range: &Range<u64>, start: u64, bytes: &[u8]) {
    let within = |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX).min(bytes.len());
    if let Some(part) = bytes.get(within(range.start)..within(range.end)) {
        hasher.update(part);
    }
}

fn column(path: &[String], bytes: Range<u64>, hasher: &blake3::Hasher, leaf: Option<&LeafValues>) -> ColumnFingerprint {
    let range = leaf.and_then(LeafValues::range);
    ColumnFingerprint {
        name: path.join("."),
        path: path.to_vec(),
        bytes,
        digest: Digest(*hasher.finalize().as_bytes()),
        values: leaf.map_or(Digest([0; 32]), |leaf| leaf.values),
        nulls: range.map(|range| range.nulls),
        container_nulls: leaf.and_then(LeafValues::container_nulls),
        min: range.and_then(|range| range.min.as_ref()).and_then(Scalar::to_json),
        max: range.and_then(|range| range.max.as_ref()).and_then(Scalar::to_json),
        range: range.cloned(),
        profile: None,
    }
}

fn row_group_digest(rows: u64, columns: &[ColumnFingerprint]) -> Digest {
    let mut bytes = rows.to_le_bytes().to_vec();
    bytes.extend((columns.len() as u64).to_le_bytes());
    for column in columns {
        bytes.extend((column.name.len() as u64).to_le_bytes());
        bytes.extend(column.name.as_bytes());
        bytes.extend((column.bytes.end - column.bytes.start).to_le_bytes());
        bytes.extend(column.digest.0);
    }
    Digest::tagged(ROW_GROUP_TAG, &bytes)
}

/// The bytes of one row group, at their place in the file.
#[derive(Clone)]
struct HeldBytes {
    start: u64,
    bytes: Bytes,
    file_size: u64,
}

impl HeldBytes {
    fn from(&self, position: u64) -> Result<Bytes, ParquetError> {
        let offset = position.checked_sub(self.start).and_then(|offset| usize::try_from(offset).ok());
        let offset = offset.filter(|offset| *offset <= self.bytes.len());
        offset.map(|offset| self.bytes.slice(offset..)).ok_or_else(|| ParquetError::EOF("a page lies outside of its row group".to_owned()))
    }
}

impl Length for HeldBytes {
    fn len(&self) -> u64 {
        self.file_size
    }
}

impl ChunkReader for HeldBytes {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        self.from(start).map(|bytes| bytes.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.from(start)?;
        if length > bytes.len() {
            return Err(ParquetError::EOF("a page reaches beyond its row group".to_owned()));
        }
        Ok(bytes.slice(..length))
    }
}

fn corrupt(message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}
