//! Regions that forget or forge register entries: what holds with `liars = b`, and what can and cannot happen without.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::TryStreamExt as _;
use lakeseal::Error;
use lakeseal::clock::SystemClock;
use lakeseal::id::LakeId;
use lakeseal::key::PrivateKey;
use lakeseal::lake::testing::{FaultStore, FaultyRegion};
use lakeseal::region::{Quorums, Region, RegionOptions, RegionSet, layout};
use lakeseal::store::{ErasureStore, Profile};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};

use super::{content, memory};

/// A lake whose stores can be opened cold, again and again.
struct Lake {
    id: LakeId,
    writer: [u8; 32],
    stores: Vec<Arc<dyn ObjectStore>>,
    faults: Vec<FaultyRegion>,
    profile: Profile,
    liars: u8,
}

impl Lake {
    fn new(data: u8, parity: u8, liars: u8) -> Self {
        let n = data + parity;
        Self {
            id: LakeId::random().unwrap(),
            writer: [7; 32],
            stores: memory(n),
            faults: (0..n).map(|_| FaultyRegion::default()).collect(),
            profile: Profile::new(data, parity),
            liars,
        }
    }

    fn open(&self) -> ErasureStore {
        let writer = PrivateKey::from_seed(&self.writer);
        let region = |(index, store): (u8, &Arc<dyn ObjectStore>)| {
            let store = Arc::new(FaultStore::new(Arc::clone(store), self.faults[usize::from(index)].clone()));
            Arc::new(Region::new(format!("r{index}").parse().unwrap(), index, store, RegionOptions::default()))
        };
        let regions = (0..).zip(&self.stores).map(region).collect();
        let quorums = Quorums::new(u8::try_from(self.stores.len()).unwrap(), self.liars).unwrap();
        let set = RegionSet::new(self.id, regions, quorums, vec![writer.public()], 0).unwrap();
        ErasureStore::new(Arc::new(set), self.profile.clone(), Some(Arc::new(writer)), Arc::new(SystemClock)).unwrap()
    }
}

fn create() -> PutOptions {
    PutOptions { mode: PutMode::Create, ..PutOptions::default() }
}

/// What a region that lies about registers does to what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forgery {
    /// The newest slot of every register is forgotten.
    ForgetsNewest,
    /// Markers stay, entries go.
    ForgetsEntries,
    /// Entries stay, markers go.
    ForgetsMarkers,
    /// Whole registers are forgotten.
    ForgetsRegisters,
    /// Everything is forgotten.
    ForgetsAll,
    /// The newest slot shows the entries of the one before.
    OlderEntries,
    /// Registers show each other's entries.
    OtherPaths,
    /// Entries of other regions.
    OtherRegions,
    /// Bytes that are no entry.
    Garbage,
    /// Nothing where bytes were.
    Empty,
    /// Slots, markers and names that never were.
    Invents,
}

const FORGERIES: [Forgery; 11] = [
    Forgery::ForgetsNewest,
    Forgery::ForgetsEntries,
    Forgery::ForgetsMarkers,
    Forgery::ForgetsRegisters,
    Forgery::ForgetsAll,
    Forgery::OlderEntries,
    Forgery::OtherPaths,
    Forgery::OtherRegions,
    Forgery::Garbage,
    Forgery::Empty,
    Forgery::Invents,
];

async fn stored(region: &Arc<dyn ObjectStore>) -> BTreeMap<Path, Vec<u8>> {
    let mut found = BTreeMap::new();
    for meta in region.list(None).try_collect::<Vec<_>>().await.unwrap() {
        found.insert(meta.location.clone(), region.get(&meta.location).await.unwrap().bytes().await.unwrap().to_vec());
    }
    found
}

async fn restore(region: &Arc<dyn ObjectStore>, kept: &BTreeMap<Path, Vec<u8>>) {
    for meta in region.list(None).try_collect::<Vec<_>>().await.unwrap() {
        region.delete(&meta.location).await.unwrap();
    }
    for (key, bytes) in kept {
        region.put(key, bytes.clone().into()).await.unwrap();
    }
}

/// Makes a region forge what it holds; `other` is what another region holds.
async fn forge(region: &Arc<dyn ObjectStore>, how: Forgery, other: &BTreeMap<Path, Vec<u8>>) {
    let held = stored(region).await;
    let mut newest: BTreeMap<Path, u64> = BTreeMap::new();
    for name in held.keys().filter_map(layout::parse_register_key) {
        let slot = newest.entry(name.path).or_default();
        *slot = (*slot).max(name.slot);
    }
    let paths: Vec<Path> = newest.keys().cloned().collect();
    for (number, (key, bytes)) in held.iter().enumerate() {
        let Some(name) = layout::parse_register_key(key) else {
            if how == Forgery::ForgetsAll {
                region.delete(key).await.unwrap();
            }
            continue;
        };
        let is_newest = name.slot == newest[&name.path];
        let layout::RegisterItem::Entry(seq) = name.item else {
            let goes = matches!(how, Forgery::ForgetsMarkers | Forgery::ForgetsRegisters | Forgery::ForgetsAll);
            if goes || (how == Forgery::ForgetsNewest && is_newest) {
                region.delete(key).await.unwrap();
            }
            continue;
        };
        let replaced = match how {
            Forgery::ForgetsNewest if is_newest => None,
            Forgery::ForgetsEntries | Forgery::ForgetsRegisters | Forgery::ForgetsAll => None,
            Forgery::OlderEntries if is_newest && name.slot > 0 => {
                held.get(&layout::entry_key(&name.path, name.slot - 1, seq).unwrap()).cloned()
            }
            Forgery::OtherPaths => held.get(&layout::entry_key(&paths[number % paths.len()], name.slot, seq).unwrap()).cloned(),
            Forgery::OtherRegions => other.get(key).cloned(),
            Forgery::Garbage => Some(content(number, bytes.len())),
            Forgery::Empty => Some(Vec::new()),
            _ => Some(bytes.clone()),
        };
        match replaced {
            Some(bytes) => region.put(key, bytes.into()).await.map(|_| ()).unwrap(),
            None => region.delete(key).await.unwrap(),
        }
    }
    if how == Forgery::Invents {
        for (path, slot) in &newest {
            for ahead in 1..=70 {
                let old = held.get(&layout::entry_key(path, *slot, 0).unwrap()).cloned().unwrap_or_default();
                region.put(&layout::entry_key(path, slot + ahead, 0).unwrap(), old.into()).await.unwrap();
                region.put(&layout::marker_key(path, slot + ahead, "AAAA").unwrap(), "".into()).await.unwrap();
            }
        }
        region.put(&layout::entry_key(&"t/invented".into(), 0, 0).unwrap(), "x".into()).await.unwrap();
    }
}

/// What the lake of these tests holds: fast and classic decisions, overwritten, deleted and recreated objects.
async fn fill(lake: &Lake, absent: Option<usize>) -> BTreeMap<&'static str, Option<Vec<u8>>> {
    let store = lake.open();
    let put = |path: &'static str, number: usize, size: usize| {
        let store = store.clone();
        async move {
            let bytes = content(number, size);
            store.put(&path.into(), bytes.clone().into()).await.unwrap();
            (path, Some(bytes))
        }
    };
    let mut objects = BTreeMap::new();
    put("t/overwritten", 1, 100).await;
    put("t/deleted", 2, 100).await;
    put("t/large", 3, 200_000).await;
    // From here on a region may be away, so that ballots are classic ones.
    if let Some(absent) = absent {
        store.quiesce().await;
        lake.faults[absent].set_down(true);
    }
    objects.extend([put("t/once", 4, 50).await, put("t/overwritten", 5, 120).await, put("t/large", 6, 150_000).await]);
    store.delete(&"t/deleted".into()).await.unwrap();
    objects.insert("t/deleted", None);
    store.quiesce().await;
    if let Some(absent) = absent {
        lake.faults[absent].set_down(false);
    }
    objects
}

/// Reads, lists and creates with a cold store: all are right. Says how many were errors instead.
async fn check(lake: &Lake, objects: &BTreeMap<&'static str, Option<Vec<u8>>>, case: &str) -> usize {
    let mut errors = 0;
    let mut failed = |error: &object_store::Error| {
        assert!(Error::find(error).is_some(), "{case}: {error:?}");
        errors += 1;
    };
    for (path, bytes) in objects {
        let store = lake.open();
        let found = match store.get(&(*path).into()).await {
            Ok(object) => object.bytes().await.map(|found| Some(found.to_vec())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => assert!(found == *bytes, "{case}: {path}: {:?} bytes", found.map(|found| found.len())),
            Err(error) => failed(&error),
        }
        if bytes.is_some() {
            match store.put_opts(&(*path).into(), "second".into(), create()).await {
                Ok(_) => panic!("{case}: {path} was created a second time"),
                Err(object_store::Error::AlreadyExists { .. }) => {}
                Err(error) => failed(&error),
            }
        }
        store.quiesce().await;
    }
    match lake.open().list(None).try_collect::<Vec<_>>().await {
        Ok(listed) => {
            let names: Vec<_> = listed.iter().map(|meta| (meta.location.to_string(), meta.size)).collect();
            let expected: Vec<_> =
                objects.iter().filter_map(|(path, bytes)| Some(((*path).to_owned(), bytes.as_ref()?.len() as u64))).collect();
            assert_eq!(names, expected, "{case}");
        }
        Err(error) => failed(&error),
    }
    errors
}

async fn every_forgery(data: u8, parity: u8, liars: u8, absent: Option<usize>) {
    let lake = Lake::new(data, parity, liars);
    let objects = fill(&lake, absent).await;
    let n = lake.stores.len();
    let mut kept = Vec::new();
    for region in &lake.stores {
        kept.push(stored(region).await);
    }
    for how in FORGERIES {
        for first in 0..n {
            let lying: Vec<usize> = (0..usize::from(liars)).map(|i| (first + i) % n).collect();
            for liar in &lying {
                forge(&lake.stores[*liar], how, &kept[(*liar + 1) % n]).await;
            }
            let case = format!("n = {n}, b = {liars}, {how:?} by {lying:?}, absent when written: {absent:?}");
            let errors = check(&lake, &objects, &case).await;
            assert_eq!(errors, 0, "{case}: right, but not available");
            for (region, kept) in lake.stores.iter().zip(&kept) {
                restore(region, kept).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn four_regions_with_one_liar_read_right_and_create_once() {
    every_forgery(2, 2, 1, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_regions_with_one_liar_read_right_and_create_once() {
    every_forgery(3, 2, 1, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seven_regions_with_two_liars_read_right_and_create_once() {
    every_forgery(4, 3, 2, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_regions_with_one_liar_read_right_what_was_written_while_another_was_away() {
    every_forgery(3, 2, 1, Some(4)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_budget_for_liars_one_that_forgets_can_roll_a_name_back_and_fork_it_but_invents_no_bytes() {
    let lake = Lake::new(2, 1, 0);
    let path = Path::from("t/a");
    let [old, new, other] = [1, 2, 3].map(|number| content(number, 100));
    let writer = lake.open();
    writer.put(&path, old.clone().into()).await.unwrap();
    writer.quiesce().await;
    lake.faults[2].set_down(true);
    writer.put(&path, new.clone().into()).await.unwrap();
    writer.quiesce().await;
    // The liar forgets the newest version; of those that know it, the other one is unreachable.
    let before = stored(&lake.stores[0]).await;
    forge(&lake.stores[0], Forgery::ForgetsNewest, &before).await;
    lake.faults[2].set_down(false);
    lake.faults[1].set_down(true);
    let reader = lake.open();
    // What can happen: an acknowledged version is not seen, ...
    assert_eq!(reader.get(&path).await.unwrap().bytes().await.unwrap(), old, "the name was rolled back");
    // ... and another takes its place.
    reader.put(&path, other.clone().into()).await.unwrap();
    reader.quiesce().await;
    assert_eq!(lake.open().get(&path).await.unwrap().bytes().await.unwrap(), other, "the name was forked");
    lake.faults[1].set_down(false);
    // What cannot: whoever reads, over whichever regions, gets bytes that a writer wrote, or an error.
    for away in [None, Some(0), Some(1), Some(2)] {
        if let Some(away) = away {
            lake.faults[away].set_down(true);
        }
        match lake.open().get(&path).await {
            Ok(object) => {
                let found = object.bytes().await.unwrap();
                assert!([&old, &new, &other].iter().any(|written| found == **written), "{away:?}: bytes that nobody wrote");
            }
            Err(error) => assert!(!matches!(error, object_store::Error::NotFound { .. }), "{away:?}: {error}"),
        }
        lake.faults.iter().for_each(|fault| fault.set_down(false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_budget_for_liars_no_forgery_by_one_region_makes_bytes_that_were_never_written() {
    for (data, parity) in [(2, 1), (2, 2), (3, 2)] {
        let lake = Lake::new(data, parity, 0);
        fill(&lake, None).await;
        let mut kept = Vec::new();
        for region in &lake.stores {
            kept.push(stored(region).await);
        }
        let written: Vec<Vec<u8>> =
            [(1, 100), (2, 100), (3, 200_000), (4, 50), (5, 120), (6, 150_000)].map(|(number, size)| content(number, size)).to_vec();
        for how in FORGERIES {
            for liar in 0..lake.stores.len() {
                forge(&lake.stores[liar], how, &kept[(liar + 1) % kept.len()]).await;
                for path in ["t/overwritten", "t/deleted", "t/once", "t/large"] {
                    let store = lake.open();
                    if let Ok(object) = store.get(&path.into()).await
                        && let Ok(found) = object.bytes().await
                    {
                        assert!(written.iter().any(|bytes| found == *bytes), "{data}+{parity}, {how:?} by {liar}: {path}");
                    }
                    store.quiesce().await;
                }
                for (region, kept) in lake.stores.iter().zip(&kept) {
                    restore(region, kept).await;
                }
            }
        }
    }
}
