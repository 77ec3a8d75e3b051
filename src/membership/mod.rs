//! Changing the regions of a lake while it is used. Why it is safe: `docs/decisions/0011-membership.md`.
//!
//! ```text
//! replace   id to the new region -> N+1 decided and published: its place is taken, it is not asked for votes
//!           -> every slot resolved without the old one, shards rebuilt, told -> every lease of N has ended
//!           -> N+2 decided and published: it votes -> what came in between is handed over as well
//! ```
//!
//! All state lies in the regions: whatever stops, calling it again goes on where it was.

mod chain;
mod sweep;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

pub use self::sweep::SweepReport;

use self::chain::Change;
use crate::clock::SharedClock;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::id::RegionName;
use crate::key::PrivateKey;
use crate::lake::{Lake, LakeConfig, OpenOptions, RegionConfig, RegionState, open};
use crate::region::{CONFIGURATION_LEASE, Quorums};

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

/// Which region is to be replaced, and by what.
#[derive(Debug, Clone)]
pub struct ReplacePlan {
    /// The region; its name and its position stay.
    pub region: RegionName,
    /// Its new location, empty (or that of a replacement that was broken off) and another than the old one. Its name must be `region`.
    pub with: RegionConfig,
    /// Whether the operator has made sure that no client can reach the old location any more, to read or to write.
    pub fenced: bool,
    /// The file to rewrite, if any, as soon as the new region has its place.
    pub config_path: Option<PathBuf>,
    /// How long after the first configuration the second is decided at the earliest: the lease of clients and a quarter of it.
    /// Less is safe only when nobody else has the lake open.
    pub wait: Duration,
}

impl ReplacePlan {
    /// A plan that waits as long as clients elsewhere need.
    pub fn new(region: RegionName, with: RegionConfig, fenced: bool) -> Self {
        Self { region, with, fenced, config_path: None, wait: CONFIGURATION_LEASE + CONFIGURATION_LEASE / 4 }
    }
}

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
    /// What was handed over before the new region voted.
    pub sweep: SweepReport,
    /// What was handed over afterwards: what others had written meanwhile.
    pub late: SweepReport,
}

/// Replaces a region by an empty one, while the lake is read and written. Call it again when it was broken off.
///
/// `config` is the lake's file, with the old location or the new one. Afterwards the new region holds everything, and the lake can lose as
/// many regions as before. Clients that have the lake open must open it again, and are told so: at the latest when they write.
///
/// Cost: every version is looked at once; for each shard that the old region held, k are read and one is written. One sweep at a time.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] when the old region is not fenced, when the plan contradicts the lake, or another change is under way;
/// [`ErrorKind::Permission`] for wrong keys; [`ErrorKind::Unavailable`] when other regions fail: call it again.
pub async fn replace(
    config: &LakeConfig,
    plan: &ReplacePlan,
    keys: &MembershipKeys,
    clock: SharedClock,
    progress: &dyn MembershipProgress,
) -> Result<MembershipOutcome> {
    let (index, changed) = check(config, plan, keys)?;
    let is_moved = config.regions.get(usize::from(index)).is_some_and(|region| region.url != plan.with.url);
    // Before anything is written: a lake that opens with the old location, or as it was rewritten, tells of other changes.
    if let Ok(lake) = open(config, OpenOptions { writer: None, clock: Arc::clone(&clock) }).await {
        refuse_other_changes(&lake, Some(&plan.region))?;
    }
    let change = Change::begin(changed, index, keys, clock, is_moved).await?;
    progress.step(&MembershipStep::Identified);
    let mut lake = change.open().await?;
    let place = change.place(&lake)?;
    if place.incarnation != change.newcomer.incarnation {
        refuse_other_changes(&lake, None)?;
        let record = change.next(&lake.record, RegionState::Replacing, lake.record.number.saturating_add(2))?;
        change.decide(&lake, &record).await?;
        lake = change.open().await?;
    }
    let place = change.place(&lake)?;
    if place.since == 0 {
        let what = "the location is that of the region itself, which is not replaced by it; name an empty one";
        return Err(Error::new(ErrorKind::InvalidInput, what).with("region", &plan.region).with("location", &plan.with.url));
    }
    // Also what was published by an attempt that stopped half-way.
    let regions = change.publish(&lake).await?;
    let published = Instant::now();
    progress.step(&MembershipStep::Published { number: lake.record.number, regions });
    if let Some(path) = &plan.config_path {
        failpoint!("membership.before-file");
        change.config.save_over(path)?;
        failpoint!("membership.after-file");
        progress.step(&MembershipStep::FileWritten);
    }
    let mut sweep = SweepReport::default();
    if change.place(&lake)?.state == RegionState::Replacing {
        sweep = sweep::sweep(&lake, index, progress).await?;
        progress.step(&MembershipStep::Swept(sweep.clone()));
        failpoint!("membership.after-sweep");
        let until = published + plan.wait;
        progress.step(&MembershipStep::Waiting(until.saturating_duration_since(Instant::now())));
        sleep_until(until).await;
        let record = change.next(&lake.record, RegionState::Voting, lake.record.number.saturating_add(1))?;
        change.decide(&lake, &record).await?;
        lake = change.open().await?;
        let regions = change.publish(&lake).await?;
        progress.step(&MembershipStep::Published { number: lake.record.number, regions });
    }
    let late = sweep::sweep(&lake, index, progress).await?;
    progress.step(&MembershipStep::Swept(late.clone()));
    failpoint!("membership.after-late-sweep");
    Ok(MembershipOutcome { config: change.config, number: lake.record.number, sweep, late })
}

/// The region's position, and the file with its new location.
fn check(config: &LakeConfig, plan: &ReplacePlan, keys: &MembershipKeys) -> Result<(u8, LakeConfig)> {
    let invalid = |what: &'static str| Error::new(ErrorKind::InvalidInput, what).with("region", &plan.region);
    if keys.root.public() != config.root_key {
        return Err(Error::new(ErrorKind::Permission, "replacing a region takes the lake's root key")
            .with("lake", &config.name)
            .with("root_key", config.root_key));
    }
    let position = config.regions.iter().position(|region| region.name == plan.region);
    let position = position.ok_or_else(|| invalid("the lake has no such region"))?;
    if plan.with.name != plan.region {
        return Err(invalid("a replaced region keeps its name"));
    }
    if !plan.fenced {
        return Err(invalid(
            "make sure first that no client can reach the old region any more (revoke its credentials, or remove it), to read or to \
             write, and say so: what is voted there afterwards would be lost",
        ));
    }
    let n = config.regions.len();
    let quorums = config.profile.quorums(n)?;
    if !survives_one_hidden(quorums) {
        return Err(invalid(
            "the other regions are too few to go on without this one: a lake of this size and `liars` cannot lose a region",
        ));
    }
    let mut changed = config.clone();
    if let Some(region) = changed.regions.get_mut(position) {
        *region = plan.with.clone();
    }
    changed.check()?;
    let index = u8::try_from(position).map_err(|e| invalid("the lake has too many regions").caused_by(e))?;
    Ok((index, changed))
}

/// Whether any decision that the old region's hidden vote helped to is met by each quorum that the new one is part of, and the others go
/// on by themselves.
fn survives_one_hidden(quorums: Quorums) -> bool {
    let [n, b, classic, fast] = [quorums.n(), quorums.liars(), quorums.classic(), quorums.fast()].map(u16::from);
    let others = n - 1;
    classic <= others && (fast - 1) + (classic - 1) > others + b && classic + (classic - 1) > others + b
}

fn refuse_other_changes(lake: &Lake, but: Option<&RegionName>) -> Result<()> {
    let busy = lake.record.regions.iter().find(|place| place.state != RegionState::Voting && Some(&place.name) != but);
    match busy.map(|place| &place.name) {
        None => Ok(()),
        Some(name) => Err(Error::new(
            ErrorKind::InvalidInput,
            "a change of the lake's regions is under way; finish it first, by the same command and location that began it",
        )
        .with("region", name)),
    }
}

#[cfg(test)]
mod tests;
