//! A user's own small files.

use std::io::{self, Write as _};
use std::path::Path;

/// Writes a file whole or not at all, and on the disk when it returns; over another only if `over`. Its user alone may read it.
pub(crate) fn write_whole(path: &Path, bytes: &[u8], over: bool) -> io::Result<()> {
    write(&tempfile::Builder::new(), path, bytes, over)
}

/// As [`write_whole`], over another, for everybody to read whom the umask lets: Prometheus' node exporter is another user.
#[cfg(feature = "tables")]
pub(crate) fn write_whole_for_all(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    write(&builder, path, bytes, true)
}

fn write(builder: &tempfile::Builder<'_, '_>, path: &Path, bytes: &[u8], over: bool) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut file = builder.tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    let kept = if over { file.persist(path) } else { file.persist_noclobber(path) };
    kept.map(drop).map_err(|e| e.error)
}

#[cfg(all(test, unix, feature = "tables"))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn others_read_what_is_for_all_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let mode = |name: &str| std::fs::metadata(place.path().join(name)).unwrap().permissions().mode() & 0o777;
        // As the umask lets any program.
        std::fs::write(place.path().join("any"), "").unwrap();
        write_whole(&place.path().join("own"), b"x", true).unwrap();
        for text in ["x", "y"] {
            write_whole_for_all(&place.path().join("all"), text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(place.path().join("all")).unwrap(), text);
        }
        assert_eq!((mode("own"), mode("all")), (0o600, mode("any") & 0o644));
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 3, "nothing else is left behind");
    }
}
