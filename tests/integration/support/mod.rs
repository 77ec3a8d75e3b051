//! What tests of tables share: files that independent programs write, copies of directories, lakes over directories.

pub mod aligned;
pub mod arena;
pub mod python;
pub mod stock;
