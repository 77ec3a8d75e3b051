//! Reports of an audit as files: a page for people (`html`), findings for code-hosting systems (`sarif`).

mod charts;
mod html;
mod page;
mod sarif;

use std::path::Path;

use arrow::array::{Array as _, RecordBatch};
use arrow::util::display::array_value_to_string;
use futures::StreamExt as _;

use super::args::AuditArgs;
use super::context::Context;
use super::sql::session;
use crate::baseline::{AuditReport, BaselineSummary, SealedTable, Trust};
use crate::delta::Location;
use crate::error::{Error, ErrorKind, Result};
use crate::lake::write_whole;
use crate::sql::{SealedSession, to_error};

/// Differing values that a page shows.
const SHOWN_VALUES: usize = 500;
/// Rows of lineage that a page shows.
const SHOWN_LINEAGE: usize = 200;

/// The drift of a table: by turns what is not known of it and what moved most, so that neither hides the other where there is more than is shown.
const DRIFT: &str = "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY scope = 'note' \
                     ORDER BY scope = 'row_group', alert DESC NULLS LAST, psi DESC NULLS LAST) AS place FROM drift('{}')) ORDER BY place";
/// What is shown of a table's lineage: title, function, query. Of its commits the newest come first, of what it reaches the nearest.
const LINEAGE: [(&str, &str, &str); 2] = [
    ("Where it came from", "lineage", "SELECT * FROM lineage('{}') ORDER BY version DESC NULLS LAST"),
    ("What it reaches downstream", "blast_radius", "SELECT * FROM blast_radius('{}')"),
];

/// A table of texts, as a query answers.
#[derive(Debug, Default, Clone)]
struct Answer {
    columns: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
    /// Whether there is more than this.
    cut: bool,
    /// Why there is nothing.
    failed: Option<String>,
}

impl Answer {
    fn get<'a>(&self, row: &'a [Option<String>], column: &str) -> Option<&'a str> {
        let at = self.columns.iter().position(|name| name == column)?;
        row.get(at)?.as_deref()
    }
}

/// All that a page shows.
struct Content<'a> {
    report: &'a AuditReport,
    name: String,
    now_ms: i64,
    quick: bool,
    sealed: Option<SealedTable>,
    baselines: Vec<BaselineSummary>,
    values: Answer,
    drift: Answer,
    /// Title and rows of what is known of the table's lineage.
    lineage: Vec<(&'static str, Answer)>,
    /// What is not known of it, or was read unverified.
    notes: Vec<String>,
}

/// Writes the page, replacing the file as a whole.
pub(super) async fn write_html(
    file: &Path,
    report: &AuditReport,
    args: &AuditArgs,
    location: &Location,
    trust: &Trust,
    context: &Context,
) -> Result<()> {
    let repository = location.repository();
    let mut content = Content {
        report,
        name: location.name().to_owned(),
        now_ms: context.clock.now_ms(),
        quick: args.quick,
        // What cannot be read is a finding already.
        sealed: repository.newest_baseline(trust).await.ok().flatten(),
        baselines: repository.baselines(trust).await.unwrap_or_default().into_iter().map(|baseline| baseline.summary).collect(),
        values: Answer::default(),
        drift: Answer::default(),
        lineage: Vec::new(),
        notes: Vec::new(),
    };
    if !args.quick && content.sealed.is_some() {
        let session = session(&[], &args.trust, &args.writers, false, None, context).await?;
        let table = args.table.replace('\'', "''");
        content.values = answer(&session, &format!("SELECT * FROM poison_diff('{table}')"), SHOWN_VALUES).await;
        content.drift = answer(&session, &DRIFT.replace("{}", &table), SHOWN_VALUES).await;
        let functions = session.context().state().table_functions().clone();
        for (title, function, query) in LINEAGE {
            if functions.contains_key(function) {
                content.lineage.push((title, answer(&session, &query.replace("{}", &table), SHOWN_LINEAGE).await));
            }
        }
        content.notes = session.notes();
    }
    put(file, html::render(&content).as_bytes())
}

/// Writes the findings as SARIF 2.1.0; `table` is the table as it was named.
pub(super) fn write_sarif(file: &Path, report: &AuditReport, table: &str) -> Result<()> {
    let text = serde_json::to_string_pretty(&sarif::render(report, table))
        .map_err(|e| Error::new(ErrorKind::Internal, "the findings could not be written as JSON").caused_by(e))?;
    put(file, text.as_bytes())
}

fn put(file: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |e: std::io::Error| Error::new(ErrorKind::Io, "the report could not be written").with("file", file.display()).caused_by(e);
    write_whole(file, bytes, true).map_err(failed)
}

/// The first rows of a query; why there are none, when it fails: a page with less on it is better than no page.
async fn answer(session: &SealedSession, query: &str, limit: usize) -> Answer {
    match ask(session, query, limit).await {
        Ok(answer) => answer,
        Err(error) => Answer { failed: Some(error.to_string()), ..Answer::default() },
    }
}

async fn ask(session: &SealedSession, query: &str, limit: usize) -> Result<Answer> {
    let plan = session.sql(query).await?;
    let mut batches = plan.execute_stream().await.map_err(to_error)?;
    let columns = batches.schema().fields().iter().map(|field| field.name().clone()).collect();
    let mut answer = Answer { columns, ..Answer::default() };
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(to_error)?;
        for row in 0..batch.num_rows() {
            if answer.rows.len() == limit {
                answer.cut = true;
                return Ok(answer);
            }
            answer.rows.push(cells(&batch, row));
        }
    }
    Ok(answer)
}

fn cells(batch: &RecordBatch, row: usize) -> Vec<Option<String>> {
    let cell = |column: &arrow::array::ArrayRef| (!column.is_null(row)).then(|| array_value_to_string(column, row).unwrap_or_default());
    batch.columns().iter().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BooleanArray, Float64Array, StringArray};
    use datafusion::prelude::SessionContext;

    use super::*;

    /// Notes have no alert, and many columns of many row groups have one.
    #[tokio::test]
    async fn what_is_not_known_is_not_hidden_by_what_moved() {
        let scopes = ["note"; 3].into_iter().chain(["row_group"; 700]).chain(["table"; 300]);
        let alert = |scope: &str| (scope != "note").then_some(true);
        let columns = [
            ("scope", Arc::new(StringArray::from_iter_values(scopes.clone())) as ArrayRef),
            ("alert", Arc::new(scopes.clone().map(alert).collect::<BooleanArray>()) as ArrayRef),
            ("psi", Arc::new((0..1003).map(|n| (n > 2).then_some(f64::from(n))).collect::<Float64Array>()) as ArrayRef),
        ];
        let context = SessionContext::new();
        context.register_batch("known", RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap()).unwrap();
        let batches = context.sql(&DRIFT.replace("drift('{}')", "known")).await.unwrap().collect().await.unwrap();
        let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| cells(batch, row)));
        let shown: Vec<_> = rows.take(SHOWN_VALUES).map(|row| (row[0].clone().unwrap(), row[2].clone())).collect();
        let count = |scope: &str| shown.iter().filter(|(of, _)| of == scope).count();
        assert_eq!((shown.len(), count("note"), count("table")), (SHOWN_VALUES, 3, 300));
        let most = shown.iter().find(|(scope, _)| scope == "table").unwrap();
        assert_eq!(most.1.as_deref(), Some("1002.0"), "what moved most comes first");
    }
}
