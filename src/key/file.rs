//! Files of keys, and PEM within them.

use std::io::Write as _;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

const KEY_FILE_LIMIT_BYTES: u64 = 64 * 1024;
const PUBLIC_BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const PUBLIC_END: &str = "-----END PUBLIC KEY-----";

/// The PEM blocks of public keys in a text; anything between them is a comment. Without one, the only item is an error.
pub(super) struct PemBlocks<'a> {
    rest: &'a str,
    found: bool,
}

impl<'a> PemBlocks<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { rest: text, found: false }
    }
}

impl Iterator for PemBlocks<'_> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        let first = !std::mem::replace(&mut self.found, true);
        let Some((_, from)) = self.rest.split_once(PUBLIC_BEGIN) else {
            let hint = if self.rest.contains("PRIVATE KEY") { "; this is a private key: name its .pub file" } else { "" };
            return first.then(|| Err(Error::new(ErrorKind::InvalidInput, format!("no public key in PEM was found{hint}"))));
        };
        let Some((body, after)) = from.split_once(PUBLIC_END) else {
            self.rest = "";
            return Some(Err(Error::new(ErrorKind::InvalidInput, "a PEM public key has no end line")));
        };
        self.rest = after;
        Some(Ok(format!("{PUBLIC_BEGIN}{body}{PUBLIC_END}\n")))
    }
}

/// A hint for somebody who gave a public key where a private one is needed.
pub(super) fn not_private(text: &str) -> &'static str {
    if text.contains("PUBLIC KEY") { "; this is a public key: name the file without .pub" } else { "" }
}

/// Writes a private key to `path` (new, mode 0600) and its public half to `path`.pub. Existing files are never overwritten.
pub(super) fn save_pair(path: &Path, private_pem: &[u8], public_pem: &str) -> Result<()> {
    let public = public_path(path);
    if public.exists() {
        return Err(Error::new(ErrorKind::AlreadyExists, "a public key's file of this name already exists; name another")
            .with("file", public.display()));
    }
    write_new(path, private_pem, 0o600)?;
    write_new(&public, public_pem.as_bytes(), 0o644)
}

/// Where the public half of the private key at `path` is kept: the same name with `.pub` after it.
pub fn public_path(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// The text of a file of keys; its size is checked first.
pub(super) fn read_key_file(path: &Path) -> Result<String> {
    let failed = |e: std::io::Error| Error::from(e).with("file", path.display());
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > KEY_FILE_LIMIT_BYTES {
        return Err(Error::new(ErrorKind::InvalidInput, "too large for a file of keys").with("file", path.display()).with("bytes", size));
    }
    std::fs::read_to_string(path).map_err(failed)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::new(ErrorKind::AlreadyExists, "a key's file of this name already exists; name another").with("file", path.display())
        }
        _ => Error::from(e).with("file", path.display()),
    };
    let mut file = options.open(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}
