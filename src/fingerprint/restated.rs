//! Statistics that are stated twice: in another encoding, by another writer, or again for the same file.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::Value;

use super::partition::partition_value;
use super::scalar::Scalar;
use super::statistics::{NANOS_PER_MILLI, equal_but_for_rounding};
use crate::table::{ColumnType, PrimitiveType, TableColumn, TableSchema};

/// The leaves of a member of statistics (`minValues`, `nullCount`, …) by dotted path; nulls are left out.
pub fn leaves(member: &Value) -> BTreeMap<String, Value> {
    fn collect(value: &Value, path: &str, found: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| {
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(value, &below, found);
            }),
            Value::Null => {}
            other => drop(found.insert(path.to_owned(), other.clone())),
        }
    }
    let mut found = BTreeMap::new();
    collect(member, "", &mut found);
    found
}

/// Whether two spellings of a bound of the column at `path` mean one value: `2020-01-01` and a whole timestamp, milliseconds and
/// microseconds, numbers that went through other floats.
pub fn same_bound(a: &Value, b: &Value, path: &str, schema: &TableSchema) -> bool {
    a == b || ordered(a, b, path, schema).is_some_and(|(order, close)| close || order == Ordering::Equal)
}

/// Whether the bound `new` of the column at `path` hides nothing that `old` shows: it is the same, or wider. `is_min` tells which bound it is.
pub fn is_as_wide(new: &Value, old: &Value, is_min: bool, path: &str, schema: &TableSchema) -> bool {
    let wider = if is_min { Ordering::Less } else { Ordering::Greater };
    new == old || ordered(new, old, path, schema).is_some_and(|(order, close)| close || order == Ordering::Equal || order == wider)
}

/// The order of two bounds, and whether they differ by no more than encodings do; `None` where they are not comparable.
fn ordered(a: &Value, b: &Value, path: &str, schema: &TableSchema) -> Option<(Ordering, bool)> {
    let primitive = primitive_at(schema, path)?;
    let (a, b) = (Scalar::from_json(a, primitive)?, Scalar::from_json(b, primitive)?);
    let close = match (&a, &b) {
        (Scalar::Instant(a), Scalar::Instant(b)) => a.abs_diff(*b) < NANOS_PER_MILLI.unsigned_abs(),
        _ => equal_but_for_rounding(&a, &b),
    };
    Some((a.compare(&b)?, close))
}

/// Whether a typed partition value is the value that the log's text states. Types without a JSON form are not compared.
pub fn same_partition_value(typed: &Value, text: Option<&str>, name: &str, schema: &TableSchema) -> bool {
    let column = schema.physical_column(name).or_else(|| schema.column(name));
    let Some(ColumnType::Primitive(primitive)) = column.map(|column| &column.data_type) else { return true };
    let stated = text.filter(|text| !text.is_empty());
    let (Some(stated), false) = (stated, typed.is_null()) else { return stated.is_none() == typed.is_null() || typed.as_str() == Some("") };
    let as_text = typed.as_str().map_or_else(|| typed.to_string(), str::to_owned);
    if matches!(primitive, PrimitiveType::Binary) || as_text == stated {
        return true;
    }
    let encoded = |text: &str| partition_value(Some(&ColumnType::Primitive(*primitive)), Some(text)).ok().flatten();
    encoded(&as_text).is_some_and(|typed| encoded(stated) == Some(typed))
}

fn primitive_at(schema: &TableSchema, path: &str) -> Option<PrimitiveType> {
    fn find(columns: &[TableColumn], path: &str) -> Option<PrimitiveType> {
        // Names may hold dots themselves: every column whose name begins the path is tried.
        columns.iter().find_map(|column| {
            [&column.physical_name, &column.name].into_iter().find_map(|name| {
                let rest = path.strip_prefix(name.as_str())?;
                match (&column.data_type, rest.strip_prefix('.')) {
                    (ColumnType::Primitive(primitive), None) if rest.is_empty() => Some(*primitive),
                    (ColumnType::Struct(fields), Some(below)) => find(fields, below),
                    _ => None,
                }
            })
        })
    }
    find(&schema.columns, path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> TableSchema {
        let text = r#"{"type":"struct","fields":[
            {"name":"at","type":"timestamp","nullable":true,"metadata":{}},
            {"name":"day","type":"date","nullable":true,"metadata":{}},
            {"name":"n","type":"integer","nullable":true,"metadata":{}},
            {"name":"s","type":{"type":"struct","fields":[{"name":"f","type":"float","nullable":true,"metadata":{}}]},"nullable":true,"metadata":{}}]}"#;
        TableSchema::from_delta(text, vec![]).unwrap()
    }

    #[test]
    fn spellings_of_one_bound_are_the_same_and_others_are_not() {
        let schema = schema();
        let same = |a: Value, b: Value, path: &str| same_bound(&a, &b, path, &schema);
        assert!(same(json!("2020-01-01T00:00:00.123Z"), json!("2020-01-01T00:00:00.123456Z"), "at"));
        assert!(!same(json!("2020-01-01T00:00:00.123Z"), json!("2020-01-01T00:00:00.125Z"), "at"));
        assert!(same(json!("2020-01-01"), json!("2020-01-01T00:00:00.000Z"), "day"));
        assert!(same(json!(0.1), json!(0.100_000_001_490_116_12), "s.f"));
        assert!(!same(json!(7), json!(8), "n"));
        assert!(is_as_wide(&json!(6), &json!(7), true, "n", &schema) && !is_as_wide(&json!(6), &json!(7), false, "n", &schema));
    }

    #[test]
    fn leaves_are_found_at_any_depth() {
        let found = leaves(&json!({"n": 1, "s": {"f": 2.5, "g": null}}));
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("n".to_owned(), json!(1)), ("s.f".to_owned(), json!(2.5))]);
    }

    #[test]
    fn typed_partition_values_are_held_against_the_text() {
        let schema = schema();
        assert!(same_partition_value(&json!(7), Some("7"), "n", &schema));
        assert!(!same_partition_value(&json!(8), Some("7"), "n", &schema));
        assert!(!same_partition_value(&Value::Null, Some("7"), "n", &schema));
        assert!(same_partition_value(&Value::Null, None, "n", &schema));
        assert!(same_partition_value(&json!("2020-01-01T00:00:00Z"), Some("2020-01-01 00:00:00"), "at", &schema));
    }
}
