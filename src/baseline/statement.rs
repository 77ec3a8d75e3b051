//! The statement that a baseline signs: an in-toto Statement v1 in canonical JSON. `docs/format/baseline.md` is its document.

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::canonical;
use super::standing::Standing;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::key::KeyId;
use crate::table::{ForeignRoot, ForeignRoots, TableKind};

/// `_type` of every in-toto statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// `predicateType` of a baseline.
pub const PREDICATE_TYPE: &str = "urn:lakeseal:baseline:v1";
/// A statement is never larger, in bytes.
pub(super) const STATEMENT_LIMIT_BYTES: u64 = 1024 * 1024;
const FORMAT: u64 = 1;

/// What a baseline states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// 1 for a table's first baseline, then one more each time.
    pub number: u64,
    /// Plain BLAKE3 of the previous baseline's statement; absent for the first.
    pub previous: Option<Digest>,
    /// When it was made, in milliseconds since 1970-01-01T00:00:00Z.
    pub created_ms: i64,
    /// When it ceases to hold; absent when it does not.
    pub expires_ms: Option<i64>,
    /// Where the table lies: its canonical URL.
    pub location: String,
    /// Other URLs under which the same table is reached.
    pub aliases: Vec<String>,
    /// Other tables whose files this one's log may name; none but for shallow clones.
    pub foreign_roots: ForeignRoots,
    /// The table's state.
    pub state: StateRoot,
    /// The evidence that proves the state, in the order in which it is applied.
    pub evidence: Vec<EvidenceRef>,
    /// Version of the trust root; 0 while there is none.
    pub trust_root: u64,
}

/// The state of a table in digests. Its canonical JSON is the subject of the statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRoot {
    /// Delta or a folder of Parquet.
    pub kind: TableKind,
    /// Delta's table id; empty for a folder.
    pub table_id: String,
    /// The Delta version; 0 for a folder.
    pub version: u64,
    /// The commits that were there.
    pub commits: CommitsRoot,
    /// Digest of the `protocol` action.
    pub protocol: Digest,
    /// Digest of the `metaData` action.
    pub metadata: Digest,
    /// Digest of the schema within it.
    pub schema: Digest,
    /// Digest of the transactions' last versions by application.
    pub transactions: Digest,
    /// Digest of the domains' metadata.
    pub domains: Digest,
    /// Merkle root of the live files.
    pub files: Digest,
    /// Merkle root of the files known to be removed.
    pub tombstones: Digest,
    /// Totals of the live files.
    pub totals: Totals,
    /// The rows' encoding and the digest of the state of their sum; absent when a live file's rows were not hashed.
    pub rows_sum: Option<(u16, Digest)>,
}

/// The commits that a baseline covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CommitsRoot {
    /// How many.
    pub count: u64,
    /// The accumulator over them: 32 zero bytes when there is none.
    pub accumulator: [u8; 32],
}

/// Totals of the live files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Number of files.
    pub files: u64,
    /// Number of rows, deleted ones left out.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
}

/// What a piece of evidence holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EvidenceKind {
    /// Live and removed files.
    Files,
    /// Row groups of files.
    RowGroups,
    /// Commits.
    Commits,
    /// Profiles of columns.
    Profiles,
    /// Predicates that must hold for rows that change.
    Expectations,
    /// Change-data files.
    Changes,
}

impl EvidenceKind {
    /// The name in statements and in the evidence itself.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::RowGroups => "row_groups",
            Self::Commits => "commits",
            Self::Profiles => "profiles",
            Self::Expectations => "expectations",
            Self::Changes => "changes",
        }
    }

    /// Whether it is a part of the state that is compared; what is not is read only when it is asked for.
    pub(super) const fn is_state(self) -> bool {
        matches!(self, Self::Files | Self::RowGroups | Self::Commits | Self::Changes)
    }

    fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Files, Self::RowGroups, Self::Commits, Self::Profiles, Self::Expectations, Self::Changes];
        all.into_iter().find(|kind| kind.name() == name)
    }
}

/// One evidence file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvidenceRef {
    /// What it holds.
    pub kind: EvidenceKind,
    /// Plain BLAKE3 of it; its name.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The number of the baseline that wrote it.
    pub number: u64,
}

/// A baseline in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaselineSummary {
    /// Its number.
    pub number: u64,
    /// Plain BLAKE3 of its statement: its name.
    pub digest: Digest,
    /// The sealed Delta version; absent for a folder of Parquet.
    pub version: Option<u64>,
    /// The location that it binds.
    pub location: String,
    /// When it was made, in milliseconds.
    pub created_ms: i64,
    /// When it expires, in milliseconds.
    pub expires_ms: Option<i64>,
    /// Live files.
    pub files: u64,
    /// Live rows.
    pub rows: u64,
    /// Bytes of the live files.
    pub bytes: u64,
    /// The trusted keys that signed it.
    pub signed_by: Vec<KeyId>,
    /// How many of them it takes.
    pub signatures_needed: usize,
    /// Version and expiry (in milliseconds) of the trust root under which they count; absent for a flat set of keys.
    pub trust_root: Option<(u64, Option<i64>)>,
}

impl BaselineSummary {
    /// The baseline as the audit's JSON shows it.
    pub fn to_json(&self) -> Value {
        json!({
            "number": self.number,
            "version": self.version,
            "digest": self.digest.to_string(),
            "location": self.location,
            "created_ms": self.created_ms,
            "expires_ms": self.expires_ms,
            "files": self.files,
            "rows": self.rows,
            "bytes": self.bytes,
            "signatures_needed": self.signatures_needed,
            "trust_root": self.trust_root.map(|(version, _)| version),
            "signed_by": self.signed_by.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }
}

fn hex(digest: Digest) -> Value {
    Value::from(digest.to_string())
}

impl StateRoot {
    /// The canonical JSON of the state: what the statement's subject has the digests of.
    pub fn to_json(&self) -> Value {
        json!({
            "commits": {"accumulator": hex(Digest(self.commits.accumulator)), "count": self.commits.count},
            "domains": hex(self.domains),
            "files": hex(self.files),
            "kind": kind_name(self.kind),
            "metadata": hex(self.metadata),
            "protocol": hex(self.protocol),
            "rows_sum": self.rows_sum.map(|(encoding, sum)| json!({"digest": hex(sum), "encoding": encoding})),
            "schema": hex(self.schema),
            "table_id": self.table_id,
            "tombstones": hex(self.tombstones),
            "totals": {"bytes": self.totals.bytes, "files": self.totals.files, "rows": self.totals.rows},
            "transactions": hex(self.transactions),
            "version": self.version,
        })
    }
}

fn kind_name(kind: TableKind) -> &'static str {
    match kind {
        TableKind::Delta => "delta",
        TableKind::Parquet => "parquet",
    }
}

fn kind_from_name(name: &str) -> Option<TableKind> {
    [TableKind::Delta, TableKind::Parquet].into_iter().find(|kind| kind_name(*kind) == name)
}

impl Statement {
    /// Whether it is about the table at `location`: its own URL, or one of the aliases.
    pub fn is_of(&self, location: &str) -> bool {
        let same = |other: &String| other.trim_end_matches('/') == location.trim_end_matches('/');
        same(&self.location) || self.aliases.iter().any(same)
    }

    /// The exact bytes that are stored and signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let state = self.state.to_json();
        let document = canonical::bytes(&state);
        let evidence: Vec<Value> = self
            .evidence
            .iter()
            .map(|e| json!({"digest": hex(e.digest), "kind": e.kind.name(), "number": e.number, "size": e.size}))
            .collect();
        let mut statement = json!({
            "_type": STATEMENT_TYPE,
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "aliases": self.aliases,
                "attestations": null,
                "created_ms": self.created_ms,
                "evidence": evidence,
                "expires_ms": self.expires_ms,
                "format": FORMAT,
                "inventory": null,
                "location": self.location,
                "number": self.number,
                "previous": self.previous.map(hex),
                "state": state,
                "trust_root": self.trust_root,
            },
            "subject": [{
                "digest": {"blake3": hex(Digest::of(&document)), "sha256": hex::encode(Sha256::digest(&document))},
                "name": self.location,
            }],
        });
        // Left out where there are none, so that nearly every statement is what it was before there were any.
        if let (false, Some(predicate)) = (self.foreign_roots.is_empty(), statement.get_mut("predicate").and_then(Value::as_object_mut)) {
            let root = |one: &ForeignRoot| json!({"prefix": one.prefix, "table_id": one.table_id, "url": one.url});
            predicate.insert("foreign_roots".to_owned(), self.foreign_roots.0.iter().map(root).collect());
        }
        canonical::bytes(&statement)
    }

    /// Reads stored bytes. Call it only once a signature over them is verified.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a statement of another kind or format; [`ErrorKind::Corrupt`] when a member is missing
    /// or malformed, or the bytes are not the canonical form of what they say, so that nothing unread can hide in them.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let value: Value =
            serde_json::from_slice(bytes).map_err(|e| Error::new(ErrorKind::Corrupt, "a baseline's statement is not JSON").caused_by(e))?;
        let of = |name: &str| value.get(name).and_then(Value::as_str);
        let format = value.pointer("/predicate/format").and_then(Value::as_u64);
        if of("_type") != Some(STATEMENT_TYPE) || of("predicateType") != Some(PREDICATE_TYPE) || format != Some(FORMAT) {
            return Err(Error::new(ErrorKind::Unsupported, "a statement that is no baseline of a format that this version knows")
                .with("predicateType", of("predicateType").unwrap_or("absent"))
                .with("format", format.map_or_else(|| "absent".to_owned(), |f| f.to_string())));
        }
        let statement = value.get("predicate").and_then(parse_predicate);
        statement.filter(|statement| statement.to_bytes() == bytes).ok_or_else(|| {
            Error::new(
                ErrorKind::Corrupt,
                "a baseline's statement has missing, malformed or superfluous members, or is not in canonical form",
            )
        })
    }

    /// The statement in short.
    pub(super) fn summary(&self, digest: Digest, standing: Standing) -> BaselineSummary {
        BaselineSummary {
            number: self.number,
            digest,
            version: (self.state.kind == TableKind::Delta).then_some(self.state.version),
            location: self.location.clone(),
            created_ms: self.created_ms,
            expires_ms: self.expires_ms,
            files: self.state.totals.files,
            rows: self.state.totals.rows,
            bytes: self.state.totals.bytes,
            signed_by: standing.signed_by,
            signatures_needed: standing.needed,
            trust_root: standing.root,
        }
    }
}

/// What a signed statement says that it is. Baselines, purges and attestations have one payload type, so that whoever copies one of them with its
/// signatures under another's name has something that is validly signed.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    #[serde(rename = "predicateType")]
    kind: String,
    #[serde(default)]
    predicate: ClaimedPredicate,
}

#[derive(Debug, Default, Deserialize)]
struct ClaimedPredicate {
    number: Option<u64>,
}

impl Claims {
    /// Reads them; `None` when `bytes` are no statement at all. Call it only once a signature over the bytes is verified.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// Whether the statement is of this `predicateType`, in this version or another: of one that is not known, parsing says so.
    pub(super) fn is_of_kind(&self, predicate_type: &str) -> bool {
        let unversioned = |kind: &str| kind.rsplit_once(":v").map(|(kind, _)| kind.to_owned());
        self.kind == predicate_type || (unversioned(&self.kind).is_some() && unversioned(&self.kind) == unversioned(predicate_type))
    }

    /// Whether it is a baseline of this number. One that states none may be of a later format: to read it is an error, to pass it over none.
    pub(super) fn is_baseline(&self, number: u64) -> bool {
        self.is_of_kind(PREDICATE_TYPE) && self.predicate.number.is_none_or(|stated| stated == number)
    }
}

fn digest_of(value: &Value, name: &str) -> Option<Digest> {
    value.get(name)?.as_str()?.parse().ok()
}

fn text_of(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().map(str::to_owned)
}

fn nullable<T>(value: &Value, name: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<Option<T>> {
    match value.get(name)? {
        Value::Null => Some(None),
        value => read(value).map(Some),
    }
}

fn parse_predicate(predicate: &Value) -> Option<Statement> {
    let u64_of = |name: &str| predicate.get(name)?.as_u64();
    Some(Statement {
        number: u64_of("number")?,
        previous: nullable(predicate, "previous", |v| v.as_str()?.parse().ok())?,
        created_ms: predicate.get("created_ms")?.as_i64()?,
        expires_ms: nullable(predicate, "expires_ms", Value::as_i64)?,
        location: text_of(predicate, "location")?,
        aliases: predicate.get("aliases")?.as_array()?.iter().map(|v| v.as_str().map(str::to_owned)).collect::<Option<_>>()?,
        foreign_roots: match predicate.get("foreign_roots") {
            None => ForeignRoots::default(),
            Some(roots) => ForeignRoots(roots.as_array()?.iter().map(parse_root).collect::<Option<_>>()?),
        },
        state: parse_state(predicate.get("state")?)?,
        evidence: predicate.get("evidence")?.as_array()?.iter().map(parse_evidence).collect::<Option<_>>()?,
        trust_root: u64_of("trust_root")?,
    })
}

fn parse_root(value: &Value) -> Option<ForeignRoot> {
    Some(ForeignRoot { prefix: text_of(value, "prefix")?, url: text_of(value, "url")?, table_id: text_of(value, "table_id")? })
}

fn parse_evidence(value: &Value) -> Option<EvidenceRef> {
    Some(EvidenceRef {
        kind: EvidenceKind::from_name(value.get("kind")?.as_str()?)?,
        digest: digest_of(value, "digest")?,
        size: value.get("size")?.as_u64()?,
        number: value.get("number")?.as_u64()?,
    })
}

fn parse_state(state: &Value) -> Option<StateRoot> {
    let commits = state.get("commits")?;
    let totals = state.get("totals")?;
    Some(StateRoot {
        kind: kind_from_name(state.get("kind")?.as_str()?)?,
        table_id: text_of(state, "table_id")?,
        version: state.get("version")?.as_u64()?,
        commits: CommitsRoot { count: commits.get("count")?.as_u64()?, accumulator: digest_of(commits, "accumulator")?.0 },
        protocol: digest_of(state, "protocol")?,
        metadata: digest_of(state, "metadata")?,
        schema: digest_of(state, "schema")?,
        transactions: digest_of(state, "transactions")?,
        domains: digest_of(state, "domains")?,
        files: digest_of(state, "files")?,
        tombstones: digest_of(state, "tombstones")?,
        totals: Totals {
            files: totals.get("files")?.as_u64()?,
            rows: totals.get("rows")?.as_u64()?,
            bytes: totals.get("bytes")?.as_u64()?,
        },
        rows_sum: nullable(state, "rows_sum", |sum| {
            Some((u16::try_from(sum.get("encoding")?.as_u64()?).ok()?, digest_of(sum, "digest")?))
        })?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn what_is_signed_as_another_kind_is_told_from_a_version_that_is_not_known() {
        let claims =
            |kind: &str, number: &str| Claims::of(format!(r#"{{"predicateType":"{kind}","predicate":{{{number}}}}}"#).as_bytes()).unwrap();
        let own = claims(PREDICATE_TYPE, "\"number\":3");
        assert!(own.is_baseline(3) && !own.is_baseline(4));
        assert!(claims("urn:lakeseal:baseline:v2", "").is_baseline(3), "parsing it says that this version does not know it");
        assert!(!claims("urn:lakeseal:baseline:v2", "\"number\":4").is_baseline(3));
        for other in ["urn:lakeseal:purge:v1", "urn:lakeseal:purge:v2", "https://slsa.dev/provenance/v1", "urn:lakeseal:baseline", ""] {
            assert!(!claims(other, "\"number\":3").is_baseline(3), "{other}");
        }
    }

    pub(in crate::baseline) fn sample(number: u64) -> Statement {
        Statement {
            number,
            previous: (number > 1).then_some(Digest([3; 32])),
            created_ms: 1_800_000_000_000,
            expires_ms: Some(1_900_000_000_000),
            location: "memory:///t".into(),
            aliases: vec!["s3a://bucket/t".into()],
            foreign_roots: ForeignRoots::default(),
            state: StateRoot {
                kind: TableKind::Delta,
                table_id: "id".into(),
                version: 4,
                commits: CommitsRoot { count: 5, accumulator: [9; 32] },
                protocol: Digest([1; 32]),
                metadata: Digest([2; 32]),
                schema: Digest([3; 32]),
                transactions: Digest([4; 32]),
                domains: Digest([5; 32]),
                files: Digest([6; 32]),
                tombstones: Digest([7; 32]),
                totals: Totals { files: 1, rows: 2, bytes: 3 },
                rows_sum: Some((1, Digest([8; 32]))),
            },
            evidence: vec![EvidenceRef { kind: EvidenceKind::Files, digest: Digest([1; 32]), size: 10, number }],
            trust_root: 0,
        }
    }

    #[test]
    fn a_statement_reads_back_and_its_bytes_are_fixed() {
        for statement in [sample(1), sample(2), Statement { expires_ms: None, ..sample(1) }] {
            assert_eq!(Statement::parse(&statement.to_bytes()).unwrap(), statement);
        }
        let folder = StateRoot { kind: TableKind::Parquet, rows_sum: None, ..sample(1).state };
        let folder = Statement { state: folder, ..sample(1) };
        assert_eq!(Statement::parse(&folder.to_bytes()).unwrap(), folder);
        let root = ForeignRoot { prefix: "file:///src".into(), url: "file:///mnt/src".into(), table_id: "other".into() };
        let clone = Statement { foreign_roots: ForeignRoots(vec![root]), ..sample(1) };
        assert_eq!(Statement::parse(&clone.to_bytes()).unwrap(), clone);
        let text = String::from_utf8(clone.to_bytes()).unwrap();
        assert!(
            text.contains(r#""foreign_roots":[{"prefix":"file:///src","table_id":"other","url":"file:///mnt/src"}],"format":1"#),
            "{text}"
        );
        let text = String::from_utf8(sample(1).to_bytes()).unwrap();
        assert!(!text.contains("foreign"), "{text}");
        assert!(text.starts_with(r#"{"_type":"https://in-toto.io/Statement/v1","predicate":{"aliases":["s3a://bucket/t"],"#), "{text}");
    }

    #[test]
    fn the_subject_is_the_state_document_as_it_stands() {
        let text = String::from_utf8(sample(1).to_bytes()).unwrap();
        let from = text.find("\"state\":").unwrap() + "\"state\":".len();
        let to = text.find(",\"trust_root\"").unwrap();
        let document = &text.as_bytes()[from..to];
        assert!(text.contains(&format!("\"blake3\":\"{}\"", Digest::of(document))));
        assert!(text.contains(&format!("\"sha256\":\"{}\"", hex::encode(Sha256::digest(document)))));
    }

    #[test]
    fn anything_superfluous_or_otherwise_spelled_is_refused() {
        let text = String::from_utf8(sample(1).to_bytes()).unwrap();
        for (from, to) in [
            ("\"number\":1", "\"number\": 1"),
            ("\"trust_root\":0", "\"trust_root\":0,\"zzz\":1"),
            ("\"format\":1", "\"foreign_roots\":[],\"format\":1"),
            ("\"version\":4", "\"version\":4.0"),
            ("\"kind\":\"delta\"", "\"kind\":\"iceberg\""),
            ("\"name\":\"memory:///t\"", "\"name\":\"memory:///u\""),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            assert_eq!(Statement::parse(changed.as_bytes()).unwrap_err().kind(), ErrorKind::Corrupt, "{to}");
        }
        let newer = text.replacen("\"format\":1", "\"format\":2", 1);
        assert_eq!(Statement::parse(newer.as_bytes()).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
