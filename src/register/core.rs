//! The rules by which passive regions decide one value for a slot: no I/O, no clock, no tasks.
//!
//! Every acceptor is a [`Log`] of [`Record`]s, appended by create-if-absent at position 0, 1, 2, … Proposers and readers fold
//! logs into a [`Standing`] or a [`Choice`]. Values are opaque (`V`): the driver uses digests, the model in the tests small numbers.
//!
//! Background: Howard and Mortier, *A Generalised Solution to Distributed Consensus*; Lamport, *Fast Paxos*; Gafni and Lamport, *Disk Paxos*.

pub use crate::format::entry::Ballot;
use crate::region::Quorums;

/// How many regions make a quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// All regions, n.
    pub regions: usize,
    /// How many may forget or lie about registers, b.
    pub liars: usize,
    /// Regions that promise and accept in a classic ballot, Qc; also what a read needs at least.
    pub classic: usize,
    /// Equal votes at the fast ballot that decide, Qf.
    pub fast: usize,
    /// So many votes of the fast ballot somebody else may have taken for a decision: as `fast`, but while the regions change.
    pub least_fast: usize,
}

impl Rules {
    /// Rules that everybody counts by.
    pub const fn new(regions: usize, liars: usize, classic: usize, fast: usize) -> Self {
        Self { regions, liars, classic, fast, least_fast: fast }
    }
}

impl From<Quorums> for Rules {
    fn from(quorums: Quorums) -> Self {
        let [regions, liars, classic, fast, least_fast] =
            [quorums.n(), quorums.liars(), quorums.classic(), quorums.fast(), quorums.least_fast()].map(usize::from);
        Self { regions, liars, classic, fast, least_fast }
    }
}

/// One entry of an acceptor's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Record<V> {
    /// No ballot below this one is accepted any more.
    Promise(Ballot),
    /// A vote.
    Accept(Ballot, V),
    /// This value was decided, and collected since. Only ever the last record: the first where a collector made it, and where it was copied
    /// to behind whatever the acceptor had said.
    Stub(V),
    /// This value was decided, and the acceptor was told so afterwards. Only ever the last record.
    Learned(V),
    /// Nothing was decided below this ballot and nothing can be, and the acceptor, which took another's place or came later, was told
    /// so. It promises the ballot.
    Undecided(Ballot),
}

/// Everything an acceptor said about a slot, in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Log<V> {
    records: Vec<Record<V>>,
    promised: Ballot,
    /// The configuration under which each record was made.
    made: Vec<u64>,
    /// The configuration since which the acceptor votes.
    since: u64,
}

impl<V> Default for Log<V> {
    fn default() -> Self {
        Self { records: Vec::new(), promised: Ballot::FAST, made: Vec::new(), since: 0 }
    }
}

/// A record that no correct proposer would have appended: the region is down for this slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misplaced;

impl<V: Copy + Eq> Log<V> {
    /// The empty log of an acceptor that votes since configuration `since`, in the place of another that voted before.
    pub fn voting_since(since: u64) -> Self {
        Self { since, ..Self::default() }
    }

    /// How many records there are; the position of the next.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether the acceptor said nothing yet.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The records in order.
    pub fn records(&self) -> &[Record<V>] {
        &self.records
    }

    /// The highest ballot promised or accepted.
    pub fn promised(&self) -> Ballot {
        self.promised
    }

    /// The accepted ballot and value that count: those of the last vote, whose ballot is the highest.
    pub fn accepted(&self) -> Option<(Ballot, V)> {
        self.votes().last()
    }

    /// All votes, in order of their ballots.
    pub fn votes(&self) -> impl Iterator<Item = (Ballot, V)> {
        self.records.iter().filter_map(|record| match record {
            Record::Accept(ballot, value) => Some((*ballot, *value)),
            Record::Promise(_) | Record::Stub(_) | Record::Learned(_) | Record::Undecided(_) => None,
        })
    }

    /// The value that was decided and collected, when the log ends in a stub.
    pub fn collected(&self) -> Option<V> {
        match self.records.last() {
            Some(Record::Stub(value)) => Some(*value),
            _ => None,
        }
    }

    /// The value that the acceptor was told is decided.
    pub fn learned(&self) -> Option<V> {
        match self.records.last() {
            Some(Record::Learned(value)) => Some(*value),
            _ => None,
        }
    }

    /// Whether nothing may follow: the slot is decided, and the log says for what.
    pub fn is_closed(&self) -> bool {
        self.collected().is_some() || self.learned().is_some()
    }

    /// Whether the acceptor was told that nothing was decided before it came.
    pub fn knows_undecided(&self) -> bool {
        self.records.iter().any(|record| matches!(record, Record::Undecided(_)))
    }

    /// Where `record` stands in the log, if it does.
    pub fn position(&self, record: &Record<V>) -> Option<usize> {
        self.records.iter().position(|other| other == record)
    }

    /// The log as it was when it had `len` records.
    pub fn prefix(&self, len: usize) -> Self {
        let mut log = Self::voting_since(self.since);
        for (record, made) in self.records.iter().zip(&self.made).take(len) {
            log.add(*record, *made);
        }
        log
    }

    /// Whether a correct proposer may append `record` now.
    ///
    /// A promise must raise the ballot. A vote must not be below the promise, nor repeat a ballot. The fast vote comes first or never.
    /// Nothing follows a stub or a learned value, which themselves may follow anything else. That nothing was decided is told once.
    pub fn allows(&self, record: &Record<V>) -> bool {
        match record {
            _ if self.is_closed() => false,
            Record::Promise(ballot) => *ballot > self.promised,
            Record::Accept(ballot, _) if ballot.is_fast() => self.is_empty() && *ballot == Ballot::FAST,
            Record::Accept(ballot, _) => *ballot >= self.promised && self.accepted().is_none_or(|(last, _)| last < *ballot),
            Record::Stub(_) | Record::Learned(_) => true,
            Record::Undecided(_) => !self.knows_undecided(),
        }
    }

    /// Appends `record`, made under the configuration since which the acceptor votes.
    ///
    /// # Errors
    /// [`Misplaced`] when it is not allowed here.
    pub fn push(&mut self, record: Record<V>) -> Result<(), Misplaced> {
        self.push_made(record, self.since)
    }

    /// Appends `record`, made under configuration `made`.
    ///
    /// # Errors
    /// [`Misplaced`] when it is not allowed here.
    pub fn push_made(&mut self, record: Record<V>, made: u64) -> Result<(), Misplaced> {
        if !self.allows(&record) {
            return Err(Misplaced);
        }
        self.add(record, made);
        Ok(())
    }

    fn add(&mut self, record: Record<V>, made: u64) {
        self.made.push(made);
        if let Record::Promise(ballot) | Record::Accept(ballot, _) | Record::Undecided(ballot) = record {
            self.promised = self.promised.max(ballot);
        }
        self.records.push(record);
    }
}

/// What the logs seen so far say about a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing<V> {
    /// This value is decided, for ever.
    Decided(V),
    /// This value was decided and collected since.
    Collected(V),
    /// Nothing was decided when the first of these logs was read: the unseen regions cannot complete a quorum.
    Undecided,
    /// Something may have been decided with the help of unseen regions.
    Open,
}

/// Judges a slot by the logs `seen`, at most one a region.
///
/// `Undecided` needs logs that are complete, each read to its end; `Decided` may be trusted with logs that are cut.
pub fn standing<V: Copy + Eq>(rules: &Rules, seen: &[&Log<V>]) -> Standing<V> {
    if let Some(value) = seen.iter().find_map(|log| log.collected()) {
        return Standing::Collected(value);
    }
    if let Some(value) = seen.iter().find_map(|log| log.learned()) {
        return Standing::Decided(value);
    }
    let seen = &counted(seen);
    let tally = tally(seen);
    if let Some((_, value, _)) = tally.iter().find(|(ballot, _, votes)| *votes >= needed(rules, *ballot)) {
        return Standing::Decided(*value);
    }
    // What is not seen may all be votes, and so may what `liars` of the seen regions forgot.
    let hidden = rules.regions.saturating_sub(seen.len()) + rules.liars;
    let completable = tally.iter().any(|(ballot, _, votes)| votes + hidden >= least(rules, *ballot));
    if completable || hidden >= rules.classic { Standing::Open } else { Standing::Undecided }
}

/// The logs that count: all but those of acceptors that took another's place after an entry of this slot was made, and were told nothing.
///
/// The one before may have voted at this slot, unseen by the one that is there now, whose silence or vote therefore proves nothing. Any
/// decision that the vote of the one before helped to has so many other votes that each quorum with the new one in it meets one of them.
/// An acceptor that was told that nothing was decided counts again, as one that was always there, did not vote, and promised that ballot.
fn counted<'a, V: Copy + Eq>(seen: &[&'a Log<V>]) -> Vec<&'a Log<V>> {
    seen.iter().copied().filter(|log| counts(log, seen)).collect()
}

/// Whether `log` is one of those that count, in a slot of which `seen` are all the logs that are known.
pub fn counts<V: Copy + Eq>(log: &Log<V>, seen: &[&Log<V>]) -> bool {
    let oldest = seen.iter().flat_map(|log| &log.made).min();
    log.is_closed() || log.knows_undecided() || oldest.is_none_or(|oldest| log.since <= *oldest)
}

fn needed(rules: &Rules, ballot: Ballot) -> usize {
    if ballot.is_fast() { rules.fast } else { rules.classic }
}

fn least(rules: &Rules, ballot: Ballot) -> usize {
    if ballot.is_fast() { rules.least_fast } else { rules.classic }
}

/// Whether every quorum of `rules` learns what is decided from the regions whose logs are `seen`: by the votes alone, or because each of
/// them meets one that was told. And whether as many say anything as if they had decided it: a region that is added next counts at once where
/// nobody shows an older entry, and quorums with it have one fewer of the others.
pub fn is_established<V: Copy + Eq>(rules: &Rules, seen: &[&Log<V>]) -> bool {
    let told = seen.iter().filter(|log| log.is_closed()).count();
    let said = seen.iter().filter(|log| !log.is_empty()).count();
    let voted = tally(&counted(seen)).iter().any(|(ballot, _, votes)| *votes >= needed(rules, *ballot));
    voted || (told >= telling(rules) && said >= rules.classic)
}

/// So many regions that every classic quorum has an honest one of them.
pub fn telling(rules: &Rules) -> usize {
    (rules.regions + 1 + rules.liars).saturating_sub(rules.classic).min(rules.regions)
}

fn tally<V: Copy + Eq>(seen: &[&Log<V>]) -> Vec<(Ballot, V, usize)> {
    let mut tally: Vec<(Ballot, V, usize)> = Vec::new();
    for (ballot, value) in seen.iter().flat_map(|log| log.votes()) {
        match tally.iter_mut().find(|(b, v, _)| (*b, *v) == (ballot, value)) {
            Some((_, _, votes)) => *votes += 1,
            None => tally.push((ballot, value, 1)),
        }
    }
    tally
}

/// What the holder of a quorum of promises may propose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice<V> {
    /// Only this value: it may be decided already.
    Bound(V),
    /// Any value. The most voted fast value is given for proposers without one of their own.
    Free(Option<V>),
}

/// Chooses by the logs of a promise quorum, each *as it was before the promise*. `None` when they are fewer than a quorum.
///
/// The value of the highest accepted classic ballot binds. When there is none, a fast value binds that stands in so many of these logs
/// that it may have Qf votes in all: |Q| + Qf - n - b.
pub fn choose<V: Copy + Eq>(rules: &Rules, before: &[&Log<V>]) -> Option<Choice<V>> {
    let before = &counted(before);
    if before.len() < rules.classic {
        return None;
    }
    let highest = before.iter().filter_map(|log| log.accepted()).max_by_key(|(ballot, _)| *ballot);
    if let Some((_, value)) = highest.filter(|(ballot, _)| !ballot.is_fast()) {
        return Some(Choice::Bound(value));
    }
    let most = tally(before).into_iter().max_by_key(|(_, _, votes)| *votes);
    let binding = (before.len() + rules.least_fast).saturating_sub(rules.regions + rules.liars);
    Some(match most {
        Some((_, value, votes)) if votes >= binding => Choice::Bound(value),
        most => Choice::Free(most.map(|(_, value, _)| value)),
    })
}

/// Whether another classic ballot would find nothing to complete and tell nobody anything, by the logs `seen`, each read to its end.
///
/// So it is when all of them count, none has a vote, and a classic quorum has promised the highest ballot that any of them promised.
/// Nothing below that ballot can be decided then: those who promised it had not voted and vote for nothing lower, which leaves n - Qc + b
/// regions to vote, fewer than Qc and Qf. Nobody is hindered either: whoever proposes next takes a higher ballot, as ever.
///
/// *The ballot itself may still be decided*: whoever asked for the promises may have been a proposer that votes late. So this does not
/// close a slot, and a region that took another's place is never told such a ballot: the one before may have voted in it, unseen.
pub fn is_promised<V: Copy + Eq>(rules: &Rules, seen: &[&Log<V>]) -> bool {
    let Some(highest) = seen.iter().map(|log| log.promised()).max().filter(|highest| !highest.is_fast()) else { return false };
    let is_silent = seen.iter().all(|log| log.accepted().is_none() && !log.is_closed() && counts(log, seen));
    is_silent && seen.iter().filter(|log| log.promised() == highest).count() >= rules.classic
}

/// The lowest round that is above every ballot seen.
pub fn next_round<V: Copy + Eq>(seen: &[&Log<V>]) -> u64 {
    seen.iter().map(|log| log.promised().round).max().unwrap_or(0).saturating_add(1)
}

#[cfg(test)]
mod changed;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
