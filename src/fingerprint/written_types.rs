//! The copy of a writer's arrow schema that a footer may carry, held against Parquet's own types.
//!
//! Readers built on arrow take a column's type from that copy, and others do not. Where the two types give a stored number two meanings (another
//! scale, another unit of time), the rows that are sealed are not those that a query returns.

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use parquet::basic::Type as PhysicalType;
use parquet::schema::types::SchemaDescriptor;

use crate::error::{Error, ErrorKind, Result};

/// Fails when a column has other values by the types of `written` than by those of `plain`.
///
/// # Errors
/// [`ErrorKind::Corrupt`], naming the column.
pub(super) fn check(plain: &Schema, written: &Schema, columns: &SchemaDescriptor) -> Result<()> {
    let mut leaves = Leaves { columns, next: 0 };
    if same_fields(plain.fields(), written.fields(), &mut leaves) {
        return Ok(());
    }
    let column = leaves.columns.columns().get(leaves.next.saturating_sub(1)).map(|leaf| leaf.path().string()).unwrap_or_default();
    let what =
        "the arrow schema in the footer gives a column another meaning than Parquet's own types: readers would disagree about its values";
    Err(Error::new(ErrorKind::Corrupt, what).with("column", column))
}

/// The leaves of a file, as the types are walked.
struct Leaves<'a> {
    columns: &'a SchemaDescriptor,
    next: usize,
}

impl Leaves<'_> {
    /// Whether the next leaf is an INT96, whose unit of time is the reader's choice.
    fn next_is_int96(&mut self) -> bool {
        let at = self.next;
        self.next += 1;
        at < self.columns.num_columns() && self.columns.column(at).physical_type() == PhysicalType::INT96
    }
}

fn same_fields(plain: &Fields, written: &Fields, leaves: &mut Leaves<'_>) -> bool {
    plain.len() == written.len() && plain.iter().zip(written).all(|(plain, written)| same_field(plain, written, leaves))
}

fn same_field(plain: &Field, written: &Field, leaves: &mut Leaves<'_>) -> bool {
    plain.name() == written.name() && same_values(plain.data_type(), written.data_type(), leaves)
}

fn same_values(plain: &DataType, written: &DataType, leaves: &mut Leaves<'_>) -> bool {
    if let DataType::Dictionary(_, values) = written {
        return same_values(plain, values, leaves);
    }
    match (plain, item(plain), item(written)) {
        (DataType::Struct(plain), ..) => matches!(written, DataType::Struct(written) if same_fields(plain, written, leaves)),
        (DataType::Map(plain, _), ..) => {
            matches!(written, DataType::Map(written, _) if same_values(plain.data_type(), written.data_type(), leaves))
        }
        (_, Some(plain), Some(written)) => same_values(plain.data_type(), written.data_type(), leaves),
        (_, None, None) => {
            let int96 = leaves.next_is_int96();
            plain == written || (int96 && is_int96(written)) || same_leaf(plain, written)
        }
        _ => false,
    }
}

fn item(data_type: &DataType) -> Option<&Field> {
    match data_type {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => Some(item),
        _ => None,
    }
}

/// Coarser units would cut what INT96 holds.
fn is_int96(written: &DataType) -> bool {
    matches!(written, DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _))
}

/// Whether the stored value is the same value by both types, or the same number under a type that Parquet has no name for.
fn same_leaf(plain: &DataType, written: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Date32, Date64, Decimal32, Decimal64, Decimal128, Decimal256, Duration, Int32, Int64, LargeBinary, LargeUtf8,
        Time32, Time64, Timestamp, Utf8, Utf8View,
    };
    match (plain, written) {
        (Int32, Time32(_) | Timestamp(_, _)) | (Int64, Time64(_) | Timestamp(_, _) | Duration(_) | Date64) | (Date32, Date64) => true,
        (Timestamp(plain, _), Timestamp(written, _)) => plain == written,
        (Decimal128(_, plain), Decimal32(_, written) | Decimal64(_, written) | Decimal128(_, written) | Decimal256(_, written))
        | (Decimal256(_, plain), Decimal128(_, written) | Decimal256(_, written)) => plain == written,
        (Utf8, LargeUtf8 | Utf8View) | (Binary, LargeBinary | BinaryView | Utf8 | LargeUtf8 | Utf8View) => true,
        _ => false,
    }
}
