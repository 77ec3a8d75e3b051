//! Changing the regions of a lake while it is used. Why it is safe: `docs/decisions/0011-membership.md` and `0013-more-and-fewer-regions.md`.
//!
//! ```text
//! add       id to the new region -> N+1 decided and published: it is one of n+1, and votes -> every lease of N has ended
//!           -> it is told what was decided before it came -> N+2: the change is over
//! retire    N+1 decided and published: decisions take the quorums of n *and* of n-1, no shard is placed there -> every lease of N has ended
//!           -> every decision is made known to the n-1, every shard is given to an heir -> N+2: it has left
//! replace   id to the new region -> N+1 decided and published: its place is taken, it is not asked for votes
//!           -> every slot resolved without the old one, shards rebuilt, told -> every lease of N has ended
//!           -> N+2 decided and published: it votes -> every lease of N+1 has ended -> what came in between is handed over as well,
//!              and that it was is written down: no other change begins before
//! ```
//!
//! All state lies in the regions: whatever stops, calling it again goes on where it was.

mod add;
mod chain;
mod late;
mod replace;
mod retire;
mod sweep;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

pub use self::add::{AddPlan, add};
pub use self::late::{budgets, unfinished};
pub use self::replace::{ReplacePlan, replace};
pub use self::retire::{RetirePlan, retire};
pub use self::sweep::SweepReport;

use crate::clock::SharedClock;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::id::RegionName;
use crate::key::PrivateKey;
use crate::lake::{Lake, LakeConfig, OpenOptions, RegionPlace, RegionState, open};
use crate::region::CONFIGURATION_LEASE;

/// Shared by the parts of a change.
type Key = Arc<PrivateKey>;

/// The keys that a change of the regions takes.
#[derive(Debug, Clone)]
pub struct MembershipKeys {
    /// The lake's root key: signs configurations and the new region's identity.
    pub root: PrivateKey,
    /// A writer's key: signs entries.
    pub writer: PrivateKey,
}

/// How long after a configuration the next one may be decided: the lease of clients, and a quarter of it.
const FULL_WAIT: Duration = Duration::from_secs(CONFIGURATION_LEASE.as_secs() + CONFIGURATION_LEASE.as_secs() / 4);

/// A step of a change, as it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembershipStep {
    /// The new region has an identity.
    Identified,
    /// This configuration is decided and published.
    Published {
        /// Its number.
        number: u64,
        /// Regions that hold it.
        regions: usize,
    },
    /// The configuration file names the new location.
    FileWritten,
    /// Everything that was there is handed over.
    Swept(SweepReport),
    /// Leases of the configuration before end within this time.
    Waiting(Duration),
}

/// Is told how a change goes.
pub trait MembershipProgress: Send + Sync {
    /// A step is done, or begins to wait.
    fn step(&self, _step: &MembershipStep) {}
    /// What was handed over so far in this sweep.
    fn swept(&self, _so_far: &SweepReport) {}
}

/// Nobody watches.
impl MembershipProgress for () {}

/// What a change came to.
#[derive(Debug, Clone)]
pub struct MembershipOutcome {
    /// The configuration file's content from now on.
    pub config: LakeConfig,
    /// The number of the lake's configuration.
    pub number: u64,
    /// What was handed over before the last configuration was decided.
    pub sweep: SweepReport,
    /// What was handed over afterwards (to a region that took another's place): what others had written meanwhile.
    pub late: SweepReport,
}

/// Whether the keys are those that changing this lake takes.
fn check_keys(config: &LakeConfig, keys: &MembershipKeys) -> Result<()> {
    if keys.root.public() == config.root_key {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Permission, "changing the regions takes the lake's root key")
        .with("lake", &config.name)
        .with("root_key", config.root_key))
}

/// The lake's configuration as it is, opened with no key.
async fn look(config: &LakeConfig, clock: &SharedClock) -> Result<Lake> {
    open(config, OpenOptions { writer: None, clock: Arc::clone(clock) }).await
}

/// Waits until every lease that ran when a configuration was published has ended.
async fn wait(published: Instant, wait: Duration, progress: &dyn MembershipProgress) {
    let until = published + wait;
    progress.step(&MembershipStep::Waiting(until.saturating_duration_since(Instant::now())));
    sleep_until(until).await;
}

/// Writes the user's file anew.
fn write_file(config: &LakeConfig, path: Option<&PathBuf>, progress: &dyn MembershipProgress) -> Result<()> {
    if let Some(path) = path {
        failpoint!("membership.before-file");
        config.save_over(path)?;
        failpoint!("membership.after-file");
        progress.step(&MembershipStep::FileWritten);
    }
    Ok(())
}

fn is_settled(state: RegionState) -> bool {
    matches!(state, RegionState::Voting | RegionState::Retired)
}

fn refuse_other_changes(lake: &Lake, but: Option<&RegionName>) -> Result<()> {
    let busy = lake.record.regions.iter().find(|place| !is_settled(place.state) && Some(&place.name) != but);
    match busy.map(|place| &place.name) {
        None => Ok(()),
        Some(name) => Err(Error::new(
            ErrorKind::InvalidInput,
            "a change of the lake's regions is under way; finish it first, by the same command and location that began it",
        )
        .with("region", name)),
    }
}

/// The regions that have no vote now: those that do not answer, and those that take another's place.
fn without_vote(lake: &Lake) -> Vec<&RegionName> {
    let is_down = |name: &RegionName| lake.down.iter().any(|(down, _)| down == name);
    let is_silent = |place: &&RegionPlace| place.state == RegionState::Replacing || is_down(&place.name);
    lake.record.counted().filter(is_silent).map(|place| &place.name).collect()
}

#[cfg(test)]
mod tests;
