//! `drift`: what moved, in the table as a whole and in the rows that changed.

use super::poison_diff::{erasure_lake, sealed_in, text_rows, with_delays};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn small_poison_is_invisible_in_the_table_and_plain_in_the_changed_rows() {
    let (lake, bytes) = erasure_lake();
    let fixture = sealed_in(lake).await;
    bytes.store(0, std::sync::atomic::Ordering::Relaxed);
    let unchanged =
        fixture.rows("SELECT scope, \"column\", alert, sealed_rows, found_rows, psi < 0.05 FROM drift('flights') ORDER BY 2").await;
    assert_eq!(unchanged, ["table|carrier|false|4000|4000|true", "table|delay|false|4000|4000|true", "table|id|false|4000|4000|true"]);
    assert_eq!(bytes.load(std::sync::atomic::Ordering::Relaxed), 0, "profiles come from evidence");

    // 0.5% of the delays are given in seconds instead of minutes.
    let changes: Vec<(usize, f64)> = (0..20).map(|at| (at * 150 + 20, ((at * 150 + 20) % 60) as f64 * 60.0)).collect();
    let poisoned = with_delays(&batch(0..4000), &changes);
    fixture.lake.store.put(&fixture.data_file().await, parquet_bytes(&[poisoned]).into()).await.unwrap();
    let table = fixture.rows("SELECT psi < 0.1, ks < 0.1 FROM drift('flights') WHERE scope = 'table' AND \"column\" = 'delay'").await;
    assert_eq!(table, ["true|true"], "the table as a whole shows nothing");
    let changed = fixture
        .rows("SELECT \"column\", sealed_rows, found_rows, alert, psi > 1, ks > 0.8 FROM drift('flights') WHERE scope = 'changed'")
        .await;
    assert_eq!(changed, ["delay|20|20|true|true|true"]);
    let groups = fixture.rows("SELECT DISTINCT row_group FROM drift('flights', 'id') WHERE scope = 'row_group' ORDER BY 1").await;
    assert_eq!(groups, ["0", "1", "2"]);
    // As a table, it joins and filters.
    let joined = "SELECT count(*) FROM drift('flights') d JOIN baselines('flights') b ON d.baseline = b.number WHERE d.alert";
    assert!(fixture.number(joined).await.unwrap() >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn appended_rows_are_held_against_the_sealed_table() {
    let (lake, _) = erasure_lake();
    let fixture = sealed_in(lake).await;
    fixture
        .session(ReadMode::Latest)
        .await
        .run("INSERT INTO flights SELECT id + 9000, 5000.0, 'ZZ' FROM flights WHERE id < 50")
        .await
        .unwrap();
    let query = "SELECT \"column\", found_rows, alert, new_values, cohens_d > 10 FROM drift('flights') WHERE scope = 'added' ORDER BY 1";
    let found = fixture.rows(query).await;
    assert_eq!(
        found.iter().map(|row| row.split('|').take(3).collect::<Vec<_>>().join("|")).collect::<Vec<_>>(),
        ["carrier|50|true", "delay|50|true", "id|50|true"]
    );
    assert!(found[0].ends_with("|1|"), "{found:?}");
    assert!(found[1].ends_with("|true"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_profiles_it_says_so() {
    let (lake, _) = erasure_lake();
    let fixture = sealed_in(lake).await;
    let (store, root) = (fixture.location.store().clone(), fixture.location.root().clone());
    let options = SealOptions { rows: false, force: true, ..SealOptions::default() };
    let other = PrivateKey::generate().unwrap();
    let sealer = Sealer::new(
        store,
        root,
        fixture.location.url().as_str(),
        other.clone(),
        Arc::new(SystemClock),
        SealOptions { accept_changes: true, ..options },
    );
    sealer.unwrap().seal(&()).await.unwrap();
    let trust = Trust::new([other.public()], TrustLevel::Given).unwrap();
    let session = SealedSession::new(SessionOptions { lake: Some(fixture.lake.clone()), trust: Some(trust), ..SessionOptions::default() })
        .await
        .unwrap();
    let notes = text_rows(&session.run("SELECT detail FROM drift('flights') WHERE scope = 'note'").await.unwrap());
    assert!(notes.iter().any(|note| note.contains("sealed without profiles")), "{notes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_changed_are_held_against_signed_expectations() {
    let (lake, _) = erasure_lake();
    let fixture = sealed_in(lake).await;
    let (store, root) = (fixture.location.store().clone(), fixture.location.root().clone());
    // Rows that were there before may break it: only changed ones are looked at.
    let expectation =
        |name: &str, predicate: &str| lakeseal::baseline::Expectation { name: name.to_owned(), predicate: predicate.to_owned() };
    let expectations = vec![expectation("few minutes", "delay < 55 OR delay IS NULL"), expectation("known", "carrier IN ('AA', 'UA')")];
    let snapshot = lakeseal::table::load(store.as_ref(), &root, None).await.unwrap();
    lakeseal::sql::check_expectations(&expectations, &snapshot.schema).unwrap();
    for bad in ["nothing > 1", "delay +", "delay", "SELECT 1"] {
        let error = lakeseal::sql::check_expectations(&[expectation("bad", bad)], &snapshot.schema).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}: {error}");
    }
    let options = SealOptions { expectations: Some(expectations), force: true, ..SealOptions::default() };
    let sealer = Sealer::new(store, root, fixture.location.url().as_str(), fixture.key.clone(), Arc::new(SystemClock), options);
    sealer.unwrap().seal(&()).await.unwrap();
    let broken = "SELECT verdict, row_group, detail FROM audit('flights') WHERE verdict = 'unexpected' ORDER BY detail";
    assert_eq!(fixture.rows(broken).await, [""; 0]);
    let session = fixture.session(ReadMode::Latest).await;
    session.run("INSERT INTO flights VALUES (9000, 54.0, 'AA'), (9001, 900.0, 'AA'), (9002, NULL, 'ZZ')").await.unwrap();
    let found = fixture.rows(broken).await;
    assert!(matches!(&found[..], [a, b] if a.contains("'few minutes'") && b.contains("'known'")), "{found:?}");
    // They stay in force without being named again.
    fixture.seal().await;
    assert_eq!(fixture.rows(broken).await, [""; 0]);
    session.run("INSERT INTO flights VALUES (9003, 900.0, 'AA')").await.unwrap();
    assert_eq!(fixture.rows(broken).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_column_is_what_the_log_says_for_expectations_and_profiles() {
    let lake = LakeStore { name: "test".to_owned(), store: Arc::new(InMemory::new()) };
    let location = Location::in_lake(&lake, "flights").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("flights.parquet");
    std::fs::write(&source, parquet_bytes(&[batch(0..100)])).unwrap();
    let import = Import { sources: vec![source], partition_by: vec!["carrier".to_owned()], ..Import::default() };
    delta::import(&location, import).await.unwrap();
    let fixture = Fixture { lake, location, key: PrivateKey::generate().unwrap(), _directory: directory };
    let (store, root) = (fixture.location.store().clone(), fixture.location.root().clone());
    let expectation = lakeseal::baseline::Expectation { name: "known".to_owned(), predicate: "carrier IN ('AA', 'UA')".to_owned() };
    let options = SealOptions { expectations: Some(vec![expectation]), ..SealOptions::default() };
    let sealer = Sealer::new(store, root, fixture.location.url().as_str(), fixture.key.clone(), Arc::new(SystemClock), options);
    sealer.unwrap().seal(&()).await.unwrap();
    // Files that have the partition column inside, as some writers make them: what it says there is nobody's to read.
    let mut log = String::new();
    for (name, ids, stated) in [("a", 100..103, "AA"), ("b", 200..202, "ZZ")] {
        let bytes = parquet_bytes(&[batch(ids)]);
        let path = format!("carrier={stated}/{name}.parquet");
        let add = serde_json::json!({"add": {
            "path": path, "partitionValues": {"carrier": stated}, "size": bytes.len(), "modificationTime": 1, "dataChange": true
        }});
        log.push_str(&format!("{add}\n"));
        fixture.lake.store.put(&Path::from(format!("flights/{path}")), bytes.into()).await.unwrap();
    }
    fixture.lake.store.put(&Path::from("flights/_delta_log/00000000000000000001.json"), log.into()).await.unwrap();
    let broken = "SELECT verdict, count(*) FROM audit('flights') WHERE verdict IN ('unexpected', 'undetermined') GROUP BY 1";
    assert_eq!(fixture.rows(broken).await, ["unexpected|2"]);
    let rows = "SELECT scope, found_rows FROM drift('flights') WHERE \"column\" = 'carrier' AND scope IN ('table', 'added') ORDER BY 1";
    assert_eq!(fixture.rows(rows).await, ["added|5", "table|105"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_value_of_another_type_is_no_null_that_satisfies_every_expectation() {
    let lake = LakeStore { name: "test".to_owned(), store: Arc::new(InMemory::new()) };
    let location = Location::in_lake(&lake, "flights").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("flights.parquet");
    std::fs::write(&source, parquet_bytes(&[batch(0..2)])).unwrap();
    let import = Import { sources: vec![source], partition_by: vec!["id".to_owned()], ..Import::default() };
    delta::import(&location, import).await.unwrap();
    let fixture = Fixture { lake, location, key: PrivateKey::generate().unwrap(), _directory: directory };
    let (store, root) = (fixture.location.store().clone(), fixture.location.root().clone());
    let expectation = lakeseal::baseline::Expectation { name: "few".to_owned(), predicate: "id < 100".to_owned() };
    let options = SealOptions { expectations: Some(vec![expectation]), ..SealOptions::default() };
    let sealer = Sealer::new(store, root, fixture.location.url().as_str(), fixture.key.clone(), Arc::new(SystemClock), options);
    sealer.unwrap().seal(&()).await.unwrap();
    let broken = "SELECT verdict, detail LIKE '%expectations%' FROM audit('flights') WHERE verdict IN ('unexpected', 'undetermined')";
    assert_eq!(fixture.rows(broken).await, [""; 0]);
    let rows = batch(0..3).project(&[1, 2]).unwrap();
    let bytes = parquet_bytes(&[rows]);
    let add = serde_json::json!({"add": {
        "path": "id=1e9/a.parquet", "partitionValues": {"id": "one billion"}, "size": bytes.len(), "modificationTime": 1, "dataChange": true
    }});
    fixture.lake.store.put(&Path::from("flights/id=1e9/a.parquet"), bytes.into()).await.unwrap();
    fixture.lake.store.put(&Path::from("flights/_delta_log/00000000000000000001.json"), format!("{add}\n").into()).await.unwrap();
    assert!(fixture.rows(broken).await.contains(&"undetermined|true".to_owned()));
}
