//! Sealing: from a table as it stands to a signed baseline.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectStore;
use object_store::path::Path;

use super::compare::{self, Place, normal_live};
use super::compare_attested::Writers;
use super::compare_data::FileState;
use super::compare_restated::compare_live;
use super::diff::{BaselineDiff, Bounds};
use super::evidence::{self, Delta, Expectation, FULL_EVERY, Profiles};
use super::log::{Log, LogPin, LoggedBaseline};
use super::memory::SealMemory;
use super::observe::{GroupProfiles, Observer};
use super::prepared::Prepared;
use super::progress::Progress;
use super::repository::{BaselineName, Repository, TrustedBaseline};
use super::roots::{check_roots, refuse_foreign};
use super::sealed::{SealedCommit, SealedFile, SealedObject, SealedTable};
use super::standing::Judge;
use super::statement::{BaselineSummary, EvidenceKind, EvidenceRef, Statement};
use super::trust::{Trust, TrustLevel};
use super::unheld::unheld_files;
use super::verdict::{Finding, Verdict};
use super::{audit, changes, presence, state};
use crate::clock::SharedClock;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::StatisticsLie;
use crate::id::random_bytes;
use crate::key::Signer;
use crate::table::{FileKey, ForeignRoots, LiveFile, TableKind, TableSnapshot};

/// A baseline holds for a year, unless it is said otherwise.
pub const EXPIRES_AFTER_MS: i64 = 365 * 24 * 60 * 60 * 1000;
const ATTEMPTS: u32 = 8;
const SHOWN_FINDINGS: usize = 5;

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

/// What an attempt begins with.
pub(super) struct Ground {
    pub(super) judge: Judge,
    /// The other tables whose files the log may name.
    pub(super) roots: ForeignRoots,
    /// The seals, in a store in which these tables are seen.
    repository: Repository,
    pub(super) snapshot: TableSnapshot,
    pub(super) previous: Option<TrustedBaseline>,
    pub(super) sealed: Option<SealedTable>,
    pub(super) findings: Vec<Finding>,
    /// Sealed files that may not be taken over from evidence.
    stale: BTreeSet<FileKey>,
    pub(super) first: bool,
    /// Why `previous` is not in force, or is absent although there are seals, for people; nothing of it is then taken over unread.
    pub(super) unproven: Option<String>,
}

impl Ground {
    /// The new baseline's number.
    pub(super) fn number(&self) -> u64 {
        self.previous.as_ref().map_or(1, |previous| previous.summary.number.saturating_add(1))
    }

    /// The evidence that the new baseline adds to. What was accepted may contradict it, and evidence takes no commit back: then, and now and
    /// then, all is written whole.
    fn base(&self) -> Option<&SealedTable> {
        let adds = !self.number().is_multiple_of(FULL_EVERY) && self.findings.is_empty();
        let last = |sealed: &SealedTable| sealed.commits.last_key_value().map(|(version, _)| *version);
        self.sealed.as_ref().filter(|sealed| adds && last(sealed).is_none_or(|version| version <= self.snapshot.version))
    }
}

/// The files of the new baseline.
pub(super) struct Sealing {
    pub(super) changes: BTreeMap<String, SealedObject>,
    pub(super) files: BTreeMap<FileKey, Arc<SealedFile>>,
    pub(super) added: BTreeSet<FileKey>,
    profiles: Profiles,
    pub(super) bytes_read: u64,
}

/// What a baseline remembers besides the live files.
pub(super) struct Memory {
    /// Every file known to have been removed.
    pub(super) removed: BTreeMap<FileKey, Option<i64>>,
    /// Every commit, those of earlier baselines included.
    pub(super) commits: BTreeMap<u64, SealedCommit>,
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

    /// Reads table and previous baseline, and refuses to seal over what contradicts it.
    async fn ground(&self, progress: &dyn Progress) -> Result<Ground> {
        let judge = self.judge().await?;
        let snapshot = self.load(None).await?;
        let previous = self.repository.newest_in_force(&judge).await?;
        let untrusted = if previous.is_none() { self.untrusted_seals(&judge).await? } else { None };
        if let Some(detail) = untrusted.as_ref().filter(|_| !self.options.accept_changes) {
            return Err(Error::new(ErrorKind::Unauthentic, detail).with("table", &self.location));
        }
        let known = previous.as_ref().map(|previous| previous.summary.clone());
        let roots = self.roots(previous.as_ref());
        let mut ground = self.ground_at(judge, (snapshot, roots), (previous, known), progress).await?;
        ground.unproven.clone_from(&untrusted);
        ground.findings.extend(untrusted.map(|detail| Finding::new(Verdict::Untrusted, detail)));
        ground.findings.sort();
        Ok(ground)
    }

    /// The other tables whose files the log may name: as it is asked for, or as `previous`, which is in force, has them.
    pub(super) fn roots(&self, previous: Option<&TrustedBaseline>) -> ForeignRoots {
        let before = || previous.map(|previous| previous.statement.foreign_roots.clone());
        self.options.foreign_roots.clone().or_else(before).unwrap_or_default()
    }

    /// What to seal begins with, `previous` being in force and `known` what the log may already name: the baseline itself, where its signatures
    /// no longer suffice.
    pub(super) async fn ground_at(
        &self,
        judge: Judge,
        (mut snapshot, roots): (TableSnapshot, ForeignRoots),
        (previous, known): (Option<TrustedBaseline>, Option<BaselineSummary>),
        progress: &dyn Progress,
    ) -> Result<Ground> {
        check_roots(&roots, &self.location, &self.options.aliases)?;
        roots.place(self.repository.root(), &mut snapshot);
        refuse_foreign(&snapshot, &roots)?;
        let repository = self.repository.with_roots(&roots).await?;
        let mut findings = Vec::new();
        let first = previous.is_none();
        findings.extend(compare::compare_pin(known.as_ref().map(|known| known.number), self.options.pin));
        let (pin, now_ms) = (self.options.log_pin.as_ref(), self.clock.now_ms());
        let consulted = self.log.consult(&self.repository, &self.location, known.as_ref(), &judge.trust, pin, now_ms).await?;
        // To seal is what renews a term and signs an inventory; what is wrong otherwise must not be covered up.
        findings.extend(consulted.findings.into_iter().filter(|f| f.verdict.is_mismatch() && f.verdict != Verdict::Expired));
        let mut sealed = None;
        if let Some(previous) = &previous {
            let pins: Vec<_> = self.options.pin.into_iter().chain(consulted.logged).collect();
            let wrong = self.check_chain(&judge, previous, &pins).await?;
            findings.extend(compare::chain_findings(wrong));
            sealed = match self.sealed_before(previous).await {
                Ok(mut sealed) => {
                    // As they are found now: the roots may be others than they were.
                    sealed.place(self.repository.root(), &roots);
                    Some(sealed)
                }
                Err(e) if self.options.accept_changes && !e.is_retryable() => {
                    findings.push(Finding::new(Verdict::Untrusted, format!("the previous baseline's evidence cannot be used: {e}")));
                    None
                }
                Err(e) => return Err(e),
            };
        }
        let (stale, unproven) = (BTreeSet::new(), None);
        let mut ground = Ground { judge, roots, repository, snapshot, previous, sealed, findings, stale, first, unproven };
        self.compare(&mut ground, progress).await?;
        Ok(ground)
    }

    async fn compare(&self, ground: &mut Ground, progress: &dyn Progress) -> Result<()> {
        let place = Place {
            store: &**ground.repository.store(),
            root: ground.repository.root(),
            location: &self.location,
            now_ms: self.clock.now_ms(),
            writers: &self.options.writers,
            memory: Some(&self.memory.log),
        };
        let mut found = Vec::new();
        let mut unheld = BTreeSet::new();
        if ground.snapshot.kind == TableKind::Delta {
            found.extend(compare::compare_checkpoints(&place, ground.snapshot.version).await?);
        }
        if let Some(sealed) = &ground.sealed {
            let comparison = compare::compare_log(&place, &ground.snapshot, sealed).await?;
            let added = compare::columns_since(comparison.at_sealed.as_ref(), &ground.snapshot, sealed);
            let hidden;
            (unheld, hidden) = unheld_files(&ground.snapshot, sealed, &added);
            found.extend(comparison.findings.into_iter().chain(hidden));
            found.extend(presence::compare_presence(&ground.repository, &ground.snapshot, sealed).await?);
            if self.options.accept_changes {
                for finding in self.changed_data(ground, sealed, progress).await? {
                    found.push(finding);
                }
            }
        }
        found.extend(ground.snapshot.duplicates.iter().map(|key| Finding::new(Verdict::Forged, "the file is named twice").file(&key.path)));
        // To seal an expired baseline's table again is what renews it.
        found.retain(|finding| finding.verdict.is_mismatch() && finding.verdict != Verdict::Expired);
        ground.findings.extend(found);
        ground.findings.sort();
        ground.findings.dedup();
        let undetermined = ground.findings.iter().any(|f| f.verdict == Verdict::Undetermined);
        if !ground.snapshot.duplicates.is_empty() || undetermined || !(ground.findings.is_empty() || self.options.accept_changes) {
            return Err(refusal(&self.location, &ground.findings));
        }
        // What became of sealed files may have been cleaned up with the log, or forged away: a person has to know.
        let forgotten = ground.sealed.as_ref().and_then(|sealed| compare::compare_forgotten(&ground.snapshot, sealed));
        if let Some(forgotten) = forgotten.filter(|finding| finding.verdict == Verdict::Undetermined) {
            if !self.options.accept_changes {
                return Err(refusal(&self.location, &[forgotten]));
            }
            ground.findings.push(forgotten);
        }
        let suspect: BTreeSet<&String> = ground.findings.iter().filter_map(|f| f.file.as_ref()).collect();
        ground.stale = ground.snapshot.files.keys().filter(|key| suspect.contains(&key.path)).cloned().collect();
        ground.stale.append(&mut unheld);
        Ok(())
    }

    /// Reads every sealed file that is still live, and says what differs.
    async fn changed_data(&self, ground: &Ground, sealed: &SealedTable, progress: &dyn Progress) -> Result<Vec<Finding>> {
        let snapshot = &ground.snapshot;
        let observer = audit::observer(&ground.repository, &snapshot.schema, sealed.row_key, true);
        progress.begin("checking sealed files", sealed.baseline.files, sealed.baseline.bytes);
        let files: Vec<&SealedFile> =
            sealed.files.values().map(Arc::as_ref).filter(|file| snapshot.files.contains_key(&file.live.key)).collect();
        let reads = stream::iter(files).map(|file| async move {
            let state = observer.compare(file, &|bytes| progress.bytes(bytes)).await;
            progress.file(&file.live.key.path);
            match state {
                FileState::Intact => Vec::new(),
                FileState::Absent => vec![Finding::new(Verdict::Missing, sealed.gone(file)).file(&file.live.key.path)],
                FileState::Differs(findings) => findings,
            }
        });
        let found: Vec<Vec<Finding>> = reads.buffer_unordered(self.options.concurrency.max(1)).collect().await;
        progress.end();
        Ok(found.into_iter().flatten().collect())
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

    /// Takes over what evidence covers and reads the rest.
    pub(super) async fn fingerprint(&self, ground: &Ground, row_key: [u8; 32], progress: &dyn Progress) -> Result<Sealing> {
        let kind = ground.snapshot.kind;
        let proven = ground.sealed.as_ref().filter(|_| ground.unproven.is_none());
        let mut files = BTreeMap::new();
        let mut fresh: Vec<&LiveFile> = Vec::new();
        for (key, live) in &ground.snapshot.files {
            let known = proven.and_then(|sealed| sealed.files.get(key));
            match known
                .filter(|file| !ground.stale.contains(key) && compare_live(kind, &ground.snapshot.schema, &file.live, live).is_empty())
            {
                Some(file) => {
                    files.insert(key.clone(), file.clone());
                }
                None => fresh.push(live),
            }
        }
        let observer = audit::observer(&ground.repository, &ground.snapshot.schema, row_key, self.options.rows);
        let observer = Observer { profiles: true, ..observer };
        let bytes = fresh.iter().map(|live| live.size).sum();
        progress.begin("fingerprinting", u64::try_from(fresh.len()).unwrap_or(u64::MAX), bytes);
        let bytes_read = AtomicU64::new(0);
        let count = |bytes: u64| {
            bytes_read.fetch_add(bytes, Ordering::Relaxed);
            progress.bytes(bytes);
        };
        let count = &count;
        let reads = stream::iter(fresh).map(|live| async move {
            let observed = self.observe(&observer, kind, live, count).await?;
            progress.file(&live.key.path);
            Ok::<_, Error>(observed)
        });
        let observed: Vec<(SealedFile, Vec<GroupProfiles>)> = reads.buffer_unordered(self.options.concurrency.max(1)).try_collect().await?;
        let known = proven.filter(|_| ground.findings.is_empty());
        let changes = changes::to_be_sealed(&**self.repository.store(), &ground.snapshot, known, count).await?;
        progress.end();
        let added = observed.iter().map(|(file, _)| file.live.key.clone()).collect();
        let mut profiles = Profiles::new();
        for (file, groups) in observed {
            let places = file.row_groups.get()?.iter().map(|group| (file.live.key.clone(), group.ordinal));
            profiles.extend(places.zip(groups).filter(|(_, columns)| !columns.is_empty()));
            files.insert(file.live.key.clone(), Arc::new(file));
        }
        Ok(Sealing { changes, files, added, profiles, bytes_read: bytes_read.into_inner() })
    }

    async fn observe(
        &self,
        observer: &Observer<'_>,
        kind: TableKind,
        live: &LiveFile,
        count: &(dyn Fn(u64) + Sync),
    ) -> Result<(SealedFile, Vec<GroupProfiles>)> {
        let observed = observer.observe(live, count).await?;
        if let Some(lie) = observed.lies.first() {
            return Err(lies(live, lie, observed.lies.len()));
        }
        let inline_blocks = self.repository.keep_blocks(&observed.blocks).await?;
        let live = LiveFile { added_in: None, ..normal_live(kind, live) };
        Ok((SealedFile { live: Arc::new(live), inline_blocks, ..observed.file }, observed.profiles))
    }

    /// Stores evidence and forms the statement. Also says how many sealed files are no longer live.
    async fn state(&self, ground: &Ground, sealing: &Sealing, memory: &Memory, row_key: &[u8; 32]) -> Result<(Statement, usize)> {
        let (number, base) = (ground.number(), ground.base());
        let gone: Vec<&FileKey> = match &ground.sealed {
            Some(sealed) => sealed.files.keys().filter(|key| !sealing.files.contains_key(*key)).collect(),
            None => Vec::new(),
        };
        let known = |key: &FileKey| base.is_some_and(|sealed| sealed.removed.contains_key(key));
        let tombstones = memory.removed.iter().filter(|(key, _)| !known(key) && !gone.contains(key)).map(|(key, at)| (key, *at)).collect();
        let is_new = |(version, commit): &(&u64, &SealedCommit)| base.is_none_or(|sealed| sealed.commits.get(version) != Some(commit));
        let commits = memory.commits.iter().filter(is_new);
        let delta = Delta {
            added: sealing
                .files
                .iter()
                .filter(|(key, _)| base.is_none() || sealing.added.contains(*key))
                .map(|(_, file)| &**file)
                .collect(),
            removed: gone,
            tombstones,
            commits: commits.map(|(version, commit)| (*version, commit)).collect(),
            changes: sealing.changes.values().filter(|file| base.is_none_or(|sealed| !sealed.changes.contains_key(&file.path))).collect(),
        };
        let mut evidence = base.map_or_else(Vec::new, |sealed| sealed.statement.evidence.clone());
        for (kind, bytes) in delta.encode(row_key)? {
            let (digest, size) = self.repository.keep_evidence(bytes).await?;
            evidence.push(EvidenceRef { kind, digest, size, number });
        }
        evidence.extend(self.extras(ground, base.is_none(), sealing, row_key, number).await?);
        let root = state::root(&ground.snapshot, &sealing.files, &memory.removed, &memory.commits)?;
        let previous = ground.previous.as_ref();
        let created_ms = self.clock.now_ms().max(previous.map_or(i64::MIN, |p| p.summary.created_ms.saturating_add(1)));
        let statement = Statement {
            number,
            previous: previous.map(|p| p.summary.digest),
            created_ms,
            expires_ms: self.options.expires_after_ms.map(|after| created_ms.saturating_add(after)),
            location: self.location.clone(),
            aliases: self.options.aliases.clone(),
            foreign_roots: ground.roots.clone(),
            state: root,
            evidence,
            trust_root: ground.judge.trust.root().map_or(0, |signed| signed.root().version),
        };
        Ok((statement, delta.removed.len()))
    }

    /// Stores new profiles, and expectations when they are new. A baseline whose evidence is `whole` names no earlier pieces, so that those
    /// that are still wanted are stored again.
    async fn extras(&self, ground: &Ground, whole: bool, sealing: &Sealing, row_key: &[u8; 32], number: u64) -> Result<Vec<EvidenceRef>> {
        let mut kept = Profiles::new();
        if let (true, Some(previous)) = (whole, &ground.previous) {
            // They were read before; what was damaged, and is to be sealed all the same, is left out.
            kept = self.repository.profiles(&previous.statement).await.unwrap_or_default();
            kept.retain(|(key, _), _| sealing.files.contains_key(key) && !sealing.added.contains(key));
        }
        let mut pieces = Vec::new();
        if !(kept.is_empty() && sealing.profiles.is_empty()) {
            pieces.push((EvidenceKind::Profiles, evidence::encode_profiles(kept.iter().chain(&sealing.profiles), row_key)?));
        }
        let before = match &ground.previous {
            Some(previous) => self.repository.expectations(&previous.statement).await?,
            None => Vec::new(),
        };
        let expectations = self.options.expectations.as_ref().unwrap_or(&before);
        if *expectations != before || (whole && !before.is_empty()) {
            pieces.push((EvidenceKind::Expectations, evidence::encode_expectations(expectations, row_key)?));
        }
        let mut stored = Vec::new();
        for (kind, bytes) in pieces {
            let (digest, size) = self.repository.keep_evidence(bytes).await?;
            stored.push(EvidenceRef { kind, digest, size, number });
        }
        Ok(stored)
    }
}

/// The removed files and the commits of the new baseline.
pub(super) fn remembered(ground: &Ground, sealing: &Sealing) -> Memory {
    // What was accepted may contradict what earlier baselines remember.
    let known = ground.sealed.as_ref().filter(|_| ground.findings.is_empty());
    let mut removed = ground.base().map(|sealed| sealed.removed.clone()).unwrap_or_default();
    for key in ground.sealed.iter().flat_map(|sealed| sealed.files.keys()) {
        removed.entry(key.clone()).or_default();
    }
    for (key, at) in &ground.snapshot.tombstones {
        removed.entry(key.clone()).or_insert(*at);
    }
    removed.retain(|key, _| !sealing.files.contains_key(key));
    let mut commits = known.map(|sealed| sealed.commits.clone()).unwrap_or_default();
    // Whoever signed the previous baseline may have named commits that were to come. The log says what they are, and was compared up to that baseline.
    commits.retain(|version, _| *version <= ground.snapshot.version);
    for commit in &ground.snapshot.commits {
        let sealed = SealedCommit { digest: commit.digest, size: commit.size, operation: commit.operation.clone() };
        commits.insert(commit.version, sealed);
    }
    Memory { removed, commits }
}

fn refusal(location: &str, findings: &[Finding]) -> Error {
    let shown: Vec<String> = findings.iter().take(SHOWN_FINDINGS).map(ToString::to_string).collect();
    let more = findings.len().saturating_sub(shown.len());
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    Error::new(
        ErrorKind::Mismatch,
        format!(
            "sealing would cover up changes; audit the table, and accept them (--accept-changes) only if they are meant: {}{rest}",
            shown.join("; ")
        ),
    )
    .with("table", location)
}

fn lies(live: &LiveFile, lie: &StatisticsLie, count: usize) -> Error {
    let column = if lie.column.is_empty() { "the whole file" } else { &lie.column };
    let mut error = Error::new(ErrorKind::Mismatch, "stated statistics contradict the data, so the table is not sealed")
        .with("file", &live.key.path)
        .with("column", column)
        .with("statistic", &lie.what)
        .with("stated", &lie.stated)
        .with("found", &lie.found);
    if let Some(row_group) = lie.row_group {
        error = error.with("row group", row_group);
    }
    if count > 1 { error.with("contradictions", count) } else { error }
}
