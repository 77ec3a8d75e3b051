//! `verify_derivation('t')`: runs the recorded statement of a commit again, over the recorded versions of its inputs, and compares the rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result as DataFusionResult, ScalarValue, plan_err};
use datafusion::datasource::TableType;
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;

use super::answer::AnswerExec;
use super::batches::{Batches, TEXT_LIMIT_BYTES, chunked, shown_text, streamed};
use super::catalog::Resolver;
use super::external;
use super::lineage::{integer_of, literal, text_of};
use super::replay::Replay;
use super::rows_compared::Comparison;
use crate::delta::Location;
use crate::error::{Error, ErrorKind, Result};
use crate::lineage::CommitLineage;

const NAME: &str = "verify_derivation";

pub(super) fn register(context: &SessionContext, resolver: &Arc<Resolver>) {
    context.register_udtf(NAME, Arc::new(Function { resolver: resolver.clone() }));
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
pub(super) enum Verdict {
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
pub(super) struct Outcome {
    version: u64,
    operation: String,
    pub(super) verdict: Verdict,
    pub(super) comparison: Comparison,
    pub(super) plan: &'static str,
    pub(super) detail: String,
    attested_by: Option<String>,
    sql: Option<String>,
}

impl Outcome {
    /// The bytes of its texts that have no bound of their own.
    fn texts(&self) -> usize {
        let sql = self.sql.as_ref().map_or(0, |sql| sql.len().min(TEXT_LIMIT_BYTES));
        let difference = self.comparison.first_difference.as_ref().map_or(0, String::len);
        sql + difference + self.detail.len() + self.operation.len()
    }
}

#[derive(Debug)]
struct Function {
    resolver: Arc<Resolver>,
}

impl TableFunctionImpl for Function {
    fn call_with_args(&self, args: TableFunctionArgs) -> DataFusionResult<Arc<dyn TableProvider>> {
        let literals: Option<Vec<&ScalarValue>> = args.exprs().iter().map(literal).collect();
        let (table, version) = match literals.as_deref() {
            Some([table]) => (text_of(table), Some(None)),
            Some([table, version]) if version.is_null() => (text_of(table), Some(None)),
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
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let Some(own) = state.as_any().downcast_ref::<SessionState>() else {
            return plan_err!("verify_derivation needs a session of this process");
        };
        let outcomes = Arc::new(self.outcomes(own).await.map_err(external)?);
        let schema = self.schema.clone();
        let batches = Batches::new(self.schema.clone(), move || {
            let (weighed, shown) = (outcomes.clone(), outcomes.clone());
            let texts = move |at: &usize| weighed.get(*at).map_or(0, Outcome::texts);
            chunked(&schema, 0..outcomes.len(), texts, move |rows| {
                columns(&rows.iter().filter_map(|at| shown.get(*at)).collect::<Vec<_>>())
            })
        });
        let plan = streamed(batches)?.scan(state, projection, filters, limit).await?;
        Ok(AnswerExec::of(NAME, plan))
    }
}

fn columns(outcomes: &[&Outcome]) -> Vec<ArrayRef> {
    let text = |value: &dyn Fn(&Outcome) -> Option<String>| {
        Arc::new(outcomes.iter().map(|o| value(o).map(|text| shown_text(&text).into_owned())).collect::<StringArray>())
    };
    let number = |value: &dyn Fn(&Outcome) -> Option<u64>| Arc::new(outcomes.iter().map(|o| value(o)).collect::<UInt64Array>());
    let ran = |o: &Outcome| o.verdict != Verdict::Undetermined;
    vec![
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
    ]
}

impl FunctionTable {
    async fn outcomes(&self, state: &SessionState) -> Result<Vec<Outcome>> {
        let location = self.resolver.location_of(&self.table)?;
        let found = self.resolver.lineage(&location).await.map_err(|e| e.with("table", &self.table))?;
        if let Some(version) = self.version
            && !found.commits.iter().any(|commit| commit.version == version)
        {
            let forgotten = found.gaps.forgotten.iter().any(|(from, to)| (*from..=*to).contains(&version));
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
