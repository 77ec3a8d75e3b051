//! `watch`: rounds, metrics, the webhook, and whether it has run.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Place;
use super::plain_tables::{append_to_delta_directory, delta_directory, sealed_folder};

/// A server that answers one POST with `status`, and gives back its body.
fn answer(listener: &TcpListener, status: &str) -> Value {
    answer_by(listener, |_| status.to_owned()).0
}

/// A server that answers one POST as it thinks of its length, and gives back its body and the answer.
fn answer_by(listener: &TcpListener, status: impl Fn(usize) -> String) -> (Value, String) {
    let deadline = Instant::now() + Duration::from_secs(240);
    listener.set_nonblocking(true).unwrap();
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) => assert!(error.kind() == std::io::ErrorKind::WouldBlock && Instant::now() < deadline, "nobody was told: {error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    stream.set_nonblocking(false).unwrap();
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "the request ends before its body does");
        bytes.extend_from_slice(&buffer[..read]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(|n| n.parse().unwrap()));
        let body = &bytes[end + 4..];
        if body.len() >= length.unwrap_or(0) {
            let status = status(body.len());
            stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
            return (serde_json::from_slice(body).unwrap(), status);
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

/// The text of `lakeseal.prom`, once it is as `wanted`.
#[track_caller]
fn reached(place: &Place, wanted: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let text = std::fs::read_to_string(place.path("lakeseal.prom")).unwrap_or_default();
        if wanted(&text) {
            return text;
        }
        assert!(Instant::now() < deadline, "it is not reached:\n{text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn poison(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, &bytes).unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    for file in super::files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(file, target).unwrap();
    }
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
        let deadline = Instant::now() + Duration::from_secs(120);
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
            assert!(Instant::now() < deadline, "{outcome} is not reached:\n{text}");
            std::thread::sleep(Duration::from_millis(50));
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

    poison(&file);
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

/// Whoever drops files by the thousand makes a long report, and no silence.
#[test]
fn thousands_of_findings_are_told_to_whoever_takes_no_long_body() {
    let place = Place::new();
    let file = sealed_folder(&place);
    poison(&file);
    for n in 0..5_000 {
        std::fs::write(place.path(&format!("folder/{}-{n:05}.parquet", "x".repeat(150))), "PAR1").unwrap();
    }
    let (url, listener) = listen();
    let told = std::thread::spawn(move || {
        answer_by(&listener, |length| if length > 256 * 1024 { "413 Payload Too Large" } else { "204 No Content" }.to_owned())
    });
    place.run(&["watch", "./folder", "--once", "--webhook", &url]).expect(1);
    let (told, status) = told.join().unwrap();
    assert_eq!(status, "204 No Content");
    assert_eq!((&told["outcome"], &told["report"]["summary"]["unsealed"]), (&"mismatch".into(), &5_000.into()));
    let shown = told["report"]["findings"].as_array().unwrap();
    assert_eq!((shown.len(), &shown[0]["verdict"], &shown[0]["file"]), (100, &"modified".into(), &"part-0.parquet".into()));
    assert!(told["report"]["findings_left_out"].as_u64().unwrap() >= 4_900, "{told}");
}

#[test]
fn an_older_folder_that_takes_the_place_of_a_newer_one_is_a_roll_back() {
    let place = Place::new();
    delta_directory(&place);
    place.run(&["seal", "./delta"]).expect(0);
    copy_folder(&place.path("delta"), &place.path("older"));
    append_to_delta_directory(&place);
    place.run(&["seal", "./delta"]).expect(0);
    let watch = ["watch", "./delta", "--interval", "1", "--metrics", "lakeseal.prom", "--pin", "pins.json"];
    let running = Running(place.command(&watch[..6]).spawn().unwrap());
    let is = |text: &str, key: &str| metric(text, &format!("{key}}}")).is_some_and(|value| value >= 1.0);
    reached(&place, |text| is(text, "lakeseal_audit_outcome{table=\"./delta\",outcome=\"intact\""));
    std::fs::rename(place.path("delta"), place.path("newer")).unwrap();
    std::fs::rename(place.path("older"), place.path("delta")).unwrap();
    reached(&place, |text| is(text, "lakeseal_audit_findings{table=\"./delta\",verdict=\"rolled_back\""));
    drop(running);
    // Without what a watch remembers, the older folder is good by itself; a file of pins outlives the watch.
    place.run(&["watch", "./delta", "--once"]).expect(0);
    std::fs::rename(place.path("delta"), place.path("older")).unwrap();
    std::fs::rename(place.path("newer"), place.path("delta")).unwrap();
    place.run(&["watch", "./delta", "--once", "--pin", "pins.json"]).expect(0);
    std::fs::rename(place.path("delta"), place.path("newer")).unwrap();
    std::fs::rename(place.path("older"), place.path("delta")).unwrap();
    assert!(place.run(&["watch", "./delta", "--once", "--pin", "pins.json"]).expect(1).out.contains("rolled_back"));
    // Pins that cannot be kept are no reason to be silent about what is wrong, and a reason not to end well.
    place.run(&["watch", "./delta", "--once", "--pin", "no/such/pins.json"]).expect(2).says(&["pins.json"]);
}

#[test]
fn a_watch_goes_on_when_the_regions_of_its_lake_change() {
    let place = Place::new();
    place.init();
    place.import(&place.csv("rows.csv", 0, 200), "scores");
    place.run(&["seal", "scores"]).expect(0);
    let watch = place.command(&["watch", "scores", "--interval", "1", "--metrics", "lakeseal.prom"]).spawn().unwrap();
    let _watch = Running(watch);
    let runs = |text: &str| metric(text, "lakeseal_audit_runs_total{table=\"scores\"}").unwrap_or(0.0);
    let intact = |text: &str| metric(text, "lakeseal_audit_outcome{table=\"scores\",outcome=\"intact\"}") == Some(1.0);
    reached(&place, intact);
    place.run(&["region", "replace", "b", "--with", "./r/b2", "--fenced", "--no-wait", "--no-fsync"]).expect(0);
    // For longer than a look at the regions lasts, so that the watch must have met the change.
    std::thread::sleep(Duration::from_secs(25));
    let text = std::fs::read_to_string(place.path("lakeseal.prom")).unwrap();
    let (ran, read) = (runs(&text), Instant::now());
    reached(&place, |text| intact(text) && runs(text) >= ran + 2.0);
    assert!(read.elapsed() < Duration::from_secs(60));
}

#[test]
fn as_many_findings_elsewhere_are_news_also_to_the_next_run() {
    let place = Place::new();
    std::fs::create_dir(place.path("folder")).unwrap();
    let parts = ["a.parquet", "b.parquet"].map(|name| place.path("folder").join(name));
    for part in &parts {
        std::fs::copy(super::sample("flights.parquet"), part).unwrap();
    }
    place.run(&["keys", "new", "--role", "sealer"]).expect(0);
    place.run(&["seal", "./folder"]).expect(0);
    let (url, listener) = listen();
    let once = |code: i32| {
        place.run(&["watch", "./folder", "--once", "--metrics", "lakeseal.prom", "--webhook", &url]).expect(code);
    };
    let told = |code: i32| {
        let listener = listener.try_clone().unwrap();
        let told = std::thread::spawn(move || answer(&listener, "204 No Content"));
        once(code);
        told.join().unwrap()
    };
    let untold = |code: i32| {
        once(code);
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "somebody was told what is no news");
    };
    untold(0);
    poison(&parts[0]);
    assert_eq!(told(1)["report"]["findings"][0]["file"], "a.parquet");
    untold(1);
    // One is healed, another is poisoned: as many findings, and news.
    poison(&parts[0]);
    poison(&parts[1]);
    let body = told(1);
    assert_eq!((&body["before"], &body["report"]["findings"][0]["file"]), (&"mismatch".into(), &"b.parquet".into()));
    poison(&parts[0]);
    let body = told(1);
    let found = body["report"]["findings"].as_array().unwrap();
    assert!(["a.parquet", "b.parquet"].iter().all(|file| found.iter().any(|finding| finding["file"] == *file)), "{body}");
    let text = std::fs::read_to_string(place.path("lakeseal.prom")).unwrap();
    assert_eq!(metric(&text, "lakeseal_audit_runs_total{table=\"./folder\"}"), Some(5.0), "{text}");
}

#[test]
fn what_cannot_be_written_ends_no_watch_and_hides_no_mismatch() {
    let place = Place::new();
    let file = sealed_folder(&place);
    let args = ["watch", "./folder", "--metrics", "later/lakeseal.prom", "--interval", "1"];
    let running = Running(place.command(&args).stderr(Stdio::null()).spawn().unwrap());
    std::thread::sleep(Duration::from_secs(5));
    std::fs::create_dir(place.path("later")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while !place.path("later/lakeseal.prom").exists() {
        assert!(Instant::now() < deadline, "the watch has ended");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(running);
    let once = ["watch", "./folder", "--once", "--metrics", "no/such/lakeseal.prom"];
    place.run(&once).expect(2).says(&["metrics could not be written"]);
    poison(&file);
    assert!(place.run(&once).expect(1).says(&["metrics could not be written"]).out.contains("MISMATCH"));
}

/// Whoever takes all files that a process may open must not end the metrics for ever.
#[cfg(unix)]
#[test]
fn metrics_are_served_again_after_there_were_too_many_callers() {
    let place = Place::new();
    sealed_folder(&place);
    let lakeseal = place.command(&["watch", "./folder", "--listen", "127.0.0.1:0", "--interval", "100000"]);
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""]).arg(lakeseal.get_program()).args(lakeseal.get_args());
    limited.current_dir(place.dir.path()).env("LAKESEAL_HOME", place.path("home")).env("NO_COLOR", "1");
    let mut running = Running(limited.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(running.0.stdout.take().unwrap()));
    let first = lines.next().unwrap().unwrap();
    let address = first.strip_prefix("metrics are at http://").unwrap().strip_suffix("/metrics").unwrap().to_owned();
    // The first round is over.
    assert!(lines.next().unwrap().unwrap().contains("intact"));
    let callers: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(&address).unwrap()).collect();
    std::thread::sleep(Duration::from_secs(1));
    drop(callers);
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("lakeseal_audit_outcome"), "{text}");
}

#[test]
fn a_webhook_that_is_mistyped_keeps_its_secret() {
    let place = Place::new();
    sealed_folder(&place);
    let run = place.run(&["watch", "./folder", "--once", "--webhook", "htps://host.example/SECRET"]).expect(2).says(&["host.example"]);
    assert!(!run.err.contains("SECRET"), "{}", run.err);
    let mut command = place.command(&["watch", "./folder", "--once"]);
    let run = super::Run::from(command.env("LAKESEAL_WEBHOOK", "htps://host.example/SECRET").output().unwrap());
    assert!(!run.expect(2).says(&["host.example"]).err.contains("SECRET"));
    let mut help = place.command(&["watch", "--help"]);
    let run = super::Run::from(help.env("LAKESEAL_WEBHOOK", "https://host.example/SECRET").output().unwrap()).expect(0);
    assert!(run.out.contains("LAKESEAL_WEBHOOK") && !run.out.contains("SECRET"), "{}", run.out);
    // The variable is there for all commands of a shell; a check of the metrics needs no webhook.
    std::fs::write(place.path("old.prom"), "lakeseal_watch_last_round_timestamp_seconds 1000.0\n").unwrap();
    let mut check = place.command(&["watch", "--check", "old.prom"]);
    let run = super::Run::from(check.env("LAKESEAL_WEBHOOK", "https://host.example/SECRET").output().unwrap()).expect(2);
    assert!(run.out.contains("does not run"), "{}", run.err);
    let pins = "http://user:SECRET@127.0.0.1:9/pins.json?token=SECRET";
    let run = place.run(&["audit", "./folder", "--pin", pins]).expect(2).says(&["127.0.0.1:9/pins.json"]);
    assert!(!run.err.contains("SECRET"), "{}", run.err);
}
