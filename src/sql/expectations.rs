//! Expectations: predicates, signed with a baseline, that must not be false for any row that changed after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, BooleanArray, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::prelude::SessionContext;

use super::to_error;
use crate::baseline::{AuditReport, Expectation, Repository, SealedTable, Trust, Violation, compare_expectations};
use crate::delta::{self, Location};
use crate::diff::{Change, ChangeKind, DiffOptions, Differ, Row, Sink};
use crate::error::{Error, ErrorKind, Result};
use crate::table::{self, ColumnType, PrimitiveType, TableColumn, TableSchema, TableSnapshot};

/// Rows that are looked at together.
const BATCH_ROWS: usize = 4096;
/// Violations of one expectation that are named one by one.
const NAMED_VIOLATIONS: u64 = 10;

/// Checks that `expectations` are predicates over the columns of `schema`.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] naming the expectation that is none: malformed, of an unknown column, or no truth value.
pub fn check_expectations(expectations: &[Expectation], schema: &TableSchema) -> Result<()> {
    let Some(arrow) = arrow_schema(schema) else { return Ok(()) };
    Compiled::new(expectations, &Arc::new(arrow)).map(drop)
}

/// Holds every row that changed since the baseline against its expectations.
///
/// Cost: that of the diff with whole rows; none without expectations.
///
/// # Errors
/// When a predicate cannot be evaluated over the rows that are there: what it says of them is then not known.
pub async fn violations(repository: &Repository, snapshot: &TableSnapshot, sealed: &SealedTable, now_ms: i64) -> Result<Vec<Violation>> {
    let expectations = repository.expectations(&sealed.statement).await?;
    if expectations.is_empty() {
        return Ok(Vec::new());
    }
    let options = DiffOptions { key: Vec::new(), whole_rows: true, pool_limit_rows: super::compared::POOL_LIMIT_ROWS, now_ms };
    let differ = Differ::new(repository, snapshot, sealed, options)?;
    let mut checker = Checker::new(expectations, &snapshot.schema);
    differ.run(&mut checker).await?;
    checker.flush()?;
    Ok(checker.finish())
}

/// Adds to `report` the rows of the table at `location` that break what the newest baseline expects of rows that change.
///
/// Cost: a GET without expectations; else that of [`violations`].
///
/// # Errors
/// None: what goes wrong is a finding, `undetermined`.
pub async fn hold_expectations(report: &mut AuditReport, location: &Location, trust: &Trust, now_ms: i64) {
    if report.baseline.is_none() {
        return;
    }
    let repository = location.repository();
    match broken(&repository, trust, now_ms).await {
        Ok(violations) if violations.is_empty() => {}
        Ok(violations) => report.add(compare_expectations(&violations)),
        Err(error) => report.add_undetermined(&format!("the expectations could not be held against the rows that changed: {error}")),
    }
}

async fn broken(repository: &Repository, trust: &Trust, now_ms: i64) -> Result<Vec<Violation>> {
    let Some(newest) = repository.newest_statement(trust).await? else { return Ok(Vec::new()) };
    if repository.expectations(&newest.statement).await?.is_empty() {
        return Ok(Vec::new());
    }
    let sealed = repository.sealed_table(newest).await?;
    let mut snapshot = table::load(repository.store().as_ref(), repository.root(), None).await?;
    let repository = &repository.with_roots_of(&sealed.statement, &mut snapshot).await?;
    violations(repository, &snapshot, &sealed, now_ms).await
}

/// Predicates, ready to be evaluated.
struct Compiled {
    schema: SchemaRef,
    predicates: Vec<Arc<dyn PhysicalExpr>>,
}

impl Compiled {
    fn new(expectations: &[Expectation], schema: &SchemaRef) -> Result<Self> {
        let context = SessionContext::new_with_config(delta::session_config());
        let columns = DFSchema::try_from(schema.as_ref().clone()).map_err(to_error)?;
        let mut predicates = Vec::with_capacity(expectations.len());
        for expectation in expectations {
            let failed = |e| {
                let what = "an expectation is no predicate over the table's columns";
                Error::new(ErrorKind::InvalidInput, what)
                    .with("expectation", &expectation.name)
                    .with("predicate", &expectation.predicate)
                    .caused_by(e)
            };
            let parsed: Expr = context.parse_sql_expr(&expectation.predicate, &columns).map_err(failed)?;
            let expression = context.create_physical_expr(parsed, &columns).map_err(failed)?;
            if expression.data_type(schema).map_err(failed)? != DataType::Boolean {
                return Err(failed(datafusion::error::DataFusionError::Plan("it is no truth value".to_owned())));
            }
            predicates.push(expression);
        }
        Ok(Self { schema: schema.clone(), predicates })
    }
}

/// Gathers rows and evaluates the predicates over them.
struct Checker<'a> {
    expectations: Vec<Expectation>,
    table: &'a TableSchema,
    compiled: Option<Compiled>,
    rows: Vec<Row>,
    counts: Vec<u64>,
    named: Vec<Violation>,
    undetermined: u64,
}

impl<'a> Checker<'a> {
    fn new(expectations: Vec<Expectation>, table: &'a TableSchema) -> Self {
        let counts = vec![0; expectations.len()];
        Self { expectations, table, compiled: None, rows: Vec::new(), counts, named: Vec::new(), undetermined: 0 }
    }

    fn flush(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        // Rows of one batch have one schema; batches of older files may lack columns that later ones have.
        let mut by_schema: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for row in rows {
            by_schema.entry(format!("{:?}", row.batch().0.schema().fields())).or_default().push(row);
        }
        by_schema.into_values().try_for_each(|rows| self.evaluate(&rows))
    }

    fn evaluate(&mut self, rows: &[Row]) -> Result<()> {
        let batch = logical(rows, self.table)?;
        if self.compiled.as_ref().is_none_or(|compiled| compiled.schema != batch.schema()) {
            self.compiled = Some(Compiled::new(&self.expectations, &batch.schema())?);
        }
        let Some(compiled) = &self.compiled else { return Ok(()) };
        for (at, (predicate, expectation)) in compiled.predicates.iter().zip(&self.expectations).enumerate() {
            let values = predicate.evaluate(&batch).and_then(|value| value.into_array(batch.num_rows())).map_err(to_error)?;
            let values: &BooleanArray = values.as_boolean();
            for (row, _) in rows.iter().zip(values).filter(|(_, holds)| *holds == Some(false)) {
                let Some(count) = self.counts.get_mut(at) else { continue };
                *count += 1;
                if *count <= NAMED_VIOLATIONS {
                    self.named.push(Violation {
                        expectation: expectation.clone(),
                        file: Some(row.place.file.to_string()),
                        row_group: row.place.row_group,
                        row: row.place.row,
                        commit: row.place.commit,
                        rows: 1,
                    });
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Vec<Violation> {
        let mut found = self.named;
        for (expectation, count) in self.expectations.iter().zip(self.counts).filter(|(_, count)| *count > NAMED_VIOLATIONS) {
            let rows = count - NAMED_VIOLATIONS;
            found.push(Violation { expectation: expectation.clone(), file: None, row_group: None, row: None, commit: None, rows });
        }
        if self.undetermined > 0 {
            let name = "all expectations".to_owned();
            let expectation = Expectation { name, predicate: String::new() };
            found.push(Violation { expectation, file: None, row_group: None, row: None, commit: None, rows: 0 });
        }
        found
    }
}

#[async_trait]
impl Sink for Checker<'_> {
    async fn take(&mut self, change: Change) -> Result<bool> {
        self.undetermined += u64::from(change.kind == ChangeKind::Undetermined);
        if change.kind != ChangeKind::Removed {
            self.rows.extend(change.found);
        }
        if self.rows.len() >= BATCH_ROWS {
            self.flush()?;
        }
        Ok(true)
    }
}

/// The rows under the names that people know, partition columns included and typed.
fn logical(rows: &[Row], table: &TableSchema) -> Result<RecordBatch> {
    let failed = |e| Error::new(ErrorKind::Internal, "changed rows could not be put together").caused_by(e);
    let single: Vec<RecordBatch> = rows.iter().map(|row| row.batch().0.slice(row.batch().1, 1)).collect();
    let first = rows.first().ok_or_else(|| Error::new(ErrorKind::Internal, "there are no rows to be put together"))?;
    let batch = concat_batches(&first.batch().0.schema(), &single).map_err(failed)?;
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        let name = table.physical_column(field.name()).map_or(field.name(), |column| &column.name);
        // What partition columns are, the log says alone, whatever the file holds.
        if first.partition_values().contains_key(field.name()) || table.partition_columns.contains(name) {
            continue;
        }
        fields.push(Field::new(name, field.data_type().clone(), true));
        columns.push(array.clone());
    }
    for physical in first.partition_values().keys() {
        let column = table.physical_column(physical);
        let texts = rows.iter().map(|row| row.partition_values().get(physical).cloned().flatten().filter(|text| !text.is_empty()));
        let texts: ArrayRef = Arc::new(texts.collect::<StringArray>());
        let data_type = column.and_then(arrow_type).unwrap_or(DataType::Utf8);
        // What is no value of the column's type must not pass for null, of which every predicate is content.
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let typed = cast_with_options(&texts, &data_type, &options).map_err(|e| {
            let column = column.map_or(physical.as_str(), |column| &column.name);
            Error::new(ErrorKind::Corrupt, "a partition value is none of its column's type").with("column", column).caused_by(e)
        })?;
        fields.push(Field::new(column.map_or(physical.as_str(), |column| &column.name), data_type, true));
        columns.push(typed);
    }
    let known: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
    for column in table.columns.iter().filter(|column| !known.contains(&column.name)) {
        // A column that came later is null in older files.
        let Some(data_type) = arrow_type(column) else { continue };
        columns.push(arrow::array::new_null_array(&data_type, rows.len()));
        fields.push(Field::new(&column.name, data_type, true));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(failed)
}

/// The table's scalar columns as arrow has them; nothing for a folder, whose files say it themselves.
fn arrow_schema(table: &TableSchema) -> Option<Schema> {
    let fields: Vec<Field> = table.columns.iter().filter_map(|c| Some(Field::new(&c.name, arrow_type(c)?, true))).collect();
    (!fields.is_empty()).then(|| Schema::new(fields))
}

fn arrow_type(column: &TableColumn) -> Option<DataType> {
    let ColumnType::Primitive(primitive) = &column.data_type else { return None };
    Some(match primitive {
        PrimitiveType::String => DataType::Utf8,
        PrimitiveType::Integer => DataType::Int64,
        PrimitiveType::Float | PrimitiveType::Double => DataType::Float64,
        PrimitiveType::Decimal(precision, scale) => DataType::Decimal128(*precision, *scale),
        PrimitiveType::Boolean => DataType::Boolean,
        PrimitiveType::Binary => DataType::Binary,
        PrimitiveType::Date => DataType::Date32,
        PrimitiveType::Timestamp => DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into())),
        PrimitiveType::TimestampNtz => DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None),
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;
    use crate::diff::Place;

    #[tokio::test]
    async fn rows_of_which_little_is_known_are_not_heaped_up() {
        let expectation = Expectation { name: "positive".to_owned(), predicate: "x > 0".to_owned() };
        let table = TableSchema::default();
        let mut checker = Checker::new(vec![expectation], &table);
        let batch = RecordBatch::try_from_iter([("x", Arc::new(Int64Array::from(vec![0])) as ArrayRef)]).unwrap();
        let row = Row::first_of(Arc::new(batch));
        let place = Place { file: "part-0.parquet".into(), row_group: Some(0), row: Some(0), commit: None };
        for kind in [ChangeKind::Undetermined, ChangeKind::Added, ChangeKind::Changed] {
            for _ in 0..3 * BATCH_ROWS {
                let change =
                    Change { kind, place: place.clone(), sealed: None, found: Some(row.clone()), columns: Vec::new(), detail: None };
                assert!(checker.take(change).await.unwrap());
                assert!(checker.rows.len() < BATCH_ROWS, "{kind:?}");
            }
        }
        let (each, removed) = (3 * BATCH_ROWS as u64, ChangeKind::Removed);
        let change = Change { kind: removed, place, sealed: None, found: Some(row), columns: Vec::new(), detail: None };
        checker.take(change).await.unwrap();
        checker.flush().unwrap();
        assert_eq!((checker.undetermined, checker.counts.as_slice()), (each, &[3 * each][..]));
    }
}
