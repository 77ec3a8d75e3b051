//! Which slot of a register is the newest: by the lists of a classic quorum, and not by what single regions make up.
//!
//! **Why lists of a quorum suffice.** What is decided has the votes of Qc regions at least. Any Qc lists that were begun after it have an honest
//! one of those among them, and no honest region leaves out what it holds. So the highest slot of any Qc lists is no lower than the newest decided one.
//!
//! **Slots that are made up.** It may be higher: a list is no proof, and a region can name as many slots as it likes. Before a reader steps down
//! from a slot, the regions that list it are passed over, if nobody shows an authentic entry or marker of it: what they list has nothing
//! behind it, so that their word is not taken for any other slot either. *Their lists count no longer; Qc others must have listed.* By the
//! sentence before that is as good a quorum as the first, whoever was passed over, rightly or not. An honest region whose one entry
//! is rotten may be the only one in which two quorums meet, and without it they are not Qc: then nobody is passed over, and the slot is read as any other,
//! which takes Qc logs of it that can be read. Each pass leaves a region out, at most n - Qc of them, so that b liars cost b rounds more, and not one for each slot that they invent.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use object_store::path::Path;

use super::core::Rules;
use super::patience::Patience;
use super::read::{Outcome, Reading};
use super::{Registers, Slot};
use crate::error::{Error, ErrorKind, Result};
use crate::region::Region;
use crate::region::layout::{self, RegisterItem};

/// Markers of one slot in one region that are looked at; correct writers make one.
const MARKER_LIMIT: usize = 16;
/// Keys in a row that no layout built, after which a list is not read on.
const JUNK_LIMIT: usize = 10_000;

/// The newest slot of a register in one region's list.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// Which of the voters lists it.
    pub(super) voter: usize,
    pub(super) slot: Slot,
    /// One more than the highest sequence number; a hint.
    pub(super) entries: u32,
    pub(super) markers: Vec<String>,
}

/// The voters that are passed over in one search for the newest slot.
#[derive(Debug, Default)]
pub(super) struct Search {
    passed_over: BTreeSet<usize>,
    /// The others did not answer: nobody is passed over any more.
    is_over: bool,
}

impl Search {
    /// Passes the voters over that list a slot with nothing behind it, if a quorum is left without them. Whether there are any.
    fn pass_over(&mut self, unfounded: &BTreeSet<usize>, rules: &Rules) -> bool {
        let all: BTreeSet<usize> = self.passed_over.union(unfounded).copied().collect();
        let grows = !self.is_over && all.len() > self.passed_over.len() && rules.regions.saturating_sub(all.len()) >= rules.classic;
        if grows {
            self.passed_over = all;
        }
        grows
    }

    fn give_up(&mut self) {
        self.passed_over.clear();
        self.is_over = true;
    }
}

impl Registers {
    /// The highest slot below `below` that somebody began, and what its logs prove; `None` when there is none, or it is not above `known`,
    /// which is decided.
    pub(super) async fn newest_begun(
        &self,
        path: &Path,
        below: Option<Slot>,
        known: Option<Slot>,
        search: &mut Search,
    ) -> Result<Option<(Reading, Result<Outcome>)>> {
        let speculate = known.is_none() && below.is_none();
        loop {
            let mut reading = match self.newest_slot(path, below, speculate, &search.passed_over).await {
                Ok(Some(reading)) => reading,
                Ok(None) => return Ok(None),
                Err(_) if !search.passed_over.is_empty() => {
                    search.give_up();
                    continue;
                }
                Err(error) => return Err(error),
            };
            // What was decided stays decided, whatever the regions list now.
            if known.is_some_and(|known| known >= reading.slot()) {
                return Ok(None);
            }
            let outcome = self.learn(&mut reading).await;
            if !search.pass_over(&reading.unfounded(), &self.rules) {
                return Ok(Some((reading, outcome)));
            }
        }
    }

    /// Finds the highest slot below `below` with any entry, by the lists of a classic quorum at least, none of which is of a region that is passed over.
    ///
    /// With `speculate`, entry 0 of slot 0 is fetched beside each list, so that a register with just that slot takes one round trip.
    async fn newest_slot(
        &self,
        path: &Path,
        below: Option<Slot>,
        speculate: bool,
        passed_over: &BTreeSet<usize>,
    ) -> Result<Option<Reading>> {
        layout::register_folder(path)?;
        let mut first = Reading::new(self.slot_name(path, 0));
        let asked = first.acceptors.iter().cloned().enumerate().filter(|(voter, _)| !passed_over.contains(voter));
        let mut answers: FuturesUnordered<_> = asked
            .map(|(voter, mut acceptor)| async move {
                let region = Arc::clone(acceptor.region());
                let (head, read) = tokio::join!(head(&region, voter, path, below, None), async {
                    if speculate { acceptor.read_first().await } else { Ok(()) }
                });
                (voter, acceptor, head, read)
            })
            .collect();
        let mut patience = Patience::begin();
        let (mut heads, mut lists) = (Vec::new(), 0);
        while let Some((voter, acceptor, head, read)) = patience.wait(answers.next()).await {
            // A region that lists but cannot give entry 0 still says which slot is its newest.
            let failure = match head {
                Ok(head) => {
                    lists += 1;
                    heads.extend(head);
                    read.err()
                }
                Err(error) => Some(error),
            };
            first.note(voter, acceptor, failure);
            if lists < self.lists_needed() {
                continue;
            }
            let newest = heads.iter().map(|head| head.slot).max();
            if newest != Some(0) || !speculate {
                break;
            }
            first.take_heads(&heads, &self.regions);
            if matches!(first.judge(self, true)?, Some(Outcome::Decided(_))) {
                break;
            }
            patience.end_soon();
        }
        if lists < self.lists_needed() {
            return Err(first.unavailable("too few regions answered to learn the newest version"));
        }
        let Some(slot) = heads.iter().map(|head| head.slot).max() else { return Ok(None) };
        let mut reading = if slot == 0 { first } else { Reading::new(self.slot_name(path, slot)) };
        reading.take_heads(&heads, &self.regions);
        Ok(Some(reading))
    }

    /// How many regions have to list a register before its newest slot is known.
    fn lists_needed(&self) -> usize {
        #[cfg(test)]
        if super::mutant::is_on(super::mutant::Mutant::OneListIsEnough) {
            return 1;
        }
        self.rules.classic
    }
}

/// The newest slot below `below` in one region's list (`only` that one, if given); reads no further than it needs.
pub(super) async fn head(region: &Region, voter: usize, path: &Path, below: Option<Slot>, only: Option<Slot>) -> Result<Option<Head>> {
    let folder = layout::register_folder(path)?;
    let after = below.map(|below| layout::entry_key(path, below, u32::MAX)).transpose()?;
    let mut names = region.list(&folder, after.as_ref());
    let mut head: Option<Head> = None;
    let mut skipped = 0;
    while let Some(meta) = names.next().await {
        let meta = meta?;
        // What was not built by the layout is nobody's vote.
        let name = layout::parse_register_key(&meta.location).filter(|name| name.path == *path);
        let Some(name) = name.filter(|name| below.is_none_or(|below| name.slot < below)) else {
            skipped += 1;
            check_junk(region, skipped)?;
            continue;
        };
        if only.is_some_and(|only| only != name.slot) || head.as_ref().is_some_and(|head| head.slot != name.slot) {
            break;
        }
        let head = head.get_or_insert(Head { voter, slot: name.slot, entries: 0, markers: Vec::new() });
        match name.item {
            RegisterItem::Entry(seq) => head.entries = head.entries.max(seq.saturating_add(1)),
            RegisterItem::Marker(text) if head.markers.len() < MARKER_LIMIT => head.markers.push(text),
            RegisterItem::Marker(_) => break,
        }
    }
    Ok(head)
}

/// Refuses a list with so many keys that nobody made: it may have no end.
pub(crate) fn check_junk(region: &Region, skipped: usize) -> Result<()> {
    if skipped <= JUNK_LIMIT {
        return Ok(());
    }
    let what = "a region lists more keys that nothing here makes than can have come there by accident; look at what wrote them";
    Err(Error::new(ErrorKind::Corrupt, what).with("region", region.name()).with("limit", JUNK_LIMIT))
}
