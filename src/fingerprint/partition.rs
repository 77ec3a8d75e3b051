//! Partition values: Delta's text forms, typed and encoded like any other value.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};

use super::put::{put_binary, put_boolean, put_date, put_decimal, put_float, put_instant, put_integer, put_string};
use super::scalar::parse_decimal;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{ColumnType, PrimitiveType};

/// The encoded value; `None` for null, which the empty text is too where the type is known.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when the text is no value of the type.
pub(super) fn partition_value(data_type: Option<&ColumnType>, text: Option<&str>) -> Result<Option<Vec<u8>>> {
    let Some(text) = text else { return Ok(None) };
    let mut out = Vec::new();
    let Some(data_type) = data_type else {
        put_string(text, &mut out);
        return Ok(Some(out));
    };
    if text.is_empty() {
        return Ok(None);
    }
    let ColumnType::Primitive(primitive) = data_type else {
        return Err(Error::new(ErrorKind::Corrupt, "a partition column is not of a scalar type"));
    };
    put(*primitive, text, &mut out).ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "a partition value is not of its column's type")
            .with("value", text)
            .with("type", format!("{primitive:?}"))
    })?;
    Ok(Some(out))
}

fn put(primitive: PrimitiveType, text: &str, out: &mut Vec<u8>) -> Option<()> {
    match primitive {
        PrimitiveType::String => put_string(text, out),
        PrimitiveType::Integer => put_integer(text.parse::<i64>().ok()?.into(), out),
        PrimitiveType::Float | PrimitiveType::Double => put_float(text.parse().ok()?, out),
        PrimitiveType::Decimal(_, _) => {
            let (value, scale) = parse_decimal(text)?;
            put_decimal(value, scale, out);
        }
        // Engines take it in any case.
        PrimitiveType::Boolean => put_boolean(text.to_ascii_lowercase().parse().ok()?, out),
        PrimitiveType::Binary => put_binary(text.as_bytes(), out),
        PrimitiveType::Date => {
            // Some writers put a whole timestamp where a date belongs.
            let date = text.get(..10).filter(|_| text.len() > 10).unwrap_or(text);
            let days = date.parse::<NaiveDate>().ok()?.signed_duration_since(NaiveDate::default()).num_days();
            put_date(i32::try_from(days).ok()?, out);
        }
        PrimitiveType::Timestamp => put_instant(true, instant_nanos(text)?, out),
        PrimitiveType::TimestampNtz => put_instant(false, instant_nanos(text)?, out),
    }
    Some(())
}

/// `2020-01-01 10:00:00.123`, with `T`, a `Z` or an offset if need be; without one it is UTC.
pub(super) fn instant_nanos(text: &str) -> Option<i128> {
    let spaced = text.replacen('T', " ", 1);
    let instant = match DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_str(&spaced, "%Y-%m-%d %H:%M:%S%.f%:z")) {
        Ok(instant) => instant.naive_utc(),
        Err(_) => {
            let text = spaced.trim_end_matches('Z');
            let formats = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"];
            let parsed = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
            parsed.or_else(|| Some(text.parse::<NaiveDate>().ok()?.and_time(NaiveTime::MIN)))?
        }
    };
    let instant = instant.and_utc();
    Some(i128::from(instant.timestamp()) * 1_000_000_000 + i128::from(instant.timestamp_subsec_nanos()))
}
