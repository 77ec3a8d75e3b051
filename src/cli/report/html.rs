//! The page of an audit: one file, without scripts, that loads nothing.

use std::collections::BTreeMap;

use super::page::{escape, page, table, value};
use super::sarif::meaning;
use super::{Answer, Content, charts};
use crate::baseline::{Finding, Outcome, SealedFile, Verdict};
use crate::cli::output;

/// Files that the map shows; those with findings come first.
const MAP_FILES: usize = 400;
/// Row groups that the map shows of a file.
const MAP_GROUPS: usize = 400;
/// Findings that are listed.
const SHOWN_FINDINGS: usize = 1000;
/// Notes that are listed.
const SHOWN_NOTES: usize = 100;
/// Columns whose drift is drawn.
const SHOWN_CHARTS: usize = 12;

pub(super) fn render(content: &Content<'_>) -> String {
    let mut body = summary(content);
    body.push_str(&findings(content));
    body.push_str(&map(content));
    body.push_str(&values(content));
    body.push_str(&drift(content));
    for (title, answer) in &content.lineage {
        body.push_str(&format!("<section><h2>{}</h2>{}</section>", escape(title), plain(answer)));
    }
    body.push_str(&notes(content));
    body.push_str(&chain(content));
    page(&format!("{} · Lakeseal audit", content.name), &body)
}

/// What the values, the drift and the lineage above do not know.
fn notes(content: &Content<'_>) -> String {
    if content.notes.is_empty() {
        return String::new();
    }
    let items: String = content.notes.iter().take(SHOWN_NOTES).map(|note| format!("<li>{}</li>", escape(note))).collect();
    let more = content.notes.len().saturating_sub(SHOWN_NOTES);
    let rest = if more > 0 { format!("<p class=\"dim\">and {more} more</p>") } else { String::new() };
    format!("<section id=\"notes\"><h2>What is not known</h2><ul>{items}</ul>{rest}</section>")
}

/// The class of colours that a verdict has.
const fn class(verdict: Verdict) -> &'static str {
    match verdict.outcome() {
        Outcome::Intact => "good",
        Outcome::IntactWithUnsealed => "note",
        Outcome::Undetermined => "unsure",
        Outcome::Mismatch => "bad",
    }
}

fn tag(verdict: Verdict) -> String {
    format!("<span class=\"tag {}\" title=\"{}\">{}</span>", class(verdict), escape(meaning(verdict)), escape(verdict.name()))
}

fn summary(content: &Content<'_>) -> String {
    let report = content.report;
    let (colour, words) = match report.outcome() {
        Outcome::Intact => ("good", "intact: everything is as it was sealed"),
        Outcome::IntactWithUnsealed => ("note", "intact, with later changes that no baseline covers"),
        Outcome::Undetermined => ("unsure", "could not be determined"),
        Outcome::Mismatch => ("bad", "mismatch: what is there is not what was sealed"),
    };
    let mut facts = vec![("table", escape(&report.table)), ("audited", escape(&output::time(content.now_ms)))];
    match &report.baseline {
        Some(baseline) => {
            facts.push(("baseline", format!("{}, sealed {}", baseline.number, escape(&output::time(baseline.created_ms)))));
            facts.push(("digest", format!("<code>{}</code>", baseline.digest)));
            facts.push((
                "covers",
                format!("{} rows in {}, {}", output::count(baseline.rows), output::files(baseline.files), output::bytes(baseline.bytes)),
            ));
        }
        None => facts.push(("baseline", "none that you trust".to_owned())),
    }
    facts.extend(report.version.map(|version| ("version", version.to_string())));
    facts.push(("trust", escape(report.trust.name())));
    let counts: Vec<String> = report.summary.iter().map(|(verdict, n)| format!("{} {}", output::count(*n), tag(*verdict))).collect();
    facts.push(("found", counts.join(", ")));
    if content.quick {
        facts.push((
            "note",
            "no data was read (--quick): changed bytes of the same length are not seen, and no values are shown".to_owned(),
        ));
    }
    facts.extend(report.notes.iter().map(|note| ("note", escape(note))));
    let facts: String = facts.iter().map(|(name, html)| format!("<dt>{name}</dt><dd>{html}</dd>")).collect();
    format!(
        "<h1>{}</h1><p class=\"dim\">Lakeseal audit</p><div class=\"verdict {colour}\" id=\"verdict\">{words}</div><dl class=\"facts\">{facts}</dl>",
        escape(&content.name)
    )
}

fn findings(content: &Content<'_>) -> String {
    let all = &content.report.findings;
    if all.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .take(SHOWN_FINDINGS)
        .map(|finding| {
            let place = [
                finding.commit.map(|n| format!("commit {n}")),
                finding.file.as_ref().map(|file| format!("<code>{}</code>", escape(file))),
                finding.row_group.map(|n| format!("row group {n}")),
                finding.column.as_ref().map(|column| format!("column <code>{}</code>", escape(column))),
            ];
            let place: Vec<String> = place.into_iter().flatten().collect();
            vec![tag(finding.verdict), place.join("<br>"), escape(&finding.detail)]
        })
        .collect();
    let more = all.len().saturating_sub(rows.len());
    let rest = if more > 0 { format!("<p class=\"dim\">and {more} more</p>") } else { String::new() };
    format!("<section id=\"findings\"><h2>Findings</h2>{}{rest}</section>", table(&["verdict", "where", "what"], &rows))
}

/// The gravest finding of each row group of a file; under `None`, of the file as a whole.
type Worst = BTreeMap<Option<u32>, Verdict>;

fn worst_by_file(findings: &[Finding]) -> BTreeMap<&str, Worst> {
    let mut files: BTreeMap<&str, Worst> = BTreeMap::new();
    for finding in findings {
        let Some(file) = &finding.file else { continue };
        let worst = files.entry(file).or_default().entry(finding.row_group).or_insert(finding.verdict);
        if finding.verdict.outcome() > worst.outcome() {
            *worst = finding.verdict;
        }
    }
    files
}

fn map(content: &Content<'_>) -> String {
    let worst = worst_by_file(&content.report.findings);
    let Some(sealed) = &content.sealed else { return String::new() };
    let mut files: Vec<(&str, Option<&SealedFile>)> =
        sealed.files.values().map(|file| (file.live.key.path.as_str(), Some(&**file))).collect();
    let unknown = worst.keys().filter(|path| sealed.file_at(path).is_none());
    files.extend(unknown.map(|path| (*path, None)));
    files.sort_by_key(|(path, _)| (!worst.contains_key(path), *path));
    let shown = files.len().min(MAP_FILES);
    let rows: String = files.iter().take(MAP_FILES).map(|(path, file)| map_file(path, *file, worst.get(path))).collect();
    let legend: String = [("good", "as sealed"), ("bad", "mismatch"), ("note", "not sealed yet"), ("unsure", "undetermined")]
        .map(|(class, words)| format!("<span><i class=\"g {class}\"></i>{words}</span>"))
        .concat();
    let more = files.len().saturating_sub(shown);
    let rest = if more > 0 { format!("<p class=\"dim\">and {more} more files, all as sealed or like these</p>") } else { String::new() };
    format!(
        "<section id=\"map\"><h2>Files and row groups</h2><div class=\"legend\">{legend}</div><div class=\"map\">{rows}</div>{rest}</section>"
    )
}

fn map_file(path: &str, file: Option<&SealedFile>, worst: Option<&Worst>) -> String {
    let of_file = worst.and_then(|worst| worst.get(&None));
    let has_groups = worst.is_some_and(|worst| worst.keys().any(Option::is_some));
    let groups = file.and_then(|file| file.row_groups.as_read()).map_or(1, |groups| groups.len().max(1));
    let square = |group: usize| {
        let known = worst.and_then(|worst| worst.get(&u32::try_from(group).ok()));
        // A finding about the whole file colours all of it, unless it is placed more exactly.
        let verdict = known.or(of_file.filter(|_| !has_groups)).copied().unwrap_or(Verdict::Intact);
        let rows = file
            .and_then(|file| file.row_groups.as_read()?.get(group))
            .map_or_else(String::new, |g| format!(", {} rows", output::count(g.rows)));
        format!("<i class=\"g {}\" title=\"row group {group}: {}{rows}\"></i>", class(verdict), verdict.name())
    };
    let squares: String = (0..groups.min(MAP_GROUPS)).map(square).collect();
    let more = groups.saturating_sub(MAP_GROUPS);
    let rest = if more > 0 { format!("<span class=\"dim\">+{more}</span>") } else { String::new() };
    format!("<div class=\"file\"><div class=\"path\">{}</div><div class=\"groups\">{squares}{rest}</div></div>", escape(path))
}

fn values(content: &Content<'_>) -> String {
    let answer = &content.values;
    if let Some(why) = &answer.failed {
        return format!("<section><h2>Changed values</h2><p>The rows could not be compared: {}</p></section>", escape(why));
    }
    if answer.rows.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = answer
        .rows
        .iter()
        .map(|row| {
            let of = |name| answer.get(row, name);
            let numbers = [of("row_group").map(|n| format!("row group {n}")), of("row").map(|n| format!("row {n}"))];
            let numbers: Vec<String> = numbers.into_iter().flatten().map(|text| escape(&text)).collect();
            let colour = match of("kind") {
                Some("undetermined") => "unsure",
                Some("added") => "note",
                _ => "bad",
            };
            let detail = of("detail").map_or_else(String::new, |detail| format!("<br><span class=\"dim\">{}</span>", escape(detail)));
            vec![
                format!("<span class=\"tag {colour}\">{}</span>", escape(of("kind").unwrap_or_default())),
                format!("<code>{}</code><br><span class=\"dim\">{}</span>", escape(of("file").unwrap_or_default()), numbers.join(", ")),
                format!(
                    "{}{detail}",
                    of("column")
                        .map_or_else(|| "<span class=\"dim\">whole row</span>".to_owned(), |c| format!("<code>{}</code>", escape(c)))
                ),
                side(of("column"), of("sealed")),
                side(of("column"), of("found")),
            ]
        })
        .collect();
    let rest = if answer.cut { "<p class=\"dim\">These are the first; <code>lakeseal diff</code> shows all.</p>" } else { "" };
    format!(
        "<section id=\"values\"><h2>Changed values</h2>{}{rest}</section>",
        table(&["kind", "where", "column", "sealed", "found"], &rows)
    )
}

/// A value, or a whole row; a row that is on the other side only is no null.
fn side(column: Option<&str>, text: Option<&str>) -> String {
    if column.is_none() && text.is_none() { "<span class=\"none\">–</span>".to_owned() } else { value(text) }
}

fn drift(content: &Content<'_>) -> String {
    let answer = &content.drift;
    if let Some(why) = &answer.failed {
        return format!("<section><h2>Drift</h2><p>It could not be measured: {}</p></section>", escape(why));
    }
    let moved = answer.rows.iter().filter(|row| answer.get(row, "alert") == Some("true") && answer.get(row, "scope") != Some("row_group"));
    let number = |row: &[Option<String>], name: &str| answer.get(row, name).and_then(|text| text.parse::<f64>().ok());
    let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"));
    let charts: Vec<String> = moved
        .take(SHOWN_CHARTS)
        .map(|row| {
            let scope = answer.get(row, "scope").unwrap_or_default();
            let column = answer.get(row, "column").unwrap_or_default();
            let words = match scope {
                "changed" => "values that changed",
                "added" => "rows that were added, beside the sealed table",
                "removed" => "rows that were removed, beside the sealed table",
                _ => "the whole table",
            };
            let tops = (answer.get(row, "sealed_top").unwrap_or("{}"), answer.get(row, "found_top").unwrap_or("{}"));
            let rows = |name| number(row, name).unwrap_or_default();
            let facts = format!(
                "PSI {} · KS {} · Cramér's V {} · Cohen's d {} · mean {} → {} · rows {} → {}",
                shown(number(row, "psi")),
                shown(number(row, "ks")),
                shown(number(row, "cramers_v")),
                shown(number(row, "cohens_d")),
                shown(number(row, "sealed_mean")),
                shown(number(row, "found_mean")),
                escape(answer.get(row, "sealed_rows").unwrap_or("–")),
                escape(answer.get(row, "found_rows").unwrap_or("–")),
            );
            format!(
                "<div class=\"chart\"><h3><code>{}</code> <span class=\"dim\">{words}</span></h3><p class=\"dim\">{facts}</p>{}</div>",
                escape(column),
                charts::bars(tops.0, tops.1, rows("sealed_rows"), rows("found_rows"))
            )
        })
        .collect();
    let notes: String = answer
        .rows
        .iter()
        .filter(|row| answer.get(row, "scope") == Some("note"))
        .map(|row| format!("<p class=\"dim\">{}</p>", escape(answer.get(row, "detail").unwrap_or_default())))
        .collect();
    if charts.is_empty() && notes.is_empty() {
        return String::new();
    }
    let legend = "<div class=\"legend\"><span><svg viewBox=\"0 0 12 12\" style=\"width:12px\"><rect class=\"b\" width=\"12\" height=\"12\" rx=\"3\"/></svg>sealed</span>\
                  <span><svg viewBox=\"0 0 12 12\" style=\"width:12px\"><rect class=\"a\" width=\"12\" height=\"12\" rx=\"3\"/></svg>found</span></div>";
    format!("<section id=\"drift\"><h2>Columns that moved</h2>{legend}<div class=\"charts\">{}</div>{notes}</section>", charts.concat())
}

/// Rows as they come.
fn plain(answer: &Answer) -> String {
    if let Some(why) = &answer.failed {
        return format!("<p>Not known: {}</p>", escape(why));
    }
    if answer.rows.is_empty() {
        return "<p class=\"dim\">nothing is recorded</p>".to_owned();
    }
    let header: Vec<&str> = answer.columns.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> = answer.rows.iter().map(|row| row.iter().map(|cell| value(cell.as_deref())).collect()).collect();
    format!("{}{}", table(&header, &rows), if answer.cut { "<p class=\"dim\">and more</p>" } else { "" })
}

fn chain(content: &Content<'_>) -> String {
    if content.baselines.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = content
        .baselines
        .iter()
        .rev()
        .map(|baseline| {
            let keys: Vec<String> = baseline.signed_by.iter().map(|key| format!("<code>{}</code>", escape(&key.to_string()))).collect();
            vec![
                baseline.number.to_string(),
                baseline.version.map_or_else(|| "–".to_owned(), |version| version.to_string()),
                escape(&output::time(baseline.created_ms)),
                baseline.expires_ms.map_or_else(|| "never".to_owned(), |expires| escape(&output::time(expires))),
                output::count(baseline.rows),
                keys.join("<br>"),
                format!("<code>{}</code>", baseline.digest),
            ]
        })
        .collect();
    let header = ["number", "version", "sealed", "expires", "rows", "signed by", "digest"];
    format!("<section id=\"baselines\"><h2>Baselines that you trust</h2>{}</section>", table(&header, &rows))
}
