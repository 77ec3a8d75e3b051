//! The chain of baselines, each of which names the one before by its digest.

use std::collections::BTreeMap;

use super::memory::{CheckedChain, FollowedChain};
use super::repository::{BaselineName, Repository, TrustedBaseline};
use super::statement::Statement;
use super::trust::Trust;
use crate::digest::Digest;
use crate::error::Result;

impl Repository {
    /// Follows the chain from `newest` to the first baseline and says what is wrong with it, by number.
    ///
    /// Each predecessor must be there under its digest, and no other baseline in force may claim a number of the chain. Under a flat set of
    /// keys each must be signed by one of them; under a trust root, whose keys come and go, the digest in its successor vouches for it.
    /// The chain must run through `pins`, numbers and digests known from elsewhere, unless it ends below them.
    /// Cost: that of [`Self::baselines`].
    pub async fn check_chain(&self, newest: &TrustedBaseline, trust: &Trust, pins: &[(u64, Digest)]) -> Result<BTreeMap<u64, String>> {
        self.check_chain_above(newest, trust, pins, None).await.map(|followed| followed.wrong)
    }

    /// As [`Self::check_chain`], down to the newest of a chain that was followed to its beginning before. The statements of that chain are not
    /// read again; every other is, for it may have been signed since.
    pub(super) async fn check_chain_above(
        &self,
        newest: &TrustedBaseline,
        trust: &Trust,
        pins: &[(u64, Digest)],
        known: Option<&CheckedChain>,
    ) -> Result<FollowedChain> {
        let judge = self.judge(trust).await?;
        let mut names = self.names().await?;
        names.retain(|name| known.is_none_or(|known| !known.names.contains(name)));
        let mut followed = known.map(|known| known.names.clone()).unwrap_or_default();
        let all = self.all_in_force(names, &judge).await?;
        let mut wrong = BTreeMap::new();
        for rival in all.iter().filter(|b| known.is_some_and(|known| b.summary.number <= known.newest.0)) {
            let number = rival.summary.number;
            wrong.insert(number, format!("baseline {number} exists twice with valid signatures: the history forks"));
        }
        let mut expected = Some((newest.summary.number, newest.summary.digest));
        while let Some((number, digest)) = expected.filter(|at| known.is_none_or(|known| known.newest != *at)) {
            if let Some(known) = known.filter(|known| number <= known.newest.0) {
                let (at, digest) = known.newest;
                wrong.insert(
                    number,
                    format!("the chain does not run through baseline {at} ({digest}), which it did before: the history forks"),
                );
                break;
            }
            let rivals = all.iter().filter(|b| b.summary.number == number && b.summary.digest != digest).count();
            if rivals > 0 {
                wrong.insert(number, format!("baseline {number} exists {} times with valid signatures: the history forks", rivals + 1));
            }
            if pins.iter().any(|(pinned, known)| *pinned == number && *known != digest) {
                wrong.insert(number, format!("baseline {number} is not the one that is pinned or logged: the history forks"));
                break;
            }
            let known = all.iter().find(|b| b.summary.number == number && b.summary.digest == digest).map(|b| b.statement.previous);
            let found = match known {
                None if judge.trust.root().is_some() => self.vouched(&BaselineName { number, digest }).await?,
                known => known,
            };
            let Some(previous) = found else {
                wrong.insert(number, format!("baseline {number} ({digest}) of the chain is gone or no trusted key signed it"));
                break;
            };
            followed.insert(BaselineName { number, digest });
            expected = match (previous, number.checked_sub(1)) {
                (Some(previous), Some(before)) if before > 0 => Some((before, previous)),
                (None, Some(0)) => None,
                _ => {
                    wrong.insert(number, format!("baseline {number} names no predecessor, or one it cannot have"));
                    None
                }
            };
        }
        Ok(FollowedChain { wrong, names: followed })
    }

    /// The predecessor that the statement of this name states, when it is there: its digest was named by an authentic successor.
    async fn vouched(&self, name: &BaselineName) -> Result<Option<Option<Digest>>> {
        let Some(bytes) = self.statement_bytes(name).await? else { return Ok(None) };
        Ok(Statement::parse(&bytes).ok().filter(|statement| statement.number == name.number).map(|statement| statement.previous))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::ObjectStoreExt as _;
    use object_store::memory::InMemory;
    use object_store::path::Path;

    use super::super::statement::tests::sample;
    use super::super::trust::TrustLevel;
    use super::*;
    use crate::key::PrivateKey;

    #[tokio::test]
    async fn a_chain_is_followed_to_its_beginning_and_forks_are_seen() {
        let key = PrivateKey::from_seed(&[1; 32]);
        let trust = Trust::new([key.public()], TrustLevel::Given).unwrap();
        let repository = Repository::new(Arc::new(InMemory::new()), Path::from("t"));
        let first = sample(1);
        let one = repository.keep_statement(&first).await.unwrap();
        repository.sign(&one, &first, &key).await.unwrap();
        let second = Statement { previous: Some(one.digest), ..sample(2) };
        let two = repository.keep_statement(&second).await.unwrap();
        repository.sign(&two, &second, &key).await.unwrap();
        let newest = repository.newest_statement(&trust).await.unwrap().unwrap();
        assert_eq!(newest.summary.number, 2);
        assert!(repository.check_chain(&newest, &trust, &[]).await.unwrap().is_empty());

        // Not only the newest is held against a pin: everything that came after it must descend from it.
        assert!(repository.check_chain(&newest, &trust, &[(1, one.digest)]).await.unwrap().is_empty());
        let wrong = repository.check_chain(&newest, &trust, &[(1, Digest([7; 32]))]).await.unwrap();
        assert!(wrong[&1].contains("pinned"), "{wrong:?}");

        let rival = Statement { created_ms: 1, ..sample(1) };
        let rival_name = repository.keep_statement(&rival).await.unwrap();
        repository.sign(&rival_name, &rival, &key).await.unwrap();
        let wrong = repository.check_chain(&newest, &trust, &[]).await.unwrap();
        assert!(wrong[&1].contains("forks"), "{wrong:?}");
        repository.withdraw(&rival_name, key.public().id()).await.unwrap();
        assert!(repository.check_chain(&newest, &trust, &[]).await.unwrap().is_empty());

        repository.store().delete(&repository.signature_path(one.digest, key.public().id())).await.unwrap();
        let wrong = repository.check_chain(&newest, &trust, &[]).await.unwrap();
        assert!(wrong[&1].contains("gone"), "{wrong:?}");
    }
}
