//! The driver over memory regions with faults.

mod lag;
mod liars;
mod race;
mod support;
mod walk;

use std::sync::atomic::Ordering;

use futures::TryStreamExt as _;

use self::support::{Lake, digest, lake, value};
use super::*;
use crate::format::entry::{Ballot, EntryBody, ObjectKind};
use crate::id::{ProposerId, WriteId};

fn path() -> Path {
    Path::from("t/_delta_log/00.json")
}

fn fast(text: &str) -> EntryBody {
    EntryBody::Accept(Ballot::FAST, value(text))
}

fn ballot(round: u64) -> Ballot {
    Ballot { round, proposer: ProposerId([9; 8]) }
}

fn marker(text: &str) -> Marker {
    Marker { kind: ObjectKind::Object, size: 7, modified_ms: 8, write_id: WriteId([3; 16]), value: digest(text) }
}

/// All sets of regions out of n that leave a classic quorum.
fn tolerated(n: u8) -> Vec<Vec<usize>> {
    let most = usize::from(n) - usize::from(crate::region::Quorums::new(n, 0).unwrap().classic());
    let sets = (0..1_u32 << n).map(|bits| (0..usize::from(n)).filter(|i| bits & (1 << i) != 0).collect::<Vec<_>>());
    sets.filter(|set| set.len() <= most).collect()
}

async fn newest(registers: &Registers) -> Option<(Slot, Bytes)> {
    registers.newest(&path()).await.unwrap().map(|decided| (decided.slot, decided.value))
}

fn requests(lake: &Lake) -> Vec<(u64, u64, u64)> {
    lake.regions.regions().iter().map(|r| r.requests()).map(|c| (c.creates, c.gets, c.lists)).collect()
}

#[tokio::test]
async fn a_new_name_takes_one_round_trip_of_one_create_a_region_and_nothing_else() {
    for n in [1_u8, 3, 4, 5, 16] {
        let lake = lake(n, 0);
        for store in &lake.stores {
            store.faults.delay_ms.store(50, Ordering::Relaxed);
        }
        let writer = lake.writer();
        let started = tokio::time::Instant::now();
        assert_eq!(writer.propose(&path(), 0, value("a")).await.unwrap(), Proposed::Won);
        assert!(started.elapsed().as_millis() < 95, "one round trip, not {:?}", started.elapsed());
        writer.quiesce().await;
        assert_eq!(requests(&lake), vec![(1, 0, 0); usize::from(n)]);
    }
}

#[tokio::test]
async fn a_name_with_one_version_is_read_in_one_round_trip() {
    let lake = lake(5, 0);
    let writer = lake.writer();
    writer.propose(&path(), 0, value("a")).await.unwrap();
    writer.quiesce().await;
    for store in &lake.stores {
        store.faults.delay_ms.store(50, Ordering::Relaxed);
    }
    let started = tokio::time::Instant::now();
    assert_eq!(newest(&lake.reader()).await, Some((0, value("a"))));
    assert!(started.elapsed().as_millis() < 95, "{:?}", started.elapsed());
    assert_eq!(newest_of_nothing(&lake).await, None);
    writer.propose(&path(), 1, value("b")).await.unwrap();
    writer.quiesce().await;
    let started = tokio::time::Instant::now();
    assert_eq!(newest(&lake.reader()).await, Some((1, value("b"))));
    assert!(started.elapsed().as_millis() < 145, "two round trips, not {:?}", started.elapsed());
    let hint = lake.reader().at(&path(), 1).await.unwrap();
    let before = requests(&lake);
    assert_eq!(lake.reader().newest_hinted(&path(), hint.clone()).await.unwrap(), hint);
    let gets: Vec<_> = requests(&lake).iter().zip(before).map(|(after, before)| after.1 - before.1).collect();
    assert_eq!(gets, [0; 5], "a hint that holds costs a round of LISTs only");
}

async fn newest_of_nothing(lake: &Lake) -> Option<Decided> {
    lake.reader().newest(&Path::from("t/nothing")).await.unwrap()
}

#[tokio::test]
async fn every_tolerated_subset_of_regions_may_be_down() {
    for n in [1_u8, 3, 4, 5] {
        for down in tolerated(n) {
            for down_later in tolerated(n) {
                let lake = lake(n, 0);
                let (writer, reader) = (lake.writer(), lake.reader());
                for region in &down {
                    lake.set_down(*region, true);
                }
                for slot in 0..3 {
                    let text = format!("v{slot}");
                    assert_eq!(writer.propose(&path(), slot, value(&text)).await.unwrap(), Proposed::Won, "n {n} down {down:?}");
                    writer.mark(&path(), slot, &marker(&text)).await;
                    writer.quiesce().await;
                    assert_eq!(newest(&reader).await, Some((slot, value(&text))), "n {n} down {down:?}");
                }
                for region in 0..usize::from(n) {
                    lake.set_down(region, down_later.contains(&region));
                }
                assert_eq!(newest(&writer).await, Some((2, value("v2"))), "n {n} down {down:?} then {down_later:?}");
                assert_eq!(writer.at(&path(), 1).await.unwrap().map(|d| d.value), Some(value("v1")));
                writer.quiesce().await;
                let names: Vec<_> = writer.list(None, None).try_collect().await.unwrap();
                assert_eq!(names.len(), 1);
                assert_eq!(names[0].path(), &path());
            }
        }
    }
}

#[tokio::test]
async fn fewer_than_a_quorum_is_unavailable_and_never_none() {
    for n in [1_u8, 3, 4, 5] {
        let lake = lake(n, 0);
        let quorum = usize::from(lake.regions.quorums().classic());
        for region in 0..=usize::from(n) - quorum {
            lake.set_down(region, true);
        }
        let writer = lake.writer();
        assert_eq!(writer.newest(&path()).await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(writer.at(&path(), 0).await.unwrap_err().kind(), ErrorKind::Unavailable);
        let listed = writer.list(None, None).try_collect::<Vec<_>>().await;
        assert_eq!(listed.unwrap_err().kind(), ErrorKind::Unavailable);
        let error = writer.propose(&path(), 0, value("a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
        assert!(error.to_string().contains("r0"), "{error}");
    }
}

#[tokio::test]
async fn a_lost_acknowledgement_is_recognised_as_our_own() {
    for n in [1_u8, 3, 4, 5] {
        let lake = lake(n, 0);
        for store in &lake.stores {
            store.faults.create_fails_after.store(true, Ordering::Relaxed);
        }
        let writer = lake.writer();
        assert_eq!(writer.propose(&path(), 0, value("a")).await.unwrap(), Proposed::Won, "n {n}");
        assert_eq!(writer.propose(&path(), 0, value("a")).await.unwrap(), Proposed::Won, "n {n}: again");
        let entries = lake.keys(0).await.len();
        assert!(entries <= 7, "n {n}: a ballot or two find the votes, if they are needed at all: {entries} entries");
        for region in (0..usize::from(n)).skip(usize::from(lake.regions.quorums().classic())) {
            lake.set_down(region, true);
        }
        assert_eq!(writer.propose(&path(), 1, value("b")).await.unwrap(), Proposed::Won, "n {n}: classic");
    }
}

#[tokio::test]
async fn a_region_error_never_means_lost_or_won() {
    // One region of three never answers for sure; another proposer's value is there already.
    let lake = lake(3, 0);
    lake.plant(0, &path(), 0, 0, &fast("other")).await;
    lake.set_down(0, true);
    let writer = lake.writer();
    assert_eq!(writer.propose(&path(), 0, value("mine")).await.unwrap(), Proposed::Won, "one vote of three decides nothing");
    lake.set_down(0, false);
    assert_eq!(newest(&writer).await, Some((0, value("mine"))));
    lake.set_down(1, true);
    lake.set_down(2, true);
    assert_eq!(writer.propose(&path(), 1, value("more")).await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
}

#[tokio::test]
async fn two_proposers_of_one_slot_have_one_winner_whose_value_the_loser_sees() {
    for n in [1_u8, 3, 4, 5, 16] {
        for seed in 1..12_u64 {
            let lake = lake(n, 0);
            for (store, i) in lake.stores.iter().zip(0_u64..) {
                store.faults.delay_ms.store((seed * 7 + i * i * 13) % 12, Ordering::Relaxed);
            }
            let (one, two) = (lake.writer(), lake.writer());
            let (here, there) = (path(), path());
            let delay = std::time::Duration::from_millis(seed % 7 * 3);
            let late = async {
                tokio::time::sleep(delay).await;
                two.propose(&there, 0, value("two")).await.unwrap()
            };
            let (first, second) = tokio::join!(async { one.propose(&here, 0, value("one")).await.unwrap() }, late);
            let winner = match (&first, &second) {
                (Proposed::Won, Proposed::Lost(decided)) => (decided, "one"),
                (Proposed::Lost(decided), Proposed::Won) => (decided, "two"),
                other => panic!("n {n} seed {seed}: {other:?}"),
            };
            assert_eq!((winner.0.slot, &winner.0.value, winner.0.digest), (0, &value(winner.1), digest(winner.1)));
            assert_eq!(newest(&lake.writer()).await, Some((0, value(winner.1))), "n {n} seed {seed}");
        }
    }
}

#[tokio::test]
async fn a_slot_that_a_stopped_writer_left_open_is_resolved_or_stepped_over_and_never_changes() {
    for n in [1_usize, 3, 4, 5] {
        for votes in 0..=n {
            for down in tolerated(u8::try_from(n).unwrap()) {
                let lake = lake(u8::try_from(n).unwrap(), 0);
                let writer = lake.writer();
                writer.propose(&path(), 0, value("old")).await.unwrap();
                writer.mark(&path(), 0, &marker("old")).await;
                writer.quiesce().await;
                for region in 0..votes {
                    lake.plant(region, &path(), 1, 0, &fast("new")).await;
                }
                for region in &down {
                    lake.set_down(*region, true);
                }
                let decided = votes >= usize::from(lake.regions.quorums().fast());
                let context = format!("n {n} votes {votes} down {down:?}");
                // A reader without a key gives a right answer or none.
                let read_only = lake.reader().newest(&path()).await;
                if let Ok(read) = &read_only {
                    let slot = read.as_ref().unwrap().slot;
                    assert!(slot == 1 || !decided, "{context}: a decided version was overlooked");
                } else {
                    assert_eq!(read_only.as_ref().unwrap_err().kind(), ErrorKind::Unavailable);
                    assert!(!down.is_empty(), "{context}: with all regions there, nothing is open");
                }
                let first = newest(&writer).await.unwrap();
                assert!(first == (1, value("new")) || (first == (0, value("old")) && !decided), "{context}: {first:?}");
                writer.quiesce().await;
                for region in &down {
                    lake.set_down(*region, false);
                }
                let again = newest(&writer).await.unwrap();
                assert!(again.0 >= first.0, "{context}: a version that was read is gone");
                let proposed = writer.propose(&path(), 1, value("mine")).await.unwrap();
                let end = newest(&writer).await.unwrap();
                assert_eq!(end.0, 1);
                assert_eq!(proposed == Proposed::Won, end.1 == value("mine"), "{context}");
                if first.0 == 1 {
                    assert_eq!(end, first, "{context}");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_unreadable_or_unauthentic_entry_makes_its_region_down_and_is_never_no_vote() {
    for n in [3_u8, 4, 5] {
        let lake = lake(n, 0);
        let writer = lake.writer();
        writer.propose(&path(), 0, value("a")).await.unwrap();
        writer.quiesce().await;
        let key = layout::entry_key(&path(), 0, 0).unwrap();
        let whole = lake.stored(0, &key).await;
        let mut flipped = whole.to_vec();
        flipped[110] ^= 1;
        let forged = {
            let name = path().to_string();
            let place = crate::format::entry::EntryPlace { lake: support::LAKE, configuration: 0, region: 0, path: &name, slot: 0, seq: 0 };
            fast("forged").seal(&place, &PrivateKey::from_seed(&[66; 32])).unwrap()
        };
        let moved = lake.stored(1, &key).await;
        for damaged in [flipped.into(), whole.slice(..whole.len() - 1), Bytes::new(), forged.into(), moved] {
            lake.overwrite(0, &key, damaged).await;
            // A proposer must not find room in the damaged region.
            let Proposed::Lost(decided) = writer.propose(&path(), 0, value("b")).await.unwrap() else {
                panic!("n {n}: a decided value was replaced")
            };
            assert_eq!(decided.value, value("a"));
            assert_eq!(newest(&writer).await, Some((0, value("a"))));
            writer.quiesce().await;
        }
        // Too many damaged ones: no answer rather than a wrong one.
        for region in 0..usize::from(n) {
            lake.overwrite(region, &key, Bytes::from_static(b"junk")).await;
        }
        assert_eq!(writer.newest(&path()).await.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(writer.propose(&path(), 0, value("c")).await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    }
}

#[tokio::test]
async fn an_entry_out_of_order_makes_its_region_down() {
    let lake = lake(3, 0);
    let writer = lake.writer();
    lake.plant(0, &path(), 0, 0, &EntryBody::Promise(ballot(5))).await;
    // No correct proposer votes below a promise.
    lake.plant(0, &path(), 0, 1, &EntryBody::Accept(ballot(4), value("x"))).await;
    lake.plant(1, &path(), 0, 0, &EntryBody::Promise(ballot(4))).await;
    lake.plant(1, &path(), 0, 1, &EntryBody::Accept(ballot(4), value("x"))).await;
    assert_eq!(writer.at(&path(), 0).await.unwrap().unwrap().value, value("x"), "the honest vote is completed");
    writer.quiesce().await;
    assert_eq!(lake.keys(0).await.len(), 2, "nothing is appended to a log that is broken");
}

#[tokio::test]
async fn names_that_a_region_makes_up_are_stepped_over() {
    let lake = lake(4, 0);
    let writer = lake.writer();
    writer.propose(&path(), 0, value("a")).await.unwrap();
    writer.quiesce().await;
    for slot in [1, 7, u64::MAX] {
        lake.overwrite(2, &layout::entry_key(&path(), slot, 0).unwrap(), Bytes::from_static(b"junk")).await;
    }
    let forged = marker("b").sign(support::LAKE, 0, path().as_ref(), 9, &PrivateKey::from_seed(&[66; 32]));
    lake.overwrite(2, &layout::marker_key(&path(), 9, &forged.to_text()).unwrap(), Bytes::new()).await;
    assert_eq!(newest(&lake.reader()).await, Some((0, value("a"))));
    assert_eq!(writer.propose(&path(), 1, value("b")).await.unwrap(), Proposed::Won, "the squatted region counts as down");
    assert_eq!(newest(&writer).await, Some((1, value("b"))));
}

#[tokio::test]
async fn one_region_whose_list_is_stale_hides_nothing() {
    for n in [4_u8, 5] {
        let lake = lake(n, 0);
        let writer = lake.writer();
        for slot in 0..2 {
            writer.propose(&path(), slot, value(&format!("v{slot}"))).await.unwrap();
        }
        writer.quiesce().await;
        let newest_slot = layout::entry_key(&path(), 1, 0).unwrap().filename().unwrap().to_owned();
        *lake.stores[0].faults.hidden.lock() = Some(newest_slot);
        assert_eq!(newest(&lake.reader()).await, Some((1, value("v1"))));
    }
}

#[tokio::test]
async fn a_marker_and_one_vote_tell_the_value_when_fewer_than_a_fast_quorum_answer() {
    let lake = lake(3, 0);
    let writer = lake.writer();
    writer.propose(&path(), 0, value("a")).await.unwrap();
    writer.quiesce().await;
    lake.set_down(2, true);
    assert_eq!(lake.reader().newest(&path()).await.unwrap_err().kind(), ErrorKind::Unavailable, "two of three votes may be all there are");
    let unsigned = marker("a").sign(support::LAKE, 0, path().as_ref(), 0, &PrivateKey::from_seed(&[66; 32]));
    lake.overwrite(0, &layout::marker_key(&path(), 0, &unsigned.to_text()).unwrap(), Bytes::new()).await;
    assert_eq!(lake.reader().newest(&path()).await.unwrap_err().kind(), ErrorKind::Unavailable, "a reader's marker proves nothing");
    writer.mark(&path(), 0, &marker("a")).await;
    writer.quiesce().await;
    assert_eq!(newest(&lake.reader()).await, Some((0, value("a"))));
    assert_eq!(lake.reader().at(&path(), 0).await.unwrap().unwrap().value, value("a"));
}

#[tokio::test]
async fn a_resolved_slot_is_marked() {
    let lake = lake(3, 0);
    let writer = lake.writer().describing(|_| Some(marker("a")));
    for region in 0..2 {
        lake.plant(region, &path(), 0, 0, &fast("a")).await;
    }
    lake.set_down(2, true);
    assert_eq!(newest(&writer).await, Some((0, value("a"))));
    writer.quiesce().await;
    let listed: Vec<_> = writer.list(None, None).try_collect().await.unwrap();
    assert_eq!(listed, [Listed::Marked { path: path(), slot: 0, marker: marker("a") }]);
}

#[tokio::test]
async fn a_collected_slot_is_an_error_and_never_not_found() {
    let lake = lake(5, 0);
    let writer = lake.writer();
    for region in 0..5 {
        let body = if region == 3 { EntryBody::Stub(digest("a")) } else { fast("a") };
        lake.plant(region, &path(), 0, 0, &body).await;
        lake.set_down(region, region < 2);
    }
    assert_eq!(lake.reader().at(&path(), 0).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(writer.propose(&path(), 0, value("b")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(writer.propose(&path(), 0, value("a")).await.unwrap(), Proposed::Won, "the stub names the digest of what was decided");
}

#[tokio::test(start_paused = true)]
async fn a_collected_version_is_collected_even_if_a_region_that_missed_it_answers_first() {
    let lake = lake(5, 0);
    let writer = lake.writer();
    // The version was collected while this region was down; its marker is there as well.
    lake.plant(0, &path(), 0, 0, &fast("a")).await;
    lake.plant(0, &path(), 0, 1, &EntryBody::Learned(value("a"))).await;
    let signed = marker("a").sign(support::LAKE, 0, path().as_ref(), 0, &lake.key);
    lake.overwrite(0, &layout::marker_key(&path(), 0, &signed.to_text()).unwrap(), Bytes::new()).await;
    for region in 1..5 {
        let body = if region == 1 { fast("a") } else { EntryBody::Stub(digest("a")) };
        lake.plant(region, &path(), 0, 0, &body).await;
        lake.stores[region].faults.delay_ms.store(50, Ordering::Relaxed);
    }
    for registers in [lake.reader(), lake.writer()] {
        let error = registers.at(&path(), 0).await.unwrap_err();
        assert!(is_collected(&error), "{error}");
    }
    let error = writer.close(&path(), 0).await.unwrap_err();
    assert!(is_collected(&error), "{error}");
    // Where no quorum answers, what one of them was told is still true.
    for region in [2, 3, 4] {
        lake.set_down(region, true);
    }
    assert_eq!(writer.at(&path(), 0).await.unwrap().unwrap().value, value("a"));
}

#[tokio::test]
async fn a_slow_region_gets_its_vote_after_the_answer() {
    let lake = lake(5, 0);
    lake.stores[4].faults.delay_ms.store(700, Ordering::Relaxed);
    let writer = lake.writer();
    let started = tokio::time::Instant::now();
    assert_eq!(writer.propose(&path(), 0, value("a")).await.unwrap(), Proposed::Won);
    assert!(started.elapsed().as_millis() < 500);
    assert!(lake.keys(4).await.is_empty());
    writer.quiesce().await;
    assert_eq!(lake.keys(4).await.len(), 1);
}

#[tokio::test]
async fn a_hanging_region_does_not_hold_up_a_fast_quorum_that_needs_it() {
    let lake = lake(3, 0);
    lake.stores[2].faults.delay_ms.store(3_600_000, Ordering::Relaxed);
    let started = tokio::time::Instant::now();
    assert_eq!(lake.writer().propose(&path(), 0, value("a")).await.unwrap(), Proposed::Won);
    assert!(started.elapsed().as_millis() < 1_000, "{:?}", started.elapsed());
}

#[tokio::test]
async fn without_a_writer_key_nothing_is_proposed() {
    let lake = lake(3, 0);
    assert_eq!(lake.reader().propose(&path(), 0, value("a")).await.unwrap_err().kind(), ErrorKind::Permission);
    assert!(lake.keys(0).await.is_empty());
}

#[tokio::test]
async fn names_are_listed_in_the_order_of_their_bytes_with_their_newest_slots() {
    let lake = lake(5, 0);
    let writer = lake.writer();
    let names = ["a", "a b", "a!", "a-b", "a/b", "a/c d/e", "ab", "b/%/x", "b/0", "c"];
    for (i, name) in names.iter().enumerate() {
        let name = Path::parse(name).unwrap();
        for slot in 0..=u64::try_from(i % 3).unwrap() {
            let text = format!("{name} {slot}");
            writer.propose(&name, slot, value(&text)).await.unwrap();
            if i % 2 == 0 {
                writer.mark(&name, slot, &marker(&text)).await;
            }
        }
    }
    writer.quiesce().await;
    for down in tolerated(5) {
        for region in 0..5 {
            lake.set_down(region, down.contains(&region));
        }
        let all: Vec<_> = writer.list(None, None).try_collect().await.unwrap();
        assert_eq!(all.iter().map(|l| l.path().to_string()).collect::<Vec<_>>(), names);
        for (i, listed) in all.iter().enumerate() {
            let slot = u64::try_from(i % 3).unwrap();
            let path = Path::parse(names[i]).unwrap();
            let expected = match i % 2 {
                0 => Listed::Marked { slot, marker: marker(&format!("{path} {slot}")), path },
                _ => Listed::Unmarked { path, slot },
            };
            assert_eq!(*listed, expected);
        }
        let below: Vec<_> = writer.list(Some(&Path::from("a")), None).try_collect().await.unwrap();
        assert_eq!(below.iter().map(|l| l.path().as_ref()).collect::<Vec<_>>(), ["a/b", "a/c d/e"]);
        let after: Vec<_> = writer.list(None, Some(&Path::from("a/b"))).try_collect().await.unwrap();
        assert_eq!(after.iter().map(|l| l.path().as_ref()).collect::<Vec<_>>(), &names[5..]);
        // The lake's own names lie elsewhere, and are no less among the others in order.
        for own in ["!", ".lakeseal", ".lakeseal/writes/x", ".m"] {
            let after: Vec<_> = writer.list(None, Some(&Path::from(own))).try_collect().await.unwrap();
            assert_eq!(after.len(), names.len(), "{own}");
        }
    }
}
