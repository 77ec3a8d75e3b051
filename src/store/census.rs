//! The physical census of one version: what each region that should hold a piece of it really holds.
//!
//! *Unreachable* is not *absent*: a piece is absent only on its region's clear word. Lists tell what is there and how long it is; only reading
//! tells whether it is right, which [`Depth`] says for how many pieces.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::sync::Arc;

use futures::future::join_all;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::Inner;
use super::census_shards::census_shards;
use super::pace::Pace;
use super::resolve::Version;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::ObjectKind;
use crate::format::manifest::Content;
use crate::id::WriteId;
use crate::register::{Decided, WalkedSlot, is_collected, is_unreadable};

const SAMPLE_TAG: &str = "lakeseal 2026 scrub sample v1";

/// Why a region's vote is as good as none.
pub(super) const CAME_LATER: &str = "the region came later than an entry of this version, and was not told what is decided";

/// What is wrong with a piece of a version in a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The region could not be asked; nothing is known of the piece.
    Unreachable,
    /// The region says that it is not there.
    Absent,
    /// Its bytes are not those that were written, or too few or too many.
    Corrupt,
    /// Its bytes are whole and authentic, and belong to something else: another segment, shard or write.
    Foreign,
    /// A register entry cannot be read or is not authentic: the region is down for this version, and nothing may be written behind it.
    Unreadable,
}

/// A piece of a version that a region holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Piece {
    /// The log of its register slot, with a copy of the manifest and of inlined bytes.
    Entry,
    /// The decided marker, without which listing takes longer.
    Marker,
    /// A shard.
    Shard {
        /// Number of the segment.
        segment: u64,
        /// Number of the shard in the segment.
        shard: usize,
    },
}

/// Something that is wrong in one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) region: u8,
    pub(super) piece: Piece,
    pub(super) fault: Fault,
    pub(super) detail: String,
}

/// Counts of what one region should hold and holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionTally {
    /// Versions that should have a register entry here.
    pub entries_expected: u64,
    /// Of these, entries that are here, and authentic where they were read.
    pub entries_intact: u64,
    /// Entries that are not here.
    pub entries_absent: u64,
    /// Entries that cannot be read or are not authentic.
    pub entries_unreadable: u64,
    /// Entries that could not be asked for.
    pub entries_unreachable: u64,
    /// Decided markers that are not here.
    pub markers_absent: u64,
    /// Entries and markers that are not here, of versions so young that they may be on their way.
    #[serde(default)]
    pub young_absent: u64,
    /// Shards that should be here.
    pub shards_expected: u64,
    /// Of these, shards that are here with the right size, and are right where they were read.
    pub shards_intact: u64,
    /// Shards that are not here.
    pub shards_absent: u64,
    /// Shards that are damaged, or of the wrong size.
    pub shards_corrupt: u64,
    /// Shards that are something else's.
    pub shards_foreign: u64,
    /// Shards that could not be asked for.
    pub shards_unreachable: u64,
    /// Shards that were read and hashed.
    pub shards_verified: u64,
    /// Shards that were written again and read back.
    pub shards_repaired: u64,
    /// Entries that were taught.
    pub entries_repaired: u64,
    /// Markers that were written again.
    pub markers_repaired: u64,
    /// Bytes that the expected shards take, with block lists and trailers.
    pub shard_bytes_expected: u64,
}

impl AddAssign for RegionTally {
    fn add_assign(&mut self, other: Self) {
        self.entries_expected += other.entries_expected;
        self.entries_intact += other.entries_intact;
        self.entries_absent += other.entries_absent;
        self.entries_unreadable += other.entries_unreadable;
        self.entries_unreachable += other.entries_unreachable;
        self.markers_absent += other.markers_absent;
        self.young_absent += other.young_absent;
        self.shards_expected += other.shards_expected;
        self.shards_intact += other.shards_intact;
        self.shards_absent += other.shards_absent;
        self.shards_corrupt += other.shards_corrupt;
        self.shards_foreign += other.shards_foreign;
        self.shards_unreachable += other.shards_unreachable;
        self.shards_verified += other.shards_verified;
        self.shards_repaired += other.shards_repaired;
        self.entries_repaired += other.entries_repaired;
        self.markers_repaired += other.markers_repaired;
        self.shard_bytes_expected += other.shard_bytes_expected;
    }
}

/// How much of what is listed is read as well.
#[derive(Debug, Clone, Default)]
pub(super) struct Depth {
    /// The fraction of shards and logs that is read and verified: 0 none, 1 all.
    pub(super) sample: f64,
    /// Chooses which, so that the same are chosen again.
    pub(super) seed: u64,
    /// Shards that are read in any case.
    pub(super) also: BTreeSet<(u64, usize)>,
    /// Versions younger than this may still be on their way to some regions: entries and markers that lack are counted as young alone.
    pub(super) settle_ms: i64,
}

impl Depth {
    /// Whether the piece with these numbers is read.
    pub(super) fn reads(&self, write_id: &WriteId, segment: u64, shard: usize) -> bool {
        if self.sample >= 1.0 || self.also.contains(&(segment, shard)) {
            return true;
        }
        self.sample > 0.0 && {
            let text = format!("{}.{write_id}.{segment}.{shard}", self.seed);
            let [a, b, c, d, ..] = Digest::tagged(SAMPLE_TAG, text.as_bytes()).0;
            f64::from(u32::from_le_bytes([a, b, c, d])) < self.sample * f64::from(u32::MAX)
        }
    }

    fn reads_log(&self, write_id: &WriteId) -> bool {
        self.reads(write_id, u64::MAX, usize::MAX)
    }
}

/// What a slot turned out to be.
#[derive(Debug)]
pub(super) enum Found {
    /// A version that is kept.
    Retained(Box<Census>),
    /// Nothing is decided there: a writer is at work, or stopped.
    Open,
    /// It was collected.
    Collected,
}

/// The census of a version that is kept.
#[derive(Debug)]
pub(super) struct Census {
    pub(super) version: Arc<Version>,
    pub(super) flaws: Vec<Flaw>,
    pub(super) tallies: BTreeMap<u8, RegionTally>,
    /// What may be lost beyond what is lost already: shards beyond k in the worst segment, entries beyond the classic quorum. Below 0:
    /// it cannot be read from the regions that answer.
    pub(super) margin: i64,
    /// Segments with a column of blocks of which fewer than k are right or unreachable: bytes are lost.
    pub(super) lost_segments: u64,
}

impl Census {
    pub(super) fn note(&mut self, region: u8, piece: Piece, fault: Fault, detail: impl Into<String>) {
        self.flaws.push(Flaw { region, piece, fault, detail: detail.into() });
    }

    pub(super) fn tally(&mut self, region: u8) -> &mut RegionTally {
        self.tallies.entry(region).or_default()
    }

    /// Flaws that are known, not merely unknown.
    pub(super) fn damage(&self) -> impl Iterator<Item = &Flaw> {
        self.flaws.iter().filter(|flaw| flaw.fault != Fault::Unreachable)
    }
}

/// How a read that failed is counted.
pub(super) fn fault_of(error: &Error) -> Fault {
    match error.kind() {
        ErrorKind::NotFound => Fault::Absent,
        ErrorKind::Corrupt => Fault::Corrupt,
        _ => Fault::Unreachable,
    }
}

impl Inner {
    /// Takes the census of one slot that a walk showed; `unreachable` are the regions whose lists failed.
    ///
    /// Cost: one GET for the manifest, one LIST for each region that holds shards, and what `depth` reads.
    ///
    /// # Errors
    /// When it cannot be learned what was decided.
    pub(super) async fn census(
        self: &Arc<Self>,
        path: &Path,
        slot: &WalkedSlot,
        unreachable: &[u8],
        depth: &Depth,
        pace: &Pace,
    ) -> Result<Found> {
        let version = match self.walked_version(path, slot).await? {
            Found::Retained(census) => *census,
            other => return Ok(other),
        };
        let mut census = version;
        self.census_register(path, slot, unreachable, depth, &mut census).await;
        census_shards(self, depth, pace, &mut census).await?;
        if census.damage().next().is_some() {
            // What lacks may have been collected meanwhile: stubs come first, so that whatever is still decided was not touched.
            match self.find_decided(path, slot).await {
                Ok(Found::Collected) => return Ok(Found::Collected),
                // What was found is decided, whether or not those who answer this time still show it: that they do not is the damage.
                Ok(Found::Retained(_) | Found::Open) => {}
                Err(error) => tracing::debug!(%path, slot = slot.slot, %error, "a finding could not be checked again"),
            }
        }
        Ok(Found::Retained(Box::new(census)))
    }

    /// The version in a slot, by one GET where a marker names its digest.
    pub(super) async fn walked_version(&self, path: &Path, slot: &WalkedSlot) -> Result<Found> {
        if let Some(region) = slot.regions.iter().find(|region| region.lists_stub(path)) {
            // A list is a hint: the stub itself says that the version was collected.
            let inspected = self.registers.inspect(path, slot.slot, &Digest([0; Digest::LEN]), region.region, 1).await;
            if inspected.is_ok_and(|inspected| inspected.collected) {
                return Ok(Found::Collected);
            }
        }
        if let Some(marker) = slot.marker {
            for region in slot.regions.iter().filter(|region| region.entries > 0) {
                if let Ok(Some(decided)) = self.registers.first_entry(path, slot.slot, &marker.value, region.region).await {
                    return self.begin(path, decided);
                }
            }
        }
        self.find_decided(path, slot).await
    }

    /// The version in a slot, by a quorum.
    async fn find_decided(&self, path: &Path, slot: &WalkedSlot) -> Result<Found> {
        match self.registers.at(path, slot.slot).await {
            Ok(Some(decided)) => self.begin(path, decided),
            Ok(None) => Ok(Found::Open),
            Err(error) if is_collected(&error) => Ok(Found::Collected),
            Err(error) => Err(error),
        }
    }

    fn begin(&self, path: &Path, decided: Decided) -> Result<Found> {
        let version = self.read_manifest(path, decided)?;
        let census = Census { version, flaws: Vec::new(), tallies: BTreeMap::new(), margin: i64::MAX, lost_segments: 0 };
        Ok(Found::Retained(Box::new(census)))
    }

    /// Entries and markers, region by region.
    async fn census_register(&self, path: &Path, slot: &WalkedSlot, unreachable: &[u8], depth: &Depth, census: &mut Census) {
        let (digest, write_id) = (census.version.decided.digest, census.version.manifest.write_id);
        let age = self.clock.now_ms().saturating_sub(census.version.manifest.modified_ms);
        let settled = age >= depth.settle_ms;
        let read = depth.reads_log(&write_id);
        let looks = self.regions.regions().iter().map(|region| async move {
            let index = region.index();
            if let Some(reason) = region.down_reason() {
                return (index, Err((Fault::Unreachable, reason.to_owned())), false, None);
            }
            if unreachable.contains(&index) {
                return (index, Err((Fault::Unreachable, "the region's list failed".to_owned())), false, None);
            }
            let listed = slot.in_region(index).copied();
            let marked = listed.is_some_and(|listed| listed.marked);
            let entries = listed.map_or(0, |listed| listed.entries);
            let mut seen = None;
            let held = match (entries, read) {
                (0, _) => Err((Fault::Absent, "the region lists no entry".to_owned())),
                (_, false) => Ok(()),
                (_, true) => match self.registers.inspect(path, slot.slot, &digest, index, entries).await {
                    Ok(inspected) => {
                        let held = inspected.value.is_some();
                        seen = Some(inspected);
                        if held { Ok(()) } else { Err((Fault::Absent, "the region's log does not hold the decided value".to_owned())) }
                    }
                    Err(error) if is_unreadable(&error) => Err((Fault::Unreadable, error.to_string())),
                    Err(error) => Err((Fault::Unreachable, error.to_string())),
                },
            };
            (index, held, marked, seen)
        });
        let mut copies = 0_i64;
        let looked = join_all(looks).await;
        let logs: Vec<_> = looked.iter().filter_map(|(.., seen)| seen.as_ref()).map(|seen| &seen.log).collect();
        for (index, held, marked, seen) in &looked {
            let (index, marked) = (*index, *marked);
            let held = match (held, seen) {
                (Ok(()), Some(seen)) if !seen.counts(&logs) => Err((Fault::Absent, CAME_LATER.to_owned())),
                (held, _) => held.clone(),
            };
            let tally = census.tally(index);
            tally.entries_expected += 1;
            let reachable = !matches!(held, Err((Fault::Unreachable, _)));
            match &held {
                Ok(()) => tally.entries_intact += 1,
                Err((Fault::Unreachable, _)) => tally.entries_unreachable += 1,
                Err((Fault::Absent, _)) if !settled => tally.young_absent += 1,
                Err((Fault::Absent, _)) => tally.entries_absent += 1,
                Err(_) => tally.entries_unreadable += 1,
            }
            // What may be on its way is damage neither here nor in the margin.
            copies += i64::from(held.is_ok() || (!settled && matches!(held, Err((Fault::Absent, _)))));
            let has_room = self.regions.region(index).is_some_and(|region| self.registers.has_room_for_marker(path, region));
            let marker_lacks = reachable && !marked && has_room;
            let marker_absent = marker_lacks && settled;
            tally.markers_absent += u64::from(marker_absent);
            tally.young_absent += u64::from(marker_lacks && !settled);
            if let Err((fault, detail)) = held
                && (settled || fault != Fault::Absent)
            {
                census.note(index, Piece::Entry, fault, detail);
            }
            if marker_absent {
                census.note(index, Piece::Marker, Fault::Absent, "the region lists no authentic marker");
            }
        }
        let quorum = i64::from(self.regions.quorums().classic());
        census.margin = census.margin.min(copies - quorum);
        if let (ObjectKind::Object, Content::Inline(_)) = (census.version.manifest.kind(), &census.version.manifest.content) {
            census.margin = census.margin.min(copies - 1);
        }
    }
}
