//! The census of a version's shards: one LIST a region, and the reading and hashing of those that are asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt as _, TryStreamExt as _};

use super::Inner;
use super::census::{Census, Depth, Fault, Piece, fault_of};
use super::pace::Pace;
use super::read::Segment;
use super::resolve::Version;
use super::segment::{compute, shard_key};
use crate::digest::{BLOCK_BYTES, BlockList, Digest};
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{Content, Sharded};
use crate::format::trailer::{self, Trailer};
use crate::key::PublicKey;
use crate::region::{Region, layout};

/// Stored bytes of a region's shards of one version, by segment and shard.
type Sizes = BTreeMap<(u64, usize), u64>;

/// Shards of one version that are read at one time; memory is these, one after the other in each.
const READ_AT_ONCE: usize = 4;

/// What a stored shard has to be.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) segment: u64,
    pub(super) shard: usize,
    pub(super) region: u8,
    pub(super) root: Digest,
    /// Bytes of the shard itself.
    pub(super) len: u64,
}

impl Expected {
    /// A shard of a version; `None` beyond its segments.
    pub(super) fn of(sharded: &Sharded, segment: u64, shard: usize) -> Option<Self> {
        let (root, region) = sharded.shard(segment, shard)?;
        Some(Self { segment, shard, region, root, len: Inner::shape(sharded, segment).shard_len(shard) })
    }

    fn header_bytes(&self) -> u64 {
        self.len.div_ceil(BLOCK_BYTES as u64).saturating_mul(Digest::LEN as u64)
    }

    /// Bytes of the stored object: block list, shard, trailer.
    pub(super) fn stored_bytes(&self, path: &str) -> u64 {
        self.header_bytes().saturating_add(self.len).saturating_add(trailer::stored_len(path.len()) as u64)
    }
}

/// A stored shard that was read: its bytes if they are right, and what is wrong with the whole.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) data: Option<Bytes>,
    pub(super) flaw: Option<(Fault, String)>,
}

/// Holds stored bytes against what they have to be.
pub(super) fn check_stored(stored: &Bytes, expected: &Expected, version: &Version, writers: &[PublicKey]) -> Checked {
    let manifest = &version.manifest;
    let Content::Shards(sharded) = &manifest.content else {
        return Checked { data: None, flaw: Some((Fault::Foreign, "the version has no shards".to_owned())) };
    };
    let trailer = Trailer::open(stored, writers);
    let of_other = trailer
        .as_ref()
        .ok()
        .filter(|t| t.lake != manifest.lake || t.write_id != manifest.write_id || t.slot != sharded.shard_slot || t.path != manifest.path);
    let bad = |fault, detail: String| Checked { data: None, flaw: Some((fault, detail)) };
    if let Some(other) = of_other {
        return bad(Fault::Foreign, format!("it is a shard of write {} of {}", other.write_id, other.path));
    }
    let wanted = expected.stored_bytes(&manifest.path);
    let whole = stored.len() as u64 == wanted;
    let (header, end) = (to_usize(expected.header_bytes()), to_usize(expected.header_bytes().saturating_add(expected.len)));
    let right = match (stored.get(..header), stored.get(header..end)) {
        (Some(list), Some(data)) => {
            match BlockList::from_bytes(list, expected.len, expected.root).map(|list| list.first_bad_block(0, data)) {
                Ok(None) => Ok(stored.slice(header..end)),
                Ok(Some(block)) => return bad(Fault::Corrupt, format!("block {block} contradicts its digest")),
                Err(error) => Err(error.to_string()),
            }
        }
        _ => Err(format!("{} bytes in place of {wanted}", stored.len())),
    };
    let data = match (right, &trailer) {
        (Ok(data), _) => data,
        (Err(why), Err(_)) => return bad(Fault::Corrupt, why),
        // The trailer is of this write: it may be a shard of it that was stored in the wrong place.
        (Err(why), Ok(_)) => match whole_root(stored, trailer::stored_len(manifest.path.len())) {
            None => return bad(Fault::Corrupt, why),
            Some(root) => {
                let place = sharded.roots.iter().position(|other| *other == root);
                let (segment, shard) = place.map_or((0, 0), |at| (at / sharded.codec.shards(), at % sharded.codec.shards()));
                let known = format!("it is shard {shard} of segment {segment}");
                return bad(Fault::Foreign, if place.is_some() { known } else { format!("it is whole, with another digest: {root}") });
            }
        },
    };
    let flaw = match trailer {
        _ if !whole => Some((Fault::Corrupt, format!("{} bytes in place of {wanted}", stored.len()))),
        Err(error) => Some((Fault::Corrupt, error.to_string())),
        Ok(_) => None,
    };
    Checked { data: Some(data), flaw }
}

/// The root of a stored shard of any length, if its block list is that of its bytes.
fn whole_root(stored: &[u8], trailer_bytes: usize) -> Option<Digest> {
    let body = stored.get(..stored.len().checked_sub(trailer_bytes)?)?;
    // n blocks take 32 bytes each in the list, and up to 64 KiB behind it.
    let blocks = body.len().div_ceil(BLOCK_BYTES + Digest::LEN);
    let (list, data) = body.split_at_checked(blocks.checked_mul(Digest::LEN)?)?;
    let own = BlockList::of(data);
    (!data.is_empty() && own.to_bytes() == list).then(|| own.root())
}

/// Counts and, where `depth` says so, reads all shards of a version.
pub(super) async fn census_shards(inner: &Arc<Inner>, depth: &Depth, pace: &Pace, census: &mut Census) -> Result<()> {
    let version = Arc::clone(&census.version);
    let Content::Shards(sharded) = &version.manifest.content else { return Ok(()) };
    let segments = sharded.geometry().segments(sharded.size);
    let lists = join_all(sharded.placement.iter().map(|index| async {
        let Some(region) = inner.regions.region(*index) else {
            return (*index, Err(Error::new(ErrorKind::Unavailable, "the manifest names a region that is not in the lake")));
        };
        (*index, list_shards(region, &version, sharded, segments).await)
    }))
    .await;
    let lists: BTreeMap<u8, Result<Sizes>> = lists.into_iter().collect();
    let mut to_read = Vec::new();
    let mut worst = Worst::new(sharded);
    for segment in 0..segments {
        for shard in 0..sharded.codec.shards() {
            let Some(expected) = Expected::of(sharded, segment, shard) else { continue };
            if expected.len == 0 {
                // Known to everybody, and not stored.
                continue;
            }
            let stored = expected.stored_bytes(&version.manifest.path);
            let tally = census.tally(expected.region);
            tally.shards_expected += 1;
            tally.shard_bytes_expected = tally.shard_bytes_expected.saturating_add(stored);
            let flaw = match lists.get(&expected.region) {
                Some(Ok(list)) => match list.get(&(segment, shard)) {
                    None => Some((Fault::Absent, "the region does not list it".to_owned())),
                    // Reading tells more: it may be something else's.
                    Some(_) if depth.reads(&version.manifest.write_id, segment, shard) => {
                        to_read.push(expected);
                        continue;
                    }
                    Some(size) if *size != stored => Some((Fault::Corrupt, format!("{size} bytes in place of {stored}"))),
                    Some(_) => None,
                },
                Some(Err(error)) => Some((Fault::Unreachable, error.to_string())),
                None => Some((Fault::Unreachable, "the region was not asked".to_owned())),
            };
            count(census, &mut worst, &expected, flaw);
        }
    }
    let mut reads = futures::stream::iter(to_read)
        .map(|expected| async {
            let flaw = read_shard(inner, &version, &expected, pace).await.map(|checked| checked.flaw);
            (expected, flaw)
        })
        .buffer_unordered(READ_AT_ONCE);
    while let Some((expected, read)) = reads.next().await {
        let flaw = match read {
            Ok(flaw) => {
                census.tally(expected.region).shards_verified += 1;
                flaw
            }
            Err(error) => Some((fault_of(&error), error.to_string())),
        };
        count(census, &mut worst, &expected, flaw);
    }
    worst.salvage(inner, &version, pace).await;
    worst.judge(census);
    Ok(())
}

fn count(census: &mut Census, worst: &mut Worst, expected: &Expected, flaw: Option<(Fault, String)>) {
    let tally = census.tally(expected.region);
    let Some((fault, detail)) = flaw else {
        tally.shards_intact += 1;
        return;
    };
    match fault {
        Fault::Unreachable => tally.shards_unreachable += 1,
        Fault::Absent => tally.shards_absent += 1,
        Fault::Foreign => tally.shards_foreign += 1,
        Fault::Corrupt | Fault::Unreadable => tally.shards_corrupt += 1,
    }
    worst.lacks(expected.segment, fault);
    census.note(expected.region, Piece::Shard { segment: expected.segment, shard: expected.shard }, fault, detail);
}

/// How many shards lack, by segment; segments without a flaw take no memory.
struct Worst {
    /// k.
    data: i64,
    /// k + m.
    shards: i64,
    lacking: BTreeMap<u64, Lacking>,
    /// Margins of segments that are read block by block, because fewer than k of their shards are whole; `None` where that depends on regions that
    /// do not answer.
    salvaged: BTreeMap<u64, Option<i64>>,
}

/// Shards of a segment that are not as they should be.
#[derive(Default)]
struct Lacking {
    lost: i64,
    /// Of these, those that are there and damaged.
    damaged: i64,
    unreachable: i64,
}

impl Worst {
    fn new(sharded: &Sharded) -> Self {
        Self {
            data: i64::from(sharded.codec.data),
            shards: i64::from(sharded.codec.data) + i64::from(sharded.codec.parity),
            lacking: BTreeMap::new(),
            salvaged: BTreeMap::new(),
        }
    }

    fn lacks(&mut self, segment: u64, fault: Fault) {
        let lacking = self.lacking.entry(segment).or_default();
        match fault {
            Fault::Unreachable => lacking.unreachable += 1,
            Fault::Absent | Fault::Foreign | Fault::Corrupt | Fault::Unreadable => lacking.lost += 1,
        }
        lacking.damaged += i64::from(fault == Fault::Corrupt);
    }

    /// Looks into the segments of which too few shards are whole: as long as k blocks of every column are right, nothing is lost.
    async fn salvage(&mut self, inner: &Arc<Inner>, version: &Arc<Version>, pace: &Pace) {
        let is_below = |lacking: &Lacking| lacking.damaged > 0 && self.shards - lacking.lost - lacking.unreachable < self.data;
        let below: Vec<u64> = self.lacking.iter().filter(|(_, lacking)| is_below(lacking)).map(|(segment, _)| *segment).collect();
        for index in below {
            let Ok(segment) = Segment::new(inner, version, index) else { continue };
            match segment.salvage(&segment.all_data(), Some(pace)).await {
                Ok(salvaged) => drop(self.salvaged.insert(index, Some(salvaged.margin))),
                Err(error) if error.kind() == ErrorKind::Corrupt => {}
                Err(_) => drop(self.salvaged.insert(index, None)),
            }
        }
    }

    fn judge(&self, census: &mut Census) {
        let margin = |(segment, lacking): (&u64, &Lacking)| {
            self.salvaged.get(segment).copied().flatten().unwrap_or(self.shards - lacking.lost - lacking.unreachable - self.data)
        };
        let worst = self.lacking.iter().map(margin).min().unwrap_or(self.shards - self.data);
        census.margin = census.margin.min(worst);
        let is_lost = |segment: &u64, lacking: &Lacking| !self.salvaged.contains_key(segment) && self.shards - lacking.lost < self.data;
        census.lost_segments = self.lacking.iter().filter(|(segment, lacking)| is_lost(segment, lacking)).count() as u64;
    }
}

/// Sizes of the shards of a version that a region lists.
async fn list_shards(region: &Region, version: &Version, sharded: &Sharded, segments: u64) -> Result<Sizes> {
    let manifest = &version.manifest;
    // A region holds one shard of each segment; whatever else lies there is no part of the version.
    let limit = to_usize(segments).saturating_mul(4).saturating_add(1024);
    let mut sizes = BTreeMap::new();
    let mut names = region.list(&layout::shard_folder(&manifest.write_id), None);
    let mut seen = 0_usize;
    while let Some(meta) = names.try_next().await? {
        seen += 1;
        if seen > limit {
            return Err(
                Error::new(ErrorKind::Unavailable, "a region lists more shards of a write than it can have").with("region", region.name())
            );
        }
        let name = layout::parse_shard_key(&meta.location).filter(|name| name.slot == sharded.shard_slot);
        if let Some(name) = name {
            sizes.insert((u64::from(name.segment), usize::from(name.shard)), meta.size);
        }
    }
    Ok(sizes)
}

/// Reads a whole stored shard and checks it.
///
/// # Errors
/// [`ErrorKind::NotFound`] when its region says that it is not there, [`ErrorKind::Corrupt`] when it is longer than any shard of the
/// version, else what the region failed with.
pub(super) async fn read_shard(inner: &Arc<Inner>, version: &Arc<Version>, expected: &Expected, pace: &Pace) -> Result<Checked> {
    let Content::Shards(sharded) = &version.manifest.content else {
        return Err(Error::new(ErrorKind::Internal, "an inline object has no shards"));
    };
    let region = inner.regions.region(expected.region);
    let region = region.ok_or_else(|| Error::new(ErrorKind::Unavailable, "the manifest names a region that is not in the lake"))?;
    let key = shard_key(&version.manifest.write_id, sharded.shard_slot, expected.segment, expected.shard)?;
    let most = expected.stored_bytes(&version.manifest.path);
    pace.take(most).await;
    // Room for any shard of a full segment, so that a longer one in its place is recognised as another's.
    let full = sharded.geometry().segment(sharded.segment_bytes).shard_len(0).max(expected.len);
    let limit = Expected { len: full, ..expected.clone() }.stored_bytes("").saturating_add(trailer::TRAILER_LIMIT_BYTES as u64);
    let stored = region.get(&key, limit).await?.ok_or_else(|| Error::new(ErrorKind::NotFound, "the region does not have the shard"))?;
    let (version, expected, writers) = (Arc::clone(version), expected.clone(), inner.regions.writers().to_vec());
    compute(move || Ok(check_stored(&stored, &expected, &version, &writers))).await
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
