//! Which other tables' files a baseline lets a table's log name, as that of a shallow clone does.

use object_store::path::Path;

use super::repository::Repository;
use super::statement::Statement;
use crate::error::{Error, ErrorKind, Result};
use crate::table::{ForeignRoot, ForeignRoots, TableKind, TableSnapshot, is_foreign, mounted_unreached};

/// Refuses roots that would give files of the table second names, and such as overlap. Several prefixes may lead to one table, whose files have one
/// place each.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] naming the two places.
pub(super) fn check_roots(roots: &ForeignRoots, location: &str, aliases: &[String]) -> Result<()> {
    let own: Vec<&str> = std::iter::once(location).chain(aliases.iter().map(String::as_str)).collect();
    for (at, root) in roots.0.iter().enumerate() {
        let names = [root.prefix.as_str(), root.url.as_str()];
        let prefixes = roots.0.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, other)| other.prefix.as_str());
        let others = own.iter().copied().flat_map(|own| names.map(|name| (name, own))).chain(prefixes.map(|other| (names[0], other)));
        let same = |other: &ForeignRoot| other.mount(&Path::default()) == root.mount(&Path::default());
        let nested = roots.0.iter().filter(|other| !same(other)).map(|other| (names[1], other.url.as_str()));
        if let Some((name, other)) = others.chain(nested).find(|(name, other)| overlap(name, other)) {
            let what = "a foreign root is another table, and neither holds the other: these overlap";
            return Err(Error::new(ErrorKind::InvalidInput, what).with("foreign root", name).with("and", other));
        }
    }
    Ok(())
}

/// Whether two URLs are one place, or one of them lies within the other. A doubled slash, or a missing authority of `file`, makes no other place.
fn overlap(one: &str, other: &str) -> bool {
    let parts = |url: &str| -> Vec<String> { url.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect() };
    let (one, other) = (parts(one), parts(other));
    one.iter().zip(&other).all(|(a, b)| a == b)
}

/// Refuses a table with live files that are neither its own nor below one of the roots.
pub(super) fn refuse_foreign(snapshot: &TableSnapshot, roots: &ForeignRoots) -> Result<()> {
    if snapshot.kind == TableKind::Parquet && !roots.is_empty() {
        return Err(Error::new(ErrorKind::InvalidInput, "a folder of Parquet has no log that could name files of another table"));
    }
    let Some(live) = snapshot.files.values().find(|live| live.location.is_none()) else { return Ok(()) };
    let what = "a live file lies outside of the table and below no foreign root: a table that was tampered with cannot be sealed; of a shallow \
                clone, name the table that it was cloned from (--foreign-root)";
    Err(Error::new(ErrorKind::Unsupported, what).with("file", &live.raw_path))
}

/// Refuses what cannot be done for a table some of whose sealed files are another's.
///
/// # Errors
/// [`ErrorKind::Unsupported`], with `what` and such a file.
pub fn refuse_clone(sealed: &super::SealedTable, root: &Path, what: &str) -> Result<()> {
    match sealed.files.values().find(|file| is_foreign(root, &file.live)) {
        None => Ok(()),
        Some(file) => Err(Error::new(ErrorKind::Unsupported, what.to_owned()).with("file", &file.live.key.path)),
    }
}

impl Repository {
    /// The seals, and `snapshot`, as `statement` lets them be read: with the tables whose files it lets the log name.
    ///
    /// # Errors
    /// Those of opening another table; none where there is none.
    pub async fn with_roots_of(&self, statement: &Statement, snapshot: &mut TableSnapshot) -> Result<Self> {
        statement.foreign_roots.place(self.root(), snapshot);
        self.with_roots(&statement.foreign_roots).await
    }

    /// What there is where [`Self::with_roots_of`] failed with `error`: the table's own objects, and that error for those of other tables.
    pub(super) fn without_roots_of(&self, statement: &Statement, error: &Error) -> Self {
        let roots = &statement.foreign_roots;
        Self::new(mounted_unreached(self.store(), self.root(), roots, error), self.root().clone()).naming(roots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_holds_the_table_or_is_held_by_it_is_refused() {
        let root = |prefix: &str, url: &str| ForeignRoot { prefix: prefix.into(), url: url.into(), table_id: "id".into() };
        let check = |roots: Vec<ForeignRoot>| check_roots(&ForeignRoots(roots), "file:///lake/t", &["s3://b/t".into()]);
        check(vec![root("file:///lake/src", "file:///lake/src"), root("file:/lake/t2", "s3://b/t2")]).unwrap();
        for (prefix, url) in [
            ("file:///lake/t", "file:///x"),
            ("file:/lake/t", "file:///x"),
            ("file:///lake/t/below", "file:///x"),
            ("file:///lake", "file:///x"),
            ("file:///x", "file:///lake//t/"),
            ("s3://b/t", "s3://c/t"),
            ("file:///", "file:///x"),
        ] {
            assert_eq!(check(vec![root(prefix, url)]).unwrap_err().kind(), ErrorKind::InvalidInput, "{prefix} {url}");
        }
        let within = vec![root("s3://c/a", "s3://c/a"), root("s3://c/a/b", "s3://c/d")];
        assert_eq!(check(within).unwrap_err().kind(), ErrorKind::InvalidInput);
        // One table by two names; not a table, and a folder of it, nor one URL in two spellings, of which files would have two places.
        check(vec![root("s3://c/a", "s3://c/a"), root("s3a://c/a", "s3://c/a/")]).unwrap();
        for url in ["s3://c/a/b", "s3://c", "s3://c//a"] {
            let nested = vec![root("s3://c/a", "s3://c/a"), root("s3a://c/a", url)];
            assert_eq!(check(nested).unwrap_err().kind(), ErrorKind::InvalidInput, "{url}");
        }
    }
}
