//! What keeps a lake in order is killed in the middle of it: the objects stay what they are, the next run ends it, and the one after that
//! finds nothing to do.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lakeseal::clock::SystemClock;
use lakeseal::key::PrivateKey;
use lakeseal::lake::RegionConfig;
use lakeseal::membership::{self, AddPlan, MembershipKeys, ReplacePlan, RetirePlan};
use lakeseal::region::directory::DirectoryStore;
use lakeseal::store::{CollectOptions, ErasureStore, ScrubOptions};
use object_store::ObjectStoreExt as _;

use super::lake::{CrashLake, Shape, again, environment};
use super::{POINTS, PROFILES, arm, verify};
use crate::store::content;

pub const REPAIR: [&str; 6] =
    ["mark.after-marker", "mark.before-marker", "repair.after-shard", "repair.before-shard", "teach.after-entry", "teach.before-entry"];

pub const COLLECT: [&str; 16] = [
    "collect.after-abort",
    "collect.after-binding",
    "collect.after-confirmation",
    "collect.after-entry",
    "collect.after-orphan",
    "collect.after-republish",
    "collect.after-shard",
    "collect.after-stub",
    "collect.after-win",
    "collect.before-abort",
    "collect.before-binding",
    "collect.before-entry",
    "collect.before-orphan",
    "collect.before-republish",
    "collect.before-shard",
    "collect.before-stub",
];

pub const REPLACE: [&str; 15] = [
    "handover.after-shard",
    "handover.after-shards",
    "handover.before-shard",
    "membership.after-decision",
    "membership.after-file",
    "membership.after-handed-over",
    "membership.after-id",
    "membership.after-late-sweep",
    "membership.after-newcomer-publication",
    "membership.after-publication",
    "membership.after-sweep",
    "membership.before-decision",
    "membership.before-file",
    "membership.before-handed-over",
    "membership.before-id",
];

pub const ADD: [&str; 9] = [
    "membership.after-decision",
    "membership.after-file",
    "membership.after-id",
    "membership.after-newcomer-publication",
    "membership.after-publication",
    "membership.after-sweep",
    "membership.before-decision",
    "membership.before-file",
    "membership.before-id",
];

pub const RETIRE: [&str; 11] = [
    "establish.after-entries",
    "establish.before-entries",
    "handover.after-shard",
    "handover.after-shards",
    "handover.before-shard",
    "membership.after-decision",
    "membership.after-file",
    "membership.after-publication",
    "membership.after-sweep",
    "membership.before-decision",
    "membership.before-file",
];

/// What keeps a lake in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeper {
    Repair,
    Collect,
    Replace,
    Add,
    Retire,
}

impl Keeper {
    fn points(self) -> &'static [&'static str] {
        match self {
            Self::Repair => &REPAIR,
            Self::Collect => &COLLECT,
            Self::Replace => &REPLACE,
            Self::Add => &ADD,
            Self::Retire => &RETIRE,
        }
    }

    fn child(self) -> &'static str {
        match self {
            Self::Repair => "store::crash::keepers::child_repairs",
            Self::Collect => "store::crash::keepers::child_collects",
            Self::Replace => "store::crash::keepers::child_replaces",
            Self::Add => "store::crash::keepers::child_adds",
            Self::Retire => "store::crash::keepers::child_retires",
        }
    }

    /// Nothing is retained in a lake that is collected, so that all of it can be collected at once.
    fn shape(self) -> Shape {
        match self {
            Self::Repair | Self::Replace => PROFILES[0],
            Self::Add => PROFILES[2],
            Self::Retire => Shape { spare: 1, ..PROFILES[2] },
            Self::Collect => Shape { retention_seconds: 0, ..PROFILES[0] },
        }
    }

    /// Gives the keeper something to do.
    fn prepare(self, lake: &CrashLake, directory: &Path) {
        match self {
            Self::Repair => damage(lake),
            Self::Collect => leave_orphans(directory),
            // A region is lost, with all that it voted and held.
            Self::Replace => std::fs::remove_dir_all(lake.region(1)).unwrap(),
            Self::Add => {}
            // Some decisions stand on the vote of the region that leaves.
            Self::Retire => forget_votes(lake),
        }
    }

    async fn verify(self, lake: &CrashLake, journal: &str, case: &str) {
        match self {
            Self::Repair | Self::Replace | Self::Add | Self::Retire => verify::intact(lake, journal, case).await,
            Self::Collect => verify::newest_intact(lake, case).await,
        }
    }
}

/// Runs one keeper over the lake that the environment names.
async fn keep(keeper: Keeper, work: impl AsyncFnOnce(&CrashLake, &ErasureStore) -> u64) {
    let Some(dir) = environment("DIR") else { return println!("nothing to do: other tests start this one") };
    let lake = CrashLake::at(dir.into());
    let store = lake.open().await;
    let mut journal = lake.journal_of("-keeper");
    let hits = arm(keeper.points(), environment("KILL"));
    let found = work(&lake, &store).await;
    store.quiesce().await;
    for (name, count) in hits.lock().unwrap().iter() {
        journal.note(&format!("hits {name} {count}"));
    }
    journal.note(&format!("found {found}"));
}

/// A repair that is killed. Not a test by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by other tests"]
async fn child_repairs() {
    let repair = async |_: &CrashLake, store: &ErasureStore| {
        let options = ScrubOptions { repair: true, verify: true, settle: Duration::ZERO, ..ScrubOptions::default() };
        let report = store.scrub(&options, &()).await.unwrap();
        assert!(report.is_clean(), "{report:#?}");
        report.findings_total
    };
    keep(Keeper::Repair, repair).await;
}

/// A collection that is killed. Not a test by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by other tests"]
async fn child_collects() {
    let collect = async |lake: &CrashLake, store: &ErasureStore| {
        let key = PrivateKey::from_file(&lake.key("collector")).unwrap();
        let options = CollectOptions { orphan_grace_seconds: 0, ..CollectOptions::default() };
        let report = store.collect(&options, &key, &|_| {}).await.unwrap();
        assert_eq!(report.problems, [], "{report:#?}");
        report.collected + report.shards_deleted + report.entries_deleted + report.orphans_collected + report.bindings_deleted
    };
    keep(Keeper::Collect, collect).await;
}

/// A replacement of a lost region that is killed. Not a test by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by other tests"]
async fn child_replaces() {
    let replace = async |lake: &CrashLake, _: &ErasureStore| {
        let config = lake.config();
        let name = config.regions[1].name.clone();
        DirectoryStore::new(lake.region(1).with_file_name("r1-new"), false).make_root().unwrap();
        let with = RegionConfig { fsync: false, ..RegionConfig::new(name.clone(), "r1-new") };
        let mut plan = ReplacePlan::new(name, with, true);
        plan.config_path = Some(lake.config_path());
        plan.wait = Duration::ZERO;
        let outcome = membership::replace(&config, &plan, &membership_keys(lake), Arc::new(SystemClock), &()).await.unwrap();
        assert_eq!(outcome.sweep.lost + outcome.late.lost, 0, "{outcome:#?}");
        outcome.sweep.told + outcome.late.told
    };
    keep(Keeper::Replace, replace).await;
}

fn membership_keys(lake: &CrashLake) -> MembershipKeys {
    let [root, writer] = ["root", "writer"].map(|role| PrivateKey::from_file(&lake.key(role)).unwrap());
    MembershipKeys { root, writer }
}

/// An addition of a region that is killed. Not a test by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by other tests"]
async fn child_adds() {
    let add = async |lake: &CrashLake, _: &ErasureStore| {
        let region = RegionConfig { fsync: false, ..RegionConfig::new("new".parse().unwrap(), "r-new") };
        let plan = AddPlan { config_path: Some(lake.config_path()), wait: Duration::ZERO, ..AddPlan::new(region) };
        membership::add(&lake.config(), &plan, &membership_keys(lake), Arc::new(SystemClock), &()).await.unwrap().sweep.told
    };
    keep(Keeper::Add, add).await;
}

/// A retirement of a region that is killed. Not a test by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by other tests"]
async fn child_retires() {
    let retire = async |lake: &CrashLake, _: &ErasureStore| {
        let plan = RetirePlan { config_path: Some(lake.config_path()), wait: Duration::ZERO, ..RetirePlan::new("r1".parse().unwrap()) };
        let outcome = membership::retire(&lake.config(), &plan, &membership_keys(lake), Arc::new(SystemClock), &()).await.unwrap();
        assert_eq!(outcome.sweep.lost, 0, "{outcome:#?}");
        outcome.sweep.told
    };
    keep(Keeper::Retire, retire).await;
}

/// A writer that is killed in one upload. Not a test by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by other tests"]
async fn child_uploads() {
    let (Some(dir), Some(path)) = (environment("DIR"), environment("PATH")) else {
        return println!("nothing to do: other tests start this one");
    };
    let store = CrashLake::at(dir.into()).open().await;
    let kill = environment("KILL").unwrap();
    arm(&POINTS, Some(kill.clone()));
    let bytes = content(99, 220_000);
    if kill.starts_with("put") {
        store.put(&path.as_str().into(), bytes.into()).await.unwrap();
    } else {
        let mut upload = store.put_multipart(&path.as_str().into()).await.unwrap();
        upload.put_part(bytes.into()).await.unwrap();
        upload.complete().await.unwrap();
    }
    panic!("the writer lives");
}

/// Uploads that were stopped before their vote: for slots of an object and of nothing, streamed, and streamed and bound to a slot.
fn leave_orphans(directory: &Path) {
    let uploads = [
        ("t/large", "put.after-shards:1"),
        ("t/absent", "put.after-shards:1"),
        ("t/renamed", "multipart.after-shards:1"),
        ("t/copy", "streamed.after-bind:1"),
        ("t/nothing", "streamed.after-bind:1"),
    ];
    for (path, kill) in uploads {
        let variables = [("DIR", directory.to_str()), ("PATH", Some(path)), ("KILL", Some(kill))];
        let output = again("store::crash::keepers::child_uploads", &variables).output().unwrap();
        assert_eq!(output.status.signal(), Some(9), "{path}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Runs the keeper; what it noted when it came to its end.
fn run(keeper: Keeper, lake: &CrashLake, directory: &Path, kill: Option<(&str, u32)>) -> Option<String> {
    let killed = kill.map(|(name, hit)| format!("{name}:{hit}"));
    let before = lake.read_journal_of("-keeper").len();
    let variables = [("DIR", directory.to_str()), ("KILL", killed.as_deref())];
    let output = again(keeper.child(), &variables).output().unwrap();
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

/// One region lost its votes for two objects, but not their markers.
fn forget_votes(lake: &CrashLake) {
    for register in ["i/t-/large!", "i/t-/copy!"] {
        for entry in std::fs::read_dir(lake.region(0).join(register)).unwrap() {
            let path = entry.unwrap().path();
            if path.to_str().unwrap().ends_with(".0000000000") {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
}

async fn killed_at(keeper: Keeper, places: impl Fn(u32, u32) -> Vec<u32>) -> u32 {
    let template = tempfile::tempdir().unwrap();
    let original = CrashLake::made(template.path(), keeper.shape()).await;
    let output = again("store::crash::child_runs_the_script", &[("DIR", template.path().to_str()), ("KILL", None)]).output().unwrap();
    assert!(output.status.success());
    let journal = original.read_journal();
    keeper.prepare(&original, template.path());
    let damaged = || {
        let directory = tempfile::tempdir().unwrap();
        copy_tree(template.path(), directory.path());
        let lake = CrashLake::at(directory.path().to_owned());
        (directory, lake)
    };
    let (directory, lake) = damaged();
    let noted = run(keeper, &lake, directory.path(), None).unwrap();
    assert!(found(&noted) > 0, "there was nothing to do");
    let hits: BTreeMap<String, u32> = noted
        .lines()
        .filter_map(|line| line.strip_prefix("hits ")?.split_once(' '))
        .map(|(name, count)| (name.to_owned(), count.parse().unwrap()))
        .collect();
    let mut kills = 0;
    for (number, point) in (0u32..).zip(keeper.points().iter().copied()) {
        let last = *hits.get(point).unwrap_or_else(|| panic!("{keeper:?} never passes {point}"));
        for hit in places(number, last) {
            let case = format!("{keeper:?} killed at {point}:{hit}");
            let (directory, lake) = damaged();
            let mut hit = hit;
            while run(keeper, &lake, directory.path(), Some((point, hit))).is_some() {
                assert!(hit > 1, "{point} was never reached");
                hit = hit.div_ceil(2).min(hit - 1);
                std::fs::remove_dir_all(directory.path()).unwrap();
                copy_tree(template.path(), directory.path());
            }
            kills += 1;
            keeper.verify(&lake, &journal, &case).await;
            let ended = run(keeper, &lake, directory.path(), None).unwrap();
            keeper.verify(&lake, &journal, &case).await;
            let again = run(keeper, &lake, directory.path(), None).unwrap();
            assert_eq!(found(&again), 0, "{case}: a second run still found something; the first found {}", found(&ended));
            match keeper {
                Keeper::Repair => {}
                Keeper::Collect => verify::nothing_is_left(&lake, &case).await,
                Keeper::Replace | Keeper::Add | Keeper::Retire => is_whole(&lake, &case).await,
            }
        }
    }
    kills
}

/// Every region holds all that it should, read and hashed.
async fn is_whole(lake: &CrashLake, case: &str) {
    let options = ScrubOptions { verify: true, settle: Duration::ZERO, ..ScrubOptions::default() };
    let report = lake.open().await.scrub(&options, &()).await.unwrap();
    assert_eq!(report.findings, [], "{case}");
    assert!(report.regions.iter().all(|region| region.down.is_none()), "{case}: {report:#?}");
}

/// The first hit, the second and the last.
fn first_second_last(_: u32, last: u32) -> Vec<u32> {
    let mut hits = vec![1, 2.min(last), last];
    hits.dedup();
    hits
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repair_killed_at_any_step_loses_nothing_and_is_ended_by_the_next() {
    killed_at(Keeper::Repair, |number, last| vec![1 + (number * 5 + 2) % last]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_killed_at_any_step_loses_nothing_and_is_ended_by_the_next() {
    killed_at(Keeper::Collect, |number, last| vec![1 + (number * 5 + 2) % last]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_killed_at_any_step_loses_nothing_and_is_ended_by_the_next() {
    killed_at(Keeper::Replace, |number, last| vec![1 + (number * 5 + 2) % last]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_addition_killed_at_any_step_loses_nothing_and_is_ended_by_the_next() {
    killed_at(Keeper::Add, |number, last| vec![1 + (number * 5 + 2) % last]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retirement_killed_at_any_step_loses_nothing_and_is_ended_by_the_next() {
    killed_at(Keeper::Retire, |number, last| vec![1 + (number * 5 + 2) % last]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes; scripts/crash.sh runs it"]
async fn keepers_killed_at_the_first_second_and_last_hit_of_every_step_are_ended_by_the_next() {
    for keeper in [Keeper::Repair, Keeper::Collect, Keeper::Replace, Keeper::Add, Keeper::Retire] {
        let kills = killed_at(keeper, first_second_last).await;
        println!("{keeper:?}: killed {kills} times; each was ended by the next run, and the one after that found nothing");
    }
}
