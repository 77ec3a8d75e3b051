//! Canonical JSON: one spelling for each value, so that independent programs get the same digests.
//!
//! Members are sorted by the bytes of their names, there is no white space, strings escape only what JSON demands
//! (`\"`, `\\`, `\b`, `\f`, `\n`, `\r`, `\t`, else `\u00xx` in lower case), integers stand in decimal, other numbers in the
//! shortest form that reads back as the same IEEE 754 double.

use serde_json::{Map, Value};

use crate::digest::Digest;

const JSON_TAG: &str = "lakeseal 2026 canonical json v1";

/// The canonical bytes of `value`.
pub(super) fn bytes(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, &mut out);
    out
}

/// The digest of the canonical bytes of `value`.
pub(super) fn digest(value: &Value) -> Digest {
    Digest::tagged(JSON_TAG, &bytes(value))
}

/// The canonical bytes of `value` as text.
pub(super) fn text(value: &Value) -> String {
    String::from_utf8(bytes(value)).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| name.as_bytes());
            out.push(b'{');
            for (i, (name, member)) in sorted.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                scalar(name, out);
                out.push(b':');
                write(member, out);
            }
            out.push(b'}');
        }
        other => scalar(other, out),
    }
}

/// What is neither list nor object, as JSON has it. Writing it to memory cannot fail.
fn scalar<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, value);
}

/// The normal form of an action: members that are null, an empty object or an empty list are left out.
///
/// A checkpoint spells absent members so, a commit does not spell them at all; they mean the same.
pub(super) fn normal(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept: Map<String, Value> =
                members.iter().map(|(name, member)| (name.clone(), normal(member))).filter(|(_, member)| !is_empty(member)).collect();
            Value::Object(kept)
        }
        Value::Array(items) => Value::Array(items.iter().map(normal).collect()),
        scalar => scalar.clone(),
    }
}

/// Whether `normal` is the normal form of `value`, which is not made for that.
pub(super) fn is_normal_of(normal: &Value, value: &Value) -> bool {
    match (normal, value) {
        (Value::Object(normal), Value::Object(members)) => {
            let kept = || members.iter().filter(|(_, member)| !is_left_out(member));
            kept().count() == normal.len()
                && kept().all(|(name, member)| normal.get(name).is_some_and(|normal| is_normal_of(normal, member)))
        }
        (Value::Array(normal), Value::Array(items)) => {
            normal.len() == items.len() && normal.iter().zip(items).all(|(normal, item)| is_normal_of(normal, item))
        }
        (Value::Object(_) | Value::Array(_), _) | (_, Value::Object(_) | Value::Array(_)) => false,
        (normal, scalar) => normal == scalar,
    }
}

/// As [`is_normal_of`], of values that may be absent, which is the same as null.
pub(super) fn is_normal_option(normal: Option<&Value>, value: Option<&Value>) -> bool {
    match (normal, value.filter(|value| !value.is_null())) {
        (Some(normal), Some(value)) => is_normal_of(normal, value),
        (normal, value) => normal.is_none() && value.is_none(),
    }
}

/// Whether the normal form of a member is one that is left out.
pub(super) fn is_left_out(member: &Value) -> bool {
    match member {
        Value::Object(members) => members.values().all(is_left_out),
        other => is_empty(other),
    }
}

/// Whether a member of this value is left out of the normal form.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// The normal form of a `protocol` action: features are sets, so they are sorted.
pub(super) fn normal_protocol(protocol: &Value) -> Value {
    let mut protocol = normal(protocol);
    for name in ["readerFeatures", "writerFeatures"] {
        if let Some(Value::Array(features)) = protocol.get_mut(name) {
            features.sort_by_key(ToString::to_string);
            features.dedup();
        }
    }
    protocol
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_sorted_and_strings_escaped_as_documented() {
        let value = json!({"b": [1, 2.5, null, true], "a": {"z": "\u{1}\n\"é", "": -0.0}});
        assert_eq!(text(&value), "{\"a\":{\"\":-0.0,\"z\":\"\\u0001\\n\\\"é\"},\"b\":[1,2.5,null,true]}");
    }

    #[test]
    fn a_normal_form_is_known_without_being_made() {
        let leaves = [json!(null), json!(1), json!(1.5), json!("x"), json!({}), json!([]), json!([{}]), json!([null])];
        let mut all: Vec<Value> = leaves.to_vec();
        for a in &leaves {
            all.push(json!([a]));
            for b in &leaves {
                all.extend([json!({"a": a, "b": b}), json!({"b": a, "c": {"a": b}}), json!({"a": {"b": {"c": a}}, "b": b}), json!([a, b])]);
            }
        }
        let mut equal = 0;
        for one in &all {
            for other in &all {
                let same = normal(one) == normal(other);
                assert_eq!(is_normal_of(&normal(one), other), same, "{one} {other}");
                equal += usize::from(same && one != other);
            }
        }
        assert!(equal > 100);
        assert!(
            is_normal_option(None, Some(&json!(null)))
                && !is_normal_option(None, Some(&json!({})))
                && !is_normal_option(Some(&json!(1)), None)
        );
    }

    #[test]
    fn spellings_of_absence_are_one() {
        let commit = json!({"id": "x", "configuration": {}, "format": {"provider": "parquet", "options": {}}});
        let checkpoint = json!({"id": "x", "name": null, "configuration": null, "format": {"options": null, "provider": "parquet"}});
        assert_eq!(digest(&normal(&commit)), digest(&normal(&checkpoint)));
        let a = json!({"minReaderVersion": 3, "readerFeatures": ["b", "a"]});
        let b = json!({"minReaderVersion": 3, "readerFeatures": ["a", "b"], "writerFeatures": []});
        assert_eq!(normal_protocol(&a), normal_protocol(&b));
    }
}
