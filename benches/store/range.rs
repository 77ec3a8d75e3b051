//! Ranges of 1 MiB of an object of 1 GiB, beside those of one of 16 MiB: requests, regions touched, bytes, time.

use std::sync::Arc;

use lakeseal::clock::SystemClock;
use lakeseal::erasure::Profile;
use lakeseal::lake::testing::{FaultyRegion, memory_lake};
use lakeseal::store::ErasureStore;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;

use crate::timing::{Times, head, line};
use crate::{MIB, Outcome, sample};

const RANGES: usize = 200;

#[derive(Default)]
struct Cost {
    times: Times,
    bytes: u64,
    requests: u64,
    /// Ranges that touched one region, and two.
    one: usize,
    two: usize,
}

pub async fn run() -> Outcome<()> {
    let (regions, writer, faults) = memory_lake(3, 2, 5)?;
    let store = ErasureStore::new(regions, Profile::new(3, 2), Some(Arc::new(writer)), Arc::new(SystemClock))?;
    let sizes = [16 * MIB, 1024 * MIB];
    for size in sizes {
        store.put(&Path::from(format!("t/{size}")), sample(size).into()).await?;
    }
    store.quiesce().await;
    let mut costs: [Cost; 2] = Default::default();
    for number in 0..RANGES {
        for (size, cost) in sizes.into_iter().zip(&mut costs) {
            let path = Path::from(format!("t/{size}"));
            // Odd places, all over the object; block lists are fetched with the range each time.
            let start = number * 7_919_337 % (size - MIB);
            store.forget();
            store.head(&path).await?;
            faults.iter().for_each(FaultyRegion::reset_counts);
            let before = store.read_statistics().bytes;
            let version = store.head(&path).await?.version;
            let heads: u64 = faults.iter().map(|fault| fault.counts().gets).sum();
            faults.iter().for_each(FaultyRegion::reset_counts);
            let options = object_store::GetOptions {
                version,
                range: Some((start as u64..(start + MIB) as u64).into()),
                ..object_store::GetOptions::default()
            };
            let read = async {
                let result = object_store::ObjectStore::get_opts(&store, &path, options).await?;
                result.bytes().await
            };
            if cost.times.add(read).await?.len() != MIB || heads > 0 {
                return Err("a range came back otherwise than asked for".into());
            }
            let touched = faults.iter().filter(|fault| fault.counts().gets > 0).count();
            cost.one += usize::from(touched == 1);
            cost.two += usize::from(touched == 2);
            cost.requests += faults.iter().map(|fault| fault.counts().gets).sum::<u64>();
            cost.bytes += store.read_statistics().bytes - before;
        }
    }
    head("1 MiB of an object, 3+2, in memory");
    let [small, large] = &costs;
    line("of 16 MiB", &small.times, &small.times);
    line("of 1 GiB: of 16 MiB / of 1 GiB", &large.times, &small.times);
    for (name, cost) in [("16 MiB", small), ("1 GiB", large)] {
        let kib = cost.bytes / RANGES as u64 / 1024;
        let requests = cost.requests as f64 / RANGES as f64;
        println!("{name}: {kib} KiB and {requests:.2} requests a range; one region {}, two {} of {RANGES} times", cost.one, cost.two);
    }
    Ok(())
}
