//! Walking all slots, and telling regions what is decided.

use super::*;
use crate::format::entry::MARKER_TEXT_BYTES;
use crate::region::{Quorums, RegionOptions};
use crate::register::Taught;

async fn walked(registers: &Registers, prefix: Option<&Path>, after: Option<&Path>) -> Vec<WalkedRegister> {
    registers.walk(prefix, after).try_collect().await.unwrap()
}

#[tokio::test]
async fn a_walk_shows_every_slot_of_every_name_in_order_with_what_each_region_lists() {
    let lake = lake(5, 0);
    let writer = lake.writer();
    let names: Vec<Path> = ["a", "a/b", "t/x", "t-x"].into_iter().map(Path::from).collect();
    for name in &names {
        for slot in 0..3 {
            let text = format!("{name}{slot}");
            assert_eq!(writer.propose(name, slot, value(&text)).await.unwrap(), Proposed::Won);
            if slot < 2 {
                writer.mark(name, slot, &marker(&text)).await;
            }
        }
    }
    writer.quiesce().await;
    lake.set_down(4, true);
    let found = walked(&lake.reader(), None, None).await;
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(found.iter().map(|register| register.path.clone()).collect::<Vec<_>>(), sorted);
    for register in &found {
        assert_eq!(register.unreachable, [4]);
        assert_eq!(register.slots.iter().map(|slot| slot.slot).collect::<Vec<_>>(), [2, 1, 0]);
        for slot in &register.slots {
            assert_eq!(slot.marker.map(|m| m.value), (slot.slot < 2).then(|| digest(&format!("{}{}", register.path, slot.slot))));
            assert_eq!(slot.regions.len(), 4);
            assert!(slot.regions.iter().all(|r| (r.entries, r.listed, r.marked) == (1, 1, slot.slot < 2)));
            assert!(slot.regions.iter().all(|r| r.entries_modified_ms.is_some_and(|ms| ms > 1_600_000_000_000)));
        }
    }
    assert_eq!(walked(&lake.reader(), Some(&Path::from("t")), None).await.len(), 1);
    assert_eq!(walked(&lake.reader(), None, Some(&sorted[1])).await.len(), 2);
    for region in [0, 1] {
        lake.set_down(region, true);
    }
    let error = lake.reader().walk(None, None).try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn the_lakes_own_registers_are_walked_only_where_they_lie() {
    let lake = lake(3, 0);
    let writer = lake.writer();
    let own = Path::from(format!("{}/writes/1", layout::SYSTEM_SEGMENT));
    writer.propose(&own, 0, value("own")).await.unwrap();
    writer.propose(&path(), 0, value("a")).await.unwrap();
    writer.quiesce().await;
    let system = Path::from(layout::SYSTEM_SEGMENT);
    assert_eq!(walked(&writer, Some(&system), None).await.into_iter().map(|r| r.path).collect::<Vec<_>>(), [own]);
    assert_eq!(walked(&writer, None, None).await.into_iter().map(|r| r.path).collect::<Vec<_>>(), [path()]);
}

#[tokio::test]
async fn a_region_that_missed_a_decision_is_taught_it_once_and_then_proves_it_alone() {
    let lake = lake(5, 0);
    let writer = lake.writer();
    lake.set_down(4, true);
    writer.propose(&path(), 0, value("a")).await.unwrap();
    writer.quiesce().await;
    lake.set_down(4, false);
    let decided = writer.at(&path(), 0).await.unwrap().unwrap();
    assert_eq!(lake.reader().teach(&path(), &decided, 4).await.unwrap_err().kind(), ErrorKind::Permission);
    assert_eq!(writer.teach(&path(), &decided, 4).await.unwrap(), Taught::Written);
    assert_eq!(writer.teach(&path(), &decided, 4).await.unwrap(), Taught::Already);
    // Behind a vote as well.
    assert_eq!(writer.teach(&path(), &decided, 0).await.unwrap(), Taught::Written);
    let inspected = writer.inspect(&path(), 0, &decided.digest, 0, 0).await.unwrap();
    assert_eq!((inspected.entries, inspected.learned, inspected.collected), (2, true, false));
    assert_eq!(inspected.value, Some(value("a")));
    let other = Decided { value: value("b"), digest: digest("b"), ..decided.clone() };
    assert_eq!(writer.teach(&path(), &other, 4).await.unwrap_err().kind(), ErrorKind::Corrupt);
    // Whoever proposes learns what is decided.
    assert_eq!(writer.propose(&path(), 0, value("c")).await.unwrap(), Proposed::Lost(decided));
    assert!(writer.mark_region(&path(), 0, &marker("a"), 4).await.unwrap());
    assert!(!writer.mark_region(&path(), 0, &marker("a"), 4).await.unwrap());
}

#[tokio::test]
async fn nothing_is_taught_behind_an_entry_that_cannot_be_read() {
    let lake = lake(5, 0);
    let writer = lake.writer();
    writer.propose(&path(), 0, value("a")).await.unwrap();
    writer.quiesce().await;
    let decided = writer.at(&path(), 0).await.unwrap().unwrap();
    let key = layout::entry_key(&path(), 0, 0).unwrap();
    let mut bytes = lake.stored(2, &key).await.to_vec();
    bytes[110] ^= 1;
    lake.overwrite(2, &key, bytes.into()).await;
    assert!(matches!(writer.teach(&path(), &decided, 2).await.unwrap(), Taught::CannotRead(_)));
    assert!(is_unreadable(&writer.inspect(&path(), 0, &decided.digest, 2, 1).await.unwrap_err()));
    assert_eq!(lake.keys(2).await.len(), 1);
}

#[tokio::test]
async fn a_region_without_room_for_the_keys_of_markers_has_none_and_nothing_fails_for_it() {
    let long = Path::from("x".repeat(200));
    let bytes = layout::marker_key_bytes(&long, MARKER_TEXT_BYTES).unwrap();
    for (room, markers) in [(bytes, 3), (bytes - 1, 2)] {
        let lake = lake(3, 0);
        let regions = (0..3).zip(&lake.stores).map(|(index, store)| {
            let region = Region::new(format!("r{index}").parse().unwrap(), index, Arc::new(store.clone()), RegionOptions::default());
            Arc::new(if index == 1 { region.with_room_for_keys(room) } else { region })
        });
        let set = RegionSet::new(support::LAKE, regions.collect(), Quorums::new(3, 0).unwrap(), vec![lake.key.public()], 0).unwrap();
        let writer = Registers::new(Arc::new(set), Some(Arc::clone(&lake.key)));
        writer.propose(&long, 0, value("a")).await.unwrap();
        writer.mark(&long, 0, &marker("a")).await;
        writer.quiesce().await;
        assert!(!writer.mark_region(&long, 0, &marker("a"), 1).await.unwrap(), "there before, or nowhere");
        let mut found = 0;
        for region in 0..3 {
            let key = lake.keys(region).await.into_iter().find(|key| key.contains(".d"));
            assert!(key.as_ref().is_none_or(|key| key.len() == bytes), "{key:?}");
            found += usize::from(key.is_some());
        }
        assert_eq!(found, markers);
    }
}

#[tokio::test]
async fn a_region_is_told_that_a_slot_was_collected_by_a_copy_of_anothers_stub_behind_whatever_it_said() {
    let lake = lake(4, 0);
    let writer = lake.writer();
    let key = layout::entry_key(&path(), 0, 0).unwrap();
    // The second said nothing, the third promised a ballot, the last holds something that is no entry.
    let stub = EntryBody::Stub(digest("a"));
    lake.plant(0, &path(), 0, 0, &stub).await;
    lake.plant(2, &path(), 0, 0, &EntryBody::Promise(ballot(3))).await;
    lake.overwrite(3, &key, "noise".into()).await;
    for region in [1, 2] {
        assert_eq!(writer.teach_collected(&path(), 0, region).await.unwrap(), Taught::Written);
        assert_eq!(writer.teach_collected(&path(), 0, region).await.unwrap(), Taught::Already);
    }
    assert!(matches!(writer.teach_collected(&path(), 0, 3).await.unwrap(), Taught::CannotRead(_)));
    let copied = layout::entry_key(&path(), 0, 1).unwrap();
    assert_eq!((lake.stored(1, &key).await, lake.stored(2, &copied).await), (lake.stored(0, &key).await, lake.stored(0, &key).await));
    // Each of them says so alone.
    lake.set_down(0, true);
    lake.plant(3, &path(), 0, 0, &fast("b")).await;
    for silent in [1, 2] {
        lake.set_down(silent, true);
        let error = lake.reader().at(&path(), 0).await.unwrap_err();
        assert!(is_collected(&error), "{silent}: {error}");
        lake.set_down(silent, false);
    }
    // Nobody has a stub of another slot.
    lake.set_down(0, false);
    assert_eq!(writer.teach_collected(&path(), 1, 1).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn what_follows_a_stub_has_no_meaning_readable_or_not() {
    let lake = lake(3, 0);
    let writer = lake.writer();
    writer.propose(&path(), 0, value("a")).await.unwrap();
    writer.quiesce().await;
    let decided = writer.at(&path(), 0).await.unwrap().unwrap();
    writer.teach(&path(), &decided, 1).await.unwrap();
    lake.plant(1, &path(), 0, 0, &EntryBody::Stub(decided.digest)).await;
    let inspected = writer.inspect(&path(), 0, &decided.digest, 1, 2).await.unwrap();
    assert_eq!((inspected.entries, inspected.collected), (1, true));
    lake.overwrite(1, &layout::entry_key(&path(), 0, 1).unwrap(), "noise".into()).await;
    assert!(writer.inspect(&path(), 0, &decided.digest, 1, 2).await.unwrap().collected);
}
