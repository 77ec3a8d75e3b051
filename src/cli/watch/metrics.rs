//! Metrics in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use super::round::Depth;
use crate::baseline::{AuditReport, Outcome};

/// When the last round ended.
pub(super) const ROUND: &str = "lakeseal_watch_last_round_timestamp_seconds";

/// What all rounds came to.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) last_round_ms: Option<i64>,
    pub(super) tables: BTreeMap<String, TableMetrics>,
}

/// What the rounds of one table came to.
#[derive(Debug, Default)]
pub(super) struct TableMetrics {
    pub(super) outcome: Option<Outcome>,
    pub(super) findings: BTreeMap<&'static str, u64>,
    pub(super) version: Option<u64>,
    pub(super) baseline: Option<u64>,
    pub(super) expires_ms: Option<i64>,
    /// Of the findings, as [`super::told::digest`] makes it; absent until an audit came to its end.
    pub(super) digest: Option<String>,
    pub(super) totals: Totals,
    pub(super) seconds: f64,
    pub(super) last_run_ms: Option<i64>,
    pub(super) last_full_ms: Option<i64>,
    pub(super) detection_ms: Option<i64>,
    pub(super) last_intact_ms: Option<i64>,
    pub(super) untold: usize,
}

/// What is counted from the first round on, whenever the watch was begun anew.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) runs: u64,
    pub(super) errors: u64,
    pub(super) webhook_failures: u64,
}

/// The name of an outcome.
pub(super) const fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Intact => "intact",
        Outcome::IntactWithUnsealed => "unsealed",
        Outcome::Undetermined => "undetermined",
        Outcome::Mismatch => "mismatch",
    }
}

/// A family of metrics: name, kind, help, and the value of a table.
type Family = (&'static str, &'static str, &'static str, fn(&TableMetrics) -> Option<String>);

const OUTCOME: &str = "lakeseal_audit_outcome";
/// When all data was read last and nothing was found.
pub(super) const INTACT: &str = "lakeseal_audit_last_intact_timestamp_seconds";
/// Reports that the webhook has not taken.
pub(super) const UNTOLD: &str = "lakeseal_webhook_untold";
/// Audits.
pub(super) const RUNS: &str = "lakeseal_audit_runs_total";
/// Audits that could not be done.
pub(super) const ERRORS: &str = "lakeseal_audit_errors_total";
/// Rounds in which the webhook was not told.
pub(super) const FAILURES: &str = "lakeseal_webhook_failures_total";
/// The digest of a table's findings: a comment to Prometheus, and what a watch that begins anew compares its own with.
pub(super) const FINDINGS: &str = "# lakeseal-findings";
/// All outcomes.
pub(super) const OUTCOMES: [Outcome; 4] = [Outcome::Intact, Outcome::IntactWithUnsealed, Outcome::Undetermined, Outcome::Mismatch];

const FAMILIES: [Family; 12] = [
    (RUNS, "counter", "Audits of the table.", |t| Some(t.totals.runs.to_string())),
    (ERRORS, "counter", "Audits that could not be done.", |t| Some(t.totals.errors.to_string())),
    ("lakeseal_audit_duration_seconds", "gauge", "How long the last audit took.", |t| Some(t.seconds.to_string())),
    ("lakeseal_audit_last_run_timestamp_seconds", "gauge", "When the last audit began.", |t| t.last_run_ms.map(seconds)),
    ("lakeseal_audit_last_full_timestamp_seconds", "gauge", "When all data was read last.", |t| t.last_full_ms.map(seconds)),
    (INTACT, "gauge", "When all data was read last and nothing was found.", |t| t.last_intact_ms.map(seconds)),
    (FAILURES, "counter", "Rounds in which the webhook did not take what there was to tell.", |t| {
        Some(t.totals.webhook_failures.to_string())
    }),
    (UNTOLD, "gauge", "Reports that the webhook has not taken yet.", |t| Some(t.untold.to_string())),
    ("lakeseal_audit_detection_seconds", "gauge", "The longest that the last mismatch can have gone undetected.", |t| {
        t.detection_ms.map(seconds)
    }),
    ("lakeseal_table_version", "gauge", "The Delta version that was audited.", |t| t.version.map(|n| n.to_string())),
    ("lakeseal_baseline_number", "gauge", "The newest trusted baseline.", |t| t.baseline.map(|n| n.to_string())),
    ("lakeseal_baseline_expires_timestamp_seconds", "gauge", "When that baseline expires.", |t| t.expires_ms.map(seconds)),
];

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))
}

/// A label's value: backslash, quote and newline are escaped.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl TableMetrics {
    /// With what was counted before this watch began.
    pub(super) fn resumed(totals: Totals) -> Self {
        Self { totals, ..Self::default() }
    }

    /// Takes over what a round came to.
    pub(super) fn take(&mut self, round: &Taken<'_>) {
        self.outcome = Some(round.outcome);
        self.totals.runs = self.totals.runs.saturating_add(1);
        self.last_run_ms = Some(round.now_ms);
        self.seconds = round.seconds;
        if round.depth == Depth::All {
            self.last_full_ms = Some(round.now_ms);
        }
        self.detection_ms = round.detection_ms.or(self.detection_ms);
        let Some(report) = round.report else {
            self.totals.errors = self.totals.errors.saturating_add(1);
            return;
        };
        self.findings = report.summary.iter().map(|(verdict, count)| (verdict.name(), *count)).collect();
        self.version = report.version;
        self.baseline = report.baseline.as_ref().map(|baseline| baseline.number);
        self.expires_ms = report.baseline.as_ref().and_then(|baseline| baseline.expires_ms);
    }
}

/// What one round of a table came to.
pub(super) struct Taken<'a> {
    pub(super) outcome: Outcome,
    /// Absent when the audit could not be done.
    pub(super) report: Option<&'a AuditReport>,
    pub(super) seconds: f64,
    pub(super) now_ms: i64,
    pub(super) depth: Depth,
    pub(super) detection_ms: Option<i64>,
}

impl Metrics {
    /// The text that Prometheus scrapes.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        let head = |text: &mut String, name: &str, kind: &str, help: &str| {
            // Writing to a string does not fail.
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        };
        if let Some(ms) = self.last_round_ms {
            head(&mut text, ROUND, "gauge", "When the last round over all tables ended: alert when it is long ago.");
            let _ = writeln!(text, "{ROUND} {}", seconds(ms));
        }
        head(&mut text, OUTCOME, "gauge", "1 for the outcome that the last audit came to, 0 for the others.");
        for (table, metrics) in &self.tables {
            for outcome in OUTCOMES {
                let is = u8::from(metrics.outcome == Some(outcome));
                let _ = writeln!(text, "{} {is}", outcome_key(table, outcome));
            }
        }
        head(&mut text, "lakeseal_audit_findings", "gauge", "Findings of the last audit by verdict; intact counts files.");
        for (table, metrics) in &self.tables {
            for (verdict, count) in &metrics.findings {
                let _ = writeln!(text, "lakeseal_audit_findings{{table=\"{}\",verdict=\"{verdict}\"}} {count}", label(table));
            }
        }
        for (table, metrics) in &self.tables {
            if let Some(digest) = &metrics.digest {
                text.push_str(&line(FINDINGS, table, digest));
            }
        }
        for (name, kind, help, value) in FAMILIES {
            let lines: Vec<String> = self.tables.iter().filter_map(|(t, m)| Some(line(name, t, value(m)?))).collect();
            if !lines.is_empty() {
                head(&mut text, name, kind, help);
                lines.iter().for_each(|line| text.push_str(line));
            }
        }
        text
    }
}

/// The name and labels of one outcome of a table.
pub(super) fn outcome_key(table: &str, outcome: Outcome) -> String {
    format!("{OUTCOME}{{table=\"{}\",outcome=\"{}\"}}", label(table), name(outcome))
}

/// The name and label of a table's metric.
pub(super) fn key(name: &str, table: &str) -> String {
    format!("{name}{{table=\"{}\"}}", label(table))
}

fn line(name: &str, table: &str, value: impl Display) -> String {
    format!("{} {value}\n", key(name, table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let mut metrics = Metrics { last_round_ms: Some(1_800_000_000_500), ..Metrics::default() };
        let table = TableMetrics {
            outcome: Some(Outcome::Mismatch),
            findings: BTreeMap::from([("modified", 2)]),
            totals: Totals { runs: 3, ..Totals::default() },
            digest: Some("ab".to_owned()),
            ..TableMetrics::default()
        };
        metrics.tables.insert("a\"b\\c".to_owned(), table);
        let text = metrics.to_text();
        for line in [
            "lakeseal_watch_last_round_timestamp_seconds 1800000000.500",
            "lakeseal_audit_outcome{table=\"a\\\"b\\\\c\",outcome=\"mismatch\"} 1",
            "lakeseal_audit_outcome{table=\"a\\\"b\\\\c\",outcome=\"intact\"} 0",
            "lakeseal_audit_findings{table=\"a\\\"b\\\\c\",verdict=\"modified\"} 2",
            "lakeseal_audit_runs_total{table=\"a\\\"b\\\\c\"} 3",
            "# lakeseal-findings{table=\"a\\\"b\\\\c\"} ab",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert_eq!(text.matches("# TYPE lakeseal_audit_runs_total counter").count(), 1);
        assert!(!text.contains("lakeseal_table_version"), "what is not known is left out");
    }
}
