//! A store that attests every Delta commit made through it: the attestation is durable before the commit is created.
//!
//! It sees the exact bytes and version of every attempt of every engine, retries included. An attempt that loses its race, or stops before
//! its create, leaves an attestation that names no commit: an orphan, which accuses nobody. `docs/decisions/0020-attestations.md`.

use std::borrow::Cow;
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
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
};
use parking_lot::Mutex;
use url::Url;

use super::operation::{Operation, engine_versions, user_name};
use super::scheme::lake_url;
use super::written::{self, Behind, Pending, WrittenUpload};
use super::{LakeStore, Location};
use crate::baseline::{
    ATTESTATION_LIMIT_BYTES, Attestation, AttestationName, AttestedCommit, SEAL_FOLDER, attestation_envelope, read_attestation,
};
use crate::clock::SharedClock;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::key::Signer;
use crate::lineage::{CommitActions, Lineage};
use crate::store::DigestWanted;
use crate::table::{self, CanonicalPath, commit_path, parse_commit_path, read_commit};

/// Files whose digests are remembered until a commit names them.
const WRITTEN_FILES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(65_535);
/// Tables of which the newest own commit is remembered.
const KNOWN_TABLES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(255);

/// Attests the commits that are made through it.
#[derive(Clone)]
pub struct AttestingStore {
    inner: Arc<dyn ObjectStore>,
    shared: Arc<Shared>,
}

struct Shared {
    key: Arc<dyn Signer>,
    clock: SharedClock,
    naming: Naming,
    written: Mutex<LruCache<Path, Pending>>,
    behind: Behind,
    known: Mutex<LruCache<Path, Known>>,
}

/// How a table's place in the store becomes its URL.
enum Naming {
    /// Any table of a lake: the lake's URL and the place.
    Lake(Url),
    /// One table.
    Table(Url),
}

/// What is known of a table from its newest own commit.
#[derive(Clone)]
struct Known {
    table_id: String,
    version: u64,
    commit: Digest,
    /// The commit's tag, by which it is known that it is still the one that is there.
    e_tag: Option<String>,
}

/// A commit that is about to be made.
struct Attempt {
    root: Path,
    version: u64,
    /// The table's URL.
    uri: String,
    bytes: Bytes,
    actions: CommitActions,
}

/// What a commit follows.
struct Base {
    /// The digest of the commit before; absent when there is none any more.
    previous: Option<Digest>,
    table_id: String,
}

impl AttestingStore {
    fn new(inner: Arc<dyn ObjectStore>, key: Arc<dyn Signer>, clock: SharedClock, naming: Naming) -> Self {
        let written = Mutex::new(LruCache::new(WRITTEN_FILES));
        let known = Mutex::new(LruCache::new(KNOWN_TABLES));
        Self { inner, shared: Arc::new(Shared { key, clock, naming, written, behind: Behind::default(), known }) }
    }

    /// `lake`, with every commit to any of its tables attested by `key`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the lake's name cannot be the authority of a URL.
    pub fn around_lake(lake: &LakeStore, key: Arc<dyn Signer>, clock: SharedClock) -> Result<LakeStore> {
        let store = Self::new(lake.store.clone(), key, clock, Naming::Lake(lake_url(&lake.name)?));
        Ok(LakeStore { name: lake.name.clone(), store: Arc::new(store) })
    }

    /// The table at `location`, with every commit to it attested by `key`.
    ///
    /// # Errors
    /// As [`Location::through`].
    pub fn around_table(location: &Location, key: Arc<dyn Signer>, clock: SharedClock) -> Result<Location> {
        let store = Self::new(location.store().clone(), key, clock, Naming::Table(location.url().clone()));
        location.through(Arc::new(store))
    }

    async fn commit(
        &self,
        location: &Path,
        (root, version): (Path, u64),
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<object_store::Result<PutResult>> {
        let bytes = Bytes::from(payload.clone());
        let actions = CommitActions::parse(&bytes).map_err(|e| e.with("commit", version))?;
        let attempt = Attempt { uri: self.shared.naming.url(&root), root, version, bytes, actions };
        let (name, table_id) = self.attest(&attempt, options.extensions.get()).await?;
        failpoint!("attest.before-create");
        let made = self.inner.put_opts(location, payload, options).await;
        failpoint!("attest.after-create");
        if let Ok(made) = &made {
            self.shared.known.lock().put(attempt.root, Known { table_id, version, commit: name.commit, e_tag: made.e_tag.clone() });
        }
        Ok(made)
    }

    /// Makes the attestation of a commit durable; its name, and the table's id.
    ///
    /// Cost: a PUT, and beside it a HEAD of the commit before where that was made through this store, for the table may have been made anew since: then,
    /// and where it was not, what [`Self::base`] takes, before the PUT.
    async fn attest(&self, attempt: &Attempt, operation: Option<&Operation>) -> Result<(AttestationName, String)> {
        let lineage = self.lineage(attempt, operation);
        let Some(known) = self.known_before(attempt) else {
            let (base, lineage) = futures::join!(self.base(attempt), lineage);
            return self.store(attempt, base?, &lineage).await;
        };
        let is_still = self.is_still_there(attempt, &known);
        let expected =
            Base { previous: Some(known.commit), table_id: attempt.actions.table_id.clone().unwrap_or_else(|| known.table_id.clone()) };
        let stored = async {
            let lineage = lineage.await;
            self.store(attempt, expected, &lineage).await.map(|stored| (stored, lineage))
        };
        let (is_still, stored) = futures::join!(is_still, stored);
        let (stored, lineage) = stored?;
        if is_still? {
            return Ok(stored);
        }
        // It is of no commit yet, so that nobody misses what was expected and is not so.
        self.store(attempt, self.base(attempt).await?, &lineage).await
    }

    /// The commit before, where it was made through this store, and its tag tells whether it is still the one that is there.
    fn known_before(&self, attempt: &Attempt) -> Option<Known> {
        let before = attempt.version.checked_sub(1)?;
        self.shared.known.lock().get(&attempt.root).filter(|known| known.version == before && known.e_tag.is_some()).cloned()
    }

    async fn is_still_there(&self, attempt: &Attempt, known: &Known) -> Result<bool> {
        match self.inner.head(&commit_path(&attempt.root, known.version)).await {
            Ok(meta) => Ok(meta.e_tag == known.e_tag),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(Error::from(e).with("commit", known.version)),
        }
    }

    /// What a commit follows, as the log has it now.
    ///
    /// Delta's id of the table comes from the commit, from the one before it, from an own attestation of that, else from the whole log. What is known of any
    /// other commit than the one before may be of another table, or of the time before the id was changed.
    ///
    /// Cost: one GET of the commit before; where neither states the id, one of its own attestation; where there is none, the log.
    async fn base(&self, attempt: &Attempt) -> Result<Base> {
        let Attempt { root, version, actions, .. } = attempt;
        let Some(before) = version.checked_sub(1) else {
            let missing = || Error::new(ErrorKind::InvalidInput, "the first commit of a table states no metaData").with("table", root);
            return Ok(Base { previous: None, table_id: actions.table_id.clone().ok_or_else(missing)? });
        };
        let bytes = match read_commit(&*self.inner, root, before).await {
            Ok(bytes) => Some(bytes),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let previous = bytes.as_ref().map(|bytes| Digest::of(bytes));
        let stated = bytes.and_then(|bytes| CommitActions::parse(&bytes).ok()?.table_id);
        let known = self.shared.known.lock().get(root).filter(|known| known.version == before && Some(known.commit) == previous).cloned();
        if let Some(table_id) = actions.table_id.clone().or(stated).or(known.map(|known| known.table_id)) {
            return Ok(Base { previous, table_id });
        }
        if let Some(commit) = previous {
            let own = self.shared.key.public();
            let name = AttestationName { version: before, commit, key: own.id() };
            if let Some(found) = read_attestation(&*self.inner, root, &name, std::slice::from_ref(&own)).await? {
                return Ok(Base { previous, table_id: found.commit.table_id });
            }
        }
        Ok(Base { previous, table_id: table::load(&*self.inner, root, Some(before)).await?.table_id })
    }

    async fn store(&self, attempt: &Attempt, base: Base, lineage: &Lineage) -> Result<(AttestationName, String)> {
        let Attempt { root, version, uri, bytes, .. } = attempt;
        let commit = AttestedCommit::of(base.table_id.clone(), uri.clone(), *version, bytes, base.previous);
        let name = AttestationName { version: *version, commit: commit.commit, key: self.shared.key.public().id() };
        let envelope = self.envelope(commit, lineage).await?;
        self.inner.put(&name.path(root), envelope.into()).await?;
        Ok((name, base.table_id))
    }

    /// What the commit is recorded to be made from.
    async fn lineage(&self, attempt: &Attempt, operation: Option<&Operation>) -> Lineage {
        let mut lineage = match operation {
            Some(operation) => operation.0.lineage().await,
            None => attempt.actions.lineage(&attempt.uri, attempt.version),
        };
        self.complete(&mut lineage, &attempt.root, &attempt.actions).await;
        lineage
    }

    /// Adds what this store knows: which files were written and removed, when, by which versions.
    async fn complete(&self, lineage: &mut Lineage, root: &Path, actions: &CommitActions) {
        lineage.outputs = actions.outputs();
        lineage.removed = Some(actions.removed());
        for output in &mut lineage.outputs {
            let place = CanonicalPath::Inside(output.path.clone()).location(root);
            let pending = place.and_then(|place| self.shared.written.lock().get(&place).cloned());
            let known = match pending {
                Some(pending) => pending.await,
                None => None,
            };
            // Only what was written as the commit says it is.
            if let Some(known) = known.filter(|known| known.size == output.size) {
                output.digest = Some(known.digest);
                output.row_groups = known.row_groups;
            }
        }
        let engine = engine_versions();
        lineage.transformation.engine.extend(engine);
        if lineage.transformation.parameters.is_empty() {
            lineage.transformation.parameters.clone_from(&actions.parameters);
        }
        lineage.actor = user_name().or_else(|| lineage.actor.take());
        lineage.finished_ms = Some(self.shared.clock.now_ms());
        lineage.invocation = Some(uuid::Uuid::new_v4().to_string());
    }

    /// The object that is stored. Lineage that would be larger than readers accept loses its details, not its tables.
    async fn envelope(&self, commit: AttestedCommit, lineage: &Lineage) -> Result<Vec<u8>> {
        let builder = format!("urn:lakeseal:writer:{}", self.shared.key.public().id());
        let outputs = |lineage: &Lineage| -> Vec<(String, Digest)> {
            lineage.outputs.iter().filter_map(|output| Some((output.path.clone(), output.digest?))).collect()
        };
        for is_bare in [false, true] {
            let lineage = if is_bare { Cow::Owned(bare(lineage)) } else { Cow::Borrowed(lineage) };
            let attestation = Attestation { commit: commit.clone(), provenance: lineage.to_provenance(&builder) };
            let envelope = attestation_envelope(&*self.shared.key, attestation.statement(&outputs(lineage.as_ref()))).await?;
            if envelope.len() as u64 <= ATTESTATION_LIMIT_BYTES {
                return Ok(envelope);
            }
        }
        Err(Error::new(ErrorKind::Unsupported, "the commit names too many files to be attested; write them in several commits")
            .with("files", lineage.outputs.len()))
    }
}

/// Lineage without what is long.
fn bare(lineage: &Lineage) -> Lineage {
    let mut lineage = lineage.clone();
    lineage.inputs.iter_mut().for_each(|input| input.files = None);
    lineage.removed = None;
    lineage.transformation.plan = None;
    lineage.outputs.iter_mut().for_each(|output| output.row_groups = None);
    lineage
}

impl Naming {
    fn url(&self, root: &Path) -> String {
        match self {
            Self::Table(url) => url.to_string(),
            Self::Lake(url) => {
                let mut url = url.clone();
                url.set_path(root.as_ref());
                url.to_string()
            }
        }
    }
}

/// Whether an object is a data file of some table.
pub(super) fn is_data(location: &Path) -> bool {
    let inner = |part: &str| part == "_delta_log" || part == SEAL_FOLDER;
    location.filename().is_some_and(|name| name.ends_with(".parquet")) && !location.parts().any(|part| inner(part.as_ref()))
}

impl fmt::Debug for AttestingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttestingStore").field("inner", &self.inner).field("key", &self.shared.key.public()).finish_non_exhaustive()
    }
}

impl fmt::Display for AttestingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AttestingStore({})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for AttestingStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        if let Some(commit) = parse_commit_path(location).filter(|_| options.mode == PutMode::Create) {
            return match self.commit(location, commit, payload, options).await {
                Ok(made) => made,
                Err(error) => {
                    let error = Error::new(error.kind(), "the commit could not be attested, and was not made").caused_by(error);
                    Err(error.into_object_store(location))
                }
            };
        }
        if !is_data(location) {
            return self.inner.put_opts(location, payload, options).await;
        }
        let (result, pending) = written::put(&self.inner, location, payload, options, &self.shared.behind).await?;
        self.shared.written.lock().put(location.clone(), pending);
        Ok(result)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        mut options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        if !is_data(location) {
            return self.inner.put_multipart_opts(location, options).await;
        }
        let wanted = DigestWanted::default();
        options.extensions.insert(wanted.clone());
        let upload = self.inner.put_multipart_opts(location, options).await?;
        let (shared, location) = (self.shared.clone(), location.clone());
        Ok(Box::new(WrittenUpload::new(upload, wanted, move |pending| drop(shared.written.lock().put(location.clone(), pending)))))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, object_store::Result<Path>>) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> object_store::Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests;
