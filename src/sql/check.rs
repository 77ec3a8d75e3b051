//! From findings to the error that a scan fails with.

use std::cmp::Reverse;

use crate::baseline::{Finding, Outcome};
use crate::error::{Error, ErrorKind, Result};

/// Fails when findings contradict the baseline, or leave it open whether they do. The error names the first place.
pub(super) fn enforce(table: &str, baseline: u64, findings: &[Finding]) -> Result<()> {
    let with = |outcome: Outcome| findings.iter().filter(move |finding| finding.verdict.outcome() == outcome);
    let mismatches = with(Outcome::Mismatch).count();
    // The most exact place says most.
    let exactness = |f: &&Finding| u8::from(f.row_group.is_some()) + u8::from(f.column.is_some() && f.row_group.is_some());
    let exact = with(Outcome::Mismatch).filter(|f| exactness(f) > 0).min_by_key(|f| Reverse(exactness(f)));
    let Some(first) = exact.or_else(|| with(Outcome::Mismatch).next()).or_else(|| with(Outcome::Undetermined).next()) else {
        return Ok(());
    };
    // Seals that were taken away leave no baseline to name.
    let sealed = if baseline == 0 { "was sealed".to_owned() } else { format!("baseline {baseline} sealed") };
    let (kind, what) = if mismatches > 0 {
        (ErrorKind::Mismatch, format!("the table is not what {sealed}: {}: {}", first.verdict, first.detail))
    } else {
        (ErrorKind::Unavailable, format!("the table could not be held against baseline {baseline}: {}", first.detail))
    };
    let mut error = Error::new(kind, what).with("table", table);
    if let Some(file) = &first.file {
        error = error.with("file", file);
    }
    if let Some(row_group) = first.row_group {
        error = error.with("row group", row_group);
    }
    if let Some(column) = &first.column {
        error = error.with("column", column);
    }
    if let Some(commit) = first.commit {
        error = error.with("commit", commit);
    }
    if mismatches > 1 {
        error = error.with("further differences", mismatches - 1);
    }
    Err(error)
}
