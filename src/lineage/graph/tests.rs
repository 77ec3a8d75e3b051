use super::*;
use crate::digest::Digest;
use crate::lineage::{Input, InputFile, Lineage, Output};

fn output(path: &str) -> Output {
    Output { path: path.to_owned(), size: 1, digest: None, row_groups: None }
}

/// A file, and the row groups of it.
type FileRead<'a> = (&'a str, Option<&'a [u32]>);

fn read(table: &str, version: u64, files: Option<&[FileRead<'_>]>) -> Input {
    let file = |(path, groups): &(&str, Option<&[u32]>)| InputFile {
        path: (*path).to_owned(),
        digest: None,
        row_groups: groups.map(<[u32]>::to_vec),
    };
    Input {
        kind: InputKind::Table,
        uri: table.to_owned(),
        name: None,
        table_id: None,
        version: Some(version),
        digest: None,
        baseline: None,
        files: files.map(|files| files.iter().map(file).collect()),
    }
}

fn commit(version: u64, derived: bool, inputs: Vec<Input>, outputs: &[&str]) -> CommitLineage {
    let outputs = outputs.iter().map(|path| output(path)).collect();
    let lineage = Lineage { operation: "INSERT".to_owned(), derived, inputs, outputs, inputs_complete: true, ..Lineage::default() };
    CommitLineage { version, commit: Digest([0; 32]), attested_by: None, table_id: None, lineage }
}

/// raw: a, b (rewritten into c); clean reads row groups 0 and 2 of a; features read all of clean; train reads features' f and raw's c.
fn graph() -> Graph {
    let mut graph = Graph::new();
    graph.add("raw", &commit(0, false, vec![], &["a"])).unwrap();
    graph.add("raw", &commit(1, false, vec![], &["b"])).unwrap();
    graph.add("raw", &commit(2, true, vec![read("raw", 1, Some(&[("b", None)]))], &["c"])).unwrap();
    graph.add("clean", &commit(0, false, vec![read("raw", 0, Some(&[("a", Some(&[0, 2]))]))], &["d"])).unwrap();
    graph.add("features", &commit(0, false, vec![read("clean", 0, None)], &["f"])).unwrap();
    let inputs = vec![read("features", 0, Some(&[("f", None)])), read("raw", 2, Some(&[("c", None)]))];
    graph.add("train", &commit(0, false, inputs, &["t"])).unwrap();
    graph
}

fn start(table: &str, file: Option<&str>, row_group: Option<u32>) -> Start {
    Start { table: table.to_owned(), file: file.map(str::to_owned), row_group }
}

fn files(reached: &[Reached]) -> Vec<(u32, &str, &str)> {
    reached.iter().map(|r| (r.depth, r.table.as_str(), r.file.as_deref().unwrap_or("*"))).collect()
}

#[test]
fn poison_is_followed_through_the_row_groups_that_were_read() {
    let graph = graph();
    let of = |file, row_group| graph.blast_radius(&start("raw", Some(file), row_group)).unwrap();
    assert_eq!(files(&of("a", Some(2))), [(1, "clean", "d"), (2, "features", "f"), (3, "train", "t")]);
    assert_eq!(files(&of("a", Some(1))), [], "row group 1 was pruned");
    assert_eq!(files(&of("a", None)).len(), 3);
    assert_eq!(files(&of("b", Some(7))), [(1, "raw", "c"), (2, "train", "t")], "through a compaction");
    assert_eq!(files(&graph.blast_radius(&start("clean", None, None)).unwrap()), [(1, "features", "f"), (2, "train", "t")]);
}

#[test]
fn upstream_goes_back_to_the_beginning() {
    let graph = graph();
    let found = graph.upstream(&start("train", Some("t"), None)).unwrap();
    assert_eq!(files(&found), [(1, "features", "f"), (1, "raw", "c"), (2, "clean", "*"), (2, "raw", "b"), (3, "raw", "a")]);
    assert_eq!(found[4].row_groups, Some(vec![0, 2]));
    assert_eq!((found[4].via_table.as_str(), found[4].version), ("clean", Some(0)));
}

#[test]
fn a_file_that_is_removed_and_added_again_is_still_read_with_the_whole_table() {
    let mut graph = graph();
    // A DELETE that sets a deletion vector removes and adds the same path.
    graph.add("raw", &commit(3, true, vec![read("raw", 2, Some(&[("a", None)]))], &["a"])).unwrap();
    graph.add("late", &commit(0, false, vec![read("raw", 3, None)], &["z"])).unwrap();
    let reached = graph.blast_radius(&start("raw", Some("a"), None)).unwrap();
    assert!(files(&reached).iter().any(|(_, table, file)| (*table, *file) == ("late", "z")), "{reached:?}");
}

#[test]
fn a_table_read_as_a_whole_is_affected_by_what_was_live_only() {
    let mut graph = graph();
    graph.add("count", &commit(0, false, vec![read("raw", 1, None)], &["n"])).unwrap();
    let names = |file: &str| {
        let reached = graph.blast_radius(&start("raw", Some(file), None)).unwrap();
        reached.into_iter().any(|r| r.table == "count")
    };
    assert!(names("a") && names("b"));
    // c came with version 2, after version 1 was read; but it came of b.
    let reached = graph.blast_radius(&start("raw", Some("c"), None)).unwrap();
    assert!(reached.iter().all(|r| r.table != "count"), "{reached:?}");
    graph.add("late", &commit(0, false, vec![read("raw", 2, None)], &["n"])).unwrap();
    let mut of_b = graph.blast_radius(&start("raw", Some("b"), None)).unwrap();
    of_b.retain(|r| r.table == "late");
    assert_eq!(of_b[0].depth, 2, "b itself was removed before version 2: it got there as c");
}

#[test]
fn cycles_end_and_the_unknown_is_named() {
    let mut graph = Graph::new();
    graph.add("x", &commit(0, false, vec![read("y", 0, Some(&[("b", None)]))], &["a"])).unwrap();
    graph.add("y", &commit(0, false, vec![read("x", 0, Some(&[("a", None)]))], &["b"])).unwrap();
    assert_eq!(files(&graph.blast_radius(&start("x", Some("a"), None)).unwrap()), [(1, "y", "b"), (2, "x", "a")]);
    assert_eq!(graph.upstream(&start("x", None, None)).unwrap().len(), 2);
    assert_eq!(graph.blast_radius(&start("z", None, None)).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(graph.blast_radius(&start("x", Some("nope"), None)).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn tables_and_files_that_no_known_commit_wrote_are_named() {
    let mut graph = graph();
    assert_eq!((graph.unknown_tables(), graph.unknown_files()), (vec![], 0));
    graph.add("train", &commit(1, false, vec![read("lost", 3, Some(&[("x", None)])), read("gone", 0, None)], &["u"])).unwrap();
    graph.add("train", &commit(2, false, vec![read("raw", 2, Some(&[("never written", None), ("c", None)]))], &["v"])).unwrap();
    assert_eq!(graph.unknown_tables(), ["lost", "gone"]);
    assert_eq!(graph.unknown_files(), 1);
}
