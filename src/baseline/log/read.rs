//! Reading a log: entries by probing for the next, hashes of many from tiles, inventories by their names.

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::ObjectStoreExt as _;

use super::checkpoint::CHECKPOINT_LIMIT_BYTES;
use super::entry::ENTRY_LIMIT_BYTES;
use super::links;
use super::tree::{self, Frontier, Hash};
use super::votes::{self, Votes};
use super::{Broken, Checkpoint, Entry, Log, LogKeys, NAME_DIGITS, SignedEntry, TILE_LEAVES};
use crate::baseline::inventory::{INVENTORY_LIMIT_BYTES, Inventory};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyId, VerifyingKey};
use crate::table::read_object;

const CONCURRENCY: usize = 16;
/// So many entries are asked for at once.
const STEP_LIMIT: u64 = 16;
/// A log that claims more entries than this is not read whole: 2^26, whose hashes take 2 GiB.
const SIZE_LIMIT: u64 = 1 << 26;

/// One place of a log.
#[derive(Debug, Clone)]
pub struct LogEntry {
    /// Its place, from 0.
    pub index: u64,
    /// Its leaf's hash.
    pub hash: Hash,
    /// What it says; `None` when no known key signed it.
    pub signed: Option<SignedEntry>,
}

/// The newest that trusted signers say of a log, with what entries came after.
#[derive(Debug, Clone)]
pub struct Newest {
    /// The tables, after all entries that are there.
    pub inventory: Inventory,
    /// Size and root that the newest signed inventory states.
    pub signed: Checkpoint,
    /// When that one ceases to hold.
    pub expires_ms: Option<i64>,
    /// The entries that came after it.
    pub tail: Vec<LogEntry>,
    /// The newest signed inventory is by a key that may not say any more what is newest.
    pub by_former: bool,
    /// How many entries those inventories state that are not made over these entries, where these were replayed.
    pub contradicted: Vec<u64>,
    /// Entries that are not made over those before them: of all, where they were replayed, else of those after the inventory.
    pub(super) broken: Option<Broken>,
    /// All entries, where they were replayed.
    pub(super) replayed: Vec<LogEntry>,
    pub(super) votes: Votes,
}

impl Log {
    /// The leaf at `index`; `None` when there is none yet. A larger object than any entry is an empty leaf.
    pub(super) async fn leaf(&self, index: u64) -> Result<Option<Bytes>> {
        let path = self.entry_path(index);
        let got = match self.store.get(&path).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(Error::from(e).with("log entry", index)),
        };
        let size = got.meta.size;
        if size > ENTRY_LIMIT_BYTES {
            return Ok(Some(Bytes::new()));
        }
        let bytes = got.bytes().await.map_err(|e| Error::from(e).with("log entry", index))?;
        if u64::try_from(bytes.len()) != Ok(size) {
            return Err(Error::new(ErrorKind::Corrupt, "a log's entry has another length than its store states").with("log entry", index));
        }
        Ok(Some(bytes))
    }

    /// The entries from `from` on, to the first that is not there. Cost: one GET each, and up to 16 more.
    ///
    /// Nothing is listed: the store's answer that there is no such object is what ends the log.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn entries(&self, from: u64, keys: &[VerifyingKey]) -> Result<Vec<LogEntry>> {
        let mut found = Vec::new();
        let mut next = from;
        // The end is usually near: the first step asks for few.
        let mut step = 1;
        while next < SIZE_LIMIT {
            let reads = stream::iter(next..next.saturating_add(step)).map(|index| self.leaf(index)).buffered(CONCURRENCY);
            let leaves: Vec<Option<Bytes>> = reads.try_collect().await?;
            for leaf in leaves {
                let Some(leaf) = leaf else { return Ok(found) };
                found.push(LogEntry { index: next, hash: tree::leaf_hash(&leaf), signed: self.own(next, &leaf, keys) });
                next += 1;
            }
            step = (step * 4).min(STEP_LIMIT);
        }
        Ok(found)
    }

    /// What the leaf at `index` says, if it says it of this log, and of this place where it states one.
    fn own(&self, index: u64, leaf: &[u8], keys: &[VerifyingKey]) -> Option<SignedEntry> {
        let signed = Entry::open(leaf, keys)?;
        let lies_here = signed.entry.index.is_none_or(|own| own == index);
        (lies_here && self.is_own(&signed.entry.log)).then_some(signed)
    }

    pub(super) fn is_own(&self, origin: &str) -> bool {
        self.origin.as_ref().is_none_or(|own| own == origin)
    }

    /// The hashes of the first `size` leaves, whose root is `root`: of whole tiles where these are there and true, else of the entries.
    ///
    /// Cost: one GET per 256 entries and one per entry of the rest; 32 bytes of memory per entry.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] when entries are gone, or are not those that the root was made over.
    pub async fn hashes(&self, size: u64, root: &Hash) -> Result<Vec<Hash>> {
        if size > SIZE_LIMIT {
            return Err(Error::new(ErrorKind::Unsupported, "the log is too large to be read whole").with("entries", size));
        }
        let by_tiles = self.hashes_by(size, true).await;
        if let Ok(hashes) = &by_tiles
            && tree::root(hashes) == *root
        {
            return by_tiles;
        }
        let hashes = self.hashes_by(size, false).await?;
        if tree::root(&hashes) == *root {
            return Ok(hashes);
        }
        Err(Error::new(ErrorKind::Mismatch, "the log's entries are not those that its checkpoint was signed over").with("entries", size))
    }

    pub(super) async fn hashes_by(&self, size: u64, tiles: bool) -> Result<Vec<Hash>> {
        let mut hashes = Vec::new();
        let whole = if tiles { size / TILE_LEAVES } else { 0 };
        let reads =
            stream::iter(0..whole).map(|tile| async move { read_object(&*self.store, &self.tile_path(tile), TILE_LEAVES * 32).await });
        let mut reads = reads.buffered(CONCURRENCY);
        while let Some(tile) = reads.try_next().await? {
            let (parts, rest) = tile.as_chunks::<32>();
            if u64::try_from(parts.len()) != Ok(TILE_LEAVES) || !rest.is_empty() {
                return Err(Error::new(ErrorKind::Corrupt, "a tile of the log has another length"));
            }
            hashes.extend_from_slice(parts);
        }
        drop(reads);
        let rest = stream::iter(whole * TILE_LEAVES..size).map(|index| async move {
            let gone = || Error::new(ErrorKind::Mismatch, "an entry of the log is gone").with("log entry", index);
            Ok::<_, Error>(tree::leaf_hash(&self.leaf(index).await?.ok_or_else(gone)?))
        });
        hashes.extend(rest.buffered(CONCURRENCY).try_collect::<Vec<_>>().await?);
        Ok(hashes)
    }

    /// Sizes by name of what known keys are said to have signed in a folder, the largest first. Cost: one LIST.
    async fn signed_names(&self, folder: &'static str, keys: &[VerifyingKey]) -> Result<Vec<(u64, KeyId)>> {
        let listed = self.store.list(Some(&self.folder(folder)));
        let names: Vec<_> = listed.try_collect().await?;
        let mut names: Vec<(u64, KeyId)> = names.iter().filter_map(|meta| parse_name(meta.location.filename()?)).collect();
        names.retain(|(_, id)| keys.iter().any(|key| key.id() == *id));
        names.sort_unstable_by(|a, b| b.cmp(a));
        names.dedup();
        Ok(names)
    }

    /// The newest inventory that each of `keys` signed, the one of the longest log first. Junk is passed over.
    ///
    /// Cost: one LIST, and one GET for each key.
    async fn inventories(&self, keys: &[VerifyingKey]) -> Result<Vec<Inventory>> {
        let mut found: Vec<(KeyId, Inventory)> = Vec::new();
        for (size, id) in self.signed_names("inventory", keys).await? {
            if found.iter().any(|(known, _)| *known == id) {
                continue;
            }
            let own: Vec<VerifyingKey> = keys.iter().filter(|key| key.id() == id).copied().collect();
            let note = match read_object(&*self.store, &self.inventory_path(size, id), INVENTORY_LIMIT_BYTES).await {
                Ok(note) => note,
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => continue,
                Err(e) => return Err(e),
            };
            let opened = Inventory::open(&note, &own).map(|(inventory, _)| inventory);
            found.extend(opened.filter(|i| i.frontier.size() == size && self.is_own(&i.log)).map(|inventory| (id, inventory)));
        }
        Ok(found.into_iter().map(|(_, inventory)| inventory).collect())
    }

    /// What trusted signers say of the log, and the entries since. `None` when no known key signed anything of it.
    ///
    /// Cost: one LIST; one GET for each key, each entry since, and one more. Where one sealer is not enough, or sealers of former trust
    /// roots have a part in the log: one GET for every entry.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn newest(&self, keys: &LogKeys) -> Result<Option<Newest>> {
        if keys.replays() {
            return self.newest_replayed(keys).await;
        }
        let mut inventories = self.inventories(&keys.newest).await?.into_iter();
        let (mut inventory, expires_ms) = match inventories.next() {
            Some(longest) => {
                let mut expires_ms = longest.expires_ms;
                let mut inventory = longest;
                for other in inventories.filter(|other| other.log == inventory.log).collect::<Vec<_>>() {
                    // Of one length, the one that holds longest counts.
                    if other.frontier == inventory.frontier {
                        expires_ms = expires_ms.zip(other.expires_ms).map(|(a, b)| a.max(b));
                    }
                    inventory.merge(other);
                }
                (inventory, expires_ms)
            }
            None => (Inventory::empty(String::new()), None),
        };
        let signed = inventory.checkpoint();
        let tail = self.entries(signed.size, &keys.entries).await?;
        let before = inventory.frontier.clone();
        tail.iter().for_each(|entry| inventory.follow(entry));
        let broken = links::broken(&inventory.log, &before, &tail, keys);
        let newest = Newest {
            inventory,
            signed,
            expires_ms,
            tail,
            by_former: false,
            contradicted: Vec::new(),
            broken,
            replayed: Vec::new(),
            votes: Votes::default(),
        };
        Ok((!newest.inventory.log.is_empty()).then_some(newest))
    }

    /// As [`Self::newest`], by all entries: signed inventories only say how far the log was, and for how long that holds.
    async fn newest_replayed(&self, keys: &LogKeys) -> Result<Option<Newest>> {
        // Inventories first: what is appended meanwhile is then more than they state, not less.
        let current = self.inventories(&keys.newest).await?;
        let former = self.inventories(keys.former_newest()).await?;
        let replayed = self.entries(0, &keys.known()).await?;
        let (mut inventory, votes) = votes::judge("", &replayed, keys);
        let hashes: Vec<Hash> = replayed.iter().map(|entry| entry.hash).collect();
        let log = inventory.log.clone();
        let fits = |signed: &Inventory| {
            let first = usize::try_from(signed.frontier.size()).ok().and_then(|size| hashes.get(..size));
            signed.log == log && first.is_some_and(|first| tree::root(first) == signed.frontier.root())
        };
        let (mut fitting, others): (Vec<_>, Vec<_>) = current.into_iter().partition(&fits);
        if inventory.log.is_empty() {
            // All entries are gone, and the inventories are not.
            inventory.log = others.first().map(|other| other.log.clone()).unwrap_or_default();
        }
        let by_former = fitting.is_empty();
        if by_former {
            fitting.extend(former.into_iter().filter(&fits));
        }
        let size = fitting.iter().map(|signed| signed.frontier.size()).max().unwrap_or_default();
        let terms = fitting.iter().filter(|signed| signed.frontier.size() == size).map(|signed| signed.expires_ms);
        // Of several, the one that holds longest counts; of those whose word is not taken any more, the one that ends first.
        let expires_ms = if by_former {
            fitting.iter().filter_map(|signed| signed.expires_ms).min()
        } else {
            terms.reduce(|a, b| a.zip(b).map(|(a, b)| a.max(b))).flatten()
        };
        let longest = fitting.iter().find(|signed| signed.frontier.size() == size);
        let signed = longest.map_or_else(|| Inventory::empty(inventory.log.clone()).checkpoint(), Inventory::checkpoint);
        let tail = replayed.iter().filter(|entry| entry.index >= size).cloned().collect();
        let contradicted = others.iter().map(|other| other.frontier.size()).collect();
        let by_former = by_former && longest.is_some();
        let broken = links::broken(&inventory.log, &Frontier::default(), &replayed, keys);
        let newest = Newest { inventory, signed, expires_ms, tail, by_former, contradicted, broken, replayed, votes };
        Ok((!newest.inventory.log.is_empty()).then_some(newest))
    }

    /// The newest checkpoint that one of `keys` signed, and its note. Junk is passed over. Cost: one LIST, one GET.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn newest_checkpoint(&self, keys: &LogKeys) -> Result<Option<(Checkpoint, String)>> {
        for (size, id) in self.signed_names("checkpoints", &keys.newest).await? {
            let note = match read_object(&*self.store, &self.checkpoint_path(size, id), CHECKPOINT_LIMIT_BYTES).await {
                Ok(note) => note,
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => continue,
                Err(e) => return Err(e),
            };
            if let (Some((checkpoint, _)), Ok(text)) = (Checkpoint::open(&note, &keys.newest), String::from_utf8(note.to_vec()))
                && self.is_own(&checkpoint.origin)
            {
                return Ok(Some((checkpoint, text)));
            }
        }
        Ok(None)
    }
}

fn parse_name(name: &str) -> Option<(u64, KeyId)> {
    let (size, id) = name.split_once('-')?;
    let fits = size.len() == NAME_DIGITS && size.bytes().all(|b| b.is_ascii_digit());
    let id: Digest = id.parse().ok()?;
    // Only the one spelling counts.
    let size = size.parse().ok().filter(|_| fits && name.ends_with(&id.to_string()))?;
    Some((size, KeyId(id)))
}
