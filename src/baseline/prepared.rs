//! Between a prepared baseline and one in force: who may sign, who was faster, what is taken back.

use std::sync::Arc;

use super::log::{Appended, Record};
use super::repository::BaselineName;
use super::seal::{SealOutcome, Sealer};
use super::standing::Judge;
use super::statement::Statement;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Role, Signer};

/// A baseline that is stored with its evidence, but that nobody has signed: it counts for nothing yet.
#[derive(Debug)]
pub struct Prepared {
    /// Its name.
    pub name: BaselineName,
    /// What sealing would come to; `unchanged` when there is nothing new to seal, and nothing to sign.
    pub outcome: SealOutcome,
    pub(super) statement: Option<Statement>,
    pub(super) judge: Judge,
}

impl Sealer {
    /// The key that signs, if the sealer has one.
    pub(super) fn signer(&self) -> Result<&Arc<dyn Signer>> {
        self.signer.as_ref().ok_or_else(|| Error::new(ErrorKind::Permission, "there is no key to sign with: this sealer only prepares"))
    }

    /// The trust that applies now, when it has not expired and gives this sealer's key, if any, the role.
    pub(super) async fn judge(&self) -> Result<Judge> {
        let judge = self.repository.judge(&self.trust).await?;
        let Some(root) = judge.trust.root() else { return Ok(judge) };
        let version = root.root().version;
        if root.is_expired(self.clock.now_ms()) {
            let what =
                format!("version {version} of the trust root has expired: its root keys must sign a newer one (`lakeseal trust renew`)");
            return Err(Error::new(ErrorKind::Config, what));
        }
        if let Some(public) = self.signer.as_ref().map(|signer| signer.public())
            && judge.trust.key(Role::Sealer, &public.id()).is_none()
        {
            let what = format!("version {version} of the trust root does not let this key seal");
            return Err(Error::new(ErrorKind::Permission, what).with("key", public));
        }
        Ok(judge)
    }

    /// Why there are seals although none is in force. What nobody trusted has signed may be a proposal of ours, or anybody's junk: with a
    /// trust root, under which proposals are the rule, that does not keep a table from being sealed first.
    pub(super) async fn untrusted_seals(&self, judge: &Judge) -> Result<Option<String>> {
        let names = self.repository.names().await?;
        for name in names.iter().rev() {
            if let Some((_, standing)) = self.repository.judged(name, judge).await?
                && !standing.signed_by.is_empty()
                && name.number > 1
            {
                return Ok(Some(format!("baseline {} is not in force: it has {standing}; others must countersign it", name.number)));
            }
        }
        let is_new = names.is_empty() || judge.trust.root().is_some() && names.iter().all(|name| name.number == 1);
        let detail = match judge.trust.root() {
            None => "there are baselines, but none by a trusted key: name their public keys, or accept to begin anew",
            Some(_) => {
                "there are baselines, but none by a sealer that the trust root names: countersign the newest, or accept to begin anew"
            }
        };
        Ok((!is_new).then(|| detail.to_owned()))
    }

    /// Signs what was prepared; `None` when another sealer took its number, and nothing of ours counts.
    ///
    /// Whoever signs looks again afterwards, and withdraws when it sees a rival in force: of two that sign at once, the one that signed
    /// last sees the other, so that never both believe to have won.
    ///
    /// # Errors
    /// [`ErrorKind::Permission`] without a key; those of the store.
    pub async fn sign(&self, prepared: Prepared) -> Result<Option<SealOutcome>> {
        let Prepared { name, mut outcome, statement, judge } = prepared;
        let signer = self.signer()?;
        let Some(statement) = statement else {
            // There was nothing new: the baseline is in force already.
            self.record(&mut outcome, &judge).await?;
            return Ok(Some(outcome));
        };
        let own = signer.public().id();
        if self.has_rival(&name, &judge).await? || !self.withdraw_others(&name, &judge).await? {
            self.repository.forget_unsigned(&name, &judge).await?;
            return Ok(None);
        }
        if let Some(root) = judge.trust.root() {
            self.repository.publish_root_if_new(root).await?;
        }
        self.repository.sign(&name, &statement, &**signer).await?;
        if self.has_rival(&name, &judge).await? {
            self.repository.withdraw(&name, own).await?;
            self.repository.forget_unsigned(&name, &judge).await?;
            return Ok(None);
        }
        let standing = self.repository.judged(&name, &judge).await?.map(|(_, standing)| standing);
        outcome.baseline = statement.summary(name.digest, standing.unwrap_or_else(|| judge.standing(vec![own])));
        self.record(&mut outcome, &judge).await?;
        Ok(Some(outcome))
    }

    /// Records in the log that this key stands behind the baseline. Where it takes several, each says so when it signs: then the log lists the
    /// baseline once it is in force. It is signed already: what goes wrong here is a note, and sealing again makes up for it.
    async fn record(&self, outcome: &mut SealOutcome, judge: &Judge) -> Result<()> {
        if !self.options.record {
            return Ok(());
        }
        let now_ms = self.clock.now_ms();
        let record = Record {
            baselines: vec![outcome.to_record(&self.location, &self.log, self.repository.root())],
            now_ms,
            expires_ms: self.options.inventory_expires_after_ms.map(|after| now_ms.saturating_add(after)),
            ..Record::default()
        };
        match self.append(&record, judge).await {
            Ok(appended) => outcome.log = Some(appended.inventory.checkpoint().into()),
            Err(e) => outcome.notes.push(format!("sealed, but not recorded in the log of baselines; seal again to record it: {e}")),
        }
        Ok(())
    }

    async fn append(&self, record: &Record, judge: &Judge) -> Result<Appended> {
        // Beside a lake's log it outlives the table's own seals: who sealed formerly must still be known when these were taken away.
        if let Some(root) = judge.trust.root().filter(|_| self.log.root() != self.repository.root()) {
            self.log.repository().publish_root_if_new(root).await?;
        }
        let keys = self.log.keys(&judge.trust, Some(&self.repository)).await?;
        self.log.append(record, &**self.signer()?, &keys).await
    }

    async fn has_rival(&self, own: &BaselineName, judge: &Judge) -> Result<bool> {
        for name in self.repository.names().await?.iter().filter(|name| name.number >= own.number && *name != own) {
            if self.repository.in_force(name, judge).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes back what this key signed of the same number and is not in force: a key stands behind one statement of a number. `false` when
    /// one of them came into force meanwhile.
    async fn withdraw_others(&self, name: &BaselineName, judge: &Judge) -> Result<bool> {
        let signer = self.signer()?;
        let own = signer.public();
        for other in self.repository.names().await?.iter().filter(|other| other.number == name.number && *other != name) {
            let Some((bytes, standing)) = self.repository.judged(other, judge).await? else { continue };
            if standing.is_in_force() {
                return Ok(false);
            }
            if !standing.signed_by.contains(&own.id()) {
                continue;
            }
            let Some(object) = self.repository.signature(other.digest, &bytes, &own).await? else { continue };
            self.repository.withdraw(other, own.id()).await?;
            let left = self.repository.judged(other, judge).await?.map_or(0, |(_, standing)| standing.signed_by.len());
            if left.saturating_add(1) >= standing.needed {
                // Somebody signed it between the two looks, and was told that it is in force.
                self.repository.restore_signature(other, own.id(), object).await?;
                return Ok(false);
            }
            self.repository.forget_unsigned(other, judge).await?;
        }
        Ok(true)
    }
}
