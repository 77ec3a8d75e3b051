//! Integration tests, in one binary, so that the engines are linked once.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod architecture;
mod baseline;
mod cli;
mod delta;
mod servers;
mod sql;
mod store;
