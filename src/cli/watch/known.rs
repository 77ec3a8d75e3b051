//! What a metrics file tells: of the tables that were watched before, and of whether the watch runs.

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

/// The text of a metrics file, if there is one of a size that can be.
pub(super) fn read_back(file: &Path) -> Option<String> {
    let size = std::fs::metadata(file).ok()?.len();
    std::fs::read_to_string(file).ok().filter(|_| size <= FILE_LIMIT_BYTES)
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
    use crate::cli::watch::metrics::{Metrics, TableMetrics};

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
