//! Streaming uploads: parts are taken in the order of `put_part`, whatever the order in which their futures are polled.
//!
//! The slot is not known until `complete`, so the shards carry a placeholder instead of it
//! ([`STREAMED_SLOT`](crate::format::manifest::STREAMED_SLOT)), and `complete` takes one round trip more, to bind the write to its slot.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{Attributes, MultipartUpload, PutMultipartOptions, PutPayload, PutResult, UploadPart};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{Instrument as _, debug_span};

use super::Inner;
use super::decide::{Condition, Draft};
use super::digest_wanted::DigestWanted;
use super::put::result;
use super::resolve::Version;
use super::streamed;
use super::upload::Uploader;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::format::manifest::{STREAMED_SLOT, check_attributes};
use crate::id::WriteId;

/// A part, and whom to tell that it was taken.
type Part = (PutPayload, oneshot::Sender<Result<()>>);

pub(super) struct Multipart {
    inner: Arc<Inner>,
    path: Path,
    write_id: WriteId,
    attributes: Attributes,
    wanted: Option<DigestWanted>,
    parts: Option<mpsc::UnboundedSender<Part>>,
    worker: Option<JoinHandle<(Uploader, Result<()>)>>,
}

impl std::fmt::Debug for Multipart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Multipart").field("path", &self.path).field("write_id", &self.write_id).finish_non_exhaustive()
    }
}

impl Multipart {
    pub(super) fn begin(inner: &Arc<Inner>, path: &Path, options: PutMultipartOptions) -> Result<Self> {
        check_attributes(&options.attributes)?;
        let write_id = WriteId::random()?;
        let upload = Uploader::new(Arc::clone(inner), path, write_id, STREAMED_SLOT)?;
        let (parts, queue) = mpsc::unbounded_channel();
        Ok(Self {
            inner: Arc::clone(inner),
            path: path.clone(),
            write_id,
            wanted: DigestWanted::promise(&options.extensions),
            attributes: options.attributes,
            parts: Some(parts),
            worker: Some(tokio::spawn(work(upload, queue))),
        })
    }

    async fn finished(&mut self) -> Result<(Uploader, Result<()>)> {
        // Without a sender the worker ends after the parts that it has.
        self.parts = None;
        let worker = self.worker.take().ok_or_else(|| ended(&self.path))?;
        worker.await.map_err(|e| Error::new(ErrorKind::Internal, "an upload was stopped").caused_by(e))
    }

    async fn decide(&mut self) -> Result<Arc<Version>> {
        failpoint!("multipart.before-complete");
        let (mut upload, outcome) = self.finished().await?;
        let finished = match outcome {
            Ok(()) => upload.finish().await,
            Err(error) => Err(error),
        };
        let (content, digest) = match finished {
            Ok(done) => done,
            Err(error) => {
                upload.discard();
                return Err(error);
            }
        };
        let draft = Draft { content, digest, attributes: std::mem::take(&mut self.attributes) };
        failpoint!("multipart.after-shards");
        let condition = Condition::Overwrite;
        let before = match self.inner.guessed(&self.path, &condition).await {
            Ok(before) => before,
            Err(error) => {
                upload.discard();
                return Err(error);
            }
        };
        let version = streamed::decide(&self.inner, &self.path, &condition, before, (upload, self.write_id, draft)).await?;
        failpoint!("multipart.after-complete");
        Ok(version)
    }
}

/// Takes parts as they come; after a failure it only answers with it.
async fn work(mut upload: Uploader, mut queue: mpsc::UnboundedReceiver<Part>) -> (Uploader, Result<()>) {
    let mut failed: Option<Error> = None;
    while let Some((part, done)) = queue.recv().await {
        let outcome = match &failed {
            Some(error) => Err(again(error)),
            None => take(&mut upload, part).await,
        };
        if let Err(error) = &outcome {
            failed.get_or_insert_with(|| again(error));
        }
        // Whoever dropped the part's future learns of a failure from `complete`.
        let _ = done.send(outcome);
    }
    (upload, failed.map_or(Ok(()), Err))
}

async fn take(upload: &mut Uploader, part: PutPayload) -> Result<()> {
    for piece in part {
        upload.push(piece).await?;
    }
    Ok(())
}

/// The same failure for the next who asks.
fn again(error: &Error) -> Error {
    Error::new(error.kind(), error.to_string())
}

fn ended(path: &Path) -> Error {
    Error::new(ErrorKind::InvalidInput, "the upload was completed or aborted already").with("path", path)
}

#[async_trait]
impl MultipartUpload for Multipart {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (done, outcome) = oneshot::channel();
        let sent = self.parts.as_ref().is_some_and(|parts| parts.send((data, done)).is_ok());
        let path = self.path.clone();
        Box::pin(async move {
            let outcome = if sent { outcome.await.unwrap_or_else(|_| Err(ended(&path))) } else { Err(ended(&path)) };
            outcome.map_err(|e| e.into_object_store(&path))
        })
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        let span = debug_span!("complete", path = %self.path, write_id = %self.write_id);
        let version = self.decide().instrument(span).await.map_err(|e| e.into_object_store(&self.path))?;
        if let Some(wanted) = &self.wanted {
            wanted.answer(&version.manifest);
        }
        Ok(result(&version))
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        failpoint!("multipart.before-abort");
        // `complete` has discarded what no version can name, and nothing else may go: after an unknown outcome a version may name the
        // rest. Whoever aborts behind its failure (`WriteMultipart::finish` does) is to learn of that one.
        if self.worker.is_none() {
            return Ok(());
        }
        let (upload, _) = self.finished().await.map_err(|e| e.into_object_store(&self.path))?;
        upload.discard();
        Ok(())
    }
}
