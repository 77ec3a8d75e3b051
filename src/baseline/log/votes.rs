//! Replaying a log whose entries one key does not decide: what counts is what enough sealers say, in one entry or in several.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Entry, LoggedBaseline};
use super::{LogEntry, LogKeys};
use crate::baseline::inventory::{Inventory, table_name};
use crate::digest::Digest;
use crate::key::KeyId;

/// A baseline's number, and the digest of its statement.
type At = (u64, Digest);

/// Who said what of each table, as far as it does not count yet. Empty for logs that are not replayed.
#[derive(Debug, Clone, Default)]
pub(super) struct Votes(BTreeMap<String, TableVotes>);

#[derive(Debug, Clone, Default)]
struct TableVotes {
    seals: BTreeMap<At, Said>,
    restarts: BTreeMap<At, BTreeSet<KeyId>>,
    retires: BTreeSet<KeyId>,
}

#[derive(Debug, Clone, Default)]
struct Said {
    by: BTreeSet<KeyId>,
    /// Keys that were taken out of their role: they make nothing count.
    formerly: BTreeSet<KeyId>,
}

/// A baseline that the log names, but not by enough sealers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) number: u64,
    pub(super) digest: Digest,
    pub(super) by: Vec<KeyId>,
}

/// What a log's entries come to, all of them from the first: the tables, and what does not count yet. The log is `log`, or unless that is known
/// the one that the first entry of a known key is of.
pub(super) fn judge(log: &str, entries: &[LogEntry], keys: &LogKeys) -> (Inventory, Votes) {
    let mut inventory = Inventory::empty(log.to_owned());
    let mut votes = Votes::default();
    let mut seen = BTreeSet::new();
    for next in entries {
        inventory.frontier.push(next.hash);
        let Some(signed) = &next.signed else { continue };
        if inventory.log.is_empty() {
            inventory.log.clone_from(&signed.entry.log);
        }
        if signed.entry.log != inventory.log {
            continue;
        }
        // Whoever can write can copy an entry to a later place: a key says a thing once.
        let text = signed.entry.text_digest();
        let signers: Vec<KeyId> = signed.signers.iter().filter(|signer| seen.insert((text, **signer))).copied().collect();
        votes.take_in(next.index, &signed.entry, &signers, keys, &mut inventory);
    }
    (inventory, votes)
}

impl Votes {
    fn take_in(&mut self, index: u64, entry: &Entry, signers: &[KeyId], keys: &LogKeys, inventory: &mut Inventory) {
        let together = entry.baselines.len() > 1;
        for logged in &entry.baselines {
            let votes = self.0.entry(table_name(&logged.table).to_owned()).or_default();
            let (enough, restart) = votes.seal(logged, signers, keys);
            let counts = enough || restart;
            if counts && inventory.name(index, &LoggedBaseline { restart, ..logged.clone() }, together) {
                votes.settle((logged.number, logged.digest), restart);
            }
        }
        for table in &entry.retired {
            let name = table_name(table);
            if inventory.tables.get(name).is_none_or(|row| row.retired) {
                continue;
            }
            let votes = self.0.entry(name.to_owned()).or_default();
            votes.retires.extend(signers.iter().filter(|signer| keys.is_sealer(signer)));
            if votes.retires.len() >= keys.threshold {
                inventory.retire(index, name);
                *votes = TableVotes::default();
            }
        }
    }

    /// The baselines above `number` that are named, but not by enough sealers for the log to list one of them; the highest first.
    pub(super) fn claims(&self, table: &str, number: u64) -> impl Iterator<Item = Claim> {
        let seals = self.0.get(table).into_iter().flat_map(|votes| votes.seals.iter().rev());
        seals.take_while(move |((claimed, _), _)| *claimed > number).filter_map(|((number, digest), said)| {
            let by: Vec<KeyId> = said.by.union(&said.formerly).copied().collect();
            (!by.is_empty()).then_some(Claim { number: *number, digest: *digest, by })
        })
    }

    /// Whether `key` has said of this baseline already what it would say again.
    pub(super) fn has_named(&self, logged: &LoggedBaseline, key: &KeyId) -> bool {
        let at = (logged.number, logged.digest);
        self.0.get(table_name(&logged.table)).is_some_and(|votes| match logged.restart {
            true => votes.restarts.get(&at).is_some_and(|by| by.contains(key)),
            false => votes.seals.get(&at).is_some_and(|said| said.by.contains(key)),
        })
    }

    /// Whether `key` has said already that this table is given up.
    pub(super) fn has_retired(&self, table: &str, key: &KeyId) -> bool {
        self.0.get(table_name(table)).is_some_and(|votes| votes.retires.contains(key))
    }
}

impl TableVotes {
    /// Whether enough sealers have named the baseline by now, and whether enough have said that the history begins anew with it.
    fn seal(&mut self, logged: &LoggedBaseline, signers: &[KeyId], keys: &LogKeys) -> (bool, bool) {
        let at = (logged.number, logged.digest);
        let by: BTreeSet<KeyId> = signers.iter().filter(|signer| keys.believes(signer, &logged.digest)).copied().collect();
        let formerly: BTreeSet<KeyId> = signers.iter().filter(|signer| keys.was_removed(signer)).copied().collect();
        if by.is_empty() && formerly.is_empty() {
            return (false, false);
        }
        // A key stands behind one statement of a number: what it signs last.
        for (_, other) in self.seals.iter_mut().filter(|(other, _)| other.0 == at.0 && **other != at) {
            other.by.retain(|key| !by.contains(key));
            other.formerly.retain(|key| !formerly.contains(key));
        }
        let said = self.seals.entry(at).or_default();
        said.by.extend(&by);
        said.formerly.extend(&formerly);
        let enough = said.by.len() >= keys.threshold;
        if !logged.restart {
            return (enough, false);
        }
        // That a history begins anew, only today's sealers say: a thief of a revoked key could go back to its last good baseline.
        let restarts = self.restarts.entry(at).or_default();
        restarts.extend(by.iter().filter(|key| keys.is_sealer(key)));
        (enough, restarts.len() >= keys.threshold)
    }

    /// The log lists this baseline now: what was said of earlier ones, and of beginning anew or giving up what was, is settled; of all others, if
    /// the history begins anew with it.
    fn settle(&mut self, at: At, restart: bool) {
        self.seals.retain(|other, _| *other == at || (!restart && other.0 > at.0));
        self.restarts.clear();
        self.retires.clear();
    }
}
