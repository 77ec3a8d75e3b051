//! Persisted bytes to types and back: pure, checked, versioned.
