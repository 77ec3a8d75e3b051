//! Handing everything over to a region that took another's place.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;

use super::MembershipProgress;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::Marker;
use crate::lake::Lake;
use crate::region::layout;
use crate::register::Registers;
use crate::store::{ErasureStore, HandedOver};

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
    /// Slots that the region was told of in this sweep.
    pub told: u64,
    /// Slots that it knew before.
    pub known: u64,
    /// Slots that nothing was decided in, closed to whoever had begun.
    pub undecided: u64,
    /// Slots whose version was collected.
    pub collected: u64,
    /// Shards that were rebuilt, written, read back and verified.
    pub shards: u64,
    /// Their bytes.
    pub shard_bytes: u64,
    /// Shards that cannot be rebuilt: too few intact ones are left. They were lost before.
    pub lost: u64,
}

impl SweepReport {
    fn add(&mut self, handed: HandedOver) {
        match handed {
            HandedOver::Already => self.known += 1,
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

/// One slot to hand over.
struct Work {
    path: Path,
    slot: u64,
    marker: Option<Marker>,
    /// The region lists an entry of its own of it: it was told, or has voted itself.
    known: bool,
}

/// Hands every slot of every register over to the region at `index`, and does again what failed once.
pub(super) async fn sweep(lake: &Lake, index: u8, progress: &dyn MembershipProgress) -> Result<SweepReport> {
    let store = ErasureStore::new(Arc::clone(&lake.region_set), lake.profile()?, lake.writer.clone(), Arc::clone(&lake.clock))?;
    let registers = Registers::new(Arc::clone(&lake.region_set), lake.writer.clone());
    let mut report = SweepReport::default();
    let (mut failed, mut failures): (u64, Vec<Error>) = (0, Vec::new());
    for prefix in [Some(Path::from(layout::SYSTEM_SEGMENT)), None] {
        let works = registers.walk(prefix.as_ref(), None).map_ok(|register| {
            let path = register.path;
            let works: Vec<Result<Work>> = register
                .slots
                .into_iter()
                .map(|slot| {
                    let known = slot.in_region(index).is_some_and(|region| region.entries > 0);
                    Ok(Work { path: path.clone(), slot: slot.slot, marker: slot.marker, known })
                })
                .collect();
            report.names += 1;
            futures::stream::iter(works)
        });
        let mut outcomes = works
            .try_flatten()
            .map(|work| {
                let store = &store;
                async move {
                    let work = work?;
                    if work.known {
                        return Ok(Ok(HandedOver::Already));
                    }
                    Ok::<_, Error>(store.hand_over(&work.path, work.slot, work.marker.as_ref(), index).await)
                }
            })
            .buffer_unordered(CONCURRENCY);
        let mut counted = SweepReport::default();
        while let Some(outcome) = outcomes.next().await {
            counted.slots += 1;
            match outcome? {
                Ok(handed) => counted.add(handed),
                Err(error) => {
                    failed += 1;
                    if failures.len() < FAILURES_KEPT {
                        failures.push(error);
                    }
                }
            }
            progress.swept(&counted);
        }
        drop(outcomes);
        report = SweepReport { names: report.names, ..merged(&report, &counted) };
    }
    store.quiesce().await;
    registers.quiesce().await;
    if failed == 0 {
        return Ok(report);
    }
    let what = "not everything could be handed over to the new region yet; do the same again";
    let error = Error::new(ErrorKind::Unavailable, what).with("failed", failed).with("slots", report.slots);
    Err(failures.into_iter().fold(error, |error, failure| error.with("failure", failure)))
}

fn merged(one: &SweepReport, other: &SweepReport) -> SweepReport {
    SweepReport {
        names: one.names + other.names,
        slots: one.slots + other.slots,
        told: one.told + other.told,
        known: one.known + other.known,
        undecided: one.undecided + other.undecided,
        collected: one.collected + other.collected,
        shards: one.shards + other.shards,
        shard_bytes: one.shard_bytes + other.shard_bytes,
        lost: one.lost + other.lost,
    }
}
