//! Making what is decided known to the regions that stay when one leaves.
//!
//! A decision may stand on the vote of the region that leaves. Before it has left, every quorum of the others must be able to learn it: from
//! votes among the others that suffice by their own quorums, or because it meets a region that was told. Of a version that was collected,
//! the others are given copies of its stub.

use std::sync::Arc;

use futures::future::join_all;
use object_store::path::Path;

use super::acceptor::{Acceptor, Appended, Stub};
use super::core::{Log, Rules, is_established};
use super::{Decided, Registers, Slot, blame};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::format::entry::EntryBody;
use crate::key::PrivateKey;

/// What regions are told of a slot.
enum Fact {
    Decided(EntryBody, Arc<PrivateKey>),
    Collected(Stub),
}

/// What the regions that stay hold of one slot.
struct Others {
    rules: Rules,
    acceptors: Vec<Acceptor>,
    errors: Vec<Option<Error>>,
}

impl Others {
    /// The logs that were read to their ends.
    fn seen(&self) -> Vec<&Log<Digest>> {
        self.acceptors.iter().zip(&self.errors).filter(|(_, error)| error.is_none()).map(|(acceptor, _)| acceptor.log()).collect()
    }

    async fn read(&mut self) {
        let reads = join_all(self.acceptors.iter_mut().map(|acceptor| acceptor.read(1))).await;
        self.errors = reads.into_iter().map(std::result::Result::err).collect();
    }
}

impl Registers {
    /// Sees to it that every quorum of the regions that stay learns what `decided` says, or that the slot was collected (`None`). Whether
    /// anything had to be written. While no region leaves: of all regions.
    ///
    /// Cost: the logs of all regions that stay are read; one create a region where they do not suffice, and another reading to find a stub.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when too few regions could be told: do it again. [`ErrorKind::Permission`] without a writer's key.
    pub async fn establish(&self, path: &Path, slot: Slot, decided: Option<&Decided>) -> Result<bool> {
        let mut others = self.others(path, slot)?;
        others.read().await;
        if is_established(&others.rules, &others.seen()) {
            return Ok(false);
        }
        let fact = match decided {
            Some(decided) => Fact::Decided(EntryBody::Learned(decided.value.clone()), self.writer_key(path)?),
            None => Fact::Collected(self.find_stub(path, slot).await?),
        };
        failpoint!("establish.before-entries");
        let told = join_all(others.acceptors.iter_mut().zip(&others.errors).map(|(acceptor, error)| {
            let fact = &fact;
            async move {
                // A log that could not be read to its end is not written behind.
                if error.is_some() || acceptor.log().is_closed() {
                    return Ok(());
                }
                let appended = match fact {
                    Fact::Decided(body, writer) => acceptor.append(body, writer).await,
                    Fact::Collected(stub) => acceptor.append_stub(stub).await,
                };
                appended.map(|_: Appended| ())
            }
        }))
        .await;
        failpoint!("establish.after-entries");
        for (error, outcome) in others.errors.iter_mut().zip(told) {
            *error = error.take().or(outcome.err());
        }
        // By what lies there, not by what was answered.
        let failures: Vec<Option<Error>> = std::mem::take(&mut others.errors);
        others.read().await;
        if is_established(&others.rules, &others.seen()) {
            return Ok(true);
        }
        let what = "too few of the regions that stay could be told what is decided; do the same again when they can be reached";
        let error = Error::new(ErrorKind::Unavailable, what).with("path", path).with("slot", slot);
        Err(blame(error, others.acceptors.iter().map(Acceptor::region).zip(failures.iter().map(Option::as_ref))))
    }

    fn others(&self, path: &Path, slot: Slot) -> Result<Others> {
        let name = self.slot_name(path, slot);
        let leaving = self.regions.leaving();
        let quorums = self.regions.quorums();
        let rules = Rules::from(if leaving.is_some() { quorums.without_one()? } else { quorums });
        let staying = self.regions.voters().iter().filter(|region| Some(region.index()) != leaving);
        let acceptors: Vec<_> = staying.map(|region| Acceptor::new(Arc::clone(&name), Arc::clone(region))).collect();
        Ok(Others { rules, errors: acceptors.iter().map(|_| None).collect(), acceptors })
    }
}
