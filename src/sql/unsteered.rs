//! Folders of Parquet, of whose files nothing is believed but what sealing holds against the rows: counts, and statistics of column chunks.
//!
//! Whoever writes a file before it is sealed can state in it what no statistics of its chunks contradict: an order of rows
//! (`sorting_columns`), from which DataFusion drops sorts; numbers of distinct values, which it answers with; bounds and places of pages, by
//! which it leaves rows out, and reads others in their place.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::stats::Precision;
use datafusion::common::{Result as DataFusionResult, Statistics};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::{FileScanConfig, FileSource};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_plan::ExecutionPlan;
use object_store::{ObjectMeta, ObjectStore};
use parquet::file::metadata::PageIndexPolicy;

use crate::delta;

/// Parquet without what its files say of their order, their pages and the number of their values.
#[derive(Debug)]
pub(super) struct ChunkStatisticsOnly {
    inner: ParquetFormat,
}

impl ChunkStatisticsOnly {
    pub(super) fn new() -> Self {
        let mut options = TableParquetOptions::default();
        // A listing reads by the options of its format, and not by those of the session.
        delta::believe_chunks_only(&mut options.global);
        Self { inner: ParquetFormat::default().with_options(options) }
    }
}

#[async_trait]
impl FileFormat for ChunkStatisticsOnly {
    fn get_ext(&self) -> String {
        self.inner.get_ext()
    }

    fn get_ext_with_compression(&self, compression: &FileCompressionType) -> DataFusionResult<String> {
        self.inner.get_ext_with_compression(compression)
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        self.inner.compression_type()
    }

    async fn infer_schema(&self, state: &dyn Session, store: &Arc<dyn ObjectStore>, objects: &[ObjectMeta]) -> DataFusionResult<SchemaRef> {
        self.inner.infer_schema(state, store, objects).await
    }

    // The order is the trait's own answer: that there is none.
    async fn infer_stats(
        &self,
        state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        object: &ObjectMeta,
    ) -> DataFusionResult<Statistics> {
        let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
        // A footer that is remembered with a page index is read by that index, whatever the options say.
        let read = DFParquetMetadata::new(store, object)
            .with_metadata_size_hint(self.inner.metadata_size_hint())
            .with_file_metadata_cache(Some(cache))
            .with_page_index_policy(Some(PageIndexPolicy::Skip));
        let mut found = read.fetch_statistics(&table_schema).await?;
        found.column_statistics.iter_mut().for_each(|column| column.distinct_count = Precision::Absent);
        Ok(found)
    }

    async fn create_physical_plan(&self, state: &dyn Session, conf: FileScanConfig) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.inner.create_physical_plan(state, conf).await
    }

    fn file_source(&self, table_schema: TableSchema) -> Arc<dyn FileSource> {
        self.inner.file_source(table_schema)
    }
}

#[cfg(test)]
mod tests;
