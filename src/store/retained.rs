//! Asking for retained versions through any stack of stores.
//!
//! The question travels in the extensions of a get, which decorators pass on. A store that retains versions answers it; any other
//! ignores it, and so no answer says that nothing is retained.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{Extensions, GetOptions, ObjectStore};

use super::versions::{VersionInfo, VersionState};
use super::{Inner, get};
use crate::ask::{Question, Unchanged, ask, ask_with};
use crate::error::{Error, ErrorKind, Result};

/// The versions of `path` that `store` retains, newest first, tombstones and collected ones included; `None` when it is no store that
/// retains versions. An object that never was has none.
///
/// A version is read with [`GetOptions::version`]. Cost: that of [`ErasureStore::versions`](super::ErasureStore::versions), and a head.
///
/// # Errors
/// [`ErrorKind::Unavailable`] when too few regions answer.
pub async fn retained_versions(store: &dyn ObjectStore, path: &Path) -> Result<Option<Vec<VersionInfo>>> {
    match ask::<Vec<VersionInfo>>(store, path, None).await {
        None => Ok(None),
        Some(Ok(versions)) => Ok(Some(versions)),
        Some(Err(e)) if e.kind() == ErrorKind::NotFound => Ok(Some(Vec::new())),
        Some(Err(e)) => Err(e),
    }
}

/// The versions that can be read and have `size` bytes, newest first, each write once; `None` as for [`retained_versions`].
///
/// # Errors
/// Those of [`retained_versions`].
pub async fn readable_versions(store: &dyn ObjectStore, path: &Path, size: u64) -> Result<Option<Vec<String>>> {
    let Some(versions) = retained_versions(store, path).await? else { return Ok(None) };
    let fits = versions.into_iter().filter(|v| v.state == VersionState::Readable && v.size == size && !v.republished);
    Ok(Some(fits.filter_map(|version| version.version).collect()))
}

/// The ranges of a question after many of them.
#[derive(Debug, Clone)]
struct Ranges(Arc<[Range<u64>]>);

/// Many ranges of one version of `path`, at once, for a caller who **verifies them by digests of its own**: the store does not, unless it has to
/// decode. What turns out wrong is to be read again by `get_ranges`. `None` when `store` is none that retains versions.
///
/// `version` is what a head of the object has said. Cost: one request for each shard that is touched, of the very bytes that are asked for.
///
/// # Errors
/// As `get_ranges`; [`ErrorKind::NotFound`] when there is no such version.
#[cfg_attr(not(feature = "tables"), expect(dead_code, reason = "only verified tables ask it"))]
pub(crate) async fn unverified_ranges(
    store: &dyn ObjectStore,
    path: &Path,
    version: &str,
    ranges: &[Range<u64>],
) -> Option<Result<Vec<Bytes>>> {
    let mut extensions = Extensions::new();
    extensions.insert(Ranges(ranges.into()));
    ask_with(store, path, Some(version), extensions).await
}

impl Inner {
    /// Answers the question that `options` carries, if it carries one.
    pub(super) async fn answer(self: &Arc<Self>, path: &Path, options: &GetOptions) {
        let asked = (options.extensions.get::<Ranges>(), options.extensions.get::<Question<Vec<Bytes>>>(), &options.version);
        if let (Some(Ranges(ranges)), Some(question), Some(version)) = asked {
            question.answer(get::unverified_ranges_at(self, path, version, ranges).await);
        }
        if let Some(question) = options.extensions.get::<Question<Vec<VersionInfo>>>() {
            let versions = self.versions(path).await;
            question.answer(versions);
        }
        if let Some(question) = options.extensions.get::<Question<Vec<Path>>>() {
            let names = self.names_ever(path).await;
            question.answer(names);
        }
        if let (Some(question), Some(version)) = (options.extensions.get::<Question<Unchanged>>(), &options.version) {
            let unchanged = self.unchanged_since(path, version).await;
            question.answer(unchanged);
        }
    }
}

/// More names than this are refused.
const NAMES_LIMIT: usize = 1_000_000;

/// The names below `prefix` that are or were objects, deleted ones included, in order; `None` when `store` retains no versions.
///
/// Cost: a walk of the registers below `prefix` in all regions.
///
/// # Errors
/// [`ErrorKind::Unavailable`] when too few regions answer, [`ErrorKind::Unsupported`] for more names than a million.
pub async fn retained_names(store: &dyn ObjectStore, prefix: &Path) -> Result<Option<Vec<Path>>> {
    ask(store, prefix, None).await.transpose()
}

impl Inner {
    async fn names_ever(&self, prefix: &Path) -> Result<Vec<Path>> {
        let mut walked = self.registers.walk(Some(prefix), None);
        let mut names = Vec::new();
        while let Some(register) = walked.try_next().await? {
            if names.len() >= NAMES_LIMIT {
                return Err(Error::new(ErrorKind::Unsupported, "too many names below this path").with("limit", NAMES_LIMIT));
            }
            names.push(register.path);
        }
        Ok(names)
    }
}
