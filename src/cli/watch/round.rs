//! One round: each table is audited, and what is news is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::WatchArgs;
use super::known;
use super::metrics::{Metrics, TableMetrics, Taken, Totals};
use super::telling::{Queue, Telling};
use super::told::{self, News, Untold};
use crate::baseline::{AuditOptions, AuditReport, Auditor, Outcome};
use crate::cli::context::{Context, OpenLake};
use crate::cli::integrity;
use crate::cli::output::{self, BAD, GOOD, NOTE, Output, styled};
use crate::cli::pins::PinFile;
use crate::delta::Location;
use crate::error::{Error, ErrorKind, Result};
use crate::printable::one_line;
use crate::sql::hold_expectations;
use crate::table;

/// How closely a round looks, each closer than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
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
pub(super) struct Watched {
    version: Option<u64>,
    full_ms: Option<i64>,
    intact: LastIntact,
    /// The last round that read data did not find the table intact: only reading all of it again can say otherwise.
    suspect: bool,
    outcome: Option<Outcome>,
    /// The digest of its findings; absent when none is known from before a restart.
    findings: Option<String>,
    /// Whether a watch that was stopped left something untold.
    owes: bool,
    /// What the webhook did not take yet.
    untold: Queue,
    /// What was counted before this watch began.
    totals: Totals,
    /// The table, once it was found; its lake is opened once.
    place: Option<(Arc<Option<OpenLake>>, Location)>,
}

impl Watched {
    /// As a watch that was stopped left it in its metrics. If the webhook had not taken something, the outcome is told anew.
    pub(super) fn resumed(table: &str, before: &str) -> Self {
        let known = known::known_of(table, before);
        // It ended with a round that may have been one of the log; the first round from here on looks at everything.
        let intact = LastIntact { log_ms: known.intact_ms, changed_ms: known.intact_ms, all_ms: known.intact_ms };
        Self {
            outcome: known.outcome.filter(|_| !known.is_untold),
            findings: known.digest.filter(|_| !known.is_untold),
            owes: known.is_untold,
            totals: known.totals,
            intact,
            ..Self::default()
        }
    }

    /// Whether the lake's regions have changed since it was opened.
    fn is_outdated(&self) -> bool {
        let lake = self.place.as_ref().and_then(|(lake, _)| lake.as_ref().as_ref());
        lake.is_some_and(|lake| lake.lake.region_set.is_changed())
    }
}

/// A watch at work.
pub(super) struct Watch<'a> {
    pub(super) args: &'a WatchArgs,
    pub(super) context: &'a Context,
    pub(super) telling: Telling,
    pub(super) shared: Arc<Mutex<Metrics>>,
    /// What was seen of tables and logs: nobody can show less later.
    pub(super) pins: PinFile,
    pub(super) out: &'a mut Output,
    /// With `--once`: what could not be done besides audits.
    pub(super) failed: Vec<Error>,
}

/// Whether an audit came to no answer about the table.
fn is_open(audited: &Result<(AuditReport, Depth)>) -> bool {
    audited.as_ref().map_or(true, |(report, _)| report.outcome() == Outcome::Undetermined)
}

/// The milliseconds from `earlier` on; absent where the clock was set back meanwhile, or somebody wrote a time that is still to come: then nobody knows.
fn since(earlier_ms: i64, now_ms: i64) -> Option<i64> {
    Some(now_ms.saturating_sub(earlier_ms)).filter(|ms| *ms >= 0)
}

fn is_intact(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Intact | Outcome::IntactWithUnsealed)
}

impl Watch<'_> {
    /// Audits all tables; the worst that was found. What fails besides is tried again in the next round: the watch goes on.
    pub(super) async fn round(&mut self, watched: &mut BTreeMap<String, Watched>) -> Outcome {
        let read = self.pins.read_again();
        self.go_on(read);
        let mut worst = Outcome::Intact;
        self.telling.begin();
        for (name, state) in watched.iter_mut() {
            worst = worst.max(self.table(name, state).await);
            self.telling.tell(name, &mut state.untold).await;
        }
        self.telling.end(watched.iter_mut().map(|(name, state)| (name.as_str(), &mut state.untold))).await;
        let text = {
            let mut metrics = self.shared.lock();
            for (name, state) in watched.iter() {
                let Some(table) = metrics.tables.get_mut(name) else { continue };
                table.untold = state.untold.len();
                table.totals.webhook_failures = table.totals.webhook_failures.saturating_add(u64::from(table.untold > 0));
            }
            metrics.last_round_ms = Some(self.context.clock.now_ms());
            metrics.to_text()
        };
        if let Some(file) = &self.args.metrics {
            let written = crate::lake::write_whole_for_all(file, text.as_bytes())
                .map_err(|e| Error::new(ErrorKind::Io, "the metrics could not be written").with("file", file.display()).caused_by(e));
            self.go_on(written);
        }
        worst
    }

    /// A watch that goes on says what failed; one round ends with it.
    fn go_on(&mut self, done: Result<()>) {
        match done {
            Ok(()) => {}
            Err(error) if self.args.once => self.failed.push(error),
            Err(error) => output::note(format_args!("{error}; the watch goes on")),
        }
    }

    async fn table(&mut self, name: &str, state: &mut Watched) -> Outcome {
        let (began, began_ms) = (Instant::now(), self.context.clock.now_ms());
        let audited = self.audit(name, state, began_ms).await;
        let seconds = began.elapsed().as_secs_f64();
        let (outcome, report, depth) = match &audited {
            Ok((report, depth)) => (report.outcome(), Some(report), *depth),
            Err(_) => (Outcome::Undetermined, None, Depth::Log),
        };
        let detection_ms = match (outcome, state.intact.of(depth)) {
            (Outcome::Mismatch, Some(intact)) if state.outcome != Some(Outcome::Mismatch) => since(intact, began_ms),
            _ => None,
        };
        if let Err(error) = &audited {
            let line = format!("{} {name}: {}", output::time(began_ms), styled(NOTE, one_line(&error.to_string())));
            let told = self.out.line(line);
            self.go_on(told);
        }
        let findings = report.map(|report| told::digest(&report.findings));
        let others = matches!((&state.findings, &findings), (Some(before), Some(now)) if before != now);
        let news = News { table: name, now_ms: began_ms, outcome, before: state.outcome, report, detection_ms };
        let is_news = news.before != Some(outcome) || others;
        if is_news || self.args.once {
            let told = self.tell(&news);
            self.go_on(told);
        }
        if is_news && self.telling.is_any() && (news.before.is_some() || outcome != Outcome::Intact || state.owes) {
            state.untold.push(Untold { body: news.to_json(), refused: false });
        }
        if is_intact(outcome) {
            state.intact.set(depth, began_ms);
        }
        (state.outcome, state.owes) = (Some(outcome), false);
        state.findings = findings.or(state.findings.take());
        let mut metrics = self.shared.lock();
        let table = metrics.tables.entry(name.to_owned()).or_insert_with(|| TableMetrics::resumed(state.totals));
        table.take(&Taken { outcome, report, seconds, now_ms: began_ms, depth, detection_ms });
        table.untold = state.untold.len();
        table.last_intact_ms = state.intact.all_ms;
        table.digest = state.findings.clone();
        outcome
    }

    /// Audits, in the lake as it is now: that its regions changed since it was opened is honest, and no news.
    async fn audit(&mut self, name: &str, state: &mut Watched, now_ms: i64) -> Result<(AuditReport, Depth)> {
        let before = (state.suspect, state.full_ms);
        let mut audited = self.look(name, state, now_ms).await;
        if is_open(&audited) && state.is_outdated() {
            self.forget(state);
            (state.suspect, state.full_ms) = before;
            audited = self.look(name, state, now_ms).await;
        }
        if is_open(&audited) || state.is_outdated() {
            self.forget(state);
        }
        // What was gone, and is there again, need not be what was there.
        state.suspect |= audited.as_ref().is_err_and(|error| !error.is_retryable());
        audited
    }

    /// The next look opens the table anew.
    fn forget(&self, state: &mut Watched) {
        state.place = None;
        self.context.let_go();
    }

    /// Audits, reading data where something can have changed. Also says how closely it looked.
    async fn look(&mut self, name: &str, state: &mut Watched, now_ms: i64) -> Result<(AuditReport, Depth)> {
        let (lake, location) = match &state.place {
            Some(place) => place.clone(),
            None => {
                let (lake, location) = self.context.table(name).await?;
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
        let full = state.suspect || state.full_ms.and_then(|last| since(last, now_ms)).is_none_or(|ago| ago >= due_ms);
        // In a lake an incremental audit is cheap, and sees files that were overwritten in place.
        let quick = !full && !location.is_in_lake() && version.is_some() && version == state.version;
        let names = location.pin_names();
        let (pin, log_pin) = (self.pins.pins.table(&names), self.pins.pins.log(&names).cloned());
        let options = AuditOptions { quick, incremental: !full, writers, pin, log_pin, ..AuditOptions::default() };
        let auditor = Auditor::new(store, root, location.url().as_str(), trust.clone(), self.context.clock.clone(), options);
        let auditor = auditor.with_log(location.log());
        let mut report = auditor.audit(&()).await?;
        if !quick {
            hold_expectations(&mut report, &location, &trust, now_ms).await;
            state.suspect = !is_intact(report.outcome());
        }
        state.version = version;
        if full {
            state.full_ms = Some(now_ms);
        }
        if let (Some(baseline), true) = (&report.baseline, is_intact(report.outcome())) {
            let raised = self.pins.raise(&names, baseline, report.log.as_ref());
            self.go_on(raised.map(drop));
        }
        if self.args.trust.is_empty() {
            let kept = self.context.keep_newest_root(&location.repository()).await;
            self.go_on(kept);
        }
        let depth = match (quick, full) {
            (true, _) => Depth::Log,
            (false, false) => Depth::Changed,
            (false, true) => Depth::All,
        };
        Ok((report, depth))
    }

    fn tell(&mut self, news: &News<'_>) -> Result<()> {
        let words = match news.outcome {
            Outcome::Intact => styled(GOOD, "intact"),
            Outcome::IntactWithUnsealed => styled(NOTE, "intact, with unsealed changes"),
            Outcome::Undetermined => styled(NOTE, "undetermined"),
            Outcome::Mismatch => styled(BAD, "MISMATCH"),
        };
        let found = news.report.map_or(0, |report| report.findings.len());
        let within = news.detection_ms.map_or_else(String::new, |ms| format!(", detected within {} s", ms / 1000));
        self.out.line(format_args!("{} {}: {words}, {found} findings{within}", output::time(news.now_ms), news.table))?;
        if let (Outcome::Mismatch, Some(report)) = (news.outcome, news.report) {
            for line in integrity::findings(report.findings.get(..5).unwrap_or(&report.findings)) {
                self.out.line(format_args!("  {line}"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_leaves_no_time_and_makes_a_full_round_due() {
        assert_eq!([since(1_000, 3_500), since(5, 5), since(3_500, 1_000)], [Some(2_500), Some(0), None]);
        assert_eq!([since(i64::MAX, 0), since(i64::MIN, i64::MAX)], [None, Some(i64::MAX)]);
    }
}
