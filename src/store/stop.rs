//! Asking what goes on for long to end early, with what it has found so far.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// A word that something should end early. Clones are the same word; by default nobody says it.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_said: AtomicBool,
    said: Notify,
}

impl Stop {
    /// Says it, for good.
    pub fn say(&self) {
        self.0.is_said.store(true, Ordering::SeqCst);
        self.0.said.notify_waiters();
    }

    /// Whether it was said.
    pub fn is_said(&self) -> bool {
        self.0.is_said.load(Ordering::SeqCst)
    }

    /// Comes back once it was said.
    pub async fn said(&self) {
        let said = self.0.said.notified();
        let mut said = std::pin::pin!(said);
        // Listening first: what is said between looking and waiting is heard.
        said.as_mut().enable();
        if !self.is_said() {
            said.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_heard_before_and_after_it_is_said() {
        let stop = Stop::default();
        let waiting = tokio::spawn({
            let stop = stop.clone();
            async move { stop.said().await }
        });
        tokio::task::yield_now().await;
        stop.say();
        waiting.await.unwrap();
        stop.said().await;
        assert!(stop.clone().is_said() && !Stop::default().is_said());
    }
}
