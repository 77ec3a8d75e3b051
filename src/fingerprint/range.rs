//! Null counts, least and greatest values, recomputed from decoded arrays.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray as _, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    ArrowNativeTypeOp as _, DataType, Date32Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type, i256,
};

use super::encode::leaf_count;
use super::scalar::Scalar;
use crate::error::Result;

/// What is known of one leaf so far.
#[derive(Debug)]
pub(super) enum LeafFacts {
    /// Of one that stands in no list and no map.
    Range(LeafRange),
    /// Within the outermost of these, which is null so many times itself.
    Within { nulls: u64 },
}

impl Default for LeafFacts {
    fn default() -> Self {
        Self::Range(LeafRange::default())
    }
}

/// What is known of the values of one leaf so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct LeafRange {
    pub(super) nulls: u64,
    pub(super) min: Option<Scalar>,
    pub(super) max: Option<Scalar>,
}

impl LeafRange {
    /// Takes in the leaves of a top-level column. A leaf within a list or a map has no range.
    pub(super) fn update_all<'a>(array: &ArrayRef, mut leaves: impl Iterator<Item = &'a mut LeafFacts>) -> Result<()> {
        visit(array, None, &mut leaves);
        Ok(())
    }

    fn take(&mut self, value: Scalar) {
        let less = self.min.as_ref().is_none_or(|min| value.compare(min) == Some(Ordering::Less));
        let greater = self.max.as_ref().is_none_or(|max| value.compare(max) == Some(Ordering::Greater));
        if greater {
            self.max = Some(value.clone());
        }
        if less {
            self.min = Some(value);
        }
    }
}

fn visit<'a>(array: &ArrayRef, above: Option<&NullBuffer>, leaves: &mut impl Iterator<Item = &'a mut LeafFacts>) {
    match array.data_type() {
        DataType::Struct(_) => {
            let array = array.as_struct();
            let nulls = NullBuffer::union(above, array.nulls());
            array.columns().iter().for_each(|child| visit(child, nulls.as_ref(), leaves));
        }
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(_, _)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::Map(_, _) => {
            let found = NullBuffer::union(above, array.nulls()).as_ref().map_or(0, NullBuffer::null_count) as u64;
            for _ in 0..leaf_count(array.data_type()) {
                match leaves.next() {
                    Some(LeafFacts::Within { nulls }) => *nulls += found,
                    Some(leaf) => *leaf = LeafFacts::Within { nulls: found },
                    None => return,
                }
            }
        }
        _ => {
            let Some(LeafFacts::Range(range)) = leaves.next() else { return };
            let nulls = NullBuffer::union(above, array.logical_nulls().as_ref());
            range.nulls += nulls.as_ref().map_or(0, NullBuffer::null_count) as u64;
            extremes(array, nulls.as_ref(), range);
        }
    }
}

fn valid_rows(len: usize, nulls: Option<&NullBuffer>) -> impl Iterator<Item = usize> {
    (0..len).filter(move |row| nulls.is_none_or(|nulls| nulls.is_valid(*row)))
}

fn extremes(array: &ArrayRef, nulls: Option<&NullBuffer>, range: &mut LeafRange) {
    match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean();
            valid_rows(array.len(), nulls).for_each(|row| range.take(Scalar::Boolean(values.value(row))));
        }
        DataType::Int8 => primitives::<Int8Type>(array, nulls, range, |v| Scalar::Integer(v.into())),
        DataType::Int16 => primitives::<Int16Type>(array, nulls, range, |v| Scalar::Integer(v.into())),
        DataType::Int32 => primitives::<Int32Type>(array, nulls, range, |v| Scalar::Integer(v.into())),
        DataType::Int64 => primitives::<Int64Type>(array, nulls, range, |v| Scalar::Integer(v.into())),
        DataType::UInt8 => primitives::<UInt8Type>(array, nulls, range, |v| Scalar::Integer(v.into())),
        DataType::UInt16 => primitives::<UInt16Type>(array, nulls, range, |v| Scalar::Integer(v.into())),
        DataType::UInt32 => primitives::<UInt32Type>(array, nulls, range, |v| Scalar::Integer(v.into())),
        DataType::UInt64 => primitives::<UInt64Type>(array, nulls, range, |v| Scalar::Integer(v.into())),
        DataType::Float16 => floats(array.as_primitive::<Float16Type>(), nulls, range, |v| v.to_f64()),
        DataType::Float32 => floats(array.as_primitive::<Float32Type>(), nulls, range, f64::from),
        DataType::Float64 => floats(array.as_primitive::<Float64Type>(), nulls, range, |v| v),
        DataType::Decimal32(_, s) => primitives::<Decimal32Type>(array, nulls, range, |v| decimal(i256::from_i128(v.into()), *s)),
        DataType::Decimal64(_, s) => primitives::<Decimal64Type>(array, nulls, range, |v| decimal(i256::from_i128(v.into()), *s)),
        DataType::Decimal128(_, s) => primitives::<Decimal128Type>(array, nulls, range, |v| decimal(i256::from_i128(v), *s)),
        DataType::Decimal256(_, s) => primitives::<Decimal256Type>(array, nulls, range, |v| decimal(v, *s)),
        DataType::Date32 => primitives::<Date32Type>(array, nulls, range, Scalar::Date),
        DataType::Timestamp(TimeUnit::Second, _) => primitives::<TimestampSecondType>(array, nulls, range, |v| instant(v, 1_000_000_000)),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            primitives::<TimestampMillisecondType>(array, nulls, range, |v| instant(v, 1_000_000));
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            primitives::<TimestampMicrosecondType>(array, nulls, range, |v| instant(v, 1_000));
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => primitives::<TimestampNanosecondType>(array, nulls, range, |v| instant(v, 1)),
        DataType::Time32(TimeUnit::Millisecond) => primitives::<Time32MillisecondType>(array, nulls, range, |v| time(v.into(), 1_000_000)),
        DataType::Time64(TimeUnit::Microsecond) => primitives::<Time64MicrosecondType>(array, nulls, range, |v| time(v, 1_000)),
        DataType::Time64(TimeUnit::Nanosecond) => primitives::<Time64NanosecondType>(array, nulls, range, |v| time(v, 1)),
        _ => bytes(array, nulls, range),
    }
}

fn decimal(value: i256, scale: i8) -> Scalar {
    Scalar::Decimal(value, scale.into())
}

fn instant(value: i64, factor: i128) -> Scalar {
    Scalar::Instant(i128::from(value).wrapping_mul(factor))
}

fn time(value: i64, factor: i128) -> Scalar {
    Scalar::Time(i128::from(value) * factor)
}

fn primitives<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    nulls: Option<&NullBuffer>,
    range: &mut LeafRange,
    scalar: impl Fn(T::Native) -> Scalar,
) {
    let values = array.as_primitive::<T>().values();
    let mut extremes: Option<(T::Native, T::Native)> = None;
    for row in valid_rows(array.len(), nulls) {
        let Some(value) = values.get(row).copied() else { continue };
        extremes =
            Some(extremes.map_or((value, value), |(min, max)| {
                (if value.is_lt(min) { value } else { min }, if value.is_gt(max) { value } else { max })
            }));
    }
    if let Some((min, max)) = extremes {
        range.take(scalar(min));
        range.take(scalar(max));
    }
}

/// Statistics leave NaN out.
fn floats<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    nulls: Option<&NullBuffer>,
    range: &mut LeafRange,
    wide: impl Fn(T::Native) -> f64,
) {
    let mut extremes: Option<(f64, f64)> = None;
    for value in valid_rows(array.len(), nulls).map(|row| wide(array.value(row))).filter(|value| !value.is_nan()) {
        extremes = Some(extremes.map_or((value, value), |(min, max)| (min.min(value), max.max(value))));
    }
    if let Some((min, max)) = extremes {
        range.take(Scalar::Float(min));
        range.take(Scalar::Float(max));
    }
}

fn bytes(array: &ArrayRef, nulls: Option<&NullBuffer>, range: &mut LeafRange) {
    let rows = valid_rows(array.len(), nulls);
    match array.data_type() {
        DataType::Utf8 => {
            let values = array.as_string::<i32>();
            take_bytes(rows.map(|row| values.value(row)), range, |v| Scalar::Text((*v).to_owned()));
        }
        DataType::LargeUtf8 => {
            let values = array.as_string::<i64>();
            take_bytes(rows.map(|row| values.value(row)), range, |v| Scalar::Text((*v).to_owned()));
        }
        DataType::Utf8View => {
            let values = array.as_string_view();
            take_bytes(rows.map(|row| values.value(row)), range, |v| Scalar::Text((*v).to_owned()));
        }
        DataType::Binary => {
            let values = array.as_binary::<i32>();
            take_bytes(rows.map(|row| values.value(row)), range, |v| Scalar::Binary((*v).to_owned()));
        }
        DataType::FixedSizeBinary(_) => {
            let values = array.as_fixed_size_binary();
            take_bytes(rows.map(|row| values.value(row)), range, |v| Scalar::Binary((*v).to_owned()));
        }
        // Intervals and exotic layouts: no statistics are recomputed, so none are judged.
        _ => {}
    }
}

fn take_bytes<T: Ord + Copy>(values: impl Iterator<Item = T>, range: &mut LeafRange, scalar: impl Fn(&T) -> Scalar) {
    let mut extremes: Option<(T, T)> = None;
    for value in values {
        extremes = Some(extremes.map_or((value, value), |(min, max)| (min.min(value), max.max(value))));
    }
    if let Some((min, max)) = extremes {
        range.take(scalar(&min));
        range.take(scalar(&max));
    }
}
