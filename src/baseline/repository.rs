//! Where baselines, signatures, evidence and block lists lie: `<table>/_seal/`. All names under it are built here.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use serde_json::Value;

use super::evidence::{self, Detail, Expectation, INLINE_BLOCKS_LIMIT_BYTES, Profiles, RowGroupsByFile};
use super::memory::{CheckedChain, FollowedChain};
use super::sealed::{RowGroups, SealedFile, SealedTable};
use super::standing::{Judge, Standing};
use super::statement::{BaselineSummary, EvidenceKind, EvidenceRef, STATEMENT_LIMIT_BYTES, Statement};
use super::trust::Trust;
use super::{sign, state};
use crate::digest::{BlockList, Digest, MultisetHash};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyId, Signer};
use crate::table::{ForeignRoots, mounted, read_object};

/// The folder of seals within a table. VACUUM leaves folders that begin with `_` alone.
pub const SEAL_FOLDER: &str = "_seal";
const EVIDENCE_LIMIT_BYTES: u64 = 1 << 32;
/// A statement names at most this many pieces of evidence; a full one is written long before.
const EVIDENCE_COUNT_LIMIT: usize = 1024;
const CONCURRENCY: usize = 8;
/// Pieces about row groups are the large ones.
const ROW_GROUP_PIECES_AT_A_TIME: usize = 2;
/// Digits of numbers and versions in names.
pub(super) const NUMBER_DIGITS: usize = 20;

/// The seals of one table. Reading needs public keys only.
#[derive(Debug, Clone)]
pub struct Repository {
    store: Arc<dyn ObjectStore>,
    root: Path,
    /// Other tables whose files the log may name.
    roots: ForeignRoots,
}

/// The name of a stored statement; anyone may have put it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BaselineName {
    /// The number that the name claims.
    pub number: u64,
    /// The digest that the name claims.
    pub digest: Digest,
}

/// A stored statement that trusted keys signed.
#[derive(Debug, Clone)]
pub struct TrustedBaseline {
    /// The statement.
    pub statement: Statement,
    /// The statement in short.
    pub summary: BaselineSummary,
}

impl Repository {
    /// The seals of the table at `root` of `store`.
    pub fn new(store: Arc<dyn ObjectStore>, root: Path) -> Self {
        Self { store, root, roots: ForeignRoots::default() }
    }

    /// The table's store.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The table's place in the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The same seals in a store in which the tables are seen whose files `roots` let this one name; unchanged where there are none.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when the store reaches no other tables; those of opening one of them.
    pub(crate) async fn with_roots(&self, roots: &ForeignRoots) -> Result<Self> {
        Ok(Self::new(mounted(&self.store, &self.root, roots).await?, self.root.clone()).naming(roots))
    }

    /// The same seals, of a table whose log may name files below `roots`: the store shows these already.
    pub(crate) fn naming(self, roots: &ForeignRoots) -> Self {
        Self { roots: roots.clone(), ..self }
    }

    /// The other tables whose files the table's log may name.
    pub(crate) fn roots(&self) -> &ForeignRoots {
        &self.roots
    }

    pub(super) fn folder(&self, name: &'static str) -> Path {
        self.root.clone().join(SEAL_FOLDER).join(name)
    }

    /// Where a statement lies.
    pub fn baseline_path(&self, name: &BaselineName) -> Path {
        self.folder("baselines").join(format!("{:0width$}-{}.json", name.number, name.digest, width = NUMBER_DIGITS))
    }

    /// Where the signature of a statement by a key lies.
    pub fn signature_path(&self, statement: Digest, key: KeyId) -> Path {
        self.folder("signatures").join(statement.to_string()).join(format!("{key}.json"))
    }

    /// Where a piece of evidence lies.
    pub fn evidence_path(&self, digest: Digest) -> Path {
        self.folder("evidence").join(format!("{digest}.parquet"))
    }

    /// Where the block list of a file lies.
    pub fn blocks_path(&self, file: Digest) -> Path {
        self.folder("blocks").join(file.to_string())
    }

    /// The names of all stored statements, in ascending order; other names are left out. Cost: one LIST.
    pub async fn names(&self) -> Result<Vec<BaselineName>> {
        let folder = self.folder("baselines");
        let objects: Vec<_> = self.store.list(Some(&folder)).try_collect().await?;
        let mut names: Vec<_> = objects.iter().filter_map(|meta| parse_name(meta.location.filename()?)).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// The statement of this name, when as many sealers signed it as must. The signatures are verified before the statement is parsed.
    ///
    /// Cost: one GET, and one per trusted key.
    ///
    /// # Errors
    /// Those of the store, of [`Self::newest_trust`], and [`Statement::parse`]'s when the signed bytes are not understood.
    pub async fn trusted(&self, name: &BaselineName, trust: &Trust) -> Result<Option<TrustedBaseline>> {
        self.in_force(name, &self.judge(trust).await?).await
    }

    pub(super) async fn in_force(&self, name: &BaselineName, judge: &Judge) -> Result<Option<TrustedBaseline>> {
        match self.judged(name, judge).await? {
            Some((bytes, standing)) if standing.is_in_force() => self.read_statement(name, &bytes, standing),
            _ => Ok(None),
        }
    }

    /// The statement in `bytes`, unless it claims another number than its name.
    pub(super) fn read_statement(&self, name: &BaselineName, bytes: &[u8], standing: Standing) -> Result<Option<TrustedBaseline>> {
        let statement = Statement::parse(bytes).map_err(|e| e.with("baseline", self.baseline_path(name)))?;
        if statement.number != name.number {
            return Ok(None);
        }
        let summary = statement.summary(name.digest, standing);
        Ok(Some(TrustedBaseline { statement, summary }))
    }

    pub(super) async fn statement_bytes(&self, name: &BaselineName) -> Result<Option<Bytes>> {
        match read_object(&*self.store, &self.baseline_path(name), STATEMENT_LIMIT_BYTES).await {
            Ok(bytes) => Ok((Digest::of(&bytes) == name.digest).then_some(bytes)),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// All baselines in force, oldest first. Cost: one LIST, two GETs or more per name.
    pub async fn baselines(&self, trust: &Trust) -> Result<Vec<TrustedBaseline>> {
        self.all_in_force(self.names().await?, &self.judge(trust).await?).await
    }

    async fn all_in_force(&self, names: Vec<BaselineName>, judge: &Judge) -> Result<Vec<TrustedBaseline>> {
        let reads = stream::iter(names).map(|name| async move { self.in_force(&name, judge).await });
        let all: Vec<_> = reads.buffered(CONCURRENCY).try_collect().await?;
        Ok(all.into_iter().flatten().collect())
    }

    /// The newest baseline in force, without its evidence.
    ///
    /// Statements that too few trusted keys signed are passed over: anyone can write such names.
    pub async fn newest_statement(&self, trust: &Trust) -> Result<Option<TrustedBaseline>> {
        self.newest_in_force(&self.judge(trust).await?).await
    }

    pub(super) async fn newest_in_force(&self, judge: &Judge) -> Result<Option<TrustedBaseline>> {
        for name in self.names().await?.iter().rev() {
            if let Some(found) = self.in_force(name, judge).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The newest baseline that a trusted key signed, with the state that its evidence proves.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] or [`ErrorKind::NotFound`] when evidence is damaged or gone: it is never passed over.
    pub async fn newest_baseline(&self, trust: &Trust) -> Result<Option<SealedTable>> {
        match self.newest_statement(trust).await? {
            Some(baseline) => self.sealed_table(baseline).await.map(Some),
            None => Ok(None),
        }
    }

    /// The baseline of this number that a trusted key signed, with the state that its evidence proves.
    ///
    /// # Errors
    /// As [`Self::newest_baseline`]; [`ErrorKind::Mismatch`] when there are several: the history forks.
    pub async fn numbered_baseline(&self, trust: &Trust, number: u64) -> Result<Option<SealedTable>> {
        match self.numbered_statement(trust, number).await? {
            Some(baseline) => self.sealed_table(baseline).await.map(Some),
            None => Ok(None),
        }
    }

    /// As [`Self::numbered_baseline`], without its evidence. Cost: one LIST of names, the trust that is published, and that baseline.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] when there are several: the history forks.
    pub async fn numbered_statement(&self, trust: &Trust, number: u64) -> Result<Option<TrustedBaseline>> {
        let judge = self.judge(trust).await?;
        let mut found = None;
        for name in self.names().await?.iter().filter(|name| name.number == number) {
            let Some(baseline) = self.in_force(name, &judge).await? else { continue };
            if found.replace(baseline).is_some() {
                let what = "there are several baselines of this number with valid signatures: the history forks";
                return Err(Error::new(ErrorKind::Mismatch, what).with("baseline", number));
            }
        }
        Ok(found)
    }

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

    async fn table_of(&self, baseline: TrustedBaseline, detail: Detail) -> Result<SealedTable> {
        let found = self.state_of(&baseline, detail).await?;
        self.finish(found, baseline)
    }

    /// The table, with the places of files of other tables: those below the roots that its own statement names.
    fn finish(&self, found: evidence::State, TrustedBaseline { statement, summary }: TrustedBaseline) -> Result<SealedTable> {
        let roots = statement.foreign_roots.clone();
        let mut table = found.finish(statement, summary)?;
        table.place(&self.root, &roots);
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
            found.apply(&reference, bytes, &self.root).map_err(|e| e.with("evidence", self.evidence_path(reference.digest)))?;
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

    /// As [`Self::sealed_table`], and every other piece of evidence is read as well, so that none of them is missed when it is needed.
    pub(super) async fn whole_table(&self, baseline: TrustedBaseline) -> Result<SealedTable> {
        self.check_extras(&baseline.statement).await?;
        self.sealed_table(baseline).await
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
        let bytes = read_object(&*self.store, &path, EVIDENCE_LIMIT_BYTES.min(reference.size)).await.map_err(failed)?;
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
            None => read_object(&*self.store, &self.blocks_path(file.digest), EVIDENCE_LIMIT_BYTES).await?,
        };
        BlockList::from_bytes(&stored, file.live.size, file.digest).map_err(|e| e.with("file", &file.live.key.path))
    }

    /// Stores a block list, unless it is small enough to stand in the evidence: then it is returned.
    pub(super) async fn keep_blocks(&self, blocks: &BlockList) -> Result<Option<Bytes>> {
        let bytes = Bytes::from(blocks.to_bytes());
        if bytes.len() <= INLINE_BLOCKS_LIMIT_BYTES {
            return Ok(Some(bytes));
        }
        self.store.put(&self.blocks_path(blocks.root()), bytes.into()).await?;
        Ok(None)
    }

    /// Stores a piece of evidence under its digest.
    pub(super) async fn keep_evidence(&self, bytes: Vec<u8>) -> Result<(Digest, u64)> {
        let digest = Digest::of(&bytes);
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.store.put(&self.evidence_path(digest), bytes.into()).await?;
        Ok((digest, size))
    }

    /// Stores a statement. Without a signature it counts for nothing.
    pub(super) async fn keep_statement(&self, statement: &Statement) -> Result<BaselineName> {
        let bytes = statement.to_bytes();
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > STATEMENT_LIMIT_BYTES {
            return Err(Error::new(ErrorKind::Unsupported, "a baseline's statement would be too large; name fewer aliases"));
        }
        let name = BaselineName { number: statement.number, digest: Digest::of(&bytes) };
        self.store.put(&self.baseline_path(&name), bytes.into()).await?;
        Ok(name)
    }

    /// Signs a stored statement: the commit point of a seal.
    pub(super) async fn sign(&self, name: &BaselineName, statement: &Statement, key: &dyn Signer) -> Result<()> {
        let object = sign::sign(key, &statement.to_bytes()).await?;
        self.store.put(&self.signature_path(name.digest, key.public().id()), object.into()).await?;
        Ok(())
    }

    /// Takes a signature back.
    pub(super) async fn withdraw(&self, name: &BaselineName, key: KeyId) -> Result<()> {
        self.remove(self.signature_path(name.digest, key)).await
    }

    /// Puts back a signature that was withdrawn.
    pub(super) async fn restore_signature(&self, name: &BaselineName, key: KeyId, object: Bytes) -> Result<()> {
        self.store.put(&self.signature_path(name.digest, key), object.into()).await?;
        Ok(())
    }

    /// Takes a statement away that nobody who counts has signed.
    pub(super) async fn forget_unsigned(&self, name: &BaselineName, judge: &Judge) -> Result<()> {
        match self.judged(name, judge).await? {
            Some((_, standing)) if standing.signed_by.is_empty() => self.remove(self.baseline_path(name)).await,
            _ => Ok(()),
        }
    }

    async fn remove(&self, path: Path) -> Result<()> {
        match self.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => {
                let what = "another baseline took the same number, and this one could not be withdrawn; delete it by hand";
                Err(Error::new(ErrorKind::OutcomeUnknown, what).with("object", path).caused_by(e))
            }
        }
    }

    /// The DSSE envelope of a baseline with the signatures of all trusted keys, as other tools read it.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthentic`] when too few trusted keys signed it.
    pub async fn dsse_envelope(&self, name: &BaselineName, trust: &Trust) -> Result<Value> {
        let judge = self.judge(trust).await?;
        let found = self.judged(name, &judge).await?;
        let Some((bytes, standing)) = found else {
            return Err(Error::new(ErrorKind::NotFound, "there is no such baseline").with("baseline", self.baseline_path(name)));
        };
        if !standing.is_in_force() {
            let what = format!("the baseline is not in force: it has {standing}");
            return Err(Error::new(ErrorKind::Unauthentic, what).with("baseline", self.baseline_path(name)));
        }
        Ok(sign::envelope(&bytes, &self.signatures(name.digest, &bytes, &judge).await?).to_json())
    }

    /// Follows the chain from `newest` to the first baseline and says what is wrong with it, by number.
    ///
    /// Each predecessor must be there under its digest, and no other baseline in force may claim a number of the chain. Under a flat set of
    /// keys each must be signed by one of them; under a trust root, whose keys come and go, the digest in its successor vouches for it.
    /// The chain must run through `pins`, numbers and digests known from elsewhere, unless it ends below them.
    /// Cost: that of [`Self::baselines`].
    pub async fn check_chain(&self, newest: &TrustedBaseline, trust: &Trust, pins: &[(u64, Digest)]) -> Result<BTreeMap<u64, String>> {
        self.check_chain_above(newest, trust, pins, None).await.map(|followed| followed.wrong)
    }

    /// As [`Self::check_chain`], down to the newest of a chain that was followed to its beginning before. The statements of that chain are not
    /// read again; every other is, for it may have been signed since.
    pub(super) async fn check_chain_above(
        &self,
        newest: &TrustedBaseline,
        trust: &Trust,
        pins: &[(u64, Digest)],
        known: Option<&CheckedChain>,
    ) -> Result<FollowedChain> {
        let judge = self.judge(trust).await?;
        let mut names = self.names().await?;
        names.retain(|name| known.is_none_or(|known| !known.names.contains(name)));
        let mut followed = known.map(|known| known.names.clone()).unwrap_or_default();
        let all = self.all_in_force(names, &judge).await?;
        let mut wrong = BTreeMap::new();
        for rival in all.iter().filter(|b| known.is_some_and(|known| b.summary.number <= known.newest.0)) {
            let number = rival.summary.number;
            wrong.insert(number, format!("baseline {number} exists twice with valid signatures: the history forks"));
        }
        let mut expected = Some((newest.summary.number, newest.summary.digest));
        while let Some((number, digest)) = expected.filter(|at| known.is_none_or(|known| known.newest != *at)) {
            if let Some(known) = known.filter(|known| number <= known.newest.0) {
                let (at, digest) = known.newest;
                wrong.insert(
                    number,
                    format!("the chain does not run through baseline {at} ({digest}), which it did before: the history forks"),
                );
                break;
            }
            let rivals = all.iter().filter(|b| b.summary.number == number && b.summary.digest != digest).count();
            if rivals > 0 {
                wrong.insert(number, format!("baseline {number} exists {} times with valid signatures: the history forks", rivals + 1));
            }
            if pins.iter().any(|(pinned, known)| *pinned == number && *known != digest) {
                wrong.insert(number, format!("baseline {number} is not the one that is pinned or logged: the history forks"));
                break;
            }
            let known = all.iter().find(|b| b.summary.number == number && b.summary.digest == digest).map(|b| b.statement.previous);
            let found = match known {
                None if judge.trust.root().is_some() => self.vouched(&BaselineName { number, digest }).await?,
                known => known,
            };
            let Some(previous) = found else {
                wrong.insert(number, format!("baseline {number} ({digest}) of the chain is gone or no trusted key signed it"));
                break;
            };
            followed.insert(BaselineName { number, digest });
            expected = match (previous, number.checked_sub(1)) {
                (Some(previous), Some(before)) if before > 0 => Some((before, previous)),
                (None, Some(0)) => None,
                _ => {
                    wrong.insert(number, format!("baseline {number} names no predecessor, or one it cannot have"));
                    None
                }
            };
        }
        Ok(FollowedChain { wrong, names: followed })
    }

    /// The predecessor that the statement of this name states, when it is there: its digest was named by an authentic successor.
    async fn vouched(&self, name: &BaselineName) -> Result<Option<Option<Digest>>> {
        let Some(bytes) = self.statement_bytes(name).await? else { return Ok(None) };
        Ok(Statement::parse(&bytes).ok().filter(|statement| statement.number == name.number).map(|statement| statement.previous))
    }
}

fn parse_name(name: &str) -> Option<BaselineName> {
    let (number, digest) = name.strip_suffix(".json")?.split_once('-')?;
    let fits = number.len() == NUMBER_DIGITS && number.bytes().all(|b| b.is_ascii_digit());
    let digest: Digest = digest.parse().ok()?;
    let number = number.parse().ok().filter(|number| fits && *number > 0)?;
    let parsed = BaselineName { number, digest };
    // Only the one spelling of a digest counts.
    name.ends_with(&format!("{digest}.json")).then_some(parsed)
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::super::statement::tests::sample;
    use super::super::trust::TrustLevel;
    use super::*;
    use crate::key::PrivateKey;

    fn repository() -> (Repository, PrivateKey, Trust) {
        let key = PrivateKey::from_seed(&[1; 32]);
        let trust = Trust::new([key.public()], TrustLevel::Given).unwrap();
        (Repository::new(Arc::new(InMemory::new()), Path::from("t")), key, trust)
    }

    #[tokio::test]
    async fn names_that_are_none_are_ignored() {
        let (repository, _, trust) = repository();
        for junk in ["1-abc.json", "00000000000000000000-x.json", "readme.txt", &format!("{:020}-{}.json", 0, Digest([1; 32]))] {
            repository.store.put(&repository.folder("baselines").join(junk), "junk".into()).await.unwrap();
        }
        assert!(repository.names().await.unwrap().is_empty());
        // A well-formed name of something else is a name, but no baseline.
        let name = BaselineName { number: 9, digest: Digest([1; 32]) };
        repository.store.put(&repository.baseline_path(&name), "junk".into()).await.unwrap();
        assert_eq!(repository.names().await.unwrap(), [name]);
        assert!(repository.newest_statement(&trust).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn only_a_trusted_signature_makes_a_baseline() {
        let (repository, key, trust) = repository();
        let first = sample(1);
        let name = repository.keep_statement(&first).await.unwrap();
        assert!(repository.newest_statement(&trust).await.unwrap().is_none(), "unsigned");
        let stranger = PrivateKey::from_seed(&[2; 32]);
        repository.sign(&name, &first, &stranger).await.unwrap();
        assert!(repository.newest_statement(&trust).await.unwrap().is_none(), "signed by a stranger");
        // The stranger's signature under the trusted key's name.
        let junk = sign::sign(&stranger, &first.to_bytes()).await.unwrap();
        repository.store.put(&repository.signature_path(name.digest, key.public().id()), junk.into()).await.unwrap();
        assert!(repository.newest_statement(&trust).await.unwrap().is_none(), "squatted");
        repository.sign(&name, &first, &key).await.unwrap();
        let found = repository.newest_statement(&trust).await.unwrap().unwrap();
        assert_eq!(found.statement, first);
        assert_eq!(found.summary.signed_by, [key.public().id()]);
        assert!(repository.check_chain(&found, &trust, &[]).await.unwrap().is_empty());
        let envelope = repository.dsse_envelope(&name, &trust).await.unwrap();
        assert_eq!(envelope["signatures"][0]["keyid"], key.public().id().to_string());
    }

    #[tokio::test]
    async fn a_chain_is_followed_to_its_beginning_and_forks_are_seen() {
        let (repository, key, trust) = repository();
        let first = sample(1);
        let one = repository.keep_statement(&first).await.unwrap();
        repository.sign(&one, &first, &key).await.unwrap();
        let second = Statement { previous: Some(one.digest), ..sample(2) };
        let two = repository.keep_statement(&second).await.unwrap();
        repository.sign(&two, &second, &key).await.unwrap();
        let newest = repository.newest_statement(&trust).await.unwrap().unwrap();
        assert_eq!(newest.summary.number, 2);
        assert!(repository.check_chain(&newest, &trust, &[]).await.unwrap().is_empty());

        // Not only the newest is held against a pin: everything that came after it must descend from it.
        assert!(repository.check_chain(&newest, &trust, &[(1, one.digest)]).await.unwrap().is_empty());
        let wrong = repository.check_chain(&newest, &trust, &[(1, Digest([7; 32]))]).await.unwrap();
        assert!(wrong[&1].contains("pinned"), "{wrong:?}");

        let rival = Statement { created_ms: 1, ..sample(1) };
        let rival_name = repository.keep_statement(&rival).await.unwrap();
        repository.sign(&rival_name, &rival, &key).await.unwrap();
        let wrong = repository.check_chain(&newest, &trust, &[]).await.unwrap();
        assert!(wrong[&1].contains("forks"), "{wrong:?}");
        repository.withdraw(&rival_name, key.public().id()).await.unwrap();
        assert!(repository.check_chain(&newest, &trust, &[]).await.unwrap().is_empty());

        repository.store.delete(&repository.signature_path(one.digest, key.public().id())).await.unwrap();
        let wrong = repository.check_chain(&newest, &trust, &[]).await.unwrap();
        assert!(wrong[&1].contains("gone"), "{wrong:?}");
    }
}
