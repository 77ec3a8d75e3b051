//! Arguments of commands that look after stored objects and their versions.

use std::path::PathBuf;

use clap::Args;

/// `scrub`.
#[derive(Debug, Args)]
pub struct ScrubArgs {
    /// Rebuild what is missing or damaged
    #[arg(long)]
    pub repair: bool,
    /// Read this fraction of the shards, chosen at random [default: all]
    #[arg(long, value_name = "P")]
    pub sample: Option<f64>,
    /// Read at most this many megabytes a second
    #[arg(long, value_name = "MB/S")]
    pub rate: Option<f64>,
    /// Compare lists and sizes only; read no shard
    #[arg(long, conflicts_with_all = ["sample", "rate"])]
    pub quick: bool,
    /// Only objects below this path
    #[arg(long, value_name = "PATH")]
    pub prefix: Option<String>,
    /// Go on where the last scrub of this lake was interrupted
    #[arg(long)]
    pub resume: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `versions`.
#[derive(Debug, Args)]
pub struct VersionsArgs {
    /// The object's path in the lake
    pub path: String,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// `restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The table (with --to), or the object's path in the lake
    #[arg(value_name = "TABLE|PATH")]
    pub path: String,
    /// Restore a table to this baseline: its number, or `newest`
    #[arg(long, value_name = "BASELINE", conflicts_with = "version")]
    pub to: Option<String>,
    /// A commit after the baseline that stays, because you vouch for it; repeat for each
    #[arg(long, value_name = "COMMIT", requires = "to")]
    pub keep: Vec<u64>,
    /// Keep the commits after the baseline that a writer attested, unless they were made from files that differ now
    #[arg(long, requires = "to")]
    pub keep_attested: bool,
    /// Public keys of the writers whose attestations count, in PEM [default: those of the trust root, else the lake's]
    #[arg(long, value_name = "FILE", requires = "keep_attested")]
    pub writers: Vec<PathBuf>,
    /// Restore what can be, although something is lost
    #[arg(long, requires = "to")]
    pub partial: bool,
    /// Say what would change; change nothing
    #[arg(long, requires = "to")]
    pub dry_run: bool,
    /// Print one JSON object
    #[arg(long, requires = "to")]
    pub json: bool,
    /// Public keys of the sealers whom you trust (PEM), or a trust root [default: HOME/trust-root.json, else HOME/trusted-sealers.pem]
    #[arg(long, value_name = "FILE", requires = "to")]
    pub trust: Vec<PathBuf>,
    /// Refuse a `newest` that is older than, or another than, the one that this file or object at a URL remembers
    #[arg(long, value_name = "FILE|URL", requires = "to")]
    pub pin: Option<String>,
    /// An object's version, as `lakeseal versions` lists it [default: the newest that is readable and no deletion, before the current one]
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
}

/// `purge`.
#[derive(Debug, Args)]
pub struct PurgeArgs {
    /// The table
    pub table: String,
    /// A file that is no longer live and that any baseline seals, the newest or an older one, by its path in the table; repeat for each
    #[arg(long = "file", value_name = "FILE", required_unless_present = "confirm", conflicts_with = "confirm")]
    pub files: Vec<String>,
    /// Why. It is recorded for ever: no personal data belongs into it
    #[arg(long, value_name = "TEXT", required_unless_present = "confirm")]
    pub reason: Option<String>,
    /// Sign as the second sealer what the first prepared, and destroy it
    #[arg(long, value_name = "DIGEST")]
    pub confirm: Option<String>,
    /// The record was looked at, and is right
    #[arg(long, requires = "confirm")]
    pub yes: bool,
    /// The sealer's private key [default: HOME/keys/sealer.pem]
    #[arg(long, value_name = "FILE", env = "LAKESEAL_SEALER_KEY", hide_env_values = true)]
    pub key: Option<PathBuf>,
    /// The collector's private key [default: HOME/lakes/LAKE_ID/collector.pem]
    #[arg(long, value_name = "FILE", env = "LAKESEAL_COLLECTOR_KEY", hide_env_values = true)]
    pub collector_key: Option<PathBuf>,
    /// Public keys of the sealers whom you trust (PEM), or a trust root [default: HOME/trust-root.json, else HOME/trusted-sealers.pem]
    #[arg(long, value_name = "FILE")]
    pub trust: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `collect`.
#[derive(Debug, Args)]
pub struct CollectArgs {
    /// Say what would be collected; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Only objects below this path
    #[arg(long, value_name = "PATH")]
    pub prefix: Option<String>,
    /// The collector's private key [default: HOME/lakes/LAKE_ID/collector.pem]
    #[arg(long, value_name = "FILE", env = "LAKESEAL_COLLECTOR_KEY", hide_env_values = true)]
    pub key: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
