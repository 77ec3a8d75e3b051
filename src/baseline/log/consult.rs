//! What the log says of one table, held against the newest baseline that is there.

use super::tree::{self, Hash};
use super::{Checkpoint, Log, LogKeys, Newest};
use crate::baseline::compare::{chain_findings, compare_pin};
use crate::baseline::inventory::{InventoryRow, table_name};
use crate::baseline::pins::{PinNames, Pins};
use crate::baseline::repository::{BaselineName, Repository, TrustedBaseline};
use crate::baseline::sealed::SealedTable;
use crate::baseline::statement::BaselineSummary;
use crate::baseline::trust::Trust;
use crate::baseline::verdict::{Finding, Verdict};
use crate::digest::Digest;
use crate::error::{ErrorKind, Result};
use crate::format::logical::stored_below;

/// The state of a log that is known from elsewhere: what comes now must extend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPin {
    /// Which log.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash,
}

impl From<Checkpoint> for LogPin {
    fn from(checkpoint: Checkpoint) -> Self {
        Self { origin: checkpoint.origin, size: checkpoint.size, root: checkpoint.root }
    }
}

/// What asking the log came to.
#[derive(Debug, Clone, Default)]
pub struct Consulted {
    /// Mismatches, and what could not be determined.
    pub findings: Vec<Finding>,
    /// For people.
    pub notes: Vec<String>,
    /// The log as it is; absent when nobody trusted signed one.
    pub checkpoint: Option<LogPin>,
    /// The baseline that the log names for the table: the newest one's history must run through it.
    pub logged: Option<(u64, Digest)>,
}

impl Consulted {
    fn find(&mut self, verdict: Verdict, detail: impl Into<String>) {
        self.findings.push(Finding::new(verdict, detail));
    }
}

impl Log {
    /// Holds the table at `location`, whose seals are `repository` and whose newest trusted baseline is `newest`, against the log, and the log
    /// against `pin`. `trust` is the newest that is known.
    ///
    /// Cost: as [`Log::newest`]; one GET per earlier trust root; with a pin of an earlier state, as [`Log::hashes`].
    ///
    /// # Errors
    /// Those of the store.
    pub async fn consult(
        &self,
        repository: &Repository,
        location: &str,
        newest: Option<&BaselineSummary>,
        trust: &Trust,
        pin: Option<&LogPin>,
        now_ms: i64,
    ) -> Result<Consulted> {
        let mut consulted = Consulted::default();
        let Some(log) = self.consult_log(repository, trust, pin, now_ms, &mut consulted).await? else { return Ok(consulted) };
        let name = table_name(location);
        match log.inventory.tables.get(name) {
            Some(row) if row.retired => consulted.notes.push("the log says that this table was given up".to_owned()),
            Some(row) => {
                compare_row(row, newest, &mut consulted);
                self.compare_set(&log, name, trust, &mut consulted).await?;
            }
            None if newest.is_some_and(|newest| log.votes.claims(name, 0).any(|claim| claim.digest == newest.digest)) => {
                consulted.notes.push("too few sealers have recorded this baseline in the log: another one should seal again".to_owned());
            }
            None if newest.is_some() => consulted.notes.push("the log does not name this table: seal it to have it recorded".to_owned()),
            None => {}
        }
        self.compare_claims(&log, name, newest, repository, &mut consulted).await?;
        Ok(consulted)
    }

    /// As [`Self::consult`], without what the log says of the table: its newest baseline cannot be read, which is not to say that it is gone.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn consult_alone(&self, repository: &Repository, trust: &Trust, pin: Option<&LogPin>, now_ms: i64) -> Result<Consulted> {
        let mut consulted = Consulted::default();
        self.consult_log(repository, trust, pin, now_ms, &mut consulted).await?;
        Ok(consulted)
    }

    /// What is to be said of the log itself, and the log.
    async fn consult_log(
        &self,
        repository: &Repository,
        trust: &Trust,
        pin: Option<&LogPin>,
        now_ms: i64,
        consulted: &mut Consulted,
    ) -> Result<Option<Newest>> {
        let keys = self.keys(trust, Some(repository)).await?;
        let Some(log) = self.newest(&keys).await? else {
            if let Some(pin) = pin {
                let detail =
                    format!("a log of {} entries is pinned, but nothing of it that you trust is there: it was taken away", pin.size);
                consulted.find(Verdict::RolledBack, detail);
            }
            return Ok(None);
        };
        if log.signed.size == 0 {
            let detail = "the log has entries but no signed inventory: it was taken away, or the first seal was interrupted; seal again";
            consulted.find(Verdict::Undetermined, detail);
        }
        if log.by_former {
            let note = "nobody who may say today what is newest has signed the inventory yet: renew it, or seal anything";
            consulted.notes.push(note.to_owned());
        }
        consulted.findings.extend(log.findings(&keys));
        if log.expires_ms.is_some_and(|expires| expires <= now_ms) {
            consulted
                .find(Verdict::Expired, "the inventory's term is over: what it says may not be the newest; renew it, or seal anything");
        }
        if let Some(pin) = pin {
            consulted.findings.extend(self.extends(&log, pin).await?);
        }
        consulted.checkpoint = Some(log.inventory.checkpoint().into());
        Ok(Some(log))
    }

    /// Fewer sealers than must have named a newer baseline than the newest that is here. One that waits for signatures is here; of one that is
    /// not, nobody can say whether it was taken away or never was: one thief can neither hide a roll-back so, nor have it believed.
    async fn compare_claims(
        &self,
        log: &Newest,
        name: &str,
        newest: Option<&BaselineSummary>,
        repository: &Repository,
        consulted: &mut Consulted,
    ) -> Result<()> {
        // What is older than the listed one was compared with that.
        let listed = log.inventory.tables.get(name).filter(|row| !row.retired).map_or(0, |row| row.number);
        let here = newest.map_or(0, |newest| newest.number).max(listed);
        for claim in log.votes.claims(name, here) {
            if repository.statement_bytes(&BaselineName { number: claim.number, digest: claim.digest }).await?.is_some() {
                continue;
            }
            let by: Vec<String> = claim.by.iter().map(ToString::to_string).collect();
            let detail = format!(
                "{} named baseline {} in the log, too few for it to count, and it is not here: it was taken away, or a key was misused; \
                 if it was, revoke it",
                by.join(", "),
                claim.number
            );
            consulted.find(Verdict::Undetermined, detail);
            break;
        }
        Ok(())
    }

    /// Whether the log extends what is pinned; what is wrong, if not.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn extends(&self, log: &Newest, pin: &LogPin) -> Result<Option<Finding>> {
        let size = log.inventory.frontier.size();
        if log.inventory.log != pin.origin {
            let detail = format!("the log is {}, but {} is pinned: another log lies in its place", log.inventory.log, pin.origin);
            return Ok(Some(Finding::new(Verdict::Forged, detail)));
        }
        if size < pin.size {
            let detail = format!("the log has {size} entries, but {} are pinned: later ones were taken away", pin.size);
            return Ok(Some(Finding::new(Verdict::RolledBack, detail)));
        }
        let forks = || {
            let detail = format!("the log's first {} entries are not those that are pinned: the log forks", pin.size);
            Some(Finding::new(Verdict::Forged, detail))
        };
        if size == pin.size {
            return Ok(if log.inventory.frontier.root() == pin.root { None } else { forks() });
        }
        match self.hashes(size, &log.inventory.frontier.root()).await {
            Ok(hashes) => {
                let first = usize::try_from(pin.size).ok().and_then(|first| hashes.get(..first));
                Ok(if first.is_some_and(|first| tree::root(first) == pin.root) { None } else { forks() })
            }
            Err(e) if e.kind() == ErrorKind::Mismatch => Ok(Some(Finding::new(Verdict::Forged, e.to_string()))),
            Err(e) => Err(e),
        }
    }

    /// The other tables that were sealed as one with this one must be there as they were sealed, or later.
    async fn compare_set(&self, log: &Newest, name: &str, trust: &Trust, consulted: &mut Consulted) -> Result<()> {
        for (other, row) in log.inventory.together(name) {
            consulted.notes.push(format!("sealed as one with {other}, baseline {}", row.number));
            if let Some(what) = self.missing(row, trust).await? {
                consulted.find(Verdict::RolledBack, format!("{other}, which was sealed as one with this table: {what}"));
            }
        }
        Ok(())
    }

    /// What is wrong with the newest baseline of a listed table, beside its row.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn missing(&self, row: &InventoryRow, trust: &Trust) -> Result<Option<String>> {
        let Ok(root) = stored_below(&self.root, &row.path) else {
            return Ok(Some(format!("the inventory has \"{}\" for its path, which is none", row.path)));
        };
        let newest = Repository::new(self.store.clone(), root).newest_statement(trust).await?;
        let mut consulted = Consulted::default();
        compare_row(row, newest.as_ref().map(|newest| &newest.summary), &mut consulted);
        Ok(consulted.findings.into_iter().next().map(|finding| finding.detail))
    }
}

impl Newest {
    /// What it comes to that inventories were signed which are not made over the entries that are there.
    pub(super) fn contradiction(&self, keys: &LogKeys) -> Option<Finding> {
        let size = self.inventory.frontier.size();
        let largest = *self.contradicted.iter().max()?;
        let what = if largest > size {
            format!("an inventory of {largest} entries is signed, but only {size} are there")
        } else {
            format!("an inventory of {largest} entries is signed, but they are not those that are there")
        };
        if self.contradicted.len() < keys.newest_threshold() {
            let detail = format!("{what}: they were taken away, or a key was misused, for too few signed it; if so, revoke it");
            return Some(Finding::new(Verdict::Undetermined, detail));
        }
        Some(Finding::new(if largest > size { Verdict::RolledBack } else { Verdict::Forged }, what))
    }
}

fn compare_row(row: &InventoryRow, newest: Option<&BaselineSummary>, consulted: &mut Consulted) {
    let listed = row.number;
    consulted.logged = Some((row.number, row.digest));
    let Some(newest) = newest else {
        let detail =
            format!("the inventory lists baseline {listed} of this table, but none that you trust is there: the seals were taken away");
        return consulted.find(Verdict::RolledBack, detail);
    };
    if newest.number < listed {
        let detail =
            format!("the inventory lists baseline {listed} of this table, but the newest is {}: later ones were taken away", newest.number);
        consulted.find(Verdict::RolledBack, detail);
    } else if newest.number == listed && newest.digest != row.digest {
        consulted.find(Verdict::Forged, format!("baseline {listed} is not the one that the inventory lists: the history forks"));
    } else if newest.number > listed {
        consulted.notes.push(format!("baseline {} is not in the log yet: to seal again records it", newest.number));
    }
}

/// What is wrong with `newest`, a table's newest trusted baseline, beside what is pinned and what the log says. Empty when all is well.
///
/// Cost: as [`Log::consult`]; the whole chain of baselines is read only when a later one than the pinned or logged is there.
///
/// # Errors
/// Those of the store.
pub async fn compare_known(
    repository: &Repository,
    log: &Log,
    location: &str,
    newest: Option<&SealedTable>,
    trust: &Trust,
    pins: Option<(&Pins, &PinNames)>,
    now_ms: i64,
) -> Result<Vec<Finding>> {
    let (mut findings, known) = held_against(repository, log, location, newest, trust, pins, now_ms).await?;
    if let Some(newest) = newest
        && known.iter().any(|(number, digest)| *number < newest.baseline.number || *digest != newest.baseline.digest)
        && findings.is_empty()
    {
        findings.extend(chain_of(repository, newest, trust, &known).await?);
    }
    Ok(findings)
}

/// As [`compare_known`], with the whole chain of baselines in any case, for those who undo what came after `newest`.
///
/// Cost: as [`Log::consult`], and the chain, once.
///
/// # Errors
/// Those of the store.
pub async fn compare_history(
    repository: &Repository,
    log: &Log,
    location: &str,
    newest: Option<&SealedTable>,
    trust: &Trust,
    pins: Option<(&Pins, &PinNames)>,
    now_ms: i64,
) -> Result<Vec<Finding>> {
    let (mut findings, known) = held_against(repository, log, location, newest, trust, pins, now_ms).await?;
    if let Some(newest) = newest {
        findings.extend(chain_of(repository, newest, trust, &known).await?);
    }
    Ok(findings)
}

/// What pins and log say against `newest`, and the baselines that they name: its history must run through these.
async fn held_against(
    repository: &Repository,
    log: &Log,
    location: &str,
    newest: Option<&SealedTable>,
    trust: &Trust,
    pins: Option<(&Pins, &PinNames)>,
    now_ms: i64,
) -> Result<(Vec<Finding>, Vec<(u64, Digest)>)> {
    let (pin, log_pin) = pins.map_or((None, None), |(pins, names)| (pins.table(names), pins.log(names)));
    let summary = newest.map(|newest| &newest.baseline);
    let consulted = log.consult(repository, location, summary, trust, log_pin, now_ms).await?;
    let mut findings: Vec<Finding> = compare_pin(summary.map(|summary| summary.number), pin).into_iter().collect();
    findings.extend(consulted.findings);
    Ok((findings, pin.into_iter().chain(consulted.logged).collect()))
}

async fn chain_of(repository: &Repository, newest: &SealedTable, trust: &Trust, known: &[(u64, Digest)]) -> Result<Vec<Finding>> {
    let newest = TrustedBaseline { statement: newest.statement.clone(), summary: newest.baseline.clone() };
    let wrong = repository.check_chain(&newest, trust, known).await?;
    Ok(chain_findings(wrong).collect())
}
