//! One changed row group of a thousand costs what it is, not what the table is: an audit and a diff read it and little beside.

use lakeseal::baseline::{AuditOptions, Auditor, Outcome};
use lakeseal::lake::testing::memory_lake;
use lakeseal::store::{ErasureStore, Profile};

use super::poison_diff::{text_rows, with_delays};
use super::*;

const GROUPS: usize = 1000;
const ROWS: usize = GROUPS * ROWS_PER_GROUP;

/// A lake of the default segments, whose store counts what regions deliver.
async fn large() -> (Fixture, ErasureStore) {
    let (regions, writer, _) = memory_lake(3, 2, 5).unwrap();
    let store = ErasureStore::new(regions, Profile::new(3, 2), Some(Arc::new(writer)), Arc::new(SystemClock)).unwrap();
    let lake = LakeStore { name: "test".to_owned(), store: Arc::new(store.clone()) };
    let location = Location::in_lake(&lake, "flights").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("flights.parquet");
    let content = parquet_bytes(&[batch(0..ROWS as i64)]);
    std::fs::write(&source, &content).unwrap();
    delta::import(&location, Import { sources: vec![source], ..Import::default() }).await.unwrap();
    let fixture = Fixture { lake, location, key: PrivateKey::generate().unwrap(), _directory: directory };
    fixture.rewrite(&content).await;
    fixture.seal().await;
    (fixture, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_row_group_of_a_thousand_is_found_by_reading_little_more_than_it() {
    let (fixture, store) = large().await;
    let path = fixture.data_file().await;
    let sealed = fixture.get(&path).await;
    let metadata = ParquetRecordBatchReaderBuilder::try_new(sealed.clone()).unwrap().metadata().clone();
    assert_eq!(metadata.num_row_groups(), GROUPS);
    // Two values of one row group; the file is written anew as a thief of a writer's key would.
    let (group, first) = (637, 637 * ROWS_PER_GROUP);
    let all = batch(0..ROWS as i64);
    let poisoned = Bytes::from(parquet_bytes(&[with_delays(&all, &[(first + 3, 77.25), (first + 9, -5.5)])]));
    assert_eq!(poisoned.len(), sealed.len());
    let differing = sealed.iter().zip(&poisoned).filter(|(a, b)| a != b).count();
    // The edit keeps the sealed footer, as an edit in place does: forged statistics are another attack.
    let (start, length) = metadata.row_group(group).column(1).byte_range();
    let chunk = usize::try_from(start).unwrap()..usize::try_from(start + length).unwrap();
    let mut edited = sealed.to_vec();
    edited[chunk.clone()].copy_from_slice(&poisoned[chunk]);
    assert!(differing > 0 && sealed[..] != edited[..]);
    fixture.lake.store.put(&path, edited.into()).await.unwrap();

    let size = sealed.len() as u64;
    let read = |before: u64| store.read_statistics().bytes - before;
    let trust = Trust::new([fixture.key.public()], TrustLevel::Given).unwrap();
    let options = AuditOptions { incremental: true, ..AuditOptions::default() };
    let (inner, root) = (fixture.location.store().clone(), fixture.location.root().clone());
    let auditor = Auditor::new(inner, root, fixture.location.url().as_str(), trust, Arc::new(SystemClock), options);
    store.forget();
    let before = store.read_statistics().bytes;
    let report = auditor.audit(&()).await.unwrap();
    let audited = read(before);
    assert_eq!(report.outcome(), Outcome::Mismatch);
    let places: Vec<_> = report.findings.iter().map(|f| (f.row_group, f.column.as_deref())).collect();
    assert_eq!(places, [(Some(group as u32), Some("delay"))], "{report:#?}");

    store.forget();
    let session = fixture.session(ReadMode::Latest).await;
    let before = store.read_statistics().bytes;
    let rows =
        text_rows(&session.run("SELECT row_group, row, \"column\", sealed, found FROM poison_diff('flights') ORDER BY row").await.unwrap());
    let diffed = read(before);
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(rows[0].starts_with("637|3|delay|") && rows[0].ends_with("|77.25"), "{rows:?}");
    println!(
        "a file of {size} bytes in {GROUPS} row groups, one of which changed: an audit read {audited} bytes of shards, a diff {diffed}"
    );
    // Evidence, footer and block lists are read beside the data: they grow with the number of row groups, not with their bytes.
    let footer = u64::try_from(sealed.len()).unwrap()
        - metadata
            .row_groups()
            .iter()
            .flat_map(|g| g.columns())
            .map(|c| c.byte_range())
            .map(|(start, length)| start + length)
            .max()
            .unwrap();
    assert!(audited < size / 20 + footer, "{audited} of {size}, footer {footer}");
    assert!(diffed < size / 10 + 3 * footer, "{diffed} of {size}, footer {footer}");
}
