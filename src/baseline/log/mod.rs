//! The log of a lake's baselines: an RFC 6962 tree over signed entries, with C2SP checkpoints. `docs/format/log.md` is its document.
//!
//! ```text
//! seal ─▶ entry (create-if-absent decides its place) ─▶ checkpoint ─▶ inventory
//! ```
//!
//! A lake has one log, a table outside of a lake one of its own. Nobody runs it: the entries' names are decided by the store's own
//! create-if-absent, so sealers of different tables race without losing one, and what anybody else puts under such a name is a leaf
//! that says nothing.

mod append;
mod check;
mod checkpoint;
mod consult;
mod entry;
mod keys;
mod links;
pub(super) mod note;
pub mod proof;
mod read;
mod tree;
mod votes;

use std::fmt;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

pub use append::{Appended, Record};
pub use check::LogCheck;
pub use checkpoint::Checkpoint;
pub use consult::{Consulted, LogPin, compare_history, compare_known};
pub use entry::{Entry, LoggedBaseline, SignedEntry};
pub use keys::LogKeys;
pub use links::Broken;
pub use read::{LogEntry, Newest};
pub use tree::{Frontier, Hash, empty_root, leaf_hash, prove_consistency, prove_inclusion, root, verify_consistency, verify_inclusion};

#[cfg(test)]
pub(super) use entry::tests::sample as entry_sample;

use super::repository::SEAL_FOLDER;
use crate::id::LakeId;
use crate::key::KeyId;

/// What every origin begins with.
const ORIGIN_START: &str = "lakeseal.log/";
const NAME_DIGITS: usize = 20;
/// Leaves that one tile holds the hashes of.
const TILE_LEAVES: u64 = 256;

/// A log of baselines. Reading it needs public keys only.
#[derive(Clone)]
pub struct Log {
    store: Arc<dyn ObjectStore>,
    root: Path,
    origin: Option<String>,
}

impl Log {
    /// The log below the folder `root` of `store`: a lake's own root, or a table's.
    pub fn new(store: Arc<dyn ObjectStore>, root: Path) -> Self {
        Self { store, root, origin: None }
    }

    /// The log of this lake: one of another lake that lies there is none.
    #[must_use]
    pub fn of_lake(mut self, lake: LakeId) -> Self {
        self.origin = Some(lake_origin(lake));
        self
    }

    /// The folder that holds the log's own folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The store that it lies in.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// A table's folder below that of the log; `None` for a table elsewhere.
    pub fn path_of(&self, table: &Path) -> Option<String> {
        let below = table.as_ref().strip_prefix(self.root.as_ref())?;
        (self.root.as_ref().is_empty() || below.is_empty() || below.starts_with('/')).then(|| below.trim_start_matches('/').to_owned())
    }

    fn folder(&self, name: &'static str) -> Path {
        self.root.clone().join(SEAL_FOLDER).join("log").join(name)
    }

    fn entry_path(&self, index: u64) -> Path {
        self.folder("entries").join(format!("{index:0NAME_DIGITS$}"))
    }

    fn tile_path(&self, tile: u64) -> Path {
        self.folder("tiles").join(format!("{tile:0NAME_DIGITS$}"))
    }

    fn checkpoint_path(&self, size: u64, key: KeyId) -> Path {
        self.folder("checkpoints").join(format!("{size:0NAME_DIGITS$}-{key}"))
    }

    fn inventory_path(&self, size: u64, key: KeyId) -> Path {
        self.folder("inventory").join(format!("{size:0NAME_DIGITS$}-{key}"))
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("root", &self.root).field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// The origin of a lake's log.
pub fn lake_origin(lake: LakeId) -> String {
    format!("{ORIGIN_START}{lake}")
}
