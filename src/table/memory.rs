//! What a process remembers of a log that it reads again and again, so that a new commit costs that commit and not the log.
//!
//! An object of the log counts as unchanged while its store lists it with the same tag, size, time and version. That is the store's word:
//! whoever trusts nobody reads anew, as every other process does.

use std::collections::BTreeMap;
use std::fmt;

use object_store::ObjectMeta;
use object_store::path::Path;
use parking_lot::Mutex;

use super::load::LogReader;
use super::log::{CheckpointName, LogListing};
use super::replay::Replay;

/// States that are remembered: the newest, and the one before it.
const STATES: usize = 2;

/// By what a listed object is known to be the same; absent where the store gives no tag.
pub(super) type Stamp = Option<ObjectMeta>;

/// The stamp of a listed object.
pub(super) fn stamp(meta: &ObjectMeta) -> Stamp {
    meta.e_tag.is_some().then(|| meta.clone())
}

/// What is remembered of one table's log. Memory: two states of the table.
#[derive(Default)]
pub struct LogMemory(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    /// By version, ascending.
    states: Vec<State>,
    /// Parts of checkpoints that told the same state as the commits.
    agreed: BTreeMap<Path, ObjectMeta>,
}

/// All that came of reading the commits up to a version.
#[derive(Clone)]
struct State {
    version: u64,
    stamps: BTreeMap<u64, Stamp>,
    replay: Replay,
    log: LogReader,
}

impl State {
    fn is_beginning_of(&self, listing: &LogListing) -> bool {
        let listed = listing.commits.range(..=self.version).map(|(version, path)| (version, listing.stamp(path)));
        self.stamps.iter().eq(listed) && self.stamps.values().all(Option::is_some)
    }
}

impl fmt::Debug for LogMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.0.lock();
        let versions: Vec<u64> = memory.states.iter().map(|state| state.version).collect();
        f.debug_struct("LogMemory").field("versions", &versions).field("checkpoints", &memory.agreed.len()).finish()
    }
}

impl LogMemory {
    /// Forgets all when commits changed since.
    pub(super) fn forget_changed(&self, listing: &LogListing) {
        let mut memory = self.0.lock();
        if memory.states.iter().any(|state| !state.is_beginning_of(listing)) {
            *memory = Memory::default();
        }
    }

    /// The newest remembered state that is not newer than `version`, with its version.
    pub(super) fn resume(&self, listing: &LogListing, version: u64) -> Option<(u64, Replay, LogReader)> {
        self.forget_changed(listing);
        let memory = self.0.lock();
        let state = memory.states.iter().rev().find(|state| state.version <= version)?;
        Some((state.version, state.replay.clone(), state.log.clone()))
    }

    /// Remembers what the commits up to `version` came to, if it is newer than what is remembered.
    pub(super) fn keep(&self, listing: &LogListing, version: u64, replay: &Replay, log: &LogReader) {
        let mut memory = self.0.lock();
        if memory.states.last().is_some_and(|newest| newest.version >= version) {
            return;
        }
        let stamps = listing.commits.range(..=version).map(|(version, path)| (*version, listing.stamp(path).clone())).collect();
        memory.states.push(State { version, stamps, replay: replay.clone(), log: log.clone() });
        if memory.states.len() > STATES {
            memory.states.remove(0);
        }
    }

    /// Whether `checkpoint` told the same state as the commits, and is unchanged.
    pub(super) fn agreed(&self, listing: &LogListing, checkpoint: &CheckpointName) -> bool {
        let memory = self.0.lock();
        checkpoint.parts.iter().all(|part| listing.stamp(part).as_ref().is_some_and(|stamp| memory.agreed.get(part) == Some(stamp)))
    }

    /// Remembers that `checkpoint`, of which all that was read are its parts, tells the same state as the commits.
    pub(super) fn agree(&self, listing: &LogListing, checkpoint: &CheckpointName) {
        let stamped = checkpoint.parts.iter().filter_map(|part| Some((part.clone(), listing.stamp(part).clone()?)));
        self.0.lock().agreed.extend(stamped);
    }
}
