//! Commits after the baseline steer no plan: not by statistics, not by counts, not by saying that they only moved rows.

use lakeseal::baseline::{AuditOptions, Auditor, Verdict};
use object_store::PutPayload;
use serde_json::{Value, json};

use super::*;

const COUNT: &str = "SELECT COUNT(*) FROM flights";
const SUM: &str = "SELECT CAST(SUM(delay) AS BIGINT) FROM flights";

fn log(version: u64) -> Path {
    Path::from(format!("flights/_delta_log/{version:020}.json"))
}

impl Fixture {
    pub(super) async fn append(&self, ids: Range<i64>) {
        delta::open(&self.location, None).await.unwrap().write([batch(ids)]).await.unwrap();
    }

    async fn commit_text(&self, version: u64) -> String {
        String::from_utf8(self.get(&log(version)).await.to_vec()).unwrap()
    }

    async fn put_commit(&self, version: u64, text: String) {
        self.lake.store.put(&log(version), PutPayload::from(text)).await.unwrap();
    }

    pub(super) async fn edit_commit(&self, version: u64, edits: &[(&str, &str)]) {
        let mut text = self.commit_text(version).await;
        for (from, to) in edits {
            assert!(text.contains(from), "{from} is not in {text}");
            text = text.replace(from, to);
        }
        self.put_commit(version, text).await;
    }

    async fn adds(&self, version: u64) -> Vec<Value> {
        let text = self.commit_text(version).await;
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter_map(|line| line.get("add").cloned()).collect()
    }

    async fn notes(&self) -> Vec<String> {
        let session = self.session(ReadMode::Latest).await;
        session.run(COUNT).await.unwrap();
        session.notes()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_of_later_files_neither_hide_nor_invent_rows() {
    let fixture = Fixture::sealed().await;
    fixture.append(4000..4100).await;
    let lies = [("\\\"id\\\":4099", "\\\"id\\\":4010"), ("\\\"numRecords\\\":100", "\\\"numRecords\\\":7")];
    fixture.edit_commit(1, &lies).await;
    for (query, stock, truth) in [
        (COUNT, 4007, 4100),
        ("SELECT COUNT(*) FROM flights WHERE id = 4050", 0, 1),
        ("SELECT COUNT(*) FROM flights WHERE id >= 3990 AND id < 4100", 21, 110),
        ("SELECT MAX(id) FROM flights WHERE id > 4040", 0, 4099),
    ] {
        if !query.contains("MAX") && !query.contains("3990") {
            assert_eq!(fixture.stock(query).await, stock, "stock readers believe the log: {query}");
        }
        assert_eq!(fixture.number(query).await.unwrap(), truth, "{query}");
    }
    assert!(fixture.notes().await.iter().any(|note| note.contains("not covered by baseline 1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cardinality_of_a_later_deletion_vector_is_not_counted_with() {
    let fixture = Fixture::sealed().await;
    fixture.append(4000..4100).await;
    let mut rows = roaring::RoaringTreemap::new();
    rows.extend([0, 1, 2]);
    let mut bytes = 1_681_511_377_u32.to_le_bytes().to_vec();
    rows.serialize_into(&mut bytes).unwrap();
    let size = bytes.len();
    bytes.resize(size.div_ceil(4) * 4, 0);
    let add = fixture.adds(1).await.remove(0);
    let mut with = add.clone();
    with["deletionVector"] = json!({"storageType": "i", "pathOrInlineDv": z85::encode(&bytes), "sizeInBytes": size, "cardinality": 50});
    let features = json!(["deletionVectors"]);
    let lines = [
        json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}}),
        json!({"remove": {"path": add["path"], "deletionTimestamp": 1, "dataChange": true, "partitionValues": {}}}),
        json!({"add": with}),
    ];
    fixture.put_commit(2, lines.map(|line| format!("{line}\n")).concat()).await;
    match fixture.number(COUNT).await {
        Ok(count) => assert_eq!(count, 4097, "a stock reader says {}", fixture.stock(COUNT).await),
        // deltalake holds the cardinality against the vector itself.
        Err(error) => assert!(error.to_string().contains("cardinality"), "{error}"),
    }
}

/// An engine sets memory aside for each row up to the last that a vector deletes: some forty bytes in the log must not ask for a terabyte.
#[tokio::test(flavor = "multi_thread")]
async fn a_later_deletion_vector_that_reaches_beyond_its_file_is_refused_before_an_engine_sees_it() {
    for (position, lies) in [(1_u64 << 40, false), (1 << 40, true), (4000, false), (4000, true)] {
        let fixture = Fixture::sealed().await;
        let mut bytes = 1_681_511_377_u32.to_le_bytes().to_vec();
        roaring::RoaringTreemap::from_iter([0, position]).serialize_into(&mut bytes).unwrap();
        let size = bytes.len();
        bytes.resize(size.div_ceil(4) * 4, 0);
        let text = fixture.commit_text(0).await;
        let line = text.lines().find(|line| line.starts_with("{\"add\"")).unwrap();
        let add = serde_json::from_str::<Value>(line).unwrap()["add"].clone();
        let mut with = add.clone();
        with["deletionVector"] = json!({"storageType": "i", "pathOrInlineDv": z85::encode(&bytes), "sizeInBytes": size, "cardinality": 2});
        if lies {
            // The rows of a sealed file are known, whatever a later commit says of it.
            with["stats"] = json!("{\"numRecords\":2199023255552}");
        }
        let features = json!(["deletionVectors"]);
        let lines = [
            json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}}),
            json!({"remove": {"path": add["path"], "deletionTimestamp": 1, "dataChange": true, "partitionValues": {}}}),
            json!({"add": with}),
        ];
        fixture.put_commit(1, lines.map(|line| format!("{line}\n")).concat()).await;
        match fixture.number(COUNT).await {
            Ok(count) => assert_eq!(count, 4000, "{position} {lies}"),
            // A false count of a sealed file's rows is a difference by itself.
            Err(error) => {
                let text = error.to_string();
                let why = if lies { "numRecords: sealed 4000" } else { "deletes rows that its file does not have" };
                assert!(text.contains(why), "{position} {lies}: {error}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_that_is_a_last_digit_too_narrow_hides_nothing() {
    let most = "SELECT COUNT(*) FROM flights WHERE delay >= 59";
    let narrow = |text: &str| text.replace("\\\"delay\\\":59.0", "\\\"delay\\\":58.99999999999999");
    let fixture = Fixture::sealed().await;
    let truth = fixture.stock(most).await;
    assert!(truth > 0);
    let text = fixture.commit_text(0).await;
    let add = text.lines().find(|line| line.starts_with("{\"add\"")).unwrap();
    assert_ne!(narrow(add), add);
    fixture.put_commit(1, narrow(add) + "\n").await;
    assert_eq!(fixture.stock(most).await, 0, "stock readers believe the log");
    assert_eq!(fixture.number(most).await.unwrap(), truth, "the sealed bounds are planned with");

    let fixture = Fixture::unsealed().await;
    fixture.edit_log(|log| narrow(&log)).await;
    let (store, root, url) = (fixture.location.store().clone(), fixture.location.root().clone(), fixture.location.url().as_str());
    let sealer = Sealer::new(store, root, url, fixture.key.clone(), Arc::new(SystemClock), SealOptions::default()).unwrap();
    names(&sealer.seal(&()).await.unwrap_err(), &["contradict", "delay", "written anew", "--no-rows"]);
}

/// Two sealed files of 4000 and 600 rows, compacted into one after the seal.
async fn compacted() -> (Fixture, u64) {
    let fixture = Fixture::unsealed().await;
    fixture.append(4000..4600).await;
    fixture.seal().await;
    delta::open(&fixture.location, None).await.unwrap().optimize().await.unwrap();
    (fixture, 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_that_alters_rows_is_not_read_while_its_sealed_files_are_there() {
    let (fixture, version) = compacted().await;
    let truth = fixture.stock(SUM).await;
    assert_eq!((fixture.number(SUM).await.unwrap(), fixture.number(COUNT).await.unwrap()), (truth, 4600), "an honest compaction");
    assert!(fixture.notes().await.iter().any(|note| note.contains("without changing a row")), "{:?}", fixture.notes().await);

    // The compacted file is written anew, one value changed; the log agrees with its size.
    let add = fixture.adds(version).await.remove(0);
    let path = Path::from(format!("flights/{}", add["path"].as_str().unwrap()));
    let honest = fixture.get(&path).await;
    let rows = batch(0..4600);
    let delay = rows.column(1).as_any().downcast_ref::<Float64Array>().unwrap();
    let poisoned = Float64Array::from_iter((0..4600).map(|i| Some(if i == 17 { 1e6 } else { delay.value(i) })));
    let poisoned = RecordBatch::try_new(rows.schema(), vec![rows.column(0).clone(), Arc::new(poisoned), rows.column(2).clone()]).unwrap();
    let bytes = parquet_bytes(&[poisoned]);
    fixture.lake.store.put(&path, bytes.clone().into()).await.unwrap();
    let sizes = (format!("\"size\":{}", add["size"]), format!("\"size\":{}", bytes.len()));
    fixture.edit_commit(version, &[(&sizes.0, &sizes.1)]).await;
    assert_ne!(fixture.stock(SUM).await, truth, "stock readers read what is there");
    assert_eq!(fixture.number(SUM).await.unwrap(), truth);
    let report = audit(&fixture).await;
    assert!(report.contains(&Verdict::Modified), "{report:?}");

    // Later commits beside it do not change that.
    fixture.append(4600..4700).await;
    assert_eq!(fixture.number(COUNT).await.unwrap(), 4700);
    assert!(fixture.number(SUM).await.unwrap() < truth + 6000);
    let back = (sizes.1, sizes.0);
    fixture.lake.store.put(&path, honest.into()).await.unwrap();
    fixture.edit_commit(version, &[(&back.0, &back.1)]).await;
    assert_eq!(fixture.number(SUM).await.unwrap(), fixture.stock(SUM).await);
}

async fn audit(fixture: &Fixture) -> Vec<Verdict> {
    let (store, root, url) = (fixture.location.store().clone(), fixture.location.root().clone(), fixture.location.url().as_str());
    let trust = Trust::new([fixture.key.public()], TrustLevel::Given).unwrap();
    let auditor = Auditor::new(store, root, url, trust, Arc::new(SystemClock), AuditOptions::default());
    auditor.audit(&()).await.unwrap().findings.into_iter().map(|finding| finding.verdict).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_built_upon_a_compaction_or_outlived_its_files_is_read() {
    let (fixture, version) = compacted().await;
    delta::open(&fixture.location, None).await.unwrap().delete().with_predicate("id < 10").await.unwrap();
    assert_eq!(fixture.number(COUNT).await.unwrap(), 4590);
    assert_eq!(fixture.number(SUM).await.unwrap(), fixture.stock(SUM).await);

    let (fixture, _) = compacted().await;
    let truth = fixture.stock(SUM).await;
    // VACUUM takes what was compacted.
    for removed in fixture.commit_text(version).await.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        if let Some(path) = removed["remove"]["path"].as_str() {
            fixture.lake.store.delete(&Path::from(format!("flights/{path}"))).await.unwrap();
        }
    }
    assert_eq!((fixture.number(SUM).await.unwrap(), fixture.number(COUNT).await.unwrap()), (truth, 4600));
    let notes = fixture.notes().await;
    assert!(notes.iter().all(|note| !note.contains("without changing a row")), "{notes:?}");
    // A RESTORE of what was sealed ends the compaction.
    let (fixture, _) = compacted().await;
    let (table, _) = delta::open(&fixture.location, None).await.unwrap().restore().with_version_to_restore(1).await.unwrap();
    assert_eq!(table.version(), Some(3));
    fixture.append(4600..4610).await;
    assert_eq!(fixture.number(COUNT).await.unwrap(), 4610);
    assert_eq!(fixture.number(SUM).await.unwrap(), fixture.stock(SUM).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_compactions_in_a_row_are_both_passed_over() {
    let (fixture, _) = compacted().await;
    let truth = fixture.stock(SUM).await;
    let add = fixture.adds(2).await.remove(0);
    let path = Path::from(format!("flights/{}", add["path"].as_str().unwrap()));
    let again = Path::from("flights/again.parquet");
    // The second one alters a row of the first one's file.
    let rows = batch(0..4600);
    let zeros = Arc::new(Float64Array::from_iter_values((0..4600).map(|_| 0.0)));
    let bytes = parquet_bytes(&[RecordBatch::try_new(rows.schema(), vec![rows.column(0).clone(), zeros, rows.column(2).clone()]).unwrap()]);
    fixture.lake.store.put(&again, bytes.clone().into()).await.unwrap();
    let mut second = add.clone();
    second["path"] = json!("again.parquet");
    second["size"] = json!(bytes.len());
    second["dataChange"] = json!(false);
    let gone = json!({"remove": {"path": add["path"], "deletionTimestamp": 1, "dataChange": false, "partitionValues": {}}});
    fixture.put_commit(3, format!("{gone}\n{}\n", json!({"add": second}))).await;
    assert_eq!(fixture.stock(SUM).await, 0, "{path}");
    assert_eq!(fixture.number(SUM).await.unwrap(), truth);
}
