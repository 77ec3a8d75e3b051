//! Slots whose version was collected, in a lake whose regions change: nothing but stubs says that they were ever decided.

use super::*;
use crate::store::{CollectOptions, CollectReport};

const NAMES: [&str; 3] = ["c/small", "c/gone", "c/streamed"];

impl Fixture {
    /// A lake that keeps no superseded version, with names of which only the newest is left: an object, a tombstone, an object.
    async fn collected(regions: u8) -> Self {
        let profile = ProfileConfig { retention_seconds: 0, ..ProfileConfig::new(2, 1) };
        let fixture = Self::with_profile(profile, regions, |_| fresh()).await;
        fixture.supersede(&fixture.config).await;
        let report = fixture.collect(&fixture.config).await;
        assert_eq!((report.collected, report.problems_total), (3, 0), "{report:?}");
        fixture
    }

    async fn supersede(&self, config: &LakeConfig) {
        let store = store_of(&self.lake(config).await).await;
        for (i, name) in NAMES.iter().enumerate() {
            store.put(&Path::from(*name), bytes(i, 90).into()).await.unwrap();
        }
        store.put(&Path::from(NAMES[0]), bytes(7, 5_000).into()).await.unwrap();
        store.delete(&Path::from(NAMES[1])).await.unwrap();
        store.put(&Path::from(NAMES[2]), bytes(8, 90).into()).await.unwrap();
        store.quiesce().await;
    }

    async fn collect(&self, config: &LakeConfig) -> CollectReport {
        let collector =
            PrivateKey::from_file(&self.dir.path().join("lakes").join(self.config.id.to_string()).join("collector.pem")).unwrap();
        store_of(&self.lake(config).await).await.collect(&CollectOptions::default(), &collector, &|_| {}).await.unwrap()
    }

    /// Clients who know nothing of the names yet write to them, each with `down` out of reach, and what they are acknowledged is there.
    async fn write(&self, down: &[usize], seed: usize) {
        let config = self.without(down);
        let fresh = async || store_of(&self.lake(&config).await).await;
        let [small, gone, streamed] = NAMES.map(Path::from);
        fresh().await.put(&small, bytes(seed, 50).into()).await.unwrap();
        let exists = fresh().await.put_opts(&small, bytes(seed + 1, 50).into(), PutMode::Create.into()).await.unwrap_err();
        assert!(matches!(exists, object_store::Error::AlreadyExists { .. }), "{exists}");
        fresh().await.put_opts(&gone, bytes(seed + 2, 50).into(), PutMode::Create.into()).await.unwrap();
        let store = fresh().await;
        let mut upload = store.put_multipart(&streamed).await.unwrap();
        upload.put_part(bytes(seed + 3, 40_000).into()).await.unwrap();
        upload.complete().await.unwrap();
        let reader = fresh().await;
        for (path, expected) in [(&small, bytes(seed, 50)), (&gone, bytes(seed + 2, 50)), (&streamed, bytes(seed + 3, 40_000))] {
            let found = reader.get(path).await.unwrap_or_else(|error| panic!("{down:?} down: {error}"));
            assert!(found.meta.version.as_ref().is_some_and(|version| !version.starts_with("0.")), "{:?}", found.meta);
            assert!(found.bytes().await.unwrap() == expected, "{path}, {down:?} down");
        }
        // Each turn finds the second name deleted.
        fresh().await.delete(&gone).await.unwrap();
        reader.quiesce().await;
    }

    /// How many regions say that the first slot of a name was collected.
    async fn knowing(&self, lake: &Lake, name: &str) -> usize {
        let registers = Registers::new(Arc::clone(&lake.region_set), None);
        let mut known = 0;
        for region in lake.region_set.regions() {
            let inspected = registers.inspect(&Path::from(name), 0, &crate::digest::Digest([0; 32]), region.index(), 1).await.unwrap();
            known += usize::from(inspected.collected);
        }
        known
    }

    async fn is_known_everywhere(&self) {
        let lake = self.lake(&self.config).await;
        for name in NAMES {
            assert_eq!(self.knowing(&lake, name).await, lake.region_set.len(), "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn names_keep_their_collected_slots_when_every_region_is_replaced() {
    let mut fixture = Fixture::collected(3).await;
    for index in 0..3 {
        let outcome = fixture.replace(&fixture.plan(index, fresh())).await.unwrap();
        assert_eq!((outcome.sweep.collected, outcome.sweep.undecided), (3, 0), "{outcome:?}");
        fixture.config = outcome.config;
        fixture.is_known_everywhere().await;
    }
    for (seed, down) in [vec![], vec![0], vec![1], vec![2]].iter().enumerate() {
        fixture.write(down, 20 * seed + 20).await;
    }
}

#[tokio::test(start_paused = true)]
async fn names_keep_their_collected_slots_when_two_regions_are_replaced_and_the_third_cannot_be_reached() {
    for third in 0..3 {
        let mut fixture = Fixture::collected(3).await;
        for index in (0..3).filter(|index| *index != third) {
            fixture.config = fixture.replace(&fixture.plan(index, fresh())).await.unwrap().config;
        }
        fixture.write(&[third], 20).await;
    }
}

#[tokio::test(start_paused = true)]
async fn names_keep_their_collected_slots_when_a_lake_of_three_regions_grows_to_seven() {
    let mut fixture = Fixture::collected(3).await;
    for n in 3..7 {
        let outcome = fixture.add(&fixture.add_plan(&format!("r{n}"), fresh())).await.unwrap();
        assert_eq!(outcome.sweep.collected, 3, "{outcome:?}");
        fixture.config = outcome.config;
        fixture.is_known_everywhere().await;
    }
    // The three of before are those that cannot be reached. (What is written now has no shard there but what placement gave them.)
    fixture.write(&[0, 1, 2], 20).await;
    for seed in 0..7 {
        fixture.write(&[seed], 20 * seed + 40).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_region_that_has_voted_in_a_collected_slot_is_told_and_tidied_by_the_next_collector() {
    let mut fixture = Fixture::collected(3).await;
    let plan = fixture.add_plan("r3", fresh());
    let file = fixture.file();
    let client = async {
        // While the leases of before run out, the new region votes already, and knows nothing.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let store = store_of(&fixture.lake(&LakeConfig::load(&file).unwrap()).await).await;
        store.put(&Path::from(NAMES[0]), bytes(30, 60).into()).await.unwrap();
        store.quiesce().await;
    };
    let (outcome, ()) = tokio::join!(fixture.add(&plan), client);
    fixture.config = outcome.unwrap().config;
    fixture.is_known_everywhere().await;
    let lake = fixture.lake(&fixture.config).await;
    let first = async || {
        let all: Vec<_> =
            lake.region_set.regions()[3].list(&layout::register_folder(&Path::from(NAMES[0])).unwrap(), None).try_collect().await.unwrap();
        let names = all.iter().filter_map(|meta| layout::parse_register_key(&meta.location));
        names.filter(|name| name.slot == 0).map(|name| name.item).collect::<Vec<_>>()
    };
    let both = [layout::RegisterItem::Entry(0), layout::RegisterItem::Entry(1)];
    assert_eq!(first().await, both, "its vote, and behind it what it was told");
    let report = fixture.collect(&fixture.config).await;
    assert_eq!(report.collected_before, 3, "{report:?}");
    assert_eq!(first().await, both[..1]);
    fixture.is_known_everywhere().await;
    fixture.write(&[], 40).await;
}

#[tokio::test(start_paused = true)]
async fn a_region_with_stubs_leaves_and_the_others_are_given_copies() {
    // Two of five regions were out of reach all the time and know nothing of the names.
    let profile = ProfileConfig { retention_seconds: 0, ..ProfileConfig::new(2, 1) };
    let mut fixture = Fixture::with_profile(profile, 5, |_| fresh()).await;
    let three = fixture.without(&[0, 1]);
    fixture.supersede(&three).await;
    // Under a tombstone, all regions would have to confirm.
    assert_eq!(fixture.collect(&three).await.collected, 2);
    for index in [4, 3] {
        let plan = RetirePlan::new(fixture.config.regions[index].name.clone());
        fixture.config = retire(&fixture.config, &plan, &fixture.keys, Arc::new(SystemClock), &()).await.unwrap().config;
        // So many say so as would decide it: a region that came now would count at once where the others are silent.
        let lake = fixture.lake(&fixture.config).await;
        assert!(fixture.knowing(&lake, NAMES[0]).await >= usize::from(lake.region_set.quorums().classic()));
    }
    // One is left of the three that had a stub.
    for (seed, down) in [vec![], vec![0], vec![1], vec![2]].iter().enumerate() {
        fixture.write(down, 20 * seed + 20).await;
    }
}
