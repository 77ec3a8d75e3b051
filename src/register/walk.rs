//! Walking registers: every slot of every name, and what each region lists of it. For censuses, collection and membership.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use object_store::path::Path;

use super::Slot;
use super::core::Rules;
use super::lanes::{Gather, KeyMeta, Lag, Lanes};
use super::read::authentic_marker;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Marker, stub_len};
use crate::region::RegionSet;
use crate::region::layout::{RegisterItem, RegisterName};

/// Most slots of one register that a walk shows at one time: it holds so many of each region in memory. Writers stop before.
pub const SLOT_LIMIT: usize = if cfg!(test) { 200 } else { 1 << 20 };

/// Markers of one slot that are looked at in one region; correct writers make one for each configuration under which they tell it, and a liar
/// hides its own by others.
const MARKER_LIMIT: usize = 3;
/// Slots whose markers are verified before other tasks have a turn.
const SLOTS_AT_ONCE: usize = 64;

/// A register, as the lists of the regions show it. Lists are hints: what is decided is learned from entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkedRegister {
    /// The logical path.
    pub path: Path,
    /// All slots with an entry or marker anywhere, newest first.
    pub slots: Vec<WalkedSlot>,
    /// Regions whose lists failed before they came to this register: what they hold is not known. So do those that list more slots than a
    /// walk shows, when a quorum lists fewer.
    pub unreachable: Vec<u8>,
    /// The register has more slots than a walk shows: those from here on are given, the older ones are not.
    pub cut_at: Option<Slot>,
    /// Slots older than this one are given only, when a register comes in pieces.
    pub older_than: Option<Slot>,
}

impl WalkedRegister {
    /// Refuses a register of which not all slots are given.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`], with what to do.
    pub fn check_whole(&self) -> Result<()> {
        let Some(oldest) = self.cut_at else { return Ok(()) };
        let what = "the name has more versions than can be looked at, older ones than this are left alone: copy its newest version to \
                    another name, and use that";
        Err(Error::new(ErrorKind::Unsupported, what).with("path", &self.path).with("slot", oldest).with("limit", SLOT_LIMIT))
    }
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

/// All slots of a register in one region's list, newest first; of too many, the newest.
#[derive(Default)]
struct AllSlots {
    seen: Vec<Seen>,
    is_cut: bool,
}

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

    fn take(&mut self, key: RegisterName, meta: KeyMeta) {
        if self.seen.last().is_none_or(|seen| seen.slot != key.slot) {
            self.is_cut |= self.seen.len() >= SLOT_LIMIT;
            if self.is_cut {
                return;
            }
            self.seen.push(Seen { slot: key.slot, entries: 0, listed: 0, first_bytes: None, modified_ms: None, markers: Vec::new() });
        }
        let Some(seen) = self.seen.last_mut() else { return };
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

/// One register, all of it.
pub(super) async fn walk_one(regions: Arc<RegionSet>, rules: Rules, path: &Path, lag: Lag) -> Result<Option<WalkedRegister>> {
    let register = next(&mut Lanes::one(regions, rules, path, None, lag)?).await?;
    register.map(|register| register.check_whole().map(|()| register)).transpose()
}

/// The slots of one register that are older than one.
pub(super) async fn walk_older(regions: Arc<RegionSet>, rules: Rules, path: &Path, than: Slot) -> Result<Option<WalkedRegister>> {
    let register = next(&mut Lanes::one(regions, rules, path, Some(than), Lag::ONE)?).await?;
    Ok(register.map(|register| {
        // Markers of the slot itself are listed behind its entries.
        let slots = register.slots.into_iter().filter(|slot| slot.slot < than).collect();
        WalkedRegister { slots, older_than: Some(than), ..register }
    }))
}

async fn next(lanes: &mut Lanes<AllSlots>) -> Result<Option<WalkedRegister>> {
    let Some((path, mut groups)) = lanes.next().await? else { return Ok(None) };
    let mut unreachable: Vec<u8> = lanes.failed().collect();
    let cut: Vec<u8> = groups.iter().filter(|(_, group)| group.is_cut).map(|(region, _)| *region).collect();
    // What a quorum does not list was not decided: whoever lists more is alone with it, and hides nothing of the others by it.
    if lanes.len() >= lanes.rules().classic + unreachable.len() + cut.len() {
        groups.retain(|(_, group)| !group.is_cut);
        unreachable.extend(cut);
    }
    // Below this slot, what a list lacks was left out.
    let last = |group: &AllSlots| group.seen.last().map(|seen| seen.slot);
    let cut_at = groups.iter().filter(|(_, group)| group.is_cut).filter_map(|(_, group)| last(group)).max();
    let mut slots = merge(lanes.regions(), &path, &groups).await;
    slots.retain(|slot| cut_at.is_none_or(|cut_at| slot.slot >= cut_at));
    Ok(Some(WalkedRegister { path, slots, unreachable, cut_at, older_than: None }))
}

/// Merges the regions' slots, which all descend.
async fn merge(regions: &RegionSet, path: &Path, groups: &[(u8, AllSlots)]) -> Vec<WalkedSlot> {
    let mut rest: Vec<(u8, &[Seen])> = groups.iter().map(|(region, group)| (*region, group.seen.as_slice())).collect();
    let mut slots: Vec<WalkedSlot> = Vec::new();
    while let Some(slot) = rest.iter().filter_map(|(_, seen)| seen.first()).map(|seen| seen.slot).max() {
        let mut here: Vec<(u8, &Seen)> = Vec::new();
        for (region, seen) in &mut rest {
            if let Some((first, others)) = seen.split_first().filter(|(first, _)| first.slot == slot) {
                here.push((*region, first));
                *seen = others;
            }
        }
        let signed = authentic_marker(regions, path, slot, here.iter().flat_map(|(_, seen)| &seen.markers));
        let text = signed.map(|signed| signed.to_text());
        // Markers of one version differ when they were made under different configurations; where they do not, one look is enough.
        let says_so = |seen: &Seen| {
            let own = || authentic_marker(regions, path, slot, seen.markers.iter());
            let is_same = || own().is_some_and(|own| signed.is_some_and(|signed| signed.marker == own.marker));
            text.as_ref().is_some_and(|text| seen.markers.contains(text) || is_same())
        };
        let in_region = |(region, seen): &(u8, &Seen)| SlotInRegion {
            region: *region,
            entries: seen.entries,
            listed: seen.listed,
            first_bytes: seen.first_bytes,
            marked: says_so(seen),
            entries_modified_ms: seen.modified_ms,
        };
        if slots.len() % SLOTS_AT_ONCE == SLOTS_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
        slots.push(WalkedSlot { slot, marker: signed.map(|signed| signed.marker), regions: here.iter().map(in_region).collect() });
    }
    slots
}
