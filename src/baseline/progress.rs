//! How far long work has come.

/// Is told how far sealing or auditing has come; called from several tasks.
pub trait Progress: Send + Sync {
    /// Work named `what` begins on so many files and bytes.
    fn begin(&self, what: &str, files: u64, bytes: u64) {
        let _ = (what, files, bytes);
    }

    /// So many further bytes were read.
    fn bytes(&self, count: u64) {
        let _ = count;
    }

    /// A file is done.
    fn file(&self, path: &str) {
        let _ = path;
    }

    /// All is done.
    fn end(&self) {}
}

/// Listens to nothing.
impl Progress for () {}
