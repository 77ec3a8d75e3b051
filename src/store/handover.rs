//! Giving a new region what it has to hold of a version (its shards, its marker, and what was decided), and others what one that leaves held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use object_store::path::Path;

use super::census::{Fault, Flaw, Piece, fault_of};
use super::census_shards::{Expected, read_shard};
use super::pace::Pace;
use super::repair::Outcome;
use super::repair_shards::{repair_segment, write_shard};
use super::resolve::{Version, describe, move_shards};
use super::{ErasureStore, Inner};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::format::entry::Marker;
use crate::format::manifest::{Content, Sharded};
use crate::region::layout;
use crate::register::{Closed, Decided, Taught, is_collected};

/// How a slot was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandedOver {
    /// The region held it all before.
    Already,
    /// It was told, and this many shards were rebuilt, written, read back and verified.
    Told {
        /// Shards that it lacked.
        shards: u64,
        /// Their bytes.
        bytes: u64,
        /// Shards that cannot be rebuilt, because too few others are intact: they were lost before.
        lost: u64,
    },
    /// Nothing was decided there, and nothing that was begun can be; the region knows.
    Undecided,
    /// It was listed, and nobody has begun there: there is nothing to tell.
    NotBegun,
    /// The version was collected: the region has the collector's stub.
    Collected,
}

/// Regions that the operator of a retirement says are gone for good.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Losses {
    /// Whether the region that is leaving is: what can be neither copied nor rebuilt is lost with it, and not waited for.
    pub leaving: bool,
    /// The others that are, by index: what one of them would be given is left out while it does not answer, if as many other shards verify as
    /// it takes to make it again.
    pub heirs: BTreeSet<u8>,
}

/// What was rebuilt of one version.
#[derive(Default)]
struct Rebuilt {
    shards: u64,
    bytes: u64,
    lost: u64,
}

impl Rebuilt {
    fn add(&mut self, made: Made) {
        match made {
            Made::Nothing => {}
            Made::Shard(bytes) => {
                self.shards += 1;
                self.bytes += bytes;
            }
            Made::Lost => self.lost += 1,
        }
    }
}

impl ErasureStore {
    /// Gives the region at `index` all that it lacks of one slot: its shards first, each read back and verified, then the decided marker,
    /// and last the entry that says what was decided, so that a region which was told has all the rest. Idempotent.
    ///
    /// The slot is resolved by the other regions. Cost: one GET when it was done before and `marker` says for what; else the reading of
    /// the slot, and k shards read and one written for each shard that is rebuilt; memory for one segment's shards.
    ///
    /// # Errors
    /// Whatever a region failed with: nothing is lost, and it may be done again. [`ErrorKind::Permission`] without a writer's key.
    pub async fn hand_over(&self, path: &Path, slot: u64, marker: Option<&Marker>, index: u8) -> Result<HandedOver> {
        let inner = &self.inner;
        if let Some(marker) = marker
            && inner.registers.inspect(path, slot, &marker.value, index, 1).await?.learned
        {
            return Ok(HandedOver::Already);
        }
        let decided = match inner.registers.close(path, slot).await {
            Ok(Closed::Decided(decided)) => decided,
            Ok(Closed::Undecided(ballot)) => {
                inner.registers.teach_undecided(path, slot, ballot, index).await?;
                return Ok(HandedOver::Undecided);
            }
            Ok(Closed::NotBegun) => return Ok(HandedOver::NotBegun),
            Err(error) if is_collected(&error) => {
                // Else the slot is empty again as soon as all are replaced that hold a stub.
                return match inner.registers.teach_collected(path, slot, index).await? {
                    Taught::Written | Taught::Already => Ok(HandedOver::Collected),
                    Taught::CannotRead(reason) => Err(cannot_read(path, slot, reason)),
                };
            }
            Err(error) => return Err(error),
        };
        let is_system = layout::is_system(path);
        let rebuilt = if is_system { Rebuilt::default() } else { rebuild_all(inner, path, &decided, index).await? };
        failpoint!("handover.after-shards");
        if let Some(marker) = describe(&decided).filter(|_| !is_system) {
            inner.registers.mark_region(path, slot, &marker, index).await?;
        }
        match inner.registers.teach(path, &decided, index).await? {
            Taught::Written => Ok(HandedOver::Told { shards: rebuilt.shards, bytes: rebuilt.bytes, lost: rebuilt.lost }),
            Taught::Already if rebuilt.shards == 0 => Ok(HandedOver::Already),
            Taught::Already => Ok(HandedOver::Told { shards: rebuilt.shards, bytes: rebuilt.bytes, lost: rebuilt.lost }),
            Taught::CannotRead(reason) => Err(cannot_read(path, slot, reason)),
        }
    }
}

fn cannot_read(path: &Path, slot: u64, reason: String) -> Error {
    Error::new(ErrorKind::Corrupt, "the new region holds an entry that cannot be read")
        .with("path", path)
        .with("slot", slot)
        .with("reason", reason)
}

impl ErasureStore {
    /// Takes over what the region that is leaving holds of one slot: its shard goes to the one that will have it, and what was decided is made
    /// known to the regions that stay. Idempotent.
    ///
    /// A shard that cannot be rebuilt and that the leaving region, which does not answer, may hold is an error; where `losses` say that
    /// the region is gone for good, it is lost as well.
    ///
    /// Cost: the reading of the slot in all regions; for each shard that is not there yet, one read and one write, or k reads where the
    /// leaving region does not have it; memory for one segment's shards.
    ///
    /// # Errors
    /// Whatever a region failed with: nothing is lost, and it may be done again. [`ErrorKind::Permission`] without a writer's key.
    pub async fn take_over(&self, path: &Path, slot: u64, losses: &Losses) -> Result<HandedOver> {
        let inner = &self.inner;
        let decided = match inner.registers.close(path, slot).await {
            Ok(Closed::Decided(decided)) => Some(decided),
            Ok(Closed::Undecided(_)) => return Ok(HandedOver::Undecided),
            Ok(Closed::NotBegun) => return Ok(HandedOver::NotBegun),
            Err(error) if is_collected(&error) => None,
            Err(error) => return Err(error),
        };
        let moved = match &decided {
            Some(decided) if !layout::is_system(path) => move_all(inner, path, decided, losses).await?,
            _ => Rebuilt::default(),
        };
        failpoint!("handover.after-shards");
        let is_told = inner.registers.establish(path, slot, decided.as_ref()).await?;
        Ok(match decided {
            None => HandedOver::Collected,
            Some(_) if !is_told && moved.shards == 0 && moved.lost == 0 => HandedOver::Already,
            Some(_) => HandedOver::Told { shards: moved.shards, bytes: moved.bytes, lost: moved.lost },
        })
    }
}

/// Gives the shards of a version that are in the leaving region to the one that will have them.
async fn move_all(inner: &Arc<Inner>, path: &Path, decided: &Decided, losses: &Losses) -> Result<Rebuilt> {
    let mut moved = Rebuilt::default();
    let Some(departure) = inner.regions.departing() else { return Ok(moved) };
    let before = match inner.read_manifest(path, decided.clone()) {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::warn!(path = %path, slot = decided.slot, %error, "a manifest cannot be read");
            moved.lost += 1;
            return Ok(moved);
        }
        version => version?,
    };
    let mut manifest = before.manifest.clone();
    move_shards(&mut manifest, departure);
    let after = Arc::new(Version { decided: decided.clone(), manifest });
    let (Content::Shards(from), Content::Shards(to)) = (&before.manifest.content, &after.manifest.content) else { return Ok(moved) };
    let Some(shard) = from.placement.iter().zip(&to.placement).position(|(from, to)| from != to) else { return Ok(moved) };
    for segment in 0..to.geometry().segments(to.size) {
        let made = match move_shard(inner, (&before, from), (&after, to), (segment, shard), losses.leaving).await {
            Err(error) if to.placement.get(shard).is_some_and(|heir| losses.heirs.contains(heir)) => {
                leave_out(inner, (&before, from), (&after, to), (segment, shard), losses.leaving, error).await?
            }
            made => made?,
        };
        moved.add(made);
    }
    Ok(moved)
}

/// How the copying of a shard ended.
enum Copied {
    /// It is where it should be.
    Made(Made),
    /// Its region answers, and does not have it intact.
    NotIntact,
    /// Its region does not answer: it may have it.
    Unknown(Error),
}

/// Copies one shard to the region that will have it, or rebuilds it there.
async fn move_shard(
    inner: &Arc<Inner>,
    before: (&Arc<Version>, &Sharded),
    after: (&Arc<Version>, &Sharded),
    (segment, shard): (u64, usize),
    is_lost: bool,
) -> Result<Made> {
    let may_be_there = match copy_shard(inner, before, after, segment, shard).await? {
        Copied::Made(made) => return Ok(made),
        Copied::NotIntact => false,
        Copied::Unknown(_) => !is_lost,
    };
    let made = rebuild(inner, after.0, after.1, segment, shard).await?;
    if !(may_be_there && matches!(made, Made::Lost)) {
        return Ok(made);
    }
    // What nobody else can give is not given up for one request that failed.
    match copy_shard(inner, before, after, segment, shard).await? {
        Copied::Made(made) => Ok(made),
        Copied::NotIntact => Ok(Made::Lost),
        Copied::Unknown(error) => {
            let what = "a shard that cannot be rebuilt may lie in the region that is leaving, which does not answer: do the same again when it \
                        does, or, if it is gone for good, say so (region retire --lost)";
            Err(Error::new(ErrorKind::Unavailable, what).with("path", &after.0.manifest.path).with("segment", segment).caused_by(error))
        }
    }
}

/// Leaves a shard out whose heir is gone for good, and so made moving it fail: whoever takes the heir's place is given it. That takes as many
/// others as the profile has data shards, each read and verified now.
async fn leave_out(
    inner: &Arc<Inner>,
    (before, from): (&Arc<Version>, &Sharded),
    (after, to): (&Arc<Version>, &Sharded),
    (segment, shard): (u64, usize),
    is_lost: bool,
    failure: Error,
) -> Result<Made> {
    let (pace, needed) = (Pace::new(None), usize::from(to.codec.data));
    let (mut have, mut unknown) = (0, 0);
    let others = (0..to.codec.shards()).filter(|other| *other != shard).filter_map(|other| Expected::of(to, segment, other));
    for other in others {
        match read_shard_if_any(inner, after, &other, &pace).await {
            Ok(is_intact) => have += usize::from(is_intact && (other.len > 0 || other.shard < needed)),
            Err(_) => unknown += 1,
        }
        if have >= needed {
            return Ok(Made::Nothing);
        }
    }
    let own = match Expected::of(from, segment, shard) {
        Some(own) => read_shard_if_any(inner, before, &own, &pace).await.unwrap_or(!is_lost),
        None => false,
    };
    if have + unknown + usize::from(own) < needed {
        return Ok(Made::Lost);
    }
    let what = format!(
        "the region that is to be given a shard is gone, and {have} of the {needed} others verify that it takes to make it again later: run \
         lakeseal scrub --repair, and do the same again when the other regions answer"
    );
    Err(Error::new(ErrorKind::Unavailable, what).with("path", &after.manifest.path).with("segment", segment).caused_by(failure))
}

/// Whether a shard is intact; one that is empty is not stored. An error when its region does not answer.
async fn read_shard_if_any(inner: &Arc<Inner>, version: &Arc<Version>, expected: &Expected, pace: &Pace) -> Result<bool> {
    if expected.len == 0 {
        return Ok(true);
    }
    match read_shard(inner, version, expected, pace).await {
        Ok(checked) => Ok(checked.flaw.is_none()),
        Err(error) if fault_of(&error) == Fault::Unreachable => Err(error),
        Err(_) => Ok(false),
    }
}

/// Copies one shard to the region that will have it, unless it is there.
async fn copy_shard(
    inner: &Arc<Inner>,
    (before, from): (&Arc<Version>, &Sharded),
    (after, to): (&Arc<Version>, &Sharded),
    segment: u64,
    shard: usize,
) -> Result<Copied> {
    let (Some(old), Some(new)) = (Expected::of(from, segment, shard), Expected::of(to, segment, shard)) else {
        return Ok(Copied::NotIntact);
    };
    if new.len == 0 {
        return Ok(Copied::Made(Made::Nothing));
    }
    let pace = Pace::new(None);
    match read_shard(inner, after, &new, &pace).await {
        Ok(checked) if checked.flaw.is_none() => return Ok(Copied::Made(Made::Nothing)),
        Err(error) if fault_of(&error) == Fault::Unreachable => return Err(error),
        _ => {}
    }
    let data = match read_shard(inner, before, &old, &pace).await {
        Ok(checked) => checked.data,
        Err(error) if fault_of(&error) == Fault::Unreachable => return Ok(Copied::Unknown(error)),
        Err(_) => None,
    };
    let Some(data) = data else { return Ok(Copied::NotIntact) };
    failpoint!("handover.before-shard");
    write_shard(inner, after, to, (segment, shard), data, &pace).await?;
    failpoint!("handover.after-shard");
    Ok(Copied::Made(Made::Shard(new.len)))
}

async fn rebuild_all(inner: &Arc<Inner>, path: &Path, decided: &Decided, index: u8) -> Result<Rebuilt> {
    let mut rebuilt = Rebuilt::default();
    let version = match inner.open(path, decided.clone()) {
        // No reader can use such a version either; that it was decided is handed over all the same.
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::warn!(path = %path, slot = decided.slot, %error, "a manifest cannot be read");
            rebuilt.lost += 1;
            return Ok(rebuilt);
        }
        version => version?,
    };
    let Content::Shards(sharded) = &version.manifest.content else { return Ok(rebuilt) };
    let Some(shard) = sharded.placement.iter().position(|region| *region == index) else { return Ok(rebuilt) };
    for segment in 0..sharded.geometry().segments(sharded.size) {
        rebuilt.add(rebuild(inner, &version, sharded, segment, shard).await?);
    }
    Ok(rebuilt)
}

enum Made {
    /// It was there.
    Nothing,
    /// It was not, and is now: its bytes.
    Shard(u64),
    /// Too few others are intact.
    Lost,
}

/// Rebuilds one shard unless it is there and intact. What is written is read back and verified.
async fn rebuild(inner: &Arc<Inner>, version: &Arc<Version>, sharded: &Sharded, segment: u64, shard: usize) -> Result<Made> {
    let expected = Expected::of(sharded, segment, shard).filter(|expected| expected.len > 0);
    let Some(expected) = expected else { return Ok(Made::Nothing) };
    let pace = Pace::new(None);
    let (fault, detail) = match read_shard(inner, version, &expected, &pace).await {
        Ok(checked) => match checked.flaw {
            None => return Ok(Made::Nothing),
            Some(flaw) => flaw,
        },
        Err(error) => match fault_of(&error) {
            Fault::Unreachable => return Err(error),
            fault => (fault, error.to_string()),
        },
    };
    let flaw = Flaw { region: expected.region, piece: Piece::Shard { segment, shard }, fault, detail };
    failpoint!("handover.before-shard");
    let mended = repair_segment(inner, version, sharded, segment, BTreeMap::from([(shard, flaw)]), &BTreeSet::new(), &pace).await;
    failpoint!("handover.after-shard");
    let path = &version.manifest.path;
    match mended.into_iter().find(|mended| mended.flaw.region == expected.region).map(|mended| mended.outcome) {
        Some(Outcome::Repaired) => Ok(Made::Shard(expected.len)),
        // Regions answered, and too few intact shards are left: waiting brings none back, and the others are to be handed over.
        Some(Outcome::Lost(reason)) => {
            tracing::warn!(path = %path, segment, shard, reason, "a shard cannot be rebuilt");
            Ok(Made::Lost)
        }
        Some(Outcome::NotRepaired(reason)) => {
            let what = "a shard could not be rebuilt yet: it takes as many regions that answer as there are data shards, and those that do not \
                        are waited for; bring them back";
            Err(Error::new(ErrorKind::Unavailable, what).with("path", path).with("reason", reason))
        }
        Some(Outcome::Found) | None => Err(Error::new(ErrorKind::Internal, "a shard was to be rebuilt and was not").with("path", path)),
    }
}
