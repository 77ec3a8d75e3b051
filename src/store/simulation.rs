//! Histories of real stores over simulated regions: one thread, one seed, a clock that stands still until all wait.
//!
//! Several clients, each a store with clocks and caches of its own, write and read a few names, while requests are late, lost, repeated,
//! or take effect after their failure was answered; regions are down, or cut off from one client; clients pause and stop in the middle of
//! a write. What the clients were answered must be explained by one object for each name that all of them share ([`history`]).
//! The same seed gives the same history: `scripts/simulate.sh 1 SEED` runs it alone. In lakes that change, an operator adds, retires and
//! replaces regions meanwhile ([`changes`]).

mod changes;
mod history;
mod region;
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::future::join_all;
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode, UpdateVersion};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use self::changes::Changes;
use self::history::{Answer, Call, Id, What, is_linearizable};
use self::region::{Disk, Link, Outage, Weather, below, percent};
use super::{ErasureStore, Profile};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind};
use crate::id::{LakeId, seeded};
use crate::key::PrivateKey;
use crate::region::{Quorums, Region, RegionOptions, RegionSet, simulated};
use crate::register::mutant::{self, Mutant};

const CLIENTS: usize = 3;
const KEYS: [&str; 2] = ["table/a", "table/b"];
/// Objects of more bytes are shards.
const INLINE_BYTES: u64 = 64;
/// About how long clients are at work, in milliseconds: in half of the histories they seldom meet, in the other half they always do.
const SLOW_MS: u64 = 20_000;
const HURRIED_MS: u64 = 2_000;
/// So long that leases end meanwhile, and changes of the regions go through.
const CHANGING_MS: u64 = 360_000;

/// What a lake of a simulation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lake {
    regions: u8,
    /// How many liars the quorums allow for.
    liars: u8,
    /// Whether the last region lies.
    lies: bool,
    /// How many times an operator adds, retires or replaces a region.
    changes: u64,
    /// Whether a collector lets superseded versions go at once, in a lake that changes.
    collects: bool,
    mutant: Mutant,
}

/// What came of a history.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Report {
    calls: u64,
    done: u64,
    refused: u64,
    unknown: u64,
    /// Calls that failed and changed nothing.
    failed: u64,
    stopped: u64,
    /// Changes of the regions that were completed.
    changed: u64,
    /// Versions that were collected.
    collected: u64,
    /// Writes that no version names whose shards were collected.
    orphans: u64,
    /// Of all that was answered, in order.
    trace: u64,
}

/// A clock that is wrong by a fixed time.
#[derive(Debug)]
struct Skewed {
    start: Instant,
    by_ms: i64,
}

impl Clock for Skewed {
    fn now_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.start.elapsed().as_millis()).unwrap();
        1_700_000_000_000 + elapsed + self.by_ms
    }
}

/// What the clients share: the regions, and the record of what they did.
struct World {
    lake: Lake,
    id: LakeId,
    key: Arc<PrivateKey>,
    disks: Vec<Arc<Disk>>,
    /// Of a lake that changes.
    changes: Option<Changes>,
    weather: Arc<Weather>,
    /// How many of the keys are used.
    keys: u64,
    start: Instant,
    step: AtomicU64,
    next_id: AtomicU64,
    calls: Mutex<Vec<(usize, Call)>>,
    /// The write of each e_tag that was ever seen.
    tags: Mutex<HashMap<String, Id>>,
    report: Mutex<Report>,
    /// The first thing that must not be.
    wrong: Mutex<Option<String>>,
}

/// The bytes that a write puts: no two write the same.
fn content(id: Id) -> Bytes {
    let len = match id % 4 {
        0 | 1 => 16 + usize::from(id % 40),
        2 => 100 + usize::from(id % 150),
        _ => 300 + usize::from(id % 700),
    };
    let digest = crate::digest::Digest::of(&id.to_le_bytes()).0;
    id.to_le_bytes().into_iter().chain(digest.into_iter().cycle()).take(len).collect()
}

impl World {
    fn new(lake: Lake) -> Self {
        let start = Instant::now();
        let spare = u8::try_from(lake.changes).unwrap();
        let disks: Vec<_> = (0..lake.regions + spare).map(|region| Arc::new(Disk::new(lake.lies && region + 1 == lake.regions))).collect();
        let work_ms = if lake.changes > 0 {
            CHANGING_MS
        } else if percent(50) {
            HURRIED_MS
        } else {
            SLOW_MS
        };
        let at = |ms: u64| start + Duration::from_millis(ms);
        let outages = (0..below(7)).map(|_| {
            let from = below(work_ms * 3 / 4);
            let time: Range<Instant> = at(from)..at(from + 100 + below(work_ms / 4));
            let region = Some(usize::try_from(below(lake.regions.into())).unwrap());
            let client = Some(usize::try_from(below(CLIENTS as u64)).unwrap());
            match below(4) {
                0 => Outage { client: None, region, time, pauses: false },
                1 | 2 => Outage { client, region, time, pauses: percent(30) },
                _ => Outage { client, region: None, time, pauses: true },
            }
        });
        let weather = Weather { outages: outages.collect(), work_ms, calm: AtomicBool::new(false) };
        let (id, key) = (LakeId([9; 16]), Arc::new(PrivateKey::from_seed(&[7; 32])));
        let changes = (lake.changes > 0).then(|| Changes::found(lake, id, &key, &disks));
        Self {
            lake,
            id,
            key,
            disks,
            changes,
            weather: Arc::new(weather),
            keys: if work_ms == HURRIED_MS { 1 + below(2) } else { 2 },
            start,
            step: AtomicU64::new(0),
            next_id: AtomicU64::new(0),
            calls: Mutex::default(),
            tags: Mutex::default(),
            report: Mutex::default(),
            wrong: Mutex::default(),
        }
    }

    /// A client's way to the disk at `region`, as long as its process is not stopped.
    fn link(&self, client: usize, region: usize, stopped: &Arc<AtomicBool>) -> Link {
        let (disk, weather) = (Arc::clone(&self.disks[region]), Arc::clone(&self.weather));
        Link { disk, weather, client, region, stopped: Arc::clone(stopped) }
    }

    fn clock(&self, client: usize) -> Arc<Skewed> {
        Arc::new(Skewed { start: self.start, by_ms: [0, 3_600_000, -3_600_000][client % 3] })
    }

    /// A store as a new process has it, with a writer's key or without, and what stops the process.
    async fn open(&self, client: usize, writes: bool) -> (ErasureStore, Arc<AtomicBool>) {
        let stopped = Arc::new(AtomicBool::new(false));
        if let Some(changes) = &self.changes {
            return (changes.open(self, client, writes, &stopped).await, stopped);
        }
        let regions = (0..self.lake.regions).map(|index| {
            let link = self.link(client, usize::from(index), &stopped);
            let options = RegionOptions { timeout: Duration::from_secs(2) };
            Arc::new(Region::new(format!("r{index}").parse().unwrap(), index, Arc::new(link), options))
        });
        let quorums = Quorums::new(self.lake.regions, self.lake.liars).unwrap();
        let set = RegionSet::new(self.id, regions.collect(), quorums, vec![self.key.public()], 0).unwrap();
        let (data, parity) = [(2, 1), (2, 2), (3, 2)][usize::from(self.lake.regions) - 3];
        let profile = Profile { inline_bytes: INLINE_BYTES, segment_bytes: 640, ..Profile::new(data, parity) };
        let key = writes.then(|| Arc::clone(&self.key));
        (ErasureStore::new(Arc::new(set), profile, key, self.clock(client)).unwrap(), stopped)
    }

    fn tick(&self) -> u64 {
        self.step.fetch_add(1, Ordering::Relaxed)
    }

    fn fresh(&self) -> Id {
        u16::try_from(self.next_id.fetch_add(1, Ordering::Relaxed)).unwrap()
    }

    fn blame(&self, what: String) {
        self.wrong.lock().get_or_insert(what);
    }

    /// Notes that a version with this tag is that of the write `id`.
    fn tag(&self, tag: Option<&String>, id: Id) {
        let Some(tag) = tag else { return self.blame(format!("write {id} has no e_tag")) };
        let known = *self.tags.lock().entry(tag.clone()).or_insert(id);
        if known != id {
            self.blame(format!("the e_tag {tag} was that of write {known} and is that of write {id}"));
        }
    }

    fn record(&self, key: usize, client: usize, what: What, begin: u64, end: u64) {
        let mut report = self.report.lock();
        report.trace = report.trace.rotate_left(5)
            ^ crate::digest::Digest::of(format!("{key} {what:?} {begin} {end}").as_bytes()).0[..8]
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte));
        self.calls.lock().push((key, Call { what, client, begin, end }));
    }

    /// Notes how a write ended.
    fn wrote(&self, key: usize, client: usize, begin: u64, what: impl FnOnce(Answer) -> What, outcome: Option<object_store::Result<()>>) {
        let answer = match outcome {
            Some(Ok(())) => Answer::Done,
            Some(Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. })) => Answer::Refused,
            Some(Err(error)) => match Error::from(error) {
                error if error.kind() == ErrorKind::OutcomeUnknown => Answer::Unknown,
                error if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Corrupt) => {
                    // Nothing was written: the history must do without it.
                    self.report.lock().failed += 1;
                    return;
                }
                error => return self.blame(format!("a write failed by {}: {error}", error.kind().name())),
            },
            None => Answer::Unknown,
        };
        let mut report = self.report.lock();
        match answer {
            Answer::Done => report.done += 1,
            Answer::Refused => report.refused += 1,
            Answer::Unknown => report.unknown += 1,
        }
        drop(report);
        let end = if answer == Answer::Unknown { u64::MAX } else { self.tick() };
        self.record(key, client, what(answer), begin, end);
    }
}

/// A client: one process after the other, each with a cache of its own.
struct Client<'a> {
    world: &'a World,
    number: usize,
    store: ErasureStore,
    stopped: Arc<AtomicBool>,
    /// The tag that was last seen of each key.
    seen: BTreeMap<usize, String>,
    /// Why the last read or list was not answered.
    failure: String,
}

impl<'a> Client<'a> {
    async fn new(world: &'a World, number: usize) -> Self {
        let (store, stopped) = world.open(number, true).await;
        Self { world, number, store, stopped, seen: BTreeMap::new(), failure: String::new() }
    }

    async fn live(mut self, calls: u64) {
        for _ in 0..calls {
            sleep(Duration::from_millis(below(self.world.weather.work_ms / 3 / calls))).await;
            self.world.report.lock().calls += 1;
            let stops = percent(6).then(|| Duration::from_millis(below(400)));
            match below(20) {
                0..8 => self.put(stops).await,
                8..11 => self.delete(stops).await,
                11..18 => self.get().await,
                _ => drop(self.list().await),
            }
            // Whoever is told so opens the lake again, at once or a little later.
            if self.store.inner.regions.is_changed() && percent(70) {
                (self.store, self.stopped) = self.world.open(self.number, true).await;
            }
        }
    }

    fn key(&self) -> usize {
        usize::try_from(below(self.world.keys)).unwrap()
    }

    /// Runs a write; none if the process stopped first, with all that it did in the background.
    async fn or_stop<T>(&mut self, stops: Option<Duration>, call: impl Future<Output = T>) -> Option<T> {
        let Some(after) = stops else { return Some(call.await) };
        let outcome = timeout(after, call).await.ok();
        if outcome.is_none() {
            self.stopped.store(true, Ordering::Relaxed);
            self.world.report.lock().stopped += 1;
            (self.store, self.stopped) = self.world.open(self.number, true).await;
        }
        outcome
    }

    async fn put(&mut self, stops: Option<Duration>) {
        let (key, id, begin) = (self.key(), self.world.fresh(), self.world.tick());
        let (path, bytes) = (Path::from(KEYS[key]), content(id));
        let known = self.seen.get(&key).and_then(|tag| Some((tag.clone(), *self.world.tags.lock().get(tag)?)));
        let (mode, expected) = match (below(3), known) {
            (0, _) => (PutMode::Create, None),
            (1, Some((tag, known))) => (PutMode::Update(UpdateVersion { e_tag: Some(tag), version: None }), Some(known)),
            _ => (PutMode::Overwrite, None),
        };
        let what = |answer| match (&mode, expected) {
            (PutMode::Create, _) => What::Create(id, answer),
            (PutMode::Update(_), Some(known)) => What::Update(known, id, answer),
            _ => What::Overwrite(id, answer),
        };
        let store = self.store.clone();
        let streamed = mode == PutMode::Overwrite && percent(20);
        let outcome = if streamed {
            self.or_stop(stops, stream(&store, &path, bytes)).await
        } else {
            self.or_stop(stops, store.put_opts(&path, bytes.into(), mode.clone().into())).await
        };
        if let Some(Ok(put)) = &outcome {
            self.world.tag(put.e_tag.as_ref(), id);
            self.seen.extend(put.e_tag.clone().map(|tag| (key, tag)));
        }
        self.world.wrote(key, self.number, begin, what, outcome.map(|put| put.map(|_| ())));
    }

    async fn delete(&mut self, stops: Option<Duration>) {
        let (key, begin, store) = (self.key(), self.world.tick(), self.store.clone());
        let path = Path::from(KEYS[key]);
        let outcome = self.or_stop(stops, store.delete(&path)).await;
        self.world.wrote(key, self.number, begin, What::Delete, outcome);
    }

    /// Reads by its own store, or by a new process that has no writer's key.
    async fn get(&mut self) {
        let key = self.key();
        if percent(25) {
            let (store, stopped) = self.world.open(self.number, false).await;
            let mut reader =
                Client { world: self.world, number: self.number, store, stopped, seen: BTreeMap::new(), failure: String::new() };
            reader.read(key).await;
        } else {
            self.read(key).await;
        }
    }

    /// Reads a key; whether it was answered.
    async fn read(&mut self, key: usize) -> bool {
        let (path, begin) = (Path::from(KEYS[key]), self.world.tick());
        let found = async {
            let result = self.store.get(&path).await?;
            let meta = result.meta.clone();
            Ok::<_, object_store::Error>((meta, result.bytes().await?))
        };
        let found = match found.await {
            Ok((meta, bytes)) => {
                let id = bytes.get(..2).map(|id| Id::from_le_bytes([id[0], id[1]]));
                match id.filter(|id| u64::from(*id) < self.world.next_id.load(Ordering::Relaxed) && content(*id) == bytes) {
                    Some(id) => {
                        self.world.tag(meta.e_tag.as_ref(), id);
                        self.seen.extend(meta.e_tag.map(|tag| (key, tag)));
                        Some(id)
                    }
                    None => return self.invented(key, &bytes),
                }
            }
            Err(object_store::Error::NotFound { .. }) => None,
            Err(error) => {
                self.world.report.lock().failed += 1;
                self.failure = error.to_string();
                return false;
            }
        };
        self.world.record(key, self.number, What::Read(found), begin, self.world.tick());
        true
    }

    fn invented(&self, key: usize, bytes: &Bytes) -> bool {
        self.world.blame(format!("{} was read as {} bytes that nobody wrote", KEYS[key], bytes.len()));
        false
    }

    /// Lists all; whether it was answered. What a list shows of each key is what a read of the key may have shown.
    async fn list(&mut self) -> bool {
        let begin = self.world.tick();
        let listed = match self.store.list(Some(&Path::from("table"))).try_collect::<Vec<_>>().await {
            Ok(listed) => listed,
            Err(error) => {
                self.world.report.lock().failed += 1;
                self.failure = error.to_string();
                return false;
            }
        };
        let end = self.world.tick();
        if !listed.is_sorted_by(|a, b| a.location < b.location) || listed.iter().any(|meta| !KEYS.contains(&meta.location.as_ref())) {
            self.world.blame(format!("a list is out of order or shows what was never there: {listed:?}"));
        }
        for (key, name) in KEYS.iter().enumerate() {
            let found = listed.iter().find(|meta| meta.location.as_ref() == *name);
            let tag = found.and_then(|meta| meta.e_tag.clone());
            // Whose a tag is may not be known yet: such an entry says only that there was something.
            let id = tag.and_then(|tag| self.world.tags.lock().get(&tag).copied());
            if let Some((meta, id)) = found.zip(id)
                && meta.size != content(id).len() as u64
            {
                self.world.blame(format!("write {id} is listed with {} bytes", meta.size));
            }
            if found.is_none() || id.is_some() {
                self.world.record(key, self.number, What::Read(id), begin, end);
            }
        }
        true
    }
}

async fn stream(store: &ErasureStore, path: &Path, bytes: Bytes) -> object_store::Result<object_store::PutResult> {
    let mut upload = store.put_multipart(path).await?;
    let half = bytes.len() / 2;
    upload.put_part(bytes.slice(..half).into()).await?;
    upload.put_part(bytes.slice(half..).into()).await?;
    upload.complete().await
}

/// Runs the history of a seed.
///
/// # Errors
/// What must not have been.
fn run(lake: Lake, seed: u64) -> Result<Report, String> {
    let _seeded = seeded::seed(seed);
    mutant::switch(lake.mutant);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (world, ended) = runtime.block_on(async {
        let world = World::new(lake);
        let ended = timeout(Duration::from_secs(3600), clients(&world)).await;
        (world, ended)
    });
    mutant::switch(Mutant::None);
    simulated::clear();
    if let Some(wrong) = world.wrong.lock().take() {
        return Err(wrong);
    }
    if ended.is_err() {
        return Err("a client waits for ever".into());
    }
    let calls = world.calls.lock();
    for (key, name) in KEYS.iter().enumerate() {
        let of_key: Vec<Call> = calls.iter().filter(|(of, _)| *of == key).map(|(_, call)| *call).collect();
        if !is_linearizable(&of_key) {
            let lines: Vec<String> = of_key.iter().map(|call| format!("  {call:?}")).collect();
            return Err(format!("no one object called {name} answers so:\n{}", lines.join("\n")));
        }
    }
    let report = world.report.lock().clone();
    Ok(report)
}

async fn clients(world: &World) {
    let calls = 4 + below(5);
    let work = async {
        join_all((0..CLIENTS).map(async |number| Client::new(world, number).await.live(calls).await)).await;
        // Now all is quiet; what was late may still come.
        world.weather.calm.store(true, Ordering::Relaxed);
    };
    tokio::join!(work, changes::operate(world), changes::collect(world));
    let mut last = Client::new(world, CLIENTS).await;
    for (key, path) in KEYS.iter().enumerate() {
        if !last.read(key).await {
            world.blame(format!("{path} cannot be read though nothing fails any more: {}", last.failure));
        }
    }
    if !last.list().await {
        world.blame(format!("nothing can be listed though nothing fails any more: {}", last.failure));
    }
    sleep(Duration::from_secs(30)).await;
    for key in 0..KEYS.len() {
        last.read(key).await;
    }
}
