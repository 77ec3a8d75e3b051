//! The command over a lake of real servers, one of them killed and another corrupted.

use super::Servers;
use crate::cli::care::damage_shards;
use crate::cli::{Place, sample};

const QUERY: &str = "SELECT count(*) AS n, sum(delay) AS delay, min(distance) AS least FROM flights";

#[tokio::test(flavor = "multi_thread")]
async fn a_lake_over_servers_survives_one_killed_and_another_corrupted() {
    let Some(servers) = Servers::for_test("a_lake_over_servers_survives_one_killed_and_another_corrupted").await else { return };
    let place = Place::new();
    let regions: Vec<String> = servers.regions.iter().map(|server| format!("--region={}={}/command", server.name, server.url)).collect();
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

    let _down = servers.kill("weed0");
    let directory = servers.region("dir").data.join("command");
    assert!(damage_shards(&directory) > 0, "the directory holds no shard to damage");

    let degraded = place.run(&["sql", "-c", QUERY, "--format", "csv"]).expect(0).out;
    assert_eq!(degraded, healthy);
    place.run(&["audit", "flights"]).expect(0);

    // Writing goes on as well: one region down and one that lies about data are within the budgets.
    place.run(&["import", flights.to_str().unwrap(), "--table", "flights"]).expect(0);
    place.run(&["audit", "flights"]).expect(3);
    let doubled = place.run(&["sql", "-c", "SELECT count(*) AS n FROM flights", "--format", "csv"]).expect(0).out;
    assert_eq!(doubled.lines().nth(1), Some("600000"));
}
