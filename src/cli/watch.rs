//! `watch`: audits that go on, with metrics, a webhook, and the time to detection.

mod known;
mod metrics;
mod round;
mod serve;
mod telling;
mod told;
mod webhook;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;

use self::metrics::Metrics;
use self::round::{Watch, Watched};
use self::telling::Telling;
use self::webhook::Webhook;
use super::Ending;
use super::context::Context;
use super::output::Output;
use super::pins::PinFile;
use crate::baseline::Pins;
use crate::error::Result;

/// What `watch --help` ends with.
pub(super) const HELP: &str = "\
Examples:
  lakeseal watch flights scores --interval 60 --metrics /var/lib/node_exporter/lakeseal.prom
  lakeseal watch flights --listen 127.0.0.1:9464 --webhook https://alerts.example/lakeseal
  lakeseal watch flights --once --metrics lakeseal.prom       one round, as a scheduled job runs it
  lakeseal watch --check lakeseal.prom --max-age 300          has it run? exits with 2 when it has not

Each round compares the log, and reads data where something can have changed: after every new commit, and every --full-every seconds. In a
lake, files whose version is the one that was sealed are not read in between; a plain directory has no versions, so edits in place are seen
by the next full round. Once a round that read data has found something, every round reads all data until one finds nothing. The time to
detection that is reported is the longest it can have been: since the last round that found nothing and looked as closely.

The webhook is sent one JSON object when a table's outcome or its findings change: table, outcome, before, report, detection_seconds. A report
has the first 100 findings, and says how many it leaves out; whoever takes no long or no such report is sent the object without it. What is
not taken is sent again in the next round; a webhook that does not answer is waited for twice a round, 36 s each time, and holds up nothing else. With --metrics, what was found is known from that file after a restart, and between runs of --once.

Until it ends a watch remembers the newest baseline, and the log, that it found intact: older ones, and none, are a mismatch from then on. With
--pin FILE that is known after a restart as well.

Exit codes (with --once, or of --check; otherwise it runs until it is interrupted):
  0  intact   3  intact, with later commits that are not sealed
  1  a mismatch
  2  could not be determined; --check: the last round is too long ago, or there was none";

/// `watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The tables
    #[arg(required_unless_present = "check", value_name = "TABLE")]
    pub tables: Vec<String>,
    /// Seconds between the beginnings of two rounds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub interval: u64,
    /// Seconds after which all data is read again, whatever the log says
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    pub full_every: u64,
    /// One round only
    #[arg(long)]
    pub once: bool,
    /// Write metrics to this file, in Prometheus' text format, replacing it after every round
    #[arg(long, value_name = "FILE")]
    pub metrics: Option<PathBuf>,
    /// Serve /metrics on this address of this machine
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "once")]
    pub listen: Option<SocketAddr>,
    /// Send a POST to this URL when a table's outcome or findings change; arguments are seen by others on this machine, the variable is not
    #[arg(long, value_name = "URL", env = "LAKESEAL_WEBHOOK", hide_env_values = true)]
    pub webhook: Option<String>,
    /// Hold the tables against the newest baselines that this file, or object at a URL (http, s3, …), remembers; a file then remembers those
    /// found, unless something is wrong
    #[arg(long, value_name = "FILE|URL")]
    pub pin: Option<String>,
    /// Only look at a metrics file, whether the last round is recent
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tables", "once", "metrics", "listen", "pin"])]
    pub check: Option<PathBuf>,
    /// How many seconds ago the last round may have been
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "check")]
    pub max_age: u64,
    /// Public keys of the sealers whom you trust (PEM), or a trust root [default: HOME/trust-root.json, else HOME/trusted-sealers.pem]
    #[arg(long, value_name = "FILE")]
    pub trust: Vec<PathBuf>,
    /// Public keys of the writers who alone may commit, in PEM [default: those of a trust root; else the lake's are recognised]
    #[arg(long, value_name = "FILE")]
    pub writers: Vec<PathBuf>,
}

pub(super) async fn run(args: WatchArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    if let Some(file) = &args.check {
        return known::check(file, args.max_age, context.clock.now_ms(), out);
    }
    // Without anybody to trust nothing is opened.
    context.trust(&args.trust)?;
    let webhook = args.webhook.as_deref().map(Webhook::new).transpose()?;
    let pins = PinFile::read_if_any(args.pin.as_deref()).await?.unwrap_or_else(|| PinFile::only_read(Pins::default()));
    let shared = Arc::new(Mutex::new(Metrics::default()));
    if let Some(address) = args.listen {
        let bound = serve::serve(address, shared.clone()).await?;
        out.line(format_args!("metrics are at http://{bound}/metrics"))?;
    }
    let before = args.metrics.as_deref().and_then(known::read_back).unwrap_or_default();
    let mut watched: BTreeMap<String, Watched> =
        args.tables.iter().map(|table| (table.clone(), Watched::resumed(table, &before))).collect();
    let mut rounds = tokio::time::interval(Duration::from_secs(args.interval));
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let telling = Telling::new(webhook);
    let mut watch = Watch { args: &args, context, telling, shared, pins, out, failed: Vec::new() };
    loop {
        rounds.tick().await;
        let outcome = watch.round(&mut watched).await;
        if args.once {
            return super::ended(outcome.into(), watch.failed);
        }
    }
}
