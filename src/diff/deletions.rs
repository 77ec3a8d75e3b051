//! Which rows of a sealed file are deleted: when it was sealed, and by what is there.

use object_store::memory::InMemory;
use object_store::{GetOptions, ObjectStore as _, ObjectStoreExt as _};
use roaring::RoaringTreemap;
use serde_json::Value;

use super::differ::Differ;
use crate::baseline::{SealedDeletions, SealedFile, SealedObject, deleted_rows_digest};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::format::logical::stored_below;
use crate::table::{LiveFile, deletion_vector};

/// What the deletion vector that is there says of a sealed file.
#[derive(Debug)]
pub(super) enum Deletions {
    /// The file has the rows that it had when it was sealed.
    AsSealed,
    /// So many rows are deleted, and they are others.
    Others(u64),
    /// It cannot be read.
    Unknown(Error),
}

impl Differ<'_> {
    /// Whether the rows that are deleted are those that were. Nothing but the bitmap's own bytes says so: the sealed positions have a digest.
    ///
    /// Cost: none for a file without a deletion vector, or with one that stands in the log; else one GET of the vector's bytes.
    pub(super) async fn deletions(&self, file: &SealedFile, live: &LiveFile) -> Deletions {
        let (vector, sealed) = match (&live.deletion_vector, &file.deleted) {
            (None, None) => return Deletions::AsSealed,
            (Some(vector), Some(sealed)) => (vector, sealed),
            _ => return Deletions::Unknown(Error::new(ErrorKind::Corrupt, "the log and the evidence do not both have a deletion vector")),
        };
        match self.positions(vector).await {
            Ok(positions) if is_sealed(&positions, sealed) => Deletions::AsSealed,
            Ok(positions) => Deletions::Others(positions.len()),
            Err(error) => Deletions::Unknown(error),
        }
    }

    /// The positions of the rows that a deletion vector deletes as it is now.
    pub(super) async fn positions(&self, vector: &Value) -> Result<RoaringTreemap> {
        deletion_vector::read(&**self.repository.store(), self.repository.root(), self.repository.roots(), vector).await
    }

    /// The positions of the rows that were deleted when the file was sealed: from the vector that is there, or from a retained version of the
    /// sealed one.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when no place has the sealed vector any more, or the store's.
    pub(super) async fn sealed_positions(&self, file: &SealedFile) -> Result<Option<RoaringTreemap>> {
        let (Some(vector), Some(sealed)) = (&file.live.deletion_vector, &file.deleted) else { return Ok(None) };
        match self.positions(vector).await {
            Ok(positions) if is_sealed(&positions, sealed) => return Ok(Some(positions)),
            // Where it cannot be reached, its versions cannot be either.
            Err(error) if error.is_retryable() => return Err(error),
            _ => {}
        }
        let retained = match &sealed.file {
            Some(object) => self.retained_positions(object, vector).await?,
            None => None,
        };
        let retained = retained.filter(|positions| is_sealed(positions, sealed));
        let gone = || {
            let what = "the sealed deletion vector is gone: what is there deletes other rows, or cannot be read";
            Error::new(ErrorKind::NotFound, what).with("file", &file.live.key.path)
        };
        retained.map(Some).ok_or_else(gone)
    }

    /// As a retained version of the object has them that has exactly the sealed digest; `None` where there is none.
    async fn retained_positions(&self, object: &SealedObject, vector: &Value) -> Result<Option<RoaringTreemap>> {
        if object.size > deletion_vector::LIMIT_BYTES {
            return Ok(None);
        }
        let root = self.repository.root();
        let location = stored_below(root, &object.path)?;
        let options = GetOptions { version: Some(format!("blake3:{}", object.digest)), ..GetOptions::default() };
        // A store without versions refuses to be asked for one.
        let Ok(result) = self.repository.store().get_opts(&location, options).await else { return Ok(None) };
        if result.meta.size != object.size {
            return Ok(None);
        }
        let bytes = result.bytes().await?;
        if Digest::of(&bytes) != object.digest {
            return Ok(None);
        }
        // The one reader of vectors reads from stores.
        let held = InMemory::new();
        held.put(&location, bytes.into()).await?;
        deletion_vector::read(&held, root, self.repository.roots(), vector).await.map(Some)
    }
}

/// The number comes first: to hash positions takes memory for each, and whoever wrote the vector chose how many there are.
fn is_sealed(positions: &RoaringTreemap, sealed: &SealedDeletions) -> bool {
    positions.len() == sealed.rows && deleted_rows_digest(positions) == sealed.digest
}
