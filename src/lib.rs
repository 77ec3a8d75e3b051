//! Lakeseal: the integrity layer for data lakes.
//!
//! ```text
//! write   client -> store (segment, encode, place) -> regions; the object manifest is decided last
//! read    path -> manifest -> blocks from the cheapest sufficient regions -> verify -> bytes
//! seal    table snapshot -> fingerprints -> evidence -> statement -> signature
//! query   SQL -> provider -> verified store -> verdict -> batches, or an error before they are released
//! audit   table state x baseline -> verdicts -> SQL, command line, report
//! ```
//!
//! Each floor imports only lower ones: `error`, `id`, `clock`, `key`, `ask`, `printable` · `digest` · `format`, `erasure` ·
//! `profile` · `region`, `lake`, `register`, `table`, `fingerprint` · `store` | `membership`, `baseline` · `lineage`, `diff`, `verify` · `delta` · `sql` · `cli`.

mod failpoint;

pub mod ask;
pub mod clock;
pub mod digest;
pub mod error;
pub mod id;
pub mod key;
#[cfg(feature = "tables")]
mod printable;

pub mod erasure;
pub mod format;

#[cfg(feature = "tables")]
pub mod profile;

#[cfg(feature = "tables")]
pub mod fingerprint;
pub mod lake;
pub mod region;
pub mod register;
#[cfg(feature = "tables")]
pub mod table;

#[cfg(feature = "tables")]
pub mod baseline;
pub mod membership;
pub mod store;

#[cfg(feature = "tables")]
pub mod lineage;

#[cfg(feature = "tables")]
pub mod diff;

#[cfg(feature = "tables")]
pub mod verify;

#[cfg(feature = "tables")]
pub mod delta;

#[cfg(feature = "tables")]
pub mod sql;

#[cfg(feature = "tables")]
pub mod cli;

#[cfg(any(test, fuzzing))]
pub mod fuzzing;

pub use error::{Error, ErrorKind, Result};
