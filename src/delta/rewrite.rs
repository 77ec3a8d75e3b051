//! DELETE and UPDATE: rows are read as verification delivers them, and files that lose or change some are written anew, in one commit.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::logical_expr::Expr;
use deltalake::kernel::transaction::CommitProperties;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, RenameOptions, Result as StoreResult,
};

use super::import::writer_properties;
use super::trusted_log::is_hint;
use super::{Location, delta_error, open, session};
use crate::error::Result;
use crate::verify::VerifiedStore;

const LOG_FOLDER: &str = "_delta_log";
/// Digits of a version in the names of a log.
const VERSION_DIGITS: usize = 20;

/// What becomes of the rows that a predicate selects.
#[derive(Debug, Clone)]
pub(crate) enum Rewrite {
    /// They go.
    Delete,
    /// These columns get these values.
    Update(Vec<(String, Expr)>),
}

/// Rewrites the rows of the table at `location` that `predicate` selects, all without one, in one commit; returns how many, if that is known.
///
/// Rows are those that `verified` delivers of `version`: what was poisoned is refused, and not copied into new files. Commits that others
/// made since are a conflict when they touched the same files. Where it shows a log of our own, no checkpoint is made of that.
pub(crate) async fn rewrite(
    location: &Location,
    verified: &VerifiedStore,
    own_log: bool,
    version: u64,
    predicate: Option<Expr>,
    what: Rewrite,
) -> Result<Option<u64>> {
    let location = &RewriteStore::of(location, verified, version)?;
    let table = open(location, Some(version)).await?;
    let state = Arc::new(session([location])?.state());
    let failed = |e| verified.recorder().first_error().unwrap_or_else(|| delta_error(location, e));
    let properties = match own_log {
        true => CommitProperties::default().with_create_checkpoint(false).with_cleanup_expired_logs(Some(false)),
        false => CommitProperties::default(),
    };
    let count = |rows: usize| u64::try_from(rows).unwrap_or(u64::MAX);
    match what {
        Rewrite::Delete => {
            let mut delete =
                table.delete().with_session_state(state).with_writer_properties(writer_properties()?).with_commit_properties(properties);
            if let Some(predicate) = predicate {
                delete = delete.with_predicate(predicate);
            }
            let (_, metrics) = delete.await.map_err(failed)?;
            Ok(metrics.num_deleted_rows.map(count))
        }
        Rewrite::Update(assignments) => {
            let mut update =
                table.update().with_session_state(state).with_writer_properties(writer_properties()?).with_commit_properties(properties);
            if let Some(predicate) = predicate {
                update = update.with_predicate(predicate);
            }
            for (column, value) in assignments {
                update = update.with_update(column, value);
            }
            let (_, metrics) = update.await.map_err(failed)?;
            Ok(Some(count(metrics.num_updated_rows)))
        }
    }
}

/// A table of which one version is read verified, and which is written to beside that.
#[derive(Debug, Clone)]
struct RewriteStore {
    inner: Arc<dyn ObjectStore>,
    verified: VerifiedStore,
    log: Path,
    version: u64,
}

impl RewriteStore {
    fn of(location: &Location, verified: &VerifiedStore, version: u64) -> Result<Location> {
        let log = location.root().clone().join(LOG_FOLDER);
        let (inner, verified) = (location.store().clone(), verified.clone());
        location.through(Arc::new(Self { inner, verified, log, version }))
    }

    /// Whether the object is one that came after the version that is read: others' commits, and what this one writes into the log.
    fn is_later(&self, path: &Path) -> bool {
        let Some(name) = path.prefix_match(&self.log).and_then(|mut rest| rest.next()) else { return false };
        let version = name.as_ref().get(..VERSION_DIGITS).and_then(|digits| digits.parse::<u64>().ok());
        version.is_some_and(|version| version > self.version) && !is_hint(name.as_ref())
    }

    /// Whether it is listed as the store has it: parts of the log that were judged are listed as they were read.
    fn is_shown(&self, path: &Path) -> bool {
        path.prefix_match(&self.log).is_none() || self.is_later(path)
    }

    /// What was judged of the log, and the store's listing of all else.
    fn with_judged(
        &self,
        judged: BoxStream<'static, StoreResult<ObjectMeta>>,
        stored: BoxStream<'static, StoreResult<ObjectMeta>>,
    ) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let (log, this) = (self.log.clone(), self.clone());
        let judged = judged.try_filter(move |meta| std::future::ready(meta.location.prefix_match(&log).is_some()));
        judged.chain(stored.try_filter(move |meta| std::future::ready(this.is_shown(&meta.location)))).boxed()
    }

    /// Who answers for a path: what verification knows of comes from there alone.
    fn reader(&self, path: &Path) -> &dyn ObjectStore {
        if self.is_later(path) { &*self.inner } else { &self.verified }
    }
}

impl fmt::Display for RewriteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RewriteStore({})", self.inner)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ObjectStore for RewriteStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> StoreResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        self.reader(location).get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        self.reader(location).get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.with_judged(self.verified.list(prefix), self.inner.list(prefix))
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.with_judged(self.verified.list_with_offset(prefix, offset), self.inner.list_with_offset(prefix, offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        let mut found = self.inner.list_with_delimiter(prefix).await?;
        found.objects.retain(|meta| self.is_shown(&meta.location));
        let judged = self.verified.list_with_delimiter(prefix).await?.objects;
        found.objects.extend(judged.into_iter().filter(|meta| meta.location.prefix_match(&self.log).is_some()));
        found.objects.sort_by(|one, other| one.location.cmp(&other.location));
        Ok(found)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> StoreResult<()> {
        self.inner.rename_opts(from, to, options).await
    }
}
