//! Statistics that say one thing to a strict parser and another, or nothing, to a query engine's.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, ListArray, MapBuilder, PrimitiveArray,
    RecordBatch, StringArray, StringBuilder, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Float16Type, Int64Type};
use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use serde_json::json;

use super::super::{FileContext, fingerprint};
use super::*;
use crate::table::{self, Stats};

const SCHEMA: &str = r#"{"fields":[
    {"name":"id","type":"long"},{"name":"s","type":"string"},{"name":"f","type":"double"},{"name":"nan","type":"double"},
    {"name":"d","type":"date"},{"name":"t","type":"timestamp"},{"name":"dec","type":"decimal(10,2)"},{"name":"b","type":"boolean"},
    {"name":"bin","type":"binary"},{"name":"new","type":"long"},
    {"name":"in","type":{"type":"struct","fields":[{"name":"x","type":"long"}]}},
    {"name":"l","type":{"type":"array","elementType":"long","containsNull":true}},
    {"name":"m","type":{"type":"map","keyType":"string","valueType":"string","valueContainsNull":true}}]}"#;

/// Two rows; of each column, both values, or the value and a null.
async fn print() -> (FileFingerprint, TableSchema) {
    let at = |micros: i64| 1_577_836_800_000_000 + micros;
    let inner: ArrayRef = Arc::new(Int64Array::from(vec![3, 4]));
    let fields = vec![Arc::new(Field::new("x", DataType::Int64, true))];
    let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    maps.append(true).unwrap();
    maps.append(false).unwrap();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![5, 1000]))),
        ("s", Arc::new(StringArray::from(vec!["a", "é"]))),
        ("f", Arc::new(Float64Array::from(vec![1.5, f64::NAN]))),
        ("nan", Arc::new(Float64Array::from(vec![Some(f64::NAN), None]))),
        ("d", Arc::new(Date32Array::from(vec![18_262, 18_263]))),
        ("t", Arc::new(TimestampMicrosecondArray::from(vec![at(0), at(1_500_250)]).with_timezone("UTC"))),
        ("dec", Arc::new(Decimal128Array::from(vec![1230, -5]).with_precision_and_scale(10, 2).unwrap())),
        ("b", Arc::new(BooleanArray::from(vec![false, true]))),
        ("bin", Arc::new(BinaryArray::from(vec![b"a".as_slice(), b"b"]))),
        ("in", Arc::new(StructArray::new(fields.into(), vec![inner], None))),
        ("l", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![None, None, None]), None]))),
        ("m", Arc::new(maps.finish())),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let (store, location) = (InMemory::new(), Path::from("f.parquet"));
    store.put(&location, bytes.into()).await.unwrap();
    let schema = TableSchema::from_delta(SCHEMA, vec![]).unwrap();
    let values = BTreeMap::new();
    let context =
        FileContext { schema: &schema, partition_values: &values, row_key: [1; 32], rows: true, profiles: false, deletion_vector: None };
    let found = fingerprint(&store, &location, None, &context, &|_| {}).await.unwrap();
    assert_eq!(found.footer_lies, []);
    (found, schema)
}

fn live(stats: Stats) -> LiveFile {
    LiveFile {
        key: table::FileKey { path: "f.parquet".into(), deletion_vector: None },
        raw_path: "f.parquet".into(),
        location: None,
        size: 0,
        partition_values: BTreeMap::new(),
        stats: Some(stats),
        deletion_vector: None,
        other: BTreeMap::new(),
        modification_time_ms: 0,
        added_in: None,
    }
}

/// `{"minValues":{"id":5}}` from `minValues`, `id`, `5`.
fn one(member: &str, column: &str, value: &str) -> Stats {
    Stats::of_text(&format!("{{\"numRecords\":2,\"{member}\":{{\"{column}\":{value}}}}}"))
}

#[tokio::test]
async fn what_honest_writers_write_is_no_lie() {
    let (found, schema) = print().await;
    let lies = |stats| check_statistics(&live(stats), &found, &schema);
    let honest = r#"{"numRecords":2,
        "minValues":{"id":5,"s":"a","f":1.5,"nan":"NaN","d":"2020-01-01","t":"2020-01-01T00:00:00.000Z","dec":-0.05,"b":false,"bin":"a","in":{"x":3}},
        "maxValues":{"id":1000,"s":"é","f":"NaN","nan":"NaN","d":"2020-01-02","t":"2020-01-01T00:00:01.500Z","dec":12.30,"b":true,"bin":7,"in":{"x":4}},
        "nullCount":{"id":0,"s":0,"f":0,"nan":1,"d":0,"t":0,"dec":0,"b":0,"bin":0,"new":2,"in":{"x":0},"l":1,"m":1},"tightBounds":true}"#;
    assert_eq!(lies(Stats::of_text(honest)), []);
    assert_eq!(lies(Stats::from(serde_json::from_str::<Value>(honest).unwrap())), [], "as a checkpoint states them");
    assert_eq!(lies(Stats::of_text("{}")), []);
    let null = r#"{"numRecords":null,"minValues":{"id":null,"in":null},"maxValues":null,"nullCount":{"id":null},"tightBounds":null}"#;
    assert_eq!(lies(Stats::of_text(null)), []);
    for (column, spellings) in [
        (
            "t",
            &[
                "2020-01-01",
                "2020-01-01T00:00:00Z",
                "2020-01-01T02:00:00.000000+02:00",
                "2020-01-01 00:00:00",
                "2019-12-31T16:00:00.000-0800",
            ][..],
        ),
        ("d", &["2020-01-01T00:00:00.000Z", "2020-01-01 00:00:00"]),
        ("dec", &["-0.05", "-5e-2"]),
    ] {
        for spelling in spellings {
            assert_eq!(lies(one("minValues", column, &format!("\"{spelling}\""))), [], "{column} {spelling}");
        }
    }
}

#[tokio::test]
async fn statistics_that_are_no_strict_object_are_a_lie() {
    let (found, schema) = print().await;
    for text in [
        r#"{"numRecords":2,"numRecords":900}"#,
        r#"{"numRecords":2,"num\u0052ecords":900}"#,
        r#"{"numRecords":2,"maxValues":{"id":1000,"id":5}}"#,
        r#"{"numRecords":2}{"numRecords":900}"#,
        "{\"numRecords\":2",
        "[2]",
        "2",
        "null",
        "",
    ] {
        let lies = check_statistics(&live(Stats::of_text(text)), &found, &schema);
        assert_eq!(lies.iter().map(|lie| (lie.what.as_str(), lie.stated.as_str())).collect::<Vec<_>>(), [("statistics", text)]);
    }
    let long = format!("{{\"numRecords\":2,\"numRecords\":3,\"x\":\"{}\"}}", "é".repeat(10_000));
    let lies = check_statistics(&live(Stats::of_text(&long)), &found, &schema);
    assert!(lies[0].stated.len() < 1000 && lies[0].found.contains("numRecords"), "{lies:?}");
    assert_eq!(check_statistics(&live(Stats::from(json!([1]))), &found, &schema).len(), 1);
}

#[tokio::test]
async fn a_value_that_only_some_parsers_understand_is_a_lie() {
    let (found, schema) = print().await;
    let lies = |stats| -> Vec<(String, String)> {
        check_statistics(&live(stats), &found, &schema).into_iter().map(|lie| (lie.what, lie.column)).collect()
    };
    for (member, column, value) in [
        ("minValues", "id", "\"1000\""),
        ("minValues", "id", "\"5\""),
        ("maxValues", "id", "9.1e15"),
        ("minValues", "id", "5.5"),
        ("minValues", "id", "true"),
        ("minValues", "s", "5"),
        ("minValues", "s", "false"),
        ("minValues", "s", "[\"a\"]"),
        ("minValues", "f", "\"NaN\""),
        ("minValues", "f", "\"nan\""),
        ("maxValues", "f", "\"-NaN\""),
        ("minValues", "f", "\"one\""),
        ("minValues", "f", "\"Infinity\""),
        ("minValues", "t", "\"2020-01-01T00:00:00+05\""),
        ("minValues", "t", "\"2020-01-01T00:00:00 America/New_York\""),
        ("minValues", "t", "\"2021-01-01T00:00:00+0500\""),
        ("minValues", "t", "1577836800000000"),
        ("minValues", "t", "\"\""),
        ("minValues", "d", "18262"),
        ("minValues", "d", "\"2020-01-01x\""),
        ("minValues", "d", "\"2020-01-01T23:00:00-05:00\""),
        ("minValues", "dec", "\"-0.0-5\""),
        ("minValues", "dec", "\"\""),
        ("minValues", "dec", "{}"),
        ("minValues", "b", "\"false\""),
        ("minValues", "b", "0"),
        ("nullCount", "id", "\"5\""),
        ("nullCount", "id", "0.0"),
        ("nullCount", "id", "-1"),
        ("nullCount", "new", "0"),
        ("nullCount", "l", "0"),
        ("nullCount", "l", "3"),
        ("nullCount", "l", "{}"),
        ("nullCount", "m", "2"),
        ("nullCount", "in", "0"),
        ("minValues", "in", "7"),
    ] {
        assert_eq!(lies(one(member, column, value)), [(member.to_owned(), column.to_owned())], "{value}");
    }
    for text in [r#"{"numRecords":"2"}"#, r#"{"numRecords":2.0}"#, r#"{"numRecords":-2}"#, r#"{"numRecords":[2]}"#] {
        assert_eq!(lies(Stats::of_text(text)), [("numRecords".to_owned(), String::new())], "{text}");
    }
    for member in ["minValues", "maxValues", "nullCount"] {
        assert_eq!(lies(Stats::of_text(&format!("{{\"{member}\":[]}}"))), [(member.to_owned(), String::new())]);
    }
    assert_eq!(lies(one("minValues", "in", "{\"x\":\"3\"}")), [("minValues".to_owned(), "in.x".to_owned())]);
    // Wide bounds are understood exactly, too.
    let wide = r#"{"numRecords":2,"minValues":{"id":"1"},"nullCount":{"id":"1"},"tightBounds":false}"#;
    assert_eq!(lies(Stats::of_text(wide)).len(), 2);
}

#[tokio::test]
async fn a_cardinality_that_is_no_integer_is_a_lie() {
    let (found, schema) = print().await;
    let deleted = super::super::DeletedRows { rows: 1, sum: crate::digest::MultisetHash::new() };
    let found = FileFingerprint { deleted: Some(deleted), ..found };
    let lies = |cardinality: Value| {
        let vector = json!({"storageType": "u", "pathOrInlineDv": "x", "cardinality": cardinality});
        check_statistics(&LiveFile { stats: None, deletion_vector: Some(vector), ..live(Stats::of_text("{}")) }, &found, &schema).len()
    };
    assert_eq!([json!(1), json!(null), json!(2), json!("1"), json!(1.0)].map(lies), [0, 0, 1, 1, 1]);
}

/// A file of one column in whose footer the bound `old` was replaced by `new`, of the same length.
fn with_bound(column: ArrayRef, old: &[u8], new: &[u8]) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter_with_nullable([("c", column, true)]).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let end = bytes.len() - 8;
    let length = u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap());
    let start = end - usize::try_from(length).unwrap();
    let at: Vec<usize> = (start..end - old.len()).filter(|at| bytes[*at..*at + old.len()] == *old).collect();
    assert!(!at.is_empty(), "the footer states the bound");
    at.into_iter().for_each(|at| bytes[at..at + new.len()].copy_from_slice(new));
    bytes
}

#[tokio::test]
async fn footers_are_held_against_all_that_engines_prune_by() {
    type Half = <Float16Type as ArrowPrimitiveType>::Native;
    let half = |bits: u16| Half::from_bits(bits);
    let floats = || -> ArrayRef { Arc::new(Float64Array::from(vec![1.25, 2.5])) };
    let halves = || -> ArrayRef { Arc::new(PrimitiveArray::<Float16Type>::from_iter_values([half(0xc8d9), half(0x3c01)])) };
    let times = || -> ArrayRef { Arc::new(Time64MicrosecondArray::from(vec![11_000_000_007, 22_000_000_009])) };
    let cases: [(ArrayRef, Vec<u8>, Vec<u8>, &str); 5] = [
        (floats(), 1.25_f64.to_le_bytes().into(), f64::NAN.to_le_bytes().into(), "footer min"),
        (floats(), 2.5_f64.to_le_bytes().into(), (-f64::NAN).to_le_bytes().into(), "footer max"),
        (halves(), 0xc8d9_u16.to_le_bytes().into(), 0xc0d9_u16.to_le_bytes().into(), "footer min"),
        (times(), 11_000_000_007_i64.to_le_bytes().into(), 12_000_000_007_i64.to_le_bytes().into(), "footer min"),
        (times(), 22_000_000_009_i64.to_le_bytes().into(), 21_000_000_009_i64.to_le_bytes().into(), "footer max"),
    ];
    for (column, old, new, what) in cases {
        for (bound, expected) in [(&old, vec![]), (&new, vec![what])] {
            let (store, location) = (InMemory::new(), Path::from("f.parquet"));
            store.put(&location, with_bound(column.clone(), &old, bound).into()).await.unwrap();
            let (schema, values) = (TableSchema::default(), BTreeMap::new());
            let context = FileContext {
                schema: &schema,
                partition_values: &values,
                row_key: [1; 32],
                rows: true,
                profiles: false,
                deletion_vector: None,
            };
            let lies = fingerprint(&store, &location, None, &context, &|_| {}).await.unwrap().footer_lies;
            assert_eq!(lies.iter().map(|lie| lie.what.as_str()).collect::<Vec<_>>(), expected, "{column:?} {lies:?}");
        }
    }
}
