//! The digests of a state: Merkle roots, accumulator, totals. `docs/format/baseline.md` says the same in words.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use serde_json::{Value, json};

use super::canonical;
use super::sealed::{SealedCommit, SealedFile, SealedTable};
use super::statement::{CommitsRoot, StateRoot, Totals};
use crate::digest::{Digest, InclusionProof, MerkleTree, MultisetHash};
use crate::error::{Error, ErrorKind, Result};
use crate::table::{FileKey, TableKind, TableSnapshot};

/// Fewer files are not worth a thread.
const FILES_A_THREAD: usize = 2048;
const LEAF_TAG: &str = "lakeseal 2026 state leaf v1";
const COMMIT_TAG: &str = "lakeseal 2026 commit accumulator v1";

/// The sum of a file's live rows; absent when they were not hashed.
pub(super) fn live_sum(file: &SealedFile) -> Option<MultisetHash> {
    file.rows_encoding?;
    let mut sum = MultisetHash::new();
    for group in file.row_groups.as_read()? {
        sum.add(&MultisetHash::from_bytes(group.sum.as_ref()?).ok()?);
    }
    if let Some(deleted) = &file.deleted {
        sum.subtract(&MultisetHash::from_bytes(deleted.sum.as_ref()?).ok()?);
    }
    Some(sum)
}

/// Keys are paths without control characters, so that leaves ascend as their keys do.
fn merkle(leaves: &[Vec<u8>]) -> Result<Digest> {
    Ok(MerkleTree::new(leaves)?.root())
}

fn leaf(key: &FileKey, value: &Value) -> Vec<u8> {
    let vector = key.deletion_vector.as_deref().unwrap_or_default();
    [key.path.as_bytes(), b"\0", vector.as_bytes(), b"\0", &Digest::tagged(LEAF_TAG, &canonical::bytes(value)).0].concat()
}

/// What a leaf of the live files says.
fn file_value(file: &SealedFile) -> Result<Value> {
    let live = &file.live;
    Ok(json!({
            "deleted": file.deleted.as_ref().map(|d| json!({
                "digest": d.digest.to_string(),
                "file": d.file.as_ref().map(|f| json!({"digest": f.digest.to_string(), "path": f.path, "size": f.size})),
                "rows": d.rows,
            })),
            "deletion_vector": live.deletion_vector,
            "deletion_vector_id": live.key.deletion_vector,
            "digest": file.digest.to_string(),
            "footer": file.footer.to_string(),
            "modification_time_ms": live.modification_time_ms,
            "other": live.other,
            "partition_values": live.partition_values,
            "path": live.key.path,
            "raw_path": live.raw_path,
            "row_groups": file.row_groups.digests()?.iter().map(Digest::to_string).collect::<Vec<_>>(),
            "rows": file.rows,
            "sha256": hex::encode(file.sha256),
            "size": live.size,
            "stats": live.stats,
    }))
}

fn file_leaf(file: &SealedFile) -> Result<Vec<u8>> {
    Ok(leaf(&file.live.key, &file_value(file)?))
}

/// What the live files' root says of one of them, and the path to the root; `None` when no live file has this key.
pub(super) fn prove_file(table: &SealedTable, key: &FileKey) -> Result<Option<(Value, InclusionProof)>> {
    let Some(index) = table.files.keys().position(|other| other == key) else { return Ok(None) };
    let tree = MerkleTree::new(&leaves(&table.files)?)?;
    let value = table.files.get(key).map(|file| file_value(file)).transpose()?;
    Ok(value.zip(tree.prove(index)))
}

/// Whether `value` is what the live files' root says of a file.
pub(super) fn verify_file(value: &Value, proof: &InclusionProof, root: &Digest) -> bool {
    let Some(path) = value.get("path").and_then(Value::as_str) else { return false };
    let deletion_vector = value.get("deletion_vector_id").and_then(Value::as_str).map(str::to_owned);
    proof.verifies(&leaf(&FileKey { path: path.to_owned(), deletion_vector }, value), root)
}

fn tombstone_leaf(key: &FileKey) -> Vec<u8> {
    leaf(key, &Value::Null)
}

fn files_root(files: &BTreeMap<FileKey, Arc<SealedFile>>) -> Result<Digest> {
    merkle(&leaves(files)?)
}

/// The leaves of all files, in order, made by all processors where there are many.
fn leaves(files: &BTreeMap<FileKey, Arc<SealedFile>>) -> Result<Vec<Vec<u8>>> {
    let all: Vec<&SealedFile> = files.values().map(Arc::as_ref).collect();
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(all.len().div_ceil(FILES_A_THREAD)).max(1);
    let of = |files: &[&SealedFile]| files.iter().map(|file| file_leaf(file)).collect::<Result<Vec<_>>>();
    let mut parts = all.chunks(all.len().div_ceil(threads).max(1));
    let Some(own) = parts.next() else { return Ok(Vec::new()) };
    std::thread::scope(|scope| {
        let others: Vec<_> = parts.map(|part| (part, scope.spawn(|| of(part)))).collect();
        let mut leaves = of(own)?;
        for (part, other) in others {
            leaves.extend(other.join().unwrap_or_else(|_| of(part))?);
        }
        Ok(leaves)
    })
}

fn tombstones_root(removed: &BTreeMap<FileKey, Option<i64>>) -> Result<Digest> {
    merkle(&removed.keys().map(tombstone_leaf).collect::<Vec<_>>())
}

fn commits_root(commits: &BTreeMap<u64, SealedCommit>) -> CommitsRoot {
    let mut root = CommitsRoot::default();
    for (version, commit) in commits {
        let input = [&root.accumulator[..], &version.to_le_bytes(), &commit.digest.0, &commit.size.to_le_bytes()].concat();
        root = CommitsRoot { count: root.count.saturating_add(1), accumulator: Digest::tagged(COMMIT_TAG, &input).0 };
    }
    root
}

fn totals(files: &BTreeMap<FileKey, Arc<SealedFile>>) -> Totals {
    files.values().fold(Totals::default(), |sum, file| Totals {
        files: sum.files.saturating_add(1),
        rows: sum.rows.saturating_add(file.rows.saturating_sub(file.deleted.as_ref().map_or(0, |d| d.rows))),
        bytes: sum.bytes.saturating_add(file.live.size),
    })
}

/// The encoding of all live files; where they differ there is no sum.
fn rows_encoding(files: &BTreeMap<FileKey, Arc<SealedFile>>) -> Option<u16> {
    let encoding = files.values().next()?.rows_encoding?;
    files.values().all(|file| file.rows_encoding == Some(encoding)).then_some(encoding)
}

fn rows_sum(files: &BTreeMap<FileKey, Arc<SealedFile>>) -> Option<(u16, Digest)> {
    let encoding = rows_encoding(files)?;
    let mut total = MultisetHash::new();
    for file in files.values() {
        total.add(&live_sum(file)?);
    }
    Some((encoding, total.digest()))
}

/// As [`rows_sum`], where the sums of all row groups were added up before.
fn rows_sum_of(files: &BTreeMap<FileKey, Arc<SealedFile>>, groups: Option<MultisetHash>) -> Option<(u16, Digest)> {
    let (encoding, mut total) = (rows_encoding(files)?, groups?);
    for deleted in files.values().filter_map(|file| file.deleted.as_ref()) {
        total.subtract(&MultisetHash::from_bytes(deleted.sum.as_ref()?).ok()?);
    }
    Some((encoding, total.digest()))
}

/// The digests of what a log says besides files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeadDigests {
    pub(super) protocol: Digest,
    pub(super) metadata: Digest,
    pub(super) schema: Digest,
    pub(super) transactions: Digest,
    pub(super) domains: Digest,
}

/// Digests of protocol, metadata, schema, transactions and domains.
pub(super) fn head_digests(snapshot: &TableSnapshot) -> HeadDigests {
    let (metadata, schema) = metadata_digests(&snapshot.metadata);
    HeadDigests {
        protocol: protocol_digest(&snapshot.protocol),
        metadata,
        schema,
        transactions: canonical::digest(&json!(snapshot.transactions)),
        domains: canonical::digest(&canonical::normal(&json!(snapshot.domains))),
    }
}

/// The digest of a `protocol` action.
pub(super) fn protocol_digest(protocol: &Value) -> Digest {
    canonical::digest(&canonical::normal_protocol(protocol))
}

/// The digests of a `metaData` action, and of the schema in it.
pub(super) fn metadata_digests(metadata: &Value) -> (Digest, Digest) {
    let schema = match metadata.get("schemaString").and_then(Value::as_str) {
        Some(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
        None => Value::Null,
    };
    (canonical::digest(&canonical::normal(metadata)), canonical::digest(&schema))
}

/// The root of a state.
pub(super) fn root(
    snapshot: &TableSnapshot,
    files: &BTreeMap<FileKey, Arc<SealedFile>>,
    removed: &BTreeMap<FileKey, Option<i64>>,
    commits: &BTreeMap<u64, SealedCommit>,
) -> Result<StateRoot> {
    let head = head_digests(snapshot);
    Ok(StateRoot {
        kind: snapshot.kind,
        table_id: snapshot.table_id.clone(),
        version: if snapshot.kind == TableKind::Delta { snapshot.version } else { 0 },
        commits: commits_root(commits),
        protocol: head.protocol,
        metadata: head.metadata,
        schema: head.schema,
        transactions: head.transactions,
        domains: head.domains,
        files: files_root(files)?,
        tombstones: tombstones_root(removed)?,
        totals: totals(files),
        rows_sum: rows_sum(files),
    })
}

/// Holds the state that evidence came to against the roots in the statement.
///
/// # Errors
/// [`ErrorKind::Corrupt`] naming the first root that differs.
pub(super) fn check(table: &SealedTable) -> Result<()> {
    hold(table, rows_sum(&table.files))
}

/// As [`check`], for a table of whose row groups only the digests were kept: `groups` is the sum of all of them, absent where one has none.
pub(super) fn check_summed(table: &SealedTable, groups: Option<MultisetHash>) -> Result<()> {
    hold(table, rows_sum_of(&table.files, groups))
}

fn hold(table: &SealedTable, rows: Option<(u16, Digest)>) -> Result<()> {
    let stated = &table.statement.state;
    let wrong = if stated.files != files_root(&table.files)? {
        Some("live files")
    } else if stated.tombstones != tombstones_root(&table.removed)? {
        Some("removed files")
    } else if stated.commits != commits_root(&table.commits) {
        Some("commits")
    } else if stated.totals != totals(&table.files) {
        Some("totals")
    } else if stated.rows_sum != rows {
        Some("rows")
    } else {
        None
    };
    match wrong {
        None => Ok(()),
        Some(what) => Err(Error::new(ErrorKind::Corrupt, format!("the evidence does not come to the {what} that its baseline states"))
            .with("baseline", table.baseline.number)),
    }
}
