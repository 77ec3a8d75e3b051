//! Deleting the shards of one version: each only by its own trailer, for a manifest could name the shards of another object.

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::Inner;
use super::collect::{Collector, Named};
use super::segment::shard_key;
use crate::digest::{BLOCK_BYTES, Digest};
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::format::entry::ObjectKind;
use crate::format::manifest::{Content, ObjectManifest, Sharded};
use crate::format::trailer::{TRAILER_LIMIT_BYTES, Trailer, stored_len};
use crate::id::WriteId;
use crate::key::PublicKey;
use crate::region::Region;
use crate::region::layout;
use crate::register::WalkedSlot;

/// Deletions that are under way at one time.
pub(super) const AT_ONCE: usize = 16;

/// Deletions that are under way. Streams that make them by closures with references could not be sent to another thread.
type Deletions<'a> = FuturesUnordered<BoxFuture<'a, Result<Gone>>>;

/// What became of one shard.
enum Gone {
    /// It was deleted; its stored length.
    Deleted(u64),
    /// It was not there.
    Before,
    /// By its authentic trailer it is another object's, and stays.
    Foreign(Error),
}

impl Collector<'_> {
    /// Deletes the shards that a manifest names. Whether none of them is left.
    pub(super) async fn shards(&mut self, path: &Path, manifest: &ObjectManifest) -> bool {
        let Content::Shards(sharded) = &manifest.content else { return true };
        let segments = sharded.geometry().segments(sharded.size);
        let trailer = Trailer {
            lake: manifest.lake,
            configuration: 0,
            write_id: manifest.write_id,
            slot: sharded.shard_slot,
            path: manifest.path.clone(),
        };
        let (inner, mut none_left) = (self.inner, true);
        let mut under_way = Deletions::new();
        for segment in 0..segments {
            for shard in 0..sharded.placement.len() {
                none_left &= self.make_room(path, &mut under_way).await;
                under_way.push(delete_named(inner, sharded, &trailer, segment, shard).boxed());
            }
        }
        none_left & self.finish(path, under_way).await
    }

    /// Deletes what a run that was stopped left of a version's shards, and copies that no manifest names: all that any region lists of its
    /// write, unless another retained version (`others`) has it. Whether none is left.
    pub(super) async fn left_shards(
        &mut self,
        path: &Path,
        walked: &WalkedSlot,
        decided: Digest,
        manifest: Option<&ObjectManifest>,
        others: &Named,
    ) -> bool {
        let marker = walked.marker.filter(|marker| marker.value == decided);
        let (write_id, has_shards) = match (manifest, marker) {
            (Some(manifest), _) => (manifest.write_id, matches!(manifest.content, Content::Shards(_))),
            (None, Some(marker)) => (marker.write_id, marker.kind == ObjectKind::Object),
            // With ages there is a look for orphans, which asks each shard whose it is.
            (None, None) if self.clocks.is_some() => return true,
            (None, None) => {
                let what = "a version was collected in part, and nothing names its shards any more: \
                            run `lakeseal collect`, which finds shards that no version names";
                self.report.problem(path.as_ref(), Error::new(ErrorKind::Unavailable, what).with("slot", walked.slot));
                return false;
            }
        };
        if !has_shards || others.contains(write_id) {
            return true;
        }
        let inner = self.inner;
        let mut none_left = true;
        let mut under_way = Deletions::new();
        for region in inner.regions.regions() {
            let mut listed = region.list(&layout::shard_folder(&write_id), None);
            loop {
                match listed.try_next().await {
                    Ok(Some(meta)) => {
                        none_left &= self.make_room(path, &mut under_way).await;
                        under_way.push(delete_listed(inner, region, meta, path, write_id).boxed());
                    }
                    Ok(None) => break,
                    Err(error) => {
                        none_left = false;
                        self.report.problem(path.as_ref(), error);
                        break;
                    }
                }
            }
        }
        none_left & self.finish(path, under_way).await
    }

    /// Waits until one more deletion may begin. Whether all that ended meanwhile left nothing.
    async fn make_room(&mut self, path: &Path, under_way: &mut Deletions<'_>) -> bool {
        let mut none_left = true;
        while under_way.len() >= AT_ONCE {
            let Some(outcome) = under_way.next().await else { break };
            none_left &= self.count_shard(path, outcome);
        }
        none_left
    }

    async fn finish(&mut self, path: &Path, mut under_way: Deletions<'_>) -> bool {
        let mut none_left = true;
        while let Some(outcome) = under_way.next().await {
            none_left &= self.count_shard(path, outcome);
        }
        none_left
    }

    /// Whether the version has this shard no more.
    fn count_shard(&mut self, path: &Path, outcome: Result<Gone>) -> bool {
        match outcome {
            Ok(Gone::Deleted(bytes)) => {
                self.report.shards_deleted += 1;
                self.report.bytes_deleted += bytes;
                true
            }
            Ok(Gone::Before) => true,
            Ok(Gone::Foreign(error)) => {
                self.report.problem(path.as_ref(), error);
                true
            }
            Err(error) => {
                self.report.problem(path.as_ref(), error);
                false
            }
        }
    }
}

/// Deletes one shard that a manifest names.
async fn delete_named(inner: &Inner, sharded: &Sharded, owner: &Trailer, segment: u64, shard: usize) -> Result<Gone> {
    let len = Inner::shape(sharded, segment).shard_len(shard);
    if len == 0 {
        return Ok(Gone::Before);
    }
    let region = sharded.shard(segment, shard).and_then(|(_, region)| inner.regions.region(region));
    // A region that is not the lake's any more: nobody asks it.
    let Some(region) = region else { return Ok(Gone::Before) };
    let key = shard_key(&owner.write_id, sharded.shard_slot, segment, shard)?;
    let start = len + len.div_ceil(BLOCK_BYTES as u64) * Digest::LEN as u64;
    let stored = start + stored_len(owner.path.len()) as u64;
    let parts = match region.get_ranges(&key, std::slice::from_ref(&(start..stored))).await {
        Ok(parts) => parts,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Gone::Before),
        Err(error) => return Err(error.with("region", region.name()).with("key", &key)),
    };
    let found = Trailer::open(&parts.concat(), inner.regions.writers()).map_err(|error| untold(error, region, &key))?;
    delete(region, &key, found == (Trailer { configuration: found.configuration, ..owner.clone() }), stored).await
}

/// Deletes one shard of a write that a region lists.
async fn delete_listed(inner: &Inner, region: &Region, meta: ObjectMeta, path: &Path, write_id: WriteId) -> Result<Gone> {
    // What was not named as a shard is, no reader takes for one.
    let Some(name) = layout::parse_shard_key(&meta.location) else { return Ok(Gone::Before) };
    let found = match trailer(region, &meta, inner.regions.writers()).await {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Gone::Before),
        Err(error) => return Err(error),
    };
    let owned = found.lake == *inner.regions.lake() && found.write_id == write_id && found.slot == name.slot && found.path == path.as_ref();
    delete(region, &meta.location, owned, meta.size).await
}

async fn delete(region: &Region, key: &Path, is_owned: bool, stored: u64) -> Result<Gone> {
    if !is_owned {
        let what = "a version names a shard that was written for another; it is kept";
        return Ok(Gone::Foreign(Error::new(ErrorKind::Unauthentic, what).with("region", region.name()).with("key", key)));
    }
    failpoint!("collect.before-shard");
    region.delete(key).await.map_err(|error| error.with("region", region.name()).with("key", key))?;
    failpoint!("collect.after-shard");
    Ok(Gone::Deleted(stored))
}

/// The trailer of a stored shard, by one request.
pub(super) async fn trailer(region: &Region, meta: &ObjectMeta, writers: &[PublicKey]) -> Result<Trailer> {
    let end = meta.size;
    let start = end.saturating_sub(TRAILER_LIMIT_BYTES as u64);
    if start == end {
        return Err(Error::new(ErrorKind::Corrupt, "a stored shard is empty").with("region", region.name()).with("key", &meta.location));
    }
    let parts = region.get_ranges(&meta.location, std::slice::from_ref(&(start..end))).await?;
    Trailer::open(&parts.concat(), writers).map_err(|error| untold(error, region, &meta.location))
}

/// A trailer that is not authentic.
fn untold(error: Error, region: &Region, key: &Path) -> Error {
    let what =
        "a stored shard does not say authentically whose it is, so it is kept; if it has to go, delete its key in the region yourself";
    Error::new(error.kind(), what).with("region", region.name()).with("key", key).caused_by(error)
}
