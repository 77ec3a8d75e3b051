//! The table function `reports()`: what was healed, left out, delivered or refused in this session.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result as DataFusionResult, plan_err};
use datafusion::datasource::TableType;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;

use super::answer::in_memory;
use crate::verify::{Incident, Reports};

pub(super) fn register(context: &SessionContext, reports: &Reports) {
    let columns = ["action", "table", "file", "row_groups", "columns", "detail", "source"];
    let schema = Arc::new(Schema::new(columns.map(|name| Field::new(name, DataType::Utf8, true)).to_vec()));
    context.register_udtf("reports", Arc::new(Function { reports: reports.clone(), schema }));
}

#[derive(Debug, Clone)]
struct Function {
    reports: Reports,
    schema: SchemaRef,
}

impl TableFunctionImpl for Function {
    fn call_with_args(&self, args: TableFunctionArgs) -> DataFusionResult<Arc<dyn TableProvider>> {
        if !args.exprs().is_empty() {
            return plan_err!("reports takes no argument: SELECT * FROM reports()");
        }
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl TableProvider for Function {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let batch = RecordBatch::try_new(self.schema.clone(), columns(&self.reports.incidents()))?;
        in_memory(batch, projection)
    }
}

fn columns(incidents: &[Incident]) -> Vec<ArrayRef> {
    let text = |value: fn(&Incident) -> Option<String>| -> ArrayRef { Arc::new(incidents.iter().map(value).collect::<StringArray>()) };
    let listed = |values: Vec<String>| Some(values.join(", ")).filter(|text| !text.is_empty());
    let lists = |value: fn(&Incident) -> Vec<String>| -> ArrayRef {
        Arc::new(incidents.iter().map(|incident| listed(value(incident))).collect::<StringArray>())
    };
    vec![
        text(|incident| Some(incident.action.to_string())),
        text(|incident| Some(incident.damage.table.clone())),
        text(|incident| Some(incident.damage.file.clone()).filter(|file| !file.is_empty())),
        lists(|incident| incident.damage.row_groups()),
        lists(|incident| incident.damage.columns()),
        text(|incident| Some(incident.damage.detail.clone())),
        text(|incident| incident.source.clone()),
    ]
}
