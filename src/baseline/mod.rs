//! Evidence, signed baselines, comparison, verdicts.
//!
//! ```text
//! seal    table::load -> fingerprints of files not yet in evidence -> evidence -> statement -> signature (commit point)
//! audit   newest statement of a trusted key -> evidence -> compare with the log -> compare with the bytes -> report
//! ```
//!
//! Verdicts are made in `compare*` and nowhere else; private keys are used in `sign` and nowhere else.

mod canonical;
mod sealed;
mod statement;
mod trust;
mod verdict;

pub use sealed::{SealedColumn, SealedCommit, SealedDeletions, SealedFile, SealedRowGroup, SealedTable};
pub use statement::{BaselineSummary, CommitsRoot, EvidenceKind, EvidenceRef, PREDICATE_TYPE, STATEMENT_TYPE, StateRoot, Statement, Totals};
pub use trust::{Trust, TrustLevel};
pub use verdict::{AuditReport, Finding, Outcome, Verdict};
