//! Arguments of commands about the log of baselines, the inventory and proofs.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `log`.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// The table; without it, the log of the whole lake
    pub table: Option<String>,
    /// Public keys of the sealers whom you trust (PEM), or a trust root [default: HOME/trust-root.json, else HOME/trusted-sealers.pem]
    #[arg(long, value_name = "FILE")]
    pub trust: Vec<PathBuf>,
    /// Print the newest checkpoint, a signed note
    #[arg(long, conflicts_with_all = ["check_consistency", "json"])]
    pub checkpoint: bool,
    /// Read the whole log: it must be as it was signed, and extend what is pinned
    #[arg(long)]
    pub check_consistency: bool,
    /// Hold the log against what this file, or object at a URL, remembers of it; a file then remembers what was found
    #[arg(long, value_name = "FILE|URL", requires = "check_consistency")]
    pub pin: Option<String>,
    /// Hold the log against the checkpoint in this file, which somebody else was shown; repeat for each
    #[arg(long, value_name = "FILE", requires = "check_consistency")]
    pub against: Vec<PathBuf>,
    /// Print JSON: one object a line, or one for --check-consistency
    #[arg(long)]
    pub json: bool,
}

/// `inventory …`.
#[derive(Debug, Subcommand)]
pub enum InventoryCommand {
    /// List the tables that must have a baseline, and whether they have it
    #[command(after_help = "\
Examples:
  lakeseal inventory show
  lakeseal inventory show flights       one table of it
  lakeseal inventory show --json

Exit codes:
  0  every listed table has the baseline that the inventory names, or a later one
  1  a table's seals were taken away, or the inventory's term is over
  2  could not be determined")]
    Show {
        /// One table of the lake, or a table outside of a lake [default: all tables of the lake]
        table: Option<String>,
        /// Public keys of the sealers whom you trust (PEM), or a trust root [default: HOME/trust-root.json, else HOME/trusted-sealers.pem]
        #[arg(long, value_name = "FILE")]
        trust: Vec<PathBuf>,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Sign the inventory anew, for another term
    #[command(after_help = "\
Examples:
  lakeseal inventory renew --expires-days 7       daily, by a job that has a key for it: nobody can then be shown an older lake for longer
  lakeseal inventory renew --key timestamp.pem

Each seal signs it too. The key is a sealer's, or, where the trust root names timestamp keys, one of these.")]
    Renew {
        /// A table outside of a lake [default: the lake]
        table: Option<String>,
        /// The private key [default: HOME/keys/sealer.pem]
        #[arg(long, value_name = "FILE", env = "LAKESEAL_SEALER_KEY", hide_env_values = true)]
        key: Option<PathBuf>,
        /// Public keys of the sealers whom you trust (PEM), or a trust root [default: HOME/trust-root.json, else HOME/trusted-sealers.pem]
        #[arg(long, value_name = "FILE")]
        trust: Vec<PathBuf>,
        /// Days until it expires; 0 for never
        #[arg(long, value_name = "DAYS", default_value_t = 365)]
        expires_days: u32,
    },
    /// Give up a table that is no more: nothing is expected of it from here on
    #[command(
        after_help = "Example:\n  lakeseal inventory drop flights\n\nIt is an entry of the log like any other; a later seal brings the table back.\nWhere the trust root asks for several sealers, as many must give this command."
    )]
    Drop {
        /// The table
        table: String,
        /// The sealer's private key [default: HOME/keys/sealer.pem]
        #[arg(long, value_name = "FILE", env = "LAKESEAL_SEALER_KEY", hide_env_values = true)]
        key: Option<PathBuf>,
        /// Public keys of the sealers whom you trust (PEM), or a trust root [default: HOME/trust-root.json, else HOME/trusted-sealers.pem]
        #[arg(long, value_name = "FILE")]
        trust: Vec<PathBuf>,
        /// Days until the inventory expires; 0 for never
        #[arg(long, value_name = "DAYS", default_value_t = 365)]
        expires_days: u32,
    },
}

/// `prove`.
#[derive(Debug, Args)]
pub struct ProveArgs {
    /// The table
    pub table: String,
    /// The file's path in the table
    pub file: String,
    /// Write the proof to this new file [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Public keys of the sealers whom you trust (PEM), or a trust root [default: HOME/trust-root.json, else HOME/trusted-sealers.pem]
    #[arg(long, value_name = "FILE")]
    pub trust: Vec<PathBuf>,
}

/// `verify-proof`.
#[derive(Debug, Args)]
pub struct VerifyProofArgs {
    /// The proof
    pub proof: PathBuf,
    /// The file that it is of, wherever it is now
    pub file: PathBuf,
    /// Public keys of the sealers whom you trust (PEM), or a trust root [default: HOME/trust-root.json, else HOME/trusted-sealers.pem]
    #[arg(long, value_name = "FILE")]
    pub trust: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
