//! Giving a lake one region more.

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
use crate::lake::{Lake, LakeConfig, MAX_PLACES, RegionConfig, RegionPlace, RegionState};

/// Which region is to be added.
#[derive(Debug, Clone)]
pub struct AddPlan {
    /// Its name, which no region of the lake has, and its location, which is empty (or that of an attempt that was broken off).
    pub region: RegionConfig,
    /// The file to rewrite, if any, as soon as the region has its place.
    pub config_path: Option<PathBuf>,
    /// How long after the first configuration the second is decided at the earliest: the lease of clients and a quarter of it.
    /// Less is safe only when nobody else has the lake open.
    pub wait: Duration,
}

impl AddPlan {
    /// A plan that waits as long as clients elsewhere need.
    pub fn new(region: RegionConfig) -> Self {
        Self { region, config_path: None, wait: FULL_WAIT }
    }
}

/// Adds an empty region, while the lake is read and written. Call it again when it was broken off.
///
/// `config` is the lake's file, with the new region or without it. k and m stay: new objects are spread over one region more (as the profile's
/// placement has it), what is there stays where it is. Clients that have the lake open must open it again, and are told so.
///
/// Cost: one look at every version; a marker and a copy of its manifest are written for each. One sweep at a time.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] when the lake has the region already, cannot have more (a lake of one region cannot), or another change is under way;
/// [`ErrorKind::Config`] for a name or place that another region has; [`ErrorKind::Permission`] for wrong keys; [`ErrorKind::Unavailable`] when other regions
/// fail: call it again; or when so few answer that the addition could not be ended.
pub async fn add(
    config: &LakeConfig,
    plan: &AddPlan,
    keys: &MembershipKeys,
    clock: SharedClock,
    progress: &dyn MembershipProgress,
) -> Result<MembershipOutcome> {
    check_keys(config, keys)?;
    let name = &plan.region.name;
    let (before, after) = files(config, plan)?;
    // Before anything is written.
    let lake = match look(&before, &clock).await {
        Ok(lake) => lake,
        // The lake may have been made with it, and then the file lacks it now.
        Err(error) if before != *config => match look(config, &clock).await {
            Ok(lake) if lake.record.place(name).is_some_and(|(_, place)| place.added == 0) => return Err(taken(name)),
            _ => return Err(error),
        },
        Err(error) => return Err(error),
    };
    refuse_other_changes(&lake, Some(name))?;
    if lake.record.place(name).is_none() {
        check_room(&lake, name)?;
    }
    let change = Change::of(after, name.clone(), keys, clock).begin(true).await?;
    progress.step(&MembershipStep::Identified);
    let newcomer = change.incarnation()?;
    let mut lake = change.open_by(&before).await?;
    if lake.record.place(name).is_none() {
        refuse_other_changes(&lake, None)?;
        check_room(&lake, name)?;
        change.end_last(&lake, plan.wait, progress).await?;
        change.check_fresh(&lake.record).await?;
        let record = change.next(&lake.record, |places, number| {
            let (name, state) = (name.clone(), RegionState::Adding);
            places.push(RegionPlace { name, incarnation: newcomer, since: number, state, added: number, left: 0 });
        })?;
        change.decide(&lake, &record).await?;
    }
    lake = change.open().await?;
    let (index, place) = change.place(&lake)?;
    if place.incarnation != newcomer || place.added == 0 {
        return Err(taken(name));
    }
    let is_new = place.state == RegionState::Adding;
    // Also what was published by an attempt that stopped half-way.
    let regions = change.publish(&lake).await?;
    let published = Instant::now();
    progress.step(&MembershipStep::Published { number: lake.record.number, regions });
    write_file(&change.config, plan.config_path.as_ref(), progress)?;
    let mut sweep = SweepReport::default();
    if is_new {
        wait(published, plan.wait, progress).await;
        sweep = sweep::sweep(&lake, Part::Told(index), progress).await?;
        progress.step(&MembershipStep::Swept(sweep.clone()));
        failpoint!("membership.after-sweep");
        let record = change.next(&lake.record, |places, _| {
            if let Some(place) = places.get_mut(usize::from(index)) {
                place.state = RegionState::Voting;
            }
        })?;
        change.decide(&lake, &record).await?;
        lake = change.open().await?;
        let regions = change.publish(&lake).await?;
        progress.step(&MembershipStep::Published { number: lake.record.number, regions });
    }
    Ok(MembershipOutcome { config: change.config, number: lake.record.number, sweep, late: SweepReport::default() })
}

fn taken(name: &RegionName) -> Error {
    let what = "the lake has a region of this name already; choose another name, or replace that one";
    Error::new(ErrorKind::InvalidInput, what).with("region", name)
}

/// The file without the new region, and with it.
fn files(config: &LakeConfig, plan: &AddPlan) -> Result<(LakeConfig, LakeConfig)> {
    let (mut before, mut after) = (config.clone(), config.clone());
    before.regions.retain(|region| region.name != plan.region.name);
    match config.regions.iter().find(|region| region.name == plan.region.name) {
        None => after.regions.push(plan.region.clone()),
        Some(region) if region.url == plan.region.url => {}
        Some(region) => {
            let what = "the lake has a region of this name elsewhere; choose another name, or replace that one";
            return Err(Error::new(ErrorKind::InvalidInput, what).with("region", &region.name).with("location", &region.url));
        }
    }
    after.check_new()?;
    Ok((before, after))
}

/// Whether the lake can have one region more, and such an addition be ended: the new region has no say in what was decided before it came, and
/// so a quorum of the larger lake has to be found among those that are there.
fn check_room(lake: &Lake, name: &RegionName) -> Result<()> {
    let (n, missing) = (lake.record.counted().count(), without_vote(lake));
    let needed = usize::from(lake.record.profile.quorums(n + 1)?.classic());
    if needed > n {
        let what = "a lake of so few regions cannot be given another: too few would know what is there already. Make a new lake with all regions \
                    that it is to have (lakeseal init), and take the tables over (lakeseal export, lakeseal import)";
        return Err(Error::new(ErrorKind::InvalidInput, what).with("region", name).with("regions", n));
    }
    let answer = n.saturating_sub(missing.len());
    if answer < needed {
        let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
        let what = format!(
            "{needed} of the {n} regions have to answer while another is added, and {answer} do: bring {} back, or put empty regions in their \
             places first (region replace)",
            missing.join(", ")
        );
        let error = Error::new(ErrorKind::Unavailable, what).with("region", name);
        return Err(lake.down.iter().fold(error, |error, (down, reason)| error.with("down", format!("{down}: {reason}"))));
    }
    if lake.record.regions.len() >= usize::from(MAX_PLACES) {
        let what = "the lake has had so many regions that no further one can be added; replace one";
        return Err(Error::new(ErrorKind::InvalidInput, what).with("limit", MAX_PLACES));
    }
    Ok(())
}
