//! Tables that never were in a lake: a Delta directory and a folder of Parquet. Sealing writes `_seal/` and nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lakeseal::delta::{Import, Location};

use super::{Place, files, sample};

fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    files(directory)
        .into_iter()
        .filter(|path| !path.components().any(|c| c.as_os_str() == "_seal"))
        .map(|path| (path.strip_prefix(directory).unwrap().display().to_string(), std::fs::read(&path).unwrap()))
        .collect()
}

/// A Delta table in a directory, as deltalake writes it.
pub fn delta_directory(place: &Place) {
    std::fs::create_dir(place.path("delta")).unwrap();
    append_to_delta_directory(place);
    place.run(&["keys", "new", "--role", "sealer"]).expect(0);
}

/// A commit of the sample's rows; the first makes the table.
pub fn append_to_delta_directory(place: &Place) {
    let location = Location::parse(place.path("delta").to_str().unwrap(), None).unwrap();
    let import = Import { sources: vec![sample("airports.csv")], ..Import::default() };
    tokio::runtime::Runtime::new().unwrap().block_on(lakeseal::delta::import(&location, import)).unwrap();
}

/// `./folder` with one file of the sample's rows, sealed; returns where the file lies.
pub fn sealed_folder(place: &Place) -> PathBuf {
    std::fs::create_dir(place.path("folder")).unwrap();
    let file = place.path("folder/part-0.parquet");
    std::fs::copy(sample("flights.parquet"), &file).unwrap();
    place.run(&["keys", "new", "--role", "sealer"]).expect(0);
    place.run(&["seal", "./folder"]).expect(0);
    file
}

#[test]
fn a_folder_of_parquet_is_sealed_audited_and_placed() {
    let place = Place::new();
    std::fs::create_dir(place.path("folder")).unwrap();
    let file = place.path("folder/part-0.parquet");
    std::fs::copy(sample("flights.parquet"), &file).unwrap();
    place.run(&["keys", "new", "--role", "sealer"]).expect(0);
    let before = contents(&place.path("folder"));
    place.run(&["seal", "./folder"]).expect(0);
    place.run(&["audit", "./folder"]).expect(0);
    assert_eq!(contents(&place.path("folder")), before);

    // One bit in the middle of the file: some column chunk of some row group.
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let report = place.run(&["audit", "./folder", "--json"]).expect(1).json();
    let found = &report["findings"][0];
    assert_eq!((&found["verdict"], &found["file"]), (&"modified".into(), &"part-0.parquet".into()));
    assert!(found["row_group"].is_u64() && found["column"].is_string(), "{report}");
    let run = place.run(&[
        "sql",
        "--table",
        "f=./folder",
        "-c",
        "SELECT sum(delay), sum(distance), max(origin), max(date), max(destination) FROM f",
    ]);
    let run = run.expect(1).says(&["part-0.parquet", "row group", "column"]);
    assert!(run.out.is_empty(), "{}", run.out);
}

#[test]
fn a_file_dropped_into_the_folder_or_taken_from_it_is_found() {
    let place = Place::new();
    std::fs::create_dir(place.path("folder")).unwrap();
    for part in ["folder/a.parquet", "folder/b.parquet"] {
        std::fs::copy(sample("flights.parquet"), place.path(part)).unwrap();
    }
    place.run(&["keys", "new", "--role", "sealer"]).expect(0);
    place.run(&["seal", "./folder"]).expect(0);
    std::fs::remove_file(place.path("folder/a.parquet")).unwrap();
    let report = place.run(&["audit", "./folder", "--json"]).expect(1).json();
    assert!(report["findings"].as_array().unwrap().iter().any(|f| f["verdict"] == "missing" && f["file"] == "a.parquet"), "{report}");
}

#[test]
fn a_delta_directory_is_sealed_in_place_and_a_forged_log_is_found() {
    let place = Place::new();
    delta_directory(&place);
    let before = contents(&place.path("delta"));
    place.run(&["seal", "./delta"]).expect(0);
    place.run(&["audit", "./delta"]).expect(0);
    assert_eq!(contents(&place.path("delta")), before);

    let log = files(&place.path("delta/_delta_log")).into_iter().find(|f| f.extension().is_some_and(|e| e == "json")).unwrap();
    let text = std::fs::read_to_string(&log).unwrap();
    let forged = text.replace("\\\"numRecords\\\":1458", "\\\"numRecords\\\":1000");
    assert_ne!(forged, text);
    std::fs::write(&log, forged).unwrap();
    let report = place.run(&["audit", "./delta", "--json"]).expect(1).json();
    assert!(report["findings"].as_array().unwrap().iter().any(|f| f["verdict"] == "forged"), "{report}");
    let run = place.run(&["sql", "--table", "d=./delta", "-c", "SELECT count(*) FROM d"]).expect(1);
    assert!(run.out.is_empty(), "the forged count was told: {}", run.out);
}

/// Names and values come from whoever writes to the table: a terminal must show them and not obey them.
#[test]
fn what_a_log_says_cannot_speak_to_the_terminal() {
    let place = Place::new();
    delta_directory(&place);
    place.run(&["seal", "./delta"]).expect(0);
    let hostile = "\u{1b}[2J\u{1b}[Hintact\u{1b}[8m\u{9b}2J\u{202e}";
    let shown = "\\u001b[2J\\u001b[Hintact\\u001b[8m\\u009b2J\\u202e";
    let lines = [
        serde_json::json!({"commitInfo": {"timestamp": 1, "operation": hostile}}),
        serde_json::json!({"add": {"path": hostile, "partitionValues": {}, "size": 1, "modificationTime": 0, "dataChange": true}}),
    ];
    let commit = lines.map(|line| format!("{line}\n")).concat();
    std::fs::write(place.path("delta/_delta_log/00000000000000000001.json"), commit).unwrap();
    // As on a terminal: our own colours are on.
    let run = |args: &[&str]| super::Run::from(place.command(args).env_remove("NO_COLOR").env("CLICOLOR_FORCE", "1").output().unwrap());
    let query = format!("SELECT '{hostile}' AS \"c{hostile}\"");
    for args in [&["audit", "./delta"][..], &["sql", "-c", &query]] {
        let run = run(args);
        let all = format!("{}{}", run.out, run.err);
        assert!(all.contains(shown), "{args:?}: {all:?}");
        for forbidden in ["\u{1b}[2J", "\u{1b}[H", "\u{1b}[8m", "\u{9b}", "\u{202e}"] {
            assert!(!all.contains(forbidden), "{args:?}: {forbidden:?} in {all:?}");
        }
    }
    let report = run(&["audit", "./delta"]);
    assert!(report.out.contains("\u{1b}["), "our own styles are kept: {:?}", report.out);
    // Programs are given what is there.
    let json = place.run(&["audit", "./delta", "--json"]).expect(1).json();
    assert!(
        json["findings"]
            .as_array()
            .unwrap()
            .iter()
            .any(|f| f["file"] == hostile || f["detail"].as_str().is_some_and(|d| d.contains(hostile))),
        "{json}"
    );
    let csv = place.run(&["sql", "--format", "csv", "-c", &query]).expect(0);
    assert!(csv.out.contains(hostile), "{:?}", csv.out);
}

#[test]
fn a_pin_makes_taken_away_and_forked_seals_a_mismatch() {
    let place = Place::new();
    delta_directory(&place);
    place.run(&["seal", "./delta"]).expect(0);
    let seals = || {
        let folder = place.path("delta/_seal");
        let read = |path: PathBuf| (path.strip_prefix(&folder).unwrap().to_owned(), std::fs::read(&path).unwrap());
        files(&folder).into_iter().map(read).collect::<Vec<_>>()
    };
    let first = seals();
    assert!(place.run(&["audit", "./delta", "--pin", "pins.json"]).expect(0).out.contains("baseline 1: nothing was pinned"));
    let pinned = std::fs::read(place.path("pins.json")).unwrap();
    place.run(&["audit", "./delta", "--pin", "pins.json"]).expect(0);
    assert_eq!(std::fs::read(place.path("pins.json")).unwrap(), pinned);

    append_to_delta_directory(&place);
    assert!(place.run(&["seal", "./delta", "--pin", "pins.json"]).expect(0).out.contains("baseline 2, before 1"));
    place.run(&["audit", "./delta", "--pin", "pins.json"]).expect(0);
    let put_back = |seals: &[(PathBuf, Vec<u8>)]| {
        std::fs::remove_dir_all(place.path("delta/_seal")).unwrap();
        for (name, bytes) in seals {
            let path = place.path("delta/_seal").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    };
    // An older seal, then none: without a pin the one is good and of the other nothing can be said.
    for (older, without) in [(&first[..], 3), (&[], 2)] {
        put_back(older);
        place.run(&["audit", "./delta"]).expect(without);
        let report = place.run(&["audit", "./delta", "--pin", "pins.json", "--json"]).expect(1).json();
        assert!(report["findings"].as_array().unwrap().iter().any(|f| f["verdict"] == "rolled_back"), "{report}");
        place.run(&["seal", "./delta", "--pin", "pins.json"]).expect(1);
    }
    // Another history by the same key, as long and longer.
    place.run(&["seal", "./delta"]).expect(0);
    append_to_delta_directory(&place);
    place.run(&["seal", "./delta"]).expect(0);
    place.run(&["audit", "./delta"]).expect(0);
    assert!(place.run(&["audit", "./delta", "--pin", "pins.json"]).expect(1).out.contains("forks"));
    append_to_delta_directory(&place);
    place.run(&["seal", "./delta"]).expect(0);
    assert!(place.run(&["audit", "./delta", "--pin", "pins.json"]).expect(1).out.contains("forks"));
    place.run(&["seal", "./delta", "--pin", "pins.json"]).expect(1);

    for (text, says) in [("junk", "not a file of pins"), ("{\"format\": 3, \"pins\": {}}", "format is 3"), ("[1]", "not a file of pins")] {
        std::fs::write(place.path("bad.json"), text).unwrap();
        place.run(&["audit", "./delta", "--pin", "bad.json"]).expect(2).says(&[says, "bad.json"]);
        assert_eq!(std::fs::read_to_string(place.path("bad.json")).unwrap(), text);
    }
    place.run(&["audit", "./delta", "--pin", "no/such/pins.json"]).expect(2).says(&["pins.json"]);
}

#[test]
fn sealing_refuses_statistics_that_lie() {
    let place = Place::new();
    delta_directory(&place);
    let log = files(&place.path("delta/_delta_log")).into_iter().find(|f| f.extension().is_some_and(|e| e == "json")).unwrap();
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::write(&log, text.replace("\\\"numRecords\\\":1458", "\\\"numRecords\\\":1459")).unwrap();
    let run = place.run(&["seal", "./delta"]);
    assert!(matches!(run.code, 1 | 2), "{run:?}");
    run.says(&["1459", "1458"]);
    assert!(files(&place.path("delta/_seal")).iter().all(|f| !f.to_string_lossy().contains("baseline")), "nothing was signed");
}

#[test]
fn nothing_is_restored_to_a_baseline_that_is_not_known_to_be_the_newest() {
    let place = Place::new();
    delta_directory(&place);
    place.run(&["seal", "./delta"]).expect(0);
    append_to_delta_directory(&place);
    place.run(&["seal", "./delta", "--pin", "pins.json"]).expect(0);
    append_to_delta_directory(&place);
    let restore = |args: &[&str]| place.run(&[&["restore", "./delta", "--dry-run"], args].concat());
    assert!(restore(&["--to", "newest", "--pin", "pins.json"]).expect(0).out.contains("baseline 2"));
    // Whoever takes the second baseline away would have the commits that it seals undone as well.
    let taken = files(&place.path("delta/_seal/baselines")).into_iter().find(|path| path.to_string_lossy().contains("00002-")).unwrap();
    std::fs::remove_file(taken).unwrap();
    place.run(&["audit", "./delta", "--quick"]).expect(1);
    restore(&["--to", "newest"]).expect(1).says(&["rolled_back", "inventory lists baseline 2", "--to NUMBER"]);
    assert!(restore(&["--to", "1"]).expect(0).out.contains("baseline 1"), "a number is somebody's choice");
    // With the log, only a pin tells.
    std::fs::remove_dir_all(place.path("delta/_seal/log")).unwrap();
    restore(&["--to", "newest", "--pin", "pins.json"]).expect(1).says(&["baseline 2 is pinned"]);
}

/// The signed inventory says what the entries of a log say, so that nothing but reading them finds that they are damaged.
#[test]
fn a_damaged_entry_of_a_table_s_own_log_is_noted() {
    let place = Place::new();
    sealed_folder(&place);
    std::fs::copy(sample("flights.parquet"), place.path("folder/part-1.parquet")).unwrap();
    place.run(&["seal", "./folder"]).expect(0);
    let told = |args: &[&str]| {
        let run = place.run(args).expect(0);
        run.out + &run.err
    };
    assert!(!told(&["audit", "./folder"]).contains("log of baselines"));
    let entry = place.path("folder/_seal/log/entries/00000000000000000000");
    let good = std::fs::read(&entry).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    std::fs::write(&entry, &bad).unwrap();
    assert!(told(&["audit", "./folder"]).contains("entries of the log of baselines are not those"));
    assert!(told(&["audit", "./folder", "--json"]).contains("entries of the log of baselines are not those"));
    assert!(!told(&["audit", "./folder", "--quick"]).contains("log of baselines"), "a quick audit reads none");
    std::fs::remove_file(&entry).unwrap();
    assert!(told(&["audit", "./folder"]).contains("an entry of the log is gone"));
    place.run(&["log", "./folder", "--check-consistency"]).expect(1);
    std::fs::write(&entry, &good).unwrap();
    assert!(!told(&["audit", "./folder"]).contains("log of baselines"));
}

#[test]
fn a_shallow_clone_is_sealed_with_the_table_that_it_names() {
    let place = Place::new();
    delta_directory(&place);
    let source = Location::parse(place.path("delta").to_str().unwrap(), None).unwrap();
    let log = "_delta_log/00000000000000000000.json";
    let text = std::fs::read_to_string(place.path("delta").join(log)).unwrap();
    let cloned = text.replace("\"path\":\"part-", &format!("\"path\":\"{}/part-", source.url()));
    assert_ne!(cloned, text);
    std::fs::create_dir_all(place.path("clone/_delta_log")).unwrap();
    std::fs::write(place.path("clone").join(log), cloned).unwrap();

    place.run(&["seal", "./clone"]).expect(2).says(&["outside of the table", "--foreign-root"]);
    place.run(&["seal", "./clone", "--foreign-root", "./delta"]).expect(0);
    place.run(&["audit", "./clone"]).expect(0);
    place.run(&["audit", "./clone", "--quick"]).expect(0);
    let count = ["sql", "--table", "c=./clone", "-c", "SELECT count(*) AS n FROM c", "--format", "csv"];
    assert!(place.run(&count).expect(0).out.contains("1458"));
    assert!(!place.path("clone/_foreign").exists());
    // Nothing new: the root is kept.
    place.run(&["seal", "./clone"]).expect(0);

    std::fs::remove_dir_all(place.path("delta")).unwrap();
    let report = place.run(&["audit", "./clone", "--json"]).expect(1).json();
    let missing = &report["findings"][0];
    assert_eq!(missing["verdict"], "missing");
    assert!(missing["file"].as_str().unwrap().starts_with(source.url().as_str()), "{report}");
}
