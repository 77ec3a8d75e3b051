//! How long ago something was written, by clocks that a writer does not set.
//!
//! Every region stamps what it stores. The collector writes an object of its own into each region and takes the region's time from its
//! stamp, so that an age is the difference of two readings of *one* clock: clocks that differ between regions do no harm. An age counts only
//! when a classic quorum of regions and the collector's own clock can tell it, and the least of theirs is taken: a region that lies, or any clock
//! that is behind, can only delay. For a region that is a directory, whoever owns its files owns its stamps.

use std::collections::BTreeMap;

use futures::future::join_all;
use futures::{StreamExt as _, TryStreamExt as _};

use super::Inner;
use crate::error::{Error, ErrorKind, Result};
use crate::id::WriteId;
use crate::region::{Region, layout};

/// What regions whose stamps count whole seconds may be wrong by, in milliseconds.
const GRANULARITY_MS: i64 = 1000;

/// The time in every region, and here, at one moment. Later that is too little: ages only grow.
#[derive(Debug, Clone)]
pub(super) struct Clocks {
    /// By the regions' indexes.
    regions: BTreeMap<u8, i64>,
    own_ms: i64,
    quorum: usize,
}

impl Clocks {
    /// Writes, lists and deletes one small object a region. A region that fails has no clock.
    pub(super) async fn learn(inner: &Inner) -> Result<Self> {
        let id = WriteId::random()?;
        let answers =
            join_all(inner.regions.regions().iter().map(|region| async { Some((region.index(), probe(region, &id).await.ok()?)) })).await;
        let regions = answers.into_iter().flatten().collect();
        // Our own clock is read last; what a probe's stamp is ahead of it only makes ages less.
        Ok(Self { regions, own_ms: inner.clock.now_ms(), quorum: usize::from(inner.regions.quorums().classic()) })
    }

    /// Whether a region told the time.
    pub(super) fn tell(&self, region: u8) -> bool {
        self.regions.contains_key(&region)
    }

    /// How long ago all of `stamps` (region and time there) were made, in milliseconds; `None` when too few regions can tell.
    pub(super) fn age_ms(&self, stamps: impl Iterator<Item = (u8, i64)>) -> Option<i64> {
        let (mut known, mut least) = (0, i64::MAX);
        for (region, stamp) in stamps {
            least = least.min(self.own_ms.saturating_sub(stamp));
            if let Some(age) = self.age_in(region, stamp) {
                known += 1;
                least = least.min(age);
            }
        }
        (known >= self.quorum).then_some(least)
    }

    /// The same of what only some regions have, and a quorum has not: each of those that have it must tell.
    pub(super) fn age_of_rest_ms(&self, stamps: impl Iterator<Item = (u8, i64)>) -> Option<i64> {
        stamps.map(|(region, stamp)| self.age_in(region, stamp)).try_fold(i64::MAX, |least, age| Some(least.min(age?)))
    }

    /// How long ago a stamp was made in one region, by its clock and ours.
    pub(super) fn age_in(&self, region: u8, stamp: i64) -> Option<i64> {
        let now = *self.regions.get(&region)?;
        Some(now.min(self.own_ms).saturating_sub(stamp))
    }
}

/// Whether something of `age_ms` was kept for `seconds`; when anything is to be kept at all, a second more is.
pub(super) fn is_past(age_ms: i64, seconds: u64) -> bool {
    match i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1000)) {
        Some(0) => true,
        Some(needed) => age_ms >= needed.saturating_add(GRANULARITY_MS),
        None => false,
    }
}

async fn probe(region: &Region, id: &WriteId) -> Result<i64> {
    let folder = layout::probe_folder(id);
    let key = folder.clone().join("clock");
    region.put(&key, "a collector asks for the time".into()).await?;
    let found: Result<Vec<_>> = region.list(&folder, None).take(2).try_collect().await;
    // Best effort: what is left behind is named like what a check leaves, and is nobody's.
    let _ = region.delete(&key).await;
    match found?.as_slice() {
        [meta] if meta.location == key => Ok(meta.last_modified.timestamp_millis()),
        _ => Err(Error::new(ErrorKind::Unavailable, "the region does not list what was written to it").with("region", region.name())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(regions: &[Option<i64>], own_ms: i64) -> Clocks {
        Clocks { regions: (0..).zip(regions).filter_map(|(index, now)| Some((index, (*now)?))).collect(), own_ms, quorum: 2 }
    }

    #[test]
    fn the_least_age_counts_and_a_quorum_must_tell_it() {
        let clocks = clocks(&[Some(10_000), Some(50_000), None], 60_000);
        // Each region by its own clock, however much they differ.
        assert_eq!(clocks.age_ms([(0, 4_000), (1, 45_000)].into_iter()), Some(5_000));
        assert_eq!(clocks.age_ms([(0, 4_000)].into_iter()), None);
        assert_eq!(clocks.age_ms([(0, 4_000), (2, 4_000)].into_iter()), None);
        // A stamp from a region without a clock can still delay.
        assert_eq!(clocks.age_ms([(0, 4_000), (1, 4_000), (2, 59_000)].into_iter()), Some(1_000));
        // A region's clock that was set forward is not believed beyond ours.
        assert_eq!(Clocks { own_ms: 8_000, ..clocks }.age_ms([(0, 4_000), (1, 4_000)].into_iter()), Some(4_000));
    }

    #[test]
    fn a_retention_is_never_shortened_by_rounding() {
        assert!(is_past(0, 0) && is_past(-5, 0));
        assert!(!is_past(60_999, 60) && is_past(61_000, 60));
        assert!(!is_past(i64::MAX, u64::MAX) && !is_past(i64::MAX, u64::MAX / 1000));
    }
}
