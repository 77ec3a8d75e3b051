//! Whether a store keeps the promises that registers rest on.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};

use crate::error::{Error, ErrorKind, Result};
use crate::id::WriteId;

const RACERS: u8 = 16;
const ROUNDS: u8 = 6;

/// One test's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    /// What was tested.
    pub name: &'static str,
    /// Whether the store passed.
    pub passed: bool,
    /// What was seen.
    pub detail: String,
    /// What a failure means.
    pub meaning: &'static str,
}

/// All tests' results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// One result per test.
    pub results: Vec<CheckResult>,
}

impl CheckReport {
    /// Whether the store can be a region.
    pub fn passed(&self) -> bool {
        self.results.iter().all(|result| result.passed)
    }
}

/// Races create-if-absent and tests what is seen after a write, under a folder of its own that is emptied again.
///
/// Costs about 150 small requests. A request that fails fails its test.
pub async fn check(store: &Arc<dyn ObjectStore>) -> CheckReport {
    let folder = match WriteId::random() {
        Ok(id) => format!("check-{id}"),
        Err(error) => return CheckReport { results: vec![result("setup", Err(error), "no test could be run")] },
    };
    let results = vec![
        result("create race", race(store, &folder).await, "two writers can both win a name: histories fork"),
        result("read after write", read_after_write(store, &folder).await, "a vote that was cast is not seen"),
        result("list after write", list_after_write(store, &folder).await, "the newest version is not seen, or listings are out of order"),
        result("found after not found", found_after_not_found(store, &folder).await, "a cached absence hides a vote"),
        result("distinct names", distinct_names(store, &folder).await, "names that differ by case or spelling are one object"),
        result("cleaning up", clean(store, &folder).await, "test objects are left behind, or deletes are not seen"),
    ];
    CheckReport { results }
}

/// Proves what a writer's credentials can and cannot do: create, get and list; neither overwrite nor delete what is there.
///
/// Then whoever steals them, or the writer, destroys nothing: it takes the collector's credentials. Costs about ten small requests. What it
/// creates, `check-<random>/writer`, is left behind when it may not be deleted. Regions that are directories cannot be protected in this way: the operating
/// system's permissions decide, and whoever may create a file in a directory may as a rule delete it.
pub async fn check_writer(store: &Arc<dyn ObjectStore>) -> CheckReport {
    let folder = match WriteId::random() {
        Ok(id) => format!("check-{id}"),
        Err(error) => return CheckReport { results: vec![result("setup", Err(error), "no test could be run")] },
    };
    let results = vec![
        result("may create", may_create(store, &folder).await, "the credentials are no writer's: nothing can be written"),
        result("may read and list", may_read(store, &folder).await, "the credentials are no writer's: they cannot see what was decided"),
        result(
            "may not overwrite",
            may_not_overwrite(store, &folder).await,
            "stolen credentials can destroy: deny overwriting (a condition on if-none-match, or object lock), or keep bucket versions; in a directory, \
             the operating system's permissions decide",
        ),
        result(
            "may not delete",
            may_not_delete(store, &folder).await,
            "stolen credentials can destroy: leave deleting to the collector's credentials; in a directory, the operating system's permissions decide",
        ),
    ];
    CheckReport { results }
}

const KEPT: &str = "kept";

async fn may_create(store: &Arc<dyn ObjectStore>, folder: &str) -> Result<String> {
    let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    store.put_opts(&key(folder, "writer")?, KEPT.into(), create).await?;
    Ok("an object was created".to_owned())
}

async fn may_read(store: &Arc<dyn ObjectStore>, folder: &str) -> Result<String> {
    let key = key(folder, "writer")?;
    is_kept(store, &key).await?;
    let listed: Vec<Path> = store.list(Some(&Path::from(folder))).map_ok(|meta| meta.location).try_collect().await?;
    if listed != [key] {
        return Err(broken("a list does not show the object that was created"));
    }
    Ok("it was read and listed".to_owned())
}

async fn may_not_overwrite(store: &Arc<dyn ObjectStore>, folder: &str) -> Result<String> {
    let key = key(folder, "writer")?;
    is_kept(store, &key).await?;
    let outcome = store.put(&key, "overwritten".into()).await.map(|_| ());
    refused(outcome, "an object was overwritten")?;
    is_kept(store, &key).await?;
    Ok("overwriting was refused, and the object is unchanged".to_owned())
}

async fn may_not_delete(store: &Arc<dyn ObjectStore>, folder: &str) -> Result<String> {
    let key = key(folder, "writer")?;
    // Whether or not it could be overwritten: only that it is there.
    store.head(&key).await?;
    refused(store.delete(&key).await, "an object was deleted")?;
    store.head(&key).await?;
    Ok("deleting was refused, and the object is there".to_owned())
}

async fn is_kept(store: &Arc<dyn ObjectStore>, key: &Path) -> Result<()> {
    if store.get(key).await?.bytes().await? == KEPT { Ok(()) } else { Err(broken("an object is not what was created")) }
}

/// Only a clear refusal counts: a store that could not be asked proves nothing.
fn refused(outcome: object_store::Result<()>, what: &str) -> Result<()> {
    match outcome.map_err(Error::from) {
        Ok(()) => Err(broken(what)),
        Err(error) if matches!(error.kind(), ErrorKind::Permission | ErrorKind::Precondition | ErrorKind::AlreadyExists) => Ok(()),
        Err(error) => Err(Error::new(error.kind(), "whether it is refused could not be learned").caused_by(error)),
    }
}

fn result(name: &'static str, outcome: Result<String>, meaning: &'static str) -> CheckResult {
    match outcome {
        Ok(detail) => CheckResult { name, passed: true, detail, meaning },
        Err(error) => CheckResult { name, passed: false, detail: error.to_string(), meaning },
    }
}

fn broken(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, what)
}

fn key(folder: &str, name: &str) -> Result<Path> {
    Path::parse(format!("{folder}/{name}")).map_err(|e| Error::new(ErrorKind::Internal, "not a key").caused_by(e))
}

async fn race(store: &Arc<dyn ObjectStore>, folder: &str) -> Result<String> {
    for round in 0..ROUNDS {
        let key = key(folder, &format!("race/{round}"))?;
        let tasks = (0..RACERS).map(|racer| {
            let (store, key) = (Arc::clone(store), key.clone());
            tokio::spawn(async move {
                let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                (racer, store.put_opts(&key, PutPayload::from(vec![racer; 512]), create).await)
            })
        });
        let mut winners = Vec::new();
        for task in tasks.collect::<Vec<_>>() {
            let (racer, outcome) = task.await.map_err(|e| Error::new(ErrorKind::Internal, "a task failed").caused_by(e))?;
            match outcome.map_err(Error::from) {
                Ok(_) => winners.push(racer),
                Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::Precondition) => {}
                Err(error) => return Err(error),
            }
        }
        let [winner] = winners.as_slice() else {
            return Err(broken(format!("{} of {RACERS} creates of one name won, exactly 1 must", winners.len())));
        };
        if store.get(&key).await?.bytes().await? != vec![*winner; 512] {
            return Err(broken("the stored object is not the winner's"));
        }
    }
    Ok(format!("{ROUNDS} rounds of {RACERS} tasks had one winner each"))
}

async fn read_after_write(store: &Arc<dyn ObjectStore>, folder: &str) -> Result<String> {
    let key = key(folder, "read/x")?;
    for text in ["one", "two", "three"] {
        store.put(&key, text.into()).await?;
        if store.get(&key).await?.bytes().await? != text {
            return Err(broken("a read returned an older object than the one just written"));
        }
    }
    Ok("3 overwrites were read back".to_owned())
}

async fn list_after_write(store: &Arc<dyn ObjectStore>, folder: &str) -> Result<String> {
    let prefix = key(folder, "list")?;
    let mut written = BTreeSet::new();
    // Names as the layout makes them: then stores that list folder by folder keep the order of whole keys.
    for name in ["b!/1", "a!/2", "a%20b!/1", "a-/b!/1", "a%2Eb!/1", "aa!/1", "a!/1"] {
        let key = key(folder, &format!("list/{name}"))?;
        store.put(&key, "x".into()).await?;
        written.insert(key);
        let listed: Vec<Path> = store.list(Some(&prefix)).map_ok(|meta| meta.location).try_collect().await?;
        if !listed.is_sorted() {
            return Err(broken("a list is not in the order of the keys' bytes"));
        }
        if listed.iter().ne(written.iter()) {
            return Err(broken(format!("a list shows {} keys after {} were written", listed.len(), written.len())));
        }
    }
    let middle = key(folder, "list/a%2Eb!/1")?;
    let rest: Vec<Path> = store.list_with_offset(Some(&prefix), &middle).map_ok(|meta| meta.location).try_collect().await?;
    if rest.iter().ne(written.iter().filter(|key| **key > middle)) {
        return Err(broken("a list from an offset is wrong"));
    }
    Ok(format!("{} writes were listed at once, in order", written.len()))
}

async fn found_after_not_found(store: &Arc<dyn ObjectStore>, folder: &str) -> Result<String> {
    for round in 0..3 {
        let key = key(folder, &format!("absent/{round}"))?;
        match store.get(&key).await.map_err(Error::from) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(_) => return Err(broken("an object that was never written is found")),
        }
        store.put(&key, "x".into()).await?;
        store.get(&key).await?.bytes().await?;
    }
    Ok("3 absent names were found once written".to_owned())
}

async fn distinct_names(store: &Arc<dyn ObjectStore>, folder: &str) -> Result<String> {
    let names = ["case", "Case", "\u{e9}", "e\u{301}", "%41", "A", "a b", "a+b", "a%20b", "漢😀"];
    for name in names {
        store.put(&key(folder, &format!("names/{name}"))?, PutPayload::from(name.to_owned())).await?;
    }
    for name in names {
        if store.get(&key(folder, &format!("names/{name}"))?).await?.bytes().await? != name {
            return Err(broken("two names are one object").with("name", name));
        }
    }
    Ok(format!("{} names stayed apart", names.len()))
}

async fn clean(store: &Arc<dyn ObjectStore>, folder: &str) -> Result<String> {
    let prefix = Path::from(folder);
    let keys: Vec<Path> = store.list(Some(&prefix)).map_ok(|meta| meta.location).try_collect().await?;
    for key in &keys {
        store.delete(key).await?;
    }
    let left: Vec<_> = store.list(Some(&prefix)).try_collect().await?;
    if !left.is_empty() {
        return Err(broken(format!("{} objects are still listed after they were deleted", left.len())).with("folder", folder));
    }
    Ok(format!("{} test objects were deleted", keys.len()))
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;
    use crate::lake::testing::{FaultStore, FaultyRegion};
    use crate::region::directory::DirectoryStore;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn memory_and_directories_pass_and_are_left_empty() {
        let dir = tempfile::tempdir().unwrap();
        let stores: [Arc<dyn ObjectStore>; 2] = [Arc::new(InMemory::new()), Arc::new(DirectoryStore::new(dir.path(), false))];
        for store in stores {
            let report = check(&store).await;
            assert!(report.passed(), "{report:?}");
            assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap(), []);
        }
    }

    #[tokio::test]
    async fn a_store_whose_writes_or_reads_fail_does_not_pass() {
        let fault = FaultyRegion::default();
        let store: Arc<dyn ObjectStore> = Arc::new(FaultStore::new(Arc::new(InMemory::new()), fault.clone()));
        fault.corrupt(|key| key.as_ref().contains("/names/"));
        let report = check(&store).await;
        assert_eq!(report.results.iter().filter(|r| !r.passed).map(|r| r.name).collect::<Vec<_>>(), ["distinct names"]);
        fault.set_down(true);
        assert!(check(&store).await.results.iter().all(|r| !r.passed));
    }

    #[tokio::test]
    async fn a_writers_credentials_pass_only_when_they_cannot_destroy() {
        let fault = FaultyRegion::default();
        let store: Arc<dyn ObjectStore> = Arc::new(FaultStore::new(Arc::new(InMemory::new()), fault.clone()));
        let failed = |report: CheckReport| report.results.iter().filter(|r| !r.passed).map(|r| r.name).collect::<Vec<_>>();
        assert_eq!(failed(check_writer(&store).await), ["may not overwrite", "may not delete"]);
        assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap(), []);
        fault.creates_only(true);
        let report = check_writer(&store).await;
        assert!(report.passed(), "{report:?}");
        fault.set_down(true);
        assert_eq!(failed(check_writer(&store).await).len(), 4);
    }

    #[tokio::test]
    async fn a_store_without_atomic_create_is_caught() {
        let fault = FaultyRegion::default();
        fault.create_is_not_atomic(true);
        let store: Arc<dyn ObjectStore> = Arc::new(FaultStore::new(Arc::new(InMemory::new()), fault));
        let report = check(&store).await;
        assert!(!report.results[0].passed && report.results[0].detail.contains("won"), "{report:?}");
        assert!(report.results[1..].iter().all(|r| r.passed), "{report:?}");
    }
}
