//! Attestations: a writer's signed statement about one Delta commit, stored before the commit is. `docs/format/attestation.md`.
//!
//! Whatever lies under `_seal/attestations/` counts only with a valid signature of a writer's key, and only for the commit whose exact
//! bytes it names. One that names no commit is an orphan: an attempt that lost, or that stopped before its commit.

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::ObjectStore;
use object_store::path::Path;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::canonical;
use super::repository::SEAL_FOLDER;
use super::sign::PAYLOAD_TYPE;
use super::statement::STATEMENT_TYPE;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::key::dsse::Envelope;
use crate::key::{KeyId, Signer, VerifyingKey};
use crate::table::{parse_json, read_object_up_to};

/// `predicateType` of an attestation: SLSA provenance.
pub const PROVENANCE_TYPE: &str = "https://slsa.dev/provenance/v1";
/// An attestation's object is never larger, in bytes.
pub const ATTESTATION_LIMIT_BYTES: u64 = 64 << 20;
/// The member of the predicate that says which commit it is about.
const COMMIT_MEMBER: &str = "lakeseal_commit";
const FORMAT: u64 = 1;
const FOLDER: &str = "attestations";
const VERSION_DIGITS: usize = 20;
/// More names than this in one table are refused.
const NAMES_LIMIT: usize = 8_000_000;

/// Which commit an attestation is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestedCommit {
    /// Delta's id of the table.
    pub table_id: String,
    /// Where the table lies: its canonical URL, as the writer knows it.
    pub location: String,
    /// The commit's Delta version.
    pub version: u64,
    /// Plain BLAKE3 of the commit's exact bytes.
    pub commit: Digest,
    /// SHA-256 of the same bytes.
    pub sha256: [u8; 32],
    /// Their number.
    pub size: u64,
    /// Plain BLAKE3 of the commit before, as the writer read it; absent for version 0, and where that commit is gone.
    pub previous: Option<Digest>,
}

/// A writer's statement about one commit: which commit, which files came of it, how it was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Attestation {
    /// The commit.
    pub commit: AttestedCommit,
    /// SLSA provenance of the commit: its lineage.
    pub provenance: Value,
}

/// The name of a stored attestation; anyone may have put it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttestationName {
    /// The Delta version that it claims to be about.
    pub version: u64,
    /// The digest of the commit that it claims to be about.
    pub commit: Digest,
    /// The key that it claims to be signed by.
    pub key: KeyId,
}

impl AttestationName {
    /// Where it lies in the table at `root`. Every part has a fixed length, and names end in `.json`.
    pub fn path(&self, root: &Path) -> Path {
        folder(root).join(format!("{:0width$}-{}-{}.json", self.version, self.commit, self.key, width = VERSION_DIGITS))
    }

    /// The name that a file's name is, in its one spelling.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".json")?.split('-');
        let (version, commit, key) = (parts.next()?, parts.next()?, parts.next()?);
        let fits = version.len() == VERSION_DIGITS && version.bytes().all(|b| b.is_ascii_digit()) && parts.next().is_none();
        let parsed = Self { version: version.parse().ok().filter(|_| fits)?, commit: commit.parse().ok()?, key: KeyId(key.parse().ok()?) };
        // Only the one spelling of a digest counts.
        name.ends_with(&format!("-{}-{}.json", parsed.commit, parsed.key)).then_some(parsed)
    }
}

fn folder(root: &Path) -> Path {
    root.clone().join(SEAL_FOLDER).join(FOLDER)
}

impl Attestation {
    /// The statement's exact bytes: canonical JSON of an in-toto statement. `outputs` are the data files of the commit whose digests are known.
    pub fn statement(&self, outputs: &[(String, Digest)]) -> Vec<u8> {
        let of = &self.commit;
        let lineage = canonical::digest(&self.provenance).to_string();
        let mut predicate = self.provenance.clone();
        if let Some(members) = predicate.as_object_mut() {
            members.insert(
                COMMIT_MEMBER.to_owned(),
                json!({
                    "format": FORMAT,
                    "lineage": lineage,
                    "location": of.location,
                    "previous": of.previous.map(|digest| digest.to_string()),
                    "size": of.size,
                    "table_id": of.table_id,
                    "version": of.version,
                }),
            );
        }
        let mut subject = vec![json!({
            "name": commit_name(of.version),
            "digest": {"blake3": of.commit.to_string(), "sha256": hex::encode(of.sha256)},
        })];
        subject.extend(outputs.iter().map(|(path, digest)| json!({"name": path, "digest": {"blake3": digest.to_string()}})));
        canonical::bytes(&json!({
            "_type": STATEMENT_TYPE,
            "predicateType": PROVENANCE_TYPE,
            "predicate": predicate,
            "subject": subject,
        }))
    }

    /// Reads a statement. Call it only once a signature over `bytes` is verified.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a statement of another kind or format, [`ErrorKind::Corrupt`] for one that contradicts itself.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let malformed = || Error::new(ErrorKind::Corrupt, "an attestation has missing or malformed members");
        let mut value = parse_json(bytes).map_err(|e| Error::new(ErrorKind::Corrupt, "an attestation is not JSON").caused_by(e))?;
        let of = |name: &str| value.get(name).and_then(Value::as_str);
        let format = value.pointer("/predicate/lakeseal_commit/format").and_then(Value::as_u64);
        if of("_type") != Some(STATEMENT_TYPE) || of("predicateType") != Some(PROVENANCE_TYPE) || format != Some(FORMAT) {
            return Err(Error::new(ErrorKind::Unsupported, "a statement that is no attestation of a format that this version knows")
                .with("predicateType", of("predicateType").unwrap_or("absent"))
                .with("format", format.map_or_else(|| "absent".to_owned(), |f| f.to_string())));
        }
        let subject = value.pointer("/subject/0").cloned().ok_or_else(malformed)?;
        let mut provenance = value.get_mut("predicate").map(Value::take).ok_or_else(malformed)?;
        let stated = provenance.as_object_mut().and_then(|members| members.remove(COMMIT_MEMBER)).ok_or_else(malformed)?;
        let commit = parse_commit(&stated, &subject).ok_or_else(malformed)?;
        let lineage = stated.get("lineage").and_then(Value::as_str);
        if lineage != Some(canonical::digest(&provenance).to_string().as_str()) {
            return Err(Error::new(ErrorKind::Corrupt, "an attestation's lineage has not the digest that it states"));
        }
        Ok(Self { commit, provenance })
    }
}

fn parse_commit(stated: &Value, subject: &Value) -> Option<AttestedCommit> {
    let text = |name: &str| stated.get(name)?.as_str().map(str::to_owned);
    let version = stated.get("version")?.as_u64()?;
    if subject.get("name")?.as_str()? != commit_name(version) {
        return None;
    }
    let mut sha256 = [0; 32];
    hex::decode_to_slice(subject.pointer("/digest/sha256")?.as_str()?, &mut sha256).ok()?;
    Some(AttestedCommit {
        table_id: text("table_id")?,
        location: text("location")?,
        version,
        commit: subject.pointer("/digest/blake3")?.as_str()?.parse().ok()?,
        sha256,
        size: stated.get("size")?.as_u64()?,
        previous: match stated.get("previous")? {
            Value::Null => None,
            digest => Some(digest.as_str()?.parse().ok()?),
        },
    })
}

fn commit_name(version: u64) -> String {
    format!("_delta_log/{version:0width$}.json", width = VERSION_DIGITS)
}

impl AttestedCommit {
    /// The commit with these bytes.
    pub fn of(table_id: String, location: String, version: u64, bytes: &[u8], previous: Option<Digest>) -> Self {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Self { table_id, location, version, commit: Digest::of(bytes), sha256: Sha256::digest(bytes).into(), size, previous }
    }
}

/// The object that is stored: a DSSE envelope of `statement` with one signature.
///
/// # Errors
/// Those of the signer.
pub async fn attestation_envelope(signer: &dyn Signer, statement: Vec<u8>) -> Result<Vec<u8>> {
    let mut envelope = Envelope::new(PAYLOAD_TYPE, statement);
    envelope.sign(signer).await?;
    Ok(envelope.to_json().to_string().into_bytes())
}

/// The statement in `envelope` when `key` signed it.
pub(super) fn open_envelope(key: &VerifyingKey, envelope: &[u8]) -> Option<Vec<u8>> {
    let envelope = Envelope::parse(envelope, PAYLOAD_TYPE).ok()?;
    let is_signed = !envelope.signers(std::slice::from_ref(key)).is_empty();
    is_signed.then_some(envelope.payload)
}

/// The names of all stored attestations of versions after `after`, ascending; other names are left out. Cost: one LIST.
///
/// # Errors
/// Those of the store; [`ErrorKind::Unsupported`] when there are more than anybody wrote.
pub async fn attestation_names(store: &dyn ObjectStore, root: &Path, after: Option<u64>) -> Result<Vec<AttestationName>> {
    let folder = folder(root);
    let mut listed = match after {
        Some(version) => {
            let offset = folder.clone().join(format!("{:0width$}", version.saturating_add(1), width = VERSION_DIGITS));
            store.list_with_offset(Some(&folder), &offset)
        }
        None => store.list(Some(&folder)),
    };
    let mut names = Vec::new();
    while let Some(meta) = listed.try_next().await? {
        let is_child = meta.location.prefix_match(&folder).is_some_and(|rest| rest.count() == 1);
        let name = meta.location.filename().filter(|_| is_child).and_then(AttestationName::parse);
        names.extend(name.filter(|name| after.is_none_or(|after| name.version > after)));
        if names.len() > NAMES_LIMIT {
            return Err(Error::new(ErrorKind::Unsupported, "the table has too many attestations").with("limit", NAMES_LIMIT));
        }
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// The attestation of this name, when one of `keys` signed it and it is about the commit that the name says; `None` for anything else.
///
/// The signature is verified before the statement is parsed. Cost: one GET.
///
/// # Errors
/// Those of the store, and [`ErrorKind::Unsupported`] for signed statements of a later format.
pub async fn read_attestation(
    store: &dyn ObjectStore,
    root: &Path,
    name: &AttestationName,
    keys: &[VerifyingKey],
) -> Result<Option<Attestation>> {
    let Some(key) = keys.iter().find(|key| key.id() == name.key).copied() else { return Ok(None) };
    let Some(envelope) = attestation_bytes(store, root, name).await? else { return Ok(None) };
    open_on_a_thread(key, envelope, *name).await.map_err(|e| e.with("attestation", name.path(root)))
}

/// As [`open_attestation`], on a thread that nobody waits for otherwise.
pub(super) async fn open_on_a_thread(key: VerifyingKey, envelope: Bytes, name: AttestationName) -> Result<Option<Attestation>> {
    let opened = tokio::task::spawn_blocking(move || open_attestation(&key, &envelope, &name)).await;
    opened.map_err(|e| Error::new(ErrorKind::Internal, "verifying an attestation was cut short").caused_by(e))?
}

/// What is stored under this name, whoever put it there; `None` when that is nothing, or too long. Cost: one GET.
///
/// # Errors
/// Those of the store.
pub(crate) async fn attestation_bytes(store: &dyn ObjectStore, root: &Path, name: &AttestationName) -> Result<Option<Bytes>> {
    let read = small_attestation_bytes(store, root, name, ATTESTATION_LIMIT_BYTES).await?;
    Ok(read.and_then(std::result::Result::ok))
}

/// As [`attestation_bytes`]; what has more than `most_bytes` is not fetched, and its size is said.
///
/// # Errors
/// Those of the store.
pub(crate) async fn small_attestation_bytes(
    store: &dyn ObjectStore,
    root: &Path,
    name: &AttestationName,
    most_bytes: u64,
) -> Result<Option<std::result::Result<Bytes, u64>>> {
    match read_object_up_to(store, &name.path(root), most_bytes).await {
        Ok(read) => Ok(Some(read)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => Ok(None),
        Err(e) => Err(e),
    }
}

/// As [`read_attestation`], from bytes that were read. Takes longer than reading them: not for a thread that others wait for.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for signed statements of a later format.
pub(crate) fn open_attestation(key: &VerifyingKey, envelope: &[u8], name: &AttestationName) -> Result<Option<Attestation>> {
    let Some(statement) = open_envelope(key, envelope) else { return Ok(None) };
    match Attestation::parse(&statement) {
        Ok(found) => Ok(Some(found).filter(|found| found.commit.version == name.version && found.commit.commit == name.commit)),
        Err(e) if e.kind() == ErrorKind::Corrupt => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests;
