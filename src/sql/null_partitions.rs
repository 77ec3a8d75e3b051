//! Folders of Parquet whose partitions may be null: Hive writes a word in the null's place, and DataFusion takes it for the value.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::TableType;
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column, binary, case, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;

use crate::table::NULL_PARTITION;

/// A folder's table in which the word is null.
#[derive(Debug)]
pub(super) struct NullPartitions {
    inner: Arc<dyn TableProvider>,
    schema: SchemaRef,
    columns: Vec<String>,
}

impl NullPartitions {
    /// `inner` with these partition columns, of text, null where a folder says so.
    pub(super) fn new(inner: Arc<dyn TableProvider>, columns: Vec<String>) -> Self {
        let schema = inner.schema();
        let fields = schema.fields().iter().map(|field| match columns.contains(field.name()) {
            true => Arc::new(field.as_ref().clone().with_nullable(true)),
            false => field.clone(),
        });
        let schema = Arc::new(Schema::new_with_metadata(fields.collect::<Vec<Arc<Field>>>(), schema.metadata().clone()));
        Self { inner, schema, columns }
    }

    fn speaks_of_them(&self, filter: &Expr) -> bool {
        filter.column_refs().iter().any(|column| self.columns.contains(&column.name))
    }
}

#[async_trait]
impl TableProvider for NullPartitions {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // What a filter means is not what it would mean to the word.
        let own: Vec<Expr> = filters.iter().filter(|filter| !self.speaks_of_them(filter)).cloned().collect();
        let limit = limit.filter(|_| own.len() == filters.len());
        let plan = self.inner.scan(state, projection, &own, limit).await?;
        let schema = plan.schema();
        if !schema.fields().iter().any(|field| self.columns.contains(field.name())) {
            return Ok(plan);
        }
        let shown = schema.fields().iter().enumerate().map(|(at, field)| {
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), at));
            let shown = if self.columns.contains(field.name()) { null_for_word(column, field.data_type(), &schema)? } else { column };
            Ok((shown, field.name().clone()))
        });
        Ok(Arc::new(ProjectionExec::try_new(shown.collect::<Result<Vec<_>>>()?, plan.clone())?))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let supported = self.inner.supports_filters_pushdown(filters)?;
        let of = |(filter, supported): (&&Expr, TableProviderFilterPushDown)| match self.speaks_of_them(filter) {
            true => TableProviderFilterPushDown::Unsupported,
            false => supported,
        };
        Ok(filters.iter().zip(supported).map(of).collect())
    }
}

fn null_for_word(column: Arc<dyn PhysicalExpr>, kind: &DataType, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
    let word = lit(ScalarValue::Utf8(Some(NULL_PARTITION.to_owned())).cast_to(kind)?);
    let is_word = binary(column.clone(), Operator::Eq, word, schema)?;
    case(None, vec![(is_word, lit(ScalarValue::try_from(kind)?))], Some(column))
}
