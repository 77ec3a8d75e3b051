//! Both engines against each other, and every loss that a code tolerates, at every size where the geometry changes its shape.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::digest::BLOCK_BYTES;

fn sample(len: usize, seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed).wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect()
}

/// Sizes around 64 bytes, a slice of k shards, and a block.
fn sizes(k: usize) -> BTreeSet<usize> {
    [0, 64, 64 * k, 128 * k, 64 * k * 3 + 64, BLOCK_BYTES, BLOCK_BYTES * k]
        .into_iter()
        .flat_map(|at: usize| [at.saturating_sub(1), at, at + 1])
        .filter(|len| *len > 0)
        .collect()
}

fn shape(k: usize, m: usize, len: usize) -> SegmentShape {
    let geometry = Geometry { data: u8::try_from(k).unwrap(), parity: u8::try_from(m).unwrap(), segment_bytes: 1 << 20 };
    geometry.segment(len as u64)
}

fn codecs(k: usize, m: usize) -> [Codec; 2] {
    let id = CodecId::new(u8::try_from(k).unwrap(), u8::try_from(m).unwrap());
    [Codec::on(id, EngineKind::Fast).unwrap(), Codec::on(id, EngineKind::Portable).unwrap()]
}

fn all_shards(codec: &Codec, shape: SegmentShape, segment: &[u8]) -> Vec<Bytes> {
    let data = (0..shape.data).map(|i| {
        let range = shape.data_range(i);
        Bytes::copy_from_slice(&segment[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()])
    });
    data.chain(codec.encode(shape, segment).unwrap().into_iter().map(Bytes::from)).collect()
}

#[test]
fn slices_joined_are_the_segment_and_nothing_is_stored_twice() {
    for k in 1..=6 {
        for len in sizes(k) {
            let shape = shape(k, 2, len);
            assert_eq!(shape.slice % 64, 0);
            let mut at = 0;
            for shard in 0..k {
                let range = shape.data_range(shard);
                assert_eq!(range.start, at);
                assert_eq!(shape.shard_len(shard), range.end - range.start);
                at = range.end;
            }
            assert_eq!(at, len as u64);
            assert_eq!(shape.shard_len(k), shape.shard_len(0), "parity is as long as the longest data shard");
        }
    }
}

#[test]
fn engines_agree_and_every_k_shards_give_back_all_others() {
    for k in 1..=6usize {
        for m in 1..=(8 - k).min(4) {
            let [fast, portable] = codecs(k, m);
            for len in sizes(k).into_iter().filter(|len| *len <= 1024 || k + m <= 5) {
                let segment = sample(len, u8::try_from(k * 16 + m).unwrap());
                let shape = shape(k, m, len);
                let shards = all_shards(&fast, shape, &segment);
                assert_eq!(shards, all_shards(&portable, shape, &segment), "{k}+{m}, {len} bytes");
                every_subset(&[fast.clone(), portable.clone()], shape, &shards);
            }
        }
    }
}

fn every_subset(codecs: &[Codec], shape: SegmentShape, shards: &[Bytes]) {
    let wanted: Vec<usize> = (0..shape.shards()).collect();
    for set in 0u32..1 << shape.shards() {
        if set.count_ones() as usize != shape.data {
            continue;
        }
        let given: Vec<(usize, Bytes)> = (0..shape.shards()).filter(|i| set & (1 << i) != 0).map(|i| (i, shards[i].clone())).collect();
        // The portable engine is slow without optimisation: it checks small segments only.
        let codecs = if shape.len <= 1024 { codecs } else { &codecs[..1] };
        for codec in codecs {
            let found = codec.decode(shape, 0..shape.slice.min(shape.len), &given, &wanted).unwrap();
            assert_eq!(found, shards, "{shape:?} from {set:b}");
        }
    }
}

#[test]
fn some_columns_decode_alone() {
    let [codec, _] = codecs(3, 2);
    let segment = sample(3 * 1000 + 17, 9);
    let shape = shape(3, 2, segment.len());
    let shards = all_shards(&codec, shape, &segment);
    for columns in [0..64, 64..200, 900..1024, 960..1024, 1000..1001, 0..1024] {
        let cut = |i: usize| {
            let len = shards[i].len();
            (i, shards[i].slice(usize::try_from(columns.start).unwrap().min(len)..usize::try_from(columns.end).unwrap().min(len)))
        };
        let found = codec.decode(shape, columns.clone(), &[cut(1), cut(3), cut(4)], &[0, 2]).unwrap();
        assert_eq!(found, [cut(0).1, cut(2).1], "{columns:?}");
    }
}

#[test]
fn too_few_or_misfitting_shards_are_refused() {
    let [codec, _] = codecs(3, 2);
    let segment = sample(999, 1);
    let shape = shape(3, 2, segment.len());
    let shards = all_shards(&codec, shape, &segment);
    let columns = 0..shape.slice;
    let two = [(0, shards[0].clone()), (3, shards[3].clone())];
    assert!(codec.decode(shape, columns.clone(), &two, &[1]).is_err());
    let twice = [(0, shards[0].clone()), (0, shards[0].clone()), (3, shards[3].clone())];
    assert!(codec.decode(shape, columns.clone(), &twice, &[1]).is_err());
    let short = [(0, shards[0].slice(1..)), (2, shards[2].clone()), (3, shards[3].clone())];
    assert!(codec.decode(shape, columns.clone(), &short, &[1]).is_err());
    let beyond = [(0, shards[0].clone()), (2, shards[2].clone()), (7, shards[3].clone())];
    assert!(codec.decode(shape, columns, &beyond, &[1]).is_err());
    assert!(codec.encode(shape, &segment[1..]).is_err());
    let three = [(0, shards[0].clone()), (2, shards[2].clone()), (3, shards[3].clone())];
    assert_eq!(codec.decode(shape, 0..shape.slice, &three, &[1, 4]).unwrap(), [shards[1].clone(), shards[4].clone()]);
    assert!(codec.decode(shape, 0..shape.slice, &three, &[1, 1]).is_err());
    assert!(codec.decode(shape, 0..shape.slice, &three, &[5]).is_err());
}

#[test]
fn a_code_without_parity_only_cuts() {
    let codec = Codec::new(CodecId::new(2, 0)).unwrap();
    let segment = sample(200, 1);
    let shape = shape(2, 0, 200);
    assert!(codec.encode(shape, &segment).unwrap().is_empty());
    assert!(codec.decode(shape, 0..128, &[(0, Bytes::from(segment))], &[1]).is_err());
}

/// Multiplication in GF(2^8) modulo 0x11D, one bit at a time.
fn times(a: u8, b: u8) -> u8 {
    (0..8).rev().fold(0u8, |sum, bit| {
        let doubled = (sum << 1) ^ if sum & 0x80 != 0 { 0x1D } else { 0 };
        if b & (1 << bit) != 0 { doubled ^ a } else { doubled }
    })
}

fn inverse(a: u8) -> u8 {
    (1..=255).find(|b| times(a, *b) == 1).unwrap()
}

/// Row `x` of the systematic Vandermonde matrix: the Lagrange polynomials over the points 0..k, at x.
fn row(x: u8, k: u8) -> Vec<u8> {
    let basis = |i: u8| (0..k).filter(|j| *j != i).fold(1, |product, j| times(product, times(x ^ j, inverse(i ^ j))));
    (0..k).map(basis).collect()
}

#[test]
fn parity_is_what_the_document_says() {
    for (k, m) in [(1, 1), (2, 1), (2, 2), (3, 2), (4, 2), (6, 3), (10, 4)] {
        let codec = Codec::new(CodecId::new(k, m)).unwrap();
        let segment = sample(usize::from(k) * 64, 3);
        let parity = codec.encode(shape(k.into(), m.into(), segment.len()), &segment).unwrap();
        for (i, found) in (k..k + m).zip(parity) {
            let expected: Vec<u8> = (0..64)
                .map(|column| {
                    row(i, k).iter().enumerate().fold(0, |sum, (shard, factor)| sum ^ times(*factor, segment[shard * 64 + column]))
                })
                .collect();
            assert_eq!(found, expected, "{k}+{m}, shard {i}");
        }
    }
}

#[test]
fn a_stored_code_reads_back_and_another_version_is_refused() {
    let id = CodecId::new(4, 2);
    assert_eq!(CodecId::from_bytes(id.to_bytes()).unwrap(), id);
    assert!(CodecId::from_bytes([2, 1, 4, 2]).is_err());
    assert!(CodecId::from_bytes([1, 2, 4, 2]).is_err());
    assert!(CodecId::from_bytes([1, 1, 0, 2]).is_err());
    assert!(CodecId::from_bytes([1, 1, 15, 2]).is_err());
}

#[test]
fn a_profile_that_cannot_be_placed_is_refused() {
    assert!(Profile::new(3, 2).check(5).is_ok());
    assert!(Profile::new(3, 2).check(4).is_err());
    assert!(Profile::new(0, 2).check(5).is_err());
    assert!(Profile { segment_bytes: 100, ..Profile::new(1, 0) }.check(1).is_err());
    assert!(Profile { ack_shards: Some(2), ..Profile::new(3, 2) }.check(5).is_err());
    assert!(Profile { inline_bytes: 2 << 20, ..Profile::new(3, 2) }.check(5).is_err());
    assert_eq!(Profile::new(3, 2).acknowledged_shards(2), 3);
    assert_eq!(Profile::new(2, 2).acknowledged_shards(1), 3);
    assert_eq!(Profile::new(1, 0).acknowledged_shards(0), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_segment_survives_any_loss(k in 1usize..7, m in 1usize..5, len in 1usize..5000, seed: u8, lost: u32) {
        let [fast, portable] = codecs(k, m);
        let segment = sample(len, seed);
        let shape = shape(k, m, len);
        let shards = all_shards(&fast, shape, &segment);
        prop_assert_eq!(&shards, &all_shards(&portable, shape, &segment));
        // Drop m shards, chosen by rotating through all.
        let start = lost as usize % (k + m);
        let gone: BTreeSet<usize> = (0..m).map(|i| (start + i) % (k + m)).collect();
        let given: Vec<(usize, Bytes)> = (0..k + m).filter(|i| !gone.contains(i)).map(|i| (i, shards[i].clone())).collect();
        let wanted: Vec<usize> = (0..k).collect();
        let found = fast.decode(shape, 0..shape.slice.min(shape.len), &given, &wanted).unwrap();
        prop_assert_eq!(found.concat(), segment);
    }

    #[test]
    fn ranges_touch_exactly_their_bytes(k in 1usize..7, len in 1u64..5000, a in 0u64..5000, b in 0u64..5000) {
        let shape = shape(k, 1, usize::try_from(len).unwrap());
        let (start, end) = (a.min(b).min(len), a.max(b).min(len));
        let mut at = start;
        for (shard, range) in shape.touched(start..end) {
            let held = shape.data_range(shard);
            prop_assert_eq!(held.start + range.start, at);
            at = held.start + range.end;
        }
        prop_assert_eq!(at, end.max(start));
    }
}
