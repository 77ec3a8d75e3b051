//! One region as the acceptor of one slot: reading its log to the end, and appending to it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use object_store::path::Path;
use tokio::sync::Notify;

use super::core::{Log, Record};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::format::entry::{ENTRY_LIMIT_BYTES, EntryBody, EntryPlace};
use crate::key::PrivateKey;
use crate::region::{Created, Region, RegionSet, layout};

/// Lost create races and unknown outcomes after which an append gives up for this time.
const APPEND_TRIES: usize = 64;
/// Most entries that are asked for at once.
const WINDOW_LIMIT: u32 = 16;
/// Most entries that a slot's log may have; each attempt of a proposer makes two.
const LOG_LIMIT: u32 = 4096;

/// Which slot of which register.
#[derive(Debug)]
pub(super) struct SlotName {
    pub(super) regions: Arc<RegionSet>,
    pub(super) path: Path,
    pub(super) slot: u64,
    /// Told when a region answers that there was an entry where one's own should go.
    pub(super) taken: Notify,
}

/// Whether the log let a record in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appended {
    /// It stands at this position.
    At(usize),
    /// The log moved on: the record may not be appended any more.
    Refused,
}

/// A collector's statement that a slot was collected, as it stands in a region's log.
#[derive(Debug, Clone)]
pub(super) struct Stub {
    digest: Digest,
    sealed: Bytes,
}

/// Who signs what is appended.
#[derive(Clone, Copy)]
enum Signer<'a> {
    Writer(&'a PrivateKey),
    /// It was signed before.
    Done(&'a Bytes),
}

/// What is known of one region's log of one slot. Cheap to clone: values are shared.
#[derive(Debug, Clone)]
pub(super) struct Acceptor {
    name: Arc<SlotName>,
    region: Arc<Region>,
    log: Log<Digest>,
    values: HashMap<Digest, Bytes>,
    complete: bool,
}

impl Acceptor {
    /// Nothing is known yet.
    pub(super) fn new(name: Arc<SlotName>, region: Arc<Region>) -> Self {
        let log = Log::voting_since(name.regions.since(region.index()));
        Self { name, region, log, values: HashMap::new(), complete: false }
    }

    pub(super) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    pub(super) fn log(&self) -> &Log<Digest> {
        &self.log
    }

    /// Whether the log was once read to its end, so that what it lacks was not there when the reading began.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn value(&self, digest: &Digest) -> Option<&Bytes> {
        self.values.get(digest)
    }

    /// Reads entry 0 only, if it was not read yet. Cost: one request.
    pub(super) async fn read_first(&mut self) -> Result<()> {
        if self.log.is_empty() {
            match self.fetch(0).await? {
                Some((body, made)) => self.take(body, made)?,
                None => self.complete = true,
            }
        }
        Ok(())
    }

    /// Reads on from what is known to the log's end. `expected` is a hint of the log's length, from a list.
    ///
    /// Cost: one round trip when the hint is right or there is no entry, else one for every doubling of the log's length.
    ///
    /// # Errors
    /// When an entry cannot be read, is not authentic, or is one that no correct proposer appends: the region is down for this slot.
    pub(super) async fn read(&mut self, expected: u32) -> Result<()> {
        self.complete = false;
        let mut window = expected.saturating_add(1).saturating_sub(self.next()?).clamp(1, WINDOW_LIMIT);
        loop {
            if self.log.is_closed() {
                self.complete = true;
                return Ok(());
            }
            let first = self.next()?;
            let bodies = join_all((first..first.saturating_add(window)).map(|seq| self.fetch(seq))).await;
            for body in bodies {
                // What follows a stub, or a value that was learned, has no meaning, readable or not.
                let end = if self.log.is_closed() { None } else { body? };
                let Some((body, made)) = end else {
                    self.complete = true;
                    return Ok(());
                };
                self.take(body, made)?;
            }
            window = (window * 2).min(WINDOW_LIMIT);
        }
    }

    /// Appends `body` behind all that the log holds, unless the log forbids it.
    ///
    /// Every entry before it was read, so the region's create-if-absent decides. After a lost race or an error the log is read on, and
    /// an entry that turns out to be there is recognised as our own.
    ///
    /// # Errors
    /// When the region does not say whether it took the entry, or is down for this slot. The entry may still arrive.
    pub(super) async fn append(&mut self, body: &EntryBody, writer: &PrivateKey) -> Result<Appended> {
        self.append_signed(body, Signer::Writer(writer)).await
    }

    /// As [`Acceptor::append`], of a stub that stands in another region's log of the slot.
    pub(super) async fn append_stub(&mut self, stub: &Stub) -> Result<Appended> {
        self.append_signed(&EntryBody::Stub(stub.digest), Signer::Done(&stub.sealed)).await
    }

    async fn append_signed(&mut self, body: &EntryBody, signer: Signer<'_>) -> Result<Appended> {
        let record = record(body);
        for _ in 0..APPEND_TRIES {
            if let Some(position) = self.log.position(&record) {
                return Ok(Appended::At(position));
            }
            if !self.log.allows(&record) {
                return Ok(Appended::Refused);
            }
            let seq = self.next()?;
            let sealed = match signer {
                Signer::Writer(writer) => body.seal(&self.place(seq), writer)?.into(),
                Signer::Done(sealed) => sealed.clone(),
            };
            let key = layout::entry_key(&self.name.path, self.name.slot, seq)?;
            failpoint!("register.before-entry");
            let created = self.region.create(&key, Bytes::into(sealed)).await;
            failpoint!("register.after-entry");
            match created {
                Ok(Created::Made) => {
                    self.take(body.clone(), self.name.regions.configuration())?;
                    self.complete = true;
                    return Ok(Appended::At(self.log.len() - 1));
                }
                Ok(Created::Exists) => {
                    self.name.taken.notify_one();
                    // One entry is there; that it is the last is learned in the same round trip.
                    self.read(seq.saturating_add(1)).await?;
                }
                Err(error) => {
                    // Whoever votes fast does not wait for the log of a region that may be down: a classic ballot finds the vote, if it is there.
                    if matches!(body, EntryBody::Accept(ballot, _) if ballot.is_fast()) {
                        return Err(error);
                    }
                    // The region's error says neither yes nor no; only its log does.
                    self.read(0).await?;
                    if self.next()? == seq {
                        return Err(error);
                    }
                }
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "too many proposers at once").with("region", self.region.name()))
    }

    fn next(&self) -> Result<u32> {
        u32::try_from(self.log.len()).ok().filter(|len| *len < LOG_LIMIT).ok_or_else(|| {
            Error::new(ErrorKind::Corrupt, "a slot's log is longer than any that was made here").with("region", self.region.name())
        })
    }

    fn place(&self, seq: u32) -> EntryPlace<'_> {
        let SlotName { regions, path, slot, .. } = &*self.name;
        EntryPlace {
            lake: *regions.lake(),
            configuration: regions.configuration(),
            region: self.region.index(),
            path: path.as_ref(),
            slot: *slot,
            seq,
        }
    }

    /// The stub that ends the log, if one does. Cost: one GET, behind what was read.
    pub(super) async fn stub(&self) -> Result<Option<Stub>> {
        let Some(seq) = self.log.collected().and_then(|_| u32::try_from(self.log.len() - 1).ok()) else { return Ok(None) };
        let Some(sealed) = self.fetch_sealed(seq).await? else { return Ok(None) };
        Ok(match self.open(&sealed, seq)? {
            (EntryBody::Stub(digest), _) => Some(Stub { digest, sealed }),
            _ => None,
        })
    }

    async fn fetch(&self, seq: u32) -> Result<Option<(EntryBody, u64)>> {
        self.fetch_sealed(seq).await?.map(|sealed| self.open(&sealed, seq)).transpose()
    }

    async fn fetch_sealed(&self, seq: u32) -> Result<Option<Bytes>> {
        let key = layout::entry_key(&self.name.path, self.name.slot, seq)?;
        self.region.get(&key, ENTRY_LIMIT_BYTES).await
    }

    fn open(&self, sealed: &Bytes, seq: u32) -> Result<(EntryBody, u64)> {
        let regions = &self.name.regions;
        EntryBody::open_since(sealed, &self.place(seq), regions.since(self.region.index()), regions.entry_keys()).map_err(|error| {
            if error.kind() == ErrorKind::Unavailable {
                regions.note_change();
            }
            error.with("region", self.region.name())
        })
    }

    fn take(&mut self, body: EntryBody, made: u64) -> Result<()> {
        let record = record(&body);
        if let (EntryBody::Accept(_, value) | EntryBody::Learned(value), Record::Accept(_, digest) | Record::Learned(digest)) =
            (body, record)
        {
            self.values.entry(digest).or_insert(value);
        }
        self.log.push_made(record, made).map_err(|_| {
            Error::new(ErrorKind::Corrupt, "a register entry stands where no correct proposer puts it")
                .with("region", self.region.name())
                .with("path", &self.name.path)
                .with("slot", self.name.slot)
                .with("entry", self.log.len())
        })
    }
}

fn record(body: &EntryBody) -> Record<Digest> {
    match body {
        EntryBody::Promise(ballot) => Record::Promise(*ballot),
        EntryBody::Accept(ballot, value) => Record::Accept(*ballot, Digest::of(value)),
        EntryBody::Stub(digest) => Record::Stub(*digest),
        EntryBody::Learned(value) => Record::Learned(Digest::of(value)),
        EntryBody::Undecided(ballot) => Record::Undecided(*ballot),
    }
}
