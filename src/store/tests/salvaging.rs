//! Damage in more shards of a segment than there is parity, and in no column of blocks more.

use std::collections::BTreeMap;
use std::ops::Range;

use super::*;
use crate::digest::{BLOCK_BYTES, Digest};
use crate::erasure::SegmentShape;
use crate::format::manifest::Content;
use crate::store::segment::shard_key;

const PATH: &str = "t/a";

/// A store of one object in segments of five columns of blocks, the last of which is not full.
struct Damaged {
    raw: Vec<Arc<dyn ObjectStore>>,
    faults: Vec<FaultyRegion>,
    store: ErasureStore,
    content: Vec<u8>,
    /// By segment and shard: its region, its key, its length.
    shards: BTreeMap<(u64, usize), (usize, Path, usize)>,
    shape: SegmentShape,
}

impl Damaged {
    async fn new(k: u8, m: u8) -> Self {
        let raw: Vec<Arc<dyn ObjectStore>> = (0..k + m).map(|_| Arc::new(InMemory::new()) as Arc<dyn ObjectStore>).collect();
        let (regions, key, faults) = lake_over(k, m, 0, raw.clone()).unwrap();
        let segment_bytes = u64::from(k) * (4 * BLOCK_BYTES as u64 + 20_480);
        let profile = Profile { segment_bytes, ..Profile::new(k, m) };
        let store = ErasureStore::new(regions, profile, Some(Arc::new(key)), Arc::new(SystemClock)).unwrap();
        // The second segment's last data shard has bytes in its first columns only.
        let content = content(3, usize::try_from(segment_bytes).unwrap() + usize::from(k) * (4 * BLOCK_BYTES + 20_480) - 200_000);
        store.put(&Path::from(PATH), content.clone().into()).await.unwrap();
        store.quiesce().await;
        let version = store.inner.live(&Path::from(PATH)).await.unwrap();
        let Content::Shards(sharded) = &version.manifest.content else { panic!("the object is inline") };
        let mut shards = BTreeMap::new();
        for segment in 0..2 {
            let shape = Inner::shape(sharded, segment);
            for shard in 0..shape.shards() {
                let (_, region) = sharded.shard(segment, shard).unwrap();
                let key = shard_key(&version.manifest.write_id, sharded.shard_slot, segment, shard).unwrap();
                shards.insert((segment, shard), (usize::from(region), key, usize::try_from(shape.shard_len(shard)).unwrap()));
            }
        }
        let shape = Inner::shape(sharded, 0);
        Self { raw, faults, store, content, shards, shape }
    }

    async fn edit(&self, segment: u64, shard: usize, edit: impl FnOnce(&mut Vec<u8>)) {
        let (region, key, _) = &self.shards[&(segment, shard)];
        let mut bytes = self.raw[*region].get(key).await.unwrap().bytes().await.unwrap().to_vec();
        edit(&mut bytes);
        self.raw[*region].put(key, bytes.into()).await.unwrap();
    }

    /// A bit of a block is turned over. Blocks that a shard does not have are left alone.
    async fn harm(&self, segment: u64, shard: usize, block: usize) {
        let len = self.shards[&(segment, shard)].2;
        let header = len.div_ceil(BLOCK_BYTES) * Digest::LEN;
        if block * BLOCK_BYTES < len {
            self.edit(segment, shard, |bytes| bytes[header + block * BLOCK_BYTES + 7] ^= 4).await;
        }
    }

    async fn read(&self) -> Result<Vec<u8>, object_store::Error> {
        self.store.forget();
        Ok(self.store.get(&Path::from(PATH)).await?.bytes().await?.to_vec())
    }

    async fn range(&self, range: Range<usize>) -> Result<Vec<u8>, object_store::Error> {
        self.store.forget();
        Ok(self.store.get_range(&Path::from(PATH), range.start as u64..range.end as u64).await?.to_vec())
    }

    async fn scrub(&self, repair: bool) -> ScrubReport {
        self.store.forget();
        let options = ScrubOptions { repair, verify: true, settle: Duration::ZERO, ..ScrubOptions::default() };
        let report = self.store.scrub(&options, &()).await.unwrap();
        self.store.quiesce().await;
        report
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_every_shard_is_no_loss_while_k_blocks_of_each_column_are_right() {
    for (k, m) in [(2, 1), (3, 2), (4, 2)] {
        let lab = Damaged::new(k, m).await;
        let (columns, shards) = (5, usize::from(k + m));
        for shard in 0..shards {
            for segment in 0..2 {
                lab.harm(segment, shard, shard % columns).await;
            }
        }
        assert_eq!(lab.read().await.unwrap(), lab.content, "{k}+{m}");
        let len = lab.content.len();
        for range in [0..1, 65_535..65_537, 3 * BLOCK_BYTES..len - 3, len - 1..len, 400_000..400_001] {
            assert_eq!(lab.range(range.clone()).await.unwrap(), lab.content[range.clone()], "{k}+{m}, {range:?}");
        }
        let report = lab.scrub(false).await;
        let least = i64::from(m) - i64::try_from(shards.div_ceil(columns)).unwrap();
        assert_eq!((report.damaged_versions, report.lost_versions), (1, 0), "{report:#?}");
        assert_eq!(report.margins.keys().copied().collect::<Vec<_>>(), [least], "{k}+{m}: {report:#?}");
        let report = lab.scrub(true).await;
        assert!(report.is_clean() && report.repaired_versions == 1, "{report:#?}");
        assert!(lab.scrub(false).await.findings.is_empty());
        // The shards themselves are whole again: any k of them suffice.
        for (region, key, _) in lab.shards.values().filter(|(region, ..)| *region < usize::from(m)) {
            lab.raw[*region].delete(key).await.unwrap();
        }
        assert_eq!(lab.read().await.unwrap(), lab.content, "{k}+{m}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_truncated_loses_the_blocks_that_are_not_there_and_a_damaged_block_list_none() {
    let lab = Damaged::new(3, 2).await;
    let header = 5 * Digest::LEN;
    lab.edit(0, 0, |bytes| bytes.truncate(header + 2 * BLOCK_BYTES + 5)).await;
    lab.edit(0, 1, |bytes| bytes[40] ^= 1).await;
    lab.harm(0, 2, 0).await;
    lab.edit(0, 3, |bytes| bytes.extend_from_slice(b"more")).await;
    let (region, key, _) = &lab.shards[&(0, 4)];
    lab.raw[*region].delete(key).await.unwrap();
    assert_eq!(lab.read().await.unwrap(), lab.content);
    let report = lab.scrub(true).await;
    assert!(report.is_clean() && report.repaired_versions == 1 && report.lost_versions == 0, "{report:#?}");
    assert!(lab.scrub(false).await.findings.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_fewer_than_k_blocks_of_a_column_are_right_that_column_is_lost_and_no_other() {
    let lab = Damaged::new(3, 2).await;
    for shard in [0, 2, 4] {
        lab.harm(0, shard, 1).await;
    }
    let slice = usize::try_from(lab.shape.shard_len(0)).unwrap();
    // Of shards 0 and 2 that column; shard 1 is right in it.
    for (lost, range) in [
        (false, 0..BLOCK_BYTES),
        (true, BLOCK_BYTES..BLOCK_BYTES + 1),
        (false, 2 * BLOCK_BYTES..slice),
        (false, slice..2 * slice),
        (true, 2 * slice + BLOCK_BYTES + 5..2 * slice + 2 * BLOCK_BYTES),
        (false, 2 * slice + 2 * BLOCK_BYTES..lab.content.len()),
    ] {
        match lab.range(range.clone()).await {
            Ok(found) => assert!(!lost && found == lab.content[range.clone()], "{range:?}"),
            Err(error) => assert!(lost && error.to_string().contains("too few intact shards"), "{range:?}: {error}"),
        }
    }
    assert!(lab.read().await.is_err());
    assert_eq!(lab.scrub(false).await.lost_versions, 1);
    let report = lab.scrub(true).await;
    assert_eq!((report.lost_versions, report.repaired_versions), (1, 0), "{report:#?}");
    let says = |outcome: &Outcome| matches!(outcome, Outcome::Lost(why) if why.contains("too few blocks are intact"));
    assert!(report.findings.iter().any(|finding| says(&finding.outcome)), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_regions_who_are_down_may_have_are_not_called_lost() {
    let lab = Damaged::new(4, 2).await;
    for (shard, block) in [(0, 0), (1, 1), (2, 2)] {
        lab.harm(0, shard, block).await;
    }
    let down: Vec<usize> = [4, 5].iter().map(|shard| lab.shards[&(0, *shard)].0).collect();
    down.iter().for_each(|region| lab.faults[*region].set_down(true));
    assert!(lab.read().await.is_err());
    let report = lab.scrub(true).await;
    assert_eq!((report.lost_versions, report.repaired_versions, report.unrepaired_versions), (0, 0, 1), "{report:#?}");
    down.iter().for_each(|region| lab.faults[*region].set_down(false));
    assert_eq!(lab.read().await.unwrap(), lab.content);
    let report = lab.scrub(true).await;
    assert!(report.is_clean() && report.repaired_versions == 1, "{report:#?}");
}
