//! A replacement that was stopped behind its last configuration: what was written meanwhile is still to be handed over.

use super::*;

/// Stops when the leases of the configuration that gave the new region its vote are waited for.
#[derive(Default)]
struct StopAtSecondWait(AtomicUsize);

impl MembershipProgress for StopAtSecondWait {
    fn step(&self, step: &MembershipStep) {
        if matches!(step, MembershipStep::Waiting(_)) {
            assert!(self.0.fetch_add(1, Ordering::Relaxed) == 0, "stop here");
        }
    }
}

const VALUE: &[u8] = b"late";

fn late_path() -> Path {
    Path::from(format!("{}/late", layout::SYSTEM_SEGMENT))
}

impl Fixture {
    /// A lake of four regions, of which `r2` was replaced, but for what a client of the configuration before wrote at the very end and nobody
    /// handed over. The location of `r2`.
    async fn replaced_and_not_ended(is_written: bool) -> (Self, Vec<FaultyRegion>, String) {
        let (mut fixture, faults) = Self::with_faults(ProfileConfig::new(2, 1), 4).await;
        let location = fresh();
        let (config, keys, plan) = (fixture.config.clone(), fixture.keys.clone(), fixture.plan(2, location.clone()));
        let stopped = async move { replace(&config, &plan, &keys, Arc::new(SystemClock), &StopAtSecondWait::default()).await.map(|_| ()) };
        assert!(tokio::spawn(stopped).await.is_err(), "it was stopped");
        fixture.config = LakeConfig::load(&fixture.file()).unwrap();
        let lake = fixture.lake(&fixture.config).await;
        assert_eq!(lake.record.number, 2);
        // Three of four decide at once, and that client asks the new region for no vote.
        let path = late_path();
        for index in [0, 1, 3].into_iter().filter(|_| is_written) {
            let place = EntryPlace { lake: fixture.config.id, configuration: 1, region: index, path: path.as_ref(), slot: 0, seq: 0 };
            let entry = EntryBody::Accept(Ballot::FAST, Bytes::from_static(VALUE)).seal(&place, &fixture.keys.writer).unwrap();
            let region = lake.region_set.region(index).unwrap();
            region.create(&layout::entry_key(&path, 0, 0).unwrap(), entry.into()).await.unwrap();
        }
        (fixture, faults, location)
    }

    /// The region whose replacement is not ended: one fewer may fail then.
    async fn unfinished(&self) -> Option<String> {
        let lake = self.lake(&self.config).await;
        let found = unfinished(&lake).await.unwrap().map(|name| name.to_string());
        let (told, configured) = (budgets(&lake).await.unwrap(), lake.budgets());
        assert_eq!(configured.unreachable_for_writes - told.unreachable_for_writes, u8::from(found.is_some()));
        assert_eq!(told.unreachable_for_reads, configured.unreachable_for_reads);
        found
    }

    /// Whichever region is lost, everybody reads what was decided.
    async fn knows_the_late_one(&self) {
        for down in 0..self.config.regions.len() {
            let lake = self.lake(&self.without(&[down])).await;
            let found = Registers::new(Arc::clone(&lake.region_set), None).newest(&late_path()).await.unwrap();
            assert_eq!(found.map(|found| found.value), Some(Bytes::from_static(VALUE)), "{down} down");
        }
        self.check(&self.config).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_change_begins_with_what_a_replacement_left_to_be_handed_over() {
    for other in ["replace", "add", "retire", "again"] {
        let (mut fixture, _faults, _) = Fixture::replaced_and_not_ended(true).await;
        assert_eq!(fixture.unfinished().await.as_deref(), Some("r2"));
        let outcome = match other {
            "replace" => fixture.replace(&fixture.plan(3, fresh())).await,
            "add" => fixture.add(&fixture.add_plan("r4", fresh())).await,
            "retire" => fixture.retire(&fixture.retire_plan(0)).await,
            _ => fixture.replace(&fixture.plan(2, fresh())).await,
        };
        let outcome = outcome.unwrap_or_else(|error| panic!("{other}: {error}"));
        assert_eq!((outcome.number, outcome.sweep.lost), (4, 0), "{other}");
        fixture.config = outcome.config;
        assert_eq!(fixture.unfinished().await, None, "{other}");
        fixture.knows_the_late_one().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_replacement_that_was_not_ended_says_so_until_it_is_and_no_other_change_begins() {
    let (mut fixture, faults, location) = Fixture::replaced_and_not_ended(true).await;
    // Without one of those that know, it cannot be handed over.
    faults[3].set_down(true);
    let error = fixture.replace(&fixture.plan(3, fresh())).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("replaced: r2"), "{error}");
    assert_eq!(fixture.lake(&fixture.config).await.record.number, 2, "nothing was begun");
    assert_eq!(fixture.unfinished().await.as_deref(), Some("r2"));
    faults[3].set_down(false);
    let outcome = fixture.replace(&fixture.plan(2, location)).await.unwrap();
    assert!(outcome.number == 2 && outcome.late.told > 0, "{outcome:?}");
    assert_eq!(fixture.unfinished().await, None);
    fixture.knows_the_late_one().await;
    // Now it can be lost, and be replaced.
    faults[3].set_down(true);
    fixture.config = fixture.replace(&fixture.plan(3, fresh())).await.unwrap().config;
    assert_eq!(fixture.unfinished().await, None);
    fixture.knows_the_late_one().await;
}

/// What is known without those who decided it does not stand in the way: the configuration itself.
#[tokio::test(start_paused = true)]
async fn a_region_that_is_lost_behind_a_replacement_that_was_not_ended_can_be_replaced_when_nothing_was_written() {
    let (mut fixture, faults, _) = Fixture::replaced_and_not_ended(false).await;
    faults[3].set_down(true);
    assert_eq!(fixture.unfinished().await.as_deref(), Some("r2"));
    let outcome = fixture.replace(&fixture.plan(3, fresh())).await.unwrap();
    assert_eq!((outcome.number, outcome.sweep.lost), (4, 0));
    fixture.config = outcome.config;
    assert_eq!(fixture.unfinished().await, None);
    for down in 0..4 {
        fixture.check(&fixture.without(&[down])).await;
    }
}
