//! Collection: versions that were superseded longer ago than the retention are let go, and so is what stopped writers left behind.
//!
//! ```text
//! versions   stub over entry 0 in every region, read back -> shards -> further entries and markers
//! orphans    win the write's register -> look whether any version names it -> shards -> metadata
//! ```
//!
//! It takes the collector's key, and region credentials that may overwrite and delete; ordinary writers need neither. It may stop anywhere
//! and begin again; two collectors at once do the same work twice and no harm.

use std::collections::{HashMap, HashSet};

use futures::TryStreamExt as _;
use object_store::path::Path;

use super::clocks::{Clocks, is_past};
use super::collect_version::Shards;
use super::resolve::Version;
use super::versions::Found;
use super::{ErasureStore, Inner};
use crate::error::{Error, ErrorKind, Result};
use crate::id::WriteId;
use crate::key::PrivateKey;
use crate::register::core::{Rules, telling};
use crate::register::{Slot, WalkedRegister, WalkedSlot};

/// Problems that a report names; the others are counted.
const PROBLEM_LIMIT: usize = 1000;
/// How long an upload may take before a collector gives it up, in seconds, unless it is said otherwise: a day.
const ORPHAN_GRACE_SECONDS: u64 = 24 * 60 * 60;

/// What is to be collected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectOptions {
    /// Only says what would be collected. (A small object a region is still written and deleted, to learn the time.)
    pub dry_run: bool,
    /// Only names below this path. Then orphans are left alone.
    pub prefix: Option<Path>,
    /// Only names greater than this one: [`CollectReport::last`] of a run that was stopped. Then orphans are left alone.
    pub resume_after: Option<Path>,
    /// Keeps versions longer than the lake's signed retention, in seconds. A shorter time is refused.
    pub retention_seconds: Option<u64>,
    /// How old shards that no version names must be before their upload is given up, in seconds.
    pub orphan_grace_seconds: u64,
    /// Whether to look for orphans at all.
    pub orphans: bool,
}

impl Default for CollectOptions {
    fn default() -> Self {
        Self {
            dry_run: false,
            prefix: None,
            resume_after: None,
            retention_seconds: None,
            orphan_grace_seconds: ORPHAN_GRACE_SECONDS,
            orphans: true,
        }
    }
}

/// Something that was left undone, and why. The next run tries again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectProblem {
    /// The path of the object, or the key of what has no path.
    pub path: String,
    /// What happened.
    pub what: String,
}

/// What was done; in a dry run, what would be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectReport {
    /// Names walked.
    pub names: u64,
    /// Superseded versions that are kept: too young, or of an age that cannot be told.
    pub kept: u64,
    /// Versions collected.
    pub collected: u64,
    /// Versions that were collected before.
    pub collected_before: u64,
    /// Versions that are old enough, but could not be collected this time; see the problems.
    pub postponed: u64,
    /// Shards deleted, orphans' included.
    pub shards_deleted: u64,
    /// Their bytes as stored.
    pub bytes_deleted: u64,
    /// Register entries and markers deleted.
    pub entries_deleted: u64,
    /// Writes whose shards no version names.
    pub orphans_found: u64,
    /// Those that are younger than the grace age.
    pub orphans_young: u64,
    /// Those whose shards were deleted.
    pub orphans_collected: u64,
    /// Writes with shards that no authentic trailer explains: they are reported and never deleted.
    pub orphans_unexplained: u64,
    /// Streamed writes that ended long ago and whose bindings were deleted.
    pub bindings_deleted: u64,
    /// What was left undone, at most a thousand of them.
    pub problems: Vec<CollectProblem>,
    /// How many problems there were.
    pub problems_total: u64,
    /// The last name that was dealt with: where a run that is stopped can be resumed.
    pub last: Option<Path>,
}

impl CollectReport {
    /// Whether the run changed anything, or would.
    pub fn is_idle(&self) -> bool {
        self.collected + self.shards_deleted + self.entries_deleted + self.orphans_collected + self.bindings_deleted == 0
    }

    pub(super) fn problem(&mut self, path: impl Into<String>, what: impl std::fmt::Display) {
        self.problems_total += 1;
        if self.problems.len() < PROBLEM_LIMIT {
            self.problems.push(CollectProblem { path: path.into(), what: what.to_string() });
        }
    }
}

/// A slot, and the write that made its version; none where it was collected.
type Kept<'w> = (&'w WalkedSlot, Option<WriteId>);

/// How many retained versions of a name each write made, as far as they were read.
#[derive(Debug, Default)]
pub(super) struct Named(HashMap<WriteId, usize>);

impl Named {
    fn add(&mut self, id: WriteId) {
        *self.0.entry(id).or_default() += 1;
    }

    fn remove(&mut self, id: WriteId) {
        if let Some(versions) = self.0.get_mut(&id) {
            *versions = versions.saturating_sub(1);
        }
    }

    /// Whether a retained version was made by `id`.
    pub(super) fn contains(&self, id: WriteId) -> bool {
        self.0.get(&id).is_some_and(|versions| *versions > 0)
    }
}

/// Whether an older version is the deletion that the newest is: it was republished.
fn is_same_deletion(version: &Version, newest: &Version) -> bool {
    !version.is_live() && !newest.is_live() && version.manifest.write_id == newest.manifest.write_id
}

/// Is told of a run's totals after every name and every orphan.
pub(super) type Progress<'a> = &'a (dyn Fn(&CollectReport) + Send + Sync);

/// One run.
pub(super) struct Collector<'a> {
    pub(super) inner: &'a Inner,
    pub(super) key: &'a PrivateKey,
    pub(super) options: &'a CollectOptions,
    /// Without any, no age is waited for.
    pub(super) clocks: Option<Clocks>,
    pub(super) report: CollectReport,
    progress: Progress<'a>,
    retention_seconds: u64,
    /// Writes that retained versions name, by their markers.
    named: HashSet<WriteId>,
}

impl ErasureStore {
    /// Collects versions that were superseded longer ago than the lake's signed retention, and orphans.
    ///
    /// The newest version of a name is never collected, whatever it is. Cost: one LIST of all registers a region; for each collected version
    /// about three requests a region, and two a shard; for orphans one LIST of all shards a region, and 16 bytes of memory for each retained version. A region that is
    /// down postpones what needs it: a second run finishes. `progress` is told the totals after every name.
    ///
    /// # Errors
    /// [`ErrorKind::Permission`] when the key may not collect, or the store has no writer's key (resolving what stopped writers left takes
    /// one); [`ErrorKind::InvalidInput`] for a retention below the lake's; [`ErrorKind::Unavailable`] when too few regions answer.
    pub async fn collect(
        &self,
        options: &CollectOptions,
        collector: &PrivateKey,
        progress: &(dyn Fn(&CollectReport) + Send + Sync),
    ) -> Result<CollectReport> {
        let inner = &*self.inner;
        check_collector(inner, collector)?;
        if inner.writer.is_none() {
            return Err(Error::new(ErrorKind::Permission, "collecting needs a writer's private key of this lake as well"));
        }
        let signed = inner.regions.retention_seconds();
        let retention_seconds = options.retention_seconds.unwrap_or(signed);
        if retention_seconds < signed {
            return Err(Error::new(ErrorKind::InvalidInput, "versions may not be kept for less than the lake's retention")
                .with("retention seconds", signed)
                .with("asked for", retention_seconds));
        }
        let mut run = Collector {
            inner,
            key: collector,
            options,
            clocks: Some(Clocks::learn(inner).await?),
            report: CollectReport::default(),
            progress,
            retention_seconds,
            named: HashSet::new(),
        };
        run.versions().await?;
        if options.orphans && options.prefix.is_none() && options.resume_after.is_none() {
            let named = std::mem::take(&mut run.named);
            run.orphans(&named).await?;
            run.bindings().await?;
        }
        Ok(run.report)
    }
}

pub(super) fn check_collector(inner: &Inner, key: &PrivateKey) -> Result<()> {
    if inner.regions.collectors().contains(&key.public()) {
        return Ok(());
    }
    let what = "this key may not collect; use the collector's key that was made with the lake";
    Err(Error::new(ErrorKind::Permission, what).with("key", key.public()))
}

impl<'a> Collector<'a> {
    /// A run over single names, for which no age is waited for.
    pub(super) fn without_age(inner: &'a Inner, key: &'a PrivateKey, options: &'a CollectOptions) -> Self {
        let report = CollectReport::default();
        Self { inner, key, options, clocks: None, report, progress: &|_| {}, retention_seconds: 0, named: HashSet::new() }
    }
}

impl Collector<'_> {
    async fn versions(&mut self) -> Result<()> {
        let mut names = self.inner.registers.walk(self.options.prefix.as_ref(), self.options.resume_after.as_ref());
        while let Some(walked) = names.try_next().await? {
            self.report.names += 1;
            // A marker beside a stub is what an interrupted run left: whether anything still names its write is looked at closely.
            let kept = walked.slots.iter().filter(|slot| !slot.regions.iter().any(|region| region.lists_stub(&walked.path)));
            self.named.extend(kept.filter_map(|slot| slot.marker).map(|marker| marker.write_id));
            let outcome = match walked.check_whole() {
                Ok(()) => self.name(&walked).await,
                too_many => too_many,
            };
            if let Err(error) = outcome {
                self.report.problem(walked.path.as_ref(), error);
            }
            self.report.last = Some(walked.path);
            self.tell();
        }
        Ok(())
    }

    pub(super) fn tell(&self) {
        (self.progress)(&self.report);
    }

    /// Collects what is old of one name. Nothing is asked of the regions while the lists show that there is nothing to do; else they list the
    /// name once more.
    pub(super) async fn name(&mut self, walked: &WalkedRegister) -> Result<()> {
        let Some((_, older)) = walked.slots.split_first() else { return Ok(()) };
        let path = &walked.path;
        let done = older.iter().filter(|slot| self.is_finished(path, slot)).count();
        self.report.collected_before += done as u64;
        // What follows at once is no younger than what supersedes. What has a stub somewhere was old enough once: the regions that lack it may
        // have come since, and so may what they were told of the newer version, which says nothing of its age.
        let is_begun = |slot: &WalkedSlot| slot.regions.iter().any(|region| region.lists_stub(path));
        let may_be_old = walked.slots.windows(2).any(|pair| match pair {
            [newer, older] => !self.is_finished(path, older) && (is_begun(older) || self.is_old(newer)),
            _ => false,
        });
        if !may_be_old {
            self.report.kept += (older.len() - done) as u64;
            return Ok(());
        }
        let Some(newest) = self.inner.newest(path).await? else { return Ok(()) };
        // Ages are told by what is listed *after* that: a slot may have been decided since it was listed, by a writer or just now by ourselves. Any
        // quorum that lists it now has a vote of that decision, with its time. Not every quorum has the last of its votes: see `is_heard`.
        let Some(walked) = &self.inner.registers.walk_one_patiently(path).await? else { return Ok(()) };
        let is_heard = self.is_heard(walked);
        let (mut decided, same_deletions) = self.read_slots(walked, &newest).await?;
        let mut named = Named::default();
        decided.iter().filter_map(|(_, id)| *id).for_each(|id| named.add(id));
        let all = self.inner.regions.staying().count();
        // Under a tombstone nothing else says that there was an object: a region that is not told may not be left behind.
        let confirmations = if newest.is_live() { self.intersecting() } else { all };
        for at in (0..decided.len()).rev() {
            let Some((slot, write_id)) = decided.get(at).copied() else { continue };
            if slot.slot == newest.decided.slot || self.is_finished(path, slot) {
                continue;
            }
            let is_known_old = self.is_superseded(&decided, at) && (is_heard || write_id.is_none());
            if !is_known_old {
                // A purge is complete without it: it says once more that the object was deleted, and holds nothing.
                self.report.kept += u64::from(self.clocks.is_some() || !same_deletions.contains(&slot.slot));
                continue;
            }
            if let Some(id) = write_id {
                named.remove(id);
            }
            let shards = match write_id {
                None => Shards::Left,
                Some(id) if named.contains(id) => Shards::Shared,
                Some(_) => Shards::Own,
            };
            match self.version(path, slot, confirmations, shards, &named).await {
                Ok(()) => {
                    // Without a manifest it was collected before, but not to the end everywhere.
                    let counter = if write_id.is_some() { &mut self.report.collected } else { &mut self.report.collected_before };
                    *counter += 1;
                    if let Some(entry) = decided.get_mut(at) {
                        entry.1 = None;
                    }
                }
                Err(error) => {
                    if let Some(id) = write_id {
                        named.add(id);
                    }
                    self.report.postponed += 1;
                    self.report.problem(path.as_ref(), error);
                }
            }
        }
        Ok(())
    }

    /// The decided slots of a name up to its newest version, each with its write unless it was collected, and those of them that are the newest
    /// version once more where that is a deletion.
    async fn read_slots<'w>(&self, walked: &'w WalkedRegister, newest: &Version) -> Result<(Vec<Kept<'w>>, HashSet<Slot>)> {
        let (mut decided, mut same_deletions) = (Vec::new(), HashSet::new());
        for slot in walked.slots.iter().filter(|slot| slot.slot <= newest.decided.slot) {
            let write_id = if self.is_finished(&walked.path, slot) {
                None
            } else {
                match self.inner.version_in(&walked.path, slot.slot).await? {
                    Found::Version(version) => {
                        if is_same_deletion(&version, newest) {
                            same_deletions.insert(slot.slot);
                        }
                        Some(version.manifest.write_id)
                    }
                    Found::Collected => None,
                    Found::Undecided => continue,
                }
            };
            decided.push((slot, write_id));
        }
        Ok((decided, same_deletions))
    }

    /// So many regions that every classic quorum has an honest one of them. While one leaves: as many of the others as their own quorums take.
    fn intersecting(&self) -> usize {
        telling(&Rules::from(self.inner.regions.quorums()))
    }

    /// Whether a collector has nothing left to do: every region that is in use lists a stub, and nothing else. A region that lies about it
    /// only delays.
    fn is_finished(&self, path: &Path, slot: &WalkedSlot) -> bool {
        let mut in_use = self.inner.regions.regions().iter().filter(|region| region.down_reason().is_none());
        in_use.all(|region| slot.in_region(region.index()).is_some())
            && slot.regions.iter().all(|region| region.lists_stub(path) && region.entries == 1 && region.listed == 1 && !region.marked)
    }

    /// Whether every region was heard that votes and told the time in this run. One that was not may have the last vote of a decision, and its
    /// time: a decision of the fast ballot is as old as that, and a quorum without it shows older ones alone.
    fn is_heard(&self, walked: &WalkedRegister) -> bool {
        let Some(clocks) = &self.clocks else { return true };
        let mut voters = self.inner.regions.voters().iter().filter(|voter| voter.down_reason().is_none()).map(|voter| voter.index());
        voters.all(|voter| !walked.unreachable.contains(&voter) || !clocks.tell(voter))
    }

    fn is_old(&self, successor: &WalkedSlot) -> bool {
        let Some(clocks) = &self.clocks else { return true };
        let stamps = successor.regions.iter().filter_map(|region| Some((region.region, region.entries_modified_ms?)));
        clocks.age_ms(stamps).is_some_and(|age| is_past(age, self.retention_seconds))
    }

    /// Whether the version at `at` was superseded long enough ago. A version that was republished is the same version: what supersedes it has
    /// another write id. (Of a collected one that is not known any more; it was superseded itself, long ago.)
    fn is_superseded(&self, decided: &[Kept<'_>], at: usize) -> bool {
        let Some((_, own)) = decided.get(at) else { return false };
        if own.is_none() {
            // There is a stub that is not in every region yet: it was old enough once.
            return true;
        }
        decided.iter().take(at).rev().find(|(_, id)| id != own).is_some_and(|(successor, _)| self.is_old(successor))
    }
}
