mod broken_off;
mod collected;
mod fewer;
mod gone;
mod invented;
mod late;
mod leases;
mod many;
mod more;
mod published;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode};

use super::replace::survives_one_hidden;
use super::*;
use crate::clock::SystemClock;
use crate::format::entry::{Ballot, EntryBody, EntryPlace};
use crate::lake::testing::{FaultStore, FaultyRegion};
use crate::lake::{InitPlan, ProfileConfig, RegionConfig, init};
use crate::region::{Quorums, layout, simulated};
use crate::register::Registers;
use crate::store::ErasureStore;

static NAMES: AtomicUsize = AtomicUsize::new(0);

/// A location that nothing else uses.
fn fresh() -> String {
    format!("memory:membership-{}", NAMES.fetch_add(1, Ordering::Relaxed))
}

/// A location whose store has faults.
fn faulty(faults: &FaultyRegion) -> String {
    let location = fresh();
    simulated::put(&location, Arc::new(FaultStore::new(Arc::new(InMemory::new()), faults.clone())));
    location
}

struct Fixture {
    dir: tempfile::TempDir,
    config: LakeConfig,
    keys: MembershipKeys,
    objects: BTreeMap<Path, Bytes>,
}

fn bytes(seed: usize, len: usize) -> Bytes {
    (0..len).map(|i| u8::try_from((i * 31 + seed * 17 + i / 251) % 256).unwrap()).collect()
}

async fn store_of(lake: &Lake) -> ErasureStore {
    let profile = lake.profile().unwrap();
    ErasureStore::new(Arc::clone(&lake.region_set), profile, lake.writer.clone(), Arc::clone(&lake.clock)).unwrap()
}

impl Fixture {
    async fn new(data: u8, parity: u8, regions: u8, location: impl Fn(u8) -> String) -> Self {
        Self::with_profile(ProfileConfig::new(data, parity), regions, location).await
    }

    async fn with_profile(mut profile: ProfileConfig, regions: u8, location: impl Fn(u8) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let region =
            |i| RegionConfig { fsync: false, timeout_ms: 5_000, ..RegionConfig::new(format!("r{i}").parse().unwrap(), location(i)) };
        (profile.segment_bytes, profile.inline_bytes) = (128 * 1024, 1024);
        let plan = InitPlan {
            config_path: dir.path().join("lakeseal.toml"),
            name: "lake".to_owned(),
            regions: (0..regions).map(region).collect(),
            profile,
            lakes_keys: dir.path().join("lakes"),
            clock: Arc::new(SystemClock),
        };
        let config = init(plan).await.unwrap();
        let key =
            |role: &str| PrivateKey::from_file(&dir.path().join("lakes").join(config.id.to_string()).join(format!("{role}.pem"))).unwrap();
        let keys = MembershipKeys { root: key("root"), writer: key("writer") };
        Self { dir, config, keys, objects: BTreeMap::new() }
    }

    async fn lake(&self, config: &LakeConfig) -> Lake {
        let options = OpenOptions { writer: Some(self.keys.writer.clone()), clock: Arc::new(SystemClock) };
        open(config, options).await.unwrap()
    }

    /// The lake's file with some regions pointing at empty places, which are therefore down.
    fn without(&self, down: &[usize]) -> LakeConfig {
        let mut config = self.config.clone();
        for index in down {
            config.regions[*index].url = fresh();
        }
        config
    }

    /// Inline and sharded objects, overwritten and deleted ones, multipart-sized ones.
    async fn fill(&mut self) {
        let store = store_of(&self.lake(&self.config.clone()).await).await;
        for (i, len) in [0, 1, 700, 5_000, 66_000, 300_000].into_iter().enumerate() {
            let path = Path::from(format!("t/{i}"));
            store.put(&path, bytes(i, len).into()).await.unwrap();
            if i % 2 == 1 {
                store.put(&path, bytes(i + 9, len + 1).into()).await.unwrap();
            }
            self.objects.insert(path, if i % 2 == 1 { bytes(i + 9, len + 1) } else { bytes(i, len) });
        }
        let gone = Path::from("t/gone");
        store.put(&gone, bytes(3, 3_000).into()).await.unwrap();
        store.delete(&gone).await.unwrap();
        store.quiesce().await;
    }

    async fn check(&self, config: &LakeConfig) {
        let store = store_of(&self.lake(config).await).await;
        let listed: Vec<_> = store.list(None).map_ok(|meta| (meta.location, meta.size)).try_collect().await.unwrap();
        let expected: Vec<_> = self.objects.iter().map(|(path, bytes)| (path.clone(), bytes.len() as u64)).collect();
        assert_eq!(listed, expected);
        for (path, bytes) in &self.objects {
            let got = store.get(path).await.unwrap().bytes().await.unwrap();
            assert!(got == *bytes, "{path}");
        }
        let gone = store.get(&Path::from("t/gone")).await.unwrap_err();
        assert!(matches!(gone, object_store::Error::NotFound { .. }), "{gone}");
    }

    fn plan(&self, index: usize, location: String) -> ReplacePlan {
        let old = &self.config.regions[index];
        let with = RegionConfig { url: location, ..old.clone() };
        ReplacePlan { config_path: Some(self.dir.path().join("lakeseal.toml")), ..ReplacePlan::new(old.name.clone(), with, true) }
    }

    async fn replace(&self, plan: &ReplacePlan) -> Result<MembershipOutcome> {
        replace(&self.config, plan, &self.keys, Arc::new(SystemClock), &()).await
    }

    /// Begins a replacement, and stops it when its first configuration is published.
    async fn stop_at_wait(&self, plan: &ReplacePlan) {
        let (config, keys, plan) = (self.config.clone(), self.keys.clone(), plan.clone());
        let stopped = async move { replace(&config, &plan, &keys, Arc::new(SystemClock), &StopAtWait).await.map(|_| ()) };
        assert!(tokio::spawn(stopped).await.is_err(), "it was stopped");
    }
}

struct StopAtWait;

impl MembershipProgress for StopAtWait {
    fn step(&self, step: &MembershipStep) {
        assert!(!matches!(step, MembershipStep::Waiting(_)), "stop here");
    }
}

/// Drops `future` when it has been polled `polls` times.
async fn stopped_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn every_region_in_turn_is_replaced_and_any_two_may_be_lost_afterwards() {
    let mut fixture = Fixture::new(3, 2, 5, |_| fresh()).await;
    fixture.fill().await;
    for index in 0..5 {
        let outcome = fixture.replace(&fixture.plan(index, fresh())).await.unwrap();
        assert_eq!(outcome.number, 2 * (index as u64 + 1));
        assert!(outcome.sweep.shards > 0 && outcome.sweep.lost == 0 && outcome.late.shards == 0, "{outcome:?}");
        fixture.config = LakeConfig::load(&fixture.dir.path().join("lakeseal.toml")).unwrap();
        assert_eq!(fixture.config.regions, outcome.config.regions, "the file was rewritten");
        let lake = fixture.lake(&fixture.config).await;
        assert!(lake.down.is_empty() && lake.record.regions.iter().all(|place| place.state == RegionState::Voting), "{:?}", lake.down);
        fixture.check(&fixture.config).await;
    }
    for one in 0..5 {
        for other in 0..one {
            fixture.check(&fixture.without(&[one, other])).await;
        }
    }
    let store = store_of(&fixture.lake(&fixture.without(&[0, 4])).await).await;
    store.put(&Path::from("t/1"), bytes(77, 40_000).into()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn three_and_four_regions_are_replaced_one_by_one_as_well() {
    for (data, parity, n) in [(2, 1, 3), (2, 2, 4)] {
        let mut fixture = Fixture::new(data, parity, n, |_| fresh()).await;
        fixture.fill().await;
        for index in 0..usize::from(n) {
            fixture.config = fixture.replace(&fixture.plan(index, fresh())).await.unwrap().config;
        }
        for down in 0..usize::from(n) {
            fixture.check(&fixture.without(&[down])).await;
        }
    }
}

#[tokio::test]
async fn a_wiped_directory_is_replaced_by_an_empty_one_and_keeps_every_acknowledged_write() {
    let places = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::new(2, 2, 4, |i| places.path().join(format!("r{i}")).display().to_string()).await;
    fixture.fill().await;
    std::fs::remove_dir_all(places.path().join("r2")).unwrap();
    let new = places.path().join("new").display().to_string();
    let plan = ReplacePlan { wait: Duration::ZERO, ..fixture.plan(2, new) };
    let outcome = fixture.replace(&plan).await.unwrap();
    assert!(outcome.sweep.shards > 0, "{outcome:?}");
    fixture.config = outcome.config;
    std::fs::remove_dir_all(places.path().join("r0")).unwrap();
    fixture.check(&fixture.config).await;
    assert!(!places.path().join("r2").exists(), "the old place is left alone");
}

#[tokio::test]
async fn a_replacement_that_is_stopped_anywhere_goes_on_when_it_is_called_again() {
    let mut polls = 1;
    let mut stops = 0;
    loop {
        // Directories: every request of theirs is waited for, and so is a place to stop.
        let places = tempfile::tempdir().unwrap();
        let mut fixture = Fixture::new(2, 1, 3, |i| places.path().join(format!("r{i}")).display().to_string()).await;
        fixture.fill().await;
        std::fs::remove_dir_all(places.path().join("r1")).unwrap();
        let new = places.path().join("new").display().to_string();
        let plan = ReplacePlan { wait: Duration::ZERO, ..fixture.plan(1, new) };
        if stopped_after(polls, fixture.replace(&plan)).await.is_some() {
            break;
        }
        stops += 1;
        // Clients with the old file go on meanwhile, without the region.
        let store = store_of(&fixture.lake(&fixture.without(&[1])).await).await;
        for (path, value) in [("between", bytes(4, 20_000)), ("t/3", bytes(5, 10))] {
            store.put(&Path::from(path), value.clone().into()).await.unwrap();
            fixture.objects.insert(Path::from(path), value);
        }
        store.quiesce().await;
        fixture.check(&fixture.without(&[1])).await;
        // And once more, a little later, with the file that is there now.
        let file = LakeConfig::load(&fixture.dir.path().join("lakeseal.toml")).unwrap();
        let again = LakeConfig { regions: file.regions, ..fixture.config.clone() };
        let _stopped = stopped_after(polls / 2, replace(&again, &plan, &fixture.keys, Arc::new(SystemClock), &())).await;
        let outcome = fixture.replace(&plan).await.unwrap();
        assert_eq!(outcome.number, 2);
        fixture.config = outcome.config;
        for down in 0..3 {
            fixture.check(&fixture.without(&[down])).await;
        }
        // So fine that machines which take fewer turns stop often enough, too.
        polls += 1 + polls / 8;
    }
    assert!(stops > 10, "{stops}");
}

#[tokio::test(start_paused = true)]
async fn writers_go_on_while_a_region_is_replaced_and_lose_nothing() {
    let mut fixture = Fixture::new(3, 2, 5, |_| fresh()).await;
    fixture.fill().await;
    // The old region is fenced: until the file names the new place, writers are without it.
    let (fenced, file) = (fixture.without(&[3]), fixture.dir.path().join("lakeseal.toml"));
    let config = || {
        let now = LakeConfig::load(&file).unwrap();
        if now.regions[3].url == fixture.config.regions[3].url { fenced.clone() } else { now }
    };
    let writer = async {
        let mut store = store_of(&fixture.lake(&config()).await).await;
        let (mut written, mut reopened) = (BTreeMap::new(), 0);
        for i in 0..120 {
            let (path, value) = (Path::from(format!("w/{i}")), bytes(i, if i % 3 == 0 { 9_000 } else { 90 }));
            for attempt in 0.. {
                match store.put_opts(&path, value.clone().into(), PutMode::Create.into()).await {
                    Ok(_) => break,
                    // A write whose outcome was not known may have happened.
                    Err(object_store::Error::AlreadyExists { .. }) if attempt > 0 => break,
                    Err(error) => {
                        assert!(attempt < 3, "{error}");
                        reopened += 1;
                        store = store_of(&fixture.lake(&config()).await).await;
                    }
                }
            }
            written.insert(path, value);
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        store.quiesce().await;
        (written, reopened)
    };
    let plan = fixture.plan(3, fresh());
    let ((written, reopened), outcome) = tokio::join!(writer, async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        fixture.replace(&plan).await.unwrap()
    });
    assert!(reopened >= 1, "a client learned that the lake's regions changed");
    fixture.config = outcome.config;
    fixture.objects.extend(written);
    for down in 0..5 {
        fixture.check(&fixture.without(&[down, (down + 2) % 5])).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_knows_the_regions_before_is_told_to_open_the_lake_again_and_reads_nothing_wrong() {
    let mut fixture = Fixture::new(3, 2, 5, |_| fresh()).await;
    fixture.fill().await;
    let stale = store_of(&fixture.lake(&fixture.without(&[1])).await).await;
    let outcome = fixture.replace(&fixture.plan(1, fresh())).await.unwrap();
    fixture.config = outcome.config;
    // Its lease is over: what it read could be old by now.
    let error = stale.get(&Path::from("t/1")).await.unwrap_err().to_string();
    assert!(error.contains("open it again"), "{error}");
    let path = Path::from("t/0");
    let store = store_of(&fixture.lake(&fixture.config).await).await;
    store.put(&path, bytes(50, 60).into()).await.unwrap();
    store.quiesce().await;
    let error = stale.get(&path).await.unwrap_err().to_string();
    assert!(error.contains("open it again"), "{error}");
    let error = stale.put(&Path::from("t/new"), bytes(1, 9).into()).await.unwrap_err().to_string();
    assert!(error.contains("open it again"), "{error}");
    fixture.objects.insert(path, bytes(50, 60));
    fixture.check(&fixture.config).await;
    // The file that names the old place still opens, without that region, and says what to write.
    let lake = fixture.lake(&fixture.without(&[1])).await;
    assert!(lake.down.len() == 1, "{:?}", lake.down);
}

#[tokio::test(start_paused = true)]
async fn late_votes_of_clients_of_the_configuration_before_decide_what_they_decide() {
    let value = Bytes::from_static(b"late");
    let path = Path::from(format!("{}/late", layout::SYSTEM_SEGMENT));
    // Of five regions the second is replaced; its vote was cast before, by a client whose other votes come after all is done.
    // Or it is replaced, and the one in its place as well, before that was told everything.
    for (late, twice) in (0..16_u8).flat_map(|late| [(late, false), (late, true)]) {
        let fixture = Fixture::new(3, 2, 5, |_| fresh()).await;
        let before = fixture.lake(&fixture.config).await;
        if twice {
            fixture.stop_at_wait(&fixture.plan(1, fresh())).await;
        }
        let outcome = fixture.replace(&fixture.plan(1, fresh())).await.unwrap();
        let voters = [0, 2, 3, 4].into_iter().enumerate().filter(|(bit, _)| late & (1 << bit) != 0).map(|(_, region)| region);
        let mut votes = 1;
        for index in voters {
            let place = EntryPlace {
                lake: fixture.config.id,
                configuration: before.region_set.configuration(),
                region: index,
                path: path.as_ref(),
                slot: 0,
                seq: 0,
            };
            let entry = EntryBody::Accept(Ballot::FAST, value.clone()).seal(&place, &fixture.keys.writer).unwrap();
            let region = before.region_set.region(index).unwrap();
            region.create(&layout::entry_key(&path, 0, 0).unwrap(), entry.into()).await.unwrap();
            votes += 1;
        }
        let changed = Fixture { config: outcome.config, ..fixture };
        // What the late client counts, with the vote that nobody else sees, is what everybody must see.
        let decided = votes >= 4;
        for down in [[0, 2], [2, 3], [3, 4], [0, 4], [0, 3], [2, 4]] {
            let lake = changed.lake(&changed.without(&down)).await;
            let registers = Registers::new(Arc::clone(&lake.region_set), lake.writer.clone());
            match registers.newest(&path).await {
                Ok(found) if decided => assert_eq!(found.map(|found| found.value), Some(value.clone()), "late {late:b}, down {down:?}"),
                Ok(_) => {}
                // Two of five are down and the new region does not count: fewer than a quorum.
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
            }
            registers.quiesce().await;
        }
        let lake = changed.lake(&changed.config).await;
        let registers = Registers::new(Arc::clone(&lake.region_set), lake.writer.clone());
        let found = registers.newest(&path).await.unwrap();
        assert!(!decided || found.is_some_and(|found| found.value == value), "late {late:b}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_replaced_is_refused_before_anything_is_written() {
    let fixture = Fixture::new(2, 1, 3, |_| fresh()).await;
    let plan = fixture.plan(1, fresh());
    let refused = async |plan: ReplacePlan, keys: &MembershipKeys| {
        replace(&fixture.config, &plan, keys, Arc::new(SystemClock), &()).await.unwrap_err().kind()
    };
    assert_eq!(refused(ReplacePlan { fenced: false, ..plan.clone() }, &fixture.keys).await, ErrorKind::InvalidInput);
    assert_eq!(refused(fixture.plan(1, fixture.config.regions[1].url.clone()), &fixture.keys).await, ErrorKind::InvalidInput);
    assert_eq!(refused(fixture.plan(1, fixture.config.regions[2].url.clone()), &fixture.keys).await, ErrorKind::Config);
    let writer = MembershipKeys { root: fixture.keys.writer.clone(), writer: fixture.keys.writer.clone() };
    assert_eq!(refused(plan.clone(), &writer).await, ErrorKind::Permission);
    let name: RegionName = "r9".parse().unwrap();
    assert_eq!(refused(ReplacePlan { region: name, ..plan }, &fixture.keys).await, ErrorKind::InvalidInput);
    assert_eq!(fixture.lake(&fixture.config).await.record.number, 0);

    let small = Fixture::new(1, 1, 2, |_| fresh()).await;
    assert_eq!(small.replace(&small.plan(0, fresh())).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test(start_paused = true)]
async fn a_second_change_waits_for_the_first() {
    let fixture = Fixture::new(2, 2, 4, |_| fresh()).await;
    let change_all = |index: usize, place: &str| fixture.plan(index, place.to_owned());
    let (first, second) = (fresh(), fresh());
    fixture.stop_at_wait(&change_all(1, &first)).await;
    let config = LakeConfig::load(&fixture.dir.path().join("lakeseal.toml")).unwrap();
    let again = Fixture { config: LakeConfig { regions: config.regions, ..fixture.config.clone() }, ..fixture };
    let error = again.replace(&again.plan(2, second.clone())).await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("r1"), "{error}");
    let outcome = again.replace(&again.plan(1, first)).await.unwrap();
    assert_eq!(outcome.number, 2);
    let last = Fixture { config: outcome.config, ..again };
    assert_eq!(last.replace(&last.plan(2, second)).await.unwrap().number, 4);
}

#[test]
fn quorums_that_cannot_do_without_one_region_are_known() {
    let can = |n, b| Quorums::new(n, b).is_ok_and(survives_one_hidden);
    assert!(!can(1, 0) && !can(2, 0));
    for n in 3..=16 {
        assert!(can(n, 0), "{n}");
    }
    assert!(can(5, 1) && !can(3, 1));
}
