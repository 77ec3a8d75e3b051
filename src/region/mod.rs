//! Regions: failure domains in which entries and shards are kept. A region offers create-if-absent, get, list; no more is asked.

mod access;
mod check;
pub mod directory;
mod down;
mod gate;
pub mod layout;
mod metrics;
mod open;
mod set;
#[cfg(test)]
pub(crate) mod simulated;
mod watch;

pub use access::{CONCURRENCY, Created, Region, RegionOptions, RequestCounts};
pub use check::{CheckReport, CheckResult, check, check_writer};
pub(crate) use gate::Gate;
pub use metrics::{Health, LATENCY_BUCKETS, Operation, OperationStatistics};
pub use open::{OpenOptions, PREFIX_LIMIT_BYTES, check_options, directory as location_directory, key_room, open};
pub use set::{MAX_REGIONS, Quorums, RegionSet};
pub use watch::CONFIGURATION_LEASE;
