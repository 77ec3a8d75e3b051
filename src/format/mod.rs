//! Persisted bytes to types and back: pure, checked, versioned.

pub mod entry;
pub mod manifest;
pub mod wire;
