//! The inventory of a log: every table that it names with its newest baseline, signed, for a term.
//!
//! What TUF calls snapshot and timestamp: it follows from the log's entries, and saves readers from reading them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::canonical;
use super::log::{Checkpoint, Entry, Frontier, LogEntry, LoggedBaseline, note};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{KeyId, Signer, VerifyingKey};

const TYPE: &str = "urn:lakeseal:inventory:v1";
/// An inventory is never larger, in bytes: about 200,000 tables.
pub(super) const INVENTORY_LIMIT_BYTES: u64 = 64 * 1024 * 1024;

/// A table's newest baseline, as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InventoryRow {
    /// The table's folder below the log's.
    pub path: String,
    /// The newest baseline's number.
    pub number: u64,
    /// Plain BLAKE3 of its statement.
    pub digest: Digest,
    /// The entry that names it. Tables with one entry were sealed as one.
    pub entry: u64,
    /// The table was given up: nothing is expected of it.
    pub retired: bool,
}

/// The tables that a log's first entries name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The log's origin.
    pub log: String,
    /// When it was signed, in milliseconds since 1970.
    pub created_ms: i64,
    /// When it ceases to hold; absent when it does not.
    pub expires_ms: Option<i64>,
    /// The tree over the entries.
    pub frontier: Frontier,
    /// The tables by canonical URL without a slash at the end.
    pub tables: BTreeMap<String, InventoryRow>,
}

/// The name that a table has in an inventory.
pub(super) fn table_name(location: &str) -> &str {
    location.trim_end_matches('/')
}

impl Inventory {
    /// The inventory of a log without entries.
    pub(super) fn empty(log: String) -> Self {
        Self { log, created_ms: 0, expires_ms: None, frontier: Frontier::default(), tables: BTreeMap::new() }
    }

    /// The inventory of the log `log` that these entries, its first, come to. Neither created nor to expire at any time.
    pub fn replay(log: &str, entries: &[LogEntry]) -> Self {
        let mut inventory = Self::empty(log.to_owned());
        for entry in entries {
            inventory.take_in(entry);
        }
        inventory
    }

    /// Takes in the log's next entry, whatever it is.
    pub(super) fn take_in(&mut self, next: &LogEntry) {
        self.frontier.push(next.hash);
        if let Some(signed) = next.signed.as_ref().filter(|signed| signed.entry.log == self.log) {
            self.apply(next.index, &signed.entry);
        }
    }

    /// As [`Self::take_in`]; an inventory of no log yet is of the one that the entry is of. Two may begin a log at once: whose entry is the first, named it.
    pub(super) fn follow(&mut self, next: &LogEntry) {
        if let Some(signed) = next.signed.as_ref().filter(|_| self.log.is_empty()) {
            self.log.clone_from(&signed.entry.log);
        }
        self.take_in(next);
    }

    /// Size and root of the log that it is the inventory of.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { origin: self.log.clone(), size: self.frontier.size(), root: self.frontier.root() }
    }

    /// Takes in an entry, which is the log's next or stands at `index`.
    pub(super) fn apply(&mut self, index: u64, entry: &Entry) {
        for logged in &entry.baselines {
            self.name(index, logged, entry.baselines.len() > 1);
        }
        entry.retired.iter().for_each(|table| self.retire(index, table));
    }

    /// Takes in that the entry at `index` names a baseline, with others of tables that were sealed as one or alone. Says whether the table's row
    /// is another now.
    pub(super) fn name(&mut self, index: u64, logged: &LoggedBaseline, together: bool) -> bool {
        let name = table_name(&logged.table).to_owned();
        let known = self.tables.get(&name).filter(|row| !row.retired && !logged.restart);
        // A baseline that is logged twice keeps its first place, unless the second is that of several tables sealed as one.
        let moves = |row: &InventoryRow| together && row.digest == logged.digest;
        if known.is_some_and(|row| row.number > logged.number || (row.number == logged.number && !moves(row))) {
            return false;
        }
        let row = InventoryRow { path: logged.path.clone(), number: logged.number, digest: logged.digest, entry: index, retired: false };
        self.tables.insert(name, row);
        true
    }

    /// Takes in that the entry at `index` gives a table up.
    pub(super) fn retire(&mut self, index: u64, table: &str) {
        if let Some(row) = self.tables.get_mut(table_name(table)) {
            row.retired = true;
            row.entry = index;
        }
    }

    /// Takes in what another signer's inventory of the same log knows better: rows of later entries.
    pub(super) fn merge(&mut self, other: Self) {
        for (table, row) in other.tables {
            if self.tables.get(&table).is_none_or(|known| known.entry < row.entry) {
                self.tables.insert(table, row);
            }
        }
    }

    /// The tables that were sealed as one with `table`, without it.
    pub fn together<'a>(&'a self, table: &'a str) -> impl Iterator<Item = (&'a String, &'a InventoryRow)> {
        let entry = self.tables.get(table).filter(|row| !row.retired).map(|row| row.entry);
        self.tables.iter().filter(move |(name, row)| Some(row.entry) == entry && !row.retired && *name != table)
    }

    fn to_text(&self) -> String {
        let row = |(table, row): (&String, &InventoryRow)| {
            json!({
                "digest": row.digest.to_string(),
                "entry": row.entry,
                "number": row.number,
                "path": row.path,
                "retired": row.retired,
                "table": table,
            })
        };
        let value = json!({
            "created_ms": self.created_ms,
            "expires_ms": self.expires_ms,
            "frontier": self.frontier.roots().iter().map(hex::encode).collect::<Vec<_>>(),
            "log": self.log,
            "root": hex::encode(self.frontier.root()),
            "size": self.frontier.size(),
            "tables": self.tables.iter().map(row).collect::<Vec<_>>(),
            "type": TYPE,
        });
        canonical::text(&value) + "\n"
    }

    /// The signed note that is stored.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when it is too large; those of the signer.
    pub(super) async fn sign(&self, signer: &dyn Signer) -> Result<Vec<u8>> {
        let note = note::sign(&self.log, &self.to_text(), signer).await?.into_bytes();
        if u64::try_from(note.len()).unwrap_or(u64::MAX) > INVENTORY_LIMIT_BYTES {
            return Err(Error::new(ErrorKind::Unsupported, "the inventory would be too large: give up tables that are no more")
                .with("tables", self.tables.len()));
        }
        Ok(note)
    }

    /// Reads a note. `None` unless one of `keys` signed it, as an inventory whose parts agree.
    pub fn open(note: &[u8], keys: &[VerifyingKey]) -> Option<(Self, Vec<KeyId>)> {
        let note = note::open(note, keys)?;
        let inventory = parse(&serde_json::from_str(note.text).ok()?)?;
        let fits = inventory.to_text() == note.text && inventory.log == note.name;
        fits.then_some((inventory, note.signers))
    }
}

fn parse(value: &Value) -> Option<Inventory> {
    let of = |name: &str| value.get(name);
    if of("type")?.as_str()? != TYPE {
        return None;
    }
    let root = |value: &Value| value.as_str()?.parse::<Digest>().ok().map(|digest| digest.0);
    let roots = of("frontier")?.as_array()?.iter().map(root).collect::<Option<Vec<_>>>()?;
    let size = of("size")?.as_u64()?;
    let row = |value: &Value| {
        let row = InventoryRow {
            path: value.get("path")?.as_str()?.to_owned(),
            number: value.get("number")?.as_u64()?,
            digest: value.get("digest")?.as_str()?.parse().ok()?,
            entry: value.get("entry")?.as_u64().filter(|entry| *entry < size)?,
            retired: value.get("retired")?.as_bool()?,
        };
        Some((value.get("table")?.as_str()?.to_owned(), row))
    };
    Some(Inventory {
        log: of("log")?.as_str()?.to_owned(),
        created_ms: of("created_ms")?.as_i64()?,
        expires_ms: match of("expires_ms")? {
            Value::Null => None,
            value => Some(value.as_i64()?),
        },
        frontier: Frontier::new(size, roots)?,
        tables: of("tables")?.as_array()?.iter().map(row).collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::log::entry_sample;
    use super::*;
    use crate::key::PrivateKey;

    fn sample() -> Inventory {
        let mut inventory = Inventory::empty("lakeseal.log/x".into());
        for index in 0..3 {
            inventory.frontier.push([u8::try_from(index).unwrap(); 32]);
            inventory.apply(index, &entry_sample(index + 1));
        }
        inventory
    }

    #[tokio::test]
    async fn an_inventory_reads_back_and_every_byte_counts() {
        let key = PrivateKey::from_seed(&[1; 32]);
        let keys = [Signer::public(&key)];
        for inventory in [sample(), Inventory { expires_ms: Some(5), ..sample() }, Inventory::empty("lakeseal.log/y".into())] {
            let note = inventory.sign(&key).await.unwrap();
            assert_eq!(Inventory::open(&note, &keys).unwrap().0, inventory);
            assert_eq!(Inventory::open(&note, &[]), None);
            for at in 0..note.len() {
                let mut changed = note.clone();
                changed[at] ^= 1;
                assert_eq!(Inventory::open(&changed, &keys), None, "byte {at}");
            }
        }
        // Signed, but its parts do not agree.
        let text = sample().to_text();
        for (from, to) in [("\"size\":3", "\"size\":2"), ("\"entry\":2", "\"entry\":3"), ("\"root\":\"", "\"root\":\"0"), (":v1", ":v9")] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            let note = note::sign("lakeseal.log/x", &changed, &key).await.unwrap();
            assert_eq!(Inventory::open(note.as_bytes(), &keys), None, "{to}");
        }
    }

    #[test]
    fn the_newest_baseline_of_each_table_counts_unless_its_history_began_anew() {
        let mut inventory = sample();
        let row = |inventory: &Inventory| inventory.tables["memory:///t"].clone();
        assert_eq!((row(&inventory).number, row(&inventory).entry), (3, 2));
        inventory.apply(3, &entry_sample(2));
        inventory.apply(4, &entry_sample(3));
        assert_eq!((row(&inventory).number, row(&inventory).entry), (3, 2), "older and equal ones change nothing");
        let mut anew = entry_sample(1);
        anew.baselines[0].restart = true;
        anew.baselines[0].table.push('/');
        inventory.apply(5, &anew);
        assert_eq!((row(&inventory).number, row(&inventory).entry), (1, 5));
        let given_up = Entry { baselines: Vec::new(), retired: vec!["memory:///t".into()], ..entry_sample(1) };
        inventory.apply(6, &given_up);
        assert!(row(&inventory).retired);
        inventory.apply(7, &entry_sample(1));
        assert!(!row(&inventory).retired, "a later seal brings it back");
    }

    #[test]
    fn signers_who_know_different_tables_complete_each_other() {
        let mut other = Inventory::empty("lakeseal.log/x".into());
        let mut entry = entry_sample(9);
        entry.baselines[0].table = "memory:///u".into();
        other.apply(1, &entry);
        other.apply(0, &entry_sample(1));
        let mut inventory = sample();
        inventory.merge(other);
        assert_eq!(inventory.tables["memory:///u"].number, 9);
        assert_eq!(inventory.tables["memory:///t"].number, 3);
    }
}
