//! Evidence, signed baselines, comparison, verdicts.
//!
//! ```text
//! seal    table::load -> fingerprints of files not yet in evidence -> evidence -> statement -> signature (commit point)
//! audit   newest statement of a trusted key -> evidence -> compare with the log -> compare with the bytes -> report
//! ```
//!
//! Verdicts are made in `compare*` and nowhere else; private keys are used in `sign` and nowhere else.

mod attestation;
mod audit;
mod canonical;
mod chain;
mod changes;
mod compare;
mod compare_attested;
mod compare_columns;
mod compare_data;
mod compare_expectations;
mod compare_later;
mod compare_restated;
mod compare_rows;
mod compare_spellings;
mod compare_told;
mod count_rows;
mod countersign;
mod diff;
mod evidence;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod inventory;
mod later;
pub mod log;
mod memory;
mod observe;
mod pins;
mod prepared;
mod presence;
mod progress;
mod proven;
mod published;
mod purge;
mod purge_done;
mod read_evidence;
mod repository;
mod retained;
mod rewrites;
mod roots;
mod seal;
mod seal_evidence;
mod seal_files;
mod seal_ground;
mod sealed;
mod sign;
mod standing;
mod state;
mod statement;
mod trust;
mod unheld;
mod verdict;

pub use attestation::{
    ATTESTATION_LIMIT_BYTES, Attestation, AttestationName, AttestedCommit, PROVENANCE_TYPE, attestation_envelope, attestation_names,
    read_attestation,
};
pub(crate) use attestation::{attestation_bytes, open_attestation, small_attestation_bytes};
pub use audit::{AuditOptions, Auditor};
pub(crate) use compare::says_the_same;
pub use compare::{
    LogComparison, Place, SealedHead, chain_findings, check_root, columns_since, compare_log, compare_state, compare_statement,
    compare_term, describes_the_same, is_sealed_location, is_sealed_log, states_the_same,
};
pub use compare_attested::Writers;
pub use compare_columns::changed_columns;
pub use compare_data::{compare_file, compare_moved};
pub use compare_expectations::{Violation, compare_expectations};
pub use diff::{Amount, BaselineDiff, Bounds};
pub(crate) use evidence::RowGroupsByFile;
pub use evidence::{Expectation, Profiles};
pub use inventory::{Inventory, InventoryRow};
pub use later::{Exchange, exchanges};
pub use log::{Log, LogKeys, LogPin, compare_history, compare_known};
pub use observe::GroupProfiles;
pub use pins::{PINS_LIMIT_BYTES, PinNames, Pins, Raised};
pub use prepared::Prepared;
pub use progress::Progress;
pub use proven::ProvenState;
pub(crate) use proven::snapshot_of;
pub use purge::{Erased, PURGE_PREDICATE_TYPE, PURGE_SIGNATURES, Purge, PurgeRecord, PurgedFile, excuse_purged};
pub use purge_done::PURGE_DONE_PREDICATE_TYPE;
pub use repository::{BaselineName, Repository, SEAL_FOLDER, TrustedBaseline};
pub use retained::{Origin, SealedBytes};
pub use rewrites::Rewrites;
pub(crate) use roots::refuse_clone;
pub use seal::{EXPIRES_AFTER_MS, SealOptions, SealOutcome, Sealer};
pub use sealed::{RowGroups, SealedColumn, SealedCommit, SealedDeletions, SealedFile, SealedObject, SealedRowGroup, SealedTable};
pub use sign::{PAYLOAD_TYPE, pre_authentication_encoding};
pub use standing::Standing;
pub use statement::{
    BaselineSummary, CommitsRoot, EvidenceKind, EvidenceRef, PREDICATE_TYPE, STATEMENT_TYPE, StateRoot, Statement, Totals,
};
pub use trust::{LastGood, Revocation, RoleKeys, SignedRoot, TRUST_ROOT_LIMIT_BYTES, TRUST_ROOT_TYPE, Trust, TrustLevel, TrustRoot};
pub use verdict::{AuditReport, Finding, Outcome, Verdict};

pub(crate) use observe::deleted_rows_digest;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::fuzzing_seeds;
