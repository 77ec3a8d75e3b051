//! Put and get of 256 MiB over regions in memory.
//!
//! Two limits of a put: the pure work (BLAKE3 of the object, BLAKE3 of all shards, the parity), and that work together with what these
//! regions do: `InMemory` copies what it is given in pieces into memory of its own, and keeps all of it, so that all of it is fresh.

use std::sync::Arc;

use bytes::Bytes;
use lakeseal::clock::SystemClock;
use lakeseal::digest::{BlockList, Digest};
use lakeseal::erasure::{Codec, Geometry, Profile};
use lakeseal::lake::testing::memory_lake;
use lakeseal::store::ErasureStore;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;

use crate::timing::{Times, head, line};
use crate::{MIB, Outcome, get, sample};

const OBJECT: usize = 256 * MIB;
const ROUNDS: usize = 7;

/// The work that a put cannot do without: one task per segment on the runtime's threads, and the object's own hash beside them. With
/// `keep`, the bytes of the shards are handed over as well, as regions in memory take them.
async fn raw_put(object: &Bytes, codec: &Codec, geometry: Geometry, keep: bool) -> Outcome<Vec<Vec<u8>>> {
    let size = object.len() as u64;
    let whole = object.clone();
    let mut tasks = vec![tokio::spawn(async move {
        divan::black_box(Digest::of(&whole));
        Ok(Vec::new())
    })];
    for index in 0..geometry.segments(size) {
        let range = geometry.segment_range(size, index);
        let segment = object.slice(usize::try_from(range.start)?..usize::try_from(range.end)?);
        let codec = codec.clone();
        tasks.push(tokio::spawn(async move {
            let shape = geometry.segment(segment.len() as u64);
            let mut kept = codec.encode(shape, &segment)?;
            for parity in &kept {
                divan::black_box(BlockList::of(parity));
            }
            if !keep {
                kept.clear();
            }
            for shard in 0..shape.data {
                let range = shape.data_range(shard);
                let bytes = usize::try_from(range.start)?..usize::try_from(range.end)?;
                let bytes = segment.get(bytes).ok_or("a shard lies outside of its segment")?;
                divan::black_box(BlockList::of(bytes));
                if keep {
                    kept.push(bytes.to_vec());
                }
            }
            Outcome::Ok(kept)
        }));
    }
    let mut kept = Vec::new();
    for task in tasks {
        kept.extend(task.await??);
    }
    Ok(kept)
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

pub async fn run(data: u8, parity: u8) -> Outcome<()> {
    let profile = Profile::new(data, parity);
    let (codec, geometry) = (Codec::new(profile.codec())?, profile.geometry());
    let object = sample(OBJECT);
    let path = Path::from("t/object");
    let mut times: [Times; 6] = Default::default();
    for round in 0..=ROUNDS {
        let (regions, writer, faults) = memory_lake(data, parity, data + parity)?;
        let store = ErasureStore::new(regions, profile.clone(), Some(Arc::new(writer)), Arc::new(SystemClock))?;
        let [pure, keeping, put, hash, healthy, degraded] = &mut times;
        pure.add(raw_put(&object, &codec, geometry, false)).await?;
        // Freed before the next step begins: the store meets the allocator as the raw work did.
        drop(keeping.add(raw_put(&object, &codec, geometry, true)).await?);
        put.add(store.put(&path, object.clone().into())).await?;
        hash.add(raw_get(&object, geometry)).await?;
        healthy.add(get(&store, &path, OBJECT)).await?;
        faults.iter().take(parity.into()).for_each(|fault| fault.set_down(true));
        degraded.add(get(&store, &path, OBJECT)).await?;
        // The first round warms the caches and the allocator.
        if round == 0 {
            times.iter_mut().for_each(Times::clear);
        }
    }
    let [pure, keeping, put, hash, healthy, degraded] = &times;
    head(&format!("256 MiB, {data}+{parity}, in memory"));
    line("pure work of a put", pure, pure);
    line("and what regions in memory do", keeping, pure);
    line("put: pure work / put", put, pure);
    line("put: work and regions / put", put, keeping);
    line("pure work of a get", hash, hash);
    line("get: pure work / get", healthy, hash);
    line(&format!("{parity} regions down: healthy / get"), degraded, healthy);
    Ok(())
}
