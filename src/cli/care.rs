//! `scrub` and `collect`.

use std::path::PathBuf;

use indicatif::ProgressBar;
use object_store::path::Path;

use super::Ending;
use super::args::{CollectArgs, ScrubArgs};
use super::context::{Context, OpenLake};
use super::output::{self, BAD, DIM, GOOD, NOTE, Output, bytes, count, styled};
use super::progress;
use super::scrub_batches::{Batches, resuming};
use crate::error::{Error, ErrorKind, Result};
use crate::key::PrivateKey;
use crate::printable::one_line;
use crate::store::{CollectOptions, CollectReport, Defect, Outcome, RegionReport, ScrubOptions, ScrubProgress, ScrubReport};

/// Names that are scrubbed before the place to go on is written down for the first time, and the most of them; as many as take some seconds.
/// Among these, the worst margins are repaired first, so that a repair begins with more.
const FIRST_NAMES: u64 = 16;
const FIRST_REPAIRED_NAMES: u64 = 2_000;
const BATCH_NAMES: u64 = 20_000;
/// Findings that people are shown; `--json` has more.
const SHOWN: usize = 20;
const MEGABYTE: f64 = 1_000_000.0;

struct Bar(ProgressBar);

impl ScrubProgress for Bar {
    fn planned(&self, path: &Path, names: u64, versions: u64, read: u64) {
        let (names, versions) = (count(names), output::versions(versions));
        self.0.set_message(format!("scrubbing: {names} names, {versions}, {} read; at {path}", bytes(read)));
    }

    fn repaired(&self, path: &Path, done: u64, damaged: u64) {
        self.0.set_message(format!("repairing: {} of {}; at {path}", count(done), output::versions(damaged)));
    }
}

pub(super) async fn scrub(args: ScrubArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    let options = scrub_options(&args)?;
    let open = tokio::select! {
        biased;
        () = super::interrupts::interrupt() => return Ok(Ending::Interrupted),
        open = context.lake() => open?,
    };
    let file = context.home.lake_keys(open.lake.config.id).join("scrub.cursor");
    let bar = Bar(progress::spinner("scrubbing"));
    let (stop, resuming) = (options.stop.clone(), resuming(&options));
    let names = if args.repair { FIRST_REPAIRED_NAMES } else { FIRST_NAMES };
    let batches = Batches { file, names, names_limit: BATCH_NAMES, resume: args.resume };
    let mut scrubbing = std::pin::pin!(batches.scrub(&open.store, options, &bar));
    let outcome = tokio::select! {
        biased;
        () = super::interrupts::interrupt() => {
            stop.say();
            scrubbing.await
        }
        outcome = &mut scrubbing => outcome,
    };
    bar.0.finish_and_clear();
    let report = outcome?;
    let is_stopped = stop.is_said() && report.interrupted.is_some();
    if let Some(prefix) = args.prefix.as_ref().filter(|_| report.names == 0 && !is_stopped) {
        let what =
            "nothing lies below this prefix, so nothing was looked at; a prefix is whole segments of a path, as in flights/_delta_log";
        return Err(Error::new(ErrorKind::NotFound, what).with("prefix", prefix));
    }
    if args.json {
        let text = serde_json::to_string(&report);
        out.line(text.map_err(|e| Error::new(ErrorKind::Internal, "a report cannot be written as JSON").caused_by(e))?)?;
    } else {
        tell_scrub(&report, &args, &resuming, out)?;
    }
    Ok(if is_stopped { Ending::Interrupted } else { ending(&report) })
}

/// Whether there is a region that could not be looked at.
fn is_blind(report: &ScrubReport) -> bool {
    report.regions.iter().any(|region: &RegionReport| region.down.is_some() || region.unreachable.is_some())
}

/// What a scrub's report means for whoever called the command.
pub(super) fn ending(report: &ScrubReport) -> Ending {
    match report.is_clean() {
        true if is_blind(report) => Ending::Undetermined,
        true => Ending::Done,
        false if report.interrupted.is_some() && report.damaged_versions == 0 => Ending::Undetermined,
        false => Ending::Mismatch,
    }
}

fn scrub_options(args: &ScrubArgs) -> Result<ScrubOptions> {
    if let Some(sample) = args.sample.filter(|sample| !(*sample > 0.0 && *sample <= 1.0)) {
        return Err(Error::new(ErrorKind::InvalidInput, "--sample is a fraction: more than 0 and at most 1").with("sample", sample));
    }
    if let Some(rate) = args.rate.filter(|rate| !(*rate > 0.0 && rate.is_finite())) {
        return Err(Error::new(ErrorKind::InvalidInput, "--rate is a number of megabytes a second above 0").with("rate", rate));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number, saturating")]
    let rate = args.rate.map(|rate| ((rate * MEGABYTE) as u64).max(1));
    Ok(ScrubOptions {
        repair: args.repair,
        verify: !args.quick,
        sample: args.sample,
        // Another sample each time: over many scrubs everything is read.
        seed: u64::from_le_bytes(crate::id::random_bytes()?),
        rate_bytes_per_second: rate,
        prefix: args.prefix.as_deref().map(object_path).transpose()?,
        ..ScrubOptions::default()
    })
}

/// A path of the lake as a user writes it.
pub(super) fn object_path(text: &str) -> Result<Path> {
    let path = Path::parse(text.trim_start_matches('/'));
    path.map_err(|e| Error::new(ErrorKind::InvalidInput, "not a path of an object in a lake").with("path", text).caused_by(e))
}

fn tell_scrub(report: &ScrubReport, args: &ScrubArgs, resuming: &str, out: &mut Output) -> Result<()> {
    let verdict = match (report.is_clean(), report.damaged_versions) {
        (true, _) if is_blind(report) => styled(NOTE, "not all could be looked at"),
        (true, 0) => styled(GOOD, "nothing is wrong"),
        (true, _) => styled(GOOD, "all that was wrong is repaired"),
        (false, _) if report.lost_versions > 0 => styled(BAD, "BYTES ARE LOST"),
        (false, 0) => styled(NOTE, "not all could be looked at"),
        (false, _) => styled(BAD, "damaged"),
    };
    out.line(format_args!(
        "{verdict}: {} names, {}, {} read",
        count(report.names),
        output::versions(report.versions),
        bytes(report.bytes_read)
    ))?;
    let rows = report.regions.iter().map(region_row).collect();
    let header = ["region", "shards", "intact", "absent", "corrupt", "unreachable", "read", "repaired", "entries", "intact", "repaired"];
    out.line(output::aligned(&header, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], rows))?;
    for region in &report.regions {
        if let Some(why) = region.down.as_ref().or(region.unreachable.as_ref()) {
            out.line(format_args!("  {} {}: {why}", styled(BAD, "not asked"), region.region))?;
        }
    }
    if report.damaged_versions > 0 {
        out.line(format_args!(
            "{} damaged, {} repaired, {} not, {} lost",
            output::versions(report.damaged_versions),
            count(report.repaired_versions),
            count(report.unrepaired_versions + report.left_versions),
            count(report.lost_versions)
        ))?;
    }
    if let Some(margin) = report.worst_margin() {
        out.line(format_args!("worst margin {margin}: so many more pieces may be lost before a read fails"))?;
    }
    for finding in report.findings.iter().take(SHOWN) {
        out.line(format_args!("  {}", finding_line(finding)))?;
    }
    let more = report.findings_total.saturating_sub(report.findings.len().min(SHOWN) as u64);
    if more > 0 {
        out.line(format_args!("  … and {} more findings; --json has up to a thousand", count(more)))?;
    }
    if let Some(why) = &report.interrupted {
        let ended = styled(NOTE, "ended early:");
        match &report.resume_after {
            Some(place) => {
                out.line(format_args!(
                    "{ended} {why}, behind {}; what is above is of the names up to there. Go on with:",
                    one_line(place)
                ))?;
                out.line(format_args!("  {resuming}"))?;
            }
            None => out.line(format_args!("{ended} {why}, with no place to go on from; begin anew"))?,
        }
    }
    if args.quick {
        out.line(format_args!("{} --quick compares lists and sizes: damage that keeps the size is not seen", styled(NOTE, "note:")))?;
    }
    if report.young_pieces() > 0 {
        out.line(format_args!("{} {}", styled(NOTE, "note:"), young(report)))?;
    }
    if report.open_slots > 0 {
        let what = "in which nothing is decided: a writer is at work there, or stopped half-way";
        out.line(format_args!("{} {} {what}", styled(NOTE, "note:"), output::slots(report.open_slots)))?;
    }
    if !args.repair && report.damaged_versions > report.lost_versions {
        out.line("next: lakeseal scrub --repair")?;
    }
    Ok(())
}

/// What is said of pieces that may be on their way.
pub(super) fn young(report: &ScrubReport) -> String {
    let settle = ScrubOptions::default().settle.as_secs();
    let pieces = count(report.young_pieces());
    format!(
        "{pieces} entries and markers of versions that are less than {settle} s old are not in their regions: they may be on their way, and count as \
         no damage; look again in a minute"
    )
}

fn region_row(region: &RegionReport) -> Vec<String> {
    let tally = &region.tally;
    let figures = [
        tally.shards_expected,
        tally.shards_intact,
        tally.shards_absent,
        tally.shards_corrupt + tally.shards_foreign,
        tally.shards_unreachable,
        tally.shards_verified,
        tally.shards_repaired,
        tally.entries_expected,
        tally.entries_intact,
        tally.entries_repaired + tally.markers_repaired,
    ];
    [region.region.clone()].into_iter().chain(figures.map(count)).collect()
}

fn finding_line(finding: &Defect) -> String {
    let json = |value: serde_json::Result<serde_json::Value>| match value {
        Ok(serde_json::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    };
    let fault = json(serde_json::to_value(finding.fault));
    let piece = finding.piece.map(|piece| format!(" {}", piece_text(&piece))).unwrap_or_default();
    let region = if finding.region.is_empty() { String::new() } else { format!(" in {}", finding.region) };
    let detail = if finding.detail.is_empty() { String::new() } else { format!(": {}", finding.detail) };
    let outcome = json(serde_json::to_value(&finding.outcome).map(|value| value.get("outcome").cloned().unwrap_or_default()));
    let why = match &finding.outcome {
        Outcome::NotRepaired(why) | Outcome::Lost(why) if *why != finding.detail => format!("; {why}"),
        _ => String::new(),
    };
    let version = &finding.version;
    format!("{outcome:<12} {fault}{piece}{region}  {} {}{detail}{why}", finding.path, styled(DIM, version))
}

fn piece_text(piece: &crate::store::Piece) -> String {
    match piece {
        crate::store::Piece::Entry => "entry".to_owned(),
        crate::store::Piece::Marker => "marker".to_owned(),
        crate::store::Piece::Shard { segment, shard } => format!("segment {segment} shard {shard}"),
    }
}

pub(super) async fn collect(args: CollectArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    let open = context.lake().await?;
    let key = collector(&args, context, &open)?;
    let options =
        CollectOptions { dry_run: args.dry_run, prefix: args.prefix.as_deref().map(object_path).transpose()?, ..CollectOptions::default() };
    let bar = progress::spinner("collecting");
    let watch = |report: &CollectReport| {
        bar.set_message(format!("collecting: {} names, {} collected", count(report.names), output::versions(report.collected)));
    };
    let report = open.store.collect(&options, &key, &watch).await;
    bar.finish_and_clear();
    let report = report?;
    if args.json {
        out.line(collect_json(&report, args.dry_run))?;
    } else {
        tell_collect(&report, args.dry_run, open.lake.record.profile.retention_seconds, out)?;
    }
    Ok(if report.problems_total == 0 { Ending::Done } else { Ending::Undetermined })
}

fn collector(args: &CollectArgs, context: &Context, open: &OpenLake) -> Result<PrivateKey> {
    let own: PathBuf = context.home.lake_keys(open.lake.config.id).join("collector.pem");
    let file = args.key.clone().unwrap_or(own);
    if !file.exists() {
        let what = "collecting takes the collector's private key, which writers do not have; name it with --key FILE";
        return Err(Error::new(ErrorKind::Permission, what).with("file", file.display()));
    }
    PrivateKey::from_file(&file)
}

fn collect_json(report: &CollectReport, dry_run: bool) -> String {
    let problems: Vec<_> =
        report.problems.iter().map(|problem| serde_json::json!({ "path": problem.path, "what": problem.what })).collect();
    serde_json::json!({
        "dry_run": dry_run,
        "names": report.names,
        "kept": report.kept,
        "collected": report.collected,
        "collected_before": report.collected_before,
        "postponed": report.postponed,
        "shards_deleted": report.shards_deleted,
        "bytes_deleted": report.bytes_deleted,
        "entries_deleted": report.entries_deleted,
        "orphans_found": report.orphans_found,
        "orphans_young": report.orphans_young,
        "orphans_collected": report.orphans_collected,
        "orphans_unexplained": report.orphans_unexplained,
        "bindings_deleted": report.bindings_deleted,
        "problems": problems,
        "problems_total": report.problems_total,
        "last": report.last.as_ref().map(ToString::to_string),
    })
    .to_string()
}

fn tell_collect(report: &CollectReport, dry_run: bool, retention_seconds: u64, out: &mut Output) -> Result<()> {
    let (word, done) = if dry_run { ("would collect", "to be collected") } else { ("collected", "collected") };
    out.line(format_args!(
        "{} {}, {} shards, {}",
        styled(GOOD, word),
        output::versions(report.collected),
        count(report.shards_deleted),
        bytes(report.bytes_deleted)
    ))?;
    out.line(format_args!(
        "  kept      {} that others took the place of: the lake's retention is {}",
        output::versions(report.kept),
        super::duration::words(retention_seconds)
    ))?;
    out.line(format_args!(
        "  orphans   {} found, {} too young to tell, {} {done}, {} without an authentic trailer (never deleted)",
        count(report.orphans_found),
        count(report.orphans_young),
        count(report.orphans_collected),
        count(report.orphans_unexplained)
    ))?;
    if report.postponed > 0 {
        out.line(format_args!(
            "  {} {} could not be collected this time; run it again",
            styled(NOTE, "postponed"),
            count(report.postponed)
        ))?;
    }
    for problem in report.problems.iter().take(SHOWN) {
        out.line(format_args!("  {} {}: {}", styled(BAD, "problem"), problem.path, problem.what))?;
    }
    Ok(())
}
