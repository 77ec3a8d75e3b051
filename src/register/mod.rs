//! Write-once names decided by a quorum of regions, with no coordinator.
//!
//! Every version slot of every path is one consensus instance. [`core`] holds the rules, without I/O; the driver asks regions, which
//! offer create-if-absent, get and list, and nothing else.
//!
//! **Limits.** A region whose create-if-absent is not atomic breaks this, and so does one that forgets what it said, beyond the
//! profile's `liars`. Holders of a writer key are trusted to follow the rules: fewer than all of them is not enough to hold one back.

mod acceptor;
pub mod core;
mod driver;
mod establish;
mod lanes;
mod list;
#[cfg(test)]
pub(crate) mod mutant;
mod newest;
mod patience;
mod read;
mod tasks;
mod teach;
mod walk;

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{Either, join_all, select};
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use tokio::sync::Notify;

pub use list::Listed;
pub(crate) use newest::check_junk;
pub use teach::{Inspected, Taught, is_unreadable};
pub use walk::{SLOT_LIMIT, SlotInRegion, WalkedRegister, WalkedSlot};

use self::acceptor::SlotName;
use self::core::{Ballot, Rules};
use self::driver::Proposer;
use self::lanes::Lag;
use self::tasks::Tasks;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::format::entry::{Marker, VALUE_LIMIT_BYTES};
use crate::key::PrivateKey;
use crate::region::{Region, RegionSet, layout};

/// The number of a version of a name: 0, 1, 2, …
pub type Slot = u64;

/// What a slot was decided for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The slot.
    pub slot: Slot,
    /// The decided value.
    pub value: Bytes,
    /// Plain BLAKE3 of the value.
    pub digest: Digest,
}

/// How a slot was closed: nothing that was begun before can still be completed unseen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// It is decided.
    Decided(Decided),
    /// Nothing was decided, and nothing can be at a ballot below this one, which a quorum has promised.
    Undecided(Ballot),
    /// A quorum shows nothing of it, and nobody anything authentic: there is nothing to close, and nothing was written.
    NotBegun,
}

/// How a proposal ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proposed {
    /// Our value is decided.
    Won,
    /// Another value is.
    Lost(Decided),
}

/// Makes the marker of a decided value, if the value is one that is understood.
pub type Describe = fn(&Decided) -> Option<Marker>;

/// The registers of a lake. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Registers {
    regions: Arc<RegionSet>,
    writer: Option<Arc<PrivateKey>>,
    rules: Rules,
    tasks: Tasks,
    describe: Option<Describe>,
}

impl Registers {
    /// Registers in `regions`. Without a writer's key they can be read, but neither proposed to nor resolved.
    pub fn new(regions: Arc<RegionSet>, writer: Option<Arc<PrivateKey>>) -> Self {
        let rules = Rules::from(regions.quorums());
        Self { regions, writer, rules, tasks: Tasks::new(), describe: None }
    }

    /// With a way to write markers for slots that a reader had to resolve.
    #[must_use]
    pub fn describing(self, describe: Describe) -> Self {
        Self { describe: Some(describe), ..self }
    }

    /// The newest decided version of `path`; `None` when there never was one. Linearizable.
    ///
    /// Cost: one LIST a region, with a GET of the first entry beside it; a second round of GETs when there is more than one slot.
    /// A slot that a stopped writer left open takes classic ballots to resolve.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when fewer than a classic quorum of regions answers, or a slot is open and there is no writer's key.
    pub async fn newest(&self, path: &Path) -> Result<Option<Decided>> {
        self.newest_hinted(path, None).await
    }

    /// As [`Registers::newest`], in one round of LISTs when `hint`, a decided version, still is the newest.
    pub async fn newest_hinted(&self, path: &Path, hint: Option<Decided>) -> Result<Option<Decided>> {
        self.believed(self.find_newest(path, hint)).await
    }

    /// The decided value of one slot; `None` when nothing was decided there when the call began.
    ///
    /// Cost: one round of GETs when the fast ballot decided it.
    ///
    /// # Errors
    /// As [`Registers::newest`]; also when the version was collected, which is never *not found*.
    pub async fn at(&self, path: &Path, slot: Slot) -> Result<Option<Decided>> {
        self.believed(self.find_at(path, slot)).await
    }

    /// As [`Registers::at`], whether or not the regions are the lake's still: for slots that nobody decides but the regions of this very
    /// configuration, in these lives.
    ///
    /// # Errors
    /// As [`Registers::at`], but for the lease.
    pub async fn at_without_lease(&self, path: &Path, slot: Slot) -> Result<Option<Decided>> {
        self.find_at(path, slot).await
    }

    /// As [`Registers::at`], but leaves no ballot behind that may still be completed: *undecided* means that no proposal made so far, by
    /// whomever and however late its votes arrive, is decided without being seen by every quorum that answered here. Regions that
    /// came later than an entry of the slot are told, so that they count in it from then on.
    ///
    /// *A slot that nobody began is left as it is*, whoever lists it: a promise would make real what a region made up, and a name has only so
    /// many slots without a decision before it cannot be read. It is as a slot that no list shows (`docs/decisions/0011-membership.md`).
    ///
    /// Cost: as [`Registers::at`], and a classic ballot where something was begun and nothing is decided.
    ///
    /// # Errors
    /// As [`Registers::at`]; [`ErrorKind::Unavailable`] without a writer's key where nothing is decided.
    pub async fn close(&self, path: &Path, slot: Slot) -> Result<Closed> {
        self.believed(self.find_closed(path, slot)).await
    }

    /// Whether a slot in which nothing is decided is as [`Registers::close`] would leave it, but for a higher ballot: a classic quorum
    /// promised the highest ballot there is, nobody has voted, and every region that answers has its say. Whoever asks again and again does
    /// not make the logs longer.
    ///
    /// Unlike after [`Registers::close`], a proposer who got those promises may still complete what it began.
    ///
    /// Cost: the logs of all regions are read.
    ///
    /// # Errors
    /// Those of reading are none: where fewer than a quorum answers, it is not known, `false`. [`ErrorKind::Unavailable`] when the lake's
    /// regions have changed since it was opened.
    pub async fn is_promised(&self, path: &Path, slot: Slot) -> Result<bool> {
        self.believed(self.find_promised(path, slot)).await
    }

    /// What `read` learns, if the regions that it was learned from are known to be the lake's still. The look for that is renewed beside
    /// the reading, early enough that it seldom costs time.
    async fn believed<T>(&self, read: impl Future<Output = Result<T>>) -> Result<T> {
        let (found, ()) = tokio::join!(read, self.regions.renew());
        let found = found?;
        self.regions.confirm().await?;
        Ok(found)
    }

    /// Has `value` decided at `slot`, or learns what was. The caller knows that `slot - 1` is decided, by another write.
    ///
    /// Cost: one round trip of one create a region when all is well. Values must differ between writes: two proposals of the same
    /// bytes at the same slot are taken for one. Requests to slow regions go on after the answer ([`Registers::quiesce`]).
    ///
    /// # Errors
    /// [`ErrorKind::OutcomeUnknown`] when it cannot be learned what was decided: the value may be decided now or later.
    /// [`ErrorKind::Permission`] without a writer's key, [`ErrorKind::InvalidInput`] for a path or value over its limit,
    /// [`ErrorKind::Unavailable`] when the lake's regions have changed since it was opened: nothing was sent.
    pub async fn propose(&self, path: &Path, slot: Slot, value: Bytes) -> Result<Proposed> {
        self.propose_at(self.slot_name(path, slot), value).await
    }

    /// As [`Registers::propose`]. As soon as a region shows that the slot is taken, it is also looked which version is the newest, in the
    /// same round trip in which is learned who took the slot: whoever lost it knows where to go on.
    ///
    /// The newest version is given only beside a slot that was lost, and only if it is plainly decided.
    ///
    /// Cost: as [`Registers::propose`]; when the slot is taken, that of [`Registers::newest`] on top, beside it.
    pub async fn propose_looking(&self, path: &Path, slot: Slot, value: Bytes) -> (Result<Proposed>, Option<Decided>) {
        let own = Digest::of(&value);
        let name = self.slot_name(path, slot);
        let taken = Arc::clone(&name);
        let proposing = pin!(self.propose_at(name, value));
        let looking = pin!(async {
            taken.taken.notified().await;
            // Without an answer, whoever needs one asks again.
            self.believed(self.look(path, slot)).await.ok().flatten().filter(|newest| newest.slot >= slot)
        });
        match select(proposing, looking).await {
            Either::Left((outcome, looking)) => {
                let lost = match &outcome {
                    Ok(Proposed::Won) => false,
                    Ok(Proposed::Lost(_)) => true,
                    Err(error) => is_collected(error),
                };
                // It may have been lost without a region that said so at once.
                taken.taken.notify_one();
                (outcome, if lost { looking.await } else { None })
            }
            // The slot itself is decided: what is still under way changes nothing about it.
            Either::Right((Some(newest), _)) if newest.slot == slot => {
                (Ok(if newest.digest == own { Proposed::Won } else { Proposed::Lost(newest.clone()) }), Some(newest))
            }
            Either::Right((newest, proposing)) => (proposing.await, newest),
        }
    }

    async fn propose_at(&self, name: Arc<SlotName>, value: Bytes) -> Result<Proposed> {
        let path = &name.path;
        let writer = self.writer_key(path)?;
        layout::register_folder(path)?;
        if value.len() > VALUE_LIMIT_BYTES {
            return Err(Error::new(ErrorKind::InvalidInput, "a manifest is too long for a register")
                .with("path", path)
                .with("bytes", value.len()));
        }
        self.regions.confirm().await?;
        let own = Digest::of(&value);
        let proposer = Proposer::new(Arc::clone(&name), self.rules, writer, self.tasks.clone(), Some(value.clone()));
        let decided = proposer.propose(value).await?;
        // What was counted is believed only while the regions it was counted of are known to be the lake's.
        self.regions.confirm().await.map_err(|error| {
            Error::new(ErrorKind::OutcomeUnknown, "the lake's regions may have changed during this write; open the lake again and look")
                .with("path", path)
                .caused_by(error)
        })?;
        Ok(if decided.digest == own { Proposed::Won } else { Proposed::Lost(decided) })
    }

    /// Writes the decided marker of `slot` to all regions, in the background; best effort. Only for values known to be decided.
    ///
    /// The task is started when this returns; [`Registers::quiesce`] waits for it.
    pub async fn mark(&self, path: &Path, slot: Slot, marker: &Marker) {
        self.start_marking(path, slot, marker);
    }

    fn start_marking(&self, path: &Path, slot: Slot, marker: &Marker) {
        let Some(writer) = &self.writer else { return };
        let signed = marker.sign(*self.regions.lake(), self.regions.configuration(), path.as_ref(), slot, writer);
        let Ok(key) = layout::marker_key(path, slot, &signed.to_text()) else { return };
        let here = self.regions.regions().iter().filter(|region| self.has_room_for_marker(path, region));
        let regions: Vec<Arc<Region>> = here.cloned().collect();
        self.tasks.spawn(async move {
            // A marker that is missing somewhere costs a reader time, nothing else.
            join_all(regions.iter().map(|region| async {
                failpoint!("register.before-marker");
                let _ = region.create(&key, Bytes::new().into()).await;
                failpoint!("register.after-marker");
            }))
            .await;
        });
    }

    /// All names below `prefix` (whole segments; the lake when `None`) that are greater than `after`, in the order of their bytes, each
    /// with its newest slot. A name whose newest slot was never decided is listed as well: resolve it with [`Registers::newest`].
    ///
    /// Cost: one LIST a region; O((names + retained versions) / page) requests, and memory for one page a region.
    ///
    /// # Errors
    /// The stream ends with [`ErrorKind::Unavailable`] when fewer than a classic quorum of regions answers to its end.
    pub fn list(&self, prefix: Option<&Path>, after: Option<&Path>) -> BoxStream<'static, Result<Listed>> {
        let names = list::list(Arc::clone(&self.regions), self.rules, prefix, after);
        let confirmed = || {
            let regions = Arc::clone(&self.regions);
            stream::once(async move { regions.confirm().await }).filter_map(|sure| std::future::ready(sure.err().map(Err)))
        };
        confirmed().chain(names).chain(confirmed()).boxed()
    }

    /// Every register below `prefix` (whole segments; all objects' when `None`; below `layout::SYSTEM_SEGMENT`, the lake's own) that is
    /// greater than `after`, in the order of the paths' bytes, each with all its slots, newest first, and what every region lists of them.
    ///
    /// Of a register with more than [`SLOT_LIMIT`] slots the newest are given ([`WalkedRegister::cut_at`]).
    ///
    /// Cost: as [`Registers::list`], and a signature check a marked slot; memory for one page and one register a region.
    ///
    /// # Errors
    /// The stream ends with [`ErrorKind::Unavailable`] when fewer than a classic quorum of regions lists to the end.
    pub fn walk(&self, prefix: Option<&Path>, after: Option<&Path>) -> BoxStream<'static, Result<WalkedRegister>> {
        walk::walk(Arc::clone(&self.regions), self.rules, prefix, after)
    }

    /// As [`Registers::walk`], but a register with more than [`SLOT_LIMIT`] slots comes in pieces, newest first, and nothing is left out.
    pub fn walk_all(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<WalkedRegister>> {
        let (regions, rules) = (Arc::clone(&self.regions), self.rules);
        let pieces = move |register: WalkedRegister| {
            let regions = Arc::clone(&regions);
            stream::try_unfold(Some(register), move |piece| {
                let regions = Arc::clone(&regions);
                async move {
                    let Some(piece) = piece else { return Ok(None) };
                    let older = match piece.cut_at {
                        Some(slot) => walk::walk_older(regions, rules, &piece.path, slot).await?,
                        None => None,
                    };
                    Ok::<_, Error>(Some((piece, older)))
                }
            })
        };
        self.walk(prefix, None).map_ok(pieces).try_flatten().boxed()
    }

    /// As [`Registers::walk`], of one path alone; `None` when no region lists anything of it. Cost: one LIST a region.
    ///
    /// # Errors
    /// As [`Registers::walk`]; [`ErrorKind::Unsupported`] when it has more slots than a walk shows.
    pub async fn walk_one(&self, path: &Path) -> Result<Option<WalkedRegister>> {
        walk::walk_one(Arc::clone(&self.regions), self.rules, path, Lag::ONE).await
    }

    /// As [`Registers::walk_one`], but waits for slow regions as long as [`Registers::walk`] does: for who has to hear every region that answers.
    ///
    /// # Errors
    /// As [`Registers::walk_one`].
    pub async fn walk_one_patiently(&self, path: &Path) -> Result<Option<WalkedRegister>> {
        walk::walk_one(Arc::clone(&self.regions), self.rules, path, Lag::LONG).await
    }

    /// Waits until every request that outlived its answer has ended.
    pub async fn quiesce(&self) {
        self.tasks.quiesce().await;
    }

    fn slot_name(&self, path: &Path, slot: Slot) -> Arc<SlotName> {
        Arc::new(SlotName { regions: Arc::clone(&self.regions), path: path.clone(), slot, taken: Notify::new() })
    }
}

/// The place of a slot that was collected, in errors; no other error speaks of it.
const COLLECTED_SLOT: &str = "collected slot";

fn collected(name: &SlotName) -> Error {
    Error::new(ErrorKind::Unavailable, "this version was collected; a newer one has taken its place")
        .with("path", &name.path)
        .with(COLLECTED_SLOT, name.slot)
}

/// Whether an error of a register says that the slot was decided, and collected since.
pub fn is_collected(error: &Error) -> bool {
    error.kind() == ErrorKind::Unavailable && error.context().iter().any(|(key, _)| *key == COLLECTED_SLOT)
}

/// Names the regions that failed, each with what it said.
fn blame<'a>(error: Error, failures: impl Iterator<Item = (&'a Arc<Region>, Option<&'a Error>)>) -> Error {
    failures
        .filter_map(|(region, failure)| failure.map(|failure| (region, failure)))
        .fold(error, |error, (region, failure)| error.with("region", format!("{}: {failure}", region.name())))
}

#[cfg(test)]
mod tests;
