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
    let mut state = State::new(Detail::Whole);
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
    let mut state = State::new(Detail::Whole);
    assert!(state.apply(&reference(EvidenceKind::Commits), files.clone().into(), &root).is_err());
    assert!(state.apply(&reference(EvidenceKind::RowGroups), groups.clone().into(), &root).is_err(), "no such file");
    let mut state = State::new(Detail::Whole);
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
    let mut state = State::new(Detail::Whole);
    state.apply(&reference, bytes.into(), &Path::from("t")).unwrap();
    assert!(state.files.values().all(|file| file.version.is_none() && file.digest == Digest([5; 32])));
}

#[test]
fn row_groups_are_cut_into_pieces_that_hold_whole_files() {
    let names = ["a.parquet", "b.parquet", "c.parquet", "d.parquet", "e.parquet"];
    let files: Vec<SealedFile> = names.iter().map(|name| file(name, None)).collect();
    let empty = SealedFile { row_groups: RowGroups::known(Vec::new()), ..file("z.parquet", None) };
    let runs = |added: Vec<&SealedFile>, least| {
        let delta = Delta { added, ..Delta::default() };
        delta.groups_in_pieces(least).unwrap().iter().map(|files| files.len()).collect::<Vec<_>>()
    };
    // Two row groups a file.
    assert_eq!(runs(files.iter().collect(), 4), [2, 2, 1]);
    assert_eq!(runs(files.iter().collect(), 5), [2, 2, 1]);
    assert_eq!(runs(files.iter().collect(), 1), [1, 1, 1, 1, 1], "an eighth of ten is less than a file has");
    assert_eq!(runs(files.iter().collect(), 8192), [5]);
    assert_eq!(runs(std::iter::repeat_n(&files[0], 80).collect(), 4), [10; 8], "an eighth of 160");
    assert_eq!((runs(vec![&empty], 4), runs(vec![], 4)), (vec![], vec![]));
    assert_eq!(runs(vec![&empty, &files[0], &empty], 4), [3]);
    assert!(Delta { added: vec![&SealedFile { row_groups: RowGroups::unread(), ..empty }], ..Delta::default() }.encode(&[0; 32]).is_err());

    // Read back, whatever the pieces.
    let mut state = State::new(Detail::Whole);
    let delta = Delta { added: files.iter().collect(), ..Delta::default() };
    let whole = delta.groups_in_pieces(4).unwrap();
    let pieces = whole.iter().map(|files| write::encode(EvidenceKind::RowGroups, &write::row_groups(files).unwrap(), &[1; 32]).unwrap());
    let pieces: Vec<Vec<u8>> = pieces.collect();
    let root = Path::from("t");
    let reference = |kind| EvidenceRef { kind, digest: Digest([0; 32]), size: 0, number: 1 };
    let listed = write::encode(EvidenceKind::Files, &write::files(&delta).unwrap(), &[1; 32]).unwrap();
    state.apply(&reference(EvidenceKind::Files), listed.into(), &root).unwrap();
    pieces.into_iter().for_each(|piece| state.apply(&reference(EvidenceKind::RowGroups), piece.into(), &root).unwrap());
    assert!(state.files.values().zip(&files).all(|(read, written)| **read == *written));
}

/// A file whose row groups have these digests and sums.
fn grouped(path: &str, groups: &[u8]) -> SealedFile {
    let sum = |seed: u8| {
        let mut hasher = crate::digest::MultisetHasher::new(&[7; 32]);
        hasher.add(&[seed]);
        Some(Bytes::copy_from_slice(&hasher.finish().to_bytes()))
    };
    let group = |(ordinal, seed): (usize, &u8)| SealedRowGroup {
        ordinal: u32::try_from(ordinal).unwrap(),
        rows: 1,
        bytes: 4..5,
        digest: Digest([*seed; 32]),
        sum: sum(*seed),
        columns: Vec::new(),
    };
    SealedFile { row_groups: RowGroups::known(groups.iter().enumerate().map(group).collect()), ..file(path, None) }
}

#[test]
fn roots_are_those_of_the_last_sealing_of_each_live_file() {
    let seals = [
        (1, vec![grouped("a.parquet", &[1, 2]), grouped("b.parquet", &[3])], vec![]),
        (2, vec![grouped("a.parquet", &[4])], vec![key("b.parquet", None)]),
        (3, vec![grouped("b.parquet", &[5, 6]), grouped("c.parquet", &[])], vec![]),
    ];
    let root = Path::from("t");
    let (mut whole, mut rooted, mut later) = (State::new(Detail::Whole), State::new(Detail::Roots), Vec::new());
    for (number, added, removed) in &seals {
        let delta = Delta { added: added.iter().collect(), removed: removed.iter().collect(), ..Delta::default() };
        for (kind, bytes) in delta.encode(&[1; 32]).unwrap() {
            let reference = EvidenceRef { kind, digest: Digest::of(&bytes), size: 0, number: *number };
            let bytes = Bytes::from(bytes);
            whole.apply(&reference, bytes.clone(), &root).unwrap();
            match kind {
                EvidenceKind::RowGroups => later.push((reference, bytes)),
                _ => rooted.apply(&reference, bytes, &root).unwrap(),
            }
        }
    }
    let mut sum = Some(MultisetHash::new());
    for (reference, bytes) in later.clone() {
        rooted.apply_roots(&reference, bytes, &mut sum).unwrap();
    }
    let mut expected = MultisetHash::new();
    for (read, known) in rooted.files.values().zip(whole.files.values()) {
        assert_eq!(read.row_groups.digests().unwrap(), known.row_groups.digests().unwrap());
        assert!(read.row_groups.get().is_err() && read.row_groups.as_read().is_none(), "what was not kept is no empty list");
        for group in known.row_groups.get().unwrap() {
            expected.add(&MultisetHash::from_bytes(group.sum.as_ref().unwrap()).unwrap());
        }
    }
    assert_eq!(sum, Some(expected));
    // A piece that is told twice is refused; one without a sum leaves none.
    let (reference, bytes) = later.pop().unwrap();
    assert!(rooted.apply_roots(&reference, bytes, &mut sum).is_err());
    let mut unhashed = grouped("d.parquet", &[9]);
    unhashed.row_groups = RowGroups::known(vec![SealedRowGroup { sum: None, ..unhashed.row_groups.get().unwrap()[0].clone() }]);
    let delta = Delta { added: vec![&unhashed], ..Delta::default() };
    for (kind, bytes) in delta.encode(&[1; 32]).unwrap() {
        let reference = EvidenceRef { kind, digest: Digest::of(&bytes), size: 0, number: 4 };
        match kind {
            EvidenceKind::RowGroups => rooted.apply_roots(&reference, bytes.into(), &mut sum).unwrap(),
            _ => rooted.apply(&reference, bytes.into(), &root).unwrap(),
        }
    }
    assert_eq!(sum, None);
}
