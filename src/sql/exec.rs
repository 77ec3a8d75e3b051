//! The plan node above a verified scan: it gives back the finding that engines on the way may have turned into text.

use std::sync::{Arc, Weak};

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::error::DataFusionError;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::execution_plan::CardinalityEffect;
use datafusion::physical_plan::filter_pushdown::{
    ChildFilterDescription, ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PhysicalExpr, PlanProperties};
use futures::StreamExt;
use object_store::ObjectStore;
use parking_lot::Mutex;
use url::Url;

use super::{external, floats};
use crate::error::{Error, ErrorKind};
use crate::verify::Recorder;

/// A store that is known to a runtime. The table holds it and each of its plans does, so that the end of one plan takes nothing
/// from another; it ends when the last of them is gone.
#[derive(Debug)]
pub(super) struct Registration {
    runtime: Weak<RuntimeEnv>,
    url: Url,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.upgrade() {
            // Gone already, or in a registry that keeps everything: either is as good.
            let _ = runtime.deregister_object_store(&self.url);
        }
    }
}

/// The runtimes that know a table's store.
#[derive(Debug, Default)]
pub(super) struct Registrations(Mutex<Vec<Arc<Registration>>>);

impl Registrations {
    /// Makes `store` known to `runtime` under `url`, once.
    pub(super) fn register(&self, runtime: &Arc<RuntimeEnv>, url: &Url, store: Arc<dyn ObjectStore>) -> Arc<Registration> {
        let mut all = self.0.lock();
        all.retain(|known| known.runtime.strong_count() > 0);
        if let Some(known) = all.iter().find(|known| std::ptr::eq(known.runtime.as_ptr(), Arc::as_ptr(runtime))) {
            return known.clone();
        }
        runtime.register_object_store(url, store);
        let new = Arc::new(Registration { runtime: Arc::downgrade(runtime), url: url.clone() });
        all.push(new.clone());
        new
    }
}

/// A verified scan.
#[derive(Debug, Clone)]
pub(super) struct VerifiedExec {
    inner: Arc<dyn ExecutionPlan>,
    recorder: Recorder,
    registration: Arc<Registration>,
    /// Row groups and whole files that are left out of the table.
    left_out: (usize, usize),
}

impl VerifiedExec {
    pub(super) fn new(
        inner: Arc<dyn ExecutionPlan>,
        recorder: Recorder,
        registration: Arc<Registration>,
        left_out: (usize, usize),
    ) -> Self {
        Self { inner, recorder, registration, left_out }
    }

    fn around(&self, inner: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { inner, ..self.clone() })
    }
}

/// The mismatch itself in place of an error that it led to.
pub(super) fn recovered(recorder: &Recorder, error: DataFusionError) -> DataFusionError {
    if Error::find(&error).is_some_and(|inner| inner.kind() == ErrorKind::Mismatch) {
        return error;
    }
    recorder.first_error().map_or(error, external)
}

impl DisplayAs for VerifiedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VerifiedExec")
    }
}

impl ExecutionPlan for VerifiedExec {
    fn name(&self) -> &'static str {
        "VerifiedExec"
    }

    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.inner.properties()
    }

    /// Of scans with floats it is not told: a sort that is moved below prunes the scan by what it learns, by bounds that leave NaN out.
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![floats::others(&self.schema()).len() == self.schema().fields().len()]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.inner]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([inner]) => Ok(self.around(inner)),
            Err(_) => internal_err!("a verified scan has exactly one input"),
        }
    }

    fn repartitioned(&self, target_partitions: usize, config: &ConfigOptions) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        Ok(self.inner.repartitioned(target_partitions, config)?.map(|inner| self.around(inner)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let stream = self.inner.execute(partition, context).map_err(|e| recovered(&self.recorder, e))?;
        let recorder = self.recorder.clone();
        let registration = self.registration.clone();
        let checked = stream.map(move |batch| {
            let _held = &registration;
            batch.map_err(|e| recovered(&recorder, e))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), checked)))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        match inputs.first() {
            Some(inner) => Ok(inner.clone()),
            None => internal_err!("a verified scan has exactly one input"),
        }
    }

    /// What was done for the table up to now, by all scans of it.
    fn metrics(&self) -> Option<MetricsSet> {
        let set = ExecutionPlanMetricsSet::new();
        let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        for (name, n) in [
            ("healed_blocks", count(self.recorder.healed_blocks())),
            ("delivered_blocks", count(self.recorder.delivered_blocks())),
            ("skipped_row_groups", self.left_out.0),
            ("skipped_files", self.left_out.1),
        ] {
            MetricBuilder::new(&set).global_counter(name).add(n);
        }
        Some(set.clone_inner())
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    fn gather_filters_for_pushdown(
        &self,
        _: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterDescription> {
        // What is learnt while a query runs, as from a join or a sort, prunes as a filter of the query does.
        let allowed = floats::others(&self.schema());
        let child = ChildFilterDescription::from_child_with_allowed_indices(&parent_filters, allowed, &self.inner)?;
        Ok(FilterDescription::new().with_child(child))
    }

    fn handle_child_pushdown_result(
        &self,
        _: FilterPushdownPhase,
        child_pushdown_result: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::if_all(child_pushdown_result))
    }
}
