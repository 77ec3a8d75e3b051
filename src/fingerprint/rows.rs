//! Whole rows from record batches: which columns make a row, in which order, and their sums.

use std::collections::BTreeMap;

use arrow::array::{Array as _, ArrayRef, RecordBatch};
use arrow::datatypes::Schema;
use roaring::RoaringTreemap;

use super::ROW_ENCODING;
use super::encode::{LeafChoice, encoder, leaf_count};
use super::partition::partition_value;
use super::put::{NULL, prefixed, put_length};
use super::range::{LeafFacts, LeafRange};
use crate::digest::{Digest, MultisetHash, MultisetHasher};
use crate::error::{Error, ErrorKind, Result};
use crate::profile::{ColumnProfile, ProfileBuilder};
use crate::table::{ColumnType, TableSchema};

const VALUES_KEY_TAG: &str = "lakeseal 2026 column values v1";

/// How the rows of one file are made: fixed before its first row group is read.
#[derive(Debug, Clone)]
pub(super) struct RowPlan {
    row_key: [u8; 32],
    values_key: [u8; 32],
    /// Top-level columns of the file, in its order.
    columns: Vec<FileColumn>,
    /// Members of a row, sorted by the bytes of their names.
    members: Vec<Member>,
}

#[derive(Debug, Clone)]
struct FileColumn {
    target: Option<ColumnType>,
    leaves: usize,
    nested: bool,
}

#[derive(Debug, Clone)]
struct Member {
    name: String,
    prefix: Vec<u8>,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    /// Position among the file's top-level columns.
    File(usize),
    /// One encoded value for all rows.
    Constant(Vec<u8>),
}

impl RowPlan {
    /// Matches a file's columns with the table's, by physical name. A partition column's value comes from the log (or the folder)
    /// alone, whatever the file holds; a column that the table has not is no part of its rows.
    pub(super) fn new(
        file: &Schema,
        table: &TableSchema,
        partition_values: &BTreeMap<String, Option<String>>,
        row_key: [u8; 32],
    ) -> Result<Self> {
        let mut members = BTreeMap::new();
        if table.columns.is_empty() {
            for (at, field) in file.fields().iter().enumerate() {
                members.insert(field.name().clone(), Some(Source::File(at)));
            }
            for (name, value) in partition_values {
                members.insert(name.clone(), partition_value(None, value.as_deref())?.map(Source::Constant));
            }
        } else {
            for column in &table.columns {
                let name = &column.physical_name;
                let source = if table.partition_columns.contains(&column.name) {
                    let value = partition_values.get(name).or_else(|| partition_values.get(&column.name)).cloned().flatten();
                    let encoded = partition_value(Some(&column.data_type), value.as_deref()).map_err(|e| e.with("column", name))?;
                    encoded.map(Source::Constant)
                } else {
                    file.fields().iter().position(|field| field.name() == name).map(Source::File)
                };
                members.insert(name.clone(), source);
            }
        }
        let members = members.into_iter().filter_map(|(name, source)| Some(Member { prefix: prefixed(&name), source: source?, name }));
        let columns = file.fields().iter().map(|field| FileColumn {
            target: table.physical_column(field.name()).map(|column| column.data_type.clone()),
            leaves: leaf_count(field.data_type()),
            nested: field.data_type().is_nested(),
        });
        let values_key = blake3::derive_key(VALUES_KEY_TAG, &row_key);
        Ok(Self { row_key, values_key, columns: columns.collect(), members: members.collect() })
    }

    fn leaves(&self) -> usize {
        self.columns.iter().map(|column| column.leaves).sum()
    }

    /// The members of a row, by physical name: whether the file holds them, or one value for all rows.
    pub(super) fn members(&self) -> impl Iterator<Item = (&str, bool)> {
        self.members.iter().map(|member| (member.name.as_str(), matches!(member.source, Source::File(_))))
    }

    /// Encodes the rows of a batch, member by member. `at` names the file's column that each column of the batch is.
    pub(super) fn encode(&self, batch: &RecordBatch, at: &[usize]) -> Result<Vec<MemberValues>> {
        let mut members = Vec::with_capacity(self.members.len());
        for member in &self.members {
            members.push(match &member.source {
                Source::Constant(value) => MemberValues::Constant(value.clone()),
                Source::File(file_column) => match at.iter().position(|at| at == file_column) {
                    None => MemberValues::Absent,
                    Some(position) => {
                        let missing = || Error::new(ErrorKind::Internal, "a column of a batch is not in the plan");
                        let column = self.columns.get(*file_column).ok_or_else(missing)?;
                        let array = batch.columns().get(position).ok_or_else(missing)?;
                        let mut buffer = ColumnBuffer::default();
                        buffer.fill(array, column.target.as_ref(), LeafChoice::all())?;
                        MemberValues::Rows(buffer)
                    }
                },
            });
        }
        Ok(members)
    }
}

/// The encoded values of one member of the rows of a batch.
#[derive(Debug)]
pub(super) enum MemberValues {
    /// Not decoded.
    Absent,
    /// The same in all rows.
    Constant(Vec<u8>),
    /// One a row; a null is one byte.
    Rows(ColumnBuffer),
}

impl MemberValues {
    /// The encoded value of `row`; empty for null, and for what was not decoded.
    pub(super) fn value(&self, row: usize) -> &[u8] {
        let value = match self {
            Self::Absent => &[],
            Self::Constant(value) => value.as_slice(),
            Self::Rows(buffer) => buffer.value(row),
        };
        if value == [NULL] { &[] } else { value }
    }
}

/// What the rows of one row group come to.
#[derive(Debug)]
pub(super) struct GroupRows {
    pub(super) rows: u64,
    pub(super) sum: MultisetHash,
    pub(super) deleted: MultisetHash,
    pub(super) deleted_rows: u64,
    pub(super) leaves: Vec<LeafValues>,
    /// A digest of each live row, where rows are only told apart.
    pub(super) digests: Vec<u128>,
}

/// What the values of one leaf of a row group come to.
#[derive(Debug)]
pub(super) struct LeafValues {
    pub(super) values: Digest,
    pub(super) facts: LeafFacts,
    pub(super) profile: Option<Box<ColumnProfile>>,
}

impl LeafValues {
    /// Absent within lists and maps.
    pub(super) fn range(&self) -> Option<&LeafRange> {
        match &self.facts {
            LeafFacts::Range(range) => Some(range),
            LeafFacts::Within { .. } => None,
        }
    }

    /// Nulls of the list or map that it stands in.
    pub(super) fn container_nulls(&self) -> Option<u64> {
        match &self.facts {
            LeafFacts::Range(_) => None,
            LeafFacts::Within { nulls } => Some(*nulls),
        }
    }
}

/// Takes the batches of one row group.
pub(super) struct GroupHasher<'a> {
    plan: &'a RowPlan,
    sum: MultisetHasher,
    deleted: MultisetHasher,
    deleted_rows: u64,
    rows: u64,
    first_row: u64,
    deletion_vector: Option<&'a RoaringTreemap>,
    leaves: Vec<(blake3::Hasher, LeafFacts)>,
    buffers: Vec<ColumnBuffer>,
    row: Vec<u8>,
    /// By top-level column; absent for nested ones, and unless they are wanted.
    profiles: Vec<Option<ProfileBuilder>>,
    digests: Option<(blake3::Hasher, Vec<u128>)>,
}

/// The encoded values of one column of a batch; a null is one byte.
#[derive(Debug, Default)]
pub(super) struct ColumnBuffer {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl ColumnBuffer {
    fn value(&self, row: usize) -> &[u8] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends.get(before).copied().unwrap_or_default());
        let end = self.ends.get(row).copied().unwrap_or_default();
        self.bytes.get(start..end).unwrap_or_default()
    }

    fn fill(&mut self, array: &ArrayRef, target: Option<&ColumnType>, mut leaves: LeafChoice) -> Result<()> {
        let encoder = encoder(array, target, &mut leaves)?;
        self.bytes.clear();
        self.ends.clear();
        for row in 0..array.len() {
            if encoder.is_null(row) {
                self.bytes.push(NULL);
            } else {
                encoder.write(row, &mut self.bytes);
            }
            self.ends.push(self.bytes.len());
        }
        Ok(())
    }
}

impl<'a> GroupHasher<'a> {
    /// Begins a row group whose first row has the position `first_row` in the file.
    pub(super) fn new(plan: &'a RowPlan, first_row: u64, deletion_vector: Option<&'a RoaringTreemap>) -> Self {
        let leaf = || (blake3::Hasher::new_keyed(&plan.values_key), LeafFacts::default());
        Self {
            plan,
            sum: MultisetHasher::new(&plan.row_key),
            deleted: MultisetHasher::new(&plan.row_key),
            deleted_rows: 0,
            rows: 0,
            first_row,
            deletion_vector,
            leaves: (0..plan.leaves()).map(|_| leaf()).collect(),
            buffers: plan.columns.iter().map(|_| ColumnBuffer::default()).collect(),
            row: Vec::new(),
            profiles: plan.columns.iter().map(|_| None).collect(),
            digests: None,
        }
    }

    /// Profiles columns as well, from here on.
    pub(super) fn profile(&mut self) -> Result<()> {
        for (builder, column) in self.profiles.iter_mut().zip(&self.plan.columns) {
            if column.leaves == 1 && !column.nested {
                *builder = Some(ProfileBuilder::new()?);
            }
        }
        Ok(())
    }

    /// Makes a digest of each live row instead of sums and digests of values.
    pub(super) fn telling_rows_apart(mut self) -> Self {
        self.digests = Some((blake3::Hasher::new_keyed(&self.plan.row_key), Vec::new()));
        self
    }

    /// Adds the next rows.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut first_leaf = 0;
        for (at, (array, column)) in batch.columns().iter().zip(&self.plan.columns).enumerate() {
            self.add_column(at, array, column, first_leaf)?;
            first_leaf += column.leaves;
        }
        for row in 0..batch.num_rows() {
            self.add_row(row);
        }
        Ok(())
    }

    fn add_column(&mut self, at: usize, array: &ArrayRef, column: &FileColumn, first_leaf: usize) -> Result<()> {
        let missing = || Error::new(ErrorKind::Internal, "a column of a batch is not in the plan");
        if self.digests.is_some() {
            let buffer = self.buffers.get_mut(at).ok_or_else(missing)?;
            return buffer.fill(array, column.target.as_ref(), LeafChoice::all());
        }
        let leaves = self.leaves.get_mut(first_leaf..first_leaf + column.leaves).ok_or_else(missing)?;
        LeafRange::update_all(array, leaves.iter_mut().map(|(_, facts)| facts))?;
        let buffer = self.buffers.get_mut(at).ok_or_else(missing)?;
        if column.leaves > 1 {
            for (leaf, (hasher, _)) in leaves.iter_mut().enumerate() {
                buffer.fill(array, column.target.as_ref(), LeafChoice::one(leaf))?;
                hasher.update(&buffer.bytes);
            }
        }
        buffer.fill(array, column.target.as_ref(), LeafChoice::all())?;
        if let [(hasher, _)] = leaves {
            hasher.update(&buffer.bytes);
        }
        if let Some(Some(profile)) = self.profiles.get_mut(at) {
            profile.add(array, |row| match buffer.value(row) {
                [NULL] => &[],
                value => value,
            });
        }
        Ok(())
    }

    fn add_row(&mut self, row: usize) {
        self.row.clear();
        self.row.extend_from_slice(&ROW_ENCODING.to_le_bytes());
        let buffers = &self.buffers;
        let value = |member: &'a Member| match &member.source {
            Source::Constant(value) => value.as_slice(),
            Source::File(at) => buffers.get(*at).map_or(&[] as &[u8], |buffer| buffer.value(row)),
        };
        let present = || self.plan.members.iter().map(|member| (&member.prefix, value(member))).filter(|(_, value)| *value != [NULL]);
        put_length(present().count(), &mut self.row);
        for (prefix, value) in present() {
            self.row.extend_from_slice(prefix);
            self.row.extend_from_slice(value);
        }
        let is_deleted = self.deletion_vector.is_some_and(|rows| rows.contains(self.first_row.saturating_add(self.rows)));
        self.rows += 1;
        self.deleted_rows += u64::from(is_deleted);
        if let Some((hasher, digests)) = &mut self.digests {
            if !is_deleted {
                digests.push(row_digest(hasher, &self.row));
            }
            return;
        }
        self.sum.add(&self.row);
        if is_deleted {
            self.deleted.add(&self.row);
        }
    }

    /// What all rows come to.
    pub(super) fn finish(self) -> GroupRows {
        let mut profiles = Vec::with_capacity(self.leaves.len());
        for (builder, column) in self.profiles.into_iter().zip(&self.plan.columns) {
            profiles.push(builder.map(|builder| Box::new(builder.finish())));
            profiles.extend((1..column.leaves).map(|_| None));
        }
        let leaves = self.leaves.into_iter().zip(profiles).map(|((hasher, facts), profile)| LeafValues {
            values: Digest(*hasher.finalize().as_bytes()),
            facts,
            profile,
        });
        GroupRows {
            rows: self.rows,
            sum: self.sum.finish(),
            deleted: self.deleted.finish(),
            deleted_rows: self.deleted_rows,
            leaves: leaves.collect(),
            digests: self.digests.map(|(_, digests)| digests).unwrap_or_default(),
        }
    }
}

/// The first 128 bits of the keyed hash of an encoded row: enough to tell rows apart that nobody can choose knowing the key.
fn row_digest(hasher: &mut blake3::Hasher, row: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    hasher.reset().update(row).finalize_xof().fill(&mut bytes);
    u128::from_le_bytes(bytes)
}
