//! A lake: its configuration, initialisation and opening.

mod config;
mod decided;
mod file;
mod init;
mod open;
mod record;
pub mod testing;

pub(crate) use config::same_place;
pub use config::{LakeConfig, ProfileConfig, RegionConfig};
#[cfg(feature = "tables")]
pub(crate) use file::{write_whole, write_whole_for_all};
pub(crate) use init::check_empty;
pub use init::{InitPlan, init};
pub(crate) use open::region_over;
pub use open::{Budgets, Lake, OpenOptions, open};
pub(crate) use record::{CONFIGURATION_LIMIT_BYTES, ID_LIMIT_BYTES, MAX_PLACES};
pub use record::{LakeRecord, RegionPlace, RegionRecord, RegionState};

#[cfg(test)]
mod tests;
