//! Lakes whose regions are added, retired and replaced while clients read and write.
//!
//! An operator's process makes one change after the other, is stopped in the middle, and begins again, as people do. Clients open the lake by
//! the file as it is, or by that of before the last change; both have to do.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::region::{Disk, below, percent};
use super::{CLIENTS, ErasureStore, INLINE_BYTES, Lake, World};
use crate::error::{ErrorKind, Result};
use crate::id::{IncarnationId, LakeId};
use crate::key::PrivateKey;
use crate::lake::{LakeConfig, LakeRecord, OpenOptions, ProfileConfig, RegionConfig, RegionPlace, RegionRecord, RegionState, open};
use crate::membership::{
    AddPlan, MembershipKeys, MembershipOutcome, MembershipProgress, MembershipStep, ReplacePlan, RetirePlan, add, replace, retire,
};
use crate::region::{Quorums, layout, simulated};
use crate::store::{CollectOptions, ScrubOptions};

/// The operator's number among the clients.
const OPERATOR: usize = CLIENTS + 1;
/// The collector's number among the clients.
const COLLECTOR: usize = CLIENTS + 2;
/// Most regions that a lake is given.
const MOST: usize = 6;

/// The lake's file, and who changes it.
pub(super) struct Changes {
    root: PrivateKey,
    file: Mutex<LakeConfig>,
    /// The file before the last change.
    old: Mutex<LakeConfig>,
    /// Processes that opened the lake: each has locations of its own.
    lives: AtomicU64,
    next_disk: AtomicU64,
}

/// What the operator does.
#[derive(Debug, Clone)]
enum Plan {
    Add(RegionConfig),
    Retire(RegionConfig),
    Replace(RegionConfig),
}

fn location(disk: usize) -> String {
    format!("memory:disk-{disk}")
}

/// The disk of a location, whosever.
fn disk_of(location: &str) -> usize {
    let number = location.trim_start_matches("memory:disk-").split('@').next();
    number.and_then(|number| number.parse().ok()).expect("locations are made here")
}

fn region(name: &str, disk: usize) -> RegionConfig {
    RegionConfig { timeout_ms: 2_000, ..RegionConfig::new(name.parse().unwrap(), location(disk)) }
}

fn collector() -> PrivateKey {
    PrivateKey::from_seed(&[6; 32])
}

impl Changes {
    /// A lake as it was made.
    pub(super) fn found(lake: Lake, id: LakeId, writer: &PrivateKey, disks: &[Arc<Disk>]) -> Self {
        let root = PrivateKey::from_seed(&[8; 32]);
        let mut profile = ProfileConfig::new(2, 1);
        (profile.segment_bytes, profile.inline_bytes, profile.liars) = (640, INLINE_BYTES, lake.liars);
        // Else a version that lacks a shard is lost with one region more, as it should be: of one region the operator himself disposes.
        profile.ack_shards = Some(3);
        if lake.collects {
            profile.retention_seconds = 0;
        }
        let regions: Vec<RegionConfig> = (0..usize::from(lake.regions)).map(|disk| region(&format!("r{disk}"), disk)).collect();
        let mut places = Vec::new();
        for (region, disk) in regions.iter().zip(disks) {
            let incarnation = IncarnationId::random().unwrap();
            let record = RegionRecord { lake: id, name: region.name.clone(), incarnation, created_ms: 0 };
            disk.hold(layout::id_key(), record.seal(&root).unwrap());
            let name = region.name.clone();
            places.push(RegionPlace { name, incarnation, since: 0, state: RegionState::Voting, added: 0, left: 0 });
        }
        let record = LakeRecord {
            lake: id,
            number: 0,
            created_ms: 0,
            name: "lake".into(),
            profile,
            writes_paused: false,
            regions: places,
            writers: vec![writer.public()],
            collectors: vec![collector().public()],
        };
        let bytes = record.seal(&root).unwrap();
        disks.iter().take(regions.len()).for_each(|disk| disk.hold(layout::configuration_key(0), bytes.clone()));
        let file =
            LakeConfig { name: "lake".into(), id, root_key: root.public(), writer_key: None, profile, regions, directory: PathBuf::new() };
        let next_disk = AtomicU64::new(lake.regions.into());
        Self { root, old: Mutex::new(file.clone()), file: Mutex::new(file), lives: AtomicU64::new(0), next_disk }
    }

    /// A client's process.
    pub(super) async fn open(&self, world: &World, client: usize, writes: bool, stopped: &Arc<AtomicBool>) -> ErasureStore {
        loop {
            // Whoever goes by the old file lacks the region that came last. With one that lies, that is one more than a shard's loss.
            let must_read = world.lake.lies && world.weather.calm.load(Ordering::Relaxed);
            let file = if percent(30) && !must_read { self.old.lock().clone() } else { self.file.lock().clone() };
            match self.try_open(world, self.addressed(world, file, client, stopped), client, writes).await {
                Ok(store) => return store,
                Err(error) => {
                    if !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Corrupt) {
                        world.blame(format!("the lake cannot be opened: {error}"));
                    }
                    sleep(Duration::from_millis(200 + below(500))).await;
                }
            }
        }
    }

    async fn try_open(&self, world: &World, file: LakeConfig, client: usize, writes: bool) -> Result<ErasureStore> {
        let options = OpenOptions { writer: writes.then(|| PrivateKey::clone(&world.key)), clock: world.clock(client) };
        let lake = open(&file, options).await?;
        ErasureStore::new(Arc::clone(&lake.region_set), lake.profile()?, lake.writer.clone(), Arc::clone(&lake.clock))
    }

    /// The file as one process uses it: every location is its own way to the disk.
    fn addressed(&self, world: &World, mut file: LakeConfig, client: usize, stopped: &Arc<AtomicBool>) -> LakeConfig {
        let life = self.lives.fetch_add(1, Ordering::Relaxed);
        file.regions.iter_mut().for_each(|region| self.address(world, region, client, life, stopped));
        file
    }

    fn address(&self, world: &World, region: &mut RegionConfig, client: usize, life: u64, stopped: &Arc<AtomicBool>) {
        let disk = disk_of(&region.url);
        region.url = format!("{}@{client}-{life}", location(disk));
        simulated::put(&region.url, Arc::new(world.link(client, disk, stopped)));
    }

    /// The file is written anew.
    fn write(&self, mut file: LakeConfig) {
        file.regions.iter_mut().for_each(|region| region.url = location(disk_of(&region.url)));
        let mut now = self.file.lock();
        if now.regions != file.regions {
            *self.old.lock() = std::mem::replace(&mut *now, file);
        }
    }

    /// What the operator does next, of what the lake's size allows.
    fn draw(&self, lake: Lake) -> Option<Plan> {
        let file = self.file.lock().clone();
        let n = file.regions.len();
        let some = |regions: &[RegionConfig]| regions[usize::try_from(below(regions.len() as u64)).unwrap()].clone();
        let mut plans = Vec::new();
        if n < MOST {
            plans.push(0);
        }
        if n > 3 && Quorums::leaving(u8::try_from(n).unwrap(), lake.liars).is_ok() {
            plans.push(1);
        }
        // With one region fenced and another lying, too few are left to go on: no budget allows for both.
        if lake.liars == 0 {
            plans.push(2);
        }
        let plan = *plans.get(usize::try_from(below(plans.len().max(1) as u64)).unwrap())?;
        if plan == 1 {
            return Some(Plan::Retire(some(&file.regions)));
        }
        let disk = usize::try_from(self.next_disk.fetch_add(1, Ordering::Relaxed)).unwrap();
        Some(if plan == 0 {
            Plan::Add(region(&format!("r{disk}"), disk))
        } else {
            let place = some(&file.regions);
            Plan::Replace(region(place.name.as_str(), disk))
        })
    }

    /// Shards of what was never acknowledged may lack, and those that a late writer put where a region has left: scrubbed before another
    /// region goes, as the documentation has it.
    async fn repair(&self, world: &World) {
        let stopped = Arc::new(AtomicBool::new(false));
        let options = ScrubOptions { repair: true, verify: true, settle: Duration::ZERO, ..ScrubOptions::default() };
        for _ in 0..4 {
            let store = self.open(world, OPERATOR, true, &stopped).await;
            match store.scrub(&options, &()).await {
                Ok(report) if report.findings.is_empty() => return,
                _ => sleep(Duration::from_millis(below(2_000))).await,
            }
        }
    }

    /// One attempt of the operator's.
    async fn attempt(&self, world: &World, plan: &Plan, stopped: &Arc<AtomicBool>) -> Result<MembershipOutcome> {
        let life = self.lives.fetch_add(1, Ordering::Relaxed);
        let mut file = self.file.lock().clone();
        file.regions.iter_mut().for_each(|region| self.address(world, region, OPERATOR, life, stopped));
        let here = |region: &RegionConfig| {
            let mut region = region.clone();
            self.address(world, &mut region, OPERATOR, life, stopped);
            region
        };
        let keys = MembershipKeys { root: self.root.clone(), writer: PrivateKey::clone(&world.key) };
        let clock = world.clock(OPERATOR);
        match plan {
            Plan::Add(region) => {
                let plan = AddPlan::new(here(region));
                let mut with = file.clone();
                with.regions.retain(|known| known.name != region.name);
                with.regions.push(region.clone());
                add(&file, &plan, &keys, clock, &Published(self, Some(with))).await
            }
            Plan::Replace(region) => {
                let plan = ReplacePlan::new(region.name.clone(), here(region), true);
                let mut with = file.clone();
                with.regions.iter_mut().filter(|known| known.name == region.name).for_each(|known| *known = region.clone());
                replace(&file, &plan, &keys, clock, &Published(self, Some(with))).await
            }
            Plan::Retire(region) => {
                let plan = RetirePlan::new(region.name.clone());
                retire(&file, &plan, &keys, clock, &Published(self, None)).await
            }
        }
    }
}

/// Writes the file when the change is published, as the command does.
struct Published<'a>(&'a Changes, Option<LakeConfig>);

impl MembershipProgress for Published<'_> {
    fn step(&self, step: &MembershipStep) {
        if let (MembershipStep::Published { .. }, Some(file)) = (step, &self.1) {
            self.0.write(file.clone());
        }
    }
}

/// Makes the lake's changes, until the clients are done; what was begun is completed.
pub(super) async fn operate(world: &World) {
    let Some(changes) = &world.changes else { return };
    for _ in 0..world.lake.changes {
        sleep(Duration::from_millis(below(15_000))).await;
        if world.weather.calm.load(Ordering::Relaxed) {
            return;
        }
        let Some(plan) = changes.draw(world.lake) else { return };
        changes.repair(world).await;
        if let Plan::Replace(region) = &plan {
            let old = changes.file.lock().regions.iter().find(|known| known.name == region.name).map(|known| disk_of(&known.url));
            world.disks[old.expect("it was drawn from there")].fence();
        }
        if !complete(world, changes, &plan).await {
            return;
        }
        world.report.lock().changed += 1;
    }
}

/// Collects now and then, and is stopped in the middle of some runs. In half of them what writers left behind is looked for as well, however young:
/// that of writers that are still at work, too.
pub(super) async fn collect(world: &World) {
    let Some(changes) = world.changes.as_ref().filter(|_| world.lake.collects) else { return };
    let key = collector();
    while !world.weather.calm.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(below(20_000))).await;
        let stopped = Arc::new(AtomicBool::new(false));
        let store = changes.open(world, COLLECTOR, true, &stopped).await;
        let options = CollectOptions { orphans: percent(50), orphan_grace_seconds: 0, ..CollectOptions::default() };
        let run = store.collect(&options, &key, &|_| {});
        let most = Duration::from_millis(if percent(30) { below(2_000) } else { 3_600_000 });
        match timeout(most, run).await {
            Ok(Ok(report)) => {
                let mut told = world.report.lock();
                told.collected += report.collected;
                told.orphans += report.orphans_collected;
            }
            Ok(Err(error)) if error.kind() == ErrorKind::Unavailable => {}
            Ok(Err(error)) => world.blame(format!("a collector failed: {error}")),
            Err(_) => stopped.store(true, Ordering::Relaxed),
        }
    }
}

/// Whether the change was completed.
async fn complete(world: &World, changes: &Changes, plan: &Plan) -> bool {
    let mut failures_in_calm = 0;
    loop {
        let calm = world.weather.calm.load(Ordering::Relaxed);
        let stopped = Arc::new(AtomicBool::new(false));
        let attempt = changes.attempt(world, plan, &stopped);
        let stops = !calm && percent(40);
        let outcome = if stops { timeout(Duration::from_millis(below(40_000)), attempt).await.ok() } else { Some(attempt.await) };
        match outcome {
            Some(Ok(outcome)) => {
                changes.write(outcome.config);
                if let Plan::Retire(region) = plan {
                    // What lies there may be deleted.
                    world.disks[disk_of(&region.url)].fence();
                }
                return true;
            }
            Some(Err(error)) => {
                failures_in_calm += u32::from(calm);
                let may_be = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::OutcomeUnknown | ErrorKind::Corrupt);
                if !may_be || failures_in_calm > if world.lake.lies { 50 } else { 2 } {
                    world.blame(format!("{plan:?} cannot be completed: {error}"));
                    return false;
                }
            }
            None => stopped.store(true, Ordering::Relaxed),
        }
        sleep(Duration::from_millis(100 + below(3_000))).await;
    }
}
