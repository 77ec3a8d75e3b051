//! Put and get of 64 MiB over regions in memory, 3 + 2, beside the raw work on the same threads in the same run: BLAKE3 of the object,
//! BLAKE3 of all shards, and the coding of the parity. Prints medians and the ratios; the times of single runs alternate, so that both
//! sides meet the same machine.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lakeseal::clock::SystemClock;
use lakeseal::digest::{BlockList, Digest};
use lakeseal::erasure::{Codec, Geometry, Profile};
use lakeseal::lake::testing::memory_lake;
use lakeseal::store::ErasureStore;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;

const OBJECT: usize = 64 * 1024 * 1024;
const ROUNDS: usize = 9;
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The work that a put cannot do without: one task per segment on the runtime's threads, and the object's own hash beside them.
async fn raw_put(object: &Bytes, codec: &Codec, geometry: Geometry) -> Outcome<()> {
    let size = object.len() as u64;
    let whole = object.clone();
    let mut tasks = vec![tokio::spawn(async move {
        divan::black_box(Digest::of(&whole));
        Ok(())
    })];
    for index in 0..geometry.segments(size) {
        let range = geometry.segment_range(size, index);
        let segment = object.slice(usize::try_from(range.start)?..usize::try_from(range.end)?);
        let codec = codec.clone();
        tasks.push(tokio::spawn(async move {
            let shape = geometry.segment(segment.len() as u64);
            for parity in codec.encode(shape, &segment)? {
                divan::black_box(BlockList::of(&parity));
            }
            for shard in 0..shape.data {
                let range = shape.data_range(shard);
                let bytes = usize::try_from(range.start)?..usize::try_from(range.end)?;
                divan::black_box(BlockList::of(segment.get(bytes).ok_or("a shard lies outside of its segment")?));
            }
            Outcome::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// The work that a get cannot do without: BLAKE3 of the data shards.
async fn raw_get(object: &Bytes, geometry: Geometry) -> Outcome<()> {
    let size = object.len() as u64;
    let mut tasks = Vec::new();
    for index in 0..geometry.segments(size) {
        let range = geometry.segment_range(size, index);
        let segment = object.slice(usize::try_from(range.start)?..usize::try_from(range.end)?);
        tasks.push(tokio::spawn(async move { divan::black_box(BlockList::of(&segment)) }));
    }
    for task in tasks {
        task.await?;
    }
    Ok(())
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, Duration::as_secs_f64)
}

fn line(what: &str, times: &mut [Duration], raw: f64) -> f64 {
    let seconds = median(times);
    let fastest = times.first().map_or(0.0, Duration::as_secs_f64);
    let mib = 64.0 / seconds;
    println!("{what:<28} {:>8.1} ms {:>8.1} ms {mib:>8.0} MiB/s {:>6.2}", seconds * 1e3, fastest * 1e3, raw.max(0.0) / seconds);
    seconds
}

async fn get(store: &ErasureStore, path: &Path) -> Outcome<()> {
    let mut read = 0;
    let mut body = store.get(path).await?.into_stream();
    while let Some(bytes) = futures::TryStreamExt::try_next(&mut body).await? {
        read += bytes.len();
    }
    if read == OBJECT { Ok(()) } else { Err("an object came back with another size".into()) }
}

async fn run() -> Outcome<()> {
    let profile = Profile::new(3, 2);
    let (codec, geometry) = (Codec::new(profile.codec())?, profile.geometry());
    let object: Bytes = (0..OBJECT as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).to_le_bytes()[0]).collect();
    let mut times: [Vec<Duration>; 5] = Default::default();
    let path = Path::from("t/object");
    for round in 0..=ROUNDS {
        let (regions, writer, faults) = memory_lake(3, 2, 5)?;
        let store = ErasureStore::new(regions, profile.clone(), Some(Arc::new(writer)), Arc::new(SystemClock))?;
        let mut taken = [Duration::ZERO; 5];
        for (step, taken) in taken.iter_mut().enumerate() {
            let begun = Instant::now();
            match step {
                0 => raw_put(&object, &codec, geometry).await?,
                1 => drop(store.put(&path, object.clone().into()).await?),
                2 => raw_get(&object, geometry).await?,
                3 => get(&store, &path).await?,
                _ => {
                    faults.iter().take(2).for_each(|fault| fault.set_down(true));
                    get(&store, &path).await?;
                }
            }
            *taken = begun.elapsed();
        }
        // The first round warms the caches and the allocator.
        if round > 0 {
            times.iter_mut().zip(taken).for_each(|(times, taken)| times.push(taken));
        }
    }
    let [raw_put, put, raw_get, get, degraded] = &mut times;
    println!("{:<28} {:>11} {:>11} {:>14} {:>6}", "64 MiB, 3+2, memory regions", "median", "fastest", "median", "raw/it");
    let floor = median(raw_put);
    line("raw put: hash, code, hash", raw_put, floor);
    line("put", put, floor);
    let read_floor = median(raw_get);
    line("raw get: hash", raw_get, read_floor);
    line("get (against raw get)", get, read_floor);
    line("get (against raw put)", get, floor);
    line("get, 2 regions down", degraded, read_floor);
    Ok(())
}

fn main() -> Outcome<()> {
    tokio::runtime::Runtime::new()?.block_on(run())
}
