//! One changed row group of a thousand costs what it is, not what the table is: an audit and a diff read it and little beside.

use std::sync::atomic::{AtomicU64, Ordering};

use lakeseal::baseline::{AuditOptions, Auditor, Outcome};

use super::poison_diff::{erasure_lake, text_rows, with_delays};
use super::*;

const GROUPS: usize = 1000;
const ROWS: usize = GROUPS * ROWS_PER_GROUP;

/// The writer recurses for each row group that one batch fills.
fn in_groups(all: &RecordBatch) -> Vec<u8> {
    let groups: Vec<RecordBatch> = (0..GROUPS).map(|group| all.slice(group * ROWS_PER_GROUP, ROWS_PER_GROUP)).collect();
    parquet_bytes(&groups)
}

/// A sealed table of one file of a thousand row groups in a lake of default segments, and a count of the bytes read of data files.
async fn large() -> (Fixture, Arc<AtomicU64>) {
    let (lake, bytes) = erasure_lake();
    let location = Location::in_lake(&lake, "flights").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("flights.parquet");
    let content = in_groups(&batch(0..ROWS as i64));
    std::fs::write(&source, &content).unwrap();
    delta::import(&location, Import { sources: vec![source], ..Import::default() }).await.unwrap();
    let fixture = Fixture { lake, location, key: PrivateKey::generate().unwrap(), _directory: directory };
    fixture.rewrite(&content).await;
    fixture.seal().await;
    (fixture, bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_row_group_of_a_thousand_is_found_by_reading_little_more_than_it() {
    let (fixture, bytes) = large().await;
    let path = fixture.data_file().await;
    let sealed = fixture.get(&path).await;
    let metadata = ParquetRecordBatchReaderBuilder::try_new(sealed.clone()).unwrap().metadata().clone();
    assert_eq!(metadata.num_row_groups(), GROUPS);
    // Two values of one row group; the file is written anew as a thief of a writer's key would.
    let (group, ordinal, first) = (637, 637_u32, 637 * ROWS_PER_GROUP);
    let all = batch(0..ROWS as i64);
    let poisoned = Bytes::from(in_groups(&with_delays(&all, &[(first + 3, 77.25), (first + 9, -5.5)])));
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
    let read = || bytes.swap(0, Ordering::Relaxed);
    let trust = Trust::new([fixture.key.public()], TrustLevel::Given).unwrap();
    let options = AuditOptions { incremental: true, ..AuditOptions::default() };
    let (inner, root) = (fixture.location.store().clone(), fixture.location.root().clone());
    let auditor = Auditor::new(inner, root, fixture.location.url().as_str(), trust, Arc::new(SystemClock), options);
    read();
    let report = auditor.audit(&()).await.unwrap();
    let audited = read();
    assert_eq!(report.outcome(), Outcome::Mismatch);
    let places: Vec<_> = report.findings.iter().map(|f| (f.row_group, f.column.as_deref())).collect();
    assert_eq!(places, [(Some(ordinal), Some("delay"))], "{report:#?}");

    let session = fixture.session(ReadMode::Latest).await;
    read();
    let rows =
        text_rows(&session.run("SELECT row_group, row, \"column\", sealed, found FROM poison_diff('flights') ORDER BY row").await.unwrap());
    let diffed = read();
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(rows[0].starts_with("637|3|delay|") && rows[0].ends_with("|77.25"), "{rows:?}");
    let ends = metadata.row_groups().iter().flat_map(|group| group.columns()).map(|chunk| chunk.byte_range());
    let footer = size - ends.map(|(start, length)| start + length).max().unwrap();
    println!(
        "a file of {size} bytes in {GROUPS} row groups, one of which changed, footer {footer}: an audit read {audited} bytes, a diff {diffed}"
    );
    // A diff decodes both sides, and so it reads the footer of both.
    assert!(audited > 0 && audited < size / 50, "{audited} of {size}");
    assert!(diffed < size / 50 + 3 * footer, "{diffed} of {size}, footer {footer}");
}
