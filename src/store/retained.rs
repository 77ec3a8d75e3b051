//! Asking for retained versions through any stack of stores.
//!
//! The question travels in the extensions of a get, which decorators pass on. A store that retains versions answers it; any other
//! ignores it, and so no answer says that nothing is retained.

use std::sync::Arc;

use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore};

use super::Inner;
use super::versions::{VersionInfo, VersionState};
use crate::ask::{Question, Unchanged, ask};
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

impl Inner {
    /// Answers the question that `options` carries, if it carries one.
    pub(super) async fn answer(self: &Arc<Self>, path: &Path, options: &GetOptions) {
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
