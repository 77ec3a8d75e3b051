//! What the store takes, beside the raw work that it cannot do without, in one run: steps alternate, so that all meet the same machine.
//!
//! `cargo bench --no-default-features --bench store [-- memory|directories|range]`

mod directories;
mod memory;
mod range;
mod timing;

use std::error::Error;

use bytes::Bytes;
use lakeseal::store::ErasureStore;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;

/// A benchmark stops at the first failure.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const MIB: usize = 1024 * 1024;

/// Bytes that do not repeat within a block.
fn sample(len: usize) -> Bytes {
    let words = (0..len.div_ceil(8) as u64).flat_map(|i| (i ^ 0x9e37).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    words.take(len).collect::<Vec<u8>>().into()
}

async fn get(store: &ErasureStore, path: &Path, size: usize) -> Outcome<()> {
    let mut read = 0;
    let mut body = store.get(path).await?.into_stream();
    while let Some(bytes) = futures::TryStreamExt::try_next(&mut body).await? {
        read += bytes.len();
    }
    if read == size { Ok(()) } else { Err("an object came back with another size".into()) }
}

fn main() -> Outcome<()> {
    let asked: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let runs = |what: &str| asked.is_empty() || asked.iter().any(|word| word == what);
    let runtime = tokio::runtime::Runtime::new()?;
    if runs("memory") {
        runtime.block_on(memory::run(3, 2))?;
        runtime.block_on(memory::run(4, 2))?;
    }
    if runs("directories") {
        runtime.block_on(directories::run(3, 2, false))?;
        runtime.block_on(directories::run(3, 2, true))?;
    }
    if runs("range") {
        runtime.block_on(range::run())?;
    }
    Ok(())
}
