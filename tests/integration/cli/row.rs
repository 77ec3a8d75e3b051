//! The whole row: init, keys, import, seal, audit, append, tamper, trust.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use super::{Place, files, sample};

const MEMBERS: [&str; 7] = ["table", "trust", "baseline", "version", "summary", "findings", "notes"];
const FINDING_MEMBERS: [&str; 8] = ["verdict", "file", "row_group", "column", "commit", "rows_removed", "rows_added", "detail"];

fn members(value: &serde_json::Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_sealed_table_is_intact_until_something_comes_after() {
    let place = Place::new();
    place.init();
    place.import(&sample("airports.csv"), "airports");
    let sealed = place.run(&["seal", "airports"]).expect(0);
    assert!(sealed.out.contains("trust on first use"), "{}", sealed.out);

    let report = place.run(&["audit", "airports", "--json"]).expect(0).json();
    assert_eq!(members(&report), MEMBERS);
    assert_eq!((&report["trust"], &report["findings"]), (&"self".into(), &serde_json::json!([])));
    assert_eq!(report["baseline"]["version"], report["version"]);
    assert!(report["baseline"]["number"].is_u64() && report["baseline"]["digest"].as_str().unwrap().len() == 64);
    assert!(report["summary"]["intact"].as_u64().unwrap() >= 1);
    assert!(place.run(&["audit", "airports"]).expect(0).out.contains("intact"));

    place.import(&sample("airports.csv"), "airports");
    let report = place.run(&["audit", "airports", "--json"]).expect(3).json();
    let unsealed = report["findings"].as_array().unwrap();
    assert!(!unsealed.is_empty() && unsealed.iter().all(|f| f["verdict"] == "unsealed" && members(f) == FINDING_MEMBERS));
    assert!(unsealed.iter().any(|f| f["commit"] == report["version"]), "the later commit is listed: {unsealed:?}");

    // Sealing again covers it, and reads the new file only.
    let again = place.run(&["seal", "airports"]).expect(0);
    assert!(!again.out.contains("trust on first use"), "{}", again.out);
    let report = place.run(&["audit", "airports", "--json"]).expect(0).json();
    let log = place.run(&["log", "airports"]).expect(0);
    assert!(log.out.contains(&report["baseline"]["digest"].as_str().unwrap()[..12]), "{}", log.out);
    assert_eq!(log.out.lines().count(), 3, "a header and two baselines:\n{}", log.out);
}

#[test]
fn keys_seal_and_audit_work_in_a_row_with_a_key_of_any_name() {
    let place = Place::new();
    place.init();
    place.import(&place.csv("t.csv", 0, 100), "t");
    place.run(&["keys", "new", "--role", "sealer", "--out", "k"]).expect(0);
    assert!(place.path("k").exists() && place.path("k.pub").exists());
    place.run(&["seal", "t", "--key", "k"]).expect(0);
    assert_eq!(place.run(&["audit", "t", "--json"]).expect(0).json()["trust"], "self");
    assert_eq!(place.run(&["audit", "t", "--json", "--trust", "k.pub"]).expect(0).json()["trust"], "given");
}

#[test]
fn another_key_proves_nothing_and_none_leaves_it_undetermined() {
    let place = Place::new();
    place.init();
    place.import(&place.csv("t.csv", 0, 10), "t");
    place.run(&["seal", "t"]).expect(0);
    // Made by somebody else: a home of its own.
    let other: super::Run = place
        .command(&["keys", "new", "--role", "sealer", "--out", "other"])
        .env("LAKESEAL_HOME", place.path("elsewhere"))
        .output()
        .unwrap()
        .into();
    other.expect(0);
    // A baseline that nobody trusted has signed is no better than a forged one.
    let report = place.run(&["audit", "t", "--json", "--trust", "other.pub"]).expect(1).json();
    assert!(report["baseline"].is_null());
    assert!(report["findings"].as_array().unwrap().iter().any(|f| f["verdict"] == "untrusted"), "{report}");

    let nobody: super::Run = place.command(&["audit", "t"]).env("LAKESEAL_HOME", place.path("nowhere")).output().unwrap().into();
    nobody.expect(2).says(&["keys new", "--trust"]);

    place.import(&place.csv("u.csv", 0, 10), "u");
    let never = place.run(&["audit", "u", "--json"]).expect(2).json();
    assert_eq!((&never["baseline"], &never["findings"][0]["verdict"]), (&serde_json::Value::Null, &"undetermined".into()));
}

#[test]
fn figures_come_out_in_every_format_also_with_two_regions_gone() {
    let place = Place::new();
    place.init();
    place.import(&sample("flights.parquet"), "flights");
    place.run(&["seal", "flights"]).expect(0);
    let query = "SELECT origin, count(*) AS flights, round(avg(delay), 2) AS delay FROM flights WHERE origin IN ('CLE', 'JFK') GROUP BY origin ORDER BY origin";
    let json = "{\"origin\":\"CLE\",\"flights\":2861,\"delay\":1.97}\n{\"origin\":\"JFK\",\"flights\":3174,\"delay\":11.54}\n";
    assert_eq!(place.run(&["sql", "-c", query, "--format", "json"]).expect(0).out, json);
    std::fs::remove_dir_all(place.path("r/b")).unwrap();
    std::fs::remove_dir_all(place.path("r/d")).unwrap();
    assert_eq!(place.run(&["sql", "-c", query, "--format", "csv"]).expect(0).out, "origin,flights,delay\nCLE,2861,1.97\nJFK,3174,11.54\n");
    let table = place.run(&["sql", "-c", query]).expect(0).out;
    assert!(table.contains("CLE") && table.contains("11.54"), "{table}");
    place.run(&["audit", "flights"]).expect(0);

    let regions = place.run(&["region", "list"]).expect(0).out;
    let down = regions.lines().filter(|line| line.contains("down")).count();
    assert_eq!(down, 2, "{regions}");
    assert!(place.run(&["tables"]).expect(0).out.contains("flights"));

    // A third one is too much: unavailable, never "not found" or another answer.
    std::fs::remove_dir_all(place.path("r/e")).unwrap();
    let run = place.run(&["sql", "-c", query]).expect(2).says(&["region"]);
    assert!(run.out.is_empty() && !run.err.contains("not found"), "{}", run.err);
}

#[test]
fn overwrite_replaces_the_rows_and_append_adds_them() {
    let place = Place::new();
    place.init();
    let (first, second) = (place.csv("1.csv", 0, 10), place.csv("2.csv", 100, 5));
    let both = [first.to_str().unwrap(), second.to_str().unwrap()];
    place.run(&["import", both[0], both[1], "--table", "t"]).expect(0);
    let count = || place.run(&["sql", "-c", "SELECT count(*) AS n, max(id) AS id FROM t", "--format", "csv"]).expect(0).out;
    assert_eq!(count(), "n,id\n15,104\n");
    place.run(&["import", both[1], "--table", "t"]).expect(0);
    assert_eq!(count(), "n,id\n20,104\n");
    place.run(&["import", both[0], "--table", "t", "--mode", "overwrite"]).expect(0);
    assert_eq!(count(), "n,id\n10,9\n");
}

#[test]
fn an_exported_table_has_the_same_rows() {
    let place = Place::new();
    place.init();
    place.import(&place.csv("t.csv", 0, 50), "t");
    place.run(&["export", "t", "out"]).expect(0);
    let query = "SELECT sum(id) AS s, count(name) AS n FROM o";
    let run = place.run(&["sql", "--table", "o=./out", "-c", query, "--format", "csv"]).expect(0);
    assert_eq!(run.out, "s,n\n1225,50\n");
    place.run(&["export", "t", "out"]).expect(2).says(&["not empty"]);
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let place = Place::new();
    place.init();
    place.import(&sample("flights.parquet"), "flights");
    let mut child = place
        .command(&["sql", "-c", "SELECT * FROM flights", "--format", "csv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first.trim_end(), "date,delay,distance,origin,destination");
    let run: super::Run = child.wait_with_output().unwrap().into();
    let err = run.expect(0).err;
    assert!(!err.contains("error") && err.contains("never sealed"), "{err}");
}

#[test]
#[cfg(unix)]
fn an_interrupted_import_leaves_nothing_half_visible() {
    let place = Place::new();
    place.init();
    place.import(&place.csv("small.csv", 0, 10), "t");
    let large = place.csv("large.csv", 10, 1_500_000);
    let child =
        place.command(&["import", large.to_str().unwrap(), "--table", "t"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let run: super::Run = child.wait_with_output().unwrap().into();
    assert!(!run.err.contains("panicked"), "{}", run.err);
    let count = place.run(&["sql", "-c", "SELECT count(*) AS n FROM t", "--format", "csv"]).expect(0).out;
    // On a very fast machine it may be over before the signal comes.
    match run.code {
        130 => {
            assert!(run.err.contains("interrupted"), "{}", run.err);
            assert_eq!(count, "n\n10\n");
        }
        0 => assert_eq!(count, "n\n1500010\n"),
        code => panic!("ended with {code}: {}", run.err),
    }
    // The table goes on as if nothing had been.
    place.import(&place.csv("small.csv", 0, 10), "t");
}

#[test]
fn nothing_secret_reaches_the_lake() {
    let place = Place::new();
    place.init();
    place.import(&place.csv("t.csv", 0, 10), "t");
    place.run(&["seal", "t"]).expect(0);
    for file in files(&place.path("r")).into_iter().chain([place.path("lakeseal.toml")]) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(11).any(|w| w == b"PRIVATE KEY"), "{}", file.display());
    }
}
