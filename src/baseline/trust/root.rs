//! The trust root as a document: keys, roles, thresholds, term, revocations. `docs/format/trust.md` describes its bytes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::canonical;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Role, VerifyingKey};

/// A trust root's file is never larger, in bytes; nor is the document within.
pub const TRUST_ROOT_LIMIT_BYTES: u64 = 1024 * 1024;
const FORMAT: u64 = 1;
const KEYS_PER_ROLE_LIMIT: usize = 64;
const REVOCATION_LIMIT: usize = 256;
const TEXT_LIMIT_CHARS: usize = 200;
const LOCATION_LIMIT_CHARS: usize = 2000;
/// The roles that a trust root gives.
const ROLES: [Role; 4] = [Role::Root, Role::Sealer, Role::Timestamp, Role::Writer];

/// Who holds which role, and how many must agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustRoot {
    /// What it is for, in the users' words.
    pub name: String,
    /// 1 for the first, then one more each time.
    pub version: u64,
    /// Plain BLAKE3 of the previous version's document; absent for the first.
    pub previous: Option<Digest>,
    /// When it was made, in milliseconds since 1970-01-01T00:00:00Z.
    pub created_ms: i64,
    /// When it ceases to hold; absent when it does not.
    pub expires_ms: Option<i64>,
    /// The roles; one that is absent is held by nobody. `root` and `sealer` are always there.
    pub roles: BTreeMap<Role, RoleKeys>,
    /// What people call the keys, by the keys' text.
    pub names: BTreeMap<String, String>,
    /// Keys that were taken out of all roles.
    pub revoked: Vec<Revocation>,
}

/// The holders of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleKeys {
    /// Distinct keys.
    pub keys: Vec<VerifyingKey>,
    /// How many of them must sign: from 1 to their number; of writers and timestamp keys each signs alone, and it is 1.
    pub threshold: usize,
}

/// A key that was revoked. Of its signatures only those count that were made before, and *before* is a place in the chain of baselines: a
/// time could be forged by whoever has the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The key.
    pub key: VerifyingKey,
    /// When it was revoked, in milliseconds since 1970-01-01T00:00:00Z; for people, nothing depends on it.
    pub revoked_ms: i64,
    /// Why, for people.
    pub reason: String,
    /// The last baselines, one per table, up to which the key's signatures count. Of tables that are not named, none does.
    pub last_good: Vec<LastGood>,
}

/// The last baseline of a table up to which a revoked key is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastGood {
    /// The table's location, for people; the digest says which table it is.
    pub table: String,
    /// The baseline's number.
    pub number: u64,
    /// Plain BLAKE3 of its statement. It and its predecessors, as its chain of digests names them, are what the key is believed for.
    pub digest: Digest,
}

impl TrustRoot {
    /// The keys of `role`.
    pub fn keys(&self, role: Role) -> &[VerifyingKey] {
        self.roles.get(&role).map_or(&[], |holders| &holders.keys)
    }

    /// How many distinct keys of `role` must have signed; 1 where nobody holds it, which nobody then reaches.
    pub fn threshold(&self, role: Role) -> usize {
        self.roles.get(&role).map_or(1, |holders| holders.threshold.max(1))
    }

    /// What people call `key`, if they do.
    pub fn name_of(&self, key: &VerifyingKey) -> Option<&str> {
        self.names.get(&key.to_string()).map(String::as_str)
    }

    /// The exact bytes that are signed: canonical JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical::bytes(&self.to_json())
    }

    /// The document as JSON.
    pub fn to_json(&self) -> Value {
        let role = |(role, holders): (&Role, &RoleKeys)| {
            let keys: Vec<String> = holders.keys.iter().map(ToString::to_string).collect();
            (role.name().to_owned(), json!({"keys": keys, "threshold": holders.threshold}))
        };
        let revoked: Vec<Value> = self.revoked.iter().map(Revocation::to_json).collect();
        json!({
            "created_ms": self.created_ms,
            "expires_ms": self.expires_ms,
            "format": FORMAT,
            "name": self.name,
            "names": self.names,
            "previous": self.previous.map(|digest| digest.to_string()),
            "revoked": revoked,
            "roles": self.roles.iter().map(role).collect::<Map<String, Value>>(),
            "version": self.version,
        })
    }

    /// Reads a document. Except for the root that the user chose, call it only once a signature over the bytes is verified.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for another format; [`ErrorKind::Corrupt`] when a member is missing, malformed or superfluous, or the bytes are
    /// not the canonical form of what they say; [`ErrorKind::InvalidInput`] when it contradicts itself, with the reason.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let root = Self::read(bytes)?;
        root.check()?;
        Ok(root)
    }

    /// As [`Self::parse`], whether or not it contradicts itself.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > TRUST_ROOT_LIMIT_BYTES {
            return Err(Error::new(ErrorKind::Corrupt, "a trust root is too large").with("bytes", bytes.len()));
        }
        let value: Value =
            serde_json::from_slice(bytes).map_err(|e| Error::new(ErrorKind::Corrupt, "a trust root is not JSON").caused_by(e))?;
        let format = value.get("format").and_then(Value::as_u64);
        if format != Some(FORMAT) {
            return Err(Error::new(ErrorKind::Unsupported, "a trust root of a format that this version does not know")
                .with("format", format.map_or_else(|| "absent".to_owned(), |f| f.to_string())));
        }
        parse_document(&value).filter(|root| root.to_bytes() == bytes).ok_or_else(|| {
            Error::new(
                ErrorKind::Corrupt,
                "a trust root has missing, malformed or superfluous members, a key that is refused, or is not in canonical form",
            )
        })
    }

    /// Whether the document makes sense.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] with what is wrong.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::new(ErrorKind::InvalidInput, format!("a trust root that cannot hold: {what}")));
        if self.version == 0 || (self.version == 1) != self.previous.is_none() {
            return wrong(format!("version {} and its predecessor do not go together", self.version));
        }
        if self.expires_ms.is_some_and(|expires| expires <= self.created_ms) {
            return wrong("it expires before it was made".into());
        }
        if self.revoked.len() > REVOCATION_LIMIT {
            return wrong(format!("more than {REVOCATION_LIMIT} revoked keys"));
        }
        for role in [Role::Root, Role::Sealer] {
            if self.keys(role).is_empty() {
                return wrong(format!("nobody holds the role {role}"));
            }
        }
        for (role, holders) in &self.roles {
            self.check_role(*role, holders)?;
        }
        for (i, revocation) in self.revoked.iter().enumerate() {
            if self.revoked.iter().take(i).any(|other| other.key == revocation.key) {
                return wrong(format!("{} is revoked twice", revocation.key));
            }
        }
        let texts = [&self.name].into_iter().chain(self.names.values()).chain(self.revoked.iter().map(|r| &r.reason));
        for text in texts {
            check_text(text, TEXT_LIMIT_CHARS)?;
        }
        self.revoked.iter().flat_map(|r| &r.last_good).try_for_each(|good| check_text(&good.table, LOCATION_LIMIT_CHARS))
    }

    fn check_role(&self, role: Role, holders: &RoleKeys) -> Result<()> {
        let wrong = |what: String| Err(Error::new(ErrorKind::InvalidInput, format!("a trust root that cannot hold: role {role}: {what}")));
        let count = holders.keys.len();
        if !ROLES.contains(&role) {
            return wrong("is none that a trust root gives".into());
        }
        if count > KEYS_PER_ROLE_LIMIT {
            return wrong(format!("more than {KEYS_PER_ROLE_LIMIT} keys"));
        }
        if holders.threshold == 0 || holders.threshold > count {
            return wrong(format!("{} of {count} keys cannot be asked for", holders.threshold));
        }
        // Attestations, checkpoints and inventories count with one signature: a threshold that nobody keeps would be a false comfort.
        if holders.threshold > 1 && !matches!(role, Role::Root | Role::Sealer) {
            return wrong(format!("{} keys that must agree: each key of this role signs alone, so say 1", holders.threshold));
        }
        for (i, key) in holders.keys.iter().enumerate() {
            if holders.keys.iter().take(i).any(|other| other == key) {
                return wrong(format!("{key} is named twice; it would count once"));
            }
            if self.revoked.iter().any(|revocation| revocation.key == *key) {
                return wrong(format!("{key} is revoked"));
            }
        }
        Ok(())
    }
}

/// Texts are shown on terminals and in reports: no control characters, no novels.
fn check_text(text: &str, limit: usize) -> Result<()> {
    let bidi = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if text.chars().count() > limit || text.chars().any(|c| c.is_control() || bidi(c)) {
        let what = format!("a trust root that cannot hold: a text of it is longer than {limit} characters, or has control characters");
        return Err(Error::new(ErrorKind::InvalidInput, what));
    }
    Ok(())
}

impl Revocation {
    fn to_json(&self) -> Value {
        let last_good: Vec<Value> = self
            .last_good
            .iter()
            .map(|good| json!({"digest": good.digest.to_string(), "number": good.number, "table": good.table}))
            .collect();
        json!({"key": self.key.to_string(), "last_good": last_good, "reason": self.reason, "revoked_ms": self.revoked_ms})
    }
}

fn parse_document(value: &Value) -> Option<TrustRoot> {
    let nullable = |name: &str| value.get(name).map(|found| Some(found).filter(|found| !found.is_null()));
    let previous = match nullable("previous")? {
        Some(digest) => Some(digest.as_str()?.parse().ok()?),
        None => None,
    };
    let expires_ms = match nullable("expires_ms")? {
        Some(at) => Some(at.as_i64()?),
        None => None,
    };
    let names = value.get("names")?.as_object()?;
    Some(TrustRoot {
        name: value.get("name")?.as_str()?.to_owned(),
        version: value.get("version")?.as_u64()?,
        previous,
        created_ms: value.get("created_ms")?.as_i64()?,
        expires_ms,
        roles: value.get("roles")?.as_object()?.iter().map(parse_role).collect::<Option<_>>()?,
        names: names.iter().map(|(key, name)| Some((key.clone(), name.as_str()?.to_owned()))).collect::<Option<_>>()?,
        revoked: value.get("revoked")?.as_array()?.iter().map(parse_revocation).collect::<Option<_>>()?,
    })
}

fn parse_role((name, holders): (&String, &Value)) -> Option<(Role, RoleKeys)> {
    let role = ROLES.into_iter().find(|role| role.name() == name)?;
    let keys = holders.get("keys")?.as_array()?.iter().map(|key| key.as_str()?.parse().ok()).collect::<Option<_>>()?;
    let threshold = usize::try_from(holders.get("threshold")?.as_u64()?).ok()?;
    Some((role, RoleKeys { keys, threshold }))
}

fn parse_revocation(value: &Value) -> Option<Revocation> {
    let last_good = |good: &Value| {
        Some(LastGood {
            table: good.get("table")?.as_str()?.to_owned(),
            number: good.get("number")?.as_u64()?,
            digest: good.get("digest")?.as_str()?.parse().ok()?,
        })
    };
    Some(Revocation {
        key: value.get("key")?.as_str()?.parse().ok()?,
        revoked_ms: value.get("revoked_ms")?.as_i64()?,
        reason: value.get("reason")?.as_str()?.to_owned(),
        last_good: value.get("last_good")?.as_array()?.iter().map(last_good).collect::<Option<_>>()?,
    })
}
