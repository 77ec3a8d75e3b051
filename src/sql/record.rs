//! What a statement that writes reads, and how: its lineage, for whoever attests the commit.
//!
//! Tables come from the logical plan (a `COUNT(*)` that is answered from the log has no scan left later), the files and row groups that were
//! really read from the tables' stores, once the statement ran.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, Volatility, WindowFunctionDefinition};
use datafusion::prelude::SessionConfig;
use object_store::{GetOptions, GetRange, ObjectStore};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::catalog::Resolver;
use super::table::{Origin, VerifiedTable};
use super::to_error;
use crate::delta::Records;
use crate::digest::Digest;
use crate::error::Result;
use crate::lineage::{Input, InputFile, InputKind, Lineage, Transformation};
use crate::verify::{Extent, ReadFile, ReadLog, VerifiedStore, is_of};

const PLAN_TAG: &str = "lakeseal 2026 plan fingerprint v1";
/// So many unsealed files have their footers read to tell row groups apart; with more, they count as read whole.
const FOOTERS_LIMIT: usize = 64;
/// Bytes at a file's end that are fetched for its footer at first.
const FOOTER_GUESS_BYTES: u64 = 64 * 1024;
/// A footer is never larger than this, in bytes.
const FOOTER_LIMIT_BYTES: u64 = 64 << 20;

/// The functions that the engine brings itself.
static OWN_FUNCTIONS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let scalar = SessionStateDefaults::default_scalar_functions().into_iter().map(|f| f.name().to_owned());
    let aggregate = SessionStateDefaults::default_aggregate_functions().into_iter().map(|f| f.name().to_owned());
    let window = SessionStateDefaults::default_window_functions().into_iter().map(|f| f.name().to_owned());
    let higher_order = SessionStateDefaults::default_higher_order_functions().into_iter().map(|f| f.name().to_owned());
    scalar.chain(aggregate).chain(window).chain(higher_order).collect()
});

/// A table that a statement reads.
#[derive(Debug)]
struct Scan {
    name: String,
    origin: Arc<Origin>,
    store: VerifiedStore,
    reads: Arc<ReadLog>,
    /// Several scans of the statement read through the store: which of them read what is not known, nor whether the log answered one.
    is_shared: bool,
}

/// A statement that writes.
#[derive(Debug)]
pub(super) struct Statement {
    operation: &'static str,
    scans: Vec<Scan>,
    /// What is read besides verified tables: nothing is known of its content.
    others: Vec<String>,
    transformation: Transformation,
    started_ms: i64,
}

/// What the plan of a query says of itself.
#[derive(Debug, Default)]
pub(super) struct PlanFacts {
    functions: BTreeSet<String>,
    user_defined: BTreeSet<String>,
    volatile: BTreeSet<String>,
    order_matters: bool,
}

impl PlanFacts {
    /// Walks `plan` and its subqueries.
    pub(super) fn of(plan: &LogicalPlan) -> Result<Self> {
        let mut facts = Self::default();
        let walked = plan.apply_with_subqueries(|node| {
            facts.order_matters |= matches!(
                node,
                LogicalPlan::Aggregate(_) | LogicalPlan::Limit(_) | LogicalPlan::Window(_) | LogicalPlan::Distinct(Distinct::On(_))
            );
            node.apply_expressions(|expression| {
                expression.apply(|part| {
                    facts.note(part);
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        });
        walked.map_err(to_error)?;
        Ok(facts)
    }

    /// The function that `expression` itself calls, if its results depend on more than its arguments.
    pub(super) fn volatile_call(expression: &Expr) -> Option<String> {
        called(expression).filter(|(_, volatility)| *volatility != Volatility::Immutable).map(|(name, _)| name.to_owned())
    }

    fn note(&mut self, expression: &Expr) {
        let Some((name, volatility)) = called(expression) else { return };
        self.functions.insert(name.to_owned());
        if !OWN_FUNCTIONS.contains(name) {
            self.user_defined.insert(name.to_owned());
        }
        // `now()` is stable within a query, and another at every run.
        if volatility != Volatility::Immutable {
            self.volatile.insert(name.to_owned());
        }
    }

    /// The functions that it calls which are not the engine's own.
    pub(super) fn user_defined(&self) -> &BTreeSet<String> {
        &self.user_defined
    }

    /// The functions that it calls whose results depend on more than their arguments.
    pub(super) fn volatile(&self) -> &BTreeSet<String> {
        &self.volatile
    }

    /// Whether the result may depend on how rows are spread over partitions: sums of floats, limits, windows.
    pub(super) fn order_matters(&self) -> bool {
        self.order_matters
    }
}

/// The function that `expression` itself calls.
fn called(expression: &Expr) -> Option<(&str, Volatility)> {
    match expression {
        Expr::ScalarFunction(call) => Some((call.func.name(), call.func.signature().volatility)),
        Expr::AggregateFunction(call) => Some((call.func.name(), call.func.signature().volatility)),
        Expr::WindowFunction(call) => Some(match &call.fun {
            WindowFunctionDefinition::AggregateUDF(fun) => (fun.name(), fun.signature().volatility),
            WindowFunctionDefinition::WindowUDF(fun) => (fun.name(), fun.signature().volatility),
        }),
        Expr::HigherOrderFunction(call) => Some((call.func.name(), call.func.signature().volatility)),
        _ => None,
    }
}

/// The fingerprint of a plan's text: comparable within one version of the engine.
pub(super) fn fingerprint(plan: &LogicalPlan) -> (String, Digest) {
    let text = plan.display_indent_schema().to_string();
    let digest = Digest::tagged(PLAN_TAG, text.as_bytes());
    (text, digest)
}

impl Statement {
    /// Takes down what `sql`, planned as `query`, reads. From here on the tables note what of them is read.
    pub(super) fn new(
        operation: &'static str,
        sql: &str,
        query: &LogicalPlan,
        facts: PlanFacts,
        config: &SessionConfig,
        resolver: &Resolver,
    ) -> Result<Self> {
        let (mut scans, mut others): (Vec<Scan>, Vec<String>) = (Vec::new(), Vec::new());
        let walked = query.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                let provider = source_as_provider(&scan.source)?;
                match provider.downcast_ref::<VerifiedTable>() {
                    Some(table) => {
                        let (name, store) = (scan.table_name.table().to_owned(), table.store().clone());
                        let known = scans.iter().position(|known: &Scan| known.store.is_same(&store));
                        let (reads, is_shared) = match known.and_then(|at| scans.get_mut(at)) {
                            Some(known) => {
                                known.is_shared = true;
                                (known.reads.clone(), true)
                            }
                            None => (store.begin_read_log(), false),
                        };
                        scans.push(Scan { name, origin: table.origin().clone(), store, reads, is_shared });
                    }
                    None => others.push(scan.table_name.to_string()),
                }
            }
            Ok(TreeNodeRecursion::Continue)
        });
        walked.map_err(to_error)?;
        let (plan, digest) = fingerprint(query);
        let declared = resolver.functions.read();
        let code = |name: &String| Some((name.clone(), *declared.get(name)?));
        let function_digests = facts.user_defined.iter().filter_map(code).collect();
        let transformation = Transformation {
            sql: Some(sql.to_owned()),
            plan: Some(plan),
            fingerprint: Some(digest),
            functions: facts.functions.into_iter().collect(),
            user_defined: facts.user_defined.into_iter().collect(),
            function_digests,
            volatile: facts.volatile.into_iter().collect(),
            settings: changed_settings(config),
            ..Transformation::default()
        };
        Ok(Self { operation, scans, others, transformation, started_ms: resolver.options.clock.now_ms() })
    }
}

/// The settings that differ from a session's own defaults.
fn changed_settings(config: &SessionConfig) -> std::collections::BTreeMap<String, String> {
    let entries = |config: &SessionConfig| -> std::collections::BTreeMap<String, String> {
        config.options().entries().into_iter().filter_map(|entry| Some((entry.key, entry.value?))).collect()
    };
    let usual = entries(&super::session::session_config());
    entries(config).into_iter().filter(|(name, value)| usual.get(name) != Some(value)).collect()
}

#[async_trait]
impl Records for Statement {
    async fn lineage(&self) -> Lineage {
        let mut inputs: Vec<Input> = Vec::new();
        for scan in &self.scans {
            let input = scan.input().await;
            // One table read twice at one version is one input.
            match inputs.iter_mut().find(|known| known.uri == input.uri && known.version == input.version && known.name == input.name) {
                Some(known) => merge(known, input),
                None => inputs.push(input),
            }
        }
        inputs.extend(self.others.iter().map(|name| Input {
            kind: InputKind::Source,
            uri: format!("session:{name}"),
            name: Some(name.clone()),
            table_id: None,
            version: None,
            digest: None,
            baseline: None,
            files: None,
        }));
        Lineage {
            operation: self.operation.to_owned(),
            inputs,
            inputs_complete: self.others.is_empty(),
            transformation: self.transformation.clone(),
            started_ms: Some(self.started_ms),
            ..Lineage::default()
        }
    }
}

/// The union of two reads of one table; what is unknown in either is unknown.
fn merge(known: &mut Input, more: Input) {
    let (Some(files), Some(more)) = (&mut known.files, more.files) else {
        known.files = None;
        return;
    };
    for file in more {
        match files.iter_mut().find(|own| own.path == file.path) {
            Some(own) => {
                own.row_groups = match (own.row_groups.take(), file.row_groups) {
                    (Some(a), Some(b)) => Some(a.into_iter().chain(b).collect::<BTreeSet<_>>().into_iter().collect()),
                    _ => None,
                };
            }
            None => files.push(file),
        }
    }
}

impl Scan {
    async fn input(&self) -> Input {
        let origin = &self.origin;
        Input {
            kind: InputKind::Table,
            uri: origin.location.url().to_string(),
            name: Some(self.name.clone()),
            table_id: origin.table_id.clone(),
            version: origin.version,
            digest: origin.commit,
            baseline: origin.baseline,
            files: self.files().await,
        }
    }

    /// The files that gave something; `None` when any may have.
    async fn files(&self) -> Option<Vec<InputFile>> {
        if self.is_shared || self.reads.may_be_answered_by_log() {
            return None;
        }
        let mut footers = 0;
        let mut files = Vec::new();
        for file in self.store.read_files(&self.reads).await {
            footers += usize::from(matches!(file.extent, Extent::Bytes(_)));
            let row_groups = match &file.extent {
                Extent::RowGroups(groups) => Some(groups.iter().copied().collect()),
                Extent::Bytes(ranges) if footers <= FOOTERS_LIMIT => match row_groups(&self.store, &file, ranges, &self.reads).await {
                    Some(pruned) if pruned.is_empty() => continue,
                    read => read,
                },
                Extent::Bytes(_) | Extent::Unknown => None,
            };
            files.push(InputFile { path: file.path, digest: file.digest, row_groups });
        }
        // Nothing read means answered from the log, which speaks of every file.
        Some(files).filter(|files| !files.is_empty())
    }
}

/// The row groups of an unsealed file that `ranges` touch, none where all were pruned; `None` when its footer is not understood, or may have given all
/// that was asked for.
async fn row_groups(store: &VerifiedStore, file: &ReadFile, ranges: &[std::ops::Range<u64>], reads: &ReadLog) -> Option<Vec<u32>> {
    let metadata = footer(store, file).await?;
    let mut touched = Vec::new();
    for (ordinal, group) in metadata.row_groups().iter().enumerate() {
        let chunks = group.columns().iter().map(parquet::file::metadata::ColumnChunkMetaData::byte_range);
        let is_read = chunks
            .into_iter()
            .any(|(start, length)| ranges.iter().any(|range| range.start < start.saturating_add(length) && start < range.end));
        if is_read {
            touched.push(u32::try_from(ordinal).ok()?);
        }
    }
    let leaves = metadata.file_metadata().schema_descr();
    let has = |name: &str| leaves.columns().iter().any(|leaf| is_of(&leaf.path().string(), name));
    Some(touched).filter(|touched| !touched.is_empty() || reads.is_pruned(has))
}

async fn footer(store: &VerifiedStore, file: &ReadFile) -> Option<ParquetMetaData> {
    let mut wanted = FOOTER_GUESS_BYTES.min(file.size);
    for _ in 0..2 {
        let range = Some(GetRange::Bounded(file.size.saturating_sub(wanted)..file.size));
        let bytes = store.get_opts(&file.location, GetOptions { range, ..GetOptions::default() }).await.ok()?.bytes().await.ok()?;
        let size = file.size;
        // Decoders panic on some damaged footers.
        let parsed = tokio::task::spawn_blocking(move || {
            let mut reader = ParquetMetaDataReader::new();
            reader.try_parse_sized(&bytes, size).and_then(|()| reader.finish())
        });
        match parsed.await.ok()? {
            Ok(metadata) => return Some(metadata),
            Err(ParquetError::NeedMoreData(more)) => {
                wanted = u64::try_from(more).ok().filter(|more| *more <= FOOTER_LIMIT_BYTES)?.min(file.size)
            }
            Err(_) => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::expr::HigherOrderFunction;
    use datafusion::prelude::SessionContext;

    use super::*;

    #[test]
    fn functions_that_take_functions_are_calls_as_others_are() {
        let all = SessionStateDefaults::default_higher_order_functions();
        assert!(!all.is_empty());
        for function in all {
            let name = function.name().to_owned();
            let mut facts = PlanFacts::default();
            facts.note(&Expr::HigherOrderFunction(HigherOrderFunction::new(function, Vec::new())));
            assert_eq!(facts.functions.iter().collect::<Vec<_>>(), [&name]);
            assert!(facts.user_defined.is_empty() && facts.volatile.is_empty(), "{facts:?}");
        }
    }

    #[tokio::test]
    async fn which_row_is_kept_of_those_that_are_alike_depends_on_their_order() {
        let context = SessionContext::new();
        for (query, expected) in [
            ("SELECT DISTINCT ON (a) a, b FROM (VALUES (1, 2)) AS t(a, b)", true),
            ("SELECT DISTINCT a, b FROM (VALUES (1, 2)) AS t(a, b)", false),
        ] {
            let plan = context.state().create_logical_plan(query).await.unwrap();
            assert_eq!(PlanFacts::of(&plan).unwrap().order_matters(), expected, "{query}");
        }
    }
}
