//! Stock deltalake and DataFusion, which trust what they read.

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use chrono::DateTime;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;
use deltalake::DeltaTable;
use futures::{FutureExt as _, TryStreamExt as _};
use object_store::ObjectStore;
use object_store::path::Path;
use url::Url;

use super::arena::Arena;

/// What a reader said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The rows as text, or the error.
    pub text: String,
    pub failed: bool,
}

impl Answer {
    pub fn of(result: Result<String, String>) -> Self {
        match result {
            Ok(text) => Self { text, failed: false },
            Err(text) => Self { text: text.replace('\n', " "), failed: true },
        }
    }

    /// In short, beside what is true.
    pub fn beside(&self, honest: &Self) -> String {
        match self.failed {
            _ if self == honest => "unaffected".to_owned(),
            true => format!("error: {}", self.text),
            false => format!("WRONG in silence: {} for {}", self.text, honest.text),
        }
    }
}

/// 2026-01-02T12:00:00Z: the second commit of the corpus' tables is the newest then.
pub const AS_OF_MS: i64 = 1_767_225_600_000 + 36 * 3_600_000;

/// A stock reader of an arena's table.
pub struct Stock {
    context: SessionContext,
    url: Url,
    opened: Result<(), String>,
}

impl Stock {
    /// Opens the table as any program would; what that fails with is kept for the answer.
    pub async fn open(arena: &Arena) -> Self {
        let context = SessionContext::new();
        let url = arena.engine_url();
        let log = is_there(&arena.store, "t/_delta_log").await;
        let attempt = std::panic::AssertUnwindSafe(async {
            if log { register_delta(&context, &url).await } else { register_folder(&context, arena).await }
        });
        let opened = attempt.catch_unwind().await.unwrap_or_else(|_| Err("panicked".to_owned()));
        Self { context, url, opened }
    }

    pub async fn probe(&self, probe: &str, query: &str) -> Answer {
        let attempt = std::panic::AssertUnwindSafe(async {
            match probe {
                "as_of" => self.as_of().await,
                "insert" => self.insert().await,
                "changes" => self.changes().await,
                _ => self.sql(query).await,
            }
        });
        Answer::of(attempt.catch_unwind().await.unwrap_or_else(|_| Err("panicked".to_owned())))
    }

    async fn table(&self) -> Result<DeltaTable, String> {
        deltalake::open_table(self.url.clone()).await.map_err(|e| e.to_string())
    }

    async fn sql(&self, query: &str) -> Result<String, String> {
        self.opened.clone()?;
        let batches = self.context.sql(query).await.map_err(|e| e.to_string())?.collect().await.map_err(|e| e.to_string())?;
        Ok(shown(&batches))
    }

    async fn as_of(&self) -> Result<String, String> {
        let mut table = self.table().await?;
        table.load_with_datetime(DateTime::from_timestamp_millis(AS_OF_MS).unwrap()).await.map_err(|e| e.to_string())?;
        Ok(format!("version {}", table.version().unwrap_or_default()))
    }

    async fn insert(&self) -> Result<String, String> {
        match self.table().await?.write([bad_row()]).await {
            Ok(_) => Ok("accepted".to_owned()),
            Err(error) if error.to_string().contains("failed validation") => Ok("refused: the constraint".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn changes(&self) -> Result<String, String> {
        let scan = self.table().await?.scan_cdf().with_starting_version(0);
        let plan = scan.build(&self.context.state(), None).await.map_err(|e| e.to_string())?;
        let batches = collect(plan, self.context.task_ctx()).await.map_err(|e| e.to_string())?;
        let updated = |batch: &RecordBatch| {
            let values = batch.column_by_name("value").unwrap();
            let values = values.as_any().downcast_ref::<Float64Array>().unwrap();
            values.iter().flatten().sum::<f64>()
        };
        Ok(format!("{} rows, sum {}", batches.iter().map(RecordBatch::num_rows).sum::<usize>(), batches.iter().map(updated).sum::<f64>()))
    }
}

/// A row that the constraint `value > 0` forbids.
fn bad_row() -> RecordBatch {
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![9999])) as _),
        ("label", Arc::new(StringArray::from(vec!["0"])) as _),
        ("value", Arc::new(Float64Array::from(vec![-5.0])) as _),
        ("note", Arc::new(StringArray::from(vec!["bad"])) as _),
    ])
    .unwrap()
}

async fn register_delta(context: &SessionContext, url: &Url) -> Result<(), String> {
    let table = deltalake::open_table(url.clone()).await.map_err(|e| e.to_string())?;
    let provider = table.table_provider().await.map_err(|e| e.to_string())?;
    context.register_table("t", provider).map(|_| ()).map_err(|e| e.to_string())
}

async fn register_folder(context: &SessionContext, arena: &Arena) -> Result<(), String> {
    let url = Url::parse("folder://stock/").unwrap();
    context.register_object_store(&url, arena.store.clone());
    let options = ListingOptions::new(Arc::new(ParquetFormat::default()))
        .with_file_extension(".parquet")
        .with_table_partition_cols(vec![("label".to_owned(), DataType::Utf8)]);
    let table = ListingTableUrl::parse("folder://stock/t/").map_err(|e| e.to_string())?;
    let schema = options.infer_schema(&context.state(), &table).await.map_err(|e| e.to_string())?;
    let config = ListingTableConfig::new(table).with_listing_options(options).with_schema(schema);
    let provider = ListingTable::try_new(config).map_err(|e| e.to_string())?;
    context.register_table("t", Arc::new(provider)).map(|_| ()).map_err(|e| e.to_string())
}

/// Results as text without decoration: rows by `;`, columns by `,`.
pub fn shown(batches: &[RecordBatch]) -> String {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| arrow::util::display::array_value_to_string(column, row).unwrap());
            rows.push(cells.collect::<Vec<_>>().join(","));
        }
    }
    rows.join(";")
}

async fn is_there(store: &Arc<dyn ObjectStore>, folder: &str) -> bool {
    let objects: Vec<_> = store.list(Some(&Path::from(folder))).try_collect().await.unwrap();
    !objects.is_empty()
}
