//! The digests of a state: Merkle roots, accumulator, totals. `docs/format/baseline.md` says the same in words.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};

use super::canonical;
use super::sealed::{SealedCommit, SealedFile, SealedTable};
use super::statement::{CommitsRoot, StateRoot, Totals};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{FileKey, TableKind, TableSnapshot};

const LEAF_TAG: &str = "lakeseal 2026 state leaf v1";
const NODE_TAG: &str = "lakeseal 2026 state node v1";
const EMPTY_TAG: &str = "lakeseal 2026 state empty v1";
const COMMIT_TAG: &str = "lakeseal 2026 commit accumulator v1";
const SUM_TAG: &str = "lakeseal 2026 table rows sum v1";
const LANES: usize = 512;

/// A sum of row hashes as it is stored: 512 lanes of 64 bits, little-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowsSum([u64; LANES]);

impl RowsSum {
    /// The sum of no rows.
    pub(super) fn zero() -> Self {
        Self([0; LANES])
    }

    /// Adds a stored state.
    pub(super) fn add(&mut self, state: &[u8]) {
        self.each(state, u64::wrapping_add);
    }

    /// Takes a stored state away.
    pub(super) fn subtract(&mut self, state: &[u8]) {
        self.each(state, u64::wrapping_sub);
    }

    fn each(&mut self, state: &[u8], apply: fn(u64, u64) -> u64) {
        let (lanes, _) = state.as_chunks::<8>();
        for (lane, bytes) in self.0.iter_mut().zip(lanes) {
            *lane = apply(*lane, u64::from_le_bytes(*bytes));
        }
    }

    /// The digest that a statement carries.
    pub(super) fn digest(&self) -> Digest {
        let bytes: Vec<u8> = self.0.iter().flat_map(|lane| lane.to_le_bytes()).collect();
        Digest::tagged(SUM_TAG, &bytes)
    }
}

/// The sum of a file's live rows; absent when they were not hashed.
pub(super) fn live_sum(file: &SealedFile) -> Option<RowsSum> {
    file.rows_encoding?;
    let mut sum = RowsSum::zero();
    for group in &file.row_groups {
        sum.add(group.sum.as_ref()?);
    }
    if let Some(deleted) = &file.deleted {
        sum.subtract(deleted.sum.as_ref()?);
    }
    Some(sum)
}

fn merkle(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::tagged(EMPTY_TAG, &[]),
        [only] => *only,
        _ => {
            // As RFC 6962: the left subtree is the largest power of two below the number of leaves.
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            Digest::tagged(NODE_TAG, &[merkle(left).0, merkle(right).0].concat())
        }
    }
}

fn leaf(value: &Value) -> Digest {
    Digest::tagged(LEAF_TAG, &canonical::bytes(value))
}

fn file_leaf(file: &SealedFile) -> Digest {
    let live = &file.live;
    leaf(&json!({
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
        "row_groups": file.row_groups.iter().map(|group| group.digest.to_string()).collect::<Vec<_>>(),
        "rows": file.rows,
        "sha256": hex::encode(file.sha256),
        "size": live.size,
        "stats": live.stats,
    }))
}

fn tombstone_leaf(key: &FileKey) -> Digest {
    leaf(&json!({"deletion_vector_id": key.deletion_vector, "path": key.path}))
}

fn files_root(files: &BTreeMap<FileKey, SealedFile>) -> Digest {
    merkle(&files.values().map(file_leaf).collect::<Vec<_>>())
}

fn tombstones_root(removed: &BTreeMap<FileKey, Option<i64>>) -> Digest {
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

fn totals(files: &BTreeMap<FileKey, SealedFile>) -> Totals {
    files.values().fold(Totals::default(), |sum, file| Totals {
        files: sum.files.saturating_add(1),
        rows: sum.rows.saturating_add(file.rows.saturating_sub(file.deleted.as_ref().map_or(0, |d| d.rows))),
        bytes: sum.bytes.saturating_add(file.live.size),
    })
}

/// The encoding is that of all live files; where they differ there is no sum.
fn rows_sum(files: &BTreeMap<FileKey, SealedFile>) -> Option<(u16, Digest)> {
    let encoding = files.values().next()?.rows_encoding?;
    let mut total = RowsSum::zero();
    for file in files.values() {
        if file.rows_encoding != Some(encoding) {
            return None;
        }
        let sum = live_sum(file)?;
        let bytes: Bytes = sum.0.iter().flat_map(|lane| lane.to_le_bytes()).collect();
        total.add(&bytes);
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
    let schema = match snapshot.metadata.get("schemaString").and_then(Value::as_str) {
        Some(text) => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
        None => Value::Null,
    };
    HeadDigests {
        protocol: canonical::digest(&canonical::normal_protocol(&snapshot.protocol)),
        metadata: canonical::digest(&canonical::normal(&snapshot.metadata)),
        schema: canonical::digest(&schema),
        transactions: canonical::digest(&json!(snapshot.transactions)),
        domains: canonical::digest(&canonical::normal(&json!(snapshot.domains))),
    }
}

/// The root of a state.
pub(super) fn root(
    snapshot: &TableSnapshot,
    files: &BTreeMap<FileKey, SealedFile>,
    removed: &BTreeMap<FileKey, Option<i64>>,
    commits: &BTreeMap<u64, SealedCommit>,
) -> StateRoot {
    let head = head_digests(snapshot);
    StateRoot {
        kind: snapshot.kind,
        table_id: snapshot.table_id.clone(),
        version: if snapshot.kind == TableKind::Delta { snapshot.version } else { 0 },
        commits: commits_root(commits),
        protocol: head.protocol,
        metadata: head.metadata,
        schema: head.schema,
        transactions: head.transactions,
        domains: head.domains,
        files: files_root(files),
        tombstones: tombstones_root(removed),
        totals: totals(files),
        rows_sum: rows_sum(files),
    }
}

/// Holds the state that evidence came to against the roots in the statement.
///
/// # Errors
/// [`ErrorKind::Corrupt`] naming the first root that differs.
pub(super) fn check(table: &SealedTable) -> Result<()> {
    let stated = &table.statement.state;
    let wrong = if stated.files != files_root(&table.files) {
        Some("live files")
    } else if stated.tombstones != tombstones_root(&table.removed) {
        Some("removed files")
    } else if stated.commits != commits_root(&table.commits) {
        Some("commits")
    } else if stated.totals != totals(&table.files) {
        Some("totals")
    } else if stated.rows_sum != rows_sum(&table.files) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_add_and_subtract_lane_by_lane() {
        let ones = [0xff; 4096];
        let mut sum = RowsSum::zero();
        sum.add(&ones);
        sum.add(&ones);
        assert_ne!(sum, RowsSum::zero());
        sum.subtract(&ones);
        sum.subtract(&ones);
        assert_eq!(sum, RowsSum::zero());
    }

    #[test]
    fn the_tree_depends_on_every_leaf_and_on_their_number() {
        let leaves: Vec<Digest> = (0..9).map(|i| Digest([i; 32])).collect();
        let roots: std::collections::BTreeSet<Digest> = (0..=9).map(|n| merkle(&leaves[..n])).collect();
        assert_eq!(roots.len(), 10);
        let mut swapped = leaves.clone();
        swapped.swap(3, 4);
        assert_ne!(merkle(&swapped), merkle(&leaves));
        // Three leaves by hand.
        let node = |l: Digest, r: Digest| Digest::tagged(NODE_TAG, &[l.0, r.0].concat());
        assert_eq!(merkle(&leaves[..3]), node(node(leaves[0], leaves[1]), leaves[2]));
    }
}
