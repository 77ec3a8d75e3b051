use object_store::ObjectStoreExt as _;
use object_store::integration;
use object_store::memory::InMemory;
use proptest::prelude::*;

use super::*;
use crate::clock::{Clock as _, SystemClock};

fn store() -> (tempfile::TempDir, DirectoryStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new(directory.path(), true);
    (directory, store)
}

fn kind(error: object_store::Error) -> ErrorKind {
    Error::from(error).kind()
}

async fn keys(stream: BoxStream<'static, Result<ObjectMeta>>) -> Vec<String> {
    stream.map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap()
}

#[tokio::test]
async fn passes_the_conformance_suite() {
    let (_directory, store) = store();
    integration::put_get_delete_list(&store).await;
    integration::get_opts(&store).await;
    integration::list_uses_directories_correctly(&store).await;
    integration::list_with_delimiter(&store).await;
    integration::rename_and_copy(&store).await;
    integration::copy_if_not_exists(&store).await;
    integration::copy_rename_nonexistent_object(&store).await;
    integration::put_opts(&store, false).await;
    store.delete(&Path::from("put_opts")).await.unwrap();
    integration::stream_get(&store).await;
    integration::list_with_offset_exclusivity(&store).await;
    integration::multipart_out_of_order(&store).await;
    integration::multipart_race_condition(&store, true).await;
}

#[tokio::test]
async fn of_a_table_s_directory_nothing_is_said_of_regions() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("t");
    std::fs::create_dir(&root).unwrap();
    let store = DirectoryStore::of_table(&root);
    store.put(&Path::from("a"), "x".into()).await.unwrap();
    std::fs::remove_dir_all(&root).unwrap();
    let error = Error::from(store.get(&Path::from("a")).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("was removed") && !error.to_string().contains("vote"), "{error}");
}

#[tokio::test]
async fn a_missing_root_is_unavailable_and_stays_missing() {
    let (directory, store) = store();
    let key = Path::from("i/a/b");
    store.put(&key, "x".into()).await.unwrap();
    std::fs::remove_dir_all(directory.path()).unwrap();
    assert_eq!(kind(store.put(&key, "x".into()).await.unwrap_err()), ErrorKind::Unavailable);
    let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    assert_eq!(kind(store.put_opts(&key, "x".into(), create).await.unwrap_err()), ErrorKind::Unavailable);
    assert_eq!(kind(store.get(&key).await.unwrap_err()), ErrorKind::Unavailable);
    assert_eq!(kind(store.delete(&key).await.unwrap_err()), ErrorKind::Unavailable);
    let listed: Vec<_> = store.list(Some(&Path::from("i"))).collect().await;
    assert!(listed.len() == 1 && listed[0].is_err());
    assert_eq!(kind(store.list_with_delimiter(None).await.unwrap_err()), ErrorKind::Unavailable);
    assert_eq!(kind(store.put_multipart(&key).await.unwrap_err()), ErrorKind::Unavailable);
    assert!(!directory.path().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn create_has_one_winner() {
    let (_directory, store) = store();
    for round in 0..20 {
        let key = Path::from(format!("r/{round}"));
        let race = (0..16).map(|task| {
            let (store, key) = (store.clone(), key.clone());
            let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            tokio::spawn(async move { store.put_opts(&key, vec![task; 4096].into(), create).await.map(|_| task) })
        });
        let outcomes = futures::future::join_all(race.collect::<Vec<_>>()).await;
        let (mut won, mut lost) = (Vec::new(), 0);
        for outcome in outcomes {
            match outcome.unwrap() {
                Ok(task) => won.push(task),
                Err(error) => {
                    assert_eq!(kind(error), ErrorKind::AlreadyExists);
                    lost += 1;
                }
            }
        }
        assert_eq!((won.len(), lost), (1, 15));
        assert_eq!(store.get(&key).await.unwrap().bytes().await.unwrap(), vec![won[0]; 4096]);
    }
    assert_eq!(std::fs::read_dir(store.root().join("r")).unwrap().count(), 20, "temporary files are gone");
}

#[tokio::test]
async fn lists_are_sorted_by_key_bytes_and_skip_what_is_no_object() {
    let (directory, store) = store();
    for key in ["a!/1", "a%20b!/1", "a/b!/2", "a.b", "a/b/c!/1", "aa", "ä/1", "B"] {
        store.put(&Path::parse(key).unwrap(), "x".into()).await.unwrap();
    }
    std::fs::write(directory.path().join("a!").join("#tmp-stale"), "x").unwrap();
    std::fs::create_dir(directory.path().join("empty")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(directory.path(), directory.path().join("loop")).unwrap();
    let sorted = ["B", "a!/1", "a%20b!/1", "a.b", "a/b!/2", "a/b/c!/1", "aa", "ä/1"];
    assert_eq!(keys(store.list(None)).await, sorted);
    for (i, key) in sorted.iter().enumerate() {
        assert_eq!(keys(store.list_with_offset(None, &Path::parse(key).unwrap())).await, sorted[i + 1..], "after {key}");
    }
    assert_eq!(keys(store.list_with_offset(Some(&Path::from("a")), &Path::parse("a/b!/~").unwrap())).await, ["a/b/c!/1"]);
    assert_eq!(keys(store.list(Some(&Path::from("nothing")))).await, Vec::<String>::new());
    let level = store.list_with_delimiter(None).await.unwrap();
    assert_eq!(level.common_prefixes.iter().map(Path::as_ref).collect::<Vec<_>>(), ["a!", "a%20b!", "a", "ä"]);
}

#[cfg(unix)]
#[tokio::test]
async fn an_object_is_as_old_as_its_name_and_not_as_its_bytes() {
    let (_directory, store) = store();
    for placing in [Placing::Create, Placing::Overwrite] {
        let key = Path::from(format!("i/{placing:?}"));
        // Written by a process that was suspended for a year before it came to placing it.
        let staged = store.files.stage(&key).unwrap();
        let year = std::time::Duration::from_secs(365 * 24 * 60 * 60);
        staged.file.set_modified(staged.file.metadata().unwrap().modified().unwrap() - year).unwrap();
        let before_ms = SystemClock.now_ms();
        let placed = store.files.place(&staged, &key, placing).unwrap();
        drop(staged);
        let listed = store.list(None).try_collect::<Vec<_>>().await.unwrap().into_iter().find(|meta| meta.location == key).unwrap();
        let (found, stamp_ms) = (store.head(&key).await.unwrap(), listed.last_modified.timestamp_millis());
        // The kernel's clock for files may lag a tick behind.
        assert!(stamp_ms >= before_ms - 1000, "{placing:?}: {stamp_ms} is not {before_ms}");
        assert_eq!((&found.e_tag, found.last_modified), (&placed.e_tag, listed.last_modified));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn an_offset_skips_directories_without_reading_them() {
    let (directory, store) = store();
    for n in 0..3 {
        store.put(&Path::from(format!("d/{n}/x")), "x".into()).await.unwrap();
    }
    // Reading a directory whose access time is older than its modification sets the access time, even under `relatime`.
    let unread = directory.path().join("d").join("0");
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    let file = std::fs::File::open(&unread).unwrap();
    file.set_times(std::fs::FileTimes::new().set_accessed(time).set_modified(time)).unwrap();
    let mut walk = walk::Walk::new(Arc::clone(&store.files), None, Some(&Path::from("d/1")));
    let found: Vec<_> = walk.batch().unwrap().into_iter().map(|meta| meta.location.to_string()).collect();
    assert_eq!(found, ["d/1/x", "d/2/x"]);
    let accessed = std::fs::metadata(&unread).unwrap().accessed().unwrap();
    assert!(accessed == time, "directory 0 was read");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn lists_as_memory_does(names in proptest::collection::btree_set("[a!.0][a!.0]{0,2}x(/[b!.]x){0,2}y", 1..12), offset in "[a!.0]{1,2}x(/[b!.]x){0,2}y?") {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let store = DirectoryStore::new(directory.path(), false);
            let memory = InMemory::new();
            for name in &names {
                let key = Path::parse(name).unwrap();
                store.put(&key, "x".into()).await.unwrap();
                memory.put(&key, "x".into()).await.unwrap();
            }
            let offset = Path::parse(offset).unwrap();
            assert_eq!(keys(store.list(None)).await, keys(memory.list(None)).await);
            assert_eq!(keys(store.list_with_offset(None, &offset)).await, keys(memory.list_with_offset(None, &offset)).await);
        });
    }
}

#[tokio::test]
async fn parts_may_be_written_in_any_order_and_an_abort_leaves_nothing() {
    let (directory, store) = store();
    let key = Path::from("d/x");
    let mut upload = store.put_multipart(&key).await.unwrap();
    let (first, second) = (upload.put_part("abc".into()), upload.put_part("de".into()));
    second.await.unwrap();
    first.await.unwrap();
    upload.complete().await.unwrap();
    assert_eq!(store.get(&key).await.unwrap().bytes().await.unwrap(), "abcde");
    assert!(upload.complete().await.is_err());

    let mut lost = store.put_multipart(&key).await.unwrap();
    lost.put_part("abc".into()).await.unwrap();
    drop(lost.put_part("never awaited".into()));
    assert!(lost.complete().await.is_err());

    let mut aborted = store.put_multipart(&key).await.unwrap();
    aborted.put_part("zzz".into()).await.unwrap();
    aborted.abort().await.unwrap();
    assert_eq!(store.get(&key).await.unwrap().bytes().await.unwrap(), "abcde");
    assert_eq!(std::fs::read_dir(directory.path().join("d")).unwrap().count(), 1);
}

#[tokio::test]
async fn a_large_file_comes_as_a_stream_and_by_ranges() {
    let (_directory, store) = store();
    let key = Path::from("big");
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    store.put(&key, bytes.clone().into()).await.unwrap();
    let result = store.get(&key).await.unwrap();
    assert!(matches!(result.payload, GetResultPayload::Stream(_)));
    assert_eq!(result.bytes().await.unwrap(), bytes);
    let parts = store.get_ranges(&key, &[5..9, 2_999_990..3_000_005]).await.unwrap();
    assert_eq!(parts[0], bytes[5..9]);
    assert_eq!(parts[1], bytes[2_999_990..]);
    assert!(store.get_ranges(&key, std::slice::from_ref(&(3_000_000..3_000_001))).await.is_err());
}

#[tokio::test]
async fn what_the_system_refuses_is_said_clearly() {
    let (_directory, store) = store();
    let key = Path::from("a");
    store.put(&key, "x".into()).await.unwrap();
    let below = store.put(&Path::from("a/b"), "x".into()).await.unwrap_err();
    assert_eq!(kind(below), ErrorKind::InvalidInput);
    assert_eq!(kind(store.get(&Path::from("a/b")).await.unwrap_err()), ErrorKind::NotFound);
    assert_eq!(kind(store.put(&Path::parse("d/#tmp-1").unwrap(), "x".into()).await.unwrap_err()), ErrorKind::InvalidInput);
    let full = files::refused(std::io::ErrorKind::StorageFull.into(), "writing");
    assert!(full.kind() == ErrorKind::Io && full.message().contains("disk is full"), "{full}");
    assert_eq!(Error::from(full.into_object_store(&key)).kind(), ErrorKind::Io);
    let denied = files::refused(std::io::ErrorKind::PermissionDenied.into(), "writing");
    assert_eq!(Error::from(denied.into_object_store(&key)).kind(), ErrorKind::Permission);
    let long = store.put(&Path::from("n".repeat(300)), "x".into()).await.unwrap_err();
    assert_eq!(kind(long), ErrorKind::InvalidInput);
}

#[test]
fn a_file_system_that_folds_case_or_normalizes_names_is_refused() {
    use std::cell::RefCell;
    type Fold = fn(&str) -> String;
    let folds: [(Fold, Option<&str>); 4] = [
        (str::to_owned, None),
        (|name| name.to_lowercase(), Some("case")),
        // The only decomposed letter that is tried.
        (|name| name.replace("e\u{301}", "\u{e9}"), Some("normalization")),
        (|name| name.replace('\u{e9}', "e\u{301}"), Some("normalization")),
    ];
    for (fold, refused) in folds {
        let files: RefCell<Vec<String>> = RefCell::default();
        let make = |name: &str| {
            files.borrow_mut().push(fold(name));
            Ok(())
        };
        let checked = root::check_names(make, |name| Ok(files.borrow().contains(&fold(name))));
        match refused {
            None => checked.unwrap(),
            Some(difference) => {
                let error = checked.unwrap_err();
                assert!(error.kind() == ErrorKind::Unsupported && error.message().contains(difference), "{error}");
            }
        }
    }
    let full = root::check_names(|_| Err(std::io::ErrorKind::StorageFull.into()), |_| Ok(false)).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Io);
}

#[cfg(unix)]
#[tokio::test]
async fn an_id_that_is_found_under_another_spelling_is_no_regions() {
    let (directory, store) = store();
    store.put(&Path::from("id"), "x".into()).await.unwrap();
    // What a folding file system would answer: one file under both names.
    std::fs::hard_link(directory.path().join("id"), directory.path().join("ID")).unwrap();
    let opened = DirectoryStore::new(directory.path(), false);
    assert_eq!(kind(opened.get(&Path::from("id")).await.unwrap_err()), ErrorKind::Unsupported);
    std::fs::remove_file(directory.path().join("ID")).unwrap();
    std::fs::write(directory.path().join("ID"), "another file").unwrap();
    assert_eq!(opened.get(&Path::from("id")).await.unwrap().bytes().await.unwrap(), "x");
}

#[tokio::test]
async fn a_root_is_made_with_its_parents_and_left_empty() {
    let directory = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new(directory.path().join("a/b/c"), true);
    store.make_root().unwrap();
    store.make_root().unwrap();
    assert_eq!(std::fs::read_dir(store.root()).unwrap().count(), 0);
}
