//! Work that goes on after an answer was given: votes to slow regions, markers.

use std::sync::Arc;

use tokio::sync::watch;

/// Counts running tasks, so that they can be waited for.
#[derive(Debug, Clone)]
pub(super) struct Tasks(Arc<watch::Sender<usize>>);

struct Running(Arc<watch::Sender<usize>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Tasks {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    /// Starts `task`; it ends by itself, whoever stops waiting for it.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.send_modify(|count| *count += 1);
        let running = Running(Arc::clone(&self.0));
        tokio::spawn(async move {
            task.await;
            drop(running);
        });
    }

    /// Waits until no task runs.
    pub(super) async fn quiesce(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}
