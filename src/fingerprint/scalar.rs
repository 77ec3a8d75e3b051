//! Values of statistics: typed, ordered, and as JSON.

use std::cmp::Ordering;

use arrow::datatypes::i256;
use chrono::{DateTime, NaiveDate, TimeDelta};
use serde_json::{Number, Value};

use super::partition::instant_nanos;
use crate::table::PrimitiveType;

pub(super) const NANOS_PER_DAY: i128 = 86_400_000_000_000;

/// A value that has an order.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Boolean(bool),
    Integer(i128),
    /// Never NaN.
    Float(f64),
    Decimal(i256, i16),
    Text(String),
    Binary(Vec<u8>),
    /// Days since 1970-01-01.
    Date(i32),
    /// Nanoseconds since 1970-01-01, with or without a zone.
    Instant(i128),
    /// Nanoseconds since midnight. Fingerprints do not state them.
    Time(i128),
}

impl Scalar {
    /// Order within one domain; `None` between domains that do not compare. -0.0 equals 0.0.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Boolean(a), Self::Boolean(b)) => Some(a.cmp(b)),
            (Self::Integer(a), Self::Integer(b)) => Some(a.cmp(b)),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(b),
            (Self::Decimal(a, scale_a), Self::Decimal(b, scale_b)) => compare_decimals(*a, *scale_a, *b, *scale_b),
            (Self::Text(a), Self::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
            (Self::Binary(a), Self::Binary(b)) => Some(a.cmp(b)),
            (Self::Date(a), Self::Date(b)) => Some(a.cmp(b)),
            (Self::Instant(a), Self::Instant(b)) | (Self::Time(a), Self::Time(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// The value as fingerprints state it; `None` when no text form reaches it (years beyond the calendar's).
    pub(super) fn to_json(&self) -> Option<Value> {
        Some(match self {
            Self::Boolean(value) => Value::Bool(*value),
            Self::Integer(value) => i64::try_from(*value).map(Value::from).or_else(|_| u64::try_from(*value).map(Value::from)).ok()?,
            Self::Float(value) => Number::from_f64(*value).map_or_else(|| Value::from(value.to_string()), Value::Number),
            Self::Decimal(value, scale) => Value::from(decimal_text(*value, *scale)),
            Self::Text(value) => Value::from(value.as_str()),
            Self::Binary(value) => Value::from(hex::encode(value)),
            Self::Date(days) => {
                let date = NaiveDate::default().checked_add_signed(TimeDelta::try_days(i64::from(*days))?)?;
                Value::from(date.format("%Y-%m-%d").to_string())
            }
            Self::Time(_) => return None,
            Self::Instant(nanos) => {
                let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?;
                let nanos = u32::try_from(nanos.rem_euclid(1_000_000_000)).ok()?;
                Value::from(DateTime::from_timestamp(seconds, nanos)?.format("%Y-%m-%dT%H:%M:%S%.9fZ").to_string())
            }
        })
    }

    /// Reads what statistics of a log, or a fingerprint, state for a column of this type.
    pub(super) fn from_json(value: &Value, primitive: PrimitiveType) -> Option<Self> {
        match primitive {
            PrimitiveType::Boolean => value.as_bool().map(Self::Boolean),
            PrimitiveType::Integer => whole(value).map(Self::Integer),
            PrimitiveType::Float | PrimitiveType::Double => number(value).filter(|v| !v.is_nan()).map(Self::Float),
            PrimitiveType::Decimal(_, _) => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                parse_decimal(&text).map(|(value, scale)| Self::Decimal(value, scale))
            }
            PrimitiveType::String => value.as_str().map(|text| Self::Text(text.to_owned())),
            PrimitiveType::Binary => None,
            PrimitiveType::Date => i32::try_from(days(value.as_str()?)?).ok().map(Self::Date),
            PrimitiveType::Timestamp | PrimitiveType::TimestampNtz => instant_nanos(value.as_str()?).map(Self::Instant),
        }
    }
}

/// Days of `2020-01-31`, or of an instant on the day that it begins with: some writers put a whole timestamp where a date belongs.
fn days(text: &str) -> Option<i64> {
    let of = |date: NaiveDate| date.signed_duration_since(NaiveDate::default()).num_days();
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Some(of(date));
    }
    let begins_with = of(text.get(..10)?.parse().ok()?);
    (instant_nanos(text)?.div_euclid(NANOS_PER_DAY) == i128::from(begins_with)).then_some(begins_with)
}

fn whole(value: &Value) -> Option<i128> {
    let from_float = || value.as_f64().filter(|v| v.fract() == 0.0 && v.abs() < 9.0e15).and_then(|v| format!("{v:.0}").parse().ok());
    value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from)).or_else(from_float)
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| match value.as_str()? {
        "Infinity" | "inf" => Some(f64::INFINITY),
        "-Infinity" | "-inf" => Some(f64::NEG_INFINITY),
        text => text.parse().ok(),
    })
}

fn compare_decimals(a: i256, scale_a: i16, b: i256, scale_b: i16) -> Option<Ordering> {
    let raised = |value: i256, from: i16, to: i16| {
        let power = u32::try_from(i32::from(to) - i32::from(from)).ok()?;
        value.checked_mul(i256::from_i128(10).checked_pow(power)?)
    };
    let scale = scale_a.max(scale_b);
    Some(raised(a, scale_a, scale)?.cmp(&raised(b, scale_b, scale)?))
}

fn decimal_text(value: i256, scale: i16) -> String {
    let digits = value.to_string();
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits.as_str()), |rest| ("-", rest));
    match usize::try_from(scale) {
        Ok(0) => format!("{sign}{digits}"),
        Ok(scale) => {
            let padded = format!("{digits:0>width$}", width = scale + 1);
            let (whole, fraction) = padded.split_at(padded.len() - scale);
            format!("{sign}{whole}.{fraction}")
        }
        Err(_) => format!("{sign}{digits}{}", "0".repeat(scale.unsigned_abs().into())),
    }
}

/// Reads `-12.340`, `1e3`: the value and its scale.
pub(super) fn parse_decimal(text: &str) -> Option<(i256, i16)> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i16>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let scale = i16::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole.strip_prefix('+').unwrap_or(whole)), |whole| ("-", whole));
    let digits = format!("{whole}{fraction}");
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| i256::from_string(&format!("{sign}{digits}"))).flatten().map(|value| (value, scale))
}
