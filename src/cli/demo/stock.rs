//! The stock reader of the demo: deltalake and DataFusion with nothing of Lakeseal's but the `lakeseal://` address of the table.

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type};
use arrow::record_batch::RecordBatch;
use datafusion::prelude::SessionContext;

use super::Airport;
use super::stage::TABLE;
use crate::cli::context::OpenLake;
use crate::error::{Error, ErrorKind, Result};

/// Asks `query` of the table in the lake, without a look at any baseline.
pub(super) async fn ask(lake: &OpenLake, query: &str) -> Result<Vec<Airport>> {
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| Error::new(ErrorKind::Internal, "the stock reader failed").caused_by(e);
    let url = url::Url::parse(&format!("lakeseal://{}/{TABLE}", lake.named.name)).map_err(|e| failed(e.into()))?;
    let table = deltalake::open_table(url).await.map_err(|e| failed(e.into()))?;
    let session = SessionContext::new();
    let provider = table.table_provider().await.map_err(|e| failed(e.into()))?;
    session.register_table(TABLE, provider).map_err(|e| failed(e.into()))?;
    let answer = session.sql(query).await.map_err(|e| failed(e.into()))?;
    airports(&answer.collect().await.map_err(|e| failed(e.into()))?)
}

/// The rows of the demo's query.
pub(super) fn airports(batches: &[RecordBatch]) -> Result<Vec<Airport>> {
    let shape = || Error::new(ErrorKind::Internal, "the demo's query has other columns than expected");
    let mut found = Vec::new();
    for batch in batches {
        let origins = batch.columns().first().ok_or_else(shape)?;
        let origins = arrow::compute::cast(origins, &arrow::datatypes::DataType::Utf8).map_err(|e| shape().caused_by(e))?;
        let origins = origins.as_string_opt::<i32>().ok_or_else(shape)?;
        let flights = batch.columns().get(1).and_then(|column| column.as_primitive_opt::<Int64Type>()).ok_or_else(shape)?;
        let delays = batch.columns().get(2).and_then(|column| column.as_primitive_opt::<Float64Type>()).ok_or_else(shape)?;
        for ((origin, flights), delay) in origins.iter().zip(flights.iter()).zip(delays.iter()) {
            let (Some(origin), Some(flights), Some(delay)) = (origin, flights, delay) else { return Err(shape()) };
            found.push(Airport { origin: origin.to_owned(), flights, delay });
        }
    }
    Ok(found)
}
