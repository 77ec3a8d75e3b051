//! What binds a log's entries to each other: each states the root of the tree before it, so that none can be exchanged while later ones stay.

use std::collections::BTreeSet;

use super::tree::Frontier;
use super::{LogEntry, LogKeys, Newest};
use crate::baseline::verdict::{Finding, Verdict};
use crate::key::KeyId;

/// Entries that were not made over those that are there before them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The place of the first of them.
    pub index: u64,
    /// Today's sealers who signed one.
    by: BTreeSet<KeyId>,
}

impl Broken {
    /// What it comes to: an entry was exchanged, unless so few say so that it may be one of them who lies.
    pub(super) fn finding(&self, keys: &LogKeys) -> Finding {
        let what =
            format!("entry {} of the log was not made over the entries that are there before it: one of them was exchanged", self.index);
        if self.by.len() < keys.threshold {
            let detail = format!("{what}, or a key was misused, for too few signed what shows it; if so, revoke it");
            return Finding::new(Verdict::Undetermined, detail);
        }
        let detail = format!("{what}; a table that it named may be rolled back: look at all tables before anything is sealed over it");
        Finding::new(Verdict::Forged, detail)
    }
}

/// The first of `entries`, which follow those that `before` is the tree of, that were not made over what lies before them. Entries of earlier
/// versions state nothing of it.
///
/// What nobody trusted signed is a leaf like any other, and accuses nobody. A key that was revoked shows nothing; one that was taken out of its
/// role is not believed, and not passed over. What a person accepted who began a history anew behind it is settled, once as many have as it
/// takes.
pub(super) fn broken(log: &str, before: &Frontier, entries: &[LogEntry], keys: &LogKeys) -> Option<Broken> {
    let mut frontier = before.clone();
    let mut broken: Option<Broken> = None;
    let mut accepted = BTreeSet::new();
    for next in entries {
        let signed = next.signed.as_ref().filter(|signed| signed.entry.log == log);
        if let Some((signed, stated)) = signed.and_then(|signed| Some((signed, signed.entry.before?))) {
            let by = signed.signers.iter().filter(|signer| keys.is_sealer(signer)).copied();
            let known = |signer: &KeyId| keys.is_sealer(signer) || keys.was_removed(signer);
            if stated != frontier.root() {
                if signed.signers.iter().any(known) {
                    broken.get_or_insert(Broken { index: next.index, by: BTreeSet::new() }).by.extend(by);
                }
            } else if broken.is_some() && signed.entry.begins_anew() {
                accepted.extend(by);
                if accepted.len() >= keys.threshold {
                    (broken, accepted) = (None, BTreeSet::new());
                }
            }
        }
        frontier.push(next.hash);
    }
    broken
}

impl Newest {
    /// What is wrong with the log as it is: inventories that are not made over its entries, and entries that are not made over those before them.
    pub fn findings(&self, keys: &LogKeys) -> Vec<Finding> {
        self.contradiction(keys).into_iter().chain(self.broken.as_ref().map(|broken| broken.finding(keys))).collect()
    }
}
