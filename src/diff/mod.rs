//! Rows that changed between what a baseline sealed and what is there.
//!
//! ```text
//! files that differ   log x evidence, the store's versions, digests of column chunks      no data is decoded
//!   -> in_place       same row groups: chunks that differ, row by row; and rows that a deletion vector deletes or no longer does
//!   -> pool           written anew: rows as a multiset, then pairs by key, by all columns but one, by position
//!   -> Change         one a row, to a sink
//! ```
//!
//! Sealed rows come from [`SealedBytes`](crate::baseline::SealedBytes) and are verified; found rows are whatever is there. Nothing is
//! judged here: verdicts are `baseline`'s.

mod change;
mod components;
mod deletions;
mod differ;
mod in_place;
mod pair;
mod pool;
mod profiles;
mod side;

pub use change::{Change, ChangeKind, Place, Row, Sink};
pub use differ::{DiffOptions, DiffSummary, Differ};
pub use profiles::{ChangedColumns, ChangedProfiles, TableProfiles};
