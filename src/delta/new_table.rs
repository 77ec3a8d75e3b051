//! Where a table may be made: in a place that is listed, that has room for the names below it, and whose contents the table would not hide.

use object_store::ObjectStoreExt as _;
use object_store::path::Path;

use super::list::{MAX_DEPTH, has_log, may_be_table};
use super::{Location, begun};
use crate::error::{Error, ErrorKind, Result};
use crate::region::layout;
use crate::table::{self, TableKind};

/// Room that a table's name leaves for what lies below it, in segments and bytes of each: data files in a partition's folder, attestations, seals.
/// Their names are shorter than this when they are escaped.
const BELOW_SEGMENTS: usize = 2;
const BELOW_SEGMENT_BYTES: usize = 150;

/// Refuses to make a table at `location`, where there is none, unless it may be made there. Nothing was written before.
///
/// Cost: in a lake a LIST for each folder above and below, and one of the place itself; elsewhere one LIST and one HEAD.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for a place in which no table may be made; those of the store.
pub(super) async fn check(location: &Location) -> Result<()> {
    let checked = if location.is_in_lake() { check_in_lake(location).await } else { check_empty(location).await };
    checked.map_err(|e| e.with("table", location.name()))
}

fn refused(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, what)
}

/// Whether a name of a lake's table is one that is listed, and short enough.
fn check_name(root: &Path) -> Result<()> {
    let mut folder = Path::default();
    for part in root.parts() {
        folder = folder.join(part);
        if !may_be_table(&folder) {
            return Err(refused(
                "no part of a new table's name begins with '_' or '.', or has a '=' in it: such folders are parts of tables",
            ));
        }
    }
    if root.parts_count() > MAX_DEPTH {
        return Err(refused(format!("a new table's name has at most {MAX_DEPTH} parts: deeper ones are not found by `lakeseal tables`")));
    }
    let longest = (0..BELOW_SEGMENTS).fold(root.clone(), |path, _| path.join("x".repeat(BELOW_SEGMENT_BYTES)));
    layout::register_folder(&longest).map(drop).map_err(|error| {
        let what = "the table's name is too long: files below it would have names that regions do not take. Choose a shorter one";
        refused(what).caused_by(error)
    })
}

async fn check_in_lake(location: &Location) -> Result<()> {
    let (store, root) = (location.store().as_ref(), location.root());
    check_name(root)?;
    let parts: Vec<_> = root.parts().collect();
    for count in 1..parts.len() {
        let above: Path = parts.iter().take(count).cloned().collect();
        if has_log(store, &above).await? {
            return Err(
                refused("the place lies in the folder of another table: tables do not nest. Choose another name").with("other", above)
            );
        }
    }
    let mut level = vec![root.clone()];
    for _ in parts.len()..MAX_DEPTH {
        let mut below = Vec::new();
        for folder in level {
            below.extend(store.list_with_delimiter(Some(&folder)).await?.common_prefixes.into_iter().filter(may_be_table));
        }
        for folder in &below {
            if has_log(store, folder).await? {
                return Err(refused("another table lies below this name: tables do not nest. Choose another name").with("other", folder));
            }
        }
        level = below;
    }
    match table::load(store, root, None).await {
        Ok(found) if found.kind == TableKind::Parquet => {
            let what =
                "a folder of Parquet files is there, which a table made in it would hide: choose another name, or take the files away";
            Err(refused(what).with("files", found.files.len()))
        }
        // Nothing is there, or no table of any kind; or it was made meanwhile, which is found out in time.
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Outside of a lake a table is made in an empty place: whatever else lies there would become a part of its folder.
async fn check_empty(location: &Location) -> Result<()> {
    let (store, root) = (location.store(), location.root());
    let prefix = (!root.as_ref().is_empty()).then_some(root);
    let found = store.list_with_delimiter(prefix).await?;
    let is_log = |path: &&Path| path.filename() == Some("_delta_log");
    let names = found.objects.iter().map(|object| &object.location).chain(&found.common_prefixes);
    let Some(other) = names.filter(|path| !is_log(path)).min() else { return Ok(()) };
    match store.head(&begun(location)).await {
        // What lies there is left of a write that was broken off.
        Ok(_) => Ok(()),
        Err(object_store::Error::NotFound { .. }) => {
            let what = "there is no Delta table here, but something else: a table is made in an empty place only. For a table of a lake, give its \
                        name and no path";
            Err(refused(what).with("found", other))
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use url::Url;

    use super::super::LakeStore;
    use super::*;

    async fn holding(paths: &[&str]) -> LakeStore {
        let store = InMemory::new();
        for path in paths {
            store.put(&Path::parse(path).unwrap(), "x".into()).await.unwrap();
        }
        LakeStore { name: "test".to_owned(), store: Arc::new(store) }
    }

    async fn refusal(lake: &LakeStore, name: &str) -> Option<String> {
        let error = check(&Location::in_lake(lake, name).unwrap()).await.err()?;
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        Some(error.to_string())
    }

    #[tokio::test]
    async fn names_that_nobody_would_find_or_no_region_take_are_refused() {
        let lake = holding(&[]).await;
        for (name, why) in [
            ("_t".to_owned(), "begins with"),
            ("a/.t".to_owned(), "begins with"),
            ("a/day=1".to_owned(), "begins with"),
            ("a/b/c/d/e".to_owned(), "at most 4"),
            ("a".repeat(250), "too long"),
            // Each '.' takes three bytes in a key.
            (format!("a{}", ".".repeat(100)), "too long"),
            (vec!["a".repeat(200); 3].join("/"), "too long"),
        ] {
            let said = refusal(&lake, &name).await.unwrap_or_else(|| panic!("{name}"));
            assert!(said.contains(why), "{said}");
        }
        for name in ["t".to_owned(), "a/b/c/d".to_owned(), "a".repeat(249), vec!["a".repeat(110); 4].join("/")] {
            assert_eq!(refusal(&lake, &name).await, None, "{name}");
        }
    }

    #[tokio::test]
    async fn a_table_neither_nests_nor_hides() {
        let commit = "_delta_log/00000000000000000000.json";
        let tables = [format!("t/{commit}"), format!("a/b/c/{commit}")];
        let begun = format!("begun/_delta_log/{}", table::BEGUN);
        let all = [tables[0].as_str(), &tables[1], "folder/x.parquet", &begun, "begun/left.parquet", "notes/read.me"];
        let lake = holding(&all).await;
        for (name, why) in [("t/x", "in the folder of another"), ("a", "below"), ("a/b", "below"), ("folder", "would hide")] {
            let said = refusal(&lake, name).await.unwrap_or_else(|| panic!("{name}"));
            assert!(said.contains(why), "{said}");
        }
        for name in ["a/b/d", "a/x", "begun", "begun/x", "notes", "new"] {
            assert_eq!(refusal(&lake, name).await, None, "{name}");
        }
    }

    #[tokio::test]
    async fn outside_of_a_lake_a_table_is_made_in_an_empty_place() {
        let begun = format!("_delta_log/{}", table::BEGUN);
        for (paths, is_refused) in [
            (&[][..], false),
            (&[begun.as_str(), "left.parquet"], false),
            (&[begun.as_str()], false),
            (&["id"], true),
            (&["d/ab/shard"], true),
            (&["x.parquet"], true),
        ] {
            let store = holding(paths).await.store;
            let place = Location::in_store(store, Path::default(), Url::parse("memory:///").unwrap(), "./place").unwrap();
            assert_eq!(check(&place).await.is_err(), is_refused, "{paths:?}");
        }
    }
}
