//! Regions that list slots which nobody began, and what readers conclude without them.

use super::*;

/// Lets a region list slots from `first` on; each is unreadable, or not there at all.
async fn invent(lake: &Lake, liar: usize, slots: std::ops::Range<Slot>, is_there: bool) {
    for slot in slots {
        let key = layout::entry_key(&path(), slot, 0).unwrap();
        if is_there {
            lake.overwrite(liar, &key, Bytes::from_static(b"junk")).await;
        } else {
            lake.stores[liar].faults.invented.lock().push(key);
        }
    }
}

#[tokio::test]
async fn slots_that_liars_make_up_cost_a_round_a_liar_however_many_they_are() {
    for (n, liars) in [(4_u8, 1_u8), (5, 1), (7, 2)] {
        for (is_there, versions) in [(true, 1_u64), (true, 3), (false, 1), (false, 3)] {
            let context = format!("n {n} liars {liars} unreadable {is_there} versions {versions}");
            let lake = lake(n, liars);
            let writer = lake.writer();
            for slot in 0..versions {
                writer.propose(&path(), slot, value(&format!("v{slot}"))).await.unwrap();
            }
            writer.quiesce().await;
            for liar in 0..liars {
                let first = versions + 1 + 100 * u64::from(liar);
                invent(&lake, liar.into(), first..first + 80, is_there).await;
            }
            let expected = Some((versions - 1, value(&format!("v{}", versions - 1))));
            for registers in [lake.reader(), lake.writer()] {
                let before = requests(&lake);
                assert_eq!(newest(&registers).await, expected, "{context}");
                for (now, before) in requests(&lake).iter().zip(before) {
                    assert!(now.2 - before.2 <= 1 + u64::from(liars), "{context}: {} lists", now.2 - before.2);
                    assert_eq!(now.0, before.0, "{context}: nothing is written in slots that nobody began");
                }
            }
            let hint = lake.reader().at(&path(), versions - 1).await.unwrap();
            assert_eq!(lake.reader().newest_hinted(&path(), hint.clone()).await.unwrap(), hint, "{context}");
            let (outcome, _) = writer.propose_looking(&path(), versions, value("next")).await;
            assert_eq!(outcome.unwrap(), Proposed::Won, "{context}");
            writer.quiesce().await;
            assert_eq!(newest(&lake.reader()).await, Some((versions, value("next"))), "{context}");
        }
    }
}

#[tokio::test]
async fn a_name_that_liars_make_up_is_none() {
    for is_there in [true, false] {
        let lake = lake(5, 1);
        invent(&lake, 3, 0..80, is_there).await;
        assert_eq!(newest(&lake.reader()).await, None);
    }
}

/// The region with the rotten entry is the only one in which the quorum that decided and the quorum that answers meet.
#[tokio::test]
async fn a_rotten_entry_in_the_only_region_that_knows_hides_no_version() {
    for (n, absent, later) in [(3_u8, vec![2], vec![1]), (5, vec![3, 4], vec![1, 2])] {
        let lake = lake(n, 0);
        let writer = lake.writer();
        writer.propose(&path(), 0, value("old")).await.unwrap();
        writer.quiesce().await;
        for region in &absent {
            lake.set_down(*region, true);
        }
        assert_eq!(writer.propose(&path(), 1, value("new")).await.unwrap(), Proposed::Won);
        writer.quiesce().await;
        for region in 0..usize::from(n) {
            lake.set_down(region, later.contains(&region));
        }
        let key = layout::entry_key(&path(), 1, 0).unwrap();
        lake.overwrite(0, &key, Bytes::from_static(b"rotten")).await;
        for registers in [lake.reader(), lake.writer()] {
            assert_eq!(registers.newest(&path()).await.unwrap_err().kind(), ErrorKind::Unavailable, "n {n}");
        }
        // As soon as another of those that know it is there.
        lake.set_down(1, false);
        assert_eq!(newest(&writer).await, Some((1, value("new"))), "n {n}");
    }
}

#[tokio::test]
async fn a_slot_that_nobody_began_is_not_begun_by_closing_it() {
    for (n, liars) in [(3_u8, 0_u8), (4, 1), (5, 0), (5, 1), (7, 2)] {
        for is_there in [true, false] {
            let context = format!("n {n} liars {liars} unreadable {is_there}");
            let lake = lake(n, liars);
            let writer = lake.writer();
            writer.propose(&path(), 0, value("a")).await.unwrap();
            writer.quiesce().await;
            invent(&lake, 0, 1..100, is_there).await;
            let before = requests(&lake);
            for slot in 1..100 {
                assert_eq!(writer.close(&path(), slot).await.unwrap(), Closed::NotBegun, "{context}");
            }
            writer.quiesce().await;
            for (now, before) in requests(&lake).iter().zip(before) {
                assert_eq!(now.0, before.0, "{context}: something was written");
            }
            assert_eq!(newest(&lake.reader()).await, Some((0, value("a"))), "{context}");
            assert_eq!(writer.propose(&path(), 1, value("b")).await.unwrap(), Proposed::Won, "{context}");
            writer.quiesce().await;
            assert_eq!(newest(&lake.reader()).await, Some((1, value("b"))), "{context}");
        }
    }
}

/// Closed at once where it is decided or begun, be it in one region that answers later than a quorum that knows nothing.
#[tokio::test]
async fn a_slot_that_one_region_knows_of_is_closed() {
    for (n, liars) in [(4_u8, 0_u8), (5, 0), (5, 1)] {
        for late_ms in [0, 60] {
            let lake = lake(n, liars);
            let writer = lake.writer();
            lake.plant(1, &path(), 0, 0, &fast("vote")).await;
            lake.plant(1, &path(), 1, 0, &EntryBody::Promise(ballot(1))).await;
            lake.stores[1].faults.delay_ms.store(late_ms, Ordering::Relaxed);
            let decided = Decided { slot: 0, value: value("vote"), digest: digest("vote") };
            match writer.close(&path(), 0).await.unwrap() {
                Closed::Decided(found) => assert_eq!(found, decided, "n {n} {late_ms}"),
                // A quorum promised before the vote was seen: it can be decided no more.
                Closed::Undecided(_) if late_ms > 0 => {}
                other => panic!("n {n} {late_ms}: {other:?}"),
            }
            assert!(matches!(writer.close(&path(), 1).await.unwrap(), Closed::Undecided(_)), "n {n} {late_ms}");
            writer.quiesce().await;
            for slot in [0, 1] {
                let key = layout::entry_key(&path(), slot, 0).unwrap().to_string();
                let mut holding = 0;
                for region in 0..usize::from(n) {
                    holding += usize::from(lake.keys(region).await.contains(&key));
                }
                assert!(holding >= usize::from(lake.regions.quorums().classic()), "n {n} slot {slot}");
            }
        }
    }
}

#[tokio::test]
async fn a_slot_with_a_marker_alone_is_not_taken_for_one_that_nobody_began() {
    let lake = lake(5, 0);
    let signed = marker("a").sign(support::LAKE, 0, path().as_ref(), 3, &lake.key);
    lake.overwrite(2, &layout::marker_key(&path(), 3, &signed.to_text()).unwrap(), Bytes::new()).await;
    assert!(matches!(lake.writer().close(&path(), 3).await.unwrap(), Closed::Undecided(_)));
}

#[tokio::test]
async fn a_slot_that_no_quorum_is_silent_about_is_not_taken_for_one_that_nobody_began() {
    let lake = lake(5, 0);
    invent(&lake, 0, 0..1, true).await;
    for region in [1, 2] {
        lake.set_down(region, true);
    }
    assert_eq!(lake.writer().close(&path(), 0).await.unwrap_err().kind(), ErrorKind::Unavailable);
}
