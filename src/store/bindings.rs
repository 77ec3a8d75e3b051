//! Bindings of streamed writes that nobody needs any more.
//!
//! A binding says which slot a write may be voted for in; whoever wants to delete the write's shards looks there first. It is needless
//!
//! - when the write became the version in that slot: its writer binds it to nothing further;
//! - when that slot is decided for another write, or collected, no region lists a shard of the write, and *given up* is decided at the next
//!   step. That one stays: a writer may still wake.
//!
//! **Why nothing is lost.** Shards are durable before a write is bound for the first time, and are discarded only by a writer that casts no further vote,
//! or by a collector that has given the write up. So a write without shards anywhere, in regions that have all answered, is one whose
//! writer has ended, or which was given up; one that is still under way has shards, and is left to the rules for orphans, grace and all. Should a
//! writer wake all the same: it can have a step that went decided once more, for the slot that was decided there, and loses that slot;
//! at the next step it finds that the write was given up.

use futures::TryStreamExt as _;
use object_store::path::Path;

use super::clocks::is_past;
use super::collect::Collector;
use super::versions::Found;
use crate::digest::Digest;
use crate::error::Result;
use crate::failpoint::failpoint;
use crate::format::binding::Binding;
use crate::format::logical::stored_path;
use crate::id::WriteId;
use crate::region::{Region, layout};
use crate::register::{Slot, WalkedRegister, WalkedSlot, check_junk, is_unreadable};

/// Slots of a write's register, from the newest on, among which one that is decided is looked for; a correct writer leaves at most one open.
const OPEN_LIMIT: usize = 4;

/// What became of the version that a binding was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The write is that version.
    Won,
    /// Another is, or it was collected.
    Lost,
    Open,
}

impl Collector<'_> {
    /// Deletes the bindings of streamed writes that ended long ago.
    pub(super) async fn bindings(&mut self) -> Result<()> {
        let folder = layout::streamed_writes();
        let mut names = self.inner.registers.walk(Some(&folder), None);
        while let Some(walked) = names.try_next().await? {
            if let Err(error) = self.binding_register(&walked).await {
                self.report.problem(walked.path.as_ref(), error);
            }
        }
        Ok(())
    }

    async fn binding_register(&mut self, walked: &WalkedRegister) -> Result<()> {
        let write_id = walked.path.filename().and_then(|name| name.parse::<WriteId>().ok());
        let Some(write_id) = write_id.filter(|_| self.is_grown(walked)) else { return Ok(()) };
        let Some(end) = self.needless_below(walked, write_id).await? else { return Ok(()) };
        self.report.bindings_deleted += 1;
        if self.options.dry_run {
            return Ok(());
        }
        let folder = layout::register_folder(&walked.path)?;
        for region in self.inner.regions.regions() {
            if let Err(error) = delete_needless(region, &folder, end).await {
                self.report.problem(walked.path.as_ref(), error);
            }
        }
        Ok(())
    }

    /// Whether all of a register is older than the grace age. What a quorum of regions does not have is as old as the others say.
    fn is_grown(&self, walked: &WalkedRegister) -> bool {
        let Some(clocks) = &self.clocks else { return false };
        let stamps = || {
            let regions = walked.slots.iter().flat_map(|slot| &slot.regions);
            regions.filter_map(|region| Some((region.region, region.entries_modified_ms?)))
        };
        let age = clocks.age_ms(stamps()).or_else(|| if self.is_rest(walked) { clocks.age_of_rest_ms(stamps()) } else { None });
        age.is_some_and(|age| is_past(age, self.options.orphan_grace_seconds))
    }

    /// Whether a quorum of regions answered and has nothing of the register.
    fn is_rest(&self, walked: &WalkedRegister) -> bool {
        let has_none = |index: u8| !walked.unreachable.contains(&index) && walked.slots.iter().all(|slot| slot.in_region(index).is_none());
        let without = self.inner.regions.voters().iter().filter(|region| has_none(region.index())).count();
        without >= usize::from(self.inner.regions.quorums().classic())
    }

    /// The steps below this one are needless; `None` when none is.
    async fn needless_below(&self, walked: &WalkedRegister, write_id: WriteId) -> Result<Option<Slot>> {
        for slot in walked.slots.iter().take(OPEN_LIMIT) {
            let Some(decided) = self.inner.registers.at(&walked.path, slot.slot).await? else { continue };
            let binding = Binding::decode(&decided.value, *self.inner.regions.lake(), write_id, slot.slot)?;
            let Some(next) = slot.slot.checked_add(1) else { return Ok(None) };
            let end = match self.outcome(&binding, write_id).await? {
                // A writer whose write is decided binds it to nothing further.
                Some(Outcome::Won) => return Ok(Some(Slot::MAX)),
                Some(Outcome::Open) => return Ok(None),
                Some(Outcome::Lost) => next,
                None => slot.slot,
            };
            if walked.slots.iter().all(|slot| slot.slot >= end) || !self.is_without_shards(write_id).await {
                return Ok(None);
            }
            let is_given_up = binding == Binding::Abort
                || self.options.dry_run
                || self.inner.decide_binding(write_id, end, &Binding::Abort).await? == Binding::Abort;
            return Ok(is_given_up.then_some(end));
        }
        self.is_needless_rest(walked, write_id).await.map(|is_needless| is_needless.then_some(Slot::MAX))
    }

    /// Whether a register in which nothing is decided is what a region kept that was down when the rest of it was deleted.
    async fn is_needless_rest(&self, walked: &WalkedRegister, write_id: WriteId) -> Result<bool> {
        if !self.is_rest(walked) {
            return Ok(false);
        }
        for slot in &walked.slots {
            for region in &slot.regions {
                let Some(binding) = self.binding_in(walked, slot, region.region, write_id).await? else { return Ok(false) };
                match self.outcome(&binding, write_id).await? {
                    Some(Outcome::Won) => return Ok(true),
                    Some(Outcome::Open) => return Ok(false),
                    Some(Outcome::Lost) | None => {}
                }
            }
        }
        Ok(self.is_without_shards(write_id).await)
    }

    /// The binding that one region voted for at a step.
    async fn binding_in(&self, walked: &WalkedRegister, slot: &WalkedSlot, region: u8, write_id: WriteId) -> Result<Option<Binding>> {
        let registers = &self.inner.registers;
        let log = match registers.inspect(&walked.path, slot.slot, &Digest::of(&[]), region, 1).await {
            Ok(inspected) => inspected.log,
            Err(error) if is_unreadable(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(digest) = log.learned().or_else(|| log.accepted().map(|(_, digest)| digest)) else { return Ok(None) };
        let Some(value) = registers.inspect(&walked.path, slot.slot, &digest, region, 1).await?.value else { return Ok(None) };
        Binding::decode(&value, *self.inner.regions.lake(), write_id, slot.slot).map(Some)
    }

    /// What became of the version that a binding is for; `None` when the write was given up there.
    async fn outcome(&self, binding: &Binding, write_id: WriteId) -> Result<Option<Outcome>> {
        let Binding::Bind { path, slot } = binding else { return Ok(None) };
        Ok(Some(match self.inner.version_in(&stored_path(path)?, *slot).await? {
            Found::Version(version) if version.manifest.write_id == write_id => Outcome::Won,
            Found::Version(_) | Found::Collected => Outcome::Lost,
            Found::Undecided => Outcome::Open,
        }))
    }

    /// Whether every region says that it has no shard of a write.
    async fn is_without_shards(&self, write_id: WriteId) -> bool {
        let folder = layout::shard_folder(&write_id);
        for region in self.inner.regions.regions() {
            if !matches!(region.list(&folder, None).try_next().await, Ok(None)) {
                return false;
            }
        }
        true
    }
}

/// Deletes what one region lists of a register below step `end`; of a list without end, only so much as a register can have.
async fn delete_needless(region: &Region, folder: &Path, end: Slot) -> Result<()> {
    let mut keys = region.list(folder, None);
    let mut listed = 0;
    while let Some(meta) = keys.try_next().await? {
        listed += 1;
        check_junk(region, listed)?;
        if layout::parse_register_key(&meta.location).is_none_or(|name| name.slot < end) {
            failpoint!("collect.before-binding");
            region.delete(&meta.location).await?;
            failpoint!("collect.after-binding");
        }
    }
    Ok(())
}
