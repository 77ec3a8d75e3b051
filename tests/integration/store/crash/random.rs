//! Several writing processes at once, killed at random moments.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::time::Duration;

use object_store::{GetOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};

use super::lake::{CrashLake, again, environment};
use super::{PROFILES, Shape};
use crate::store::content;
use crate::store::faults::Random;

const WRITERS: u64 = 3;
/// Objects that one writer has for itself.
const OWN: u64 = 4;

/// What one writer noted of a path: the state that was acknowledged last, and those that may have come since.
#[derive(Default)]
struct Expected {
    acknowledged: Option<Vec<u8>>,
    possible: Vec<Option<Vec<u8>>>,
}

/// A writer that goes on until it is killed. Not a test by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by other tests"]
async fn child_writes_until_it_is_killed() {
    let Some(dir) = environment("DIR") else { return println!("nothing to do: other tests start this one") };
    let (name, seed) = (environment("WRITER").unwrap(), environment("SEED").unwrap().parse().unwrap());
    let lake = CrashLake::at(dir.into());
    let store = lake.open().await;
    let mut journal = lake.journal_of(&name);
    let mut random = Random(seed);
    let round = name.split('w').next().unwrap().to_owned();
    // Ends by itself when nobody comes to kill it.
    for number in 0..20_000usize {
        let own = format!("{name}/{}", random.below(OWN));
        let size = [10, 500, 40_000, 130_000, 250_000][usize::try_from(random.below(5)).unwrap()];
        let bytes = content(number, size);
        let kind = random.below(8);
        let (path, verb) = match kind {
            0 => (own, "delete"),
            1 | 2 => (own, "multipart"),
            3..=5 => (own, "put"),
            _ => (format!("{round}/claims/{number}"), "claim"),
        };
        journal.note(&format!("begin {number} {verb} {path} {size}"));
        let outcome = match verb {
            "delete" => store.delete(&path.as_str().into()).await,
            "multipart" => {
                let mut upload = store.put_multipart(&path.as_str().into()).await.unwrap();
                let mut outcome = Ok(());
                for part in bytes.chunks(90_000) {
                    outcome = outcome.and(upload.put_part(part.to_vec().into()).await);
                }
                match outcome {
                    Ok(()) => upload.complete().await.map(|_| ()),
                    Err(error) => Err(error),
                }
            }
            "put" => store.put(&path.as_str().into(), bytes.into()).await.map(|_| ()),
            _ => {
                let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                store.put_opts(&path.as_str().into(), name.clone().into(), create).await.map(|_| ())
            }
        };
        match outcome {
            Ok(()) => journal.note(&format!("ack {number}")),
            Err(object_store::Error::AlreadyExists { .. }) => journal.note(&format!("taken {number}")),
            Err(error) => journal.note(&format!("error {number} {}", error.to_string().replace('\n', " "))),
        }
    }
}

/// Kills the writers of one round at random; says how many acknowledgements they had.
fn run_round(directory: &std::path::Path, round: u64, random: &mut Random) {
    let mut writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (name, seed) = (format!("{round}w{writer}"), random.below(u64::from(u32::MAX)).to_string());
            let variables = [("DIR", directory.to_str()), ("WRITER", Some(name.as_str())), ("SEED", Some(seed.as_str()))];
            let mut command = again("store::crash::random::child_writes_until_it_is_killed", &variables);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for writer in &mut writers {
        std::thread::sleep(Duration::from_millis(300 + random.below(1200)));
        writer.kill().unwrap();
        writer.wait().unwrap();
    }
}

/// Checks one round's journals against the lake; how much was acknowledged, and how many steps ended with an error.
async fn check_round(lake: &CrashLake, round: u64, seed: u64) -> (usize, usize) {
    let store = lake.open().await;
    let (mut acknowledged, mut errors) = (0, 0);
    let mut expected: BTreeMap<String, Expected> = BTreeMap::new();
    let mut claims: BTreeMap<String, (BTreeSet<String>, Option<String>)> = BTreeMap::new();
    for writer in 0..WRITERS {
        let name = format!("{round}w{writer}");
        let journal = lake.read_journal_of(&name);
        let mut lines = journal.lines().peekable();
        while let Some(begin) = lines.next() {
            let fields: Vec<_> = begin.split(' ').collect();
            let ["begin", number, verb, path, size] = fields[..] else { panic!("seed {seed}: {begin}") };
            let end = lines.next_if(|line| !line.starts_with("begin")).unwrap_or_default();
            let acked = end.starts_with("ack");
            acknowledged += usize::from(acked);
            errors += usize::from(end.starts_with("error"));
            if verb == "claim" {
                let (begun, holder) = claims.entry(path.to_owned()).or_default();
                begun.insert(name.clone());
                if acked {
                    let other = holder.replace(name.clone());
                    assert_eq!(other, None, "seed {seed}: {path} was given to two writers");
                }
                continue;
            }
            let bytes = (verb != "delete").then(|| content(number.parse().unwrap(), size.parse().unwrap()));
            let known = expected.entry(path.to_owned()).or_default();
            if acked {
                *known = Expected { acknowledged: bytes, possible: Vec::new() };
            } else {
                known.possible.push(bytes);
            }
        }
    }
    for (path, expected) in expected {
        let found = read(&store, &path).await;
        let right = found == expected.acknowledged || expected.possible.contains(&found);
        assert!(right, "seed {seed}: {path} has {:?} bytes, neither what was acknowledged nor what was under way", found.map(|f| f.len()));
    }
    for (path, (begun, holder)) in claims {
        let found = read(&store, &path).await.map(|bytes| String::from_utf8(bytes).unwrap());
        match holder {
            Some(holder) => assert_eq!(found, Some(holder), "seed {seed}: {path}"),
            None => assert!(found.as_ref().is_none_or(|found| begun.contains(found)), "seed {seed}: {path} {found:?}"),
        }
    }
    store.quiesce().await;
    (acknowledged, errors)
}

async fn read(store: &lakeseal::store::ErasureStore, path: &str) -> Option<Vec<u8>> {
    match store.get_opts(&path.into(), GetOptions::default()).await {
        Ok(object) => Some(object.bytes().await.unwrap().to_vec()),
        Err(object_store::Error::NotFound { .. }) => None,
        Err(error) => panic!("{path}: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes; scripts/crash.sh runs it"]
async fn writers_killed_at_random_lose_nothing_that_was_acknowledged() {
    let number = |name: &str, default: u64| environment(name).map_or(default, |text| text.parse().unwrap());
    let (rounds, first) = (number("ROUNDS", 20), number("FIRST_SEED", 1));
    let (mut acknowledged, mut errors) = (0, 0);
    for (seed, shape) in (first..first + rounds).zip(PROFILES.into_iter().cycle()) {
        println!("seed {seed}: {shape:?}");
        let directory = tempfile::tempdir().unwrap();
        let lake = CrashLake::made(directory.path(), Shape { fsync: seed % 4 == 0, ..shape }).await;
        let mut random = Random(seed);
        for round in 0..3 {
            run_round(directory.path(), round, &mut random);
        }
        // Later rounds leave earlier ones as they were.
        for round in 0..3 {
            let found = check_round(&lake, round, seed).await;
            acknowledged += found.0;
            errors += found.1;
        }
    }
    println!("{rounds} seeds from {first}, {} processes killed, {acknowledged} steps acknowledged, {errors} errors", rounds * 3 * WRITERS);
    assert!(acknowledged > 0);
}
