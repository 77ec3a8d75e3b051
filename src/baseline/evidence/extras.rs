//! Evidence that comparison does not need: profiles of columns, and expectations. Read only when they are asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, BinaryBuilder, Float64Builder, RecordBatch, StringBuilder, UInt32Builder, UInt64Builder};
use arrow::datatypes::Float64Type;
use bytes::Bytes;

use super::super::statement::EvidenceKind;
use super::columns::Columns;
use super::read::{Evidence, key, required};
use super::write::{batch, encode};
use crate::baseline::observe::GroupProfiles;
use crate::error::Result;
use crate::profile::{ColumnProfile, Moments, StoredSketches};
use crate::table::FileKey;

/// Profiles by file and row group.
pub type Profiles = BTreeMap<(FileKey, u32), GroupProfiles>;

/// A predicate in SQL that must not be false for any row that changed after the baseline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// What people call it.
    pub name: String,
    /// The predicate, over the table's columns.
    pub predicate: String,
}

/// The Parquet bytes of `profiles`.
pub(in crate::baseline) fn encode_profiles<'a>(
    profiles: impl Iterator<Item = (&'a (FileKey, u32), &'a GroupProfiles)>,
    row_key: &[u8; 32],
) -> Result<Vec<u8>> {
    let (mut path, mut vector, mut ordinal, mut column) =
        (StringBuilder::new(), StringBuilder::new(), UInt32Builder::new(), StringBuilder::new());
    let mut counts: [UInt64Builder; 4] = Default::default();
    let mut numbers: [Float64Builder; 4] = Default::default();
    let mut sketches: [BinaryBuilder; 3] = Default::default();
    for ((key, group), columns) in profiles {
        for (name, profile) in columns {
            path.append_value(&key.path);
            vector.append_option(key.deletion_vector.as_deref());
            ordinal.append_value(*group);
            column.append_value(name);
            let moments = &profile.moments;
            let values = [profile.rows, profile.nulls, profile.nans, moments.count];
            counts.iter_mut().zip(values).for_each(|(builder, value)| builder.append_value(value));
            let values = [moments.min, moments.max, moments.mean, moments.squares];
            numbers.iter_mut().zip(values).for_each(|(builder, value)| builder.append_value(value));
            let stored = profile.sketches();
            let values = [stored.distinct, stored.quantiles, stored.frequent];
            sketches.iter_mut().zip(values).for_each(|(builder, value)| builder.append_value(value));
        }
    }
    let [rows, nulls, nans, count] = counts.map(|mut builder| Arc::new(builder.finish()));
    let [min, max, mean, squares] = numbers.map(|mut builder| Arc::new(builder.finish()));
    let [distinct, quantiles, frequent] = sketches.map(|mut builder| Arc::new(builder.finish()));
    let table = batch(vec![
        ("path", false, Arc::new(path.finish())),
        ("deletion_vector_id", true, Arc::new(vector.finish())),
        ("ordinal", false, Arc::new(ordinal.finish())),
        ("column", false, Arc::new(column.finish())),
        ("rows", false, rows),
        ("nulls", false, nulls),
        ("nans", false, nans),
        ("count", false, count),
        ("min", false, min),
        ("max", false, max),
        ("mean", false, mean),
        ("squares", false, squares),
        ("distinct", false, distinct),
        ("quantiles", false, quantiles),
        ("frequent", false, frequent),
    ])?;
    encode(EvidenceKind::Profiles, &table, row_key)
}

/// Reads a piece of profiles and adds it to `into`.
pub(in crate::baseline) fn read_profiles(bytes: Bytes, into: &mut Profiles) -> Result<()> {
    for batch in Evidence::open(bytes, EvidenceKind::Profiles)? {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            let place = (key(&batch, row)?, required(&batch, "ordinal", batch.u32("ordinal", row))?);
            let name = required(&batch, "column", batch.text("column", row))?.to_owned();
            into.entry(place).or_default().insert(name, profile(&batch, row)?);
        }
    }
    Ok(())
}

fn profile(batch: &RecordBatch, row: usize) -> Result<ColumnProfile> {
    let count = |name: &str| required(batch, name, batch.u64(name, row));
    let number = |name: &str| {
        let array = Columns::column(batch, name).and_then(|a| a.as_primitive_opt::<Float64Type>()).filter(|a| a.is_valid(row));
        array.map(|array| array.value(row)).ok_or_else(|| batch.missing(name))
    };
    let bytes = |name: &str| required(batch, name, batch.binary(name, row)).map(<[u8]>::to_vec);
    let moments =
        Moments { count: count("count")?, min: number("min")?, max: number("max")?, mean: number("mean")?, squares: number("squares")? };
    let sketches = StoredSketches { distinct: bytes("distinct")?, quantiles: bytes("quantiles")?, frequent: bytes("frequent")? };
    ColumnProfile::from_stored(count("rows")?, count("nulls")?, count("nans")?, moments, &sketches)
}

/// The Parquet bytes of `expectations`: all that hold from this baseline on.
pub(in crate::baseline) fn encode_expectations(expectations: &[Expectation], row_key: &[u8; 32]) -> Result<Vec<u8>> {
    let (mut name, mut predicate) = (StringBuilder::new(), StringBuilder::new());
    for expectation in expectations {
        name.append_value(&expectation.name);
        predicate.append_value(&expectation.predicate);
    }
    let table = batch(vec![("name", false, Arc::new(name.finish())), ("predicate", false, Arc::new(predicate.finish()))])?;
    encode(EvidenceKind::Expectations, &table, row_key)
}

/// Reads a piece of expectations.
pub(in crate::baseline) fn read_expectations(bytes: Bytes) -> Result<Vec<Expectation>> {
    let mut found = Vec::new();
    for batch in Evidence::open(bytes, EvidenceKind::Expectations)? {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            let text = |name: &str| required(&batch, name, batch.text(name, row)).map(str::to_owned);
            found.push(Expectation { name: text("name")?, predicate: text("predicate")? });
        }
    }
    Ok(found)
}
