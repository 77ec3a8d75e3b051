//! Persisted bytes to types and back: pure, checked, versioned.

pub mod binding;
pub mod configuration;
pub mod entry;
pub mod logical;
pub mod manifest;
pub mod trailer;
pub mod wire;
