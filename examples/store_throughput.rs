//! Puts and gets one large object and many small ones, over a lake of five directories or a bucket of an S3 server, and prints seconds.
//!
//! ```text
//! cargo run --release --no-default-features --example store_throughput -- lake DIRECTORY [LARGE_MIB [SMALL_COUNT]]
//! cargo run --release --no-default-features --example store_throughput -- s3 BUCKET [LARGE_MIB [SMALL_COUNT]]
//! ```
//!
//! Without arguments it writes 16 MiB and 50 small objects into a lake in a temporary directory. Else the lake is made in DIRECTORY, 3+2, each
//! region a directory that syncs before it acknowledges. The bucket is that of `AWS_ENDPOINT` with the credentials of the environment; both are
//! reached by the same program. `scripts/compare_stores.py` runs it beside others.

use std::error::Error;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use lakeseal::clock::SystemClock;
use lakeseal::key::PrivateKey;
use lakeseal::lake::{InitPlan, OpenOptions, ProfileConfig, RegionConfig, init, open};
use lakeseal::store::ErasureStore;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

const SMALL_BYTES: usize = 16 * 1024;
/// Small objects that are under way at one time.
const AT_ONCE: usize = 16;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

async fn lake(home: &FsPath) -> Outcome<Arc<dyn ObjectStore>> {
    std::fs::create_dir_all(home)?;
    let regions = (0..5).map(|i| Ok(RegionConfig::new(format!("r{i}").parse()?, home.join(format!("r{i}")).display().to_string())));
    let plan = InitPlan {
        config_path: home.join("lakeseal.toml"),
        name: "throughput".to_owned(),
        regions: regions.collect::<Outcome<_>>()?,
        profile: ProfileConfig::new(3, 2),
        lakes_keys: home.join("keys"),
        clock: Arc::new(SystemClock),
    };
    let config = init(plan).await?;
    let key = home.join("keys").join(config.id.to_string()).join("writer.pem");
    let writer = PrivateKey::from_pem(&std::fs::read_to_string(key)?)?;
    let lake = open(&config, OpenOptions { writer: Some(writer), clock: Arc::new(SystemClock) }).await?;
    Ok(Arc::new(ErasureStore::new(Arc::clone(&lake.region_set), lake.profile()?, lake.writer.clone(), Arc::clone(&lake.clock))?))
}

fn sample(len: usize, seed: u64) -> Bytes {
    let words = (0..len.div_ceil(8) as u64).flat_map(|i| (i ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    words.take(len).collect::<Vec<u8>>().into()
}

async fn put_small(store: &dyn ObjectStore, count: u64) -> Outcome<()> {
    let puts =
        (0..count).map(|i| async move { store.put(&Path::from(format!("t/small/{i}")), sample(SMALL_BYTES, i).into()).await.map(drop) });
    Ok(stream::iter(puts).buffer_unordered(AT_ONCE).try_collect().await?)
}

async fn get_small(store: &dyn ObjectStore, count: u64) -> Outcome<()> {
    let gets = (0..count).map(|i| async move {
        let found = store.get(&Path::from(format!("t/small/{i}"))).await?.bytes().await?;
        if found == sample(SMALL_BYTES, i) { Ok(()) } else { Outcome::Err("a small object came back otherwise".into()) }
    });
    stream::iter(gets).buffer_unordered(AT_ONCE).try_collect().await
}

async fn put_large(store: &dyn ObjectStore, path: &Path, bytes: &Bytes) -> Outcome<()> {
    let mut upload = store.put_multipart(path).await?;
    // As many parts under way as Delta's writers have.
    let parts: Vec<_> = (0..bytes.len()).step_by(8 << 20).map(|at| bytes.slice(at..bytes.len().min(at + (8 << 20)))).collect();
    let sent: Vec<_> = parts.into_iter().map(|part| upload.put_part(part.into())).collect();
    stream::iter(sent).buffered(10).try_collect::<Vec<()>>().await?;
    upload.complete().await?;
    Ok(())
}

async fn get_large(store: &dyn ObjectStore, path: &Path, bytes: &Bytes) -> Outcome<()> {
    let mut body = store.get(path).await?.into_stream();
    let mut at = 0;
    while let Some(piece) = body.try_next().await? {
        if bytes.get(at..at + piece.len()) != Some(&piece) {
            return Err("the large object came back otherwise".into());
        }
        at += piece.len();
    }
    if at == bytes.len() { Ok(()) } else { Err("the large object came back short".into()) }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Without arguments: a small lake in a place that goes again.
    let fleeting = tempfile::tempdir()?;
    let (default_mib, default_count) = if arguments.is_empty() { (16, 50) } else { (256, 1000) };
    let number = |at: usize, default: u64| arguments.get(at).map_or(Ok(default), |text| text.parse::<u64>());
    let store: Arc<dyn ObjectStore> = match (arguments.first().map(String::as_str), arguments.get(1)) {
        (Some("lake"), Some(home)) => lake(FsPath::new(home)).await?,
        (Some("s3"), Some(bucket)) => Arc::new(AmazonS3Builder::from_env().with_bucket_name(bucket).with_allow_http(true).build()?),
        (None, _) => lake(fleeting.path()).await?,
        _ => return Err("usage: store_throughput lake DIRECTORY | s3 BUCKET [LARGE_MIB [SMALL_COUNT]]".into()),
    };
    let (large, count) = (sample(usize::try_from(number(2, default_mib)?)? << 20, 1), number(3, default_count)?);
    let path = Path::from("t/large");
    let begun = Instant::now();
    put_large(store.as_ref(), &path, &large).await?;
    let put = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    get_large(store.as_ref(), &path, &large).await?;
    let get = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    put_small(store.as_ref(), count).await?;
    let small_put = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    get_small(store.as_ref(), count).await?;
    let small_get = begun.elapsed().as_secs_f64();
    println!("{{\"put_large\": {put}, \"get_large\": {get}, \"put_small\": {small_put}, \"get_small\": {small_get}}}");
    Ok(())
}
