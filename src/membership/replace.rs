//! Putting a new region in another's place.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::chain::Change;
use super::late;
use super::sweep::{self, Part, SweepReport};
use super::{
    FULL_WAIT, MembershipKeys, MembershipOutcome, MembershipProgress, MembershipStep, check_keys, look, refuse_other_changes, wait,
    write_file,
};
use crate::clock::SharedClock;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::id::RegionName;
use crate::lake::{LakeConfig, RegionConfig, RegionPlace, RegionState, same_place};
use crate::region::Quorums;

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
    /// How long after the first configuration the second is decided at the earliest, and how long after the second what was written
    /// meanwhile is handed over: the lease of clients and a quarter of it.
    /// Less is safe only when nobody else has the lake open.
    pub wait: Duration,
}

impl ReplacePlan {
    /// A plan that waits as long as clients elsewhere need.
    pub fn new(region: RegionName, with: RegionConfig, fenced: bool) -> Self {
        Self { region, with, fenced, config_path: None, wait: FULL_WAIT }
    }
}

/// Replaces a region by an empty one, while the lake is read and written. Call it again when it was broken off.
///
/// `config` is the lake's file, with the old location or the new one. Afterwards the new region holds everything, and the lake can lose as
/// many regions as before. When the new location is lost on the way, or that of a region that is being
/// added, another one may be named. Clients that have the lake open must open it again, and are told so: at the latest when they write.
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
    let changed = check(config, plan, keys)?;
    let is_moved =
        config.regions.iter().any(|region| region.name == plan.region && !same_place(&region.url, &plan.with.url, &config.directory));
    // Before anything is written: a lake that opens with the old location, or as it was rewritten, tells of other changes.
    if let Ok(lake) = look(config, &clock).await {
        refuse_other_changes(&lake, Some(&plan.region))?;
    }
    let change = Change::of(changed, plan.region.clone(), keys, clock).begin(is_moved).await?;
    progress.step(&MembershipStep::Identified);
    let mut lake = change.open().await?;
    let newcomer = change.incarnation()?;
    // Its place is the new region's.
    let taken = |state: RegionState, after: u64| {
        let name = &plan.region;
        move |places: &mut Vec<RegionPlace>, number: u64| {
            if let Some(place) = places.iter_mut().find(|place| place.name == *name && place.state.is_counted()) {
                *place = RegionPlace { incarnation: newcomer, since: number.saturating_add(after), state, ..place.clone() };
            }
        }
    };
    let (_, place) = change.place(&lake)?;
    if place.incarnation != newcomer {
        // Whoever was to have the place may be gone before it was told everything, and nobody else could end that change.
        let is_coming = matches!(place.state, RegionState::Replacing | RegionState::Adding);
        refuse_other_changes(&lake, is_coming.then_some(&plan.region))?;
        // By the file as it is: the old region is one of those that know what is to be handed over, if it answers still.
        if late::unfinished(&lake).await?.is_some() {
            change.end_last(&change.open_by(config).await?, plan.wait, progress).await?;
        }
        change.check_fresh(&lake.record).await?;
        let record = change.next(&lake.record, taken(RegionState::Replacing, 1))?;
        change.decide(&lake, &record).await?;
        lake = change.open().await?;
    }
    let (index, place) = change.place(&lake)?;
    if place.since == place.added {
        let what = "the location is that of the region itself, which is not replaced by it; name an empty one";
        return Err(Error::new(ErrorKind::InvalidInput, what).with("region", &plan.region).with("location", &plan.with.url));
    }
    // Also what was published by an attempt that stopped half-way.
    let regions = change.publish(&lake).await?;
    let published = Instant::now();
    progress.step(&MembershipStep::Published { number: lake.record.number, regions });
    write_file(&change.config, plan.config_path.as_ref(), progress)?;
    let mut sweep = SweepReport::default();
    if place.state == RegionState::Replacing {
        sweep = sweep::sweep(&lake, Part::Told(index), progress).await?;
        progress.step(&MembershipStep::Swept(sweep.clone()));
        failpoint!("membership.after-sweep");
        wait(published, plan.wait, progress).await;
        let record = change.next(&lake.record, taken(RegionState::Voting, 0))?;
        change.decide(&lake, &record).await?;
        lake = change.open().await?;
        let regions = change.publish(&lake).await?;
        change.tell_configuration(&lake, index).await?;
        progress.step(&MembershipStep::Published { number: lake.record.number, regions });
    }
    // Clients of the configuration before ask the new region for no vote: what they write until their leases end is handed over, else it would
    // have no say there.
    wait(Instant::now(), plan.wait, progress).await;
    let late = sweep::sweep(&lake, Part::Told(index), progress).await?;
    progress.step(&MembershipStep::Swept(late.clone()));
    failpoint!("membership.after-late-sweep");
    late::done(&lake).await?;
    Ok(MembershipOutcome { config: change.config, number: lake.record.number, sweep, late })
}

/// The file with the region's new location.
fn check(config: &LakeConfig, plan: &ReplacePlan, keys: &MembershipKeys) -> Result<LakeConfig> {
    let invalid = |what: &'static str| Error::new(ErrorKind::InvalidInput, what).with("region", &plan.region);
    check_keys(config, keys)?;
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
    changed.check_new()?;
    Ok(changed)
}

/// Whether any decision that the old region's hidden vote helped to is met by each quorum that the new one is part of, and the others go
/// on by themselves.
pub(super) fn survives_one_hidden(quorums: Quorums) -> bool {
    let [n, b, classic, fast] = [quorums.n(), quorums.liars(), quorums.classic(), quorums.fast()].map(u16::from);
    let others = n - 1;
    classic <= others && (fast - 1) + (classic - 1) > others + b && classic + (classic - 1) > others + b
}
