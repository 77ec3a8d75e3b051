//! Logical paths as stored bytes spell them.

use object_store::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// The path that a manifest, a trailer, a binding or an inventory has as text. `Path::from` would escape it again, and so name another
/// object.
///
/// # Errors
/// [`ErrorKind::Corrupt`] for a text that no path is stored as: there is one spelling only.
pub fn stored_path(text: &str) -> Result<Path> {
    let corrupt = || Error::new(ErrorKind::Corrupt, "a stored path is none").with("path", text);
    let path = Path::parse(text).map_err(|e| corrupt().caused_by(e))?;
    if path.as_ref() == text { Ok(path) } else { Err(corrupt()) }
}

/// What lies below `root`, where stored bytes have the rest of its path.
///
/// # Errors
/// As [`stored_path`].
pub fn stored_below(root: &Path, text: &str) -> Result<Path> {
    Ok(root.parts().chain(stored_path(text)?.parts()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_path_is_the_path_that_was_stored() {
        for path in
            [Path::from("t/p=a b/~x"), Path::parse("t/p=a%20b/x").unwrap(), Path::parse("~#[]{}^*?<>|\"%").unwrap(), Path::default()]
        {
            assert_eq!(stored_path(path.as_ref()).unwrap(), path);
            let root = Path::parse("r=%41").unwrap();
            let below = stored_below(&root, path.as_ref()).unwrap();
            assert_eq!(below.as_ref(), format!("r=%41/{path}").trim_end_matches('/'));
        }
        for text in ["/t", "t/", "t//x", "t/../x", "t/./x", "t\n", "/"] {
            assert_eq!(stored_path(text).unwrap_err().kind(), ErrorKind::Corrupt, "{text}");
        }
    }
}
