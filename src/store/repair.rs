//! Repair of one version: what is bad or missing is made again from what is verified, and counts as repaired once it was read back.
//!
//! Every step may be repeated, and stopped anywhere: a shard's bytes and name follow from the manifest, so writing it again writes the
//! same; teaching and marking say only what is decided. A region that cannot be asked is not written to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::Inner;
use super::census::{Census, Depth, Fault, Flaw, Found, Piece};
use super::hints::{RepairHint, RepairReason};
use super::pace::Pace;
use super::repair_shards::repair_segment;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::Content;
use crate::register::{Taught, WalkedRegister, WalkedSlot};

/// What became of something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome", content = "why")]
pub enum Outcome {
    /// It was not touched: nobody asked for repair.
    Found,
    /// It was made again, and read back from its region.
    Repaired,
    /// It could not be repaired now; the reason.
    NotRepaired(String),
    /// Fewer blocks of a column are left than are needed: bytes are lost; the reason.
    Lost(String),
}

/// A flaw with what became of it.
#[derive(Debug)]
pub(super) struct Mended {
    pub(super) flaw: Flaw,
    pub(super) outcome: Outcome,
    /// It was made, and its region did not take it: another time it may.
    pub(super) later: bool,
}

/// The repair of one version.
#[derive(Debug)]
pub(super) struct VersionRepair {
    pub(super) census: Census,
    pub(super) mended: Vec<Mended>,
    /// The margin by a census taken afterwards.
    pub(super) margin_after: i64,
}

/// What [`super::ErasureStore::repair_hinted`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RepairReport {
    /// Hints that were looked at.
    pub hints: u64,
    /// Pieces that were made again and read back.
    pub repaired: u64,
    /// Hints of which nothing was wrong any more, or whose version is not kept any more.
    pub healthy: u64,
    /// Pieces that could not be repaired; the hints were not kept.
    pub failed: u64,
    /// Hints about regions that could not be asked, or did not take what was made again; they were kept for later.
    pub deferred: u64,
    /// The first reasons of failures.
    pub errors: Vec<String>,
}

/// Reasons that a report holds.
const ERRORS_LIMIT: usize = 16;

impl Inner {
    /// Takes the census of one version again and repairs what it finds. `None` when the version is not kept any more.
    ///
    /// What is in regions that are not heard now is not repaired: [`VersionRepair::census`] says which those are.
    ///
    /// Cost: one LIST a region, the census, and for each bad segment k shards read, the bad ones written and read back.
    ///
    /// # Errors
    /// When it cannot be learned what was decided, or no region that answers lists the version.
    pub(super) async fn repair_version(
        self: &Arc<Self>,
        path: &Path,
        slot: u64,
        depth: &Depth,
        pace: &Pace,
    ) -> Result<Option<VersionRepair>> {
        // As patient as the walk that found the damage: what a region holds that is left out now is not mended.
        let (walked, unreachable) = walked_slot(self.registers.walk_one_patiently(path).await?, path, slot)?;
        let Found::Retained(census) = self.census(path, &walked, &unreachable, depth, pace).await? else { return Ok(None) };
        let mut census = *census;
        let mut mended = Vec::new();
        // Shards first: whoever sweeps takes a region that was told for one that has the rest.
        self.mend_shards(&mut census, &mut mended, pace).await?;
        self.mend_register(path, &mut census, &mut mended).await;
        let margin_after = self.margin_after(path, slot, &mended, depth, pace).await.unwrap_or(census.margin);
        Ok(Some(VersionRepair { census, mended, margin_after }))
    }

    /// The census afterwards: by lists, and by reading what was written.
    async fn margin_after(self: &Arc<Self>, path: &Path, slot: u64, mended: &[Mended], depth: &Depth, pace: &Pace) -> Result<i64> {
        let (walked, unreachable) = walked_slot(self.registers.walk_one(path).await?, path, slot)?;
        let also = mended.iter().filter_map(|mended| match (&mended.outcome, mended.flaw.piece) {
            // What was repaired was read back already; what was not has to be found again.
            (Outcome::NotRepaired(_) | Outcome::Lost(_), Piece::Shard { segment, shard }) => Some((segment, shard)),
            _ => None,
        });
        let depth = Depth { sample: 0.0, also: also.collect(), ..depth.clone() };
        match self.census(path, &walked, &unreachable, &depth, pace).await? {
            Found::Retained(census) => Ok(census.margin),
            Found::Open | Found::Collected => Ok(0),
        }
    }

    async fn mend_register(&self, path: &Path, census: &mut Census, mended: &mut Vec<Mended>) {
        let version = Arc::clone(&census.version);
        let (decided, slot) = (&version.decided, version.decided.slot);
        let flaws: Vec<Flaw> = census.damage().filter(|flaw| !matches!(flaw.piece, Piece::Shard { .. })).cloned().collect();
        for flaw in flaws {
            let outcome = match (flaw.piece, flaw.fault) {
                (_, Fault::Unreadable) => Outcome::NotRepaired(
                    "nothing may be written behind an entry that cannot be read; replace the region to have it whole".to_owned(),
                ),
                (Piece::Entry, _) if lacks_shards(census, mended, flaw.region) => {
                    Outcome::NotRepaired("the region is told what is decided when it has its shards again".to_owned())
                }
                (Piece::Entry, _) => match self.registers.teach(path, decided, flaw.region).await {
                    Ok(Taught::Written | Taught::Already) => self.read_entry_back(path, census, &flaw).await,
                    Ok(Taught::CannotRead(why)) => Outcome::NotRepaired(why),
                    Err(error) => Outcome::NotRepaired(error.to_string()),
                },
                (Piece::Marker, _) => {
                    let marker = version.manifest.marker(decided.digest);
                    match self.registers.mark_region(path, slot, &marker, flaw.region).await {
                        Ok(_) => {
                            census.tally(flaw.region).markers_repaired += 1;
                            Outcome::Repaired
                        }
                        Err(error) => Outcome::NotRepaired(error.to_string()),
                    }
                }
                (Piece::Shard { .. }, _) => continue,
            };
            mended.push(Mended { flaw, outcome, later: false });
        }
    }

    async fn read_entry_back(&self, path: &Path, census: &mut Census, flaw: &Flaw) -> Outcome {
        let decided = &census.version.decided;
        match self.registers.inspect(path, decided.slot, &decided.digest, flaw.region, 1).await {
            Ok(inspected) if inspected.value.is_some() && inspected.log.is_closed() => {
                census.tally(flaw.region).entries_repaired += 1;
                Outcome::Repaired
            }
            Ok(_) => Outcome::NotRepaired("the region was told, and does not show it".to_owned()),
            Err(error) => Outcome::NotRepaired(error.to_string()),
        }
    }

    async fn mend_shards(self: &Arc<Self>, census: &mut Census, mended: &mut Vec<Mended>, pace: &Pace) -> Result<()> {
        let version = Arc::clone(&census.version);
        let Content::Shards(sharded) = &version.manifest.content else { return Ok(()) };
        // Per segment, the flaw of each bad shard; a region that cannot be asked may hold the shard well.
        let mut segments: BTreeMap<u64, (BTreeMap<usize, Flaw>, BTreeSet<usize>)> = BTreeMap::new();
        for flaw in &census.flaws {
            if let Piece::Shard { segment, shard } = flaw.piece {
                let (bad, unreachable) = segments.entry(segment).or_default();
                if flaw.fault == Fault::Unreachable {
                    unreachable.insert(shard);
                } else {
                    bad.insert(shard, flaw.clone());
                }
            }
        }
        segments.retain(|_, (bad, _)| !bad.is_empty());
        for (segment, (bad, unreachable)) in segments {
            let repaired = repair_segment(self, &version, sharded, segment, bad, &unreachable, pace).await;
            for one in &repaired {
                if one.outcome == Outcome::Repaired {
                    census.tally(one.flaw.region).shards_repaired += 1;
                }
            }
            mended.extend(repaired);
        }
        Ok(())
    }

    /// Repairs the versions of up to `limit` hints. See [`super::ErasureStore::repair_hinted`].
    pub(super) async fn repair_hinted(self: &Arc<Self>, limit: usize) -> Result<RepairReport> {
        if self.writer.is_none() {
            return Err(Error::new(ErrorKind::Permission, "repair needs a writer's private key of this lake"));
        }
        let mut report = RepairReport::default();
        let mut versions: BTreeMap<(String, crate::id::WriteId), Vec<RepairHint>> = BTreeMap::new();
        for hint in self.hints.take_some(limit) {
            report.hints += 1;
            match hint.why {
                RepairReason::Unreachable => {
                    report.deferred += 1;
                    self.hints.keep(hint);
                }
                // The region answers, only late: that is nothing to repair.
                RepairReason::Slow => report.healthy += 1,
                RepairReason::Absent | RepairReason::Damaged | RepairReason::Unwritten => {
                    versions.entry((hint.path.clone(), hint.write_id)).or_default().push(hint);
                }
            }
        }
        let pace = Pace::new(None);
        for ((path, write_id), hints) in versions {
            let done = self.repair_hints_of(&path, write_id, &hints, &pace, &mut report).await;
            if let Err(error) = done {
                report.failed += hints.len() as u64;
                note_error(&mut report, &error.to_string());
            }
        }
        Ok(report)
    }

    async fn repair_hints_of(
        self: &Arc<Self>,
        path: &str,
        write_id: crate::id::WriteId,
        hints: &[RepairHint],
        pace: &Pace,
        report: &mut RepairReport,
    ) -> Result<()> {
        let path = Path::parse(path).map_err(|e| Error::new(ErrorKind::InvalidInput, "not a path").with("path", path).caused_by(e))?;
        let Some(register) = self.registers.walk_one(&path).await? else {
            report.healthy += hints.len() as u64;
            return Ok(());
        };
        let depth = Depth { also: hints.iter().map(|hint| (hint.segment, hint.shard)).collect(), settle_ms: 0, ..Depth::default() };
        let mut found = false;
        // By their markers first: asking what a slot without one is decided for may hold up whoever writes there just now.
        let (marked, others): (Vec<_>, Vec<_>) = register.slots.iter().partition(|slot| slot.marker.is_some());
        for slot in marked.into_iter().chain(others) {
            let named = match slot.marker {
                Some(marker) => marker.write_id == write_id,
                None => match self.census(&path, slot, &register.unreachable, &Depth::default(), pace).await? {
                    Found::Retained(census) => census.version.manifest.write_id == write_id,
                    Found::Open | Found::Collected => false,
                },
            };
            if !named {
                continue;
            }
            found = true;
            let Some(repair) = self.repair_version(&path, slot.slot, &depth, pace).await? else { continue };
            self.settle_hints(hints, &repair, report);
            break;
        }
        if !found {
            report.healthy += hints.len() as u64;
        }
        Ok(())
    }

    /// Says what became of the hints about a version that was repaired, and keeps those for which it was too early.
    fn settle_hints(&self, hints: &[RepairHint], repair: &VersionRepair, report: &mut RepairReport) {
        let piece = |hint: &RepairHint| Piece::Shard { segment: hint.segment, shard: hint.shard };
        let is_kept = |flaw: &Flaw| hints.iter().any(|hint| piece(hint) == flaw.piece);
        for mended in &repair.mended {
            match &mended.outcome {
                Outcome::Repaired => report.repaired += 1,
                Outcome::Found => {}
                Outcome::NotRepaired(_) if mended.later && is_kept(&mended.flaw) => {}
                Outcome::NotRepaired(why) | Outcome::Lost(why) => {
                    report.failed += 1;
                    note_error(report, why);
                }
            }
        }
        for hint in hints {
            let piece = piece(hint);
            let is_hidden = |flaw: &Flaw| flaw.piece == piece && flaw.fault == Fault::Unreachable;
            let is_later = |mended: &Mended| mended.flaw.piece == piece && mended.later;
            if repair.census.flaws.iter().any(is_hidden) || repair.mended.iter().any(is_later) {
                // Its region could not be asked: whether anything is wrong is seen when it is back.
                report.deferred += 1;
                self.hints.keep(hint.clone());
            } else if !repair.mended.iter().any(|mended| mended.flaw.piece == piece) {
                report.healthy += 1;
            }
        }
    }
}

/// One slot, as the regions list it, and the regions that do not list.
///
/// What was decided is listed for ever, by a stub at least: a slot that nobody lists is one whose regions are not heard.
fn walked_slot(register: Option<WalkedRegister>, path: &Path, slot: u64) -> Result<(WalkedSlot, Vec<u8>)> {
    let found = register.and_then(|register| {
        let unreachable = register.unreachable;
        register.slots.into_iter().find(|walked| walked.slot == slot).map(|walked| (walked, unreachable))
    });
    found.ok_or_else(|| {
        let what = "no region that answers lists this version any more: repair it when the others answer, too";
        Error::new(ErrorKind::Unavailable, what).with("path", path).with("slot", slot)
    })
}

/// Whether a region lacks a shard that can still be made, or may: what is lost for good nobody waits for.
fn lacks_shards(census: &Census, mended: &[Mended], region: u8) -> bool {
    let is_here = |flaw: &Flaw| flaw.region == region && matches!(flaw.piece, Piece::Shard { .. });
    let is_left = |mended: &Mended| is_here(&mended.flaw) && matches!(mended.outcome, Outcome::NotRepaired(_) | Outcome::Found);
    mended.iter().any(is_left) || census.flaws.iter().any(|flaw| is_here(flaw) && flaw.fault == Fault::Unreachable)
}

fn note_error(report: &mut RepairReport, why: &str) {
    if report.errors.len() < ERRORS_LIMIT {
        report.errors.push(why.to_owned());
    }
}
