//! Regions: failure domains in which entries and shards are kept. A region offers create-if-absent, get, list; no more is asked.

mod access;
pub mod directory;
mod down;
pub mod layout;
mod set;

pub use access::{Created, Region, RegionOptions, RequestCounts};
pub use set::{MAX_REGIONS, Quorums, RegionSet};
