//! Reading and writing for SQL: providers, and streams of rows that become one commit.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use deltalake::DeltaTable;
use deltalake::protocol::SaveMode;
use deltalake::table::state::DeltaTableState;
use futures::StreamExt;
use parking_lot::Mutex;

use super::import::{making, writer_properties};
use super::traces::{Fate, Traces};
use super::{Location, TrustedLog, begin_table, delta_error, end_table, log_store, new_table, open, open_or_new, session};
use crate::error::{Error, ErrorKind, Result};

/// deltalake's table provider for one version of the table.
pub(crate) async fn provider(location: &Location, version: u64) -> Result<Arc<dyn TableProvider>> {
    provider_of(location, open(location, Some(version)).await?).await
}

/// As [`provider`], of a state that was loaded before.
pub(crate) async fn provider_from(location: &Location, state: DeltaTableState) -> Result<Arc<dyn TableProvider>> {
    let mut table = DeltaTable::new(log_store(location)?);
    table.state = Some(state);
    provider_of(location, table).await
}

async fn provider_of(location: &Location, table: DeltaTable) -> Result<Arc<dyn TableProvider>> {
    table.table_provider().await.map_err(|e| match Error::find(&e) {
        Some(inner) => Error::new(inner.kind(), "the Delta table could not be opened").with("table", location.name()).caused_by(e),
        None => Error::new(ErrorKind::Unsupported, "the Delta table cannot be read").with("table", location.name()).caused_by(e),
    })
}

/// What becomes of the rows that a table has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteMode {
    /// They stay.
    Append,
    /// They are removed in the same commit.
    Overwrite,
    /// There must be no table: it is made.
    Create,
}

/// Whether there is a Delta table at `location`.
pub(crate) async fn exists(location: &Location) -> Result<bool> {
    Ok(open_or_new(location).await?.1)
}

/// Writes rows in one commit; returns how many. Constraints and invariants of the table are enforced. What fails takes its data files away again, and what
/// fails after the commit is traced as a warning: the rows are there.
///
/// # Errors
/// [`ErrorKind::OutcomeUnknown`] when it could not be learned whether the commit is there; [`ErrorKind::AlreadyExists`] when another write made the table.
pub(crate) async fn write_stream(location: &Location, rows: SendableRecordBatchStream, mode: WriteMode) -> Result<u64> {
    let location = &TrustedLog::of(location).await?;
    let (location, traces) = &Traces::of(location)?;
    let table = match mode {
        WriteMode::Create => open_or_new(location).await?.0,
        WriteMode::Append | WriteMode::Overwrite => open(location, None).await?,
    };
    if mode == WriteMode::Create {
        new_table::check(location).await?;
        begin_table(location).await?;
    }
    let context = session([location])?;
    let schema = rows.schema();
    let counted = Arc::new(Mutex::new(0));
    let counter = counted.clone();
    let rows = rows.inspect(move |batch| {
        if let Ok(batch) = batch {
            *counter.lock() += batch.num_rows() as u64;
        }
    });
    let rows: SendableRecordBatchStream = Box::pin(RecordBatchStreamAdapter::new(schema.clone(), rows));
    let once = Arc::new(OnceStream { schema: schema.clone(), rows: Mutex::new(Some(rows)) });
    let plan = StreamingTable::try_new(schema, vec![once])
        .and_then(|streaming| context.read_table(Arc::new(streaming)))
        .map_err(|e| Error::new(ErrorKind::Internal, "no plan could be made for the rows").caused_by(e))?
        .into_unoptimized_plan();
    let mut write = table
        .write(Vec::new())
        .with_input_plan(plan)
        .with_session_state(Arc::new(context.state()))
        .with_save_mode(match mode {
            WriteMode::Append => SaveMode::Append,
            WriteMode::Overwrite => SaveMode::Overwrite,
            WriteMode::Create => SaveMode::ErrorIfExists,
        })
        .with_writer_properties(writer_properties()?);
    if mode == WriteMode::Create {
        write = write.with_commit_properties(making());
    }
    if let Err(error) = write.await {
        match traces.settle().await {
            Fate::Committed(version) => Traces::warn(location, version, &error),
            Fate::Unnamed if mode == WriteMode::Create => {
                let failed = match exists(location).await {
                    Ok(true) => {
                        end_table(location).await;
                        let what = "another write made a table of this name meanwhile; nothing of this statement was written";
                        return Err(Error::new(ErrorKind::AlreadyExists, what).with("table", location.name()).caused_by(error));
                    }
                    Ok(false) => delta_error(location, error),
                    Err(look) => {
                        let what = "the table could not be made, and whether another write made one of this name could not be learned";
                        Error::new(look.kind(), what).with("table", location.name()).with("look", look).caused_by(error)
                    }
                };
                return Err(Traces::said(failed, Fate::Unnamed));
            }
            fate => return Err(Traces::said(delta_error(location, error), fate)),
        }
    }
    if mode == WriteMode::Create {
        end_table(location).await;
    }
    let written = *counted.lock();
    Ok(written)
}

/// Rows that can be read once.
struct OnceStream {
    schema: SchemaRef,
    rows: Mutex<Option<SendableRecordBatchStream>>,
}

impl std::fmt::Debug for OnceStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnceStream")
    }
}

impl PartitionStream for OnceStream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        self.rows.lock().take().unwrap_or_else(|| {
            let spent = || DataFusionError::Execution("the rows to be inserted can be read once only".to_owned());
            Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), futures::stream::once(async move { Err(spent()) })))
        })
    }
}
