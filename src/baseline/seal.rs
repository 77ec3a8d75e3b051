//! Sealing: from a table as it stands to a signed baseline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::path::Path;

use super::compare_attested::Writers;
use super::diff::{BaselineDiff, Bounds};
use super::evidence::Expectation;
use super::log::{Log, LogPin, LoggedBaseline};
use super::memory::SealMemory;
use super::prepared::Prepared;
use super::progress::Progress;
use super::repository::{BaselineName, Repository};
use super::seal_evidence::remembered;
use super::seal_ground::Ground;
use super::sealed::{SealedCommit, SealedFile};
use super::statement::BaselineSummary;
use super::trust::{Trust, TrustLevel};
use super::verdict::Finding;
use crate::clock::SharedClock;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::id::random_bytes;
use crate::key::Signer;
use crate::table::{FileKey, ForeignRoots, TableKind};

/// A baseline holds for a year, unless it is said otherwise.
pub const EXPIRES_AFTER_MS: i64 = 365 * 24 * 60 * 60 * 1000;
const ATTEMPTS: u32 = 8;

/// How a table is sealed.
#[derive(Debug, Clone)]
pub struct SealOptions {
    /// How long the baseline holds, in milliseconds; `None` is for ever.
    pub expires_after_ms: Option<i64>,
    /// Whether rows are hashed: without it compactions cannot be proven, and statistics are not checked against the data.
    pub rows: bool,
    /// Files read at a time.
    pub concurrency: usize,
    /// Seals although sealed files, commits or seals were changed: all sealed files are then read again, and what differs is
    /// returned in [`SealOutcome::findings`] to be shown to a person.
    pub accept_changes: bool,
    /// Makes a new baseline even if there is nothing new to seal.
    pub force: bool,
    /// Other URLs of the same table.
    pub aliases: Vec<String>,
    /// Other tables whose files this one's log may name, as that of a shallow clone does; `None` keeps those of the previous baseline.
    pub foreign_roots: Option<ForeignRoots>,
    /// Whose baselines are continued: of a flat set of keys, to which the sealer's own is added, or under a trust root, which must name the
    /// sealer's own. `None` trusts the sealer's own key alone.
    pub trust: Option<Trust>,
    /// How much may have changed since the last baseline; beyond it nothing is sealed. For sealing that nobody watches.
    pub bounds: Option<Bounds>,
    /// The newest baseline that is known from elsewhere: the new one must descend from it.
    pub pin: Option<(u64, Digest)>,
    /// Whose attestations of commits count, and whether one is needed to seal a commit.
    pub writers: Writers,
    /// Predicates that must hold for rows that change from now on; `None` keeps those of the previous baseline. To set others makes a new
    /// baseline only when something else is new, or with `force`.
    pub expectations: Option<Vec<Expectation>>,
    /// The state of the log that is known from elsewhere: what comes now must extend it.
    pub log_pin: Option<LogPin>,
    /// How long the log's inventory holds once it is signed, in milliseconds; `None` is for ever.
    pub inventory_expires_after_ms: Option<i64>,
    /// Whether the baseline is recorded in the log; several tables that are sealed as one are recorded afterwards, together.
    pub record: bool,
}

impl Default for SealOptions {
    fn default() -> Self {
        Self {
            expires_after_ms: Some(EXPIRES_AFTER_MS),
            rows: true,
            concurrency: 4,
            accept_changes: false,
            force: false,
            aliases: Vec::new(),
            foreign_roots: None,
            trust: None,
            bounds: None,
            pin: None,
            writers: Writers::default(),
            expectations: None,
            log_pin: None,
            inventory_expires_after_ms: Some(EXPIRES_AFTER_MS),
            record: true,
        }
    }
}

/// What sealing came to.
#[derive(Debug, Clone)]
pub struct SealOutcome {
    /// The baseline: the new one, or the newest when there was nothing to seal.
    pub baseline: BaselineSummary,
    /// Files that were read and fingerprinted.
    pub files_added: u64,
    /// Files whose evidence was there already.
    pub files_reused: u64,
    /// Files of the previous baseline that are no longer live.
    pub files_removed: u64,
    /// Bytes of data that were read.
    pub bytes_read: u64,
    /// The first baseline of this table: whatever it held was trusted on first use.
    pub first: bool,
    /// Nothing was new, and no baseline was made.
    pub unchanged: bool,
    /// Mismatches that were accepted.
    pub findings: Vec<Finding>,
    /// The log with this key's word on the baseline in it; absent when it could not be recorded (see [`Self::notes`]), or was not to be.
    pub log: Option<LogPin>,
    /// For people.
    pub notes: Vec<String>,
    /// What changed since the previous baseline.
    pub diff: BaselineDiff,
}

impl SealOutcome {
    /// What the log is to say of the baseline of the table at `location`, which lies at `root`.
    pub fn to_record(&self, location: &str, log: &Log, root: &Path) -> LoggedBaseline {
        LoggedBaseline {
            table: location.to_owned(),
            path: log.path_of(root).unwrap_or_default(),
            number: self.baseline.number,
            digest: self.baseline.digest,
            restart: !self.findings.is_empty(),
        }
    }

    /// Whether the baseline counts already; else others must countersign it.
    pub fn is_in_force(&self) -> bool {
        self.baseline.signed_by.len() >= self.baseline.signatures_needed
    }
}

/// Seals one table.
#[derive(Debug, Clone)]
pub struct Sealer {
    pub(super) repository: Repository,
    pub(super) location: String,
    pub(super) signer: Option<Arc<dyn Signer>>,
    pub(super) trust: Trust,
    pub(super) clock: SharedClock,
    pub(super) options: SealOptions,
    pub(super) log: Log,
    /// What earlier seals of this sealer, and of its clones, have read.
    pub(super) memory: Arc<SealMemory>,
}

impl Sealer {
    /// A sealer of the table at `root` of `store`, whose canonical URL is `location`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when no key is trusted, which cannot happen: the sealer trusts its own. Whether a trust root names it is
    /// found out when it seals, by the newest root.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        root: Path,
        location: impl Into<String>,
        key: impl Signer + 'static,
        clock: SharedClock,
        options: SealOptions,
    ) -> Result<Self> {
        let own = key.public();
        let trust = match &options.trust {
            Some(trust) => trust.clone().and(own),
            None => Trust::new([own], TrustLevel::Given)?,
        };
        let signer: Option<Arc<dyn Signer>> = Some(Arc::new(key));
        let log = Log::new(store.clone(), root.clone());
        let (repository, memory) = (Repository::new(store, root), Arc::default());
        Ok(Self { repository, location: location.into(), signer, trust, clock, options, log, memory })
    }

    /// Records baselines in this log, and not in the table's own.
    #[must_use]
    pub fn with_log(mut self, log: Log) -> Self {
        self.log = log;
        self
    }

    /// As [`Self::new`], without a key: it can [`Self::prepare`] baselines that others sign, on top of those that `trust` accepts.
    pub fn preparing(
        store: Arc<dyn ObjectStore>,
        root: Path,
        location: impl Into<String>,
        trust: Trust,
        clock: SharedClock,
        options: SealOptions,
    ) -> Self {
        let log = Log::new(store.clone(), root.clone());
        let (repository, memory) = (Repository::new(store, root), Arc::default());
        Self { repository, location: location.into(), signer: None, trust, clock, options, log, memory }
    }

    /// Seals the table as it stands.
    ///
    /// Evidence is stored first, then the statement, then the signature, which is the commit point: interrupted before it,
    /// nothing counts. Only files that no evidence covers are read. When another sealer takes the same number meanwhile, all is
    /// done again on top of its baseline.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] when statistics contradict the data, or the table no longer is what the previous baseline sealed
    /// (see [`SealOptions::accept_changes`]); [`ErrorKind::Unauthentic`] when there are baselines but none by a trusted key;
    /// [`ErrorKind::Unsupported`] for files outside of the table and below no foreign root.
    pub async fn seal(&self, progress: &dyn Progress) -> Result<SealOutcome> {
        for attempt in 0..ATTEMPTS {
            if let Some(outcome) = self.attempt(progress).await? {
                return Ok(outcome);
            }
            let [jitter] = random_bytes::<1>()?;
            tokio::time::sleep(Duration::from_millis(u64::from(jitter) << attempt.min(4))).await;
        }
        Err(Error::new(ErrorKind::Unavailable, "other sealers kept taking the next number; try again"))
    }

    /// `None` when another sealer was faster.
    async fn attempt(&self, progress: &dyn Progress) -> Result<Option<SealOutcome>> {
        self.signer()?;
        let prepared = self.prepare(progress).await?;
        self.sign(prepared).await
    }

    /// Stores what [`Self::seal`] would sign, evidence and statement, and signs nothing.
    ///
    /// # Errors
    /// Those of [`Self::seal`].
    pub async fn prepare(&self, progress: &dyn Progress) -> Result<Prepared> {
        let mut ground = self.ground(progress).await?;
        if let Some(outcome) = self.nothing_new(&ground) {
            let name = BaselineName { number: outcome.baseline.number, digest: outcome.baseline.digest };
            return Ok(Prepared { name, outcome, statement: None, judge: ground.judge });
        }
        let row_key = match &ground.sealed {
            Some(sealed) => sealed.row_key,
            None => random_bytes()?,
        };
        let sealing = self.fingerprint(&ground, row_key, progress).await?;
        let memory = remembered(&ground, &sealing);
        let mut diff = self.diff(&ground, &sealing.files, &memory.commits, &self.options.aliases).await?;
        if let Some(wanted) = &self.options.expectations {
            let before = match &ground.previous {
                Some(previous) => self.repository.expectations(&previous.statement).await?,
                None => Vec::new(),
            };
            diff.compare_expectations(&before, wanted);
        }
        if let Some(bounds) = &self.options.bounds {
            bounds.check(&diff).map_err(|e| e.with("table", &self.location))?;
        }
        let (statement, removed) = self.state(&ground, &sealing, &memory, &row_key).await?;
        let name = self.repository.keep_statement(&statement).await?;
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let base = ground.base().is_some();
        let outcome = SealOutcome {
            baseline: statement.summary(name.digest, ground.judge.standing(Vec::new())),
            files_added: count(sealing.added.len()),
            files_reused: count(sealing.files.len() - sealing.added.len()),
            files_removed: count(removed),
            bytes_read: sealing.bytes_read,
            first: ground.first,
            unchanged: false,
            findings: std::mem::take(&mut ground.findings),
            log: None,
            notes: Vec::new(),
            diff,
        };
        self.memory.prepared(ground.sealed.filter(|_| base), sealing, memory, &statement, &outcome.baseline, row_key);
        Ok(Prepared { name, outcome, statement: Some(statement), judge: ground.judge })
    }

    /// How the table differs from the previous baseline, for people and for bounds.
    pub(super) async fn diff(
        &self,
        ground: &Ground,
        files: &BTreeMap<FileKey, Arc<SealedFile>>,
        commits: &BTreeMap<u64, SealedCommit>,
        aliases: &[String],
    ) -> Result<BaselineDiff> {
        let mut diff = BaselineDiff::between(ground.sealed.as_ref(), &ground.snapshot, files, commits);
        diff.unproven.clone_from(&ground.unproven);
        let none = ForeignRoots::default();
        diff.compare_roots(ground.previous.as_ref().map_or(&none, |previous| &previous.statement.foreign_roots), &ground.roots);
        let known = ground.previous.as_ref().map_or(&[][..], |previous| &previous.statement.aliases);
        diff.compare_addresses(known, aliases);
        if let Some(sealed) = ground.sealed.as_ref().filter(|_| ground.snapshot.kind == TableKind::Delta) {
            let before = self.load(Some(sealed.statement.state.version)).await;
            diff.compare_heads(sealed, before.ok().as_ref(), &ground.snapshot);
        }
        Ok(diff)
    }

    fn nothing_new(&self, ground: &Ground) -> Option<SealOutcome> {
        let sealed = ground.sealed.as_ref().filter(|_| !self.options.force && ground.findings.is_empty())?;
        let stated = &sealed.statement;
        let expired = stated.expires_ms.is_some_and(|expires| expires <= self.clock.now_ms());
        let same_files = sealed.files.keys().eq(ground.snapshot.files.keys());
        let same_places = stated.aliases == self.options.aliases && stated.foreign_roots == ground.roots;
        let same = stated.state.version == ground.snapshot.version && same_files && same_places;
        (same && !expired).then(|| SealOutcome {
            baseline: sealed.baseline.clone(),
            files_added: 0,
            files_reused: sealed.baseline.files,
            files_removed: 0,
            bytes_read: 0,
            first: false,
            unchanged: true,
            findings: Vec::new(),
            log: None,
            notes: Vec::new(),
            diff: BaselineDiff::nothing(sealed),
        })
    }
}
