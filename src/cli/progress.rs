//! Progress bars on standard error; silent when it is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const TICK: Duration = Duration::from_millis(120);

/// A bar over a known number of bytes.
pub fn bytes(label: &str, total: u64) -> ProgressBar {
    styled(ProgressBar::new(total), label, "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left")
}

/// A spinner for work of unknown length.
pub fn spinner(label: &str) -> ProgressBar {
    styled(ProgressBar::new_spinner(), label, "{spinner} {msg} {elapsed}")
}

fn styled(bar: ProgressBar, label: &str, template: &str) -> ProgressBar {
    // indicatif draws nothing by itself when standard error is no terminal.
    bar.set_draw_target(ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(label.to_owned());
    bar.enable_steady_tick(TICK);
    bar
}
