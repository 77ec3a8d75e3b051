//! Where baselines, signatures, evidence and block lists lie: `<table>/_seal/`. All names under it are built here, and all is stored from here;
//! evidence is read in `read_evidence`, the chain of baselines followed in `chain`.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use serde_json::Value;

use super::evidence::INLINE_BLOCKS_LIMIT_BYTES;
use super::sealed::SealedTable;
use super::sign;
use super::standing::{Judge, Standing};
use super::statement::{BaselineSummary, STATEMENT_LIMIT_BYTES, Statement};
use super::trust::Trust;
use crate::digest::{BlockList, Digest};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyId, Signer};
use crate::table::{ForeignRoots, mounted, read_object};

/// The folder of seals within a table. VACUUM leaves folders that begin with `_` alone.
pub const SEAL_FOLDER: &str = "_seal";
const CONCURRENCY: usize = 8;
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

    pub(super) async fn all_in_force(&self, names: Vec<BaselineName>, judge: &Judge) -> Result<Vec<TrustedBaseline>> {
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
}
