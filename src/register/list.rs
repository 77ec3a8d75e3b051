//! Listing names: the sorted lists of all regions, merged.

use std::sync::Arc;

use futures::future::join_all;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::core::Rules;
use super::read::authentic_marker;
use super::{Slot, blame};
use crate::error::{Error, ErrorKind, Result};
use crate::format::entry::Marker;
use crate::region::layout::{self, RegisterItem, RegisterName};
use crate::region::{Region, RegionSet};

/// Markers of one slot in one region that are kept; correct writers make one.
const MARKER_LIMIT: usize = 16;

/// A name with its newest slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// The newest slot is decided, and this is what it says.
    Marked {
        /// The logical path.
        path: Path,
        /// The newest slot.
        slot: Slot,
        /// An authentic marker of it.
        marker: Marker,
    },
    /// The newest slot may be decided or not: [`super::Registers::newest`] tells, and may find nothing.
    Unmarked {
        /// The logical path.
        path: Path,
        /// The newest slot.
        slot: Slot,
    },
}

impl Listed {
    /// The logical path.
    pub fn path(&self) -> &Path {
        match self {
            Self::Marked { path, .. } | Self::Unmarked { path, .. } => path,
        }
    }
}

/// A register in one region's list: its newest slot there.
struct Group {
    path: Path,
    slot: Slot,
    markers: Vec<String>,
}

/// One region's list, read one register ahead.
struct Lane {
    region: Arc<Region>,
    names: BoxStream<'static, Result<ObjectMeta>>,
    /// The first name of the register after `front`.
    next: Option<RegisterName>,
    front: Option<Group>,
    state: State,
}

enum State {
    Reading,
    Ended,
    Failed(Error),
}

struct Merge {
    regions: Arc<RegionSet>,
    rules: Rules,
    lanes: Vec<Lane>,
    finished: bool,
}

pub(super) fn list(
    regions: Arc<RegionSet>,
    rules: Rules,
    prefix: Option<&Path>,
    after: Option<&Path>,
) -> BoxStream<'static, Result<Listed>> {
    let prefix = layout::register_prefix(prefix.filter(|prefix| !prefix.as_ref().is_empty()));
    let after = after.filter(|after| !after.as_ref().is_empty()).map(layout::register_after);
    let lanes = regions
        .voters()
        .iter()
        .map(|region| Lane {
            names: region.list(&prefix, after.as_ref()),
            region: Arc::clone(region),
            next: None,
            front: None,
            state: State::Reading,
        })
        .collect();
    let merge = Merge { regions, rules, lanes, finished: false };
    stream::try_unfold(merge, Merge::step).boxed()
}

impl Merge {
    async fn step(mut self) -> Result<Option<(Listed, Self)>> {
        if self.finished {
            return Ok(None);
        }
        join_all(self.lanes.iter_mut().filter(|lane| lane.front.is_none()).map(Lane::advance)).await;
        let failed = self.lanes.iter().filter(|lane| matches!(lane.state, State::Failed(_))).count();
        if self.lanes.len() - failed < self.rules.classic {
            return Err(self.unavailable());
        }
        let Some(path) = self.lanes.iter().filter_map(|lane| Some(&lane.front.as_ref()?.path)).min().cloned() else {
            self.finished = true;
            return Ok(None);
        };
        let here = |lane: &mut Lane| lane.front.take_if(|group| group.path == path);
        let groups: Vec<Group> = self.lanes.iter_mut().filter_map(here).collect();
        let slot = groups.iter().map(|group| group.slot).max().unwrap_or(0);
        let texts = groups.iter().filter(|group| group.slot == slot).flat_map(|group| &group.markers);
        let listed = match authentic_marker(&self.regions, &path, slot, texts) {
            Some(signed) => Listed::Marked { path, slot, marker: signed.marker },
            None => Listed::Unmarked { path, slot },
        };
        Ok(Some((listed, self)))
    }

    fn unavailable(&self) -> Error {
        let failures = self.lanes.iter().map(|lane| match &lane.state {
            State::Failed(error) => (&lane.region, Some(error)),
            State::Reading | State::Ended => (&lane.region, None),
        });
        blame(Error::new(ErrorKind::Unavailable, "too few regions list their names"), failures)
    }
}

impl Lane {
    /// Reads the next register. A lane that failed is out for the rest of the list: what it did not show, others of a quorum show.
    async fn advance(&mut self) {
        match self.group().await {
            Ok(group) => self.front = group,
            Err(error) => {
                self.next = None;
                self.state = State::Failed(error);
            }
        }
    }

    async fn group(&mut self) -> Result<Option<Group>> {
        let first = match self.next.take() {
            Some(name) => Some(name),
            None => self.name().await?,
        };
        let Some(first) = first else { return Ok(None) };
        let mut group = Group { path: first.path, slot: first.slot, markers: Vec::new() };
        group.take(first.slot, first.item);
        while let Some(name) = self.name().await? {
            if name.path != group.path {
                self.next = Some(name);
                break;
            }
            group.take(name.slot, name.item);
        }
        Ok(Some(group))
    }

    /// The next name that the layout built; whatever else lies there is nobody's vote.
    async fn name(&mut self) -> Result<Option<RegisterName>> {
        while matches!(self.state, State::Reading) {
            match self.names.try_next().await? {
                Some(meta) => {
                    if let Some(name) = layout::parse_register_key(&meta.location) {
                        return Ok(Some(name));
                    }
                }
                None => self.state = State::Ended,
            }
        }
        Ok(None)
    }
}

impl Group {
    /// Keeps the markers of the newest slot, which is listed first.
    fn take(&mut self, slot: Slot, item: RegisterItem) {
        if let RegisterItem::Marker(text) = item
            && slot == self.slot
            && self.markers.len() < MARKER_LIMIT
        {
            self.markers.push(text);
        }
    }
}
