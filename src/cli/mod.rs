//! The command line: raw arguments ([`args`]) are resolved ([`home`], …) and run. What a run ended as is returned;
//! exit codes are the binary's business.

pub mod args;
pub mod home;
pub mod output;
pub mod progress;

mod demo;
mod keys;

use crate::error::{Error, ErrorKind, Result};
use args::{Cli, Command};
use home::Home;
use output::Output;

/// What a command that did its work found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All is well.
    Done,
    /// What is there is not what was sealed, or a region does not keep its promises.
    Mismatch,
    /// It could not be determined.
    Undetermined,
    /// Intact, with later commits that no baseline covers.
    Unsealed,
    /// Stopped by the user.
    Interrupted,
}

/// Worker threads poll deeply nested query plans; their stacks are as large as a main thread's.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// Runs a command to its end.
///
/// # Errors
/// Whatever kept the command from doing its work, for [`output::report`].
pub fn run(cli: Cli) -> Result<Ending> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .build()
        .map_err(|e| Error::new(ErrorKind::Io, "threads could not be started").caused_by(e))?;
    let ending = runtime.block_on(dispatch(cli));
    // Requests that were abandoned by an interrupt must not hold up the end.
    runtime.shutdown_background();
    ending
}

async fn dispatch(cli: Cli) -> Result<Ending> {
    let home = Home::resolve(cli.global.home.clone())?;
    let mut out = Output::stdout();
    match cli.command {
        Command::Keys(command) => keys::run(command, &home, &mut out),
        _ => Err(Error::new(ErrorKind::Unsupported, "not built yet")),
    }
}
