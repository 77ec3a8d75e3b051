//! The two signed objects of a region: what it is (`id`) and what the lake is (`c/<^number>`). See `docs/format/lake.md`.

use super::config::{NAME_LIMIT_BYTES, ProfileConfig};
use crate::digest::Digest;
use crate::erasure::Departure;
use crate::error::{Error, ErrorKind, Result};
use crate::format::configuration::{CONFIGURATION_MAGIC, CONFIGURATION_TAG, signed};
use crate::format::wire::{Reader, Writer};
use crate::id::{IncarnationId, LakeId, RegionName};
use crate::key::{PrivateKey, PublicKey};
use crate::region::{MAX_REGIONS, Quorums};

const ID_MAGIC: [u8; 8] = *b"LKSLRID1";
const VERSION: u16 = 2;
/// The version of a configuration whose number of regions was changed.
const CHANGED_VERSION: u16 = 3;
const ID_TAG: &str = "lakeseal 2026 region id v1";
/// Largest `id` object, in bytes.
pub(crate) const ID_LIMIT_BYTES: u64 = 1024;
/// Largest configuration object, in bytes.
pub(crate) const CONFIGURATION_LIMIT_BYTES: u64 = 64 * 1024;
const MAX_KEYS: u16 = 256;
const REGION_NAME_LIMIT_BYTES: usize = 32;
/// Most places of regions, retired ones included.
pub(crate) const MAX_PLACES: u8 = 64;

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
    /// It is being added: it votes and holds shards, and is told what was decided before it came.
    Adding,
    /// It has left; its place in the order stays empty.
    Retired,
    /// It is leaving: it votes as ever and is given no further shards, while others are given those that it holds.
    Leaving,
}

impl RegionState {
    const ALL: [Self; 5] = [Self::Voting, Self::Replacing, Self::Adding, Self::Retired, Self::Leaving];

    fn code(self) -> u8 {
        match self {
            Self::Voting => 0,
            Self::Replacing => 1,
            Self::Adding => 2,
            Self::Retired => 3,
            Self::Leaving => 4,
        }
    }

    /// Whether it is one of the n regions that quorums are counted of.
    pub fn is_counted(self) -> bool {
        self != Self::Retired
    }

    /// What is under way, for people; nothing when it has its full part.
    pub fn under_way(self) -> Option<&'static str> {
        match self {
            Self::Voting => None,
            Self::Replacing => Some("takes another's place; it is being told everything"),
            Self::Adding => Some("is being added"),
            Self::Leaving => Some("is being retired"),
            Self::Retired => Some("has left"),
        }
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
    /// The number of the configuration that added it; 0 when the lake was made with it.
    pub added: u64,
    /// The number of the configuration from which on it was leaving; 0 unless it is, or has left.
    pub left: u64,
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
        let (mut reader, _) = authentic(bytes, ID_MAGIC, ID_TAG, VERSION, root)?;
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
        let version = if self.is_changed() { CHANGED_VERSION } else { VERSION };
        out.raw(&CONFIGURATION_MAGIC).u16(version).raw(&self.lake.0).u64(self.number).i64(self.created_ms);
        out.bytes(self.name.as_bytes())?;
        out.u8(p.data).u8(p.parity).u8(p.liars).u8(p.ack_shards.unwrap_or(0));
        out.u64(p.segment_bytes).u64(p.inline_bytes).u64(p.inline_log_bytes);
        out.u64(p.retention_seconds).u8(u8::from(self.writes_paused));
        out.u8(u8::try_from(self.regions.len()).map_err(too_many)?);
        for place in &self.regions {
            out.bytes(place.name.as_str().as_bytes())?.raw(&place.incarnation.0).u64(place.since).u8(place.state.code());
            if version == CHANGED_VERSION {
                out.u64(place.added).u64(place.left);
            }
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
        let (mut reader, version) = authentic(bytes, CONFIGURATION_MAGIC, CONFIGURATION_TAG, CHANGED_VERSION, root)?;
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
        let regions = (0..count).map(|_| region_place(&mut reader, version)).collect::<Result<Vec<_>>>()?;
        let (writers, collectors) = (keys(&mut reader)?, keys(&mut reader)?);
        reader.done()?;
        let record = Self { lake, number, created_ms, name, profile, writes_paused, regions, writers, collectors };
        let counted = record.counted().count();
        if counted == 0 || counted > usize::from(MAX_REGIONS) {
            return Err(Error::new(ErrorKind::Corrupt, "a configuration has 1 to 16 regions at a time"));
        }
        if version == CHANGED_VERSION && !record.is_changed() {
            return Err(Error::new(ErrorKind::Corrupt, "a configuration is not in its only spelling"));
        }
        Ok(record)
    }

    /// Whether regions were added or retired since the lake was made.
    fn is_changed(&self) -> bool {
        self.regions.iter().any(|place| place.added > 0 || place.left > 0)
    }

    /// The regions that quorums are counted of.
    pub fn counted(&self) -> impl Iterator<Item = &RegionPlace> {
        self.regions.iter().filter(|place| place.state.is_counted())
    }

    /// As [`Self::counted`], each with its index.
    pub fn indexed(&self) -> impl Iterator<Item = (u8, &RegionPlace)> {
        (0..).zip(&self.regions).filter(|(_, place)| place.state.is_counted())
    }

    /// The place of the region of this name that has not left, and its index.
    pub fn place(&self, name: &RegionName) -> Option<(u8, &RegionPlace)> {
        self.indexed().find(|(_, place)| place.name == *name)
    }

    /// The region that is leaving, if any.
    pub fn leaving(&self) -> Option<u8> {
        self.indexed().find(|(_, place)| place.state == RegionState::Leaving).map(|(index, _)| index)
    }

    /// Every region that has left, or is leaving, in the order in which they did, with those that can have its shards.
    pub fn departures(&self) -> Vec<Departure> {
        let mut gone: Vec<(u64, u8)> =
            (0..).zip(&self.regions).filter(|(_, p)| p.left > 0).map(|(index, place)| (place.left, index)).collect();
        gone.sort_unstable();
        let heirs = |number: u64| {
            let stayed = |place: &RegionPlace| place.added < number && (place.left == 0 || place.left > number);
            (0..).zip(&self.regions).filter(|(_, place)| stayed(place)).map(|(index, _)| index).collect()
        };
        gone.into_iter().map(|(number, region)| Departure { region, heirs: heirs(number) }).collect()
    }

    /// The regions that are asked for no vote, by index: those that take another's place, and one that leaves where those that stay decide
    /// without it.
    pub fn silent(&self, quorums: Quorums) -> Vec<u8> {
        let is_silent = |state: RegionState| match state {
            RegionState::Replacing => true,
            RegionState::Leaving => quorums.leaves_silently(),
            RegionState::Voting | RegionState::Adding | RegionState::Retired => false,
        };
        self.indexed().filter(|(_, place)| is_silent(place.state)).map(|(index, _)| index).collect()
    }

    /// The quorums by which this configuration's clients count.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the number of regions does not go with the profile.
    pub fn quorums(&self) -> Result<Quorums> {
        let n = u8::try_from(self.counted().count()).unwrap_or(u8::MAX);
        match self.leaving() {
            None => Quorums::new(n, self.profile.liars),
            Some(_) => Quorums::leaving(n, self.profile.liars),
        }
    }
}

fn region_place(reader: &mut Reader<'_>, version: u16) -> Result<RegionPlace> {
    let (name, incarnation, since) = (region_name(reader)?, IncarnationId(reader.fixed()?), reader.u64()?);
    let code = reader.u8()?;
    let state = RegionState::ALL.into_iter().find(|state| state.code() == code);
    let state = state.ok_or_else(|| Error::new(ErrorKind::Corrupt, "a region has an unknown part in the lake").with("part", code))?;
    let (added, left) = if version == CHANGED_VERSION { (reader.u64()?, reader.u64()?) } else { (0, 0) };
    if (left > 0) != matches!(state, RegionState::Leaving | RegionState::Retired) || (state == RegionState::Adding && added == 0) {
        return Err(
            Error::new(ErrorKind::Corrupt, "a region's part in the lake contradicts when it was added or left").with("region", &name)
        );
    }
    Ok(RegionPlace { name, incarnation, since, state, added, left })
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

/// Checks magic, signature and version (at most `newest`), in this order, and leaves the reader behind them.
fn authentic<'a>(bytes: &'a [u8], magic: [u8; 8], tag: &str, newest: u16, root: &PublicKey) -> Result<(Reader<'a>, u16)> {
    let mut reader = signed(bytes, magic, tag, root)?;
    match reader.u16()? {
        version if (VERSION..=newest).contains(&version) => Ok((reader, version)),
        other => Err(Error::new(ErrorKind::Unsupported, "the lake has a newer format; use a newer lakeseal").with("version", other)),
    }
}

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|e| Error::new(ErrorKind::Corrupt, "a name is not UTF-8").caused_by(e))
}

fn region_name(reader: &mut Reader<'_>) -> Result<RegionName> {
    text(reader.bytes(REGION_NAME_LIMIT_BYTES)?)?.parse()
}
