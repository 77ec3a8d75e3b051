//! Whether the lake's regions are still those that it was opened with.
//!
//! A replaced region's votes are seen by nobody but those who opened the lake before. What such a client counts is right as long as no
//! second region is replaced meanwhile. So a client that writes looks for a later configuration whenever its last look is older than
//! [`CONFIGURATION_LEASE`], before it sends anything and again before it believes what it counted; and a change of the regions is
//! completed only when every lease that was running at its beginning has ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{RegionSet, layout};
use crate::error::{Error, ErrorKind, Result};

/// How long a look at the lake's configuration lasts. Clocks serve safety here and nowhere else: the clocks of two clients may run at
/// different speeds by a quarter at most.
pub const CONFIGURATION_LEASE: Duration = Duration::from_secs(20);
/// Largest object that is taken for a configuration here; what it says is read when the lake is opened again.
const LIMIT_BYTES: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) struct Watch {
    looked: Mutex<Instant>,
    changed: AtomicBool,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { looked: Mutex::new(Instant::now()), changed: AtomicBool::new(false) }
    }
}

impl RegionSet {
    /// Remembers that a later configuration was met.
    pub fn note_change(&self) {
        self.watch.changed.store(true, Ordering::Relaxed);
    }

    /// Whether a later configuration was met: the lake must be opened again.
    pub fn is_changed(&self) -> bool {
        self.watch.changed.load(Ordering::Relaxed)
    }

    /// That the last look at the configuration began when the lake was opened, at `at`.
    #[must_use]
    pub fn looked_at(self, at: Instant) -> Self {
        *self.watch.looked.lock() = at;
        self
    }

    /// Makes sure that no later configuration was in force a lease ago. Cost: nothing within a lease, then one small get a region.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when there is a later one, or too few regions answer to know.
    pub async fn confirm(&self) -> Result<()> {
        let looked = *self.watch.looked.lock();
        self.confirm_since(looked).await
    }

    /// Makes sure, when `began` is a lease ago, that there is no later configuration now.
    ///
    /// # Errors
    /// As [`RegionSet::confirm`].
    pub async fn confirm_since(&self, began: Instant) -> Result<()> {
        if self.is_changed() {
            return Err(self.changed());
        }
        if began.elapsed() < CONFIGURATION_LEASE {
            return Ok(());
        }
        self.look().await
    }

    async fn look(&self) -> Result<()> {
        let began = Instant::now();
        let key = layout::configuration_key(self.configuration().saturating_add(1));
        let mut answers: FuturesUnordered<_> = self.voters().iter().map(|region| region.get(&key, LIMIT_BYTES)).collect();
        let (mut without, mut failures) = (0, Vec::new());
        while let Some(answer) = answers.next().await {
            match answer {
                // A configuration is published in so many regions that any quorum meets it.
                Ok(Some(_)) => {
                    self.note_change();
                    return Err(self.changed());
                }
                Ok(None) => without += 1,
                Err(error) => failures.push(error),
            }
            if without >= usize::from(self.quorums().classic()) {
                let mut looked = self.watch.looked.lock();
                *looked = (*looked).max(began);
                return Ok(());
            }
        }
        let what = "too few regions answer to know whether the lake's regions are still the same";
        Err(failures.into_iter().fold(Error::new(ErrorKind::Unavailable, what), |error, failure| error.with("region", failure)))
    }

    fn changed(&self) -> Error {
        Error::new(ErrorKind::Unavailable, "the lake's regions have changed since it was opened: open it again")
            .with("opened", self.configuration())
    }
}
