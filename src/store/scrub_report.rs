//! What a scrub reports: plain data, to be printed or stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::census::{Fault, Piece, RegionTally};
use super::repair::Outcome;

/// Something wrong, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defect {
    /// The object's path.
    pub path: String,
    /// The version slot.
    pub slot: u64,
    /// The version, as clients ask for it; empty when its manifest could not be had.
    pub version: String,
    /// The region; empty when it is about the version as a whole.
    pub region: String,
    /// Which piece of the version; absent when it is about the version as a whole.
    pub piece: Option<Piece>,
    /// What is wrong.
    pub fault: Fault,
    /// More about it.
    pub detail: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// One region's part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionReport {
    /// The region's name.
    pub region: String,
    /// Why it is not used at all, if so: wiped, replaced, not reachable when the lake was opened.
    pub down: Option<String>,
    /// Why something could not be asked of it; the first reason.
    pub unreachable: Option<String>,
    /// Its counts.
    #[serde(flatten)]
    pub tally: RegionTally,
}

/// The outcome of a scrub.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubReport {
    /// Names that were walked.
    pub names: u64,
    /// Versions that are kept and were looked at, tombstones included.
    pub versions: u64,
    /// Of these, tombstones.
    pub tombstones: u64,
    /// Decided slots of the lake's own registers that were looked at: configurations, and what uploads were bound to. What is wrong with them
    /// counts with the versions.
    pub own_slots: u64,
    /// Slots in which nothing is decided: a writer is at work, or stopped.
    pub open_slots: u64,
    /// Versions that were collected.
    pub collected: u64,
    /// Versions of which it could not be learned what they are.
    pub unknown_versions: u64,
    /// Versions with something wrong that is known (not merely unreachable).
    pub damaged_versions: u64,
    /// Versions of which everything wrong was repaired.
    pub repaired_versions: u64,
    /// Versions of which something was not repaired and may be later.
    pub unrepaired_versions: u64,
    /// Versions that have lost bytes: in some column of blocks fewer are left than are needed.
    pub lost_versions: u64,
    /// Damaged versions that were left for another scrub.
    pub left_versions: u64,
    /// Each region's part.
    pub regions: Vec<RegionReport>,
    /// Versions by the margin that was found: pieces that may still be lost in the worst segment or register before a read fails.
    pub margins: BTreeMap<i64, u64>,
    /// The same after repair.
    pub margins_after: BTreeMap<i64, u64>,
    /// What was found, up to the limit; the worst margins first when repaired.
    pub findings: Vec<Defect>,
    /// How many there were in all.
    pub findings_total: u64,
    /// Walks that were made: one, unless more was damaged than is repaired at one time.
    pub rounds: u32,
    /// Bytes of shards that were read.
    pub bytes_read: u64,
    /// Where to go on, when the scrub ended before the last name.
    pub resume_after: Option<String>,
    /// Why the walk ended before the last name, when that was not asked for.
    pub interrupted: Option<String>,
}

impl ScrubReport {
    /// Whether nothing is known to be wrong any more, and nothing was left out.
    pub fn is_clean(&self) -> bool {
        let wrong = self.unknown_versions + self.unrepaired_versions + self.lost_versions + self.left_versions;
        wrong == 0 && self.damaged_versions == self.repaired_versions && self.interrupted.is_none()
    }

    /// Entries and markers that are not in their regions, of versions so young that they may be on their way: no damage so far.
    pub fn young_pieces(&self) -> u64 {
        self.regions.iter().map(|region| region.tally.young_absent).sum()
    }

    /// Damaged versions of which it was not said what became of them.
    pub(super) fn unsettled_versions(&self) -> u64 {
        self.damaged_versions.saturating_sub(self.repaired_versions + self.unrepaired_versions + self.lost_versions)
    }

    /// Adds the report of the names that come behind this one's; keeps `findings_limit` findings.
    pub fn absorb(&mut self, later: Self, findings_limit: usize) {
        self.names += later.names;
        self.versions += later.versions;
        self.tombstones += later.tombstones;
        self.own_slots += later.own_slots;
        self.open_slots += later.open_slots;
        self.collected += later.collected;
        self.unknown_versions += later.unknown_versions;
        self.damaged_versions += later.damaged_versions;
        self.repaired_versions += later.repaired_versions;
        self.unrepaired_versions += later.unrepaired_versions;
        self.lost_versions += later.lost_versions;
        self.left_versions += later.left_versions;
        for region in later.regions {
            match self.regions.iter_mut().find(|own| own.region == region.region) {
                Some(own) => {
                    own.tally += region.tally;
                    own.down = own.down.take().or(region.down);
                    own.unreachable = own.unreachable.take().or(region.unreachable);
                }
                None => self.regions.push(region),
            }
        }
        for (all, part) in [(&mut self.margins, later.margins), (&mut self.margins_after, later.margins_after)] {
            part.into_iter().for_each(|(margin, versions)| *all.entry(margin).or_default() += versions);
        }
        let room = findings_limit.saturating_sub(self.findings.len());
        self.findings.extend(later.findings.into_iter().take(room));
        self.findings_total += later.findings_total;
        self.rounds = self.rounds.max(later.rounds);
        self.bytes_read += later.bytes_read;
        self.resume_after = later.resume_after;
        self.interrupted = later.interrupted;
    }

    /// The worst margin that is left.
    pub fn worst_margin(&self) -> Option<i64> {
        let margins = if self.margins_after.is_empty() { &self.margins } else { &self.margins_after };
        margins.keys().next().copied()
    }
}
