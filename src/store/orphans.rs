//! Shards that no version names: what writers that were stopped, or that lost, left behind.
//!
//! Their trailer says for which name and slot they were written. *The collector wins that slot first*: once the slot is decided for another write
//! nothing can refer to them any more. A slot that nobody decided gets the newest version once more, with the same bytes, time and write id,
//! so that nobody sees a change. A streamed write is given up in the register of its own.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{Attributes, ObjectMeta};

use super::clocks::is_past;
use super::collect::Collector;
use super::collect_shards::{AT_ONCE, trailer};
use super::decide::{LOST_LIMIT, following_slot};
use super::versions::Found;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::format::binding::Binding;
use crate::format::logical::stored_path;
use crate::format::manifest::{Content, MAX_SEGMENTS, ObjectManifest, STREAMED_SLOT};
use crate::format::trailer::Trailer;
use crate::id::WriteId;
use crate::region::Region;
use crate::region::layout::{self, ShardName};
use crate::register::{Proposed, Slot, check_junk, is_collected};

/// Shards of one write in one region that are looked at: a shard of each segment for each slot that a writer tries is more than any has.
const SHARDS_LIMIT: u64 = if cfg!(test) { 50 } else { 2 * MAX_SEGMENTS };

/// Whether shards may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// A version names them, or may.
    Owned,
    /// None does, and none ever will.
    Orphan,
}

/// One shard of a write, as a region lists it.
struct Stored {
    region: Arc<Region>,
    name: ShardName,
    meta: ObjectMeta,
}

/// One region's list of shards, in the order of their write ids.
struct Lane {
    region: Arc<Region>,
    keys: BoxStream<'static, Result<ObjectMeta>>,
    next: Option<(ShardName, ObjectMeta)>,
}

impl Lane {
    /// The next key that is a shard's; `None` at the end.
    async fn advance(&mut self) -> Result<()> {
        self.next = None;
        let mut skipped = 0;
        while let Some(meta) = self.keys.try_next().await? {
            skipped += 1;
            check_junk(&self.region, skipped)?;
            if let Some(name) = layout::parse_shard_key(&meta.location) {
                self.next = Some((name, meta));
                break;
            }
        }
        Ok(())
    }
}

impl Collector<'_> {
    /// Deletes the shards of writes that are not `named` and that no version can name any more. Memory: one write's shards at a time.
    pub(super) async fn orphans(&mut self, named: &HashSet<WriteId>) -> Result<()> {
        let regions = self.inner.regions.regions().iter();
        let mut lanes: Vec<Lane> = regions
            .map(|region| Lane { region: Arc::clone(region), keys: region.list(&layout::shards_prefix(), None), next: None })
            .collect();
        for lane in &mut lanes {
            self.advance(lane).await;
        }
        while let Some(write_id) = lanes.iter().filter_map(|lane| lane.next.as_ref()).map(|(name, _)| name.write_id).min() {
            let is_named = named.contains(&write_id);
            let mut stored: Vec<Stored> = Vec::new();
            let mut too_many = None;
            for lane in &mut lanes {
                let mut listed = 0_u64;
                while let Some((name, meta)) = lane.next.take_if(|(name, _)| name.write_id == write_id) {
                    listed += 1;
                    if listed > SHARDS_LIMIT {
                        too_many.get_or_insert_with(|| Arc::clone(&lane.region));
                    } else if !is_named {
                        stored.push(Stored { region: Arc::clone(&lane.region), name, meta });
                    }
                    self.advance(lane).await;
                }
            }
            match too_many.filter(|_| !is_named) {
                Some(region) => self.refuse(write_id, &region),
                None if !is_named => self.write(write_id, &stored).await,
                None => continue,
            }
            self.tell();
        }
        Ok(())
    }

    /// Reports a write of which a region lists more shards than any write has.
    fn refuse(&mut self, write_id: WriteId, region: &Region) {
        self.report.orphans_found += 1;
        self.report.orphans_unexplained += 1;
        let what = "a region lists more shards of one write than a write can have: they are left alone; look at what wrote them";
        let error = Error::new(ErrorKind::Corrupt, what).with("region", region.name()).with("limit", SHARDS_LIMIT);
        self.report.problem(layout::shard_folder(&write_id), error);
    }

    /// A region whose list fails is left out from there on: what it holds is found by a later run.
    async fn advance(&mut self, lane: &mut Lane) {
        if let Err(error) = lane.advance().await {
            self.report.problem(layout::shards_prefix(), error);
        }
    }

    async fn write(&mut self, write_id: WriteId, stored: &[Stored]) {
        self.report.orphans_found += 1;
        let is_grown = stored.iter().all(|shard| {
            let stamp_ms = shard.meta.last_modified.timestamp_millis();
            let age = self.clocks.as_ref().and_then(|clocks| clocks.age_in(shard.region.index(), stamp_ms));
            age.is_some_and(|age| is_past(age, self.options.orphan_grace_seconds))
        });
        if !is_grown {
            self.report.orphans_young += 1;
            return;
        }
        let writers = self.inner.regions.writers();
        let (mut tails, mut asking) = (Vec::new(), FuturesUnordered::<BoxFuture<'_, (usize, Result<Trailer>)>>::new());
        for (at, shard) in stored.iter().enumerate() {
            if asking.len() >= AT_ONCE {
                tails.extend(asking.next().await);
            }
            asking.push(async move { (at, trailer(&shard.region, &shard.meta, writers).await) }.boxed());
        }
        while let Some(tail) = asking.next().await {
            tails.push(tail);
        }
        // A shard goes only by its own trailer: what somebody else put beside it says nothing of it.
        let mut owners: BTreeMap<(Path, Slot), Vec<&Stored>> = BTreeMap::new();
        let mut unexplained = None;
        for (at, tail) in tails {
            let Some(shard) = stored.get(at) else { continue };
            match tail {
                Ok(found) if found.lake == *self.inner.regions.lake() && found.write_id == write_id && found.slot == shard.name.slot => {
                    match stored_path(&found.path) {
                        Ok(path) => owners.entry((path, found.slot)).or_default().push(shard),
                        Err(error) => unexplained = Some(error),
                    }
                }
                Ok(_) => unexplained = Some(Error::new(ErrorKind::Unauthentic, "a shard's trailer belongs to another shard")),
                // Somebody else deleted it meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => unexplained = Some(error),
            }
        }
        if let Some(error) = unexplained {
            self.report.orphans_unexplained += 1;
            self.report.problem(layout::shard_folder(&write_id), error);
        }
        for ((path, slot), shards) in owners {
            match self.settle(write_id, &path, slot).await {
                Ok(Verdict::Owned) => self.report.orphans_found = self.report.orphans_found.saturating_sub(1),
                Ok(Verdict::Orphan) => self.discard(path.as_ref(), &shards).await,
                Err(error) => self.report.problem(path, error),
            }
        }
    }

    /// Wins the register of a write, so that no version can name it any more, unless one does.
    async fn settle(&self, write_id: WriteId, path: &Path, slot: Slot) -> Result<Verdict> {
        if path.as_ref().is_empty() || layout::is_system(path) {
            return Err(Error::new(ErrorKind::Corrupt, "a shard's trailer names what cannot be an object"));
        }
        if slot != STREAMED_SLOT {
            if self.release(path, slot, write_id).await? == Verdict::Owned {
                return Ok(Verdict::Owned);
            }
        } else if self.give_up(path, write_id).await? == Verdict::Owned {
            return Ok(Verdict::Owned);
        }
        failpoint!("collect.after-win");
        // The register is won; whatever was decided before is there to be seen.
        Ok(if self.inner.is_named(path, write_id).await? { Verdict::Owned } else { Verdict::Orphan })
    }

    /// Sees to it that one slot is decided for another write.
    async fn release(&self, path: &Path, slot: Slot, write_id: WriteId) -> Result<Verdict> {
        match self.inner.version_in(path, slot).await? {
            Found::Version(version) if version.manifest.write_id == write_id => Ok(Verdict::Owned),
            Found::Version(_) | Found::Collected => Ok(Verdict::Orphan),
            Found::Undecided if self.options.dry_run => Ok(Verdict::Orphan),
            Found::Undecided => self.republish(path, slot, write_id).await,
        }
    }

    /// Has the newest version decided once more in `slot`, which follows it and which nobody decided.
    async fn republish(&self, path: &Path, slot: Slot, write_id: WriteId) -> Result<Verdict> {
        let newest = self.inner.newest(path).await?;
        if newest.as_ref().is_some_and(|newest| newest.decided.slot >= slot) {
            return match self.inner.version_in(path, slot).await? {
                Found::Version(version) if version.manifest.write_id == write_id => Ok(Verdict::Owned),
                Found::Version(_) | Found::Collected => Ok(Verdict::Orphan),
                Found::Undecided => Err(Error::new(ErrorKind::Unavailable, "a slot below the newest version is not decided")),
            };
        }
        if following_slot(newest.as_deref())? != slot {
            return Err(
                Error::new(ErrorKind::Unavailable, "shards were written for a slot that no writer can have tried").with("slot", slot)
            );
        }
        let manifest = match &newest {
            Some(newest) => ObjectManifest { slot, predecessor: Some(newest.decided.digest), ..newest.manifest.clone() },
            None => ObjectManifest {
                lake: *self.inner.regions.lake(),
                configuration: self.inner.regions.configuration(),
                path: path.to_string(),
                slot,
                write_id: WriteId::random()?,
                modified_ms: self.inner.clock.now_ms(),
                digest: Digest::of(&[]),
                predecessor: None,
                attributes: Attributes::new(),
                content: Content::Tombstone,
            },
        };
        let value = Bytes::from(manifest.encode()?);
        failpoint!("collect.before-republish");
        let proposed = self.inner.registers.propose(path, slot, value.clone()).await;
        failpoint!("collect.after-republish");
        match proposed {
            Ok(Proposed::Won) => {
                self.inner.registers.mark(path, slot, &manifest.marker(Digest::of(&value))).await;
                Ok(Verdict::Orphan)
            }
            Ok(Proposed::Lost(decided)) => {
                let decided = ObjectManifest::decode(&decided.value)?;
                Ok(if decided.write_id == write_id { Verdict::Owned } else { Verdict::Orphan })
            }
            Err(error) if is_collected(&error) => Ok(Verdict::Orphan),
            Err(error) => Err(error),
        }
    }

    /// Gives a streamed write up, after every slot that it was bound to is decided for another.
    async fn give_up(&self, path: &Path, write_id: WriteId) -> Result<Verdict> {
        for step in 0..=LOST_LIMIT as u64 {
            let Some(binding) = self.binding(write_id, step).await? else { return Ok(Verdict::Orphan) };
            match binding {
                Binding::Abort => return Ok(Verdict::Orphan),
                Binding::Bind { path: bound, slot } if bound == path.as_ref() => {
                    if self.release(path, slot, write_id).await? == Verdict::Owned {
                        return Ok(Verdict::Owned);
                    }
                }
                Binding::Bind { .. } => {
                    return Err(
                        Error::new(ErrorKind::Corrupt, "an upload is bound to another name than its shards").with("write id", write_id)
                    );
                }
            }
        }
        Err(Error::new(ErrorKind::Corrupt, "an upload is bound to more versions than a writer tries").with("write id", write_id))
    }

    /// What is decided at one step of a streamed write, after having tried to give it up; `None` in a dry run that would.
    async fn binding(&self, write_id: WriteId, step: u64) -> Result<Option<Binding>> {
        if self.options.dry_run {
            let register = layout::streamed_write(&write_id);
            let Some(decided) = self.inner.registers.at(&register, step).await? else { return Ok(None) };
            return Binding::decode(&decided.value, *self.inner.regions.lake(), write_id, step).map(Some);
        }
        failpoint!("collect.before-abort");
        let decided = self.inner.decide_binding(write_id, step, &Binding::Abort).await?;
        failpoint!("collect.after-abort");
        Ok(Some(decided))
    }

    async fn discard(&mut self, path: &str, shards: &[&Stored]) {
        let mut complete = true;
        if !self.options.dry_run {
            let mut deleting = FuturesUnordered::<BoxFuture<'_, (u64, Result<()>)>>::new();
            for shard in shards {
                if deleting.len() >= AT_ONCE {
                    complete &= self.count_deletion(path, deleting.next().await);
                }
                let deletion = async move {
                    failpoint!("collect.before-orphan");
                    let deleted = shard.region.delete(&shard.meta.location).await;
                    failpoint!("collect.after-orphan");
                    (shard.meta.size, deleted)
                };
                deleting.push(deletion.boxed());
            }
            while let Some(deleted) = deleting.next().await {
                complete &= self.count_deletion(path, Some(deleted));
            }
        }
        self.report.orphans_collected += u64::from(complete);
    }

    /// Counts a shard of so many bytes that was deleted, or not. Whether it is gone.
    fn count_deletion(&mut self, path: &str, outcome: Option<(u64, Result<()>)>) -> bool {
        match outcome {
            Some((bytes, Ok(()))) => {
                self.report.shards_deleted += 1;
                self.report.bytes_deleted += bytes;
                true
            }
            Some((_, Err(error))) => {
                self.report.problem(path, error);
                false
            }
            None => true,
        }
    }
}
