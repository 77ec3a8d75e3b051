//! A sealed table as a table provider in a DataFusion session of your own.
//!
//! ```text
//! cargo run --example register_table_provider
//! ```
//!
//! 1. Makes a lake of five regions (in memory), imports 300,000 flights into a Delta table, and seals it.
//! 2. Registers the table as [`VerifiedTable`] in a plain `SessionContext`, and queries it.
//! 3. One region begins to return damaged bytes: the lake decodes around it, the answers stay the same.
//! 4. Somebody with write access replaces a data file by one that differs in one byte. To the lake that is a write like any other;
//!    the query over the sealed table is refused, with file, row group and column, and not one row of it is released.
//! 5. Somebody forges the number of rows in the log, where `COUNT(*)` is answered from: refused as well.
//!
//! Ends with an error if anything of this is not so.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use arrow::util::pretty::pretty_format_batches;
use bytes::Bytes;
use datafusion::prelude::SessionContext;
use lakeseal::baseline::{Repository, SealOptions, Sealer, Trust, TrustLevel};
use lakeseal::clock::SystemClock;
use lakeseal::delta::{self, Import, LakeStore, Location};
use lakeseal::key::PrivateKey;
use lakeseal::lake::testing::memory_lake;
use lakeseal::sql::{self, TableOptions, VerifiedTable};
use lakeseal::store::{ErasureStore, Profile};
use lakeseal::{Error, ErrorKind, Result};
use object_store::ObjectStoreExt as _;

const QUERY: &str = "SELECT origin, COUNT(*) AS flights, ROUND(AVG(delay), 1) AS mean_delay \
                     FROM flights GROUP BY origin ORDER BY flights DESC, origin LIMIT 4";

#[tokio::main]
async fn main() -> Result<()> {
    // Three data and two parity shards in five regions: any three of them give everything back.
    let (regions, writer, faults) = memory_lake(3, 2, 5)?;
    let store = Arc::new(ErasureStore::new(regions, Profile::new(3, 2), Some(Arc::new(writer)), Arc::new(SystemClock))?);
    let lake = LakeStore { name: "example".to_owned(), store: store.clone() };
    let flights = Location::in_lake(&lake, "flights")?;
    let imported = delta::import(&flights, Import { sources: vec![sample("flights.parquet")], ..Import::default() }).await?;
    println!("imported {} rows into {}", imported.rows, flights.url());

    let sealer_key = PrivateKey::generate()?;
    let trust = Trust::new([sealer_key.public()], TrustLevel::SelfMade)?;
    let (clock, options) = (Arc::new(SystemClock), SealOptions::default());
    let sealer = Sealer::new(flights.store().clone(), flights.root().clone(), flights.url().as_str(), sealer_key, clock, options)?;
    let sealed = sealer.seal(&()).await?.baseline;
    println!("sealed as baseline {}: {} file(s), {} bytes\n", sealed.number, sealed.files, sealed.bytes);

    let intact = query(&flights, &trust, QUERY).await?;
    println!("{intact}\n");

    // Region r1 flips a bit in all that it returns: every block has a digest, so it is decoded from the others.
    if let Some(region) = faults.get(1) {
        region.corrupt(|_| true);
    }
    ensure(query(&flights, &trust, QUERY).await? == intact, "a damaged region must not change an answer")?;
    let noticed = store.take_repair_hints().len();
    ensure(noticed > 0, "the damaged region must have been noticed")?;
    println!("region r1 returns damaged bytes: the same answer, and {noticed} shard(s) to be repaired\n");

    let (file, original) = replace_one_byte(&flights, &trust, "delay").await?;
    println!("one byte of {file} replaced:");
    let refused = refusal(query(&flights, &trust, QUERY).await)?;
    println!("  {refused}\n");
    ensure(place(&refused, "file") == Some(&file), "the refusal must name the file")?;
    ensure(place(&refused, "row group").is_some(), "the refusal must name the row group")?;
    ensure(place(&refused, "column").is_some_and(|column| column.contains("delay")), "the refusal must name the column")?;

    flights.store().put(&flights.root().clone().join(file.as_str()), original.into()).await.map_err(failed)?;
    ensure(query(&flights, &trust, QUERY).await? == intact, "the original bytes are the sealed ones again")?;

    forge_row_count(&flights, imported.rows).await?;
    println!("the number of rows forged in the log:");
    let refused = refusal(query(&flights, &trust, "SELECT COUNT(*) FROM flights").await)?;
    println!("  {refused}");
    Ok(())
}

/// Opens the table as it now is, registers it in a session of DataFusion's, and runs one query.
async fn query(flights: &Location, trust: &Trust, query: &str) -> Result<String> {
    let table = VerifiedTable::open(flights, Some(trust), &TableOptions::default()).await?;
    let session = SessionContext::new();
    session.register_table("flights", Arc::new(table)).map_err(sql::to_error)?;
    let batches = session.sql(query).await.map_err(sql::to_error)?.collect().await.map_err(sql::to_error)?;
    Ok(pretty_format_batches(&batches).map_err(failed)?.to_string())
}

/// Replaces the byte in the middle of the last row group's `column`; returns the file, and its bytes from before.
async fn replace_one_byte(flights: &Location, trust: &Trust, column: &str) -> Result<(String, Bytes)> {
    let repository = Repository::new(flights.store().clone(), flights.root().clone());
    let missing = || Error::new(ErrorKind::Internal, "the baseline lacks the column that is to be damaged").with("column", column);
    let sealed = repository.newest_baseline(trust).await?.ok_or_else(missing)?;
    let (key, file) = sealed.files.first_key_value().ok_or_else(missing)?;
    let chunks = file.row_groups.get()?.iter().flat_map(|group| &group.columns).filter(|chunk| chunk.name == column);
    let range = chunks.last().ok_or_else(missing)?.bytes.clone();

    let path = flights.root().clone().join(key.path.as_str());
    let original = flights.store().get(&path).await.map_err(failed)?.bytes().await.map_err(failed)?;
    let mut changed = original.to_vec();
    let middle = usize::try_from(range.start.midpoint(range.end)).map_err(failed)?;
    *changed.get_mut(middle).ok_or_else(missing)? ^= 1;
    flights.store().put(&path, changed.into()).await.map_err(failed)?;
    Ok((key.path.clone(), original))
}

/// Adds a row to the first commit's statistics, and to nothing else.
async fn forge_row_count(flights: &Location, rows: u64) -> Result<()> {
    let path = flights.root().clone().join("_delta_log").join("00000000000000000000.json");
    let text = flights.store().get(&path).await.map_err(failed)?.bytes().await.map_err(failed)?;
    let text = String::from_utf8(text.to_vec()).map_err(failed)?;
    let marker = "numRecords\\\":";
    let (before, after) = text.split_once(marker).ok_or_else(|| failed("the commit states no number of rows"))?;
    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
    let forged = format!("{before}{marker}{}{}", rows + 1, after.get(digits..).unwrap_or_default());
    flights.store().put(&path, forged.into()).await.map_err(failed)?;
    Ok(())
}

fn refusal(answer: Result<String>) -> Result<Error> {
    match answer {
        Err(error) if error.kind() == ErrorKind::Mismatch => Ok(error),
        Err(error) => Err(error),
        Ok(rows) => Err(failed(format!("answered from changed data:\n{rows}"))),
    }
}

fn place<'a>(error: &'a Error, name: &str) -> Option<&'a String> {
    error.context().iter().find(|(key, _)| *key == name).map(|(_, value)| value)
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
