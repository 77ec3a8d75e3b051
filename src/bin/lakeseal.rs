//! The `lakeseal` command.

use std::process::ExitCode;

use clap::Parser as _;
use lakeseal::cli::args::Cli;
use lakeseal::cli::{self, Ending, output};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("LAKESEAL_LOG").unwrap_or_else(|_| EnvFilter::new("off"));
    log_caught_panics();
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

/// Sends panics of worker threads to the log instead of standard error.
///
/// Tasks and decoders run where a panic is caught and becomes an error, which is then reported in full: Parquet decoders
/// panic on some damaged files, and deltalake's writer panics when it gives up an upload that has failed already.
fn log_caught_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() == Some("main") {
            report(panic);
        } else {
            tracing::error!("{panic}");
        }
    }));
}
