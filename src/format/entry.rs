//! Register entries and decided markers; the layout is specified in `docs/format/register.md`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::format::wire::{Reader, Writer};
use crate::id::{LakeId, ProposerId, WriteId};
use crate::key::{PrivateKey, PublicKey, SIGNATURE_BYTES, Signature};

/// The first bytes of every entry.
pub const ENTRY_MAGIC: [u8; 8] = *b"LKSLREG1";
/// The version of the entry format.
pub const ENTRY_VERSION: u16 = 1;
/// The longest logical path, in bytes, that an entry may carry.
pub const PATH_LIMIT_BYTES: usize = 1024;
/// The longest value, in bytes, that a register may decide.
pub const VALUE_LIMIT_BYTES: usize = 64 * 1024 * 1024;
/// The longest entry, in bytes: what a reader asks for at most.
pub const ENTRY_LIMIT_BYTES: u64 = 64 * 1024 * 1024 + 2048;

const ENTRY_TAG: &str = "lakeseal 2026 register entry v1";
const MARKER_TAG: &str = "lakeseal 2026 decided marker v1";

/// Orders the attempts to decide a slot. Round 0 is the shared fast ballot, whose proposer is all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// The round; compared first.
    pub round: u64,
    /// Random per attempt, so that a classic ballot never carries two values.
    pub proposer: ProposerId,
}

impl Ballot {
    /// The fast ballot, shared by all proposers.
    pub const FAST: Self = Self { round: 0, proposer: ProposerId([0; ProposerId::LEN]) };

    /// Whether this is the fast ballot.
    pub fn is_fast(&self) -> bool {
        self.round == 0
    }
}

/// Where an entry stands; all of it is signed, so an entry moved to another place is not authentic there (but for a stub, which may
/// stand in any region's log of its slot).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryPlace<'a> {
    /// The lake.
    pub lake: LakeId,
    /// The number of the configuration under which the entry was made.
    pub configuration: u64,
    /// The region's position in the configuration.
    pub region: u8,
    /// The object's logical path.
    pub path: &'a str,
    /// The version slot.
    pub slot: u64,
    /// The entry's position in the region's log of the slot.
    pub seq: u32,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryBody {
    /// No ballot below this one is accepted here any more.
    Promise(Ballot),
    /// A vote for a value at a ballot.
    Accept(Ballot, Bytes),
    /// The slot was decided for the value with this digest, and the value was collected since. It speaks of the slot and not of the region
    /// that it was made for: a copy of it is as good in any other's log, at whatever place. Nothing follows it.
    Stub(Digest),
    /// The slot was decided for this value, and the region was told so afterwards. Nothing follows it.
    Learned(Bytes),
    /// Nothing was or will be decided at a ballot below this one, and the region, which came later than others' entries, was told so. It has
    /// promised the ballot too.
    Undecided(Ballot),
}

const PROMISE: u8 = 0;
const ACCEPT: u8 = 1;
const STUB: u8 = 2;
const LEARNED: u8 = 3;
const UNDECIDED: u8 = 4;

/// Bytes of a stub of a path of `path_bytes` bytes. No vote is as short, for a manifest is longer than a digest.
pub const fn stub_len(path_bytes: usize) -> usize {
    // The fields before the path, its length and the value's, a digest, the signature.
    8 + 2 + 1 + 1 + 16 + 8 + 8 + 4 + 8 + 8 + 32 + 4 + path_bytes + 4 + Digest::LEN + SIGNATURE_BYTES
}

/// Whose entries count.
#[derive(Debug, Clone, Copy)]
pub struct EntryKeys<'a> {
    /// Sign all but stubs.
    pub writers: &'a [PublicKey],
    /// Sign stubs: a writer cannot make a version unreadable.
    pub collectors: &'a [PublicKey],
}

impl EntryBody {
    /// The stored bytes of this body at `place`, signed by `signer` (a collector for a stub, else a writer). Cost: one signature and one pass over the value.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a path or value over its limit.
    pub fn seal(&self, place: &EntryPlace<'_>, signer: &PrivateKey) -> Result<Vec<u8>> {
        let (kind, ballot, value): (u8, Ballot, &[u8]) = match self {
            Self::Promise(ballot) => (PROMISE, *ballot, &[]),
            Self::Accept(ballot, value) => (ACCEPT, *ballot, value),
            Self::Stub(digest) => (STUB, Ballot::FAST, &digest.0),
            Self::Learned(value) => (LEARNED, Ballot::FAST, value),
            Self::Undecided(ballot) => (UNDECIDED, *ballot, &[]),
        };
        if place.path.len() > PATH_LIMIT_BYTES || value.len() > VALUE_LIMIT_BYTES {
            return Err(Error::new(ErrorKind::InvalidInput, "a path or manifest is too long for a register")
                .with("path", place.path)
                .with("path bytes", place.path.len())
                .with("manifest bytes", value.len()));
        }
        let mut out = Writer::new();
        out.raw(&ENTRY_MAGIC).u16(ENTRY_VERSION).u8(kind).u8(place.region);
        out.raw(&place.lake.0).u64(place.configuration).u64(place.slot).u32(place.seq);
        out.u64(ballot.round).raw(&ballot.proposer.0).raw(&signer.public().to_bytes());
        out.bytes(place.path.as_bytes())?.bytes(value)?;
        let signature = signer.sign(&Digest::tagged(ENTRY_TAG, out.as_slice()).0);
        out.raw(&signature.0);
        Ok(out.finish())
    }

    /// Reads an entry that was found at `place` and checks that one of `keys` signed it for just that place; a stub, for that slot in any region.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthentic`] when none of them signed it or it belongs elsewhere, [`ErrorKind::Corrupt`] when it is malformed,
    /// [`ErrorKind::Unsupported`] for a later version. Whichever: the region is down for this slot.
    pub fn open(bytes: &Bytes, place: &EntryPlace<'_>, keys: EntryKeys<'_>) -> Result<Self> {
        Self::open_since(bytes, place, place.configuration, keys).map(|(body, _)| body)
    }

    /// As [`EntryBody::open`], for an entry that was made under any configuration from `since`, when its region began to vote, to that
    /// of `place`; one that says what was decided (learned, stub) may be older, and one that says that nothing was is as old as the
    /// region's part in the lake, which may be one less. Returns that configuration's number as well.
    ///
    /// # Errors
    /// As [`EntryBody::open`]; [`ErrorKind::Unavailable`], and only then, for an entry of a *later* configuration: who reads it does not
    /// know the lake's regions any more.
    pub fn open_since(bytes: &Bytes, place: &EntryPlace<'_>, since: u64, keys: EntryKeys<'_>) -> Result<(Self, u64)> {
        let fail = |e: Error| e.with("path", place.path).with("slot", place.slot).with("entry", place.seq);
        open(bytes, place, since, keys).map_err(fail)
    }
}

fn open(bytes: &Bytes, place: &EntryPlace<'_>, since: u64, keys: EntryKeys<'_>) -> Result<(EntryBody, u64)> {
    let signed_len = bytes.len().checked_sub(SIGNATURE_BYTES).ok_or_else(|| corrupt("a register entry is too short"))?;
    let (signed, signature) = bytes.split_at_checked(signed_len).ok_or_else(|| corrupt("a register entry is too short"))?;
    let mut reader = Reader::new(signed);
    if reader.fixed::<8>()? != ENTRY_MAGIC {
        return Err(corrupt("not a register entry"));
    }
    let version = reader.u16()?;
    if version != ENTRY_VERSION {
        return Err(Error::new(ErrorKind::Unsupported, "a register entry of an unknown version").with("version", version));
    }
    let (kind, region) = (reader.u8()?, reader.u8()?);
    let (lake, configuration, slot, seq) = (LakeId(reader.fixed()?), reader.u64()?, reader.u64()?, reader.u32()?);
    let ballot = Ballot { round: reader.u64()?, proposer: ProposerId(reader.fixed()?) };
    let key = reader.fixed::<32>()?;
    let path = reader.bytes(PATH_LIMIT_BYTES)?;
    let value = reader.bytes(VALUE_LIMIT_BYTES)?;
    let value_end = reader.position();
    reader.done()?;

    let allowed = if kind == STUB { keys.collectors } else { keys.writers };
    let key = allowed
        .iter()
        .find(|allowed| allowed.to_bytes() == key)
        .ok_or_else(|| unauthentic("a register entry was signed by a key that has no such role in this lake"))?;
    let signature = Signature(Reader::new(signature).fixed()?);
    if !key.verifies(&Digest::tagged(ENTRY_TAG, signed).0, &signature) {
        return Err(unauthentic("a register entry's signature does not verify"));
    }
    // A stub says nothing of a region: whoever lacks one is given a copy of another's, for which it takes no collector.
    let is_in_its_log = kind == STUB || (region, seq) == (place.region, place.seq);
    if !is_in_its_log || (lake, path, slot) != (place.lake, place.path.as_bytes(), place.slot) {
        return Err(unauthentic("a register entry belongs to another place"));
    }
    if configuration > place.configuration {
        let what = "the lake's regions have changed since it was opened: open it again";
        return Err(Error::new(ErrorKind::Unavailable, what).with("configuration", configuration).with("opened", place.configuration));
    }
    let is_too_old = match kind {
        LEARNED | STUB => false,
        // A region in another's place is told before it votes; what was told to the one before it says nothing of itself.
        UNDECIDED => configuration.saturating_add(1) < since,
        _ => configuration < since,
    };
    if is_too_old {
        return Err(unauthentic("a register entry is older than its region's part in the lake").with("configuration", configuration));
    }
    let body = match kind {
        PROMISE if !ballot.is_fast() && value.is_empty() => Ok(EntryBody::Promise(ballot)),
        UNDECIDED if !ballot.is_fast() && value.is_empty() => Ok(EntryBody::Undecided(ballot)),
        ACCEPT if !ballot.is_fast() || ballot == Ballot::FAST => {
            Ok(EntryBody::Accept(ballot, bytes.slice(value_end - value.len()..value_end)))
        }
        STUB if seq == 0 && ballot == Ballot::FAST => {
            Ok(EntryBody::Stub(Digest(<[u8; 32]>::try_from(value).map_err(|e| corrupt("a stub's digest is cut").caused_by(e))?)))
        }
        LEARNED if ballot == Ballot::FAST => Ok(EntryBody::Learned(bytes.slice(value_end - value.len()..value_end))),
        _ => Err(corrupt("a register entry's kind and ballot do not fit").with("kind", kind).with("round", ballot.round)),
    };
    Ok((body?, configuration))
}

fn corrupt(message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}

fn unauthentic(message: &str) -> Error {
    Error::new(ErrorKind::Unauthentic, message)
}

/// What a decided version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// An object with bytes, possibly none.
    Object,
    /// The statement that the object was deleted.
    Tombstone,
}

/// What a listing needs to know of a decided version; it is written into the *name* of a decided marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// Object or tombstone.
    pub kind: ObjectKind,
    /// The object's size in bytes; 0 for a tombstone.
    pub size: u64,
    /// The version's time, in milliseconds since 1970-01-01T00:00:00Z.
    pub modified_ms: i64,
    /// The attempt that wrote it, the object's `e_tag`.
    pub write_id: WriteId,
    /// The digest of the register's decided value (the manifest's bytes): plain BLAKE3.
    pub value: Digest,
}

/// A marker with the configuration it was made under and its signature: what stands in a marker's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedMarker {
    /// What it says.
    pub marker: Marker,
    /// The number of the configuration under which it was made.
    pub configuration: u64,
    /// By a writer, over the lake, path, slot and all of the above.
    pub signature: Signature,
}

/// Bytes of a marker's text.
pub const MARKER_TEXT_BYTES: usize = (MARKER_BYTES * 4).div_ceil(3) + 1 + (SIGNATURE_BYTES * 4).div_ceil(3);

const MARKER_BYTES: usize = 1 + 8 + 8 + WriteId::LEN + Digest::LEN + 8;

impl Marker {
    fn fields(&self, configuration: u64) -> Writer {
        let mut out = Writer::new();
        out.u8(match self.kind {
            ObjectKind::Object => 0,
            ObjectKind::Tombstone => 1,
        });
        out.u64(self.size).i64(self.modified_ms).raw(&self.write_id.0).raw(&self.value.0).u64(configuration);
        out
    }

    fn message(&self, configuration: u64, lake: LakeId, path: &str, slot: u64) -> [u8; 32] {
        let mut out = self.fields(configuration);
        out.raw(&lake.0).u64(slot).raw(path.as_bytes());
        Digest::tagged(MARKER_TAG, out.as_slice()).0
    }

    /// Signs the marker of a slot that was decided.
    pub fn sign(&self, lake: LakeId, configuration: u64, path: &str, slot: u64, writer: &PrivateKey) -> SignedMarker {
        let signature = writer.sign(&self.message(configuration, lake, path, slot));
        SignedMarker { marker: *self, configuration, signature }
    }
}

impl SignedMarker {
    /// The text that follows `.d` in the marker's name: `<fields>.<signature>` in base64url without padding, 185 characters.
    pub fn to_text(&self) -> String {
        let fields = self.marker.fields(self.configuration).finish();
        format!("{}.{}", URL_SAFE_NO_PAD.encode(fields), URL_SAFE_NO_PAD.encode(self.signature.0))
    }

    /// Reads what [`SignedMarker::to_text`] made; the signature is not checked here.
    pub fn from_text(text: &str) -> Result<Self> {
        let malformed = || corrupt("not the name of a decided marker");
        let (fields, signature) = text.split_once('.').ok_or_else(malformed)?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|e| malformed().caused_by(e));
        let (fields, signature) = (decode(fields)?, decode(signature)?);
        if fields.len() != MARKER_BYTES || signature.len() != SIGNATURE_BYTES {
            return Err(malformed());
        }
        let mut reader = Reader::new(&fields);
        let kind = match reader.u8()? {
            0 => ObjectKind::Object,
            1 => ObjectKind::Tombstone,
            other => return Err(malformed().with("kind", other)),
        };
        let marker = Marker {
            kind,
            size: reader.u64()?,
            modified_ms: reader.i64()?,
            write_id: WriteId(reader.fixed()?),
            value: Digest(reader.fixed()?),
        };
        let configuration = reader.u64()?;
        reader.done()?;
        Ok(Self { marker, configuration, signature: Signature(Reader::new(&signature).fixed()?) })
    }

    /// Whether one of `writers` signed this marker for `path` and `slot` under `configuration` or an earlier one: what was decided stays
    /// decided. Cost: up to one verification a writer.
    pub fn is_authentic(&self, lake: LakeId, configuration: u64, path: &str, slot: u64, writers: &[PublicKey]) -> bool {
        let message = self.marker.message(self.configuration, lake, path, slot);
        self.configuration <= configuration && writers.iter().any(|writer| writer.verifies(&message, &self.signature))
    }
}

#[cfg(test)]
mod tests;
