//! Processes that are really killed (SIGKILL) at every place where something becomes visible outside of them.
//!
//! A test starts its own binary again as the writer of a lake in directories. The writer works through a script and notes in a journal what
//! was acknowledged; at one hit of one failpoint it kills itself. Then the lake is opened anew: what was acknowledged is there byte for
//! byte, the step under way is invisible or whole, nothing else changed, and the lake can be written.

mod keepers;
pub mod lake;
mod random;
mod script;
mod verify;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use self::lake::{CrashLake, Shape, again, environment};
use self::script::{SCRIPT, Step, perform};

/// Every failpoint that the script passes.
const POINTS: [&str; 31] = [
    "copy.after-shards",
    "copy.after-vote",
    "decide.after-vote",
    "decide.before-vote",
    "delete.after-tombstone",
    "delete.before-tombstone",
    "directory.before-removal",
    "directory.durable",
    "directory.made-parent",
    "directory.placed",
    "directory.removed",
    "directory.staged",
    "directory.synced",
    "directory.unstaged",
    "directory.written",
    "multipart.after-complete",
    "multipart.after-shards",
    "multipart.before-abort",
    "multipart.before-complete",
    "put.after-shards",
    "register.after-entry",
    "register.after-marker",
    "register.before-entry",
    "register.before-marker",
    "rename.between",
    "segment.after-shard",
    "segment.before-shard",
    "streamed.after-bind",
    "streamed.before-bind",
    "upload.after-discard",
    "upload.before-discard",
];

/// Seconds for which the lakes keep their older versions.
const MONTH: u64 = 30 * 24 * 60 * 60;

const PROFILES: [Shape; 3] = [
    Shape { data: 3, parity: 2, spare: 0, fsync: false, retention_seconds: MONTH },
    Shape { data: 2, parity: 2, spare: 0, fsync: false, retention_seconds: MONTH },
    Shape { data: 2, parity: 1, spare: 0, fsync: false, retention_seconds: MONTH },
];

/// How often each failpoint was hit in this process.
type Hits = Arc<Mutex<BTreeMap<String, u32>>>;

/// Counts the hits of failpoints; kills this process at one of them, `name:hit`.
fn arm(points: &[&'static str], kill: Option<String>) -> Hits {
    let kill = kill.map(|text| {
        let (name, hit) = text.split_once(':').unwrap();
        (name.to_owned(), hit.parse().unwrap())
    });
    let hits = Hits::default();
    for &point in points {
        let (hits, count) = (Arc::clone(&hits), AtomicU32::new(0));
        let fatal = kill.as_ref().filter(|(name, _)| name == point).map(|(_, hit): &(String, u32)| *hit);
        let passed = move || {
            let hit = count.fetch_add(1, Ordering::SeqCst) + 1;
            if fatal == Some(hit) {
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
                loop {
                    std::thread::park();
                }
            }
            hits.lock().unwrap().insert(point.to_owned(), hit);
        };
        fail::cfg_callback(point, passed).unwrap();
    }
    hits
}

/// The writer that is killed. Not a test by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by other tests"]
async fn child_runs_the_script() {
    let Some(dir) = environment("DIR") else { return println!("nothing to do: other tests start this one") };
    let lake = CrashLake::at(dir.into());
    let store = lake.open().await;
    let mut journal = lake.journal();
    let hits = arm(&POINTS, environment("KILL"));
    for (number, step) in SCRIPT.iter().enumerate() {
        let version = perform(&store, number, step).await;
        journal.note(&format!("ack {number} {version}"));
    }
    store.quiesce().await;
    for (name, count) in hits.lock().unwrap().iter() {
        journal.note(&format!("hits {name} {count}"));
    }
    journal.note("done");
}

/// Runs the writer over a new lake and checks what it left. The hits that it counted, when it was not killed.
async fn killed_at(shape: Shape, kill: Option<(&str, u32)>) -> Option<BTreeMap<String, u32>> {
    let directory = tempfile::tempdir().unwrap();
    let lake = CrashLake::made(directory.path(), shape).await;
    let killed = kill.map(|(name, hit)| format!("{name}:{hit}"));
    let variables = [("DIR", directory.path().to_str()), ("KILL", killed.as_deref())];
    let output = again("store::crash::child_runs_the_script", &variables).output().unwrap();
    let journal = lake.read_journal();
    let finished = journal.lines().any(|line| line == "done");
    let log = || String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    if finished {
        assert!(output.status.success(), "the writer failed: {}", log());
    } else {
        assert_eq!(output.status.signal(), Some(9), "{kill:?}: the writer ended otherwise than by its own SIGKILL: {}", log());
    }
    verify::after_crash(&lake, &journal, &format!("{shape:?} {kill:?}")).await;
    finished.then(|| {
        let hits = journal.lines().filter_map(|line| line.strip_prefix("hits ")?.split_once(' '));
        hits.map(|(name, count)| (name.to_owned(), count.parse().unwrap())).collect()
    })
}

/// As [`killed_at`]; how often a place is passed may differ a little from run to run, so a hit that did not come is tried earlier.
async fn killed_at_or_before(shape: Shape, point: &str, hit: u32) {
    let mut hit = hit;
    for _ in 0..8 {
        if killed_at(shape, Some((point, hit))).await.is_none() {
            return;
        }
        assert!(hit > 1, "{point} was never reached");
        hit = (hit - 1 - hit / 8).max(1);
    }
    panic!("{point} was not reached a {hit}th time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_killed_at_any_step_loses_nothing_that_was_acknowledged() {
    let shape = PROFILES[0];
    let hits = killed_at(shape, None).await.expect("nothing was to kill the writer");
    for (number, point) in (0u32..).zip(POINTS.into_iter()) {
        let count = *hits.get(point).unwrap_or_else(|| panic!("the script never passes {point}"));
        // Somewhere between the first hit and the last, another place for each point.
        killed_at_or_before(shape, point, 1 + (number * 7 + 3) % count).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes; scripts/crash.sh runs it"]
async fn a_writer_killed_at_the_first_second_and_last_hit_of_every_step_in_every_profile() {
    let synced = Shape { fsync: true, ..PROFILES[0] };
    for shape in PROFILES.into_iter().chain([synced]) {
        let hits = killed_at(shape, None).await.expect("nothing was to kill the writer");
        let mut kills = 0;
        for point in POINTS {
            let last = *hits.get(point).unwrap_or_else(|| panic!("the script never passes {point}"));
            let mut wanted = vec![1, 2, last / 3, 2 * last / 3, last];
            wanted.retain(|hit| (1..=last).contains(hit));
            wanted.dedup();
            for hit in wanted {
                killed_at_or_before(shape, point, hit).await;
                kills += 1;
            }
        }
        println!("{shape:?}: killed {kills} times, at {} places; all that was acknowledged was there", POINTS.len());
    }
}

#[test]
fn every_failpoint_of_the_sources_is_one_where_a_test_kills() {
    // The tests of `delta::attest` kill there.
    const ATTEST: [&str; 2] = ["attest.before-create", "attest.after-create"];
    fn scan(directory: &Path, into: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                scan(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("failpoint.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                into.extend(text.split("failpoint!(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()));
            }
        }
    }
    let known = || {
        POINTS
            .iter()
            .chain(&keepers::REPAIR)
            .chain(&keepers::COLLECT)
            .chain(&keepers::REPLACE)
            .chain(&keepers::ADD)
            .chain(&keepers::RETIRE)
            .chain(&ATTEST)
            .copied()
    };
    let mut found = Vec::new();
    scan(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found.sort();
    found.dedup();
    let missing: Vec<_> = found.iter().filter(|point| !known().any(|known| known == *point)).collect();
    assert_eq!(missing, Vec::<&String>::new(), "failpoints that no test passes");
    let gone: Vec<&str> = known().filter(|point| !found.iter().any(|found| found == point)).collect();
    assert_eq!(gone, Vec::<&str>::new(), "failpoints that are no longer in the sources");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_may_not_do_would_be_noticed() {
    type Fault = fn(&CrashLake, &mut String);
    let faults: [(&str, Fault); 5] = [
        ("an acknowledged object is gone", |lake, _| {
            (0..5).for_each(|region| std::fs::remove_dir_all(lake.region(region).join("i/t-/renamed!")).unwrap());
        }),
        ("an acknowledged object has no shards", |lake, _| {
            (0..5).for_each(|region| std::fs::remove_dir_all(lake.region(region).join("d")).unwrap());
        }),
        ("steps were taken that had not begun", |_, journal| *journal = journal.lines().take(4).map(|line| format!("{line}\n")).collect()),
        ("shards lie there that no step explains", |lake, _| {
            let folder = lake.region(0).join("d/ab/abababababababababababababababab");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("0000000000000001.00000000.00"), "x").unwrap();
        }),
        ("a foreign file lies there", |lake, _| std::fs::write(lake.region(0).join("i/foreign"), "x").unwrap()),
    ];
    for (name, fault) in faults {
        let directory = tempfile::tempdir().unwrap();
        let lake = CrashLake::made(directory.path(), PROFILES[0]).await;
        let output = again("store::crash::child_runs_the_script", &[("DIR", directory.path().to_str()), ("KILL", None)]).output().unwrap();
        assert!(output.status.success());
        let mut journal = lake.read_journal();
        fault(&lake, &mut journal);
        let checked = tokio::spawn(async move { verify::after_crash(&lake, &journal, name).await }).await;
        assert!(checked.is_err_and(|failed| failed.is_panic()), "not noticed: {name}");
    }
}

/// Whether the step writes shards, which it leaves behind when it is stopped before its vote.
fn leaves_shards(step: Option<&Step>) -> bool {
    step.is_some_and(|step| !matches!(step, Step::Delete(_)))
}
