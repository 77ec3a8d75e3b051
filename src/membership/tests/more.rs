//! A lake is given one region more.

use super::*;
use crate::id::ProposerId;
use crate::store::ScrubOptions;

impl Fixture {
    pub(super) fn add_plan(&self, name: &str, location: String) -> AddPlan {
        let region = RegionConfig { fsync: false, timeout_ms: 5_000, ..RegionConfig::new(name.parse().unwrap(), location) };
        AddPlan { config_path: Some(self.file()), ..AddPlan::new(region) }
    }

    pub(super) fn file(&self) -> PathBuf {
        self.dir.path().join("lakeseal.toml")
    }

    pub(super) async fn add(&self, plan: &AddPlan) -> Result<MembershipOutcome> {
        add(&self.config, plan, &self.keys, Arc::new(SystemClock), &()).await
    }
}

#[tokio::test(start_paused = true)]
async fn regions_are_added_one_by_one_and_as_many_may_be_lost_as_the_larger_lake_allows() {
    let mut fixture = Fixture::new(2, 1, 3, |_| fresh()).await;
    fixture.fill().await;
    for n in 3..6_usize {
        let outcome = fixture.add(&fixture.add_plan(&format!("r{n}"), fresh())).await.unwrap();
        assert!(outcome.sweep.told > 0 && outcome.sweep.shards == 0, "{outcome:?}");
        fixture.config = LakeConfig::load(&fixture.file()).unwrap();
        assert_eq!(fixture.config.regions, outcome.config.regions, "the file was rewritten");
        let lake = fixture.lake(&fixture.config).await;
        assert!(lake.down.is_empty() && lake.notes.is_empty(), "{:?}", lake.down);
        assert_eq!(lake.region_set.quorums(), Quorums::new(u8::try_from(n + 1).unwrap(), 0).unwrap());
        assert!(lake.record.regions.iter().all(|place| place.state == RegionState::Voting));
        // What is new is spread over all, the new one included.
        let store = store_of(&lake).await;
        for i in 0..12 {
            let (path, value) = (Path::from(format!("after{n}/{i}")), bytes(i + n, 9_000));
            store.put(&path, value.clone().into()).await.unwrap();
            fixture.objects.insert(path, value);
        }
        store.quiesce().await;
        let newest = lake.region_set.region(u8::try_from(n).unwrap()).unwrap();
        let shards: Vec<_> = newest.list(&layout::shards_prefix(), None).try_collect().await.unwrap();
        assert!(!shards.is_empty(), "the new region holds no shard");
        for down in 0..=n {
            fixture.check(&fixture.without(&[down])).await;
        }
    }
    // Six regions: names survive two of them, whichever; what was there when there were three has one parity shard still.
    for one in 0..6 {
        for other in 0..one {
            let lake = fixture.lake(&fixture.without(&[one, other])).await;
            let listed: Vec<_> = store_of(&lake).await.list(None).try_collect().await.unwrap();
            assert_eq!(listed.len(), fixture.objects.len(), "{one} and {other} down");
        }
    }
    // And a replacement goes on as ever.
    let replaced = fixture.replace(&fixture.plan(4, fresh())).await.unwrap();
    fixture.config = replaced.config;
    fixture.check(&fixture.config).await;
}

#[tokio::test]
async fn an_addition_that_is_stopped_anywhere_goes_on_when_it_is_called_again() {
    let (mut polls, mut stops) = (1, 0);
    loop {
        let places = tempfile::tempdir().unwrap();
        let mut fixture = Fixture::new(2, 1, 3, |i| places.path().join(format!("r{i}")).display().to_string()).await;
        fixture.fill().await;
        let plan = AddPlan { wait: Duration::ZERO, ..fixture.add_plan("new", places.path().join("new").display().to_string()) };
        if stopped_after(polls, fixture.add(&plan)).await.is_some() {
            break;
        }
        stops += 1;
        // Clients go on meanwhile: those with the old file without the new region, those with the file that is there now with it.
        for (at, config) in [fixture.config.clone(), LakeConfig::load(&fixture.file()).unwrap()].iter().enumerate() {
            let store = store_of(&fixture.lake(config).await).await;
            for (path, value) in [(format!("between{at}"), bytes(4, 20_000)), ("t/3".to_owned(), bytes(5 + at, 10))] {
                store.put(&Path::from(path.as_str()), value.clone().into()).await.unwrap();
                fixture.objects.insert(Path::from(path.as_str()), value);
            }
            store.quiesce().await;
            fixture.check(config).await;
        }
        let _stopped = stopped_after(polls / 2, fixture.add(&plan)).await;
        let outcome = fixture.add(&plan).await.unwrap();
        assert_eq!(outcome.number, 2);
        let again = fixture.add(&plan).await.unwrap();
        assert!(again.number == 2 && again.sweep == SweepReport::default());
        fixture.config = LakeConfig::load(&fixture.file()).unwrap();
        for down in 0..4 {
            fixture.check(&fixture.without(&[down])).await;
        }
        // So fine that machines which take fewer turns stop often enough, too.
        polls += 1 + polls / 8;
    }
    assert!(stops > 8, "{stops}");
}

#[tokio::test(start_paused = true)]
async fn a_client_of_the_smaller_lake_is_told_to_open_it_again_and_reads_nothing_old() {
    let mut fixture = Fixture::new(2, 1, 3, |_| fresh()).await;
    fixture.fill().await;
    let (reader, writer) = (store_of(&fixture.lake(&fixture.config).await).await, store_of(&fixture.lake(&fixture.config).await).await);
    for name in ["one", "two"] {
        let outcome = fixture.add(&fixture.add_plan(name, fresh())).await.unwrap();
        fixture.config = outcome.config;
    }
    // Three of five decide, and two of the three of before need not hear of it: the reader must not answer by those two.
    let lake = fixture.lake(&fixture.without(&[0, 1])).await;
    let store = store_of(&lake).await;
    store.put(&Path::from("t/0"), bytes(9, 90).into()).await.unwrap();
    store.quiesce().await;
    for outcome in [
        reader.get(&Path::from("t/0")).await.map(|_| ()).unwrap_err(),
        reader.list(None).try_collect::<Vec<_>>().await.map(|_| ()).unwrap_err(),
        writer.put(&Path::from("t/new"), bytes(1, 9).into()).await.map(|_| ()).unwrap_err(),
    ] {
        assert!(outcome.to_string().contains("open it again"), "{outcome}");
    }
    // The file of before opens: what it lacks is down, with what to write.
    let old = LakeConfig { regions: fixture.config.regions[..3].to_vec(), ..fixture.config.clone() };
    let lake = fixture.lake(&old).await;
    assert!(lake.down.len() == 2 && lake.down[0].1.contains("add it to lakeseal.toml"), "{:?}", lake.down);
    fixture.objects.insert(Path::from("t/0"), bytes(9, 90));
    fixture.check(&old).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_added_is_refused_before_anything_is_written() {
    let fixture = Fixture::new(2, 1, 3, |_| fresh()).await;
    let refused = async |plan: AddPlan, keys: &MembershipKeys| {
        add(&fixture.config, &plan, keys, Arc::new(SystemClock), &()).await.unwrap_err().kind()
    };
    let writer = MembershipKeys { root: fixture.keys.writer.clone(), writer: fixture.keys.writer.clone() };
    assert_eq!(refused(fixture.add_plan("new", fresh()), &writer).await, ErrorKind::Permission);
    assert_eq!(refused(fixture.add_plan("r1", fresh()), &fixture.keys).await, ErrorKind::InvalidInput);
    assert_eq!(refused(fixture.add_plan("r1", fixture.config.regions[1].url.clone()), &fixture.keys).await, ErrorKind::InvalidInput);
    assert_eq!(refused(fixture.add_plan("new", fixture.config.regions[1].url.clone()), &fixture.keys).await, ErrorKind::Config);
    let other = Fixture::new(1, 0, 1, |_| fresh()).await;
    assert_eq!(refused(fixture.add_plan("new", other.config.regions[0].url.clone()), &fixture.keys).await, ErrorKind::Config);
    assert_eq!(fixture.lake(&fixture.config).await.record.number, 0);
}

/// Too few regions answer, and all of them missed the addition: that the file lists a region that they do not know is no mistake of the file's.
#[tokio::test(start_paused = true)]
async fn an_outage_that_hides_an_addition_is_an_outage() {
    let faults = [FaultyRegion::default(), FaultyRegion::default()];
    let places = [faulty(&faults[0]), faulty(&faults[1])];
    let fixture = Fixture::new(2, 1, 5, |i| i.checked_sub(3).map_or_else(fresh, |late| places[usize::from(late)].clone())).await;
    let plan = AddPlan::new(RegionConfig { fsync: false, ..RegionConfig::new("r5".parse().unwrap(), fresh()) });
    // It is published to the others, and broken off.
    faults.iter().for_each(|fault| fault.fail_before_apply(u64::MAX));
    let (config, keys, adding) = (fixture.config.clone(), fixture.keys.clone(), plan.clone());
    let stopped = async move { add(&config, &adding, &keys, Arc::new(SystemClock), &StopAtWait).await.map(|_| ()) };
    assert!(tokio::spawn(stopped).await.is_err(), "it was stopped");
    faults.iter().for_each(|fault| fault.fail_before_apply(0));
    let mut added = fixture.config.clone();
    added.regions.push(plan.region.clone());
    let mut file = added.clone();
    for (index, region) in file.regions.iter_mut().enumerate() {
        region.url = fixture.config.regions.get(index).filter(|_| index > 2).map_or_else(fresh, |known| known.url.clone());
    }
    let options = || OpenOptions { writer: None, clock: Arc::new(SystemClock) };
    let error = open(&file, options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    // With one more that knows of it, the lake is what it is.
    for index in [0, 1, 5] {
        file.regions[index].url.clone_from(&added.regions[index].url);
    }
    let lake = open(&file, options()).await.unwrap();
    assert!(lake.record.place(&"r5".parse().unwrap()).is_some());
    // A file that lists what the lake never had is told so.
    let mut wrong = fixture.config.clone();
    wrong.regions.push(RegionConfig { fsync: false, ..RegionConfig::new("r9".parse().unwrap(), fresh()) });
    wrong.regions.iter_mut().zip(&added.regions).take(3).for_each(|(region, known)| region.url.clone_from(&known.url));
    let error = open(&wrong, options()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

impl Fixture {
    /// An entry of `body` at one region, by a writer of configuration 0 who did nothing more.
    pub(super) async fn leave(&self, path: &Path, region: usize, body: &EntryBody) {
        let lake = self.lake(&self.config).await;
        let index = u8::try_from(region).unwrap();
        let place = EntryPlace { lake: self.config.id, configuration: 0, region: index, path: path.as_ref(), slot: 0, seq: 0 };
        let entry = body.seal(&place, &self.keys.writer).unwrap();
        let key = layout::entry_key(path, 0, 0).unwrap();
        lake.region_set.region(index).unwrap().create(&key, entry.into()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_a_stopped_writer_left_without_a_vote_stands_in_the_way_of_no_change() {
    let mut fixture = Fixture::new(2, 1, 3, |_| fresh()).await;
    fixture.fill().await;
    let path = Path::from("t/stopped");
    let ballot = Ballot { round: 1, proposer: ProposerId([7; 8]) };
    fixture.leave(&path, 0, &EntryBody::Promise(ballot)).await;
    // The first entry is older than whoever comes: of the three that voted then one is left in the end, and none of two majorities.
    fixture.config = fixture.replace(&fixture.plan(2, fresh())).await.unwrap().config;
    fixture.config = fixture.replace(&fixture.plan(1, fresh())).await.unwrap().config;
    fixture.config = fixture.add(&fixture.add_plan("r3", fresh())).await.unwrap().config;
    fixture.config = fixture.replace(&fixture.plan(0, fresh())).await.unwrap().config;
    let name = fixture.config.regions[1].name.clone();
    fixture.config = retire(&fixture.config, &RetirePlan::new(name), &fixture.keys, Arc::new(SystemClock), &()).await.unwrap().config;
    for down in 0..3 {
        let store = store_of(&fixture.lake(&fixture.without(&[down])).await).await;
        let gone = store.get(&path).await.unwrap_err();
        assert!(matches!(gone, object_store::Error::NotFound { .. }), "{gone}");
    }
    let store = store_of(&fixture.lake(&fixture.without(&[2])).await).await;
    store.put_opts(&path, bytes(1, 9_000).into(), PutMode::Create.into()).await.unwrap();
    store.quiesce().await;
    fixture.objects.insert(path, bytes(1, 9_000));
    fixture.check(&fixture.config).await;
}

#[tokio::test(start_paused = true)]
async fn a_region_whose_vote_is_not_counted_is_told_by_a_scrub() {
    for votes in [false, true] {
        let mut fixture = Fixture::new(2, 1, 3, |_| fresh()).await;
        let path = Path::from("t/late");
        let before = Fixture {
            dir: tempfile::tempdir().unwrap(),
            config: fixture.config.clone(),
            keys: fixture.keys.clone(),
            objects: BTreeMap::new(),
        };
        fixture.config = fixture.replace(&fixture.plan(2, fresh())).await.unwrap().config;
        // A request of before arrives when all is done.
        before.leave(&path, 0, &EntryBody::Promise(Ballot { round: 1, proposer: ProposerId([7; 8]) })).await;
        if votes {
            let store = store_of(&fixture.lake(&fixture.config).await).await;
            store.put(&path, bytes(1, 9_000).into()).await.unwrap();
            store.quiesce().await;
            fixture.objects.insert(path.clone(), bytes(1, 9_000));
        }
        let options = ScrubOptions { verify: true, settle: Duration::ZERO, ..ScrubOptions::default() };
        let store = store_of(&fixture.lake(&fixture.config).await).await;
        let found = store.scrub(&options, &()).await.unwrap();
        assert_eq!(found.findings_total, u64::from(votes), "{:?}", found.findings);
        assert_eq!(found.open_slots, u64::from(!votes));
        let mended = store.scrub(&ScrubOptions { repair: true, ..options }, &()).await.unwrap();
        assert_eq!((mended.unrepaired_versions, mended.repaired_versions), (0, u64::from(votes)), "{:?}", mended.findings);
        store.quiesce().await;
        // Now it counts: of three, each of the others may be gone, marker or no marker.
        let lake = fixture.lake(&fixture.config).await;
        for region in lake.region_set.regions() {
            let keys: Vec<_> = region.list(&layout::register_folder(&path).unwrap(), None).try_collect().await.unwrap();
            for key in keys.into_iter().map(|meta| meta.location) {
                if let Some(layout::RegisterItem::Marker(_)) = layout::parse_register_key(&key).map(|name| name.item) {
                    region.delete(&key).await.unwrap();
                }
            }
        }
        for down in [0, 1] {
            let store = store_of(&fixture.lake(&fixture.without(&[down])).await).await;
            match store.get(&path).await {
                Ok(got) => assert!(votes && got.bytes().await.unwrap() == bytes(1, 9_000)),
                Err(error) => assert!(!votes && matches!(error, object_store::Error::NotFound { .. }), "{error}"),
            }
            store.quiesce().await;
        }
        let store = store_of(&fixture.lake(&fixture.without(&[1])).await).await;
        assert!(store.put_opts(&path, bytes(2, 10).into(), PutMode::Create.into()).await.is_ok() != votes);
    }
}

#[tokio::test(start_paused = true)]
async fn an_addition_that_could_not_be_ended_is_not_begun() {
    for (parity, n, down) in [(1, 3, vec![1]), (2, 5, vec![1, 3])] {
        let mut fixture = Fixture::new(2, parity, n, |_| fresh()).await;
        fixture.fill().await;
        fixture.config = fixture.without(&down);
        let place = fresh();
        let error = fixture.add(&fixture.add_plan("new", place.clone())).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("bring r1"), "{error}");
        let plan = fixture.add_plan("new", place);
        assert!(!has_id(&plan.region).await, "the location was left alone");
        assert_eq!(fixture.lake(&fixture.config).await.record.number, 0);
        // What the error says helps.
        for index in down {
            fixture.config = fixture.replace(&fixture.plan(index, fresh())).await.unwrap().config;
        }
        fixture.config = fixture.add(&plan).await.unwrap().config;
        for down in 0..=usize::from(n) {
            fixture.check(&fixture.without(&[down])).await;
        }
    }
    let one = Fixture::new(1, 0, 1, |_| fresh()).await;
    let error = one.add(&one.add_plan("new", fresh())).await.unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("Make a new lake"), "{error}");
    assert_eq!(one.lake(&one.config).await.record.number, 0);
}

async fn has_id(region: &RegionConfig) -> bool {
    let store = region.open(&std::env::temp_dir()).unwrap();
    store.head(&layout::id_key()).await.is_ok()
}
