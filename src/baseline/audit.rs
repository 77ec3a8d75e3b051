//! Auditing: the newest trusted baseline against what is there.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt as _, stream};
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::task::JoinSet;

use super::compare::{self, LogComparison, Place};
use super::compare_attested::{AttestedBy, Writers};
use super::compare_data::{self, FileState};
use super::compare_rows;
use super::log::{Log, LogPin};
use super::observe::Observer;
use super::presence;
use super::progress::Progress;
use super::proven;
use super::purge::{self, Erased};
use super::repository::{BaselineName, Repository, TrustedBaseline};
use super::sealed::{SealedFile, SealedTable};
use super::statement::BaselineSummary;
use super::trust::Trust;
use super::verdict::{AuditReport, Finding, Verdict};
use crate::clock::SharedClock;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{self, CheckedLog, CheckpointDisagreement, LoadedLog, TableKind, TableSchema, TableSnapshot};

/// How an audit is done.
#[derive(Debug, Clone)]
pub struct AuditOptions {
    /// Signatures and log only: no data is read.
    pub quick: bool,
    /// Files that the store still has in the very version that was sealed are not read: their bytes are what they were. It says nothing
    /// of stores without versions, whose files are all read, and finds no shard that rotted: `scrub` does.
    pub incremental: bool,
    /// Files read at a time.
    pub concurrency: usize,
    /// The newest baseline that is known from elsewhere: an older one is a roll-back, another of its number a fork.
    pub pin: Option<(u64, Digest)>,
    /// Whose attestations of later commits count, and whether there must be one.
    pub writers: Writers,
    /// The state of the log that is known from elsewhere: what comes now must extend it.
    pub log_pin: Option<LogPin>,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self { quick: false, incremental: false, concurrency: 4, pin: None, log_pin: None, writers: Writers::default() }
    }
}

/// Audits one table.
#[derive(Debug, Clone)]
pub struct Auditor {
    repository: Repository,
    location: String,
    trust: Trust,
    clock: SharedClock,
    options: AuditOptions,
    log: Log,
}

/// The newest trusted baseline, as far as it is known.
enum Found {
    Baseline(Box<TrustedBaseline>),
    Nothing,
    /// There may be one: it could not be read.
    Unreadable,
}

impl Found {
    fn summary(&self) -> Option<&BaselineSummary> {
        match self {
            Self::Baseline(newest) => Some(&newest.summary),
            Self::Nothing | Self::Unreadable => None,
        }
    }
}

/// Whether something of a log was listed, and was gone when it was to be read.
fn overtaken(read: &LogRead) -> bool {
    let gone = |error: &Error| error.kind() == ErrorKind::NotFound;
    match read {
        Ok(read) => read.checkpoints.as_ref().is_err_and(gone),
        Err(error) => gone(error),
    }
}

type LogRead = Result<CheckedLog>;

async fn joined<T: 'static>(mut loads: JoinSet<Result<T>>) -> Result<T> {
    let failed = || Error::new(ErrorKind::Internal, "reading the table was not completed");
    loads.join_next().await.ok_or_else(failed)?.map_err(|e| failed().caused_by(e))?
}

impl Auditor {
    /// An auditor of the table at `root` of `store`, whose canonical URL is `location`.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        root: Path,
        location: impl Into<String>,
        trust: Trust,
        clock: SharedClock,
        options: AuditOptions,
    ) -> Self {
        let log = Log::new(store.clone(), root.clone());
        Self { repository: Repository::new(store, root), location: location.into(), trust, clock, options, log }
    }

    /// Asks this log, and not the table's own.
    #[must_use]
    pub fn with_log(mut self, log: Log) -> Self {
        self.log = log;
        self
    }

    /// Compares the table with its newest trusted baseline.
    ///
    /// Cost: the seals, the log, and (unless quick) every sealed file once, and every entry of a table's own log of at most 1024; memory for the state.
    ///
    /// # Errors
    /// Only when not even the list of baselines can be read, or there is neither table nor baseline. Whatever else goes wrong
    /// is a finding, `undetermined` at least.
    pub async fn audit(&self, progress: &dyn Progress) -> Result<AuditReport> {
        let mut report = AuditReport {
            table: self.location.clone(),
            trust: self.trust.level(),
            baseline: None,
            version: None,
            summary: BTreeMap::new(),
            findings: Vec::new(),
            notes: Vec::new(),
            log: None,
        };
        let intact = self.fill(&mut report, progress).await?;
        report.complete(intact);
        Ok(report)
    }

    async fn fill(&self, report: &mut AuditReport, progress: &dyn Progress) -> Result<u64> {
        // The log is read while the evidence is: neither needs the other before they are compared.
        let mut loads = JoinSet::new();
        let (store, root, quick) = (Arc::clone(self.repository.store()), self.repository.root().clone(), self.options.quick);
        loads.spawn(async move { table::read_checked(&*store, &root, quick).await });
        let newest = self.newest(report).await?;
        let logged = self.consult(&newest, report).await;
        let Found::Baseline(newest) = newest else {
            // Without a baseline, a table that cannot be read is the caller's mistake rather than a finding.
            let log = joined(loads).await?.log;
            report.version = log.version();
            log.snapshot()?;
            return Ok(0);
        };
        report.baseline = Some(newest.summary.clone());
        // Not before the baseline is known: what it seals was there then.
        let mut listed = JoinSet::new();
        if quick && newest.statement.state.kind == TableKind::Delta {
            let (store, root) = (Arc::clone(self.repository.store()), self.repository.root().clone());
            listed.spawn(async move { presence::sizes(&*store, &root).await });
        }
        self.check_chain(&newest, logged, report).await;
        let sealed = match self.options.quick {
            true => self.repository.checked_table(*newest).await,
            false => self.repository.whole_table(*newest).await,
        };
        let sealed = match sealed {
            Ok(sealed) => sealed,
            Err(e) => {
                report.findings.push(Finding::new(Verdict::Undetermined, format!("the baseline's evidence cannot be used: {e}")));
                report.version = joined(loads).await.ok().and_then(|read| read.log.version());
                return Ok(0);
            }
        };
        let mut read = joined(loads).await;
        // What was read before a commit that was sealed meanwhile would look rolled back; what was listed and then is gone, a clean-up took away.
        let before = |read: &CheckedLog| read.log.version().is_some_and(|version| version < sealed.statement.state.version);
        if overtaken(&read) || read.as_ref().is_ok_and(before) {
            read = table::read_checked(&**self.repository.store(), self.repository.root(), quick).await;
        }
        let replayed = read.and_then(|read| Ok((self.replayed(read.log, &sealed)?, read.checkpoints)));
        let (mut snapshot, checkpoints) = match replayed {
            Ok(read) => read,
            Err(e) => {
                report.findings.push(unreadable(&e));
                return Ok(0);
            }
        };
        report.version = (snapshot.kind == TableKind::Delta).then_some(snapshot.version);
        let repository = match self.repository.with_roots_of(&sealed.statement, &mut snapshot).await {
            Ok(repository) => repository,
            Err(e) => {
                let detail = format!("the table that this one is a clone of cannot be read: {e}");
                report.findings.push(Finding::new(Verdict::Undetermined, detail));
                // What is wrong with the table itself is no less so.
                self.repository.without_roots_of(&sealed.statement, &e)
            }
        };
        Self { repository, ..self.clone() }.compare(&snapshot, checkpoints, listed, &sealed, report, progress).await
    }

    /// The state that a log comes to. A quick audit does not parse once more the commits that were sealed, where they are all there: the same bytes
    /// came to the sealed state then. Any other audit replays them.
    fn replayed(&self, log: LoadedLog, sealed: &SealedTable) -> Result<TableSnapshot> {
        if self.options.quick { proven::state_of(log, sealed) } else { log.snapshot() }
    }

    /// The newest trusted baseline; a finding when there is none.
    async fn newest(&self, report: &mut AuditReport) -> Result<Found> {
        let names = self.repository.names().await?;
        let newest = match self.repository.newest_statement(&self.trust).await {
            Ok(newest) => newest,
            Err(e) => {
                // Two roots of one version: somebody forged, and with the keys.
                let verdict = if e.kind() == ErrorKind::Mismatch { Verdict::Forged } else { Verdict::Undetermined };
                report.findings.push(Finding::new(verdict, format!("the newest baseline cannot be read: {e}")));
                return Ok(Found::Unreadable);
            }
        };
        report.findings.extend(compare::compare_pin(newest.as_ref().map(|newest| newest.summary.number), self.options.pin));
        let (waiting, unsigned) = self.waiting(&names, newest.as_ref().map_or(0, |newest| newest.summary.number)).await?;
        if newest.is_some() {
            report.notes.extend(waiting.iter().map(|baseline| format!("{baseline}: it is not in force until others countersign it")));
            if unsigned > 0 {
                report.notes.push(format!("{unsigned} newer statements are ignored: no trusted key signed them"));
            }
        } else if names.is_empty() {
            report.findings.push(Finding::new(Verdict::Undetermined, "the table was never sealed, or its seals were taken away"));
        } else {
            let detail = match waiting.last() {
                Some(baseline) => format!("no baseline is in force; {baseline}: others must countersign it"),
                None => format!("{} baselines are there, but none has a valid signature of a trusted key", names.len()),
            };
            report.findings.push(Finding::new(Verdict::Untrusted, detail));
            let root = self.repository.newest_trust(&self.trust).await.ok().and_then(|trust| trust.root().cloned());
            let (root, now_ms) = (root.map(|signed| (signed.root().version, signed.root().expires_ms)), self.clock.now_ms());
            report.findings.extend(root.and_then(|(version, expires)| compare::compare_trust_root(version, expires, now_ms)));
        }
        Ok(newest.map_or(Found::Nothing, |newest| Found::Baseline(Box::new(newest))))
    }

    /// The baselines above `number` that some of those who may have signed, in words, and how many statements nobody trusted has signed.
    async fn waiting(&self, names: &[BaselineName], number: u64) -> Result<(Vec<String>, usize)> {
        let (mut waiting, mut unsigned) = (Vec::new(), 0);
        for name in names.iter().filter(|name| name.number > number) {
            match self.repository.standing(name, &self.trust).await? {
                Some(standing) if !standing.signed_by.is_empty() => waiting.push(format!("baseline {} has {standing}", name.number)),
                _ => unsigned += 1,
            }
        }
        Ok((waiting, unsigned))
    }

    /// Asks the log; returns the baseline that it names for the table.
    async fn consult(&self, newest: &Found, report: &mut AuditReport) -> Option<(u64, Digest)> {
        let (pin, now_ms) = (self.options.log_pin.as_ref(), self.clock.now_ms());
        // Where two trust roots disagree, the newest baseline is what says so.
        let trust = self.repository.newest_trust(&self.trust).await.unwrap_or_else(|_| self.trust.clone());
        let consulted = match newest {
            Found::Unreadable => self.log.consult_alone(&self.repository, &trust, pin, now_ms).await,
            newest => self.log.consult(&self.repository, &self.location, newest.summary(), &trust, pin, now_ms).await,
        };
        match consulted {
            Ok(consulted) => {
                report.findings.extend(consulted.findings);
                report.notes.extend(consulted.notes);
                report.log = consulted.checkpoint;
                // A lake's log has the entries of all its tables, and is kept whole by the lake.
                if let (Some(state), false, true) = (&report.log, self.options.quick, self.log.root() == self.repository.root()) {
                    report.notes.extend(self.log.damage(state).await);
                }
                consulted.logged
            }
            Err(e) => {
                report.findings.push(Finding::new(Verdict::Undetermined, format!("the log of baselines cannot be read: {e}")));
                None
            }
        }
    }

    async fn check_chain(&self, newest: &TrustedBaseline, logged: Option<(u64, Digest)>, report: &mut AuditReport) {
        let pins: Vec<_> = self.options.pin.into_iter().chain(logged).collect();
        match self.repository.check_chain(newest, &self.trust, &pins).await {
            Ok(wrong) => report.findings.extend(compare::chain_findings(wrong)),
            Err(e) => report.findings.push(Finding::new(Verdict::Undetermined, format!("the chain of baselines cannot be read: {e}"))),
        }
    }

    async fn compare(
        &self,
        snapshot: &TableSnapshot,
        checkpoints: Result<Vec<CheckpointDisagreement>>,
        listed: JoinSet<Result<presence::Sizes>>,
        sealed: &SealedTable,
        report: &mut AuditReport,
        progress: &dyn Progress,
    ) -> Result<u64> {
        let store = &**self.repository.store();
        let place = Place {
            store,
            root: self.repository.root(),
            location: &self.location,
            now_ms: self.clock.now_ms(),
            writers: &self.options.writers,
            memory: None,
        };
        let mut comparison = match compare::compare_log(&place, snapshot, sealed).await {
            Ok(comparison) => comparison,
            Err(e) => {
                report.findings.push(unreadable(&e));
                LogComparison {
                    findings: compare::compare_state(snapshot, sealed),
                    at_sealed: None,
                    later: None,
                    attested: AttestedBy::new(),
                }
            }
        };
        let erased = match self.repository.erased(&self.trust, sealed).await {
            Ok(erased) => erased,
            Err(e) => {
                report.findings.push(Finding::new(Verdict::Undetermined, format!("the records of erasures cannot be read: {e}")));
                Erased::default()
            }
        };
        if snapshot.kind == TableKind::Delta {
            match checkpoints {
                Ok(found) => comparison.findings.extend(compare::checkpoint_findings(found)),
                Err(e) => comparison.findings.push(unreadable(&e)),
            }
        }
        let intact = if self.options.quick {
            // A folder of Parquet is what a listing says of it already.
            if !listed.is_empty() && snapshot.kind == TableKind::Delta {
                match joined(listed).await {
                    Ok(sizes) => {
                        comparison.findings.extend(presence::compare_presence(&self.repository, sizes, snapshot, sealed).await.0);
                    }
                    Err(e) => {
                        comparison.findings.push(Finding::new(Verdict::Undetermined, format!("the table's files cannot be listed: {e}")))
                    }
                }
            }
            let suspect: Vec<&String> = comparison.findings.iter().filter_map(|f| f.file.as_ref()).collect();
            sealed.files.keys().filter(|key| snapshot.files.contains_key(*key) && !suspect.contains(&&key.path)).count()
        } else {
            self.compare_data(snapshot, sealed, &erased, &mut comparison, progress).await
        };
        purge::excuse_purged(&mut comparison.findings, sealed, &erased);
        report.findings.append(&mut comparison.findings);
        Ok(u64::try_from(intact).unwrap_or(u64::MAX))
    }

    async fn compare_data(
        &self,
        snapshot: &TableSnapshot,
        sealed: &SealedTable,
        erased: &Erased,
        comparison: &mut LogComparison,
        progress: &dyn Progress,
    ) -> usize {
        let schema = comparison.at_sealed.as_ref().map_or_else(|| snapshot.schema.clone(), |at| at.schema.clone());
        let observer = observer(&self.repository, &schema, sealed.row_key, true);
        progress.begin("auditing", sealed.baseline.files, sealed.baseline.bytes);
        let files: Vec<&SealedFile> = sealed.files.values().map(Arc::as_ref).collect();
        let reads = stream::iter(files).map(|file| async move {
            let state = match self.options.incremental && observer.is_sealed_version(file).await {
                true => FileState::Intact,
                false if self.options.incremental => observer.compare_changed(file, &|bytes| progress.bytes(bytes)).await,
                false => observer.compare(file, &|bytes| progress.bytes(bytes)).await,
            };
            progress.file(&file.live.key.path);
            (file, state)
        });
        let states: Vec<_> = reads.buffer_unordered(self.options.concurrency.max(1)).collect().await;
        let mut intact = 0;
        for (file, state) in states {
            match state {
                FileState::Intact => intact += 1,
                FileState::Absent if erased.is_of(file) => {
                    comparison.findings.push(Finding::new(Verdict::Purged, erased.said(file)).file(&file.live.key.path));
                }
                // VACUUM takes away what a later commit has removed.
                FileState::Absent if snapshot.kind == TableKind::Delta && !snapshot.files.contains_key(&file.live.key) => {}
                FileState::Absent => comparison.findings.push(Finding::new(Verdict::Missing, sealed.gone(file)).file(&file.live.key.path)),
                FileState::Differs(findings) => comparison.findings.extend(findings),
            }
        }
        let changed = compare_data::compare_changes(&self.repository, snapshot, sealed, &|bytes| progress.bytes(bytes)).await;
        comparison.findings.extend(changed);
        let latest = observer_of(observer, &snapshot.schema);
        compare_rows::compare_rewrites(&latest, sealed, comparison, &|bytes| progress.bytes(bytes)).await;
        if snapshot.kind == TableKind::Parquet {
            compare_data::compare_moved(&self.repository, snapshot, sealed, &mut comparison.findings).await;
        }
        progress.end();
        intact
    }
}

pub(super) fn observer<'a>(repository: &'a Repository, schema: &'a TableSchema, row_key: [u8; 32], rows: bool) -> Observer<'a> {
    Observer { store: &**repository.store(), root: repository.root(), roots: repository.roots(), schema, row_key, rows, profiles: false }
}

fn observer_of<'a>(observer: Observer<'a>, schema: &'a TableSchema) -> Observer<'a> {
    Observer { schema, ..observer }
}

/// What a table that cannot be read comes to: gone, forged, or unknown.
fn unreadable(error: &Error) -> Finding {
    let verdict = match error.kind() {
        ErrorKind::NotFound | ErrorKind::InvalidInput => Verdict::Missing,
        ErrorKind::Corrupt => Verdict::Forged,
        _ => Verdict::Undetermined,
    };
    Finding::new(verdict, format!("the table cannot be read: {error}"))
}
