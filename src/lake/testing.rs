//! Lakes in memory or in temporary directories, with regions that fail on demand: for tests, examples and benchmarks.

mod fault;

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{LakeId, RegionName};
use crate::key::{PrivateKey, PublicKey};
use crate::region::{Quorums, Region, RegionOptions, RegionSet};
pub use fault::{FaultStore, FaultyRegion, OperationCounts};

/// A lake of `regions` regions in memory for a profile of `data` + `parity`, its writer's key, and one handle of faults per region.
///
/// The regions are named `r0`, `r1`, …; no region may lie (b = 0); the configuration's number is 0; the writer's key may
/// collect as well, and superseded versions may be collected at once.
///
/// # Errors
/// [`ErrorKind::Config`] when the profile does not fit that many regions.
pub fn memory_lake(data: u8, parity: u8, regions: u8) -> Result<(Arc<RegionSet>, PrivateKey, Vec<FaultyRegion>)> {
    let stores = (0..regions).map(|_| Arc::new(InMemory::new()) as Arc<dyn ObjectStore>).collect();
    lake_over(data, parity, 0, stores)
}

/// As [`memory_lake`], over given stores (one per region) and with `liars` regions that may forget or lie about registers.
///
/// # Errors
/// [`ErrorKind::Config`] when profile, liars and number of stores do not fit.
pub fn lake_over(
    data: u8,
    parity: u8,
    liars: u8,
    stores: Vec<Arc<dyn ObjectStore>>,
) -> Result<(Arc<RegionSet>, PrivateKey, Vec<FaultyRegion>)> {
    lake_with(data, parity, liars, &Rules::default(), stores)
}

/// What [`lake_with`] does not take from its defaults.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// How long superseded versions are kept, in seconds; not at all by default.
    pub retention_seconds: u64,
    /// The keys that may collect; the writer's own when there are none.
    pub collectors: Vec<PublicKey>,
}

/// As [`lake_over`], with a retention and with collectors of its own.
///
/// # Errors
/// As [`lake_over`].
pub fn lake_with(
    data: u8,
    parity: u8,
    liars: u8,
    rules: &Rules,
    stores: Vec<Arc<dyn ObjectStore>>,
) -> Result<(Arc<RegionSet>, PrivateKey, Vec<FaultyRegion>)> {
    let n = u8::try_from(stores.len()).unwrap_or(u8::MAX);
    if data == 0 || u16::from(data) + u16::from(parity) > u16::from(n) {
        return Err(Error::new(ErrorKind::Config, format!("{data} data and {parity} parity shards do not fit {n} regions")));
    }
    let writer = PrivateKey::generate()?;
    let collectors = if rules.collectors.is_empty() { vec![writer.public()] } else { rules.collectors.clone() };
    let options = RegionOptions { timeout: Duration::from_secs(10) };
    let (mut set, mut faults) = (Vec::new(), Vec::new());
    for (index, store) in (0..n).zip(stores) {
        let fault = FaultyRegion::default();
        let name: RegionName = format!("r{index}").parse()?;
        let store = Arc::new(FaultStore::new(store, fault.clone()));
        set.push(Arc::new(Region::new(name, index, store, options)));
        faults.push(fault);
    }
    let set = RegionSet::new(LakeId::random()?, set, Quorums::new(n, liars)?, vec![writer.public()], 0)?
        .with_collectors(collectors)
        .with_retention(rules.retention_seconds);
    Ok((Arc::new(set), writer, faults))
}

#[cfg(test)]
mod tests;
