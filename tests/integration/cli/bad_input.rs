//! Each bad input gets a message that says what, where and what to do, and an exit code; nothing panics and nothing changes.

use super::{Place, files, sample};

#[test]
fn without_a_lake_the_way_to_one_is_shown() {
    let place = Place::new();
    place.run(&["tables"]).expect(2).says(&["lakeseal.toml", "init"]);
    place.run(&["--config", "nowhere.toml", "tables"]).expect(2).says(&["nowhere.toml"]);
}

#[test]
fn a_malformed_configuration_is_named_with_its_line() {
    let place = Place::new();
    place.init();
    let path = place.path("lakeseal.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{good}\n[[region\n")).unwrap();
    place.run(&["tables"]).expect(2).says(&["lakeseal.toml", "line"]);
    std::fs::write(&path, format!("surprise = 1\n{good}")).unwrap();
    place.run(&["tables"]).expect(2).says(&["surprise"]);
}

#[test]
fn a_profile_that_is_not_the_lakes_is_refused_with_both_values() {
    let place = Place::new();
    place.init();
    let path = place.path("lakeseal.toml");
    let good = std::fs::read_to_string(&path).unwrap();
    let other = good.replace("parity = 2", "parity = 1");
    assert_ne!(good, other);
    std::fs::write(&path, other).unwrap();
    place.run(&["tables"]).expect(2).says(&["parity", "1", "2"]);
}

#[test]
fn regions_that_cannot_hold_the_shards_are_refused() {
    let place = Place::new();
    let args = ["init", "--region", "a=./a", "--region", "b=./b", "--data", "3", "--parity", "2"];
    place.run(&args).expect(2).says(&["region"]);
    assert!(!place.path("lakeseal.toml").exists());
    for bad in ["a", "=./a", "a=", "A b=./a"] {
        place.run(&["init", "--region", bad, "--data", "1", "--parity", "0"]).expect(2).says(&["NAME=", bad]);
    }
    let twice = ["init", "--region", "a=./a", "--region", "a=./b", "--data", "1", "--parity", "1"];
    place.run(&twice).expect(2).says(&["a"]);
}

#[test]
fn a_lake_is_not_made_over_another() {
    let place = Place::new();
    place.init();
    let before = files(&place.path("r"));
    let regions: Vec<String> = ["a", "b", "c", "d", "e"].iter().map(|r| format!("--region={r}=./r/{r}")).collect();
    let mut args = vec!["--config", "second.toml", "init", "--data", "3", "--parity", "2"];
    args.extend(regions.iter().map(String::as_str));
    place.run(&args).expect(2).says(&["region"]);
    assert!(!place.path("second.toml").exists());
    assert_eq!(files(&place.path("r")), before);
    let mut again = vec!["init", "--data", "3", "--parity", "2"];
    again.extend(regions.iter().map(String::as_str));
    place.run(&again).expect(2).says(&["lakeseal.toml"]);
}

#[test]
fn a_region_that_was_wiped_and_made_again_is_down() {
    let place = Place::new();
    place.init();
    place.import(&place.csv("t.csv", 0, 10), "t");
    std::fs::remove_dir_all(place.path("r/c")).unwrap();
    std::fs::create_dir(place.path("r/c")).unwrap();
    let list = place.run(&["region", "list"]).expect(0).out;
    assert!(list.lines().any(|line| line.starts_with('c') && line.contains("down")), "{list}");
    place.run(&["sql", "-c", "SELECT count(*) FROM t"]).expect(0);
}

#[test]
fn a_place_is_checked_before_it_becomes_a_region() {
    let place = Place::new();
    std::fs::create_dir(place.path("candidate")).unwrap();
    let run = place.run(&["region", "check", "./candidate"]).expect(0);
    assert!(run.out.contains("create race") && !run.out.contains("FAILED"), "{}", run.out);
    assert!(files(&place.path("candidate")).is_empty(), "test objects are left");
    // What cannot be reached has not failed a test: that is undetermined.
    assert!(place.run(&["region", "check", "./missing"]).expect(2).out.contains("down"));
}

#[test]
fn unknown_tables_are_said_to_be_unknown() {
    let place = Place::new();
    place.init();
    for command in [&["seal", "nothing"][..], &["audit", "nothing"], &["log", "nothing"], &["export", "nothing", "out"]] {
        place.run(command).expect(2).says(&["nothing"]);
    }
    place.run(&["sql", "-c", "SELECT * FROM nothing"]).expect(2).says(&["nothing"]);
    place.run(&["audit", "./no-such-dir"]).expect(2).says(&["no-such-dir"]);
    assert!(!place.path("out").exists() || files(&place.path("out")).is_empty());
}

#[test]
fn a_path_that_needs_percent_encoding_is_refused() {
    let place = Place::new();
    place.init();
    let csv = place.csv("t.csv", 0, 10);
    for name in ["my table", "a%20b", "t\u{e4}ble"] {
        place.run(&["import", csv.to_str().unwrap(), "--table", name]).expect(2).says(&["percent-encoding"]);
    }
}

#[test]
fn a_table_is_made_in_no_place_that_is_somebody_else_s() {
    let place = Place::new();
    place.init();
    let csv = place.csv("t.csv", 0, 10);
    place.import(&csv, "t");
    let before = files(place.dir.path());
    let deep = vec!["x".repeat(200); 3].join("/");
    for (name, why) in [
        ("a/../../x", "not a table path"),
        (".lakeseal", "keeps this folder for itself"),
        (".lakeseal/x", "keeps this folder for itself"),
        ("_delta_log", "not a table path"),
        ("a//b", "not a table path"),
        ("lakeseal://lake/../x", "not a table path"),
        ("t/below", "in the folder of another table"),
        ("_hidden", "begins with"),
        (deep.as_str(), "too long"),
        // Directories outside of the lake, its own regions and the folder of its configuration among them.
        ("./r/../home", "in an empty place"),
        (".", "in an empty place"),
        ("./r/a", "in an empty place"),
        (place.path("home").to_str().unwrap(), "in an empty place"),
    ] {
        place.run(&["import", csv.to_str().unwrap(), "--table", name]).expect(2).says(&[why]);
    }
    assert_eq!(files(place.dir.path()), before, "nothing was written");
    let made = place.run(&["sql", "-c", "CREATE TABLE \"t/below\" AS SELECT * FROM t"]);
    made.expect(2).says(&["in the folder of another table"]);
}

#[test]
fn what_is_no_parquet_or_csv_is_named() {
    let place = Place::new();
    place.init();
    std::fs::write(place.path("fake.parquet"), "PAR1 but no Parquet").unwrap();
    place.run(&["import", "fake.parquet", "--table", "t"]).expect(2).says(&["fake.parquet"]);
    std::fs::write(place.path("ragged.csv"), "a,b\n1,2\n3\n").unwrap();
    place.run(&["import", "ragged.csv", "--table", "t"]).expect(2).says(&["ragged.csv"]);
    place.run(&["import", "missing.csv", "--table", "t"]).expect(2).says(&["missing.csv"]);
    assert!(!place.run(&["tables"]).expect(0).out.contains("t\n"));
}

#[test]
fn columns_that_do_not_fit_the_table_are_refused_and_leave_it_alone() {
    let place = Place::new();
    place.init();
    place.import(&place.csv("t.csv", 0, 10), "t");
    place.run(&["import", sample("airports.csv").to_str().unwrap(), "--table", "t"]).expect(2).says(&["airports.csv"]);
    let count = place.run(&["sql", "-c", "SELECT count(*) AS n FROM t", "--format", "csv"]).expect(0).out;
    assert_eq!(count, "n\n10\n");
}

#[test]
fn wrong_keys_are_explained() {
    let place = Place::new();
    place.init();
    place.import(&place.csv("t.csv", 0, 10), "t");
    place.run(&["keys", "new", "--role", "sealer", "--out", "k"]).expect(0);
    place.run(&["seal", "t", "--key", "k.pub"]).expect(2).says(&["k.pub", "public key"]);
    place.run(&["seal", "t", "--key", "missing.pem"]).expect(2).says(&["missing.pem"]);
    place.run(&["audit", "t", "--trust", "k"]).expect(2).says(&["private key"]);
    place.run(&["keys", "new", "--role", "sealer", "--out", "k"]).expect(2).says(&["already exists"]);
    let no_key: super::Run = place.command(&["seal", "t"]).env("LAKESEAL_HOME", place.path("nowhere")).output().unwrap().into();
    no_key.expect(2).says(&["keys new"]);
    // A writer's key that the lake does not know may not write.
    place.run(&["keys", "new", "--role", "writer", "--out", "w"]).expect(0);
    let csv = place.csv("u.csv", 0, 10);
    let run = place.run(&["--writer-key", "w", "import", csv.to_str().unwrap(), "--table", "t"]).expect(2);
    run.says(&["writer"]);
}

#[test]
fn a_damaged_baseline_or_evidence_is_never_intact() {
    let place = Place::new();
    std::fs::create_dir(place.path("folder")).unwrap();
    std::fs::copy(sample("flights.parquet"), place.path("folder/a.parquet")).unwrap();
    place.run(&["keys", "new", "--role", "sealer"]).expect(0);
    place.run(&["seal", "./folder"]).expect(0);
    for file in files(&place.path("folder/_seal")) {
        let good = std::fs::read(&file).unwrap();
        if good.is_empty() {
            continue;
        }
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        std::fs::write(&file, &bad).unwrap();
        let run = place.run(&["audit", "./folder"]);
        // What stands in the log without a trusted signature is junk that anybody could have put there: it accuses nobody.
        let is_junk = file.to_string_lossy().contains("/_seal/log/");
        assert!(
            (matches!(run.code, 1 | 2) || is_junk && run.code == 0) && !run.err.contains("panicked"),
            "{} ended with {}:\n{}",
            file.display(),
            run.code,
            run.err
        );
        std::fs::write(&file, &good).unwrap();
    }
    place.run(&["audit", "./folder"]).expect(0);
}

#[test]
fn sql_that_is_no_sql_is_shown_where() {
    let place = Place::new();
    place.init();
    place.run(&["sql", "-c", "SELEC 1"]).expect(2).says(&["SELEC"]);
    place.run(&["sql", "--table", "x", "-c", "SELECT 1"]).expect(2).says(&["NAME=TABLE"]);
}

#[test]
#[cfg(unix)]
fn a_full_disk_is_an_error_and_loses_nothing() {
    let place = Place::new();
    place.init();
    place.import(&place.csv("t.csv", 0, 1000), "t");
    let run: super::Run = place
        .command(&["sql", "-c", "SELECT * FROM t", "--format", "csv"])
        .stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap())
        .stderr(std::process::Stdio::piped())
        .output()
        .unwrap()
        .into();
    run.expect(2).says(&["output could not be written"]);
}

/// Lineage and what builds on it: each thing that cannot be determined is told, and nothing that is not there looks like nothing found.
#[test]
fn lineage_of_what_is_not_there_any_more_is_told() {
    let place = Place::new();
    place.init();
    place.import(&place.csv("raw.csv", 0, 100), "raw");
    place.run(&["seal", "raw"]).expect(0);
    let sql = |statement: &str| place.run(&["sql", "--format", "csv", "-c", statement]);
    sql("CREATE TABLE clean AS SELECT id, name FROM raw WHERE score > 2").expect(0);
    // A cycle: raw from clean from raw.
    sql("INSERT INTO raw SELECT id + 1000, name, 1.5 FROM clean").expect(0);
    let down = sql("SELECT \"table\", version FROM blast_radius('raw') ORDER BY 1, 2").expect(0);
    assert_eq!(down.out, "table,version\nclean,0\nraw,1\n");
    for call in [
        "lineage('no')",
        "blast_radius('no')",
        "upstream('no')",
        "verify_derivation('no')",
        "audit('no')",
        "baselines('no')",
        "row_groups('no')",
    ] {
        sql(&format!("SELECT * FROM {call}")).expect(2).says(&["there is no", "no"]);
    }
    sql("SELECT * FROM blast_radius('raw', 'nothing.parquet')").expect(2).says(&["no lineage speaks of the file", "nothing.parquet"]);
    sql("SELECT * FROM verify_derivation('clean', 9)").expect(2).says(&["no such version", "9"]);
    sql("SELECT * FROM poison_diff('raw', 9)").expect(2).says(&["no such baseline", "9"]);
    sql("SELECT * FROM poison_diff('raw', 1, 9)").expect(2).says(&["no such version", "9"]);
    let never = sql("SELECT count(*) AS n FROM row_groups('clean')").expect(0);
    assert!(never.out == "n\n0\n" && never.err.contains("no baseline"), "{never:?}");
    place.run(&["lineage", "raw", "--at", "2"]).expect(2).says(&["no such version", "newest", "1"]);
    // The input is gone: what was derived from it cannot be proven any more, and that is said.
    std::fs::remove_file(place.path("raw.csv")).unwrap();
    let imported = sql("SELECT verdict, detail FROM verify_derivation('raw', 0)").expect(0);
    assert!(imported.out.contains("undetermined") && imported.out.contains("no recorded query"), "{}", imported.out);
    for file in files(&place.path("r")).into_iter().filter(|f| f.to_string_lossy().contains("/i/raw-/")) {
        std::fs::remove_file(file).unwrap();
    }
    let gone = sql("SELECT verdict, detail FROM verify_derivation('clean', 0)").expect(0);
    assert!(gone.out.contains("undetermined") && gone.out.contains("raw"), "{}", gone.out);
    let around = sql("SELECT \"table\" FROM upstream('clean')").expect(0);
    assert!(around.out.contains("raw"), "{}", around.out);
}
