//! What page headers state of rows, held against the pages.
//!
//! Whoever reads a column to its end needs no row counts of pages; whoever skips rows (after a filter on another column) skips whole pages by
//! them. A page that states another number than it holds moves a column's values to other rows for those who skip, and only for them.

use std::sync::Arc;

use parquet::column::page::{Page, PageReader as _};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::ChunkReader;
use parquet::file::serialized_reader::SerializedPageReader;

use crate::error::{Error, ErrorKind, Result};

/// Fails when a page of the chunk states another number of rows than it holds, or begins within one.
///
/// Cost: each header is parsed; pages are decompressed only where they are of version 2 and within lists or maps.
///
/// # Errors
/// [`ErrorKind::Corrupt`].
pub(super) fn check<R: ChunkReader + 'static>(bytes: Arc<R>, chunk: &ColumnChunkMetaData, rows: u64) -> Result<()> {
    let column = || chunk.column_path().string();
    let failed = |e: ParquetError| corrupt("the pages of a column do not decode").with("column", column()).caused_by(e);
    let total = usize::try_from(rows).map_err(|_| corrupt("a row group has too many rows"))?;
    let mut pages = SerializedPageReader::new(bytes, chunk, total, None).map_err(failed)?;
    let nesting = u16::try_from(chunk.column_descr().max_rep_level()).unwrap_or_default();
    let mut at = 0_usize;
    while let Some(header) = pages.peek_next_page().map_err(failed)? {
        let stated = header.num_rows.filter(|_| !header.is_dict);
        let held = match stated {
            Some(_) if nesting > 0 => rows_of(pages.get_next_page().map_err(failed)?, nesting),
            _ => {
                pages.skip_next_page().map_err(failed)?;
                header.num_levels
            }
        };
        if let Some(stated) = stated.filter(|stated| Some(*stated) != held) {
            let held =
                held.map_or_else(|| "not known: it begins within a row, or its levels do not decode".to_owned(), |held| held.to_string());
            return Err(corrupt("a page states another number of rows than it holds: who skips rows would read those of others")
                .with("column", column())
                .with("page", at)
                .with("stated", stated)
                .with("found", held));
        }
        at += 1;
    }
    Ok(())
}

/// The rows that begin in a page of version 2; `None` when the first level does not begin one.
fn rows_of(page: Option<Page>, nesting: u16) -> Option<usize> {
    match page? {
        Page::DataPageV2 { buf, num_values, rep_levels_byte_len, .. } => {
            let levels = buf.get(..usize::try_from(rep_levels_byte_len).ok()?)?;
            let values = usize::try_from(num_values).ok()?;
            if values == 0 { Some(0) } else { zeros(levels, nesting, values) }
        }
        _ => None,
    }
}

/// How many of the first `values` levels are zero, which begin a row; `None` when the first is not. Parquet's hybrid of runs and packed bits.
fn zeros(mut levels: &[u8], greatest: u16, values: usize) -> Option<usize> {
    let width = usize::try_from(u16::BITS - greatest.leading_zeros()).ok()?;
    let (mut seen, mut zeros, mut first) = (0_usize, 0_usize, None);
    while seen < values {
        let header = varint(&mut levels)?;
        let length = usize::try_from(header >> 1).ok()?;
        if length == 0 {
            return None;
        }
        if header & 1 == 0 {
            let (value, rest) = levels.split_at_checked(width.div_ceil(8))?;
            levels = rest;
            let zero = value.iter().all(|byte| *byte == 0);
            first.get_or_insert(zero);
            let run = length.min(values - seen);
            zeros += if zero { run } else { 0 };
            seen += run;
        } else {
            let (packed, rest) = levels.split_at_checked(length.checked_mul(width)?)?;
            levels = rest;
            let bit = |at: usize| packed.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1);
            let run = length.checked_mul(8)?.min(values - seen);
            for at in 0..run {
                let zero = !(at * width..(at + 1) * width).any(bit);
                first.get_or_insert(zero);
                zeros += usize::from(zero);
            }
            seen += run;
        }
    }
    first?.then_some(zeros)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn corrupt(message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_in_runs_and_in_bits_are_counted() {
        // A run of four zeros, then eight packed bits 0b0000_0110, of which five count.
        assert_eq!(zeros(&[8, 0, 3, 0b0000_0110], 1, 9), Some(4 + 3));
        // Two bits wide: 0, 1, 2, 0, …
        assert_eq!(zeros(&[3, 0b0010_0100, 0], 2, 4), Some(2));
        assert_eq!(zeros(&[2, 1, 2, 0], 1, 2), None, "the first level begins no row");
        assert_eq!(zeros(&[8, 0], 1, 5), None, "there are fewer levels than values");
        assert_eq!(zeros(&[0], 1, 1), None);
    }
}
