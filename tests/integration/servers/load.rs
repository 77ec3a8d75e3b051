//! Writers in several processes that note what was acknowledged, and the proof that all of it is there.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path as FsPath, PathBuf};
use std::time::{Duration, Instant};

use futures::TryStreamExt as _;
use lakeseal::store::ErasureStore;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload, WriteMultipart};

use super::bytes_of;

/// Writers of one process.
pub const TASKS: u64 = 3;

/// Lengths that are written in turn: in the manifest, sharded, of several segments.
const LENGTHS: [usize; 4] = [300, 40_000, 1_500_000, 20_000];

/// Which versions of a name were tried, and the newest that was acknowledged.
#[derive(Debug, Default)]
pub struct Name {
    pub tried: Vec<u64>,
    pub acknowledged: Option<u64>,
}

fn length(seed: u64) -> usize {
    LENGTHS[usize::try_from(seed).unwrap() % LENGTHS.len()]
}

/// Lines `tried|acknowledged PATH SEED` or `failed PATH SEED MILLISECONDS ERROR`, each on disk before the next step.
struct Journal(fs::File);

impl Journal {
    fn note(&mut self, line: &str) {
        self.0.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

/// Writes `writes` objects, every fourth over one that was written before; one writer a name.
async fn writer(store: ErasureStore, journal: PathBuf, writer: u64, writes: u64) {
    let mut journal = Journal(OpenOptions::new().create(true).append(true).open(journal).unwrap());
    for i in 0..writes {
        let name = if i % 4 == 3 { i - 3 } else { i };
        let path = Path::from(format!("load/{writer}/{name:04}"));
        let seed = writer * 1_000_000 + i;
        journal.note(&format!("tried {path} {seed}"));
        let start = Instant::now();
        match put(&store, &path, bytes_of(seed, length(seed)), i % 5 == 4).await {
            Ok(()) => journal.note(&format!("acknowledged {path} {seed} {}", start.elapsed().as_millis())),
            Err(error) => {
                journal.note(&format!("failed {path} {seed} {} {}", start.elapsed().as_millis(), error.to_string().replace('\n', " ")));
            }
        }
    }
}

async fn put(store: &ErasureStore, path: &Path, content: bytes::Bytes, in_parts: bool) -> object_store::Result<()> {
    if !in_parts {
        return store.put(path, PutPayload::from_bytes(content)).await.map(|_| ());
    }
    let mut upload = WriteMultipart::new(store.put_multipart(path).await?);
    upload.write(&content);
    upload.finish().await.map(|_| ())
}

/// The writers of one process, `first` of which all processes' are numbered from.
pub async fn write(store: &ErasureStore, journals: &FsPath, first: u64, writes: u64) {
    let writers = (first..first + TASKS).map(|number| {
        let journal = journals.join(format!("journal-{number}"));
        tokio::spawn(writer(store.clone(), journal, number, writes))
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    store.quiesce().await;
}

/// What the journals say so far, and the writes that failed.
pub fn journalled(journals: &FsPath) -> (BTreeMap<Path, Name>, Vec<String>) {
    let mut names: BTreeMap<Path, Name> = BTreeMap::new();
    let mut failed = Vec::new();
    for entry in fs::read_dir(journals).unwrap() {
        let file = entry.unwrap().path();
        if !file.file_name().unwrap().to_str().unwrap().starts_with("journal-") {
            continue;
        }
        let text = fs::read_to_string(file).unwrap();
        // A line that is being written is not there yet.
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            let (path, seed) = (Path::parse(words[1]).unwrap(), words[2].parse().unwrap());
            let name = names.entry(path).or_default();
            match words[0] {
                "tried" => name.tried.push(seed),
                "acknowledged" => name.acknowledged = Some(seed),
                _ => failed.push(line.to_owned()),
            }
        }
    }
    (names, failed)
}

/// Times of acknowledged writes, in milliseconds, ascending.
pub fn times_ms(journals: &FsPath) -> Vec<u64> {
    let files = fs::read_dir(journals).unwrap().map(|entry| entry.unwrap().path());
    let journals = files.filter(|file| file.file_name().unwrap().to_str().unwrap().starts_with("journal-"));
    let text: String = journals.map(|file| fs::read_to_string(file).unwrap()).collect();
    let acknowledged = text.lines().filter(|line| line.starts_with("acknowledged"));
    let mut times: Vec<u64> = acknowledged.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    times.sort_unstable();
    times
}

pub fn acknowledgements(journals: &FsPath) -> usize {
    times_ms(journals).len()
}

/// Waits until so many writes were acknowledged or failed: the load itself is the clock of these tests.
pub async fn until_written(journals: &FsPath, writes: usize) {
    while acknowledgements(journals) + journalled(journals).1.len() < writes {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Whether `found` is a version that may be read when `name` was acknowledged as the journal says.
fn allowed(name: &Name, found: &[u8]) -> bool {
    let least = name.acknowledged.unwrap_or(0);
    name.tried.iter().any(|seed| *seed >= least && found == bytes_of(*seed, length(*seed)))
}

/// Reads every name that `names` says was acknowledged; each must be there, byte for byte, in this version or in one that was written
/// since. Says how many objects and bytes were read.
pub async fn verify(store: &ErasureStore, names: &BTreeMap<Path, Name>, journals: &FsPath) -> (usize, usize) {
    let (mut objects, mut total) = (0, 0);
    for (path, name) in names.iter().filter(|(_, name)| name.acknowledged.is_some()) {
        let found = match store.get(path).await {
            Ok(found) => found.bytes().await,
            Err(error) => Err(error),
        };
        let found = found.unwrap_or_else(|error| panic!("{path} was acknowledged and cannot be read: {error}"));
        if !allowed(name, &found) {
            // Written over meanwhile: the journal says so before the store is asked.
            let now = Name { acknowledged: name.acknowledged, ..journalled(journals).0.remove(path).unwrap() };
            assert!(allowed(&now, &found), "{path} is not what was acknowledged: {now:?}, {} bytes", found.len());
        }
        objects += 1;
        total += found.len();
    }
    (objects, total)
}

/// Every acknowledged name is listed, and nothing that was never tried.
pub async fn verify_list(store: &ErasureStore, names: &BTreeMap<Path, Name>) {
    let listed: Vec<Path> = store.list(None).map_ok(|meta| meta.location).try_collect().await.unwrap();
    assert!(listed.is_sorted());
    assert!(listed.iter().all(|path| names.contains_key(path)), "a name is listed that nobody wrote");
    for (path, _) in names.iter().filter(|(_, name)| name.acknowledged.is_some()) {
        assert!(listed.binary_search(path).is_ok(), "{path} was acknowledged and is not listed");
    }
}
