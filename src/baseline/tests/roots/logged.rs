//! What the log is worth when one of several sealers lies, and after a sealer was revoked or taken out.

use super::*;
use crate::baseline::log::{Entry, LoggedBaseline, Record};
use crate::digest::Digest;
use crate::id::LakeId;

impl Ceremony {
    /// The table as it stands, sealed and in force: by Alice, and by Bob after her.
    async fn both(&self) {
        self.seal(self.alice.clone()).await.unwrap();
        assert!(self.countersign(self.bob.clone()).await.unwrap().is_in_force());
    }

    fn log(&self) -> Log {
        Log::new(self.world.store.clone(), self.world.root.clone())
    }

    /// Appends what `key` alone says, as it is counted by whoever holds the first root.
    async fn say(&self, key: &dyn Signer, record: Record) {
        let record = Record { now_ms: NOW_MS, ..record };
        let keys = LogKeys::of(&self.trust());
        assert!(self.log().append(&record, key, &keys).await.unwrap().index.is_some());
    }

    async fn pinned(&self, pin: &LogPin) -> AuditReport {
        self.world.audit_with(self.trust(), AuditOptions { log_pin: Some(pin.clone()), ..AuditOptions::default() }).await
    }

    async fn saved(&self) -> Vec<(Path, Vec<u8>)> {
        let mut saved = Vec::new();
        for path in self.paths().await {
            saved.push((path.clone(), self.world.get(&path).await));
        }
        saved
    }

    /// All paths but those of the log and of trust roots.
    async fn paths(&self) -> Vec<Path> {
        let all: Vec<_> = self.world.store.list(None).try_collect().await.unwrap();
        let kept = |path: &Path| !path.as_ref().contains("_seal/log/") && !path.as_ref().contains("_seal/trust/");
        all.into_iter().map(|meta| meta.location).filter(kept).collect()
    }

    /// The table and its seals as they were; the log stays, for its entries cannot be taken back.
    async fn put_back(&self, saved: &[(Path, Vec<u8>)]) {
        self.take_away("").await;
        for (path, bytes) in saved {
            self.world.put(path, bytes.clone()).await;
        }
    }

    async fn take_away(&self, part: &str) {
        for path in self.paths().await.into_iter().filter(|path| path.as_ref().contains(part)) {
            self.world.store.delete(&path).await.unwrap();
        }
    }

    async fn strip(&self) {
        self.take_away("_seal/baselines/").await;
        self.take_away("_seal/signatures/").await;
    }
}

fn named(name: BaselineName, restart: bool) -> Record {
    let logged = LoggedBaseline { table: LOCATION.into(), path: String::new(), number: name.number, digest: name.digest, restart };
    Record { baselines: vec![logged], ..Record::default() }
}

#[tokio::test]
async fn one_sealer_of_several_rolls_nothing_back_by_beginning_anew() {
    let ceremony = Ceremony::new(2).await;
    ceremony.both().await;
    let before = ceremony.saved().await;
    let one = ceremony.names().await[0];
    ceremony.world.append(4).await;
    ceremony.both().await;
    let report = ceremony.audit().await;
    assert_intact(&report);
    let pin = report.log.unwrap();
    ceremony.say(&ceremony.alice, named(one, true)).await;
    assert_intact(&ceremony.pinned(&pin).await);
    ceremony.put_back(&before).await;
    assert_found(&ceremony.pinned(&pin).await, Verdict::RolledBack, &["lists baseline 2", "the newest is 1"]);
    let options = SealOptions::default();
    assert_eq!(ceremony.sealer(ceremony.carol.clone(), options).seal(&()).await.unwrap_err().kind(), ErrorKind::Mismatch);
    // What Alice said counts once, however often her entry is copied to a later place.
    let entry = |index: u64| Path::from(format!("t/_seal/log/entries/{index:020}"));
    let copied = ceremony.world.get(&entry(4)).await;
    ceremony.world.put(&entry(5), copied).await;
    assert_found(&ceremony.pinned(&pin).await, Verdict::RolledBack, &["lists baseline 2"]);
    // Enough of them may: it is what they accepted.
    ceremony.say(&ceremony.bob, named(one, true)).await;
    assert_intact(&ceremony.pinned(&pin).await);
}

#[tokio::test]
async fn several_sealers_begin_a_history_anew_by_accepting_what_is_there() {
    let ceremony = Ceremony::new(2).await;
    ceremony.both().await;
    ceremony.world.append(4).await;
    ceremony.both().await;
    ceremony.strip().await;
    assert_found(&ceremony.audit().await, Verdict::RolledBack, &["inventory lists baseline 2", "taken away"]);
    assert_eq!(ceremony.seal(ceremony.alice.clone()).await.unwrap_err().kind(), ErrorKind::Mismatch);
    let accepting = || SealOptions { accept_changes: true, ..SealOptions::default() };
    ceremony.sealer(ceremony.alice.clone(), accepting()).seal(&()).await.unwrap();
    let bob = ceremony.sealer(ceremony.bob.clone(), accepting());
    let prepared = bob.review(None, &()).await.unwrap();
    let anew = bob.sign(prepared).await.unwrap().unwrap();
    assert!(anew.is_in_force() && anew.baseline.number == 1);
    assert_intact(&ceremony.audit().await);
}

#[tokio::test]
async fn one_sealer_of_several_gives_no_table_up() {
    let ceremony = Ceremony::new(2).await;
    ceremony.both().await;
    let retired = || Record { retired: vec![LOCATION.into()], ..Record::default() };
    ceremony.say(&ceremony.alice, retired()).await;
    assert_intact(&ceremony.audit().await);
    ceremony.strip().await;
    assert_found(&ceremony.audit().await, Verdict::RolledBack, &["inventory lists baseline 1", "taken away"]);
    // Two may, each in an entry of its own.
    ceremony.say(&ceremony.bob, retired()).await;
    let report = ceremony.audit().await;
    assert_eq!(report.outcome(), Outcome::Undetermined, "{report:#?}");
    assert!(report.notes.iter().any(|note| note.contains("given up")), "{:?}", report.notes);
}

#[tokio::test]
async fn one_sealer_of_several_blocks_no_seal_by_naming_a_baseline_that_never_was() {
    let ceremony = Ceremony::new(2).await;
    ceremony.both().await;
    let junk = BaselineName { number: 1_000_000, digest: Digest([9; 32]) };
    ceremony.say(&ceremony.alice, named(junk, false)).await;
    let alice: VerifyingKey = ceremony.alice.public().into();
    let told = async |sealed: u64| {
        let report = ceremony.audit().await;
        assert_eq!((report.outcome(), report.findings.len()), (Outcome::Undetermined, 1), "{report:#?}");
        assert_found(&report, Verdict::Undetermined, &["named baseline 1000000", &alice.id().to_string()]);
        assert_eq!(report.baseline.unwrap().number, sealed);
    };
    told(1).await;
    // It is noticed, and honest sealers go on.
    ceremony.world.append(4).await;
    ceremony.both().await;
    told(2).await;
    // Once the key is revoked it is nothing.
    let good = ceremony.last_good(ceremony.names().await[1]);
    ceremony.publish(|root| revoke(root, alice, vec![good])).await;
    assert_intact(&ceremony.audit().await);
}

#[tokio::test]
async fn an_inventory_of_one_sealer_of_several_is_not_believed() {
    let ceremony = Ceremony::new(2).await;
    ceremony.both().await;
    // Alice's thief signs an inventory of a log that lists nothing.
    let mut inventory = Inventory::replay(&ceremony.audit().await.log.unwrap().origin, &[]);
    inventory.frontier.push([1; 32]);
    (0..8).for_each(|_| inventory.frontier.push([2; 32]));
    let note = inventory.sign(&ceremony.alice).await.unwrap();
    ceremony.world.put(&Path::from(format!("t/_seal/log/inventory/{:020}-{}", 9, ceremony.alice.public().id())), note).await;
    let report = ceremony.audit().await;
    assert_found(&report, Verdict::Undetermined, &["an inventory of 9 entries is signed, but only 2"]);
    assert_eq!(report.findings.len(), 1, "{report:#?}");
    ceremony.strip().await;
    assert_found(&ceremony.audit().await, Verdict::RolledBack, &["inventory lists baseline 1"]);
}

#[tokio::test]
async fn a_baseline_that_one_sealer_recorded_does_not_vanish_unnoticed() {
    let ceremony = Ceremony::new(2).await;
    let unrecorded = SealOptions { record: false, ..SealOptions::default() };
    ceremony.sealer(ceremony.alice.clone(), unrecorded).seal(&()).await.unwrap();
    ceremony.countersign(ceremony.bob.clone()).await.unwrap();
    let report = ceremony.audit().await;
    assert_intact(&report);
    assert!(report.notes.iter().any(|note| note.contains("too few sealers have recorded")), "{:?}", report.notes);
    let sealed = ceremony.saved().await;
    ceremony.strip().await;
    assert_found(&ceremony.audit().await, Verdict::Undetermined, &["named baseline 1"]);
    ceremony.put_back(&sealed).await;
    // Whoever seals again says so too, although nothing is new.
    assert!(ceremony.seal(ceremony.alice.clone()).await.unwrap().unchanged);
    let report = ceremony.audit().await;
    assert_intact(&report);
    assert!(!report.notes.iter().any(|note| note.contains("too few")), "{:?}", report.notes);
    ceremony.strip().await;
    assert_found(&ceremony.audit().await, Verdict::RolledBack, &["inventory lists baseline 1"]);
}

#[tokio::test]
async fn a_proposal_that_waits_is_no_sign_of_a_roll_back() {
    let ceremony = Ceremony::new(2).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    ceremony.countersign(ceremony.bob.clone()).await.unwrap();
    ceremony.world.append(4).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    assert_eq!(ceremony.audit().await.outcome(), Outcome::IntactWithUnsealed);
    // Alice proposes another one in its place: what she said of the first is settled, though its statement is gone.
    ceremony.world.append(5).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    assert_eq!(ceremony.names().await.len(), 2);
    assert_eq!(ceremony.audit().await.outcome(), Outcome::IntactWithUnsealed);
    ceremony.countersign(ceremony.carol.clone()).await.unwrap();
    assert_intact(&ceremony.audit().await);
}

#[tokio::test]
async fn a_log_goes_on_when_its_only_sealer_is_revoked() {
    let ceremony = Ceremony::new(1).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    let report = ceremony.audit().await;
    assert_intact(&report);
    let pin = report.log.unwrap();
    let before = ceremony.saved().await;
    let one = ceremony.names().await[0];
    let (alice, good): (VerifyingKey, _) = (ceremony.alice.public().into(), ceremony.last_good(one));
    let two = ceremony.publish(|root| revoke(root, alice, vec![good])).await;
    assert_intact(&ceremony.pinned(&pin).await);
    // Bob goes on in the same log.
    ceremony.world.append(4).await;
    assert!(ceremony.seal(ceremony.bob.clone()).await.unwrap().notes.is_empty());
    let report = ceremony.pinned(&pin).await;
    assert_intact(&report);
    let later = report.log.unwrap();
    assert_eq!((later.origin.clone(), later.size), (pin.origin.clone(), 2));
    // After its last good baseline the key says nothing: neither what is newest, nor that history begins anew.
    ceremony.say(&ceremony.alice, named(one, true)).await;
    ceremony.say(&ceremony.alice, named(BaselineName { number: 9, digest: Digest([9; 32]) }, false)).await;
    assert_intact(&ceremony.pinned(&later).await);
    ceremony.put_back(&before).await;
    assert_found(&ceremony.pinned(&pin).await, Verdict::RolledBack, &["lists baseline 2", "the newest is 1"]);
    let keys = ceremony.log().keys(&Trust::from_root(two), None).await.unwrap();
    assert_eq!(ceremony.log().check(&keys, &[("pin".into(), pin)]).await.unwrap().findings, []);
}

#[tokio::test]
async fn a_table_that_a_former_sealer_sealed_cannot_be_stripped_unnoticed() {
    for revoked in [true, false] {
        let mut ceremony = Ceremony::new(1).await;
        let lake = Log::new(ceremony.world.store.clone(), Path::default()).of_lake(LakeId([7; 16]));
        let sealer = ceremony.sealer(ceremony.alice.clone(), SealOptions::default()).with_log(lake.clone());
        assert!(sealer.seal(&()).await.unwrap().notes.is_empty());
        let (alice, good): (VerifyingKey, _) = (ceremony.alice.public().into(), ceremony.last_good(ceremony.names().await[0]));
        ceremony.root = if revoked {
            ceremony.publish(|root| revoke(root, alice, vec![good])).await
        } else {
            ceremony.publish(|root| root.roles.get_mut(&Role::Sealer).unwrap().keys.retain(|key| *key != alice)).await
        };
        for meta in ceremony.world.store.list(Some(&Path::from("t/_seal"))).try_collect::<Vec<_>>().await.unwrap() {
            ceremony.world.store.delete(&meta.location).await.unwrap();
        }
        let world = &ceremony.world;
        let options = AuditOptions::default();
        let auditor =
            Auditor::new(world.store.clone(), world.root.clone(), LOCATION, ceremony.trust(), world.clock.clone(), options).with_log(lake);
        let report = auditor.audit(&()).await.unwrap();
        // A key that was only taken out of its role is not believed, but what it said is not forgotten.
        match revoked {
            true => assert_found(&report, Verdict::RolledBack, &["inventory lists baseline 1", "taken away"]),
            false => assert_found(&report, Verdict::Undetermined, &["named baseline 1"]),
        }
    }
}

#[tokio::test]
async fn a_revoked_key_that_never_sealed_costs_no_reading_of_the_whole_log() {
    let ceremony = Ceremony::new(1).await;
    ceremony.seal(ceremony.alice.clone()).await.unwrap();
    let writer: VerifyingKey = PrivateKey::from_seed(&[77; 32]).public().into();
    let revoked = |key| Revocation { key, revoked_ms: NOW_MS, reason: "stolen".into(), last_good: Vec::new() };
    let log = Log::new(ceremony.world.store.clone(), ceremony.world.root.clone());
    let repository = ceremony.world.repository();
    let second = ceremony.publish(|root| root.revoked.push(revoked(writer))).await;
    let keys = log.keys(&Trust::from_root(second), Some(&repository)).await.unwrap();
    assert!(!keys.replays() && keys.known().len() == 3);
}

#[tokio::test]
async fn one_sealer_of_several_accuses_nobody_of_having_exchanged_an_entry() {
    let ceremony = Ceremony::new(2).await;
    ceremony.both().await;
    let one = ceremony.names().await[0];
    let log = ceremony.audit().await.log.unwrap();
    // A thief of Alice's key says of its entry that others lie before it.
    let baselines = named(one, false).baselines;
    let entry = Entry { log: log.origin, time_ms: NOW_MS, baselines, retired: Vec::new(), index: Some(log.size), before: Some([9; 32]) };
    let leaf = entry.sign(&ceremony.alice).await.unwrap();
    ceremony.world.put(&Path::from(format!("t/_seal/log/entries/{:020}", log.size)), leaf.clone()).await;
    let told = async || {
        let report = ceremony.audit().await;
        assert_eq!((report.outcome(), report.findings.len()), (Outcome::Undetermined, 1), "{report:#?}");
        assert_found(&report, Verdict::Undetermined, &["entry 2 of the log", "a key was misused"]);
    };
    told().await;
    ceremony.world.append(4).await;
    ceremony.both().await;
    told().await;
    // A copy of it lies elsewhere than it states, and says nothing.
    let size = ceremony.audit().await.log.unwrap().size;
    ceremony.world.put(&Path::from(format!("t/_seal/log/entries/{size:020}")), leaf).await;
    told().await;
    let (alice, good): (VerifyingKey, _) = (ceremony.alice.public().into(), ceremony.last_good(ceremony.names().await[1]));
    ceremony.publish(|root| revoke(root, alice, vec![good])).await;
    assert_intact(&ceremony.audit().await);
}
