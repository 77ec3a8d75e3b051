//! Paths as a log spells them, to names that are the same exactly when a reader opens the same file.

use object_store::path::Path;
use percent_encoding::percent_decode_str;

/// The folder of a table below which files of other tables are seen ([`super::foreign`]). Nothing lies there.
pub(super) const MOUNTS: &str = "_foreign";
/// Hexadecimal digits of the folder's name that stands for one of them.
pub(super) const MOUNT_DIGITS: usize = 16;

/// What a path in a log names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CanonicalPath {
    /// A file under the table's root: percent-decoded, with `/` between segments, no `.` or `..`.
    Inside(String),
    /// A file elsewhere, or a spelling that readers understand differently: the text as the log has it.
    Foreign(String),
}

impl CanonicalPath {
    /// The name under which the file is known.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Inside(path) | Self::Foreign(path) => path,
        }
    }

    /// The object below `root`; absent for a foreign path.
    pub fn location(&self, root: &Path) -> Option<Path> {
        let Self::Inside(path) = self else { return None };
        let whole = if root.as_ref().is_empty() { path.clone() } else { format!("{root}/{path}") };
        // As deltalake does: `%` within a decoded name is kept, not encoded again.
        Some(Path::parse(&whole).unwrap_or_else(|_| Path::from(whole.as_str())))
    }
}

/// Resolves `raw` the way readers do (as a URL relative to the table), without ever leaving the table.
///
/// An absolute path, a URL, a `..` above the root, a backslash or a control character makes it foreign, and so does the place where files of
/// other tables are seen.
pub fn canonical_path(raw: &str) -> CanonicalPath {
    let foreign = || CanonicalPath::Foreign(raw.to_owned());
    // URL parsers drop tabs and line ends, trim spaces and turn backslashes round: no honest writer needs any of that.
    let strange = |text: &str| text.chars().any(|c| c.is_control() || c == '\\');
    if raw.starts_with('/') || has_scheme(raw) || strange(raw) || raw.trim() != raw {
        return foreign();
    }
    let without_query = raw.split(['?', '#']).next().unwrap_or_default();
    let Ok(decoded) = percent_decode_str(without_query).decode_utf8() else { return foreign() };
    if strange(&decoded) {
        return foreign();
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                if segments.pop().is_none() {
                    return foreign();
                }
            }
            _ => segments.push(segment),
        }
    }
    if segments.is_empty() || is_mount(&segments) { foreign() } else { CanonicalPath::Inside(segments.join("/")) }
}

/// Whether the path leads to where another table is seen: only a signed statement does.
fn is_mount(segments: &[&str]) -> bool {
    segments.first() == Some(&MOUNTS) && segments.get(1).is_some_and(|name| is_mount_name(name))
}

/// Whether a folder's name is one that stands for another table.
pub(super) fn is_mount_name(name: &str) -> bool {
    name.len() == MOUNT_DIGITS && name.bytes().all(|b| b.is_ascii_hexdigit())
}

fn has_scheme(raw: &str) -> bool {
    let Some((scheme, _)) = raw.split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(path: &str) -> CanonicalPath {
        CanonicalPath::Inside(path.to_owned())
    }

    #[test]
    fn every_spelling_of_one_file_has_one_name() {
        for raw in [
            "part-0.parquet",
            "./part-0.parquet",
            "%70art-0.parquet",
            "a/../part-0.parquet",
            ".//part-0.parquet",
            "part-0.parquet?x=1",
            "%2e/part-0.parquet",
        ] {
            assert_eq!(canonical_path(raw), inside("part-0.parquet"), "{raw}");
        }
        assert_eq!(canonical_path("x=A%252FA/p.parquet"), inside("x=A%2FA/p.parquet"));
        assert_eq!(canonical_path("ts=2020-01-01 10:00:00/p"), inside("ts=2020-01-01 10:00:00/p"));
    }

    #[test]
    fn nothing_outside_of_the_table_has_a_location() {
        for raw in
            ["/etc/passwd", "../x", "a/../../x", "%2e%2e/x", "file:///x", "s3://b/x", "a\\..\\x", "", ".", "a\tb", "%0ax", " x", "%ff"]
        {
            let path = canonical_path(raw);
            assert_eq!(path, CanonicalPath::Foreign(raw.to_owned()), "{raw}");
            assert_eq!(path.location(&Path::from("t")), None);
        }
    }

    #[test]
    fn the_location_keeps_percent_signs_of_names() {
        let path = canonical_path("x=A%252FA/p.parquet");
        assert_eq!(path.location(&Path::from("t")).unwrap().as_ref(), "t/x=A%2FA/p.parquet");
        assert_eq!(path.location(&Path::default()).unwrap().as_ref(), "x=A%2FA/p.parquet");
    }
}
