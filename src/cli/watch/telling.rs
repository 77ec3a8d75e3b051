//! When the webhook is told: at once, unless it does not answer.
//!
//! A webhook that hangs costs [`super::webhook`]'s patience for every report. So once it did not answer in a round, nobody else is kept waiting for it; at
//! the end of the round whoever was passed over has a turn, the one that waited longest first, until it does not answer again. A report that alone makes
//! the other side hang keeps no other from being told.

use std::collections::VecDeque;

use super::told::Untold;
use super::webhook::{NotTaken, Webhook};
use crate::cli::output;

/// So many reports are kept for a webhook that does not answer; the oldest go first.
const UNTOLD_LIMIT: usize = 16;

/// What of one table the webhook did not take yet, oldest first.
#[derive(Default)]
pub(super) struct Queue {
    untold: VecDeque<Untold>,
    /// Rounds that it was passed over since it was tried last.
    waited: u64,
    /// Whether it was passed over in this round.
    is_waiting: bool,
}

impl Queue {
    pub(super) fn push(&mut self, untold: Untold) {
        self.untold.push_back(untold);
    }

    pub(super) fn len(&self) -> usize {
        self.untold.len()
    }
}

/// Tells the webhook, if there is one.
pub(super) struct Telling {
    webhook: Option<Webhook>,
    /// It did not answer in this round.
    is_down: bool,
}

impl Telling {
    pub(super) fn new(webhook: Option<Webhook>) -> Self {
        Self { webhook, is_down: false }
    }

    pub(super) fn is_any(&self) -> bool {
        self.webhook.is_some()
    }

    /// A round begins.
    pub(super) fn begin(&mut self) {
        self.is_down = false;
    }

    /// Sends what there is of the table `name`, unless somebody waited for the webhook in vain in this round. What is not taken stays for the next round:
    /// the watch goes on.
    pub(super) async fn tell(&mut self, name: &str, queue: &mut Queue) {
        if self.webhook.is_none() || queue.untold.is_empty() {
            return;
        }
        if self.is_down {
            queue.is_waiting = true;
            return;
        }
        (queue.waited, queue.is_waiting) = (0, false);
        self.send(name, queue).await;
    }

    /// Those that were passed over have their turn.
    pub(super) async fn end<'q>(&mut self, queues: impl Iterator<Item = (&'q str, &'q mut Queue)>) {
        let mut waiting: Vec<_> = queues.filter(|(_, queue)| queue.is_waiting).collect();
        waiting.sort_by_key(|(_, queue)| std::cmp::Reverse(queue.waited));
        self.is_down = false;
        for (name, queue) in waiting {
            let waited = queue.waited.saturating_add(1);
            self.tell(name, queue).await;
            if queue.is_waiting {
                queue.waited = waited;
            }
        }
    }

    async fn send(&mut self, name: &str, queue: &mut Queue) {
        let Some(webhook) = &self.webhook else { return };
        while queue.untold.len() > UNTOLD_LIMIT {
            queue.untold.pop_front();
            output::note(format_args!("{name}: the oldest report that the webhook did not take is given up"));
        }
        while let Some(oldest) = queue.untold.front_mut() {
            if let Err(failed) = webhook.post(oldest).await {
                self.is_down = matches!(failed, NotTaken::Failed(_));
                let error = failed.into_error();
                output::note(format_args!("the webhook was not told of {name}, and will be in the next round: {error}"));
                return;
            }
            queue.untold.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use parking_lot::Mutex;
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::webhook::Patience;
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(300);

    /// A server that never answers whoever speaks of a table in `hang`; the tables that it was told of.
    async fn server(hang: &'static [&'static str]) -> (Telling, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let patience = Patience { timeout: TIMEOUT, attempts: 1 };
        let webhook = Webhook::patient(&url, patience).unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let taken = told.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let taken = taken.clone();
                tokio::spawn(async move {
                    let mut text = String::new();
                    while !text.ends_with('}') {
                        let mut buffer = [0; 4096];
                        let read = stream.read(&mut buffer).await.unwrap();
                        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
                    }
                    let table = text.split('"').rev().nth(1).unwrap().to_owned();
                    if hang.contains(&table.as_str()) {
                        std::future::pending::<()>().await;
                    }
                    taken.lock().push(table);
                    stream.write_all(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await.unwrap();
                });
            }
        });
        (Telling::new(Some(webhook)), told)
    }

    async fn round(telling: &mut Telling, queues: &mut BTreeMap<String, Queue>) -> Duration {
        let began = Instant::now();
        telling.begin();
        for (name, queue) in queues.iter_mut() {
            telling.tell(name, queue).await;
        }
        telling.end(queues.iter_mut().map(|(name, queue)| (name.as_str(), queue))).await;
        began.elapsed()
    }

    fn queues(names: &[&str]) -> BTreeMap<String, Queue> {
        let queue = |name: &&str| {
            let mut queue = Queue::default();
            queue.push(Untold { body: json!({"table": name}), refused: false });
            ((*name).to_owned(), queue)
        };
        names.iter().map(queue).collect()
    }

    #[tokio::test]
    async fn a_webhook_that_hangs_is_waited_for_twice_a_round_however_many_tables_there_are() {
        let names: Vec<String> = (0..20).map(|i| format!("t{i:02}")).collect();
        let hang: &'static [&'static str] = names.iter().map(|name| &*name.clone().leak()).collect::<Vec<&str>>().leak();
        let (mut telling, told) = server(hang).await;
        let mut queues = queues(hang);
        let took = round(&mut telling, &mut queues).await;
        assert!(took < TIMEOUT * 8, "{took:?}");
        assert!(told.lock().is_empty() && queues.values().all(|queue| queue.len() == 1), "nothing is lost");
    }

    #[tokio::test]
    async fn reports_that_make_it_hang_keep_no_others_from_being_told() {
        let (mut telling, told) = server(&["a", "b"]).await;
        let mut queues = queues(&["a", "b", "c", "d"]);
        for _ in 0..2 {
            round(&mut telling, &mut queues).await;
        }
        let mut told = told.lock().clone();
        told.sort();
        assert_eq!(told, ["c", "d"]);
        assert_eq!(queues.values().map(Queue::len).collect::<Vec<_>>(), [1, 1, 0, 0]);
    }
}
