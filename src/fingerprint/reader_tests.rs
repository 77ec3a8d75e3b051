//! What one reader of a file takes for true and another does not: types, pages, bounds.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int64Array, ListArray, RecordBatch, StructArray,
    TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use bytes::Bytes;
use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowWriter, encode_arrow_schema};
use parquet::data_type::ByteArrayType;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::*;
use crate::error::{ErrorKind, Result};
use crate::table::{self, LiveFile, Stats};

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn write(batch: &RecordBatch, options: ArrowWriterOptions) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new_with_options(&mut bytes, batch.schema(), options).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// A file that says of its arrow types what `written` says.
fn write_as(batch: &RecordBatch, written: &Schema) -> Vec<u8> {
    let said = KeyValue::new("ARROW:schema".to_owned(), encode_arrow_schema(written));
    let properties = WriterProperties::builder().set_key_value_metadata(Some(vec![said])).build();
    write(batch, ArrowWriterOptions::new().with_skip_arrow_metadata(true).with_properties(properties))
}

fn table(fields: &str) -> TableSchema {
    TableSchema::from_delta(&format!("{{\"fields\":[{fields}]}}"), vec![]).unwrap()
}

async fn print(bytes: Vec<u8>, schema: &TableSchema) -> Result<FileFingerprint> {
    let (store, location) = (InMemory::new(), Path::from("f.parquet"));
    store.put(&location, bytes.into()).await.unwrap();
    let values = BTreeMap::new();
    let context = FileContext { schema, partition_values: &values, row_key: [1; 32], rows: true, profiles: false, deletion_vector: None };
    fingerprint(&store, &location, None, &context, &|_| {}).await
}

/// Which statistics are lies, with their columns.
async fn lies(columns: Vec<(&str, ArrayRef)>, fields: &str, stats: &str) -> Vec<(String, String)> {
    let schema = table(fields);
    let found = print(write(&batch(columns), ArrowWriterOptions::new()), &schema).await.unwrap();
    let file = LiveFile {
        key: table::FileKey { path: "f.parquet".into(), deletion_vector: None },
        raw_path: "f.parquet".into(),
        location: None,
        size: 0,
        partition_values: BTreeMap::new(),
        stats: Some(Stats::of_text(stats)),
        deletion_vector: None,
        other: BTreeMap::new(),
        modification_time_ms: 0,
        added_in: None,
    };
    check_statistics(&file, &found, &schema).into_iter().map(|lie| (lie.what, lie.column)).collect()
}

fn lie(what: &str, column: &str) -> Vec<(String, String)> {
    vec![(what.to_owned(), column.to_owned())]
}

#[tokio::test]
async fn an_arrow_schema_that_gives_values_another_meaning_is_refused() {
    let money: ArrayRef = Arc::new(Decimal128Array::from(vec![1234, 9999]).with_precision_and_scale(10, 2).unwrap());
    let nanos: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1_000_000_000, 5]));
    let rows = batch(vec![("amount", money), ("at", nanos)]);
    let folder = TableSchema::default();
    let says = |amount: DataType, at: DataType| Schema::new(vec![Field::new("amount", amount, true), Field::new("at", at, true)]);
    let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
    for honest in [
        says(DataType::Decimal128(10, 2), nanos.clone()),
        says(DataType::Decimal64(10, 2), DataType::Timestamp(TimeUnit::Nanosecond, Some("+02:00".into()))),
        says(DataType::Decimal256(38, 2), DataType::Dictionary(Box::new(DataType::Int32), Box::new(nanos.clone()))),
    ] {
        print(write_as(&rows, &honest), &folder).await.unwrap();
    }
    for (lying, column) in [
        (says(DataType::Decimal256(10, 4), nanos.clone()), "amount"),
        (says(DataType::Decimal128(10, 2), DataType::Timestamp(TimeUnit::Microsecond, None)), "at"),
    ] {
        let error = print(write_as(&rows, &lying), &folder).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(column), "{error}");
    }
}

/// Replaces `from` by `to` once, in the part of `bytes` that begins at `start`.
fn edit(bytes: &mut [u8], start: usize, from: &[u8], to: &[u8]) {
    let at = start + bytes[start..].windows(from.len()).position(|window| window == from).expect("the bytes are there");
    bytes[at..at + to.len()].copy_from_slice(to);
}

/// A number as Thrift's compact form has it.
fn thrift(number: usize) -> Vec<u8> {
    let (mut number, mut bytes) = (number * 2, Vec::new());
    while number > 0x7f {
        bytes.push(0x80 | u8::try_from(number % 128).unwrap());
        number /= 128;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}

/// The file with a first page that states one row less than it holds.
fn with_a_row_less(mut bytes: Vec<u8>) -> Vec<u8> {
    let reader = SerializedFileReader::new(Bytes::from(bytes.clone())).unwrap();
    let group = reader.get_row_group(0).unwrap();
    let header = group.get_column_page_reader(0).unwrap().peek_next_page().unwrap().unwrap();
    let (values, rows) = (header.num_levels.unwrap(), header.num_rows.expect("a page of version 2"));
    // Values, nulls, rows.
    let stated = |rows| [&[0x15], &thrift(values)[..], &[0x15, 0, 0x15], &thrift(rows)[..]].concat();
    edit(&mut bytes, 0, &stated(rows), &stated(rows - 1));
    bytes
}

#[tokio::test]
async fn pages_that_state_other_rows_than_they_hold_are_refused() {
    let numbers: ArrayRef = Arc::new((0..3000).collect::<Int64Array>());
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>((0..3000_usize).map(|i| Some(vec![i64::try_from(i).ok(); 1 + i % 3])));
    let version_2 = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_dictionary_enabled(false)
        .set_data_page_row_count_limit(1000)
        .set_write_batch_size(100)
        .build();
    let folder = TableSchema::default();
    for column in [numbers, Arc::new(lists)] {
        let options = ArrowWriterOptions::new().with_properties(version_2.clone());
        let honest = write(&batch(vec![("c", column)]), options);
        print(honest.clone(), &folder).await.unwrap();
        let error = print(with_a_row_less(honest), &folder).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Corrupt && format!("{error:?}").contains("another number of rows"), "{error:?}");
    }
}

#[tokio::test]
async fn a_type_that_the_columns_is_not_widened_from_is_refused() {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let wide: ArrayRef = Arc::new(Float64Array::from(vec![0.1, 0.2]));
    let cents: ArrayRef = Arc::new(Decimal128Array::from(vec![1234]).with_precision_and_scale(10, 4).unwrap());
    let date: ArrayRef = Arc::new(Date32Array::from(vec![1]));
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1)])]));
    for (array, name, fits) in [
        (&numbers, r#""timestamp""#, false),
        (&numbers, r#""double""#, true),
        (&numbers, r#""decimal(20,0)""#, true),
        (&numbers, r#""string""#, false),
        (&wide, r#""float""#, false),
        (&wide, r#""double""#, true),
        (&cents, r#""decimal(10,2)""#, false),
        (&cents, r#""decimal(12,4)""#, true),
        (&date, r#""timestamp_ntz""#, true),
        (&date, r#""timestamp""#, false),
        (&lists, r#""long""#, false),
        (&lists, r#"{"type":"struct","fields":[{"name":"element","type":"long"}]}"#, false),
        (&lists, r#"{"type":"array","elementType":"long","containsNull":true}"#, true),
    ] {
        let schema = table(&format!(r#"{{"name":"c","type":{name}}}"#));
        let found = print(write(&batch(vec![("c", array.clone())]), ArrowWriterOptions::new()), &schema).await;
        assert_eq!(found.as_ref().err().map(crate::Error::kind), (!fits).then_some(ErrorKind::Unsupported), "{name} {found:?}");
    }
}

#[tokio::test]
async fn text_whose_mark_was_left_away_has_bounds_of_text() {
    let text = || -> Vec<(&str, ArrayRef)> { vec![("s", Arc::new(BinaryArray::from(vec![b"malicious".as_slice(), b"normal"])))] };
    let field = r#"{"name":"s","type":"string"}"#;
    let none: Vec<(String, String)> = Vec::new();
    assert_eq!(lies(text(), field, r#"{"minValues":{"s":"malicious"},"maxValues":{"s":"normal"}}"#).await, none);
    assert_eq!(lies(text(), field, r#"{"minValues":{"s":"0"},"maxValues":{"s":"7"}}"#).await, lie("maxValues", "s"));
    let bytes: Vec<(&str, ArrayRef)> = vec![("s", Arc::new(BinaryArray::from(vec![[0xff].as_slice()])))];
    assert_eq!(lies(bytes, field, r#"{"minValues":{"s":"a"}}"#).await, lie("minValues", "s"));
}

/// One column of text under the mark of an enumeration, which arrow reads as bytes.
fn enumeration() -> Vec<u8> {
    let schema = Arc::new(parse_message_type("message m { required binary label (ENUM); }").unwrap());
    let properties = WriterProperties::builder().set_dictionary_enabled(false).set_statistics_enabled(EnabledStatistics::Chunk).build();
    let mut bytes = Vec::new();
    let mut file = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
    let mut group = file.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&["malicious".into(), "normal".into()], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    file.close().unwrap();
    bytes
}

#[tokio::test]
async fn footers_of_enumerations_are_held_against_the_data() {
    let folder = TableSchema::default();
    let honest = enumeration();
    let found = print(honest.clone(), &folder).await.unwrap();
    assert_eq!(found.footer_lies, []);
    let end = usize::try_from(found.row_groups[0].bytes.end).unwrap();
    let mut forged = honest;
    edit(&mut forged, end, b"malicious", b"nalicious");
    let told: Vec<String> = print(forged, &folder).await.unwrap().footer_lies.into_iter().map(|lie| lie.what).collect();
    assert!(told.contains(&"footer min".to_owned()), "{told:?}");
}

#[tokio::test]
async fn bounds_that_hide_a_row_by_a_digit_are_lies() {
    let none: Vec<(String, String)> = Vec::new();
    let single = f64::from(0.1_f32);
    let double = || -> Vec<(&str, ArrayRef)> { vec![("x", Arc::new(Float64Array::from(vec![single])))] };
    assert_eq!(lies(double(), r#"{"name":"x","type":"double"}"#, r#"{"maxValues":{"x":0.1}}"#).await, lie("maxValues", "x"));
    let float: Vec<(&str, ArrayRef)> = vec![("x", Arc::new(Float32Array::from(vec![0.1])))];
    assert_eq!(lies(float, r#"{"name":"x","type":"float"}"#, r#"{"minValues":{"x":0.1},"maxValues":{"x":0.1}}"#).await, none);
    let decimal = |digits, value: i128| -> Vec<(&str, ArrayRef)> {
        vec![("x", Arc::new(Decimal128Array::from(vec![value]).with_precision_and_scale(digits, 2).unwrap()))]
    };
    let fifteen = r#"{"name":"x","type":"decimal(15,2)"}"#;
    assert_eq!(lies(decimal(15, 999_999_999_999_999), fifteen, r#"{"maxValues":{"x":9999999999999.99}}"#).await, none);
    assert_eq!(lies(decimal(15, 999_999_999_999_999), fifteen, r#"{"maxValues":{"x":9999999999999.98}}"#).await, lie("maxValues", "x"));
    // Here honest writers round, and no engine is shown the bound.
    let wide = r#"{"name":"x","type":"decimal(20,2)"}"#;
    assert_eq!(lies(decimal(20, 12_345_678_901_234_567_891), wide, r#"{"maxValues":{"x":123456789012345680.0}}"#).await, none);
    assert!(table::may_be_rounded(&table(wide)) && !table::may_be_rounded(&table(fifteen)));
}

#[tokio::test]
async fn a_bound_of_what_does_not_compare_is_a_lie_however_wide_it_says_it_is() {
    let field = r#"{"name":"d","type":"date"}"#;
    // Beyond the calendar that has names for days.
    let far = || -> Vec<(&str, ArrayRef)> { vec![("d", Arc::new(Date32Array::from(vec![i32::MAX, 10])))] };
    assert_eq!(lies(far(), field, r#"{"minValues":{"d":"1970-01-11"},"tightBounds":false}"#).await, []);
    assert_eq!(lies(far(), field, r#"{"maxValues":{"d":"1999-01-01"},"tightBounds":false}"#).await, lie("maxValues", "d"));
    let bytes: Vec<(&str, ArrayRef)> = vec![("s", Arc::new(BinaryArray::from(vec![[0xff].as_slice()])))];
    let wide = r#"{"maxValues":{"s":"a"},"tightBounds":false}"#;
    assert_eq!(lies(bytes, r#"{"name":"s","type":"string"}"#, wide).await, lie("maxValues", "s"));
}

#[tokio::test]
async fn a_column_with_a_dot_in_its_name_is_not_a_field_of_a_struct() {
    let inner: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let fields = vec![Arc::new(Field::new("b", DataType::Int64, true))];
    let columns = || -> Vec<(&str, ArrayRef)> {
        vec![
            ("a", Arc::new(StructArray::new(fields.clone().into(), vec![inner.clone()], None))),
            ("a.b", Arc::new(Int64Array::from(vec![100, 200]))),
        ]
    };
    let schema = r#"{"name":"a","type":{"type":"struct","fields":[{"name":"b","type":"long"}]}},{"name":"a.b","type":"long"}"#;
    let none: Vec<(String, String)> = Vec::new();
    let honest = r#"{"minValues":{"a":{"b":1},"a.b":100},"maxValues":{"a":{"b":2},"a.b":200}}"#;
    assert_eq!(lies(columns(), schema, honest).await, none);
    assert_eq!(lies(columns(), schema, r#"{"minValues":{"a.b":1},"maxValues":{"a.b":200}}"#).await, lie("minValues", "a.b"));
}

/// Engines that map columns by id read another column, or nulls, where readers by names read this one.
#[tokio::test]
async fn ids_of_columns_that_contradict_their_names_are_refused() {
    let with_id = |id: &str| {
        let metadata = [("PARQUET:field_id".to_owned(), id.to_owned())].into();
        let field = Field::new("col", DataType::Int64, true).with_metadata(metadata);
        let rows: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        write(&RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![rows]).unwrap(), ArrowWriterOptions::new())
    };
    let schema = |mode: &str| {
        let ids = r#"{"delta.columnMapping.id":1,"delta.columnMapping.physicalName":"col"}"#;
        let text = format!(r#"{{"type":"struct","fields":[{{"name":"a","type":"long","nullable":true,"metadata":{ids}}}]}}"#);
        let configuration = serde_json::json!({"delta.columnMapping.mode": mode});
        TableSchema::from_metadata(&serde_json::json!({"schemaString": text, "configuration": configuration})).unwrap()
    };
    assert_eq!(print(with_id("1"), &schema("id")).await.unwrap().rows, 2);
    assert_eq!(print(with_id("2"), &schema("name")).await.unwrap().rows, 2);
    let error = print(with_id("2"), &schema("id")).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("maps columns by id"), "{error}");
}
