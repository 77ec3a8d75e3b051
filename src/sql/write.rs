//! Statements that write: their lineage is taken down before they run, and `CREATE TABLE … AS` makes a table of the lake.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Column, Result as DataFusionResult, TableReference, not_impl_err};
use datafusion::datasource::{TableType, provider_as_source, source_as_provider};
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{CreateMemoryTable, DdlStatement, DmlStatement, Expr, LogicalPlan, LogicalPlanBuilder, WriteOp, cast};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::{DataFrame, SessionContext};

use super::catalog::Resolver;
use super::record::{PlanFacts, Statement};
use super::table::VerifiedTable;
use super::{dml, external, insert, to_error};
use crate::delta::{self, Location, Operation, WriteMode};
use crate::error::{Error, ErrorKind, Result};

/// Plans `query` in `context`, so that what it writes has lineage.
pub(super) async fn plan(context: &SessionContext, resolver: &Resolver, query: &str) -> Result<DataFrame> {
    let plan = context.state().create_logical_plan(query).await.map_err(to_error)?;
    match plan {
        LogicalPlan::Dml(dml) if matches!(dml.op, WriteOp::Insert(_)) => insert_plan(context, resolver, query, dml).await,
        LogicalPlan::Dml(dml) if matches!(dml.op, WriteOp::Delete | WriteOp::Update) => dml::plan(context, resolver, query, dml).await,
        LogicalPlan::Explain(explain) if dml::is_rewrite(&explain.plan) => dml::explain(context, resolver, query, explain).await,
        LogicalPlan::Dml(dml) if dml.op != WriteOp::Ctas => Err(unsupported(&dml)),
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) if !create.temporary => create_as(context, resolver, query, create).await,
        LogicalPlan::Ddl(DdlStatement::DropTable(drop)) if is_of_lake(context, resolver, &drop.name).await => {
            let what =
                "DROP TABLE is not supported: what a lake holds is kept; delete its rows with DELETE, or its files by `lakeseal purge`";
            Err(Error::new(ErrorKind::Unsupported, what).with("table", drop.name))
        }
        other => context.execute_logical_plan(other).await.map_err(to_error),
    }
}

/// Whether a name is a table's of the lake, and not one that the session gave away.
async fn is_of_lake(context: &SessionContext, resolver: &Resolver, name: &TableReference) -> bool {
    let given = resolver.registered.read().contains_key(name.table());
    !given && context.table_provider(name.clone()).await.is_ok_and(|table| table.is::<VerifiedTable>())
}

fn unsupported(dml: &DmlStatement) -> Error {
    let name = if matches!(dml.op, WriteOp::MergeInto(_)) { "MERGE" } else { "TRUNCATE" };
    let what = format!("{name} is not supported: there are INSERT, DELETE and UPDATE, and CREATE TABLE AS");
    Error::new(ErrorKind::Unsupported, what).with("table", &dml.table_name)
}

async fn insert_plan(context: &SessionContext, resolver: &Resolver, query: &str, dml: DmlStatement) -> Result<DataFrame> {
    let provider = source_as_provider(&dml.target).map_err(to_error)?;
    let Some(table) = provider.downcast_ref::<VerifiedTable>() else {
        return context.execute_logical_plan(LogicalPlan::Dml(dml)).await.map_err(to_error);
    };
    let location = table.origin().location.clone();
    let (context, statement) = statement(context, resolver, "INSERT", query, &dml.input)?;
    let target = Recorded { location, schema: provider.schema(), existing: Some(provider.clone()), statement };
    let target = provider_as_source(Arc::new(target));
    let dml = DmlStatement::new(dml.table_name, target, dml.op, dml.input);
    context.execute_logical_plan(LogicalPlan::Dml(dml)).await.map_err(to_error)
}

/// The session that runs the statement: one in which rows come in one order, where the result may depend on it.
pub(super) fn statement(
    context: &SessionContext,
    resolver: &Resolver,
    operation: &'static str,
    query: &str,
    input: &LogicalPlan,
) -> Result<(SessionContext, Arc<Statement>)> {
    let facts = PlanFacts::of(input)?;
    let mut context = context.clone();
    if facts.order_matters() {
        let state = context.state();
        let config = state.config().clone().with_target_partitions(1);
        context = SessionContext::new_with_state(SessionStateBuilder::new_from_existing(state).with_config(config).build());
    }
    let config = context.state().config().clone();
    let statement = Statement::new(operation, query, input, facts, &config, resolver)?;
    Ok((context, Arc::new(statement)))
}

async fn create_as(context: &SessionContext, resolver: &Resolver, query: &str, create: CreateMemoryTable) -> Result<DataFrame> {
    let name = table_name(&create.name)?;
    let location = resolver.location(name)?;
    let refused = |why: &str| Error::new(ErrorKind::Unsupported, why).with("table", name);
    if !location.is_in_lake() {
        return Err(refused("a table can only be made in a lake; open one with --config"));
    }
    if create.or_replace {
        return Err(refused("CREATE OR REPLACE TABLE is not supported: use INSERT OVERWRITE, which keeps the table's history"));
    }
    if !create.constraints.is_empty() || !create.column_defaults.is_empty() {
        return Err(refused("primary keys, unique columns and default values are not supported: a Delta table has none"));
    }
    if delta::exists(&location).await? {
        if create.if_not_exists {
            return context.read_empty().map_err(to_error);
        }
        return Err(Error::new(ErrorKind::AlreadyExists, "there is a table of this name").with("table", name));
    }
    let input = as_delta(create.input.as_ref().clone(), name)?;
    let schema: SchemaRef = Arc::new(input.schema().as_arrow().clone());
    let (context, statement) = statement(context, resolver, "CREATE TABLE AS", query, &create.input)?;
    let target = provider_as_source(Arc::new(Recorded { location, schema, existing: None, statement }));
    let dml = DmlStatement::new(create.name, target, WriteOp::Insert(InsertOp::Append), Arc::new(input));
    context.execute_logical_plan(LogicalPlan::Dml(dml)).await.map_err(to_error)
}

fn table_name(reference: &TableReference) -> Result<&str> {
    match reference {
        TableReference::Bare { table } | TableReference::Partial { table, .. } | TableReference::Full { table, .. } => Ok(table),
    }
}

/// The query with its columns in the types in which Delta keeps them.
pub(super) fn as_delta(query: LogicalPlan, table: &str) -> Result<LogicalPlan> {
    let schema = query.schema().clone();
    let mut seen: Vec<&String> = Vec::new();
    let mut columns: Vec<Expr> = Vec::new();
    for (qualifier, field) in schema.iter() {
        let problem = |why: String| Error::new(ErrorKind::InvalidInput, why).with("table", table).with("column", field.name());
        if seen.contains(&field.name()) {
            return Err(problem("two columns of the query have one name; rename one with AS".to_owned()));
        }
        seen.push(field.name());
        let kept = delta::delta_type(field.data_type())
            .ok_or_else(|| problem(format!("the column has the type {}, which Delta has not; CAST it", field.data_type())))?;
        let column = Expr::Column(Column::new(qualifier.cloned(), field.name()));
        let column = if kept == *field.data_type() { column } else { cast(column, kept) };
        columns.push(column.alias(field.name()));
    }
    LogicalPlanBuilder::from(query).project(columns).and_then(LogicalPlanBuilder::build).map_err(to_error)
}

/// A table that is written to by a statement whose lineage is taken down.
#[derive(Debug)]
struct Recorded {
    location: Location,
    schema: SchemaRef,
    /// The table as it is; absent when the statement makes it.
    existing: Option<Arc<dyn TableProvider>>,
    statement: Arc<Statement>,
}

#[async_trait]
impl TableProvider for Recorded {
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
        not_impl_err!("the target of a statement is not read")
    }

    async fn insert_into(
        &self,
        _: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        operation: InsertOp,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let mode = match (&self.existing, operation) {
            (None, _) => WriteMode::Create,
            (Some(existing), _) => {
                if let Some(table) = existing.downcast_ref::<VerifiedTable>() {
                    table.check_stored().map_err(external)?;
                }
                insert::mode(&self.location, operation).map_err(external)?
            }
        };
        let location = self.location.doing(Operation(self.statement.clone())).map_err(external)?;
        Ok(insert::sink(location, self.schema.clone(), input, mode))
    }
}
