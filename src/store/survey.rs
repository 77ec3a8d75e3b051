//! Survey: what is stored, logically and in each region, and what nobody names.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::TryStreamExt as _;
use futures::future::join_all;
use object_store::path::Path;
use serde::Serialize;

use super::census::Found;
use super::{ErasureStore, Inner};
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::{Marker, ObjectKind};
use crate::id::WriteId;
use crate::region::{Region, layout};
use crate::register::{WalkedRegister, WalkedSlot};

/// Write ids that are held in memory at one time, with 24 bytes each; above, the shards are listed once more for each such part.
const IDS_LIMIT: usize = 8 * 1024 * 1024;
/// Names that are looked at at one time.
const NAMES_AT_ONCE: usize = 16;

/// What one region stores.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RegionUsage {
    /// The region's name.
    pub region: String,
    /// Why its figures are not known, if so.
    pub unreachable: Option<String>,
    /// Keys of objects' registers: entries and markers.
    pub register_objects: u64,
    /// Their bytes.
    pub register_bytes: u64,
    /// Keys of the lake's own registers.
    pub system_objects: u64,
    /// Their bytes.
    pub system_bytes: u64,
    /// Shards.
    pub shard_objects: u64,
    /// Their bytes, with block lists and trailers.
    pub shard_bytes: u64,
}

impl RegionUsage {
    /// All bytes in the region.
    pub fn bytes(&self) -> u64 {
        self.register_bytes.saturating_add(self.system_bytes).saturating_add(self.shard_bytes)
    }
}

/// What a lake holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Survey {
    /// Names with a live object.
    pub objects: u64,
    /// Names whose newest version is a tombstone.
    pub deleted_names: u64,
    /// Versions that are kept beside the newest, tombstones included.
    pub older_versions: u64,
    /// Tombstones, newest or not.
    pub tombstones: u64,
    /// Versions that were collected.
    pub collected_versions: u64,
    /// Slots in which nothing is decided: a writer is at work, or stopped.
    pub open_slots: u64,
    /// Slots of which it could not be learned what they are.
    pub unknown_slots: u64,
    /// Bytes of the live objects.
    pub live_bytes: u64,
    /// Bytes of all versions that are kept.
    pub logical_bytes: u64,
    /// What each region stores.
    pub regions: Vec<RegionUsage>,
    /// Writes with shards that no kept version names: of writers at work, stopped, or lost. Only regions that answered were seen.
    pub orphan_writes: u64,
    /// Bytes of their shards.
    pub orphan_bytes: u64,
    /// Number of regions.
    pub n: u8,
    /// Regions that may forget or lie about registers.
    pub liars: u8,
    /// Regions that have to answer a read of a name.
    pub classic_quorum: u8,
    /// Regions that may be unreachable while writes go on.
    pub writes_survive: u8,
    /// Regions that may be lost without losing data (m).
    pub reads_survive: u8,
}

impl Survey {
    /// Bytes in all regions for each byte of versions that are kept; `None` when there are none.
    pub fn overhead(&self) -> Option<f64> {
        let physical: u64 = self.regions.iter().map(RegionUsage::bytes).fold(0, u64::saturating_add);
        #[expect(clippy::cast_precision_loss, reason = "a ratio to be shown")]
        (self.logical_bytes > 0).then(|| physical as f64 / self.logical_bytes as f64)
    }
}

/// Is told how far a survey is. `()` is told nothing.
pub trait SurveyProgress: Send + Sync {
    /// So many names were seen.
    fn surveyed(&self, names: u64) {
        let _ = names;
    }
}

impl SurveyProgress for () {}

impl ErasureStore {
    /// Counts what is stored, logically and in each region.
    ///
    /// Cost: a walk of all names, one LIST a region of all else, and a few GETs for each slot without a marker: linear in versions and shards. Memory:
    /// 24 bytes for each write with shards, up to 192 MiB; with more, the names and shards are listed again for each 8 million writes.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when fewer than a classic quorum of regions lists its names. A region that fails later is in the report.
    pub async fn survey(&self, progress: &dyn SurveyProgress) -> Result<Survey> {
        self.inner.survey(progress, IDS_LIMIT).await
    }
}

/// Writes with shards, in the order of their ids, and the bytes of each.
#[derive(Default)]
struct Writes {
    ids: Vec<WriteId>,
    bytes: Vec<u64>,
}

impl Writes {
    /// Adds what one region lists; `other` ascends, as `self` does.
    fn merge(&mut self, other: Writes) {
        let mut merged = Writes::default();
        let mut mine = std::mem::take(&mut self.ids).into_iter().zip(std::mem::take(&mut self.bytes)).peekable();
        let mut theirs = other.ids.into_iter().zip(other.bytes).peekable();
        loop {
            let next = match (mine.peek(), theirs.peek()) {
                (Some((a, _)), Some((b, _))) if a == b => mine.next().zip(theirs.next()).map(|((id, x), (_, y))| (id, x.saturating_add(y))),
                (Some((a, _)), Some((b, _))) if b < a => theirs.next(),
                (Some(_), _) => mine.next(),
                (None, _) => theirs.next(),
            };
            let Some((id, bytes)) = next else { break };
            merged.ids.push(id);
            merged.bytes.push(bytes);
        }
        *self = merged;
    }
}

/// First bytes of the write ids that are looked at in one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    from: u8,
    to: u8,
}

impl Part {
    const ALL: Self = Self { from: 0, to: u8::MAX };

    fn contains(&self, id: &WriteId) -> bool {
        id.0.first().is_some_and(|first| (self.from..=self.to).contains(first))
    }

    fn halves(self) -> Option<[Self; 2]> {
        let middle = self.from + (self.to - self.from) / 2;
        (self.from < self.to).then(|| [Self { from: self.from, to: middle }, Self { from: middle + 1, to: self.to }])
    }
}

impl Inner {
    pub(super) async fn survey(self: &Arc<Self>, progress: &dyn SurveyProgress, ids_limit: usize) -> Result<Survey> {
        let quorums = self.regions.quorums();
        let mut survey = Survey {
            n: quorums.n(),
            liars: quorums.liars(),
            classic_quorum: quorums.classic(),
            writes_survive: self.profile.parity.min(quorums.spare()),
            reads_survive: self.profile.parity,
            ..Survey::default()
        };
        survey.regions = join_all(self.regions.regions().iter().map(|region| usage(region))).await;
        let mut parts = vec![Part::ALL];
        let mut first = true;
        while let Some(part) = parts.pop() {
            // Shards come before the names that name them, so that what is listed now and named later is no orphan.
            let Some(mut writes) = self.writes(part, ids_limit).await else {
                let halves =
                    part.halves().ok_or_else(|| Error::new(ErrorKind::Unsupported, "there are too many writes to find orphans among"))?;
                parts.extend(halves);
                continue;
            };
            self.walk_names(&mut survey, &mut writes, part, first, progress).await?;
            first = false;
            let orphans = writes.ids.iter().zip(&writes.bytes).filter(|(_, bytes)| **bytes > 0);
            for (_, bytes) in orphans {
                survey.orphan_writes += 1;
                survey.orphan_bytes = survey.orphan_bytes.saturating_add(*bytes);
            }
        }
        Ok(survey)
    }

    /// The writes of a part, by the lists of all regions that answer; `None` when they are more than `limit`.
    async fn writes(&self, part: Part, limit: usize) -> Option<Writes> {
        let mut all = Writes::default();
        for region in self.regions.regions() {
            match writes_in(region, part, limit).await {
                Ok(Some(writes)) => all.merge(writes),
                Ok(None) => return None,
                // Its usage says why.
                Err(error) => tracing::debug!(region = %region.name(), %error, "shards could not be listed"),
            }
            if all.ids.len() > limit {
                return None;
            }
        }
        Some(all)
    }

    /// Counts the names (`first`), and sets the bytes of writes that a version names to 0.
    async fn walk_names(
        self: &Arc<Self>,
        survey: &mut Survey,
        writes: &mut Writes,
        part: Part,
        first: bool,
        progress: &dyn SurveyProgress,
    ) -> Result<()> {
        let looks = self.registers.walk(None, None).map(|register| async { Ok::<_, Error>(self.slots(register?).await) });
        let mut looks = std::pin::pin!(looks.buffered(NAMES_AT_ONCE));
        let mut names = 0;
        while let Some(slots) = looks.try_next().await? {
            names += 1;
            for marker in slots.iter().filter_map(|slot| match slot {
                Slot::Kept(marker) => Some(marker),
                Slot::Open | Slot::Collected | Slot::Unknown => None,
            }) {
                if part.contains(&marker.write_id)
                    && let Ok(at) = writes.ids.binary_search(&marker.write_id)
                    && let Some(bytes) = writes.bytes.get_mut(at)
                {
                    *bytes = 0;
                }
            }
            if first {
                count(survey, &slots);
                progress.surveyed(names);
            }
        }
        Ok(())
    }

    async fn slots(self: &Arc<Self>, register: WalkedRegister) -> Vec<Slot> {
        let mut slots = Vec::with_capacity(register.slots.len());
        for slot in &register.slots {
            slots.push(match slot.marker {
                Some(marker) => Slot::Kept(marker),
                None => self.unmarked(&register.path, slot).await,
            });
        }
        // What is older was not looked at.
        slots.extend(register.cut_at.map(|_| Slot::Unknown));
        slots
    }

    async fn unmarked(self: &Arc<Self>, path: &Path, slot: &WalkedSlot) -> Slot {
        match self.walked_version(path, slot).await {
            Ok(Found::Retained(census)) => Slot::Kept(census.version.manifest.marker(census.version.decided.digest)),
            Ok(Found::Open) => Slot::Open,
            Ok(Found::Collected) => Slot::Collected,
            Err(error) => {
                tracing::debug!(%path, slot = slot.slot, %error, "a slot could not be read");
                Slot::Unknown
            }
        }
    }
}

enum Slot {
    Kept(Marker),
    Open,
    Collected,
    Unknown,
}

/// Counts the slots of one name, newest first.
fn count(survey: &mut Survey, slots: &[Slot]) {
    let mut newest = true;
    for slot in slots {
        let marker = match slot {
            Slot::Open => {
                survey.open_slots += 1;
                continue;
            }
            Slot::Collected => {
                survey.collected_versions += 1;
                continue;
            }
            Slot::Unknown => {
                survey.unknown_slots += 1;
                continue;
            }
            Slot::Kept(marker) => marker,
        };
        let tombstone = marker.kind == ObjectKind::Tombstone;
        survey.tombstones += u64::from(tombstone);
        survey.logical_bytes = survey.logical_bytes.saturating_add(marker.size);
        match (newest, tombstone) {
            (true, false) => {
                survey.objects += 1;
                survey.live_bytes = survey.live_bytes.saturating_add(marker.size);
            }
            (true, true) => survey.deleted_names += 1,
            (false, _) => survey.older_versions += 1,
        }
        newest = false;
    }
}

async fn usage(region: &Region) -> RegionUsage {
    let mut usage = RegionUsage { region: region.name().to_string(), ..RegionUsage::default() };
    let system = Path::from(layout::SYSTEM_SEGMENT);
    let folders = [layout::register_prefix(None), layout::register_prefix(Some(&system)), layout::shards_prefix()];
    let counts = join_all(folders.iter().map(|folder| totals(region, folder))).await;
    let mut known = counts.into_iter().map(|counted| match counted {
        Ok(counted) => counted,
        Err(error) => {
            usage.unreachable.get_or_insert_with(|| error.to_string());
            (0, 0)
        }
    });
    let mut next = || known.next().unwrap_or((0, 0));
    let (registers, system, shards) = (next(), next(), next());
    drop(known);
    (usage.register_objects, usage.register_bytes) = registers;
    (usage.system_objects, usage.system_bytes) = system;
    (usage.shard_objects, usage.shard_bytes) = shards;
    usage
}

/// Objects and bytes below a folder.
async fn totals(region: &Region, folder: &Path) -> Result<(u64, u64)> {
    let mut listed = region.list(folder, None);
    let (mut objects, mut bytes) = (0_u64, 0_u64);
    while let Some(meta) = listed.try_next().await? {
        objects += 1;
        bytes = bytes.saturating_add(meta.size);
    }
    Ok((objects, bytes))
}

/// The writes of a part in one region; `None` when they are more than `limit`.
async fn writes_in(region: &Region, part: Part, limit: usize) -> Result<Option<Writes>> {
    let mut writes = Writes::default();
    let mut start = [0; WriteId::LEN];
    start[0] = part.from;
    let after = (part.from > 0).then(|| layout::shard_folder(&WriteId(start)));
    let mut listed = region.list(&layout::shards_prefix(), after.as_ref());
    while let Some(meta) = listed.try_next().await? {
        let Some(name) = layout::parse_shard_key(&meta.location) else { continue };
        if name.write_id.0.first().is_some_and(|first| *first > part.to) {
            break;
        }
        if !part.contains(&name.write_id) {
            continue;
        }
        match (writes.ids.last(), writes.bytes.last_mut()) {
            (Some(last), Some(bytes)) if *last == name.write_id => *bytes = bytes.saturating_add(meta.size),
            _ => {
                if writes.ids.len() >= limit {
                    return Ok(None);
                }
                writes.ids.push(name.write_id);
                writes.bytes.push(meta.size.max(1));
            }
        }
    }
    Ok(Some(writes))
}

#[cfg(test)]
mod tests {
    use object_store::{ObjectStore as _, ObjectStoreExt as _};

    use super::*;
    use crate::clock::SystemClock;
    use crate::lake::testing::memory_lake;
    use crate::store::Profile;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_survey_in_parts_finds_the_same_orphans_as_in_one() {
        let (regions, writer, _) = memory_lake(2, 1, 3).unwrap();
        let profile = Profile { inline_bytes: 16, ..Profile::new(2, 1) };
        let store = ErasureStore::new(Arc::clone(&regions), profile, Some(Arc::new(writer)), Arc::new(SystemClock)).unwrap();
        for i in 0..40_u8 {
            store.put(&Path::from(format!("t/{i}")), vec![i; 1000].into()).await.unwrap();
        }
        store.put(&Path::from("t/1"), vec![1; 2000].into()).await.unwrap();
        store.delete(&Path::from("t/2")).await.unwrap();
        store.put(&Path::from("small"), "x".into()).await.unwrap();
        store.quiesce().await;
        for i in 0..5_u8 {
            let key = layout::shard_key(&WriteId([i * 50; 16]), 0, 0, 0);
            regions.region(i % 3).unwrap().put(&key, vec![0; 100].into()).await.unwrap();
        }
        let whole = store.survey(&()).await.unwrap();
        assert_eq!((whole.orphan_writes, whole.orphan_bytes), (5, 500));
        assert_eq!((whole.objects, whole.deleted_names, whole.older_versions, whole.tombstones), (40, 1, 2, 1));
        assert_eq!((whole.live_bytes, whole.logical_bytes), (38 * 1000 + 2000 + 1, 40 * 1000 + 2000 + 1));
        assert_eq!((whole.open_slots, whole.unknown_slots, whole.collected_versions), (0, 0, 0));
        assert!(whole.overhead().unwrap() > 1.5);
        assert_eq!(store.inner.survey(&(), 7).await.unwrap(), whole);
        let objects: u64 = store.list(None).count().await as u64;
        assert_eq!(objects, whole.objects);
    }
}
