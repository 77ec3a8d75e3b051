//! The entries of a log: who sealed what, as signed notes of canonical JSON.

use serde_json::{Value, json};

use super::note;
use super::tree::Hash;
use crate::baseline::canonical;
use crate::digest::Digest;
use crate::error::Result;
use crate::key::{KeyId, Signer, VerifyingKey};

/// An entry that states the tree that it was made over.
const TYPE: &str = "urn:lakeseal:log-entry:v2";
/// An entry of earlier versions.
const UNBOUND_TYPE: &str = "urn:lakeseal:log-entry:v1";
/// A larger object under an entry's name counts as an empty leaf, in bytes.
pub(super) const ENTRY_LIMIT_BYTES: u64 = 64 * 1024;
/// Tables that one entry may name.
pub(super) const TABLES_LIMIT: usize = 128;

/// A baseline of one table, as an entry names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedBaseline {
    /// The table's canonical URL.
    pub table: String,
    /// The table's folder below the folder that the log lies in; empty for the log of one table.
    pub path: String,
    /// The baseline's number.
    pub number: u64,
    /// Plain BLAKE3 of its statement.
    pub digest: Digest,
    /// The history of this table begins anew here: a person accepted that what came before no longer counts.
    pub restart: bool,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The log's origin.
    pub log: String,
    /// When it was made, in milliseconds since 1970.
    pub time_ms: i64,
    /// Baselines; several tables in one entry were sealed as one.
    pub baselines: Vec<LoggedBaseline>,
    /// Tables (by URL) that are given up: they need no baselines from here on.
    pub retired: Vec<String>,
    /// Its place in the log: it counts nowhere else, whoever copies it there. Entries of earlier versions state it where they take something
    /// back.
    pub index: Option<u64>,
    /// The root of the tree over all leaves before it; absent from entries of earlier versions.
    pub before: Option<Hash>,
}

/// An entry that a known key signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedEntry {
    /// What it says.
    pub entry: Entry,
    /// The known keys that signed it.
    pub signers: Vec<KeyId>,
}

impl Entry {
    /// Whether it takes back what the log said before: a history begins anew, or a table is given up.
    pub(super) fn takes_back(&self) -> bool {
        !self.retired.is_empty() || self.begins_anew()
    }

    /// Whether the history of a table begins anew with it.
    pub(super) fn begins_anew(&self) -> bool {
        self.baselines.iter().any(|logged| logged.restart)
    }

    fn to_text(&self) -> String {
        let baseline = |b: &LoggedBaseline| json!({"digest": b.digest.to_string(), "number": b.number, "path": b.path, "restart": b.restart, "table": b.table});
        let mut value = json!({
            "baselines": self.baselines.iter().map(baseline).collect::<Vec<_>>(),
            "log": self.log,
            "retired": self.retired,
            "time_ms": self.time_ms,
            "type": if self.before.is_some() { TYPE } else { UNBOUND_TYPE },
        });
        if let Value::Object(members) = &mut value {
            members.extend(self.index.map(|index| ("index".to_owned(), json!(index))));
            members.extend(self.before.map(|before| ("before".to_owned(), json!(hex::encode(before)))));
        }
        canonical::text(&value) + "\n"
    }

    /// Tells an entry from every other, whoever signed it.
    pub(super) fn text_digest(&self) -> Digest {
        Digest::of(self.to_text().as_bytes())
    }

    /// The bytes that are stored; they are the leaf.
    pub(in crate::baseline) async fn sign(&self, signer: &dyn Signer) -> Result<Vec<u8>> {
        note::sign(&self.log, &self.to_text(), signer).await.map(String::into_bytes)
    }

    /// Reads a leaf. `None` for what no known key signed, or what is no entry: anybody can put such bytes into the log. An entry states its place (one
    /// of an earlier version if, and only if, it takes something back); [`Log`](super::Log) sees to it that it lies there.
    pub(in crate::baseline) fn open(leaf: &[u8], keys: &[VerifyingKey]) -> Option<SignedEntry> {
        let note = note::open(leaf, keys)?;
        let entry = parse(&serde_json::from_str(note.text).ok()?)?;
        let fits = entry.to_text() == note.text
            && entry.log == note.name
            && entry.index.is_some() == (entry.before.is_some() || entry.takes_back());
        fits.then_some(SignedEntry { entry, signers: note.signers })
    }
}

fn parse(value: &Value) -> Option<Entry> {
    let baselines = value.get("baselines")?.as_array()?;
    let before = match value.get("type")?.as_str()? {
        TYPE => Some(value.get("before")?.as_str()?.parse::<Digest>().ok()?.0),
        UNBOUND_TYPE => None,
        _ => return None,
    };
    if baselines.len() > TABLES_LIMIT {
        return None;
    }
    let baseline = |value: &Value| {
        Some(LoggedBaseline {
            table: value.get("table")?.as_str()?.to_owned(),
            path: value.get("path")?.as_str()?.to_owned(),
            number: value.get("number")?.as_u64()?,
            digest: value.get("digest")?.as_str()?.parse().ok()?,
            restart: value.get("restart")?.as_bool()?,
        })
    };
    let index = match value.get("index") {
        Some(index) => Some(index.as_u64()?),
        None => None,
    };
    Some(Entry {
        index,
        before,
        log: value.get("log")?.as_str()?.to_owned(),
        time_ms: value.get("time_ms")?.as_i64()?,
        baselines: baselines.iter().map(baseline).collect::<Option<_>>()?,
        retired: value.get("retired")?.as_array()?.iter().map(|table| table.as_str().map(str::to_owned)).collect::<Option<_>>()?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::key::PrivateKey;

    pub(in crate::baseline) fn sample(number: u64) -> Entry {
        Entry {
            log: "lakeseal.log/x".into(),
            time_ms: 1_800_000_000_000,
            baselines: vec![LoggedBaseline {
                table: "memory:///t".into(),
                path: "t".into(),
                number,
                digest: Digest([7; 32]),
                restart: false,
            }],
            retired: vec!["memory:///old".into()],
            index: Some(7),
            before: Some([5; 32]),
        }
    }

    #[tokio::test]
    async fn an_entry_reads_back_and_every_byte_counts() {
        let key = PrivateKey::from_seed(&[1; 32]);
        let keys = [Signer::public(&key)];
        let leaf = sample(3).sign(&key).await.unwrap();
        assert_eq!(Entry::open(&leaf, &keys).unwrap().entry, sample(3));
        assert_eq!(Entry::open(&leaf, &[]), None);
        // As earlier versions wrote them: of those, only what takes something back states its place.
        let plain = Entry { retired: Vec::new(), index: None, before: None, ..sample(3) };
        for earlier in [Entry { before: None, ..sample(3) }, plain.clone()] {
            let leaf = earlier.sign(&key).await.unwrap();
            assert_eq!(Entry::open(&leaf, &keys).unwrap().entry, earlier);
        }
        for neither in
            [Entry { index: Some(7), ..plain }, Entry { index: None, ..sample(3) }, Entry { index: None, before: None, ..sample(3) }]
        {
            assert_eq!(Entry::open(&neither.sign(&key).await.unwrap(), &keys), None, "{neither:?}");
        }
        for at in 0..leaf.len() {
            let mut changed = leaf.clone();
            changed[at] ^= 1;
            assert_eq!(Entry::open(&changed, &keys), None, "byte {at}");
        }
    }

    #[tokio::test]
    async fn what_is_signed_but_no_entry_is_none() {
        let key = PrivateKey::from_seed(&[1; 32]);
        let keys = [Signer::public(&key)];
        let text = sample(3).to_text();
        for (from, to) in [
            ("\"number\":3", "\"number\":3.0"),
            ("\"time_ms\"", "\"more\":1,\"time_ms\""),
            (":v2", ":v1"),
            (":v2", ":v3"),
            ("\"before\":\"05", "\"before\":\"5"),
            ("\"before\":\"05", "\"after\":\"05"),
            ("\"log\":\"lakeseal.log/x\"", "\"log\":\"lakeseal.log/y\""),
            ("\"index\":7,", ""),
            ("\"index\":7", "\"index\":-7"),
            ("[", "[ "),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            let leaf = note::sign("lakeseal.log/x", &changed, &key).await.unwrap();
            assert_eq!(Entry::open(leaf.as_bytes(), &keys), None, "{to}");
        }
    }
}
