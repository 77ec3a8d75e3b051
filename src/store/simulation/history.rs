//! What clients did to one name, and whether one object that everybody shares could have answered so.
//!
//! The search is Wing and Gong's, with Lowe's memory of what was tried: the calls that are done, and what the object was then.

use std::collections::HashSet;

/// Which write made a version.
pub type Id = u16;

/// What a write answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Done,
    /// The condition did not hold.
    Refused,
    /// It may take effect at any later time, or never.
    Unknown,
}

/// A call, as its client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Create(Id, Answer),
    Overwrite(Id, Answer),
    /// Only over the version of the first write.
    Update(Id, Id, Answer),
    Delete(Answer),
    Read(Option<Id>),
}

/// A call with the times of its beginning and its answer, in steps.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub what: What,
    #[expect(dead_code, reason = "printed with a history that is wrong")]
    pub client: usize,
    pub begin: u64,
    pub end: u64,
}

impl What {
    fn is_unknown(&self) -> bool {
        match self {
            Self::Create(_, answer) | Self::Overwrite(_, answer) | Self::Update(_, _, answer) | Self::Delete(answer) => {
                *answer == Answer::Unknown
            }
            Self::Read(_) => false,
        }
    }

    /// The object after this call took effect on `object`; none if it could not have answered so.
    fn after(&self, object: Option<Id>) -> Option<Option<Id>> {
        let (holds, new, answer) = match *self {
            Self::Create(id, answer) => (object.is_none(), Some(id), answer),
            Self::Overwrite(id, answer) => (true, Some(id), answer),
            Self::Update(expected, id, answer) => (object == Some(expected), Some(id), answer),
            Self::Delete(answer) => (true, None, answer),
            Self::Read(found) => return (found == object).then_some(object),
        };
        match answer {
            Answer::Refused => (!holds).then_some(object),
            Answer::Done | Answer::Unknown => holds.then_some(new),
        }
    }
}

/// Whether the calls, at most 128, can be put in an order in which one object answers so, and in which none comes before another that
/// had answered before it began.
pub fn is_linearizable(calls: &[Call]) -> bool {
    assert!(calls.len() <= 128, "a history of {} calls is too long to be judged", calls.len());
    let known = calls.iter().enumerate().filter(|(_, call)| !call.what.is_unknown()).fold(0_u128, |set, (i, _)| set | 1 << i);
    let mut tried = HashSet::new();
    let mut open = vec![(0_u128, None)];
    while let Some((done, object)) = open.pop() {
        if known & !done == 0 {
            return true;
        }
        if !tried.insert((done, object)) {
            continue;
        }
        let waiting = |i: &usize| done & (1 << i) == 0;
        let first_end = (0..calls.len()).filter(waiting).filter(|i| known & (1 << i) != 0).map(|i| calls[i].end).min().unwrap_or(u64::MAX);
        for i in (0..calls.len()).filter(waiting).filter(|i| calls[*i].begin < first_end) {
            if let Some(after) = calls[i].what.after(object) {
                open.push((done | 1 << i, after));
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(begin: u64, end: u64, what: What) -> Call {
        Call { what, client: 0, begin, end }
    }

    #[test]
    fn calls_that_overlap_may_be_in_either_order() {
        let write = call(0, 10, What::Overwrite(1, Answer::Done));
        assert!(is_linearizable(&[write, call(1, 2, What::Read(None))]));
        assert!(is_linearizable(&[write, call(1, 2, What::Read(Some(1)))]));
        assert!(is_linearizable(&[write, call(1, 2, What::Read(None)), call(3, 4, What::Read(Some(1)))]));
        assert!(!is_linearizable(&[write, call(1, 2, What::Read(Some(1))), call(3, 4, What::Read(None))]), "a version went away");
        assert!(!is_linearizable(&[write, call(11, 12, What::Read(None))]), "a write was lost");
    }

    #[test]
    fn a_write_whose_outcome_is_unknown_takes_effect_once_or_never() {
        let write = call(0, 1, What::Overwrite(1, Answer::Unknown));
        let other = call(4, 5, What::Overwrite(2, Answer::Done));
        let read = |at, id| call(at, at + 1, What::Read(id));
        assert!(is_linearizable(&[write, read(2, None), read(6, None)]));
        assert!(is_linearizable(&[write, read(2, None), other, read(6, Some(1))]), "it may be late");
        assert!(!is_linearizable(&[write, read(2, Some(1)), other, read(6, Some(2)), read(8, Some(1))]), "a, x, a");
    }

    #[test]
    fn conditions_hold_or_refuse() {
        let create = call(0, 1, What::Create(1, Answer::Done));
        assert!(is_linearizable(&[create, call(2, 3, What::Create(2, Answer::Refused))]));
        assert!(!is_linearizable(&[create, call(2, 3, What::Create(2, Answer::Done))]));
        assert!(!is_linearizable(&[call(2, 3, What::Create(2, Answer::Refused))]), "refused by nothing");
        assert!(is_linearizable(&[create, call(2, 3, What::Update(1, 2, Answer::Done)), call(4, 5, What::Update(1, 3, Answer::Refused))]));
        assert!(!is_linearizable(&[create, call(2, 3, What::Update(1, 2, Answer::Refused))]));
        assert!(is_linearizable(&[create, call(2, 3, What::Delete(Answer::Done)), call(4, 5, What::Create(4, Answer::Done))]));
    }
}
