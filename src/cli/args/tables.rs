//! Arguments of commands that read and write tables.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::sql::VerifyMode;

/// How an import treats what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImportMode {
    /// Add rows
    Append,
    /// Replace all rows; older versions stay readable
    Overwrite,
}

/// `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Parquet (.parquet) or CSV (.csv, with a header) files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The table; it is made when it does not exist
    #[arg(long)]
    pub table: String,
    /// What to do when the table has rows already
    #[arg(long, value_enum, default_value_t = ImportMode::Append)]
    pub mode: ImportMode,
}

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RowFormat {
    /// Aligned, for people
    Table,
    /// Comma-separated, with a header
    Csv,
    /// One JSON object a line
    Json,
}

/// `sql`.
#[derive(Debug, Args)]
pub struct SqlArgs {
    /// The query [default: a shell; without a terminal, the statements of standard input]
    #[arg(short = 'c', long = "command", value_name = "QUERY")]
    pub query: Option<String>,
    /// How rows are printed
    #[arg(long, value_enum, default_value_t = RowFormat::Table)]
    pub format: RowFormat,
    /// A table from elsewhere, under a name of its own; repeat for each [the lake's own tables need none]
    #[arg(long = "table", value_name = "NAME=TABLE")]
    pub tables: Vec<String>,
    /// Read exactly what was sealed, not what came after, and refuse tables that nobody whom you trust has sealed
    #[arg(long)]
    pub sealed: bool,
    /// Where a table is not what was sealed: enforce (fail), heal (serve the sealed bytes from retained versions), quarantine (leave row groups out), warn (deliver what is there, and say where; a file of another size, as one that was encoded anew, and a changed log object are refused), off
    #[arg(long, value_name = "MODE", default_value_t = VerifyMode::Enforce)]
    pub verify: VerifyMode,
    /// Public keys of the sealers whom you trust (PEM), or a trust root [default: HOME/trust-root.json, else HOME/trusted-sealers.pem]
    #[arg(long, value_name = "FILE")]
    pub trust: Vec<PathBuf>,
    /// Public keys of the writers, in PEM: every commit after the baseline must be attested by one [default: the trust root's, if it lists any]
    #[arg(long, value_name = "FILE")]
    pub writers: Vec<PathBuf>,
    /// Refuse tables that are older than, or others than, this file or object at a URL remembers
    #[arg(long, value_name = "FILE|URL")]
    pub pin: Option<String>,
}

/// `lineage`.
#[derive(Debug, Args)]
pub struct LineageArgs {
    /// The table
    pub table: String,
    /// Only the commit of this version
    #[arg(long, value_name = "VERSION")]
    pub at: Option<u64>,
    /// Print OpenLineage run events, one JSON object a line
    #[arg(long, conflicts_with = "json")]
    pub openlineage: bool,
    /// Print SLSA provenance, one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// Public keys of the writers whose attestations count, in PEM [default: the lake's writers]
    #[arg(long, value_name = "FILE")]
    pub writers: Vec<PathBuf>,
}

/// `vacuum`.
#[derive(Debug, Args)]
pub struct VacuumArgs {
    /// The table
    pub table: String,
    /// Take the files away, of a table in a lake; without it they are listed only
    #[arg(long)]
    pub delete: bool,
    /// Take away what is younger than 7 days, as --older-than says: nobody is writing to the table
    #[arg(long, requires = "delete")]
    pub force: bool,
    /// Leave younger files alone: 7d, 12h, … at least an hour; with --delete, less than 7d takes --force
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = crate::cli::duration::parse)]
    pub older_than: Duration,
    /// Public keys of the sealers whom you trust (PEM), or a trust root [default: HOME/trust-root.json, else HOME/trusted-sealers.pem]
    #[arg(long, value_name = "FILE")]
    pub trust: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The table
    pub table: String,
    /// A directory that does not exist yet, or is empty
    pub directory: PathBuf,
}
