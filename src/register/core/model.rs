//! Every state of one slot within a bound, checked: two proposals, classic ballots, readers, and a region that lies.
//!
//! Regions are passive, so an append is one step: create-if-absent at the position behind all that was read takes effect on just that log
//! or not at all. A request that is late is a step that comes later, one that is lost is a step that never comes, and one that is repeated
//! changes nothing. What a proposer keeps between its requests can be read off the logs again, so a ballot is a step that may come at any
//! time, by a party that may have stopped long ago. Regions without a name are alike, so states are kept with their logs sorted.
//!
//! A region that lies shows everybody a log of its own making, of any entries that were ever signed for it.

use std::collections::HashMap;

use stateright::{Checker as _, Model, Property};

use super::*;
use crate::id::ProposerId;

/// Most regions of a model.
const MOST: usize = 5;
/// Most classic ballots of a model.
const BALLOTS: usize = 4;
/// The values of the two proposers.
const VALUES: [u8; 2] = [0, 1];

/// What the model's parties do wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    None,
    /// One's own fast vote is taken for a promise.
    SkipPromise,
    /// The fast votes in the promise quorum are not looked at.
    IgnoreFastVotes,
    /// A fast value binds only with a majority of all regions in the promise quorum.
    MajorityBinds,
    /// A vote is appended behind the highest entry that a LIST shows, though not all before it was read.
    TrustList,
    /// A chooser does not allow for what liars forgot.
    BelieveAllInChoice,
    /// A reader does not allow for what liars forgot.
    BelieveAllInReading,
    /// A reader takes what it cannot prove decided for undecided.
    ReadUnproven,
}

/// What is checked.
#[derive(Clone, Debug)]
struct Case {
    rules: Rules,
    /// Whether one of the regions lies.
    lies: bool,
    /// The classic ballots, lowest first: the value of whoever made it, or none of a reader that resolves.
    ballots: Vec<Option<u8>>,
    /// Whether regions are told what was decided.
    tells: bool,
    /// Whether one reader reads region after region, while the others go on.
    reads: bool,
    mutant: Mutant,
}

/// All logs that the case can make, numbered, and what can be asked of each.
struct Slot {
    case: Case,
    logs: Vec<Log<u8>>,
    /// The number of the log with one record more, by log and record.
    next: Vec<Vec<Option<u16>>>,
    /// The log as it was before it promised a ballot, by log and ballot.
    before: Vec<Vec<Option<u16>>>,
    votes: Vec<Vec<(usize, u8)>>,
}

/// A state of the slot; regions sorted, those that lie left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct State {
    /// The number of each region's log, and how much of it the reader has, plus one.
    regions: [(u16, u8); MOST],
    /// What each ballot votes for.
    choices: [Option<u8>; BALLOTS],
    /// The ballots that were begun when something was decided.
    late: u8,
    /// All values that were ever decided, as bits.
    decided: u8,
    /// The reader, once it has begun: what was decided then, as bits.
    began: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A region appends a record.
    Append(usize, usize),
    /// A ballot's proposer chooses its value.
    Choose(usize, u8),
    Begin,
    Read(usize),
}

fn ballot(index: usize) -> Ballot {
    match index {
        0 => Ballot::FAST,
        _ => Ballot { round: index as u64, proposer: ProposerId([u8::try_from(index).unwrap(); 8]) },
    }
}

impl Case {
    fn new(n: u8, liars: u8, ballots: &[Option<u8>]) -> Self {
        let quorums = Quorums::new(n, liars).unwrap();
        let rules = Rules::from(quorums);
        Self { rules, lies: liars > 0, ballots: ballots.to_vec(), tells: false, reads: false, mutant: Mutant::None }
    }

    fn telling(self) -> Self {
        Self { tells: true, ..self }
    }

    fn reading(self) -> Self {
        Self { reads: true, ..self }
    }

    fn with(self, mutant: Mutant) -> Self {
        Self { mutant, ..self }
    }

    fn honest(&self) -> usize {
        self.rules.regions - usize::from(self.lies)
    }

    /// Every record, in the order of their numbers.
    fn records(&self) -> Vec<Record<u8>> {
        let mut records: Vec<_> = VALUES.iter().map(|value| Record::Accept(Ballot::FAST, *value)).collect();
        for index in 1..=self.ballots.len() {
            records.push(Record::Promise(ballot(index)));
            records.extend(VALUES.iter().map(|value| Record::Accept(ballot(index), *value)));
        }
        if self.tells {
            records.extend(VALUES.iter().map(|value| Record::Learned(*value)));
        }
        records
    }

    fn promise(&self, index: usize) -> usize {
        2 + 3 * (index - 1)
    }

    fn vote(&self, index: usize, value: u8) -> usize {
        3 + 3 * (index - 1) + usize::from(value)
    }

    fn learned(&self, value: u8) -> usize {
        2 + 3 * self.ballots.len() + usize::from(value)
    }

    /// The rules as a reader applies them.
    fn reading_rules(&self) -> Rules {
        if self.mutant == Mutant::BelieveAllInReading { Rules { liars: 0, ..self.rules } } else { self.rules }
    }

    /// The rules as a chooser with `promises` applies them; a choice uses Qf for the binding number of fast votes only.
    fn choosing_rules(&self, promises: usize) -> Rules {
        let Rules { regions, liars, .. } = self.rules;
        match self.mutant {
            Mutant::BelieveAllInChoice => Rules { liars: 0, ..self.rules },
            Mutant::IgnoreFastVotes => Rules { least_fast: 2 * regions + liars + 1, ..self.rules },
            Mutant::MajorityBinds => Rules { least_fast: regions / 2 + 1 + regions + liars - promises, ..self.rules },
            _ => self.rules,
        }
    }
}

impl Slot {
    fn new(case: Case) -> Self {
        let records = case.records();
        let mut numbers: HashMap<Log<u8>, u16> = HashMap::from([(Log::default(), 0)]);
        let (mut logs, mut next) = (vec![Log::default()], Vec::new());
        while next.len() < logs.len() {
            let log = logs[next.len()].clone();
            let mut after = Vec::new();
            for record in &records {
                let mut longer = log.clone();
                let blind = case.mutant == Mutant::TrustList
                    && matches!(record, Record::Accept(ballot, _) if !ballot.is_fast())
                    && log.position(record).is_none();
                if longer.push(*record).is_err() {
                    if !blind {
                        after.push(None);
                        continue;
                    }
                    longer.add(*record, 0);
                }
                let number = *numbers.entry(longer.clone()).or_insert_with(|| {
                    logs.push(longer);
                    u16::try_from(logs.len() - 1).unwrap()
                });
                after.push(Some(number));
            }
            next.push(after);
        }
        let number = |log: &Log<u8>| numbers.get(log).copied();
        let before = logs.iter().map(|log| (0..=case.ballots.len()).map(|index| number(&before(&case, log, index)?)).collect()).collect();
        let index_of = |wanted: Ballot| (0..=case.ballots.len()).find(|index| ballot(*index) == wanted).unwrap();
        let votes = logs.iter().map(|log| log.votes().map(|(ballot, value)| (index_of(ballot), value)).collect()).collect();
        Self { case, logs, next, before, votes }
    }

    fn log(&self, number: u16) -> &Log<u8> {
        &self.logs[usize::from(number)]
    }

    /// All values that have votes enough to be taken for decided by somebody, as bits.
    fn decided(&self, state: &State) -> u8 {
        let Case { rules, lies, .. } = &self.case;
        let mut bits = 0;
        for index in 0..=self.case.ballots.len() {
            for value in VALUES {
                let voted = |(log, _): &&(u16, u8)| self.votes[usize::from(*log)].contains(&(index, value));
                let honest = state.regions.iter().take(self.case.honest()).filter(voted).count();
                // A liar shows the vote to whom it likes, if the vote was ever sent.
                let lied = *lies && (index == 0 || state.choices[index - 1] == Some(value));
                let needed = if index == 0 { rules.fast } else { rules.classic };
                if honest + usize::from(lied) >= needed {
                    bits |= 1 << value;
                }
            }
        }
        bits
    }

    /// The logs that the liar may show, of ballots below `below`; an honest quorum has none.
    fn lies(&self, state: &State, below: usize) -> Vec<Log<u8>> {
        let mut all = vec![Log::default()];
        all.extend(VALUES.iter().map(|value| {
            let mut log = Log::default();
            log.add(Record::Accept(Ballot::FAST, *value), 0);
            log
        }));
        for index in 1..below.min(self.case.ballots.len() + 1) {
            let Some(value) = state.choices[index - 1] else { continue };
            let longer = all.clone().into_iter().map(|mut log| {
                log.add(Record::Accept(ballot(index), value), 0);
                log
            });
            all.extend(longer.collect::<Vec<_>>());
        }
        all
    }

    /// Every set of logs that a party may have got from the regions, with at least a classic quorum in it.
    fn seen(&self, state: &State, of: impl Fn(u16) -> Option<u16>, below: usize, mut each: impl FnMut(&[&Log<u8>])) {
        let logs: Vec<&Log<u8>> =
            state.regions.iter().take(self.case.honest()).filter_map(|(log, _)| of(*log)).map(|log| self.log(log)).collect();
        let lies = if self.case.lies { self.lies(state, below) } else { Vec::new() };
        for set in 0..1_u32 << logs.len() {
            let mut seen: Vec<_> = logs.iter().enumerate().filter(|(i, _)| set & (1 << i) != 0).map(|(_, log)| *log).collect();
            if seen.len() >= self.case.rules.classic {
                each(&seen);
            }
            if seen.len() + 1 >= self.case.rules.classic {
                for lie in &lies {
                    seen.push(lie);
                    each(&seen);
                    seen.pop();
                }
            }
        }
    }

    /// What the proposer of a ballot may vote for, by every quorum of promises that it may have got.
    fn choices(&self, state: &State, index: usize) -> (u8, bool) {
        let own = self.case.ballots[index - 1];
        let (mut bits, mut empty) = (0, false);
        self.seen(
            state,
            |log| self.before[usize::from(log)][index],
            index,
            |seen| {
                match (choose(&self.case.choosing_rules(seen.len()), seen), own) {
                    (Some(Choice::Bound(value)), _) | (Some(Choice::Free(_)), Some(value)) => bits |= 1 << value,
                    // Whichever of the fast values there are.
                    (Some(Choice::Free(Some(_))), None) => {
                        seen.iter().filter_map(|log| log.accepted()).for_each(|(_, value)| bits |= 1 << value);
                    }
                    (Some(Choice::Free(None)), None) => empty = true,
                    (None, _) => unreachable!("a quorum was seen"),
                }
            },
        );
        (bits, empty)
    }

    /// Whether a reader of `seen` is right, that began when `began` was decided.
    fn is_right(&self, seen: &[&Log<u8>], began: u8, now: u8) -> bool {
        match standing(&self.case.reading_rules(), seen) {
            Standing::Decided(value) => now == 1 << value,
            Standing::Undecided => began == 0,
            Standing::Open => self.case.mutant != Mutant::ReadUnproven || began == 0,
            Standing::Collected(_) => false,
        }
    }

    fn readers_are_right(&self, state: &State) -> bool {
        let mut right = true;
        self.seen(state, Some, usize::MAX, |seen| right &= self.is_right(seen, state.decided, state.decided));
        let Some(began) = state.began else { return right };
        let had: Vec<Log<u8>> =
            state.regions.iter().filter(|(_, had)| *had > 0).map(|(log, had)| self.log(*log).prefix(usize::from(*had) - 1)).collect();
        let had: Vec<&Log<u8>> = had.iter().collect();
        if had.len() < self.case.rules.classic {
            return right && !matches!(standing(&self.case.reading_rules(), &had), Standing::Decided(value) if state.decided != 1 << value);
        }
        right && self.is_right(&had, began, state.decided)
    }
}

/// The log as it was when it promised the ballot `index`, if it did.
fn before(case: &Case, log: &Log<u8>, index: usize) -> Option<Log<u8>> {
    if index == 0 {
        return None;
    }
    let promised = log.position(&Record::Promise(ballot(index))).map(|position| log.prefix(position));
    let own_vote = case.ballots[index - 1].map(|own| Record::Accept(Ballot::FAST, own));
    if promised.is_none() && case.mutant == Mutant::SkipPromise && own_vote.is_some() && log.records().first() == own_vote.as_ref() {
        return Some(log.prefix(1));
    }
    promised
}

impl Model for Slot {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State { regions: [(0, 0); MOST], choices: [None; BALLOTS], late: 0, decided: 0, began: None }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        let mut records: Vec<usize> = (0..VALUES.len()).collect();
        for (index, choice) in (1..).zip(&state.choices[..self.case.ballots.len()]) {
            records.push(self.case.promise(index));
            match choice {
                Some(value) => records.push(self.case.vote(index, *value)),
                None => {
                    let (bits, _) = self.choices(state, index);
                    actions.extend(VALUES.iter().filter(|value| bits & (1 << **value) != 0).map(|value| Step::Choose(index, *value)));
                }
            }
        }
        if self.case.tells {
            records.extend(VALUES.iter().filter(|value| state.decided & (1 << **value) != 0).map(|value| self.case.learned(*value)));
        }
        for region in 0..self.case.honest() {
            // Equal regions have equal futures.
            if region > 0 && state.regions[region] == state.regions[region - 1] {
                continue;
            }
            actions.extend(records.iter().map(|record| Step::Append(region, *record)));
            if state.began.is_some() && state.regions[region].1 == 0 {
                actions.push(Step::Read(region));
            }
        }
        if self.case.reads && state.began.is_none() {
            actions.push(Step::Begin);
        }
    }

    fn next_state(&self, last: &State, action: Step) -> Option<State> {
        let mut state = *last;
        match action {
            Step::Append(region, record) => {
                let log = &mut state.regions[region].0;
                *log = self.next[usize::from(*log)][record]?;
                let begun = (1..=self.case.ballots.len()).find(|index| self.case.promise(*index) == record);
                if let Some(index) = begun.filter(|index| self.case.ballots[index - 1].is_none() && !self.begun(last, *index)) {
                    state.late |= u8::from(last.decided != 0) << index;
                }
                state.decided |= self.decided(&state);
            }
            Step::Choose(index, value) => {
                state.choices[index - 1] = Some(value);
                state.decided |= self.decided(&state);
            }
            Step::Begin => state.began = Some(state.decided),
            Step::Read(region) => state.regions[region].1 = u8::try_from(self.log(state.regions[region].0).len()).unwrap() + 1,
        }
        state.regions[..self.case.honest()].sort_unstable();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("one value is decided, for ever", |slot: &Self, state: &State| {
                state.decided.count_ones() <= 1 && state.decided == slot.decided(state)
            }),
            Property::always("every reader with a quorum is right", Self::readers_are_right),
            Property::always(
                "a reader that resolves finds nothing only if nothing was decided when it began",
                |slot: &Self, state: &State| {
                    (1..=slot.case.ballots.len()).all(|index| state.late & (1 << index) == 0 || !slot.choices(state, index).1)
                },
            ),
            Property::sometimes("the first value is decided", |_, state: &State| state.decided == 1),
            Property::sometimes("the second value is decided", |_, state: &State| state.decided == 2),
        ]
    }
}

impl Slot {
    fn begun(&self, state: &State, index: usize) -> bool {
        let promise = Record::Promise(ballot(index));
        state.regions.iter().take(self.case.honest()).any(|(log, _)| self.log(*log).position(&promise).is_some())
    }
}

const NEVER: [&str; 3] = [
    "one value is decided, for ever",
    "every reader with a quorum is right",
    "a reader that resolves finds nothing only if nothing was decided when it began",
];

/// Checks every state of the case; says how many there are.
fn holds(case: Case) -> usize {
    let what = format!("{case:?}");
    let checker = Slot::new(case).checker().threads(2).spawn_bfs().join();
    for property in NEVER {
        assert!(checker.discovery(property).is_none(), "{what}: not so: {property}: {:?}", checker.discovery(property));
    }
    assert!(checker.is_done());
    assert!(checker.discovery("the first value is decided").is_some() && checker.discovery("the second value is decided").is_some());
    println!("{} states of {what}", checker.unique_state_count());
    checker.unique_state_count()
}

/// Whether the case breaks a property; says by which steps.
fn fails(case: Case) -> bool {
    let what = format!("{case:?}");
    let any = stateright::HasDiscoveries::AnyFailures;
    let checker = Slot::new(case).checker().threads(2).finish_when(any).spawn_bfs().join();
    let found = NEVER.iter().find_map(|property| Some((property, checker.discovery(property)?)));
    if let Some((property, path)) = &found {
        println!("{what}: not so: {property}: {:?}", path.clone().into_actions());
    }
    found.is_some()
}

const A: Option<u8> = Some(0);
const B: Option<u8> = Some(1);

#[test]
fn every_state_of_one_and_two_ballots_decides_one_value_and_no_quorum_of_readers_is_wrong() {
    for n in 3..=5 {
        for ballots in [&[A][..], &[None], &[A, B], &[A, A], &[None, A], &[A, None]] {
            if n < 5 || ballots.len() < 2 {
                holds(Case::new(n, 0, ballots));
            }
        }
    }
    holds(Case::new(5, 0, &[A, B]));
}

#[test]
fn a_region_that_lies_is_withstood_where_the_quorums_allow_for_it() {
    for n in [4, 5] {
        for ballots in [&[A][..], &[None], &[A, B], &[None, B]] {
            holds(Case::new(n, 1, ballots));
        }
    }
}

#[test]
fn a_reader_that_reads_region_after_region_is_right_about_when_it_began() {
    holds(Case::new(3, 0, &[A, B]).reading());
    holds(Case::new(4, 0, &[A]).reading());
}

#[test]
fn regions_may_be_told_what_was_decided_at_any_time() {
    holds(Case::new(3, 0, &[A, B]).telling());
    holds(Case::new(4, 0, &[A]).telling());
    holds(Case::new(5, 0, &[A]).telling());
    holds(Case::new(3, 0, &[B]).telling().reading());
}

#[test]
fn a_promise_is_never_skipped_not_even_after_ones_own_fast_vote() {
    assert!((3..=5).any(|n| fails(Case::new(n, 0, &[A, B]).with(Mutant::SkipPromise))));
}

#[test]
fn a_fast_value_in_the_promise_quorum_must_be_taken() {
    assert!(fails(Case::new(4, 0, &[A]).with(Mutant::IgnoreFastVotes)));
}

#[test]
fn a_fast_value_binds_with_fewer_votes_than_a_majority() {
    assert!(fails(Case::new(4, 0, &[A]).with(Mutant::MajorityBinds)));
    assert!(fails(Case::new(5, 0, &[A]).with(Mutant::MajorityBinds)));
}

#[test]
fn a_vote_behind_entries_that_were_only_listed_splits_a_register() {
    assert!(fails(Case::new(3, 0, &[A, B]).with(Mutant::TrustList)));
}

#[test]
fn a_region_that_lies_splits_a_register_that_allows_for_none() {
    for n in 3..=5 {
        assert!(fails(Case { lies: true, ..Case::new(n, 0, &[A]) }), "n {n}");
    }
}

#[test]
fn what_liars_forgot_is_allowed_for_in_choices_and_in_readings() {
    for n in [4, 5] {
        assert!(fails(Case::new(n, 1, &[A]).with(Mutant::BelieveAllInChoice)), "n {n}");
        assert!(fails(Case::new(n, 1, &[A]).with(Mutant::BelieveAllInReading)), "n {n}");
    }
}

#[test]
fn what_may_be_decided_must_not_be_read_as_undecided() {
    assert!(fails(Case::new(3, 0, &[A]).with(Mutant::ReadUnproven)));
}

#[test]
fn quorums_that_are_too_small_split_a_register() {
    let with = |n, classic, fast| Case { rules: Rules::new(n, 0, classic, fast), ..Case::new(5, 0, &[A]) };
    assert!(fails(with(5, 3, 3)), "a majority is no fast quorum");
    assert!(fails(with(3, 2, 2)), "a majority is no fast quorum");
    assert!(fails(with(4, 2, 3)), "a half is no classic quorum");
}

#[test]
#[ignore = "minutes; scripts/simulate.sh runs it"]
fn every_state_of_larger_bounds_keeps_the_rules() {
    for ballots in [[A, B, A], [A, B, B], [None, A, B], [A, None, B]] {
        holds(Case::new(3, 0, &ballots));
    }
    holds(Case::new(4, 0, &[A, B]).telling());
    holds(Case::new(5, 0, &[A]).reading());
}
