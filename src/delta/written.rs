//! What is known of a data file because it was seen being written: its digest, and its row groups by its footer.
//!
//! A store that hashes what it stores is asked for the digest. Elsewhere bytes are hashed on threads of their own, beside the upload and beside
//! whatever the writer does next: nobody waits for a digest before a commit wants it, unless hashing falls behind.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, PutOptions, PutPayload, PutResult, UploadPart};
use parquet::file::metadata::ParquetMetaDataReader;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use crate::digest::Digest;
use crate::store::DigestWanted;

const MAGIC: &[u8] = b"PAR1";
/// Length of the footer's own length, and the magic after it.
const FOOTER_END_BYTES: usize = 8;
/// The end of an upload that is kept for its footer, in parts: a footer that is longer is not understood, and row groups stay unknown.
const KEPT_PARTS: usize = 2;
/// Whole files whose hashing the writer does not wait for.
const HASHED_BEHIND: usize = 8;

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) size: u64,
    /// Plain BLAKE3.
    pub(super) digest: Digest,
    /// Rows of each row group; absent when the footer was not understood.
    pub(super) row_groups: Option<Vec<u64>>,
}

/// What is going to be known of a file: nothing when hashing was cut short.
pub(super) type Pending = Shared<BoxFuture<'static, Option<Written>>>;

/// How much hashing may lag behind.
#[derive(Debug, Clone)]
pub(super) struct Behind(Arc<Semaphore>);

impl Default for Behind {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(HASHED_BEHIND)))
    }
}

/// Puts a data file, and says what is going to be known of it.
pub(super) async fn put(
    inner: &dyn ObjectStore,
    location: &Path,
    payload: PutPayload,
    mut options: PutOptions,
    behind: &Behind,
) -> object_store::Result<(PutResult, Pending)> {
    let wanted = DigestWanted::default();
    options.extensions.insert(wanted.clone());
    let mut put = inner.put_opts(location, payload.clone(), options);
    // A store that hashes has seen the question by now; for another one, hashing begins while it works.
    let begun = futures::poll!(&mut put);
    let permit = behind.0.clone().try_acquire_owned().ok();
    let has_permit = permit.is_some();
    let here = (!wanted.is_promised()).then(|| {
        let payload = payload.clone();
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            hashed(blake3::Hasher::new(), &payload)
        })
    });
    let result = match begun {
        std::task::Poll::Ready(result) => result?,
        std::task::Poll::Pending => put.await?,
    };
    let size = u64::try_from(payload.content_length()).unwrap_or(u64::MAX);
    let tail = Bytes::from(payload);
    let waits = here.is_some() && !has_permit;
    let pending = match here {
        Some(hashing) => pending(size, async { hashing.await.ok() }.map(finished).boxed(), tail),
        None => pending(size, std::future::ready(answered(&wanted, size)).boxed(), tail),
    };
    if waits {
        pending.clone().await;
    }
    Ok((result, pending))
}

fn finished(hasher: Option<blake3::Hasher>) -> Option<Digest> {
    hasher.map(|hasher| Digest(*hasher.finalize().as_bytes()))
}

fn answered(wanted: &DigestWanted, size: u64) -> Option<Digest> {
    wanted.stored().filter(|stored| stored.size == size).map(|stored| stored.digest)
}

fn hashed(mut hasher: blake3::Hasher, payload: &PutPayload) -> blake3::Hasher {
    for bytes in payload {
        hasher.update(bytes);
    }
    hasher
}

fn pending(size: u64, digest: BoxFuture<'static, Option<Digest>>, tail: Bytes) -> Pending {
    let known = tokio::spawn(async move {
        let row_groups = guarded_rows(tail).await;
        digest.await.map(|digest| Written { size, digest, row_groups })
    });
    known.map(|known| known.ok().flatten()).boxed().shared()
}

/// As [`rows`]. Footers are decoded by a library that panics on some damaged ones: then row groups stay unknown.
async fn guarded_rows(tail: Bytes) -> Option<Vec<u64>> {
    tokio::task::spawn_blocking(move || rows(&tail)).await.ok().flatten()
}

/// The rows of each row group, by the footer at the end of `tail`.
fn rows(tail: &[u8]) -> Option<Vec<u64>> {
    let (before, magic) = tail.split_at_checked(tail.len().checked_sub(MAGIC.len())?)?;
    let (before, length) = before.split_at_checked(tail.len().checked_sub(FOOTER_END_BYTES)?)?;
    let length = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
    let footer = before.get(before.len().checked_sub(length)?..)?;
    let metadata = ParquetMetaDataReader::decode_metadata(footer).ok().filter(|_| magic == MAGIC)?;
    metadata.row_groups().iter().map(|group| u64::try_from(group.num_rows()).ok()).collect()
}

/// Where the digest of an upload comes from.
enum Hashing {
    /// From the store.
    Below(DigestWanted),
    /// From parts that are hashed one after the other, on threads of their own; nothing before the first.
    Here(Option<JoinHandle<Option<blake3::Hasher>>>),
}

/// An upload whose bytes are digested as they pass; parts come in order.
pub(super) struct WrittenUpload<F> {
    inner: Box<dyn MultipartUpload>,
    hashing: Hashing,
    size: u64,
    tail: Vec<PutPayload>,
    done: F,
}

impl<F> WrittenUpload<F> {
    /// `wanted` is what the upload was begun with, `done` is told what is going to be known.
    pub(super) fn new(inner: Box<dyn MultipartUpload>, wanted: DigestWanted, done: F) -> Self {
        let hashing = if wanted.is_promised() { Hashing::Below(wanted) } else { Hashing::Here(None) };
        Self { inner, hashing, size: 0, tail: Vec::new(), done }
    }
}

impl<F> std::fmt::Debug for WrittenUpload<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WrittenUpload").field("inner", &self.inner).field("size", &self.size).finish_non_exhaustive()
    }
}

/// Hashes `part` once `before` is done, and tells `told`.
async fn hash_after(
    before: Option<JoinHandle<Option<blake3::Hasher>>>,
    part: PutPayload,
    told: oneshot::Sender<()>,
) -> Option<blake3::Hasher> {
    let hasher = match before {
        Some(before) => before.await.ok().flatten()?,
        None => blake3::Hasher::new(),
    };
    let hasher = tokio::task::spawn_blocking(move || hashed(hasher, &part)).await.ok()?;
    let _ = told.send(());
    Some(hasher)
}

#[async_trait]
impl<F: Fn(Pending) + Send + Sync> MultipartUpload for WrittenUpload<F> {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.size = self.size.saturating_add(u64::try_from(data.content_length()).unwrap_or(u64::MAX));
        if self.tail.len() >= KEPT_PARTS {
            self.tail.remove(0);
        }
        self.tail.push(data.clone());
        let Hashing::Here(before) = &mut self.hashing else { return self.inner.put_part(data) };
        let (told, hashed) = oneshot::channel();
        *before = Some(tokio::spawn(hash_after(before.take(), data.clone(), told)));
        let put = self.inner.put_part(data);
        // A part is held in memory until it is hashed: whoever bounds the parts in flight bounds that too.
        Box::pin(async move { futures::join!(put, hashed).0 })
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        let result = self.inner.complete().await?;
        let mut tail = BytesMut::new();
        self.tail.drain(..).for_each(|part| part.iter().for_each(|bytes| tail.extend_from_slice(bytes)));
        let digest = match &mut self.hashing {
            Hashing::Below(wanted) => std::future::ready(answered(wanted, self.size)).boxed(),
            Hashing::Here(before) => match before.take() {
                Some(hashing) => async { hashing.await.ok().flatten() }.map(finished).boxed(),
                None => std::future::ready(finished(Some(blake3::Hasher::new()))).boxed(),
            },
        };
        (self.done)(pending(self.size, digest, tail.freeze()));
        Ok(result)
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        self.inner.abort().await
    }
}
