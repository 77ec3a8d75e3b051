//! A lake that is given one region more, or one less, while clients of the configuration before go on: all sets of votes, all quorums.
//!
//! Why these are the cases to look at: `docs/decisions/0013-more-and-fewer-regions.md`.

use super::*;
use crate::id::ProposerId;

const OLD: u8 = 1;
const NEW: u8 = 2;

fn ballot(round: u64) -> Ballot {
    Ballot { round, proposer: ProposerId([1; 8]) }
}

fn made(since: u64, records: &[(Record<u8>, u64)]) -> Log<u8> {
    let mut log = Log::voting_since(since);
    for (record, made) in records {
        log.push_made(*record, *made).unwrap();
    }
    log
}

/// All sizes and liars that a lake of n regions can have, n given and what `change` makes of it.
fn all(change: impl Fn(u8, u8) -> Result<Quorums>) -> Vec<(Rules, Rules)> {
    let mut all = Vec::new();
    for (n, b) in (2..=6).flat_map(|n| (0..=2).map(move |b| (n, b))) {
        if let (Ok(before), Ok(after)) = (Quorums::new(n, b), change(n, b)) {
            all.push((before.into(), after.into()));
        }
    }
    assert!(all.len() >= 6);
    all
}

use crate::error::Result;

/// Subsets of the first `n`, as bits.
fn sets(n: usize) -> std::ops::Range<usize> {
    0..1 << n
}

fn count(set: usize) -> usize {
    set.count_ones() as usize
}

/// A decision for `OLD`, and how its readers may be told otherwise.
struct Decision {
    /// Regions that could vote.
    voters: usize,
    /// Votes that decide.
    needed: usize,
    vote: Log<u8>,
    /// What the others of the voters hold.
    rest: Vec<Log<u8>>,
}

/// The fast and the classic decisions of the first `voters` regions, counted by `rules`, made in configuration `number`.
fn decisions(rules: &Rules, voters: usize, number: u64) -> Vec<Decision> {
    let fast = made(0, &[(Record::Accept(Ballot::FAST, OLD), number)]);
    let classic = made(0, &[(Record::Promise(ballot(1)), number), (Record::Accept(ballot(1), OLD), number)]);
    let rest = vec![Log::default(), made(0, &[(Record::Accept(Ballot::FAST, NEW), number)])];
    vec![
        Decision { voters, needed: rules.fast, vote: fast, rest: rest.clone() },
        Decision { voters, needed: rules.classic, vote: classic, rest },
    ]
}

/// Whether a reader or proposer that sees the logs in `seen` may go wrong, `OLD` being decided.
fn goes_wrong(rules: &Rules, seen: &[&Log<u8>]) -> bool {
    match standing(rules, seen) {
        // Whoever knows that does not choose.
        Standing::Decided(OLD) => false,
        Standing::Open => choose(rules, seen).is_some_and(|choice| choice != Choice::Bound(OLD)),
        Standing::Decided(_) | Standing::Collected(_) | Standing::Undecided => true,
    }
}

/// How many quorums go wrong that are of the regions in `members`, of which those beyond the voters hold one of `further`.
fn wrong(rules: &Rules, members: std::ops::Range<usize>, decision: &Decision, further: &[Log<u8>]) -> usize {
    let total = members.end.max(decision.voters);
    let mut wrong = 0;
    let lies = [Log::default(), made(0, &[(Record::Accept(Ballot::FAST, NEW), 0)])];
    for votes in sets(decision.voters).filter(|votes| count(*votes) >= decision.needed) {
        for liars in sets(total).filter(|liars| count(*liars) <= rules.liars) {
            for (rest, lie) in decision.rest.iter().flat_map(|rest| lies.iter().map(move |lie| (rest, lie))) {
                for further in further {
                    let log = |region: usize| match region {
                        _ if liars & (1 << region) != 0 => lie,
                        _ if region >= decision.voters => further,
                        _ if votes & (1 << region) != 0 => &decision.vote,
                        _ => rest,
                    };
                    for quorum in sets(total).filter(|quorum| count(*quorum) >= rules.classic) {
                        let is_in = |region: &usize| quorum & (1 << region) != 0;
                        if (0..total).filter(is_in).any(|region| !members.contains(&region)) {
                            continue;
                        }
                        let seen: Vec<&Log<u8>> = (0..total).filter(is_in).map(log).collect();
                        wrong += usize::from(goes_wrong(rules, &seen));
                    }
                }
            }
        }
    }
    wrong
}

/// The new region says nothing of what was before it, or has voted otherwise.
fn newcomers(since: u64) -> [Log<u8>; 2] {
    [Log::voting_since(since), made(since, &[(Record::Accept(Ballot::FAST, NEW), 1)])]
}

#[test]
fn what_was_decided_before_a_region_was_added_binds_every_quorum_with_it() {
    for (before, after) in all(|n, b| Quorums::new(n + 1, b)) {
        for decision in decisions(&before, before.regions, 0) {
            assert_eq!(wrong(&after, 0..after.regions, &decision, &newcomers(1)), 0, "{before:?} {after:?}");
        }
    }
}

#[test]
fn a_new_region_that_counts_where_it_was_not_yet_there_is_caught() {
    // A mutant: since = 0.
    let caught = all(|n, b| Quorums::new(n + 1, b)).into_iter().filter(|(before, after)| {
        decisions(before, before.regions, 0).iter().any(|decision| wrong(after, 0..after.regions, decision, &newcomers(0)) > 0)
    });
    assert!(caught.count() > 0);
}

#[test]
fn clients_of_the_configuration_before_have_no_quorum_left_where_the_later_one_decided() {
    // A region with a later entry fails them. What is left of n when a later quorum voted, and liars hide it:
    let clean = |n: usize, later: usize, b: usize| n - later + b;
    for (before, after) in all(|n, b| Quorums::new(n + 1, b)) {
        assert!(clean(before.regions, after.classic - 1, before.liars) < before.classic, "added: {before:?}");
    }
    for (before, leaving) in all(Quorums::leaving) {
        let after = without_one(&before);
        assert!(clean(before.regions, leaving.classic, before.liars) < before.classic, "leaving: {before:?}");
        assert!(clean(voters(&leaving), after.classic, before.liars) < leaving.classic, "left: {before:?}");
    }
}

#[test]
fn what_was_decided_before_a_region_began_to_leave_binds_every_quorum() {
    for (before, leaving) in all(Quorums::leaving) {
        for decision in decisions(&before, before.regions, 0) {
            assert_eq!(wrong(&leaving, 0..leaving.regions, &decision, &[Log::default()]), 0, "{before:?} {leaving:?}");
        }
    }
    // A mutant: whoever counts by the stricter rules believes that all others do.
    let caught = all(Quorums::leaving).into_iter().filter(|(before, leaving)| {
        let mutant = Rules::new(leaving.regions, leaving.liars, leaving.classic, leaving.fast);
        decisions(before, before.regions, 0).iter().any(|decision| wrong(&mutant, 0..mutant.regions, decision, &[Log::default()]) > 0)
    });
    assert!(caught.count() > 0);
}

fn without_one(rules: &Rules) -> Rules {
    Quorums::new(u8::try_from(rules.regions - 1).unwrap(), u8::try_from(rules.liars).unwrap()).unwrap().into()
}

/// How many have a vote while the last one leaves.
fn voters(leaving: &Rules) -> usize {
    let quorums = Quorums::leaving(u8::try_from(leaving.regions).unwrap(), u8::try_from(leaving.liars).unwrap()).unwrap();
    leaving.regions - usize::from(quorums.leaves_silently())
}

#[test]
fn what_was_decided_while_a_region_left_binds_every_quorum_of_the_others() {
    for (_, leaving) in all(Quorums::leaving) {
        let after = without_one(&leaving);
        for decision in decisions(&leaving, voters(&leaving), 1) {
            // The last one has left; its votes are seen by nobody.
            assert_eq!(wrong(&after, 0..after.regions, &decision, &[Log::default()]), 0, "{leaving:?} {after:?}");
        }
    }
}

#[test]
fn a_region_that_votes_while_it_leaves_where_it_must_not_is_caught() {
    let mut caught = 0;
    for (_, leaving) in all(Quorums::leaving).into_iter().filter(|(_, leaving)| voters(leaving) < leaving.regions) {
        let after = without_one(&leaving);
        let is_wrong = |decision| wrong(&after, 0..after.regions, &decision, &[Log::default()]) > 0;
        caught += usize::from(decisions(&leaving, leaving.regions, 1).into_iter().any(is_wrong));
    }
    assert!(caught > 0);
}

#[test]
fn what_was_decided_before_and_is_established_binds_every_quorum_of_the_others_and_is_lost_to_them_if_it_is_not() {
    let mut lost = 0;
    for (before, _) in all(Quorums::leaving) {
        let after = without_one(&before);
        for decision in decisions(&before, before.regions, 0) {
            for votes in sets(before.regions).filter(|votes| count(*votes) >= decision.needed) {
                for rest in &decision.rest {
                    let logs: Vec<Log<u8>> =
                        (0..after.regions).map(|at| if votes & (1 << at) != 0 { decision.vote.clone() } else { rest.clone() }).collect();
                    lost += usize::from(any_wrong(&after, &logs));
                    for told in sets(after.regions) {
                        let logs: Vec<Log<u8>> = logs
                            .iter()
                            .enumerate()
                            .map(|(at, log)| {
                                let mut log = log.clone();
                                if told & (1 << at) != 0 {
                                    log.push_made(Record::Learned(OLD), 1).unwrap();
                                }
                                log
                            })
                            .collect();
                        if is_established(&after, &logs.iter().collect::<Vec<_>>()) {
                            assert!(!any_wrong(&after, &logs), "{before:?} {votes:b} {told:b}");
                        }
                    }
                }
            }
        }
    }
    assert!(lost > 0, "there would be nothing to establish");
}

/// One leaves, and then another comes, which votes before it is told anything.
#[test]
fn what_is_established_among_those_that_stay_binds_every_quorum_with_a_region_that_is_added_next() {
    let (mut checked, mut caught) = (0, 0);
    for (before, _) in all(Quorums::leaving) {
        let (after, further) = (without_one(&before), before);
        for (told, silent) in sets(after.regions).flat_map(|told| sets(after.regions).map(move |silent| (told, silent))) {
            if told & silent != 0 {
                continue;
            }
            let log = |at: usize| match 1 << at {
                bit if told & bit != 0 => made(0, &[(Record::Learned(OLD), 1)]),
                bit if silent & bit != 0 => Log::default(),
                // It had promised something once.
                _ => made(0, &[(Record::Promise(ballot(1)), 0)]),
            };
            let logs: Vec<Log<u8>> = (0..after.regions).map(log).collect();
            let seen: Vec<&Log<u8>> = logs.iter().collect();
            for newcomer in [Log::voting_since(2), made(2, &[(Record::Accept(Ballot::FAST, NEW), 2)])] {
                let with: Vec<Log<u8>> = logs.iter().cloned().chain([newcomer]).collect();
                if is_established(&after, &seen) {
                    checked += 1;
                    assert!(!any_wrong(&further, &with), "{before:?} {told:b} {silent:b}");
                } else if count(told) >= telling(&after) {
                    // A mutant: so many were told that the others know it, and no more.
                    caught += usize::from(any_wrong(&further, &with));
                }
            }
        }
    }
    assert!(checked > 0 && caught > 0, "{checked} {caught}");
}

/// Whether any quorum of `logs` goes wrong, when as many as may have forgotten.
fn any_wrong(rules: &Rules, logs: &[Log<u8>]) -> bool {
    let nothing = Log::default();
    sets(logs.len()).filter(|liars| count(*liars) <= rules.liars).any(|liars| {
        sets(logs.len()).filter(|quorum| count(*quorum) >= rules.classic).any(|quorum| {
            let shown = logs.iter().enumerate().map(|(at, log)| (at, if liars & (1 << at) != 0 { &nothing } else { log }));
            let seen: Vec<&Log<u8>> = shown.filter(|(at, _)| quorum & (1 << at) != 0).map(|(_, log)| log).collect();
            goes_wrong(rules, &seen)
        })
    })
}
