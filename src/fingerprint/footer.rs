//! A Parquet file's footer: read with checked sizes, its layout checked before any of it is believed.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::Type as PhysicalType;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, FooterTail, ParquetMetaData, ParquetMetaDataReader};
use parquet::schema::types::SchemaDescriptor;

use super::source::Source;
use super::written_types;
use crate::error::{Error, ErrorKind, Result};

/// Length of the magic at either end of a file.
pub(super) const MAGIC_BYTES: u64 = 4;
const TAIL_BYTES: u64 = 8;
/// Largest footer that is read, in bytes.
const FOOTER_LIMIT_BYTES: u64 = 256 << 20;
/// A row group of more bytes than this is not held in memory, so its rows cannot be decoded.
pub(super) const ROW_GROUP_LIMIT_BYTES: u64 = 4 << 30;

/// A footer and what follows from it.
pub(super) struct Footer {
    pub(super) size: u64,
    /// Where the held end of the file begins.
    pub(super) start: u64,
    /// The serialised metadata, its length and the last magic, as read.
    pub(super) bytes: Bytes,
    pub(super) metadata: ArrowReaderMetadata,
    /// Row groups by position in the footer.
    pub(super) groups: Vec<GroupLayout>,
}

/// Fails when readers that take the types of columns from a writer's arrow schema would see other values.
pub(super) fn check_types(metadata: &ArrowReaderMetadata) -> Result<()> {
    let written = ArrowReaderMetadata::try_new(metadata.metadata().clone(), ArrowReaderOptions::new()).map_err(footer_error)?;
    written_types::check(metadata.schema(), written.schema(), metadata.parquet_schema())
}

/// Where a row group lies.
pub(super) struct GroupLayout {
    pub(super) bytes: Range<u64>,
    pub(super) rows: u64,
    pub(super) chunks: Vec<Range<u64>>,
}

impl Footer {
    /// Reads the footer of the object at `location`. Cost: two small ranged GETs.
    pub(super) async fn read(store: &dyn ObjectStore, location: &Path, size: u64) -> Result<Self> {
        Self::from_source(&ObjectSource { store, location, size }).await
    }

    /// Reads the footer of a source. Cost: two small ranges.
    pub(super) async fn from_source(source: &dyn Source) -> Result<Self> {
        let size = source.size();
        let tail_start = size.checked_sub(TAIL_BYTES).filter(|start| *start >= MAGIC_BYTES);
        let tail_start = tail_start.ok_or_else(|| corrupt("the file is too short for Parquet").with("bytes", size))?;
        let tail_bytes = source.read(tail_start..size).await?;
        let tail = FooterTail::try_from(&tail_bytes[..]).map_err(|e| corrupt("the file does not end as Parquet does").caused_by(e))?;
        if tail.is_encrypted_footer() {
            return Err(Error::new(ErrorKind::Unsupported, "encrypted Parquet is not supported"));
        }
        let length = tail.metadata_length() as u64;
        let start = tail_start.checked_sub(length).filter(|start| *start >= MAGIC_BYTES);
        let start = start.ok_or_else(|| corrupt("the footer states a length beyond the file").with("stated", length))?;
        if length > FOOTER_LIMIT_BYTES {
            return Err(Error::new(ErrorKind::Unsupported, "the footer is too large")
                .with("bytes", length)
                .with("limit", FOOTER_LIMIT_BYTES));
        }
        let metadata_bytes = source.read(start..tail_start).await?;
        let bytes = Bytes::from([&metadata_bytes[..], &tail_bytes[..]].concat());
        let (metadata, groups) = spawn_decoder(move || decode(&metadata_bytes, start)).await?;
        Ok(Self { size, start, bytes, metadata, groups })
    }

    /// Positions of the row groups in the order in which they lie in the file.
    pub(super) fn order(&self) -> Result<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.groups.len()).collect();
        order.sort_by_key(|at| self.groups.get(*at).map_or((0, 0), |group| (group.bytes.start, group.bytes.end)));
        let mut end = MAGIC_BYTES;
        for at in &order {
            let Some(group) = self.groups.get(*at).filter(|group| !group.bytes.is_empty()) else { continue };
            if group.bytes.start < end {
                return Err(corrupt("row groups overlap").with("row group", at));
            }
            end = group.bytes.end;
        }
        Ok(order)
    }
}

/// Runs a decoder where its panic is an error, not the end of the caller.
pub(super) async fn spawn_decoder<T: Send + 'static>(decode: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(decode).await.unwrap_or_else(|e| Err(corrupt("the Parquet decoder failed on these bytes").caused_by(e)))
}

/// An object of a store, as it is.
struct ObjectSource<'a> {
    store: &'a dyn ObjectStore,
    location: &'a Path,
    size: u64,
}

#[async_trait]
impl Source for ObjectSource<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    async fn ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let mut out = Vec::with_capacity(ranges.len());
        for range in ranges {
            out.push(ranged(self.store, self.location, range.clone()).await?);
        }
        Ok(out)
    }
}

/// Reads exactly `range`.
pub(super) async fn ranged(store: &dyn ObjectStore, location: &Path, range: Range<u64>) -> Result<Bytes> {
    if range.is_empty() {
        return Ok(Bytes::new());
    }
    let length = range.end - range.start;
    let bytes = store.get_range(location, range.clone()).await?;
    if bytes.len() as u64 != length {
        return Err(corrupt("the store returned another length than was asked for").with("asked", length).with("found", bytes.len()));
    }
    Ok(bytes)
}

fn decode(bytes: &[u8], end: u64) -> Result<(ArrowReaderMetadata, Vec<GroupLayout>)> {
    let metadata = ParquetMetaDataReader::decode_metadata(bytes).map_err(footer_error)?;
    let groups = metadata.row_groups().iter().enumerate().map(|(at, group)| {
        let rows = u64::try_from(group.num_rows()).map_err(|_| corrupt("a row group has a negative row count"));
        let chunks: Result<Vec<_>> = group.columns().iter().map(|column| chunk_range(column, end)).collect();
        rows.and_then(|rows| Ok((rows, chunks?))).and_then(|(rows, chunks)| group_layout(rows, chunks)).map_err(|e| e.with("row group", at))
    });
    let groups = groups.collect::<Result<Vec<_>>>()?;
    Ok((reader_metadata(metadata)?, groups))
}

fn group_layout(rows: u64, chunks: Vec<Range<u64>>) -> Result<GroupLayout> {
    let mut sorted: Vec<_> = chunks.iter().filter(|chunk| !chunk.is_empty()).collect();
    sorted.sort_by_key(|chunk| chunk.start);
    if sorted.iter().zip(sorted.iter().skip(1)).any(|(a, b)| a.end > b.start) {
        return Err(corrupt("column chunks overlap"));
    }
    let start = sorted.first().map_or(MAGIC_BYTES, |chunk| chunk.start);
    let end = sorted.last().map_or(start, |chunk| chunk.end);
    Ok(GroupLayout { bytes: start..end, rows, chunks })
}

fn chunk_range(column: &ColumnChunkMetaData, end: u64) -> Result<Range<u64>> {
    let at = |e: Error| e.with("column", column.column_path());
    if column.file_path().is_some_and(|path| !path.is_empty()) {
        return Err(at(Error::new(ErrorKind::Unsupported, "a column chunk lies in another file")));
    }
    let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
    let range = u64::try_from(start).ok().zip(u64::try_from(column.compressed_size()).ok());
    let range = range.and_then(|(start, length)| Some(start..start.checked_add(length)?));
    let inside = |range: &Range<u64>| range.is_empty() || (range.start >= MAGIC_BYTES && range.end <= end);
    range.filter(inside).ok_or_else(|| at(corrupt("a column chunk lies outside of the file's data").with("start", start)))
}

/// The arrow schema comes from Parquet's own types, never from the copy of a writer's arrow schema: that is a second, unchecked
/// opinion. INT96 is read in microseconds, because nanoseconds of 64 bits wrap round outside of the years 1677 to 2262.
fn reader_metadata(metadata: ParquetMetaData) -> Result<ArrowReaderMetadata> {
    let metadata = Arc::new(metadata);
    let plain =
        ArrowReaderMetadata::try_new(metadata.clone(), ArrowReaderOptions::new().with_skip_arrow_metadata(true)).map_err(footer_error)?;
    let columns = plain.parquet_schema();
    if !columns.columns().iter().any(|column| column.physical_type() == PhysicalType::INT96) {
        return Ok(plain);
    }
    let mut leaf = 0;
    let fields: Vec<_> = plain.schema().fields().iter().map(|field| with_int96(field, columns, &mut leaf)).collect();
    let schema = Arc::new(Schema::new(fields));
    ArrowReaderMetadata::try_new(metadata, ArrowReaderOptions::new().with_schema(schema)).map_err(footer_error)
}

fn with_int96(field: &Arc<Field>, columns: &SchemaDescriptor, leaf: &mut usize) -> Arc<Field> {
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| with_int96(field, columns, leaf)).collect::<Fields>()),
        DataType::List(item) => DataType::List(with_int96(item, columns, leaf)),
        DataType::LargeList(item) => DataType::LargeList(with_int96(item, columns, leaf)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(with_int96(item, columns, leaf), *size),
        DataType::Map(entries, sorted) => DataType::Map(with_int96(entries, columns, leaf), *sorted),
        other => {
            let at = *leaf;
            *leaf += 1;
            let int96 = at < columns.num_columns() && columns.column(at).physical_type() == PhysicalType::INT96;
            if int96 { DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())) } else { other.clone() }
        }
    };
    Arc::new(field.as_ref().clone().with_data_type(data_type))
}

fn footer_error(e: ParquetError) -> Error {
    match &e {
        ParquetError::NYI(_) => Error::new(ErrorKind::Unsupported, "the file uses a Parquet feature that is not supported").caused_by(e),
        _ if e.to_string().to_ascii_lowercase().contains("encrypt") => {
            Error::new(ErrorKind::Unsupported, "encrypted Parquet is not supported").caused_by(e)
        }
        _ => corrupt("the Parquet footer does not decode").caused_by(e),
    }
}

fn corrupt(message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}
