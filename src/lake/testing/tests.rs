use object_store::path::Path;

use super::*;
use crate::region::Created;

#[tokio::test]
async fn every_switch_does_what_it_says() {
    let (set, _, faults) = memory_lake(2, 1, 3).unwrap();
    let (region, fault) = (&set.regions()[1], &faults[1]);
    let key = Path::from("k");

    fault.fail_before_apply(1);
    assert!(region.create(&key, "abc".into()).await.is_err());
    assert_eq!(region.get(&key, 9).await.unwrap(), None);

    fault.fail_after_apply(1);
    assert!(region.create(&key, "abc".into()).await.is_err());
    assert_eq!(region.create(&key, "xyz".into()).await.unwrap(), Created::Exists);

    fault.corrupt(|key| key.as_ref().starts_with('k'));
    assert_eq!(region.get(&key, 9).await.unwrap().unwrap(), "acc");
    assert_eq!(region.get_ranges(&key, std::slice::from_ref(&(0..1))).await.unwrap(), ["`"]);
    fault.heal();
    assert_eq!(region.get(&key, 9).await.unwrap().unwrap(), "abc");

    fault.set_down(true);
    assert_eq!(region.get(&key, 9).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(set.regions()[0].get(&key, 9).await.unwrap().is_none(), "other regions are not touched");
    fault.set_down(false);

    assert_eq!(fault.counts(), OperationCounts { creates: 3, gets: 5, ..OperationCounts::default() });
    fault.reset_counts();
    assert_eq!(fault.counts(), OperationCounts::default());
}

#[tokio::test]
async fn a_slow_region_runs_into_its_time_limit() {
    let fault = FaultyRegion::default();
    let store = Arc::new(FaultStore::new(Arc::new(InMemory::new()), fault.clone()));
    let options = RegionOptions { timeout: Duration::from_millis(50) };
    let region = Region::new("a".parse().unwrap(), 0, store, options);
    assert!(region.get(&Path::from("k"), 9).await.is_ok());
    fault.slow_ms(60_000);
    assert_eq!(region.get(&Path::from("k"), 9).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn a_profile_that_does_not_fit_is_refused() {
    assert!(memory_lake(3, 1, 3).is_err() && memory_lake(0, 1, 3).is_err() && memory_lake(1, 0, 0).is_err());
}
