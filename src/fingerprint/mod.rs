//! Parquet bytes to digests, row sums and recomputed statistics.
//!
//! One pass over the stored file; the bytes that are hashed are the bytes that are decoded. Formats: `docs/format/fingerprint.md`
//! and `docs/format/row-encoding.md`.

mod decode;
mod encode;
mod field_ids;
mod footer;
mod footer_statistics;
mod pages;
mod partition;
mod pass;
mod put;
mod range;
mod restated;
mod rows;
mod scalar;
mod source;
mod statistics;
mod stored_types;
mod written_types;

use std::collections::BTreeMap;
use std::ops::Range;

use roaring::RoaringTreemap;
use serde_json::Value;

use crate::digest::{BlockList, Digest, MultisetHash};
use crate::profile::ColumnProfile;
use crate::table::TableSchema;

pub use decode::{EncodedRows, FileRows};
pub use pass::{fingerprint, row_count, row_digests};
pub use restated::{is_as_wide, leaves, same_bound, same_partition_value};
pub use source::Source;
pub use statistics::check_statistics;

/// Version of the canonical row encoding that sums and `values` digests are made with.
pub const ROW_ENCODING: u16 = 1;

/// What a fingerprint needs to know of a file besides its bytes.
#[derive(Debug, Clone, Copy)]
pub struct FileContext<'a> {
    /// The table's columns; without any (a folder of Parquet), the file's own columns are taken.
    pub schema: &'a TableSchema,
    /// Partition values by physical column name.
    pub partition_values: &'a BTreeMap<String, Option<String>>,
    /// The table's key for row hashes.
    pub row_key: [u8; 32],
    /// Whether rows are decoded; else only bytes are digested.
    pub rows: bool,
    /// Whether columns are profiled, too; only decoded rows can be.
    pub profiles: bool,
    /// Positions of deleted rows; their sum is taken too.
    pub deletion_vector: Option<&'a RoaringTreemap>,
}

/// All that is observed of one Parquet file.
#[derive(Debug, Clone, PartialEq)]
pub struct FileFingerprint {
    /// Size in bytes.
    pub size: u64,
    /// The version that the store named before the file was read: while it is the newest, the file is the one that was read.
    pub version: Option<String>,
    /// Plain BLAKE3 of the file.
    pub digest: Digest,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
    /// Chaining values of its 64 KiB blocks.
    pub blocks: BlockList,
    /// Digest of everything after the last column chunk: page indexes, bloom filters, footer.
    pub footer: Digest,
    /// Rows, deleted ones included.
    pub rows: u64,
    /// Row groups in the footer's order.
    pub row_groups: Vec<RowGroupFingerprint>,
    /// Rows that the deletion vector deletes; absent without one, or when rows were not decoded.
    pub deleted: Option<DeletedRows>,
    /// Where the footer's own statistics contradict the data. Empty when rows were not decoded.
    pub footer_lies: Vec<StatisticsLie>,
}

/// The rows of a file that its deletion vector deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedRows {
    /// How many.
    pub rows: u64,
    /// Their sum.
    pub sum: MultisetHash,
}

/// All that is observed of one row group.
#[derive(Debug, Clone, PartialEq)]
pub struct RowGroupFingerprint {
    /// Position in the footer, from 0.
    pub ordinal: u32,
    /// Rows.
    pub rows: u64,
    /// From its first column chunk to the end of its last one.
    pub bytes: Range<u64>,
    /// Digest over its row count and its column chunks' names, sizes and digests.
    pub digest: Digest,
    /// Sum of its rows, deleted ones included; the empty sum when rows were not decoded.
    pub sum: MultisetHash,
    /// Leaf columns in the file's order.
    pub columns: Vec<ColumnFingerprint>,
}

/// All that is observed of one column chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnFingerprint {
    /// The Parquet leaf path, dotted.
    pub name: String,
    /// The same in its parts, which may have dots of their own. It is no part of evidence.
    pub path: Vec<String>,
    /// Where the chunk lies.
    pub bytes: Range<u64>,
    /// Plain BLAKE3 of the chunk's bytes.
    pub digest: Digest,
    /// Keyed digest of the canonical values in row order, independent of encoding and compression; zero when rows were not decoded.
    pub values: Digest,
    /// Nulls: of the leaf itself or of a struct around it. Absent within lists and maps, or when rows were not decoded.
    pub nulls: Option<u64>,
    /// Nulls of the outermost list or map that the leaf stands in, or of a struct around that. Absent outside of these, or when rows were not
    /// decoded. It is no part of evidence: statistics of the log are held against it.
    pub container_nulls: Option<u64>,
    /// The least value that is neither null nor NaN; absent where there is none, for types without order, and within lists and maps.
    pub min: Option<Value>,
    /// The greatest such value.
    pub max: Option<Value>,
    /// Least and greatest value with their types; absent within lists and maps, or when rows were not decoded. It is no part of evidence.
    range: Option<range::LeafRange>,
    /// What its values are like; absent for nested columns, and unless it was asked for.
    pub profile: Option<Box<ColumnProfile>>,
}

/// A stated statistic that the data contradict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatisticsLie {
    /// Row group, for statistics of the Parquet footer; absent for those of the log.
    pub row_group: Option<u32>,
    /// Column by physical name, dotted; empty when it is about the whole file.
    pub column: String,
    /// Which statistic: `numRecords`, `nullCount`, `minValues`, `maxValues`, `cardinality`, `footer min`, …; `statistics` for all of them.
    pub what: String,
    /// What is stated.
    pub stated: String,
    /// What was found.
    pub found: String,
}

#[cfg(test)]
mod reader_tests;
#[cfg(test)]
mod tests;
