//! Giving a region that took another's place what the one before held of a version: its shards, its marker, and what was decided.

use std::sync::Arc;

use bytes::Bytes;
use object_store::PutPayload;
use object_store::path::Path;

use super::read::{Segment, Wanted};
use super::resolve::{Version, describe};
use super::segment::shard_key;
use super::{ErasureStore, Inner};
use crate::digest::{BLOCK_BYTES, BlockList, Digest};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::format::entry::Marker;
use crate::format::manifest::{Content, Sharded};
use crate::format::trailer::TRAILER_LIMIT_BYTES;
use crate::region::{Region, layout};
use crate::register::{Decided, Taught, is_collected};

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
    /// Nothing was decided there, and nothing that was begun can be.
    Undecided,
    /// The version was collected: the region has its marker, if there is one.
    Collected,
}

/// What was rebuilt of one version.
#[derive(Default)]
struct Rebuilt {
    shards: u64,
    bytes: u64,
    lost: u64,
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
            Ok(Some(decided)) => decided,
            Ok(None) => return Ok(HandedOver::Undecided),
            Err(error) if is_collected(&error) => {
                if let Some(marker) = marker {
                    inner.registers.mark_region(path, slot, marker, index).await?;
                }
                return Ok(HandedOver::Collected);
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
            Taught::CannotRead(reason) => Err(Error::new(ErrorKind::Corrupt, "the new region holds an entry that cannot be read")
                .with("path", path)
                .with("slot", slot)
                .with("reason", reason)),
        }
    }
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
    let region = inner.regions.region(index);
    let region = region.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the lake has no region at this position"))?;
    for segment in 0..sharded.geometry().segments(sharded.size) {
        match rebuild(inner, region, &version, sharded, segment, shard).await {
            Ok(None) => {}
            Ok(Some(bytes)) => {
                rebuilt.shards += 1;
                rebuilt.bytes += bytes;
            }
            // Regions answered, and too few intact shards are left: waiting brings none back, and the others are to be handed over.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::warn!(path = %path, segment, shard, %error, "a shard cannot be rebuilt");
                rebuilt.lost += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(rebuilt)
}

/// Rebuilds one shard unless it is there. The number of its bytes, if it was not.
async fn rebuild(
    inner: &Arc<Inner>,
    region: &Region,
    version: &Arc<Version>,
    sharded: &Sharded,
    segment: u64,
    shard: usize,
) -> Result<Option<u64>> {
    let len = Inner::shape(sharded, segment).shard_len(shard);
    let (root, _) = sharded.shard(segment, shard).ok_or_else(|| Error::new(ErrorKind::Corrupt, "a manifest lacks a shard"))?;
    if len == 0 {
        return Ok(None);
    }
    let write_id = version.manifest.write_id;
    let key = shard_key(&write_id, sharded.shard_slot, segment, shard)?;
    let limit = len + header_len(len) + TRAILER_LIMIT_BYTES as u64;
    let stored = match region.get(&key, limit).await {
        Err(error) if error.kind() == ErrorKind::Corrupt => None,
        stored => stored?,
    };
    if stored.is_some_and(|stored| is_intact(&stored, len, root)) {
        return Ok(None);
    }
    let held = Segment::new(inner, version, segment)?.read(Wanted::from([(shard, vec![0..len])])).await?;
    let bytes = held.get(&shard).and_then(|held| held.get(&(0..len)));
    let bytes = bytes.ok_or_else(|| Error::new(ErrorKind::Internal, "a shard was read in part"))?;
    let list = BlockList::of(&bytes);
    if list.root() != root {
        return Err(Error::new(ErrorKind::Corrupt, "verified shards decode to something else than was written").with("shard", shard));
    }
    let path = Path::from(version.manifest.path.as_str());
    let trailer = inner.trailer(&path, write_id, sharded.shard_slot)?;
    failpoint!("handover.before-shard");
    region.put(&key, PutPayload::from_iter([Bytes::from(list.to_bytes()), bytes, trailer])).await?;
    failpoint!("handover.after-shard");
    // What counts is what the region gives back.
    let stored = region.get(&key, limit).await?;
    if !stored.is_some_and(|stored| is_intact(&stored, len, root)) {
        return Err(Error::new(ErrorKind::Unavailable, "the new region did not keep the shard that it acknowledged")
            .with("region", region.name())
            .with("key", key));
    }
    Ok(Some(len))
}

fn header_len(len: u64) -> u64 {
    len.div_ceil(BLOCK_BYTES as u64) * Digest::LEN as u64
}

/// Whether `stored` is the block list and the bytes of the shard with this root.
fn is_intact(stored: &Bytes, len: u64, root: Digest) -> bool {
    let (Ok(header), Ok(size)) = (usize::try_from(header_len(len)), usize::try_from(len)) else { return false };
    let Some((list, rest)) = stored.split_at_checked(header) else { return false };
    let Ok(list) = BlockList::from_bytes(list, len, root) else { return false };
    rest.get(..size).is_some_and(|bytes| list.first_bad_block(0, bytes).is_none())
}
