use super::*;
use crate::id::ProposerId;

const FIVE: Rules = Rules { regions: 5, liars: 0, classic: 3, fast: 4 };
const THREE: Rules = Rules { regions: 3, liars: 0, classic: 2, fast: 3 };

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
    let lied_to = Rules { regions: 5, liars: 1, classic: 4, fast: 5 };
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
