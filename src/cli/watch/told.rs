//! What the webhook is told: short enough to be taken, and only what is news.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::metrics;
use crate::baseline::{AuditReport, Finding, Outcome};

/// Findings that a report has; the gravest come first.
const FINDINGS_LIMIT: usize = 100;
/// All findings of a report are never longer together, in bytes: whoever makes many, or writes long names, must not make it one that is refused.
const FINDINGS_LIMIT_BYTES: usize = 96 * 1024;
/// Characters of a finding's texts.
const TEXT_CHARS: usize = 500;

/// What the webhook did not take yet.
pub(super) struct Untold {
    pub(super) body: Value,
    /// Whether the other side would not have it. What it says, names that others chose among it, may be why.
    pub(super) refused: bool,
}

/// One thing to tell.
pub(super) struct News<'a> {
    pub(super) table: &'a str,
    pub(super) now_ms: i64,
    pub(super) outcome: Outcome,
    pub(super) before: Option<Outcome>,
    /// Absent when the audit could not be done.
    pub(super) report: Option<&'a AuditReport>,
    pub(super) detection_ms: Option<i64>,
}

impl News<'_> {
    /// The body of the POST; it stays below 128 KiB.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "table": self.table,
            "time_ms": self.now_ms,
            "outcome": metrics::name(self.outcome),
            "before": self.before.map(metrics::name),
            "detection_seconds": self.detection_ms.map(|ms| ms / 1000),
            "report": self.report.map(shortened),
        })
    }
}

/// `body` for those who do not take its report.
pub(super) fn without_report(body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(members) = body.as_object_mut() {
        members.shift_remove("report");
    }
    body
}

/// The report as an audit prints it, with the first findings, and how many more there are.
fn shortened(report: &AuditReport) -> Value {
    let mut shown = Vec::new();
    let mut bytes = 0;
    for finding in report.findings.iter().take(FINDINGS_LIMIT) {
        let json = brief(finding);
        bytes += json.to_string().len();
        if bytes > FINDINGS_LIMIT_BYTES {
            break;
        }
        shown.push(json);
    }
    let left_out = report.findings.len() - shown.len();
    let head = AuditReport {
        table: report.table.clone(),
        trust: report.trust,
        baseline: report.baseline.clone(),
        version: report.version,
        summary: report.summary.clone(),
        findings: Vec::new(),
        notes: Vec::new(),
        log: None,
    };
    let mut head = head.to_json();
    if let Some(members) = head.as_object_mut() {
        members.insert("findings".to_owned(), Value::from(shown));
        members.insert("findings_left_out".to_owned(), Value::from(left_out));
    }
    head
}

fn brief(finding: &Finding) -> Value {
    let mut finding = finding.clone();
    finding.file = finding.file.map(cut);
    finding.column = finding.column.map(cut);
    finding.detail = cut(finding.detail);
    finding.to_json()
}

fn cut(text: String) -> String {
    match text.char_indices().nth(TEXT_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// What tells one set of findings from another: verdicts, places, and what contradicts the baseline. Why something could not be determined, and
/// how many rows of a commit were counted, differs between rounds over the same table, and is no news.
pub(super) fn digest(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let mut json = finding.to_json();
        if let Some(members) = json.as_object_mut() {
            members.retain(|name, _| match name.as_str() {
                "rows_removed" | "rows_added" => false,
                "detail" => finding.verdict.is_mismatch(),
                _ => true,
            });
        }
        json.to_string()
    };
    let mut hasher = blake3::Hasher::new();
    for line in findings.iter().map(line).collect::<BTreeSet<_>>() {
        // JSON has no line feeds.
        hasher.update(line.as_bytes()).update(b"\n");
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::baseline::{TrustLevel, Verdict};

    fn report(findings: Vec<Finding>) -> AuditReport {
        let mut report = AuditReport {
            table: "memory:///t".into(),
            trust: TrustLevel::SelfMade,
            baseline: None,
            version: Some(3),
            summary: BTreeMap::new(),
            findings,
            notes: Vec::new(),
            log: None,
        };
        report.complete(1);
        report
    }

    fn told(report: &AuditReport) -> Value {
        let news =
            News { table: "t", now_ms: 1, outcome: Outcome::Mismatch, before: None, report: Some(report), detection_ms: Some(2_500) };
        news.to_json()
    }

    #[test]
    fn many_findings_and_long_ones_make_no_long_report() {
        let finding = |i: usize, text: &str| Finding::new(Verdict::Forged, text).file(format!("{i:05}-{text}")).column(text);
        for (text, at_least) in [("short", 100), (&*"é".repeat(2_000), 24), (&*"\u{1}".repeat(2_000), 5)] {
            let report = report((0..500).map(|i| finding(i, text)).collect());
            let body = told(&report);
            assert!(body.to_string().len() < 128 * 1024, "{}", body.to_string().len());
            let findings = body["report"]["findings"].as_array().unwrap();
            assert!(findings.len() <= 100 && findings.len() >= at_least, "{}", findings.len());
            assert_eq!(body["report"]["findings_left_out"], 500 - findings.len());
            assert_eq!((&body["report"]["summary"]["forged"], &body["detection_seconds"]), (&500.into(), &2.into()));
            assert!(findings[0]["file"].as_str().unwrap().starts_with("00000-"), "the first are shown");
        }
        let few = report(vec![finding(0, "short")]);
        let mut whole = few.to_json();
        whole["findings_left_out"] = 0.into();
        assert_eq!(told(&few)["report"], whole, "a short one is the audit's own");
        assert_eq!(without_report(&told(&few)).get("report"), None);
        assert_eq!(without_report(&told(&few))["outcome"], "mismatch");
    }

    #[test]
    fn as_many_findings_elsewhere_are_others() {
        let modified = |file: &str, detail: &str| Finding::new(Verdict::Modified, detail).file(file);
        let first = digest(&[modified("a", "x"), modified("b", "x")]);
        assert_eq!(first, digest(&[modified("b", "x"), modified("a", "x")]));
        for others in [[modified("a", "x"), modified("c", "x")], [modified("a", "x"), modified("b", "y")]] {
            assert_ne!(first, digest(&others));
        }
        // What could not be read is the same news, however it failed, and another where something else could not.
        let unknown = |file: &str, detail: &str| Finding::new(Verdict::Undetermined, detail).file(file);
        assert_eq!(digest(&[unknown("a", "timed out")]), digest(&[unknown("a", "refused")]));
        assert_ne!(digest(&[unknown("a", "timed out")]), digest(&[unknown("b", "timed out")]));
        let unsealed = |rows| Finding::new(Verdict::Unsealed, "x").commit(4).rows(0, rows);
        assert_eq!(digest(&[unsealed(1)]), digest(&[unsealed(2)]));
    }
}
