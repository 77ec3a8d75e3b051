//! The erasure-coded object store: one file per verb.
//!
//! ```text
//! put      bytes -> segments -> shards, durable in the regions -> the manifest is proposed: that is the commit
//! get      path -> newest manifest -> blocks of data shards, verified -> bytes; what is bad or missing is decoded from others
//! ```
//!
//! Names and their versions are [`crate::register`]'s; this floor never decides by itself what is newest.

mod bindings;
mod census;
mod census_shards;
mod clocks;
mod code;
mod collect;
mod collect_shards;
mod collect_version;
mod copy;
mod decide;
mod decode;
mod delete;
mod digest_wanted;
mod get;
mod handover;
mod hedge;
mod held;
mod hints;
mod list;
mod multipart;
mod orphans;
mod pace;
mod plan;
mod purge;
mod put;
mod read;
mod read_repair;
mod repair;
mod repair_shards;
mod resolve;
mod restore;
mod retained;
mod salvage;
mod scrub;
mod scrub_own;
mod scrub_report;
mod segment;
#[cfg(test)]
mod simulation;
mod stop;
mod streamed;
mod survey;
#[cfg(test)]
mod tests;
mod unchanged;
mod upload;
mod versions;

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use lru::LruCache;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions,
};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tracing::{Instrument as _, debug_span};

pub use self::census::{Fault, Piece, RegionTally};
pub use self::collect::{CollectOptions, CollectProblem, CollectReport};
pub use self::digest_wanted::{DigestWanted, StoredDigest};
pub use self::handover::{HandedOver, Losses};
pub use self::hedge::ReadStatistics;
pub use self::hints::{RepairHint, RepairReason};
pub use self::repair::{Outcome, RepairReport};
#[cfg(feature = "tables")]
pub(crate) use self::retained::unverified_ranges;
pub use self::retained::{readable_versions, retained_names, retained_versions};
pub use self::scrub::{ScrubOptions, ScrubProgress};
pub use self::scrub_report::{Defect, RegionReport, ScrubReport};
pub use self::stop::Stop;
pub use self::survey::{RegionUsage, Survey, SurveyProgress};
pub use self::versions::{VersionInfo, VersionState};
pub use crate::erasure::Profile;

use self::hedge::Hedging;
use self::hints::Hints;
use self::resolve::Version;
use crate::clock::SharedClock;
use crate::digest::{BlockList, Digest};
use crate::erasure::{Codec, CodecId};
use crate::error::Result;
use crate::id::RegionName;
use crate::key::PrivateKey;
use crate::region::{Health, Operation, OperationStatistics, Region, RegionSet};
use crate::register::Registers;

/// Manifests whose last known version is remembered, as a hint.
const KNOWN_PATHS: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// Remembered manifests may not be longer than this, in bytes, so that the cache stays small.
const KNOWN_BYTES: usize = 64 * 1024;
/// Block lists of shards that are remembered: 32 bytes per 64 KiB each.
const KNOWN_LISTS: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// An [`ObjectStore`] whose objects are erasure-coded over the regions of a lake. Cheap to clone.
///
/// - Reads return exactly the bytes that were written, or an error: every block is verified before it is delivered.
/// - `Create`, `Overwrite` and `Update` are linearizable, over nothing but the regions' own create-if-absent.
/// - The `e_tag` is the id of the write; the version is `<slot>.<write id>` and can be asked for, as can
///   `blake3:<hexadecimal digest>`: the newest retained version with these bytes.
/// - Listings are sorted by path.
///
/// **Costs.** A new small object: one create a region, in parallel. Overwriting a known object: the same. A read: one LIST round, then
/// one request per data shard touched. Memory: a few segments per call, whatever the object's size.
///
/// **Limits.** Deleted and overwritten versions keep their shards until they are collected ([`ErasureStore::collect`]). Object tags (S3's) are not stored.
#[derive(Clone)]
pub struct ErasureStore {
    inner: Arc<Inner>,
}

/// What was measured of one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionStatistics {
    /// Its name.
    pub region: RegionName,
    /// How it does just now.
    pub health: Health,
    /// What reading a GiB from it costs, in millionths.
    pub cost_micros_per_gib: u64,
    /// Why it did not take the last of the writes that failed; absent when none did.
    pub refusal: Option<String>,
    /// By operation, all of [`Operation::ALL`].
    pub operations: Vec<(Operation, OperationStatistics)>,
}

struct Inner {
    regions: Arc<RegionSet>,
    registers: Registers,
    profile: Profile,
    codec: Codec,
    clock: SharedClock,
    writer: Option<Arc<PrivateKey>>,
    known: Mutex<LruCache<Path, Arc<Version>>>,
    lists: Mutex<LruCache<Digest, Arc<BlockList>>>,
    hints: Hints,
    hedging: Hedging,
    tasks: Mutex<JoinSet<()>>,
}

impl ErasureStore {
    /// A store over `regions`. Without a writer's key it reads only.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] when the profile cannot be placed in the regions.
    pub fn new(regions: Arc<RegionSet>, profile: Profile, writer: Option<Arc<PrivateKey>>, clock: SharedClock) -> Result<Self> {
        profile.check(regions.len())?;
        let registers = Registers::new(Arc::clone(&regions), writer.clone()).describing(resolve::describe);
        let hedging = Hedging::new(profile.hedge_percent, profile.segment_bytes);
        let inner = Inner {
            codec: Codec::new(profile.codec())?,
            regions,
            registers,
            profile,
            clock,
            writer,
            known: Mutex::new(LruCache::new(KNOWN_PATHS)),
            lists: Mutex::new(LruCache::new(KNOWN_LISTS)),
            hints: Hints::default(),
            hedging,
            tasks: Mutex::new(JoinSet::new()),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Waits until all that goes on in the background (decided markers, removal of own orphans) has ended.
    pub async fn quiesce(&self) {
        let mut tasks = std::mem::take(&mut *self.inner.tasks.lock());
        while tasks.join_next().await.is_some() {}
        self.inner.registers.quiesce().await;
    }

    /// Takes the shards that reads and writes found bad or missing since the last call, oldest first; the queue is bounded.
    pub fn take_repair_hints(&self) -> Vec<RepairHint> {
        self.inner.hints.take()
    }

    /// How many bad, missing or slow shards were met since the store was opened, repetitions included.
    pub fn repair_hints_total(&self) -> u64 {
        self.inner.hints.total()
    }

    /// What reads did since the store was opened: bytes, hedges, decodes.
    pub fn read_statistics(&self) -> ReadStatistics {
        self.inner.hedging.statistics()
    }

    /// What was measured of each region since it was opened, in the order of the configuration.
    pub fn region_statistics(&self) -> Vec<RegionStatistics> {
        let of = |region: &Arc<Region>| RegionStatistics {
            region: region.name().clone(),
            health: region.health(),
            cost_micros_per_gib: region.cost_micros_per_gib(),
            refusal: region.refusal(),
            operations: Operation::ALL.iter().map(|operation| (*operation, region.statistics(*operation))).collect(),
        };
        self.inner.regions.regions().iter().map(of).collect()
    }

    /// Forgets the remembered versions and block lists, so that the next calls are as cold as a new process's.
    pub fn forget(&self) {
        self.inner.known.lock().clear();
        self.inner.lists.lock().clear();
    }
}

impl Inner {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// The codec of this identity: the store's own, if that is it.
    fn codec_of(&self, id: CodecId) -> Result<Codec> {
        if id == self.codec.id() { Ok(self.codec.clone()) } else { Codec::new(id) }
    }
}

impl fmt::Display for ErasureStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let profile = &self.inner.profile;
        write!(f, "ErasureStore({}+{} over {} regions)", profile.data, profile.parity, self.inner.regions.len())
    }
}

impl fmt::Debug for ErasureStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErasureStore")
            .field("lake", self.inner.regions.lake())
            .field("profile", &self.inner.profile)
            .finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for ErasureStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> object_store::Result<PutResult> {
        let span = debug_span!("put", path = %location, bytes = payload.content_length(), mode = ?opts.mode);
        put::put(&self.inner, location, payload, opts).instrument(span).await.map_err(|e| e.into_object_store(location))
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        let upload = multipart::Multipart::begin(&self.inner, location, opts).map_err(|e| e.into_object_store(location))?;
        Ok(Box::new(upload))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.answer(location, &options).await;
        let span = debug_span!("get", path = %location, head = options.head, range = ?options.range, version = options.version.as_deref());
        get::get(&self.inner, location, options).instrument(span).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        let span = debug_span!("get_ranges", path = %location, ranges = ranges.len());
        get::get_ranges(&self.inner, location, ranges).instrument(span).await.map_err(|e| e.into_object_store(location))
    }

    fn delete_stream(&self, locations: BoxStream<'static, object_store::Result<Path>>) -> BoxStream<'static, object_store::Result<Path>> {
        delete::delete_stream(Arc::clone(&self.inner), locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        list::list(Arc::clone(&self.inner), prefix, None)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        list::list(Arc::clone(&self.inner), prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        let span = debug_span!("list_with_delimiter", prefix = prefix.map(Path::as_ref));
        list::list_with_delimiter(&self.inner, prefix).instrument(span).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        let span = debug_span!("copy", %from, %to);
        copy::copy(&self.inner, from, to, options.mode).instrument(span).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> object_store::Result<()> {
        let span = debug_span!("rename", %from, %to);
        copy::rename(&self.inner, from, to, options.target_mode).instrument(span).await
    }
}
