//! The sorted lists of all regions, merged register by register: what listing and walking share.

use std::sync::Arc;

use futures::TryStreamExt as _;
use futures::future::join_all;
use futures::stream::BoxStream;
use object_store::ObjectMeta;
use object_store::path::Path;

use super::core::Rules;
use super::{Slot, blame};
use crate::error::{Error, ErrorKind, Result};
use crate::region::layout::{self, RegisterName};
use crate::region::{Region, RegionSet};

/// What a list says of a key beside its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyMeta {
    /// By the region's clock.
    pub(super) modified_ms: i64,
    pub(super) bytes: u64,
}

/// What is kept of one register in one region's list.
pub(super) trait Gather: Send + Sized {
    /// Begins a register whose newest slot there is `newest`.
    fn begin(newest: Slot) -> Self;

    /// Takes the next key of the register; slots descend.
    fn take(&mut self, key: RegisterName, meta: KeyMeta);
}

/// The lists of all regions, each read one register ahead.
pub(super) struct Lanes<G> {
    regions: Arc<RegionSet>,
    rules: Rules,
    lanes: Vec<Lane<G>>,
}

struct Lane<G> {
    region: Arc<Region>,
    names: BoxStream<'static, Result<ObjectMeta>>,
    /// The first name of the register after `front`.
    next: Option<(RegisterName, KeyMeta)>,
    front: Option<(Path, G)>,
    state: State,
}

enum State {
    Reading,
    Ended,
    Failed(Error),
}

impl<G: Gather> Lanes<G> {
    /// All registers below `prefix` that are greater than `after`.
    pub(super) fn new(regions: Arc<RegionSet>, rules: Rules, prefix: Option<&Path>, after: Option<&Path>) -> Self {
        let after = after.filter(|after| !after.as_ref().is_empty()).map(|after| layout::register_after(prefix, after));
        let prefix = layout::register_prefix(prefix.filter(|prefix| !prefix.as_ref().is_empty()));
        Self::below(regions, rules, &prefix, after)
    }

    /// The register of `path` alone; with `older`, from behind the entries of that slot on.
    pub(super) fn one(regions: Arc<RegionSet>, rules: Rules, path: &Path, older: Option<Slot>) -> Result<Self> {
        let after = older.map(|slot| layout::entry_key(path, slot, u32::MAX)).transpose()?;
        Ok(Self::below(regions, rules, &layout::register_folder(path)?, after))
    }

    fn below(regions: Arc<RegionSet>, rules: Rules, prefix: &Path, after: Option<Path>) -> Self {
        let lane = |region: &Arc<Region>| Lane {
            names: region.list(prefix, after.as_ref()),
            region: Arc::clone(region),
            next: None,
            front: None,
            state: State::Reading,
        };
        let lanes = regions.voters().iter().map(lane).collect();
        Self { regions, rules, lanes }
    }

    pub(super) fn regions(&self) -> &Arc<RegionSet> {
        &self.regions
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Number of regions, those included whose lists failed.
    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    /// The regions whose lists failed so far.
    pub(super) fn failed(&self) -> impl Iterator<Item = u8> {
        self.lanes.iter().filter(|lane| matches!(lane.state, State::Failed(_))).map(|lane| lane.region.index())
    }

    /// The next register, with what each region that lists it shows of it.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when fewer than a classic quorum of regions is left.
    pub(super) async fn next(&mut self) -> Result<Option<(Path, Vec<(u8, G)>)>> {
        join_all(self.lanes.iter_mut().filter(|lane| lane.front.is_none()).map(Lane::advance)).await;
        if self.lanes.len() - self.failed().count() < self.rules.classic {
            return Err(self.unavailable());
        }
        let Some(path) = self.lanes.iter().filter_map(|lane| Some(&lane.front.as_ref()?.0)).min().cloned() else { return Ok(None) };
        let here = |lane: &mut Lane<G>| Some((lane.region.index(), lane.front.take_if(|front| front.0 == path)?.1));
        let groups = self.lanes.iter_mut().filter_map(here).collect();
        Ok(Some((path, groups)))
    }

    fn unavailable(&self) -> Error {
        let failures = self.lanes.iter().map(|lane| match &lane.state {
            State::Failed(error) => (&lane.region, Some(error)),
            State::Reading | State::Ended => (&lane.region, None),
        });
        blame(Error::new(ErrorKind::Unavailable, "too few regions list their names"), failures)
    }
}

impl<G: Gather> Lane<G> {
    /// Reads the next register. A lane that failed is out for the rest: what it did not show, others of a quorum show.
    async fn advance(&mut self) {
        match self.group().await {
            Ok(group) => self.front = group,
            Err(error) => {
                self.next = None;
                self.state = State::Failed(error);
            }
        }
    }

    async fn group(&mut self) -> Result<Option<(Path, G)>> {
        let first = match self.next.take() {
            Some(name) => Some(name),
            None => self.name().await?,
        };
        let Some((first, meta)) = first else { return Ok(None) };
        let mut group = G::begin(first.slot);
        let path = first.path.clone();
        group.take(first, meta);
        while let Some((name, meta)) = self.name().await? {
            if name.path != path {
                self.next = Some((name, meta));
                break;
            }
            group.take(name, meta);
        }
        Ok(Some((path, group)))
    }

    /// The next name that the layout built; whatever else lies there is nobody's vote.
    async fn name(&mut self) -> Result<Option<(RegisterName, KeyMeta)>> {
        while matches!(self.state, State::Reading) {
            match self.names.try_next().await? {
                Some(meta) => {
                    if let Some(name) = layout::parse_register_key(&meta.location) {
                        return Ok(Some((name, KeyMeta { modified_ms: meta.last_modified.timestamp_millis(), bytes: meta.size })));
                    }
                }
                None => self.state = State::Ended,
            }
        }
        Ok(None)
    }
}
