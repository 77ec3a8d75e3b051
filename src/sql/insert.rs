//! INSERT into a lake's table, through deltalake's own writer: it enforces constraints and commits once.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::common::Result as DataFusionResult;
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};

use super::external;
use crate::delta::{self, Location, WriteMode};
use crate::error::{Error, ErrorKind, Result};

pub(super) fn plan(
    location: &Location,
    schema: SchemaRef,
    input: Arc<dyn ExecutionPlan>,
    operation: InsertOp,
) -> Result<Arc<dyn ExecutionPlan>> {
    let mode = mode(location, operation)?;
    Ok(sink(location.clone(), schema, input, mode))
}

/// How an INSERT writes.
pub(super) fn mode(location: &Location, operation: InsertOp) -> Result<WriteMode> {
    if !location.is_in_lake() {
        return Err(unsupported(location, "tables outside of a lake are read-only"));
    }
    match operation {
        InsertOp::Append => Ok(WriteMode::Append),
        InsertOp::Overwrite => Ok(WriteMode::Overwrite),
        InsertOp::Replace => Err(unsupported(location, "REPLACE INTO is not supported: a Delta table has no keys")),
    }
}

/// The plan that writes the rows of `input` in one commit.
pub(super) fn sink(location: Location, schema: SchemaRef, input: Arc<dyn ExecutionPlan>, mode: WriteMode) -> Arc<dyn ExecutionPlan> {
    Arc::new(DataSinkExec::new(input, Arc::new(Sink { location, schema, mode }), None))
}

fn unsupported(location: &Location, why: &str) -> Error {
    Error::new(ErrorKind::Unsupported, why).with("table", location.name())
}

#[derive(Debug)]
struct Sink {
    location: Location,
    schema: SchemaRef,
    mode: WriteMode,
}

impl DisplayAs for Sink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LakeSink(table={}, mode={:?})", self.location, self.mode)
    }
}

#[async_trait]
impl DataSink for Sink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(&self, data: SendableRecordBatchStream, _: &Arc<TaskContext>) -> DataFusionResult<u64> {
        delta::write_stream(&self.location, data, self.mode).await.map_err(external)
    }
}
