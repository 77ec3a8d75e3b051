//! Put and get of 256 MiB over regions in memory, 3 + 2 and 4 + 2, beside the raw work on the same threads in the same run: BLAKE3 of the
//! object, BLAKE3 of all shards, and the coding of the parity. Prints medians and the ratios of the wall's time and of the processors'
//! time; the times of single runs alternate, so that both sides meet the same machine. The processors' time says the same on a busy one.

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

const OBJECT: usize = 256 * 1024 * 1024;
const ROUNDS: usize = 5;
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

/// The time that this process has spent on processors, in hundredths of a second as Linux counts it; zero elsewhere.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the command's name, which ends with a parenthesis, the 12th and 13th fields are the user's and the system's time.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

#[derive(Default)]
struct Times {
    wall: Vec<Duration>,
    processor: Vec<Duration>,
}

fn median(times: &[Duration]) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, Duration::as_secs_f64)
}

fn line(what: &str, times: &Times, raw: &Times) {
    let (seconds, processor) = (median(&times.wall), median(&times.processor));
    let (wall_ratio, processor_ratio) = (median(&raw.wall) / seconds, median(&raw.processor) / processor.max(0.001));
    let (ms, processor_ms, mib) = (seconds * 1e3, processor * 1e3, 256.0 / seconds);
    println!("{what:<28} {ms:>8.1} ms {processor_ms:>8.1} ms {mib:>7.0} MiB/s {wall_ratio:>9.2} {processor_ratio:>9.2}");
}

async fn get(store: &ErasureStore, path: &Path) -> Outcome<()> {
    let mut read = 0;
    let mut body = store.get(path).await?.into_stream();
    while let Some(bytes) = futures::TryStreamExt::try_next(&mut body).await? {
        read += bytes.len();
    }
    if read == OBJECT { Ok(()) } else { Err("an object came back with another size".into()) }
}

async fn run(data: u8, parity: u8) -> Outcome<()> {
    let profile = Profile::new(data, parity);
    let (codec, geometry) = (Codec::new(profile.codec())?, profile.geometry());
    let object: Bytes = (0..OBJECT as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).to_le_bytes()[0]).collect();
    let mut times: [Times; 5] = Default::default();
    let path = Path::from("t/object");
    for round in 0..=ROUNDS {
        let (regions, writer, faults) = memory_lake(data, parity, data + parity)?;
        let store = ErasureStore::new(regions, profile.clone(), Some(Arc::new(writer)), Arc::new(SystemClock))?;
        for (step, times) in times.iter_mut().enumerate() {
            let (begun, processor) = (Instant::now(), processor_time());
            match step {
                0 => raw_put(&object, &codec, geometry).await?,
                1 => drop(store.put(&path, object.clone().into()).await?),
                2 => raw_get(&object, geometry).await?,
                3 => get(&store, &path).await?,
                _ => {
                    faults.iter().take(parity.into()).for_each(|fault| fault.set_down(true));
                    get(&store, &path).await?;
                }
            }
            // The first round warms the caches and the allocator.
            if round > 0 {
                times.wall.push(begun.elapsed());
                times.processor.push(processor_time().saturating_sub(processor));
            }
        }
    }
    let [raw_put, put, raw_get, get, degraded] = &times;
    let title = format!("256 MiB, {data}+{parity}, in memory");
    println!("{title:<28} {:>11} {:>11} {:>13} {:>9} {:>9}", "wall", "processor", "", "raw/it", "processor");
    line("raw put: hash, code, hash", raw_put, raw_put);
    line("put", put, raw_put);
    line("raw get: hash", raw_get, raw_get);
    line("get", get, raw_get);
    line("get against raw put", get, raw_put);
    line(&format!("get, {parity} regions down"), degraded, get);
    println!("(the last line: healthy get / degraded get)");
    Ok(())
}

fn main() -> Outcome<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(run(3, 2))?;
    runtime.block_on(run(4, 2))
}
