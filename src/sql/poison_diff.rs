//! `poison_diff('t' [, from] [, to] [, 'key'])`: the rows that changed since a baseline, value by value.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringBuilder, UInt64Builder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::Result as DataFusionResult;
use datafusion::datasource::TableType;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::prelude::SessionContext;
use tokio::sync::mpsc::Sender;

use super::answer::AnswerExec;
use super::compared::{Compared, Opened, SharedResolver};
use super::external;
use crate::diff::{Change, Differ, Row, Sink};
use crate::error::{Error, ErrorKind, Result};

const NAME: &str = "poison_diff";
/// Rows that are gathered before they are given out.
const BATCH_ROWS: usize = 1024;

pub(super) fn register(context: &SessionContext, resolver: &SharedResolver) {
    context.register_udtf(NAME, Arc::new(Function { resolver: resolver.clone() }));
}

fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::UInt64, true);
    Arc::new(Schema::new(vec![
        text("kind"),
        text("file"),
        number("row_group"),
        number("row"),
        text("key"),
        text("column"),
        text("sealed"),
        text("found"),
        number("commit"),
        text("sealed_file"),
        number("sealed_row_group"),
        number("sealed_row"),
        text("detail"),
        number("baseline"),
    ]))
}

#[derive(Debug)]
struct Function {
    resolver: SharedResolver,
}

impl TableFunctionImpl for Function {
    fn call_with_args(&self, args: TableFunctionArgs) -> DataFusionResult<Arc<dyn TableProvider>> {
        let compared = Compared::parse(NAME, &args)?;
        Ok(Arc::new(DiffTable { compared, resolver: self.resolver.clone(), schema: schema() }))
    }
}

/// The rows that changed, found while they are read.
#[derive(Debug, Clone)]
struct DiffTable {
    compared: Compared,
    resolver: SharedResolver,
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for DiffTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let stream = Arc::new(self.clone());
        let plan = StreamingTableExec::try_new(self.schema.clone(), vec![stream], projection, [], false, limit)?;
        Ok(AnswerExec::of(NAME, Arc::new(plan)))
    }
}

impl PartitionStream for DiffTable {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStreamBuilder::new(self.schema.clone(), 2);
        let (sender, this) = (builder.tx(), self.clone());
        // A diff is long; a thread of its own spares the runtime's workers.
        let runtime = tokio::runtime::Handle::current();
        builder.spawn_blocking(move || runtime.block_on(this.run(sender)).map_err(external));
        builder.build()
    }
}

impl DiffTable {
    async fn run(self, sender: Sender<DataFusionResult<RecordBatch>>) -> Result<()> {
        let opened = self.compared.open(&self.resolver).await?;
        let differ = Differ::new(&opened.repository, &opened.snapshot, &opened.sealed, opened.options.clone())?;
        let mut rows = Rows { opened: &opened, cells: Cells::default(), schema: self.schema.clone(), sender };
        differ.run(&mut rows).await?;
        rows.flush().await.map(|_| ())
    }
}

/// Sends changes as batches.
struct Rows<'a> {
    opened: &'a Opened,
    cells: Cells,
    schema: SchemaRef,
    sender: Sender<Result<RecordBatch, DataFusionError>>,
}

impl Rows<'_> {
    /// False when nobody reads any more.
    async fn flush(&mut self) -> Result<bool> {
        if self.cells.count == 0 {
            return Ok(true);
        }
        let batch = std::mem::take(&mut self.cells).finish(&self.schema)?;
        Ok(self.sender.send(Ok(batch)).await.is_ok())
    }
}

#[async_trait]
impl Sink for Rows<'_> {
    async fn take(&mut self, change: Change) -> Result<bool> {
        self.cells.add(&change, self.opened);
        if self.cells.count < BATCH_ROWS {
            return Ok(!self.sender.is_closed());
        }
        self.flush().await
    }
}

/// Columns under construction.
#[derive(Default)]
struct Cells {
    count: usize,
    kind: StringBuilder,
    file: StringBuilder,
    row_group: UInt64Builder,
    row: UInt64Builder,
    key: StringBuilder,
    column: StringBuilder,
    sealed: StringBuilder,
    found: StringBuilder,
    commit: UInt64Builder,
    sealed_file: StringBuilder,
    sealed_row_group: UInt64Builder,
    sealed_row: UInt64Builder,
    detail: StringBuilder,
    baseline: UInt64Builder,
}

impl Cells {
    /// A row for each value that differs; for an added or removed row one, with all of its values.
    fn add(&mut self, change: &Change, opened: &Opened) {
        if change.columns.is_empty() {
            let all = |row: &Option<Row>| row.as_ref().map(|row| row.to_json(|name| opened.shown(name).to_owned()).to_string());
            let (sealed, found) = (all(&change.sealed), all(&change.found));
            self.line(change, opened, None, sealed, found);
            return;
        }
        for column in &change.columns {
            let value = |row: &Option<Row>| row.as_ref().and_then(|row| row.value(column));
            let (sealed, found) = (value(&change.sealed), value(&change.found));
            self.line(change, opened, Some(opened.shown(column)), sealed, found);
        }
    }

    fn line(&mut self, change: &Change, opened: &Opened, column: Option<&str>, sealed: Option<String>, found: Option<String>) {
        self.count += 1;
        self.kind.append_value(change.kind.name());
        self.file.append_value(&change.place.file);
        self.row_group.append_option(change.place.row_group.map(u64::from));
        self.row.append_option(change.place.row);
        self.key.append_option(key(change, opened));
        self.column.append_option(column);
        self.sealed.append_option(sealed);
        self.found.append_option(found);
        self.commit.append_option(change.place.commit);
        let before = change.sealed.as_ref().map(|row| &row.place);
        self.sealed_file.append_option(before.map(|place| &place.file));
        self.sealed_row_group.append_option(before.and_then(|place| place.row_group.map(u64::from)));
        self.sealed_row.append_option(before.and_then(|place| place.row));
        self.detail.append_option(change.detail.as_deref());
        self.baseline.append_value(opened.sealed.baseline.number);
    }

    fn finish(mut self, schema: &SchemaRef) -> Result<RecordBatch> {
        let columns = vec![
            Arc::new(self.kind.finish()) as _,
            Arc::new(self.file.finish()) as _,
            Arc::new(self.row_group.finish()) as _,
            Arc::new(self.row.finish()) as _,
            Arc::new(self.key.finish()) as _,
            Arc::new(self.column.finish()) as _,
            Arc::new(self.sealed.finish()) as _,
            Arc::new(self.found.finish()) as _,
            Arc::new(self.commit.finish()) as _,
            Arc::new(self.sealed_file.finish()) as _,
            Arc::new(self.sealed_row_group.finish()) as _,
            Arc::new(self.sealed_row.finish()) as _,
            Arc::new(self.detail.finish()) as _,
            Arc::new(self.baseline.finish()) as _,
        ];
        RecordBatch::try_new(schema.clone(), columns)
            .map_err(|e| Error::new(ErrorKind::Internal, "a table function made rows that do not fit its columns").caused_by(e))
    }
}

/// The declared key's values, as one JSON object.
fn key(change: &Change, opened: &Opened) -> Option<String> {
    let row = change.sealed.as_ref().or(change.found.as_ref())?;
    if opened.options.key.is_empty() {
        return None;
    }
    let values = opened.options.key.iter().map(|name| (opened.shown(name).to_owned(), serde_json::Value::from(row.value(name))));
    Some(serde_json::Value::Object(values.collect()).to_string())
}
