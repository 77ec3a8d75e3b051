//! Time and memory of listing, survey and census by the number of objects. Ignored: it measures, and takes minutes.
//!
//! `LAKESEAL_SCALE=10000,30000,100000 cargo test --release --no-default-features -- --ignored --nocapture linear_in_objects`

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, Range};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use parking_lot::RwLock;

use super::store_over;
use lakeseal::store::{Profile, ScrubOptions};

const PAGE: usize = 1000;

/// Memory that lists page by page, as servers do; `InMemory` copies all keys first, which would be what is measured.
#[derive(Debug, Default, Clone)]
struct Paged {
    inner: Arc<InMemory>,
    index: Arc<RwLock<BTreeMap<Path, ObjectMeta>>>,
}

impl fmt::Display for Paged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Paged")
    }
}

impl Paged {
    fn pages(&self, prefix: Option<&Path>, after: Option<Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (index, prefix) = (Arc::clone(&self.index), prefix.cloned().unwrap_or_default());
        let start = after.unwrap_or_else(|| prefix.clone());
        let pages = stream::unfold(Some(start), move |start| {
            let (index, prefix) = (Arc::clone(&index), prefix.clone());
            async move {
                let start = start?;
                let index = index.read();
                // Behind all that is below the prefix nothing need be looked at: '0' follows '/'.
                let end = Path::parse(format!("{prefix}0")).unwrap();
                let end = if prefix.as_ref().is_empty() || end <= start { Bound::Unbounded } else { Bound::Excluded(end) };
                let below = index.range((Bound::Excluded(start), end)).map(|(_, meta)| meta);
                let page: Vec<ObjectMeta> = below
                    .skip_while(|m| !m.location.prefix_matches(&prefix))
                    .take_while(|m| m.location.prefix_matches(&prefix))
                    .take(PAGE)
                    .cloned()
                    .collect();
                let next = (page.len() == PAGE).then(|| page[PAGE - 1].location.clone());
                Some((stream::iter(page.into_iter().map(Ok)), next))
            }
        });
        pages.flatten().boxed()
    }
}

#[async_trait]
impl ObjectStore for Paged {
    async fn put_opts(&self, key: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let put = self.inner.put_opts(key, payload, options).await?;
        let meta = self.inner.head(key).await?;
        self.index.write().insert(key.clone(), meta);
        Ok(put)
    }

    async fn put_multipart_opts(&self, key: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(key, options).await
    }

    async fn get_ranges(&self, key: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(key, ranges).await
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.pages(prefix, None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.pages(prefix, Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

/// A field of `/proc/self/status`, in MiB.
fn status_mib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Runs `work`; its seconds, and the MiB that the process grew by at most.
async fn measured<T>(work: impl Future<Output = T>) -> (T, f64, u64) {
    // "5" sets the peak back to what is resident now.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status_mib("VmRSS:");
    let started = Instant::now();
    let done = work.await;
    (done, started.elapsed().as_secs_f64(), status_mib("VmHWM:").saturating_sub(before))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures for minutes"]
async fn list_survey_and_census_are_linear_in_objects() {
    let sizes = std::env::var("LAKESEAL_SCALE").unwrap_or_else(|_| "10000,30000,100000".to_owned());
    println!("objects | list s | survey s | census s | + MiB list, survey, census | us an object: list, survey, census");
    for objects in sizes.split(',').map(|size| size.parse::<usize>().unwrap()) {
        let stores = (0..5).map(|_| Arc::new(Paged::default()) as Arc<dyn ObjectStore>).collect();
        let (store, _) = store_over(Profile { inline_bytes: 512, ..Profile::new(3, 2) }, stores);
        // Two of three are inlined, one has shards.
        let put = |i: usize| {
            let store = store.clone();
            async move {
                store
                    .put(
                        &Path::from(format!("t/p={}/{i:07}.parquet", i % 100)),
                        vec![7; if i.is_multiple_of(3) { 2000 } else { 100 }].into(),
                    )
                    .await
            }
        };
        stream::iter((0..objects).map(put)).buffer_unordered(32).try_for_each(|_| async { Ok(()) }).await.unwrap();
        store.quiesce().await;
        store.forget();
        let (listed, list_s, list_mib) =
            measured(async { store.list(None).try_fold(0, |n, _| async move { Ok(n + 1) }).await.unwrap() }).await;
        let (survey, survey_s, survey_mib) = measured(async { store.survey(&()).await.unwrap() }).await;
        let options = ScrubOptions { settle: Duration::from_secs(3600), ..ScrubOptions::default() };
        let (report, scrub_s, scrub_mib) = measured(async { store.scrub(&options, &()).await.unwrap() }).await;
        assert!(listed == objects && survey.objects == objects as u64 && report.is_clean());
        assert_eq!((report.versions, survey.orphan_writes, survey.unknown_slots), (objects as u64, 0, 0));
        let each = |seconds: f64| seconds * 1e6 / objects as f64;
        println!(
            "{objects} | {list_s:.2} | {survey_s:.2} | {scrub_s:.2} | {list_mib}, {survey_mib}, {scrub_mib} | {:.0}, {:.0}, {:.0}",
            each(list_s),
            each(survey_s),
            each(scrub_s)
        );
    }
}
