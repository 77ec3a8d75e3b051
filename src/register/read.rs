//! Reading: which slot is the newest, and what was decided there.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use object_store::path::Path;

use super::acceptor::{Acceptor, SlotName};
use super::core::{Log, Standing, is_promised, standing};
use super::driver::Proposer;
use super::patience::Patience;
use super::{Closed, Decided, Registers, Slot, blame, collected};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::SignedMarker;
use crate::region::layout::{self, RegisterItem};
use crate::region::{Region, RegionSet};

/// Undecided slots that a reader steps over, one LIST each; correct proposers leave at most one.
const UNDECIDED_LIMIT: usize = 64;
/// Markers of one slot in one region that are looked at; correct writers make one.
const MARKER_LIMIT: usize = 16;

/// The newest slot of a register in one region's list.
#[derive(Debug, Clone)]
struct Head {
    slot: Slot,
    /// One more than the highest sequence number; a hint.
    entries: u32,
    markers: Vec<String>,
}

/// What is known of a slot while it is read.
struct Reading {
    name: Arc<SlotName>,
    acceptors: Vec<Acceptor>,
    errors: Vec<Option<Error>>,
    /// The digest that an authentic marker names.
    marked: Option<Digest>,
    expected: u32,
}

/// What came out.
enum Outcome {
    Decided(Decided),
    Undecided,
    Open,
}

impl Registers {
    pub(super) async fn find_newest(&self, path: &Path, hint: Option<Decided>) -> Result<Option<Decided>> {
        let mut below = None;
        for _ in 0..UNDECIDED_LIMIT {
            let Some(reading) = self.newest_slot(path, below, hint.is_none() && below.is_none()).await? else { return Ok(hint) };
            let slot = reading.name.slot;
            // What was decided stays decided, whatever the regions list now.
            if let Some(hint) = hint.as_ref().filter(|hint| hint.slot >= slot) {
                return Ok(Some(hint.clone()));
            }
            if let Some(decided) = self.settle(reading).await? {
                return Ok(Some(decided));
            }
            below = Some(slot);
        }
        Err(Error::new(ErrorKind::Unavailable, "too many slots without a decision; a region may be making them up").with("path", path))
    }

    /// The newest version, if what regions hold shows it at once: nothing is resolved.
    pub(super) async fn look(&self, path: &Path, speculate: bool) -> Result<Option<Decided>> {
        let Some(mut reading) = self.newest_slot(path, None, speculate).await? else { return Ok(None) };
        let outcome = match reading.judge(self, true)? {
            Some(outcome) => outcome,
            None => self.read_on(&mut reading).await?,
        };
        match outcome {
            Outcome::Decided(decided) => Ok(Some(decided)),
            Outcome::Undecided | Outcome::Open => Ok(None),
        }
    }

    pub(super) async fn find_at(&self, path: &Path, slot: Slot) -> Result<Option<Decided>> {
        layout::register_folder(path)?;
        self.settle(Reading::new(self.slot_name(path, slot))).await
    }

    /// As [`Self::find_at`], but a slot that was not decided is taken away from whoever began to write there: a quorum promises that
    /// no ballot so far can be completed any more. Or what they began is completed.
    pub(super) async fn find_closed(&self, path: &Path, slot: Slot) -> Result<Closed> {
        layout::register_folder(path)?;
        let mut reading = Reading::new(self.slot_name(path, slot));
        match self.read_on(&mut reading).await? {
            Outcome::Decided(decided) => Ok(Closed::Decided(decided)),
            Outcome::Undecided | Outcome::Open => self.resolve(reading).await,
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

    /// Finds the highest slot below `below` with any entry, by the lists of a classic quorum at least.
    ///
    /// With `speculate`, entry 0 of slot 0 is fetched beside each list, so that a register with just that slot takes one round trip.
    async fn newest_slot(&self, path: &Path, below: Option<Slot>, speculate: bool) -> Result<Option<Reading>> {
        layout::register_folder(path)?;
        let mut first = Reading::new(self.slot_name(path, 0));
        let requests: FuturesUnordered<_> = first
            .acceptors
            .iter()
            .cloned()
            .enumerate()
            .map(|(index, mut acceptor)| async move {
                let region = Arc::clone(acceptor.region());
                let (head, read) =
                    tokio::join!(head(&region, path, below, None), async { if speculate { acceptor.read_first().await } else { Ok(()) } });
                (index, acceptor, head, read)
            })
            .collect();
        let mut answers = requests;
        let mut patience = Patience::begin();
        let (mut heads, mut lists) = (Vec::new(), 0);
        while let Some((index, acceptor, head, read)) = patience.wait(answers.next()).await {
            // A region that lists but cannot give entry 0 still says which slot is its newest.
            let failure = match head {
                Ok(head) => {
                    lists += 1;
                    heads.extend(head);
                    read.err()
                }
                Err(error) => Some(error),
            };
            first.note(index, acceptor, failure);
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

    /// Learns what was decided at a slot; resolves it if that cannot be learned by reading.
    async fn settle(&self, mut reading: Reading) -> Result<Option<Decided>> {
        let outcome = match reading.judge(self, true)? {
            Some(outcome) => outcome,
            None => self.read_on(&mut reading).await?,
        };
        match outcome {
            Outcome::Decided(decided) => Ok(Some(decided)),
            Outcome::Undecided => Ok(None),
            Outcome::Open => match self.resolve(reading).await? {
                Closed::Decided(decided) => Ok(Some(decided)),
                Closed::Undecided(_) => Ok(None),
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
            if let Some(outcome) = reading.judge(self, false)? {
                return Ok(outcome);
            }
            if seen >= self.rules.classic && self.writer.is_some() {
                patience.end_soon();
            }
        }
        if seen < self.rules.classic {
            return Err(reading.unavailable("too few regions answered to learn what was decided"));
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
    fn new(name: Arc<SlotName>) -> Self {
        let acceptors: Vec<_> = name.regions.voters().iter().map(|region| Acceptor::new(Arc::clone(&name), Arc::clone(region))).collect();
        let errors = acceptors.iter().map(|_| None).collect();
        Self { name, acceptors, errors, marked: None, expected: 0 }
    }

    fn note(&mut self, index: usize, acceptor: Acceptor, failure: Option<Error>) {
        if let Some(slot) = self.acceptors.get_mut(index) {
            *slot = acceptor;
        }
        if let Some(slot) = self.errors.get_mut(index) {
            *slot = failure;
        }
    }

    /// Takes what lists show of this slot: how long its logs are, and an authentic marker.
    fn take_heads(&mut self, heads: &[Head], regions: &RegionSet) {
        let name = Arc::clone(&self.name);
        let same = || heads.iter().filter(|head| head.slot == name.slot);
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
            regions.voters().iter().map(|region| head(region, &name.path, below, Some(name.slot))).collect();
        while let Some(answer) = answers.next().await {
            if let Ok(Some(head)) = answer {
                self.take_heads(&[head], regions);
            }
            if self.marked.is_some() {
                return;
            }
        }
    }

    /// What is proven so far, if anything. `votes_only`: logs may be cut, so that what they lack proves nothing.
    fn judge(&self, registers: &Registers, votes_only: bool) -> Result<Option<Outcome>> {
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

    fn unavailable(&self, message: &str) -> Error {
        let error = Error::new(ErrorKind::Unavailable, message).with("path", &self.name.path).with("slot", self.name.slot);
        blame(error, self.acceptors.iter().map(Acceptor::region).zip(self.errors.iter().map(Option::as_ref)))
    }
}

/// The newest slot below `below` in one region's list (`only` that one, if given); reads no further than it needs.
async fn head(region: &Region, path: &Path, below: Option<Slot>, only: Option<Slot>) -> Result<Option<Head>> {
    let folder = layout::register_folder(path)?;
    let after = below.map(|below| layout::entry_key(path, below, u32::MAX)).transpose()?;
    let mut names = region.list(&folder, after.as_ref());
    let mut head: Option<Head> = None;
    while let Some(meta) = names.next().await {
        // What was not built by the layout is nobody's vote.
        let Some(name) = layout::parse_register_key(&meta?.location).filter(|name| name.path == *path) else { continue };
        if below.is_some_and(|below| name.slot >= below) {
            continue;
        }
        if only.is_some_and(|only| only != name.slot) || head.as_ref().is_some_and(|head| head.slot != name.slot) {
            break;
        }
        let head = head.get_or_insert(Head { slot: name.slot, entries: 0, markers: Vec::new() });
        match name.item {
            RegisterItem::Entry(seq) => head.entries = head.entries.max(seq.saturating_add(1)),
            RegisterItem::Marker(text) if head.markers.len() < MARKER_LIMIT => head.markers.push(text),
            RegisterItem::Marker(_) => break,
        }
    }
    Ok(head)
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
