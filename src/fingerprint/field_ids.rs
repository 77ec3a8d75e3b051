//! Column mapping by id: the ids of a file's columns, held against their names.
//!
//! A table that maps columns by id is read by the ids in a file's schema by some engines, and by the physical names by others (ours, and here).
//! Where a file's ids say something else than its names, one of them sees nulls, or another column.

use parquet::schema::types::Type;

use crate::error::{Error, ErrorKind, Result};
use crate::table::{ColumnType, TableColumn, TableSchema};

/// Fails when the columns of a file are others by their ids than by their names. A file without ids is read by names, or by nobody.
///
/// # Errors
/// [`ErrorKind::Unsupported`], naming the column.
pub(super) fn check(file: &Type, table: &TableSchema) -> Result<()> {
    if !table.by_id {
        return Ok(());
    }
    let in_files: Vec<&TableColumn> = table.columns.iter().filter(|column| !table.partition_columns.contains(&column.name)).collect();
    check_fields(file, &in_files)
}

fn check_fields(group: &Type, columns: &[&TableColumn]) -> Result<()> {
    let fields = fields(group);
    let id = |field: &Type| Some(field.get_basic_info()).filter(|info| info.has_id()).map(|info| i64::from(info.id()));
    let any_ids = fields.iter().any(|field| id(field).is_some());
    for column in columns {
        let named = fields.iter().find(|field| field.name() == column.physical_name);
        if let (true, Some(wanted)) = (any_ids, column.id) {
            let with_id: Vec<&str> = fields.iter().filter(|field| id(field) == Some(wanted)).map(|field| field.name()).collect();
            let agrees = match named {
                Some(named) => with_id == [named.name()],
                None => with_id.is_empty(),
            };
            if !agrees {
                return Err(differs(column, wanted, &with_id, named.map(|named| id(named))));
            }
        }
        if let Some(named) = named {
            check_type(named, &column.data_type)?;
        }
    }
    Ok(())
}

fn check_type(field: &Type, kind: &ColumnType) -> Result<()> {
    match kind {
        ColumnType::Struct(columns) => check_fields(field, &columns.iter().collect::<Vec<_>>()),
        ColumnType::List(item) => {
            // A list is a group of a repeated group of the item; older writers leave out the group in the middle.
            let repeated = fields(field).first();
            let found = repeated.and_then(|repeated| fields(repeated).first().filter(|_| fields(repeated).len() == 1)).or(repeated);
            found.map_or(Ok(()), |found| check_type(found, item))
        }
        ColumnType::Map(key, value) => {
            let entry = fields(field).first().map(|entry| fields(entry)).unwrap_or_default();
            entry.iter().zip([key, value]).try_for_each(|(found, kind)| check_type(found, kind))
        }
        ColumnType::Primitive(_) | ColumnType::Variant => Ok(()),
    }
}

fn fields(of: &Type) -> &[std::sync::Arc<Type>] {
    if of.is_group() { of.get_fields() } else { &[] }
}

#[expect(clippy::option_option, reason = "no column of the name, and one without an id, are two things")]
fn differs(column: &TableColumn, id: i64, with_id: &[&str], named: Option<Option<i64>>) -> Error {
    let what = "the table maps columns by id, and a file's ids name other columns than its names do: readers by id and readers by name would see \
                different values; write the file anew with the ids and physical names of the table";
    let error =
        Error::new(ErrorKind::Unsupported, what).with("column", &column.name).with("physical name", &column.physical_name).with("id", id);
    let error = if with_id.is_empty() { error } else { error.with("columns of this id", with_id.join(", ")) };
    match named {
        None => error,
        Some(None) => error.with("id in the file", "none"),
        Some(Some(found)) => error.with("id in the file", found),
    }
}

#[cfg(test)]
mod tests {
    use parquet::schema::parser::parse_message_type;

    use super::*;

    fn table(mode: &str) -> TableSchema {
        let field = |name: &str, id: u32, kind: &str| {
            format!(
                r#"{{"name":"{name}","type":{kind},"nullable":true,"metadata":{{"delta.columnMapping.id":{id},"delta.columnMapping.physicalName":"col_{name}"}}}}"#
            )
        };
        let inner = format!(r#"{{"type":"struct","fields":[{}]}}"#, field("c", 4, "\"long\""));
        let list = format!(r#"{{"type":"array","elementType":{inner},"containsNull":true}}"#);
        let columns = [
            field("a", 1, "\"long\""),
            field("b", 2, "\"string\""),
            field("s", 3, &inner),
            field("l", 5, &list),
            field("p", 6, "\"long\""),
        ];
        let text = format!(r#"{{"type":"struct","fields":[{}]}}"#, columns.join(","));
        let metadata = serde_json::json!({
            "schemaString": text, "partitionColumns": ["p"], "configuration": {"delta.columnMapping.mode": mode},
        });
        TableSchema::from_metadata(&metadata).unwrap()
    }

    fn checked(columns: &str) -> Result<()> {
        let file = parse_message_type(&format!("message m {{ {columns} }}")).unwrap();
        check(&file, &table("name")).unwrap();
        check(&file, &table("id"))
    }

    #[test]
    fn ids_and_names_agree_or_the_file_is_refused() {
        let a = "optional int64 col_a = 1;";
        for fine in [
            a.to_owned(),
            "optional int64 col_a; optional binary col_b;".to_owned(),
            format!("{a} optional binary col_b = 2; optional int64 col_p = 9; optional int64 other = 77;"),
            format!("{a} optional group col_s = 3 {{ optional int64 col_c = 4; }}"),
            format!(
                "{a} optional group col_l (LIST) = 5 {{ repeated group list {{ optional group element {{ optional int64 col_c = 4; }} }} }}"
            ),
        ] {
            checked(&fine).unwrap_or_else(|e| panic!("{fine}: {e}"));
        }
        for (bad, column) in [
            ("optional int64 other = 1;".to_owned(), "column: a"),
            ("optional int64 col_a = 7;".to_owned(), "column: a"),
            (format!("{a} optional int64 more = 1;"), "column: a"),
            (format!("{a} optional binary col_b;"), "column: b"),
            ("optional int64 col_a = 2; optional binary col_b = 1;".to_owned(), "column: a"),
            (format!("{a} optional group col_s = 3 {{ optional int64 other = 4; }}"), "column: c"),
            (
                format!(
                    "{a} optional group col_l (LIST) = 5 {{ repeated group list {{ optional group element {{ optional int64 x = 4; }} }} }}"
                ),
                "column: c",
            ),
        ] {
            let error = checked(&bad).unwrap_err();
            assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains(column), "{bad}: {error}");
        }
    }
}
