//! Arguments of commands that seal and audit.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `seal`.
#[derive(Debug, Args)]
pub struct SealArgs {
    /// The table
    pub table: String,
    /// The sealer's private key [default: HOME/keys/sealer.pem]
    #[arg(long, value_name = "FILE", env = "LAKESEAL_SEALER_KEY", hide_env_values = true)]
    pub key: Option<PathBuf>,
    /// Days until the baseline expires; 0 for never
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    pub expires_days: u32,
    /// Public keys of other sealers whose baselines are continued (PEM), or a trust root [default: HOME/trust-root.json, else HOME/trusted-sealers.pem]
    #[arg(long, value_name = "FILE")]
    pub trust: Vec<PathBuf>,
    /// Public keys of the writers, in PEM: every commit after the baseline must be attested by one [default: the trust root's, if it lists any]
    #[arg(long, value_name = "FILE")]
    pub writers: Vec<PathBuf>,
    /// Store the baseline, sign nothing, and show what changed; needs no key
    #[arg(long)]
    pub prepare: bool,
    /// Make a new baseline, with a new term, though nothing is new
    #[arg(long)]
    pub renew: bool,
    /// Under a trust root: you have looked at the changes, sign without asking
    #[arg(long)]
    pub yes: bool,
    /// How much may have changed
    #[command(flatten)]
    pub bounds: BoundsArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Do not fingerprint rows one by one: faster, but statistics are not checked, and a later rewrite of the same rows proves nothing
    #[arg(long)]
    pub no_rows: bool,
    /// What must not be false for any row that changes from now on, in SQL; repeat for each [default: those of the previous baseline]
    #[arg(long, value_name = "NAME=PREDICATE")]
    pub expect: Vec<String>,
    /// Expect nothing any more of rows that change
    #[arg(long, conflicts_with = "expect")]
    pub expect_nothing: bool,
    /// Seal although what was sealed before has changed; everything is read again, and the changes are shown
    #[arg(long)]
    pub accept_changes: bool,
    /// A table whose files this one's log may name, because this is a shallow clone of it; `PREFIX=TABLE` where the log spells its place in
    /// another way; repeat for each [default: those of the previous baseline]
    #[arg(long, value_name = "[PREFIX=]TABLE")]
    pub foreign_root: Vec<String>,
    /// Let the log name no other table's files any more
    #[arg(long, conflicts_with = "foreign_root")]
    pub no_foreign_root: bool,
    /// Continue the baseline that this file, or object at a URL, remembers; a file then remembers the new one
    #[arg(long, value_name = "FILE|URL")]
    pub pin: Option<String>,
    /// A further table of the lake, to be sealed as one with this (training set, features, labels); repeat for each
    #[arg(long, value_name = "TABLE", conflicts_with_all = ["expect", "expect_nothing", "foreign_root"])]
    pub together: Vec<String>,
    /// Days until the signed list of the lake's sealed tables expires; 0 for never
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    pub inventory_days: u32,
}

/// Bounds on sealing that nobody watches. With any of them, nothing beyond is signed, and nobody is asked.
#[derive(Debug, Args)]
pub struct BoundsArgs {
    /// Sign only if nothing was removed or changed since the last baseline
    #[arg(long)]
    pub append_only: bool,
    /// Sign only if at most so many rows were added; a file that is written anew counts with all its rows
    #[arg(long, value_name = "ROWS")]
    pub max_added_rows: Option<u64>,
    /// Sign only if at most so many rows were removed; a file that is written anew counts with all its rows
    #[arg(long, value_name = "ROWS")]
    pub max_removed_rows: Option<u64>,
    /// Within bounds, let columns, properties and protocol change
    #[arg(long)]
    pub allow_metadata_changes: bool,
}

/// `countersign`.
#[derive(Debug, Args)]
pub struct CountersignArgs {
    /// The table
    pub table: String,
    /// Your private key [default: HOME/keys/sealer.pem]
    #[arg(long, value_name = "FILE", env = "LAKESEAL_SEALER_KEY", hide_env_values = true)]
    pub key: Option<PathBuf>,
    /// Public keys (PEM) or the trust root under which it is signed [default: HOME/trust-root.json, else HOME/trusted-sealers.pem]
    #[arg(long, value_name = "FILE")]
    pub trust: Vec<PathBuf>,
    /// The proposal's digest, where several wait
    #[arg(long, value_name = "DIGEST")]
    pub digest: Option<String>,
    /// A table whose files this one's log may name, because this is a shallow clone of it; `PREFIX=TABLE` where the log spells its place in
    /// another way; repeat for each [default: those of the previous baseline]
    #[arg(long, value_name = "[PREFIX=]TABLE")]
    pub foreign_root: Vec<String>,
    /// You have looked at the changes: sign without asking
    #[arg(long)]
    pub yes: bool,
    /// Sign although what was sealed before has changed
    #[arg(long)]
    pub accept_changes: bool,
    /// How much may have changed
    #[command(flatten)]
    pub bounds: BoundsArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `baselines …`.
#[derive(Debug, Subcommand)]
pub enum BaselinesCommand {
    /// Write a baseline in force as a DSSE envelope around its in-toto statement
    #[command(after_help = "\
Examples:
  lakeseal baselines export flights --out flights.dsse.json
  lakeseal baselines export flights --baseline 3 --trust root-2.json

Other programs verify it: DSSE 1.0, payload type application/vnd.in-toto+json. The key ids are plain BLAKE3 of the public bytes
(`lakeseal keys show`); Ed25519 signatures are 64 bytes, P-256 ones ASN.1 DER over SHA-256.")]
    Export {
        /// The table
        table: String,
        /// The baseline's number [default: the newest in force]
        #[arg(long = "baseline", value_name = "NUMBER")]
        number: Option<u64>,
        /// The file to be written [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Public keys (PEM) or a trust root [default: HOME/trust-root.json, else HOME/trusted-sealers.pem]
        #[arg(long, value_name = "FILE")]
        trust: Vec<PathBuf>,
    },
}

/// `audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// The table
    pub table: String,
    /// Public keys of the sealers whom you trust (PEM), or a trust root [default: HOME/trust-root.json, else HOME/trusted-sealers.pem]
    #[arg(long, value_name = "FILE")]
    pub trust: Vec<PathBuf>,
    /// Public keys of the writers, in PEM: every commit after the baseline must be attested by one [default: the trust root's, if it lists any]
    #[arg(long, value_name = "FILE")]
    pub writers: Vec<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Compare the log and the files' sizes only; read no data
    #[arg(long)]
    pub quick: bool,
    /// Do not read files that a lake still has in the very version that was sealed
    #[arg(long, conflicts_with = "quick")]
    pub incremental: bool,
    /// Write a page for people to this file: one file that loads nothing, with changed values, drift and signers
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write the findings to this file as SARIF 2.1.0, for code-hosting systems
    #[arg(long, value_name = "FILE")]
    pub sarif: Option<PathBuf>,
    /// Hold the table against the newest baseline that this file, or object at a URL (http, s3, …), remembers; a file then remembers the one
    /// found, unless something is wrong
    #[arg(long, value_name = "FILE|URL")]
    pub pin: Option<String>,
}
