//! Proofs: that one data file is in the sealed state of a table, and that its baseline is in the log. One JSON document, verified offline.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::tree::{self, Hash, PROOF_LIMIT};
use super::{Checkpoint, Entry, Log, LogKeys};
use crate::baseline::inventory::table_name;
use crate::baseline::repository::{BaselineName, Repository};
use crate::baseline::sealed::SealedTable;
use crate::baseline::standing::Standing;
use crate::baseline::statement::{BaselineSummary, Statement};
use crate::baseline::trust::Trust;
use crate::baseline::{canonical, check_root, sign, state};
use crate::digest::{Digest, InclusionProof};
use crate::error::{Error, ErrorKind, Result};
use crate::key::dsse::Envelope;
use crate::key::{KeyId, Role, VerifyingKey};
use crate::table::parse_json;

const TYPE: &str = "urn:lakeseal:proof:v1";
/// A proof is never larger, in bytes.
pub const PROOF_LIMIT_BYTES: u64 = 16 * 1024 * 1024;

/// What a proof shows of a file, once it is verified.
#[derive(Debug, Clone)]
pub struct Proven {
    /// The baseline whose state the file is in, and who signed it.
    pub baseline: BaselineSummary,
    /// The file's path in the table.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Plain BLAKE3 of it.
    pub digest: Digest,
    /// SHA-256 of it.
    pub sha256: [u8; 32],
    /// Rows in it, deleted ones included.
    pub rows: u64,
    /// How many of them a deletion vector takes out of the table.
    pub deleted_rows: u64,
    /// The log that the baseline is in, as far as the checkpoint goes.
    pub log: Checkpoint,
    /// Its entry there.
    pub entry: u64,
}

/// Hashes a file for [`verify`], piece by piece.
#[derive(Debug, Clone, Default)]
pub struct FileHasher {
    size: u64,
    blake3: blake3::Hasher,
    sha256: Sha256,
}

impl FileHasher {
    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.size = self.size.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.blake3.update(bytes);
        self.sha256.update(bytes);
    }
}

impl Log {
    /// The proof that the live file at `path` is in the state that `sealed` states, and its baseline in the log. Canonical JSON.
    ///
    /// Cost: as [`Log::hashes`], and one GET per trusted key; memory for the tree of live files.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when no such file is live in the baseline, or the baseline is not in the log; [`ErrorKind::Mismatch`] when
    /// the log contradicts its checkpoint; those of the store.
    pub async fn prove(&self, sealed: &SealedTable, path: &str, repository: &Repository, trust: &Trust) -> Result<Vec<u8>> {
        let baseline = &sealed.baseline;
        let not_live = || {
            Error::new(ErrorKind::NotFound, "no such file is live in the newest baseline")
                .with("file", path)
                .with("baseline", baseline.number)
        };
        let key = sealed.file_at(path).map(|file| &file.live.key).ok_or_else(not_live)?;
        let (value, proof) = state::prove_file(sealed, key)?.ok_or_else(not_live)?;
        let name = BaselineName { number: baseline.number, digest: baseline.digest };
        let envelope = repository.dsse_envelope(&name, trust).await?;
        let (entry, index, path, note) = self.prove_entry(baseline, trust).await?;
        let bytes = canonical::bytes(&json!({
            "checkpoint": note,
            "entry": {"index": index, "leaf": STANDARD.encode(entry), "path": path.iter().map(hex::encode).collect::<Vec<_>>()},
            "envelope": envelope,
            "file": {
                "index": proof.index,
                "leaf": value,
                "leaves": proof.leaves,
                "path": proof.siblings.iter().map(ToString::to_string).collect::<Vec<_>>(),
            },
            "type": TYPE,
        }));
        Ok([&bytes[..], b"\n"].concat())
    }

    /// The entry of a baseline, its place, the path to the root of the newest checkpoint, and that checkpoint's note.
    async fn prove_entry(&self, baseline: &BaselineSummary, trust: &Trust) -> Result<(Vec<u8>, u64, Vec<Hash>, String)> {
        let unlogged = || {
            Error::new(ErrorKind::NotFound, "the baseline is not in the log: seal the table again to have it recorded")
                .with("baseline", baseline.number)
        };
        let keys = LogKeys::of(trust);
        let log = self.newest(&keys).await?.ok_or_else(unlogged)?;
        let (checkpoint, note) = self.newest_checkpoint(&keys).await?.ok_or_else(unlogged)?;
        let row = log.inventory.tables.get(table_name(&baseline.location)).filter(|row| row.digest == baseline.digest);
        let index = row.map(|row| row.entry).filter(|index| *index < checkpoint.size).ok_or_else(unlogged)?;
        let hashes = self.hashes(checkpoint.size, &checkpoint.root).await?;
        let path = usize::try_from(index).ok().and_then(|index| tree::prove_inclusion(&hashes, index)).ok_or_else(unlogged)?;
        let leaf = self.leaf(index).await?.ok_or_else(unlogged)?;
        Ok((leaf.to_vec(), index, path, note))
    }
}

/// Verifies a proof with public keys alone: what it shows of a file with these bytes.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] when `proof` is none; [`ErrorKind::Unauthentic`] when a signature is not by a trusted key;
/// [`ErrorKind::Mismatch`] when a path does not lead to its root, the term of the baseline or of the trust root is over, or the file is another;
/// [`ErrorKind::Config`] when the baseline was made under a newer trust root than is known.
pub fn verify(proof: &[u8], file: &FileHasher, trust: &Trust, now_ms: i64) -> Result<Proven> {
    if u64::try_from(proof.len()).unwrap_or(u64::MAX) > PROOF_LIMIT_BYTES {
        return Err(Error::new(ErrorKind::InvalidInput, "too large for a proof").with("limit", PROOF_LIMIT_BYTES));
    }
    let value = parse_json(proof).map_err(|e| Error::new(ErrorKind::InvalidInput, "not a proof: it is not JSON").caused_by(e))?;
    if value.get("type").and_then(Value::as_str) != Some(TYPE) {
        return Err(Error::new(ErrorKind::InvalidInput, "not a proof of a kind that this version knows").with("wanted", TYPE));
    }
    let (statement, baseline) = statement(&value, trust)?;
    check_root(&statement, &baseline, now_ms)?;
    if baseline.expires_ms.is_some_and(|expires| expires <= now_ms) {
        return Err(mismatch("the baseline's term is over: it says nothing of today").with("baseline", baseline.number));
    }
    let (log, entry) = logged(&value, &baseline, trust)?;
    let proven = sealed_file(&value, &statement, baseline, log, entry)?;
    if file.size != proven.size
        || Digest(*file.blake3.finalize().as_bytes()) != proven.digest
        || file.sha256.clone().finalize()[..] != proven.sha256
    {
        return Err(mismatch("the file is not the one that was sealed")
            .with("sealed", format!("{} bytes, BLAKE3 {}", proven.size, proven.digest))
            .with("found", format!("{} bytes, BLAKE3 {}", file.size, Digest(*file.blake3.finalize().as_bytes()))));
    }
    Ok(proven)
}

fn mismatch(message: &str) -> Error {
    Error::new(ErrorKind::Mismatch, message)
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("not a proof: its {what} is missing or malformed"))
}

fn statement(proof: &Value, trust: &Trust) -> Result<(Statement, BaselineSummary)> {
    let envelope = proof.get("envelope").ok_or_else(|| malformed("envelope"))?;
    let envelope = Envelope::parse(envelope.to_string().as_bytes(), sign::PAYLOAD_TYPE).map_err(|e| malformed("envelope").caused_by(e))?;
    let signers: Vec<KeyId> = envelope.signers(trust.keys(Role::Sealer)).iter().map(VerifyingKey::id).collect();
    if signers.len() < trust.threshold(Role::Sealer) {
        return Err(Error::new(ErrorKind::Unauthentic, "too few keys that you trust signed the baseline of this proof")
            .with("signed", signers.len())
            .with("needed", trust.threshold(Role::Sealer)));
    }
    let payload = envelope.payload;
    let statement = Statement::parse(&payload)?;
    let root = trust.root().map(|signed| (signed.root().version, signed.root().expires_ms));
    let standing = Standing { signed_by: signers, needed: trust.threshold(Role::Sealer), root };
    let summary = statement.summary(Digest::of(&payload), standing);
    Ok((statement, summary))
}

/// A path of hashes in hexadecimal; never more than a tree can have.
fn path(value: Option<&Value>) -> Option<Vec<Hash>> {
    let steps = value?.as_array().filter(|steps| steps.len() <= PROOF_LIMIT)?;
    steps.iter().map(|step| step.as_str()?.parse::<Digest>().ok().map(|digest| digest.0)).collect()
}

fn logged(proof: &Value, baseline: &BaselineSummary, trust: &Trust) -> Result<(Checkpoint, u64)> {
    let keys = LogKeys::of(trust);
    let note = proof.get("checkpoint").and_then(Value::as_str).ok_or_else(|| malformed("checkpoint"))?;
    let unsigned = || Error::new(ErrorKind::Unauthentic, "no key that you trust signed the checkpoint of this proof");
    let (checkpoint, _) = Checkpoint::open(note.as_bytes(), &keys.newest).ok_or_else(unsigned)?;
    let entry = proof.get("entry").ok_or_else(|| malformed("entry"))?;
    let leaf =
        entry.get("leaf").and_then(Value::as_str).and_then(|text| STANDARD.decode(text).ok()).ok_or_else(|| malformed("entry's leaf"))?;
    let index = entry.get("index").and_then(Value::as_u64).ok_or_else(|| malformed("entry's index"))?;
    let path = path(entry.get("path")).ok_or_else(|| malformed("entry's path"))?;
    if !tree::verify_inclusion(&tree::leaf_hash(&leaf), index, checkpoint.size, &path, &checkpoint.root) {
        return Err(mismatch("the entry of this proof is not in the log of its checkpoint").with("log entry", index));
    }
    let unsigned = || Error::new(ErrorKind::Unauthentic, "no key that you trust signed the log's entry of this proof");
    let signed = Entry::open(&leaf, &keys.entries).ok_or_else(unsigned)?.entry;
    let names = signed.baselines.iter().any(|logged| {
        table_name(&logged.table) == table_name(&baseline.location) && logged.number == baseline.number && logged.digest == baseline.digest
    });
    if !names || signed.log != checkpoint.origin || signed.index.is_some_and(|own| own != index) {
        return Err(mismatch("the entry of this proof is about another baseline, or of another log").with("log entry", index));
    }
    Ok((checkpoint, index))
}

fn sealed_file(proof: &Value, statement: &Statement, baseline: BaselineSummary, log: Checkpoint, entry: u64) -> Result<Proven> {
    let file = proof.get("file").ok_or_else(|| malformed("file"))?;
    let number = |name: &'static str| file.get(name).and_then(Value::as_u64).ok_or_else(|| malformed("place of the file"));
    let siblings = path(file.get("path")).ok_or_else(|| malformed("file's path"))?.into_iter().map(Digest).collect();
    let inclusion = InclusionProof { index: number("index")?, leaves: number("leaves")?, siblings };
    let leaf = file.get("leaf").ok_or_else(|| malformed("file's leaf"))?;
    if !state::verify_file(leaf, &inclusion, &statement.state.files) {
        return Err(mismatch("the file of this proof is not in the state that its baseline states"));
    }
    let text = |name: &str| leaf.get(name).and_then(Value::as_str);
    let read = || {
        Some(Proven {
            path: text("path")?.to_owned(),
            size: leaf.get("size")?.as_u64()?,
            digest: text("digest")?.parse().ok()?,
            sha256: text("sha256")?.parse::<Digest>().ok()?.0,
            rows: leaf.get("rows")?.as_u64()?,
            deleted_rows: match leaf.get("deleted")? {
                Value::Null => 0,
                deleted => deleted.get("rows")?.as_u64()?,
            },
            baseline,
            log,
            entry,
        })
    };
    read().ok_or_else(|| malformed("file's leaf"))
}
