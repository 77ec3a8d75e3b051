//! What a session does about a difference: fail, heal, leave out, warn, or not look.

use lakeseal::baseline::EvidenceKind;
use lakeseal::clock::SharedClock;
use lakeseal::lake::testing::{lake_over, memory_lake};
use lakeseal::sql::VerifyMode;
use lakeseal::store::{ErasureStore, Profile};
use lakeseal::verify::{Action, Incident};

use super::*;

const LOG: &str = "flights/_delta_log/00000000000000000000.json";
const SUM: &str = "SELECT CAST(SUM(delay) AS BIGINT) FROM flights";
const COUNT: &str = "SELECT COUNT(*) FROM flights";

pub(super) fn erasure_lake() -> Arc<dyn ObjectStore> {
    let (regions, writer, _) = memory_lake(3, 2, 5).unwrap();
    Arc::new(ErasureStore::new(regions, Profile::new(3, 2), Some(Arc::new(writer)), Arc::new(SystemClock)).unwrap())
}

impl Fixture {
    async fn in_mode(&self, verify: VerifyMode) -> SealedSession {
        self.with_options(TableOptions { verify, ..TableOptions::default() }).await
    }

    async fn with_options(&self, tables: TableOptions) -> SealedSession {
        let trust = Trust::new([self.key.public()], TrustLevel::Given).unwrap();
        SealedSession::new(SessionOptions { lake: Some(self.lake.clone()), trust: Some(trust), tables }).await.unwrap()
    }

    /// Changes a delay in the third row group in place: size, footer and log stay as they are.
    pub(super) async fn flip(&self) -> Path {
        let path = self.data_file_over(60_000).await;
        let mut bytes = self.get(&path).await.to_vec();
        let metadata = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes.clone())).unwrap().metadata().clone();
        let (start, length) = metadata.row_group(2).column(1).byte_range();
        bytes[usize::try_from(start + length).unwrap() - 8 * 10 + 6] ^= 0x01;
        self.lake.store.put(&path, bytes.into()).await.unwrap();
        path
    }
}

async fn one(session: &SealedSession, query: &str) -> Result<i64, Error> {
    Ok(session.run(query).await?[0].column(0).as_primitive::<Int64Type>().value(0))
}

fn only(session: &SealedSession, action: Action) -> Vec<Incident> {
    session.reports().incidents().into_iter().filter(|incident| incident.action == action).collect()
}

/// The sum of all delays, as sealed.
pub(super) fn truth() -> i64 {
    (0..4000_i64).map(|i| i % 60).sum()
}

/// Five regions that a test can reach into, and the lake over them.
fn reachable_lake() -> (Vec<Arc<dyn ObjectStore>>, Arc<dyn ObjectStore>) {
    let stores: Vec<Arc<dyn ObjectStore>> = (0..5).map(|_| Arc::new(InMemory::new()) as Arc<dyn ObjectStore>).collect();
    let (regions, writer, _) = lake_over(3, 2, 0, stores.clone()).unwrap();
    let lake = ErasureStore::new(regions, Profile::new(3, 2), Some(Arc::new(writer)), Arc::new(SystemClock)).unwrap();
    (stores, Arc::new(lake))
}

/// Changes a bit in the middle of everything large that a region holds; says how many objects those are.
async fn spoil(region: &dyn ObjectStore) -> usize {
    let large: Vec<_> = region.list(None).try_filter(|meta| std::future::ready(meta.size > 10_000)).try_collect().await.unwrap();
    for meta in &large {
        let mut bytes = region.get(&meta.location).await.unwrap().bytes().await.unwrap().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        region.put(&meta.location, bytes.into()).await.unwrap();
    }
    large.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn regions_that_lie_or_forget_change_no_answer_in_any_mode_and_are_nothing_to_report() {
    // Sealed bytes of a lake are taken from its regions as they are, and verified once, by the baseline: what a region changed must be read
    // again from the others, and neither be called poison nor be delivered where poison would be.
    for mode in [VerifyMode::Enforce, VerifyMode::Heal, VerifyMode::Quarantine, VerifyMode::Warn] {
        for (first, second) in [(0, 1), (1, 3), (2, 4)] {
            let (stores, lake) = reachable_lake();
            let fixture = Fixture::sealed_in(lake).await;
            fixture.data_file_over(60_000).await;
            let session = fixture.in_mode(mode).await;
            assert_eq!(one(&session, SUM).await.unwrap(), truth());
            assert!(spoil(stores[first].as_ref()).await > 0);
            assert_eq!(one(&session, SUM).await.unwrap(), truth(), "{mode:?}: region {first} lies");
            let gone: Vec<_> =
                stores[second].list(None).try_filter(|meta| std::future::ready(meta.size > 10_000)).try_collect().await.unwrap();
            for meta in gone {
                stores[second].delete(&meta.location).await.unwrap();
            }
            assert_eq!(one(&session, SUM).await.unwrap(), truth(), "{mode:?}: region {first} lies, {second} forgot");
            let fresh = fixture.in_mode(mode).await;
            assert_eq!(one(&fresh, SUM).await.unwrap(), truth());
            for session in [session, fresh] {
                let incidents = session.reports().incidents();
                assert!(incidents.is_empty(), "{mode:?}: {incidents:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overwritten_bytes_are_served_as_they_were_sealed_and_reported() {
    let fixture = Fixture::sealed_in(erasure_lake()).await;
    // Neither older bytes of the same size nor younger ones are what was sealed.
    let path = fixture.flip().await;
    let enforced = fixture.number(SUM).await.unwrap_err();
    names(&enforced, &["row group: 2", "column: delay"]);
    let session = fixture.in_mode(VerifyMode::Heal).await;
    assert_eq!(one(&session, SUM).await.unwrap(), truth());
    assert_eq!(one(&session, COUNT).await.unwrap(), 4000);
    let healed = only(&session, Action::Healed);
    assert_eq!(healed.len(), 1, "{healed:?}");
    let text = healed[0].to_string();
    for word in ["healed: flights file ", path.filename().unwrap(), "row group", "delay", "served from version "] {
        assert!(text.contains(word), "\"{word}\" is missing in: {text}");
    }
    assert_eq!(one(&session, "SELECT COUNT(*) FROM reports() WHERE action = 'healed' AND source LIKE 'version%'").await.unwrap(), 1);
    let plan = shown(&session.run(&format!("EXPLAIN ANALYZE {SUM}")).await.unwrap());
    assert!(plan.contains("healed_blocks=") && !plan.contains("healed_blocks=0"), "{plan}");
    // A stream of the whole object is healed as well.
    let store = session.register("opened", &fixture.location).await.unwrap().store().clone();
    let whole = store.get(&path).await.unwrap().bytes().await.unwrap();
    assert_eq!(*blake3::hash(&whole).as_bytes(), sealed_digest(&fixture).await);
}

async fn sealed_digest(fixture: &Fixture) -> [u8; 32] {
    let trust = Trust::new([fixture.key.public()], TrustLevel::Given).unwrap();
    let repository = lakeseal::baseline::Repository::new(fixture.lake.store.clone(), fixture.location.root().clone());
    repository.newest_baseline(&trust).await.unwrap().unwrap().files.values().next().unwrap().digest.0
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_that_is_not_the_sealed_one_is_never_served() {
    // Before the seal, other bytes of the same size stood in the same place.
    let fixture = Fixture::unsealed_in(erasure_lake()).await;
    let path = fixture.data_file().await;
    let older = fixture.get(&path).await;
    let mut newer = older.to_vec();
    let metadata = ParquetRecordBatchReaderBuilder::try_new(older.clone()).unwrap().metadata().clone();
    let (start, length) = metadata.row_group(1).column(0).byte_range();
    let at = usize::try_from(start + length).unwrap() - 8 * 500;
    assert_eq!(newer[at..at + 8], 1500_i64.to_le_bytes());
    newer[at..at + 8].copy_from_slice(&1501_i64.to_le_bytes());
    fixture.lake.store.put(&path, newer.into()).await.unwrap();
    fixture.seal().await;
    let sealed_sum: i64 = (0..4000_i64).sum::<i64>() + 1;
    let query = "SELECT SUM(id) FROM flights";
    assert_eq!(fixture.number(query).await.unwrap(), sealed_sum);
    // The attacker puts the older bytes back.
    fixture.lake.store.put(&path, older.into()).await.unwrap();
    names(&fixture.number(query).await.unwrap_err(), &["row group: 1", "column: id"]);
    assert_eq!(one(&fixture.in_mode(VerifyMode::Heal).await, query).await.unwrap(), sealed_sum);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_every_object_was_deleted_is_served_as_it_was_sealed() {
    for also_seals in [false, true] {
        let fixture = Fixture::sealed_in(erasure_lake()).await;
        let all: Vec<_> = fixture.lake.store.list(Some(fixture.location.root())).try_collect().await.unwrap();
        for meta in all.iter().filter(|meta| also_seals || !meta.location.as_ref().contains("/_seal/")) {
            fixture.lake.store.delete(&meta.location).await.unwrap();
        }
        assert!(fixture.number(SUM).await.is_err());
        let session = fixture.in_mode(VerifyMode::Heal).await;
        assert_eq!(one(&session, COUNT).await.unwrap(), 4000);
        assert_eq!(one(&session, SUM).await.unwrap(), truth());
        assert_eq!(one(&session, "SELECT COUNT(*) FROM flights WHERE id >= 1500 AND carrier = 'AA'").await.unwrap(), 1250);
        let files: Vec<String> = only(&session, Action::Healed).into_iter().map(|incident| incident.damage.file).collect();
        assert_eq!(files.contains(&"_seal".to_owned()), also_seals, "{files:?}");
        assert!(files.iter().any(|file| file.ends_with(".parquet")), "{files:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overwritten_seals_are_read_in_their_first_versions() {
    let fixture = Fixture::sealed_in(erasure_lake()).await;
    fixture.flip().await;
    let seals: Vec<_> = fixture.lake.store.list(Some(&Path::from("flights/_seal"))).try_collect().await.unwrap();
    for seal in seals {
        fixture.lake.store.put(&seal.location, "junk".into()).await.unwrap();
    }
    assert_eq!(one(&fixture.in_mode(VerifyMode::Heal).await, SUM).await.unwrap(), truth());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_log_is_replaced_by_the_sealed_state_even_in_a_plain_lake() {
    for (what, forged, query, wrong, right) in [
        ("\\\"numRecords\\\":4000", "\\\"numRecords\\\":10", COUNT, 10, 4000),
        ("\\\"id\\\":3999", "\\\"id\\\":1000", "SELECT COUNT(*) FROM flights WHERE id = 3000", 0, 1),
    ] {
        let fixture = Fixture::sealed().await;
        fixture.edit_log(|log| log.replace(what, forged)).await;
        assert_eq!(fixture.stock(query).await, wrong, "stock readers believe the log");
        assert!(fixture.number(query).await.is_err());
        for mode in [VerifyMode::Heal, VerifyMode::Quarantine, VerifyMode::Warn] {
            let session = fixture.in_mode(mode).await;
            assert_eq!(one(&session, query).await.unwrap(), right, "{mode}");
            let healed = only(&session, Action::Healed);
            assert!(healed.iter().any(|incident| incident.to_string().contains("the evidence of baseline 1")), "{healed:?}");
            // Nobody writes on top of a log that is known to be forged.
            assert!(session.run("INSERT INTO flights VALUES (1, 1.0, 'AA')").await.is_err());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_lake_says_what_it_cannot_heal() {
    let fixture = Fixture::sealed().await;
    let path = fixture.flip().await;
    let session = fixture.in_mode(VerifyMode::Heal).await;
    let error = one(&session, SUM).await.unwrap_err();
    names(&error, &[path.filename().unwrap(), "row group: 2", "column: delay"]);
    assert_eq!(only(&session, Action::Refused).len(), 1);
    let store = session.register("opened", &fixture.location).await.unwrap().store().clone();
    let error = store.get(&path).await.unwrap().bytes().await.unwrap_err();
    assert!(error.to_string().contains("retains no older versions"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heal_is_no_rollback() {
    let fixture = Fixture::sealed_in(erasure_lake()).await;
    fixture.session(ReadMode::Latest).await.run("INSERT INTO flights VALUES (4000, 7.0, 'AA')").await.unwrap();
    // Damaged data below later commits: healed, and the later rows are there.
    fixture.flip().await;
    let session = fixture.in_mode(VerifyMode::Heal).await;
    assert_eq!(one(&session, SUM).await.unwrap(), truth() + 7);
    assert_eq!(one(&session, COUNT).await.unwrap(), 4001);
    // A forged log below later commits: the sealed version is served to those who ask for it, and to nobody else.
    fixture.edit_log(|log| log.replace("\\\"numRecords\\\":4000", "\\\"numRecords\\\":10")).await;
    for gone in [false, true] {
        if gone {
            // The attacker takes the later commit away, so that the sealed version looks like the newest.
            fixture.lake.store.delete(&Path::from("flights/_delta_log/00000000000000000001.json")).await.unwrap();
        }
        let error = one(&fixture.in_mode(VerifyMode::Heal).await, COUNT).await.unwrap_err();
        assert!(error.to_string().contains("lakeseal.read = 'sealed'"), "{error}");
        let session = fixture.in_mode(VerifyMode::Heal).await;
        session.run("SET lakeseal.read = 'sealed'").await.unwrap();
        assert_eq!(one(&session, COUNT).await.unwrap(), 4000);
        assert_eq!(one(&session, SUM).await.unwrap(), truth());
    }
}

#[derive(Debug)]
struct InTwoYears;

impl lakeseal::clock::Clock for InTwoYears {
    fn now_ms(&self) -> i64 {
        lakeseal::clock::Clock::now_ms(&SystemClock) + 2 * 365 * 24 * 60 * 60 * 1000
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_healed_past_the_term_of_the_baseline() {
    let fixture = Fixture::sealed_in(erasure_lake()).await;
    fixture.flip().await;
    for verify in [VerifyMode::Heal, VerifyMode::Quarantine, VerifyMode::Warn] {
        let clock: SharedClock = Arc::new(InTwoYears);
        let session = fixture.with_options(TableOptions { verify, clock, ..TableOptions::default() }).await;
        let error = one(&session, SUM).await.unwrap_err();
        assert!(error.to_string().contains("expired"), "{verify}: {error}");
    }
    for meta in fixture.lake.store.list(Some(&Path::from("flights/_delta_log"))).try_collect::<Vec<_>>().await.unwrap() {
        fixture.lake.store.delete(&meta.location).await.unwrap();
    }
    let clock: SharedClock = Arc::new(InTwoYears);
    let session = fixture.with_options(TableOptions { verify: VerifyMode::Heal, clock, ..TableOptions::default() }).await;
    assert!(one(&session, SUM).await.unwrap_err().to_string().contains("expired"));
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantined_row_groups_are_missing_from_every_answer_alike() {
    for store in [Arc::new(InMemory::new()) as Arc<dyn ObjectStore>, erasure_lake()] {
        let fixture = Fixture::sealed_in(store).await;
        fixture.flip().await;
        let session = fixture.in_mode(VerifyMode::Quarantine).await;
        let left: i64 = (0..4000_i64).filter(|id| !(2000..3000).contains(id)).sum();
        for (query, answer) in [
            (COUNT, 3000),
            ("SELECT COUNT(id) FROM flights", 3000),
            // The damaged column is another one: the same rows are missing.
            ("SELECT SUM(id) FROM flights", left),
            ("SELECT COUNT(*) FROM flights WHERE id >= 0", 3000),
            ("SELECT COUNT(*) FROM flights WHERE id BETWEEN 1990 AND 3009", 20),
            ("SELECT COUNT(*) FROM flights WHERE carrier = 'AA'", 1500),
            ("SELECT COUNT(*) FROM (SELECT * FROM flights LIMIT 3500)", 3000),
            ("SELECT MAX(id) FROM (SELECT id FROM flights WHERE id < 3000 ORDER BY id DESC LIMIT 3)", 1999),
            ("SELECT MIN(id) FROM flights WHERE id > 1999", 3000),
        ] {
            assert_eq!(one(&session, query).await.unwrap(), answer, "{query}");
        }
        let skipped = only(&session, Action::Skipped);
        assert_eq!(skipped.len(), 1);
        assert_eq!((skipped[0].damage.row_groups(), skipped[0].damage.columns()), (vec!["2".to_owned()], vec!["delay".to_owned()]));
        let plan = shown(&session.run("EXPLAIN ANALYZE SELECT SUM(id) FROM flights").await.unwrap());
        assert!(plan.contains("skipped_row_groups=1"), "{plan}");
        // What was examined is what is delivered: a change after that is an error.
        let table = session.register("held", &fixture.location).await.unwrap();
        let path = fixture.data_file().await;
        let mut bytes = fixture.get(&path).await.to_vec();
        bytes[1000] ^= 1;
        fixture.lake.store.put(&path, bytes.into()).await.unwrap();
        assert!(table.store().get(&path).await.unwrap().bytes().await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_used_in_part_are_left_out_whole() {
    let fixture = Fixture::sealed().await;
    let session = fixture.session(ReadMode::Latest).await;
    session.run("INSERT INTO flights VALUES (4000, 7.0, 'AA'), (4001, 7.0, 'UA')").await.unwrap();
    fixture.seal().await;
    let path = fixture.data_file_over(60_000).await;
    let good = fixture.get(&path).await;
    let mut footer = good.to_vec();
    let at = footer.len() - 20;
    footer[at] ^= 1;
    let short = good.slice(..good.len() - 1);
    for damaged in [Some(Bytes::from(footer)), Some(short), None] {
        match damaged {
            Some(bytes) => drop(fixture.lake.store.put(&path, bytes.into()).await.unwrap()),
            None => fixture.lake.store.delete(&path).await.unwrap(),
        }
        let session = fixture.in_mode(VerifyMode::Quarantine).await;
        assert_eq!(one(&session, COUNT).await.unwrap(), 2);
        assert_eq!(one(&session, "SELECT SUM(id) FROM flights").await.unwrap(), 8001);
        assert!(only(&session, Action::Skipped)[0].damage.detail.contains("whole file"));
    }
    let strict = TableOptions { verify: VerifyMode::Quarantine, require_sealed: true, ..TableOptions::default() };
    let error = one(&fixture.with_options(strict).await, COUNT).await.unwrap_err();
    assert!(error.to_string().contains("gate"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warning_comes_with_what_is_there_and_nothing_with_verification_off() {
    let fixture = Fixture::sealed().await;
    let exact = "SELECT CAST(SUM(delay) * 1000 AS BIGINT) FROM flights";
    let path = fixture.flip().await;
    let found = fixture.stock(exact).await;
    assert_ne!(found, truth() * 1000);
    let session = fixture.in_mode(VerifyMode::Warn).await;
    assert_eq!(one(&session, exact).await.unwrap(), found);
    let delivered = only(&session, Action::Delivered);
    assert_eq!(delivered.len(), 1);
    assert!(delivered[0].to_string().contains(path.filename().unwrap()));
    // The block that differs holds more than what differs.
    assert_eq!(delivered[0].damage.places, [(Some(2), Some("delay".to_owned()))]);
    // A file of another size has other offsets; it is not guessed what it says.
    let bytes = fixture.get(&path).await;
    for other in [bytes.slice(..bytes.len() - 1), [bytes.as_ref(), b"PAR1"].concat().into()] {
        fixture.lake.store.put(&path, other.into()).await.unwrap();
        let error = one(&fixture.in_mode(VerifyMode::Warn).await, exact).await.unwrap_err();
        assert!(error.to_string().contains("only files of the sealed size"), "{error}");
    }

    let fixture = Fixture::sealed().await;
    fixture.edit_log(|log| log.replace("\\\"numRecords\\\":4000", "\\\"numRecords\\\":10")).await;
    let session = fixture.in_mode(VerifyMode::Off).await;
    assert_eq!(one(&session, COUNT).await.unwrap(), 10);
    assert!(session.notes().iter().any(|note| note.contains("verification: off")), "{:?}", session.notes());
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_set_and_shown_and_hold_for_registered_tables_too() {
    let fixture = Fixture::sealed_in(erasure_lake()).await;
    let session = fixture.session(ReadMode::Latest).await;
    session.register("known", &fixture.location).await.unwrap();
    fixture.flip().await;
    assert!(one(&session, "SELECT CAST(SUM(delay) AS BIGINT) FROM known").await.is_err());
    session.run("SET lakeseal.verify = 'heal'").await.unwrap();
    for table in ["known", "flights"] {
        assert_eq!(one(&session, &format!("SELECT CAST(SUM(delay) AS BIGINT) FROM {table}")).await.unwrap(), truth());
    }
    assert!(shown(&session.run("SHOW lakeseal.verify").await.unwrap()).contains("heal"));
    assert!(shown(&session.run("SHOW lakeseal.read").await.unwrap()).contains("latest"));
    session.run("SET lakeseal.verify = 'enforce'").await.unwrap();
    assert!(one(&session, SUM).await.is_err());
    let error = session.run("SET lakeseal.verify = 'hope'").await.unwrap_err();
    assert!(error.to_string().contains("quarantine"), "{error}");
    session.run("SET lakeseal.read = 'sealed'").await.unwrap();
    session.run("SET lakeseal.verify = 'off'").await.unwrap();
    assert!(one(&session, SUM).await.unwrap_err().to_string().contains("verification off"));
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_tables_are_the_same_in_every_mode() {
    let fixture = Fixture::sealed_in(erasure_lake()).await;
    fixture.session(ReadMode::Latest).await.run("INSERT INTO flights VALUES (4000, 7.0, 'AA')").await.unwrap();
    for mode in VerifyMode::ALL {
        let session = fixture.in_mode(mode).await;
        assert_eq!(one(&session, COUNT).await.unwrap(), 4001, "{mode}");
        assert_eq!(one(&session, SUM).await.unwrap(), truth() + 7, "{mode}");
        assert_eq!(session.reports().incidents(), [], "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_folder_is_healed_and_quarantined_like_a_table() {
    for (mode, counted) in [(VerifyMode::Heal, 4010), (VerifyMode::Quarantine, 2010)] {
        let lake = LakeStore { name: "test".to_owned(), store: erasure_lake() };
        let location = Location::in_lake(&lake, "flights").unwrap();
        let fixture = Fixture { lake, location, key: PrivateKey::generate().unwrap(), _directory: tempfile::tempdir().unwrap() };
        for (name, ids) in [("a.parquet", 0..2000), ("b.parquet", 2000..4000)] {
            fixture.lake.store.put(&Path::from(format!("flights/{name}")), parquet_bytes(&[batch(ids)]).into()).await.unwrap();
        }
        fixture.seal().await;
        fixture.lake.store.delete(&Path::from("flights/b.parquet")).await.unwrap();
        fixture.lake.store.put(&Path::from("flights/c.parquet"), parquet_bytes(&[batch(0..10)]).into()).await.unwrap();
        assert!(fixture.number(COUNT).await.is_err());
        let session = fixture.in_mode(mode).await;
        assert_eq!(one(&session, COUNT).await.unwrap(), counted, "{mode}");
        session.run("SET lakeseal.read = 'sealed'").await.unwrap();
        assert_eq!(one(&session, COUNT).await.unwrap(), counted - 10, "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_that_is_shown_instead_serves_partitions_and_stays_within_the_table() {
    let lake = LakeStore { name: "test".to_owned(), store: Arc::new(InMemory::new()) };
    let location = Location::in_lake(&lake, "flights").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("flights.parquet");
    std::fs::write(&source, parquet_bytes(&[batch(0..1000)])).unwrap();
    delta::import(&location, Import { sources: vec![source], partition_by: vec!["carrier".to_owned()], ..Import::default() })
        .await
        .unwrap();
    let fixture = Fixture { lake, location, key: PrivateKey::generate().unwrap(), _directory: directory };
    fixture.seal().await;
    fixture.edit_log(|log| log.replace(r#""partitionValues":{"carrier":"AA"}"#, r#""partitionValues":{"carrier":"UA"}"#)).await;
    let query = "SELECT COUNT(*) FROM flights WHERE carrier = 'AA'";
    assert_eq!(fixture.stock(query).await, 0, "stock readers believe the log");
    let session = fixture.in_mode(VerifyMode::Heal).await;
    assert_eq!(one(&session, query).await.unwrap(), 500);
    assert_eq!(one(&session, "SELECT COUNT(DISTINCT carrier) FROM flights").await.unwrap(), 2);
    // The whole log becomes noise: the schema is then nowhere to be had in a lake that retains nothing.
    fixture.lake.store.put(&Path::from(LOG), "noise".into()).await.unwrap();
    let session = fixture.in_mode(VerifyMode::Heal).await;
    let error = one(&session, query).await.unwrap_err();
    assert!(error.to_string().contains("lakeseal.read"), "{error}");
    session.run("SET lakeseal.read = 'sealed'").await.unwrap();
    let error = one(&session, query).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Mismatch && error.to_string().contains("nowhere to be found"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_of_row_groups_places_a_difference_and_nothing_else_needs_it() {
    let fixture = Fixture::sealed().await;
    let trust = Trust::new([fixture.key.public()], TrustLevel::Given).unwrap();
    let repository = lakeseal::baseline::Repository::new(fixture.lake.store.clone(), fixture.location.root().clone());
    let statement = repository.newest_statement(&trust).await.unwrap().unwrap().statement;
    let pieces: Vec<Path> = statement
        .evidence
        .iter()
        .filter(|piece| piece.kind == EvidenceKind::RowGroups)
        .map(|piece| repository.evidence_path(piece.digest))
        .collect();
    assert!(!pieces.is_empty());
    let evidence: Vec<Bytes> = futures::future::join_all(pieces.iter().map(|piece| fixture.get(piece))).await;
    for (gone, damaged) in [(true, false), (false, true)] {
        for (piece, good) in pieces.iter().zip(&evidence) {
            match gone {
                true => fixture.lake.store.delete(piece).await.unwrap(),
                false => {
                    let mut bad = good.to_vec();
                    bad[good.len() / 2] ^= 1;
                    fixture.lake.store.put(piece, bad.into()).await.unwrap();
                }
            }
        }
        // What is as it was sealed is read as ever.
        let session = fixture.in_mode(VerifyMode::Enforce).await;
        assert_eq!(one(&session, SUM).await.unwrap(), truth(), "damaged: {damaged}");
        // What is not is refused all the same, and placed in its file.
        let path = fixture.data_file_over(60_000).await;
        let good = fixture.get(&path).await;
        fixture.flip().await;
        let error = one(&fixture.in_mode(VerifyMode::Enforce).await, SUM).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Mismatch && error.to_string().contains(path.filename().unwrap()), "{error}");
        assert!(!error.to_string().contains("row group"), "{error}");
        // Leaving out takes it.
        assert!(fixture.in_mode(VerifyMode::Quarantine).await.run(COUNT).await.is_err());
        // An audit looks at all of it, whatever it needs.
        fixture.lake.store.put(&path, good.into()).await.unwrap();
        let verdicts = shown(&fixture.in_mode(VerifyMode::Enforce).await.run("SELECT verdict FROM audit('flights')").await.unwrap());
        assert!(verdicts.contains("undetermined"), "{verdicts}");
        for (piece, good) in pieces.iter().zip(&evidence) {
            fixture.lake.store.put(piece, good.clone().into()).await.unwrap();
        }
    }
    fixture.flip().await;
    let error = one(&fixture.in_mode(VerifyMode::Enforce).await, SUM).await.unwrap_err();
    assert!(error.to_string().contains("row group: 2") && error.to_string().contains("column: delay"), "{error}");
}
