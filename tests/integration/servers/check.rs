//! Which servers can be regions: every test of `lakeseal region check` over each.

use std::time::Instant;

use lakeseal::region::{CheckReport, check};

use super::{Server, Servers};

async fn checked(server: &Server) -> CheckReport {
    let store = server.open(&server.name, "checked");
    let start = Instant::now();
    let report = check(&store).await;
    for result in &report.results {
        let word = if result.passed { "passed" } else { "FAILED" };
        println!("{}: {}: {word}: {}", server.name, result.name, result.detail.lines().next().unwrap_or_default());
    }
    println!("{}: checked in {} ms", server.name, start.elapsed().as_millis());
    report
}

fn failed(report: &CheckReport) -> Vec<&str> {
    report.results.iter().filter(|result| !result.passed).map(|result| result.name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_region_passes_the_check() {
    let Some(servers) = Servers::for_test("every_region_passes_the_check").await else { return };
    for server in &servers.regions {
        assert!(checked(server).await.passed(), "{}", server.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_creates_race_or_ignore_conditions_is_refused() {
    let Some(servers) = Servers::for_test("a_server_whose_creates_race_or_ignore_conditions_is_refused").await else { return };
    for name in ["s3s-fs", "s3rver"] {
        let Some(server) = servers.fixtures.iter().find(|server| server.name == name) else {
            eprintln!("SKIPPED: {name} is not installed");
            continue;
        };
        let report = checked(server).await;
        assert!(failed(&report).contains(&"create race"), "{name}: {report:?}");
        assert!(report.results[0].detail.contains("won"), "{name} must fail by its answers: {report:?}");
    }
    match servers.fixtures.iter().find(|server| server.name == "moto") {
        // Nothing is promised of it: what it does is written down.
        Some(moto) => println!("moto fails {:?}", failed(&checked(moto).await)),
        None => eprintln!("SKIPPED: moto is not installed"),
    }
}
