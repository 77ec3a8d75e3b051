//! The command line: raw arguments ([`args`]) are resolved ([`home`], …) and run. What a run ended as is returned;
//! exit codes are the binary's business.

pub mod args;
pub mod context;
pub mod home;
pub mod output;
mod pins;
pub mod progress;

mod care;
mod countersign;
mod demo;
mod diff;
mod duration;
mod expectations;
mod integrity;
mod interrupts;
mod keys;
mod lake;
mod lineage;
mod log;
mod membership;
mod purge;
mod report;
mod restore_table;
mod rows;
mod scrub_batches;
mod shell;
mod sql;
mod status;
mod transfer;
mod trust;
mod urls;
mod vacuum;
mod versions;
mod watch;

use std::time::Duration;

use crate::baseline::Outcome;
use crate::error::{Error, ErrorKind, Result};
use args::{Cli, Command};
use context::Context;
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

impl From<Outcome> for Ending {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Intact => Self::Done,
            Outcome::IntactWithUnsealed => Self::Unsealed,
            Outcome::Mismatch => Self::Mismatch,
            Outcome::Undetermined => Self::Undetermined,
        }
    }
}

/// Worker threads poll deeply nested query plans; their stacks are as large as a main thread's.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// How long a command that is done waits for its background work.
const FINISH_TIMEOUT: Duration = Duration::from_secs(20);

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
    let context = Context::new(cli.global)?;
    let mut out = Output::stdout();
    // The shell hears one for each query; an import says what it left behind, and a scrub what it found.
    let hears_itself = match &cli.command {
        Command::Import(_) | Command::Scrub(_) => true,
        Command::Sql(args) => args.query.is_none(),
        _ => false,
    };
    interrupts::watch(!hears_itself);
    let ending = match cli.command {
        // An import says itself what an interrupt left behind.
        Command::Import(args) => transfer::import(args, &context, &mut out).await,
        Command::Scrub(args) => care::scrub(args, &context, &mut out).await,
        // In the shell an interrupt ends the query, not the shell.
        Command::Sql(args) if args.query.is_none() => sql::run(args, &context, &mut out).await,
        command => tokio::select! {
            biased;
            () = interrupts::interrupt() => {
                output::say("interrupted");
                return Ok(Ending::Interrupted);
            }
            ending = execute(command, &context, &mut out) => ending,
        },
    };
    // Everything is acknowledged by now; what is left to do in the background only saves later readers a detour.
    let _ = tokio::time::timeout(FINISH_TIMEOUT, context.finish()).await;
    ending
}

async fn execute(command: Command, context: &Context, out: &mut Output) -> Result<Ending> {
    match command {
        Command::Init(args) => lake::run_init(args, context, out).await,
        Command::Region(command) => lake::region(command, context, out).await,
        Command::Status(args) => status::run(args, context, out).await,
        Command::Scrub(args) => care::scrub(args, context, out).await,
        Command::Collect(args) => care::collect(args, context, out).await,
        Command::Purge(args) => purge::run(args, context, out).await,
        Command::Versions(args) => versions::versions(args, context, out).await,
        Command::Restore(args) => match args.to.clone() {
            Some(to) => restore_table::run(args, &to, context, out).await,
            None => versions::restore(args, context, out).await,
        },
        Command::Keys(command) => keys::run(command, &context.home, out),
        Command::Import(args) => transfer::import(args, context, out).await,
        Command::Tables => lake::tables(context, out).await,
        Command::Sql(args) => sql::run(args, context, out).await,
        Command::Seal(args) => integrity::seal(args, context, out).await,
        Command::Countersign(args) => countersign::run(args, context, out).await,
        Command::Baselines(command) => countersign::baselines(command, context, out).await,
        Command::Trust(command) => trust::run(command, context, out).await,
        Command::Audit(args) => integrity::audit(args, context, out).await,
        Command::Watch(args) => watch::run(args, context, out).await,
        Command::Diff(args) => diff::run(args, context, out).await,
        Command::Log(args) => log::log(args, context, out).await,
        Command::Inventory(command) => log::inventory(command, context, out).await,
        Command::Prove(args) => log::prove(args, context, out).await,
        Command::VerifyProof(args) => log::verify_proof(&args, context, out),
        Command::Lineage(args) => lineage::run(args, context, out).await,
        Command::Vacuum(args) => vacuum::run(args, context, out).await,
        Command::Export(args) => transfer::export(args, context, out).await,
        Command::Demo(args) => demo::run(args.keep, context, out).await.map(|()| Ending::Done),
    }
}

/// What a command that came to `ending` ends as, when `failed` is what it could not do besides. Whatever else fails, a mismatch is told.
fn ended(ending: Ending, failed: Vec<Error>) -> Result<Ending> {
    let mut failed = failed.into_iter();
    let last = failed.next_back();
    failed.for_each(|error| output::report(&error));
    match last {
        Some(error) if ending == Ending::Mismatch => output::report(&error),
        Some(error) => return Err(error),
        None => {}
    }
    Ok(ending)
}

/// Whether `error`, or one that caused it, says that sealed data was changed.
pub fn is_mismatch(error: &Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if cause.downcast_ref::<Error>().is_some_and(|e| e.kind() == ErrorKind::Mismatch) {
            return true;
        }
        next = cause.source();
    }
    false
}
