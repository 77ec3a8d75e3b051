//! Rows of table functions in batches that are bounded by rows and by bytes: one column of a batch holds 2 GiB of text at most.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::Result as DataFusionResult;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;

/// Rows of a batch at most.
const BATCH_ROWS: usize = 8192;
/// A batch with this many bytes of text takes no further row.
pub(super) const BATCH_BYTES: usize = 16 << 20;
/// Bytes of a text that are shown. Engines put 8192 rows together: half a gigabyte of these, and not the two that are too many.
pub(super) const TEXT_LIMIT_BYTES: usize = 64 << 10;
/// What a row takes besides its texts.
const ROW_BYTES: usize = 256;

/// A stream of batches.
pub(super) type BatchIterator = Box<dyn Iterator<Item = DataFusionResult<RecordBatch>> + Send>;

/// Batches that are made while they are read.
#[derive(Clone)]
pub(super) struct Batches {
    schema: SchemaRef,
    make: Arc<dyn Fn() -> BatchIterator + Send + Sync>,
}

impl Batches {
    pub(super) fn new(schema: SchemaRef, make: impl Fn() -> BatchIterator + Send + Sync + 'static) -> Self {
        Self { schema, make: Arc::new(make) }
    }
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Batches")
    }
}

impl PartitionStream for Batches {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), futures::stream::iter((self.make)())))
    }
}

/// The batches as a table.
pub(super) fn streamed(batches: Batches) -> DataFusionResult<StreamingTable> {
    StreamingTable::try_new(batches.schema.clone(), vec![Arc::new(batches)])
}

/// Calls `columns` for some rows at a time: so many that they are no more than a batch may be, and one at least. `texts` says how many bytes of text
/// a row has.
pub(super) fn chunked<T: Send + 'static>(
    schema: &SchemaRef,
    rows: impl Iterator<Item = T> + Send + 'static,
    texts: impl Fn(&T) -> usize + Send + 'static,
    columns: impl Fn(&[T]) -> Vec<ArrayRef> + Send + 'static,
) -> BatchIterator {
    let (schema, mut rows) = (schema.clone(), rows.peekable());
    Box::new(std::iter::from_fn(move || {
        let mut bytes = 0_usize;
        let mut chunk: Vec<T> = Vec::new();
        while chunk.len() < BATCH_ROWS
            && let Some(next) = rows.next_if(|next| {
                bytes = bytes.saturating_add(texts(next)).saturating_add(ROW_BYTES);
                chunk.is_empty() || bytes <= BATCH_BYTES
            })
        {
            chunk.push(next);
        }
        (!chunk.is_empty()).then(|| RecordBatch::try_new(schema.clone(), columns(&chunk)).map_err(DataFusionError::from))
    }))
}

/// A text as it is shown: a statement of megabytes is cut.
pub(super) fn shown_text(text: &str) -> Cow<'_, str> {
    match cut(text, TEXT_LIMIT_BYTES) {
        (_, 0) => Cow::Borrowed(text),
        (start, left) => Cow::Owned(format!("{start}… ({left} more bytes)")),
    }
}

/// The first bytes of a text, in whole characters, and how many are left.
pub(super) fn cut(text: &str, limit: usize) -> (&str, usize) {
    let end = text.floor_char_boundary(limit);
    (text.get(..end).unwrap_or_default(), text.len().saturating_sub(end))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array as _, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn batches(texts: Vec<String>) -> Vec<usize> {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, true)]));
        let column = |rows: &[String]| vec![Arc::new(StringArray::from_iter_values(rows)) as ArrayRef];
        let made = chunked(&schema, texts.into_iter(), String::len, column);
        made.map(|batch| batch.unwrap().column(0).len()).collect()
    }

    #[test]
    fn a_batch_is_bounded_by_rows_and_by_bytes_and_has_a_row_at_least() {
        assert_eq!(batches(vec![String::new(); 2 * BATCH_ROWS + 1]), [BATCH_ROWS, BATCH_ROWS, 1]);
        let large = "x".repeat(BATCH_BYTES / 3);
        assert_eq!(batches(vec![large; 5]), [2, 2, 1]);
        let larger = "x".repeat(BATCH_BYTES + 1);
        assert_eq!(batches(vec![larger, String::new(), String::new()]), [1, 2]);
        assert_eq!(batches(Vec::new()), [0; 0]);
    }

    #[test]
    fn texts_are_shown_up_to_a_length() {
        let text = "é".repeat(TEXT_LIMIT_BYTES);
        let shown = shown_text(&text);
        assert!(shown.len() < TEXT_LIMIT_BYTES + 64 && shown.ends_with(&format!("… ({TEXT_LIMIT_BYTES} more bytes)")), "{}", shown.len());
        assert_eq!(shown_text("SELECT 1"), "SELECT 1");
        assert_eq!(cut("aé", 2), ("a", 2));
    }
}
