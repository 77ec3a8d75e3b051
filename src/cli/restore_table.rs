//! `restore TABLE --to BASELINE`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Ending;
use super::args::RestoreArgs;
use super::context::Context;
use super::output::{BAD, GOOD, NOTE, Output, bytes, count, styled};
use super::pins::PinFile;
use super::progress::Bars;
use crate::baseline::{Place, SealedTable, Trust, Writers, check_root, compare_history, compare_log, compare_term};
use crate::delta::{Location, RestoreOptions, RestorePlan, Restored, plan_restore};
use crate::error::{Error, ErrorKind, Result};
use crate::table;

/// Entries of each kind that people are shown; `--json` has all.
const SHOWN: usize = 20;

pub(super) async fn run(args: RestoreArgs, to: &str, context: &Context, out: &mut Output) -> Result<Ending> {
    // Without anybody to trust nothing is opened.
    context.trust(&args.trust)?;
    let (lake, location) = context.table(&args.path).await?;
    let trust = context.trust_at(&args.trust, &location).await?;
    let writers = context.writers(&args.writers, Some(&trust), lake.as_ref())?;
    let repository = location.repository();
    let pins = PinFile::read_if_any(args.pin.as_deref()).await?;
    let sealed = baseline(&location, &trust, pins.as_ref(), to, context).await.map_err(|e| e.with("table", location.name()))?;
    let options = RestoreOptions {
        attested: if args.keep_attested { attested(&location, &sealed, &writers, context).await? } else { BTreeSet::new() },
        keep: args.keep.iter().copied().collect(),
        erased: repository.erased(&trust, &sealed).await?.digests,
        clock: context.clock.clone(),
    };
    let plan = plan_restore(&location, &sealed, &options, &Bars::default()).await?;
    if args.dry_run || plan.is_empty() {
        tell(&plan, &location, None, &args, out)?;
        return Ok(if plan.lost.is_empty() { Ending::Done } else { Ending::Mismatch });
    }
    let restored = plan.apply(&location, &context.clock, args.partial, &Bars::default()).await?;
    tell(&plan, &location, Some(&restored), &args, out)?;
    Ok(if plan.lost.is_empty() { Ending::Done } else { Ending::Mismatch })
}

/// The commits after the baseline that a writer attested.
async fn attested(location: &Location, sealed: &SealedTable, writers: &Writers, context: &Context) -> Result<BTreeSet<u64>> {
    let store = location.store().as_ref();
    let snapshot = match table::load(store, location.root(), None).await {
        Ok(snapshot) => snapshot,
        // A log that cannot be read has no commits that could stay.
        Err(e) if !e.is_retryable() => return Ok(BTreeSet::new()),
        Err(e) => return Err(e),
    };
    let (root, url, now_ms) = (location.root(), location.url().as_str(), context.clock.now_ms());
    let place = Place { store, root, location: url, now_ms, writers, memory: None };
    Ok(compare_log(&place, &snapshot, sealed).await?.attested.into_keys().collect())
}

/// The baseline of this number, or the newest, with what it seals. A number is somebody's choice; what `newest` is must be certain, since all
/// that came after it is undone.
async fn baseline(location: &Location, trust: &Trust, pins: Option<&PinFile>, to: &str, context: &Context) -> Result<SealedTable> {
    let repository = location.repository();
    let found = if to == "newest" {
        let newest = repository.newest_baseline(trust).await?;
        check_newest(location, trust, pins, newest.as_ref(), context.clock.now_ms()).await?;
        newest
    } else {
        let number: u64 =
            to.parse().map_err(|_| Error::new(ErrorKind::InvalidInput, "--to takes a baseline's number, or `newest`").with("to", to))?;
        repository.numbered_baseline(trust, number).await?
    };
    let found = found.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "no baseline of this number that you trust; `lakeseal log TABLE` lists them").with("to", to)
    })?;
    check_root(&found.statement, &found.baseline, context.clock.now_ms())?;
    Ok(found)
}

/// Holds the newest baseline that is there against its term, its chain, the log and the pins, as an audit does.
async fn check_newest(location: &Location, trust: &Trust, pins: Option<&PinFile>, newest: Option<&SealedTable>, now_ms: i64) -> Result<()> {
    let repository = location.repository();
    let names = location.pin_names();
    let pins = pins.map(|file| (&file.pins, &names));
    let mut found = compare_history(&repository, &location.log(), location.url().as_str(), newest, trust, pins, now_ms).await?;
    if let Some(sealed) = newest {
        found.extend(compare_term(&sealed.baseline, now_ms));
    }
    let Some(first) = found.iter().find(|finding| finding.verdict.is_mismatch()).or(found.first()) else { return Ok(()) };
    let kind = if first.verdict.is_mismatch() { ErrorKind::Mismatch } else { ErrorKind::Unavailable };
    let what = format!(
        "nothing is restored, because it is not certain which baseline is the newest: {}: {}; `lakeseal log TABLE` lists those that are \
         there: look, and name the number that you mean (--to NUMBER)",
        first.verdict, first.detail
    );
    Err(Error::new(kind, what))
}

fn tell(plan: &RestorePlan, location: &Location, done: Option<&Restored>, args: &RestoreArgs, out: &mut Output) -> Result<()> {
    if args.json {
        return out.line(to_json(plan, location, done));
    }
    let what = match (done, plan.is_empty()) {
        (_, true) if plan.lost.is_empty() => styled(GOOD, "nothing to restore"),
        (None, _) => styled(NOTE, "would restore"),
        (Some(_), _) => styled(GOOD, "restored"),
    };
    out.line(format_args!("{what}: {} to baseline {}", location.name(), plan.baseline))?;
    let commits = |versions: &[u64]| versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if !plan.kept.is_empty() {
        out.line(format_args!("  kept      commits {}", commits(&plan.kept)))?;
    }
    if !plan.dropped.is_empty() {
        out.line(format_args!("  undone    commits {}", commits(&plan.dropped)))?;
    }
    let lists: [(&str, Vec<String>); 5] = [
        ("replaced", plan.replaced.iter().map(|file| format!("{}: {}; from {}", file.file, file.why, file.from)).collect()),
        (
            "described",
            plan.described.iter().map(|file| format!("{}: the log says something else of it than was sealed", file.key.path)).collect(),
        ),
        ("removed", plan.removed.iter().map(|file| file.raw_path.clone()).collect()),
        ("put back", plan.put_back.iter().map(|object| format!("{}, from {}", object.path, object.from)).collect()),
        ("deleted", plan.hints.iter().map(ToString::to_string).collect()),
    ];
    for (name, lines) in lists.iter().filter(|(_, lines)| !lines.is_empty()) {
        out.line(format_args!("  {name:<9} {}", count(lines.len() as u64)))?;
        for line in lines.iter().take(SHOWN) {
            out.line(format_args!("    {line}"))?;
        }
        if lines.len() > SHOWN {
            out.line(format_args!("    and {} more", lines.len() - SHOWN))?;
        }
    }
    for (name, _) in &plan.head {
        out.line(format_args!("  {name} as it was sealed"))?;
    }
    for (file, why) in &plan.lost {
        out.line(format_args!("  {} {file}: {why}", styled(BAD, "lost")))?;
    }
    for note in &plan.notes {
        out.line(format_args!("  {} {note}", styled(NOTE, "note:")))?;
    }
    if let Some(done) = done {
        match done.version {
            Some(version) => out.line(format_args!("  commit    version {version}, {} written", bytes(done.bytes)))?,
            None => out.line(format_args!("  commit    none was needed, {} written", bytes(done.bytes)))?,
        }
        out.line(format_args!("  {} seal it again: `lakeseal seal {}`", styled(NOTE, "next:"), location.name()))?;
    }
    Ok(())
}

fn to_json(plan: &RestorePlan, location: &Location, done: Option<&Restored>) -> Value {
    let paths = |files: &[table::LiveFile]| files.iter().map(|file| file.raw_path.clone()).collect::<Vec<_>>();
    json!({
        "table": location.name(),
        "baseline": plan.baseline,
        "sealed_version": plan.sealed_version,
        "kept": plan.kept,
        "undone": plan.dropped,
        "replaced": plan.replaced.iter().map(|file| json!({
            "file": file.file, "as": file.live.raw_path, "why": file.why, "from": file.from.to_string(),
        })).collect::<Vec<_>>(),
        "described": paths(&plan.described),
        "removed": paths(&plan.removed),
        "put_back": plan.put_back.iter().map(|object| json!({
            "object": object.path.to_string(), "from": object.from.to_string(),
        })).collect::<Vec<_>>(),
        "deleted": plan.hints.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "lost": plan.lost.iter().map(|(file, why)| json!({"file": file, "why": why})).collect::<Vec<_>>(),
        "notes": plan.notes,
        "done": done.is_some(),
        "version": done.and_then(|done| done.version),
    })
}
