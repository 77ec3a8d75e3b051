//! Raw arguments of `trust`, and their help.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::key::Role;

/// `trust …`.
#[derive(Debug, Subcommand)]
pub enum TrustCommand {
    /// Draft the first version of a trust root: who may seal, and how many must agree
    #[command(after_help = "\
Examples:
  lakeseal trust init --name sales --out root-1.json --root me.pem --sealer me.pem --key me.pem       one person
  lakeseal trust init --name sales --out root-1.json --root ann=ann.pub --root bob=bob.pub --root-threshold 2 \\
      --sealer ann=ann.pub --sealer bob=bob.pub --sealer eve=eve.pub --sealer-threshold 2 --writer etl=etl.pub
  lakeseal trust sign root-1.json --key ann.pem          each root key signs
  lakeseal trust use root-1.json                         trust it (each user)

A KEY is a file (public or private; only its public half is taken) or the key's text, with an optional name before `=`.
Roles: root changes this file; sealer signs baselines; writer attests commits; timestamp says what is newest.
One key may hold several roles, and a key counts once however often it signs. The file expires after a year unless told otherwise.")]
    Init(InitTrustArgs),
    /// Show a trust root or a draft, and whether it has the signatures that it needs
    #[command(after_help = "\
Examples:
  lakeseal trust show root-1.json
  lakeseal trust show root-2.json --previous root-1.json --json

Exits with 0 when it has the signatures that it needs, else with 2.")]
    Show {
        /// The file
        file: PathBuf,
        /// The version before it, whose root keys must have signed too
        #[arg(long, value_name = "FILE")]
        previous: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Add a root key's signature to a trust root's file
    #[command(after_help = "\
Examples:
  lakeseal trust sign root-1.json --key ann.pem
  lakeseal trust sign root-2.json --key bob.pem --previous root-1.json

Look at what you sign first: `lakeseal trust show`. A version after the first needs as many root keys of the version before as that one
demands, and as many of its own. Exits with 2 while signatures are missing.")]
    Sign {
        /// The file; the signature is added to it
        file: PathBuf,
        /// Your private key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The version before it
        #[arg(long, value_name = "FILE")]
        previous: Option<PathBuf>,
    },
    /// Draft the next version, with one more key in a role
    #[command(after_help = "Example:\n  lakeseal trust add-key root-1.json --out root-2.json --role sealer dan=dan.pub")]
    AddKey {
        /// What to change
        #[command(flatten)]
        edit: EditArgs,
        /// The role
        #[arg(long)]
        role: Role,
        /// The key: a file or its text, with an optional name before `=`
        key: String,
    },
    /// Draft the next version, without a key in a role
    #[command(after_help = "\
Example:
  lakeseal trust remove-key root-1.json --out root-2.json --role sealer bob

Baselines that only this key signed are in force no longer: have the newest countersigned, or use `revoke --last-good`, which lets the
key's signatures count up to a baseline.")]
    RemoveKey {
        /// What to change
        #[command(flatten)]
        edit: EditArgs,
        /// The role
        #[arg(long)]
        role: Role,
        /// The key: its name in the root, a file, or its text
        key: String,
    },
    /// Draft the next version, in which another number of keys must agree
    #[command(after_help = "\
Example:
  lakeseal trust threshold root-1.json --out root-2.json --role sealer 2

After raising the sealers' threshold, newest baselines have too few signatures until somebody countersigns them. After lowering it,
a proposal that had too few may come into force: look for such with `lakeseal log`. Only root and sealer have thresholds: each key of
writer and timestamp signs alone.")]
    Threshold {
        /// What to change
        #[command(flatten)]
        edit: EditArgs,
        /// The role
        #[arg(long)]
        role: Role,
        /// How many keys must agree
        count: usize,
    },
    /// Draft the next version, with one key in another's place
    #[command(after_help = "Example:\n  lakeseal trust rotate root-1.json --out root-2.json --role root ann ann=ann-2027.pub")]
    Rotate {
        /// What to change
        #[command(flatten)]
        edit: EditArgs,
        /// The role
        #[arg(long)]
        role: Role,
        /// The old key: its name in the root, a file, or its text
        from: String,
        /// The new key: a file or its text, with an optional name before `=`
        to: String,
    },
    /// Draft the next version, which differs in its term only
    #[command(after_help = "Example:\n  lakeseal trust renew root-1.json --out root-2.json --key ann.pem")]
    Renew {
        /// What to change
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Draft the next version, with a key taken out of all roles; its earlier signatures count up to the baselines that you name
    #[command(after_help = "\
Examples:
  lakeseal trust revoke root-1.json --out root-2.json bob --reason 'left' --last-good flights --last-good ./sales
  lakeseal trust revoke root-1.json --out root-2.json bob --reason 'laptop stolen' --last-good flights@41

A revoked key cannot back-date: what counts is not the time that a baseline states but whether the named one descends from it.
Without --last-good none of its signatures counts any more, in any table. TABLE alone means its newest baseline in force.")]
    Revoke {
        /// What to change
        #[command(flatten)]
        edit: EditArgs,
        /// The key: its name in the root, a file, or its text
        key: String,
        /// Why, for people
        #[arg(long)]
        reason: String,
        /// A table and the last baseline up to which the key is believed; repeat for each table
        #[arg(long, value_name = "TABLE[@NUMBER]")]
        last_good: Vec<String>,
    },
    /// Put a trust root beside tables, for those who hold the version before it
    #[command(after_help = "\
Example:
  lakeseal trust publish root-2.json flights ./sales

Audits, queries and seals walk from the version that they hold to the newest that is published, each step signed by old and new.
Sealing publishes the root that it is done under by itself.")]
    Publish {
        /// The file
        file: PathBuf,
        /// The tables
        #[arg(required = true)]
        tables: Vec<String>,
    },
    /// Trust a trust root from now on, in the place of your list of sealers
    #[command(after_help = "\
Examples:
  lakeseal trust use root-1.json
  lakeseal trust use other-root.json --replace

It is kept as HOME/trust-root.json, and moves on by itself to newer versions that are found beside tables. Another one than its successor
is refused without --replace.")]
    Use {
        /// The file
        file: PathBuf,
        /// Trust it although it does not follow the one that you hold
        #[arg(long)]
        replace: bool,
    },
}

/// `trust init`.
#[derive(Debug, Args)]
pub struct InitTrustArgs {
    /// What it is for, in your words
    #[arg(long)]
    pub name: String,
    /// The file to be written
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Keys that may change the trust root
    #[arg(long, value_name = "[NAME=]KEY", required = true)]
    pub root: Vec<String>,
    /// Keys that sign baselines
    #[arg(long, value_name = "[NAME=]KEY", required = true)]
    pub sealer: Vec<String>,
    /// Keys that attest commits; with any, unattested commits are a mismatch
    #[arg(long, value_name = "[NAME=]KEY")]
    pub writer: Vec<String>,
    /// Keys that sign what is newest
    #[arg(long, value_name = "[NAME=]KEY")]
    pub timestamp: Vec<String>,
    /// How many root keys must agree [default: 1]
    #[arg(long, value_name = "N")]
    pub root_threshold: Option<usize>,
    /// How many sealers must agree [default: 1]
    #[arg(long, value_name = "N")]
    pub sealer_threshold: Option<usize>,
    /// Days until it expires; 0 for never
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    pub expires_days: u32,
    /// Private keys that sign it at once; repeat for each
    #[arg(long = "key", value_name = "FILE")]
    pub keys: Vec<PathBuf>,
}

/// What all changes of a trust root take.
#[derive(Debug, Args)]
pub struct EditArgs {
    /// The trust root in force
    #[arg(value_name = "ROOT")]
    pub file: PathBuf,
    /// The draft of the next version: a new file, or an unsigned draft to which this change is added
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Days until the next version expires; 0 for never [default: 365]
    #[arg(long, value_name = "DAYS")]
    pub expires_days: Option<u32>,
    /// Private keys that sign the draft at once; repeat for each
    #[arg(long = "key", value_name = "FILE")]
    pub keys: Vec<PathBuf>,
}
