//! Pure coding: how an object is cut into segments and shards, and how lost shards are computed back. No I/O, no clock.
//!
//! ```text
//! object    segment 0 | segment 1 | … | last segment (may be shorter)
//! segment   data shard 0 | data shard 1 | … | data shard k-1        contiguous slices: joined they are the segment
//!           parity shard 0 … m-1                                    computed over the slices, zero-padded to one length
//! ```

mod buffers;
mod codec;
mod departure;
mod engine;
mod geometry;
mod profile;

#[cfg(test)]
mod tests;

pub use buffers::Buffers;
pub use codec::{Codec, CodecId, Field, Matrix, STRIPE_BYTES};
pub use departure::Departure;
pub use engine::EngineKind;
pub use geometry::{Geometry, SLICE_BYTES, SegmentShape};
pub use profile::{MAX_INLINE_BYTES, MAX_SEGMENT_BYTES, MAX_SHARDS, Placement, Profile};
