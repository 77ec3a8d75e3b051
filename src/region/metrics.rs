//! What is measured of a region: requests, failures, bytes and latencies by operation, and whether it lags behind the others just now.
//!
//! Nothing here decides what is right: it only says whom to ask first, and when to ask somebody else as well.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Buckets of a latency histogram: bucket i counts answers that took less than 2^i microseconds, and at least half of that.
pub const LATENCY_BUCKETS: usize = 32;
/// Range reads of more bytes than this have a latency history of their own.
const LARGE_BYTES: u64 = 256 * 1024;
/// Answers after which a history is trusted.
const HISTORY_LEAST: u32 = 8;
/// Least time after which a region counts as late, whatever its history: on a busy machine answers wait for their reader.
const LATE_LEAST: Duration = Duration::from_millis(100);
/// How long a region that failed or was late is asked after the others; doubled each time, up to the limit.
const COOL_DOWN: Duration = Duration::from_secs(1);
const COOL_DOWN_LIMIT: Duration = Duration::from_secs(60);

/// What is asked of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Create-if-absent: votes and markers.
    Create,
    /// Overwriting puts: shards.
    Put,
    /// Gets of whole small objects: entries and records.
    Get,
    /// Gets of ranges: shards.
    GetRanges,
    /// Lists; each page or step is timed, each list is counted once.
    List,
    /// Deletes.
    Delete,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Create, Self::Put, Self::Get, Self::GetRanges, Self::List, Self::Delete];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Put => "put",
            Self::Get => "get",
            Self::GetRanges => "get_ranges",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// What was measured of one operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperationStatistics {
    /// Requests, failed ones included.
    pub requests: u64,
    /// Requests that failed; *not found* and *exists* are answers.
    pub failures: u64,
    /// Bytes sent to the region.
    pub bytes_in: u64,
    /// Bytes that it delivered.
    pub bytes_out: u64,
    /// Answers by latency: bucket i counts those of less than 2^i microseconds, and at least half of that.
    pub latency: Vec<u64>,
}

impl OperationStatistics {
    /// The latency that `percent` of the answers did not exceed, rounded up to the end of its bucket; `None` without answers.
    pub fn latency_at(&self, percent: u64) -> Option<Duration> {
        let total: u64 = self.latency.iter().sum();
        let wanted = (total.saturating_mul(percent.min(100))).div_ceil(100).max(1);
        let mut seen = 0;
        let bucket = self.latency.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        u32::try_from(bucket).ok().and_then(|bucket| 1u64.checked_shl(bucket)).map(Duration::from_micros)
    }
}

/// How a region does just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// It answers.
    Well,
    /// It was late the last time.
    Slow,
    /// It failed the last time.
    Failing,
}

#[derive(Debug)]
struct Counters {
    requests: AtomicU64,
    failures: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    latency: [AtomicU64; LATENCY_BUCKETS],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            requests: AtomicU64::default(),
            failures: AtomicU64::default(),
            bytes_in: AtomicU64::default(),
            bytes_out: AtomicU64::default(),
            latency: std::array::from_fn(|_| AtomicU64::default()),
        }
    }
}

/// A smoothed latency and its deviation (Jacobson, *Congestion Avoidance and Control*, 1988).
#[derive(Debug, Clone, Copy, Default)]
struct Smoothed {
    mean: Duration,
    deviation: Duration,
    samples: u32,
}

impl Smoothed {
    fn add(&mut self, sample: Duration) {
        if self.samples == 0 {
            (self.mean, self.deviation) = (sample, sample / 2);
        } else {
            self.deviation = (self.deviation * 3 + self.mean.abs_diff(sample)) / 4;
            self.mean = (self.mean * 7 + sample) / 8;
        }
        self.samples = self.samples.saturating_add(1);
    }

    /// When an answer is later than this history explains.
    fn late_after(&self) -> Option<Duration> {
        (self.samples >= HISTORY_LEAST).then(|| (self.mean + self.deviation * 4).max(LATE_LEAST))
    }
}

#[derive(Debug, Default)]
struct Recent {
    small: Smoothed,
    large: Smoothed,
    health: Option<(Health, Instant)>,
    cool_down: Duration,
}

/// The measurements of one region.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    counters: [Counters; Operation::ALL.len()],
    recent: Mutex<Recent>,
    refusal: Mutex<Option<String>>,
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

impl Metrics {
    fn of(&self, operation: Operation) -> Option<&Counters> {
        self.counters.get(operation as usize)
    }

    pub(super) fn requested(&self, operation: Operation, bytes_in: u64) {
        if let Some(counters) = self.of(operation) {
            add(&counters.requests, 1);
            add(&counters.bytes_in, bytes_in);
        }
    }

    /// One answer, a clear *not found* or *exists* included.
    pub(super) fn answered(&self, operation: Operation, took: Duration, bytes_out: u64) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = usize::try_from(u64::BITS - micros.leading_zeros()).unwrap_or(0).min(LATENCY_BUCKETS - 1);
        if let Some(counters) = self.of(operation) {
            add(&counters.bytes_out, bytes_out);
            if let Some(bucket) = counters.latency.get(bucket) {
                add(bucket, 1);
            }
        }
        let mut recent = self.recent.lock();
        if operation == Operation::GetRanges {
            let history = if bytes_out > LARGE_BYTES { &mut recent.large } else { &mut recent.small };
            history.add(took);
        }
        // An answer says that the region is there; whether it was in time, `late` says, and that is forgiven after a while.
        if recent.health.is_some_and(|(health, until)| health == Health::Failing || until <= Instant::now()) {
            (recent.health, recent.cool_down) = (None, Duration::ZERO);
        }
    }

    pub(super) fn failed(&self, operation: Operation) {
        if let Some(counters) = self.of(operation) {
            add(&counters.failures, 1);
        }
    }

    /// A write failed for this reason.
    pub(super) fn refused(&self, why: String) {
        *self.refusal.lock() = Some(why);
    }

    /// Why the last write failed that did.
    pub(super) fn refusal(&self) -> Option<String> {
        self.refusal.lock().clone()
    }

    /// The region could not be asked.
    pub(super) fn unreachable(&self) {
        self.cool(Health::Failing);
    }

    /// A range read of `bytes` was waited for in vain; how long it takes in truth is not known.
    pub(super) fn late(&self, waited: Duration, bytes: u64) {
        let mut recent = self.recent.lock();
        let history = if bytes > LARGE_BYTES { &mut recent.large } else { &mut recent.small };
        history.add(waited);
        drop(recent);
        self.cool(Health::Slow);
    }

    fn cool(&self, health: Health) {
        let mut recent = self.recent.lock();
        let now = Instant::now();
        // Requests that were under way together fail together: that is one failure.
        if recent.health.is_some_and(|(known, until)| known >= health && until > now) {
            return;
        }
        recent.cool_down = (recent.cool_down * 2).clamp(COOL_DOWN, COOL_DOWN_LIMIT);
        recent.health = Some((health, now + recent.cool_down));
    }

    pub(super) fn health(&self) -> Health {
        let recent = self.recent.lock();
        recent.health.filter(|(_, until)| *until > Instant::now()).map_or(Health::Well, |(health, _)| health)
    }

    /// How long a range read of `bytes` may take before it is late: by the region's own history, at most `limit`.
    pub(super) fn late_after(&self, bytes: u64, limit: Duration) -> Duration {
        let recent = self.recent.lock();
        let history = if bytes > LARGE_BYTES { &recent.large } else { &recent.small };
        history.late_after().map_or(limit, |late| late.min(limit))
    }

    pub(super) fn snapshot(&self, operation: Operation) -> OperationStatistics {
        let Some(counters) = self.of(operation) else { return OperationStatistics::default() };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        OperationStatistics {
            requests: read(&counters.requests),
            failures: read(&counters.failures),
            bytes_in: read(&counters.bytes_in),
            bytes_out: read(&counters.bytes_out),
            latency: counters.latency.iter().map(read).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_says_late_beyond_its_mean_and_deviation() {
        let metrics = Metrics::default();
        let limit = Duration::from_secs(1);
        assert_eq!(metrics.late_after(10, limit), limit, "nothing is known yet");
        (0..50).for_each(|_| metrics.answered(Operation::GetRanges, Duration::from_millis(400), 10));
        let late = metrics.late_after(10, limit);
        assert!(late >= Duration::from_millis(400) && late < Duration::from_millis(600), "{late:?}");
        assert_eq!(metrics.late_after(LARGE_BYTES + 1, limit), limit, "large reads have a history of their own");
        (0..50).for_each(|_| metrics.answered(Operation::GetRanges, Duration::from_secs(5), 10));
        assert_eq!(metrics.late_after(10, limit), limit, "never beyond the limit");
    }

    #[test]
    fn percentiles_are_those_of_the_buckets() {
        let metrics = Metrics::default();
        assert_eq!(metrics.snapshot(Operation::Get).latency_at(50), None);
        (0..90).for_each(|_| metrics.answered(Operation::Get, Duration::from_micros(900), 1));
        (0..10).for_each(|_| metrics.answered(Operation::Get, Duration::from_micros(70_000), 1));
        let found = metrics.snapshot(Operation::Get);
        assert_eq!(found.latency_at(90), Some(Duration::from_micros(1024)));
        assert_eq!(found.latency_at(99), Some(Duration::from_micros(131_072)));
        assert_eq!(found.bytes_out, 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_forgiven_after_a_while_and_repeated_ones_later() {
        let metrics = Metrics::default();
        metrics.unreachable();
        metrics.unreachable();
        assert_eq!(metrics.health(), Health::Failing);
        tokio::time::advance(COOL_DOWN).await;
        assert_eq!(metrics.health(), Health::Well, "failures at one time are one failure");
        metrics.unreachable();
        tokio::time::advance(COOL_DOWN).await;
        assert_eq!(metrics.health(), Health::Failing);
        metrics.answered(Operation::Get, Duration::from_millis(1), 1);
        assert_eq!(metrics.health(), Health::Well);
        metrics.late(Duration::from_secs(2), 10);
        assert_eq!(metrics.health(), Health::Slow);
    }
}
