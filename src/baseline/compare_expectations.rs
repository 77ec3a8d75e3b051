//! What rows that break an expectation come to.

use super::evidence::Expectation;
use super::verdict::{AuditReport, Finding, Verdict};

/// A row that changed after the baseline and that breaks an expectation; or, without a place, how many more there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The expectation.
    pub expectation: Expectation,
    /// The row's file; absent for a number of rows.
    pub file: Option<String>,
    /// Its row group, from 0.
    pub row_group: Option<u32>,
    /// Its position in the row group, from 0.
    pub row: Option<u64>,
    /// The commit that added the file.
    pub commit: Option<u64>,
    /// How many rows; 0 when rows could not be looked at.
    pub rows: u64,
}

/// The findings that violations are.
pub fn compare_expectations(violations: &[Violation]) -> Vec<Finding> {
    let finding = |violation: &Violation| {
        let Expectation { name, predicate } = &violation.expectation;
        if violation.rows == 0 {
            return Finding::new(
                Verdict::Undetermined,
                "rows that could not be compared with the sealed ones were not held against the expectations",
            );
        }
        let broken = match violation.row {
            Some(row) => format!("row {row} changed after the baseline and breaks the expectation '{name}': {predicate}"),
            None => format!("{} more rows break the expectation '{name}': {predicate}", violation.rows),
        };
        let mut finding = Finding::new(Verdict::Unexpected, broken);
        finding.file = violation.file.clone();
        finding.row_group = violation.row_group;
        finding.commit = violation.commit;
        finding
    };
    violations.iter().map(finding).collect()
}

impl AuditReport {
    /// Adds findings that were made after the audit itself.
    pub fn add(&mut self, findings: Vec<Finding>) {
        let intact = self.summary.get(&Verdict::Intact).copied().unwrap_or_default();
        self.findings.extend(findings);
        self.complete(intact);
    }

    /// Adds that the expectations could not be held against the rows, and why.
    pub fn add_undetermined(&mut self, why: &str) {
        self.add(vec![Finding::new(Verdict::Undetermined, why)]);
    }
}
