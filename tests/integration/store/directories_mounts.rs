//! Directories on file systems that are full, mounted read-only or unmounted. Needs mount namespaces; skipped loudly where there are none.

use std::path::{Path as FsPath, PathBuf};
use std::process::Command;

use futures::TryStreamExt as _;
use lakeseal::ErrorKind;
use lakeseal::region::directory::DirectoryStore;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};

use super::content;
use super::crash::lake::{CrashLake, again, environment};
use super::directories::{THREE_AND_TWO, create, files, is_unavailable, kind, region};

/// Runs an ignored test in a mount namespace of its own, where it may mount what it likes; says loudly when that cannot be done.
fn in_own_mounts(test: &str) {
    let directory = tempfile::tempdir().unwrap();
    let plain = again(test, &[]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(plain.get_program()).args(plain.get_args());
    command.env("LAKESEAL_CRASH_DIR", directory.path());
    match Command::new("unshare").args(["--mount", "true"]).status() {
        Ok(status) if status.success() => {}
        outcome => return println!("SKIPPED {test}: no mount namespaces here ({outcome:?})"),
    }
    let output = command.output().unwrap();
    let log = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && log.contains("1 passed"), "{log}");
    print!("{log}");
}

fn mount(arguments: &[&str], at: &FsPath) -> bool {
    std::fs::create_dir_all(at).unwrap();
    Command::new("mount").args(arguments).arg(at).status().is_ok_and(|status| status.success())
}

fn unmount(at: &FsPath) {
    // Lazily: requests to what was there may still be under way.
    assert!(Command::new("umount").arg("--lazy").arg(at).status().unwrap().success());
}

#[test]
fn full_read_only_and_unmounted_file_systems_give_clear_errors_and_nothing_half_written() {
    in_own_mounts("store::directories_mounts::child_mounts");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by another test, in a mount namespace"]
async fn child_mounts() {
    let Some(directory) = environment("DIR") else { return println!("nothing to do: another test starts this one") };
    let directory = PathBuf::from(directory);
    let small = directory.join("small");
    if !mount(&["-t", "tmpfs", "-o", "size=300k", "tmpfs"], &small) {
        return println!("SKIPPED: no tmpfs can be mounted here");
    }
    full(&small).await;
    unmount(&small);
    read_only(&directory.join("sealed")).await;
    unmounted(&directory.join("disk")).await;
    full_lake(&directory.join("lake")).await;
}

async fn full(root: &FsPath) {
    let (store, vote) = region(root).await;
    let before = files(root);
    for _ in 0..3 {
        let key = Path::from("d/large");
        for error in [
            store.put(&key, content(1, 1_000_000).into()).await.unwrap_err(),
            store.put_opts(&key, content(1, 1_000_000).into(), create()).await.unwrap_err(),
        ] {
            assert!(error.to_string().contains("disk is full"), "{error}");
            assert_eq!(kind(error), ErrorKind::Io);
        }
        let mut upload = store.put_multipart(&key).await.unwrap();
        let part = upload.put_part(content(1, 1_000_000).into()).await.unwrap_err();
        assert!(part.to_string().contains("disk is full"), "{part}");
        assert!(upload.complete().await.is_err());
        assert!(matches!(store.get(&key).await, Err(object_store::Error::NotFound { .. })));
    }
    let left: Vec<_> = files(root).into_iter().filter(|file| !before.contains(file) && file.is_file()).collect();
    assert_eq!(left, Vec::<PathBuf>::new(), "half-written files are left");
    assert_eq!(store.get(&vote).await.unwrap().bytes().await.unwrap(), "vote");
    store.put(&Path::from("d/small"), content(2, 10_000).into()).await.unwrap();
}

async fn read_only(root: &FsPath) {
    assert!(mount(&["-t", "tmpfs", "tmpfs"], root));
    let (store, vote) = region(root).await;
    assert!(mount(&["-o", "remount,ro"], root));
    let key = Path::from("d/x");
    for error in [store.put(&key, "x".into()).await.unwrap_err(), store.put_opts(&vote, "x".into(), create()).await.unwrap_err()] {
        assert!(error.to_string().contains("read-only"), "{error}");
        assert_eq!(kind(error), ErrorKind::Io);
    }
    let error = store.delete(&vote).await.unwrap_err();
    assert!(error.to_string().contains("read-only"), "{error}");
    assert_eq!(store.get(&vote).await.unwrap().bytes().await.unwrap(), "vote");
    assert_eq!(store.list(Some(&Path::from("i"))).try_collect::<Vec<_>>().await.unwrap().len(), 1);
    let error = DirectoryStore::new(root.join("new"), true).make_root().unwrap_err();
    assert!(error.to_string().contains("read-only"), "{error}");
    unmount(root);
}

/// What an operator sees who forgets to mount a disk: an empty directory in its place.
async fn unmounted(root: &FsPath) {
    assert!(mount(&["-t", "tmpfs", "tmpfs"], root));
    let (store, vote) = region(root).await;
    unmount(root);
    assert!(root.is_dir());
    is_unavailable(&store, &vote, "unmounted").await;
}

/// Two of five regions are full: writes go on. Three: an error that says so, and nothing half-written.
async fn full_lake(directory: &FsPath) {
    std::fs::create_dir(directory).unwrap();
    for index in 0..3 {
        assert!(mount(&["-t", "tmpfs", "-o", "size=400k", "tmpfs"], &directory.join(format!("r{index}"))));
    }
    let lake = CrashLake::made(directory, THREE_AND_TWO).await;
    let store = lake.open().await;
    let mut written = Vec::new();
    let fill = |index: usize| {
        let path = lake.region(index).join("#tmp-filler");
        let mut size = 400 * 1024;
        // As much as there is room for.
        while std::fs::write(&path, vec![0; size]).is_err() {
            size -= 4096;
        }
        path
    };
    for full in 0..=3usize {
        let path = Path::from(format!("t/{full}"));
        let bytes = content(full, 150_000);
        let outcome = store.put(&path, bytes.clone().into()).await;
        if full <= 2 {
            outcome.unwrap_or_else(|error| panic!("{full} regions are full: {error}"));
            written.push((path, bytes));
        } else {
            let error = outcome.unwrap_err();
            assert!(error.to_string().contains("disk is full"), "{error}");
            assert_eq!(kind(error), ErrorKind::Unavailable);
        }
        store.quiesce().await;
        if full < 3 {
            fill(full);
        }
    }
    let cold = lake.open().await;
    for (path, bytes) in &written {
        assert!(cold.get(path).await.unwrap().bytes().await.unwrap() == *bytes, "{path}");
    }
    assert!(matches!(cold.get(&"t/3".into()).await, Err(object_store::Error::NotFound { .. })));
    assert_eq!(cold.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 3);
    // With room again, writing goes on.
    std::fs::remove_file(lake.region(0).join("#tmp-filler")).unwrap();
    cold.put(&"t/3".into(), content(9, 150_000).into()).await.unwrap();
    for index in 0..3 {
        unmount(&lake.region(index));
    }
}
