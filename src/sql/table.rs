//! A table that is held against its newest trusted baseline whenever it is scanned.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result as DataFusionResult, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;

use super::exec::{Registration, Registrations, VerifiedExec, recovered};
use super::{check, external, insert, to_error};
use crate::baseline::{self, BaselineSummary, Finding, Outcome, Pins, Place, Repository, SealedTable, Trust, Verdict, Writers};
use crate::clock::{SharedClock, SystemClock};
use crate::delta::{self, Location, StoreRegistry};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::id::LakeId;
use crate::table::{self, TableKind, TableSnapshot};
use crate::verify::VerifiedStore;

/// So many files are read to place a difference that the log shows.
const PLACED_FILES: usize = 4;

/// Which version of a sealed table is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadMode {
    /// The newest: commits, or files of a folder, that came after the baseline are read unverified, and noted. Their statistics are
    /// believed, too: a forged one in a commit that no baseline covers can hide or invent rows of that commit's own files.
    #[default]
    Latest,
    /// Exactly what the baseline sealed.
    Sealed,
}

/// How tables are opened.
#[derive(Debug, Clone)]
pub struct TableOptions {
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
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            mode: ReadMode::Latest,
            require_sealed: false,
            clock: Arc::new(SystemClock),
            writers: Writers::default(),
            lake_id: None,
            pins: None,
        }
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
    notes: Vec<String>,
    registrations: Registrations,
    origin: Arc<Origin>,
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
    /// Reads the newest baseline that `trust` accepts, its evidence, and the log, and compares the two states; a difference is
    /// kept, and every scan fails with it. Without a trusted baseline the table is readable and [`Self::notes`] says so.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthentic`] when a baseline is required and no trusted key signed one, [`ErrorKind::NotFound`] when there is
    /// no table, [`ErrorKind::Mismatch`] when it cannot even be opened because it differs from what was sealed.
    pub async fn open(location: &Location, trust: Option<&Trust>, options: &TableOptions) -> Result<Self> {
        Self::open_at(location, trust, options, None).await
    }

    /// As [`Self::open`], at `version`, held against the newest baseline that is not newer; without one it is read unverified.
    pub(super) async fn open_at(location: &Location, trust: Option<&Trust>, options: &TableOptions, version: Option<u64>) -> Result<Self> {
        let repository = Repository::new(location.store().clone(), location.root().clone());
        let mut notes = Vec::new();
        let (sealed, known) = match (version, trust) {
            (None, _) => newest(location, &repository, trust, options, &mut notes).await?,
            // Pins and the log say what is newest, not what was then.
            (Some(version), Some(trust)) => (newest_until(&repository, trust, version).await?, Vec::new()),
            (Some(_), None) => (None, Vec::new()),
        };
        let version = match (&sealed, options.mode) {
            (Some(sealed), ReadMode::Sealed) if version.is_none() => sealed.baseline.version,
            _ => version,
        };
        let is_old = version.is_some();
        let snapshot = load(location, version, sealed.as_ref()).await?;
        let mut findings = match &sealed {
            Some(sealed) => compare(location, options, &snapshot, sealed).await?,
            None => Vec::new(),
        };
        // What a table was does not change when the term of a baseline of that time is over.
        findings.retain(|finding| !(is_old && options.mode == ReadMode::Latest && finding.verdict == Verdict::Expired));
        findings.extend(known);
        note_unsealed(location, sealed.as_ref(), &findings, &mut notes);
        let snapshot = narrowed(snapshot, sealed.as_ref(), options.mode);
        let store =
            VerifiedStore::new(location.store().clone(), location.root().clone(), location.name(), &snapshot, sealed.as_ref()).await?;
        let verified = location.through(Arc::new(store.clone()))?;
        // A table that is known to differ may not even open; the difference says more than the failure.
        let inner = match provider(&verified, &snapshot).await {
            Ok(inner) => inner,
            Err(error) => {
                if let Some(sealed) = &sealed {
                    check::enforce(location.name(), sealed.baseline.number, &findings)?;
                }
                return Err(store.recorder().first_error().unwrap_or(error));
            }
        };
        let baseline = sealed.map(|sealed| sealed.baseline);
        let registrations = Registrations::default();
        let origin = Arc::new(Origin::of(location, &snapshot, baseline.as_ref()));
        Ok(Self { inner, location: location.clone(), verified, store, baseline, findings, notes, registrations, origin })
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

    /// Fails, naming the place, when the table's state is not what was sealed.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`], or [`ErrorKind::Unavailable`] when it could not be determined.
    pub fn check(&self) -> Result<()> {
        let number = self.baseline.as_ref().map_or(0, |baseline| baseline.number);
        check::enforce(self.location.name(), number, &self.findings)
    }

    /// Makes the table's store known to the session that is going to execute the plan.
    fn register(&self, state: &dyn Session) -> Arc<Registration> {
        self.registrations.register(state.runtime_env(), self.verified.engine_url(), Arc::new(self.store.clone()))
    }
}

/// The newest baseline that is trusted, and what is wrong with it beside pins and the log.
async fn newest(
    location: &Location,
    repository: &Repository,
    trust: Option<&Trust>,
    options: &TableOptions,
    notes: &mut Vec<String>,
) -> Result<(Option<SealedTable>, Vec<Finding>)> {
    let mut known = Vec::new();
    if let Some(trust) = trust {
        let found = repository.newest_baseline(trust).await.map_err(|e| e.with("table", location.name()))?;
        let place = location.clone().of_lake(options.lake_id);
        let pins = options.pins.as_deref().map(|pins| (pins, place.pin_names()));
        let pins = pins.as_ref().map(|(pins, names)| (*pins, names));
        let now_ms = options.clock.now_ms();
        known = baseline::compare_known(repository, &place.log(), place.url().as_str(), found.as_ref(), trust, pins, now_ms).await?;
        if found.is_some() || !known.is_empty() {
            return Ok((found, known));
        }
    }
    let stored = repository.names().await?.len();
    let why = match (stored, trust) {
        (0, _) => "it was never sealed".to_owned(),
        (n, None) => format!("no key is trusted that could have signed its baselines (there are {n})"),
        (n, Some(_)) => format!("no trusted key signed any of its {n} baselines"),
    };
    if options.require_sealed {
        let kind = if stored == 0 { ErrorKind::NotFound } else { ErrorKind::Unauthentic };
        return Err(Error::new(kind, format!("the table has no baseline to be held against: {why}")).with("table", location.name()));
    }
    notes.push(format!("{}: verification: none ({why})", location.name()));
    Ok((None, known))
}

/// The newest baseline of `version` or an older one.
async fn newest_until(repository: &Repository, trust: &Trust, version: u64) -> Result<Option<SealedTable>> {
    let all = repository.baselines(trust).await?;
    match all.into_iter().rfind(|baseline| baseline.summary.version.is_some_and(|sealed| sealed <= version)) {
        Some(baseline) => repository.sealed_table(baseline).await.map(Some),
        None => Ok(None),
    }
}

async fn load(location: &Location, version: Option<u64>, sealed: Option<&SealedTable>) -> Result<TableSnapshot> {
    let loaded = table::load(location.store().as_ref(), location.root(), version).await;
    loaded.map_err(|e| match (sealed, e.kind()) {
        // A sealed table that is there no more, or whose log is damaged, is a difference from the baseline.
        (Some(sealed), ErrorKind::NotFound | ErrorKind::Corrupt | ErrorKind::InvalidInput) => {
            let what = format!("the table cannot be read as baseline {} sealed it", sealed.baseline.number);
            Error::new(ErrorKind::Mismatch, what).with("table", location.name()).caused_by(e)
        }
        _ => e.with("table", location.name()),
    })
}

async fn compare(location: &Location, options: &TableOptions, snapshot: &TableSnapshot, sealed: &SealedTable) -> Result<Vec<Finding>> {
    let place = Place {
        store: location.store().as_ref(),
        root: location.root(),
        location: location.url().as_str(),
        now_ms: options.clock.now_ms(),
        writers: &options.writers,
    };
    let mut findings = baseline::compare_log(&place, snapshot, sealed).await?.findings;
    place_in_files(location, snapshot, sealed, &mut findings).await;
    Ok(findings)
}

/// Differences in what the log says of a file are often the traces of changed data: reads those files to say where.
async fn place_in_files(location: &Location, snapshot: &TableSnapshot, sealed: &SealedTable, findings: &mut Vec<Finding>) {
    let repository = Repository::new(location.store().clone(), location.root().clone());
    let mut named: Vec<String> = findings.iter().filter(|f| f.verdict.is_mismatch()).filter_map(|f| f.file.clone()).collect();
    named.sort();
    named.dedup();
    for file in named.iter().filter_map(|name| sealed.file_at(name)).take(PLACED_FILES) {
        findings.extend(baseline::compare_file(&repository, &snapshot.schema, sealed.row_key, file).await);
    }
}

fn note_unsealed(location: &Location, sealed: Option<&SealedTable>, findings: &[Finding], notes: &mut Vec<String>) {
    let later = findings.iter().filter(|finding| finding.verdict.outcome() == Outcome::IntactWithUnsealed);
    if let (Some(sealed), count @ 1..) = (sealed, later.count()) {
        notes.push(format!(
            "{}: {count} later change(s) are not covered by baseline {} and were read unverified",
            location.name(),
            sealed.baseline.number
        ));
    }
}

/// In sealed mode, a folder of Parquet consists of its sealed files; a Delta table was loaded at the sealed version already.
fn narrowed(mut snapshot: TableSnapshot, sealed: Option<&SealedTable>, mode: ReadMode) -> TableSnapshot {
    if let (Some(sealed), ReadMode::Sealed, TableKind::Parquet) = (sealed, mode, snapshot.kind) {
        snapshot.files.retain(|key, _| sealed.files.contains_key(key));
    }
    snapshot
}

async fn provider(location: &Location, snapshot: &TableSnapshot) -> Result<Arc<dyn TableProvider>> {
    match snapshot.kind {
        TableKind::Delta => delta::provider(location, snapshot.version).await,
        TableKind::Parquet => folder_provider(location, snapshot).await,
    }
}

async fn folder_provider(location: &Location, snapshot: &TableSnapshot) -> Result<Arc<dyn TableProvider>> {
    let partitions = snapshot.schema.partition_columns.iter().map(|name| (name.clone(), DataType::Utf8)).collect();
    let options =
        ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension(".parquet").with_table_partition_cols(partitions);
    let url = ListingTableUrl::parse(location.engine_url()).map_err(to_error)?;
    let registry = StoreRegistry::default();
    registry.pin(location.engine_url(), location.store().clone());
    let state = SessionStateBuilder::new().with_default_features().with_runtime_env(delta::runtime(Arc::new(registry))?).build();
    let schema = options.infer_schema(&state, &url).await.map_err(to_error)?;
    let config = ListingTableConfig::new(url).with_listing_options(options).with_schema(schema);
    Ok(Arc::new(ListingTable::try_new(config).map_err(to_error)?))
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
        let registration = self.register(state);
        // Footers must not come from a cache that other tables of the caller's session fill: it is keyed by path alone.
        let own = match state.as_any().downcast_ref::<SessionState>() {
            Some(state) => Some(self.own_state(state)?),
            None => None,
        };
        let session: &dyn Session = own.as_ref().map_or(state, |own| own);
        let recorder = self.store.recorder().clone();
        let plan = self.inner.scan(session, projection, filters, limit).await.map_err(|e| recovered(&recorder, e))?;
        Ok(Arc::new(VerifiedExec::new(plan, recorder, registration)))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        self.inner.supports_filters_pushdown(filters)
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
        self.check().map_err(external)?;
        insert::plan(&self.location, self.schema(), input, operation).map_err(external)
    }
}

impl VerifiedTable {
    fn own_state(&self, state: &SessionState) -> DataFusionResult<SessionState> {
        let registry = StoreRegistry::default();
        registry.pin(self.verified.engine_url(), Arc::new(self.store.clone()));
        let runtime = delta::runtime(Arc::new(registry)).map_err(external)?;
        Ok(SessionStateBuilder::new_from_existing(state.clone()).with_runtime_env(runtime).build())
    }
}
