//! `init`, `region`, `tables`.

use std::path::PathBuf;
use std::str::FromStr as _;
use std::time::Duration;

use super::Ending;
use super::args::{CheckRole, InitArgs, RegionCommand};
use super::context::Context;
use super::home::Home;
use super::output::{self, BAD, GOOD, NOTE, Output, bytes, count, styled};
use crate::clock::SharedClock;
use crate::delta::{self, Location};
use crate::error::{Error, ErrorKind, Result};
use crate::id::RegionName;
use crate::lake::{self, InitPlan, LakeConfig, ProfileConfig, RegionConfig, RegionState};
use crate::region;

/// The shortest retention that a lake is made with.
const RETENTION_LEAST: Duration = Duration::from_secs(60 * 60);

pub(super) async fn run_init(args: InitArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    let config = init(args, context, context.clock.clone()).await?;
    out.line(format_args!("{} lake \"{}\" over {} regions", styled(GOOD, "made"), config.name, config.regions.len()))?;
    out.line(format_args!("  configuration  {}", context.new_config_path().display()))?;
    out.line(format_args!("  identity       {}", config.id))?;
    let retention = super::duration::words(config.profile.retention_seconds);
    out.line(format_args!("  retention      {retention}   (so long overwritten and deleted versions stay)"))?;
    out.line(format_args!(
        "  keys           {}   (root, writer, collector; keep copies, and keep them out of the lake)",
        context.home.lake_keys(config.id).display()
    ))?;
    out.line("next: lakeseal import FILE… --table NAME")?;
    Ok(Ending::Done)
}

/// Makes a lake; its keys go to the user's home, under the lake's identity.
pub(super) async fn init(args: InitArgs, context: &Context, clock: SharedClock) -> Result<LakeConfig> {
    let regions = args.regions.iter().map(|text| parse_region(text, !args.no_fsync)).collect::<Result<Vec<_>>>()?;
    let lakes_keys = context.home.all_lakes_keys();
    Home::make_private(&lakes_keys)?;
    if args.retention < RETENTION_LEAST {
        let what = "the retention is at least an hour: what a reader or a writer is at work on must not be collected";
        return Err(Error::new(ErrorKind::InvalidInput, what).with("retention", super::duration::words(args.retention.as_secs())));
    }
    let retention_seconds = args.retention.as_secs();
    let profile = ProfileConfig { liars: args.liars, retention_seconds, ..ProfileConfig::new(args.data, args.parity) };
    lake::init(InitPlan { config_path: context.new_config_path(), name: args.name, regions, profile, lakes_keys, clock }).await
}

/// `NAME=LOCATION`.
pub(super) fn parse_region(text: &str, fsync: bool) -> Result<RegionConfig> {
    let shape = || {
        Error::new(ErrorKind::InvalidInput, "a region reads NAME=LOCATION, as in `a=./regions/a` or `eu=s3://bucket/lake`")
            .with("region", text)
    };
    let (name, url) = text.split_once('=').ok_or_else(shape)?;
    if url.is_empty() {
        return Err(shape());
    }
    let name = RegionName::from_str(name).map_err(|e| shape().caused_by(e))?;
    Ok(RegionConfig { fsync, ..RegionConfig::new(name, url) })
}

pub(super) async fn region(command: RegionCommand, context: &Context, out: &mut Output) -> Result<Ending> {
    match command {
        RegionCommand::List => list(context, out).await,
        RegionCommand::Check { regions, role } => check(regions, role, context, out).await,
        RegionCommand::Replace(args) => super::membership::replace(args, context, out).await,
        RegionCommand::Add(args) => super::membership::add(args, context, out).await,
        RegionCommand::Retire(args) => super::membership::retire(args, context, out).await,
    }
}

async fn list(context: &Context, out: &mut Output) -> Result<Ending> {
    // A lake with too many regions down does not open: the error then has each one's reason.
    let open = context.lake().await?.lake;
    let rows = open.config.regions.iter().map(|region| {
        let down = open.down.iter().find(|(name, _)| *name == region.name);
        let state = match (down, open.state(&region.name)) {
            (Some(_), _) => "down",
            (None, Some(RegionState::Replacing)) => "replacing",
            (None, Some(RegionState::Adding)) => "adding",
            (None, Some(RegionState::Leaving)) => "leaving",
            (None, Some(RegionState::Voting)) => "up",
            (None, None | Some(RegionState::Retired)) => "retired",
        };
        vec![region.name.to_string(), state.to_owned(), region.url.clone(), down.map(|(_, why)| why.clone()).unwrap_or_default()]
    });
    out.line(output::aligned(&["region", "state", "location", "why"], &[], rows.collect()))?;
    Ok(Ending::Done)
}

async fn check(names: Vec<String>, role: Option<CheckRole>, context: &Context, out: &mut Output) -> Result<Ending> {
    let mut places = Vec::new();
    if names.is_empty() {
        let config = context.config()?;
        places.extend(config.regions.iter().map(|region| (region.clone(), config.directory.clone())));
    }
    for name in names {
        let config = if context.is_in_lake(&name)? { Some(context.config()?) } else { None };
        let known =
            config.and_then(|c| c.regions.iter().find(|region| region.name.as_str() == name).map(|r| (r.clone(), c.directory.clone())));
        places.push(match known {
            Some(region) => region,
            None => (RegionConfig::new(RegionName::from_str("candidate")?, name), PathBuf::new()),
        });
    }
    let (mut all_passed, mut all_up) = (true, true);
    for (place, base) in places {
        let store = place.open(&base)?;
        out.line(format_args!("{} {}", place.name, place.url))?;
        // A place that cannot be reached has not broken a promise.
        if let Err(error) = store.list_with_delimiter(None).await {
            all_up = false;
            out.line(format_args!(
                "  {}    {}",
                styled(BAD, "down"),
                Error::find(&error).map_or_else(|| error.to_string(), Error::to_string)
            ))?;
            continue;
        }
        let report = match role {
            Some(CheckRole::Writer) => region::check_writer(&store).await,
            None => region::check(&store).await,
        };
        all_passed &= report.passed();
        for result in report.results {
            let word = if result.passed { styled(GOOD, "ok    ") } else { styled(BAD, "FAILED") };
            out.line(format_args!("  {word}  {}: {}", result.name, result.detail))?;
            if !result.passed {
                out.line(format_args!("          {} {}", styled(NOTE, "meaning:"), result.meaning))?;
            }
        }
    }
    Ok(match (all_passed, all_up) {
        (false, _) => Ending::Mismatch,
        (true, false) => Ending::Undetermined,
        (true, true) => Ending::Done,
    })
}

pub(super) async fn tables(context: &Context, out: &mut Output) -> Result<Ending> {
    let open = context.lake().await?;
    let mut rows = Vec::new();
    for name in delta::tables(open.store.as_ref()).await? {
        let location = Location::in_lake(&open.named, &name)?;
        let sealed = location.repository().names().await?;
        let sealed = sealed.iter().map(|baseline| baseline.number).max().map_or_else(|| "never".to_owned(), |number| number.to_string());
        // One table that cannot be read must not hide the others.
        rows.push(match crate::table::load(location.store().as_ref(), location.root(), None).await {
            Ok(snapshot) => {
                let size = snapshot.files.values().map(|file| file.size).sum();
                vec![
                    name,
                    snapshot.version.to_string(),
                    count(u64::try_from(snapshot.files.len()).unwrap_or(u64::MAX)),
                    bytes(size),
                    sealed,
                ]
            }
            Err(error) => vec![name, "-".to_owned(), "-".to_owned(), error.message().to_owned(), sealed],
        });
    }
    if rows.is_empty() {
        out.line("there are no tables yet: lakeseal import FILE… --table NAME")?;
        return Ok(Ending::Done);
    }
    out.line(output::aligned(&["table", "version", "files", "size", "newest baseline"], &[1, 2, 3, 4], rows))?;
    Ok(Ending::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_a_name_and_a_location_that_may_have_equal_signs() {
        let region = parse_region("eu=s3://bucket/a=b", true).unwrap();
        assert_eq!((region.name.as_str(), region.url.as_str()), ("eu", "s3://bucket/a=b"));
        for bad in ["", "a", "a=", "=b", "A=b", "a b=c"] {
            assert_eq!(parse_region(bad, true).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }
}
