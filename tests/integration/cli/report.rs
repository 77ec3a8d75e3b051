//! Audits as files: a page that a real browser opens, SARIF, rows that changed, and the statements of standard input.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use serde_json::Value;

use super::plain_tables::sealed_folder;
use super::{Place, files};

const HOSTILE: &str = "</code><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">";

/// A lake with a sealed table, and a later commit whose values are an attack on whoever looks at them.
fn place_with_hostile_rows() -> Place {
    let place = Place::new();
    place.init();
    place.import(&place.csv("rows.csv", 0, 200), "scores");
    place.run(&["seal", "scores"]).expect(0);
    let path = place.path("later.csv");
    std::fs::write(&path, format!("id,name,score\n900,\"{}\",3.5\n", HOSTILE.replace('"', "\"\""))).unwrap();
    place.import(&path, "scores");
    place
}

fn page(place: &Place, args: &[&str], code: i32) -> String {
    let mut all = vec!["audit"];
    all.extend(args);
    all.extend(["--html", "audit.html", "--sarif", "audit.sarif"]);
    place.run(&all).expect(code);
    std::fs::read_to_string(place.path("audit.html")).unwrap()
}

/// Loads nothing, runs nothing.
fn is_self_contained(html: &str) {
    for forbidden in ["<script", "<img", "<iframe", "<link", "http://", "https://", "@import", "url("] {
        assert!(!html.contains(forbidden), "{forbidden:?} is in the page");
    }
    assert!(html.contains("default-src 'none'"));
}

#[test]
fn a_page_shows_values_and_none_of_them_becomes_markup() {
    let place = place_with_hostile_rows();
    let html = page(&place, &["scores"], 3);
    is_self_contained(&html);
    for part in ["id=\"verdict\"", "&lt;script&gt;document.title=", "Files and row groups", "Changed values", "Baselines that you trust"] {
        assert!(html.contains(part), "{part:?} is missing in {html}");
    }
    let sarif: Value = serde_json::from_slice(&std::fs::read(place.path("audit.sarif")).unwrap()).unwrap();
    assert_eq!((&sarif["version"], &sarif["runs"][0]["tool"]["driver"]["name"]), (&"2.1.0".into(), &"Lakeseal".into()));
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!((&result["ruleId"], &result["level"]), (&"unsealed".into(), &"note".into()));
    super::valid("sarif", &place.path("audit.sarif"));
    in_a_browser(&place.path("audit.html"), &["with later changes", "&lt;script&gt;"]);
}

/// A graph that ends where a table is gone must not look like the whole of it.
#[test]
fn a_page_says_where_its_lineage_ends() {
    let place = Place::new();
    place.init();
    place.import(&place.csv("raw.csv", 0, 100), "raw");
    for (table, from) in [("clean", "raw"), ("features", "clean")] {
        place.run(&["sql", "-c", &format!("CREATE TABLE {table} AS SELECT id, name FROM {from}")]).expect(0);
    }
    place.run(&["seal", "features"]).expect(0);
    assert!(!page(&place, &["features"], 0).contains("nothing is known of its own"));
    for file in files(&place.path("r")).into_iter().filter(|f| f.to_string_lossy().contains("/i/clean-/")) {
        std::fs::remove_file(file).unwrap();
    }
    let html = page(&place, &["features"], 0);
    is_self_contained(&html);
    for part in ["What is not known", "nothing is known of its own", "clean"] {
        assert!(html.contains(part), "{part:?} is missing in {html}");
    }
}

/// Of many commits the newest are the ones that somebody looks for.
#[test]
fn a_page_shows_the_newest_commits_first() {
    let place = Place::new();
    place.init();
    for first in [0, 100, 200] {
        place.import(&place.csv("rows.csv", first, 10), "scores");
    }
    place.run(&["seal", "scores"]).expect(0);
    let html = page(&place, &["scores"], 0);
    let lineage = html.split_once("<h2>Where it came from</h2>").unwrap().1.split_once("</section>").unwrap().0;
    let version = |row: &str| row.split_once("<td><code>")?.1.split_once("</code>")?.0.parse::<u64>().ok();
    let versions: Vec<u64> = lineage.split("<tr>").filter_map(version).collect();
    assert!(versions.len() >= 3 && versions[0] >= 2 && versions.is_sorted_by(|a, b| a >= b), "{versions:?}");
}

/// A report that cannot be written must not take the verdict with it.
#[test]
fn the_verdict_is_told_though_no_report_can_be_written() {
    let place = Place::new();
    let file = sealed_folder(&place);
    let audit = ["audit", "./folder", "--sarif", "no/such/audit.sarif", "--html", "no/such/audit.html"];
    let run = place.run(&audit).expect(2).says(&["report could not be written", "audit.sarif", "audit.html"]);
    assert!(run.out.contains(": intact"), "{}", run.out);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let run = place.run(&audit).expect(1).says(&["report could not be written", "audit.sarif", "audit.html"]);
    assert!(run.out.contains("MISMATCH") && run.out.contains("part-0.parquet"), "{}", run.out);
    let json = place.run(&["audit", "./folder", "--json", "--sarif", "no/such/audit.sarif"]).expect(1).json();
    assert_eq!(json["findings"][0]["file"], "part-0.parquet");
}

/// Names of columns and files are the attacker's too, and a value may be as long as he likes.
#[test]
fn hostile_names_and_endless_values_stay_text_and_keep_the_page_small() {
    let place = Place::new();
    place.init();
    let column = "<script>document.title='owned'</script>";
    let csv = |name: &str, id: u32, value: &str| {
        let path = place.path(name);
        std::fs::write(&path, format!("id,\"{column}\"\n{id},\"{value}\"\n")).unwrap();
        path
    };
    place.import(&csv("first.csv", 1, "plain"), "scores");
    place.run(&["seal", "scores"]).expect(0);
    let endless = "</td><script>".repeat(200_000);
    place.import(&csv("second.csv", 2, &endless), "scores");
    let html = page(&place, &["scores"], 3);
    is_self_contained(&html);
    assert!(html.contains("&lt;script&gt;document.title="), "the column is named");
    assert!(html.len() < 300_000, "{} bytes", html.len());
    super::valid("sarif", &place.path("audit.sarif"));
    in_a_browser(&place.path("audit.html"), &["&lt;script&gt;document.title="]);
}

#[test]
fn a_mismatch_is_placed_on_the_page_and_in_sarif() {
    let place = Place::new();
    let file = sealed_folder(&place);
    let intact = page(&place, &["./folder"], 0);
    is_self_contained(&intact);
    assert!(intact.contains("intact: everything is as it was sealed") && !intact.contains("Changed values"), "{intact}");
    assert_eq!(place.run(&["diff", "./folder"]).expect(0).out, "./folder: no row differs from what was sealed\n");

    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let html = page(&place, &["./folder"], 1);
    is_self_contained(&html);
    assert!(html.contains("mismatch: what is there") && html.contains("class=\"g bad\""), "{html}");
    let sarif: Value = serde_json::from_slice(&std::fs::read(place.path("audit.sarif")).unwrap()).unwrap();
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!((&result["ruleId"], &result["level"]), (&"modified".into(), &"error".into()));
    let location = &result["locations"][0];
    assert_eq!(location["physicalLocation"]["artifactLocation"]["uri"], "folder/part-0.parquet");
    assert!(location["logicalLocations"][0]["name"].as_str().unwrap().starts_with("row group "), "{location}");
    // The sealed bytes are gone with the edit: the place is named, and no value is made up.
    let run = place.run(&["diff", "./folder", "--json"]).expect(2);
    let line: Value = serde_json::from_str(run.out.lines().next().unwrap()).unwrap();
    assert_eq!((&line["kind"], &line["file"], &line["sealed"]), (&"undetermined".into(), &"part-0.parquet".into(), &Value::Null));
    super::valid("sarif", &place.path("audit.sarif"));
    in_a_browser(&place.path("audit.html"), &["mismatch: what is there"]);
}

#[test]
fn diff_names_rows_and_ends_with_their_number() {
    let place = place_with_hostile_rows();
    let run = place.run(&["diff", "scores", "--key", "id"]).expect(1);
    assert!(run.out.contains("added") && run.out.contains("1 added rows") && run.out.contains("{\"id\":\"900\"}"), "{}", run.out);
    place.run(&["diff", "scores", "--key", "nothing"]).expect(2).says(&["no such column", "nothing", "id, name, score"]);
    place.run(&["diff", "scores", "--from", "9"]).expect(2).says(&["no such baseline"]);
}

#[test]
fn in_a_pipe_a_value_is_whole() {
    let place = Place::new();
    place.init();
    let csv = |name: &str, text: &str| {
        std::fs::write(place.path(name), format!("id,name\n1,{text}\n")).unwrap();
        place.path(name)
    };
    place.import(&csv("first.csv", "short"), "scores");
    place.run(&["seal", "scores"]).expect(0);
    let long = format!("{}end", "long ".repeat(100));
    place.import(&csv("second.csv", &long), "scores");
    let run = place.run(&["diff", "scores"]).expect(1);
    assert!(run.out.contains(&long), "{}", run.out);
}

/// Numbers, each in a row group of its own, in as many bytes whatever they are.
fn numbers(file: &Path, numbers: std::ops::Range<i64>) {
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_compression(Compression::UNCOMPRESSED)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_max_row_group_row_count(Some(1));
    let batch = RecordBatch::try_from_iter([("n", Arc::new(numbers.collect::<Int64Array>()) as ArrayRef)]).unwrap();
    let out = std::fs::File::create(file).unwrap();
    let mut writer = ArrowWriter::try_new(out, batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// So much that cannot be determined that it fills all that is shown must not hide that a row differs.
#[test]
fn what_is_not_shown_is_part_of_the_exit_code() {
    let place = Place::new();
    std::fs::create_dir(place.path("folder")).unwrap();
    numbers(&place.path("folder/a.parquet"), 0..1_200);
    place.run(&["keys", "new", "--role", "sealer"]).expect(0);
    place.run(&["seal", "./folder"]).expect(0);
    numbers(&place.path("folder/a.parquet"), 1..1_201);
    let run = place.run(&["diff", "./folder", "--limit", "10"]).expect(2);
    assert!(run.out.contains("1,200 undetermined"), "{}", run.out);
    numbers(&place.path("folder/z.parquet"), 0..3);
    let run = place.run(&["diff", "./folder", "--limit", "10"]).expect(1);
    assert!(run.out.contains("added") && run.out.contains("the first 10 are shown"), "{}", run.out);
}

#[test]
fn statements_of_standard_input_run_until_one_fails() {
    let place = Place::new();
    place.init();
    place.import(&place.csv("rows.csv", 0, 20), "scores");
    let script = |text: &str| {
        let mut child =
            place.command(&["sql", "--format", "csv"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        super::Run::from(child.wait_with_output().unwrap())
    };
    let run = script("SELECT count(*) AS n FROM scores; -- all\nSELECT max(id) AS m\nFROM scores;\n\\d\n").expect(0);
    assert_eq!(run.out, "n\n20\nm\n19\nscores\n");
    let run = script("\\d scores\n").expect(0);
    assert!(run.out.contains("id") && run.out.contains("Int64"), "{}", run.out);
    let run = script("SELECT 1 AS a; SELECT nothing FROM scores; SELECT 2 AS b;").expect(2).says(&["nothing"]);
    assert_eq!(run.out, "a\n1\n");
    script("\\nonsense\n").expect(2).says(&["no such shell command"]);
}

/// The browser that is there, if one is.
fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("LAKESEAL_BROWSER") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    std::env::split_paths(&path).flat_map(|dir| names.map(|name| dir.join(name))).find(|file| file.is_file())
}

/// Opens the page in a real browser without a window, and looks at what it made of it.
fn in_a_browser(page: &Path, parts: &[&str]) {
    let Some(browser) = browser() else {
        eprintln!(
            "!!! SKIPPED: no browser looked at {}: install one with scripts/browser.sh, or name one in LAKESEAL_BROWSER",
            page.display()
        );
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--virtual-time-budget=2000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", home.path().display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let dom = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(dom.contains("Lakeseal audit</title>"), "the title was changed, or the page is empty: {dom}");
    assert!(!dom.contains("<script") && !dom.contains("<img"), "a value became markup");
    for part in parts {
        assert!(dom.contains(part), "{part:?} is not in what the browser shows");
    }
}
