//! A region lists slots, and a name, that nobody began, while regions come and go.

use super::*;

const INVENTED: std::ops::Range<u64> = 10..110;
const NAMES: [&str; 3] = ["t/1", "t/5", "t/none"];

impl Fixture {
    /// Has the region at `index` list entries that are none.
    async fn invent(&self, index: u8) {
        let lake = self.lake(&self.config).await;
        for (name, slot) in NAMES.iter().flat_map(|name| INVENTED.map(move |slot| (*name, slot))) {
            let key = layout::entry_key(&Path::from(name), slot, 0).unwrap();
            lake.region_set.region(index).unwrap().put(&key, "noise".into()).await.unwrap();
        }
    }

    /// No other region knows anything of what was made up.
    async fn is_unreal(&self, liar: u8) {
        let lake = self.lake(&self.config).await;
        for region in lake.region_set.regions().iter().filter(|region| region.index() != liar) {
            for name in NAMES {
                let folder = layout::register_folder(&Path::from(name)).unwrap();
                let keys: Vec<_> = region.list(&folder, None).try_collect().await.unwrap();
                let slots = keys.iter().filter_map(|meta| layout::parse_register_key(&meta.location)).map(|key| key.slot);
                assert_eq!(slots.filter(|slot| INVENTED.contains(slot)).count(), 0, "{name} in {}", region.name());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn slots_that_a_region_makes_up_are_not_made_real_by_the_sweeps_of_any_change() {
    const LIAR: u8 = 4;
    let mut fixture = Fixture::new(2, 1, 5, |_| fresh()).await;
    fixture.fill().await;
    fixture.invent(LIAR).await;
    for change in 0..3 {
        let outcome = match change {
            0 => fixture.replace(&fixture.plan(0, fresh())).await,
            1 => fixture.add(&fixture.add_plan("r5", fresh())).await,
            _ => {
                let plan = RetirePlan { config_path: Some(fixture.file()), ..RetirePlan::new(fixture.config.regions[1].name.clone()) };
                retire(&fixture.config, &plan, &fixture.keys, Arc::new(SystemClock), &()).await
            }
        }
        .unwrap();
        assert_eq!((outcome.sweep.undecided, outcome.late.undecided), (0, 0), "{outcome:?}");
        fixture.config = outcome.config;
        fixture.is_unreal(LIAR).await;
        fixture.check(&fixture.config).await;
        let store = store_of(&fixture.lake(&fixture.config).await).await;
        for (i, name) in NAMES.iter().enumerate() {
            let (path, value) = (Path::from(*name), bytes(20 + change * 3 + i, 3_000));
            store.put(&path, value.clone().into()).await.unwrap();
            fixture.objects.insert(path, value);
        }
        store.quiesce().await;
        fixture.check(&fixture.config).await;
    }
}
