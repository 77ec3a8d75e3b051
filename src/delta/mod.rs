//! deltalake: open, write, snapshot.
