//! As which types a file may store a column of the table.

use arrow::datatypes::DataType;

use crate::error::{Error, ErrorKind};
use crate::table::{ColumnType, PrimitiveType};

/// Engines bring such values into the column's type by a cast, each its own way, after they have pruned by bounds of the other type.
pub(super) fn stored_otherwise(stored: &DataType, column: &ColumnType) -> Error {
    Error::new(ErrorKind::Unsupported, "the file stores a column as a type that the table's column is not widened from")
        .with("stored", stored)
        .with("column's type", format!("{column:?}"))
}

/// Whether a value, a struct, a list or a map stands where the table has one.
pub(super) fn is_kind_of(stored: &DataType, column: &ColumnType) -> bool {
    match stored {
        DataType::Dictionary(_, _) | DataType::RunEndEncoded(_, _) | DataType::Null => true,
        DataType::Struct(_) => matches!(column, ColumnType::Struct(_) | ColumnType::Variant),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) | DataType::ListView(_) | DataType::LargeListView(_) => {
            matches!(column, ColumnType::List(_))
        }
        DataType::Map(_, _) => matches!(column, ColumnType::Map(_, _)),
        _ => matches!(column, ColumnType::Primitive(_)),
    }
}

/// Whether a column of the type `primitive` may be stored as `stored`: as itself, or as a type that Delta widens to it.
pub(super) fn holds(primitive: PrimitiveType, stored: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Boolean, Date32, Date64, FixedSizeBinary, Float16, Float32, Float64, LargeBinary, LargeUtf8, Null, Timestamp,
        Utf8, Utf8View,
    };
    let text = matches!(stored, Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView | FixedSizeBinary(_));
    let decimal = match stored {
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => {
            Some(*scale)
        }
        _ => None,
    };
    match primitive {
        _ if *stored == Null => true,
        PrimitiveType::String | PrimitiveType::Binary => text,
        PrimitiveType::Integer => stored.is_integer(),
        PrimitiveType::Float => matches!(stored, Float16 | Float32),
        PrimitiveType::Double => stored.is_integer() || matches!(stored, Float16 | Float32 | Float64),
        // More digits after the point than the column has would be rounded away.
        PrimitiveType::Decimal(_, most) => stored.is_integer() || decimal.is_some_and(|scale| scale <= most),
        PrimitiveType::Boolean => *stored == Boolean,
        PrimitiveType::Date => matches!(stored, Date32 | Date64),
        PrimitiveType::Timestamp => matches!(stored, Timestamp(_, _)),
        PrimitiveType::TimestampNtz => matches!(stored, Timestamp(_, _) | Date32),
    }
}
