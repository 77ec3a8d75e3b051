//! `drift('t' [, from] [, to] [, 'key'])`: how much columns moved, as a whole, by row group, and in the rows that changed.

use std::sync::Arc;

use arrow::array::{BooleanBuilder, Float64Builder, RecordBatch, StringBuilder, UInt64Builder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::Result as DataFusionResult;
use datafusion::datasource::TableType;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;

use super::answer::in_memory;
use super::compared::{Compared, Opened, SharedResolver};
use super::external;
use crate::diff::{ChangedProfiles, Differ};
use crate::error::{Error, ErrorKind, Result};
use crate::profile::ColumnProfile;
use crate::profile::measures::{self, Drift};
use crate::table::{ColumnType, TableColumn};

const NAME: &str = "drift";
/// From here on the customary measures speak of a shift.
const PSI_ALERT: f64 = 0.1;
const KS_ALERT: f64 = 0.1;
const PROBABILITY_ALERT: f64 = 0.001;
const EFFECT_ALERT: f64 = 0.1;
const NULLS_ALERT: f64 = 0.05;

pub(super) fn register(context: &SessionContext, resolver: &SharedResolver) {
    context.register_udtf(NAME, Arc::new(Function { resolver: resolver.clone() }));
}

fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let count = |name: &str| Field::new(name, DataType::UInt64, true);
    let number = |name: &str| Field::new(name, DataType::Float64, true);
    Arc::new(Schema::new(vec![
        text("scope"),
        text("file"),
        count("row_group"),
        text("column"),
        count("sealed_rows"),
        count("found_rows"),
        count("sealed_nulls"),
        count("found_nulls"),
        number("sealed_distinct"),
        number("found_distinct"),
        number("sealed_mean"),
        number("found_mean"),
        number("psi"),
        number("ks"),
        number("ks_p"),
        number("chi_square"),
        number("chi_square_p"),
        number("cramers_v"),
        number("cohens_d"),
        number("null_shift"),
        number("nan_shift"),
        number("distinct_ratio"),
        count("new_values"),
        Field::new("alert", DataType::Boolean, true),
        text("sealed_top"),
        text("found_top"),
        text("detail"),
        count("baseline"),
    ]))
}

#[derive(Debug)]
struct Function {
    resolver: SharedResolver,
}

impl TableFunctionImpl for Function {
    fn call_with_args(&self, args: TableFunctionArgs) -> DataFusionResult<Arc<dyn TableProvider>> {
        let compared = Compared::parse(NAME, &args)?;
        Ok(Arc::new(DriftTable { compared, resolver: self.resolver.clone(), schema: schema() }))
    }
}

#[derive(Debug, Clone)]
struct DriftTable {
    compared: Compared,
    resolver: SharedResolver,
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for DriftTable {
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
        _: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        // It is long; a thread of its own spares the runtime's workers.
        let (runtime, this) = (tokio::runtime::Handle::current(), self.clone());
        let rows = tokio::task::spawn_blocking(move || runtime.block_on(this.rows())).await;
        let cut_short = |e| Error::new(ErrorKind::Internal, "the comparison was cut short").caused_by(e);
        let batch = rows.map_err(cut_short).and_then(|rows| rows).map_err(external)?;
        in_memory(batch, projection)
    }
}

impl DriftTable {
    async fn rows(self) -> Result<RecordBatch> {
        let opened = self.compared.open(&self.resolver).await?;
        let stored = opened.repository.profiles(&opened.sealed.statement).await?;
        let differ = Differ::new(&opened.repository, &opened.snapshot, &opened.sealed, opened.options.clone())?;
        let sealed = differ.sealed_profiles(&stored)?;
        let found = differ.found_profiles(&stored).await?;
        let mut changed = ChangedProfiles::default();
        differ.run(&mut changed).await?;
        let undetermined = changed.undetermined;
        let changed = changed.finish()?;

        let mut lines = Lines::new(&opened);
        let empty = ColumnProfile::empty()?;
        let mut names: Vec<&String> = sealed.columns.keys().chain(found.columns.keys()).collect();
        names.sort();
        names.dedup();
        let of = |columns: &'_ std::collections::BTreeMap<String, ColumnProfile>, name: &String| columns.get(name).cloned();
        for name in names {
            let before = of(&sealed.columns, name).unwrap_or_else(|| empty.clone());
            let after = of(&found.columns, name).unwrap_or_else(|| empty.clone());
            lines.add("table", None, name, &before, &after);
        }
        for (column, (before, after)) in &changed.changed {
            lines.add("changed", None, column, before, after);
        }
        for (scope, rows) in [("added", &changed.added), ("removed", &changed.removed)] {
            for (column, profile) in rows {
                let before = of(&sealed.columns, column).unwrap_or_else(|| empty.clone());
                lines.add(scope, None, column, &before, profile);
            }
        }
        for (file, group, columns) in &found.groups {
            for (column, profile) in columns {
                let before = of(&sealed.columns, column).unwrap_or_else(|| empty.clone());
                lines.add("row_group", Some((file, *group)), column, &before, profile);
            }
        }
        for note in sealed.notes.iter().chain(&found.notes) {
            lines.note(note);
        }
        let nested: Vec<&str> =
            opened.snapshot.schema.columns.iter().filter(|column| is_nested(column)).map(|column| &*column.name).collect();
        if !nested.is_empty() {
            lines.note(&format!("nested columns have no profiles, only their values that changed are shown: {}", nested.join(", ")));
        }
        if undetermined > 0 {
            lines.note(&format!("{undetermined} places could not be compared row by row: poison_diff says which, and why"));
        }
        lines.finish(&self.schema)
    }
}

/// Whether a shift is worth looking at: by the customary thresholds, with probability *and* effect size where there are both.
pub(crate) fn is_alert(drift: &Drift) -> bool {
    let over = |value: Option<f64>, limit: f64| value.is_some_and(|value| value.abs() >= limit);
    let unlikely = |p: Option<f64>| p.is_some_and(|p| p < PROBABILITY_ALERT);
    over(drift.psi, PSI_ALERT)
        || (over(drift.ks, KS_ALERT) && unlikely(drift.ks_p))
        || (over(drift.cramers_v, EFFECT_ALERT) && unlikely(drift.chi_square_p))
        || drift.null_shift.abs() >= NULLS_ALERT
        || drift.nan_shift.abs() >= NULLS_ALERT
        || drift.new_values.is_some_and(|n| n > 0)
        || over(drift.frequency_shift, EFFECT_ALERT)
        || drift.other_kind
}

fn is_nested(column: &TableColumn) -> bool {
    !matches!(column.data_type, ColumnType::Primitive(_))
}

/// What no measure says, for people.
fn remark(drift: &Drift, is_emptied: bool) -> Option<String> {
    let grown = |shift: f64| format!("one value makes up {:.0} % more of all values than it did; see found_top", shift * 100.0);
    match drift.frequency_shift.filter(|shift| *shift >= EFFECT_ALERT) {
        _ if is_emptied => Some("no value is left in the column".to_owned()),
        _ if drift.other_kind => Some("there are numbers on one side and none on the other: they cannot be compared".to_owned()),
        shift => shift.map(grown),
    }
}

/// Columns under construction.
struct Lines<'a> {
    opened: &'a Opened,
    scope: StringBuilder,
    file: StringBuilder,
    row_group: UInt64Builder,
    column: StringBuilder,
    counts: [UInt64Builder; 4],
    numbers: [Float64Builder; 14],
    new_values: UInt64Builder,
    alert: BooleanBuilder,
    tops: [StringBuilder; 2],
    detail: StringBuilder,
    baseline: UInt64Builder,
}

impl<'a> Lines<'a> {
    fn new(opened: &'a Opened) -> Self {
        Self {
            opened,
            scope: StringBuilder::new(),
            file: StringBuilder::new(),
            row_group: UInt64Builder::new(),
            column: StringBuilder::new(),
            counts: Default::default(),
            numbers: Default::default(),
            new_values: UInt64Builder::new(),
            alert: BooleanBuilder::new(),
            tops: Default::default(),
            detail: StringBuilder::new(),
            baseline: UInt64Builder::new(),
        }
    }

    fn add(&mut self, scope: &str, place: Option<(&Arc<str>, u32)>, column: &str, sealed: &ColumnProfile, found: &ColumnProfile) {
        let drift = measures::drift(sealed, found);
        self.scope.append_value(scope);
        self.file.append_option(place.map(|(file, _)| file));
        self.row_group.append_option(place.map(|(_, group)| u64::from(group)));
        self.column.append_value(self.opened.shown(column));
        let counts = [sealed.rows, found.rows, sealed.nulls, found.nulls];
        self.counts.iter_mut().zip(counts).for_each(|(builder, value)| builder.append_value(value));
        let mean = |profile: &ColumnProfile| profile.is_numeric().then_some(profile.moments.mean).filter(|mean| !mean.is_nan());
        let numbers = [
            Some(sealed.distinct()),
            Some(found.distinct()),
            mean(sealed),
            mean(found),
            drift.psi,
            drift.ks,
            drift.ks_p,
            drift.chi_square,
            drift.chi_square_p,
            drift.cramers_v,
            drift.cohens_d,
            Some(drift.null_shift),
            Some(drift.nan_shift),
            drift.distinct_ratio,
        ];
        self.numbers.iter_mut().zip(numbers).for_each(|(builder, value)| builder.append_option(value));
        self.new_values.append_option(drift.new_values);
        let is_emptied = scope == "table" && sealed.values() > 0 && found.values() == 0;
        self.alert.append_value(is_emptied || is_alert(&drift));
        self.tops.iter_mut().zip([sealed, found]).for_each(|(builder, profile)| builder.append_value(top(profile)));
        self.detail.append_option(remark(&drift, is_emptied));
        self.baseline.append_value(self.opened.sealed.baseline.number);
    }

    /// A line that says what is missing.
    fn note(&mut self, note: &str) {
        self.scope.append_value("note");
        self.file.append_null();
        self.row_group.append_null();
        self.column.append_null();
        self.counts.iter_mut().for_each(UInt64Builder::append_null);
        self.numbers.iter_mut().for_each(Float64Builder::append_null);
        self.new_values.append_null();
        self.alert.append_null();
        self.tops.iter_mut().for_each(StringBuilder::append_null);
        self.detail.append_value(note);
        self.baseline.append_value(self.opened.sealed.baseline.number);
    }

    fn finish(mut self, schema: &SchemaRef) -> Result<RecordBatch> {
        let mut columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(self.scope.finish()),
            Arc::new(self.file.finish()),
            Arc::new(self.row_group.finish()),
            Arc::new(self.column.finish()),
        ];
        columns.extend(self.counts.map(|mut builder| Arc::new(builder.finish()) as _));
        columns.extend(self.numbers.map(|mut builder| Arc::new(builder.finish()) as _));
        columns.push(Arc::new(self.new_values.finish()));
        columns.push(Arc::new(self.alert.finish()));
        columns.extend(self.tops.map(|mut builder| Arc::new(builder.finish()) as _));
        columns.push(Arc::new(self.detail.finish()));
        columns.push(Arc::new(self.baseline.finish()));
        RecordBatch::try_new(schema.clone(), columns)
            .map_err(|e| Error::new(ErrorKind::Internal, "a table function made rows that do not fit its columns").caused_by(e))
    }
}

/// The most frequent values with their counts, as JSON: `{"AA":120,"UA":80}`.
fn top(profile: &ColumnProfile) -> String {
    let (items, _) = profile.frequent();
    let shown = items.into_iter().take(8).map(|(value, count)| (value, serde_json::Value::from(count)));
    serde_json::Value::Object(shown.collect()).to_string()
}
