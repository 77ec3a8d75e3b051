//! A range of an object as a stream, verified block by block.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};

use super::Shared;
use super::objects::Content;
use super::read::{BLOCK, check_ranges, difference};
use crate::digest::{BLOCK_BYTES, BlockList};
use crate::error::{Error, ErrorKind, Result};

impl Shared {
    /// A range of an object as a stream of verified pieces. Holds one block at a time, or one piece once bytes come from elsewhere.
    pub(super) async fn read_stream(self: &Arc<Self>, object_path: &Path, range: Range<u64>) -> Result<BoxStream<'static, Result<Bytes>>> {
        let shared = self.clone();
        let path = object_path.clone();
        let object = shared.object(&path)?;
        check_ranges(object, std::slice::from_ref(&range))?;
        if range.start == range.end && object.size > 0 {
            return Ok(futures::stream::empty().boxed());
        }
        let aligned = (range.start / BLOCK) * BLOCK..range.end.next_multiple_of(BLOCK).min(object.size);
        let blocks = match object.content {
            Content::Later | Content::Own(_) | Content::Trimmed(_) => None,
            Content::Pinned(_) | Content::Vector(_) | Content::Sealed(_) => Some(shared.blocks(object).await?),
        };
        let by_pieces = matches!(object.content, Content::Own(_) | Content::Trimmed(_));
        let inner = if by_pieces {
            None
        } else {
            let options = GetOptions { range: (object.size > 0).then(|| GetRange::Bounded(aligned.clone())), ..GetOptions::default() };
            match shared.store.get_opts(&path, options).await {
                Ok(result) => Some(result.into_stream()),
                Err(error) if shared.settles() => shared.trouble(object, error).await.map(|_| None)?,
                Err(error) => return Err(shared.unreadable(object, error).await),
            }
        };
        let (buffer, at, end) = (BytesMut::new(), aligned.start, aligned.end);
        let state = Reading { shared: self.clone(), path, blocks, inner, buffer, at, end, ended: false };
        let stream = futures::stream::try_unfold(state, move |mut state| {
            let range = range.clone();
            async move {
                let start = state.at;
                let Some(bytes) = state.next_piece().await? else { return Ok(None) };
                let end = start + bytes.len() as u64;
                let from = usize::try_from(range.start.saturating_sub(start)).unwrap_or(usize::MAX).min(bytes.len());
                let to = bytes.len() - usize::try_from(end.saturating_sub(range.end)).unwrap_or(usize::MAX).min(bytes.len());
                Ok(Some((bytes.slice(from..to.max(from)), state)))
            }
        });
        Ok(stream.boxed())
    }
}

/// A stream in progress.
struct Reading {
    shared: Arc<Shared>,
    path: Path,
    blocks: Option<Arc<BlockList>>,
    /// The live object's bytes; absent once they are not what is wanted, or never were.
    inner: Option<BoxStream<'static, object_store::Result<Bytes>>>,
    buffer: BytesMut,
    at: u64,
    end: u64,
    ended: bool,
}

/// What is read at a time when it does not come from the live object's stream.
const PIECE: u64 = 64 * BLOCK;

impl Reading {
    /// The next bytes, verified; `None` at the end of the range.
    async fn next_piece(&mut self) -> Result<Option<Bytes>> {
        if self.at >= self.end && (self.at > 0 || self.ended) {
            return Ok(None);
        }
        self.ended = true;
        let block = match self.inner.is_some() {
            true => self.next_block().await?,
            false => None,
        };
        let bytes = match block {
            Some(block) => block,
            None => {
                self.inner = None;
                let to = (self.at + PIECE).min(self.end);
                let range = self.at..to;
                let object = self.shared.object(&self.path)?;
                let [bytes] = <[Bytes; 1]>::try_from(self.shared.read_ranges(object, &[range]).await?)
                    .map_err(|_| Error::new(ErrorKind::Internal, "one range was asked for and not one came"))?;
                bytes
            }
        };
        self.at += bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// The next block of the live object; `None` when it is not the sealed one and there is something else to be done than to refuse.
    async fn next_block(&mut self) -> Result<Option<Bytes>> {
        let object = self.shared.object(&self.path)?;
        let Some(inner) = &mut self.inner else { return Ok(None) };
        let wanted = usize::try_from((self.end - self.at).min(BLOCK)).unwrap_or(BLOCK_BYTES);
        while self.buffer.len() < wanted {
            match inner.next().await {
                Some(Ok(bytes)) => self.buffer.extend_from_slice(&bytes),
                Some(Err(error)) if self.shared.settles() => return self.shared.trouble(object, error).await.map(|_| None),
                Some(Err(error)) => return Err(self.shared.unreadable(object, error).await),
                None if self.shared.settles() => return Ok(None),
                None => return Err(self.shared.differs(object, Some(self.at..self.end)).await),
            }
        }
        let block = self.buffer.split_to(wanted).freeze();
        let span = self.at..self.at + wanted as u64;
        match self.blocks.as_ref().and_then(|blocks| difference(object, blocks, &span, &block)) {
            None => Ok(Some(block)),
            Some(_) if self.shared.settles() => Ok(None),
            Some(bad) => Err(self.shared.differs(object, Some(bad)).await),
        }
    }
}
