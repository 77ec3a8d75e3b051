//! A user's own small files.

use std::io::{self, Write as _};
use std::path::Path;

/// Writes a file whole or not at all, and on the disk when it returns; over another only if `over`.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], over: bool) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    let kept = if over { file.persist(path) } else { file.persist_noclobber(path) };
    kept.map(drop).map_err(|e| e.error)
}
