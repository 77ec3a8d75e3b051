//! Collection: what is old enough goes, in an order that may stop anywhere, and nothing else goes.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use chrono::DateTime;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use lakeseal::ErrorKind;
use lakeseal::clock::{ManualClock, SharedClock, SystemClock};
use lakeseal::digest::Digest;
use lakeseal::format::entry::{EntryBody, EntryPlace};
use lakeseal::id::WriteId;
use lakeseal::key::PrivateKey;
use lakeseal::lake::testing::{FaultyRegion, Rules, lake_with};
use lakeseal::region::{RegionSet, layout};
use lakeseal::store::{CollectOptions, CollectReport, ErasureStore, Profile, ScrubOptions, VersionState};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use parking_lot::Mutex;

use super::{content, memory};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

pub struct Lab {
    pub raw: Vec<Arc<dyn ObjectStore>>,
    pub regions: Arc<RegionSet>,
    pub writer: Arc<PrivateKey>,
    pub collector: PrivateKey,
    pub faults: Vec<FaultyRegion>,
    pub store: ErasureStore,
}

pub fn small_segments() -> Profile {
    Profile { segment_bytes: 256 * 1024, inline_bytes: 1000, ..Profile::new(3, 2) }
}

impl Lab {
    pub fn new(retention_seconds: u64) -> Self {
        Self::over(memory(5), retention_seconds, Arc::new(SystemClock))
    }

    pub fn over(raw: Vec<Arc<dyn ObjectStore>>, retention_seconds: u64, clock: SharedClock) -> Self {
        let collector = PrivateKey::generate().unwrap();
        let rules = Rules { retention_seconds, collectors: vec![collector.public()] };
        let (regions, writer, faults) = lake_with(3, 2, 0, &rules, raw.clone()).unwrap();
        let writer = Arc::new(writer);
        let store = ErasureStore::new(Arc::clone(&regions), small_segments(), Some(Arc::clone(&writer)), clock).unwrap();
        Self { raw, regions, writer, collector, faults, store }
    }

    /// With no grace for orphans.
    pub async fn collect(&self) -> CollectReport {
        self.try_collect(&CollectOptions { orphan_grace_seconds: 0, ..CollectOptions::default() }).await.unwrap()
    }

    pub async fn try_collect(&self, options: &CollectOptions) -> lakeseal::Result<CollectReport> {
        self.store.quiesce().await;
        let report = self.store.collect(options, &self.collector, &|_| {}).await;
        self.store.quiesce().await;
        report
    }

    /// All keys of all regions below a physical folder.
    pub async fn keys(&self, folder: &str) -> Vec<(usize, Path)> {
        let mut keys = Vec::new();
        for (index, store) in self.raw.iter().enumerate() {
            let listed: Vec<_> = store.list(Some(&Path::from(folder))).map_ok(|meta| meta.location).try_collect().await.unwrap();
            keys.extend(listed.into_iter().map(|key| (index, key)));
        }
        keys
    }

    pub async fn read(&self, path: &Path) -> Option<Vec<u8>> {
        self.store.forget();
        match self.store.get(path).await {
            Ok(found) => Some(found.bytes().await.unwrap().to_vec()),
            Err(object_store::Error::NotFound { .. }) => None,
            Err(error) => panic!("{path}: {error}"),
        }
    }
}

pub fn of(version: &str) -> GetOptions {
    GetOptions { version: Some(version.to_owned()), ..GetOptions::default() }
}

fn found(error: &object_store::Error) -> &lakeseal::Error {
    lakeseal::Error::find(error).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_overtaken_by_collection_is_told_so_whatever_the_path() {
    for path in ["t/a", "t/p=a%20b/x"] {
        let lab = Lab::new(0);
        let path = Path::parse(path).unwrap();
        lab.store.put(&path, content(1, 700_000).into()).await.unwrap();
        let stream = lab.store.get(&path).await.unwrap();
        lab.store.put(&path, content(2, 100).into()).await.unwrap();
        assert_eq!(lab.collect().await.collected, 1);
        let overtaken = stream.bytes().await.unwrap_err();
        assert!(overtaken.to_string().contains("collected"), "{path}: {overtaken}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn superseded_versions_go_the_newest_stay_and_a_second_run_finds_nothing() {
    let lab = Lab::new(0);
    let (a, b, c) = (Path::from("t/a"), Path::from("t/b"), Path::from("c"));
    let old = lab.store.put(&a, content(1, 700_000).into()).await.unwrap();
    lab.store.put(&a, content(2, 100).into()).await.unwrap();
    lab.store.put(&a, content(3, 600_000).into()).await.unwrap();
    lab.store.put(&b, content(4, 300_000).into()).await.unwrap();
    lab.store.delete(&b).await.unwrap();
    lab.store.put(&c, content(5, 300_000).into()).await.unwrap();
    let stream = lab.store.get_opts(&a, of(old.version.as_ref().unwrap())).await.unwrap();
    lab.store.quiesce().await;
    let dry = lab.try_collect(&CollectOptions { dry_run: true, ..CollectOptions::default() }).await.unwrap();
    assert_eq!((dry.collected, dry.shards_deleted), (3, 0), "{dry:?}");
    assert_eq!(lab.keys("d").await.len(), 5 * (3 + 3 + 2 + 2));

    let report = lab.collect().await;
    assert_eq!((report.names, report.collected, report.kept, report.problems_total), (3, 3, 0, 0), "{report:?}");
    assert_eq!(report.shards_deleted, 5 * (3 + 2));
    // The versions that are left: three segments of a, two of c.
    assert_eq!(lab.keys("d").await.len(), 5 * (3 + 2));
    for register in [&a, &b] {
        for region in &lab.raw {
            let folder = layout::register_folder(register).unwrap();
            let left: Vec<_> = region.list(Some(&folder)).map_ok(|meta| meta.location).try_collect().await.unwrap();
            let slots: Vec<_> = left.iter().map(|key| layout::parse_register_key(key).unwrap().slot).collect();
            // The newest with its marker, and a stub a slot below.
            assert_eq!(slots, if *register == a { vec![2, 2, 1, 0] } else { vec![1, 1, 0] });
        }
    }
    assert_eq!(lab.read(&a).await.unwrap(), content(3, 600_000));
    assert_eq!(lab.read(&b).await, None);
    assert_eq!(lab.read(&c).await.unwrap(), content(5, 300_000));
    let error = lab.store.get_opts(&a, of(old.version.as_ref().unwrap())).await.unwrap_err();
    assert_eq!(found(&error).kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("collected"), "{error}");
    let overtaken = stream.bytes().await.unwrap_err();
    assert!(!matches!(overtaken, object_store::Error::NotFound { .. }) && overtaken.to_string().contains("collected"), "{overtaken}");
    let states: Vec<_> = lab.store.versions(&a).await.unwrap().iter().map(|version| version.state).collect();
    assert_eq!(states, [VersionState::Readable, VersionState::Collected, VersionState::Collected]);
    assert_eq!(lab.store.undelete(&b).await.unwrap_err().kind(), ErrorKind::Unavailable);

    let second = lab.collect().await;
    assert!(second.is_idle() && second.problems_total == 0, "{second:?}");
    assert_eq!(second.collected_before, 3);
    // Names go on.
    lab.store.put(&b, content(6, 300_000).into()).await.unwrap();
    lab.store.put(&a, content(7, 10).into()).await.unwrap();
    assert_eq!((lab.read(&b).await.unwrap(), lab.read(&a).await.unwrap()), (content(6, 300_000), content(7, 10)));
    assert!(lab.keys("").await.iter().all(|(_, key)| !key.as_ref().starts_with("check-")), "probes are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_collectors_key_collects() {
    let lab = Lab::new(0);
    let a = Path::from("a");
    let old = lab.store.put(&a, content(1, 300_000).into()).await.unwrap().version.unwrap();
    lab.store.put(&a, content(2, 300_000).into()).await.unwrap();
    lab.store.quiesce().await;
    let refused = lab.store.collect(&CollectOptions::default(), &lab.writer, &|_| {}).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Permission);
    // A stub that a writer signs puts its region down for the slot, and collects nothing.
    for index in 0..2u8 {
        let place = EntryPlace { lake: *lab.regions.lake(), configuration: 0, region: index, path: "a", slot: 0, seq: 0 };
        let forged = EntryBody::Stub(Digest::of(b"x")).seal(&place, &lab.writer).unwrap();
        lab.raw[usize::from(index)].put(&layout::entry_key(&a, 0, 0).unwrap(), forged.into()).await.unwrap();
    }
    lab.store.forget();
    assert_eq!(lab.store.get_opts(&a, of(&old)).await.unwrap().bytes().await.unwrap(), content(1, 300_000));
    // The collector's own goes over it.
    assert_eq!(lab.collect().await.collected, 1);
    assert!(lab.store.get_opts(&a, of(&old)).await.unwrap_err().to_string().contains("collected"));
    assert!(lab.collect().await.is_idle());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_region_down_what_needs_it_waits_and_a_second_run_finishes() {
    let lab = Lab::new(0);
    let (live, dead) = (Path::from("live"), Path::from("dead"));
    lab.store.put(&live, content(1, 300_000).into()).await.unwrap();
    lab.store.put(&live, content(2, 300_000).into()).await.unwrap();
    let deleted = lab.store.put(&dead, content(3, 300_000).into()).await.unwrap().version.unwrap();
    lab.store.delete(&dead).await.unwrap();
    lab.store.quiesce().await;
    lab.faults[4].set_down(true);
    let report = lab.collect().await;
    assert_eq!((report.collected, report.postponed), (1, 1), "{report:?}");
    assert!(report.problems_total >= 2);
    // Under a tombstone nothing was touched.
    lab.store.forget();
    assert_eq!(lab.store.get_opts(&dead, of(&deleted)).await.unwrap().bytes().await.unwrap(), content(3, 300_000));
    assert_eq!(lab.read(&live).await.unwrap(), content(2, 300_000));
    lab.faults[4].set_down(false);
    let report = lab.collect().await;
    assert_eq!((report.collected, report.collected_before, report.postponed), (1, 1, 0), "{report:?}");
    // Shards that the region kept are named by nothing any more: by now they may be orphans.
    lab.collect().await;
    assert_eq!(lab.keys("d").await.len(), 5 * 2);
    assert!(lab.collect().await.is_idle());
    assert_eq!((lab.read(&live).await.unwrap(), lab.read(&dead).await), (content(2, 300_000), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collected_version_is_called_collected_though_a_region_that_missed_it_answers_first() {
    let lab = Lab::new(0);
    let path = Path::from("t/a");
    // A region learns of a version afterwards, and then misses that it is collected.
    lab.faults[4].set_down(true);
    let version = lab.store.put(&path, content(1, 300_000).into()).await.unwrap().version.unwrap();
    lab.store.quiesce().await;
    lab.faults[4].set_down(false);
    let repair = ScrubOptions { repair: true, settle: std::time::Duration::ZERO, ..ScrubOptions::default() };
    lab.store.scrub(&repair, &()).await.unwrap();
    lab.store.put(&path, content(2, 300_000).into()).await.unwrap();
    lab.store.quiesce().await;
    lab.faults[4].set_down(true);
    assert_eq!(lab.collect().await.collected, 1);
    lab.faults[4].set_down(false);
    for other in &lab.faults[..4] {
        other.slow_ms(30);
    }
    lab.store.forget();
    let error = lab.store.get_opts(&path, of(&version)).await.unwrap_err();
    assert!(error.to_string().contains("collected"), "{error}");
    let versions = lab.store.versions(&path).await.unwrap();
    assert_eq!(versions.iter().map(|version| version.state).collect::<Vec<_>>(), [VersionState::Readable, VersionState::Collected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_explained_is_reported_and_never_deleted() {
    let lab = Lab::new(0);
    let a = Path::from("a");
    lab.store.put(&a, content(1, 300_000).into()).await.unwrap();
    lab.store.quiesce().await;
    let shard = lab.keys("d").await[0].clone();
    let genuine = lab.raw[shard.0].get(&shard.1).await.unwrap().bytes().await.unwrap();
    // One without a trailer, and one whose authentic trailer is another upload's.
    let without = layout::shard_key(&WriteId([7; 16]), 0, 0, 0);
    let foreign = layout::shard_key(&WriteId([8; 16]), 0, 0, 0);
    lab.raw[1].put(&without, vec![1; 5_000].into()).await.unwrap();
    lab.raw[2].put(&foreign, genuine.into()).await.unwrap();
    let before = lab.keys("").await;
    let report = lab.collect().await;
    assert_eq!((report.orphans_unexplained, report.shards_deleted, report.problems_total), (2, 0, 2), "{report:?}");
    assert_eq!(lab.keys("").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_names_the_shards_of_another_object_does_not_take_them_with_it() {
    use lakeseal::format::manifest::ObjectManifest;
    use lakeseal::register::Registers;
    let lab = Lab::new(0);
    let (victim, thief) = (Path::from("victim"), Path::from("thief"));
    lab.store.put(&victim, content(1, 300_000).into()).await.unwrap();
    let registers = Registers::new(Arc::clone(&lab.regions), Some(Arc::clone(&lab.writer)));
    let named = registers.newest(&victim).await.unwrap().unwrap();
    let manifest = ObjectManifest::decode(&named.value).unwrap();
    let forged = ObjectManifest { path: thief.to_string(), ..manifest };
    registers.propose(&thief, 0, forged.encode().unwrap().into()).await.unwrap();
    lab.store.put(&thief, content(2, 10).into()).await.unwrap();
    let report = lab.collect().await;
    assert_eq!((report.collected, report.shards_deleted), (1, 0), "{report:?}");
    assert_eq!(report.problems_total, 10);
    assert_eq!(lab.read(&victim).await.unwrap(), content(1, 300_000));
}

/// A store in memory with a clock of its own, and with a limit to how many more changes it takes.
#[derive(Debug)]
struct Clocked {
    inner: Arc<dyn ObjectStore>,
    now: Arc<AtomicI64>,
    changes_left: Arc<AtomicI64>,
    stamps: Arc<Mutex<HashMap<Path, i64>>>,
}

impl Clocked {
    fn new(now: &Arc<AtomicI64>, changes_left: &Arc<AtomicI64>) -> Self {
        let inner = Arc::new(object_store::memory::InMemory::new());
        Self { inner, now: Arc::clone(now), changes_left: Arc::clone(changes_left), stamps: Arc::default() }
    }

    fn take_change(&self) -> object_store::Result<()> {
        if self.changes_left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        Err(object_store::Error::Generic { store: "clocked", source: "the process was stopped".into() })
    }
}

impl fmt::Display for Clocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store with a clock")
    }
}

#[async_trait]
impl ObjectStore for Clocked {
    async fn put_opts(&self, key: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        self.take_change()?;
        let put = self.inner.put_opts(key, payload, options).await?;
        self.stamps.lock().insert(key.clone(), self.now.load(Ordering::SeqCst));
        Ok(put)
    }

    async fn put_multipart_opts(&self, key: &Path, options: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(key, options).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, object_store::Result<Path>>) -> BoxStream<'static, object_store::Result<Path>> {
        match self.take_change() {
            Ok(()) => self.inner.delete_stream(keys),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let stamps = Arc::clone(&self.stamps);
        let stamped = move |mut meta: ObjectMeta| {
            let stamp = stamps.lock().get(&meta.location).copied().unwrap_or_default();
            meta.last_modified = DateTime::from_timestamp_millis(stamp).unwrap();
            meta
        };
        self.inner.list(prefix).map_ok(stamped).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

pub struct Clocks {
    own: Arc<ManualClock>,
    regions: Vec<Arc<AtomicI64>>,
    pub changes_left: Arc<AtomicI64>,
}

pub fn clocked_lab(retention_seconds: u64) -> (Lab, Clocks) {
    let changes_left = Arc::new(AtomicI64::new(i64::MAX));
    let regions: Vec<_> = (0..5).map(|_| Arc::new(AtomicI64::new(0))).collect();
    let raw = regions.iter().map(|now| Arc::new(Clocked::new(now, &changes_left)) as Arc<dyn ObjectStore>).collect();
    let own = Arc::new(ManualClock::new(0));
    (Lab::over(raw, retention_seconds, Arc::clone(&own) as SharedClock), Clocks { own, regions, changes_left })
}

impl Clocks {
    fn set_days(&self, days: i64) {
        self.own.set(days * DAY_MS);
        self.regions.iter().for_each(|region| region.store(days * DAY_MS, Ordering::SeqCst));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_clock_of_a_writer_or_of_a_region_shortens_the_retention() {
    let week = 7 * 24 * 60 * 60;
    let (lab, clocks) = clocked_lab(week);
    let a = Path::from("a");
    let versions_only = CollectOptions { orphans: false, ..CollectOptions::default() };
    let try_collect = || lab.try_collect(&versions_only);
    // The version itself is old; it was superseded just now, by a writer whose own clock is a year behind.
    lab.store.put(&a, content(1, 300_000).into()).await.unwrap();
    clocks.set_days(400);
    clocks.own.set(35 * DAY_MS);
    lab.store.put(&a, content(2, 300_000).into()).await.unwrap();
    lab.store.quiesce().await;
    clocks.set_days(406);
    assert_eq!((try_collect().await.unwrap().collected, try_collect().await.unwrap().kept), (0, 1), "six days are not a week");
    // A region, or all but one, or the collector, ahead by a year.
    for ahead in 0..4 {
        clocks.regions[ahead].store(800 * DAY_MS, Ordering::SeqCst);
        assert_eq!(try_collect().await.unwrap().collected, 0, "{} regions are ahead", ahead + 1);
    }
    clocks.regions[4].store(800 * DAY_MS, Ordering::SeqCst);
    assert_eq!(try_collect().await.unwrap().collected, 0, "all regions are ahead, and the collector is not");
    clocks.set_days(406);
    clocks.own.set(800 * DAY_MS);
    assert_eq!(try_collect().await.unwrap().collected, 0, "the collector is ahead");
    // To the second.
    let end = 407 * DAY_MS;
    for (now, collected) in [(end + 999, 0), (end + 1000, 1)] {
        clocks.regions.iter().for_each(|region| region.store(now, Ordering::SeqCst));
        assert_eq!(try_collect().await.unwrap().collected, collected);
    }
    let options = |seconds| CollectOptions { retention_seconds: Some(seconds), ..CollectOptions::default() };
    assert_eq!(lab.try_collect(&options(week - 1)).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    lab.store.put(&a, content(3, 10).into()).await.unwrap();
    // A marker that is written after the clocks were moved would make the version as young as they say.
    lab.store.quiesce().await;
    clocks.set_days(1000);
    assert_eq!(lab.try_collect(&options(u64::MAX)).await.unwrap().collected, 0, "it may be longer");
    assert_eq!(lab.try_collect(&options(week)).await.unwrap().collected, 1);
}

/// What a new region is told of the newest version is young, and says nothing of how long ago the version before was superseded.
#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_lacks_a_stub_is_given_one_at_once() {
    let (lab, clocks) = clocked_lab(7 * 24 * 60 * 60);
    let a = Path::from("a");
    lab.store.put(&a, content(1, 100).into()).await.unwrap();
    lab.store.put(&a, content(2, 100).into()).await.unwrap();
    lab.store.quiesce().await;
    clocks.set_days(9);
    let versions_only = CollectOptions { orphans: false, ..CollectOptions::default() };
    assert_eq!(lab.try_collect(&versions_only).await.unwrap().collected, 1);
    let (stub, newest) = (layout::entry_key(&a, 0, 0).unwrap(), layout::entry_key(&a, 1, 0).unwrap());
    lab.raw[2].delete(&stub).await.unwrap();
    let told = lab.raw[2].get(&newest).await.unwrap().bytes().await.unwrap();
    lab.raw[2].put(&newest, told.into()).await.unwrap();
    let report = lab.try_collect(&versions_only).await.unwrap();
    assert_eq!((report.collected, report.collected_before, report.kept), (0, 1, 0), "{report:?}");
    assert_eq!(lab.keys("i").await.iter().filter(|(_, key)| *key == stub).count(), 5);
    assert!(lab.try_collect(&versions_only).await.unwrap().is_idle());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_collector_itself_decides_supersedes_nothing_before_now() {
    let week = 7 * 24 * 60 * 60;
    let (lab, clocks) = clocked_lab(week);
    let a = Path::from("a");
    let old = lab.store.put(&a, content(1, 300_000).into()).await.unwrap().version.unwrap();
    lab.store.quiesce().await;
    let before = lab.keys("i").await;
    lab.store.put(&a, content(2, 300_000).into()).await.unwrap();
    lab.store.quiesce().await;
    // The writer of the second version died after three votes of the four that it takes, and nobody looked for more than a year.
    let voted = |region: usize, key: &Path| region < 3 && key.as_ref().ends_with(".0000000000");
    for (region, key) in lab.keys("i").await.into_iter().filter(|key| !before.contains(key)) {
        if !voted(region, &key) {
            lab.raw[region].delete(&key).await.unwrap();
        }
    }
    lab.store.forget();
    clocks.set_days(400);
    lab.faults[3].set_down(true);
    let report = lab.try_collect(&CollectOptions { orphans: false, ..CollectOptions::default() }).await.unwrap();
    assert_eq!((report.collected, report.kept), (0, 1), "{report:?}");
    lab.faults[3].set_down(false);
    assert_eq!(lab.read(&a).await.unwrap(), content(2, 300_000), "it was decided");
    assert_eq!(lab.store.get_opts(&a, of(&old)).await.unwrap().bytes().await.unwrap(), content(1, 300_000), "superseded just now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_after_any_change_harms_nothing_and_the_next_finishes() {
    let mut stopped = 0;
    for changes in 0.. {
        let (lab, clocks) = clocked_lab(0);
        let (a, b) = (Path::from("t/a"), Path::from("t/b"));
        lab.store.put(&a, content(1, 200_000).into()).await.unwrap();
        lab.store.put(&a, content(2, 200_000).into()).await.unwrap();
        lab.store.put(&b, content(3, 10).into()).await.unwrap();
        lab.store.delete(&b).await.unwrap();
        lab.store.quiesce().await;
        clocks.changes_left.store(changes, Ordering::SeqCst);
        let first = lab.try_collect(&CollectOptions { orphan_grace_seconds: 0, ..CollectOptions::default() }).await;
        let is_through = clocks.changes_left.swap(i64::MAX, Ordering::SeqCst) > 0;
        stopped += i32::from(!is_through);
        assert_eq!(lab.read(&a).await.unwrap(), content(2, 200_000), "after {changes} changes: {first:?}");
        assert_eq!(lab.read(&b).await, None);
        // What the first left of shards is an orphan only once its marker is gone.
        lab.collect().await;
        lab.collect().await;
        assert_eq!(lab.keys("d").await.len(), 5, "after {changes} changes");
        assert_eq!(lab.keys("i").await.len(), 5 * (3 + 3), "after {changes} changes");
        let last = lab.collect().await;
        assert!(last.is_idle() && last.problems_total == 0, "after {changes} changes: {last:?}");
        assert_eq!(lab.read(&a).await.unwrap(), content(2, 200_000));
        assert_eq!(lab.read(&b).await, None);
        if is_through {
            break;
        }
    }
    // Two stubs, five shards, and markers in five regions, beside the probes.
    assert!(stopped > 5 * 3, "only {stopped} runs were stopped");
}
