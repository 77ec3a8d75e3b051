//! JSON without surprises: a member named twice is refused, because two parsers may then read two documents, and numbers are read exactly.
//!
//! `serde_json` reads about one in nine doubles of seventeen digits a last digit wrong. A bound that is a last digit too narrow hides a row.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Parses one JSON document and nothing after it.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::from_slice::<Strict>(bytes)?.0;
    if has_float(&value) {
        read_exactly(&mut value, &mut floats(bytes));
    }
    Ok(value)
}

fn has_float(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_float),
        Value::Object(members) => members.values().any(has_float),
        _ => false,
    }
}

/// The numbers of a valid document that are no integers, as text, in their order.
fn floats(bytes: &[u8]) -> impl Iterator<Item = &str> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => at = end_of_text(bytes, at),
                b'-' | b'0'..=b'9' => {
                    let start = at;
                    at += bytes.get(start..)?.iter().take_while(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')).count();
                    let text = std::str::from_utf8(bytes.get(start..at)?).ok()?;
                    if text == "-0" || text.parse::<u64>().is_err() && text.parse::<i64>().is_err() {
                        return Some(text);
                    }
                }
                _ => at += 1,
            }
        }
        None
    })
}

/// Where the text that begins with the quotation mark at `start` is over.
fn end_of_text(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// Members stand in the order in which they were read, so that the texts fit.
fn read_exactly<'a>(value: &mut Value, texts: &mut impl Iterator<Item = &'a str>) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let exact = texts.next().and_then(|text| text.parse().ok()).and_then(Number::from_f64);
            if let Some(exact) = exact {
                *number = exact;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| read_exactly(item, texts)),
        Value::Object(members) => members.values_mut().for_each(|member| read_exactly(member, texts)),
        _ => {}
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        StrictSeed.deserialize(deserializer).map(Self)
    }
}

struct StrictSeed;

impl<'de> DeserializeSeed<'de> for StrictSeed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictSeed {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(Self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let value = access.next_value_seed(Self)?;
            if map.insert(key.clone(), value).is_some() {
                return Err(A::Error::custom(format!("the member `{key}` is there twice")));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_named_twice_is_refused_at_any_depth() {
        assert!(parse(br#"{"a":1,"a":2}"#).is_err());
        assert!(parse(br#"{"a":[{"b":1,"b":1}]}"#).is_err());
        assert!(parse(br#"{"a":1} {"a":2}"#).is_err());
    }

    #[test]
    fn doubles_are_read_to_their_last_digit() {
        let mut state = 1_u64;
        let mut differs = 0;
        for round in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let wanted = (state >> 11) as f64 / (1_u64 << 53) as f64 * 10_f64.powi(round % 40 - 20);
            let text = format!(r#"{{"\"1.5\\":[7,"2.5e3",-{wanted}],"b":{{"c":{wanted},"d":-0,"e":18446744073709551616}}}}"#);
            let value = parse(text.as_bytes()).unwrap();
            assert_eq!(value.pointer("/b/c").unwrap().as_f64().unwrap().to_bits(), wanted.to_bits(), "{text}");
            assert_eq!(value["\"1.5\\"][2].as_f64(), Some(-wanted));
            assert_eq!((value["b"]["d"].to_string(), value["b"]["e"].as_f64()), ("-0.0".to_owned(), Some(18_446_744_073_709_551_616.0)));
            differs += i32::from(serde_json::from_str::<Value>(&text).unwrap() != value);
        }
        assert!(differs > 0, "serde_json reads them exactly: this module need not any more");
    }

    #[test]
    fn an_honest_document_reads_as_serde_reads_it() {
        let text = r#"{"a":[1,-2,2.5,null,true,"x\n"],"b":{"c":18446744073709551615}}"#;
        assert_eq!(parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }
}
