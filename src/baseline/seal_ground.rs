//! What a seal begins with: the table as it is, the previous baseline, and a refusal where the one contradicts the other.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt as _, stream};

use super::compare::{self, Place};
use super::compare_data::FileState;
use super::evidence::FULL_EVERY;
use super::progress::Progress;
use super::repository::{Repository, TrustedBaseline};
use super::roots::{check_roots, refuse_foreign};
use super::seal::Sealer;
use super::sealed::{SealedFile, SealedTable};
use super::standing::Judge;
use super::statement::BaselineSummary;
use super::unheld::unheld_files;
use super::verdict::{Finding, Verdict};
use super::{audit, presence};
use crate::error::{Error, ErrorKind, Result};
use crate::table::{FileKey, ForeignRoots, TableKind, TableSnapshot};

/// So many findings are said in a refusal.
const SHOWN_FINDINGS: usize = 5;

/// What an attempt begins with.
pub(super) struct Ground {
    pub(super) judge: Judge,
    /// The other tables whose files the log may name.
    pub(super) roots: ForeignRoots,
    /// The seals, in a store in which these tables are seen.
    pub(super) repository: Repository,
    pub(super) snapshot: TableSnapshot,
    pub(super) previous: Option<TrustedBaseline>,
    pub(super) sealed: Option<SealedTable>,
    pub(super) findings: Vec<Finding>,
    /// Sealed files that may not be taken over from evidence.
    pub(super) stale: BTreeSet<FileKey>,
    pub(super) first: bool,
    /// Why `previous` is not in force, or is absent although there are seals, for people; nothing of it is then taken over unread.
    pub(super) unproven: Option<String>,
}

impl Ground {
    /// The new baseline's number.
    pub(super) fn number(&self) -> u64 {
        self.previous.as_ref().map_or(1, |previous| previous.summary.number.saturating_add(1))
    }

    /// The evidence that the new baseline adds to. What was accepted may contradict it, and evidence takes no commit back: then, and now and
    /// then, all is written whole.
    pub(super) fn base(&self) -> Option<&SealedTable> {
        let adds = !self.number().is_multiple_of(FULL_EVERY) && self.findings.is_empty();
        let last = |sealed: &SealedTable| sealed.commits.last_key_value().map(|(version, _)| *version);
        self.sealed.as_ref().filter(|sealed| adds && last(sealed).is_none_or(|version| version <= self.snapshot.version))
    }
}

impl Sealer {
    /// Reads table and previous baseline, and refuses to seal over what contradicts it.
    pub(super) async fn ground(&self, progress: &dyn Progress) -> Result<Ground> {
        let judge = self.judge().await?;
        let snapshot = self.load(None).await?;
        let previous = self.repository.newest_in_force(&judge).await?;
        let untrusted = if previous.is_none() { self.untrusted_seals(&judge).await? } else { None };
        if let Some(detail) = untrusted.as_ref().filter(|_| !self.options.accept_changes) {
            return Err(Error::new(ErrorKind::Unauthentic, detail).with("table", &self.location));
        }
        let known = previous.as_ref().map(|previous| previous.summary.clone());
        let roots = self.roots(previous.as_ref());
        let mut ground = self.ground_at(judge, (snapshot, roots), (previous, known), progress).await?;
        ground.unproven.clone_from(&untrusted);
        ground.findings.extend(untrusted.map(|detail| Finding::new(Verdict::Untrusted, detail)));
        ground.findings.sort();
        Ok(ground)
    }

    /// The other tables whose files the log may name: as it is asked for, or as `previous`, which is in force, has them.
    pub(super) fn roots(&self, previous: Option<&TrustedBaseline>) -> ForeignRoots {
        let before = || previous.map(|previous| previous.statement.foreign_roots.clone());
        self.options.foreign_roots.clone().or_else(before).unwrap_or_default()
    }

    /// What to seal begins with, `previous` being in force and `known` what the log may already name: the baseline itself, where its signatures
    /// no longer suffice.
    pub(super) async fn ground_at(
        &self,
        judge: Judge,
        (mut snapshot, roots): (TableSnapshot, ForeignRoots),
        (previous, known): (Option<TrustedBaseline>, Option<BaselineSummary>),
        progress: &dyn Progress,
    ) -> Result<Ground> {
        check_roots(&roots, &self.location, &self.options.aliases)?;
        roots.place(self.repository.root(), &mut snapshot);
        refuse_foreign(&snapshot, &roots)?;
        let repository = self.repository.with_roots(&roots).await?;
        let mut findings = Vec::new();
        let first = previous.is_none();
        findings.extend(compare::compare_pin(known.as_ref().map(|known| known.number), self.options.pin));
        let (pin, now_ms) = (self.options.log_pin.as_ref(), self.clock.now_ms());
        let consulted = self.log.consult(&self.repository, &self.location, known.as_ref(), &judge.trust, pin, now_ms).await?;
        // To seal is what renews a term and signs an inventory; what is wrong otherwise must not be covered up.
        findings.extend(consulted.findings.into_iter().filter(|f| f.verdict.is_mismatch() && f.verdict != Verdict::Expired));
        let mut sealed = None;
        if let Some(previous) = &previous {
            let pins: Vec<_> = self.options.pin.into_iter().chain(consulted.logged).collect();
            let wrong = self.check_chain(&judge, previous, &pins).await?;
            findings.extend(compare::chain_findings(wrong));
            sealed = match self.sealed_before(previous).await {
                Ok(mut sealed) => {
                    // As they are found now: the roots may be others than they were.
                    sealed.place(self.repository.root(), &roots);
                    Some(sealed)
                }
                Err(e) if self.options.accept_changes && !e.is_retryable() => {
                    findings.push(Finding::new(Verdict::Untrusted, format!("the previous baseline's evidence cannot be used: {e}")));
                    None
                }
                Err(e) => return Err(e),
            };
        }
        let (stale, unproven) = (BTreeSet::new(), None);
        let mut ground = Ground { judge, roots, repository, snapshot, previous, sealed, findings, stale, first, unproven };
        self.compare(&mut ground, progress).await?;
        Ok(ground)
    }

    async fn compare(&self, ground: &mut Ground, progress: &dyn Progress) -> Result<()> {
        let place = Place {
            store: &**ground.repository.store(),
            root: ground.repository.root(),
            location: &self.location,
            now_ms: self.clock.now_ms(),
            writers: &self.options.writers,
            memory: Some(&self.memory.log),
        };
        let mut found = Vec::new();
        let mut unheld = BTreeSet::new();
        if ground.snapshot.kind == TableKind::Delta {
            found.extend(compare::compare_checkpoints(&place, ground.snapshot.version).await?);
        }
        if let Some(sealed) = &ground.sealed {
            let comparison = compare::compare_log(&place, &ground.snapshot, sealed).await?;
            let added = compare::columns_since(comparison.at_sealed.as_ref(), &ground.snapshot, sealed);
            let hidden;
            (unheld, hidden) = unheld_files(&ground.snapshot, sealed, &added);
            found.extend(comparison.findings.into_iter().chain(hidden));
            // A folder of Parquet is what a listing says of it already.
            if ground.snapshot.kind == TableKind::Delta {
                let sizes = presence::sizes(&**self.repository.store(), self.repository.root()).await?;
                let (differs, failed) = presence::compare_presence(&ground.repository, sizes, &ground.snapshot, sealed).await;
                // What is not known is not sealed.
                if let Some(error) = failed {
                    return Err(error);
                }
                found.extend(differs);
            }
            if self.options.accept_changes {
                for finding in self.changed_data(ground, sealed, progress).await? {
                    found.push(finding);
                }
            }
        }
        found.extend(ground.snapshot.duplicates.iter().map(|key| Finding::new(Verdict::Forged, "the file is named twice").file(&key.path)));
        // To seal an expired baseline's table again is what renews it.
        found.retain(|finding| finding.verdict.is_mismatch() && finding.verdict != Verdict::Expired);
        ground.findings.extend(found);
        ground.findings.sort();
        ground.findings.dedup();
        let undetermined = ground.findings.iter().any(|f| f.verdict == Verdict::Undetermined);
        if !ground.snapshot.duplicates.is_empty() || undetermined || !(ground.findings.is_empty() || self.options.accept_changes) {
            return Err(refusal(&self.location, &ground.findings));
        }
        // What became of sealed files may have been cleaned up with the log, or forged away: a person has to know.
        let forgotten = ground.sealed.as_ref().and_then(|sealed| compare::compare_forgotten(&ground.snapshot, sealed));
        if let Some(forgotten) = forgotten.filter(|finding| finding.verdict == Verdict::Undetermined) {
            if !self.options.accept_changes {
                return Err(refusal(&self.location, &[forgotten]));
            }
            ground.findings.push(forgotten);
        }
        let suspect: BTreeSet<&String> = ground.findings.iter().filter_map(|f| f.file.as_ref()).collect();
        ground.stale = ground.snapshot.files.keys().filter(|key| suspect.contains(&key.path)).cloned().collect();
        ground.stale.append(&mut unheld);
        Ok(())
    }

    /// Reads every sealed file that is still live, and says what differs.
    async fn changed_data(&self, ground: &Ground, sealed: &SealedTable, progress: &dyn Progress) -> Result<Vec<Finding>> {
        let snapshot = &ground.snapshot;
        let observer = audit::observer(&ground.repository, &snapshot.schema, sealed.row_key, true);
        progress.begin("checking sealed files", sealed.baseline.files, sealed.baseline.bytes);
        let files: Vec<&SealedFile> =
            sealed.files.values().map(Arc::as_ref).filter(|file| snapshot.files.contains_key(&file.live.key)).collect();
        let reads = stream::iter(files).map(|file| async move {
            let state = observer.compare(file, &|bytes| progress.bytes(bytes)).await;
            progress.file(&file.live.key.path);
            match state {
                FileState::Intact => Vec::new(),
                FileState::Absent => vec![Finding::new(Verdict::Missing, sealed.gone(file)).file(&file.live.key.path)],
                FileState::Differs(findings) => findings,
            }
        });
        let found: Vec<Vec<Finding>> = reads.buffer_unordered(self.options.concurrency.max(1)).collect().await;
        progress.end();
        Ok(found.into_iter().flatten().collect())
    }
}

fn refusal(location: &str, findings: &[Finding]) -> Error {
    let shown: Vec<String> = findings.iter().take(SHOWN_FINDINGS).map(ToString::to_string).collect();
    let more = findings.len().saturating_sub(shown.len());
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    Error::new(
        ErrorKind::Mismatch,
        format!(
            "sealing would cover up changes; audit the table, and accept them (--accept-changes) only if they are meant: {}{rest}",
            shown.join("; ")
        ),
    )
    .with("table", location)
}
