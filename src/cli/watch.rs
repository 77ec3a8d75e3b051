//! `watch`: audits that go on, with metrics, a webhook, and the time to detection.

mod metrics;
mod webhook;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior};

use self::metrics::{Metrics, TableMetrics};
use super::Ending;
use super::context::{Context, OpenLake};
use super::output::{self, BAD, GOOD, NOTE, Output, styled};
use crate::baseline::{AuditOptions, AuditReport, Auditor, Outcome};
use crate::delta::Location;
use crate::error::{Error, ErrorKind, Result};
use crate::printable::one_line;
use crate::sql::hold_expectations;
use crate::table;

/// So many reports are kept for a webhook that does not answer; the oldest go first.
const UNTOLD_LIMIT: usize = 16;

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

The webhook is sent one JSON object when a table's outcome or its number of findings changes: table, outcome, before, report, detection_seconds.
What it does not take is sent again in the next round. With --metrics, outcomes are known from that file after a restart.

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
    /// Send a POST to this URL when a table's outcome changes
    #[arg(long, value_name = "URL")]
    pub webhook: Option<String>,
    /// Only look at a metrics file, whether the last round is recent
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tables", "once", "metrics", "listen", "webhook"])]
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

/// How closely a round looks, each closer than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// At the log.
    Log,
    /// At files that can have changed as well.
    Changed,
    /// At all data.
    All,
}

/// When a round last found nothing, by how closely it looked at least.
#[derive(Debug, Default, Clone, Copy)]
struct LastIntact {
    log_ms: Option<i64>,
    changed_ms: Option<i64>,
    all_ms: Option<i64>,
}

impl LastIntact {
    fn of(&self, depth: Depth) -> Option<i64> {
        match depth {
            Depth::Log => self.log_ms,
            Depth::Changed => self.changed_ms,
            Depth::All => self.all_ms,
        }
    }

    fn set(&mut self, depth: Depth, now_ms: i64) {
        self.log_ms = Some(now_ms);
        if depth != Depth::Log {
            self.changed_ms = Some(now_ms);
        }
        if depth == Depth::All {
            self.all_ms = Some(now_ms);
        }
    }
}

/// What is remembered of a table between rounds.
#[derive(Default)]
struct Watched {
    version: Option<u64>,
    full_ms: Option<i64>,
    intact: LastIntact,
    /// The last round that read data did not find the table intact: only reading all of it again can say otherwise.
    suspect: bool,
    outcome: Option<Outcome>,
    /// Absent when it is not known from before a restart.
    findings: Option<usize>,
    /// What the webhook did not take yet, oldest first.
    untold: VecDeque<Value>,
    /// The table, once it was found; its lake is opened once.
    place: Option<(Arc<Option<OpenLake>>, Location)>,
}

pub(super) async fn run(args: WatchArgs, context: &Context, out: &mut Output) -> Result<Ending> {
    if let Some(file) = &args.check {
        return metrics::check(file, args.max_age, context.clock.now_ms(), out);
    }
    // Without anybody to trust nothing is opened.
    context.trust(&args.trust)?;
    let webhook = args.webhook.as_deref().map(webhook::Webhook::new).transpose()?;
    let shared = Arc::new(Mutex::new(Metrics::default()));
    if let Some(address) = args.listen {
        let bound = metrics::serve(address, shared.clone()).await?;
        out.line(format_args!("metrics are at http://{bound}/metrics"))?;
    }
    let before = args.metrics.as_deref().and_then(metrics::read_back).unwrap_or_default();
    let mut watched: BTreeMap<String, Watched> =
        args.tables.iter().map(|table| (table.clone(), Watched::resumed(table, &before))).collect();
    let mut rounds = tokio::time::interval(Duration::from_secs(args.interval));
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let mut worst = Outcome::Intact;
        for (name, state) in &mut watched {
            let outcome = Round { name, args: &args, context, webhook: webhook.as_ref() }.run(state, &shared, out).await?;
            worst = worst.max(outcome);
        }
        let now_ms = context.clock.now_ms();
        let text = {
            let mut metrics = shared.lock();
            metrics.last_round_ms = Some(now_ms);
            metrics.to_text()
        };
        if let Some(file) = &args.metrics {
            crate::lake::write_whole(file, text.as_bytes(), true)
                .map_err(|e| Error::new(ErrorKind::Io, "the metrics could not be written").with("file", file.display()).caused_by(e))?;
        }
        if args.once {
            return Ok(worst.into());
        }
    }
}

/// One table in one round.
struct Round<'a> {
    name: &'a str,
    args: &'a WatchArgs,
    context: &'a Context,
    webhook: Option<&'a webhook::Webhook>,
}

impl Round<'_> {
    async fn run(&self, state: &mut Watched, shared: &Mutex<Metrics>, out: &mut Output) -> Result<Outcome> {
        let (began, began_ms) = (Instant::now(), self.context.clock.now_ms());
        let audited = self.audit(state, began_ms).await;
        let seconds = began.elapsed().as_secs_f64();
        let (outcome, report, depth) = match &audited {
            Ok((report, depth)) => (report.outcome(), Some(report), *depth),
            Err(_) => (Outcome::Undetermined, None, Depth::Log),
        };
        let findings = report.map_or(0, |report| report.findings.len());
        let detection = match (outcome, state.intact.of(depth)) {
            (Outcome::Mismatch, Some(intact)) if state.outcome != Some(Outcome::Mismatch) => Some(began_ms.saturating_sub(intact).max(0)),
            _ => None,
        };
        if let Err(error) = &audited {
            out.line(format_args!("{} {}: {}", output::time(began_ms), self.name, styled(NOTE, one_line(&error.to_string()))))?;
        }
        let before = state.outcome;
        let is_news = before != Some(outcome) || state.findings.is_some_and(|before| before != findings);
        if is_news || self.args.once {
            self.tell(outcome, report, detection, began_ms, out)?;
        }
        if is_news && self.webhook.is_some() && (before.is_some() || outcome != Outcome::Intact) {
            state.untold.push_back(self.body(outcome, before, report, detection, began_ms));
        }
        let failed = self.post(&mut state.untold).await;
        if matches!(outcome, Outcome::Intact | Outcome::IntactWithUnsealed) {
            state.intact.set(depth, began_ms);
        }
        (state.outcome, state.findings) = (Some(outcome), Some(findings));
        {
            let mut metrics = shared.lock();
            let table = metrics.tables.entry(self.name.to_owned()).or_default();
            table.take(outcome, report, seconds, began_ms, depth, detection);
            table.errors += u64::from(audited.is_err());
            table.webhook_failures += u64::from(failed);
            table.untold = state.untold.len();
            table.last_intact_ms = state.intact.all_ms;
        }
        Ok(outcome)
    }

    /// Audits, reading data where something can have changed. Also says how closely it looked.
    async fn audit(&self, state: &mut Watched, now_ms: i64) -> Result<(AuditReport, Depth)> {
        let (lake, location) = match &state.place {
            Some(place) => place.clone(),
            None => {
                let (lake, location) = self.context.table(self.name).await?;
                state.place.insert((Arc::new(lake), location)).clone()
            }
        };
        // A root that was published since the last round counts, and its writers.
        let trust = self.context.trust_at(&self.args.trust, &location).await?;
        let writers = self.context.writers(&self.args.writers, Some(&trust), lake.as_ref().as_ref())?;
        let (store, root) = (location.store().clone(), location.root().clone());
        let version = table::load(store.as_ref(), &root, None).await.ok().map(|snapshot| snapshot.version);
        let due_ms = i64::try_from(self.args.full_every.saturating_mul(1000)).unwrap_or(i64::MAX);
        // What was found in data is not unfound by looking less closely.
        let full = state.suspect || state.full_ms.is_none_or(|last| now_ms.saturating_sub(last) >= due_ms);
        // In a lake an incremental audit is cheap, and sees files that were overwritten in place.
        let quick = !full && !location.is_in_lake() && version.is_some() && version == state.version;
        let options = AuditOptions { quick, incremental: !full, writers, ..AuditOptions::default() };
        let auditor = Auditor::new(store, root, location.url().as_str(), trust.clone(), self.context.clock.clone(), options);
        let auditor = auditor.with_log(location.log());
        let mut report = auditor.audit(&()).await?;
        if !quick {
            hold_expectations(&mut report, &location, &trust, now_ms).await;
            state.suspect = !matches!(report.outcome(), Outcome::Intact | Outcome::IntactWithUnsealed);
        }
        state.version = version;
        if full {
            state.full_ms = Some(now_ms);
        }
        let depth = match (quick, full) {
            (true, _) => Depth::Log,
            (false, false) => Depth::Changed,
            (false, true) => Depth::All,
        };
        Ok((report, depth))
    }

    fn tell(&self, outcome: Outcome, report: Option<&AuditReport>, detection: Option<i64>, now_ms: i64, out: &mut Output) -> Result<()> {
        let words = match outcome {
            Outcome::Intact => styled(GOOD, "intact"),
            Outcome::IntactWithUnsealed => styled(NOTE, "intact, with unsealed changes"),
            Outcome::Undetermined => styled(NOTE, "undetermined"),
            Outcome::Mismatch => styled(BAD, "MISMATCH"),
        };
        let found = report.map_or(0, |report| report.findings.len());
        let within = detection.map_or_else(String::new, |ms| format!(", detected within {} s", ms / 1000));
        out.line(format_args!("{} {}: {words}, {found} findings{within}", output::time(now_ms), self.name))?;
        if let (Outcome::Mismatch, Some(report)) = (outcome, report) {
            for line in super::integrity::findings(&report.findings).iter().take(10) {
                out.line(format_args!("  {line}"))?;
            }
        }
        Ok(())
    }

    fn body(&self, outcome: Outcome, before: Option<Outcome>, report: Option<&AuditReport>, detection: Option<i64>, now_ms: i64) -> Value {
        json!({
            "table": self.name,
            "time_ms": now_ms,
            "outcome": metrics::name(outcome),
            "before": before.map(metrics::name),
            "detection_seconds": detection.map(|ms| ms / 1000),
            "report": report.map(AuditReport::to_json),
        })
    }

    /// Sends what is to be told; whether that failed. What is not taken stays for the next round: the watch goes on.
    async fn post(&self, untold: &mut VecDeque<Value>) -> bool {
        let Some(webhook) = self.webhook else { return false };
        while untold.len() > UNTOLD_LIMIT {
            untold.pop_front();
            output::note(format_args!("{}: the oldest report that the webhook did not take is given up", self.name));
        }
        while let Some(body) = untold.front() {
            if let Err(error) = webhook.post(body).await {
                output::note(format_args!("the webhook was not told, and will be in the next round: {error}"));
                return true;
            }
            untold.pop_front();
        }
        false
    }
}

impl Watched {
    /// As a watch that was stopped left it in its metrics. If the webhook had not taken something, the outcome is told anew.
    fn resumed(table: &str, before: &str) -> Self {
        let known = metrics::known_of(table, before);
        let outcome = known.outcome.filter(|_| !known.is_untold);
        // It ended with a round that may have been one of the log; the first round from here on looks at everything.
        let intact = LastIntact { log_ms: known.intact_ms, changed_ms: known.intact_ms, all_ms: known.intact_ms };
        Self { outcome, intact, ..Self::default() }
    }
}

impl TableMetrics {
    fn take(&mut self, outcome: Outcome, report: Option<&AuditReport>, seconds: f64, now_ms: i64, depth: Depth, detection_ms: Option<i64>) {
        self.outcome = Some(outcome);
        self.runs += 1;
        self.last_run_ms = Some(now_ms);
        self.seconds = seconds;
        if depth == Depth::All {
            self.last_full_ms = Some(now_ms);
        }
        self.detection_ms = detection_ms.or(self.detection_ms);
        if let Some(report) = report {
            self.findings = report.summary.iter().map(|(verdict, count)| (verdict.name(), *count)).collect();
            self.version = report.version;
            self.baseline = report.baseline.as_ref().map(|baseline| baseline.number);
            self.expires_ms = report.baseline.as_ref().and_then(|baseline| baseline.expires_ms);
        }
    }
}
