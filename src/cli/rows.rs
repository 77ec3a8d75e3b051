//! Rows for people and for programs.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, StringBuilder};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::writer::{EncoderOptions, LineDelimited, make_encoder};
use arrow::record_batch::RecordBatch;
use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;
use arrow::{csv, json};

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

fn failed(e: ArrowError) -> Error {
    Error::new(ErrorKind::Internal, "rows could not be printed").caused_by(e)
}

/// CSV has no lists and no structs: they are written as JSON.
fn without_nesting(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    if !schema.fields().iter().any(|field| field.data_type().is_nested()) {
        return Ok(batch.clone());
    }
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, array)| match field.data_type().is_nested() {
        true => Ok((Arc::new(Field::new(field.name(), DataType::Utf8, true)), as_json(field, array)?)),
        false => Ok((field.clone(), array.clone())),
    });
    let (fields, arrays): (Vec<FieldRef>, Vec<ArrayRef>) = columns.collect::<Result<Vec<_>, ArrowError>>()?.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
}

fn as_json(field: &FieldRef, array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(field, array.as_ref(), &options)?;
    let mut texts = StringBuilder::new();
    for row in 0..array.len() {
        if encoder.is_null(row) {
            texts.append_null();
            continue;
        }
        let mut text = Vec::new();
        encoder.encode(row, &mut text);
        texts.append_value(String::from_utf8_lossy(&text));
    }
    Ok(Arc::new(texts.finish()))
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
                // A member that is left out would make rows of one query objects of several shapes.
                let mut writer = json::WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
                writer.write(&batch).and_then(|()| writer.finish()).map_err(failed)?;
                self.out.bytes(&writer.into_inner())?;
            }
        }
        Ok(())
    }

    fn csv(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut bytes = Vec::new();
        let mut writer = csv::WriterBuilder::new().with_header(!self.begun).build(&mut bytes);
        writer.write(&without_nesting(batch).map_err(failed)?).map_err(failed)?;
        drop(writer);
        self.begun = true;
        self.out.bytes(&bytes)
    }

    /// Prints what is left.
    pub(super) fn end(mut self) -> Result<()> {
        match self.format {
            RowFormat::Table => {
                let rows: usize = self.kept.iter().map(RecordBatch::num_rows).sum();
                self.kept.push(RecordBatch::new_empty(self.schema.clone()));
                let options = FormatOptions::default().with_null("NULL").with_display_error(true);
                let table = pretty_format_batches_with_options(&self.kept, &options).map_err(failed)?;
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
    use arrow::array::{Int64Array, ListArray, StringArray};
    use arrow::datatypes::Int64Type;

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
        assert_eq!(printed(RowFormat::Json, 1), "{\"n\":1,\"t\":\"a,b\"}\n{\"n\":null,\"t\":null}\n");
        assert_eq!(printed(RowFormat::Json, 0), "");
    }

    #[test]
    fn a_table_is_aligned_and_counted() {
        let text = printed(RowFormat::Table, 1);
        assert!(text.starts_with("+------+------+\n| n    | t    |\n") && text.ends_with("2 rows\n"), "{text}");
        assert!(text.contains("| NULL | NULL |"), "a null is no empty text: {text}");
        assert!(printed(RowFormat::Table, 0).contains("| n | t |"), "no rows have a header, too");
    }

    #[test]
    fn csv_has_lists_and_structs_as_json() {
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]));
        let batch = RecordBatch::try_from_iter_with_nullable([("l", lists, true)]).unwrap();
        let (mut out, written) = Output::captured();
        let mut rows = Rows::new(&mut out, RowFormat::Csv, batch.schema());
        rows.add(batch).unwrap();
        rows.end().unwrap();
        assert_eq!(String::from_utf8(written.lock().clone()).unwrap(), "l\n\"[1,null]\"\n\"\"\n");
    }
}
