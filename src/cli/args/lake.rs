//! Arguments of commands about a lake and its regions.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

/// `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// A region's name and where it is: a directory or a URL (file, s3, az, gs); repeat for each
    #[arg(long = "region", value_name = "NAME=LOCATION", required = true)]
    pub regions: Vec<String>,
    /// Number of data shards: how many regions suffice to read
    #[arg(long, value_name = "K")]
    pub data: u8,
    /// Number of parity shards: how many regions may be lost
    #[arg(long, value_name = "M")]
    pub parity: u8,
    /// The lake's name, as in lakeseal://NAME/table
    #[arg(long, default_value = "lake")]
    pub name: String,
    /// How many regions may forget or lie about names [0 trusts all of them with names, never with data]
    #[arg(long, value_name = "B", default_value_t = 0)]
    pub liars: u8,
    /// How long overwritten and deleted versions stay readable before they may be collected: 30d, 12h, … at least an hour. The root key signs it,
    /// and it stays
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = crate::cli::duration::parse)]
    pub retention: Duration,
    /// Do not wait for directories to reach the disk (for trying out)
    #[arg(long)]
    pub no_fsync: bool,
}

/// What every change of the regions takes.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// The lake's root key [default: HOME/lakes/LAKE_ID/root.pem]
    #[arg(long, value_name = "FILE")]
    pub root_key: Option<PathBuf>,
    /// Nobody else has the lake open: do not wait until other clients' leases have ended
    #[arg(long)]
    pub no_wait: bool,
    /// Print one JSON object when it is done
    #[arg(long)]
    pub json: bool,
}

/// `region replace`.
#[derive(Debug, Args)]
pub struct ReplaceArgs {
    /// The region's name; it stays
    pub name: String,
    /// The new location: an empty directory or prefix
    #[arg(long = "with", value_name = "LOCATION")]
    pub with: String,
    /// You made sure that nobody can reach the old location any more: its credentials are revoked, or it is gone
    #[arg(long)]
    pub fenced: bool,
    /// Do not wait for a directory to reach the disk (for trying out)
    #[arg(long)]
    pub no_fsync: bool,
    /// Keys, waiting, output.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// `region add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// The new region's name, and an empty directory or prefix
    #[arg(value_name = "NAME=LOCATION")]
    pub region: String,
    /// Do not wait for a directory to reach the disk (for trying out)
    #[arg(long)]
    pub no_fsync: bool,
    /// Keys, waiting, output.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// `region retire`.
#[derive(Debug, Args)]
pub struct RetireArgs {
    /// The region's name
    pub name: String,
    /// The region is gone for good: give up what cannot be rebuilt without it
    #[arg(long)]
    pub lost: bool,
    /// Another region that is gone for good, to be replaced or retired afterwards: leave out what it would be given; repeat for each
    #[arg(long, value_name = "NAME")]
    pub gone: Vec<String>,
    /// Keys, waiting, output.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Show regions and budgets only
    #[arg(long)]
    pub quick: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `region …`.
#[derive(Debug, Subcommand)]
pub enum RegionCommand {
    /// List the regions and whether they answer
    #[command(after_help = "Example:\n  lakeseal region list")]
    List,
    /// Race, list and delete in a region, to learn whether it keeps the promises that a lake needs
    #[command(after_help = "\
Examples:
  lakeseal region check                     the lake's regions
  lakeseal region check s3://bucket/lake    a place that is not a region yet

  lakeseal region check --as writer         whether these credentials can neither delete nor overwrite

Test objects are written under a name of their own and deleted again. Exits with 1 when a region fails.")]
    Check {
        /// Names of the lake's regions, or directories and URLs [default: all of the lake's]
        regions: Vec<String>,
        /// Prove that the credentials in use can do what this role needs, and no more
        #[arg(long = "as", value_name = "ROLE")]
        role: Option<CheckRole>,
    },
    /// Put an empty place in a region's stead, while the lake is read and written
    #[command(after_help = "\
Examples:
  lakeseal region replace b --with ./r/b2 --fenced
  lakeseal region replace eu --with s3://new-bucket/lake --fenced

A region that was lost, wiped or corrupted beyond trust counts as down until it is replaced. The new one is told every name, is given every shard,
read back and verified, and only then votes. First make sure that no client can still reach the old one (revoke its credentials, or
remove it), and say so with --fenced: what is written there afterwards would be lost. When it is broken off, the same command goes on; when
the new place is lost before it votes, or that of a region that is being added, the command with yet another place does.
The lake's configuration is rewritten; other users of the lake need the new file.")]
    Replace(ReplaceArgs),
    /// Give the lake one region more, while it is read and written
    #[command(after_help = "\
Examples:
  lakeseal region add f=./r/f
  lakeseal region add asia=s3://new-bucket/lake

DATA and PARITY stay: new objects are spread over one region more, and what is there stays where it is. The place must be empty. It is refused
while too few of the other regions answer to end it. When it is broken off, the same command goes on. It takes half a minute at least: clients
that have the lake open are waited for. The lake's configuration is rewritten; other users of the lake need the new file, and are told so. Options
of the new region (endpoint, timeout_ms, …) can be added to the file afterwards; an S3 endpoint that the environment does not name has to be there
before: write the region into lakeseal.toml, and run the same command.")]
    Add(AddArgs),
    /// Take a region out of the lake, while it is read and written
    #[command(after_help = "\
Examples:
  lakeseal region retire b
  lakeseal region retire b --json
  lakeseal region retire b --lost     b is gone for good
  lakeseal region retire b --gone c   c is, and is replaced afterwards

Every shard that the region holds is given to another region that holds no other shard of the same version: copied, or rebuilt if the region cannot be
reached any more. What can be neither copied nor rebuilt ends the command, to be given again when the region answers; with --lost it is given up,
and counted. When the command is done nothing of the lake is read there; delete it, or take its credentials away. At least DATA + PARITY
regions, and three, must be left, and all others have to answer, for they are given its shards: if one does not, the command says so before it
begins. One that is lost meanwhile, or cannot be replaced before, is named with --gone: what it would be given is left out, provided that DATA others
verify, and made when it is replaced. When it is broken off, the same command goes on. Other users of the lake need the new lakeseal.toml.")]
    Retire(RetireArgs),
}

/// Whose credentials `region check --as` is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckRole {
    /// May create, read and list; may neither delete nor overwrite
    Writer,
}
