//! Regions: failure domains in which entries and shards are kept. A region offers create-if-absent, get, list; no more is asked.

pub mod layout;
