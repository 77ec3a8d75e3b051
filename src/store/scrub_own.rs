//! The scrub of the lake's own registers: its configurations, and the bindings of streamed uploads. They have entries, no shards and no markers.

use futures::TryStreamExt as _;
use futures::future::join_all;
use object_store::path::Path;

use super::census::{CAME_LATER, Fault, Flaw, Piece};
use super::repair::Outcome;
use super::scrub::Scrub;
use crate::error::{Error, Result};
use crate::region::layout;
use crate::register::{Decided, Taught, WalkedRegister, WalkedSlot, is_collected, is_unreadable};

impl Scrub<'_> {
    /// What was found of the lake's own registers counts when all of them were looked at: there is no place among them to go on from.
    pub(super) async fn own_registers_unless_stopped(&mut self) {
        let (before, stop) = (self.report.clone(), self.options.stop.clone());
        tokio::select! {
            biased;
            () = stop.said() => {
                self.report = before;
                self.stopped();
            }
            () = self.own_registers() => {}
        }
    }

    /// Looks at every slot of the lake's own registers, in all regions, and tells those that lack what is decided, if asked to repair.
    async fn own_registers(&mut self) {
        let folder = Path::from(layout::SYSTEM_SEGMENT);
        let mut registers = self.inner.registers.walk(Some(&folder), None);
        loop {
            match registers.try_next().await {
                Ok(Some(register)) => {
                    if let (Err(error), Some(slot)) = (register.check_whole(), register.cut_at) {
                        self.report.unknown_versions += 1;
                        self.find(&register.path, slot, &error, Outcome::Found);
                    }
                    for slot in &register.slots {
                        self.own_slot(&register, slot).await;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    self.report.interrupted.get_or_insert_with(|| error.to_string());
                    return;
                }
            }
        }
    }

    async fn own_slot(&mut self, register: &WalkedRegister, slot: &WalkedSlot) {
        let path = &register.path;
        let decided = match self.inner.registers.at(path, slot.slot).await {
            Ok(Some(decided)) => decided,
            Ok(None) => {
                self.report.open_slots += 1;
                if self.options.repair && self.is_settled(slot.modified_ms()) {
                    self.close(path, slot.slot).await;
                }
                return;
            }
            Err(error) if is_collected(&error) => return,
            Err(error) => {
                self.report.unknown_versions += 1;
                self.find(path, slot.slot, &error, Outcome::Found);
                return;
            }
        };
        self.report.own_slots += 1;
        let flaws = self.own_flaws(register, slot, &decided).await;
        let (mut bad, mut left) = (false, false);
        for flaw in flaws {
            if flaw.fault == Fault::Unreachable {
                if let Some(report) = self.region_report(flaw.region) {
                    report.unreachable.get_or_insert(flaw.detail);
                }
                continue;
            }
            bad = true;
            let outcome = match flaw.fault {
                _ if !self.options.repair => Outcome::Found,
                Fault::Absent => match self.tell(path, &decided, flaw.region).await {
                    Ok(()) => Outcome::Repaired,
                    Err(error) => Outcome::NotRepaired(error.to_string()),
                },
                _ => Outcome::NotRepaired(
                    "nothing may be written behind an entry that cannot be read; replace the region to have it whole".to_owned(),
                ),
            };
            left |= outcome != Outcome::Repaired;
            self.flaw(path, slot.slot, "", &flaw, outcome);
        }
        self.report.damaged_versions += u64::from(bad);
        if self.options.repair {
            self.report.repaired_versions += u64::from(bad && !left);
            self.report.unrepaired_versions += u64::from(left);
        }
    }

    async fn own_flaws(&self, register: &WalkedRegister, slot: &WalkedSlot, decided: &Decided) -> Vec<Flaw> {
        let inner = self.inner;
        let settled = self.is_settled(slot.modified_ms());
        let looks = inner.regions.regions().iter().map(|region| async move {
            let index = region.index();
            let flaw = |fault, detail: String| Err(Flaw { region: index, piece: Piece::Entry, fault, detail });
            if let Some(reason) = region.down_reason() {
                return flaw(Fault::Unreachable, reason.to_owned());
            }
            if register.unreachable.contains(&index) {
                return flaw(Fault::Unreachable, "the region's list failed".to_owned());
            }
            let listed = slot.in_region(index).map_or(0, |listed| listed.entries);
            match inner.registers.inspect(&register.path, slot.slot, &decided.digest, index, listed).await {
                Ok(inspected) if inspected.value.is_some() || inspected.collected || !settled => Ok((index, inspected)),
                Ok(_) => flaw(Fault::Absent, "the region's log does not hold what is decided".to_owned()),
                Err(error) if is_unreadable(&error) => flaw(Fault::Unreadable, error.to_string()),
                Err(error) => flaw(Fault::Unreachable, error.to_string()),
            }
        });
        let looked = join_all(looks).await;
        let logs: Vec<_> = looked.iter().flatten().map(|(_, inspected)| &inspected.log).collect();
        let late = |index| Flaw { region: index, piece: Piece::Entry, fault: Fault::Absent, detail: CAME_LATER.to_owned() };
        let flaws = looked.iter().map(|look| match look {
            Ok((index, inspected)) => (settled && !inspected.counts(&logs)).then(|| late(*index)),
            Err(flaw) => Some(flaw.clone()),
        });
        flaws.flatten().collect()
    }

    async fn tell(&self, path: &Path, decided: &Decided, region: u8) -> Result<()> {
        let registers = &self.inner.registers;
        if let Taught::CannotRead(why) = registers.teach(path, decided, region).await? {
            return Err(Error::new(crate::error::ErrorKind::Corrupt, why));
        }
        match registers.inspect(path, decided.slot, &decided.digest, region, 1).await? {
            inspected if inspected.log.is_closed() => Ok(()),
            _ => Err(Error::new(crate::error::ErrorKind::Corrupt, "the region was told, and does not show it")),
        }
    }
}
