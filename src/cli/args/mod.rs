//! Raw arguments, as clap reads them, and their help.

mod care;
mod keys;
mod lake;
mod log;
mod seals;
mod tables;
mod trust;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use self::care::{CollectArgs, PurgeArgs, RestoreArgs, ScrubArgs, VersionsArgs};
pub use self::keys::KeysCommand;
pub use self::lake::{AddArgs, ChangeArgs, CheckRole, InitArgs, RegionCommand, ReplaceArgs, RetireArgs, StatusArgs};
pub use self::log::{InventoryCommand, LogArgs, ProveArgs, VerifyProofArgs};
pub use self::seals::{AuditArgs, BaselinesCommand, BoundsArgs, CountersignArgs, SealArgs};
pub use self::tables::{ExportArgs, ImportArgs, ImportMode, LineageArgs, RowFormat, SqlArgs, VacuumArgs};
pub use self::trust::{EditArgs, InitTrustArgs, TrustCommand};

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
Any PARITY of them may be lost without losing data. The root, writer and collector keys are made under HOME/lakes/LAKE_ID/.

What is overwritten or deleted can be restored while the retention lasts (--retention 90d), and takes up space as long.")]
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
repaired only after it was read back from its region. Ctrl-C ends it with the report of what was looked at; so does a failure. What was found
is kept for --resume every few seconds, and at Ctrl-C.

Exit codes:
  0  every shard and name that was looked at is there and intact, or was repaired
  1  something is missing or damaged
  2  could not be determined: a region is unreachable
  130  stopped by Ctrl-C: what was found by then is shown")]
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
Outside of a lake a purge stays on record and is not recorded as carried out: a bucket may keep versions by itself, which nobody sees here.
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

The files must agree in their columns. Nothing is visible before all of it is: an interrupted import leaves no trace in the table.
Data files that one left behind when it was killed are found by `lakeseal vacuum`.")]
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
sealers, the baseline is in force once enough have countersigned it.

Exit codes:
  0  sealed, or nothing is new
  1  refused: the table is not what was sealed before, or it states of its data what the data contradict. Nothing was sealed
  2  not sealed for another reason: beyond the bounds, not confirmed, a file that cannot be read, no key, unreachable
An audit of a table that nobody has sealed exits with 2, whatever sealing would refuse it for.")]
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
  2  could not be determined: never sealed (what is wrong with such a table, `seal` says), unreachable, no keys")]
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
    /// List data files that no version of a table names, as killed imports leave them; take them away
    #[command(after_help = "\
Examples:
  lakeseal vacuum flights                        list them; nothing is changed
  lakeseal vacuum flights --delete               take them away
  lakeseal vacuum flights --older-than 30d

A file is left over when no commit that the log still has ever named it, when no baseline in force seals it, when no other table of
the lake names it (as shallow clones do), and when it is older than the limit: younger ones may belong to a write that is going on.
What compaction and DELETE removed is named by the log, and stays: older versions need it. Files below hidden folders, and below those
of other tables, are never taken for left over.

With --delete, all baselines of the table must be in force for you. A file that was taken away keeps its bytes while the retention of
the lake lasts: `lakeseal versions PATH` and `lakeseal restore PATH --version VERSION` bring it back until then, and `lakeseal collect`
frees its space afterwards. Tables outside of a lake are listed only: a deletion there is for good, and a listing does not tell what
other engines' writers, catalogs, links and clocks have to do with a file; use the VACUUM of the engine that writes the table. Tables
with a feature that is not known to leave all names of files in the log are refused.")]
    Vacuum(VacuumArgs),
    /// Copy a table's Parquet files into a directory, in their folders
    #[command(after_help = "Example:\n  lakeseal export flights ./flights-copy")]
    Export(ExportArgs),
    /// Show the main job on real flight data, in a temporary directory
    #[command(after_help = "Examples:\n  lakeseal demo\n  lakeseal demo --keep ./lakeseal-demo")]
    Demo(DemoArgs),
}

/// `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Keep the demo's files in this new directory
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}
