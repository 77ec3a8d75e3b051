//! A table that is held against its newest trusted baseline whenever it is scanned.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result as DataFusionResult, Statistics};
use datafusion::datasource::TableType;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

use super::exec::{Registration, Registrations, VerifiedExec, recovered};
use super::open::{self, Opened};
use super::settings::{ReadMode, Settings, VerifyMode};
use super::{check, constants, external, floats, folder, insert};
use crate::baseline::{self, BaselineSummary, Finding, Pins, SealedTable, Trust, Writers};
use crate::clock::{SharedClock, SystemClock};
use crate::delta::{self, Location, StoreRegistry};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::id::LakeId;
use crate::table::{TableKind, TableSnapshot, foreign_file};
use crate::verify::{Reports, VerifiedStore, View};

/// Writers are shown a log of our own in place of one of at most so many versions, each of which is an object of it.
const OWN_LOG_VERSIONS: u64 = 100_000;
/// So much memory one scan takes at most to remember footers.
const FOOTERS_BYTES: usize = 32 << 20;

/// How tables are opened.
#[derive(Debug, Clone)]
pub struct TableOptions {
    /// What is done where a table is not what was sealed.
    pub verify: VerifyMode,
    /// Which version is read.
    pub mode: ReadMode,
    /// Whether a table without a trusted baseline is refused.
    pub require_sealed: bool,
    /// What time it is, for baselines that expire.
    pub clock: SharedClock,
    /// Whose attestations of later commits count, and whether there must be one.
    pub writers: Writers,
    /// The identity of the lake that the session is over, if it is known: pins and logs are then that lake's.
    pub lake_id: Option<LakeId>,
    /// What is known from elsewhere of tables and logs: older ones, and others, are a mismatch.
    pub pins: Option<Arc<Pins>>,
    /// Where it is told what was healed, left out, delivered or refused.
    pub reports: Reports,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            verify: VerifyMode::Enforce,
            mode: ReadMode::Latest,
            require_sealed: false,
            clock: Arc::new(SystemClock),
            writers: Writers::default(),
            lake_id: None,
            pins: None,
            reports: Reports::default(),
        }
    }
}

impl TableOptions {
    /// The part of them that a session may SET.
    pub fn settings(&self) -> Settings {
        Settings { verify: self.verify, read: self.mode }
    }
}

/// A table provider that answers only what the newest trusted baseline covers, or fails with the place of the difference.
#[derive(Debug)]
pub struct VerifiedTable {
    inner: Arc<dyn TableProvider>,
    location: Location,
    verified: Location,
    store: VerifiedStore,
    baseline: Option<BaselineSummary>,
    findings: Vec<Finding>,
    resolved: bool,
    left_out: (usize, usize),
    settings: Settings,
    notes: Vec<String>,
    registrations: Registrations,
    origin: Arc<Origin>,
    /// Tells when the baseline's term is over; absent for what a table was.
    clock: Option<SharedClock>,
    for_writers: Option<ForWriters>,
}

/// What is shown of the table, for those who write on from it, where it is not the stored log: because later commits are not believed, or because a
/// checkpoint says the state.
#[derive(Debug)]
struct ForWriters {
    snapshot: TableSnapshot,
    sealed: SealedTable,
    view: View,
    /// Commits that are passed over.
    passed_over: Vec<u64>,
}

/// What a table is to the lineage of those that read it.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) location: Location,
    /// Delta's id of the table; absent for a folder of Parquet.
    pub(super) table_id: Option<String>,
    pub(super) version: Option<u64>,
    /// The digest of that version's commit, when the log still has it.
    pub(super) commit: Option<Digest>,
    pub(super) baseline: Option<u64>,
}

impl Origin {
    fn of(location: &Location, snapshot: &TableSnapshot, baseline: Option<&BaselineSummary>) -> Self {
        let is_delta = snapshot.kind == TableKind::Delta;
        let commit = snapshot.commits.iter().find(|commit| commit.version == snapshot.version).map(|commit| commit.digest);
        Self {
            location: location.clone(),
            table_id: is_delta.then(|| snapshot.table_id.clone()),
            version: is_delta.then_some(snapshot.version),
            commit,
            baseline: baseline.map(|baseline| baseline.number),
        }
    }
}

impl VerifiedTable {
    /// Opens the table at `location`, at a version that stays the same for the life of this value.
    ///
    /// Reads the newest baseline that `trust` accepts, its evidence, and the log, and compares the two states. In `enforce` a difference
    /// is kept, and every scan fails with it; in the other modes the sealed state is shown instead, or opening fails. Without a trusted
    /// baseline the table is readable and [`Self::notes`] says so. In `quarantine` every sealed file is read once.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthentic`](crate::ErrorKind::Unauthentic) when a baseline is required and no trusted key signed one,
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when there is no table, [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch) when
    /// it cannot even be opened because it differs from what was sealed.
    pub async fn open(location: &Location, trust: Option<&Trust>, options: &TableOptions) -> Result<Self> {
        Self::of(open::open(location, trust, options).await?, options).await
    }

    /// As [`Self::open`] in `enforce`, at `version`, held against the newest baseline that is not newer; without one it is read unverified.
    pub(super) async fn open_at(location: &Location, trust: Option<&Trust>, options: &TableOptions, version: u64) -> Result<Self> {
        let options = TableOptions { verify: VerifyMode::Enforce, ..options.clone() };
        let opened = Self::of(open::open_at(location, trust, &options, version).await?, &options).await?;
        // What a table was does not change when the term of a baseline of that time is over.
        Ok(Self { clock: None, ..opened })
    }

    async fn of(opened: Opened, options: &TableOptions) -> Result<Self> {
        let Opened { location, mut snapshot, sealed, findings, resolved, view, lost_files, mut notes, unbelieved, engine } = opened;
        let location = &location;
        // A log of our own has one commit, of version 0.
        let version = if view.log.is_some() { 0 } else { snapshot.version };
        let left_out = (view.trimmed.values().map(|trimmed| trimmed.skipped.len()).sum(), lost_files);
        // A table that is known to differ may not even open; the difference says more than the failure.
        let known = |error: Error| match &sealed {
            Some(sealed) if !resolved => check::enforce(location.name(), sealed.baseline.number, &findings).err().unwrap_or(error),
            _ => error,
        };
        let engine = engine.filter(|_| view.log.is_none());
        let plain = unbelieved.map(|passed_over| (passed_over, View { log: None, ..view.clone() }));
        let mut store = shown(location, &snapshot, sealed.as_ref(), &view).await.map_err(known)?;
        let mut schema = None;
        if let (TableKind::Parquet, Some(sealed)) = (snapshot.kind, &sealed) {
            let later = folder::later(&location.through(Arc::new(store.clone()))?, &snapshot, sealed).await;
            let later = later.map_err(|e| known(store.recorder().first_error().unwrap_or(e)))?;
            if later.as_ref().is_some_and(|later| leave_out(location, later, &mut snapshot, &mut notes)) {
                store = shown(location, &snapshot, Some(sealed), &view).await.map_err(known)?;
            }
            schema = later.map(|later| later.schema);
        }
        let loaded = match engine {
            Some(engine) => engine.provider(Arc::new(store.clone()), version).await,
            None => None,
        };
        let (verified, inner) = match loaded {
            Some(loaded) => loaded,
            None => {
                let verified = location.through(Arc::new(store.clone()))?;
                match provider(&verified, &snapshot, version, schema).await {
                    Ok(inner) => (verified, inner),
                    Err(error) => return Err(known(store.recorder().first_error().unwrap_or(error))),
                }
            }
        };
        let baseline = sealed.as_ref().map(|sealed| sealed.baseline.clone());
        let origin = Arc::new(Origin::of(location, &snapshot, baseline.as_ref()));
        let for_writers = plain.zip(sealed).map(|((passed_over, view), sealed)| ForWriters { snapshot, sealed, view, passed_over });
        Ok(Self {
            inner,
            location: location.clone(),
            verified,
            store,
            findings,
            resolved,
            left_out,
            settings: options.settings(),
            notes,
            registrations: Registrations::default(),
            origin,
            baseline,
            clock: Some(options.clock.clone()),
            for_writers,
        })
    }

    /// What the table is to the lineage of those that read it.
    pub(super) fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// The baseline that the table is held against; absent when there is none that is trusted.
    pub fn baseline(&self) -> Option<&BaselineSummary> {
        self.baseline.as_ref()
    }

    /// For people: what is read without being verified, and why.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What comparing the states found: mismatches, and later commits that are not sealed.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The store that delivers the table's verified bytes.
    pub fn store(&self) -> &VerifiedStore {
        &self.store
    }

    /// A store that delivers the table's verified bytes under a log of the stored versions, for those who write on from it: statistics that a query
    /// does not believe steer them no more than it. The second says whether that log is one of our own.
    ///
    /// # Errors
    /// [`ErrorKind::Precondition`](crate::ErrorKind::Precondition) where commits are passed over: the files that these took away are not there to
    /// writers; and where the log of our own would have too many versions; those of [`VerifiedStore::new`].
    pub(super) async fn for_writers(&self) -> Result<(VerifiedStore, bool)> {
        let Some(ForWriters { snapshot, sealed, view, passed_over }) = &self.for_writers else { return Ok((self.store.clone(), false)) };
        if let (Some(first), Some(last)) = (passed_over.first(), passed_over.last()) {
            let what = "rows of a table whose rewrites nobody has proven cannot be rewritten: seal it, which compares the new files with those \
                        that they replace, or restore it";
            return Err(Error::new(ErrorKind::Precondition, what)
                .with("table", self.location.name())
                .with("commits", if first == last { first.to_string() } else { format!("{first} to {last}") }));
        }
        if let Some(file) = foreign_file(self.location.root(), snapshot) {
            let what = "DELETE and UPDATE do not change a table that has files of another one: write these files anew first, with the engine that \
                        cloned it (a deep clone, or OPTIMIZE)";
            return Err(Error::new(ErrorKind::Unsupported, what).with("table", self.location.name()).with("file", &file.raw_path));
        }
        if snapshot.version > OWN_LOG_VERSIONS {
            let what = match snapshot.checkpoint {
                Some(_) => {
                    "DELETE and UPDATE do not change a table of so many versions whose first commits are gone: append to it, or copy it anew"
                }
                None => "a table of so many versions is only changed while a baseline covers all of it: seal it",
            };
            return Err(Error::new(ErrorKind::Precondition, what)
                .with("table", self.location.name())
                .with("version", snapshot.version)
                .with("limit", OWN_LOG_VERSIONS));
        }
        let (store, root) = (self.location.store().clone(), self.location.root().clone());
        let view = View { log: Some(open::own_log(&self.location, snapshot, sealed, snapshot.version)?), ..view.clone() };
        Ok((VerifiedStore::with_view(store, root, self.location.name(), snapshot, Some(sealed), view).await?, true))
    }

    /// How the table was opened.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Where the table lies.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Fails, naming the place, when what is shown is not what was sealed: when the stored state is not, unless the sealed one is shown.
    ///
    /// # Errors
    /// Those of [`Self::check_stored`].
    pub fn check(&self) -> Result<()> {
        if self.resolved { self.check_term() } else { self.check_stored() }
    }

    /// Whether the stored state was found to be what was sealed, and later commits.
    pub(super) fn is_as_sealed(&self) -> bool {
        !self.resolved && self.left_out == (0, 0) && self.check_stored().is_ok()
    }

    /// Fails, naming the place, when the table's stored state is not what was sealed.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`](crate::ErrorKind::Mismatch), or [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when it could not be
    /// determined.
    pub fn check_stored(&self) -> Result<()> {
        let number = self.baseline.as_ref().map_or(0, |baseline| baseline.number);
        check::enforce(self.location.name(), number, &self.findings)?;
        self.check_term()
    }

    /// A table may stay open for longer than its baseline holds.
    fn check_term(&self) -> Result<()> {
        let (Some(clock), Some(baseline)) = (&self.clock, &self.baseline) else { return Ok(()) };
        let expired = baseline::compare_term(baseline, clock.now_ms());
        check::enforce(self.location.name(), baseline.number, expired.as_slice())
    }

    /// A view, or a prepared statement, keeps the table as it was when it was made: one that was made with verification off must not answer a
    /// session that asks for it.
    fn check_settings(&self, state: &dyn Session) -> Result<()> {
        match Settings::of(state.config_options()) {
            Some(settings) if self.clock.is_some() && settings != self.settings => Err(Error::new(
                ErrorKind::Precondition,
                "a view or a prepared statement was made while lakeseal.verify or lakeseal.read was set otherwise: make it anew",
            )
            .with("table", self.location.name())
            .with("made with", self.settings)
            .with("now", settings)),
            _ => Ok(()),
        }
    }

    /// Makes the table's store known to the session that is going to execute the plan.
    fn register(&self, state: &dyn Session) -> Arc<Registration> {
        self.registrations.register(state.runtime_env(), self.verified.engine_url(), Arc::new(self.store.clone()))
    }
}

/// The table's verified bytes.
async fn shown(location: &Location, snapshot: &TableSnapshot, sealed: Option<&SealedTable>, view: &View) -> Result<VerifiedStore> {
    let (store, root) = (location.store().clone(), location.root().clone());
    let shown = VerifiedStore::with_view(store, root, location.name(), snapshot, sealed, view.clone()).await;
    shown.map_err(|e| e.with("table", location.name()))
}

async fn provider(
    location: &Location,
    snapshot: &TableSnapshot,
    version: u64,
    schema: Option<SchemaRef>,
) -> Result<Arc<dyn TableProvider>> {
    match snapshot.kind {
        TableKind::Delta => delta::provider(location, version).await,
        TableKind::Parquet => folder::provider(location, snapshot, schema).await,
    }
}

/// Takes the files of a folder out that nobody sealed and that cannot be read beside the sealed ones; says whether there are any.
fn leave_out(location: &Location, later: &folder::Later, snapshot: &mut TableSnapshot, notes: &mut Vec<String>) -> bool {
    for (key, why) in &later.unfit {
        notes.push(format!("{}: {} is left out: nobody sealed it, and {why}", location.name(), key.path));
        snapshot.files.remove(key);
    }
    if !later.hidden.is_empty() {
        let columns: Vec<&str> = later.hidden.iter().map(String::as_str).collect();
        notes.push(format!("{}: columns that no sealed file has are not shown: {}", location.name(), columns.join(", ")));
    }
    !later.unfit.is_empty()
}

#[async_trait]
impl TableProvider for VerifiedTable {
    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        None
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.check().map_err(external)?;
        self.check_settings(state).map_err(external)?;
        let registration = self.register(state);
        self.store.begin_query();
        self.note_scan(projection, filters);
        // Footers must not come from a cache that other tables of the caller's session fill: it is keyed by path alone.
        let own = self.own_state(state)?;
        let recorder = self.store.recorder().clone();
        let schema = self.schema();
        let pruning: Vec<Expr> = filters.iter().filter(|filter| !floats::speaks_of_floats(filter, &schema)).cloned().collect();
        let limit = limit.filter(|_| pruning.len() == filters.len());
        let plan = self.inner.scan(&own, projection, &pruning, limit).await.map_err(|e| recovered(&recorder, e))?;
        let plan = constants::without_constant_floats(plan)?;
        Ok(Arc::new(VerifiedExec::new(plan, recorder, registration, self.left_out)))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let (schema, supported) = (self.schema(), self.inner.supports_filters_pushdown(filters)?);
        let of = |(filter, supported): (&&Expr, TableProviderFilterPushDown)| match floats::speaks_of_floats(filter, &schema) {
            true => TableProviderFilterPushDown::Unsupported,
            false => supported,
        };
        Ok(filters.iter().zip(supported).map(of).collect())
    }

    fn statistics(&self) -> Option<Statistics> {
        self.check().ok().and_then(|()| self.inner.statistics())
    }

    async fn insert_into(
        &self,
        _: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        operation: InsertOp,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.check_stored().map_err(external)?;
        insert::plan(&self.location, self.schema(), input, operation).map_err(external)
    }
}

impl VerifiedTable {
    /// Tells those who take down what is read, what is asked for.
    fn note_scan(&self, projection: Option<&Vec<usize>>, filters: &[Expr]) {
        let schema = self.inner.schema();
        let columns = match projection {
            Some(wanted) => wanted.iter().filter_map(|at| schema.fields().get(*at)).map(|field| field.name().clone()).collect(),
            None => schema.fields().iter().map(|field| field.name().clone()).collect(),
        };
        let filters = filters.iter().flat_map(Expr::column_refs).map(|column| column.name.clone()).collect();
        self.store.note_scan(&columns, &filters);
    }

    /// The session by which the table is scanned: with the caller's settings but for those that let a file steer what is read of it.
    fn own_state(&self, state: &dyn Session) -> DataFusionResult<SessionState> {
        let registry = StoreRegistry::default();
        registry.pin(self.verified.engine_url(), Arc::new(self.store.clone()));
        // Its footers are this scan's own, of verified bytes: they are read once, whatever the number of partitions.
        let runtime = delta::runtime_with_footers(Arc::new(registry), FOOTERS_BYTES).map_err(external)?;
        let builder = match state.as_any().downcast_ref::<SessionState>() {
            Some(state) => SessionStateBuilder::new_from_existing(state.clone()),
            None => SessionStateBuilder::new().with_default_features().with_config(state.config().clone()),
        };
        let mut builder = builder.with_runtime_env(runtime);
        // Changed in place: a configuration from elsewhere would have the builder put an empty catalog over the session's own.
        if let Some(config) = builder.config() {
            folder::read_subfolders(config);
            delta::believe_chunks_only(&mut config.options_mut().execution.parquet);
        }
        Ok(builder.build())
    }
}
