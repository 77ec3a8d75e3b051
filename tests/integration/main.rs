//! Integration tests, in one binary, so that the engines are linked once.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod architecture;
#[cfg(feature = "tables")]
mod attacks;
#[cfg(feature = "tables")]
mod baseline;
#[cfg(feature = "tables")]
mod cli;
#[cfg(feature = "tables")]
mod delta;
#[cfg(feature = "tables")]
mod honest;
mod servers;
#[cfg(feature = "tables")]
mod sql;
mod store;
#[cfg(feature = "tables")]
mod support;
