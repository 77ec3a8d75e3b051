//! A region leaves a lake.

use super::*;
use crate::store::ScrubOptions;

impl Fixture {
    pub(super) fn retire_plan(&self, index: usize) -> RetirePlan {
        RetirePlan { config_path: Some(self.file()), ..RetirePlan::new(self.config.regions[index].name.clone()) }
    }

    pub(super) async fn retire(&self, plan: &RetirePlan) -> Result<MembershipOutcome> {
        retire(&self.config, plan, &self.keys, Arc::new(SystemClock), &()).await
    }

    /// Everything is where it should be, read and hashed.
    pub(super) async fn is_whole(&self) {
        let store = store_of(&self.lake(&self.config).await).await;
        let options = ScrubOptions { verify: true, settle: Duration::ZERO, ..ScrubOptions::default() };
        let report = store.scrub(&options, &()).await.unwrap();
        let bad: Vec<_> = report.findings.iter().filter(|finding| format!("{finding:?}").contains("Shard")).collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
}

#[tokio::test(start_paused = true)]
async fn regions_leave_one_by_one_and_everything_stays() {
    let mut fixture = Fixture::new(2, 1, 6, |_| fresh()).await;
    fixture.fill().await;
    for (left, n) in [(4, 6), (0, 5), (1, 4)] {
        let gone = fixture.config.regions[left].url.clone();
        let outcome = fixture.retire(&fixture.retire_plan(left)).await.unwrap();
        assert!(outcome.sweep.lost == 0, "{outcome:?}");
        fixture.config = LakeConfig::load(&fixture.file()).unwrap();
        assert!(fixture.config.regions == outcome.config.regions && fixture.config.regions.iter().all(|region| region.url != gone));
        let lake = fixture.lake(&fixture.config).await;
        assert!(lake.down.is_empty() && lake.notes.is_empty(), "{:?}", lake.down);
        assert_eq!(lake.region_set.quorums(), Quorums::new(n - 1, 0).unwrap());
        assert_eq!(lake.record.regions.iter().filter(|place| place.state == RegionState::Retired).count(), usize::from(7 - n));
        fixture.is_whole().await;
        for down in 0..usize::from(n) - 1 {
            fixture.check(&fixture.without(&[down])).await;
        }
        let store = store_of(&lake).await;
        for i in 0..6 {
            let (path, value) = (Path::from(format!("after{n}/{i}")), bytes(i, 9_000));
            store.put(&path, value.clone().into()).await.unwrap();
            fixture.objects.insert(path, value);
        }
        store.quiesce().await;
    }
    // Three are left, for three shards. A fourth comes, of a name that was there before, and one more leaves.
    let error = fixture.retire(&fixture.retire_plan(0)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("need 3 regions"), "{error}");
    fixture.config = fixture.add(&fixture.add_plan("r4", fresh())).await.unwrap().config;
    fixture.check(&fixture.config).await;
    fixture.config = fixture.retire(&fixture.retire_plan(0)).await.unwrap().config;
    fixture.is_whole().await;
    for down in 0..3 {
        fixture.check(&fixture.without(&[down])).await;
    }
    fixture.config = fixture.replace(&fixture.plan(1, fresh())).await.unwrap().config;
    fixture.is_whole().await;
}

#[tokio::test(start_paused = true)]
async fn older_versions_keep_their_shards_when_a_region_leaves() {
    let mut fixture = Fixture::new(2, 1, 5, |_| fresh()).await;
    let store = store_of(&fixture.lake(&fixture.config).await).await;
    let path = Path::from("t/versions");
    let mut versions = Vec::new();
    for i in 0..8 {
        let put = store.put(&path, bytes(i, 200_000).into()).await.unwrap();
        versions.push((put.version.unwrap(), bytes(i, 200_000)));
    }
    store.quiesce().await;
    for left in [2, 0] {
        let outcome = fixture.retire(&fixture.retire_plan(left)).await.unwrap();
        assert!(outcome.sweep.shards > 0, "{outcome:?}");
        fixture.config = outcome.config;
        fixture.is_whole().await;
        for down in 0..fixture.config.regions.len() {
            let store = store_of(&fixture.lake(&fixture.without(&[down])).await).await;
            for (version, value) in &versions {
                let options = object_store::GetOptions { version: Some(version.clone()), ..Default::default() };
                let got = store.get_opts(&path, options).await.unwrap().bytes().await.unwrap();
                assert!(got == *value, "{version}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_region_that_is_lost_can_leave_and_its_shards_are_rebuilt() {
    let mut fixture = Fixture::new(2, 1, 5, |_| fresh()).await;
    fixture.fill().await;
    fixture.config = fixture.without(&[1]);
    let outcome = fixture.retire(&fixture.retire_plan(1)).await.unwrap();
    assert!(outcome.sweep.shards > 0 && outcome.sweep.lost == 0, "{outcome:?}");
    fixture.config = outcome.config;
    fixture.is_whole().await;
    for down in 0..4 {
        fixture.check(&fixture.without(&[down])).await;
    }
}

#[tokio::test]
async fn a_retirement_that_is_stopped_anywhere_goes_on_when_it_is_called_again() {
    let (mut polls, mut stops) = (1, 0);
    loop {
        let places = tempfile::tempdir().unwrap();
        let mut fixture = Fixture::new(2, 1, 4, |i| places.path().join(format!("r{i}")).display().to_string()).await;
        fixture.fill().await;
        let plan = RetirePlan { wait: Duration::ZERO, ..fixture.retire_plan(1) };
        if stopped_after(polls, fixture.retire(&plan)).await.is_some() {
            break;
        }
        stops += 1;
        let store = store_of(&fixture.lake(&fixture.config).await).await;
        for (path, value) in [("between", bytes(4, 20_000)), ("t/3", bytes(5, 10))] {
            store.put(&Path::from(path), value.clone().into()).await.unwrap();
            fixture.objects.insert(Path::from(path), value);
        }
        store.quiesce().await;
        fixture.check(&fixture.config).await;
        let _stopped = stopped_after(polls / 2, fixture.retire(&plan)).await;
        let outcome = fixture.retire(&plan).await.unwrap();
        assert_eq!(outcome.number, 2);
        assert_eq!(fixture.retire(&plan).await.unwrap().number, 2);
        std::fs::remove_dir_all(places.path().join("r1")).unwrap();
        fixture.config = LakeConfig::load(&fixture.file()).unwrap();
        fixture.is_whole().await;
        for down in 0..3 {
            fixture.check(&fixture.without(&[down])).await;
        }
        // So fine that machines which take fewer turns stop often enough, too.
        polls += 1 + polls / 8;
    }
    assert!(stops > 8, "{stops}");
}

#[tokio::test(start_paused = true)]
async fn a_decision_that_stood_on_the_vote_of_the_region_that_leaves_stands_without_it() {
    // Three of four decide by the fast ballot; of three, all three do: without being told, two votes of three are nothing.
    let value = Bytes::from_static(b"decided");
    let path = Path::from(format!("{}/decided", layout::SYSTEM_SEGMENT));
    for silent in 0..3_u8 {
        let mut fixture = Fixture::new(2, 1, 4, |_| fresh()).await;
        let before = fixture.lake(&fixture.config).await;
        for index in (0..4).filter(|index| *index != silent) {
            let configuration = before.region_set.configuration();
            let place = EntryPlace { lake: fixture.config.id, configuration, region: index, path: path.as_ref(), slot: 0, seq: 0 };
            let entry = EntryBody::Accept(Ballot::FAST, value.clone()).seal(&place, &fixture.keys.writer).unwrap();
            let region = before.region_set.region(index).unwrap();
            region.create(&layout::entry_key(&path, 0, 0).unwrap(), entry.into()).await.unwrap();
        }
        fixture.config = fixture.retire(&fixture.retire_plan(3)).await.unwrap().config;
        for down in 0..3 {
            let lake = fixture.lake(&fixture.without(&[down])).await;
            let registers = Registers::new(Arc::clone(&lake.region_set), None);
            let found = registers.newest(&path).await.unwrap();
            assert_eq!(found.map(|found| found.value), Some(value.clone()), "{silent} silent, {down} down");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn writers_go_on_while_a_region_leaves_and_lose_nothing() {
    let mut fixture = Fixture::new(2, 1, 5, |_| fresh()).await;
    fixture.fill().await;
    let file = fixture.file();
    let writer = async {
        let mut store = store_of(&fixture.lake(&fixture.config).await).await;
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
                        store = store_of(&fixture.lake(&LakeConfig::load(&file).unwrap()).await).await;
                    }
                }
            }
            written.insert(path, value);
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        store.quiesce().await;
        (written, reopened)
    };
    let plan = fixture.retire_plan(3);
    let ((written, reopened), outcome) = tokio::join!(writer, async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        fixture.retire(&plan).await.unwrap()
    });
    assert!(reopened >= 1, "a client learned that the lake's regions changed");
    fixture.config = outcome.config;
    fixture.objects.extend(written);
    fixture.is_whole().await;
    for down in 0..4 {
        fixture.check(&fixture.without(&[down])).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_leave_is_refused_before_anything_is_written() {
    let fixture = Fixture::new(2, 2, 4, |_| fresh()).await;
    let refused = async |plan: RetirePlan, keys: &MembershipKeys| {
        retire(&fixture.config, &plan, keys, Arc::new(SystemClock), &()).await.unwrap_err().kind()
    };
    assert_eq!(refused(fixture.retire_plan(1), &fixture.keys).await, ErrorKind::InvalidInput, "four shards need four regions");
    assert_eq!(refused(RetirePlan::new("r9".parse().unwrap()), &fixture.keys).await, ErrorKind::InvalidInput);
    let writer = MembershipKeys { root: fixture.keys.writer.clone(), writer: fixture.keys.writer.clone() };
    assert_eq!(refused(fixture.retire_plan(1), &writer).await, ErrorKind::Permission);
    assert_eq!(fixture.lake(&fixture.config).await.record.number, 0);
    let small = Fixture::new(1, 1, 3, |_| fresh()).await;
    let error = small.retire(&small.retire_plan(0)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("fewer than 3"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_retired_place_is_not_taken_for_an_empty_one() {
    let mut fixture = Fixture::new(2, 1, 4, |_| fresh()).await;
    fixture.fill().await;
    let (gone, before) = (fixture.config.regions[2].url.clone(), fixture.config.clone());
    fixture.config = fixture.retire(&fixture.retire_plan(2)).await.unwrap().config;
    let error = fixture.add(&fixture.add_plan("r2", gone)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("what is left of a region"), "{error}");
    // The file of before opens, and says what to leave out.
    let lake = fixture.lake(&before).await;
    assert!(lake.down.is_empty() && lake.notes.len() == 1 && lake.notes[0].contains("remove it"), "{:?}", lake.notes);
    fixture.check(&before).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_begins_between_two_looks_is_not_joined_by_a_retirement() {
    let faults: Vec<_> = (0..5).map(|_| FaultyRegion::default()).collect();
    let places: Vec<_> = faults.iter().map(faulty).collect();
    let mut fixture = Fixture::new(2, 1, 5, |i| places[usize::from(i)].clone()).await;
    fixture.fill().await;
    let (plan, replacing) = (fixture.retire_plan(3), fixture.plan(1, fresh()));
    // The retirement looks, and its answers are slow; the replacement decides and publishes meanwhile.
    faults.iter().for_each(|fault| fault.slow_ms(100));
    let (retired, ()) = tokio::join!(fixture.retire(&plan), async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        faults.iter().for_each(|fault| fault.slow_ms(0));
        fixture.stop_at_wait(&replacing).await;
    });
    let error = retired.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("r1"), "{error}");
    let lake = fixture.lake(&fixture.config).await;
    assert_eq!((lake.record.number, lake.record.leaving()), (1, None));
    fixture.config = fixture.replace(&replacing).await.unwrap().config;
    assert_eq!(fixture.retire(&plan).await.unwrap().number, 4);
}

#[tokio::test(start_paused = true)]
async fn a_region_does_not_begin_to_leave_when_too_few_answer_to_go_on_meanwhile() {
    // Three of five decide, and three of the four that stay: two are not enough without the one that leaves.
    let mut fixture = Fixture::new(2, 2, 5, |_| fresh()).await;
    fixture.fill().await;
    fixture.config = fixture.without(&[0, 3]);
    let error = fixture.retire(&fixture.retire_plan(1)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("bring r0, r3 back"), "{error}");
    // Nothing was begun: it opens, and takes writes.
    let lake = fixture.lake(&fixture.config).await;
    assert_eq!(lake.record.number, 0);
    let store = store_of(&lake).await;
    store.put(&Path::from("t/0"), bytes(8, 80).into()).await.unwrap();
    store.quiesce().await;
    fixture.objects.insert(Path::from("t/0"), bytes(8, 80));
    fixture.check(&fixture.config).await;
    // What the error says helps.
    for index in [0, 3] {
        fixture.config = fixture.replace(&fixture.plan(index, fresh())).await.unwrap().config;
    }
    fixture.config = fixture.retire(&fixture.retire_plan(1)).await.unwrap().config;
    fixture.is_whole().await;
}

#[tokio::test(start_paused = true)]
async fn a_lake_goes_on_while_a_region_leaves_that_is_lost_before_or_on_the_way() {
    for lost_before in [true, false] {
        // With one liar, three of four and three of three decide.
        let mut fixture = Fixture::with_profile(ProfileConfig { liars: 1, ..ProfileConfig::new(2, 1) }, 4, |_| fresh()).await;
        fixture.fill().await;
        if !lost_before {
            let (config, keys, plan) = (fixture.config.clone(), fixture.keys.clone(), fixture.retire_plan(1));
            let stopped = async move { retire(&config, &plan, &keys, Arc::new(SystemClock), &StopAtWait).await.map(|_| ()) };
            assert!(tokio::spawn(stopped).await.is_err(), "it was stopped");
        }
        fixture.config = fixture.without(&[1]);
        let lake = fixture.lake(&fixture.config).await;
        assert_eq!(lake.record.leaving().is_some(), !lost_before);
        let store = store_of(&lake).await;
        let (path, value) = (Path::from("t/between"), bytes(8, 9_000));
        store.put(&path, value.clone().into()).await.unwrap();
        store.quiesce().await;
        fixture.objects.insert(path, value);
        fixture.check(&fixture.config).await;
        let outcome = fixture.retire(&fixture.retire_plan(1)).await.unwrap();
        assert_eq!((outcome.number, outcome.sweep.lost), (2, 0));
        fixture.config = outcome.config;
        fixture.is_whole().await;
        fixture.check(&fixture.config).await;
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_may_be_down_while_a_region_leaves_as_afterwards() {
    let mut fixture = Fixture::new(2, 2, 5, |_| fresh()).await;
    fixture.fill().await;
    let whole = fixture.config.clone();
    // The one that leaves is lost, and another does not answer any more.
    fixture.config = fixture.without(&[0]);
    let (config, keys, plan) = (fixture.config.clone(), fixture.keys.clone(), fixture.retire_plan(0));
    let stopped = async move { retire(&config, &plan, &keys, Arc::new(SystemClock), &StopAtWait).await.map(|_| ()) };
    assert!(tokio::spawn(stopped).await.is_err(), "it was stopped");
    fixture.config = fixture.without(&[0, 1]);
    let lake = fixture.lake(&fixture.config).await;
    assert_eq!(lake.record.leaving(), Some(0));
    let store = store_of(&lake).await;
    let (path, value) = (Path::from("t/small"), bytes(8, 90));
    store.put(&path, value.clone().into()).await.unwrap();
    store.quiesce().await;
    fixture.objects.insert(path, value);
    fixture.check(&fixture.config).await;
    fixture.config.regions[1].url.clone_from(&whole.regions[1].url);
    let outcome = fixture.retire(&fixture.retire_plan(0)).await.unwrap();
    assert_eq!((outcome.number, outcome.sweep.lost), (2, 0));
    fixture.config = outcome.config;
    for down in 0..4 {
        fixture.check(&fixture.without(&[down])).await;
    }
}

/// What becomes of reads of shards in the region that leaves.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Reads {
    FailOnce,
    Fail,
    FailForGood,
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_nobody_else_can_give_is_not_given_up_for_a_region_that_does_not_answer() {
    for reads in [Reads::FailOnce, Reads::Fail, Reads::FailForGood] {
        let fault = FaultyRegion::default();
        let place = faulty(&fault);
        let mut fixture = Fixture::new(2, 1, 4, |i| if i == 3 { place.clone() } else { fresh() }).await;
        let lake = fixture.lake(&fixture.config).await;
        let store = store_of(&lake).await;
        for i in 0..12 {
            let (path, value) = (Path::from(format!("t/{i}")), bytes(i, 200_000));
            store.put(&path, value.clone().into()).await.unwrap();
            fixture.objects.insert(path, value);
        }
        store.quiesce().await;
        // Of what had a shard here and in the region that leaves, exactly as many are left as it takes.
        let gone = lake.region_set.region(0).unwrap();
        let shards: Vec<_> = gone.list(&layout::shards_prefix(), None).try_collect().await.unwrap();
        for meta in shards {
            gone.delete(&meta.location).await.unwrap();
        }
        let asked = parking_lot::Mutex::new(std::collections::BTreeSet::new());
        fault.fail_reads(move |key| key.as_ref().starts_with("d/") && (asked.lock().insert(key.clone()) || reads != Reads::FailOnce));
        let plan = RetirePlan { is_lost: reads == Reads::FailForGood, ..fixture.retire_plan(3) };
        let outcome = fixture.retire(&plan).await;
        fault.heal();
        let outcome = match reads {
            Reads::Fail => {
                let error = outcome.unwrap_err();
                assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("--lost"), "{error}");
                // Nothing was given up: all reads, and the same once more ends it.
                fixture.check_objects().await;
                fixture.retire(&plan).await.unwrap()
            }
            Reads::FailOnce | Reads::FailForGood => outcome.unwrap(),
        };
        assert_eq!((outcome.number, outcome.sweep.lost > 0), (2, plan.is_lost), "{reads:?}");
        fixture.config = outcome.config;
        if !plan.is_lost {
            fixture.check_objects().await;
        }
    }
}

impl Fixture {
    pub(super) async fn check_objects(&self) {
        let store = store_of(&self.lake(&self.config).await).await;
        for (path, bytes) in &self.objects {
            assert!(store.get(path).await.unwrap().bytes().await.unwrap() == *bytes, "{path}");
        }
    }
}
