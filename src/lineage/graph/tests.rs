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
    let outputs: Vec<Output> = outputs.iter().map(|path| output(path)).collect();
    // As what is derived says: what it read of itself and did not write, it removed.
    let own = inputs.iter().flat_map(|input| input.files.iter().flatten()).map(|file| file.path.clone());
    let removed = derived.then(|| own.filter(|path| !outputs.iter().any(|output: &Output| output.path == *path)).collect());
    let operation = "INSERT".to_owned();
    let lineage = Lineage { operation, derived, inputs, outputs, removed, inputs_complete: true, ..Lineage::default() };
    CommitLineage { version, commit: Digest([0; 32]), attested_by: None, table_id: None, restores_baseline: None, lineage }
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

fn down(graph: &Graph, start: &Start) -> Result<Vec<Reached>> {
    Ok(graph.blast_radius(start)?.into_iter().map(|step| graph.reached(step).unwrap()).collect())
}

fn up(graph: &Graph, start: &Start) -> Result<Vec<Reached>> {
    Ok(graph.upstream(start)?.into_iter().map(|step| graph.reached(step).unwrap()).collect())
}

fn files(reached: &[Reached]) -> Vec<(u32, &str, &str)> {
    reached.iter().map(|r| (r.depth, r.table.as_str(), r.file.as_deref().unwrap_or("*"))).collect()
}

#[test]
fn poison_is_followed_through_the_row_groups_that_were_read() {
    let graph = graph();
    let of = |file, row_group| down(&graph, &start("raw", Some(file), row_group)).unwrap();
    assert_eq!(files(&of("a", Some(2))), [(1, "clean", "d"), (2, "features", "f"), (3, "train", "t")]);
    assert_eq!(files(&of("a", Some(1))), [], "row group 1 was pruned");
    assert_eq!(files(&of("a", None)).len(), 3);
    assert_eq!(files(&of("b", Some(7))), [(1, "raw", "c"), (2, "train", "t")], "through a compaction");
    assert_eq!(files(&down(&graph, &start("clean", None, None)).unwrap()), [(1, "features", "f"), (2, "train", "t")]);
}

#[test]
fn upstream_goes_back_to_the_beginning() {
    let graph = graph();
    let found = up(&graph, &start("train", Some("t"), None)).unwrap();
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
    let reached = down(&graph, &start("raw", Some("a"), None)).unwrap();
    assert!(files(&reached).iter().any(|(_, table, file)| (*table, *file) == ("late", "z")), "{reached:?}");
}

#[test]
fn a_table_read_as_a_whole_is_affected_by_what_was_live_only() {
    let mut graph = graph();
    graph.add("count", &commit(0, false, vec![read("raw", 1, None)], &["n"])).unwrap();
    let names = |file: &str| {
        let reached = down(&graph, &start("raw", Some(file), None)).unwrap();
        reached.into_iter().any(|r| r.table == "count")
    };
    assert!(names("a") && names("b"));
    // c came with version 2, after version 1 was read; but it came of b.
    let reached = down(&graph, &start("raw", Some("c"), None)).unwrap();
    assert!(reached.iter().all(|r| r.table != "count"), "{reached:?}");
    graph.add("late", &commit(0, false, vec![read("raw", 2, None)], &["n"])).unwrap();
    let mut of_b = down(&graph, &start("raw", Some("b"), None)).unwrap();
    of_b.retain(|r| r.table == "late");
    assert_eq!(of_b[0].depth, 2, "b itself was removed before version 2: it got there as c");
}

#[test]
fn cycles_end_and_the_unknown_is_named() {
    let mut graph = Graph::new();
    graph.add("x", &commit(0, false, vec![read("y", 0, Some(&[("b", None)]))], &["a"])).unwrap();
    graph.add("y", &commit(0, false, vec![read("x", 0, Some(&[("a", None)]))], &["b"])).unwrap();
    assert_eq!(files(&down(&graph, &start("x", Some("a"), None)).unwrap()), [(1, "y", "b"), (2, "x", "a")]);
    assert_eq!(up(&graph, &start("x", None, None)).unwrap().len(), 2);
    assert_eq!(down(&graph, &start("z", None, None)).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(down(&graph, &start("x", Some("nope"), None)).unwrap_err().kind(), ErrorKind::NotFound);
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

fn whole(table: &str, version: u64) -> Input {
    read(table, version, None)
}

/// raw: a; poison p takes its place; then a commit that says it restored.
fn restored(derived: bool, read: Input, written: &str) -> Graph {
    let mut graph = Graph::new();
    graph.add("raw", &commit(0, false, vec![], &["a"])).unwrap();
    let mut poison = commit(1, false, vec![], &["p"]);
    poison.lineage.removed = Some(vec!["a".to_owned()]);
    graph.add("raw", &poison).unwrap();
    let mut restore = commit(2, derived, vec![read], &[written]);
    restore.lineage.operation = "RESTORE".to_owned();
    restore.lineage.removed = Some(vec!["p".to_owned()]);
    graph.add("raw", &restore).unwrap();
    for (version, table) in [(1, "poisoned"), (2, "healed")] {
        graph.add(table, &commit(0, false, vec![whole("raw", version)], &[table])).unwrap();
    }
    graph
}

#[test]
fn what_was_restored_comes_of_what_was_there_before_and_not_of_what_it_replaces() {
    let recorded = restored(false, read("raw", 0, Some(&[("a", None)])), "restored");
    let derived = restored(true, read("raw", 0, Some(&[("a", None)])), "a");
    for (graph, file) in [(recorded, "restored"), (derived, "a")] {
        let reached = down(&graph, &start("raw", Some("p"), None)).unwrap();
        assert_eq!(files(&reached), [(1, "poisoned", "poisoned")], "of {file}: what was undone is not live any more");
        assert!(down(&graph, &start("raw", Some("a"), None)).unwrap().iter().any(|reached| reached.table == "healed"));
        let upstream = up(&graph, &start("raw", Some(file), None)).unwrap();
        assert_eq!(files(&upstream), [(1, "raw", "a")]);
        assert_eq!((upstream[0].version, upstream[0].operation.as_str(), graph.incomplete()), (Some(0), "RESTORE", 0));
    }
}

#[test]
fn files_that_a_commit_only_says_it_restored_may_come_of_anything_before() {
    let graph = restored(true, read("raw", 0, Some(&[("new", None)])), "new");
    for file in ["a", "p"] {
        let reached = down(&graph, &start("raw", Some(file), None)).unwrap();
        assert!(files(&reached).contains(&(1, "raw", "new")) && files(&reached).contains(&(2, "healed", "healed")), "{file}: {reached:?}");
    }
    let upstream = up(&graph, &start("raw", Some("new"), None)).unwrap();
    assert!(files(&upstream).contains(&(1, "raw", "*")), "{upstream:?}");
    assert_eq!(graph.incomplete(), 1);
}

#[test]
fn what_there_is_no_room_for_counts_as_a_whole_table_that_was_read() {
    let all = || {
        let raw = |version: u64, path: &str| ("raw", commit(version, false, vec![], &[path]));
        let few: &[FileRead<'_>] = &[("a", Some(&[0])), ("b", Some(&[1, 2])), ("c", None)];
        let one: &[FileRead<'_>] = &[("c", Some(&[7]))];
        vec![
            raw(0, "a"),
            raw(1, "b"),
            raw(2, "c"),
            ("raw", commit(3, true, vec![read("raw", 2, Some(&[("b", None)]))], &["d"])),
            ("clean", commit(0, false, vec![read("raw", 2, Some(few))], &["e"])),
            ("clean", commit(1, false, vec![read("raw", 2, Some(one))], &["f"])),
            ("end", commit(0, false, vec![read("clean", 1, Some(&[("f", None)])), read("raw", 3, Some(&[("d", None)]))], &["g"])),
        ]
    };
    let graph = |limits: Limits, readers_first: bool| {
        let mut graph = Graph { limits, ..Graph::new() };
        let mut all = all();
        if readers_first {
            all.reverse();
        }
        all.iter().for_each(|(table, commit)| graph.add(table, commit).unwrap());
        graph
    };
    let exact = graph(Limits::default(), false);
    assert_eq!(exact.coarse(), 0);
    let mut coarse = Vec::new();
    let few_edges = (7..40).map(|edges| (Limits { edges, ..Limits::default() }, false));
    let few_files = (8..40).map(|files| (Limits { files, ..Limits::default() }, true));
    for (limits, readers_first) in few_edges.chain(few_files) {
        let degraded = graph(limits, readers_first);
        coarse.push((readers_first, degraded.coarse()));
        for (file, row_group) in ["a", "b", "c", "d"].into_iter().flat_map(|file| [(file, None), (file, Some(1)), (file, Some(7))]) {
            let start = start("raw", Some(file), row_group);
            let of = |graph: &Graph| -> HashSet<(String, Option<String>)> {
                down(graph, &start).unwrap().into_iter().map(|reached| (reached.table, reached.file)).collect()
            };
            assert!(of(&degraded).is_superset(&of(&exact)), "{limits:?} {file} {row_group:?}: {:?} {:?}", of(&degraded), of(&exact));
        }
    }
    for readers_first in [false, true] {
        let of = || coarse.iter().filter(|(first, _)| *first == readers_first).map(|(_, count)| *count);
        assert!(of().min() == Some(0) && of().max() > Some(0), "{coarse:?}");
    }
    let mut full = Graph { limits: Limits { files: 2, ..Limits::default() }, ..Graph::new() };
    assert_eq!(full.add("raw", &commit(0, false, vec![], &["a", "b", "c"])).unwrap_err().kind(), ErrorKind::Unsupported);
    // So many row groups of one file are all of it.
    let groups: Vec<u32> = (0..5000).collect();
    let mut graph = exact;
    graph.add("many", &commit(0, false, vec![read("raw", 2, Some(&[("c", Some(&groups))]))], &["m"])).unwrap();
    let reached = down(&graph, &start("raw", Some("c"), Some(6000))).unwrap();
    assert!(files(&reached).contains(&(1, "many", "m")));
    assert_eq!(graph.coarse(), 0);
}
