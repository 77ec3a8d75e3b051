//! Whose words count in a log, and for how much: today's sealers, and those who were.

use std::collections::BTreeSet;

use super::Log;
use crate::baseline::repository::Repository;
use crate::baseline::trust::{Trust, TrustRoot};
use crate::digest::Digest;
use crate::error::Result;
use crate::key::{KeyId, Role, VerifyingKey};

/// Earlier versions of a trust root that are looked for.
const HISTORY_LIMIT: usize = 64;

/// Whose words count in a log.
#[derive(Debug, Clone)]
pub struct LogKeys {
    /// Today's sealers: whose entries count.
    pub entries: Vec<VerifyingKey>,
    /// Whose checkpoints and inventories count: those who may say what is newest, else the sealers.
    pub newest: Vec<VerifyingKey>,
    /// How many sealers must say the same for it to count: at least 1.
    pub threshold: usize,
    /// Whether those who say what is newest are the sealers, who are believed under their threshold only.
    by_sealers: bool,
    former: Vec<Former>,
    /// Keys that signed checkpoints and inventories formerly.
    former_newest: Vec<VerifyingKey>,
    /// Keys that were revoked and are believed for nothing: writers' as well, who never had a part in a log.
    worthless: Vec<VerifyingKey>,
}

/// A key that sealed formerly, or may have.
#[derive(Debug, Clone)]
struct Former {
    key: VerifyingKey,
    /// The baselines that a revoked key is believed for. A key that was only taken out of its role is believed for none, but what it says is
    /// not forgotten.
    revoked: Option<BTreeSet<Digest>>,
}

impl LogKeys {
    /// The keys that `trust` alone has for a log. Keys that earlier trust roots named, and this one does not, are not among them: see
    /// [`Log::keys`].
    pub fn of(trust: &Trust) -> Self {
        let sealers = trust.keys(Role::Sealer);
        let timestamps = trust.keys(Role::Timestamp);
        // A flat set of keys says what is newest itself; each of them is enough.
        let by_sealers = timestamps.is_empty();
        let mut keys = Self {
            entries: sealers.to_vec(),
            newest: if by_sealers { sealers } else { timestamps }.to_vec(),
            threshold: trust.threshold(Role::Sealer),
            by_sealers,
            former: Vec::new(),
            former_newest: Vec::new(),
            worthless: Vec::new(),
        };
        for revocation in trust.revoked() {
            let believed: BTreeSet<Digest> = revocation.last_good.iter().map(|good| good.digest).collect();
            if believed.is_empty() {
                keys.worthless.push(revocation.key);
                continue;
            }
            keys.add_former(revocation.key, Some(believed));
            keys.add_former_newest(revocation.key);
        }
        keys
    }

    fn remember(&mut self, earlier: &TrustRoot) {
        // Whom an earlier root revoked, and the newest does not mention, was not forgiven: it is believed for nothing.
        self.worthless.extend(earlier.revoked.iter().map(|revocation| revocation.key));
        let (sealers, timestamps) = (earlier.keys(Role::Sealer), earlier.keys(Role::Timestamp));
        for key in sealers {
            let revoked = self.worthless.contains(key).then(BTreeSet::new);
            self.add_former(*key, revoked);
        }
        let newest = if timestamps.is_empty() { sealers } else { timestamps };
        newest.iter().for_each(|key| self.add_former_newest(*key));
    }

    fn add_former(&mut self, key: VerifyingKey, revoked: Option<BTreeSet<Digest>>) {
        if !self.entries.contains(&key) && !self.former.iter().any(|former| former.key == key) {
            self.former.push(Former { key, revoked });
        }
    }

    fn add_former_newest(&mut self, key: VerifyingKey) {
        if !self.newest.contains(&key) && !self.former_newest.contains(&key) {
            self.former_newest.push(key);
        }
    }

    /// All keys whose entries are read: those of today, and former ones, whose words may not count.
    pub fn known(&self) -> Vec<VerifyingKey> {
        self.entries.iter().copied().chain(self.former.iter().map(|former| former.key)).collect()
    }

    /// Whose inventories say that there was one, where nobody of today has signed any.
    pub(super) fn former_newest(&self) -> &[VerifyingKey] {
        &self.former_newest
    }

    /// How many keys must say of a log what its entries do not, for it to be believed.
    pub(super) fn newest_threshold(&self) -> usize {
        if self.by_sealers { self.threshold } else { 1 }
    }

    /// Whether a log is replayed from its first entry. An inventory has forgotten who said what, so it is no shortcut where one key is not
    /// enough, or where keys that signed some of it are believed no more.
    pub(in crate::baseline) fn replays(&self) -> bool {
        self.threshold > 1 || !self.former.is_empty() || !self.former_newest.is_empty()
    }

    /// Whether this is a sealer of today.
    pub(super) fn is_sealer(&self, id: &KeyId) -> bool {
        self.entries.iter().any(|key| key.id() == *id)
    }

    /// Whether this key counts for a baseline: a sealer of today, or one that was revoked and is believed for this very baseline.
    pub(super) fn believes(&self, id: &KeyId, baseline: &Digest) -> bool {
        let revoked = |former: &&Former| former.key.id() == *id;
        let believed = self.former.iter().find(revoked).and_then(|former| former.revoked.as_ref());
        self.is_sealer(id) || believed.is_some_and(|believed| believed.contains(baseline))
    }

    /// Whether this key sealed formerly and was not revoked.
    pub(super) fn was_removed(&self, id: &KeyId) -> bool {
        self.former.iter().any(|former| former.key.id() == *id && former.revoked.is_none())
    }
}

impl Log {
    /// The keys that `trust`, the newest that is known, has for this log, with those that the trust roots before it named. Each root names the
    /// one before by its digest, so that these need no signatures; they are looked for beside the table whose seals are `table`, and beside the
    /// log.
    ///
    /// Cost: one GET per earlier version, or two.
    ///
    /// # Errors
    /// Those of the store. A version that is not there ends the search.
    pub async fn keys(&self, trust: &Trust, table: Option<&Repository>) -> Result<LogKeys> {
        let mut keys = LogKeys::of(trust);
        let places = self.places(table);
        let mut root = trust.root().map(|signed| signed.root().clone());
        for _ in 0..HISTORY_LIMIT {
            let Some(later) = &root else { break };
            root = earlier(later, &places).await?;
            if let Some(earlier) = &root {
                keys.remember(earlier);
            }
        }
        Ok(keys)
    }

    /// The seals that lie where the log does.
    pub fn repository(&self) -> Repository {
        Repository::new(self.store().clone(), self.root().clone())
    }

    fn places(&self, table: Option<&Repository>) -> Vec<Repository> {
        let other = table.filter(|table| table.root() != self.root()).cloned();
        other.into_iter().chain([self.repository()]).collect()
    }
}

/// The trust root before `later`, from the first of these places that has it.
async fn earlier(later: &TrustRoot, places: &[Repository]) -> Result<Option<TrustRoot>> {
    for place in places {
        if let Some(found) = place.earlier_root(later).await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
