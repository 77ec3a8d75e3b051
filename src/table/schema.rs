//! The columns of a table, by physical name, with Delta's types.

/// A column or a nested field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    /// The name that people see.
    pub name: String,
    /// The name under which files store it (column mapping); else the same.
    pub physical_name: String,
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
    /// 4 or 8 bytes of IEEE 754.
    Float,
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
}
