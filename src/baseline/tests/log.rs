//! The log and the inventory of a lake of two tables: honest races, and attacks on what seals say together.

use std::collections::BTreeSet;

use object_store::{ObjectStore, ObjectStoreExt as _, PutMode};

use super::*;
use crate::baseline::log::{Checkpoint, LoggedBaseline, Record, root};
use crate::clock::Clock as _;
use crate::digest::Digest;
use crate::id::LakeId;
use crate::key::Signer;
use crate::lake::testing::{FaultStore, FaultyRegion};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Two tables of a lake, sharing store, sealer and clock.
pub(super) struct Lake {
    pub(super) t: World,
    pub(super) u: World,
}

impl World {
    fn location(&self) -> String {
        format!("memory:///{}", self.root)
    }

    fn seal_options(&self) -> SealOptions {
        SealOptions { inventory_expires_after_ms: Some(30 * DAY_MS), ..SealOptions::default() }
    }

    pub(super) async fn seal_logged(&self, log: &Log, options: SealOptions) -> Result<SealOutcome> {
        self.clock.advance(1000);
        let sealer = Sealer::new(self.store.clone(), self.root.clone(), self.location(), self.key.clone(), self.clock.clone(), options)?;
        sealer.with_log(log.clone()).seal(&()).await
    }

    async fn audit_logged(&self, log: &Log, options: AuditOptions) -> AuditReport {
        let auditor = Auditor::new(self.store.clone(), self.root.clone(), self.location(), self.trust(), self.clock.clone(), options);
        auditor.with_log(log.clone()).audit(&()).await.unwrap()
    }
}

impl Lake {
    /// Both tables are there and sealed once.
    pub(super) async fn sealed() -> Self {
        Self::sealed_by(PrivateKey::from_seed(&[1; 32])).await
    }

    pub(super) async fn sealed_by(key: PrivateKey) -> Self {
        let t = World { key, ..World::new() };
        let u = World { store: t.store.clone(), root: Path::from("u"), key: t.key.clone(), clock: t.clock.clone() };
        let lake = Self { t, u };
        for table in [&lake.t, &lake.u] {
            table.create(2).await;
            lake.seal(table).await;
        }
        lake
    }

    pub(super) fn log(&self) -> Log {
        Log::new(self.t.store.clone(), Path::default()).of_lake(LakeId([7; 16]))
    }

    pub(super) async fn seal(&self, table: &World) -> SealOutcome {
        let outcome = table.seal_logged(&self.log(), table.seal_options()).await.unwrap();
        assert_eq!(outcome.notes, [""; 0]);
        outcome
    }

    async fn audit(&self, table: &World) -> AuditReport {
        table.audit_logged(&self.log(), AuditOptions::default()).await
    }

    fn keys(&self) -> LogKeys {
        LogKeys::of(&self.t.trust())
    }

    async fn check(&self, known: &[(String, LogPin)]) -> Vec<Finding> {
        self.log().check(&self.keys(), known).await.unwrap().findings
    }

    /// Everything in the store, to be put back by an attacker.
    async fn saved(&self) -> Vec<(Path, Vec<u8>)> {
        let mut saved = Vec::new();
        for path in self.paths("").await {
            saved.push((path.clone(), self.t.get(&path).await));
        }
        saved
    }

    pub(super) async fn paths(&self, prefix: &str) -> Vec<Path> {
        use futures::TryStreamExt as _;
        let all: Vec<_> = self.t.store.list(None).try_collect().await.unwrap();
        all.into_iter().map(|meta| meta.location).filter(|path| path.as_ref().starts_with(prefix)).collect()
    }

    async fn delete(&self, prefix: &str) {
        for path in self.paths(prefix).await {
            self.t.store.delete(&path).await.unwrap();
        }
    }

    async fn put_back(&self, saved: &[(Path, Vec<u8>)], prefix: &str) {
        self.delete(prefix).await;
        for (path, bytes) in saved.iter().filter(|(path, _)| path.as_ref().starts_with(prefix)) {
            self.t.put(path, bytes.clone()).await;
        }
    }
}

#[tokio::test]
async fn an_honest_lake_is_intact_whatever_is_sealed_when() {
    let lake = Lake::sealed().await;
    for version in 3..6 {
        lake.t.append(version).await;
        lake.seal(&lake.t).await;
        for table in [&lake.t, &lake.u] {
            let report = lake.audit(table).await;
            assert_intact(&report);
            assert_eq!(report.notes, [""; 0]);
            assert_eq!(report.log.unwrap().size, version);
        }
        assert_eq!(lake.check(&[]).await, []);
    }
    // Nothing is new: neither baseline nor entry.
    assert!(lake.seal(&lake.t).await.unchanged);
    assert_eq!(lake.audit(&lake.u).await.log.unwrap().size, 5);
}

#[tokio::test]
async fn attack_41_stripped_seals_are_a_mismatch_in_a_lake_with_an_inventory() {
    let lake = Lake::sealed().await;
    lake.delete("t/_seal").await;
    let report = lake.audit(&lake.t).await;
    assert_found(&report, Verdict::RolledBack, &["inventory lists baseline 1", "taken away"]);
    assert_eq!(report.outcome(), Outcome::Mismatch);
    assert_intact(&lake.audit(&lake.u).await);
    // Nor can it be covered up by sealing again.
    let error = lake.t.seal_logged(&lake.log(), SealOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Mismatch, "{error}");
    // A person who knows why may accept it: the history begins anew, and is intact from then on.
    let options = SealOptions { accept_changes: true, ..SealOptions::default() };
    let anew = lake.t.seal_logged(&lake.log(), options).await.unwrap();
    assert_eq!(anew.baseline.number, 1);
    assert_intact(&lake.audit(&lake.t).await);
    assert_eq!(lake.check(&[]).await, []);
}

#[tokio::test]
async fn attack_12_newer_baselines_taken_away_are_a_mismatch() {
    let lake = Lake::sealed().await;
    let before = lake.saved().await;
    lake.t.append(3).await;
    lake.seal(&lake.t).await;
    // Table and seals as they were: each of them valid, and signed.
    lake.put_back(&before, "t/").await;
    assert_found(&lake.audit(&lake.t).await, Verdict::RolledBack, &["lists baseline 2", "the newest is 1"]);
}

#[tokio::test]
async fn tables_of_different_times_cannot_be_mixed() {
    let lake = Lake::sealed().await;
    let seal = async |table: &World| {
        let options = SealOptions { record: false, ..SealOptions::default() };
        let outcome = table.seal_logged(&lake.log(), options).await.unwrap();
        outcome.to_record(&table.location(), &lake.log(), &table.root)
    };
    lake.t.append(3).await;
    lake.u.append(3).await;
    let before = lake.saved().await;
    let baselines = vec![seal(&lake.t).await, seal(&lake.u).await];
    let record = Record { baselines, now_ms: lake.t.clock.now_ms(), ..Record::default() };
    let appended = lake.log().append(&record, &lake.t.key, &lake.keys()).await.unwrap();
    assert_eq!(appended.index, Some(2));
    assert_eq!(appended.inventory.together("memory:///t").count(), 1);
    let report = lake.audit(&lake.t).await;
    assert_intact(&report);
    assert!(report.notes.iter().any(|note| note.contains("as one with memory:///u")), "{:?}", report.notes);
    // Recorded again, nothing changes.
    assert_eq!(lake.log().append(&record, &lake.t.key, &lake.keys()).await.unwrap().index, None);

    // The labels of yesterday beside the features of today: the features' own audit says so.
    lake.put_back(&before, "u/").await;
    assert_found(&lake.audit(&lake.t).await, Verdict::RolledBack, &["memory:///u", "sealed as one", "the newest is 1"]);
    assert_found(&lake.audit(&lake.u).await, Verdict::RolledBack, &["lists baseline 2"]);
}

#[tokio::test]
async fn a_set_is_recorded_even_where_its_tables_were_sealed_before() {
    let lake = Lake::sealed().await;
    let logged = |table: &World, outcome: &SealOutcome| outcome.to_record(&table.location(), &lake.log(), &table.root);
    let (t, u) = (lake.seal(&lake.t).await, lake.seal(&lake.u).await);
    assert!(t.unchanged && u.unchanged);
    let record = Record { baselines: vec![logged(&lake.t, &t), logged(&lake.u, &u)], now_ms: NOW_MS, ..Record::default() };
    let appended = lake.log().append(&record, &lake.t.key, &lake.keys()).await.unwrap();
    assert_eq!(appended.index, Some(2));
    assert_eq!(appended.inventory.together("memory:///u").map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["memory:///t"]);
    assert_eq!(lake.check(&[]).await, []);
}

#[tokio::test]
async fn attack_13_a_frozen_lake_is_a_mismatch_when_its_term_is_over() {
    let lake = Lake::sealed().await;
    let before = lake.saved().await;
    lake.t.append(3).await;
    lake.seal(&lake.t).await;
    // The whole lake as it was, log and inventory too: all of it valid.
    lake.put_back(&before, "").await;
    assert_intact(&lake.audit(&lake.t).await);
    lake.t.clock.advance(31 * DAY_MS);
    assert_found(&lake.audit(&lake.t).await, Verdict::Expired, &["inventory", "term is over"]);
    // An honest lake is renewed by sealing, though nothing is new.
    assert!(lake.seal(&lake.t).await.unchanged);
    assert_intact(&lake.audit(&lake.t).await);
    assert_intact(&lake.audit(&lake.u).await);
}

#[tokio::test]
async fn a_pinned_log_can_be_neither_shortened_nor_forked_nor_exchanged() {
    let lake = Lake::sealed().await;
    let early = lake.audit(&lake.t).await.log.unwrap();
    let before = lake.saved().await;
    lake.t.append(3).await;
    lake.seal(&lake.t).await;
    let pin = lake.audit(&lake.t).await.log.unwrap();
    let pinned = |pin: &LogPin| AuditOptions { log_pin: Some(pin.clone()), ..AuditOptions::default() };
    let audit = async |pin: &LogPin| lake.t.audit_logged(&lake.log(), pinned(pin)).await;
    for good in [&early, &pin] {
        assert_intact(&audit(good).await);
        assert_eq!(lake.check(&[("pin".into(), good.clone())]).await, []);
    }
    // Shortened to what it was: valid and signed.
    lake.put_back(&before, "").await;
    assert_found(&audit(&pin).await, Verdict::RolledBack, &["2 entries", "3 are pinned"]);
    // Attack 14: another history from there, as long and then longer, by the same key.
    lake.u.append(3).await;
    lake.seal(&lake.u).await;
    assert_found(&audit(&pin).await, Verdict::Forged, &["forks"]);
    lake.u.append(4).await;
    lake.seal(&lake.u).await;
    assert_found(&audit(&pin).await, Verdict::Forged, &["forks"]);
    let options = SealOptions { log_pin: Some(pin.clone()), ..SealOptions::default() };
    assert_eq!(lake.u.seal_logged(&lake.log(), options).await.unwrap_err().kind(), crate::ErrorKind::Mismatch);
    assert_eq!(lake.check(&[("theirs".into(), pin.clone())]).await[0].verdict, Verdict::Forged);
    assert_eq!(lake.check(&[("theirs".into(), early.clone())]).await, []);
    // Taken away, and another in its place.
    lake.delete("_seal").await;
    assert_found(&audit(&pin).await, Verdict::RolledBack, &["taken away"]);
    let other = LogPin { origin: "lakeseal.log/00".into(), ..early };
    lake.put_back(&before, "_seal").await;
    assert_found(&audit(&other).await, Verdict::Forged, &["another log"]);
}

#[tokio::test]
async fn a_log_that_was_rewritten_is_found_by_reading_it() {
    let lake = Lake::sealed().await;
    lake.t.append(3).await;
    lake.seal(&lake.t).await;
    assert_eq!(lake.check(&[]).await, []);
    let saved = lake.saved().await;
    let entry = |index: u64| Path::from(format!("_seal/log/entries/{index:020}"));

    // An entry changed, exchanged for another, or gone: the checkpoint does not fit any more.
    lake.t.put(&entry(0), "junk").await;
    assert_eq!(lake.check(&[]).await[0].verdict, Verdict::Forged);
    lake.t.put(&entry(0), lake.t.get(&entry(1)).await).await;
    assert_eq!(lake.check(&[]).await[0].verdict, Verdict::Forged);
    lake.t.store.delete(&entry(2)).await.unwrap();
    assert_eq!(lake.check(&[]).await[0].verdict, Verdict::RolledBack);
    lake.put_back(&saved, "_seal").await;
    assert_eq!(lake.check(&[]).await, []);
}

#[tokio::test]
async fn junk_in_the_log_s_names_does_no_harm() {
    let lake = Lake::sealed().await;
    let stranger = PrivateKey::from_seed(&[9; 32]);
    let entry = |index: u64| Path::from(format!("_seal/log/entries/{index:020}"));
    // The next places are squatted: by junk, by more than an entry may be, and by a stranger's entry that gives up the table.
    let mut forged = super::super::log::entry_sample(99);
    forged.log = crate::baseline::log::lake_origin(LakeId([7; 16]));
    forged.retired = vec!["memory:///t".into()];
    let forged = forged.sign(&stranger).await.unwrap();
    for (index, bytes) in [(2, b"junk".to_vec()), (3, vec![b'x'; 1 << 20]), (4, forged)] {
        lake.t.put(&entry(index), bytes).await;
    }
    assert_intact(&lake.audit(&lake.t).await);
    // Names of inventories and checkpoints by the trusted key, with junk, and with another's.
    let id = lake.t.key.public().id();
    for folder in ["inventory", "checkpoints"] {
        for size in [2_u64, 3, 99] {
            let path = Path::from(format!("_seal/log/{folder}/{size:020}-{id}"));
            if size > 2 {
                lake.t.put(&path, "junk").await;
            }
        }
        lake.t.put(&Path::from(format!("_seal/log/{folder}/readme")), "junk").await;
        let strangers = Path::from(format!("_seal/log/{folder}/{:020}-{}", 5, stranger.public().id()));
        lake.t.put(&strangers, "junk").await;
    }
    assert_intact(&lake.audit(&lake.t).await);
    lake.t.append(3).await;
    lake.seal(&lake.t).await;
    let report = lake.audit(&lake.t).await;
    assert_intact(&report);
    assert_eq!(report.log.unwrap().size, 6, "the junk is part of the log, and says nothing");
    assert_eq!(lake.check(&[]).await, []);
}

#[tokio::test]
async fn a_table_that_is_given_up_is_not_missed() {
    let lake = Lake::sealed().await;
    let record = Record { retired: vec!["memory:///u".into()], now_ms: NOW_MS, ..Record::default() };
    assert_eq!(lake.log().append(&record, &lake.t.key, &lake.keys()).await.unwrap().index, Some(2));
    assert_eq!(lake.log().append(&record, &lake.t.key, &lake.keys()).await.unwrap().index, None);
    lake.delete("u/_seal").await;
    assert_eq!(lake.audit(&lake.u).await.outcome(), Outcome::Undetermined, "never sealed, as far as anybody is to know");
    // It comes back by being sealed.
    lake.seal(&lake.u).await;
    assert_intact(&lake.audit(&lake.u).await);
    lake.delete("u/_seal").await;
    assert_eq!(lake.audit(&lake.u).await.outcome(), Outcome::Mismatch);
}

#[tokio::test]
async fn a_key_without_a_part_in_the_log_records_nothing() {
    let lake = Lake::sealed().await;
    let stranger = PrivateKey::from_seed(&[9; 32]);
    let record = Record { retired: vec!["memory:///t".into()], now_ms: NOW_MS, ..Record::default() };
    let error = lake.log().append(&record, &stranger, &lake.keys()).await.unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Permission);
}

#[tokio::test]
async fn an_interrupted_seal_is_neither_lost_nor_accused() {
    let lake = Lake::sealed().await;
    // Signed, but not recorded: stopped before the log.
    lake.t.append(3).await;
    let options = SealOptions { record: false, ..SealOptions::default() };
    assert_eq!(lake.t.seal_logged(&lake.log(), options).await.unwrap().log, None);
    let report = lake.audit(&lake.t).await;
    assert_intact(&report);
    assert!(report.notes.iter().any(|note| note.contains("not in the log yet")), "{:?}", report.notes);
    assert!(lake.seal(&lake.t).await.unchanged);
    assert_eq!(lake.audit(&lake.t).await.notes, [""; 0]);
    // Recorded, but without checkpoint and inventory.
    lake.t.append(4).await;
    lake.seal(&lake.t).await;
    let id = lake.t.key.public().id();
    for folder in ["inventory", "checkpoints"] {
        lake.t.store.delete(&Path::from(format!("_seal/log/{folder}/{:020}-{id}", 4))).await.unwrap();
    }
    assert_intact(&lake.audit(&lake.t).await);
    assert_eq!(lake.check(&[]).await, []);
    assert!(lake.seal(&lake.u).await.unchanged);
    let newest = lake.log().newest(&lake.keys()).await.unwrap().unwrap();
    assert_eq!((newest.signed.size, newest.tail.len()), (4, 0), "whoever comes next signs it");
}

#[tokio::test]
async fn a_table_outside_of_a_lake_has_a_log_of_its_own() {
    let world = World::sealed().await;
    world.append(4).await;
    world.seal().await.unwrap();
    let report = world.audit().await;
    assert_intact(&report);
    let log = report.log.unwrap();
    assert_eq!(log.size, 2);
    assert!(log.origin.starts_with("lakeseal.log/"), "{}", log.origin);
    // The newest baseline is taken away, its signature with it, but not the log.
    let names = world.repository().names().await.unwrap();
    world.store.delete(&world.repository().baseline_path(&names[1])).await.unwrap();
    assert_found(&world.audit().await, Verdict::RolledBack, &["lists baseline 2"]);
}

/// Two find no log, and both begin one: whose entry is the first has named it, and the other's stands behind it, of the same log.
#[tokio::test(start_paused = true)]
async fn a_log_that_two_begin_at_once_is_one_log() {
    let signers = [1, 2].map(|i| PrivateKey::from_seed(&[i; 32]));
    let keys = LogKeys::of(&Trust::new(signers.iter().map(PrivateKey::public), TrustLevel::Given).unwrap());
    let faults = FaultyRegion::default();
    // Every request takes as long as every other: both look, and then both write.
    faults.slow_ms(10);
    let log = Log::new(Arc::new(FaultStore::new(Arc::new(InMemory::new()), faults.clone())), Path::default());
    let append = |i: u8, signer: PrivateKey| {
        let (log, keys, table) = (log.clone(), keys.clone(), format!("memory:///{i}"));
        let logged = LoggedBaseline { table, path: i.to_string(), number: 1, digest: Digest([i; 32]), restart: false };
        let record = Record { baselines: vec![logged], now_ms: NOW_MS, ..Record::default() };
        async move { log.append(&record, &signer, &keys).await.unwrap() }
    };
    let [one, other] = signers;
    let (one, other) = tokio::join!(append(1, one), append(2, other));
    let places: BTreeSet<_> = [one.index, other.index].into();
    assert_eq!(places, [Some(0), Some(1)].into());
    assert_eq!(one.inventory.log, other.inventory.log, "one origin");
    let entries = log.entries(0, &keys.entries).await.unwrap();
    let origins: BTreeSet<String> = entries.iter().map(|e| e.signed.as_ref().unwrap().entry.log.clone()).collect();
    assert_eq!((entries.len(), origins.len()), (2, 1));
    let newest = log.newest(&keys).await.unwrap().unwrap();
    assert_eq!(newest.inventory.tables.len(), 2);
    assert_eq!(log.check(&keys, &[]).await.unwrap().findings, [], "the second is bound to the first");
}

/// Sealers of different tables, all at once, by keys of their own: every entry is there, and one history of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_sealers_lose_no_entry() {
    const SEALERS: u8 = 8;
    const SEALS: u64 = 40;
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let trust = Trust::new((0..SEALERS).map(|i| PrivateKey::from_seed(&[i; 32]).public()), TrustLevel::Given).unwrap();
    let keys = LogKeys::of(&trust);
    let log = Log::new(store.clone(), Path::default());
    let race = (0..SEALERS).map(|i| {
        let (log, keys) = (log.clone(), keys.clone());
        tokio::spawn(async move {
            for number in 1..=SEALS {
                let logged = LoggedBaseline {
                    table: format!("memory:///{i}"),
                    path: i.to_string(),
                    number,
                    digest: Digest::of(&[i, u8::try_from(number).unwrap()]),
                    restart: false,
                };
                let record = Record { baselines: vec![logged], now_ms: NOW_MS, ..Record::default() };
                log.append(&record, &PrivateKey::from_seed(&[i; 32]), &keys).await.unwrap();
            }
        })
    });
    for sealer in race.collect::<Vec<_>>() {
        sealer.await.unwrap();
    }
    let checked = log.check(&keys, &[]).await.unwrap();
    assert_eq!(checked.findings, []);
    let newest = checked.newest.unwrap();
    assert_eq!(newest.inventory.frontier.size(), u64::from(SEALERS) * SEALS);
    assert!(newest.inventory.tables.values().all(|row| row.number == SEALS));
    let entries = log.entries(0, &keys.entries).await.unwrap();
    let seals: BTreeSet<(String, u64)> =
        entries.iter().flat_map(|e| &e.signed.as_ref().unwrap().entry.baselines).map(|b| (b.table.clone(), b.number)).collect();
    assert_eq!(seals.len(), usize::from(SEALERS) * usize::try_from(SEALS).unwrap());
    assert_eq!(entries.iter().map(|e| e.signed.as_ref().unwrap().entry.log.clone()).collect::<BTreeSet<_>>().len(), 1, "one origin");
    assert!(entries.iter().all(|e| e.signed.as_ref().unwrap().entry.before.is_some()), "each is bound to those before it");
    // As it is read where all entries are replayed.
    let mut replaying = keys.clone();
    replaying.threshold = 2;
    assert_eq!(log.newest(&replaying).await.unwrap().unwrap().findings(&replaying), []);

    // 320 entries: the first 256 have a tile, which serves when it is true and is passed over when it is not.
    let (size, top) = (newest.inventory.frontier.size(), newest.inventory.frontier.root());
    let whole = log.hashes(size, &top).await.unwrap();
    assert_eq!(root(&whole), top);
    let tile = Path::from(format!("_seal/log/tiles/{:020}", 0));
    assert_eq!(store.head(&tile).await.unwrap().size, 256 * 32);
    for junk in [vec![7; 256 * 32], vec![7; 31], Vec::new()] {
        store.put(&tile, junk.into()).await.unwrap();
        assert_eq!(log.hashes(size, &top).await.unwrap(), whole);
    }
    store.delete(&tile).await.unwrap();
    assert_eq!(log.hashes(size, &top).await.unwrap(), whole);
    assert!(log.hashes(size, &[1; 32]).await.is_err());
}

#[tokio::test]
async fn a_lost_acknowledgement_makes_one_entry() {
    // A create that took effect, of which the sealer only hears that something is there.
    let lake = Lake::sealed().await;
    let twice = Log::new(Arc::new(Echo(lake.t.store.clone())), Path::default()).of_lake(LakeId([7; 16]));
    lake.t.append(3).await;
    let outcome = lake.t.seal_logged(&twice, lake.t.seal_options()).await.unwrap();
    assert_eq!((outcome.notes.len(), outcome.log.unwrap().size), (0, 3));
    assert_intact(&lake.audit(&lake.t).await);
}

/// A store whose creates take effect and then say that the object exists already.
#[derive(Debug)]
struct Echo(Arc<InMemory>);

impl std::fmt::Display for Echo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("echo")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Echo {
    async fn put_opts(
        &self,
        location: &Path,
        payload: object_store::PutPayload,
        opts: object_store::PutOptions,
    ) -> object_store::Result<object_store::PutResult> {
        let create = matches!(opts.mode, PutMode::Create);
        let put = self.0.put_opts(location, payload, opts).await?;
        if create {
            return Err(object_store::Error::AlreadyExists { path: location.to_string(), source: "again".into() });
        }
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: object_store::PutMultipartOptions,
    ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
        self.0.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: object_store::GetOptions) -> object_store::Result<object_store::GetResult> {
        self.0.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: futures::stream::BoxStream<'static, object_store::Result<Path>>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> futures::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<object_store::ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: object_store::CopyOptions) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

fn entry_path(index: u64) -> Path {
    Path::from(format!("_seal/log/entries/{index:020}"))
}

/// Inventories and checkpoints of more than `size` entries are taken away: nobody's signature says how many there are.
async fn forget_above(lake: &Lake, size: u64) {
    for folder in ["inventory", "checkpoints"] {
        for path in lake.paths(&format!("_seal/log/{folder}/")).await {
            let stated: u64 = path.filename().unwrap()[..20].parse().unwrap();
            if stated > size {
                lake.t.store.delete(&path).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn one_table_of_a_lake_is_not_rolled_back_behind_the_newest_inventory() {
    let lake = Lake::sealed().await;
    let before = lake.saved().await;
    lake.t.append(3).await;
    lake.seal(&lake.t).await;
    lake.u.append(3).await;
    lake.seal(&lake.u).await;
    // The table and its seals as they were, and no inventory that names the newer one: the entries still do.
    forget_above(&lake, 2).await;
    assert_intact(&lake.audit(&lake.t).await);
    lake.put_back(&before, "t/").await;
    assert_found(&lake.audit(&lake.t).await, Verdict::RolledBack, &["lists baseline 2", "the newest is 1"]);
    // Its entry exchanged for junk, for an older one, or for what a stranger signed, which all are leaves that say nothing.
    let mut strangers = super::super::log::entry_sample(2);
    (strangers.log, strangers.index, strangers.before) = (lake.audit(&lake.u).await.log.unwrap().origin, Some(2), Some([7; 32]));
    let strangers = strangers.sign(&PrivateKey::from_seed(&[9; 32])).await.unwrap();
    for instead in [b"junk".to_vec(), lake.t.get(&entry_path(0)).await, strangers] {
        lake.t.put(&entry_path(2), instead).await;
        for table in [&lake.t, &lake.u] {
            let report = lake.audit(table).await;
            assert_found(&report, Verdict::Forged, &["entry 3 of the log", "one of them was exchanged"]);
            assert_eq!(report.outcome(), Outcome::Mismatch);
        }
        assert_eq!(lake.check(&[]).await[0].verdict, Verdict::Forged);
    }
    // No honest seal covers it up, and no inventory is signed over it.
    lake.u.append(4).await;
    let refused = lake.u.seal_logged(&lake.log(), lake.u.seal_options()).await.unwrap_err();
    assert_eq!(refused.kind(), crate::ErrorKind::Mismatch, "{refused}");
    let renewed = Record { now_ms: NOW_MS, renew: true, ..Record::default() };
    let refused = lake.log().append(&renewed, &lake.t.key, &lake.keys()).await.unwrap_err();
    assert_eq!(refused.kind(), crate::ErrorKind::Mismatch, "{refused}");
    // A person who looked at the tables goes on from what is there.
    let accepted = SealOptions { accept_changes: true, ..lake.u.seal_options() };
    lake.u.seal_logged(&lake.log(), accepted).await.unwrap();
    lake.t.append(3).await;
    lake.seal(&lake.t).await;
    for table in [&lake.t, &lake.u] {
        assert_intact(&lake.audit(table).await);
    }
    assert_eq!(lake.check(&[]).await, []);
}

#[tokio::test]
async fn entries_of_earlier_versions_are_read_and_bound_by_later_ones() {
    let lake = Lake::sealed().await;
    let (log, keys) = (lake.log(), lake.keys());
    // The same log as an earlier version would have written it.
    let written = log.entries(0, &keys.entries).await.unwrap();
    forget_above(&lake, 0).await;
    for written in &written {
        let entry = written.signed.clone().unwrap().entry;
        let earlier = crate::baseline::log::Entry { index: None, before: None, ..entry };
        lake.t.put(&entry_path(written.index), earlier.sign(&lake.t.key).await.unwrap()).await;
    }
    for table in [&lake.t, &lake.u] {
        let report = lake.audit(table).await;
        assert_found(&report, Verdict::Undetermined, &["no signed inventory"]);
        assert_eq!(report.findings.len(), 1, "{report:#?}");
    }
    lake.t.append(3).await;
    lake.seal(&lake.t).await;
    for table in [&lake.t, &lake.u] {
        assert_intact(&lake.audit(table).await);
    }
    assert_eq!(lake.check(&[]).await, []);
    forget_above(&lake, 0).await;
    lake.delete("u/_seal").await;
    lake.t.put(&entry_path(1), "junk").await;
    assert_found(&lake.audit(&lake.u).await, Verdict::Forged, &["entry 2 of the log"]);
}

#[tokio::test]
async fn where_several_must_agree_so_many_show_that_an_entry_was_exchanged() {
    let signers = [1, 2].map(|i| PrivateKey::from_seed(&[i; 32]));
    let trust = Trust::new(signers.iter().map(PrivateKey::public), TrustLevel::Given).unwrap();
    let mut keys = LogKeys::of(&trust);
    keys.threshold = 2;
    let store = Arc::new(InMemory::new());
    let log = Log::new(store.clone(), Path::default());
    let say = async |table: &str, number: u64, restart: bool, signer: &PrivateKey| {
        let (table, path) = (format!("memory:///{table}"), table.to_owned());
        let logged = LoggedBaseline { table, path, number, digest: Digest([u8::try_from(number).unwrap(); 32]), restart };
        let record = Record { baselines: vec![logged], now_ms: NOW_MS, ..Record::default() };
        log.append(&record, signer, &keys).await
    };
    let verdicts = async || -> Vec<Verdict> {
        let newest = log.newest(&keys).await.unwrap().unwrap();
        newest.findings(&keys).into_iter().map(|finding| finding.verdict).collect()
    };
    for (table, number) in [("x", 1), ("x", 2)] {
        for signer in &signers {
            say(table, number, false, signer).await.unwrap();
        }
    }
    say("y", 1, false, &signers[0]).await.unwrap();
    assert_eq!(verdicts().await, []);
    let forget = async || {
        for id in signers.each_ref().map(|signer| signer.public().id()) {
            for size in 0..9 {
                store.delete(&Path::from(format!("_seal/log/inventory/{size:020}-{id}"))).await.ok();
            }
        }
    };
    forget().await;
    for index in [2, 3] {
        store.put(&entry_path(index), "junk".into()).await.unwrap();
    }
    // One of them may lie, and keeps nobody from going on.
    assert_eq!(verdicts().await, [Verdict::Undetermined]);
    say("z", 1, false, &signers[1]).await.unwrap();
    assert_eq!(verdicts().await, [Verdict::Undetermined], "what was made over it says nothing of it");
    store.put(&entry_path(3), "other junk".into()).await.unwrap();
    forget().await;
    assert_eq!(verdicts().await, [Verdict::Forged]);
    assert_eq!(say("z", 2, false, &signers[1]).await.unwrap_err().kind(), crate::ErrorKind::Mismatch);
    // As many accept it.
    say("y", 2, true, &signers[0]).await.unwrap();
    assert_eq!(verdicts().await, [Verdict::Forged]);
    say("y", 2, true, &signers[1]).await.unwrap();
    assert_eq!(verdicts().await, []);
    say("z", 2, false, &signers[1]).await.unwrap();
    assert_eq!(log.check(&keys, &[]).await.unwrap().findings, []);
}

#[tokio::test]
async fn checkpoints_are_notes_that_others_read() {
    let lake = Lake::sealed().await;
    let (checkpoint, note) = lake.log().newest_checkpoint(&lake.keys()).await.unwrap().unwrap();
    assert_eq!(checkpoint.size, 2);
    assert_eq!(checkpoint.origin, "lakeseal.log/07070707070707070707070707070707");
    assert_eq!(Checkpoint::open(note.as_bytes(), &[Signer::public(&lake.t.key)]).unwrap().0, checkpoint);
}

#[tokio::test]
async fn an_entry_that_takes_something_back_counts_in_its_place_alone() {
    let lake = Lake::sealed().await;
    let (log, keys) = (lake.log(), lake.keys());
    let first = lake.t.repository().newest_baseline(&lake.t.trust()).await.unwrap().unwrap().baseline;
    let named =
        |restart| LoggedBaseline { table: lake.t.location(), path: "t".to_owned(), number: first.number, digest: first.digest, restart };
    let now_ms = lake.t.clock.now_ms();
    let record = |baselines, retired| Record { baselines, retired, now_ms, ..Record::default() };
    // Once upon a time somebody began anew at this very baseline, and somebody gave the table up; it is sealed again since.
    let saved = lake.saved().await;
    lake.t.append(3).await;
    lake.seal(&lake.t).await;
    let anew = log.append(&record(vec![named(true)], vec![]), &lake.t.key, &keys).await.unwrap().index.unwrap();
    let given_up = log.append(&record(vec![], vec![lake.t.location()]), &lake.t.key, &keys).await.unwrap().index.unwrap();
    lake.t.append(4).await;
    lake.seal(&lake.t).await;
    assert_intact(&lake.audit(&lake.t).await);

    for (copied, attack) in [(anew, "rolled back"), (given_up, "stripped")] {
        let next = log.entries(0, &[]).await.unwrap().len();
        let entry = |index: usize| Path::from(format!("_seal/log/entries/{index:020}"));
        let bytes = lake.t.get(&entry(usize::try_from(copied).unwrap())).await;
        lake.t.put(&entry(next), bytes).await;
        let sealed = lake.saved().await;
        assert_intact(&lake.audit(&lake.t).await);
        match attack {
            "rolled back" => lake.put_back(&saved, "t/").await,
            _ => lake.delete("t/_seal").await,
        }
        assert_found(&lake.audit(&lake.t).await, Verdict::RolledBack, &[]);
        lake.put_back(&sealed, "t/").await;
    }
}
