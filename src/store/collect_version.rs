//! Letting one version go, in the order that keeps every reader and every late writer right.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;

use super::Inner;
use super::collect::Collector;
use super::segment::shard_key;
use crate::digest::{BLOCK_BYTES, Digest};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::format::entry::{ENTRY_LIMIT_BYTES, EntryBody, EntryPlace};
use crate::format::manifest::{Content, ObjectManifest, Sharded};
use crate::format::trailer::{Trailer, stored_len};
use crate::region::Region;
use crate::region::layout::{self, RegisterItem};
use crate::register::{Slot, check_junk, is_unreadable};

/// Deletions that are under way at one time.
pub(super) const AT_ONCE: usize = 16;

/// Entry 0 of a slot in one region.
struct First {
    region: Arc<Region>,
    /// A region that is being rebuilt is told, but does not count; nor does one that is leaving.
    votes: bool,
    body: Result<Option<EntryBody>>,
}

impl First {
    fn stub(&self) -> Option<Digest> {
        match &self.body {
            Ok(Some(EntryBody::Stub(digest))) => Some(*digest),
            _ => None,
        }
    }

    fn value(&self) -> Option<&Bytes> {
        match &self.body {
            Ok(Some(EntryBody::Accept(_, value) | EntryBody::Learned(value))) => Some(value),
            _ => None,
        }
    }

    /// Whether the region answers, be it with something that is no entry: what was decided is known otherwise, and a stub says no more.
    fn answers(&self) -> bool {
        self.body.as_ref().err().is_none_or(is_unreadable)
    }
}

impl Collector<'_> {
    /// Collects one version: a stub over entry 0 in every region, read back on `confirmations` of them; then its shards, unless another version
    /// keeps them; then what else regions hold of the slot.
    pub(super) async fn version(&mut self, path: &Path, slot: Slot, confirmations: usize, keeps_shards: bool) -> Result<()> {
        // By the regions that count now.
        self.inner.regions.confirm().await?;
        let firsts = self.first_entries(path, slot).await?;
        let (digest, manifest) = self.decided(path, slot, &firsts).await?;
        let answering = firsts.iter().filter(|first| first.votes && first.answers()).count();
        if answering < confirmations {
            return Err(too_few(&firsts, confirmations).with("slot", slot));
        }
        if self.options.dry_run {
            return Ok(());
        }
        let confirmed = self.stub(path, slot, digest, &firsts, confirmations).await?;
        if let Some(Content::Shards(sharded)) = manifest.as_ref().map(|manifest| &manifest.content)
            && !keeps_shards
            && let Some(manifest) = &manifest
        {
            self.shards(path, manifest, sharded).await;
        }
        for region in confirmed {
            if let Err(error) = self.rest_of_slot(path, slot, &region).await {
                self.report.problem(path.as_ref(), error);
            }
        }
        Ok(())
    }

    async fn first_entries(&self, path: &Path, slot: Slot) -> Result<Vec<First>> {
        let key = layout::entry_key(path, slot, 0)?;
        let regions = self.inner.regions.regions().iter();
        Ok(join_all(regions.map(|region| async {
            let body = match region.get(&key, ENTRY_LIMIT_BYTES).await {
                Ok(Some(bytes)) => self.open_first(&bytes, region, path, slot).map(Some),
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            };
            let set = &self.inner.regions;
            let voter = set.voters().iter().find(|voter| voter.index() == region.index());
            let votes = voter.is_some_and(|voter| voter.down_reason().is_none()) && set.leaving() != Some(region.index());
            First { region: Arc::clone(region), votes, body }
        }))
        .await)
    }

    /// Under whichever configuration it was made, as the region's own log is read.
    fn open_first(&self, bytes: &Bytes, region: &Region, path: &Path, slot: Slot) -> Result<EntryBody> {
        let regions = &self.inner.regions;
        let since = regions.since(region.index());
        EntryBody::open_since(bytes, &place(self.inner, region, path, slot), since, regions.entry_keys()).map(|(body, _)| body)
    }

    /// What the slot is decided for, and its manifest, if any region still has it.
    async fn decided(&self, path: &Path, slot: Slot, firsts: &[First]) -> Result<(Digest, Option<ObjectManifest>)> {
        let mut stubs = firsts.iter().filter_map(First::stub);
        let Some(digest) = stubs.next() else {
            let decided = self.inner.registers.at(path, slot).await?.ok_or_else(|| {
                Error::new(ErrorKind::Internal, "a version that is not decided was to be collected").with("path", path).with("slot", slot)
            })?;
            return Ok((decided.digest, Some(self.inner.decode_manifest(&decided.value)?)));
        };
        if stubs.any(|other| other != digest) {
            return Err(Error::new(ErrorKind::Corrupt, "two regions hold stubs for different versions")
                .with("path", path)
                .with("slot", slot));
        }
        // A run that was stopped left this; the manifest may be gone. Then its shards are orphans, and are found as such.
        let value = firsts.iter().filter_map(First::value).find(|value| Digest::of(value) == digest);
        Ok((digest, value.and_then(|value| self.inner.decode_manifest(value).ok())))
    }

    /// Writes the stub where it is not, and gives the regions in which it was read back.
    async fn stub(&self, path: &Path, slot: Slot, digest: Digest, firsts: &[First], confirmations: usize) -> Result<Vec<Arc<Region>>> {
        let key = layout::entry_key(path, slot, 0)?;
        let missing = firsts.iter().filter(|first| first.stub() != Some(digest));
        join_all(missing.map(|first| async {
            let sealed = EntryBody::Stub(digest).seal(&place(self.inner, &first.region, path, slot), self.key)?;
            failpoint!("collect.before-stub");
            // Whether it was written is read back, whatever the region says.
            let put = first.region.put(&key, sealed.into()).await;
            failpoint!("collect.after-stub");
            put
        }))
        .await;
        let firsts = self.first_entries(path, slot).await?;
        let confirmed: Vec<&First> = firsts.iter().filter(|first| first.stub() == Some(digest)).collect();
        failpoint!("collect.after-confirmation");
        if confirmed.iter().filter(|first| first.votes).count() < confirmations {
            return Err(too_few(&firsts, confirmations).with("slot", slot));
        }
        Ok(confirmed.into_iter().map(|first| Arc::clone(&first.region)).collect())
    }

    async fn shards(&mut self, path: &Path, manifest: &ObjectManifest, sharded: &Sharded) {
        let segments = sharded.geometry().segments(sharded.size);
        let trailer = Trailer {
            lake: manifest.lake,
            configuration: 0,
            write_id: manifest.write_id,
            slot: sharded.shard_slot,
            path: manifest.path.clone(),
        };
        let inner = self.inner;
        let all = (0..segments).flat_map(|segment| (0..sharded.placement.len()).map(move |shard| (segment, shard)));
        let trailer = &trailer;
        let outcomes = futures::stream::iter(all)
            .map(|(segment, shard)| async move { delete_shard(inner, sharded, trailer, segment, shard).await })
            .buffer_unordered(AT_ONCE);
        let mut outcomes = std::pin::pin!(outcomes);
        while let Some(outcome) = outcomes.next().await {
            match outcome {
                Ok(Some(bytes)) => {
                    self.report.shards_deleted += 1;
                    self.report.bytes_deleted += bytes;
                }
                Ok(None) => {}
                Err(error) => self.report.problem(path.as_ref(), error),
            }
        }
    }

    /// Deletes what a region that holds the stub lists of the slot beside it.
    async fn rest_of_slot(&mut self, path: &Path, slot: Slot, region: &Region) -> Result<()> {
        let folder = layout::register_folder(path)?;
        let newer = slot.checked_add(1).map(|newer| layout::entry_key(path, newer, u32::MAX)).transpose()?;
        let mut keys = region.list(&folder, newer.as_ref());
        let mut skipped = 0;
        while let Some(meta) = keys.try_next().await? {
            let Some(name) = layout::parse_register_key(&meta.location).filter(|name| name.path == *path) else {
                skipped += 1;
                check_junk(region, skipped)?;
                continue;
            };
            if name.slot < slot {
                break;
            }
            if name.slot == slot && name.item != RegisterItem::Entry(0) {
                failpoint!("collect.before-entry");
                region.delete(&meta.location).await?;
                failpoint!("collect.after-entry");
                self.report.entries_deleted += 1;
            }
        }
        Ok(())
    }
}

fn place<'a>(inner: &Inner, region: &Region, path: &'a Path, slot: Slot) -> EntryPlace<'a> {
    EntryPlace {
        lake: *inner.regions.lake(),
        configuration: inner.regions.configuration(),
        region: region.index(),
        path: path.as_ref(),
        slot,
        seq: 0,
    }
}

fn too_few(firsts: &[First], needed: usize) -> Error {
    let error = Error::new(ErrorKind::Unavailable, "too few regions take the statement that a version was collected; it is kept for now")
        .with("needed", needed);
    firsts.iter().fold(error, |error, first| match &first.body {
        Err(why) => error.with("region", format!("{}: {why}", first.region.name())),
        Ok(_) => error,
    })
}

/// Deletes one shard, if its own trailer says that it was written for this version: a manifest could name the shards of another object.
/// Its stored length; `None` when it was not there.
async fn delete_shard(inner: &Inner, sharded: &Sharded, owner: &Trailer, segment: u64, shard: usize) -> Result<Option<u64>> {
    let len = Inner::shape(sharded, segment).shard_len(shard);
    let region = sharded.shard(segment, shard).and_then(|(_, region)| inner.regions.region(region));
    let Some(region) = region.filter(|_| len > 0) else { return Ok(None) };
    let key = shard_key(&owner.write_id, sharded.shard_slot, segment, shard)?;
    let start = len + len.div_ceil(BLOCK_BYTES as u64) * Digest::LEN as u64;
    let stored = start + stored_len(owner.path.len()) as u64;
    let parts = match region.get_ranges(&key, std::slice::from_ref(&(start..stored))).await {
        Ok(parts) => parts,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let found = Trailer::open(&parts.concat(), inner.regions.writers()).map_err(|e| e.with("region", region.name()).with("key", &key))?;
    if found != (Trailer { configuration: found.configuration, ..owner.clone() }) {
        return Err(Error::new(ErrorKind::Unauthentic, "a version names a shard that was written for another; it is kept")
            .with("region", region.name())
            .with("key", key));
    }
    failpoint!("collect.before-shard");
    region.delete(&key).await?;
    failpoint!("collect.after-shard");
    Ok(Some(stored))
}
