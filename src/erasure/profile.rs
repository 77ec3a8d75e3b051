//! The settings of a lake that say how objects are coded.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::erasure::{CodecId, Geometry, SLICE_BYTES};
use crate::error::{Error, ErrorKind, Result};

/// Most shards that one segment may have: the most regions that a lake may have.
pub const MAX_SHARDS: usize = 16;

/// Largest segment, in bytes. A read or a write holds a few segments in memory.
pub const MAX_SEGMENT_BYTES: u64 = 256 * 1024 * 1024;

/// Largest object that may be kept inside its manifest, in bytes; every region stores a copy of it.
pub const MAX_INLINE_BYTES: u64 = 1024 * 1024;

/// Which regions get the shards of an object. Data shards are what healthy reads ask for: their regions bear the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// In the order of the regions where there are as many as shards; else by the write id.
    #[default]
    Auto,
    /// Data shards go to the cheapest regions, and among equals to those that are named first; regions beyond k + m get none.
    Ordered,
    /// The write id says with which region to begin: all regions bear the same.
    Rotate,
}

/// How a lake codes, places and acknowledges objects. Plain data; [`Profile::check`] says whether it can mean anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Data shards per segment (k), at least 1.
    pub data: u8,
    /// Parity shards per segment (m): so many shards may be lost.
    pub parity: u8,
    /// Bytes of an object that are coded together.
    pub segment_bytes: u64,
    /// Objects of at most so many bytes are kept inside their manifest.
    pub inline_bytes: u64,
    /// The same for paths with a `_delta_log` segment.
    pub inline_log_bytes: u64,
    /// Shards of each segment that are durable before the first vote; absent = k + m less the regions that may be down for writes.
    pub ack_shards: Option<u8>,
    /// How long a write waits, once `ack_shards` are durable, for the remaining shards.
    pub grace: Duration,
    /// How long a read waits for a region, at most, before it also asks others; less where the region's history says so.
    pub hedge: Duration,
    /// Bytes that may be read on top because regions are slow, in percent of all bytes that are read; 0 is never.
    pub hedge_percent: u8,
    /// Which regions get the shards of new objects.
    pub placement: Placement,
}

impl Profile {
    /// The profile of `data` + `parity` shards, all else at its default.
    pub fn new(data: u8, parity: u8) -> Self {
        Self {
            data,
            parity,
            segment_bytes: 8 * 1024 * 1024,
            inline_bytes: 16 * 1024,
            inline_log_bytes: 128 * 1024,
            ack_shards: None,
            grace: Duration::from_millis(500),
            hedge: Duration::from_millis(1500),
            hedge_percent: 10,
            placement: Placement::Auto,
        }
    }

    /// Number of shards of a segment.
    pub fn shards(&self) -> usize {
        usize::from(self.data) + usize::from(self.parity)
    }

    /// The codec that new objects get.
    pub fn codec(&self) -> CodecId {
        CodecId::new(self.data, self.parity)
    }

    /// The geometry that new objects get.
    pub fn geometry(&self) -> Geometry {
        Geometry { data: self.data, parity: self.parity, segment_bytes: self.segment_bytes }
    }

    /// Shards of a segment that must be durable before a vote, when `writes_survive` regions may be down for writes.
    pub fn acknowledged_shards(&self, writes_survive: usize) -> usize {
        match self.ack_shards {
            Some(ack) => usize::from(ack),
            None => self.shards() - usize::from(self.parity).min(writes_survive),
        }
    }

    /// Whether the profile can be used in a lake of `regions` regions.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming the setting that does not fit.
    pub fn check(&self, regions: usize) -> Result<()> {
        let refuse = |message: &str| Err(Error::new(ErrorKind::Config, message).with("data", self.data).with("parity", self.parity));
        if self.data == 0 {
            return refuse("a profile needs at least one data shard");
        }
        if self.shards() > MAX_SHARDS {
            return refuse("a profile has at most 16 shards");
        }
        if self.shards() > regions {
            return Err(Error::new(ErrorKind::Config, "data + parity shards need a region each: add regions or lower data or parity")
                .with("data", self.data)
                .with("parity", self.parity)
                .with("regions", regions));
        }
        let slice = SLICE_BYTES as u64;
        if self.segment_bytes < slice || self.segment_bytes > MAX_SEGMENT_BYTES || !self.segment_bytes.is_multiple_of(slice) {
            return Err(Error::new(ErrorKind::Config, "segment_bytes is a multiple of 64 between 64 and 268435456")
                .with("segment_bytes", self.segment_bytes));
        }
        if self.inline_bytes.max(self.inline_log_bytes) > MAX_INLINE_BYTES {
            return Err(Error::new(ErrorKind::Config, "inline_bytes and inline_log_bytes are at most 1048576")
                .with("inline_bytes", self.inline_bytes)
                .with("inline_log_bytes", self.inline_log_bytes));
        }
        match self.ack_shards {
            Some(ack) if ack < self.data || usize::from(ack) > self.shards() => {
                Err(Error::new(ErrorKind::Config, "ack_shards is at least the data shards and at most all shards").with("ack_shards", ack))
            }
            _ => Ok(()),
        }
    }
}
