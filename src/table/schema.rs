//! The columns of a table, by physical name, with Delta's types.

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};

/// A column or a nested field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    /// The name that people see.
    pub name: String,
    /// The name under which files store it (column mapping); else the same.
    pub physical_name: String,
    /// Its id (column mapping), which files may state.
    pub id: Option<i64>,
    /// Its type.
    pub data_type: ColumnType,
    /// Whether nulls are allowed.
    pub nullable: bool,
}

/// Delta's types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnType {
    /// A scalar.
    Primitive(PrimitiveType),
    /// A struct.
    Struct(Vec<TableColumn>),
    /// A list.
    List(Box<ColumnType>),
    /// A map.
    Map(Box<ColumnType>, Box<ColumnType>),
    /// A semi-structured value: a struct of binary `metadata` and `value`, perhaps shredded.
    Variant,
}

/// Delta's scalar types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrimitiveType {
    /// UTF-8 text.
    String,
    /// 1 to 8 bytes of signed integer: one domain.
    Integer,
    /// 4 bytes of IEEE 754.
    Float,
    /// 8 bytes of IEEE 754.
    Double,
    /// A decimal of (precision, scale).
    Decimal(u8, i8),
    /// True or false.
    Boolean,
    /// Bytes.
    Binary,
    /// Days since 1970-01-01.
    Date,
    /// An instant.
    Timestamp,
    /// A time of day and date without a zone.
    TimestampNtz,
}

/// The columns of a table and which of them partition it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableSchema {
    /// Top-level columns in order. Empty for a folder of Parquet, whose files say it themselves.
    pub columns: Vec<TableColumn>,
    /// Logical names of the partition columns, in order.
    pub partition_columns: Vec<String>,
    /// Whether columns are mapped by id.
    pub by_id: bool,
}

impl TableSchema {
    /// Reads the columns, the partition columns and the way in which columns are mapped out of a `metaData` action.
    ///
    /// # Errors
    /// Those of [`Self::from_delta`]; [`ErrorKind::Corrupt`] without a schema.
    pub(crate) fn from_metadata(metadata: &Value) -> Result<Self> {
        let schema = metadata.get("schemaString").and_then(Value::as_str);
        let schema = schema.ok_or_else(|| Error::new(ErrorKind::Corrupt, "the log states no schemaString"))?;
        let columns = metadata.get("partitionColumns").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let columns = columns.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let mode = metadata.pointer("/configuration/delta.columnMapping.mode").and_then(Value::as_str);
        Ok(Self { by_id: mode == Some("id"), ..Self::from_delta(schema, columns)? })
    }

    /// Reads `metaData.schemaString` (nested types, column mapping, char and varchar).
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when it is not Delta's schema JSON; [`ErrorKind::Unsupported`] for a type that is not known.
    pub fn from_delta(schema_string: &str, partition_columns: Vec<String>) -> Result<Self> {
        let value: Value = super::json::parse(schema_string.as_bytes())
            .map_err(|e| Error::new(ErrorKind::Corrupt, "the table's schemaString is not JSON").caused_by(e))?;
        let columns = struct_fields(&value, 0)?;
        Ok(Self { columns, partition_columns, by_id: false })
    }

    /// The top-level column with this logical name.
    pub fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The top-level column with this physical name.
    pub fn physical_column(&self, physical_name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|column| column.physical_name == physical_name)
    }
}

/// The columns of `new`, and the fields of its structs, that `old` has not: by the physical names on the way to each. What lies within lists and
/// maps is left out.
pub fn added_columns(old: &[TableColumn], new: &[TableColumn]) -> Vec<Vec<String>> {
    fn collect(old: &[TableColumn], new: &[TableColumn], above: &[String], found: &mut Vec<Vec<String>>) {
        for column in new {
            let path: Vec<String> = above.iter().chain([&column.physical_name]).cloned().collect();
            match (old.iter().find(|known| known.physical_name == column.physical_name).map(|known| &known.data_type), &column.data_type) {
                (None, _) => found.push(path),
                (Some(ColumnType::Struct(old)), ColumnType::Struct(new)) => collect(old, new, &path, found),
                (Some(_), _) => {}
            }
        }
    }
    let mut found = Vec::new();
    collect(old, new, &[], &mut found);
    found
}

/// Deeper schemas than this are refused, so that no recursion here is driven by stored bytes.
const DEPTH_LIMIT: usize = 100;

fn corrupt(what: &str, at: &Value) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the table's schema has {what}")).with("at", at)
}

fn struct_fields(value: &Value, depth: usize) -> Result<Vec<TableColumn>> {
    let fields = value.get("fields").and_then(Value::as_array).ok_or_else(|| corrupt("a struct without fields", value))?;
    fields.iter().map(|field| column(field, depth)).collect()
}

fn column(field: &Value, depth: usize) -> Result<TableColumn> {
    let name = field.get("name").and_then(Value::as_str).ok_or_else(|| corrupt("a field without a name", field))?;
    let physical = field.pointer("/metadata/delta.columnMapping.physicalName").and_then(Value::as_str).unwrap_or(name);
    let data_type = field.get("type").ok_or_else(|| corrupt("a field without a type", field))?;
    Ok(TableColumn {
        name: name.to_owned(),
        physical_name: physical.to_owned(),
        id: field.pointer("/metadata/delta.columnMapping.id").and_then(Value::as_i64),
        data_type: column_type(data_type, depth)?,
        nullable: field.get("nullable").and_then(Value::as_bool).unwrap_or(true),
    })
}

fn column_type(value: &Value, depth: usize) -> Result<ColumnType> {
    if depth > DEPTH_LIMIT {
        return Err(Error::new(ErrorKind::Corrupt, "the table's schema is nested too deeply").with("limit", DEPTH_LIMIT));
    }
    if let Some(name) = value.as_str() {
        return primitive(name).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "the table's schema has a type that this version does not know").with("type", name)
        });
    }
    let part = |key: &str| value.get(key).ok_or_else(|| corrupt("an incomplete type", value)).and_then(|v| column_type(v, depth + 1));
    match value.get("type").and_then(Value::as_str) {
        Some("struct") => Ok(ColumnType::Struct(struct_fields(value, depth + 1)?)),
        Some("array") => Ok(ColumnType::List(Box::new(part("elementType")?))),
        Some("map") => Ok(ColumnType::Map(Box::new(part("keyType")?), Box::new(part("valueType")?))),
        _ => Err(corrupt("a type that is not a name, struct, array or map", value)),
    }
}

fn primitive(name: &str) -> Option<ColumnType> {
    let scalar = match name {
        "string" => PrimitiveType::String,
        "byte" | "short" | "integer" | "long" => PrimitiveType::Integer,
        "float" => PrimitiveType::Float,
        "double" => PrimitiveType::Double,
        "boolean" => PrimitiveType::Boolean,
        "binary" => PrimitiveType::Binary,
        "date" => PrimitiveType::Date,
        "timestamp" => PrimitiveType::Timestamp,
        "timestamp_ntz" => PrimitiveType::TimestampNtz,
        "variant" => return Some(ColumnType::Variant),
        "decimal" => PrimitiveType::Decimal(10, 0),
        _ => {
            let (kind, arguments) = name.strip_suffix(')')?.split_once('(')?;
            match kind.trim() {
                "char" | "varchar" => PrimitiveType::String,
                "decimal" => {
                    let (precision, scale) = arguments.split_once(',')?;
                    PrimitiveType::Decimal(precision.trim().parse().ok()?, scale.trim().parse().ok()?)
                }
                _ => return None,
            }
        }
    };
    Some(ColumnType::Primitive(scalar))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_and_mapped_columns_are_read() {
        let text = r#"{"type":"struct","fields":[
            {"name":"a","type":"short","nullable":false,"metadata":{"delta.columnMapping.physicalName":"col-1","delta.columnMapping.id":1}},
            {"name":"d","type":"decimal(12, 3)","nullable":true,"metadata":{}},
            {"name":"v","type":"varchar(10)","nullable":true},
            {"name":"s","type":{"type":"struct","fields":[{"name":"l","type":{"type":"array","elementType":"timestamp_ntz","containsNull":true},"nullable":true,"metadata":{}}]},"nullable":true,"metadata":{}},
            {"name":"m","type":{"type":"map","keyType":"string","valueType":"variant","valueContainsNull":true},"nullable":true,"metadata":{}}]}"#;
        let schema = TableSchema::from_delta(text, vec![]).unwrap();
        let types: Vec<_> = schema.columns.iter().map(|c| c.data_type.clone()).collect();
        assert_eq!(schema.columns[0].physical_name, "col-1");
        assert_eq!((schema.columns[0].id, schema.columns[1].id), (Some(1), None));
        assert!(!schema.columns[0].nullable);
        assert_eq!(types[1], ColumnType::Primitive(PrimitiveType::Decimal(12, 3)));
        assert_eq!(types[2], ColumnType::Primitive(PrimitiveType::String));
        let ColumnType::Struct(fields) = &types[3] else { panic!("{types:?}") };
        assert_eq!(fields[0].data_type, ColumnType::List(Box::new(ColumnType::Primitive(PrimitiveType::TimestampNtz))));
        assert!(matches!(&types[4], ColumnType::Map(_, value) if **value == ColumnType::Variant));
    }

    #[test]
    fn what_is_not_a_schema_is_refused() {
        let kind = |text: &str| TableSchema::from_delta(text, vec![]).unwrap_err().kind();
        assert_eq!(kind("{"), ErrorKind::Corrupt);
        assert_eq!(kind("{}"), ErrorKind::Corrupt);
        assert_eq!(kind(r#"{"fields":[{"name":"a","type":"quaternion"}]}"#), ErrorKind::Unsupported);
        let mut deep = r#""long""#.to_owned();
        for _ in 0..120 {
            deep = format!(r#"{{"type":"array","elementType":{deep}}}"#);
        }
        assert!(TableSchema::from_delta(&format!(r#"{{"fields":[{{"name":"a","type":{deep}}}]}}"#), vec![]).is_err());
    }
}
