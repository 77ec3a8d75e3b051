//! `verify_derivation('t')`: runs the recorded statement of a commit again, over the recorded versions of its inputs, and compares the rows.

use std::sync::Arc;

use arrow::array::{Float64Array, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, MemTable, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider};
use datafusion::catalog::{SchemaProvider, Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result as DataFusionResult, ScalarValue, plan_err};
use datafusion::datasource::TableType;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{DdlStatement, Expr, LogicalPlan};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;

use super::answer::in_memory;
use super::catalog::Resolver;
use super::lineage::{integer_of, text_of};
use super::record::{PlanFacts, fingerprint};
use super::rows_compared::{Comparison, Found, compare};
use super::session::{CATALOG, SCHEMA, session_config};
use super::table::VerifiedTable;
use super::{dml, external, to_error, write};
use crate::delta::{self, Location, engine_versions};
use crate::error::{Error, ErrorKind, Result};
use crate::lineage::{CommitLineage, Input, InputKind, read_table_lineage};
use crate::table;

pub(super) fn register(context: &SessionContext, resolver: &Arc<Resolver>) {
    context.register_udtf("verify_derivation", Arc::new(Function { resolver: resolver.clone() }));
}

const USAGE: &str =
    "verify_derivation takes a table, and at will a version of it: verify_derivation('features'), verify_derivation('features', 3)";

fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let number = |name: &str| Field::new(name, DataType::UInt64, true);
    Arc::new(Schema::new(vec![
        number("version"),
        text("operation"),
        text("verdict"),
        number("rows"),
        number("derived_rows"),
        Field::new("deviation", DataType::Float64, true),
        text("plan"),
        text("first_difference"),
        text("detail"),
        text("attested_by"),
        text("sql"),
    ]))
}

/// What running a statement again came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The same rows, as often.
    Reproduced,
    /// The same rows but for the last digits of floating-point numbers.
    Inexact,
    /// Other rows.
    Differs,
    /// It could not be run again, or not over the same inputs.
    Undetermined,
}

impl Verdict {
    const fn name(self) -> &'static str {
        match self {
            Self::Reproduced => "reproduced",
            Self::Inexact => "inexact",
            Self::Differs => "differs",
            Self::Undetermined => "undetermined",
        }
    }
}

/// One row of the function.
#[derive(Debug, Clone)]
struct Outcome {
    version: u64,
    operation: String,
    verdict: Verdict,
    comparison: Comparison,
    plan: &'static str,
    detail: String,
    attested_by: Option<String>,
    sql: Option<String>,
}

#[derive(Debug)]
struct Function {
    resolver: Arc<Resolver>,
}

impl TableFunctionImpl for Function {
    fn call_with_args(&self, args: TableFunctionArgs) -> DataFusionResult<Arc<dyn TableProvider>> {
        let literals: Option<Vec<&ScalarValue>> =
            args.exprs().iter().map(|e| if let Expr::Literal(value, _) = e { Some(value) } else { None }).collect();
        let (table, version) = match literals.as_deref() {
            Some([table]) => (text_of(table), Some(None)),
            Some([table, version]) => (text_of(table), integer_of(version).and_then(|v| u64::try_from(v).ok()).map(Some)),
            _ => (None, None),
        };
        let (Some(table), Some(version)) = (table, version) else { return plan_err!("{USAGE}") };
        Ok(Arc::new(FunctionTable { resolver: self.resolver.clone(), table, version, schema: schema() }))
    }
}

#[derive(Debug)]
struct FunctionTable {
    resolver: Arc<Resolver>,
    table: String,
    version: Option<u64>,
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
        _: &[Expr],
        _: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let Some(own) = state.as_any().downcast_ref::<SessionState>() else {
            return plan_err!("verify_derivation needs a session of this process");
        };
        let outcomes = self.outcomes(own).await.map_err(external)?;
        in_memory(rows(&self.schema, &outcomes).map_err(external)?, projection)
    }
}

fn rows(schema: &SchemaRef, outcomes: &[Outcome]) -> Result<RecordBatch> {
    let text = |value: &dyn Fn(&Outcome) -> Option<String>| Arc::new(outcomes.iter().map(value).collect::<StringArray>());
    let number = |value: &dyn Fn(&Outcome) -> Option<u64>| Arc::new(outcomes.iter().map(value).collect::<UInt64Array>());
    let ran = |o: &Outcome| o.verdict != Verdict::Undetermined;
    let columns: Vec<arrow::array::ArrayRef> = vec![
        number(&|o| Some(o.version)),
        text(&|o| Some(o.operation.clone())),
        text(&|o| Some(o.verdict.name().to_owned())),
        number(&|o| ran(o).then_some(o.comparison.found)),
        number(&|o| ran(o).then_some(o.comparison.derived)),
        Arc::new(outcomes.iter().map(|o| o.comparison.deviation).collect::<Float64Array>()),
        text(&|o| Some(o.plan.to_owned())),
        text(&|o| o.comparison.first_difference.clone()),
        text(&|o| Some(o.detail.clone())),
        text(&|o| o.attested_by.clone()),
        text(&|o| o.sql.clone()),
    ];
    RecordBatch::try_new(schema.clone(), columns)
        .map_err(|e| Error::new(ErrorKind::Internal, "a table function made rows that do not fit its columns").caused_by(e))
}

impl FunctionTable {
    async fn outcomes(&self, state: &SessionState) -> Result<Vec<Outcome>> {
        let location = self.resolver.location_of(&self.table)?;
        let found = read_table_lineage(self.resolver.lineage_source(&location)).await.map_err(|e| e.with("table", &self.table))?;
        if let Some(version) = self.version
            && !found.commits.iter().any(|commit| commit.version == version)
        {
            let forgotten = found.forgotten.iter().any(|(from, to)| (*from..=*to).contains(&version));
            let why =
                if forgotten { "log cleanup took this version's commit, and nobody attested it" } else { "the table has no such version" };
            return Err(Error::new(ErrorKind::NotFound, why).with("table", &self.table).with("version", version));
        }
        let mut outcomes = Vec::new();
        for commit in found.commits.iter().filter(|commit| self.version.is_none_or(|version| commit.version == version)) {
            outcomes.push(self.outcome(state, &location, commit).await?);
        }
        Ok(outcomes)
    }

    /// Whatever keeps the statement from being run again is a verdict, not an error of the query: other commits may be verified.
    async fn outcome(&self, state: &SessionState, location: &Location, commit: &CommitLineage) -> Result<Outcome> {
        let mut outcome = Outcome {
            version: commit.version,
            operation: commit.lineage.operation.clone(),
            verdict: Verdict::Undetermined,
            comparison: Comparison::default(),
            plan: "not compared",
            detail: String::new(),
            attested_by: commit.attested_by.map(|key| key.to_string()),
            sql: commit.lineage.transformation.sql.clone(),
        };
        if let Some(why) = commit.lineage.not_replayable() {
            outcome.detail = why;
            return Ok(outcome);
        }
        let replay = Replay { resolver: &self.resolver, state, location, commit };
        match replay.run(&mut outcome).await {
            Ok(()) => Ok(outcome),
            Err(error) if error.is_retryable() => Err(error),
            Err(error) => {
                outcome.verdict = Verdict::Undetermined;
                outcome.detail = error.to_string();
                Ok(outcome)
            }
        }
    }
}

/// A recorded statement, planned again.
struct Planned {
    /// Gives the rows that are compared.
    query: LogicalPlan,
    /// What its fingerprint is of.
    input: LogicalPlan,
    scope: Scope,
}

/// What the statement says of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Which rows are added.
    Added,
    /// Which rows are left. All of them are compared: a row in a file that should have been touched and was not differs, too.
    Table,
}

impl Scope {
    const fn verb(self) -> &'static str {
        match self {
            Self::Added => "gives",
            Self::Table => "leaves",
        }
    }
}

struct Replay<'a> {
    resolver: &'a Resolver,
    state: &'a SessionState,
    location: &'a Location,
    commit: &'a CommitLineage,
}

impl Replay<'_> {
    async fn run(&self, outcome: &mut Outcome) -> Result<()> {
        let recorded = &self.commit.lineage.transformation;
        let context = self.context().await?;
        let sql = recorded.sql.as_deref().unwrap_or_default();
        let planned = context.state().create_logical_plan(sql).await.map_err(|e| {
            Error::new(ErrorKind::Unsupported, "the recorded statement cannot be planned again in this session").caused_by(to_error(e))
        })?;
        let Planned { query, input, scope } = self.query(planned)?;
        outcome.plan = match recorded.fingerprint {
            Some(_) if recorded.engine.get("datafusion") != engine_versions().get("datafusion") => "not comparable: another engine version",
            Some(known) if known == fingerprint(&input).1 => "same",
            Some(_) => "changed",
            None => "not recorded",
        };
        let facts = PlanFacts::of(&input)?;
        let found = match scope {
            Scope::Added => Found::added(self.location, self.commit).await?,
            Scope::Table => Found::table(self.location, self.commit).await?,
        };
        outcome.comparison = compare(&context, query, &found, facts.order_matters()).await?;
        let comparison = &outcome.comparison;
        (outcome.verdict, outcome.detail) = match (&comparison.first_difference, comparison.deviation) {
            (None, None) => {
                (Verdict::Reproduced, format!("{} row(s): exactly those that the recorded statement {}", comparison.found, scope.verb()))
            }
            (None, Some(deviation)) => (
                Verdict::Inexact,
                format!("the rows agree but for floating-point numbers, which deviate by {deviation:e} of their size at most"),
            ),
            (Some(_), _) => (
                Verdict::Differs,
                format!(
                    "the statement {} {} row(s), the commit {} {}; they are not the same",
                    scope.verb(),
                    comparison.derived,
                    found.became,
                    comparison.found
                ),
            ),
        };
        Ok(())
    }

    fn query(&self, planned: LogicalPlan) -> Result<Planned> {
        let unsupported = |what: &'static str| Error::new(ErrorKind::Unsupported, what);
        let is_rewrite = dml::is_rewrite(&planned);
        match planned {
            LogicalPlan::Dml(dml) if is_rewrite => {
                let query = dml::remaining(&dml)?
                    .ok_or_else(|| unsupported("the recorded condition is more than one on the table's own columns"))?;
                Ok(Planned { query, input: dml.input.as_ref().clone(), scope: Scope::Table })
            }
            LogicalPlan::Dml(dml) => {
                let input = dml.input.as_ref().clone();
                Ok(Planned { query: input.clone(), input, scope: Scope::Added })
            }
            LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) => {
                let input = create.input.as_ref().clone();
                Ok(Planned { query: write::as_delta(input.clone(), self.location.name())?, input, scope: Scope::Added })
            }
            _ => Err(unsupported("the recorded statement is none of INSERT, CREATE TABLE AS, DELETE and UPDATE")),
        }
    }

    /// A session that has the inputs at their recorded versions and nothing else; functions are those of the caller's session.
    async fn context(&self) -> Result<SessionContext> {
        let schema = Arc::new(MemorySchemaProvider::new());
        let keep = |name: &str, table: Arc<dyn TableProvider>| schema.register_table(name.to_owned(), table).map(drop).map_err(to_error);
        for input in &self.commit.lineage.inputs {
            let name = input.name.as_deref().unwrap_or_default();
            if input.kind != InputKind::Table || name.is_empty() {
                let what = "it read something that is no table of the lake, of which no content was recorded";
                return Err(Error::new(ErrorKind::Unsupported, what).with("input", &input.uri));
            }
            keep(name, Arc::new(self.pinned(input).await?))?;
        }
        let target = self.target_name();
        if !schema.table_exist(&target) && self.commit.lineage.operation == "INSERT" {
            let table = VerifiedTable::open_at(self.location, None, &self.resolver.options, self.commit.version).await?;
            let empty = MemTable::try_new(table.schema(), vec![vec![]]).map_err(to_error)?;
            keep(&target, Arc::new(empty))?;
        }
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema(SCHEMA, schema).map_err(to_error)?;
        let mut config = session_config();
        for (name, value) in &self.commit.lineage.transformation.settings {
            config.options_mut().set(name, value).map_err(|e| {
                Error::new(ErrorKind::Unsupported, "a recorded setting is not known to this engine").with("setting", name).caused_by(e)
            })?;
        }
        // In one order, as the statement ran where its result may depend on the order.
        let config = config.with_target_partitions(1);
        let state = SessionStateBuilder::new_from_existing(self.state.clone())
            .with_config(config)
            .with_catalog_list(Arc::new(MemoryCatalogProviderList::new()))
            .build();
        let context = SessionContext::new_with_state(state);
        context.register_catalog(CATALOG, Arc::new(catalog));
        Ok(context)
    }

    /// The name of the table in the statement: its own, or the one that the session gave it.
    fn target_name(&self) -> String {
        let registered = self.resolver.registered.read();
        let own = registered.iter().find(|(_, location)| location.url() == self.location.url()).map(|(name, _)| name.clone());
        own.unwrap_or_else(|| self.location.name().to_owned())
    }

    /// An input at its recorded version, which must be the one that was read.
    async fn pinned(&self, input: &Input) -> Result<VerifiedTable> {
        let location = self.located(input)?;
        let Some(version) = input.version else {
            return Err(Error::new(ErrorKind::Unsupported, "an input is a folder of Parquet files, which has no versions")
                .with("input", &input.uri));
        };
        let snapshot = table::load(location.store().as_ref(), location.root(), Some(version)).await.map_err(|e| {
            let kind = if e.is_retryable() { e.kind() } else { ErrorKind::NotFound };
            Error::new(kind, "an input can no longer be read at the version that was read")
                .with("input", &input.uri)
                .with("version", version)
                .caused_by(e)
        })?;
        let now = snapshot.commits.iter().find(|commit| commit.version == version).map(|commit| commit.digest);
        if let (Some(recorded), Some(now)) = (input.digest, now)
            && recorded != now
        {
            return Err(Error::new(
                ErrorKind::Mismatch,
                "an input's commit is not the one that was read: the table's history was replaced",
            )
            .with("input", &input.uri)
            .with("version", version));
        }
        if input.table_id.as_ref().is_some_and(|id| *id != snapshot.table_id) {
            return Err(Error::new(ErrorKind::Mismatch, "another table lies where the input was").with("input", &input.uri));
        }
        let trust = self.resolver.trust.as_ref();
        let opened = VerifiedTable::open_at(&location, trust, &self.resolver.options, version).await?;
        opened.check()?;
        Ok(opened)
    }

    fn located(&self, input: &Input) -> Result<Location> {
        let registered = self.resolver.registered.read();
        if let Some(location) = registered.values().find(|location| location.url().as_str() == input.uri) {
            return Ok(location.clone());
        }
        drop(registered);
        if self.location.url().as_str() == input.uri {
            return Ok(self.location.clone());
        }
        let lake = self.resolver.lake.as_ref();
        if !input.uri.starts_with(&format!("{}://", delta::SCHEME)) {
            // A URL out of a stored object is not opened unasked: it could name anything.
            return Err(Error::new(ErrorKind::NotFound, "an input is no table of the lake: name it with --table NAME=TABLE")
                .with("input", &input.uri));
        }
        Location::parse(&input.uri, lake)
    }
}
