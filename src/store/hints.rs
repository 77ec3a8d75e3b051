//! What reads and writes noticed about shards, kept for a later scrub. Hints only: nothing is decided by them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::error::ErrorKind;
use crate::id::{RegionName, WriteId};

/// Hints that are queued.
pub(super) const HINTS_LIMIT: usize = 4096;

/// What was wrong with a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RepairReason {
    /// Its region says that it is not there.
    Absent,
    /// Its bytes are not those that were written, or too few.
    Damaged,
    /// Its region could not be asked.
    Unreachable,
    /// Its region did not answer before the bytes were had otherwise.
    Slow,
    /// It was not written in time when the object was.
    Unwritten,
}

impl RepairReason {
    pub(super) fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::NotFound => Self::Absent,
            ErrorKind::Corrupt => Self::Damaged,
            _ => Self::Unreachable,
        }
    }
}

/// A shard that a read or a write had to do without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairHint {
    /// The object's path.
    pub path: String,
    /// The write that made it.
    pub write_id: WriteId,
    /// Number of the segment.
    pub segment: u64,
    /// Number of the shard in the segment.
    pub shard: usize,
    /// The region that should hold it.
    pub region: RegionName,
    /// What was wrong.
    pub why: RepairReason,
}

#[derive(Debug, Default)]
pub(super) struct Hints {
    queue: Mutex<VecDeque<RepairHint>>,
    total: AtomicU64,
    /// Wakes who repairs in the background, at every hint and at the end.
    added: Arc<Notify>,
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.added.notify_one();
    }
}

impl Hints {
    /// Adds a hint; one that is queued already is only counted, and the oldest gives way when the queue is full.
    pub(super) fn add(&self, hint: RepairHint) {
        self.total.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(path = hint.path, segment = hint.segment, shard = hint.shard, region = %hint.region, why = ?hint.why, "bad shard");
        let mut queue = self.queue.lock();
        if queue.iter().rev().take(64).any(|queued| *queued == hint) {
            return;
        }
        if queue.len() >= HINTS_LIMIT {
            queue.pop_front();
        }
        queue.push_back(hint);
        drop(queue);
        self.added.notify_one();
    }

    /// What to wait for: a hint was added, or the store is gone.
    pub(super) fn added(&self) -> Arc<Notify> {
        Arc::clone(&self.added)
    }

    /// Takes up to `limit` hints, oldest first.
    pub(super) fn take_some(&self, limit: usize) -> Vec<RepairHint> {
        let mut queue = self.queue.lock();
        let most = limit.min(queue.len());
        queue.drain(..most).collect()
    }

    /// Puts back a hint that cannot be acted upon now; it is not counted again, and gives way when the queue is full.
    pub(super) fn keep(&self, hint: RepairHint) {
        let mut queue = self.queue.lock();
        if queue.len() < HINTS_LIMIT && !queue.contains(&hint) {
            queue.push_back(hint);
        }
    }

    pub(super) fn take(&self) -> Vec<RepairHint> {
        self.queue.lock().drain(..).collect()
    }

    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}
