//! Regions as a simulation has them: what they hold, and what becomes of the requests that clients send them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use crate::id::seeded;
use crate::region::layout;

/// Keys that one page of a list has.
const PAGE: usize = 4;

/// A number below `limit`, from the seed.
pub fn below(limit: u64) -> u64 {
    seeded::next().expect("a simulation is seeded") % limit
}

/// One of the things, from the seed.
fn any<T>(of: &[T]) -> Option<&T> {
    of.get(usize::try_from(below(of.len().max(1) as u64)).ok()?)
}

/// Whether a thing happens that happens `times` times in a hundred.
pub fn percent(times: u64) -> bool {
    below(100) < times
}

/// What one region holds.
#[derive(Debug, Default)]
pub struct Disk {
    keys: Mutex<BTreeMap<Path, Bytes>>,
    /// Everything that was ever sent to a region that lies, oldest first.
    sent: Mutex<Vec<(Path, Bytes)>>,
    lies: bool,
    /// Nobody reaches it any more.
    gone: AtomicBool,
}

/// A time in which something does not work.
#[derive(Debug, Clone)]
pub struct Outage {
    /// Whose requests; everybody's if none.
    pub client: Option<usize>,
    /// To which region; all if none.
    pub region: Option<usize>,
    pub time: Range<Instant>,
    /// Whether requests wait for its end, in place of failing.
    pub pauses: bool,
}

/// What all links share.
#[derive(Debug, Default)]
pub struct Weather {
    pub outages: Vec<Outage>,
    /// About how long clients are at work, in milliseconds.
    pub work_ms: u64,
    /// Nothing fails any more.
    pub calm: AtomicBool,
}

/// One client's way to one region.
#[derive(Debug, Clone)]
pub struct Link {
    pub disk: Arc<Disk>,
    pub weather: Arc<Weather>,
    pub client: usize,
    pub region: usize,
    /// The client's process has ended: nothing that it has not sent yet is sent.
    pub stopped: Arc<AtomicBool>,
}

fn failed(what: &'static str) -> object_store::Error {
    object_store::Error::Generic { store: "simulated", source: what.into() }
}

fn not_found(key: &Path) -> object_store::Error {
    object_store::Error::NotFound { path: key.to_string(), source: "no such key".into() }
}

impl Disk {
    pub fn new(lies: bool) -> Self {
        Self { lies, ..Self::default() }
    }

    /// From now on nobody reaches it.
    pub fn fence(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// What is there before anything begins.
    pub fn hold(&self, key: Path, bytes: Vec<u8>) {
        self.keys.lock().insert(key, bytes.into());
    }

    /// Whether this answer is a lie.
    fn lies_now(&self) -> bool {
        self.lies && percent(30)
    }

    fn put(&self, key: &Path, bytes: &Bytes, create: bool) -> Result<()> {
        if self.lies {
            self.sent.lock().push((key.clone(), bytes.clone()));
            match below(10) {
                0 => return Ok(()),
                1 => {
                    self.keys.lock().insert(key.clone(), bytes.clone());
                    return Ok(());
                }
                _ => {}
            }
        }
        let mut keys = self.keys.lock();
        if create && keys.contains_key(key) {
            return Err(object_store::Error::AlreadyExists { path: key.to_string(), source: "taken".into() });
        }
        keys.insert(key.clone(), bytes.clone());
        Ok(())
    }

    fn get(&self, key: &Path) -> Result<Bytes> {
        if self.lies_now() {
            let sent = self.sent.lock();
            let old: Vec<&Bytes> = sent.iter().filter(|(sent, _)| sent == key).map(|(_, bytes)| bytes).collect();
            let lie = match below(3) {
                // What it was once sent for this key, and what it was sent for another.
                0 => any(&old).copied(),
                1 if layout::parse_register_key(key).is_none() => any(&sent).map(|(_, bytes)| bytes),
                _ => None,
            };
            return lie.cloned().ok_or_else(|| not_found(key));
        }
        self.keys.lock().get(key).cloned().ok_or_else(|| not_found(key))
    }

    /// Some keys below `prefix` behind `after`, and whether there are more.
    fn page(&self, prefix: &Path, after: Option<&Path>) -> Vec<ObjectMeta> {
        let lies = self.lies_now();
        if lies && percent(50) {
            return Vec::new();
        }
        let keys = self.keys.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut page: Vec<ObjectMeta> = keys
            .range::<Path, _>((from, Bound::Unbounded))
            .filter(|(key, _)| key.prefix_matches(prefix) && *key != prefix && !(lies && percent(50)))
            .take(PAGE)
            .map(|(key, bytes)| meta(key, bytes))
            .collect();
        if lies && let Some(key) = page.first().and_then(|first| invented(&first.location)) {
            let fits = key.prefix_matches(prefix) && after.is_none_or(|after| key > *after);
            page.splice(0..0, fits.then(|| meta(&key, &Bytes::new())));
        }
        page
    }
}

/// An entry of a slot above the one that `key` is of.
fn invented(key: &Path) -> Option<Path> {
    let name = layout::parse_register_key(key)?;
    layout::entry_key(&name.path, name.slot + 1 + below(100), 0).ok()
}

fn meta(key: &Path, bytes: &Bytes) -> ObjectMeta {
    ObjectMeta { location: key.clone(), last_modified: DateTime::UNIX_EPOCH, size: bytes.len() as u64, e_tag: None, version: None }
}

impl Link {
    fn outage(&self) -> Option<&Outage> {
        let now = Instant::now();
        let here = |outage: &&Outage| {
            outage.client.is_none_or(|client| client == self.client)
                && outage.region.is_none_or(|region| region == self.region)
                && outage.time.contains(&now)
        };
        self.weather.outages.iter().find(here)
    }

    /// The way there or back: takes time, and may fail.
    async fn travel(&self) -> Result<()> {
        if self.disk.gone.load(Ordering::Relaxed) {
            return Err(failed("gone"));
        }
        if self.weather.calm.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(1)).await;
            return Ok(());
        }
        let ms = match below(40) {
            0..28 => 1 + below(8),
            28..38 => 8 + below(80),
            38 => 100 + below(1500),
            _ => 1500 + below(1500),
        };
        sleep(Duration::from_millis(ms)).await;
        while let Some(outage) = self.outage() {
            if !outage.pauses {
                return Err(failed("down"));
            }
            sleep_until(outage.time.end).await;
        }
        Ok(())
    }

    /// A request that changes something.
    async fn write(&self, apply: impl Fn(&Disk) -> Result<()> + Send + 'static) -> Result<()> {
        self.travel().await?;
        if self.stopped.load(Ordering::Relaxed) {
            return Err(failed("stopped"));
        }
        let calm = self.weather.calm.load(Ordering::Relaxed);
        let answer = match if calm { 99 } else { below(100) } {
            0..4 => Err(failed("lost before it took effect")),
            4..8 => apply(&self.disk).and(Err(failed("lost after it took effect"))),
            8..11 => {
                self.later(apply);
                Err(failed("took effect later"))
            }
            11..13 => {
                let answer = apply(&self.disk);
                self.later(apply);
                answer
            }
            // Repeated below the client, which gets the second answer.
            13..15 => {
                let _ = apply(&self.disk);
                sleep(Duration::from_millis(below(50))).await;
                apply(&self.disk)
            }
            _ => apply(&self.disk),
        };
        self.travel().await?;
        answer
    }

    fn later(&self, apply: impl Fn(&Disk) -> Result<()> + Send + 'static) {
        let disk = Arc::clone(&self.disk);
        let after = Duration::from_millis(below(self.weather.work_ms));
        tokio::spawn(async move {
            sleep(after).await;
            let _ = apply(&disk);
        });
    }

    async fn read<T>(&self, look: impl FnOnce(&Disk) -> Result<T>) -> Result<T> {
        self.travel().await?;
        let answer = look(&self.disk);
        self.travel().await?;
        if !self.weather.calm.load(Ordering::Relaxed) && percent(4) {
            return Err(failed("the answer was lost"));
        }
        answer
    }

    fn walk(&self, prefix: Option<&Path>, after: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (link, prefix) = (self.clone(), prefix.cloned().unwrap_or_default());
        // Each page is of its own time.
        stream::try_unfold((link, prefix, after.cloned(), false), |(link, prefix, after, ended)| async move {
            if ended {
                return Ok::<_, object_store::Error>(None);
            }
            let page = link.read(|disk| Ok(disk.page(&prefix, after.as_ref()))).await?;
            let ended = page.len() < PAGE;
            let after = page.last().map(|meta| meta.location.clone()).or(after);
            Ok(Some((stream::iter(page.into_iter().map(Ok)), (link, prefix, after, ended))))
        })
        .try_flatten()
        .boxed()
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {} to region {}", self.client, self.region)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for Link {
    async fn put_opts(&self, key: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let (key, bytes, create) = (key.clone(), Bytes::from(payload), options.mode == PutMode::Create);
        self.write(move |disk| disk.put(&key, &bytes, create)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn get_opts(&self, key: &Path, options: GetOptions) -> Result<GetResult> {
        assert!(options.range.is_none() && !options.head, "regions are not asked so");
        let bytes = self.read(|disk| disk.get(key)).await?;
        let (meta, range) = (meta(key, &bytes), 0..bytes.len() as u64);
        let payload = GetResultPayload::Stream(stream::iter([Ok(bytes)]).boxed());
        Ok(GetResult { payload, meta, range, attributes: object_store::Attributes::default() })
    }

    async fn get_ranges(&self, key: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let bytes = self.read(|disk| disk.get(key)).await?;
        let part = |range: &Range<u64>| {
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            if range.end <= bytes.len() { Ok(bytes.slice(range)) } else { Err(failed("the object is shorter")) }
        };
        ranges.iter().map(part).collect()
    }

    fn delete_stream(&self, keys: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let link = self.clone();
        keys.and_then(move |key| {
            let (link, gone) = (link.clone(), key.clone());
            async move {
                link.write(move |disk| {
                    disk.keys.lock().remove(&gone);
                    Ok(())
                })
                .await
                .map(|()| key)
            }
        })
        .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.walk(prefix, None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.walk(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(failed("regions are not asked so"))
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(failed("regions are not asked so"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(failed("regions are not asked so"))
    }

    async fn rename_opts(&self, _: &Path, _: &Path, _: RenameOptions) -> Result<()> {
        Err(failed("regions are not asked so"))
    }
}
