//! DELETE and UPDATE of a lake's tables.
//!
//! The predicate is taken from the plan as it was parsed, and only where it is all that the statement says: DataFusion's own way of handing
//! predicates to providers leaves out whatever speaks of more than the one table, and more rows than were meant would go.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result as DataFusionResult, internal_err};
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::datasource::{TableType, provider_as_source, source_as_provider};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{DmlStatement, Explain, Expr, LogicalPlan, LogicalPlanBuilder, WriteOp, lit, when};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use datafusion::prelude::{DataFrame, SessionContext};

use super::catalog::Resolver;
use super::record::PlanFacts;
use super::settings::{ReadMode, VerifyMode};
use super::table::VerifiedTable;
use super::{external, floats, to_error, write};
use crate::delta::{Location, Operation, Rewrite, rewrite};
use crate::error::{Error, ErrorKind, Result};

/// Plans a DELETE or an UPDATE. It runs when the plan does.
pub(super) async fn plan(context: &SessionContext, resolver: &Resolver, query: &str, dml: DmlStatement) -> Result<DataFrame> {
    let (context, dml) = retarget(context, resolver, query, dml)?;
    context.execute_logical_plan(LogicalPlan::Dml(dml)).await.map_err(to_error)
}

/// Plans the EXPLAIN of one: it changes nothing.
pub(super) async fn explain(context: &SessionContext, resolver: &Resolver, query: &str, explain: Explain) -> Result<DataFrame> {
    let LogicalPlan::Dml(dml) = explain.plan.as_ref() else {
        return context.execute_logical_plan(LogicalPlan::Explain(explain)).await.map_err(to_error);
    };
    let (context, dml) = retarget(context, resolver, query, dml.clone())?;
    let explain = Explain { plan: Arc::new(LogicalPlan::Dml(dml)), ..explain };
    context.execute_logical_plan(LogicalPlan::Explain(explain)).await.map_err(to_error)
}

/// The statement, with what does the job in the place of the table.
fn retarget(context: &SessionContext, resolver: &Resolver, query: &str, dml: DmlStatement) -> Result<(SessionContext, DmlStatement)> {
    let provider = source_as_provider(&dml.target).map_err(to_error)?;
    let Some(table) = provider.downcast_ref::<VerifiedTable>() else { return Ok((context.clone(), dml)) };
    let name = table.location().name().to_owned();
    let (operation, predicate, what) = match &dml.op {
        WriteOp::Delete => ("DELETE", predicate(&dml.input), Rewrite::Delete),
        _ => {
            let (assignments, source) = assignments(&dml.input).ok_or_else(|| refused(&name, "UPDATE"))?;
            ("UPDATE", predicate(source), Rewrite::Update(assignments))
        }
    };
    let predicate = predicate.ok_or_else(|| refused(&name, operation))?;
    check_expressions(&name, predicate.as_ref(), &what)?;
    let (version, writes_to) = check_table(table)?;
    let (context, statement) = write::statement(context, resolver, operation, query, &dml.input)?;
    let location = writes_to.doing(Operation(statement))?;
    let job = Job { location, table: provider.clone(), version, predicate, what };
    let target = provider_as_source(Arc::new(Target { schema: provider.schema(), job: Arc::new(job) }));
    Ok((context, DmlStatement::new(dml.table_name, target, dml.op, dml.input)))
}

/// The rows that a DELETE or an UPDATE leaves, as a query of the table that it changes; `None` where it is not understood wholly.
pub(super) fn remaining(dml: &DmlStatement) -> Result<Option<LogicalPlan>> {
    let assigned = match dml.op {
        WriteOp::Delete => Some((Vec::new(), dml.input.as_ref())),
        _ => assignments(&dml.input),
    };
    let Some((assigned, source)) = assigned else { return Ok(None) };
    let Some(predicate) = predicate(source) else { return Ok(None) };
    // Only what the condition is true of is touched: unknown is not.
    let hit = predicate.map_or_else(|| lit(true), Expr::is_true);
    let scan = if let LogicalPlan::Filter(filter) = source { filter.input.as_ref() } else { source };
    let rows = LogicalPlanBuilder::from(scan.clone());
    let rows = if dml.op == WriteOp::Delete {
        rows.filter(hit.is_false())
    } else {
        let columns = scan.schema().iter().map(|(table, field)| {
            let column = Expr::Column(Column::new(table.cloned(), field.name()));
            let value = assigned.iter().find(|(name, _)| name == field.name());
            value.map_or_else(
                || Ok(column.clone()),
                |(name, value)| Ok(when(hit.clone(), value.clone()).otherwise(column.clone())?.alias(name)),
            )
        });
        columns.collect::<DataFusionResult<Vec<_>>>().and_then(|columns| rows.project(columns))
    };
    rows.and_then(LogicalPlanBuilder::build).map(Some).map_err(to_error)
}

/// Whether a plan is one of these.
pub(super) fn is_rewrite(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Dml(dml) if matches!(dml.op, WriteOp::Delete | WriteOp::Update))
}

fn refused(table: &str, why: &str) -> Error {
    let what = "only conditions on the table's own columns are supported in DELETE and UPDATE: no subqueries, joins, FROM or LIMIT";
    Error::new(ErrorKind::Unsupported, what).with("table", table).with("statement", why)
}

/// The whole condition of a statement over one table; `None` inside when it has none, outside when there is more to it.
#[expect(clippy::option_option, reason = "no condition, and none that is understood, are two things")]
fn predicate(input: &LogicalPlan) -> Option<Option<Expr>> {
    match input {
        LogicalPlan::Filter(filter) => is_scan(&filter.input).then(|| Some(filter.predicate.clone())),
        scan => is_scan(scan).then_some(None),
    }
}

/// A scan of all of a table, which may have an alias.
fn is_scan(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => is_scan(&alias.input),
        LogicalPlan::TableScan(scan) => scan.filters.is_empty() && scan.fetch.is_none(),
        _ => false,
    }
}

/// The columns that get other values, and what they are selected from.
fn assignments(input: &LogicalPlan) -> Option<(Vec<(String, Expr)>, &LogicalPlan)> {
    let LogicalPlan::Projection(projection) = input else { return None };
    let mut assignments = Vec::new();
    for expression in &projection.expr {
        let (name, value) = match expression {
            Expr::Alias(alias) => (alias.name.clone(), alias.expr.as_ref()),
            Expr::Column(_) => continue,
            _ => return None,
        };
        if !matches!(value, Expr::Column(column) if column.name == name) {
            assignments.push((name, value.clone()));
        }
    }
    Some((assignments, &projection.input))
}

/// The expressions are deltalake's to evaluate, twice: while files are looked for, and while they are written.
fn check_expressions(table: &str, predicate: Option<&Expr>, what: &Rewrite) -> Result<()> {
    let values = match what {
        Rewrite::Delete => &[][..],
        Rewrite::Update(assignments) => assignments,
    };
    for expression in predicate.into_iter().chain(values.iter().map(|(_, value)| value)) {
        let mut is_plain = true;
        let mut changing: Option<String> = None;
        let walked = expression.apply(|part| {
            is_plain &= !matches!(
                part,
                Expr::ScalarSubquery(_)
                    | Expr::InSubquery(_)
                    | Expr::Exists(_)
                    | Expr::SetComparison(_)
                    | Expr::OuterReferenceColumn(..)
                    | Expr::AggregateFunction(_)
                    | Expr::WindowFunction(_)
                    | Expr::Placeholder(_)
            );
            changing = changing.take().or_else(|| PlanFacts::volatile_call(part));
            Ok(TreeNodeRecursion::Continue)
        });
        walked.map_err(to_error)?;
        if !is_plain {
            return Err(refused(table, "has a subquery, an aggregate or a parameter"));
        }
        if let Some(function) = changing {
            let what = "a function whose result changes cannot be used in DELETE and UPDATE: rows are looked for and written in two passes; write the value itself";
            return Err(Error::new(ErrorKind::Unsupported, what).with("table", table).with("function", function));
        }
    }
    Ok(())
}

/// The version that is changed, and where to. Rows that verification would leave out, or deliver changed, must not be written anew as if
/// they were good.
fn check_table(table: &VerifiedTable) -> Result<(u64, &Location)> {
    let location = table.location();
    let refused = |why: &str| Error::new(ErrorKind::Unsupported, why).with("table", location.name());
    if !location.is_in_lake() {
        return Err(refused("tables outside of a lake are read-only"));
    }
    table.check_stored()?;
    match table.settings().verify {
        VerifyMode::Enforce | VerifyMode::Heal | VerifyMode::Off => {}
        VerifyMode::Quarantine | VerifyMode::Warn => {
            return Err(refused(
                "DELETE and UPDATE write rows anew that were read: SET lakeseal.verify = 'enforce', or 'heal', so that they are the sealed ones",
            ));
        }
    }
    if table.settings().read == ReadMode::Sealed {
        return Err(refused("DELETE and UPDATE change the newest version, not the sealed one: SET lakeseal.read = 'latest'"));
    }
    let version = table.origin().version.ok_or_else(|| refused("a folder of Parquet is read-only: import it into a table"))?;
    Ok((version, location))
}

/// What is to be done.
#[derive(Debug)]
struct Job {
    location: Location,
    /// The [`VerifiedTable`] whose rows are rewritten.
    table: Arc<dyn TableProvider>,
    version: u64,
    predicate: Option<Expr>,
    what: Rewrite,
}

/// Column references without the table's name: the one table is meant.
fn unqualified(expression: Expr) -> DataFusionResult<Expr> {
    let changed = expression.transform(|part| {
        Ok(match part {
            Expr::Column(column) if column.relation.is_some() => Transformed::yes(Expr::Column(Column::new_unqualified(column.name))),
            other => Transformed::no(other),
        })
    });
    changed.map(|transformed| transformed.data)
}

impl Job {
    async fn run(&self) -> DataFusionResult<u64> {
        let predicate = self.predicate.clone().map(unqualified).transpose()?;
        // Files without a match are left as they are, and row groups in which nothing is to be kept are not read: neither may be found by bounds.
        let predicate = predicate.map(|predicate| floats::as_they_are(predicate, &self.table.schema())).transpose()?;
        let what = match &self.what {
            Rewrite::Delete => Rewrite::Delete,
            Rewrite::Update(assignments) => {
                let plain = assignments.iter().map(|(name, value)| Ok((name.clone(), unqualified(value.clone())?)));
                Rewrite::Update(plain.collect::<DataFusionResult<_>>()?)
            }
        };
        let (verified, own_log) = match self.table.downcast_ref::<VerifiedTable>() {
            Some(table) => table.for_writers().await.map_err(external)?,
            None => return internal_err!("only verified tables are rewritten"),
        };
        let rows = rewrite(&self.location, &verified, own_log, self.version, predicate, what).await.map_err(external)?;
        // Where whole files go, only their own statistics know how many rows that were.
        Ok(rows.unwrap_or_default())
    }

    fn plan(self: &Arc<Self>) -> Arc<dyn ExecutionPlan> {
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("nothing", DataType::Null, true)]));
        Arc::new(DataSinkExec::new(Arc::new(EmptyExec::new(schema.clone())), Arc::new(Sink { job: self.clone(), schema }), None))
    }
}

/// The table, to the plan of one statement.
#[derive(Debug)]
struct Target {
    schema: SchemaRef,
    job: Arc<Job>,
}

#[async_trait]
impl TableProvider for Target {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        datafusion::common::not_impl_err!("the target of a statement is not read")
    }

    async fn delete_from(&self, _: &dyn Session, _: Vec<Expr>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(self.job.plan())
    }

    async fn update(&self, _: &dyn Session, _: Vec<(String, Expr)>, _: Vec<Expr>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(self.job.plan())
    }
}

/// Does the job once its plan runs, and counts.
#[derive(Debug)]
struct Sink {
    job: Arc<Job>,
    schema: SchemaRef,
}

impl DisplayAs for Sink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.job.what {
            Rewrite::Delete => "delete",
            Rewrite::Update(_) => "update",
        };
        write!(f, "LakeRewrite(table={}, {what})", self.job.location)
    }
}

#[async_trait]
impl DataSink for Sink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(&self, _: SendableRecordBatchStream, _: &Arc<TaskContext>) -> DataFusionResult<u64> {
        self.job.run().await
    }
}
