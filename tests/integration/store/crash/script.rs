//! What the writer does, and what the lake holds after each step.

use std::collections::BTreeMap;

use lakeseal::store::ErasureStore;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, UpdateVersion};

use crate::store::content;

/// One call of a client; sizes in bytes.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Create(&'static str, usize),
    Put(&'static str, usize),
    Update(&'static str, usize),
    Multipart(&'static str, usize),
    Abort(&'static str, usize),
    Copy(&'static str, &'static str),
    Rename(&'static str, &'static str),
    Delete(&'static str),
}

pub const SCRIPT: [Step; 18] = [
    Step::Create("t/inline", 100),
    Step::Create("t/large", 200_000),
    Step::Put("t/inline", 300),
    Step::Put("t/large", 250_000),
    Step::Update("t/large", 120_000),
    Step::Multipart("t/parts", 300_000),
    Step::Multipart("t/small-parts", 1_000),
    Step::Copy("t/large", "t/copy"),
    Step::Copy("t/inline", "t/inline-copy"),
    Step::Rename("t/parts", "t/renamed"),
    Step::Delete("t/inline"),
    Step::Abort("t/aborted", 200_000),
    Step::Create("t/inline", 50),
    Step::Delete("t/large"),
    Step::Put("t/_delta_log/00000000000000000000.json", 60_000),
    Step::Put("t/large", 150_000),
    Step::Copy("t/large", "t/copy"),
    Step::Multipart("t/inline", 0),
];

/// The objects of a lake: bytes by path.
pub type Objects = BTreeMap<&'static str, Vec<u8>>;

/// What is there after the first `steps` steps.
pub fn objects_after(steps: usize) -> Objects {
    let mut objects = Objects::new();
    for (number, step) in SCRIPT.iter().enumerate().take(steps) {
        match *step {
            Step::Create(path, size) | Step::Put(path, size) | Step::Update(path, size) | Step::Multipart(path, size) => {
                objects.insert(path, content(number, size));
            }
            Step::Copy(from, to) => {
                objects.insert(to, objects[from].clone());
            }
            Step::Rename(from, to) => {
                let bytes = objects.remove(from).unwrap();
                objects.insert(to, bytes);
            }
            Step::Delete(path) => {
                objects.remove(path);
            }
            Step::Abort(..) => {}
        }
    }
    objects
}

/// Every path that the script ever names.
pub fn paths() -> Vec<&'static str> {
    let mut paths: Vec<_> = SCRIPT
        .iter()
        .flat_map(|step| match *step {
            Step::Create(path, _) | Step::Put(path, _) | Step::Update(path, _) | Step::Multipart(path, _) | Step::Abort(path, _) => {
                vec![path]
            }
            Step::Copy(from, to) | Step::Rename(from, to) => vec![from, to],
            Step::Delete(path) => vec![path],
        })
        .collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// Takes one step; the version that it was told, `-` when it is told none.
pub async fn perform(store: &ErasureStore, number: usize, step: &Step) -> String {
    let mode = |mode| PutOptions { mode, ..PutOptions::default() };
    let put = match *step {
        Step::Create(path, size) => store.put_opts(&path.into(), content(number, size).into(), mode(PutMode::Create)).await.unwrap(),
        Step::Put(path, size) => store.put(&path.into(), content(number, size).into()).await.unwrap(),
        Step::Update(path, size) => {
            let held = store.head(&path.into()).await.unwrap();
            let update = PutMode::Update(UpdateVersion { e_tag: held.e_tag, version: None });
            store.put_opts(&path.into(), content(number, size).into(), mode(update)).await.unwrap()
        }
        Step::Multipart(path, size) => {
            let mut upload = store.put_multipart(&path.into()).await.unwrap();
            for part in content(number, size).chunks(100_001) {
                upload.put_part(part.to_vec().into()).await.unwrap();
            }
            upload.complete().await.unwrap()
        }
        Step::Abort(path, size) => {
            let mut upload = store.put_multipart(&path.into()).await.unwrap();
            upload.put_part(content(number, size).into()).await.unwrap();
            upload.abort().await.unwrap();
            // The removal of what was written goes on in the background.
            store.quiesce().await;
            return "-".to_owned();
        }
        Step::Copy(from, to) => return quiet(store.copy(&from.into(), &to.into()).await),
        Step::Rename(from, to) => return quiet(store.rename(&from.into(), &to.into()).await),
        Step::Delete(path) => return quiet(store.delete(&Path::from(path)).await),
    };
    put.version.unwrap()
}

fn quiet(outcome: object_store::Result<()>) -> String {
    outcome.unwrap();
    "-".to_owned()
}
