//! The chain of configurations: deciding the next one and publishing it.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::future::join_all;
use object_store::path::Path;

use super::{Key, MembershipKeys};
use crate::clock::SharedClock;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::id::{IncarnationId, RegionName};
use crate::key::PrivateKey;
use crate::lake::{
    CONFIGURATION_LIMIT_BYTES, ID_LIMIT_BYTES, Lake, LakeConfig, LakeRecord, OpenOptions, RegionPlace, RegionRecord, RegionState,
    check_empty, open, region_over,
};
use crate::region::directory::DirectoryStore;
use crate::region::{Created, Region, layout, location_directory};
use crate::register::{Proposed, Registers};

/// A change that is being made.
pub(super) struct Change {
    /// The lake's file as it will be.
    pub(super) config: LakeConfig,
    name: RegionName,
    newcomer: Option<Newcomer>,
    root: Key,
    writer: Key,
    clock: SharedClock,
}

/// The region that the lake is given.
struct Newcomer {
    record: RegionRecord,
    region: Region,
}

impl Change {
    /// A change of the region `name` without any new one.
    pub(super) fn of(config: LakeConfig, name: RegionName, keys: &MembershipKeys, clock: SharedClock) -> Self {
        let (root, writer) = (Arc::new(keys.root.clone()), Arc::new(keys.writer.clone()));
        Self { config, name, newcomer: None, root, writer, clock }
    }

    /// Gives the new region, which the file names already, its identity, unless an earlier attempt has.
    pub(super) async fn begin(mut self, is_moved: bool) -> Result<Self> {
        let missing = || Error::new(ErrorKind::Internal, "the new region is not in the file");
        let place = self.config.regions.iter().find(|region| region.name == self.name).ok_or_else(missing)?;
        if is_moved && let Some(directory) = location_directory(&place.url, Some(&self.config.directory))? {
            DirectoryStore::new(directory, place.fsync).make_root().map_err(|e| e.with("region", &place.name))?;
        }
        let region = region_over(place, 0, place.open(&self.config.directory)?);
        let record = identify(&self.config, &region, &self.root, &self.clock, is_moved).await?;
        self.newcomer = Some(Newcomer { record, region });
        Ok(self)
    }

    /// Whether it is a change of this region.
    pub(super) fn is_of(&self, name: &RegionName) -> bool {
        self.name == *name
    }

    /// Opens the lake as it is now, by the file as it will be; before the new region has its place, that place is down.
    pub(super) async fn open(&self) -> Result<Lake> {
        self.open_by(&self.config).await
    }

    /// Opens the lake as it is now, by another file.
    pub(super) async fn open_by(&self, config: &LakeConfig) -> Result<Lake> {
        let options = OpenOptions { writer: Some(PrivateKey::clone(&self.writer)), clock: Arc::clone(&self.clock) };
        open(config, options).await
    }

    /// The region's index, and its place.
    pub(super) fn place<'a>(&self, lake: &'a Lake) -> Result<(u8, &'a RegionPlace)> {
        let place = lake.record.place(&self.name);
        place.ok_or_else(|| Error::new(ErrorKind::Internal, "the lake's configuration lacks the region").with("region", &self.name))
    }

    /// Which life of the new region is meant.
    pub(super) fn incarnation(&self) -> Result<IncarnationId> {
        let none = || Error::new(ErrorKind::Internal, "this change has no new region");
        self.newcomer.as_ref().map(|newcomer| newcomer.record.incarnation).ok_or_else(none)
    }

    /// Refuses a new region that holds more than its identity: what is left of an earlier life would be taken for what it says now.
    ///
    /// An attempt that was stopped when nobody but the new region had the configuration after `record` found it fresh already.
    pub(super) async fn check_fresh(&self, record: &LakeRecord) -> Result<()> {
        let Some(Newcomer { region, record: newcomer }) = &self.newcomer else { return Ok(()) };
        let mut keys = region.list(&Path::default(), None);
        let mut left = None;
        while let Some(meta) = keys.try_next().await? {
            if meta.location != layout::id_key() {
                left = Some(meta.location);
                break;
            }
        }
        let Some(left) = left else { return Ok(()) };
        // Looked for after the list: what a broken-off attempt sent may arrive late, and must not be met by the list alone.
        let next = layout::configuration_key(record.number.saturating_add(1));
        if let Some(bytes) = region.get(&next, CONFIGURATION_LIMIT_BYTES).await?
            && let Ok(decided) = LakeRecord::open(&bytes, &self.config.root_key)
            && decided.lake == record.lake
            && decided.place(&self.name).is_some_and(|(_, place)| place.incarnation == newcomer.incarnation)
        {
            return Ok(());
        }
        let what = "the location holds what is left of a region that was replaced or retired; empty it, or name another";
        Err(Error::new(ErrorKind::InvalidInput, what).with("region", &self.name).with("object", left))
    }

    /// The configuration after `record`, with the regions that `change` makes of its own; it is given the new number.
    pub(super) fn next(&self, record: &LakeRecord, change: impl FnOnce(&mut Vec<RegionPlace>, u64)) -> Result<LakeRecord> {
        let mut next = record.clone();
        next.number = record
            .number
            .checked_add(1)
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, "the lake has no numbers for configurations left"))?;
        next.created_ms = self.clock.now_ms();
        change(&mut next.regions, next.number);
        Ok(next)
    }

    /// Has `record` decided by the regions of the configuration before it, and publishes it.
    ///
    /// When another attempt was first with the same change, its bytes are published.
    pub(super) async fn decide(&self, lake: &Lake, record: &LakeRecord) -> Result<()> {
        let registers = Registers::new(Arc::clone(&lake.region_set), Some(Arc::clone(&self.writer)));
        let bytes = self.sealed(record)?;
        // Who opened the lake before it looks for the one that comes next, and for no later one: opening it here gave it to others only where
        // they took it.
        self.publish_present(lake).await?;
        failpoint!("membership.before-decision");
        let bytes = match registers.propose(&layout::configurations_path(), record.number, bytes.clone()).await? {
            Proposed::Won => bytes,
            Proposed::Lost(decided) => {
                let other = LakeRecord::open(&decided.value, &self.config.root_key)?;
                if (LakeRecord { created_ms: record.created_ms, ..other.clone() }) != *record {
                    registers.quiesce().await;
                    return Err(self.forestalled(lake, &other, &decided.value).await);
                }
                decided.value
            }
        };
        registers.quiesce().await;
        failpoint!("membership.after-decision");
        self.publish_bytes(lake, record.number, &bytes, lake.region_set.quorums().classic()).await.map(|_| ())
    }

    /// Publishes the change that was decided in place of this one, and says so.
    ///
    /// Whoever decided it may have stopped before anybody held it, and may be unable to go on: its new region may be gone. Until it is
    /// published no other change can be decided, and nobody would know why. Regions of the configuration before suffice for that, and
    /// the new region, which is not known here, is given it by the same command once more.
    async fn forestalled(&self, lake: &Lake, other: &LakeRecord, bytes: &Bytes) -> Error {
        let published = self.publish_among(lake.region_set.regions(), other.number, bytes, lake.region_set.quorums().classic()).await;
        let busy = other.regions.iter().find(|place| !super::is_settled(place.state)).map(|place| &place.name);
        let error = match published {
            Ok(_) => {
                let what = "another change of the lake's regions was decided first, and is published now: look at it (lakeseal region list), and \
                            finish it, by the command that began it";
                Error::new(ErrorKind::InvalidInput, what)
            }
            Err(error) => {
                let what = "another change of the lake's regions was decided first, and could not be published; do the same again";
                Error::new(ErrorKind::Unavailable, what).caused_by(error)
            }
        };
        let error = error.with("configuration", other.number);
        busy.into_iter().fold(error, |error, name| error.with("region", name))
    }

    /// A configuration as it is published: always the same bytes.
    pub(super) fn sealed(&self, record: &LakeRecord) -> Result<Bytes> {
        Ok(record.seal(&self.root)?.into())
    }

    /// Publishes the lake's configuration where it is missing. How many regions hold it.
    pub(super) async fn publish(&self, lake: &Lake) -> Result<usize> {
        self.publish_bytes(lake, lake.record.number, &self.sealed(&lake.record)?, meeting(lake)?).await
    }

    /// As [`Self::publish`], of a configuration in which the new region of this change need not have a place.
    pub(super) async fn publish_present(&self, lake: &Lake) -> Result<usize> {
        self.publish_among(lake.region_set.regions(), lake.record.number, &self.sealed(&lake.record)?, meeting(lake)?).await
    }

    /// A configuration is published once the new region has it, and so many others that every quorum of the one before meets one of them.
    async fn publish_bytes(&self, lake: &Lake, number: u64, bytes: &Bytes, needed: u8) -> Result<usize> {
        if let Some(newcomer) = &self.newcomer {
            self.give(&newcomer.region, number, bytes).await?;
            failpoint!("membership.after-newcomer-publication");
        }
        let others = lake.region_set.regions().iter().filter(|region| self.newcomer.is_none() || *region.name() != self.name);
        let held = self.publish_among(others, number, bytes, needed).await?;
        Ok(held + usize::from(self.newcomer.is_some()))
    }

    /// Gives a configuration to `regions`, of which `needed` have to take it. How many hold it.
    async fn publish_among(
        &self,
        regions: impl IntoIterator<Item = &Arc<Region>>,
        number: u64,
        bytes: &Bytes,
        needed: u8,
    ) -> Result<usize> {
        let outcomes = join_all(regions.into_iter().map(|region| self.give(region, number, bytes))).await;
        let held = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        failpoint!("membership.after-publication");
        if held >= usize::from(needed) {
            return Ok(held);
        }
        let what = "too few regions took the lake's new configuration; do the same again when they can be reached";
        let error = Error::new(ErrorKind::Unavailable, what).with("configuration", number);
        Err(outcomes.into_iter().filter_map(Result::err).fold(error, |error, failure| error.with("region", failure)))
    }

    async fn give(&self, region: &Region, number: u64, bytes: &Bytes) -> Result<()> {
        let key = layout::configuration_key(number);
        // Created or not, or the answer lost: what counts is what is there.
        let created = region.create(&key, bytes.clone().into()).await;
        if matches!(created, Ok(Created::Made)) {
            return Ok(());
        }
        let found = region.get(&key, CONFIGURATION_LIMIT_BYTES).await?;
        if found.as_ref() == Some(bytes) {
            return Ok(());
        }
        Err(match (created, found) {
            (Err(error), None) => error,
            _ => Error::new(ErrorKind::Corrupt, "a region holds another configuration of the same number").with("region", region.name()),
        })
    }
}

/// In so many regions the lake's configuration has to be, for every quorum of the one *before* to meet it.
fn meeting(lake: &Lake) -> Result<u8> {
    let (quorums, mut states) = (lake.region_set.quorums(), lake.record.regions.iter().map(|place| place.state));
    Ok(if states.any(|state| state == RegionState::Adding) { quorums.without_one()?.classic() } else { quorums.classic() })
}

async fn identify(config: &LakeConfig, region: &Region, root: &PrivateKey, clock: &SharedClock, is_moved: bool) -> Result<RegionRecord> {
    let key = layout::id_key();
    if let Some(record) = identity(config, region).await? {
        return Ok(record);
    }
    if !is_moved {
        let what = "a region cannot be replaced in place: clients that have the lake open may still write there; name another location";
        return Err(Error::new(ErrorKind::InvalidInput, what).with("region", region.name()));
    }
    check_empty(region).await?;
    let record =
        RegionRecord { lake: config.id, name: region.name().clone(), incarnation: IncarnationId::random()?, created_ms: clock.now_ms() };
    let bytes = Bytes::from(record.seal(root)?);
    failpoint!("membership.before-id");
    let created = region.create(&key, bytes.clone().into()).await;
    // The answer may be that to a repetition of what was done already.
    if !matches!(created, Ok(Created::Made)) && region.get(&key, ID_LIMIT_BYTES).await?.as_ref() != Some(&bytes) {
        created?;
        // What an attempt sent that was stopped may arrive only now: it is this region's identity, as it would be had it come at once.
        if let Some(record) = identity(config, region).await? {
            return Ok(record);
        }
        return Err(Error::new(ErrorKind::AlreadyExists, "somebody else is making a region there").with("region", region.name()));
    }
    failpoint!("membership.after-id");
    Ok(record)
}

/// The identity that a location has in this lake, if any.
async fn identity(config: &LakeConfig, region: &Region) -> Result<Option<RegionRecord>> {
    let bytes = region.get(&layout::id_key(), ID_LIMIT_BYTES).await?;
    let Some(bytes) = bytes.filter(|bytes| RegionRecord::claimed_lake(bytes) == Some(config.id)) else { return Ok(None) };
    let record = RegionRecord::open(&bytes, &config.root_key)?;
    if record.name != *region.name() {
        let what = "the new location is another region of this lake";
        return Err(Error::new(ErrorKind::InvalidInput, what).with("region", region.name()).with("is", record.name));
    }
    Ok(Some(record))
}
