//! Telling one region what is decided, or that nothing is, and looking at what it holds.
//!
//! **Why teaching is safe.** A learned value is a statement of fact, not a vote: it is written only for a slot whose decision was proven, so
//! whoever believes it believes what is true for ever. It is appended like every entry, behind all that was read, by create-if-absent. It
//! closes the log: the region takes part in no further ballot of the slot, so no promise that it made can be broken by it, and a vote
//! that it should still have cast can only have been for the same value, since nothing else can be decided any more. An entry that cannot be read is
//! never passed over: what it says is not known, and the region stays down for the slot.
//!
//! **Why a stub is copied.** That a slot was collected is a fact as well, and a collector's signature on it speaks of the slot, not of the
//! region it was made for. Without a copy, a region that is given a place in the lake would show nothing of the slot, and once all that held
//! stubs are replaced, the slot would be empty, to be decided again (`docs/decisions/0011-membership.md`).
//!
//! **Why it is safe to tell that nothing is decided.** It is written when a quorum has promised a ballot and none of them had voted. Whatever was
//! begun below that ballot has too few regions left to vote for it, were the vote of the region before this one hidden, so that
//! its own silence below the ballot hides nothing; above it, it votes like any other (`docs/decisions/0011-membership.md`).

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use object_store::path::Path;

use super::acceptor::{Acceptor, Appended, Stub};
use super::core::{Ballot, Log, counts};
use super::{Decided, Registers, Slot};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::format::entry::{EntryBody, MARKER_TEXT_BYTES, Marker};
use crate::key::PrivateKey;
use crate::region::{Created, Region, layout};

/// How teaching ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taught {
    /// The region's log was closed before: it was told already, or the version was collected there.
    Already,
    /// The region says what is decided now.
    Written,
    /// An entry there cannot be read or is not authentic, so that nothing may be written behind it.
    CannotRead(String),
}

/// What one region's log of a slot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// Number of entries.
    pub entries: usize,
    /// The value itself, in a vote for it or because the region was told: a readable copy.
    pub value: Option<Bytes>,
    /// The log is closed by the statement that this value is decided.
    pub learned: bool,
    /// The log ends in a collector's stub.
    pub collected: bool,
    /// All that the region said.
    pub log: Log<Digest>,
}

impl Inspected {
    /// Whether the region has a say in the slot, of which `logs` are all the logs that are known: it does not where it came later than an
    /// entry of another and was told nothing.
    pub fn counts(&self, logs: &[&Log<Digest>]) -> bool {
        counts(&self.log, logs)
    }
}

impl Registers {
    /// Tells `region` what slot `decided` of `path` is decided for. Only for values that [`Registers::newest`], [`Registers::at`] or
    /// [`Registers::propose`] said are decided: whoever teaches anything else forks the name.
    ///
    /// Cost: the reading of the region's log, and one create.
    ///
    /// # Errors
    /// Whatever the region failed with: the entry may still arrive, and does no harm. [`ErrorKind::Corrupt`] when the region was told
    /// another value. [`ErrorKind::Permission`] without a writer's key.
    pub async fn teach(&self, path: &Path, decided: &Decided, region: u8) -> Result<Taught> {
        let writer = self.writer_key(path)?;
        let mut acceptor = self.acceptor(path, decided.slot, region)?;
        match acceptor.read(0).await {
            Ok(()) => {}
            Err(error) if is_unreadable(&error) => return Ok(Taught::CannotRead(error.to_string())),
            Err(error) => return Err(error),
        }
        let closed = acceptor.log().is_closed();
        if !closed {
            failpoint!("teach.before-entry");
            match acceptor.append(&EntryBody::Learned(decided.value.clone()), &writer).await {
                Ok(Appended::At(_)) => {
                    failpoint!("teach.after-entry");
                    return Ok(Taught::Written);
                }
                Ok(Appended::Refused) => {}
                Err(error) if is_unreadable(&error) => return Ok(Taught::CannotRead(error.to_string())),
                Err(error) => return Err(error),
            }
        }
        let said = acceptor.log().learned().or_else(|| acceptor.log().collected());
        if said == Some(decided.digest) {
            return Ok(Taught::Already);
        }
        Err(Error::new(ErrorKind::Corrupt, "a region was told that another value is decided; the name is forked")
            .with("path", path)
            .with("slot", decided.slot)
            .with("region", acceptor.region().name()))
    }

    /// Tells `region` that a slot was collected, by a copy of the stub that a collector made for another region; it takes neither key. A
    /// region that says already what is decided is left alone.
    ///
    /// Cost: the reading of all regions' logs, one GET and one create.
    ///
    /// # Errors
    /// Whatever the region failed with; [`ErrorKind::Unavailable`] when no region that answers has a stub: do it again.
    pub async fn teach_collected(&self, path: &Path, slot: Slot, region: u8) -> Result<Taught> {
        let mut acceptor = self.acceptor(path, slot, region)?;
        let told: Result<Taught> = async {
            acceptor.read(0).await?;
            if acceptor.log().is_closed() {
                return Ok(Taught::Already);
            }
            let stub = self.find_stub(path, slot).await?;
            failpoint!("teach.before-entry");
            let appended = acceptor.append_stub(&stub).await?;
            failpoint!("teach.after-entry");
            // Refused only where the log was closed meanwhile.
            Ok(if appended == Appended::Refused { Taught::Already } else { Taught::Written })
        }
        .await;
        match told {
            Err(error) if is_unreadable(&error) => Ok(Taught::CannotRead(error.to_string())),
            outcome => outcome,
        }
    }

    /// The stub of a slot that was collected, of whichever region shows it first.
    pub(super) async fn find_stub(&self, path: &Path, slot: Slot) -> Result<Stub> {
        let name = self.slot_name(path, slot);
        let looks = self.regions.voters().iter().map(|region| {
            let mut acceptor = Acceptor::new(Arc::clone(&name), Arc::clone(region));
            async move {
                acceptor.read(0).await?;
                acceptor.stub().await
            }
        });
        let mut looks: FuturesUnordered<_> = looks.collect();
        let what = "a version was collected, and no region that answers has the statement that says so; do the same again";
        let mut error = Error::new(ErrorKind::Unavailable, what).with("path", path).with("slot", slot);
        while let Some(look) = looks.next().await {
            match look {
                Ok(Some(stub)) => return Ok(stub),
                Ok(None) => {}
                Err(failure) => error = error.with("failure", failure),
            }
        }
        Err(error)
    }

    /// Tells `region`, which came later than an entry of the slot, that nothing was decided below `ballot` and nothing can be: what
    /// [`Registers::close`] said. Whoever tells anything else forks the name.
    ///
    /// Cost: the reading of the region's log, and one create.
    ///
    /// # Errors
    /// Whatever the region failed with; [`ErrorKind::Permission`] without a writer's key.
    pub async fn teach_undecided(&self, path: &Path, slot: Slot, ballot: Ballot, region: u8) -> Result<()> {
        let writer = self.writer_key(path)?;
        let mut acceptor = self.acceptor(path, slot, region)?;
        acceptor.read(0).await?;
        failpoint!("teach.before-entry");
        // Refused where it was told before, or says what is decided.
        acceptor.append(&EntryBody::Undecided(ballot), &writer).await?;
        failpoint!("teach.after-entry");
        Ok(())
    }

    /// Whether `region` was told what is decided at a slot, or has voted there itself with a vote that counts. Where others say that the slot
    /// was collected, its vote says nothing any more.
    ///
    /// Cost: one GET when it was told, else the logs of all regions. Where another cannot be read, it is not known whether the vote counts: `false`.
    ///
    /// # Errors
    /// Whatever the region failed with.
    pub async fn has_its_say(&self, path: &Path, slot: Slot, region: u8) -> Result<bool> {
        let mut acceptor = self.acceptor(path, slot, region)?;
        acceptor.read(0).await?;
        if acceptor.log().is_closed() || acceptor.log().accepted().is_none() {
            return Ok(acceptor.log().is_closed());
        }
        let name = self.slot_name(path, slot);
        let others = self.regions.regions().iter().filter(|other| other.index() != region);
        let mut others: Vec<_> = others.map(|other| Acceptor::new(Arc::clone(&name), Arc::clone(other))).collect();
        let all_read = join_all(others.iter_mut().map(|other| other.read(1))).await.iter().all(std::result::Result::is_ok);
        let logs: Vec<_> = others.iter().map(Acceptor::log).chain([acceptor.log()]).collect();
        Ok(all_read && counts(acceptor.log(), &logs) && logs.iter().all(|log| log.collected().is_none()))
    }

    /// Whether markers of `path` fit into keys of the region: where they do not, it has none, which costs readers time and nothing else.
    pub fn has_room_for_marker(&self, path: &Path, region: &Region) -> bool {
        layout::marker_key_bytes(path, MARKER_TEXT_BYTES).is_ok_and(|bytes| region.has_room_for_key(bytes))
    }

    /// Writes the decided marker of a slot at one region, and says whether it was missing. Only for values known to be decided. A region
    /// that has no room for its key is left without.
    ///
    /// # Errors
    /// Whatever the region failed with; [`ErrorKind::Permission`] without a writer's key.
    pub async fn mark_region(&self, path: &Path, slot: Slot, marker: &Marker, region: u8) -> Result<bool> {
        let writer = self.writer_key(path)?;
        if !self.has_room_for_marker(path, self.region(region)?) {
            return Ok(false);
        }
        let signed = marker.sign(*self.regions.lake(), self.regions.configuration(), path.as_ref(), slot, &writer);
        let key = layout::marker_key(path, slot, &signed.to_text())?;
        failpoint!("mark.before-marker");
        let created = self.region(region)?.create(&key, Bytes::new().into()).await?;
        failpoint!("mark.after-marker");
        Ok(created == Created::Made)
    }

    /// Reads one region's whole log of a slot and says what it holds of the value with digest `value`.
    ///
    /// Cost: one GET an entry, in parallel when `expected`, the length that a list shows, is right.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`], [`ErrorKind::Unauthentic`] or [`ErrorKind::Unsupported`] when an entry cannot be read, so that the region is
    /// down for the slot; else whatever the region failed with.
    pub async fn inspect(&self, path: &Path, slot: Slot, value: &Digest, region: u8, expected: u32) -> Result<Inspected> {
        let mut acceptor = self.acceptor(path, slot, region)?;
        acceptor.read(expected).await?;
        let log = acceptor.log();
        Ok(Inspected {
            entries: log.len(),
            value: acceptor.value(value).cloned(),
            learned: log.learned() == Some(*value),
            collected: log.collected().is_some(),
            log: log.clone(),
        })
    }

    /// The value of digest `value` in entry 0 of one region, when that is where it is: what a marker names, fetched by one GET.
    ///
    /// # Errors
    /// As [`Registers::inspect`].
    pub async fn first_entry(&self, path: &Path, slot: Slot, value: &Digest, region: u8) -> Result<Option<Decided>> {
        let mut acceptor = self.acceptor(path, slot, region)?;
        acceptor.read_first().await?;
        Ok(acceptor.value(value).map(|bytes| Decided { slot, value: bytes.clone(), digest: *value }))
    }

    fn acceptor(&self, path: &Path, slot: Slot, region: u8) -> Result<Acceptor> {
        layout::register_folder(path)?;
        Ok(Acceptor::new(self.slot_name(path, slot), Arc::clone(self.region(region)?)))
    }

    fn region(&self, index: u8) -> Result<&Arc<Region>> {
        let no_such = || Error::new(ErrorKind::InvalidInput, "the lake has no region at this position").with("position", index);
        self.regions.region(index).ok_or_else(no_such)
    }

    pub(super) fn writer_key(&self, path: &Path) -> Result<Arc<PrivateKey>> {
        let missing = || Error::new(ErrorKind::Permission, "writing needs a writer's private key of this lake").with("path", path);
        self.writer.clone().ok_or_else(missing)
    }
}

/// Whether an error says that what lies there is no entry that can be used, rather than that it could not be fetched.
pub fn is_unreadable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unauthentic | ErrorKind::Unsupported)
}
