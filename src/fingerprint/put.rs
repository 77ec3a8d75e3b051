//! The bytes of canonical values, encoding v1: `docs/format/row-encoding.md`.

use arrow::datatypes::i256;

pub(super) const NULL: u8 = 0x00;
pub(super) const FALSE: u8 = 0x01;
pub(super) const TRUE: u8 = 0x02;
const INTEGER: u8 = 0x03;
const LARGE_UNSIGNED: u8 = 0x04;
const FLOAT: u8 = 0x05;
const DECIMAL: u8 = 0x06;
pub(super) const STRING: u8 = 0x07;
pub(super) const BINARY: u8 = 0x08;
const DATE: u8 = 0x09;
pub(super) const TIMESTAMP_UTC: u8 = 0x0a;
pub(super) const TIMESTAMP_NTZ: u8 = 0x0b;
const TIME: u8 = 0x0c;
pub(super) const STRUCT: u8 = 0x0d;
pub(super) const LIST: u8 = 0x0e;
pub(super) const MAP: u8 = 0x0f;
const INTERVAL: u8 = 0x10;
const CANONICAL_NAN: u64 = 0x7ff8_0000_0000_0000;

pub(super) fn put_integer(value: i128, out: &mut Vec<u8>) {
    if let Ok(value) = i64::try_from(value) {
        out.push(INTEGER);
        out.extend_from_slice(&value.to_le_bytes());
    } else {
        out.push(LARGE_UNSIGNED);
        out.extend_from_slice(&u64::try_from(value).unwrap_or_default().to_le_bytes());
    }
}

pub(super) fn put_boolean(value: bool, out: &mut Vec<u8>) {
    out.push(if value { TRUE } else { FALSE });
}

pub(super) fn put_float(value: f64, out: &mut Vec<u8>) {
    out.push(FLOAT);
    let bits = if value.is_nan() { CANONICAL_NAN } else { value.to_bits() };
    out.extend_from_slice(&bits.to_le_bytes());
}

/// Decimal zeros at the end are taken off, so that a wider scale changes nothing.
pub(super) fn put_decimal(value: i256, scale: i16, out: &mut Vec<u8>) {
    match value.to_i128() {
        Some(narrow) => put_narrow_decimal(narrow, scale, out),
        None => put_wide_decimal(value, scale, out),
    }
}

/// As [`put_wide_decimal`], a hundred times as fast: division of 256 bits goes bit by bit.
fn put_narrow_decimal(mut value: i128, mut scale: i16, out: &mut Vec<u8>) {
    if value == 0 {
        scale = 0;
    }
    while value != 0 {
        // Most values have 64 bits, which a processor divides by itself.
        let tenth = match i64::try_from(value) {
            Ok(value) if value % 10 == 0 => i128::from(value / 10),
            Ok(_) => break,
            Err(_) if value % 10 == 0 => value / 10,
            Err(_) => break,
        };
        value = tenth;
        scale -= 1;
    }
    let magnitude = if value < 0 { !value } else { value };
    // The shortest two's complement that keeps the sign.
    let length = (i128::BITS - magnitude.leading_zeros() + 1).div_ceil(8);
    out.push(DECIMAL);
    out.extend_from_slice(&scale.to_le_bytes());
    out.push(u8::try_from(length).unwrap_or_default());
    // 127 bits and a sign are 16 bytes at most.
    out.extend(value.to_le_bytes().iter().take(usize::try_from(length).unwrap_or_default()));
}

fn put_wide_decimal(mut value: i256, mut scale: i16, out: &mut Vec<u8>) {
    let ten = i256::from_i128(10);
    if value == i256::ZERO {
        scale = 0;
    }
    while value != i256::ZERO && value.wrapping_rem(ten) == i256::ZERO {
        value = value.wrapping_div(ten);
        scale -= 1;
    }
    let bytes = value.to_le_bytes();
    let fill = if value.is_negative() { 0xff } else { 0x00 };
    let mut length = bytes.len();
    // The shortest two's complement that keeps the sign.
    while length > 1
        && bytes.get(length - 1) == Some(&fill)
        && bytes.get(length - 2).is_some_and(|next| (next & 0x80 != 0) == value.is_negative())
    {
        length -= 1;
    }
    out.push(DECIMAL);
    out.extend_from_slice(&scale.to_le_bytes());
    out.push(u8::try_from(length).unwrap_or_default());
    out.extend(bytes.iter().take(length));
}

pub(super) fn put_string(value: &str, out: &mut Vec<u8>) {
    put_bytes(STRING, value.as_bytes(), out);
}

pub(super) fn put_binary(value: &[u8], out: &mut Vec<u8>) {
    put_bytes(BINARY, value, out);
}

pub(super) fn put_bytes(tag: u8, value: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    put_length(value.len(), out);
    out.extend_from_slice(value);
}

/// Arrow's and Parquet's lengths within one value fit 32 bits; a longer one (which no file can hold) would be cut, not wrap.
pub(super) fn put_length(length: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

pub(super) fn put_date(days: i32, out: &mut Vec<u8>) {
    out.push(DATE);
    out.extend_from_slice(&days.to_le_bytes());
}

pub(super) fn put_instant(utc: bool, nanos: i128, out: &mut Vec<u8>) {
    put_timestamp(if utc { TIMESTAMP_UTC } else { TIMESTAMP_NTZ }, nanos, out);
}

pub(super) fn put_timestamp(tag: u8, nanos: i128, out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&nanos.to_le_bytes());
}

pub(super) fn put_time(nanos: i64, out: &mut Vec<u8>) {
    out.push(TIME);
    out.extend_from_slice(&nanos.to_le_bytes());
}

pub(super) fn put_interval(months: i32, days: i32, nanos: i64, out: &mut Vec<u8>) {
    out.push(INTERVAL);
    out.extend_from_slice(&months.to_le_bytes());
    out.extend_from_slice(&days.to_le_bytes());
    out.extend_from_slice(&nanos.to_le_bytes());
}

/// A name as it stands before its value: 32-bit length, then the bytes.
pub(super) fn prefixed(name: &str) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(4 + name.len());
    put_length(name.len(), &mut prefix);
    prefix.extend_from_slice(name.as_bytes());
    prefix
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn decimals_of_any_width_are_encoded_alike(digits in any::<i128>(), shift in 0_u32..128, zeros in 0_u32..20, scale in -40_i16..40) {
            let value = (digits >> shift).saturating_mul(10_i128.pow(zeros));
            let (mut narrow, mut wide) = (Vec::new(), Vec::new());
            put_decimal(i256::from_i128(value), scale, &mut narrow);
            put_wide_decimal(i256::from_i128(value), scale, &mut wide);
            prop_assert_eq!(narrow, wide);
        }
    }
}
