//! The regions of a lake and how many of them have to agree.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Region;
use super::watch::Watch;
use crate::erasure::Departure;
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
    least_fast: u8,
    /// Whether a region is leaving that is asked for no vote.
    leaves_silently: bool,
    spare: u8,
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
            (Ok(classic), Ok(fast)) if fast <= n => {
                Ok(Self { n, liars, classic, fast, least_fast: fast, leaves_silently: false, spare: n - classic })
            }
            _ => Err(Error::new(
                ErrorKind::Config,
                format!("{n} regions cannot withstand {liars} that forget or lie about registers: use fewer `liars` or more regions"),
            )),
        }
    }

    /// The quorums while one of `n` regions leaves: whatever is decided by them is decided by the quorums of all n *and* by those of the
    /// n - 1 that stay. Others may still count by the quorums of n.
    ///
    /// Where a classic quorum of n is one more than one of n - 1, it contains that, whoever leaves. Where both are the same, the region that
    /// leaves has no vote ([`Quorums::leaves_silently`]), and a quorum of those that stay is one of all: so it takes no more regions to go on
    /// than it does before and afterwards, whether the one that leaves answers or not.
    ///
    /// # Errors
    /// As [`Quorums::new`], of n and of n - 1.
    pub fn leaving(n: u8, liars: u8) -> Result<Self> {
        let (now, then) = (Self::new(n, liars)?, Self::new(n.saturating_sub(1), liars)?);
        let leaves_silently = now.classic == then.classic;
        // Votes of those that stay are a fast quorum of n, which is no less than one of n - 1.
        let fast = if leaves_silently { now.fast } else { now.fast.max(then.fast.saturating_add(1)) };
        Ok(Self { fast, leaves_silently, spare: then.spare, ..now })
    }

    /// The quorums of those that stay when one region leaves.
    ///
    /// # Errors
    /// As [`Quorums::new`], of n - 1.
    pub fn without_one(&self) -> Result<Self> {
        Self::new(self.n.saturating_sub(1), self.liars)
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

    /// Whether a region is leaving that is asked for no vote.
    pub fn leaves_silently(&self) -> bool {
        self.leaves_silently
    }

    /// How many regions may be unreachable while names go on being decided; while one leaves, of those that stay.
    pub fn spare(&self) -> u8 {
        self.spare
    }

    /// So many votes of the fast ballot somebody else may have taken for a decision: the fast quorum, but while a region leaves.
    pub fn least_fast(&self) -> u8 {
        self.least_fast
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
    /// The region that is leaving, and who will have its shards.
    leaving: Option<Departure>,
    /// Regions that have left, in order, and where their shards are.
    departures: Vec<Departure>,
    /// Signs the lake's configurations.
    root: Option<PublicKey>,
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
        if !regions.is_sorted_by(|one, next| one.index() < next.index()) {
            return Err(Error::new(ErrorKind::Config, "regions do not stand in the order of the configuration"));
        }
        let names: BTreeSet<_> = regions.iter().map(|region| region.name()).collect();
        if names.len() != regions.len() {
            return Err(Error::new(ErrorKind::Config, "two regions have the same name"));
        }
        let voters = regions.clone();
        Ok(Self {
            lake,
            regions,
            quorums,
            writers,
            collectors: Vec::new(),
            configuration,
            retention_seconds: u64::MAX,
            voters,
            since: Vec::new(),
            watch: Watch::new(),
            leaving: None,
            departures: Vec::new(),
            root: None,
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
        if let Some(region) = self.voters.iter_mut().find(|region| region.index() == index) {
            *region = Arc::new(Region::down(region.name().clone(), index, reason));
        }
        self
    }

    /// With a region leaving: it votes as ever, is given no further shards, and counts for nothing that is to last.
    #[must_use]
    pub fn with_leaving(self, leaving: Option<Departure>) -> Self {
        Self { leaving, ..self }
    }

    /// With the regions that have left, in the order in which they did.
    #[must_use]
    pub fn with_departures(self, departures: Vec<Departure>) -> Self {
        Self { departures, ..self }
    }

    /// With the key that signs the lake's configurations: what it did not sign is none. Without it, whatever lies in the place of one is.
    #[must_use]
    pub fn with_root(self, root: PublicKey) -> Self {
        Self { root: Some(root), ..self }
    }

    /// The key that signs the lake's configurations, if it is known.
    pub fn root(&self) -> Option<&PublicKey> {
        self.root.as_ref()
    }

    /// The index of the region that is leaving, if any.
    pub fn leaving(&self) -> Option<u8> {
        self.leaving.as_ref().map(|departure| departure.region)
    }

    /// The region that is leaving, if any, and who will have its shards.
    pub fn departing(&self) -> Option<&Departure> {
        self.leaving.as_ref()
    }

    /// The regions that have left, in order, and who has their shards.
    pub fn departures(&self) -> &[Departure] {
        &self.departures
    }

    /// The regions that will be there when the one that is leaving has left.
    pub fn staying(&self) -> impl Iterator<Item = &Arc<Region>> {
        self.regions.iter().filter(|region| Some(region.index()) != self.leaving())
    }

    /// The lake.
    pub fn lake(&self) -> &LakeId {
        &self.lake
    }

    /// The regions, in the order of the configuration. A region's index is its position there, and stays when others leave.
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
        self.regions.iter().find(|region| region.index() == index)
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
    fn what_is_decided_while_a_region_leaves_is_decided_by_the_quorums_of_both_sizes() {
        let mut silent = 0;
        for (n, b) in (2..=MAX_REGIONS).flat_map(|n| (0..n).map(move |b| (n, b))) {
            let (Ok(leaving), Ok(now), Ok(then)) = (Quorums::leaving(n, b), Quorums::new(n, b), Quorums::new(n - 1, b)) else { continue };
            // Of the votes that are counted, so many are of regions that stay.
            let staying = |votes: u8| if leaving.leaves_silently() { votes } else { votes - 1 };
            assert!(leaving.classic() == now.classic() && staying(leaving.classic()) == then.classic(), "{leaving:?}");
            assert!(leaving.fast() >= now.fast() && staying(leaving.fast()) >= then.fast(), "{leaving:?}");
            // It is not harder than before while the one that leaves answers, and never harder than afterwards.
            assert_eq!(leaving.spare(), n - 1 - then.classic());
            silent += usize::from(leaving.leaves_silently());
        }
        assert!(silent > 10, "{silent}");
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
