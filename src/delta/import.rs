//! Import: files become rows of a Delta table in one commit.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::physical_plan::streaming::PartitionStream;
use deltalake::kernel::transaction::CommitProperties;
use deltalake::protocol::SaveMode;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::source::{Source, SourceStream};
use super::traces::{Fate, Traces};
use super::{Location, Operation, TrustedLog, begin_table, delta_error, end_table, new_table, open, open_or_new, session};
use crate::error::{Error, ErrorKind, Result};
use crate::lineage::{Lineage, Transformation};

/// Rows of a row group: the unit in which damage is placed.
const ROW_GROUP_ROWS: usize = 131_072;

/// Files that are read, and written, side by side.
const MAX_STREAMS: usize = 2;

/// What happens to the rows that a table has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ImportMode {
    /// They stay.
    #[default]
    Append,
    /// They are removed in the same commit.
    Overwrite,
}

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportProgress {
    /// Rows read so far.
    pub rows: u64,
    /// Rows that there are.
    pub rows_total: u64,
}

type Report = Arc<dyn Fn(ImportProgress) + Send + Sync>;

/// What to import and how.
#[derive(Clone, Default)]
pub struct Import {
    /// Local files: `*.csv` is CSV with a header line, everything else must be Parquet.
    pub sources: Vec<PathBuf>,
    /// What happens to rows that are there.
    pub mode: ImportMode,
    /// Columns that partition a table that does not exist yet.
    pub partition_by: Vec<String>,
    /// Called now and then, from any thread.
    pub progress: Option<Report>,
}

impl fmt::Debug for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Import")
            .field("sources", &self.sources)
            .field("mode", &self.mode)
            .field("partition_by", &self.partition_by)
            .finish()
    }
}

/// What an import did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// The Delta version that its commit made.
    pub version: u64,
    /// Whether the table was made by it.
    pub created: bool,
    /// Rows imported.
    pub rows: u64,
    /// Live files of the table after it; absent where the commit is there and the table could not be read then.
    pub files: Option<usize>,
}

/// Counts rows as they are read.
pub(super) struct Counter {
    rows: AtomicU64,
    total: u64,
    report: Option<Report>,
}

impl Counter {
    pub(super) fn add(&self, rows: usize) {
        let rows = rows as u64 + self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        if let Some(report) = &self.report {
            report(ImportProgress { rows, rows_total: self.total });
        }
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} rows", self.rows.load(Ordering::Relaxed), self.total)
    }
}

/// Imports files into the table at `location`, which is made if it does not exist.
///
/// All files become visible in one commit, or none: an import that fails takes its data files away again, and one that is killed leaves no more
/// behind than data files that no version names. Where another import makes the table meanwhile, this one goes on as any other into a table that is
/// there, and reads its files a second time. Where something fails after the commit (a checkpoint, say), it is done, and a warning is traced. Memory is bounded by a few batches and one row group per stream, whatever the files' sizes.
///
/// # Errors
/// [`ErrorKind::InvalidInput`], naming the file, for what is no Parquet or CSV and for columns that do not fit the table;
/// [`ErrorKind::NotFound`] for a missing file; [`ErrorKind::OutcomeUnknown`] when it could not be learned whether the commit is there; what the store
/// reports.
pub async fn import(location: &Location, import: Import) -> Result<Imported> {
    let sources = open_sources(&import.sources).await?;
    let location = &location.doing(Operation(Arc::new(lineage(&sources, import.mode))))?;
    if let Some(done) = attempt(location, &sources, &import).await? {
        return Ok(done);
    }
    tracing::debug!(table = %location, "another write made the table meanwhile: going on with that one");
    let into_theirs = attempt(location, &sources, &import).await.map_err(|error| {
        let what = match Traces::is_said(&error) {
            true => "another write made the table meanwhile, and this import into that one failed: what was written is said below",
            // It came to no commit.
            false => "another write made the table meanwhile, and this import did not go into that one; nothing of it was written",
        };
        Error::new(error.kind(), what).with("table", location.name()).caused_by(error)
    })?;
    into_theirs.ok_or_else(|| {
        let what = "the table was made and taken away by others meanwhile; nothing was written";
        Error::new(ErrorKind::Unavailable, what).with("table", location.name())
    })
}

/// Imports into the table as it is now. Nothing is left, and nothing said, when it was to be made and another write made it meanwhile.
async fn attempt(location: &Location, sources: &[Source], import: &Import) -> Result<Option<Imported>> {
    let Some(first) = sources.first() else {
        return Err(Error::new(ErrorKind::InvalidInput, "no file was named to be imported"));
    };
    let location = &TrustedLog::of(location).await?;
    let (location, traces) = &Traces::of(location)?;
    let (table, exists) = open_or_new(location).await?;
    if !exists {
        new_table::check(location).await?;
    }
    let schema = if exists { existing_schema(location, &table)? } else { first.table_schema()? };
    for source in sources {
        source.check_against(&schema)?;
    }
    check_partitions(&import.partition_by, &schema)?;

    let rows = sources.iter().map(|source| source.rows).sum();
    let counter = Arc::new(Counter { rows: AtomicU64::new(0), total: rows, report: import.progress.clone() });
    let context = session([location])?;
    let plan = StreamingTable::try_new(schema.clone(), streams(sources.to_vec(), &schema, &counter))
        .and_then(|streaming| context.read_table(Arc::new(streaming)))
        .map_err(|e| Error::new(ErrorKind::Internal, "no plan could be made for the import").caused_by(e))?
        .into_unoptimized_plan();
    if !exists {
        begin_table(location).await?;
    }
    let mode = if import.mode == ImportMode::Append { SaveMode::Append } else { SaveMode::Overwrite };
    let mut write = table
        .write(Vec::new())
        .with_input_plan(plan)
        .with_session_state(Arc::new(context.state()))
        .with_save_mode(mode)
        .with_cast_safety(false)
        .with_writer_properties(writer_properties()?);
    if !exists {
        write = write.with_commit_properties(making());
        if !import.partition_by.is_empty() {
            write = write.with_partition_columns(import.partition_by.clone());
        }
    }
    let mut committed = None;
    let table = match write.await {
        Ok(table) => Some(table),
        Err(error) => match traces.settle().await {
            Fate::Committed(version) => {
                Traces::warn(location, version, &error);
                committed = Some(version);
                open(location, Some(version)).await.inspect_err(|error| Traces::warn(location, version, error)).ok()
            }
            Fate::Unnamed if !exists => match open_or_new(location).await {
                Ok((_, true)) => {
                    end_table(location).await;
                    return Ok(None);
                }
                Ok((_, false)) => return Err(Traces::said(delta_error(location, error), Fate::Unnamed)),
                Err(look) => {
                    let what = "the table could not be made, and whether another write made it meanwhile could not be learned";
                    let failed = Error::new(look.kind(), what).with("table", location.name()).with("look", look).caused_by(error);
                    return Err(Traces::said(failed, Fate::Unnamed));
                }
            },
            fate => return Err(Traces::said(delta_error(location, error), fate)),
        },
    };
    if !exists {
        end_table(location).await;
    }
    let state = table.as_ref().and_then(|table| table.snapshot().ok());
    let missing = || Error::new(ErrorKind::Internal, "the import is done, and of which version it is is not known");
    Ok(Some(Imported {
        version: committed.or(state.map(|state| state.version())).ok_or_else(missing)?,
        created: !exists,
        rows: counter.rows.load(Ordering::Relaxed),
        files: state.map(|state| state.log_data().num_files()),
    }))
}

/// How the commit that makes a table is made: once. deltalake would go on after losing it, and put its own columns and table id over those of
/// the table that is there then.
pub(super) fn making() -> CommitProperties {
    CommitProperties::default().with_max_retries(0)
}

/// What the import is made from, for whoever attests its commit.
fn lineage(sources: &[Source], mode: ImportMode) -> Lineage {
    let mode = if mode == ImportMode::Append { "Append" } else { "Overwrite" };
    Lineage {
        operation: "IMPORT".to_owned(),
        inputs: sources.iter().map(Source::input).collect(),
        inputs_complete: true,
        transformation: Transformation { parameters: [("mode".to_owned(), mode.to_owned())].into(), ..Transformation::default() },
        ..Lineage::default()
    }
}

async fn open_sources(paths: &[PathBuf]) -> Result<Vec<Source>> {
    let paths = paths.to_vec();
    let open = move || paths.iter().map(|path| Source::open(path)).collect();
    tokio::task::spawn_blocking(open).await.map_err(|e| Error::new(ErrorKind::Internal, "opening the files was cut short").caused_by(e))?
}

/// The columns of the Delta table at a version, in plain types.
pub(crate) async fn table_schema(location: &Location, version: u64) -> Result<SchemaRef> {
    let table = open(location, Some(version)).await?;
    existing_schema(location, &table)
}

fn existing_schema(location: &Location, table: &deltalake::DeltaTable) -> Result<SchemaRef> {
    let state = table.snapshot().map_err(|e| delta_error(location, e))?;
    let schema = state.snapshot().arrow_schema();
    // Partition columns come as dictionaries; nullability is the writer's to enforce.
    let plain = |field: &Arc<arrow::datatypes::Field>| match field.data_type() {
        arrow::datatypes::DataType::Dictionary(_, values) => field.as_ref().clone().with_data_type(values.as_ref().clone()),
        _ => field.as_ref().clone(),
    };
    Ok(Arc::new(Schema::new(schema.fields().iter().map(|field| plain(field).with_nullable(true)).collect::<Vec<_>>())))
}

fn check_partitions(partition_by: &[String], schema: &Schema) -> Result<()> {
    match partition_by.iter().find(|name| schema.field_with_name(name).is_err()) {
        Some(missing) => Err(Error::new(ErrorKind::InvalidInput, "the files have no such column to partition by").with("column", missing)),
        None => Ok(()),
    }
}

fn streams(sources: Vec<Source>, schema: &SchemaRef, counter: &Arc<Counter>) -> Vec<Arc<dyn PartitionStream>> {
    let mut parts: Vec<Vec<Source>> = vec![Vec::new(); sources.len().min(MAX_STREAMS)];
    for source in sources {
        // The part with the fewest rows so far takes the next file.
        if let Some(part) = parts.iter_mut().min_by_key(|part| part.iter().map(|s| s.rows).sum::<u64>()) {
            part.push(source);
        }
    }
    parts
        .into_iter()
        .map(|sources| Arc::new(SourceStream { sources, schema: schema.clone(), counter: counter.clone() }) as Arc<dyn PartitionStream>)
        .collect()
}

pub(super) fn writer_properties() -> Result<WriterProperties> {
    let level = ZstdLevel::try_new(1).map_err(|e| Error::new(ErrorKind::Internal, "the compression level is none").caused_by(e))?;
    Ok(WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_created_by(concat!("lakeseal ", env!("CARGO_PKG_VERSION")).to_owned())
        .build())
}
