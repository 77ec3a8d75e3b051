//! A folder of Parquet as DataFusion reads it: which of its files, and with which columns.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::datasource::file_format::FileFormat as _;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionConfig;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use super::null_partitions::NullPartitions;
use super::to_error;
use super::unsteered::ChunkStatisticsOnly;
use crate::baseline::SealedTable;
use crate::delta::{self, Location, StoreRegistry};
use crate::error::{Error, ErrorKind, Result};
use crate::table::{FileKey, TableSnapshot, misplaced};

/// Footers that are read at a time.
const CONCURRENCY: usize = 8;

/// What is known of a folder beside whose sealed files lie others.
pub(super) struct Later {
    /// The columns of the sealed files: those of the table.
    pub(super) schema: SchemaRef,
    /// Files that nobody sealed and that cannot be read with them, and why.
    pub(super) unfit: Vec<(FileKey, String)>,
    /// Columns that only files have which nobody sealed.
    pub(super) hidden: BTreeSet<String>,
}

/// A file, and the columns that it has beyond those of the table, or why it cannot be read as one of its files.
type Fitting = (FileKey, Result<Vec<String>, String>);

/// The table at `location`, whose store shows exactly the files of `snapshot`; with the columns of `schema`, or those of all its files.
pub(super) async fn provider(location: &Location, snapshot: &TableSnapshot, schema: Option<SchemaRef>) -> Result<Arc<dyn TableProvider>> {
    let columns = &snapshot.schema.partition_columns;
    if let Some(file) = misplaced(snapshot.files.values().map(Arc::as_ref), columns) {
        let what = "a file of the folder does not lie in folders of the table's partition columns, in this order: it would be left out";
        return Err(Error::new(ErrorKind::Unsupported, what)
            .with("table", location.name())
            .with("file", file)
            .with("partition columns", columns.join(", ")));
    }
    let partitions = columns.iter().map(|name| (name.clone(), DataType::Utf8)).collect();
    let format = Arc::new(ChunkStatisticsOnly::new());
    let options = ListingOptions::new(format).with_file_extension(".parquet").with_table_partition_cols(partitions);
    let url = ListingTableUrl::parse(location.engine_url()).map_err(to_error)?;
    let schema = match schema {
        Some(schema) => schema,
        None => options.infer_schema(&session(location)?, &url).await.map_err(to_error)?,
    };
    let config = ListingTableConfig::new(url).with_listing_options(options).with_schema(schema);
    let table = Arc::new(ListingTable::try_new(config).map_err(to_error)?);
    let is_null = |name: &&String| snapshot.files.values().any(|file| file.partition_values.get(*name).is_some_and(Option::is_none));
    let with_nulls: Vec<String> = columns.iter().filter(is_null).cloned().collect();
    Ok(if with_nulls.is_empty() { table } else { Arc::new(NullPartitions::new(table, with_nulls)) })
}

/// Looks at the files of `snapshot` that nobody sealed: whoever may drop files must not keep others from reading the sealed ones. `None` where all are
/// sealed, or none. Cost: the footer of every file once.
///
/// # Errors
/// What reading the sealed files' footers fails with; of the others, only that a store cannot be reached.
pub(super) async fn later(location: &Location, snapshot: &TableSnapshot, sealed: &SealedTable) -> Result<Option<Later>> {
    let store = location.store();
    let objects: BTreeMap<Path, ObjectMeta> =
        store.list(Some(location.root())).map_ok(|meta| (meta.location.clone(), meta)).try_collect().await?;
    let (mut known, mut others) = (Vec::new(), Vec::new());
    for (key, file) in &snapshot.files {
        let Some(meta) = file.location.as_ref().and_then(|path| objects.get(path)).cloned() else { continue };
        match sealed.files.contains_key(key) {
            true => known.push(meta),
            false => others.push((key, meta)),
        }
    }
    if known.is_empty() || others.is_empty() {
        return Ok(None);
    }
    let (format, state) = (&ParquetFormat::default(), &session(location)?);
    let schema = format.infer_schema(state, store, &known).await.map_err(to_error)?;
    let columns = &schema;
    let reads: Vec<BoxFuture<'_, Result<Fitting>>> = others
        .into_iter()
        .map(|(key, meta)| {
            async move {
                // Decoders panic on some damage.
                let read = AssertUnwindSafe(format.infer_schema(state, store, std::slice::from_ref(&meta))).catch_unwind().await;
                match read.map(|read| read.map_err(to_error)) {
                    Ok(Err(error)) if error.is_retryable() => Err(error.with("file", &key.path)),
                    Ok(Ok(found)) => Ok((key.clone(), fits(columns, &found))),
                    Ok(Err(_)) | Err(_) => Ok((key.clone(), Err("it is not Parquet that can be read".to_owned()))),
                }
            }
            .boxed()
        })
        .collect();
    let found: Vec<Fitting> = stream::iter(reads).buffered(CONCURRENCY).try_collect().await?;
    let mut later = Later { schema: schema.clone(), unfit: Vec::new(), hidden: BTreeSet::new() };
    for (key, fits) in found {
        match fits {
            Ok(more) => later.hidden.extend(more),
            Err(why) => later.unfit.push((key, why)),
        }
    }
    Ok(Some(later))
}

/// The columns that a file has beyond those of the table; why it cannot be read as the table's, where one is of another type.
fn fits(table: &Schema, file: &Schema) -> Result<Vec<String>, String> {
    let mut more = Vec::new();
    for field in file.fields() {
        match table.field_with_name(field.name()) {
            Ok(known) if known.data_type() == field.data_type() || *field.data_type() == DataType::Null => {}
            Ok(known) => {
                return Err(format!("its column {} is {}, and {} in the sealed files", field.name(), field.data_type(), known.data_type()));
            }
            Err(_) => more.push(field.name().clone()),
        }
    }
    Ok(more)
}

/// A session that reads from the table's own store.
fn session(location: &Location) -> Result<SessionState> {
    let registry = StoreRegistry::default();
    registry.pin(location.engine_url(), location.store().clone());
    let mut config = SessionConfig::new();
    read_subfolders(&mut config);
    let builder = SessionStateBuilder::new().with_default_features().with_config(config);
    Ok(builder.with_runtime_env(delta::runtime(Arc::new(registry))?).build())
}

/// A folder's table consists of all its files. DataFusion passes those in subfolders over unless it is told.
pub(super) fn read_subfolders(config: &mut SessionConfig) {
    config.options_mut().execution.listing_table_ignore_subdirectory = false;
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn a_file_fits_that_has_the_columns_of_the_table_in_its_types() {
        let schema = |fields: &[(&str, DataType)]| {
            Schema::new(fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>())
        };
        let table = schema(&[("id", DataType::Int64), ("name", DataType::Utf8View)]);
        for (fields, more) in [
            (&[("id", DataType::Int64), ("name", DataType::Utf8View)][..], &[][..]),
            (&[("name", DataType::Utf8View), ("note", DataType::Float64)], &["note"]),
            (&[("id", DataType::Null)], &[]),
            (&[], &[]),
        ] {
            assert_eq!(fits(&table, &schema(fields)).unwrap(), more);
        }
        let why = fits(&table, &schema(&[("note", DataType::Float64), ("id", DataType::Utf8View)])).unwrap_err();
        assert!(why.contains("its column id is Utf8View, and Int64"), "{why}");
        // A type that every value could be turned into is another type: what of a file fits must not depend on its rows.
        assert!(fits(&table, &schema(&[("id", DataType::Int32)])).is_err());
    }
}
