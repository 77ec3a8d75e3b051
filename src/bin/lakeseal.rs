//! The `lakeseal` command.

use std::process::ExitCode;

use clap::Parser as _;
use lakeseal::cli::args::Cli;
use lakeseal::cli::{self, Ending, output};
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
            if cli::is_mismatch(&error) { 1 } else { 2 }
        }
    })
}
