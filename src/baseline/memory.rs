//! What one sealer remembers between its seals, so that a seal after one more commit costs that commit and not the table.
//!
//! Nothing of it outlives the process or is taken from elsewhere: it is what this sealer itself has read and verified, or has written. What
//! was changed behind its back, every other process finds, for all of them read anew; and the next baseline covers nothing up, because it
//! states for what is old the digests that were sealed before.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectStoreExt as _;
use parking_lot::Mutex;

use super::repository::{BaselineName, TrustedBaseline};
use super::seal::Sealer;
use super::seal_evidence::Memory;
use super::seal_files::Sealing;
use super::sealed::SealedTable;
use super::standing::Judge;
use super::statement::{BaselineSummary, EvidenceRef, Statement};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{self, LogMemory, TableSnapshot};

/// Pieces of evidence that are looked for at a time.
const CONCURRENCY: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct SealMemory {
    pub(super) log: LogMemory,
    sealed: Mutex<Option<SealedTable>>,
    chain: Mutex<Option<CheckedChain>>,
}

/// A chain of baselines that was followed to its beginning.
#[derive(Debug, Clone)]
pub(super) struct CheckedChain {
    /// The trust root under which it was.
    root: u64,
    /// Its newest baseline.
    pub(super) newest: (u64, Digest),
    /// Its statements.
    pub(super) names: BTreeSet<BaselineName>,
}

/// What came of following a chain.
#[derive(Debug)]
pub(super) struct FollowedChain {
    /// What is wrong with it, by number.
    pub(super) wrong: BTreeMap<u64, String>,
    /// The statements that it runs through.
    pub(super) names: BTreeSet<BaselineName>,
}

impl SealMemory {
    /// Remembers the state that a baseline seals. It counts once the baseline is the newest in force.
    pub(super) fn prepared(
        &self,
        before: Option<SealedTable>,
        sealing: Sealing,
        memory: Memory,
        statement: &Statement,
        baseline: &BaselineSummary,
        row_key: [u8; 32],
    ) {
        // Evidence that is added to keeps what it has of change-data files.
        let mut changes = before.map(|before| before.changes).unwrap_or_default();
        changes.extend(sealing.changes);
        let (files, commits, removed) = (sealing.files, memory.commits, memory.removed);
        let (statement, baseline) = (statement.clone(), baseline.clone());
        *self.sealed.lock() = Some(SealedTable { statement, baseline, files, commits, removed, changes, row_key });
    }
}

impl Sealer {
    /// The table at `version`, or the newest.
    pub(super) async fn load(&self, version: Option<u64>) -> Result<TableSnapshot> {
        table::load_again(&**self.repository.store(), self.repository.root(), version, Some(&self.memory.log)).await
    }

    /// The state that the previous baseline seals: as this sealer sealed it, or as its evidence says.
    ///
    /// # Errors
    /// Those of reading evidence; of what is remembered, that it is there.
    pub(super) async fn sealed_before(&self, previous: &TrustedBaseline) -> Result<SealedTable> {
        let digest = previous.summary.digest;
        let known = self.memory.sealed.lock().clone().filter(|known| known.baseline.digest == digest);
        let Some(known) = known else { return self.repository.whole_table(previous.clone()).await };
        let heads = stream::iter(&previous.statement.evidence).map(|piece| self.check_evidence_is_there(piece));
        heads.buffer_unordered(CONCURRENCY).try_collect::<()>().await?;
        Ok(SealedTable { statement: previous.statement.clone(), baseline: previous.summary.clone(), ..known })
    }

    async fn check_evidence_is_there(&self, piece: &EvidenceRef) -> Result<()> {
        let path = self.repository.evidence_path(piece.digest);
        let size = self.repository.store().head(&path).await.map_err(|e| Error::from(e).with("evidence", &path))?.size;
        if size == piece.size {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Corrupt, "evidence does not have the size that its baseline states").with("evidence", path))
    }

    /// Follows the chain of baselines from `newest` down: to its beginning, or to where this sealer has followed it from before.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn check_chain(
        &self,
        judge: &Judge,
        newest: &TrustedBaseline,
        pins: &[(u64, Digest)],
    ) -> Result<BTreeMap<u64, String>> {
        let root = judge.trust.root().map_or(0, |signed| signed.root().version);
        let known = self.memory.chain.lock().clone().filter(|known| known.root == root);
        let FollowedChain { wrong, names } = self.repository.check_chain_above(newest, &judge.trust, pins, known.as_ref()).await?;
        let newest = (newest.summary.number, newest.summary.digest);
        *self.memory.chain.lock() = wrong.is_empty().then_some(CheckedChain { root, newest, names });
        Ok(wrong)
    }
}
