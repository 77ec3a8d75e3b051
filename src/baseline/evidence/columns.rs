//! Typed access to the columns of a batch, by name.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray as _, BinaryArray, PrimitiveArray, RecordBatch, StringArray, StructArray};
use arrow::buffer::Buffer;
use arrow::datatypes::{ArrowPrimitiveType, UInt32Type, UInt64Type};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::corrupt;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::table::parse_json;

/// One column of a batch or of a struct. Whoever reads many rows looks each column up once.
pub(super) struct Column<'a, A> {
    name: &'a str,
    array: &'a A,
}

impl<'a, A: Array> Column<'a, A> {
    /// Fails, naming the column.
    fn missing(&self) -> Error {
        corrupt("lacks a column, or a value in it").with("column", self.name)
    }

    /// A value that has to be there.
    pub(super) fn required<T>(&self, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.missing())
    }
}

impl<'a, T: ArrowPrimitiveType> Column<'a, PrimitiveArray<T>> {
    /// A number.
    pub(super) fn at(&self, row: usize) -> Option<T::Native> {
        self.array.is_valid(row).then(|| self.array.value(row))
    }
}

impl<'a> Column<'a, StringArray> {
    /// Text.
    pub(super) fn at(&self, row: usize) -> Option<&'a str> {
        self.array.is_valid(row).then(|| self.array.value(row))
    }

    /// JSON as text.
    pub(super) fn json(&self, row: usize) -> Result<Option<Value>> {
        self.at(row).map(|text| parse_json(text.as_bytes())).transpose().map_err(|e| self.missing().caused_by(e))
    }

    /// A map as JSON, which is nearly always an empty one.
    pub(super) fn map<V: DeserializeOwned>(&self, row: usize) -> Result<BTreeMap<String, V>> {
        match self.required(self.at(row))? {
            "{}" => Ok(BTreeMap::new()),
            text => parse_json(text.as_bytes()).and_then(serde_json::from_value).map_err(|e| self.missing().caused_by(e)),
        }
    }
}

impl<'a> Column<'a, BinaryArray> {
    /// Bytes.
    pub(super) fn at(&self, row: usize) -> Option<&'a [u8]> {
        self.array.is_valid(row).then(|| self.array.value(row))
    }

    /// 32 bytes.
    pub(super) fn digest(&self, row: usize) -> Result<Option<Digest>> {
        self.at(row).map(|bytes| <[u8; 32]>::try_from(bytes).map(Digest).map_err(|_| self.missing())).transpose()
    }

    /// The state of a multiset sum, in the memory of its column: a table has a row group's worth of 4 KiB for every file at least.
    pub(super) fn sum(&self, row: usize) -> Result<Option<Bytes>> {
        if self.array.is_null(row) {
            return Ok(None);
        }
        let offset = |at: usize| self.array.value_offsets().get(at).and_then(|offset| usize::try_from(*offset).ok());
        match (offset(row), offset(row + 1)) {
            (Some(start), Some(end)) if end.checked_sub(start) == Some(SUM_BYTES) => {
                Ok(Some(Bytes::from_owner(Shared(self.array.values().slice_with_length(start, SUM_BYTES)))))
            }
            _ => Err(self.missing()),
        }
    }
}

/// The columns of a batch or of a struct.
pub(super) trait Columns {
    /// The column of this name.
    fn column(&self, name: &str) -> Option<&dyn Array>;

    /// Fails, naming the column.
    fn missing(&self, name: &str) -> Error {
        corrupt("lacks a column, or a value in it").with("column", name)
    }

    /// A column of text.
    fn texts<'a>(&'a self, name: &'a str) -> Result<Column<'a, StringArray>> {
        self.typed(name)
    }

    /// A column of bytes.
    fn binaries<'a>(&'a self, name: &'a str) -> Result<Column<'a, BinaryArray>> {
        self.typed(name)
    }

    /// A column of numbers.
    fn numbers<'a, T: ArrowPrimitiveType>(&'a self, name: &'a str) -> Result<Column<'a, PrimitiveArray<T>>> {
        self.typed(name)
    }

    /// A column of this type.
    fn typed<'a, A: 'static>(&'a self, name: &'a str) -> Result<Column<'a, A>> {
        let array = self.column(name).and_then(|array| array.as_any().downcast_ref()).ok_or_else(|| self.missing(name))?;
        Ok(Column { name, array })
    }

    /// Text.
    fn text(&self, name: &str, row: usize) -> Result<Option<&str>> {
        // The text lives as long as the columns, whatever becomes of the name.
        let array = self.column(name).and_then(|a| a.as_string_opt::<i32>()).ok_or_else(|| self.missing(name))?;
        Ok(array.is_valid(row).then(|| array.value(row)))
    }

    /// JSON as text.
    fn json(&self, name: &str, row: usize) -> Result<Option<Value>> {
        self.texts(name)?.json(row)
    }

    /// An unsigned number.
    fn u64(&self, name: &str, row: usize) -> Result<Option<u64>> {
        Ok(self.numbers::<UInt64Type>(name)?.at(row))
    }

    /// An unsigned number of 32 bits.
    fn u32(&self, name: &str, row: usize) -> Result<Option<u32>> {
        Ok(self.numbers::<UInt32Type>(name)?.at(row))
    }

    /// 32 bytes.
    fn digest(&self, name: &str, row: usize) -> Result<Option<Digest>> {
        self.binaries(name)?.digest(row)
    }

    /// Bytes.
    fn binary(&self, name: &str, row: usize) -> Result<Option<&[u8]>> {
        let array = self.column(name).and_then(|a| a.as_binary_opt::<i32>()).ok_or_else(|| self.missing(name))?;
        Ok(array.is_valid(row).then(|| array.value(row)))
    }

    /// The state of a multiset sum.
    fn sum(&self, name: &str, row: usize) -> Result<Option<Bytes>> {
        self.binaries(name)?.sum(row)
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
