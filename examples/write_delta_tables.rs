//! Stock deltalake over `lakeseal://`: create, append, merge, delete, time travel; then with two of five regions gone.
//!
//! ```text
//! cargo run --example write_delta_tables
//! ```
//!
//! 1. Makes a lake of five regions (in memory) and registers it: from then on deltalake's own functions know
//!    `lakeseal://geo/airports`, a Delta table whose every object is erasure-coded over the regions.
//! 2. Creates the table, appends 1,458 airports in two commits, merges corrections, deletes rows.
//! 3. Travels back in time to the version before the merge.
//! 4. Takes two regions away: all versions are still read, and one more commit is made.
//! 5. Takes a third away: two of five can prove nothing, so reading fails rather than answering.
//! 6. The regions come back, and with them the commit that was made while two were gone.
//!
//! Ends with an error if anything of this is not so.

use std::fs::File;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::csv::ReaderBuilder;
use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef};
use datafusion::prelude::{SessionContext, col};
use deltalake::kernel::{DataType, StructField};
use deltalake::{DeltaTable, open_table};
use lakeseal::clock::SystemClock;
use lakeseal::delta::{self, LakeStore, Location, register_lake_scheme};
use lakeseal::lake::testing::{FaultyRegion, memory_lake};
use lakeseal::store::{ErasureStore, Profile};
use lakeseal::{Error, ErrorKind, Result};
use url::Url;

#[tokio::main]
async fn main() -> Result<()> {
    // Three data and two parity shards in five regions: any three of them give everything back.
    let (regions, writer, faults) = memory_lake(3, 2, 5)?;
    let store = ErasureStore::new(regions, Profile::new(3, 2), Some(Arc::new(writer)), Arc::new(SystemClock))?;
    register_lake_scheme("geo", Arc::new(store.clone()))?;
    let url = Url::parse("lakeseal://geo/airports").map_err(failed)?;

    let table = DeltaTable::try_from_url(url.clone()).await.map_err(failed)?;
    let table = table.create().with_table_name("airports").with_columns(columns()).await.map_err(failed)?;
    told("created", &table, 0).await?;

    let airports = read_airports()?;
    let half = airports.num_rows() / 2;
    let table = table.write([airports.slice(0, half)]).await.map_err(failed)?;
    let table = table.write([airports.slice(half, airports.num_rows() - half)]).await.map_err(failed)?;
    told("appended twice", &table, 1458).await?;

    let table = merge(table, corrections()?).await?;
    told("merged two corrections and one new airport", &table, 1459).await?;

    let (table, _) = table.delete().with_predicate("alt > 8000").await.map_err(failed)?;
    let low = airports_in(&table, "SELECT COUNT(*) FROM airports").await?;
    told("deleted those above 8,000 feet", &table, low).await?;
    ensure(low < 1459 && airports_in(&table, "SELECT COUNT(*) FROM airports WHERE alt > 8000").await? == 0, "the delete must delete")?;

    let renamed = "SELECT COUNT(*) FROM airports WHERE name = 'Lansdowne Field'";
    let mut before = open_table(url.clone()).await.map_err(failed)?;
    before.load_version(2).await.map_err(failed)?;
    told("time travel", &before, 1458).await?;
    ensure(airports_in(&table, renamed).await? == 1, "the merge must have renamed an airport")?;
    ensure(airports_in(&before, renamed).await? == 0, "before the merge the airport must have its old name")?;

    store.quiesce().await;
    set_down(&faults, &[0, 3], true);
    println!("\nregions r0 and r3 are gone");
    let table = open_table(url.clone()).await.map_err(failed)?;
    told("read with three of five", &table, low).await?;
    let (table, _) = table.delete().with_predicate("tz = -10").await.map_err(failed)?;
    let rest = airports_in(&table, "SELECT COUNT(*) FROM airports").await?;
    told("deleted Hawaii's time zone with three of five", &table, rest).await?;
    ensure(rest < low, "the delete must delete")?;

    store.quiesce().await;
    set_down(&faults, &[4], true);
    println!("\nregion r4 is gone as well");
    let refused = match open_table(url.clone()).await {
        Ok(_) => return Err(failed("two of five regions must not be enough")),
        Err(error) => error.to_string(),
    };
    // The places, one a region that is gone, follow in parentheses.
    println!("reading fails: {}", refused.split(" (").next().unwrap_or_default());
    // Not "there is no such table": what cannot be reached is unavailable, never absent.
    ensure(refused.contains("too few regions answered"), "the refusal must say that regions are missing")?;

    // Lakeseal's own functions give the same refusal a kind to match on.
    let lake = LakeStore { name: "geo".to_owned(), store: Arc::new(store) };
    let refused = delta::open(&Location::in_lake(&lake, "airports")?, None).await.err();
    ensure(refused.is_some_and(|error| error.kind() == ErrorKind::Unavailable), "the refusal must be of the kind Unavailable")?;

    set_down(&faults, &[0, 3, 4], false);
    println!("\nall regions are back");
    told("read with five of five", &open_table(url).await.map_err(failed)?, rest).await
}

/// Updates the airports that there are and inserts those that are new, in one commit.
async fn merge(table: DeltaTable, changes: RecordBatch) -> Result<DeltaTable> {
    let names: Vec<String> = changes.schema().fields().iter().map(|field| field.name().clone()).collect();
    let source = SessionContext::new().read_batch(changes).map_err(failed)?;
    let from_source = |name: &str| col(format!("source.{name}"));
    let (table, metrics) = table
        .merge(source, col("target.faa").eq(col("source.faa")))
        .with_source_alias("source")
        .with_target_alias("target")
        .when_matched_update(|update| names.iter().fold(update, |update, name| update.update(name.as_str(), from_source(name))))
        .and_then(|merge| {
            merge.when_not_matched_insert(|insert| names.iter().fold(insert, |insert, name| insert.set(name.as_str(), from_source(name))))
        })
        .map_err(failed)?
        .await
        .map_err(failed)?;
    ensure(metrics.num_target_rows_updated == 2 && metrics.num_target_rows_inserted == 1, "the merge must update two and insert one")?;
    Ok(table)
}

/// Prints where the story is, and checks the number of rows.
async fn told(what: &str, table: &DeltaTable, rows: i64) -> Result<()> {
    let found = airports_in(table, "SELECT COUNT(faa) FROM airports").await?;
    println!("version {}: {found:>5} airports  ({what})", table.version().unwrap_or_default());
    ensure(found == rows, "the number of airports must be as told")
}

/// The single number that `query` answers.
async fn airports_in(table: &DeltaTable, query: &str) -> Result<i64> {
    let session = SessionContext::new();
    session.register_table("airports", table.table_provider().await.map_err(failed)?).map_err(failed)?;
    let batches = session.sql(query).await.map_err(failed)?.collect().await.map_err(failed)?;
    let column = batches.first().and_then(|batch| batch.columns().first());
    let numbers = column.and_then(|column| column.as_any().downcast_ref::<Int64Array>()).filter(|numbers| !numbers.is_empty());
    numbers.map(|numbers| numbers.value(0)).ok_or_else(|| failed("the query must answer one number"))
}

fn set_down(faults: &[FaultyRegion], regions: &[usize], down: bool) {
    regions.iter().filter_map(|index| faults.get(*index)).for_each(|region| region.set_down(down));
}

fn columns() -> Vec<StructField> {
    let text = ["faa", "name"].map(|name| StructField::new(name, DataType::STRING, true));
    let degrees = ["lat", "lon"].map(|name| StructField::new(name, DataType::DOUBLE, true));
    let whole = ["alt", "tz"].map(|name| StructField::new(name, DataType::LONG, true));
    text.into_iter().chain(degrees).chain(whole).collect()
}

fn schema() -> SchemaRef {
    let types = [ArrowType::Utf8, ArrowType::Utf8, ArrowType::Float64, ArrowType::Float64, ArrowType::Int64, ArrowType::Int64];
    let names = ["faa", "name", "lat", "lon", "alt", "tz"];
    Arc::new(Schema::new(names.into_iter().zip(types).map(|(name, of)| Field::new(name, of, true)).collect::<Vec<_>>()))
}

fn read_airports() -> Result<RecordBatch> {
    let file = File::open(sample("airports.csv")).map_err(failed)?;
    let mut fields = schema().fields().to_vec();
    fields.extend(["dst", "tzone"].map(|name| Arc::new(Field::new(name, ArrowType::Utf8, true))));
    let reader = ReaderBuilder::new(Arc::new(Schema::new(fields))).with_header(true).with_batch_size(10_000);
    let reader = reader.with_projection((0..schema().fields().len()).collect()).build(file).map_err(failed)?;
    let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>().map_err(failed)?;
    arrow::compute::concat_batches(&schema(), &batches).map_err(failed)
}

fn corrections() -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["04G", "06A", "ZZZ"])),
        Arc::new(StringArray::from(vec!["Lansdowne Field", "Moton Field", "Nowhere International"])),
        Arc::new(Float64Array::from(vec![41.130, 32.461, 0.0])),
        Arc::new(Float64Array::from(vec![-80.620, -85.680, 0.0])),
        Arc::new(Int64Array::from(vec![1044, 264, 0])),
        Arc::new(Int64Array::from(vec![-5, -6, 0])),
    ];
    RecordBatch::try_new(schema(), columns).map_err(failed)
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
