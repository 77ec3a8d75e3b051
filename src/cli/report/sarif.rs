//! SARIF 2.1.0: one result a finding, so that code-hosting systems show them.

use std::collections::BTreeSet;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};

use crate::baseline::{AuditReport, Finding, Outcome, Verdict};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";
/// What may not stand in the path of a URI.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}')
    .add(b':');

/// The findings of `report` about the table that is called `table`.
pub(super) fn render(report: &AuditReport, table: &str) -> Value {
    let verdicts: BTreeSet<Verdict> = report.findings.iter().map(|finding| finding.verdict).collect();
    let rules: Vec<Value> = verdicts.iter().map(|verdict| rule(*verdict)).collect();
    let results: Vec<Value> = report.findings.iter().map(|finding| result(finding, table)).collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "Lakeseal", "version": env!("CARGO_PKG_VERSION"), "semanticVersion": env!("CARGO_PKG_VERSION"), "rules": rules}},
            "automationDetails": {"id": format!("lakeseal/audit/{}", uri(table))},
            "columnKind": "unicodeCodePoints",
            "properties": {"report": report.to_json()},
            "results": results,
        }],
    })
}

const fn level(verdict: Verdict) -> &'static str {
    match verdict.outcome() {
        Outcome::Mismatch => "error",
        Outcome::Undetermined => "warning",
        Outcome::IntactWithUnsealed => "note",
        Outcome::Intact => "none",
    }
}

fn rule(verdict: Verdict) -> Value {
    json!({
        "id": verdict.name(),
        "name": verdict.name(),
        "shortDescription": {"text": meaning(verdict)},
        "defaultConfiguration": {"level": level(verdict)},
    })
}

/// What a verdict means, in a sentence.
pub(super) fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Forged => "The log, its statistics or a file's metadata say something else than what was sealed.",
        Verdict::Modified => "Data differs from what was sealed.",
        Verdict::Missing => "Something sealed is gone, and no commit removed it.",
        Verdict::Foreign => "A file does not belong to the table, or not to the place where it lies.",
        Verdict::Resurrected => "A file that had been removed is live again.",
        Verdict::RolledBack => "The table stands at an older version than the sealed one.",
        Verdict::Expired => "The baseline's term is over.",
        Verdict::Untrusted => "No trusted key signed a baseline for this table at this place.",
        Verdict::Unexpected => "A row that changed after the baseline breaks an expectation that is signed with it.",
        Verdict::Purged => "Sealed data was erased on record.",
        Verdict::Undetermined => "It could not be found out.",
        Verdict::Unattested => "A later commit has no attestation of an authorised writer.",
        Verdict::Unsealed => "A later commit or file is not covered by a baseline yet.",
        Verdict::Rewritten => "A later commit stored the same rows anew.",
        Verdict::Intact => "Exactly as sealed.",
    }
}

fn uri(path: &str) -> String {
    utf8_percent_encode(path, ESCAPED).to_string()
}

fn result(finding: &Finding, table: &str) -> Value {
    let base = table.trim_end_matches('/').trim_start_matches("./");
    let base = base.split_once("://").map_or(base, |(_, rest)| rest).trim_start_matches('/');
    let commit = finding.commit.map(|version| format!("_delta_log/{version:020}.json"));
    let path = match finding.file.as_ref().or(commit.as_ref()) {
        Some(file) => format!("{base}/{file}"),
        None => base.to_owned(),
    };
    let mut places = Vec::new();
    if let Some(group) = finding.row_group {
        places.push(json!({"name": format!("row group {group}"), "kind": "element"}));
    }
    if let Some(column) = &finding.column {
        places.push(json!({"name": column, "kind": "member", "fullyQualifiedName": format!("{table}.{column}")}));
    }
    let mut location = json!({
        "physicalLocation": {"artifactLocation": {"uri": uri(&path)}, "region": {"startLine": 1}},
    });
    if let (false, Some(location)) = (places.is_empty(), location.as_object_mut()) {
        location.insert("logicalLocations".to_owned(), Value::from(places));
    }
    let identity = [
        finding.verdict.name().to_owned(),
        finding.file.clone().unwrap_or_default(),
        finding.row_group.map_or_else(String::new, |group| group.to_string()),
        finding.column.clone().unwrap_or_default(),
        finding.commit.map_or_else(String::new, |commit| commit.to_string()),
    ];
    json!({
        "ruleId": finding.verdict.name(),
        "level": level(finding.verdict),
        "message": {"text": format!("{}: {}", finding.verdict.name(), finding.detail)},
        "locations": [location],
        "partialFingerprints": {"lakesealFinding/v1": blake3::hash(identity.join("\n").as_bytes()).to_hex().to_string()},
    })
}
