//! What the signatures of a statement come to under a trust: which count, and whether they are enough.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::repository::{BaselineName, Repository};
use super::sign;
use super::statement::{Claims, Statement};
use super::trust::Trust;
use crate::digest::Digest;
use crate::error::{ErrorKind, Result};
use crate::key::{KeyId, Role, VerifyingKey};
use crate::table::read_object;

/// The signatures of a statement that count, and how many it takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// The distinct trusted keys whose signatures count.
    pub signed_by: Vec<KeyId>,
    /// How many it takes for the baseline to be in force.
    pub needed: usize,
    /// Version and expiry (milliseconds since 1970-01-01T00:00:00Z) of the trust root that says so; absent for a flat set of keys.
    pub root: Option<(u64, Option<i64>)>,
}

impl Standing {
    /// Whether enough of those who may have signed.
    pub fn is_in_force(&self) -> bool {
        self.signed_by.len() >= self.needed.max(1)
    }
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of the {} signatures that it needs", self.signed_by.len(), self.needed)
    }
}

/// For each revoked key, the statements that it is believed for: its last good ones and all that they descend from.
#[derive(Debug, Default)]
pub(super) struct Believed(BTreeMap<KeyId, BTreeSet<Digest>>);

impl Believed {
    fn has(&self, key: KeyId, statement: Digest) -> bool {
        self.0.get(&key).is_some_and(|statements| statements.contains(&statement))
    }
}

/// A trust as it stands beside one table: the newest root that is published there, and what its revocations leave.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) trust: Trust,
    believed: Believed,
}

impl Judge {
    /// The keys whose signatures of a statement count, if they are there.
    fn keys(&self, statement: Digest) -> Vec<VerifyingKey> {
        let sealers = self.trust.keys(Role::Sealer).iter();
        let revoked = self.trust.revoked().iter().map(|revocation| &revocation.key).filter(|key| self.believed.has(key.id(), statement));
        sealers.chain(revoked).copied().collect()
    }

    pub(super) fn standing(&self, signed_by: Vec<KeyId>) -> Standing {
        let root = self.trust.root().map(|signed| (signed.root().version, signed.root().expires_ms));
        Standing { signed_by, needed: self.trust.threshold(Role::Sealer), root }
    }
}

impl Repository {
    /// `trust` as it is to be applied here.
    ///
    /// Cost: none for a flat set of keys; else one LIST, a GET per newer root, and one per statement that a revoked key may have signed.
    ///
    /// # Errors
    /// Those of [`Self::newest_trust`] and of the store.
    pub(super) async fn judge(&self, trust: &Trust) -> Result<Judge> {
        let trust = self.newest_trust(trust).await?;
        let mut believed = Believed::default();
        if trust.revoked().iter().any(|revocation| !revocation.last_good.is_empty()) {
            let names: BTreeSet<BaselineName> = self.names().await?.into_iter().collect();
            for revocation in trust.revoked() {
                let mut statements = BTreeSet::new();
                let here = revocation.last_good.iter().map(|good| BaselineName { number: good.number, digest: good.digest });
                for last in here.filter(|name| names.contains(name)) {
                    self.descend(last, &mut statements).await?;
                }
                believed.0.insert(revocation.key.id(), statements);
            }
        }
        Ok(Judge { trust, believed })
    }

    /// Adds `last` and its predecessors. Each is authentic because its successor names its digest, and a trust root names that of `last`.
    async fn descend(&self, last: BaselineName, statements: &mut BTreeSet<Digest>) -> Result<()> {
        let mut next = Some(last);
        while let Some(name) = next {
            if !statements.insert(name.digest) {
                return Ok(());
            }
            let Some(bytes) = self.statement_bytes(&name).await? else { return Ok(()) };
            let Ok(statement) = Statement::parse(&bytes) else { return Ok(()) };
            if statement.number != name.number {
                statements.remove(&name.digest);
                return Ok(());
            }
            next = match (statement.previous, name.number.checked_sub(1)) {
                (Some(digest), Some(number)) if number > 0 => Some(BaselineName { number, digest }),
                _ => None,
            };
        }
        Ok(())
    }

    /// The signatures' objects of `bytes`, the statement of this digest, by keys that count.
    pub(super) async fn signatures(&self, digest: Digest, bytes: &[u8], judge: &Judge) -> Result<Vec<(KeyId, Vec<u8>)>> {
        let mut found: Vec<(KeyId, Vec<u8>)> = Vec::new();
        for key in judge.keys(digest) {
            let id = key.id();
            if !found.iter().any(|(known, _)| *known == id)
                && let Some(object) = self.signature(digest, bytes, &key).await?
            {
                found.push((id, object.to_vec()));
            }
        }
        Ok(found)
    }

    /// The signature's object of a statement by `key`, if it is there and verifies.
    pub(super) async fn signature(&self, digest: Digest, bytes: &[u8], key: &VerifyingKey) -> Result<Option<Bytes>> {
        match read_object(&**self.store(), &self.signature_path(digest, key.id()), sign::SIGNATURE_LIMIT_BYTES).await {
            Ok(object) => Ok(sign::verifies(key, bytes, &object).then_some(object)),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// What the signatures of the statement of this name come to; `None` when there is no such statement, or what was signed is something else.
    ///
    /// Cost: one GET, and one per trusted key.
    ///
    /// # Errors
    /// Those of the store, and of [`Self::newest_trust`].
    pub async fn standing(&self, name: &BaselineName, trust: &Trust) -> Result<Option<Standing>> {
        let judge = self.judge(trust).await?;
        Ok(self.judged(name, &judge).await?.map(|(_, standing)| standing))
    }

    /// The statement's bytes and what its signatures come to; `None`, too, for what was signed as something else: a purge, or a baseline of another
    /// number, that somebody copied here.
    pub(super) async fn judged(&self, name: &BaselineName, judge: &Judge) -> Result<Option<(Bytes, Standing)>> {
        let Some(bytes) = self.statement_bytes(name).await? else { return Ok(None) };
        let signed_by: Vec<KeyId> = self.signatures(name.digest, &bytes, judge).await?.into_iter().map(|(key, _)| key).collect();
        let is_other = !signed_by.is_empty() && !Claims::of(&bytes).is_some_and(|claims| claims.is_baseline(name.number));
        Ok((!is_other).then(|| (bytes, judge.standing(signed_by))))
    }
}
