//! Deleting: a tombstone is decided as the next version. What was never there is deleted already.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::Attributes;
use object_store::path::Path;
use tracing::{Instrument as _, debug_span};

use super::Inner;
use super::decide::{Attempt, Draft, LOST_LIMIT, contended};
use super::resolve::Version;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::format::manifest::Content;
use crate::id::WriteId;

/// Deletions that one stream has under way.
const AT_ONCE: usize = 16;

pub(super) fn delete_stream(
    inner: Arc<Inner>,
    paths: BoxStream<'static, object_store::Result<Path>>,
) -> BoxStream<'static, object_store::Result<Path>> {
    paths
        .map(move |path| {
            let inner = Arc::clone(&inner);
            async move {
                let path = path?;
                delete(&inner, &path).instrument(debug_span!("delete", %path)).await.map_err(|e| e.into_object_store(&path))?;
                Ok(path)
            }
        })
        .buffered(AT_ONCE)
        .boxed()
}

/// Cost: one LIST round, then one create a region if there is something to delete.
pub(super) async fn delete(inner: &Inner, path: &Path) -> Result<()> {
    delete_if(inner, path, |_| Ok(())).await
}

/// Deletes `path` while its newest version is the one that `write_id` made, in whichever slot it stands.
///
/// # Errors
/// [`ErrorKind::Precondition`] when another version took its place; one that is deleted already is not there to be lost.
pub(super) async fn delete_write(inner: &Inner, path: &Path, write_id: WriteId) -> Result<()> {
    delete_if(inner, path, |newest| match newest.manifest.write_id == write_id {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Precondition, "the object is no longer the version to be deleted").with("path", path)),
    })
    .await
}

async fn delete_if(inner: &Inner, path: &Path, admits: impl Fn(&Version) -> Result<()>) -> Result<()> {
    let draft = Draft { content: Content::Tombstone, digest: Digest::of(&[]), attributes: Attributes::new() };
    for _ in 0..LOST_LIMIT {
        let Some(newest) = inner.newest(path).await?.filter(|version| version.is_live()) else { return Ok(()) };
        admits(&newest)?;
        failpoint!("delete.before-tombstone");
        if let Attempt::Won(_) = inner.propose(path, Some(&newest), WriteId::random()?, draft.clone()).await? {
            failpoint!("delete.after-tombstone");
            return Ok(());
        }
    }
    Err(contended(path))
}
