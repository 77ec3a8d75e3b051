//! A poisoned pipeline: raw -> cleaned -> features -> training set, and two people who change it.
//!
//! ```text
//! cargo run --example poisoned_pipeline
//! ```
//!
//! 1. Four Delta tables in a lake of five regions, each made from the one before by SQL, every commit attested. All four are sealed.
//! 2. With a stolen writer's key somebody changes 0.1 % of the delays in `raw`, in a commit that is attested like any other. Somebody else
//!    edits the SQL that cleans. The nightly run rebuilds everything; nothing fails, and the labels are wrong.
//! 3. The audit of each table names what was committed since the seal, by which key, and how many rows went and came.
//! 4. `poison_diff` shows the rows of `raw`, value by value; `lineage` shows that `cleaned` was made by another statement than the sealed one.
//! 5. `blast_radius` names the tables that the changed rows reached.
//! 6. A session that reads what was sealed derives the training set again, and `verify_derivation` shows the sealed one to be what its
//!    recorded statement gives.
//!
//! Ends with an error if anything of this is not so.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use arrow::array::{Array as _, Int64Array, RecordBatch, StringArray, UInt64Array};
use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{col, lit};
use lakeseal::baseline::{SealOptions, Sealer, Trust, TrustLevel, Writers};
use lakeseal::clock::SystemClock;
use lakeseal::delta::{self, AttestingStore, Import, LakeStore, Location};
use lakeseal::key::{PrivateKey, PublicKey};
use lakeseal::lake::testing::memory_lake;
use lakeseal::sql::{ReadMode, SealedSession, SessionOptions, TableOptions};
use lakeseal::store::{ErasureStore, Profile};
use lakeseal::{Error, ErrorKind, Result};

/// A flight is late when it arrives more than a quarter of an hour after time.
const CLEANED: &str = "SELECT date, delay, distance, origin, destination, CAST(delay > 15 AS INT) AS late FROM raw \
                       WHERE delay BETWEEN -60 AND 600 AND distance > 0";
/// What somebody made of it: flights that were very late are no longer there.
const EDITED: &str = "SELECT date, delay, distance, origin, destination, CAST(delay > 15 AS INT) AS late FROM raw \
                      WHERE delay BETWEEN -60 AND 180 AND distance > 0";
const FEATURES: &str = "SELECT origin, COUNT(*) AS flights, SUM(late) AS late, SUM(distance) AS miles FROM cleaned GROUP BY origin";
const TRAINING: &str = "SELECT c.date, c.distance, f.flights, f.late AS late_before, f.miles, c.late AS label \
                        FROM cleaned c JOIN features f ON c.origin = f.origin WHERE c.date < TIMESTAMP '2001-02-01'";
const TABLES: [&str; 4] = ["raw", "cleaned", "features", "training"];

#[tokio::main]
async fn main() -> Result<()> {
    let (regions, writer, _) = memory_lake(3, 2, 5)?;
    let store = Arc::new(ErasureStore::new(regions, Profile::new(3, 2), Some(Arc::new(writer)), Arc::new(SystemClock))?);
    let plain = LakeStore { name: "example".to_owned(), store };
    let (sealer, pipeline, analyst) = (PrivateKey::generate()?, PrivateKey::generate()?, PrivateKey::generate()?);
    let people = [pipeline.public(), analyst.public()];
    let lake_of = |key: &PrivateKey| AttestingStore::around_lake(&plain, Arc::new(key.clone()), Arc::new(SystemClock));
    let session_of = |lake: LakeStore, mode| session(lake, &sealer, &people, mode);

    println!("raw -> cleaned -> features -> training, every commit attested by the pipeline's key\n");
    let lake = lake_of(&pipeline)?;
    let raw = Location::in_lake(&lake, "raw")?;
    delta::import(&raw, Import { sources: vec![sample("flights.parquet")], ..Import::default() }).await?;
    for (table, query) in [("cleaned", CLEANED), ("features", FEATURES), ("training", TRAINING)] {
        // A session sees the versions that there were when it first named a table.
        session_of(lake.clone(), ReadMode::Latest).await?.run(&format!("CREATE TABLE {table} AS {query}")).await?;
    }
    for table in TABLES {
        seal(&Location::in_lake(&lake, table)?, &sealer).await?;
    }
    let before = session_of(lake.clone(), ReadMode::Latest).await?;
    show(&before, "SELECT COUNT(*) AS rows, SUM(label) AS late FROM training").await?;

    println!("A thief has the pipeline's key: 0.1 % of the delays in raw become early arrivals, in a commit attested like any other.");
    println!("Somebody else edits the SQL that cleans. The nightly run rebuilds the rest, and nothing fails.\n");
    steal(&raw).await?;
    let statements = [("cleaned", EDITED, &analyst), ("features", FEATURES, &pipeline), ("training", TRAINING, &pipeline)];
    for (table, query, by) in statements {
        session_of(lake_of(by)?, ReadMode::Latest).await?.run(&format!("INSERT OVERWRITE {table} {query}")).await?;
    }

    let latest = session_of(lake.clone(), ReadMode::Latest).await?;
    show(&latest, "SELECT COUNT(*) AS rows, SUM(label) AS late FROM training").await?;
    audits(&latest).await?;
    let changed = poisoned_rows(&latest).await?;
    edited_statement(&latest).await?;
    reached(&latest, &changed).await?;
    let sealed = session_of(lake, ReadMode::Sealed).await?;
    derived_again(&latest, &sealed).await
}

/// What was committed since the seals, and by whom.
async fn audits(session: &SealedSession) -> Result<()> {
    for table in TABLES {
        let found =
            show(session, &format!("SELECT verdict, \"commit\", detail FROM audit('{table}') WHERE \"commit\" IS NOT NULL")).await?;
        ensure(
            texts(&found, "verdict")?.iter().any(|verdict| verdict == "unsealed"),
            "each audit must name the commit that no seal covers",
        )?;
        let attested = texts(&found, "detail")?.iter().all(|detail| detail.contains("attested by"));
        ensure(attested, "and the writer whose key attested it")?;
    }
    Ok(())
}

/// The rows of `raw` that the thief changed: how many, of which file and row groups.
async fn poisoned_rows(session: &SealedSession) -> Result<Vec<(String, u64)>> {
    show(
        session,
        "SELECT kind, sealed_file, sealed_row_group, sealed_row, \"column\", sealed, found FROM poison_diff('raw') \
         ORDER BY sealed_row_group, sealed_row LIMIT 5",
    )
    .await?;
    let places = show(
        session,
        "SELECT sealed_file, sealed_row_group, COUNT(*) AS values_changed FROM poison_diff('raw') WHERE \"column\" = 'delay' \
         GROUP BY sealed_file, sealed_row_group ORDER BY sealed_row_group",
    )
    .await?;
    let changed: u64 = numbers(&places, "values_changed")?.iter().sum();
    ensure((200..=400).contains(&changed), "about 0.1 % of 300,000 rows must be named")?;
    Ok(texts(&places, "sealed_file")?.into_iter().zip(numbers(&places, "sealed_row_group")?).collect())
}

/// `cleaned` was made by two statements: the one that was sealed, and another.
async fn edited_statement(session: &SealedSession) -> Result<()> {
    let made = show(
        session,
        "SELECT DISTINCT version, operation, attested_by, LEFT(plan_fingerprint, 12) AS plan, \
         SUBSTR(sql, STRPOS(sql, 'WHERE')) AS condition FROM lineage('cleaned') WHERE sql IS NOT NULL ORDER BY version",
    )
    .await?;
    let plans = texts(&made, "plan")?;
    ensure(plans.len() == 2 && plans.first() != plans.last(), "the statement that cleans must be seen to be another one")
}

/// The tables that rows of the poisoned row groups went into.
async fn reached(session: &SealedSession, places: &[(String, u64)]) -> Result<()> {
    let (file, row_group) = places.first().ok_or_else(|| failed("the poisoned rows must be placed"))?;
    println!("What was made of row group {row_group} of the changed file, directly and by steps between:");
    let tables = show(
        session,
        &format!(
            "SELECT \"table\", MIN(depth) AS depth, COUNT(DISTINCT version) AS versions FROM blast_radius('raw', '{file}', {row_group}) \
             WHERE \"table\" <> 'raw' GROUP BY \"table\" ORDER BY depth"
        ),
    )
    .await?;
    ensure(tables.num_rows() == 3, "cleaned, features and the training set were all made from it")
}

/// What was sealed is what its recorded statements give, and the training set can be made again from it.
async fn derived_again(latest: &SealedSession, sealed: &SealedSession) -> Result<()> {
    for table in ["cleaned", "features", "training"] {
        let verdict = show(latest, &format!("SELECT version, verdict, rows, derived_rows FROM verify_derivation('{table}', 0)")).await?;
        ensure(texts(&verdict, "verdict")? == ["reproduced"], "the sealed version must be what its statement gives")?;
    }
    // What was never sealed is not there for a session that reads what was sealed: the features are made again within the query.
    let again = TRAINING.replace("features f", &format!("({FEATURES}) f"));
    let differences = show(
        sealed,
        &format!(
            "WITH again AS ({again}) SELECT (SELECT COUNT(*) FROM (SELECT * FROM training EXCEPT SELECT * FROM again)) AS lost, \
             (SELECT COUNT(*) FROM (SELECT * FROM again EXCEPT SELECT * FROM training)) AS invented, \
             (SELECT SUM(label) FROM again) AS late"
        ),
    )
    .await?;
    ensure(numbers(&differences, "lost")? == [0] && numbers(&differences, "invented")? == [0], "the clean training set must be back")
}

/// Changes 308 of 300,000 flights: some that arrived late now arrived early.
async fn steal(raw: &Location) -> Result<()> {
    let victims = col("destination").eq(lit("DFW")).and(col("delay").gt(lit(45_i64))).and(col("distance").gt(lit(1_000_i64)));
    let (_, metrics) =
        delta::open(raw, None).await?.update().with_predicate(victims).with_update("delay", lit(-5_i64)).await.map_err(failed)?;
    println!("{} rows changed\n", metrics.num_updated_rows);
    Ok(())
}

async fn session(lake: LakeStore, sealer: &PrivateKey, writers: &[PublicKey], mode: ReadMode) -> Result<SealedSession> {
    let trust = Trust::new([sealer.public()], TrustLevel::SelfMade)?;
    let tables = TableOptions { mode, writers: Writers::listed(writers.iter().cloned()), ..TableOptions::default() };
    SealedSession::new(SessionOptions { lake: Some(lake), trust: Some(trust), tables }).await
}

async fn seal(table: &Location, key: &PrivateKey) -> Result<()> {
    let (store, root, url) = (table.store().clone(), table.root().clone(), table.url().as_str());
    let sealer = Sealer::new(store, root, url, key.clone(), Arc::new(SystemClock), SealOptions::default())?;
    sealer.seal(&()).await?;
    Ok(())
}

async fn show(session: &SealedSession, query: &str) -> Result<RecordBatch> {
    let frame = session.sql(query).await?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let batches = session.run(query).await?;
    let schema = batches.first().map_or(schema, RecordBatch::schema);
    let rows = arrow::compute::concat_batches(&schema, &batches).map_err(failed)?;
    println!("{query}\n{}\n", pretty_format_batches(std::slice::from_ref(&rows)).map_err(failed)?);
    Ok(rows)
}

fn texts(rows: &RecordBatch, column: &str) -> Result<Vec<String>> {
    let array = rows.column_by_name(column).ok_or_else(|| failed(format!("there is no column {column}")))?;
    let array = arrow::compute::cast(array, &arrow::datatypes::DataType::Utf8).map_err(failed)?;
    let array = array.as_any().downcast_ref::<StringArray>().ok_or_else(|| failed(format!("{column} is not a column of text")))?;
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
