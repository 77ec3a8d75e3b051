//! `region add`, `region replace` and `region retire`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::ProgressBar;
use parking_lot::Mutex;
use serde_json::json;

use super::Ending;
use super::args::{AddArgs, ChangeArgs, ReplaceArgs, RetireArgs};
use super::context::Context;
use super::lake::parse_region;
use super::output::{self, GOOD, Output, bytes, count, styled};
use super::progress;
use crate::error::{Error, ErrorKind, Result};
use crate::id::RegionName;
use crate::key::PrivateKey;
use crate::lake::{LakeConfig, RegionConfig};
use crate::membership::{
    self, AddPlan, MembershipKeys, MembershipOutcome, MembershipProgress, MembershipStep, ReplacePlan, RetirePlan, SweepReport,
};

/// The steps that are done, and a line for the one that is under way.
struct Steps {
    bar: ProgressBar,
    done: Mutex<Vec<String>>,
}

impl MembershipProgress for Steps {
    fn step(&self, step: &MembershipStep) {
        let text = match step {
            MembershipStep::Identified => "the new region has its identity".to_owned(),
            MembershipStep::Published { number, regions } => format!("configuration {number} is decided, and lies in {regions} regions"),
            MembershipStep::FileWritten => "the configuration file is rewritten".to_owned(),
            MembershipStep::Swept(report) => format!("handed over: {}", sweep_text(report)),
            MembershipStep::Waiting(rest) => format!("waiting until other clients' leases have ended ({} s)", rest.as_secs()),
        };
        self.bar.set_message(text.clone());
        self.done.lock().push(text);
    }

    fn swept(&self, so_far: &SweepReport) {
        self.bar.set_message(format!("handing over: {}", sweep_text(so_far)));
    }
}

fn sweep_text(report: &SweepReport) -> String {
    let (names, shards) = (count(report.names), count(report.shards));
    format!("{names} names, {} told, {shards} shards rebuilt or copied ({})", output::versions(report.told), bytes(report.shard_bytes))
}

/// Shows the steps of a change while it is made, and tells them when it has ended, however it did.
async fn watched(
    verb: &'static str,
    json: bool,
    out: &mut Output,
    change: impl AsyncFnOnce(&Steps) -> Result<MembershipOutcome>,
) -> Result<MembershipOutcome> {
    let steps = Steps { bar: progress::spinner(verb), done: Mutex::default() };
    let outcome = change(&steps).await;
    steps.bar.finish_and_clear();
    if !json {
        for line in steps.done.lock().iter() {
            out.line(format_args!("  {line}"))?;
        }
    }
    outcome
}

/// Tells what a change came to.
fn tell(outcome: &MembershipOutcome, json: bool, region: &RegionName, done: &str, what: &str, out: &mut Output) -> Result<Ending> {
    let lost = outcome.sweep.lost + outcome.late.lost;
    if json {
        let sum = |of: fn(&SweepReport) -> u64| of(&outcome.sweep) + of(&outcome.late);
        out.line(json!({
            "region": region.to_string(), "done": done, "configuration": outcome.number,
            "names": outcome.sweep.names, "told": sum(|sweep| sweep.told),
            "shards": sum(|sweep| sweep.shards), "shard_bytes": sum(|sweep| sweep.shard_bytes), "lost": lost,
            "regions": outcome.config.regions.iter().map(|region| region.name.to_string()).collect::<Vec<_>>(),
        }))?;
    } else {
        out.line(format_args!("{} {region}: {what}, by configuration {}", styled(GOOD, done), outcome.number))?;
        if lost > 0 {
            out.line(format_args!(
                "  {} shards could not be rebuilt: too few intact ones are left; lakeseal scrub names them",
                count(lost)
            ))?;
        }
    }
    Ok(if lost > 0 { Ending::Mismatch } else { Ending::Done })
}

pub(super) async fn add(args: AddArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    let config = context.config()?;
    let region = parse_region(&args.region, !args.no_fsync)?;
    // What the file says of it already (options, limits) holds.
    let listed = config.regions.iter().find(|listed| listed.name == region.name && listed.url == region.url);
    let region = listed.cloned().unwrap_or(region);
    let name = region.name.clone();
    let keys = keys(&args.change, context, &config)?;
    let mut plan = AddPlan::new(region);
    plan.config_path = Some(context.existing_config_path()?);
    if args.change.no_wait {
        plan.wait = Duration::ZERO;
    }
    let outcome = watched("adding", args.change.json, out, async |steps: &Steps| {
        membership::add(&config, &plan, &keys, context.clock.clone(), steps).await
    });
    let outcome = outcome.await?;
    let what = format!("the lake has {} regions now", outcome.config.regions.len());
    tell(&outcome, args.change.json, &name, "added", &what, out)
}

pub(super) async fn retire(args: RetireArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    let config = context.config()?;
    let name: RegionName = args.name.parse()?;
    let keys = keys(&args.change, context, &config)?;
    let mut plan = RetirePlan::new(name.clone());
    plan.is_lost = args.lost;
    plan.gone = args.gone.iter().map(|name| name.parse::<RegionName>()).collect::<Result<Vec<_>>>()?;
    plan.config_path = Some(context.existing_config_path()?);
    if args.change.no_wait {
        plan.wait = Duration::ZERO;
    }
    let outcome = watched("retiring", args.change.json, out, async |steps: &Steps| {
        membership::retire(&config, &plan, &keys, context.clock.clone(), steps).await
    });
    let outcome = outcome.await?;
    let what = format!("{} regions are left, and nothing is read there any more", outcome.config.regions.len());
    let ending = tell(&outcome, args.change.json, &name, "retired", &what, out)?;
    if !args.change.json {
        for gone in &args.gone {
            out.line(format_args!("  replace {gone} next (lakeseal region replace): what it was to be given is missing until then"))?;
        }
    }
    Ok(ending)
}

pub(super) async fn replace(args: ReplaceArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    let config = context.config()?;
    let name: RegionName = args.name.parse()?;
    let old = config.regions.iter().find(|region| region.name == name).ok_or_else(|| {
        let names: Vec<_> = config.regions.iter().map(|region| region.name.to_string()).collect();
        Error::new(ErrorKind::InvalidInput, "the lake has no such region").with("region", &name).with("regions", names.join(", "))
    })?;
    let with = RegionConfig { url: args.with.clone(), fsync: !args.no_fsync, ..old.clone() };
    if !args.fenced {
        let what = "make sure first that no client can reach the old region any more (revoke its credentials, or remove it), and say so with \
                    --fenced: what is voted there afterwards would be lost";
        return Err(Error::new(ErrorKind::InvalidInput, what).with("region", &name).with("location", &old.url));
    }
    let keys = keys(&args.change, context, &config)?;
    let mut plan = ReplacePlan::new(name.clone(), with, args.fenced);
    plan.config_path = Some(context.existing_config_path()?);
    if args.change.no_wait {
        plan.wait = Duration::ZERO;
    }
    let outcome = watched("replacing", args.change.json, out, async |steps: &Steps| {
        membership::replace(&config, &plan, &keys, context.clock.clone(), steps).await
    });
    let outcome = outcome.await?;
    tell(&outcome, args.change.json, &name, "replaced", &format!("it is {} now", args.with), out)
}

fn keys(args: &ChangeArgs, context: &Context, config: &LakeConfig) -> Result<MembershipKeys> {
    let own = context.home.lake_keys(config.id);
    let read = |file: PathBuf, what: &'static str| {
        if Path::exists(&file) {
            PrivateKey::from_file(&file)
        } else {
            Err(Error::new(ErrorKind::Permission, what).with("file", file.display()))
        }
    };
    let root = args.root_key.clone().unwrap_or_else(|| own.join("root.pem"));
    let writer = context.writer(config)?.ok_or_else(|| {
        Error::new(ErrorKind::Permission, "changing the regions takes a writer's key of the lake; name it with --writer-key FILE")
    })?;
    Ok(MembershipKeys { root: read(root, "changing the regions takes the lake's root key; name it with --root-key FILE")?, writer })
}
