//! Canonicalisation, placement of changes, lies, and hostile files; and every honest file of the fixtures.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray, StringViewArray, StructArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type};
use object_store::ObjectStoreExt as _;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterVersion};

use super::*;
use crate::error::ErrorKind;
use crate::table;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn write(batch: &RecordBatch, properties: WriterProperties) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn plain() -> WriterProperties {
    WriterProperties::builder().set_dictionary_enabled(false).set_max_row_group_row_count(Some(100)).build()
}

async fn try_print(bytes: Vec<u8>) -> crate::Result<FileFingerprint> {
    let store = InMemory::new();
    let location = Path::from("f.parquet");
    store.put(&location, bytes.into()).await.unwrap();
    let schema = TableSchema::default();
    let values = BTreeMap::new();
    let context =
        FileContext { schema: &schema, partition_values: &values, row_key: [1; 32], rows: true, profiles: true, deletion_vector: None };
    fingerprint(&store, &location, None, &context, &|_| {}).await
}

async fn print(bytes: Vec<u8>) -> FileFingerprint {
    try_print(bytes).await.unwrap()
}

fn total(print: &FileFingerprint) -> MultisetHash {
    let mut sum = MultisetHash::new();
    print.row_groups.iter().for_each(|group| sum.add(&group.sum));
    sum
}

fn sample() -> RecordBatch {
    let numbers: Int64Array = (0..250).map(|i| (i % 7 != 0).then_some(i * 3)).collect();
    let texts: StringArray = (0..250).map(|i| (i % 5 != 0).then(|| format!("text {}", i % 11))).collect();
    let floats: Float64Array = (0..250).map(|i| Some(f64::from(i) / 8.0)).collect();
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>((0..250).map(|i| match i % 3 {
        0 => None,
        1 => Some(vec![]),
        _ => Some(vec![Some(i), None]),
    }));
    batch(vec![("n", Arc::new(numbers)), ("t", Arc::new(texts)), ("f", Arc::new(floats)), ("l", Arc::new(lists))])
}

#[tokio::test]
async fn encoding_compression_row_groups_and_column_order_change_nothing() {
    let sample = sample();
    let one = print(write(&sample, plain())).await;
    assert_eq!(one.row_groups.len(), 3);
    let zstd = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_writer_version(WriterVersion::PARQUET_2_0)
        .set_max_row_group_row_count(Some(33))
        .build();
    let two = print(write(&sample, zstd)).await;
    assert_ne!(one.digest, two.digest);
    assert_eq!(total(&one), total(&two));
    let turned = sample.project(&[3, 1, 0, 2]).unwrap();
    assert_eq!(total(&print(write(&turned, plain())).await), total(&one));
    let same_groups = WriterProperties::builder().set_max_row_group_row_count(Some(100)).build();
    let three = print(write(&sample, same_groups)).await;
    for (a, b) in one.row_groups.iter().zip(&three.row_groups) {
        assert_eq!(a.sum, b.sum);
        for (a, b) in a.columns.iter().zip(&b.columns) {
            assert_eq!(a.values, b.values, "{}", a.name);
        }
    }
}

#[tokio::test]
async fn views_dictionaries_and_wider_integers_change_nothing() {
    let texts = ["x", "y", "x", "a long text that no view inlines"];
    let numbers = [1, -2, 3, 4];
    let first = batch(vec![("t", Arc::new(StringArray::from(texts.to_vec()))), ("n", Arc::new(Int32Array::from(numbers.to_vec())))]);
    let dictionary: DictionaryArray<Int32Type> = texts.into_iter().collect();
    let wide = Int64Array::from(numbers.map(i64::from).to_vec());
    let second = batch(vec![("t", Arc::new(dictionary)), ("n", Arc::new(wide))]);
    let narrow = arrow::array::Int8Array::from(vec![1, -2, 3, 4]);
    let third = batch(vec![("t", Arc::new(StringViewArray::from(texts.to_vec()))), ("n", Arc::new(narrow))]);
    let sums = [print(write(&first, plain())).await, print(write(&second, plain())).await, print(write(&third, plain())).await];
    assert_eq!(total(&sums[0]), total(&sums[1]));
    assert_eq!(total(&sums[0]), total(&sums[2]));
}

#[tokio::test]
async fn a_changed_value_is_placed_in_its_row_group_and_column() {
    let honest = print(write(&sample(), plain())).await;
    let mut floats: Vec<f64> = (0..250).map(|i| f64::from(i) / 8.0).collect();
    floats[142] += 0.25;
    let mut columns = sample().columns().to_vec();
    columns[2] = Arc::new(Float64Array::from(floats));
    let changed = RecordBatch::try_new(sample().schema(), columns).unwrap();
    let found = print(write(&changed, plain())).await;
    for (a, b) in honest.row_groups.iter().zip(&found.row_groups) {
        assert_eq!(a.sum == b.sum, a.ordinal != 1);
        for (x, y) in a.columns.iter().zip(&b.columns) {
            assert_eq!(x.values == y.values, !(a.ordinal == 1 && x.name == "f"), "{} {}", a.ordinal, x.name);
        }
    }
}

#[tokio::test]
async fn what_differs_in_meaning_differs_in_sum() {
    let inner = |value: Option<i64>, valid: bool| -> ArrayRef {
        let field = Arc::new(Field::new("x", DataType::Int64, true));
        let child: ArrayRef = Arc::new(Int64Array::from(vec![value]));
        Arc::new(StructArray::new(vec![field].into(), vec![child], Some(vec![valid].into())))
    };
    let list = |items: Option<Vec<Option<i64>>>| -> ArrayRef { Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([items])) };
    let float = |value: f64| -> ArrayRef { Arc::new(Float64Array::from(vec![value])) };
    let all = [
        inner(None, false),
        inner(None, true),
        inner(Some(0), true),
        list(Some(vec![])),
        list(Some(vec![None])),
        list(Some(vec![None, None])),
        float(0.0),
        float(-0.0),
        float(f64::NAN),
        Arc::new(StringArray::from(vec!["0"])),
        Arc::new(arrow::array::BinaryArray::from(vec![b"0".as_slice()])),
    ];
    let mut sums = Vec::new();
    for array in all {
        sums.push(total(&print(write(&batch(vec![("c", array)]), plain())).await).digest());
    }
    let null_list = total(&print(write(&batch(vec![("c", list(None))]), plain())).await).digest();
    assert_eq!(null_list, sums[0], "a null is a null, whatever its type");
    assert_ne!(sums[0], MultisetHash::new().digest(), "a row of nulls is a row");
    let count = sums.len();
    sums.sort();
    sums.dedup();
    assert_eq!(sums.len(), count);
    let other_nan = f64::from_bits(0xfff8_0000_0000_0001);
    let nans = [
        print(write(&batch(vec![("c", float(f64::NAN))]), plain())).await,
        print(write(&batch(vec![("c", float(other_nan))]), plain())).await,
    ];
    assert_eq!(total(&nans[0]), total(&nans[1]));
}

#[tokio::test]
async fn digests_are_those_of_the_bytes() {
    let bytes = write(&sample(), plain());
    let found = print(bytes.clone()).await;
    assert_eq!(found.digest, Digest::of(&bytes));
    assert_eq!(found.size, bytes.len() as u64);
    let part = |range: &Range<u64>| &bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
    for column in found.row_groups.iter().flat_map(|group| &group.columns) {
        assert_eq!(column.digest, Digest::of(part(&column.bytes)));
    }
    let end = found.row_groups.iter().map(|group| group.bytes.end).max().unwrap();
    assert_eq!(found.footer, Digest::of(part(&(end..found.size))));
    assert!(found.footer_lies.is_empty());
}

#[tokio::test]
async fn damaged_files_are_errors_and_never_panics() {
    let bytes = write(&sample(), plain());
    for cut in [0, 3, 8, 11, 12, bytes.len() / 2, bytes.len() - 1] {
        assert_eq!(try_print(bytes[..cut].to_vec()).await.unwrap_err().kind(), ErrorKind::Corrupt, "cut to {cut}");
    }
    let mut encrypted = bytes.clone();
    let end = encrypted.len();
    encrypted[end - 1] = b'E';
    assert_eq!(try_print(encrypted).await.unwrap_err().kind(), ErrorKind::Unsupported);
    for at in (0..bytes.len()).step_by(37) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x55;
        if let Err(error) = try_print(damaged).await {
            assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported), "{error}");
        }
    }
}

fn live(stats: &str) -> LiveFile {
    LiveFile {
        key: table::FileKey { path: "f.parquet".into(), deletion_vector: None },
        raw_path: "f.parquet".into(),
        location: None,
        size: 0,
        partition_values: BTreeMap::new(),
        stats: Some(table::Stats::of_text(stats)),
        deletion_vector: None,
        other: BTreeMap::new(),
        modification_time_ms: 0,
        added_in: None,
    }
}

use crate::table::LiveFile;

#[tokio::test]
async fn forged_statistics_are_told_from_honest_ones() {
    let found = print(write(&sample(), plain())).await;
    let text = r#"{"fields":[{"name":"n","type":"long"},{"name":"t","type":"string"},{"name":"f","type":"double"}]}"#;
    let schema = TableSchema::from_delta(text, vec![]).unwrap();
    let lies =
        |stats: &str| check_statistics(&live(stats), &found, &schema).into_iter().map(|lie| (lie.what, lie.column)).collect::<Vec<_>>();
    let honest = r#"{"numRecords":250,"minValues":{"n":3,"t":"text","f":-0.0},"maxValues":{"n":747,"t":"text 9","f":31.125},"nullCount":{"n":36,"t":50,"f":0}}"#;
    assert_eq!(lies(honest), []);
    assert_eq!(lies("{}"), []);
    assert_eq!(lies(r#"{"numRecords":249}"#), [("numRecords".into(), String::new())]);
    assert_eq!(lies(r#"{"minValues":{"n":4}}"#), [("minValues".into(), "n".into())]);
    assert_eq!(lies(r#"{"minValues":{"n":2}}"#), [("minValues".into(), "n".into())]);
    assert_eq!(lies(r#"{"minValues":{"n":2},"tightBounds":false}"#), []);
    assert_eq!(lies(r#"{"maxValues":{"n":700},"tightBounds":false}"#), [("maxValues".into(), "n".into())]);
    assert_eq!(lies(r#"{"maxValues":{"t":"text 8"}}"#), [("maxValues".into(), "t".into())]);
    assert_eq!(lies(r#"{"nullCount":{"f":1}}"#), [("nullCount".into(), "f".into())]);
}

fn fixtures() -> Option<PathBuf> {
    let folder = std::env::var_os("LAKESEAL_FIXTURES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"), PathBuf::from)
        .join("delta-rs/tables");
    folder.is_dir().then_some(folder)
}

/// Statistics of the fixtures that are false indeed: one states a greatest value of 2 where the file holds 0 and 1, the other a
/// least timestamp later than rows of the file.
const FALSE_STATISTICS: [&str; 2] = ["delta-0.8.0/part-00000-c9b90f86", "issue_1374/date=2023-05-24/part-00000-e2b01fc6"];

/// No honest table may be accused.
#[tokio::test]
async fn every_fixture_loads_or_is_refused_and_no_file_of_it_is_accused() {
    let Some(folder) = fixtures() else {
        eprintln!("SKIPPED: no fixtures; set LAKESEAL_FIXTURES to a folder with delta-rs/tables");
        return;
    };
    let mut tables: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    tables.sort();
    let (mut accused, mut files) = (Vec::new(), 0);
    for path in tables {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let store = LocalFileSystem::new_with_prefix(&path).unwrap();
        let snapshot = match table::load(&store, &Path::default(), None).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                println!("{name}: refused: {error}");
                continue;
            }
        };
        println!("{name}: version {}, {} files, checkpoint {:?}", snapshot.version, snapshot.files.len(), snapshot.checkpoint);
        if !snapshot.duplicates.is_empty() {
            accused.push(format!("{name}: duplicates {:?}", snapshot.duplicates));
        }
        for found in table::check_checkpoints(&store, &Path::default(), snapshot.version).await.unwrap() {
            accused.push(format!("{name}: {found:?}"));
        }
        for file in snapshot.files.values() {
            let Some(location) = &file.location else { continue };
            let rows = match &file.deletion_vector {
                Some(vector) => match table::deletion_vector::read(&store, &Path::default(), &Default::default(), vector).await {
                    Ok(rows) => Some(rows),
                    Err(error) => {
                        println!("  {location}: {error}");
                        continue;
                    }
                },
                None => None,
            };
            let context = FileContext {
                schema: &snapshot.schema,
                partition_values: &file.partition_values,
                row_key: [1; 32],
                rows: true,
                profiles: true,
                deletion_vector: rows.as_ref(),
            };
            match fingerprint(&store, location, Some(file.size), &context, &|_| {}).await {
                Ok(found) => {
                    files += 1;
                    accused
                        .extend(check_statistics(file, &found, &snapshot.schema).iter().map(|lie| format!("{name}/{location}: {lie:?}")));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => println!("  {location}: {error}"),
            }
        }
    }
    println!("{files} files fingerprinted");
    let all = accused.len();
    accused.retain(|lie| !FALSE_STATISTICS.iter().any(|known| lie.starts_with(known)));
    assert_eq!(all - accused.len(), FALSE_STATISTICS.len(), "the false statistics are found");
    assert!(accused.is_empty(), "{} accusations:\n{}", accused.len(), accused.join("\n"));
    assert!(files > 50);
}

/// The document's vectors: encoded value in hexadecimal, row key of 0x01 bytes.
#[test]
fn the_documents_vectors_hold() {
    let document = include_str!("../../docs/format/row-encoding.md");
    let vectors: BTreeMap<&str, String> = [
        ("integer -2", encoded(|out| put::put_integer(-2, out))),
        ("integer 2^64-1", encoded(|out| put::put_integer(u64::MAX.into(), out))),
        ("float -0.0", encoded(|out| put::put_float(-0.0, out))),
        ("float NaN", encoded(|out| put::put_float(-f64::NAN, out))),
        ("decimal 12.340", encoded(|out| put::put_decimal(arrow::datatypes::i256::from_i128(12340), 3, out))),
        ("decimal -128", encoded(|out| put::put_decimal(arrow::datatypes::i256::from_i128(-128), 0, out))),
        ("string é", encoded(|out| put::put_string("é", out))),
        ("binary ff", encoded(|out| put::put_binary(&[0xff], out))),
        ("date 1970-01-02", encoded(|out| put::put_date(1, out))),
        ("timestamp utc 1 us", encoded(|out| put::put_instant(true, 1000, out))),
    ]
    .into();
    for (name, bytes) in vectors {
        assert!(document.contains(&format!("| {name} | `{bytes}` |")), "| {name} | `{bytes}` |");
    }
}

fn encoded(put: impl Fn(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    put(&mut out);
    hex::encode(out)
}

#[tokio::test]
async fn the_documents_row_holds() {
    let document = include_str!("../../docs/format/row-encoding.md");
    let row = "010002000000010000006103010000000000000001000000620701000000".to_owned() + "78";
    assert!(document.contains(&row));
    let mut hasher = crate::digest::MultisetHasher::new(&[1; 32]);
    hasher.add(&hex::decode(&row).unwrap());
    let table = batch(vec![
        ("c", Arc::new(Int64Array::from(vec![None]))),
        ("b", Arc::new(StringArray::from(vec!["x"]))),
        ("a", Arc::new(Int64Array::from(vec![1]))),
    ]);
    assert_eq!(total(&print(write(&table, plain())).await), hasher.finish());
}
