//! Regions that lie about shards in every way: reads are exactly right up to m of them, and an error of the right kind beyond.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::faults::Random;
use super::{content, directories, memory, store_over};
use lakeseal::region::layout;
use lakeseal::store::{ErasureStore, Profile};
use lakeseal::{Error, ErrorKind};

/// What a region does to a shard that it stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    Flipped,
    FlippedEnd,
    Truncated,
    Extended,
    OtherSegment,
    OtherObject,
    OlderVersion,
    BlockList,
    Zeros,
    Empty,
    Absent,
}

const LIES: [Lie; 11] = [
    Lie::Flipped,
    Lie::FlippedEnd,
    Lie::Truncated,
    Lie::Extended,
    Lie::OtherSegment,
    Lie::OtherObject,
    Lie::OlderVersion,
    Lie::BlockList,
    Lie::Zeros,
    Lie::Empty,
    Lie::Absent,
];

type Stored = Vec<(Path, Vec<u8>)>;

async fn shards(region: &Arc<dyn ObjectStore>) -> Stored {
    let keys: Vec<_> = region.list(Some(&layout::shards_prefix())).try_collect().await.unwrap();
    let mut stored = Stored::new();
    for meta in keys {
        stored.push((meta.location.clone(), region.get(&meta.location).await.unwrap().bytes().await.unwrap().to_vec()));
    }
    stored
}

/// Another shard of this region that stands for the lie, if there is one.
fn other<'a>(stored: &'a Stored, key: &Path, lie: Lie, random: &mut Random) -> Option<&'a Vec<u8>> {
    let own = layout::parse_shard_key(key).unwrap();
    let fits = |candidate: &&(Path, Vec<u8>)| {
        let name = layout::parse_shard_key(&candidate.0).unwrap();
        match lie {
            Lie::OtherSegment => name.write_id == own.write_id && name.segment != own.segment,
            // An older version has the same size here, and so the same layout; only its bytes differ.
            _ => name.write_id != own.write_id && name.segment == own.segment,
        }
    };
    let candidates: Vec<_> = stored.iter().filter(fits).collect();
    let length = u64::try_from(candidates.len()).unwrap();
    (length > 0).then(|| &candidates[usize::try_from(random.below(length)).unwrap()].1)
}

/// Bytes of the trailer that ends a stored shard, and of its length.
fn trailer_bytes(stored: &[u8]) -> usize {
    let (_, len) = stored.split_last_chunk::<4>().unwrap();
    let len = usize::try_from(u32::from_le_bytes(*len)).unwrap() + 4;
    assert!(stored[stored.len() - len..].starts_with(b"LKSLTRL1"), "a stored shard has no trailer");
    len
}

/// Makes a region lie about all of its shards.
async fn lie(region: &Arc<dyn ObjectStore>, stored: &Stored, lie: Lie, random: &mut Random) {
    for (key, bytes) in stored {
        let mut bytes = bytes.clone();
        // Readers do not look at what stands behind the shard's bytes.
        let seen = bytes.len() - trailer_bytes(&bytes);
        let (middle, last) = (seen / 2, seen - 1);
        match lie {
            Lie::Flipped => bytes[middle] ^= 1,
            Lie::FlippedEnd => bytes[last] ^= 0x80,
            Lie::Truncated => bytes.truncate(usize::try_from(random.below(seen as u64)).unwrap()),
            Lie::Extended => bytes.insert(usize::try_from(random.below(seen as u64)).unwrap(), 7),
            Lie::BlockList => bytes[usize::try_from(random.below(32)).unwrap()] ^= 4,
            Lie::Zeros => bytes.fill(0),
            Lie::Empty => bytes.clear(),
            Lie::OtherSegment | Lie::OtherObject | Lie::OlderVersion => match other(stored, key, lie, random) {
                Some(other) => bytes.clone_from(other),
                None => bytes[middle] ^= 1,
            },
            Lie::Absent => {
                region.delete(key).await.unwrap();
                continue;
            }
        }
        region.put(key, bytes.into()).await.unwrap();
    }
}

async fn tell_the_truth(region: &Arc<dyn ObjectStore>, stored: &Stored) {
    for (key, bytes) in stored {
        region.put(key, bytes.clone().into()).await.unwrap();
    }
}

async fn whole(store: &ErasureStore, path: &Path) -> object_store::Result<Vec<u8>> {
    Ok(store.get(path).await?.bytes().await?.to_vec())
}

fn kind(error: &object_store::Error) -> ErrorKind {
    assert!(!matches!(error, object_store::Error::NotFound { .. }), "an object that is there was not found: {error}");
    Error::find(error).unwrap_or_else(|| panic!("a foreign error: {error:?}")).kind()
}

fn slice(bytes: &[u8], range: &Range<u64>) -> Vec<u8> {
    bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()].to_vec()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// One lake with objects of random sizes, m random liars of random kinds, and `reads` random reads. How many were whole, ranges, many.
async fn random_reads(seed: u64, reads: u64) -> [u64; 3] {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9));
    let (k, m) = [(1, 0), (1, 1), (2, 1), (1, 2), (2, 2), (3, 2), (4, 2), (5, 3), (2, 4)][usize::try_from(random.below(9)).unwrap()];
    let n = k + m;
    let inline_bytes = if random.below(2) == 0 { 0 } else { 16 * 1024 };
    let segment_bytes = 64 * (1 + random.below(6_000));
    let profile = Profile { segment_bytes, inline_bytes, hedge: Duration::from_millis(15), ..Profile::new(k, m) };
    let (_guard, stores) = if seed.is_multiple_of(8) { directories(n) } else { (tempfile::tempdir().unwrap(), memory(n)) };
    let (store, faults) = store_over(profile, stores.clone());
    let mut objects = Vec::new();
    for index in 0..4 {
        let path = Path::from(format!("t/{index}"));
        let size = usize::try_from(random.below([200, 70_000, 400_000, 1_000_000][index])).unwrap();
        let (older, bytes) = (content(2 * index, size), content(2 * index + 1, size));
        store.put(&path, older.into()).await.unwrap();
        store.put(&path, bytes.clone().into()).await.unwrap();
        objects.push((path, bytes));
    }
    store.quiesce().await;
    let first = random.below(u64::from(n));
    // Names need a quorum, so fewer regions may be down than may lie.
    let mut may_be_down = u64::from(m.min(n - (n / 2 + 1)));
    let mut told = Vec::new();
    for i in 0..u64::from(m) {
        let liar = usize::try_from((first + i) % u64::from(n)).unwrap();
        match random.below(LIES.len() as u64 + 2) {
            0 if may_be_down > 0 => {
                faults[liar].set_down(true);
                may_be_down -= 1;
                told.push((liar, "down".to_owned()));
            }
            1 if may_be_down > 0 => {
                faults[liar].slow_ms(40);
                may_be_down -= 1;
                told.push((liar, "slow".to_owned()));
            }
            kind => {
                let how = LIES[usize::try_from(kind).unwrap() % LIES.len()];
                lie(&stores[liar], &shards(&stores[liar]).await, how, &mut random).await;
                told.push((liar, format!("{how:?}")));
            }
        }
    }
    let case = format!("seed {seed}, {k}+{m}, segments of {segment_bytes}, liars {told:?}");
    let mut counts = [0; 3];
    for _ in 0..reads {
        if random.below(4) == 0 {
            store.forget();
        }
        let (path, bytes) = &objects[usize::try_from(random.below(4)).unwrap()];
        let size = bytes.len() as u64;
        let kind = if size == 0 { 0 } else { usize::try_from(random.below(3)).unwrap() };
        counts[kind] += 1;
        let mut range = || {
            let start = random.below(size);
            let longest = if random.below(2) == 0 { 300 } else { size };
            start..(start + 1 + random.below(longest)).min(size)
        };
        match kind {
            0 => assert!(whole(&store, path).await.unwrap_or_else(|e| panic!("{case}: {e}")) == *bytes, "{case}: {path}"),
            1 => {
                let range = range();
                let found = store.get_range(path, range.clone()).await.unwrap_or_else(|e| panic!("{case}: {range:?}: {e}"));
                assert!(found == slice(bytes, &range), "{case}: {path} {range:?}");
            }
            _ => {
                let ranges = [range(), range(), range()];
                let found = store.get_ranges(path, &ranges).await.unwrap_or_else(|e| panic!("{case}: {ranges:?}: {e}"));
                for (range, part) in ranges.iter().zip(found) {
                    assert!(part == slice(bytes, range), "{case}: {path} {range:?} of {ranges:?}");
                }
            }
        }
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn random_reads_are_exactly_right_while_m_regions_lie_about_shards() {
    let (first, seeds, reads) =
        (number("LAKESEAL_BUDGETS_FIRST_SEED", 1), number("LAKESEAL_BUDGETS_SEEDS", 24), number("LAKESEAL_BUDGETS_READS", 50));
    let mut counts = [0; 3];
    for seed in first..first + seeds {
        let found = random_reads(seed, reads).await;
        counts.iter_mut().zip(found).for_each(|(sum, count)| *sum += count);
    }
    println!("{seeds} seeds from {first}: {} whole reads, {} ranges, {} times three ranges: all right", counts[0], counts[1], counts[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pattern_of_up_to_m_absent_shards_is_read_and_every_larger_one_is_called_corrupt() {
    let (mut read, mut refused) = (0, 0);
    for n in 1..=8u8 {
        for k in 1..=n {
            let m = n - k;
            // Two segments and a short one that leaves some data shards short or empty.
            let profile = Profile { segment_bytes: 64 * u64::from(k) * 3, inline_bytes: 0, ..Profile::new(k, m) };
            let stores = memory(n);
            let (store, _) = store_over(profile.clone(), stores.clone());
            let (path, bytes) = (Path::from("t/a"), content(usize::from(n), usize::try_from(2 * profile.segment_bytes).unwrap() + 65));
            store.put(&path, bytes.clone().into()).await.unwrap();
            store.quiesce().await;
            let mut kept = Vec::new();
            for region in &stores {
                kept.push(shards(region).await);
            }
            for pattern in 1u32..1 << n {
                let gone: Vec<usize> = (0..usize::from(n)).filter(|i| pattern & (1 << i) != 0).collect();
                for i in &gone {
                    lie(&stores[*i], &kept[*i], Lie::Absent, &mut Random(0)).await;
                }
                store.forget();
                let found = whole(&store, &path).await;
                let case = format!("{k}+{m}, absent {pattern:b}");
                if gone.len() <= usize::from(m) {
                    assert!(found.unwrap_or_else(|e| panic!("{case}: {e}")) == bytes, "{case}");
                    read += 1;
                } else if (0..usize::from(k)).all(|i| gone.contains(&i)) || k == 1 || gone.len() == usize::from(n) {
                    // The short segment needs fewer shards than k; the full ones do not.
                    assert_eq!(kind(&found.expect_err(&case)), ErrorKind::Corrupt, "{case}");
                    refused += 1;
                } else if let Err(error) = found {
                    assert_eq!(kind(&error), ErrorKind::Corrupt, "{case}: {error}");
                    refused += 1;
                } else {
                    // Only parity is gone.
                    assert!(gone.iter().all(|i| *i >= usize::from(k)), "{case}: read without k shards");
                    assert!(found.is_ok_and(|found| found == bytes), "{case}");
                    read += 1;
                }
                for i in &gone {
                    tell_the_truth(&stores[*i], &kept[*i]).await;
                }
            }
        }
    }
    println!("{read} patterns read, {refused} refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_m_regions_that_lie_alike_are_called_corrupt_and_never_not_found() {
    for over_directories in [false, true] {
        for how in LIES {
            let (k, m) = (3, 2);
            let (_guard, stores) = if over_directories { directories(5) } else { (tempfile::tempdir().unwrap(), memory(5)) };
            let profile = Profile { segment_bytes: 200_000, ..Profile::new(k, m) };
            let (store, _) = store_over(profile, stores.clone());
            let path = Path::from("t/a");
            let (older, bytes) = (content(1, 500_000), content(2, 500_000));
            store.put(&path, older.into()).await.unwrap();
            store.put(&path, bytes.clone().into()).await.unwrap();
            store.put(&Path::from("t/b"), content(3, 500_000).into()).await.unwrap();
            store.quiesce().await;
            for region in stores.iter().take(3) {
                lie(region, &shards(region).await, how, &mut Random(7)).await;
            }
            store.forget();
            let case = format!("{how:?}, directories: {over_directories}");
            match whole(&store, &path).await {
                Err(error) => {
                    assert_eq!(kind(&error), ErrorKind::Corrupt, "{case}: {error}");
                    assert!(how != Lie::BlockList, "{case}: of what is right no block is lost");
                }
                // Damage that leaves k right blocks in every column is decoded block by block.
                Ok(found) => {
                    assert!(found == bytes, "{case}: {} wrong bytes", found.len());
                    assert!(matches!(how, Lie::Flipped | Lie::FlippedEnd | Lie::BlockList), "{case}: read without k shards");
                }
            }
            // Every data shard that was met is called damaged or absent, so that a repair knows what to do.
            let hints = store.take_repair_hints();
            assert!(!hints.is_empty(), "{case}");
            for hint in hints {
                use lakeseal::store::RepairReason::{Absent, Damaged};
                let expected = if how == Lie::Absent { Absent } else { Damaged };
                assert_eq!(hint.why, expected, "{case}: {hint:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_m_regions_that_cannot_be_asked_are_called_unavailable() {
    // Of five regions, two are down and one lies: names can still be read, shards cannot.
    let stores = memory(5);
    let (store, faults) = store_over(Profile::new(3, 2), stores.clone());
    let (path, bytes) = (Path::from("t/a"), content(1, 500_000));
    store.put(&path, bytes.clone().into()).await.unwrap();
    store.quiesce().await;
    let kept = shards(&stores[4]).await;
    for how in LIES {
        lie(&stores[4], &kept, how, &mut Random(3)).await;
        faults[0].set_down(true);
        faults[1].set_down(true);
        store.forget();
        match whole(&store, &path).await {
            Err(error) => assert_eq!(kind(&error), ErrorKind::Unavailable, "{how:?}: {error}"),
            // The bytes themselves are right, and their digest says so.
            Ok(found) => assert!(how == Lie::BlockList && found == bytes, "{how:?}: three of five shards are gone"),
        }
        faults[0].set_down(false);
        assert!(whole(&store, &path).await.unwrap() == bytes, "{how:?}: one is back");
        faults[1].set_down(false);
        tell_the_truth(&stores[4], &kept).await;
    }
}

/// Sizes at which something changes, and one byte to either side.
fn boundaries(k: u64, segment: u64, inline: u64) -> Vec<u64> {
    let block = 65_536;
    let marks =
        [0, 1, 64, 64 * k, 128 * k, block, block * k, block * k + 64, inline, segment, segment + 64 * k, 2 * segment, 2 * segment + block];
    let mut sizes: Vec<u64> = marks.iter().flat_map(|mark| [mark.saturating_sub(1), *mark, mark + 1]).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_every_boundary_size_come_back_by_put_and_multipart_healthy_and_degraded() {
    for (k, m) in [(1u8, 0u8), (1, 1), (2, 1), (3, 2), (4, 2)] {
        for inline_bytes in [0, 16 * 1024] {
            let segment_bytes = 65_536 * u64::from(k) + 128;
            let stores = memory(k + m);
            let profile = Profile { segment_bytes, inline_bytes, ..Profile::new(k, m) };
            let (store, _) = store_over(profile, stores.clone());
            let sizes = boundaries(u64::from(k), segment_bytes, inline_bytes);
            for size in &sizes {
                let bytes = content(usize::try_from(*size).unwrap(), usize::try_from(*size).unwrap());
                store.put(&Path::from(format!("put/{size}")), bytes.clone().into()).await.unwrap();
                let mut upload = store.put_multipart(&Path::from(format!("multipart/{size}"))).await.unwrap();
                for part in bytes.chunks(65_537) {
                    upload.put_part(part.to_vec().into()).await.unwrap();
                }
                upload.complete().await.unwrap();
                store.copy(&Path::from(format!("put/{size}")), &Path::from(format!("copy/{size}"))).await.unwrap();
            }
            store.quiesce().await;
            let mut random = Random(5);
            for (i, wiped) in [None, Some(0), Some(1), Some(usize::from(m))].into_iter().enumerate() {
                let mut kept = Vec::new();
                for j in 0..usize::from(if wiped.is_some() { m } else { 0 }) {
                    let liar = (wiped.unwrap_or(0) + j) % stores.len();
                    let stored = shards(&stores[liar]).await;
                    lie(&stores[liar], &stored, LIES[(3 * i + j) % LIES.len()], &mut random).await;
                    kept.push((liar, stored));
                }
                store.forget();
                for size in &sizes {
                    let bytes = content(usize::try_from(*size).unwrap(), usize::try_from(*size).unwrap());
                    for how in ["put", "multipart", "copy"] {
                        let path = Path::from(format!("{how}/{size}"));
                        let case = format!("{k}+{m}, inline {inline_bytes}, {path}, liars from {wiped:?}");
                        assert!(whole(&store, &path).await.unwrap_or_else(|e| panic!("{case}: {e}")) == bytes, "{case}");
                        assert_eq!(store.head(&path).await.unwrap().size, *size, "{case}");
                        if *size > 0 {
                            let last = store.get_range(&path, *size - 1..*size).await.unwrap_or_else(|e| panic!("{case}: {e}"));
                            assert_eq!(last[..], bytes[bytes.len() - 1..], "{case}");
                        }
                    }
                }
                for (liar, stored) in kept {
                    tell_the_truth(&stores[liar], &stored).await;
                }
            }
        }
    }
}
