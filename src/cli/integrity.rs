//! `seal`, `audit`, `log TABLE`.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::args::{AuditArgs, SealArgs};
use super::context::{Context, OpenLake};
use super::countersign;
use super::output::{self, BAD, DIM, GOOD, NOTE, Output, bytes, count, styled};
use super::pins::PinFile;
use super::progress::Bars;
use super::report;
use super::{Ending, log};
use crate::baseline::log::LoggedBaseline;
use crate::baseline::{
    AuditOptions, AuditReport, Auditor, BaselineName, BaselineSummary, Finding, Outcome, Raised, Repository, SealOptions, SealOutcome,
    Sealer, Standing, Trust, TrustLevel,
};
use crate::delta::{Location, foreign_root};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{SecretKey, Signer as _};
use crate::printable::one_line;
use crate::sql::hold_expectations;
use crate::table::ForeignRoots;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// How much of a digest people are shown in tables.
const SHORT_DIGEST: usize = 16;

pub(super) async fn seal(args: SealArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    let mut pins = PinFile::read_if_any(args.pin.as_deref()).await?;
    let key = if args.prepare { None } else { Some(context.sealer(args.key.as_deref())?) };
    // Whoever the user trusts may have sealed before: their baselines are continued, not begun anew.
    let trust = context.trust_if_any(&args.trust)?;
    let (lake, location) = context.table(&args.table).await?;
    let trust = match trust {
        Some(_) => Some(context.trust_at(&args.trust, &location).await?),
        None => None,
    };
    let foreign_roots = match args.no_foreign_root {
        true => Some(ForeignRoots::default()),
        false => foreign_roots(&args.foreign_root, lake.as_ref()).await?,
    };
    let options = SealOptions {
        foreign_roots,
        writers: context.writers(&args.writers, trust.as_ref(), lake.as_ref())?,
        expires_after_ms: days(args.expires_days),
        rows: !args.no_rows,
        accept_changes: args.accept_changes,
        force: args.renew,
        trust,
        bounds: countersign::bounds(&args.bounds),
        inventory_expires_after_ms: days(args.inventory_days),
        record: args.together.is_empty(),
        ..SealOptions::default()
    };
    let mut others = Vec::new();
    for table in &args.together {
        let (lake, other) = context.table(table).await?;
        log::same_log(&location, &other)?;
        let is_known = std::iter::once(&location).chain(others.iter().map(|(_, known)| known)).any(|known| known.url() == other.url());
        if is_known {
            return Err(Error::new(ErrorKind::InvalidInput, "a table is named twice").with("table", table));
        }
        others.push((lake, other));
    }
    let mut sealed = Vec::new();
    for table in std::iter::once(&location).chain(others.iter().map(|(_, other)| other)) {
        match seal_one(table, key.as_ref(), options.clone(), &args, &mut pins, (context, out)).await? {
            Some(logged) => sealed.push(logged),
            None => return Ok(Ending::Undetermined),
        }
    }
    let Some(key) = key.filter(|_| !others.is_empty()) else { return Ok(Ending::Done) };
    let expires_ms = options.inventory_expires_after_ms.map(|after| context.clock.now_ms().saturating_add(after));
    let Some(logged) = sealed.into_iter().collect::<Option<Vec<_>>>() else {
        if !args.json {
            let note = styled(NOTE, "note:");
            out.line(format_args!("{note} not every table has enough signatures: they are not recorded as one"))?;
        }
        return Ok(Ending::Undetermined);
    };
    let trust = match options.trust {
        Some(trust) => trust.and(key.public()),
        None => Trust::new([key.public()], TrustLevel::Given)?,
    };
    // Who must agree, the newest root says.
    let trust = location.repository().newest_trust(&trust).await?;
    let count = logged.len();
    let (state, as_one) = log::together(&location, logged, expires_ms, &key, &trust, context).await?;
    if let Some(pins) = &mut pins {
        pins.raise_log(&location.pin_names(), &state)?;
    }
    if !args.json && !as_one {
        let note = styled(NOTE, "note:");
        out.line(format_args!("{note} the log lists them as one once enough sealers have sealed them together"))?;
    } else if !args.json {
        out.line(format_args!("{} {count} tables as one, in the log's first {} entries", styled(GOOD, "sealed"), state.size))?;
    }
    Ok(Ending::Done)
}

/// The tables whose files a log may name; nothing when none is said.
pub(super) async fn foreign_roots(arguments: &[String], lake: Option<&OpenLake>) -> Result<Option<ForeignRoots>> {
    let lake = lake.map(|lake| &lake.named);
    let mut roots = Vec::with_capacity(arguments.len());
    for argument in arguments {
        roots.push(foreign_root(argument, lake).await?);
    }
    Ok((!roots.is_empty()).then_some(ForeignRoots(roots)))
}

/// Days as milliseconds; none for 0.
pub(super) fn days(days: u32) -> Option<i64> {
    (days > 0).then(|| DAY_MS * i64::from(days))
}

/// Seals one table, or prepares it, and says so. Returns what the log is to say of it, once it is in force; nothing at all when somebody
/// looked at the changes and would not sign them.
async fn seal_one(
    location: &Location,
    key: Option<&SecretKey>,
    options: SealOptions,
    args: &SealArgs,
    pins: &mut Option<PinFile>,
    (context, out): (&Context, &mut Output),
) -> Result<Option<Option<LoggedBaseline>>> {
    let names = location.pin_names();
    let known = pins.as_ref().map(|file| &file.pins);
    let (pin, log_pin) = (known.and_then(|pins| pins.table(&names)), known.and_then(|pins| pins.log(&names)).cloned());
    let options = SealOptions { pin, log_pin, ..options };
    let own = key.map(|key| key.public());
    let options = super::expectations::with_expectations(options, args, location, own, context).await?;
    let Some(sealed) = made(args, options, key, location, context, out).await? else { return Ok(None) };
    if args.json {
        out.line(countersign::outcome_json(&sealed))?;
    } else {
        tell_sealed(&sealed, location.name(), args.prepare, out)?;
    }
    if args.trust.is_empty() {
        context.keep_newest_root(&location.repository()).await?;
    }
    if !sealed.is_in_force() {
        return Ok(Some(None));
    }
    if let Some(pins) = pins {
        let raised = pins.raise(&names, &sealed.baseline, sealed.log.as_ref())?;
        if !args.json {
            tell_raised(raised, sealed.baseline.number, pins.is_kept(), out)?;
        }
    }
    Ok(Some(Some(sealed.to_record(location.url().as_str(), &location.log(), location.root()))))
}

/// The seal, or what was prepared; `None` when somebody looked at the changes and would not sign them.
async fn made(
    args: &SealArgs,
    options: SealOptions,
    key: Option<&SecretKey>,
    location: &Location,
    context: &Context,
    out: &mut Output,
) -> Result<Option<SealOutcome>> {
    let (store, root, url) = (location.store().clone(), location.root().clone(), location.url().as_str());
    let clock = context.clock.clone();
    let Some(key) = key else {
        let trust = context.trust_at(&args.trust, location).await?;
        let prepared =
            Sealer::preparing(store, root, url, trust, clock, options).with_log(location.log()).prepare(&Bars::default()).await?;
        return Ok(Some(prepared.outcome));
    };
    // A lone key that its user made asks for no ceremony.
    let asks = options.trust.as_ref().is_some_and(|trust| trust.root().is_some()) && options.bounds.is_none() && !args.yes;
    let sealer = Sealer::new(store, root, url, key.clone(), clock, options)?.with_log(location.log());
    if !asks {
        return sealer.seal(&Bars::default()).await.map(Some);
    }
    let prepared = sealer.prepare(&Bars::default()).await?;
    if !prepared.outcome.unchanged {
        countersign::show(&prepared.outcome.diff, out)?;
        for line in findings(&prepared.outcome.findings) {
            out.line(format_args!("  {line}"))?;
        }
        if !countersign::confirmed("Seal this?")? {
            out.line("not sealed")?;
            return Ok(None);
        }
    }
    sealer.sign(prepared).await?.ok_or_else(countersign::overtaken).map(Some)
}

fn tell_sealed(sealed: &SealOutcome, table: &str, prepared: bool, out: &mut Output) -> Result<()> {
    let baseline = &sealed.baseline;
    match (sealed.unchanged, prepared) {
        (true, _) => out.line(format_args!("{table} is sealed already, by baseline {}: nothing is new", baseline.number))?,
        (false, true) => out.line(format_args!("{} baseline {} of {table}, unsigned", styled(GOOD, "prepared"), baseline.number))?,
        (false, false) => out.line(format_args!("{} {table} as baseline {}", styled(GOOD, "sealed"), baseline.number))?,
    }
    out.line(format_args!("  digest    {}", baseline.digest))?;
    if let Some(version) = baseline.version {
        out.line(format_args!("  version   {version}"))?;
    }
    out.line(format_args!("  covers    {} rows in {}, {}", count(baseline.rows), output::files(baseline.files), bytes(baseline.bytes)))?;
    let (added, reused) = (output::files(sealed.files_added), count(sealed.files_reused));
    out.line(format_args!("  read      {added}, {}; {reused} sealed before", bytes(sealed.bytes_read)))?;
    if !sealed.unchanged {
        countersign::show(&sealed.diff, out)?;
    }
    countersign::standing(sealed, out)?;
    if let Some(expires) = baseline.expires_ms {
        out.line(format_args!("  expires   {}", output::time(expires)))?;
    }
    if let Some(log) = &sealed.log {
        out.line(format_args!("  log       {} entries", count(log.size)))?;
    }
    for line in findings(&sealed.findings) {
        out.line(format_args!("  {line}"))?;
    }
    for note in &sealed.notes {
        out.line(format_args!("  {} {}", styled(NOTE, "note:"), one_line(note)))?;
    }
    if sealed.first {
        out.line(format_args!("  {} this is trust on first use: it says what is there, not that it is true", styled(NOTE, "note:")))?;
    }
    Ok(())
}

pub(super) async fn audit(args: AuditArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    // Without anybody to trust nothing is opened.
    context.trust(&args.trust)?;
    let (lake, location) = context.table(&args.table).await?;
    let trust = context.trust_at(&args.trust, &location).await?;
    let url = location.url().as_str();
    let writers = context.writers(&args.writers, Some(&trust), lake.as_ref())?;
    let mut pins = PinFile::read_if_any(args.pin.as_deref()).await?;
    let names = location.pin_names();
    let known = pins.as_ref().map(|file| &file.pins);
    let options = AuditOptions {
        quick: args.quick,
        incremental: args.incremental,
        writers,
        pin: known.and_then(|pins| pins.table(&names)),
        log_pin: known.and_then(|pins| pins.log(&names)).cloned(),
        ..AuditOptions::default()
    };
    let (store, root) = (location.store().clone(), location.root().clone());
    let auditor = Auditor::new(store, root, url, trust.clone(), context.clock.clone(), options).with_log(location.log());
    let mut report = auditor.audit(&Bars::default()).await?;
    if !args.quick {
        hold_expectations(&mut report, &location, &trust, context.clock.now_ms()).await;
    }
    let report = report;
    // The verdict is told before anything else can fail.
    let mut done = vec![if args.json { out.line(report.to_json()) } else { tell(&report, args.quick, out) }];
    // What is wrong, or could not be looked at, must not become what later audits go by.
    if let (Some(pins), Some(baseline), Outcome::Intact | Outcome::IntactWithUnsealed) = (&mut pins, &report.baseline, report.outcome()) {
        done.push(match pins.raise(&names, baseline, report.log.as_ref()) {
            Ok(raised) if !args.json => tell_raised(raised, baseline.number, pins.is_kept(), out),
            raised => raised.map(drop),
        });
    }
    if let Some(file) = &args.sarif {
        done.push(report::write_sarif(file, &report, &args.table));
    }
    if let Some(file) = &args.html {
        done.push(report::write_html(file, &report, &args, &location, &trust, context).await);
    }
    if args.trust.is_empty() {
        done.push(context.keep_newest_root(&location.repository()).await);
    }
    super::ended(report.outcome().into(), done.into_iter().filter_map(Result::err).collect())
}

fn tell_raised(raised: Raised, number: u64, kept: bool, out: &mut Output) -> Result<()> {
    match raised {
        Raised::First | Raised::From(_) if !kept => {
            out.line("  pin       read from a URL: what was found now is not kept there, publish it yourself")
        }
        Raised::First => out.line(format_args!("  pin       baseline {number}: nothing was pinned before")),
        Raised::From(before) => out.line(format_args!("  pin       baseline {number}, before {before}")),
        Raised::Not => Ok(()),
        Raised::Above(pinned) => out.line(format_args!(
            "  pin       stays at baseline {pinned}: to begin anew with {number}, remove the table from the file of pins by hand"
        )),
    }
}

fn tell(report: &AuditReport, quick: bool, out: &mut Output) -> Result<()> {
    let verdict = match report.outcome() {
        Outcome::Intact => styled(GOOD, "intact"),
        Outcome::IntactWithUnsealed => styled(NOTE, "intact, with unsealed changes"),
        Outcome::Mismatch => styled(BAD, "MISMATCH"),
        Outcome::Undetermined => styled(NOTE, "undetermined"),
    };
    out.line(format_args!("{}: {verdict}", report.table))?;
    match &report.baseline {
        Some(baseline) => {
            let version = baseline.version.map_or_else(String::new, |version| format!(" of version {version}"));
            out.line(format_args!("  baseline  {}{version}, {}", baseline.number, output::time(baseline.created_ms)))?;
            out.line(format_args!("  digest    {}", baseline.digest))?;
        }
        None => out.line("  baseline  none that you trust")?,
    }
    if let Some(version) = report.version {
        out.line(format_args!("  version   {version}"))?;
    }
    let root = report.baseline.as_ref().and_then(|baseline| baseline.trust_root);
    let root = root.map_or_else(String::new, |(version, _)| format!(", version {version}"));
    let signed = report.baseline.as_ref().map_or_else(String::new, |baseline| {
        format!("; signed by {} of the {} that it takes", baseline.signed_by.len(), baseline.signatures_needed)
    });
    out.line(format_args!("  trust     {}{root}{signed}", report.trust.name()))?;
    let summary: Vec<String> = report.summary.iter().map(|(verdict, n)| format!("{} {}", count(*n), verdict.name())).collect();
    out.line(format_args!("  found     {}", summary.join(", ")))?;
    if quick {
        out.line(format_args!("  {} --quick read no data: changed bytes of the same length are not seen", styled(NOTE, "note:")))?;
    }
    for line in findings(&report.findings) {
        out.line(format_args!("  {line}"))?;
    }
    for note in &report.notes {
        out.line(format_args!("  {} {}", styled(DIM, "note:"), one_line(note)))?;
    }
    Ok(())
}

/// The findings as aligned lines, each with its detail below; none when there are none.
pub(super) fn findings(findings: &[Finding]) -> Vec<String> {
    let mut lines = Vec::new();
    for finding in findings {
        let style = if finding.verdict.is_mismatch() { BAD } else { NOTE };
        let mut line = styled(style, finding.verdict.name());
        let places = [
            ("commit", finding.commit.map(|n| n.to_string())),
            ("file", finding.file.as_deref().map(|file| one_line(file).into_owned())),
            ("row group", finding.row_group.map(|n| n.to_string())),
            ("column", finding.column.as_deref().map(|column| one_line(column).into_owned())),
        ];
        for (name, place) in places {
            if let Some(place) = place {
                line.push_str(&format!("  {} {place}", styled(DIM, name)));
            }
        }
        lines.push(line);
        lines.push(format!("    {}", one_line(&finding.detail)));
    }
    lines
}

/// A stored baseline, as far as those say who are trusted: without a trusted signature nothing that the object says is shown.
struct Stored {
    name: BaselineName,
    known: Option<BaselineSummary>,
    /// What it lacks, where too few of those who are trusted have signed it.
    waiting: Option<Standing>,
}

impl Stored {
    async fn all(repository: &Repository, trust: Option<&Trust>) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for name in repository.names().await? {
            let (mut known, mut waiting) = (None, None);
            if let Some(trust) = trust {
                known = repository.trusted(&name, trust).await?.map(|baseline| baseline.summary);
                if known.is_none() {
                    waiting = repository.standing(&name, trust).await?.filter(|standing| !standing.signed_by.is_empty());
                }
            }
            all.push(Self { name, known, waiting });
        }
        Ok(all)
    }

    fn to_json(&self) -> Value {
        let (number, digest) = (self.name.number, self.name.digest.to_string());
        let told = self.known.as_ref().map(BaselineSummary::to_json);
        json!({"number": number, "digest": digest, "trusted": told.is_some(), "baseline": told})
    }

    fn row(&self) -> Vec<String> {
        let (number, digest) = (self.name.number.to_string(), self.name.digest.to_string().chars().take(SHORT_DIGEST).collect::<String>());
        let unknown = |what: &str, signatures: &str| [&number, "-", what, "-", "-", "-", signatures, &digest].map(str::to_owned).to_vec();
        match (&self.known, &self.waiting) {
            (Some(known), _) => vec![
                number,
                known.version.map_or_else(|| "-".to_owned(), |version| version.to_string()),
                output::time(known.created_ms),
                count(known.files),
                count(known.rows),
                known.expires_ms.map_or_else(|| "never".to_owned(), output::time),
                format!("{} of {}", known.signed_by.len(), known.signatures_needed),
                digest,
            ],
            (None, Some(standing)) => unknown("waits to be countersigned", &format!("{} of {}", standing.signed_by.len(), standing.needed)),
            (None, None) => unknown("not signed by anybody you trust", "0"),
        }
    }
}

/// Lists the baselines of a table; as JSON, an object for each.
pub(super) async fn baselines(table: &str, trust: &[PathBuf], json: bool, context: &Context, out: &mut Output) -> Result<Ending> {
    let trust = context.trust_if_any(trust)?;
    let (_lake, location) = context.table(table).await?;
    let stored = Stored::all(&location.repository(), trust.as_ref()).await?;
    if stored.is_empty() {
        // Unknown and never sealed are different things to be told.
        crate::table::load(location.store().as_ref(), location.root(), None).await.map_err(|e| e.with("table", location.name()))?;
        if !json {
            out.line(format_args!("{} was never sealed", location.name()))?;
        }
        return Ok(Ending::Done);
    }
    if json {
        stored.iter().try_for_each(|baseline| out.line(baseline.to_json()))?;
        return Ok(Ending::Done);
    }
    let rows = stored.iter().map(Stored::row).collect();
    let header = ["number", "version", "made", "files", "rows", "expires", "signatures", "digest"];
    out.line(output::aligned(&header, &[0, 1, 3, 4, 6], rows))?;
    Ok(Ending::Done)
}
