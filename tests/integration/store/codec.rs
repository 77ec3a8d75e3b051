//! The fast engine against the reference, through the public codec, at the lengths of real segments.

use bytes::Bytes;
use lakeseal::erasure::{Codec, CodecId, EngineKind, Geometry};

#[test]
fn the_fast_engine_stores_and_recovers_the_references_bytes() {
    for (k, m) in [(1, 1), (2, 1), (2, 2), (3, 2), (4, 2), (5, 3), (6, 3), (8, 4), (10, 4)] {
        let id = CodecId::new(k, m);
        let (fast, portable) = (Codec::on(id, EngineKind::Fast).unwrap(), Codec::on(id, EngineKind::Portable).unwrap());
        for len in [1, 63, 64, 65, 4095, 4096 * usize::from(k) + 1, 100_003] {
            let segment = super::damage::sample(len);
            let shape = Geometry { data: k, parity: m, segment_bytes: 1 << 20 }.segment(len as u64);
            let parity = fast.encode(shape, &segment).unwrap();
            assert_eq!(parity, portable.encode(shape, &segment).unwrap(), "{k}+{m}, {len} bytes");
            let data = (0..shape.data).map(|shard| {
                let range = shape.data_range(shard);
                Bytes::copy_from_slice(&segment[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()])
            });
            let all: Vec<Bytes> = data.chain(parity.into_iter().map(Bytes::from)).collect();
            let given: Vec<(usize, Bytes)> = all.iter().cloned().enumerate().skip(usize::from(m)).collect();
            let wanted: Vec<usize> = (0..all.len()).collect();
            assert_eq!(fast.decode(shape, 0..shape.shard_len(shape.data), &given, &wanted).unwrap(), all, "{k}+{m}, {len} bytes");
        }
    }
}
