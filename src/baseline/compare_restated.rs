//! Comparison of what is said again about a file: its `add` action elsewhere, a checkpoint's typed statistics, another deletion vector.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::canonical;
use super::compare::{is_as_sealed, normal_live};
use super::sealed::SealedTable;
use super::verdict::{Finding, Verdict};
use crate::fingerprint::{is_as_wide, leaves, same_bound, same_partition_value};
use crate::table::{LiveFile, TableKind, TableSchema, TableSnapshot};

/// Collects differences between two descriptions of one file.
struct Differences<'a> {
    verdict: Verdict,
    schema: &'a TableSchema,
    found: Vec<Finding>,
}

impl Differences<'_> {
    fn add(&mut self, column: Option<&str>, what: &str, sealed: &Value, found: &Value) {
        let detail = format!("{what}: sealed {}, found {}", canonical::text(sealed), canonical::text(found));
        self.found.push(Finding { column: column.map(str::to_owned), ..Finding::new(self.verdict, detail) });
    }

    fn of(self, file: &LiveFile) -> Vec<Finding> {
        self.found.into_iter().map(|finding| finding.file(&file.key.path)).collect()
    }
}

/// Holds every sealed member of an `add` action against the found one.
pub(super) fn compare_live(kind: TableKind, schema: &TableSchema, sealed: &LiveFile, found: &LiveFile) -> Vec<Finding> {
    if is_as_sealed(kind, sealed, found, false) {
        return Vec::new();
    }
    let found = &normal_live(kind, found);
    let verdict = if kind == TableKind::Delta { Verdict::Forged } else { Verdict::Modified };
    let mut differences = Differences { verdict, schema, found: Vec::new() };
    compare_constants(sealed, found, &mut differences);
    if sealed.modification_time_ms != found.modification_time_ms {
        differences.add(None, "modificationTime", &json!(sealed.modification_time_ms), &json!(found.modification_time_ms));
    }
    if sealed.deletion_vector != found.deletion_vector {
        differences.add(None, "deletion vector", &json!(sealed.deletion_vector), &json!(found.deletion_vector));
    }
    for name in sealed.other.keys().chain(found.other.keys()).collect::<BTreeSet<_>>() {
        if sealed.other.get(name) != found.other.get(name) {
            differences.add(None, name, &json!(sealed.other.get(name)), &json!(found.other.get(name)));
        }
    }
    // A checkpoint may leave statistics out, which hides nothing: rows are then read to be counted.
    if let Some(stats) = &found.stats
        && found.stats != sealed.stats
    {
        let same = |_: &str, path: &str, sealed: &Value, found: &Value, schema: &TableSchema| same_bound(sealed, found, path, schema);
        compare_stats(sealed.stats.as_deref().unwrap_or(&Value::Null), stats, &mut differences, same);
    }
    differences.of(sealed)
}

/// What stays as it is for as long as a file is live, whatever rows of it are deleted.
fn compare_constants(sealed: &LiveFile, found: &LiveFile, differences: &mut Differences<'_>) {
    if sealed.size != found.size {
        differences.add(None, "size", &json!(sealed.size), &json!(found.size));
    }
    for name in sealed.partition_values.keys().chain(found.partition_values.keys()).collect::<BTreeSet<_>>() {
        let value = |file: &LiveFile| json!(file.partition_values.get(name).cloned().flatten());
        if value(sealed) != value(found) {
            differences.add(Some(name), "partition value", &value(sealed), &value(found));
        }
    }
}

/// Holds each statistic that is found against the sealed one. What is left out hides nothing.
fn compare_stats(
    sealed: &Value,
    found: &Value,
    differences: &mut Differences<'_>,
    agrees: impl Fn(&str, &str, &Value, &Value, &TableSchema) -> bool,
) {
    let Some(members) = found.as_object() else {
        if !found.is_null() {
            differences.add(None, "statistics", sealed, found);
        }
        return;
    };
    for (name, member) in members {
        let before = sealed.get(name).unwrap_or(&Value::Null);
        if before == member {
            continue;
        }
        let known = leaves(before);
        for (path, value) in leaves(member) {
            let before = known.get(&path).unwrap_or(&Value::Null);
            let is_bound = matches!(name.as_str(), "minValues" | "maxValues");
            if *before != value && !(is_bound && agrees(name, &path, before, &value, differences.schema)) {
                let column = Some(path.as_str()).filter(|path| !path.is_empty());
                differences.add(column, &format!("statistics: {name}"), before, &value);
            }
        }
    }
}

/// A sealed file that a later commit gives another deletion vector: its bytes, size, place and rows are as they were, and its statistics may
/// be wide, but may hide nothing.
pub(super) fn compare_other_vector(schema: &TableSchema, sealed: &LiveFile, found: &LiveFile) -> Vec<Finding> {
    let found = &normal_live(TableKind::Delta, found);
    let mut differences = Differences { verdict: Verdict::Forged, schema, found: Vec::new() };
    compare_constants(sealed, found, &mut differences);
    if let (Some(before), Some(stats)) = (&sealed.stats, &found.stats) {
        let stated = |stats: &Value, name: &str| stats.get(name).cloned().unwrap_or_default();
        let (rows, now) = (stated(before, "numRecords"), stated(stats, "numRecords"));
        if !rows.is_null() && !now.is_null() && rows != now {
            differences.add(None, "statistics: numRecords", &rows, &now);
        }
        for (name, is_min) in [("minValues", true), ("maxValues", false)] {
            let known = leaves(&stated(before, name));
            for (path, value) in leaves(&stated(stats, name)) {
                if let Some(before) = known.get(&path).filter(|before| !is_as_wide(&value, before, is_min, &path, schema)) {
                    differences.add(Some(&path), &format!("statistics: {name}"), before, &value);
                }
            }
        }
    }
    differences.of(sealed)
}

/// Sealed files that are live with another deletion vector than the sealed one.
pub(super) fn compare_other_vectors(snapshot: &TableSnapshot, sealed: &SealedTable) -> Vec<Finding> {
    let with_other = snapshot.files.iter().filter(|(key, _)| !sealed.files.contains_key(*key));
    let known = with_other.filter_map(|(key, live)| Some((live, sealed.file_at(&key.path)?)));
    known.flat_map(|(live, file)| compare_other_vector(&snapshot.schema, &file.live, live)).collect()
}

/// Readers prune by a checkpoint's typed statistics and partition values: they must say what the text says, which is compared elsewhere.
pub(super) fn compare_typed(snapshot: &TableSnapshot) -> Vec<Finding> {
    let mut found = Vec::new();
    for (key, typed) in &snapshot.typed {
        let Some(live) = snapshot.files.get(key) else { continue };
        let mut differences = Differences { verdict: Verdict::Forged, schema: &snapshot.schema, found: Vec::new() };
        if let (Some(stats), Some(text)) = (&typed.stats, &live.stats) {
            let same = |_: &str, path: &str, text: &Value, typed: &Value, schema: &TableSchema| same_bound(text, typed, path, schema);
            compare_stats(text, stats, &mut differences, same);
        }
        let values = typed.partition_values.as_ref().and_then(Value::as_object);
        for (name, value) in values.into_iter().flatten() {
            let text = live.partition_values.get(name).cloned().flatten();
            if !same_partition_value(value, text.as_deref(), name, &snapshot.schema) {
                differences.add(Some(name), "partition value", &json!(text), value);
            }
        }
        for finding in differences.of(live) {
            let detail = format!("the checkpoint says two things of the file, in text (sealed) and typed (found): {}", finding.detail);
            found.push(Finding { detail, ..finding });
        }
    }
    found
}

/// What a later commit changes of the table's head, by name: for people.
pub(super) fn head_changes(before: &Value, after: &Value) -> Vec<String> {
    let map = |value: &Value| -> BTreeMap<String, Value> {
        value.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let configuration = |value: &Value| map(value.get("configuration").unwrap_or(&Value::Null));
    let (a, b) = (configuration(before), configuration(after));
    let mut changes = Vec::new();
    for name in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
        let text =
            |value: Option<&Value>| value.map_or_else(|| "unset".to_owned(), |v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
        if a.get(name) != b.get(name) {
            changes.push(format!("property {name}: {} became {}", text(a.get(name)), text(b.get(name))));
        }
    }
    let schema =
        |value: &Value| value.get("schemaString").and_then(Value::as_str).and_then(|text| serde_json::from_str::<Value>(text).ok());
    changes.extend(schema_changes(schema(before).as_ref(), schema(after).as_ref()));
    for name in ["partitionColumns", "id", "format"] {
        if canonical::normal(before.get(name).unwrap_or(&Value::Null)) != canonical::normal(after.get(name).unwrap_or(&Value::Null)) {
            changes.push(format!("{name} changed"));
        }
    }
    changes
}

/// Columns that came, went, or are now read from elsewhere or as something else.
fn schema_changes(before: Option<&Value>, after: Option<&Value>) -> Vec<String> {
    let fields = |schema: Option<&Value>| -> BTreeMap<String, Value> {
        let fields = schema.and_then(|schema| schema.get("fields")).and_then(Value::as_array).cloned().unwrap_or_default();
        fields.into_iter().filter_map(|field| Some((field.get("name")?.as_str()?.to_owned(), field))).collect()
    };
    let (a, b) = (fields(before), fields(after));
    let mut changes = Vec::new();
    for name in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
        match (a.get(name), b.get(name)) {
            (Some(_), None) => changes.push(format!("schema: column {name} is gone")),
            (None, Some(_)) => changes.push(format!("schema: column {name} is new")),
            (Some(a), Some(b)) => {
                let stored = |field: &Value| field.pointer("/metadata/delta.columnMapping.physicalName").cloned();
                if stored(a) != stored(b) {
                    changes.push(format!("schema: column {name} is read from another stored column than before"));
                }
                if a.get("type") != b.get("type") {
                    changes.push(format!("schema: column {name} has another type"));
                }
            }
            (None, None) => {}
        }
    }
    changes
}
