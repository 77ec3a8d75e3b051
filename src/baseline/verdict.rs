//! Verdicts, findings and the report of an audit.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

use super::log::LogPin;
use super::statement::BaselineSummary;
use super::trust::TrustLevel;

/// What comparing the found with the sealed came to.
///
/// The order is the order in which reports list them: the gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// The log, its statistics or a file's metadata say something else than what was sealed.
    Forged,
    /// Data differs from what was sealed.
    Modified,
    /// Something sealed is gone, and no commit removed it.
    Missing,
    /// A file that does not belong to the table, or not to the place where it lies.
    Foreign,
    /// A file that had been removed is live again.
    Resurrected,
    /// The table stands at an older version than the sealed one.
    RolledBack,
    /// The baseline's term is over.
    Expired,
    /// No baseline that a trusted key signed for this table at this place.
    Untrusted,
    /// A later commit that no listed writer attested, where writers are listed.
    Unattested,
    /// A row that changed after the baseline breaks an expectation that is signed with it.
    Unexpected,
    /// Sealed data that was erased on record.
    Purged,
    /// It could not be found out.
    Undetermined,
    /// A later commit, or a later file, that no baseline covers yet.
    Unsealed,
    /// A later commit that stored the same rows anew, as its rows' sums prove.
    Rewritten,
    /// Exactly as sealed.
    Intact,
}

impl Verdict {
    /// The name that JSON and messages use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Intact => "intact",
            Self::Unsealed => "unsealed",
            Self::Unattested => "unattested",
            Self::Rewritten => "rewritten",
            Self::Modified => "modified",
            Self::Missing => "missing",
            Self::Foreign => "foreign",
            Self::Resurrected => "resurrected",
            Self::Forged => "forged",
            Self::RolledBack => "rolled_back",
            Self::Expired => "expired",
            Self::Unexpected => "unexpected",
            Self::Purged => "purged",
            Self::Untrusted => "untrusted",
            Self::Undetermined => "undetermined",
        }
    }

    /// What an audit with this verdict, and none worse, comes to.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Intact => Outcome::Intact,
            Self::Unsealed | Self::Rewritten | Self::Purged => Outcome::IntactWithUnsealed,
            Self::Undetermined => Outcome::Undetermined,
            Self::Modified
            | Self::Missing
            | Self::Foreign
            | Self::Resurrected
            | Self::Forged
            | Self::RolledBack
            | Self::Expired
            | Self::Unattested
            | Self::Unexpected
            | Self::Untrusted => Outcome::Mismatch,
        }
    }

    /// Whether this verdict contradicts the baseline.
    pub const fn is_mismatch(self) -> bool {
        matches!(self.outcome(), Outcome::Mismatch)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an audit came to as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The sealed state is intact and nothing came after it.
    Intact,
    /// The sealed state is intact; later commits or files are not sealed.
    IntactWithUnsealed,
    /// It could not be determined.
    Undetermined,
    /// Something contradicts the baseline.
    Mismatch,
}

impl Outcome {
    /// The command line's exit code: 0, 3, 2, 1.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Intact => 0,
            Self::Mismatch => 1,
            Self::Undetermined => 2,
            Self::IntactWithUnsealed => 3,
        }
    }
}

/// How a RESTORE is said to be one.
pub(crate) const RESTORED: &str = "RESTORE to version";
/// How every later commit is said to be one.
pub(crate) const AFTER_BASELINE: &str = "committed after baseline";

/// One difference, or one thing that could not be determined, with its place as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub verdict: Verdict,
    /// The file, by its canonical path in the table.
    pub file: Option<String>,
    /// The row group's ordinal in the file, from 0.
    pub row_group: Option<u32>,
    /// The column, by its physical name; nested ones dotted.
    pub column: Option<String>,
    /// The commit's Delta version.
    pub commit: Option<u64>,
    /// Of a later commit: how many rows it took away, where they were counted exactly.
    pub rows_removed: Option<u64>,
    /// Of a later commit: how many rows it added, where they were counted exactly. A changed row is one removed and one added.
    pub rows_added: Option<u64>,
    /// For people: what was sealed, what was found.
    pub detail: String,
}

impl Finding {
    /// A finding without a place.
    pub(crate) fn new(verdict: Verdict, detail: impl Into<String>) -> Self {
        Self {
            verdict,
            file: None,
            row_group: None,
            column: None,
            commit: None,
            rows_removed: None,
            rows_added: None,
            detail: detail.into(),
        }
    }

    /// Adds the file.
    pub(crate) fn file(mut self, path: impl Into<String>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Adds the row group.
    pub(crate) fn row_group(mut self, ordinal: u32) -> Self {
        self.row_group = Some(ordinal);
        self
    }

    /// Adds the column.
    pub(crate) fn column(mut self, name: impl Into<String>) -> Self {
        self.column = Some(name.into());
        self
    }

    /// Adds the commit.
    pub(crate) fn commit(mut self, version: u64) -> Self {
        self.commit = Some(version);
        self
    }

    /// Whether it says of a commit that it came after the baseline, and nothing particular.
    pub(crate) fn is_commit_itself(&self) -> bool {
        self.commit.is_some() && (self.detail.contains(AFTER_BASELINE) || self.detail.starts_with(RESTORED))
    }

    /// Adds how many rows the commit removed and added.
    pub(crate) fn rows(mut self, removed: u64, added: u64) -> Self {
        (self.rows_removed, self.rows_added) = (Some(removed), Some(added));
        self
    }

    /// The finding as JSON; absent places are null.
    pub fn to_json(&self) -> Value {
        json!({
            "verdict": self.verdict.name(),
            "file": self.file,
            "row_group": self.row_group,
            "column": self.column,
            "commit": self.commit,
            "rows_removed": self.rows_removed,
            "rows_added": self.rows_added,
            "detail": self.detail,
        })
    }

    fn order(&self) -> impl Ord + '_ {
        (self.verdict, self.commit, &self.file, self.row_group, &self.column, &self.detail)
    }
}

impl PartialOrd for Finding {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Finding {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verdict.name())?;
        if let Some(commit) = self.commit {
            write!(f, " commit {commit}")?;
        }
        if let Some(file) = &self.file {
            write!(f, " {file}")?;
        }
        if let Some(row_group) = self.row_group {
            write!(f, " row group {row_group}")?;
        }
        if let Some(column) = &self.column {
            write!(f, " column {column}")?;
        }
        write!(f, ": {}", self.detail)
    }
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditReport {
    /// The table's location, as it was given.
    pub table: String,
    /// How the keys came to be trusted.
    pub trust: TrustLevel,
    /// The baseline that was compared with; absent when none is trusted.
    pub baseline: Option<BaselineSummary>,
    /// The table's Delta version at the time; absent for a folder of Parquet, or when it could not be read.
    pub version: Option<u64>,
    /// How many findings of each verdict; `intact` counts files.
    pub summary: BTreeMap<Verdict, u64>,
    /// The findings, the gravest first; intact files are only counted.
    pub findings: Vec<Finding>,
    /// For people: things ignored on purpose, such as baselines that nobody trusted has signed.
    pub notes: Vec<String>,
    /// The log of baselines as it was found, for pins; absent when nobody trusted signed one.
    pub log: Option<LogPin>,
}

impl AuditReport {
    /// What it came to: a mismatch outweighs what could not be determined, which outweighs what is merely not sealed.
    pub fn outcome(&self) -> Outcome {
        self.findings.iter().map(|finding| finding.verdict.outcome()).max().unwrap_or(Outcome::Intact)
    }

    /// The report as one JSON object, as `lakeseal audit --json` prints it.
    pub fn to_json(&self) -> Value {
        let summary: Map<String, Value> = self.summary.iter().map(|(verdict, count)| (verdict.name().to_owned(), json!(count))).collect();
        json!({
            "table": self.table,
            "trust": self.trust.name(),
            "baseline": self.baseline.as_ref().map(BaselineSummary::to_json),
            "version": self.version,
            "summary": summary,
            "findings": self.findings.iter().map(Finding::to_json).collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }

    /// Sorts findings and counts them, with `intact_files` intact files.
    pub(crate) fn complete(&mut self, intact_files: u64) {
        self.findings.sort();
        self.findings.dedup();
        self.summary = BTreeMap::new();
        for finding in &self.findings {
            *self.summary.entry(finding.verdict).or_default() += 1;
        }
        self.summary.insert(Verdict::Intact, intact_files);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(findings: Vec<Finding>) -> AuditReport {
        let mut report = AuditReport {
            table: "memory:///t".into(),
            trust: TrustLevel::SelfMade,
            baseline: None,
            version: None,
            summary: BTreeMap::new(),
            findings,
            notes: Vec::new(),
            log: None,
        };
        report.complete(2);
        report
    }

    #[test]
    fn a_mismatch_outweighs_undetermined_outweighs_unsealed() {
        let unsealed = Finding::new(Verdict::Unsealed, "x").commit(3);
        let undetermined = Finding::new(Verdict::Undetermined, "x");
        let modified = Finding::new(Verdict::Modified, "x").file("a").row_group(1).column("c");
        assert_eq!(report(vec![]).outcome().exit_code(), 0);
        assert_eq!(report(vec![unsealed.clone()]).outcome().exit_code(), 3);
        assert_eq!(report(vec![unsealed.clone(), undetermined.clone()]).outcome().exit_code(), 2);
        assert_eq!(report(vec![unsealed, undetermined, modified]).outcome().exit_code(), 1);
    }

    #[test]
    fn json_has_exactly_the_promised_members_and_nulls() {
        let found = report(vec![Finding::new(Verdict::Forged, "why").commit(7), Finding::new(Verdict::Modified, "how").file("p")]);
        assert_eq!(
            found.to_json().to_string(),
            r#"{"table":"memory:///t","trust":"self","baseline":null,"version":null,"summary":{"forged":1,"modified":1,"intact":2},"findings":[{"verdict":"forged","file":null,"row_group":null,"column":null,"commit":7,"rows_removed":null,"rows_added":null,"detail":"why"},{"verdict":"modified","file":"p","row_group":null,"column":null,"commit":null,"rows_removed":null,"rows_added":null,"detail":"how"}],"notes":[]}"#
        );
    }
}
