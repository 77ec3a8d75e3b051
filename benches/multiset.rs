//! Rows per second of the multiset hash, one thread, and its floor: BLAKE3's output alone.

use lakeseal::digest::MultisetHasher;

fn main() {
    divan::main();
}

const ROWS: usize = 10_000;

#[divan::bench(args = [32, 100, 1000])]
fn rows(bencher: divan::Bencher<'_, '_>, row_bytes: usize) {
    let row = vec![7; row_bytes];
    bencher.counter(divan::counter::ItemsCount::new(ROWS)).bench_local(|| {
        let mut hasher = MultisetHasher::new(&[1; 32]);
        (0..ROWS).for_each(|_| hasher.add(divan::black_box(&row)));
        hasher.finish()
    });
}

#[divan::bench(args = [32, 100, 1000])]
fn stretch_only(bencher: divan::Bencher<'_, '_>, row_bytes: usize) {
    let row = vec![7; row_bytes];
    bencher.counter(divan::counter::ItemsCount::new(ROWS)).bench_local(|| {
        let mut out = [0; 4096];
        for _ in 0..ROWS {
            blake3::Hasher::new_keyed(&[1; 32]).update(divan::black_box(&row)).finalize_xof().fill(&mut out);
        }
        out
    });
}
