//! What a replacement owes behind its last configuration, and whether it is done.
//!
//! The region that took another's place votes from N + 2 on, but clients of N + 1 ask it for no vote until their leases end. What they write
//! meanwhile is known to the others alone, one fewer of which may fail, until it is handed over as well. A replacement that was stopped
//! before that looks complete: so that it is not taken for it, what is handed over is written down, in a register of the lake's own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::chain::Change;
use super::sweep::{self, Part};
use super::{MembershipProgress, MembershipStep, wait};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::id::RegionName;
use crate::lake::{Budgets, Lake, LakeRecord, RegionPlace, RegionState};
use crate::region::layout;
use crate::register::{Decided, Registers, Taught};

/// What the register says. That it says anything is what counts.
const DONE: &[u8] = b"handed over";

/// The region whose replacement has not been ended: it has its vote, and what others wrote until everybody knew may not have been handed over to
/// it. Until that is done, one region fewer may fail, and no other change of the regions begins. The same command ends it.
///
/// Cost: nothing, unless the lake's newest configuration completed a replacement: then one round of GETs.
///
/// # Errors
/// [`ErrorKind::Unavailable`] when too few regions answer to know.
pub async fn unfinished(lake: &Lake) -> Result<Option<RegionName>> {
    Ok(owed(lake).await?.map(|(_, place)| place.name.clone()))
}

/// How much may fail now: what [`Lake::budgets`] tells by the configuration alone, and one region fewer for writes while the last replacement is
/// not ended.
///
/// Cost: that of [`unfinished`].
///
/// # Errors
/// Those of [`unfinished`]: then the last replacement may or may not be ended.
pub async fn budgets(lake: &Lake) -> Result<Budgets> {
    Ok(lake.budgets().owing(u8::from(unfinished(lake).await?.is_some())))
}

/// The region that the lake's newest configuration gave its vote, in another's place. Whoever decided a later one saw to it before that nothing
/// was owed.
fn replaced_last(record: &LakeRecord) -> Option<(u8, &RegionPlace)> {
    record.indexed().find(|(_, place)| place.state == RegionState::Voting && place.since == record.number && place.since > place.added)
}

async fn owed(lake: &Lake) -> Result<Option<(u8, &RegionPlace)>> {
    let Some(last) = replaced_last(&lake.record) else { return Ok(None) };
    let registers = Registers::new(Arc::clone(&lake.region_set), lake.writer.clone());
    let done = registers.at(&layout::handed_over_path(lake.record.number), 0).await?;
    Ok(if done.is_some() { None } else { Some(last) })
}

/// Writes down that what was written while a region was replaced is handed over to it.
pub(super) async fn done(lake: &Lake) -> Result<()> {
    if replaced_last(&lake.record).is_none() {
        return Ok(());
    }
    let registers = Registers::new(Arc::clone(&lake.region_set), lake.writer.clone());
    failpoint!("membership.before-handed-over");
    registers.propose(&layout::handed_over_path(lake.record.number), 0, Bytes::from_static(DONE)).await?;
    registers.quiesce().await;
    failpoint!("membership.after-handed-over");
    Ok(())
}

impl Change {
    /// Tells the region at `index` of the lake's configuration, which is known to be decided: whoever did it without that region need not answer
    /// any more, and a slot that nobody can judge would stand in the way of every change.
    pub(super) async fn tell_configuration(&self, lake: &Lake, index: u8) -> Result<()> {
        let (path, slot, value) = (layout::configurations_path(), lake.record.number, self.sealed(&lake.record)?);
        let decided = Decided { slot, digest: Digest::of(&value), value };
        let registers = Registers::new(Arc::clone(&lake.region_set), lake.writer.clone());
        match registers.teach(&path, &decided, index).await? {
            Taught::Written | Taught::Already => Ok(()),
            Taught::CannotRead(reason) => {
                let what = "a region holds an entry of the lake's configurations that cannot be read";
                Err(Error::new(ErrorKind::Corrupt, what).with("configuration", slot).with("reason", reason))
            }
        }
    }

    /// Ends the replacement that the lake's configuration completed, if that was not done. To be called before the first configuration of a
    /// change is decided.
    ///
    /// Where this change gives the place to yet another region, or takes it away, its own sweeps see to everything: nothing is handed over
    /// then to whoever was to have it, and clients of the configuration before are waited for all the same.
    pub(super) async fn end_last(&self, lake: &Lake, pause: Duration, progress: &dyn MembershipProgress) -> Result<()> {
        let Some((index, place)) = owed(lake).await? else { return Ok(()) };
        // Leases of the configuration before end when everybody can meet this one.
        self.publish_present(lake).await?;
        wait(Instant::now(), pause, progress).await;
        if self.is_of(&place.name) {
            return Ok(());
        }
        let handing_over = async {
            self.tell_configuration(lake, index).await?;
            sweep::sweep(lake, Part::Told(index), progress).await
        };
        let swept = handing_over.await.map_err(|error| {
            let what = "the replacement of a region was not ended: what was written meanwhile is to be handed over to it before another change \
                        begins, and that failed. Do the same again when all regions answer, or, if that region is lost, put another in its place";
            Error::new(ErrorKind::Unavailable, what).with("replaced", &place.name).caused_by(error)
        })?;
        progress.step(&MembershipStep::Swept(swept));
        done(lake).await
    }
}
