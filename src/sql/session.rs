//! A DataFusion session in which every table is verified.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, TableProvider as _};
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use parking_lot::RwLock;

use super::catalog::{LakeSchema, Registered, Resolver, Suspects};
use super::guard::VerifiedScansOnly;
use super::newest::Named;
use super::settings::Settings;
use super::table::{TableOptions, VerifiedTable};
use super::{derivation, drift, functions, lineage, lineage_graph, poison_diff, reports};
use super::{to_error, write};
use crate::baseline::Trust;
use crate::delta::{self, LakeStore, Location, StoreRegistry};
use crate::digest::Digest;
use crate::error::Result;
use crate::lineage::CommitLineage;
use crate::verify::Reports;

/// Name of the session's catalog and of its one schema.
pub(super) const CATALOG: &str = "lakeseal";
pub(super) const SCHEMA: &str = "lake";

/// What a session is made of.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// The lake whose tables can be named plainly; without one, tables are named by path or URL in double quotes.
    pub lake: Option<LakeStore>,
    /// Whose baselines count; without anybody, nothing is verified, and the notes say so.
    pub trust: Option<Trust>,
    /// How tables are opened.
    pub tables: TableOptions,
}

/// A session that reads verified tables and nothing else: no local files, no URLs, no stores that were not opened here.
#[derive(Clone)]
pub struct SealedSession {
    context: SessionContext,
    resolver: Arc<Resolver>,
    suspects: Suspects,
    /// The lake's tables, as they were last listed.
    names: Arc<RwLock<Vec<String>>>,
}

/// The settings that a session begins with.
pub(super) fn session_config() -> SessionConfig {
    delta::session_config()
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .with_option_extension(Settings::default())
}

impl SealedSession {
    /// A session over the given lake. Lists the lake's tables once, for those who ask which there are; tables are opened when a query names them.
    ///
    /// # Errors
    /// Whatever listing the lake fails with.
    pub async fn new(options: SessionOptions) -> Result<Self> {
        let names = Arc::new(RwLock::new(listed(options.lake.as_ref()).await?));
        let settings = options.tables.settings();
        let resolver = Arc::new(Resolver {
            lake: options.lake,
            trust: options.trust,
            options: options.tables,
            registered: RwLock::default(),
            functions: RwLock::default(),
            notes: RwLock::default(),
            session: OnceLock::new(),
        });
        let suspects = Suspects::default();
        let schema = LakeSchema {
            resolver: resolver.clone(),
            names: names.clone(),
            registered: RwLock::new(HashMap::new()),
            suspects: suspects.clone(),
        };
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema(SCHEMA, Arc::new(schema)).map_err(to_error)?;
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_config(session_config().with_option_extension(settings))
            .with_runtime_env(delta::runtime(Arc::new(StoreRegistry::default()))?)
            .with_physical_optimizer_rules(VerifiedScansOnly::around_default_rules())
            .build();
        let context = SessionContext::new_with_state(state);
        context.register_catalog(CATALOG, Arc::new(catalog));
        functions::register(&context, &resolver);
        lineage::register(&context, &resolver);
        derivation::register(&context, &resolver);
        poison_diff::register(&context, &resolver);
        drift::register(&context, &resolver);
        reports::register(&context, &resolver.options.reports);
        // Set once, here: the session exists only now.
        let _ = resolver.session.set(context.state_weak_ref());
        Ok(Self { context, resolver, suspects, names })
    }

    /// DataFusion's own session.
    pub fn context(&self) -> &SessionContext {
        &self.context
    }

    /// Lists the lake's tables anew, for `SHOW TABLES` and completion: queries find a table by its name whenever it was made.
    ///
    /// # Errors
    /// Whatever listing the lake fails with.
    pub async fn list_tables(&self) -> Result<()> {
        let names = listed(self.resolver.lake.as_ref()).await?;
        *self.names.write() = names;
        Ok(())
    }

    /// Opens the table at `location` and makes it queryable as `name`. A later query that names it opens it anew where it was committed to or
    /// sealed since, where it differed from its baseline, and where the session's settings are others than those it was opened with; to look costs a
    /// query three LISTs at most. What is given back stays at the version that the table has now.
    ///
    /// # Errors
    /// Those of [`VerifiedTable::open`].
    pub async fn register(&self, name: &str, location: &Location) -> Result<Arc<VerifiedTable>> {
        let table = self.offer(name, location).await?;
        self.resolver.note_all(&table);
        Ok(table)
    }

    /// As [`Self::register`]; what there is to be noted of the table is noted once a query names it.
    ///
    /// # Errors
    /// Those of [`VerifiedTable::open`].
    pub async fn offer(&self, name: &str, location: &Location) -> Result<Arc<VerifiedTable>> {
        let named = Named::about_to_open(location).await;
        let table = Arc::new(self.resolver.open(location).await?);
        self.resolver.registered.write().insert(name.to_owned(), Arc::new(Registered { named, table: table.clone() }));
        Ok(table)
    }

    /// The columns of a table, for completion: nothing is noted or reported of it, for nobody asked about it.
    ///
    /// # Errors
    /// Those of [`VerifiedTable::open`].
    pub async fn peek(&self, table: &str) -> Result<SchemaRef> {
        let location = self.resolver.location_of(table)?;
        let options = TableOptions { reports: Reports::default(), ..self.resolver.table_options() };
        let opened = VerifiedTable::open(&location, self.resolver.trust.as_ref(), &options).await?;
        Ok(opened.schema())
    }

    /// Says what code the function `name` is, which is registered with [`Self::context`]: a digest of its source or its library, and the caller's to
    /// choose. Statements that call it record the digest, and `verify_derivation` runs one again only where the code is the one that ran then.
    pub fn declare_function(&self, name: &str, code: Digest) {
        self.resolver.functions.write().insert(name.to_owned(), code);
    }

    /// Plans `query`. Names of tables are case-sensitive. What it writes gets lineage; `CREATE TABLE … AS` makes a table of the lake.
    /// `SET lakeseal.verify = …` and `SET lakeseal.read = …` hold for later queries ([`Settings`](super::Settings)).
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) when a table that it names cannot be opened as it was sealed.
    pub async fn sql(&self, query: &str) -> Result<DataFrame> {
        let planned = write::plan(&self.context, &self.resolver, query).await;
        // A query over a forged schema fails for a reason that is none, and to describe the table would repeat the forgery.
        let told = self.suspects.take();
        match planned {
            Ok(frame) if !matches!(frame.logical_plan(), LogicalPlan::DescribeTable(_)) => Ok(frame),
            Ok(frame) => told.map(|()| frame),
            Err(error) => Err(told.err().unwrap_or(error)),
        }
    }

    /// Runs `query` to its end. Holds the whole result in memory.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) naming table, file, row group and column when what it would read is not
    /// what was sealed; no rows are returned then.
    pub async fn run(&self, query: &str) -> Result<Vec<RecordBatch>> {
        self.sql(query).await?.collect().await.map_err(to_error)
    }

    /// The lineage of every commit of a table, oldest first.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when there is no such Delta table.
    pub async fn lineage(&self, table: &str) -> Result<(Location, Vec<CommitLineage>)> {
        let location = self.resolver.location_of(table)?;
        let commits = lineage_graph::table_commits(&self.resolver, &location).await?;
        Ok((location, commits))
    }

    /// What was healed, left out, delivered or refused in all queries so far. SQL has the same as `reports()`.
    pub fn reports(&self) -> &Reports {
        &self.resolver.options.reports
    }

    /// For people: what was read without being verified, and why, in all queries so far.
    pub fn notes(&self) -> Vec<String> {
        self.resolver.notes.read().clone()
    }
}

async fn listed(lake: Option<&LakeStore>) -> Result<Vec<String>> {
    match lake {
        Some(lake) => delta::tables(lake.store.as_ref()).await,
        None => Ok(Vec::new()),
    }
}

impl std::fmt::Debug for SealedSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedSession").field("resolver", &self.resolver).finish_non_exhaustive()
    }
}
