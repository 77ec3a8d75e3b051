//! A small model checker: two proposers over three to five regions, at random orders of steps, with mutants that must be caught.
//!
//! Regions are passive, so an append is one step: create-if-absent at the position behind all that was read either takes effect on just
//! that log or not at all. A proposer may stop anywhere, and its fast votes may arrive at any later time.

use super::*;
use crate::id::ProposerId;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mutant {
    None,
    /// One's own fast vote is taken for a promise.
    SkipPromise,
    /// The fast votes in the promise quorum are not looked at.
    IgnoreFastVotes,
    /// A damaged vote is taken for no vote.
    ForgetVotes,
    /// A reader takes what it cannot prove decided for undecided.
    ReadUnproven,
}

struct Run {
    rules: Rules,
    mutant: Mutant,
    logs: Vec<Log<u8>>,
    random: u64,
}

struct Proposer {
    value: u8,
    ballot: Ballot,
    fast_sent: Vec<bool>,
    promised: Vec<Option<Log<u8>>>,
    choice: Option<u8>,
    attempts: u64,
}

impl Run {
    fn below(&mut self, limit: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 33).unwrap() % limit
    }

    fn step(&mut self, p: &mut Proposer) {
        let region = self.below(self.rules.regions);
        if !p.fast_sent[region] && self.below(2) == 0 {
            p.fast_sent[region] = true;
            let vote = Record::Accept(Ballot::FAST, p.value);
            if self.logs[region].push(vote).is_ok() && self.mutant == Mutant::SkipPromise {
                p.promised[region] = Some(self.logs[region].clone());
            }
            return;
        }
        if let Some(value) = p.choice {
            // A vote; refused when the region promised more.
            let _ = self.logs[region].push(Record::Accept(p.ballot, value));
            if self.below(30) == 0 && p.attempts < 4 {
                self.restart(p);
            }
            return;
        }
        let mut before = self.logs[region].clone();
        if p.promised[region].is_none() && self.logs[region].push(Record::Promise(p.ballot)).is_ok() {
            if self.mutant == Mutant::ForgetVotes && region == 0 {
                before = Log::default();
            }
            p.promised[region] = Some(before);
        }
        let seen: Vec<Log<u8>> = p.promised.iter().flatten().cloned().collect();
        let seen: Vec<&Log<u8>> = seen.iter().collect();
        p.choice = choose(&self.rules, &seen).map(|choice| match choice {
            Choice::Bound(_)
                if self.mutant == Mutant::IgnoreFastVotes && !seen.iter().any(|l| l.accepted().is_some_and(|a| !a.0.is_fast())) =>
            {
                p.value
            }
            Choice::Bound(value) => value,
            Choice::Free(_) => p.value,
        });
        if p.choice.is_none() && self.below(30) == 0 && p.attempts < 4 {
            self.restart(p);
        }
    }

    fn restart(&mut self, p: &mut Proposer) {
        p.attempts += 1;
        let logs: Vec<&Log<u8>> = self.logs.iter().collect();
        // A proposer need not have seen them all.
        let round = next_round(&logs).saturating_sub(u64::from(self.below(3) == 0)).max(1);
        let id = u8::try_from(p.attempts).unwrap();
        p.ballot = Ballot { round, proposer: ProposerId([p.value, id, 0, 0, 0, 0, 0, 0]) };
        let mut random = self.random;
        if self.mutant != Mutant::SkipPromise {
            p.promised.iter_mut().for_each(|promise| *promise = None);
        }
        random = random.rotate_left(1);
        self.random = random | 1;
        p.choice = None;
    }

    /// What is decided by all logs together.
    fn truth(&self) -> Option<u8> {
        match standing(&self.rules, &self.logs.iter().collect::<Vec<_>>()) {
            Standing::Decided(value) => Some(value),
            _ => None,
        }
    }

    /// Whether every quorum of readers is right about `truth`.
    fn readers_agree(&self, truth: Option<u8>) -> bool {
        (0..1_u32 << self.rules.regions).filter(|set| set.count_ones() as usize >= self.rules.classic).all(|set| {
            let seen: Vec<_> = self.logs.iter().enumerate().filter(|(i, _)| set & (1 << i) != 0).map(|(_, log)| log).collect();
            match standing(&self.rules, &seen) {
                Standing::Decided(value) => truth == Some(value),
                Standing::Undecided => truth.is_none(),
                Standing::Open => self.mutant != Mutant::ReadUnproven || truth.is_none(),
                Standing::Collected(_) => false,
            }
        })
    }
}

/// Whether a random run of `steps` keeps the one decision for ever and every reader right about it.
fn holds(rules: Rules, mutant: Mutant, seed: u64) -> bool {
    let n = rules.regions;
    let mut run = Run { rules, mutant, logs: vec![Log::default(); n], random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 };
    let mut proposers: Vec<Proposer> = (1..=2)
        .map(|value| Proposer {
            value,
            ballot: Ballot { round: 1, proposer: ProposerId([value; 8]) },
            fast_sent: vec![false; n],
            promised: vec![None; n],
            choice: None,
            attempts: 0,
        })
        .collect();
    let mut decided = None;
    for _ in 0..80 {
        let who = run.below(2);
        run.step(&mut proposers[who]);
        let truth = run.truth();
        if decided.is_some() && truth != decided || !run.readers_agree(truth) {
            return false;
        }
        // Two values with a quorum each would show as a change or as a reader that is wrong.
        decided = truth;
    }
    true
}

const RULES: [Rules; 3] = [
    Rules { regions: 3, liars: 0, classic: 2, fast: 3 },
    Rules { regions: 4, liars: 0, classic: 3, fast: 3 },
    Rules { regions: 5, liars: 0, classic: 3, fast: 4 },
];

fn caught(mutant: Mutant) -> bool {
    RULES.iter().any(|rules| (1..20_000).any(|seed| !holds(*rules, mutant, seed)))
}

#[test]
fn one_value_is_decided_for_ever_and_no_quorum_of_readers_is_wrong() {
    for rules in RULES {
        for seed in 1..6_000 {
            assert!(holds(rules, Mutant::None, seed), "n {} seed {seed}", rules.regions);
        }
    }
}

#[test]
fn a_promise_is_never_skipped_not_even_after_ones_own_fast_vote() {
    assert!(caught(Mutant::SkipPromise));
}

#[test]
fn a_fast_value_in_the_promise_quorum_must_be_taken() {
    assert!(caught(Mutant::IgnoreFastVotes));
}

#[test]
fn a_damaged_vote_taken_for_no_vote_splits_a_register() {
    assert!(caught(Mutant::ForgetVotes));
}

#[test]
fn what_may_be_decided_must_not_be_read_as_undecided() {
    assert!(caught(Mutant::ReadUnproven));
}

#[test]
fn quorums_that_are_too_small_split_a_register() {
    let small = Rules { regions: 5, liars: 0, classic: 3, fast: 3 };
    assert!((1..20_000).any(|seed| !holds(small, Mutant::None, seed)));
    let smaller = Rules { regions: 4, liars: 0, classic: 2, fast: 3 };
    assert!((1..20_000).any(|seed| !holds(smaller, Mutant::None, seed)));
}
