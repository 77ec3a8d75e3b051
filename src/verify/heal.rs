//! Finding the sealed bytes elsewhere: retained versions of the same object, or another live object that is sealed with the same digest.
//!
//! What is served is what has the sealed digest, block by block; never "an older version that happens to verify". Whether an object
//! belongs to the version that was asked for is decided before: only objects that do are ever looked up here.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};

use super::Shared;
use super::damage::places_of;
use super::incident::{Action, Incident};
use super::objects::{Content, Object};
use crate::digest::{BLOCK_BYTES, BlockHasher, BlockList, Digest};
use crate::error::Result;
use crate::store::readable_versions;

/// Retained versions that are tried, the newest first.
const TRIED_VERSIONS: usize = 64;

/// A place where bytes may be had: an object, or one of its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyAt {
    /// The object.
    pub path: Path,
    /// Its version; the newest when absent.
    pub version: Option<String>,
}

impl fmt::Display for CopyAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "version {version} of {}", self.path),
            None => write!(f, "{}", self.path),
        }
    }
}

impl CopyAt {
    /// What to ask the store for.
    pub fn options(&self, range: Option<Range<u64>>) -> GetOptions {
        GetOptions { version: self.version.clone(), range: range.map(GetRange::Bounded), ..GetOptions::default() }
    }
}

/// Finds a copy of an object that has exactly this `size` and `digest`: the live object at `path`, one of its retained versions, the newest
/// first, or one of `others`, which are made out only when the live object is not it.
///
/// Cost: the live object read whole; if that is not it, a list of the versions, and each candidate read whole until one is.
///
/// # Errors
/// The store's, when versions cannot be listed, or when none is found and one could not be asked: what cannot be reached is not lost.
pub async fn find_exact(
    store: &dyn ObjectStore,
    path: &Path,
    others: impl FnOnce() -> Vec<Path>,
    size: u64,
    digest: Digest,
) -> Result<Option<CopyAt>> {
    let live = CopyAt { path: path.clone(), version: None };
    if exact(store, &live, size, digest).await?.is_some() {
        return Ok(Some(live));
    }
    let mut failed = None;
    for copy in copies(store, path, &others(), size).await? {
        match exact(store, &copy, size, digest).await {
            Ok(Some(_)) => return Ok(Some(copy)),
            Ok(None) => {}
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(None), Err)
}

/// The blocks of a copy that has exactly this size and digest; fails only where asking again may help.
async fn exact(store: &dyn ObjectStore, copy: &CopyAt, size: u64, digest: Digest) -> Result<Option<BlockList>> {
    match hash(store, copy, size).await {
        Ok(list) => Ok(Some(list).filter(|list| list.len() == size && list.root() == digest)),
        Err(error) if error.is_retryable() => Err(error),
        Err(_) => Ok(None),
    }
}

/// Where bytes of `size` may be had besides the live object at `path`.
async fn copies(store: &dyn ObjectStore, path: &Path, others: &[Path], size: u64) -> Result<Vec<CopyAt>> {
    let versions = readable_versions(store, path, size).await?.unwrap_or_default();
    let versions = versions.into_iter().take(TRIED_VERSIONS).map(|version| CopyAt { path: path.clone(), version: Some(version) });
    Ok(versions.chain(others.iter().map(|path| CopyAt { path: path.clone(), version: None })).collect())
}

/// The blocks of a copy; reads it whole, and never more than `size` bytes and a bit.
async fn hash(store: &dyn ObjectStore, copy: &CopyAt, size: u64) -> Result<BlockList> {
    let mut stream = store.get_opts(&copy.path, copy.options(None)).await?.into_stream();
    let mut hasher = BlockHasher::new();
    let mut read = 0_u64;
    while let Some(bytes) = stream.try_next().await? {
        hasher.update(&bytes);
        read = read.saturating_add(bytes.len() as u64);
        if read > size {
            break;
        }
    }
    Ok(hasher.finish())
}

impl Shared {
    /// The copies of an object, looked up once.
    async fn copies_of<'a>(&self, object: &'a Object) -> Result<&'a Vec<CopyAt>> {
        object
            .copies
            .get_or_try_init(|| async {
                let Some(digest) = object.digest() else { return Ok(Vec::new()) };
                if self.view.erased.contains(&digest) {
                    return Ok(Vec::new());
                }
                let same = |other: &&Object| other.path != object.path && other.digest() == Some(digest) && other.size == object.size;
                let others: Vec<Path> = self.objects.0.values().filter(same).map(|other| other.path.clone()).collect();
                copies(self.store.as_ref(), &object.path, &others, object.size).await
            })
            .await
    }

    /// The sealed bytes of whole blocks, out of the first copy that has them; `None` when none has.
    pub(super) async fn healed(&self, object: &Object, blocks: &BlockList, span: &Range<u64>) -> Result<Option<Bytes>> {
        let first = usize::try_from(span.start / BLOCK_BYTES as u64).unwrap_or(usize::MAX);
        for copy in self.copies_of(object).await? {
            let range = (object.size > 0).then(|| span.clone());
            let Ok(result) = self.store.get_opts(&copy.path, copy.options(range)).await else { continue };
            let Ok(bytes) = result.bytes().await else { continue };
            let fits = bytes.len() as u64 == span.end - span.start;
            if fits && (object.size == 0 || blocks.first_bad_block(first, &bytes).is_none()) {
                self.tell_healed(object, span, copy).await;
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// The block list of an object of which only the digest is known, made from a copy that has it.
    pub(super) async fn healed_blocks(&self, object: &Object, digest: Digest) -> Result<Option<BlockList>> {
        for copy in self.copies_of(object).await? {
            if let Ok(Some(list)) = exact(self.store.as_ref(), copy, object.size, digest).await {
                return Ok(Some(list));
            }
        }
        Ok(None)
    }

    async fn tell_healed(&self, object: &Object, span: &Range<u64>, copy: &CopyAt) {
        let places = match &object.content {
            Content::Sealed(file) => places_of(self.evidence.row_groups(&self.repository, file).await.unwrap_or_default(), span),
            _ => Vec::new(),
        };
        let damage = self.damage(object, places, "the live bytes are not the sealed ones, or are gone");
        self.recorder.count_healed((span.end - span.start).div_ceil(BLOCK_BYTES as u64));
        self.view.reports.add(Incident { action: Action::Healed, damage, source: Some(copy.to_string()) });
    }

    /// Why nothing could be healed, for the error.
    pub(super) async fn why_not_healed(&self, object: &Object) -> &'static str {
        if object.digest().is_some_and(|digest| self.view.erased.contains(&digest)) {
            return "its data was erased on record, and is not served again";
        }
        match readable_versions(self.store.as_ref(), &object.path, object.size).await {
            Ok(None) => "this store retains no older versions, and no other live object is sealed with the same bytes",
            Ok(Some(_)) => "no retained version has the sealed bytes",
            Err(_) => "the retained versions could not be listed",
        }
    }
}
