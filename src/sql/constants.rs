//! What bounds of floats do not say: that a column is the same number everywhere.
//!
//! Statistics leave NaN out, in Delta's log and in Parquet's footers. Where a file's least and greatest float are one number and none is null,
//! DataFusion puts that number in the column's place without reading it; the rows with NaN would get it too.

use std::sync::Arc;

use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::common::{ColumnStatistics, Result, ScalarValue, Statistics};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;

/// The plan, with bounds of floats that prune and answer nothing else.
///
/// Cost: a look at the statistics of each file that is scanned; no I/O.
pub(super) fn without_constant_floats(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let source = node.downcast_ref::<DataSourceExec>();
        let config = source.and_then(|source| source.data_source().downcast_ref::<FileScanConfig>());
        Ok(match config.and_then(softened) {
            Some(config) => Transformed::yes(DataSourceExec::from_data_source(config) as Arc<dyn ExecutionPlan>),
            None => Transformed::no(node),
        })
    })
    .data()
}

/// `None` where nothing is to be changed.
fn softened(config: &FileScanConfig) -> Option<FileScanConfig> {
    let table = config.statistics();
    let of_files = config.file_groups.iter().flat_map(|group| group.iter().filter_map(|file| file.statistics.as_deref()));
    let of_groups = config.file_groups.iter().filter_map(|group| group.file_statistics(None));
    if !of_files.chain(of_groups).chain([&table]).any(is_exact) {
        return None;
    }
    let groups = config.file_groups.iter().map(|group| {
        let of_group = group.file_statistics(None).cloned();
        let mut files = group.clone().into_inner();
        files
            .iter_mut()
            .filter_map(|file| file.statistics.as_mut())
            .filter(|found| is_exact(found))
            .for_each(|found| soften(Arc::make_mut(found)));
        let group = FileGroup::new(files);
        match of_group {
            Some(statistics) => group.with_statistics(Arc::new(softly(statistics))),
            None => group,
        }
    });
    let groups = groups.collect();
    let partitioning = config.output_partitioning.clone();
    let builder = FileScanConfigBuilder::from(config.clone()).with_file_groups(groups).with_statistics(softly(table));
    Some(builder.with_output_partitioning(partitioning).build())
}

fn is_exact(statistics: &Statistics) -> bool {
    let exact = |bound: &Precision<ScalarValue>| matches!(bound, Precision::Exact(value) if is_float(value));
    statistics.column_statistics.iter().any(|column| exact(&column.min_value) || exact(&column.max_value))
}

fn softly(mut statistics: Statistics) -> Statistics {
    soften(&mut statistics);
    statistics
}

fn soften(statistics: &mut Statistics) {
    for ColumnStatistics { min_value, max_value, .. } in &mut statistics.column_statistics {
        for bound in [min_value, max_value] {
            if bound.get_value().is_some_and(is_float) {
                *bound = std::mem::take(bound).to_inexact();
            }
        }
    }
}

fn is_float(value: &ScalarValue) -> bool {
    matches!(value, ScalarValue::Float16(_) | ScalarValue::Float32(_) | ScalarValue::Float64(_))
}
