//! Ctrl-C, also while a query keeps all threads of the runtime busy: signals are heard on a thread of their own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::output;

/// So long a command has to come to its end by itself.
const GRACE: Duration = Duration::from_secs(3);

/// What a shell makes of a command that SIGINT ended.
const EXIT_CODE: i32 = 130;

/// Whether a command has heard the last Ctrl-C.
static HEARD: AtomicBool = AtomicBool::new(false);

/// Comes back when the user presses Ctrl-C.
pub(super) async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler the signal ends the process, as it always did.
        std::future::pending::<()>().await;
    }
    HEARD.store(true, Ordering::Relaxed);
}

/// Ends the process at the second Ctrl-C that nothing hears; where `gives_up`, already some seconds after the first of all.
pub(super) fn watch(gives_up: bool) {
    let listen = move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let mut unheard = 0_u32;
            while tokio::signal::ctrl_c().await.is_ok() {
                if HEARD.swap(false, Ordering::Relaxed) {
                    unheard = 0;
                }
                unheard += 1;
                if gives_up {
                    tokio::time::sleep(GRACE).await;
                }
                if gives_up || unheard > 1 {
                    output::say("interrupted");
                    std::process::exit(EXIT_CODE);
                }
            }
        });
    };
    // Without the thread, Ctrl-C is heard where a command waits.
    drop(std::thread::Builder::new().name("interrupts".to_owned()).spawn(listen));
}
