//! Running the recorded statement of one commit again, for `verify_derivation`.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, MemTable, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider};
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::source_as_provider;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{DdlStatement, LogicalPlan, WriteOp};
use datafusion::prelude::SessionContext;

use super::catalog::Resolver;
use super::derivation::{Outcome, Verdict};
use super::held::{CommitFiles, Held};
use super::record::{PlanFacts, fingerprint};
use super::rows_compared::{Comparison, Found, compare};
use super::session::{CATALOG, SCHEMA, session_config};
use super::table::VerifiedTable;
use super::{dml, to_error, write};
use crate::delta::{self, Location, engine_versions};
use crate::error::{Error, ErrorKind, Result};
use crate::lineage::{CommitLineage, Input, InputKind};
use crate::table::{self, FileKey, TableSnapshot};

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
pub(super) enum Scope {
    /// Which rows are added to those that are there.
    Appended,
    /// Which rows take the place of all that are there.
    Overwritten,
    /// Which rows the table that it makes has.
    Created,
    /// Which rows are left. All of them are compared: a row in a file that should have been touched and was not differs, too.
    Table,
}

impl Scope {
    const fn verb(self) -> &'static str {
        match self {
            Self::Appended | Self::Overwritten | Self::Created => "gives",
            Self::Table => "leaves",
        }
    }
}

/// An input at its recorded version.
struct Pinned {
    name: String,
    uri: String,
    version: u64,
    table: Arc<dyn TableProvider>,
    snapshot: TableSnapshot,
    /// What could not be held against anything.
    unheld: Vec<String>,
}

/// The session that the statement is planned in.
struct Stage {
    context: SessionContext,
    inputs: Vec<Pinned>,
    /// The table that is written to, without rows, where the statement does not read it.
    target: Option<Arc<dyn TableProvider>>,
}

impl Stage {
    /// Fails where the statement reads anything but the pinned tables, or calls what gives something else each time: the record's own list of
    /// such functions is a claim.
    fn check(&self, plan: &LogicalPlan, facts: &PlanFacts) -> Result<()> {
        if !facts.volatile().is_empty() {
            let names: Vec<&str> = facts.volatile().iter().map(String::as_str).collect();
            return Err(Error::new(ErrorKind::Unsupported, "its result depends on more than its inputs, and its record does not say so")
                .with("functions", names.join(", ")));
        }
        let mut other: Option<String> = None;
        let walked = plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                let provider = source_as_provider(&scan.source)?;
                let own = self.inputs.iter().map(|input| &input.table).chain(&self.target);
                if !own.into_iter().any(|own| Arc::ptr_eq(own, &provider)) {
                    other = other.take().or_else(|| Some(scan.table_name.to_string()));
                }
            }
            Ok(TreeNodeRecursion::Continue)
        });
        walked.map_err(to_error)?;
        match other {
            Some(name) => {
                Err(Error::new(ErrorKind::Unsupported, "the recorded statement reads something of which no content was recorded")
                    .with("input", name))
            }
            None => Ok(()),
        }
    }

    /// What the verdict is about: each input as the statement names it, the table and version that the record gives it, and what was not held.
    fn told(&self) -> String {
        let inputs = self.inputs.iter().map(|input| format!("{} = {}@{}", input.name, input.uri, input.version)).collect::<Vec<_>>();
        let over = if inputs.is_empty() { "no input".to_owned() } else { inputs.join(", ") };
        let unheld: Vec<&str> = self.inputs.iter().flat_map(|input| &input.unheld).map(String::as_str).collect();
        if unheld.is_empty() { format!("over {over}") } else { format!("over {over}; {}", unheld.join("; ")) }
    }
}

pub(super) struct Replay<'a> {
    pub(super) resolver: &'a Resolver,
    pub(super) state: &'a SessionState,
    pub(super) location: &'a Location,
    pub(super) commit: &'a CommitLineage,
}

impl Replay<'_> {
    /// Runs the statement, and says in `outcome` what that came to.
    ///
    /// # Errors
    /// Whatever keeps it from being run, or its result from being judged.
    pub(super) async fn run(&self, outcome: &mut Outcome) -> Result<()> {
        let recorded = &self.commit.lineage.transformation;
        let stage = self.stage().await?;
        let sql = recorded.sql.as_deref().unwrap_or_default();
        let planned = stage.context.state().create_logical_plan(sql).await.map_err(|e| {
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
        stage.check(&input, &facts)?;
        let functions = self.check_functions(&facts)?;
        let files = CommitFiles::load(self.location, self.commit).await?;
        let (held, unheld) = match &files {
            Ok(files) => (self.held(files, scope, &stage).await?, files.unheld(scope)),
            Err(replaced) => (Held::differs(replaced.clone()), Vec::new()),
        };
        let (comparison, what) = match (held.differs, &files) {
            (None, Ok(files)) => {
                let found = self.found(files, scope, &held.left_out).await?;
                let comparison = compare(&stage.context, query, &found, facts.order_matters()).await?;
                let what = said(&comparison, scope, found.became);
                (comparison, what)
            }
            (differs, _) => {
                let comparison = Comparison { first_difference: differs, ..Comparison::default() };
                (comparison, "the commit did something else than the recorded statement does".to_owned())
            }
        };
        outcome.verdict = match (&comparison.first_difference, comparison.deviation) {
            (None, None) => Verdict::Reproduced,
            (None, Some(_)) => Verdict::Inexact,
            (Some(_), _) => Verdict::Differs,
        };
        outcome.detail = [vec![what, stage.told()], functions, unheld].concat().join("; ");
        outcome.comparison = comparison;
        Ok(())
    }

    /// Holds the functions that are not the engine's own against the code that ran then. Says of which ones that is not known.
    fn check_functions(&self, facts: &PlanFacts) -> Result<Vec<String>> {
        let (recorded, declared) = (&self.commit.lineage.transformation.function_digests, self.resolver.functions.read());
        let mut unknown = Vec::new();
        for name in facts.user_defined() {
            match (recorded.get(name), declared.get(name)) {
                (Some(then), Some(now)) if then == now => {}
                (Some(then), Some(now)) => {
                    return Err(Error::new(ErrorKind::Mismatch, "the function is not the code that ran then")
                        .with("function", name)
                        .with("then", then)
                        .with("now", now));
                }
                (Some(then), None) => {
                    unknown.push(format!("whether '{name}' is the code {then} that ran then is not known: it is not declared"))
                }
                (None, _) => unknown.push(format!("which code '{name}' was is not recorded")),
            }
        }
        Ok(unknown)
    }

    /// What the commit did to the files of the table, against what such a statement does.
    async fn held(&self, files: &CommitFiles<'_>, scope: Scope, stage: &Stage) -> Result<Held> {
        if let Some(differs) = files.does_besides(scope, self.commit) {
            return Ok(Held::differs(differs));
        }
        match scope {
            Scope::Appended => Ok(files.appended()),
            Scope::Overwritten => files.overwritten().await,
            Scope::Created => Ok(files.created()),
            Scope::Table => match stage.inputs.as_slice() {
                [only] if only.uri == self.location.url().as_str() => files.rewritten(&only.snapshot),
                [only] => Ok(Held::differs(format!("the statement is recorded as run over {}, which is not this table", only.uri))),
                _ => Err(Error::new(
                    ErrorKind::Unsupported,
                    "a DELETE or an UPDATE reads the one table that it changes, and more is recorded",
                )
                .with("inputs", stage.inputs.len())),
            },
        }
    }

    async fn found(&self, files: &CommitFiles<'_>, scope: Scope, left_out: &BTreeSet<FileKey>) -> Result<Found> {
        let version = self.commit.version;
        match scope {
            Scope::Appended | Scope::Overwritten | Scope::Created => {
                Found::of(self.location, self.commit, &files.after, "added", |file| file.added_in == Some(version)).await
            }
            Scope::Table => Found::of(self.location, self.commit, &files.after, "left", |file| !left_out.contains(&file.key)).await,
        }
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
                let scope = match dml.op {
                    WriteOp::Insert(InsertOp::Append) => Scope::Appended,
                    WriteOp::Insert(InsertOp::Overwrite) => Scope::Overwritten,
                    _ => return Err(unsupported("the recorded statement is none of INSERT, CREATE TABLE AS, DELETE and UPDATE")),
                };
                Ok(Planned { query: input.clone(), input, scope })
            }
            LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) => {
                let input = create.input.as_ref().clone();
                Ok(Planned { query: write::as_delta(input.clone(), self.location.name())?, input, scope: Scope::Created })
            }
            _ => Err(unsupported("the recorded statement is none of INSERT, CREATE TABLE AS, DELETE and UPDATE")),
        }
    }

    /// A session that has the inputs at their recorded versions and nothing else; functions are those of the caller's session.
    async fn stage(&self) -> Result<Stage> {
        let schema = Arc::new(MemorySchemaProvider::new());
        let keep = |name: &str, table: Arc<dyn TableProvider>| schema.register_table(name.to_owned(), table).map(drop).map_err(to_error);
        let mut inputs: Vec<Pinned> = Vec::new();
        for input in &self.commit.lineage.inputs {
            let name = input.name.as_deref().unwrap_or_default();
            if input.kind != InputKind::Table || name.is_empty() {
                let what = "it read something that is no table of the lake, of which no content was recorded";
                return Err(Error::new(ErrorKind::Unsupported, what).with("input", &input.uri));
            }
            if inputs.iter().any(|known| known.name == name) {
                return Err(Error::new(ErrorKind::Unsupported, "two inputs are recorded under one name").with("input", name));
            }
            let pinned = self.pinned(name, input).await?;
            keep(name, pinned.table.clone())?;
            inputs.push(pinned);
        }
        let (name, mut target) = (self.target_name(), None);
        if !schema.table_exist(&name) && self.commit.lineage.operation == "INSERT" {
            let table = VerifiedTable::open_at(self.location, None, &self.resolver.options, self.commit.version).await?;
            let empty: Arc<dyn TableProvider> = Arc::new(MemTable::try_new(table.schema(), vec![vec![]]).map_err(to_error)?);
            keep(&name, target.insert(empty).clone())?;
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
        Ok(Stage { context, inputs, target })
    }

    /// The name of the table in the statement: its own, or the one that the session gave it.
    fn target_name(&self) -> String {
        let registered = self.resolver.registered.read();
        let own = registered.iter().find(|(_, known)| known.named.location.url() == self.location.url()).map(|(name, _)| name.clone());
        own.unwrap_or_else(|| self.location.name().to_owned())
    }

    /// An input at its recorded version, which must be the one that was read.
    async fn pinned(&self, name: &str, input: &Input) -> Result<Pinned> {
        let location = self.located(input)?;
        let problem = |kind: ErrorKind, what: &'static str| Error::new(kind, what).with("input", &input.uri);
        let Some(version) = input.version else {
            return Err(problem(ErrorKind::Unsupported, "an input is a folder of Parquet files, which has no versions"));
        };
        if location.url() == self.location.url() && version >= self.commit.version {
            let what = "the commit is recorded as made from a version of its own table that was not there before it";
            return Err(problem(ErrorKind::Mismatch, what).with("version", version));
        }
        let snapshot = table::load(location.store().as_ref(), location.root(), Some(version)).await.map_err(|e| {
            let kind = if e.is_retryable() { e.kind() } else { ErrorKind::NotFound };
            problem(kind, "an input can no longer be read at the version that was read").with("version", version).caused_by(e)
        })?;
        let mut unheld = Vec::new();
        let now = snapshot.commits.iter().find(|commit| commit.version == version).map(|commit| commit.digest);
        match (input.digest, now) {
            (Some(recorded), Some(now)) if recorded != now => {
                let what = "an input's commit is not the one that was read: the table's history was replaced";
                return Err(problem(ErrorKind::Mismatch, what).with("version", version));
            }
            (Some(_), Some(_)) => {}
            (None, _) => unheld
                .push(format!("no digest of {name}'s version {version} is recorded: whether it is the one that was read is not known")),
            (_, None) => {
                unheld.push(format!("the commit of {name}'s version {version} is gone: whether it is the one that was read is not known"))
            }
        }
        if input.table_id.as_ref().is_some_and(|id| *id != snapshot.table_id) {
            return Err(problem(ErrorKind::Mismatch, "another table lies where the input was"));
        }
        let trust = self.resolver.trust.as_ref();
        let opened = VerifiedTable::open_at(&location, trust, &self.resolver.options, version).await?;
        opened.check()?;
        unheld.extend(opened.notes().iter().map(|note| format!("{name}: {note}")));
        Ok(Pinned { name: name.to_owned(), uri: input.uri.clone(), version, table: Arc::new(opened), snapshot, unheld })
    }

    fn located(&self, input: &Input) -> Result<Location> {
        let registered = self.resolver.registered.read();
        if let Some(known) = registered.values().find(|known| known.named.location.url().as_str() == input.uri) {
            return Ok(known.named.location.clone());
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

/// What a comparison of rows came to, in words.
fn said(comparison: &Comparison, scope: Scope, became: &str) -> String {
    match (&comparison.first_difference, comparison.deviation) {
        (None, None) => format!("{} row(s): exactly those that the recorded statement {}", comparison.found, scope.verb()),
        (None, Some(deviation)) => {
            format!("the rows agree but for floating-point numbers, which deviate by {deviation:e} of their size at most")
        }
        (Some(_), _) => format!(
            "the statement {} {} row(s), the commit {became} {}; they are not the same",
            scope.verb(),
            comparison.derived,
            comparison.found
        ),
    }
}
