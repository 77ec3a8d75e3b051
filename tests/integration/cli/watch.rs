//! `watch`: rounds, metrics, the webhook, and whether it has run.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::Value;

use super::Place;
use super::plain_tables::sealed_folder;

/// A server that answers one POST with `status`, and gives back its body.
fn answer(listener: &TcpListener, status: &str) -> Value {
    let (mut stream, _) = listener.accept().unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).unwrap();
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(|n| n.parse().unwrap()));
            if body.len() >= length.unwrap_or(0) {
                stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
                return serde_json::from_str(body).unwrap();
            }
        }
    }
}

fn listen() -> (String, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (format!("http://{}/hook", listener.local_addr().unwrap()), listener)
}

/// A server that takes one POST and gives back its body.
fn one_post() -> (String, std::thread::JoinHandle<Value>) {
    let (url, listener) = listen();
    (url, std::thread::spawn(move || answer(&listener, "204 No Content")))
}

/// A watch that runs until this is dropped.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The value of a metric of `./folder`, once there is one.
fn metric(text: &str, key: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

#[test]
fn what_a_full_round_found_is_found_by_all_that_follow_and_told_until_it_is_heard() {
    let place = Place::new();
    let file = sealed_folder(&place);
    let honest = std::fs::read(&file).unwrap();
    let mut bytes = honest.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();

    let (url, listener) = listen();
    // The first POST is refused, the second is taken; the third tells that all is well again.
    let posts = std::thread::spawn(move || ["400 Bad Request", "204 No Content", "204 No Content"].map(|status| answer(&listener, status)));
    let watch = place.command(&["watch", "./folder", "--interval", "1", "--metrics", "lakeseal.prom", "--webhook", &url]).spawn().unwrap();
    let watch = Running(watch);
    let rounds = |until: f64, outcome: &str| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(120);
        loop {
            let text = std::fs::read_to_string(place.path("lakeseal.prom")).unwrap_or_default();
            let ran = metric(&text, "lakeseal_audit_runs_total{table=\"./folder\"}").unwrap_or(0.0);
            let is = metric(&text, &format!("lakeseal_audit_outcome{{table=\"./folder\",outcome=\"{outcome}\"}}"));
            if outcome == "mismatch" && ran > 0.0 {
                assert_eq!(is, Some(1.0), "after {ran} rounds:\n{text}");
            }
            if ran >= until && is == Some(1.0) {
                return text;
            }
            assert!(std::time::Instant::now() < deadline, "{outcome} is not reached:\n{text}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    let text = rounds(5.0, "mismatch");
    assert_eq!(metric(&text, "lakeseal_webhook_failures_total{table=\"./folder\"}"), Some(1.0), "{text}");
    assert_eq!(metric(&text, "lakeseal_webhook_untold{table=\"./folder\"}"), Some(0.0), "{text}");
    std::fs::write(&file, &honest).unwrap();
    rounds(6.0, "intact");
    drop(watch);
    let told = posts.join().unwrap();
    let outcomes: Vec<&str> = told.iter().map(|post| post["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["mismatch", "mismatch", "intact"]);
    assert_eq!(told[0], told[1], "the same report, sent again");
    assert_eq!(told[2]["before"], "mismatch");
}

#[test]
fn a_round_ends_with_its_outcome_and_leaves_metrics() {
    let place = Place::new();
    let file = sealed_folder(&place);
    place.run(&["watch", "--check", "lakeseal.prom"]).expect(2).says(&["the watch has not run"]);
    place.run(&["watch", "./folder", "--once", "--metrics", "lakeseal.prom"]).expect(0);
    let metrics = std::fs::read_to_string(place.path("lakeseal.prom")).unwrap();
    assert!(metrics.contains("lakeseal_audit_outcome{table=\"./folder\",outcome=\"intact\"} 1\n"), "{metrics}");
    place.run(&["watch", "--check", "lakeseal.prom", "--max-age", "600"]).expect(0);
    let old = metrics.lines().map(|line| {
        if line.starts_with("lakeseal_watch_last") {
            "lakeseal_watch_last_round_timestamp_seconds 1000.0\n".to_owned()
        } else {
            format!("{line}\n")
        }
    });
    std::fs::write(place.path("old.prom"), old.collect::<String>()).unwrap();
    assert!(place.run(&["watch", "--check", "old.prom"]).expect(2).out.contains("does not run"));

    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let (url, taken) = one_post();
    place.run(&["watch", "./folder", "--once", "--metrics", "lakeseal.prom", "--webhook", &url]).expect(1);
    let told = taken.join().unwrap();
    assert_eq!((&told["table"], &told["outcome"]), (&"./folder".into(), &"mismatch".into()));
    assert_eq!(told["report"]["findings"][0]["file"], "part-0.parquet");
    let metrics = std::fs::read_to_string(place.path("lakeseal.prom")).unwrap();
    assert!(metrics.contains("lakeseal_audit_outcome{table=\"./folder\",outcome=\"mismatch\"} 1\n"), "{metrics}");
    place.run(&["watch", "./folder", "--listen", "0.0.0.0:0"]).expect(2).says(&["this machine only"]);
    place.run(&["watch", "./folder", "--once", "--webhook", "ftp://x"]).expect(2).says(&["http or https"]);
}

#[test]
fn in_a_lake_an_incremental_audit_reads_only_what_changed() {
    let place = Place::new();
    place.init();
    place.import(&place.csv("rows.csv", 0, 200), "scores");
    place.run(&["seal", "scores"]).expect(0);
    assert_eq!(place.run(&["audit", "scores", "--incremental", "--json"]).expect(0).json()["summary"]["intact"], 1);
    place.import(&place.csv("more.csv", 500, 10), "scores");
    place.run(&["watch", "scores", "--once"]).expect(3);
}
