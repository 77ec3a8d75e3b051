//! A store that attests every Delta commit made through it: the attestation is durable before the commit is created.
//!
//! It sees the exact bytes and version of every attempt of every engine, retries included. An attempt that loses its race, or stops before
//! its create, leaves an attestation that names no commit: an orphan, which accuses nobody. `docs/decisions/0020-attestations.md`.

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
    ATTESTATION_LIMIT_BYTES, Attestation, AttestationName, AttestedCommit, SEAL_FOLDER, attestation_envelope, attestation_names,
    read_attestation,
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
        let previous = self.previous(&root, version).await?;
        let table_id = self.table_id(&root, version, previous, &actions).await?;
        let uri = self.shared.naming.url(&root);
        let mut lineage = match options.extensions.get::<Operation>() {
            Some(operation) => operation.0.lineage().await,
            None => actions.lineage(&uri, version),
        };
        self.complete(&mut lineage, &root, &actions).await;
        let commit = AttestedCommit::of(table_id.clone(), uri, version, &bytes, previous);
        let name = AttestationName { version, commit: commit.commit, key: self.shared.key.public().id() };
        let envelope = self.envelope(commit, lineage).await?;
        self.inner.put(&name.path(&root), envelope.into()).await?;
        failpoint!("attest.before-create");
        let made = self.inner.put_opts(location, payload, options).await;
        failpoint!("attest.after-create");
        if let Ok(made) = &made {
            self.shared.known.lock().put(root, Known { table_id, version, commit: name.commit, e_tag: made.e_tag.clone() });
        }
        Ok(made)
    }

    /// The digest of the commit before; absent when there is none any more.
    ///
    /// Cost: one HEAD of that commit where it was made through this store, for the table may have been made anew since; else one GET.
    async fn previous(&self, root: &Path, version: u64) -> Result<Option<Digest>> {
        let Some(before) = version.checked_sub(1) else { return Ok(None) };
        let known = self.shared.known.lock().get(root).filter(|known| known.version == before).cloned();
        if let Some(Known { commit, e_tag: Some(e_tag), .. }) = known {
            match self.inner.head(&commit_path(root, before)).await {
                Ok(meta) if meta.e_tag.as_ref() == Some(&e_tag) => return Ok(Some(commit)),
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                Ok(_) => {}
                Err(e) => return Err(Error::from(e).with("commit", before)),
            }
        }
        match read_commit(&*self.inner, root, before).await {
            Ok(bytes) => Ok(Some(Digest::of(&bytes))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Delta's id of the table: from the commit, from the own one before it, from an own attestation of that, else from the log.
    ///
    /// `previous` is the commit before. What is known of any other one may be of another table, or of the time before the id was changed.
    async fn table_id(&self, root: &Path, version: u64, previous: Option<Digest>, actions: &CommitActions) -> Result<String> {
        if let Some(id) = &actions.table_id {
            return Ok(id.clone());
        }
        let Some(before) = version.checked_sub(1) else {
            return Err(Error::new(ErrorKind::InvalidInput, "the first commit of a table states no metaData").with("table", root));
        };
        let is_before = |version: u64, commit: Digest| version == before && Some(commit) == previous;
        let known = self.shared.known.lock().get(root).cloned();
        if let Some(known) = known.filter(|known| is_before(known.version, known.commit)) {
            return Ok(known.table_id);
        }
        let own = self.shared.key.public();
        let names = attestation_names(&*self.inner, root, before.checked_sub(1)).await?;
        for name in names.iter().filter(|name| is_before(name.version, name.commit)) {
            if let Some(found) = read_attestation(&*self.inner, root, name, std::slice::from_ref(&own)).await? {
                return Ok(found.commit.table_id);
            }
        }
        Ok(table::load(&*self.inner, root, Some(before)).await?.table_id)
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
    async fn envelope(&self, commit: AttestedCommit, mut lineage: Lineage) -> Result<Vec<u8>> {
        let builder = format!("urn:lakeseal:writer:{}", self.shared.key.public().id());
        let outputs = |lineage: &Lineage| -> Vec<(String, Digest)> {
            lineage.outputs.iter().filter_map(|output| Some((output.path.clone(), output.digest?))).collect()
        };
        for is_bare in [false, true] {
            if is_bare {
                lineage.inputs.iter_mut().for_each(|input| input.files = None);
                lineage.removed = None;
                lineage.transformation.plan = None;
                lineage.outputs.iter_mut().for_each(|output| output.row_groups = None);
            }
            let attestation = Attestation { commit: commit.clone(), provenance: lineage.to_provenance(&builder) };
            let envelope = attestation_envelope(&*self.shared.key, attestation.statement(&outputs(&lineage))).await?;
            if envelope.len() as u64 <= ATTESTATION_LIMIT_BYTES {
                return Ok(envelope);
            }
        }
        Err(Error::new(ErrorKind::Unsupported, "the commit names too many files to be attested; write them in several commits")
            .with("files", lineage.outputs.len()))
    }
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
