//! Letting one version go, in the order that keeps every reader and every late writer right.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::future::join_all;
use object_store::path::Path;

use super::Inner;
use super::collect::{Collector, Named};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::format::entry::{ENTRY_LIMIT_BYTES, EntryBody, EntryPlace, Marker};
use crate::format::manifest::ObjectManifest;
use crate::region::Region;
use crate::region::layout::{self, RegisterItem};
use crate::register::{Slot, WalkedSlot, check_junk, is_unreadable};

/// Whose the shards of a version are that goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shards {
    /// Its own alone.
    Own,
    /// Another version's as well, which keeps them: this one was republished.
    Shared,
    /// A run that was stopped began with it: what that left has to be looked for.
    Left,
}

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
    ///
    /// The markers go last, and only once no shard is left: they name the write when the manifest is gone, so that a run that was stopped, or to which a
    /// region did not answer, is finished by the next. A slot with nothing but stubs has no shards. `others` are the writes of the name's other
    /// retained versions.
    pub(super) async fn version(
        &mut self,
        path: &Path,
        walked: &WalkedSlot,
        confirmations: usize,
        shards: Shards,
        others: &Named,
    ) -> Result<()> {
        let slot = walked.slot;
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
        if let Some(manifest) = &manifest {
            self.mark(path, walked, &manifest.marker(digest), &firsts, confirmations).await?;
        }
        let is_begun = firsts.iter().any(|first| first.stub().is_some());
        let confirmed = self.stub(path, slot, digest, &firsts, confirmations).await?;
        let no_shard_left = match (shards, &manifest) {
            (Shards::Shared, _) => true,
            (Shards::Own, Some(manifest)) if !is_begun => {
                let named = self.shards(path, manifest).await;
                named && (!self.may_have_copies() || self.left_shards(path, walked, digest, Some(manifest), others).await)
            }
            (Shards::Own | Shards::Left, _) => self.left_shards(path, walked, digest, manifest.as_ref(), others).await,
        };
        if !no_shard_left {
            return Ok(());
        }
        for region in confirmed {
            if let Err(error) = self.rest_of_slot(path, slot, &region).await {
                self.report.problem(path.as_ref(), error);
            }
        }
        Ok(())
    }

    /// Whether shards may lie where no manifest names them: while a region leaves, whoever will have its shards is given copies. A purge, which says
    /// that nothing is left, looks in any case.
    fn may_have_copies(&self) -> bool {
        self.clocks.is_none() || self.inner.regions.departing().is_some()
    }

    /// Sees to it that markers stand where stubs will: best effort of writers, here they are what names the write until its shards are gone.
    async fn mark(&self, path: &Path, walked: &WalkedSlot, marker: &Marker, firsts: &[First], needed: usize) -> Result<()> {
        let marks = firsts.iter().map(|first| async {
            let index = first.region.index();
            if walked.marker == Some(*marker) && walked.in_region(index).is_some_and(|listed| listed.marked) {
                return Ok(first.votes);
            }
            self.inner.registers.mark_region(path, walked.slot, marker, index).await.map(|_| first.votes)
        });
        let marked = join_all(marks).await;
        if marked.iter().filter(|votes| matches!(votes, Ok(true))).count() >= needed {
            return Ok(());
        }
        let what = "too few regions take the marker that names a version's write until its shards are gone; it is kept for now";
        let error = Error::new(ErrorKind::Unavailable, what).with("needed", needed).with("slot", walked.slot);
        Err(firsts.iter().zip(marked).fold(error, |error, (first, marked)| match marked {
            Err(why) => error.with("region", format!("{}: {why}", first.region.name())),
            Ok(_) => error,
        }))
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
        // A run that was stopped left this; the manifest may be gone. Then its markers name the write.
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
