//! Rows for people and for programs.

use arrow::csv::WriterBuilder;
use arrow::datatypes::SchemaRef;
use arrow::json::LineDelimitedWriter;
use arrow::record_batch::RecordBatch;
use arrow::util::pretty::pretty_format_batches_with_schema;

use super::args::RowFormat;
use super::output::Output;
use crate::error::{Error, ErrorKind, Result};

/// Prints batches as they come. CSV and JSON go out at once; a table is printed at the end, for its columns are aligned.
pub(super) struct Rows<'a> {
    out: &'a mut Output,
    format: RowFormat,
    schema: SchemaRef,
    kept: Vec<RecordBatch>,
    begun: bool,
}

fn failed(e: arrow::error::ArrowError) -> Error {
    Error::new(ErrorKind::Internal, "rows could not be printed").caused_by(e)
}

impl<'a> Rows<'a> {
    pub(super) fn new(out: &'a mut Output, format: RowFormat, schema: SchemaRef) -> Self {
        Self { out, format, schema, kept: Vec::new(), begun: false }
    }

    /// Whether nobody reads any more.
    pub(super) fn is_closed(&self) -> bool {
        self.out.is_closed()
    }

    /// Prints, or keeps, a batch.
    pub(super) fn add(&mut self, batch: RecordBatch) -> Result<()> {
        match self.format {
            RowFormat::Table => self.kept.push(batch),
            RowFormat::Csv => self.csv(&batch)?,
            RowFormat::Json => {
                let mut writer = LineDelimitedWriter::new(Vec::new());
                writer.write(&batch).and_then(|()| writer.finish()).map_err(failed)?;
                self.out.bytes(&writer.into_inner())?;
            }
        }
        Ok(())
    }

    fn csv(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut bytes = Vec::new();
        let mut writer = WriterBuilder::new().with_header(!self.begun).build(&mut bytes);
        writer.write(batch).map_err(failed)?;
        drop(writer);
        self.begun = true;
        self.out.bytes(&bytes)
    }

    /// Prints what is left.
    pub(super) fn end(mut self) -> Result<()> {
        match self.format {
            RowFormat::Table => {
                let rows: usize = self.kept.iter().map(RecordBatch::num_rows).sum();
                let table = pretty_format_batches_with_schema(self.schema.clone(), &self.kept).map_err(failed)?;
                self.out.line(table)?;
                self.out.line(format_args!("{rows} row{}", if rows == 1 { "" } else { "s" }))
            }
            // Even no rows have a header.
            RowFormat::Csv if !self.begun => self.csv(&RecordBatch::new_empty(self.schema.clone())),
            RowFormat::Csv | RowFormat::Json => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn printed(format: RowFormat, batches: usize) -> String {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("t", DataType::Utf8, true)]));
        let batch = RecordBatch::try_new(
            schema.clone(),
            vec![Arc::new(Int64Array::from(vec![Some(1), None])), Arc::new(StringArray::from(vec![Some("a,b"), None]))],
        );
        let (mut out, written) = Output::captured();
        let mut rows = Rows::new(&mut out, format, schema);
        for _ in 0..batches {
            rows.add(batch.as_ref().unwrap().clone()).unwrap();
        }
        rows.end().unwrap();
        let bytes = written.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn csv_has_one_header_also_without_rows() {
        assert_eq!(printed(RowFormat::Csv, 2), "n,t\n1,\"a,b\"\n,\n1,\"a,b\"\n,\n");
        assert_eq!(printed(RowFormat::Csv, 0), "n,t\n");
    }

    #[test]
    fn json_is_an_object_a_line() {
        assert_eq!(printed(RowFormat::Json, 1), "{\"n\":1,\"t\":\"a,b\"}\n{}\n");
        assert_eq!(printed(RowFormat::Json, 0), "");
    }

    #[test]
    fn a_table_is_aligned_and_counted() {
        let text = printed(RowFormat::Table, 1);
        assert!(text.starts_with("+---+-----+\n| n | t   |\n") && text.ends_with("2 rows\n"), "{text}");
    }
}
