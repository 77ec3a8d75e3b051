//! The lake's log and inventory, as users and attackers meet them.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::{Place, files, sample};

/// Two tables of a lake, sealed.
fn lake() -> Place {
    let place = Place::new();
    place.init();
    for (table, first) in [("t", 0), ("u", 1000)] {
        place.import(&place.csv(&format!("{table}.csv"), first, 50), table);
        place.run(&["seal", table]).expect(0);
    }
    place
}

fn more(place: &Place, table: &str, first: i64) {
    place.import(&place.csv("more.csv", first, 5), table);
    place.run(&["seal", table]).expect(0);
}

/// The regions as they are, to be put back by an attacker who holds the credentials of all of them.
fn saved(place: &Place) -> BTreeMap<PathBuf, Vec<u8>> {
    files(&place.path("r")).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn put_back(place: &Place, saved: &BTreeMap<PathBuf, Vec<u8>>, names: &str) {
    for path in files(&place.path("r")).into_iter().filter(|path| path.to_string_lossy().contains(names)) {
        if !saved.contains_key(&path) {
            std::fs::remove_file(path).unwrap();
        }
    }
    for (path, bytes) in saved.iter().filter(|(path, _)| path.to_string_lossy().contains(names)) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn stripped_seals_of_a_lake_s_table_are_a_mismatch_everywhere() {
    let place = lake();
    assert!(place.run(&["inventory", "show"]).expect(0).out.contains("lakeseal://lake/t"));
    place.run(&["log", "--check-consistency"]).expect(0);
    assert_eq!(place.run(&["log", "--json"]).expect(0).out.lines().count(), 2);
    // Whoever can delete in all regions takes the seals of one table.
    let stripped: Vec<PathBuf> = files(&place.path("r")).into_iter().filter(|p| p.to_string_lossy().contains("/t-/_seal-/")).collect();
    assert!(!stripped.is_empty());
    stripped.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    let report = place.run(&["audit", "t", "--json"]).expect(1).json();
    assert!(report["findings"].as_array().unwrap().iter().any(|f| f["verdict"] == "rolled_back"), "{report}");
    let run = place.run(&["sql", "-c", "SELECT count(*) FROM t"]).expect(1);
    assert!(run.out.is_empty(), "{}", run.out);
    run.says(&["inventory lists baseline 1", "taken away"]);
    place.run(&["seal", "t"]).expect(1);
    assert!(place.run(&["inventory", "show"]).expect(1).out.contains("taken away"));
    // The other table is as it was.
    place.run(&["audit", "u"]).expect(0);
    assert!(place.run(&["sql", "--sealed", "-c", "SELECT count(*) FROM u"]).expect(0).out.contains("50"));
    // A person may give the table up, and it is missed no more.
    place.run(&["inventory", "drop", "t"]).expect(0);
    place.run(&["inventory", "drop", "t"]).expect(2).says(&["given up"]);
    place.run(&["inventory", "show"]).expect(0);
    place.run(&["audit", "t"]).expect(2);
}

#[test]
fn a_lake_that_was_put_back_whole_is_found_by_a_pin_and_by_another_reader() {
    let place = lake();
    let before = saved(&place);
    place.run(&["log", "--check-consistency", "--pin", "early.json"]).expect(0);
    more(&place, "t", 100);
    let checkpoint = place.run(&["log", "--checkpoint"]).expect(0).out;
    std::fs::write(place.path("theirs.txt"), &checkpoint).unwrap();
    for table in ["t", "u"] {
        place.run(&["audit", table, "--pin", "pins.json"]).expect(0);
        place.run(&["sql", "--pin", "pins.json", "-c", &format!("SELECT 1 FROM {table} LIMIT 1")]).expect(0);
    }
    let pins = std::fs::read_to_string(place.path("pins.json")).unwrap();
    assert!(pins.contains("\"size\": 3") && pins.contains("\"lake:") && !pins.contains("lakeseal://"), "{pins}");
    let held = ["log", "--check-consistency", "--against", "theirs.txt", "--pin", "early.json"];
    place.run(&held).expect(0);

    // All regions as they were, also for the table that did not change since.
    put_back(&place, &before, "");
    place.run(&["audit", "u"]).expect(0);
    let report = place.run(&["audit", "u", "--pin", "pins.json", "--json"]).expect(1).json();
    assert!(report["findings"].as_array().unwrap().iter().any(|f| f["verdict"] == "rolled_back"), "{report}");
    place.run(&["sql", "--pin", "pins.json", "-c", "SELECT count(*) FROM u"]).expect(1).says(&["entries", "pinned"]);
    place.run(&["seal", "u", "--pin", "pins.json"]).expect(1);
    assert!(place.run(&held).expect(1).out.contains("theirs.txt: the log has 2 entries, but 3 are pinned"));
    assert_eq!(std::fs::read_to_string(place.path("pins.json")).unwrap(), pins);
    // Another history by the same key.
    more(&place, "u", 100);
    assert!(place.run(&held).expect(1).out.contains("forks"));
    std::fs::write(place.path("theirs.txt"), checkpoint.replace("3\n", "4\n")).unwrap();
    place.run(&["log", "--check-consistency", "--against", "theirs.txt"]).expect(2).says(&["theirs.txt", "signed"]);
}

#[test]
fn pins_are_read_from_a_url_and_not_written_there() {
    let place = lake();
    place.run(&["audit", "t", "--pin", "pins.json"]).expect(0);
    let pins = std::fs::read(place.path("pins.json")).unwrap();
    let url = serve(pins.clone());
    place.run(&["audit", "t", "--pin", &url]).expect(0);
    place.run(&["sql", "--pin", &url, "-c", "SELECT count(*) FROM t"]).expect(0);
    let file = format!("file://{}", place.path("pins.json").display());
    more(&place, "t", 100);
    assert!(place.run(&["audit", "t", "--pin", &file]).expect(0).out.contains("publish it yourself"));
    assert_eq!(std::fs::read(place.path("pins.json")).unwrap(), pins);
    // Unlike a file that is begun, an object that is gone is an error: its taker must gain nothing.
    place.run(&["audit", "t", "--pin", "file:///nowhere/pins.json"]).expect(2);
    place.run(&["audit", "t", "--pin", &url.replace("pins.json", "gone")]).expect(2).says(&["pins"]);
    place.run(&["audit", "t", "--pin", "http://127.0.0.1:1/pins.json"]).expect(2).says(&["could not fetch pins"]);
}

/// Serves `body` as `/pins.json` on loopback for as long as the test runs.
fn serve(body: Vec<u8>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or(0);
            let found = request[..read].starts_with(b"GET /pins.json ");
            let (status, body) = if found { ("200 OK", &body[..]) } else { ("404 Not Found", &b""[..]) };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(&[head.as_bytes(), body].concat());
        }
    });
    format!("http://{address}/pins.json")
}

#[test]
fn two_lakes_of_one_name_do_not_share_pins() {
    let (one, two) = (lake(), lake());
    more(&one, "t", 100);
    let pins = one.path("pins.json");
    let pins = pins.to_str().unwrap();
    one.run(&["audit", "t", "--pin", pins]).expect(0);
    two.run(&["audit", "t", "--pin", pins, "--trust", two.path("home/trusted-sealers.pem").to_str().unwrap()]).expect(0);
    let text = std::fs::read_to_string(pins).unwrap();
    assert_eq!(text.matches("/t\"").count(), 2, "{text}");
}

#[test]
fn tables_are_sealed_as_one_and_cannot_be_mixed() {
    let place = lake();
    let before = saved(&place);
    for table in ["t", "u"] {
        place.import(&place.csv("more.csv", 100, 5), table);
    }
    assert!(place.run(&["seal", "t", "--together", "u"]).expect(0).out.contains("2 tables as one"));
    assert!(place.run(&["log"]).expect(0).out.contains("sealed as one"));
    assert!(place.run(&["audit", "t"]).expect(0).out.contains("sealed as one with lakeseal://lake/u, baseline 2"));
    put_back(&place, &before, "/u-/_seal-/");
    let run = place.run(&["audit", "t"]).expect(1);
    assert!(run.out.contains("lakeseal://lake/u, which was sealed as one"), "{}", run.out);
    place.run(&["sql", "-c", "SELECT count(*) FROM t"]).expect(1);
    std::fs::create_dir(place.path("folder")).unwrap();
    std::fs::copy(sample("flights.parquet"), place.path("folder/a.parquet")).unwrap();
    place.run(&["seal", "u", "--together", "./folder", "--accept-changes"]).expect(2).says(&["one lake"]);
}

/// The data files of a directory, by their names.
fn parquet_in(directory: &Path) -> Vec<PathBuf> {
    files(directory).into_iter().filter(|path| path.extension().is_some_and(|e| e == "parquet")).collect()
}

#[test]
fn a_file_is_proved_and_the_proof_is_verified_without_the_lake() {
    let place = lake();
    place.run(&["export", "t", "./copy"]).expect(0);
    let copy = parquet_in(&place.path("copy")).remove(0);
    let name = copy.file_name().unwrap().to_str().unwrap().to_owned();
    place.run(&["prove", "t", &name, "--out", "proof.json"]).expect(0);
    assert_eq!(place.run(&["prove", "t", &name]).expect(0).out, std::fs::read_to_string(place.path("proof.json")).unwrap());
    place.run(&["prove", "t", "nothing.parquet"]).expect(2).says(&["no such file"]);
    // Elsewhere: a home without keys, no lake, only proof, file and the sealer's public key.
    let elsewhere = Place::new();
    for (from, to) in [(place.path("proof.json"), "proof.json"), (copy, "a.parquet"), (place.path("home/keys/sealer.pem.pub"), "s.pub")] {
        std::fs::copy(from, elsewhere.path(to)).unwrap();
    }
    let verify = ["verify-proof", "proof.json", "a.parquet", "--trust", "s.pub"];
    let run = elsewhere.run(&verify).expect(0);
    assert!(run.out.contains("verified") && run.out.contains("lakeseal://lake/t"), "{}", run.out);
    let json = elsewhere.run(&[&verify[..], &["--json"]].concat()).expect(0).json();
    assert_eq!((&json["path"], &json["rows"], &json["log"]["size"]), (&name.as_str().into(), &50.into(), &2.into()));

    let mut bytes = std::fs::read(elsewhere.path("a.parquet")).unwrap();
    bytes[20] ^= 1;
    std::fs::write(elsewhere.path("b.parquet"), bytes).unwrap();
    elsewhere.run(&["verify-proof", "proof.json", "b.parquet", "--trust", "s.pub"]).expect(1).says(&["not the one that was sealed"]);
    elsewhere.run(&["keys", "new", "--role", "sealer"]).expect(0);
    elsewhere.run(&["verify-proof", "proof.json", "a.parquet"]).expect(1).says(&["signed"]);
    for (bad, code) in [("", 2), ("{}", 2), ("{\"type\":\"urn:lakeseal:proof:v1\"}", 2)] {
        std::fs::write(elsewhere.path("bad.json"), bad).unwrap();
        elsewhere.run(&["verify-proof", "bad.json", "a.parquet", "--trust", "s.pub"]).expect(code).says(&["not a proof"]);
    }
}

#[test]
fn the_term_of_an_inventory_is_renewed() {
    let place = lake();
    let run = place.run(&["inventory", "renew", "--expires-days", "7"]).expect(0);
    assert!(run.out.contains("signed") && run.out.contains("expires"), "{}", run.out);
    place.run(&["audit", "t"]).expect(0);
    place.run(&["log", "--check-consistency"]).expect(0);
    assert!(place.run(&["log", "t"]).expect(0).out.contains("signatures"));
    let told = place.run(&["log", "t", "--json"]).expect(0).json();
    assert_eq!((&told["number"], &told["trusted"], &told["baseline"]["number"]), (&1.into(), &true.into(), &1.into()), "{told}");
    place.run(&["log", "nothing", "--json"]).expect(2);
    let nowhere = Place::new();
    nowhere.run(&["keys", "new", "--role", "sealer"]).expect(0);
    nowhere.run(&["log"]).expect(2).says(&["name a table"]);
    nowhere.run(&["inventory", "show"]).expect(2).says(&["name a table"]);
}

/// `examples/check_baseline.py` reads one whole baseline with none of our code, and notices what an attacker changes.
#[test]
fn an_independent_program_checks_a_whole_baseline() {
    let place = Place::new();
    let Some(python) = python(&["blake3", "cryptography", "pyarrow"]) else { return };
    super::plain_tables::delta_directory(&place);
    std::fs::create_dir_all(place.path("folder/day=1")).unwrap();
    std::fs::copy(sample("flights.parquet"), place.path("folder/day=1/a.parquet")).unwrap();
    place.run(&["seal", "./folder"]).expect(0);
    std::fs::copy(sample("flights.parquet"), place.path("folder/day=1/b.parquet")).unwrap();
    place.run(&["seal", "./folder"]).expect(0);
    std::fs::remove_file(place.path("folder/day=1/a.parquet")).unwrap();
    place.run(&["seal", "./folder", "--accept-changes"]).expect(0);
    super::plain_tables::append_to_delta_directory(&place);
    place.run(&["seal", "./delta"]).expect(0);
    let check = |table: &str| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/check_baseline.py");
        let output =
            std::process::Command::new(&python).arg(script).arg(place.path(table)).arg(place.path("home/keys/sealer.pem.pub")).output();
        super::Run::from(output.unwrap())
    };
    for (table, says) in [("folder", "baseline 3 of"), ("delta", "baseline 1 of")] {
        let run = check(table).expect(0);
        assert!(run.out.contains(says) && run.out.contains("all as stated"), "{}", run.out);
        // A bit of each kind of object, at its middle: all of them are noticed, the tiles and older signatures apart.
        let mut tried = 0;
        for file in files(&place.path(table)) {
            let honest = std::fs::read(&file).unwrap();
            let mut changed = honest.clone();
            let middle = changed.len() / 2;
            changed[middle] ^= 1;
            std::fs::write(&file, &changed).unwrap();
            let run = check(table);
            let name = file.strip_prefix(place.path(table)).unwrap().display().to_string();
            let is_of_older = name.contains("_seal/") && run.code == 0;
            assert!(run.code == 1 || is_of_older, "{name}: {run:?}");
            tried += i32::from(run.code == 1);
            std::fs::write(&file, honest).unwrap();
        }
        assert!(tried >= 6, "{table}: only {tried} changes were noticed");
        check(table).expect(0);
    }
}

/// A Python with these packages, kept from one run to the next; says loudly when it cannot be had.
fn python(packages: &[&str]) -> Option<PathBuf> {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("venv-{}", packages.join("-")));
    let python = venv.join("bin/python");
    let run = |program: &Path, args: &[&str]| std::process::Command::new(program).args(args).output().is_ok_and(|o| o.status.success());
    let imports = format!("import {}", packages.join(", "));
    if run(&python, &["-c", &imports]) {
        return Some(python);
    }
    let made = run(Path::new("python3"), &["-m", "venv", venv.to_str().unwrap()])
        && run(&python, &[&["-m", "pip", "install", "--quiet", "--disable-pip-version-check"], packages].concat())
        && run(&python, &["-c", &imports]);
    if !made {
        eprintln!("SKIPPED: a Python environment with {} could not be made (no python3, or no package index)", packages.join(", "));
        return None;
    }
    Some(python)
}
