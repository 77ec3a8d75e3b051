//! From decoded arrays to profiles.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray as _, BooleanArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datasketches::kll::KllFloat;

use super::{ColumnProfile, VALUE_LIMIT_BYTES};
use crate::error::Result;

/// Batches in which most values are distinct, and too many to be listed, give no frequent ones but those that are there more than once.
const MANY_DISTINCT: usize = 2;

/// Builds the profile of a column, batch by batch.
#[derive(Debug)]
pub struct ProfileBuilder {
    profile: ColumnProfile,
}

impl ProfileBuilder {
    /// Of no rows yet.
    ///
    /// # Errors
    /// As [`ColumnProfile::empty`].
    pub fn new() -> Result<Self> {
        Ok(Self { profile: ColumnProfile::empty()? })
    }

    /// Takes in the rows of a batch. `canonical` gives a value's canonical bytes: equal for equal values whatever their encoding; empty
    /// for null.
    pub fn add<'a>(&mut self, array: &ArrayRef, canonical: impl Fn(usize) -> &'a [u8]) {
        let profile = &mut self.profile;
        profile.rows = profile.rows.saturating_add(array.len() as u64);
        let numbers = numbers(array);
        let numbers = numbers.as_ref().map(|array| array.as_primitive::<Float64Type>());
        let mut seen: HashMap<&[u8], (u64, usize), ahash::RandomState> = HashMap::default();
        for row in 0..array.len() {
            let bytes = canonical(row);
            if bytes.is_empty() {
                profile.nulls = profile.nulls.saturating_add(1);
                continue;
            }
            if let Some(number) = numbers.filter(|numbers| numbers.is_valid(row)).map(|numbers| numbers.value(row)) {
                let Ok(float) = KllFloat::<f64>::new(number) else {
                    profile.nans = profile.nans.saturating_add(1);
                    continue;
                };
                profile.moments.update(number);
                profile.quantiles.update(float);
            }
            seen.entry(bytes).or_insert((0, row)).0 += 1;
        }
        let options = FormatOptions::default().with_display_error(true);
        let formatter = ArrayFormatter::try_new(array.as_ref(), &options).ok();
        let many = seen.len() * MANY_DISTINCT > array.len() && seen.len() > super::FREQUENT_SLOTS;
        for (bytes, (count, row)) in seen {
            profile.distinct.update(bytes);
            if many && count == 1 {
                continue;
            }
            if let Some(formatter) = &formatter {
                profile.frequent.update_with_count(cut(formatter.value(row).to_string()), count);
            }
        }
    }

    /// Takes in rows that all have the same value, as partition columns do; `None` is null.
    pub fn add_constant(&mut self, text: Option<&str>, rows: u64) {
        let profile = &mut self.profile;
        profile.rows = profile.rows.saturating_add(rows);
        match text {
            _ if rows == 0 => {}
            None => profile.nulls = profile.nulls.saturating_add(rows),
            Some(text) => {
                profile.distinct.update(text.as_bytes());
                profile.frequent.update_with_count(cut(text.to_owned()), rows);
            }
        }
    }

    /// The profile.
    pub fn finish(self) -> ColumnProfile {
        self.profile
    }
}

fn cut(mut text: String) -> String {
    if text.len() > VALUE_LIMIT_BYTES {
        let end = (0..=VALUE_LIMIT_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Values as doubles, where they are numbers, instants or truth values.
fn numbers(array: &ArrayRef) -> Option<ArrayRef> {
    match array.data_type() {
        DataType::Float64 => Some(array.clone()),
        DataType::Boolean => {
            let values: &BooleanArray = array.as_boolean();
            let numbers: arrow::array::Float64Array = values.iter().map(|value| value.map(|v| if v { 1.0 } else { 0.0 })).collect();
            Some(std::sync::Arc::new(numbers))
        }
        DataType::Timestamp(_, zone) => {
            let micros = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone())).ok()?;
            cast(&cast(&micros, &DataType::Int64).ok()?, &DataType::Float64).ok()
        }
        DataType::Date32 => cast(&cast(array, &DataType::Int32).ok()?, &DataType::Float64).ok(),
        DataType::Dictionary(_, values) if values.is_numeric() || values.is_temporal() || **values == DataType::Boolean => {
            numbers(&cast(array, values).ok()?)
        }
        other if other.is_numeric() => cast(array, &DataType::Float64).ok(),
        _ => None,
    }
}
