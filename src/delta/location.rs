//! What a TABLE argument means: a store, a path in it, and names to show and to sign.

use std::fmt;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use object_store::ObjectStore;
use object_store::path::Path;
use url::Url;

use super::reach::Reach;
use super::scheme::{SCHEME, lake_url};
use crate::baseline::{Log, PinNames, Repository};
use crate::error::{Error, ErrorKind, Result};
use crate::id::LakeId;
use crate::region::directory::DirectoryStore;
use crate::region::layout;
use crate::table::{ForeignRoots, mounted};

/// An open lake's name and store, for table names to be looked up in.
#[derive(Debug, Clone)]
pub struct LakeStore {
    /// The lake's name.
    pub name: String,
    /// Its store.
    pub store: Arc<dyn ObjectStore>,
}

/// Where a table lies.
#[derive(Debug, Clone)]
pub struct Location {
    store: Arc<dyn ObjectStore>,
    root: Path,
    url: Url,
    engine_url: Url,
    name: String,
    lake: bool,
    lake_id: Option<LakeId>,
    /// The other tables that its store shows.
    roots: ForeignRoots,
}

impl Location {
    /// The table `table` of an open lake: `lakeseal://<lake>/<table>`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when the table's path would need percent-encoding.
    pub fn in_lake(lake: &LakeStore, table: &str) -> Result<Self> {
        let root = table_path(table)?;
        if root.as_ref().is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "a table's name is missing").with("lake", &lake.name));
        }
        if layout::is_system(&root) {
            let what = "the lake keeps this folder for itself; choose another name";
            return Err(Error::new(ErrorKind::InvalidInput, what).with("table", table).with("folder", layout::SYSTEM_SEGMENT));
        }
        let mut url = lake_url(&lake.name)?;
        url.set_path(root.as_ref());
        let store = Reach::over(lake.store.clone(), Some(lake));
        Ok(Self {
            store,
            engine_url: as_folder(&url),
            url,
            name: root.to_string(),
            root,
            lake: true,
            lake_id: None,
            roots: ForeignRoots::default(),
        })
    }

    /// A table at `root` of any store. `url` is the name that a baseline is bound to; `name` is what messages call it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] when `root` would need percent-encoding.
    pub fn in_store(store: Arc<dyn ObjectStore>, root: Path, url: Url, name: impl Into<String>) -> Result<Self> {
        let root = table_path(root.as_ref())?;
        let engine_url = private_url(&root)?;
        Ok(Self {
            store: Reach::over(store, None),
            engine_url,
            url,
            name: name.into(),
            root,
            lake: false,
            lake_id: None,
            roots: ForeignRoots::default(),
        })
    }

    /// What a TABLE argument names.
    ///
    /// * `scheme://…` — a URL: `lakeseal://<lake>/<table>`, or anything that [`crate::region::open`] opens.
    /// * `./…`, `../…`, `/…`, `.`, `~/…` — a directory.
    /// * anything else — a table of `lake`; without a lake, a directory.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a directory that does not exist, [`ErrorKind::InvalidInput`] or [`ErrorKind::Config`] for what
    /// cannot be addressed.
    pub fn parse(argument: &str, lake: Option<&LakeStore>) -> Result<Self> {
        if argument.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "a table's name, path or URL is missing"));
        }
        if argument.contains("://") {
            let url = Url::parse(argument)
                .map_err(|e| Error::new(ErrorKind::InvalidInput, "not a table URL").with("url", argument).caused_by(e))?;
            return match url.scheme() == SCHEME {
                true => Self::parse_lake_url(&url, argument, lake),
                false => Self::parse_url(&url, argument).map(|found| found.reaching(lake)),
            };
        }
        let is_path = matches!(argument, "." | ".." | "~") || ["./", "../", "/", "~/"].iter().any(|start| argument.starts_with(start));
        match lake {
            Some(lake) if !is_path => Self::in_lake(lake, argument),
            _ => Self::parse_directory(argument).map(|found| found.reaching(lake)),
        }
    }

    /// With the tables of `lake` among those that its store reaches.
    fn reaching(self, lake: Option<&LakeStore>) -> Self {
        match lake {
            Some(_) => Self { store: Reach::over(self.store.clone(), lake), ..self },
            None => self,
        }
    }

    fn parse_lake_url(url: &Url, argument: &str, lake: Option<&LakeStore>) -> Result<Self> {
        let host = url.host_str().unwrap_or_default();
        let Some(lake) = lake else {
            return Err(Error::new(ErrorKind::Config, "no lake is open: name its configuration file").with("url", argument));
        };
        if host != lake.name {
            return Err(Error::new(ErrorKind::Config, "this configuration is another lake's")
                .with("wanted", host)
                .with("open", &lake.name));
        }
        let after_host = argument.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
        Self::in_lake(lake, after_host)
    }

    fn parse_url(url: &Url, argument: &str) -> Result<Self> {
        if url.scheme() == "file" {
            let path = url
                .to_file_path()
                .map_err(|()| Error::new(ErrorKind::InvalidInput, "a file URL names no path of this machine").with("url", argument))?;
            return Self::from_directory(&path, argument);
        }
        if url.path().contains('%') {
            return Err(needs_encoding(argument));
        }
        let store = crate::region::open(argument, &crate::region::OpenOptions::default())?;
        let mut bare = url.clone();
        let trimmed = bare.path().trim_end_matches('/').to_owned();
        bare.set_path(&trimmed);
        bare.set_query(None);
        Self::in_store(store, Path::default(), bare, argument)
    }

    fn parse_directory(argument: &str) -> Result<Self> {
        match argument.strip_prefix('~').map(|rest| (rest, std::env::var_os("HOME"))) {
            Some((rest, Some(home))) => Self::from_directory(&FilePath::new(&home).join(rest.trim_start_matches('/')), argument),
            _ => Self::from_directory(FilePath::new(argument), argument),
        }
    }

    fn from_directory(path: &FilePath, argument: &str) -> Result<Self> {
        let path = path.canonicalize().map_err(|e| {
            let kind = if e.kind() == std::io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Io };
            Error::new(kind, "there is no such directory, and no lake is open that could have a table of this name")
                .with("table", argument)
                .caused_by(e)
        })?;
        if !path.is_dir() {
            return Err(Error::new(ErrorKind::InvalidInput, "a table is a directory, this is a file").with("table", argument));
        }
        let url = Url::from_directory_path(&path)
            .map_err(|()| Error::new(ErrorKind::InvalidInput, "the directory's path is no URL").with("table", argument))?;
        if path.to_str().is_none() {
            return Err(Error::new(ErrorKind::InvalidInput, "the directory's path is not Unicode").with("table", argument));
        }
        let store = Arc::new(DirectoryStore::of_table(path));
        let mut url = url;
        let trimmed = url.path().trim_end_matches('/').to_owned();
        url.set_path(&trimmed);
        Self::in_store(store, Path::default(), url, argument)
    }

    /// The same place seen through another store, for instance a verified one.
    ///
    /// # Errors
    /// None that occur: the location's path has been checked before.
    pub fn through(&self, store: Arc<dyn ObjectStore>) -> Result<Self> {
        Ok(Self { store, engine_url: private_url(&self.root)?, ..self.clone() })
    }

    /// The same place under the same engine URL, in another store: what was loaded from one is read on from the other.
    pub(crate) fn moved_to(&self, store: Arc<dyn ObjectStore>) -> Self {
        Self { store, ..self.clone() }
    }

    /// The same place with the tables in it whose files a signed statement lets it name; unchanged where there are none.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when its store reaches no other tables; those of opening one of them.
    pub(crate) async fn with_roots(&self, roots: &ForeignRoots) -> Result<Self> {
        let store = mounted(&self.store, &self.root, roots).await.map_err(|e| e.with("table", &self.name))?;
        Ok(Self { roots: roots.clone(), ..self.moved_to(store) })
    }

    /// Its seals, with the other tables whose files it was found to name.
    pub fn repository(&self) -> Repository {
        Repository::new(self.store.clone(), self.root.clone()).naming(&self.roots)
    }

    /// The store that the table lies in; paths in it begin at the store's own root.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The table's folder in the store; empty when the store is the table.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The canonical URL, to which a baseline is bound.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The URL under which engines know the table, ending in a slash. Its scheme and authority mean this store and no other.
    pub fn engine_url(&self) -> &Url {
        &self.engine_url
    }

    /// What messages call the table.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Says which lake the table belongs to, if it is in one: names and logs of two lakes are then never taken for each other.
    #[must_use]
    pub fn of_lake(mut self, id: Option<LakeId>) -> Self {
        self.lake_id = id.filter(|_| self.lake);
        self
    }

    /// The log that the table's baselines are in: its lake's, or its own.
    pub fn log(&self) -> Log {
        let log = Log::new(self.store.clone(), if self.lake { Path::default() } else { self.root.clone() });
        match self.lake_id {
            Some(id) => log.of_lake(id),
            None => log,
        }
    }

    /// The names that the table and its log have among pins.
    pub fn pin_names(&self) -> PinNames {
        PinNames::new(self.url.as_str(), self.lake_id.map(|id| (id, self.root.as_ref())))
    }

    /// Whether the table belongs to a lake.
    pub fn is_in_lake(&self) -> bool {
        self.lake
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A table's path in its store, refused unless it is the same text as a path and as part of a URL.
///
/// Engines write the log under one spelling and read it under the other when the two differ.
fn table_path(text: &str) -> Result<Path> {
    let trimmed = text.trim_end_matches('/');
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'=' | b'+' | b',' | b'@' | b'/' | b'!' | b'$');
    if !trimmed.bytes().all(plain) {
        return Err(needs_encoding(text));
    }
    let path =
        Path::parse(trimmed).map_err(|e| Error::new(ErrorKind::InvalidInput, "not a table path").with("table", text).caused_by(e))?;
    if path.as_ref() != trimmed || path.parts().any(|part| matches!(part.as_ref(), "." | ".." | "_seal" | "_delta_log")) {
        return Err(Error::new(ErrorKind::InvalidInput, "not a table path: it has empty, relative or reserved parts").with("table", text));
    }
    Ok(path)
}

/// An engine URL that belongs to one location alone.
///
/// Engines find stores by scheme and authority. A private one keeps two stores apart whose URLs begin alike, and keeps engines from
/// treating `file` in their own ways.
fn private_url(root: &Path) -> Result<Url> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let authority = format!("table-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut url = Url::parse(&format!("lakeseal-store://{authority}/"))
        .map_err(|e| Error::new(ErrorKind::Internal, "a location's own URL is none").caused_by(e))?;
    url.set_path(root.as_ref());
    Ok(as_folder(&url))
}

fn needs_encoding(text: &str) -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "a table path must not need percent-encoding: use letters, digits and '-', '_', '.', '=', '+', ',', '@', '!', '$'",
    )
    .with("table", text)
}

fn as_folder(url: &Url) -> Url {
    let mut url = url.clone();
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    url
}
