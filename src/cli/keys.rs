//! `keys`.

use super::Ending;
use super::args::KeysCommand;
use super::home::Home;
use super::output::Output;
use crate::error::Result;
use crate::key::{Role, public_path};

pub(super) fn run(command: KeysCommand, home: &Home, out: &mut Output) -> Result<Ending> {
    let KeysCommand::New { role, out: path } = command;
    let (path, key) = home.new_key(role, path)?;
    out.line(format_args!("{role} key   {key}"))?;
    out.line(format_args!("private      {}   (keep it to yourself, and out of the lake)", path.display()))?;
    out.line(format_args!("public       {}", public_path(&path).display()))?;
    if role == Role::Sealer {
        out.line(format_args!("trusted in   {}   (by you; audits say `trust: self`)", home.trusted_sealers().display()))?;
    }
    Ok(Ending::Done)
}
