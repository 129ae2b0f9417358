//! What is written to the terminal.

use std::io::{Write, stderr, stdout};
use std::time::Duration;

use indicatif::ProgressBar;
use rhumb::plugins::Warning;

use super::error::CliError;

/// Writes to standard output.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|source| CliError::Output { source })
}

/// Tells of what is most likely not meant, on standard error. Where that is closed there is nobody to tell.
pub(super) fn warn(warning: &Warning) {
    let _ = writeln!(stderr(), "warning: {warning}");
}

/// A sign of life on standard error, if that is a terminal.
pub(super) fn progress(message: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(message);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
