//! `purge`: sealed bytes are destroyed for good, by two sealers.

use serde_json::json;

use super::Ending;
use super::args::PurgeArgs;
use super::context::{Context, OpenLake};
use super::output::{self, BAD, GOOD, NOTE, Output, styled};
use crate::baseline::{Purge, PurgeRecord, Repository};
use crate::delta::Location;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{PrivateKey, Signer as _};
use crate::printable::one_line;
use crate::table;

pub(super) async fn run(args: PurgeArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    let (lake, location) = context.table(&args.table).await?;
    let repository = location.repository();
    let outcome = match &args.confirm {
        Some(digest) => confirm(digest, &args, lake.as_ref(), &location, &repository, context, out).await,
        None => prepare(&args, &location, &repository, context, out).await,
    };
    outcome.map_err(|e| e.with("table", location.name()))
}

/// The first sealer: says what is to be destroyed and why.
async fn prepare(args: &PurgeArgs, location: &Location, repository: &Repository, context: &Context, out: &mut Output) -> Result<Ending> {
    let trust = context.trust(&args.trust)?;
    let key = context.sealer(args.key.as_deref())?;
    let sealed = repository.newest_baseline(&trust).await?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "nobody whom you trust has sealed the table: there is nothing on record to purge")
    })?;
    let snapshot = table::load(location.store().as_ref(), location.root(), None).await?;
    let reason = args.reason.as_deref().unwrap_or_default();
    let purge = Purge::of_files(&sealed, &snapshot, &args.files, reason, context.clock.now_ms())?;
    let digest = repository.keep_purge(&purge).await?;
    repository.sign_purge(&purge, &key).await?;
    if args.json {
        out.line(json!({"purge": digest.to_string(), "signed_by": key.public().id().to_string(), "done": false}))?;
        return Ok(Ending::Done);
    }
    out.line(format_args!("{} a purge of {}", styled(GOOD, "prepared"), location.name()))?;
    show(&purge, out)?;
    out.line(format_args!("  signed by {}", key.public()))?;
    out.line(format_args!("  {} nothing is destroyed before a second sealer confirms it:", styled(NOTE, "next:")))?;
    out.line(format_args!("    lakeseal purge {} --confirm {digest}", location.name()))?;
    Ok(Ending::Done)
}

fn show(purge: &Purge, out: &mut Output) -> Result<()> {
    out.line(format_args!("  baseline  {}", purge.baseline))?;
    out.line(format_args!("  asked     {}", output::time(purge.created_ms)))?;
    out.line(format_args!("  reason    {}", one_line(&purge.reason)))?;
    for file in &purge.files {
        out.line(format_args!("  file      {}  {}", one_line(&file.path), file.digest))?;
    }
    Ok(())
}

/// The second sealer: is shown the record, signs it, and destroys.
async fn confirm(
    digest: &str,
    args: &PurgeArgs,
    lake: Option<&OpenLake>,
    location: &Location,
    repository: &Repository,
    context: &Context,
    out: &mut Output,
) -> Result<Ending> {
    let digest: Digest = digest.parse().map_err(|_| {
        Error::new(ErrorKind::InvalidInput, "--confirm takes the digest that the first sealer was shown").with("purge", digest)
    })?;
    let trust = context.trust(&args.trust)?;
    let unknown = || Error::new(ErrorKind::NotFound, "no purge of this digest that a sealer whom you trust has signed");
    let record = repository.purge(digest, &trust).await?.ok_or_else(unknown)?;
    if !args.json {
        out.line(format_args!("purge {digest} of {}", location.name()))?;
        show(&record.purge, out)?;
    }
    if !args.yes {
        let what = "this destroys the files for good, in all their versions: look at the record above, and confirm with --yes";
        return Err(Error::new(ErrorKind::InvalidInput, what));
    }
    check(&record, location, repository, &trust).await?;
    let key = context.sealer(args.key.as_deref())?;
    if !record.is_in_force() {
        repository.sign_purge(&record.purge, &key).await?;
    }
    let record = repository.purge(digest, &trust).await?.ok_or_else(unknown)?;
    if !record.is_in_force() {
        return Err(Error::new(
            ErrorKind::Unauthentic,
            "a purge takes the signatures of distinct sealers whom you trust; this one has too few",
        )
        .with("signatures", record.signed_by.len())
        .with("needed", record.needed()));
    }
    destroy(&record, args, lake, location, context, out).await
}

/// A record is of this table, and none of its files is live.
async fn check(record: &PurgeRecord, location: &Location, repository: &Repository, trust: &crate::baseline::Trust) -> Result<()> {
    let snapshot = table::load(location.store().as_ref(), location.root(), None).await?;
    let Some(sealed) = repository.numbered_baseline(trust, record.purge.baseline).await? else {
        return Err(Error::new(ErrorKind::NotFound, "the baseline of this purge is not there").with("baseline", record.purge.baseline));
    };
    let paths: Vec<String> = record.purge.files.iter().map(|file| file.path.clone()).collect();
    let again = Purge::of_files(&sealed, &snapshot, &paths, &record.purge.reason, record.purge.created_ms)?;
    if again == record.purge {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unauthentic, "the record does not say what its baseline says of these files"))
}

async fn destroy(
    record: &PurgeRecord,
    args: &PurgeArgs,
    lake: Option<&OpenLake>,
    location: &Location,
    context: &Context,
    out: &mut Output,
) -> Result<Ending> {
    let mut left = Vec::new();
    for file in &record.purge.files {
        let Some(path) = table::canonical_path(&file.path).location(location.root()) else { continue };
        match lake {
            Some(lake) => {
                let collector =
                    args.collector_key.clone().unwrap_or_else(|| context.home.lake_keys(lake.lake.config.id).join("collector.pem"));
                let report = lake.store.purge(&path, &PrivateKey::from_file(&collector)?).await?;
                if report.kept + report.postponed + report.problems_total > 0 {
                    let why = report.problems.first().map_or_else(|| "some versions are left".to_owned(), |problem| problem.what.clone());
                    left.push((file.path.clone(), why));
                }
            }
            None => match object_store::ObjectStoreExt::delete(location.store(), &path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => left.push((file.path.clone(), e.to_string())),
            },
        }
    }
    if args.json {
        let left: Vec<_> = left.iter().map(|(file, why)| json!({"file": file, "why": why})).collect();
        out.line(json!({"purge": record.digest.to_string(), "files": record.purge.files.len(), "left": left, "done": left.is_empty()}))?;
    } else {
        for (file, why) in &left {
            out.line(format_args!("  {} {}", styled(BAD, "left"), one_line(&format!("{file}: {why}"))))?;
        }
        let what = if left.is_empty() { styled(GOOD, "purged") } else { styled(NOTE, "purged in part; do it again") };
        out.line(format_args!("{what}: {} of {}", output::files(record.purge.files.len() as u64), location.name()))?;
        if lake.is_none() {
            out.line(format_args!(
                "  {} versions that a bucket keeps by itself are not known here: delete them there",
                styled(NOTE, "note:")
            ))?;
        }
    }
    Ok(if left.is_empty() { Ending::Done } else { Ending::Undetermined })
}
