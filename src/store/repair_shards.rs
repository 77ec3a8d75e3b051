//! Making the bad shards of one segment again, from any k that verify.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use object_store::PutPayload;
use object_store::path::Path;

use super::Inner;
use super::census::{Fault, Flaw, Piece, fault_of};
use super::census_shards::{Expected, read_shard};
use super::pace::Pace;
use super::read::Segment;
use super::repair::{Mended, Outcome};
use super::resolve::Version;
use super::segment::{compute, shard_key};
use crate::digest::BlockList;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::format::manifest::Sharded;

/// The segment that is worked on.
struct Work<'a> {
    inner: &'a Arc<Inner>,
    version: &'a Arc<Version>,
    sharded: &'a Sharded,
    segment: u64,
    pace: &'a Pace,
}

/// Repairs the shards `bad` of a segment; those in `unreachable` are neither asked nor written.
///
/// Memory: k + m shards, twice while they are decoded. Shards that turn out to be bad on the way are repaired as well.
pub(super) async fn repair_segment(
    inner: &Arc<Inner>,
    version: &Arc<Version>,
    sharded: &Sharded,
    segment: u64,
    mut bad: BTreeMap<usize, Flaw>,
    unreachable: &BTreeSet<usize>,
    pace: &Pace,
) -> Vec<Mended> {
    let work = Work { inner, version, sharded, segment, pace };
    let mut unreachable = unreachable.clone();
    let mut good = work.collect(&mut bad, &mut unreachable).await;
    let stored = |shard: &usize| Expected::of(sharded, segment, *shard).is_some_and(|expected| expected.len > 0);
    let free = (0..usize::from(sharded.codec.data)).filter(|shard| !stored(shard)).count();
    let (have, needed) = (good.len() + free, usize::from(sharded.codec.data));
    if have < needed {
        match work.salvage(&bad).await {
            Some(Ok(salvaged)) => good = salvaged,
            salvaged => {
                let error = salvaged.and_then(Result::err);
                // Which blocks of regions that do not answer are right is not known.
                let is_known = error.as_ref().is_none_or(|error| error.kind() == ErrorKind::Corrupt);
                let blocks = error.map(|error| format!(", and {error}")).unwrap_or_default();
                let why = format!("{have} of the {needed} shards that are needed of segment {segment} are intact{blocks}");
                let outcome = if is_known && have + unreachable.len() < needed {
                    Outcome::Lost(why)
                } else {
                    Outcome::NotRepaired(format!("{why}; {} are in regions that cannot be asked", unreachable.len()))
                };
                return all_alike(bad, &outcome);
            }
        }
    }
    let wanted: Vec<usize> = bad.keys().copied().collect();
    let made = match work.make(good, wanted).await {
        Ok(made) => made,
        Err(error) => {
            let outcome = Outcome::NotRepaired(error.to_string());
            return all_alike(bad, &outcome);
        }
    };
    let mut mended = Vec::with_capacity(made.len());
    for (shard, payload) in made {
        let Some(flaw) = bad.remove(&shard) else { continue };
        let (outcome, later) = match work.write(shard, payload).await {
            Ok(()) => (Outcome::Repaired, false),
            Err(error) => (Outcome::NotRepaired(error.to_string()), error.is_retryable()),
        };
        mended.push(Mended { flaw, outcome, later });
    }
    mended
}

fn all_alike(bad: BTreeMap<usize, Flaw>, outcome: &Outcome) -> Vec<Mended> {
    bad.into_values().map(|flaw| Mended { flaw, outcome: outcome.clone(), later: false }).collect()
}

/// Writes one shard, whose verified bytes are `data`, to the region where `sharded` has it, and reads it back.
pub(super) async fn write_shard(
    inner: &Arc<Inner>,
    version: &Arc<Version>,
    sharded: &Sharded,
    (segment, shard): (u64, usize),
    data: Bytes,
    pace: &Pace,
) -> Result<()> {
    let work = Work { inner, version, sharded, segment, pace };
    let trailer = work.trailer()?;
    let payload = compute(move || Ok(PutPayload::from_iter([BlockList::of(&data).to_bytes().into(), data, trailer]))).await?;
    work.write(shard, payload).await
}

impl Work<'_> {
    fn trailer(&self) -> Result<Bytes> {
        let manifest = &self.version.manifest;
        let path = Path::parse(&manifest.path).map_err(|e| Error::new(ErrorKind::Corrupt, "a manifest's path is none").caused_by(e))?;
        self.inner.trailer(&path, manifest.write_id, self.sharded.shard_slot)
    }

    /// Verified bytes of k stored shards, or of all that there are; what proves bad is added to `bad`, or to `unreachable`.
    async fn collect(&self, bad: &mut BTreeMap<usize, Flaw>, unreachable: &mut BTreeSet<usize>) -> Vec<(usize, Bytes)> {
        let all: Vec<Expected> =
            (0..self.sharded.codec.shards()).filter_map(|shard| Expected::of(self.sharded, self.segment, shard)).collect();
        let data = usize::from(self.sharded.codec.data);
        let free = all.iter().take(data).filter(|expected| expected.len == 0).count();
        let mut candidates: Vec<&Expected> = all
            .iter()
            .filter(|expected| expected.len > 0 && !bad.contains_key(&expected.shard) && !unreachable.contains(&expected.shard))
            .rev()
            .collect();
        let mut good: Vec<(usize, Bytes)> = Vec::new();
        while good.len() + free < data && !candidates.is_empty() {
            let ask: Vec<&Expected> = (good.len() + free..data).filter_map(|_| candidates.pop()).collect();
            let reads = ask.iter().map(|expected| async { (*expected, read_shard(self.inner, self.version, expected, self.pace).await) });
            for (expected, read) in join_all(reads).await {
                let flaw = match read {
                    Ok(checked) => {
                        good.extend(checked.data.map(|bytes| (expected.shard, bytes)));
                        checked.flaw
                    }
                    Err(error) => Some((fault_of(&error), error.to_string())),
                };
                let Some((fault, detail)) = flaw else { continue };
                if fault == Fault::Unreachable {
                    unreachable.insert(expected.shard);
                } else {
                    let piece = Piece::Shard { segment: self.segment, shard: expected.shard };
                    bad.insert(expected.shard, Flaw { region: expected.region, piece, fault, detail });
                }
            }
        }
        good
    }

    /// All data shards, decoded block by block; `None` where there is nothing but what is not there.
    async fn salvage(&self, bad: &BTreeMap<usize, Flaw>) -> Option<Result<Vec<(usize, Bytes)>>> {
        bad.values().any(|flaw| flaw.fault == Fault::Corrupt).then_some(())?;
        let salvaged = async {
            let segment = Segment::new(self.inner, self.version, self.segment)?;
            let salvaged = segment.salvage(&segment.all_data(), Some(self.pace)).await?;
            Ok(salvaged.held.into_iter().filter_map(|(shard, held)| Some((shard, held.0.into_iter().next()?.1))).collect())
        };
        Some(salvaged.await)
    }

    /// What is stored of each of the `wanted` shards: block list, bytes, trailer. The roots are those of the manifest.
    async fn make(&self, good: Vec<(usize, Bytes)>, wanted: Vec<usize>) -> Result<Vec<(usize, PutPayload)>> {
        let trailer = self.trailer()?;
        let shape = Inner::shape(self.sharded, self.segment);
        let codec = self.inner.codec_of(self.sharded.codec)?;
        let expected: Vec<Expected> = wanted.iter().filter_map(|shard| Expected::of(self.sharded, self.segment, *shard)).collect();
        compute(move || {
            let width = shape.shard_len(shape.data).max(shape.shard_len(0));
            let made = codec.decode(shape, 0..width, &good, &wanted)?;
            let payload = |(expected, bytes): (&Expected, Bytes)| {
                let list = BlockList::of(&bytes);
                if list.root() != expected.root || bytes.len() as u64 != expected.len {
                    return Err(Error::new(ErrorKind::Corrupt, "verified shards decode to something else than was written")
                        .with("segment", expected.segment)
                        .with("shard", expected.shard));
                }
                Ok((expected.shard, PutPayload::from_iter([list.to_bytes().into(), bytes, trailer.clone()])))
            };
            expected.iter().zip(made).map(payload).collect()
        })
        .await
    }

    /// Writes a shard to its region and reads it back.
    async fn write(&self, shard: usize, payload: PutPayload) -> Result<()> {
        let expected =
            Expected::of(self.sharded, self.segment, shard).ok_or_else(|| Error::new(ErrorKind::Internal, "a shard is in no segment"))?;
        let region = self
            .inner
            .regions
            .region(expected.region)
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, "the manifest names a region that is not in the lake"))?;
        let key = shard_key(&self.version.manifest.write_id, self.sharded.shard_slot, self.segment, shard)?;
        failpoint!("repair.before-shard");
        region.put(&key, payload).await?;
        failpoint!("repair.after-shard");
        match read_shard(self.inner, self.version, &expected, self.pace).await?.flaw {
            None => Ok(()),
            Some((fault, detail)) => Err(Error::new(ErrorKind::Corrupt, "a shard that was written again does not read back")
                .with("found", format!("{fault:?}: {detail}"))),
        }
    }
}
