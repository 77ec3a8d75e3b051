//! Whether the lake's regions are still those that it was opened with.
//!
//! A replaced region's votes are seen by nobody but those who opened the lake before, and a retired one may be asked by those who did for ever.
//! What such a client counts is right as long as no second change is made meanwhile. So whoever reads or writes looks for a later
//! configuration whenever its last look is older than [`CONFIGURATION_LEASE`]: a writer before it sends anything, and everybody before it
//! believes what it counted. A change of the regions is completed only when every lease that was running at its beginning has ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;

use super::{RegionSet, layout};
use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::format::configuration::is_configuration;

/// How long a look at the lake's configuration lasts. Clocks serve safety here and nowhere else: the clocks of two clients may run at
/// different speeds by a quarter at most. The time of day is asked as well, for the other clock may stand still while a machine sleeps;
/// where both do (a virtual machine that is paused), a client believes its last look for too long.
pub const CONFIGURATION_LEASE: Duration = Duration::from_secs(20);
/// Largest object that is taken for a configuration here; what it says is read when the lake is opened again.
const LIMIT_BYTES: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) struct Watch {
    /// When the last look began, if there was one.
    looked: Mutex<Option<Moment>>,
    changed: AtomicBool,
    /// Of whoever looks ahead of time.
    turn: tokio::sync::Mutex<()>,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { looked: Mutex::new(Some(Moment::now())), changed: AtomicBool::new(false), turn: tokio::sync::Mutex::default() }
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

    /// That the last look at the configuration began when the lake was opened, at `at`; none, where opening it left doubt whether there is a
    /// later one.
    #[must_use]
    pub fn looked_at(self, at: Option<Moment>) -> Self {
        *self.watch.looked.lock() = at;
        self
    }

    /// Makes sure that no later configuration was in force a lease ago. Cost: nothing within a lease, then one small get a region.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when there is a later one, or too few regions answer to know.
    pub async fn confirm(&self) -> Result<()> {
        if self.is_changed() {
            return Err(self.changed());
        }
        if self.has_looked_within(CONFIGURATION_LEASE) { Ok(()) } else { self.look().await }
    }

    /// Looks for a later configuration when half of the lease is over, so that [`RegionSet::confirm`] seldom has to. Cost: as there.
    pub async fn renew(&self) {
        if self.is_changed() || self.has_looked_within(CONFIGURATION_LEASE / 2) {
            return;
        }
        // Whoever looks does it for all that read meanwhile; `confirm` still insists once the lease is over.
        let Ok(_turn) = self.watch.turn.try_lock() else { return };
        if let Err(error) = self.look().await {
            tracing::debug!(%error, "the lake's configuration could not be looked for");
        }
    }

    fn has_looked_within(&self, time: Duration) -> bool {
        self.watch.looked.lock().is_some_and(|looked| looked.elapsed() < time)
    }

    async fn look(&self) -> Result<()> {
        let began = Moment::now();
        let next = self.configuration().saturating_add(1);
        let key = layout::configuration_key(next);
        let mut answers: FuturesUnordered<_> = self.voters().iter().map(|region| region.get(&key, LIMIT_BYTES)).collect();
        let (mut without, mut failures) = (0, Vec::new());
        while let Some(answer) = answers.next().await {
            match answer {
                // A configuration is published in so many regions that any quorum meets it.
                Ok(Some(bytes)) if self.root().is_none_or(|root| is_configuration(&bytes, self.lake(), next, root)) => {
                    self.note_change();
                    return Err(self.changed());
                }
                Ok(Some(_)) => {
                    failures.push(Error::new(ErrorKind::Unauthentic, "a region shows a configuration that the lake does not have"))
                }
                Ok(None) => without += 1,
                Err(error) => failures.push(error),
            }
            if without >= usize::from(self.quorums().classic()) {
                let mut looked = self.watch.looked.lock();
                *looked = Some(looked.map_or(began, |looked| looked.later(began)));
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
