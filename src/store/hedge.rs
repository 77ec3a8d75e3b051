//! How many bytes may be read twice because a region is slow, and what reads did.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// The first reads may be hedged as well: so many segments are in the budget from the start, and at most.
const BURST_SEGMENTS: u64 = 4;

/// What reads of a store did since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadStatistics {
    /// Bytes of shards that regions delivered.
    pub bytes: u64,
    /// Times that others were asked because a region was late.
    pub hedges: u64,
    /// Bytes that were asked for more than needed, because a region was late or slow.
    pub hedged_bytes: u64,
    /// Times that a late region was waited for, because the budget was spent.
    pub hedges_refused: u64,
    /// Times that a segment's bytes were computed from other shards.
    pub decodes: u64,
    /// Times that a shard was not asked for at all, because its region was dear, slow or failing.
    pub avoided: u64,
}

/// A token bucket of bytes, filled by a share of the bytes that are read.
#[derive(Debug)]
pub(super) struct Hedging {
    percent: u64,
    burst: u64,
    left: Mutex<u64>,
    bytes: AtomicU64,
    hedges: AtomicU64,
    hedged_bytes: AtomicU64,
    refused: AtomicU64,
    decodes: AtomicU64,
    avoided: AtomicU64,
}

impl Hedging {
    pub(super) fn new(percent: u8, segment_bytes: u64) -> Self {
        let burst = if percent == 0 { 0 } else { segment_bytes.saturating_mul(BURST_SEGMENTS) };
        Self {
            percent: percent.into(),
            burst,
            left: Mutex::new(burst),
            bytes: AtomicU64::default(),
            hedges: AtomicU64::default(),
            hedged_bytes: AtomicU64::default(),
            refused: AtomicU64::default(),
            decodes: AtomicU64::default(),
            avoided: AtomicU64::default(),
        }
    }

    /// Bytes came that were asked for.
    pub(super) fn read(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut left = self.left.lock();
        *left = left.saturating_add(bytes.saturating_mul(self.percent) / 100).min(self.burst);
    }

    /// Whether so many bytes may be asked for on top of what is needed; if so, they are spent.
    pub(super) fn spend(&self, bytes: u64) -> bool {
        let mut left = self.left.lock();
        let Some(rest) = left.checked_sub(bytes) else { return false };
        *left = rest;
        self.hedged_bytes.fetch_add(bytes, Ordering::Relaxed);
        true
    }

    pub(super) fn hedged(&self) {
        self.hedges.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn decoded(&self) {
        self.decodes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn avoided(&self, shards: usize) {
        self.avoided.fetch_add(u64::try_from(shards).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn statistics(&self) -> ReadStatistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ReadStatistics {
            bytes: read(&self.bytes),
            hedges: read(&self.hedges),
            hedged_bytes: read(&self.hedged_bytes),
            hedges_refused: read(&self.refused),
            decodes: read(&self.decodes),
            avoided: read(&self.avoided),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hedged_stays_below_the_share_of_what_is_read() {
        let hedging = Hedging::new(10, 100);
        assert!(hedging.spend(400) && !hedging.spend(1), "the burst is four segments");
        hedging.read(1000);
        assert!(hedging.spend(100) && !hedging.spend(1));
        hedging.read(1_000_000);
        assert!(!hedging.spend(401), "what is not used does not pile up");
        assert!(!Hedging::new(0, 100).spend(1), "no share, no hedges");
    }
}
