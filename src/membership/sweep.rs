//! Going through all slots of all registers: to tell a new region everything, or to take everything over from one that leaves.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;

use super::MembershipProgress;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::Marker;
use crate::lake::Lake;
use crate::region::layout;
use crate::register::Registers;
use crate::store::{ErasureStore, HandedOver, Losses};

/// Slots that are handed over at one time; memory is that many segments' shards.
const CONCURRENCY: usize = 8;
/// Failures that are kept for the report; the others are counted.
const FAILURES_KEPT: usize = 16;

/// What a sweep found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Names that were looked at, the lake's own included.
    pub names: u64,
    /// Slots of them.
    pub slots: u64,
    /// Slots that the new region (where one leaves: the others) was told of in this sweep, or was given shards of.
    pub told: u64,
    /// Slots of which there was nothing left to hand over.
    pub known: u64,
    /// Slots that nothing was decided in, closed to whoever had begun.
    pub undecided: u64,
    /// Slots whose version was collected.
    pub collected: u64,
    /// Shards that were copied or rebuilt, written, read back and verified.
    pub shards: u64,
    /// Their bytes.
    pub shard_bytes: u64,
    /// Shards that cannot be rebuilt: too few intact ones are left. They were lost before.
    pub lost: u64,
}

impl SweepReport {
    fn add(&mut self, handed: HandedOver) {
        match handed {
            HandedOver::Already | HandedOver::NotBegun => self.known += 1,
            HandedOver::Told { shards, bytes, lost } => {
                self.told += 1;
                self.shards += shards;
                self.shard_bytes += bytes;
                self.lost += lost;
            }
            HandedOver::Undecided => self.undecided += 1,
            HandedOver::Collected => self.collected += 1,
        }
    }
}

/// For whom slots are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// The region at this index is told.
    Told(u8),
    /// A region leaves; the others are told what they would not know without it.
    Leaving(&'a Losses),
}

/// One slot to hand over.
struct Work {
    path: Path,
    slot: u64,
    marker: Option<Marker>,
    /// The region lists an entry of its own of it: perhaps it was told, or has voted itself.
    listed: bool,
    /// The first slot of its register: names are counted by it.
    is_newest: bool,
}

/// Hands every slot of every register over.
pub(super) async fn sweep(lake: &Lake, part: Part<'_>, progress: &dyn MembershipProgress) -> Result<SweepReport> {
    let store = ErasureStore::new(Arc::clone(&lake.region_set), lake.profile()?, lake.writer.clone(), Arc::clone(&lake.clock))?;
    let registers = Registers::new(Arc::clone(&lake.region_set), lake.writer.clone());
    let mut report = SweepReport::default();
    let (mut failed, mut failures): (u64, Vec<Error>) = (0, Vec::new());
    // The lake's own registers first: they are few.
    let registers_of_all = registers.walk_all(Some(&Path::from(layout::SYSTEM_SEGMENT))).chain(registers.walk_all(None));
    let works = registers_of_all.map_ok(|register| {
        let (path, is_first) = (register.path, register.older_than.is_none());
        let works = register.slots.into_iter().enumerate().map(move |(at, slot)| {
            let listed = match part {
                Part::Told(index) => slot.in_region(index).is_some_and(|region| region.entries > 0),
                Part::Leaving(_) => false,
            };
            Ok(Work { path: path.clone(), slot: slot.slot, marker: slot.marker, listed, is_newest: is_first && at == 0 })
        });
        futures::stream::iter(works)
    });
    let mut outcomes = works
        .try_flatten()
        .map(|work: Result<Work>| {
            let (store, registers) = (&store, &registers);
            async move {
                let work = work?;
                let handed = match part {
                    Part::Told(index) if work.listed => match registers.has_its_say(&work.path, work.slot, index).await {
                        Ok(true) => Ok(HandedOver::Already),
                        Ok(false) => store.hand_over(&work.path, work.slot, work.marker.as_ref(), index).await,
                        Err(error) => Err(error),
                    },
                    Part::Told(index) => store.hand_over(&work.path, work.slot, work.marker.as_ref(), index).await,
                    Part::Leaving(losses) => store.take_over(&work.path, work.slot, losses).await,
                };
                Ok::<_, Error>((work.is_newest, handed))
            }
        })
        .buffer_unordered(CONCURRENCY);
    while let Some(outcome) = outcomes.next().await {
        let (is_newest, handed) = outcome?;
        report.names += u64::from(is_newest);
        report.slots += 1;
        match handed {
            Ok(handed) => report.add(handed),
            Err(error) => {
                failed += 1;
                if failures.len() < FAILURES_KEPT {
                    failures.push(error);
                }
            }
        }
        progress.swept(&report);
    }
    drop(outcomes);
    store.quiesce().await;
    registers.quiesce().await;
    if failed == 0 {
        return Ok(report);
    }
    let what = "not everything could be handed over yet; do the same again";
    let error = Error::new(ErrorKind::Unavailable, what).with("failed", failed).with("slots", report.slots);
    Err(failures.into_iter().fold(error, |error, failure| error.with("failure", failure)))
}
