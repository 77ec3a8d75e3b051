//! How long stragglers are waited for, once enough is known to go on without them: a region that hangs holds nobody up for its whole time limit.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// How long stragglers are waited for at least.
const LEAST: Duration = Duration::from_millis(150);
/// How many times the time that the others took stragglers are waited for.
const FACTOR: u32 = 4;

pub(super) struct Patience {
    started: Instant,
    give_up: Option<Instant>,
}

impl Patience {
    pub(super) fn begin() -> Self {
        Self { started: Instant::now(), give_up: None }
    }

    /// From now on, only stragglers are waited for.
    pub(super) fn end_soon(&mut self) {
        let rest = (self.started.elapsed() * FACTOR).max(LEAST);
        self.give_up.get_or_insert_with(|| Instant::now() + rest);
    }

    /// What `answer` gives; nothing when all have answered, or it is time to give up.
    pub(super) async fn wait<T>(&self, answer: impl Future<Output = Option<T>>) -> Option<T> {
        match self.give_up {
            Some(at) => timeout_at(at, answer).await.unwrap_or(None),
            None => answer.await,
        }
    }
}
