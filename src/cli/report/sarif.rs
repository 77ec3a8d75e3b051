//! SARIF 2.1.0: one result a finding, so that code-hosting systems show them.

use std::collections::{BTreeMap, BTreeSet};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};

use crate::baseline::{AuditReport, Finding, Outcome, Verdict};
use crate::cli::urls;
use crate::printable::one_line;

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";
/// What may not stand in a segment of a URI's path.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
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
    let shown = if table.contains("://") { urls::without_secrets(table) } else { table.to_owned() };
    let (named, base) = (plain(&shown), base(&shown, &report.table));
    let mut seen = BTreeMap::new();
    let results = report.findings.iter().map(|finding| result(finding, named, &base, &mut seen)).collect::<Vec<Value>>();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "Lakeseal", "version": env!("CARGO_PKG_VERSION"), "semanticVersion": env!("CARGO_PKG_VERSION"), "rules": rules}},
            "automationDetails": {"id": format!("lakeseal/audit/{}", path(named))},
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

/// A table's name without what a user may as well leave away.
fn plain(table: &str) -> &str {
    table.trim_end_matches('/').trim_start_matches("./")
}

/// The path of a URI. A name that is a step upwards, or none, in a path stays a name: encoded twice, since readers take `%2E%2E` for a step too.
fn path(path: &str) -> String {
    let segment = |segment: &str| match segment {
        "." => "%252E".to_owned(),
        ".." => "%252E%252E".to_owned(),
        segment => utf8_percent_encode(segment, ESCAPED).to_string(),
    };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// Where the files of the table lie: relative to where the audit ran, where that is below it; for other directories of this machine their URL.
/// Code-hosting systems resolve nothing else, so that other URLs are written like paths.
fn base(table: &str, url: &str) -> String {
    let is_elsewhere = table.starts_with(['/', '~']) || table.starts_with("file:") || table.split('/').any(|step| step == "..");
    if is_elsewhere && url.starts_with("file://") {
        // It is a URL already, without the steps that the argument had.
        return url.trim_end_matches('/').to_owned();
    }
    let named = plain(table);
    let named = named.split_once("://").map_or(named, |(_, rest)| rest);
    let steps: Vec<&str> = named.split('/').filter(|step| !matches!(*step, "" | ".")).collect();
    path(&steps.join("/"))
}

/// Text of a message. Readers replace `{0}` and make `[text](place)` a link, in plain text as well (SARIF 2.1.0, 3.11.5 and 3.11.6).
fn message(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        match c {
            '\\' | '[' | ']' => out.extend(['\\', c]),
            '{' | '}' => out.extend([c, c]),
            c => out.push(c),
        }
    }
    out
}

fn result(finding: &Finding, table: &str, base: &str, seen: &mut BTreeMap<Vec<u8>, u64>) -> Value {
    let commit = finding.commit.map(|version| format!("_delta_log/{version:020}.json"));
    let place = finding.file.as_ref().or(commit.as_ref()).map(|file| path(file));
    let uri = [base, place.as_deref().unwrap_or_default()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
    // The table itself, where it is the directory in which the audit ran; and no path from the root there.
    let uri = if uri.is_empty() || uri.starts_with('/') { format!("./{uri}") } else { uri };
    let mut places = Vec::new();
    if let Some(group) = finding.row_group {
        places.push(json!({"name": format!("row group {group}"), "kind": "element"}));
    }
    if let Some(column) = &finding.column {
        let name = one_line(column);
        places.push(json!({"name": name, "kind": "member", "fullyQualifiedName": format!("{}.{name}", one_line(table))}));
    }
    let mut location = json!({
        "physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": 1}},
    });
    if let (false, Some(location)) = (places.is_empty(), location.as_object_mut()) {
        location.insert("logicalLocations".to_owned(), Value::from(places));
    }
    json!({
        "ruleId": finding.verdict.name(),
        "level": level(finding.verdict),
        "message": {"text": format!("{}: {}", finding.verdict.name(), message(&finding.detail))},
        "locations": [location],
        "partialFingerprints": {"lakesealFinding/v2": fingerprint(finding, table, seen)},
    })
}

/// What makes a finding the same one in the next audit: the table, what it is, where, and the how many-th of those there.
fn fingerprint(finding: &Finding, table: &str, seen: &mut BTreeMap<Vec<u8>, u64>) -> String {
    let mut identity = Vec::new();
    let fields = [
        Some(table.to_owned()),
        Some(finding.verdict.name().to_owned()),
        finding.file.clone(),
        finding.row_group.map(|group| group.to_string()),
        finding.column.clone(),
        finding.commit.map(|commit| commit.to_string()),
    ];
    for field in fields {
        identity.push(u8::from(field.is_some()));
        let field = field.unwrap_or_default();
        identity.extend((field.len() as u64).to_le_bytes());
        identity.extend(field.as_bytes());
    }
    let occurrence = seen.entry(identity.clone()).or_default();
    identity.extend(occurrence.to_le_bytes());
    *occurrence += 1;
    blake3::hash(&identity).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::TrustLevel;

    fn rendered(table: &str, url: &str, findings: Vec<Finding>) -> Vec<Value> {
        let mut report = AuditReport {
            table: url.into(),
            trust: TrustLevel::SelfMade,
            baseline: None,
            version: None,
            summary: BTreeMap::new(),
            findings,
            notes: Vec::new(),
            log: None,
        };
        report.complete(0);
        render(&report, table)["runs"][0]["results"].as_array().unwrap().clone()
    }

    fn modified() -> Finding {
        Finding::new(Verdict::Modified, "x")
    }

    #[test]
    fn what_others_wrote_makes_neither_links_nor_placeholders() {
        let hostile = "see [here](https://evil.example) {0} \\[a](b)\u{1b}[2J\n";
        let results = rendered("t", "memory:///t", vec![Finding::new(Verdict::Forged, hostile).column("a\nb\u{202e}")]);
        assert_eq!(results[0]["message"]["text"], "forged: see \\[here\\](https://evil.example) {{0}} \\\\\\[a\\](b)\\\\u001b\\[2J\\\\n");
        let column = &results[0]["locations"][0]["logicalLocations"][0];
        assert_eq!((&column["name"], &column["fullyQualifiedName"]), (&"a\\nb\\u202e".into(), &"t.a\\nb\\u202e".into()));
    }

    #[test]
    fn a_uri_is_the_file_and_no_other() {
        let uri = |table: &str, url: &str, file: &str| {
            let results = rendered(table, url, vec![modified().file(file)]);
            results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str().unwrap().to_owned()
        };
        for (table, url, file, expected) in [
            ("./folder/", "file:///w/folder", "a.parquet", "folder/a.parquet"),
            (".", "file:///w", "a b%20#.parquet", "a%20b%2520%23.parquet"),
            ("./a/./b", "file:///w/a/b", "p=1/x", "a/b/p=1/x"),
            ("/data/my table", "file:///data/my%20table", "x", "file:///data/my%20table/x"),
            ("../other", "file:///other", "x", "file:///other/x"),
            ("~/t", "file:///home/u/t", "x", "file:///home/u/t/x"),
            ("scores", "lakeseal://lake/scores", "../../etc/x", "scores/%252E%252E/%252E%252E/etc/x"),
            ("scores", "lakeseal://lake/scores", "/etc/./x", "scores//etc/%252E/x"),
            ("scores", "lakeseal://lake/scores", "http://h/x", "scores/http%3A//h/x"),
            ("s3://bucket/t", "s3://bucket/t", "x", "bucket/t/x"),
        ] {
            assert_eq!(uri(table, url, file), expected, "{table} {file}");
        }
        assert_eq!(uri(".", "file:///w", "//h/x"), ".///h/x");
        let results = rendered(".", "file:///w", vec![modified()]);
        assert_eq!(results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "./");
    }

    #[test]
    fn every_finding_has_a_fingerprint_of_its_own_and_the_same_in_the_next_audit() {
        let findings = || {
            vec![
                modified().file("a\nb"),
                modified().file("a").column("b"),
                modified().column("a\nb"),
                modified().file("").column("c"),
                modified().column("c"),
                Finding::new(Verdict::Unexpected, "row 1").file("f").row_group(0),
                Finding::new(Verdict::Unexpected, "row 2").file("f").row_group(0),
                Finding::new(Verdict::Unexpected, "row 3").file("f").row_group(0),
            ]
        };
        let prints = |table: &str| -> Vec<Value> {
            rendered(table, "memory:///t", findings())
                .iter()
                .map(|result| result["partialFingerprints"]["lakesealFinding/v2"].clone())
                .collect()
        };
        let of = |table: &str| prints(table).iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        assert_eq!(of("t").len(), findings().len());
        assert_eq!(prints("t"), prints("./t/"));
        assert!(of("t").is_disjoint(&of("u")), "each table has its own");
    }
}
