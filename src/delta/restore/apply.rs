//! Carrying a plan out: copies first, then what stands in place, and the commit last.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, WriteMultipart};

use super::{RestorePlan, commit};
use crate::baseline::Progress;
use crate::clock::SharedClock;
use crate::delta::{Location, Operation};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::lineage::Lineage;
use crate::table::{self, commit_path};
use crate::verify::CopyAt;

/// A part of an upload, in bytes.
const PART_BYTES: usize = 5 << 20;
/// Parts in flight.
const PARTS_AT_A_TIME: usize = 4;

/// What a restore came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The version of the restoring commit; absent when none was needed.
    pub version: Option<u64>,
    /// Bytes written.
    pub bytes: u64,
}

impl RestorePlan {
    /// Carries the plan out. Everything that is copied is held against its sealed digest on the way.
    ///
    /// New files are written first, and nobody sees them; then sealed objects are put back in place; the commit is last, on exactly
    /// the version that was planned for. A restore that was interrupted is planned and carried out again.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when something is lost and `partial` does not allow to go on without; [`ErrorKind::Precondition`] when
    /// somebody committed meanwhile; [`ErrorKind::Mismatch`] when bytes change while they are copied.
    pub async fn apply(&self, location: &Location, clock: &SharedClock, partial: bool, progress: &dyn Progress) -> Result<Restored> {
        if let (Some((file, why)), false) = (self.lost.first(), partial) {
            return Err(Error::new(ErrorKind::InvalidInput, format!("not everything can be brought back: {why}"))
                .with("table", location.name())
                .with("file", file)
                .with("lost", self.lost.len()));
        }
        let started_ms = clock.now_ms();
        let store = location.store().as_ref();
        let bytes = self.replaced.iter().map(|file| file.live.size).chain(self.put_back.iter().map(|object| object.size)).sum();
        progress.begin("restoring", (self.replaced.len() + self.put_back.len()) as u64, bytes);
        for file in &self.replaced {
            let to = file.live.location.as_ref().ok_or_else(|| Error::new(ErrorKind::Internal, "a restored file has no place"))?;
            copy(store, &file.from, to, file.live.size, file.digest).await.map_err(|e| e.with("file", &file.file))?;
            progress.bytes(file.live.size);
            progress.file(&file.file);
        }
        for object in &self.put_back {
            copy(store, &object.from, &object.path, object.size, Some(object.digest)).await.map_err(|e| e.with("object", &object.path))?;
            progress.bytes(object.size);
            progress.file(object.path.as_ref());
        }
        for hint in &self.hints {
            match store.delete(hint).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(Error::from(e).with("object", hint)),
            }
        }
        progress.end();
        let version = if self.needs_no_commit() { None } else { Some(self.commit(location, clock, started_ms).await?) };
        Ok(Restored { version, bytes })
    }

    async fn commit(&self, location: &Location, clock: &SharedClock, started_ms: i64) -> Result<u64> {
        // What was put back may have made a log readable that was not.
        let now = table::load(location.store().as_ref(), location.root(), None).await.map_err(|e| e.with("table", location.name()))?;
        if self.newest_version.is_some_and(|planned| planned != now.version) {
            return Err(overtaken(location));
        }
        let now_ms = clock.now_ms();
        let stated = now.commits.iter().filter_map(|commit| commit.timestamp_ms).filter(|time| commit::is_believable(*time, now_ms));
        let last_ms = stated.max().unwrap_or(i64::MIN);
        let text = commit::text(self, now_ms.max(last_ms.saturating_add(1)), now_ms);
        let version = now.version + 1;
        let path = commit_path(location.root(), version);
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let lineage = Lineage { started_ms: Some(started_ms), ..self.lineage.clone() };
        let location = &location.doing(Operation(Arc::new(lineage)))?;
        match location.store().put_opts(&path, PutPayload::from(text), create).await {
            Ok(_) => Ok(version),
            Err(object_store::Error::AlreadyExists { .. }) => Err(overtaken(location)),
            Err(e) => Err(Error::from(e).with("commit", version)),
        }
    }
}

fn overtaken(location: &Location) -> Error {
    Error::new(ErrorKind::Precondition, "somebody committed to the table meanwhile: nothing was committed; plan the restore again")
        .with("table", location.name())
}

/// Copies what `from` names, and lets it appear at `to` only when it had the digest.
async fn copy(store: &dyn ObjectStore, from: &CopyAt, to: &Path, size: u64, digest: Option<Digest>) -> Result<()> {
    let mut stream = store.get_opts(&from.path, from.options(None)).await?.into_stream();
    let upload = store.put_multipart(to).await?;
    let mut writer = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
    let mut hasher = blake3::Hasher::new();
    let mut copied = 0_u64;
    let outcome = async {
        while let Some(bytes) = stream.try_next().await? {
            hasher.update(&bytes);
            copied = copied.saturating_add(bytes.len() as u64);
            writer.wait_for_capacity(PARTS_AT_A_TIME).await?;
            writer.put(Bytes::clone(&bytes));
        }
        Ok::<_, Error>(())
    }
    .await;
    let exact = copied == size && digest.is_none_or(|digest| digest == Digest(*hasher.finalize().as_bytes()));
    if outcome.is_ok() && exact {
        writer.finish().await?;
        return Ok(());
    }
    // The upload's failure to end is nothing beside why it has to.
    let _ = writer.abort().await;
    outcome.and(Err(Error::new(ErrorKind::Mismatch, "the bytes changed while they were copied").with("copy", from)))
}
