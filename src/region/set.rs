//! The regions of a lake and how many of them have to agree.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Region;
use super::watch::Watch;
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::EntryKeys;
use crate::id::LakeId;
use crate::key::PublicKey;

/// Most regions that a lake has.
pub const MAX_REGIONS: u8 = 16;

/// How many regions must agree, for n regions of which at most b may forget or lie about registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quorums {
    n: u8,
    liars: u8,
    classic: u8,
    fast: u8,
}

impl Quorums {
    /// The quorums of `n` regions with `liars` liars: Qc = floor((n+b)/2)+1, Qf = the least >= Qc with 2Qf + Qc >= 2n + 2b + 1.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when n is not in 1..=16 or no quorum of n regions withstands that many liars.
    pub fn new(n: u8, liars: u8) -> Result<Self> {
        if n == 0 || n > MAX_REGIONS {
            return Err(Error::new(ErrorKind::Config, format!("a lake has 1 to {MAX_REGIONS} regions, not {n}")));
        }
        let (wide_n, b) = (u16::from(n), u16::from(liars));
        let classic = (wide_n + b) / 2 + 1;
        let fast = classic.max((2 * wide_n + 2 * b + 1).saturating_sub(classic).div_ceil(2));
        match (u8::try_from(classic), u8::try_from(fast)) {
            (Ok(classic), Ok(fast)) if fast <= n => Ok(Self { n, liars, classic, fast }),
            _ => Err(Error::new(
                ErrorKind::Config,
                format!("{n} regions cannot withstand {liars} that forget or lie about registers: use fewer `liars` or more regions"),
            )),
        }
    }

    /// Number of regions.
    pub fn n(&self) -> u8 {
        self.n
    }

    /// Regions that may forget or lie about registers (b).
    pub fn liars(&self) -> u8 {
        self.liars
    }

    /// The classic quorum (Qc).
    pub fn classic(&self) -> u8 {
        self.classic
    }

    /// The fast quorum (Qf).
    pub fn fast(&self) -> u8 {
        self.fast
    }
}

/// The regions of a lake under one configuration.
#[derive(Debug)]
pub struct RegionSet {
    lake: LakeId,
    regions: Vec<Arc<Region>>,
    quorums: Quorums,
    writers: Vec<PublicKey>,
    collectors: Vec<PublicKey>,
    configuration: u64,
    /// As `regions`, but those that may not vote are down.
    voters: Vec<Arc<Region>>,
    /// The configuration since which each region votes.
    since: Vec<u64>,
    pub(super) watch: Watch,
    retention_seconds: u64,
}

impl RegionSet {
    /// Regions in the order of the configuration, the public keys whose entries count, and the configuration's number.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when numbers, positions or names do not fit together.
    pub fn new(lake: LakeId, regions: Vec<Arc<Region>>, quorums: Quorums, writers: Vec<PublicKey>, configuration: u64) -> Result<Self> {
        if regions.len() != usize::from(quorums.n) {
            return Err(Error::new(ErrorKind::Config, format!("{} regions were given for quorums of {}", regions.len(), quorums.n)));
        }
        for (position, region) in regions.iter().enumerate() {
            if usize::from(region.index()) != position {
                return Err(Error::new(ErrorKind::Config, "a region stands at another position than the configuration says")
                    .with("region", region.name()));
            }
        }
        let names: BTreeSet<_> = regions.iter().map(|region| region.name()).collect();
        if names.len() != regions.len() {
            return Err(Error::new(ErrorKind::Config, "two regions have the same name"));
        }
        let (voters, since) = (regions.clone(), vec![0; regions.len()]);
        Ok(Self {
            lake,
            regions,
            quorums,
            writers,
            collectors: Vec::new(),
            configuration,
            retention_seconds: u64::MAX,
            voters,
            since,
            watch: Watch::new(),
        })
    }

    /// With the public keys whose stubs count.
    #[must_use]
    pub fn with_collectors(self, collectors: Vec<PublicKey>) -> Self {
        Self { collectors, ..self }
    }

    /// With how long superseded versions are kept, in seconds. Unless it is said, they are kept for ever.
    #[must_use]
    pub fn with_retention(self, retention_seconds: u64) -> Self {
        Self { retention_seconds, ..self }
    }

    /// How long superseded versions are kept at least, in seconds, as the signed configuration has it.
    pub fn retention_seconds(&self) -> u64 {
        self.retention_seconds
    }

    /// With the configuration since which each region votes, by position.
    #[must_use]
    pub fn with_since(self, since: Vec<u64>) -> Self {
        Self { since, ..self }
    }

    /// With the region at `index` silent in registers for `reason`: it takes shards, markers and what it is told, and is asked for no vote.
    #[must_use]
    pub fn with_silent(mut self, index: u8, reason: &str) -> Self {
        if let Some(region) = self.voters.get_mut(usize::from(index)) {
            *region = Arc::new(Region::down(region.name().clone(), index, reason));
        }
        self
    }

    /// The lake.
    pub fn lake(&self) -> &LakeId {
        &self.lake
    }

    /// The regions; a region's index is its position.
    pub fn regions(&self) -> &[Arc<Region>] {
        &self.regions
    }

    /// The regions as registers ask them: those that may not vote are down.
    pub fn voters(&self) -> &[Arc<Region>] {
        &self.voters
    }

    /// The configuration since which the region at `index` votes; what is older there it was told.
    pub fn since(&self, index: u8) -> u64 {
        self.since.get(usize::from(index)).copied().unwrap_or(0)
    }

    /// The region at `index`.
    pub fn region(&self, index: u8) -> Option<&Arc<Region>> {
        self.regions.get(usize::from(index))
    }

    /// Number of regions.
    pub fn len(&self) -> usize {
        self.regions.len()
    }

    /// Never: a lake has at least one region.
    pub fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    /// How many have to agree.
    pub fn quorums(&self) -> Quorums {
        self.quorums
    }

    /// The keys whose entries count, by role.
    pub fn entry_keys(&self) -> EntryKeys<'_> {
        EntryKeys { writers: &self.writers, collectors: &self.collectors }
    }

    /// The keys that may collect.
    pub fn collectors(&self) -> &[PublicKey] {
        &self.collectors
    }

    /// The keys that may write.
    pub fn writers(&self) -> &[PublicKey] {
        &self.writers
    }

    /// Number of the configuration.
    pub fn configuration(&self) -> u64 {
        self.configuration
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorums_are_those_of_the_design() {
        let table = [
            ((1, 0), (1, 1)),
            ((2, 0), (2, 2)),
            ((3, 0), (2, 3)),
            ((4, 0), (3, 3)),
            ((5, 0), (3, 4)),
            ((5, 1), (4, 5)),
            ((4, 1), (3, 4)),
            ((16, 0), (9, 12)),
        ];
        for ((n, b), (classic, fast)) in table {
            let q = Quorums::new(n, b).unwrap();
            assert_eq!((q.classic(), q.fast()), (classic, fast), "n {n} b {b}");
        }
    }

    #[test]
    fn every_accepted_quorum_intersects_as_it_must() {
        for n in 1..=MAX_REGIONS {
            for b in 0..=n {
                if let Ok(q) = Quorums::new(n, b) {
                    let (n, b, c, f) = (i32::from(n), i32::from(b), i32::from(q.classic()), i32::from(q.fast()));
                    assert!(2 * c - n > b, "two classic quorums share an honest region");
                    assert!(2 * f + c > 2 * n + 2 * b, "two fast quorums and a classic one share an honest region");
                    assert!(f == c || 2 * (f - 1) + c <= 2 * n + 2 * b, "no smaller one would do");
                }
            }
        }
        assert!(Quorums::new(2, 1).is_err() && Quorums::new(0, 0).is_err() && Quorums::new(17, 0).is_err());
        assert!(Quorums::new(16, 255).is_err());
    }
}
