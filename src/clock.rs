//! Wall-clock time, from one place, so that tests and simulations decide what it is.
//!
//! Clocks never serve safety: they stamp versions and statements. Time-outs and delays use `tokio::time`. The one exception is the lease on
//! the lake's configuration (`region::watch`), which a [`Moment`] measures.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Where the time of day comes from.
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// Milliseconds since 1970-01-01T00:00:00Z.
    fn now_ms(&self) -> i64;
}

/// A clock that many share.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now_ms(&self) -> i64 {
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        }
    }
}

/// When something began, for whoever has to know how long ago that is at least, also if the machine slept meanwhile: the clock that never
/// goes back stands still then, the time of day does not.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    counted: Instant,
    stamped_ms: i64,
}

impl Moment {
    /// This moment.
    pub fn now() -> Self {
        Self { counted: Instant::now(), stamped_ms: time_of_day_ms() }
    }

    /// How long ago it is, by the clock that says more. (A time of day that was set back says nothing.)
    pub fn elapsed(&self) -> Duration {
        self.elapsed_by(time_of_day_ms())
    }

    fn elapsed_by(&self, now_ms: i64) -> Duration {
        let stamped = u64::try_from(now_ms.saturating_sub(self.stamped_ms)).unwrap_or(0);
        self.counted.elapsed().max(Duration::from_millis(stamped))
    }

    /// The later of two, by the clock that never goes back.
    #[must_use]
    pub fn later(self, other: Self) -> Self {
        if other.counted > self.counted { other } else { self }
    }
}

/// Simulations run by the paused clock alone, so that they do the same however long they take.
fn time_of_day_ms() -> i64 {
    if cfg!(test) { 0 } else { SystemClock.now_ms() }
}

/// A clock that stands where it was set.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that says `now_ms` until it is set again.
    pub fn new(now_ms: i64) -> Self {
        Self(AtomicI64::new(now_ms))
    }

    /// Sets the time.
    pub fn set(&self, now_ms: i64) {
        self.0.store(now_ms, Ordering::SeqCst);
    }

    /// Moves the time on.
    pub fn advance(&self, by_ms: i64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_moment_is_as_long_ago_as_either_clock_says() {
        let moment = Moment { stamped_ms: 1000, ..Moment::now() };
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(moment.elapsed_by(1000 + 2000), Duration::from_secs(3));
        assert_eq!(moment.elapsed_by(1000 + 25_000), Duration::from_secs(25), "the machine slept");
        assert_eq!(moment.elapsed_by(-9000), Duration::from_secs(3), "the time of day was set back");
        let later = Moment::now();
        assert!(moment.later(later).elapsed() < Duration::from_secs(1) && later.later(moment).elapsed() < Duration::from_secs(1));
    }
}
