//! The rows that a statement gives now against the rows that a commit added, or left, then, as multisets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use tokio::sync::mpsc;

use super::to_error;
use crate::delta::{self, Location};
use crate::digest::{Digest, MultisetHasher};
use crate::error::{Error, ErrorKind, Result};
use crate::id::random_bytes;
use crate::lineage::CommitLineage;
use crate::table::{LiveFile, TableSnapshot};

/// With more rows than this the multisets are compared, but no single row is named.
const NAMED_LIMIT: usize = 4_000_000;
/// With more rows than this, rows that differ are not paired to see whether only the last digits of floats do.
const PAIRED_LIMIT: u64 = 1_000_000;
/// Floats that differ by no more than this part of their size count as one sum in two orders.
const DEVIATION_LIMIT: f64 = 1e-9;
const SHOWN_CHARS: usize = 300;
/// Batches that are decoded before they are asked for.
const BATCHES_AHEAD: usize = 2;

/// What the comparison came to.
#[derive(Debug, Clone, Default)]
pub(super) struct Comparison {
    /// Rows that the commit added, or left.
    pub(super) found: u64,
    /// Rows that the statement gives.
    pub(super) derived: u64,
    /// The rows are the same but for floats, which deviate by this part of their size at most.
    pub(super) deviation: Option<f64>,
    /// The first row on either side that the other lacks.
    pub(super) first_difference: Option<String>,
}

/// A file that the commit added, or left.
#[derive(Debug)]
struct FoundFile {
    path: String,
    location: Path,
    size: u64,
    partition_values: BTreeMap<String, Option<String>>,
    /// What it was when it was written.
    digest: Option<Digest>,
}

/// A file as the decoder asks for it.
struct StoredFile {
    store: Arc<dyn ObjectStore>,
    location: Path,
    size: u64,
}

impl AsyncFileReader for StoredFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move { self.store.get_range(&self.location, range).await.map_err(|e| ParquetError::External(Box::new(e))) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { self.store.get_ranges(&self.location, &ranges).await.map_err(|e| ParquetError::External(Box::new(e))) }.boxed()
    }

    fn get_metadata<'a>(&'a mut self, _: Option<&'a ArrowReaderOptions>) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        let size = self.size;
        async move { ParquetMetaDataReader::new().load_and_finish(self, size).await.map(Arc::new) }.boxed()
    }
}

/// The rows that a commit added, or left.
#[derive(Debug)]
pub(super) struct Found {
    location: Location,
    schema: SchemaRef,
    /// Columns whose values the log states, whatever the files hold.
    partition_columns: BTreeSet<String>,
    /// What became of these rows in the commit.
    pub(super) became: &'static str,
    files: Vec<FoundFile>,
}

impl Found {
    /// The files among `snapshot`, the table as the commit left it, that are `wanted`.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for column mapping and deletion vectors.
    pub(super) async fn of(
        location: &Location,
        commit: &CommitLineage,
        snapshot: &TableSnapshot,
        became: &'static str,
        wanted: impl Fn(&LiveFile) -> bool,
    ) -> Result<Self> {
        let mapping = snapshot.metadata.pointer("/configuration/delta.columnMapping.mode").and_then(|mode| mode.as_str()).unwrap_or("none");
        if mapping != "none" {
            return Err(Error::new(ErrorKind::Unsupported, "the table's columns have other names in its files (column mapping)"));
        }
        let schema = delta::table_schema(location, commit.version).await?;
        let digests: BTreeMap<&str, Option<Digest>> = commit.lineage.outputs.iter().map(|o| (o.path.as_str(), o.digest)).collect();
        let files = snapshot.files.values().filter(|file| wanted(file)).map(|file| {
            if file.deletion_vector.is_some() {
                let what = "a file has a deletion vector, which this comparison does not read";
                return Err(Error::new(ErrorKind::Unsupported, what).with("file", &file.raw_path));
            }
            let outside = || Error::new(ErrorKind::Mismatch, "the commit has a file outside of the table").with("file", &file.raw_path);
            Ok(FoundFile {
                path: file.key.path.clone(),
                location: file.location.clone().ok_or_else(outside)?,
                size: file.size,
                partition_values: file.partition_values.clone(),
                digest: digests.get(file.key.path.as_str()).copied().flatten(),
            })
        });
        let partition_columns = snapshot.schema.partition_columns.iter().cloned().collect();
        Ok(Self { location: location.clone(), schema, partition_columns, became, files: files.collect::<Result<_>>()? })
    }

    /// The first file that is not what was written, if any. Cost: every file is read.
    async fn changed_file(&self) -> Result<Option<String>> {
        for file in &self.files {
            let Some(written) = file.digest else { continue };
            let mut bytes = self.location.store().get(&file.location).await.map_err(|e| gone(&file.path, e.into()))?.into_stream();
            let mut hasher = blake3::Hasher::new();
            while let Some(next) = bytes.try_next().await? {
                hasher.update(&next);
            }
            let now = Digest(*hasher.finalize().as_bytes());
            if now != written {
                return Ok(Some(format!("{} is not the file that was written: {written} then, {now} now", file.path)));
            }
        }
        Ok(None)
    }

    /// Hands every batch of a file, with the table's columns, to `sink`.
    async fn read(&self, file: &FoundFile, sink: &mut (dyn FnMut(&RecordBatch) -> Result<()> + Send)) -> Result<()> {
        let failed =
            |e: ParquetError| Error::new(ErrorKind::Corrupt, "a file of the commit cannot be read").with("file", &file.path).caused_by(e);
        let reader = StoredFile { store: self.location.store().clone(), location: file.location.clone(), size: file.size };
        let (decoded, mut batches) = mpsc::channel(BATCHES_AHEAD);
        // Decoders panic on some damaged files: such a task ends, and the query does not.
        let decoding = tokio::spawn(async move {
            let mut stream = ParquetRecordBatchStreamBuilder::new(reader).await?.build()?;
            while let Some(batch) = stream.next().await {
                if decoded.send(batch?).await.is_err() {
                    break;
                }
            }
            Ok::<(), ParquetError>(())
        });
        while let Some(batch) = batches.recv().await {
            let batch = self.with_partitions(&batch, file)?;
            sink(&normal(&batch, &self.schema)?)?;
        }
        match decoding.await {
            Ok(ended) => ended.map_err(failed),
            Err(stopped) => Err(Error::new(ErrorKind::Corrupt, "the Parquet decoder failed on a file of the commit")
                .with("file", &file.path)
                .caused_by(stopped)),
        }
    }

    fn with_partitions(&self, batch: &RecordBatch, file: &FoundFile) -> Result<RecordBatch> {
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for field in self.schema.fields() {
            let is_stated = self.partition_columns.contains(field.name());
            let stated = file.partition_values.get(field.name()).and_then(Option::as_deref);
            let column: ArrayRef = match (stated, batch.column_by_name(field.name())) {
                // The empty text is null, as it is for whoever reads the table.
                (Some(value), _) if is_stated && !value.is_empty() => {
                    let text: ArrayRef = Arc::new(StringArray::from(vec![value; batch.num_rows()]));
                    strict_cast(&text, field.data_type())?
                }
                (_, Some(column)) if !is_stated => column.clone(),
                _ => new_null_array(field.data_type(), batch.num_rows()),
            };
            fields.push(arrow::datatypes::Field::new(field.name(), column.data_type().clone(), true));
            columns.push(column);
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(misfit)
    }
}

fn gone(path: &str, error: Error) -> Error {
    let kind = if error.is_retryable() { error.kind() } else { ErrorKind::NotFound };
    Error::new(kind, "a file of the commit is gone").with("file", path).caused_by(error)
}

fn misfit(error: arrow::error::ArrowError) -> Error {
    Error::new(ErrorKind::Unsupported, "rows do not have the table's columns").caused_by(error)
}

fn strict_cast(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    cast_with_options(column, to, &CastOptions { safe: false, ..CastOptions::default() }).map_err(misfit)
}

/// A batch with the columns of `schema`, in its order and types.
fn normal(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| {
        let column = batch.column_by_name(field.name());
        let column =
            column.ok_or_else(|| Error::new(ErrorKind::Unsupported, "a column of the table is missing").with("column", field.name()))?;
        if column.data_type() == field.data_type() { Ok(column.clone()) } else { strict_cast(column, field.data_type()) }
    });
    RecordBatch::try_new(schema.clone(), columns.collect::<Result<_>>()?).map_err(misfit)
}

/// Rows as canonical bytes, and their sums.
struct Sums {
    converter: RowConverter,
    key: [u8; 32],
    /// How much oftener the statement gives a row than the commit added it; given up beyond [`NAMED_LIMIT`].
    balance: Option<HashMap<[u8; 16], i64>>,
}

impl Sums {
    fn new(schema: &Schema) -> Result<Self> {
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let converter = RowConverter::new(fields)
            .map_err(|e| Error::new(ErrorKind::Unsupported, "the table has columns whose values are not compared").caused_by(e))?;
        Ok(Self { converter, key: random_bytes()?, balance: Some(HashMap::new()) })
    }

    fn names(&self, batch: &RecordBatch) -> Result<Vec<[u8; 16]>> {
        let rows = self.converter.convert_columns(batch.columns()).map_err(misfit)?;
        Ok(rows.iter().map(|row| self.name(row.as_ref())).collect())
    }

    fn name(&self, row: &[u8]) -> [u8; 16] {
        blake3::keyed_hash(&self.key, row).as_bytes().first_chunk::<16>().copied().unwrap_or_default()
    }

    fn add(&mut self, batch: &RecordBatch, sum: &mut MultisetHasher, step: i64) -> Result<()> {
        let rows = self.converter.convert_columns(batch.columns()).map_err(misfit)?;
        for row in &rows {
            sum.add(row.as_ref());
            let name = self.name(row.as_ref());
            if let Some(balance) = &mut self.balance {
                let entry = balance.entry(name).or_default();
                *entry += step;
                if *entry == 0 {
                    balance.remove(&name);
                }
            }
        }
        if self.balance.as_ref().is_some_and(|balance| balance.len() > NAMED_LIMIT) {
            self.balance = None;
        }
        Ok(())
    }
}

/// Runs `query` and compares its rows with the found ones. Memory: some 40 bytes for each row that has not met its like yet, while they are less
/// than four million.
///
/// # Errors
/// What planning or running the query fails with; [`ErrorKind::NotFound`] for files that are gone.
pub(super) async fn compare(context: &SessionContext, query: LogicalPlan, found: &Found, order_matters: bool) -> Result<Comparison> {
    if let Some(changed) = found.changed_file().await? {
        return Ok(Comparison { first_difference: Some(changed), ..Comparison::default() });
    }
    let mut sums = Sums::new(&found.schema)?;
    let (mut expected, mut actual) = (MultisetHasher::new(&sums.key), MultisetHasher::new(&sums.key));
    let mut comparison = Comparison::default();
    let mut derived = context.execute_logical_plan(query.clone()).await.map_err(to_error)?.execute_stream().await.map_err(to_error)?;
    while let Some(batch) = derived.try_next().await.map_err(to_error)? {
        comparison.derived += batch.num_rows() as u64;
        sums.add(&normal(&batch, &found.schema)?, &mut expected, 1)?;
    }
    for file in &found.files {
        let mut sink = |batch: &RecordBatch| {
            comparison.found += batch.num_rows() as u64;
            sums.add(batch, &mut actual, -1)
        };
        found.read(file, &mut sink).await?;
    }
    if expected.finish() == actual.finish() {
        return Ok(comparison);
    }
    let has_floats = found.schema.fields().iter().any(|field| field.data_type().is_floating());
    if order_matters && has_floats && comparison.found == comparison.derived && comparison.found <= PAIRED_LIMIT {
        comparison.deviation = deviation(context, query.clone(), found).await?.filter(|deviation| *deviation <= DEVIATION_LIMIT);
        if comparison.deviation.is_some() {
            return Ok(comparison);
        }
    }
    comparison.first_difference = Some(difference(context, query, found, &sums).await?);
    Ok(comparison)
}

/// Names the first row on each side that the other lacks.
async fn difference(context: &SessionContext, query: LogicalPlan, found: &Found, sums: &Sums) -> Result<String> {
    let Some(balance) = &sums.balance else {
        return Ok(format!("more than {NAMED_LIMIT} rows differ: none of them is named"));
    };
    let mut parts = Vec::new();
    let mut derived = context.execute_logical_plan(query).await.map_err(to_error)?.execute_stream().await.map_err(to_error)?;
    'derived: while let Some(batch) = derived.try_next().await.map_err(to_error)? {
        let batch = normal(&batch, &found.schema)?;
        for (row, name) in sums.names(&batch)?.iter().enumerate() {
            if balance.get(name).is_some_and(|balance| *balance > 0) {
                parts.push(format!("the statement gives {}, which is not among what the commit {}", shown(&batch, row)?, found.became));
                break 'derived;
            }
        }
    }
    for file in &found.files {
        let mut position = 0;
        let mut named: Option<String> = None;
        let mut sink = |batch: &RecordBatch| {
            if named.is_none() {
                let wrong = sums.names(batch)?.iter().position(|name| balance.get(name).is_some_and(|balance| *balance < 0));
                if let Some(row) = wrong {
                    let text = shown(batch, row)?;
                    named = Some(format!(
                        "the commit {} {text} (row {} of {}), which the statement does not give",
                        found.became,
                        position + row,
                        file.path
                    ));
                }
            }
            position += batch.num_rows();
            Ok(())
        };
        found.read(file, &mut sink).await?;
        if let Some(named) = named {
            parts.push(named);
            break;
        }
    }
    if parts.is_empty() {
        return Ok("the statement gives other rows each time that it is run".to_owned());
    }
    Ok(parts.join("; "))
}

fn shown(batch: &RecordBatch, row: usize) -> Result<String> {
    let options = FormatOptions::default().with_null("null");
    let mut text = String::from("{");
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let formatter = ArrayFormatter::try_new(column.as_ref(), &options).map_err(misfit)?;
        if text.len() > 1 {
            text.push_str(", ");
        }
        text.push_str(&format!("{}: {}", field.name(), formatter.value(row)));
    }
    text.push('}');
    Ok(if text.chars().count() > SHOWN_CHARS { text.chars().take(SHOWN_CHARS).chain("…".chars()).collect() } else { text })
}

/// Pairs rows by all that is no float, in the order of their floats: how far floats deviate; `None` when the rest differs.
async fn deviation(context: &SessionContext, query: LogicalPlan, found: &Found) -> Result<Option<f64>> {
    let mut expected = Vec::new();
    let mut derived = context.execute_logical_plan(query).await.map_err(to_error)?.execute_stream().await.map_err(to_error)?;
    while let Some(batch) = derived.try_next().await.map_err(to_error)? {
        expected.push(normal(&batch, &found.schema)?);
    }
    let mut actual = Vec::new();
    for file in &found.files {
        let mut sink = |batch: &RecordBatch| {
            actual.push(batch.clone());
            Ok(())
        };
        found.read(file, &mut sink).await?;
    }
    let (expected, actual) = (paired(&found.schema, &expected)?, paired(&found.schema, &actual)?);
    let mut worst = 0.0_f64;
    for ((key, floats), (other_key, others)) in expected.iter().zip(&actual) {
        if key != other_key {
            return Ok(None);
        }
        for (a, b) in floats.iter().zip(others) {
            worst = match (a, b) {
                (Some(a), Some(b)) if a == b || (a.is_nan() && b.is_nan()) => worst,
                (Some(a), Some(b)) if a.is_finite() && b.is_finite() => worst.max((a - b).abs() / a.abs().max(b.abs())),
                (None, None) => worst,
                _ => return Ok(None),
            };
        }
    }
    Ok(Some(worst))
}

type Pairable = (Vec<u8>, Vec<Option<f64>>);

/// Rows as (everything but floats, floats), sorted.
fn paired(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<Pairable>> {
    let all = concat_batches(schema, batches).map_err(misfit)?;
    let is_float = |column: &ArrayRef| column.data_type().is_floating();
    let (floats, others): (Vec<ArrayRef>, Vec<ArrayRef>) = all.columns().iter().cloned().partition(is_float);
    let converter = RowConverter::new(others.iter().map(|column| SortField::new(column.data_type().clone())).collect()).map_err(misfit)?;
    let keys: Vec<Vec<u8>> = match others.is_empty() {
        true => vec![Vec::new(); all.num_rows()],
        false => converter.convert_columns(&others).map_err(misfit)?.iter().map(|row| row.as_ref().to_vec()).collect(),
    };
    let mut rows: Vec<Pairable> =
        keys.into_iter().enumerate().map(|(row, key)| (key, floats.iter().map(|column| float(column, row)).collect())).collect();
    let order = |a: &Option<f64>, b: &Option<f64>| match (a, b) {
        (Some(a), Some(b)) => a.total_cmp(b),
        _ => a.is_some().cmp(&b.is_some()),
    };
    rows.sort_by(|(key, floats), (other_key, others)| {
        let by_floats = || floats.iter().zip(others).map(|(a, b)| order(a, b)).find(|order| order.is_ne());
        key.cmp(other_key).then_with(|| by_floats().unwrap_or(std::cmp::Ordering::Equal))
    });
    Ok(rows)
}

fn float(column: &ArrayRef, row: usize) -> Option<f64> {
    if column.is_null(row) {
        return None;
    }
    match column.data_type() {
        DataType::Float64 => Some(column.as_primitive::<Float64Type>().value(row)),
        DataType::Float32 => Some(f64::from(column.as_primitive::<Float32Type>().value(row))),
        _ => None,
    }
}
