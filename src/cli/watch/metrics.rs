//! Metrics in Prometheus' text format: as a file, and on a port of this machine.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::baseline::Outcome;
use crate::cli::Ending;
use crate::cli::output::{GOOD, NOTE, Output, styled};
use crate::error::{Error, ErrorKind, Result};

const ROUND: &str = "lakeseal_watch_last_round_timestamp_seconds";
/// A request's head is never longer, in bytes.
const REQUEST_LIMIT_BYTES: usize = 8 * 1024;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// A metrics file is never larger, in bytes.
const FILE_LIMIT_BYTES: u64 = 16 << 20;

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
    pub(super) runs: u64,
    pub(super) errors: u64,
    pub(super) seconds: f64,
    pub(super) last_run_ms: Option<i64>,
    pub(super) last_full_ms: Option<i64>,
    pub(super) detection_ms: Option<i64>,
    pub(super) last_intact_ms: Option<i64>,
    pub(super) webhook_failures: u64,
    pub(super) untold: usize,
}

/// What a metrics file tells of a table that was watched before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) outcome: Option<Outcome>,
    /// When a round that read all data last found nothing.
    pub(super) intact_ms: Option<i64>,
    /// Whether the webhook had not taken something.
    pub(super) is_untold: bool,
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
const INTACT: &str = "lakeseal_audit_last_intact_timestamp_seconds";
const UNTOLD: &str = "lakeseal_webhook_untold";
const OUTCOMES: [Outcome; 4] = [Outcome::Intact, Outcome::IntactWithUnsealed, Outcome::Undetermined, Outcome::Mismatch];

const FAMILIES: [Family; 12] = [
    ("lakeseal_audit_runs_total", "counter", "Audits of the table.", |t| Some(t.runs.to_string())),
    ("lakeseal_audit_errors_total", "counter", "Audits that could not be done.", |t| Some(t.errors.to_string())),
    ("lakeseal_audit_duration_seconds", "gauge", "How long the last audit took.", |t| Some(t.seconds.to_string())),
    ("lakeseal_audit_last_run_timestamp_seconds", "gauge", "When the last audit began.", |t| t.last_run_ms.map(seconds)),
    ("lakeseal_audit_last_full_timestamp_seconds", "gauge", "When all data was read last.", |t| t.last_full_ms.map(seconds)),
    (INTACT, "gauge", "When all data was read last and nothing was found.", |t| t.last_intact_ms.map(seconds)),
    ("lakeseal_webhook_failures_total", "counter", "Rounds in which the webhook did not take what there was to tell.", |t| {
        Some(t.webhook_failures.to_string())
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

fn outcome_key(table: &str, outcome: Outcome) -> String {
    format!("{OUTCOME}{{table=\"{}\",outcome=\"{}\"}}", label(table), name(outcome))
}

fn key(name: &str, table: &str) -> String {
    format!("{name}{{table=\"{}\"}}", label(table))
}

fn line(name: &str, table: &str, value: impl Display) -> String {
    format!("{} {value}\n", key(name, table))
}

/// The text of a metrics file, if there is one of a size that can be.
pub(super) fn read_back(file: &Path) -> Option<String> {
    let size = std::fs::metadata(file).ok()?.len();
    std::fs::read_to_string(file).ok().filter(|_| size <= FILE_LIMIT_BYTES)
}

/// What `text`, as [`Metrics::to_text`] writes it, says of a table.
pub(super) fn known_of(table: &str, text: &str) -> Known {
    let value = |key: String| text.lines().find_map(|line| line.strip_prefix(&key)?.trim().parse::<f64>().ok());
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970, and out of a file that may say anything: it saturates")]
    let ms = |seconds: f64| (seconds * 1000.0) as i64;
    Known {
        outcome: OUTCOMES.into_iter().find(|outcome| value(outcome_key(table, *outcome)) == Some(1.0)),
        intact_ms: value(key(INTACT, table)).map(ms),
        is_untold: value(key(UNTOLD, table)).is_some_and(|untold| untold > 0.0),
    }
}

/// Serves the metrics on `address` until the process ends. Only this machine's own addresses are taken.
pub(super) async fn serve(address: SocketAddr, metrics: Arc<Mutex<Metrics>>) -> Result<SocketAddr> {
    if !address.ip().is_loopback() {
        let what = "metrics are served to this machine only; let a proxy of yours carry them further, or write them with --metrics FILE";
        return Err(Error::new(ErrorKind::Config, what).with("address", address));
    }
    let failed = |e| Error::new(ErrorKind::Io, "metrics cannot be served there").with("address", address).caused_by(e);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let metrics = metrics.clone();
            tokio::spawn(async move {
                // Whoever goes away, or says nothing, gets nothing.
                let _ = timeout(REQUEST_TIMEOUT, answer(stream, &metrics)).await;
            });
        }
    });
    Ok(bound)
}

async fn answer(mut stream: TcpStream, metrics: &Mutex<Metrics>) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).await?;
        if read == 0 || request.len() + read > REQUEST_LIMIT_BYTES {
            return Ok(());
        }
        request.extend_from_slice(buffer.get(..read).unwrap_or_default());
    }
    let (status, body) = match request.split(|byte| *byte == b' ').collect::<Vec<_>>().as_slice() {
        [b"GET", b"/metrics", ..] => ("200 OK", metrics.lock().to_text()),
        [b"GET", ..] => ("404 Not Found", "see /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", String::new()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// Whether the last round that `file` tells of is recent.
pub(super) fn check(file: &Path, max_age_seconds: u64, now_ms: i64, out: &mut Output) -> Result<Ending> {
    let failed = |e: std::io::Error| {
        let kind = if e.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
        Error::new(kind, "there are no metrics: the watch has not run, or writes them elsewhere").with("file", file.display()).caused_by(e)
    };
    let size = std::fs::metadata(file).map_err(failed)?.len();
    if size > FILE_LIMIT_BYTES {
        return Err(Error::new(ErrorKind::InvalidInput, "the metrics file is too large").with("file", file.display()).with("bytes", size));
    }
    let text = std::fs::read_to_string(file).map_err(failed)?;
    let last = text.lines().find_map(|line| line.strip_prefix(ROUND)?.trim().parse::<f64>().ok());
    let last =
        last.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the file tells of no round of a watch").with("file", file.display()))?;
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^53")]
    let age = now_ms as f64 / 1000.0 - last;
    #[expect(clippy::cast_precision_loss, reason = "an age in seconds")]
    let limit = max_age_seconds as f64;
    if (0.0..=limit).contains(&age) {
        out.line(format_args!("the watch ran {age:.0} s ago: {}", styled(GOOD, "recent")))?;
        return Ok(Ending::Done);
    }
    let what = if age < 0.0 { "in the future".to_owned() } else { format!("{age:.0} s ago") };
    out.line(format_args!("the last round was {what}: {}", styled(NOTE, "the watch does not run")))?;
    Ok(Ending::Undetermined)
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
            runs: 3,
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
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert_eq!(text.matches("# TYPE lakeseal_audit_runs_total counter").count(), 1);
        assert!(!text.contains("lakeseal_table_version"), "what is not known is left out");
    }

    #[test]
    fn a_watch_that_begins_anew_knows_what_the_last_one_found() {
        let table = |outcome, untold| TableMetrics {
            outcome: Some(outcome),
            last_intact_ms: Some(1_800_000_000_500),
            untold,
            ..TableMetrics::default()
        };
        let tables =
            [("a", table(Outcome::Mismatch, 0)), ("a\"b", table(Outcome::Intact, 2))].map(|(name, table)| (name.to_owned(), table));
        let text = Metrics { last_round_ms: Some(1), tables: tables.into() }.to_text();
        let known = |outcome, is_untold| Known { outcome: Some(outcome), intact_ms: Some(1_800_000_000_500), is_untold };
        assert_eq!(known_of("a", &text), known(Outcome::Mismatch, false));
        assert_eq!(known_of("a\"b", &text), known(Outcome::Intact, true));
        assert_eq!(known_of("b", &text), Known::default());
    }

    #[tokio::test]
    async fn metrics_are_served_to_this_machine_only() {
        let metrics = Arc::new(Mutex::new(Metrics::default()));
        assert!(serve("0.0.0.0:0".parse().unwrap(), metrics.clone()).await.is_err());
        let address = serve("127.0.0.1:0".parse().unwrap(), metrics).await.unwrap();
        for (path, status) in [("/metrics", "200"), ("/other", "404")] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        }
    }
}
