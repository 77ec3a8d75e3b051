//! Lists of regions that come late, never, or without end.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::*;

const NAMES: usize = 60;

async fn filled(n: u8) -> Lake {
    let lake = lake(n, 0);
    let writer = lake.writer();
    for number in 0..NAMES {
        writer.propose(&Path::from(format!("t/{number:03}")), 0, value(&format!("v{number}"))).await.unwrap();
    }
    writer.quiesce().await;
    lake
}

/// How many names are listed and walked, what the last walked one says of the regions, and how long both took.
async fn listed_and_walked(lake: &Lake) -> (usize, usize, Vec<u8>, Duration, Duration) {
    let began = Instant::now();
    let listed = timeout(Duration::from_secs(7200), lake.reader().list(None, None).try_collect::<Vec<_>>());
    let listed = listed.await.expect("a list ends").unwrap();
    let list = began.elapsed();
    let began = Instant::now();
    let walked = timeout(Duration::from_secs(7200), lake.reader().walk(None, None).try_collect::<Vec<_>>());
    let walked = walked.await.expect("a walk ends").unwrap();
    (listed.len(), walked.len(), walked.last().unwrap().unreachable.clone(), list, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_region_that_hangs_holds_up_no_list() {
    for n in [3, 4, 5] {
        let lake = filled(n).await;
        lake.stores[1].faults.delay_ms.store(60_000, Ordering::Relaxed);
        let (listed, walked, unreachable, list, walk) = listed_and_walked(&lake).await;
        assert_eq!((listed, walked), (NAMES, NAMES));
        assert!(list < Duration::from_secs(1), "{list:?}");
        assert!(walk < Duration::from_secs(11), "{walk:?}");
        assert_eq!(unreachable, [1], "what it holds is not known");
        let began = Instant::now();
        let one = lake.reader().walk_one(&Path::from("t/007")).await.unwrap().unwrap();
        assert_eq!((one.slots.len(), one.unreachable), (1, vec![1]));
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_region_that_is_needed_for_a_quorum_is_waited_for() {
    let lake = filled(3).await;
    lake.set_down(0, true);
    lake.stores[1].faults.delay_ms.store(20_000, Ordering::Relaxed);
    let (listed, walked, unreachable, list, _) = listed_and_walked(&lake).await;
    assert_eq!((listed, walked, unreachable), (NAMES, NAMES, vec![0]));
    assert!(list >= Duration::from_secs(20), "{list:?}");
}

#[tokio::test(start_paused = true)]
async fn a_region_that_is_a_little_slower_is_heard() {
    let lake = filled(4).await;
    lake.stores[2].faults.delay_ms.store(400, Ordering::Relaxed);
    lake.stores[3].faults.trickle_ms.store(5, Ordering::Relaxed);
    let (listed, walked, unreachable, _, _) = listed_and_walked(&lake).await;
    assert_eq!((listed, walked, unreachable), (NAMES, NAMES, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_region_that_trickles_its_keys_is_left_out_after_a_while() {
    let lake = filled(4).await;
    // Each key comes within any time limit for a step.
    lake.stores[3].faults.trickle_ms.store(9_000, Ordering::Relaxed);
    let (listed, walked, unreachable, list, walk) = listed_and_walked(&lake).await;
    assert_eq!((listed, walked, unreachable), (NAMES, NAMES, vec![3]));
    assert!(list < Duration::from_secs(1), "{list:?}");
    assert!(walk < Duration::from_secs(120), "not nine seconds for each name: {walk:?}");
    // Each is in time, and together they are not.
    lake.stores[3].faults.trickle_ms.store(200, Ordering::Relaxed);
    let (listed, _, _, list, _) = listed_and_walked(&lake).await;
    assert_eq!(listed, NAMES);
    assert!(list < Duration::from_secs(6), "{list:?}");
}

#[tokio::test(start_paused = true)]
async fn a_region_whose_list_has_no_end_is_left_out() {
    let lake = filled(4).await;
    lake.stores[0].faults.endless.store(true, Ordering::Relaxed);
    let (listed, walked, unreachable, list, walk) = listed_and_walked(&lake).await;
    assert_eq!((listed, walked, unreachable), (NAMES, NAMES, vec![0]));
    assert!(list.max(walk) < Duration::from_secs(1), "{list:?} {walk:?}");
    assert_eq!(lake.reader().newest(&Path::from("t/000")).await.unwrap().unwrap().value, value("v0"));
}
