//! Files of another table, whose keys are how a log spells them, and whose table may not answer.

use object_store::ObjectStoreExt as _;

use super::table::{add, remove};
use super::*;
use crate::error::{Error, ErrorKind};
use crate::table::{self, FileKey, ForeignRoot, ForeignRoots, TableSnapshot};

const SOURCE: &str = "file:///src";

/// A sealed table whose baseline lets its log name files of another one, and knows that `a.parquet` of that was removed.
async fn sealed_clone() -> (World, SealedTable) {
    let world = World::sealed().await;
    let mut sealed = world.repository().newest_baseline(&world.trust()).await.unwrap().unwrap();
    let root = ForeignRoot { prefix: SOURCE.into(), url: SOURCE.into(), table_id: "source".into() };
    sealed.statement.foreign_roots = ForeignRoots(vec![root]);
    sealed.removed.insert(FileKey { path: format!("{SOURCE}/a.parquet"), deletion_vector: None }, Some(1));
    (world, sealed)
}

/// What is found of the table now, after a checkpoint has dropped all tombstones.
async fn findings(world: &World, sealed: &SealedTable) -> Vec<Finding> {
    let mut snapshot: TableSnapshot = table::load(&*world.store, &world.root, None).await.unwrap();
    snapshot.tombstones.clear();
    sealed.statement.foreign_roots.place(&world.root, &mut snapshot);
    let writers = Writers::default();
    let place =
        Place { store: &*world.store, root: &world.root, location: LOCATION, now_ms: NOW_MS + 2000, writers: &writers, memory: None };
    compare_log(&place, &snapshot, sealed).await.unwrap().findings
}

fn verdicts_of(findings: &[Finding], path: &str, commit: u64) -> Vec<Verdict> {
    let of = findings.iter().filter(|finding| finding.file.as_deref() == Some(path) && finding.commit == Some(commit));
    of.map(|finding| finding.verdict).collect()
}

#[tokio::test]
async fn a_removed_file_of_another_table_does_not_come_back_in_a_second_spelling() {
    let (world, sealed) = sealed_clone().await;
    for (path, wanted) in [
        ("file:///src/a.parquet", Verdict::Resurrected),
        ("file:/src/a.parquet", Verdict::Forged),
        ("file:///src/./a.parquet", Verdict::Forged),
        ("file:///src/%61.parquet", Verdict::Forged),
    ] {
        world.commit(4, "WRITE", &[add(path, 4000, 100)]).await;
        let found = findings(&world, &sealed).await;
        assert!(verdicts_of(&found, path, 4).contains(&wanted), "{path}: {found:#?}");
    }
    // Another file of that table is merely not sealed.
    world.commit(4, "WRITE", &[add("file:///src/b.parquet", 4000, 100)]).await;
    let found = findings(&world, &sealed).await;
    assert!(found.iter().all(|finding| finding.verdict == Verdict::Unsealed), "{found:#?}");
}

#[tokio::test]
async fn nor_does_one_that_came_and_went_after_the_baseline() {
    let (world, sealed) = sealed_clone().await;
    let (one, second) = ("file:///src/new.parquet", "file:/src/new.parquet");
    world.commit(4, "WRITE", &[add(one, 4000, 100)]).await;
    world.commit(5, "DELETE", &[remove(one)]).await;
    assert!(findings(&world, &sealed).await.iter().all(|finding| finding.verdict == Verdict::Unsealed));
    world.commit(6, "WRITE", &[add(second, 4000, 100)]).await;
    let found = findings(&world, &sealed).await;
    assert!(verdicts_of(&found, second, 6).contains(&Verdict::Forged), "{found:#?}");
    // To remove it in another spelling is what engines understand differently, too.
    world.commit(6, "WRITE", &[add(one, 4000, 100)]).await;
    world.commit(7, "DELETE", &[remove(second)]).await;
    let found = findings(&world, &sealed).await;
    assert!(verdicts_of(&found, second, 7).contains(&Verdict::Forged), "{found:#?}");
}

#[tokio::test]
async fn a_table_that_cannot_be_listed_hides_nothing_of_the_clone_itself() {
    let (world, mut sealed) = sealed_clone().await;
    let mut snapshot = table::load(&*world.store, &world.root, None).await.unwrap();
    let mut file = SealedFile::clone(sealed.file_at("f1.parquet").unwrap());
    let path = format!("{SOURCE}/live.parquet");
    let live = Arc::make_mut(&mut file.live);
    live.location = sealed.statement.foreign_roots.location(&world.root, &path);
    live.key.path = path;
    snapshot.files.insert(file.live.key.clone(), file.live.clone());
    sealed.files.insert(file.live.key.clone(), Arc::new(file));
    world.store.delete(&world.file("f2.parquet")).await.unwrap();

    let failed = Error::new(ErrorKind::Unavailable, "nobody answers");
    let repository = world.repository().without_roots_of(&sealed.statement, &failed);
    let sizes = presence::sizes(&*world.store, &world.root).await.unwrap();
    let (mut found, error) = presence::compare_presence(&repository, sizes, &snapshot, &sealed).await;
    assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::Unavailable));
    found.sort();
    let told: Vec<_> = found.iter().map(|finding| (finding.verdict, finding.file.as_deref())).collect();
    assert_eq!(told.len(), 2, "{found:#?}");
    assert!(told.contains(&(Verdict::Missing, Some("f2.parquet"))) && told.contains(&(Verdict::Undetermined, None)), "{found:#?}");
    let text = found.iter().map(ToString::to_string).collect::<String>();
    assert!(text.contains(SOURCE) && text.contains("nobody answers"), "{text}");
}
