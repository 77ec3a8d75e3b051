//! Bytes of data coded per second, one thread, on both engines.

use lakeseal::erasure::{Codec, CodecId, EngineKind, Geometry};

fn main() {
    divan::main();
}

const SEGMENT: usize = 8 * 1024 * 1024;

fn encode(bencher: divan::Bencher<'_, '_>, data: u8, parity: u8, kind: EngineKind) {
    let codec = Codec::on(CodecId::new(data, parity), kind);
    let shape = Geometry { data, parity, segment_bytes: SEGMENT as u64 }.segment(SEGMENT as u64);
    let segment: Vec<u8> = (0..=u8::MAX).cycle().take(SEGMENT).collect();
    bencher
        .counter(divan::counter::BytesCount::new(SEGMENT))
        .bench_local(|| codec.as_ref().is_ok_and(|codec| codec.encode(shape, divan::black_box(&segment)).is_ok()));
}

#[divan::bench(args = [(4, 2), (3, 2)])]
fn fast(bencher: divan::Bencher<'_, '_>, (data, parity): (u8, u8)) {
    encode(bencher, data, parity, EngineKind::Fast);
}

#[divan::bench(args = [(4, 2), (3, 2)])]
fn portable(bencher: divan::Bencher<'_, '_>, (data, parity): (u8, u8)) {
    encode(bencher, data, parity, EngineKind::Portable);
}
