//! Which sealed row became which found one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::change::Row;

/// Members of all rows together that are indexed at most, to pair rows by all columns but one.
const INDEX_LIMIT: usize = 16 << 20;

/// Rows in pairs, and those that are in none.
pub(super) struct Pairing {
    pub(super) pairs: Vec<(Row, Row)>,
    pub(super) removed: Vec<Row>,
    pub(super) added: Vec<Row>,
}

impl Pairing {
    /// Of rows of which no two are taken for one.
    pub(super) const fn none(removed: Vec<Row>, added: Vec<Row>) -> Self {
        Self { pairs: Vec::new(), removed, added }
    }
}

/// Pairs rows that are in one multiset only: by key where one is declared; else those that agree in all columns but one, then those
/// that stand at the same place of the same file.
pub(super) fn pair(sealed: Vec<Row>, found: Vec<Row>, key: &[String]) -> Pairing {
    let mut pairing = Matching::new(sealed, found);
    if key.is_empty() {
        pairing.by_all_but_one();
        pairing.by_place();
    } else {
        pairing.by(|row| key.iter().map(|name| row.member(name)).collect::<Vec<_>>());
    }
    pairing.finish()
}

struct Matching {
    sealed: Vec<Option<Row>>,
    found: Vec<Option<Row>>,
    pairs: Vec<(Row, Row)>,
}

impl Matching {
    fn new(sealed: Vec<Row>, found: Vec<Row>) -> Self {
        let (sealed, found) = (sealed.into_iter().map(Some).collect(), found.into_iter().map(Some).collect());
        Self { sealed, found, pairs: Vec::new() }
    }

    fn take(&mut self, sealed: usize, found: usize) {
        let (Some(before), Some(after)) = (self.sealed.get_mut(sealed), self.found.get_mut(found)) else { return };
        if before.is_some()
            && after.is_some()
            && let (Some(before), Some(after)) = (before.take(), after.take())
        {
            self.pairs.push((before, after));
        }
    }

    /// Pairs rows that `name` gives the same name, in their order.
    fn by<K: Eq + std::hash::Hash>(&mut self, name: impl Fn(&Row) -> K) {
        let mut index: HashMap<K, Vec<usize>> = HashMap::new();
        for (at, row) in self.sealed.iter().enumerate().rev() {
            if let Some(row) = row {
                index.entry(name(row)).or_default().push(at);
            }
        }
        for at in 0..self.found.len() {
            let Some(Some(row)) = self.found.get(at) else { continue };
            if let Some(sealed) = index.get_mut(&name(row)).and_then(Vec::pop) {
                self.take(sealed, at);
            }
        }
    }

    /// Sums of members' hashes make it cheap to leave one out; whether rows truly agree is looked at again before they are paired.
    fn by_all_but_one(&mut self) {
        let cells: usize = self.sealed.iter().flatten().map(|row| row.members.len() + 1).sum();
        if cells > INDEX_LIMIT {
            return;
        }
        let mut index: HashMap<(Arc<str>, u128), Vec<usize>> = HashMap::new();
        for (at, row) in self.sealed.iter().enumerate().rev() {
            let Some(row) = row else { continue };
            let total = total(row);
            for (name, hash) in row.members.iter() {
                index.entry((name.clone(), total.wrapping_sub(*hash))).or_default().push(at);
            }
        }
        // A sealed row whose differing value is null has no entry for it: it is found by its whole sum.
        let mut whole: HashMap<u128, Vec<usize>> = HashMap::new();
        for (at, row) in self.sealed.iter().enumerate().rev() {
            if let Some(row) = row {
                whole.entry(total(row)).or_default().push(at);
            }
        }
        let sealed = &self.sealed;
        let mut taken: Vec<(usize, usize)> = Vec::new();
        let mut free = vec![true; sealed.len()];
        let names: Vec<Arc<str>> = self.member_names();
        for (at, row) in self.found.iter().enumerate() {
            let Some(row) = row else { continue };
            let total = total(row);
            let candidates = names.iter().find_map(|name| {
                let rest = total.wrapping_sub(row.member(name));
                // The sealed value is another one, or null.
                let listed = candidate(sealed, &free, index.get_mut(&(name.clone(), rest)), row);
                listed.or_else(|| candidate(sealed, &free, whole.get_mut(&rest), row))
            });
            if let Some(found) = candidates {
                if let Some(free) = free.get_mut(found) {
                    *free = false;
                }
                taken.push((found, at));
            }
        }
        taken.into_iter().for_each(|(sealed, found)| self.take(sealed, found));
    }

    /// The names of all members of all rows.
    fn member_names(&self) -> Vec<Arc<str>> {
        let rows = self.sealed.iter().chain(&self.found).flatten();
        let names: BTreeSet<Arc<str>> = rows.flat_map(|row| row.members.iter().map(|(name, _)| name.clone())).collect();
        names.into_iter().collect()
    }

    fn by_place(&mut self) {
        self.by(|row| (row.place.file.clone(), row.place.row_group, row.place.row));
    }

    fn finish(self) -> Pairing {
        Pairing {
            pairs: self.pairs,
            removed: self.sealed.into_iter().flatten().collect(),
            added: self.found.into_iter().flatten().collect(),
        }
    }
}

/// The last of these that is still free, if it differs from `row` in one member alone. Those that are not free any more are forgotten.
fn candidate(sealed: &[Option<Row>], free: &[bool], list: Option<&mut Vec<usize>>, row: &Row) -> Option<usize> {
    let list = list?;
    while let Some(at) = list.last().copied() {
        if free.get(at).copied().unwrap_or_default() {
            let candidate = sealed.get(at).and_then(Option::as_ref);
            return candidate.filter(|candidate| differing(candidate, row) == 1).map(|_| at);
        }
        list.pop();
    }
    None
}

fn total(row: &Row) -> u128 {
    row.members.iter().fold(0, |sum, (_, hash)| sum.wrapping_add(*hash))
}

fn differing(a: &Row, b: &Row) -> usize {
    let changed = a.members.iter().filter(|(name, hash)| b.member(name) != *hash).count();
    changed + b.members.iter().filter(|(name, _)| a.member(name) == 0).count()
}
