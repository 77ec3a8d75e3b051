//! Files that were edited before their first seal, in what no statistics of column chunks contradict.

use arrow::array::{AsArray as _, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::SortingColumn;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use tempfile::TempDir;

use super::*;
use crate::baseline::{SealOptions, Sealer, Trust, TrustLevel};
use crate::clock::SystemClock;
use crate::delta::Location;
use crate::key::PrivateKey;
use crate::sql::{SealedSession, SessionOptions};

const LOST: &str = "SELECT COUNT(*) FROM t WHERE id = 550";
const FIRST: &str = "SELECT id FROM t ORDER BY id LIMIT 3";

/// Pages of a hundred rows.
fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_data_page_row_count_limit(100)
        .set_write_batch_size(100)
}

fn parquet(ids: impl IntoIterator<Item = i64>, properties: WriterPropertiesBuilder) -> Vec<u8> {
    let ids: Int64Array = ids.into_iter().map(Some).collect();
    let doubled: Int64Array = ids.iter().map(|id| id.map(|id| id * 2)).collect();
    let batch = RecordBatch::try_from_iter([("id", Arc::new(ids) as _), ("doubled", Arc::new(doubled) as _)]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn part(offset: i64, length: i32) -> std::ops::Range<usize> {
    let offset = usize::try_from(offset).unwrap();
    offset..offset + usize::try_from(length).unwrap()
}

/// The page of the ids 500 to 599 is said to end with 501.
fn with_forged_page_index() -> Vec<u8> {
    let mut bytes = parquet(0..1000, properties());
    let metadata = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes.clone())).unwrap().metadata().clone();
    let chunk = metadata.row_group(0).column(0);
    let range = part(chunk.column_index_offset().unwrap(), chunk.column_index_length().unwrap());
    let index = &mut bytes[range];
    let at: Vec<usize> = index.windows(8).enumerate().filter(|(_, window)| *window == 599_i64.to_le_bytes()).map(|(at, _)| at).collect();
    assert_eq!(at.len(), 1, "the page's greatest value stands in the index once");
    index[at[0]..at[0] + 8].copy_from_slice(&501_i64.to_le_bytes());
    bytes
}

/// The filter of the ids says that there is none.
fn with_forged_bloom_filter() -> Vec<u8> {
    let mut bytes = parquet(0..1000, properties().set_statistics_enabled(EnabledStatistics::Chunk).set_bloom_filter_enabled(true));
    let metadata = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes.clone())).unwrap().metadata().clone();
    let chunk = metadata.row_group(0).column(0);
    let range = part(chunk.bloom_filter_offset().unwrap(), chunk.bloom_filter_length().unwrap());
    // The bits are a power of two, after a short header.
    let bits = (range.len() + 1).next_power_of_two() / 2;
    assert!(range.len() - bits < 32);
    bytes[range.end - bits..range.end].fill(0);
    bytes
}

/// The ids come backwards, and are said to be in order.
fn with_forged_order() -> Vec<u8> {
    let sorted = SortingColumn { column_idx: 0, descending: false, nulls_first: false };
    parquet((0..1000).rev(), properties().set_sorting_columns(Some(vec![sorted])))
}

fn folder(files: &[(&str, &[u8])]) -> (TempDir, Location) {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let location = Location::parse(directory.path().to_str().unwrap(), None).unwrap();
    (directory, location)
}

/// A Delta table of one file without statistics in its log.
fn delta_table(bytes: &[u8]) -> (TempDir, Location) {
    let field = |name: &str| format!(r#"{{\"name\":\"{name}\",\"type\":\"long\",\"nullable\":true,\"metadata\":{{}}}}"#);
    let log = format!(
        r#"{{"protocol":{{"minReaderVersion":1,"minWriterVersion":2}}}}
{{"metaData":{{"id":"5fba94ed-9794-4965-ba6e-6ee3c0d22af9","format":{{"provider":"parquet","options":{{}}}},"schemaString":"{{\"type\":\"struct\",\"fields\":[{},{}]}}","partitionColumns":[],"configuration":{{}},"createdTime":1}}}}
{{"add":{{"path":"f.parquet","partitionValues":{{}},"size":{},"modificationTime":1,"dataChange":true}}}}
"#,
        field("id"),
        field("doubled"),
        bytes.len()
    );
    folder(&[("f.parquet", bytes), ("_delta_log/00000000000000000000.json", log.as_bytes())])
}

async fn sealed(location: &Location) -> SealedSession {
    let key = PrivateKey::from_seed(&[7; 32]);
    let (store, root, url) = (location.store().clone(), location.root().clone(), location.url().as_str());
    let sealer = Sealer::new(store, root, url, key.clone(), Arc::new(SystemClock), SealOptions::default()).unwrap();
    sealer.seal(&()).await.unwrap();
    let trust = Trust::new([key.public()], TrustLevel::Given).unwrap();
    let session = SealedSession::new(SessionOptions { trust: Some(trust), ..SessionOptions::default() }).await.unwrap();
    assert!(session.register("t", location).await.unwrap().baseline().is_some());
    session
}

fn numbers(batches: &[RecordBatch]) -> Vec<i64> {
    batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

/// What DataFusion answers that is not told to read otherwise.
async fn stock(directory: &TempDir, query: &str) -> Vec<i64> {
    let context = SessionContext::new();
    context.register_parquet("t", directory.path().to_str().unwrap(), ParquetReadOptions::default()).await.unwrap();
    numbers(&context.sql(query).await.unwrap().collect().await.unwrap())
}

/// As [`stock`], of a Delta table.
async fn stock_delta(location: &Location, query: &str) -> Vec<i64> {
    let context = SessionContext::new();
    context.register_object_store(location.engine_url(), location.store().clone());
    context.register_table("t", delta::provider(location, 0).await.unwrap()).unwrap();
    numbers(&context.sql(query).await.unwrap().collect().await.unwrap())
}

async fn asked(session: &SealedSession, query: &str) -> Vec<i64> {
    numbers(&session.run(query).await.unwrap())
}

#[tokio::test]
async fn neither_page_indexes_nor_bloom_filters_hide_rows_of_a_folder() {
    for bytes in [with_forged_page_index(), with_forged_bloom_filter()] {
        let (directory, location) = folder(&[("f.parquet", &bytes)]);
        assert_eq!(stock(&directory, LOST).await, [0], "the forgery hides the row from a reader that believes it");
        let session = sealed(&location).await;
        assert_eq!(asked(&session, LOST).await, [1]);
        session.run("SET datafusion.execution.parquet.enable_page_index = true").await.unwrap();
        session.run("SET datafusion.execution.parquet.bloom_filter_on_read = true").await.unwrap();
        assert_eq!(asked(&session, LOST).await, [1], "and no setting has them believed");
        assert_eq!(asked(&session, "SELECT COUNT(*) FROM t WHERE id >= 500 AND doubled < 1200").await, [100]);
    }
}

#[tokio::test]
async fn neither_page_indexes_nor_bloom_filters_hide_rows_of_a_delta_table() {
    for bytes in [with_forged_page_index(), with_forged_bloom_filter()] {
        let (_directory, location) = delta_table(&bytes);
        assert_eq!(stock_delta(&location, LOST).await, [0], "the forgery hides the row from a reader that believes it");
        let session = sealed(&location).await;
        assert_eq!(asked(&session, LOST).await, [1]);
        session.run("SET datafusion.execution.parquet.enable_page_index = true").await.unwrap();
        session.run("SET datafusion.execution.parquet.bloom_filter_on_read = true").await.unwrap();
        assert_eq!(asked(&session, LOST).await, [1], "and no setting has them believed");
    }
}

#[tokio::test]
async fn the_order_that_files_state_is_not_believed() {
    let (directory, location) = folder(&[("f.parquet", &with_forged_order())]);
    assert_ne!(stock(&directory, FIRST).await, [0, 1, 2], "the forgery misleads a reader that believes it");
    let session = sealed(&location).await;
    assert_eq!(asked(&session, FIRST).await, [0, 1, 2]);
    assert_eq!(asked(&session, "SELECT id FROM t ORDER BY id DESC LIMIT 2").await, [999, 998]);
    assert_eq!(asked(&session, "SELECT MAX(id) FROM t").await, [999], "statistics of chunks still answer");
}
