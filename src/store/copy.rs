//! Copying and renaming. A copy has shards of its own, so that neither object's fate touches the other.

use std::sync::Arc;

use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{CopyMode, RenameTargetMode};

use super::Inner;
use super::decide::{Condition, Draft};
use super::delete::delete_write;
use super::get::stream_range;
use super::put::put_inline;
use super::resolve::Version;
use super::streamed;
use super::upload::Uploader;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::format::manifest::{Content, STREAMED_SLOT};
use crate::id::WriteId;

pub(super) async fn copy(inner: &Arc<Inner>, from: &Path, to: &Path, mode: CopyMode) -> object_store::Result<()> {
    copy_newest(inner, from, to, mode).await.map(|_| ())
}

/// Copies the newest version at `from`, and says which it was.
async fn copy_newest(inner: &Arc<Inner>, from: &Path, to: &Path, mode: CopyMode) -> object_store::Result<Arc<Version>> {
    let condition = match mode {
        CopyMode::Overwrite => Condition::Overwrite,
        CopyMode::Create => Condition::Create,
    };
    let source = inner.live(from).await.map_err(|e| e.into_object_store(from))?;
    copy_version(inner, &source, to, &condition).await.map_err(|e| e.into_object_store(to))?;
    Ok(source)
}

/// A copy, and a tombstone over what was copied. What somebody else wrote at `from` meanwhile is in no copy, so it stays, and the rename fails.
pub(super) async fn rename(inner: &Arc<Inner>, from: &Path, to: &Path, mode: RenameTargetMode) -> object_store::Result<()> {
    let mode = match mode {
        RenameTargetMode::Overwrite => CopyMode::Overwrite,
        RenameTargetMode::Create => CopyMode::Create,
    };
    if from == to && mode == CopyMode::Overwrite {
        // Copying and then deleting would lose the object.
        return inner.live(from).await.map(|_| ()).map_err(|e| e.into_object_store(from));
    }
    let source = copy_newest(inner, from, to, mode).await?;
    failpoint!("rename.between");
    delete_write(inner, from, source.manifest.write_id).await.map_err(|error| {
        let error = match error.kind() {
            ErrorKind::Precondition => Error::new(
                ErrorKind::Precondition,
                "another write came to the object while it was renamed: it stays as that left it, and the copy of what it was before stays at \
                 the new path",
            )
            .with("path", from)
            .with("copy", to)
            .caused_by(error),
            _ => error,
        };
        error.into_object_store(from)
    })
}

/// Writes the bytes of `source` at `to`, with shards and a write id of their own. They are verified while they are copied.
pub(super) async fn copy_version(inner: &Arc<Inner>, source: &Arc<Version>, to: &Path, condition: &Condition) -> Result<Arc<Version>> {
    let attributes = source.manifest.attributes.clone();
    if let Content::Inline(bytes) = &source.manifest.content
        && bytes.len() as u64 <= inner.inline_limit(to)
    {
        return put_inline(inner, to, bytes.clone(), attributes, condition).await;
    }
    let before = inner.admitted(to, condition).await?;
    let write_id = WriteId::random()?;
    let mut upload = Uploader::new(Arc::clone(inner), to, write_id, STREAMED_SLOT)?;
    let (content, digest) = match send(inner, source, &mut upload).await {
        Ok(done) => done,
        Err(error) => {
            upload.discard();
            return Err(error);
        }
    };
    failpoint!("copy.after-shards");
    let draft = Draft { content, digest, attributes };
    let version = streamed::decide(inner, to, condition, before, (upload, write_id, draft)).await?;
    failpoint!("copy.after-vote");
    Ok(version)
}

async fn send(inner: &Arc<Inner>, source: &Arc<Version>, upload: &mut Uploader) -> Result<(Content, Digest)> {
    let mut bytes = stream_range(inner, source, 0..source.manifest.size());
    while let Some(piece) = bytes.try_next().await? {
        upload.push(piece).await?;
    }
    let (content, digest) = upload.finish().await?;
    if digest != source.manifest.digest {
        return Err(Error::new(ErrorKind::Corrupt, "an object's bytes contradict its digest").with("path", &source.manifest.path));
    }
    Ok((content, digest))
}
