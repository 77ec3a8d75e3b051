//! Files to be imported: Parquet and CSV, read as a stream of batches with the columns and types of the table.

use std::fs::File;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::PartitionStream;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::import::Counter;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::lineage::{Input, InputKind};

/// Rows that are in memory at once, per file that is being read, are a few of these.
const BATCH_ROWS: usize = 8192;

/// One file, understood but not yet read.
#[derive(Debug, Clone)]
pub(super) struct Source {
    path: PathBuf,
    format: Format,
    /// The columns as they are in the file.
    schema: SchemaRef,
    /// How many rows it has.
    pub(super) rows: u64,
    /// Plain BLAKE3 of it, taken before it is read for its rows.
    digest: Digest,
    stamp: Stamp,
}

/// What tells that a file was written to: its length and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    modified: Option<std::time::SystemTime>,
}

impl Stamp {
    fn of(path: &FilePath) -> Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self { bytes: metadata.len(), modified: metadata.modified().ok() })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Parquet,
    Csv,
}

impl Source {
    /// Finds out what `path` is. Costs one pass over it for its digest; a CSV file one more.
    pub(super) fn open(path: &FilePath) -> Result<Self> {
        let named = |e: Error| e.with("file", path.display());
        let file = open_file(path).map_err(named)?;
        let stamp = Stamp::of(path).map_err(named)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&file).map_err(|e| named(e.into()))?;
        let digest = Digest(*hasher.finalize().as_bytes());
        let file = open_file(path).map_err(named)?;
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        if extension == "csv" {
            return Self::open_csv(path, file, (digest, stamp)).map_err(named);
        }
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| {
            named(Error::new(ErrorKind::InvalidInput, "not a Parquet file (CSV files are told by their name, *.csv)").caused_by(e))
        })?;
        let rows = u64::try_from(reader.metadata().file_metadata().num_rows())
            .map_err(|_| named(Error::new(ErrorKind::InvalidInput, "the Parquet footer states a negative number of rows")))?;
        Ok(Self { path: path.to_owned(), format: Format::Parquet, schema: reader.schema().clone(), rows, digest, stamp })
    }

    fn open_csv(path: &FilePath, file: File, (digest, stamp): (Digest, Stamp)) -> Result<Self> {
        let (schema, rows) = arrow::csv::reader::Format::default()
            .with_header(true)
            .infer_schema(file, None)
            .map_err(|e| Error::new(ErrorKind::InvalidInput, "not a CSV file with a header line").caused_by(e))?;
        if schema.fields().is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "the CSV file has no header line"));
        }
        Ok(Self { path: path.to_owned(), format: Format::Csv, schema: Arc::new(schema), rows: rows as u64, digest, stamp })
    }

    /// The file as an input of the import's lineage.
    pub(super) fn input(&self) -> Input {
        let name = self.path.file_name().map_or_else(|| self.path.display().to_string(), |name| name.to_string_lossy().into_owned());
        Input {
            kind: InputKind::Source,
            uri: name,
            name: None,
            table_id: None,
            version: None,
            digest: Some(self.digest),
            baseline: None,
            files: None,
        }
    }

    /// Fails when the file was written to since its digest was taken: its rows might not be those that the digest vouches for.
    fn check_unchanged(&self) -> Result<()> {
        let now = Stamp::of(&self.path).map_err(|e| e.with("file", self.path.display()))?;
        if now == self.stamp {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidInput, "the file changed while it was being imported; nothing was imported, import it again")
            .with("file", self.path.display()))
    }

    /// The columns that a new table made from this file would have.
    pub(super) fn table_schema(&self) -> Result<SchemaRef> {
        let fields = self
            .schema
            .fields()
            .iter()
            .map(|field| match delta_type(field.data_type()) {
                Some(data_type) => Ok(Field::new(field.name(), data_type, true)),
                None => Err(self.problem(format!("column \"{}\" has the type {}, which Delta has not", field.name(), field.data_type()))),
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Arc::new(Schema::new(fields)))
    }

    /// Checks that the file's rows can become rows of a table with `target`'s columns, without loss.
    pub(super) fn check_against(&self, target: &Schema) -> Result<()> {
        for field in target.fields() {
            let Ok(own) = self.schema.field_with_name(field.name()) else {
                return Err(self.problem(format!("the table's column \"{}\" is missing in it", field.name())));
            };
            // Text is parsed as whatever the table has; what cannot be parsed is found while reading.
            let fits = self.format == Format::Csv && is_scalar(field.data_type()) || converts(own.data_type(), field.data_type());
            if !fits {
                let (own, table) = (own.data_type(), field.data_type());
                return Err(self.problem(format!("column \"{}\" has the type {own}, but {table} in the table", field.name())));
            }
        }
        match self.schema.fields().iter().find(|own| target.field_with_name(own.name()).is_err()) {
            Some(extra) => Err(self.problem(format!("it has a column \"{}\" that the table has not", extra.name()))),
            None if target.fields().len() != self.schema.fields().len() => Err(self.problem("it has one column twice".to_owned())),
            None => Ok(()),
        }
    }

    fn problem(&self, what: String) -> Error {
        Error::new(ErrorKind::InvalidInput, format!("the file does not fit the table: {what}")).with("file", self.path.display())
    }

    /// Reads the whole file and hands each batch, with `target`'s columns, to `sink` until that says stop.
    fn read(&self, target: &SchemaRef, mut sink: impl FnMut(RecordBatch) -> bool) -> Result<()> {
        let named = |e: arrow::error::ArrowError| {
            Error::new(ErrorKind::InvalidInput, "the file could not be read to its end").with("file", self.path.display()).caused_by(e)
        };
        let file = open_file(&self.path)?;
        let batches: Box<dyn Iterator<Item = _>> = match self.format {
            Format::Parquet => {
                let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|b| b.with_batch_size(BATCH_ROWS).build());
                Box::new(reader.map_err(|e| named(e.into()))?)
            }
            Format::Csv => Box::new(
                arrow::csv::ReaderBuilder::new(self.csv_schema(target))
                    .with_header(true)
                    .with_batch_size(BATCH_ROWS)
                    .build(file)
                    .map_err(named)?,
            ),
        };
        for batch in batches {
            let batch = batch.map_err(named)?;
            if !sink(self.conform(&batch, target)?) {
                break;
            }
        }
        Ok(())
    }

    /// The file's columns in the file's order, with the table's types.
    fn csv_schema(&self, target: &Schema) -> SchemaRef {
        let typed = |own: &Arc<Field>| target.field_with_name(own.name()).map_or_else(|_| own.clone(), |field| Arc::new(field.clone()));
        Arc::new(Schema::new(self.schema.fields().iter().map(typed).collect::<Vec<_>>()))
    }

    fn conform(&self, batch: &RecordBatch, target: &SchemaRef) -> Result<RecordBatch> {
        let columns = target
            .fields()
            .iter()
            .map(|field| {
                let column = batch.column_by_name(field.name()).ok_or_else(|| self.problem(format!("\"{}\" is missing", field.name())))?;
                convert(column, field.data_type())
                    .map_err(|e| self.problem(format!("a value of column \"{}\" cannot be kept", field.name())).caused_by(e))
            })
            .collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new(target.clone(), columns).map_err(|e| self.problem("its rows do not fit".to_owned()).caused_by(e))
    }
}

fn open_file(path: &FilePath) -> Result<File> {
    let kind = |e: &std::io::Error| if e.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
    let file = File::open(path).map_err(|e| Error::new(kind(&e), "the file cannot be opened").caused_by(e))?;
    if file.metadata()?.is_dir() {
        return Err(Error::new(ErrorKind::InvalidInput, "this is a directory: name its files"));
    }
    Ok(file)
}

/// Some files, one after the other, as one partition of a DataFusion table.
#[derive(Debug)]
pub(super) struct SourceStream {
    pub(super) sources: Vec<Source>,
    pub(super) schema: SchemaRef,
    pub(super) counter: Arc<Counter>,
}

impl PartitionStream for SourceStream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(self.schema.clone(), 2);
        let (sender, sources, schema, counter) = (builder.tx(), self.sources.clone(), self.schema.clone(), self.counter.clone());
        builder.spawn_blocking(move || {
            for source in sources {
                let read = source.read(&schema, |batch| {
                    counter.add(batch.num_rows());
                    sender.blocking_send(Ok(batch)).is_ok()
                });
                read.and_then(|()| source.check_unchanged()).map_err(|e| DataFusionError::External(Box::new(e)))?;
            }
            Ok(())
        });
        builder.build()
    }
}

/// The type under which Delta keeps an arrow type; `None` when it has none.
pub(crate) fn delta_type(from: &DataType) -> Option<DataType> {
    use DataType as T;
    let item = |field: &Arc<Field>| Some(Arc::new(Field::new(field.name(), delta_type(field.data_type())?, field.is_nullable())));
    Some(match from {
        T::Boolean | T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::Float32 | T::Float64 | T::Date32 => from.clone(),
        T::UInt8 => T::Int16,
        T::UInt16 => T::Int32,
        T::UInt32 => T::Int64,
        T::UInt64 => T::Decimal128(20, 0),
        T::Float16 => T::Float32,
        T::Utf8 | T::LargeUtf8 | T::Utf8View => T::Utf8,
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => T::Binary,
        T::Timestamp(_, None) | T::Date64 => T::Timestamp(TimeUnit::Microsecond, None),
        T::Timestamp(_, Some(_)) => T::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        T::Decimal32(p, s) | T::Decimal64(p, s) | T::Decimal128(p, s) => T::Decimal128(*p, *s),
        T::Dictionary(_, values) => delta_type(values)?,
        T::List(field) | T::LargeList(field) | T::ListView(field) | T::FixedSizeList(field, _) => T::List(item(field)?),
        T::Struct(fields) => T::Struct(fields.iter().map(item).collect::<Option<Vec<_>>>()?.into()),
        T::Map(field, sorted) => T::Map(item(field)?, *sorted),
        _ => return None,
    })
}

fn is_scalar(data_type: &DataType) -> bool {
    !data_type.is_nested()
}

/// Whether every value of `from` has its like in `to`; what depends on the value is found by [`convert`].
fn converts(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    let (Some(from), Some(to)) = (delta_type(from), delta_type(to)) else { return false };
    let width = |t: &DataType| match t {
        T::Int8 => Some(1),
        T::Int16 => Some(2),
        T::Int32 => Some(4),
        T::Int64 => Some(8),
        _ => None,
    };
    match (&from, &to) {
        (T::Float32, T::Float64) => true,
        (T::Int8 | T::Int16 | T::Int32, T::Float64) => true,
        (T::Decimal128(p, s), T::Decimal128(q, t)) => s == t && p <= q,
        _ => match (width(&from), width(&to)) {
            (Some(own), Some(table)) => own <= table,
            _ => from.equals_datatype(&to),
        },
    }
}

/// Casts without losing anything: what would overflow or lose digits is an error.
fn convert(column: &ArrayRef, to: &DataType) -> std::result::Result<ArrayRef, arrow::error::ArrowError> {
    if column.data_type() == to {
        return Ok(column.clone());
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let cast = cast_with_options(column, to, &options)?;
    if matches!(column.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _)) {
        let back = cast_with_options(&cast, column.data_type(), &options)?;
        if back.to_data() != column.to_data() {
            return Err(arrow::error::ArrowError::CastError("a timestamp is finer than a microsecond".to_owned()));
        }
    }
    Ok(cast)
}
