//! The footer's own statistics, held against the data.

use std::cmp::Ordering;

use arrow::datatypes::{ArrowPrimitiveType, Float16Type, i256};
use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as PhysicalType};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

use super::range::LeafRange;
use super::rows::GroupRows;
use super::scalar::Scalar;
use super::{RowGroupFingerprint, StatisticsLie};

/// Statistics of column chunks that the decoded values contradict.
pub(super) fn footer_lies(metadata: &ParquetMetaData, groups: &[(RowGroupFingerprint, Option<GroupRows>)]) -> Vec<StatisticsLie> {
    let mut lies = Vec::new();
    for (group, (fingerprint, rows)) in metadata.row_groups().iter().zip(groups) {
        let Some(rows) = rows else { continue };
        for (chunk, leaf) in group.columns().iter().zip(&rows.leaves) {
            if let Some(range) = leaf.range() {
                chunk_lies(chunk, range, fingerprint.ordinal, &mut lies);
            }
        }
    }
    lies
}

fn chunk_lies(chunk: &ColumnChunkMetaData, range: &LeafRange, ordinal: u32, lies: &mut Vec<StatisticsLie>) {
    let Some(statistics) = chunk.statistics() else { return };
    let mut lie = |what: &str, stated: String, found: String| {
        let column = chunk.column_path().string();
        lies.push(StatisticsLie { row_group: Some(ordinal), column, what: what.to_owned(), stated, found });
    };
    if let Some(nulls) = statistics.null_count_opt().filter(|nulls| *nulls != range.nulls) {
        lie("footer null_count", nulls.to_string(), range.nulls.to_string());
    }
    // The old fields `min` and `max` have no defined order for all types. The engine that queries run by believes them all the same.
    let old = statistics.is_min_max_deprecated();
    let column = chunk.column_descr();
    let bounds = [
        ("footer min", statistics.min_bytes_opt(), statistics.min_is_exact(), range.min.as_ref(), Ordering::Greater),
        ("footer max", statistics.max_bytes_opt(), statistics.max_is_exact(), range.max.as_ref(), Ordering::Less),
    ];
    let text = |scalar: &Scalar| scalar.to_json().map_or_else(|| format!("{scalar:?}"), |value| value.to_string());
    for (what, stated, exact, found, wrong) in bounds {
        let Some(bytes) = stated else { continue };
        if let Some(found) = found.filter(|_| is_nan(column, statistics, bytes)) {
            // Parquet has readers ignore it. Not all do: in their order it is above all other values, or below them.
            lie(what, "NaN".to_owned(), text(found));
            continue;
        }
        let Some(stated) = scalar(column, statistics, bytes) else { continue };
        let variable = matches!(stated, Scalar::Text(_) | Scalar::Binary(_));
        let may_be_wide = variable && (!exact || old) || old && matches!(stated, Scalar::Decimal(_, _));
        match found {
            Some(found) => {
                // What does not compare with what is stored may hide it as well.
                let order = order(&stated, found).unwrap_or(wrong);
                if order == wrong || (!may_be_wide && order != Ordering::Equal) {
                    lie(what, text(&stated), text(found));
                }
            }
            // Writers may state a bound of NaN or zeros where there is nothing else.
            None if matches!(stated, Scalar::Float(_)) || range.min.is_some() => {}
            None => lie(what, text(&stated), "no value".to_owned()),
        }
    }
}

/// Text is ordered as its bytes are, which is how it is stored where a writer left the mark for text away.
fn order(stated: &Scalar, found: &Scalar) -> Option<Ordering> {
    match (stated, found) {
        (Scalar::Text(stated), Scalar::Binary(found)) => Some(stated.as_bytes().cmp(found)),
        (Scalar::Binary(stated), Scalar::Text(found)) => Some(stated.as_slice().cmp(found.as_bytes())),
        _ => stated.compare(found),
    }
}

/// A footer's value in the domain of the recomputed one; `None` where the order is not defined or not recomputed.
fn scalar(column: &ColumnDescriptor, statistics: &Statistics, bytes: &[u8]) -> Option<Scalar> {
    let logical = column.logical_type_ref();
    let converted = column.converted_type();
    match statistics.physical_type() {
        PhysicalType::BOOLEAN => bytes.first().map(|byte| Scalar::Boolean(*byte != 0)),
        PhysicalType::INT32 => {
            let value = i32::from_le_bytes(bytes.try_into().ok()?);
            integer(logical, converted, column, value.into(), value.cast_unsigned().into())
        }
        PhysicalType::INT64 => {
            let value = i64::from_le_bytes(bytes.try_into().ok()?);
            integer(logical, converted, column, value, value.cast_unsigned())
        }
        PhysicalType::FLOAT => float(f32::from_le_bytes(bytes.try_into().ok()?).into()),
        PhysicalType::DOUBLE => float(f64::from_le_bytes(bytes.try_into().ok()?)),
        PhysicalType::INT96 => None,
        PhysicalType::BYTE_ARRAY | PhysicalType::FIXED_LEN_BYTE_ARRAY => match (logical, converted) {
            (Some(LogicalType::Decimal(_)), _) | (_, ConvertedType::DECIMAL) => {
                Some(Scalar::Decimal(big_endian(bytes)?, i16::try_from(column.type_scale()).ok()?))
            }
            (Some(LogicalType::String | LogicalType::Json), _) | (_, ConvertedType::UTF8 | ConvertedType::JSON) => {
                let text = std::str::from_utf8(bytes).map(|text| Scalar::Text(text.to_owned()));
                Some(text.unwrap_or_else(|_| Scalar::Binary(bytes.to_vec())))
            }
            (Some(LogicalType::Float16), _) => half(bytes).and_then(float),
            (_, ConvertedType::INTERVAL) => None,
            _ => Some(Scalar::Binary(bytes.to_vec())),
        },
    }
}

fn half(bytes: &[u8]) -> Option<f64> {
    Some(<Float16Type as ArrowPrimitiveType>::Native::from_le_bytes(bytes.try_into().ok()?).to_f64())
}

/// Whether a footer states NaN as a bound.
fn is_nan(column: &ColumnDescriptor, statistics: &Statistics, bytes: &[u8]) -> bool {
    match statistics.physical_type() {
        PhysicalType::FLOAT => bytes.try_into().is_ok_and(|bytes| f32::from_le_bytes(bytes).is_nan()),
        PhysicalType::DOUBLE => bytes.try_into().is_ok_and(|bytes| f64::from_le_bytes(bytes).is_nan()),
        PhysicalType::FIXED_LEN_BYTE_ARRAY => {
            matches!(column.logical_type_ref(), Some(LogicalType::Float16)) && half(bytes).is_some_and(f64::is_nan)
        }
        _ => false,
    }
}

fn float(value: f64) -> Option<Scalar> {
    (!value.is_nan()).then_some(Scalar::Float(value))
}

fn integer(
    logical: Option<&LogicalType>,
    converted: ConvertedType,
    column: &ColumnDescriptor,
    value: i64,
    unsigned: u64,
) -> Option<Scalar> {
    let instant = |factor: i128| Some(Scalar::Instant(i128::from(value) * factor));
    let time = |factor: i128| Some(Scalar::Time(i128::from(value) * factor));
    match (logical, converted) {
        (Some(LogicalType::Integer(parquet::basic::IntType { is_signed: false, .. })), _)
        | (_, ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64) => {
            Some(Scalar::Integer(unsigned.into()))
        }
        (Some(LogicalType::Date), _) | (_, ConvertedType::DATE) => i32::try_from(value).ok().map(Scalar::Date),
        (Some(LogicalType::Decimal(_)), _) | (_, ConvertedType::DECIMAL) => {
            Some(Scalar::Decimal(i256::from_i128(value.into()), i16::try_from(column.type_scale()).ok()?))
        }
        (Some(LogicalType::Timestamp(timestamp)), _) => match timestamp.unit {
            TimeUnit::MILLIS => instant(1_000_000),
            TimeUnit::MICROS => instant(1_000),
            TimeUnit::NANOS => instant(1),
        },
        (_, ConvertedType::TIMESTAMP_MILLIS) => instant(1_000_000),
        (_, ConvertedType::TIMESTAMP_MICROS) => instant(1_000),
        (Some(LogicalType::Time(of)), _) => match of.unit {
            TimeUnit::MILLIS => time(1_000_000),
            TimeUnit::MICROS => time(1_000),
            TimeUnit::NANOS => time(1),
        },
        (_, ConvertedType::TIME_MILLIS) => time(1_000_000),
        (_, ConvertedType::TIME_MICROS) => time(1_000),
        _ => Some(Scalar::Integer(value.into())),
    }
}

fn big_endian(bytes: &[u8]) -> Option<i256> {
    let fill = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
    let mut wide = [fill; 32];
    let start = wide.len().checked_sub(bytes.len())?;
    wide.get_mut(start..)?.copy_from_slice(bytes);
    Some(i256::from_be_bytes(wide))
}
