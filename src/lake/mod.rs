//! A lake: its configuration, initialisation and opening.

mod config;
mod init;
mod open;
mod record;
pub mod testing;

pub use config::{LakeConfig, ProfileConfig, RegionConfig};
pub use init::{InitPlan, init};
use open::region_over;
pub use open::{Budgets, Lake, OpenOptions, open};
pub use record::{LakeRecord, RegionPlace, RegionRecord, RegionState};

#[cfg(test)]
mod tests;
