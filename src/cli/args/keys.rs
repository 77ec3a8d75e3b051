//! Arguments of `keys`.

use std::path::PathBuf;

use clap::Subcommand;

use crate::key::{Role, Scheme};

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
