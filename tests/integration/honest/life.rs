//! One table's life: after each step it is audited, queried, sealed, audited and queried again.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use lakeseal::baseline::{Outcome, Verdict};
use lakeseal::sql::ReadMode;

use super::super::support::arena::{Arena, Kind, line};
use super::super::support::stock::{Stock, shown};

/// Projection, filters, LIMIT, TopK, joins, groups, metadata-only answers, and filters that prune pages. Each has one answer.
pub const QUERIES: [&str; 11] = [
    "SELECT COUNT(*) FROM t",
    "SELECT id FROM t ORDER BY id",
    "SELECT value, id FROM t WHERE id BETWEEN 95 AND 105 ORDER BY id, value",
    "SELECT COUNT(*) FROM (SELECT * FROM t LIMIT 7)",
    "SELECT id, value FROM t ORDER BY value DESC, id LIMIT 5",
    "SELECT id FROM t ORDER BY id LIMIT 3 OFFSET 2",
    "SELECT value > 40 AS high, COUNT(*), SUM(id) FROM t GROUP BY 1 ORDER BY 1",
    "SELECT COUNT(*) FROM t a JOIN t b ON a.id = b.id AND a.value <= b.value",
    "SELECT COUNT(*), MIN(value) FROM t WHERE id = 57",
    "SELECT MIN(id), MAX(id), MIN(value), MAX(value) FROM t",
    "SELECT COUNT(DISTINCT id) FROM t WHERE value < 30 OR id > 120",
];

/// A table and what it went through.
pub struct Life {
    pub name: String,
    pub arena: Arena,
    pub queries: usize,
    pub failures: Vec<String>,
    steps: Vec<String>,
    seals: usize,
    audits: usize,
    verdicts: BTreeSet<String>,
    asked: Vec<String>,
}

impl Life {
    pub async fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            arena: Arena::new(kind).await,
            queries: 0,
            failures: Vec::new(),
            steps: Vec::new(),
            seals: 0,
            audits: 0,
            verdicts: BTreeSet::new(),
            asked: QUERIES.iter().map(|query| (*query).to_owned()).collect(),
        }
    }

    /// With queries of its own.
    pub fn asking(mut self, queries: &[&str]) -> Self {
        self.asked = queries.iter().map(|query| (*query).to_owned()).collect();
        self
    }

    pub fn row(&self) -> Vec<String> {
        let verdicts = self.verdicts.iter().cloned().collect::<Vec<_>>().join(", ");
        let number = |n: usize| n.to_string();
        let steps = number(self.steps.len());
        vec![
            self.name.clone(),
            self.arena.kind.name().to_owned(),
            steps,
            number(self.seals),
            number(self.audits),
            number(self.queries),
            verdicts,
        ]
    }

    /// Something was done: nothing may be accused, and the next seal covers it.
    pub async fn step(&mut self, what: &str) {
        self.step_with(what, &[]).await;
    }

    /// As [`Self::step`]; the audit before the seal must find each of these verdicts.
    pub async fn step_with(&mut self, what: &str, wanted: &[Verdict]) {
        self.steps.push(what.to_owned());
        if self.seals > 0 {
            self.audit(what, wanted).await;
            self.query(what, ReadMode::Latest).await;
        }
        match self.arena.try_seal(Default::default()).await {
            Ok(_) => self.seals += 1,
            Err(error) => return self.fail(what, format!("cannot be sealed: {}", line(&error))),
        }
        let report = self.arena.audit().await;
        self.audits += 1;
        if report.outcome() != Outcome::Intact || !report.findings.is_empty() {
            self.fail(what, format!("once sealed: {:?}", report.findings));
        }
        self.query(what, ReadMode::Latest).await;
        self.query(what, ReadMode::Sealed).await;
    }

    async fn audit(&mut self, what: &str, wanted: &[Verdict]) {
        let report = self.arena.audit().await;
        self.audits += 1;
        let found: BTreeSet<Verdict> = report.findings.iter().map(|finding| finding.verdict).collect();
        self.verdicts.extend(found.iter().map(ToString::to_string));
        let accused: Vec<_> = report.findings.iter().filter(|finding| finding.verdict.outcome() > Outcome::IntactWithUnsealed).collect();
        if !accused.is_empty() {
            self.fail(what, format!("was accused: {accused:?}"));
        }
        for verdict in wanted.iter().filter(|verdict| !found.contains(verdict)) {
            self.fail(what, format!("was not found to be {verdict}: {:?}", report.findings));
        }
    }

    /// Every query must answer what a stock reader answers, and fail where that fails.
    async fn query(&mut self, what: &str, mode: ReadMode) {
        let stock = Stock::open(&self.arena).await;
        let session = match self.arena.session(mode).await {
            Ok(session) => session,
            Err(error) => {
                if !stock.probe("sql", "SELECT COUNT(*) FROM t").await.failed {
                    self.fail(what, format!("cannot be opened ({mode:?}): {}", line(&error)));
                }
                return;
            }
        };
        for query in self.asked.clone() {
            self.queries += 1;
            let wanted = stock.probe("sql", &query).await;
            let found = session.run(&query).await.map(|batches| shown(&batches));
            let right = WRAPPED.iter().fold(wanted.text.clone(), |text, (stock, right)| text.replace(stock, right));
            match found {
                Ok(found) if !wanted.failed && answered(&query, &found) == answered(&query, &right) => {}
                Err(error) if wanted.failed => drop(error),
                other => self.fail(what, format!("{query} ({mode:?}): {other:?} for {wanted:?}")),
            }
        }
    }

    fn fail(&mut self, what: &str, why: String) {
        self.failures.push(format!("{what}: {why}"));
    }
}

/// INT96 as stock readers show it, in nanoseconds of 64 bits that wrapped round, and as it was written.
const WRAPPED: [(&str, &str); 2] =
    [("1816-03-29T05:56:08.066278Z", "9999-12-31T00:00:00Z"), ("1816-03-28T05:56:08.066278Z", "9999-12-30T00:00:00Z")];

/// Rows `id`, `label`, `value`.
pub fn rows(first: i64, count: i64) -> RecordBatch {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, StringArray};
    let ids: Vec<i64> = (first..first + count).collect();
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(ids.clone())) as _),
        ("label", Arc::new(StringArray::from_iter_values(ids.iter().map(|i| format!("l{}", i % 2)))) as _),
        ("value", Arc::new(Float64Array::from_iter_values(ids.iter().map(|i| *i as f64 / 2.0 + 1.0))) as _),
    ])
    .unwrap()
}

/// The rows of an answer; in any order, where the query asks for none.
fn answered<'a>(query: &str, text: &'a str) -> Vec<&'a str> {
    let mut rows: Vec<&str> = text.split(';').collect();
    if !query.contains("ORDER BY") {
        rows.sort_unstable();
    }
    rows
}
