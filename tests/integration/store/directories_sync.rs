//! What is on the disk before a directory acknowledges: read from the system calls that `strace` sees.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use lakeseal::region::directory::DirectoryStore;
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _};

use super::crash::lake::{again, environment};
use super::directories::create;

/// One thing that was done to the file system, when it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    Synced(String),
    Placed { from: String, to: String },
    Made(String),
    Removed(String),
    Acknowledged { verb: String, key: String },
}

/// Writes to a directory and says in a file what was acknowledged. Not a test by itself.
#[tokio::test]
#[ignore = "started by another test, under strace"]
async fn child_writes_to_a_directory() {
    let Some(directory) = environment("DIR") else { return println!("nothing to do: another test starts this one") };
    let directory = PathBuf::from(directory);
    let mut journal = std::fs::File::create(directory.join("journal")).unwrap();
    let mut note = move |line: String| journal.write_all(line.as_bytes()).unwrap();
    let store = DirectoryStore::new(directory.join("new/parent/r"), environment("FSYNC").is_some());
    store.make_root().unwrap();
    note("ack root -".to_owned());
    for key in ["i/a-/b!/0.0", "i/a-/b!/0.1", "i/a-/c!/0.0", "id"] {
        store.put_opts(&Path::parse(key).unwrap(), "vote".into(), create()).await.unwrap();
        note(format!("ack create {key}"));
    }
    for key in ["d/ab/x/0", "d/ab/x/0", "d/ab/y/0", "d/cd/x/0"] {
        store.put(&Path::from(key), vec![7; 100_000].into()).await.unwrap();
        note(format!("ack put {key}"));
    }
    let mut upload = store.put_multipart(&Path::from("d/ef/x/0")).await.unwrap();
    upload.put_part("part".into()).await.unwrap();
    upload.complete().await.unwrap();
    note("ack put d/ef/x/0".to_owned());
    store.delete(&Path::from("d/ab/x/0")).await.unwrap();
    note("ack delete d/ab/x/0".to_owned());
}

/// The calls of a run under strace, in the order in which they ended; nothing when there is no strace.
fn traced(fsync: bool) -> Option<(tempfile::TempDir, Vec<Call>)> {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("strace");
    let plain = again("store::directories_sync::child_writes_to_a_directory", &[]);
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-y",
        "-s",
        "200",
        "-e",
        "trace=fsync,fdatasync,link,linkat,rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,write",
    ]);
    command.arg("-o").arg(&log).arg(plain.get_program()).args(plain.get_args()).env("LAKESEAL_CRASH_DIR", directory.path());
    match fsync {
        true => command.env("LAKESEAL_CRASH_FSYNC", "1"),
        false => command.env_remove("LAKESEAL_CRASH_FSYNC"),
    };
    let output = match command.output() {
        Ok(output) if output.status.success() => output,
        outcome => {
            println!("SKIPPED: system calls cannot be traced here: {outcome:?}");
            return None;
        }
    };
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    let calls = parse(&std::fs::read_to_string(&log).unwrap());
    Some((directory, calls))
}

fn parse(log: &str) -> Vec<Call> {
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let Some((pid, text)) = line.split_once(' ') else { continue };
        let text = text.trim_start();
        if let Some(start) = text.strip_suffix("<unfinished ...>") {
            begun.insert(pid, start);
            continue;
        }
        let (start, end) = if text.starts_with("<...") { (begun.remove(pid).unwrap_or(""), text) } else { (text, text) };
        if end.rsplit_once("= ").is_none_or(|(_, result)| result.starts_with('-')) {
            continue;
        }
        let quoted: Vec<String> = start.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        let first = quoted.first().cloned().unwrap_or_default();
        let name = start.split('(').next().unwrap_or("");
        match name {
            "fsync" | "fdatasync" => {
                let path = start.split_once('<').and_then(|(_, rest)| rest.rsplit_once('>')).map(|(path, _)| path.to_owned());
                calls.push(Call::Synced(path.unwrap()));
            }
            "write" => {
                if let Some(text) = first.strip_prefix("ack ") {
                    let (verb, key) = text.split_once(' ').unwrap();
                    calls.push(Call::Acknowledged { verb: verb.to_owned(), key: key.to_owned() });
                }
            }
            name if name.starts_with("mkdir") => calls.push(Call::Made(first)),
            name if name.starts_with("unlink") => calls.push(Call::Removed(first)),
            _ => calls.push(Call::Placed { from: first, to: quoted[1].clone() }),
        }
    }
    calls
}

fn parent(path: &str) -> String {
    path.rsplit_once('/').unwrap().0.to_owned()
}

#[test]
fn a_directory_acknowledges_only_what_is_on_the_disk_with_every_new_parent() {
    let Some((directory, calls)) = traced(true) else { return };
    let root = directory.path().join("new/parent/r").to_str().unwrap().to_owned();
    let is_synced = |path: &str, within: std::ops::Range<usize>| calls[within].contains(&Call::Synced(path.to_owned()));
    let mut acknowledged = 0;
    let mut before = 0;
    for (at, call) in calls.iter().enumerate() {
        let Call::Acknowledged { verb, key } = call else { continue };
        acknowledged += 1;
        // Directories that were made for it, or for the root: each one's parent was synced since.
        for (made_at, made) in calls.iter().enumerate().take(at).skip(before) {
            if let Call::Made(made) = made
                && !made.contains("#tmp-")
            {
                assert!(is_synced(&parent(made), made_at..at), "{verb} {key}: {made} was made, its parent not synced: {calls:#?}");
            }
        }
        let target = format!("{root}/{key}");
        let range = before..at;
        match verb.as_str() {
            "root" => assert!(calls[range].iter().filter(|call| matches!(call, Call::Made(_))).count() >= 3),
            "delete" => {
                let removed_at = before + calls[range].iter().position(|call| *call == Call::Removed(target.clone())).unwrap();
                assert!(is_synced(&parent(&target), removed_at..at), "{key}: {calls:#?}");
            }
            _ => {
                let placed = |call: &Call| matches!(call, Call::Placed { to, .. } if *to == target);
                let placed_at = before + calls[range].iter().position(placed).unwrap_or_else(|| panic!("{key} was not placed: {calls:#?}"));
                let Call::Placed { from, .. } = &calls[placed_at] else { panic!("just found") };
                assert!(is_synced(from, before..placed_at), "{key}: its bytes were not synced before it got its name: {calls:#?}");
                assert!(is_synced(&parent(&target), placed_at..at), "{key}: its directory was not synced: {calls:#?}");
            }
        }
        before = at + 1;
    }
    assert_eq!(acknowledged, 11);
}

#[test]
fn without_fsync_nothing_is_synced() {
    let Some((_directory, calls)) = traced(false) else { return };
    assert_eq!(calls.iter().filter(|call| matches!(call, Call::Acknowledged { .. })).count(), 11);
    assert!(!calls.iter().any(|call| matches!(call, Call::Synced(_))), "{calls:#?}");
}
