//! Putting an object: small ones inside their manifest, others as shards that are durable before the first vote.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{Attributes, PutOptions, PutPayload, PutResult};

use super::Inner;
use super::decide::{Attempt, Condition, Draft, LOST_LIMIT, contended, next_slot};
use super::digest_wanted::DigestWanted;
use super::resolve::Version;
use super::upload::Uploader;
use crate::digest::Digest;
use crate::error::Result;
use crate::failpoint::failpoint;
use crate::format::manifest::{Content, check_attributes};
use crate::id::WriteId;

pub(super) async fn put(inner: &Arc<Inner>, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
    let wanted = DigestWanted::promise(&options.extensions);
    let condition = Condition::of(options.mode)?;
    let size = payload.content_length() as u64;
    let version = if size <= inner.inline_limit(path) {
        put_inline(inner, path, payload.into(), options.attributes, &condition).await?
    } else {
        put_sharded(inner, path, payload, options.attributes, &condition).await?
    };
    if let Some(wanted) = wanted {
        wanted.answer(&version.manifest);
    }
    Ok(result(&version))
}

pub(super) fn result(version: &Version) -> PutResult {
    PutResult { e_tag: Some(version.manifest.write_id.to_string()), version: Some(version.manifest.version()) }
}

/// A new object costs one create a region and nothing else, for slot 0 needs no asking.
pub(super) async fn put_inline(
    inner: &Inner,
    path: &Path,
    bytes: Bytes,
    attributes: Attributes,
    condition: &Condition,
) -> Result<Arc<Version>> {
    let draft = Draft { digest: Digest::of(&bytes), content: Content::Inline(bytes), attributes };
    let mut before = inner.guessed(path, condition).await?;
    for _ in 0..LOST_LIMIT {
        let attempt = inner.propose(path, before.as_deref(), WriteId::random()?, draft.clone()).await;
        #[cfg(test)]
        let attempt = match attempt {
            Err(_) if crate::register::mutant::is_on(crate::register::mutant::Mutant::RepeatUnknown) => Ok(Attempt::Lost(None)),
            attempt => attempt,
        };
        match attempt? {
            Attempt::Won(version) => return Ok(version),
            Attempt::Lost(newest) => before = inner.admitted_behind(path, condition, newest).await?,
        }
    }
    Err(contended(path))
}

/// Shards are named by write id and slot: whoever loses the slot uploads again, so that orphans can be told by their names.
async fn put_sharded(
    inner: &Arc<Inner>,
    path: &Path,
    payload: PutPayload,
    attributes: Attributes,
    condition: &Condition,
) -> Result<Arc<Version>> {
    check_attributes(&attributes)?;
    let mut before = inner.admitted(path, condition).await?;
    for _ in 0..LOST_LIMIT {
        let write_id = WriteId::random()?;
        let mut upload = Uploader::new(Arc::clone(inner), path, write_id, next_slot(before.as_deref())?)?;
        let (content, digest) = match send(&mut upload, payload.iter().cloned()).await {
            Ok(done) => done,
            Err(error) => {
                upload.discard();
                return Err(error);
            }
        };
        failpoint!("put.after-shards");
        let draft = Draft { content, digest, attributes: attributes.clone() };
        match inner.propose(path, before.as_deref(), write_id, draft).await {
            Ok(Attempt::Won(version)) => {
                upload.won();
                return Ok(version);
            }
            Err(error) => return Err(upload.failed(error)),
            // Another value is decided in the slot that these shards are named after: nothing can refer to them any more.
            Ok(Attempt::Lost(newest)) => {
                upload.discard();
                before = inner.admitted_behind(path, condition, newest).await?;
            }
        }
    }
    Err(contended(path))
}

async fn send(upload: &mut Uploader, pieces: impl Iterator<Item = Bytes>) -> Result<(Content, Digest)> {
    for piece in pieces {
        upload.push(piece).await?;
    }
    upload.finish().await
}

impl Inner {
    /// Up to how many bytes an object at `path` is kept inside its manifest.
    pub(super) fn inline_limit(&self, path: &Path) -> u64 {
        let is_log = path.parts().any(|part| part.as_ref() == "_delta_log");
        if is_log { self.profile.inline_log_bytes.max(self.profile.inline_bytes) } else { self.profile.inline_bytes }
    }
}
