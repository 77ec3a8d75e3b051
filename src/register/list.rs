//! Listing names: the newest slot of every register.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use object_store::path::Path;

use super::Slot;
use super::core::Rules;
use super::lanes::{Gather, KeyMeta, Lag, Lanes};
use super::read::authentic_marker;
use crate::error::Result;
use crate::format::entry::Marker;
use crate::region::RegionSet;
use crate::region::layout::{RegisterItem, RegisterName};

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

/// The newest slot of a register in one region's list.
struct Newest {
    slot: Slot,
    markers: Vec<String>,
}

impl Gather for Newest {
    fn begin(newest: Slot) -> Self {
        Self { slot: newest, markers: Vec::new() }
    }

    fn take(&mut self, key: RegisterName, _: KeyMeta) {
        if let RegisterItem::Marker(text) = key.item
            && key.slot == self.slot
            && self.markers.len() < MARKER_LIMIT
        {
            self.markers.push(text);
        }
    }
}

pub(super) fn list(
    regions: Arc<RegionSet>,
    rules: Rules,
    prefix: Option<&Path>,
    after: Option<&Path>,
) -> BoxStream<'static, Result<Listed>> {
    stream::try_unfold(Lanes::<Newest>::new(regions, rules, prefix, after, Lag::SHORT), |mut lanes| async move {
        let Some((path, groups)) = lanes.next().await? else { return Ok(None) };
        let slot = groups.iter().map(|(_, group)| group.slot).max().unwrap_or(0);
        let texts = groups.iter().filter(|(_, group)| group.slot == slot).flat_map(|(_, group)| &group.markers);
        let listed = match authentic_marker(lanes.regions(), &path, slot, texts) {
            Some(signed) => Listed::Marked { path, slot, marker: signed.marker },
            None => Listed::Unmarked { path, slot },
        };
        Ok(Some((listed, lanes)))
    })
    .boxed()
}
