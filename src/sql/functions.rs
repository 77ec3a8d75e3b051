//! Table functions: `audit('t')`, `baselines('t')`, `row_groups('t')`.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result as DataFusionResult, plan_err};
use datafusion::datasource::TableType;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;

use super::answer::{AnswerExec, in_memory};
use super::batches::{Batches, chunked, shown_text, streamed};
use super::catalog::Resolver;
use super::lineage::{literal, text_of};
use super::{external, hold_expectations};
use crate::baseline::{
    AuditOptions, AuditReport, Auditor, SealedColumn, SealedFile, SealedRowGroup, SealedTable, TrustedBaseline, Verdict,
};
use crate::delta::Location;
use crate::error::{Error, ErrorKind, Result};
use crate::table;

pub(super) fn register(context: &SessionContext, resolver: &Arc<Resolver>) {
    for kind in [Kind::Audit, Kind::Baselines, Kind::RowGroups] {
        context.register_udtf(kind.name(), Arc::new(Function { kind, resolver: resolver.clone() }));
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Findings, one a row, and the number of intact files.
    Audit,
    /// Baselines that trusted keys signed.
    Baselines,
    /// Column chunks as sealed.
    RowGroups,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Baselines => "baselines",
            Self::RowGroups => "row_groups",
        }
    }

    fn schema(self) -> SchemaRef {
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let number = |name: &str| Field::new(name, DataType::UInt64, true);
        let time = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true);
        Arc::new(Schema::new(match self {
            Self::Audit => vec![
                text("verdict"),
                text("file"),
                number("row_group"),
                text("column"),
                number("commit"),
                text("detail"),
                number("baseline"),
                number("rows_removed"),
                number("rows_added"),
            ],
            Self::Baselines => vec![
                number("number"),
                number("version"),
                text("digest"),
                time("created"),
                time("expires"),
                number("files"),
                number("rows"),
                number("bytes"),
                text("location"),
                text("signed_by"),
            ],
            Self::RowGroups => vec![
                text("file"),
                number("row_group"),
                number("rows"),
                number("bytes"),
                text("digest"),
                text("column"),
                number("column_bytes"),
                text("column_digest"),
                number("nulls"),
                text("min"),
                text("max"),
                number("baseline"),
            ],
        }))
    }
}

#[derive(Debug)]
struct Function {
    kind: Kind,
    resolver: Arc<Resolver>,
}

impl TableFunctionImpl for Function {
    fn call_with_args(&self, args: TableFunctionArgs) -> DataFusionResult<Arc<dyn TableProvider>> {
        let table = match args.exprs() {
            [table] => literal(table).and_then(text_of),
            _ => None,
        };
        let Some(table) = table else {
            let name = self.kind.name();
            return plan_err!("{name} takes one argument, the table's name in single quotes: {name}('flights')");
        };
        let (kind, resolver) = (self.kind, self.resolver.clone());
        Ok(Arc::new(FunctionTable { kind, resolver, table, schema: kind.schema() }))
    }
}

/// The result of a function for one table; made when it is scanned.
#[derive(Debug)]
struct FunctionTable {
    kind: Kind,
    resolver: Arc<Resolver>,
    table: String,
    schema: SchemaRef,
}

/// What a function gives.
enum Rows {
    Whole(RecordBatch),
    Streamed(Batches),
}

impl FunctionTable {
    async fn rows(&self) -> Result<Rows> {
        let location = self.resolver.location_of(&self.table)?;
        let repository = location.repository();
        let trust = self.resolver.trust()?;
        let columns = match self.kind {
            Kind::Audit => {
                let clock = self.resolver.options.clock.clone();
                let (store, root) = (location.store().clone(), location.root().clone());
                let (names, pins) = (location.pin_names(), self.resolver.options.pins.as_deref());
                let options = AuditOptions {
                    pin: pins.and_then(|pins| pins.table(&names)),
                    log_pin: pins.and_then(|pins| pins.log(&names)).cloned(),
                    writers: self.resolver.options.writers.clone(),
                    ..AuditOptions::default()
                };
                let auditor = Auditor::new(store, root, location.url().as_str(), trust.clone(), clock, options).with_log(location.log());
                // An audit is long; a thread of its own also spares the runtime's workers.
                let runtime = tokio::runtime::Handle::current();
                let (place, keys, now_ms) = (location.clone(), trust.clone(), self.resolver.options.clock.now_ms());
                let audit = tokio::task::spawn_blocking(move || {
                    runtime.block_on(async {
                        let mut report = auditor.audit(&()).await?;
                        hold_expectations(&mut report, &place, &keys, now_ms).await;
                        Ok::<_, Error>(report)
                    })
                });
                let report = audit.await.map_err(|e| Error::new(ErrorKind::Internal, "the audit was cut short").caused_by(e))??;
                audit_columns(&report)
            }
            Kind::Baselines => {
                let baselines = repository.baselines(trust).await?;
                if baselines.is_empty() {
                    self.tell_unsealed(&location).await?;
                }
                baseline_columns(&baselines)
            }
            Kind::RowGroups => {
                let Some(sealed) = repository.newest_baseline(trust).await? else {
                    self.tell_unsealed(&location).await?;
                    return Ok(Rows::Whole(RecordBatch::new_empty(self.schema.clone())));
                };
                return row_groups(&self.schema, &sealed).map(Rows::Streamed);
            }
        };
        let misfit = |e| Error::new(ErrorKind::Internal, "a table function made rows that do not fit its columns").caused_by(e);
        RecordBatch::try_new(self.schema.clone(), columns).map(Rows::Whole).map_err(misfit)
    }

    /// Why there is nothing to show: no rows of a table that is not there would look like those of one that was never sealed.
    async fn tell_unsealed(&self, location: &Location) -> Result<()> {
        match table::load(location.store().as_ref(), location.root(), None).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(error.with("table", &self.table)),
            _ => {
                self.resolver.note(format!("{}: there is no baseline of it that a key signed which you trust", self.table));
                Ok(())
            }
        }
    }
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
        match self.rows().await.map_err(external)? {
            Rows::Whole(batch) => in_memory(batch, projection),
            Rows::Streamed(batches) => {
                let plan = streamed(batches)?.scan(state, projection, filters, limit).await?;
                Ok(AnswerExec::of(self.kind.name(), plan))
            }
        }
    }
}

fn text<T: ToString>(values: impl Iterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.map(|value| value.map(|value| shown_text(&value.to_string()).into_owned())).collect::<StringArray>())
}

fn number(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(values.collect::<UInt64Array>())
}

fn time(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampMillisecondArray>().with_timezone("UTC"))
}

/// One row per finding, and one that counts the intact files.
fn audit_columns(report: &AuditReport) -> Vec<ArrayRef> {
    let intact = report.summary.get(&Verdict::Intact).copied().unwrap_or_default();
    let found = || report.findings.iter().map(Some).chain(std::iter::once(None));
    let baseline = report.baseline.as_ref().map(|baseline| baseline.number);
    vec![
        text(found().map(|f| Some(f.map_or(Verdict::Intact.name(), |f| f.verdict.name())))),
        text(found().map(|f| f.and_then(|f| f.file.clone()))),
        number(found().map(|f| f.and_then(|f| f.row_group.map(u64::from)))),
        text(found().map(|f| f.and_then(|f| f.column.clone()))),
        number(found().map(|f| f.and_then(|f| f.commit))),
        text(found().map(|f| Some(f.map_or_else(|| format!("{intact} file(s) exactly as sealed"), |f| f.detail.clone())))),
        number(found().map(|_| baseline)),
        number(found().map(|f| f.and_then(|f| f.rows_removed))),
        number(found().map(|f| f.and_then(|f| f.rows_added))),
    ]
}

fn baseline_columns(baselines: &[TrustedBaseline]) -> Vec<ArrayRef> {
    let all = || baselines.iter().map(|baseline| &baseline.summary);
    let signers = |keys: &[crate::key::KeyId]| keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    vec![
        number(all().map(|b| Some(b.number))),
        number(all().map(|b| b.version)),
        text(all().map(|b| Some(b.digest))),
        time(all().map(|b| Some(b.created_ms))),
        time(all().map(|b| b.expires_ms)),
        number(all().map(|b| Some(b.files))),
        number(all().map(|b| Some(b.rows))),
        number(all().map(|b| Some(b.bytes))),
        text(all().map(|b| Some(&b.location))),
        text(all().map(|b| Some(signers(&b.signed_by)))),
    ]
}

/// The positions of a column chunk: file, row group, column.
type Chunk = (usize, usize, usize);

fn chunk_of(files: &[Arc<SealedFile>], (file, group, column): Chunk) -> Option<(&SealedFile, &SealedRowGroup, &SealedColumn)> {
    let file = files.get(file)?;
    let group = file.row_groups.as_read()?.get(group)?;
    Some((file, group, group.columns.get(column)?))
}

fn row_groups(schema: &SchemaRef, sealed: &SealedTable) -> Result<Batches> {
    let files: Arc<Vec<Arc<SealedFile>>> = Arc::new(sealed.files.values().cloned().collect());
    files.iter().try_for_each(|file| file.row_groups.get().map(drop))?;
    let (schema, baseline) = (schema.clone(), sealed.baseline.number);
    Ok(Batches::new(schema.clone(), move || {
        let (listed, weighed, shown) = (files.clone(), files.clone(), files.clone());
        let chunks = (0..files.len()).flat_map(move |file| {
            let groups = listed.get(file).and_then(|file| file.row_groups.as_read()).unwrap_or_default();
            let columns: Vec<usize> = groups.iter().map(|group| group.columns.len()).collect();
            columns.into_iter().enumerate().flat_map(move |(group, columns)| (0..columns).map(move |column| (file, group, column)))
        });
        let texts = move |chunk: &Chunk| chunk_of(&weighed, *chunk).map_or(0, |chunk| row_group_texts(&chunk));
        chunked(&schema, chunks, texts, move |chunks| {
            row_group_columns(&chunks.iter().filter_map(|chunk| chunk_of(&shown, *chunk)).collect::<Vec<_>>(), baseline)
        })
    }))
}

/// The bytes of the texts of a row that have no bound of their own.
fn row_group_texts((file, _, column): &(&SealedFile, &SealedRowGroup, &SealedColumn)) -> usize {
    let bound = |value: Option<&serde_json::Value>| value.and_then(serde_json::Value::as_str).map_or(0, str::len);
    file.live.key.path.len() + column.name.len() + bound(column.min.as_ref()) + bound(column.max.as_ref())
}

fn row_group_columns(chunks: &[(&SealedFile, &SealedRowGroup, &SealedColumn)], baseline: u64) -> Vec<ArrayRef> {
    let all = || chunks.iter().copied();
    let shown = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    vec![
        text(all().map(|(file, ..)| Some(&file.live.key.path))),
        number(all().map(|(_, group, _)| Some(u64::from(group.ordinal)))),
        number(all().map(|(_, group, _)| Some(group.rows))),
        number(all().map(|(_, group, _)| Some(group.bytes.end.saturating_sub(group.bytes.start)))),
        text(all().map(|(_, group, _)| Some(group.digest))),
        text(all().map(|(_, _, column)| Some(&column.name))),
        number(all().map(|(_, _, column)| Some(column.bytes.end.saturating_sub(column.bytes.start)))),
        text(all().map(|(_, _, column)| Some(column.digest))),
        number(all().map(|(_, _, column)| column.nulls)),
        text(all().map(|(_, _, column)| column.min.as_ref().map(shown))),
        text(all().map(|(_, _, column)| column.max.as_ref().map(shown))),
        number(all().map(|_| Some(baseline))),
    ]
}
