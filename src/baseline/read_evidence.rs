//! Evidence as it is read: each piece has the digest that the statement names, and the state that they come to is the one that was signed.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::evidence::{self, Detail, Expectation, Profiles, RowGroupsByFile};
use super::repository::{Repository, TrustedBaseline};
use super::sealed::{RowGroups, SealedFile, SealedTable};
use super::state;
use super::statement::{EvidenceKind, EvidenceRef, Statement};
use crate::digest::{BlockList, Digest, MultisetHash};
use crate::error::{Error, ErrorKind, Result};
use crate::table::read_object;

const EVIDENCE_LIMIT_BYTES: u64 = 1 << 32;
/// A statement names at most this many pieces of evidence; a full one is written long before.
const EVIDENCE_COUNT_LIMIT: usize = 1024;
const CONCURRENCY: usize = 8;
/// Pieces about row groups are the large ones.
const ROW_GROUP_PIECES_AT_A_TIME: usize = 2;

impl Repository {
    /// Reads the evidence of `baseline` and holds it against the statement.
    ///
    /// Cost: one GET per piece of evidence, at most 176 for statements of this version; memory for the state.
    pub async fn sealed_table(&self, baseline: TrustedBaseline) -> Result<SealedTable> {
        let table = self.table_of(baseline, Detail::Whole).await?;
        state::check(&table)?;
        Ok(table)
    }

    /// As [`Self::whole_table`], without keeping row groups, of which the roots of the state were made: for comparisons that read no data.
    ///
    /// Cost: that of [`Self::whole_table`]; memory for the files, and for two pieces of evidence.
    pub(super) async fn checked_table(&self, baseline: TrustedBaseline) -> Result<SealedTable> {
        self.check_extras(&baseline.statement).await?;
        let statement = baseline.statement.clone();
        let mut found = self.state_of(&baseline, Detail::Roots).await?;
        let mut sum = Some(MultisetHash::new());
        let mut loaded = self.pieces(&statement, |kind| kind == EvidenceKind::RowGroups, ROW_GROUP_PIECES_AT_A_TIME);
        while let Some((reference, bytes)) = loaded.try_next().await? {
            found.apply_roots(&reference, bytes, &mut sum).map_err(|e| e.with("evidence", self.evidence_path(reference.digest)))?;
        }
        drop(loaded);
        let table = self.finish(found, TrustedBaseline { statement, ..baseline })?;
        state::check_summed(&table, sum)?;
        Ok(table)
    }

    /// As [`Self::sealed_table`], without row groups ([`Self::with_row_groups`] reads them), and without computing the roots of the state anew:
    /// each piece of evidence has the digest that was signed. Whoever signed evidence that does not come to the roots beside it is found by
    /// every audit, seal, countersignature and proof.
    pub(crate) async fn readable_table(&self, baseline: TrustedBaseline) -> Result<SealedTable> {
        self.table_of(baseline, Detail::Nothing).await
    }

    /// As [`Self::sealed_table`], and every other piece of evidence is read as well, so that none of them is missed when it is needed.
    pub(super) async fn whole_table(&self, baseline: TrustedBaseline) -> Result<SealedTable> {
        self.check_extras(&baseline.statement).await?;
        self.sealed_table(baseline).await
    }

    async fn table_of(&self, baseline: TrustedBaseline, detail: Detail) -> Result<SealedTable> {
        let found = self.state_of(&baseline, detail).await?;
        self.finish(found, baseline)
    }

    /// The table, with the places of files of other tables: those below the roots that its own statement names.
    fn finish(&self, found: evidence::State, TrustedBaseline { statement, summary }: TrustedBaseline) -> Result<SealedTable> {
        let roots = statement.foreign_roots.clone();
        let mut table = found.finish(statement, summary)?;
        table.place(self.root(), &roots);
        Ok(table)
    }

    async fn state_of(&self, baseline: &TrustedBaseline, detail: Detail) -> Result<evidence::State> {
        let TrustedBaseline { statement, summary } = baseline;
        if statement.evidence.len() > EVIDENCE_COUNT_LIMIT {
            return Err(Error::new(ErrorKind::Corrupt, "a baseline names too much evidence").with("baseline", summary.number));
        }
        let wanted = |kind: EvidenceKind| kind.is_state() && (detail == Detail::Whole || kind != EvidenceKind::RowGroups);
        let mut loaded = self.pieces(statement, wanted, CONCURRENCY);
        let mut found = evidence::State::new(detail);
        while let Some((reference, bytes)) = loaded.try_next().await? {
            found.apply(&reference, bytes, self.root()).map_err(|e| e.with("evidence", self.evidence_path(reference.digest)))?;
        }
        drop(loaded);
        Ok(found)
    }

    /// The pieces of evidence of some kinds, in the order in which the statement names them, so many asked for at a time.
    fn pieces<'a>(
        &'a self,
        statement: &Statement,
        wanted: impl Fn(EvidenceKind) -> bool,
        at_a_time: usize,
    ) -> BoxStream<'a, Result<(EvidenceRef, Bytes)>> {
        let pieces: Vec<EvidenceRef> = statement.evidence.iter().filter(|piece| wanted(piece.kind)).copied().collect();
        let reads = stream::iter(pieces).map(move |reference| async move { Ok((reference, self.evidence_bytes(&reference).await?)) });
        reads.buffered(at_a_time).boxed()
    }

    /// The row groups that evidence tells of, by file. Cost: one GET per piece of their evidence; memory for all of them.
    pub(crate) async fn row_groups(&self, statement: &Statement) -> Result<RowGroupsByFile> {
        let mut loaded = self.pieces(statement, |kind| kind == EvidenceKind::RowGroups, ROW_GROUP_PIECES_AT_A_TIME);
        let mut all = RowGroupsByFile::new();
        while let Some((reference, bytes)) = loaded.try_next().await? {
            evidence::add_row_groups(&mut all, bytes).map_err(|e| e.with("evidence", self.evidence_path(reference.digest)))?;
        }
        Ok(all)
    }

    /// A table with its row groups, whether they were read before or not. Cost: that of [`Self::row_groups`] where they were not.
    pub(crate) async fn with_row_groups(&self, table: &SealedTable) -> Result<SealedTable> {
        let mut table = table.clone();
        if table.files.values().all(|file| file.row_groups.as_read().is_some()) {
            return Ok(table);
        }
        let mut all = self.row_groups(&table.statement).await?;
        for (key, file) in &mut table.files {
            Arc::make_mut(file).row_groups = RowGroups::known(all.remove(key).unwrap_or_default());
        }
        Ok(table)
    }

    /// The profiles of the columns of every sealed row group, as far as they were made.
    ///
    /// Cost: one GET per piece; memory for all of them, a few kilobytes a column chunk.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] or [`ErrorKind::NotFound`] when evidence is damaged or gone.
    pub async fn profiles(&self, statement: &Statement) -> Result<Profiles> {
        let mut found = Profiles::new();
        for reference in statement.evidence.iter().filter(|piece| piece.kind == EvidenceKind::Profiles) {
            let bytes = self.evidence_bytes(reference).await?;
            evidence::read_profiles(bytes, &mut found).map_err(|e| e.with("evidence", self.evidence_path(reference.digest)))?;
        }
        Ok(found)
    }

    /// The expectations that a baseline signs. Cost: one GET at most.
    ///
    /// # Errors
    /// As [`Self::profiles`].
    pub async fn expectations(&self, statement: &Statement) -> Result<Vec<Expectation>> {
        match statement.evidence.iter().rfind(|piece| piece.kind == EvidenceKind::Expectations) {
            Some(reference) => evidence::read_expectations(self.evidence_bytes(reference).await?)
                .map_err(|e| e.with("evidence", self.evidence_path(reference.digest))),
            None => Ok(Vec::new()),
        }
    }

    /// Reads the evidence that is no part of the state.
    async fn check_extras(&self, statement: &Statement) -> Result<()> {
        for reference in statement.evidence.iter().filter(|piece| !piece.kind.is_state()) {
            self.evidence_bytes(reference).await?;
        }
        Ok(())
    }

    async fn evidence_bytes(&self, reference: &EvidenceRef) -> Result<Bytes> {
        let path = self.evidence_path(reference.digest);
        let failed = |e: Error| e.with("evidence", &path);
        let bytes = read_object(&**self.store(), &path, EVIDENCE_LIMIT_BYTES.min(reference.size)).await.map_err(failed)?;
        if u64::try_from(bytes.len()).ok() == Some(reference.size) && Digest::of(&bytes) == reference.digest {
            return Ok(bytes);
        }
        Err(Error::new(ErrorKind::Corrupt, "evidence does not have the digest that its baseline states").with("evidence", &path))
    }

    /// The block list of a sealed file, from evidence or from beside it. Cost: none, or one GET of 0.05% of the file.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] or [`ErrorKind::NotFound`] when it is damaged or gone.
    pub async fn blocks(&self, file: &SealedFile) -> Result<BlockList> {
        let stored = match &file.inline_blocks {
            Some(inline) => inline.clone(),
            None => read_object(&**self.store(), &self.blocks_path(file.digest), EVIDENCE_LIMIT_BYTES).await?,
        };
        BlockList::from_bytes(&stored, file.live.size, file.digest).map_err(|e| e.with("file", &file.live.key.path))
    }
}
