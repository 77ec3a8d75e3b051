//! `countersign` and `baselines`, and what they share with `seal`: showing the difference, and asking before a signature is made.

use std::io::{BufRead as _, IsTerminal as _};

use serde_json::json;

use super::Ending;
use super::args::{BaselinesCommand, BoundsArgs, CountersignArgs};
use super::context::Context;
use super::output::{GOOD, NOTE, Output, styled};
use super::progress::Bars;
use crate::baseline::{BaselineDiff, BaselineName, Bounds, Repository, SealOptions, SealOutcome, Sealer, Trust, TrustedBaseline};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::lake::write_whole;

pub(super) async fn run(args: CountersignArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    let key = context.sealer(args.key.as_deref())?;
    context.trust(&args.trust)?;
    let (lake, location) = context.table(&args.table).await?;
    let trust = context.trust_at(&args.trust, &location).await?;
    let writers = context.writers(&[], Some(&trust), lake.as_ref())?;
    let digest = args.digest.as_deref().map(digest).transpose()?;
    let bounds = bounds(&args.bounds);
    let foreign_roots = super::integrity::foreign_roots(&args.foreign_root, lake.as_ref()).await?;
    let accept_changes = args.accept_changes;
    let options = SealOptions { trust: Some(trust), bounds, writers, accept_changes, foreign_roots, ..SealOptions::default() };
    let (store, root, url) = (location.store().clone(), location.root().clone(), location.url().as_str());
    let sealer = Sealer::new(store, root, url, key, context.clock.clone(), options)?.with_log(location.log());
    let prepared = sealer.review(digest, &Bars::default()).await?;
    if !args.json {
        let baseline = &prepared.outcome.baseline;
        out.line(format_args!(
            "baseline {} of {} says what is there: every file was read and comes out the same",
            baseline.number,
            location.name()
        ))?;
        out.line(format_args!("  digest    {}", baseline.digest))?;
        out.line(format_args!("  expires   {}", baseline.expires_ms.map_or_else(|| "never".to_owned(), super::output::time)))?;
        show(&prepared.outcome.diff, out)?;
        for line in super::integrity::findings(&prepared.outcome.findings) {
            out.line(format_args!("  {line}"))?;
        }
    }
    if bounds.is_none() && !args.yes && !confirmed("Sign this baseline?")? {
        out.line("not signed")?;
        return Ok(Ending::Undetermined);
    }
    let sealed = sealer.sign(prepared).await?.ok_or_else(overtaken)?;
    if args.json {
        out.line(outcome_json(&sealed))?;
    } else {
        let number = sealed.baseline.number;
        out.line(format_args!("{} baseline {number} of {}", styled(GOOD, "signed"), location.name()))?;
        standing(&sealed, out)?;
    }
    Ok(Ending::Done)
}

/// What `--digest` names.
fn digest(text: &str) -> Result<Digest> {
    text.trim().to_ascii_lowercase().parse().map_err(|_| {
        let what =
            "--digest names one of several proposals by all 64 hexadecimal digits of its digest, as `lakeseal seal --prepare` printed it";
        Error::new(ErrorKind::InvalidInput, what).with("digest", text)
    })
}

/// The baseline of this number, or the newest.
pub(super) async fn in_force(repository: &Repository, trust: &Trust, number: Option<u64>) -> Result<TrustedBaseline> {
    let found = match number {
        Some(number) => repository.numbered_statement(trust, number).await?,
        None => repository.newest_statement(trust).await?,
    };
    found.ok_or_else(|| {
        let what = number.map_or_else(|| "no baseline is in force".to_owned(), |number| format!("baseline {number} is not in force"));
        Error::new(ErrorKind::NotFound, what)
    })
}

/// `baselines …`.
pub(super) async fn baselines(command: BaselinesCommand, context: &Context, out: &mut Output) -> Result<Ending> {
    let BaselinesCommand::Export { table, number, out: file, trust } = command;
    let trust = context.trust(&trust)?;
    let (_lake, location) = context.table(&table).await?;
    let repository = location.repository();
    let baseline = in_force(&repository, &trust, number).await.map_err(|e| e.with("table", location.name()))?;
    let name = BaselineName { number: baseline.summary.number, digest: baseline.summary.digest };
    let envelope = repository.dsse_envelope(&name, &trust).await?;
    match file {
        Some(file) => {
            write_whole(&file, format!("{envelope}\n").as_bytes(), true).map_err(|e| Error::from(e).with("file", file.display()))?;
            out.line(format_args!("{} baseline {} to {}", styled(GOOD, "exported"), name.number, file.display()))?;
        }
        None => out.line(envelope)?,
    }
    Ok(Ending::Done)
}

/// The bounds that were given, if any.
pub(super) fn bounds(args: &BoundsArgs) -> Option<Bounds> {
    let given = args.append_only || args.max_added_rows.is_some() || args.max_removed_rows.is_some();
    given.then_some(Bounds {
        append_only: args.append_only,
        max_added_rows: args.max_added_rows,
        max_removed_rows: args.max_removed_rows,
        allow_metadata: args.allow_metadata_changes,
    })
}

/// Shows what is about to be signed.
pub(super) fn show(diff: &BaselineDiff, out: &mut Output) -> Result<()> {
    for (i, line) in diff.lines().into_iter().enumerate() {
        let label = if i == 0 { "changes" } else { "" };
        out.line(format_args!("  {label:<9} {line}"))?;
    }
    Ok(())
}

/// Says how many have signed, and what to do while they are too few.
pub(super) fn standing(sealed: &SealOutcome, out: &mut Output) -> Result<()> {
    let (found, needed) = (sealed.baseline.signed_by.len(), sealed.baseline.signatures_needed);
    out.line(format_args!("  signed by {found} of the {needed} that it takes"))?;
    if !sealed.is_in_force() {
        let note = styled(NOTE, "note:");
        out.line(format_args!("  {note} it is not in force until others sign it too: `lakeseal countersign TABLE --key FILE`"))?;
    }
    Ok(())
}

/// What sealing or countersigning came to, as one JSON object.
pub(super) fn outcome_json(sealed: &SealOutcome) -> serde_json::Value {
    json!({
        "baseline": sealed.baseline.to_json(),
        "in_force": sealed.is_in_force(),
        "unchanged": sealed.unchanged,
        "first": sealed.first,
        "files_added": sealed.files_added,
        "files_reused": sealed.files_reused,
        "files_removed": sealed.files_removed,
        "bytes_read": sealed.bytes_read,
        "diff": sealed.diff.to_json(),
        "accepted": sealed.findings.iter().map(crate::baseline::Finding::to_json).collect::<Vec<_>>(),
    })
}

/// Another baseline took the number while this one waited for its signature.
pub(super) fn overtaken() -> Error {
    Error::new(ErrorKind::Unavailable, "another baseline of this number came into force meanwhile; look at the table and try again")
}

/// Asks whoever sits at the terminal.
///
/// # Errors
/// [`ErrorKind::Permission`] when nobody does.
pub(super) fn confirmed(question: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        let what = "nobody is here to look at the changes: say --yes when you have looked, or declare bounds (--append-only, --max-removed-rows, …)";
        return Err(Error::new(ErrorKind::Permission, what));
    }
    anstream::eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
