//! `purge`: sealed bytes are destroyed for good, by two sealers.

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use serde_json::json;

use super::Ending;
use super::args::PurgeArgs;
use super::context::{Context, OpenLake};
use super::output::{self, BAD, GOOD, NOTE, Output, styled};
use crate::baseline::{Purge, PurgeRecord, Repository};
use crate::delta::Location;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{PrivateKey, SecretKey, Signer as _};
use crate::printable::one_line;
use crate::store::ErasureStore;
use crate::table::{self, CanonicalPath};

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
    let snapshot = table::load(location.store().as_ref(), location.root(), None).await?;
    let reason = args.reason.as_deref().unwrap_or_default();
    let purge = repository.prepare_purge(&trust, &snapshot, &args.files, reason, context.clock.now_ms()).await?;
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
    let snapshot = table::load(location.store().as_ref(), location.root(), None).await?;
    repository.check_purge(&record.purge, &trust, &snapshot).await?;
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
    destroy(&record, args, lake, location, &key, context, out).await
}

/// What became of a file that was to be destroyed.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Destroyed,
    /// Neither an object nor an earlier version of one is there.
    Absent,
    /// It is there still, and why.
    Left(String),
}

async fn destroy(
    record: &PurgeRecord,
    args: &PurgeArgs,
    lake: Option<&OpenLake>,
    location: &Location,
    key: &SecretKey,
    context: &Context,
    out: &mut Output,
) -> Result<Ending> {
    let lake = match lake {
        Some(lake) => {
            let collector = args.collector_key.clone().unwrap_or_else(|| context.home.lake_keys(lake.lake.config.id).join("collector.pem"));
            Some((&*lake.store, PrivateKey::from_file(&collector)?))
        }
        None => None,
    };
    let (mut left, mut absent) = (Vec::new(), Vec::new());
    for file in &record.purge.files {
        let fate = match (place(location.root(), &file.path), &lake) {
            (Some(path), Some((store, collector))) => destroy_versions(store, &path, collector).await?,
            (Some(path), None) => destroy_object(location.store().as_ref(), &path).await,
            (None, _) => Fate::Left("it has no place in the table".to_owned()),
        };
        match fate {
            Fate::Destroyed => {}
            Fate::Absent => absent.push(&file.path),
            Fate::Left(why) => left.push((&file.path, why)),
        }
    }
    // Outside of a lake nothing is known of what a bucket keeps by itself: only who has looked there can say that nothing is left.
    let is_recorded = left.is_empty() && lake.is_some();
    if is_recorded {
        let recorded = location.repository().record_purge_done(record, context.clock.now_ms(), key).await;
        recorded.map_err(|error| {
            let what = "nothing is left of the files, and that could not be recorded: audits go on saying that it is to be done. Do the same again";
            Error::new(error.kind(), what).caused_by(error)
        })?;
    }
    if args.json {
        let left: Vec<_> = left.iter().map(|(file, why)| json!({"file": file, "why": why})).collect();
        out.line(json!({
            "purge": record.digest.to_string(),
            "files": record.purge.files.len(),
            "absent": absent,
            "left": left,
            "done": left.is_empty(),
            "recorded": is_recorded,
        }))?;
    } else {
        tell(record.purge.files.len(), &absent, &left, location, out)?;
        if lake.is_none() {
            let what = "versions that a bucket keeps by itself are not known here: delete them there. So the purge stays on record as it is, and not as \
                        carried out: audits go on saying both, which is no fault of anybody's";
            out.line(format_args!("  {} {what}", styled(NOTE, "note:")))?;
        } else if left.is_empty() {
            let what = "a shard that comes back later (of a region that is restored from a copy, or by a repair that was under way) belongs to no version: \
                        `lakeseal collect` finds it";
            out.line(format_args!("  {} {what}", styled(NOTE, "note:")))?;
        }
    }
    Ok(if left.is_empty() { Ending::Done } else { Ending::Undetermined })
}

fn tell(files: usize, absent: &[&String], left: &[(&String, String)], location: &Location, out: &mut Output) -> Result<()> {
    for (file, why) in left {
        out.line(format_args!("  {} {}", styled(BAD, "left"), one_line(&format!("{file}: {why}"))))?;
    }
    for file in absent {
        let what = "neither an object nor a version of it is there: it was gone before";
        out.line(format_args!("  {} {}", styled(NOTE, "absent"), one_line(&format!("{file}: {what}"))))?;
    }
    let what = match (left.is_empty(), absent.len() == files) {
        (false, _) => styled(NOTE, "purged in part; do the same again when all regions answer: until then audits say that it is not done"),
        (true, true) => styled(NOTE, "nothing was there to be destroyed"),
        (true, false) => styled(GOOD, "purged"),
    };
    let purged = if absent.len() == files { files } else { files.saturating_sub(absent.len() + left.len()) };
    out.line(format_args!("{what}: {} of {}", output::files(purged as u64), location.name()))
}

/// Where a sealed file lies. Its path is canonical: it is a name, and what looks like an escape in it is a part of that name.
fn place(root: &Path, canonical: &str) -> Option<Path> {
    CanonicalPath::Inside(canonical.to_owned()).location(root)
}

/// All versions of an object of the lake.
async fn destroy_versions(store: &ErasureStore, path: &Path, collector: &PrivateKey) -> Result<Fate> {
    let report = store.purge(path, collector).await?;
    if report.kept + report.postponed + report.problems_total > 0 {
        let why = report.problems.first().map_or_else(|| "some versions are left".to_owned(), |problem| problem.what.clone());
        return Ok(Fate::Left(why));
    }
    Ok(if report.collected + report.collected_before > 0 { Fate::Destroyed } else { Fate::Absent })
}

/// The object of a store whose earlier versions are not known here. Some stores say of what is not there that it was deleted.
async fn destroy_object(store: &dyn ObjectStore, path: &Path) -> Fate {
    let deleted = match store.head(path).await {
        Ok(_) => store.delete(path).await,
        Err(e) => Err(e),
    };
    match deleted {
        Ok(()) => Fate::Destroyed,
        Err(object_store::Error::NotFound { .. }) => Fate::Absent,
        Err(e) => Fate::Left(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    /// Pairs of names of which one is what the other would be if it were decoded once more.
    #[tokio::test]
    async fn the_object_of_the_canonical_path_is_destroyed_and_no_other() {
        for (purged, other) in [("x=A%2FA/p.parquet", "x=A/A/p.parquet"), ("%70art-0.parquet", "part-0.parquet")] {
            for root in ["t", ""] {
                let root = Path::from(root);
                let store = InMemory::new();
                let at = |name: &str| Path::parse(format!("{root}/{name}")).unwrap();
                for name in [purged, other] {
                    store.put(&at(name), "rows".into()).await.unwrap();
                }
                let path = place(&root, purged).unwrap();
                assert_eq!(destroy_object(&store, &path).await, Fate::Destroyed);
                assert!(store.head(&at(purged)).await.is_err(), "{purged} is there still");
                assert!(store.head(&at(other)).await.is_ok(), "{other} was destroyed");
                assert_eq!(destroy_object(&store, &path).await, Fate::Absent, "nothing is there to be purged");
            }
        }
    }
}
