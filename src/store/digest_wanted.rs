//! Asking a store for the digest of what is put through it, so that the same bytes are not hashed twice.
//!
//! The question travels in the extensions of a put, which decorators pass on. A store that hashes what it stores promises an answer as
//! soon as it sees the question, and gives it once the object is durable. Any other store ignores it.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use object_store::Extensions;

use crate::digest::Digest;
use crate::format::manifest::ObjectManifest;

/// Size in bytes and plain BLAKE3 of an object that was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredDigest {
    /// Bytes.
    pub size: u64,
    /// Plain BLAKE3 of all of them.
    pub digest: Digest,
}

/// The question in a put's extensions, and the answer.
#[derive(Debug, Clone, Default)]
pub struct DigestWanted(Arc<State>);

#[derive(Debug, Default)]
struct State {
    promised: AtomicBool,
    stored: OnceLock<StoredDigest>,
}

impl DigestWanted {
    /// Whether a store has seen the question and will answer it when the put succeeds.
    pub fn is_promised(&self) -> bool {
        self.0.promised.load(Ordering::Acquire)
    }

    /// The answer, once the put succeeded.
    pub fn stored(&self) -> Option<StoredDigest> {
        self.0.stored.get().copied()
    }

    /// The question that `extensions` carry, promised to be answered.
    pub(super) fn promise(extensions: &Extensions) -> Option<Self> {
        let wanted = extensions.get::<Self>().cloned()?;
        wanted.0.promised.store(true, Ordering::Release);
        Some(wanted)
    }

    pub(super) fn answer(&self, manifest: &ObjectManifest) {
        let _ = self.0.stored.set(StoredDigest { size: manifest.size(), digest: manifest.digest });
    }
}
