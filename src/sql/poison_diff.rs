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
use super::batches::{BATCH_BYTES, cut};
use super::compared::{Compared, Opened, SharedResolver};
use super::external;
use crate::diff::{Change, Differ, Row, Sink};
use crate::error::{Error, ErrorKind, Result};

const NAME: &str = "poison_diff";
/// Rows that are gathered before they are given out.
const BATCH_ROWS: usize = 1024;
/// Bytes of a value that are shown. Engines put 8192 rows together: a gigabyte of these, and not the two that are too many.
const VALUE_LIMIT_BYTES: usize = 128 << 10;

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

    async fn line(&mut self, change: &Change, key: Option<Shown>, column: Option<&str>, values: [Option<Shown>; 2]) -> Result<bool> {
        self.cells.line(change, self.opened.sealed.baseline.number, key, column, values);
        if self.cells.is_full() {
            return self.flush().await;
        }
        Ok(!self.sender.is_closed())
    }
}

#[async_trait]
impl Sink for Rows<'_> {
    /// Gives out a row for each value that differs; for an added or removed row one, with all of its values.
    async fn take(&mut self, change: Change) -> Result<bool> {
        let opened = self.opened;
        let key = key(&change, opened);
        if change.columns.is_empty() {
            let values = [&change.sealed, &change.found].map(|row| row.as_ref().map(|row| whole(row, opened)));
            return self.line(&change, key, None, values).await;
        }
        for column in &change.columns {
            let values = [&change.sealed, &change.found].map(|row| Some(shown(row.as_ref()?.value(column)?, VALUE_LIMIT_BYTES)));
            if !self.line(&change, key.clone(), Some(opened.shown(column)), values).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A value as far as it is shown, and how many bytes are not.
type Shown = (String, usize);

fn shown(mut value: String, limit: usize) -> Shown {
    let (start, left) = cut(&value, limit);
    let end = start.len();
    value.truncate(end);
    (value, left)
}

/// All values of a row as JSON, which of many columns shows less of each.
fn whole(row: &Row, opened: &Opened) -> Shown {
    let mut left = 0_usize;
    let limit = VALUE_LIMIT_BYTES / row.width().max(1);
    let mut value = |text: String| {
        let (text, more) = shown(text, limit);
        left = left.saturating_add(more);
        text
    };
    let json = row.to_json(|name| opened.shown(name).to_owned(), &mut value).to_string();
    (json, left)
}

/// Columns under construction.
#[derive(Default)]
struct Cells {
    count: usize,
    bytes: usize,
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
    fn line(&mut self, change: &Change, baseline: u64, key: Option<Shown>, column: Option<&str>, [sealed, found]: [Option<Shown>; 2]) {
        let before = change.sealed.as_ref().map(|row| &row.place);
        let mut details: Vec<String> = change.detail.iter().cloned().collect();
        for (side, value) in [("key", &key), ("sealed value", &sealed), ("found value", &found)] {
            details.extend(
                value.iter().filter(|(_, left)| *left > 0).map(|(_, left)| format!("{left} more bytes of the {side} are not shown")),
            );
        }
        let detail = (!details.is_empty()).then(|| details.join("; "));
        let [key, sealed, found] = [key, sealed, found].map(|value| value.map(|(text, _)| text));
        self.count += 1;
        let files = change.place.file.len() + before.map_or(0, |place| place.file.len());
        self.bytes += files + [&key, &sealed, &found, &detail].into_iter().flatten().map(String::len).sum::<usize>();
        self.kind.append_value(change.kind.name());
        self.file.append_value(&change.place.file);
        self.row_group.append_option(change.place.row_group.map(u64::from));
        self.row.append_option(change.place.row);
        self.key.append_option(key);
        self.column.append_option(column);
        self.sealed.append_option(sealed);
        self.found.append_option(found);
        self.commit.append_option(change.place.commit);
        self.sealed_file.append_option(before.map(|place| &place.file));
        self.sealed_row_group.append_option(before.and_then(|place| place.row_group.map(u64::from)));
        self.sealed_row.append_option(before.and_then(|place| place.row));
        self.detail.append_option(detail);
        self.baseline.append_value(baseline);
    }

    /// Whether they are to be given out before more is added.
    fn is_full(&self) -> bool {
        self.count >= BATCH_ROWS || self.bytes >= BATCH_BYTES
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
fn key(change: &Change, opened: &Opened) -> Option<Shown> {
    let row = change.sealed.as_ref().or(change.found.as_ref())?;
    let names = &opened.options.key;
    if names.is_empty() {
        return None;
    }
    let limit = VALUE_LIMIT_BYTES / names.len();
    let mut left = 0_usize;
    let mut values = serde_json::Map::new();
    for name in names {
        let value = row.value(name).map(|value| shown(value, limit));
        left = left.saturating_add(value.as_ref().map_or(0, |(_, left)| *left));
        values.insert(opened.shown(name).to_owned(), value.map(|(text, _)| text).into());
    }
    Some((serde_json::Value::Object(values).to_string(), left))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray as _;

    use super::*;
    use crate::diff::{ChangeKind, Place};

    fn change() -> Change {
        let place = Place { file: "part-0.parquet".into(), row_group: Some(0), row: Some(7), commit: None };
        Change { kind: ChangeKind::Added, place, sealed: None, found: None, columns: Vec::new(), detail: None }
    }

    #[test]
    fn cells_are_full_by_rows_or_by_bytes() {
        let mut cells = Cells::default();
        for _ in 0..BATCH_ROWS {
            assert!(!cells.is_full());
            cells.line(&change(), 1, None, None, [None, Some((String::new(), 0))]);
        }
        assert!(cells.is_full());
        let mut cells = Cells::default();
        for _ in 0..BATCH_BYTES / VALUE_LIMIT_BYTES {
            assert!(!cells.is_full());
            cells.line(&change(), 1, None, None, [None, Some(shown("x".repeat(3 * VALUE_LIMIT_BYTES), VALUE_LIMIT_BYTES))]);
        }
        assert!(cells.is_full());
    }

    #[test]
    fn a_long_value_is_cut_and_the_rest_is_told() {
        let mut cells = Cells::default();
        let long = "é".repeat(VALUE_LIMIT_BYTES);
        cells.line(
            &change(),
            1,
            None,
            Some("note"),
            [Some(shown("short".to_owned(), VALUE_LIMIT_BYTES)), Some(shown(long, VALUE_LIMIT_BYTES))],
        );
        let batch = cells.finish(&schema()).unwrap();
        let text = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().value(0).to_owned();
        assert_eq!((text("sealed").as_str(), text("found").len()), ("short", VALUE_LIMIT_BYTES));
        assert_eq!(text("detail"), format!("{VALUE_LIMIT_BYTES} more bytes of the found value are not shown"));
    }
}
