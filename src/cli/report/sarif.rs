//! SARIF 2.1.0: one result a finding, the gravest first, so that code-hosting systems show them; no more of them than these take.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};

use crate::baseline::{AuditReport, Finding, Outcome, Verdict};
use crate::cli::urls;
use crate::printable::one_line;

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";
/// Results of a run. Code-hosting systems show so many, and refuse a file with five times as many.
const RESULTS_LIMIT: usize = 5_000;
/// All results together, in bytes of compact JSON. Code-hosting systems refuse a file of more than 10 MB, compressed.
const RESULTS_LIMIT_BYTES: usize = 6 << 20;
/// The report beside them, likewise: its findings are left away where it is longer.
const REPORT_LIMIT_BYTES: usize = 2 << 20;
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

/// The findings of `report` about the table that is called `table`: less than 10 MB of JSON, white space aside.
pub(super) fn render(report: &AuditReport, table: &str) -> Value {
    let verdicts: BTreeSet<Verdict> = report.findings.iter().map(|finding| finding.verdict).collect();
    let rules: Vec<Value> = verdicts.iter().map(|verdict| rule(*verdict)).collect();
    let shown = if table.contains("://") { urls::without_secrets(table) } else { table.to_owned() };
    let (named, base) = (plain(&shown), base(&shown, &report.table));
    let Shown { results, left_out } = gravest(&report.findings, named, &base);
    let mut run = json!({
        "tool": {"driver": {"name": "Lakeseal", "version": env!("CARGO_PKG_VERSION"), "semanticVersion": env!("CARGO_PKG_VERSION"), "rules": rules}},
        "automationDetails": {"id": format!("lakeseal/audit/{}", path(named))},
        "columnKind": "unicodeCodePoints",
        "properties": {"report": properties(report, left_out.values().sum())},
        "results": results,
    });
    if let (false, Some(members)) = (left_out.is_empty(), run.as_object_mut()) {
        members.insert(
            "invocations".to_owned(),
            json!([{"executionSuccessful": true, "toolExecutionNotifications": [notification(&left_out)]}]),
        );
    }
    json!({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})
}

/// The results that there is room for.
struct Shown {
    results: Vec<Value>,
    /// How many findings are not among them.
    left_out: BTreeMap<Verdict, usize>,
}

fn gravest(findings: &[Finding], table: &str, base: &str) -> Shown {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| Reverse(finding.verdict.outcome()));
    let (mut seen, mut bytes) = (BTreeMap::new(), 0_usize);
    let mut shown = Shown { results: Vec::new(), left_out: BTreeMap::new() };
    for finding in sorted {
        if shown.results.len() < RESULTS_LIMIT {
            let result = result(finding, table, base, &mut seen);
            let larger = bytes.saturating_add(result.to_string().len());
            // A long one must not keep out those that come after it.
            if larger <= RESULTS_LIMIT_BYTES {
                bytes = larger;
                shown.results.push(result);
                continue;
            }
        }
        *shown.left_out.entry(finding.verdict).or_default() += 1;
    }
    shown
}

/// The report beside its results; with all of its findings only where they are among the results, and do not make the file a large one.
fn properties(report: &AuditReport, left_out: usize) -> Value {
    let mut json = report.to_json();
    let is_whole = left_out == 0 && json.to_string().len() <= REPORT_LIMIT_BYTES;
    if let (false, Some(members)) = (is_whole, json.as_object_mut()) {
        members.shift_remove("findings");
        members.insert("findings_left_out".to_owned(), Value::from(report.findings.len()));
    }
    json
}

/// Tells whoever looks at the run that there is more.
fn notification(left_out: &BTreeMap<Verdict, usize>) -> Value {
    let kinds: Vec<String> = left_out.iter().map(|(verdict, count)| format!("{count} {}", verdict.name())).collect();
    let text = format!(
        "{} more findings are not among these results, which have the gravest and no more than code-hosting systems take: {}. `lakeseal audit TABLE \
         --json` prints all of them.",
        left_out.values().sum::<usize>(),
        kinds.join(", ")
    );
    json!({
        "level": "warning",
        "descriptor": {"id": "findings-left-out"},
        "message": {"text": text},
        "properties": {"findings_left_out": left_out.iter().map(|(verdict, count)| (verdict.name(), *count)).collect::<BTreeMap<_, _>>()},
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
        run(table, url, findings)["results"].as_array().unwrap().clone()
    }

    fn run(table: &str, url: &str, findings: Vec<Finding>) -> Value {
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
        render(&report, table)["runs"][0].clone()
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

    #[test]
    fn more_than_is_taken_leaves_out_the_least_grave_and_says_so() {
        let unsealed = |i: u64| Finding::new(Verdict::Unsealed, "x").commit(i);
        // Verdicts sort otherwise than by how grave they are.
        let unknown = |i: u64| Finding::new(Verdict::Undetermined, "x").file(format!("u{i}"));
        let all = (0..6_000).map(unsealed).chain((0..10).map(unknown)).chain([modified().file("a")]);
        let few = run("t", "memory:///t", vec![modified(), unsealed(1)]);
        assert_eq!((few.get("invocations"), few["properties"]["report"]["findings"].as_array().unwrap().len()), (None, 2));

        let many = run("t", "memory:///t", all.collect());
        let levels: Vec<&str> = many["results"].as_array().unwrap().iter().map(|result| result["level"].as_str().unwrap()).collect();
        assert_eq!((levels.len(), levels[0], levels[10], levels[11]), (RESULTS_LIMIT, "error", "warning", "note"));
        let told = &many["invocations"][0]["toolExecutionNotifications"][0];
        let text = told["message"]["text"].as_str().unwrap();
        assert!(text.starts_with("1011 more findings") && text.contains("1011 unsealed") && text.contains("--json"), "{text}");
        assert_eq!(told["properties"]["findings_left_out"], json!({"unsealed": 1011}));
        let report = &many["properties"]["report"];
        assert_eq!(
            (report.get("findings"), &report["findings_left_out"], &report["summary"]["unsealed"]),
            (None, &6011.into(), &6000.into())
        );
    }

    #[test]
    fn long_findings_keep_the_file_small_and_do_not_keep_others_out() {
        let long = (0..20).map(|i| Finding::new(Verdict::Forged, format!("{i}{}", "\u{1}".repeat(200_000))));
        let run = run("t", "memory:///t", long.chain([modified().file("short")]).collect());
        assert!(run.to_string().len() < 10_000_000, "{}", run.to_string().len());
        let results = run["results"].as_array().unwrap();
        assert!(results.iter().any(|result| result["ruleId"] == "modified"));
        let left_out = &run["invocations"][0]["toolExecutionNotifications"][0]["properties"]["findings_left_out"]["forged"];
        assert_eq!(left_out.as_u64().unwrap() + results.len() as u64, 21);
    }
}
