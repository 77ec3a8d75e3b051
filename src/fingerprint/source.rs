//! Where the bytes of one file come from.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};

/// The bytes of one file, of a size that is known, in ranges.
#[async_trait]
pub trait Source: Send + Sync {
    /// The file's size in bytes.
    fn size(&self) -> u64;

    /// Exactly these ranges, in this order.
    ///
    /// # Errors
    /// Those of the store; [`ErrorKind::Corrupt`] or [`ErrorKind::Mismatch`] when the bytes are not what they must be.
    async fn ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>>;

    /// Exactly this range.
    ///
    /// # Errors
    /// As [`Self::ranges`].
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let length = range.end.saturating_sub(range.start);
        if length == 0 {
            return Ok(Bytes::new());
        }
        let bytes = self.ranges(std::slice::from_ref(&range)).await?.pop().unwrap_or_default();
        if bytes.len() as u64 != length {
            return Err(Error::new(ErrorKind::Corrupt, "the store returned another length than was asked for")
                .with("asked", length)
                .with("found", bytes.len()));
        }
        Ok(bytes)
    }
}
