//! Runs the repository's own Python scripts, which install what they need; skips loudly when they cannot.

use std::path::Path;
use std::process::Command;

use tokio::sync::Mutex;

/// The scripts' way to say that packages cannot be installed.
const CANNOT_INSTALL: i32 = 77;

/// One script at a time: they share a virtual environment.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Runs `tests/<script>` with `arguments`. `false`, said loudly, when Python or its packages cannot be had.
pub async fn run(test: &str, script: &str, arguments: &[&Path]) -> bool {
    let _alone = ALONE.lock().await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
    let mut command = Command::new("python3");
    command.arg(&path).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            eprintln!("\n!!! SKIPPED {test}: python3 cannot be run: {error}\n");
            return false;
        }
    };
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(CANNOT_INSTALL) {
        eprintln!("\n!!! SKIPPED {test}: {}\n", said.trim());
        return false;
    }
    assert!(output.status.success(), "{script} failed: {said}");
    true
}
