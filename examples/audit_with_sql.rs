//! Audits as queries: `audit('t')`, `baselines('t')` and `row_groups('t')` are tables like any other.
//!
//! ```text
//! cargo run --example audit_with_sql
//! ```
//!
//! 1. Imports 300,000 flights, seals them, imports as many again, and seals again: two baselines.
//! 2. Asks `row_groups` what was sealed: which days lie in which row group?
//! 3. Changes one byte of one file and removes another file behind the table's back.
//! 4. Joins `audit` with `row_groups`: not only *that* something differs, but how many rows are in doubt, and of which days.
//!
//! Ends with an error if anything of this is not so.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use arrow::array::{Array as _, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::util::pretty::pretty_format_batches;
use lakeseal::baseline::{SealOptions, Sealer, Trust, TrustLevel};
use lakeseal::clock::SystemClock;
use lakeseal::delta::{self, Import, LakeStore, Location};
use lakeseal::key::PrivateKey;
use lakeseal::lake::testing::memory_lake;
use lakeseal::sql::{SealedSession, SessionOptions, TableOptions};
use lakeseal::store::{ErasureStore, Profile};
use lakeseal::{Error, ErrorKind, Result};
use object_store::ObjectStoreExt as _;

#[tokio::main]
async fn main() -> Result<()> {
    let (regions, writer, _) = memory_lake(3, 2, 5)?;
    let store = Arc::new(ErasureStore::new(regions, Profile::new(3, 2), Some(Arc::new(writer)), Arc::new(SystemClock))?);
    let lake = LakeStore { name: "example".to_owned(), store };
    let flights = Location::in_lake(&lake, "flights")?;
    let key = PrivateKey::generate()?;
    let trust = Trust::new([key.public()], TrustLevel::SelfMade)?;
    for _ in 0..2 {
        delta::import(&flights, Import { sources: vec![sample("flights.parquet")], ..Import::default() }).await?;
        seal(&flights, &key).await?;
    }
    let session = SealedSession::new(SessionOptions { lake: Some(lake), trust: Some(trust), tables: TableOptions::default() }).await?;

    let baselines = show(&session, "SELECT number, version, files, rows, bytes FROM baselines('flights') ORDER BY number").await?;
    ensure(numbers(&baselines, "rows")? == [300_000, 600_000], "the second baseline must cover both imports")?;

    show(
        &session,
        "SELECT row_group, COUNT(*) AS files, MAX(rows) AS rows, MIN(min) AS earliest, MAX(max) AS latest \
         FROM row_groups('flights') WHERE \"column\" = 'date' GROUP BY row_group ORDER BY row_group",
    )
    .await?;
    let clean = run(&session, "SELECT verdict, detail FROM audit('flights')").await?;
    ensure(texts(&clean, "verdict")? == ["intact"], "an untouched table must be intact")?;

    let (changed, removed) = vandalise(&session, &flights).await?;
    println!("one byte of {changed} was changed, {removed} was deleted\n");

    let places = show(
        &session,
        "SELECT a.verdict, a.row_group, a.\"column\", g.rows AS rows_in_doubt, g.column_bytes, d.min AS earliest, d.max AS latest \
         FROM audit('flights') a \
         JOIN row_groups('flights') g ON g.file = a.file AND g.row_group = a.row_group AND g.\"column\" = a.\"column\" \
         JOIN row_groups('flights') d ON d.file = a.file AND d.row_group = a.row_group AND d.\"column\" = 'date' \
         WHERE a.verdict = 'modified'",
    )
    .await?;
    ensure(texts(&places, "column")? == ["delay"], "the audit must place the change in one column of one row group")?;
    let lost = show(
        &session,
        "SELECT a.verdict, a.file, SUM(g.rows) AS rows_lost \
         FROM audit('flights') a JOIN row_groups('flights') g ON g.file = a.file AND g.\"column\" = 'date' \
         WHERE a.verdict = 'missing' GROUP BY a.verdict, a.file",
    )
    .await?;
    ensure(texts(&lost, "file")? == [removed], "the audit must name the file that is gone")?;
    Ok(())
}

async fn seal(table: &Location, key: &PrivateKey) -> Result<()> {
    let (store, root, url) = (table.store().clone(), table.root().clone(), table.url().as_str());
    let sealer = Sealer::new(store, root, url, key.clone(), Arc::new(SystemClock), SealOptions::default())?;
    sealer.seal(&()).await?;
    Ok(())
}

/// Changes a byte in the middle of a column chunk of one file, whose place the evidence tells, and deletes another file.
async fn vandalise(session: &SealedSession, table: &Location) -> Result<(String, String)> {
    let files = run(session, "SELECT DISTINCT file FROM row_groups('flights') ORDER BY file").await?;
    let files = texts(&files, "file")?;
    let (Some(changed), Some(removed)) = (files.first(), files.last()) else {
        return Err(failed("the table has no files"));
    };
    ensure(changed != removed, "two imports make at least two files")?;
    // The columns of a row group lie one after the other, in the order of the schema: "date" first, then "delay".
    let ahead = format!(
        "SELECT CAST(SUM(column_bytes) FILTER (WHERE \"column\" = 'date') AS BIGINT) AS ahead, \
         CAST(SUM(column_bytes) FILTER (WHERE \"column\" = 'delay') AS BIGINT) AS bytes \
         FROM row_groups('flights') WHERE row_group = 0 AND file = '{changed}'"
    );
    let ahead = run(session, &ahead).await?;
    let at = |name| -> Result<u64> { numbers(&ahead, name)?.first().copied().ok_or_else(|| failed("no such column")) };
    let path = table.root().clone().join(changed.as_str());
    let mut bytes = table.store().get(&path).await.map_err(failed)?.bytes().await.map_err(failed)?.to_vec();
    let middle = usize::try_from(at("ahead")? + at("bytes")? / 2).map_err(failed)?;
    *bytes.get_mut(middle).ok_or_else(|| failed("the file is shorter than sealed"))? ^= 1;
    table.store().put(&path, bytes.into()).await.map_err(failed)?;
    table.store().delete(&table.root().clone().join(removed.as_str())).await.map_err(failed)?;
    Ok((changed.clone(), removed.clone()))
}

async fn show(session: &SealedSession, query: &str) -> Result<RecordBatch> {
    let rows = run(session, query).await?;
    println!("{query}\n{}\n", pretty_format_batches(std::slice::from_ref(&rows)).map_err(failed)?);
    Ok(rows)
}

async fn run(session: &SealedSession, query: &str) -> Result<RecordBatch> {
    let frame = session.sql(query).await?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let batches = session.run(query).await?;
    let schema = batches.first().map_or(schema, RecordBatch::schema);
    arrow::compute::concat_batches(&schema, &batches).map_err(failed)
}

fn texts(rows: &RecordBatch, column: &str) -> Result<Vec<String>> {
    let array = rows.column_by_name(column).and_then(|array| array.as_any().downcast_ref::<StringArray>());
    let array = array.ok_or_else(|| failed(format!("{column} is not a column of text")))?;
    Ok(array.iter().map(|text| text.unwrap_or_default().to_owned()).collect())
}

fn numbers(rows: &RecordBatch, column: &str) -> Result<Vec<u64>> {
    let array = rows.column_by_name(column).ok_or_else(|| failed(format!("there is no column {column}")))?;
    if let Some(array) = array.as_any().downcast_ref::<UInt64Array>() {
        return Ok(array.iter().flatten().collect());
    }
    let array = array.as_any().downcast_ref::<Int64Array>().ok_or_else(|| failed(format!("{column} is not a column of numbers")))?;
    array.iter().flatten().map(|number| u64::try_from(number).map_err(failed)).collect()
}

fn ensure(holds: bool, what: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(failed(what.to_owned())) }
}

fn failed(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Internal, "the example did not go as told").caused_by(cause)
}

fn sample(name: &str) -> PathBuf {
    FilePath::new(env!("CARGO_MANIFEST_DIR")).join("sample-data").join(name)
}
