//! Appending: the store's create-if-absent decides each place of the log, so that no entry is lost and nobody leads.

use std::time::Duration;

use bytes::Bytes;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode};

use super::entry::TABLES_LIMIT;
use super::tree;
use super::votes::{self, Votes};
use super::{Entry, Log, LogEntry, LogKeys, LoggedBaseline, Newest, ORIGIN_START, SignedEntry, TILE_LEAVES};
use crate::baseline::inventory::{Inventory, table_name};
use crate::error::{Error, ErrorKind, Result};
use crate::id::random_bytes;
use crate::key::{KeyId, Signer};

/// So often a place may be lost to others, or the store may fail, before appending gives up.
const ATTEMPTS: u32 = 64;

/// What is to be recorded.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Baselines, of different tables. Those that the log has already are left out, unless they begin a history anew.
    pub baselines: Vec<LoggedBaseline>,
    /// Tables that are given up, by URL.
    pub retired: Vec<String>,
    /// What time it is, in milliseconds since 1970.
    pub now_ms: i64,
    /// When the inventory ceases to hold; absent when it does not.
    pub expires_ms: Option<i64>,
    /// Sign inventory and checkpoint although there is nothing to append: to renew the term.
    pub renew: bool,
}

impl Record {
    fn is_empty(&self) -> bool {
        self.baselines.is_empty() && self.retired.is_empty()
    }
}

/// What appending came to.
#[derive(Debug, Clone)]
pub struct Appended {
    /// The place of the entry; absent when there was nothing to append.
    pub index: Option<u64>,
    /// The inventory of the log as far as the entry; it is signed, unless there was nothing to do.
    pub inventory: Inventory,
}

impl Log {
    /// Appends an entry with what the log does not know yet, and signs checkpoint and inventory.
    ///
    /// Cost: as [`Log::newest`], then three PUTs; each lost race costs a GET and a PUT more.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for too many tables; [`ErrorKind::Mismatch`] when an entry that is in no inventory yet was exchanged; [`ErrorKind::Permission`] when the key has no part in the log;
    /// [`ErrorKind::Unavailable`] when others kept taking the next place; those of store and signer. The baselines are sealed nevertheless: to
    /// record them again is what is to be done.
    pub async fn append(&self, record: &Record, signer: &dyn Signer, keys: &LogKeys) -> Result<Appended> {
        if record.baselines.len() > TABLES_LIMIT || record.retired.len() > TABLES_LIMIT {
            return Err(Error::new(ErrorKind::InvalidInput, "too many tables for one entry of the log").with("limit", TABLES_LIMIT));
        }
        let own = signer.public();
        let (seals, renews) = (keys.entries.contains(&own), keys.newest.contains(&own));
        if !seals && (!record.is_empty() || !renews) {
            return Err(
                Error::new(ErrorKind::Permission, "this key has no part in the log: it is of no sealer that you trust").with("key", own)
            );
        }
        let newest = self.newest(keys).await?;
        if let Some(newest) = &newest {
            check_links(newest, record, keys)?;
        }
        let due = newest.as_ref().is_some_and(|newest| {
            let expired = newest.expires_ms.is_some_and(|expires| expires <= record.now_ms);
            expired || newest.by_former || newest.inventory.frontier.size() > newest.signed.size
        });
        let mut known = match newest {
            Some(Newest { inventory, replayed, votes, .. }) => Known { inventory, replayed, votes },
            None => self.begin(keys).await?,
        };
        let index = self.place(record, signer, keys, &mut known).await?;
        let mut inventory = known.inventory;
        if inventory.log.is_empty() {
            inventory.log = self.new_origin()?;
        }
        if renews && (index.is_some() || record.renew || due) {
            self.publish(&mut inventory, record, signer).await?;
        }
        Ok(Appended { index, inventory })
    }

    /// The inventory of a log that nobody known had signed anything of a moment ago: of junk at most, or of what somebody else begins just now.
    async fn begin(&self, keys: &LogKeys) -> Result<Known> {
        let mut known = Known { inventory: Inventory::empty(String::new()), replayed: Vec::new(), votes: Votes::default() };
        known.follow(self.entries(0, &keys.known()).await?, keys);
        Ok(known)
    }

    /// The origin of a log that begins.
    fn new_origin(&self) -> Result<String> {
        match &self.origin {
            Some(origin) => Ok(origin.clone()),
            None => Ok(format!("{ORIGIN_START}{}", hex::encode(random_bytes::<16>()?))),
        }
    }

    /// Puts the entry at the first free place; `None` when all of it is known already.
    async fn place(&self, record: &Record, signer: &dyn Signer, keys: &LogKeys, known: &mut Known) -> Result<Option<u64>> {
        let own = signer.public().id();
        for attempt in 0..ATTEMPTS {
            let Some(mut entry) = missing(record, known, own, keys) else { return Ok(None) };
            if entry.log.is_empty() {
                entry.log = self.new_origin()?;
            }
            let index = known.inventory.frontier.size();
            (entry.index, entry.before) = (Some(index), Some(known.inventory.frontier.root()));
            let leaf = Bytes::from(entry.sign(signer).await?);
            let put = self.store.put_opts(&self.entry_path(index), leaf.clone().into(), PutMode::Create.into()).await;
            // Whatever the store said of the create, what lies there decides: an acknowledgement may have been lost.
            let found = match put {
                Ok(_) => Some(leaf.clone()),
                Err(e @ (object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. })) => {
                    let what = "this store has no create-if-absent, without which a log cannot be kept";
                    return Err(Error::new(ErrorKind::Unsupported, what).caused_by(e));
                }
                Err(e @ (object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. })) => {
                    return Err(e.into());
                }
                Err(_) => self.leaf(index).await?,
            };
            match found {
                Some(found) if found == leaf => {
                    let signed = Some(SignedEntry { entry, signers: vec![own] });
                    known.follow(vec![LogEntry { index, hash: tree::leaf_hash(&leaf), signed }], keys);
                    return Ok(Some(index));
                }
                Some(_) => known.follow(self.entries(index, &keys.known()).await?, keys),
                None => {
                    let [jitter] = random_bytes::<1>()?;
                    tokio::time::sleep(Duration::from_millis(u64::from(jitter) << attempt.min(4))).await;
                }
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "the next place of the log could not be won; the baselines are sealed: record them again"))
    }

    /// Signs checkpoint and inventory; the inventory is last, since it is what readers look for.
    async fn publish(&self, inventory: &mut Inventory, record: &Record, signer: &dyn Signer) -> Result<()> {
        let (size, id) = (inventory.frontier.size(), signer.public().id());
        self.tile(size).await;
        inventory.created_ms = record.now_ms;
        inventory.expires_ms = record.expires_ms;
        let checkpoint = inventory.checkpoint().sign(signer).await?;
        self.store.put(&self.checkpoint_path(size, id), checkpoint.into()).await?;
        self.store.put(&self.inventory_path(size, id), inventory.sign(signer).await?.into()).await?;
        Ok(())
    }

    /// Whoever fills a tile writes it. It is a shortcut that readers check: when it fails, the entries serve.
    async fn tile(&self, size: u64) {
        if size == 0 || !size.is_multiple_of(TILE_LEAVES) {
            return;
        }
        let from = size - TILE_LEAVES;
        let Ok(entries) = self.entries(from, &[]).await else { return };
        let hashes: Vec<u8> = entries.iter().filter(|entry| entry.index < size).flat_map(|entry| entry.hash).collect();
        if u64::try_from(hashes.len()) == Ok(TILE_LEAVES * 32)
            && let Err(error) = self.store.put(&self.tile_path(from / TILE_LEAVES), hashes.into()).await
        {
            tracing::debug!(%error, "a tile of the log could not be written; its entries serve");
        }
    }
}

/// What is known of a log while an entry is placed.
struct Known {
    inventory: Inventory,
    /// All entries, where a log is replayed.
    replayed: Vec<LogEntry>,
    votes: Votes,
}

impl Known {
    fn follow(&mut self, next: Vec<LogEntry>, keys: &LogKeys) {
        if !keys.replays() {
            return next.iter().for_each(|entry| self.inventory.follow(entry));
        }
        self.replayed.extend(next);
        (self.inventory, self.votes) = votes::judge(&self.inventory.log, &self.replayed, keys);
    }
}

/// An inventory over entries of which one was exchanged would cover that up. Only somebody who accepted what is there goes on from it.
fn check_links(newest: &Newest, record: &Record, keys: &LogKeys) -> Result<()> {
    let finding = newest.broken.as_ref().map(|broken| broken.finding(keys)).filter(|finding| finding.verdict.is_mismatch());
    match finding {
        Some(finding) if !record.baselines.iter().any(|logged| logged.restart) => {
            let what =
                "the log is not gone on with; look at its tables, and accept what is there by sealing one of them (--accept-changes)";
            Err(Error::new(ErrorKind::Mismatch, format!("{}; {what}", finding.detail)).with("log", &newest.inventory.log))
        }
        _ => Ok(()),
    }
}

/// The entry for what the log does not know yet, or what this key has not said yet where it takes several.
fn missing(record: &Record, known: &Known, own: KeyId, keys: &LogKeys) -> Option<Entry> {
    let (inventory, votes) = (&known.inventory, &known.votes);
    let several = keys.threshold > 1;
    let row = |table: &str| inventory.tables.get(table_name(table));
    let is_new = |logged: &&LoggedBaseline| {
        let known = row(&logged.table).filter(|row| !row.retired);
        let counts = known.is_some_and(|row| row.number >= logged.number && (!logged.restart || row.digest == logged.digest));
        !(counts || several && votes.has_named(logged, &own))
    };
    // What is sealed as one stands in one entry, whatever of it is known from elsewhere.
    let baselines = if record.baselines.iter().any(|logged| is_new(&logged)) || is_new_set(record, inventory) {
        record.baselines.clone()
    } else {
        Vec::new()
    };
    let is_live = |table: &&String| row(table).is_some_and(|row| !row.retired) && !(several && votes.has_retired(table, &own));
    let retired: Vec<String> = record.retired.iter().filter(is_live).cloned().collect();
    let entry = Entry { log: inventory.log.clone(), time_ms: record.now_ms, baselines, retired, index: None, before: None };
    (!entry.baselines.is_empty() || !entry.retired.is_empty()).then_some(entry)
}

/// Whether several tables are to be sealed as one, and do not stand in one entry yet.
fn is_new_set(record: &Record, inventory: &Inventory) -> bool {
    let entries: Vec<_> =
        record.baselines.iter().map(|logged| inventory.tables.get(table_name(&logged.table)).map(|row| row.entry)).collect();
    entries.len() > 1 && entries.iter().zip(entries.iter().skip(1)).any(|(a, b)| a != b)
}
