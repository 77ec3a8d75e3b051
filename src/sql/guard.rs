//! The second net: a plan that reads anything past a verified scan is refused, whoever made it.
//!
//! The first net is [`VerifiedTable`](super::VerifiedTable), which every name in a sealed session resolves to. This one stands for what
//! is put into the session beside it: another provider of the same table, a listing of its folder, a rewritten plan.

use std::sync::Arc;

use datafusion::common::Result as DataFusionResult;
use datafusion::config::ConfigOptions;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::explain::ExplainExec;
use datafusion::physical_plan::memory::LazyMemoryExec;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::streaming::StreamingTableExec;
use datafusion::physical_plan::work_table::WorkTableExec;

use super::answer::AnswerExec;
use super::exec::VerifiedExec;
use super::external;
use crate::error::{Error, ErrorKind};

/// Refuses plans in which anything but a verified scan, or memory, is read.
///
/// It changes nothing. Put it first and last among a session's rules: first, because metadata alone may answer a scan, which then leaves
/// no trace in the plan; last, because rules may put scans in. [`SealedSession`](super::SealedSession) does.
#[derive(Debug, Default, Clone, Copy)]
pub struct VerifiedScansOnly;

impl VerifiedScansOnly {
    /// DataFusion's own rules between two of these.
    pub fn around_default_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
        let own = || Arc::new(Self) as Arc<dyn PhysicalOptimizerRule + Send + Sync>;
        std::iter::once(own()).chain(PhysicalOptimizer::new().rules).chain(std::iter::once(own())).collect()
    }
}

impl PhysicalOptimizerRule for VerifiedScansOnly {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        match unverified_leaf(&plan) {
            None => Ok(plan),
            Some(leaf) => Err(external(
                Error::new(
                    ErrorKind::Permission,
                    "the plan reads something past verification; open the table through the session, by its name",
                )
                .with("plan node", leaf),
            )),
        }
    }

    fn name(&self) -> &'static str {
        "verified_scans_only"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The name of the first leaf that is neither below a verified scan or an answer of ours nor known to read memory only. Unknown leaves are refused.
fn unverified_leaf(plan: &Arc<dyn ExecutionPlan>) -> Option<String> {
    if plan.is::<VerifiedExec>() || plan.is::<AnswerExec>() {
        return None;
    }
    let children = plan.children();
    if !children.is_empty() {
        return children.into_iter().find_map(unverified_leaf);
    }
    let reads_memory = match plan.downcast_ref::<DataSourceExec>() {
        Some(source) => source.data_source().is::<MemorySourceConfig>(),
        None => {
            plan.is::<EmptyExec>()
                || plan.is::<PlaceholderRowExec>()
                || plan.is::<ExplainExec>()
                || plan.is::<LazyMemoryExec>()
                || plan.is::<WorkTableExec>()
                || is_information_schema(plan)
        }
    };
    (!reads_memory).then(|| plan.name().to_owned())
}

/// DataFusion's own tables of names and settings: streams from memory, whose types are private and so are known by their names.
fn is_information_schema(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let streams = plan.downcast_ref::<StreamingTableExec>().map(StreamingTableExec::partitions);
    streams.is_some_and(|streams| streams.iter().all(|stream| format!("{stream:?}").starts_with("InformationSchema")))
}
