//! Which removed files and which added ones belong together: those that later commits exchanged.

use std::collections::BTreeMap;

use crate::baseline::Exchange;
use crate::table::FileKey;

/// Sealed files that are gone, and live files that were not sealed, which commits put in each other's place.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Component {
    pub(super) removed: Vec<FileKey>,
    pub(super) added: Vec<FileKey>,
}

/// Sorts files by the commits that exchanged them. Without commits (a folder, or a log that was cleaned up) all belong together.
pub(super) fn components(removed: &[FileKey], added: &[FileKey], exchanges: Option<&[Exchange]>) -> Vec<Component> {
    let Some(exchanges) = exchanges else {
        let all = Component { removed: removed.to_vec(), added: added.to_vec() };
        return if all == Component::default() { Vec::new() } else { vec![all] };
    };
    let mut groups = Groups::default();
    for exchange in exchanges.iter().filter(|exchange| !exchange.removes.is_empty()) {
        let mut keys = exchange.removes.iter().chain(&exchange.adds);
        let Some(first) = keys.next() else { continue };
        let first = groups.of(first);
        for key in keys {
            let other = groups.of(key);
            groups.join(first, other);
        }
    }
    let mut found: BTreeMap<usize, Component> = BTreeMap::new();
    for key in removed {
        let group = groups.of(key);
        found.entry(groups.root(group)).or_default().removed.push(key.clone());
    }
    for key in added {
        let group = groups.of(key);
        found.entry(groups.root(group)).or_default().added.push(key.clone());
    }
    found.into_values().collect()
}

/// Disjoint sets of files.
#[derive(Default)]
struct Groups {
    index: BTreeMap<FileKey, usize>,
    parents: Vec<usize>,
}

impl Groups {
    fn of(&mut self, key: &FileKey) -> usize {
        if let Some(known) = self.index.get(key) {
            return *known;
        }
        let new = self.parents.len();
        self.parents.push(new);
        self.index.insert(key.clone(), new);
        new
    }

    fn root(&self, mut at: usize) -> usize {
        while let Some(parent) = self.parents.get(at).filter(|parent| **parent != at) {
            at = *parent;
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        if let Some(parent) = self.parents.get_mut(a.max(b)) {
            *parent = a.min(b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> FileKey {
        FileKey { path: path.to_owned(), deletion_vector: None }
    }

    fn keys(paths: &[&str]) -> Vec<FileKey> {
        paths.iter().map(|path| key(path)).collect()
    }

    #[test]
    fn files_that_commits_exchanged_belong_together_through_any_number_of_them() {
        let exchange = |removes: &[&str], adds: &[&str]| Exchange { removes: keys(removes), adds: keys(adds) };
        let exchanges = [exchange(&["a"], &["b"]), exchange(&[], &["n"]), exchange(&["b", "c"], &["d"]), exchange(&["e"], &[])];
        let found = components(&keys(&["a", "c", "e"]), &keys(&["d", "n"]), Some(&exchanges));
        let expected = [(&["a", "c"][..], &["d"][..]), (&["e"], &[]), (&[], &["n"])];
        let expected: Vec<_> = expected.iter().map(|(r, a)| Component { removed: keys(r), added: keys(a) }).collect();
        assert_eq!(found.len(), 3);
        expected.iter().for_each(|component| assert!(found.contains(component), "{component:?} in {found:?}"));
    }

    #[test]
    fn without_commits_all_belong_together() {
        assert_eq!(components(&keys(&["a"]), &keys(&["b"]), None), [Component { removed: keys(&["a"]), added: keys(&["b"]) }]);
        assert_eq!(components(&[], &[], None), []);
    }
}
