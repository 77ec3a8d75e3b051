//! Erasure on record: that sealed bytes were destroyed for a reason, said by two sealers, so that their absence is no mismatch and nothing
//! brings them back. `docs/format/purge.md` is its document.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use serde_json::{Value, json};

use super::repository::{Repository, SEAL_FOLDER};
use super::sealed::{SealedFile, SealedTable};
use super::standing::Judge;
use super::statement::{Claims, STATEMENT_TYPE};
use super::trust::Trust;
use super::verdict::{Finding, Verdict};
use super::{canonical, sign};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyId, Role, Signer};
use crate::table::{TableSnapshot, read_object};

/// `predicateType` of a purge.
pub const PURGE_PREDICATE_TYPE: &str = "urn:lakeseal:purge:v1";
/// So many distinct sealers must have signed a purge, whatever a baseline needs.
pub const PURGE_SIGNATURES: usize = 2;
/// A record is never larger, in bytes.
const RECORD_LIMIT_BYTES: u64 = 1 << 20;
/// More records of one table than this are refused.
const RECORDS_LIMIT: usize = 100_000;
const FORMAT: u64 = 1;

/// A file that is purged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgedFile {
    /// Its canonical path in the table.
    pub path: String,
    /// Plain BLAKE3 of the sealed file.
    pub digest: Digest,
    /// SHA-256 of it.
    pub sha256: [u8; 32],
}

/// What a purge states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purge {
    /// The table's canonical URL.
    pub location: String,
    /// Delta's table id; empty for a folder.
    pub table_id: String,
    /// The newest baseline that seals the files.
    pub baseline: u64,
    /// When it was asked for, in milliseconds since 1970-01-01T00:00:00Z.
    pub created_ms: i64,
    /// Why. It stays for ever: no personal data belongs into it.
    pub reason: String,
    /// The files, by path.
    pub files: Vec<PurgedFile>,
}

/// A stored purge, and the trusted sealers who signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeRecord {
    /// Plain BLAKE3 of the record: its name.
    pub digest: Digest,
    /// What it states.
    pub purge: Purge,
    /// The distinct trusted keys that signed it.
    pub signed_by: Vec<KeyId>,
    /// When all of it was destroyed everywhere, in milliseconds since 1970-01-01T00:00:00Z, as a trusted sealer recorded it; absent while nobody did.
    pub completed_ms: Option<i64>,
    needed: usize,
}

impl PurgeRecord {
    /// Whether enough sealers signed it.
    pub fn is_in_force(&self) -> bool {
        self.signed_by.len() >= self.needed
    }

    /// How many distinct sealers must sign it.
    pub fn needed(&self) -> usize {
        self.needed
    }
}

impl Purge {
    /// A purge of sealed files that are no longer live.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a file that the baseline does not seal, that is live still, or whose bytes are those of another
    /// sealed file as well; and for no reason.
    pub fn of_files(sealed: &SealedTable, snapshot: &TableSnapshot, paths: &[String], reason: &str, now_ms: i64) -> Result<Self> {
        let refuse = |what: &str, path: &str| Err(Error::new(ErrorKind::InvalidInput, what.to_owned()).with("file", path));
        if reason.trim().is_empty() || paths.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "a purge names files, and a reason that may stay for ever"));
        }
        let mut files: BTreeMap<&String, PurgedFile> = BTreeMap::new();
        for path in paths {
            let Some(file) = sealed.file_at(path) else {
                return refuse("the baseline seals no file of this path; `row_groups` in SQL lists them", path);
            };
            if sealed.statement.foreign_roots.root_of(path).is_some() {
                return refuse("the file is another table's, which this one is a clone of: purge it there", path);
            }
            if snapshot.files.keys().any(|key| key.path == *path) {
                return refuse("the file is live: remove it, or delete its rows, in an ordinary commit first", path);
            }
            let same = |other: &&Arc<SealedFile>| other.digest == file.digest && !paths.contains(&other.live.key.path);
            if let Some(other) = sealed.files.values().find(same) {
                return refuse("another sealed file has the same bytes: name it as well", path)
                    .map_err(|e| e.with("other", &other.live.key.path));
            }
            files.insert(path, PurgedFile { path: path.clone(), digest: file.digest, sha256: file.sha256 });
        }
        Ok(Self {
            location: sealed.statement.location.clone(),
            table_id: sealed.statement.state.table_id.clone(),
            baseline: sealed.baseline.number,
            created_ms: now_ms,
            reason: reason.trim().to_owned(),
            files: files.into_values().collect(),
        })
    }

    /// Bytes that were erased are served to nobody: not to a file that a newer baseline seals either.
    fn check_beside(&self, newest: &SealedTable) -> Result<()> {
        let erased: BTreeMap<Digest, &String> = self.files.iter().map(|file| (file.digest, &file.path)).collect();
        let same = newest.files.values().find_map(|other| Some((other, erased.get(&other.digest)?)));
        let Some((other, path)) = same else { return Ok(()) };
        let what = "the newest baseline seals a file with the same bytes: remove that one in an ordinary commit, seal, and name both";
        Err(Error::new(ErrorKind::InvalidInput, what)
            .with("file", path)
            .with("other", &other.live.key.path)
            .with("baseline", newest.baseline.number))
    }

    /// The exact bytes that are stored and signed: an in-toto Statement v1 in canonical JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        let subject = |file: &PurgedFile| json!({"digest": {"blake3": file.digest.to_string(), "sha256": hex::encode(file.sha256)}, "name": file.path});
        canonical::bytes(&json!({
            "_type": STATEMENT_TYPE,
            "predicateType": PURGE_PREDICATE_TYPE,
            "predicate": {
                "baseline": self.baseline,
                "created_ms": self.created_ms,
                "format": FORMAT,
                "location": self.location,
                "reason": self.reason,
                "table_id": self.table_id,
            },
            "subject": self.files.iter().map(subject).collect::<Vec<_>>(),
        }))
    }

    /// Reads stored bytes. Call it only once a signature over them is verified.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when they are not the canonical form of a purge.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let corrupt = || Error::new(ErrorKind::Corrupt, "a purge's record has missing, malformed or superfluous members");
        let value: Value = serde_json::from_slice(bytes).map_err(|e| corrupt().caused_by(e))?;
        parse(&value).filter(|purge| purge.to_bytes() == bytes).ok_or_else(corrupt)
    }
}

fn parse(value: &Value) -> Option<Purge> {
    let predicate = value.get("predicate")?;
    let text = |name: &str| predicate.get(name)?.as_str().map(str::to_owned);
    let file = |subject: &Value| {
        let digest = subject.get("digest")?;
        Some(PurgedFile {
            path: subject.get("name")?.as_str()?.to_owned(),
            digest: digest.get("blake3")?.as_str()?.parse().ok()?,
            sha256: hex::decode(digest.get("sha256")?.as_str()?).ok()?.try_into().ok()?,
        })
    };
    Some(Purge {
        location: text("location")?,
        table_id: text("table_id")?,
        baseline: predicate.get("baseline")?.as_u64()?,
        created_ms: predicate.get("created_ms")?.as_i64()?,
        reason: text("reason")?,
        files: value.get("subject")?.as_array()?.iter().map(file).collect::<Option<_>>()?,
    })
}

impl Repository {
    /// A purge of files that are no longer live, by the newest baseline that seals them: what an older one alone seals is erased as well as what the
    /// newest does.
    ///
    /// Cost: the evidence of the newest baseline, and of older ones back to the one that is named.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when nobody trusted sealed the table; [`ErrorKind::InvalidInput`] as [`Purge::of_files`], when the files were last
    /// sealed by different baselines, and when a newer one seals their bytes elsewhere; those of evidence that cannot be read, where no other
    /// baseline seals the files.
    pub async fn prepare_purge(
        &self,
        trust: &Trust,
        snapshot: &TableSnapshot,
        paths: &[String],
        reason: &str,
        now_ms: i64,
    ) -> Result<Purge> {
        let (mut newest, mut unread) = (None, None);
        let mut any = false;
        for baseline in self.baselines(trust).await?.into_iter().rev() {
            any = true;
            let number = baseline.summary.number;
            let sealed = match self.checked_table(baseline).await {
                Ok(sealed) => sealed,
                Err(e) if e.is_retryable() => return Err(e),
                Err(e) => {
                    unread.get_or_insert(e.with("baseline", number));
                    continue;
                }
            };
            if !paths.is_empty() && paths.iter().all(|path| sealed.file_at(path).is_none()) {
                newest.get_or_insert(sealed);
                continue;
            }
            if let Some(older) = paths.iter().find(|path| sealed.file_at(path).is_none()) {
                let what =
                    "not all of the files are sealed by the baseline that is the newest to seal one of them: purge this one by itself";
                return Err(Error::new(ErrorKind::InvalidInput, what).with("file", older).with("baseline", number));
            }
            let purge = Purge::of_files(&sealed, snapshot, paths, reason, now_ms)?;
            newest.map_or(Ok(()), |newest: SealedTable| purge.check_beside(&newest))?;
            return Ok(purge);
        }
        Err(match (unread, paths.first()) {
            (Some(unread), _) => unread,
            (None, Some(path)) if any => {
                Error::new(ErrorKind::InvalidInput, "no baseline seals a file of this path; `row_groups` in SQL lists those of the newest")
                    .with("file", path)
            }
            _ => Error::new(ErrorKind::NotFound, "nobody whom you trust has sealed the table: there is nothing on record to purge"),
        })
    }

    /// Whether a stored purge says what its baseline says of its files, and may be confirmed. Cost: the evidence of its baseline, and of the newest.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when its baseline is not there, [`ErrorKind::Unauthentic`] when it says something else, and those of
    /// [`Self::prepare_purge`].
    pub async fn check_purge(&self, purge: &Purge, trust: &Trust, snapshot: &TableSnapshot) -> Result<()> {
        let Some(sealed) = self.numbered_baseline(trust, purge.baseline).await? else {
            return Err(Error::new(ErrorKind::NotFound, "the baseline of this purge is not there").with("baseline", purge.baseline));
        };
        let paths: Vec<String> = purge.files.iter().map(|file| file.path.clone()).collect();
        if Purge::of_files(&sealed, snapshot, &paths, &purge.reason, purge.created_ms)? != *purge {
            return Err(Error::new(ErrorKind::Unauthentic, "the record does not say what its baseline says of these files"));
        }
        match self.newest_statement(trust).await? {
            Some(newest) if newest.summary.number > purge.baseline => purge.check_beside(&self.checked_table(newest).await?),
            _ => Ok(()),
        }
    }

    fn purge_path(&self, digest: Digest) -> Path {
        self.root().clone().join(SEAL_FOLDER).join("purges").join(format!("{digest}.json"))
    }

    /// Stores a purge's record. Without enough signatures it counts for nothing.
    pub async fn keep_purge(&self, purge: &Purge) -> Result<Digest> {
        let bytes = purge.to_bytes();
        if bytes.len() as u64 > RECORD_LIMIT_BYTES {
            return Err(Error::new(ErrorKind::Unsupported, "a purge's record would be too large; name fewer files at a time"));
        }
        let digest = Digest::of(&bytes);
        self.store().put(&self.purge_path(digest), bytes.into()).await?;
        Ok(digest)
    }

    /// Signs a stored purge, after its record was read and shown.
    pub async fn sign_purge(&self, purge: &Purge, signer: &dyn Signer) -> Result<()> {
        let bytes = purge.to_bytes();
        let object = sign::sign(signer, &bytes).await?;
        self.store().put(&self.signature_path(Digest::of(&bytes), signer.public().id()), object.into()).await?;
        Ok(())
    }

    /// The stored purges that at least one trusted sealer signed, by digest; signed statements of other kinds are none. Cost: one LIST, and three GETs or
    /// more per record.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for more than 100,000 records; [`Purge::parse`]'s when enough sealers signed what is not understood; the store's.
    pub async fn purges(&self, trust: &Trust) -> Result<Vec<PurgeRecord>> {
        let folder = self.root().clone().join(SEAL_FOLDER).join("purges");
        let mut names: Vec<Digest> = Vec::new();
        let mut objects = self.store().list(Some(&folder));
        while let Some(meta) = objects.try_next().await? {
            let name = meta.location.filename().and_then(|name| name.strip_suffix(".json"));
            names.extend(name.and_then(|name| name.parse::<Digest>().ok()));
            if names.len() > RECORDS_LIMIT {
                return Err(Error::new(ErrorKind::Unsupported, "the table has too many purges").with("limit", RECORDS_LIMIT));
            }
        }
        // Nearly every table: nothing was ever purged, and trust need not be walked for it.
        if names.is_empty() {
            return Ok(Vec::new());
        }
        names.sort_unstable();
        let judge = self.judge(trust).await?;
        let mut found = Vec::new();
        for digest in names {
            found.extend(self.judged_purge(digest, &judge).await?);
        }
        Ok(found)
    }

    /// The purge of this digest, when a trusted sealer signed it.
    pub async fn purge(&self, digest: Digest, trust: &Trust) -> Result<Option<PurgeRecord>> {
        self.judged_purge(digest, &self.judge(trust).await?).await
    }

    async fn judged_purge(&self, digest: Digest, judge: &Judge) -> Result<Option<PurgeRecord>> {
        let bytes = match read_object(&**self.store(), &self.purge_path(digest), RECORD_LIMIT_BYTES).await {
            Ok(bytes) if Digest::of(&bytes) == digest => bytes,
            Ok(_) => return Ok(None),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => return Ok(None),
            Err(e) => return Err(e),
        };
        let signed_by: BTreeSet<KeyId> = self.signatures(digest, &bytes, judge).await?.into_iter().map(|(key, _)| key).collect();
        if signed_by.is_empty() {
            return Ok(None);
        }
        if !Claims::of(&bytes).is_some_and(|claims| claims.is_of_kind(PURGE_PREDICATE_TYPE)) {
            return Ok(None);
        }
        let needed = PURGE_SIGNATURES.max(judge.trust.threshold(Role::Sealer));
        match Purge::parse(&bytes) {
            Ok(purge) => {
                let is_in_force = signed_by.len() >= needed;
                let done = if is_in_force { self.purge_done(digest, judge).await? } else { None };
                let completed_ms = done.map(|done| done.completed_ms);
                Ok(Some(PurgeRecord { digest, purge, signed_by: signed_by.into_iter().collect(), completed_ms, needed }))
            }
            // A thief of one key must not be able to make a table unreadable.
            Err(_) if signed_by.len() < needed => Ok(None),
            Err(e) => Err(e.with("purge", self.purge_path(digest))),
        }
    }

    /// The sealed files of this table that were erased on record.
    ///
    /// # Errors
    /// Those of [`Self::purges`].
    pub async fn erased(&self, trust: &Trust, sealed: &SealedTable) -> Result<Erased> {
        let state = &sealed.statement.state;
        let of_table = |record: &PurgeRecord| record.is_in_force() && record.purge.table_id == state.table_id;
        let here = |purge: &Purge| super::is_sealed_location(sealed, &purge.location);
        let records = self.purges(trust).await?.into_iter().filter(|record| of_table(record) && here(&record.purge));
        let mut erased = Erased::default();
        for PurgeRecord { digest, purge, completed_ms, .. } in records {
            // A later baseline seals no purged file, unless it came back since: then nobody has erased that one.
            let excuses = sealed.baseline.number <= purge.baseline;
            for file in purge.files {
                erased.digests.insert(file.digest);
                if !excuses {
                    continue;
                }
                // Of several records, one that was carried out is enough.
                let open = erased.files.entry((file.path, file.digest)).or_insert(Some(digest));
                if completed_ms.is_some() {
                    *open = None;
                }
            }
        }
        Ok(erased)
    }
}

/// What was erased on record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Erased {
    /// Digests of files: such bytes are not served again, wherever they lie.
    pub digests: BTreeSet<Digest>,
    /// The files by path and digest, as far as they were erased after the baseline that is looked at. Only their own absence is excused: the same
    /// bytes under another path, or sealed anew since, are another file, which may well be missed. With the record of which nobody recorded yet that it
    /// was carried out, if so.
    files: BTreeMap<(String, Digest), Option<Digest>>,
}

impl Erased {
    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Whether this sealed file is one that was erased.
    pub fn is_of(&self, file: &SealedFile) -> bool {
        self.digests.contains(&file.digest) && self.record(file).is_some()
    }

    fn record(&self, file: &SealedFile) -> Option<Option<Digest>> {
        self.files.get(&(file.live.key.path.clone(), file.digest)).copied()
    }

    /// What a finding says of a file that is to be gone.
    pub(super) fn said(&self, file: &SealedFile) -> String {
        match self.record(file).flatten() {
            None => "the sealed file was erased on record".to_owned(),
            Some(purge) => format!(
                "the sealed file is gone, and its purge is on record; that nothing of it is left anywhere is not recorded. In a lake, `lakeseal purge` with \
                 --confirm {purge} does what is left to do and records it; outside of one, versions that a bucket keeps by itself are nobody's to see \
                 from here, and it is never recorded"
            ),
        }
    }
}

/// Sealed files that are missing because they were erased on record are no mismatch.
pub fn excuse_purged(findings: &mut [Finding], sealed: &SealedTable, erased: &Erased) {
    for finding in findings.iter_mut().filter(|finding| finding.verdict == Verdict::Missing) {
        let file = finding.file.as_ref().and_then(|path| sealed.file_at(path));
        if let Some(file) = file.filter(|file| erased.is_of(file)) {
            finding.verdict = Verdict::Purged;
            finding.detail = erased.said(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::super::trust::TrustLevel;
    use super::*;
    use crate::key::PrivateKey;

    fn purge() -> Purge {
        let file = PurgedFile { path: "a.parquet".into(), digest: Digest([7; 32]), sha256: [8; 32] };
        Purge {
            location: "memory:///t".into(),
            table_id: "id".into(),
            baseline: 3,
            created_ms: 1_800_000_000_000,
            reason: "request 17".into(),
            files: vec![file],
        }
    }

    #[test]
    fn a_record_reads_back_and_nothing_can_hide_in_it() {
        let bytes = purge().to_bytes();
        assert_eq!(Purge::parse(&bytes).unwrap(), purge());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Purge::parse(&changed).is_err() || Purge::parse(&changed).unwrap() != purge(), "byte {at}");
        }
        assert!(super::super::Statement::parse(&bytes).is_err(), "a purge is no baseline");
    }

    #[tokio::test]
    async fn two_distinct_sealers_make_a_purge() {
        let keys = [PrivateKey::from_seed(&[1; 32]), PrivateKey::from_seed(&[2; 32])];
        let trust = Trust::new(keys.iter().map(PrivateKey::public), TrustLevel::Given).unwrap();
        let repository = Repository::new(Arc::new(InMemory::new()), Path::from("t"));
        let digest = repository.keep_purge(&purge()).await.unwrap();
        assert!(repository.purges(&trust).await.unwrap().is_empty(), "nobody signed it");
        repository.sign_purge(&purge(), &keys[0]).await.unwrap();
        repository.sign_purge(&purge(), &keys[0]).await.unwrap();
        let stranger = PrivateKey::from_seed(&[3; 32]);
        repository.sign_purge(&purge(), &stranger).await.unwrap();
        let one = repository.purge(digest, &trust).await.unwrap().unwrap();
        assert_eq!((one.signed_by.len(), one.is_in_force()), (1, false), "one key twice, and a stranger's, are one");
        repository.sign_purge(&purge(), &keys[1]).await.unwrap();
        let record = repository.purge(digest, &trust).await.unwrap().unwrap();
        assert!(record.is_in_force() && record.completed_ms.is_none());
        // That it was carried out is said by a sealer, and by nobody else.
        assert!(repository.record_purge_done(&one, 7, &keys[0]).await.is_err(), "it is not in force");
        repository.record_purge_done(&record, 7, &stranger).await.unwrap();
        assert_eq!(repository.purge(digest, &trust).await.unwrap().unwrap().completed_ms, None);
        repository.record_purge_done(&record, 8, &keys[1]).await.unwrap();
        let record = repository.purge(digest, &trust).await.unwrap().unwrap();
        repository.record_purge_done(&record, 9, &keys[1]).await.unwrap();
        assert_eq!(repository.purge(digest, &trust).await.unwrap().unwrap().completed_ms, Some(8), "what was said once stays");
        // The record under another name is nobody's.
        let other = Digest([9; 32]);
        repository.store().put(&repository.purge_path(other), purge().to_bytes().into()).await.unwrap();
        assert_eq!(repository.purges(&trust).await.unwrap().len(), 1);
    }
}
