//! `vacuum`: data files that no version of a table names are listed, and taken away when that is asked for.

use std::time::Duration;

use serde_json::json;

use super::Ending;
use super::args::VacuumArgs;
use super::context::{Context, OpenLake};
use super::duration::words;
use super::output::{self, BAD, GOOD, NOTE, Output, bytes, count, styled};
use crate::baseline::{SealedTable, TrustedBaseline};
use crate::delta::{Leftovers, Location, leftovers};
use crate::error::{Error, ErrorKind, Result};
use crate::printable::one_line;

/// Younger files belong to writes that may be going on, whatever is asked for.
const LEAST_AGE: Duration = Duration::from_secs(60 * 60);
/// Files that people are shown; `--json` has all.
const SHOWN: usize = 20;

pub(super) async fn run(args: VacuumArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    if args.older_than < LEAST_AGE {
        let what = "--older-than is an hour at least: what is younger may belong to a write that is going on";
        return Err(Error::new(ErrorKind::InvalidInput, what).with("older than", words(args.older_than.as_secs())));
    }
    let (lake, location) = context.table(&args.table).await?;
    if let Some(lake) = lake.as_ref().filter(|_| args.delete)
        && lake.lake.writer.is_none()
    {
        let what = "taking files away takes a writer's key; name one with --writer-key FILE";
        return Err(Error::new(ErrorKind::Permission, what).with("table", location.name()));
    }
    let sealed = sealed(&args, &location, context).await.map_err(|e| e.with("table", location.name()))?;
    let age_ms = i64::try_from(args.older_than.as_millis()).unwrap_or(i64::MAX);
    let found = leftovers(&location, &sealed, context.clock.now_ms().saturating_sub(age_ms)).await?;
    let left = if args.delete { found.take_away(&location).await } else { Vec::new() };
    if args.json {
        out.line(to_json(&found, &left, args.delete))?;
    } else {
        tell(&found, &left, &args, &location, lake.as_ref(), out)?;
    }
    Ok(if left.is_empty() { Ending::Done } else { Ending::Undetermined })
}

/// All baselines in force, whose files are kept. Where there are baselines and none of them is in force, it is not known what is sealed.
async fn sealed(args: &VacuumArgs, location: &Location, context: &Context) -> Result<Vec<SealedTable>> {
    let repository = location.repository();
    if repository.names().await?.is_empty() {
        return Ok(Vec::new());
    }
    let trust = context.trust_at(&args.trust, location).await?;
    let baselines: Vec<TrustedBaseline> = repository.baselines(&trust).await?;
    if baselines.is_empty() {
        let what =
            "the table has baselines, and none by sealers whom you trust: what they seal would not be kept. Name their keys with --trust";
        return Err(Error::new(ErrorKind::Unauthentic, what));
    }
    let mut sealed = Vec::with_capacity(baselines.len());
    for baseline in baselines {
        sealed.push(repository.sealed_table(baseline).await?);
    }
    Ok(sealed)
}

fn to_json(found: &Leftovers, left: &[(object_store::path::Path, Error)], is_deleted: bool) -> String {
    let files: Vec<_> = found
        .files
        .iter()
        .map(|file| json!({ "path": file.path.to_string(), "size": file.size, "modified_ms": file.modified_ms }))
        .collect();
    let left: Vec<_> = left.iter().map(|(path, error)| json!({ "path": path.to_string(), "why": error.to_string() })).collect();
    json!({
        "files": files,
        "bytes": found.bytes(),
        "young": found.young,
        "sealed": found.sealed,
        "deleted": is_deleted,
        "left": left,
    })
    .to_string()
}

fn tell(
    found: &Leftovers,
    left: &[(object_store::path::Path, Error)],
    args: &VacuumArgs,
    location: &Location,
    lake: Option<&OpenLake>,
    out: &mut Output,
) -> Result<()> {
    let number = |count: usize| output::files(u64::try_from(count).unwrap_or(u64::MAX));
    let word = match (found.is_empty(), args.delete) {
        (true, _) => styled(GOOD, "nothing is left over"),
        (false, true) => styled(GOOD, "taken away"),
        (false, false) => styled(NOTE, "left over"),
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
    for (path, error) in left {
        out.line(format_args!("  {} {}", styled(BAD, "left"), one_line(&format!("{path}: {error}"))))?;
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
    match (found.is_empty(), args.delete, lake) {
        (true, ..) => Ok(()),
        (false, false, _) => out.line(format_args!("next: lakeseal vacuum {} --delete", location.name())),
        (false, true, Some(lake)) => {
            let retention = words(lake.lake.record.profile.retention_seconds);
            out.line(format_args!("for {retention} `lakeseal restore PATH` brings one back; then `lakeseal collect` frees their space"))
        }
        (false, true, None) => Ok(()),
    }
}
