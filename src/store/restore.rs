//! Bringing back what was overwritten or deleted: the old bytes become a new version.

use object_store::PutResult;
use object_store::path::Path;

use super::ErasureStore;
use super::copy::copy_version;
use super::decide::Condition;
use super::put::result;
use super::resolve::not_found;
use super::versions::VersionState;
use crate::error::{Error, ErrorKind, Result};

impl ErasureStore {
    /// Writes the bytes of an older version of `path` as its newest one, whatever the newest is now.
    ///
    /// The new version has a write id and shards of its own, so that it does not depend on the old one's retention. The bytes are
    /// verified while they are copied. Cost: a read and a write of the object.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when that version is a tombstone; [`ErrorKind::NotFound`] when there is none;
    /// [`ErrorKind::Unavailable`] when it was collected, or too few regions answer.
    pub async fn restore(&self, path: &Path, version: &str) -> Result<PutResult> {
        self.restore_as(path, version, &Condition::Overwrite).await
    }

    /// Restores the version that was the newest before `path` was deleted.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] when the object is there (also when somebody else wrote it meanwhile); [`ErrorKind::NotFound`] when it
    /// never was; else as [`ErasureStore::restore`].
    pub async fn undelete(&self, path: &Path) -> Result<PutResult> {
        let newest = self.inner.newest(path).await?.ok_or_else(|| not_found(path))?;
        if newest.is_live() {
            return Err(Error::new(ErrorKind::AlreadyExists, "the object is not deleted").with("path", path));
        }
        let versions = self.versions(path).await?;
        let before = versions.iter().find(|version| version.state != VersionState::Tombstone);
        match before.and_then(|version| version.version.as_deref()) {
            Some(version) => self.restore_as(path, version, &Condition::Create).await,
            None => Err(Error::new(ErrorKind::Unavailable, "the version before the deletion was collected; it cannot be restored")
                .with("path", path)),
        }
    }

    async fn restore_as(&self, path: &Path, version: &str, condition: &Condition) -> Result<PutResult> {
        let source = self.inner.any_at(path, version).await?;
        if !source.is_live() {
            let what = "this version says that the object was deleted; restore the one before it";
            return Err(Error::new(ErrorKind::InvalidInput, what).with("path", path).with("version", version));
        }
        copy_version(&self.inner, &source, path, condition).await.map(|version| result(&version))
    }
}
