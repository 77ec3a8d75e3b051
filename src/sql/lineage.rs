//! Table functions of lineage: `lineage('t')`, `upstream('t', …)`, `blast_radius('t', …)`.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, StringArray, TimestampMillisecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result as DataFusionResult, ScalarValue, plan_err};
use datafusion::datasource::TableType;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;

use super::answer::AnswerExec;
use super::batches::{BatchIterator, Batches, TEXT_LIMIT_BYTES, chunked, shown_text, streamed};
use super::catalog::Resolver;
use super::external;
use super::lineage_graph::load_graph;
use crate::error::Result;
use crate::lineage::{CommitLineage, Graph, Input, InputFile, InputKind, Output, Reached, Start, Step};

/// Characters of a number with its comma in a list.
const NUMBER_BYTES: usize = 11;

pub(super) fn register(context: &SessionContext, resolver: &Arc<Resolver>) {
    for kind in [Kind::Lineage, Kind::Upstream, Kind::BlastRadius] {
        context.register_udtf(kind.name(), Arc::new(Function { kind, resolver: resolver.clone() }));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One row per output row group and what went into it.
    Lineage,
    /// What a table, file or row group was made from, over any number of steps.
    Upstream,
    /// What was made from it.
    BlastRadius,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Lineage => "lineage",
            Self::Upstream => "upstream",
            Self::BlastRadius => "blast_radius",
        }
    }

    fn schema(self) -> SchemaRef {
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let number = |name: &str| Field::new(name, DataType::UInt64, true);
        let flag = |name: &str| Field::new(name, DataType::Boolean, true);
        Arc::new(Schema::new(match self {
            Self::Lineage => vec![
                number("version"),
                text("operation"),
                flag("derived"),
                text("attested_by"),
                Field::new("time", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true),
                text("actor"),
                text("output_file"),
                number("output_row_group"),
                number("output_rows"),
                text("output_digest"),
                text("input_kind"),
                text("input_table"),
                number("input_version"),
                text("input_file"),
                text("input_row_groups"),
                text("input_digest"),
                flag("inputs_complete"),
                text("sql"),
                text("plan_fingerprint"),
                text("engine"),
                text("volatile"),
            ],
            Self::Upstream | Self::BlastRadius => vec![
                number("depth"),
                text("kind"),
                text("table"),
                number("version"),
                text("file"),
                text("row_groups"),
                text("via_table"),
                number("via_version"),
                text("operation"),
                flag("derived"),
                text("attested_by"),
            ],
        }))
    }

    fn usage(self) -> String {
        let name = self.name();
        match self {
            Self::Lineage => format!("{name} takes one argument, the table's name in single quotes: {name}('flights')"),
            _ => format!(
                "{name} takes a table, and at will a file of it and a row group of the file: {name}('flights'), {name}('flights', 'part-0.parquet', 3)"
            ),
        }
    }
}

#[derive(Debug)]
struct Function {
    kind: Kind,
    resolver: Arc<Resolver>,
}

impl TableFunctionImpl for Function {
    fn call_with_args(&self, args: TableFunctionArgs) -> DataFusionResult<Arc<dyn TableProvider>> {
        let kind = self.kind;
        let literals: Option<Vec<&ScalarValue>> = args.exprs().iter().map(literal).collect();
        let (table, file, row_group) = match literals.as_deref() {
            Some([table]) => (text_of(table), None, None),
            Some([table, file]) if kind != Kind::Lineage => (text_of(table), Some(file), None),
            Some([table, file, row_group]) if kind != Kind::Lineage => (text_of(table), Some(file), Some(row_group)),
            _ => (None, None, None),
        };
        let Some(table) = table else { return plan_err!("{}", kind.usage()) };
        let file = match file {
            Some(value) if value.is_null() => None,
            Some(value) if text_of(value).is_none() => return plan_err!("{}", kind.usage()),
            other => other.and_then(|value| text_of(value)),
        };
        let row_group = match row_group.filter(|value| !value.is_null()) {
            Some(value) => match u32::try_from(integer_of(value).unwrap_or(-1)) {
                Ok(number) if file.is_some() => Some(number),
                _ => return plan_err!("{}", kind.usage()),
            },
            None => None,
        };
        let schema = kind.schema();
        Ok(Arc::new(FunctionTable { kind, resolver: self.resolver.clone(), table, file, row_group, schema }))
    }
}

/// The value of an argument; absent for what depends on more than the statement.
pub(super) fn literal(expression: &Expr) -> Option<&ScalarValue> {
    match expression {
        Expr::Literal(value, _) => Some(value),
        _ => None,
    }
}

pub(super) fn text_of(value: &ScalarValue) -> Option<String> {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text) => text.clone(),
        _ => None,
    }
}

pub(super) fn integer_of(value: &ScalarValue) -> Option<i64> {
    match value {
        ScalarValue::Int64(number) => *number,
        ScalarValue::UInt64(number) => number.and_then(|number| i64::try_from(number).ok()),
        ScalarValue::Int32(number) => number.map(i64::from),
        ScalarValue::UInt32(number) => number.map(i64::from),
        ScalarValue::Int16(number) => number.map(i64::from),
        ScalarValue::UInt16(number) => number.map(i64::from),
        ScalarValue::Int8(number) => number.map(i64::from),
        ScalarValue::UInt8(number) => number.map(i64::from),
        _ => None,
    }
}

#[derive(Debug)]
struct FunctionTable {
    kind: Kind,
    resolver: Arc<Resolver>,
    table: String,
    file: Option<String>,
    row_group: Option<u32>,
    schema: SchemaRef,
}

#[async_trait]
impl TableProvider for FunctionTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let batches = self.batches().await.map_err(external)?;
        let plan = streamed(batches)?.scan(state, projection, filters, limit).await?;
        Ok(AnswerExec::of(self.kind.name(), plan))
    }
}

impl FunctionTable {
    async fn batches(&self) -> Result<Batches> {
        let location = self.resolver.location_of(&self.table)?;
        let schema = self.schema.clone();
        if self.kind == Kind::Lineage {
            let found = self.resolver.lineage(&location).await.map_err(|e| e.with("table", &self.table))?;
            self.resolver.note_gaps(&self.table, &found.gaps);
            let (commits, names) = (Arc::new(found.commits), Arc::new(self.resolver.names().await?));
            return Ok(Batches::new(schema.clone(), move || lineage_batches(&schema, &commits, &names)));
        }
        let (graph, names) = load_graph(&self.resolver, &location).await?;
        let start = Start { table: location.url().to_string(), file: self.file.clone(), row_group: self.row_group };
        let steps = match self.kind {
            Kind::Upstream => graph.upstream(&start)?,
            _ => graph.blast_radius(&start)?,
        };
        let (walked, names) = (Arc::new((graph, steps)), Arc::new(names));
        Ok(Batches::new(schema.clone(), move || reached_batches(&schema, &walked, &names)))
    }
}

fn text<S: ToString>(values: impl Iterator<Item = Option<S>>) -> ArrayRef {
    Arc::new(values.map(|value| value.map(|value| shown_text(&value.to_string()).into_owned())).collect::<StringArray>())
}

fn number(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(values.collect::<UInt64Array>())
}

fn flag(values: impl Iterator<Item = bool>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<BooleanArray>())
}

fn groups_text(groups: Option<&Vec<u32>>) -> Option<String> {
    groups.map(|groups| groups.iter().map(u32::to_string).collect::<Vec<_>>().join(","))
}

fn kind_name(kind: InputKind) -> &'static str {
    match kind {
        InputKind::Table => "table",
        InputKind::Source => "source",
    }
}

/// The positions of an output row group and of an input file within a commit's lineage.
#[derive(Debug, Clone, Copy)]
struct Row {
    commit: usize,
    output: Option<usize>,
    row_group: Option<usize>,
    input: Option<usize>,
    file: Option<usize>,
}

impl Row {
    fn output_of<'a>(&self, of: &'a CommitLineage) -> Option<&'a Output> {
        of.lineage.outputs.get(self.output?)
    }

    fn input_of<'a>(&self, of: &'a CommitLineage) -> Option<&'a Input> {
        of.lineage.inputs.get(self.input?)
    }

    fn file_of<'a>(&self, of: &'a CommitLineage) -> Option<&'a InputFile> {
        self.input_of(of)?.files.as_ref()?.get(self.file?)
    }
}

fn positions(commit: usize, of: &CommitLineage) -> Vec<Row> {
    let outputs = of.lineage.outputs.iter().enumerate().flat_map(|(output, file)| {
        let groups = file.row_groups.as_ref().map_or(0, Vec::len);
        let groups: Vec<Option<usize>> = if groups == 0 { vec![None] } else { (0..groups).map(Some).collect() };
        groups.into_iter().map(move |row_group| (Some(output), row_group))
    });
    let outputs: Vec<_> = if of.lineage.outputs.is_empty() { vec![(None, None)] } else { outputs.collect() };
    outputs.into_iter().map(|(output, row_group)| Row { commit, output, row_group, input: None, file: None }).collect()
}

fn inputs(of: &CommitLineage) -> Vec<(Option<usize>, Option<usize>)> {
    let files = of.lineage.inputs.iter().enumerate().flat_map(|(input, of)| {
        let files = of.files.as_ref().map_or(0, Vec::len);
        let files: Vec<Option<usize>> = if files == 0 { vec![None] } else { (0..files).map(Some).collect() };
        files.into_iter().map(move |file| (Some(input), file))
    });
    if of.lineage.inputs.is_empty() { vec![(None, None)] } else { files.collect() }
}

fn lineage_batches(schema: &SchemaRef, commits: &Arc<Vec<CommitLineage>>, names: &Arc<BTreeMap<String, String>>) -> BatchIterator {
    let all = commits.clone();
    let rows = (0..commits.len()).flat_map(move |commit| {
        let (outputs, inputs) = all.get(commit).map_or((Vec::new(), Vec::new()), |of| (positions(commit, of), inputs(of)));
        let inputs = Arc::new(inputs);
        outputs.into_iter().flat_map(move |row| {
            let inputs = inputs.clone();
            (0..inputs.len()).filter_map(move |i| inputs.get(i).map(|(input, file)| Row { input: *input, file: *file, ..row }))
        })
    });
    let (weighed, commits, names) = (commits.clone(), commits.clone(), names.clone());
    let texts = move |row: &Row| weighed.get(row.commit).map_or(0, |of| texts_of(row, of));
    chunked(schema, rows, texts, move |rows| lineage_columns(rows, &commits, &names))
}

/// The bytes of the texts of a row that have no bound of their own.
fn texts_of(row: &Row, of: &CommitLineage) -> usize {
    let how = &of.lineage.transformation;
    let sql = how.sql.as_ref().map_or(0, |sql| sql.len().min(TEXT_LIMIT_BYTES));
    let engine: usize = how.engine.iter().map(|(name, version)| name.len() + version.len()).sum();
    let volatile: usize = how.volatile.iter().map(String::len).sum();
    let file = row.file_of(of).map_or(0, |file| file.path.len() + file.row_groups.as_ref().map_or(0, |groups| groups.len() * NUMBER_BYTES));
    let input = row.input_of(of).map_or(0, |input| input.uri.len());
    let output = row.output_of(of).map_or(0, |output| output.path.len());
    [sql, engine, volatile, file, input, output, of.lineage.operation.len(), of.lineage.actor.as_ref().map_or(0, String::len)].iter().sum()
}

fn lineage_columns(rows: &[Row], commits: &[CommitLineage], names: &BTreeMap<String, String>) -> Vec<ArrayRef> {
    let all = || rows.iter().filter_map(|row| Some((row, commits.get(row.commit)?)));
    let some_text = |text: String| Some(text).filter(|text| !text.is_empty());
    let engine = |of: &CommitLineage| {
        let engine = &of.lineage.transformation.engine;
        some_text(engine.iter().map(|(name, version)| format!("{name} {version}")).collect::<Vec<_>>().join(", "))
    };
    let named = |uri: &String| names.get(uri).unwrap_or(uri).clone();
    vec![
        number(all().map(|(_, of)| Some(of.version))),
        text(all().map(|(_, of)| Some(&of.lineage.operation))),
        flag(all().map(|(_, of)| of.lineage.derived)),
        text(all().map(|(_, of)| of.attested_by)),
        Arc::new(all().map(|(_, of)| of.lineage.finished_ms).collect::<TimestampMillisecondArray>().with_timezone("UTC")),
        text(all().map(|(_, of)| of.lineage.actor.as_ref())),
        text(all().map(|(row, of)| row.output_of(of).map(|o| &o.path))),
        number(all().map(|(row, _)| row.row_group.map(|group| group as u64))),
        number(all().map(|(row, of)| row.output_of(of)?.row_groups.as_ref()?.get(row.row_group?).copied())),
        text(all().map(|(row, of)| row.output_of(of)?.digest)),
        text(all().map(|(row, of)| row.input_of(of).map(|i| kind_name(i.kind)))),
        text(all().map(|(row, of)| row.input_of(of).map(|i| named(&i.uri)))),
        number(all().map(|(row, of)| row.input_of(of)?.version)),
        text(all().map(|(row, of)| row.file_of(of).map(|f| &f.path))),
        text(all().map(|(row, of)| groups_text(row.file_of(of)?.row_groups.as_ref()))),
        text(all().map(|(row, of)| match row.file_of(of) {
            Some(file) => file.digest,
            None => row.input_of(of)?.digest,
        })),
        flag(all().map(|(_, of)| of.lineage.inputs_complete)),
        text(all().map(|(_, of)| of.lineage.transformation.sql.as_ref())),
        text(all().map(|(_, of)| of.lineage.transformation.fingerprint)),
        text(all().map(|(_, of)| engine(of))),
        text(all().map(|(_, of)| some_text(of.lineage.transformation.volatile.join(", ")))),
    ]
}

fn reached_batches(schema: &SchemaRef, walked: &Arc<(Graph, Vec<Step>)>, names: &Arc<BTreeMap<String, String>>) -> BatchIterator {
    let (walked, names) = (walked.clone(), names.clone());
    let weighed = walked.clone();
    let texts = move |row: &usize| weighed.1.get(*row).map_or(0, |step| weighed.0.reached(*step).as_ref().map_or(0, reached_texts));
    chunked(schema, 0..walked.1.len(), texts, move |rows| {
        let (graph, steps) = walked.as_ref();
        let reached: Vec<Reached> = rows.iter().filter_map(|row| graph.reached(*steps.get(*row)?)).collect();
        let all = || reached.iter();
        let named = |uri: &String| names.get(uri).unwrap_or(uri).clone();
        vec![
            number(all().map(|r| Some(u64::from(r.depth)))),
            text(all().map(|r| Some(kind_name(r.kind)))),
            text(all().map(|r| Some(named(&r.table)))),
            number(all().map(|r| r.version)),
            text(all().map(|r| r.file.as_ref())),
            text(all().map(|r| groups_text(r.row_groups.as_ref()))),
            text(all().map(|r| Some(named(&r.via_table)))),
            number(all().map(|r| Some(r.via_version))),
            text(all().map(|r| Some(&r.operation))),
            flag(all().map(|r| r.derived)),
            text(all().map(|r| r.attested_by)),
        ]
    })
}

fn reached_texts(reached: &Reached) -> usize {
    let groups = reached.row_groups.as_ref().map_or(0, |groups| groups.len() * NUMBER_BYTES);
    let file = reached.file.as_ref().map_or(0, |file| file.len());
    reached.table.len() + reached.via_table.len() + reached.operation.len() + file + groups
}
