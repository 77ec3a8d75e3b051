//! Repair of what ordinary reads and writes met: on request, or in the background.

use std::sync::{Arc, Weak};

use super::repair::RepairReport;
use super::{ErasureStore, Inner};
use crate::error::Result;

/// Hints that are repaired before the background looks whether the store still lives.
const AT_ONCE: usize = 16;

impl ErasureStore {
    /// Repairs what the oldest hints (at most `limit`) say is absent or damaged: the shard is made again from k others, written, read back.
    ///
    /// Hints about regions that could not be asked are kept for later, those about slow ones are dropped: there is nothing to repair. A hint is only
    /// believed after the shard was read again. Cost: a LIST a region and version, and k + 2 requests for each bad shard.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Permission`] without a writer's key. What goes wrong with single versions is in the report.
    pub async fn repair_hinted(&self, limit: usize) -> Result<RepairReport> {
        self.inner.repair_hinted(limit).await
    }

    /// Repairs hints in the background from now on, one version at a time, so that reads are not delayed. Off unless this is called.
    ///
    /// The task ends when the last clone of the store is dropped. Must be called within a tokio runtime; needs a writer's key.
    #[must_use]
    pub fn with_read_repair(self) -> Self {
        let (inner, added) = (Arc::downgrade(&self.inner), self.inner.hints.added());
        tokio::spawn(async move {
            loop {
                added.notified().await;
                if !drain(&inner).await {
                    return;
                }
            }
        });
        self
    }
}

/// Repairs until nothing is left to be done now. Whether the store still lives.
async fn drain(inner: &Weak<Inner>) -> bool {
    loop {
        let Some(inner) = inner.upgrade() else { return false };
        match inner.repair_hinted(AT_ONCE).await {
            // What was kept for later comes again with the next hint.
            Ok(report) if report.hints == report.deferred => return true,
            Ok(report) if !report.errors.is_empty() => tracing::warn!(?report, "read repair did not repair everything"),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "read repair stopped");
                return false;
            }
        }
    }
}
