//! Buffers for computed shards, used again: fresh memory costs the system as much as coding does.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

/// Keeps the buffers of computed shards when nobody needs their bytes any more, up to a limit. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Buffers(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    limit_bytes: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

/// Goes back to its pool when the last [`Bytes`] of it are dropped.
struct Borrowed {
    bytes: Vec<u8>,
    pool: Weak<Pool>,
}

impl Buffers {
    /// A pool that keeps at most `limit_bytes` of buffers that are not in use.
    pub fn new(limit_bytes: usize) -> Self {
        Self(Arc::new(Pool { limit_bytes, free: Mutex::default() }))
    }

    /// A buffer of `len` bytes, which are whatever was in it last: whoever takes it writes all of it.
    pub fn take(&self, len: usize) -> Vec<u8> {
        let mut free = self.0.free.lock();
        // A buffer that is much too large is worth more to others.
        let fits = free.iter().position(|bytes| bytes.capacity() >= len && bytes.capacity() / 2 <= len);
        let Some(mut bytes) = fits.map(|at| free.swap_remove(at)) else {
            drop(free);
            // Zeroed memory comes from the system as it is, without being written to.
            return vec![0; len];
        };
        drop(free);
        bytes.resize(len, 0);
        bytes
    }

    /// The bytes of a buffer, to be given away.
    pub fn lend(&self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Borrowed { bytes, pool: Arc::downgrade(&self.0) })
    }
}

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade() else { return };
        let mut free = pool.free.lock();
        let kept: usize = free.iter().map(Vec::capacity).sum();
        if self.bytes.capacity() > 0 && kept.saturating_add(self.bytes.capacity()) <= pool.limit_bytes {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_once_all_of_its_bytes_are_dropped_and_the_limit_holds() {
        let buffers = Buffers::new(3000);
        let free = || buffers.0.free.lock().len();
        let bytes = buffers.lend(vec![7; 1000]);
        let part = bytes.slice(10..20);
        drop(bytes);
        assert_eq!((free(), part.as_ref()), (0, [7; 10].as_ref()));
        drop(part);
        assert_eq!(free(), 1);
        let lent: Vec<Bytes> = (0..4).map(|_| buffers.lend(buffers.take(1000))).collect();
        assert_eq!(free(), 0);
        drop(lent);
        assert_eq!(free(), 3, "the fourth is over the limit");
        assert_eq!((buffers.take(400).len(), free()), (400, 3), "much too large buffers are left alone");
        assert_eq!((buffers.take(900).len(), free()), (900, 2));
        let late = buffers.lend(vec![1; 10]);
        drop(buffers);
        assert_eq!(late.as_ref(), [1; 10]);
    }
}
