//! Reading: what was decided at a slot, of all that regions hold of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use object_store::path::Path;

use super::acceptor::{Acceptor, SlotName};
use super::core::{Log, Standing, is_promised, standing};
use super::driver::Proposer;
use super::newest::{Head, Search, head};
use super::patience::Patience;
use super::{Closed, Decided, Registers, Slot, blame, collected};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::SignedMarker;
use crate::region::RegionSet;
use crate::region::layout;

/// Undecided slots that a reader steps over, one LIST each; correct proposers leave at most one.
const UNDECIDED_LIMIT: usize = 64;

/// What is known of a slot while it is read.
pub(super) struct Reading {
    name: Arc<SlotName>,
    pub(super) acceptors: Vec<Acceptor>,
    errors: Vec<Option<Error>>,
    /// The digest that an authentic marker names.
    marked: Option<Digest>,
    expected: u32,
    /// Which of the voters list the slot.
    listed: BTreeSet<usize>,
    /// It may have been collected: one region that was told is not believed before a quorum has answered.
    may_be_collected: bool,
}

/// What came out.
pub(super) enum Outcome {
    Decided(Decided),
    Undecided,
    Open,
}

impl Registers {
    pub(super) async fn find_newest(&self, path: &Path, hint: Option<Decided>) -> Result<Option<Decided>> {
        let (mut below, known, mut search) = (None, hint.as_ref().map(|hint| hint.slot), Search::default());
        for _ in 0..UNDECIDED_LIMIT {
            let Some((reading, outcome)) = self.newest_begun(path, below, known, &mut search).await? else { return Ok(hint) };
            let slot = reading.slot();
            if let Some(decided) = self.settle(reading, outcome?).await? {
                return Ok(Some(decided));
            }
            below = Some(slot);
        }
        Err(Error::new(ErrorKind::Unavailable, "too many slots without a decision; a region may be making them up").with("path", path))
    }

    /// The newest version, if what regions hold shows it at once: nothing is resolved.
    pub(super) async fn look(&self, path: &Path, slot: Slot) -> Result<Option<Decided>> {
        // Who looks behind slot 0 does not ask for its entry as well.
        let known = slot.checked_sub(1);
        let Some((_, outcome)) = self.newest_begun(path, None, known, &mut Search::default()).await? else { return Ok(None) };
        match outcome? {
            Outcome::Decided(decided) => Ok(Some(decided)),
            Outcome::Undecided | Outcome::Open => Ok(None),
        }
    }

    pub(super) async fn find_at(&self, path: &Path, slot: Slot) -> Result<Option<Decided>> {
        layout::register_folder(path)?;
        let mut reading = Reading::of_any(self.slot_name(path, slot));
        let outcome = self.learn(&mut reading).await?;
        self.settle(reading, outcome).await
    }

    /// As [`Self::find_at`], but a slot that was not decided is taken away from whoever began to write there: a quorum promises that
    /// no ballot so far can be completed any more. Or what they began is completed.
    pub(super) async fn find_closed(&self, path: &Path, slot: Slot) -> Result<Closed> {
        layout::register_folder(path)?;
        let mut reading = Reading::of_any(self.slot_name(path, slot));
        if let Outcome::Decided(decided) = self.read_on(&mut reading).await? {
            return Ok(Closed::Decided(decided));
        }
        if !reading.is_begun() {
            self.hear_out(&mut reading).await;
            if let Some(Outcome::Decided(decided)) = reading.judge(self, false)? {
                return Ok(Closed::Decided(decided));
            }
            if reading.is_not_begun(self.rules.classic) {
                return Ok(Closed::NotBegun);
            }
        }
        self.resolve(reading).await
    }

    /// Reads the logs that were not read to their ends yet, those that failed once more, and looks for a marker: so that a slot which one region
    /// alone knows of is not taken for one that nobody began, if that one answers hardly later than the others.
    async fn hear_out(&self, reading: &mut Reading) {
        let unread = reading.acceptors.iter().cloned().enumerate().filter(|(_, acceptor)| !acceptor.is_complete());
        let reads = unread.map(|(index, mut acceptor)| async move {
            let failure = acceptor.read(1).await.err();
            (index, acceptor, failure)
        });
        let mut answers: FuturesUnordered<_> = reads.collect();
        let mut patience = Patience::begin();
        if reading.silent() >= self.rules.classic {
            patience.end_soon();
        }
        while let Some((index, acceptor, failure)) = patience.wait(answers.next()).await {
            reading.note(index, acceptor, failure);
        }
        drop(answers);
        if !reading.is_begun() {
            reading.find_marker(&self.regions).await;
        }
    }

    pub(super) async fn find_promised(&self, path: &Path, slot: Slot) -> Result<bool> {
        layout::register_folder(path)?;
        let mut acceptors = Reading::new(self.slot_name(path, slot)).acceptors;
        let mut patience = Patience::begin();
        let read = async |(at, acceptor): (usize, &mut Acceptor)| acceptor.read(1).await.ok().map(|_| at);
        let mut reads: FuturesUnordered<_> = acceptors.iter_mut().enumerate().map(read).collect();
        let mut answered = Vec::new();
        // Who does not answer soon after a quorum has is as one that is down: to leave a slot alone draws no conclusion.
        while let Some(at) = patience.wait(reads.next()).await {
            answered.extend(at);
            if answered.len() >= usize::from(self.regions.quorums().classic()) {
                patience.end_soon();
            }
        }
        drop(reads);
        let seen: Vec<_> = answered.iter().filter_map(|at| acceptors.get(*at)).map(Acceptor::log).collect();
        Ok(is_promised(&self.rules, &seen))
    }

    /// What the logs of a slot prove; they are read only if what is known of them does not suffice.
    pub(super) async fn learn(&self, reading: &mut Reading) -> Result<Outcome> {
        match reading.judge(self, true)? {
            Some(outcome) => Ok(outcome),
            None => self.read_on(reading).await,
        }
    }

    /// What was decided, by the outcome of reading; resolves the slot if that does not tell.
    async fn settle(&self, reading: Reading, outcome: Outcome) -> Result<Option<Decided>> {
        match outcome {
            Outcome::Decided(decided) => Ok(Some(decided)),
            Outcome::Undecided => Ok(None),
            Outcome::Open => match self.resolve(reading).await? {
                Closed::Decided(decided) => Ok(Some(decided)),
                Closed::Undecided(_) | Closed::NotBegun => Ok(None),
            },
        }
    }

    /// Reads all logs of the slot until they prove something.
    async fn read_on(&self, reading: &mut Reading) -> Result<Outcome> {
        let expected = reading.expected;
        let requests = reading.acceptors.iter().cloned().enumerate().map(|(index, mut acceptor)| async move {
            let failure = acceptor.read(expected).await.err();
            (index, acceptor, failure)
        });
        let mut answers: FuturesUnordered<_> = requests.collect();
        let mut patience = Patience::begin();
        let mut seen = 0;
        while let Some((index, acceptor, failure)) = patience.wait(answers.next()).await {
            seen += usize::from(failure.is_none());
            reading.note(index, acceptor, failure);
            if let Some(outcome) = reading.judge(self, false)?
                && (seen >= self.rules.classic || !reading.may_be_collected)
            {
                return Ok(outcome);
            }
            if seen >= self.rules.classic && self.writer.is_some() {
                patience.end_soon();
            }
        }
        if seen < self.rules.classic {
            // What one of them was told is all that there is to know then.
            let outcome = reading.judge(self, false)?;
            return outcome.ok_or_else(|| reading.unavailable("too few regions answered to learn what was decided"));
        }
        if reading.marked.is_none() {
            reading.find_marker(&self.regions).await;
        }
        Ok(reading.judge(self, false)?.unwrap_or(Outcome::Open))
    }

    async fn resolve(&self, reading: Reading) -> Result<Closed> {
        let Some(writer) = self.writer.clone() else {
            return Err(reading.unavailable(
                "a version is neither decided nor undecided by the regions that answer, and resolving it takes a writer's key",
            ));
        };
        let name = Arc::clone(&reading.name);
        let proposer = Proposer::new(Arc::clone(&name), self.rules, writer, self.tasks.clone(), None);
        let proposer = proposer.knowing(reading.acceptors, reading.errors);
        let closed = proposer.resolve().await.map_err(|error| match error.kind() {
            // A reader has written nothing of its own.
            ErrorKind::OutcomeUnknown => {
                Error::new(ErrorKind::Unavailable, "a version that a stopped writer left open could not be resolved").caused_by(error)
            }
            _ => error,
        })?;
        if let Closed::Decided(decided) = &closed
            && let Some(marker) = self.describe.and_then(|describe| describe(decided))
            // A marker is believed by everybody, for ever: it is not made of what stale regions say.
            && self.regions.confirm().await.is_ok()
        {
            self.start_marking(&name.path, decided.slot, &marker);
        }
        Ok(closed)
    }
}

impl Reading {
    pub(super) fn new(name: Arc<SlotName>) -> Self {
        let acceptors: Vec<_> = name.regions.voters().iter().map(|region| Acceptor::new(Arc::clone(&name), Arc::clone(region))).collect();
        let errors = acceptors.iter().map(|_| None).collect();
        Self { name, acceptors, errors, marked: None, expected: 0, listed: BTreeSet::new(), may_be_collected: false }
    }

    /// Of any slot, and not of the newest, which is never collected. A collector leaves a stub in so many regions that each quorum meets an
    /// honest one of them; a region that it did not reach may still show a vote, a marker, or that it was told.
    fn of_any(name: Arc<SlotName>) -> Self {
        Self { may_be_collected: true, ..Self::new(name) }
    }

    pub(super) fn slot(&self) -> Slot {
        self.name.slot
    }

    /// Which of the voters list the slot, when nobody shows anything authentic of it.
    pub(super) fn unfounded(&self) -> BTreeSet<usize> {
        if self.is_begun() { BTreeSet::new() } else { self.listed.clone() }
    }

    /// Whether anybody shows an authentic entry or marker.
    fn is_begun(&self) -> bool {
        self.marked.is_some() || self.acceptors.iter().any(|acceptor| !acceptor.log().is_empty())
    }

    /// How many regions say that they have no entry.
    fn silent(&self) -> usize {
        let healthy = self.acceptors.iter().zip(&self.errors).filter(|(acceptor, error)| acceptor.is_complete() && error.is_none());
        healthy.filter(|(acceptor, _)| acceptor.log().is_empty()).count()
    }

    /// Whether a quorum says that it has no entry, and nobody shows anything else.
    ///
    /// No ballot of before can be completed then with a vote that nobody sees any more, as in a slot that a quorum does not list: of a
    /// classic one this quorum would have met a promise, and of a fast one every quorum meets a vote.
    fn is_not_begun(&self, classic: usize) -> bool {
        !self.is_begun() && self.silent() >= classic
    }

    pub(super) fn note(&mut self, index: usize, acceptor: Acceptor, failure: Option<Error>) {
        if let Some(slot) = self.acceptors.get_mut(index) {
            *slot = acceptor;
        }
        if let Some(slot) = self.errors.get_mut(index) {
            *slot = failure;
        }
    }

    /// Takes what lists show of this slot: how long its logs are, and an authentic marker.
    pub(super) fn take_heads(&mut self, heads: &[Head], regions: &RegionSet) {
        let name = Arc::clone(&self.name);
        let same = || heads.iter().filter(|head| head.slot == name.slot);
        self.listed.extend(same().map(|head| head.voter));
        self.expected = same().map(|head| head.entries).max().unwrap_or(0).max(self.expected);
        if self.marked.is_none() {
            self.marked =
                authentic_marker(regions, &name.path, name.slot, same().flat_map(|head| &head.markers)).map(|marker| marker.marker.value);
        }
    }

    async fn find_marker(&mut self, regions: &RegionSet) {
        let name = Arc::clone(&self.name);
        let below = name.slot.checked_add(1);
        let mut answers: FuturesUnordered<_> =
            regions.voters().iter().enumerate().map(|(voter, region)| head(region, voter, &name.path, below, Some(name.slot))).collect();
        let (mut patience, mut lists) = (Patience::begin(), 0);
        while let Some(answer) = patience.wait(answers.next()).await {
            lists += usize::from(answer.is_ok());
            if let Ok(Some(head)) = answer {
                self.take_heads(&[head], regions);
            }
            if self.marked.is_some() {
                return;
            }
            if lists >= usize::from(regions.quorums().classic()) {
                patience.end_soon();
            }
        }
    }

    /// What is proven so far, if anything. `votes_only`: logs may be cut, so that what they lack proves nothing.
    pub(super) fn judge(&self, registers: &Registers, votes_only: bool) -> Result<Option<Outcome>> {
        let decided = |digest: Digest| {
            let value = self.acceptors.iter().find_map(|acceptor| acceptor.value(&digest)).cloned();
            value.map(|value| Decided { slot: self.name.slot, value, digest })
        };
        // Markers are made for decided values only, by writers: with one vote for the value, that is all there is to know.
        if let Some(decided) = self.marked.and_then(decided) {
            return Ok(Some(Outcome::Decided(decided)));
        }
        let all: Vec<&Log<Digest>> = self.acceptors.iter().map(Acceptor::log).collect();
        match standing(&registers.rules, &all) {
            Standing::Decided(digest) => return Ok(decided(digest).map(Outcome::Decided)),
            Standing::Collected(_) => return Err(collected(&self.name)),
            Standing::Undecided | Standing::Open => {}
        }
        if votes_only || self.marked.is_some() {
            return Ok(None);
        }
        let healthy = self.acceptors.iter().zip(&self.errors).filter(|(acceptor, error)| acceptor.is_complete() && error.is_none());
        let seen: Vec<_> = healthy.map(|(acceptor, _)| acceptor.log()).collect();
        #[cfg(test)]
        if super::mutant::is_on(super::mutant::Mutant::ReadUnproven) && seen.len() >= registers.rules.classic {
            return Ok(Some(Outcome::Undecided));
        }
        let undecided = seen.len() >= registers.rules.classic && standing(&registers.rules, &seen) == Standing::Undecided;
        Ok(undecided.then_some(Outcome::Undecided))
    }

    pub(super) fn unavailable(&self, message: &str) -> Error {
        let error = Error::new(ErrorKind::Unavailable, message).with("path", &self.name.path).with("slot", self.name.slot);
        blame(error, self.acceptors.iter().map(Acceptor::region).zip(self.errors.iter().map(Option::as_ref)))
    }
}

/// The first of `texts` that a writer signed for this slot; equal texts are verified once.
pub(super) fn authentic_marker<'a>(
    regions: &RegionSet,
    path: &Path,
    slot: Slot,
    texts: impl Iterator<Item = &'a String>,
) -> Option<SignedMarker> {
    let mut tried: Vec<&String> = Vec::new();
    for text in texts {
        if tried.contains(&text) {
            continue;
        }
        tried.push(text);
        if let Ok(marker) = SignedMarker::from_text(text)
            && marker.is_authentic(*regions.lake(), regions.configuration(), path.as_ref(), slot, regions.writers())
        {
            return Some(marker);
        }
    }
    None
}
