//! An object store that delivers only sealed bytes.
