//! An object store that delivers only sealed bytes.
//!
//! [`VerifiedStore`] stands in front of any store and shows one table at one version:
//!
//! * the objects of the log that the compared snapshot was read from, held to the digests they had then; nothing else of
//!   `_delta_log` exists, so `.crc`, `_last_checkpoint`, compacted commits and checkpoints that were not read mislead nobody;
//! * sealed data files, verified in blocks of 64 KiB against evidence before a byte is released;
//! * files of deletion vectors, pinned when the store is made;
//! * live files of later commits, passed through as they are.
//!
//! What is done with bytes that differ is the [`View`]'s to say: refuse them, serve the sealed ones from elsewhere (`heal`), or deliver them.
//! A view may also show a log of its own, and files without their damaged row groups (`quarantine`).
//!
//! Listings are sorted and cost nothing, for the objects are known. Everything is read-only.

mod damage;
mod evidence;
mod heal;
mod incident;
mod objects;
mod quarantine;
mod read;
mod reads;
mod seals;
mod state;
mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use lru::LruCache;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
};
use parking_lot::Mutex;

pub use damage::{Damage, Recorder};
pub use heal::{CopyAt, find_exact};
pub use incident::{Action, Incident, Reports};
pub use quarantine::{Examined, Trimmed, examine};
pub use reads::{Extent, ReadFile, ReadLog, is_of};
pub use seals::FirstSeals;
pub use state::sealed_state;

use self::evidence::Evidence;
use self::objects::{Object, Objects};
use self::reads::ReadLogs;
use crate::baseline::{Repository, SealedTable};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{FileKey, TableSchema, TableSnapshot};

/// A range of at most so many bytes is read as a piece, through the cache of blocks, and not as a stream.
const PIECE_BYTES: u64 = 4 << 20;
/// Verified blocks that are kept, 64 KiB each.
const CACHED_BLOCKS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);

/// What is done with bytes that are not the sealed ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDifference {
    /// They are refused.
    #[default]
    Refuse,
    /// The sealed ones are served from a retained version or another copy, by their exact digest; else they are refused.
    Heal,
    /// They are delivered as they are. Objects of the log, and deletion vectors, are still refused.
    Deliver,
}

/// A log of our own: one commit that says a state, and those before it, which say nothing.
#[derive(Debug, Clone)]
pub struct OwnLog {
    /// The commit.
    pub commit: Bytes,
    /// Its version.
    pub version: u64,
}

/// How a table is shown, beyond what is sealed of it.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// What is done with bytes that differ.
    pub on_difference: OnDifference,
    /// A log to be shown in place of the stored one.
    pub log: Option<OwnLog>,
    /// Sealed files that are shown without some of their row groups.
    pub trimmed: BTreeMap<FileKey, Trimmed>,
    /// Digests of sealed data that was erased on record: it is never served from elsewhere.
    pub erased: BTreeSet<Digest>,
    /// Where seals are read instead of in the table's own store.
    pub seals: Option<Arc<dyn ObjectStore>>,
    /// Where it is told what was done.
    pub reports: Reports,
}

/// One table at one version, read-only, each byte verified before it is released.
#[derive(Debug, Clone)]
pub struct VerifiedStore {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    store: Arc<dyn ObjectStore>,
    repository: Repository,
    name: String,
    root: Path,
    objects: Objects,
    cache: Mutex<LruCache<(Path, u64), Bytes>>,
    view: View,
    recorder: Recorder,
    reads: ReadLogs,
    schema: TableSchema,
    row_key: [u8; 32],
    evidence: Evidence,
    /// The number of the query that reads now; 0 before the first.
    query: AtomicU64,
    /// Whether the store may be one that retains versions.
    retains: AtomicBool,
}

impl VerifiedStore {
    /// Shows `snapshot` of the table at `root` of `store`, held against `sealed`. Without it only the log is pinned.
    ///
    /// It is the caller's to compare the two states first: files of the snapshot that are not sealed are passed through.
    /// `name` is what errors call the table. Reads the files of deletion vectors; keeps up to 16 MiB of verified blocks.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] or [`ErrorKind::Corrupt`] for deletion vectors that cannot be pinned.
    pub async fn new(
        store: Arc<dyn ObjectStore>,
        root: Path,
        name: impl Into<String>,
        snapshot: &TableSnapshot,
        sealed: Option<&SealedTable>,
    ) -> Result<Self> {
        Self::with_view(store, root, name, snapshot, sealed, View::default()).await
    }

    /// As [`Self::new`], shown as `view` says.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub async fn with_view(
        store: Arc<dyn ObjectStore>,
        root: Path,
        name: impl Into<String>,
        snapshot: &TableSnapshot,
        sealed: Option<&SealedTable>,
        view: View,
    ) -> Result<Self> {
        let objects = Objects::of(store.as_ref(), &root, snapshot, sealed, &view).await?;
        let mut repository = Repository::new(view.seals.clone().unwrap_or_else(|| store.clone()), root.clone());
        if let Some(sealed) = sealed {
            repository = repository.naming(&sealed.statement.foreign_roots);
        }
        let cache = Mutex::new(LruCache::new(CACHED_BLOCKS));
        let shared = Shared {
            store,
            repository,
            name: name.into(),
            root,
            objects,
            cache,
            view,
            recorder: Recorder::default(),
            reads: ReadLogs::default(),
            schema: snapshot.schema.clone(),
            row_key: sealed.map_or([0; 32], |sealed| sealed.row_key),
            evidence: Evidence::of(sealed),
            query: AtomicU64::new(0),
            retains: AtomicBool::new(true),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Where findings of reads through this store are kept.
    pub fn recorder(&self) -> &Recorder {
        &self.shared.recorder
    }

    /// A query begins. Of stores that retain versions, it reads each sealed file in the version that its first read finds.
    pub fn begin_query(&self) {
        self.shared.query.fetch_add(1, Ordering::Relaxed);
    }

    /// From here on the store notes which files and row groups are read through it, by whomever, for as long as the log is kept. Memory: one
    /// entry per file.
    pub fn begin_read_log(&self) -> Arc<ReadLog> {
        self.shared.reads.begin()
    }

    /// Notes that a scan asks for `columns` of the table, where `filters` are on those columns.
    pub fn note_scan(&self, columns: &BTreeSet<String>, filters: &BTreeSet<String>) {
        self.shared.reads.note_scan(columns, filters, &self.shared.schema.partition_columns);
    }

    /// What was read since `log` was begun. Files of which the footer alone was read are there, unless their row groups were pruned.
    ///
    /// Cost: once, the evidence of row groups, if a sealed file was read.
    pub async fn read_files(&self, log: &ReadLog) -> Vec<ReadFile> {
        let shared = &self.shared;
        let mut files = Vec::new();
        for noted in log.noted() {
            let groups = match &noted.sealed {
                Some(file) => shared.evidence.row_groups(&shared.repository, file).await,
                None => None,
            };
            files.extend(noted.read_file(groups, log));
        }
        files
    }

    /// Whether both are one store.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    fn matching(&self, prefix: Option<&Path>, offset: Option<&Path>) -> Vec<ObjectMeta> {
        let under = |path: &Path| prefix.is_none_or(|prefix| path.prefix_match(prefix).is_some_and(|mut rest| rest.next().is_some()));
        let after = |path: &Path| offset.is_none_or(|offset| path > offset);
        let objects = self.shared.objects.0.values();
        objects.filter(|object| under(&object.path) && after(&object.path)).map(Object::meta).collect()
    }
}

impl Shared {
    fn object(&self, path: &Path) -> Result<&Object> {
        self.objects.0.get(path).ok_or_else(|| {
            let why = if path.prefix_match(&self.root).is_none() {
                "the path lies outside of the verified table"
            } else {
                "nothing of this name belongs to the verified version of the table"
            };
            Error::new(ErrorKind::NotFound, why).with("table", &self.name).with("path", path)
        })
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedStore").field("table", &self.name).field("objects", &self.objects.0.len()).finish_non_exhaustive()
    }
}

impl fmt::Display for VerifiedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifiedStore({} on {})", self.shared.name, self.shared.store)
    }
}

fn read_only<T>(path: &Path) -> object_store::Result<T> {
    Err(Error::new(ErrorKind::Permission, "a verified table is read-only").with("path", path).into_object_store(path))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for VerifiedStore {
    async fn put_opts(&self, location: &Path, _: PutPayload, _: PutOptions) -> object_store::Result<PutResult> {
        read_only(location)
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        read_only(location)
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let failed = |e: Error| e.into_object_store(location);
        let object = self.shared.object(location).map_err(failed)?;
        let meta = object.meta();
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            None => 0..meta.size,
            Some(range) => range
                .as_range(meta.size)
                .map_err(|e| failed(Error::new(ErrorKind::InvalidInput, "the range lies beyond the object's end").caused_by(e)))?,
        };
        let payload = if options.head {
            futures::stream::empty().boxed()
        } else {
            self.shared.reads.note(object, std::slice::from_ref(&range));
            if options.range.is_some() && !range.is_empty() && range.end - range.start <= PIECE_BYTES {
                let pieces = self.shared.read_ranges(object, std::slice::from_ref(&range)).await.map_err(failed)?;
                let payload = GetResultPayload::Stream(futures::stream::iter(pieces.into_iter().map(Ok)).boxed());
                return Ok(GetResult { payload, meta, range, attributes: Attributes::new() });
            }
            let path = location.clone();
            let stream = self.shared.read_stream(location, range.clone()).await.map_err(failed)?;
            stream.map_err(move |e| e.into_object_store(&path)).boxed()
        };
        Ok(GetResult { payload: GetResultPayload::Stream(payload), meta, range, attributes: Attributes::new() })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        let failed = |e: Error| e.into_object_store(location);
        let object = self.shared.object(location).map_err(failed)?;
        self.shared.reads.note(object, ranges);
        self.shared.read_ranges(object, ranges).await.map_err(failed)
    }

    fn delete_stream(&self, locations: BoxStream<'static, object_store::Result<Path>>) -> BoxStream<'static, object_store::Result<Path>> {
        locations.map(|location| location.and_then(|location| read_only(&location))).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        futures::stream::iter(self.matching(prefix, None).into_iter().map(Ok)).boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        futures::stream::iter(self.matching(prefix, Some(offset)).into_iter().map(Ok)).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        let mut result = ListResult { common_prefixes: Vec::new(), objects: Vec::new() };
        let base = prefix.cloned().unwrap_or_default();
        for meta in self.matching(prefix, None) {
            let mut rest = meta.location.prefix_match(&base).into_iter().flatten();
            let (first, deeper) = (rest.next(), rest.next().is_some());
            drop(rest);
            match first {
                Some(folder) if deeper => {
                    let folder = base.clone().join(folder);
                    if result.common_prefixes.last() != Some(&folder) {
                        result.common_prefixes.push(folder);
                    }
                }
                _ => result.objects.push(meta),
            }
        }
        Ok(result)
    }

    async fn copy_opts(&self, _: &Path, to: &Path, _: CopyOptions) -> object_store::Result<()> {
        read_only(to)
    }

    async fn rename_opts(&self, _: &Path, to: &Path, _: RenameOptions) -> object_store::Result<()> {
        read_only(to)
    }
}

#[cfg(test)]
mod tests;
