//! Raw arguments, as clap reads them, and their help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::trust_args::TrustCommand;
use crate::key::{Role, Scheme};
use crate::sql::VerifyMode;

const ABOUT: &str = "A data lake that keeps itself: erasure-coded across regions, sealed by signed baselines, checked while it is queried.";

const AFTER_HELP: &str = "\
Five minutes:
  lakeseal init --region a=./r/a --region b=./r/b --region c=./r/c --region d=./r/d --region e=./r/e --data 3 --parity 2
  lakeseal keys new --role sealer
  lakeseal import sample-data/flights.parquet --table flights
  lakeseal seal flights
  lakeseal sql -c 'SELECT origin, avg(delay) FROM flights GROUP BY origin ORDER BY 2 DESC LIMIT 5'
  lakeseal audit flights

TABLE is the name of a table of the lake, or the path or URL of any Delta table or folder of Parquet files:
  flights   ./dir   /data/sales   file:///data/sales   s3://bucket/sales   lakeseal://lake/flights

Exit codes:
  0    done; for `audit`: intact, and nothing came after the baseline
  1    a mismatch: what is there is not what was sealed, or not sealed by anybody whom you trust
  2    it could not be done, or could not be determined
  3    `audit` only: intact, and there are later commits that no baseline covers
  130  interrupted

Secrets of cloud stores come from the environment as usual (AWS_*, AZURE_*, GOOGLE_*), never from lakeseal.toml.
Colours and progress bars appear on terminals only; NO_COLOR switches colours off. LAKESEAL_LOG=debug shows what happens.";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "lakeseal", version, about = ABOUT, after_help = AFTER_HELP, max_term_width = 110)]
#[command(arg_required_else_help = true, subcommand_required = true, propagate_version = true)]
pub struct Cli {
    /// Which lake and whose keys.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Arguments of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// The lake's configuration [default: lakeseal.toml here or in the nearest parent directory]
    #[arg(long, global = true, env = "LAKESEAL_CONFIG", value_name = "FILE", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Directory of your keys and of whom you trust [default: lakeseal in your configuration directory, ~/.config/lakeseal]
    #[arg(long, global = true, env = "LAKESEAL_HOME", value_name = "DIR", hide_env_values = true)]
    pub home: Option<PathBuf>,
    /// Private key that signs writes to the lake [default: HOME/lakes/LAKE_ID/writer.pem]
    #[arg(long, global = true, env = "LAKESEAL_WRITER_KEY", value_name = "FILE", hide_env_values = true)]
    pub writer_key: Option<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a lake over empty regions
    #[command(after_help = "\
Examples:
  lakeseal init --region a=/disks/a --region b=/disks/b --region c=/disks/c --data 2 --parity 1
  lakeseal init --name sales --data 3 --parity 2 --region eu=s3://bucket-eu/lake --region us=s3://bucket-us/lake \\
      --region az=az://container/lake --region gc=gs://bucket/lake --region home=./lake-home

Each region keeps one shard of everything: give at least DATA + PARITY of them, in places that fail independently.
Any PARITY of them may be lost without losing data. The root, writer and collector keys are made under HOME/lakes/LAKE_ID/.")]
    Init(InitArgs),
    /// Show, check, add, replace or retire regions
    #[command(subcommand)]
    Region(RegionCommand),
    /// Show the lake: regions, budgets, margins, versions, orphans, bytes and overhead
    #[command(after_help = "\
Examples:
  lakeseal status
  lakeseal status --quick      regions and budgets only; nothing is counted
  lakeseal status --json

Counting lists every name and every shard once, in all regions; it reads no data. Margins are what the lists show: `scrub` reads.")]
    Status(StatusArgs),
    /// Read the shards of all objects, find what is missing or damaged, and repair it
    #[command(after_help = "\
Examples:
  lakeseal scrub                          read everything; report
  lakeseal scrub --repair                 and rebuild what is bad, the versions with the least margin first
  lakeseal scrub --sample 0.02 --rate 50  read 2 % of the shards, at most 50 MB/s
  lakeseal scrub --quick                  compare lists and sizes only
  lakeseal scrub --repair --resume        go on where an interrupted scrub stopped

A region that cannot be reached is not a region without shards: it is reported as unreachable and left alone. What was rebuilt counts as
repaired only after it was read back from its region.

Exit codes:
  0  every shard and name that was looked at is there and intact, or was repaired
  1  something is missing or damaged
  2  could not be determined: a region is unreachable")]
    Scrub(ScrubArgs),
    /// List the versions of an object
    #[command(after_help = "\
Examples:
  lakeseal versions flights/_delta_log/00000000000000000000.json
  lakeseal versions flights/part-00001.parquet --json

PATH is an object's path inside the lake. Overwritten and deleted objects keep their versions until the lake's retention lets go of them.")]
    Versions(VersionsArgs),
    /// Bring back what was sealed of a table, or an older version of one object
    #[command(
        disable_version_flag = true,
        after_help = "\
A table, to one of its baselines:
  lakeseal restore flights --to newest --dry-run      say what would change
  lakeseal restore flights --to newest                undo all that came after the newest baseline
  lakeseal restore flights --to newest --keep-attested  but keep the later commits that a writer attested
  lakeseal restore flights --to 3 --keep 17 --keep 19   but keep these later commits, for which you vouch
Poisoned or missing files are written anew, at new paths, from the versions that the lake retains of their sealed bytes; one commit makes
them live, so that every engine reads the truth again. Sealed objects that were changed are put back in place as well. It exits with 1 when
something cannot be brought back; nothing is written then, unless --partial is given.

One object, to one of its versions:
  lakeseal restore flights/part-00001.parquet --version 0.3f2a…     as listed by `lakeseal versions`
  lakeseal restore flights/part-00001.parquet                       the newest that is not a deletion
Its bytes are verified and written as a new version: nothing is overwritten, and the restore can itself be undone."
    )]
    Restore(RestoreArgs),
    /// Destroy sealed files for good, in all their versions, on record and by two sealers
    #[command(after_help = "\
Examples:
  lakeseal purge flights --file part-00001.parquet --reason 'erasure request 17'     the first sealer asks
  lakeseal purge flights --confirm DIGEST                                            the second is shown what for,
  lakeseal purge flights --confirm DIGEST --yes                                      signs it, and destroys
Only files that a baseline seals and that are no longer live can be purged: to erase rows, delete them in an ordinary commit first, and then
purge the files that held them. The record stays for ever, with its reason: audits say `purged`, and neither --verify heal nor restore brings
the bytes back. It takes the collector's key; a region that is down must come back before all is gone, and the command says so.
Back-ups and copies that others keep are theirs to erase.")]
    Purge(PurgeArgs),
    /// Let go of versions that are older than the retention, and of shards that belong to nothing
    #[command(after_help = "\
Examples:
  lakeseal collect --dry-run
  lakeseal collect

It takes the collector's key, which writers do not have, and credentials that may delete. The lake's retention is signed by its root
key: nothing younger is collected, whatever is asked for.")]
    Collect(CollectArgs),
    /// Make and show keys
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Write Parquet or CSV files into a table of the lake, in one commit
    #[command(after_help = "\
Examples:
  lakeseal import sample-data/flights.parquet --table flights
  lakeseal import january.csv february.csv --table sales --mode overwrite

The files must agree in their columns. Nothing is visible before all of it is: an interrupted import leaves no trace in the table.")]
    Import(ImportArgs),
    /// List the lake's tables
    #[command(after_help = "Example:\n  lakeseal tables")]
    Tables,
    /// Ask in SQL; sealed tables are checked while they are read
    #[command(after_help = "\
Examples:
  lakeseal sql -c 'SELECT count(*) FROM flights'
  lakeseal sql -c 'SELECT origin, avg(delay) AS delay FROM flights GROUP BY origin ORDER BY delay DESC LIMIT 5' --format csv
  lakeseal sql -c \"SELECT verdict, file, row_group, \\\"column\\\" FROM audit('flights') WHERE verdict <> 'intact'\"
  lakeseal sql -c \"SELECT * FROM baselines('flights')\"
  lakeseal sql --table sales=./sales -c 'SELECT count(*) FROM sales'
  lakeseal sql                         a shell: history, completion, several lines, \\d, timing
  lakeseal sql < report.sql            the statements of a file, up to the first that fails

A query that would return rows of modified data fails before they are released, and exits with 1.")]
    Sql(SqlArgs),
    /// Sign what a table is now: a baseline
    #[command(after_help = "\
Examples:
  lakeseal seal flights
  lakeseal seal ./delta-table --key sealer.pem
  lakeseal seal s3://bucket/sales --key sealer.pem --expires-days 30
  lakeseal seal flights --pin pins.json
  lakeseal seal flights --expect 'delay in minutes=delay BETWEEN -120 AND 3000' --expect \"known carrier=carrier IN ('AA', 'UA')\"
  lakeseal seal flights --append-only --max-added-rows 1000000     by itself, every night: beyond these bounds nothing is sealed
  lakeseal seal flights --prepare                                  sign nothing; others do, with `countersign`
  lakeseal seal flights --renew                                    a new term, though nothing is new

Expectations are signed with the baseline. Audits hold every row against them that changed after it; sealing refuses while one is broken.

Sealing reads the files that no baseline covers yet, recomputes their statistics, and refuses when the table states others.
It writes below the table's _seal/ only. The first seal of a table is trust on first use: it says what is there, not that it is true.
Under a trust root the changes since the last baseline are shown, and it signs when you say so (or --yes); where the root asks for several
sealers, the baseline is in force once enough have countersigned it.")]
    Seal(SealArgs),
    /// Sign a baseline that another prepared, after reading the table anew and being shown what changed
    #[command(after_help = "\
Examples:
  lakeseal countersign flights --key bob.pem
  lakeseal countersign flights --key bob.pem --digest 3f2a…      one of several proposals
  lakeseal countersign flights --key bob.pem --append-only --max-added-rows 1000000

Nothing that the proposal says is believed: every file that no baseline in force covers is read, and digests, sums and statistics must come
out the same. Then the changes since the last baseline in force are shown, and it is signed when you say so (or --yes, or within bounds).

Exit codes: 0 signed; 1 the table is not what the proposal says; 2 not signed, or it could not be done.")]
    Countersign(CountersignArgs),
    /// Export baselines for other programs
    #[command(subcommand)]
    Baselines(BaselinesCommand),
    /// Say who may seal, and how many must agree: make, change, sign and publish trust roots
    #[command(subcommand)]
    Trust(TrustCommand),
    /// Compare a table with its newest baseline
    #[command(after_help = "\
Examples:
  lakeseal audit flights
  lakeseal audit ./delta-table --trust sealer.pem.pub --json
  lakeseal audit flights --html audit.html --sarif audit.sarif
  lakeseal audit flights --pin pins.json                 remembers the newest baseline: older ones, and none, are a mismatch then

Exit codes:
  0  intact, and nothing came after the baseline
  3  intact, but later commits are unsealed (they are listed)
  1  a mismatch, or sealed by nobody whom you trust
  2  could not be determined: never sealed, unreachable, no keys")]
    Audit(AuditArgs),
    /// Audit again and again: metrics, a webhook, time to detection
    #[command(after_help = super::watch::HELP)]
    Watch(super::watch::WatchArgs),
    /// Show the rows that changed since a baseline, with sealed and found values
    #[command(after_help = super::diff::HELP)]
    Diff(super::diff::DiffArgs),
    /// List a table's baselines, or the log of all baselines of the lake; check that it was only appended to
    #[command(after_help = "\
Examples:
  lakeseal log flights                                     the table's baselines
  lakeseal log                                             the lake's log: every seal of every table
  lakeseal log --checkpoint > checkpoint.txt               its size and root, signed (a C2SP checkpoint)
  lakeseal log --check-consistency --pin pins.json         nothing was taken away or rewritten since the pin
  lakeseal log --check-consistency --against theirs.txt    we and they were shown one history

A lake has one log; a table outside of a lake has one of its own (`lakeseal log ./table --check-consistency`). Checking reads every entry.

Exit codes of --check-consistency:
  0  every entry is as it was signed, and as it was pinned
  1  entries are gone or changed, or the histories fork
  2  could not be determined")]
    Log(LogArgs),
    /// Show what each commit of a table was made from, by which statement, and who attested it
    #[command(after_help = "\
Examples:
  lakeseal lineage flights
  lakeseal lineage flights --at 3 --json           SLSA provenance, one JSON object a commit
  lakeseal lineage flights --openlineage > f.json  OpenLineage run events, one a line
  lakeseal sql -c \"SELECT * FROM upstream('training')\"
  lakeseal sql -c \"SELECT DISTINCT \\\"table\\\" FROM blast_radius('raw', 'part-0.parquet', 2)\"
  lakeseal sql -c \"SELECT * FROM verify_derivation('features')\"

Commits made through Lakeseal record their lineage, signed by the writer's key: `recorded`. Of commits made by others it is made out from what
their log entries add and remove: `derived`. Recorded lineage is its writer's claim until verify_derivation runs the statement again.")]
    Lineage(LineageArgs),
    /// Show the signed list of sealed tables; renew its term; give up a table
    #[command(subcommand)]
    Inventory(InventoryCommand),
    /// Prove that a file is in the newest baseline of a table: one JSON document that others verify without the lake
    #[command(after_help = "\
Examples:
  lakeseal prove flights part-00000-….parquet > proof.json
  lakeseal prove ./folder year=2024/a.parquet --out proof.json

FILE is the file's path in the table, as `SELECT DISTINCT file FROM row_groups('flights')` lists it. The proof holds the signed baseline,
the path from the file to it, and the baseline's place in the log with a signed checkpoint.")]
    Prove(ProveArgs),
    /// Verify a proof and the file that it is of, with public keys alone
    #[command(after_help = "\
Examples:
  lakeseal verify-proof proof.json part-00000.parquet --trust sealer.pem.pub
  lakeseal verify-proof proof.json copy.parquet --json

No lake and no network are needed.

Exit codes:
  0  the file is, byte for byte, the one that was sealed
  1  it is not, or the proof does not hold, or nobody whom you trust signed it, or its term is over
  2  it is no proof, or a file could not be read")]
    VerifyProof(VerifyProofArgs),
    /// Copy a table's Parquet files into a directory, in their folders
    #[command(after_help = "Example:\n  lakeseal export flights ./flights-copy")]
    Export(ExportArgs),
    /// Show the main job on real flight data, in a temporary directory
    #[command(after_help = "Examples:\n  lakeseal demo\n  lakeseal demo --keep ./lakeseal-demo")]
    Demo(DemoArgs),
}

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
    /// An object's version, as `lakeseal versions` lists it [default: the newest that is readable and no deletion, before the current one]
    #[arg(long, value_name = "VERSION")]
    pub version: Option<String>,
}
/// `purge`.
#[derive(Debug, Args)]
pub struct PurgeArgs {
    /// The table
    pub table: String,
    /// A sealed file that is no longer live, by its path in the table; repeat for each
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
remove it), and say so with --fenced: what is written there afterwards would be lost. When it is broken off, the same command goes on.
The lake's configuration is rewritten; other users of the lake need the new file.")]
    Replace(ReplaceArgs),
    /// Give the lake one region more, while it is read and written
    #[command(after_help = "\
Examples:
  lakeseal region add f=./r/f
  lakeseal region add asia=s3://new-bucket/lake

DATA and PARITY stay: new objects are spread over one region more, and what is there stays where it is. The place must be empty. When it is broken
off, the same command goes on. It takes half a minute at least: clients that have the lake open are waited for. The lake's configuration is rewritten; other users of the
lake need the new file, and are told so. Options of the new region (endpoint, timeout_ms, …) can be added to the file afterwards; an S3 endpoint that the
environment does not name has to be there before: write the region into lakeseal.toml, and run the same command.")]
    Add(AddArgs),
    /// Take a region out of the lake, while it is read and written
    #[command(after_help = "\
Examples:
  lakeseal region retire b
  lakeseal region retire b --json

Every shard that the region holds is given to another region that holds no other shard of the same version: copied, or rebuilt if the region cannot be
reached any more. When the command is done nothing of the lake is read there; delete it, or take its credentials away. At least DATA + PARITY
regions, and three, must be left. When it is broken off, the same command goes on. Other users of the lake need the new lakeseal.toml.")]
    Retire(RetireArgs),
}

/// Whose credentials `region check --as` is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckRole {
    /// May create, read and list; may neither delete nor overwrite
    Writer,
}

/// `keys …`.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key
    #[command(after_help = "\
Examples:
  lakeseal keys new --role sealer
  lakeseal keys new --role sealer --out sealer.pem
  lakeseal keys new --role sealer --scheme p256 --out sealer-p256.pem

Writes the private key (PEM, mode 0600) and its public half beside it (.pub). A sealer's public key is also added to
HOME/trusted-sealers.pem: you trust what you seal yourself, and audits report it as `trust: self`. Others need the .pub file.")]
    New {
        /// What the key is for
        #[arg(long)]
        role: Role,
        /// The signature scheme; devices and cloud key services often offer P-256 only
        #[arg(long, value_enum, default_value_t = Scheme::Ed25519)]
        scheme: Scheme,
        /// Where the private key goes [default: HOME/keys/ROLE.pem]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show the public keys in files: their scheme, identity and bytes
    #[command(after_help = "\
Examples:
  lakeseal keys show sealer.pem            the public half of a private key
  lakeseal keys show sealer.pem.pub --json
  lakeseal keys show ~/.config/lakeseal/trusted-sealers.pem

The identity is plain BLAKE3 of the public bytes: compare it by another channel (in person, by telephone) before you trust a key.
The line that begins with the scheme is how trust roots and `lakeseal trust` name the key.")]
    Show {
        /// Files of private or public keys, in PEM
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
}

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
    /// A table from elsewhere, under a name; repeat for each [the lake's own tables need none]
    #[arg(long = "table", value_name = "NAME=TABLE")]
    pub tables: Vec<String>,
    /// Read exactly what was sealed, not what came after, and refuse tables that nobody whom you trust has sealed
    #[arg(long)]
    pub sealed: bool,
    /// Where a table is not what was sealed: enforce (fail), heal (serve the sealed bytes from retained versions), quarantine (leave row groups out), warn (deliver what is there), off
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
    /// Continue the baseline that this file, or object at a URL, remembers; a file then remembers the new one
    #[arg(long, value_name = "FILE|URL")]
    pub pin: Option<String>,
    /// A further table of the lake, to be sealed as one with this (training set, features, labels); repeat for each
    #[arg(long, value_name = "TABLE", conflicts_with_all = ["expect", "expect_nothing"])]
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
        after_help = "Example:\n  lakeseal inventory drop flights\n\nIt is an entry of the log like any other; a later seal brings the table back."
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

/// `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The table
    pub table: String,
    /// A directory that does not exist yet, or is empty
    pub directory: PathBuf,
}

/// `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Keep the demo's files in this new directory
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}
