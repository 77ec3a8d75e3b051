//! Looking after a lake with the command: scrub and repair, replaced regions, versions, collection, status.

use std::fs;
use std::path::Path;

use super::{Place, files, sample};

/// Turns one bit over in the middle of every shard that a directory region holds; says how many.
pub fn damage_shards(region: &Path) -> usize {
    let shards = files(&region.join("d"));
    for shard in &shards {
        let mut bytes = fs::read(shard).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(shard, bytes).unwrap();
    }
    shards.len()
}

#[test]
fn damage_is_found_named_and_repaired() {
    let place = Place::new();
    place.init();
    place.import(&sample("flights.parquet"), "flights");
    let clean = place.run(&["scrub"]).expect(0);
    assert!(clean.out.contains("nothing is wrong"), "{}", clean.out);

    assert!(damage_shards(&place.path("r/b")) > 0);
    place.run(&["scrub", "--prefix", "nothing/here"]).expect(2).says(&["nothing lies below this prefix", "nothing/here"]);
    place.run(&["scrub", "--prefix", "flights"]).expect(1);
    let quick = place.run(&["scrub", "--quick"]).expect(0);
    assert!(quick.out.contains("--quick"), "what it cannot see must be said:\n{}", quick.out);
    let found = place.run(&["scrub"]).expect(1);
    assert!(found.out.contains("damaged") && found.out.contains("corrupt") && found.out.contains("in b"), "{}", found.out);
    let json = place.run(&["scrub", "--json"]).expect(1).json();
    assert!(json["damaged_versions"].as_u64().unwrap() > 0, "{json}");

    let repaired = place.run(&["scrub", "--repair"]).expect(0);
    assert!(repaired.out.contains("repaired"), "{}", repaired.out);
    let again = place.run(&["scrub", "--json"]).expect(0).json();
    assert_eq!(again["damaged_versions"], 0, "{again}");
}

#[test]
fn a_lost_region_is_replaced_and_the_lake_is_whole_again() {
    let place = Place::new();
    place.init();
    place.import(&sample("flights.parquet"), "flights");
    let count = ["sql", "-c", "SELECT count(*) AS n FROM flights", "--format", "csv"];
    let before = place.run(&count).expect(0).out;
    fs::remove_dir_all(place.path("r/b")).unwrap();

    let scrub = place.run(&["scrub"]).expect(2);
    assert!(scrub.out.contains("not asked"), "a region that is gone is not a region without shards:\n{}", scrub.out);
    place.run(&["region", "replace", "b", "--with", "./r/b2", "--no-wait"]).expect(2).says(&["fenced", "--fenced"]);
    assert!(!place.path("r/b2/id").exists(), "nothing is done before the old region is fenced");
    let replaced = place.run(&["region", "replace", "b", "--with", "./r/b2", "--fenced", "--no-wait", "--no-fsync"]).expect(0);
    assert!(replaced.out.contains("replaced") && replaced.out.contains("rebuilt"), "{}", replaced.out);
    assert!(fs::read_to_string(place.path("lakeseal.toml")).unwrap().contains("./r/b2"));

    place.run(&["scrub"]).expect(0);
    for lost in ["r/a", "r/c"] {
        fs::remove_dir_all(place.path(lost)).unwrap();
    }
    assert_eq!(place.run(&count).expect(0).out, before, "two further regions may be lost");
}

#[test]
fn regions_are_added_and_retired_and_nothing_is_lost() {
    let place = Place::new();
    place.init();
    place.import(&sample("flights.parquet"), "flights");
    let count = ["sql", "-c", "SELECT count(*) AS n FROM flights", "--format", "csv"];
    let before = place.run(&count).expect(0).out;
    place.run(&["region", "retire", "a"]).expect(2).says(&["need 5 regions"]);
    place.run(&["region", "add", "b=./r/new"]).expect(2).says(&["name"]);
    let added = place.run(&["region", "add", "f=./r/f", "--no-wait", "--no-fsync"]).expect(0);
    assert!(added.out.contains("added") && added.out.contains("6 regions"), "{}", added.out);
    assert!(fs::read_to_string(place.path("lakeseal.toml")).unwrap().contains("./r/f"));
    place.import(&place.csv("a.csv", 0, 10), "t");
    place.run(&["region", "retire", "b", "--gone", "b"]).expect(2).says(&["none of the others"]);

    let retired = place.run(&["region", "retire", "b", "--no-wait", "--json"]).expect(0).json();
    assert!(retired["shards"].as_u64().unwrap() > 0 && retired["lost"] == 0, "{retired}");
    assert_eq!(retired["regions"].as_array().unwrap().len(), 5, "{retired}");
    fs::remove_dir_all(place.path("r/b")).unwrap();
    assert!(!fs::read_to_string(place.path("lakeseal.toml")).unwrap().contains("./r/b\""));
    place.run(&["scrub"]).expect(0);
    for lost in ["r/a", "r/c"] {
        fs::remove_dir_all(place.path(lost)).unwrap();
    }
    assert_eq!(place.run(&count).expect(0).out, before, "two of the five that are left may be lost");
}

#[test]
fn an_overwritten_object_keeps_its_versions_until_the_retention() {
    let place = Place::new();
    place.init();
    place.import(&place.csv("a.csv", 0, 10), "t");
    let log = "t/_delta_log/00000000000000000000.json";
    let listed = place.run(&["versions", log]).expect(0);
    assert!(listed.out.contains("newest"), "{}", listed.out);
    place.run(&["restore", log]).expect(2).says(&["no older version"]);
    let version = place.run(&["versions", log, "--json"]).expect(0).json()["version"].as_str().unwrap().to_owned();
    place.run(&["restore", log, "--version", &version]).expect(0);
    let lines = place.run(&["versions", log, "--json"]).expect(0).out;
    assert_eq!(lines.lines().count(), 2, "{lines}");
    place.run(&["sql", "-c", "SELECT count(*) FROM t"]).expect(0);

    let dry = place.run(&["collect", "--dry-run", "--json"]).expect(0).json();
    // The version of the log that was written over, and the word that the table is being made.
    assert_eq!((dry["collected"].as_u64(), dry["kept"].as_u64()), (Some(0), Some(2)), "thirty days are not over: {dry}");
    place.run(&["collect"]).expect(0);
    let key = files(&place.path("home")).into_iter().find(|file| file.ends_with("collector.pem")).unwrap();
    fs::rename(&key, place.path("elsewhere.pem")).unwrap();
    place.run(&["collect"]).expect(2).says(&["collector's private key", "--key"]);
    place.run(&["collect", "--key", "elsewhere.pem"]).expect(0);
    place.run(&["versions", "t/nothing"]).expect(2).says(&["t/nothing"]);
}

#[test]
fn the_retention_is_chosen_when_a_lake_is_made() {
    let place = Place::new();
    let init = |retention: &str| {
        let regions = ["--region", "a=./r/a", "--region", "b=./r/b", "--region", "c=./r/c"];
        let mut args = vec!["init", "--data", "2", "--parity", "1", "--no-fsync", "--retention", retention];
        args.extend(regions);
        place.run(&args)
    };
    for (bad, why) in [("soon", "30d"), ("30m", "at least an hour")] {
        let run = init(bad).expect(2);
        assert!(run.err.contains(why), "{}", run.err);
        assert!(!place.path("lakeseal.toml").exists());
    }
    assert!(init("1d12h").expect(0).out.contains("1 day 12 hours"));
    assert!(fs::read_to_string(place.path("lakeseal.toml")).unwrap().contains("retention_seconds = 129600"));
    assert!(place.run(&["status", "--quick"]).expect(0).out.contains("retention 1 day 12 hours"));
}

#[test]
fn what_is_left_over_of_a_table_is_listed_and_young_files_stay() {
    let place = Place::new();
    place.init();
    place.import(&place.csv("t.csv", 0, 10), "t");
    assert!(place.run(&["vacuum", "t"]).expect(0).out.contains("nothing is left over"));
    place.run(&["vacuum", "nothing"]).expect(2).says(&["nothing"]);
    place.run(&["vacuum", "t", "--older-than", "5m"]).expect(2).says(&["an hour at least"]);
    // Outside of a lake, with a file as a killed write would have left it just now.
    fs::create_dir(place.path("plain")).unwrap();
    place.import(&place.csv("t.csv", 0, 10), "./plain");
    let left = place.path("plain/part-0-left.parquet");
    fs::write(&left, "left").unwrap();
    // A deletion there would be for good.
    place.run(&["vacuum", "./plain", "--delete"]).expect(2).says(&["in a lake only", "VACUUM of the engine"]);
    let run = place.run(&["vacuum", "./plain", "--older-than", "1h"]).expect(0);
    assert!(run.out.contains("nothing is left over") && run.out.contains("1 more") && run.out.contains("younger"), "{}", run.out);
    let json = place.run(&["vacuum", "./plain", "--json"]).expect(0).json();
    assert_eq!((json["young"].as_u64(), json["files"].as_array().unwrap().len()), (Some(1), 0), "{json}");
    assert!(left.exists());
    // What is younger than a week may belong to a write that is going on.
    place.run(&["vacuum", "t", "--force"]).expect(2).says(&["--delete"]);
    place.run(&["vacuum", "t", "--delete", "--older-than", "6d"]).expect(2).says(&["7 days", "--force"]);
    place.run(&["vacuum", "t", "--delete", "--older-than", "6d", "--force"]).expect(2).says(&["somebody may be writing"]);
    place.run(&["vacuum", "t", "--delete"]).expect(0);
    // What is sealed is kept, so it has to be known who seals.
    place.run(&["seal", "t"]).expect(0);
    place.run(&["vacuum", "t", "--delete"]).expect(0);
    // What is sealed by others may be files that nothing else names.
    fs::copy(place.path("home/trusted-sealers.pem"), place.path("own.pem")).unwrap();
    place.run(&["keys", "new", "--role", "sealer", "--out", "other.pem"]).expect(0);
    place.import(&place.csv("more.csv", 10, 20), "t");
    place.run(&["seal", "t", "--key", "other.pem"]).expect(0);
    place.run(&["vacuum", "t", "--delete", "--trust", "own.pem"]).expect(2).says(&["not in force for you", "baselines: 2"]);
    place.run(&["vacuum", "t", "--trust", "own.pem"]).expect(0);
    place.run(&["vacuum", "t", "--delete"]).expect(0);
    fs::remove_file(place.path("home/trusted-sealers.pem")).unwrap();
    place.run(&["vacuum", "t"]).expect(2).says(&["nobody is trusted"]);
}

#[test]
fn status_counts_what_is_stored_and_says_what_may_fail() {
    let place = Place::new();
    place.init();
    place.import(&sample("flights.parquet"), "flights");
    let status = place.run(&["status"]).expect(0).out;
    for part in ["budgets", "objects", "older versions", "orphaned writes", "stored for each byte", "margins", "survive 2 further losses"] {
        assert!(status.contains(part), "{part} is not in\n{status}");
    }
    let json = place.run(&["status", "--json"]).expect(0).json();
    assert!(json["overhead"].as_f64().unwrap() > 1.6 && json["survey"]["objects"].as_u64().unwrap() >= 2, "{json}");
    assert_eq!(json["worst_margin"], 2, "{json}");
    assert!(!place.run(&["status", "--quick"]).expect(0).out.contains("orphaned"));
}

#[test]
fn credentials_that_may_delete_are_no_writers() {
    let place = Place::new();
    place.init();
    let checked = place.run(&["region", "check", "a", "--as", "writer"]).expect(1);
    assert!(checked.out.contains("may not delete") && checked.out.contains("operating system"), "{}", checked.out);
    assert!(place.run(&["scrub", "--sample", "2"]).expect(2).err.contains("fraction"));
    assert!(place.run(&["scrub", "--rate", "0"]).expect(2).err.contains("megabytes"));
}

#[test]
#[cfg(unix)]
fn a_scrub_that_is_interrupted_says_what_it_saw_and_how_to_go_on() {
    let place = Place::new();
    place.init();
    place.import(&sample("flights.parquet"), "flights");
    let interrupted = |args: &[&str]| -> super::Run {
        let child = place.command(args).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2500));
        assert!(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        child.wait_with_output().unwrap().into()
    };
    // So slow that the table's data takes minutes; its log and attestations, which come first, are seen by then.
    let run = interrupted(&["scrub", "--rate", "0.01"]).expect(130);
    assert!(run.out.contains("ended early") && run.out.contains("behind flights/_"), "{}", run.out);
    assert!(run.out.contains("lakeseal scrub --resume"), "{}", run.out);
    let resumed = place.run(&["scrub", "--resume", "--json"]).expect(0).json();
    let whole = place.run(&["scrub", "--json"]).expect(0).json();
    assert_eq!(resumed["names"], whole["names"], "{resumed}\n{whole}");
}
