//! Walking registers: every slot of every name, and what each region lists of it. For censuses, collection and membership.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use object_store::path::Path;

use super::Slot;
use super::core::Rules;
use super::lanes::{Gather, KeyMeta, Lag, Lanes};
use super::list::MARKER_LIMIT;
use super::read::authentic_marker;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Marker, stub_len};
use crate::region::RegionSet;
use crate::region::layout::{RegisterItem, RegisterName};

/// Most slots that one register may have; a walk holds the slots of one register a region in memory.
const SLOT_LIMIT: usize = 1 << 20;

/// A register, as the lists of the regions show it. Lists are hints: what is decided is learned from entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkedRegister {
    /// The logical path.
    pub path: Path,
    /// All slots with an entry or marker anywhere, newest first.
    pub slots: Vec<WalkedSlot>,
    /// Regions whose lists failed before they came to this register: what they hold is not known.
    pub unreachable: Vec<u8>,
}

/// A slot of a register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkedSlot {
    /// The slot.
    pub slot: Slot,
    /// An authentic marker of it, if any region lists one.
    pub marker: Option<Marker>,
    /// The regions that list something of it, by index.
    pub regions: Vec<SlotInRegion>,
}

/// What one region lists of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotInRegion {
    /// The region's index.
    pub region: u8,
    /// One more than the highest sequence number that is listed; 0 when no entry is.
    pub entries: u32,
    /// How many entries are listed; fewer than `entries` when one is missing in between.
    pub listed: u32,
    /// Length of entry 0, if it is listed.
    pub first_bytes: Option<u64>,
    /// Whether an authentic marker is listed.
    pub marked: bool,
    /// The latest modification time of the entries by the region's own clock, in milliseconds since 1970-01-01T00:00:00Z.
    pub entries_modified_ms: Option<i64>,
}

impl SlotInRegion {
    /// Whether entry 0 is as long as the stub that a collector leaves at `path`. A hint, as all lists are.
    pub fn lists_stub(&self, path: &Path) -> bool {
        self.first_bytes == Some(stub_len(path.as_ref().len()) as u64)
    }
}

impl WalkedSlot {
    /// What the region at `index` lists of the slot, if anything.
    pub fn in_region(&self, index: u8) -> Option<&SlotInRegion> {
        self.regions.iter().find(|region| region.region == index)
    }

    /// When an entry was last written, by the regions' own clocks, in milliseconds since 1970-01-01T00:00:00Z.
    pub fn modified_ms(&self) -> Option<i64> {
        self.regions.iter().filter_map(|region| region.entries_modified_ms).max()
    }
}

/// All slots of a register in one region's list, newest first.
#[derive(Default)]
struct AllSlots(Vec<Seen>);

struct Seen {
    slot: Slot,
    entries: u32,
    listed: u32,
    first_bytes: Option<u64>,
    modified_ms: Option<i64>,
    markers: Vec<String>,
}

impl Gather for AllSlots {
    fn begin(_: Slot) -> Self {
        Self::default()
    }

    fn take(&mut self, key: RegisterName, meta: KeyMeta) -> Result<()> {
        if self.0.last().is_none_or(|seen| seen.slot != key.slot) {
            if self.0.len() >= SLOT_LIMIT {
                return Err(Error::new(ErrorKind::Corrupt, "a region lists more versions of one name than a name may have")
                    .with("limit", SLOT_LIMIT));
            }
            self.0.push(Seen { slot: key.slot, entries: 0, listed: 0, first_bytes: None, modified_ms: None, markers: Vec::new() });
        }
        let Some(seen) = self.0.last_mut() else { return Ok(()) };
        match key.item {
            RegisterItem::Entry(seq) => {
                seen.entries = seen.entries.max(seq.saturating_add(1));
                seen.listed = seen.listed.saturating_add(1);
                seen.modified_ms = seen.modified_ms.max(Some(meta.modified_ms));
                if seq == 0 {
                    seen.first_bytes = Some(meta.bytes);
                }
            }
            RegisterItem::Marker(text) if seen.markers.len() < MARKER_LIMIT => seen.markers.push(text),
            RegisterItem::Marker(_) => {}
        }
        Ok(())
    }
}

pub(super) fn walk(
    regions: Arc<RegionSet>,
    rules: Rules,
    prefix: Option<&Path>,
    after: Option<&Path>,
) -> BoxStream<'static, Result<WalkedRegister>> {
    stream::try_unfold(Lanes::<AllSlots>::new(regions, rules, prefix, after, Lag::LONG), |mut lanes| async move {
        Ok(next(&mut lanes).await?.map(|register| (register, lanes)))
    })
    .boxed()
}

pub(super) async fn walk_one(regions: Arc<RegionSet>, rules: Rules, path: &Path) -> Result<Option<WalkedRegister>> {
    next(&mut Lanes::one(regions, rules, path)?).await
}

async fn next(lanes: &mut Lanes<AllSlots>) -> Result<Option<WalkedRegister>> {
    let Some((path, groups)) = lanes.next().await? else { return Ok(None) };
    let slots = merge(lanes.regions(), &path, &groups);
    Ok(Some(WalkedRegister { path, slots, unreachable: lanes.failed().collect() }))
}

/// Merges the regions' slots, which all descend.
fn merge(regions: &RegionSet, path: &Path, groups: &[(u8, AllSlots)]) -> Vec<WalkedSlot> {
    let mut rest: Vec<(u8, &[Seen])> = groups.iter().map(|(region, group)| (*region, group.0.as_slice())).collect();
    let mut slots = Vec::new();
    while let Some(slot) = rest.iter().filter_map(|(_, seen)| seen.first()).map(|seen| seen.slot).max() {
        let mut here: Vec<(u8, &Seen)> = Vec::new();
        for (region, seen) in &mut rest {
            if let Some((first, others)) = seen.split_first().filter(|(first, _)| first.slot == slot) {
                here.push((*region, first));
                *seen = others;
            }
        }
        let signed = authentic_marker(regions, path, slot, here.iter().flat_map(|(_, seen)| &seen.markers));
        // Markers of one version differ when they were made under different configurations.
        let says_so = |seen: &Seen| {
            let own = authentic_marker(regions, path, slot, seen.markers.iter());
            own.is_some_and(|own| signed.is_some_and(|signed| signed.marker == own.marker))
        };
        let in_region = |(region, seen): &(u8, &Seen)| SlotInRegion {
            region: *region,
            entries: seen.entries,
            listed: seen.listed,
            first_bytes: seen.first_bytes,
            marked: says_so(seen),
            entries_modified_ms: seen.modified_ms,
        };
        slots.push(WalkedSlot { slot, marker: signed.map(|signed| signed.marker), regions: here.iter().map(in_region).collect() });
    }
    slots
}
