//! `vacuum`: data files that no version of a table names are listed, and those of a lake's tables taken away when that is asked for.

use std::time::Duration;

use serde_json::json;

use super::Ending;
use super::args::VacuumArgs;
use super::context::{Context, OpenLake};
use super::duration::words;
use super::output::{self, BAD, GOOD, NOTE, Output, bytes, count, styled};
use crate::baseline::{SealedTable, Trust, TrustedBaseline};
use crate::delta::{Leftovers, Location, TakenAway, check_may_take_away, leftovers};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::printable::one_line;

/// Younger files belong to writes that may be going on, whatever is asked for.
const LEAST_AGE: Duration = Duration::from_secs(60 * 60);
/// Younger files are taken away with --force only: nearly no write takes that long.
const SURE_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Files that people are shown; `--json` has all.
const SHOWN: usize = 20;

pub(super) async fn run(args: VacuumArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    if args.older_than < LEAST_AGE {
        let what = "--older-than is an hour at least: what is younger may belong to a write that is going on";
        return Err(Error::new(ErrorKind::InvalidInput, what).with("older than", words(args.older_than.as_secs())));
    }
    let is_sure = args.older_than >= SURE_AGE;
    if args.delete && !is_sure && !args.force {
        let what = "--delete takes files away that are 7 days old at least: younger ones may belong to a write that is going on. If you know of none, say so \
                    with --force";
        return Err(Error::new(ErrorKind::InvalidInput, what).with("older than", words(args.older_than.as_secs())));
    }
    let (lake, location) = context.table(&args.table).await?;
    if args.delete {
        check_may_take_away(&location)?;
    }
    if let Some(lake) = lake.as_ref().filter(|_| args.delete)
        && lake.lake.writer.is_none()
    {
        let what = "taking files away takes a writer's key; name one with --writer-key FILE";
        return Err(Error::new(ErrorKind::Permission, what).with("table", location.name()));
    }
    let seals = seals(&args, &location, context).await.map_err(|e| e.with("table", location.name()))?;
    let age_ms = i64::try_from(args.older_than.as_millis()).unwrap_or(i64::MAX);
    let before_ms = context.clock.now_ms().saturating_sub(age_ms);
    let found = leftovers(&location, &seals.sealed, seals.trust.as_ref(), before_ms).await?;
    let taken = if args.delete {
        if !is_sure && found.youngest_ms.is_some_and(|youngest| youngest >= before_ms) {
            let what = "something of the table is younger than --older-than: somebody may be writing, and --delete of what is younger than 7 days is refused";
            let youngest = output::time(found.youngest_ms.unwrap_or_default());
            return Err(Error::new(ErrorKind::Precondition, what).with("table", location.name()).with("youngest", youngest));
        }
        Some(found.take_away(&location).await?)
    } else {
        None
    };
    if args.json {
        out.line(to_json(&found, taken.as_ref()))?;
    } else {
        tell(&found, taken.as_ref(), &args, &location, lake.as_ref(), out)?;
    }
    let is_done = taken.is_none_or(|taken| taken.left.is_empty() && taken.stopped.is_none());
    Ok(if is_done { Ending::Done } else { Ending::Undetermined })
}

/// What seals say of a table's files.
#[derive(Default)]
struct Seals {
    sealed: Vec<SealedTable>,
    /// Whose seals count, where anybody is trusted.
    trust: Option<Trust>,
}

/// All baselines in force, whose files are kept. Where there are baselines and none of them is in force, it is not known what is sealed; before files are
/// taken away, all of them are to be.
async fn seals(args: &VacuumArgs, location: &Location, context: &Context) -> Result<Seals> {
    let repository = location.repository();
    let names = repository.names().await?;
    if names.is_empty() {
        return Ok(Seals { trust: context.trust_if_any(&args.trust)?, ..Seals::default() });
    }
    let trust = context.trust_at(&args.trust, location).await?;
    let baselines: Vec<TrustedBaseline> = repository.baselines(&trust).await?;
    if baselines.is_empty() {
        let what =
            "the table has baselines, and none by sealers whom you trust: what they seal would not be kept. Name their keys with --trust";
        return Err(Error::new(ErrorKind::Unauthentic, what));
    }
    if args.delete {
        let is_in_force = |digest: Digest| baselines.iter().any(|baseline| baseline.summary.digest == digest);
        let mut others: Vec<String> = names.iter().filter(|name| !is_in_force(name.digest)).map(|name| name.number.to_string()).collect();
        others.dedup();
        if !others.is_empty() {
            let what = "the table has baselines that are not in force for you (others signed them, too few did, or they were withdrawn): they may seal files \
                        that would be taken away. Name the keys of their sealers with --trust";
            return Err(Error::new(ErrorKind::Unauthentic, what).with("baselines", others.join(", ")));
        }
    }
    let mut sealed = Vec::with_capacity(baselines.len());
    for baseline in baselines {
        sealed.push(repository.sealed_table(baseline).await?);
    }
    Ok(Seals { sealed, trust: Some(trust) })
}

fn to_json(found: &Leftovers, taken: Option<&TakenAway>) -> String {
    let files: Vec<_> = found
        .files
        .iter()
        .map(|file| json!({ "path": file.path.to_string(), "size": file.size, "modified_ms": file.modified_ms }))
        .collect();
    let left = taken.map(|taken| taken.left.as_slice()).unwrap_or_default();
    let left: Vec<_> = left.iter().map(|(path, error)| json!({ "path": path.to_string(), "why": error.to_string() })).collect();
    json!({
        "files": files,
        "bytes": found.bytes(),
        "young": found.young,
        "sealed": found.sealed,
        "deleted": taken.map_or(0, |taken| taken.files),
        "named_meanwhile": taken.map_or(0, |taken| taken.named),
        "left": left,
        "stopped": taken.and_then(|taken| taken.stopped.as_ref()).map(ToString::to_string),
    })
    .to_string()
}

fn tell(
    found: &Leftovers,
    taken: Option<&TakenAway>,
    args: &VacuumArgs,
    location: &Location,
    lake: Option<&OpenLake>,
    out: &mut Output,
) -> Result<()> {
    let number = |count: usize| output::files(u64::try_from(count).unwrap_or(u64::MAX));
    let word = match (found.is_empty(), taken) {
        (true, _) => styled(GOOD, "nothing is left over"),
        (false, Some(taken)) if taken.stopped.is_none() => styled(GOOD, "taken away"),
        (false, Some(_)) => styled(BAD, "broken off"),
        (false, None) => styled(NOTE, "left over"),
    };
    let what = "that no version of it names";
    out.line(format_args!("{word}: {} of {} {what}, {}", number(found.files.len()), location.name(), bytes(found.bytes())))?;
    for file in found.files.iter().take(SHOWN) {
        let (path, size) = (file.path.to_string(), bytes(file.size));
        out.line(format_args!("  {}  {size}  {}", output::time(file.modified_ms), one_line(&path)))?;
    }
    if let Some(more) = found.files.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        out.line(format_args!("  … and {} more; --json has all", number(more)))?;
    }
    if found.young > 0 {
        let limit = words(args.older_than.as_secs());
        let what = format!("more that are not named are younger than {limit}, and may belong to a write that is going on");
        out.line(format_args!("  {} {} {what}", styled(NOTE, "note:"), count(found.young)))?;
    }
    if found.sealed > 0 {
        let what = "that the log does not name are sealed, and stay: somebody took them out of the log. Audit the table";
        out.line(format_args!("  {} {} {what}", styled(NOTE, "note:"), output::files(found.sealed)))?;
    }
    match (taken, lake) {
        (Some(taken), _) => tell_taken(taken, lake, out),
        (None, _) if found.is_empty() => Ok(()),
        (None, Some(_)) => out.line(format_args!("next: lakeseal vacuum {} --delete", location.name())),
        (None, None) => {
            let what = "of a table outside of a lake they are listed only: the VACUUM of the engine that writes it takes them away";
            out.line(format_args!("  {} {what}", styled(NOTE, "note:")))
        }
    }
}

fn tell_taken(taken: &TakenAway, lake: Option<&OpenLake>, out: &mut Output) -> Result<()> {
    for (path, error) in &taken.left {
        out.line(format_args!("  {} {}", styled(BAD, "left"), one_line(&format!("{path}: {error}"))))?;
    }
    if taken.named > 0 {
        let what = "stay: a commit that was made meanwhile names them";
        out.line(format_args!("  {} {} {what}", styled(NOTE, "note:"), output::files(taken.named)))?;
    }
    if let Some(why) = &taken.stopped {
        let what = format!("broken off after {}: {why}", output::files(taken.files));
        out.line(format_args!("  {} {}", styled(BAD, "left"), one_line(&what)))?;
    }
    let Some(lake) = lake.filter(|_| taken.files > 0) else { return Ok(()) };
    let retention = words(lake.lake.record.profile.retention_seconds);
    out.line(format_args!("each is deleted, and its bytes are kept for {retention}. Until then, to have one back:"))?;
    out.line("  lakeseal versions PATH                      shows the version before the deletion")?;
    out.line("  lakeseal restore PATH --version VERSION     makes it the newest again")?;
    out.line("then `lakeseal collect` frees their space")
}
