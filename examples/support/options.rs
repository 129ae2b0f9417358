//! The options of examples.

/// Whether the command line asks for less of everything, by `--quick`.
///
/// # Errors
/// A message if it asks for anything else.
pub(crate) fn quick() -> Result<bool, String> {
    match std::env::args().nth(1).as_deref() {
        None => Ok(false),
        Some("--quick") => Ok(true),
        Some(other) => Err(format!("`{other}` is no option; there is `--quick`")),
    }
}
