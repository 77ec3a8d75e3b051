//! Questions to a store that `object_store` has no call for: they travel in the extensions of a get, through any stack of decorators.
//!
//! A store that knows the answer gives it; any other ignores the question. So whoever asks sees only a `dyn ObjectStore`, on any floor.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use object_store::path::Path;
use object_store::{Extensions, GetOptions, ObjectStore};
use parking_lot::Mutex;

use crate::error::Result;

/// The question in a get's extensions, and the answer, once a store gave one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Question<T>(Arc<Mutex<Option<Result<T>>>>);

impl<T> Question<T> {
    /// Answers.
    pub(crate) fn answer(&self, answer: Result<T>) {
        *self.0.lock() = Some(answer);
    }
}

/// Asks about `path`, or about one version of it; `None` when nobody answered.
pub(crate) async fn ask<T: fmt::Debug + Clone + Default + Send + Sync + 'static>(
    store: &dyn ObjectStore,
    path: &Path,
    version: Option<&str>,
) -> Option<Result<T>> {
    ask_with(store, path, version, Extensions::new()).await
}

/// As [`ask`], with more that belongs to the question beside it.
pub(crate) async fn ask_with<T: fmt::Debug + Clone + Default + Send + Sync + 'static>(
    store: &dyn ObjectStore,
    path: &Path,
    version: Option<&str>,
    mut extensions: Extensions,
) -> Option<Result<T>> {
    let question = Question::<T>::default();
    extensions.insert(question.clone());
    let version = version.map(str::to_owned);
    // The head itself may well fail: the object may be gone.
    let _ = store.get_opts(path, GetOptions { head: true, version, extensions, ..GetOptions::default() }).await;
    question.0.lock().take()
}

/// The version of an object that `stated` names; `None` where it names none.
///
/// A bucket of S3 whose versioning is suspended, or never was on, has one version of each object, named `null`, and overwrites it: that name says
/// nothing of the bytes.
#[cfg(any(test, feature = "tables"))]
pub(crate) fn named_version(stated: Option<&str>) -> Option<&str> {
    stated.filter(|version| !version.is_empty() && *version != "null")
}

/// What of an object is as it was in an older version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unchanged {
    /// The version that was compared: the newest, by the text by which a store is asked for it.
    pub version: String,
    /// Its size in bytes.
    pub size: u64,
    /// The bytes that are the same in both, at the same places: sorted ranges that do not touch. Others may or may not differ.
    pub ranges: Vec<Range<u64>>,
}

impl Unchanged {
    /// Whether all of `range` is known to be the same.
    pub fn covers(&self, range: &Range<u64>) -> bool {
        let at = self.ranges.partition_point(|known| known.end < range.end);
        range.is_empty() || self.ranges.get(at).is_some_and(|known| known.start <= range.start && range.end <= known.end)
    }
}

/// Which bytes of the newest version of `path` are, at the same places, those of the older version with the text `version`; `None` when
/// `store` cannot tell. Nothing is believed of the newest version that its readers would not verify.
///
/// Cost in an erasure store: two versions' manifests; for each segment that differs, the block lists of its shards in both versions (0.05 %
/// of the bytes).
///
/// # Errors
/// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) when one of the two versions is gone,
/// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when too few regions answer.
pub async fn unchanged_since(store: &dyn ObjectStore, path: &Path, version: &str) -> Result<Option<Unchanged>> {
    ask(store, path, Some(version)).await.transpose()
}

#[cfg(test)]
mod tests {
    use super::named_version;

    #[test]
    fn a_name_that_every_object_has_is_none() {
        assert_eq!([Some("null"), Some(""), None].map(named_version), [None; 3]);
        assert_eq!(
            [Some("1"), Some("NULL"), Some("3sL4kqtJlcpXroDTDmJ")].map(named_version),
            [Some("1"), Some("NULL"), Some("3sL4kqtJlcpXroDTDmJ")]
        );
    }
}
