//! `region replace`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::ProgressBar;
use parking_lot::Mutex;

use super::Ending;
use super::args::ReplaceArgs;
use super::context::Context;
use super::output::{self, GOOD, Output, bytes, count, styled};
use super::progress;
use crate::error::{Error, ErrorKind, Result};
use crate::id::RegionName;
use crate::key::PrivateKey;
use crate::lake::{LakeConfig, RegionConfig};
use crate::membership::{self, MembershipKeys, MembershipProgress, MembershipStep, ReplacePlan, SweepReport};

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
            MembershipStep::FileWritten => "the configuration file names the new location".to_owned(),
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
    format!("{names} names, {} told, {shards} shards rebuilt ({})", output::versions(report.told), bytes(report.shard_bytes))
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
    let keys = keys(&args, context, &config)?;
    let mut plan = ReplacePlan::new(name.clone(), with, args.fenced);
    plan.config_path = Some(context.existing_config_path()?);
    if args.no_wait {
        plan.wait = Duration::ZERO;
    }
    let steps = Steps { bar: progress::spinner("replacing"), done: Mutex::default() };
    let outcome = membership::replace(&config, &plan, &keys, context.clock.clone(), &steps).await;
    steps.bar.finish_and_clear();
    for line in steps.done.lock().iter() {
        out.line(format_args!("  {line}"))?;
    }
    let outcome = outcome?;
    out.line(format_args!("{} {name}: it is {} now, by configuration {}", styled(GOOD, "replaced"), args.with, outcome.number))?;
    let lost = outcome.sweep.lost + outcome.late.lost;
    if lost > 0 {
        out.line(format_args!("  {} shards could not be rebuilt: too few intact ones are left; lakeseal scrub names them", count(lost)))?;
        return Ok(Ending::Mismatch);
    }
    Ok(Ending::Done)
}

fn keys(args: &ReplaceArgs, context: &Context, config: &LakeConfig) -> Result<MembershipKeys> {
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
        Error::new(ErrorKind::Permission, "replacing a region takes a writer's key of the lake; name it with --writer-key FILE")
    })?;
    Ok(MembershipKeys { root: read(root, "replacing a region takes the lake's root key; name it with --root-key FILE")?, writer })
}
