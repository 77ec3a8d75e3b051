//! How well poison is found, on real flights, beside what drift of the whole table would see. `scripts/evaluate_poison.sh` runs it.

#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "values of the sample are small and positive counts")]

use std::collections::BTreeSet;

use arrow::array::TimestampMicrosecondArray;
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::TimestampMicrosecondType;

use super::poison_diff::{erasure_lake, text_rows};
use super::*;

const ROWS: usize = 100_000;
const FRACTIONS: [f64; 4] = [0.0001, 0.001, 0.01, 0.1];

/// The first rows of the sample, and the next tenth of as many, which an honest append brings.
fn flights() -> (RecordBatch, RecordBatch) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sample-data/flights.parquet");
    let reader = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(path).unwrap()).unwrap().build().unwrap();
    let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    let all = concat_batches(&batches[0].schema(), &batches).unwrap();
    (all.slice(0, ROWS), all.slice(ROWS, ROWS / 10))
}

fn parquet(batch: &RecordBatch, group_rows: usize) -> Vec<u8> {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

/// A fraction of the rows, spread over the table as chance would; the same each time.
fn victims(fraction: f64) -> Vec<usize> {
    let wanted = (ROWS as f64 * fraction) as usize;
    let mut state = 0x1234_5678_9ABC_DEF0_u64;
    let mut chosen = BTreeSet::new();
    while chosen.len() < wanted {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        chosen.insert((state >> 33) as usize % ROWS);
    }
    chosen.into_iter().collect()
}

fn with_column(batch: &RecordBatch, name: &str, array: Arc<dyn Array>) -> RecordBatch {
    let at = batch.schema().index_of(name).unwrap();
    let mut columns = batch.columns().to_vec();
    columns[at] = array;
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

fn integers(batch: &RecordBatch, name: &str, rows: &[usize], change: impl Fn(i64) -> i64) -> RecordBatch {
    let mut values = batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec();
    rows.iter().for_each(|row| values[*row] = change(values[*row]));
    with_column(batch, name, Arc::new(Int64Array::from(values)))
}

/// A poisoned table, and how many rows of it are not the sealed ones.
fn poison(kind: &str, batch: &RecordBatch, rows: &[usize]) -> (RecordBatch, usize) {
    let poisoned = match kind {
        "label flip" => {
            let labels = batch.column_by_name("origin").unwrap().as_string::<i32>();
            let values: Vec<String> = labels.iter().map(|label| label.unwrap().to_owned()).collect();
            let mut flipped = values.clone();
            // Another label that is there anyway: no new category gives it away.
            rows.iter().for_each(|row| flipped[*row] = if values[*row] == "ORD" { "ATL".to_owned() } else { "ORD".to_owned() });
            with_column(batch, "origin", Arc::new(StringArray::from(flipped)))
        }
        "scaled by e" => integers(batch, "delay", rows, |v| (v as f64 * std::f64::consts::E) as i64 + i64::from(v == 0)),
        "miles to km" => integers(batch, "distance", rows, |v| (v as f64 * 1.609) as i64),
        "backdoor" => integers(&integers(batch, "distance", rows, |_| 1234), "delay", rows, |v| if v == 0 { 1 } else { 0 }),
        "time shift" => {
            let dates = batch.column_by_name("date").unwrap().as_primitive::<TimestampMicrosecondType>();
            let mut values = dates.values().to_vec();
            rows.iter().for_each(|row| values[*row] += 3_600_000_000);
            with_column(batch, "date", Arc::new(TimestampMicrosecondArray::from(values)))
        }
        "duplicates" => {
            let indices: arrow::array::UInt32Array = rows.iter().map(|row| Some(*row as u32)).collect();
            concat_batches(&batch.schema(), &[batch.clone(), take_record_batch(batch, &indices).unwrap()]).unwrap()
        }
        other => panic!("{other}"),
    };
    let differing =
        if kind == "duplicates" { rows.len() } else { rows.iter().filter(|row| poisoned.slice(**row, 1) != batch.slice(**row, 1)).count() };
    (poisoned, differing)
}

/// What was found: rows that differ; whether the changed rows alarm; whether the whole table does.
async fn found(fixture: &Fixture) -> (usize, bool, bool) {
    let session = fixture.session(ReadMode::Latest).await;
    let one = async |query: &str| text_rows(&session.run(query).await.unwrap())[0].clone();
    let rows =
        one("SELECT count(DISTINCT concat(kind, file, row_group, '/', row)) FROM poison_diff('flights') WHERE kind <> 'undetermined'")
            .await;
    let alarms = |scope: &str| format!("SELECT coalesce(bool_or(alert), false) FROM drift('flights') WHERE {scope}");
    let (changed, table) = (one(&alarms("scope IN ('changed', 'added', 'removed')")).await, one(&alarms("scope = 'table'")).await);
    (rows.parse().unwrap(), changed == "true", table == "true")
}

async fn sealed_flights(batch: &RecordBatch) -> Fixture {
    let (lake, _) = erasure_lake();
    lake.store.put(&Path::from("flights/part-0.parquet"), parquet(batch, 20_000).into()).await.unwrap();
    let location = Location::in_lake(&lake, "flights").unwrap();
    let fixture = Fixture { lake, location, key: PrivateKey::generate().unwrap(), _directory: tempfile::tempdir().unwrap() };
    fixture.seal().await;
    fixture
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: scripts/evaluate_poison.sh"]
async fn poison_on_real_flights() {
    let (base, next) = flights();
    println!("| poison | fraction | rows | found by the diff | changed rows alarm | whole table alarms (control) |");
    println!("|---|---|---|---|---|---|");
    let yes = |is: bool| if is { "yes" } else { "no" };
    for kind in ["label flip", "scaled by e", "miles to km", "backdoor", "time shift", "duplicates"] {
        for fraction in FRACTIONS {
            let fixture = sealed_flights(&base).await;
            let (poisoned, differing) = poison(kind, &base, &victims(fraction));
            fixture.lake.store.put(&Path::from("flights/part-0.parquet"), parquet(&poisoned, 20_000).into()).await.unwrap();
            let (rows, changed, table) = found(&fixture).await;
            println!("| {kind} | {}% | {differing} | {rows} | {} | {} |", fraction * 100.0, yes(changed), yes(table));
            assert_eq!(rows, differing, "{kind} {fraction}: the diff must name exactly the poisoned rows");
        }
    }
    println!("\n| honest change | rows that differ | changed rows alarm | whole table alarms |\n|---|---|---|---|");
    let reversed: arrow::array::UInt32Array = (0..ROWS as u32).rev().collect();
    let cases: [(&str, Vec<(&str, RecordBatch)>); 3] = [
        ("written anew with other row groups", vec![("part-0", base.clone())]),
        ("sorted the other way round", vec![("part-0", take_record_batch(&base, &reversed).unwrap())]),
        ("the next 10% of rows appended", vec![("part-0", base.clone()), ("part-1", next)]),
    ];
    for (what, files) in cases {
        let fixture = sealed_flights(&base).await;
        for (name, batch) in &files {
            fixture.lake.store.put(&Path::from(format!("flights/{name}.parquet")), parquet(batch, 33_000).into()).await.unwrap();
        }
        let (rows, changed, table) = found(&fixture).await;
        println!("| {what} | {rows} | {} | {} |", yes(changed), yes(table));
        assert_eq!(rows, if files.len() == 2 { ROWS / 10 } else { 0 }, "{what}");
    }
}
