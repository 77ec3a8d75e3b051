//! A lake over real servers. `tests/servers/run.py` starts them and says where they are in `LAKESEAL_TEST_REGIONS`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::cli::{Place, sample};

#[derive(Deserialize)]
struct Server {
    name: String,
    url: String,
    pid: Option<u32>,
}

/// The servers that are running, or nothing, said loudly.
fn servers(test: &str) -> Option<Vec<Server>> {
    let Ok(text) = std::env::var("LAKESEAL_TEST_REGIONS") else {
        eprintln!("SKIPPED {test}: no servers; start them with tests/servers/run.py");
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

fn files_below(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, into) } else { into.push(path) }
    }
}

/// Turns a bit over in the middle of every shard that a directory region holds; says how many.
fn damage_shards(region: &Path) -> usize {
    let mut shards = Vec::new();
    files_below(&region.join("d"), &mut shards);
    for shard in &shards {
        let mut bytes = fs::read(shard).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(shard, bytes).unwrap();
    }
    shards.len()
}

const QUERY: &str = "SELECT count(*) AS n, sum(delay) AS delay, min(distance) AS least FROM flights";

#[test]
fn a_lake_over_servers_survives_one_killed_and_another_corrupted() {
    let Some(servers) = servers("a_lake_over_servers_survives_one_killed_and_another_corrupted") else { return };
    let place = Place::new();
    let regions: Vec<String> = servers.iter().map(|server| format!("--region={}={}", server.name, server.url)).collect();
    let mut args = vec!["init", "--data", "3", "--parity", "2"];
    args.extend(regions.iter().map(String::as_str));
    place.run(&args).expect(0);
    let checked = place.run(&["region", "check"]).expect(0);
    println!("{}", checked.out);

    place.run(&["keys", "new", "--role", "sealer"]).expect(0);
    let flights = sample("flights.parquet");
    place.run(&["import", flights.to_str().unwrap(), "--table", "flights"]).expect(0);
    place.run(&["seal", "flights"]).expect(0);
    let healthy = place.run(&["sql", "-c", QUERY, "--format", "csv"]).expect(0).out;
    place.run(&["audit", "flights"]).expect(0);

    let victim = servers.iter().find(|server| server.url.starts_with("s3:")).unwrap();
    let group = format!("-{}", victim.pid.unwrap());
    assert!(Command::new("kill").args(["-KILL", "--", &group]).status().unwrap().success());
    let directory = servers.iter().rfind(|server| server.url.starts_with('/')).unwrap();
    assert!(damage_shards(Path::new(&directory.url)) > 0, "the directory holds no shard to damage");

    let degraded = place.run(&["sql", "-c", QUERY, "--format", "csv"]).expect(0).out;
    assert_eq!(degraded, healthy);
    place.run(&["audit", "flights"]).expect(0);

    // Writing goes on as well: one region down and one that lies about data are within the budgets.
    place.run(&["import", flights.to_str().unwrap(), "--table", "flights"]).expect(0);
    place.run(&["audit", "flights"]).expect(3);
    let doubled = place.run(&["sql", "-c", "SELECT count(*) AS n FROM flights", "--format", "csv"]).expect(0).out;
    assert_eq!(doubled.lines().nth(1), Some("600000"));
}
