//! That what a purge names was destroyed everywhere: said by a sealer when nothing of it was left. A purge without it says what is to be, and no more.

use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use serde_json::{Value, json};

use super::purge::PurgeRecord;
use super::repository::{Repository, SEAL_FOLDER};
use super::standing::Judge;
use super::statement::{Claims, STATEMENT_TYPE};
use super::{canonical, sign};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::key::Signer;
use crate::table::read_object;

/// `predicateType` of the statement that a purge was carried out.
pub const PURGE_DONE_PREDICATE_TYPE: &str = "urn:lakeseal:purge-done:v1";
/// Such a statement is never larger, in bytes.
const LIMIT_BYTES: u64 = 4096;
const FORMAT: u64 = 1;

/// That a purge was carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PurgeDone {
    /// Plain BLAKE3 of the purge's record.
    purge: Digest,
    /// When nothing of it was left, in milliseconds since 1970-01-01T00:00:00Z.
    pub(super) completed_ms: i64,
}

impl PurgeDone {
    fn to_bytes(&self) -> Vec<u8> {
        canonical::bytes(&json!({
            "_type": STATEMENT_TYPE,
            "predicateType": PURGE_DONE_PREDICATE_TYPE,
            "predicate": { "completed_ms": self.completed_ms, "format": FORMAT },
            "subject": [{ "digest": { "blake3": self.purge.to_string() }, "name": "purge" }],
        }))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let purge = value.get("subject")?.get(0)?.get("digest")?.get("blake3")?.as_str()?.parse().ok()?;
        let done = Self { purge, completed_ms: value.get("predicate")?.get("completed_ms")?.as_i64()? };
        (done.to_bytes() == bytes).then_some(done)
    }
}

impl Repository {
    fn purge_done_path(&self, purge: Digest) -> Path {
        self.root().clone().join(SEAL_FOLDER).join("purged").join(format!("{purge}.json"))
    }

    /// Says that what `record` names was destroyed everywhere. What was said once stays.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a purge that is not in force; the store's.
    pub async fn record_purge_done(&self, record: &PurgeRecord, now_ms: i64, signer: &dyn Signer) -> Result<()> {
        if !record.is_in_force() {
            return Err(
                Error::new(ErrorKind::InvalidInput, "a purge that is not in force was not carried out").with("purge", record.digest)
            );
        }
        if record.completed_ms.is_some() {
            return Ok(());
        }
        let bytes = PurgeDone { purge: record.digest, completed_ms: now_ms }.to_bytes();
        let (digest, signature) = (Digest::of(&bytes), sign::sign(signer, &bytes).await?);
        self.store().put(&self.purge_done_path(record.digest), bytes.into()).await?;
        self.store().put(&self.signature_path(digest, signer.public().id()), signature.into()).await?;
        Ok(())
    }

    /// When a trusted sealer said that a purge was carried out. What is not understood says nothing.
    pub(super) async fn purge_done(&self, purge: Digest, judge: &Judge) -> Result<Option<PurgeDone>> {
        let bytes = match read_object(&**self.store(), &self.purge_done_path(purge), LIMIT_BYTES).await {
            Ok(bytes) => bytes,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => return Ok(None),
            Err(e) => return Err(e),
        };
        let is_signed = !self.signatures(Digest::of(&bytes), &bytes, judge).await?.is_empty();
        let is_one = is_signed && Claims::of(&bytes).is_some_and(|claims| claims.is_of_kind(PURGE_DONE_PREDICATE_TYPE));
        Ok(PurgeDone::parse(&bytes).filter(|done| is_one && done.purge == purge))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_reads_back_and_nothing_can_hide_in_it() {
        let done = PurgeDone { purge: Digest([7; 32]), completed_ms: 1_800_000_000_000 };
        let bytes = done.to_bytes();
        assert_eq!(PurgeDone::parse(&bytes), Some(done.clone()));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_ne!(PurgeDone::parse(&changed), Some(done.clone()), "byte {at}");
        }
        assert!(super::super::Purge::parse(&bytes).is_err(), "it is no purge");
    }
}
