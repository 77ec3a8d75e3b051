//! Sealing and auditing of small real tables in memory, with real edits of stored bytes.

mod attacks;
mod attested;
mod audits;
mod clones;
mod fuzz;
mod log;
mod proof;
mod remembering;
mod roots;
mod seals;
mod table;
mod told;

pub(crate) use fuzz::seeds as fuzzing_seeds;

use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::path::Path;

use super::*;
use crate::clock::ManualClock;
use crate::error::Result;
use crate::key::PrivateKey;

pub(super) const LOCATION: &str = "memory:///t";
pub(super) const NOW_MS: i64 = 1_790_000_000_000;

/// A table, its sealer's key and its clock.
pub(super) struct World {
    pub(super) store: Arc<InMemory>,
    pub(super) root: Path,
    pub(super) key: PrivateKey,
    pub(super) clock: Arc<ManualClock>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            store: Arc::new(InMemory::new()),
            root: Path::from("t"),
            key: PrivateKey::from_seed(&[1; 32]),
            clock: Arc::new(ManualClock::new(NOW_MS)),
        }
    }

    /// A Delta table of three commits, sealed.
    pub(super) async fn sealed() -> Self {
        let world = Self::new();
        world.create(3).await;
        world.seal().await.unwrap();
        world
    }

    pub(super) fn trust(&self) -> Trust {
        Trust::new([self.key.public()], TrustLevel::SelfMade).unwrap()
    }

    pub(super) fn repository(&self) -> Repository {
        Repository::new(self.store.clone(), self.root.clone())
    }

    pub(super) async fn seal_with(&self, options: SealOptions) -> Result<SealOutcome> {
        self.clock.advance(1000);
        Sealer::new(self.store.clone(), self.root.clone(), LOCATION, self.key.clone(), self.clock.clone(), options)?.seal(&()).await
    }

    pub(super) async fn seal(&self) -> Result<SealOutcome> {
        self.seal_with(SealOptions::default()).await
    }

    pub(super) async fn audit_with(&self, trust: Trust, options: AuditOptions) -> AuditReport {
        let auditor = Auditor::new(self.store.clone(), self.root.clone(), LOCATION, trust, self.clock.clone(), options);
        auditor.audit(&()).await.unwrap()
    }

    pub(super) async fn audit(&self) -> AuditReport {
        self.audit_with(self.trust(), AuditOptions::default()).await
    }

    pub(super) async fn quick(&self) -> AuditReport {
        self.audit_with(self.trust(), AuditOptions { quick: true, ..AuditOptions::default() }).await
    }
}

/// Whether the report has a finding of this verdict whose printed form contains all of `parts`.
#[track_caller]
pub(super) fn assert_found(report: &AuditReport, verdict: Verdict, parts: &[&str]) {
    let fits = |f: &&Finding| f.verdict == verdict && parts.iter().all(|part| f.to_string().contains(part));
    assert!(report.findings.iter().any(|f| fits(&f)), "no {verdict} finding with {parts:?} in {:#?}", report.findings);
}

#[track_caller]
pub(super) fn assert_intact(report: &AuditReport) {
    assert_eq!(report.findings, [], "{report:#?}");
    assert_eq!(report.outcome(), Outcome::Intact);
}
