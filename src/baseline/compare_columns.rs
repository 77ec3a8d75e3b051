//! How the columns of a table became others than the sealed ones.

use object_store::ObjectStore;
use object_store::path::Path;

use super::sealed::SealedTable;
use super::state;
use crate::error::Result;
use crate::table::{self, ColumnType, TableColumn, TableKind, TableSchema, TableSnapshot};

/// What of a table's columns is not as it was sealed, for people; `None` when all of it is, whatever columns came besides.
///
/// Cost: none where schema and metadata are the sealed ones; else the log is read again, at the sealed version.
///
/// # Errors
/// Those of a store that may answer when it is asked again.
pub async fn changed_columns(
    store: &dyn ObjectStore,
    root: &Path,
    snapshot: &TableSnapshot,
    sealed: &SealedTable,
) -> Result<Option<String>> {
    if snapshot.kind != TableKind::Delta || is_sealed_head(snapshot, sealed) {
        return Ok(None);
    }
    match table::load(store, root, Some(sealed.statement.state.version)).await {
        Ok(then) if is_sealed_head(&then, sealed) => Ok(difference(&then, snapshot)),
        Err(e) if e.is_retryable() => Err(e),
        _ => Ok(Some("what it was cannot be told, because the log no longer says it as it was sealed".to_owned())),
    }
}

fn is_sealed_head(snapshot: &TableSnapshot, sealed: &SealedTable) -> bool {
    let (head, stated) = (state::head_digests(snapshot), &sealed.statement.state);
    head.schema == stated.schema && head.metadata == stated.metadata
}

fn difference(then: &TableSnapshot, now: &TableSnapshot) -> Option<String> {
    let mut told: Vec<String> = then.schema.columns.iter().filter_map(|column| became(column, &then.schema, &now.schema)).collect();
    let partitioned = |of: &TableSnapshot| of.schema.partition_columns.join(", ");
    if then.schema.partition_columns != now.schema.partition_columns {
        told.push(format!("it was partitioned by ({}), and is by ({})", partitioned(then), partitioned(now)));
    }
    let (before, after) = (mapping(then), mapping(now));
    if before != after {
        told.push(format!("its column mapping was {before}, and is {after}"));
    }
    (!told.is_empty()).then(|| told.join(", "))
}

fn mapping(of: &TableSnapshot) -> &str {
    of.metadata.pointer("/configuration/delta.columnMapping.mode").and_then(|mode| mode.as_str()).unwrap_or("none")
}

fn became(column: &TableColumn, then: &TableSchema, now: &TableSchema) -> Option<String> {
    let name = &column.name;
    let Some(same_name) = now.column(name) else {
        return Some(match now.physical_column(&column.physical_name) {
            Some(renamed) => format!("column {name} is called {}", renamed.name),
            None => format!("column {name} is gone"),
        });
    };
    if same_name.physical_name != column.physical_name {
        let physical = &same_name.physical_name;
        let owner = then.physical_column(physical).map_or(physical, |owner| &owner.name);
        return Some(format!("column {name} is what was {owner}"));
    }
    (!extends(&column.data_type, &same_name.data_type)).then(|| format!("column {name} has another type"))
}

/// Whether what is of type `before` is read as it was by whoever reads `after`: fields may have come besides.
fn extends(before: &ColumnType, after: &ColumnType) -> bool {
    match (before, after) {
        (ColumnType::Struct(before), ColumnType::Struct(after)) => before.iter().all(|field| {
            let same = |other: &&TableColumn| other.name == field.name && other.physical_name == field.physical_name;
            after.iter().find(same).is_some_and(|other| extends(&field.data_type, &other.data_type))
        }),
        (ColumnType::List(before), ColumnType::List(after)) => extends(before, after),
        (ColumnType::Map(key, value), ColumnType::Map(other_key, other_value)) => extends(key, other_key) && extends(value, other_value),
        _ => before == after,
    }
}
