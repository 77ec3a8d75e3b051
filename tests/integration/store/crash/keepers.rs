//! What keeps a lake in order is killed in the middle of it: the objects stay what they are, the next run ends it, and the one after that
//! finds nothing to do.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::time::Duration;

use lakeseal::store::ScrubOptions;

use super::lake::{CrashLake, again, environment};
use super::{PROFILES, arm, verify};

pub const REPAIR: [&str; 6] =
    ["mark.after-marker", "mark.before-marker", "repair.after-shard", "repair.before-shard", "teach.after-entry", "teach.before-entry"];

/// The keeper that is killed. Not a test by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by other tests"]
async fn child_repairs() {
    let Some(dir) = environment("DIR") else { return println!("nothing to do: other tests start this one") };
    let lake = CrashLake::at(dir.into());
    let store = lake.open().await;
    let mut journal = lake.journal_of("-keeper");
    let hits = arm(&REPAIR, environment("KILL"));
    let options = ScrubOptions { repair: true, verify: true, settle: Duration::ZERO, ..ScrubOptions::default() };
    let report = store.scrub(&options, &()).await.unwrap();
    assert!(report.is_clean(), "{report:#?}");
    store.quiesce().await;
    for (name, count) in hits.lock().unwrap().iter() {
        journal.note(&format!("hits {name} {count}"));
    }
    journal.note(&format!("found {}", report.findings_total));
}

/// Runs the keeper; what it noted when it came to its end.
fn run(lake: &CrashLake, directory: &Path, kill: Option<(&str, u32)>) -> Option<String> {
    let killed = kill.map(|(name, hit)| format!("{name}:{hit}"));
    let before = lake.read_journal_of("-keeper").len();
    let variables = [("DIR", directory.to_str()), ("KILL", killed.as_deref())];
    let output = again("store::crash::keepers::child_repairs", &variables).output().unwrap();
    let log = || String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let journal = lake.read_journal_of("-keeper").split_off(before);
    if journal.contains("found ") {
        assert!(output.status.success(), "{kill:?}: {}", log());
        return Some(journal);
    }
    assert_eq!(output.status.signal(), Some(9), "{kill:?}: the keeper ended otherwise than by its own SIGKILL: {}", log());
    None
}

fn found(journal: &str) -> u64 {
    journal.lines().find_map(|line| line.strip_prefix("found ")).unwrap().parse().unwrap()
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() { copy_tree(&path, &to.join(name)) } else { std::fs::copy(&path, to.join(name)).map(|_| ()).unwrap() }
    }
}

fn flip_all(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            flip_all(&path);
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
}

/// As much as 3+2 tolerates: one region lost its shards and two of its registers, another has a bad bit in every shard.
fn damage(lake: &CrashLake) {
    std::fs::remove_dir_all(lake.region(1).join("d")).unwrap();
    for register in ["i/t-/large!", "i/t-/copy!"] {
        std::fs::remove_dir_all(lake.region(1).join(register)).unwrap();
    }
    flip_all(&lake.region(3).join("d"));
}

async fn repair_killed_at(places: impl Fn(u32, u32) -> Vec<u32>) -> u32 {
    let template = tempfile::tempdir().unwrap();
    let original = CrashLake::made(template.path(), PROFILES[0]).await;
    let output = again("store::crash::child_runs_the_script", &[("DIR", template.path().to_str()), ("KILL", None)]).output().unwrap();
    assert!(output.status.success());
    let journal = original.read_journal();
    damage(&original);
    let damaged = || {
        let directory = tempfile::tempdir().unwrap();
        copy_tree(template.path(), directory.path());
        let lake = CrashLake::at(directory.path().to_owned());
        (directory, lake)
    };
    let (directory, lake) = damaged();
    let noted = run(&lake, directory.path(), None).unwrap();
    assert!(found(&noted) > 0, "there was nothing to repair");
    let hits: BTreeMap<String, u32> = noted
        .lines()
        .filter_map(|line| line.strip_prefix("hits ")?.split_once(' '))
        .map(|(name, count)| (name.to_owned(), count.parse().unwrap()))
        .collect();
    let mut kills = 0;
    for (number, point) in (0u32..).zip(REPAIR) {
        let last = *hits.get(point).unwrap_or_else(|| panic!("the repair never passes {point}"));
        for hit in places(number, last) {
            let case = format!("repair killed at {point}:{hit}");
            let (directory, lake) = damaged();
            let mut hit = hit;
            while run(&lake, directory.path(), Some((point, hit))).is_some() {
                assert!(hit > 1, "{point} was never reached");
                hit = hit.div_ceil(2).min(hit - 1);
                std::fs::remove_dir_all(directory.path()).unwrap();
                copy_tree(template.path(), directory.path());
            }
            kills += 1;
            verify::intact(&lake, &journal, &case).await;
            let ended = run(&lake, directory.path(), None).unwrap();
            verify::intact(&lake, &journal, &case).await;
            let again = run(&lake, directory.path(), None).unwrap();
            assert_eq!(found(&again), 0, "{case}: a second run still found something; the first found {}", found(&ended));
        }
    }
    kills
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_killed_at_any_step_loses_nothing_and_is_ended_by_the_next() {
    repair_killed_at(|number, last| vec![1 + (number * 5 + 2) % last]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes; scripts/crash.sh runs it"]
async fn a_repair_killed_at_the_first_second_and_last_hit_of_every_step_is_ended_by_the_next() {
    let kills = repair_killed_at(|_, last| {
        let mut hits = vec![1, 2.min(last), last];
        hits.dedup();
        hits
    })
    .await;
    println!("repairs were killed {kills} times; each was ended by the next, and the one after that found nothing");
}
