//! How fast a scrub may read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// Lets bytes through at a rate, and counts them.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Option<u64>,
    free_at: Mutex<Option<Instant>>,
    bytes: AtomicU64,
}

impl Pace {
    /// At most `rate` bytes a second; any number without one.
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self { rate: rate.map(|rate| rate.max(1)), free_at: Mutex::new(None), bytes: AtomicU64::new(0) }
    }

    /// Waits until `bytes` more may be read.
    pub(super) async fn take(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let Some(rate) = self.rate else { return };
        let micros = u128::from(bytes) * 1_000_000 / u128::from(rate);
        let needs = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX));
        let mut free_at = self.free_at.lock().await;
        let start = free_at.unwrap_or_else(Instant::now).max(Instant::now());
        *free_at = start.checked_add(needs);
        drop(free_at);
        sleep_until(start).await;
    }

    /// Bytes that were let through.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}
