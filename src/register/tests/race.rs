//! Writers and readers at random speeds over regions that lose requests and answers: every history must be that of one register.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use object_store::path::Path;
use parking_lot::Mutex;

use super::support::{lake, value};
use crate::digest::Digest;
use crate::error::ErrorKind;
use crate::register::{Decided, Proposed, Registers};

/// What all clients together have seen.
#[derive(Default)]
struct History {
    decided: Mutex<BTreeMap<u64, Digest>>,
    /// One more than the highest slot known to be decided to any client; 0 for none.
    known: AtomicU64,
}

impl History {
    fn saw(&self, slot: u64, digest: Digest, seed: u64) {
        let before = *self.decided.lock().entry(slot).or_insert(digest);
        assert_eq!(before, digest, "seed {seed}: slot {slot} was decided for two values");
        self.known.fetch_max(slot + 1, Ordering::SeqCst);
    }
}

async fn read(registers: &Registers, path: &Path, history: &History, seed: u64) -> Option<Option<Decided>> {
    let known = history.known.load(Ordering::SeqCst);
    match registers.newest(path).await {
        Ok(newest) => {
            let slots = newest.as_ref().map_or(0, |decided| decided.slot + 1);
            assert!(slots >= known, "seed {seed}: a read that began after slot {known} - 1 was known answered {slots} - 1");
            if let Some(decided) = &newest {
                history.saw(decided.slot, decided.digest, seed);
            }
            Some(newest)
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "seed {seed}: {error}");
            None
        }
    }
}

async fn write(registers: Registers, path: Path, history: Arc<History>, seed: u64, client: u64) -> u64 {
    let mut won = 0;
    for attempt in 0..6 {
        let Some(newest) = read(&registers, &path, &history, seed).await else { continue };
        let slot = newest.map_or(0, |decided| decided.slot + 1);
        let own = value(&format!("client {client} attempt {attempt}"));
        match registers.propose(&path, slot, own.clone()).await {
            Ok(Proposed::Won) => {
                history.saw(slot, Digest::of(&own), seed);
                won += 1;
            }
            Ok(Proposed::Lost(decided)) => history.saw(slot, decided.digest, seed),
            Err(error) => assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "seed {seed}: {error}"),
        }
    }
    won
}

async fn run(n: u8, seed: u64) -> u64 {
    let lake = lake(n, 0);
    for (store, i) in lake.stores.iter().zip(1..) {
        store.faults.random.store(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(i), Ordering::Relaxed);
    }
    let history = Arc::new(History::default());
    let path = Path::from("name");
    let writers: Vec<_> =
        (0..3).map(|client| tokio::spawn(write(lake.writer(), path.clone(), Arc::clone(&history), seed, client))).collect();
    let readers: Vec<_> = [lake.reader(), lake.writer()]
        .into_iter()
        .map(|registers| {
            let (path, history) = (path.clone(), Arc::clone(&history));
            tokio::spawn(async move {
                for _ in 0..12 {
                    read(&registers, &path, &history, seed).await;
                }
            })
        })
        .collect();
    let mut won = 0;
    for writer in writers {
        won += writer.await.unwrap();
    }
    for reader in readers {
        reader.await.unwrap();
    }
    // Now all is quiet: everything that was seen is still there.
    for store in &lake.stores {
        store.faults.random.store(0, Ordering::Relaxed);
    }
    let last = lake.writer();
    let seen = history.decided.lock().clone();
    for (slot, digest) in seen {
        assert_eq!(last.at(&path, slot).await.unwrap().map(|decided| decided.digest), Some(digest), "n {n} seed {seed} slot {slot}");
    }
    won
}

#[tokio::test]
async fn all_readers_agree_on_random_schedules_with_lost_requests_and_answers() {
    for n in [1_u8, 3, 4, 5] {
        let mut won = 0;
        // All at once: most of their time is waiting.
        let runs: Vec<_> = (1..=60).map(|seed| tokio::spawn(run(n, seed))).collect();
        for run in runs {
            won += run.await.unwrap();
        }
        assert!(won > 100, "n {n}: only {won} of 1080 proposals were won, too few to show anything");
    }
}
