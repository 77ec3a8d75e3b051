//! Typed access to the columns of a batch, by name.

use arrow::array::{Array, AsArray as _, RecordBatch, StructArray};
use arrow::buffer::Buffer;
use arrow::datatypes::{Int64Type, UInt16Type, UInt32Type, UInt64Type};
use bytes::Bytes;
use serde_json::Value;

use super::corrupt;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::table::parse_json;

/// The columns of a batch or of a struct.
pub(super) trait Columns {
    /// The column of this name.
    fn column(&self, name: &str) -> Option<&dyn Array>;

    /// Fails, naming the column.
    fn missing(&self, name: &str) -> Error {
        corrupt("lacks a column, or a value in it").with("column", name)
    }

    /// Text.
    fn text(&self, name: &str, row: usize) -> Result<Option<&str>> {
        let array = self.column(name).and_then(|a| a.as_string_opt::<i32>()).ok_or_else(|| self.missing(name))?;
        Ok(array.is_valid(row).then(|| array.value(row)))
    }

    /// JSON as text.
    fn json(&self, name: &str, row: usize) -> Result<Option<Value>> {
        let text = self.text(name, row)?;
        text.map(|text| parse_json(text.as_bytes())).transpose().map_err(|e| self.missing(name).caused_by(e))
    }

    /// An unsigned number.
    fn u64(&self, name: &str, row: usize) -> Result<Option<u64>> {
        let array = self.column(name).and_then(|a| a.as_primitive_opt::<UInt64Type>()).ok_or_else(|| self.missing(name))?;
        Ok(array.is_valid(row).then(|| array.value(row)))
    }

    /// An unsigned number of 32 bits.
    fn u32(&self, name: &str, row: usize) -> Result<Option<u32>> {
        let array = self.column(name).and_then(|a| a.as_primitive_opt::<UInt32Type>()).ok_or_else(|| self.missing(name))?;
        Ok(array.is_valid(row).then(|| array.value(row)))
    }

    /// An unsigned number of 16 bits.
    fn u16(&self, name: &str, row: usize) -> Result<Option<u16>> {
        let array = self.column(name).and_then(|a| a.as_primitive_opt::<UInt16Type>()).ok_or_else(|| self.missing(name))?;
        Ok(array.is_valid(row).then(|| array.value(row)))
    }

    /// A signed number.
    fn i64(&self, name: &str, row: usize) -> Result<Option<i64>> {
        let array = self.column(name).and_then(|a| a.as_primitive_opt::<Int64Type>()).ok_or_else(|| self.missing(name))?;
        Ok(array.is_valid(row).then(|| array.value(row)))
    }

    /// 32 bytes.
    fn digest(&self, name: &str, row: usize) -> Result<Option<Digest>> {
        let bytes = self.binary(name, row)?;
        bytes.map(|bytes| <[u8; 32]>::try_from(bytes).map(Digest).map_err(|_| self.missing(name))).transpose()
    }

    /// Bytes.
    fn binary(&self, name: &str, row: usize) -> Result<Option<&[u8]>> {
        let array = self.column(name).and_then(|a| a.as_binary_opt::<i32>()).ok_or_else(|| self.missing(name))?;
        Ok(array.is_valid(row).then(|| array.value(row)))
    }

    /// The state of a multiset sum, in the memory of its column: a table has a row group's worth of 4 KiB for every file at least.
    fn sum(&self, name: &str, row: usize) -> Result<Option<Bytes>> {
        let array = self.column(name).and_then(|a| a.as_binary_opt::<i32>()).ok_or_else(|| self.missing(name))?;
        if array.is_null(row) {
            return Ok(None);
        }
        let offset = |at: usize| array.value_offsets().get(at).and_then(|offset| usize::try_from(*offset).ok());
        match (offset(row), offset(row + 1)) {
            (Some(start), Some(end)) if end.checked_sub(start) == Some(SUM_BYTES) => {
                Ok(Some(Bytes::from_owner(Shared(array.values().slice_with_length(start, SUM_BYTES)))))
            }
            _ => Err(self.missing(name)),
        }
    }
}

/// A part of a column, as bytes.
struct Shared(Buffer);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// Size of the state of a multiset sum.
pub(super) const SUM_BYTES: usize = 4096;

impl Columns for RecordBatch {
    fn column(&self, name: &str) -> Option<&dyn Array> {
        self.column_by_name(name).map(|array| &**array as _)
    }
}

impl Columns for StructArray {
    fn column(&self, name: &str) -> Option<&dyn Array> {
        self.column_by_name(name).map(|array| &**array as _)
    }
}
