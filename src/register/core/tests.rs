use super::*;
use crate::id::ProposerId;

const FIVE: Rules = Rules::new(5, 0, 3, 4);
const THREE: Rules = Rules::new(3, 0, 2, 3);

fn ballot(round: u64) -> Ballot {
    Ballot { round, proposer: ProposerId([1; 8]) }
}

fn log(records: &[Record<u8>]) -> Log<u8> {
    let mut log = Log::default();
    for record in records {
        log.push(*record).unwrap();
    }
    log
}

fn fast(value: u8) -> Log<u8> {
    log(&[Record::Accept(Ballot::FAST, value)])
}

fn judge(rules: &Rules, logs: &[Log<u8>]) -> Standing<u8> {
    standing(rules, &logs.iter().collect::<Vec<_>>())
}

fn chosen(rules: &Rules, logs: &[Log<u8>]) -> Option<Choice<u8>> {
    choose(rules, &logs.iter().collect::<Vec<_>>())
}

#[test]
fn a_log_lets_in_only_what_a_correct_proposer_appends() {
    let promised = log(&[Record::Promise(ballot(2))]);
    assert!(!promised.allows(&Record::Promise(ballot(2))));
    assert!(promised.allows(&Record::Promise(ballot(3))));
    assert!(!promised.allows(&Record::Accept(ballot(1), 7)), "a vote below a promise");
    assert!(promised.allows(&Record::Accept(ballot(2), 7)));
    assert!(!promised.allows(&Record::Accept(Ballot::FAST, 7)), "a fast vote after a promise");
    let voted = log(&[Record::Promise(ballot(2)), Record::Accept(ballot(2), 7)]);
    assert!(!voted.allows(&Record::Accept(ballot(2), 8)), "a ballot never carries two values");
    assert!(!log(&[Record::Stub(7)]).allows(&Record::Promise(ballot(9))));
    let told = log(&[Record::Promise(ballot(2)), Record::Accept(ballot(2), 7), Record::Stub(7)]);
    assert!(told.collected() == Some(7) && told.is_closed() && !told.allows(&Record::Learned(7)));
    assert_eq!(judge(&THREE, &[told, Log::default()]), Standing::Collected(7));
}

#[test]
fn fast_votes_decide_by_a_fast_quorum_and_classic_votes_by_a_classic_one() {
    assert_eq!(judge(&FIVE, &[fast(1), fast(1), fast(1), fast(1)]), Standing::Decided(1));
    assert_eq!(judge(&FIVE, &[fast(1), fast(1), fast(1), fast(2)]), Standing::Open, "the fifth region may make it four");
    assert_eq!(judge(&FIVE, &[fast(1), fast(1), fast(1), fast(2), fast(2)]), Standing::Undecided);
    let vote = log(&[Record::Promise(ballot(1)), Record::Accept(ballot(1), 3)]);
    assert_eq!(judge(&FIVE, &[vote.clone(), vote.clone(), vote.clone()]), Standing::Decided(3));
    assert_eq!(judge(&FIVE, &[vote.clone(), vote, Log::default()]), Standing::Open);
}

#[test]
fn a_slot_is_undecided_only_when_the_unseen_regions_cannot_complete_a_quorum() {
    assert_eq!(judge(&THREE, &[fast(1), Log::default()]), Standing::Undecided, "three equal fast votes can no longer be");
    assert_eq!(judge(&THREE, &[fast(1), fast(1)]), Standing::Open);
    assert_eq!(judge(&FIVE, &[Log::default(), Log::default()]), Standing::Open, "the unseen three may have decided");
    let lied_to = Rules::new(5, 1, 4, 5);
    assert_eq!(judge(&lied_to, &[fast(1), fast(1), fast(1), fast(1), Log::default()]), Standing::Open, "one may have forgotten its vote");
}

#[test]
fn the_value_of_the_highest_classic_ballot_binds() {
    let low = log(&[Record::Promise(ballot(1)), Record::Accept(ballot(1), 3)]);
    let high = log(&[Record::Promise(ballot(2)), Record::Accept(ballot(2), 4)]);
    assert_eq!(chosen(&FIVE, &[low, high, fast(9)]), Some(Choice::Bound(4)));
}

#[test]
fn a_fast_value_binds_that_may_have_a_fast_quorum() {
    assert_eq!(chosen(&FIVE, &[fast(1), fast(1), fast(2)]), Some(Choice::Bound(1)));
    assert_eq!(chosen(&FIVE, &[fast(1), Log::default(), fast(2)]).map(|c| matches!(c, Choice::Free(Some(_)))), Some(true));
    assert_eq!(chosen(&FIVE, &[Log::default(), Log::default(), Log::default()]), Some(Choice::Free(None)));
    assert_eq!(chosen(&FIVE, &[fast(1), fast(1)]), None, "two of five are no quorum");
}

#[test]
fn the_log_before_a_promise_is_what_a_choice_is_made_from() {
    let log = log(&[Record::Accept(Ballot::FAST, 1), Record::Promise(ballot(1)), Record::Accept(ballot(1), 2)]);
    assert_eq!(log.prefix(1), fast(1));
    assert_eq!(log.accepted(), Some((ballot(1), 2)));
    assert_eq!(next_round(&[&log]), 2);
}

/// A position whose voter was replaced since configuration 2; entries of clients of configuration 0 may still arrive elsewhere.
mod replaced {
    use super::*;

    const BEFORE: u64 = 0;
    const SINCE: u64 = 2;
    const OLD: u8 = 1;
    const NEW: u8 = 2;

    fn rules(n: usize, liars: usize) -> Option<Rules> {
        let quorums = Quorums::new(u8::try_from(n).unwrap(), u8::try_from(liars).unwrap()).ok()?;
        let (classic, fast) = (usize::from(quorums.classic()), usize::from(quorums.fast()));
        (classic < n).then_some(Rules::new(n, liars, classic, fast))
    }

    fn made(records: &[(Record<u8>, u64)]) -> Log<u8> {
        let mut log = Log::default();
        for (record, made) in records {
            log.push_made(*record, *made).unwrap();
        }
        log
    }

    /// What each of the others holds of one slot.
    fn others(n: usize, votes: usize, vote: &Log<u8>, rest: &Log<u8>) -> Vec<Log<u8>> {
        (0..n - 1).map(|other| if votes & (1 << other) != 0 { vote.clone() } else { rest.clone() }).collect()
    }

    /// Whether a reader or proposer that sees the logs in `seen` may go wrong, the old value being decided.
    fn goes_wrong(rules: &Rules, seen: &[&Log<u8>]) -> bool {
        let read = matches!(standing(rules, seen), Standing::Undecided | Standing::Decided(NEW) | Standing::Collected(_));
        let proposed = choose(rules, seen).is_some_and(|choice| choice != Choice::Bound(OLD));
        read || proposed
    }

    /// How many quorums with the new voter in them go wrong, of all sets of votes that decide with the one before, which nobody sees.
    ///
    /// `deciding` is how many votes decide; up to `liars` of the others forget theirs.
    fn wrong_quorums(rules: &Rules, newcomer: &Log<u8>, deciding: usize, vote: &Log<u8>, rest: &Log<u8>) -> usize {
        let (n, mut wrong) = (rules.regions, 0);
        for votes in (0..1_usize << (n - 1)).filter(|votes| votes.count_ones() as usize + 1 >= deciding) {
            for forgotten in (0..1_usize << (n - 1)).filter(|forgotten| forgotten.count_ones() as usize <= rules.liars) {
                let logs = others(n, votes & !forgotten, vote, rest);
                let logs: Vec<Log<u8>> = logs
                    .into_iter()
                    .enumerate()
                    .map(|(other, log)| if forgotten & (1 << other) != 0 { Log::default() } else { log })
                    .collect();
                for quorum in (0..1_usize << (n - 1)).filter(|quorum| quorum.count_ones() as usize + 1 >= rules.classic) {
                    let quorum = logs.iter().enumerate().filter(|(other, _)| quorum & (1 << other) != 0).map(|(_, log)| log);
                    let seen: Vec<&Log<u8>> = quorum.chain([newcomer]).collect();
                    wrong += usize::from(goes_wrong(rules, &seen));
                }
            }
        }
        wrong
    }

    fn all_rules() -> impl Iterator<Item = Rules> {
        [(3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (4, 1), (5, 1), (6, 1), (7, 1), (7, 2)].into_iter().filter_map(|(n, b)| rules(n, b))
    }

    /// The new voter may be silent, or have voted for another value by the fast ballot.
    fn newcomers(since: u64) -> [Log<u8>; 2] {
        let silent = Log::voting_since(since);
        let mut voted = silent.clone();
        voted.push_made(Record::Accept(Ballot::FAST, NEW), SINCE).unwrap();
        [silent, voted]
    }

    #[test]
    fn a_fast_decision_with_the_vote_of_the_one_before_is_met_by_every_quorum_with_the_new_one() {
        let vote = made(&[(Record::Accept(Ballot::FAST, OLD), BEFORE)]);
        for rules in all_rules() {
            for newcomer in newcomers(SINCE) {
                assert_eq!(wrong_quorums(&rules, &newcomer, rules.fast, &vote, &Log::default()), 0, "{rules:?}");
            }
        }
    }

    #[test]
    fn a_classic_decision_with_the_vote_of_the_one_before_is_met_when_its_promises_were_closed() {
        // Promises are complete before the first vote is cast, so the sweep that closed the slot saw one of them, or its own ballot is
        // promised by a quorum: here by all whom the late votes did not reach first.
        let own = ballot(1);
        let vote = made(&[(Record::Promise(own), BEFORE), (Record::Accept(own, OLD), BEFORE)]);
        let closed = made(&[(Record::Promise(ballot(1)), 1)]);
        for rules in all_rules() {
            for newcomer in newcomers(SINCE) {
                assert_eq!(wrong_quorums(&rules, &newcomer, rules.classic, &vote, &closed), 0, "{rules:?}");
            }
        }
    }

    #[test]
    fn without_the_rule_a_quorum_with_the_new_one_overlooks_a_decision() {
        // A mutant: the new voter counts as if it had been there from the beginning.
        let vote = made(&[(Record::Accept(Ballot::FAST, OLD), BEFORE)]);
        let caught = all_rules().filter(|rules| {
            let [silent, voted] = newcomers(BEFORE);
            let wrong = |newcomer| wrong_quorums(rules, newcomer, rules.fast, &vote, &Log::default());
            wrong(&silent) + wrong(&voted) > 0
        });
        assert!(caught.count() >= 5);
    }

    #[test]
    fn what_the_new_one_was_told_counts_whatever_is_older() {
        let mut told = Log::voting_since(SINCE);
        told.push_made(Record::Learned(OLD), 1).unwrap();
        let vote = made(&[(Record::Accept(Ballot::FAST, OLD), BEFORE)]);
        let rules = rules(5, 0).unwrap();
        assert_eq!(standing(&rules, &[&told, &vote, &Log::default()]), Standing::Decided(OLD));
    }

    fn bits(set: usize) -> usize {
        set.count_ones() as usize
    }

    fn subsets(n: usize) -> std::ops::Range<usize> {
        0..1 << n
    }

    /// Whether late votes of before can decide something with the hidden one, when `promised` of the others promised a ballot without
    /// having voted: those of them that are honest vote for nothing below it any more.
    fn can_be_decided_late(rules: &Rules, promised: usize) -> bool {
        subsets(rules.regions - 1).filter(|liars| bits(*liars) <= rules.liars).any(|liars| {
            let late = !(promised & !liars) & ((1 << (rules.regions - 1)) - 1);
            bits(late) + 1 >= rules.fast.min(rules.classic)
        })
    }

    #[test]
    fn nothing_is_decided_late_where_a_quorum_of_the_others_promised_and_had_not_voted() {
        for rules in all_rules() {
            for promised in subsets(rules.regions - 1).filter(|promised| bits(*promised) >= rules.classic) {
                assert!(!can_be_decided_late(&rules, promised), "{rules:?} {promised:b}");
            }
        }
        // A mutant: the new one is told when one promise fewer is there.
        let caught = all_rules().filter(|rules| {
            subsets(rules.regions - 1)
                .filter(|promised| bits(*promised) + 1 == rules.classic)
                .any(|promised| can_be_decided_late(rules, promised))
        });
        assert!(caught.count() >= 5);
    }

    /// Whether a classic ballot may have begun to be voted for with the hidden one, when so many of the others were silent after that: all
    /// that promised it showed their promises, but for liars.
    fn can_be_hidden_behind(rules: &Rules, silent: usize) -> bool {
        subsets(rules.regions - 1).any(|promised| {
            let forgotten = bits(promised & silent);
            bits(promised) + 1 >= rules.classic && forgotten <= rules.liars
        })
    }

    #[test]
    fn a_slot_of_which_a_quorum_of_the_others_is_silent_hides_no_classic_ballot() {
        // What the fast ballot hides is met by every quorum with the new one, whatever the sweep did: the test of that has silent others.
        for rules in all_rules() {
            for silent in subsets(rules.regions - 1).filter(|silent| bits(*silent) >= rules.classic) {
                assert!(!can_be_hidden_behind(&rules, silent), "{rules:?} {silent:b}");
            }
        }
        // A mutant: one silent region fewer is enough.
        let caught = all_rules().filter(|rules| {
            let fewer = subsets(rules.regions - 1).filter(|silent| bits(*silent) + 1 == rules.classic);
            fewer.into_iter().any(|silent| can_be_hidden_behind(rules, silent))
        });
        assert!(caught.count() >= 5);
    }

    #[test]
    fn a_region_that_is_told_a_ballot_of_somebody_else_hides_what_is_decided_in_it() {
        let rules = Rules::new(3, 0, 2, 3);
        let promised = made(&[(Record::Promise(ballot(1)), BEFORE)]);
        assert!(is_promised(&rules, &[&promised, &promised]));
        // The one before it had voted in that very ballot, unseen; with the late vote of one of the others it is decided.
        let late = made(&[(Record::Promise(ballot(1)), BEFORE), (Record::Accept(ballot(1), OLD), BEFORE)]);
        let mut told = Log::voting_since(SINCE);
        told.push_made(Record::Undecided(ballot(1)), SINCE - 1).unwrap();
        assert_eq!(choose(&rules, &[&promised, &told]), Some(Choice::Free(None)), "so a close takes a ballot of its own");
        assert_eq!(choose(&rules, &[&late, &told]), Some(Choice::Bound(OLD)));
    }

    #[test]
    fn who_was_told_that_nothing_is_decided_counts_and_what_is_decided_with_it_binds_every_quorum() {
        let told = |since: u64| {
            let mut log = Log::voting_since(since);
            log.push_made(Record::Undecided(ballot(1)), SINCE - 1).unwrap();
            log
        };
        let vote = |mut log: Log<u8>| {
            log.push_made(Record::Promise(ballot(2)), SINCE).unwrap();
            log.push_made(Record::Accept(ballot(2), OLD), SINCE).unwrap();
            log
        };
        let late = made(&[(Record::Accept(Ballot::FAST, NEW), BEFORE)]);
        let mut quorums = 0;
        for rules in all_rules().filter(|rules| rules.regions <= 5) {
            let n = rules.regions;
            for promised in subsets(n - 1).filter(|promised| bits(*promised) == rules.classic) {
                // Two of the others were replaced one after the other, or only one: each was told.
                for since in [SINCE, BEFORE] {
                    let mut before = others(n, promised, &made(&[(Record::Promise(ballot(1)), 1)]), &late);
                    if let Some(other) = before.iter_mut().find(|log| since > BEFORE && log.promised() == ballot(1)) {
                        *other = told(since);
                    }
                    before.push(told(SINCE));
                    for voters in subsets(n).filter(|voters| bits(*voters) >= rules.classic) {
                        let voted = |at: usize| voters & (1 << at) != 0;
                        let logs: Vec<Log<u8>> =
                            before.iter().enumerate().map(|(at, log)| if voted(at) { vote(log.clone()) } else { log.clone() }).collect();
                        for forgotten in subsets(n).filter(|forgotten| bits(*forgotten) <= rules.liars) {
                            for quorum in subsets(n).filter(|quorum| bits(*quorum) >= rules.classic) {
                                let shown = (0..n).filter(|at| quorum & (1 << at) != 0);
                                let seen: Vec<&Log<u8>> =
                                    shown.map(|at| if forgotten & (1 << at) != 0 { &before[at] } else { &logs[at] }).collect();
                                assert!(seen.iter().all(|log| counts(log, &seen)), "{rules:?}");
                                assert!(!goes_wrong(&rules, &seen), "{rules:?} {promised:b} {voters:b} {quorum:b}");
                                quorums += 1;
                            }
                        }
                    }
                }
            }
        }
        assert!(quorums > 1000);
    }

    #[test]
    fn that_nothing_is_decided_is_told_once_and_promises_its_ballot() {
        let mut told = log(&[Record::Accept(Ballot::FAST, OLD), Record::Undecided(ballot(2))]);
        assert!(!told.allows(&Record::Undecided(ballot(3))) && !told.allows(&Record::Accept(ballot(1), NEW)));
        assert!(told.allows(&Record::Promise(ballot(3))) && told.allows(&Record::Accept(ballot(2), NEW)));
        told.push(Record::Learned(OLD)).unwrap();
        assert!(!log(&[Record::Learned(OLD)]).allows(&Record::Undecided(ballot(1))));
        assert_eq!(told.votes().count(), 1);
    }

    #[test]
    fn two_values_with_a_hidden_vote_each_at_one_position_are_not_both_decided_by_the_fast_ballot() {
        for rules in all_rules() {
            let others = rules.regions - 1;
            assert!(2 * (rules.fast - 1) > others + rules.liars, "{rules:?}");
        }
    }
}

#[test]
fn a_ballot_more_finds_nothing_when_a_quorum_promised_the_highest_and_nobody_voted() {
    let promise = |round: u64| log(&[Record::Promise(ballot(round))]);
    let is = |logs: &[Log<u8>]| is_promised(&FIVE, &logs.iter().collect::<Vec<_>>());
    assert!(is(&[promise(2), promise(2), promise(2)]) && is(&[promise(2), promise(2), promise(2), promise(1), Log::default()]));
    assert!(!is(&[promise(2), promise(2), promise(1)]), "too few");
    assert!(!is(&[promise(2), promise(2), promise(2), promise(3)]), "a higher ballot is at work");
    assert!(!is(&[promise(2), promise(2), promise(2), fast(1)]), "a vote may be completed");
    assert!(!is(&[promise(2), promise(2), promise(2), log(&[Record::Learned(1)])]));
    assert!(!is(&[Log::default(), Log::default(), Log::default()]) && !is(&[]));
    let late = Log::voting_since(1);
    assert!(!is(&[promise(2), promise(2), promise(2), late.clone()]), "somebody is to be told");
    let mut told = late;
    told.push_made(Record::Undecided(ballot(2)), 0).unwrap();
    assert!(is(&[promise(2), promise(2), promise(2), told]));
}
