//! Taking a region out of a lake.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::chain::Change;
use super::sweep::{self, Part, SweepReport};
use super::{
    FULL_WAIT, MembershipKeys, MembershipOutcome, MembershipProgress, MembershipStep, check_keys, look, refuse_other_changes, wait,
    without_vote, write_file,
};
use crate::clock::SharedClock;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::id::RegionName;
use crate::lake::{Lake, LakeConfig, RegionPlace, RegionState};
use crate::region::Quorums;
use crate::store::Losses;

/// Fewest regions that are left by a retirement: of two, none may be unreachable.
const LEAST_LEFT: usize = 3;

/// Which region is to leave.
#[derive(Debug, Clone)]
pub struct RetirePlan {
    /// The region.
    pub region: RegionName,
    /// Whether the region is gone for good: what cannot be rebuilt without it is given up. Else the retirement waits until the region
    /// answers for that.
    pub is_lost: bool,
    /// Other regions that are gone for good as well, and are to be replaced or retired afterwards: what one of them would be given is left out
    /// while it does not answer, if as many other shards verify as it takes to make it again.
    pub gone: Vec<RegionName>,
    /// The file to rewrite, if any, when the region has left.
    pub config_path: Option<PathBuf>,
    /// How long after the first configuration the second is decided at the earliest: the lease of clients and a quarter of it.
    /// Less is safe only when nobody else has the lake open.
    pub wait: Duration,
}

impl RetirePlan {
    /// A plan that waits as long as clients elsewhere need.
    pub fn new(region: RegionName) -> Self {
        Self { region, is_lost: false, gone: Vec::new(), config_path: None, wait: FULL_WAIT }
    }
}

/// Takes a region out of the lake, while it is read and written; whether the region can be reached or not. Call it again when it was broken off.
///
/// Every shard that it holds goes to one of the other regions that holds no other shard of that version: copied, or rebuilt where the
/// region does not answer or does not have it; read back either way. What cannot be rebuilt is asked for again, and an error while the region does
/// not answer, unless the plan says that it is lost. Every region that stays has to answer when it begins, and one that is lost on the way
/// can be said to be [gone](RetirePlan::gone), lest the retirement wait for it while it waits to be replaced. Afterwards nothing of the lake is read there, and what lies there may be deleted. Clients that
/// have the lake open must open it again, and are told so.
///
/// Cost: one look at every version, at all regions' logs of it; one read and one write for each shard that moves (k reads where it is rebuilt).
///
/// # Errors
/// [`ErrorKind::InvalidInput`] when those that stay are too few, or another change is under way; [`ErrorKind::Permission`] for wrong keys;
/// [`ErrorKind::Unavailable`] when other regions fail: call it again; or when not all others answer, or so few that nothing could go on while the region leaves.
pub async fn retire(
    config: &LakeConfig,
    plan: &RetirePlan,
    keys: &MembershipKeys,
    clock: SharedClock,
    progress: &dyn MembershipProgress,
) -> Result<MembershipOutcome> {
    check_keys(config, keys)?;
    let name = &plan.region;
    // Before anything is written.
    let lake = look(config, &clock).await?;
    refuse_other_changes(&lake, Some(name))?;
    let mut after = config.clone();
    after.regions.retain(|region| region.name != *name);
    let change = Change::of(after, name.clone(), keys, clock);
    let mut lake = change.open_by(config).await?;
    // Another may have been begun since: two at a time could leave too few regions for either.
    refuse_other_changes(&lake, Some(name))?;
    if lake.record.place(name).is_none() {
        return already(&lake, change, plan, progress).await;
    }
    let (index, place) = change.place(&lake)?;
    let losses = losses(&lake, plan)?;
    if place.state == RegionState::Voting {
        check_rest(&lake, name)?;
        check_heirs(&lake, plan)?;
        change.end_last(&lake, plan.wait, progress).await?;
        let record = change
            .next(&lake.record, |places, number| edit(places, index, |place| (place.state, place.left) = (RegionState::Leaving, number)))?;
        change.decide(&lake, &record).await?;
        lake = change.open_by(config).await?;
    }
    if change.place(&lake)?.1.state != RegionState::Leaving {
        return Err(Error::new(ErrorKind::InvalidInput, "a change of this region is under way; finish it first").with("region", name));
    }
    // Also what was published by an attempt that stopped half-way.
    let regions = change.publish(&lake).await?;
    let published = Instant::now();
    progress.step(&MembershipStep::Published { number: lake.record.number, regions });
    // What clients of the configuration before believed is there to be found, once their leases have ended.
    wait(published, plan.wait, progress).await;
    let sweep = sweep::sweep(&lake, Part::Leaving(&losses), progress).await?;
    progress.step(&MembershipStep::Swept(sweep.clone()));
    failpoint!("membership.after-sweep");
    let record = change.next(&lake.record, |places, _| edit(places, index, |place| place.state = RegionState::Retired))?;
    change.decide(&lake, &record).await?;
    lake = change.open().await?;
    let regions = change.publish(&lake).await?;
    progress.step(&MembershipStep::Published { number: lake.record.number, regions });
    write_file(&change.config, plan.config_path.as_ref(), progress)?;
    Ok(MembershipOutcome { config: change.config, number: lake.record.number, sweep, late: SweepReport::default() })
}

fn edit(places: &mut [RegionPlace], index: u8, edit: impl FnOnce(&mut RegionPlace)) {
    if let Some(place) = places.get_mut(usize::from(index)) {
        edit(place);
    }
}

/// What is left to do when the region has left already.
async fn already(lake: &Lake, change: Change, plan: &RetirePlan, progress: &dyn MembershipProgress) -> Result<MembershipOutcome> {
    if !lake.record.regions.iter().any(|place| place.name == plan.region) {
        return Err(Error::new(ErrorKind::InvalidInput, "the lake has no such region").with("region", &plan.region));
    }
    // Perhaps nobody but the region that left holds the configuration so far, and whoever opens the lake without it would not learn of it.
    let (number, regions) = (lake.record.number, change.publish(lake).await?);
    progress.step(&MembershipStep::Published { number, regions });
    write_file(&change.config, plan.config_path.as_ref(), progress)?;
    Ok(MembershipOutcome { config: change.config, number, sweep: SweepReport::default(), late: SweepReport::default() })
}

/// What the operator says is gone, by index.
fn losses(lake: &Lake, plan: &RetirePlan) -> Result<Losses> {
    let mut heirs = BTreeSet::new();
    for name in &plan.gone {
        let (index, _) = lake.record.place(name).filter(|_| *name != plan.region).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "of the regions that are said to be gone, one is none of the others of the lake")
                .with("region", name)
        })?;
        heirs.insert(index);
    }
    Ok(Losses { leaving: plan.is_lost, heirs })
}

/// Whether all regions answer that are to be given something. One that is lost could not be replaced before the retirement is ended.
fn check_heirs(lake: &Lake, plan: &RetirePlan) -> Result<()> {
    let missing: Vec<_> =
        without_vote(lake).into_iter().filter(|name| **name != plan.region && !plan.gone.contains(name)).map(ToString::to_string).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what = format!(
        "the other regions are given what `{}` holds, and not all of them answer: bring {} back, or put empty regions in their places (region \
         replace), then retire `{}`; or say that they are gone for good (region retire --gone), and replace them afterwards",
        plan.region,
        missing.join(", "),
        plan.region
    );
    let error = Error::new(ErrorKind::Unavailable, what).with("region", &plan.region);
    Err(lake.down.iter().fold(error, |error, (down, reason)| error.with("down", format!("{down}: {reason}"))))
}

/// Whether the lake can do without the region.
fn check_rest(lake: &Lake, name: &RegionName) -> Result<()> {
    let n = lake.record.counted().count();
    let profile = &lake.record.profile;
    let refuse = |what: String| Err(Error::new(ErrorKind::InvalidInput, what).with("region", name).with("regions", n));
    let shards = profile.to_profile().shards();
    if n <= shards {
        return refuse(format!(
            "{} data and {} parity shards need {shards} regions, and no more are there: add one first, or replace this one",
            profile.data, profile.parity
        ));
    }
    if n <= LEAST_LEFT {
        return refuse(format!(
            "fewer than {LEAST_LEFT} regions would be left, of which none could fail: add one first, or replace this one"
        ));
    }
    match Quorums::leaving(u8::try_from(n).unwrap_or(u8::MAX), profile.liars) {
        Ok(quorums) => check_answers(lake, name, quorums),
        Err(error) => refuse(format!("those that would be left cannot withstand `liars` = {}: {error}", profile.liars)),
    }
}

/// Whether the lake can be opened once the region is leaving. Where it cannot, nobody could read or write or go on with the change, for every
/// command opens the lake first.
fn check_answers(lake: &Lake, name: &RegionName, quorums: Quorums) -> Result<()> {
    let mut missing = without_vote(lake);
    if quorums.leaves_silently() && !missing.contains(&name) {
        missing.push(name);
    }
    let (n, needed) = (usize::from(quorums.n()), usize::from(quorums.classic()));
    let answer = n.saturating_sub(missing.len());
    if answer >= needed {
        return Ok(());
    }
    let others: Vec<_> = missing.iter().filter(|missing| **missing != name).map(ToString::to_string).collect();
    let what = format!(
        "{needed} {} have to answer while `{name}` leaves, and {answer} do: bring {} back, or put empty regions in their places (region \
         replace), then retire `{name}`",
        if quorums.leaves_silently() { "of those that stay".to_owned() } else { format!("of {n} regions") },
        others.join(", ")
    );
    let error = Error::new(ErrorKind::Unavailable, what).with("region", name);
    Err(lake.down.iter().fold(error, |error, (down, reason)| error.with("down", format!("{down}: {reason}"))))
}
