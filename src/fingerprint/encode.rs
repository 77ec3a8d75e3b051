//! Canonical encoding v1 of arrays, value by value: `docs/format/row-encoding.md`.

use arrow::array::{Array, ArrayRef, AsArray as _, BooleanArray, MapArray, OffsetSizeTrait, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit,
    IntervalYearMonthType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type, i256,
};

use super::put::{
    BINARY, FALSE, LIST, MAP, NULL, STRING, STRUCT, TIMESTAMP_NTZ, TIMESTAMP_UTC, TRUE, prefixed, put_bytes, put_date, put_decimal,
    put_float, put_integer, put_interval, put_length, put_time, put_timestamp,
};
use super::stored_types::{holds, is_kind_of, stored_otherwise};
use crate::error::{Error, ErrorKind, Result};
use crate::table::{ColumnType, PrimitiveType};

const NANOS_PER_DAY: i128 = 86_400_000_000_000;

/// Writes the canonical values of one array.
pub(super) trait Encode {
    /// Whether the value of `row` is null (or left out by the choice of a leaf).
    fn is_null(&self, row: usize) -> bool;
    /// Appends the value of `row`, which is not null.
    fn write(&self, row: usize, out: &mut Vec<u8>);
}

pub(super) type Encoder = Box<dyn Encode>;

/// Which leaves of a column are encoded: all, or the one at this position in depth-first order.
pub(super) struct LeafChoice {
    wanted: Option<usize>,
    next: usize,
}

impl LeafChoice {
    pub(super) fn all() -> Self {
        Self { wanted: None, next: 0 }
    }

    pub(super) fn one(leaf: usize) -> Self {
        Self { wanted: Some(leaf), next: 0 }
    }

    fn takes_next(&mut self) -> bool {
        let at = self.next;
        self.next += 1;
        self.wanted.is_none_or(|wanted| wanted == at)
    }
}

/// Prepares to encode `array`. `target` is the table's type, whose domain the values are brought into.
pub(super) fn encoder(array: &ArrayRef, target: Option<&ColumnType>, leaves: &mut LeafChoice) -> Result<Encoder> {
    if let Some(target) = target.filter(|target| !is_kind_of(array.data_type(), target)) {
        return Err(stored_otherwise(array.data_type(), target));
    }
    match array.data_type() {
        DataType::Dictionary(_, value) => encoder(&recast(array, value)?, target, leaves),
        DataType::RunEndEncoded(_, values) => encoder(&recast(array, values.data_type())?, target, leaves),
        DataType::Struct(_) => struct_encoder(array, target, leaves),
        DataType::List(_) => list_encoder::<i32>(array, target, leaves),
        DataType::LargeList(_) => list_encoder::<i64>(array, target, leaves),
        DataType::FixedSizeList(item, _) => encoder(&recast(array, &DataType::List(item.clone()))?, target, leaves),
        DataType::ListView(item) | DataType::LargeListView(item) => {
            encoder(&recast(array, &DataType::LargeList(item.clone()))?, target, leaves)
        }
        DataType::Map(_, _) => map_encoder(array, target, leaves),
        _ if !leaves.takes_next() => Ok(Box::new(Omitted)),
        _ => leaf_encoder(array, target),
    }
}

fn recast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    cast(array, to).map_err(|e| Error::new(ErrorKind::Corrupt, "a column does not convert to its plain form").caused_by(e))
}

struct Omitted;

impl Encode for Omitted {
    fn is_null(&self, _row: usize) -> bool {
        true
    }

    fn write(&self, _row: usize, out: &mut Vec<u8>) {
        out.push(NULL);
    }
}

/// Values of a primitive array, written by a function chosen once per batch.
struct Scalars<A, F> {
    array: A,
    put: F,
}

impl<A: Array, F: Fn(&A, usize, &mut Vec<u8>)> Encode for Scalars<A, F> {
    fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row)
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        (self.put)(&self.array, row, out);
    }
}

fn scalars<A: Array + 'static>(array: A, put: impl Fn(&A, usize, &mut Vec<u8>) + 'static) -> Result<Encoder> {
    Ok(Box::new(Scalars { array, put }))
}

fn primitives<T: ArrowPrimitiveType>(array: &ArrayRef, put: impl Fn(T::Native, &mut Vec<u8>) + 'static) -> Result<Encoder> {
    scalars(array.as_primitive::<T>().clone(), move |array, row, out| put(array.value(row), out))
}

fn leaf_encoder(array: &ArrayRef, target: Option<&ColumnType>) -> Result<Encoder> {
    let primitive = match target {
        Some(ColumnType::Primitive(primitive)) => Some(*primitive),
        _ => None,
    };
    match array.data_type() {
        other if primitive.is_some_and(|primitive| !holds(primitive, other)) => {
            Err(stored_otherwise(other, target.unwrap_or(&ColumnType::Variant)))
        }
        DataType::Null => Ok(Box::new(Omitted)),
        DataType::Boolean => scalars(array.as_boolean().clone(), |array: &BooleanArray, row, out| {
            out.push(if array.value(row) { TRUE } else { FALSE });
        }),
        DataType::Int8 => primitives::<Int8Type>(array, integers(primitive)),
        DataType::Int16 => primitives::<Int16Type>(array, integers(primitive)),
        DataType::Int32 => primitives::<Int32Type>(array, integers(primitive)),
        DataType::Int64 => primitives::<Int64Type>(array, integers(primitive)),
        DataType::UInt8 => primitives::<UInt8Type>(array, integers(primitive)),
        DataType::UInt16 => primitives::<UInt16Type>(array, integers(primitive)),
        DataType::UInt32 => primitives::<UInt32Type>(array, integers(primitive)),
        DataType::UInt64 => primitives::<UInt64Type>(array, integers(primitive)),
        DataType::Float16 => primitives::<Float16Type>(array, |v, out| put_float(v.to_f64(), out)),
        DataType::Float32 => primitives::<Float32Type>(array, |v, out| put_float(f64::from(v), out)),
        DataType::Float64 => primitives::<Float64Type>(array, put_float),
        DataType::Decimal32(_, scale) => decimals::<Decimal32Type>(array, *scale, |v| i256::from_i128(i128::from(v))),
        DataType::Decimal64(_, scale) => decimals::<Decimal64Type>(array, *scale, |v| i256::from_i128(i128::from(v))),
        DataType::Decimal128(_, scale) => decimals::<Decimal128Type>(array, *scale, i256::from_i128),
        DataType::Decimal256(_, scale) => decimals::<Decimal256Type>(array, *scale, |v| v),
        DataType::Date32 if primitive == Some(PrimitiveType::TimestampNtz) => {
            primitives::<Date32Type>(array, |days, out| put_timestamp(TIMESTAMP_NTZ, i128::from(days).wrapping_mul(NANOS_PER_DAY), out))
        }
        DataType::Date32 => primitives::<Date32Type>(array, put_date),
        DataType::Date64 => leaf_encoder(&recast(array, &DataType::Date32)?, target),
        DataType::Timestamp(unit, zone) => timestamp_encoder(array, *unit, timestamp_tag(primitive, zone.is_some())),
        DataType::Time32(_) | DataType::Time64(_) => time_encoder(array),
        DataType::Interval(unit) => interval_encoder(array, *unit),
        _ => bytes_encoder(array, primitive),
    }
}

fn bytes_encoder(array: &ArrayRef, primitive: Option<PrimitiveType>) -> Result<Encoder> {
    // Old writers leave the mark for text away: then the table's schema says that it is text.
    let bytes_tag = if primitive == Some(PrimitiveType::String) { STRING } else { BINARY };
    match array.data_type() {
        DataType::Utf8 => scalars(array.as_string::<i32>().clone(), |a, row, out| put_bytes(STRING, a.value(row).as_bytes(), out)),
        DataType::LargeUtf8 => scalars(array.as_string::<i64>().clone(), |a, row, out| put_bytes(STRING, a.value(row).as_bytes(), out)),
        DataType::Utf8View => scalars(array.as_string_view().clone(), |a, row, out| put_bytes(STRING, a.value(row).as_bytes(), out)),
        DataType::Binary => scalars(array.as_binary::<i32>().clone(), move |a, row, out| put_bytes(bytes_tag, a.value(row), out)),
        DataType::LargeBinary => scalars(array.as_binary::<i64>().clone(), move |a, row, out| put_bytes(bytes_tag, a.value(row), out)),
        DataType::BinaryView => scalars(array.as_binary_view().clone(), move |a, row, out| put_bytes(bytes_tag, a.value(row), out)),
        DataType::FixedSizeBinary(_) => {
            scalars(array.as_fixed_size_binary().clone(), move |a, row, out| put_bytes(bytes_tag, a.value(row), out))
        }
        other => Err(Error::new(ErrorKind::Unsupported, "a column has a type without canonical encoding").with("type", other)),
    }
}

/// The integer domain, or the wider one that the table's type has been changed to.
fn integers<N: Into<i128>>(target: Option<PrimitiveType>) -> impl Fn(N, &mut Vec<u8>) {
    move |value, out| {
        let value = value.into();
        match target {
            Some(PrimitiveType::Double) => put_float(whole_float(value), out),
            Some(PrimitiveType::Decimal(_, _)) => put_decimal(i256::from_i128(value), 0, out),
            _ => put_integer(value, out),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "widening to a float is defined as this conversion")]
pub(super) fn whole_float(value: i128) -> f64 {
    value as f64
}

fn decimals<T: ArrowPrimitiveType>(array: &ArrayRef, scale: i8, wide: impl Fn(T::Native) -> i256 + 'static) -> Result<Encoder> {
    primitives::<T>(array, move |value, out| put_decimal(wide(value), i16::from(scale), out))
}

fn timestamp_tag(target: Option<PrimitiveType>, zoned: bool) -> u8 {
    match target {
        Some(PrimitiveType::Timestamp) => TIMESTAMP_UTC,
        Some(PrimitiveType::TimestampNtz) => TIMESTAMP_NTZ,
        _ if zoned => TIMESTAMP_UTC,
        _ => TIMESTAMP_NTZ,
    }
}

fn timestamp_encoder(array: &ArrayRef, unit: TimeUnit, tag: u8) -> Result<Encoder> {
    let put = move |factor: i128| move |value: i64, out: &mut Vec<u8>| put_timestamp(tag, i128::from(value).wrapping_mul(factor), out);
    match unit {
        TimeUnit::Second => primitives::<TimestampSecondType>(array, put(1_000_000_000)),
        TimeUnit::Millisecond => primitives::<TimestampMillisecondType>(array, put(1_000_000)),
        TimeUnit::Microsecond => primitives::<TimestampMicrosecondType>(array, put(1_000)),
        TimeUnit::Nanosecond => primitives::<TimestampNanosecondType>(array, put(1)),
    }
}

fn time_encoder(array: &ArrayRef) -> Result<Encoder> {
    match array.data_type() {
        DataType::Time32(TimeUnit::Second) => {
            primitives::<Time32SecondType>(array, |v, out| put_time(i64::from(v).wrapping_mul(1_000_000_000), out))
        }
        DataType::Time32(_) => primitives::<Time32MillisecondType>(array, |v, out| put_time(i64::from(v).wrapping_mul(1_000_000), out)),
        DataType::Time64(TimeUnit::Microsecond) => {
            primitives::<Time64MicrosecondType>(array, |v, out| put_time(v.wrapping_mul(1_000), out))
        }
        _ => primitives::<Time64NanosecondType>(array, put_time),
    }
}

fn interval_encoder(array: &ArrayRef, unit: IntervalUnit) -> Result<Encoder> {
    match unit {
        IntervalUnit::YearMonth => primitives::<IntervalYearMonthType>(array, |months, out| put_interval(months, 0, 0, out)),
        IntervalUnit::DayTime => primitives::<IntervalDayTimeType>(array, |v, out| {
            put_interval(0, v.days, i64::from(v.milliseconds).wrapping_mul(1_000_000), out);
        }),
        IntervalUnit::MonthDayNano => {
            primitives::<IntervalMonthDayNanoType>(array, |v, out| put_interval(v.months, v.days, v.nanoseconds, out))
        }
    }
}

struct Structs {
    array: StructArray,
    /// Sorted by name; the prefix is the name's length and the name.
    fields: Vec<(Vec<u8>, Encoder)>,
}

fn struct_encoder(array: &ArrayRef, target: Option<&ColumnType>, leaves: &mut LeafChoice) -> Result<Encoder> {
    let array = array.as_struct();
    let mut fields = Vec::new();
    for (field, child) in array.fields().iter().zip(array.columns()) {
        let target = match target {
            Some(ColumnType::Struct(columns)) => match columns.iter().find(|column| column.physical_name == *field.name()) {
                Some(column) => Some(&column.data_type),
                // A field that the table no longer has; but a variant's inner fields are never in the schema.
                None => {
                    skip_leaves(child.data_type(), leaves);
                    continue;
                }
            },
            _ => None,
        };
        fields.push((prefixed(field.name()), encoder(child, target, leaves)?));
    }
    fields.sort_by(|a, b| a.0.get(4..).cmp(&b.0.get(4..)));
    Ok(Box::new(Structs { array: array.clone(), fields }))
}

/// Passes over the leaves of a column that is not encoded.
fn skip_leaves(data_type: &DataType, leaves: &mut LeafChoice) {
    leaves.next += leaf_count(data_type);
}

/// Number of leaves of a type, as Parquet counts them.
pub(super) fn leaf_count(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|field| leaf_count(field.data_type())).sum(),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::Map(item, _) => leaf_count(item.data_type()),
        _ => 1,
    }
}

impl Encode for Structs {
    fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row)
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        out.push(STRUCT);
        put_length(self.fields.iter().filter(|(_, field)| !field.is_null(row)).count(), out);
        for (prefix, field) in self.fields.iter().filter(|(_, field)| !field.is_null(row)) {
            out.extend_from_slice(prefix);
            field.write(row, out);
        }
    }
}

fn write_or_null(encoder: &dyn Encode, row: usize, out: &mut Vec<u8>) {
    if encoder.is_null(row) {
        out.push(NULL);
    } else {
        encoder.write(row, out);
    }
}

struct Lists<O: OffsetSizeTrait> {
    array: arrow::array::GenericListArray<O>,
    items: Encoder,
}

fn list_encoder<O: OffsetSizeTrait>(array: &ArrayRef, target: Option<&ColumnType>, leaves: &mut LeafChoice) -> Result<Encoder> {
    let array = array.as_list::<O>().clone();
    let target = match target {
        Some(ColumnType::List(item)) => Some(item.as_ref()),
        _ => None,
    };
    let items = encoder(array.values(), target, leaves)?;
    Ok(Box::new(Lists { array, items }))
}

impl<O: OffsetSizeTrait> Encode for Lists<O> {
    fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row)
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        let offsets = self.array.value_offsets();
        let (start, end) = offset_pair(offsets.get(row).map(|o| o.as_usize()), offsets.get(row + 1).map(|o| o.as_usize()));
        out.push(LIST);
        put_length(end.saturating_sub(start), out);
        (start..end).for_each(|item| write_or_null(self.items.as_ref(), item, out));
    }
}

fn offset_pair(start: Option<usize>, end: Option<usize>) -> (usize, usize) {
    start.zip(end).unwrap_or_default()
}

struct Maps {
    array: MapArray,
    keys: Encoder,
    values: Encoder,
}

fn map_encoder(array: &ArrayRef, target: Option<&ColumnType>, leaves: &mut LeafChoice) -> Result<Encoder> {
    let array = array.as_map().clone();
    let (key, value) = match target {
        Some(ColumnType::Map(key, value)) => (Some(key.as_ref()), Some(value.as_ref())),
        _ => (None, None),
    };
    let keys = encoder(array.keys(), key, leaves)?;
    let values = encoder(array.values(), value, leaves)?;
    Ok(Box::new(Maps { array, keys, values }))
}

impl Encode for Maps {
    fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row)
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        let offsets = self.array.value_offsets();
        let offset = |at: usize| offsets.get(at).and_then(|offset| usize::try_from(*offset).ok());
        let (start, end) = offset_pair(offset(row), offset(row + 1));
        let mut entries: Vec<(Vec<u8>, Vec<u8>)> = (start..end)
            .map(|entry| {
                let (mut key, mut value) = (Vec::new(), Vec::new());
                write_or_null(self.keys.as_ref(), entry, &mut key);
                write_or_null(self.values.as_ref(), entry, &mut value);
                (key, value)
            })
            .collect();
        entries.sort();
        out.push(MAP);
        put_length(entries.len(), out);
        for (key, value) in entries {
            out.extend_from_slice(&key);
            out.extend_from_slice(&value);
        }
    }
}
