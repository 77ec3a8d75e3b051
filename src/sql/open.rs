//! From a location and a mode to what is shown of the table: as it is found, or as evidence proves that it was sealed.
//!
//! Where the found log contradicts the baseline, the modes other than `enforce` plan from the sealed state itself, written as a log of our
//! own: statistics, partition values, counts and paths are then the sealed ones, whatever became of the stored log.

use std::borrow::Cow;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectStore;

use super::check;
use super::early::{Early, EarlyLoad, EngineLoad};
use super::later::{self, Believed};
use super::settings::{ReadMode, VerifyMode};
use super::table::TableOptions;
use crate::baseline::{self, Erased, Finding, LogComparison, Outcome, Place, Repository, SealedFile, SealedTable, Trust, Verdict};
use crate::delta::Location;
use crate::error::{Error, ErrorKind, Result};
use crate::store::retained_names;
use crate::table::{
    self, FileKey, LiveFile, TableKind, TableSnapshot, foreign_file, misplaced, parse_commit_path, partition_columns_of, spelled_within,
    written_as_commit,
};
use crate::verify::{Action, Damage, Examined, FirstSeals, Incident, OnDifference, OwnLog, View, examine, sealed_state};

/// So many files are read to place a difference that the log shows.
const PLACED_FILES: usize = 4;
/// Files that are examined at a time.
const EXAMINED_AT_A_TIME: usize = 8;

/// A table that was compared with its baseline, and how it is to be shown.
pub(super) struct Opened {
    /// The table's place, with the other tables whose files the baseline lets its log name.
    pub(super) location: Location,
    pub(super) snapshot: TableSnapshot,
    pub(super) sealed: Option<SealedTable>,
    pub(super) findings: Vec<Finding>,
    /// What the findings say was dealt with: the sealed state is shown.
    pub(super) resolved: bool,
    pub(super) view: View,
    /// Sealed files that are left out whole.
    pub(super) lost_files: usize,
    pub(super) notes: Vec<String>,
    /// Where another log than the stored one is shown only because later commits, or how engines read a checkpoint, are not believed: the commits
    /// that are passed over.
    pub(super) unbelieved: Option<Vec<u64>>,
    /// deltalake's load of the log that was compared, where it has begun.
    pub(super) engine: Option<EngineLoad>,
}

/// Opens the table at `location` as `options` say.
pub(super) async fn open(location: &Location, trust: Option<&Trust>, options: &TableOptions) -> Result<Opened> {
    check_options(location, options)?;
    // With verification off, nothing is asked of the trust.
    let trust = if options.verify == VerifyMode::Off { trust.cloned() } else { newest_trust(location, trust).await? };
    let (trust, options) = (trust.as_ref(), &under_newest_root(trust.as_ref(), options));
    let mut view = View { on_difference: on_difference(options.verify), reports: options.reports.clone(), ..View::default() };
    let mut notes = Vec::new();
    let early = EarlyLoad::begin(location, options);
    let (sealed, known) = match options.verify {
        VerifyMode::Off => {
            notes.push(format!("{}: verification: off", location.name()));
            (None, Vec::new())
        }
        _ => newest(location, trust, options, &mut view, &mut notes).await?,
    };
    let Some(sealed) = sealed else {
        let early = early.log().await.and_then(|Early { log, engine }| Some((log.snapshot().ok()?, engine)));
        let (snapshot, engine) = match early {
            Some(early) => early,
            None => (load(location, None, None).await?, None),
        };
        return Ok(Opened {
            location: location.clone(),
            snapshot,
            sealed: None,
            findings: known,
            resolved: false,
            view,
            lost_files: 0,
            notes,
            unbelieved: None,
            engine,
        });
    };
    let location = &location.with_roots(&sealed.statement.foreign_roots).await?;
    let erased = match trust {
        Some(trust) => location.repository().erased(trust, &sealed).await?,
        None => Erased::default(),
    };
    let (found, comparison, engine) = match found(location, options, &sealed, early).await? {
        Some((found, comparison, engine)) => (Some(found), Some(comparison), engine),
        None => (None, None, None),
    };
    let mut findings = comparison.as_ref().map(|comparison| comparison.findings.clone()).unwrap_or_default();
    baseline::excuse_purged(&mut findings, &sealed, &erased);
    view.erased = erased.digests;
    findings.extend(known);
    let differs = found.is_none() || findings.iter().any(|f| matches!(f.verdict.outcome(), Outcome::Mismatch | Outcome::Undetermined));
    let resolved = differs && options.verify != VerifyMode::Enforce;
    let mut snapshot = match found {
        Some(found) if !resolved => {
            note_unsealed(location, &sealed, &findings, &mut notes);
            narrowed(found, &sealed, options.mode)
        }
        found => proven(location, options, &sealed, found.as_ref(), &findings).await?,
    };
    let number = sealed.baseline.number;
    if resolved {
        tell(location, number, &findings, &view);
    }
    let (mut edited, mut unbelieved) = (resolved, None);
    if let (Some(comparison), false) = (&comparison, resolved)
        && let Some(Believed { snapshot: believed, passed_over }) =
            later::distrust(location, &sealed, comparison, &snapshot, &mut notes).await?
    {
        edited = true;
        snapshot = believed;
        unbelieved = Some(passed_over);
    }
    if (told_by_checkpoint(&snapshot) || names_another(location, &snapshot, &sealed)) && !resolved {
        edited = true;
        unbelieved.get_or_insert_default();
    }
    if snapshot.kind == TableKind::Parquet {
        // A file that nobody sealed must not say how the sealed ones are found.
        let files = sealed.files.iter().map(|(key, file)| (key.clone(), file.live.clone())).collect();
        snapshot.schema.partition_columns = partition_columns_of(&files);
        // Nor keep anybody from reading them.
        let columns = &snapshot.schema.partition_columns;
        let left_out = |key: &FileKey, file: &LiveFile| !sealed.files.contains_key(key) && misplaced([file], columns).is_some();
        let unfit: Vec<FileKey> = snapshot.files.iter().filter(|(key, file)| left_out(key, file)).map(|(key, _)| key.clone()).collect();
        for key in unfit {
            notes.push(format!(
                "{}: {} is left out: nobody sealed it, and it does not lie in folders of the table's partition columns",
                location.name(),
                key.path
            ));
            snapshot.files.remove(&key);
        }
    }
    let mut lost_files = 0;
    if options.verify == VerifyMode::Quarantine {
        lost_files = leave_out(location, &sealed, &mut snapshot, &mut view).await?;
    }
    edited |= lost_files > 0 || !view.trimmed.is_empty();
    if edited && snapshot.kind == TableKind::Delta {
        view.log = Some(own_log(location, &snapshot, &sealed, 0)?);
    }
    let location = location.clone();
    Ok(Opened { location, snapshot, sealed: Some(sealed), findings, resolved, view, lost_files, notes, unbelieved, engine })
}

/// Opens the table at `version`, held against the newest baseline that is not newer; without one it is read unverified.
pub(super) async fn open_at(location: &Location, trust: Option<&Trust>, options: &TableOptions, version: u64) -> Result<Opened> {
    let trust = newest_trust(location, trust).await?;
    let (trust, options) = (trust.as_ref(), &under_newest_root(trust.as_ref(), options));
    let mut view = View { reports: options.reports.clone(), ..View::default() };
    let mut notes = Vec::new();
    let sealed = match trust {
        Some(trust) => newest_until(location, trust, version).await?,
        None => None,
    };
    let rooted = match &sealed {
        Some(sealed) => location.with_roots(&sealed.statement.foreign_roots).await?,
        None => location.clone(),
    };
    let location = &rooted;
    let mut snapshot = load(location, Some(version), sealed.as_ref()).await?;
    let mut findings = Vec::new();
    if let Some(sealed) = &sealed {
        let comparison = compare(location, options, &snapshot, sealed).await?;
        let believed = later::distrust(location, sealed, &comparison, &snapshot, &mut notes).await?;
        let edited = believed.is_some() || told_by_checkpoint(&snapshot) || names_another(location, &snapshot, sealed);
        if let Some(Believed { snapshot: believed, .. }) = believed {
            snapshot = believed;
        }
        if edited {
            view.log = Some(own_log(location, &snapshot, sealed, 0)?);
        }
        findings = comparison.findings;
        // What a table was does not change when the term of a baseline of that time is over.
        findings.retain(|finding| options.mode == ReadMode::Sealed || finding.verdict != Verdict::Expired);
        note_unsealed(location, sealed, &findings, &mut notes);
    }
    let location = location.clone();
    Ok(Opened { location, snapshot, sealed, findings, resolved: false, view, lost_files: 0, notes, unbelieved: None, engine: None })
}

/// Whether a stored checkpoint says the state, or a part of it. Engines read checkpoints by rules of their own, of which ours are not all: what was
/// compared is what we make of it, and is what they are shown.
fn told_by_checkpoint(snapshot: &TableSnapshot) -> bool {
    snapshot.kind == TableKind::Delta && snapshot.checkpoint.is_some()
}

/// Whether a live file is another table's: engines are to look for it in no store but ours, where it has a name of our own.
fn names_another(location: &Location, snapshot: &TableSnapshot, sealed: &SealedTable) -> bool {
    !sealed.statement.foreign_roots.is_empty() && foreign_file(location.root(), snapshot).is_some()
}

/// A log that says `snapshot` of the table at `location`, at `version`.
pub(super) fn own_log(location: &Location, snapshot: &TableSnapshot, sealed: &SealedTable, version: u64) -> Result<OwnLog> {
    let within = match sealed.statement.foreign_roots.is_empty() {
        true => Cow::Borrowed(snapshot),
        false => Cow::Owned(spelled_within(location.root(), &sealed.statement.foreign_roots, snapshot)?),
    };
    Ok(OwnLog { commit: written_as_commit(&within, sealed.baseline.created_ms)?.into(), version })
}

/// The newest trust that is published beside the table: baselines, log, pins and writers are all judged by it. Where two roots disagree, the
/// newest baseline is what says so.
pub(super) async fn newest_trust(location: &Location, trust: Option<&Trust>) -> Result<Option<Trust>> {
    let Some(trust) = trust else { return Ok(None) };
    match location.repository().newest_trust(trust).await {
        Ok(newest) => Ok(Some(newest)),
        Err(error) if error.is_retryable() => Err(error.with("table", location.name())),
        Err(_) => Ok(Some(trust.clone())),
    }
}

/// The options with the writers that the newest trust root lists.
pub(super) fn under_newest_root(trust: Option<&Trust>, options: &TableOptions) -> TableOptions {
    let mut options = options.clone();
    if let Some(trust) = trust.filter(|trust| trust.root().is_some()) {
        options.writers = options.writers.at(trust);
    }
    options
}

/// The newest baseline of `version` or an older one.
async fn newest_until(location: &Location, trust: &Trust, version: u64) -> Result<Option<SealedTable>> {
    let repository = location.repository();
    let all = repository.baselines(trust).await?;
    match all.into_iter().rfind(|baseline| baseline.summary.version.is_some_and(|sealed| sealed <= version)) {
        Some(baseline) => repository.readable_table(baseline).await.map(Some),
        None => Ok(None),
    }
}

fn check_options(location: &Location, options: &TableOptions) -> Result<()> {
    let refuse = |what: &str| Err(Error::new(ErrorKind::Config, what.to_owned()).with("table", location.name()));
    match options.verify {
        VerifyMode::Quarantine if options.require_sealed => {
            refuse("a gate does not quarantine: an attacker would choose which rows vanish; use enforce or heal")
        }
        VerifyMode::Off if options.require_sealed || options.mode == ReadMode::Sealed => {
            refuse("exactly what was sealed cannot be read with verification off")
        }
        _ => Ok(()),
    }
}

const fn on_difference(mode: VerifyMode) -> OnDifference {
    match mode {
        VerifyMode::Enforce | VerifyMode::Quarantine | VerifyMode::Off => OnDifference::Refuse,
        VerifyMode::Heal => OnDifference::Heal,
        VerifyMode::Warn => OnDifference::Deliver,
    }
}

/// The newest baseline that counts, and what is wrong with it beside pins and the log. When seals were taken away, `heal` reads those that
/// the store retains.
async fn newest(
    location: &Location,
    trust: Option<&Trust>,
    options: &TableOptions,
    view: &mut View,
    notes: &mut Vec<String>,
) -> Result<(Option<SealedTable>, Vec<Finding>)> {
    let repository = location.repository();
    let named = |e: Error| e.with("table", location.name());
    let found = match trust {
        Some(trust) => match readable(&repository, trust).await {
            Ok(found) => Ok(found),
            Err(error) if error.is_retryable() => return Err(named(error)),
            Err(error) => Err(error),
        },
        None => Ok(None),
    };
    let mut found = found;
    if let (Some(trust), VerifyMode::Heal, Ok(None) | Err(_)) = (trust, options.verify, &found)
        && let Some(sealed) = retained_baseline(location, trust, view).await?
    {
        found = Ok(Some(sealed));
    }
    let found = found.map_err(named)?;
    let repository = match &view.seals {
        Some(seals) => Repository::new(seals.clone(), location.root().clone()),
        None => repository,
    };
    let mut known = Vec::new();
    if let Some(trust) = trust {
        let place = location.clone().of_lake(options.lake_id);
        let pins = options.pins.as_deref().map(|pins| (pins, place.pin_names()));
        let pins = pins.as_ref().map(|(pins, names)| (*pins, names));
        let (log, url, now_ms) = (place.log(), place.url().as_str(), options.clock.now_ms());
        known = baseline::compare_known(&repository, &log, url, found.as_ref(), trust, pins, now_ms).await?;
        if options.verify != VerifyMode::Enforce {
            // Whatever else is healed or left out: a baseline that is known not to be the newest is no ground for it.
            check::enforce(location.name(), found.as_ref().map_or(0, |sealed| sealed.baseline.number), &known)?;
        }
    }
    if found.is_some() || !known.is_empty() {
        return Ok((found, known));
    }
    let stored = repository.names().await?.len();
    let why = match (stored, trust) {
        (0, _) => "it was never sealed, or its seals were taken away".to_owned(),
        (n, None) => format!("no key is trusted that could have signed its baselines (there are {n})"),
        (n, Some(_)) => format!("no trusted key signed any of its {n} baselines"),
    };
    // Whoever replaced the seals with some of their own must not have the table answered as one that nobody ever sealed.
    let replaced = stored > 0 && trust.is_some() && !matches!(options.verify, VerifyMode::Warn | VerifyMode::Off);
    if replaced || options.require_sealed || options.mode == ReadMode::Sealed {
        let kind = if stored == 0 { ErrorKind::NotFound } else { ErrorKind::Unauthentic };
        return Err(named(Error::new(kind, format!("the table has no baseline to be held against: {why}"))));
    }
    notes.push(format!("{}: verification: none ({why})", location.name()));
    Ok((None, Vec::new()))
}

async fn readable(repository: &Repository, trust: &Trust) -> Result<Option<SealedTable>> {
    match repository.newest_statement(trust).await? {
        Some(baseline) => repository.readable_table(baseline).await.map(Some),
        None => Ok(None),
    }
}

/// The newest baseline among the seals as they were first written, when the store retains versions.
async fn retained_baseline(location: &Location, trust: &Trust, view: &mut View) -> Result<Option<SealedTable>> {
    let folder = location.root().clone().join(baseline::SEAL_FOLDER);
    if retained_names(location.store().as_ref(), &folder).await?.is_none_or(|names| names.is_empty()) {
        return Ok(None);
    }
    let seals: Arc<dyn ObjectStore> = Arc::new(FirstSeals::new(location.store().clone(), folder));
    let Ok(Some(sealed)) = Repository::new(seals.clone(), location.root().clone()).newest_baseline(trust).await else { return Ok(None) };
    let detail = "the table's seals were taken away or changed";
    let damage =
        Damage { table: location.name().to_owned(), file: baseline::SEAL_FOLDER.to_owned(), places: Vec::new(), detail: detail.to_owned() };
    let source = Some(format!("the retained first versions of its seals (baseline {})", sealed.baseline.number));
    view.reports.add(Incident { action: Action::Healed, damage, source });
    view.seals = Some(seals);
    Ok(Some(sealed))
}

/// The table as its log tells it, and what is wrong with that; `None` where the log cannot be read and the mode can do without.
async fn found(
    location: &Location,
    options: &TableOptions,
    sealed: &SealedTable,
    early: EarlyLoad,
) -> Result<Option<(TableSnapshot, LogComparison, Option<EngineLoad>)>> {
    let version = if options.mode == ReadMode::Sealed { sealed.baseline.version } else { None };
    let (read, engine) = match early.log_since(sealed).await {
        Some(Early { log, engine }) => (Ok(log), engine),
        None => (table::read_log(location.store().as_ref(), location.root(), version).await, None),
    };
    let loaded = read.and_then(|log| baseline::snapshot_of(log, location.root(), sealed)).map_err(|e| unlike(location, Some(sealed), e));
    match loaded {
        Ok(snapshot) => {
            let comparison = compare(location, options, &snapshot, sealed).await?;
            Ok(Some((snapshot, comparison, engine)))
        }
        Err(error) if error.kind() == ErrorKind::Mismatch && options.verify != VerifyMode::Enforce => Ok(None),
        Err(error) => Err(error),
    }
}

async fn load(location: &Location, version: Option<u64>, sealed: Option<&SealedTable>) -> Result<TableSnapshot> {
    let loaded = table::load(location.store().as_ref(), location.root(), version).await;
    let mut snapshot = loaded.map_err(|e| unlike(location, sealed, e))?;
    if let Some(sealed) = sealed {
        sealed.statement.foreign_roots.place(location.root(), &mut snapshot);
    }
    Ok(snapshot)
}

/// A sealed table that is there no more, or whose log is damaged, is a difference from the baseline.
fn unlike(location: &Location, sealed: Option<&SealedTable>, error: Error) -> Error {
    match (sealed, error.kind()) {
        (Some(sealed), ErrorKind::NotFound | ErrorKind::Corrupt | ErrorKind::InvalidInput) => {
            let what = format!("the table cannot be read as baseline {} sealed it", sealed.baseline.number);
            Error::new(ErrorKind::Mismatch, what).with("table", location.name()).caused_by(error)
        }
        _ => error.with("table", location.name()),
    }
}

fn place<'a>(location: &'a Location, options: &'a TableOptions) -> Place<'a> {
    Place {
        store: location.store().as_ref(),
        root: location.root(),
        location: location.url().as_str(),
        now_ms: options.clock.now_ms(),
        writers: &options.writers,
        memory: None,
    }
}

async fn compare(location: &Location, options: &TableOptions, snapshot: &TableSnapshot, sealed: &SealedTable) -> Result<LogComparison> {
    let mut comparison = baseline::compare_log(&place(location, options), snapshot, sealed).await?;
    if options.verify == VerifyMode::Enforce {
        let repository = location.repository();
        baseline::compare_moved(&repository, snapshot, sealed, &mut comparison.findings).await;
        place_in_files(location, snapshot, sealed, &mut comparison.findings).await;
    }
    Ok(comparison)
}

/// Differences in what the log says of a file are often the traces of changed data: reads those files to say where.
async fn place_in_files(location: &Location, snapshot: &TableSnapshot, sealed: &SealedTable, findings: &mut Vec<Finding>) {
    let repository = location.repository();
    let mut named: Vec<String> = findings.iter().filter(|f| f.verdict.is_mismatch()).filter_map(|f| f.file.clone()).collect();
    named.sort();
    named.dedup();
    if named.is_empty() {
        return;
    }
    // Without row groups, what differs is named as the log has it.
    let Ok(sealed) = repository.with_row_groups(sealed).await else { return };
    for file in named.iter().filter_map(|name| sealed.file_at(name)).take(PLACED_FILES) {
        findings.extend(baseline::compare_file(&repository, &snapshot.schema, sealed.row_key, file).await);
    }
}

fn note_unsealed(location: &Location, sealed: &SealedTable, findings: &[Finding], notes: &mut Vec<String>) {
    let later = findings.iter().filter(|finding| finding.verdict.outcome() == Outcome::IntactWithUnsealed);
    if let count @ 1.. = later.count() {
        notes.push(format!(
            "{}: {count} later change(s) are not covered by baseline {} and were read unverified",
            location.name(),
            sealed.baseline.number
        ));
    }
}

/// In sealed mode, a folder of Parquet consists of its sealed files; a Delta table was loaded at the sealed version already.
fn narrowed(mut snapshot: TableSnapshot, sealed: &SealedTable, read: ReadMode) -> TableSnapshot {
    if let (ReadMode::Sealed, TableKind::Parquet) = (read, snapshot.kind) {
        snapshot.files.retain(|key, _| sealed.files.contains_key(key));
    }
    snapshot
}

/// The sealed state in place of what was found. It is the state that was asked for, or the query fails.
///
/// # Errors
/// [`ErrorKind::Mismatch`] when the baseline does not hold here and now, or when it is the newest state that is asked for and commits came
/// after the baseline: to leave them out without a word would be the rollback that an attacker may want.
async fn proven(
    location: &Location,
    options: &TableOptions,
    sealed: &SealedTable,
    found: Option<&TableSnapshot>,
    findings: &[Finding],
) -> Result<TableSnapshot> {
    let number = sealed.baseline.number;
    let of_baseline = |f: &&Finding| matches!(f.verdict, Verdict::Untrusted | Verdict::Expired);
    let broken: Vec<Finding> = findings.iter().filter(of_baseline).cloned().collect();
    check::enforce(location.name(), number, &broken)?;
    check_expiry(location, options, sealed)?;
    if options.mode == ReadMode::Latest && sealed.statement.state.kind == TableKind::Delta {
        refuse_rollback(location, sealed, found, findings).await?;
    }
    let state = sealed_state(location.store().as_ref(), location.root(), sealed, found).await;
    let mut snapshot = state.map_err(|e| e.with("table", location.name()))?;
    if let (Some(found), ReadMode::Latest, TableKind::Parquet) = (found, options.mode, snapshot.kind) {
        let later = found.files.iter().filter(|(key, _)| !sealed.files.contains_key(*key));
        snapshot.files.extend(later.map(|(key, file)| (key.clone(), file.clone())));
    }
    Ok(snapshot)
}

/// Without a log that can be read, nothing else has said whether the baseline's term is over and it belongs here.
fn check_expiry(location: &Location, options: &TableOptions, sealed: &SealedTable) -> Result<()> {
    let now_ms = options.clock.now_ms();
    let refuse = |what: String| Err(Error::new(ErrorKind::Mismatch, what).with("table", location.name()));
    if sealed.statement.expires_ms.is_some_and(|expires| expires <= now_ms) {
        return refuse(format!("baseline {} has expired: what it sealed is not served any more", sealed.baseline.number));
    }
    let place = place(location, options);
    if !baseline::is_sealed_location(sealed, place.location) {
        return refuse(format!("baseline {} seals the table at {}", sealed.baseline.number, sealed.statement.location));
    }
    Ok(())
}

async fn refuse_rollback(location: &Location, sealed: &SealedTable, found: Option<&TableSnapshot>, findings: &[Finding]) -> Result<()> {
    let version = sealed.statement.state.version;
    let log = location.root().clone().join("_delta_log");
    let later = match retained_names(location.store().as_ref(), &log).await? {
        Some(names) => names.iter().any(|name| parse_commit_path(name).is_some_and(|(_, commit)| commit > version)),
        // A store that retains nothing cannot say what was taken away.
        None => found.is_none_or(|found| found.version != version),
    };
    if !later {
        return Ok(());
    }
    check::enforce(location.name(), sealed.baseline.number, findings).map_err(|e| e.with("heal", LATER))?;
    Err(Error::new(ErrorKind::Mismatch, "the table's log cannot be read").with("table", location.name()).with("heal", LATER))
}

const LATER: &str = "commits came after the baseline, or that cannot be ruled out, and only the sealed version can be served: ask for it with SET lakeseal.read = 'sealed'";

/// Reports what the findings say, and that the sealed state is shown instead.
fn tell(location: &Location, number: u64, findings: &[Finding], view: &View) {
    let source = Some(format!("the evidence of baseline {number}"));
    let add = |file: String, places, detail: String| {
        let damage = Damage { table: location.name().to_owned(), file, places, detail };
        view.reports.add(Incident { action: Action::Healed, damage, source: source.clone() });
    };
    let wrong: Vec<&Finding> = findings.iter().filter(|f| f.verdict.is_mismatch()).collect();
    if wrong.is_empty() {
        add("_delta_log".to_owned(), Vec::new(), "the table's log cannot be read, or what it says could not be determined".to_owned());
    }
    for finding in wrong {
        let file = finding.file.clone().or_else(|| finding.commit.map(|version| format!("_delta_log/{version:020}.json")));
        let places = vec![(finding.row_group, finding.column.clone())];
        add(file.unwrap_or_default(), places, format!("{}: {}", finding.verdict, finding.detail));
    }
}

type ExaminedFile = (Arc<SealedFile>, Examined);

/// Leaves out what is damaged of the sealed files: row groups, or whole files. Says how many of these.
///
/// Cost: every live sealed file is read once, before the first row is released: all answers must leave out the same rows.
async fn leave_out(location: &Location, sealed: &SealedTable, snapshot: &mut TableSnapshot, view: &mut View) -> Result<usize> {
    let repository = Repository::new(view.seals.clone().unwrap_or_else(|| location.store().clone()), location.root().clone());
    let sealed = repository.with_row_groups(sealed).await.map_err(|e| e.with("table", location.name()))?;
    let files = sealed.files.iter().filter(|(key, _)| snapshot.files.contains_key(*key));
    let reads: Vec<BoxFuture<'static, Result<ExaminedFile>>> = files
        .map(|(_, file)| {
            let (store, file) = (location.store().clone(), file.clone());
            async move {
                let examined = examine(store.as_ref(), &file).await?;
                Ok((file, examined))
            }
            .boxed()
        })
        .collect();
    let mut examined = stream::iter(reads).buffer_unordered(EXAMINED_AT_A_TIME);
    let mut lost = 0;
    while let Some((file, examined)) = examined.try_next().await.map_err(|e| e.with("table", location.name()))? {
        let key = &file.live.key;
        let (places, detail) = match examined {
            Examined::Intact => continue,
            Examined::Lost(why) => {
                snapshot.files.remove(key);
                lost += 1;
                (Vec::new(), format!("the whole file was left out: {why}"))
            }
            Examined::Trimmed(trimmed) => {
                if let Some(live) = snapshot.files.get_mut(key) {
                    let live = Arc::make_mut(live);
                    live.size = trimmed.size();
                    // Bounds would still hold, but nulls would not: only the count is known.
                    live.stats = Some(serde_json::json!({"numRecords": trimmed.rows}).into());
                }
                let places = trimmed.places.clone();
                view.trimmed.insert(key.clone(), trimmed);
                (places, "row groups were left out: their bytes are not the sealed ones".to_owned())
            }
        };
        let damage = Damage { table: location.name().to_owned(), file: key.path.clone(), places, detail };
        view.reports.add(Incident { action: Action::Skipped, damage, source: None });
    }
    Ok(lost)
}
