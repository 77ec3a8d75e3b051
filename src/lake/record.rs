//! The two signed objects of a region: what it is (`id`) and what the lake is (`c/<^number>`). See `docs/format/lake.md`.

use super::config::{NAME_LIMIT_BYTES, ProfileConfig};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::format::wire::{Reader, Writer};
use crate::id::{IncarnationId, LakeId, RegionName};
use crate::key::{PrivateKey, PublicKey, SIGNATURE_BYTES, Signature};
use crate::region::MAX_REGIONS;

const ID_MAGIC: [u8; 8] = *b"LKSLRID1";
const CONFIGURATION_MAGIC: [u8; 8] = *b"LKSLCFG1";
const VERSION: u16 = 2;
const ID_TAG: &str = "lakeseal 2026 region id v1";
const CONFIGURATION_TAG: &str = "lakeseal 2026 lake configuration v1";
/// Largest `id` object, in bytes.
pub(crate) const ID_LIMIT_BYTES: u64 = 1024;
/// Largest configuration object, in bytes.
pub(crate) const CONFIGURATION_LIMIT_BYTES: u64 = 64 * 1024;
const MAX_KEYS: u16 = 256;
const REGION_NAME_LIMIT_BYTES: usize = 32;
/// Most places of regions, retired ones included.
const MAX_PLACES: u8 = 64;

/// What a region says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionRecord {
    /// The lake it belongs to.
    pub lake: LakeId,
    /// Its name there.
    pub name: RegionName,
    /// Which of its lives this is.
    pub incarnation: IncarnationId,
    /// When it was made, in milliseconds.
    pub created_ms: i64,
}

/// What part a region has in a lake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegionState {
    /// It votes, and holds shards.
    Voting,
    /// It takes the place of another: it is told what is decided and given shards, and counts as down until it has all of it.
    Replacing,
    /// It is being added: as `Replacing`, and not yet one of the n.
    Adding,
    /// It has no part any more; its place in the order stays empty.
    Retired,
}

impl RegionState {
    const ALL: [Self; 4] = [Self::Voting, Self::Replacing, Self::Adding, Self::Retired];

    fn code(self) -> u8 {
        match self {
            Self::Voting => 0,
            Self::Replacing => 1,
            Self::Adding => 2,
            Self::Retired => 3,
        }
    }

    /// Whether it is one of the n regions that quorums are counted of.
    pub fn is_counted(self) -> bool {
        matches!(self, Self::Voting | Self::Replacing)
    }
}

/// A region's place in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionPlace {
    /// Its name.
    pub name: RegionName,
    /// Which of its lives is meant.
    pub incarnation: IncarnationId,
    /// The number of the configuration since which this incarnation votes; for slots that are older, it knows what it was told.
    pub since: u64,
    /// Its part.
    pub state: RegionState,
}

/// What the lake is, as its root key signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LakeRecord {
    /// The lake.
    pub lake: LakeId,
    /// Its configuration's number.
    pub number: u64,
    /// When it was signed, in milliseconds.
    pub created_ms: i64,
    /// The lake's name.
    pub name: String,
    /// The profile; `grace_ms` is each user's own and not part of it.
    pub profile: ProfileConfig,
    /// Whether nothing may be written while the number of regions changes.
    pub writes_paused: bool,
    /// The regions, in order.
    pub regions: Vec<RegionPlace>,
    /// The keys whose writes count.
    pub writers: Vec<PublicKey>,
    /// The keys that may collect what is older than the retention.
    pub collectors: Vec<PublicKey>,
}

impl RegionRecord {
    pub(crate) fn seal(&self, root: &PrivateKey) -> Result<Vec<u8>> {
        let mut out = Writer::new();
        out.raw(&ID_MAGIC).u16(VERSION).raw(&self.lake.0).raw(&self.incarnation.0).i64(self.created_ms);
        out.bytes(self.name.as_str().as_bytes())?;
        Ok(sign(out, ID_TAG, root))
    }

    pub(crate) fn open(bytes: &[u8], root: &PublicKey) -> Result<Self> {
        let mut reader = authentic(bytes, ID_MAGIC, ID_TAG, root)?;
        let lake = LakeId(reader.fixed()?);
        let incarnation = IncarnationId(reader.fixed()?);
        let created_ms = reader.i64()?;
        let name = region_name(&mut reader)?;
        reader.done()?;
        Ok(Self { lake, name, incarnation, created_ms })
    }

    /// The lake that an `id` object claims, whoever signed it: only to say what is in the way.
    pub(crate) fn claimed_lake(bytes: &[u8]) -> Option<LakeId> {
        let mut reader = Reader::new(bytes);
        let magic: [u8; 8] = reader.fixed().ok()?;
        reader.u16().ok()?;
        let lake = reader.fixed().ok()?;
        (magic == ID_MAGIC).then_some(LakeId(lake))
    }
}

impl LakeRecord {
    pub(crate) fn seal(&self, root: &PrivateKey) -> Result<Vec<u8>> {
        let too_many = |_| Error::new(ErrorKind::Config, "too many regions or writers");
        let p = &self.profile;
        let mut out = Writer::new();
        out.raw(&CONFIGURATION_MAGIC).u16(VERSION).raw(&self.lake.0).u64(self.number).i64(self.created_ms);
        out.bytes(self.name.as_bytes())?;
        out.u8(p.data).u8(p.parity).u8(p.liars).u8(p.ack_shards.unwrap_or(0));
        out.u64(p.segment_bytes).u64(p.inline_bytes).u64(p.inline_log_bytes);
        out.u64(p.retention_seconds).u8(u8::from(self.writes_paused));
        out.u8(u8::try_from(self.regions.len()).map_err(too_many)?);
        for place in &self.regions {
            out.bytes(place.name.as_str().as_bytes())?.raw(&place.incarnation.0).u64(place.since).u8(place.state.code());
        }
        for keys in [&self.writers, &self.collectors] {
            out.u16(u16::try_from(keys.len()).map_err(too_many)?);
            keys.iter().for_each(|key| {
                out.raw(&key.to_bytes());
            });
        }
        Ok(sign(out, CONFIGURATION_TAG, root))
    }

    pub(crate) fn open(bytes: &[u8], root: &PublicKey) -> Result<Self> {
        let mut reader = authentic(bytes, CONFIGURATION_MAGIC, CONFIGURATION_TAG, root)?;
        let (lake, number, created_ms) = (LakeId(reader.fixed()?), reader.u64()?, reader.i64()?);
        let name = text(reader.bytes(NAME_LIMIT_BYTES)?)?;
        let mut profile = ProfileConfig::new(reader.u8()?, reader.u8()?);
        profile.liars = reader.u8()?;
        profile.ack_shards = Some(reader.u8()?).filter(|ack| *ack > 0);
        (profile.segment_bytes, profile.inline_bytes, profile.inline_log_bytes) = (reader.u64()?, reader.u64()?, reader.u64()?);
        profile.retention_seconds = reader.u64()?;
        let writes_paused = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Error::new(ErrorKind::Corrupt, "a flag of a configuration is neither 0 nor 1")),
        };
        let count = reader.u8()?;
        if count == 0 || count > MAX_PLACES {
            return Err(Error::new(ErrorKind::Corrupt, "a configuration has 1 to 64 regions"));
        }
        let regions = (0..count).map(|_| region_place(&mut reader)).collect::<Result<Vec<_>>>()?;
        let (writers, collectors) = (keys(&mut reader)?, keys(&mut reader)?);
        reader.done()?;
        let counted = regions.iter().filter(|place| place.state.is_counted()).count();
        if counted == 0 || counted > usize::from(MAX_REGIONS) {
            return Err(Error::new(ErrorKind::Corrupt, "a configuration has 1 to 16 regions at a time"));
        }
        Ok(Self { lake, number, created_ms, name, profile, writes_paused, regions, writers, collectors })
    }

    /// The regions that quorums are counted of.
    pub fn counted(&self) -> impl Iterator<Item = &RegionPlace> {
        self.regions.iter().filter(|place| place.state.is_counted())
    }
}

fn region_place(reader: &mut Reader<'_>) -> Result<RegionPlace> {
    let (name, incarnation, since) = (region_name(reader)?, IncarnationId(reader.fixed()?), reader.u64()?);
    let code = reader.u8()?;
    let state = RegionState::ALL.into_iter().find(|state| state.code() == code);
    let state = state.ok_or_else(|| Error::new(ErrorKind::Corrupt, "a region has an unknown part in the lake").with("part", code))?;
    Ok(RegionPlace { name, incarnation, since, state })
}

fn keys(reader: &mut Reader<'_>) -> Result<Vec<PublicKey>> {
    let count = reader.u16()?;
    if count > MAX_KEYS {
        return Err(Error::new(ErrorKind::Corrupt, "a configuration has at most 256 keys of a role"));
    }
    (0..count).map(|_| PublicKey::from_bytes(&reader.fixed()?)).collect()
}

fn sign(mut out: Writer, tag: &str, root: &PrivateKey) -> Vec<u8> {
    let signature = root.sign(&Digest::tagged(tag, out.as_slice()).0);
    out.raw(&signature.0);
    out.finish()
}

/// Checks magic, signature and version, in this order, and leaves the reader behind them.
fn authentic<'a>(bytes: &'a [u8], magic: [u8; 8], tag: &str, root: &PublicKey) -> Result<Reader<'a>> {
    let split = bytes.len().checked_sub(SIGNATURE_BYTES).and_then(|at| bytes.split_at_checked(at));
    let (signed, signature) = split.ok_or_else(|| Error::new(ErrorKind::Corrupt, "a signed object is too short"))?;
    let mut reader = Reader::new(signed);
    if reader.fixed::<8>()? != magic {
        return Err(Error::new(ErrorKind::Corrupt, "not an object of a lake: its magic number is wrong"));
    }
    if !root.verifies(&Digest::tagged(tag, signed).0, &Signature(Reader::new(signature).fixed()?)) {
        return Err(Error::new(ErrorKind::Unauthentic, "not signed by the lake's root key").with("root_key", root));
    }
    match reader.u16()? {
        VERSION => Ok(reader),
        other => Err(Error::new(ErrorKind::Unsupported, "the lake has a newer format; use a newer lakeseal").with("version", other)),
    }
}

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|e| Error::new(ErrorKind::Corrupt, "a name is not UTF-8").caused_by(e))
}

fn region_name(reader: &mut Reader<'_>) -> Result<RegionName> {
    text(reader.bytes(REGION_NAME_LIMIT_BYTES)?)?.parse()
}
