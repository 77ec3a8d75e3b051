//! The versions of an object: what is retained, and what a collector has let go.

use std::sync::Arc;

use object_store::path::Path;

use super::resolve::{Version, not_found};
use super::{ErasureStore, Inner};
use crate::digest::Digest;
use crate::error::Result;
use crate::format::entry::ObjectKind;
use crate::id::WriteId;
use crate::region::layout;
use crate::register::{Slot, WalkedSlot, is_collected};

/// What became of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VersionState {
    /// Its bytes can be asked for.
    Readable,
    /// It says that the object was deleted.
    Tombstone,
    /// It was superseded, and its bytes were collected.
    Collected,
}

/// One version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionInfo {
    /// The slot in which it was decided.
    pub slot: Slot,
    /// Object, tombstone or collected.
    pub state: VersionState,
    /// The text by which it is asked for (`GetOptions::version`, [`ErasureStore::restore`]); absent once it was collected.
    pub version: Option<String>,
    /// The write that made it, the object's `e_tag`; absent once it was collected.
    pub write_id: Option<WriteId>,
    /// The object's size in bytes; 0 for what is no object.
    pub size: u64,
    /// The version's time, in milliseconds since 1970-01-01T00:00:00Z; absent once it was collected.
    pub modified_ms: Option<i64>,
    /// When another version took its place, by the latest of the regions' clocks, in milliseconds; absent for the newest.
    pub superseded_ms: Option<i64>,
    /// It has the write id and the bytes of the version before it: a collector of orphans put it there to close the slot.
    pub republished: bool,
}

impl ErasureStore {
    /// All versions of `path`, newest first, tombstones and collected ones included.
    ///
    /// Cost: two LIST rounds; a round of GETs for each version that has no decided marker.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there never was such an object; [`crate::ErrorKind::Unavailable`] when too few regions answer.
    pub async fn versions(&self, path: &Path) -> Result<Vec<VersionInfo>> {
        self.inner.versions(path).await
    }
}

/// What is known of one slot.
pub(super) enum Found {
    Version(Arc<Version>),
    Collected,
    Undecided,
}

impl Inner {
    pub(super) async fn versions(&self, path: &Path) -> Result<Vec<VersionInfo>> {
        // The newest first: what is decided later is not missed in the middle.
        let newest = self.newest(path).await?.ok_or_else(|| not_found(path))?;
        let walked = self.registers.walk_one(path).await?.ok_or_else(|| not_found(path))?;
        let slots: Vec<&WalkedSlot> = walked.slots.iter().filter(|slot| slot.slot <= newest.decided.slot).collect();
        let mut versions = Vec::with_capacity(slots.len());
        for slot in &slots {
            versions.extend(self.version_info(path, slot).await?);
        }
        supersede(&mut versions, &slots);
        Ok(versions)
    }

    async fn version_info(&self, path: &Path, slot: &WalkedSlot) -> Result<Option<VersionInfo>> {
        let is_stub = slot.regions.iter().any(|region| region.lists_stub(path));
        if let Some(marker) = slot.marker.filter(|_| !is_stub) {
            return Ok(Some(info(slot.slot, marker.kind, marker.size, marker.modified_ms, marker.write_id)));
        }
        Ok(match self.version_in(path, slot.slot).await? {
            Found::Version(found) => {
                let manifest = &found.manifest;
                Some(info(slot.slot, manifest.kind(), manifest.size(), manifest.modified_ms, manifest.write_id))
            }
            Found::Collected => Some(VersionInfo {
                slot: slot.slot,
                state: VersionState::Collected,
                version: None,
                write_id: None,
                size: 0,
                modified_ms: None,
                superseded_ms: None,
                republished: false,
            }),
            Found::Undecided => None,
        })
    }

    /// What one slot was decided for, by its entries and not by what is remembered or marked.
    pub(super) async fn version_in(&self, path: &Path, slot: Slot) -> Result<Found> {
        match self.registers.at(path, slot).await {
            Ok(Some(decided)) => Ok(Found::Version(self.read_manifest(path, decided)?)),
            Ok(None) => Ok(Found::Undecided),
            Err(error) if is_collected(&error) => Ok(Found::Collected),
            Err(error) => Err(error),
        }
    }

    /// The newest retained version of `path` whose bytes have this digest, by its manifest; reading verifies it.
    ///
    /// Cost: two LIST rounds, and a round of GETs for each version that is looked at.
    pub(super) async fn with_digest(&self, path: &Path, digest: Digest) -> Result<Option<Arc<Version>>> {
        let Some(newest) = self.newest(path).await? else { return Ok(None) };
        let is_it = |version: &Version| version.is_live() && version.manifest.digest == digest;
        if is_it(&newest) {
            return Ok(Some(newest));
        }
        let Some(walked) = self.registers.walk_one(path).await? else { return Ok(None) };
        for older in walked.slots.iter().filter(|slot| slot.slot < newest.decided.slot) {
            if let Found::Version(version) = self.version_in(path, older.slot).await?
                && is_it(&version)
            {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    /// Whether any retained version of `path` was made by `write_id`: every slot is read, for markers may say what they will.
    ///
    /// # Errors
    /// When a slot cannot be read, so that nobody can say.
    pub(super) async fn is_named(&self, path: &Path, write_id: WriteId) -> Result<bool> {
        if layout::is_system(path) {
            return Ok(false);
        }
        let Some(walked) = self.registers.walk_one(path).await? else { return Ok(false) };
        for slot in &walked.slots {
            if let Found::Version(version) = self.version_in(path, slot.slot).await?
                && version.manifest.write_id == write_id
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn info(slot: Slot, kind: ObjectKind, size: u64, modified_ms: i64, write_id: WriteId) -> VersionInfo {
    VersionInfo {
        slot,
        state: if kind == ObjectKind::Object { VersionState::Readable } else { VersionState::Tombstone },
        version: Some(format!("{slot}.{write_id}")),
        write_id: Some(write_id),
        size,
        modified_ms: Some(modified_ms),
        superseded_ms: None,
        republished: false,
    }
}

/// Fills in what follows from the order of versions, which are newest first.
fn supersede(versions: &mut [VersionInfo], slots: &[&WalkedSlot]) {
    let time = |slot: Slot| {
        let walked = slots.iter().find(|walked| walked.slot == slot)?;
        walked.regions.iter().filter_map(|region| region.entries_modified_ms).max()
    };
    // The nearest newer version that another write made; until then the object is the same.
    let mut successor: Option<(Slot, Option<WriteId>)> = None;
    let mut newer: Option<(Slot, Option<WriteId>)> = None;
    for at in 0..versions.len() {
        let Some(version) = versions.get(at) else { break };
        let (slot, write_id) = (version.slot, version.write_id);
        if newer.is_some_and(|(_, newer)| newer.is_none() || newer != write_id) {
            successor = newer;
        }
        let before = versions.get(at + 1).and_then(|before| before.write_id);
        if let Some(version) = versions.get_mut(at) {
            version.superseded_ms = successor.and_then(|(slot, _)| time(slot));
            version.republished = write_id.is_some() && before == write_id;
        }
        newer = Some((slot, write_id));
    }
}
