//! Lineage: what a commit's files were made from, by which transformation. `docs/format/lineage.md`.
//!
//! ```text
//! capture  an operation says what it reads (Operation) -> the attesting store adds what was written -> Lineage -> attestation
//! read     attestations of trusted writers, else what a commit's own actions say (marked `derived`) -> TableLineage
//! ask      all tables' lineages -> Graph -> upstream, blast radius
//! ```
//!
//! Recorded lineage is a signed claim of its writer; what re-executes it is above, beside the query engine.

mod derive;
mod graph;
mod openlineage;
mod record;
mod table;

pub use derive::{CommitActions, CommitFile};
pub use graph::{Graph, Reached, Start, Step};
pub use openlineage::{PRODUCER, events};
pub use record::{Input, InputFile, InputKind, Lineage, Output, Transformation};
pub use table::{CommitLineage, Gaps, LineageSource, TableLineage, read_commit_lineage, read_table_lineage};
