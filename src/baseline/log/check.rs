//! Reading a log whole, and holding it against everything that is signed or known of it.

use super::links;
use super::tree::{self, Frontier, Hash};
use super::{Log, LogKeys, LogPin, Newest};
use crate::baseline::inventory::Inventory;
use crate::baseline::verdict::{Finding, Verdict};
use crate::error::Result;

/// What checking a log came to.
#[derive(Debug, Clone)]
pub struct LogCheck {
    /// The log as it is; absent when nothing that is trusted is there.
    pub newest: Option<Newest>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// A log of more entries is not read for a note.
const NOTED_ENTRIES: u64 = 1024;

impl Log {
    /// What is wrong with the entries of a log that is in the state `state`, in words for a note: the signed inventory says what they say, so
    /// that whoever goes by that does not see them. Nothing is said of logs of more than 1024 entries.
    ///
    /// Cost: one GET per entry.
    pub(in crate::baseline) async fn damage(&self, state: &LogPin) -> Option<String> {
        if state.size > NOTED_ENTRIES {
            return None;
        }
        let what = match self.hashes_by(state.size, false).await {
            Ok(hashes) if tree::root(&hashes) == state.root => return None,
            Ok(_) => "entries of the log of baselines are not those that its inventory was signed over".to_owned(),
            Err(e) => format!("the log of baselines cannot be read whole: {e}"),
        };
        Some(format!("{what}; the verdict goes by the inventory, and `lakeseal log TABLE --check-consistency` says more"))
    }

    /// Replays the log from its first entry: root and tables must be those of the signed inventory, and the newest checkpoint's; and it
    /// must extend each of `known`, states that are known from elsewhere, named by where they are from.
    ///
    /// Cost: one GET per entry, more when an inventory or checkpoint has to be found; 32 bytes of memory per entry.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn check(&self, keys: &LogKeys, known: &[(String, LogPin)]) -> Result<LogCheck> {
        let newest = self.newest(keys).await?;
        let mut findings = match &newest {
            Some(newest) => self.check_whole(newest, keys).await?,
            None => Vec::new(),
        };
        for (from, pin) in known {
            let wrong = match &newest {
                Some(newest) => self.extends(newest, pin).await?,
                None => {
                    Some(Finding::new(Verdict::RolledBack, format!("nothing is there of a log of {} entries: it was taken away", pin.size)))
                }
            };
            findings.extend(wrong.map(|finding| Finding { detail: format!("{from}: {}", finding.detail), ..finding }));
        }
        findings.sort();
        findings.dedup();
        Ok(LogCheck { newest, findings })
    }

    async fn check_whole(&self, newest: &Newest, keys: &LogKeys) -> Result<Vec<Finding>> {
        let entries = self.entries(0, &keys.entries).await?;
        let hashes: Vec<Hash> = entries.iter().map(|entry| entry.hash).collect();
        let mut checkpoints = vec![newest.signed.clone()];
        checkpoints.extend(self.newest_checkpoint(keys).await?.map(|(checkpoint, _)| checkpoint));
        let mut findings = newest.findings(keys);
        // Where one signer is not enough, a checkpoint of one that is not that of the entries shows a forgery or a misused key.
        let verdict = |found| if keys.newest_threshold() > 1 { Verdict::Undetermined } else { found };
        for checkpoint in checkpoints.iter().filter(|checkpoint| checkpoint.size > 0) {
            let first = usize::try_from(checkpoint.size).ok().and_then(|size| hashes.get(..size));
            let wrong = match first {
                None => {
                    let detail = format!("a checkpoint of {} entries is signed, but only {} are there", checkpoint.size, entries.len());
                    Finding::new(verdict(Verdict::RolledBack), detail)
                }
                Some(first) if tree::root(first) != checkpoint.root => {
                    let detail = format!("the first {} entries are not those that a checkpoint was signed over", checkpoint.size);
                    Finding::new(verdict(Verdict::Forged), detail)
                }
                Some(_) => continue,
            };
            findings.push(wrong);
        }
        if findings.is_empty() {
            let broken = links::broken(&newest.inventory.log, &Frontier::default(), &entries, keys);
            findings.extend(broken.map(|broken| broken.finding(keys)));
        }
        // What was replayed to begin with cannot say anything else.
        if findings.is_empty() && !keys.replays() {
            let replayed = Inventory::replay(&newest.inventory.log, &entries);
            for (table, row) in &replayed.tables {
                if newest.inventory.tables.get(table) != Some(row) {
                    let detail = format!("the inventory does not say of {table} what entry {} says: baseline {}", row.entry, row.number);
                    findings.push(Finding::new(Verdict::Forged, detail));
                }
            }
        }
        Ok(findings)
    }
}
