//! What is known of a data file because it was seen being written: its digest, and its row groups by its footer.

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use object_store::{MultipartUpload, PutPayload, PutResult, UploadPart};
use parquet::file::metadata::ParquetMetaDataReader;

use crate::digest::Digest;

const MAGIC: &[u8] = b"PAR1";
/// Length of the footer's own length, and the magic after it.
const FOOTER_END_BYTES: usize = 8;
/// The end of an upload that is kept for its footer, in parts: a footer that is longer is not understood, and row groups stay unknown.
const KEPT_PARTS: usize = 2;

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) size: u64,
    /// Plain BLAKE3.
    pub(super) digest: Digest,
    /// Rows of each row group; absent when the footer was not understood.
    pub(super) row_groups: Option<Vec<u64>>,
}

impl Written {
    /// Digests a whole file.
    pub(super) async fn of(payload: PutPayload) -> Self {
        let size = u64::try_from(payload.content_length()).unwrap_or(u64::MAX);
        let bytes = Bytes::from(payload);
        let digest = Digest::of(&bytes);
        Self { size, digest, row_groups: guarded_rows(bytes).await }
    }
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

/// An upload whose bytes are digested as they pass; parts come in order.
pub(super) struct WrittenUpload<F> {
    inner: Box<dyn MultipartUpload>,
    hasher: blake3::Hasher,
    size: u64,
    tail: Vec<PutPayload>,
    done: F,
}

impl<F> WrittenUpload<F> {
    pub(super) fn new(inner: Box<dyn MultipartUpload>, done: F) -> Self {
        Self { inner, hasher: blake3::Hasher::new(), size: 0, tail: Vec::new(), done }
    }
}

impl<F> std::fmt::Debug for WrittenUpload<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WrittenUpload").field("inner", &self.inner).field("size", &self.size).finish_non_exhaustive()
    }
}

#[async_trait]
impl<F: Fn(Written) + Send + Sync> MultipartUpload for WrittenUpload<F> {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        for bytes in &data {
            self.hasher.update(bytes);
        }
        self.size = self.size.saturating_add(u64::try_from(data.content_length()).unwrap_or(u64::MAX));
        if self.tail.len() >= KEPT_PARTS {
            self.tail.remove(0);
        }
        self.tail.push(data.clone());
        self.inner.put_part(data)
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        let result = self.inner.complete().await?;
        let mut tail = BytesMut::new();
        self.tail.drain(..).for_each(|part| part.iter().for_each(|bytes| tail.extend_from_slice(bytes)));
        let row_groups = guarded_rows(tail.freeze()).await;
        (self.done)(Written { size: self.size, digest: Digest(*self.hasher.finalize().as_bytes()), row_groups });
        Ok(result)
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        self.inner.abort().await
    }
}
