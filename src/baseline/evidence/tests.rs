use std::sync::Arc;

use serde_json::json;

use super::super::sealed::{SealedColumn, SealedDeletions, SealedObject};
use super::super::statement::tests::sample;
use super::*;
use crate::digest::Digest;
use crate::table::LiveFile;

fn key(path: &str, vector: Option<&str>) -> FileKey {
    FileKey { path: path.into(), deletion_vector: vector.map(Into::into) }
}

fn file(path: &str, vector: Option<&str>) -> SealedFile {
    let column = |name: &str| SealedColumn {
        name: name.into(),
        bytes: 4..90,
        digest: Digest([1; 32]),
        values: Digest([2; 32]),
        nulls: Some(3),
        min: Some(json!(-7)),
        max: None,
    };
    let group = |ordinal, sum| SealedRowGroup {
        ordinal,
        rows: 10,
        bytes: 4..100,
        digest: Digest([4; 32]),
        sum,
        columns: vec![column("a"), column("b.list.element")],
    };
    SealedFile {
        live: Arc::new(LiveFile {
            key: key(path, vector),
            raw_path: path.into(),
            location: Some(Path::from("t").join(path)),
            size: 1000,
            partition_values: [("day".to_owned(), Some("1".to_owned())), ("none".to_owned(), None)].into(),
            stats: Some(json!({"numRecords": 20}).into()),
            deletion_vector: vector.map(|v| json!({"pathOrInlineDv": v})),
            other: [("baseRowId".to_owned(), json!(0))].into(),
            modification_time_ms: -5,
            added_in: None,
        }),
        version: vector.map(|_| "3.00".to_owned()),
        digest: Digest([5; 32]),
        sha256: [6; 32],
        footer: Digest([7; 32]),
        rows: 20,
        rows_encoding: Some(1),
        deleted: vector.map(|_| SealedDeletions {
            rows: 2,
            digest: Digest([8; 32]),
            sum: None,
            file: Some(SealedObject { path: "dv.bin".into(), size: 9, digest: Digest([9; 32]) }),
        }),
        inline_blocks: Some(Bytes::from(vec![5; 32])),
        row_groups: RowGroups::known(vec![group(0, Some(Bytes::from(vec![3; 4096]))), group(1, None)]),
    }
}

fn apply(state: &mut State, delta: &Delta<'_>) -> Result<()> {
    for (kind, bytes) in delta.encode(&[42; 32])? {
        let size = u64::try_from(bytes.len()).unwrap();
        state.apply(&EvidenceRef { kind, digest: Digest::of(&bytes), size, number: 1 }, bytes.into(), &Path::from("t"))?;
    }
    Ok(())
}

#[test]
fn what_is_written_reads_back() {
    let (a, b) = (file("a.parquet", None), file("b.parquet", Some("dv")));
    let commit = SealedCommit { digest: Digest([1; 32]), size: 7, operation: Some("WRITE".into()) };
    let old = key("old.parquet", None);
    let mut state = State::new(true);
    let change = SealedObject { path: "_change_data/c.parquet".into(), size: 9, digest: Digest([2; 32]) };
    let delta = Delta {
        added: vec![&a, &b],
        tombstones: vec![(&old, Some(3))],
        commits: vec![(0, &commit)],
        removed: vec![],
        changes: vec![&change],
    };
    apply(&mut state, &delta).unwrap();
    let gone = a.live.key.clone();
    apply(&mut state, &Delta { removed: vec![&gone], ..Delta::default() }).unwrap();
    let statement = sample(1);
    let summary = statement.summary(Digest([0; 32]), Default::default());
    let table = state.finish(statement, summary).unwrap();
    assert_eq!(table.files.into_values().collect::<Vec<_>>(), [Arc::new(b)]);
    assert_eq!(table.commits, [(0, commit)].into());
    assert_eq!(table.removed, [(gone, None), (old, Some(3))].into());
    assert_eq!(table.changes, [(change.path.clone(), change)].into());
    assert_eq!(table.row_key, [42; 32]);
}

#[test]
fn evidence_of_another_kind_or_key_is_refused() {
    let a = file("a.parquet", None);
    let delta = Delta { added: vec![&a], ..Delta::default() };
    let mut pieces = delta.encode(&[1; 32]).unwrap();
    let (_, groups) = pieces.pop().unwrap();
    let (_, files) = pieces.pop().unwrap();
    let root = Path::from("t");
    let reference = |kind| EvidenceRef { kind, digest: Digest([0; 32]), size: 0, number: 1 };
    let mut state = State::new(true);
    assert!(state.apply(&reference(EvidenceKind::Commits), files.clone().into(), &root).is_err());
    assert!(state.apply(&reference(EvidenceKind::RowGroups), groups.clone().into(), &root).is_err(), "no such file");
    let mut state = State::new(true);
    state.apply(&reference(EvidenceKind::Files), files.into(), &root).unwrap();
    state.apply(&reference(EvidenceKind::RowGroups), groups.clone().into(), &root).unwrap();
    assert!(state.apply(&reference(EvidenceKind::RowGroups), groups.into(), &root).is_err(), "twice");
    let (_, other) = delta.encode(&[2; 32]).unwrap().remove(0);
    assert!(state.apply(&reference(EvidenceKind::Files), other.into(), &root).is_err(), "another key");
    assert!(state.apply(&reference(EvidenceKind::Files), "PAR1 junk PAR1".into(), &root).is_err());
}

#[test]
fn files_evidence_without_versions_is_still_read() {
    let (a, b) = (file("a.parquet", None), file("b.parquet", Some("dv")));
    let batch = write::files(&Delta { added: vec![&a, &b], ..Delta::default() }).unwrap();
    let without: Vec<usize> = (0..batch.num_columns()).filter(|at| batch.schema().field(*at).name() != "version").collect();
    assert_eq!(without.len() + 1, batch.num_columns());
    let bytes = write::encode(EvidenceKind::Files, &batch.project(&without).unwrap(), &[1; 32]).unwrap();
    let reference = EvidenceRef { kind: EvidenceKind::Files, digest: Digest::of(&bytes), size: 0, number: 1 };
    let mut state = State::new(true);
    state.apply(&reference, bytes.into(), &Path::from("t")).unwrap();
    assert!(state.files.values().all(|file| file.version.is_none() && file.digest == Digest([5; 32])));
}
