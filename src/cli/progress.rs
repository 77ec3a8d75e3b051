//! Progress bars on standard error; silent when it is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

use crate::baseline::Progress;

const TICK: Duration = Duration::from_millis(120);

/// A bar over a known number of bytes.
pub fn bytes(label: &str, total: u64) -> ProgressBar {
    styled(ProgressBar::new(total), label, "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left")
}

/// A bar over a number of rows.
pub fn rows(label: &str, total: u64) -> ProgressBar {
    styled(ProgressBar::new(total), label, "{msg} [{bar:30}] {human_pos}/{human_len} rows, {eta} left")
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

/// One bar for sealing or auditing.
#[derive(Default)]
pub struct Bars(Mutex<Option<ProgressBar>>);

impl Progress for Bars {
    fn begin(&self, what: &str, _files: u64, total: u64) {
        if let Some(before) = self.0.lock().replace(bytes(what, total)) {
            before.finish_and_clear();
        }
    }

    fn bytes(&self, count: u64) {
        if let Some(bar) = &*self.0.lock() {
            bar.inc(count);
        }
    }

    fn end(&self) {
        if let Some(bar) = self.0.lock().take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        // An error or an interrupt must not leave half a bar on the screen.
        self.end();
    }
}
