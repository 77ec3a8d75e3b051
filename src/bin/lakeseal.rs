//! The `lakeseal` command.

use std::process::ExitCode;

use clap::Parser as _;
use lakeseal::cli::args::Cli;
use lakeseal::cli::{self, Ending, output};
use lakeseal::{Error, ErrorKind};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("LAKESEAL_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    ExitCode::from(match cli::run(cli) {
        Ok(Ending::Done) => 0,
        Ok(Ending::Mismatch) => 1,
        Ok(Ending::Undetermined) => 2,
        Ok(Ending::Unsealed) => 3,
        Ok(Ending::Interrupted) => 130,
        Err(error) => {
            output::report(&error);
            if is_mismatch(&error) { 1 } else { 2 }
        }
    })
}

/// Whether the error, or one that caused it, is that sealed data was changed.
fn is_mismatch(error: &Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if cause.downcast_ref::<Error>().is_some_and(|e| e.kind() == ErrorKind::Mismatch) {
            return true;
        }
        next = cause.source();
    }
    false
}
