//! The erasure-coding object store, one file per verb.
