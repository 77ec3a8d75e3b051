//! A sealed table of many small files, made cheaply: real Parquet files, and a log of our own writing.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use deltalake::checkpoints::create_checkpoint;
use lakeseal::Result;
use lakeseal::baseline::{SealOptions, SealOutcome, Sealer, Trust, TrustLevel};
use lakeseal::clock::SystemClock;
use lakeseal::delta::{self, Location};
use lakeseal::key::PrivateKey;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

use super::{failed, table_of};

/// Rows of a file.
const ROWS: usize = 10;
/// Files that one commit adds.
const PER_COMMIT: usize = 1000;
/// The benchmark's own key.
pub const SEED: [u8; 32] = [42; 32];

pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("value", DataType::Float64, true),
    ]))
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
pub fn rows(file: usize) -> Result<RecordBatch> {
    let ids = (file * ROWS..(file + 1) * ROWS).map(|id| i64::try_from(id).unwrap_or(i64::MAX));
    let ids: Vec<i64> = ids.collect();
    let names: StringArray = ids.iter().map(|id| Some(format!("name {id:010}"))).collect();
    let values: Float64Array = ids.iter().map(|id| Some(*id as f64 / 8.0)).collect();
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(ids)), Arc::new(names), Arc::new(values)]).map_err(failed)
}

/// Makes the table, and seals it.
pub async fn make(path: &Path, files: usize, checkpointed: bool) -> Result<PathBuf> {
    let log = path.join("_delta_log");
    std::fs::create_dir_all(&log).map_err(failed)?;
    let begun = Instant::now();
    let mut next = 0;
    for (version, first) in (0..files).step_by(PER_COMMIT).enumerate() {
        let mut commit = if version == 0 { head() } else { info(version) };
        for file in first..(first + PER_COMMIT).min(files) {
            let _ = writeln!(commit, "{}", add(path, file)?);
        }
        std::fs::write(log.join(format!("{version:020}.json")), commit).map_err(failed)?;
        next = version + 1;
    }
    if checkpointed {
        let table = delta::open(&table_of(path)?, None).await?;
        create_checkpoint(&table, None).await.map_err(failed)?;
    }
    // A log rarely ends with its checkpoint.
    let commit = format!("{}{}\n", info(next), add(path, files)?);
    std::fs::write(log.join(format!("{next:020}.json")), commit).map_err(failed)?;
    let made = begun.elapsed();
    let begun = Instant::now();
    let sealed = seal(&table_of(path)?, PrivateKey::from_seed(&SEED), SealOptions::default()).await?;
    println!("made {} files in {made:.1?}, sealed them in {:.1?}", sealed.baseline.files, begun.elapsed());
    Ok(path.to_owned())
}

/// Seals the table with `key`.
pub async fn seal(location: &Location, key: PrivateKey, options: SealOptions) -> Result<SealOutcome> {
    let (root, url) = (location.root().clone(), location.url().as_str());
    Sealer::new(location.store().clone(), root, url, key, Arc::new(SystemClock), options)?.seal(&()).await
}

/// Whoever trusts the benchmark's own key.
pub fn trust() -> Result<Trust> {
    Trust::new([PrivateKey::from_seed(&SEED).public()], TrustLevel::SelfMade)
}

fn head() -> String {
    let fields = [("id", "long"), ("name", "string"), ("value", "double")];
    let fields = fields.map(|(name, kind)| json!({"name": name, "type": kind, "nullable": true, "metadata": {}}));
    let schema = json!({"type": "struct", "fields": fields}).to_string();
    let metadata = json!({"metaData": {
        "id": "5fba94ed-9794-4965-ba6e-6ee3c0d22af9", "format": {"provider": "parquet", "options": {}}, "schemaString": schema,
        "partitionColumns": [], "configuration": {}, "createdTime": 1_700_000_000_000_i64,
    }});
    format!("{}{}\n{metadata}\n", info(0), json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}))
}

fn info(version: usize) -> String {
    format!("{}\n", json!({"commitInfo": {"timestamp": 1_700_000_000_000_u64 + version as u64, "operation": "WRITE"}}))
}

/// Writes a file, and says what the log says of it.
fn add(path: &Path, file: usize) -> Result<Value> {
    let batch = rows(file)?;
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).map_err(failed)?;
    writer.write(&batch).map_err(failed)?;
    let bytes = writer.into_inner().map_err(failed)?;
    let name = format!("part-{file:08}-c000.snappy.parquet");
    std::fs::write(path.join(&name), &bytes).map_err(failed)?;
    let (first, last) = (file * ROWS, (file + 1) * ROWS - 1);
    let bounds = |id: usize| json!({"id": id, "name": format!("name {id:010}"), "value": id as f64 / 8.0});
    let stats = json!({
        "numRecords": ROWS, "minValues": bounds(first), "maxValues": bounds(last), "nullCount": {"id": 0, "name": 0, "value": 0},
    });
    Ok(json!({"add": {
        "path": name, "partitionValues": {}, "size": bytes.len(), "modificationTime": 1_700_000_000_000_i64, "dataChange": true,
        "stats": stats.to_string(),
    }}))
}
