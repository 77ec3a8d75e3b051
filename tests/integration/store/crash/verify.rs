//! What must hold of a lake after its writer was killed.

use std::collections::BTreeSet;

use futures::TryStreamExt as _;
use lakeseal::format::manifest::{Content, ObjectManifest};
use lakeseal::lake::Lake;
use lakeseal::region::directory::DirectoryStore;
use lakeseal::region::layout;
use lakeseal::register::Registers;
use lakeseal::store::ErasureStore;
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};

use super::lake::{CrashLake, store};
use super::leaves_shards;
use super::script::{Objects, SCRIPT, Step, objects_after, paths};
use crate::store::content;

/// Checks everything; then that the lake can be written, and that this changes nothing else.
pub async fn after_crash(lake: &CrashLake, journal: &str, case: &str) {
    let versions = acknowledged_versions(journal, case);
    let acknowledged = versions.len();
    let open = lake.open_lake().await;
    assert!(open.down.is_empty(), "{case}: {:?}", open.down);
    let first = store(&open);
    let found = read_all(&first, case).await;
    check_objects(&found, acknowledged, case);
    let listed: Vec<_> = first.list(None).try_collect().await.unwrap_or_else(|error| panic!("{case}: {error}"));
    let again = read_all(&first, case).await;
    check_follows(&found, &again, acknowledged, case);
    check_listing(&first, listed, [&found, &again], acknowledged, case).await;
    check_versions(&first, &versions, case).await;
    first.quiesce().await;
    check_files(lake, &open, acknowledged, case).await;

    // The same for whoever asks, whichever regions are down.
    let away = case.bytes().map(usize::from).sum::<usize>() % open.region_set.len();
    let parity = usize::from(open.record.profile.parity).min(open.region_set.len() - usize::from(open.region_set.quorums().classic()));
    let gone: Vec<usize> = (0..parity).map(|i| (away + i * 2) % open.region_set.len()).collect();
    for index in &gone {
        std::fs::rename(lake.region(*index), lake.region(*index).with_extension("away")).unwrap();
    }
    let degraded = lake.open().await;
    let fewer = read_all(&degraded, &format!("{case}, regions {gone:?} away")).await;
    check_follows(&again, &fewer, acknowledged, &format!("{case}, regions {gone:?} away"));
    degraded.quiesce().await;
    for index in &gone {
        std::fs::rename(lake.region(*index).with_extension("away"), lake.region(*index)).unwrap();
    }
    let later = lake.open().await;
    goes_on(&later, &fewer, acknowledged, case).await;
    check_versions(&later, &versions, case).await;
}

/// After the whole script nothing but its objects is there, in all their versions.
pub async fn intact(lake: &CrashLake, journal: &str, case: &str) {
    let versions = acknowledged_versions(journal, case);
    assert_eq!(versions.len(), SCRIPT.len(), "{case}");
    let store = lake.open().await;
    let found = read_all(&store, case).await;
    check_objects(&found, SCRIPT.len(), case);
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap_or_else(|error| panic!("{case}: {error}"));
    check_listing(&store, listed, [&found, &found], SCRIPT.len(), case).await;
    check_versions(&store, &versions, case).await;
    store.quiesce().await;
}

/// What each acknowledged step was told.
fn acknowledged_versions(journal: &str, case: &str) -> Vec<String> {
    journal
        .lines()
        .filter_map(|line| line.strip_prefix("ack ")?.split_once(' '))
        .enumerate()
        .map(|(expected, (number, version))| {
            assert_eq!(number.parse(), Ok(expected), "{case}: the journal skips a step");
            version.to_owned()
        })
        .collect()
}

/// The paths that the step under way may have changed.
fn uncertain(acknowledged: usize) -> Vec<&'static str> {
    let (before, after) = (objects_after(acknowledged), objects_after((acknowledged + 1).min(SCRIPT.len())));
    paths().into_iter().filter(|path| before.get(path) != after.get(path)).collect()
}

/// What was seen stays so, but that the last vote of the dead writer may be completed by a reader who meets it: from before to after,
/// and never back.
fn check_follows(earlier: &Objects, later: &Objects, acknowledged: usize, case: &str) {
    let (before, after) = (objects_after(acknowledged), objects_after((acknowledged + 1).min(SCRIPT.len())));
    for path in paths() {
        let completed = earlier.get(path) == before.get(path) && later.get(path) == after.get(path);
        assert!(earlier.get(path) == later.get(path) || completed, "{case}: {path} changed while nobody wrote");
    }
}

async fn read_all(store: &ErasureStore, case: &str) -> Objects {
    let mut found = Objects::new();
    for path in paths() {
        match store.get(&path.into()).await {
            Ok(object) => {
                let bytes = object.bytes().await.unwrap_or_else(|error| panic!("{case}: {path}: {error}"));
                found.insert(path, bytes.to_vec());
            }
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => panic!("{case}: {path}: {error}"),
        }
    }
    found
}

/// Each object is as before the step under way or as after it; a rename may have come half of its way.
fn check_objects(found: &Objects, acknowledged: usize, case: &str) {
    let (before, after) = (objects_after(acknowledged), objects_after((acknowledged + 1).min(SCRIPT.len())));
    let step = SCRIPT.get(acknowledged);
    for path in paths() {
        let held = found.get(path);
        let allowed = held == before.get(path) || held == after.get(path);
        let lengths = [held, before.get(path), after.get(path)].map(|bytes| bytes.map(Vec::len));
        assert!(allowed, "{case}: {path} after {acknowledged} steps, {step:?} under way: found, before, after: {lengths:?}");
    }
    if let Some(Step::Rename(from, to)) = step {
        assert!(found.contains_key(from) || found.get(to) == after.get(to), "{case}: the rename lost the object");
    }
}

/// A list shows what gets show, before it or after it.
async fn check_listing(store: &ErasureStore, listed: Vec<ObjectMeta>, gets: [&Objects; 2], acknowledged: usize, case: &str) {
    let names: Vec<_> = listed.iter().map(|meta| (meta.location.to_string(), meta.size)).collect();
    let expected = gets.map(|found| found.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.len() as u64)).collect::<Vec<_>>());
    assert!(expected.contains(&names), "{case}: listed {names:?}, got {expected:?}");
    let uncertain = uncertain(acknowledged);
    for meta in listed.into_iter().filter(|meta| !uncertain.contains(&meta.location.as_ref())) {
        assert_eq!(store.head(&meta.location).await.unwrap(), meta, "{case}: head and list differ");
    }
}

/// Acknowledged versions can be asked for, overwritten or not.
async fn check_versions(store: &ErasureStore, versions: &[String], case: &str) {
    for (number, version) in versions.iter().enumerate().filter(|(_, version)| *version != "-") {
        let (Step::Create(path, size) | Step::Put(path, size) | Step::Update(path, size) | Step::Multipart(path, size)) = SCRIPT[number]
        else {
            panic!("{case}: step {number} has no version")
        };
        let options = GetOptions { version: Some(version.clone()), ..GetOptions::default() };
        let object = store.get_opts(&path.into(), options).await.unwrap_or_else(|error| panic!("{case}: {path} {version}: {error}"));
        assert!(object.bytes().await.unwrap() == content(number, size), "{case}: {path} {version}");
    }
}

/// Nothing lies in the regions that the steps do not explain.
async fn check_files(lake: &CrashLake, open: &Lake, acknowledged: usize, case: &str) {
    let [orphans, lost] = uploads(lake, open, case).await;
    let explained = usize::from(leaves_shards(SCRIPT.get(acknowledged)));
    assert!(orphans.len() <= explained, "{case}: orphans {orphans:?}, {explained} explained by {:?}", SCRIPT.get(acknowledged));
    assert_eq!(lost, BTreeSet::new(), "{case}: versions without shards");
}

/// After a collection that came to its end there are no orphans, and no version lacks its shards.
pub async fn nothing_is_left(lake: &CrashLake, case: &str) {
    let found = uploads(lake, &lake.open_lake().await, case).await;
    assert_eq!(found, [BTreeSet::new(), BTreeSet::new()], "{case}: orphans, and versions without shards");
}

/// After the whole script its objects are there, whichever older versions are.
pub async fn newest_intact(lake: &CrashLake, case: &str) {
    let store = lake.open().await;
    let found = read_all(&store, case).await;
    check_objects(&found, SCRIPT.len(), case);
    let listed: Vec<_> = store.list(None).try_collect().await.unwrap_or_else(|error| panic!("{case}: {error}"));
    check_listing(&store, listed, [&found, &found], SCRIPT.len(), case).await;
    store.quiesce().await;
}

/// Uploads whose shards no version names, and those that a version names but that have no shard.
async fn uploads(lake: &CrashLake, open: &Lake, case: &str) -> [BTreeSet<String>; 2] {
    let registers = Registers::new(open.region_set.clone(), open.writer.clone());
    let (mut slots, mut uploads) = (BTreeSet::new(), BTreeSet::new());
    for index in 0..open.region_set.len() {
        let region = DirectoryStore::new(lake.region(index), false);
        let keys: Vec<_> = region.list(None).try_collect().await.unwrap();
        for meta in keys {
            if let Some(name) = layout::parse_register_key(&meta.location) {
                // The lake's own registers bind streamed writes to slots; they name no shards.
                if !layout::is_system(&name.path) {
                    slots.insert((name.path.to_string(), name.slot));
                }
            } else if let Some(name) = layout::parse_shard_key(&meta.location) {
                uploads.insert(name.write_id.to_string());
            } else {
                let known = meta.location == layout::id_key()
                    || meta.location.prefix_matches(&layout::configuration_prefix())
                    // What a stopped collector left when it asked for the time.
                    || (meta.location.as_ref().starts_with("check-") && meta.location.as_ref().ends_with("/clock"));
                assert!(known, "{case}: {} lies in region {index}", meta.location);
            }
        }
        let staged = std::fs::read_dir(lake.region(index).join("#tmp-staging")).map(Iterator::count).unwrap_or(0);
        assert!(staged <= 16, "{case}: {staged} staged files in region {index}");
    }
    let mut named: BTreeSet<String> = BTreeSet::new();
    for (path, slot) in slots {
        let decided = match registers.at(&Path::from(path), slot).await {
            Ok(Some(decided)) => decided,
            Ok(None) => continue,
            Err(error) if error.message().contains("was collected") => continue,
            Err(error) => panic!("{case}: {error}"),
        };
        let manifest = ObjectManifest::decode(&decided.value).unwrap();
        if matches!(manifest.content, Content::Shards(_)) {
            named.insert(manifest.write_id.to_string());
        }
    }
    [uploads.difference(&named).cloned().collect(), named.difference(&uploads).cloned().collect()]
}

/// Every path can be written, by create or overwrite as it should be, and deleted.
async fn goes_on(store: &ErasureStore, found: &Objects, acknowledged: usize, case: &str) {
    let uncertain = uncertain(acknowledged);
    for (number, path) in paths().into_iter().enumerate() {
        let bytes = content(1000 + number, if number % 2 == 0 { 70 } else { 150_000 });
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let created = store.put_opts(&path.into(), bytes.clone().into(), create).await;
        match (created, found.contains_key(path)) {
            (Ok(_), false) => {}
            (Ok(_), true) if uncertain.contains(&path) => {}
            (Err(object_store::Error::AlreadyExists { .. }), there) if there || uncertain.contains(&path) => {
                store.put(&path.into(), bytes.clone().into()).await.unwrap();
            }
            (outcome, there) => panic!("{case}: create of {path}, which is there: {there}, ended {outcome:?}"),
        }
        assert!(store.get(&path.into()).await.unwrap().bytes().await.unwrap() == bytes, "{case}: {path}");
        store.delete(&path.into()).await.unwrap();
        assert!(matches!(store.head(&path.into()).await, Err(object_store::Error::NotFound { .. })), "{case}: {path}");
    }
    store.quiesce().await;
    assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap(), [], "{case}");
}
