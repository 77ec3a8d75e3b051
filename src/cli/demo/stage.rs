//! Where the demo plays: directories as regions, a home for keys, the flights; and the library's calls that the story is made of.

use std::path::{Path as FilePath, PathBuf};

use object_store::ObjectStoreExt as _;
use parquet::file::metadata::ParquetMetaDataReader;
use tempfile::TempDir;

use super::Airport;
use super::stock::airports;
use crate::baseline::{AuditOptions, AuditReport, Auditor, SealOptions, SealOutcome, Sealer};
use crate::cli::args::{Global, InitArgs};
use crate::cli::context::{CONFIG_FILE, Context, OpenLake};
use crate::cli::lake::init;
use crate::cli::sql;
use crate::clock::SharedClock;
use crate::delta::{self, Import};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Role, Scheme};

/// The demo's table.
pub(super) const TABLE: &str = "flights";
/// The regions, by name.
pub(super) const REGIONS: [&str; 5] = ["frankfurt", "oregon", "saopaulo", "sydney", "tokyo"];
/// The regions that are deleted.
pub(super) const LOST: [&str; 2] = ["oregon", "tokyo"];

const FLIGHTS: &[u8] = include_bytes!("../../../sample-data/flights.parquet");

/// The demo's directory.
pub(super) struct Stage {
    directory: PathBuf,
    temporary: Option<TempDir>,
}

/// What the table is after the import.
pub(super) struct TableState {
    pub(super) files: usize,
    pub(super) bytes: u64,
    pub(super) rows: u64,
    pub(super) row_groups: usize,
}

fn failed(directory: &FilePath) -> impl Fn(std::io::Error) -> Error {
    let directory = directory.display().to_string();
    move |e| Error::new(ErrorKind::Io, "the demo's directory could not be used").with("directory", &directory).caused_by(e)
}

impl Stage {
    /// In `keep`, which must be new or empty, or in a temporary directory.
    pub(super) fn new(keep: Option<PathBuf>) -> Result<Self> {
        let Some(directory) = keep else {
            let temporary = tempfile::Builder::new().prefix("lakeseal-demo-").tempdir().map_err(failed(&std::env::temp_dir()))?;
            return Ok(Self { directory: temporary.path().to_owned(), temporary: Some(temporary) });
        };
        std::fs::create_dir_all(&directory).map_err(failed(&directory))?;
        if std::fs::read_dir(&directory).map_err(failed(&directory))?.next().is_some() {
            return Err(
                Error::new(ErrorKind::InvalidInput, "the directory is not empty: name a new one").with("directory", directory.display())
            );
        }
        let directory = directory.canonicalize().map_err(failed(&directory))?;
        Ok(Self { directory, temporary: None })
    }

    /// The directory.
    pub(super) fn directory(&self) -> &FilePath {
        &self.directory
    }

    /// The directory, when it is to stay.
    pub(super) fn keep(&self) -> Option<&FilePath> {
        self.temporary.is_none().then_some(&self.directory)
    }

    /// A command line's context in this directory.
    fn context(&self) -> Result<Context> {
        Context::new(Global { config: Some(self.directory.join(CONFIG_FILE)), home: Some(self.directory.join("home")), writer_key: None })
    }
}

impl Stage {
    /// Makes the lake, and a sealer's key that this stage trusts.
    pub(super) async fn init(&self, clock: SharedClock) -> Result<()> {
        let regions: Vec<String> =
            REGIONS.iter().map(|name| format!("{name}={}", self.directory.join("regions").join(name).display())).collect();
        let retention = std::time::Duration::from_secs(30 * 24 * 60 * 60);
        let args = InitArgs { regions, data: 3, parity: 2, name: "demo".to_owned(), liars: 0, retention, no_fsync: false };
        let context = self.context()?;
        init(args, &context, clock).await?;
        context.home.new_key(Role::Sealer, Scheme::Ed25519, None)?;
        Ok(())
    }

    /// Imports the flights.
    pub(super) async fn import(&self) -> Result<u64> {
        let file = self.directory.join("flights.parquet");
        std::fs::write(&file, FLIGHTS).map_err(failed(&file))?;
        let context = self.context()?;
        let (_lake, location) = context.table(TABLE).await?;
        let imported = delta::import(&location, Import { sources: vec![file], ..Import::default() }).await?;
        context.finish().await;
        Ok(imported.rows)
    }

    /// The table as its log and the footers of its files state it.
    pub(super) async fn table_state(&self) -> Result<TableState> {
        let (_lake, location) = self.context()?.table(TABLE).await?;
        let snapshot = crate::table::load(location.store().as_ref(), location.root(), None).await?;
        let mut state = TableState { files: snapshot.files.len(), bytes: 0, rows: 0, row_groups: 0 };
        for file in snapshot.files.values() {
            let Some(path) = &file.location else { continue };
            let whole = location.store().get(path).await?.bytes().await?;
            let footer = ParquetMetaDataReader::new()
                .parse_and_finish(&whole)
                .map_err(|e| Error::new(ErrorKind::Corrupt, "a data file of the demo is no Parquet").caused_by(e))?;
            state.bytes += file.size;
            state.rows += u64::try_from(footer.file_metadata().num_rows()).unwrap_or(0);
            state.row_groups += footer.num_row_groups();
        }
        Ok(state)
    }

    /// Bytes of every file in every region.
    pub(super) fn stored_bytes(&self) -> Result<u64> {
        bytes_below(&self.directory.join("regions"))
    }

    /// Seals the table.
    pub(super) async fn seal(&self, clock: SharedClock) -> Result<SealOutcome> {
        let context = self.context()?;
        let key = context.sealer(None)?;
        let (_lake, at) = context.table(TABLE).await?;
        let options = SealOptions::default();
        let sealer = Sealer::new(at.store().clone(), at.root().clone(), at.url().as_str(), key, clock, options)?.with_log(at.log());
        let sealed = sealer.seal(&()).await?;
        context.finish().await;
        Ok(sealed)
    }

    /// Asks in SQL, as `lakeseal sql` does.
    pub(super) async fn ask(&self, query: &str) -> Result<Vec<Airport>> {
        let context = self.context()?;
        airports(&sql::collect(query, &context).await?)
    }

    /// Audits the table.
    pub(super) async fn audit(&self, clock: SharedClock) -> Result<AuditReport> {
        let context = self.context()?;
        let trust = context.trust(&[])?;
        let (_lake, at) = context.table(TABLE).await?;
        let options = AuditOptions::default();
        let auditor = Auditor::new(at.store().clone(), at.root().clone(), at.url().as_str(), trust, clock, options).with_log(at.log());
        auditor.audit(&()).await
    }

    /// Opens the lake anew, with no memory of what was read before.
    pub(super) async fn open(&self) -> Result<OpenLake> {
        self.context()?.lake().await
    }

    /// Deletes two of the regions for good.
    pub(super) fn delete_regions(&self) -> Result<()> {
        for region in LOST {
            let directory = self.directory.join("regions").join(region);
            std::fs::remove_dir_all(&directory).map_err(failed(&directory))?;
        }
        Ok(())
    }
}

fn bytes_below(directory: &FilePath) -> Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(directory).map_err(failed(directory))? {
        let entry = entry.map_err(failed(directory))?;
        let metadata = entry.metadata().map_err(failed(directory))?;
        total += if metadata.is_dir() { bytes_below(&entry.path())? } else { metadata.len() };
    }
    Ok(total)
}
