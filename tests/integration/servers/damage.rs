//! Real edits of the bytes that a server keeps on its disk.

use std::collections::HashMap;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::TryStreamExt as _;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::{Server, TestLake};

/// Bytes by which a stored object is found again in a server's files.
const NEEDLE_BYTES: usize = 16;
/// Damaged objects that the server is asked for, and how long.
const ASKED: usize = 8;
const PATIENCE: Duration = Duration::from_secs(1);
/// Of a file, so much is searched at a time.
const CHUNK_BYTES: usize = 4 << 20;

/// What was done to a server's files.
#[derive(Debug)]
pub struct Damage {
    /// Objects of the lake that the server held.
    #[expect(dead_code, reason = "printed")]
    pub objects: usize,
    /// Those of them whose bytes were found on disk and changed.
    pub edited: usize,
    /// Of [`ASKED`] of them, those that the server now refuses to deliver (the client may try for long).
    pub refused: usize,
    /// Of those, the ones that it delivers changed, as if all were well.
    pub changed: usize,
}

pub fn files_below(directory: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, into) } else { into.push(path) }
    }
}

/// Turns bits over in the middle of every shard and register entry that `server` holds of `lake`, in its files; then asks it for them.
pub async fn damage(server: &Server, lake: &TestLake) -> Damage {
    let store = server.open(&server.name, &lake.folder);
    let mut held = Vec::new();
    for folder in ["d", "i"] {
        let keys: Vec<Key> = store.list(Some(&Key::from(folder))).map_ok(|meta| meta.location).try_collect().await.unwrap();
        for key in keys {
            let bytes = store.get(&key).await.unwrap().bytes().await.unwrap();
            // Decided markers are empty.
            if bytes.len() >= 2 * NEEDLE_BYTES {
                held.push((key, bytes));
            }
        }
    }
    let needles = held.iter().map(|(_, bytes)| {
        let middle = bytes.len() / 2;
        <[u8; NEEDLE_BYTES]>::try_from(&bytes[middle..middle + NEEDLE_BYTES]).unwrap()
    });
    let edited = edit(&server.data, &needles.collect::<Vec<_>>());
    let (mut refused, mut changed) = (0, 0);
    for (key, before) in held.iter().step_by(held.len().div_ceil(ASKED).max(1)) {
        let read = async { store.get(key).await?.bytes().await };
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(Ok(after)) => changed += usize::from(after != *before),
            Ok(Err(_)) | Err(_) => refused += 1,
        }
    }
    Damage { objects: held.len(), edited, refused, changed }
}

/// Changes a byte at every place of `directory`'s files where a needle lies; says how many needles were found.
fn edit(directory: &Path, needles: &[[u8; NEEDLE_BYTES]]) -> usize {
    let mut by_start: HashMap<[u8; 4], Vec<usize>> = HashMap::new();
    let mut begins = vec![false; 1 << 16];
    for (i, needle) in needles.iter().enumerate() {
        by_start.entry([needle[0], needle[1], needle[2], needle[3]]).or_default().push(i);
        begins[usize::from(u16::from_be_bytes([needle[0], needle[1]]))] = true;
    }
    let mut found = vec![false; needles.len()];
    let mut files = Vec::new();
    files_below(directory, &mut files);
    for path in files {
        let mut file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let (mut start, mut bytes) = (0_u64, Vec::new());
        loop {
            bytes.clear();
            file.seek(SeekFrom::Start(start)).unwrap();
            let read = (&mut file).take((CHUNK_BYTES + NEEDLE_BYTES) as u64).read_to_end(&mut bytes).unwrap();
            for (at, window) in bytes.windows(NEEDLE_BYTES).enumerate() {
                if !begins[usize::from(u16::from_be_bytes([window[0], window[1]]))] {
                    continue;
                }
                let Some(candidates) = by_start.get(&window[..4]) else { continue };
                let Some(needle) = candidates.iter().find(|needle| needles[**needle] == *window) else { continue };
                found[*needle] = true;
                file.seek(SeekFrom::Start(start + at as u64)).unwrap();
                file.write_all(&[window[0] ^ 1]).unwrap();
            }
            if read < CHUNK_BYTES + NEEDLE_BYTES {
                break;
            }
            start += CHUNK_BYTES as u64;
        }
    }
    found.iter().filter(|found| **found).count()
}
