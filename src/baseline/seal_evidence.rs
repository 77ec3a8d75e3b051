//! What a seal stores: evidence, and the statement over it.

use std::collections::BTreeMap;

use super::evidence::{self, Delta, Profiles};
use super::seal::Sealer;
use super::seal_files::Sealing;
use super::seal_ground::Ground;
use super::sealed::SealedCommit;
use super::state;
use super::statement::{EvidenceKind, EvidenceRef, Statement};
use crate::error::Result;
use crate::table::FileKey;

/// What a baseline remembers besides the live files.
pub(super) struct Memory {
    /// Every file known to have been removed.
    pub(super) removed: BTreeMap<FileKey, Option<i64>>,
    /// Every commit, those of earlier baselines included.
    pub(super) commits: BTreeMap<u64, SealedCommit>,
}

impl Sealer {
    /// Stores evidence and forms the statement. Also says how many sealed files are no longer live.
    pub(super) async fn state(
        &self,
        ground: &Ground,
        sealing: &Sealing,
        memory: &Memory,
        row_key: &[u8; 32],
    ) -> Result<(Statement, usize)> {
        let (number, base) = (ground.number(), ground.base());
        let gone: Vec<&FileKey> = match &ground.sealed {
            Some(sealed) => sealed.files.keys().filter(|key| !sealing.files.contains_key(*key)).collect(),
            None => Vec::new(),
        };
        let known = |key: &FileKey| base.is_some_and(|sealed| sealed.removed.contains_key(key));
        let tombstones = memory.removed.iter().filter(|(key, _)| !known(key) && !gone.contains(key)).map(|(key, at)| (key, *at)).collect();
        let is_new = |(version, commit): &(&u64, &SealedCommit)| base.is_none_or(|sealed| sealed.commits.get(version) != Some(commit));
        let commits = memory.commits.iter().filter(is_new);
        let delta = Delta {
            added: sealing
                .files
                .iter()
                .filter(|(key, _)| base.is_none() || sealing.added.contains(*key))
                .map(|(_, file)| &**file)
                .collect(),
            removed: gone,
            tombstones,
            commits: commits.map(|(version, commit)| (*version, commit)).collect(),
            changes: sealing.changes.values().filter(|file| base.is_none_or(|sealed| !sealed.changes.contains_key(&file.path))).collect(),
        };
        let mut evidence = base.map_or_else(Vec::new, |sealed| sealed.statement.evidence.clone());
        for (kind, bytes) in delta.encode(row_key)? {
            let (digest, size) = self.repository.keep_evidence(bytes).await?;
            evidence.push(EvidenceRef { kind, digest, size, number });
        }
        evidence.extend(self.extras(ground, base.is_none(), sealing, row_key, number).await?);
        let root = state::root(&ground.snapshot, &sealing.files, &memory.removed, &memory.commits)?;
        let previous = ground.previous.as_ref();
        let created_ms = self.clock.now_ms().max(previous.map_or(i64::MIN, |p| p.summary.created_ms.saturating_add(1)));
        let statement = Statement {
            number,
            previous: previous.map(|p| p.summary.digest),
            created_ms,
            expires_ms: self.options.expires_after_ms.map(|after| created_ms.saturating_add(after)),
            location: self.location.clone(),
            aliases: self.options.aliases.clone(),
            foreign_roots: ground.roots.clone(),
            state: root,
            evidence,
            trust_root: ground.judge.trust.root().map_or(0, |signed| signed.root().version),
        };
        Ok((statement, delta.removed.len()))
    }

    /// Stores new profiles, and expectations when they are new. A baseline whose evidence is `whole` names no earlier pieces, so that those
    /// that are still wanted are stored again.
    async fn extras(&self, ground: &Ground, whole: bool, sealing: &Sealing, row_key: &[u8; 32], number: u64) -> Result<Vec<EvidenceRef>> {
        let mut kept = Profiles::new();
        if let (true, Some(previous)) = (whole, &ground.previous) {
            // They were read before; what was damaged, and is to be sealed all the same, is left out.
            kept = self.repository.profiles(&previous.statement).await.unwrap_or_default();
            kept.retain(|(key, _), _| sealing.files.contains_key(key) && !sealing.added.contains(key));
        }
        let mut pieces = Vec::new();
        if !(kept.is_empty() && sealing.profiles.is_empty()) {
            pieces.push((EvidenceKind::Profiles, evidence::encode_profiles(kept.iter().chain(&sealing.profiles), row_key)?));
        }
        let before = match &ground.previous {
            Some(previous) => self.repository.expectations(&previous.statement).await?,
            None => Vec::new(),
        };
        let expectations = self.options.expectations.as_ref().unwrap_or(&before);
        if *expectations != before || (whole && !before.is_empty()) {
            pieces.push((EvidenceKind::Expectations, evidence::encode_expectations(expectations, row_key)?));
        }
        let mut stored = Vec::new();
        for (kind, bytes) in pieces {
            let (digest, size) = self.repository.keep_evidence(bytes).await?;
            stored.push(EvidenceRef { kind, digest, size, number });
        }
        Ok(stored)
    }
}

/// The removed files and the commits of the new baseline.
pub(super) fn remembered(ground: &Ground, sealing: &Sealing) -> Memory {
    // What was accepted may contradict what earlier baselines remember.
    let known = ground.sealed.as_ref().filter(|_| ground.findings.is_empty());
    let mut removed = ground.base().map(|sealed| sealed.removed.clone()).unwrap_or_default();
    for key in ground.sealed.iter().flat_map(|sealed| sealed.files.keys()) {
        removed.entry(key.clone()).or_default();
    }
    for (key, at) in &ground.snapshot.tombstones {
        removed.entry(key.clone()).or_insert(*at);
    }
    removed.retain(|key, _| !sealing.files.contains_key(key));
    let mut commits = known.map(|sealed| sealed.commits.clone()).unwrap_or_default();
    // Whoever signed the previous baseline may have named commits that were to come. The log says what they are, and was compared up to that baseline.
    commits.retain(|version, _| *version <= ground.snapshot.version);
    for commit in &ground.snapshot.commits {
        let sealed = SealedCommit { digest: commit.digest, size: commit.size, operation: commit.operation.clone() };
        commits.insert(commit.version, sealed);
    }
    Memory { removed, commits }
}
