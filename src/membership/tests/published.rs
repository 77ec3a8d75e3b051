//! A configuration that is decided, and published in fewer regions than it should be.

use super::*;

impl Fixture {
    /// A lake of `regions` regions, filled, and their faults.
    pub(super) async fn with_faults(profile: ProfileConfig, regions: u8) -> (Self, Vec<FaultyRegion>) {
        let faults: Vec<_> = (0..regions).map(|_| FaultyRegion::default()).collect();
        let places: Vec<_> = faults.iter().map(faulty).collect();
        let mut fixture = Self::with_profile(profile, regions, |i| places[usize::from(i)].clone()).await;
        fixture.fill().await;
        (fixture, faults)
    }

    async fn reader(&self) -> Lake {
        open(&self.config, OpenOptions { writer: None, clock: Arc::new(SystemClock) }).await.unwrap()
    }
}

/// None of these regions takes configuration `number`.
fn refuse(faults: &[FaultyRegion], number: u64) {
    let key = layout::configuration_key(number);
    for fault in faults {
        let key = key.clone();
        fault.hold(move |put| *put == key);
    }
}

async fn read_all(fixture: &Fixture, lake: &Lake) {
    let store = store_of(lake).await;
    for (path, bytes) in &fixture.objects {
        assert!(store.get(path).await.unwrap().bytes().await.unwrap() == *bytes, "{path}");
    }
}

/// With one that may lie, one that shows a configuration proves nothing: its register does.
#[tokio::test(start_paused = true)]
async fn what_is_decided_and_shown_by_no_more_regions_than_may_lie_is_found_in_its_register() {
    for is_added in [false, true] {
        let (mut fixture, faults) = Fixture::with_faults(ProfileConfig { liars: 1, ..ProfileConfig::new(2, 2) }, 5).await;
        // The last is lost for good.
        faults[4].set_down(true);
        refuse(&faults[1..4], 1);
        let retiring = RetirePlan { is_lost: true, ..fixture.retire_plan(4) };
        let adding = fixture.add_plan("r5", fresh());
        if is_added {
            // An addition takes them all.
            faults[4].set_down(false);
            refuse(&faults[4..], 1);
        }
        let stopped = if is_added { fixture.add(&adding).await } else { fixture.retire(&retiring).await };
        let error = stopped.unwrap_err();
        assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("too few regions took"), "{error}");
        faults.iter().for_each(FaultyRegion::release);
        // Whoever only reads, and whoever writes.
        let lake = fixture.reader().await;
        assert_eq!(lake.record.number, 1);
        lake.region_set.confirm().await.unwrap();
        read_all(&fixture, &lake).await;
        let copies = async |lake: &Lake| {
            let mut copies = 0;
            for region in lake.region_set.regions() {
                copies += usize::from(region.get(&layout::configuration_key(1), 1 << 16).await.is_ok_and(|found| found.is_some()));
            }
            copies
        };
        assert_eq!(copies(&lake).await, 1, "a reader publishes nothing");
        let lake = fixture.lake(&fixture.config).await;
        assert_eq!((lake.record.number, copies(&lake).await), (1, if is_added { 5 } else { 4 }));
        let (path, value) = (Path::from("t/0"), bytes(8, 9_000));
        let store = store_of(&lake).await;
        store.put(&path, value.clone().into()).await.unwrap();
        store.quiesce().await;
        fixture.objects.insert(path, value);
        // And the same command ends it.
        let outcome = if is_added { fixture.add(&adding).await } else { fixture.retire(&retiring).await }.unwrap();
        assert_eq!(outcome.number, 2);
        fixture.config = outcome.config;
        fixture.check(&fixture.config).await;
    }
}

/// It was decided by four of five, of which one does not answer now: a reader cannot know, and a writer completes it.
#[tokio::test(start_paused = true)]
async fn what_is_shown_by_one_region_and_cannot_be_learned_from_the_register_is_completed_by_a_writer() {
    let (fixture, faults) = Fixture::with_faults(ProfileConfig { liars: 1, ..ProfileConfig::new(2, 2) }, 5).await;
    faults[4].set_down(true);
    refuse(&faults[1..4], 1);
    let retiring = RetirePlan { is_lost: true, ..fixture.retire_plan(4) };
    fixture.retire(&retiring).await.unwrap_err();
    faults.iter().for_each(FaultyRegion::release);
    faults[4].set_down(false);
    faults[1].set_down(true);
    let lake = fixture.reader().await;
    assert_eq!(lake.record.number, 0);
    let error = lake.region_set.confirm().await.unwrap_err();
    assert!(error.to_string().contains("open it again"), "{error}");
    // Whoever comes with a key that is not the lake's leaves nothing behind.
    let stranger = OpenOptions { writer: Some(PrivateKey::generate().unwrap()), clock: Arc::new(SystemClock) };
    assert_eq!(open(&fixture.config, stranger).await.unwrap_err().kind(), ErrorKind::Permission);
    let lake = fixture.lake(&fixture.config).await;
    assert_eq!(lake.record.number, 1);
    read_all(&fixture, &lake).await;
    let lake = fixture.reader().await;
    assert_eq!(lake.record.number, 1);
    read_all(&fixture, &lake).await;
    faults[1].set_down(false);
    assert_eq!(fixture.retire(&retiring).await.unwrap().number, 2);
}

#[tokio::test(start_paused = true)]
async fn no_change_begins_before_the_configuration_is_where_everybody_of_the_one_before_meets_it() {
    let (mut fixture, faults) = Fixture::with_faults(ProfileConfig::new(2, 1), 4).await;
    // An addition is completed, and stops when one region and the new one have its last configuration.
    refuse(&faults[1..], 2);
    let error = fixture.add(&fixture.add_plan("r4", fresh())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    fixture.config = LakeConfig::load(&fixture.file()).unwrap();
    assert_eq!(fixture.reader().await.record.number, 2);
    let plan = fixture.plan(3, fresh());
    for error in [fixture.retire(&fixture.retire_plan(1)).await.unwrap_err(), fixture.replace(&plan).await.unwrap_err()] {
        assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("too few regions took"), "{error}");
    }
    let lake = fixture.lake(&fixture.config).await;
    let registers = Registers::new(Arc::clone(&lake.region_set), None);
    assert_eq!((lake.record.number, registers.at(&layout::configurations_path(), 3).await.unwrap()), (2, None), "nothing was begun");
    faults.iter().for_each(FaultyRegion::release);
    fixture.config = fixture.retire(&fixture.retire_plan(1)).await.unwrap().config;
    let lake = fixture.lake(&fixture.config).await;
    assert_eq!(lake.record.number, 4);
    for region in lake.region_set.regions() {
        assert!(region.get(&layout::configuration_key(2), 1 << 16).await.unwrap().is_some(), "{}", region.name());
    }
    fixture.is_whole().await;
}

struct StopAtIdentity;

impl MembershipProgress for StopAtIdentity {
    fn step(&self, step: &MembershipStep) {
        assert!(*step != MembershipStep::Identified, "stop here");
    }
}

/// The answer to an attempt that was stopped comes when the next one has looked.
#[tokio::test(start_paused = true)]
async fn an_identity_that_an_earlier_attempt_sent_late_is_the_new_regions_own() {
    let mut fixture = Fixture::new(2, 1, 3, |_| fresh()).await;
    fixture.fill().await;
    let fault = FaultyRegion::default();
    let plan = fixture.plan(1, faulty(&fault));
    fault.hold(|key| *key == layout::id_key());
    // Both have seen an empty place, and both send what they call the region. The first is stopped, and what it sent arrives first.
    let (config, keys, stopping) = (fixture.config.clone(), fixture.keys.clone(), plan.clone());
    let stopped = tokio::spawn(async move { replace(&config, &stopping, &keys, Arc::new(SystemClock), &StopAtIdentity).await.map(|_| ()) });
    let released = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(fault.held(), 2);
        fault.release();
    };
    let (outcome, ()) = tokio::join!(fixture.replace(&plan), released);
    assert!(stopped.await.is_err(), "it was stopped");
    assert_eq!(outcome.unwrap().number, 2);
    fixture.config = LakeConfig::load(&fixture.file()).unwrap();
    fixture.check(&fixture.config).await;
}
