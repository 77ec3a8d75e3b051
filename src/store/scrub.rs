//! Scrub: a census of every kept version, region by region, and repair with the worst margin first.

use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;

use super::census::{Census, Depth, Fault, Flaw, Found, Piece, fault_of};
use super::pace::Pace;
use super::repair::{Mended, Outcome, VersionRepair};
use super::scrub_report::{Defect, RegionReport, ScrubReport};
use super::stop::Stop;
use super::{ErasureStore, Inner};
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::ObjectKind;
use crate::register::{WalkedRegister, is_collected};

/// What a scrub does.
#[derive(Debug, Clone)]
pub struct ScrubOptions {
    /// Whether what is found is repaired; needs a writer's key.
    pub repair: bool,
    /// Whether shards and register entries are read and hashed, not only listed.
    pub verify: bool,
    /// With `verify`: the fraction that is read, 0 to 1; everything when absent.
    pub sample: Option<f64>,
    /// Chooses the sample; the same number chooses the same.
    pub seed: u64,
    /// Most bytes of shards that are read in a second.
    pub rate_bytes_per_second: Option<u64>,
    /// Only names below this folder.
    pub prefix: Option<Path>,
    /// Only names after this one: where an earlier scrub ended.
    pub resume_after: Option<Path>,
    /// At most so many names; the report says where to go on.
    pub names_limit: Option<u64>,
    /// Versions that are looked at or repaired at one time.
    pub concurrency: usize,
    /// Findings that the report holds; the rest is counted.
    pub findings_limit: usize,
    /// Damaged versions that are remembered for repair at one time; for the rest, the names are walked again.
    pub repairs_limit: usize,
    /// A version younger than this may still be on its way to some regions: entries and markers that lack are counted as young, are no findings,
    /// and take nothing from its margin.
    pub settle: Duration,
    /// Ends the scrub early: what was looked at by then is reported.
    pub stop: Stop,
}

impl Default for ScrubOptions {
    fn default() -> Self {
        Self {
            repair: false,
            verify: false,
            sample: None,
            seed: 0,
            rate_bytes_per_second: None,
            prefix: None,
            resume_after: None,
            names_limit: None,
            concurrency: 8,
            findings_limit: 1000,
            repairs_limit: 10_000,
            settle: Duration::from_secs(60),
            stop: Stop::default(),
        }
    }
}

impl ScrubOptions {
    fn check(&self) -> Result<()> {
        let positive = self.concurrency > 0 && self.repairs_limit > 0 && self.names_limit != Some(0);
        if positive && self.sample.is_none_or(|sample| (0.0..=1.0).contains(&sample)) {
            return Ok(());
        }
        let what = "a scrub needs a sample between 0 and 1, and at least one name, one version at a time and one repair";
        Err(Error::new(ErrorKind::InvalidInput, what))
    }

    fn depth(&self) -> Depth {
        let sample = if self.verify { self.sample.unwrap_or(1.0) } else { 0.0 };
        let settle_ms = i64::try_from(self.settle.as_millis()).unwrap_or(i64::MAX);
        Depth { sample, seed: self.seed, settle_ms, ..Depth::default() }
    }
}

/// Is told how far a scrub is. `()` is told nothing.
pub trait ScrubProgress: Send + Sync {
    /// All versions of `path` were looked at; so many names, versions, and bytes read in all.
    fn planned(&self, path: &Path, names: u64, versions: u64, bytes_read: u64) {
        let _ = (path, names, versions, bytes_read);
    }

    /// So many of so many damaged versions were worked on.
    fn repaired(&self, path: &Path, done: u64, damaged: u64) {
        let _ = (path, done, damaged);
    }
}

impl ScrubProgress for () {}

impl ErasureStore {
    /// Takes the census of every kept version and, if asked, repairs what it finds, the worst margin first.
    ///
    /// Regions that cannot be asked are reported, and neither repaired nor written to; what they hold is *unreachable*, not *absent*. A piece
    /// counts as repaired once it was read back from its region. Writers may go on meanwhile.
    ///
    /// With repair, slots in which a writer stopped are completed, or closed to all but the last to whom a quorum promised a ballot. Slots of which
    /// nobody shows anything authentic stay as they are, whatever regions list.
    ///
    /// Where [`ScrubOptions::stop`] is said, names of which not all versions were looked at count for nothing, and the report says behind which name to
    /// go on. With repair, damaged versions before that place may have been left: they are counted.
    ///
    /// Behind the last name come the lake's own registers (its configurations, and what uploads were bound to), unless a prefix is given.
    ///
    /// Cost: a walk of all names (one LIST a region), for each version one GET and one LIST for each region with shards, and what is verified. Memory:
    /// bounded by the options, not by the lake; `concurrency` shards and, in repair, segments are held at a time.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for impossible options, [`ErrorKind::Permission`] for repair without a writer's key,
    /// [`ErrorKind::Unavailable`] when fewer than a classic quorum of regions lists anything. What goes wrong later is in the report.
    pub async fn scrub(&self, options: &ScrubOptions, progress: &dyn ScrubProgress) -> Result<ScrubReport> {
        options.check()?;
        if options.repair && self.inner.writer.is_none() {
            return Err(Error::new(ErrorKind::Permission, "repair needs a writer's private key of this lake"));
        }
        let pace = Pace::new(options.rate_bytes_per_second);
        let mut scrub = Scrub {
            inner: &self.inner,
            options,
            depth: options.depth(),
            pace: &pace,
            progress,
            report: ScrubReport::default(),
            given_up: BTreeSet::new(),
            last: None,
        };
        scrub.begin();
        loop {
            let plan = scrub.plan().await?;
            let overflow = plan.overflow;
            scrub.repair(plan).await;
            if scrub.report.interrupted.is_some() {
                scrub.report.left_versions = if options.repair { scrub.report.unsettled_versions() } else { 0 };
                break;
            }
            // What did not fit is walked to again, unless too much of it cannot be repaired.
            if overflow == 0 || scrub.given_up.len() >= options.repairs_limit {
                scrub.report.left_versions = overflow;
                break;
            }
        }
        // Of a stop that is said behind the last repair, it is said there that the scrub was stopped.
        let was_stopped = scrub.report.interrupted.is_some() && options.stop.is_said();
        if options.prefix.is_none() && scrub.report.resume_after.is_none() && !was_stopped {
            scrub.own_registers_unless_stopped().await;
        }
        scrub.report.bytes_read = pace.bytes();
        Ok(scrub.report)
    }
}

/// A damaged version, to be repaired.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Damaged {
    margin: i64,
    path: String,
    slot: u64,
    /// The regions in which something is wrong: with a shard, or with what the register has.
    harmed: BTreeSet<(u8, bool)>,
}

/// Which of a region's pieces a flaw is about: a shard, or one of the register's.
fn part(flaw: &Flaw) -> (u8, bool) {
    (flaw.region, matches!(flaw.piece, Piece::Shard { .. }))
}

/// What was found in one slot.
struct Looked {
    slot: u64,
    modified_ms: Option<i64>,
    found: Result<Found>,
}

#[derive(Default)]
struct Plan {
    /// Slots in which a writer stopped.
    open: Vec<(Path, u64)>,
    /// The greatest margin on top, so that it gives way to worse ones.
    worst: BinaryHeap<Damaged>,
    overflow: u64,
}

pub(super) struct Scrub<'a> {
    pub(super) inner: &'a Arc<Inner>,
    pub(super) options: &'a ScrubOptions,
    pub(super) depth: Depth,
    pace: &'a Pace,
    progress: &'a dyn ScrubProgress,
    pub(super) report: ScrubReport,
    /// Versions that could not be repaired, so that they are not tried again in the next round.
    given_up: BTreeSet<(String, u64)>,
    /// The last name that was looked at.
    last: Option<Path>,
}

/// Why a scrub ended that was asked to.
const STOPPED: &str = "it was stopped";

impl Scrub<'_> {
    fn begin(&mut self) {
        let report = |region: &Arc<crate::region::Region>| RegionReport {
            region: region.name().to_string(),
            down: region.down_reason().map(str::to_owned),
            ..RegionReport::default()
        };
        self.report.regions = self.inner.regions.regions().iter().map(report).collect();
    }

    /// Notes that the scrub ends here, and that it goes on behind the last name that was looked at.
    pub(super) fn stopped(&mut self) {
        self.report.interrupted = Some(STOPPED.to_owned());
        let place = self.last.as_ref().or(self.options.resume_after.as_ref());
        self.report.resume_after = place.map(Path::to_string);
    }

    /// Walks the names and takes the census of every version. Only the first round is counted.
    async fn plan(&mut self) -> Result<Plan> {
        let first = self.report.rounds == 0;
        self.report.rounds += 1;
        let mut plan = Plan::default();
        let walk = self.inner.registers.walk(self.options.prefix.as_ref(), self.options.resume_after.as_ref());
        let (inner, depth, pace) = (self.inner, self.depth.clone(), self.pace);
        let looks = walk
            .map_ok(|register| {
                let depth = &depth;
                async move { Ok(look(inner, register, depth, pace).await) }
            })
            .try_buffered(self.options.concurrency);
        let mut looks = std::pin::pin!(looks);
        let (mut names, mut last) = (0_u64, None);
        // Later rounds go no further than the first: names have come and gone since, and those behind it are left to whoever resumes.
        let end = self.report.resume_after.clone();
        loop {
            if first && self.options.names_limit.is_some_and(|limit| names >= limit) {
                self.report.resume_after = last.as_ref().map(Path::to_string);
                break;
            }
            let next = tokio::select! {
                biased;
                () = self.options.stop.said() => None,
                next = looks.try_next() => Some(next),
            };
            let Some(next) = next else {
                self.report.interrupted = Some(STOPPED.to_owned());
                break;
            };
            let (path, found) = match next {
                Ok(Some(looked)) => looked,
                Ok(None) => break,
                Err(error) if names == 0 && first => return Err(error),
                Err(error) => {
                    self.report.interrupted = Some(error.to_string());
                    // Names that an earlier round looked at are behind us; what it left damaged is counted.
                    if first {
                        self.report.resume_after = last.as_ref().map(Path::to_string);
                    }
                    break;
                }
            };
            if end.as_ref().is_some_and(|end| path.as_ref() > end.as_str()) {
                break;
            }
            names += 1;
            self.take(&mut plan, &path, found, first);
            if first {
                self.report.names = names;
                self.progress.planned(&path, names, self.report.versions, self.pace.bytes());
            }
            last = Some(path);
        }
        if first {
            self.last = last;
        }
        if self.options.stop.is_said() && first {
            self.stopped();
        }
        Ok(plan)
    }

    fn take(&mut self, plan: &mut Plan, path: &Path, found: Vec<Looked>, first: bool) {
        for Looked { slot, modified_ms, found } in found {
            let census = match found {
                Ok(Found::Retained(census)) => census,
                Ok(Found::Open) => {
                    self.report.open_slots += u64::from(first);
                    if first && self.options.repair && self.is_settled(modified_ms) && plan.open.len() < self.options.repairs_limit {
                        plan.open.push((path.clone(), slot));
                    }
                    continue;
                }
                Ok(Found::Collected) => {
                    self.report.collected += u64::from(first);
                    continue;
                }
                Err(error) => {
                    if first {
                        self.report.unknown_versions += 1;
                        self.find(path, slot, &error, Outcome::Found);
                    }
                    continue;
                }
            };
            if first {
                self.count(&census);
            }
            if census.damage().next().is_none() {
                if first {
                    *self.report.margins_after.entry(census.margin).or_default() += 1;
                }
                continue;
            }
            self.report.damaged_versions += u64::from(first);
            if self.options.repair {
                if self.given_up.contains(&(path.to_string(), slot)) {
                    continue;
                }
                let harmed = census.damage().map(part).collect();
                let damaged = Damaged { margin: census.margin, path: path.to_string(), slot, harmed };
                plan.worst.push(damaged);
                if plan.worst.len() > self.options.repairs_limit {
                    plan.worst.pop();
                    plan.overflow += 1;
                }
            } else {
                *self.report.margins_after.entry(census.margin).or_default() += 1;
                let lost = census.lost_segments > 0;
                self.report.lost_versions += u64::from(lost);
                let version = census.version.manifest.version();
                for flaw in census.damage() {
                    self.flaw(path, slot, &version, flaw, Outcome::Found);
                }
            }
        }
    }

    fn count(&mut self, census: &Census) {
        self.report.versions += 1;
        self.report.tombstones += u64::from(census.version.manifest.kind() == ObjectKind::Tombstone);
        *self.report.margins.entry(census.margin).or_default() += 1;
        for (region, tally) in &census.tallies {
            if let Some(report) = self.region_report(*region) {
                report.tally += *tally;
            }
        }
        for flaw in census.flaws.iter().filter(|flaw| flaw.fault == Fault::Unreachable) {
            if let Some(report) = self.region_report(flaw.region) {
                report.unreachable.get_or_insert_with(|| flaw.detail.clone());
            }
        }
    }

    /// The report of the region at this index.
    pub(super) fn region_report(&mut self, index: u8) -> Option<&mut RegionReport> {
        let at = self.inner.regions.regions().iter().position(|region| region.index() == index)?;
        self.report.regions.get_mut(at)
    }

    /// Whether what was last written at this time is there or was never sent.
    pub(super) fn is_settled(&self, modified_ms: Option<i64>) -> bool {
        modified_ms.is_none_or(|modified| self.inner.clock.now_ms().saturating_sub(modified) >= self.depth.settle_ms)
    }

    /// Completes what a writer began in a slot, or closes the slot to it: regions that came since have no say in it before. Once that is
    /// done it is left alone: each ballot makes the logs of the slot longer, for ever. So is a slot that is listed and that nobody began.
    pub(super) async fn close(&mut self, path: &Path, slot: u64) {
        let registers = &self.inner.registers;
        let closed = match registers.is_promised(path, slot).await {
            Ok(true) => return,
            Ok(false) => registers.close(path, slot).await.map(|_| ()),
            Err(error) => Err(error),
        };
        if let Err(error) = closed
            && !is_collected(&error)
        {
            self.find(path, slot, &error, Outcome::NotRepaired(error.to_string()));
        }
    }

    /// Repairs what was planned, the worst margin first.
    async fn repair(&mut self, plan: Plan) {
        for (path, slot) in plan.open {
            if self.options.stop.is_said() {
                break;
            }
            self.close(&path, slot).await;
        }
        let order = plan.worst.into_sorted_vec();
        let total = order.len() as u64;
        let (inner, depth, pace) = (self.inner, self.depth.clone(), self.pace);
        let mut repairs = futures::stream::iter(order)
            .map(|damaged| {
                let depth = &depth;
                async move {
                    let path = Path::parse(&damaged.path).unwrap_or_default();
                    let repair = inner.repair_version(&path, damaged.slot, depth, pace).await;
                    (path, damaged, repair)
                }
            })
            .buffered(self.options.concurrency);
        let mut done = 0;
        loop {
            let next = tokio::select! {
                biased;
                () = self.options.stop.said() => {
                    self.report.interrupted = Some(STOPPED.to_owned());
                    break;
                }
                next = repairs.next() => next,
            };
            let Some((path, damaged, repair)) = next else { break };
            done += 1;
            match repair {
                Ok(Some(repair)) => self.settle(&path, &damaged, repair),
                // Collected meanwhile: nothing is left to be done.
                Ok(None) => self.report.repaired_versions += 1,
                Err(error) => {
                    self.report.unrepaired_versions += 1;
                    self.given_up.insert((path.to_string(), damaged.slot));
                    *self.report.margins_after.entry(damaged.margin).or_default() += 1;
                    self.find(&path, damaged.slot, &error, Outcome::NotRepaired(error.to_string()));
                }
            }
            self.progress.repaired(&path, done, total);
        }
    }

    /// Reports one version's repair. What was wrong in a region that is not heard any more is not repaired.
    fn settle(&mut self, path: &Path, damaged: &Damaged, repair: VersionRepair) {
        let slot = damaged.slot;
        let VersionRepair { census, mended, margin_after } = repair;
        *self.report.margins_after.entry(margin_after).or_default() += 1;
        for (region, tally) in &census.tallies {
            if let Some(report) = self.region_report(*region) {
                report.tally.shards_repaired += tally.shards_repaired;
                report.tally.entries_repaired += tally.entries_repaired;
                report.tally.markers_repaired += tally.markers_repaired;
            }
        }
        let mut unheard: Vec<&Flaw> = Vec::new();
        for flaw in census.flaws.iter().filter(|flaw| flaw.fault == Fault::Unreachable) {
            if damaged.harmed.contains(&part(flaw)) && unheard.iter().all(|other| part(other) != part(flaw)) {
                unheard.push(flaw);
            }
        }
        let is = |which: fn(&Outcome) -> bool| mended.iter().any(|mended| which(&mended.outcome));
        let lost = is(|outcome| matches!(outcome, Outcome::Lost(_)));
        let left = !unheard.is_empty() || is(|outcome| matches!(outcome, Outcome::NotRepaired(_) | Outcome::Found));
        if left || lost {
            self.given_up.insert((path.to_string(), slot));
        }
        self.report.lost_versions += u64::from(lost);
        self.report.unrepaired_versions += u64::from(left && !lost);
        self.report.repaired_versions += u64::from(!left && !lost);
        let version = census.version.manifest.version();
        for flaw in unheard {
            if let Some(report) = self.region_report(flaw.region) {
                report.unreachable.get_or_insert_with(|| flaw.detail.clone());
            }
            let why = "the region was not heard when what is wrong there was to be repaired: scrub again when it answers";
            self.flaw(path, slot, &version, flaw, Outcome::NotRepaired(why.to_owned()));
        }
        for Mended { flaw, outcome, .. } in mended {
            self.flaw(path, slot, &version, &flaw, outcome);
        }
    }

    pub(super) fn flaw(&mut self, path: &Path, slot: u64, version: &str, flaw: &Flaw, outcome: Outcome) {
        self.report.findings_total += 1;
        if self.report.findings.len() >= self.options.findings_limit {
            return;
        }
        let region = self.inner.regions.region(flaw.region).map(|region| region.name().to_string()).unwrap_or_default();
        self.report.findings.push(Defect {
            path: path.to_string(),
            slot,
            version: version.to_owned(),
            region,
            piece: Some(flaw.piece),
            fault: flaw.fault,
            detail: flaw.detail.clone(),
            outcome,
        });
    }

    /// A finding about a version as a whole.
    pub(super) fn find(&mut self, path: &Path, slot: u64, error: &Error, outcome: Outcome) {
        self.report.findings_total += 1;
        if self.report.findings.len() >= self.options.findings_limit {
            return;
        }
        self.report.findings.push(Defect {
            path: path.to_string(),
            slot,
            version: String::new(),
            region: String::new(),
            piece: None,
            fault: fault_of(error),
            detail: error.to_string(),
            outcome,
        });
    }
}

/// The census of all slots of one name, newest first.
async fn look(inner: &Arc<Inner>, register: WalkedRegister, depth: &Depth, pace: &Pace) -> (Path, Vec<Looked>) {
    let mut found = Vec::with_capacity(register.slots.len());
    if let (Err(error), Some(slot)) = (register.check_whole(), register.cut_at) {
        found.push(Looked { slot, modified_ms: None, found: Err(error) });
    }
    let WalkedRegister { path, slots, unreachable, .. } = register;
    for slot in &slots {
        let census = inner.census(&path, slot, &unreachable, depth, pace).await;
        found.push(Looked { slot: slot.slot, modified_ms: slot.modified_ms(), found: census });
    }
    (path, found)
}
