//! What a metrics file tells: of the tables that were watched before, and of whether the watch runs.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::metrics::{ERRORS, FAILURES, FINDINGS, INTACT, OUTCOMES, ROUND, RUNS, Totals, UNTOLD, key, outcome_key};
use crate::baseline::Outcome;
use crate::cli::Ending;
use crate::cli::output::{GOOD, NOTE, Output, styled};
use crate::error::{Error, ErrorKind, Result};

/// A metrics file is never larger, in bytes.
const FILE_LIMIT_BYTES: u64 = 16 << 20;

/// What a metrics file tells of a table that was watched before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) outcome: Option<Outcome>,
    /// When a round that read all data last found nothing.
    pub(super) intact_ms: Option<i64>,
    /// Whether the webhook had not taken something.
    pub(super) is_untold: bool,
    /// Of the findings; absent from files of earlier versions.
    pub(super) digest: Option<String>,
    pub(super) totals: Totals,
}

/// The text of a metrics file, if there is one of a size that can be. One that is damaged tells nothing.
pub(super) fn read_back(file: &Path) -> Option<String> {
    read(file).ok().flatten()
}

/// The text of a file; `None` when it is no file, or too large. A pipe or a device has no size and may have no end.
fn read(file: &Path) -> std::io::Result<Option<String>> {
    if !std::fs::metadata(file)?.is_file() {
        return Ok(None);
    }
    let mut text = String::new();
    let read = File::open(file)?.take(FILE_LIMIT_BYTES + 1).read_to_string(&mut text)?;
    Ok(Some(text).filter(|_| read as u64 <= FILE_LIMIT_BYTES))
}

/// What `text`, as [`super::metrics::Metrics::to_text`] writes it, says of a table.
pub(super) fn known_of(table: &str, text: &str) -> Known {
    let value = |key: String| text.lines().find_map(|line| line.strip_prefix(&key)?.trim().parse::<f64>().ok());
    let count = |name| text.lines().find_map(|line| line.strip_prefix(&key(name, table))?.trim().parse::<u64>().ok()).unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970, and out of a file that may say anything: it saturates")]
    let ms = |seconds: f64| (seconds * 1000.0) as i64;
    Known {
        outcome: OUTCOMES.into_iter().find(|outcome| value(outcome_key(table, *outcome)) == Some(1.0)),
        intact_ms: value(key(INTACT, table)).map(ms),
        is_untold: value(key(UNTOLD, table)).is_some_and(|untold| untold > 0.0),
        digest: text.lines().find_map(|line| Some(line.strip_prefix(&key(FINDINGS, table))?.trim().to_owned())),
        totals: Totals { runs: count(RUNS), errors: count(ERRORS), webhook_failures: count(FAILURES) },
    }
}

/// Whether the last round that `file` tells of is recent.
pub(super) fn check(file: &Path, max_age_seconds: u64, now_ms: i64, out: &mut Output) -> Result<Ending> {
    let failed = |e: std::io::Error| {
        let kind = if e.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
        Error::new(kind, "there are no metrics: the watch has not run, or writes them elsewhere").with("file", file.display()).caused_by(e)
    };
    let wrong = || Error::new(ErrorKind::InvalidInput, "it is no file, or too large for metrics").with("file", file.display());
    let text = read(file).map_err(failed)?.ok_or_else(wrong)?;
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
    use crate::cli::watch::metrics::{Metrics, TableMetrics, Taken};

    #[test]
    fn a_damaged_metrics_file_tells_nothing_and_stops_nothing() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("lakeseal.prom");
        assert_eq!(read_back(&file), None);
        std::fs::write(&file, b"lakeseal_audit_runs_total{table=\"a\"} 7\n\xff").unwrap();
        assert_eq!(read_back(&file), None);
        File::create(&file).unwrap().set_len(FILE_LIMIT_BYTES + 1).unwrap();
        assert_eq!(read_back(&file), None);
        assert_eq!(read_back(Path::new("/dev/zero")), None);
        let mut text = String::new();
        for (name, value) in [(RUNS, "18446744073709551615"), (INTACT, "1e300"), (UNTOLD, "NaN"), (ERRORS, "-1")] {
            text += &format!("{} {value}\n", key(name, "a"));
        }
        let known = known_of("a", &text);
        assert_eq!((known.totals.runs, known.totals.errors, known.intact_ms, known.is_untold), (u64::MAX, 0, Some(i64::MAX), false));
        let mut table = TableMetrics::resumed(known.totals);
        let depth = crate::cli::watch::round::Depth::Log;
        table.take(&Taken { outcome: Outcome::Intact, report: None, seconds: 0.0, now_ms: 0, depth, detection_ms: None });
        assert_eq!(table.totals.runs, u64::MAX);
    }

    #[test]
    fn a_watch_that_begins_anew_knows_what_the_last_one_found() {
        let table = |outcome, untold, digest: &str| TableMetrics {
            outcome: Some(outcome),
            last_intact_ms: Some(1_800_000_000_500),
            untold,
            digest: Some(digest.to_owned()),
            totals: Totals { runs: 7, errors: 2, webhook_failures: 1 },
            ..TableMetrics::default()
        };
        let tables = [("a", table(Outcome::Mismatch, 0, "00ff")), ("a\"b", table(Outcome::Intact, 2, "0e"))]
            .map(|(name, table)| (name.to_owned(), table));
        let text = Metrics { last_round_ms: Some(1), tables: tables.into() }.to_text();
        let known = |outcome, is_untold, digest: &str| Known {
            outcome: Some(outcome),
            intact_ms: Some(1_800_000_000_500),
            is_untold,
            digest: Some(digest.to_owned()),
            totals: Totals { runs: 7, errors: 2, webhook_failures: 1 },
        };
        assert_eq!(known_of("a", &text), known(Outcome::Mismatch, false, "00ff"));
        assert_eq!(known_of("a\"b", &text), known(Outcome::Intact, true, "0e"));
        assert_eq!(known_of("b", &text), Known::default());
        let earlier: String = text.lines().filter(|line| !line.starts_with(FINDINGS)).map(|line| format!("{line}\n")).collect();
        assert_eq!(known_of("a", &earlier), Known { digest: None, ..known(Outcome::Mismatch, false, "") });
    }
}
