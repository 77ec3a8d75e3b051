//! The sorted lists of all regions, merged register by register: what listing and walking share.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{BoxStream, FuturesUnordered};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectMeta;
use object_store::path::Path;
use tokio::time::{Instant, timeout_at};

use super::core::Rules;
use super::newest::check_junk;
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

/// How much the list of a region may lag behind those of a quorum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lag {
    /// At the next register, at least.
    least: Duration,
    /// In all: so much for each register that was passed, and [`LAG_STEPS`] times `least`.
    for_each: Duration,
}

impl Lag {
    /// For answers that somebody waits for: the others' lists are as good.
    pub(super) const SHORT: Self = Self { least: Duration::from_millis(500), for_each: Duration::from_millis(10) };
    /// For single names, of which it is looked what each region holds.
    pub(super) const ONE: Self = Self { least: Duration::from_secs(2), for_each: Duration::ZERO };
    /// For walks over all that there is, which should hear every region, and take long anyway.
    pub(super) const LONG: Self = Self { least: Duration::from_secs(10), for_each: Duration::from_millis(20) };
}

/// How many times the time that a quorum's lists took for a register the others may take longer.
const FACTOR: u32 = 4;
/// See [`Lag`].
const LAG_STEPS: u32 = 8;

/// The lists of all regions, each read one register ahead.
///
/// **Who lags.** Once the lists of a quorum have come to their next register, or to their end, the others are waited for a while more
/// ([`Lag`]). Whoever has not come by then, or has kept the others waiting too long in all, has *failed*, and is for the rest of the walk a region that
/// does not answer. What it would have shown, another of a quorum shows; a quorum is always left, for nobody is hurried before there is one.
pub(super) struct Lanes<G> {
    regions: Arc<RegionSet>,
    rules: Rules,
    lanes: Vec<Lane<G>>,
    lag: Lag,
    /// The longest that the lists of a quorum took to come to a register.
    slowest: Duration,
    /// Registers that were passed.
    passed: u32,
}

struct Lane<G> {
    region: Arc<Region>,
    names: BoxStream<'static, Result<ObjectMeta>>,
    /// The first name of the register after `front`.
    next: Option<(RegisterName, KeyMeta)>,
    front: Option<(Path, G)>,
    state: State,
    /// For how long it kept the others waiting.
    lagged: Duration,
    /// Keys since the last one of a register that are no register's.
    skipped: usize,
}

enum State {
    Reading,
    Ended,
    Failed(Error),
}

impl<G: Gather> Lanes<G> {
    /// All registers below `prefix` that are greater than `after`.
    pub(super) fn new(regions: Arc<RegionSet>, rules: Rules, prefix: Option<&Path>, after: Option<&Path>, lag: Lag) -> Self {
        let after = after.filter(|after| !after.as_ref().is_empty()).map(|after| layout::register_after(prefix, after));
        let prefix = layout::register_prefix(prefix.filter(|prefix| !prefix.as_ref().is_empty()));
        Self::below(regions, rules, &prefix, after, lag)
    }

    /// The register of `path` alone; with `older`, from behind the entries of that slot on.
    pub(super) fn one(regions: Arc<RegionSet>, rules: Rules, path: &Path, older: Option<Slot>, lag: Lag) -> Result<Self> {
        let after = older.map(|slot| layout::entry_key(path, slot, u32::MAX)).transpose()?;
        Ok(Self::below(regions, rules, &layout::register_folder(path)?, after, lag))
    }

    fn below(regions: Arc<RegionSet>, rules: Rules, prefix: &Path, after: Option<Path>, lag: Lag) -> Self {
        let lane = |region: &Arc<Region>| Lane {
            names: region.list(prefix, after.as_ref()),
            region: Arc::clone(region),
            next: None,
            front: None,
            state: State::Reading,
            lagged: Duration::ZERO,
            skipped: 0,
        };
        let lanes = regions.voters().iter().map(lane).collect();
        Self { regions, rules, lanes, lag, slowest: Duration::ZERO, passed: 0 }
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
        self.advance().await;
        if self.lanes.len() - self.failed().count() < self.rules.classic {
            return Err(self.unavailable());
        }
        let Some(path) = self.lanes.iter().filter_map(|lane| Some(&lane.front.as_ref()?.0)).min().cloned() else { return Ok(None) };
        let here = |lane: &mut Lane<G>| Some((lane.region.index(), lane.front.take_if(|front| front.0 == path)?.1));
        let groups = self.lanes.iter_mut().filter_map(here).collect();
        self.passed = self.passed.saturating_add(1);
        Ok(Some((path, groups)))
    }

    /// Brings every list to the next register, or to its end, but those that lag.
    async fn advance(&mut self) {
        let patience = self.lag.least.max(self.slowest.saturating_mul(FACTOR));
        let most = self.lag.least.saturating_mul(LAG_STEPS) + self.lag.for_each.saturating_mul(self.passed);
        let began = Instant::now();
        let mut ready = self.lanes.iter().filter(|lane| lane.is_ready()).count();
        let mut behind: FuturesUnordered<_> = self.lanes.iter_mut().filter(|lane| lane.is_behind()).map(Lane::advance).collect();
        // Since when all wait for those alone that are not needed.
        let mut waiting_since = None;
        while !behind.is_empty() {
            if ready >= self.rules.classic {
                waiting_since.get_or_insert_with(Instant::now);
            }
            let lane = match waiting_since {
                None => behind.next().await,
                Some(since) => timeout_at(since + patience, behind.next()).await.ok().flatten(),
            };
            let Some(lane) = lane else { break };
            match waiting_since {
                None => self.slowest = self.slowest.max(began.elapsed()),
                Some(since) => lane.lagged += since.elapsed(),
            }
            if lane.lagged > most {
                lane.fail(lagging());
            }
            ready += usize::from(lane.is_ready());
        }
        drop(behind);
        self.lanes.iter_mut().filter(|lane| lane.is_behind()).for_each(|lane| lane.fail(lagging()));
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
    /// Whether it shows its next register, or has none.
    fn is_ready(&self) -> bool {
        self.front.is_some() || (matches!(self.state, State::Ended) && self.next.is_none())
    }

    fn is_behind(&self) -> bool {
        !self.is_ready() && !matches!(self.state, State::Failed(_))
    }

    /// Reads the next register. A lane that failed is out for the rest: what it did not show, others of a quorum show.
    async fn advance(&mut self) -> &mut Self {
        match self.group().await {
            Ok(group) => self.front = group,
            Err(error) => self.fail(error),
        }
        self
    }

    fn fail(&mut self, error: Error) {
        (self.next, self.front) = (None, None);
        self.state = State::Failed(error);
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
                    self.skipped += 1;
                    check_junk(&self.region, self.skipped)?;
                    if let Some(name) = layout::parse_register_key(&meta.location) {
                        self.skipped = 0;
                        return Ok(Some((name, KeyMeta { modified_ms: meta.last_modified.timestamp_millis(), bytes: meta.size })));
                    }
                }
                None => self.state = State::Ended,
            }
        }
        Ok(None)
    }
}

fn lagging() -> Error {
    Error::new(ErrorKind::Unavailable, "the region lists more slowly than others, and was left out from there on")
}
