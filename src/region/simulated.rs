//! Stores that a test puts behind `memory:` locations of its thread.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStore;

thread_local! {
    static STORES: RefCell<BTreeMap<String, Arc<dyn ObjectStore>>> = const { RefCell::new(BTreeMap::new()) };
}

/// Whatever opens `location` on this thread gets `store`.
pub(crate) fn put(location: &str, store: Arc<dyn ObjectStore>) {
    STORES.with_borrow_mut(|stores| stores.insert(location.to_owned(), store));
}

/// Forgets them all.
pub(crate) fn clear() {
    STORES.with_borrow_mut(BTreeMap::clear);
}

pub(super) fn get(location: &str) -> Option<Arc<dyn ObjectStore>> {
    STORES.with_borrow(|stores| stores.get(location).cloned())
}
