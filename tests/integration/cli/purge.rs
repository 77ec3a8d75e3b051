//! `purge`: two sealers destroy the file that they named, and no other that a spelling of it comes to.

use std::fs;
use std::path::{Path, PathBuf};

use lakeseal::delta::{Import, Location};

use super::plain_tables::delta_directory;
use super::{Place, files, sample};

/// A Delta directory whose only file is stored as `name`, sealed, and then replaced by one that is stored as `other`.
fn replaced(place: &Place, name: &str, other: &str) {
    delta_directory(place);
    place.run(&["keys", "new", "--role", "sealer", "--out", "second.pem"]).expect(0);
    let is_data = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "parquet");
    let written = files(&place.path("delta")).into_iter().find(is_data).unwrap();
    let raw = written.file_name().unwrap().to_str().unwrap().to_owned();
    let at = |name: &str| place.path("delta").join(name);
    fs::create_dir_all(at(name).parent().unwrap()).unwrap();
    fs::rename(&written, at(name)).unwrap();
    let first = place.path("delta/_delta_log/00000000000000000000.json");
    let escaped = |name: &str| name.replace('%', "%25");
    let text = fs::read_to_string(&first).unwrap().replace(&raw, &escaped(name));
    fs::write(&first, &text).unwrap();
    place.run(&["seal", "./delta"]).expect(0);
    let add = text.lines().find(|line| line.starts_with("{\"add\"")).unwrap().replace(&escaped(name), &escaped(other));
    let remove = serde_json::json!({"remove": {"path": escaped(name), "deletionTimestamp": 1, "dataChange": true}});
    fs::create_dir_all(at(other).parent().unwrap()).unwrap();
    fs::copy(at(name), at(other)).unwrap();
    fs::write(place.path("delta/_delta_log/00000000000000000001.json"), format!("{remove}\n{add}\n")).unwrap();
}

/// The digest that the first sealer is shown.
fn prepared(place: &Place, file: &str) -> String {
    let args = ["purge", "./delta", "--file", file, "--reason", "request 17", "--json"];
    place.run(&args).expect(0).json()["purge"].as_str().unwrap().to_owned()
}

fn confirmed(place: &Place, purge: &str) -> String {
    place.run(&["purge", "./delta", "--confirm", purge, "--yes", "--key", "second.pem"]).expect(0).out
}

#[test]
fn the_file_that_was_named_is_destroyed_and_no_other() {
    for (name, other) in [("x=A%2FA/p.parquet", "x=A/A/p.parquet"), ("%70art-0.parquet", "part-0.parquet")] {
        let place = Place::new();
        replaced(&place, name, other);
        let there = |name: &str| Path::exists(&place.path("delta").join(name));
        assert!(there(name) && there(other));
        let purge = prepared(&place, name);
        let out = confirmed(&place, &purge);
        assert!(out.contains("purged: 1 file"), "{out}");
        assert!(!there(name), "{name} is there still");
        assert!(there(other), "{other}, which is live, was destroyed");
        assert!(out.contains("versions that a bucket keeps") && out.contains("not as carried out"), "{out}");
        // What a bucket keeps by itself is not known, so nobody says that it was carried out. The commit that replaced it came after the baseline.
        assert!(!place.path("delta/_seal/purged").exists());
        let audit = place.run(&["audit", "./delta"]).expect(3).out;
        assert!(audit.contains("purge is on record") && audit.contains("not recorded") && audit.contains(&purge), "{audit}");
        // Once more: nothing is there, and it says so.
        let again = confirmed(&place, &purge);
        assert!(again.contains("nothing was there to be destroyed") && again.contains("neither an object nor a version"), "{again}");
        assert!(!again.contains("purged"), "{again}");
        let json = place.run(&["purge", "./delta", "--confirm", &purge, "--yes", "--key", "second.pem", "--json"]).expect(0).json();
        assert_eq!((&json["absent"][0], &json["left"]), (&name.into(), &serde_json::json!([])), "{json}");
        assert_eq!(json["recorded"], false, "{json}");
    }
}

/// The duty to erase does not end with the baseline that sealed what is to be erased.
#[test]
fn what_an_older_baseline_alone_seals_is_purged_as_well() {
    let place = Place::new();
    replaced(&place, "old.parquet", "new.parquet");
    // The file of the first baseline is the same as the one that is live.
    place.run(&["seal", "./delta"]).expect(0);
    let purge = |file: &str| place.run(&["purge", "./delta", "--file", file, "--reason", "request 17", "--json"]);
    purge("old.parquet").expect(2).says(&["the newest baseline seals a file with the same bytes", "new.parquet"]);
    purge("none.parquet").expect(2).says(&["no baseline seals a file of this path"]);
    // Another file takes its place: from here on nothing but older baselines seals it.
    let (text, others) = (fs::read_to_string(sample("airports.csv")).unwrap(), place.path("others.csv"));
    fs::write(&others, text.lines().enumerate().filter(|(at, _)| *at != 1).map(|(_, line)| format!("{line}\n")).collect::<String>())
        .unwrap();
    let location = Location::parse(place.path("delta").to_str().unwrap(), None).unwrap();
    let import = Import { sources: vec![others], ..Import::default() };
    tokio::runtime::Runtime::new().unwrap().block_on(lakeseal::delta::import(&location, import)).unwrap();
    let remove = serde_json::json!({"remove": {"path": "new.parquet", "deletionTimestamp": 1, "dataChange": true}});
    fs::write(place.path("delta/_delta_log/00000000000000000003.json"), format!("{remove}\n")).unwrap();
    place.run(&["seal", "./delta"]).expect(0);
    let both = ["purge", "./delta", "--file", "old.parquet", "--file", "new.parquet", "--reason", "request 17"];
    place.run(&both).expect(2).says(&["purge this one by itself", "old.parquet"]);
    for (file, baseline) in [("old.parquet", 1), ("new.parquet", 2)] {
        let digest = prepared(&place, file);
        let shown = place.run(&["purge", "./delta", "--confirm", &digest, "--yes", "--key", "second.pem"]).expect(0);
        assert!(shown.out.contains(&format!("baseline  {baseline}")) && shown.out.contains("purged: 1 file"), "{}", shown.out);
        assert!(!place.path("delta").join(file).exists());
    }
    // The newest baseline knows nothing of them.
    place.run(&["audit", "./delta"]).expect(0);
}
