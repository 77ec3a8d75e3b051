//! Integration tests, in one binary, so that the engines are linked once.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod architecture;
#[cfg(feature = "tables")]
mod baseline;
#[cfg(feature = "tables")]
mod cli;
#[cfg(feature = "tables")]
mod delta;
mod servers;
#[cfg(feature = "tables")]
mod sql;
mod store;
